# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="330af1c0ed8d"
# # 1.3 경사하강법
#
# **이 단원을 마치면** 손실과 기울기를 직접 쓰고 검산할 수 있어요. 학습률을 감이 아니라 곡률로 정하고, 왜 어떤 학습은 발산하고 어떤 학습은
# 끝없이 느린지 설명하고, 걸음 수를 이론의 한계와 견줄 수 있어요. 마지막에는 같은 코드로 손글씨 숫자를 읽어요.
#
# **왜 중요할까요?** 선형회귀부터 언어 모델까지, 이 과정에서 만날 모델은 거의 모두 경사하강법으로 배워요. 학습에 드는 돈은 *걸음 수 × 한 걸음의
# 값*이에요. 학습률이 조금만 크면 GPU를 며칠 빌려 돌린 학습이 NaN으로 끝나고, 너무 작거나 입력의 단위가 들쭉날쭉하면 같은 자리에 오는 데
# 천 배가 넘는 걸음이 들어요. 둘 다 이 단원에서 직접 재 볼 거예요.
#
# **걸리는 시간** 4시간 · **먼저 알아야 할 것** 1.1 배열과 반복문의 비용(모양, `axis`, 표준화), 미분의 뜻(접선의 기울기)

# %% [markdown] id="title" lang="en"
# # 1.3 Gradient descent
#
# **After this unit** you can write a loss and its gradient and check them, choose a learning rate by curvature and not by feel,
# explain why one training diverges and another never ends, and hold the number of steps against what theory allows. At the
# end the same code reads handwritten digits.
#
# **Why it matters.** From linear regression to language models, nearly every model of this academy learns by gradient descent.
# Training costs *steps × the price of a step*. A learning rate slightly too large, and days of rented GPUs end in NaN; too
# small, or with inputs in wildly different units, and it takes more than a thousand times as many steps to get to the same
# place. You will measure both here.
#
# **Time** 4 hours · **Before you start** 1.1 Arrays and the price of loops (shapes, `axis`, standardising); what a derivative
# is (the slope of a tangent)

# %% id="setup" kind="locked"
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes, load_digits

from grading.checks import hint, submission, when_solved

# %% [markdown] id="data" lang="ko" reviewed="849d073c0eb9"
# ## 데이터와 모델
#
# 당뇨 환자 442명의 나이, 체질량지수, 혈압, 혈액 검사값 같은 열 10개와, 1년 뒤 병이 얼마나 나빠졌는지를 나타내는 숫자를 모은
# 데이터예요(Efron 외, 2004). 단위가 저마다 달라서 어떤 열은 100을 넘고 어떤 열은 1 안팎이에요.
#
# 모델은 가장 단순한 **선형회귀**예요. 열마다 **가중치**를 곱해 더하면 예측이 돼요. 상수항은 1로 채운 열을 앞에 붙여서 해결해요.
# `table @ weights`는 모든 행의 예측을 한꺼번에 계산해요. 이 단원은 최저점에 *얼마나 빨리* 닿는지를 보기 때문에, 당뇨 데이터는 나누지 않고
# 모두 써요. 처음 보는 데이터에서의 점수는 끝의 숫자 데이터에서 재요.

# %% [markdown] id="data" lang="en"
# ## The data and the model
#
# Ten columns on 442 diabetes patients (age, body mass index, blood pressure, blood tests) and a number that says how far the
# disease had progressed a year later (Efron et al., 2004). Each column has a unit of its own: some go beyond 100, others are
# around 1.
#
# The model is the plainest of all, **linear regression**: multiply each column by a **weight** and add up. A column of ones in
# front makes room for the constant. `table @ weights` predicts all rows at once. This unit asks *how fast* the minimum is
# reached, so the diabetes data is used whole; scores on unseen data come with the digits at the end.

# %% id="data-code" kind="locked"
bunch = load_diabetes(scaled=False)
people, progress = bunch.data, bunch.target


def with_ones(table):
    return np.column_stack([np.ones(len(table)), table])


print(people.shape, progress.shape, with_ones(people).shape)
for name, column in zip(bunch.feature_names, people.T):
    print(f"{name:4} {column.mean():8.2f} +- {column.std():6.2f}")

# %% [markdown] id="task-loss" lang="ko" reviewed="5c644b25ff8b"
# ## 과제 1. 손실 (쉬움)
#
# 예측이 얼마나 나쁜지를 숫자 하나로 나타낸 것이 **손실**이에요. 여기서는 *평균제곱오차*를 써요. 행마다 예측과 정답의 차이를 제곱해서
# **평균**을 내요.
#
# $$\text{loss}(w)=\frac{1}{n}\sum_{i=1}^{n}\left(x_i\cdot w-y_i\right)^2$$
#
# `loss(weights, table, target)`을 완성하세요. `weights`는 모양 `(d,)`, `table`은 `(n, d)`, `target`은 `(n,)`이고, 숫자 하나를 돌려줘요. 1로 채운
# 열은 이미 `table`에 들어 있다고 생각해요.

# %% [markdown] id="task-loss" lang="en"
# ## Task 1. The loss (easy)
#
# The **loss** says in one number how bad the predictions are. Here it is the *mean squared error*: square the difference of
# prediction and answer for each row and take the **mean**.
#
# $$\text{loss}(w)=\frac{1}{n}\sum_{i=1}^{n}\left(x_i\cdot w-y_i\right)^2$$
#
# Complete `loss(weights, table, target)`: `weights` of shape `(d,)`, `table` `(n, d)`, `target` `(n,)`; it returns a number. If
# there is to be a column of ones, it is in `table` already.

# %% id="loss" kind="solution"
def loss(weights, table, target):
    ### BEGIN SOLUTION
    return np.mean((table @ weights - target) ** 2)
    ### END SOLUTION

