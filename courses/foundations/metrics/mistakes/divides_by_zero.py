# fails: test-f1
# ko: 한 번도 나오지 않은 품종에서 0으로 나눠 NaN이 생겨요.
# en: Divides by zero where a class never occurs, which gives a NaN.

# %% id="f1"
def precision_recall_f1(matrix):
    precision = matrix.diagonal() / matrix.sum(axis=0)
    recall = matrix.diagonal() / matrix.sum(axis=1)
    return precision, recall, 2 * precision * recall / (precision + recall)
