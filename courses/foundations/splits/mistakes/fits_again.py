# fails: test-scaler
# ko: 기억한 값을 쓰지 않고 새로 온 표에서 평균과 표준편차를 다시 구해요.
# en: Computes mean and deviation anew from whatever table it is given.

# %% id="scaler"
def fit_scaler(train):
    return train.mean(axis=0), train.std(axis=0)


def apply_scaler(scaler, table):
    spread = table.std(axis=0)
    return (table - table.mean(axis=0)) / np.where(spread == 0, 1, spread)