# %% id="test-loss" kind="test" points=1
small = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, -1.0]])
found = submission.loss(np.array([1.0, 3.0]), small, np.array([7.0, 2.0, 1.0]))
assert np.ndim(found) == 0, hint("loss-number")
np.testing.assert_allclose(found, (0 + 1 + 9) / 3, rtol=1e-5, err_msg=hint("loss-value"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for n, d in [(1, 1), (1, 5), (50, 3), (4, 9), (3000, 2)]:
    table, weights = generator.normal(size=(n, d)), generator.normal(size=d)
    target = (100 * generator.normal(size=n)).astype(int if n == 50 else float)
    errors = [sum(a * b for a, b in zip(row, weights)) - y for row, y in zip(table, target)]
    expected = sum(error**2 for error in errors) / n
    found = submission.loss(weights, table, target)
    np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=hint("loss-value"))
### END HIDDEN TESTS

# %% [markdown] id="example" lang="ko" reviewed="438832481d73"
# ## 따라 해 보기: 골짜기 내려가기
#
# 안개 낀 골짜기에서 가장 낮은 곳을 찾는다고 해 봐요. 멀리는 안 보이지만 발밑의 **기울기**는 알 수 있어요. 그러니 기울기의 반대쪽으로 한 걸음
# 가고, 다시 기울기를 재요. 걸음의 크기는 기울기에 **학습률**(rate)을 곱한 만큼이에요.
#
# $$w \leftarrow w-\text{rate}\times\text{slope}(w)$$
#
# 변수가 하나인 골짜기 $(w-3)^2$에서 학습률을 네 가지로 바꿔 볼게요. 0에서 출발해서 여덟 걸음이에요.

# %% [markdown] id="example" lang="en"
# ## A worked example: down into the valley
#
# You look for the lowest place of a foggy valley. You cannot see far, but you feel the **slope** under your feet. So you take a
# step against the slope, and feel again. The step is the slope times the **learning rate**.
#
# $$w \leftarrow w-\text{rate}\times\text{slope}(w)$$
#
# Here is the valley $(w-3)^2$ of a single variable, with four learning rates: eight steps from 0.

# %% id="example-code"
def valley(w):
    return (w - 3) ** 2


def slope_of_valley(w):
    return 2 * (w - 3)


for rate in (0.05, 0.4, 0.95, 1.05):
    w = 0.0
    path = [w]
    for _ in range(8):
        w = w - rate * slope_of_valley(w)
        path.append(w)
    print(f"{rate:4}", "  ".join(f"{w:6.2f}" for w in path))

# %% [markdown] id="example-after" lang="ko" reviewed="b913c7c4f168"
# 0.05는 느리고, 0.4는 금방 도착하고, 0.95는 골짜기를 건너뛰며 오락가락하고, 1.05는 갈수록 **멀어져요**. 이 골짜기가 굽은 정도, 곧
# **곡률**(이계도함수)은 2예요. 한 걸음마다 3까지의 거리는 $|1-\text{rate}\times 2|$배가 되니까, 학습률이 $2/\text{곡률}=1$을 넘는 순간 발산해요. 이 규칙은
# 변수가 수십억 개여도 똑같아요.
#
# 기울기를 맞게 구했는지는 어떻게 확인할까요? 아주 조금 움직여 보고 높이의 차이를 재면 돼요. 아래 `numerical_gradient`가 그 일을 해요.

# %% [markdown] id="example-after" lang="en"
# 0.05 is slow, 0.4 arrives soon, 0.95 jumps across the valley and back, and 1.05 gets **further away** each time. How much this
# valley bends (its second derivative, the **curvature**) is 2. Each step multiplies the distance to 3 by
# $|1-\text{rate}\times 2|$, so beyond a learning rate of $2/\text{curvature}=1$ it diverges. The rule is the same with billions
# of variables.
#
# How do you know that a slope is right? Move a tiny bit and measure the difference in height. That is what `numerical_gradient`
# below does.

# %% id="numerical" kind="locked"
def numerical_gradient(function, weights, h=1e-4):
    weights = np.array(weights, dtype=float)
    slopes = np.zeros_like(weights)
    for place in np.ndindex(weights.shape):
        kept = weights[place]
        weights[place] = kept + h
        above = function(weights)
        weights[place] = kept - h
        below = function(weights)
        weights[place] = kept
        slopes[place] = (above - below) / (2 * h)
    return slopes


print(slope_of_valley(1.0), numerical_gradient(lambda w: valley(w[0]), np.array([1.0])))

# %% [markdown] id="task-gradient" lang="ko" reviewed="da9c0a21b250"
# ## 과제 2. 기울기 (보통)
#
# 변수가 여럿이면 변수마다 기울기가 하나씩 있어요. 이것을 모은 벡터가 **기울기 벡터**(gradient)예요. 한 행의 오차를
# $e=x\cdot w-y$라고 하면, $e^2$을 $w_j$로 미분한 값은 $2\,e\,x_j$예요. 손실은 $e^2$을 모든 행에서 평균한 것이니, 기울기는 이 미분값을 평균한 것이에요.
#
# `gradient(weights, table, target)`을 반복문 없이 완성하세요. 모양 `(d,)`를 돌려줘요. 종이에 `d=2, n=3`인 경우를 적어 보고, 어떤 행렬 곱이 그
# 합을 한꺼번에 계산하는지 찾아보세요. 두 줄이면 충분해요. `numerical_gradient`는 검산에만 쓰고, 기울기는
# 식으로 구하세요.

# %% [markdown] id="task-gradient" lang="en"
# ## Task 2. The gradient (medium)
#
# With several variables there is a slope for each; together they are the **gradient**. Let the error of a row be
# $e=x\cdot w-y$; the derivative of $e^2$ with respect to $w_j$ is $2\,e\,x_j$. The loss is the mean of $e^2$ over all rows, so its
# gradient is the mean of these derivatives.
#
# Complete `gradient(weights, table, target)` without a loop; it returns shape `(d,)`. Write out the case `d=2, n=3` on paper
# and look for the matrix product that computes all these sums at once. Two lines are enough. `numerical_gradient` is for
# checking only: compute the gradient by formula.

# %% id="gradient" kind="solution"
def gradient(weights, table, target):
    ### BEGIN SOLUTION
    error = table @ weights - target
    return 2 * table.T @ error / len(table)
    ### END SOLUTION

# %% id="test-gradient" kind="test" points=2
small = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, -1.0]])
answer = np.array([7.0, 2.0, 1.0])


def reference_loss(weights):
    return np.mean((small @ weights - answer) ** 2)


found = np.asarray(submission.gradient(np.array([1.0, 3.0]), small, answer))
assert found.shape == (2,), hint("gradient-shape")
expected = numerical_gradient(reference_loss, np.array([1.0, 3.0]))
assert found @ expected > 0, hint("gradient-sign")
np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=hint("gradient-value"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for n, d in [(1, 1), (1, 4), (30, 6), (3, 8), (200, 2), (3000, 2)] * 2:
    table, weights = generator.normal(size=(n, d)), generator.normal(size=d)
    target = 10 * generator.normal(size=n)
    expected = numerical_gradient(lambda w: np.mean((table @ w - target) ** 2), weights)
    found = np.asarray(submission.gradient(weights, table, target))
    assert found.shape == (d,), hint("gradient-shape")
    text = hint("gradient-sizes", n=n, d=d)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4, err_msg=text)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
