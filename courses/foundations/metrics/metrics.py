# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="5f0c5cf96df7"
# # 1.5 평가지표와 불확실성
#
# **이 단원을 마치면** 정확도가 숨기는 것을 혼동 행렬과 F1으로 드러낼 수 있어요. 점수에 *오차 범위*를 붙이고, 두 모델의 차이가 실력인지
# 운인지 가리고, 모델의 "90% 확실해요"를 얼마나 믿어도 되는지 잴 수 있어요.
#
# **왜 중요할까요?** 하루 10만 건의 결제 가운데 1,000건이 사기라고 해 봐요. "모두 정상"이라고만 답하는 프로그램의 정확도는 99%지만,
# 사기는 한 건도 못 잡아요. 시험 100건에서 95건을 맞히던 모델을 96건 맞히는 모델로 바꿨다면, 정말 나아진 걸까요, 그 한 건은 운이었을까요?
# 모델이 90% 확실하다고 하면 사람의 확인을 생략해도 될까요? 이 질문에 숫자로 답하지 못하는 서비스는 나아지지도 않은 모델로 갈아타느라
# 돈을 쓰고, 잘못된 판정을 뒷수습하느라 더 큰 돈을 써요.
#
# **걸리는 시간** 3시간 · **먼저 알아야 할 것** 1.2 데이터 분할과 누수(훈련과 테스트, 정확도, 기준선, 교차 검증)

# %% [markdown] id="title" lang="en"
# # 1.5 Metrics and uncertainty
#
# **After this unit** you can bring to light what accuracy hides, with the confusion matrix and F1; put a *margin of error* on a
# score; tell whether the difference of two models is skill or luck; and measure how far to trust a model that says "I am 90%
# sure".
#
# **Why it matters.** Say 1,000 of a day's 100,000 payments are fraud. A program that always answers "fine" is 99% accurate and
# catches none of them. If a model that was right on 95 of 100 test cases is replaced by one that is right on 96, is it better, or
# was that one case luck? When a model says it is 90% sure, can the check by a person be left out? A service that cannot answer
# in figures pays for moving to models that are no better, and pays more for clearing up after wrong decisions.
#
# **Time** 3 hours · **Before you start** 1.2 Splits, leakage, baselines (training and test, accuracy, baseline, cross-validation)

# %% id="setup" kind="locked"
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from grading.checks import hint, submission, when_solved

# %% [markdown] id="data" lang="ko" reviewed="208791bcd1f9"
# ## 데이터와 모델
#
# 이탈리아의 한 지방에서 난 포도주 178병이에요(1991년 공개, scikit-learn에 들어 있어요). 포도의 **품종은 세 가지**(0, 1, 2)이고, 열 13개는
# 알코올, 사과산, 마그네슘처럼 성분을 분석한 값이에요. 성분만 보고 품종을 맞히는 서비스를 만든다고 해 봐요.
#
# 이 단원의 주인공도 모델이 아니라 **점수**예요. 그래서 모델은 scikit-learn의 *로지스틱 회귀*를 가져다 써요. 이 모델은 품종마다 **확률**을
# 내놓고, 확률이 가장 큰 품종을 답으로 골라요. `out_of_fold`는 1.2에서 이야기한 교차 검증이에요. 표를 열 조각으로 나눠서, 조각마다 **나머지 아홉
# 조각으로 배운 모델**이 예측해요. 표준화도 그 아홉 조각으로만 맞춰요. 그래서 178병 모두에 대해 "처음 보는 병"의 예측을 얻어요.

# %% [markdown] id="data" lang="en"
# ## Data and model
#
# 178 bottles of wine from one region of Italy (published in 1991, bundled with scikit-learn). There are **three cultivars** of
# grapes (0, 1, 2); the 13 columns are a chemical analysis: alcohol, malic acid, magnesium and so on. Imagine a service that
# tells the cultivar by the analysis alone.
#
# The hero of this unit too is not the model but its **score**, so we take scikit-learn's *logistic regression*. It gives a
# **probability** for each cultivar and answers with the likeliest. `out_of_fold` is the cross-validation that 1.2 spoke of: the
# table is cut into ten parts, and each part is predicted by **a model that learned from the other nine**; the scaler, too, sees
# those nine only. So every one of the 178 bottles gets a prediction as if it were seen for the first time.

# %% id="data-code" kind="locked"
bunch = load_wine()
wines, cultivar = bunch.data, bunch.target


def out_of_fold(table, labels, model=None):
    steps = make_pipeline(StandardScaler(), model or LogisticRegression())
    folds = KFold(10, shuffle=True, random_state=0)
    return cross_val_predict(steps, table, labels, cv=folds, method="predict_proba")


def accuracy(actual, predicted):
    return float(np.mean(np.asarray(actual) == np.asarray(predicted)))


def points(share):
    return f"{100 * share:.1f}"


probabilities = out_of_fold(wines[:, :5], cultivar)
predicted = probabilities.argmax(axis=1)
print(wines.shape, np.bincount(cultivar), bunch.feature_names[:5])
print(probabilities[:3].round(2), predicted[:3], cultivar[:3])
print(f"{accuracy(cultivar, predicted):.3f}")

# %% [markdown] id="rare" lang="ko" reviewed="57ef593c75ba"
# ### 드문 것을 찾을 때
#
# 이번에는 일부러 2번 품종을 6병만 남겨 볼게요. 136병 가운데 6병, 곧 4.4%예요. **2번 품종인지 아닌지**만 답하는 서비스를 세 가지로 만들어
# 정확도를 견줘 봐요. 성분 5개만 보는 모델, 13개를 다 보는 모델, 그리고 보지도 않고 "아니요"라고만 하는 기준선이에요.

# %% [markdown] id="rare" lang="en"
# ### Looking for what is rare
#
# Now keep only 6 bottles of cultivar 2, on purpose: 6 of 136, or 4.4%. Make three services that answer **"is it cultivar 2?"**
# and compare their accuracy: a model that sees 5 columns, one that sees all 13, and a baseline that says "no" without looking.

# %% id="rare-code"
kept = np.concatenate([np.flatnonzero(cultivar < 2), np.flatnonzero(cultivar == 2)[:6]])
is_rare = (cultivar[kept] == 2).astype(int)
answers = {
    "rare-no": np.zeros(len(kept), dtype=int),
    "rare-five": out_of_fold(wines[kept, :5], is_rare).argmax(axis=1),
    "rare-all": out_of_fold(wines[kept], is_rare).argmax(axis=1),
}
for key, answer in answers.items():
    print(hint(key, percent=points(accuracy(is_rare, answer))))

# %% [markdown] id="rare-after" lang="ko" reviewed="da2f9dabaf22"
# 성분 5개짜리 모델은 기준선과 점수가 **똑같고**, 13개짜리도 겨우 3점쯤 높아요. 그런데 6병 가운데 몇 병을 찾았을까요? 정확도만 봐서는 알 수
# 없어요. 맞힌 것과 틀린 것을 **어떻게** 맞히고 틀렸는지 나눠서 세어야 해요.

# %% [markdown] id="rare-after" lang="en"
# The model with 5 columns has **exactly** the baseline's score, and the one with 13 is only some 3 points above. But how many of
# the 6 bottles did each find? Accuracy cannot tell. We have to count **in which way** answers were right and wrong.

# %% [markdown] id="example-confusion" lang="ko" reviewed="6a80a1d3fedf"
# ## 따라 해 보기: 혼동 행렬
#
# **혼동 행렬**은 행이 정답, 열이 예측인 표예요. `[i, j]` 칸에는 정답이 `i`인데 `j`라고 답한 개수를 적어요. 대각선에 있으면 맞힌 거예요.
# 아래의 작은 예에서 정답과 예측을 한 쌍씩 손으로 세어, 3행 3열 표를 종이에 먼저 그려 보세요.

# %% [markdown] id="example-confusion" lang="en"
# ## A worked example: the confusion matrix
#
# The **confusion matrix** is a table whose rows are the actual answers and whose columns are the predicted ones: place `[i, j]`
# counts how often `i` was called `j`. What stands on the diagonal is right. Count the pairs of the small example below by hand
# and draw the table of 3 rows and 3 columns on paper before you read on.

