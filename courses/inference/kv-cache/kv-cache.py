# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="c9666a5cdeb9"
# # 4.1 KV 캐시
#
# **이 단원을 마치면** 미리 할당한 KV 캐시를 직접 만들 수 있어요. 캐시를 써도 답이 달라지지 않는다는 것을 단계마다 증명하고, 토큰
# 하나에 걸리는 시간을 물리적인 한계와 비교하고, 백만 토큰에 드는 돈으로 바꿔 말할 수 있어요.
#
# **왜 중요할까요?** 챗봇은 답을 한 글자씩, 정확히는 토큰 하나씩 만들어요. 토큰을 하나 만들 때마다 지금까지의 대화를 처음부터
# 다시 계산한다면, 대화가 길어질수록 답은 느려지고 서버비는 불어나요. KV 캐시는 오늘날 거의 모든 언어 모델 서비스가 쓰는
# 기법이고, 뒤에 나올 연속 배칭(4.4), 페이지드 KV(4.5), 추측 디코딩(4.6)이 모두 이 위에 서 있어요.
#
# **걸리는 시간** 6시간 · **먼저 알아야 할 것** 어텐션과 트랜스포머 블록, PyTorch 텐서의 모양과 인덱싱

# %% [markdown] id="title" lang="en"
# # 4.1 The KV cache
#
# **After this unit** you can build a preallocated KV cache, prove at every step that it does not change the answer, compare
# the time of a token with the physical limit, and say it as money: the price of a million tokens.
#
# **Why it matters.** A chatbot writes its answer one token at a time. If every token means computing the whole conversation
# again, answers become slower and servers dearer as the conversation grows. Practically every language model service of today keeps a
# KV cache, and what comes later stands on it: continuous batching (4.4), paged KV (4.5), speculative decoding (4.6).
#
# **Time** 6 hours · **Before you start** attention and the transformer block; shapes and indexing of PyTorch tensors

# %% id="setup" kind="locked"
import time

import matplotlib.pyplot as plt
import torch

from grading.checks import gate, hint, speedup, submission, when_solved

torch.set_num_threads(1)

# %% [markdown] id="model" lang="ko" reviewed="a7fc771303b5"
# ## 함께 쓸 모델
#
# 아래는 아주 작은 트랜스포머예요. 층 4개, 어텐션 헤드 4개, 폭 128이고 가중치는 시드를 고정한 난수예요. 말이 되는 문장을 만들지는
# 못하지만, **계산의 양과 순서는 진짜 언어 모델과 똑같아요.** 속도와 정확성을 따지는 데는 이것으로 충분해요.
#
# 모델은 네 조각으로 나뉘어 있고, 여러분은 이 조각들을 이어 붙이게 돼요. `b`는 배치(동시에 처리하는 문장의 수), `t`는 토큰의 수예요.
#
# | 조각 | 입력 | 출력 |
# |---|---|---|
# | `embed(tokens, start)` | `(b, t)` 정수, 첫 토큰의 위치 | `(b, t, width)` |
# | `project(layer, x)` | `(b, t, width)` | 질의, 키, 값. 각각 `(b, heads, t, size)` |
# | `finish(layer, x, mixed)` | `x`와 어텐션 결과 `(b, heads, t, size)` | 다음 층의 `x` |
# | `logits(x)` | `(b, t, width)` | `(b, t, vocabulary)` |
#
# `embed`는 모델이 토큰을 몇 개나 처리했는지 `model.tokens`에 세어 둬요. 시간은 잴 때마다 흔들리지만 이 숫자는 거짓말을 하지 않아요.

# %% [markdown] id="model" lang="en"
# ## The model we share
#
# Below is a very small transformer: 4 layers, 4 attention heads, width 128, with seeded random weights. It writes no sensible
# sentences, but **what it computes, and in which order, is just what a real language model does**, which is all that speed
# and correctness need.
#
# The model comes in four pieces, and you will join them. `b` is the batch (sentences processed together), `t` the number of
# tokens.
#
# | piece | takes | gives |
# |---|---|---|
# | `embed(tokens, start)` | integers `(b, t)`; position of the first token | `(b, t, width)` |
# | `project(layer, x)` | `(b, t, width)` | query, key, value, each `(b, heads, t, size)` |
# | `finish(layer, x, mixed)` | `x` and attention's result `(b, heads, t, size)` | `x` for the next layer |
# | `logits(x)` | `(b, t, width)` | `(b, t, vocabulary)` |
#
# `embed` counts in `model.tokens` how many tokens the model has processed. Times wobble; this number does not.

