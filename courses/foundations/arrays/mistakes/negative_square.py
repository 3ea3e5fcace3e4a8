# fails: test-distance-edges
# ko: 반올림으로 음수가 된 제곱의 제곱근을 구해 NaN이 생겨요.
# en: Takes the square root of a square that rounding made negative.

# %% id="pairwise-distance"
def pairwise_distance(points, centres):
    squares = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None, :] - 2 * points @ centres.T
    return np.sqrt(squares)
