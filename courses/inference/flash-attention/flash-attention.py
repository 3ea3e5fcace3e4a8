# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="8c973b0fc4a7"
# # 4.3 플래시어텐션
#
# **이 단원을 마치면** 소프트맥스를 한 번만 훑어서 계산하고, 그것으로 점수 행렬을 통째로 만들지 않는 어텐션을 짤 수 있어요. 메모리를 오간
# 바이트를 세고, 여러분의 어텐션이 이 컴퓨터의 한계에 얼마나 다가갔는지 재고, 긴 프롬프트 백만 토큰의 값으로 말할 수 있어요.
#
# **왜 중요할까요?** 계약서 한 권, 코드 저장소 하나를 통째로 넣는 서비스에서는 프롬프트가 수만 토큰이에요. 평범한 어텐션은 토큰 수의
# **제곱**만큼 메모리를 쓰니, 길이가 두 배면 메모리는 네 배예요. 32,768토큰이면 헤드 하나의 점수 행렬만 16비트로 2 GiB예요. 헤드가 32개라면
# 층 하나에 64 GiB고요. 플래시어텐션은 **똑같은 답**을 내면서 이 행렬을 아예 만들지 않아요. 긴 문서를 통째로 읽어 주는 서비스가
# 가능해진 데에는 이 방법의 몫이 커요.
#
# **걸리는 시간** 8시간 · **먼저 알아야 할 것** 어텐션과 트랜스포머 블록, PyTorch 텐서의 모양과 인덱싱. 4.1 단원을 마쳤다면 더 좋아요.

# %% [markdown] id="title" lang="en"
# # 4.3 FlashAttention
#
# **After this unit** you can compute a softmax in a single pass, and with it write attention that never makes the matrix of
# scores. You count the bytes that travel to and from memory, measure how close your attention comes to the limit of this
# machine, and put it in money: the price of a million tokens of a long prompt.
#
# **Why it matters.** A service that takes a whole contract or a code repository has prompts of tens of thousands of tokens. Plain
# attention needs memory that grows with the **square** of their number: twice the length, four times the memory. At 32,768 tokens
# the scores of one head alone are 2 GiB in 16 bits; with 32 heads a single layer needs 64 GiB. FlashAttention gives **the same
# answer** and never makes that matrix. It is a large part of why there are services today that
# read long documents whole.
#
# **Time** 8 hours · **Before you start** attention and the transformer block; shapes and indexing of PyTorch tensors. Unit 4.1
# helps.

# %% id="setup" kind="locked"
import math
import os
import time

import matplotlib.pyplot as plt
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import academy_lm
from grading.checks import gate, gpu, hint, speedup, submission, when_solved

torch.set_num_threads(1)

# %% [markdown] id="plain" lang="ko" reviewed="e81b2f933cd3"
# ## 평범한 어텐션은 무엇을 메모리에 쓸까
#
# 식은 한 줄이에요. 질의 `q`의 모양은 `(b, h, n, size)`, 키 `k`와 값 `v`는 `(b, h, m, size)`예요. `b`는 배치, `h`는 헤드의 수예요.
#
# $$S = \frac{QK^\top}{\sqrt{d}}, \qquad P = \mathrm{softmax}(S), \qquad O = PV$$
#
# 입력과 출력은 `n × size`인데 중간의 $S$와 $P$는 `n × m`이에요. `causal=True`이면 뒤에 나올 토큰을 못 보게 가려요. 질의가 키보다 적으면
# **마지막 `n`개 토큰의 질의**라고 봐요. 그래서 `i`번째 질의는 `j <= i + (m - n)`인 키만 볼 수 있어요. KV 캐시로 디코드할 때가 바로
# `n = 1`인 경우예요.

# %% [markdown] id="plain" lang="en"
# ## What plain attention writes to memory
#
# The formula is one line. Queries `q` have the shape `(b, h, n, size)`, keys `k` and values `v` have `(b, h, m, size)`; `b` is the
# batch, `h` the number of heads.
#
# $$S = \frac{QK^\top}{\sqrt{d}}, \qquad P = \mathrm{softmax}(S), \qquad O = PV$$
#
# Input and output are `n × size`, but $S$ and $P$ in between are `n × m`. With `causal=True` later tokens are hidden. Where there
# are fewer queries than keys, they are **those of the last `n` tokens**: query `i` may see the keys with `j <= i + (m - n)`.
# Decoding with a KV cache is the case `n = 1`.

# %% id="plain-code" kind="locked"
def attention(q, k, v, causal=False):
    n, m, size = q.shape[-2], k.shape[-2], q.shape[-1]
    scores = q @ k.transpose(-1, -2) / size**0.5
    if causal:
        hidden = torch.ones(n, m, dtype=torch.bool, device=q.device).triu(m - n + 1)
        scores = scores.masked_fill(hidden, -math.inf)
    return scores.softmax(dim=-1) @ v


def random_qkv(n, m=None, batch=1, heads=2, size=64, dtype=torch.float32, seed=None):
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)

    def draw(length):
        return torch.randn(batch, heads, length, size, generator=generator, dtype=dtype)

    return draw(n), draw(m or n), draw(m or n)


