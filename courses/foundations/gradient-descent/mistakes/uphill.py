# fails: test-gradient
# ko: 오차를 정답에서 예측을 뺀 값으로 써서 기울기의 부호가 반대예요.
# en: Takes the error as answer minus prediction, so that the gradient points uphill.

# %% id="gradient"
def gradient(weights, table, target):
    return 2 * table.T @ (target - table @ weights) / len(table)