# %% id="example-confusion-code"
actual = np.array([0, 0, 0, 1, 1, 2, 2])
answered = np.array([0, 0, 1, 1, 1, 1, 2])
for pair in zip(actual.tolist(), answered.tolist()):
    print(pair, end=" ")
by_hand = np.array([[2, 1, 0], [0, 2, 0], [0, 1, 1]])
print()
print(by_hand)
print(by_hand.diagonal(), by_hand.sum(axis=1), by_hand.sum(axis=0))

# %% [markdown] id="example-confusion-after" lang="ko" reviewed="0ce4a7d52fc1"
# 마지막 줄은 왼쪽부터 맞힌 개수(대각선), 행의 합, 열의 합이에요. 행의 합은 **정답이 그 품종인 병의 수**, 열의 합은 **그 품종이라고 답한
# 횟수**예요. 이 세 가지만 있으면 이 단원의 지표를 모두 계산할 수 있어요.

# %% [markdown] id="example-confusion-after" lang="en"
# The last line shows what is right (the diagonal), the sums of the rows and the sums of the columns. A row's sum is **how many
# bottles are of that cultivar**, a column's sum **how often that cultivar was the answer**. These three are all that this
# unit's metrics need.

# %% [markdown] id="task-confusion" lang="ko" reviewed="bb7029e0928d"
# ## 과제 1. 혼동 행렬 (쉬움)
#
# `confusion(actual, predicted, classes)`를 완성하세요.
#
# - `actual`, `predicted`: 모양 `(n,)`인 정수 배열. 값은 0부터 `classes - 1`까지예요. `n`은 0일 수도 있어요.
# - 돌려주는 값: 모양 `(classes, classes)`인 정수 배열. `[i, j]`는 정답이 `i`이고 예측이 `j`인 개수예요.
# - 데이터에 한 번도 나오지 않은 품종이 있어도 그 행과 열은 0으로 남아 있어야 해요. 반복문을 써도 좋아요.

# %% [markdown] id="task-confusion" lang="en"
# ## Task 1. The confusion matrix (easy)
#
# Complete `confusion(actual, predicted, classes)`.
#
# - `actual`, `predicted`: arrays of integers from 0 to `classes - 1`, shape `(n,)`; `n` may be 0.
# - Returns: an array of integers of shape `(classes, classes)`; `[i, j]` counts where the actual answer is `i` and the predicted
#   one `j`.
# - A class that never occurs keeps its row and its column of zeros. You may use a loop.

# %% id="confusion" kind="solution"
def confusion(actual, predicted, classes):
    ### BEGIN SOLUTION
    matrix = np.zeros((classes, classes), dtype=int)
    for i, j in zip(actual, predicted):
        matrix[i, j] += 1
    return matrix
    ### END SOLUTION

# %% id="test-confusion" kind="test" points=2
matrix = np.asarray(submission.confusion(actual, answered, 3))
assert matrix.shape == (3, 3), hint("confusion-shape")
assert matrix.dtype.kind in "iu", hint("confusion-integers")
assert matrix.sum() == len(actual), hint("confusion-all", found=matrix.sum(), n=len(actual))
assert not (matrix == by_hand.T).all(), hint("confusion-rows")
np.testing.assert_array_equal(matrix, by_hand, err_msg=hint("confusion-value"))
### BEGIN HIDDEN TESTS
from sklearn.metrics import confusion_matrix

