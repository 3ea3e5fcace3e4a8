# fails: test-confusion
# ko: 같은 칸이 여러 번 나와도 한 번만 더해져요.
# en: A place that comes several times is counted only once.

# %% id="confusion"
def confusion(actual, predicted, classes):
    matrix = np.zeros((classes, classes), dtype=int)
    matrix[actual, predicted] += 1
    return matrix
