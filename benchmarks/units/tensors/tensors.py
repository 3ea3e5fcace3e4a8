# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="7702f344d0c6"
# # 9.1 텐서 세 걸음
#
# 어텐션에 들어가는 함수 세 개를 PyTorch 텐서로 만들어요. 함수마다 한두 줄에서 다섯 줄이면 돼요.

# %% [markdown] id="title" lang="en"
# # 9.1 Three steps with tensors
#
# You write three functions that attention is made of, on PyTorch tensors; one to five lines each.

# %% id="setup" kind="locked"
import torch

from grading.checks import hint, submission

torch.set_num_threads(1)

# %% [markdown] id="task-softmax" lang="ko" reviewed="5642907f616d"
# ## 과제 1. 소프트맥스
#
# `softmax(scores)`는 마지막 축의 합이 1이 되게 해요. `torch.softmax`는 쓰지 마세요. 점수가 1000처럼 커도 값이 무한대가 되면 안 돼요.

# %% [markdown] id="task-softmax" lang="en"
# ## Task 1. Softmax
#
# `softmax(scores)` makes the last axis sum to 1. Do not use `torch.softmax`. A score as large as 1000 must not become infinite.

# %% id="softmax" kind="solution"
def softmax(scores):
    ### BEGIN SOLUTION
    weights = torch.exp(scores - scores.max(dim=-1, keepdim=True).values)
    return weights / weights.sum(dim=-1, keepdim=True)
    ### END SOLUTION

# %% id="test-softmax" kind="test" points=2
result = submission.softmax(torch.tensor([[0.0, 0.0], [1.0, 3.0]]))
assert result.shape == (2, 2), hint("softmax-shape")
assert torch.allclose(result.sum(dim=-1), torch.ones(2)), hint("softmax-sum")
### BEGIN HIDDEN TESTS
scores = torch.randn(4, 7, 5, dtype=torch.float64)
assert torch.allclose(submission.softmax(scores), torch.softmax(scores, dim=-1)), hint("softmax-sum")
large = submission.softmax(torch.tensor([[1000.0, 1000.0, -1000.0]]))
assert torch.allclose(large, torch.tensor([[0.5, 0.5, 0.0]])), hint("softmax-large")
### END HIDDEN TESTS

# %% [markdown] id="task-norm" lang="ko" reviewed="59951654a10c"
# ## 과제 2. RMSNorm
#
# `rms_norm(x, weight)`은 마지막 축을 그 축의 제곱평균제곱근으로 나누고 `weight`를 곱해요. 0으로 나누지 않게 제곱의 평균에 `1e-6`을 더해요.

# %% [markdown] id="task-norm" lang="en"
# ## Task 2. RMSNorm
#
# `rms_norm(x, weight)` divides the last axis by its root mean square and multiplies by `weight`. Add `1e-6` to the mean of the
# squares, so that nothing is divided by zero.

# %% id="rms-norm" kind="solution"
def rms_norm(x, weight):
    ### BEGIN SOLUTION
    return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + 1e-6) * weight
    ### END SOLUTION

# %% id="test-norm" kind="test" points=2
result = submission.rms_norm(torch.tensor([[3.0, 4.0]]), torch.ones(2))
assert torch.allclose((result * result).mean(), torch.tensor(1.0), atol=1e-4), hint("norm-value")
### BEGIN HIDDEN TESTS
x, weight = torch.randn(3, 5, 16) + 2, torch.randn(16)
expected = torch.nn.functional.rms_norm(x, (16,), weight, eps=1e-6)
assert torch.allclose(submission.rms_norm(x, weight), expected, atol=1e-5), hint("norm-value")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
zeros = submission.rms_norm(torch.zeros(2, 4), torch.ones(4))
assert torch.equal(zeros, torch.zeros(2, 4)), hint("norm-zero")
### END HIDDEN TESTS

# %% [markdown] id="task-attend" lang="ko" reviewed="430d0fda46a1"
# ## 과제 3. 앞만 보는 어텐션
#
# `attend(q, k, v)`에서 토큰은 자기와 자기보다 앞에 있는 토큰만 봐요. 세 텐서의 모양은 모두 `(b, t, d)`이고, 점수는 $\sqrt{d}$로 나눠요.

# %% [markdown] id="task-attend" lang="en"
# ## Task 3. Attention that looks back only
#
# In `attend(q, k, v)` a token sees itself and those before it. All three have the shape `(b, t, d)`; divide the scores by
# $\sqrt{d}$.

# %% id="attend" kind="solution"
def attend(q, k, v):
    ### BEGIN SOLUTION
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    past = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    return softmax(scores.masked_fill(~past, float("-inf"))) @ v
    ### END SOLUTION

# %% id="test-attend" kind="test" points=3
q, k, v = torch.randn(3, 2, 4, 8).unbind()
result = submission.attend(q, k, v)
assert result.shape == v.shape, hint("attend-shape")
assert torch.allclose(result[:, 0], v[:, 0], atol=1e-5), hint("attend-first")
### BEGIN HIDDEN TESTS
q, k, v = torch.randn(3, 2, 12, 16, dtype=torch.float64).unbind()
expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
result = submission.attend(q, k, v)
assert torch.allclose(result[:, -1], expected[:, -1]), hint("attend-scale")
assert torch.allclose(result, expected), hint("attend-first")
### END HIDDEN TESTS