# %% id="model-code" kind="locked"
class Model:
    def __init__(
        self, layers=4, heads=4, width=128, vocabulary=512, longest=512, dtype=torch.float32, seed=0
    ):
        generator = torch.Generator().manual_seed(seed)

        def weights(rows, columns, scale):
            drawn = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
            return (drawn * scale).to(dtype)

        self.layers, self.heads, self.width, self.size = layers, heads, width, width // heads
        self.vocabulary, self.longest, self.dtype = vocabulary, longest, dtype
        self.token_table = weights(vocabulary, width, 1.0)
        self.position_table = weights(longest, width, 0.5)
        self.qkv = [weights(width, 3 * width, width**-0.5) for _ in range(layers)]
        self.out = [weights(width, width, width**-0.5) for _ in range(layers)]
        self.up = [weights(width, 4 * width, width**-0.5) for _ in range(layers)]
        self.down = [weights(4 * width, width, (4 * width) ** -0.5) for _ in range(layers)]
        self.head = weights(width, vocabulary, width**-0.5)
        self.tokens = 0
        self.calls = 0

    def embed(self, tokens, start):
        self.tokens += tokens.numel()
        self.calls += 1
        return self.token_table[tokens] + self.position_table[start : start + tokens.shape[1]]

    def project(self, layer, x):
        b, t, _ = x.shape
        joined = (normalise(x) @ self.qkv[layer]).view(b, t, 3, self.heads, self.size)
        return joined.permute(2, 0, 3, 1, 4).unbind(0)

    def finish(self, layer, x, mixed):
        b, _, t, _ = mixed.shape
        x = x + mixed.transpose(1, 2).reshape(b, t, self.width) @ self.out[layer]
        return x + torch.relu(normalise(x) @ self.up[layer]) @ self.down[layer]

    def logits(self, x):
        return normalise(x) @ self.head

    def weight_bytes(self):
        tables = [self.token_table, self.position_table, self.head]
        every = [*tables, *self.qkv, *self.out, *self.up, *self.down]
        return sum(weight.numel() * weight.element_size() for weight in every)


def normalise(x):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


model = Model()
print(f"{model.weight_bytes() / 1e6:.1f} MB")

# %% [markdown] id="attention" lang="ko" reviewed="dad9ed8b7559"
# ## 따라 해 보기: 어텐션이 기억하는 것
#
# 어텐션은 질의(query)마다 **앞에 나온 모든 키**(key)와 얼마나 닮았는지 점수를 매기고, 그 점수로 값(value)을 섞어요. 뒤에 나올 토큰을
# 미리 보면 안 되니, 볼 수 없는 자리는 마스크로 가려요. `mask[i, j]`가 참이면 `i`번째 질의가 `j`번째 키를 봐도 된다는 뜻이에요.
#
# 아래에서 토큰 5개를 계산한 다음, **마지막 토큰만 바꿔서** 다시 계산해 볼게요. 어느 자리의 키가 달라질까요?

# %% [markdown] id="attention" lang="en"
# ## A worked example: what attention remembers
#
# For each query, attention scores **every key so far** by how alike they are, and mixes the values by those scores. It must
# not look ahead, so a mask hides what it may not see: `mask[i, j]` is true when query `i` may look at key `j`.
#
# Below we compute five tokens, then **change only the last one** and compute again. At which positions do the keys differ?

# %% id="attention-code" kind="locked"
def attend(q, k, v, mask):
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ v


def forward(model, tokens):
    t = tokens.shape[1]
    mask = torch.ones(t, t, dtype=torch.bool).tril()
    x = model.embed(tokens, 0)
    for layer in range(model.layers):
        q, k, v = model.project(layer, x)
        x = model.finish(layer, x, attend(q, k, v, mask))
    return model.logits(x)


def keys_of_second_layer(tokens):
    mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril()
    x = model.embed(tokens, 0)
    x = model.finish(0, x, attend(*model.project(0, x), mask))
    return model.project(1, x)[1]


one = torch.tensor([[11, 22, 33, 44, 55]])
other = torch.tensor([[11, 22, 33, 44, 99]])
print(torch.ones(5, 5, dtype=torch.bool).tril().int())
print((keys_of_second_layer(one) - keys_of_second_layer(other)).abs().amax(dim=(0, 1, 3)))

# %% [markdown] id="attention-seen" lang="ko" reviewed="3ab7190f219b"
# 앞의 네 자리는 차이가 0이에요. 앞자리의 키와 값은 **뒤에 무엇이 오든 달라지지 않아요.** 뒤를 보지 못하게 가렸으니까요. 그러니 한 번
# 계산한 키와 값을 버리지 않고 두었다가, 다음 토큰에서는 새 토큰의 질의, 키, 값만 계산하면 돼요. 이것이 KV 캐시의 전부예요.
#
# 질의는 왜 남겨 두지 않을까요? 한 번 쓰고 나면 다시 쓸 일이 없기 때문이에요.

# %% [markdown] id="attention-seen" lang="en"
# The first four differences are 0. Keys and values of earlier positions **do not change, whatever comes after**, because they
# were not allowed to look ahead. So keep them, and for the next token compute only the query, key and value of that token.
# That is all a KV cache is.
#
# Why are queries not kept? Because once used, a query is never needed again.

# %% [markdown] id="predict" lang="ko" reviewed="fae0687f98ba"
# ## 먼저 예상해 보세요
#
# 캐시가 없으면 토큰 하나를 만들 때마다 앞의 모든 토큰을 다시 계산해요. 토큰 4개로 시작해서 192개를 만든다고 해 봐요.
#
# 1. 모델이 처리하는 토큰은 캐시를 쓸 때보다 **몇 배**나 많을까요?
# 2. **시간**도 그만큼 더 걸릴까요?
#
# 실행하기 전에 두 숫자를 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Without a cache, each new token means computing all earlier tokens again. Say we start from 4 tokens and write 192 more.
#
# 1. **How many times** more tokens does the model process than with a cache?
# 2. Does it take as many times more **time**?
#
# Write both numbers down before you run on. They are not graded.

# %% id="guess"
tokens_guess = 10
time_guess = 10

# %% id="naive-code" kind="locked"
def generate_without_cache(model, prompt, n):
    tokens = prompt
    for _ in range(n):
        following = forward(model, tokens)[:, -1].argmax(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, following], dim=1)
    return tokens[:, prompt.shape[1] :]


