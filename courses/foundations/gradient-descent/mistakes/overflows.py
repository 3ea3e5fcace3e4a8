# fails: test-cross-entropy
# ko: 지수를 그대로 구해서, 점수가 크면 넘쳐요.
# en: Takes the exponential as it is, which overflows for large scores.

# %% id="cross-entropy"
def cross_entropy(weights, table, labels):
    chances = np.exp(table @ weights)
    chances /= chances.sum(axis=1, keepdims=True)
    return -np.mean(np.log(chances[np.arange(len(labels)), labels]))


def cross_entropy_gradient(weights, table, labels):
    chances = np.exp(table @ weights)
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(len(labels)), labels] -= 1
    return table.T @ chances / len(table)
