# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko"
# # 텐서

# %% [markdown] id="title" lang="en"
# # Tensors

# %% id="setup" kind="locked"
import torch

from grading.checks import submission

# %% id="double" kind="solution"
def double(tensor):
    ### BEGIN SOLUTION
    reference = "@reference@"
    return tensor * 2
    ### END SOLUTION

# %% id="test-double" kind="test" points=2
assert torch.equal(submission.double(torch.tensor([1.0, 2.0])), torch.tensor([2.0, 4.0]))
### BEGIN HIDDEN TESTS
canary = "@hidden@"
drawn = torch.rand(3, 4) + 1
result = submission.double(drawn)
assert result.shape == drawn.shape
assert torch.allclose(result, drawn * 2)
assert (result == drawn * 2).all()
torch.testing.assert_close(result, drawn * 2)
### END HIDDEN TESTS
