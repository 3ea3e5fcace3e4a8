# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="9ac6a9406eb0"
# # 1.1 배열과 반복문의 비용
#
# **이 단원을 마치면** 반복문으로 짠 계산을 배열 연산으로 바꾸고, 그 차이를 직접 재서 설명할 수 있어요.
#
# **왜 중요할까요?** 추천, 검색, 챗봇처럼 사람이 기다리는 AI 서비스는 같은 계산을 하루에 수백만 번 해요. 같은 답을 1초에 내는
# 코드와 0.005초에 내는 코드가 있다면, 앞의 것은 서버를 200대 빌려야 하고 뒤의 것은 한 대면 충분해요. 이 과정의 마지막 과목까지
# 이어질 질문, "이 계산은 왜 이만큼 걸리고 얼마까지 줄일 수 있을까?"를 여기서 처음 만나 봐요.
#
# **걸리는 시간** 3시간 · **먼저 알아야 할 것** 파이썬의 변수, 함수, `for` 반복문

# %% [markdown] id="title" lang="en"
# # 1.1 Arrays and the price of loops
#
# **After this unit** you can turn a computation written with loops into array operations, measure the difference yourself,
# and explain it.
#
# **Why it matters.** An AI service that people wait for (recommendation, search, a chatbot) repeats the same computation
# millions of times a day. If one version takes a second and another 0.005 seconds, the first needs 200 rented servers and the
# second needs one. Here you meet the question that runs through to the last course: why does this take as long as it takes,
# and how far down can it go?
#
# **Time** 3 hours · **Before you start** Python variables, functions, the `for` loop

# %% [markdown] id="how-to" lang="ko" reviewed="7d8e25bc9922"
# ## 이 노트북을 쓰는 법
#
# 노트북은 글과 코드가 든 **셀**을 이어 놓은 거예요. 셀을 고르고 **Shift + Enter**를 누르면 실행되고 다음 셀로 넘어가요. 아래 셀은 위 셀에서
# 만든 것을 쓰니까 **위에서부터 차례로** 실행하세요.
#
# - *여기에 코드를 쓰세요*라고 적힌 셀이 과제예요. `raise NotImplementedError()`를 지우고 그 자리에 코드를 써요.
# - 그 아래에 `assert`가 있는 셀은 검사예요. 아무 말 없이 지나가면 통과한 거예요. 빨간 글이 나오면 **맨 아랫줄**부터 읽으세요. 어디를 살펴볼지
#   적혀 있어요. 검사 속의 `submission.이름`은 여러분이 그 이름으로 만든 함수예요.
# - 제출하면 여기에 보이지 않는 검사도 해요. 그러니 예와 다른 크기나 값으로도 스스로 시험해 보세요. 빈 셀을 몇 개 더 만들어도 괜찮아요.

# %% [markdown] id="how-to" lang="en"
# ## How to use this notebook
#
# A notebook is a row of **cells** with text or code. Choose a cell and press **Shift + Enter** to run it and go to the next. A
# cell uses what cells above it have made, so run them **from top to bottom**.
#
# - A cell that says *YOUR CODE HERE* is a task. Delete `raise NotImplementedError()` and write your code in its place.
# - The cell with `assert` below it is a check. If it says nothing, you passed. If red text appears, read **the last line** first:
#   it says where to look. `submission.NAME` in a check is the function that you made under that name.
# - After you submit, there are checks that you do not see here. So try your code with other sizes and values than the example's;
#   add empty cells for that as you like.

# %% id="setup" kind="locked"
import time

import matplotlib.pyplot as plt
import numpy as np

from grading.checks import gate, hint, speedup, submission, when_solved

# %% [markdown] id="what-is-an-array" lang="ko" reviewed="1a1c0a625fb6"
# ## 배열이란
#
# 파이썬 리스트는 *서로 다른 물건을 가리키는 쪽지들의 묶음*이에요. 숫자 백만 개를 더하려면 쪽지를 백만 번 펴서, 매번 "이건
# 무슨 종류의 값이지?" 하고 확인해야 해요. NumPy 배열은 *같은 종류의 숫자를 빈틈없이 늘어놓은 한 덩어리*예요. 종류를 한 번만
# 확인하면 나머지는 기계어 반복문이 쉬지 않고 처리해요.
#
# 배열에는 모양(`shape`)이 있어요. 사람 4명의 키와 몸무게를 담은 표는 4행 2열, 즉 모양이 `(4, 2)`인 배열이에요.

