# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="1b931212f8a0"
# # 1.4 자동미분 만들기
#
# **이 단원을 마치면** PyTorch의 `backward()`가 하는 일을 백 줄이 안 되는 코드로 직접 만들 수 있어요. 여러분의 엔진이 PyTorch와 같은 기울기를 내는지
# 증명하고, 기울기를 구하는 데 시간과 메모리가 얼마나 드는지 말하고, 메모리가 모자랄 때 시간과 맞바꾸는 법까지 만들어 봐요.
#
# **왜 중요할까요?** 모델을 학습할 때 GPU 메모리를 가장 많이 차지하는 것은 흔히 가중치가 아니라, 자동미분이 나중에 쓰려고 **붙들고 있는 중간 결과**예요.
# "메모리가 모자랍니다"라는 오류를 만났을 때 무엇이 왜 쌓여 있는지 아는 사람은 더 비싼 GPU를 빌리는 대신 코드 몇 줄을 고쳐요.
#
# **걸리는 시간** 5시간 · **먼저 알아야 할 것** 1.3 경사하강법(기울기, 검산), 파이썬의 클래스와 함수 안의 함수, 합성함수의 미분

# %% [markdown] id="title" lang="en"
# # 1.4 Automatic differentiation
#
# **After this unit** you can build what PyTorch's `backward()` does in less than a hundred lines. You prove that your engine gives
# the same gradients as PyTorch, say what a gradient costs in time and memory, and build the trick that trades time for memory
# when there is not enough of it.
#
# **Why it matters.** What fills a GPU's memory in training is often not the weights but the **intermediate results that automatic
# differentiation holds on to** for later. When "out of memory" appears, those who know what has piled up, and why, change a few
# lines of code instead of renting a dearer GPU.
#
# **Time** 5 hours · **Before you start** 1.3 Gradient descent (gradients and how to check them); classes and functions inside
# functions in Python; the chain rule

# %% id="setup" kind="locked"
import gc
import math
import random
import time
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
import torch

from grading.checks import hint, submission, when_solved

# %% [markdown] id="idea" lang="ko" reviewed="e63a96c04338"
# ## 따라 해 보기: 계산을 거꾸로 걷기
#
# 1.3 단원에서는 기울기의 식을 종이에서 구했어요. 층이 수십 개인 모델에서는 그럴 수 없어요. 그런데 아무리 복잡한 계산도 잘게 쪼개면 덧셈, 곱셈 같은
# **작은 연산**의 연속이고, 작은 연산의 미분은 누구나 알아요. 그것을 이어 붙이는 규칙이 *연쇄 법칙*이에요.
#
# $f=(a\cdot b+c)\cdot a$를 따라가 봐요. 먼저 앞으로 걸으며 중간 결과를 **적어 두고**, 그다음 거꾸로 걸으며 "이 값이 아주 조금 커지면 $f$는 그
# 몇 배만큼 커지나?"를 하나씩 구해요. 그 답을 그 값의 **기울기**라고 불러요.

# %% [markdown] id="idea" lang="en"
# ## A worked example: walking a computation backwards
#
# In unit 1.3 you found the formula of a gradient on paper. For a model of dozens of layers nobody can. But any computation, cut
# up finely, is a series of **small operations** such as adding and multiplying, whose derivatives everyone knows. What joins
# them is the *chain rule*.
#
# Follow $f=(a\cdot b+c)\cdot a$. Walk forward first and **write down** the intermediate results; then walk backwards and ask of
# each: "if this grew a little, by how many times as much would $f$ grow?" That is its **gradient**.

# %% id="idea-code"
a, b, c = 2.0, -3.0, 10.0
d = a * b
e = d + c
f = e * a

grad_f = 1.0
grad_e, grad_a = grad_f * a, grad_f * e
grad_d, grad_c = grad_e, grad_e
grad_a, grad_b = grad_a + grad_d * b, grad_d * a
print(grad_a, grad_b, grad_c)


def by_hand(a, b, c):
    return (a * b + c) * a


h = 1e-6
print(
    round((by_hand(a + h, b, c) - by_hand(a - h, b, c)) / (2 * h), 4),
    round((by_hand(a, b + h, c) - by_hand(a, b - h, c)) / (2 * h), 4),
    round((by_hand(a, b, c + h) - by_hand(a, b, c - h)) / (2 * h), 4),
)

# %% [markdown] id="idea-after" lang="ko" reviewed="61f151423662"
# 세 가지를 눈여겨보세요.
#
# 1. **덧셈**은 받은 기울기를 양쪽에 그대로 나눠 줘요. **곱셈**은 상대의 값을 곱해서 줘요. 그래서 앞으로 걸을 때의 값(`a`, `b`, `e`)을 **기억해야** 해요.
# 2. `a`는 두 곳에 쓰였으니 기울기도 두 곳에서 오고, 둘을 **더해요.**
# 3. 어떤 값에서 기울기를 나눠 주려면, 그 값의 기울기가 먼저 **다 모여 있어야** 해요. 그러니 순서가 중요해요.
#
# 앞으로 걷는 것을 **순전파**, 거꾸로 걸으며 기울기를 구하는 것을 **역전파**(backpropagation)라고 불러요. 이 단원의 과제는 위의 세 가지를 코드로
# 옮기는 일이에요.

# %% [markdown] id="idea-after" lang="en"
# Note three things.
#
# 1. **Addition** passes the gradient it gets on to both sides as it is. **Multiplication** passes it times the other side's value,
#    so the values of the walk forward (`a`, `b`, `e`) must be **remembered**.
# 2. `a` is used in two places, so its gradient comes from two places and is **added up**.
# 3. Before a value passes anything on, its own gradient must be **complete**. So the order matters.
#
# The walk forward is called the **forward pass**, the walk back that finds the gradients **backpropagation**. The tasks of this unit
# turn the three points above into code.

# %% [markdown] id="task-value" lang="ko" reviewed="dc762f75d743"
# ## 과제 1. 값이 자기 과거를 기억하게 (쉬움)
#
# 숫자 하나를 감싸서 **어떤 값들로부터 어떻게 만들어졌는지** 기억하는 `Value`를 완성하세요.
#
# - `data`: 값(실수). `grad`: 기울기. 처음에는 0.0이에요.
# - `parents`: 이 값을 만든 `Value`들의 튜플. 직접 만든 값이면 빈 튜플이에요.
# - `rule`: 이 값의 기울기를 받아 **부모마다 하나씩, `parents`와 같은 순서로** 나눠 줄 기울기의 튜플을 돌려주는 함수. 직접 만든 값이면 `None`이에요. `rule`은
#   계산만 해요. 어떤 값의 `grad`도 바꾸지 않아요.
# - `a + b`, `a * b`: 새 `Value`를 돌려줘요. 한쪽이 그냥 숫자여도(`a + 2.0`, `3.0 * a`) 돼요. 숫자가 왼쪽에 오면 파이썬은 `__radd__`, `__rmul__`을 불러요.

# %% [markdown] id="task-value" lang="en"
# ## Task 1. A value that remembers its past (easy)
#
# Complete `Value`, which wraps a number and remembers **from which values it was made, and how**.
#
# - `data`: the number (a float). `grad`: the gradient, 0.0 at first.
# - `parents`: a tuple of the `Value`s it was made from; empty for one that you make yourself.
# - `rule`: a function that takes this value's gradient and returns a tuple of the gradients to pass on, **one for each parent, in
#   the order of `parents`**; `None` for a value that you make yourself. A rule only computes: it changes no `grad`.
# - `a + b`, `a * b`: return a new `Value`. One side may be a plain number (`a + 2.0`, `3.0 * a`); when it is the left one, Python
#   calls `__radd__` and `__rmul__`.

# %% id="value" kind="solution"
class Value:
    def __init__(self, data, parents=(), rule=None):
        ### BEGIN SOLUTION
        self.data = float(data)
        self.grad = 0.0
        self.parents = tuple(parents)
        self.rule = rule
        ### END SOLUTION

    def __add__(self, other):
        ### BEGIN SOLUTION
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), lambda grad: (grad, grad))
        ### END SOLUTION

    def __mul__(self, other):
        ### BEGIN SOLUTION
        other = other if isinstance(other, Value) else Value(other)
        return Value(
            self.data * other.data,
            (self, other),
            lambda grad: (grad * other.data, grad * self.data),
        )
        ### END SOLUTION

    def __radd__(self, other):
        ### BEGIN SOLUTION
        return self + other
        ### END SOLUTION

    def __rmul__(self, other):
        ### BEGIN SOLUTION
        return self * other
        ### END SOLUTION