generator = np.random.default_rng()
for classes, n in [(2, 1), (2, 2000), (3, 200), (7, 40), (20, 500)]:
    drawn, guessed = generator.integers(0, classes, (2, n))
    matrix = np.asarray(submission.confusion(drawn, guessed, classes))
    expected = confusion_matrix(drawn, guessed, labels=range(classes))
    assert matrix.shape == (classes, classes), hint("confusion-shape")
    np.testing.assert_array_equal(matrix, expected, err_msg=hint("confusion-value"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
matrix = np.asarray(submission.confusion(np.array([3, 1, 3]), np.array([1, 1, 3]), 6))
expected = np.zeros((6, 6), dtype=int)
expected[3, 1] = expected[1, 1] = expected[3, 3] = 1
assert matrix.shape == (6, 6), hint("confusion-absent")
np.testing.assert_array_equal(matrix, expected, err_msg=hint("confusion-absent"))
nothing = np.array([], dtype=int)
matrix = np.asarray(submission.confusion(nothing, nothing, 4))
assert matrix.shape == (4, 4) and not matrix.any(), hint("confusion-nothing")
assert matrix.dtype.kind in "iu", hint("confusion-integers")
### END HIDDEN TESTS

# %% [markdown] id="f1-text" lang="ko" reviewed="da6031d8230f"
# ## 정밀도, 재현율, F1
#
# 품종 하나를 골라 두 가지를 물어봐요.
#
# - **재현율**(recall): 진짜 2번 품종 가운데 몇 %를 찾아냈나? 놓친 것을 나무라는 점수예요.
# - **정밀도**(precision): 2번 품종이라고 답한 것 가운데 몇 %가 진짜인가? 헛짚은 것을 나무라는 점수예요.
#
# 모두 "2번이요!"라고 답하면 재현율은 100%지만 정밀도가 바닥이에요. 가장 확실한 한 병만 답하면 그 반대고요. **F1**은 둘의 *조화평균*이라서 **한쪽만
# 낮아도 낮아요.**
#
# $$\text{F1}=\frac{2\times\text{정밀도}\times\text{재현율}}{\text{정밀도}+\text{재현율}}$$
#
# 90병과 10병 가운데 10병 쪽을 찾는 예로 계산해 볼게요. 둘째 줄은 100병 모두 "그쪽이요!"라고 답한 경우예요. 산술평균과 F1이 얼마나 다른지
# 보세요.

# %% [markdown] id="f1-text" lang="en"
# ## Precision, recall, F1
#
# Choose one cultivar and ask two questions.
#
# - **Recall**: what share of the real bottles of cultivar 2 was found? It blames for what was missed.
# - **Precision**: what share of the answers "cultivar 2" is right? It blames for false alarms.
#
# Always answer "2!" and recall is 100%, but precision is at the bottom. Name only the one bottle that is surest and it is the
# other way round. **F1** is their *harmonic mean*: **it is low when either of them is.**
#
# $$\text{F1}=\frac{2\times\text{precision}\times\text{recall}}{\text{precision}+\text{recall}}$$
#
# Let us compute it for 90 bottles and 10, where the 10 are to be found. In the second line all 100 bottles were called one of
# the 10. See how the plain mean and F1 differ.

# %% id="f1-example"
for matrix in (np.array([[88, 2], [4, 6]]), np.array([[0, 90], [0, 10]])):
    found, asked, said = matrix[1, 1], matrix[1].sum(), matrix[:, 1].sum()
    precision, recall = found / said, found / asked
    mean, f1 = (precision + recall) / 2, 2 * precision * recall / (precision + recall)
    values = {"precision": precision, "recall": recall, "mean": mean, "f1": f1}
    rounded = {name: f"{value:.2f}" for name, value in values.items()}
    print(matrix.tolist(), hint("f1-example", **rounded))

# %% [markdown] id="task-f1" lang="ko" reviewed="6180ac6bba58"
# ## 과제 2. 품종마다의 점수 (보통)
#
# `precision_recall_f1(matrix)`를 완성하세요.
#
# - `matrix`: 모양 `(k, k)`인 혼동 행렬
# - 돌려주는 값: `(정밀도, 재현율, F1)`. 각각 모양 `(k,)`인 배열이에요.
# - **0으로 나누게 되는 값은 0으로** 해요. 한 번도 답하지 않은 품종의 정밀도, 정답에 한 번도 없는 품종의 재현율, 정밀도와 재현율이 모두 0인
#   품종의 F1이 그래요. NaN이나 경고가 나오면 안 돼요.
#
# `np.divide(a, b, out=np.zeros(...), where=b > 0)`은 `b`가 0인 칸을 나누지 않고 건너뛰어요.

# %% [markdown] id="task-f1" lang="en"
# ## Task 2. A score for each cultivar (medium)
#
# Complete `precision_recall_f1(matrix)`.
#
# - `matrix`: a confusion matrix of shape `(k, k)`
# - Returns: `(precision, recall, F1)`, each an array of shape `(k,)`
# - **What would be a division by zero is 0**: the precision of a class that was never the answer, the recall of a class that
#   does not occur, the F1 of a class whose precision and recall are both 0. No NaN, no warning.
#
# `np.divide(a, b, out=np.zeros(...), where=b > 0)` skips the places where `b` is 0.

# %% id="f1" kind="solution"
def precision_recall_f1(matrix):
    ### BEGIN SOLUTION
    matrix = np.asarray(matrix, dtype=float)
    found, asked, said = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    shares = [(found, said), (found, asked), (2 * found, said + asked)]
    return tuple(np.divide(a, b, out=np.zeros(len(a)), where=b > 0) for a, b in shares)
    ### END SOLUTION

# %% id="f1-check" kind="locked"
def assert_scores(result, expected, key, **values):
    assert len(result) == 3, hint("f1-three")
    for name, one, other in zip(("precision", "recall", "F1"), result, expected):
        assert np.shape(one) == np.shape(other), hint("f1-shape", name=name)
        assert np.isfinite(one).all(), hint("f1-zero", name=name)
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=hint(key, name=name, **values))


def warnings_of(matrix):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        precision_recall_f1(matrix)
    return len(caught)

# %% id="test-f1" kind="test" points=3
result = submission.precision_recall_f1(by_hand)
assert len(result) == 3, hint("f1-three")
assert not np.allclose(result[0], [2 / 3, 1, 1 / 2]), hint("f1-swapped")
assert_scores(result, [[1, 1 / 2, 1], [2 / 3, 1, 1 / 2], [4 / 5, 2 / 3, 2 / 3]], "f1-value")
### BEGIN HIDDEN TESTS
from sklearn.metrics import precision_recall_fscore_support

generator = np.random.default_rng()
for classes, n in [(2, 30), (3, 100), (5, 1000), (9, 60)]:
    drawn, guessed = generator.integers(0, classes, (2, n))
    guessed = np.where(generator.random(n) < 0.6, drawn, guessed)
    matrix = np.bincount(classes * drawn + guessed, minlength=classes**2).reshape(classes, classes)
    expected = precision_recall_fscore_support(
        drawn, guessed, labels=range(classes), zero_division=0
    )[:3]
    result = submission.precision_recall_f1(matrix)
    assert_scores(result, expected, "f1-sklearn", classes=classes)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
absent = np.array([[5, 0, 2, 0], [3, 0, 0, 0], [1, 0, 4, 0], [0, 0, 0, 0]])
precision, recall, f1 = [5 / 9, 0, 2 / 3, 0], [5 / 7, 0, 4 / 5, 0], [5 / 8, 0, 8 / 11, 0]
nothing = np.zeros((3, 3), dtype=int)
for matrix, expected in [
    (absent, [precision, recall, f1]),
    (absent.T, [recall, precision, f1]),
    (nothing, nothing),
    (np.array([[0, 3], [2, 0]]), np.zeros((3, 2))),
]:
    assert_scores(submission.precision_recall_f1(matrix), expected, "f1-empty")
    assert submission.warnings_of(matrix) == 0, hint("f1-warning")
poor = np.array([[1, 8], [6, 1]])
expected = [[1 / 7, 1 / 9], [1 / 9, 1 / 7], [1 / 8, 1 / 8]]
assert_scores(submission.precision_recall_f1(poor), expected, "f1-value")
large = np.array([[40_000_000, 10], [30, 60]])
expected = [[4e7 / (4e7 + 30), 6 / 7], [4e7 / (4e7 + 10), 2 / 3], [8e7 / (8e7 + 40), 3 / 4]]
assert_scores(submission.precision_recall_f1(large), expected, "f1-value")
### END HIDDEN TESTS

# %% [markdown] id="rare-again" lang="ko" reviewed="39030e39b257"
# ### 다시 보는 드문 품종
#
# 아까의 세 서비스를 여러분의 함수로 다시 채점해 봐요. 정확도는 3점 차이였지만, 찾아낸 병은 몇 병인가요?

# %% [markdown] id="rare-again" lang="en"
# ### The rare cultivar once more
#
# Grade the three services again, with your own functions. Their accuracies were 3 points apart. How many bottles did each find?

# %% id="rare-again-code" kind="demo"
def macro_f1(actual, predicted):
    return float(np.mean(precision_recall_f1(confusion(actual, predicted, 3))[2]))


with when_solved():
    for key, answer in answers.items():
        matrix = confusion(is_rare, answer, 2)
        precision, recall, f1 = (scores[1] for scores in precision_recall_f1(matrix))
        print(hint(key, percent=points(accuracy(is_rare, answer))))
        values = {"precision": precision, "recall": recall, "f1": f1}
        rounded = {name: f"{value:.2f}" for name, value in values.items()}
        print(hint("rare-found", found=matrix[1, 1], **rounded))

# %% [markdown] id="rare-again-after" lang="ko" reviewed="d24c65d6a5f5"
# 쓸모없는 모델과 쓸 만한 모델이 정확도로는 거의 구별되지 않았어요. 품종이 셋인 원래 문제에서는 세 품종의 F1을 평균한 **매크로 F1**을 써요.
# 드문 품종도 흔한 품종과 똑같이 한 표씩 갖는 점수예요. 어떤 지표가 맞는지는 수학이 아니라 **틀렸을 때 무엇을 잃는지**가 정해요.

# %% [markdown] id="rare-again-after" lang="en"
# Accuracy could hardly tell a useless model from a useful one. For the full problem of three cultivars we use **macro F1**, the
# mean of their three F1 scores, in which a rare cultivar has as much of a vote as a common one. Which metric is right is not
# decided by mathematics but by **what is lost when the answer is wrong**.

# %% [markdown] id="predict" lang="ko" reviewed="7753df5a3403"
# ## 먼저 예상해 보세요
#
# 성분 5개를 보는 모델은 178병 가운데 86%를 맞혔어요. 그런데 이 178병은 세상의 수많은 포도주 가운데 **어쩌다 뽑힌** 병들이에요. 다른
# 178병이었다면 점수도 달랐겠죠. 점수를 "86% ± 몇 점"이라고 쓸 때, 스무 번에 열아홉 번(95%)은 맞는 말이 되게 하려면 **몇 점**이라고 써야 할까요?
# 실행하기 전에 `margin_guess`에 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# The model with 5 columns was right on 86% of 178 bottles. But those 178 **happened to be drawn** from all the wines of the
# world. Another 178 would have given another score. If you write "86% plus or minus some points" and want it to be
# trusted 95% of the time, **how many points** is that? Write it into `margin_guess` before you run on. It is not graded.

# %% id="guess"
margin_guess = 1

# %% [markdown] id="example-bootstrap" lang="ko" reviewed="7507fe63535b"
# ## 따라 해 보기: 가진 것으로 다시 뽑기
#
# 새 포도주를 178병씩 수천 번 사 올 수 있다면, 그때마다 점수를 내서 얼마나 흔들리는지 보면 돼요. 그럴 돈은 없으니, **가진 178병을 온 세상이라고
# 치고** 거기서 178병을 다시 뽑아요. 뽑은 병을 도로 넣고 다음 병을 뽑으니까(*복원추출*) 어떤 병은 두세 번 뽑히고 어떤 병은 빠져요. 이것이
# 1979년에 에프론이 내놓은 **부트스트랩**이에요. 열 문제 가운데 여덟 문제를 맞힌 작은 예로 볼게요.

# %% [markdown] id="example-bootstrap" lang="en"
# ## A worked example: draw again from what you have
#
# If we could buy 178 new bottles thousands of times, we would score each lot and look at how the scores vary. There is no money
# for that, so **take the 178 bottles for the whole world** and draw 178 from them again. Each bottle goes back before the next
# is drawn (*with replacement*), so some come two or three times and some not at all. That is the **bootstrap**, which Efron
# proposed in 1979. Here it is for a small exam with eight right answers of ten.

# %% id="example-bootstrap-code"
right = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1, 1])
generator = np.random.default_rng(3)
for _ in range(4):
    rows = generator.integers(0, len(right), len(right))
    print(rows, right[rows], right[rows].mean())