# %% [markdown] id="what-is-an-array" lang="en"
# ## What an array is
#
# A Python list is *a bundle of notes that each point at some object*. To add a million numbers, a million notes must be
# unfolded, each with the question "what kind of value is this?". A NumPy array is *one block of numbers of the same kind, side
# by side*. The kind is checked once, and a loop in machine code does the rest.
#
# An array has a shape. A table with height and weight of four people has 4 rows and 2 columns: an array of shape `(4, 2)`.

# %% id="first-array"
people = np.array([[172.0, 68.0], [160.0, 52.0], [181.0, 80.0], [167.0, 61.0]])
print(people.shape, people.dtype, people.nbytes)
print(people[0])
print(people[:, 1])
print(people.mean(axis=0))

# %% [markdown] id="axis" lang="ko" reviewed="b4f8c0adf6fd"
# 첫 줄은 모양과 숫자의 종류와 전체 바이트 수예요. `float64`는 숫자 하나에 8바이트를 쓰는 실수이니 4 × 2 × 8 = 64바이트가 맞아요.
#
# `people[0]`은 첫째 행, `people[:, 1]`은 둘째 열이에요(번호는 0부터, `:`은 "모두"). `mean(axis=0)`은 **행을 위에서 아래로 훑어서 열마다 하나씩** 평균을 내요.
# `axis`는 "없어지는 방향"이라고 기억하면 쉬워요. `(4, 2)`에서 `axis=0`이 없어지면 `(2,)`가 남아요.

# %% [markdown] id="axis" lang="en"
# The first line shows the shape, the kind of number and how many bytes there are. A `float64` is a real number of 8 bytes, so
# 4 × 2 × 8 = 64 bytes is right.
#
# `people[0]` is the first row and `people[:, 1]` the second column (counting from 0; `:` means "all"). `mean(axis=0)` **runs over the rows and leaves one mean a
# column**. Remember `axis` as "the direction that disappears": when `axis=0` of `(4, 2)` is gone, `(2,)` is left.

# %% [markdown] id="elementwise" lang="ko" reviewed="fc006fa12cc1"
# ### 같은 자리끼리 한꺼번에
#
# 배열끼리 `+ - * / **`를 하면 **같은 자리의 숫자끼리** 계산해요. 숫자 하나와 계산하면 모든 자리에 적용돼요. 비교(`>`, `==`)의 결과는 참과 거짓의
# 배열이고, `np.where(조건, a, b)`는 참인 자리에는 `a`를, 거짓인 자리에는 `b`를 넣어요. `np.maximum(a, b)`는 자리마다 큰 쪽을 골라요. `sum`, `mean`,
# `std`(표준편차), `min`, `max`는 여럿을 하나로 줄이고, `argmin`과 `argmax`는 가장 작은 값과 가장 큰 값의 **번호**를 알려 줘요. 아래 결과를 먼저
# 손으로 예상해 보세요.

# %% [markdown] id="elementwise" lang="en"
# ### Place by place, all at once
#
# `+ - * / **` of two arrays works **on the numbers in the same place**; with a single number it is applied to every place. A
# comparison (`>`, `==`) gives an array of true and false, and `np.where(condition, a, b)` takes `a` where it is true and `b`
# where it is false; `np.maximum(a, b)` takes the larger one in each place. `sum`, `mean`, `std` (the standard deviation), `min`
# and `max` reduce many to one, and `argmin` and `argmax` tell the **number of the place** with the smallest and the largest
# value. Work out the results below by hand first.

# %% id="elementwise-code"
a, b = np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])
print(a + b, a * b, a**2, b - 1)
print(a > 1.5, np.where(a > 1.5, a, 0.0), np.maximum(a, 2.0))
print(a.sum(), b.std(), b.argmin(), b.argmax())

# %% [markdown] id="price" lang="ko" reviewed="17accf070e35"
# ### 반복문의 비용을 재 보기
#
# 말로만 듣지 말고 재 볼게요. 숫자 백만 개를 네 가지 방법으로 더하고, **숫자 하나에 몇 나노초**가 드는지 봐요. 나노초는 10억분의
# 1초예요.