def typical(function, repeats=7):
    times = []
    for _ in range(repeats + 1):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return sorted(times[1:])[repeats // 2]


q, k, v = random_qkv(2048, seed=0)
print(tuple(attention(q, k, v, causal=True).shape))
print(q.numel() * 4 / 2**20, "MiB", 2 * 2048 * 2048 * 4 / 2**20, "MiB")

# %% [markdown] id="steps" lang="ko" reviewed="f6f0d685ca20"
# ### 시간은 어디로 갈까
#
# 점수 하나를 만들고 쓰는 데 두 행렬곱이 하는 연산은 `4 × size = 256`번이에요. 나누고, 가리고, 소프트맥스를 하는 데는 다 합쳐도 열 번이 안
# 돼요. **연산의 95% 이상이 행렬곱**이라는 뜻이에요. 그렇다면 시간도 95%가 행렬곱일까요? 단계마다 재 봐요.

# %% [markdown] id="steps" lang="en"
# ### Where the time goes
#
# For each score, the two matrix products do `4 × size = 256` operations. Dividing, masking and the softmax together do fewer than
# ten. So **over 95% of the arithmetic is in the products**. Is 95% of the time there, too? Measure each step.

# %% id="steps-code" kind="demo"
scores = q @ k.transpose(-1, -2)
weights = scores.softmax(dim=-1)
hidden = torch.ones(2048, 2048, dtype=torch.bool).triu(1)
steps = {
    "q @ k.T": lambda: q @ k.transpose(-1, -2),
    "/ size**0.5": lambda: scores / 8,
    "triu": lambda: torch.ones(2048, 2048, dtype=torch.bool).triu(1),
    "masked_fill": lambda: scores.masked_fill(hidden, -math.inf),
    "softmax": lambda: scores.softmax(dim=-1),
    "weights @ v": lambda: weights @ v,
}
seconds = {name: typical(step) for name, step in steps.items()}
for name, spent in seconds.items():
    print(f"{name:12} {1e3 * spent:6.1f} ms")
products = seconds["q @ k.T"] + seconds["weights @ v"]
print(hint("products", percent=f"{100 * products / sum(seconds.values()):.0f}"))
del scores, weights, hidden

# %% [markdown] id="steps-seen" lang="ko" reviewed="40cfce7acf93"
# 연산이 몇 번 없는 단계들이 적지 않은 시간을 가져가요. 계산이 어려워서가 아니라, 32 MiB짜리 행렬을 **단계마다 새 자리에 쓰고 다시 읽기**
# 때문이에요. 이 행렬은 CPU 캐시에 다 들어가지 않으니 메모리까지 다녀와야 해요. 그러면 이렇게 물을 수 있어요. *점수를 조금씩만 만들어서,
# 캐시에 있는 동안 다 써 버리고 잊을 수는 없을까?*

# %% [markdown] id="steps-seen" lang="en"
# Steps with hardly any arithmetic take a good part of the time. They are not hard to compute; but each of them **writes a matrix
# of 32 MiB to a new place, to be read again** by the next. It does not fit in the CPU's caches, so it travels to memory and back.
# Hence the question: *could we make only a few scores at a time, use them up while they are in the cache, and forget them?*

# %% [markdown] id="predict" lang="ko" reviewed="b6852b2f3442"
# ## 먼저 예상해 보세요
#
# 이 단원에서 만들 타일 어텐션은 행렬곱을 하나도 줄이지 않아요. 오히려 자잘한 연산이 **늘어요.** 게다가 파이썬 반복문까지 돌아요. 토큰
# 2,048개, 가리지 않는(`causal=False`) 경우에
#
# 1. 평범한 어텐션보다 **몇 배** 빠를까요? (느려진다고 생각하면 1보다 작은 수)
# 2. 토큰이 두 배가 되면 타일 어텐션이 쓰는 메모리는 **몇 배**가 될까요?
#
# 실행하기 전에 두 숫자를 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# The tiled attention of this unit saves none of the products. It even **adds** some small operations, and loops in Python. With
# 2,048 tokens and nothing hidden (`causal=False`):
#
# 1. **How many times** faster is it than plain attention? (Below 1 if you think that it is slower.)
# 2. With twice as many tokens, **how many times** more memory does it need?
#
# Write both numbers down before you run on. They are not graded.

# %% id="guess"
speed_guess = 0.5
memory_guess = 4

# %% [markdown] id="task-bytes" lang="ko" reviewed="db26462ddd0b"
# ## 과제 1. 오간 바이트 세기 (쉬움)
#
# 헤드 하나가 메모리와 주고받는 바이트를 세어 봐요. 캐시에는 아주 작은 것만 들어간다고 할게요. 두 함수 모두 **정수**를 돌려줘요.
# `number_bytes`는 숫자 하나의 바이트 수예요.
#
# - `plain_bytes(n, m, size, number_bytes)`: `q`, `k`, `v`를 한 번씩 읽어요. 점수 `n × m`을 써 놓았다가 다시 읽고, 소프트맥스를 거친
#   가중치 `n × m`을 써 놓았다가 다시 읽어요. 끝으로 출력 `n × size`를 써요.
# - `tiled_bytes(n, m, size, block, number_bytes)`: 질의를 `block`개씩 끊어서 처리해요. 질의는 한 번만 읽고 출력은 한 번만 써요. 그 대신
#   **질의 한 묶음마다** 키와 값을 처음부터 끝까지 다시 읽어요. 점수와 가중치는 캐시 밖으로 나가지 않아요. 마지막 묶음은 `block`개보다 적을
#   수 있지만 그래도 한 묶음이에요.

# %% [markdown] id="task-bytes" lang="en"
# ## Task 1. Count the bytes that travel (easy)
#
# Count the bytes that one head moves to and from memory, where caches hold very little. Both functions return **integers**;
# `number_bytes` is the size of one number.
#
# - `plain_bytes(n, m, size, number_bytes)`: reads `q`, `k` and `v` once. Writes the scores, `n × m`, and reads them again; writes
#   the weights that the softmax makes of them, `n × m`, and reads them again. Finally writes the output, `n × size`.
# - `tiled_bytes(n, m, size, block, number_bytes)`: takes the queries `block` at a time. Each query is read once, each output
#   written once; but **for each group of queries** all keys and values are read again. Scores and weights never leave the cache.
#   The last group may have fewer than `block` queries; it is a group all the same.

# %% id="bytes" kind="solution"
def plain_bytes(n, m, size, number_bytes):
    ### BEGIN SOLUTION
    return (2 * n * size + 2 * m * size + 4 * n * m) * number_bytes
    ### END SOLUTION


def tiled_bytes(n, m, size, block, number_bytes):
    ### BEGIN SOLUTION
    groups = -(-n // block)
    return (2 * n * size + groups * 2 * m * size) * number_bytes
    ### END SOLUTION

# %% id="test-bytes" kind="test" points=2
assert submission.plain_bytes(1, 1, 1, 1) == 8, hint("bytes-plain-one")
assert submission.plain_bytes(4, 8, 2, 4) == 704, hint("bytes-plain")
assert submission.tiled_bytes(4, 8, 2, 4, 4) == 192, hint("bytes-tiled-one")
assert submission.tiled_bytes(8, 8, 2, 4, 4) == 384, hint("bytes-tiled")
### BEGIN HIDDEN TESTS
import random
from numbers import Integral

for _ in range(20):
    n, m, size = (random.randint(1, 5000) for _ in range(3))
    number_bytes = random.choice([1, 2, 4, 8])
    found = submission.plain_bytes(n, m, size, number_bytes)
    expected = number_bytes * (size * (n + m + m + n) + n * m * 4)
    assert found == expected, hint("bytes-plain")
    block = random.randint(1, 300)
    for n in (n, block, 3 * block + 1, 4 * block - 1):
        groups = len(range(0, n, block))
        found = submission.tiled_bytes(n, m, size, block, number_bytes)
        assert found == number_bytes * size * 2 * (n + groups * m), hint("bytes-groups")
large = submission.plain_bytes(2**29 + 1, 2**29 + 1, 1, 1)
assert large == 4 * (2**29 + 1) * (2**29 + 2), hint("bytes-integer")
assert isinstance(submission.tiled_bytes(10, 10, 4, 3, 2), Integral), hint("bytes-integer")
### END HIDDEN TESTS

# %% [markdown] id="intensity" lang="ko" reviewed="537e443493d2"
# ### 연산 강도: 바이트 하나에 연산 몇 번
#
# 연산 수를 바이트 수로 나눈 것을 **연산 강도**라고 해요. 이 값이 기계의 균형점, 곧 (1초에 할 수 있는 연산) ÷ (1초에 옮길 수 있는
# 바이트)보다 작으면 메모리를 기다리고, 크면 계산을 기다려요. 균형점은 **이 컴퓨터에서** 재요. 대역폭은 두 가지로 재 볼게요. 캐시에 들어가는
# 작은 텐서를 읽을 때와, 들어가지 않는 큰 텐서를 읽을 때예요.

# %% [markdown] id="intensity" lang="en"
# ### Arithmetic intensity: operations per byte
#
# Operations divided by bytes are called **arithmetic intensity**. Below the machine's balance (operations a second ÷ bytes a
# second) the work waits for memory, above it for arithmetic. We measure that balance **on this machine**, and the bandwidth twice:
# reading a small tensor that fits in the caches, and a large one that does not.

# %% id="intensity-code" kind="demo"
def fastest(function, repeats=15):
    return min(typical(function, repeats=1) for _ in range(repeats))


def measured_bandwidth(size):
    block = torch.ones(size // 4)
    repeats = max(1, (8 << 20) // size)
    return size * repeats / fastest(lambda: [block.sum() for _ in range(repeats)])


left, right = torch.randn(2, 1024, 1024)
peak = 2 * 1024**3 / fastest(lambda: left @ right)
bandwidth = measured_bandwidth(256 << 20)
print(hint("peak", rate=f"{peak / 1e9:.0f}"))
print(hint("bandwidth", size="256 KiB", rate=f"{measured_bandwidth(256 << 10) / 1e9:.0f}"))
print(hint("bandwidth", size="256 MiB", rate=f"{bandwidth / 1e9:.0f}"))
print(hint("balance", balance=f"{peak / bandwidth:.1f}"))
with when_solved():
    print(f"{'n':>6} {'plain':>21} {'tiled':>21}")
    for n in (256, 1024, 4096, 16384):
        counted = [plain_bytes(n, n, 64, 4), tiled_bytes(n, n, 64, 128, 4)]
        columns = [f"{each / 1e6:.1f} MB {4 * n * n * 64 / each:4.0f} FLOP/B" for each in counted]
        print(f"{n:6} {columns[0]:>21} {columns[1]:>21}")

# %% [markdown] id="intensity-seen" lang="ko" reviewed="4c46ebb69cb8"
# `n`이 커지면 평범한 쪽의 강도는 `size / number_bytes`에서 멈춰요. 아무리 길어도 더 나아지지 않아요. 타일 쪽은 `2 * block / number_bytes`에
# 다가가니 **`block`을 키우는 만큼** 좋아져요. 두 값을 나누면 오가는 바이트는 `2 * block / size`배 줄어요. 이 예에서는 4배예요.
#
# 평범한 쪽의 강도도 이 CPU의 균형점보다는 높게 나왔을 거예요. 그런데도 왜 시간을 잃을까요? 균형점은 "행렬곱과 메모리 이동이 **동시에**
# 일어난다면"이라는 가정이에요. 평범한 어텐션은 단계를 하나씩 끝내니, 행렬곱을 하는 동안 메모리는 놀고, 소프트맥스를 하는 동안 곱셈기는
# 놀아요. 단계들을 타일 안에서 합쳐야 비로소 이 가정에 가까워져요. 여러분이 쓰는 GPU의 사양표에서 1초에 하는 연산 수를 대역폭으로 나눠
# 보세요. 균형점이 이 CPU보다 훨씬 높을 거예요. 그만큼 얻는 것도 커요.

# %% [markdown] id="intensity-seen" lang="en"
# As `n` grows, the plain intensity stops at `size / number_bytes`: no length makes it better. The tiled one approaches
# `2 * block / number_bytes` and improves **with `block`**. Their quotient says that `2 * block / size` times fewer bytes travel: 4
# times in this example.
#
# The plain intensity, too, probably lies above the balance of this CPU. Why is time lost all the same? The balance assumes that
# products and memory traffic happen **at the same time**. Plain attention finishes one step after the other: memory idles
# during the products, the multipliers during the softmax. Only steps that are fused within a tile come near that assumption.
# Take the data sheet of a GPU that you use and divide its operations a second by its bandwidth: the balance should be far above
# this CPU's, and so is what there is to gain.

# %% [markdown] id="online" lang="ko" reviewed="5af1779b9ab9"
# ## 따라 해 보기: 한 번만 훑는 소프트맥스
#
# 걸림돌은 소프트맥스예요. 가중치를 하나라도 내려면 **그 행의 점수를 모두** 더한 분모가 있어야 하거든요. 게다가 `exp`를 그대로 쓰면 넘쳐 버리니,
# 먼저 가장 큰 점수를 찾아 빼야 해요. 그래서 보통은 세 번 훑어요. 최댓값 찾기, 더하기, 나누기.
#
# 점수를 두 타일 `[1, 3]`과 `[5, 2]`로 나눠 받으면서 분모를 한 번에 구해 볼게요. 첫 타일에서 최댓값은 3이고 합은 $e^{1-3} + e^{3-3}$이에요.
# 둘째 타일에서 최댓값이 5로 바뀌어요. 앞의 합은 3을 기준으로 잰 것이니 버려야 할까요? 아니요. 기준을 3에서 5로 옮기려면
# $e^{3-5}$를 **곱하기만** 하면 돼요. $e^{s-3} \cdot e^{3-5} = e^{s-5}$니까요.

# %% [markdown] id="online" lang="en"
# ## A worked example: a softmax in one pass
#
# The obstacle is the softmax. For even one weight it needs the denominator, a sum over **all scores of the row**. And since `exp`
# overflows, the largest score must be found and subtracted first. So one usually passes three times: maximum, sum, division.
#
# Let us take the scores in two tiles, `[1, 3]` and `[5, 2]`, and find the denominator in one pass. In the first tile the maximum is
# 3 and the sum $e^{1-3} + e^{3-3}$. With the second tile the maximum becomes 5. Must the old sum go, since it was taken relative
# to 3? No: to move its base from 3 to 5, **multiply** it by $e^{3-5}$, because $e^{s-3} \cdot e^{3-5} = e^{s-5}$.

# %% id="online-example"
row = torch.tensor([1.0, 3.0, 5.0, 2.0])
print((10_000 * row).exp() / (10_000 * row).exp().sum())

largest, total = torch.tensor(-math.inf), torch.tensor(0.0)
for tile in (row[:2], row[2:]):
    new = torch.maximum(largest, tile.max())
    total = total * torch.exp(largest - new) + torch.exp(tile - new).sum()
    largest = new
    print(largest.item(), total.item())
print((row - row.max()).exp().sum().item())

# %% [markdown] id="online-seen" lang="ko" reviewed="eb58e7094f96"
# 첫 줄은 최댓값을 빼지 않은 소프트맥스예요. `inf / inf`가 되어 `nan`이 나왔어요. 그 아래에서 두 타일을 지난 합은 한꺼번에 구한 합과 같아요.
#
# 이제 한 걸음만 더 가면 돼요. 분모가 이렇게 된다면, **값을 섞은 분자** $\sum_j e^{s_j - \text{largest}}\, v_j$도 똑같이 될까요? 네, 돼요.
# 기준이 바뀔 때마다 분자에도 같은 수를 곱하면 되니까요. 그러면 점수를 하나도 기억하지 않고 어텐션의 출력을 낼 수 있어요.

# %% [markdown] id="online-seen" lang="en"
# The first line is a softmax without subtracting the maximum: `inf / inf` gives `nan`. Below it, the sum after two tiles equals
# the sum taken at once.
#
# One more step. If the denominator can be had like this, can the **numerator that mixes the values**,
# $\sum_j e^{s_j - \text{largest}}\, v_j$? Yes: whenever the base changes, the numerator is multiplied by the same number. So
# attention's output needs not a single score to be remembered.

# %% [markdown] id="task-online" lang="ko" reviewed="a8f3f203553f"
# ## 과제 2. 온라인 소프트맥스 (보통)
#
# 질의 `n`개의 상태를 텐서 세 개의 튜플 `(largest, total, mixed)`로 나타내요.
#
# - `largest`, 모양 `(…, n, 1)`: 지금까지 본 가장 큰 점수. 아무것도 못 봤으면 `-inf`
# - `total`, 모양 `(…, n, 1)`: $\sum_j e^{s_j - \text{largest}}$
# - `mixed`, 모양 `(…, n, size)`: $\sum_j e^{s_j - \text{largest}}\, v_j$
#
# 두 함수를 완성하세요. 앞의 `…`은 배치와 헤드처럼 몇 개라도 올 수 있는 축이에요.
#
# - `update(state, scores, values)`: 새 타일의 점수 `(…, n, t)`와 값 `(…, t, size)`를 반영한 **새 상태**를 돌려줘요.
# - `finish(state)`: `(output, lse)`를 돌려줘요. `output`은 모양 `(…, n, size)`인 어텐션의 출력이고, `lse`는 모양 `(…, n, 1)`이며 지금까지 본
#   점수의 $\log \sum_j e^{s_j}$예요. 둘 다 자료형은 점수와 같아요. `lse`는 과제 5에서 요긴하게 써요.
#
# 조심할 곳이 있어요. 가려진 키의 점수는 `-inf`로 들어와요. 타일 **전체가** 가려질 수도 있고, 그때까지 아무것도 못 본 질의도 있어요.
# `-inf - (-inf)`는 얼마일까요? 끝까지 아무것도 못 본 질의의 `output`은 0, `lse`는 `-inf`예요.

# %% [markdown] id="task-online" lang="en"
# ## Task 2. The online softmax (medium)
#
# The state of `n` queries is a tuple of three tensors, `(largest, total, mixed)`:
#
# - `largest`, shape `(…, n, 1)`: the largest score so far; `-inf` when nothing was seen
# - `total`, shape `(…, n, 1)`: $\sum_j e^{s_j - \text{largest}}$
# - `mixed`, shape `(…, n, size)`: $\sum_j e^{s_j - \text{largest}}\, v_j$
#
# Complete two functions. The leading `…` are any number of axes, such as batch and heads.
#
# - `update(state, scores, values)`: returns the **new state** with another tile's scores `(…, n, t)` and values `(…, t, size)`.
# - `finish(state)`: returns `(output, lse)`; `output`, shape `(…, n, size)`, is attention's output, and `lse`, shape `(…, n, 1)`, is
#   $\log \sum_j e^{s_j}$ of the scores so far; both have the type of the scores. You will want `lse` in task 5.
#
# Take care: the scores of hidden keys come as `-inf`. A **whole** tile may be hidden, even from a query that has seen nothing
# yet. What is `-inf - (-inf)`? For a query that never sees anything, `output` is 0 and `lse` is `-inf`.

# %% id="empty-state" kind="locked"
def empty_state(queries):
    largest = torch.full_like(queries[..., :1], -math.inf)
    return largest, torch.zeros_like(largest), torch.zeros_like(queries)

# %% id="online-softmax" kind="solution"
def update(state, scores, values):
    ### BEGIN SOLUTION
    largest, total, mixed = state
    new = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
    base = torch.where(new == -math.inf, 0.0, new)
    shrink, weights = torch.exp(largest - base), torch.exp(scores - base)
    total = total * shrink + weights.sum(dim=-1, keepdim=True)
    return new, total, mixed * shrink + weights @ values
    ### END SOLUTION


def finish(state):
    ### BEGIN SOLUTION
    largest, total, mixed = state
    output = torch.where(total > 0, mixed / total, 0.0)
    return output, largest + total.log()
    ### END SOLUTION

# %% id="test-online" kind="test" points=4
def assert_close(found, expected, text, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, msg=text)


def in_tiles(scores, values, widths):
    state = empty_state(values.new_zeros(*scores.shape[:-1], values.shape[-1]))
    for tile, part in zip(scores.split(widths, dim=-1), values.split(widths, dim=-2)):
        state = submission.update(state, tile, part)
    return state


scores, values = torch.tensor([[1.0, 3.0, 5.0, 2.0]]), torch.arange(8.0).view(4, 2)
state = in_tiles(scores, values, [4])
assert len(state) == 3, hint("online-state")
found = [tuple(part.shape) for part in state]
assert found == [(1, 1), (1, 1), (1, 2)], hint("online-shapes", found=found)
output, lse = submission.finish(state)
assert tuple(output.shape) == (1, 2) and tuple(lse.shape) == (1, 1), hint("online-finish")
assert output.dtype == lse.dtype == scores.dtype, hint("online-dtype")
assert_close(output, scores.softmax(dim=-1) @ values, hint("online-one-tile"))
assert_close(lse, scores.logsumexp(dim=-1, keepdim=True), hint("online-lse"))
output, lse = submission.finish(in_tiles(scores, values, [2, 2]))
assert_close(lse, scores.logsumexp(dim=-1, keepdim=True), hint("online-total"))
assert_close(output, scores.softmax(dim=-1) @ values, hint("online-mixed"))
### BEGIN HIDDEN TESTS
torch.seed()
for shape, size, widths in [((3,), 5, [7, 1, 4]), ((2, 3, 9), 4, [1] * 6), ((2, 1), 1, [13, 2])]:
    for dtype in (torch.float32, torch.float64):
        scores = 3 * torch.randn(*shape, sum(widths), dtype=dtype)
        values = torch.randn(*shape[:-1], sum(widths), size, dtype=dtype)
        state = in_tiles(scores, values, widths)
        kept = sum(part.numel() for part in state)
        assert kept <= scores[..., 0].numel() * (size + 2), hint("online-grows")
        output, lse = submission.finish(state)
        assert output.dtype == dtype, hint("online-dtype")
        assert_close(output, scores.softmax(dim=-1) @ values, hint("online-several"))
        assert_close(lse, scores.logsumexp(dim=-1, keepdim=True), hint("online-lse"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for order in ([-1e4, 0.0, 1e4], [1e4, 0.0, -1e4], [-1e4, -1e4, -1e4], [1e4, -1e4, 1e4]):
    scores = torch.randint(-2, 3, (4, 9), dtype=torch.float64)
    scores += torch.tensor(order, dtype=torch.float64).repeat_interleave(3)
    scores += torch.tensor([[0.0], [500.0], [-2e4], [900.0]])
    values = torch.randn(9, 3, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        output, lse = submission.finish(in_tiles(scores.to(dtype), values.to(dtype), [3, 3, 3]))
        assert torch.isfinite(output).all(), hint("online-overflow")
        expected = (scores.softmax(dim=-1) @ values).to(dtype)
        assert_close(output, expected, hint("online-large"))
        assert_close(lse, scores.logsumexp(dim=-1, keepdim=True).to(dtype), hint("online-lse"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
scores, values = torch.randn(2, 4, 8) - 200, torch.randn(2, 8, 3)
scores[0, 0, :4], scores[0, 1, 4:], scores[0, 2], scores[1, 3, 2:6] = [-math.inf] * 4
state = in_tiles(scores, values, [2, 2, 2, 2])
output, lse = submission.finish(state)
assert not output.isnan().any() and not lse.isnan().any(), hint("online-hidden-nan")
assert_close(state[0], scores.amax(dim=-1, keepdim=True), hint("online-largest"))
expected = (scores.softmax(dim=-1) @ values).nan_to_num()
assert_close(output, expected, hint("online-hidden"))
assert (output[0, 2] == 0).all() and lse[0, 2].item() == -math.inf, hint("online-nothing")
assert_close(lse, scores.logsumexp(dim=-1, keepdim=True), hint("online-lse"))
_, lse = submission.finish(in_tiles(scores, 0 * values, [4, 4]))
assert_close(lse, scores.logsumexp(dim=-1, keepdim=True), hint("online-lse"))
### END HIDDEN TESTS

# %% [markdown] id="tiles" lang="ko" reviewed="da228caec8f2"
# ## 타일로 나눈 어텐션
#
# 이제 바깥 반복문이 질의를 `block`개씩 집고, 안쪽 반복문이 키와 값을 `block`개씩 훑어요. 점수는 `block × block`짜리 타일 하나만 있다가
# `update`에 쓰이고 사라져요.
#
# 뒤를 가리는 경우(`causal`)에는 타일이 세 종류예요. 아래 그림을 보세요. **전부 보이는** 타일은 그대로 계산해요. **대각선에 걸친** 타일은
# 일부만 가려요. **전부 가려진** 타일은? 마스크를 씌울 필요도 없이, 아예 계산하지 않으면 돼요. 평범한 어텐션은 이 절반을 다 계산한 다음에
# 버려요.

# %% [markdown] id="tiles" lang="en"
# ## Attention in tiles
#
# An outer loop takes `block` queries at a time, an inner one runs over the keys and values, `block` at a time. Of the scores there
# is only one tile of `block × block`, which goes into `update` and is gone.
#
# With later tokens hidden (`causal`), there are three kinds of tiles; see the picture. One that is **wholly visible** is computed as
# it is. One **on the diagonal** is hidden in part. And one that is **wholly hidden**? No mask is needed: do not compute it at
# all. Plain attention computes that half and throws it away.

# %% id="tiles-plot" kind="demo"
kinds = torch.tensor([[2 if j > i else 1 if j == i else 0 for j in range(6)] for i in range(6)])
figure, axes = plt.subplots(figsize=(6.2, 4.2))
colours = plt.matplotlib.colors.ListedColormap(["#9ecae1", "#fdd49e", "#f0f0f0"])
axes.imshow(kinds, cmap=colours)
axes.set_xticks(torch.arange(-0.5, 6).tolist(), range(0, 7 * 128, 128))
axes.set_yticks(torch.arange(-0.5, 6).tolist(), range(0, 7 * 128, 128))
axes.grid(color="white", linewidth=2)
for colour, key in zip(colours.colors, ("tile-visible", "tile-diagonal", "tile-hidden")):
    axes.scatter([], [], marker="s", s=90, color=colour, edgecolor="grey", label=hint(key))
axes.set(xlabel=hint("tile-keys"), ylabel=hint("tile-queries"))
axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
figure.tight_layout()
plt.show()

# %% [markdown] id="watch" lang="ko" reviewed="a2d7e5ebbfd0"
# ### 메모리를 지켜보는 도구
#
# 아래 `Watch`는 그 안에서 실행되는 PyTorch 연산을 하나하나 지켜봐요. 새로 만든 텐서 가운데 **가장 큰 것의 숫자 개수**(`largest`), 동시에 살아
# 있던 새 텐서들의 **바이트 합의 최댓값**(`peak`), 행렬곱의 **연산 수**(`flops`)를 세요. 시간은 잴 때마다 흔들리지만 이 숫자들은 늘 같아요.

# %% [markdown] id="watch" lang="en"
# ### A tool that watches memory
#
# `Watch` below sees every PyTorch operation that runs inside it. It counts the **numbers in the largest** new tensor (`largest`),
# the **most bytes of new tensors alive** at once (`peak`), and the **operations** of matrix products (`flops`). Times wobble; these
# do not.

# %% id="watch-code" kind="locked"
aten = torch.ops.aten
formulas = {
    **flop_registry,
    aten.addmm_: flop_registry[aten.addmm],
    aten.baddbmm_: flop_registry[aten.baddbmm],
    aten.mv: lambda matrix, vector, **_: 2 * matrix.numel(),
}


class Watch(TorchDispatchMode):
    def __init__(self, inputs):
        super().__init__()
        self.largest = self.peak = self.flops = 0
        self.operators = set()
        self.alive = {StorageWeakRef(each.untyped_storage()): 0 for each in inputs}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        results = function(*arguments, **options)
        packet = function.overloadpacket
        self.operators.add(str(packet))
        if packet in formulas:
            self.flops += formulas[packet](*arguments, **options, out_val=results)
        for each in tree_leaves(results):
            if isinstance(each, torch.Tensor):
                self.count(each.untyped_storage(), each.element_size())
        return results

    def count(self, storage, number_bytes):
        self.alive = {each: size for each, size in self.alive.items() if not each.expired()}
        if StorageWeakRef(storage) not in self.alive:
            self.alive[StorageWeakRef(storage)] = storage.nbytes()
            self.largest = max(self.largest, storage.nbytes() // number_bytes)
            self.peak = max(self.peak, sum(self.alive.values()))


def watched(function, *arguments):
    with Watch([each for each in arguments if isinstance(each, torch.Tensor)]) as watch:
        output = function(*arguments)
    counts = {"largest": watch.largest, "peak": watch.peak, "flops": watch.flops}
    return output, {**counts, "operators": sorted(watch.operators)}


def watched_flash(q, k, v, causal, *block):
    return watched(flash_attention, q, k, v, causal, *block)


def watched_views(q, k, v, causal, block):
    q, k, v = (each.transpose(1, 2).contiguous().transpose(1, 2) for each in (q, k, v))
    return watched_flash(q, k, v, causal, block)


for n in (512, 1024, 2048):
    _, seen = watched(attention, *random_qkv(n))
    print(n, seen["largest"], f"{seen['peak'] / 2**20:.0f} MiB", f"{seen['flops'] / 1e9:.2f} GFLOP")

# %% [markdown] id="task-flash" lang="ko" reviewed="a125e560baed"
# ## 과제 3. 타일 어텐션 (어려움)
#
# `flash_attention(q, k, v, causal=False, block=128)`을 완성하세요. `attention`과 같은 답을 내되, 점수를 타일로만 만들어요.
#
# - `q`: 모양 `(b, h, n, size)`, `k`와 `v`: 모양 `(b, h, m, size)`. `n`과 `m`은 다를 수 있고 `block`으로 나누어떨어지지 않을 수 있어요.
#   `causal`일 때는 `n <= m`이에요. 축을 바꿔 만든 뷰일 수도 있으니 메모리에 빈틈없이 이어져 있다고 생각하지 마세요.
# - 돌려주는 값: 모양 `(b, h, n, size)`, 자료형은 `q`와 같아요.
# - 점수 타일은 질의 `block`개 × 키 `block`개보다 크지 않아요. **마스크도** `n × m`으로 만들지 마세요. 타일의 마스크는 타일의 위치로 만들어요.
#   머릿속으로 `n=5, m=7, block=2`를 그려 보면 도움이 돼요.
# - `causal`일 때 전부 가려진 타일은 계산하지 않아요.
# - 배치와 헤드는 반복문 없이 한꺼번에 계산해도 돼요. 행렬곱에는 PyTorch의 `@`(또는 `matmul`, `einsum`)을 쓰세요.
# - `torch.nn.functional.scaled_dot_product_attention`은 쓰지 않아요. 그것이 바로 여러분이 만들 물건이에요.

# %% [markdown] id="task-flash" lang="en"
# ## Task 3. Tiled attention (hard)
#
# Complete `flash_attention(q, k, v, causal=False, block=128)`: the answer of `attention`, with scores made in tiles only.
#
# - `q`: shape `(b, h, n, size)`; `k` and `v`: shape `(b, h, m, size)`. `n` and `m` may differ, and `block` need not divide them.
#   With `causal`, `n <= m`. They may be views with axes swapped: do not count on contiguous memory.
# - Returns: shape `(b, h, n, size)`, of the same type as `q`.
# - No tile of scores is larger than `block` queries × `block` keys. Do not make the **mask** `n × m`, either: a tile's mask follows
#   from where the tile lies. Picture `n=5, m=7, block=2`.
# - With `causal`, tiles that are wholly hidden are not computed.
# - Batch and heads need no loop; take them all at once. For products use PyTorch's `@` (or `matmul`, `einsum`).
# - Do not use `torch.nn.functional.scaled_dot_product_attention`: it is the thing that you are building.

# %% id="flash-attention" kind="solution"
def flash_attention(q, k, v, causal=False, block=128):
    ### BEGIN SOLUTION
    n, m, size = q.shape[-2], k.shape[-2], q.shape[-1]
    output = torch.empty_like(q)
    for first in range(0, n, block):
        rows = q[..., first : first + block, :] / size**0.5
        last_seen = torch.arange(first, first + rows.shape[-2])[:, None] + m - n
        state = empty_state(rows)
        end = min(m, first + block + m - n) if causal else m
        for start in range(0, end, block):
            stop = min(start + block, end)
            scores = rows @ k[..., start:stop, :].transpose(-1, -2)
            if causal and stop > first + m - n + 1:
                scores = scores.masked_fill(torch.arange(start, stop) > last_seen, -math.inf)
            state = update(state, scores, v[..., start:stop, :])
        output[..., first : first + block, :] = finish(state)[0]
    return output
    ### END SOLUTION

# %% id="test-flash" kind="test" points=4
def exact(q, k, v, causal=False):
    return attention(q.double(), k.double(), v.double(), causal).to(q.dtype)


def assert_own(operators):
    fused = [name for name in operators if "scaled_dot" in name or "flash" in name]
    assert not fused, hint("flash-fused")


q, k, v = random_qkv(6, heads=1, size=4, seed=3)
found = submission.flash_attention(q, k, v, False, 2)
assert tuple(found.shape) == (1, 1, 6, 4), hint("flash-shape")
assert not found.isnan().any(), hint("flash-nan")
assert_close(found, exact(q, k, v), hint("flash-value"))
found = submission.flash_attention(q, k, v, False, 4)
assert_close(found, exact(q, k, v), hint("flash-rest"))
### BEGIN HIDDEN TESTS
shapes = [(1, 1, 1, 1, 8, 4), (2, 3, 37, 37, 16, 8), (1, 2, 1, 65, 32, 16), (3, 1, 50, 20, 1, 7)]
shapes += [(1, 4, 129, 257, 64, 64), (2, 2, 5, 90, 3, 128), (1, 1, 64, 64, 80, 16)]
shapes += [(2, 1, 9, 9, 4, 1)]
for batch, heads, n, m, size, block in shapes:
    for dtype in (torch.float32, torch.float64):
        q, k, v = random_qkv(n, m, batch, heads, size, dtype)
        found = submission.flash_attention(q, k, v, False, block)
        text = hint("flash-several", batch=batch, heads=heads, n=n, m=m, size=size, block=block)
        assert tuple(found.shape) == (batch, heads, n, size), text
        assert found.dtype == dtype, hint("flash-dtype")
        assert_close(found, exact(q, k, v), text)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for n, m, block in [(n, m, block) for n in (1, 2, 3) for m in (1, 2, 5) for block in (1, 2, 3)]:
    q, k, v = random_qkv(n, m, 2, 2, 3)
    found = submission.flash_attention(q, k, v, False, block)
    text = hint("flash-several", batch=2, heads=2, n=n, m=m, size=3, block=block)
    assert_close(found, exact(q, k, v), text)
q, k, v = random_qkv(40, 40, 2, 3, 16)
found, seen = submission.watched_views(q, k, v, False, 16)
assert_close(found, exact(q, k, v), hint("flash-layout"))
assert_own(seen["operators"])
assert_close(submission.flash_attention(q, k, v), exact(q, k, v), hint("flash-default"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for sign in (1, -1):
    q, k = torch.randint(25, 51, (2, 2, 2, 33, 16)).double()
    k, v = sign * k, torch.randn(2, 2, 33, 16, dtype=torch.float64)
    scores = q @ k.transpose(-1, -2) / 4
    assert 2e3 < scores.abs().max() <= 1e4
    found = submission.flash_attention(q, k, v, False, 8)
    assert torch.isfinite(found).all(), hint("flash-overflow")
    assert_close(found, exact(q, k, v), hint("flash-large"))
    found = submission.flash_attention(q.float(), k.float(), v.float(), False, 8)
    assert torch.isfinite(found).all(), hint("flash-overflow")
    assert_close(found, exact(q, k, v).float(), hint("flash-large"), tolerance=0.02)
q, k, v = random_qkv(24, 2000, size=4)
q, k, v = torch.ones_like(q), k / 8, v + 1
k[..., 0, :] = 6.0
assert_close(submission.flash_attention(q, k, v, False, 16), exact(q, k, v), hint("flash-small"))
### END HIDDEN TESTS

# %% id="test-causal" kind="test" points=3
q, k, v = random_qkv(5, heads=1, size=4, seed=4)
found = submission.flash_attention(q, k, v, True, 8)
assert_close(found, exact(q, k, v, True), hint("causal-one-tile"))
found = submission.flash_attention(q, k, v, True, 2)
assert not found.isnan().any(), hint("flash-nan")
assert_close(found[..., :1, :], v[..., :1, :], hint("causal-first"))
assert_close(found, exact(q, k, v, True), hint("causal-tiles"))
### BEGIN HIDDEN TESTS
shapes = [(1, 1, 1, 1, 8, 4), (2, 2, 40, 40, 16, 8), (1, 3, 37, 37, 8, 16), (1, 1, 61, 61, 4, 1)]
shapes += [(1, 2, 1, 50, 16, 16), (2, 1, 3, 41, 8, 4), (1, 1, 20, 33, 8, 8), (1, 1, 5, 7, 4, 2)]
for batch, heads, n, m, size, block in shapes:
    q, k, v = random_qkv(n, m, batch, heads, size, torch.float64)
    found = submission.flash_attention(q, k, v, True, block)
    text = hint("causal-several", batch=batch, heads=heads, n=n, m=m, size=size, block=block)
    assert_close(found, exact(q, k, v, True), text)
for n, m, block in [(n, m, b) for n in range(1, 5) for m in range(n, 8) for b in (1, 2, 3)]:
    q, k, v = random_qkv(n, m, 1, 2, 4)
    found = submission.flash_attention(q, k, v, True, block)
    text = hint("causal-several", batch=1, heads=2, n=n, m=m, size=4, block=block)
    assert_close(found, exact(q, k, v, True), text)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
q, k, v = random_qkv(48, size=8)
before = submission.flash_attention(q, k, v, True, 16)
k[..., 30:, :], v[..., 30:, :] = 100.0, -100.0
after = submission.flash_attention(q, k, v, True, 16)
assert_close(after[..., :30, :], before[..., :30, :], hint("causal-future"))
q = 50 * torch.ones(1, 1, 24, 16, dtype=torch.float64)
k, v = -q, torch.randn(1, 1, 24, 16, dtype=torch.float64)
found = submission.flash_attention(q, k, v, True, 8)
assert torch.isfinite(found).all(), hint("flash-overflow")
assert_close(found, exact(q, k, v, True), hint("causal-negative"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
size, block = 16, 32
for n, m in ((512, 512), (256, 512), (64, 64)):
    q, k, v = random_qkv(n, m, heads=1, size=size)
    found, seen = submission.watched_flash(q, k, v, True, block)
    assert_close(found, exact(q, k, v, True), hint("causal-tiles"))
    assert_own(seen["operators"])
    visible = 2 * size * n * (2 * m - n + 1)
    needed = 4 * size * block * sum(range(m - n + block, m + 1, block))
    assert seen["flops"] >= 0.9 * visible, hint("causal-uncounted")
    _, unmasked = submission.watched_flash(q, k, v, False, block)
    once = 4 * n * m * size
    done, needed = seen["flops"] / max(once, unmasked["flops"]), needed / once
    percent, enough = round(100 * done), round(100 * needed)
    assert done <= 1.05 * needed, hint("causal-work", percent=percent, enough=enough)
### END HIDDEN TESTS

# %% id="test-memory" kind="test" points=3
def assert_small(n, m, size, block, causal, heads=1):
    q, k, v = random_qkv(n, m, heads=heads, size=size)
    found, seen = submission.watched_flash(q, k, v, causal, block)
    assert_close(found, exact(q, k, v, causal), hint("memory-value"))
    assert_own(seen["operators"])
    assert seen["flops"] >= 1.8 * n * m * size * heads, hint("causal-uncounted")
    largest, tile = seen["largest"], block * block
    most = heads * max(2 * n * size, 2 * m * size, 3 * tile // 2)
    assert largest < heads * n * m // 4, hint(
        "memory-square", largest=largest, square=heads * n * m
    )
    assert largest <= most, hint("memory-tile", largest=largest, block=block)
    peak, square = seen["peak"], 4 * heads * n * m
    assert peak <= square // 4, hint("memory-kept", peak=peak, square=square)


assert_small(512, 512, 4, 16, False)
### BEGIN HIDDEN TESTS
assert_small(768, 768, 8, 32, True)
assert_small(700, 900, 8, 32, True, heads=2)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
assert_small(1000, 650, 8, 32, False, heads=2)
assert_small(650, 1000, 8, 32, False)
assert_small(300, 300, 2, 32, False, heads=2)
assert_small(60, 2000, 2, 30, True)
### END HIDDEN TESTS

# %% [markdown] id="measure" lang="ko" reviewed="cf19e111115d"
# ## 이제 재 봅시다
#
# 먼저 메모리를 세고, 그다음에 시간을 재요. 여러분의 예상과 견주어 보세요.

# %% [markdown] id="measure" lang="en"
# ## Now measure
#
# Count memory first, then take the time, and compare both with your guesses.

# %% id="measure-code" kind="demo"
def draw(i):
    return random_qkv(2048, seed=i)


def draw_causal(i):
    return *draw(i), True


def agree(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


with when_solved():
    peaks = {}
    for n in (1024, 2048):
        _, plain = watched(attention, *random_qkv(n))
        _, tiled = watched(flash_attention, *random_qkv(n))
        peaks[n] = tiled["peak"]
        sizes = f"plain {plain['peak'] / 2**20:5.1f} MiB  tiled {tiled['peak'] / 2**20:5.1f} MiB"
        print(f"n = {n}  {sizes}  FLOP x{tiled['flops'] / plain['flops']:.2f}")
    ratio = f"{peaks[2048] / peaks[1024]:.1f}"
    print(hint("measured-memory", ratio=ratio, guess=memory_guess))
    times = speedup(flash_attention, attention, draw, agree, rounds=3)
    print(hint("measured-time", ratio=f"{times.ratio:.1f}", guess=speed_guess))
    times = speedup(flash_attention, attention, draw_causal, agree, rounds=3)
    print(hint("measured-causal", ratio=f"{times.ratio:.1f}"))

# %% [markdown] id="measure-why" lang="ko" reviewed="6bfe08893781"
# 행렬곱은 하나도 줄지 않았는데(`causal=False`일 때) 더 빨라졌나요? 새로 늘어난 연산은 타일마다 분자의 기준을 옮기는 `n × m × size / block`번쯤이에요.
# 행렬곱이 `4 × n × m × size`번이니 그 `1 / (4 × block)`, `block=128`이면 0.2%예요. 이만큼을 더 내고 **메모리를 오가는 일**을 덜었어요. 평범한
# 어텐션이 `n × m`짜리 텐서를 단계마다 새로 만들고 읽던 일이 없어졌으니까요. 뒤를 가릴 때 더 크게
# 빨라지는 까닭은 두 가지가 겹치기 때문이에요. 가려진 타일을 건너뛰어 연산이 절반 가까이 줄고, 평범한 쪽은 큰 마스크까지 다루느라 더
# 느려져요. 두 효과를 나눠서 말할 수 있어야 정직한 보고예요.

# %% [markdown] id="measure-why" lang="en"
# With `causal=False` not one product was saved; is it faster all the same? The new operations are some `n × m × size /
# block`, which move the numerator to its new base at each tile. The products are `4 × n × m × size`, so that is `1 / (4 ×
# block)` of them, 0.2% with `block=128`. For this little, **traffic to memory** went away: plain attention makes a new tensor
# of `n × m` at each step, and reads it back. With later tokens hidden the gain is larger for two reasons at once: skipping
# hidden tiles saves nearly half of the arithmetic, and the plain side becomes slower with a large mask to handle. An honest
# report tells the two apart.

# %% [markdown] id="task-speed" lang="ko" reviewed="8e33cee111d4"
# ## 과제 4. 성능 기준 넘기
#
# 헤드 2개, 토큰 2,048개, `causal=True`에서 `flash_attention`이 `attention`보다 **1.75배 이상** 빨라야 해요. `block`은 여러분이 정한 기본값을
# 써요. 함수 첫 줄의 기본값을 바꿔 가며 재 보세요. 매번 새 입력으로, 순서를 번갈아 다섯 번 재서 CPU 시간 비율의 중앙값을 봐요.

# %% [markdown] id="task-speed" lang="en"
# ## Task 4. The performance gate
#
# With 2 heads, 2,048 tokens and `causal=True`, `flash_attention` must be **at least 1.75 times** faster than `attention`. `block`
# is the default that you choose: change it in the function's first line and measure. It is the median of five ratios of CPU
# time, with fresh input each time and in alternating order.

# %% id="test-speed" kind="test" points=3
_, seen = submission.watched_flash(*random_qkv(2048), True)
assert not [name for name in seen["operators"] if "scaled_dot" in name], hint("flash-fused")
assert seen["flops"] >= 4 * 2048**2 * 64, hint("causal-uncounted")
left, right = torch.randn(2, 512, 512)
work = 2 * 4 * 64 * 2048**2 / 2
bare = work * typical(lambda: left @ right) / (2 * 512**3)
reached = speedup(
    submission.flash_attention,
    attention,
    lambda i: (*random_qkv(2048), True),
    lambda a, b: torch.allclose(a, b, rtol=1e-4, atol=1e-4),
)
gate("flash_attention", reached, 1.75, hint("speed"), floor_seconds=bare / 3)

# %% [markdown] id="limit" lang="ko" reviewed="457ffd460c04"
# ## 물리적인 한계와 비교하기
#
# 어텐션이 아무리 빨라도 두 가지보다 빠를 수는 없어요. 입력을 읽고 출력을 쓰는 시간, 그리고 보이는 쌍마다 두 행렬곱의 연산을 하는 시간이에요.
#
# $$\text{한계} = \max\left(\frac{\text{입출력 바이트}}{\text{대역폭}},\ \frac{\text{행렬곱 연산}}{\text{행렬곱 속도}}\right)$$
#
# 두 속도 모두 이 컴퓨터에서 잰 값이에요. 보이는 쌍마다 한 번씩 하는 `exp`는 한계에 넣지 않았어요. 얼마나 정밀하게 계산하느냐에 따라 속도가
# 달라지니까요. 그 대신 행렬곱의 몇 %쯤 되는 시간인지 따로 찍어 볼게요. PyTorch에 들어 있는 어텐션(SDPA)도 함께 그려요. C++로 짠
# 플래시어텐션이에요.

# %% [markdown] id="limit" lang="en"
# ## Against the physical limit
#
# Attention can be no faster than two things: reading its input and writing its output; and doing both products for every
# visible pair.
#
# $$\text{limit} = \max\left(\frac{\text{bytes in and out}}{\text{bandwidth}},\ \frac{\text{operations of products}}{\text{speed of products}}\right)$$
#
# Both speeds were measured on this machine. The one `exp` for each visible pair is not part of the limit, since its speed depends
# on how precisely it is computed; we print separately how long it takes, in percent of the products. PyTorch's own attention (SDPA) is
# drawn too: a FlashAttention in C++.

# %% id="plot" kind="demo"
def best_attention(q, k, v, causal):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def limit_seconds(n, heads=2, size=64):
    pairs = heads * n * (n + 1) / 2
    moved = 4 * n * size * heads * 4
    return max(moved / bandwidth, 4 * size * pairs / peak)


few = torch.randn(65536)
one_exp = typical(few.exp, repeats=101) / few.numel()
print(hint("exponentials", percent=f"{100 * one_exp / (4 * 64 / peak):.0f}"))
prompts = [128, 256, 512, 1024, 2048, 4096]
limit = [limit_seconds(n) for n in prompts]
lines = {"plot-plain": attention, "plot-tiled": flash_attention, "plot-sdpa": best_attention}
taken = {key: [] for key in lines}
with when_solved():
    for n in prompts:
        inputs = random_qkv(n, seed=n)
        for key, function in lines.items():
            taken[key].append(typical(lambda: function(*inputs, True), repeats=5))
    figure, axes = plt.subplots(figsize=(7.5, 4.8))
    for key, times in taken.items():
        axes.loglog(prompts, [1e3 * each for each in times], "o-", label=hint(key))
    axes.loglog(prompts, [1e3 * each for each in limit], "k--", label=hint("plot-limit"))
    axes.set(xlabel=hint("plot-x"), ylabel=hint("plot-y"))
    axes.set_xticks(prompts, [f"{n:,}" for n in prompts])
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()
    for key, times in taken.items():
        percent = f"{100 * limit[-2] / times[-2]:.0f}"
        print(hint("achieved", name=hint(key), percent=percent))

# %% [markdown] id="limit-read" lang="ko" reviewed="e9bfa12f0953"
# 양쪽 축이 로그이니, 어느 선이든 기울기 2에 가까우면 시간이 `n`의 제곱으로 느는 거예요. 플래시어텐션도 **시간은 여전히 제곱**이에요. 선형이
# 된 것은 메모리예요. 이 둘을 섞어 말하는 글이 많으니 조심하세요.
#
# 여러분의 선과 한계선 사이에는 무엇이 있을까요? 먼저 `exp`가 있어요. 그리고 타일마다 파이썬이 연산을 여남은 번 시키고, 연산마다 타일을 캐시에 썼다가 다시 읽어요. SDPA는
# 이것을 컴파일된 코드 하나에서 끝내요. 그래도 여러분의 알고리즘과 같은 알고리즘이에요. 다음 셀에서 `block`을 바꿔 봐요.

# %% [markdown] id="limit-read" lang="en"
# Both axes are logarithmic: a slope near 2 means time that grows with the square of `n`. FlashAttention's **time is still
# quadratic**; it is the memory that became linear. Many texts mix the two up.
#
# What lies between your line and the limit? First, the `exp`. Then, for each tile Python issues some ten operations, and each
# of them writes the tile to the cache and reads it back. SDPA does all that in one piece of compiled code; the algorithm is
# the same as yours. In the next cell, change `block`.

# %% id="blocks-code" kind="demo"
with when_solved():
    inputs = random_qkv(2048, seed=1)
    print(f"{'block':>5} {'tile':>9} {'traffic':>9} {'time':>9}")
    for block in (32, 64, 128, 256, 512, 1024, 2048):
        seconds = typical(lambda: flash_attention(*inputs, True, block), repeats=3)
        tile = f"{2 * 4 * block**2 / 2**10:5.0f} KiB"
        moved = f"{2 * tiled_bytes(2048, 2048, 64, block, 4) / 1e6:6.0f} MB"
        print(f"{block:5} {tile} {moved} {1e3 * seconds:6.1f} ms")

# %% [markdown] id="blocks-read" lang="ko" reviewed="6912481134ad"
# 둘째 열은 점수 타일의 크기, 셋째 열은 과제 1의 함수로 센 바이트(`causal` 없이)예요. `block`이 작으면 파이썬이 연산을 더 여러 번 시키고 키와 값을 더
# 자주 읽어요. 너무 크면 타일이 캐시에서 넘치고, 대각선 타일에서 버리는 계산이 늘어요. 가운데 어딘가가 가장 빨라요. GPU에서는 이 선택이 더
# 빠듯해요. 타일이 연산 장치마다 하나씩 있는 작은 공유 메모리에 꼭 들어가야 하거든요.

# %% [markdown] id="blocks-read" lang="en"
# The second column is the size of a tile of scores, the third the bytes that your functions of task 1 count (without `causal`). A
# small `block` makes Python issue more operations and reads keys and values more often. A large one spills out of the cache and wastes
# more on the diagonal. The best lies somewhere between. On a GPU the choice is tighter still: a tile must fit in the small
# shared memory that each multiprocessor has.

# %% [markdown] id="loses" lang="ko" reviewed="a204466a55e9"
# ## 타일이 손해일 때
#
# 1. **짧은 프롬프트.** 점수 행렬이 어차피 캐시에 들어간다면 아낄 것이 없어요. 파이썬 반복문의 비용만 남아요.
# 2. **디코드.** 질의가 하나면 점수는 `1 × m`이에요. 줄일 제곱이 없어요. 키와 값을 한 번 읽는 시간이 전부예요.

# %% [markdown] id="loses" lang="en"
# ## Where tiles lose
#
# 1. **Short prompts.** If the scores fit in the cache anyway, there is nothing to save, and the Python loop costs.
# 2. **Decode.** With one query the scores are `1 × m`: there is no square to avoid. The time is that of reading keys and
#    values once.

# %% id="loses-code" kind="demo"
def shorter(n, m):
    return lambda i: (*random_qkv(n, m, seed=i), True)


with when_solved():
    for n, m in [(64, 64), (256, 256), (512, 512), (1024, 1024), (1, 1024), (1, 8192)]:
        found = speedup(flash_attention, attention, shorter(n, m), agree, rounds=3)
        print(f"n = {n:4}  m = {m:4}  {found}")

# %% [markdown] id="split" lang="ko" reviewed="d331312f4da2"
# ## 디코드를 나누어 맡기기: split-KV
#
# 큰 GPU에는 멀티프로세서(SM)라는 연산 장치가 백 개 안팎 들어 있고, 타일 어텐션은 **질의 묶음 하나를 장치 하나에** 맡겨요. 프리필에서는 묶음이 넉넉해요. 그런데 디코드에서는
# 질의가 하나뿐이니 일감이 배치 × 헤드만큼밖에 없어요. 대화 하나에 헤드 8개면 장치 8개만 일하고 나머지는 놀아요. 문맥이 10만 토큰이어도
# 그래요.
#
# 그래서 **키와 값을 조각으로 나눠** 여러 장치에 맡기고 나중에 합쳐요. 플래시 디코딩(Flash-Decoding)이라고 해요. 장치마다 자기 조각만 보고
# `(output, lse)`를 내요. 아래 `attend_piece`가 그 일을 해요. 출력은 조각 안에서 이미 나눗셈을 끝낸 것이니 그냥 더할 수도, 그냥 평균할 수도
# 없어요. 조각의 무게는 무엇일까요? 그 조각의 분모, 곧 $e^{\text{lse}}$예요.
#
# 같은 수식을 **접두사 공유**(여럿이 함께 쓰는 시스템 프롬프트를 한 번만 읽기)와 **링 어텐션**(문맥을 여러 GPU에 나눠 두기)에서도 써요.

# %% [markdown] id="split" lang="en"
# ## Sharing out decode: split-KV
#
# A large GPU has about a hundred multiprocessors (SMs), and tiled attention gives **each group of queries to one of them**. Prefill has
# groups in plenty. Decode has a single query, so there are only batch × heads pieces of work: one conversation with 8 heads keeps
# 8 multiprocessors busy while the others idle, even with a context of 100,000 tokens.
#
# So **split the keys and values** into pieces, hand them to several multiprocessors, and merge the results afterwards. That is
# called Flash-Decoding. Each sees only its piece and gives `(output, lse)`, as `attend_piece` below does. The outputs were divided within
# their pieces, so they can be neither added nor averaged as they are. What is the weight of a piece? Its denominator, $e^{\text{lse}}$.
#
# The same formula serves **shared prefixes** (reading a common system prompt once for many users) and **ring attention** (a context
# spread over several GPUs).

# %% id="piece-code" kind="locked"
def attend_piece(q, k, v):
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.softmax(dim=-1) @ v, scores.logsumexp(dim=-1, keepdim=True)


q, k, v = random_qkv(1, 1000, heads=1, size=2, seed=5)
for part in (slice(900), slice(900, 1000)):
    output, lse = attend_piece(q, k[..., part, :], v[..., part, :])
    print(output.flatten(), lse.item())
print(attention(q, k, v).flatten())

# %% [markdown] id="task-merge" lang="ko" reviewed="260376a7b127"
# ## 과제 5. 조각 합치기 (보통)
#
# `merge(parts)`를 완성하세요.
#
# - `parts`: `(output, lse)`의 리스트, 하나 이상. `output`은 모양 `(…, n, size)`, `lse`는 모양 `(…, n, 1)`이에요.
# - 돌려주는 값: 모든 조각의 키를 한꺼번에 본 것과 같은 `(output, lse)`. 모양과 자료형은 조각 하나와 같아요. 그래서 합친 것을 또 합칠 수 있어요.
# - `lse`는 10,000일 수도, -10,000일 수도 있어요. 아무 키도 못 본 조각은 `lse`가 `-inf`이고 `output`이 0이에요. 그런 조각은 결과를 바꾸지 않아요.
#   모든 조각이 그렇다면 결과도 `-inf`와 0이에요.

# %% [markdown] id="task-merge" lang="en"
# ## Task 5. Merge the pieces (medium)
#
# Complete `merge(parts)`.
#
# - `parts`: a list of `(output, lse)`, one or more. `output` has shape `(…, n, size)`, `lse` has shape `(…, n, 1)`.
# - Returns: the `(output, lse)` of all pieces' keys seen at once, in the shapes and types of one piece; so what was merged can
#   be merged again.
# - `lse` may be 10,000 or -10,000. A piece that saw no key has `lse` `-inf` and `output` 0, and changes nothing. Where all pieces
#   are like that, so is the result.

# %% id="merge" kind="solution"
def merge(parts):
    ### BEGIN SOLUTION
    outputs = torch.stack([output for output, _ in parts])
    lses = torch.stack([lse for _, lse in parts])
    weights = torch.softmax(lses, dim=0).nan_to_num()
    return (weights * outputs).sum(dim=0), torch.logsumexp(lses, dim=0)
    ### END SOLUTION

# %% id="test-merge" kind="test" points=3
def in_pieces(q, k, v, lengths):
    parts = zip(k.split(lengths, dim=-2), v.split(lengths, dim=-2))
    return [attend_piece(q, *part) for part in parts]


q, k, v = random_qkv(1, 10, heads=1, size=4, seed=6)
output, lse = submission.merge(in_pieces(q, k, v, [5, 5]))
whole, whole_lse = attend_piece(q, k, v)
assert tuple(output.shape) == (1, 1, 1, 4), hint("merge-shape")
assert tuple(lse.shape) == (1, 1, 1, 1), hint("merge-shape")
assert_close(lse, whole_lse, hint("merge-lse"))
assert_close(output, whole, hint("merge-output"))
### BEGIN HIDDEN TESTS
cases = [(1, 1, 1, [1, 8]), (2, 3, 4, [3, 1, 9, 4]), (1, 2, 7, [20]), (3, 1, 1, [1] * 30)]
for batch, heads, n, lengths in cases:
    for dtype in (torch.float32, torch.float64):
        q, k, v = random_qkv(n, sum(lengths), batch, heads, 8, dtype)
        whole, whole_lse = attend_piece(q, k, v)
        parts = in_pieces(q, k, v, lengths)
        text = hint("merge-several", lengths=lengths)
        for some in (parts, parts[::-1]):
            output, lse = submission.merge(some)
            assert_close(lse, whole_lse, text)
            assert_close(output, whole, text)
            assert output.dtype == dtype, hint("merge-dtype")
        middle = len(parts) // 2
        halves = [submission.merge(half) for half in (parts[:middle], parts[middle:]) if half]
        output, lse = submission.merge(halves)
        assert_close(output, whole, hint("merge-again"))
        assert_close(lse, whole_lse, hint("merge-again"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for high, low in [(1e4, 9999.0), (-1e4, -9999.0), (1e4, -1e4), (800.0, 0.0)]:
    lses = torch.tensor([high, low, high], dtype=torch.float64).view(3, 1, 1)
    outputs = torch.randn(3, 1, 5, dtype=torch.float64)
    output, lse = submission.merge(list(zip(outputs, lses)))
    assert torch.isfinite(output).all() and torch.isfinite(lse).all(), hint("merge-overflow")
    assert_close(output, (lses.softmax(dim=0) * outputs).sum(dim=0), hint("merge-large"))
    assert_close(lse, lses.logsumexp(dim=0), hint("merge-large"), tolerance=1e-9)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
some = torch.randn(2, 3), torch.randn(2, 1)
empty = torch.zeros(2, 3), torch.full((2, 1), -math.inf)
for parts in ([some, empty], [empty, some], [empty, some, empty]):
    output, lse = submission.merge(parts)
    assert not output.isnan().any() and not lse.isnan().any(), hint("merge-empty-nan")
    assert_close(output, some[0], hint("merge-empty"))
    assert_close(lse, some[1], hint("merge-empty"))
output, lse = submission.merge([empty, empty])
assert not output.isnan().any() and not lse.isnan().any(), hint("merge-empty-nan")
assert (output == 0).all() and (lse == -math.inf).all(), hint("merge-empty")
lses = torch.full((3, 4), -math.inf, dtype=torch.float64)
lses[0, 0], lses[1, 0], lses[0, 1], lses[2, 1], lses[0, 2] = 1e4, -1e4, 3, 2, 0
outputs = torch.where(lses[..., None] == -math.inf, 0, torch.randn(3, 4, 5, dtype=torch.float64))
expected = (lses.softmax(dim=0).nan_to_num()[..., None] * outputs).sum(dim=0)
for order, queries in (([0, 1, 2], 4), ([1, 2, 0], 3), ([2, 0, 1], 3)):
    parts = [(outputs[i, :queries], lses[i, :queries, None]) for i in order]
    output, lse = submission.merge(parts)
    assert_close(output, expected[:queries], hint("merge-each"))
    assert_close(lse, lses.logsumexp(dim=0)[:queries, None], hint("merge-each"))
### END HIDDEN TESTS

# %% [markdown] id="split-measure" lang="ko" reviewed="638a991563d7"
# 이제 65,536토큰의 캐시를 앞에 둔 디코드 한 단계를 조각으로 나눠 봐요. 답은 그대로인데, 동시에 맡길 수 있는 일감이 늘어요. 스레드가 하나인
# 여기서는 빨라지지 않아요. 오히려 합치는 비용이 조금 들어요. **얻는 것은 놀고 있는 장치가 있을 때뿐**이에요. 마지막 열은 장치가 108개라고
# 했을 때 일하는 장치의 비율이에요.

# %% [markdown] id="split-measure" lang="en"
# Now split one step of decode, with 65,536 tokens in the cache. The answer stays; the pieces of work that can be handed out grow.
# With the one thread that we have here nothing becomes faster; merging even costs a little. **There is something to gain only
# where processors idle.** The last column says what share of 108 multiprocessors would have work.

# %% id="split-code" kind="demo"
def split_decode(q, k, v, pieces):
    parts = zip(k.chunk(pieces, dim=-2), v.chunk(pieces, dim=-2))
    return merge([attend_piece(q, *part) for part in parts])[0]


with when_solved():
    q, k, v = random_qkv(1, 65536, heads=8, seed=7)
    whole = attention(q, k, v)
    print(f"{'pieces':>6} {'error':>6} {'time':>8} {'work':>5} {'busy':>5}")
    for pieces in (1, 4, 16, 64):
        difference = (split_decode(q, k, v, pieces) - whole).abs().max()
        seconds = typical(lambda: split_decode(q, k, v, pieces), repeats=5)
        busy = min(108, 8 * pieces) / 108
        spent = f"{1e3 * seconds:5.1f} ms"
        print(f"{pieces:6} {difference:6.0e} {spent} {8 * pieces:5} {busy:5.0%}")
    read = 2 * k.numel() * 4 / bandwidth
    print(hint("decode-limit", ms=f"{1e3 * read:.1f}"))

# %% [markdown] id="real" lang="ko" reviewed="7937aab8de53"
# ## 진짜 모델에 끼워 넣기
#
# 빨라졌어도 모델의 답이 달라지면 소용없어요. 이 과목에서 함께 쓰는, 파이썬 문서로 훈련한 작은 모델 `academy_lm`에서 어텐션만 여러분의 것으로
# 바꿔 볼게요. 로짓의 차이는 얼마이고, 자리마다 고른 다음 글자는 몇 개나 같을까요?

# %% [markdown] id="real" lang="en"
# ## Into a real model
#
# Speed is of no use if the model's answers change. Take `academy_lm`, the small model of this course that was trained on Python's
# documentation, and replace only its attention with yours. How far apart are the logits, and at how many places is the next
# character the same?

# %% id="real-code" kind="demo"
def read_prompt(model, tokens, attend):
    x = model.embed(tokens, 0)
    for layer in range(model.layers):
        q, k, v = model.project(layer, x)
        x = model.finish(layer, x, attend(q, k, v, True))
    return model.logits(x)


with when_solved():
    language_model = academy_lm.load()
    text = "".join(str(each.__doc__) for each in (str.split, str.join, list.sort, dict.get))
    tokens = torch.tensor([academy_lm.encode(text)[: language_model.longest]])
    one = read_prompt(language_model, tokens, attention)
    other = read_prompt(language_model, tokens, flash_attention)
    same = (one.argmax(dim=-1) == other.argmax(dim=-1)).sum().item()
    difference = f"{(one - other).abs().max():.0e}"
    print(hint("same-answer", difference=difference, same=same, n=tokens.shape[1]))

# %% [markdown] id="triton" lang="ko" reviewed="f1e4c0130a41"
# ## 더 해 보기 (선택): GPU 커널
#
# 파이썬에서 타일마다 연산을 시키는 대신, 반복문 전체를 **커널 하나**로 만들면 점수가 GPU의 레지스터와 공유 메모리 밖으로 나가지 않아요.
# Triton은 그런 커널을 파이썬 문법으로 쓰게 해 줘요. 이 부분은 GPU가 있는 아카데미에서, 그 GPU로 기준을 맞춘 다음에만 채점돼요. 그전까지는
# 결과를 보여 주기만 해요. CPU 이미지에는 Triton이 없으니 그냥 지나가도 좋아요.
#
# `flash_kernel` 하나가 **헤드 하나의 질의 `BLOCK`개**를 맡아요. `tl.program_id(0)`은 몇 번째 묶음인지, `tl.program_id(1)`은 몇 번째 헤드인지예요.
# 모든 텐서는 빈틈없이 이어진 `(b, h, n, SIZE)`이고, `causal`은 다루지 않아요. 질의와 키의 수는 `n`으로 같아요.
#
# - `tl.load(at + 자리, mask=…, other=0.0)`과 `tl.store(at + 자리, 값, mask=…)`: `n`을 넘는 자리는 마스크로 막아요.
# - `tl.dot(a, b)`: 타일 행렬곱. `tl.trans(a)`는 전치예요. `tl.max(a, 1)`, `tl.sum(a, 1)`, `tl.exp(a)`, `tl.where(조건, a, b)`도 있어요.
# - `tl.arange(0, BLOCK)`은 `0`부터 `BLOCK - 1`까지, `tl.zeros(모양, 자료형)`과 `tl.full(모양, 값, 자료형)`은 새 타일이에요. 둘 가운데 큰 값은
#   `tl.maximum(a, b)`예요. `scale`은 점수에 곱할 수, 곧 `SIZE**-0.5`예요.
# - 상태는 `tl.float32`로 두고, `tl.dot`에 넣기 전에 가중치를 `.to(values.dtype)`로 바꿔요.
#
# `triton_attention(q, k, v, block=64)`은 출력 텐서를 만들고 `flash_kernel[격자]`로 커널을 띄워요. Triton이 설치된 곳이라면 GPU가 없어도
# 노트북을 열기 전에 환경 변수 `TRITON_INTERPRET=1`을 주고 CPU 텐서로 한 줄씩 따라가 볼 수 있어요. 그때는 아주 느리니 작은 `n`으로 해요.

# %% [markdown] id="triton" lang="en"
# ## Going further (optional): a kernel for the GPU
#
# Instead of issuing operations for each tile from Python, put the whole loop into **one kernel**: then scores never leave the GPU's
# registers and shared memory. Triton lets you write such kernels in Python's syntax. This part is graded only in an academy
# with GPUs, and until its gate has been calibrated there the figure is only reported. The CPU image has no Triton: feel free to
# skip it.
#
# One `flash_kernel` takes **`BLOCK` queries of one head**: `tl.program_id(0)` says which group of queries, `tl.program_id(1)` which
# head. All tensors are contiguous, `(b, h, n, SIZE)`; there is no `causal`, and there are `n` queries and `n` keys.
#
# - `tl.load(at + places, mask=…, other=0.0)` and `tl.store(at + places, values, mask=…)`: the mask keeps out places beyond `n`.
# - `tl.dot(a, b)`: the product of tiles; `tl.trans(a)` transposes. `tl.max(a, 1)`, `tl.sum(a, 1)`, `tl.exp(a)`,
#   `tl.where(condition, a, b)` exist, too.
# - `tl.arange(0, BLOCK)` counts from `0` to `BLOCK - 1`; `tl.zeros(shape, type)` and `tl.full(shape, value, type)` make new tiles;
#   `tl.maximum(a, b)` is the larger of two. `scale`, `SIZE**-0.5`, multiplies the scores.
# - Keep the state in `tl.float32`, and turn the weights `.to(values.dtype)` before `tl.dot`.
#
# `triton_attention(q, k, v, block=64)` makes the output and launches the kernel through `flash_kernel[grid]`. Where Triton is
# installed but no GPU is there, set the environment variable `TRITON_INTERPRET=1` before the notebook starts, and you can follow
# the kernel with CPU tensors, line by line. That is very slow; take a small `n`.

# %% id="triton-tools" kind="locked"
from types import SimpleNamespace

try:
    import triton
    import triton.language as tl
except ImportError:
    triton, tl = None, SimpleNamespace(constexpr=None)


def kernel(function):
    return triton.jit(function) if triton else function


def on_gpu(function, seed, n, repeats=50):
    generator = torch.Generator("cuda").manual_seed(seed)
    q, k, v = torch.randn(3, 1, 8, n, 64, generator=generator, device="cuda").half()
    for _ in range(repeats):
        output = function(q, k, v)
    return output[..., ::37, :].float().cpu()


def plain_on_gpu(seed, n):
    return on_gpu(attention, seed, n)


def triton_on_gpu(seed, n):
    return on_gpu(triton_attention, seed, n)

# %% id="triton-kernel" kind="solution"
@kernel
def flash_kernel(
    q_at, k_at, v_at, output_at, n, scale, SIZE: tl.constexpr, BLOCK: tl.constexpr
):
    ### BEGIN SOLUTION
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.arange(0, SIZE)
    head = tl.program_id(1) * n * SIZE
    own = head + rows[:, None] * SIZE + columns[None, :]
    queries = tl.load(q_at + own, mask=rows[:, None] < n, other=0.0)
    largest = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    mixed = tl.zeros([BLOCK, SIZE], tl.float32)
    for first in range(0, n, BLOCK):
        others = first + tl.arange(0, BLOCK)
        places = head + others[:, None] * SIZE + columns[None, :]
        keys = tl.load(k_at + places, mask=others[:, None] < n, other=0.0)
        values = tl.load(v_at + places, mask=others[:, None] < n, other=0.0)
        scores = tl.dot(queries, tl.trans(keys)) * scale
        scores = tl.where(others[None, :] < n, scores, float("-inf"))
        new = tl.maximum(largest, tl.max(scores, 1))
        shrink, weights = tl.exp(largest - new), tl.exp(scores - new[:, None])
        total = total * shrink + tl.sum(weights, 1)
        mixed = mixed * shrink[:, None] + tl.dot(weights.to(values.dtype), values)
        largest = new
    tl.store(output_at + own, mixed / total[:, None], mask=rows[:, None] < n)
    ### END SOLUTION


def triton_attention(q, k, v, block=64):
    ### BEGIN SOLUTION
    b, h, n, size = q.shape
    output = torch.empty_like(q)
    grid = (triton.cdiv(n, block), b * h)
    flash_kernel[grid](q, k, v, output, n, size**-0.5, size, block)
    return output
    ### END SOLUTION

# %% id="triton-code" kind="demo"
interpreted = os.environ.get("TRITON_INTERPRET") == "1"
if triton is None or not (torch.cuda.is_available() or interpreted):
    print(hint("no-triton"))
else:
    device = "cpu" if interpreted else "cuda"
    with when_solved():
        q, k, v = (each.to(device) for each in random_qkv(100, seed=8))
        print((triton_attention(q, k, v) - attention(q, k, v)).abs().max().item())

# %% id="test-gpu" kind="test" points=2 gpu=true
if gpu() and triton is not None:
    found, expected = submission.triton_on_gpu(1, 1000), plain_on_gpu(1, 1000)
    assert tuple(found.shape) == tuple(expected.shape), hint("flash-shape")
    assert not found.isnan().any(), hint("flash-nan")
    assert_close(found, expected, hint("gpu-value"), tolerance=5e-3)
    ### BEGIN HIDDEN TESTS
    torch.seed()
    seed = torch.initial_seed() % 1_000_000
    for n in (1, 63, 64, 65, 2048):
        found, expected = submission.triton_on_gpu(seed, n), plain_on_gpu(seed, n)
        assert_close(found, expected, hint("gpu-length", n=n), tolerance=5e-3)
    ### END HIDDEN TESTS
    reached = speedup(
        submission.triton_on_gpu,
        plain_on_gpu,
        lambda i: (torch.initial_seed() % 1_000_000 + i, 4096),
        lambda a, b: torch.allclose(a, b, atol=5e-3),
        gpu=True,
    )
    gate("gpu-flash_attention", reached, 2, hint("gpu-speed"))

# %% [markdown] id="task-money" lang="ko" reviewed="c872c1c16327"
# ## 과제 6. 돈으로 말하기 (쉬움)
#
# `prompt_won(seconds, tokens, won_per_hour)`를 완성하세요. 한 시간에 `won_per_hour`원인 서버가 토큰 `tokens`개짜리 프롬프트 하나를 `seconds`초에
# 읽을 때, 이런 프롬프트로 토큰 **백만 개**를 읽는 데 드는 돈(원)이에요. 프롬프트의 개수도 돈도 반올림하지 않아요.

# %% [markdown] id="task-money" lang="en"
# ## Task 6. Say it in money (easy)
#
# Complete `prompt_won(seconds, tokens, won_per_hour)`: a server that costs `won_per_hour` won an hour reads one prompt of `tokens`
# tokens in `seconds`. How many won do **a million** tokens in such prompts cost? Round neither the number of prompts nor the money.

# %% id="prompt-won" kind="solution"
def prompt_won(seconds, tokens, won_per_hour):
    ### BEGIN SOLUTION
    return seconds / tokens * 1_000_000 * won_per_hour / 3600
    ### END SOLUTION

# %% id="test-money" kind="test" points=1
assert abs(submission.prompt_won(1, 1000, 3600) - 1000) < 1e-6, hint("money")
### BEGIN HIDDEN TESTS
assert abs(submission.prompt_won(7.2, 4000, 2000) - 1000) < 1e-6, hint("money")
assert abs(submission.prompt_won(0.5, 32768, 0)) < 1e-9, hint("money")
assert abs(submission.prompt_won(9, 300_000, 1000) - 25 / 3) < 1e-6, hint("money-round")
### END HIDDEN TESTS

# %% [markdown] id="money" lang="ko" reviewed="e5deb0c535a0"
# 층 32개, 헤드 32개인 모델이라면 프롬프트 하나에 이 어텐션을 `32 × 32`번 해요. 위에서 헤드 2개로 잰 시간을 그만큼 늘려서, **프롬프트의 어텐션
# 부분**에 드는 값을 매겨 봐요. 서버 값 `won_per_hour`는 예로 든 숫자이니 여러분이 쓰는 서버의 값으로 바꿔 보세요. CPU 코어 하나의 값이라
# 금액 자체는 GPU와 달라요. 볼 것은 **길이에 따라 어떻게 변하는지**, 그리고 방법에 따라 몇 배가 되는지예요.

# %% [markdown] id="money" lang="en"
# A model of 32 layers and 32 heads does this attention `32 × 32` times for a prompt. Scale the times that you measured with two
# heads, and price **the attention part of a prompt**. `won_per_hour` is an example: put in that of a server you use. These are the
# prices of one CPU core, not of a GPU; look at **how they change with the length**, and by how much the methods differ.

# %% id="money-code" kind="demo"
won_per_hour = 200

with when_solved():
    prices = {**taken, "plot-limit": limit}
    for key, times in prices.items():
        print(hint(key))
        for n, seconds in zip(prompts[2:], times[2:]):
            won = prompt_won(seconds * 32 * 32 / 2, n, won_per_hour)
            print(f"  n = {n:5,}  " + hint("price", won=f"{won:10,.0f}"))

# %% [markdown] id="money-read" lang="ko" reviewed="ba41af268193"
# 길이가 두 배면 **토큰 하나의 값이** 두 배 가까이 돼요. 어텐션 시간이 제곱으로 느니까요. 평범한 어텐션이 그보다 훨씬 크게 뛰는 곳이 있다면,
# 그 길이부터는 점수 행렬이 캐시에서 넘치는 데다 단계마다 운영체제에서 새 메모리를 받아 와야 하기 때문일 거예요. 가중치를 곱하는 값은 길이와 상관없이 토큰마다
# 같아요. 층 하나에서 토큰 하나가 하는 연산은, 폭이 $w$일 때 가중치 쪽이 약 $24w^2$, 뒤를 가린 어텐션 쪽이 평균 약 $2nw$예요. 둘이 같아지는
# 길이는 $n = 12w$예요. 폭 4,096이면 약 49,000토큰이에요. 이보다 짧은 프롬프트만 받는 서비스라면 어텐션을 아무리 갈고닦아도 원가는 절반도
# 줄지 않아요. 1.6 단원에서 배운 암달의 법칙이에요.

# %% [markdown] id="money-read" lang="en"
# At twice the length **one token** costs nearly twice as much, since attention's time grows with the square. Where plain attention
# jumps by far more than that, its matrix of scores has probably outgrown the caches, and each step must get fresh memory from the
# operating system. The price of the
# weights is the same for each token, whatever the length. In one layer of width $w$, a token takes about $24w^2$ operations for the
# weights and, with later tokens hidden, on average about $2nw$ for attention. They are equal at $n = 12w$: some 49,000 tokens at a
# width of 4,096. A service with shorter prompts cannot halve its cost by attention alone, however well it is done. That is
# Amdahl's law, from unit 1.6.

# %% [markdown] id="question" lang="ko" reviewed="7d8ffca86eec"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 여러분의 회사가 두 가지 서비스를 준비해요. (가) 8만 토큰짜리 계약서를 통째로 읽고 한 문단으로 요약하는 서비스, (나) 500토큰짜리 질문에
# 500토큰으로 답하는 상담 챗봇. 모델의 폭은 4,096, 헤드 크기는 128이에요. **위에서 잰 값과 과제 1의 함수**를 근거로 6~10문장으로 답하세요.
# (1) 플래시어텐션은 두 서비스에서 각각 무엇을, 얼마나 줄이나요? 시간과 메모리를 나눠서 말하세요. (2) `block`을 64에서 128로 키우면 (가)에서
# 오가는 바이트는 몇 배가 되고, 무엇이 더 키우는 것을 막나요? (3) (나)의 디코드가 느리다면 무엇을 먼저 해 볼까요? 그 까닭은요?
#
# *채점 기준*: 두 서비스의 차이를 숫자로 설명했다(1점), 시간은 여전히 제곱이고 메모리가 선형임을 바르게 썼다(1점), `block`과 바이트의 관계와
# 캐시나 공유 메모리의 한계를 말했다(1점), 디코드에서는 점수 행렬이 문제가 아님을 알고 알맞은 방법을 골랐다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# Your company prepares two services: (a) one reads a whole contract of 80,000 tokens and sums it up in a paragraph; (b) a chatbot
# answers questions of 500 tokens in 500 tokens. The model has width 4,096 and heads of size 128. Using **what you measured above
# and the functions of task 1**, answer in 6 to 10 sentences: (1) what does FlashAttention save in each of the two, and how much?
# Treat time and memory separately. (2) With `block` 128 instead of 64, how do the bytes of (a) change, and what keeps you from making it
# larger still? (3) If decode is slow in (b), what would you try first, and why?
#
# *Rubric*: explains the difference of the two services with figures (1 point); says correctly that time stays quadratic and
# memory becomes linear (1 point); relates `block` to bytes, and names the limit set by cache or shared memory (1 point); knows
# that scores are not the problem of decode, and chooses a fitting remedy (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="71df6a364f36"
# ## 더 읽어 보기
#
# - Milakov, Gimelshein, *Online normalizer calculation for softmax* (2018): 최댓값과 분모를 한 번 훑어 함께 구하는 방법으로, 과제 2의 바탕
# - Rabe, Staats, *Self-attention Does Not Need O(n²) Memory* (2021): 점수 행렬 없이 어텐션을 계산하는 또 다른 길
# - Dao 외, *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness* (2022): 오간 바이트를 세고, 더는 줄일 수 없는 하한까지 증명한 논문
# - Dao, *FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning* (2023): 여러분이 짠 반복문의 순서
# - Dao, Haziza, Massa, Sizov, *Flash-Decoding for long-context inference* (2023): 과제 5의 split-KV
# - Liu, Zaharia, Abbeel, *Ring Attention with Blockwise Transformers for Near-Infinite Context* (2023): 같은 식으로 문맥을 여러 장치에 나누기
# - Shah 외, *FlashAttention-3: Fast and Accurate Attention with Asynchrony and Low-precision* (2024): 행렬곱과 `exp`를 겹치기

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Milakov, Gimelshein, *Online normalizer calculation for softmax* (2018): maximum and denominator in one pass, the basis of task 2
# - Rabe, Staats, *Self-attention Does Not Need O(n²) Memory* (2021): another way to attention without the matrix of scores
# - Dao et al., *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness* (2022): counts the bytes that
#   travel, and proves a lower bound for them
# - Dao, *FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning* (2023): the order of your loops
# - Dao, Haziza, Massa, Sizov, *Flash-Decoding for long-context inference* (2023): the split-KV of task 5
# - Liu, Zaharia, Abbeel, *Ring Attention with Blockwise Transformers for Near-Infinite Context* (2023): the same formula spreads a
#   context over devices
# - Shah et al., *FlashAttention-3: Fast and Accurate Attention with Asynchrony and Low-precision* (2024): products and `exp`
#   at the same time