many = [right[generator.integers(0, 10, 10)].mean() for _ in range(1000)]
print(np.quantile(many, [0.025, 0.975]))

# %% [markdown] id="example-bootstrap-after" lang="ko" reviewed="084ec3e4707d"
# 줄마다 뽑은 행 번호, 그 행의 맞음(1)과 틀림(0), 그때의 점수예요. 1,000번 뽑은 점수를 줄 세워 **아래 2.5%와 위 2.5%를 잘라 내면** 마지막 줄의 95%
# 구간이 나와요. 열 문제로는 실력을 이만큼밖에 모른다는 뜻이에요. `np.quantile(values, [0.025, 0.975])`이 자르는 일을 해 줘요.

# %% [markdown] id="example-bootstrap-after" lang="en"
# Each line shows the rows that were drawn, whether they are right (1) or wrong (0), and the score. Sort 1,000 such scores, **cut
# off the lowest and the highest 2.5%**, and what is left is the 95% interval of the last line: that is how little ten
# questions tell about skill. `np.quantile(values, [0.025, 0.975])` finds the places to cut.

# %% [markdown] id="task-bootstrap" lang="ko" reviewed="e37d3243bc31"
# ## 과제 3. 부트스트랩 구간 (보통)
#
# 정확도든 F1이든 **어떤 점수에나** 쓸 수 있는 `bootstrap(actual, predicted, score, rounds, seed)`를 완성하세요.
#
# - `actual`, `predicted`: 모양 `(n,)`인 배열. `n`은 1 이상이에요.
# - `score`: `score(actual, predicted)`로 부르면 점수 하나를 주는 함수
# - `rounds`번 되풀이해요. 매번 행 `n`개를 **복원추출**로 뽑고, 정답과 예측을 **같은 행끼리** 골라 `score`를 한 번 불러요. 모두 합쳐 꼭
#   `rounds`번 부르게 돼요.
# - 돌려주는 값: `(아래, 위)`. 그 점수들의 2.5% 자리와 97.5% 자리예요.
# - 같은 `seed`면 같은 결과가, 다른 `seed`면 다르게 뽑은 결과가 나와야 해요. 뽑히는 확률은 모든 행이 같아요.

# %% [markdown] id="task-bootstrap" lang="en"
# ## Task 3. The bootstrap interval (medium)
#
# Complete `bootstrap(actual, predicted, score, rounds, seed)`, which works for **any score**, be it accuracy or F1.
#
# - `actual`, `predicted`: arrays of shape `(n,)`; `n` is at least 1.
# - `score`: a function; `score(actual, predicted)` gives one number.
# - Repeat `rounds` times: draw `n` rows **with replacement**, take actual and predicted answers **of the same rows**, and call
#   `score` once. That makes exactly `rounds` calls.
# - Returns: `(low, high)`, the places 2.5% and 97.5% of those scores.
# - The same `seed` gives the same result, another seed other draws. All rows have the same chance.

# %% id="bootstrap" kind="solution"
def bootstrap(actual, predicted, score, rounds, seed):
    ### BEGIN SOLUTION
    generator = np.random.default_rng(seed)
    scores = []
    for _ in range(rounds):
        rows = generator.integers(0, len(actual), len(actual))
        scores.append(score(actual[rows], predicted[rows]))
    low, high = np.quantile(scores, [0.025, 0.975])
    return low, high
    ### END SOLUTION

# %% id="watch" kind="locked"
class Watched:
    def __init__(self, measure=accuracy):
        self.measure, self.calls, self.scores = measure, [], []

    def score(self, actual, predicted):
        self.calls.append((np.array(actual), np.array(predicted)))
        self.scores.append(float(self.measure(*self.calls[-1])))
        return self.scores[-1]


def by_luck(actual, predicted):
    return np.random.default_rng().exponential() * (predicted[0] - actual[0])


def assert_middle(interval, scores):
    assert len(interval) == 2, hint("interval-two")
    low, high = interval
    assert low <= high, hint("interval-order")
    below, above = (np.array(scores) < low - 1e-9).mean(), (np.array(scores) > high + 1e-9).mean()
    text = hint("interval-share", below=points(below), above=points(above))
    assert max(below, above) < 0.0325 and min(below, above) > 0.0175, text

# %% id="test-bootstrap" kind="test" points=4
numbers = np.arange(30)
watched = Watched(by_luck)
interval = submission.bootstrap(numbers, numbers + 100, watched.score, 400, 0)
assert len(watched.calls) == 400, hint("bootstrap-calls", calls=len(watched.calls))
for drawn, paired in watched.calls:
    assert drawn.shape == paired.shape == (30,), hint("bootstrap-size")
    assert np.array_equal(paired, drawn + 100), hint("bootstrap-pairs")
assert all(len(np.unique(drawn)) < 30 for drawn, _ in watched.calls), hint("bootstrap-replacement")
assert_middle(interval, watched.scores)
### BEGIN HIDDEN TESTS
rows = np.concatenate([drawn for drawn, _ in watched.calls])
often = np.bincount(rows, minlength=30)
assert len(often) == 30 and often.min() > 300 and often.max() < 500, hint("bootstrap-chances")
different = np.mean([len(np.unique(drawn)) for drawn, _ in watched.calls])
assert 18 < different < 20.5, hint("bootstrap-replacement")
assert len({drawn.tobytes() for drawn, _ in watched.calls}) == 400, hint("bootstrap-rounds")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
labels = generator.integers(0, 3, 400)
guessed = np.where(generator.random(400) < 0.85, labels, (labels + 1) % 3)
share = accuracy(labels, guessed)
seed = int(generator.integers(1000))
low, high = submission.bootstrap(labels, guessed, Watched().score, 1000, seed)
expected = 1.96 * np.sqrt(share * (1 - share) / 400)
assert abs((high - low) / 2 / expected - 1) < 0.25, hint("bootstrap-width")
assert abs((high + low) / 2 - share) < expected / 2, hint("bootstrap-width")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
first, again, other = (Watched() for _ in range(3))
one = submission.bootstrap(labels, guessed, first.score, 50, 0)
two = submission.bootstrap(labels, guessed, again.score, 50, 0)
submission.bootstrap(labels, guessed, other.score, 50, 1)
assert tuple(one) == tuple(two) and first.scores == again.scores, hint("bootstrap-seed")
assert first.scores != other.scores, hint("bootstrap-other-seed")
drawn, others = ({rows.tobytes() for rows, _ in watch.calls} for watch in (first, other))
assert not drawn & others, hint("bootstrap-overlap")
alone = submission.bootstrap(np.array([2]), np.array([2]), Watched().score, 10, 0)
np.testing.assert_allclose(tuple(alone), [1, 1], err_msg=hint("bootstrap-one-row"))
pair, watched = np.array([0, 1]), Watched()
submission.bootstrap(pair, pair, watched.score, 80, seed)
assert len(watched.calls) == 80, hint("bootstrap-calls", calls=len(watched.calls))
assert all(drawn.shape == (2,) for drawn, _ in watched.calls), hint("bootstrap-size")
both = sum(len(np.unique(drawn)) == 2 for drawn, _ in watched.calls)
assert 18 < both < 62, hint("bootstrap-few", both=both)
many, watched = np.arange(20_000), Watched(by_luck)
low, high = submission.bootstrap(many, many + 1, watched.score, 20, seed)
assert all(drawn.shape == (20_000,) for drawn, _ in watched.calls), hint("bootstrap-size")
ordered = sorted(watched.scores)
ends = ordered[0] <= low <= ordered[1] and ordered[-2] <= high <= ordered[-1]
assert ends, hint("interval-few")
### END HIDDEN TESTS

# %% [markdown] id="interval" lang="ko" reviewed="5cc25673349a"
# ### 이제 재 봅시다
#
# 여러분의 부트스트랩으로 포도주 모델의 정확도와 매크로 F1에 오차 범위를 붙여요. 예상과 얼마나 다른가요?

# %% [markdown] id="interval" lang="en"
# ### Now measure
#
# With your bootstrap, put margins on the accuracy and on the macro F1 of the wine model. How far off was your guess?

