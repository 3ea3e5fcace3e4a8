# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="62fd359bdfbb"
# # 1.2 데이터 분할과 누수
#
# **이 단원을 마치면** 데이터를 훈련 세트와 테스트 세트로 바르게 나눌 수 있어요. 테스트 세트의 정보가 훈련으로 새는 *누수*를
# 찾아 막고, 내 점수가 기준선보다 얼마나 나은지, 그리고 넘을 수 없는 한계보다 얼마나 아래인지 말할 수 있어요.
#
# **왜 중요할까요?** 하루에 10만 건을 판정하는 서비스가 있다고 해 봐요. 정확도 98%라고 보고했는데 실제로는 85%라면, 하루에 틀리는
# 건수가 2,000건이 아니라 15,000건이에요. 고객 응대 인력도, 사람이 다시 보는 비용도 모두 틀린 숫자로 계획한 셈이죠. 이런 일은
# 드물지 않아요. 2023년의 한 조사에 따르면 17개 분야의 논문 294편이 누수의 영향을 받았어요(맨 아래 Kapoor와 Narayanan의 글).
#
# **걸리는 시간** 3시간 · **먼저 알아야 할 것** 1.1 배열과 반복문의 비용(모양, `axis`, 표준화, 거리)

# %% [markdown] id="title" lang="en"
# # 1.2 Splits, leakage, baselines
#
# **After this unit** you can split data properly into a training set and a test set, find and stop *leakage* (test information
# that seeps into training), and say how far your score is above a baseline and below a limit that nobody can pass.
#
# **Why it matters.** Take a service that makes 100,000 decisions a day. If it was announced with 98% accuracy and really
# reaches 85%, it is wrong 15,000 times a day and not 2,000. Support staff and the cost of checking by hand were all planned
# with a wrong number. This is not rare: a survey of 2023 found leakage in 17 fields, affecting 294 papers (Kapoor and
# Narayanan, at the end).
#
# **Time** 3 hours · **Before you start** 1.1 Arrays and the price of loops (shapes, `axis`, standardising, distances)

# %% id="setup" kind="locked"
import math

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

from grading.checks import hint, submission, when_solved

# %% [markdown] id="data" lang="ko" reviewed="58b7a49693c0"
# ## 데이터
#
# 위스콘신 대학 병원의 유방암 진단 데이터예요(1995년 공개, scikit-learn에 들어 있어요). **행** 하나가 종양 하나이고, **열** 30개는 현미경
# 사진에서 잰 세포핵의 반지름, 면적, 매끄러움 같은 값이에요. 맞혀야 할 정답, 곧 **레이블**은 악성이면
# 1, 양성이면 0으로 둘게요.

# %% [markdown] id="data" lang="en"
# ## The data
#
# Diagnoses of breast cancer from the University of Wisconsin Hospitals (published in 1995, bundled with scikit-learn). A **row**
# is a tumour; the 30 **columns** were measured on microscope images: radius, area, smoothness of the cell nuclei and so on. The
# answer (the **label**) is 1 for malignant and 0 for benign.

# %% id="data-code" kind="locked"
bunch = load_breast_cancer()
tumours, sick = bunch.data, (bunch.target == 0).astype(int)
print(tumours.shape, np.bincount(sick))
for column in (0, 3, 4):
    values = tumours[:, column]
    print(f"{bunch.feature_names[column]:16} {values.min():9.3f} .. {values.max():9.3f}")

# %% [markdown] id="model" lang="ko" reviewed="dcf1671c54cb"
# ## 함께 쓸 모델: 최근접 이웃
#
# 이 단원의 주인공은 모델이 아니라 **점수**예요. 그래서 모델은 가장 단순한 것을 써요. 새 종양이 오면 훈련 세트에서 거리가 가장
# 가까운 `k`개를 찾아 다수결로 정해요. 거리 계산은 1.1에서 만든 식 그대로예요. *정확도*는 맞힌 비율이에요.

# %% [markdown] id="model" lang="en"
# ## The model we share: nearest neighbours
#
# The hero of this unit is not the model but its **score**, so the model is as plain as can be: for a new tumour, find the `k`
# nearest rows of the training set and let them vote. The distance is the formula of unit 1.1. *Accuracy* is the share of right
# answers.

# %% id="model-code" kind="locked"
def neighbours(train_table, train_labels, table, k=5):
    across = 2 * table @ train_table.T
    squares = (table**2).sum(axis=1)[:, None] + (train_table**2).sum(axis=1)[None, :] - across
    nearest = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return (train_labels[nearest].mean(axis=1) > 0.5).astype(int)


def accuracy(labels, predicted):
    return float(np.mean(np.asarray(labels) == np.asarray(predicted)))

# %% [markdown] id="seen" lang="ko" reviewed="9594a3628fcc"
# ### 이미 본 문제로 시험을 보면
#
# 훈련에 쓴 행으로 그대로 시험을 보면 어떻게 될까요? 가장 가까운 이웃 하나(`k=1`)를 쓰면, 가장 가까운 행은 **자기 자신**이에요.

# %% [markdown] id="seen" lang="en"
# ### An exam of questions already seen
#
# What if the model is examined on the very rows it was trained on? With one neighbour (`k=1`), the nearest row is **the row
# itself**.

# %% id="seen-code" kind="demo"
coins = np.random.default_rng(0).integers(0, 2, len(sick))
for key, labels in [("seen-real", sick), ("seen-coins", coins)]:
    reached = accuracy(labels, neighbours(tumours, labels, tumours, k=1))
    print(hint(key, percent=f"{100 * reached:.1f}"))

# %% [markdown] id="seen-after" lang="ko" reviewed="d682b5303325"
# 정답을 **동전 던지기로** 바꿔도 점수가 같아요. 외운 것을 되풀이했을 뿐이니까요. 본 적 있는 행에서 잰 점수는 아무것도 말해 주지
# 않아요. 그래서 데이터를 둘로 나눠요. **훈련 세트**로 배우고, 한 번도 쓰지 않은 **테스트 세트**로 점수를 재요. 테스트 세트는 서비스가
# 내일 만날 손님의 대역이에요.

# %% [markdown] id="seen-after" lang="en"
# Swap the answers for **coin flips** and the score stays: the model only repeats what it memorised. A score on rows that were
# seen says nothing. So the data is split: learn from the **training set**, take the score on a **test set** that was used
# for nothing else. The test set stands in for the customers whom the service meets tomorrow.