# %% [markdown] id="program" lang="ko" reviewed="ced07da53446"
# ### 그래프를 글로 적기
#
# 테스트는 아무렇게나 생긴 그래프 수백 개로 여러분의 엔진을 시험해요. 그러려고 그래프를 목록으로 적어요. `("mul", 0, 1)`은 "0번 값 곱하기 1번 값"이고, 결과에는 다음
# 번호가 붙어요. 정수는 번호, 실수는 그냥 숫자예요. 위의 $f=(a\cdot b+c)\cdot a$를 적으면 `[("mul", 0, 1), ("add", 3, 2), ("mul", 4, 0)]`이에요.
#
# `grow`가 이 목록대로 여러분의 `Value`들을 만들고, `describe`는 만든 값마다 `data`와, 기울기 `grad`를 받으면 몇 번 값에 얼마를 나눠 주는지 보여
# 줘요. 맨 끝에는 모든 값의 `grad`가 이어져요.

# %% [markdown] id="program" lang="en"
# ### Graphs as text
#
# The tests try your engine on hundreds of graphs of any shape. For that, a graph is written as a list. `("mul", 0, 1)` means
# "value 0 times value 1", and the result gets the next number. Integers are such numbers, floats are plain numbers. The
# $f=(a\cdot b+c)\cdot a$ above is `[("mul", 0, 1), ("add", 3, 2), ("mul", 4, 0)]`.
#
# `grow` makes your `Value`s by such a list. `describe` shows for each its `data`, and how much it passes on to which value when it
# gets the gradient `grad`; the `grad` of every value follows at the end.

# %% id="program-code" kind="locked"
OPERATIONS = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "next": lambda a: a + 1,
    "twice": lambda a: a * 2,
    "power": lambda a, n: power(a, n),
    "exp": lambda a: exp(a),
    "log": lambda a: log(a),
    "relu": lambda a: relu(a),
}


def grow(program, nodes):
    nodes = list(nodes)
    for name, *places in program:
        arguments = [nodes[place] if isinstance(place, int) else place for place in places]
        nodes.append(OPERATIONS[name](*arguments))
    return nodes


def describe(program, numbers, grad=1.0):
    nodes = grow(program, [Value(number) for number in numbers])
    places = {id(node): i for i, node in enumerate(nodes)}
    found = []
    for node in nodes[len(numbers) :]:
        passed, shares = {}, node.rule(grad) if callable(node.rule) else None
        if not isinstance(shares, (tuple, list)) or len(shares) != len(node.parents):
            return [node.data, "rule", len(node.parents)]
        for parent, share in zip(node.parents, shares):
            if id(parent) in places:
                place = places[id(parent)]
                passed[place] = passed.get(place, 0.0) + float(share)
        found.append([float(node.data), passed])
    return found + [float(node.grad) for node in nodes]

# %% id="program-demo" kind="demo"
with when_solved():
    print(describe([("mul", 0, 1), ("add", 3, 2), ("mul", 4, 0)], [2.0, -3.0, 10.0]))

# %% id="test-value" kind="test" points=3
def told(found):
    assert "rule" not in found, hint("value-rule")
    return found


found = told(submission.describe([("add", 0, 1), ("mul", 0, 1)], [5.0, -3.0]))
assert found[0][0] == 2.0 and found[1][0] == -15.0, hint("value-data")
assert found[0][1] == {0: 1.0, 1: 1.0}, hint("value-add")
assert found[1][1] == {0: -3.0, 1: 5.0}, hint("value-mul")
assert found[2:] == [0.0] * 4, hint("value-grad")
found = told(submission.describe([("add", 0, 2.0), ("mul", 3.0, 0)], [5.0]))
assert [found[0][0], found[1][0]] == [7.0, 15.0], hint("value-numbers")
### BEGIN HIDDEN TESTS
for _ in range(10):
    a, b, grad = (random.uniform(-5, 5) for _ in range(3))
    program = [("add", 0, 1), ("mul", 0, 1), ("mul", b, 0)]
    program += [("add", b, 0), ("mul", 1, a), ("mul", 3, 2)]
    found = told(submission.describe(program, [a, b], grad))
    values = [a + b, a * b, b * a, b + a, b * a, a * b * (a + b)]
    np.testing.assert_allclose([item[0] for item in found[:6]], values, err_msg=hint("value-data"))
    shares = [
        {0: grad, 1: grad},
        {0: grad * b, 1: grad * a},
        {0: grad * b},
        {0: grad},
        {1: grad * a},
        {3: grad * (a + b), 2: grad * a * b},
    ]
    for (_, passed), expected in zip(found, shares):
        assert passed.keys() == expected.keys(), hint("value-parents")
        for place in expected:
            text = hint("value-grad-given")
            np.testing.assert_allclose(passed[place], expected[place], err_msg=text)
    assert found[6:] == [0.0] * 8, hint("value-grad")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
found = told(submission.describe([("mul", 0, 0), ("add", 0, 0), ("mul", 0.0, 0)], [7.0], 2.0))
assert [found[0][0], found[1][0], found[2][0]] == [49.0, 14.0, 0.0], hint("value-data")
assert found[0][1] == {0: 28.0} and found[1][1] == {0: 4.0}, hint("value-same")
for a, b in [(0.0, 4.0), (4.0, 0.0), (1.0, 5.0), (5.0, 1.0)]:
    program = [("add", 0, 1), ("mul", 0, 1), ("add", b, 0), ("mul", b, 0)]
    found = submission.describe(program, [a, b], 3.0)
    assert "rule" not in found, hint("value-new", a=a, b=b)
    assert [item[0] for item in found[:4]] == [a + b, a * b] * 2, hint("value-data")
    shares = [{0: 3.0, 1: 3.0}, {0: 3.0 * b, 1: 3.0 * a}, {0: 3.0}, {0: 3.0 * b}]
    assert [item[1] for item in found[:4]] == shares, hint("value-new", a=a, b=b)
found = told(submission.describe([("next", 0), ("twice", 0)], [5.0]))
assert found[:2] == [[6.0, {0: 1.0}], [10.0, {0: 2.0}]], hint("value-numbers")
leaf = submission.Value(3)
assert leaf.data == 3.0 and leaf.grad == 0.0, hint("value-leaf")
assert len(leaf.parents) == 0 and leaf.rule is None, hint("value-leaf")
### END HIDDEN TESTS

# %% [markdown] id="predict" lang="ko" reviewed="7aefdc5e5af2"
# ## 먼저 예상해 보세요
#
# 값 하나에서 시작해 `y = y + y`를 25번 되풀이해요. 값은 모두 26개뿐이에요. 이제 거꾸로 걸어요. 가장 먼저 떠오르는 방법은 **받은 기울기를 곧바로 부모에게
# 넘기고, 부모도 받자마자 자기 부모에게 넘기는** 재귀예요. 값이 26개인 이 그래프에서 `rule`은 **모두 몇 번** 불릴까요? `visits_guess`에 적어 두세요. 점수에는
# 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Start from one value and repeat `y = y + y` 25 times. There are just 26 values. Now walk back. What first comes to mind is
# recursion: **pass the gradient on to the parents at once, and each parent, as soon as it gets some, passes it on to its own**.
# In this graph of 26 values, **how many times** will a `rule` be called? Write it into `visits_guess`. It is not graded.

# %% id="guess"
visits_guess = 50

# %% id="naive-code" kind="demo"
def naive_backward(node, grad):
    node.grad += grad
    if node.rule is None:
        return 0
    shares = node.rule(grad)
    return 1 + sum(naive_backward(p, share) for p, share in zip(node.parents, shares))


def doubled(times):
    y = Value(1.0)
    for _ in range(times):
        y = y + y
    return y


with when_solved():
    for times in (5, 10, 15, 18):
        output = doubled(times)
        began = time.perf_counter()
        visits = naive_backward(output, 1.0)
        milliseconds = 1e3 * (time.perf_counter() - began)
        row = dict(visits=f"{visits:8,}", ms=f"{milliseconds:8.2f}")
        print(hint("naive", values=f"{times + 1:2}", **row))
    print(hint("naive-guess", visits=f"{2**25 - 1:,}", guess=visits_guess))
    hours = milliseconds / 1e3 * 2 ** (100 - 18) / 3600
    print(hint("naive-hundred", years=f"{hours / 24 / 365:.0e}"))

