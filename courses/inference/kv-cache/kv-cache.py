# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="1e73820bcd18"
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
# the time of a token with the physical limit, and put it in money: the price of a million tokens.
#
# **Why it matters.** A chatbot writes its answer one token at a time. If every token means computing the whole conversation
# again, answers become slower and servers dearer as the conversation grows. Practically every language model service today
# keeps a KV cache, and what comes later stands on it: continuous batching (4.4), paged KV (4.5), speculative decoding (4.6).
#
# **Time** 6 hours · **Before you start** attention and the transformer block; shapes and indexing of PyTorch tensors

# %% id="setup" kind="locked"
import functools
import time

import matplotlib.pyplot as plt
import torch

import academy_lm
from grading.checks import gate, gpu, hint, speedup, submission, when_solved

torch.set_num_threads(1)

# %% [markdown] id="model" lang="ko" reviewed="15bddb68d233"
# ## 함께 쓸 모델
#
# 이 과목은 작은 언어 모델 하나로 끝까지 가요. 파이썬에 들어 있는 영어 문서로 우리가 직접 학습시킨 트랜스포머 `academy_lm`이에요. 토큰은
# UTF-8 **바이트** 하나라서 영어 글자 하나가 토큰 하나예요. `academy_lm.encode`는 글을 토큰으로, `decode`는 토큰을 글로 바꿔요.
#
# 모델은 네 조각으로 나뉘어 있고, 여러분은 이 조각들을 이어 붙이게 돼요. `b`는 배치(동시에 처리하는 문장의 수), `t`는 토큰의 수예요.
#
# | 조각 | 입력 | 출력 |
# |---|---|---|
# | `embed(tokens, start)` | `(b, t)` 정수, 첫 토큰의 위치 | `(b, t, width)` |
# | `project(layer, x)` | `(b, t, width)` | 질의 `(b, heads, t, size)`, 키와 값 각각 `(b, kv_heads, t, size)` |
# | `finish(layer, x, mixed)` | `x`와 어텐션 결과 `(b, heads, t, size)` | 다음 층의 `x` |
# | `logits(x)` | `(b, t, width)` | `(b, t, vocabulary)` |
#
# 요즘 모델은 질의 헤드 여럿이 키와 값 헤드 하나를 함께 써요(GQA). 그래서 `heads`와 `kv_heads`가 따로 있어요. 이 모델은 둘이 같지만, 여러분의
# 코드는 다를 때도 맞아야 해요. `embed`는 모델이 토큰을 몇 개나 처리했는지 `model.tokens`에, 몇 번 불렸는지 `model.calls`에 세어 둬요.
# 시간은 잴 때마다 흔들리지만 이 숫자는 거짓말을 하지 않아요.
#
# 로짓이 같은지 따질 때는 같은 가중치를 64비트로 올린 `exact`를 쓰고, 구석구석 시험할 때는 `academy_lm.Model(layers=2, …)`로 아주 작은 난수 모델을
# 만들어 써요. 조각의 코드가 궁금하면 빈 셀에서 `academy_lm.Model.project??`를 실행해 보세요. 조각을 다 이어 놓은 `model.forward`는 이 단원에서 **꺼 두었어요.**
# 그것을 여러분이 만들 거니까요.

# %% [markdown] id="model" lang="en"
# ## The model we share
#
# This course works on one small language model from start to end: `academy_lm`, a transformer that we trained ourselves on the
# English documentation that comes with Python. A token is a **byte** of UTF-8, so an English letter is one token.
# `academy_lm.encode` turns text into tokens and `decode` tokens into text.
#
# The model comes in four pieces, and you will join them. `b` is the batch (sentences processed together), `t` the number of
# tokens.
#
# | piece | takes | gives |
# |---|---|---|
# | `embed(tokens, start)` | integers `(b, t)`; position of the first token | `(b, t, width)` |
# | `project(layer, x)` | `(b, t, width)` | query `(b, heads, t, size)`; key and value, each `(b, kv_heads, t, size)` |
# | `finish(layer, x, mixed)` | `x` and attention's result `(b, heads, t, size)` | `x` for the next layer |
# | `logits(x)` | `(b, t, width)` | `(b, t, vocabulary)` |
#
# In today's models several query heads share one head of keys and values (GQA), which is why `heads` and `kv_heads` are two
# numbers. In this model they are equal, but your code must be right when they are not. `embed` counts in `model.tokens` how many
# tokens the model has processed, and in `model.calls` how often it was called. Times wobble; these numbers do not.
#
# To compare logits we use `exact`, the same weights in 64 bits, and to try corner cases a very small random model,
# `academy_lm.Model(layers=2, …)`. If you want to see the code of a piece, run `academy_lm.Model.project??` in an empty cell.
# `model.forward`, which joins the pieces, is **switched off** in this unit, since that is what you will write.

# %% id="model-code" kind="locked"
def switched_off(*_):
    raise AssertionError(hint("pieces"))


model = academy_lm.load()
exact = academy_lm.load(dtype=torch.float64)
model.forward = exact.forward = switched_off


def tokens_of(text):
    return torch.tensor([academy_lm.encode(text)])


print(model.layers, model.heads, model.kv_heads, model.size, model.width, model.longest)
print(f"{model.weight_bytes() / 1e6:.1f} MB")
print(tokens_of("A class"))
print(model.project(0, model.embed(tokens_of("A class"), 0))[1].shape)

# %% [markdown] id="attention" lang="ko" reviewed="5f50ae08baa2"
# ## 따라 해 보기: 어텐션이 기억하는 것
#
# 어텐션은 질의(query)마다 **앞에 나온 모든 키**(key)와 얼마나 닮았는지 점수를 매기고, 그 점수로 값(value)을 섞어요. 뒤에 나올 토큰을
# 미리 보면 안 되니, 볼 수 없는 자리는 마스크로 가려요. `mask[i, j]`가 참이면 `i`번째 질의가 `j`번째 키를 봐도 된다는 뜻이에요.
#
# 아래에서 "class" 다섯 글자를 계산한 다음, **마지막 글자만 바꿔서** "claso"를 다시 계산해 볼게요. 어느 자리의 키가 달라질까요?