# %% id="interval-code" kind="demo"
with when_solved():
    for key, score in [("interval-accuracy", accuracy), ("interval-f1", macro_f1)]:
        low, high = bootstrap(cultivar, predicted, score, 1000, 0)
        value = score(cultivar, predicted)
        print(hint(key, value=points(value), low=points(low), high=points(high)))
    low, high = bootstrap(cultivar, predicted, accuracy, 1000, 0)
    print(hint("guess-said", guess=margin_guess, margin=f"{50 * (high - low):.1f}"))

# %% [markdown] id="paired" lang="ko" reviewed="12b8a007df39"
# ## 어느 쪽이 더 나을까
#
# 성분 3개를 보는 모델에 성분을 하나 더 보여 줬더니 점수가 올랐어요. 성분을 하나 더 분석하려면 병마다 돈이 들어요. 정말 나아진 걸까요?
#
# 두 모델의 구간을 **따로** 구해서 겹치는지 보는 것은 손해예요. 두 모델은 **같은 병**으로 시험을 봤으니까요. 어려운 병은 둘 다 틀리고 쉬운 병은
# 둘 다 맞혀요. 병이 쉽게 뽑혔는지 어렵게 뽑혔는지는 양쪽에 똑같이 작용하니, **같은 행을 뽑아 차이를 내면** 그 운이 서로 지워져요. 이것을
# **짝지은**(paired) 비교라고 해요.

# %% [markdown] id="paired" lang="en"
# ## Which one is better?
#
# A model that sees 3 columns was shown one more, and its score rose. Each further analysis costs money for every bottle. Is it
# really better?
#
# Making **separate** intervals of the two and looking whether they overlap throws something away: both took the exam with **the
# same bottles**. Hard bottles are missed by both and easy ones found by both. Whether easy or hard bottles were drawn acts on both
# alike, so **draw the same rows for both and take the difference**: that luck cancels. This is a **paired** comparison.

# %% [markdown] id="task-difference" lang="ko" reviewed="e39197cd0e2a"
# ## 과제 4. 두 모델의 차이 (어려움)
#
# `bootstrap_difference(actual, first, second, score, rounds, seed)`를 완성하세요.
#
# - `first`, `second`: 두 모델의 예측. 모양은 `actual`과 같아요.
# - 매번 행을 한 번만 뽑아서 **두 모델을 같은 행으로** 채점하고, `second`의 점수에서 `first`의 점수를 빼요.
# - 돌려주는 값: 그 차이들의 2.5%와 97.5% 자리 `(아래, 위)`. `score`는 모두 합쳐 꼭 `2 * rounds`번 불러요.
# - 나머지 약속은 과제 3과 같아요.

# %% [markdown] id="task-difference" lang="en"
# ## Task 4. The difference of two models (hard)
#
# Complete `bootstrap_difference(actual, first, second, score, rounds, seed)`.
#
# - `first`, `second`: the predictions of two models, shaped like `actual`.
# - Each time draw the rows once, score **both models on the same rows**, and subtract the score of `first` from that of `second`.
# - Returns: `(low, high)`, the places 2.5% and 97.5% of those differences. `score` is called exactly `2 * rounds` times.
# - All else as in task 3.

# %% id="bootstrap-difference" kind="solution"
def bootstrap_difference(actual, first, second, score, rounds, seed):
    ### BEGIN SOLUTION
    def difference(actual, predicted):
        return score(actual, predicted[:, 1]) - score(actual, predicted[:, 0])

    return bootstrap(actual, np.stack([first, second], axis=1), difference, rounds, seed)
    ### END SOLUTION

# %% id="test-difference" kind="test" points=3
labels = np.array([0, 1, 2, 1] * 25)
worse = np.where(np.arange(100) % 5 == 0, (labels + 1) % 3, labels)
low, high = submission.bootstrap_difference(labels, worse, labels, Watched().score, 200, 0)
assert not high < 0, hint("difference-sign")
assert 0.05 < low < 0.2 < high < 0.4, hint("difference-value")
low, high = submission.bootstrap_difference(labels, worse, worse, Watched().score, 100, 0)
assert low == high == 0, hint("difference-same")
### BEGIN HIDDEN TESTS
numbers = np.arange(40)
watched = Watched(by_luck)
first, second = numbers + 100, numbers + 500
interval = submission.bootstrap_difference(numbers, first, second, watched.score, 400, 3)
assert len(watched.calls) == 800, hint("difference-calls", calls=len(watched.calls))
scored = {100: {}, 500: {}}
for (drawn, paired), value in zip(watched.calls, watched.scores):
    assert drawn.shape == paired.shape == (40,), hint("bootstrap-size")
    shift = int(paired[0] - drawn[0])
    assert shift in scored and np.array_equal(paired, drawn + shift), hint("bootstrap-pairs")
    scored[shift][drawn.tobytes()] = value
assert scored[100].keys() == scored[500].keys(), hint("difference-same")
assert len(scored[100]) == 400, hint("bootstrap-rounds")
rows = [drawn for drawn, _ in watched.calls]
assert all(len(np.unique(drawn)) < 40 for drawn in rows), hint("bootstrap-replacement")
assert 24 < np.mean([len(np.unique(drawn)) for drawn in rows]) < 27, hint("bootstrap-replacement")
often = np.bincount(np.concatenate(rows), minlength=40)
assert often.min() > 600 and often.max() < 1000, hint("bootstrap-chances")
assert_middle(interval, [scored[500][rows] - scored[100][rows] for rows in scored[100]])
watched = Watched()
submission.bootstrap_difference(labels, worse, worse, watched.score, 30, 1)
assert len(watched.calls) == 60, hint("difference-equal", calls=len(watched.calls))
low, high = submission.bootstrap_difference(labels, labels, worse, Watched().score, 200, 0)
assert -0.4 < low < -0.2 < high < -0.05, hint("difference-worse")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
labels = generator.integers(0, 4, 500)
first = np.where(generator.random(500) < 0.8, labels, (labels + 1) % 4)
second = np.where(generator.random(500) < 0.1, labels, first)
seed = int(generator.integers(1000))
low, high = submission.bootstrap_difference(labels, first, second, Watched().score, 600, seed)
expected = 1.96 * np.std((second == labels).astype(float) - (first == labels)) / np.sqrt(500)
assert abs((high - low) / 2 / expected - 1) < 0.35, hint("difference-width")
one = tuple(submission.bootstrap_difference(labels, first, second, Watched().score, 40, 0))
two = tuple(submission.bootstrap_difference(labels, first, second, Watched().score, 40, 0))
assert one == two, hint("bootstrap-seed")
watches = [Watched(), Watched()]
for seed, watch in zip((0, 1), watches):
    submission.bootstrap_difference(labels, first, second, watch.score, 20, seed)
assert watches[0].scores != watches[1].scores, hint("bootstrap-other-seed")
drawn, others = ({rows.tobytes() for rows, _ in watch.calls} for watch in watches)
assert not drawn & others, hint("bootstrap-overlap")
### END HIDDEN TESTS

# %% id="difference-code" kind="demo"
with when_solved():
    three, four = (out_of_fold(wines[:, :columns], cultivar).argmax(axis=1) for columns in (3, 4))
    for key, answer in [("three", three), ("four", four)]:
        low, high = bootstrap(cultivar, answer, accuracy, 1000, 0)
        value = accuracy(cultivar, answer)
        print(hint(key, value=points(value), low=points(low), high=points(high)))
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(cultivar), (2, 1000, len(cultivar)))
    apart = (four == cultivar)[drawn[0]].mean(axis=1) - (three == cultivar)[drawn[1]].mean(axis=1)
    together = bootstrap_difference(cultivar, three, four, accuracy, 1000, 0)
    for key, (low, high) in [("apart", np.quantile(apart, [0.025, 0.975])), ("together", together)]:
        print(hint(key, low=f"{100 * low:+.1f}", high=f"{100 * high:+.1f}"))

# %% [markdown] id="difference-after" lang="ko" reviewed="0441b70ca6ba"
# 같은 예측, 같은 178병인데 결론이 달라요. 따로 뽑으면 차이의 구간에 0이 들어 있어서 "모르겠다"가 답이고, 짝지어 뽑으면 0이 빠져서 "나아졌다"가
# 답이에요. **차이의 구간에 0이 들어 있으면, 더 나은 모델이라고 말하면 안 돼요.** 갈아타는 데 드는 돈을 쓸 근거가 아직 없는 거예요.