def random_prompt(seed, batch=1, length=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.vocabulary, (batch, length), generator=generator)


model.tokens = 0
began = time.perf_counter()
generate_without_cache(model, random_prompt(0), 192)
naive_tokens, naive_seconds = model.tokens, time.perf_counter() - began
print(naive_tokens, f"{naive_seconds:.2f} s")

# %% [markdown] id="task-bytes" lang="ko" reviewed="02a304089ae3"
# ## 과제 1. 캐시는 메모리를 얼마나 먹을까 (쉬움)
#
# 공짜는 없어요. 캐시는 시간을 아끼는 대신 메모리를 써요. 두 함수를 완성하세요. 둘 다 **정수**를 돌려줘야 해요.
#
# - `cache_bytes(layers, kv_heads, size, tokens, batch, number_bytes)`: 캐시 전체의 바이트 수. 층마다, 문장마다, 토큰마다, 헤드마다
#   숫자 `size`개짜리 벡터를 남겨요. 무엇과 무엇을 남기는지 잊지 마세요.
# - `most_requests(memory, weights, request_bytes)`: 메모리가 `memory`바이트인 GPU에 가중치 `weights`바이트를 올리고 나면, 한 건에
#   `request_bytes`를 쓰는 요청을 동시에 몇 건 받을 수 있을까요? 가중치도 다 못 올리면 0이에요.
#
# 층 32개, KV 헤드 8개, 헤드 크기 128인 모델이 토큰 8,192개짜리 대화 하나를 16비트로 기억하면 꼭 1 GiB예요.

# %% [markdown] id="task-bytes" lang="en"
# ## Task 1. How much memory does the cache eat (easy)
#
# Nothing is free: the cache pays for time with memory. Complete two functions; both return **integers**.
#
# - `cache_bytes(layers, kv_heads, size, tokens, batch, number_bytes)`: bytes of the whole cache. For every layer, sentence,
#   token and head, vectors of `size` numbers are kept. Do not forget which vectors.
# - `most_requests(memory, weights, request_bytes)`: a GPU has `memory` bytes and holds `weights` bytes of weights. How many
#   requests of `request_bytes` each can it serve at the same time? 0 when not even the weights fit.
#
# A model of 32 layers, 8 KV heads of size 128 needs exactly 1 GiB to remember one conversation of 8,192 tokens in 16 bits.

# %% id="cache-bytes" kind="solution"
def cache_bytes(layers, kv_heads, size, tokens, batch, number_bytes):
    ### BEGIN SOLUTION
    vectors = 2 * layers * kv_heads * tokens * batch
    return vectors * size * number_bytes
    ### END SOLUTION


def most_requests(memory, weights, request_bytes):
    ### BEGIN SOLUTION
    return max(0, memory - weights) // request_bytes
    ### END SOLUTION

# %% id="test-bytes" kind="test" points=2
assert submission.cache_bytes(1, 1, 64, 1, 1, 4) == 512, hint("bytes-small")
assert submission.cache_bytes(32, 8, 128, 8192, 1, 2) == 2**30, hint("bytes-large")
assert submission.most_requests(80 * 2**30, 16 * 2**30, 2**30) == 64, hint("requests")
### BEGIN HIDDEN TESTS
import random

for _ in range(20):
    numbers = [random.randint(1, 64) for _ in range(5)] + [random.choice([1, 2, 4, 8])]
    expected = 2
    for number in numbers:
        expected *= number
    found = submission.cache_bytes(*numbers)
    assert found == expected, hint("bytes-large")
    assert isinstance(found, int), hint("bytes-integer")
assert submission.most_requests(10, 16, 3) == 0, hint("requests-too-small")
whole = submission.most_requests(3 * 10**18 + 1, 0, 3)
assert whole == 10**18 and isinstance(whole, int), hint("requests-whole")
### END HIDDEN TESTS

# %% [markdown] id="task-cache" lang="ko" reviewed="e5cd4efad0a6"
# ## 과제 2. 미리 할당한 캐시 (보통)
#
# 가장 손쉬운 방법은 토큰이 생길 때마다 `torch.cat`으로 이어 붙이는 거예요. 하지만 그러면 매번 캐시 전체를 새 자리에 복사하게 돼요.
# 처음부터 가장 긴 길이만큼 자리를 잡아 두고, 빈자리를 앞에서부터 채우세요.
#
# `Cache(model, batch, longest)`를 완성하세요.
#
# - `keys`와 `values`: 각각 모양 `(layers, batch, heads, longest, size)`, 자료형은 `model.dtype`. 처음에 한 번만 만들어요.
# - `length`: 지금까지 채운 토큰의 수. 처음에는 0이에요.
# - `append(layer, k, v)`: 모양 `(batch, heads, t, size)`인 새 키와 값을 `length` 자리부터 써넣고, 그 층에 **지금까지 쌓인** 키와 값을
#   돌려줘요. 모양은 각각 `(batch, heads, length + t, size)`예요. 자리가 모자라면 `ValueError`를 일으켜요.
# - `append`는 `length`를 **바꾸지 않아요.** 한 토큰이 모든 층을 지난 뒤에 `advance(t)`가 한 번만 늘려요.