# %% [markdown] id="attention" lang="en"
# ## A worked example: what attention remembers
#
# For each query, attention scores **every key so far** by how alike they are, and mixes the values by those scores. It must
# not look ahead, so a mask hides what it may not see: `mask[i, j]` is true when query `i` may look at key `j`.
#
# Below we compute the five letters of "class", then **change only the last one** and compute "claso". At which positions do the
# keys differ?

# %% id="attention-code" kind="locked"
def attend(q, k, v, mask):
    if k.shape[1] != q.shape[1]:
        sharing = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(sharing, dim=1), v.repeat_interleave(sharing, dim=1)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ v


def causal(t, device="cpu"):
    return torch.ones(t, t, dtype=torch.bool, device=device).tril()


def forward(model, tokens):
    mask = causal(tokens.shape[1], tokens.device)
    x = model.embed(tokens, 0)
    for layer in range(model.layers):
        q, k, v = model.project(layer, x)
        x = model.finish(layer, x, attend(q, k, v, mask))
    return model.logits(x)


def keys_of_second_layer(tokens):
    x = exact.embed(tokens, 0)
    x = exact.finish(0, x, attend(*exact.project(0, x), causal(tokens.shape[1])))
    return exact.project(1, x)[1]


print(causal(5).int())
apart = keys_of_second_layer(tokens_of("class")) - keys_of_second_layer(tokens_of("claso"))
print(apart.abs().amax(dim=(0, 1, 3)))

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

# %% [markdown] id="predict" lang="ko" reviewed="9d98c89bb511"
# ## 먼저 예상해 보세요
#
# 캐시가 없으면 토큰 하나를 만들 때마다 앞의 모든 토큰을 다시 계산해요. 토큰 4개("The ")로 시작해서 192개를 만든다고 해 봐요.
#
# 1. 모델이 처리하는 토큰은 캐시를 쓸 때보다 **몇 배**나 많을까요?
# 2. **시간**도 그만큼 더 걸릴까요?
#
# 실행하기 전에 두 숫자를 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Without a cache, each new token means computing all earlier tokens again. Say we start from 4 tokens ("The ") and write 192
# more.
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
    return torch.randint(ord("a"), ord("z") + 1, (batch, length), generator=generator)


model.tokens = 0
began = time.perf_counter()
written = generate_without_cache(model, tokens_of("The "), 192)
naive_tokens, naive_seconds = model.tokens, time.perf_counter() - began
print(academy_lm.decode(written[0]))
print(naive_tokens, f"{naive_seconds:.2f} s")

# %% [markdown] id="naive-seen" lang="ko" reviewed="fa71a24bd207"
# 모델이 쓴 글이에요. 파이썬 문서를 제법 흉내 내지만 뜻은 통하지 않아요. 파라미터가 백만 개도 안 되는 데다, 늘 가장 그럴듯한 글자만 고르면(탐욕
# 생성, greedy) 같은 말을 되풀이하기 쉬워요. 그래도 **계산의 양과 순서는 진짜 언어 모델과 똑같아서**, 속도와 정확성을 따지는 데는 이것으로 충분해요.

# %% [markdown] id="naive-seen" lang="en"
# This is the model's text. It mimics Python's documentation quite well and means nothing: the model has less than a million
# parameters, and always taking the likeliest letter (greedy generation) easily goes round in circles. But **what it computes, and
# in which order, is just what a real language model does**, which is all that speed and correctness need.

# %% [markdown] id="task-bytes" lang="ko" reviewed="b2c40a866de2"
# ## 과제 1. 캐시는 메모리를 얼마나 먹을까 (쉬움)
#
# 공짜는 없어요. 캐시는 시간을 아끼는 대신 메모리를 써요. 두 함수를 완성하세요. 둘 다 **정수**를 돌려줘야 해요.
#
# - `cache_bytes(layers, kv_heads, size, tokens, batch, number_bytes)`: 캐시 전체의 바이트 수. 층마다, 문장마다, 토큰마다, KV 헤드마다
#   숫자 `size`개짜리 벡터를 남겨요. 무엇과 무엇을 남기는지 잊지 마세요.
# - `most_requests(memory, weights, request_bytes)`: 메모리가 `memory`바이트인 GPU에 가중치 `weights`바이트를 올리고 나면, 한 건에
#   `request_bytes`를 쓰는 요청을 동시에 몇 건 받을 수 있을까요? 가중치도 다 못 올리면 0이에요.
#
# 층 32개, KV 헤드 8개, 헤드 크기 128인 모델이 토큰 8,192개짜리 대화 하나를 16비트로 기억하면 꼭 1 GiB예요.

# %% [markdown] id="task-bytes" lang="en"
# ## Task 1. How much memory does the cache eat (easy)
#
# Nothing is free: the cache buys time with memory. Complete two functions; both return **integers**.
#
# - `cache_bytes(layers, kv_heads, size, tokens, batch, number_bytes)`: bytes of the whole cache. For every layer, sentence,
#   token and KV head, vectors of `size` numbers are kept. Do not forget which vectors.
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
from numbers import Integral

for _ in range(20):
    factors = [random.randint(1, 64) for _ in range(5)] + [random.choice([1, 2, 4, 8])]
    expected = 2
    for factor in factors:
        expected *= factor
    found = submission.cache_bytes(*factors)
    assert found == expected, hint("bytes-large")
    assert isinstance(found, Integral), hint("bytes-integer")
