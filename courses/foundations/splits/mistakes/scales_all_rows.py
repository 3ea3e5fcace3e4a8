# fails: test-honest
# ko: 표준화를 테스트 행까지 포함한 전체 행으로 맞춰요.
# en: Fits the scaler on all rows, those of the test set among them.

# %% id="predict-honestly"
def predict_honestly(table, labels, train, test, k):
    table = table[:, best_columns(table[train], labels[train], k)]
    table = apply_scaler(fit_scaler(table), table)
    return neighbours(table[train], labels[train], table[test])