# %% [markdown] id="predict" lang="ko" reviewed="820a13de7c1c"
# ## 먼저 예상해 보세요
#
# 이번에는 표 전체가 잡음이에요. 80행 5,000열의 난수이고, 정답은 동전 던지기예요. 배울 것이 **전혀** 없죠. 한 연구자가 이렇게 했어요.
#
# 1. 열이 너무 많으니, 정답과 상관이 가장 큰 열 20개를 골라요.
# 2. 행을 섞어 60개로 훈련하고, **따로 남겨 둔** 20개로 시험을 봐요.
#
# 정확도는 평균 몇 %일까요? 실행하기 전에 `coin_guess`에 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Now the whole table is noise: random numbers in 80 rows and 5,000 columns, and the answers are coin flips. There is **nothing**
# to learn. A researcher proceeds like this:
#
# 1. There are too many columns, so keep the 20 that correlate best with the answers.
# 2. Shuffle the rows, train on 60, and take the score on the 20 that were **kept apart**.
#
# What is the accuracy, on average, in percent? Write it into `coin_guess` before you run on. It is not graded.

# %% id="guess"
coin_guess = 50

# %% id="coins-tools" kind="locked"
def coin_table(seed, rows=80, columns=5000):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, columns)), generator.integers(0, 2, rows)


def best_columns(table, labels, k):
    centred = table - table.mean(axis=0)
    length = np.maximum(np.sqrt((centred**2).sum(axis=0)), 1e-12)
    correlation = np.abs((labels - labels.mean()) @ centred) / length
    return np.argsort(-correlation, kind="stable")[:k]

# %% id="coins-code" kind="demo"
leaked = []
for seed in range(20):
    noise, coins = coin_table(seed)
    chosen = noise[:, best_columns(noise, coins, 20)]
    rows = np.random.default_rng(seed).permutation(len(coins))
    train, test = rows[:60], rows[60:]
    leaked.append(accuracy(coins[test], neighbours(chosen[train], coins[train], chosen[test])))
print(hint("coins-leaked", percent=f"{100 * np.mean(leaked):.0f}", guess=coin_guess))

# %% [markdown] id="coins-after" lang="ko" reviewed="263d2869a84c"
# 동전 던지기를 맞히는 모델이 나왔어요! 물론 그럴 리 없어요. 1번에서 열을 고를 때 **테스트 행의 정답까지** 봤거든요. 열이 5,000개나
# 되면 80개의 동전과 우연히 닮은 열이 꼭 있고, 그 닮음은 테스트 행에도 이미 들어 있어요. 그다음에 행을 나눠 봐야 이미 늦어요.
#
# 이렇게 서비스에서는 알 수 없는 정보가 훈련이나 점수에 흘러드는 것을 **누수**(leakage)라고 해요. 규칙은 하나예요. **데이터를 보고
# 정하는 것은 모두 훈련 세트만 보고 정해요.** 이 단원 끝에서 여러분의 코드로 이 실험을 다시 해 볼 거예요.

# %% [markdown] id="coins-after" lang="en"
# A model that foretells coin flips! Of course not: step 1 looked at **the answers of the test rows too**. Among 5,000 columns
# some resemble the 80 coins by chance, and that resemblance is already in the test rows. Splitting afterwards comes too late.
#
# Information that the service would not have, seeping into training or into the score, is called **leakage**. There is one
# rule: **whatever is decided by looking at data is decided by looking at the training set only.** At the end of this unit
# you repeat this experiment with your own code.

# %% [markdown] id="tools" lang="ko" reviewed="f0629faec215"
# ## 쓸 만한 도구
#
# 아래 다섯 가지와 1.1에서 쓴 것이면 이 단원의 과제를 모두 풀 수 있어요. 출력과 코드를 한 줄씩 짝지어 보면서 무엇을 하는지 짐작해 보세요.
#
# - `np.unique(a)`: 서로 다른 값을 작은 순서로. `return_counts=True`를 주면 개수도 함께 돌려줘요.
# - `a == 5`: 칸마다 참, 거짓. `np.flatnonzero(...)`는 참인 칸의 **번호**예요.
# - `a[rows]`: 번호 배열 `rows`가 가리키는 칸(표라면 행)만 꺼내요.
# - `np.isin(a, some)`: 칸마다, 그 값이 `some` 안에 있는지.
# - `generator.permutation(a)`: 섞은 배열. `generator = np.random.default_rng(seed)`로 만들면 같은 `seed`에서 늘 같은 순서가 나와요.

# %% [markdown] id="tools" lang="en"
# ## Useful tools
#
# These five, and what unit 1.1 used, are enough for every task of this unit. Match the output below with the code, line by
# line, and guess what each does.
#
# - `np.unique(a)`: the different values, in ascending order; with `return_counts=True` their counts too.
# - `a == 5`: true or false for each place; `np.flatnonzero(...)` gives the **numbers** of the true places.
# - `a[rows]`: only the places (rows, of a table) that the array of numbers `rows` points at.
# - `np.isin(a, some)`: for each place, whether its value is one of `some`.
# - `generator.permutation(a)`: shuffled. Made by `generator = np.random.default_rng(seed)`, the same `seed` always gives the
#   same order.

# %% id="tools-code"
a = np.array([9, 5, 5, 7, 5])
print(np.unique(a, return_counts=True))
print(a == 5, np.flatnonzero(a == 5))
print(a[np.array([0, 3])])
print(np.isin(a, [7, 9]))
print(np.random.default_rng(7).permutation(a), np.random.default_rng(7).permutation(a))

# %% [markdown] id="task-baseline" lang="ko" reviewed="ed0eb4dedfda"
# ## 과제 1. 기준선 (쉬움)
#
# 점수를 듣거든 먼저 물어보세요. "아무 생각 없이 하면 몇 점인데요?" 가장 흔한 **기준선**은 훈련 세트에서 가장 많은 정답을 늘 답하는
# 거예요. `most_frequent(labels, n)`을 완성하세요.
#
# - `labels`: 훈련 세트의 정답. 정수 배열이고 음수도 있을 수 있어요. 비어 있지는 않아요.
# - 돌려주는 값: 가장 많은 정답을 `n`번 담은, 모양 `(n,)`인 배열. 개수가 같으면 작은 쪽을 골라요. `n`은 0일 수도 있어요.

# %% [markdown] id="task-baseline" lang="en"
# ## Task 1. The baseline (easy)
#
# When you hear a score, first ask: "and without any thought?" The usual **baseline** always gives the most frequent answer of
# the training set. Complete `most_frequent(labels, n)`.
#
# - `labels`: answers of the training set, an array of integers, negative ones too perhaps; never empty.
# - Returns: the most frequent answer `n` times, an array of shape `(n,)`. Of equally frequent ones the smaller. `n` may be 0.

# %% id="most-frequent" kind="solution"
def most_frequent(labels, n):
    ### BEGIN SOLUTION
    values, counts = np.unique(labels, return_counts=True)
    return np.full(n, values[counts.argmax()])
    ### END SOLUTION

