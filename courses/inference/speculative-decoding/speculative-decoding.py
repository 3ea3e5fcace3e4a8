# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="0a79e003de89"
# # 4.6 추측 디코딩
#
# **이 단원을 마치면** 작은 모델이 토큰 몇 개를 미리 써 보고 큰 모델이 한 번에 검사하는 추측 디코딩을 처음부터 끝까지 직접 만들 수
# 있어요. 결과가 큰 모델 혼자 쓴 것과 **토큰으로도 확률로도** 다르지 않다는 것을 시험하고, 몇 개씩 추측할지 고르고, 언제 손해인지를
# 재서 돈으로 말할 수 있어요.
#
# **왜 중요할까요?** 4.1에서 보았듯이 디코드는 계산이 아니라 메모리를 기다려요. 토큰 하나를 위해 가중치 전체를 읽지요. 4.4의 연속 배칭은
# 그 한 번의 읽기를 **여러 사람**이 나눠 쓰게 했어요. 그런데 손님이 한 사람뿐이라면? 추측 디코딩은 그 한 번의 읽기를 **한 사람의 앞으로
# 나올 토큰 여러 개**가 나눠 쓰게 해요. 품질을 조금도 잃지 않고 답이 빨라지는, 드문 기법이에요. 다만 공짜는 아니라서 켜 두면 오히려 느려지는
# 때가 있고, 그때를 아는 것이 이 단원의 절반이에요.
#
# **걸리는 시간** 7시간 · **먼저 알아야 할 것** KV 캐시, 프리필과 디코드(4.1), 확률분포와 조건부 확률

# %% [markdown] id="title" lang="en"
# # 4.6 Speculative decoding
#
# **After this unit** you can build speculative decoding from end to end: a small model writes a few tokens ahead and the large
# one checks them all at once. You test that the result differs from the large model's own **in no token and in no
# probability**, choose how far to guess ahead, measure when it loses, and say it as money.
#
# **Why it matters.** As 4.1 showed, decode waits for memory and not for arithmetic: all the weights are read for one token.
# Continuous batching (4.4) lets **several people** share one reading. But what if there is only one? Speculative decoding lets
# **several tokens to come of that one person** share it. It is one of the few methods that make answers faster and lose no quality at
# all. It is not free, though: there are times when it slows a service down, and knowing them is half of this unit.
#
# **Time** 7 hours · **Before you start** the KV cache, prefill and decode (4.1); distributions and conditional probability

# %% id="setup" kind="locked"
import random
import time
from functools import cache

import matplotlib.pyplot as plt
import torch

import academy_lm
from academy_lm.model import attend
from grading.checks import gate, gpu, hint, speedup, submission, when_solved

torch.set_num_threads(1)

# %% [markdown] id="models" lang="ko" reviewed="ffa692bdbfeb"
# ## 큰 모델과 초안 모델
#
# `academy_lm`에는 같은 글로 배운 모델이 둘 있어요. 토큰 하나는 UTF-8 바이트 하나예요. 검사하는 쪽을 **타깃**(target), 미리 써 보는 작은 쪽을
# **초안 모델**(draft)이라고 불러요. 둘은 같은 토큰을 써야 해요. `exact`로 시작하는 것은 같은 모델을 64비트로 읽은 것이에요. 32비트에서는
# 토큰을 하나씩 넣을 때와 여럿 넣을 때 덧셈 순서가 달라서 끝자리가 달라지고, 1등과 2등이 거의 비긴 자리에서 드물게 다른 토큰이 뽑혀요. 답이
# 같은지 따질 때는 64비트를 써요.

# %% [markdown] id="models" lang="en"
# ## A large model and a draft model
#
# `academy_lm` has two models that learnt from the same text; a token is one byte of UTF-8. The one that checks is the **target**,
# the small one that writes ahead is the **draft** model. They must use the same tokens. Those called `exact…` are the same models
# in 64 bits. In 32 bits, one token at a time and several at once are added up in different orders, the last digits differ,
# and where first and second are nearly tied, now and then another token wins. Where we ask whether answers agree, we use 64.

# %% id="models-code" kind="locked"
target_model, draft_model = academy_lm.load(), academy_lm.load("draft")
exact, exact_draft = academy_lm.load(dtype=torch.float64), academy_lm.load("draft", torch.float64)
BEGINNINGS = [
    "The value of ", "A class ", "If the ", "When an object ", "Changed in version ",
    "This is ", "Note that ", "The following ", "An expression ", "Calls to ",
]  # fmt: skip


def encoded(seed):
    drawn = random.Random(seed)
    return academy_lm.encode(drawn.choice(BEGINNINGS) + drawn.choice("abcdefghilmnoprstuvw"))


for name, model in [("target", target_model), ("draft", draft_model)]:
    megabytes = model.weight_bytes() / 1e6
    print(f"{name:6}  {model.layers} layers, width {model.width:3}, {megabytes:.2f} MB")

# %% [markdown] id="session" lang="ko" reviewed="d14cdb497cb9"
# ## 되감을 수 있는 세션
#
# `Session(model)`은 글 하나를 읽고 있는 모델이에요. 4.1의 미리 할당한 KV 캐시가 안에 들어 있어요.
#
# | 하는 일 | 뜻 | 돌려주는 값 |
# |---|---|---|
# | `length` | 지금까지 읽은 토큰의 수 (읽기만 할 수 있어요) | 정수 |
# | `feed(tokens)` | 정수 리스트를 **한 번의 호출로** 이어서 읽음 | 로짓 `(len(tokens), vocabulary)` |
# | `rollback(length)` | 앞의 `length`개만 읽은 상태로 되감음 | 없음 |
#
# `feed`가 돌려준 `i`번째 줄은 `tokens[i]` **다음에 올** 토큰의 로짓이에요. 세션은 `calls`에 호출 횟수를, `fed`에 읽은 토큰의 수를 세어 둬요. 채점에 쓰는
# 세션에는 새 속성을 붙일 수 없어요.
#
# `Toy(table)`는 모델 없이 같은 규칙을 따르는 장난감이에요. 지금까지 읽은 글에 따라 `table`의 한 줄을 골라 로짓으로 내놔요. 어휘가 몇 개뿐이고
# 아주 빨라서, 같은 실험을 수천 번 되풀이할 때 써요.

# %% [markdown] id="session" lang="en"
# ## Sessions that can be rolled back
#
# `Session(model)` is a model in the middle of reading one text, with the preallocated KV cache of 4.1 inside.
#
# | what it has | meaning | returns |
# |---|---|---|
# | `length` | how many tokens it has read (to look at only) | an integer |
# | `feed(tokens)` | reads on: a list of integers, **in one call** | logits `(len(tokens), vocabulary)` |
# | `rollback(length)` | goes back to where only the first `length` were read | nothing |
#
# Row `i` of what `feed` returns holds the logits of the token that comes **after** `tokens[i]`. A session counts its calls in
# `calls` and the tokens it was given in `fed`. In grading, no new attributes can be set on a session.
#
# `Toy(table)` is a toy with the same rules and no model: depending on all it has read, it picks a row of `table` as its logits.
# With a vocabulary of a few tokens and hardly any work to do, it serves where an experiment is repeated thousands of times.

# %% id="session-code" kind="locked"
class Reader:
    def __init__(self):
        self._length = self.calls = self.fed = 0

    @property
    def length(self):
        return self._length

    def feed(self, tokens):
        tokens = [int(token) for token in tokens]
        if not tokens:
            raise ValueError(hint("feed-nothing"))
        logits = self._read(tokens)
        self._length += len(tokens)
        self.fed += len(tokens)
        self.calls += 1
        return logits

    def rollback(self, length):
        if not 0 <= length <= self._length:
            raise ValueError(hint("rollback-range", length=length, now=self._length))
        self._length = int(length)


class Session(Reader):
    def __init__(self, model, batch=1):
        super().__init__()
        self._model, self._batch, self._device = model, batch, model.head.device
        shape = (model.layers, batch, model.kv_heads, model.longest, model.size)
        self._keys = torch.zeros(shape, dtype=model.dtype, device=self._device)
        self._values = torch.zeros_like(self._keys)

    def _read(self, tokens):
        model, start, end = self._model, self._length, self._length + len(tokens)
        if end > model.longest:
            raise ValueError(hint("feed-long", longest=model.longest))
        at = torch.arange(end, device=self._device)
        mask = at[None, :] <= at[start:, None]
        x = model.embed(torch.tensor([tokens] * self._batch, device=self._device), start)
        for layer in range(model.layers):
            q, k, v = model.project(layer, x)
            self._keys[layer, :, :, start:end] = k
            self._values[layer, :, :, start:end] = v
            keys, values = self._keys[layer, :, :, :end], self._values[layer, :, :, :end]
            x = model.finish(layer, x, attend(q, keys, values, mask))
        return model.logits(x)[0].cpu()


class Toy(Reader):
    def __init__(self, table):
        super().__init__()
        self._table, self._sums = table, [7]

    def _read(self, tokens):
        del self._sums[self._length + 1 :]
        for token in tokens:
            self._sums.append((31 * self._sums[-1] + token + 1) % 65521)
        return self._table[[row % len(self._table) for row in self._sums[-len(tokens) :]]]

# %% [markdown] id="rollback" lang="ko" reviewed="10624dccda76"
# ### 따라 해 보기: 되감기는 얼마나 비쌀까
#
# 추측이 빗나가면 이미 캐시에 들어간 토큰을 물려야 해요. 아래에서는 같은 글을 곧장 읽은 세션과, **엉뚱한 토큰 40개를 읽었다가 되감은**
# 세션을 견줘요.

# %% [markdown] id="rollback" lang="en"
# ### A worked example: what does rolling back cost
#
# When a guess was wrong, tokens that are in the cache already have to go. Below, one session reads a text straight through, and
# another **reads 40 other tokens first and rolls back**.

# %% id="rollback-code"
text = academy_lm.encode("An expression is a piece of syntax")
straight, detour = Session(exact), Session(exact)
straight.feed(text[:20])
detour.feed(text[:20])
detour.feed(academy_lm.encode("zebra! " * 6)[:40])
began = time.perf_counter()
for _ in range(1000):
    detour.rollback(20)
print(f"rollback {1e3 * (time.perf_counter() - began):.2f} us, length {detour.length}")
print((straight.feed(text[20:]) - detour.feed(text[20:])).abs().max().item())

# %% [markdown] id="rollback-seen" lang="ko" reviewed="312f49339371"
# 되감기는 숫자 하나를 줄이는 일이라 거의 공짜예요. 물린 키와 값은 캐시에 그대로 남지만, `length` 뒤에 있는 것은 아무도 보지 않고 다음
# `feed`가 덮어써요. 미리 할당한 캐시라서 가능한 일이에요.

# %% [markdown] id="rollback-seen" lang="en"
# Rolling back lowers one number, so it is nearly free. The keys and values that were taken back still lie in the cache, but
# nothing looks beyond `length`, and the next `feed` overwrites them. A preallocated cache makes this possible.

# %% [markdown] id="idea" lang="ko" reviewed="43063d5bf269"
# ## 한 번에 여럿을 읽는 비용
#
# 추측 디코딩이 기대는 사실은 하나예요. **토큰 여러 개를 한 번에 읽는 비용이 하나를 읽는 비용과 별로 다르지 않다**는 것이에요. 가중치를 어차피 한 번은
# 다 읽어야 하니까요. 정말 그런지 이 컴퓨터에서 재 볼게요. 앞에 토큰 64개가 있을 때 `t`개를 한 번에 읽는 시간이에요.

# %% [markdown] id="idea" lang="en"
# ## What reading several at once costs
#
# Speculative decoding rests on one fact: **to read several tokens at once costs little more than to read one**, since all the
# weights must be read once anyway. Let us see whether that holds on this machine: the time to read `t` tokens in one call,
# with 64 before them.

