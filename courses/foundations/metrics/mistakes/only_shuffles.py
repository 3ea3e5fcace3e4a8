# fails: test-bootstrap
# ko: 복원추출이 아니라 순서만 섞어서, 점수가 늘 같아요.
# en: Only shuffles the rows instead of drawing with replacement, so the score is always the same.

# %% id="bootstrap"
def bootstrap(actual, predicted, score, rounds, seed):
    generator = np.random.default_rng(seed)
    scores = []
    for _ in range(rounds):
        rows = generator.permutation(len(actual))
        scores.append(score(actual[rows], predicted[rows]))
    return tuple(np.quantile(scores, [0.025, 0.975]))
