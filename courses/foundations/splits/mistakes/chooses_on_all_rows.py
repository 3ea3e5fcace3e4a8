# fails: test-honest
# ko: 열을 고를 때 테스트 행과 그 정답까지 봐요.
# en: Looks at the test rows and their answers when it chooses the columns.

# %% id="predict-honestly"
def predict_honestly(table, labels, train, test, k):
    table = table[:, best_columns(table, labels, k)]
    scaler = fit_scaler(table[train])
    return neighbours(apply_scaler(scaler, table[train]), labels[train], apply_scaler(scaler, table[test]))
