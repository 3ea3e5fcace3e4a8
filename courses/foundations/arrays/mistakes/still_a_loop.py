# fails: test-speed
# ko: 답은 맞지만 파이썬 반복문이 그대로 남아 있어요.
# en: Right, but still a Python loop.

# %% id="pairwise-distance"
def pairwise_distance(points, centres):
    return np.array([[np.sqrt(((p - c) ** 2).sum()) for c in centres] for p in points])
