# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko"
# # 평범한 시험

# %% [markdown] id="title" lang="en"
# # Ordinary tests

# %% id="setup" kind="locked"
import numpy as np

# %% id="square" kind="solution"
def square(x):
    ### BEGIN SOLUTION
    reference = "@reference@"
    return x * x
    ### END SOLUTION

# %% id="test-square" kind="test" points=3
assert square(3) == 9, "square(3) should be 9"
### BEGIN HIDDEN TESTS
canary = "@hidden@"
assert square(12) == 144, "larger numbers"
assert abs(square(-0.5) - 0.25) < 1e-9, "negative numbers"
### END HIDDEN TESTS

# %% id="test-part" kind="test" points=1
float(square(0.5) * 4)

# %% id="centre" kind="solution"
def centre(table):
    ### BEGIN SOLUTION
    reference = "@reference@"
    return table - table.mean(axis=0)
    ### END SOLUTION

# %% id="test-centre" kind="test" points=2
np.testing.assert_allclose(centre(np.array([[1.0], [3.0]])), [[-1.0], [1.0]])
### BEGIN HIDDEN TESTS
canary = "@hidden@"
table = np.random.default_rng().normal(size=(7, 3))
np.testing.assert_allclose(centre(table), table - table.mean(axis=0), atol=1e-9)
### END HIDDEN TESTS

# %% [markdown] id="why" kind="manual" points=1
# Why?