# %% id="test-baseline" kind="test" points=1
result = np.asarray(submission.most_frequent(np.array([1, 0, 1, 1, 0]), 4))
assert result.shape == (4,), hint("baseline-shape")
np.testing.assert_array_equal(result, [1, 1, 1, 1], err_msg=hint("baseline-value"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for _ in range(10):
    drawn = generator.integers(-3, 4, size=31)
    most = max(range(-3, 4), key=lambda value: (drawn == value).sum())
    n = int(generator.integers(1, 60))
    result = np.asarray(submission.most_frequent(drawn, n))
    assert result.shape == (n,), hint("baseline-shape")
    np.testing.assert_array_equal(result, [most] * n, err_msg=hint("baseline-any-labels"))
for drawn, least in [([8, 2, 8, 5, 2], 2), ([2, -5, 3, 2, -5], -5)]:
    tied = np.asarray(submission.most_frequent(np.array(drawn), 3))
    np.testing.assert_array_equal(tied, [least] * 3, err_msg=hint("baseline-tie"))
many = np.repeat([7, 100_000], [2000, 2001])
result = np.asarray(submission.most_frequent(many, 2))
np.testing.assert_array_equal(result, [100_000] * 2, err_msg=hint("baseline-any-labels"))
assert np.asarray(submission.most_frequent(np.array([4]), 0)).shape == (0,), hint("baseline-none")
### END HIDDEN TESTS

# %% id="baseline-seen" kind="demo"
rare = (np.random.default_rng(1).random(10_000) < 0.01).astype(int)
with when_solved():
    for key, labels in [("baseline-sick", sick), ("baseline-rare", rare)]:
        reached = accuracy(labels, most_frequent(labels, len(labels)))
        print(hint(key, percent=f"{100 * reached:.1f}"))

# %% [markdown] id="baseline-after" lang="ko" reviewed="37820788abdf"
# 환자가 100명에 1명꼴인 검진에서는 "모두 정상"이라고만 해도 정확도가 99%쯤 나와요. 그런 서비스에서 "정확도 99%"는 자랑이 아니에요. 드문
# 것을 찾는 일에 맞는 평가지표는 1.5 단원에서 배워요.

# %% [markdown] id="baseline-after" lang="en"
# In a screening where one person in 100 is ill, "everybody is healthy" is about 99% accurate. For such a service "99% accuracy"
# is nothing to boast of. Metrics for finding what is rare come in unit 1.5.

# %% [markdown] id="task-scaler" lang="ko" reviewed="a98be460a6c6"
# ## 과제 2. 훈련 세트로만 맞추는 표준화 (쉬움)
#
# 위에서 본 것처럼 면적은 수천까지 가는데 매끄러움은 0.2도 안 돼요. 그대로 거리를 재면 면적이 다 정해 버려요. 그래서 1.1처럼
# 표준화를 하는데, 이번에는 **두 단계로** 나눠요. 내일 올 손님은 한 명씩 오고, 그때는 손님들의 평균을 알 수 없으니까요.
#
# - `fit_scaler(train)`: 훈련 세트 `(n, d)`에서 필요한 것(열마다의 평균과 표준편차)을 **기억해서** 돌려줘요. 어떤 모양으로 담을지는
#   자유예요.
# - `apply_scaler(scaler, table)`: 기억해 둔 값으로 `table`의 열마다 평균을 빼고 표준편차로 나눠서 같은 모양으로 돌려줘요. 표준편차는
#   `np.std`의 기본값(n으로 나누기)을 쓰고, 0이면 1로 나눠요.
#
# 훈련 세트가 `[[1], [3]]`이면 평균 2, 표준편차 1이에요. 나중에 온 행 `[4]`는 `[2]`가 돼요.

# %% [markdown] id="task-scaler" lang="en"
# ## Task 2. A scaler that only knows the training set (easy)
#
# As printed above, areas go into the thousands while smoothness stays below 0.2. Plain distances would be decided by the area
# alone. So we standardise as in 1.1, but this time in **two steps**: tomorrow's customers come one at a time, and the mean of
# them all is not known by then.
#
# - `fit_scaler(train)`: **remembers** what is needed of the training set `(n, d)`, mean and standard deviation of each column,
#   and returns it, in whatever form you like.
# - `apply_scaler(scaler, table)`: subtracts the remembered mean from each column of `table` and divides by the remembered
#   deviation; same shape. The deviation is `np.std`'s default (divided by n); where it is 0, divide by 1.
#
# For the training set `[[1], [3]]` the mean is 2 and the deviation 1. A row `[4]` that comes later becomes `[2]`.

# %% id="scaler" kind="solution"
def fit_scaler(train):
    ### BEGIN SOLUTION
    spread = train.std(axis=0)
    return train.mean(axis=0), np.where(spread == 0, 1.0, spread)
    ### END SOLUTION


def apply_scaler(scaler, table):
    ### BEGIN SOLUTION
    mean, spread = scaler
    return (table - mean) / spread
    ### END SOLUTION

# %% id="test-scaler" kind="test" points=2
seen = np.array([[1.0, 10.0, 7.0], [3.0, 30.0, 7.0]])
scaler = submission.fit_scaler(seen)
result = np.asarray(submission.apply_scaler(scaler, seen))
assert result.shape == seen.shape, hint("scaler-shape")
expected = [[-1, -1, 0], [1, 1, 0]]
np.testing.assert_allclose(result, expected, atol=1e-6, err_msg=hint("scaler-train"))
new = np.array([[4.0, 20.0, 7.0], [2.0, 60.0, 7.0]])
later = np.asarray(submission.apply_scaler(scaler, new))
np.testing.assert_allclose(later, [[2, 0, 0], [0, 4, 0]], atol=1e-6, err_msg=hint("scaler-later"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
centre, width = [3.0, -500.0, 0.02, 1e6, 0.0, 0.0], [1.0, 80.0, 0.001, 0.1, 1e-5, 1.0]
seen = generator.normal(centre, width, size=(60, 6))
seen[:, 5] = 4.0
scaler = submission.fit_scaler(seen)
spread = seen.std(axis=0)
spread[5] = 1
one = generator.normal(centre, width, size=(1, 6))
expected = (one - seen.mean(axis=0)) / spread
result = np.asarray(submission.apply_scaler(scaler, one))
assert result.shape == (1, 6), hint("scaler-shape")
for columns, key in [(slice(5), "scaler-one-row"), (slice(5, 6), "scaler-constant")]:
    got, wanted = result[:, columns], expected[:, columns]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6, err_msg=hint(key))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
crowd = np.concatenate([one, 1e4 * generator.normal(size=(50, 6))])
beside = np.asarray(submission.apply_scaler(scaler, crowd))[:1]
np.testing.assert_allclose(beside, expected, rtol=1e-4, atol=1e-6, err_msg=hint("scaler-beside"))
again = np.asarray(submission.apply_scaler(scaler, one))
np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-6, err_msg=hint("scaler-beside"))
other = submission.fit_scaler(10 * seen)
again = np.asarray(submission.apply_scaler(scaler, one))
np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-6, err_msg=hint("scaler-two"))
again = np.asarray(submission.apply_scaler(other, 10 * one))[:, :5]
wanted = expected[:, :5]
np.testing.assert_allclose(again, wanted, rtol=1e-4, atol=1e-6, err_msg=hint("scaler-two"))
### END HIDDEN TESTS

# %% [markdown] id="example" lang="ko" reviewed="266d02026a71"
# ## 따라 해 보기: 파일의 뒤쪽을 떼면
#
# 행을 어떻게 나눌까요? 가장 쉬운 방법은 **뒤쪽 20%를 떼는** 거예요. 악성의 비율을 견줘 봐요. `permutation(n)`은 0부터 `n-1`까지를
# 섞은 배열이에요. 앞의 몇 개를 테스트로 쓰면, 나머지가 훈련이에요.

# %% [markdown] id="example" lang="en"
# ## A worked example: the end of the file
#
# How should rows be divided? The easiest way is to **cut off the last 20%**. Compare the shares of malignant tumours.
# `permutation(n)` is an array of 0 to `n-1`, shuffled: the first few serve as the test set, the rest is for training.

# %% id="example-code"
count = len(sick) // 5
print(f"{sick.mean():.3f} {sick[:-count].mean():.3f} {sick[-count:].mean():.3f}")
rows = np.random.default_rng(7).permutation(len(sick))
test, train = rows[:count], rows[count:]
print(f"{sick.mean():.3f} {sick[train].mean():.3f} {sick[test].mean():.3f}")
print(len(train), len(test), np.intersect1d(train, test))

# %% [markdown] id="example-after" lang="ko" reviewed="8448836735fd"
# 왼쪽부터 전체, 훈련, 테스트의 악성 비율이에요. 파일의 뒤쪽에는 악성이 훨씬 적어요. 파일은 모은 순서대로 쌓이고, 그 순서에는 대개 뜻이
# 있거든요. 섞으면 훨씬 나아지지만 여전히 운에 따라 흔들려요. 정답별로 **따로 섞어서** 같은 비율로 떼면 그 흔들림까지 없앨 수 있어요.
# 이것을 **층화**(stratified) 분할이라고 해요.

# %% [markdown] id="example-after" lang="en"
# From left to right: the share of malignant tumours in all rows, in training, in test. The end of the file has far fewer. Files
# grow in the order of collecting, and that order usually means something. Shuffling helps a lot, but the shares still vary
# by luck. **Shuffle each answer's rows on their own** and take the same share of each, and that is gone too: a **stratified**
# split.

# %% [markdown] id="task-split" lang="ko" reviewed="be6114c6c64c"
# ## 과제 3. 섞고 층화한 분할 (보통)
#
# `split(labels, fraction, seed)`를 완성하세요. `(train, test)`, 곧 **행 번호** 배열 두 개를 돌려줘요.
#
# - 모든 행이 둘 중 꼭 한쪽에만 들어가요. 각 배열 안의 순서는 상관없어요.
# - 정답마다 그 정답인 행 가운데 `fraction`만큼이 테스트로 가요. 반올림은 어느 쪽이든 괜찮지만, 행이 **둘 이상인 정답은 양쪽에 적어도 하나씩**
#   있어야 해요. 행이 하나뿐인 정답은 훈련으로 보내요.
# - 어느 행이 테스트가 될지는 골고루 무작위로 정해요. `seed`가 같으면 결과도 같고, 다르면 달라져요.
# - `labels`는 정수 배열이에요. 0부터 차례대로가 아닐 수도, 뒤섞여 있을 수도 있어요.

# %% [markdown] id="task-split" lang="en"
# ## Task 3. A shuffled, stratified split (medium)
#
# Complete `split(labels, fraction, seed)`. It returns `(train, test)`: two arrays of **row numbers**.
#
# - Every row is in exactly one of the two. Their order inside does not matter.
# - Of each answer's rows, `fraction` go to the test set. Round as you like, but an answer with **two rows or more must be on
#   both sides**. An answer with a single row goes to training.
# - Which rows become the test set is random, with equal chances. The same `seed` gives the same result, another seed another.
# - `labels` is an array of integers in any order, and not necessarily 0, 1, 2, ...

# %% id="split" kind="solution"
def split(labels, fraction, seed):
    ### BEGIN SOLUTION
    labels = np.asarray(labels)
    generator = np.random.default_rng(seed)
    test = []
    for value in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == value))
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        test.extend(rows[:count])
    return np.setdiff1d(np.arange(len(labels)), test), np.array(test, dtype=int)
    ### END SOLUTION