# %% [markdown] id="task-cache" lang="en"
# ## Task 2. A preallocated cache (medium)
#
# The easiest way is to append each new token with `torch.cat`, but that copies the whole cache to a new place every time.
# Reserve room for the longest length at the start, and fill it from the front.
#
# Complete `Cache(model, batch, longest)`:
#
# - `keys` and `values`: each of shape `(layers, batch, heads, longest, size)` and of type `model.dtype`, made once.
# - `length`: how many tokens are filled; 0 at first.
# - `append(layer, k, v)`: writes new keys and values of shape `(batch, heads, t, size)` from place `length` on, and returns
#   all keys and values that this layer has **so far**, each of shape `(batch, heads, length + t, size)`. Raises `ValueError`
#   when there is no room.
# - `append` does **not** change `length`: after a token has passed all layers, `advance(t)` does so once.

# %% id="cache" kind="solution"
class Cache:
    def __init__(self, model, batch, longest):
        ### BEGIN SOLUTION
        shape = (model.layers, batch, model.heads, longest, model.size)
        self.keys = torch.zeros(shape, dtype=model.dtype)
        self.values = torch.zeros(shape, dtype=model.dtype)
        self.length = 0
        ### END SOLUTION

    def append(self, layer, k, v):
        ### BEGIN SOLUTION
        end = self.length + k.shape[2]
        if end > self.keys.shape[3]:
            raise ValueError(f"{end} tokens do not fit into {self.keys.shape[3]}")
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]
        ### END SOLUTION

    def advance(self, t):
        ### BEGIN SOLUTION
        self.length += t
        ### END SOLUTION

# %% id="test-cache" kind="test" points=4
small = Model(layers=2, heads=2, width=8)
cache = submission.Cache(small, 1, 6)
assert tuple(cache.keys.shape) == tuple(cache.values.shape) == (2, 1, 2, 6, 4), hint("cache-shape")
assert cache.length == 0, hint("cache-length")
first_k, first_v = torch.full((1, 2, 3, 4), 1.0), torch.full((1, 2, 3, 4), 2.0)
for layer in range(2):
    k, v = cache.append(layer, first_k + 10 * layer, first_v + 10 * layer)
    assert tuple(k.shape) == tuple(v.shape) == (1, 2, 3, 4), hint("cache-so-far")
    assert torch.equal(k, first_k + 10 * layer), hint("cache-keys")
    assert torch.equal(v, first_v + 10 * layer), hint("cache-values")
assert cache.length == 0, hint("cache-advance")
cache.advance(3)
assert cache.length == 3, hint("cache-length")
### BEGIN HIDDEN TESTS
for layer in range(2):
    k, v = cache.append(layer, torch.full((1, 2, 1, 4), 5.0), torch.full((1, 2, 1, 4), 6.0))
    assert tuple(k.shape) == (1, 2, 4, 4), hint("cache-so-far")
    assert torch.equal(k[:, :, :3], first_k + 10 * layer), hint("cache-kept")
    assert torch.equal(v[:, :, :3], first_v + 10 * layer), hint("cache-kept")
    assert (k[:, :, 3] == 5).all() and (v[:, :, 3] == 6).all(), hint("cache-place")
cache.advance(1)
assert tuple(cache.keys.shape) == (2, 1, 2, 6, 4), hint("cache-grows")
assert (cache.keys[0, 0, :, 3] == 5).all(), hint("cache-preallocated")
assert (cache.values[1, 0, :, 3] == 6).all(), hint("cache-preallocated")
cache.append(0, torch.ones(1, 2, 2, 4), torch.ones(1, 2, 2, 4))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
try:
    cache.append(0, torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
except ValueError:
    refused = True
else:
    refused = False
assert refused, hint("cache-full")
double = Model(layers=1, heads=3, width=12, dtype=torch.float64)
first, second = submission.Cache(double, 4, 5), submission.Cache(double, 4, 5)
drawn = torch.randn(4, 3, 2, 4, dtype=torch.float64)
k, _ = first.append(0, drawn, drawn)
assert k.dtype == torch.float64 and torch.equal(k, drawn), hint("cache-dtype")
k, _ = second.append(0, -drawn, -drawn)
first.advance(2)
k, _ = first.append(0, drawn[:, :, :1], drawn[:, :, :1])
assert torch.equal(k[:, :, :2], drawn) and second.length == 0, hint("cache-shared")
### END HIDDEN TESTS

# %% [markdown] id="task-forward" lang="ko" reviewed="0fbc2e6c97e6"
# ## 과제 3. 캐시를 쓰는 순전파 (어려움)
#
# `forward_cached(model, tokens, cache)`를 완성하세요. 하는 일은 위의 `forward`와 같지만 **새 토큰만** 계산해요.
#
# - `tokens`: 모양 `(b, t)`. 이미 `cache.length`개의 토큰이 캐시에 있어요. `t`는 1일 수도, 여럿일 수도 있어요.
# - 돌려주는 값: 새 토큰들의 로짓, 모양 `(b, t, vocabulary)`. 끝나면 캐시의 길이가 `t`만큼 늘어 있어야 해요.
#
# 조심할 곳이 두 군데예요. 새 토큰의 **위치**는 0부터가 아니에요. 그리고 마스크는 정사각형이 아니라 `(t, length + t)`예요. 새 토큰이
# 셋이라면 첫째 토큰은 둘째와 셋째를 보면 안 돼요. 종이에 `length=2`, `t=3`인 마스크를 먼저 그려 보세요.

# %% [markdown] id="task-forward" lang="en"
# ## Task 3. The forward pass with a cache (hard)
#
# Complete `forward_cached(model, tokens, cache)`. It does what `forward` above does, but computes **only the new tokens**.
#
# - `tokens`: shape `(b, t)`; `cache.length` tokens are in the cache already. `t` may be 1 or more.
# - Returns: the logits of the new tokens, shape `(b, t, vocabulary)`. Afterwards the cache is `t` longer.
#
# Two places need care. The **position** of the new tokens does not start at 0. And the mask is no square: it is
# `(t, length + t)`. Of three new tokens, the first must not see the second and third. Draw the mask for `length=2`, `t=3` on
# paper first.

# %% id="forward-cached" kind="solution"
def forward_cached(model, tokens, cache):
    ### BEGIN SOLUTION
    past, t = cache.length, tokens.shape[1]
    mask = torch.arange(past + t)[None, :] <= past + torch.arange(t)[:, None]
    x = model.embed(tokens, past)
    for layer in range(model.layers):
        q, k, v = model.project(layer, x)
        k, v = cache.append(layer, k, v)
        x = model.finish(layer, x, attend(q, k, v, mask))
    cache.advance(t)
    return model.logits(x)
    ### END SOLUTION

# %% id="test-forward" kind="test" points=4
def assert_close(found, expected, text):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, msg=text)