# %% [markdown] id="predict-after" lang="ko" reviewed="762fa52be475"
# 재귀는 값이 아니라 **길**(path)을 따라가요. 길의 수는 갈래마다 두 배가 돼요. 답은 맞지만, 값 하나를 여러 곳에서 함께 쓰는 그래프에서는 쓸 수 없어요.
# 그런데 신경망에서는 값 하나를 다음 층의 모든 뉴런이 함께 써요.
#
# 해결책은 단순해요. **받을 기울기를 다 받은 다음에 한 번만 나눠 주는 거예요.** 그러려면 거꾸로 걸을 때, 어떤 값이든 그 값을 쓴 값들보다
# 늦게 차례가 와야 해요. 이런 순서를 **위상 정렬**이라고 해요.

# %% [markdown] id="predict-after" lang="en"
# Recursion follows **paths**, not values, and the number of paths doubles at every fork. The answer is right, but on graphs that
# share values it is of no use; and in a neural network every value is shared by all neurons of the next layer.
#
# The cure is simple: **pass on once, after all has come in.** So, walking back, a value's turn must come later than that of all
# values made from it. Such an order is called a **topological order**.

# %% [markdown] id="task-order" lang="ko" reviewed="6aed9c653929"
# ## 과제 2. 순서 정하기 (보통)
#
# `order(output)`을 완성하세요. `output`을 만드는 데 쓰인 값을 모두 담은 리스트를 돌려줘요.
#
# - 어떤 값이든 **부모가 먼저** 나와요. 그러니 마지막은 `output`이에요.
# - 값마다 **꼭 한 번씩** 들어가요. `output`을 만드는 데 쓰이지 않은 값은 들어가지 않아요.
# - 값에서는 `parents`만 들여다봐요. 들여다보는 횟수는 모두 합해 값의 수의 열 배를 넘지 않아야 해요. 길마다 들여다보면 위와 같은
#   일이 벌어져요.
# - 그래프의 깊이는 **2만**일 수도 있어요. 파이썬의 재귀는 깊이 천 근처에서 `RecursionError`로 멈추니, 함수 호출 대신 리스트를 **스택**으로 써서 "나중에 할 일"을
#   적어 두세요.
#
# 길잡이: 어떤 값을 스택에서 처음 꺼내면, 그 값을 "부모를 마친 뒤에 다시 볼 일"로 적어 놓고 그 위에 부모들을 쌓아요.

# %% [markdown] id="task-order" lang="en"
# ## Task 2. Find the order (medium)
#
# Complete `order(output)`: it returns a list of all values that went into `output`.
#
# - **Parents come first**, for every value. So the last one is `output`.
# - Each value stands there **exactly once**. Values that did not go into `output` are not there.
# - Of a value, look at nothing but `parents`, and in all not more than ten times as often as there are values. Looking once for
#   every path ends as above.
# - The graph may be **20,000** deep. Python's recursion stops near a depth of a thousand with `RecursionError`, so do not call;
#   use a list as a **stack** of what is still to do.
#
# A hint: when you first take a value off the stack, note it as "to be looked at again, when its parents are done", and put its
# parents on top.

# %% id="order" kind="solution"
def order(output):
    ### BEGIN SOLUTION
    seen, found, stack = set(), [], [(output, False)]
    while stack:
        node, parents_done = stack.pop()
        if parents_done:
            found.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    return found
    ### END SOLUTION

# %% id="order-reference" kind="locked"
class Watched:
    looks = 0

    def __init__(self, *parents):
        self.hidden = parents

    @property
    def parents(self):
        Watched.looks += 1
        if Watched.looks > 100_000:
            raise OverflowError
        return self.hidden


def order_of(family):
    nodes = []
    for parents in family:
        nodes.append(Watched(*(nodes[place] for place in parents)))
    places = {id(node): i for i, node in enumerate(nodes)}
    Watched.looks = 0
    try:
        found = order(nodes[-1])
    except (OverflowError, RecursionError) as error:
        return [], type(error).__name__
    return [places[id(node)] for node in found], Watched.looks


def random_family(size, most_parents=3):
    family = [()]
    for i in range(1, size):
        count = random.randint(0, most_parents)
        family.append(tuple(random.randrange(max(0, i - 12), i) for _ in range(count)))
    return family


def ancestors(family):
    wanted = {len(family) - 1}
    for i in reversed(range(len(family))):
        if i in wanted:
            wanted.update(family[i])
    return wanted

# %% id="test-order" kind="test" points=3
def assert_ordered(family, found):
    assert found and found[-1] == len(family) - 1, hint("order-last")
    assert len(set(found)) == len(found), hint("order-once")
    assert set(found) == ancestors(family), hint("order-all")
    turn = {place: i for i, place in enumerate(found)}
    late = any(turn[parent] > turn[place] for place in found for parent in family[place])
    assert not late, hint("order-parents-first")


family = [(), (), (0, 1), (2, 0), (3, 3, 1)]
found, looks = submission.order_of(family)
assert_ordered(family, found)
ladder = [()] + [(i, i) for i in range(60)]
found, looks = submission.order_of(ladder)
assert looks != "OverflowError", hint("order-paths")
assert_ordered(ladder, found)
### BEGIN HIDDEN TESTS
for _ in range(60):
    family = random_family(random.choice([1, 2, 5, 30, 200]))
    found, looks = submission.order_of(family)
    assert looks != "OverflowError", hint("order-paths")
    assert_ordered(family, found)
    assert looks <= 10 * len(family), hint("order-paths")
wide = [()] * 300 + [tuple(range(300)), tuple(range(300)), (300, 301)]
assert_ordered(wide, submission.order_of(wide)[0])
dense = [tuple(range(i)) for i in range(100)]
found, looks = submission.order_of(dense)
assert_ordered(dense, found)
assert looks <= 10 * len(dense), hint("order-edges")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for depth in (5_000, 20_000):
    family = [()] + [(i,) for i in range(depth)]
    found, looks = submission.order_of(family)
    assert looks != "RecursionError", hint("order-deep", depth=depth)
    assert found == list(range(depth + 1)), hint("order-parents-first")
### END HIDDEN TESTS

# %% [markdown] id="task-backward" lang="ko" reviewed="a6c8bb639857"
# ## 과제 3. 거꾸로 걷기 (보통)
#
# `backward(output, seed)`를 완성하세요. `output`에 쓰인 **모든 값**의 `grad`를 채워요. 돌려주는 값은 없어요.
#
# 1. `output`에 쓰인 모든 값의 `grad`를 0.0으로 되돌려요. 그래야 두 번 불러도 같은 답이 나와요.
# 2. `output.grad`는 `seed`예요. 출발점의 기울기로, 보통 1.0이에요.
# 3. 순서를 거꾸로 걸으며 값마다 `rule`을 **꼭 한 번** 불러서, 나눠 줄 기울기를 부모의 `grad`에 **더해요**.
#
# 같은 값이 부모로 두 번 나올 수도 있어요(`a * a`).

# %% [markdown] id="task-backward" lang="en"
# ## Task 3. Walk back (medium)
#
# Complete `backward(output, seed)`: it fills in the `grad` of **every value** that went into `output`, and returns nothing.
#
# 1. Set the `grad` of all values that went into `output` back to 0.0, so that calling it twice gives the same answer.
# 2. `output.grad` is `seed`: the gradient at the start, usually 1.0.
# 3. Walk the order backwards, call each value's `rule` **exactly once**, and **add** what it passes on to the parents' `grad`.
#
# A value may be a parent twice (`a * a`).

# %% id="backward" kind="solution"
def backward(output, seed=1.0):
    ### BEGIN SOLUTION
    nodes = order(output)
    for node in nodes:
        node.grad = 0.0
    output.grad = seed
    for node in reversed(nodes):
        if node.rule is not None:
            for parent, share in zip(node.parents, node.rule(node.grad)):
                parent.grad += share
    ### END SOLUTION

# %% id="backward-reference" kind="locked"
PLAIN = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "power": lambda a, n: a**n,
    "exp": math.exp,
    "log": math.log,
    "relu": lambda a: max(a, 0.0),
}
TORCH = {
    "add": torch.add,
    "mul": torch.mul,
    "power": torch.pow,
    "exp": torch.exp,
    "log": torch.log,
    "relu": torch.relu,
}


def random_program(steps, inputs, names):
    numbers = [random.uniform(-2.0, 2.0) for _ in range(inputs)]
    values, program = list(numbers), []
    while len(program) < steps:
        name = random.choice(names)
        places = [int(len(values) * random.random() ** 0.4) for _ in range(2)]
        if name == "power":
            places[1] = random.choice([2.0, 3.0, -1.0, 0.5, -2.0])
        elif name in ("exp", "log", "relu"):
            places.pop()
        elif random.random() < 0.2:
            places[random.randrange(2)] = random.uniform(-2.0, 2.0)
        try:
            value = PLAIN[name](*(values[p] if isinstance(p, int) else p for p in places))
        except (ValueError, ZeroDivisionError, OverflowError):
            continue
        if isinstance(value, float) and (0.1 < abs(value) < 10 or name == "relu"):
            values.append(value)
            program.append((name, *places))
    return program, numbers