found = submission.most_requests(10, 16, 3)
assert found == 0 and isinstance(found, Integral), hint("requests-too-small")
for count in range(20):
    weights, request = random.randint(1, 10**11), random.randint(2, 10**9)
    for rest in (0, request // 2, request - 1):
        found = submission.most_requests(weights + count * request + rest, weights, request)
        assert found == count and isinstance(found, Integral), hint("requests-whole")
### END HIDDEN TESTS

# %% [markdown] id="task-cache" lang="ko" reviewed="0aaa1826364f"
# ## 과제 2. 미리 할당한 캐시 (보통)
#
# 가장 손쉬운 방법은 토큰이 생길 때마다 `torch.cat`으로 이어 붙이는 거예요. 하지만 그러면 매번 캐시 전체를 새 자리에 복사하게 돼요.
# 처음부터 가장 긴 길이만큼 자리를 잡아 두고, 빈자리를 앞에서부터 채우세요.
#
# `Cache(model, batch, longest, device="cpu")`를 완성하세요.
#
# - `keys`와 `values`: 각각 모양 `(layers, batch, kv_heads, longest, size)`, 자료형은 `model.dtype`, 놓이는 장치는 `device`. 처음에 한 번만
#   만들어요.
# - `length`: 지금까지 채운 토큰의 수. 처음에는 0이에요.
# - `append(layer, k, v)`: 모양 `(batch, kv_heads, t, size)`인 새 키와 값을 `length` 자리부터 써넣고, 그 층에 **지금까지 쌓인** 키와 값을
#   돌려줘요. 모양은 각각 `(batch, kv_heads, length + t, size)`예요. 자리가 모자라면 `ValueError`를 일으켜요.
# - `append`는 `length`를 **바꾸지 않아요.** 한 토큰이 모든 층을 지난 뒤에 `advance(t)`가 한 번만 늘려요.

# %% [markdown] id="task-cache" lang="en"
# ## Task 2. A preallocated cache (medium)
#
# The easiest way is to append each new token with `torch.cat`, but that copies the whole cache to a new place every time.
# Reserve room for the longest length at the start, and fill it from the front.
#
# Complete `Cache(model, batch, longest, device="cpu")`:
#
# - `keys` and `values`: each of shape `(layers, batch, kv_heads, longest, size)`, of type `model.dtype`, on the device `device`,
#   made once.
# - `length`: how many tokens are filled; 0 at first.
# - `append(layer, k, v)`: writes new keys and values of shape `(batch, kv_heads, t, size)` from place `length` on, and returns
#   all keys and values that this layer has **so far**, each of shape `(batch, kv_heads, length + t, size)`. Raises
#   `ValueError` when there is no room.
# - `append` does **not** change `length`: after a token has passed all layers, `advance(t)` does so once.

# %% id="cache" kind="solution"
class Cache:
    def __init__(self, model, batch, longest, device="cpu"):
        ### BEGIN SOLUTION
        shape = (model.layers, batch, model.kv_heads, longest, model.size)
        self.keys = torch.zeros(shape, dtype=model.dtype, device=device)
        self.values = torch.zeros(shape, dtype=model.dtype, device=device)
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

# %% id="cache-tools" kind="locked"
def addresses(cache):
    return cache.keys.data_ptr(), cache.values.data_ptr()

# %% id="test-cache" kind="test" points=4
small = academy_lm.Model(layers=2, heads=2, width=8)
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
reserved = submission.addresses(cache)
for layer in range(2):
    k, v = cache.append(layer, torch.full((1, 2, 1, 4), 5.0), torch.full((1, 2, 1, 4), 6.0))
    assert tuple(k.shape) == (1, 2, 4, 4), hint("cache-so-far")
    assert torch.equal(k[:, :, :3], first_k + 10 * layer), hint("cache-kept")
    assert torch.equal(v[:, :, :3], first_v + 10 * layer), hint("cache-kept")
    assert (k[:, :, 3] == 5).all() and (v[:, :, 3] == 6).all(), hint("cache-place")
cache.advance(1)
assert tuple(cache.keys.shape) == (2, 1, 2, 6, 4), hint("cache-grows")
assert submission.addresses(cache) == reserved, hint("cache-moved")
assert (cache.keys[0, 0, :, 3] == 5).all(), hint("cache-preallocated")
assert (cache.values[1, 0, :, 3] == 6).all(), hint("cache-preallocated")
k, v = cache.append(0, torch.full((1, 2, 2, 4), 7.0), torch.full((1, 2, 2, 4), 8.0))
assert tuple(k.shape) == tuple(v.shape) == (1, 2, 6, 4), hint("cache-to-the-end")
assert (k[:, :, 4:] == 7).all() and (v[:, :, 4:] == 8).all(), hint("cache-to-the-end")
k, v = cache.append(0, torch.full((1, 2, 1, 4), 9.0), torch.full((1, 2, 1, 4), 3.0))
assert tuple(k.shape) == tuple(v.shape) == (1, 2, 5, 4), hint("cache-place")
assert (k[:, :, 4] == 9).all() and (v[:, :, 4] == 3).all(), hint("cache-place")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for length, t in ((4, 3), (6, 1)):
    for layer in range(2):
        try:
            cache.append(layer, torch.ones(1, 2, t, 4), torch.ones(1, 2, t, 4))
        except Exception as error:
            refused = isinstance(error, ValueError)
        else:
            refused = False
        assert refused, hint("cache-full")
    assert cache.length == length, hint("cache-advance")
    cache.advance(2)
double = academy_lm.Model(layers=1, heads=3, width=12, dtype=torch.float64)
first, second = submission.Cache(double, 4, 5), submission.Cache(double, 4, 5)
drawn = torch.randn(4, 3, 2, 4, dtype=torch.float64)
k, _ = first.append(0, drawn, drawn)
assert k.dtype == torch.float64 and torch.equal(k, drawn), hint("cache-dtype")
k, _ = second.append(0, -drawn, -drawn)
first.advance(2)
k, _ = first.append(0, drawn[:, :, :1], drawn[:, :, :1])
assert torch.equal(k[:, :, :2], drawn) and second.length == 0, hint("cache-shared")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
shared = academy_lm.Model(layers=3, heads=6, kv_heads=2, width=24)
cache = submission.Cache(shared, 2, 7)
shapes = tuple(cache.keys.shape), tuple(cache.values.shape)
assert shapes == ((3, 2, 2, 7, 4), (3, 2, 2, 7, 4)), hint("cache-kv-heads")
drawn = torch.randn(2, 4, 2, 4)
k, v = cache.append(2, drawn.transpose(1, 2), -drawn.transpose(1, 2))
assert torch.equal(k, drawn.transpose(1, 2)), hint("cache-layout")
assert torch.equal(v, -drawn.transpose(1, 2)), hint("cache-layout")
### END HIDDEN TESTS

# %% [markdown] id="task-forward" lang="ko" reviewed="d32d72da75eb"
# ## 과제 3. 캐시를 쓰는 순전파 (어려움)
#
# `forward_cached(model, tokens, cache)`를 완성하세요. 하는 일은 위의 `forward`와 같지만 **새 토큰만** 계산해요.
#
# - `tokens`: 모양 `(b, t)`. 이미 `cache.length`개의 토큰이 캐시에 있어요. `t`는 1일 수도, 여럿일 수도 있어요.
# - 돌려주는 값: 새 토큰들의 로짓, 모양 `(b, t, vocabulary)`. 끝나면 캐시의 길이가 `t`만큼 늘어 있어야 해요.
# - 새로 만드는 텐서(마스크 같은 것)는 `tokens`와 **같은 장치**에 두세요(`device=tokens.device`). 그래야 GPU에서도 그대로 돌아가요.
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
# - Make new tensors (a mask, say) **on the device of** `tokens` (`device=tokens.device`), so that all of it runs on a GPU too.
#
# Two places need care. The **position** of the new tokens does not start at 0. And the mask is not square: it is
# `(t, length + t)`. Of three new tokens, the first must not see the second and third. Draw the mask for `length=2`, `t=3` on
# paper first.

# %% id="forward-cached" kind="solution"
def forward_cached(model, tokens, cache):
    ### BEGIN SOLUTION
    past, t = cache.length, tokens.shape[1]
    places = torch.arange(past + t, device=tokens.device)
    mask = places[None, :] <= places[past:, None]
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


tokens = tokens_of("A class")
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
grouped = academy_lm.Model(layers=3, heads=4, kv_heads=2, width=32, longest=40, dtype=torch.float64)
for tested, batch, n in [(exact, 1, 24), (exact, 3, 16), (grouped, 2, 40)]:
    tokens = torch.randint(0, tested.vocabulary, (batch, n))
    expected = forward(tested, tokens)
    cache = submission.Cache(tested, batch, n)
    for step in range(n):
        found = submission.forward_cached(tested, tokens[:, step : step + 1], cache)
        text = hint("forward-step", step=step, batch=batch)
        assert_close(found, expected[:, step : step + 1], text)
    assert cache.length == n, hint("forward-length")
### END HIDDEN TESTS

# %% id="test-forward-several" kind="test" points=3
tokens = torch.cat([tokens_of("def f("), tokens_of("return")])
cache = submission.Cache(exact, 2, 6)
found = submission.forward_cached(exact, tokens, cache)
assert_close(found, forward(exact, tokens), hint("forward-prompt"))
### BEGIN HIDDEN TESTS
grouped = academy_lm.Model(layers=2, heads=4, kv_heads=1, width=32, longest=20, dtype=torch.float64)
for tested in (exact, grouped):
    tokens = torch.randint(0, tested.vocabulary, (3, 20))
    expected = forward(tested, tokens)
    for pieces in ([5, 1, 3, 1, 10], [1, 19], [2] * 10, [20]):
        cache, start = submission.Cache(tested, 3, 25), 0
        for t in pieces:
            found = submission.forward_cached(tested, tokens[:, start : start + t], cache)
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
filled = submission.Cache(exact, 1, 12)
submission.forward_cached(exact, a[:, :3], filled)
for layer in range(exact.layers):
    filled.append(layer, first.keys[layer, :, :, 3:7], first.values[layer, :, :, 3:7])
filled.advance(4)
found = submission.forward_cached(exact, a[:, 7:], filled)
assert_close(found, forward(exact, a)[:, 7:], hint("forward-shared"))
### END HIDDEN TESTS

# %% [markdown] id="task-generate" lang="ko" reviewed="7029fc0492e5"
# ## 과제 4. 캐시로 생성하기 (보통)
#
# `generate(model, prompt, n)`을 완성하세요. 매번 로짓이 가장 큰 토큰을 고르는 탐욕 생성이에요.
#
# - `prompt`: 모양 `(b, p)`. **한꺼번에** 캐시에 넣어요. 이 단계를 프리필(prefill)이라고 해요.
# - 그다음부터는 방금 고른 토큰 **하나씩만** 모델에 넣어요. 이 단계를 디코드(decode)라고 해요.
# - 돌려주는 값: 새로 만든 토큰, 모양 `(b, n)`. `generate_without_cache`와 같은 답이 나와야 해요. `n`은 1 이상이에요.
# - 모델이 처리하는 토큰은 문장마다 정확히 `p + n - 1`개, 모델을 부르는 횟수는 `n`번이에요. 마지막에 고른 토큰은 왜 넣지 않아도 될까요?
# - 캐시는 `prompt`와 같은 장치에 만들어요.

# %% [markdown] id="task-generate" lang="en"
# ## Task 4. Generate with the cache (medium)
#
# Complete `generate(model, prompt, n)`: greedy generation, which takes the token with the largest logit each time.
#
# - `prompt`: shape `(b, p)`. It goes into the cache **all at once**; this phase is called prefill.
# - From then on, the model gets **only the one token** just chosen; this phase is called decode.
# - Returns: the new tokens, shape `(b, n)`; the same as `generate_without_cache` gives. `n` is at least 1.
# - The model processes exactly `p + n - 1` tokens of each sentence, in `n` calls. Why does the last one never have to go in?
# - Make the cache on the device of `prompt`.

# %% id="generate" kind="solution"
def generate(model, prompt, n):
    ### BEGIN SOLUTION
    cache = Cache(model, prompt.shape[0], prompt.shape[1] + n, prompt.device)
    chosen, tokens = [], prompt
    for _ in range(n):
        tokens = forward_cached(model, tokens, cache)[:, -1].argmax(dim=-1, keepdim=True)
        chosen.append(tokens)
    return torch.cat(chosen, dim=1)
    ### END SOLUTION

# %% id="test-generate" kind="test" points=4
prompt = tokens_of("for x in ")
found = submission.generate(exact, prompt, 4)
assert tuple(found.shape) == (1, 4), hint("generate-shape")
assert torch.equal(found, generate_without_cache(exact, prompt, 4)), hint("generate-text")
### BEGIN HIDDEN TESTS
grouped = academy_lm.Model(layers=2, heads=4, kv_heads=2, width=32, longest=700, dtype=torch.float64)
grouped.head[:, academy_lm.END] *= 3
cases = [(1, 1, 1), (3, 1, 4), (1, 5, 30), (4, 7, 20), (2, 33, 32), (1, 64, 1), (1, 640, 3)]
for batch, length, n in cases:
    prompt = torch.randint(0, exact.vocabulary, (batch, length))
    for tested in (exact, grouped) if length < exact.longest else (grouped,):
        tested.tokens = tested.calls = 0
        found = submission.generate(tested, prompt, n)
        counted, calls = tested.tokens, tested.calls
        text = hint("generate-several", batch=batch, length=length, n=n)
        assert torch.equal(found, generate_without_cache(tested, prompt, n)), text
        wanted = batch * (length + n - 1)
        assert counted == wanted, hint("generate-count", counted=counted, wanted=wanted)
        assert calls == n, hint("generate-calls", calls=calls, wanted=n)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
prompt = torch.randint(0, exact.vocabulary, (3, 9))
found = submission.generate(submission.exact, prompt, 12)
assert torch.equal(found, generate_without_cache(exact, prompt, 12)), hint("cache-layout")
### END HIDDEN TESTS

# %% [markdown] id="measure" lang="ko" reviewed="7862d17915c5"
# ## 이제 재 봅시다
#
# 처리한 토큰의 수를 먼저 세고, 그다음에 시간을 재요. 두 비율이 얼마나 다른지, 여러분의 예상과 견주어 보세요. 글도 함께 찍어 볼게요. 위에서
# 캐시 없이 쓴 글과 한 글자도 다르지 않아야 해요.

# %% [markdown] id="measure" lang="en"
# ## Now measure
#
# Count the processed tokens first, then take the time. See how far apart the two ratios are, and compare them with your guess.
# The text is printed too: not a letter of it may differ from what was written without a cache above.

# %% id="measure-tools" kind="locked"
def with_prompt(function):
    def whole(model, prompt, n):
        return torch.cat([prompt, function(model, prompt, n)], dim=1)

    return whole


def is_greedy(model, whole, n):
    logits = forward(model, whole)[:, -n - 1 : -1]
    chosen = logits.gather(-1, whole[:, -n:, None])[..., 0]
    return bool((logits.amax(dim=-1) - chosen < 1e-3).all())


def both_greedy(n, length=4):
    def same(a, b):
        equal = a.shape == b.shape and torch.equal(a[:, :length], b[:, :length])
        return equal and (torch.equal(a, b) or is_greedy(model, a, n) and is_greedy(model, b, n))

    return same

# %% id="measure-code" kind="demo"
def draw(i):
    return model, random_prompt(i), 192


sides = with_prompt(generate), with_prompt(generate_without_cache)
with when_solved():
    model.tokens = 0
    again = generate(model, tokens_of("The "), 192)
    print(academy_lm.decode(again[0]))
    print(hint("measured-tokens", ratio=f"{naive_tokens / model.tokens:.0f}", guess=tokens_guess))
    times = speedup(*sides, draw, both_greedy(192), rounds=3)
    print(hint("measured-time", ratio=f"{times.ratio:.1f}", guess=time_guess))

# %% [markdown] id="measure-why" lang="ko" reviewed="2027f5e0bb1d"
# 토큰의 수는 거의 백분의 일로 줄었는데 시간은 그만큼 줄지 않았어요. 토큰을 **여럿 한꺼번에** 계산하면 가중치를 한 번 읽고 연산도 한 번만 시켜서
# 여러 토큰이 나눠 써요. **하나씩** 계산하면 토큰 하나를 위해 가중치 전체를 읽고 모든 연산을 다시 시켜야 해요. 큰 모델에서는 읽는 시간이, 우리
# 모델처럼 작으면 시키는 시간이 디코드의 속도를 정해요. 둘 다 아래에서 재 볼 거예요. 어느 쪽이든 **곱셈과 덧셈이 느려서가 아니라는 것**, 이 과목의
# 나머지 단원은 모두 이 사실에서 출발해요.

# %% [markdown] id="measure-why" lang="en"
# The tokens fell to about a hundredth, the time by far less. Computing **many tokens at once** reads the weights once and issues
# each operation once for all of them; computing them **one by one** reads all weights and issues every operation again for a
# single token. In a large model it is the reading that decides how fast decode is, in one as small as ours the issuing; you
# measure both below. Either way **it is not the arithmetic that is slow**, and the rest of this course follows from that.

# %% [markdown] id="task-speed" lang="ko" reviewed="91048abf99f2"
# ## 과제 5. 성능 기준 넘기
#
# 토큰 192개를 만들 때 `generate`가 `generate_without_cache`보다 **3배 이상** 빨라야 해요. 매번 새 입력으로, 순서를 번갈아 다섯 번 재서
# CPU 시간 비율의 중앙값을 봐요. 만든 글이 탐욕 생성이 맞는지도 매번 확인해요. 1등과 2등의 로짓 차이가 32비트의 반올림 오차(0.001)보다 작을 때는 어느
# 쪽을 골라도 맞는 것으로 쳐요.

# %% [markdown] id="task-speed" lang="en"
# ## Task 5. The performance gate
#
# For 192 tokens, `generate` must be **at least 3 times** faster than `generate_without_cache`: the median of five ratios of CPU
# time, with fresh input each time and in alternating order. Each text is checked to be a greedy one; where the two largest logits
# are closer than rounding in 32 bits (0.001), either choice counts as right.

# %% id="test-speed" kind="test" points=3
torch.seed()
seed = torch.initial_seed() % 1_000_000
reached = speedup(
    with_prompt(lambda _, prompt, n: submission.generate(submission.model, prompt, n)),
    with_prompt(generate_without_cache),
    lambda i: (model, random_prompt(seed + i), 192),
    both_greedy(192),
)
gate("generate", reached, 3, hint("speed"))

# %% [markdown] id="device" lang="ko" reviewed="a4b8fa9e0bdc"
# ### 어느 장치에서나 (1점)
#
# 서비스는 GPU에서 돌아요. 같은 코드가 GPU에서 돌지 않는 가장 흔한 까닭은 **텐서 하나를 CPU에 만든 것**이에요. 마스크나 캐시를 만들 때 장치를
# 적지 않으면 그렇게 돼요. GPU가 없어도 미리 잡아낼 수 있어요. PyTorch의 `meta` 장치는 **모양만 있고 값은 없는** 텐서를 만들어요. 여기에 다른
# 장치의 텐서가 섞이면 오류가 나고, 값을 파이썬 숫자로 꺼내려고(`.item()`, `if` 안의 비교) 해도 오류가 나요. GPU에서라면 그때마다 계산이 끝나기를
# 기다려야 하니, 이것도 빨리 알수록 좋아요.
#
# 아래 `on(model, device)`는 모델의 가중치를 다른 장치로 옮겨요. 여러분의 `generate`가 `meta`에서 끝까지 돌면 통과예요.

# %% [markdown] id="device" lang="en"
# ### On any device (1 point)
#
# A service runs on GPUs. The usual reason why code does not run there is **one tensor made on the CPU**: a mask or a cache for
# which no device was given. That can be caught without a GPU. PyTorch's device `meta` makes tensors that **have a shape and no
# values**. Mixing in a tensor of another device is an error there, and so is taking a value out as a Python number (`.item()`,
# a comparison in an `if`): on a GPU that would mean waiting, each time, for the computation to end: the sooner you know, the better.
#
# `on(model, device)` below moves a model's weights to another device. If your `generate` runs to its end on `meta`, you pass.

# %% id="device-code" kind="locked"
def on(model, device):
    for name in ("token_table", "position_table", "head"):
        setattr(model, name, getattr(model, name).to(device))
    for stack in (model.qkv, model.out, model.up, model.down):
        stack[:] = [weight.to(device) for weight in stack]
    return model


def error_on_meta(batch, length, n):
    nowhere = on(academy_lm.Model(layers=2, heads=4, kv_heads=2, width=32), "meta")
    prompt = torch.zeros(batch, length, dtype=torch.long, device="meta")
    try:
        made = generate(nowhere, prompt, n)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    found = made.device, tuple(made.shape), nowhere.calls
    return "" if found == (prompt.device, (batch, n), n) else f"{found}"

# %% id="test-device" kind="test" points=1
for batch, length, n in [(1, 3, 4), (2, 1, 3)]:
    error = submission.error_on_meta(batch, length, n)
    assert not error, hint("device", error=error)

# %% [markdown] id="gpu" lang="ko" reviewed="a5f13a88e66a"
# ### GPU가 있다면 (2점)
#
# GPU가 있는 서버에서는 훨씬 큰 모델로 다시 재요. 폭 2,048, 층 2개, 위치 2,048개인 난수 모델이에요(우리 모델은 GPU에는 너무 작고, 512자까지밖에
# 못 써요). 토큰 **1,024개**를 만들 때 캐시를 쓰는 쪽이 **2배 이상** 빨라야 해요. 아카데미의 GPU에서 기준을 맞춰 보기(calibration) 전까지는 결과를
# 보여 주기만 하고 점수에는 넣지 않아요. GPU가 없으면 그냥 지나가요.

# %% [markdown] id="gpu" lang="en"
# ### If there is a GPU (2 points)
#
# On a server with a GPU we measure again with a much larger model: random weights, width 2,048, 2 layers, 2,048 positions (ours
# is too small for a GPU, and ends at 512 letters). For **1,024 tokens** the cache must be **at least 2 times** faster. Until the
# gate is calibrated on the academy's GPUs, the figure is reported and not graded. Without a GPU this is left out.

# %% id="gpu-code" kind="locked"
@functools.cache
def large_model(device):
    return on(academy_lm.Model(layers=2, heads=16, width=2048, longest=2048), device)


def generate_on_gpu(prompt, n):
    return generate(large_model("cuda"), prompt.to("cuda"), n).cpu()


def without_cache_on_gpu(prompt, n):
    return generate_without_cache(large_model("cuda"), prompt.to("cuda"), n).cpu()

# %% id="test-gpu" kind="test" points=2 gpu=true
if gpu():
    torch.seed()
    seed = torch.initial_seed() % 1_000_000
    reached = speedup(
        lambda prompt, n: torch.cat([prompt, submission.generate_on_gpu(prompt, n)], dim=1),
        lambda prompt, n: torch.cat([prompt, without_cache_on_gpu(prompt, n)], dim=1),
        lambda i: (random_prompt(seed + i), 1024),
        lambda a, b: (
            a.shape == b.shape
            and torch.equal(a[:, :4], b[:, :4])
            and is_greedy(large_model("cuda"), a.to("cuda"), 1024)
        ),
        rounds=3,
        gpu=True,
    )
    gate("gpu-generate", reached, 2, hint("speed"))

# %% [markdown] id="limit" lang="ko" reviewed="cf03353ae81a"
# ## 물리적인 한계와 비교하기
#
# 토큰 하나를 디코드하려면 적어도 가중치와 지금까지의 키와 값을 한 번은 읽어야 해요. 그래서 토큰 하나의 시간은 아무리 줄여도
#
# $$\text{한계} = \frac{\text{읽는 가중치 바이트} + \text{KV 바이트}}{\text{대역폭}}$$
#
# 보다 짧아질 수 없어요. 토큰 표와 위치 표는 한 줄씩만 읽으니 빼요. 대역폭은 남의 사양표에서 가져오지 않고 **이 컴퓨터에서** 재요. 우리 모델은
# 작아서 가중치가 CPU 캐시에 들어가니, 꼭 그만한 크기의 텐서를 읽어서 재는 것이 공정해요.
#
# 점선을 하나 더 그릴게요. 층과 헤드의 수는 그대로 두고 **폭만 8로** 줄인 모델로 재면, 읽을 것도 계산할 것도 거의 없으니 남는 시간은
# 파이썬과 PyTorch가 연산을 하나하나 **시키는 비용**(오버헤드)이에요.

# %% [markdown] id="limit" lang="en"
# ## Against the physical limit
#
# To decode one token, the weights and the keys and values so far must be read at least once. So the time cannot be less than
#
# $$\text{limit} = \frac{\text{weight bytes read} + \text{KV bytes}}{\text{bandwidth}}$$
#
# Of the tables of tokens and positions only a row is read, so they are left out. The bandwidth does not come from a data sheet:
# we measure it **on this machine**. Our model is small enough for its weights to stay in the CPU's caches, so it is fair to
# measure by reading a tensor of just that size.
#
# There is one more line, dotted. A model with as many layers and heads but **a width of only 8** has next to nothing to read or
# compute, so the time that is left is what Python and PyTorch take to **issue** the operations one by one (overhead).

# %% id="plot" kind="demo"
def typical(function, repeats=21):
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return sorted(times)[repeats // 2]


def seconds_of_each_step(step, n=192, repeats=3):
    runs = []
    for _ in range(repeats):
        advance, seconds = step(), []
        for _ in range(n):
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


def steps_with_cache(model):
    cache = Cache(model, 1, 256)
    state = {"tokens": random_prompt(0)}

    def advance():
        logits = forward_cached(model, state["tokens"], cache)
        state["tokens"] = logits[:, -1].argmax(dim=-1, keepdim=True)

    return advance


def measured_bandwidth(number_of_bytes):
    block = torch.ones(number_of_bytes // 4)
    return block.numel() * 4 / typical(block.sum)


def bytes_of_a_step(model, tokens):
    tables = model.token_table.nbytes + model.position_table.nbytes
    kv = cache_bytes(model.layers, model.kv_heads, model.size, 1, 1, 4)
    return model.weight_bytes() - tables + kv * tokens


bandwidth = measured_bandwidth(model.weight_bytes())
print(f"{bandwidth / 1e9:.1f} GB/s")
with when_solved():
    steps = torch.arange(1, 193)
    without = seconds_of_each_step(steps_without_cache)
    cached = seconds_of_each_step(lambda: steps_with_cache(model))
    narrow = academy_lm.Model(width=8)
    issuing = seconds_of_each_step(lambda: steps_with_cache(narrow))
    limit = bytes_of_a_step(model, steps + 4) / bandwidth
    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    axes.plot(steps, 1e3 * without, label=hint("plot-without"))
    axes.plot(steps, 1e3 * cached, label=hint("plot-cached"))
    axes.plot(steps, 1e3 * issuing, ":", color="tab:gray", label=hint("plot-issuing"))
    label = hint("plot-limit", bandwidth=f"{bandwidth / 1e9:.0f}")
    axes.plot(steps, 1e3 * limit, "k--", label=label)
    axes.set(xlabel=hint("plot-x"), ylabel=hint("plot-y"), yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(loc="center", bbox_to_anchor=(0.5, 0.3), ncols=2)
    axes.grid(alpha=0.3)
    plt.show()
    print(hint("achieved", percent=f"{100 * limit[50:].mean() / cached[50:].mean():.0f}"))
    print(hint("issuing", percent=f"{100 * issuing[50:].mean() / cached[50:].mean():.0f}"))

# %% [markdown] id="limit-read" lang="ko" reviewed="d661e6b68f98"
# 캐시가 없으면 시간이 계속 늘고, 캐시가 있으면 거의 평평해요. 그런데도 한계선과는 틈이 있어요. 점선을 보세요. 이렇게 작은 모델에서는
# 연산을 시키는 비용이 읽는 시간보다 훨씬 커요. 그렇다면 모델이 커지면 어떻게 될까요? 폭을 여섯 배인 768로 늘려 재 볼게요. 가중치가 CPU
# 캐시를 넘치니 대역폭도 그 크기로 다시 재요.

# %% [markdown] id="limit-read" lang="en"
# Without the cache the time keeps growing; with it the line is almost flat. There is still a gap to the limit. Look at the dotted
# line: for a model this small, issuing the operations costs far more than reading. What then of a larger model? Let us take six times
# the width, 768. Its weights are too large for the CPU's caches, so the bandwidth is measured again at that size.

# %% id="wide-code" kind="demo"
with when_solved():
    wide = academy_lm.Model(heads=12, width=768, longest=64)
    wide_bandwidth = measured_bandwidth(wide.weight_bytes())
    seconds = seconds_of_each_step(lambda: steps_with_cache(wide), n=30, repeats=2)
    wide_limit = bytes_of_a_step(wide, torch.arange(1, 31) + 4) / wide_bandwidth
    print(f"{wide.weight_bytes() / 1e6:.0f} MB, {wide_bandwidth / 1e9:.1f} GB/s")
    print(hint("achieved", percent=f"{100 * wide_limit.mean() / seconds.mean():.0f}"))
    del wide

# %% [markdown] id="limit-wide" lang="ko" reviewed="de8c0123236e"
# 큰 모델에서는 시키는 비용이 읽는 시간 뒤로 숨고, 디코드 시간은 한계에 훨씬 가까워져요. 진짜 서비스의 모델은 이보다도 훨씬 크니, 요청 한 건의
# 디코드를 더 빠르게 하려면 무엇보다 **읽는 바이트를 줄여야** 해요. 그 이야기가 4.2 단원이에요.

# %% [markdown] id="limit-wide" lang="en"
# In a larger model the issuing hides behind the reading, and decode comes much closer to the limit. Models in real services are
# larger still, so what makes the decode of one request faster is, above all, **reading fewer bytes**. That is the story of
# unit 4.2.

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
    return torch.allclose(a, b, atol=1e-2)


with when_solved():
    for n in (1, 4, 16, 64):
        found = speedup(*sides, lambda i: (*draw(i)[:2], n), both_greedy(n), rounds=3)
        print(f"n = {n:3}: {found}")
    found = speedup(
        prefill_at_once,
        prefill_one_by_one,
        lambda i: (model, random_prompt(i, length=128)),
        same_logits,
        rounds=3,
    )
    print(hint("prefill", ratio=f"{found.ratio:.1f}"))

# %% [markdown] id="task-money" lang="ko" reviewed="5b18e6b3c9c5"
# ## 과제 6. 돈으로 말하기 (쉬움)
#
# 회사에서는 "5배 빨라졌어요"보다 "백만 토큰에 얼마예요"가 더 잘 통해요. `won_per_million(tokens_per_second, won_per_hour)`를 완성하세요.
# 서버를 한 시간 빌리는 값이 `won_per_hour`원이고 1초에 `tokens_per_second`개를 만들 때, 토큰 백만 개에 드는 돈(원)이에요. 반올림하지는 마세요.

# %% [markdown] id="task-money" lang="en"
# ## Task 6. Say it in money (easy)
#
# In a company, "what does a million tokens cost" is understood better than "five times faster". Complete
# `won_per_million(tokens_per_second, won_per_hour)`: a server costs `won_per_hour` won an hour and makes `tokens_per_second`
# tokens a second; how many won do a million tokens cost? Do not round.

# %% id="won-per-million" kind="solution"
def won_per_million(tokens_per_second, won_per_hour):
    ### BEGIN SOLUTION
    tokens_per_hour = tokens_per_second * 3600
    return won_per_hour / tokens_per_hour * 1_000_000
    ### END SOLUTION

# %% id="test-money" kind="test" points=1
assert abs(submission.won_per_million(1000, 3600) - 1000) < 1e-6, hint("money")
### BEGIN HIDDEN TESTS
import random

for _ in range(10):
    rate, won = random.uniform(1, 5000), random.uniform(10, 9000)
    expected = won / rate / 0.0036
    assert abs(submission.won_per_million(rate, won) - expected) < 1e-6 * expected, hint("money")
### END HIDDEN TESTS

# %% [markdown] id="money" lang="ko" reviewed="6df9b7a35988"
# 이제 여러분이 잰 속도로 값을 매겨 봐요. 서버 값 `won_per_hour`는 예로 든 숫자이니 여러분이 쓰는 서버의 값으로 바꿔 보세요. 셋째 줄은 요청
# 여덟 건을 함께 처리한 결과예요. 가중치를 한 번 읽고 연산도 한 번만 시켜서 여덟 건이 나눠 쓰니 값이 더 내려가요. 4.4 단원의 예고편이에요.
# 마지막 줄은 한 건씩 처리하면서 위의 한계(토큰 100개가 쌓였을 때)에 꼭 닿았을 때의 값이에요. 한 건씩 처리해서는 이보다 싸게 만들 수 없어요.

# %% [markdown] id="money" lang="en"
# Now put a price on the speeds you measured. The server's `won_per_hour` is an example: put in that of a server you use.
# The third line serves eight requests together: the weights are read, and the operations issued, once for all eight, and the
# price falls further. That is a preview of unit 4.4. The last line is the price of one request at a time exactly at the limit above (with 100 tokens in the
# cache); one at a time cannot be cheaper.

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
    rate = bandwidth / bytes_of_a_step(model, 100)
    won = won_per_million(rate, won_per_hour)
    print(hint("price-limit", rate=f"{rate:,.0f}", won=f"{won:,.0f}"))

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

# %% [markdown] id="further" lang="ko" reviewed="48ee527e3903"
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
# - Ainslie et al., *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints* (2023): why
#   today's models have few KV heads
# - Kwon et al., *Efficient Memory Management for Large Language Model Serving with PagedAttention* (2023): one answer to the
#   question above; you build it in unit 4.5