scaled = with_ones((people - people.mean(axis=0)) / people.std(axis=0))
best = np.linalg.lstsq(scaled, progress, rcond=None)[0]
found = np.asarray(submission.gradient(best, scaled, progress))
np.testing.assert_allclose(found, 0, atol=1e-2, err_msg=hint("gradient-minimum"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
large = 1e30 * generator.normal(size=442)
expected = 2 * scaled.T @ (scaled @ best - large) / 442
found = np.asarray(submission.gradient(best, scaled, large))
off = np.linalg.norm(found - expected) / np.linalg.norm(expected)
assert off < 1e-3, hint("gradient-large")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
from grading.checks import speedup


def with_loops(weights, table, target):
    error = np.array([row @ weights for row in table]) - target
    return np.array([2 * np.mean(error * column) for column in table.T])


close = lambda a, b: np.allclose(a, b, rtol=1e-3, atol=1e-3)
for n, d in [(2000, 3), (2, 300)]:
    drawn = lambda i: (generator.normal(size=d), generator.normal(size=(n, d)), np.ones(n))
    assert speedup(submission.gradient, with_loops, drawn, close).ratio > 4, hint("gradient-loop")
### END HIDDEN TESTS

# %% id="gradient-cost" kind="demo"
def seconds(function, repeats):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2]


with when_solved():
    table, weights = with_ones(people), np.zeros(11)
    by_formula = lambda: gradient(weights, table, progress)
    by_moving = lambda: numerical_gradient(lambda w: loss(w, table, progress), weights)
    off = np.abs(by_formula() - by_moving()).max() / np.abs(by_formula()).max()
    formula, moving = (f"{1e6 * seconds(way, 51):.0f}" for way in (by_formula, by_moving))
    print(hint("gradient-cost", formula=formula, moving=moving, off=f"{off:.0e}"))

# %% [markdown] id="gradient-cost-after" lang="ko" reviewed="5a411d26538f"
# 움직여 보는 방법은 검산에는 좋지만, 손실을 가중치마다 두 번씩 계산해야 해요. 가중치 11개면 22번, 70억 개면 140억 번이에요. 식으로 구한
# 기울기는 가중치가 몇 개든 손실을 몇 번 계산하는 시간이면 돼요. 이런 식을 알아서 만들어 주는 도구는 1.4 단원에서 직접 만들어요.

# %% [markdown] id="gradient-cost-after" lang="en"
# Moving a little is fine as a check, but computes the loss twice for every weight: 22 times for 11 weights, 14 billion times for
# 7 billion. The formula costs about as much as a few losses, however many weights there are. In unit 1.4 you build what derives
# such formulas by itself.

# %% [markdown] id="task-descend" lang="ko" reviewed="222213156447"
# ## 과제 3. 내려가기 (보통)
#
# `descend(slope, start, rate, steps)`를 완성하세요. `slope`는 어떤 점을 받아 그 점의 기울기를 돌려주는 **함수**예요. `steps`걸음 내려가면서 지나온
# 점을 모두 모아 돌려줘요.
#
# - 돌려주는 값: 모양 `(steps + 1, *start.shape)`인 실수 배열. 첫째는 출발점, 마지막은 도착점이에요.
# - `start`는 어떤 모양이든 될 수 있고, **정수** 배열일 수도 있어요.
# - `slope`는 비싸요. 꼭 `steps`번만 불러요. `steps`는 0일 수도 있어요.

# %% [markdown] id="task-descend" lang="en"
# ## Task 3. Descend (medium)
#
# Complete `descend(slope, start, rate, steps)`. `slope` is a **function** that takes a point and returns the gradient there. Go
# down `steps` steps, and return all the points on the way.
#
# - Returns: an array of floating-point numbers of shape `(steps + 1, *start.shape)`; first the start, last where you arrive.
# - `start` may have any shape, and may be an array of **integers**.
# - `slope` is expensive: call it exactly `steps` times. `steps` may be 0.

# %% id="descend" kind="solution"
def descend(slope, start, rate, steps):
    ### BEGIN SOLUTION
    point = np.array(start, dtype=float)
    path = [point]
    for _ in range(steps):
        point = point - rate * slope(point)
        path.append(point)
    return np.array(path)
    ### END SOLUTION

# %% id="test-descend" kind="test" points=2
calls = []


def bowl(point):
    calls.append(1)
    return 2 * (np.asarray(point) - 3.0)


path = np.asarray(submission.descend(bowl, np.array([0.0, 11.0]), 0.25, 4))
assert path.shape == (5, 2), hint("descend-shape")
np.testing.assert_allclose(path[0], [0, 11], err_msg=hint("descend-start"))
expected = 3 + np.array([-3.0, 8.0]) * 0.5 ** np.arange(5)[:, None]
assert len(np.unique(path, axis=0)) > 1, hint("descend-same")
np.testing.assert_allclose(path, expected, rtol=1e-5, err_msg=hint("descend-value"))
assert len(calls) == 4, hint("descend-calls", calls=len(calls), wanted=4)
### BEGIN HIDDEN TESTS
path = np.asarray(submission.descend(bowl, np.array([[1000, -4, 0]]), 0.1, 3))
assert path.shape == (4, 1, 3), hint("descend-shape")
expected = 3 + np.array([[997.0, -7.0, -3.0]]) * 0.8 ** np.arange(4)[:, None, None]
np.testing.assert_allclose(path, expected, rtol=1e-5, err_msg=hint("descend-integers"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
calls.clear()
path = np.asarray(submission.descend(bowl, np.array([5.0, 6.0]), 0.1, 0))
assert path.shape == (1, 2) and not calls, hint("descend-none")
path = np.asarray(submission.descend(bowl, np.array([3.0, 3.0]), 0.1, 5))
np.testing.assert_allclose(path, np.full((6, 2), 3.0), err_msg=hint("descend-value"))
assert len(calls) == 5, hint("descend-calls", calls=len(calls), wanted=5)
path = np.asarray(submission.descend(bowl, np.array([4.0, 2.0]), 1.5, 30))
expected = 3 + np.array([1.0, -1.0]) * (-2.0) ** np.arange(31)[:, None]
np.testing.assert_allclose(path, expected, rtol=1e-5, err_msg=hint("descend-value"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
def ripple(point):
    point = np.asarray(point)
    return np.sin(point) + 0.1 * point**3 + point.mean(axis=0)


generator = np.random.default_rng()
start = generator.uniform(-2, 2, size=(3, 2))
expected = [start]
for _ in range(40):
    expected.append(expected[-1] - 0.1 * ripple(expected[-1]))
path = np.asarray(submission.descend(ripple, start, 0.1, 40))
np.testing.assert_allclose(path, expected, rtol=1e-4, atol=1e-5, err_msg=hint("descend-value"))
### END HIDDEN TESTS

# %% [markdown] id="predict" lang="ko" reviewed="aa3e811e8a19"
# ## 먼저 예상해 보세요
#
# 이제 당뇨 데이터에서 내려가요. 같은 데이터를 두 가지로 준비해요. 하나는 단위를 그대로 둔 표, 하나는 열마다 평균 0, 표준편차 1로 **표준화**한
# 표예요. 담긴 정보가 같으니 최저 손실도 똑같아요. 학습률은 각각 발산하지 않는 선에서 알맞게 골라요.
#
# "늘 평균만 답하기"(기준선)에서 최저 손실까지의 차이를 90% 줄이는 데, 표준화한 표는 10걸음도 걸리지 않아요. **단위를 그대로 둔 표는 몇 걸음**이
# 걸릴까요? `steps_guess`에 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Now descend on the diabetes data, prepared in two ways: a table in its original units, and a table **standardised** to mean 0
# and standard deviation 1 in each column. They hold the same information and have the same lowest loss. Each gets a suitable
# learning rate that does not diverge.
#
# To close 90% of the gap between "always answer the mean" (the baseline) and the lowest loss, the standardised table takes fewer
# than 10 steps. **How many does the table in its original units take?** Write it into `steps_guess`. It is not graded.

# %% id="guess"
steps_guess = 20

# %% id="curvature" kind="locked"
def curvature(table):
    return np.linalg.eigvalsh(2 * table.T @ table / len(table))


tables = {
    "original": with_ones(people),
    "standardised": with_ones((people - people.mean(axis=0)) / people.std(axis=0)),
}
for table in tables.values():
    bends = curvature(table)
    print(f"{bends[0]:12.5f} {bends[-1]:14.3f} {bends[-1] / bends[0]:14,.0f}")

# %% id="predict-code" kind="demo"
won_per_hour, seconds_per_step = 5000, 0.5
with when_solved():
    needed = {}
    for name, table in tables.items():
        best = np.linalg.lstsq(table, progress, rcond=None)[0]
        lowest, baseline = loss(best, table, progress), progress.var()
        rate = 1 / curvature(table)[-1]
        slope = lambda weights: gradient(weights, table, progress)
        path = descend(slope, np.zeros(11), rate, 20_000)
        gaps = np.array([loss(weights, table, progress) for weights in path]) - lowest
        needed[name] = int(np.argmax(gaps < 0.1 * (baseline - lowest)))
        won = f"{needed[name] * seconds_per_step / 3600 * won_per_hour:,.0f}"
        left = f"{100 * gaps[-1] / (baseline - lowest):.1f}"
        print(hint(f"steps-{name}", steps=f"{needed[name]:,}", won=won, left=left))
    ratio = needed["original"] / needed["standardised"]
    print(hint("steps-ratio", ratio=f"{ratio:,.0f}", guess=steps_guess))

# %% [markdown] id="predict-after" lang="ko" reviewed="f9b404ae1bc3"
# 위에는 두 표의 가장 작은 곡률, 가장 큰 곡률, 그 비율이 차례로 찍혀 있어요. 이 비율을 **조건수** $\kappa$라고 해요. 단위가 들쭉날쭉한 표의
# 손실은 한쪽은 절벽, 한쪽은 거의 평지인 협곡이에요. 학습률은 절벽 쪽에서 발산하지 않을 만큼($2/\text{최대 곡률}$보다) 작아야 하니, 평지 쪽에서는
# 한 걸음에 거의 나아가지 못해요. 표준화는 절벽과 평지를 비슷하게 맞춰 줘요. 코드 한 줄이 걸음 수를 천 배 넘게 줄여 줘요.
#
# 금액은 한 걸음이 0.5초 걸리는 큰 모델을 한 시간에 5,000원인 GPU로 학습한다고 **가정**한 값이에요. 두 숫자를 바꿔 보세요.

# %% [markdown] id="predict-after" lang="en"
# Printed above are the smallest curvature of each table, the largest, and their ratio, the **condition number** $\kappa$. With
# units that differ wildly the loss is a canyon: a cliff in one direction, nearly flat in another. The learning rate must be small
# enough for the cliff (below $2/\text{largest curvature}$), and then a step hardly moves along the flat. Standardising makes
# cliff and flat alike. One line of code makes the way more than a thousand times shorter.
#
# The price **assumes** a large model with 0.5 s a step on a GPU of KRW 5,000 an hour. Change the two numbers.

# %% [markdown] id="task-fit" lang="ko" reviewed="8897124cc83d"
# ## 과제 4. 단위에 흔들리지 않는 학습 (어려움)
#
# `fit(table, target, steps)`를 완성하세요. 경사하강법으로 `steps`걸음 내려가고 `(weights, bias)`를 돌려줘요. `table`에는 1로 채운 열이 **없고**,
# 예측은 `table @ weights + bias`예요. `weights`의 모양은 `(d,)`예요.
#
# - 열의 단위가 무엇이든(미터든 밀리미터든, 섭씨든 화씨든) 잘 배워야 해요. 안에서 표준화하고 내려간 다음, **원래 단위의 가중치로 되돌려서**
#   돌려주세요. 표준화한 열에 곱한 가중치 $v$와 원래 열에 곱할 가중치 $w$는 어떤 관계일까요? 종이에 먼저 적어 보세요.
# - 학습률은 **곡률을 보고** 스스로 하나 정해서(`curvature`를 써도 좋아요) 모든 걸음에 똑같이 써요. 서로 닮은 열이 많으면 0.1로도 발산해요.
# - 가중치는 0에서 출발해요. 그러니 `steps`가 0이면 `weights`는 모두 0이에요.
# - 값이 모두 같은 열이 있어도 NaN이 나오면 안 돼요.
#
# 당뇨 데이터에서 20,000걸음이면 방정식을 바로 푼 답(닫힌 해)과 0.1% 안으로 같아야 해요.

# %% [markdown] id="task-fit" lang="en"
# ## Task 4. Training that does not mind units (hard)
#
# Complete `fit(table, target, steps)`: take `steps` steps of gradient descent and return `(weights, bias)`. `table` has **no**
# column of ones; the prediction is `table @ weights + bias`; `weights` has shape `(d,)`.
#
# - It must learn well whatever the columns' units are: metres or millimetres, Celsius or Fahrenheit. Standardise inside,
#   descend, and **turn the weights back into the original units**. How is the weight $v$ of a standardised column related to
#   the weight $w$ of the original one? Write it on paper first.
# - Choose one learning rate **by curvature** (you may use `curvature`) and use it for every step. With many columns that are
#   alike even 0.1 diverges.
# - The weights start from 0. So for `steps` = 0, `weights` are all 0.
# - A column whose values are all equal must not make NaN.
#
# On the diabetes data, 20,000 steps must agree with the equations solved directly (the closed form) to within 0.1%.

# %% id="fit" kind="solution"
def fit(table, target, steps):
    ### BEGIN SOLUTION
    mean, spread = table.mean(axis=0), table.std(axis=0)
    spread = np.where(spread == 0, 1.0, spread)
    scaled = with_ones((table - mean) / spread)
    rate = 1 / curvature(scaled)[-1]
    start = np.zeros(scaled.shape[1])
    path = descend(lambda point: gradient(point, scaled, target), start, rate, steps)
    weights = path[-1][1:] / spread
    return weights, path[-1][0] - mean @ weights
    ### END SOLUTION

# %% id="closed-form" kind="locked"
def closed_form(table, target):
    spread = table.std(axis=0)
    spread, mean = np.where(spread == 0, 1.0, spread), table.mean(axis=0)
    solved = np.linalg.lstsq(with_ones((table - mean) / spread), target, rcond=None)[0]
    return solved[1:] / spread, solved[0] - mean @ (solved[1:] / spread)


def distance_from_best(found, table, target):
    assert len(found) == 2, hint("fit-pair")
    weights, bias = np.asarray(found[0], dtype=float), float(np.squeeze(found[1]))
    assert weights.shape == table.shape[1:], hint("fit-shape")
    assert np.isfinite(weights).all() and np.isfinite(bias), hint("fit-finite")
    best_weights, best_bias = closed_form(table, target)
    best = table @ best_weights + best_bias
    return np.linalg.norm(table @ weights + bias - best) / np.linalg.norm(best - best.mean())

# %% id="test-fit" kind="test" points=4
found = submission.fit(people, progress, 20_000)
assert distance_from_best(found, people, progress) < 1e-3, hint("fit-closed")
start = submission.fit(people, progress, 0)
np.testing.assert_allclose(np.asarray(start[0]), 0, atol=1e-9, err_msg=hint("fit-no-steps"))
### BEGIN HIDDEN TESTS
best_weights, _ = closed_form(people, progress)
reached, wanted = np.asarray(found[0]) * people.std(axis=0), best_weights * people.std(axis=0)
assert np.linalg.norm(reached - wanted) < 1e-3 * np.linalg.norm(wanted), hint("fit-weights")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for _ in range(2):
    factor = 10.0 ** generator.uniform(-4, 4, size=10)
    shift = 100 * factor * generator.normal(size=10)
    changed = people * factor + shift
    again = submission.fit(changed, progress, 20_000)
    assert distance_from_best(again, changed, progress) < 1e-3, hint("fit-units")
    reached = np.asarray(again[0]) * changed.std(axis=0)
    assert np.linalg.norm(reached - wanted) < 1e-3 * np.linalg.norm(wanted), hint("fit-units")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for shared in (0.1, 1.0):
    alike = shared * generator.normal(size=(600, 1)) + 0.5 * generator.normal(size=(600, 100))
    alike[:60] *= 0.01
    target = alike @ generator.normal(size=100) + generator.normal(size=600)
    found = submission.fit(alike, target, 10_000)
    assert distance_from_best(found, alike, target) < 1e-3, hint("fit-alike")
flat = np.column_stack([generator.normal(size=80), np.full(80, 8.0), generator.normal(5, 1, 80)])
target = flat @ np.array([3.0, 0.0, -2.0]) + 1e3 + generator.normal(size=80)
found = submission.fit(flat, target, 3000)
assert distance_from_best(found, flat, target) < 1e-3, hint("fit-constant")
single = 1e3 * generator.normal(size=(30, 1))
target = 0.5 * single[:, 0] - 4 + generator.normal(size=30)
found = submission.fit(single, target, 3000)
assert distance_from_best(found, single, target) < 1e-3, hint("fit-single")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
counts = (1, 2, 10, 100, 1000)
some = [submission.fit(people, progress, steps) for steps in counts]
gaps = [distance_from_best(found, people, progress) for found in some]
assert gaps[0] > 1e-2, hint("fit-jumps")
assert gaps[-1] < gaps[0] and gaps[-1] < 0.2, hint("fit-slow")
standard = (people - people.mean(axis=0)) / people.std(axis=0)
bends, pull = 2 * standard.T @ standard / 442, 2 * standard.T @ progress / 442
walked = [np.asarray(weights) * people.std(axis=0) for weights, _ in some]
rate, path = walked[0] @ pull / (pull @ pull), [np.zeros(10)]
for _ in range(1000):
    path.append(path[-1] + rate * (pull - bends @ path[-1]))
for steps, reached in zip(counts, walked):
    off = np.linalg.norm(reached - path[steps]) / np.linalg.norm(path[steps])
    assert off < 1e-3, hint("fit-walk", steps=steps)
### END HIDDEN TESTS

# %% [markdown] id="limit" lang="ko" reviewed="1e92da350687"
# ## 이론의 한계와 비교하기
#
# 학습률 하나로 걷는 경사하강법에는 아무리 잘 골라도 넘지 못하는 선이 있어요. 곡률이 가장 작은($\mu$) 방향과 가장 큰($L$) 방향의 거리를
# **동시에** 줄여야 하거든요. 가장 공평한 학습률은 $2/(L+\mu)$이고, 이때 최저점까지의 거리는 가장 나쁜 방향에서 한 걸음마다 $(\kappa-1)/(\kappa+1)$배가 돼요. 학습률 하나로는 가장
# 나쁜 방향을 이보다 빨리 줄일 수 **없어요**.
#
# 표준화한 당뇨 데이터에서 여러분의 `descend`로 최저점까지의 거리를 재고, 이 한계선을 함께 그려 봐요. 하나 더, 지난 걸음의 방향을 기억하는
# **모멘텀**(Polyak, 1964)도 그려요. 이 한계는 문제가 아니라 *방법*에서 오는 것이거든요.

# %% [markdown] id="limit" lang="en"
# ## Against the limit of theory
#
# With a single learning rate, however well chosen, there is a line that gradient descent does not cross, because it must shrink
# the direction of smallest curvature $\mu$ and that of largest curvature $L$ **at the same time**. The fairest rate is
# $2/(L+\mu)$; then, in the worst direction, each step multiplies the distance to the minimum by $(\kappa-1)/(\kappa+1)$. No
# single learning rate can shrink the worst direction faster.
#
# With your `descend`, measure the distance to the minimum on the standardised diabetes data, and draw that limit beside it.
# One curve more: **momentum** (Polyak, 1964) remembers the direction of earlier steps. The limit belongs to the *method*,
# not to the problem.

# %% id="plot" kind="demo"
def with_momentum(slope, start, rate, keep, steps):
    path, step = [start], np.zeros_like(start)
    for _ in range(steps):
        step = keep * step - rate * slope(path[-1])
        path.append(path[-1] + step)
    return np.array(path)


table = tables["standardised"]
bends = curvature(table)
smallest, largest = bends[0], bends[-1]
kappa = largest / smallest
shrink = (kappa - 1) / (kappa + 1)
best = np.linalg.lstsq(table, progress, rcond=None)[0]
many = np.arange(3001)
rates = {"tenth": 0.1 / largest, "one": 1 / largest, "fair": 2 / (largest + smallest)}
rates["over"] = 2.02 / largest


def slope_here(weights):
    return gradient(weights, table, progress)


with when_solved():
    start = np.zeros(11)
    paths = {name: descend(slope_here, start, rate, 3000) for name, rate in rates.items()}
    rate = 4 / (largest**0.5 + smallest**0.5) ** 2
    keep = ((kappa**0.5 - 1) / (kappa**0.5 + 1)) ** 2
    paths["momentum"] = with_momentum(slope_here, start, rate, keep, 3000)
    figure, axes = plt.subplots(figsize=(7, 4.5))
    measured = {}
    for name, path in paths.items():
        measured[name] = np.linalg.norm(path - best, axis=1) / np.linalg.norm(best)
        axes.semilogy(many, np.clip(measured[name], 1e-12, 10), label=hint(f"plot-{name}"))
    axes.semilogy(many, shrink**many, "k--", label=hint("plot-limit", kappa=f"{kappa:.0f}"))
    axes.set(xlabel=hint("plot-steps"), ylabel=hint("plot-distance"), ylim=(1e-9, 20))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    plt.show()
    for name in ("tenth", "one", "fair"):
        per_step = np.log(measured[name][3000] / measured[name][1000]) / 2000
        percent = f"{100 * per_step / np.log(shrink):.0f}"
        print(hint("achieved", rate=hint(f"plot-{name}"), percent=percent))
    steps, fewer = (int(np.argmax(measured[name] < 1e-3)) for name in ("fair", "momentum"))
    print(hint("momentum", steps=f"{steps:,}", fewer=f"{fewer:,}"))

# %% [markdown] id="limit-after" lang="ko" reviewed="6b3e319a9391"
# 로그 눈금에서 직선이면 한 걸음마다 같은 비율로 줄어든다는 뜻이에요. 학습률을 $1/L$의 10분의 1로 낮추면 걸음 수가 10배가 되고, $2/L$을
# 1%만 넘겨도 발산해요(10을 넘는 값은 10에 그렸어요). 가장 공평한 학습률은 한계선과 **나란히** 내려가요. 한계선보다 아래에 있는 것은
# 출발점에서 가장 나쁜 방향의 몫이 작았기 때문이고, 기울어진 정도는 한계선과 같아요. 이론에 따르면 모멘텀의 걸음 수는 $\kappa$가 아니라
# $\sqrt{\kappa}$에 비례해요. 위에서 잰 두 걸음 수와 맞는지 견줘 보세요.

# %% [markdown] id="limit-after" lang="en"
# A straight line on a logarithmic scale shrinks by the same factor at each step. A tenth of $1/L$ takes ten times the steps;
# only 1% beyond $2/L$ diverges (drawn at 10 from there on). The fairest rate runs **parallel** to the limit: it lies below
# because the start had little of the worst direction in it, but it falls no more steeply. In theory the steps of momentum grow
# with $\sqrt{\kappa}$ instead of $\kappa$. Compare with the two numbers of steps measured above.

# %% [markdown] id="task-digits" lang="ko" reviewed="6d030be5fc32"
# ## 과제 5. 손글씨 숫자 (어려움)
#
# 닫힌 해가 **없는** 문제로 가요. 8×8 손글씨 숫자 1,797장을 읽어 0~9 가운데 하나로 분류해요. 가중치는 숫자마다 한 벌씩, 모양 `(d, c)`예요.
# `table @ weights`는 행마다 점수 `c`개를 줘요. **소프트맥스**가 점수 $z$를 확률로 바꾸고, **교차 엔트로피**는 정답의 확률에 로그를 씌워 손실로 삼아요.
#
# $$p_k=\frac{e^{z_k}}{\sum_m e^{z_m}},\qquad \text{loss}=-\frac1n\sum_i\log p_{i,\,y_i}$$
#
# 기울기는 놀랄 만큼 단순해요. 한 행에서 점수 $z_k$에 대한 기울기는 $p_k$이고, 정답인 칸만 $p_k-1$이에요. 여기서 가중치까지는 과제 2와 똑같은
# 방법으로 가요.
#
# - `cross_entropy(weights, table, labels)`: 손실, 숫자 하나
# - `cross_entropy_gradient(weights, table, labels)`: 식으로 구한 기울기, 모양 `(d, c)`
# - 점수가 1,000이면 $e^{1000}$은 넘쳐서 `inf`가 되고, 확률이 0으로 반올림되면 로그가 `-inf`가 돼요. 한 행의 점수에서 같은 수를 모두 빼도 확률은
#   그대로라는 점을 이용하고, 로그와 지수를 짝지어 정리해 보세요.

# %% [markdown] id="task-digits" lang="en"
# ## Task 5. Handwritten digits (hard)
#
# On to a problem **without** a closed form: read 1,797 handwritten digits of 8×8 points and tell which of 0 to 9 each is. There
# is one set of weights for each digit: shape `(d, c)`. `table @ weights` gives each row `c` scores. **Softmax** turns scores $z$
# into probabilities, and **cross-entropy** takes the logarithm of the right answer's probability as the loss.
#
# $$p_k=\frac{e^{z_k}}{\sum_m e^{z_m}},\qquad \text{loss}=-\frac1n\sum_i\log p_{i,\,y_i}$$
#
# Its gradient is surprisingly plain: in a row, the slope with respect to the score $z_k$ is $p_k$, and $p_k-1$ at the right
# answer. From there to the weights you go as in task 2.
#
# - `cross_entropy(weights, table, labels)`: the loss, a number
# - `cross_entropy_gradient(weights, table, labels)`: the gradient by formula, shape `(d, c)`
# - With a score of 1,000, $e^{1000}$ overflows to `inf`; and a probability rounded to 0 has the logarithm `-inf`. Use that
#   subtracting one number from all scores of a row does not change its probabilities, and simplify logarithm and exponential
#   where they meet.

# %% id="cross-entropy" kind="solution"
def cross_entropy(weights, table, labels):
    ### BEGIN SOLUTION
    scores = table @ weights
    scores = scores - scores.max(axis=1, keepdims=True)
    right = scores[np.arange(len(labels)), labels]
    return np.mean(np.log(np.exp(scores).sum(axis=1)) - right)
    ### END SOLUTION


def cross_entropy_gradient(weights, table, labels):
    ### BEGIN SOLUTION
    scores = table @ weights
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(len(labels)), labels] -= 1
    return table.T @ chances / len(table)
    ### END SOLUTION

# %% id="digits" kind="locked"
digits = load_digits()
pixels, numbers = with_ones(digits.data / 16), digits.target
shuffled = np.random.default_rng(0).permutation(len(numbers))
test_rows, train_rows = shuffled[:450], shuffled[450:]


def reference_cross_entropy(weights, table, labels):
    scores = np.asarray(table, dtype=np.longdouble) @ weights
    most = scores.max(axis=1)
    total = most + np.log(np.exp(scores - most[:, None]).sum(axis=1))
    return float(np.mean(total - scores[np.arange(len(labels)), labels]))

# %% id="test-cross-entropy" kind="test" points=4
some, answers = pixels[:20], numbers[:20]
nothing = np.zeros((65, 10))
found = submission.cross_entropy(nothing, some, answers)
assert np.ndim(found) == 0, hint("entropy-number")
np.testing.assert_allclose(found, np.log(10), rtol=1e-5, err_msg=hint("entropy-nothing"))
slopes = np.asarray(submission.cross_entropy_gradient(nothing, some, answers))
assert slopes.shape == (65, 10), hint("entropy-shape")
expected = numerical_gradient(lambda w: reference_cross_entropy(w, some, answers), nothing)
np.testing.assert_allclose(slopes, expected, rtol=1e-3, atol=1e-5, err_msg=hint("entropy-gradient"))
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
for n, d, c, lowest in [(1, 3, 2, 1), (12, 4, 3, 0), (7, 2, 6, 1), (7, 2, 6, 0)]:
    table, weights = generator.normal(size=(n, d)), 2 * generator.normal(size=(d, c))
    labels = lowest + generator.integers(0, c - 1, size=n)
    expected = reference_cross_entropy(weights, table, labels)
    found = submission.cross_entropy(weights, table, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=hint("entropy-value"))
    expected = numerical_gradient(lambda w: reference_cross_entropy(w, table, labels), weights)
    slopes = np.asarray(submission.cross_entropy_gradient(weights, table, labels))
    assert slopes.shape == (d, c), hint("entropy-shape")
    text = hint("entropy-gradient")
    np.testing.assert_allclose(slopes, expected, rtol=1e-3, atol=1e-5, err_msg=text)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
table, right, wrong = np.eye(3), np.array([0, 1, 2]), np.array([1, 2, 0])
expected = (np.eye(3) - np.eye(3)[wrong]) / 3
text = hint("entropy-large")
for shift in (0.0, np.array([[0.0], [-5000.0], [5000.0]])):
    weights = 1000 * np.eye(3) + shift
    found = submission.cross_entropy(weights, table, right)
    np.testing.assert_allclose(found, 0, atol=1e-6, err_msg=text)
    found = submission.cross_entropy(weights, table, wrong)
    np.testing.assert_allclose(found, 1000, rtol=1e-6, err_msg=text)
    slopes = np.asarray(submission.cross_entropy_gradient(weights, table, wrong))
    np.testing.assert_allclose(slopes, expected, atol=1e-6, err_msg=text)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
table, weights = generator.normal(size=(9, 4)), generator.normal(size=(4, 3))
labels = generator.integers(0, 3, size=9)
chances = np.exp(table @ weights)
chances /= chances.sum(axis=1, keepdims=True)
expected = table.T @ (chances - np.eye(3)[labels]) / 9
slopes = np.asarray(submission.cross_entropy_gradient(weights / 1e7, 1e7 * table, labels))
np.testing.assert_allclose(slopes / 1e7, expected, atol=1e-4, err_msg=hint("entropy-units"))
lifted, longer = np.vstack([np.full(3, 2000.0), weights]), with_ones(table)
slopes = np.asarray(submission.cross_entropy_gradient(lifted, longer, labels))
np.testing.assert_allclose(slopes[1:], expected, atol=1e-3, err_msg=hint("entropy-large"))
found, wanted = submission.cross_entropy(lifted, longer, labels), -np.log(chances)
wanted = wanted[np.arange(9), labels].mean()
np.testing.assert_allclose(found, wanted, atol=1e-3, err_msg=hint("entropy-large"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
weights, some, answers = np.zeros((65, 10)), pixels[train_rows], numbers[train_rows]
for _ in range(100):
    weights = weights - np.asarray(submission.cross_entropy_gradient(weights, some, answers))
reached = np.mean((pixels[test_rows] @ weights).argmax(axis=1) == numbers[test_rows])
assert reached > 0.9, hint("entropy-learns", percent=round(100 * reached))
### END HIDDEN TESTS

# %% [markdown] id="batches" lang="ko" reviewed="280e0636d105"
# ### 행을 얼마나 보고 한 걸음을 갈까
#
# 기울기를 정확히 재려면 모든 행을 봐야 해요. 하지만 방향만 대충 맞으면 되지 않을까요? 행 32개만 무작위로 보고 한 걸음 가는 것이 **미니배치** 경사하강법이에요.
# 시간은 흔들리니 **기울기를 잰 행의 수**를 세어서, 처음 보는 숫자의 정확도를 견줘 봐요.

# %% [markdown] id="batches" lang="en"
# ### How many rows for one step?
#
# An exact gradient looks at all rows. But is it not enough if the direction is roughly right? **Mini-batch** gradient descent
# looks at 32 random rows and takes a step. Times wobble, so count **the rows whose gradient was taken**, and compare the
# accuracy on unseen digits.

# %% id="batches-code" kind="demo"
def test_accuracy(weights):
    return 100 * np.mean((pixels[test_rows] @ weights).argmax(axis=1) == numbers[test_rows])


with when_solved():
    train, answers = pixels[train_rows], numbers[train_rows]
    slope = lambda weights: cross_entropy_gradient(weights, train, answers)
    path = descend(slope, np.zeros((65, 10)), 0.5, 300)
    whole = [(step * len(train), test_accuracy(path[step])) for step in range(301)]
    generator, weights, touched = np.random.default_rng(0), np.zeros((65, 10)), 0
    parts = [(0, test_accuracy(weights))]
    for _ in range(30):
        order = generator.permutation(len(train))
        for first in range(0, len(train), 32):
            rows = order[first : first + 32]
            weights = weights - 0.5 * cross_entropy_gradient(weights, train[rows], answers[rows])
            touched += len(rows)
            if first % 320 == 0:
                parts.append((touched, test_accuracy(weights)))
    figure, axes = plt.subplots(figsize=(7, 4))
    for key, curve in [("plot-whole", whole), ("plot-parts", parts)]:
        seen, reached = np.array(curve)[1:].T
        axes.semilogx(seen, reached, label=hint(key))
    baseline = 100 * np.mean(numbers[test_rows] == np.bincount(answers).argmax())
    axes.axhline(baseline, color="gray", linestyle=":", label=hint("plot-baseline"))
    axes.set(xlabel=hint("plot-rows"), ylabel=hint("plot-accuracy"), ylim=(0, 100))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()
    needed = [min(seen for seen, reached in curve if reached >= 90) for curve in (whole, parts)]
    ratio = f"{needed[0] / needed[1]:.0f}"
    print(hint("rows-to-90", whole=f"{needed[0]:,}", parts=f"{needed[1]:,}", ratio=ratio))
    last = [f"{curve[-1][1]:.1f}" for curve in (whole, parts)]
    print(hint("final", whole=last[0], parts=last[1], baseline=f"{baseline:.1f}"))

# %% [markdown] id="batches-after" lang="ko" reviewed="e34a2e56d6c1"
# 미니배치는 훨씬 적은 행을 보고 같은 정확도에 닿지만, 걸음이 흔들려서 곡선이 매끄럽지 않아요. 오늘날의 큰 모델은 모두 미니배치로 배워요. 학습 루프 전체는
# 2.2 단원에서 만들어요.

# %% [markdown] id="batches-after" lang="en"
# Mini-batches get to the same accuracy with far fewer rows, but their steps wobble and the curve is not smooth. All large
# models of today learn from mini-batches. Unit 2.2 builds the whole training loop.

# %% [markdown] id="loses" lang="ko" reviewed="acac9d18284a"
# ## 경사하강법이 지는 경우
#
# 선형회귀에는 방정식을 바로 푸는 **닫힌 해**가 있어요. 열이 `d`개면 곱셈이 대략 $nd^2+d^3/3$번이에요. 경사하강법은 한 걸음에 $2nd$번이죠. 어느 쪽이
# 빠를까요? 당뇨 데이터와, 열이 서로 무관한(조건수가 작은) 난수 표에서 오차가 1% 안에 들 때까지 필요한 곱셈을 세고 시간을 재요. 줄마다 앞이
# 닫힌 해, 뒤가 경사하강법이에요.

# %% [markdown] id="loses" lang="en"
# ## Where gradient descent loses
#
# Linear regression has a **closed form**: solve the equations. With `d` columns that takes about $nd^2+d^3/3$ multiplications;
# a step of gradient descent takes $2nd$. Which is faster? Count the multiplications and measure the time until the error is below
# 1%, on the diabetes data and on random tables whose columns have nothing to do with each other (a small condition number). In
# each line the closed form comes first, then gradient descent.

# %% id="loses-code" kind="demo"
def solve_directly(table, target):
    return np.linalg.solve(table.T @ table, table.T @ target)


def steps_to_one_percent(table, target, best, rate):
    weights, steps = np.zeros(table.shape[1]), 0
    while np.linalg.norm(weights - best) > 0.01 * np.linalg.norm(best):
        weights, steps = weights - rate * gradient(weights, table, target), steps + 1
    return steps


with when_solved():
    generator = np.random.default_rng(0)
    cases = [(tables["standardised"], progress)]
    for d in (100, 300, 1000):
        table = generator.normal(size=(4 * d, d))
        noise = generator.normal(size=4 * d)
        cases.append((table, table @ generator.normal(size=d) + noise))
    for table, target in cases:
        (n, d), bends = table.shape, curvature(table)
        best, rate = solve_directly(table, target), 2 / (bends[0] + bends[-1])
        steps = steps_to_one_percent(table, target, best, rate)
        direct = seconds(lambda: solve_directly(table, target), 5)
        descent = seconds(lambda: steps_to_one_percent(table, target, best, rate), 5)
        print(hint("race", n=n, d=d, steps=steps, kappa=f"{bends[-1] / bends[0]:.0f}"))
        millions = [f"{(n * d**2 + d**3 / 3) / 1e6:,.2f}", f"{steps * 2 * n * d / 1e6:,.2f}"]
        print(hint("race-counted", direct=millions[0], descent=millions[1]))
        print(hint("race-time", direct=f"{1e3 * direct:,.2f}", descent=f"{1e3 * descent:,.2f}"))

# %% [markdown] id="loses-after" lang="ko" reviewed="0ebe33ee0f83"
# 당뇨 데이터에서는 닫힌 해가 압도적이에요. 조건수가 크고 열은 몇 개 안 되니, 경사하강법을 쓸 까닭이 없죠. 열이 늘면 $d^2$, $d^3$이 무거워져서
# 곱셈의 수로는 경사하강법이 앞서요. 그것도 조건수가 작고 오차 1%면 충분할 때의 이야기이고, 곡률을 재는 데 든 시간은 뺐어요.
#
# 그런데 **시간은 곱셈의 수만큼 벌어지지 않아요.** 행렬끼리의 곱은 한 번 읽은 숫자를 여러 번 쓰지만, 경사하강법의 한 걸음은 표 전체를 메모리에서
# 읽어 숫자마다 곱셈을 한두 번 하고 버리거든요. 곱셈만 세어서는 시간을 알 수 없어요. 3.1 단원에서 다룰 이야기예요. 경사하강법이 꼭 필요한 곳은
# 숫자 분류처럼 **닫힌 해가 없는** 문제예요.

# %% [markdown] id="loses-after" lang="en"
# On the diabetes data the closed form wins by far: with a large condition number and few columns there is no reason for gradient
# descent. As columns grow, $d^2$ and $d^3$ weigh more, and gradient descent needs fewer multiplications, given a small condition
# number and 1% being good enough; and the time for measuring the curvature was left out.
#
# But **the times are not as far apart as the multiplications.** A product of matrices uses each number it has read many times; a
# step of gradient descent reads the whole table from memory, multiplies each number once or twice, and lets it go. Counting
# multiplications alone does not tell the time; unit 3.1 comes back to this. Gradient descent is indispensable where there is **no
# closed form**, as with the digits.

# %% [markdown] id="question" lang="ko" reviewed="e5dd8f56cd24"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 동료가 이렇게 말해요. "고객이 다음 달에 쓸 금액을 선형회귀로 예측하려는데, 학습률 0.1에서는 수십 걸음 만에 NaN이 나왔어요. 그래서 학습률을
# 0.0000001로 낮췄더니 NaN은 없어졌지만, 일주일째 손실이 거의 줄지 않아요. 입력은 나이(년), 알림을 열어 본 비율(0~1), 가입한 뒤 지난
# 날수(0~3,000일)예요. GPU를 더 빌리면 될까요?"
#
# **위에서 여러분이 잰 값**을 근거로, (1) 두 증상이 왜 한 가지 원인에서 나오는지, (2) 돈이 들지 않는 해결책과 그것으로 걸음 수가 얼마나 줄 것으로 보는지,
# (3) 고친 다음 학습률을 어떻게 정하고, 기울기와 학습이 맞는지 무엇으로 확인할지 6~10문장으로 적으세요.
#
# *채점 기준*: 곡률(조건수)로 두 증상을 함께 설명했다(1점), 표준화를 들고 잰 걸음 수를 근거로 어림했다(1점), 학습률을 곡률과 이어 정했다(1점), 검산 방법을
# 구체적으로 말했다(1점. 수치 기울기, 닫힌 해, 기준선 등).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# A colleague says: "I train a linear regression that predicts what a customer will spend next month. With a learning rate of
# 0.1 it was NaN within a few dozen steps. So I lowered it to 0.0000001; no more NaN, but for a week the loss has hardly moved.
# The inputs are age (years), the share of notifications opened (0 to 1) and the days since joining (0 to 3,000). Should we
# rent more GPUs?"
#
# Using **the figures you measured above**, write in 6 to 10 sentences (1) why both symptoms have one cause, (2) a remedy that
# costs nothing, and by how much you expect it to cut the steps, (3) how to choose the learning rate afterwards, and what you
# would check to know that gradient and training are right.
#
# *Rubric*: explains both symptoms by curvature (the condition number) (1 point); names standardising, with an estimate from
# measured steps (1 point); ties the learning rate to curvature (1 point); says concretely how to check: numerical gradient,
# closed form, baseline or the like (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="5522e2853cd4"
# ## 더 읽어 보기
#
# - Cauchy, *Méthode générale pour la résolution des systèmes d'équations simultanées* (1847): 경사하강법의 시작
# - Polyak, *Some methods of speeding up the convergence of iteration methods* (1964): 모멘텀
# - Boyd, Vandenberghe, *Convex Optimization* (2004), 9장: 조건수와 수렴 속도. 책 전체가 무료로 공개되어 있어요.
# - Bottou, Curtis, Nocedal, *Optimization Methods for Large-Scale Machine Learning*, SIAM Review 60(2) (2018): 왜 미니배치인가
# - Goh, *Why Momentum Really Works*, Distill (2017): 움직이는 그림으로 보는 모멘텀
# - Efron, Hastie, Johnstone, Tibshirani, *Least Angle Regression*, Annals of Statistics 32(2) (2004): 당뇨 데이터의 출처

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Cauchy, *Méthode générale pour la résolution des systèmes d'équations simultanées* (1847): where gradient descent began
# - Polyak, *Some methods of speeding up the convergence of iteration methods* (1964): momentum
# - Boyd, Vandenberghe, *Convex Optimization* (2004), chapter 9: condition number and rate of convergence; the book is free to read
# - Bottou, Curtis, Nocedal, *Optimization Methods for Large-Scale Machine Learning*, SIAM Review 60(2) (2018): why mini-batches
# - Goh, *Why Momentum Really Works*, Distill (2017): momentum in moving pictures
# - Efron, Hastie, Johnstone, Tibshirani, *Least Angle Regression*, Annals of Statistics 32(2) (2004): where the diabetes data
#   comes from
