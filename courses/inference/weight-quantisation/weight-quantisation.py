# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="0b406a59e218"
# # 4.2 대역폭과 가중치 양자화
#
# **이 단원을 마치면** 토큰 하나의 시간을 정하는 것이 계산이 아니라 대역폭임을 직접 재서 보이고, 가중치를 8비트와 4비트로 줄여
# 디코드를 실제로 빠르게 만들 수 있어요. 몇 배까지 빨라질 수 있는지 미리 계산하고, 한계의 몇 퍼센트에 닿았는지, 모델의 답은 얼마나
# 나빠졌는지, 백만 토큰의 값이 얼마나 내려갔는지 숫자로 말할 수 있어요.
#
# **왜 중요할까요?** 파라미터가 80억 개인 모델의 가중치는 16비트로 16 GB예요. 토큰 하나를 만들 때마다 이 16 GB를 메모리에서 모두 읽어야 해요.
# 4비트로 줄이면 읽을 양이 4분의 1이 되고, 같은 GPU에서 토큰이 더 빨리 나오고, 더 작은 GPU에도 모델이 올라가요. 그런데 양자화를 하고도
# 오히려 **열 배 넘게 느려지는** 실수가 흔해요. 바이트를 줄이는 것과 시간을 줄이는 것은 다른 일이거든요. 이 단원에서 둘 다 해 봐요.
#
# **걸리는 시간** 6시간 · **먼저 알아야 할 것** 양자화의 기초(3.3), KV 캐시와 디코드(4.1)

# %% [markdown] id="title" lang="en"
# # 4.2 Bandwidth-bound decoding
#
# **After this unit** you can show by measurement that the time of a token is decided by bandwidth and not by arithmetic, and
# make decoding faster by storing weights in 8 and 4 bits. You can compute beforehand how much faster it can get, and say in
# figures what part of the limit you reached, how much worse the model became, and how far the price of a million tokens fell.
#
# **Why it matters.** The weights of a model of 8 billion parameters take 16 GB in 16 bits, and every single token means reading
# all 16 GB from memory. In 4 bits that is a quarter: tokens come sooner from the same GPU, and the model fits on a smaller one.
# Yet it is a common mistake to quantise a model and find it **more than ten times slower**. Fewer bytes and less time are two
# different things. Here you get both.
#
# **Time** 6 hours · **Before you start** the basics of quantisation (3.3); the KV cache and decoding (4.1)

# %% id="setup" kind="locked"
import time
from types import SimpleNamespace

import academy_lm
import matplotlib.pyplot as plt
import torch
from academy_lm.text import documents

from grading.checks import gate, gpu, hint, speedup, submission, when_solved

torch.set_num_threads(1)


