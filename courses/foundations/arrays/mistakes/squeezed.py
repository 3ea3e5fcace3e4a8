# fails: test-distance-edges
# ko: squeeze로 길이가 1인 축까지 없애 버려요.
# en: Squeezes away an axis of length 1.

# %% id="pairwise-distance"
def pairwise_distance(points, centres):
    return np.sqrt(((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=-1)).squeeze()