# %% [markdown] id="price" lang="en"
# ### Measure what a loop costs
#
# Do not take our word for it. Add a million numbers in four ways and see **how many nanoseconds a number costs**. A nanosecond
# is a billionth of a second.

# %% id="price-code" kind="demo"
def loop_sum(numbers):
    total = 0.0
    for number in numbers:
        total += number
    return total


def seconds(function, *arguments, repeats=5):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


as_list = [float(i) for i in range(1_000_000)]
as_array = np.array(as_list)
for label, function, numbers in [
    ("sum-loop", loop_sum, as_list),
    ("sum-builtin", sum, as_list),
    ("sum-array", np.sum, as_array),
    ("sum-mixed", loop_sum, as_array),
]:
    print(hint(label, ns=f"{1e9 * seconds(function, numbers) / len(numbers):.2f}"))

# %% [markdown] id="price-seen" lang="ko" reviewed="f3e73b5c766b"
# 마지막 줄이 뜻밖이지 않나요? 배열을 **파이썬 반복문으로** 훑으면 리스트보다도 느려요. 꺼낼 때마다 숫자를 파이썬 객체로 포장해야
# 하거든요. 배열은 통째로 맡길 때 빨라요.

# %% [markdown] id="price-seen" lang="en"
# Is the last line a surprise? Walking over an array **with a Python loop** is slower than over a list: each number must be
# wrapped into a Python object on its way out. Arrays are fast when the whole work is handed over.

# %% [markdown] id="broadcasting-text" lang="ko" reviewed="799dd3ee27e5"
# ### 브로드캐스팅
#
# 모양이 다른 두 배열을 계산하면 NumPy는 **뒤에서부터** 모양을 맞춰 봐요. 길이가 같거나 한쪽이 1이면 맞는 거예요. 길이가 1인 쪽은
# 복사하지 않고도 늘어난 것처럼 쓰여요. `[:, None]`은 길이 1인 축을 끼워 넣는다는 뜻이에요.

# %% [markdown] id="broadcasting-text" lang="en"
# ### Broadcasting
#
# When two arrays of different shapes meet, NumPy compares their shapes **from the end**. Lengths match when they are equal or
# one of them is 1. The side of length 1 is used as if it were repeated, without being copied. `[:, None]` inserts an axis of
# length 1.

# %% id="broadcasting"
print((people - people.mean(axis=0)).shape)
column, row = np.arange(3)[:, None], np.arange(4)[None, :]
print(column.shape, row.shape, (column * 10 + row).shape)
print(column * 10 + row)
try:
    people - people.mean(axis=1)
except ValueError as error:
    print(error)
print((people - people.mean(axis=1)[:, None]).shape)

# %% [markdown] id="broadcasting-seen" lang="ko" reviewed="47be51f1c5f7"
# 오류가 난 곳을 보세요. `people`은 `(4, 2)`인데 행마다의 평균은 `(4,)`예요. 뒤에서부터 맞추면 2와 4가 만나니 맞지 않아요. `[:, None]`으로 `(4, 1)`을
# 만들면 2와 1, 4와 4가 만나서 맞아요. 앞으로 모양 오류를 만나면 두 모양을 **오른쪽 끝을 맞춰** 위아래로 적어 보세요.

# %% [markdown] id="broadcasting-seen" lang="en"
# Look at the error. `people` is `(4, 2)` and the means of the rows are `(4,)`. Matched from the end, 2 meets 4, which does not fit.
# `[:, None]` makes it `(4, 1)`: 2 meets 1 and 4 meets 4, which fits. Whenever shapes clash, write the two below each other,
# **flush right**.

# %% [markdown] id="task-standardize" lang="ko" reviewed="1e51a90e1ebd"
# ## 과제 1. 표준화 (쉬움)
#
# 열마다 평균을 빼고 표준편차로 나눠서, 모든 열의 평균이 0, 표준편차가 1이 되게 하는 `standardize(table)`을 완성하세요.
#
# - `table`: 모양 `(n, d)`인 실수 배열
# - 돌려주는 값: 모양 `(n, d)`. 값이 모두 같은 열은 표준편차가 0이라 나눌 수 없으니 0으로 채워요.
# - 반복문 없이 3~6줄이면 충분해요.