def typical(function, repeats=7):
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return sorted(times)[repeats // 2]


def read_bandwidth(size):
    block = torch.ones(size // 4)
    block.sum()
    return 4 * block.numel() / typical(block.sum)

# %% [markdown] id="why" lang="ko" reviewed="85e97f41aa47"
# ## 디코드는 왜 메모리를 기다릴까
#
# 가중치 행렬 `(out, in)`에 벡터 하나를 곱하면 숫자 하나마다 곱셈 한 번, 덧셈 한 번을 해요. float32라면 **4바이트를 읽어서 계산 두 번**을
# 하고 버리는 셈이에요. 벡터를 256개 모아 한꺼번에 곱하면 같은 4바이트로 계산을 512번 해요. 이렇게 읽은 바이트마다 하는 계산의 수를
# **연산 강도**라고 해요.
#
# 아래에서 같은 행렬에 벡터 1개와 256개를 곱해 볼게요. 1초에 읽은 가중치(GB/s)와 1초에 한 계산(GFLOP/s)을 함께 보세요. 맨 앞 줄은 그냥
# 읽어서 더하기만 한 것, 즉 **이 컴퓨터에서 잰 대역폭**이에요.

# %% [markdown] id="why" lang="en"
# ## Why decoding waits for memory
#
# A weight matrix `(out, in)` times one vector does one multiplication and one addition for each number. In float32 that means
# **reading four bytes, computing twice**, and throwing them away. With 256 vectors at once, the same four bytes serve 512
# computations. The computations for each byte read are called the **arithmetic intensity**.
#
# Below, the same matrix is multiplied by 1 vector and by 256. Look at the weights read in a second (GB/s) beside the
# computations done in a second (GFLOP/s). The first line only reads and adds up: it is **the bandwidth, measured on this
# machine**.

# %% id="why-code" kind="demo"
matrix = torch.randn(4096, 4096)
print(hint("read-line", gb=f"{read_bandwidth(matrix.nbytes) / 1e9:5.1f}"))
for vectors in (1, 256):
    x = torch.randn(vectors, 4096)
    seconds = typical(lambda: x @ matrix.T)
    gb, gflop = matrix.nbytes / seconds / 1e9, 2 * vectors * matrix.numel() / seconds / 1e9
    print(hint("matmul-line", vectors=f"{vectors:3}", gb=f"{gb:5.1f}", gflop=f"{gflop:6.1f}"))

# %% [markdown] id="why-seen" lang="ko" reviewed="363cf0642250"
# 벡터 하나를 곱할 때 계산 능력은 대부분 놀고 있어요. 256개를 곱할 때의 GFLOP/s가 이 코어가 낼 수 있는 힘인데, 하나를 곱할 때는 그 가운데 얼마나
# 쓰고 있나요? 반대로 GB/s는 맨 앞 줄의 대역폭을 얼마나 쓰고 있는지 나눠 보세요. 먼저 바닥나는 쪽은 메모리예요. 디코드는 **벡터 하나**를 곱하는
# 일이니, 더 빨라지려면 계산을 줄일 것이 아니라 **읽을 바이트를 줄여야** 해요.

# %% [markdown] id="why-seen" lang="en"
# With one vector, most of the arithmetic stands idle: the GFLOP/s of 256 vectors show what this core can do. What part of that
# does one vector use? And what part of the first line's bandwidth do its GB/s use? Memory is the one to run out first. Decoding
# multiplies **one vector**, so what makes it faster is not less arithmetic but **fewer bytes to read**.

# %% [markdown] id="predict" lang="ko" reviewed="35645b341c05"
# ## 먼저 예상해 보세요
#
# 가중치를 float32에서 8비트로 바꾸면 바이트가 4분의 1, 4비트로 바꾸면 8분의 1쯤이 돼요. 그러면 토큰은 **몇 배** 빨라질까요?
#
# 1. 8비트 정수를 그대로 읽어 곱하는 커널을 쓰면
# 2. 4비트 정수를 그대로 읽어 곱하는 커널을 쓰면
# 3. 8비트로 저장해 두고, 곱할 때마다 float32로 되돌려서(역양자화) 곱하면
#
# 실행하기 전에 세 숫자를 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# From float32 to 8 bits, the bytes fall to a quarter; to 4 bits, to about an eighth. **How many times** faster will a token be
#
# 1. with a kernel that reads 8-bit integers and multiplies them as they are,
# 2. with a kernel that does so with 4-bit integers,
# 3. when we store 8 bits and turn them back into float32 (dequantise) at each multiplication?
#
# Write the three numbers down before you run on. They are not graded.

# %% id="guess"
int8_guess = 2
int4_guess = 2
dequantised_guess = 2

# %% [markdown] id="task-bytes" lang="ko" reviewed="5847c7aabe3a"
# ## 과제 1. 바이트를 세면 속도가 보인다 (쉬움)
#
# 시간을 재기 전에 바이트부터 정확히 세요. 두 함수를 완성하세요.
#
# - `stored_bytes(rows, columns, bits, group, extra)`: 모양 `(rows, columns)`인 가중치를 저장하는 데 드는 바이트 수, **정수**. 숫자
#   하나에 `bits`비트를 빈틈없이 쓰고, 각 행을 `group`열씩 나눈 **그룹마다** `extra`바이트(스케일 같은 것)를 더 써요. `columns`는 `group`의
#   배수이고, 숫자들의 비트를 모두 더하면 8의 배수예요.
# - `decode_limit(bandwidth, weight_bytes, kv_bytes, batch)`: 1초에 만들 수 있는 토큰 수의 **상한**. 한 단계에 `batch`건이 토큰을 하나씩
#   얻어요. 한 단계마다 가중치는 모두가 함께 한 번 읽고, KV 캐시 `kv_bytes`바이트는 요청마다 따로 읽어요. `bandwidth`는 1초에 읽는
#   바이트 수예요.
#
# 4비트, 그룹 64열, 그룹마다 4바이트라면 숫자 하나에 꼭 4.5비트가 들어요. 왜 그런지 손으로 계산해 보세요.

# %% [markdown] id="task-bytes" lang="en"
# ## Task 1. Count bytes and see the speed (easy)
#
# Count bytes exactly before you take time. Complete two functions.
#
# - `stored_bytes(rows, columns, bits, group, extra)`: bytes that store weights of shape `(rows, columns)`, an **integer**. Each
#   number takes `bits` bits, without gaps; each row is cut into groups of `group` columns, and **each group** takes `extra` bytes
#   more (a scale, say). `columns` is a multiple of `group`, and the bits of all numbers are a multiple of 8.
# - `decode_limit(bandwidth, weight_bytes, kv_bytes, batch)`: the **most** tokens that a second can bring. One step gives each of
#   `batch` requests one token. In a step the weights are read once for all, and each request's own KV cache of `kv_bytes` bytes
#   is read for it alone. `bandwidth` is in bytes a second.
#
# With 4 bits, groups of 64 columns and 4 bytes a group, a number takes exactly 4.5 bits. Work out by hand why.

# %% id="stored-bytes" kind="solution"
def stored_bytes(rows, columns, bits, group, extra):
    ### BEGIN SOLUTION
    groups = rows * (columns // group)
    return rows * columns * bits // 8 + groups * extra
    ### END SOLUTION


def decode_limit(bandwidth, weight_bytes, kv_bytes, batch):
    ### BEGIN SOLUTION
    steps = bandwidth / (weight_bytes + batch * kv_bytes)
    return batch * steps
    ### END SOLUTION

# %% id="test-bytes" kind="test" points=2
assert submission.stored_bytes(4096, 4096, 32, 4096, 0) == 4 * 4096 * 4096, hint("bytes-plain")
assert submission.stored_bytes(4, 64, 8, 64, 2) == 4 * 64 + 4 * 2, hint("bytes-rows")
assert submission.stored_bytes(16, 128, 4, 64, 4) == 16 * 128 * 4.5 / 8, hint("bytes-groups")
assert abs(submission.decode_limit(20e9, 5e9, 0, 1) - 4) < 1e-6, hint("limit-one")
### BEGIN HIDDEN TESTS
import random
from numbers import Integral

for _ in range(40):
    rows, groups = 8 * random.randint(1, 600), random.randint(1, 40)
    group = random.choice([1, 5, 12, 32, 64, 128])
    bits, extra = random.choice([2, 3, 4, 6, 8, 16, 32]), random.randint(0, 8)
    found = submission.stored_bytes(rows, groups * group, bits, group, extra)
    assert found == rows * groups * group * bits // 8 + rows * groups * extra, hint("bytes-groups")
    assert isinstance(found, Integral), hint("bytes-integer")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
assert abs(submission.decode_limit(30e9, 5e9, 1e9, 1) - 5) < 1e-6, hint("limit-kv")
assert abs(submission.decode_limit(30e9, 5e9, 0, 8) - 48) < 1e-6, hint("limit-batch")
assert abs(submission.decode_limit(90e9, 5e9, 1e9, 4) - 40) < 1e-6, hint("limit-batch")
assert abs(submission.decode_limit(9e9, 16e9, 4e9, 2) - 0.75) < 1e-6, hint("limit-batch")
### END HIDDEN TESTS

# %% [markdown] id="example" lang="ko" reviewed="ad65d506bc6b"
# ## 따라 해 보기: 한 행을 8비트로
#
# 숫자 네 개짜리 행을 8비트 정수로 바꿔 볼게요. 가장 큰 절댓값이 127이 되도록 스케일을 정하고, 나눠서 반올림하면 끝이에요. 되돌릴 때는 정수에
# 스케일을 곱해요. 반올림은 아무리 빗나가도 반 칸이니, 오차는 **스케일의 절반**을 넘지 않아요.
#
# 그런데 함정이 하나 있어요. 우리가 쓸 커널은 스케일을 **bfloat16**으로 받아요. bfloat16은 유효 숫자가 8비트뿐이라 스케일이 조금
# 달라져요. 마지막 줄은 그 차이가 정수 127에서 몇 칸이나 되는지 보여 줘요.

# %% [markdown] id="example" lang="en"
# ## A worked example: one row in 8 bits
#
# Let us turn a row of four numbers into 8-bit integers. Choose the scale so that the largest magnitude becomes 127, divide,
# round, done. To go back, multiply the integers by the scale. Rounding misses by half a step at most, so the error is never
# more than **half the scale**.
#
# There is one catch. The kernel that we will use takes its scales as **bfloat16**, which has only 8 significant bits, so the scale
# changes a little. The last line shows how many steps that makes at the integer 127.

# %% id="example-code"
row = torch.tensor([0.90, -0.31, 0.02, 0.517])
scale = row.abs().max() / 127
codes = (row / scale).round().to(torch.int8)
print(scale.item(), codes.tolist())
print(((codes * scale - row).abs() / scale).tolist())
stored = scale.to(torch.bfloat16)
print(stored.item(), (127 * (stored.float() - scale).abs() / scale).item())

# %% [markdown] id="example-seen" lang="ko" reviewed="4f7353ac62f2"
# 오차는 모두 0.5칸 안이에요. 그런데 스케일을 bfloat16으로 바꿔 저장하면, 정수를 다 정한 **뒤에** 자가 바뀐 셈이라 오차가 더 붙어요. 큰 값일수록
# 더 많이 어긋나죠. 저장될 스케일을 **먼저** 정하고 그 스케일로 나누면 이 오차는 사라져요.

# %% [markdown] id="example-seen" lang="en"
# All errors are within 0.5 steps. But a scale that is stored as bfloat16 **after** the integers were chosen is a ruler changed
# behind their back, and its error comes on top, most of all for large values. Decide on the scale that will be stored **first**
# and divide by that one, and this error is gone.

# %% [markdown] id="task-int8" lang="ko" reviewed="9ec663a62c0d"
# ## 과제 2. 행마다 8비트로 (보통)
#
# `quantise_int8(weight)`를 완성하세요. 행(출력 채널)마다 스케일을 하나씩 두는 대칭 양자화예요.
#
# - `weight`: 모양 `(out, in)`인 float32나 float64 텐서
# - 돌려주는 값: `codes`와 `scales` 두 개. `codes`는 모양 `(out, in)`에 `torch.int8`, 메모리에 순서대로 놓인(contiguous) 텐서. `scales`는 모양
#   `(out,)`에 `torch.bfloat16`
# - 모든 숫자에서 `codes × scales`와 `weight`의 차이가 **돌려준 스케일의 절반**을 넘지 않아야 해요. 스케일이 쓸데없이 커도 안 돼요. 그 행의
#   가장 큰 절댓값 / 127에서 1% 넘게 벗어나지 않게 하세요.
# - 모두 0인 행도 있어요. 되돌리면 정확히 0이어야 하고, NaN이 나오면 안 돼요.

# %% [markdown] id="task-int8" lang="en"
# ## Task 2. Eight bits, row by row (medium)
#
# Complete `quantise_int8(weight)`: symmetric quantisation with one scale for each row (output channel).
#
# - `weight`: a tensor of shape `(out, in)`, float32 or float64
# - Returns `codes` and `scales`: `codes` of shape `(out, in)` and type `torch.int8`, contiguous in memory; `scales` of shape
#   `(out,)` and type `torch.bfloat16`
# - For every number, `codes × scales` differs from `weight` by at most **half the scale that you return**. Nor may a scale be
#   larger than it need be: stay within 1% of the row's largest magnitude / 127.
# - A row may be all zeros. It comes back as exactly 0, and there is no NaN.

# %% id="quantise-int8" kind="solution"
def quantise_int8(weight):
    ### BEGIN SOLUTION
    scales = (weight.abs().amax(dim=1) / 127).to(torch.bfloat16)
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    codes = (weight / scales.to(weight.dtype)[:, None]).round().clamp(-127, 127)
    return codes.to(torch.int8).contiguous(), scales
    ### END SOLUTION

# %% id="test-int8" kind="test" points=3
def check_int8(weight, found):
    codes, scales = found
    assert tuple(codes.shape) == tuple(weight.shape), hint("codes-shape")
    assert tuple(scales.shape) == weight.shape[:1], hint("scales-shape")
    assert codes.dtype == torch.int8, hint("codes-type")
    assert scales.dtype == torch.bfloat16, hint("scales-type")
    exact, step = weight.double(), scales.double()[:, None]
    assert torch.isfinite(step).all(), hint("scales-finite")
    largest = exact.abs().amax(dim=1, keepdim=True)
    error = (codes.double() * step - exact).abs()
    zero = largest == 0
    assert (error[zero[:, 0]] == 0).all(), hint("zero-row")
    assert ((step <= 1.01 * largest / 127) | zero).all(), hint("scales-large")
    assert (step >= 0.99 * largest / 127).all(), hint("scales-small")
    most = (error / step.abs().clamp_min(1e-300))[~zero.expand_as(error)]
    worst = most.max().item() if most.numel() else 0.0
    assert worst <= 0.5 + 1e-3, hint("error-half", worst=f"{worst:.2f}")


weight = torch.tensor([[1.27, -0.5, 0.004], [100.0, 50.0, -127.0]])
check_int8(weight, submission.quantise_int8(weight))
check_int8(weight[:1], submission.quantise_int8(weight[:1]))
### BEGIN HIDDEN TESTS
torch.seed()
weight = torch.randn(64, 320) * torch.logspace(-4, 3, 64)[:, None]
check_int8(weight, submission.quantise_int8(weight))
weight[torch.arange(64), torch.randint(0, 320, (64,))] *= 50
check_int8(weight, submission.quantise_int8(weight))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
weight = torch.randn(40, 96)
weight[7] = 0
weight[21] *= 1e-6
check_int8(weight, submission.quantise_int8(weight))
check_int8(torch.zeros(3, 32), submission.quantise_int8(torch.zeros(3, 32)))
check_int8(-weight[30:31].abs(), submission.quantise_int8(-weight[30:31].abs()))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
turned = torch.randn(96, 48).T
codes, scales = submission.quantise_int8(turned)
check_int8(turned, (codes, scales))
assert codes.is_contiguous(), hint("codes-contiguous")
check_int8(turned.double(), submission.quantise_int8(turned.double()))
column = torch.randn(5, 1)
check_int8(column, submission.quantise_int8(column))
### END HIDDEN TESTS

# %% [markdown] id="kernels" lang="ko" reviewed="3ebf7ccb8c7b"
# ## 정수를 그대로 읽는 커널
#
# 바이트를 줄여 놓아도, 곱하기 전에 float32로 되돌려 메모리에 써 버리면 아무 소용이 없어요. 정수를 **레지스터에서** 실수로 바꾸며 곧바로 곱하는
# 커널이 있어야 해요. PyTorch에는 그런 커널이 들어 있지만, 이름이 밑줄로 시작하는 내부 함수라서
# 모양이나 메모리 주소가 맞는지 확인하지 않고 엉뚱한 곳을 읽기도 해요. 그래서 확인을 덧붙여 아래처럼 감싸 두었어요. 조건이 맞지 않으면 `ValueError`가 나요.
#
# | 함수 | 입력 | 출력 |
# |---|---|---|
# | `int8_kernel(x, codes, scales)` | `x` `(m, in)`, `codes` `(out, in)` int8, `scales` `(out,)`. `x`와 `scales`의 자료형은 같아야 해요. | `(m, out)`, `x`의 자료형 |
# | `int4_layout(pairs)` | `(out, in / 2)` uint8, 한 바이트에 정수 두 개 | 같은 바이트를 커널이 읽기 좋은 순서로 다시 놓은 것 |
# | `int4_kernel(x, layout, group, scales_and_zeros)` | `x` `(m, in)` bfloat16, `scales_and_zeros` `(in / group, out, 2)` bfloat16 | `(m, out)` bfloat16 |
#
# `in`은 32의 배수(4비트는 `group`의 배수), `out`은 16의 배수, `group`은 32, 64, 128, 256 중 하나여야 해요. GPU의 4비트 커널은 조금 더 까다로워서
# `in`이 128의 배수여야 해요.

# %% [markdown] id="kernels" lang="en"
# ## Kernels that read the integers as they are
#
# Fewer bytes are worth nothing if they are turned back into float32 and written to memory before the multiplication. What is
# needed is a kernel that turns integers into floats **in registers** and multiplies right there. PyTorch has such kernels, but
# they are internal functions, with names that start with an underscore, some of which read
# beyond a tensor rather than check its shape and address. So they are wrapped below, with checks, and raise `ValueError` when a
# condition does not hold.
#
# | function | takes | gives |
# |---|---|---|
# | `int8_kernel(x, codes, scales)` | `x` `(m, in)`, `codes` `(out, in)` int8, `scales` `(out,)`; `x` and `scales` of the same type | `(m, out)`, of the type of `x` |
# | `int4_layout(pairs)` | `(out, in / 2)` uint8, two integers a byte | the same bytes, in an order that the kernel reads well |
# | `int4_kernel(x, layout, group, scales_and_zeros)` | `x` `(m, in)` bfloat16, `scales_and_zeros` `(in / group, out, 2)` bfloat16 | `(m, out)` bfloat16 |
#
# `in` must be a multiple of 32 (in 4 bits: of `group`), `out` of 16, and `group` one of 32, 64, 128 and 256. The 4-bit kernel
# of a GPU is stricter and wants `in` to be a multiple of 128.

# %% id="kernels-code" kind="locked"
def need(condition, key):
    if not condition:
        raise ValueError(hint(key))


def aligned(tensor):
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % 64 == 0 else tensor.clone()


def int8_kernel(x, codes, scales):
    need(x.dim() == 2 and x.is_floating_point(), "kernel-x")
    need(codes.dtype == torch.int8 and codes.dim() == 2 and codes.is_contiguous(), "kernel-codes")
    need(x.shape[1] == codes.shape[1] and x.shape[1] % 32 == 0, "kernel-width")
    need(scales.shape == codes.shape[:1] and scales.is_contiguous(), "kernel-scales")
    need(scales.dtype == x.dtype, "kernel-types")
    if x.is_cuda:
        return int8_on_gpu(x.contiguous(), codes, scales)
    return torch.ops.aten._weight_int8pack_mm(aligned(x), aligned(codes), scales)


def int4_layout(pairs):
    need(pairs.dtype == torch.uint8 and pairs.dim() == 2, "kernel-pairs")
    need(pairs.shape[0] % 16 == 0, "kernel-rows")
    pairs = pairs.contiguous()
    if pairs.is_cuda:
        return torch.ops.aten._convert_weight_to_int4pack(pairs, 8)
    codes = torch.stack([pairs >> 4, pairs & 15], dim=2).flatten(1)
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)


def int4_kernel(x, layout, group, scales_and_zeros):
    need(x.dim() == 2 and x.dtype == torch.bfloat16, "kernel-x-bfloat16")
    need(group in (32, 64, 128, 256) and x.shape[1] % group == 0, "kernel-group")
    rows = 2 * layout.numel() * layout.element_size() // x.shape[1]
    shape = (x.shape[1] // group, rows, 2)
    need(tuple(scales_and_zeros.shape) == shape, "kernel-scales-and-zeros")
    need(scales_and_zeros.dtype == torch.bfloat16, "kernel-types")
    need(scales_and_zeros.is_contiguous(), "kernel-scales-and-zeros")
    if x.is_cuda:
        multiply = torch.ops.aten._weight_int4pack_mm
    else:
        multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
    return multiply(aligned(x), layout, group, scales_and_zeros)

# %% [markdown] id="task-linear-int8" lang="ko" reviewed="0a72878c3f84"
# ## 과제 3. 8비트 가중치로 곱하기 (보통)
#
# `linear_int8(x, codes, scales)`를 완성하세요. `x @ weight.T`를 `int8_kernel`로 계산하는 함수예요.
#
# - `x`: 모양 `(…, in)`. 앞의 축은 하나도 없을 수도, 여럿일 수도 있어요. 자료형은 float32나 float64, bfloat16
# - `codes`, `scales`: 과제 2가 돌려주는 것
# - 돌려주는 값: 모양 `(…, out)`, 자료형은 `x`와 같게
# - 커널은 `x`가 bfloat16일 때만 빨라요. 오차는 결과 전체의 크기(노름)에 견줘 1%보다 작아야 해요.

# %% [markdown] id="task-linear-int8" lang="en"
# ## Task 3. Multiply with 8-bit weights (medium)
#
# Complete `linear_int8(x, codes, scales)`, which computes `x @ weight.T` with `int8_kernel`.
#
# - `x`: shape `(…, in)`, with no leading axis, one, or several; of type float32, float64 or bfloat16
# - `codes`, `scales`: what task 2 returns
# - Returns: shape `(…, out)`, of the type of `x`
# - The kernel is fast only when `x` is bfloat16. The error must stay below 1% of the size (norm) of the whole result.

# %% id="linear-int8" kind="solution"
def linear_int8(x, codes, scales):
    ### BEGIN SOLUTION
    rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
    result = int8_kernel(rows, codes, scales)
    return result.to(x.dtype).reshape(*x.shape[:-1], codes.shape[0])
    ### END SOLUTION

# %% id="test-linear-int8" kind="test" points=3
def check_linear(x, found, weight, text):
    expected = x.double() @ weight.double().T
    assert tuple(found.shape) == tuple(expected.shape), hint("linear-shape")
    assert found.dtype == x.dtype, hint("linear-type")
    assert torch.isfinite(found).all(), text
    assert (found.double() - expected).norm() <= 0.01 * expected.norm(), text


codes = torch.randint(-127, 128, (48, 64), dtype=torch.int8)
scales = torch.linspace(0.01, 0.2, 48).to(torch.bfloat16)
restored = codes.double() * scales.double()[:, None]
for shape in ((1, 64), (3, 64)):
    x = torch.randn(shape)
    found = submission.linear_int8(x, codes, scales)
    check_linear(x, found, restored, hint("linear-int8"))
### BEGIN HIDDEN TESTS
torch.seed()
for shape in ((64,), (2, 3, 64), (1, 1, 64), (4, 1, 2, 64), (17, 64)):
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(shape, dtype=dtype)
        found = submission.linear_int8(x, codes, scales)
        check_linear(x, found, restored, hint("linear-axes", shape=shape))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for rows, columns in ((16, 4096), (1024, 32), (32, 96)):
    codes = torch.randint(-127, 128, (rows, columns), dtype=torch.int8)
    scales = (torch.rand(rows) + 0.01).to(torch.bfloat16)
    restored = codes.double() * scales.double()[:, None]
    x = 100 * torch.randn(5, 2 * columns)[:, ::2]
    found = submission.linear_int8(x, codes, scales)
    check_linear(x, found, restored, hint("linear-int8"))
    x = torch.randn(2, columns).to(torch.bfloat16)
    found = submission.linear_int8(x, codes, scales)
    check_linear(x, found, restored, hint("linear-int8"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
weight = torch.randn(64, 128) * torch.logspace(-2, 2, 64)[:, None]
x = torch.randn(6, 128)
found = submission.linear_int8(x, *submission.quantise_int8(weight))
row_error = (found - x @ weight.T).norm(dim=0) / (x @ weight.T).norm(dim=0)
assert row_error.max() <= 0.05, hint("linear-rows")
### END HIDDEN TESTS

# %% [markdown] id="stack" lang="ko" reviewed="3725d24833cf"
# ## 속도를 잴 모델
#
# 4.1의 작은 모델은 가중치가 4 MB도 안 돼서 CPU 캐시에 통째로 들어가요. 메모리 대역폭을 이야기하려면 **캐시보다 훨씬 큰** 가중치가
# 필요해요. 그래서 속도는 4096×4096 행렬 세 개(float32로 201 MB)를 차례로 지나는 모델로 재고, 답의 품질은 나중에 진짜로 학습한 모델로 재요.
#
# `prepare(kind)`는 그 종류로 가중치를 저장하고 바이트 수를 돌려줘요. `decode(x, kind)`는 토큰 하나를 모든 층에 통과시키고,
# `one_by_one(rows, kind)`는 토큰 여러 개를 하나씩 차례로 통과시켜요. 4비트의 그룹은 64열이에요.

# %% [markdown] id="stack" lang="en"
# ## A model to take times with
#
# The small model of 4.1 has less than 4 MB of weights and fits into the CPU's caches as a whole. To speak of memory bandwidth,
# the weights must be **far larger than the caches**. So we take times with three matrices of 4096×4096 in a row (201 MB in
# float32), and look at the quality of the answers later, with a model that was really trained.
#
# `prepare(kind)` stores the weights in that kind and returns their bytes. `decode(x, kind)` takes one token through all layers,
# `one_by_one(rows, kind)` several tokens, one after the other. Groups in 4 bits have 64 columns.

# %% id="stack-code" kind="locked"
LAYERS, WIDTH, GROUP = 3, 4096, 64
layers = {}


def random_weights(device="cpu", width=WIDTH):
    generator = torch.Generator(device).manual_seed(0)
    for _ in range(LAYERS):
        yield torch.randn(width, width, generator=generator, device=device).div_(width**0.5)


def pack(weight, kind):
    if kind == "int8":
        parts = quantise_int8(weight)
    elif kind == "int4":
        parts = pack_int4(weight, GROUP)
    else:
        parts = (weight.to(getattr(torch, kind)),)
    return tuple(map(aligned, parts))


def prepare(kind, device="cpu", width=WIDTH):
    layers.pop(kind, None)
    layers[kind] = [pack(weight, kind) for weight in random_weights(device, width)]
    return sum(part.nbytes for parts in layers[kind] for part in parts)


def linear_plain(x, weight):
    return (x.to(weight.dtype) @ weight.T).to(x.dtype)


def decode(x, kind):
    for parts in layers[kind]:
        if kind == "int8":
            x = x + linear_int8(x, *parts)
        elif kind == "int4":
            x = x + linear_int4(x, *parts)
        else:
            x = x + linear_plain(x, *parts)
    return x


def one_by_one(rows, kind):
    return torch.cat([decode(row, kind) for row in rows.split(1)])


def decode_float32(rows):
    return one_by_one(rows, "float32")


def decode_int8(rows):
    return one_by_one(rows, "int8")


def decode_int4(rows):
    return one_by_one(rows, "int4")

# %% [markdown] id="trap" lang="ko" reviewed="9ee71877463e"
# ## 함정: 바이트는 줄었는데 느려졌어요
#
# 8비트로 저장하는 방법 네 가지를 재 볼게요. 모두 같은 정수를 쓰고 답도 거의 같아요. `x`의 자료형만 다른 것도 있어요.

# %% [markdown] id="trap" lang="en"
# ## The trap: fewer bytes, and slower
#
# Four ways to use weights stored in 8 bits. All use the same integers and give nearly the same answer; some differ only in the
# type of `x`.

# %% id="trap-code" kind="demo"
def dequantise_each_time(x, codes, scales):
    return x @ (codes.float() * scales.float()[:, None]).T


def kernel_in_float32(x, codes, scales):
    return int8_kernel(x, codes, scales.float())


def cast_to_bfloat16(x, codes, scales):
    return linear_plain(x, codes.to(torch.bfloat16) * scales[:, None])


with when_solved():
    weight = next(random_weights())
    codes, scales = pack(weight, "int8")
    x = torch.randn(1, WIDTH)
    plain = typical(lambda: linear_plain(x, weight))
    for label, function in [
        ("trap-kernel", linear_int8),
        ("trap-float32", kernel_in_float32),
        ("trap-dequantise", dequantise_each_time),
        ("trap-bfloat16", cast_to_bfloat16),
    ]:
        ratio = plain / typical(lambda: function(x, codes, scales), repeats=3)
        error = (function(x, codes, scales) - x @ weight.T).norm() / (x @ weight.T).norm()
        print(hint(label, ratio=f"{ratio:5.2f}", error=f"{100 * error:.1f}"))

# %% [markdown] id="trap-seen" lang="ko" reviewed="27be604fa0ea"
# 첫째 줄만 float32보다 빨라요. 곱할 때마다 되돌리면 8비트를 **읽고**, 그 네 배인 float32를 **쓰고**, 다시 **읽어요.** 바이트를 줄이려다
# 오히려 적어도 아홉 배를 옮긴 셈이에요(1 + 4 + 4). 게다가 자료형을 바꾸는 계산까지 해요. 둘째 줄은 같은 커널인데 `x`가 float32라서 빠른 길로 가지 못했어요.
# 저장 형식, 커널, `x`의 자료형이 **모두** 맞아야 빨라져요. 그러니 양자화했다는 말만 믿지 말고 꼭 재 보세요.

# %% [markdown] id="trap-seen" lang="en"
# Only the first line beats float32. Dequantising at every call **reads** 8 bits, **writes** four times as much float32, and
# **reads** that again: to save bytes, it moves at least nine for each weight (1 + 4 + 4), and converts types on top. The second line is the same
# kernel, but its `x` is float32, for which it has no fast path. Storage, kernel and type of `x` must **all** fit. So never
# trust the word "quantised": measure.

# %% [markdown] id="task-pairs" lang="ko" reviewed="a0fb3aebe73d"
# ## 과제 4. 한 바이트에 정수 두 개 (보통)
#
# 4비트 자료형은 텐서에 없어요. 0부터 15까지의 정수 두 개를 한 바이트에 담아야 해요. 함수 세 개를 완성하세요.
#
# - `pack_pairs(codes)`: 모양 `(rows, columns)`, `torch.uint8`, 값은 0~15, `columns`는 짝수. 돌려주는 값은 모양 `(rows, columns / 2)`, `torch.uint8`.
#   **짝수 번째(0, 2, 4, …) 열이 위쪽 4비트**, 그다음 열이 아래쪽 4비트로 가요. `[1, 2]`는 `0x12`가 돼요.
# - `unpack_pairs(pairs)`: 그 반대. 되돌리면 하나도 틀리지 않고 원래 정수가 나와야 해요.
# - `quantise_int4(weight, group)`: 모양 `(out, in)`인 float32나 float64 텐서를 각 행에서 `group`열씩 나눠, 그룹마다 스케일을 하나씩 둬요.
#   돌려주는 값은 `codes` `(out, in)` `torch.uint8`과 `scales` `(out, in / group)` `torch.bfloat16`. 되돌린 값은
#   `(codes - 8) × 스케일`이에요. 과제 2처럼 차이가 그 그룹의 (돌려준) 스케일의 절반을 넘지 않아야 하고, 스케일은 그룹의 가장 큰
#   절댓값 / 7보다 1% 넘게 크지 않아야 해요. 모두 0인 그룹은 정확히 0으로 돌아와야 해요.

# %% [markdown] id="task-pairs" lang="en"
# ## Task 4. Two integers in a byte (medium)
#
# Tensors have no 4-bit type, so two integers from 0 to 15 must share a byte. Complete three functions.
#
# - `pack_pairs(codes)`: shape `(rows, columns)`, `torch.uint8`, values 0 to 15, an even number of columns. Returns shape
#   `(rows, columns / 2)`, `torch.uint8`. **Columns 0, 2, 4, … go to the upper 4 bits**, each one's neighbour to the lower 4:
#   `[1, 2]` becomes `0x12`.
# - `unpack_pairs(pairs)`: the reverse. The round trip gives back every integer exactly.
# - `quantise_int4(weight, group)`: cuts each row of a float32 or float64 tensor `(out, in)` into groups of `group` columns, with one
#   scale each. Returns `codes` `(out, in)` `torch.uint8` and `scales` `(out, in / group)` `torch.bfloat16`. A weight comes back as
#   `(codes - 8) × scale`. As in task 2, it differs by at most half the group's scale (the one you return), and no scale is
#   more than 1% larger than the group's largest magnitude / 7. A group that is all zeros comes back as exactly 0.

# %% id="pairs" kind="solution"
def pack_pairs(codes):
    ### BEGIN SOLUTION
    return codes[:, 0::2] << 4 | codes[:, 1::2]
    ### END SOLUTION


def unpack_pairs(pairs):
    ### BEGIN SOLUTION
    return torch.stack([pairs >> 4, pairs & 15], dim=2).flatten(1)
    ### END SOLUTION

# %% id="quantise-int4" kind="solution"
def quantise_int4(weight, group):
    ### BEGIN SOLUTION
    groups = weight.unflatten(1, (-1, group))
    scales = (groups.abs().amax(dim=2) / 7).to(torch.bfloat16)
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    codes = (groups / scales.to(weight.dtype)[:, :, None]).round().clamp(-8, 7) + 8
    return codes.to(torch.uint8).flatten(1), scales
    ### END SOLUTION

# %% id="test-pairs" kind="test" points=2
small = torch.tensor([[1, 2, 15, 0], [0, 15, 8, 7]], dtype=torch.uint8)
pairs = submission.pack_pairs(small)
assert tuple(pairs.shape) == (2, 2) and pairs.dtype == torch.uint8, hint("pairs-shape")
assert pairs.tolist() == [[0x12, 0xF0], [0x0F, 0x87]], hint("pairs-order")
back = submission.unpack_pairs(pairs)
assert tuple(back.shape) == (2, 4) and torch.equal(back.long(), small.long()), hint("pairs-back")
### BEGIN HIDDEN TESTS
torch.seed()
for rows, columns in ((1, 2), (5, 2), (3, 6), (16, 256), (7, 34)):
    codes = torch.randint(0, 16, (rows, columns), dtype=torch.uint8)
    pairs = submission.pack_pairs(codes)
    assert pairs.nbytes * 2 == codes.nbytes, hint("pairs-shape")
    wanted = codes[:, ::2].long() * 16 + codes[:, 1::2].long()
    assert torch.equal(pairs.long(), wanted), hint("pairs-order")
    back = submission.unpack_pairs(pairs)
    assert tuple(back.shape) == (rows, columns), hint("pairs-back")
    assert torch.equal(back.long(), codes.long()), hint("pairs-back")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
every = torch.arange(256, dtype=torch.uint8).view(16, 16)
back = submission.unpack_pairs(every).long()
assert torch.equal(back[:, ::2] * 16 + back[:, 1::2], every.long()), hint("pairs-back")
turned = torch.randint(0, 16, (24, 10), dtype=torch.uint8).T
back = submission.unpack_pairs(submission.pack_pairs(turned))
assert torch.equal(back.long(), turned.long()), hint("pairs-back")
### END HIDDEN TESTS

# %% id="test-int4" kind="test" points=3
def check_int4(weight, group, found):
    codes, scales = found
    count = weight.shape[1] // group
    assert tuple(codes.shape) == tuple(weight.shape), hint("codes-shape")
    assert tuple(scales.shape) == (weight.shape[0], count), hint("groups-shape")
    assert codes.dtype == torch.uint8 and codes.max() <= 15, hint("codes-range")
    assert scales.dtype == torch.bfloat16, hint("scales-type")
    assert torch.isfinite(scales).all(), hint("scales-finite")
    exact = weight.double().unflatten(1, (count, group))
    step = scales.double()[:, :, None]
    largest = exact.abs().amax(dim=2, keepdim=True)
    restored = (codes.double() - 8).unflatten(1, (count, group)) * step
    error = (restored - exact).abs()
    zero = (largest == 0).expand_as(error)
    assert (error[zero] == 0).all(), hint("zero-group")
    assert ((step <= 1.01 * largest / 7) | (largest == 0)).all(), hint("groups-large")
    most = (error / step.abs().clamp_min(1e-300))[~zero]
    worst = most.max().item() if most.numel() else 0.0
    assert worst <= 0.5 + 1e-3, hint("error-half", worst=f"{worst:.2f}")


weight = torch.linspace(-1, 1, 128).view(2, 64) ** 3
for group in (64, 32):
    check_int4(weight, group, submission.quantise_int4(weight, group))
### BEGIN HIDDEN TESTS
torch.seed()
for rows, groups, group in ((16, 8, 32), (5, 2, 64), (1, 1, 32), (40, 4, 128), (3, 1, 256)):
    weight = torch.randn(rows, groups, group) * torch.logspace(-3, 3, rows)[:, None, None]
    weight = (weight * torch.logspace(-1, 1, groups)[:, None]).flatten(1)
    check_int4(weight, group, submission.quantise_int4(weight, group))
    check_int4(weight.double(), group, submission.quantise_int4(weight.double(), group))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
weight = torch.randn(32, 128)
weight[3, 32:64] = 0
weight[9] = 0
weight[21, :32] *= 1e-6
check_int4(weight, 32, submission.quantise_int4(weight, 32))
for sign in (1, -1):
    check_int4(sign * weight.abs(), 64, submission.quantise_int4(sign * weight.abs(), 64))
check_int4(weight.T, 32, submission.quantise_int4(weight.T, 32))
### END HIDDEN TESTS

# %% [markdown] id="task-linear-int4" lang="ko" reviewed="ad450b9ec09b"
# ## 과제 5. 4비트 가중치로 곱하기 (어려움)
#
# 두 함수를 완성하세요.
#
# - `pack_int4(weight, group)`: 과제 4의 함수로 양자화하고 둘씩 담은 다음, `layout`과 `scales_and_zeros` 두 개를 돌려줘요.
#   - `layout`: `int4_layout`이 돌려주는 것
#   - `scales_and_zeros`: 모양 `(in / group, out, 2)`, `torch.bfloat16`, contiguous. 마지막 축의 0번이 스케일, 1번이 0이에요. 커널은
#     `(정수 - 8) × 스케일 + 영점`을 계산하는데, 우리 양자화는 대칭이라 영점이 0이거든요. **축의 순서**가 과제 4의 `scales`와 달라요.
# - `linear_int4(x, layout, scales_and_zeros)`: 과제 3과 같은 일을 4비트로 해요. `x`의 모양과 자료형에 대한 약속도 같아요. 그룹의 크기는
#   따로 주지 않아요. 모양에서 알아내세요.

# %% [markdown] id="task-linear-int4" lang="en"
# ## Task 5. Multiply with 4-bit weights (hard)
#
# Complete two functions.
#
# - `pack_int4(weight, group)`: quantises and packs by pairs, with the functions of task 4, and returns `layout` and
#   `scales_and_zeros`.
#   - `layout`: what `int4_layout` returns
#   - `scales_and_zeros`: shape `(in / group, out, 2)`, `torch.bfloat16`, contiguous. On the last axis, 0 is the scale and 1 is zero:
#     the kernel computes `(integer - 8) × scale + zero`, and our quantisation is symmetric. The **order of axes** is not that of
#     `scales` in task 4.
# - `linear_int4(x, layout, scales_and_zeros)`: does what task 3 does, in 4 bits, with the same rules for the shapes and types of
#   `x`. The group's size is not given: find it from the shapes.

# %% id="linear-int4" kind="solution"
def pack_int4(weight, group):
    ### BEGIN SOLUTION
    codes, scales = quantise_int4(weight, group)
    layout = int4_layout(pack_pairs(codes))
    scales = scales.T
    return layout, torch.stack([scales, torch.zeros_like(scales)], dim=2).contiguous()
    ### END SOLUTION


def linear_int4(x, layout, scales_and_zeros):
    ### BEGIN SOLUTION
    groups, out, _ = scales_and_zeros.shape
    rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
    result = int4_kernel(rows, layout, x.shape[-1] // groups, scales_and_zeros)
    return result.to(x.dtype).reshape(*x.shape[:-1], out)
    ### END SOLUTION

# %% id="test-linear-int4" kind="test" points=3
def check_packed(weight, group, shape, dtype=torch.float32):
    codes, scales = submission.quantise_int4(weight, group)
    restored = (codes.double() - 8) * scales.double().repeat_interleave(group, dim=1)
    layout, scales_and_zeros = submission.pack_int4(weight, group)
    rows, columns = weight.shape
    wanted = rows * columns // 2
    assert layout.nbytes == wanted, hint("layout-bytes", found=layout.nbytes, wanted=wanted)
    assert torch.equal(layout, int4_layout(submission.pack_pairs(codes))), hint("layout-codes")
    shape_wanted = (columns // group, rows, 2)
    assert tuple(scales_and_zeros.shape) == shape_wanted, hint("scales-and-zeros-shape")
    assert scales_and_zeros.dtype == torch.bfloat16, hint("scales-type")
    assert torch.equal(scales_and_zeros[:, :, 0], scales.T), hint("scales-and-zeros")
    assert (scales_and_zeros[:, :, 1] == 0).all(), hint("scales-and-zeros")
    x = torch.randn(shape, dtype=dtype)
    found = submission.linear_int4(x, layout, scales_and_zeros)
    check_linear(x, found, restored, hint("linear-int4"))


check_packed(torch.randn(32, 128), 64, (1, 128))
check_packed(torch.randn(64, 64), 32, (2, 64))
### BEGIN HIDDEN TESTS
torch.seed()
for rows, groups, group in ((16, 1, 32), (48, 2, 128), (256, 1, 256), (128, 64, 64), (80, 3, 64)):
    sizes = torch.logspace(-1, 1, groups)[torch.randperm(groups)]
    weight = torch.randn(rows, groups, group) * sizes[:, None]
    check_packed(weight.flatten(1), group, (1, groups * group))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for shape in ((128,), (2, 3, 128), (1, 1, 128), (33, 128)):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        check_packed(torch.randn(32, 128), 32, shape, dtype)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
turned = torch.randn(256, 96).T
layout, scales_and_zeros = submission.pack_int4(turned, 64)
x = 100 * torch.randn(4, 512)[:, ::2]
found = submission.linear_int4(x, layout, scales_and_zeros)
assert (found - x @ turned.T).norm() <= 0.2 * (x @ turned.T).norm(), hint("linear-int4")
### END HIDDEN TESTS

# %% [markdown] id="measure" lang="ko" reviewed="b6a39d04d197"
# ## 이제 재 봅시다
#
# 바이트부터 세고, 그 바이트로 예측한 배수와 실제로 잰 배수를 나란히 놓아요. 16비트 실수 두 가지도 함께 재요. 이 둘은 양자화가 아니라 자료형만 바꾼
# 거예요. 여러분의 예상과 견주어 보세요.

# %% [markdown] id="measure" lang="en"
# ## Now measure
#
# Count the bytes first, then set the ratio that they promise beside the ratio that you measure. The two kinds of 16-bit floats
# are there too; they are no quantisation, only another type. Compare with your guesses.

# %% id="measure-code" kind="demo"
KINDS = ["float32", "bfloat16", "float16", "int8", "int4"]
seconds_of, bytes_of, bandwidth_of = {}, {}, {}

with when_solved():
    for kind in KINDS:
        size = prepare(kind)
        x = torch.randn(1, WIDTH)
        decode(x, kind)
        seconds_of[kind] = typical(lambda: decode(x, kind))
        bytes_of[kind], bandwidth_of[kind] = size, read_bandwidth(size)
        if kind != "float32":
            print(
                hint(
                    "measured",
                    kind=f"{kind:9}",
                    size=f"{bytes_of[kind] / 1e6:5.1f}",
                    promised=f"{bytes_of['float32'] / bytes_of[kind]:4.2f}",
                    reached=f"{seconds_of['float32'] / seconds_of[kind]:4.2f}",
                )
            )
        del layers[kind]
    codes, scales = quantise_int8(next(random_weights()))
    x = torch.randn(1, WIDTH)
    back = LAYERS * typical(lambda: dequantise_each_time(x, codes, scales), repeats=3)
    seconds_of["dequantised"] = back
    ratio = f"{seconds_of['float32'] / back:4.2f}"
    print(hint("measured-dequantised", ratio=ratio))
    print(hint("guessed", int8=int8_guess, int4=int4_guess, dequantised=dequantised_guess))

# %% [markdown] id="measure-why" lang="ko" reviewed="d39df18074e3"
# 바이트가 약속한 배수와 실제 배수는 왜 다를까요? 정수를 실수로 바꾸는 데도 명령이 필요하고, 그래서 읽을 바이트가 줄수록 **이번에는 계산이**
# 발목을 잡기 시작해요. 반대로 약속보다 빨라진 줄이 있다면, 견준 상대인 float32 커널이 대역폭을 다 쓰지 못했다는 뜻이에요. 자료형마다
# 커널이 얼마나 잘 짜여 있는지도, CPU가 그 자료형의 명령을 가지고 있는지도 달라요. 같은 2바이트인 bfloat16과 float16의 차이를 보세요. 둘
# 가운데 하나가 int8만큼 빠르다면, 그 CPU에서 8비트로 얻는 것은 시간보다 메모리예요. **바이트는 상한을 정하고, 커널은 거기에 얼마나 다가갈지를 정해요.**

# %% [markdown] id="measure-why" lang="en"
# Why is the measured ratio not the promised one? Turning integers into floats takes instructions, so the fewer bytes there are
# to read, the more **arithmetic becomes the brake again**. Where a line is faster than promised, the float32 kernel that it is
# compared with did not use the whole bandwidth. How well the kernel of a type is written, and whether the CPU has instructions
# for that type, differs too: look at bfloat16 and float16, with the same 2 bytes. Where one
# of them is as fast as int8, what 8 bits save on that CPU is memory rather than time. **Bytes decide the limit; kernels decide how
# near you come.**

# %% [markdown] id="task-speed" lang="ko" reviewed="93d11f2e9362"
# ## 성능 기준 넘기
#
# 속도를 잴 모델로 토큰 하나를 디코드할 때, float32보다
#
# - 8비트는 **1.5배 이상**, 4비트는 **1.9배 이상** 빨라야 해요. AVX-512 명령이 없는 CPU라면 4비트도 1.5배면 돼요.
# - 8비트는 그 바이트를 그냥 읽기만 하는 속도(잰 대역폭)의 **20% 이상**이어야 해요.
# - 저장한 바이트 수는 과제 1의 계산과 **정확히** 같아야 해요.
#
# 매번 새 입력으로, 순서를 번갈아 다섯 번 재서 CPU 시간 비율의 중앙값을 봐요.

# %% [markdown] id="task-speed" lang="en"
# ## The performance gates
#
# For decoding one token with the model above, compared with float32,
#
# - 8 bits must be **at least 1.5 times** and 4 bits **at least 1.9 times** faster; on a CPU without AVX-512, 1.5 times will do for
#   4 bits too;
# - 8 bits must reach **at least 20%** of the speed of merely reading those bytes (the measured bandwidth);
# - the bytes stored must be **exactly** those that task 1 computes.
#
# Each is the median of five ratios of CPU time, with fresh input each time and in alternating order.

# %% id="speed-tools" kind="locked"
def eight_tokens(_):
    return (torch.randn(8, WIDTH),)


def near(limit):
    return lambda found, expected: bool((found - expected).norm() <= limit * expected.norm())


def anything(found, read):
    return True


def reading(size):
    block = torch.ones(size // 4)
    return lambda rows: [block.sum() for _ in rows]

# %% id="test-speed-int8" kind="test" points=2
torch.seed()
stored, wanted = submission.prepare("int8"), LAYERS * (WIDTH * WIDTH + 2 * WIDTH)
assert stored == wanted, hint("stack-bytes", stored=stored, wanted=wanted)
if "float32" not in layers:
    prepare("float32")
reached = speedup(submission.decode_int8, decode_float32, eight_tokens, near(0.02))
gate("int8", reached, 1.5, hint("speed-int8"))
share = speedup(submission.decode_int8, reading(stored), eight_tokens, anything)
print(hint("share", kind="int8", percent=f"{100 * share.ratio:.0f}"))
assert share.ratio >= 0.2, hint("speed-share")

# %% id="test-speed-int4" kind="test" points=2
at_least = 1.9 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 1.5
size = LAYERS * (WIDTH * WIDTH // 2 + 4 * WIDTH * WIDTH // GROUP)
layers.pop("int8", None)
stored = submission.prepare("int4")
assert stored == size, hint("stack-bytes", stored=stored, wanted=size)
if "float32" not in layers:
    prepare("float32")
reached = speedup(submission.decode_int4, decode_float32, eight_tokens, near(0.2))
gate("int4", reached, at_least, hint("speed-int4"))

# %% [markdown] id="limit" lang="ko" reviewed="0f03c384b4f4"
# ## 물리적인 한계와 비교하기
#
# 가로축은 토큰 하나에 읽는 바이트, 세로축은 1초에 만드는 토큰이에요. 점선은 여러분의 `decode_limit`에 **이 컴퓨터에서 잰 대역폭**을 넣은
# 상한이에요. 4.1에서처럼, 저장한 크기와 꼭 같은 크기의 텐서를 읽어서 대역폭을 쟀어요. 점이 점선에 가까울수록 메모리를 알뜰하게 쓴
# 거예요.

# %% [markdown] id="limit" lang="en"
# ## Against the physical limit
#
# Across: the bytes read for a token; up: tokens a second. The dashed line is your `decode_limit` with **the bandwidth measured
# on this machine**; as in 4.1, by reading a tensor of just the size that is stored. The nearer a point is to the line, the better
# it uses the memory.

# %% id="limit-plot" kind="demo"
with when_solved():
    limits = [decode_limit(bandwidth_of[kind], bytes_of[kind], 0, 1) for kind in bytes_of]
    figure, axes = plt.subplots(figsize=(7.5, 4.8))
    low, high = (each(bandwidth_of.values()) / 1e9 for each in (min, max))
    label = hint("plot-limit", bandwidth=f"{low:.0f}–{high:.0f}")
    line = sorted(dict(zip(bytes_of.values(), limits)).items())
    axes.loglog([size / 1e6 for size, _ in line], [rate for _, rate in line], "k--", label=label)
    for (kind, size), limit in zip(bytes_of.items(), limits):
        rate = 1 / seconds_of[kind]
        axes.loglog(size / 1e6, rate, "o", markersize=9, label=kind)
        print(
            hint(
                "achieved",
                kind=f"{kind:9}",
                rate=f"{rate:5.0f}",
                limit=f"{limit:5.0f}",
                percent=f"{100 * rate / limit:3.0f}",
            )
        )
    if "dequantised" in seconds_of:
        size, rate = bytes_of["int8"] / 1e6, 1 / seconds_of["dequantised"]
        axes.loglog(size, rate, "x", markersize=9, mew=2, label=hint("plot-dequantised"))
    ticks = [20, 50, 100, 200]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=hint("plot-x"), ylabel=hint("plot-y"))
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()

# %% [markdown] id="limit-read" lang="ko" reviewed="206e5dff75ca"
# 점들이 오른쪽 아래에서 왼쪽 위로 올라가요. 바이트를 줄이니 빨라졌다는 뜻이에요. 곱할 때마다 되돌린 ×표는 바이트가 적어도 점선에서
# 한참 아래에 떨어져 있죠. 4비트 점이 8비트 점보다 점선에서 더 멀다면, 한 코어의 계산이 따라가지 못하는 거예요.
# 100%를 조금 넘은 줄이 있다면, 대역폭도 잴 때마다 흔들리는 값이라서 그래요. GPU에서는 어떨까요? 단원 끝의 GPU 부분이 같은 비율을 출력해요.

# %% [markdown] id="limit-read" lang="en"
# The points climb from the lower right to the upper left: fewer bytes, more speed. The ×, which dequantises at every call, lies
# far below the dashed line in spite of its few bytes. Where the 4-bit point is farther from the line than the 8-bit one, one
# core's arithmetic cannot keep up. A line a little above 100% only shows that the bandwidth, too, is measured and wobbles. And on a
# GPU? The part at the end of this unit prints the same percentage there.

# %% [markdown] id="task-quality" lang="ko" reviewed="b72a63c55d62"
# ## 과제 6. 진짜 모델은 얼마나 나빠질까 (보통)
#
# 빠르기만 하고 답이 엉망이면 쓸 수 없어요. 파이썬 문서로 학습한 `academy_lm`을 양자화해서, 학습에 쓰지 않은 글에서 손실이 얼마나 늘어나는지
# 재요. 손실은 글자(바이트) 하나를 맞힐 때의 교차 엔트로피이고, 낮을수록 좋아요.
#
# `quantised_lm(bits, group)`을 완성하세요.
#
# - `academy_lm.load()`로 새 모델을 불러와, 목록 `qkv`, `out`, `up`, `down`의 행렬 전부와 `head`를 `Quantised` 객체로 바꿔서 그 모델을
#   돌려줘요. `bits`가 8이면 과제 2와 3, 4이면 과제 5의 함수를 써요. `group`은 4비트일 때만 써요.
# - `Quantised(linear, parts)`는 아래에 있어요. 모델이 `x @ weight`를 계산하려 할 때 `linear(x, *parts)`를 대신 불러 줘요.
# - **방향을 조심하세요.** `academy_lm`의 가중치는 `(in, out)`이고 `x @ weight`로 써요. 우리 함수들은 `(out, in)`을 받아요.
# - 토큰 표와 위치 표(`token_table`, `position_table`)는 그대로 둬요. 토큰 하나에 한 줄씩만 읽으니 줄여도 빨라지지 않아요.
# - 테스트는 행렬마다 바이트가 과제 1의 계산과 정확히 같은지, 곱한 결과가 과제 3과 5의 함수로 곱한 것과 같은지, 로짓의 차이가
#   (노름으로) 8비트에서 2%, 4비트(그룹 32)에서 10%를 넘지 않는지, 늘어난 손실이 8비트에서 0.005, 4비트(그룹 32)에서 0.1을 넘지
#   않는지 봐요. 참고 풀이의 4비트는 이 한도의 절반쯤이에요.

# %% [markdown] id="task-quality" lang="en"
# ## Task 6. How much worse does a real model get (medium)
#
# Speed is no use when the answers are spoilt. Quantise `academy_lm`, which was trained on Python's documentation, and measure how
# much its loss grows on text that it was not trained on. The loss is the cross entropy of guessing one character (byte); lower
# is better.
#
# Complete `quantised_lm(bits, group)`:
#
# - Load a new model with `academy_lm.load()`, replace every matrix in its lists `qkv`, `out`, `up` and `down`, and its `head`, with
#   `Quantised` objects, and return that model. For `bits` 8, use the functions of tasks 2 and 3; for 4, those of task 5. `group`
#   matters in 4 bits only.
# - `Quantised(linear, parts)` is given below. When the model wants `x @ weight`, it calls `linear(x, *parts)` instead.
# - **Mind the direction.** Weights of `academy_lm` are `(in, out)`, used as `x @ weight`. Our functions take `(out, in)`.
# - Leave the tables of tokens and positions (`token_table`, `position_table`) as they are. A token reads one row of each, so
#   nothing would become faster.
# - The tests look at the bytes of each matrix, exactly as task 1 computes them; at its products, which must be those of the
#   functions of tasks 3 and 5; at the logits, which may differ (by norm) by 2% in 8 bits and 10% in 4 bits (groups of 32); and at
#   the loss, which may grow by 0.005 in 8 bits and by 0.1 in 4 bits (groups of 32). The reference takes about half of what is
#   allowed in 4 bits.

# %% id="quality-tools" kind="locked"
class Quantised:
    def __init__(self, linear, parts):
        self.linear, self.parts = linear, tuple(parts)
        self.nbytes = sum(part.nbytes for part in self.parts)

    def __rmatmul__(self, x):
        return self.linear(x, *self.parts)


held_out = torch.tensor(documents()[1])


def windows(count, length=128):
    starts = torch.randint(0, len(held_out) - length, (count, 1))
    return held_out[starts + torch.arange(length + 1)]


def loss(logits, texts):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts[:, 1:].flatten()).item()


def matrices(lm):
    return [*lm.qkv, *lm.out, *lm.up, *lm.down, lm.head]


original = academy_lm.load()
texts = windows(8)
print(f"{loss(original.forward(texts[:, :-1]), texts):.2f}")
print(f"{sum(matrix.nbytes for matrix in matrices(original)) / 1e6:.2f} MB")

# %% id="quantised-lm" kind="solution"
def quantised_lm(bits, group):
    ### BEGIN SOLUTION
    def replace(matrix):
        if bits == 8:
            return Quantised(linear_int8, quantise_int8(matrix.T))
        return Quantised(linear_int4, pack_int4(matrix.T, group))

    lm = academy_lm.load()
    for stack in (lm.qkv, lm.out, lm.up, lm.down):
        stack[:] = [replace(matrix) for matrix in stack]
    lm.head = replace(lm.head)
    return lm
    ### END SOLUTION

# %% id="test-quality" kind="test" points=3
def check_bytes(lm, bits_of_weight, extra):
    for found, matrix in zip(matrices(lm), matrices(original), strict=True):
        rows, columns = matrix.shape[1], matrix.shape[0]
        wanted = int(rows * columns * bits_of_weight / 8) + rows * extra
        assert found.nbytes == wanted, hint("lm-bytes", found=found.nbytes, wanted=wanted)


torch.seed()
texts = windows(16)
expected = original.forward(texts[:, :-1])
eight = submission.quantised_lm(8, 64)
found = eight.forward(texts[:, :-1])
assert tuple(found.shape) == tuple(expected.shape), hint("lm-shape")
assert (found - expected).norm() <= 0.02 * expected.norm(), hint("lm-logits")
check_bytes(eight, 8, 2)
more = loss(found, texts) - loss(expected, texts)
assert abs(more) <= 0.005, hint("lm-loss", bits=8, more=f"{more:.3f}")
### BEGIN HIDDEN TESTS
four = submission.quantised_lm(4, 32)
found = four.forward(texts[:, :-1])
check_bytes(four, 5, 0)
assert (found - expected).norm() <= 0.1 * expected.norm(), hint("lm-logits")
more = loss(found, texts) - loss(expected, texts)
assert more <= 0.1, hint("lm-loss", bits=4, more=f"{more:.3f}")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
check_bytes(submission.quantised_lm(4, 128), 4.25, 0)
for lm in (eight, four):
    assert torch.equal(lm.token_table, original.token_table), hint("lm-tables")
    assert torch.equal(lm.position_table, original.position_table), hint("lm-tables")
again = eight.forward(texts[:1, :1])
assert (again - expected[:1, :1]).norm() <= 0.03 * expected[:1, :1].norm(), hint("lm-logits")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for eighth, fourth, matrix in zip(*map(matrices, (eight, four, original)), strict=True):
    x = torch.randn(2, len(matrix))
    found = eighth.linear(x, *eighth.parts), fourth.linear(x, *fourth.parts)
    wanted = (
        submission.linear_int8(x, *submission.quantise_int8(matrix.T)),
        submission.linear_int4(x, *submission.pack_int4(matrix.T, 32)),
    )
    assert all(map(torch.allclose, found, wanted)), hint("lm-functions")
### END HIDDEN TESTS

# %% [markdown] id="quality" lang="ko" reviewed="a89d57f00ad4"
# ### 바이트와 손실을 함께 보기
#
# 그룹이 작을수록 스케일이 촘촘해서 손실은 줄고 바이트는 늘어요. 손실이 `d`만큼 늘면 퍼플렉서티는 `exp(d)`배가 돼요. 표 아래의 세 줄은 세
# 모델이 같은 첫머리에 이어 쓴 글이에요.

# %% [markdown] id="quality" lang="en"
# ### Bytes and loss together
#
# Smaller groups have more scales: less loss, more bytes. When the loss grows by `d`, the perplexity is `exp(d)` times as large. The three
# lines below the table are what three of the models write after the same beginning.

# %% id="quality-code" kind="demo"
def continue_text(lm, beginning, count=60):
    tokens = academy_lm.encode(beginning)
    for _ in range(count):
        tokens.append(lm.forward(torch.tensor([tokens]))[0, -1].argmax().item())
    return repr(academy_lm.decode(tokens))


with when_solved():
    torch.manual_seed(0)
    texts = windows(40)
    base = loss(original.forward(texts[:, :-1]), texts)
    rows = [("float32", original)]
    rows += [("int8", quantised_lm(8, 64))]
    rows += [(f"int4/{group}", quantised_lm(4, group)) for group in (32, 64, 128)]
    points = []
    print(f"{'':8} {'MB':>6} {'loss':>8} {'growth':>8}")
    for name, lm in rows:
        size = sum(matrix.nbytes for matrix in matrices(lm)) / 1e6
        now = loss(lm.forward(texts[:, :-1]), texts)
        points.append((name, size, now))
        print(f"{name:8} {size:6.2f} {now:8.4f} {now - base:+8.4f}")
    for name, lm in (rows[0], rows[1], rows[3]):
        print(f"{name:8}", continue_text(lm, "The value of "))
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for name, size, now in points:
        axes.plot(size, now, "o", markersize=9)
        axes.annotate(name, (size, now), xytext=(8, 4), textcoords="offset points")
    axes.axhline(base, color="k", linestyle="--", label=hint("plot-base"))
    axes.set(xlabel=hint("plot-size"), ylabel=hint("plot-loss"), xscale="log")
    axes.set_xlim(0.35, 6)
    axes.margins(y=0.15)
    ticks = [0.5, 1, 2, 4]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_formatter("")
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()

# %% [markdown] id="quality-read" lang="ko" reviewed="c4023efe2e2c"
# 8비트는 손실이 거의 그대로예요. 4비트는 눈에 띄게 나빠져요. 이 모델은 아주 작아서 가중치 하나하나의 몫이 커요. GPTQ 논문(더 읽어 보기)은
# OPT와 BLOOM에서 모델이 클수록 4비트의 손해가 대체로 작았다고 해요. 하지만 늘 그런 것은 아니에요. 파라미터가 660억 개인 OPT는 예외였고,
# 행마다 그냥 반올림하면 OPT의 퍼플렉서티(WikiText2)는 67억 개에서 1.2, 1,750억 개에서 2.2가 늘었어요. 그러니 **여러분의 모델에서는 여러분이
# 재야 해요.** 그냥 반올림하지 않고 데이터를 보며 반올림하면 손해를 더 줄일 수 있는데(그 1,750억 개에서 GPTQ는 0.03), 그 방법이 3.4 단원의
# GPTQ와 AWQ예요.

# %% [markdown] id="quality-read" lang="en"
# In 8 bits the loss hardly moves; in 4 bits it visibly does. This model is very small, so each weight carries much. The GPTQ paper
# (below) found that among the OPT and BLOOM models, larger ones generally lose less in 4 bits. But not always: OPT with 66 billion
# parameters was an exception, and with plain rounding, row by row, OPT's perplexity (WikiText2) rose by 1.2 at 6.7 billion and by 2.2
# at 175 billion. So **with your model, it is you who must measure.** Rounding that looks at data, instead of plain rounding, loses
# less (at those 175 billion, GPTQ lost 0.03): that is GPTQ and AWQ, in unit 3.4.

# %% [markdown] id="loses" lang="ko" reviewed="07e042e4a57b"
# ## 양자화가 손해일 때
#
# 지금까지는 한 번에 벡터 **하나**를 곱했어요. 프리필을 하거나 여러 요청을 묶으면(4.4) 벡터가 여럿이 되고, 연산 강도가 올라가요. 그래도 정수 커널이 이길까요?
# 벡터의 수를 늘려 가며 float32 행렬 곱과 견주어 볼게요.

# %% [markdown] id="loses" lang="en"
# ## Where quantisation loses
#
# So far we multiplied **one** vector at a time. Prefill and batches (4.4) bring many vectors, and the arithmetic intensity
# rises. Does the integer kernel still win? Let us raise the number of vectors and compare with the multiplication in float32.

# %% id="loses-code" kind="demo"
layers.clear()
with when_solved():
    weight = next(random_weights())
    eight, four = pack(weight, "int8"), pack(weight, "int4")
    print(f"{'vectors':>7} {'int8':>8} {'int4':>8}")
    for vectors in (1, 4, 16, 64, 256):
        x = torch.randn(vectors, WIDTH)
        plain = typical(lambda: linear_plain(x, weight), repeats=5)
        int8_ratio = plain / typical(lambda: linear_int8(x, *eight), repeats=5)
        int4_ratio = plain / typical(lambda: linear_int4(x, *four), repeats=5)
        print(f"{vectors:7} {int8_ratio:7.2f}x {int4_ratio:7.2f}x")

# %% [markdown] id="loses-seen" lang="ko" reviewed="a6dc7c6008de"
# 벡터가 많아지면 한 번 읽은 가중치를 모두가 나눠 쓰니 대역폭은 더 이상 문제가 아니에요. 그때부터는 계산을 잘하는 float32(GPU라면 bfloat16) 행렬 곱이
# 따라잡고, 정수를 실수로 바꾸는 일은 괜히 더 하는 일이 돼요. 그래서 서비스에서는 디코드와 프리필에 서로 다른 커널을 쓰기도 해요.
#
# 손해인 곳이 하나 더 있어요. 대화가 길어지고 요청이 많아지면 읽을 바이트의 대부분이 가중치가 아니라 **KV 캐시**예요. 여러분의
# `decode_limit`으로 계산해 볼게요. 파라미터가 80억 개인 모델(층 32개, KV 헤드 8개, 헤드 크기 128, KV는 16비트)이고 대역폭은 1초에 2 TB라고 해요.

# %% [markdown] id="loses-seen" lang="en"
# With many vectors, all share the weights that were read once, and bandwidth no longer matters. From there on, multiplication in
# float32 (on a GPU, bfloat16), which is good at arithmetic, catches up, and turning integers into floats is work on top. That is why a service
# may use one kernel for decoding and another for prefill.
#
# There is one more such place. With long conversations and many requests, most of the bytes are not weights but **KV cache**. Let
# us compute it with your `decode_limit`: a model of 8 billion parameters (32 layers, 8 KV heads of size 128, KV in 16 bits), and a
# bandwidth of 2 TB a second.

# %% id="kv-code" kind="demo"
with when_solved():
    parameters, kv_token = 8e9, 2 * 32 * 8 * 128 * 2
    lines = [f"{'batch':>5} {'context':>8} {'16 bit':>8} {'8 bit':>8} {'4.5 bit':>8} {'4.5/16':>8}"]
    for batch, context in ((1, 1000), (1, 30000), (16, 1000), (16, 30000)):
        rates = [
            decode_limit(2e12, parameters * bits / 8, kv_token * context, batch)
            for bits in (16, 8, 4.5)
        ]
        cells = " ".join(f"{rate:8,.0f}" for rate in rates)
        lines.append(f"{batch:5} {context:8,} {cells} {rates[2] / rates[0]:7.2f}x")
    print("\n".join(lines))

# %% [markdown] id="kv-seen" lang="ko" reviewed="8dfd3c92b37c"
# 맨 오른쪽 열은 16비트에서 4비트로 바꾸었을 때의 상한이 몇 배가 되는지예요. 같은 4비트인데 어떤 줄에서는 세 배가 넘고 어떤 줄에서는 얼마 되지
# 않아요. 무엇을 줄일지는 **무엇이 바이트를 차지하는지** 세어 본 다음에 정해야 해요.

# %% [markdown] id="kv-seen" lang="en"
# The column on the right says how many times higher the limit is in 4 bits than in 16. The same 4 bits bring more than three
# times in one line and little in another. Decide what to shrink after counting **what takes the bytes**.

# %% [markdown] id="money" lang="ko" reviewed="e3132c38f9db"
# ## 돈으로 말하기
#
# 4.1에서처럼 백만 토큰의 값으로 바꿔 볼게요. 서버 값 `won_per_hour`는 예로 든 숫자이니 여러분이 쓰는 서버의 값으로 바꿔 보세요. 아래는 위에서 **여러분이
# 잰 속도**로 매긴 값이고, 괄호 안은 한계까지 갔을 때의 값이에요.

# %% [markdown] id="money" lang="en"
# ## Say it in money
#
# As in 4.1, let us turn speed into the price of a million tokens. The server's `won_per_hour` is an example: put in that of a
# server you use. The prices follow from the speeds that **you measured** above; in brackets, the price at the limit.

# %% id="money-code" kind="demo"
won_per_hour = 200


def won_per_million(tokens_per_second):
    return won_per_hour / (tokens_per_second * 3600) * 1_000_000


with when_solved():
    for kind in bytes_of:
        limit = decode_limit(bandwidth_of[kind], bytes_of[kind], 0, 1)
        won, least = won_per_million(1 / seconds_of[kind]), won_per_million(limit)
        print(hint("price", kind=f"{kind:9}", won=f"{won:6,.0f}", least=f"{least:6,.0f}"))
    if "dequantised" in seconds_of:
        won = won_per_million(1 / seconds_of["dequantised"])
        print(hint("price-dequantised", won=f"{won:6,.0f}"))

# %% [markdown] id="gpu" lang="ko" reviewed="9aac7b2c6e17"
# ## GPU에서 (GPU가 있는 곳에서만)
#
# GPU가 있으면 같은 함수를 GPU 텐서로 불러서 bfloat16 가중치와 견주어요. 폭 8192인 행렬 세 개에 벡터를 하나씩 열여섯 번 지나가게 해요. 목표는
# 8비트 1.2배, 4비트 1.4배예요. 이 기준은 아직 GPU에서 맞춰 보지 않아서, 맞춰 보기 전까지는 결과를 **보여 주기만** 해요. GPU가 없으면
# 이 부분은 건너뛰어요. 여러분의 함수가 텐서의 `device`를 따라가기만 하면 고칠 것이 없어요.
#
# 8비트 커널은 GPU에서 다른 것을 써요. PyTorch 2.13에 든 GPU용 8비트 커널은 출력 하나를 스레드 하나가 처음부터 끝까지 읽는데, 이웃한 스레드가
# 서로 멀리 떨어진 곳을 읽게 되니 대역폭을 다 쓸 수 없어요(PyTorch의 PR #190529가 고치려는 점이에요). 그래서 `int8_rows`를 Triton으로 짰어요.
# 프로그램 하나가 네 행을 맡고, 이웃한 스레드가 이웃한 바이트를 읽어요. 정수를 실수로 바꾸는 곳은 레지스터예요.

# %% [markdown] id="gpu" lang="en"
# ## On a GPU (only where there is one)
#
# Where there is a GPU, the same functions are called with tensors on it and compared with weights in bfloat16: three matrices of
# width 8192, through which sixteen vectors pass one at a time. The aims are 1.2 times in 8 bits and 1.4 times in 4 bits. They have not
# been calibrated on a GPU yet; until they are, the figures are **reported only**. Without a GPU this part is left out. If
# your functions follow the `device` of their tensors, there is nothing to change.
#
# In 8 bits another kernel runs on a GPU. The one in PyTorch 2.13 gives each output to one thread, which reads its row from end to end;
# neighbouring threads then read places far apart, and the bandwidth can't be used (PyTorch's pull request 190529 is about that). So
# `int8_rows` is written in Triton: a program takes four rows, neighbouring threads read neighbouring bytes, and integers become
# floats in registers.

# %% id="gpu-code" kind="locked"
try:
    import triton
    import triton.language as tl
except ImportError:
    triton, tl = None, SimpleNamespace(constexpr=int)

GPU, GPU_WIDTH = "cuda", 8192


def compiled(function):
    return triton.jit(function) if triton else function


@compiled
def int8_rows(x, codes, scales, y, out, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    vector = tl.program_id(1)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(0, width, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        inside = (rows < out)[:, None] & (columns < width)[None, :]
        places = codes + rows[:, None] * width + columns[None, :]
        weights = tl.load(places, mask=inside, other=0).to(tl.float32)
        values = tl.load(x + vector * width + columns, mask=columns < width, other=0.0)
        total += weights * values.to(tl.float32)[None, :]
    scale = tl.load(scales + rows, mask=rows < out, other=0.0).to(tl.float32)
    tl.store(y + vector * out + rows, tl.sum(total, 1) * scale, mask=rows < out)


def int8_on_gpu(x, codes, scales):
    out, width = codes.shape
    y = torch.empty(len(x), out, dtype=x.dtype, device=x.device)
    int8_rows[triton.cdiv(out, 4), len(x)](x, codes, scales, y, out, width, 4, 1024)
    return y


def on_gpu(rows, kind):
    return one_by_one(rows.to(GPU, torch.bfloat16), kind).float().cpu()


def gpu_bfloat16(rows):
    return on_gpu(rows, "bfloat16")


def gpu_int8(rows):
    return on_gpu(rows, "int8")


def gpu_int4(rows):
    return on_gpu(rows, "int4")


def sixteen_tokens(_):
    return (torch.randn(16, GPU_WIDTH),)


def gpu_share(kind, size, seconds):
    block = torch.ones(64 << 20, device=GPU)
    reads = []
    for _ in range(9):
        torch.cuda.synchronize()
        began = time.perf_counter()
        block.sum()
        torch.cuda.synchronize()
        reads.append(time.perf_counter() - began)
    bandwidth = block.nbytes / sorted(reads)[4]
    print(hint("share", kind=f"{kind:8}", percent=f"{100 * size / seconds / bandwidth:.0f}"))

# %% id="test-gpu" kind="test" points=2 gpu=true
if gpu():
    torch.seed()
    plain = 16 * prepare("bfloat16", GPU, GPU_WIDTH)
    size = 16 * submission.prepare("int8", GPU, GPU_WIDTH)
    reached = speedup(submission.gpu_int8, gpu_bfloat16, sixteen_tokens, near(0.05), gpu=True)
    gpu_share("bfloat16", plain, reached.slow_seconds)
    gpu_share("int8", size, reached.fast_seconds)
    gate("gpu-int8", reached, 1.2, hint("speed-gpu"))
    size = 16 * submission.prepare("int4", GPU, GPU_WIDTH)
    reached = speedup(submission.gpu_int4, gpu_bfloat16, sixteen_tokens, near(0.25), gpu=True)
    gpu_share("int4", size, reached.fast_seconds)
    gate("gpu-int4", reached, 1.4, hint("speed-gpu"))

# %% [markdown] id="question" lang="ko" reviewed="147aaa75f136"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 여러분의 회사가 파라미터 80억 개인 모델로 두 가지 서비스를 하려고 해요. (가) 한 사람이 쓰는 코드 자동 완성: 한 번에 요청 1건, 문맥 1,000토큰. (나) 회의록
# 요약: 요청 16건을 묶고 문맥은 30,000토큰이며, 긴 프롬프트를 먼저 읽어야 해요. 서비스마다 가중치를 16비트, 8비트, 4비트 가운데 무엇으로 저장할지
# **위에서 잰 값과 `decode_limit`의 계산**을 근거로 6~10문장으로 정하세요. (1) 각 서비스에서 4비트가 상한을 몇 배로 올리나요? (2) 실제로는 왜 그만큼
# 빨라지지 않을 수 있나요? (3) 품질이 충분한지 무엇을 어떻게 재서 정하겠어요? (4) 가중치 말고 더 먼저 줄여야 할 것이 있나요?
#
# *채점 기준*: 두 서비스의 상한을 숫자로 바르게 견주었다(1점), 상한과 실제의 차이를 잰 값으로 설명했다(1점), 품질을 재는
# 구체적인 방법과 받아들일 선을 말했다(1점), KV 캐시나 프리필처럼 가중치 밖의 병목을 짚었다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# Your company wants to run two services with a model of 8 billion parameters. (a) Code completion for one person: 1 request at
# a time, 1,000 tokens of context. (b) Summaries of meetings: 16 requests in a batch, 30,000 tokens of context each, and the long
# prompts must be read first. Decide for each service whether to store the weights in 16, 8 or 4 bits, in 6 to 10 sentences, from
# **what you measured above and from `decode_limit`**: (1) How many times does 4 bits raise the limit of each service? (2) Why may
# the real gain be smaller? (3) What would you measure, and how, to decide that the quality is good enough? (4) Is there something
# other than the weights to shrink first?
#
# *Rubric*: compares the limits of both services correctly, in figures (1 point); explains the gap between limit and reality with
# measured figures (1 point); names a concrete way to measure quality, and a line to accept (1 point); points at a bottleneck
# outside the weights, such as the KV cache or prefill (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="29ec8dab6a1c"
# ## 더 읽어 보기
#
# - Williams, Waterman, Patterson, *Roofline*, CACM 52(4) (2009): 연산 강도와 한계선
# - Dettmers 외, *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale* (2022): 가중치와 함께 입력까지 8비트로 바꾸면 큰
#   모델이 깨지는 까닭과 해결
# - Frantar 외, *GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers* (2022): 오차를 옆 가중치로 넘기며 반올림하기
# - Dettmers, Zettlemoyer, *The case for 4-bit precision: k-bit Inference Scaling Laws* (2022): 같은 바이트라면 몇 비트가 가장 좋은지
# - Lin 외, *AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration* (2023): 중요한 가중치를 지키는 법
# - Frantar 외, *MARLIN: Mixed-Precision Auto-Regressive Parallel Inference on Large Language Models* (2024): 배치가 커져도 4비트의 이득을 지키는 GPU 커널

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Williams, Waterman, Patterson, *Roofline*, CACM 52(4) (2009): arithmetic intensity and the limit
# - Dettmers et al., *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale* (2022): why large models break when
#   their inputs, not only the weights, are in 8 bits, and a remedy
# - Frantar et al., *GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers* (2022): rounding that
#   passes its error on to the weights beside it
# - Dettmers, Zettlemoyer, *The case for 4-bit precision: k-bit Inference Scaling Laws* (2022): for the same bytes, how many bits
#   are best
# - Lin et al., *AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration* (2023): guarding the weights that
#   matter
# - Frantar et al., *MARLIN: Mixed-Precision Auto-Regressive Parallel Inference on Large Language Models* (2024): a GPU kernel that
#   keeps the gain of 4 bits in larger batches