# %% [markdown] id="difference-after" lang="en"
# The same predictions, the same 178 bottles, another conclusion. Drawn apart, the interval of the difference holds 0 and the
# answer is "we do not know"; drawn together it does not, and the answer is "it is better". **As long as the interval of the
# difference holds 0, do not call a model better**: there are no grounds yet for the cost of changing.

# %% [markdown] id="limit" lang="ko" reviewed="3afc6bec0f8d"
# ## 넘을 수 없는 한계와 비교하기
#
# 오차 범위를 줄이고 싶으면 어떻게 할까요? 더 좋은 공식이 있을까요? 서로 독립인 맞음과 틀림 $n$개로 정확도 $p$를 추정할 때, 표준편차가
#
# $$\sqrt{\frac{p\,(1-p)}{n}}$$
#
# 보다 작은 (치우치지 않은) 방법은 **없다는 것이 증명되어 있어요**(크라메르-라오 하한). 그래서 95% 구간의 반너비는 이것의 1.96배쯤이 한계예요.
# 여러분의 부트스트랩이 그 한계에 얼마나 가까운지 그려 보고, **1점을 더 알아내는 값**을 매겨 볼게요. 정답을 다는 사람에게 드는 돈
# `won_per_label`은 예로 든 숫자이니 바꿔 보세요.

# %% [markdown] id="limit" lang="en"
# ## Against a limit that nobody can pass
#
# How can the margin be made smaller? Is there a better formula? For estimating an accuracy $p$ from $n$ independent rights and
# wrongs, it is **proved that no (unbiased) method** has a standard deviation below
#
# $$\sqrt{\frac{p\,(1-p)}{n}}$$
#
# (the Cramér-Rao bound). About 1.96 times that is the limit for half the width of a 95% interval. Let us draw how close your
# bootstrap comes to it, and put **a price on knowing one point more**. What a person who labels is paid, `won_per_label`, is an
# example: change it.

# %% id="plot" kind="demo"
def exam(n, p, seed):
    right = np.random.default_rng(seed).random(n) < p
    return np.ones(n, dtype=int), right.astype(int)


won_per_label = 500

with when_solved():
    sizes, p = [25, 100, 400, 1600, 6400], 0.9
    margins = []
    for n in sizes:
        intervals = [bootstrap(*exam(n, p, seed), accuracy, 300, seed) for seed in range(12)]
        margins.append(50 * np.mean([high - low for low, high in intervals]))
    limit = 196 * np.sqrt(p * (1 - p) / np.array(sizes))
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.loglog(sizes, margins, "o-", label=hint("plot-bootstrap"))
    axes.loglog(sizes, limit, "k--", label=hint("plot-limit"))
    axes.set(xlabel=hint("plot-n"), ylabel=hint("plot-margin"))
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.set_yticks([0.5, 1, 2, 5, 10])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend()
    plt.show()
    print(hint("achieved", ratio=f"{margins[-1] / limit[-1]:.2f}", n=f"{sizes[-1]:,}"))
    for margin in (4, 2, 1):
        labels_needed = round(p * (1 - p) * (196 / margin) ** 2)
        won = labels_needed * won_per_label
        print(hint("labels", margin=margin, n=f"{labels_needed:,}", won=f"{won:,}"))

# %% [markdown] id="limit-after" lang="ko" reviewed="cb8781974cf3"
# 로그 눈금에서 직선이고, 기울기는 -1/2이에요. 행을 **네 배**로 늘려야 오차 범위가 **절반**이 돼요. 오차 범위를 줄이는 데는 공식보다 데이터가, 곧
# 돈이 필요해요. 점이 한계선보다 살짝 **아래**에 있다면 이긴 게 아니에요. 행이 적을 때 부트스트랩은 구간을 실제보다 좁게 내거든요. 얼마나
# 심한지는 "이 방법들이 지는 곳"에서 재 볼게요.
#
# 그러니 실험을 시작하기 전에 물어보세요. 우리가 알고 싶은 차이는 몇 점이고, 그것을 알아낼 만큼 테스트 행이 있나요?

# %% [markdown] id="limit-after" lang="en"
# On logarithmic axes it is a straight line with slope -1/2: **four times** the rows for **half** the margin. A smaller margin
# takes data, that is money, rather than a formula. A dot slightly **below** the limit is no victory: with few rows the bootstrap makes its
# intervals too narrow. How much so is measured under "Where these methods lose".
#
# So ask before an experiment starts: how many points is the difference we want to see, and are there test rows enough to see it?

# %% [markdown] id="calibration" lang="ko" reviewed="4b126c0945df"
# ## "90% 확실해요"를 믿어도 될까
#
# 모델이 답과 함께 내놓는 가장 큰 확률을 **확신도**라고 부를게요. 확신도가 90%쯤인 답을 모아서 세어 봤더니 정말 90%쯤이 맞았다면, 그 모델은
# **보정이 잘된**(calibrated) 모델이에요. 일기예보에서 "비 올 확률 70%"라고 한 날의 70%에 비가 오면 믿을 만한 예보인 것과 같아요.
#
# 얼마나 어긋났는지 재는 흔한 방법은 확신도를 구간(통, bin)으로 나누는 거예요. 통마다 **정확도와 평균 확신도의 차이**를 구하고, 통에 든 행의
# 비율로 무게를 달아 더해요. 이것을 **기대 보정 오차**(ECE)라고 해요.
#
# $$\text{ECE}=\sum_{b}\frac{n_b}{n}\,\left|\,\text{정확도}_b-\text{평균 확신도}_b\,\right|$$
#
# 예를 들어 확신도 0.9, 0.8, 0.6인 답 셋이 맞음, 틀림, 맞음이고 통이 2개라면, 셋 다 둘째 통(0.5 이상)에 들어요. 정확도는 2/3, 평균 확신도는
# 2.3/3이니 ECE는 0.1이에요.

# %% [markdown] id="calibration" lang="en"
# ## Can "90% sure" be trusted?
#
# Call the largest probability, which the model gives along with its answer, its **confidence**. Collect the answers with a
# confidence of about 90%: if about 90% of them are right, the model is well **calibrated**, just as a weather forecast is
# reliable when it rains on 70% of the days with "70% chance of rain".
#
# A usual way to measure how far it is off is to divide confidences into intervals (bins). Take **the difference of accuracy and
# mean confidence** in each bin, and add them up, weighted by the share of rows in the bin: the **expected calibration error**
# (ECE).
#
# $$\text{ECE}=\sum_{b}\frac{n_b}{n}\,\left|\,\text{accuracy}_b-\text{mean confidence}_b\,\right|$$
#
# For example, three answers with confidence 0.9, 0.8, 0.6 are right, wrong, right; with 2 bins all three are in the second (0.5
# and above). Its accuracy is 2/3 and its mean confidence 2.3/3, so the ECE is 0.1.

# %% [markdown] id="task-calibration" lang="ko" reviewed="66bf69e66869"
# ## 과제 5. 보정 오차 (보통)
#
# `calibration_error(confidence, correct, bins)`를 완성하세요.
#
# - `confidence`: 모양 `(n,)`, 0 이상 1 이하. `correct`: 모양 `(n,)`, 맞았으면 1(또는 `True`), 틀렸으면 0(또는 `False`). `n`은 1 이상이에요.
# - `bins`: 통의 수. 너비는 모두 같아요. `i`번째 통에는 `i / bins` 이상 `(i + 1) / bins` 미만이 들어가고, **1은 마지막 통**에 들어가요.
# - 돌려주는 값: ECE. 빈 통은 더하지 않아요.

# %% [markdown] id="task-calibration" lang="en"
# ## Task 5. The calibration error (medium)
#
# Complete `calibration_error(confidence, correct, bins)`.
#
# - `confidence`: shape `(n,)`, from 0 to 1. `correct`: shape `(n,)`, 1 (or `True`) where right, 0 (or `False`) where wrong. `n` is
#   at least 1.
# - `bins`: how many bins of equal width. Bin `i` holds what is at least `i / bins` and less than `(i + 1) / bins`; **1 belongs to
#   the last bin**.
# - Returns: the ECE. Empty bins add nothing.

