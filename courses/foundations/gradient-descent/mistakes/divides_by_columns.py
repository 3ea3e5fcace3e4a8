# fails: test-gradient
# ko: 행의 수가 아니라 가중치의 수로 나눠요.
# en: Divides by the number of weights instead of the number of rows.

# %% id="gradient"
def gradient(weights, table, target):
    return 2 * table.T @ (table @ weights - target) / len(weights)