# %% id="parts" kind="locked"
def parts(found, n):
    assert len(found) == 2, hint("split-pair")
    train, test = (np.asarray(part) for part in found)
    assert train.ndim == test.ndim == 1, hint("split-numbers")
    integers = [not len(part) or part.dtype.kind in "iu" for part in (train, test)]
    assert all(integers), hint("split-numbers")
    together = np.sort(np.concatenate([train.astype(int), test.astype(int)]))
    assert np.array_equal(together, np.arange(n)), hint("split-once")
    return train.astype(int), test.astype(int)

# %% id="test-split" kind="test" points=3
labels = np.array([7, 4, 7, 7] * 20)
train, test = parts(submission.split(labels, 0.25, 0), 80)
counts = [int((labels[test] == value).sum()) for value in (4, 7)]
assert counts == [5, 15], hint("split-stratified")
_, again = parts(submission.split(labels, 0.25, 0), 80)
np.testing.assert_array_equal(np.sort(test), np.sort(again), err_msg=hint("split-same-seed"))
_, other = parts(submission.split(labels, 0.25, 1), 80)
assert not np.array_equal(np.sort(test), np.sort(other)), hint("split-other-seed")
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for fraction in (0.1, 0.2, 0.5, 0.9):
    sizes = {-5: 2, 3: 3, 4: int(generator.integers(10, 20)), 70: 40, 100: 121}
    seed = int(generator.integers(1000))
    for _ in range(2):
        labels = generator.permutation(np.repeat(list(sizes), list(sizes.values())))
        train, test = parts(submission.split(labels, fraction, seed), len(labels))
        for value, size in sizes.items():
            taken = int((labels[test] == value).sum())
            assert 0 < taken < size, hint("split-both-sides", size=size, fraction=fraction)
            off = abs(taken - fraction * size)
            assert off <= 1 + 1e-9, hint("split-share", size=size, fraction=fraction)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
train, test = parts(submission.split(np.array([9, 4, 9, 9, 9]), 0.5, 3), 5)
assert 1 in train, hint("split-single")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
labels = generator.permutation(np.array([0] * 10 + [1] * 30))
often, different = np.zeros(40, dtype=int), set()
for seed in range(300):
    _, test = parts(submission.split(labels, 0.2, seed), 40)
    often[test] += 1
    different.add(tuple(sorted(test.tolist())))
assert often.min() > 15 and often.max() < 110, hint("split-chances")
assert len(different) > 280, hint("split-shuffled")
seeds = [7, 107, 1007, 7 + 2**16]
tests = [parts(submission.split(labels, 0.2, seed), 40)[1] for seed in seeds]
assert len({tuple(sorted(test.tolist())) for test in tests}) == 4, hint("split-other-seed")
### END HIDDEN TESTS

