# fails: test-calibration
# ko: 통에 든 확신도의 평균이 아니라 통의 가운데 값과 견줘요.
# en: Compares with the middle of the bin instead of the mean confidence in it.

# %% id="calibration-error"
def calibration_error(confidence, correct, bins):
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for i in np.unique(bin_of):
        inside = bin_of == i
        total += inside.mean() * abs(correct[inside].mean() - (i + 0.5) / bins)
    return total
