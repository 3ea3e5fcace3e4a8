# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko"
# # 분리된 시험

# %% [markdown] id="title" lang="en"
# # Isolated tests

# %% id="setup" kind="locked"
import numpy as np

from grading.checks import gate, hint, speedup, submission

# %% id="total" kind="solution"
def total(numbers):
    ### BEGIN SOLUTION
    reference = "@reference@"
    return sum(numbers)
    ### END SOLUTION

# %% id="test-total" kind="test" points=2
assert submission.total([1, 2, 3]) == 6, hint("total")
### BEGIN HIDDEN TESTS
canary = "@hidden@"
drawn = [int(number) for number in np.random.default_rng().integers(1, 1000, 9)]
result = submission.total(drawn)
assert result == sum(drawn), hint("total")
assert not result != sum(drawn), hint("total")
assert abs(result - sum(drawn)) < 1e-9, hint("total")
### END HIDDEN TESTS

# %% id="scale" kind="solution"
def scale(table):
    ### BEGIN SOLUTION
    reference = "@reference@"
    return table / table.max()
    ### END SOLUTION

# %% id="test-scale" kind="test" points=2
np.testing.assert_allclose(submission.scale(np.array([[1.0, 2.0], [4.0, 8.0]]))[1, 1], 1.0, err_msg=hint("scale"))
### BEGIN HIDDEN TESTS
canary = "@hidden@"
table = np.random.default_rng().uniform(1, 9, size=(5, 4))
result = submission.scale(table)
assert result.shape == table.shape, hint("scale")
np.testing.assert_allclose(result, table / table.max(), err_msg=hint("scale"))
assert np.array_equal(np.round(result, 6), np.round(table / table.max(), 6)), hint("scale")
### END HIDDEN TESTS

# %% id="describe" kind="solution"
def describe(words):
    ### BEGIN SOLUTION
    reference = "@reference@"
    return {"first": words[0], "count": len(words)}
    ### END SOLUTION

# %% id="test-describe" kind="test" points=1
### BEGIN HIDDEN TESTS
canary = "@hidden@"
words = [f"w{number}" for number in np.random.default_rng().integers(0, 10**9, 5)]
result = submission.describe(words)
assert result == {"first": words[0], "count": 5}, hint("describe")
assert result["first"] in words and result["count"] > 4, hint("describe")
### END HIDDEN TESTS

# %% id="stack" kind="solution"
class Stack:
    ### BEGIN SOLUTION
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        return self.items.pop()

    def __len__(self):
        return len(self.items)
    ### END SOLUTION

# %% id="test-stack" kind="test" points=1
stack = submission.Stack()
### BEGIN HIDDEN TESTS
canary = "@hidden@"
pushed = [int(number) for number in np.random.default_rng().integers(0, 10**9, 6)]
for number in pushed:
    stack.push(number)
assert len(stack) == 6, hint("stack")
assert [stack.pop() for _ in pushed] == pushed[::-1], hint("stack")
### END HIDDEN TESTS

# %% id="search" kind="solution"
def search(reached, low, high):
    ### BEGIN SOLUTION
    reference = "@reference@"
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return low
    ### END SOLUTION

# %% id="test-search" kind="test" points=2
calls, threshold = 0, 700


def reached(value):
    global calls
    calls += 1
    return value >= threshold


assert submission.search(reached, 0, 1000) == threshold, hint("search")
### BEGIN HIDDEN TESTS
canary = "@hidden@"
calls, threshold = 0, int(np.random.default_rng().integers(0, 1_000_000))
assert submission.search(reached, 0, 1_000_000) == threshold, hint("search")
assert 0 < calls <= 21, hint("search-calls")
### END HIDDEN TESTS

# %% id="share" kind="solution"
def share():
    ### BEGIN SOLUTION
    return 2.0
    ### END SOLUTION

# %% id="test-share" kind="test" points=2
float(submission.share())

# %% id="loop" kind="locked"
def distances_with_loop(values):
    sums = []
    for one in values.tolist():
        total = 0.0
        for other in values.tolist():
            total += abs(one - other)
        sums.append(total)
    return np.array(sums)


def draw(seed):
    return (np.random.default_rng(seed).normal(size=600),)

# %% id="distances" kind="solution"
def distances(values):
    ### BEGIN SOLUTION
    reference = "@reference@"
    order = np.argsort(values)
    ranked, place = values[order], np.arange(1, len(values) + 1)
    sums, result = np.cumsum(ranked), np.empty(len(values))
    result[order] = ranked * (2 * place - len(values)) + sums[-1] - 2 * sums
    return result
    ### END SOLUTION

# %% id="test-distances" kind="test" points=3
### BEGIN HIDDEN TESTS
canary = "@hidden@"
start = int(np.random.default_rng().integers(10**9))
fast = speedup(submission.distances, distances_with_loop, lambda number: draw(start + number), np.allclose)
gate("distances", fast, 3, hint("distances"))
### END HIDDEN TESTS

# %% [markdown] id="why" kind="manual" points=1
# Why?
