# fails: test-fit
# ko: 학습률을 0.1로 정해 두어서, 서로 닮은 열이 많으면 발산해요.
# en: Fixes the rate at 0.1, which diverges when many columns are alike.

# %% id="fit"
def fit(table, target, steps):
    mean, spread = table.mean(axis=0), table.std(axis=0)
    spread = np.where(spread == 0, 1.0, spread)
    scaled = with_ones((table - mean) / spread)
    path = descend(lambda point: gradient(point, scaled, target), np.zeros(scaled.shape[1]), 0.1, steps)
    weights = path[-1][1:] / spread
    return weights, path[-1][0] - mean @ weights