# %% id="timing-code" kind="locked"
def typical(function, repeats=21):
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return sorted(times)[repeats // 2]


def call_seconds(model, sizes, batch=1, context=64, repeats=15):
    session, times = Session(model, batch), {t: [] for t in sizes}
    session.feed([97] * context)
    for _ in range(repeats):
        for t in sizes:
            began = time.thread_time()
            session.feed([98] * t)
            times[t].append(time.thread_time() - began)
            session.rollback(context)
    return [sorted(times[t])[repeats // 2] for t in sizes]

# %% id="idea-code" kind="demo"
sizes = [1, 2, 3, 5, 9, 17]
for name, model in [("target", target_model), ("draft", draft_model)]:
    measured = call_seconds(model, sizes)
    for t, seconds in zip(sizes, measured):
        times = f"{seconds / measured[0]:.2f}"
        print(
            hint("idea-line", name=f"{name:6}", t=f"{t:2}", ms=f"{1e3 * seconds:.2f}", times=times)
        )

# %% [markdown] id="idea-seen" lang="ko" reviewed="38a63896e3ae"
# 토큰을 다섯 배로 늘려도 시간은 다섯 배가 되지 않아요. 그러니 큰 모델에게 "다음 토큰이 뭐야?" 하고 다섯 번 묻는 대신, 작은 모델이 쓴 네 토큰을
# 내밀며 **"이대로 맞아?" 하고 한 번** 묻는 거예요. 작은 모델의 시간도 공짜는 아니라는 것도 눈여겨보세요.

# %% [markdown] id="idea-seen" lang="en"
# Five times the tokens do not take five times as long. So instead of asking the large model "what comes next?" five times, show
# it four tokens that the small one wrote and ask **"is this right?" once**. Note that the small model's time is not nothing, either.

# %% [markdown] id="helpers" lang="ko" reviewed="7e81852c7fa1"
# ## 따라 해 보기: 한 라운드
#
# 먼저 함께 쓸 도구예요. `distribution(logits, temperature)`는 로짓을 확률로 바꿔요. 온도가 0이면 가장 큰 로짓에 확률 1을 줘요. 탐욕 생성은 온도가
# 0인 샘플링인 셈이에요. `choose(p)`는 분포에서 토큰 하나를 뽑고, `alone`은 세션 하나로 혼자 글을 써요.
#
# 이어서 초안 모델이 토큰 여섯 개를 쓰고, 타깃이 그것을 한 번에 읽어요. 왼쪽은 초안의 토큰, 오른쪽은 **같은 자리에서 타깃이라면 골랐을** 토큰이에요.
# 어디까지 믿어도 될까요?

# %% [markdown] id="helpers" lang="en"
# ## A worked example: one round
#
# First the tools that we share. `distribution(logits, temperature)` turns logits into probabilities; at temperature 0 all the
# probability goes to the largest, so greedy generation is sampling at temperature 0. `choose(p)` draws a token from a
# distribution, and `alone` writes with one session by itself.
#
# Then the draft model writes six tokens and the target reads them in one call. On the left is the draft's token, on the right what
# **the target would have chosen in that place**. How far can you trust it?

# %% id="helpers-code" kind="locked"
def distribution(logits, temperature):
    if temperature == 0:
        chosen = logits.argmax(dim=-1)
        return torch.nn.functional.one_hot(chosen, logits.shape[-1]).to(logits.dtype)
    return (logits / temperature).softmax(dim=-1)


def choose(p):
    return int(torch.multinomial(p, 1))


def alone(session, prompt, n, temperature=0.0):
    tokens = list(prompt)
    for _ in range(n):
        logits = session.feed(tokens[session.length :])[-1]
        tokens.append(choose(distribution(logits, temperature)))
    return tokens[len(prompt) :]

# %% id="round-code"
prompt = academy_lm.encode("The value of the ")
target = Session(exact)
proposed = alone(Session(exact_draft), prompt, 6)
logits = target.feed(prompt + proposed)[-7:]
own = logits.argmax(dim=-1).tolist()
print(tuple(logits.shape), target.calls)
for place in range(7):
    left = repr(chr(proposed[place])) if place < 6 else "-"
    print(f"{place}  {left:>5}  {chr(own[place])!r:>5}")

# %% [markdown] id="round-seen" lang="ko" reviewed="07dcdebbd43b"
# 위에서부터 내려오며 두 칸이 같은 동안은 타깃이 혼자 썼어도 똑같이 썼을 토큰이에요. **처음으로 다른 자리에서는 타깃의 것을 써요.** 그 아래는 모두
# 버려요. 둘이 우연히 같더라도요. 틀린 토큰을 읽은 뒤에 나온 것이니까요. 여섯 개가 모두 같다면? 그때도 마지막 줄에 타깃이 고른 토큰이 하나 더 있어요.
# 그래서 한 라운드에 **적어도 하나, 많으면 일곱** 토큰이 생겨요.

# %% [markdown] id="round-seen" lang="en"
# From the top, as long as both columns agree, these are the tokens that the target would have written by itself. **Where they
# first differ, take the target's.** Everything below is thrown away, even where the two agree by chance, because it was said after
# a wrong token. And if all six agree? Then the last row still has one more token of the target's. So a round gives **at least one
# token and at most seven**.

# %% [markdown] id="predict" lang="ko" reviewed="942f67d1eb08"
# ## 먼저 예상해 보세요
#
# 초안 모델의 가중치는 타깃의 8분의 1이고, 한 번에 4개씩 추측한다고 해 봐요.
#
# 1. 초안이 쓴 토큰 가운데 타깃의 선택과 같은 것은 **몇 퍼센트**일까요?
# 2. 타깃 혼자 쓸 때보다 **몇 배** 빨라질까요?
#
# 실행하기 전에 두 숫자를 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# The draft model has an eighth of the target's weights. Say it guesses 4 tokens ahead.
#
# 1. **What percentage** of the draft's tokens are those that the target would have chosen?
# 2. **How many times** faster is it than the target alone?
#
# Write both numbers down before you run on. They are not graded.

# %% id="guess"
accepted_guess = 50
speed_guess = 4

# %% [markdown] id="task-greedy" lang="ko" reviewed="3e7f611d7196"
# ## 과제 1. 탐욕 검증 (쉬움)
#
# `verify_greedy(proposed, logits)`를 완성하세요.
#
# - `proposed`: 초안이 제안한 토큰 `g`개의 리스트. 비어 있을 수도 있어요.
# - `logits`: 모양 `(g + 1, vocabulary)`. `i`번째 줄은 `proposed[i]`가 **놓일 자리**에 대한 타깃의 로짓이에요. 마지막 줄은 제안이 모두 맞았을
#   때 그다음 자리예요.
# - 돌려주는 값: 이번 라운드에 얻은 토큰의 리스트. 처음 어긋나기 전까지의 제안에 타깃의 토큰 하나를 더한 것이니 길이는 1부터 `g + 1`까지예요.

# %% [markdown] id="task-greedy" lang="en"
# ## Task 1. Verify greedily (easy)
#
# Complete `verify_greedy(proposed, logits)`.
#
# - `proposed`: a list of the `g` tokens that the draft proposes. It may be empty.
# - `logits`: shape `(g + 1, vocabulary)`. Row `i` is the target's logits for the place **where `proposed[i]` would stand**; the last
#   row is for the place after all of them.
# - Returns: the list of tokens that this round gained: the proposals before the first disagreement, and one token of the
#   target's; 1 to `g + 1` tokens.

# %% id="verify-greedy" kind="solution"
def verify_greedy(proposed, logits):
    ### BEGIN SOLUTION
    own = logits.argmax(dim=-1).tolist()
    accepted = 0
    while accepted < len(proposed) and proposed[accepted] == own[accepted]:
        accepted += 1
    return own[: accepted + 1]
    ### END SOLUTION

# %% id="test-greedy" kind="test" points=2
def plain(tokens):
    return [int(token) for token in tokens]


def rows(tokens, vocabulary=6, dtype=torch.float64):
    logits = torch.rand(len(tokens), vocabulary, dtype=dtype)
    logits[range(len(tokens)), tokens] = 2
    return logits


torch.seed()
found = submission.verify_greedy([1, 2, 3], rows([1, 2, 5, 4]))
assert plain(found) == [1, 2, 5], hint("greedy-first")
found = submission.verify_greedy([1, 2, 3], rows([1, 2, 3, 4]))
assert plain(found) == [1, 2, 3, 4], hint("greedy-bonus")
found = submission.verify_greedy([0, 2, 3], rows([1, 2, 3, 4]))
assert plain(found) == [1], hint("greedy-after")
### BEGIN HIDDEN TESTS
for _ in range(40):
    g, vocabulary = random.randint(0, 7), random.choice([6, 300])
    own = [random.randrange(vocabulary) for _ in range(g + 1)]
    agreeing = random.randint(0, g)
    proposed = own[:agreeing] + [
        (own[i] + random.choice([0, 1, 2]) + (i == agreeing)) % vocabulary
        for i in range(agreeing, g)
    ]
    expected = []
    for place in range(g + 1):
        expected.append(own[place])
        if place < g and proposed[place] != own[place]:
            break
    dtype, gap = random.choice([(torch.float32, 1e-3), (torch.float64, 1e-5)])
    logits = rows(own, vocabulary, dtype)
    for place, token in enumerate(proposed):
        logits[place, token] = 2 - gap * (token != own[place])
    found = submission.verify_greedy(proposed, logits - random.choice([0, 9]))
    assert plain(found) == expected, hint(
        "greedy-many", proposed=proposed, own=own, expected=expected
    )
assert plain(submission.verify_greedy([], rows([4]))) == [4], hint("greedy-empty")
### END HIDDEN TESTS

# %% [markdown] id="sampling" lang="ko" reviewed="49ad80521a84"
# ## 확률까지 똑같이
#
# 실제 서비스는 대개 온도를 주고 샘플링해요. 그때는 "같은 토큰인가"를 물을 수 없어요. 물어야 할 것은 **결과의 분포가 타깃의 분포와 같은가**예요.
#
# 어느 자리에서 타깃의 분포를 $p$, 초안의 분포를 $q$라고 해요. 초안은 $q$에서 토큰 $x$를 뽑아요. 초안이 $x$를 **지나치게 자주**
# 뽑는다면($q(x) > p(x)$) 그만큼을 되돌려야 하니, 확률 $\min(1, p(x)/q(x))$로만 수락해요. 그러면 $x$가 수락될 확률은
# $q(x)\cdot\min(1, p(x)/q(x)) = \min(p(x), q(x))$예요. 모두 더한
#
# $$a = \sum_x \min(p(x), q(x))$$
#
# 가 **수락률**이고, 두 분포가 겹친 넓이예요. 기각되면 모자란 곳을 채워요. 초안이 $x$를 **너무 드물게** 뽑는 만큼, 곧
# $\max(0, p(x) - q(x))$에 비례하는 **잔여 분포**에서 다시 뽑아요. 그림으로 보면 이래요.

# %% [markdown] id="sampling" lang="en"
# ## Equal in probability, too
#
# Real services mostly sample at some temperature. Then "is it the same token?" is no question to ask. The question is **whether the
# results are distributed as the target's are**.
#
# In some place, let $p$ be the target's distribution and $q$ the draft's. The draft draws a token $x$ from $q$. If it draws $x$ **too
# often** ($q(x) > p(x)$), that has to be undone, so $x$ is accepted only with probability $\min(1, p(x)/q(x))$. The
# probability that $x$ is drawn and accepted is then $q(x)\cdot\min(1, p(x)/q(x)) = \min(p(x), q(x))$. Their sum
#
# $$a = \sum_x \min(p(x), q(x))$$
#
# is the **acceptance rate**: the area that both distributions share. After a rejection, fill up what is missing: draw again from
# the **residual distribution**, which is proportional to $\max(0, p(x) - q(x))$, to the extent that the draft draws $x$ **too seldom**. As a
# picture:

# %% id="sampling-code" kind="demo"
p = torch.tensor([0.45, 0.25, 0.15, 0.10, 0.05])
q = torch.tensor([0.15, 0.30, 0.15, 0.20, 0.20])
places = torch.arange(5)
figure, axes = plt.subplots(figsize=(7.5, 3.6))
shared = torch.minimum(p, q)
axes.bar(places, shared, color="tab:green", label=hint("plot-shared", a=f"{shared.sum():.2f}"))
axes.bar(places, (p - q).clamp(min=0), bottom=shared, color="tab:blue", label=hint("plot-residual"))
often = q > p
axes.bar(
    places[often],
    (q - p)[often],
    bottom=shared[often],
    fill=False,
    hatch="//",
    edgecolor="tab:red",
    label=hint("plot-rejected"),
)
axes.set(xlabel=hint("plot-token"), ylabel=hint("plot-probability"), xticks=places)
axes.legend()
plt.show()

# %% [markdown] id="sampling-seen" lang="ko" reviewed="12834bf53e61"
# 초록과 파랑을 쌓으면 꼭 $p$예요. 초록(수락된 것)과 파랑(기각된 뒤 다시 뽑은 것)을 더하면 $\min(p,q) + \max(0, p-q) = p$가 되니까요. 빗금 친 빨강의
# 넓이와 파랑의 넓이는 둘 다 $1-a$예요. 그래서 **초안이 아무리 엉터리여도 결과의 분포는 타깃과 정확히 같아요.** 초안이 나쁘면 느려질 뿐이에요.

# %% [markdown] id="sampling-seen" lang="en"
# Green and blue stacked are exactly $p$: what is accepted and what is drawn anew add up to $\min(p,q) + \max(0, p-q) = p$. The
# hatched red area and the blue one are both $1-a$. So **however bad the draft, the results are distributed exactly as the
# target's**. A bad draft only makes it slow.

# %% [markdown] id="task-residual" lang="ko" reviewed="8ac75f7d2d28"
# ## 과제 2. 수락률과 잔여 분포 (쉬움)
#
# 두 함수를 완성하세요. `p`와 `q`는 확률이 담긴 텐서예요.
#
# - `acceptance_rate(p, q)`: 둘 다 모양 `(..., vocabulary)`. 마지막 축을 따라 계산한 수락률 $a$, 모양 `(...)`인 텐서예요. 여러 자리를 한꺼번에
#   잴 때 쓸 거예요.
# - `residual(p, q)`: 둘 다 모양 `(vocabulary,)`. 기각된 뒤에 뽑을 분포, 모양 `(vocabulary,)`. 합이 1이어야 해요. `p`와 `q`가 똑같으면 기각될 일이
#   없지만, 0으로 나누지 말고 `p`를 돌려주세요.

# %% [markdown] id="task-residual" lang="en"
# ## Task 2. Acceptance rate and residual distribution (easy)
#
# Complete two functions; `p` and `q` are tensors of probabilities.
#
# - `acceptance_rate(p, q)`: both of shape `(..., vocabulary)`. Returns the acceptance rate $a$ along the last axis, a tensor of shape
#   `(...)`. We will use it to measure many places at once.
# - `residual(p, q)`: both of shape `(vocabulary,)`. Returns the distribution to draw from after a rejection, shape
#   `(vocabulary,)`, with sum 1. When `p` and `q` are equal nothing is ever rejected; still, do not divide by 0, but return `p`.

# %% id="residual" kind="solution"
def acceptance_rate(p, q):
    ### BEGIN SOLUTION
    return torch.minimum(p, q).sum(dim=-1)
    ### END SOLUTION


def residual(p, q):
    ### BEGIN SOLUTION
    missing = (p - q).clamp(min=0)
    total = missing.sum()
    return missing / total if total > 0 else p
    ### END SOLUTION

# %% id="test-residual" kind="test" points=2
def assert_near(found, expected, text):
    found = torch.as_tensor(found, dtype=torch.float64)
    assert found.shape == expected.shape, text
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-6, msg=text)


p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
assert_near(submission.acceptance_rate(p, q), torch.tensor(0.6), hint("rate-value"))
expected = torch.tensor([0.75, 0.25, 0.0])
assert_near(submission.residual(p, q), expected, hint("residual-value"))
### BEGIN HIDDEN TESTS
torch.seed()
for _ in range(20):
    vocabulary = random.randint(2, 40)
    p, q = torch.rand(2, vocabulary, dtype=torch.float64) ** 3
    p, q = p / p.sum(), q / q.sum()
    a = torch.as_tensor(submission.acceptance_rate(p, q), dtype=torch.float64)
    rest = submission.residual(p, q)
    assert_near(rest.sum(), torch.tensor(1.0), hint("residual-sum"))
    assert (rest >= 0).all(), hint("residual-negative")
    assert_near(torch.minimum(p, q) + (1 - a) * rest, p, hint("residual-adds-up"))
one, other = torch.eye(4, dtype=torch.float64)[:2]
assert_near(submission.acceptance_rate(one, other), torch.tensor(0.0), hint("rate-apart"))
assert_near(submission.residual(one, other), one, hint("residual-apart"))
assert_near(
    submission.residual(p, one.new_tensor([1.0] + [0.0] * (len(p) - 1))),
    torch.cat([p[:1] * 0, p[1:] / p[1:].sum()]),
    hint("residual-value"),
)
p, q = one.new_tensor([[0.5, 0.3, 0.2], [0.5002, 0.2998, 0.2]])
rest = submission.residual(p, q)
assert (rest - torch.tensor([0.0, 1.0, 0.0])).abs().max() < 1e-3, hint("residual-near")
assert_near(submission.acceptance_rate(p, p), torch.tensor(1.0), hint("rate-equal"))
assert_near(submission.residual(p, p), p, hint("residual-equal"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
p, q = torch.rand(2, 3, 5, 7, dtype=torch.float64).softmax(dim=-1)
assert_near(submission.acceptance_rate(p, q), torch.minimum(p, q).sum(dim=-1), hint("rate-axes"))
p, q = torch.rand(2, 1, 9, dtype=torch.float32).softmax(dim=-1)
assert_near(submission.acceptance_rate(p, q), torch.minimum(p, q).sum(dim=-1), hint("rate-axes"))
### END HIDDEN TESTS

# %% [markdown] id="chance" lang="ko" reviewed="178e24d48151"
# ## 따라 해 보기: 분포를 시험하는 법
#
# 샘플러가 맞는지는 결과 하나로는 알 수 없어요. 여러 번 뽑아서 세고, 세어 본 횟수가 기대와 **우연이라기에는 너무 다른지** 봐요. 카이제곱 검정이
# 그 일을 해요.
#
# $$\chi^2 = \sum_x \frac{(\text{횟수}_x - \text{기대}_x)^2}{\text{기대}_x}$$
#
# `chance(counts, p)`는 샘플러가 맞을 때 횟수가 **이만큼 또는 더 심하게** 어긋날 확률이에요. 아래에서 두 규칙을 시험해 봐요. 하나는 타깃에서 바로 뽑고,
# 다른 하나는 그럴듯한 규칙이에요. "초안의 토큰을 $\min(1, p/q)$로 수락하고, 기각되면 **타깃의 분포 $p$에서** 다시 뽑자." 맞을까요?

# %% [markdown] id="chance" lang="en"
# ## A worked example: testing a distribution
#
# One result does not tell whether a sampler is right. Draw many times, count, and see whether the counts are **further from what
# is expected than chance explains**. That is the chi-squared test:
#
# $$\chi^2 = \sum_x \frac{(\text{count}_x - \text{expected}_x)^2}{\text{expected}_x}$$
#
# `chance(counts, p)` is the probability that a right sampler strays **this far or further**. Below it tries two rules. One draws
# straight from the target. The other sounds plausible: "accept the draft's token with $\min(1, p/q)$, and after a rejection draw again **from
# the target's $p$**". Is it right?

# %% id="chance-code" kind="locked"
def chance(counts, p):
    counts, p = torch.as_tensor(counts).double(), torch.as_tensor(p).double()
    expected, possible = counts.sum() * p, p > 0
    if counts[~possible].any():
        return 0.0
    chi_squared = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    return float(torch.special.gammaincc((possible.sum() - 1) / 2, chi_squared / 2))

# %% id="chance-try" kind="demo"
p, q = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.5, 0.3])


def straight_from_target():
    return choose(p)


def plausible():
    token = choose(q)
    return token if random.random() < p[token] / q[token] else choose(p)


for rule in (straight_from_target, plausible):
    counts = torch.bincount(torch.tensor([rule() for _ in range(5000)]), minlength=3)
    expected = (5000 * p).round().int().tolist()
    name, found = f"{rule.__name__:20}", f"{chance(counts, p):.2g}"
    print(hint("chance-line", rule=name, counts=counts.tolist(), expected=expected, chance=found))

# %% [markdown] id="chance-seen" lang="ko" reviewed="b2fbb59cc0f2"
# 그럴듯한 규칙은 초안이 좋아하는 토큰을 두 번 밀어줘요. 한 번은 초안이 뽑아서, 또 한 번은 $p$에서 다시 뽑혀서요. 글은 여전히 자연스러워 보이니 **읽어
# 보는 것만으로는 이런 잘못을 찾을 수 없어요.** 채점도 카이제곱 검정으로 해요. 맞는 풀이가 운이 나빠 틀릴 확률은 백만 번에 한 번도 되지 않게 정했어요.

# %% [markdown] id="chance-seen" lang="en"
# The plausible rule favours the draft's tokens twice: once when the draft draws them, and again when they come out of $p$. The text
# still reads naturally, so **no amount of reading finds such a mistake**. Grading uses the chi-squared test too, and the threshold is
# set so that a right solution fails by bad luck less than once in a million runs.

# %% [markdown] id="task-sampled" lang="ko" reviewed="36197c356c1f"
# ## 과제 3. 샘플링 검증 (보통)
#
# `verify_sampled(proposed, q, p)`를 완성하세요. 과제 1과 같은 일을 확률로 해요.
#
# - `proposed`: 초안이 **`q`에서 뽑은** 토큰 `g`개의 리스트. 비어 있을 수도 있어요.
# - `q`: 모양 `(g, vocabulary)`. `i`번째 줄은 `proposed[i]`를 뽑은 분포. `p`: 모양 `(g + 1, vocabulary)`. 같은 자리들에 대한 타깃의 분포와, 그다음
#   자리의 분포
# - 앞에서부터 하나씩, 확률 $\min(1, p(x)/q(x))$로 수락해요. 처음 기각된 자리에서는 그 자리의 잔여 분포에서 하나를 뽑고 끝내요. 모두 수락되면
#   `p`의 마지막 줄에서 하나를 더 뽑아요.
# - 돌려주는 값: 이번 라운드에 얻은 토큰의 리스트. 길이는 1부터 `g + 1`까지예요.
#
# 0과 1 사이의 난수는 `random.random()`이나 `torch.rand(())`로, 분포에서 뽑기는 `choose`로 하면 돼요. 시드는 정하지 마세요.

# %% [markdown] id="task-sampled" lang="en"
# ## Task 3. Verify by sampling (medium)
#
# Complete `verify_sampled(proposed, q, p)`: what task 1 does, with probabilities.
#
# - `proposed`: a list of `g` tokens that the draft **drew from `q`**. It may be empty.
# - `q`: shape `(g, vocabulary)`; row `i` is the distribution that `proposed[i]` was drawn from. `p`: shape
#   `(g + 1, vocabulary)`; the target's distributions in the same places, and in the one after.
# - From the first on, accept each with probability $\min(1, p(x)/q(x))$. Where one is rejected, draw one token from that place's residual
#   distribution and stop. If all are accepted, draw one more from the last row of `p`.
# - Returns: the list of tokens that this round gained; 1 to `g + 1` tokens.
#
# `random.random()` or `torch.rand(())` gives a number between 0 and 1, `choose` draws from a distribution. Set no seed.

# %% id="verify-sampled" kind="solution"
def verify_sampled(proposed, q, p):
    ### BEGIN SOLUTION
    gained = []
    for place, token in enumerate(proposed):
        if random.random() * q[place, token] >= p[place, token]:
            return [*gained, choose(residual(p[place], q[place]))]
        gained.append(token)
    return [*gained, choose(p[len(proposed)])]
    ### END SOLUTION

# %% id="test-sampled" kind="test" points=4
LIKELY = 1e-10


def count_texts(gained, p):
    counts = torch.zeros([p.shape[1]] * p.shape[0])
    for tokens in gained:
        rest = [choose(row) for row in p[len(tokens) :]]
        counts[tuple(tokens + rest)] += 1
    return counts


def joint(p):
    result = p[0]
    for row in p[1:]:
        result = result[..., None] * row
    return result


torch.seed()
p = torch.tensor([[0.45, 0.35, 0.2], [0.2, 0.45, 0.35]], dtype=torch.float64)
q = torch.tensor([[0.15, 0.2, 0.65]], dtype=torch.float64)
gained = [plain(submission.verify_sampled([choose(q[0])], q, p)) for _ in range(1500)]
assert all(1 <= len(tokens) <= 2 for tokens in gained), hint("sampled-length")
first = torch.bincount(torch.tensor([tokens[0] for tokens in gained]), minlength=3)
assert chance(first, p[0]) > LIKELY, hint(
    "sampled-first", counts=first.tolist(), expected=(1500 * p[0]).int().tolist()
)
more = [tokens[1] for tokens in gained if len(tokens) == 2]
assert more, hint("sampled-never")
second = torch.bincount(torch.tensor(more), minlength=3)
assert chance(second, p[1]) > LIKELY, hint("sampled-bonus")
### BEGIN HIDDEN TESTS
pairs = torch.tensor(
    [[[0.45, 0.35, 0.2], [0.15, 0.2, 0.65]], [[0.4, 0.5, 0.1], [0.8, 0.1, 0.1]]],
    dtype=torch.float64,
)
rates = torch.tensor([0.55, 0.6])
for order in ([0, 1, 0, 1, 0], [1, 0, 1, 0, 1]):
    p, q = torch.stack([pairs[each][:, torch.randperm(3)] for each in order], dim=1)
    q = q[:4]
    gained = [
        plain(submission.verify_sampled([choose(row) for row in q], q, p)) for _ in range(3000)
    ]
    assert all(1 <= len(tokens) <= 5 for tokens in gained), hint("sampled-length")
    counts = count_texts([tokens[:3] for tokens in gained], p[:3])
    assert chance(counts.flatten(), joint(p[:3]).flatten()) > LIKELY, hint("sampled-joint")
    formula = 1 + rates[order[:4]].cumprod(dim=0).sum()
    found = sum(map(len, gained)) / len(gained)
    assert abs(found / formula - 1) < 0.08, hint(
        "sampled-rate", found=f"{found:.2f}", formula=f"{formula:.2f}"
    )
    for place in (3, 4):
        there = [tokens[place] for tokens in gained if len(tokens) > place]
        counts = torch.bincount(torch.tensor(there, dtype=torch.long), minlength=3)
        assert chance(counts, p[place]) > LIKELY, hint("sampled-joint")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for _ in range(40):
    g, vocabulary = random.randint(0, 6), random.randint(2, 9)
    own = torch.randint(0, vocabulary, (g + 1,)).tolist()
    p = torch.eye(vocabulary, dtype=torch.float64)[own]
    q = (
        torch.rand(g, vocabulary, dtype=torch.float64).softmax(dim=-1)
        if random.random() < 0.5
        else p[:g].roll(1, dims=-1)
    )
    proposed = [choose(row) for row in q]
    agreeing = next((i for i in range(g) if proposed[i] != own[i]), g)
    found = plain(submission.verify_sampled(proposed, q, p))
    assert found == own[: agreeing + 1], hint("sampled-greedy")
same = torch.rand(6, 5, dtype=torch.float64).softmax(dim=-1)
for _ in range(100):
    proposed = [choose(row) for row in same[:5]]
    found = plain(submission.verify_sampled(proposed, same[:5], same))
    assert found[:5] == proposed and len(found) == 6, hint("sampled-equal")
gained = [submission.verify_sampled([], same[:0], same[:1]) for _ in range(1000)]
assert all(len(tokens) == 1 for tokens in gained), hint("sampled-empty")
counts = torch.bincount(torch.tensor([int(tokens[0]) for tokens in gained]), minlength=5)
assert chance(counts, same[0]) > LIKELY, hint("sampled-empty")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for rare in (0.3, 0.001):
    p = torch.tensor([[0.8 - rare, rare, 0.2, 0.0], [0.0, 0.2, 0.4, 0.4]], dtype=torch.float64)
    q = torch.eye(4, dtype=torch.float64)[[1]]
    gained = [plain(submission.verify_sampled([1], q, p)) for _ in range(4000)]
    counts = torch.bincount(torch.tensor([tokens[0] for tokens in gained]), minlength=4)
    assert chance(counts, p[0]) > LIKELY, hint("sampled-certain")
    assert all(len(tokens) == 1 + (tokens[0] == 1) for tokens in gained), hint("sampled-certain")
### END HIDDEN TESTS

# %% [markdown] id="task-propose" lang="ko" reviewed="7e4fea8dd17d"
# ## 과제 4. 초안 쓰기 (보통)
#
# `propose(draft, tokens, gamma, temperature)`를 완성하세요. 초안 세션으로 토큰 `gamma`개를 이어 써요.
#
# - `draft`: `Session`이나 `Toy`. `tokens`: 지금까지의 글 전체(리스트, 하나 이상). `gamma`: 1 이상인 정수
# - 초안 세션은 **지난 라운드의 상태 그대로**예요. 아직 읽지 않은 토큰이 하나일 수도, 여럿일 수도 있고(처음에는 전부), 반대로 지난번에 제안했다가 **기각된
#   토큰을 캐시에 품고** 있을 수도 있어요. 그것부터 되감아야 해요. 지난번 글은 이번 글의 앞부분과 같고, 캐시에서 틀릴 수 있는 것은 이번 글의
#   마지막 토큰 자리부터예요.
# - 돌려주는 값: `(proposed, q)`. `proposed`는 토큰 `gamma`개의 리스트, `q`는 각 토큰을 뽑은 분포, 모양 `(gamma, vocabulary)`. 분포는
#   `distribution`으로, 뽑기는 `choose`로 해요.
# - `draft.feed`를 꼭 `gamma`번만 불러요. 캐시에 있는 맞는 토큰은 다시 읽지 않고, 마지막 제안은 읽지 않아요.
#
# 제안이 모두 수락된 라운드 다음에는 초안이 아직 읽지 않은 토큰이 몇 개일까요? 종이에 그려 보세요.

# %% [markdown] id="task-propose" lang="en"
# ## Task 4. Write the draft (medium)
#
# Complete `propose(draft, tokens, gamma, temperature)`, which writes `gamma` tokens on with the draft's session.
#
# - `draft`: a `Session` or a `Toy`. `tokens`: the whole text so far (a list, at least one). `gamma`: an integer, at least 1.
# - The draft's session is **as the last round left it**. There may be one token that it has not read, or several (at first, all of
#   them). Or its cache may hold **tokens that it proposed and that were rejected**: roll those back first. The text of the last
#   round is how this one begins, and what can be wrong in the cache starts at the place of this text's last token.
# - Returns: `(proposed, q)`: a list of `gamma` tokens, and the distributions that they were drawn from, shape
#   `(gamma, vocabulary)`. Use `distribution` and `choose`.
# - Calls `draft.feed` exactly `gamma` times. Right tokens that are in the cache are not read again, and the last proposal is not
#   read.
#
# After a round in which all proposals were accepted, how many tokens has the draft not read yet? Draw it on paper.

# %% id="propose" kind="solution"
def propose(draft, tokens, gamma, temperature):
    ### BEGIN SOLUTION
    draft.rollback(min(draft.length, len(tokens) - 1))
    fresh, proposed, q = tokens[draft.length :], [], []
    for _ in range(gamma):
        q.append(distribution(draft.feed(fresh)[-1], temperature))
        fresh = [choose(q[-1])]
        proposed += fresh
    return proposed, torch.stack(q)
    ### END SOLUTION

# %% id="test-propose" kind="test" points=3
def expected_q(table, tokens, proposed, temperature):
    logits = Toy(table).feed(tokens + proposed[:-1])[-len(proposed) :]
    return distribution(logits, temperature)


torch.seed()
table = torch.randn(499, 5, dtype=torch.float64)
draft, tokens = Toy(table), [3, 1, 4]
proposed, q = submission.propose(draft, tokens, 4, 0.0)
proposed = plain(proposed)
assert len(proposed) == 4 and tuple(q.shape) == (4, 5), hint("propose-shape")
assert proposed == alone(Toy(table), tokens, 4), hint("propose-greedy")
assert draft.calls == 4, hint("propose-calls", calls=draft.calls, gamma=4)
tokens += proposed[:2] + [(proposed[2] + 1) % 5]
proposed, q = submission.propose(draft, tokens, 3, 0.0)
assert plain(proposed) == alone(Toy(table), tokens, 3), hint("propose-rejected")
### BEGIN HIDDEN TESTS
for _ in range(25):
    table = torch.randn(499, 5, dtype=torch.float64)
    temperature = random.choice([0.0, 0.2, 0.6, 1.0, 1.7])
    tokens, draft = [random.randrange(5) for _ in range(random.randint(1, 9))], Toy(table)
    for _ in range(6):
        gamma, kept = random.choice([1, 2, 3, 6, 12]), min(draft.length, len(tokens) - 1)
        before = draft.calls, draft.fed
        proposed, q = submission.propose(draft, tokens, gamma, temperature)
        proposed = plain(proposed)
        assert len(proposed) == gamma and tuple(q.shape) == (gamma, 5), hint("propose-shape")
        assert_near(
            q,
            expected_q(table, tokens, proposed, temperature),
            hint("propose-q", temperature=temperature),
        )
        calls, fed = draft.calls - before[0], draft.fed - before[1]
        assert calls == gamma, hint("propose-calls", calls=calls, gamma=gamma)
        wanted = len(tokens) - kept + gamma - 1
        assert fed == wanted, hint("propose-fed", fed=fed, wanted=wanted)
        accepted = random.choice([0, gamma, random.randint(0, gamma)])
        last = (
            random.randrange(5)
            if accepted == gamma
            else (proposed[accepted] + random.randint(1, 4)) % 5
        )
        tokens = tokens + proposed[:accepted] + [last]
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
table, tokens = 0.7 * torch.rand(499, 3, dtype=torch.float64), [1, 0]
drawn = Toy(table)
counts, p = torch.zeros(3, 3), torch.zeros(3, 3, dtype=torch.float64)
for _ in range(1500):
    drawn.rollback(0)
    proposed, _ = submission.propose(drawn, tokens, 2, 0.5)
    counts[tuple(plain(proposed))] += 1
for first in range(3):
    both = expected_q(table, tokens, [first, 0], 0.5)
    p[first] = both[0, first] * both[1]
assert chance(counts.flatten(), p.flatten()) > LIKELY, hint("propose-drawn")
### END HIDDEN TESTS

# %% [markdown] id="task-speculate" lang="ko" reviewed="1cdc35c45bd3"
# ## 과제 5. 추측 디코딩 (어려움)
#
# 이제 이어 붙여요. `speculate(target, drafter, prompt, n, gamma, temperature)`를 완성하세요.
#
# - `target`: 아직 아무것도 읽지 않은 `Session`이나 `Toy`. `prompt`: 토큰 하나 이상의 리스트. `n`: 1 이상인 정수
# - `drafter(tokens, gamma)`: 지금까지의 글 전체를 받아 `(proposed, q)`를 돌려주는 함수예요. 제안은 `gamma`개까지이고, **더 적거나 없을 수도**
#   있어요. 그래도 라운드마다 토큰이 하나는 나와야 해요.
# - 돌려주는 값: 새 토큰 **꼭 `n`개**의 리스트. 온도가 0이면 `alone(target, prompt, n)`과 한 토큰도 다르지 않고, 온도가 있으면 분포가 같아요.
# - 라운드마다 `target.feed`를 **한 번만** 불러요. 아직 읽지 않은 토큰에 제안을 이어 붙여서요. 프롬프트만 따로 읽는 호출 한 번은 더 해도 돼요.
# - 검증이 끝나면 타깃의 캐시를 되감아서, 기각된 토큰이 남지 않게 해요. 마지막 라운드에서도요. 맞는 토큰은 **다시 읽지 않아요.**
#
# 검증한 뒤의 글은 `tokens`예요. 마지막 토큰은 방금 타깃이 골랐으니 아직 **읽지는** 않았어요. 그러면 타깃의 `length`는 얼마여야 할까요? 이 한 줄이
# 이 단원에서 가장 많이 틀리는 곳이에요.

# %% [markdown] id="task-speculate" lang="en"
# ## Task 5. Speculative decoding (hard)
#
# Now join the pieces: complete `speculate(target, drafter, prompt, n, gamma, temperature)`.
#
# - `target`: a `Session` or a `Toy` that has read nothing yet. `prompt`: a list of at least one token. `n`: an integer, at least 1.
# - `drafter(tokens, gamma)`: a function that is given the whole text so far and returns `(proposed, q)`. There are at most `gamma`
#   proposals, and there **may be fewer, or none**; every round gives at least one token all the same.
# - Returns: a list of **exactly `n`** new tokens. At temperature 0 they equal `alone(target, prompt, n)` token for token; at any
#   other they have the same distribution.
# - Each round calls `target.feed` **once**, with the tokens it has not read and the proposals behind them. One more call, to read
#   only the prompt, is allowed.
# - After verifying, roll the target's cache back so that no rejected token stays, in the last round too. Right tokens are **not
#   read again**.
#
# The text after verifying is `tokens`. Its last token was only just chosen by the target, so the target has not **read** it. What
# must `target.length` be, then? This line goes wrong more often than any other in this unit.

# %% id="speculate" kind="solution"
def speculate(target, drafter, prompt, n, gamma, temperature):
    ### BEGIN SOLUTION
    tokens = list(prompt)
    while len(tokens) < len(prompt) + n:
        proposed, q = drafter(tokens, gamma)
        logits = target.feed(tokens[target.length :] + proposed)[-len(proposed) - 1 :]
        if temperature == 0:
            tokens += verify_greedy(proposed, logits)
        else:
            tokens += verify_sampled(proposed, q, distribution(logits, temperature))
        target.rollback(len(tokens) - 1)
    return tokens[len(prompt) : len(prompt) + n]
    ### END SOLUTION

# %% id="drafting" kind="locked"
def drafting(draft, temperature=0.0):
    return lambda tokens, gamma: propose(draft, tokens, gamma, temperature)


def speculated(target, draft, prompt, n, gamma, temperature=0.0):
    return speculate(target, drafting(draft, temperature), prompt, n, gamma, temperature)

# %% id="test-speculate" kind="test" points=4
class Scripted:
    def __init__(self, text, start, wrong=(), most=99):
        self.text, self.start, self.wrong, self.most = text, start, set(wrong), most

    def __call__(self, tokens, gamma):
        done = len(tokens) - self.start
        places = range(done, min(done + min(gamma, self.most), len(self.text)))
        proposed = [(self.text[i] + (i in self.wrong)) % 5 for i in places]
        return proposed, torch.eye(5, dtype=torch.float64)[proposed]


def rounds_needed(n, gamma, wrong):
    done = rounds = 0
    while done < n:
        right = 0
        while right < gamma and done + right not in wrong:
            right += 1
        done, rounds = done + right + 1, rounds + 1
    return rounds


torch.seed()
table = torch.randn(499, 5, dtype=torch.float64)
prompt = [1, 2, 3]
text = alone(Toy(table), prompt, 80)
target = Toy(table)
found = submission.speculate(target, Scripted(text, 3), prompt, 20, 4, 0.0)
assert len(found) == 20, hint("speculate-n", n=20, found=len(found))
assert plain(found) == text[:20], hint("speculate-all-right")
assert 4 <= target.calls <= 5, hint("speculate-calls", calls=target.calls, wanted=4)
target = Toy(table)
found = submission.speculate(target, Scripted(text, 3, wrong=[2, 7, 8]), prompt, 16, 3, 0.0)
assert len(found) == 16, hint("speculate-n", n=16, found=len(found))
assert plain(found) == text[:16], hint("speculate-rejected")
### BEGIN HIDDEN TESTS
for _ in range(40):
    table = torch.randn(499, 5, dtype=torch.float64)
    prompt = [random.randrange(5) for _ in range(random.randint(1, 12))]
    n, gamma = random.choice([1, 2, 5, random.randint(1, 60)]), random.randint(1, 7)
    text = alone(Toy(table), prompt, n + gamma + 1)
    wrong = {
        i for i in range(n + gamma + 1) if random.random() < random.choice([0.0, 0.2, 0.6, 1.0])
    }
    target, drafter = Toy(table), Scripted(text, len(prompt), wrong)
    found = submission.speculate(target, drafter, prompt, n, gamma, 0.0)
    assert len(found) == n, hint("speculate-n", n=n, found=len(found))
    assert plain(found) == text[:n], hint("speculate-text", n=n, gamma=gamma)
    wanted = rounds_needed(n, gamma, wrong)
    assert wanted - 1 <= target.calls <= wanted + 1, hint(
        "speculate-calls", calls=target.calls, wanted=wanted
    )
    most = len(prompt) - 1 + target.calls * (gamma + 1)
    assert target.fed <= most, hint("speculate-fed", fed=target.fed, most=most)
    read = (prompt + text)[: target.length] + [0]
    assert torch.equal(target.feed([0])[0], Toy(table).feed(read)[-1]), hint("speculate-end")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for most in (0, 1, 2):
    table = torch.randn(499, 5, dtype=torch.float64)
    text = alone(Toy(table), [4], 40)
    target = Toy(table)
    found = submission.speculate(target, Scripted(text, 1, {5, 6, 20}, most), [4], 30, 6, 0.0)
    assert plain(found) == text[:30], hint("speculate-fewer", most=most)
    wanted = rounds_needed(30, most, {5, 6, 20})
    assert wanted - 1 <= target.calls <= wanted + 1, hint(
        "speculate-calls", calls=target.calls, wanted=wanted
    )
    limit = target.calls * (most + 1)
    assert target.fed <= limit, hint("speculate-fed", fed=target.fed, most=limit)


class Ragged(Scripted):
    rounds = 0

    def __call__(self, tokens, gamma):
        self.rounds += 1
        self.most = random.randint(0, gamma)
        return super().__call__(tokens, gamma)


for _ in range(10):
    table = torch.randn(499, 5, dtype=torch.float64)
    text = alone(Toy(table), [0, 4], 50)
    wrong = set(random.sample(range(50), 15))
    target, drafter = Toy(table), Ragged(text, 2, wrong)
    found = submission.speculate(target, drafter, [0, 4], 40, 5, 0.0)
    assert plain(found) == text[:40], hint("speculate-fewer", most=5)
    wanted = drafter.rounds + 1
    assert target.calls <= wanted + 1, hint("speculate-calls", calls=target.calls, wanted=wanted)
### END HIDDEN TESTS

# %% id="test-speculate-model" kind="test" points=3
prompt = academy_lm.encode("If the ")
target, drafter = Session(exact), submission.drafting(submission.Session(submission.exact_draft))
found = submission.speculate(target, drafter, prompt, 24, 4, 0.0)
assert plain(found) == alone(Session(exact), prompt, 24), hint("model-text", gamma=4)
### BEGIN HIDDEN TESTS
for gamma in (1, 3, 8):
    prompt = encoded(random.random())
    target, draft = Session(exact), submission.Session(submission.exact_draft)
    drafter = submission.drafting(draft)
    exact.calls = exact.tokens = 0
    found = submission.speculate(target, drafter, prompt, 90, gamma, 0.0)
    calls, fed = exact.calls, exact.tokens
    assert plain(found) == alone(Session(exact), prompt, 90), hint("model-text", gamma=gamma)
    assert calls < 90, hint("model-calls", calls=calls)
    most = len(prompt) - 1 + calls * (gamma + 1)
    assert fed <= most, hint("speculate-fed", fed=fed, most=most)
prompt = encoded(random.random())
target, other = Session(exact), submission.drafting(submission.Session(submission.exact))
found = submission.speculate(target, other, prompt, 60, 5, 0.0)
assert plain(found) == alone(Session(exact), prompt, 60), hint("model-text", gamma=5)
assert 10 <= target.calls <= 11, hint("speculate-calls", calls=target.calls, wanted=10)
### END HIDDEN TESTS

# %% id="test-speculate-sampled" kind="test" points=4
def tokens_a_call(p, q, gamma, n):
    target, draft = Toy(p.log()[None]), submission.Toy(q.log()[None])
    drafter = submission.drafting(draft, 1.0)
    found = submission.speculate(target, drafter, [0], n, gamma, 1.0)
    return len(found) / target.calls


torch.seed()
p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
q = torch.tensor([0.4, 0.2, 0.2, 0.2], dtype=torch.float64)
formula = (1 - 0.9**4) / (1 - 0.9)
found = tokens_a_call(p, q, gamma=3, n=4500)
text = hint("formula", a=0.9, gamma=3, found=f"{found:.2f}", formula=f"{formula:.2f}")
assert abs(found / formula - 1) < 0.05, text
### BEGIN HIDDEN TESTS
shuffle = torch.randperm(4)
q = torch.tensor([0.0, 0.3, 0.2, 0.5], dtype=torch.float64)[shuffle]
found = tokens_a_call(p[shuffle], q, gamma=1, n=2500)
text = hint("formula", a=0.6, gamma=1, found=f"{found:.2f}", formula="1.60")
assert abs(found / 1.6 - 1) < 0.05, text


def ragged(tokens, gamma):
    rows_of_q = q.expand(random.randint(0, gamma), 4)
    return [choose(row) for row in rows_of_q], rows_of_q


found = submission.speculate(Toy(p.log()[None]), ragged, [0], 2000, 3, 1.0)
counts = torch.bincount(torch.tensor(plain(found)), minlength=4)
assert chance(counts, p) > LIKELY, hint("speculate-ragged")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for gamma, temperature in [(2, 0.25), (3, 4.0)]:
    table = 0.85 * temperature * torch.rand(97, 2, dtype=torch.float64)
    guesses = 2 * temperature * torch.rand(97, 2, dtype=torch.float64)
    counts = torch.zeros(2, 2, 2, 2)
    for _ in range(1500):
        target, draft = submission.Toy(table), submission.Toy(guesses)
        found = submission.speculated(target, draft, [1, 0], 4, gamma, temperature)
        counts[tuple(plain(found))] += 1
    p = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    for place in range(16):
        text = [place >> bit & 1 for bit in (3, 2, 1, 0)]
        rows_of_p = expected_q(table, [1, 0], text, temperature)
        p[tuple(text)] = rows_of_p[range(4), text].prod()
    assert chance(counts.flatten(), p.flatten()) > LIKELY, hint(
        "speculate-distribution", temperature=temperature, gamma=gamma
    )
### END HIDDEN TESTS

# %% [markdown] id="measure" lang="ko" reviewed="bf6e185ec220"
# ## 이제 재 봅시다
#
# 답이 같은지, 타깃을 몇 번 불렀는지, 그다음에 시간이 몇 배인지 봐요. 아래 글은 추측 디코딩으로 쓴 것이고, `|`는 라운드가 끝난 자리예요. 어디에서 길게
# 나아가고 어디에서 자주 멈추나요?

# %% [markdown] id="measure" lang="en"
# ## Now measure
#
# First whether the answers agree, then how often the target was called, then the time. The text below was written speculatively,
# and each `|` marks the end of a round. Where does it run far ahead, and where does it stop often?

# %% id="measure-tools" kind="locked"
def recorded(drafter, lengths):
    def wrapped(tokens, gamma):
        lengths.append(len(tokens))
        return drafter(tokens, gamma)

    return wrapped


def marked(prompt, tokens, lengths):
    ends = {length - len(prompt) for length in lengths[1:]}
    return "".join("|" * (i in ends) + chr(token) for i, token in enumerate(tokens))


def write_alone(seed, n):
    return alone(Session(target_model), encoded(seed), n)


def write_speculated(seed, n, gamma=4, draft=draft_model):
    return speculated(Session(target_model), Session(draft), encoded(seed), n, gamma)


def same_start(a, b):
    return len(a) == len(b) and a[:16] == b[:16]

# %% id="measure-code" kind="demo"
with when_solved():
    prompt, lengths = academy_lm.encode("The value of the "), []
    target, drafter = Session(exact), recorded(drafting(Session(exact_draft)), lengths)
    found = speculate(target, drafter, prompt, 160, 4, 0.0)
    print(marked(prompt, found, lengths))
    print(hint("measured-same", same=found == alone(Session(exact), prompt, 160)))
    print(hint("measured-calls", calls=target.calls, n=160, each=f"{160 / target.calls:.2f}"))
    times = speedup(write_speculated, write_alone, lambda i: (i, 160), same_start)
    print(hint("measured-time", ratio=f"{times.ratio:.2f}", guess=speed_guess))

# %% [markdown] id="measure-why" lang="ko" reviewed="f037895c8a6b"
# 타깃을 부른 횟수는 크게 줄었는데 시간은 그만큼 줄지 않았어요. 라운드마다 초안 모델을 네 번 부르고, 타깃의 호출도 토큰이 여럿이라 조금 더
# 길기 때문이에요. 이득을 셈하려면 세 가지가 필요해요. 얼마나 자주 맞는지, 초안이 얼마나 싼지, 몇 개씩 추측하는지예요.

# %% [markdown] id="measure-why" lang="en"
# The target is called far less often, but the time did not fall as much: each round calls the draft model four times, and a call of
# the target with several tokens takes a little longer. To work out the gain you need three things: how often the draft is
# right, how cheap it is, and how far it guesses ahead.

# %% [markdown] id="task-gamma" lang="ko" reviewed="f46afbeb178d"
# ## 과제 6. 몇 개씩 추측할까 (보통)
#
# 자리마다 확률 $a$로 **서로 상관없이** 수락된다고 해 봐요. $\gamma$개를 제안하면 첫 제안까지 맞을 확률이 $a$, 둘째까지 $a^2$, … 이고, 타깃의 토큰이 늘
# 하나 붙으니 타깃을 한 번 부를 때 얻는 토큰은 평균
#
# $$1 + a + a^2 + \dots + a^\gamma = \frac{1 - a^{\gamma+1}}{1 - a}$$
#
# 개예요. 세 함수를 완성하세요. `draft_seconds`는 초안을 한 번 부르는 시간, `verify_seconds`는 리스트이고 `verify_seconds[g]`는 타깃이 제안 `g`개를 검사하는
# 호출 한 번의 시간이에요. `verify_seconds[0]`은 추측하지 않는 보통 디코드예요.
#
# - `tokens_per_call(a, gamma)`: 위의 평균. `a`가 1이어도 답을 내야 해요.
# - `best_gamma(a, draft_seconds, verify_seconds)`: 1초에 얻는 토큰이 가장 많은 `gamma`를 0부터 `len(verify_seconds) - 1` 사이에서 골라요. 비기면 작은 쪽,
#   곧 추측하지 않는 게 나으면 0이에요.
# - `won_per_million(a, gamma, draft_seconds, verify_seconds, won_per_hour)`: 한 시간에 `won_per_hour`원인 서버에서 토큰 백만 개에 드는 돈(원)

# %% [markdown] id="task-gamma" lang="en"
# ## Task 6. How far to guess ahead (medium)
#
# Say that each proposal is accepted with probability $a$, **independently of the others**. Of $\gamma$ proposals the first is right with
# probability $a$, the first two with $a^2$, and so on; one token of the target's always comes on top. So one call of the target
# gives on average
#
# $$1 + a + a^2 + \dots + a^\gamma = \frac{1 - a^{\gamma+1}}{1 - a}$$
#
# tokens. Complete three functions. `draft_seconds` is the time of one call of the draft; `verify_seconds` is a list, and
# `verify_seconds[g]` the time of a target's call that checks `g` proposals. `verify_seconds[0]` is plain decode, without speculation.
#
# - `tokens_per_call(a, gamma)`: the average above. It needs an answer for `a` = 1 too.
# - `best_gamma(a, draft_seconds, verify_seconds)`: the `gamma` from 0 to `len(verify_seconds) - 1` that gives the most tokens a
#   second. Of equally good ones the smallest; so 0 where it is better not to speculate.
# - `won_per_million(a, gamma, draft_seconds, verify_seconds, won_per_hour)`: what a million tokens cost, in won, on a server of
#   `won_per_hour` won an hour.

# %% id="gamma" kind="solution"
def tokens_per_call(a, gamma):
    ### BEGIN SOLUTION
    return sum(a**power for power in range(gamma + 1))
    ### END SOLUTION


def best_gamma(a, draft_seconds, verify_seconds):
    ### BEGIN SOLUTION
    def rate(gamma):
        return tokens_per_call(a, gamma) / (gamma * draft_seconds + verify_seconds[gamma])

    return max(range(len(verify_seconds)), key=rate)
    ### END SOLUTION


def won_per_million(a, gamma, draft_seconds, verify_seconds, won_per_hour):
    ### BEGIN SOLUTION
    round_seconds = gamma * draft_seconds + verify_seconds[gamma]
    return won_per_hour / 3600 * round_seconds / tokens_per_call(a, gamma) * 1_000_000
    ### END SOLUTION

# %% id="test-gamma" kind="test" points=3
assert abs(submission.tokens_per_call(0.5, 2) - 1.75) < 1e-9, hint("gamma-formula")
assert submission.best_gamma(0.8, 1.0, [10.0] * 9) == 6, hint("gamma-best")
assert submission.best_gamma(0.1, 3.0, [10.0] * 9) == 0, hint("gamma-none")
assert abs(submission.won_per_million(0.5, 2, 0.01, [0.03, 0.04, 0.05], 3600) - 40_000) < 1e-3, (
    hint("gamma-won")
)
### BEGIN HIDDEN TESTS
for gamma in (0, 1, 7):
    assert abs(submission.tokens_per_call(1, gamma) - (gamma + 1)) < 1e-9, hint("gamma-certain")
    assert abs(submission.tokens_per_call(0.0, gamma) - 1) < 1e-9, hint("gamma-never")
for _ in range(60):
    a, gamma = random.choice([random.random(), 0.995, 0.9995]), random.randint(0, 12)
    expected = sum(a**power for power in range(gamma + 1))
    assert abs(submission.tokens_per_call(a, gamma) - expected) < 1e-6 * expected, hint(
        "gamma-formula"
    )
    draft, verify = random.uniform(0.01, 1), [random.uniform(0.5, 3)]
    for _ in range(random.randint(0, 12)):
        verify.append(verify[-1] * random.uniform(1, 1.3))
    rates = [
        sum(a**power for power in range(g + 1)) / (g * draft + each)
        for g, each in enumerate(verify)
    ]
    found = submission.best_gamma(a, draft, verify)
    assert 0 <= found < len(verify) and rates[found] > max(rates) * (1 - 1e-9), hint("gamma-verify")
    gamma = random.randrange(len(verify))
    won = submission.won_per_million(a, gamma, draft, verify, 1234)
    expected = 1234 / 3600 / rates[gamma] * 1e6
    assert abs(won - expected) < 1e-6 * expected, hint("gamma-won")
assert submission.best_gamma(0.0, 0.0, [1.0, 1.0, 1.0]) == 0, hint("gamma-tie")
assert submission.best_gamma(1.0, 1.0, [1.0, 1.0, 1.0]) == 0, hint("gamma-tie")
assert submission.best_gamma(1.0, 0.1, [1.0] * 20) == 19, hint("gamma-verify")
### END HIDDEN TESTS

# %% [markdown] id="acceptance" lang="ko" reviewed="29d82a42351c"
# ## 진짜 글에서 수락률 재기
#
# 식에 넣을 $a$를 재 볼게요. 두 모델에 같은 글을 읽히고, 자리마다 두 분포가 얼마나 겹치는지를 여러분의 `acceptance_rate`로 구해 평균을 내요. 글은 두
# 가지예요. 모델이 배우지 않은 진짜 문서와, 타깃이 스스로 쓴 글이에요. 온도에 따라서도 달라요.

# %% [markdown] id="acceptance" lang="en"
# ## Acceptance rates on real text
#
# Let us measure the $a$ that goes into the formula. Both models read the same text; your `acceptance_rate` says in each place how far
# their distributions overlap, and we take the mean. There are two kinds of text: real documents that the models have not learnt
# from, and what the target wrote itself. The temperature matters, too.

# %% id="acceptance-code" kind="demo"
HELD_OUT = academy_lm.text.documents()[1]


class Rates(dict):
    def __missing__(self, temperature):
        raise NotImplementedError


def places_of(text, temperature):
    p = distribution(Session(target_model).feed(text), temperature)
    q = distribution(Session(draft_model).feed(text), temperature)
    return acceptance_rate(p, q)


rates = Rates()
with when_solved():
    for temperature in (0.0, 0.5, 1.0):
        documents = [HELD_OUT[start : start + 400] for start in range(0, 24_000, 3000)]
        written = [
            alone(Session(target_model), encoded(seed), 120, temperature) for seed in range(4)
        ]
        real, own = (
            torch.cat([places_of(text, temperature) for text in texts])
            for texts in (documents, written)
        )
        rates[temperature] = float(own.mean())
        print(
            hint(
                "rate-line",
                temperature=temperature,
                real=f"{real.mean():.2f}",
                own=f"{own.mean():.2f}",
            )
        )
    print(hint("rate-guess", percent=f"{100 * rates[0.0]:.0f}", guess=accepted_guess))

# %% [markdown] id="acceptance-seen" lang="ko" reviewed="13d550a8f5f1"
# 초안 모델은 훨씬 작은데도 토큰 하나하나를 보면 대부분 타깃과 같은 선택을 해요. 단어의 가운데나 흔한 이어짐처럼 **쉬운 자리가 많기 때문**이에요.
# 어려운 자리는 타깃이 맡아요.
#
# 온도를 조금 올리면 겹친 넓이가 오히려 커지기도 해요. 탐욕에서는 1등이 다르면 겹친 넓이가 0이지만, 샘플링에서는 두 분포가 비슷하기만 하면 되니까요. 그리고 수락률은
# **글에 따라 달라요.** 서비스에 쓰기 전에는 그 서비스의 글에서 재야 해요.

# %% [markdown] id="acceptance-seen" lang="en"
# The draft model is far smaller, and still it mostly makes the target's choice: **most places are easy**, like the middle of a word or
# a common phrase. The hard places are left to the target.
#
# Raising the temperature a little can even enlarge the shared area. When greedy, another first place means no overlap at all; in
# sampling it is enough that the two distributions are alike. And the acceptance rate **depends on the text**: before you use speculation
# in a service, measure it on that service's text.

# %% [markdown] id="limit" lang="ko" reviewed="952a5e60a093"
# ## 식과 한계에 견주기
#
# 왼쪽 그림은 타깃을 한 번 부를 때 얻은 토큰을 식과 견줘요. 오른쪽은 1초에 쓴 토큰이에요. 아무리 잘해도 가중치와 키, 값을 읽는 시간보다 빠를 수는 없으니,
# **이 컴퓨터에서 잰 대역폭**으로 한계선을 그어요. 한 라운드는 타깃을 한 번, 초안을 $\gamma$번 읽으니까
#
# $$\text{토큰/초} \le \frac{1 - a^{\gamma+1}}{1 - a} \cdot \frac{\text{대역폭}}{\text{타깃 바이트} + \gamma\cdot\text{초안 바이트}}$$
#
# 예요. 바이트에는 곱하는 가중치와 캐시의 키, 값을 넣어요. $\gamma = 0$이 보통 디코드의 한계예요. 추측 디코딩은 대역폭을 늘리지 않아요. **한 번 읽을 때
# 얻는 토큰**을 늘려요.

# %% [markdown] id="limit" lang="en"
# ## Against the formula and the limit
#
# The left picture compares the tokens per call of the target with the formula. The right one shows tokens a second. Nothing can be
# faster than the weights, keys and values are read, so the limit comes from the **bandwidth measured on this machine**. A round reads
# the target once and the draft $\gamma$ times:
#
# $$\text{tokens/s} \le \frac{1 - a^{\gamma+1}}{1 - a} \cdot \frac{\text{bandwidth}}{\text{target's bytes} + \gamma\cdot\text{draft's bytes}}$$
#
# Bytes are those of the weights that are multiplied and of the keys and values in the cache. At $\gamma = 0$ this is the limit of
# plain decode. Speculation does not raise the bandwidth: it raises **what one reading gives**.

# %% id="limit-code" kind="demo"
GAMMAS = [1, 2, 4, 6, 8, 12]


def bytes_read(model, context):
    multiplied = sum(
        weight.numel() for name, weight in model.weights().items() if "table" not in name
    )
    return 4 * (multiplied + 2 * model.layers * model.kv_heads * model.size * context)


def run(gamma, temperature, seed, n=120):
    target, began = Session(target_model), time.thread_time()
    if gamma:
        speculated(target, Session(draft_model), encoded(seed), n, gamma, temperature)
    else:
        alone(target, encoded(seed), n, temperature)
    return n, target.calls, time.thread_time() - began


def in_turn(temperature, seeds=range(4)):
    runs = [[run(gamma, temperature, seed) for gamma in [0, *GAMMAS]] for seed in seeds]
    sums = [[sum(values) for values in zip(*each)] for each in zip(*runs)]
    return [(tokens / calls, tokens / seconds) for tokens, calls, seconds in sums]


block = torch.ones(bytes_read(target_model, 0) // 4)
bandwidth = block.numel() * 4 / typical(block.sum)
with when_solved():
    measured = {temperature: in_turn(temperature) for temperature in (0.0, 1.0)}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    for colour, (temperature, points) in zip(("tab:blue", "tab:orange"), measured.items()):
        formula = [tokens_per_call(rates[temperature], gamma) for gamma in [0, *GAMMAS]]
        left.plot(
            [0, *GAMMAS],
            formula,
            "--",
            color=colour,
            label=hint("plot-formula", a=f"{rates[temperature]:.2f}"),
        )
        left.plot(
            [0, *GAMMAS],
            [each for each, _ in points],
            "o",
            color=colour,
            label=hint("plot-measured", t=temperature),
        )
        right.plot(
            [0, *GAMMAS],
            [rate for _, rate in points],
            "o-",
            color=colour,
            label=hint("plot-measured", t=temperature),
        )
    limit = [
        tokens_per_call(rates[0.0], gamma)
        * bandwidth
        / (bytes_read(target_model, 80) + gamma * bytes_read(draft_model, 80))
        for gamma in [0, *GAMMAS]
    ]
    right.plot(
        [0, *GAMMAS], limit, "k--", label=hint("plot-limit", bandwidth=f"{bandwidth / 1e9:.0f}")
    )
    left.set(xlabel=hint("plot-gamma"), ylabel=hint("plot-calls"))
    right.set(xlabel=hint("plot-gamma"), ylabel=hint("plot-speed"), yscale="log")
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.tight_layout()
    plt.show()
    for gamma, (_, rate), most in zip([0, *GAMMAS], measured[0.0], limit):
        print(
            hint(
                "achieved",
                gamma=f"{gamma:2}",
                rate=f"{rate:6,.0f}",
                percent=f"{100 * rate / most:4.1f}",
            )
        )

# %% [markdown] id="limit-seen" lang="ko" reviewed="5edcc9c1e0e4"
# 왼쪽: 많이 추측할수록 점은 식에서 벗어나기 쉬워요. 식은 자리마다 서로 상관없이 수락된다고 보지만, 진짜 글에는 쉬운 자리가 **몰려 있는** 곳이 있어요. 앞에서 `|`를 찍은
# 글에도 길게 나아가는 곳과 자주 멈추는 곳이 따로 있었지요. 글이 짧아서 생기는 우연도 섞여 있어요.
#
# 오른쪽: 속도는 한 번 올랐다가 내려와요. 많이 추측할수록 **버려질 제안을 쓰는 시간**이 늘어나니까요. 한계선까지 틈이 큰 것은 4.1에서 본 것과 같은 까닭이에요. 모델이 이렇게
# 작으면 가중치를 읽는 시간보다 파이썬이 연산을 하나하나 시키는 시간이 훨씬 길어요. 그래서 여기서는 초안을 한 번 부르는 비용도 바이트로 센 것보다 커요. 두 곡선의 꼭대기가 어느
# `γ`에 있는지 견줘 보세요. 모델이 커지면 두 모델의 비용이 모두 바이트에 가까워져요.

# %% [markdown] id="limit-seen" lang="en"
# Left: the further ahead, the more easily the points leave the formula. It takes each place to be accepted independently, but real
# text has easy places that **come in stretches**: the text with the `|` marks ran far ahead in some parts and stopped often in others.
# Some of it is chance, since the texts are short.
#
# Right: the speed rises and falls again, since guessing further means more time for **proposals that are thrown away**. The gap to the
# limit has the same reason as in 4.1: in a model this small, Python takes far longer to issue each operation than the weights take
# to be read. That is also why a draft's call costs more here than its bytes say: compare at which `γ` the two curves
# peak. As models grow, both costs come close to their bytes.

# %% [markdown] id="lookup" lang="ko" reviewed="b46b5110e891"
# ## 따라 해 보기: 초안 모델 없이
#
# 초안 모델을 하나 더 올릴 메모리가 없거나, 토큰이 같은 작은 모델이 없을 때도 있어요. 그런데 요약하거나 코드를 고치는 일에서는 답의 많은 부분이 **앞에 나온
# 글의 되풀이**예요. 그렇다면 지금까지의 글에서 방금 쓴 세 토큰과 같은 곳을 찾아, 그 뒤에 나왔던 토큰을 그대로 제안하면 어떨까요? 프롬프트 룩업(prompt
# lookup)이라는 방법이에요. 모델이 없으니 초안을 쓰는 비용은 거의 0이고, 찾지 못하면 제안하지 않아요. 토큰마다 하나로 정해져 있으니 `q`는 그 토큰에 1을 준
# 분포예요.
#
# 여러분의 `speculate`는 누가 초안을 썼는지 묻지 않으니 그대로 쓸 수 있어요. 두 가지 일에서 초안 모델과 견줘 볼게요. 하나는 이어 쓰기이고, 하나는 문서의
# 한 단락을 보여 주고 **그 단락을 다시 베껴 쓰게** 하는 일이에요. 우리 작은 모델은 베껴 쓰는 일을 잘 못하니, 답을 정해 두고(진짜 단락) 그 답을 따라가며 제안이
# 얼마나 맞는지만 세요.

# %% [markdown] id="lookup" lang="en"
# ## A worked example: without a draft model
#
# Sometimes there is no memory for a second model, or no small model with the same tokens. But when a text is summarised or code
# is mended, much of the answer **repeats what stands before it**. So look for the three latest tokens earlier in the text, and
# propose what came after them there. This is called prompt lookup. There is no model, so drafting costs next to nothing; where
# nothing is found, nothing is proposed. Each token is certain, so `q` gives it probability 1.
#
# Your `speculate` does not ask who wrote the draft, so it works as it is. We compare it with the draft model in two kinds of work:
# writing on, and **copying out** a paragraph of a document that was just shown. Our small model is no good at copying, so there we
# fix the answer (the true paragraph), follow it, and only count how many proposals are right.

# %% id="lookup-code" kind="locked"
def lookup(tokens, gamma, size=3):
    latest = tokens[-size:]
    for start in range(len(tokens) - size - 1, -1, -1):
        if tokens[start : start + size] == latest:
            return tokens[start + size : start + size + gamma]
    return []


def lookup_drafter(tokens, gamma):
    proposed = lookup(tokens, gamma)
    return proposed, torch.nn.functional.one_hot(torch.tensor(proposed, dtype=torch.long), 256)


print(repr(academy_lm.decode(lookup(academy_lm.encode("a list of names, a lis"), 8))))

# %% id="lookup-measure" kind="demo"
def calls_to_follow(drafter, before, text, gamma):
    done = calls = 0
    while done < len(text):
        proposed = drafter(before + text[:done], gamma)[0]
        right = 0
        while right < len(proposed) and text[done : done + right + 1] == proposed[: right + 1]:
            right += 1
        done, calls = done + right + 1, calls + 1
    return calls


with when_solved():
    drafters = {"draft": lambda: drafting(Session(draft_model)), "lookup": lambda: lookup_drafter}
    for name, make in drafters.items():
        writing = copying = 0
        for seed in range(4):
            target = Session(target_model)
            speculate(target, make(), encoded(seed), 150, 8, 0.0)
            writing += 150 / target.calls / 4
            paragraph = HELD_OUT[3000 * seed + 500 : 3000 * seed + 650]
            copying += 150 / calls_to_follow(make(), paragraph, paragraph, 8) / 4
        print(
            hint(
                "lookup-line", name=f"{name:6}", writing=f"{writing:.2f}", copying=f"{copying:.2f}"
            )
        )

# %% [markdown] id="lookup-seen" lang="ko" reviewed="71c1262e9809"
# 이어 쓰기에서는 초안 모델이, 베껴 쓰기에서는 프롬프트 룩업이 훨씬 많이 맞혀요. 룩업의 라운드는 초안을 부르지 않으니 그만큼 싸기도 하고요. 모든 일에 좋은 초안은 없어요.
# **어떤 글을 쓰는 서비스인가**가 초안을 정해요. (이어 쓰기에서 룩업이 얻은 것은 조심해서 보세요. 작은 모델은 탐욕으로 쓰면 했던 말을 되풀이하는 버릇이 있어요.)

# %% [markdown] id="lookup-seen" lang="en"
# In writing on, the draft model is right far more often; in copying, prompt lookup is. And a round of lookup calls no draft, which
# makes it cheaper, too. No draft is best at everything: **what a service writes** decides. (Be careful with what lookup gains in
# writing on: a small model that writes greedily tends to repeat itself.)

# %% [markdown] id="loses" lang="ko" reviewed="53f15551988f"
# ## 추측 디코딩이 손해일 때
#
# 세 가지를 재 볼게요.
#
# 1. **초안이 엉터리라면**: 아무것도 배우지 않은, 크기가 같은 초안 모델이에요.
# 2. **욕심을 부리면**: 16개씩 추측해요.
# 3. **손님이 많으면**: 여러 건을 함께 처리하면 타깃은 이미 계산으로 바빠요. 배치 크기와 대화의 길이를 바꿔 가며 타깃과 초안을 부르는 시간을 재고, 여러분의
#    `best_gamma`에게 몇 개씩 추측할지 물어요.

# %% [markdown] id="loses" lang="en"
# ## Where speculation loses
#
# Let us measure three cases.
#
# 1. **A bad draft**: a draft model of the same size that has learnt nothing.
# 2. **Greed**: guessing 16 ahead.
# 3. **Many customers**: with many requests together the target is busy computing. We time the target's and the draft's calls at
#    several batch sizes and lengths of conversation, and ask your `best_gamma` how far to guess ahead.

# %% id="loses-code" kind="demo"
untrained = academy_lm.Model(layers=1, heads=2, width=64, seed=1)
with when_solved():
    for key, gamma, draft in [
        ("loses-good", 4, draft_model),
        ("loses-bad", 4, untrained),
        ("loses-greedy", 16, draft_model),
    ]:
        found = speedup(
            lambda seed, n: write_speculated(seed, n, gamma, draft),
            write_alone,
            lambda i: (i, 64),
            same_start,
            rounds=7,
        )
        print(hint(key, found=f"{found.ratio:.2f}"))
    print()
    for context in (8, 200):
        for batch in (1, 16, 128):
            verify = call_seconds(target_model, range(1, 7), batch, context, repeats=7)
            draft = call_seconds(draft_model, [1], batch, context, repeats=7)[0]
            rate = [tokens_per_call(rates[0.0], g) / (verify[g] + g * draft) for g in range(6)]
            best = best_gamma(rates[0.0], draft, verify)
            figures = {
                "grows": verify[4] / verify[0],
                "gain": rate[best] / rate[0],
                "four": rate[4] / rate[0],
            }
            texts = {name: f"{figure:.2f}" for name, figure in figures.items()}
            print(
                hint("loses-batch", context=f"{context:3}", batch=f"{batch:3}", best=best, **texts)
            )

# %% [markdown] id="loses-seen" lang="ko" reviewed="df307b421fd0"
# 1과 2에서는 답이 틀리지 않고 **느려지기만** 해요. 그래서 더 위험해요. 시험은 모두 통과하니, 재 보지 않으면 모르고 지나가거든요.
#
# 3에서 배치가 커질수록 토큰 5개를 읽는 비용이 5배 쪽으로 올라가고, 배치가 128이면 16일 때보다 추측의 이득이 줄어요. 한 번 읽은 가중치를 이미 여러 손님이 나눠 쓰고 있어서,
# 더 나눠 가질 것이 적기 때문이에요. 4.4의 연속 배칭과 추측 디코딩은 **같은 여유를 두고 다퉈요.** 배치 1에서 16으로 갈 때는 이득이 오히려 늘기도 해요. 모델이 이렇게 작으면 손님이
# 하나일 때는 초안의 시간도 대부분 파이썬이 연산을 시키는 시간이라, 타깃에 견주어 초안이 비싸거든요. 1배보다 작은 줄이 있나요? 여러분의 컴퓨터에서는 어느 배치부터인가요?
#
# 대화의 길이(8과 200)에 따라서도 견줘 보세요. 대화가 길면 손님마다 따로 읽는 키와 값이 시간을 차지하고, 그 읽기는 추측한 토큰들이 나눠 쓸 수 있어요. 그래서 긴 대화에서는
# 배치가 커도 이득이 남는다는 연구가 있어요(더 읽어 보기의 MagicDec). 이렇게 작은 모델에서 잰 값에도 그런 차이가 보이나요? 서버는 배치와 길이를 보고 그때그때 `gamma`를 정해요.
# 0도 답이에요.

# %% [markdown] id="loses-seen" lang="en"
# In cases 1 and 2 no answer is wrong: it only **becomes slower**. That is what makes them dangerous, since every test passes: you
# never know unless you measure.
#
# In case 3, the larger the batch, the further the price of reading 5 tokens climbs towards 5x, and at 128 the gain is smaller than at
# 16: one reading of the weights is shared by many customers already, and less is left to share. Continuous batching (4.4) and speculation
# **compete for the same slack**. From 1 to 16 the gain may even grow: with a single customer and models this small, most of a
# draft's time, too, goes into issuing operations from Python, so the draft is dear compared with the target. Is there a line below
# 1x? From which batch on, on your machine?
#
# Compare the lengths of conversation, too (8 and 200). In a long one, each customer's own keys and values take much of the time, and
# guessed tokens can share that reading. Researchers found that a gain therefore remains in large batches when conversations are long
# (MagicDec, under "Read on"). Do your figures, from a model this small, show such a difference? Servers choose `gamma` as they go, by batch
# and length. 0 is an answer, too.

# %% [markdown] id="gpu" lang="ko" reviewed="299658fc73dc"
# ## 타깃이 훨씬 크다면, 그리고 GPU에서
#
# 서비스에서는 초안이 타깃의 수십 분의 1인 일이 흔해요. 그런 짝은 이 노트북에 담기에 너무 크니 **흉내 낸 짝**을 만들어요. 아래 `deepened`는 우리 모델 위에 층을 더 쌓아 32층으로 만들어요.
# 더한 층은 난수이지만 힘을 줄여 놓아서, 답은 원래 모델과 조금만 달라요. 그래서 원래의 4층 모델이 비용은 8분의 1이면서 꽤 잘 맞히는 초안이 돼요. 똑똑한 모델은 아니지만
# **무엇을 어떤 순서로 계산하는지는 큰 타깃과 작은 초안의 짝과 같아요.**
#
# 여러분의 코드는 세션만 다루니 고칠 것 없이 GPU에서도 돌아요. GPU가 있는 곳에서는 추측 디코딩이 **1.3배 이상** 빨라야 해요. 이 단원의 기준을 GPU에서 맞춰 볼
# 때까지는 결과를 보여 주기만 하고 점수에는 넣지 않아요. GPU가 없으면 건너뛰어요.

# %% [markdown] id="gpu" lang="en"
# ## With a far larger target, and on a GPU
#
# In services the draft often has only a few hundredths of the target's size. Such a pair is too large for this notebook, so we make a **stand-in**:
# `deepened` below puts more layers on top of our model, 32 in all. The added layers are random but toned down, so the answers differ
# from the original model's only a little. The original model of 4 layers is then a draft that costs an eighth and is right quite
# often. It is no clever model, but **what is computed, and in which order, is as with a large target and a small draft**.
#
# Your code deals with sessions only, so it runs on a GPU as it is. Where there is a GPU, speculation must be **at least 1.3 times**
# faster. Until this unit has been calibrated on a GPU, the figure is reported and not graded. Without a GPU this is left out.

# %% id="gpu-code" kind="locked"
def deepened(model, layers, seed=0):
    deep = academy_lm.Model(layers, model.heads, model.width, dtype=model.dtype, seed=seed)
    for name, weight in deep.weights().items():
        if name in model.weights():
            weight.copy_(model.weights()[name])
        elif name.startswith(("out", "down")):
            weight.mul_(0.5)
    return deep


def moved(model, device):
    for name in ("token_table", "position_table", "head"):
        setattr(model, name, getattr(model, name).to(device))
    for name in ("qkv", "out", "up", "down"):
        setattr(model, name, [weight.to(device) for weight in getattr(model, name)])
    return model


@cache
def pair(device, layers=32):
    draft = academy_lm.load(dtype=torch.float64)
    return moved(deepened(draft, layers), device), moved(draft, device)


def deep_alone(device, seed, n):
    return alone(Session(pair(device)[0]), encoded(seed), n)


def deep_speculated(device, seed, n, gamma=4):
    target, draft = pair(device)
    return speculated(Session(target), Session(draft), encoded(seed), n, gamma)

# %% id="gpu-demo" kind="demo"
with when_solved():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = speedup(
        lambda seed: deep_speculated(device, seed, 32),
        lambda seed: deep_alone(device, seed, 32),
        lambda i: (i,),
        lambda a, b: a == b,
        rounds=3,
        gpu=device == "cuda",
    )
    print(
        hint("deep-line", layers=pair(device)[0].layers, device=device, found=f"{found.ratio:.2f}")
    )

# %% id="test-gpu" kind="test" points=2 gpu=true
if gpu():
    torch.seed()
    seed = torch.initial_seed() % 1_000_000
    reached = speedup(
        lambda i, n: submission.deep_speculated("cuda", i, n),
        lambda i, n: deep_alone("cuda", i, n),
        lambda i: (seed + i, 96),
        lambda a, b: plain(a) == plain(b),
        gpu=True,
    )
    gate("gpu-speculate", reached, 1.3, hint("gpu-speed"))

# %% [markdown] id="money" lang="ko" reviewed="6df7dbd36618"
# ## 돈으로 말하기
#
# 여러분이 잰 시간으로 값을 매겨 봐요. `won_per_hour`는 예로 든 숫자이니 여러분이 쓰는 서버의 값으로 바꿔 보세요. 줄마다 온도와 수락률이 다르고, `γ = 0`이 추측하지 않는
# 값이에요. 추측은 **손님이 적을 때** 값과 기다리는 시간을 함께 줄여요. 마지막 줄은 추측하지 않고 16건을 함께 처리한 값이에요. 손님이 많으면 4.4의 연속 배칭이 값을 훨씬 더
# 내리고, 그때는 추측이 오히려 값을 올릴 수 있어요.

# %% [markdown] id="money" lang="en"
# ## Say it in money
#
# Put a price on what you measured. `won_per_hour` is an example: put in that of a server you use. Temperature and acceptance rate
# change from line to line, and `γ = 0` is the price without speculation. With **few customers** speculation lowers both the price and
# the waiting. The last line is the price without speculation when 16 requests are served together: with many customers, continuous
# batching (4.4) lowers the price far more, and speculation may then raise it.

# %% id="money-code" kind="demo"
won_per_hour = 200

with when_solved():
    verify = call_seconds(target_model, range(1, 10))
    draft = call_seconds(draft_model, [1])[0]
    for temperature in (0.0, 0.5, 1.0):
        a = rates[temperature]
        for gamma in sorted({0, best_gamma(a, draft, verify), 8}):
            won = won_per_million(a, gamma, draft, verify, won_per_hour)
            print(hint("price-line", temperature=temperature, gamma=gamma, won=f"{won:,.1f}"))
    shared = call_seconds(target_model, [1], batch=16)[0] / 16
    won = won_per_million(0, 0, draft, [shared], won_per_hour)
    print(hint("price-batch", batch=16, won=f"{won:,.1f}"))

# %% [markdown] id="question" lang="ko" reviewed="b73a46a66151"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 여러분의 회사가 코드를 고쳐 주는 도우미를 서비스해요. 손님은 파일 하나를 통째로 주고, 답은 대부분 그 파일을 조금 고쳐서 다시 쓴 것이에요. 낮에는 128건을
# 한꺼번에 처리하고 새벽에는 한두 건뿐이에요. 동료는 "초안 모델을 하나 더 올려서 늘 8개씩 추측하자"고 해요. **위에서 여러분이 잰 값**을 근거로 6~10문장으로
# 답하세요. (1) 초안은 무엇으로 쓰겠어요? 왜요? (2) 낮과 새벽에 `gamma`를 각각 얼마로 하겠어요? (3) 추측을 켜도 답의 품질이 그대로라는 것을 회사에 어떻게
# 증명하겠어요? 글을 읽어 보는 것만으로는 왜 부족할까요? (4) 서비스하는 동안 무엇을 재어야, 추측이 손해가 되었을 때 바로 알 수 있을까요?
#
# *채점 기준*: 되풀이되는 글이라는 점과 잰 값으로 초안을 골랐다(1점), 배치와 길이에 따라 `gamma`를 다르게 정하고 잰 값을 들었다(1점), 탐욕은 토큰으로, 샘플링은
# 분포로 시험해야 한다고 말하고 까닭을 댔다(1점), 수락률이나 호출당 토큰과 걸린 시간을 함께 재서 끄는 기준을 말했다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# Your company serves an assistant that mends code. A customer hands in a whole file, and most of an answer is that file written again
# with a few changes. By day 128 requests are served together, before dawn one or two. A colleague says: "let us load a draft model as
# well and always guess 8 ahead." Using **what you measured above**, answer in 6 to 10 sentences: (1) what would you draft with, and
# why? (2) which `gamma` by day, and which before dawn? (3) how do you prove to the company that quality stays the same, and why is
# reading the texts not enough? (4) what do you measure while serving, so that you know at once when speculation has begun to lose?
#
# *Rubric*: chooses the draft by the repetition in the text and by measured figures (1 point); sets `gamma` by batch and length,
# with measured figures (1 point); tests tokens when greedy and the distribution when sampling, and says why (1 point); watches the
# acceptance rate or tokens a call together with the time, and says when to switch off (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="4ffa5c2364ab"
# ## 더 읽어 보기
#
# - Stern 외, *Blockwise Parallel Decoding for Deep Autoregressive Models* (2018): 여러 토큰을 미리 쓰고 한 번에 검사하자는 생각의 시작
# - Leviathan 외, *Fast Inference from Transformers via Speculative Decoding* (2022), Chen 외, *Accelerating Large Language Model Decoding
#   with Speculative Sampling* (2023): 과제 2, 3의 규칙과 과제 6의 식이 나온 두 논문
# - Cai 외, *Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads* (2024): 초안 모델 없이 타깃에 머리를 더 다는 법
# - Li 외, *EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty* (2024): 타깃의 속마음(특징)을 보고 초안을 쓰는 법
# - Liu 외, *Optimizing Speculative Decoding for Serving Large Language Models Using Goodput* (2024): 손님의 수에 따라 `gamma`를 그때그때 정하는 법
# - Sadhukhan 외, *MagicDec: Breaking the Latency-Throughput Tradeoff for Long Context Generation with Speculative Decoding* (2024): 대화가 길면 배치가
#   커도 이득이 남는 까닭

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Stern et al., *Blockwise Parallel Decoding for Deep Autoregressive Models* (2018): where writing several tokens ahead and checking
#   them at once began
# - Leviathan et al., *Fast Inference from Transformers via Speculative Decoding* (2022), and Chen et al., *Accelerating Large Language
#   Model Decoding with Speculative Sampling* (2023): the rule of tasks 2 and 3, the formula of task 6
# - Cai et al., *Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads* (2024): no draft model, but more heads
#   on the target
# - Li et al., *EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty* (2024): a draft that looks at the target's features
# - Liu et al., *Optimizing Speculative Decoding for Serving Large Language Models Using Goodput* (2024): `gamma` chosen as load changes
# - Sadhukhan et al., *MagicDec: Breaking the Latency-Throughput Tradeoff for Long Context Generation with Speculative Decoding* (2024):
#   why a gain remains in large batches when conversations are long