exact = Model(layers=3, heads=2, width=32, longest=64, dtype=torch.float64, seed=1)
tokens = torch.tensor([[3, 1, 4, 1, 5, 9]])
expected = forward(exact, tokens)
cache = submission.Cache(exact, 1, 8)
found = submission.forward_cached(exact, tokens[:, :1], cache)
assert tuple(found.shape) == (1, 1, exact.vocabulary), hint("forward-shape")
assert cache.length == 1, hint("forward-length")
assert_close(found, expected[:, :1], hint("forward-first"))
found = submission.forward_cached(exact, tokens[:, 1:2], cache)
assert_close(found, expected[:, 1:2], hint("forward-position"))
### BEGIN HIDDEN TESTS
torch.seed()
for batch in (1, 3):
    tokens = torch.randint(0, exact.vocabulary, (batch, 24))
    expected = forward(exact, tokens)
    cache = submission.Cache(exact, batch, 24)
    for step in range(24):
        found = submission.forward_cached(exact, tokens[:, step : step + 1], cache)
        text = hint("forward-step", step=step, batch=batch)
        assert_close(found, expected[:, step : step + 1], text)
    assert cache.length == 24, hint("forward-length")
### END HIDDEN TESTS

# %% id="test-forward-several" kind="test" points=3
tokens = torch.tensor([[2, 7, 1, 8], [6, 6, 2, 6]])
cache = submission.Cache(exact, 2, 4)
found = submission.forward_cached(exact, tokens, cache)
assert_close(found, forward(exact, tokens), hint("forward-prompt"))
### BEGIN HIDDEN TESTS
tokens = torch.randint(0, exact.vocabulary, (3, 20))
expected = forward(exact, tokens)
for pieces in ([5, 1, 3, 1, 10], [1, 19], [2] * 10, [20]):
    cache, start = submission.Cache(exact, 3, 20), 0
    for t in pieces:
        found = submission.forward_cached(exact, tokens[:, start : start + t], cache)
        text = hint("forward-several", t=t, start=start)
        assert_close(found, expected[:, start : start + t], text)
        start += t
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
first, second = submission.Cache(exact, 1, 12), submission.Cache(exact, 1, 12)
a, b = torch.randint(0, exact.vocabulary, (2, 1, 12))
for start in range(0, 12, 3):
    one = submission.forward_cached(exact, a[:, start : start + 3], first)
    two = submission.forward_cached(exact, b[:, start : start + 3], second)
    assert_close(one, forward(exact, a)[:, start : start + 3], hint("forward-shared"))
    assert_close(two, forward(exact, b)[:, start : start + 3], hint("forward-shared"))
### END HIDDEN TESTS

# %% [markdown] id="task-generate" lang="ko" reviewed="87cc95127485"
# ## 과제 4. 캐시로 생성하기 (보통)
#
# `generate(model, prompt, n)`을 완성하세요. 매번 로짓이 가장 큰 토큰을 고르는 탐욕 생성이에요.
#
# - `prompt`: 모양 `(b, p)`. **한꺼번에** 캐시에 넣어요. 이 단계를 프리필(prefill)이라고 해요.
# - 그다음부터는 방금 고른 토큰 **하나씩만** 모델에 넣어요. 이 단계를 디코드(decode)라고 해요.
# - 돌려주는 값: 새로 만든 토큰, 모양 `(b, n)`. `generate_without_cache`와 같은 답이 나와야 해요.
# - 모델이 처리하는 토큰은 문장마다 정확히 `p + n - 1`개, 모델을 부르는 횟수는 `n`번이에요. 마지막에 고른 토큰은 왜 넣지 않아도 될까요?

# %% [markdown] id="task-generate" lang="en"
# ## Task 4. Generate with the cache (medium)
#
# Complete `generate(model, prompt, n)`: greedy generation, which takes the token with the largest logit each time.
#
# - `prompt`: shape `(b, p)`. It goes into the cache **all at once**; this phase is called prefill.
# - From then on, the model gets **only the one token** just chosen; this phase is called decode.
# - Returns: the new tokens, shape `(b, n)`; the same as `generate_without_cache` gives.
# - The model processes exactly `p + n - 1` tokens of each sentence, in `n` calls. Why need the last token not go in?

