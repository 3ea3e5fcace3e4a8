# fails: test-difference
# ko: 두 모델을 서로 다른 행으로 채점해서 구간이 쓸데없이 넓어요.
# en: Scores the two models on different rows, which makes the interval wider than need be.

# %% id="bootstrap-difference"
def bootstrap_difference(actual, first, second, score, rounds, seed):
    generator = np.random.default_rng(seed)
    differences = []
    for _ in range(rounds):
        mine, other = generator.integers(0, len(actual), (2, len(actual)))
        differences.append(score(actual[mine], second[mine]) - score(actual[other], first[other]))
    return tuple(np.quantile(differences, [0.025, 0.975]))
