# fails: test-nearest
# ko: 점마다 중심을 고르지 않고 중심마다 점을 골랐어요. 축이 바뀌었어요.
# en: Chooses a point for each centre instead of a centre for each point: the wrong axis.

# %% id="nearest"
def nearest(points, centres):
    return pairwise_distance(points, centres).argmin(axis=0)