# %% id="generate" kind="solution"
def generate(model, prompt, n):
    ### BEGIN SOLUTION
    cache = Cache(model, prompt.shape[0], prompt.shape[1] + n)
    chosen, tokens = [], prompt
    for _ in range(n):
        tokens = forward_cached(model, tokens, cache)[:, -1].argmax(dim=-1, keepdim=True)
        chosen.append(tokens)
    return torch.cat(chosen, dim=1)
    ### END SOLUTION

# %% id="test-generate" kind="test" points=4
prompt = torch.tensor([[5, 6, 7]])
found = submission.generate(exact, prompt, 4)
assert tuple(found.shape) == (1, 4), hint("generate-shape")
assert torch.equal(found, generate_without_cache(exact, prompt, 4)), hint("generate-text")
### BEGIN HIDDEN TESTS
for batch, length, n in [(1, 1, 1), (1, 5, 30), (4, 7, 20), (2, 32, 32)]:
    prompt = torch.randint(0, exact.vocabulary, (batch, length))
    exact.tokens = exact.calls = 0
    found = submission.generate(exact, prompt, n)
    counted, calls = exact.tokens, exact.calls
    text = hint("generate-several", batch=batch, length=length, n=n)
    assert torch.equal(found, generate_without_cache(exact, prompt, n)), text
    wanted = batch * (length + n - 1)
    assert counted == wanted, hint("generate-count", counted=counted, wanted=wanted)
    assert calls == n, hint("generate-calls", calls=calls, wanted=n)
### END HIDDEN TESTS

# %% [markdown] id="measure" lang="ko" reviewed="9601e06e8185"
# ## 이제 재 봅시다
#
# 처리한 토큰의 수를 먼저 세고, 그다음에 시간을 재요. 두 비율이 얼마나 다른지, 여러분의 예상과 견주어 보세요.

# %% [markdown] id="measure" lang="en"
# ## Now measure
#
# Count the processed tokens first, then take the time. See how far apart the two ratios are, and compare them with your guess.

# %% id="measure-code" kind="demo"
def draw(i):
    return model, random_prompt(i), 192


with when_solved():
    model.tokens = 0
    generate(model, random_prompt(0), 192)
    print(hint("measured-tokens", ratio=f"{naive_tokens / model.tokens:.0f}", guess=tokens_guess))
    times = speedup(generate, generate_without_cache, draw, torch.equal, rounds=3)
    print(hint("measured-time", ratio=f"{times.ratio:.1f}", guess=time_guess))

# %% [markdown] id="measure-why" lang="ko" reviewed="94c883cd8a51"
# 토큰의 수는 거의 백분의 일로 줄었는데 시간은 그만큼 줄지 않았어요. 토큰을 **여럿 한꺼번에** 계산하면 가중치를 한 번 읽어서 여러 번
# 쓰지만, **하나씩** 계산하면 토큰 하나를 위해 가중치 전체를 읽어야 하기 때문이에요. 디코드의 속도를 정하는 것은
# 계산이 아니라 메모리예요. 이 과목의 나머지 단원은 모두 이 사실에서 출발해요.

# %% [markdown] id="measure-why" lang="en"
# The tokens fell to about a hundredth, the time by far less. Computing **many tokens at once** reads the weights once and uses
# them many times; computing them **one by one** reads all weights for a single token. Decode waits for memory, not for
# arithmetic. The rest of this course follows from that.

# %% [markdown] id="task-speed" lang="ko" reviewed="74d7e6113d39"
# ## 과제 5. 성능 기준 넘기
#
# 토큰 192개를 만들 때 `generate`가 `generate_without_cache`보다 **3배 이상** 빨라야 해요. 매번 새 입력으로, 순서를 번갈아 다섯 번 재서
# CPU 시간 비율의 중앙값을 봐요.

# %% [markdown] id="task-speed" lang="en"
# ## Task 5. The performance gate
#
# For 192 tokens, `generate` must be **at least 3 times** faster than `generate_without_cache`: the median of five ratios of CPU
# time, with fresh input each time and in alternating order.

# %% id="test-speed" kind="test" points=3
torch.seed()
seed = torch.initial_seed() % 1_000_000
reached = speedup(
    lambda _, prompt, n: submission.generate(submission.model, prompt, n),  # a model beside the student's code
    generate_without_cache,
    lambda i: (model, random_prompt(seed + i), 192),
    torch.equal,
)
gate("generate", reached, 3, hint("speed"))

# %% [markdown] id="limit" lang="ko" reviewed="820cf71e2ff3"
# ## 물리적인 한계와 비교하기
#
# 토큰 하나를 디코드하려면 적어도 가중치 전체와 지금까지의 키와 값을 한 번은 읽어야 해요. 그래서 토큰 하나의 시간은 아무리 줄여도
#
# $$\text{한계} = \frac{\text{가중치 바이트} + \text{KV 바이트}}{\text{대역폭}}$$
#
# 보다 짧아질 수 없어요. 대역폭은 남의 사양표에서 가져오지 않고 **이 컴퓨터에서** 재요. 우리 모델은 작아서 가중치가 CPU 캐시에
# 들어가니, 꼭 그만한 크기의 텐서를 읽어서 재는 것이 공정해요.