# %% [markdown] id="luck" lang="ko" reviewed="f7f9a7317bf9"
# ### 운은 얼마나 클까
#
# 이제 여러분의 함수로 진짜 데이터를 200가지 시드로 나눠 봐요. 기준선, 표준화하지 않은 모델, 표준화한 모델의 점수를 견줘요.

# %% [markdown] id="luck" lang="en"
# ### How large is luck?
#
# Now split the real data with your function, for 200 seeds, and compare the baseline, the model without scaling and the model
# with it.

# %% id="luck-code" kind="demo"
with when_solved():
    scores = {"baseline": [], "plain": [], "scaled": []}
    for seed in range(200):
        train, test = split(sick, 0.2, seed)
        scaler = fit_scaler(tumours[train])
        known, unknown = apply_scaler(scaler, tumours[train]), apply_scaler(scaler, tumours[test])
        answers = {
            "baseline": most_frequent(sick[train], len(test)),
            "plain": neighbours(tumours[train], sick[train], tumours[test]),
            "scaled": neighbours(known, sick[train], unknown),
        }
        for name, answer in answers.items():
            scores[name].append(100 * accuracy(sick[test], answer))
    for name, reached in scores.items():
        low, high = f"{min(reached):.1f}", f"{max(reached):.1f}"
        print(hint(f"luck-{name}", mean=f"{np.mean(reached):.1f}", low=low, high=high))
    p = np.mean(scores["scaled"]) / 100
    by_chance = 100 * math.sqrt(p * (1 - p) / len(test))
    seen = np.std(scores["scaled"])
    print(hint("luck-spread", seen=f"{seen:.1f}", expected=f"{by_chance:.1f}", n=len(test)))
    figure, axes = plt.subplots(figsize=(7, 3.5))
    edges = np.arange(85, 101, 100 / len(test))
    for name in ("plain", "scaled"):
        axes.hist(scores[name], edges, alpha=0.6, label=hint(f"plot-{name}"))
    axes.set(xlabel=hint("plot-accuracy"), ylabel=hint("plot-splits"))
    axes.legend()
    plt.show()

# %% [markdown] id="luck-after" lang="ko" reviewed="12df37851c36"
# 같은 모델, 같은 데이터인데 시드에 따라 점수가 몇 점이나 달라져요. 테스트 행이 100개 남짓이면, 정확도 $p$의 흔들림은 대략
# $\sqrt{p(1-p)/n}$이에요. 그러니 점수 1점 차이로 모델을 고르거나, 점수가 가장 좋은 시드를 골라 보고하면 안 돼요. 가장 좋은 시드를 고르는
# 것도 테스트 세트를 보고 정하는 것, 곧 누수예요.

# %% [markdown] id="luck-after" lang="en"
# The same model and the same data, and yet the score moves by several points with the seed. With some 100 test rows, an accuracy
# of $p$ wobbles by about $\sqrt{p(1-p)/n}$. So do not choose a model for one point more, and do not report the best seed:
# choosing the best seed is a decision made by looking at the test set, and so it is leakage.

# %% [markdown] id="task-groups" lang="ko" reviewed="536279bf42ce"
# ## 과제 4. 같은 환자는 같은 편에 (보통)
#
# 환자 한 명을 사진 여러 장으로 찍었다면, 행을 아무리 잘 섞어도 소용없어요. 같은 환자의 사진이 훈련과 테스트 양쪽에 들어가면, 모델은
# 병이 아니라 **환자를 알아보면** 돼요. 내일 올 환자는 모두 처음 보는 사람인데도요. 이럴 때는 행이 아니라 **그룹**(환자)을 나눠요.
#
# `split_groups(groups, fraction, seed)`를 완성하세요. `groups[i]`는 `i`번째 행의 환자 번호예요.
#
# - 돌려주는 값: `split`처럼 행 번호 배열 `(train, test)`. 한 그룹의 행은 모두 같은 쪽에 있어요.
# - **그룹 수**의 `fraction`만큼이 테스트로 가요(반올림은 자유). 그룹은 둘 이상이고, 양쪽에 적어도 하나씩 있어야 해요.
# - 그룹이 크든 작든 테스트로 뽑힐 확률은 같아요. `seed`는 `split`에서와 같아요.
# - 번호는 어떤 정수든 될 수 있고, 한 환자의 행이 떨어져 있을 수도 있어요.

# %% [markdown] id="task-groups" lang="en"
# ## Task 4. The same patient on the same side (medium)
#
# If there are several images of one patient, shuffling rows does not help, however well it is done. With images of the same
# patient on both sides, the model need only **recognise the patient**, not the illness; but tomorrow's patients are all
# strangers. Then it is not rows that must be split but **groups** (patients).
#
# Complete `split_groups(groups, fraction, seed)`; `groups[i]` is the number of the patient in row `i`.
#
# - Returns: row numbers `(train, test)` as `split` does. All rows of a group are on the same side.
# - Of the **number of groups**, `fraction` go to the test set (round as you like). There are two groups or more, and each side
#   has at least one.
# - Large or small, each group has the same chance to be in the test set. `seed` works as in `split`.
# - Numbers can be any integers, and a patient's rows may lie apart.

# %% id="split-groups" kind="solution"
def split_groups(groups, fraction, seed):
    ### BEGIN SOLUTION
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    count = min(max(round(fraction * len(names)), 1), len(names) - 1)
    in_test = np.isin(groups, names[:count])
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)
    ### END SOLUTION

# %% id="test-groups" kind="test" points=3
groups = np.array([3, 3, 8, 8, 1, 1, 5, 5])
train, test = parts(submission.split_groups(groups, 0.25, 0), 8)
assert not np.intersect1d(groups[train], groups[test]).size, hint("groups-apart")
assert len(np.unique(groups[test])) == 1, hint("groups-count")
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for fraction in (0.1, 0.3, 0.5, 0.95):
    numbers = generator.choice(10_000, size=int(generator.integers(5, 30)), replace=False) - 5000
    groups = generator.permutation(np.repeat(numbers, generator.integers(1, 9, len(numbers))))
    seed = int(generator.integers(1000))
    train, test = parts(submission.split_groups(groups, fraction, seed), len(groups))
    assert not np.intersect1d(groups[train], groups[test]).size, hint("groups-apart")
    taken = len(np.unique(groups[test]))
    assert 0 < taken < len(numbers), hint("groups-both-sides")
    assert abs(taken - fraction * len(numbers)) <= 1 + 1e-9, hint("groups-count")
for one, other in [(7, -7), (7, 1007), (7, 7 + 2**32), (2**60, 2**60 + 1)]:
    groups = np.array([one, other, one, one])
    for fraction in (0.1, 0.9):
        train, test = parts(submission.split_groups(groups, fraction, 0), 4)
        assert len(train) and len(test), hint("groups-both-sides")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