# %% id="calibration-error" kind="solution"
def calibration_error(confidence, correct, bins):
    ### BEGIN SOLUTION
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for i in range(bins):
        inside = bin_of == i
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total
    ### END SOLUTION

# %% id="test-calibration" kind="test" points=3
def assert_error(confidence, correct, bins, expected, text):
    found = submission.calibration_error(np.array(confidence), np.array(correct), bins)
    assert np.ndim(found) == 0, hint("ece-number")
    assert np.isfinite(found), hint("ece-empty")
    np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=text)


assert_error([0.9, 0.8, 0.6], [1, 0, 1], 2, 0.1, hint("ece-value"))
weighted = 0.25 * 0.45 + 0.75 * (0.95 - 2 / 3)
assert_error([0.55, 0.95, 0.95, 0.95], [1, 1, 1, 0], 10, weighted, hint("ece-weights"))
assert_error([0.7, 0.7, 0.3, 0.3], [1, 1, 0, 0], 2, 0.3, hint("ece-cancels"))
### BEGIN HIDDEN TESTS
from sklearn.calibration import calibration_curve

generator = np.random.default_rng()
for n, bins in [(400, 10), (60, 15), (30, 4), (1000, 7), (200, 50)]:
    confidence = generator.beta(4, 1.5, n)
    correct = (generator.random(n) < 0.75).astype(int)
    shares, means = calibration_curve(correct, confidence, n_bins=bins)
    counts, _ = np.histogram(confidence, bins=bins, range=(0, 1))
    expected = np.sum(counts[counts > 0] / n * np.abs(shares - means))
    assert_error(confidence, correct, bins, expected, hint("ece-sklearn", n=n, bins=bins))
    assert_error(confidence, correct.astype(bool), bins, expected, hint("ece-bool"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
assert_error([1.0, 1.0, 0.9375], [1, 0, 1], 4, (2.9375 - 2) / 3, hint("ece-one"))
assert_error([1.0], [0], 10, 1.0, hint("ece-one"))
assert_error([0.0, 0.125], [1, 0], 4, (1 - 0.125) / 2, hint("ece-boundary"))
assert_error([0.5, 0.4375], [1, 1], 2, (0.5 + 0.5625) / 2, hint("ece-boundary"))
apart = (0.75 + 0.1875 + 0.25 + 0.6875) / 4
assert_error([0.25, 0.1875, 0.75, 0.6875], [1, 0, 1, 0], 4, apart, hint("ece-boundary"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
order = generator.permutation(200)
confidence, correct = generator.random(200), generator.integers(0, 2, 200)
found = submission.calibration_error(confidence, correct, 8)
again = submission.calibration_error(confidence[order], correct[order], 8)
np.testing.assert_allclose(found, again, atol=1e-6, err_msg=hint("ece-order"))
assert_error(confidence, correct, 1, abs(correct.mean() - confidence.mean()), hint("ece-one-bin"))
### END HIDDEN TESTS

# %% [markdown] id="reliability" lang="ko" reviewed="b0393e96c9f9"
# ### 같은 실력, 다른 확신
#
# 두 모델을 견줘 볼게요. 하나는 지금까지 쓴 로지스틱 회귀예요. 다른 하나는 *나이브 베이즈*인데, **같은 성분을 단위만 바꿔 네 번** 적어 놓은
# 표를 봐요. 회사의 표에 흔히 있는 일이에요. 나이브 베이즈는 열마다 서로 독립인 증인이라고 믿어서, 한 사람의 말을 네 사람의 증언으로 여겨요.
#
# 왼쪽은 확신도와 정확도를 그린 **신뢰도 다이어그램**(reliability diagram)이에요. 완벽하게 보정된 모델은 **대각선** 위에 있어요. 점의 크기는 통에 든 행의 수예요. 오른쪽은
# 돈이에요. 확신도가 문턱값 이상이면 자동으로 처리하고 아니면 사람이 봐요. 사람이 보면 `review`원, 자동으로 틀리면 `mistake`원이 들어요.

# %% [markdown] id="reliability" lang="en"
# ### Equal skill, other confidence
#
# Let us compare two models. One is the logistic regression that we have used so far. The other is *naive Bayes*, and its table
# has **each column four times, in other units**, as happens in the tables of companies. Naive Bayes takes each column for an
# independent witness, so that one person's word counts as the testimony of four.
#
# Left: the **reliability diagram** of accuracy by confidence. A perfectly calibrated model lies on the **diagonal**. The size of
# a dot is the number of rows in its bin. Right: money. From some threshold of confidence on, answers are handled automatically;
# others go to a person. A person's look costs `review` won, an automatic mistake `mistake` won.

# %% id="reliability-code" kind="demo"
def cost_per_item(confidence, correct, threshold, review, mistake):
    return np.where(confidence >= threshold, np.where(correct, 0, mistake), review).mean()


def draw_bins(axes, confidence, correct, bins, label):
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    used = np.unique(bin_of)
    means = [confidence[bin_of == i].mean() for i in used]
    shares = [correct[bin_of == i].mean() for i in used]
    counts = np.bincount(bin_of)[used]
    line = axes.plot(means, shares, "-", label=label)[0]
    axes.scatter(means, shares, s=3 * counts, color=line.get_color(), alpha=0.8)


review, mistake = 1000, 5000
in_four_units = np.concatenate([wines[:, :5] * unit for unit in (1, 10, 100, 1000)], axis=1)
models = {
    "logistic": out_of_fold(wines[:, :5], cultivar),
    "bayes": out_of_fold(in_four_units, cultivar, GaussianNB()),
}
with when_solved():
    figure, (left, right_side) = plt.subplots(1, 2, figsize=(11, 4.5))
    thresholds, best = np.linspace(0.3, 1, 141), 1 - review / mistake
    for name, given in models.items():
        confidence, correct = given.max(axis=1), given.argmax(axis=1) == cultivar
        error = points(calibration_error(confidence, correct, 5))
        sure = points(confidence.mean())
        key = f"model-{name}"
        print(hint(key, accuracy=points(correct.mean()), confidence=sure, error=error))
        alone = confidence >= best
        said, was = (f"{1000 * (1 - part[alone].mean()):.0f}" for part in (confidence, correct))
        print(hint("promised", said=said, was=was))
        label = hint(f"plot-{name}", error=error)
        draw_bins(left, confidence, correct, 5, label)
        costs = [cost_per_item(confidence, correct, t, review, mistake) for t in thresholds]
        right_side.plot(thresholds, costs, label=label)
    left.plot([0, 1], [0, 1], "k--", label=hint("plot-perfect"))
    left.set(xlabel=hint("plot-confidence"), ylabel=hint("plot-accuracy"))
    left.set(xlim=(0.3, 1.03), ylim=(-0.05, 1.3), yticks=np.linspace(0, 1, 6))
    right_side.axvline(best, color="k", linestyle="--", label=hint("plot-best", best=f"{best:.2f}"))
    right_side.set(xlabel=hint("plot-threshold"), ylabel=hint("plot-cost"))
    for axes in (left, right_side):
        axes.legend(fontsize=9)
        axes.grid(alpha=0.3)
    plt.show()

# %% [markdown] id="reliability-after" lang="ko" reviewed="6ab98fa5a8a5"
# 정확도는 비슷한데 확신은 딴판이에요. 나이브 베이즈는 틀릴 때도 확신에 차 있어요. 이것을 **과신**이라고 해요. 보정된 모델이라면 문턱값은
# **계산으로** 정할 수 있어요. 확신도가 $c$인 답을 자동으로 처리하면 평균 $(1-c)\times$`mistake`원을 잃으니, 이것이 `review`원보다 크지 않을 때, 곧
# $c\ge 1-$`review`$/$`mistake`일 때만 자동으로 처리하면 돼요.
# 과신하는 모델에 이 문턱값을 쓰면 예고한 것보다 훨씬 많이 틀려요. 위에 찍힌 "1,000건에 몇 건" 두 숫자를 견줘 보세요. 오른쪽
# 그림에서 가장 싼 문턱값도 계산한 자리와는 다른 곳에 있어요.

# %% [markdown] id="reliability-after" lang="en"
# Their accuracies are alike and their confidences are not: naive Bayes is sure even when it is wrong (**overconfident**). For a
# calibrated model the threshold follows **by arithmetic**: handling an answer of confidence $c$ automatically loses
# $(1-c)\times$`mistake` won on average, so do it only where that is no more than `review` won, that is for
# $c\ge 1-$`review`$/$`mistake`. With an overconfident model that same
# threshold makes far more mistakes than were foretold: compare the two figures "of 1,000" above. And in the picture on the right
# its cheapest threshold is not where arithmetic puts it.

# %% [markdown] id="loses" lang="ko" reviewed="044be4657b25"
# ## 이 방법들이 지는 곳
#
# **부트스트랩은 행이 적고 점수가 1에 가까우면 져요.** 정확도가 정말로 97%인 서비스를 만들어 놓고, 행을 뽑아 구간을 구하는 일을 여러 번 되풀이해
# 봐요. 95% 구간이라면 100번 가운데 95번은 참값 97%를 품어야 해요. 정말 그런지 세어 볼게요.
#
# **보정 오차는 행이 적으면 부풀어요.** 완벽하게 보정된 가짜 모델을 만들어 ECE를 재 봐요. 참값은 0이에요.

# %% [markdown] id="loses" lang="en"
# ## Where these methods lose
#
# **The bootstrap loses with few rows and scores near 1.** We build a service whose accuracy really is 97%, draw rows, make the
# interval, and repeat. A 95% interval should hold the true 97% in 95 of 100 cases. Let us count.
#
# **The calibration error swells with few rows.** We build a perfectly calibrated make-believe model and measure its ECE. The
# truth is 0.

# %% id="loses-code" kind="demo"
with when_solved():
    for n in (20, 60, 200, 600):
        intervals = [bootstrap(*exam(n, 0.97, seed), accuracy, 200, seed) for seed in range(150)]
        held = np.mean([low <= 0.97 <= high for low, high in intervals])
        print(hint("coverage", n=f"{n:4}", percent=f"{100 * held:3.0f}"))
    low, high = bootstrap(*exam(20, 1.0, 0), accuracy, 200, 0)
    percent = f"{100 * 0.05 ** (1 / 20):.0f}"
    print(hint("no-mistake", low=f"{100 * low:.0f}", high=f"{100 * high:.0f}", percent=percent))
    generator = np.random.default_rng(0)
    for n in (50, 200, 1000, 10_000):
        errors = []
        for _ in range(50):
            confidence = generator.uniform(0.4, 1, n)
            correct = (generator.random(n) < confidence).astype(int)
            errors.append(calibration_error(confidence, correct, 5))
        print(hint("swollen", n=f"{n:6,}", error=f"{100 * np.mean(errors):.1f}"))

# %% [markdown] id="loses-after" lang="ko" reviewed="e00619446740"
# 행이 20개면 95% 구간이라는 이름이 부끄러워요. 20개를 모두 맞히면 부트스트랩은 "100%에서 100%"라고 우기죠. 가진 것을 온 세상이라고 쳤는데, 그
# 세상에는 틀린 것이 하나도 없거든요. 이럴 때는 **3의 법칙**을 써요. 한 번도 틀리지 않은 행이 $n$개면, 틀릴 확률의 95% 구간은 0부터 $3/n$쯤까지예요.
#
# ECE도 행이 적을 때는 좋은 모델을 나쁘게 보이게 해요. 위에서 178병으로 잰 보정 오차에도 **행이 적어서 생긴 몫**이 들어 있어요. 200행의 값과
# 견줘 보세요. 통을 늘리면 그 몫은 더 커져요. 그리고 정답이 잘못 달린 행, 서로 닮은 행(같은 환자의 사진)은 부트스트랩이 알아차리지 못해요. 그건 1.2에서 배운 대로
# 데이터를 모을 때 살펴야 해요.

# %% [markdown] id="loses-after" lang="en"
# With 20 rows the name "95% interval" is an embarrassment. If all 20 are right, the bootstrap insists on "100% to 100%": it takes
# what it has for the whole world, and in that world nothing is wrong. In such a case use the **rule of three**: after $n$
# rows without a mistake, the 95% interval for the chance of one goes from 0 to about $3/n$.
#
# The ECE, too, makes good models look bad when rows are few. A part of the error measured on 178 bottles above
# **comes from their being few**: compare it with the line of 200 rows. More bins make it worse. And the bootstrap does not
# notice wrong labels or rows that resemble one another (images of the same patient): look after those when the data is
# collected, as in 1.2.

# %% [markdown] id="question" lang="ko" reviewed="94e9de02aafb"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 한 팀이 이렇게 보고했어요. "상담 문의 가운데 2%인 *해지 위험* 고객을 찾는 모델입니다. 테스트 150건에서 정확도가 98.7%로 지금 모델의 98.0%보다
# 높습니다. 확신도가 평균 99%이니 사람의 확인은 없애도 됩니다. 놓친 고객은 한 명에 30만 원, 사람의 확인은 한 건에 2천 원이 듭니다."
#
# **위에서 여러분이 잰 값**을 근거로, (1) 이 정확도를 무엇과 견줘야 하고 대신 무엇을 보고해야 하는지, (2) 0.7점 차이를 믿어도 되는지, 믿으려면 무엇이
# 더 필요하고 돈은 얼마나 드는지, (3) 사람의 확인을 없애기 전에 무엇을 재고 문턱값을 어떻게 정할지 6~10문장으로 적으세요.
#
# *채점 기준*: 기준선과 견주고 재현율 같은 알맞은 지표를 들었다(1점), 150건의 불확실성을 짝지은 차이나 건수로 말했다(1점), 필요한 행의 수와 비용을
# 계산했다(1점), 보정을 확인하고 두 비용에서 문턱값을 끌어냈다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# A team reports: "Our model finds the 2% of support requests whose customers are *about to leave*. On 150 test cases its accuracy is
# 98.7%, above the present model's 98.0%. Its mean confidence is 99%, so the check by a person can go. A customer who is missed
# costs 300,000 won, a check by a person 2,000 won."
#
# Using **the figures you measured above**, write in 6 to 10 sentences (1) what this accuracy should be compared with and what should
# be reported instead, (2) whether the difference of 0.7 points can be believed, and what more it takes and costs to believe it, (3)
# what to measure before the check by a person goes, and how to choose the threshold.
#
# *Rubric*: compares with the baseline and names a fitting metric such as recall (1 point); puts the uncertainty of 150 cases into
# figures, as a paired difference or in cases (1 point); computes the rows needed and their cost (1 point); checks the calibration
# and derives a threshold from the two costs (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="19e9b2b39090"
# ## 더 읽어 보기
#
# - Efron, *Bootstrap Methods: Another Look at the Jackknife*, Annals of Statistics 7(1) (1979): 부트스트랩이 처음 나온 글
# - Hanley, Lippman-Hand, *If Nothing Goes Wrong, Is Everything All Right?*, JAMA 249(13) (1983): 3의 법칙
# - Guo, Pleiss, Sun, Weinberger, *On Calibration of Modern Neural Networks*, ICML (2017): 요즘 신경망이 과신하는 까닭과 고치는 법
# - Nixon 외, *Measuring Calibration in Deep Learning*, CVPR Workshops (2019): ECE를 그대로 믿으면 안 되는 까닭
# - Bouthillier 외, *Accounting for Variance in Machine Learning Benchmarks*, MLSys (2021): 모델을 견줄 때 흔들림을 어떻게 다룰지

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Efron, *Bootstrap Methods: Another Look at the Jackknife*, Annals of Statistics 7(1) (1979): where the bootstrap comes from
# - Hanley, Lippman-Hand, *If Nothing Goes Wrong, Is Everything All Right?*, JAMA 249(13) (1983): the rule of three
# - Guo, Pleiss, Sun, Weinberger, *On Calibration of Modern Neural Networks*, ICML (2017): why today's networks are overconfident,
#   and a remedy
# - Nixon et al., *Measuring Calibration in Deep Learning*, CVPR Workshops (2019): why not to take the ECE at face value
# - Bouthillier et al., *Accounting for Variance in Machine Learning Benchmarks*, MLSys (2021): comparing models when scores vary
