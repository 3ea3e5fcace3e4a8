# fails: test-split
# ko: 섞기는 했지만 정답의 비율을 맞추지 않아요.
# en: Shuffles, but does not keep the shares of the answers.

# %% id="split"
def split(labels, fraction, seed):
    rows = np.random.default_rng(seed).permutation(len(labels))
    count = round(fraction * len(labels))
    return rows[count:], rows[:count]