groups = generator.permutation(np.repeat(np.arange(12), [90] + [2] * 11))
often, different = np.zeros(12, dtype=int), set()
for seed in reversed(range(300)):
    _, test = parts(submission.split_groups(groups, 0.25, seed), len(groups))
    taken = np.unique(groups[test])
    assert abs(len(taken) - 3) <= 1, hint("groups-count")
    often[taken] += 1
    different.add(tuple(taken.tolist()))
_, again = parts(submission.split_groups(groups, 0.25, 0), len(groups))
np.testing.assert_array_equal(np.sort(test), np.sort(again), err_msg=hint("split-same-seed"))
assert often.min() > 25 and often.max() < 130, hint("groups-chances")
assert len(different) > 120, hint("split-shuffled")
groups, seeds = np.arange(40), [7, 107, 1007, 7 + 2**16]
tests = [parts(submission.split_groups(groups, 0.25, seed), 40)[1] for seed in seeds]
assert len({tuple(sorted(test.tolist())) for test in tests}) == 4, hint("split-other-seed")
### END HIDDEN TESTS

# %% [markdown] id="limit" lang="ko" reviewed="72bb7d756ade"
# ## 넘을 수 없는 한계와 비교하기
#
# 데이터를 직접 만들면 **아무도 넘을 수 없는 정확도**를 계산할 수 있어요. 환자마다 특징 6개를 난수로 뽑되, 환자군과 정상군의 첫째 특징의
# 평균이 $2\times1.5$만큼 떨어져 있게 하고, 사진마다 작은 잡음을 더해요. 두 무리가 겹치기 때문에, 처음 보는 사진 한 장을 아무리 잘 읽어도
# 정확도의 기댓값은 $\Phi\!\left(1.5/\sqrt{1+0.3^2}\right)$를 넘지 못해요. $\Phi$는 표준정규분포의 누적 확률이고, 이 값을 **베이즈 한계**라고 해요.
#
# 환자 한 명의 사진을 1장에서 8장까지 늘리면서, 행을 나눈 점수와 그룹을 나눈 점수를 그려 볼게요. 기준선, 한계와 견줘 보세요.

# %% [markdown] id="limit" lang="en"
# ## Against a limit that nobody can pass
#
# When we make the data ourselves, we can compute **the accuracy that nobody can exceed**. Each patient gets six random
# features; ill and healthy differ in the first, whose means are $2\times1.5$ apart; every image adds a little noise. The two
# clouds overlap, so however well a single image of a stranger is read, the expected accuracy is at most
# $\Phi\!\left(1.5/\sqrt{1+0.3^2}\right)$, where $\Phi$ is the normal distribution's cumulative probability. That is the
# **Bayes limit**.
#
# Let us take 1 to 8 images of each patient and draw the score of splitting rows and that of splitting groups, with the baseline
# and the limit beside them.

# %% id="patients" kind="locked"
def patients(seed, images, people=120, shift=1.5, noise=0.3):
    generator = np.random.default_rng(seed)
    ill = np.arange(people) % 2
    features = generator.normal(size=(people, 6))
    features[:, 0] += (2 * ill - 1) * shift
    pictures = np.repeat(features, images, axis=0)
    pictures += noise * generator.normal(size=pictures.shape)
    return pictures, np.repeat(ill, images), np.repeat(np.arange(people), images)


bayes_limit = 0.5 * (1 + math.erf(1.5 / math.sqrt(1 + 0.3**2) / math.sqrt(2)))
print(f"{bayes_limit:.3f}")

# %% id="plot" kind="demo"
with when_solved():
    each = [1, 2, 3, 4, 6, 8]
    by_rows, by_groups, floor = [], [], []
    for images in each:
        reached = []
        for seed in range(40):
            pictures, ill, who = patients(seed, images)
            found = []
            for train, test in (split_groups(who, 0.25, seed), split(ill, 0.25, seed)):
                answer = neighbours(pictures[train], ill[train], pictures[test], k=1)
                found.append(accuracy(ill[test], answer))
            found.append(accuracy(ill[test], most_frequent(ill[train], len(test))))
            reached.append(found)
        for curve, value in zip((by_groups, by_rows, floor), np.mean(reached, axis=0)):
            curve.append(100 * value)
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.plot(each, by_rows, "o-", color="tab:red", label=hint("plot-rows"))
    axes.plot(each, by_groups, "o-", color="tab:blue", label=hint("plot-groups"))
    percent = f"{100 * bayes_limit:.1f}"
    label = hint("plot-limit", percent=percent)
    axes.axhline(100 * bayes_limit, color="k", linestyle="--", label=label)
    axes.plot(each, floor, ":", color="gray", label=hint("plot-baseline"))
    axes.set(xlabel=hint("plot-images"), ylabel=hint("plot-accuracy"), ylim=(45, 102))
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()
    way = (by_groups[-1] - floor[-1]) / (100 * bayes_limit - floor[-1])
    wrong = [round(1000 * (100 - value)) for value in (by_rows[-1], by_groups[-1])]
    print(hint("achieved", percent=f"{100 * way:.0f}", limit=percent))
    print(hint("promised", rows=f"{by_rows[-1]:.1f}", groups=f"{by_groups[-1]:.1f}"))
    print(hint("promised-wrong", rows=f"{wrong[0]:,}", groups=f"{wrong[1]:,}"))

# %% [markdown] id="limit-after" lang="ko" reviewed="29b7130df283"
# 행을 나눈 점수는 한계를 **넘어가요**. 한계를 넘는 점수는 기뻐할 일이 아니라 누수의 증거예요. 뒤의 과목에서 메모리 대역폭보다 빠른 코드를
# 보면 의심하는 것과 똑같아요. 그룹을 나눈 점수는 한계 아래에 머물고, 그것이 서비스가 처음 보는 환자에게서 얻을 점수예요. 사진이 1장뿐일
# 때는 누수가 없어서, 두 점수가 다른 것은 우연일 뿐이에요. 누수는 코드가 아니라 **데이터가 어떻게 모였는지**에 숨어 있어요.

# %% [markdown] id="limit-after" lang="en"
# The score of splitting rows **passes the limit**. A score beyond the limit is no reason to rejoice but proof of a leak, just as
# later courses distrust code that is faster than the memory's bandwidth. The score of splitting groups stays below, and that
# is what the service will get from patients it has never seen. With one image each there is no leak, and the two scores
# differ by chance only: the leak is not in the code but in **how the data came about**.

# %% [markdown] id="task-honest" lang="ko" reviewed="fca6149306fd"
# ## 과제 5. 새는 곳이 없는 예측 (어려움)
#
# 이제 모두 이어 붙여요. `predict_honestly(table, labels, train, test, k)`는 `test` 행들의 예측을 `test`의 순서대로 돌려줘요.
#
# 1. `best_columns`로 열 `k`개를 골라요.
# 2. 고른 열을 표준화해요(`fit_scaler`, `apply_scaler`).
# 3. `neighbours`로 예측해요(이웃은 기본값 5개).
#
# **데이터를 보고 정하는 것은 모두 훈련 행만 보고** 정해야 해요. 테스트는 이렇게 확인해요. 테스트 행의 정답을 뒤집어도, 다른 테스트 행의 값을
# 바꿔도, `train`에도 `test`에도 없는 행을 바꿔도 예측은 그대로여야 해요. 여러분의 서비스 코드도 이 방법으로 검사할 수 있어요.