def torch_gradients(program, numbers, seed=1.0):
    def tensor(number):
        return torch.tensor(number, dtype=torch.float64)

    leaves = [tensor(number).requires_grad_() for number in numbers]
    nodes = list(leaves)
    for name, *places in program:
        arguments = [nodes[place] if isinstance(place, int) else tensor(place) for place in places]
        nodes.append(TORCH[name](*arguments))
    if nodes[-1].requires_grad:
        nodes[-1].backward(tensor(seed))
    return [0.0 if leaf.grad is None else leaf.grad.item() for leaf in leaves]


def gradients(program, numbers, seed=1.0):
    nodes = grow(program, [Value(number) for number in numbers])
    backward(nodes[-1], seed)
    return [float(node.grad) for node in nodes[: len(numbers)]]


def gradients_of_all(program, numbers):
    nodes = grow(program, [Value(number) for number in numbers])
    backward(nodes[-1])
    return [float(node.grad) for node in nodes]


def gradients_again(program, numbers):
    nodes = grow(program, [Value(number) for number in numbers])
    backward(nodes[-1], 3.0)
    backward(nodes[-2])
    backward(nodes[-1])
    used = {id(node) for node in order(nodes[-1])}
    return [float(node.grad) if id(node) in used else 0.0 for node in nodes[: len(numbers)]]


def watched_gradient(layers, watch):
    def watched(node):
        def rule(grad):
            grad = watch(grad)
            return grad, 0.5 * grad

        return Value(1.5 * node.data, (node, node), rule)

    x = Value(1.0)
    y = x
    for _ in range(layers):
        y = watched(y)
    backward(y)
    return float(x.grad)

# %% id="backward-demo" kind="demo"
with when_solved():
    program, numbers = [("mul", 0, 1), ("add", 3, 2), ("mul", 4, 0)], [2.0, -3.0, 10.0]
    print(gradients(program, numbers), torch_gradients(program, numbers))

# %% id="test-backward" kind="test" points=4
def assert_same(found, expected, text):
    scale = max([1.0] + [abs(number) for number in expected])
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * scale, err_msg=text)


program, numbers = [("mul", 0, 1), ("add", 3, 2), ("mul", 4, 0)], [2.0, -3.0, 10.0]
assert_same(submission.gradients(program, numbers)[1:], [4.0, 2.0], hint("backward-chain"))
assert_same(submission.gradients(program, numbers), [-2.0, 4.0, 2.0], hint("backward-shared"))
assert_same(submission.gradients([("mul", 0, 0)], [3.0]), [6.0], hint("backward-square"))
assert_same(submission.gradients(program, numbers, 10.0), [-20, 40, 20], hint("backward-seed"))
### BEGIN HIDDEN TESTS
for steps, inputs in [(1, 2), (3, 1), (8, 3), (30, 4), (150, 6)] * 6:
    program, numbers = random_program(steps, inputs, ["add", "mul"])
    seed = random.choice([1.0, -2.5])
    expected = torch_gradients(program, numbers, seed)
    found = submission.gradients(program, numbers, seed)
    assert_same(found, expected, hint("backward-random", steps=steps, inputs=inputs))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for _ in range(10):
    program, numbers = random_program(20, 3, ["add", "mul"])
    expected = torch_gradients(program, numbers)
    assert_same(submission.gradients_again(program, numbers), expected, hint("backward-again"))
