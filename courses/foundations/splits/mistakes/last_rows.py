# fails: test-split
# ko: 정답마다 뒤쪽 행을 떼기만 하고 섞지 않아요.
# en: Cuts off the last rows of each answer without shuffling.

# %% id="split"
def split(labels, fraction, seed):
    test = []
    for value in np.unique(labels):
        rows = np.flatnonzero(labels == value)
        test.extend(rows[len(rows) - round(fraction * len(rows)) :])
    return np.setdiff1d(np.arange(len(labels)), test), np.array(test, dtype=int)