# %% [markdown] id="task-honest" lang="en"
# ## Task 5. A prediction without a leak (hard)
#
# Now join it all. `predict_honestly(table, labels, train, test, k)` returns the predictions for the rows `test`, in their order:
#
# 1. choose `k` columns with `best_columns`,
# 2. standardise those columns (`fit_scaler`, `apply_scaler`),
# 3. predict with `neighbours` (5 of them, the default).
#
# **Whatever is decided by looking at data is decided by looking at the training rows only.** The tests check it like this: flip
# the answers of the test rows, change other test rows, change rows that are neither in `train` nor in `test`; the prediction
# must stay. You can test the code of a service in the same way.

# %% id="predict-honestly" kind="solution"
def predict_honestly(table, labels, train, test, k):
    ### BEGIN SOLUTION
    columns = best_columns(table[train], labels[train], k)
    known, unknown = table[train][:, columns], table[test][:, columns]
    scaler = fit_scaler(known)
    return neighbours(apply_scaler(scaler, known), labels[train], apply_scaler(scaler, unknown))
    ### END SOLUTION

# %% id="honest-reference" kind="locked"
def random_case(seed, rows=90, columns=40):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, rows)
    table = generator.normal(size=(rows, columns))
    table[:, :6] += labels[:, None]
    table = table * generator.uniform(0.01, 100, columns) + generator.normal(scale=50, size=columns)
    order = generator.permutation(rows)
    return table, labels, order[:50], order[50:75]

