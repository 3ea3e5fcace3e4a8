# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed=""
# # NUMBER TITLE_KO
#
# **이 단원을 마치면** 수의 목록에서 가장 큰 차이를 한 번만 훑어서 구하고, 왜 두 번 훑는 것보다 빠른지 재서 말할 수 있어요.
#
# **왜 중요할까요?** 이 단원이 서비스의 품질이나 비용과 어떻게 이어지는지 여기에 적어요.
#
# **걸리는 시간** 1시간 · **먼저 알아야 할 것** 파이썬의 함수와 반복문

# %% [markdown] id="title" lang="en"
# # NUMBER TITLE_EN
#
# **After this unit** you can find the largest difference in a list of numbers in one pass, and say from a measurement why that
# is faster than comparing every pair.
#
# **Why it matters.** Say here what the unit has to do with a service's quality or cost.
#
# **Time** 1 hour · **Before you start** Python functions and loops

# %% id="setup" kind="locked"
import random

import matplotlib.pyplot as plt

from grading.checks import gate, hint, speedup, submission, when_solved

# %% [markdown] id="example" lang="ko" reviewed=""
# ## 따라 해 보기
#
# 모든 쌍을 견주면 답은 나오지만, 수가 n개일 때 견주는 횟수가 n(n-1)/2번이에요.

# %% [markdown] id="example" lang="en"
# ## A worked example
#
# Comparing every pair gives the answer, with n(n-1)/2 comparisons for n numbers.

# %% id="slow" kind="locked"
def widest_by_pairs(numbers):
    return max((abs(a - b) for a in numbers for b in numbers), default=0)


print(widest_by_pairs([3, 9, 4]))

# %% [markdown] id="predict" lang="ko" reviewed=""
# ## 먼저 예상해 보세요
#
# 수 1,000개라면, 한 번만 훑는 방법은 **몇 배** 빠를까요? `my_guess`에 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# For 1,000 numbers, **how many times** faster is a single pass? Write it into `my_guess`. It is not graded.

# %% id="guess"
my_guess = 10

# %% [markdown] id="task-widest" lang="ko" reviewed=""
# ## 과제 1. 가장 큰 차이 (쉬움)
#
# `widest(numbers)`를 완성하세요.
#
# - `numbers`: 수의 리스트. 비어 있을 수도 있어요.
# - 돌려주는 값: 두 수의 차이 가운데 가장 큰 값. 수가 없으면 0.

# %% [markdown] id="task-widest" lang="en"
# ## Task 1. The largest difference (easy)
#
# Complete `widest(numbers)`.
#
# - `numbers`: a list of numbers, which may be empty
# - Returns: the largest difference between two of them; 0 when there is none.

# %% id="widest" kind="solution"
def widest(numbers):
    ### BEGIN SOLUTION
    if not numbers:
        return 0
    return max(numbers) - min(numbers)
    ### END SOLUTION

# %% id="test-widest" kind="test" points=2
assert submission.widest([3, 9, 4]) == 6, hint("widest-value")
### BEGIN HIDDEN TESTS
assert submission.widest([]) == 0, hint("widest-empty")
assert submission.widest([5]) == 0, hint("widest-one")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
assert submission.widest([-7, -2, -4]) == 5, hint("widest-negative")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
numbers = [random.randint(-1000, 1000) for _ in range(50)]
assert submission.widest(numbers) == widest_by_pairs(numbers), hint("widest-value")
### END HIDDEN TESTS

# %% [markdown] id="task-speed" lang="ko" reviewed=""
# ## 과제 2. 성능 기준 넘기
#
# 수 1,000개에서 `widest`가 모든 쌍을 견주는 방법보다 **10배 이상** 빨라야 해요.

# %% [markdown] id="task-speed" lang="en"
# ## Task 2. The performance gate
#
# For 1,000 numbers `widest` must be **at least 10 times** faster than comparing every pair.

# %% id="draw" kind="locked"
def draw(round_number, n=1000):
    generator = random.Random(round_number)
    return ([generator.randint(0, 10**6) for _ in range(n)],)


def same(a, b):
    return a == b

# %% id="test-speed" kind="test" points=1
seed = random.randrange(10**6)
reached = speedup(submission.widest, widest_by_pairs, lambda i: draw(seed + i), same)
gate("widest", reached, 10, hint("speed"))
### BEGIN HIDDEN TESTS
assert submission.widest(*draw(seed)) == widest_by_pairs(*draw(seed)), hint("widest-value")
### END HIDDEN TESTS

# %% [markdown] id="limit" lang="ko" reviewed=""
# ## 재 보고 그려 보기
#
# 수가 늘어날 때 두 방법의 시간이 어떻게 늘어나는지 그려요. 한계선은 물리적인 한계나 이론값으로 바꿔 보세요.

# %% [markdown] id="limit" lang="en"
# ## Measure and draw
#
# See how both times grow with the numbers. Put the physical or theoretical limit of your unit into the plot.

# %% id="plot" kind="demo"
sizes = [50, 100, 200, 400]
with when_solved():
    found = [speedup(widest, widest_by_pairs, lambda i: draw(i, n), same, rounds=3) for n in sizes]
    print(hint("measured", guess=my_guess, ratio=f"{found[-1].ratio:.0f}", n=sizes[-1]))
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.loglog(sizes, [1e6 * each.slow_seconds for each in found], "o-", label=hint("plot-pairs"))
    axes.loglog(sizes, [1e6 * each.fast_seconds for each in found], "o-", label=hint("plot-yours"))
    axes.set(xlabel=hint("plot-x"), ylabel=hint("plot-y"))
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()

# %% [markdown] id="loses" lang="ko" reviewed=""
# ## 손해일 때
#
# 이 방법이 통하지 않거나 느려지는 경우를 하나 골라 직접 재서 보여 줘요.

# %% [markdown] id="loses" lang="en"
# ## Where it loses
#
# Pick a case in which the method does not help, and show it with a measurement.

# %% id="loses-code" kind="demo"
with when_solved():
    found = speedup(widest, widest_by_pairs, lambda i: draw(i, 1), same, rounds=3)
    print(hint("loses", ratio=f"{found.ratio:.1f}"))

# %% [markdown] id="question" lang="ko" reviewed=""
# ## 생각을 글로 (손으로 채점, 2점)
#
# 한 번만 훑는 방법이 왜 빠른지, **위에서 잰 값**을 근거로 3~5문장으로 적으세요.
#
# *채점 기준*: 잰 숫자를 근거로 들었다(1점), 견주는 횟수로 까닭을 설명했다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 2 points)
#
# Say in 3 to 5 sentences why a single pass is faster, using **the figures you measured**.
#
# *Rubric*: argues with measured figures (1 point); explains by the number of comparisons (1 point).

# %% [markdown] id="answer" kind="manual" points=2
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed=""
# ## 더 읽어 보기
#
# - Knuth, *The Art of Computer Programming*, 1권 (1968): 최댓값을 찾는 알고리즘의 분석

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Knuth, *The Art of Computer Programming*, volume 1 (1968): the analysis of finding a maximum