assert_same(submission.gradients([], [5.0, 6.0], 3.0), [0.0, 3.0], hint("backward-alone"))
assert_same(submission.gradients_again([], [5.0, 6.0]), [0.0, 1.0], hint("backward-again"))
program, numbers = [("mul", 0, 1), ("add", 3, 2), ("mul", 4, 0)], [2.0, -3.0, 10.0]
assert_same(submission.gradients(program, numbers, 0.0), [0.0] * 3, hint("backward-seed"))
expected = [-2.0, 4.0, 2.0, 2.0, 2.0, 1.0]
assert_same(submission.gradients_of_all(program, numbers), expected, hint("backward-all"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
deep = []
for place in range(5_000):
    deep += [("mul", 2 * place, 0.999), ("add", 2 * place + 1, 0.01)]
try:
    found = submission.gradients(deep, [1.0])
except RecursionError:
    found = [math.nan]
assert_same(found, [0.999**5_000], hint("backward-deep"))
### END HIDDEN TESTS

# %% id="test-visits" kind="test" points=2
visits = []


def watch(grad):
    visits.append(grad)
    assert len(visits) < 5_000, hint("visits-paths")
    return grad


found = submission.watched_gradient(10, watch)
np.testing.assert_allclose(found, 1.5**10, err_msg=hint("backward-shared"))
assert len(visits) == 10, hint("visits-count", visits=len(visits), wanted=10)
### BEGIN HIDDEN TESTS
for layers in (1, 60, 300):
    visits.clear()
    found = submission.watched_gradient(layers, watch)
    assert len(visits) == layers, hint("visits-count", visits=len(visits), wanted=layers)
    expected = 1.5 ** np.arange(layers)
    np.testing.assert_allclose(visits, expected, rtol=1e-9, err_msg=hint("visits-complete"))
    np.testing.assert_allclose(found, 1.5**layers, rtol=1e-9, err_msg=hint("backward-shared"))
visits.clear()
submission.watched_gradient(10, lambda grad: 0.0 * watch(grad))
assert len(visits) == 10, hint("visits-zero", visits=len(visits), wanted=10)
### END HIDDEN TESTS

# %% [markdown] id="task-functions" lang="ko" reviewed="b152516441c8"
# ## 과제 4. 연산 늘리기 (보통)
#
# 엔진은 다 됐어요. 이제 연산을 더하는 일은 "값을 어떻게 구하나"와 "기울기를 얼마나 나눠 주나"를 한 줄씩 적는 일이에요. 네 함수를 완성하세요. 모두 `Value`를 받아
# 새 `Value`를 돌려줘요.
#
# | 함수 | 값 | 받은 기울기에 곱해서 부모에게 줄 것 |
# |---|---|---|
# | `power(a, n)` (`n`은 그냥 숫자) | $a^n$ | $n\,a^{n-1}$ |
# | `exp(a)` | $e^a$ | $e^a$ |
# | `log(a)` | $\log a$ | $1/a$ |
# | `relu(a)` | $\max(a,0)$ | $a>0$이면 1, 아니면 0 |
#
# 이제 뺄셈은 `a + -1.0 * b`, 나눗셈은 `a * power(b, -1)`로 할 수 있어요. `relu`는 0에서 꺾여 있어서 미분이 없는데, 약속으로 0을 써요(PyTorch도 그래요).

# %% [markdown] id="task-functions" lang="en"
# ## Task 4. More operations (medium)
#
# The engine is complete. To add an operation is to write one line for the value and one for what is passed on. Complete four
# functions; each takes a `Value` and returns a new one.
#
# | function | value | what the gradient is multiplied by on its way to the parent |
# |---|---|---|
# | `power(a, n)` (`n` a plain number) | $a^n$ | $n\,a^{n-1}$ |
# | `exp(a)` | $e^a$ | $e^a$ |
# | `log(a)` | $\log a$ | $1/a$ |
# | `relu(a)` | $\max(a,0)$ | 1 if $a>0$, else 0 |
#
# Now `a + -1.0 * b` subtracts and `a * power(b, -1)` divides. `relu` has a kink and no derivative at 0; by convention it is 0 there
# (in PyTorch too).

# %% id="functions" kind="solution"
def power(a, n):
    ### BEGIN SOLUTION
    return Value(a.data**n, (a,), lambda grad: (grad * n * a.data ** (n - 1),))
    ### END SOLUTION


def exp(a):
    ### BEGIN SOLUTION
    result = math.exp(a.data)
    return Value(result, (a,), lambda grad: (grad * result,))
    ### END SOLUTION


def log(a):
    ### BEGIN SOLUTION
    return Value(math.log(a.data), (a,), lambda grad: (grad / a.data,))
    ### END SOLUTION


def relu(a):
    ### BEGIN SOLUTION
    return Value(max(a.data, 0.0), (a,), lambda grad: (grad if a.data > 0 else 0.0,))
    ### END SOLUTION

# %% id="test-functions" kind="test" points=3
for name, arguments, value, slope in [
    ("power", (3.0,), 8.0, 12.0),
    ("exp", (), math.exp(2.0), math.exp(2.0)),
    ("log", (), math.log(2.0), 0.5),
    ("relu", (), 2.0, 1.0),
]:
    found = told(submission.describe([(name, 0, *arguments)], [2.0]))
    np.testing.assert_allclose(found[0][0], value, err_msg=hint("functions-value", name=name))
    passed = submission.gradients([(name, 0, *arguments)], [2.0])
    np.testing.assert_allclose(passed, [slope], err_msg=hint("functions-slope", name=name))
### BEGIN HIDDEN TESTS
generator = random.Random()
for name, arguments in [
    *(("power", (n,)) for n in (2.0, 3.0, -1.0, 0.5, 1.0, 0.0, -2.5)),
    ("exp", ()),
    ("log", ()),
    ("relu", ()),
]:
    for x in [generator.uniform(0.2, 3), generator.uniform(0.2, 3), -generator.uniform(0.2, 3)]:
        whole = not arguments or arguments[0].is_integer()
        if x < 0 and (name == "log" or not whole):
            continue
        program, seed = [(name, 0, *arguments)], generator.uniform(-2, 2)
        value = told(submission.describe(program, [x]))[0][0]
        wanted = PLAIN[name](x, *arguments)
        np.testing.assert_allclose(value, wanted, err_msg=hint("functions-value", name=name))
        expected = torch_gradients(program, [x], seed)
        found = submission.gradients(program, [x], seed)
        assert_same(found, expected, hint("functions-slope", name=name))
assert submission.gradients([("relu", 0)], [0.0]) == [0.0], hint("functions-kink")
for name, arguments, x, value, slope in [
    ("power", (1.0,), 0.0, 0.0, 1.0),
    ("power", (2.0,), 0.0, 0.0, 0.0),
    ("exp", (), 30.0, math.exp(30), math.exp(30)),
    ("exp", (), -30.0, math.exp(-30), math.exp(-30)),
    ("log", (), 1e-9, math.log(1e-9), 1e9),
    ("relu", (), 1e-9, 1e-9, 1.0),
]:
    program, text = [(name, 0, *arguments)], hint("functions-far", name=name, x=x)
    found = told(submission.describe(program, [x]))
    np.testing.assert_allclose(found[0][0], value, err_msg=text)
    np.testing.assert_allclose(submission.gradients(program, [x]), [slope], err_msg=text)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
every = ["add", "mul", "add", "mul", "power", "exp", "log", "relu"]
for steps, inputs in [(4, 2), (15, 3), (60, 5), (200, 8)] * 5:
    program, numbers = random_program(steps, inputs, every)
    expected = torch_gradients(program, numbers)
    text = hint("functions-random", steps=steps)
    assert_same(submission.gradients(program, numbers), expected, text)
### END HIDDEN TESTS

# %% [markdown] id="train" lang="ko" reviewed="7b2c6e48a6e8"
# ## 여러분의 엔진으로 학습하기
#
# 남의 도구 없이 신경망을 학습해 봐요. 반달 모양으로 얽힌 점 40개를 두 무리로 나누는 신경망이에요(입력 2, 뉴런 8, 출력 1). 무리를 1과 -1로 적고, 점
# 하나의 손실은 $\log(1+e^{-\text{무리}\times\text{출력}})$으로 해요. 출력의 부호가 맞고 클수록 작아지는 값이에요. 기울기는 여러분의 `backward`가 구하고, 1.3 단원의
# 경사하강법으로 내려가요. 최소제곱으로 맞춘 직선과도 견줘 볼게요.

# %% [markdown] id="train" lang="en"
# ## Train with your engine
#
# Let us train a neural network without anyone else's tools: it parts 40 points of two entangled half moons (2 inputs, 8 neurons, 1
# output). The two sides are written 1 and -1, and the loss of a point is $\log(1+e^{-\text{side}\times\text{output}})$, which is
# the smaller, the more clearly the output has the right sign. Your `backward` finds the gradient, and the gradient descent of unit
# 1.3 goes down. A straight line, fitted by least squares, is there to compare.

# %% id="train-code" kind="demo"
def two_moons(count, seed=0):
    generator = np.random.default_rng(seed)
    angle, side = np.pi * generator.random(count), np.arange(count) % 2
    x = np.where(side, 1 - np.cos(angle), np.cos(angle))
    y = np.where(side, 0.4 - np.sin(angle), np.sin(angle))
    points = np.stack([x - 0.5, y - 0.2], axis=1) + 0.08 * generator.normal(size=(count, 2))
    return points, 2.0 * side - 1


def network(weights, point):
    hidden = [relu(row[0] * point[0] + row[1] * point[1] + row[2]) for row in weights[:8]]
    return sum(w * h for w, h in zip(weights[8], hidden)) + weights[8][8]


with when_solved():
    points, sides = two_moons(40)
    generator = np.random.default_rng(1)
    weights = [[Value(w) for w in generator.normal(size=3)] for _ in range(8)]
    weights.append([Value(w) for w in 0.5 * generator.normal(size=9)])
    began = time.thread_time()
    for step in range(81):
        outputs = [network(weights, point) for point in points.tolist()]
        losses = [log(exp(output * -side) + 1.0) for output, side in zip(outputs, sides.tolist())]
        total = sum(losses) * (1 / len(points))
        backward(total)
        for row in weights:
            for weight in row:
                weight.data -= 1.5 * weight.grad
        if step % 20 == 0:
            right = np.mean([np.sign(o.data) == side for o, side in zip(outputs, sides)])
            row = dict(loss=f"{total.data:.3f}", right=f"{100 * right:3.0f}")
            print(hint("train", step=f"{step:2}", **row))
    nodes, seconds = len(order(total)), time.thread_time() - began
    table = np.column_stack([points, np.ones(40)])
    line = np.linalg.lstsq(table, sides, rcond=None)[0]
    right = np.mean(np.sign(table @ line) == sides)
    print(hint("train-line", right=f"{100 * right:.0f}"))
    print(hint("train-cost", nodes=f"{nodes:,}", us=f"{1e6 * seconds / 81 / nodes:.1f}"))

# %% [markdown] id="limit" lang="ko" reviewed="949b095c2c2b"
# ## 기울기의 값: 이론의 한계와 비교하기
#
# 입력이 $n$개인 함수의 기울기를 구하는 데는 얼마나 들까요? 1.3 단원처럼 입력을 하나씩 움직여 보면 함수를 $2n$번 계산해야 해요. 거꾸로 걷는 방법은 달라요. 연산을
# 세어 보면, 곱셈 하나는 거꾸로 걸을 때 곱셈 둘과 덧셈 둘을, 덧셈 하나는 덧셈 둘을 더 시켜요. 곱셈과 덧셈이 반반인 함수라면 모두 합해
#
# $$\frac{2+(2+2)+2}{2}=4\text{배}$$
#
# 예요. **입력이 몇 개든** 상관없어요. 이것을 *값싼 기울기 원리*라고 해요. 기울기가 함수보다 쌀 수는 없으니 1배가 바닥이고, 4배가 이론값이에요. 여러분의 엔진은 몇
# 배일까요? 가로축은 입력의 수, 세로축은 숫자로 함수를 한 번 계산하는 시간을 1로 본 시간이에요.

# %% [markdown] id="limit" lang="en"
# ## The price of a gradient, against theory
#
# What does the gradient of a function of $n$ inputs cost? Moving one input at a time, as in unit 1.3, computes the function $2n$
# times. Walking back is different. Count operations: on the way back, a multiplication asks for two more multiplications and two
# additions, an addition for two additions. For a function that is half multiplications and half additions, that makes
#
# $$\frac{2+(2+2)+2}{2}=4\text{ times}$$
#
# in all, **however many inputs there are**. This is called the *cheap gradient principle*. No gradient can be cheaper than the
# function, so 1 is the floor and 4 is what theory asks for. What does your engine take? Across: the number of inputs; up: the
# time, where computing the function once on plain numbers takes 1.

# %% id="plot" kind="demo"
def chained(inputs):
    total = inputs[0]
    for x in inputs[1:]:
        total = total * x + x
    return total


def numerical(numbers, h=1e-6):
    slopes = []
    for i in range(len(numbers)):
        up, down = list(numbers), list(numbers)
        up[i], down[i] = up[i] + h, down[i] - h
        slopes.append((chained(up) - chained(down)) / (2 * h))
    return slopes


def by_engine(numbers):
    inputs = [Value(number) for number in numbers]
    backward(chained(inputs))
    return [x.grad for x in inputs]


def typical_seconds(function, argument, repeats):
    times = []
    gc.disable()
    for _ in range(repeats):
        began = time.thread_time()
        function(argument)
        times.append(time.thread_time() - began)
    gc.enable()
    return float(np.median(times))


def times_the_function(way, numbers, rounds):
    ratios = []
    for _ in range(rounds):
        once = typical_seconds(lambda x: [chained(x) for _ in range(20)], numbers, 1) / 20
        ratios.append(typical_seconds(way, numbers, 1) / once)
    return float(np.median(ratios))


with when_solved():
    sizes, moved, walked = [3, 10, 30, 100, 300, 1000], [], []
    for n in sizes:
        numbers = [random.uniform(-1, 1) for _ in range(n)]
        assert np.allclose(by_engine(numbers), numerical(numbers), atol=1e-5)
        moved.append(times_the_function(numerical, numbers, 15 if n < 1000 else 3))
        walked.append(times_the_function(by_engine, numbers, 15))
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.loglog(sizes, moved, "o-", color="tab:red", label=hint("plot-moved"))
    axes.loglog(sizes, 2 * np.array(sizes), ":", color="tab:red", label=hint("plot-moved-theory"))
    axes.loglog(sizes, walked, "o-", color="tab:blue", label=hint("plot-walked"))
    axes.axhline(4, color="k", linestyle="--", label=hint("plot-limit"))
    axes.axhline(1, color="gray", linewidth=1, label=hint("plot-floor"))
    axes.set(xlabel=hint("plot-inputs"), ylabel=hint("plot-times"))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=9)
    axes.grid(alpha=0.3)
    plt.show()
    print(hint("price", walked=f"{walked[-1]:.0f}", moved=f"{moved[-1]:,.0f}"))
    print(hint("achieved", percent=f"{100 * 4 / walked[-1]:.0f}"))

# %% [markdown] id="limit-after" lang="ko" reviewed="07714060ccef"
# 파란 선은 입력이 늘면 곧 **평평해져요**. 70억 개의 가중치를 가진 모델을 학습할 수 있는 까닭이 이 평평한 선이에요. 다만 4배라는 이론값보다는 훨씬 위에 있어요. 연산
# 하나마다 파이썬 객체를 만들고, 순서를 정하고, 함수를 부르느라 드는 시간이에요. PyTorch는 값 하나가 아니라 **배열 하나를 노드 하나로** 삼아서 이 비용을 수백만 개의 숫자에
# 나눠 매겨요. 입력이 몇 개뿐일 때는 하나씩 움직여 보는 쪽이 오히려 싸다는 것도 눈여겨보세요.

# %% [markdown] id="limit-after" lang="en"
# The blue line soon becomes **flat** as the inputs grow. That flat line is why a model of seven billion weights can be trained at
# all. But it lies far above the 4 of theory: for every operation a Python object is made, put in order, and a function called.
# PyTorch makes **a whole array one node**, and spreads that cost over millions of numbers. Note also that with only a few
# inputs, moving them one by one is cheaper.

# %% [markdown] id="memory" lang="ko" reviewed="92916cfe7e8f"
# ## 기울기의 또 다른 값: 메모리
#
# 시간은 4배로 끝나지만 메모리는 그렇지 않아요. 곱셈은 상대의 값을 기억해야 하니, 거꾸로 걷기가 끝날 때까지 **앞으로 걸으며 만든 값이 모두** 살아 있어야 해요. 층이
# 두 배면 메모리도 두 배예요. 답만 구할 때(추론)는 바로 버려도 되는 값들이에요.
#
# 그런데 꼭 다 들고 있어야 할까요? **잊어버리고, 필요할 때 다시 계산하면** 어떨까요? 1,024걸음을 32토막으로 나눠, 앞으로 걸을 때는 토막의 **입력만** 기억해요. 거꾸로
# 걸을 때는 토막 하나를 다시 계산해서 그 토막의 기울기를 구하고 또 잊어버려요. 그러면 한꺼번에 기억할 것은 1,024가 아니라 $32+32$예요. 대가는 앞으로 걷기 한
# 번이에요. 이것을 **체크포인팅**이라고 하고, 큰 모델을 학습할 때 흔히 써요.

# %% [markdown] id="memory" lang="en"
# ## The other price of a gradient: memory
#
# Time ends at 4 times; memory does not. Multiplication must remember the other side's value, so **every value of the walk forward**
# must stay alive until the walk back is done. Twice the layers, twice the memory. For the answer alone (inference) they could
# be dropped at once.
#
# But must they all be kept? What if we **forget, and compute again when needed**? Cut 1,024 steps into 32 pieces, and on the way
# forward remember only the **input** of each piece. On the way back, compute one piece again, find its gradient, and forget it.
# Then what is remembered at any time is not 1,024 but $32+32$. The price is one more walk forward. It is called
# **checkpointing**, and is common practice in training large models.

# %% [markdown] id="task-checkpoint" lang="ko" reviewed="5faa0ecd0034"
# ## 과제 5. 잊고 다시 계산하기 (어려움)
#
# `checkpoint(function, a)`를 완성하세요. `function`은 `Value` 하나를 받아 `Value` 하나를 돌려주는 함수예요. `function(a)`와 값도 기울기도 같은 `Value`를 돌려주지만, 그
# 안에서 만든 값들은 붙들고 있지 않아요.
#
# - 돌려주는 값의 부모는 `a` 하나뿐이에요. `order`에는 이 둘(과 `a`의 조상)만 보여요.
# - `function`은 앞으로 걸을 때 한 번, 거꾸로 걸을 때 한 번 불러요.
# - 거꾸로 걷는 도중에 `a.grad`에는 다른 길로 온 기울기가 이미 들어 있을 수 있어요. 안에서 `backward`를 부르면 그래프에 있는 값의 `grad`를 0으로 되돌린다는 것을 잊지 마세요.
# - `function`은 자기 인자와 그냥 숫자만 쓴다고 생각해도 좋아요.
#
# 여덟 줄이면 충분해요. `rule` 안에서 무엇을 새로 만들어야 할지 생각해 보세요.

# %% [markdown] id="task-checkpoint" lang="en"
# ## Task 5. Forget and compute again (hard)
#
# Complete `checkpoint(function, a)`. `function` takes one `Value` and returns one. Return a `Value` with the data and the gradient of
# `function(a)`, but without holding on to the values made inside.
#
# - The only parent of what you return is `a`: `order` shows just these two (and the ancestors of `a`).
# - `function` is called once on the way forward and once on the way back.
# - On the way back, `a.grad` may already hold gradient that came another way. Remember that `backward`, called inside, sets the `grad`
#   of the values in its graph back to 0.
# - You may take it that `function` uses nothing but its argument and plain numbers.
#
# Eight lines are enough. Think about what must be made anew inside `rule`.

# %% id="checkpoint" kind="solution"
def checkpoint(function, a):
    ### BEGIN SOLUTION
    def rule(grad):
        inside = Value(a.data)
        backward(function(inside), grad)
        return (inside.grad,)

    return Value(function(Value(a.data)).data, (a,), rule)
    ### END SOLUTION

# %% id="checkpoint-reference" kind="locked"
def noted_sine(x, note):
    def rule(grad):
        note("rule")
        return (grad * math.cos(x.data),)

    note("forward")
    return Value(math.sin(x.data), (x,), rule)


def noted_checkpoint(steps, number, note):
    def function(y):
        for _ in range(steps):
            y = noted_sine(y, note)
        return y

    x = Value(number)
    y = checkpoint(function, x)
    note("built")
    backward(x * y + x)
    return float(y.data), float(x.grad), len(order(y))


def checkpointed_gradients(programs, number):
    x = Value(number)
    nodes = [x]
    for program, place in programs:
        nodes.append(checkpoint(lambda y, program=program: grow(program, [y])[-1], nodes[place]))
    output = sum(node * (i + 1.0) for i, node in enumerate(nodes))
    backward(output, 3.0)
    backward(output)
    return float(output.data), float(x.grad)


def chain(x, steps):
    for _ in range(steps):
        x = x * 0.999 + 0.001
    return x


def peak(steps, pieces=0):
    gc.collect()
    tracemalloc.start()
    x = Value(1.5)
    y = x
    for _ in range(pieces):
        y = checkpoint(lambda z: chain(z, steps // pieces), y)
    backward(y if pieces else chain(x, steps))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most, float(x.grad)

# %% id="test-checkpoint" kind="test" points=4
notes = []


def note(what):
    notes.append(what)
    assert len(notes) < 10_000, hint("checkpoint-calls")


def sines(number, steps):
    slope = 1.0
    for _ in range(steps):
        number, slope = math.sin(number), slope * math.cos(number)
    return number, slope


data, grad, nodes = submission.noted_checkpoint(3, 0.8, note)
value, slope = sines(0.8, 3)
np.testing.assert_allclose(data, value, err_msg=hint("checkpoint-data"))
np.testing.assert_allclose(grad, value + 0.8 * slope + 1, err_msg=hint("checkpoint-grad"))
assert nodes == 2, hint("checkpoint-nodes", nodes=nodes)
### BEGIN HIDDEN TESTS
for steps in (1, 7, 40):
    notes.clear()
    number = random.uniform(-1, 1)
    data, grad, nodes = submission.noted_checkpoint(steps, number, note)
    value, slope = sines(number, steps)
    np.testing.assert_allclose(data, value, err_msg=hint("checkpoint-data"))
    expected = value + number * slope + 1
    np.testing.assert_allclose(grad, expected, err_msg=hint("checkpoint-grad"))
    built = notes.index("built")
    assert notes[:built] == ["forward"] * steps, hint("checkpoint-calls")
    assert notes.count("forward") == 2 * steps, hint("checkpoint-calls")
    assert notes.count("rule") == steps, hint("checkpoint-calls")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for _ in range(8):
    pieces, number = [], random.uniform(0.3, 0.9)
    leaf = torch.tensor(number, dtype=torch.float64, requires_grad=True)
    nodes = [leaf]
    for i in range(4):
        place, steps = random.randrange(i + 1), random.randint(1, 6)
        piece = [("mul", j, random.uniform(0.5, 1.2)) for j in range(steps)]
        piece += [("add", steps, 0), ("mul", steps + 1, 0)]
        pieces.append((piece, place))
        inner = [nodes[place]]
        for name, left, right in piece:
            other = inner[right] if isinstance(right, int) else right
            inner.append(TORCH[name](inner[left], other))
        nodes.append(inner[-1])
    sum(node * (i + 1.0) for i, node in enumerate(nodes)).backward()
    data, grad = submission.checkpointed_gradients(pieces, number)
    expected = [leaf.grad.item()]
    assert_same([grad], expected, hint("checkpoint-several"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
whole, expected = submission.peak(1024)
parts, found = submission.peak(1024, 32)
np.testing.assert_allclose([expected, found], 0.999**1024, err_msg=hint("checkpoint-grad"))
assert parts < whole / 2, hint("checkpoint-memory", ratio=f"{whole / parts:.1f}")
### END HIDDEN TESTS

# %% [markdown] id="memory-plot" lang="ko" reviewed="d26789e2a1f2"
# ### 몇 토막이 가장 좋을까
#
# 토막의 수를 $k$라고 하면, 기억할 것은 토막의 입력 $k$개와 지금 다시 계산하는 토막의 $N/k$걸음이에요. 걸음 하나가 $s$바이트, 토막의 입력 하나가 $c$바이트라면
#
# $$\text{메모리}=s\cdot\frac{N}{k}+c\cdot k$$
#
# 이고, $k=\sqrt{sN/c}$에서 가장 작아요. $s$와 $c$를 재서 그린 이 곡선과, 여러분의 `checkpoint`가 실제로 쓴 메모리를 견주어 볼게요.

# %% [markdown] id="memory-plot" lang="en"
# ### How many pieces are best
#
# With $k$ pieces, what is remembered is the $k$ inputs of the pieces and the $N/k$ steps of the piece that is being computed again.
# If a step takes $s$ bytes and the input of a piece $c$ bytes, then
#
# $$\text{memory}=s\cdot\frac{N}{k}+c\cdot k$$
#
# and the least is at $k=\sqrt{sN/c}$. Measure $s$ and $c$, draw this curve, and compare it with the memory that your `checkpoint`
# really used.

# %% id="memory-plot-code" kind="demo"
with when_solved():
    steps = 1024
    whole = peak(steps)[0]
    step_bytes, piece_bytes = whole / steps, peak(steps, steps)[0] / steps
    counts = 2 ** np.arange(11)
    used = [peak(steps, int(k))[0] for k in counts]
    curve = step_bytes * steps / counts + piece_bytes * counts
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.loglog(counts, np.array(used) / 1024, "o", label=hint("plot-used"))
    axes.loglog(counts, curve / 1024, "k--", label=hint("plot-curve"))
    axes.axhline(whole / 1024, color="tab:red", label=hint("plot-whole"))
    axes.set(xlabel=hint("plot-pieces"), ylabel=hint("plot-kib"))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()
    best = counts[int(np.argmin(used))]
    theory = math.sqrt(step_bytes * steps / piece_bytes)
    print(hint("pieces", best=best, theory=f"{theory:.0f}", ratio=f"{whole / min(used):.0f}"))

# %% [markdown] id="torch" lang="ko" reviewed="3db66ececf3f"
# ## PyTorch에서 다시 만나기
#
# 여러분이 만든 것은 PyTorch의 `torch.autograd`와 뼈대가 같아요. `Value`는 텐서, `parents`는 `grad_fn.next_functions`, `rule`은 `grad_fn`, 과제 5는
# `torch.utils.checkpoint`예요. 다른 점은 노드 하나가 배열 하나라는 것과, `backward`를 부를 때마다 `grad`를 0으로 되돌리지 않고 **계속 더한다**는 거예요. 그래서 학습 루프에서
# `zero_grad()`를 불러요.
#
# 층이 16개인 신경망에서 PyTorch가 거꾸로 걷기를 위해 붙들고 있는 텐서의 크기를 세고, 한 걸음의 시간을 재 볼게요. 연산을 세면 앞으로 걷기가 1, 거꾸로 걷기가
# 2(입력의 기울기와 가중치의 기울기), 다시 계산하기가 1이니, 이론으로는 1 : 3 : 4예요.

# %% [markdown] id="torch" lang="en"
# ## Meeting it again in PyTorch
#
# What you built has the same skeleton as PyTorch's `torch.autograd`. `Value` is a tensor, `parents` are `grad_fn.next_functions`, `rule`
# is `grad_fn`, and task 5 is `torch.utils.checkpoint`. The differences: a node is a whole array, and `backward` does not set `grad`
# back to 0 but **keeps adding**, which is why a training loop calls `zero_grad()`.
#
# For a network of 16 layers, let us count the size of the tensors that PyTorch holds on to for the walk back, and time a step. Counting
# operations, the walk forward is 1, the walk back 2 (gradients of inputs and of weights), computing again 1: in theory 1 : 3 : 4.

# %% id="torch-code" kind="demo"
from torch.utils.checkpoint import checkpoint as torch_checkpoint

torch.set_num_threads(1)
torch.manual_seed(0)
layers = [part for _ in range(16) for part in (torch.nn.Linear(256, 256), torch.nn.ReLU())]
model = torch.nn.Sequential(*layers)
batch = torch.randn(512, 256, requires_grad=True)
parameters = {parameter.data_ptr() for parameter in model.parameters()}


def held_bytes(run):
    held = {}

    def pack(tensor):
        if tensor.data_ptr() not in parameters:
            held[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(tensor.nbytes for tensor in held.values())


def answer_only():
    with torch.no_grad():
        return model(batch)


def forgetting():
    x = batch
    for i in range(0, len(model), 8):
        x = torch_checkpoint(model[i : i + 8], x, use_reentrant=True)
    return x


won_per_hour = 200
first = 0.0
for label, run, count in [
    ("torch-answer", answer_only, 1),
    ("torch-train", lambda: model(batch), 3),
    ("torch-forget", forgetting, 4),
]:
    held = held_bytes(run)
    seconds = typical_seconds(lambda run: run() if count == 1 else run().sum().backward(), run, 7)
    first = first or seconds
    won = 1000 * seconds / 3600 * won_per_hour
    row = dict(mb=f"{held / 1e6:5.1f}", ms=f"{1e3 * seconds:5.0f}", won=f"{won:4.1f}")
    print(hint(label, ratio=f"{seconds / first:.1f}", count=count, **row))

# %% [markdown] id="torch-after" lang="ko" reviewed="262db4455c96"
# 붙들고 있는 메모리는 *배치 크기 × 층의 폭 × 층의 수*에 비례하고, 가중치와는 따로 더 들어요. 그래서 메모리가 모자라면 먼저 배치를 줄이고, 그래도 모자라면
# 체크포인팅으로 시간을 내주고 메모리를 얻어요. 그리고 서비스할 때 `torch.no_grad()`(또는 `inference_mode()`)를 빠뜨리면, 쓰지도 않을 값들을 붙들고 있게 돼요.
#
# 금액은 한 시간에 `won_per_hour`원인 서버에서 1,000걸음을 학습하는 값이에요. 숫자를 바꿔 보세요.

# %% [markdown] id="torch-after" lang="en"
# The memory held grows with *batch size × width × number of layers*, on top of the weights. So when memory runs out, first
# make the batch smaller, and if that is not enough, pay time for memory by checkpointing. And a service that forgets
# `torch.no_grad()` (or `inference_mode()`) holds on to values that nobody will ever use.
#
# The money is the price of 1,000 training steps on a server of `won_per_hour` won an hour. Change the number.

# %% [markdown] id="loses" lang="ko" reviewed="e5ce42b34f60"
# ## 이 방법이 지는 곳
#
# 1. **출력이 많을 때.** 거꾸로 걷기는 출력 하나의 기울기를 한 번에 구해요. 입력이 하나이고 출력이 300개라면 300번 걸어야 해요. 이럴 때는 값과 기울기를 짝지어
#    **앞으로** 함께 나르는 방법(전진 모드)이 이겨요. 아래의 `Dual`이 그거예요.
# 2. **숫자 하나가 노드 하나일 때.** 1.3 단원의 선형회귀 기울기를 여러분의 엔진과 배열의 식으로 구해서 시간을 견줘요.
# 3. **미분하는 것은 수학이 아니라 프로그램이에요.** $\sqrt{x}$를 0에서만 피해 가려고 `where`를 써도, 고르지 않은 쪽의 무한대에 0이 곱해져 NaN이 나와요.

# %% [markdown] id="loses" lang="en"
# ## Where this method loses
#
# 1. **Many outputs.** A walk back finds the gradient of one output. With one input and 300 outputs, walk 300 times. Then it is better to
#    carry value and gradient together on the way **forward** (forward mode): `Dual` below does that.
# 2. **When every number is a node.** Find the gradient of linear regression, as in unit 1.3, by your engine and by the formula on
#    arrays, and compare the times.
# 3. **What is differentiated is the program, not the mathematics.** Use `where` to step around $\sqrt{x}$ at 0, and the infinity of the
#    side not taken is multiplied by 0: NaN.

# %% id="loses-code" kind="demo"
class Dual:
    def __init__(self, data, slope=0.0):
        self.data, self.slope = data, slope

    def __add__(self, other):
        return Dual(self.data + other, self.slope)

    def __mul__(self, other):
        if isinstance(other, Dual):
            return Dual(self.data * other.data, self.slope * other.data + self.data * other.slope)
        return Dual(self.data * other, self.slope * other)


def many_outputs(x):
    outputs = [x]
    for _ in range(299):
        outputs.append(outputs[-1] * x * 0.99 + 0.01)
    return outputs


def forward_mode(number):
    return [output.slope for output in many_outputs(Dual(number, 1.0))]


def reverse_mode(number):
    x, slopes = Value(number), []
    for output in many_outputs(x):
        backward(output)
        slopes.append(x.grad)
    return slopes


def by_values(weights):
    weights = [Value(w) for w in weights]
    total = Value(0.0)
    for row, target in zip(table.tolist(), targets.tolist()):
        error = sum(w * x for w, x in zip(weights, row)) + -target
        total = total + error * error
    backward(total * (1 / len(targets)))
    return [w.grad for w in weights]


def by_arrays(weights):
    return 2 * table.T @ (table @ weights - targets) / len(targets)


with when_solved():
    assert np.allclose(forward_mode(0.9), reverse_mode(0.9))
    forward_ms = 1e3 * typical_seconds(forward_mode, 0.9, 9)
    reverse_ms = 1e3 * typical_seconds(reverse_mode, 0.9, 3)
    print(hint("loses-outputs", forward=f"{forward_ms:.2f}", reverse=f"{reverse_ms:.0f}"))
    table, targets = np.random.default_rng(0).normal(size=(300, 8)), np.arange(300.0)
    assert np.allclose(by_values(np.ones(8)), by_arrays(np.ones(8)))
    values_ms = 1e3 * typical_seconds(by_values, np.ones(8), 5)
    arrays_ms = 10 * typical_seconds(lambda w: [by_arrays(w) for _ in range(100)], np.ones(8), 5)
    ratio = f"{values_ms / arrays_ms:,.0f}"
    print(hint("loses-arrays", values=f"{values_ms:.1f}", arrays=f"{arrays_ms:.4f}", ratio=ratio))
x = torch.zeros(1, requires_grad=True)
torch.where(x > 0, x.sqrt(), torch.zeros(1)).sum().backward()
print(hint("loses-where", grad=x.grad.item()))

# %% [markdown] id="question" lang="ko" reviewed="16ee45c155f9"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 여러분의 팀이 층이 64개인 모델을 학습하려고 해요. 배치 32에서 붙들고 있는 중간 결과가 40 GiB(그 가운데 층의 입력은 층마다 0.2 GiB), 가중치와 그 기울기 등이
# 12 GiB인데, 가진 GPU의 메모리는 24 GiB예요. 메모리만 넉넉하다면 한 걸음에 3초가 걸려요.
#
# **위에서 여러분이 잰 값과 식**을 근거로 6~10문장으로 답하세요. (1) 중간 결과는 왜 학습할 때만 쌓이나요? (2) 배치를 줄이는 방법과 체크포인팅으로 각각
# 메모리에 맞출 수 있을까요? 몇으로 줄이거나 몇 토막으로 나눌지 계산해 보세요. (3) 각각 한 걸음의 시간은 어떻게 되고, 여러분은 무엇을 고르겠어요?
#
# *채점 기준*: 거꾸로 걷기에 앞의 값이 필요한 까닭을 연산을 예로 들어 설명했다(1점), 두 방법의 메모리를 바르게 계산했다(2점), 시간의 대가를 1 : 3 : 4를 근거로 말하고
# 골랐다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# Your team wants to train a model of 64 layers. With a batch of 32 the intermediate results take 40 GiB (the inputs of layers among
# them, 0.2 GiB each), and weights with their gradients and the like 12 GiB; your GPU has 24 GiB. With memory enough, a step would
# take 3 seconds.
#
# Using **the figures you measured and the formulas above**, answer in 6 to 10 sentences: (1) why do intermediate results pile up in
# training only; (2) can it be made to fit by a smaller batch, and by checkpointing, and with which batch, or how many pieces; (3)
# what happens to the time of a step in each case, and which would you choose?
#
# *Rubric*: explains, with an operation as example, why walking back needs the earlier values (1 point); computes the memory of both
# ways correctly (2 points); argues the price in time by 1 : 3 : 4 and chooses (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="664713edbf76"
# ## 더 읽어 보기
#
# - Rumelhart, Hinton, Williams, *Learning representations by back-propagating errors*, Nature 323 (1986): 역전파로 신경망을 학습한 논문
# - Griewank, Walther, *Evaluating Derivatives*, 2판, SIAM (2008): 값싼 기울기 원리의 증명과 체크포인팅의 이론
# - Chen, Xu, Zhang, Guestrin, *Training Deep Nets with Sublinear Memory Cost* (2016): $\sqrt{N}$ 메모리로 신경망을 학습하는 법
# - Paszke 외, *Automatic differentiation in PyTorch*, NIPS Autodiff Workshop (2017): `torch.autograd`의 설계
# - Baydin, Pearlmutter, Radul, Siskind, *Automatic Differentiation in Machine Learning: a Survey*, JMLR 18 (2018): 전진 모드와 후진 모드, 흔한 오해들

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Rumelhart, Hinton, Williams, *Learning representations by back-propagating errors*, Nature 323 (1986): neural networks trained by
#   backpropagation
# - Griewank, Walther, *Evaluating Derivatives*, 2nd edition, SIAM (2008): proof of the cheap gradient principle, theory of checkpointing
# - Chen, Xu, Zhang, Guestrin, *Training Deep Nets with Sublinear Memory Cost* (2016): neural networks trained in $\sqrt{N}$ memory
# - Paszke et al., *Automatic differentiation in PyTorch*, NIPS Autodiff Workshop (2017): how `torch.autograd` is designed
# - Baydin, Pearlmutter, Radul, Siskind, *Automatic Differentiation in Machine Learning: a Survey*, JMLR 18 (2018): forward and reverse
#   mode, and common misunderstandings