# %% id="test-honest" kind="test" points=4
table, labels, train, test = random_case(0)
result = np.asarray(submission.predict_honestly(table, labels, train, test, 8))
assert result.shape == test.shape, hint("honest-shape")
flipped = labels.copy()
flipped[test] = 1 - flipped[test]
other = np.asarray(submission.predict_honestly(table, flipped, train, test, 8))
np.testing.assert_array_equal(result, other, err_msg=hint("honest-labels"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for _ in range(5):
    table, labels, train, test = random_case(int(generator.integers(10**6)))
    result = np.asarray(submission.predict_honestly(table, labels, train, test, 8))
    flipped = labels.copy()
    flipped[test] = generator.integers(0, 2, len(test))
    other = np.asarray(submission.predict_honestly(table, flipped, train, test, 8))
    np.testing.assert_array_equal(other, result, err_msg=hint("honest-labels"))
    changed, kept = table.copy(), len(test) // 2
    changed[test[kept:]] = 1000 * table[test[kept:]] + 1e5 * generator.normal(size=table.shape[1])
    other = np.asarray(submission.predict_honestly(changed, labels, train, test, 8))
    np.testing.assert_array_equal(other[:kept], result[:kept], err_msg=hint("honest-rows"))
    changed, flipped = table.copy(), labels.copy()
    unused = np.setdiff1d(np.arange(len(labels)), np.concatenate([train, test]))
    changed[unused], flipped[unused] = table[test[0]], 1 - result[0]
    other = np.asarray(submission.predict_honestly(changed, flipped, train, test, 8))
    np.testing.assert_array_equal(other, result, err_msg=hint("honest-unused"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
labels = np.concatenate([np.arange(60) % 2, generator.integers(0, 2, 400)])
table = generator.normal(size=(460, 50))
table[0:60:2, 17] = table[1:60:2, 17]
table[60:, 17] = 8 * labels[60:] - 4
train, test = np.arange(60), np.arange(60, 460)
reached = accuracy(labels[test], submission.predict_honestly(table, labels, train, test, 3))
assert reached < 0.7, hint("honest-planted", percent=round(100 * reached))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for _ in range(5):
    drawn, labels, train, test = random_case(int(generator.integers(10**6)))
    for table, k in [(drawn, 8), (drawn[:, ::-1], 8), (drawn, 3)]:
        columns = best_columns(table[train], labels[train], k)
        known = table[train][:, columns]
        scaled = (table[:, columns] - known.mean(axis=0)) / known.std(axis=0)
        expected = neighbours(scaled[train], labels[train], scaled[test])
        result = np.asarray(submission.predict_honestly(table, labels, train, test, k))
        np.testing.assert_array_equal(result, expected, err_msg=hint("honest-value"))
        single = np.asarray(submission.predict_honestly(table, labels, train, test[:1], k))
        np.testing.assert_array_equal(single, expected[:1], err_msg=hint("honest-one-row"))
### END HIDDEN TESTS

# %% [markdown] id="coins-again" lang="ko" reviewed="afe83399ae61"
# ### 동전 실험을 다시
#
# 처음에 본 동전 던지기 실험을 여러분의 코드로 다시 해 봐요. 표도, 모델도, 행을 나눈 방법도 그대로이고, 열을 고르는 **때**만 달라요.

# %% [markdown] id="coins-again" lang="en"
# ### The coins once more
#
# Repeat the experiment with the coin flips, with your own code. Table, model and split are the same; only **when** the columns
# are chosen differs.

# %% id="coins-again-code" kind="demo"
with when_solved():
    honest = []
    for seed in range(20):
        noise, coins = coin_table(seed)
        rows = np.random.default_rng(seed).permutation(len(coins))
        train, test = rows[:60], rows[60:]
        honest.append(accuracy(coins[test], predict_honestly(noise, coins, train, test, 20)))
    figures = [f"{100 * np.mean(reached):.0f}" for reached in (leaked, honest)]
    print(hint("coins-both", leaked=figures[0], honest=figures[1]))

# %% [markdown] id="loses" lang="ko" reviewed="83861fe8b513"
# ## 무작위 분할이 통하지 않는 곳
#
# 규칙을 다 지켜도 안심할 수 없는 경우와, 어겨도 티가 나지 않는 경우를 재 볼게요.
#
# 1. **세상이 변할 때.** 손님의 취향도 스팸의 말투도 시간이 지나면 달라져요. 아래에서는 두 무리의 자리가 천천히 돌아가요. 무작위로 나누면
#    훈련 세트에 *미래의 이웃*이 들어 있어요. 서비스는 과거로 배워 미래를 만나니, **시간순으로** 나눠야 해요.
# 2. **티가 나지 않는 누수.** 유방암 데이터에서 표준화를 전체 행으로 맞추면(누수!) 점수가 얼마나 부풀까요?

# %% [markdown] id="loses" lang="en"
# ## Where a random split loses
#
# Let us measure a case where keeping all the rules is not enough, and one where breaking them does not show.
#
# 1. **When the world changes.** Customers' tastes and the language of spam change with time. Below, two clouds slowly rotate.
#    Split at random, the training set holds *neighbours from the future*. A service learns from the past and meets the future,
#    so split **by time**.
# 2. **A leak that does not show.** Fit the scaler on all rows of the breast cancer data (a leak!): by how much does the score
#    swell?

# %% id="loses-code" kind="demo"
def drifting(seed, rows=600):
    generator = np.random.default_rng(seed)
    when, labels = np.arange(rows) / rows, generator.integers(0, 2, rows)
    angle = 1.5 * np.pi * when
    centre = 1.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1) * (2 * labels - 1)[:, None]
    return np.column_stack([centre + 0.7 * generator.normal(size=(rows, 2)), 6 * when]), labels


with when_solved():
    at_random, by_time = [], []
    for seed in range(20):
        points, labels = drifting(seed)
        train, test = split(labels, 0.25, seed)
        answer = neighbours(points[train], labels[train], points[test])
        at_random.append(100 * accuracy(labels[test], answer))
        answer = neighbours(points[:450], labels[:450], points[450:])
        by_time.append(100 * accuracy(labels[450:], answer))
    print(hint("time", random=f"{np.mean(at_random):.1f}", later=f"{np.mean(by_time):.1f}"))
    inside, outside = [], []
    for seed in range(200):
        train, test = split(sick, 0.2, seed)
        for rows, reached in [(tumours[train], inside), (tumours, outside)]:
            scaled = apply_scaler(fit_scaler(rows), tumours)
            answer = neighbours(scaled[train], sick[train], scaled[test])
            reached.append(100 * accuracy(sick[test], answer))
    print(hint("scaler-leak", honest=f"{np.mean(inside):.2f}", leaked=f"{np.mean(outside):.2f}"))

# %% [markdown] id="loses-after" lang="ko" reviewed="c6b5df44c40f"
# 둘째 누수는 거의 보이지 않아요. 정답을 보지 않았고, 훈련 행 456개의 평균은 테스트 행 113개를 더 봐도 거의 그대로니까요. 그렇다고 괜찮은 건 아니에요. 티가 나는지
# 안 나는지는 **막고 나서 재 봐야** 알 수 있고, 막는 데는 코드 한 줄이면 충분해요. 그래서 늘 막아요.
#
# 테스트 세트를 따로 떼는 일에도 값이 있어요. 그만큼 훈련할 데이터가 줄고, 위에서 본 것처럼 행이 적으면 점수가 크게 흔들려요. 데이터가 아주
# 적다면 여러 번 나눠 돌아가며 시험하는 *교차 검증*을 써요.

# %% [markdown] id="loses-after" lang="en"
# The second leak hardly shows: it did not look at answers, and the mean of 456 training rows barely moves when the 113 test
# rows join them. That does not make it right. Whether a leak shows is known only **after stopping it and measuring**, and stopping it takes one line.
# So it is always stopped.
#
# Keeping a test set apart has its price too: there is less data to train on, and with few rows the score wobbles, as you saw.
# When data is very scarce, split several times so that every part serves as the test set once: *cross-validation*.

# %% [markdown] id="question" lang="ko" reviewed="e957e57e4f98"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 한 회사가 이렇게 보고했어요. "병원 세 곳에서 3년 동안 환자 800명의 엑스선 사진 5,000장을 모았습니다. 사진의 4%가 폐렴입니다. 전체 사진에서
# 폐렴과 상관이 큰 특징 100개를 골라 표준화한 다음, 사진을 무작위로 나눠 20%로 시험했더니 정확도가 97.5%였습니다. 시드 30개 가운데 가장 좋은
# 결과입니다. 다음 달부터 새로운 병원에서 서비스합니다."
#
# **위에서 여러분이 잰 값**을 근거로, (1) 누수를 세 가지 이상 찾고 왜 점수가 부풀려지는지, (2) 97.5%를 무엇과 견줘야 하는지, (3) 다음 달의 성능을
# 알려면 데이터를 어떻게 나누고 무엇을 보고해야 하는지 6~10문장으로 적으세요.
#
# *채점 기준*: 누수를 세 가지 이상 짚고 원리를 설명했다(2점. 두 가지면 1점), 기준선과 견주고 점수의 흔들림을 숫자로 말했다(1점), 새 병원이라는
# 쓰임에 맞는 분할을 제안하며 잰 숫자를 근거로 들었다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# A company reports: "In three years we collected 5,000 X-ray images of 800 patients in three hospitals. 4% of the images show
# pneumonia. On all images we chose the 100 features that correlate best with pneumonia and standardised them. Then we split the
# images at random and tested on 20%: the accuracy is 97.5%, the best of 30 seeds. From next month on the service runs in new
# hospitals."
#
# Using **the figures you measured above**, write in 6 to 10 sentences (1) at least three leaks, and why each swells the score,
# (2) what 97.5% should be compared with, and (3) how to split the data, and what to report, in order to know next month's
# performance.
#
# *Rubric*: names at least three leaks and how they work (2 points; two leaks: 1 point); compares with the baseline and says in
# figures how much the score wobbles (1 point); proposes a split that fits the use in new hospitals, argued with measured
# figures (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="6e74378f5e9d"
# ## 더 읽어 보기
#
# - Kapoor, Narayanan, *Leakage and the reproducibility crisis in machine-learning-based science*, Patterns 4(9) (2023): 누수
#   여덟 가지와 점검표
# - Kaufman, Rosset, Perlich, Stitelman, *Leakage in Data Mining*, ACM TKDD 6(4) (2012): 누수라는 말의 정의와 실제 대회의 사례
# - Ambroise, McLachlan, *Selection bias in gene extraction on the basis of microarray gene-expression data*, PNAS 99(10) (2002): 동전
#   던지기 실험의 실제 사건
# - Hastie, Tibshirani, Friedman, *The Elements of Statistical Learning*, 2판 (2009), 7.10절: 교차 검증의 바른 방법과 틀린 방법
# - Street, Wolberg, Mangasarian, *Nuclear feature extraction for breast tumor diagnosis* (1993): 이 데이터가 어떻게 만들어졌는지

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Kapoor, Narayanan, *Leakage and the reproducibility crisis in machine-learning-based science*, Patterns 4(9) (2023): eight
#   kinds of leakage and a checklist
# - Kaufman, Rosset, Perlich, Stitelman, *Leakage in Data Mining*, ACM TKDD 6(4) (2012): a definition, and cases from competitions
# - Ambroise, McLachlan, *Selection bias in gene extraction on the basis of microarray gene-expression data*, PNAS 99(10) (2002):
#   the coin experiment as it really happened
# - Hastie, Tibshirani, Friedman, *The Elements of Statistical Learning*, 2nd edition (2009), section 7.10: the right and the wrong
#   way to cross-validate
# - Street, Wolberg, Mangasarian, *Nuclear feature extraction for breast tumor diagnosis* (1993): how this data was made
