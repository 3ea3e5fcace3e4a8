# fails: test-typical
# ko: 중앙값 대신 평균을 써서, 튀는 값 하나에 끌려 올라가요.
# en: Takes the mean instead of the median, so that one jump drags it up.

# %% id="typical"
def typical(times):
    low, high = np.quantile(times, [0.25, 0.75])
    return float(np.mean(times)), float(low), float(high)
