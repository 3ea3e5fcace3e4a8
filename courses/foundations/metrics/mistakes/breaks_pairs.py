# fails: test-bootstrap
# ko: 정답과 예측을 서로 다른 행에서 뽑아 짝이 어긋나요.
# en: Draws actual and predicted answers from different rows.

# %% id="bootstrap"
def bootstrap(actual, predicted, score, rounds, seed):
    generator = np.random.default_rng(seed)
    n = len(actual)
    scores = [score(generator.choice(actual, n), generator.choice(predicted, n)) for _ in range(rounds)]
    return tuple(np.quantile(scores, [0.025, 0.975]))