# %% [markdown] id="task-standardize" lang="en"
# ## Task 1. Standardise (easy)
#
# Complete `standardize(table)`: subtract each column's mean and divide by its standard deviation, so that every column has
# mean 0 and standard deviation 1.
#
# - `table`: an array of floating-point numbers, of shape `(n, d)`
# - Returns: shape `(n, d)`. A column whose values are all equal has deviation 0 and cannot be divided; fill it with 0.
# - No loop; 3 to 6 lines are enough.

# %% id="standardize" kind="solution"
def standardize(table):
    ### BEGIN SOLUTION
    table = np.asarray(table, dtype=float)
    spread = table.std(axis=0)
    centred = table - table.mean(axis=0)
    return centred / np.where(spread == 0, 1.0, spread)
    ### END SOLUTION

# %% id="test-standardize" kind="test" points=2
table = np.array([[1.0, 10.0, 5.0], [2.0, 30.0, 5.0], [3.0, 20.0, 5.0]])
result = np.asarray(submission.standardize(table))
assert result.shape == table.shape, hint("standardize-shape")
assert np.isfinite(result).all(), hint("standardize-constant")
np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-9, err_msg=hint("standardize-mean"))
spread = result.std(axis=0)
np.testing.assert_allclose(spread, [1, 1, 0], atol=1e-9, err_msg=hint("standardize-std"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
mean, spread = [5.0, -300.0, 0.001, 1e6, 0.0, 0.0], [2.0, 50.0, 0.0001, 0.1, 1e-5, 1.0]
table = generator.normal(mean, spread, size=(200, 6))
table[-1] = table[0]
table[:, 4] -= table[:, 4].mean()
table[:, 5] = 7.0
result = np.asarray(submission.standardize(table))
expected = (table[:, :5] - table[:, :5].mean(axis=0)) / table[:, :5].std(axis=0)
text = hint("standardize-columns")
np.testing.assert_allclose(result[:, :5], expected, rtol=1e-6, atol=1e-7, err_msg=text)
np.testing.assert_allclose(result[:, 5], 0, atol=1e-9, err_msg=hint("standardize-constant"))
small = np.asarray(submission.standardize(np.array([[2.0], [1.0], [3.0]])))
np.testing.assert_allclose(small.std(), 1, atol=1e-9, err_msg=hint("standardize-std"))
one = np.asarray(submission.standardize(np.array([[3.0, 4.0]])))
np.testing.assert_allclose(one, np.zeros((1, 2)), atol=1e-9, err_msg=hint("standardize-one-row"))
### END HIDDEN TESTS

# %% [markdown] id="predict" lang="ko" reviewed="9bba8da561ec"
# ## 먼저 예상해 보세요
#
# 점 300개와 중심 200개 사이의 거리를 모두 구해 볼게요. 쌍이 60,000개예요. 아래 `distance_with_loops`는 파이썬 반복문으로 계산해요.
# 같은 일을 배열 연산으로 바꾸면 **몇 배** 빨라질까요? 실행하기 전에 `my_guess`에 숫자를 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Let us find all distances between 300 points and 200 centres: 60,000 pairs. `distance_with_loops` below uses Python loops.
# **How many times** faster will the same work be as array operations? Write a number into `my_guess` before you run on. It is
# not graded.

# %% id="guess"
my_guess = 2

# %% id="loops" kind="locked"
def distance_with_loops(points, centres):
    result = [[0.0] * len(centres) for _ in points]
    for i, point in enumerate(points):
        for j, centre in enumerate(centres):
            total = 0.0
            for a, b in zip(point, centre):
                total += (a - b) ** 2
            result[i][j] = total**0.5
    return np.array(result)

# %% [markdown] id="example" lang="ko" reviewed="1632f55935dd"
# ## 따라 해 보기
#
# 점 하나와 중심 여러 개라면 이렇게 할 수 있어요. `point`의 모양은 `(d,)`, `centres`는 `(m, d)`예요. 빼면 브로드캐스팅으로 `(m, d)`가
# 되고, 제곱해서 마지막 축을 더하면 `(m,)`가 남아요.

# %% [markdown] id="example" lang="en"
# ## A worked example
#
# For one point and several centres it goes like this. `point` has shape `(d,)` and `centres` `(m, d)`. Their difference is
# broadcast to `(m, d)`; squared and summed over the last axis, `(m,)` is left.

# %% id="example-code"
point = np.array([0.0, 0.0])
centres = np.array([[3.0, 4.0], [6.0, 8.0], [1.0, 0.0]])
difference = centres - point
print(difference.shape)
print(np.sqrt((difference**2).sum(axis=-1)))

# %% [markdown] id="task-distance" lang="ko" reviewed="06ffc9a184a8"
# ## 과제 2. 모든 쌍의 거리 (보통)
#
# `pairwise_distance(points, centres)`를 반복문 없이 완성하세요.
#
# - `points`: 모양 `(n, d)`, `centres`: 모양 `(m, d)`
# - 돌려주는 값: 모양 `(n, m)`. `[i, j]` 자리에 i번째 점과 j번째 중심의 유클리드 거리
# - 축을 하나 끼워 넣어(`[:, None, :]`) 브로드캐스팅해도 좋고, $\lVert a-b\rVert^2 = \lVert a\rVert^2 + \lVert b\rVert^2 - 2a\cdot b$를
#   써도 좋아요. 뒤의 방법은 더 빠르지만, 반올림 때문에 제곱이 아주 조금 음수가 될 수 있어요. 음수의 제곱근은 무엇이 될까요?
# - `.T`는 행과 열을 바꾸고, `points @ centres.T`는 모든 쌍의 $a\cdot b$(같은 자리끼리 곱해서 더한 값)를 `(n, m)`으로 한꺼번에 구해요.

# %% [markdown] id="task-distance" lang="en"
# ## Task 2. The distance of every pair (medium)
#
# Complete `pairwise_distance(points, centres)` without a loop.
#
# - `points`: shape `(n, d)`, `centres`: shape `(m, d)`
# - Returns: shape `(n, m)`; at `[i, j]` the Euclidean distance of point i and centre j
# - You may insert an axis (`[:, None, :]`) and broadcast, or use $\lVert a-b\rVert^2 = \lVert a\rVert^2 + \lVert b\rVert^2 - 2a\cdot b$.
#   The second is faster, but rounding can make a square slightly negative. What is the square root of a negative number?
# - `.T` swaps rows and columns, and `points @ centres.T` gives $a\cdot b$ (multiply place by place, add up) of every pair at once,
#   as `(n, m)`.

# %% id="pairwise-distance" kind="solution"
def pairwise_distance(points, centres):
    ### BEGIN SOLUTION
    points, centres = np.asarray(points), np.asarray(centres)
    lengths = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None, :]
    return np.sqrt(np.maximum(lengths - 2 * points @ centres.T, 0))
    ### END SOLUTION

# %% id="test-distance" kind="test" points=3
points = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
centres = np.array([[0.0, 0.0], [6.0, 8.0]])
result = np.asarray(submission.pairwise_distance(points, centres))
assert result.shape == (3, 2), hint("distance-shape")
expected = distance_with_loops(points, centres)
np.testing.assert_allclose(result, expected, atol=1e-5, err_msg=hint("distance-value"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for n, m, d in [(40, 7, 5), (7, 40, 1), (12, 12, 12), (5, 6, 100)]:
    points, centres = generator.normal(size=(n, d)), generator.normal(size=(m, d))
    result = np.asarray(submission.pairwise_distance(points, centres))
    expected = np.sqrt(((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=-1))
    assert result.shape == (n, m), hint("distance-shape")
    np.testing.assert_allclose(result, expected, atol=1e-5, err_msg=hint("distance-value"))
### END HIDDEN TESTS

# %% id="test-distance-edges" kind="test" points=2
corners = np.array([[1.0, 2.0], [3.0, 4.0]])
result = np.asarray(submission.pairwise_distance(corners, corners))
assert result.shape == (2, 2), hint("distance-shape")
np.testing.assert_allclose(result, result.T, atol=1e-5, err_msg=hint("distance-value"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for n, m in [(1, 1), (1, 4), (4, 1)]:
    points, centres = generator.normal(size=(n, 3)), generator.normal(size=(m, 3))
    one = np.asarray(submission.pairwise_distance(points, centres))
    assert one.shape == (n, m), hint("distance-one-row")
    expected = distance_with_loops(points, centres)
    np.testing.assert_allclose(one, expected, atol=1e-5, err_msg=hint("distance-one-row"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
wide = np.asfortranarray(generator.normal(size=(30, 6)))
expected = np.sqrt(((wide[:, None, :] - wide[None, ::2, :]) ** 2).sum(axis=-1))
result = np.asarray(submission.pairwise_distance(wide, wide[::2]))
np.testing.assert_allclose(result, expected, atol=1e-5, err_msg=hint("distance-layout"))
close = wide + 1e-4 * generator.normal(size=wide.shape)
result, expected = submission.pairwise_distance(wide, close), distance_with_loops(wide, close)
np.testing.assert_allclose(result, expected, atol=1e-5, err_msg=hint("distance-value"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
far = generator.normal(size=(200, 8)) + 1e4
own = np.asarray(submission.pairwise_distance(far, far))
assert not np.isnan(own).any(), hint("distance-round-off")
assert (own >= 0).all() and own.diagonal().max() < 0.01, hint("distance-diagonal")
### END HIDDEN TESTS

# %% [markdown] id="task-nearest" lang="ko" reviewed="5ec9a5567a4f"
# ## 과제 3. 가장 가까운 중심 (보통)
#
# 각 점에서 가장 가까운 중심의 **번호**를 돌려주는 `nearest(points, centres)`를 완성하세요. 검색 서비스가 비슷한 문서를 찾을 때
# 하는 일이 바로 이거예요.
#
# - 돌려주는 값: 모양 `(n,)`, 정수. 거리가 같으면 번호가 작은 중심을 골라요.

# %% [markdown] id="task-nearest" lang="en"
# ## Task 3. The nearest centre (medium)
#
# Complete `nearest(points, centres)`, which returns the **number** of the centre that is nearest to each point. That is what a
# search service does when it looks for similar documents.
#
# - Returns: shape `(n,)`, integers. Of equally near centres, the one with the smaller number.

# %% id="nearest" kind="solution"
def nearest(points, centres):
    ### BEGIN SOLUTION
    return pairwise_distance(points, centres).argmin(axis=1)
    ### END SOLUTION

# %% id="test-nearest" kind="test" points=2
points = np.array([[0.0, 0.0], [5.0, 5.0], [9.0, 9.0], [4.0, 4.0]])
centres = np.array([[0.0, 1.0], [10.0, 10.0]])
result = np.asarray(submission.nearest(points, centres))
assert result.shape == (4,), hint("nearest-shape")
assert np.issubdtype(result.dtype, np.integer), hint("nearest-integers")
np.testing.assert_array_equal(result, [0, 0, 1, 0], err_msg=hint("nearest-value"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for scale in (1, 1000):
    points = scale * generator.normal(size=(100, 3))
    centres = scale * generator.normal(size=(600, 3))
    expected = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=-1).argmin(axis=1)
    result = submission.nearest(points, centres)
    np.testing.assert_array_equal(result, expected, err_msg=hint("nearest-value"))
grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), axis=-1).reshape(-1, 2)
centres = generator.permutation(np.concatenate([grid, grid]))
expected = ((grid[:, None] + 0.5 - centres) ** 2).sum(axis=-1).argmin(axis=1)
tied = submission.nearest(grid + 0.5, centres)
np.testing.assert_array_equal(tied, expected, err_msg=hint("nearest-tie"))
one = np.asarray(submission.nearest(np.zeros((1, 2)), np.array([[1.00001, 0.0], [0.0, 1.0]])))
assert one.shape == (1,), hint("nearest-shape")
np.testing.assert_array_equal(one, [1], err_msg=hint("nearest-value"))
### END HIDDEN TESTS

# %% [markdown] id="measure" lang="ko" reviewed="c75423801b42"
# ## 이제 재 봅시다
#
# 시간을 잴 때는 세 가지를 지켜요. 순서를 번갈아 가며 재고, 매번 새 입력을 쓰고, 결과가 같은지 꼭 확인해요. 여기서는 CPU 시간의
# 비율을 다섯 번 재서 가운데 값(중앙값)을 써요. 왜 평균이 아니라 중앙값인지는 1.6 단원에서 다뤄요.

# %% [markdown] id="measure" lang="en"
# ## Now measure
#
# Three rules when timing: alternate the order, use fresh inputs each time, and check that the results agree. Here the ratio of
# CPU times is taken five times and its median used. Unit 1.6 tells why not the mean.

# %% id="measure-tools" kind="locked"
def draw(round_number, n=300, m=200, d=16):
    generator = np.random.default_rng(round_number)
    return generator.normal(size=(n, d)), generator.normal(size=(m, d))


def agree(a, b):
    return np.allclose(a, b, atol=1e-5)

# %% id="measure-code" kind="demo"
with when_solved():
    found = speedup(pairwise_distance, distance_with_loops, draw, agree)
    print(found)
    print(hint("guess-said", guess=my_guess, ratio=round(found.ratio)))

# %% [markdown] id="task-speed" lang="ko" reviewed="3dfd160da20b"
# ## 과제 4. 성능 기준 넘기
#
# `pairwise_distance`가 반복문보다 **20배 이상** 빨라야 해요. 참고 풀이는 이 크기에서 백 배를 훌쩍 넘어요.

# %% [markdown] id="task-speed" lang="en"
# ## Task 4. The performance gate
#
# `pairwise_distance` must be **at least 20 times** faster than the loops. The reference goes well beyond a hundred times
# at this size.

# %% id="test-speed" kind="test" points=3
seed = int(np.random.default_rng().integers(1_000_000))
fresh = lambda i: draw(seed + i)
reached = speedup(submission.pairwise_distance, distance_with_loops, fresh, agree)
gate("pairwise_distance", reached, 20, hint("speed"))
### BEGIN HIDDEN TESTS
for shape in [(3000, 2, 2), (2, 3000, 2)]:
    long = lambda i: draw(seed + i, *shape)
    reached = speedup(submission.pairwise_distance, distance_with_loops, long, agree)
    assert reached.ratio > 4, hint("speed")
### END HIDDEN TESTS

# %% [markdown] id="limit" lang="ko" reviewed="23d95e081fa5"
# ## 물리적인 한계와 비교하기
#
# 아무리 잘 짠 코드라도 입력을 읽고 결과를 써넣는 시간보다 빨라질 수는 없어요. CPU의 캐시에 다 들어가지 않는 데이터라면 그 시간은 메모리
# 대역폭이 정해요. 이 컴퓨터의 메모리 대역폭을 직접 재서 그 한계선을 함께 그려 볼게요. 크기를 키울수록 배열 연산이 한계선에 가까워지는지 보세요.

# %% [markdown] id="limit" lang="en"
# ## Against the physical limit
#
# No code can be faster than reading its input and writing its result, and for data too large for the CPU's caches the memory's
# bandwidth decides how long that takes. Let us measure this machine's bandwidth and draw that limit too. Watch whether the
# array version comes closer to it as the size grows.

# %% id="plot" kind="demo"
block = np.ones(8_000_000)
target = np.empty_like(block)
bandwidth = 2 * block.nbytes / seconds(np.copyto, target, block)
sizes = [20, 50, 100, 200, 400]
loops, arrays, limit = [], [], []
with when_solved():
    for n in sizes:
        points, centres = draw(n, n, n)
        pairwise_distance(points, centres)
        loops.append(seconds(distance_with_loops, points, centres, repeats=3))
        arrays.append(seconds(lambda: [pairwise_distance(points, centres) for _ in range(20)]) / 20)
        limit.append((points.nbytes + centres.nbytes + 8 * n * n) / bandwidth)
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.loglog(sizes, 1e3 * np.array(loops), "o-", label=hint("plot-loops"))
    axes.loglog(sizes, 1e3 * np.array(arrays), "o-", label=hint("plot-arrays"))
    label = hint("plot-limit", bandwidth=f"{bandwidth / 1e9:.1f}")
    axes.loglog(sizes, 1e3 * np.array(limit), "k--", label=label)
    axes.set(xlabel=hint("plot-x"), ylabel=hint("plot-y"))
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()
    print(hint("achieved", percent=f"{100 * limit[-1] / arrays[-1]:.1f}", n=sizes[-1]))

# %% [markdown] id="limit-after" lang="ko" reviewed="3ff1d2b82187"
# 한계선에서 꽤 떨어져 있죠? 한계선은 입력을 한 번 읽고 결과를 한 번 쓰는 시간이에요. 그런데 배열 연산은 식의 단계마다 **중간 배열**을 하나씩
# 새로 만들어 메모리에 쓰고, 다음 단계에서 다시 읽어요. 여러분의 식에는 결과만 한 중간 배열이 몇 개나 생기나요? 이 왕복을 없애는 것이 뒤에 나올
# 여러 단원(특히 4.3)의 주제예요.

# %% [markdown] id="limit-after" lang="en"
# Quite far from the limit, isn't it? The limit is the time to read the input once and write the result once. Array operations,
# however, make a new **intermediate array** at each step of a formula, write it to memory, and read it again for the next step.
# How many of the result's size does your formula make? To avoid that traffic is the theme of several units to come (4.3 above
# all).

# %% [markdown] id="loses" lang="ko" reviewed="7eb76c91f592"
# ## 배열 연산이 손해일 때
#
# 배열 연산에도 준비 비용이 있어요. 아주 작은 입력에서는 반복문이 이기기도 해요. 점 하나, 중심 하나로 직접 확인해 보세요. 그리고
# `[:, None, :]` 방식은 `(n, m, d)` 크기의 중간 배열을 만들어요. 점 10만 개와 중심 1만 개, d=128이라면 메모리가 얼마나 필요할까요?

# %% [markdown] id="loses" lang="en"
# ## Where arrays lose
#
# An array operation has a cost of its own to get going. For very small input the loop can win: see for yourself with one point
# and one centre. And the `[:, None, :]` way makes an intermediate array of size `(n, m, d)`. With 100,000 points, 10,000
# centres and d = 128, how much memory would that be?

# %% id="loses-code" kind="demo"
tiny = (np.zeros((1, 2)), np.ones((1, 2)))
with when_solved():
    loop_us = 1e3 * seconds(lambda: [distance_with_loops(*tiny) for _ in range(1000)])
    array_us = 1e3 * seconds(lambda: [pairwise_distance(*tiny) for _ in range(1000)])
    print(hint("tiny", loop=f"{loop_us:.1f}", array=f"{array_us:.1f}"))
print(f"{100_000 * 10_000 * 128 * 8 / 1e12:.1f} TB")

# %% [markdown] id="question" lang="ko" reviewed="e9093dbe39ae"
# ## 생각을 글로 (손으로 채점, 3점)
#
# 여러분의 서비스가 사용자마다 벡터 100만 개와 거리를 비교해야 한다고 해 봐요. 위에서 **여러분이 잰 값**을 근거로, (1) 반복문으로는
# 왜 안 되는지, (2) 배열 연산의 시간이 무엇으로 정해지는지, (3) 메모리를 아끼려면 어떻게 나눠 계산할지 5~8문장으로 적으세요.
#
# *채점 기준*: 잰 숫자를 근거로 들었다(1점), 시간을 정하는 원인을 계산량이나 메모리로 설명했다(1점), 중간 배열을 줄이는 구체적인
# 방법을 말했다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 3 points)
#
# Suppose your service must compare every user with a million vectors. Using **the figures you measured above**, say in 5 to 8
# sentences (1) why loops will not do, (2) what decides the time of the array version, and (3) how you would split the work to
# save memory.
#
# *Rubric*: argues with measured figures (1 point); explains the time by computation or memory (1 point); names a concrete way
# to make the intermediate array smaller (1 point).

# %% [markdown] id="answer" kind="manual" points=3
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="fc7ecc69fb48"
# ## 더 읽어 보기
#
# - Harris 외, *Array programming with NumPy*, Nature 585 (2020): 배열이라는 생각이 어디서 왔는지
# - Williams, Waterman, Patterson, *Roofline*, CACM 52(4) (2009): 한계선을 그리는 법. 3.1 단원에서 다시 만나요.

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Harris et al., *Array programming with NumPy*, Nature 585 (2020): where the idea of the array comes from
# - Williams, Waterman, Patterson, *Roofline*, CACM 52(4) (2009): how to draw the limit; you meet it again in unit 3.1