# %% [markdown] id="limit" lang="en"
# ## Against the physical limit
#
# To decode one token, all weights and the keys and values so far must be read at least once. So the time cannot be less than
#
# $$\text{limit} = \frac{\text{weight bytes} + \text{KV bytes}}{\text{bandwidth}}$$
#
# The bandwidth does not come from a data sheet: we measure it **on this machine**. Our model is small enough for its weights
# to stay in the CPU's caches, so it is fair to measure by reading a tensor of just that size.

# %% id="plot" kind="demo"
def typical(function, repeats=21):
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return sorted(times)[repeats // 2]


def seconds_of_each_step(step, repeats=3):
    runs = []
    for _ in range(repeats):
        advance, seconds = step(), []
        for _ in range(192):
            began = time.thread_time()
            advance()
            seconds.append(time.thread_time() - began)
        runs.append(seconds)
    return torch.tensor(runs).median(dim=0).values


def steps_without_cache():
    state = {"tokens": random_prompt(0)}

    def advance():
        following = forward(model, state["tokens"])[:, -1].argmax(dim=-1, keepdim=True)
        state["tokens"] = torch.cat([state["tokens"], following], dim=1)

    return advance


def steps_with_cache():
    cache = Cache(model, 1, 256)
    state = {"tokens": random_prompt(0)}

    def advance():
        logits = forward_cached(model, state["tokens"], cache)
        state["tokens"] = logits[:, -1].argmax(dim=-1, keepdim=True)

    return advance


block = torch.ones(model.weight_bytes() // 4)
bandwidth = block.numel() * 4 / typical(block.sum)
print(f"{bandwidth / 1e9:.1f} GB/s")
with when_solved():
    steps = torch.arange(1, 193)
    without = seconds_of_each_step(steps_without_cache)
    cached = seconds_of_each_step(steps_with_cache)
    token_bytes = cache_bytes(model.layers, model.heads, model.size, 1, 1, 4)
    limit = (model.weight_bytes() + token_bytes * (steps + 4)) / bandwidth
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    axes.plot(steps, 1e3 * without, label=hint("plot-without"))
    axes.plot(steps, 1e3 * cached, label=hint("plot-cached"))
    label = hint("plot-limit", bandwidth=f"{bandwidth / 1e9:.0f}")
    axes.plot(steps, 1e3 * limit, "k--", label=label)
    axes.set(xlabel=hint("plot-x"), ylabel=hint("plot-y"), yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()
    print(hint("achieved", percent=f"{100 * limit[50:].mean() / cached[50:].mean():.0f}"))

# %% [markdown] id="limit-read" lang="ko" reviewed="26ddbc6c2080"
# 캐시가 없으면 시간이 계속 늘고, 캐시가 있으면 거의 평평해요. 그런데도 한계선과는 틈이 있어요. 이렇게 작은 모델에서는 파이썬이 연산을
# 하나하나 시키는 비용이 크기 때문이에요. 모델이 커지면 이 비용은 거의 보이지 않고, 디코드 시간은 한계선에 바싹 다가가요. 4.2 단원에서
# 직접 확인해요.

# %% [markdown] id="limit-read" lang="en"
# Without the cache the time keeps growing; with it the line is almost flat. There is still a gap to the limit: for a model
# this small, Python's cost of issuing each operation is large. In a larger model that cost disappears behind the reading, and
# decode runs close to the limit. Unit 4.2 shows it.

# %% [markdown] id="loses" lang="ko" reviewed="e39526ffbc17"
# ## 캐시가 손해일 때
#
# 좋은 기법도 언제 소용없는지 알고 써야 해요. 두 가지를 재 볼게요.
#
# 1. 토큰을 몇 개만 만든다면 캐시로 얻는 것이 거의 없어요.
# 2. 프롬프트를 한꺼번에 넣지 않고 하나씩 넣으면, 캐시가 있어도 프리필이 느려져요.

# %% [markdown] id="loses" lang="en"
# ## Where the cache loses
#
# Know when a good method does not help. Let us measure two cases.
#
# 1. For only a few new tokens, the cache gains next to nothing.
# 2. A prompt that goes in token by token, not at once, makes prefill slow in spite of the cache.

# %% id="loses-code" kind="demo"
def prefill_one_by_one(model, prompt):
    cache = Cache(model, 1, prompt.shape[1])
    for i in range(prompt.shape[1]):
        logits = forward_cached(model, prompt[:, i : i + 1], cache)
    return logits[:, -1]


def prefill_at_once(model, prompt):
    return forward_cached(model, prompt, Cache(model, 1, prompt.shape[1]))[:, -1]


def same_logits(a, b):
    return torch.allclose(a, b, atol=1e-3)


with when_solved():
    for n in (1, 4, 16, 64):
        found = speedup(
            generate, generate_without_cache, lambda i: (*draw(i)[:2], n), torch.equal, rounds=3
        )
        print(f"n = {n:3}: {found}")
    found = speedup(
        prefill_at_once,
        prefill_one_by_one,
        lambda i: (model, random_prompt(i, length=128)),
        same_logits,
        rounds=3,
    )
    print(hint("prefill", ratio=f"{found.ratio:.1f}"))

# %% [markdown] id="task-money" lang="ko" reviewed="ccdd87161b22"
# ## 과제 6. 돈으로 말하기 (쉬움)
#
# 회사에서는 "5배 빨라졌어요"보다 "백만 토큰에 얼마예요"가 더 잘 통해요. `won_per_million(tokens_per_second, won_per_hour)`를 완성하세요.
# 서버를 한 시간 빌리는 값이 `won_per_hour`원이고 1초에 `tokens_per_second`개를 만들 때, 토큰 백만 개에 드는 돈(원)이에요.

# %% [markdown] id="task-money" lang="en"
# ## Task 6. Say it in money (easy)
#
# In a company, "what does a million tokens cost" is understood better than "five times faster". Complete
# `won_per_million(tokens_per_second, won_per_hour)`: a server costs `won_per_hour` won an hour and makes `tokens_per_second`
# tokens a second; how many won do a million tokens cost?

# %% id="won-per-million" kind="solution"
def won_per_million(tokens_per_second, won_per_hour):
    ### BEGIN SOLUTION
    tokens_per_hour = tokens_per_second * 3600
    return won_per_hour / tokens_per_hour * 1_000_000
    ### END SOLUTION

# %% id="test-money" kind="test" points=1
assert abs(submission.won_per_million(1000, 3600) - 1000) < 1e-6, hint("money")
### BEGIN HIDDEN TESTS
assert abs(submission.won_per_million(250, 90) - 100) < 1e-6, hint("money")
### END HIDDEN TESTS

# %% [markdown] id="money" lang="ko" reviewed="be7d0d34770d"
# 이제 여러분이 잰 속도로 값을 매겨 봐요. 서버 값 `won_per_hour`는 예로 든 숫자이니 여러분이 쓰는 서버의 값으로 바꿔 보세요. 마지막 줄은 요청
# 여덟 건을 함께 처리한 결과예요. 가중치를 한 번 읽어서 여덟 건이 나눠 쓰니 값이 더 내려가요. 4.4 단원의 예고편이에요.

# %% [markdown] id="money" lang="en"
# Now put a price on the speeds you measured. The server's `won_per_hour` is an
# example: put in that of a server you use. The last line
# serves eight requests together: the weights are read once for all eight, and the price falls further. That is a preview of
# unit 4.4.

# %% id="money-code" kind="demo"
won_per_hour = 200

with when_solved():
    for label, function, batch in [
        ("price-without", generate_without_cache, 1),
        ("price-cached", generate, 1),
        ("price-batch", generate, 8),
    ]:
        seconds = typical(lambda: function(model, random_prompt(0, batch), 192), repeats=3)
        rate = batch * 192 / seconds
        won = won_per_million(rate, won_per_hour)
        print(hint(label, rate=f"{rate:,.0f}", won=f"{won:,.0f}"))

# %% [markdown] id="question" lang="ko" reviewed="88a8bd46a8df"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 여러분의 회사가 80 GiB짜리 GPU 한 장으로, 16 GiB짜리 모델(층 32개, KV 헤드 8개, 헤드 크기 128, 16비트)을 서비스해요. 사용자의 대화는
# 토큰 1,000개에서 30,000개까지 들쭉날쭉해요. **위에서 잰 값과 과제 1의 함수**를 근거로 6~10문장으로 답하세요. (1) 가장 긴 대화에 맞춰
# 자리를 잡으면 동시에 몇 명을 받을 수 있나요? (2) 그렇게 하면 무엇이 낭비되나요? (3) 캐시를 줄이거나 낭비를 줄일 방법 두 가지와, 그
# 대가는 무엇인가요?
#
# *채점 기준*: 인원을 바르게 계산했다(1점), 실제 길이와 잡아 둔 길이의 차이를 숫자로 설명했다(1점), 서로 다른 방법 두 가지를
# 말했다(1점), 방법마다 잃는 것(정확도, 시간, 복잡함)을 짚었다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# Your company serves a model of 16 GiB (32 layers, 8 KV heads of size 128, 16 bits) on one GPU of 80 GiB. Conversations vary
# from 1,000 to 30,000 tokens. Using **what you measured above and the functions of task 1**, answer in 6 to 10 sentences:
# (1) how many users fit at once if room is reserved for the longest conversation; (2) what is wasted that way; (3) two ways
# to make the cache or the waste smaller, and what each costs.
#
# *Rubric*: computes the number of users correctly (1 point); explains with figures the gap between reserved and used length
# (1 point); names two different ways (1 point); says what each loses: accuracy, time, simplicity (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="a614b8276a93"
# ## 더 읽어 보기
#
# - Shazeer, *Fast Transformer Decoding: One Write-Head is All You Need* (2019): 디코드가 메모리를 기다린다는 사실과, KV 헤드를 줄이는 방법
# - Pope 외, *Efficiently Scaling Transformer Inference* (2022): 프리필과 디코드를 따로 다루는 까닭
# - Ainslie 외, *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints* (2023): 오늘날 모델이 KV 헤드를 몇 개만 두는 까닭
# - Kwon 외, *Efficient Memory Management for Large Language Model Serving with PagedAttention* (2023): 위 질문에 대한 한 가지 답. 4.5 단원에서 만들어 봐요.

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Shazeer, *Fast Transformer Decoding: One Write-Head is All You Need* (2019): that decode waits for memory, and fewer KV heads
# - Pope et al., *Efficiently Scaling Transformer Inference* (2022): why prefill and decode are treated apart
# - Ainslie et al., *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints* (2023): why models of
#   today have few KV heads
# - Kwon et al., *Efficient Memory Management for Large Language Model Serving with PagedAttention* (2023): one answer to the
#   question above; you build it in unit 4.5
