# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="e87ae341a549"
# # 4.4 연속 배칭
#
# **이 단원을 마치면** 길이가 제각각인 요청을 토큰 한 단계마다 새로 묶는 스케줄러를 직접 만들 수 있어요. 함께 처리해도 답이 달라지지
# 않고 아무도 무한정 기다리지 않는다는 것을 증명하고, 배치를 키울 때 무엇을 얻고 무엇을 잃는지 재서, 백만 토큰에 드는 돈으로 말할 수
# 있어요.
#
# **왜 중요할까요?** 4.1에서 보았듯이 토큰 하나를 만들려면 가중치 전체를 읽어야 해요. 여러 사람의 요청을 함께 처리하면 한 번 읽은
# 가중치를 여럿이 나눠 써요. 그런데 어떤 답은 열 토큰에 끝나고 어떤 답은 천 토큰까지 이어져요. 모두 끝날 때까지 묶어 두면 먼저 끝난
# 자리는 놀고, 새로 온 사람은 줄에서 기다려요. 오늘날의 언어 모델 서버는 거의 모두 **단계마다** 끝난 요청을 내보내고 기다리던 요청을
# 들여요. 같은 서버로 손님을 몇 배나 더 받는 차이가 여기서 나와요.
#
# **걸리는 시간** 6시간 · **먼저 알아야 할 것** KV 캐시, 프리필과 디코드(4.1)

# %% [markdown] id="title" lang="en"
# # 4.4 Continuous batching
#
# **After this unit** you can write a scheduler that regroups requests, short and long, at every token. You prove that
# being served together changes no answer and that nobody waits forever, measure what a larger batch gains and what it costs,
# and put it in money: the price of a million tokens.
#
# **Why it matters.** As 4.1 showed, making one token means reading all the weights. Serve several people together, and they
# share one reading. But one answer ends after ten tokens and another goes on for a thousand. If a batch stays together until
# all are done, the places of those that ended early stand empty while newcomers queue. Nearly every language model server today
# lets finished requests out and waiting ones in **at every step**. It is the difference between one server and several.
#
# **Time** 6 hours · **Before you start** the KV cache, prefill and decode (4.1)

# %% id="setup" kind="locked"
import copy
import random
import time
from collections import deque

import matplotlib.pyplot as plt
import torch

import academy_lm
from academy_lm.model import attend
from grading.checks import gate, gpu, hint, speedup, submission, when_solved

torch.set_num_threads(1)

# %% [markdown] id="model" lang="ko" reviewed="5d67e345a959"
# ## 4.1에서 쓴 그 모델
#
# `academy_lm`은 이 과목이 함께 쓰는 작은 언어 모델이에요. 4.1에서 쓴 것과 같은 모델이고(층 4개, 헤드 4개, 폭 128), 파이썬에 들어 있는 영어
# 문서로 미리 학습해 두었어요. 토큰 하나는 UTF-8 바이트 하나예요. `encode`는 글을 토큰으로, `decode`는 토큰을 글로 바꿔요. 똑똑하지는
# 않지만 그럴듯한 단어를 쓰고, 무엇보다 **답의 길이가 저마다 달라요.**

# %% [markdown] id="model" lang="en"
# ## The model of 4.1 again
#
# `academy_lm` is the small language model of this course, the same as in 4.1 (4 layers, 4 heads, width 128). It was trained
# beforehand on the English documentation that comes with Python. A token is one byte of UTF-8; `encode` turns text into tokens
# and `decode` turns them back. It is not clever, but it writes plausible words, and, what matters here, **its
# answers differ in length**.

# %% id="model-code" kind="locked"
model = academy_lm.load()
exact = academy_lm.load(dtype=torch.float64)
BEGINNINGS = ["The value of ", "A class ", "If the ", "When an object ", "Note that ", "This is "]


def draw_requests(seed, n, shortest, longest):
    generator = random.Random(seed)
    requests = []
    for _ in range(n):
        text = generator.choice(BEGINNINGS) + generator.choice("abcdefghilmnoprstuvw")
        requests.append((academy_lm.encode(text), generator.randint(shortest, longest)))
    return requests


print(f"{model.weight_bytes() / 1e6:.1f} MB")
print(draw_requests(seed=0, n=2, shortest=8, longest=64))

# %% [markdown] id="engine" lang="ko" reviewed="3051786f5981"
# ## 엔진: 자리가 여럿인 모델
#
# `Engine(model, slots)`은 자리(slot)가 `slots`개인 모델이에요. 자리마다 KV 캐시가 따로 있어서, 길이가 다른 요청을 한 번에 디코드할 수
# 있어요. 셋째 인자로 한 자리에 들어갈 토큰의 수를 줄 수 있고, 주지 않으면 모델이 다룰 수 있는 가장 긴 길이(512)예요. **여러분은 엔진을 고치지 않아요.** 누구를 언제 어느 자리에 앉힐지만 정해요. 그것이 스케줄러예요.
#
# | 하는 일 | 뜻 | 돌려주는 값 |
# |---|---|---|
# | `prefill(slot, prompt)` | 빈자리에 요청을 앉히고 프롬프트를 계산 | 첫 토큰 |
# | `decode(slots, tokens)` | 앉아 있는 자리들에 직전 토큰을 하나씩 넣고 **한 단계** 나아감 | 다음 토큰의 리스트, 같은 순서 |
# | `release(slot)` | 자리를 비움 | 없음 |
#
# `decode`에는 길이가 같은 두 **리스트**를 줘요. 규칙을 어기면(찬 자리에 또 앉히기, 빈자리를 디코드하기) `ValueError`가 나요. 엔진은
# 일을 세어 둬요. `steps`는 디코드를 몇 단계 했는지, `rows`는 그때 처리한 토큰이 모두 몇 개인지, `log`는 누가 언제 앉고 일어났는지예요.
#
# `Rehearsal(slots)`은 모델 없이 같은 규칙을 따르는 연습용 엔진이에요. 다음 토큰을 간단한 산수로 정하기 때문에 아주 빨라서, 스케줄러를
# 수백 건으로 시험할 때 써요.

# %% [markdown] id="engine" lang="en"
# ## The engine: a model with several slots
#
# `Engine(model, slots)` is a model with `slots` places. Each slot has a KV cache of its own, so requests of different lengths
# can be decoded at once. A third argument says how many tokens a slot holds; without it, as many as the model can take (512).
# **You do not change the engine.** You decide who sits where, and when: that is what a scheduler does.
#
# | what it does | meaning | returns |
# |---|---|---|
# | `prefill(slot, prompt)` | puts a request into a free slot and computes its prompt | the first token |
# | `decode(slots, tokens)` | gives each of these slots its latest token and goes on **one step** | the next tokens, in the same order |
# | `release(slot)` | frees a slot | nothing |
#
# `decode` takes two **lists** of equal length. Breaking the rules (a second request in one slot, decoding a free
# slot) raises `ValueError`. The engine counts its work: `steps` is the number of decode steps, `rows` the number of tokens
# processed in them, and `log` says who sat down and got up when.
#
# `Rehearsal(slots)` is an engine for practice: the same rules, no model. It makes up the next token with a little arithmetic,
# so it is very fast, and a scheduler can be tried with hundreds of requests.

# %% id="engine-code" kind="locked"
class Slots:
    def __init__(self, slots):
        self.slots, self.used, self.log = slots, set(), []
        self.steps = self.rows = self.prefills = 0

    def prefill(self, slot, prompt):
        slot = int(slot)
        if slot in self.used or not 0 <= slot < self.slots:
            raise ValueError(hint("engine-prefill", slot=slot))
        self.used.add(slot)
        self.prefills += 1
        self.log.append(("in", slot, self.steps, list(prompt)))
        return self.first(slot, [int(token) for token in prompt])

    def decode(self, slots, tokens):
        slots, tokens = [int(slot) for slot in slots], [int(token) for token in tokens]
        matched = len(slots) == len(tokens) == len(set(slots)) > 0
        if not matched or not self.used >= set(slots):
            raise ValueError(hint("engine-decode", slots=slots, used=sorted(self.used)))
        self.steps += 1
        self.rows += len(slots)
        return self.following(slots, tokens)

    def release(self, slot):
        slot = int(slot)
        if slot not in self.used:
            raise ValueError(hint("engine-release", slot=slot))
        self.used.remove(slot)
        self.log.append(("out", slot, self.steps, None))


class Engine(Slots):
    def __init__(self, model, slots, longest=None):
        super().__init__(slots)
        self.model, self.device = model, model.head.device
        self.longest = min(longest or model.longest, model.longest)
        shape = (model.layers, slots, model.kv_heads, self.longest, model.size)
        self.keys = torch.zeros(shape, dtype=model.dtype, device=self.device)
        self.values = torch.zeros_like(self.keys)
        self.lengths = [0] * slots

    def first(self, slot, prompt):
        self.lengths[slot] = 0
        return self.forward([slot], [prompt])[0]

    def following(self, slots, tokens):
        return self.forward(slots, [[token] for token in tokens])

    def forward(self, slots, tokens):
        past, t = [self.lengths[slot] for slot in slots], len(tokens[0])
        longest = max(past) + t
        if longest > self.longest:
            raise ValueError(hint("engine-long", longest=self.longest))
        tokens, rows, past = (torch.tensor(x, device=self.device) for x in (tokens, slots, past))
        at = past[:, None] + torch.arange(t, device=self.device)
        mask = (torch.arange(longest, device=self.device) <= at[:, :, None])[:, None]
        chosen = slice(None) if slots == list(range(self.slots)) else rows
        x = self.model.token_table[tokens] + self.model.position_table[at]
        for layer in range(self.model.layers):
            q, k, v = self.model.project(layer, x)
            keys, values = self.keys[layer], self.values[layer]
            keys[rows[:, None], :, at] = k.transpose(1, 2)
            values[rows[:, None], :, at] = v.transpose(1, 2)
            mixed = attend(q, keys[chosen, :, :longest], values[chosen, :, :longest], mask)
            x = self.model.finish(layer, x, mixed)
        for slot in slots:
            self.lengths[slot] += t
        return self.model.logits(x[:, -1:])[:, 0].argmax(dim=-1).tolist()


def on_device(model, device):
    moved = copy.copy(model)
    for name in ("token_table", "position_table", "head"):
        setattr(moved, name, getattr(model, name).to(device))
    for name in ("qkv", "out", "up", "down"):
        setattr(moved, name, [weight.to(device) for weight in getattr(model, name)])
    return moved


class Rehearsal(Slots):
    def __init__(self, slots):
        super().__init__(slots)
        self.sums = {}

    def first(self, slot, prompt):
        self.sums[slot] = 7
        for token in prompt:
            self.sums[slot] = (31 * self.sums[slot] + token + 1) % 65521
        return self.sums[slot] % 97

    def following(self, slots, tokens):
        for slot, token in zip(slots, tokens):
            self.sums[slot] = (31 * self.sums[slot] + token + 1) % 65521
        return [self.sums[slot] % 97 for slot in slots]

# %% [markdown] id="example" lang="ko" reviewed="41b828dcd93c"
# ## 따라 해 보기: 둘을 한 번에
#
# 요청은 두 가지 가운데 하나가 되면 끝나요. 토큰 `most`개를 만들었거나, 방금 만든 토큰이 `stop`이거나. `stop`도 답에 들어가요. 아래
# `alone`은 요청 하나를 혼자 처리해요. **첫 토큰은 프리필이 만든다**는 데 주의하세요. 토큰 n개를 만드는 데 디코드는 n-1단계면 돼요.
#
# 이어서 두 요청을 자리 0과 1에 앉히고 함께 나아가 볼게요. 프롬프트의 길이가 서로 다른데도 한 번에 계산하고, 답은 혼자일 때와 같아요.

# %% [markdown] id="example" lang="en"
# ## A worked example: two at once
#
# A request ends in one of two ways: it has made `most` tokens, or the token just made is `stop`. The stop token belongs to the
# answer. `alone` below serves one request by itself. Note that **prefill makes the first token**: n tokens take n-1 decode
# steps.
#
# Then we put two requests into slots 0 and 1 and go on with both. Their prompts differ in length, yet they are computed at
# once, and each answer is what it was alone.

# %% id="example-code" kind="locked"
def alone(engine, prompt, most, stop=None):
    tokens = [engine.prefill(0, prompt)]
    while len(tokens) < most and tokens[-1] != stop:
        tokens += engine.decode([0], tokens[-1:])
    engine.release(0)
    return tokens


def one_by_one(engine, requests):
    return [alone(engine, prompt, most) for prompt, most in requests]

# %% id="example-two" kind="locked"
engine = Engine(exact, slots=2)
prompts = [academy_lm.encode("The value of the "), academy_lm.encode("If ")]
texts = [[engine.prefill(slot, prompt)] for slot, prompt in enumerate(prompts)]
for _ in range(39):
    following = engine.decode([0, 1], [text[-1] for text in texts])
    for text, token in zip(texts, following):
        text.append(token)
for prompt, text in zip(prompts, texts):
    print(repr(academy_lm.decode(prompt + text)), text == alone(Engine(exact, 1), prompt, 40))
print(engine.steps, engine.rows)

# %% [markdown] id="example-seen" lang="ko" reviewed="f36a62963f93"
# 답이 같은지 확인할 때는 64비트 모델 `exact`를 써요. 32비트에서는 행이 하나일 때와 여럿일 때 덧셈의 순서가 달라서 로짓의 끝자리가
# 달라지고, 1등과 2등이 거의 비긴 자리에서는 드물게 다른 토큰이 뽑히거든요. 실제 서비스에서도 같은 질문의 답이 그때그때 조금 다른
# 까닭 가운데 하나예요.

# %% [markdown] id="example-seen" lang="en"
# To see whether answers agree we use `exact`, the same model in 64 bits. In 32 bits one row and several are added up in
# different orders, which changes the last digits of the logits, and where first and second are nearly tied, now and then
# another token wins. It is one of the reasons why a real service answers the same question a little differently at times.

# %% [markdown] id="predict" lang="ko" reviewed="41ab275eba37"
# ## 먼저 예상해 보세요
#
# 요청을 하나씩 처리할 때와 견주어, **1초에 만드는 토큰 전체**는 몇 배가 될까요?
#
# 1. 두 건을 함께 처리하면?
# 2. 서른두 건을 함께 처리하면?
#
# 실행하기 전에 두 숫자를 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Compared with serving requests one at a time, how many times more **tokens a second, all together**, do you get
#
# 1. with two requests at once?
# 2. with thirty-two at once?
#
# Write both numbers down before you run on. They are not graded.

# %% id="guess"
two_guess = 2
many_guess = 32

# %% id="batch-code" kind="demo"
def step_seconds(slots, context=64, steps=24):
    engine, rows = Engine(model, slots), list(range(slots))
    prompt = academy_lm.encode("x" * context)
    tokens, times = [engine.prefill(row, prompt) for row in rows], []
    for _ in range(steps):
        began = time.thread_time()
        tokens = engine.decode(rows, tokens)
        times.append(time.thread_time() - began)
    return sorted(times)[steps // 2]


sizes = [1, 2, 4, 8, 16, 32, 64]
runs = [{slots: step_seconds(slots) for slots in sizes} for _ in range(3)]
measured = {slots: sorted(run[slots] for run in runs)[1] for slots in sizes}
gain = {slots: slots / measured[slots] * measured[1] for slots in sizes}
for slots in sizes:
    ms, rate = f"{1e3 * measured[slots]:5.2f}", f"{slots / measured[slots]:7,.0f}"
    print(hint("batch-line", slots=f"{slots:3}", ms=ms, rate=rate, gain=f"{gain[slots]:5.2f}"))
found = {"two_is": f"{gain[2]:.1f}", "many_is": f"{gain[32]:.1f}"}
print(hint("batch-guess", two=two_guess, many=many_guess, **found))

# %% [markdown] id="batch-seen" lang="ko" reviewed="b952c911b706"
# 함께 처리하는 요청을 두 배로 늘려도 한 단계의 시간은 대개 두 배가 되지 않아요. 그래서 1초에 만드는 토큰이 늘어요. 하지만 늘어나는
# 폭은 갈수록 줄고, 끝에 가서는 오히려 손해일 수도 있어요. 여러분의 출력은 어떤가요? 한 단계에는 몇 명이 앉아 있든 **똑같이 드는
# 비용**(가중치를 읽고, 파이썬이 연산을 하나하나 시키는 비용)과 **한 명마다 더 드는 비용**이 있기 때문이에요. 앞의 것은 여럿이 나눠 내지만 뒤의 것은 나눌 수 없어요. 두 비용이 각각 얼마인지는 뒤에서 재요.
#
# 여기서는 자리가 늘 꽉 차 있었어요. 실제로는 요청마다 길이가 달라서, 가만히 두면 자리가 비어요. 이제 그 문제를 풀어요.

# %% [markdown] id="batch-seen" lang="en"
# Twice as many requests seldom make a step twice as long, so more tokens come out a second. But the doublings gain less and
# less, and towards the end one may even lose. What do your lines say? A step has a cost that is
# **the same for any number of requests** (reading the weights, and Python issuing one operation after another) and a cost **for
# each request**. The first is shared; the second cannot be. Further down we measure both.
#
# Here every slot was always taken. Real requests differ in length, and left alone, slots fall empty. That is the problem to solve now.

# %% [markdown] id="task-count" lang="ko" reviewed="9f8b8d9daa6d"
# ## 과제 1. 몇 단계나 걸릴까 (쉬움)
#
# 만들기 전에 세어 봐요. `lengths[i]`는 i번째 요청에 필요한 디코드 단계의 수이고(프리필만으로 끝나는 요청은 0), 자리는 `slots`개예요. 두
# 함수 모두 **정수**를 돌려줘요. 합이 아무리 커도 정확해야 하니 부동소수점으로 나누지 마세요.
#
# - `static_steps(lengths, slots)`: 정적 배칭에 걸리는 단계. 온 순서대로 `slots`건씩 묶고, 한 묶음이 **모두 끝나야** 다음 묶음을 시작해요.
#   마지막 묶음은 `slots`건보다 적을 수 있어요.
# - `least_steps(lengths, slots)`: 어떤 스케줄러도 이보다 적게는 못 하는 단계. 한 단계에 많아야 `slots`개의 토큰을 만들 수 있고, 한
#   요청의 토큰은 한 단계에 하나씩만 만들 수 있어요. 이 두 가지 한계 가운데 더 센 쪽이에요.
#
# 요청이 없으면 둘 다 0이에요.

# %% [markdown] id="task-count" lang="en"
# ## Task 1. How many steps will it take (easy)
#
# Count before you build. `lengths[i]` is the number of decode steps that request i needs (0 if it is done after prefill), and
# there are `slots` slots. Both functions return **integers**, exact however large the sum: divide without floats.
#
# - `static_steps(lengths, slots)`: the steps that static batching takes. Requests are grouped as they came, `slots` at a time,
#   and a group begins only when **all** of the one before are done. The last group may be smaller.
# - `least_steps(lengths, slots)`: the steps that no scheduler can beat. One step makes at most `slots` tokens, and one request
#   gets at most one token a step. Of these two limits, the stronger one.
#
# Without requests both are 0.

# %% id="count" kind="solution"
def static_steps(lengths, slots):
    ### BEGIN SOLUTION
    return sum(max(lengths[start : start + slots]) for start in range(0, len(lengths), slots))
    ### END SOLUTION


def least_steps(lengths, slots):
    ### BEGIN SOLUTION
    return max(-(-sum(lengths) // slots), max(lengths, default=0))
    ### END SOLUTION

# %% id="test-count" kind="test" points=2
assert submission.static_steps([3, 9, 1, 2, 5], 2) == 16, hint("count-static")
assert submission.static_steps([4, 4, 4, 4], 4) == 4, hint("count-static")
assert submission.least_steps([3, 3, 3, 3], 2) == 6, hint("count-least")
assert submission.least_steps([1, 1, 20], 4) == 20, hint("count-longest")
### BEGIN HIDDEN TESTS
for _ in range(50):
    lengths = [random.randint(0, random.choice([1, 40])) for _ in range(random.randint(1, 30))]
    slots = random.randint(1, 12)
    expected, group = 0, []
    for length in lengths:
        group.append(length)
        if len(group) == slots:
            expected, group = expected + max(group), []
    expected += max(group) if group else 0
    found = submission.static_steps(lengths, slots)
    assert found == expected, hint("count-static")
    least = submission.least_steps(lengths, slots)
    bound = 0
    while bound * slots < sum(lengths) or bound < max(lengths):
        bound += 1
    assert least <= bound, hint("count-least")
    assert least == bound, hint("count-round-up")
    assert hasattr(found, "__index__") and hasattr(least, "__index__"), hint("count-integer")
assert submission.least_steps([10**17, 10**17, 10**17, 2], 3) == 10**17 + 1, hint("count-integer")
assert submission.static_steps([], 4) == submission.least_steps([], 4) == 0, hint("count-empty")
### END HIDDEN TESTS

# %% [markdown] id="task-scheduler" lang="ko" reviewed="5cbfee984d50"
# ## 과제 2. 스케줄러 (어려움)
#
# `Scheduler`의 세 메서드를 완성하세요. `waiting`은 기다리는 요청의 줄, `running`은 자리 번호에서 요청을 찾는 사전, `free`는 빈자리의
# 리스트예요. 요청(`Request`)은 번호 `number`, 프롬프트 `prompt`, 한도 `most`, 멈춤 토큰 `stop`(없으면 `None`), 지금까지 만든 `tokens`를 갖고 있어요.
#
# - `admit()`: 빈자리가 있고 기다리는 요청이 있는 동안, **먼저 온 요청부터** 자리에 앉혀요. 프리필이 만든 첫 토큰은 그 요청의
#   `tokens`에 넣어요. 이번에 앉힌 요청의 수를 돌려줘요.
# - `evict()`: 끝난 요청을 모두 내보내요. 엔진의 자리도 비우고(`release`), 그 자리는 다시 쓸 수 있어야 해요. 내보낸 요청마다
#   `(번호, 토큰 리스트)` 쌍을 리스트로 돌려줘요. 리스트 안의 순서는 상관없어요.
# - `step()`: 한 단계예요. 앉힐 수 있는 요청을 앉히고, 앉아 있는 요청 가운데 더 만들 것이 남은 **모두를** 한꺼번에 **한 번만**
#   디코드하고, 끝난 요청을 내보내요. 이번 단계에 끝난 요청들을 `evict`와 같은 꼴로 돌려줘요. 할 일이 없으면 엔진을 부르지 말고 빈
#   리스트를 돌려줘요.
#
# 조심할 곳이 두 군데예요. 어떤 요청은 **프리필만으로 끝나요**(`most`가 1이거나 첫 토큰이 `stop`일 때). 이런 요청을 디코드하면 토큰이
# 하나 더 생겨요. 이런 요청의 자리는 같은 단계에 다시 채워도 되고 다음 단계에 채워도 돼요. 그리고 `decode`가 돌려준 토큰이 **누구의
# 것인지** 헷갈리지 마세요. 요청은 온 순서와 다른 순서로 끝나요.

# %% [markdown] id="task-scheduler" lang="en"
# ## Task 2. The scheduler (hard)
#
# Complete three methods of `Scheduler`. `waiting` is the queue of waiting requests, `running` a dictionary from a slot's
# number to the request in it, `free` a list of free slots. A `Request` has its `number`, its `prompt`, its limit `most`, the
# `stop` token (`None` if there is none), and the `tokens` made so far.
#
# - `admit()`: while there is a free slot and somebody waits, seats a request, **first come, first served**. The first token,
#   which prefill makes, goes into the request's `tokens`. Returns how many were seated.
# - `evict()`: lets all finished requests out. The engine's slot is freed too (`release`), and can be used again. Returns a
#   list with a pair `(number, list of tokens)` for each, in any order.
# - `step()`: one step. Seats whom it can, decodes **all** seated requests that need more tokens together, **once**, and lets
#   the finished ones out. Returns those that finished in this step, as `evict` does. With nothing to do it leaves the engine
#   alone and returns an empty list.
#
# Two places need care. Some requests **are done after prefill** (`most` is 1, or the first token is `stop`); decoding them
# would make one token too many; their slots may be filled again in the same step or in the next. And keep track of **whose**
# the tokens are that `decode` returns: requests finish in another order than they came.

# %% id="scheduler" kind="solution"
class Request:
    def __init__(self, number, prompt, most, stop):
        self.number, self.prompt, self.most, self.stop = number, prompt, most, stop
        self.tokens = []


class Scheduler:
    def __init__(self, engine):
        self.engine = engine
        self.waiting = deque()
        self.running = {}
        self.free = list(range(engine.slots))

    def submit(self, number, prompt, most, stop=None):
        self.waiting.append(Request(number, prompt, most, stop))

    def admit(self):
        ### BEGIN SOLUTION
        admitted = 0
        while self.waiting and self.free:
            request, slot = self.waiting.popleft(), self.free.pop()
            request.tokens.append(self.engine.prefill(slot, request.prompt))
            self.running[slot] = request
            admitted += 1
        return admitted
        ### END SOLUTION

    def evict(self):
        ### BEGIN SOLUTION
        finished = []
        for slot, request in list(self.running.items()):
            if len(request.tokens) >= request.most or request.tokens[-1] == request.stop:
                self.engine.release(slot)
                self.free.append(slot)
                finished.append((request.number, self.running.pop(slot).tokens))
        return finished
        ### END SOLUTION

    def step(self):
        ### BEGIN SOLUTION
        finished = []
        while self.admit():
            finished += self.evict()
        if self.running:
            slots = sorted(self.running)
            latest = [self.running[slot].tokens[-1] for slot in slots]
            for slot, token in zip(slots, self.engine.decode(slots, latest)):
                self.running[slot].tokens.append(token)
        return finished + self.evict()
        ### END SOLUTION

# %% id="test-admit" kind="test" points=2
engine = Rehearsal(slots=3)
scheduler = submission.Scheduler(engine)
for number in range(5):
    scheduler.submit(number, [10 + number], most=4)
assert scheduler.admit() == 3, hint("admit-count", slots=3, waiting=5)
assert engine.prefills == 3 and engine.steps == 0, hint("admit-prefills")
assert [event[3] for event in engine.log] == [[10], [11], [12]], hint("admit-order")
assert scheduler.admit() == 0, hint("admit-full")
### BEGIN HIDDEN TESTS
assert engine.prefills == 3 and engine.used == {0, 1, 2}, hint("admit-full")
assert submission.Scheduler(Rehearsal(2)).admit() == 0, hint("admit-nobody")
engine = Rehearsal(slots=4)
scheduler = submission.Scheduler(engine)
scheduler.submit("a", [1, 2, 3], 9)
assert scheduler.admit() == 1 and len(engine.used) == 1, hint("admit-one")
scheduler.submit("b", [4], 9)
scheduler.submit("c", [5, 6], 9)
assert scheduler.admit() == 2 and len(engine.used) == 3, hint("admit-one")
scheduler = submission.Scheduler(Rehearsal(40))
for number in range(50):
    scheduler.submit(number, [number], 9)
assert scheduler.admit() == 40, hint("admit-count", slots=40, waiting=50)
### END HIDDEN TESTS

# %% id="test-evict" kind="test" points=2
engine = Rehearsal(slots=2)
scheduler = submission.Scheduler(engine)
scheduler.submit("short", [1, 2], most=1)
scheduler.submit("long", [3], most=5)
scheduler.admit()
found = scheduler.evict()
assert len(found) == 1 and found[0][0] == "short", hint("evict-prefill")
assert list(found[0][1]) == alone(Rehearsal(1), [1, 2], 1), hint("evict-tokens")
assert len(engine.used) == 1, hint("evict-release")
### BEGIN HIDDEN TESTS
assert list(scheduler.evict()) == [], hint("evict-twice")
scheduler.submit("next", [4], most=3)
assert scheduler.admit() == 1 and len(engine.used) == 2, hint("evict-reuse")
first = alone(Rehearsal(1), [8, 8], 1)[0]
engine = Rehearsal(slots=3)
scheduler = submission.Scheduler(engine)
for number, stop in enumerate([first, None, first + 1]):
    scheduler.submit(number, [8, 8], 7, stop)
scheduler.admit()
found = scheduler.evict()
assert [(number, list(tokens)) for number, tokens in found] == [(0, [first])], hint("evict-stop")
assert len(engine.used) == 2 and engine.steps == 0, hint("evict-release")
assert list(submission.Scheduler(Rehearsal(2)).evict()) == [], hint("evict-nobody")
scheduler = submission.Scheduler(Rehearsal(1))
scheduler.submit("zero", [73], 7, 0)
scheduler.admit()
found = scheduler.evict()
assert [(number, list(tokens)) for number, tokens in found] == [("zero", [0])], hint("evict-zero")
engine = Rehearsal(slots=5)
scheduler = submission.Scheduler(engine)
for number, (most, stop) in enumerate([(1, None), (7, first), (7, None), (1, first), (7, first)]):
    scheduler.submit(number, [8, 8], most, stop)
scheduler.admit()
found = sorted(number for number, _ in scheduler.evict())
assert found == [0, 1, 3, 4] and len(engine.used) == 1, hint("evict-all")
for number in range(5, 10):
    scheduler.submit(number, [number], 7)
assert scheduler.admit() == 4 and len(engine.used) == 5, hint("evict-reuse")
### END HIDDEN TESTS

# %% id="drive" kind="locked"
def drive(scheduler, arrivals, limit=10_000):
    arrivals, answers, steps = deque(arrivals), {}, 0
    wanted = len(arrivals)
    while len(answers) < wanted:
        assert steps < limit, hint("drive-endless", done=len(answers), wanted=wanted)
        while arrivals and arrivals[0][0] <= steps:
            scheduler.submit(*arrivals.popleft()[1:])
        for number, tokens in scheduler.step():
            assert number not in answers, hint("drive-twice")
            answers[number] = list(tokens)
        steps += 1
    return answers

# %% id="test-step" kind="test" points=4
engine = Rehearsal(slots=2)
scheduler = submission.Scheduler(engine)
scheduler.submit("a", [1], most=2)
scheduler.submit("b", [2], most=4)
scheduler.submit("c", [3], most=2)
first = [(number, list(tokens)) for number, tokens in scheduler.step()]
assert engine.steps == 1, hint("step-once", steps=engine.steps)
assert first == [("a", alone(Rehearsal(1), [1], 2))], hint("step-finished")
second = [(number, list(tokens)) for number, tokens in scheduler.step()]
assert second == [("c", alone(Rehearsal(1), [3], 2))], hint("step-refill")
assert drive(scheduler, []) == {} and engine.rows == 4, hint("step-rows")
### BEGIN HIDDEN TESTS
third = [(number, list(tokens)) for number, tokens in scheduler.step()]
assert third == [("b", alone(Rehearsal(1), [2], 4))], hint("step-text")
assert list(scheduler.step()) == [] and engine.steps == 3, hint("step-idle")
engine, calls = Rehearsal(slots=2), []
engine.decode = lambda *given: calls.append(given) or []
scheduler = submission.Scheduler(engine)
assert list(scheduler.step()) == [] and not calls, hint("step-idle")
scheduler.submit("d", [4], most=1)
fourth = [(number, list(tokens)) for number, tokens in scheduler.step()]
assert fourth == [("d", alone(Rehearsal(1), [4], 1))], hint("step-prefill")
assert not calls and engine.used == set(), hint("step-idle")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
class Watched:
    def __init__(self, engine):
        self.engine, self.scheduler = engine, submission.Scheduler(engine)
        self.submit = self.scheduler.submit

    def step(self):
        engine = self.engine
        steps, rows, seated, events = engine.steps, engine.rows, len(engine.used), len(engine.log)
        ended = list(self.scheduler.step())
        assert engine.steps <= steps + 1, hint("step-once", steps=engine.steps - steps)
        rows = engine.rows - rows
        assert rows >= seated, hint("step-all", rows=rows, seated=seated)
        left = sum(event[0] == "out" for event in engine.log[events:])
        assert len(ended) == left, hint("step-late", left=left, ended=len(ended))
        return ended


for slots in (1, 3, 8, 40):
    engine, expected, arrivals = Rehearsal(slots), {}, []
    for number in range(60):
        prompt = [random.randint(0, 96) for _ in range(random.randint(1, 20))]
        most = random.choice([1, 2, 3, 5, 8, 30])
        stop = random.choice([None, *alone(Rehearsal(1), prompt, most)])
        arrivals.append((random.randint(0, 12), 100 + number, prompt, most, stop))
        expected[100 + number] = alone(Rehearsal(1), prompt, most, stop)
    found = drive(Watched(engine), sorted(arrivals, key=lambda arrival: arrival[0]))
    for number, tokens in expected.items():
        assert found[number] == tokens, hint("step-several", slots=slots)
    assert engine.used == set() and engine.prefills == 60, hint("step-left")
    wanted = sum(len(tokens) - 1 for tokens in expected.values())
    assert engine.rows == wanted, hint("step-wasted", rows=engine.rows, wanted=wanted)
### END HIDDEN TESTS

# %% id="test-text" kind="test" points=3
newline = academy_lm.encode("\n")[0]
engine = Engine(exact, slots=2)
arrivals = [
    (0, 0, academy_lm.encode("The value "), 12, newline),
    (0, 1, academy_lm.encode("If x"), 5, newline),
    (2, 2, academy_lm.encode("A"), 9, newline),
]
found = drive(submission.Scheduler(engine), arrivals)
for _, number, prompt, most, stop in arrivals:
    expected = alone(Engine(exact, 1), prompt, most, stop)
    texts = [repr(academy_lm.decode(tokens)) for tokens in (found[number], expected)]
    text = hint("text-alone", number=number, found=texts[0], expected=texts[1])
    assert found[number] == expected, text
### BEGIN HIDDEN TESTS
for slots, n in [(5, 14), (16, 16)]:
    requests = draw_requests(random.random(), n, 1, 24)
    starts = sorted(random.randint(0, 9) for _ in requests)
    arrivals = [(start, i, *requests[i], newline) for i, start in enumerate(starts)]
    found = drive(submission.Scheduler(Engine(exact, slots)), arrivals)
    for number, (prompt, most) in enumerate(requests):
        expected = alone(Engine(exact, 1), prompt, most, newline)
        assert found[number] == expected, hint("text-several", slots=slots)
### END HIDDEN TESTS

# %% [markdown] id="task-fair" lang="ko" reviewed="d6a25519414c"
# ## 과제 3. 놀지 않고, 굶기지 않고
#
# 새로 짤 것은 없어요. 여러분의 스케줄러가 두 가지 약속을 지키는지 확인해요.
#
# - **자리를 놀리지 않기**: 기다리는 요청이 있는데 빈자리가 나면, 다음 단계에는 곧바로 누군가 앉아 있어야 해요. 먼저 온 순서로 빈자리를
#   바로바로 채우는 스케줄러의 단계 수보다 5% 넘게 더 쓰면 안 돼요.
# - **굶기지 않기**: 짧은 요청이 끝없이 밀려와도, 먼저 온 긴 요청이 뒤로 밀리면 안 돼요. 앉는 순서가 온 순서와 같아야 해요.

# %% [markdown] id="task-fair" lang="en"
# ## Task 3. No empty slot, nobody starves
#
# Nothing new to write: see whether your scheduler keeps two promises.
#
# - **No empty slots**: when a slot becomes free while somebody waits, it must be taken at the next step. Your steps may exceed
#   those of a scheduler that fills every free slot at once, first come, first served, by at most 5%.
# - **Nobody starves**: however many short requests keep coming, a long one that came before them must not be put off. Requests
#   are seated in the order in which they came.

# %% id="greedy" kind="locked"
def greedy_steps(lengths, slots):
    ends = [0] * slots
    for length in lengths:
        soonest = ends.index(min(ends))
        ends[soonest] += length
    return max(ends)


def varied_lengths(seed, n, typical=16, spread=0.8, longest=128):
    generator = random.Random(seed)
    drawn = [round(typical * generator.lognormvariate(0, spread)) for _ in range(n)]
    return [min(longest, max(1, length)) for length in drawn]


def requests_of(lengths):
    return [(0, i, [i % 97, i // 97], length + 1) for i, length in enumerate(lengths)]

# %% id="test-steps" kind="test" points=3
lengths = varied_lengths(0, 24)
engine = Rehearsal(slots=4)
drive(submission.Scheduler(engine), requests_of(lengths))
wanted = greedy_steps(lengths, 4)
assert engine.steps <= 1.05 * wanted, hint("steps", steps=engine.steps, wanted=wanted)
### BEGIN HIDDEN TESTS
for slots, n in [(1, 5), (2, 31), (8, 64), (16, 100), (32, 33)]:
    lengths = varied_lengths(random.random(), n, typical=random.choice([3, 10, 25]))
    engine = Rehearsal(slots)
    scheduler = submission.Scheduler(engine)
    for _, *request in requests_of(lengths):
        scheduler.submit(*request)
    while engine.prefills < n or engine.used:
        before, wanted = engine.rows, min(slots, len(engine.used) + n - engine.prefills)
        scheduler.step()
        rows = engine.rows - before
        assert rows == wanted, hint("steps-idle", slots=slots, rows=rows, wanted=wanted)
        text = hint("step-wasted", rows=engine.rows, wanted=sum(lengths))
        assert engine.rows <= sum(lengths), text
    wanted = greedy_steps(lengths, slots)
    text = hint("steps-several", slots=slots, steps=engine.steps, wanted=wanted)
    assert engine.steps <= 1.05 * wanted, text
### END HIDDEN TESTS

# %% id="test-order" kind="test" points=2
engine = Rehearsal(slots=2)
came, most = [0, 0, 0, 1, 2, 3], [20, 2, 25, 2, 2, 2]
arrivals = [(came[i], i, [i], most[i]) for i in range(6)]
drive(submission.Scheduler(engine), arrivals)
order = [event[3][0] for event in engine.log if event[0] == "in"]
assert order == [0, 1, 2, 3, 4, 5], hint("order", order=order)
### BEGIN HIDDEN TESTS
for slots in (1, 4):
    engine = Rehearsal(slots)
    arrivals, step = [], 0
    for number in random.sample(range(60), 60):
        step += random.choice([0, 0, 1])
        prompt = [number] * random.randint(1, 40)
        most = random.choice([2, 3, 3, 3, 40, 300])
        arrivals.append((step, number, prompt, most))
    drive(submission.Scheduler(engine), arrivals)
    order = [event[3][0] for event in engine.log if event[0] == "in"]
    assert order == [arrival[1] for arrival in arrivals], hint("order-several", slots=slots)
### END HIDDEN TESTS

# %% [markdown] id="fair" lang="ko" reviewed="a24304ad4d5b"
# 짧은 요청부터 앉히면 안 되는 까닭을 재 볼게요. 자리 8개에 요청 300건이 감당하기 조금 벅찰 만큼 밀려와요. 온 순서대로 앉힐 때와 짧은
# 것부터 앉힐 때, 자리에 앉기까지 기다린 단계의 **평균**과 **최댓값**을 견주어 보세요.

# %% [markdown] id="fair" lang="en"
# Why not seat the short ones first? Let us measure it. 300 requests come to 8 slots, a little faster than these can serve. Compare
# the **mean** and the **longest** wait for a slot, in steps, first come first served and shortest first.

# %% id="fair-code" kind="demo"
def waits(scheduler, arrivals):
    drive(scheduler, arrivals)
    came = {number: step for step, number, *_ in arrivals}
    log = scheduler.engine.log
    return [step - came[prompt[0]] for what, _, step, prompt in log if what == "in"]


with when_solved():

    class ShortestFirst(Scheduler):
        def admit(self):
            self.waiting = deque(sorted(self.waiting, key=lambda request: request.most))
            return super().admit()

    lengths = varied_lengths(7, 300)
    often = sum(lengths) / len(lengths) / 8 / 1.1
    arrivals = [(int(i * often), i, [i], length + 1) for i, length in enumerate(lengths)]
    for key, kind in [("fair-first", Scheduler), ("fair-short", ShortestFirst)]:
        waited = waits(kind(Rehearsal(8)), arrivals)
        mean = f"{sum(waited) / len(waited):5.1f}"
        print(hint(key, mean=mean, longest=f"{max(waited):4}"))

# %% [markdown] id="measure" lang="ko" reviewed="f9ddbe3125dd"
# ## 얼마나 줄었을까
#
# 길이가 제각각인 요청 64건을 자리 8개로 처리해요. 정적 배칭, 여러분의 스케줄러, 그리고 어떤 스케줄러도 넘지 못하는 한계를 **단계 수**로
# 비교해요. 그림의 막대 하나가 요청 하나예요. 흰 곳은 노는 자리예요.

# %% [markdown] id="measure" lang="en"
# ## How much did it save
#
# 64 requests of varied length, 8 slots. Compare static batching, your scheduler, and the limit that no scheduler can beat, in
# **steps**. In the picture every bar is a request; white is a slot that stands idle.

# %% id="measure-code" kind="demo"
def serve_static(engine, requests):
    answers = []
    for start in range(0, len(requests), engine.slots):
        group = requests[start : start + engine.slots]
        tokens = [[engine.prefill(slot, prompt)] for slot, (prompt, _) in enumerate(group)]
        while rows := [slot for slot, (_, most) in enumerate(group) if len(tokens[slot]) < most]:
            for slot, token in zip(rows, engine.decode(rows, [tokens[slot][-1] for slot in rows])):
                tokens[slot].append(token)
        for slot in range(len(group)):
            engine.release(slot)
        answers += tokens
    return answers


def draw_slots(axes, bars, title):
    for colour, (slot, start, end) in enumerate(bars):
        axes.barh(slot, end - start, left=start, height=0.85, color=plt.cm.tab20(colour % 20))
    axes.set(ylabel=hint("plot-slot"), title=title)


def bars_of_static(lengths, slots):
    bars, start = [], 0
    for first in range(0, len(lengths), slots):
        group = lengths[first : first + slots]
        bars += [(slot, start, start + length) for slot, length in enumerate(group)]
        start += max(group)
    return bars


def bars_of(log):
    seated, bars = {}, []
    for what, slot, step, _ in log:
        if what == "in":
            seated[slot] = step
        else:
            bars.append((slot, seated.pop(slot), step))
    return bars


lengths = varied_lengths(4, 64)
with when_solved():
    engine = Rehearsal(8)
    drive(Scheduler(engine), requests_of(lengths))
    sorted_engine = Rehearsal(8)
    drive(Scheduler(sorted_engine), requests_of(sorted(lengths, reverse=True)))
    counted = {
        "steps-static": static_steps(lengths, 8),
        "steps-yours": engine.steps,
        "steps-sorted": sorted_engine.steps,
        "steps-least": least_steps(lengths, 8),
    }
    for key, steps in counted.items():
        print(hint(key, steps=f"{steps:4}", percent=f"{100 * sum(lengths) / 8 / steps:3.0f}"))
    figure, axes = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
    draw_slots(axes[0], bars_of_static(lengths, 8), hint("plot-static"))
    draw_slots(axes[1], bars_of(engine.log), hint("plot-continuous"))
    axes[1].axvline(counted["steps-least"], color="k", linestyle="--", label=hint("plot-least"))
    axes[1].set(xlabel=hint("plot-step"))
    axes[1].legend(loc="lower right")
    plt.show()

# %% [markdown] id="measure-seen" lang="ko" reviewed="1dd8056eae7d"
# 정적 배칭에서는 묶음마다 가장 긴 요청이 나머지를 모두 붙잡아 둬요. 여러분의 스케줄러에서는 빈자리가 곧바로 차고, 그림의 오른쪽 끝에만
# 흰 곳이 남아요. 줄이 비어서 더 앉힐 사람이 없는 때예요. 손님이 끊이지 않는 서버라면 이 끝도 거의 오지 않아요.
#
# 긴 요청부터 왔더라면 한계에 바싹 다가갔을 거예요. 하지만 답이 얼마나 길어질지는 끝나 봐야 알아요. 다행히 **몰라도 크게 손해 보지
# 않아요.** 빈자리를 바로바로 채우는 한, 마지막 요청이 앉는 때는 $\text{토큰 합계} / \text{자리}$를 넘지 않고, 앉은 다음에는 자기 길이만큼만 걸려요.
# 그래서 전체는 두 한계의 합을 넘지 않고, 어떤 스케줄러와 견주어도 두 배를 넘지 않아요.

# %% [markdown] id="measure-seen" lang="en"
# In static batching the longest request of a group holds up all others. With your scheduler a free slot is filled at once, and white is
# left only at the right end: the queue is empty and there is nobody to seat. On a server whose customers keep coming, that end
# hardly ever arrives.
#
# Had the longest come first, the limit would nearly have been reached. But how long an answer becomes is known only when it ends.
# Luckily **not knowing costs little.** As long as free slots are filled at once, the last request sits down no later than
# $\text{all tokens} / \text{slots}$, and from then on takes only its own length. So the whole takes no more than the sum of
# the two limits, which is at most twice what any scheduler needs.

# %% [markdown] id="task-serve" lang="ko" reviewed="255b246bb5cf"
# ## 과제 4. 한꺼번에 처리하기 (보통)
#
# `serve(engine, requests)`를 완성하세요. `requests`는 `(prompt, most)` 쌍의 리스트예요. 여러분의 `Scheduler`로 모두 처리하고, 답(토큰의
# 리스트)을 **요청한 순서대로** 리스트에 담아 돌려줘요. 프롬프트가 같은 요청도 하나하나 따로 처리해요.

# %% [markdown] id="task-serve" lang="en"
# ## Task 4. Serve them all (medium)
#
# Complete `serve(engine, requests)`. `requests` is a list of pairs `(prompt, most)`. Serve them all with your `Scheduler` and
# return the answers (lists of tokens) as a list, **in the order of the requests**. Those with equal prompts are served
# separately too.

# %% id="serve" kind="solution"
def serve(engine, requests):
    ### BEGIN SOLUTION
    scheduler, answers = Scheduler(engine), {}
    for number, (prompt, most) in enumerate(requests):
        scheduler.submit(number, prompt, most)
    while len(answers) < len(requests):
        answers.update(scheduler.step())
    return [answers[number] for number in range(len(requests))]
    ### END SOLUTION

# %% id="test-serve" kind="test" points=2
engine = Rehearsal(slots=3)
requests = [([1], 9), ([2, 2], 3), ([3], 1), ([4, 4], 6), ([5], 4)]
found = submission.serve(engine, requests)
assert len(found) == 5, hint("serve-count")
assert [list(tokens) for tokens in found] == one_by_one(Rehearsal(1), requests), hint("serve-order")
### BEGIN HIDDEN TESTS
requests = draw_requests(random.random(), 45, 1, 30)
requests += requests[:5]
for slots in (1, 7, 7, 64):
    engine = Rehearsal(slots)
    found = [list(tokens) for tokens in submission.serve(engine, requests)]
    assert found == one_by_one(Rehearsal(1), requests), hint("serve-order")
    wanted = greedy_steps([most - 1 for _, most in requests], slots)
    text = hint("steps-several", slots=slots, steps=engine.steps, wanted=wanted)
    assert engine.steps <= 1.05 * wanted, text
    assert engine.prefills == 50, hint("serve-prefills", prefills=engine.prefills)
assert list(submission.serve(Rehearsal(2), [])) == [], hint("serve-nothing")
### END HIDDEN TESTS

# %% [markdown] id="task-speed" lang="ko" reviewed="be03844b4d0b"
# ## 과제 5. 성능 기준 넘기
#
# 이제 시간이에요. 요청 32건을 자리 32개로 처리할 때 하나씩 처리할 때보다 **3배 이상** 빨라야 해요. 매번 새 요청으로, 순서를 번갈아
# 다섯 번 재서 CPU 시간 비율의 중앙값을 봐요.

# %% [markdown] id="task-speed" lang="en"
# ## Task 5. The performance gate
#
# Now the time. 32 requests in 32 slots must be served **at least 3 times** faster than one at a time: the median of five ratios
# of CPU time, with fresh requests each time and in alternating order.

# %% id="speed-tools" kind="locked"
def nearly_all_agree(found, expected):
    same = sum(list(a) == list(b) for a, b in zip(found, expected))
    return [len(a) for a in found] == [len(b) for b in expected] and same >= 0.9 * len(expected)

# %% id="test-speed" kind="test" points=3
seed = random.SystemRandom().randrange(10**6)
reached = speedup(
    lambda requests: submission.serve(submission.Engine(submission.model, 32, 64), requests),
    lambda requests: one_by_one(Engine(model, 1, 64), requests),
    lambda i: (draw_requests(seed + i, 32, 20, 24),),
    nearly_all_agree,
)
gate("continuous-batching", reached, 3, hint("speed"))

# %% [markdown] id="task-gpu" lang="ko" reviewed="aa16c906ee05"
# ## 과제 6. GPU에서 (GPU가 있는 아카데미만)
#
# GPU는 연산 속도가 훨씬 빨라서, 요청을 하나씩 처리하면 대부분의 힘을 놀려요. 여러분의 `serve`를 한 줄도 고치지 않고 GPU 위의 엔진에 그대로
# 써요. 자리 32개가 하나씩 처리할 때보다 **6배 이상** 빨라야 해요. GPU가 없으면 이 셀은 건너뛰고, 있더라도 아카데미의 GPU에서 기준을 맞춰 보기
# 전에는 결과를 보여 주기만 해요.

# %% [markdown] id="task-gpu" lang="en"
# ## Task 6. On a GPU (only where the academy has one)
#
# A GPU computes far faster, and serving one request at a time leaves most of it idle. Your `serve` goes onto an engine on the
# GPU as it is. 32 slots must be **at least 6 times** faster than one at a time. Without a GPU this cell is left out; with one, the
# figure is only reported until the gate has been calibrated on the academy's GPUs.

# %% id="test-gpu" kind="test" points=2 gpu=true
if gpu():
    beside, here = submission.on_device(submission.model, "cuda"), on_device(model, "cuda")
    seed = random.SystemRandom().randrange(10**6)
    reached = speedup(
        lambda requests: submission.serve(submission.Engine(beside, 32, 128), requests),
        lambda requests: one_by_one(Engine(here, 1, 128), requests),
        lambda i: (draw_requests(seed + i, 64, 40, 60),),
        nearly_all_agree,
        gpu=True,
    )
    gate("gpu-continuous-batching", reached, 6, hint("speed"))

# %% [markdown] id="limit" lang="ko" reviewed="0d32916ad498"
# ## 물리적인 한계와 비교하기
#
# 배치가 커지면 무엇이 발목을 잡을까요? 한 단계에 토큰 $B$개를 만들려면
#
# - 가중치는 **한 번만** 읽으면 되지만, KV 캐시는 요청마다 자기 것을 읽어야 해요. 대역폭이 정하는 한계예요.
# - 곱셈과 덧셈은 토큰마다 따로 해야 해요. 가중치 하나에 곱셈 한 번과 덧셈 한 번이니 토큰 하나에 $2P$번이에요($P$는 곱하는 가중치의
#   수). 연산 속도가 정하는 한계예요.
#
# $$\text{1초에 만드는 토큰} \le \min\left(\frac{B \cdot \text{대역폭}}{\text{가중치 바이트} + B \cdot \text{KV 바이트}},\ \frac{\text{연산 속도}}{2P}\right)$$
#
# 두 한계를 모두 **이 컴퓨터에서** 재서 그려요. 대역폭은 가중치만 한 텐서를 읽어서, 연산 속도는 큰 행렬 둘을 곱해서 재요. 왼쪽의 기울어진
# 선에서는 배치를 키우는 만큼 이득이고, 오른쪽의 평평한 선에 닿으면 더 키워도 소용없어요. 이런 그림을 루프라인이라고 해요.

# %% [markdown] id="limit" lang="en"
# ## Against the physical limit
#
# What holds a larger batch back? To make $B$ tokens in one step,
#
# - the weights are read **once**, but every request has a KV cache of its own to read. The bandwidth sets this limit.
# - multiplications and additions are done for each token. One weight takes one of each, so a token takes $2P$ of them, $P$ being
#   the number of weights that are multiplied. The speed of arithmetic sets this limit.
#
# $$\text{tokens a second} \le \min\left(\frac{B \cdot \text{bandwidth}}{\text{weight bytes} + B \cdot \text{KV bytes}},\ \frac{\text{arithmetic a second}}{2P}\right)$$
#
# We measure both **on this machine**: the bandwidth by reading a tensor as large as the weights, the arithmetic by multiplying
# two large matrices. On the slope at the left a larger batch pays in full; at the flat line to the right it pays no more. A
# picture like this is called a roofline.

# %% id="limit-code" kind="demo"
def typical(function, repeats=21):
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return sorted(times)[repeats // 2]


multiplied = sum(weight.numel() for name, weight in model.weights().items() if "table" not in name)
block = torch.ones(multiplied)
bandwidth = 4 * multiplied / typical(block.sum)
square = torch.ones(768, 768)
arithmetic = 2 * 768**3 / typical(lambda: square @ square)
context = 76
kv_bytes = 2 * model.layers * model.kv_heads * model.size * 4 * context
by_bandwidth = [slots * bandwidth / (4 * multiplied + slots * kv_bytes) for slots in sizes]
by_arithmetic = [arithmetic / (2 * multiplied) for _ in sizes]
rates = [slots / measured[slots] for slots in sizes]
print(f"{bandwidth / 1e9:.1f} GB/s  {arithmetic / 1e9:.0f} GFLOP/s")
figure, axes = plt.subplots(figsize=(7.5, 4.5))
axes.loglog(sizes, rates, "o-", label=hint("plot-rate"))
label = hint("plot-bandwidth", bandwidth=f"{bandwidth / 1e9:.0f}")
axes.loglog(sizes, by_bandwidth, "k--", label=label)
label = hint("plot-arithmetic", arithmetic=f"{arithmetic / 1e9:.0f}")
axes.loglog(sizes, by_arithmetic, "k:", label=label)
with when_solved():
    requests = draw_requests(0, 32, 16, 24)
    served = {}
    for slots in (1, 4, 32):
        seconds = typical(lambda: serve(Engine(model, slots, 64), requests), repeats=3)
        served[slots] = sum(most for _, most in requests) / seconds
    axes.loglog(list(served), list(served.values()), "s-", label=hint("plot-served"))
axes.set(xlabel=hint("plot-batch"), ylabel=hint("plot-tokens"))
axes.set_xticks(sizes, [str(slots) for slots in sizes])
axes.xaxis.set_minor_formatter("")
axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=2)
axes.grid(alpha=0.3)
plt.show()
columns = torch.tensor([[1 / measured[slots], slots / measured[slots]] for slots in sizes])
fixed, each = torch.linalg.lstsq(columns, torch.ones(len(sizes), 1)).solution[:, 0].tolist()
reading = 4 * multiplied / bandwidth
costs = [f"{1e3 * seconds:.2f}" for seconds in (fixed, each, reading)]
print(hint("fit", fixed=costs[0], each=costs[1], reading=costs[2]))
print(hint("fit-most", most=f"{(fixed + each) / each:.0f}", half=f"{fixed / each:.0f}"))
limits = [min(pair) for pair in zip(by_bandwidth, by_arithmetic)]
for slots, rate, limit in zip(sizes, rates, limits):
    print(hint("achieved", slots=f"{slots:3}", percent=f"{100 * rate / limit:3.0f}"))

# %% [markdown] id="limit-seen" lang="ko" reviewed="a00f848939d8"
# 그림을 왼쪽부터 읽어 보세요. 대역폭의 한계는 배치가 커질수록 올라가다가, 저마다 읽어야 하는 KV 캐시 때문에 휘어요. 그 위를 연산의 한계가
# 눌러요. 우리가 잰 점들은 두 선보다 한참 아래에 있어요. 출력의 직선 맞춤이 까닭을 말해 줘요. 고정 비용 가운데 **가중치를 읽는 시간은
# 일부일 뿐이고**, 나머지는 아주 작은 연산 수백 개를 파이썬이 하나하나 시키는 비용이에요. 모델이 수천 배 커지면 시키는 비용은 그대로인데
# 읽고 계산하는 시간만 수천 배가 되니, 점들이 선에 다가가요.
#
# 그래도 이 직선 하나로 많은 것을 정할 수 있어요. 고정 비용을 $a$, 요청마다 드는 비용을 $b$라고 하면 배치 $B$의 이득은 $B(a+b)/(a+bB)$예요.
# 아무리 키워도 $(a+b)/b$배를 넘지 못하고, $B=a/b$쯤에서 그 절반에 닿아요. 새 서버에서 배치를 정할 때 제일 먼저 재 볼 두 숫자예요. 여럿을
# 함께 처리할 때 네모 점(`serve`)이 동그라미보다 낮은 것은 프리필을 한 건씩 하고, 먼저 끝난 자리가 비기 때문이에요.

# %% [markdown] id="limit-seen" lang="en"
# Read the picture from the left. The limit of bandwidth rises with the batch and then bends, since each request has a KV cache of its
# own to read; the limit of arithmetic caps it. Our points are well below both, and the line fitted to them says why: **reading the
# weights is only a part** of the fixed cost, the rest is Python issuing hundreds of very small operations. In a model thousands of
# times larger the issuing costs the same while reading and computing take thousands of times longer, so the points move to the lines.
#
# This one line still decides a lot. With a fixed cost $a$ and a cost $b$ for each request, a batch of $B$ gains
# $B(a+b)/(a+bB)$. It never exceeds $(a+b)/b$, and about half of that comes at $B=a/b$. Measure these two numbers first when you
# choose the batch of a new server. With several requests at once the squares (`serve`) lie below the circles because prompts are
# computed one by one, and because slots whose requests ended early stand empty.

# %% [markdown] id="loses" lang="ko" reviewed="4b10a57c358a"
# ## 연속 배칭이 소용없을 때
#
# 세 가지를 재 볼게요.
#
# 1. 요청의 길이가 **모두 같다면** 정적 배칭과 단계 수가 똑같아요.
# 2. 자리가 **둘뿐이라면** 하나씩 처리할 때보다 얼마나 빨라질까요?
# 3. 긴 프롬프트가 들어오는 단계에는 **모두가 그 프리필을 기다려요.** 이미 답을 받고 있던 사람의 글이 잠깐 멈춰요.

# %% [markdown] id="loses" lang="en"
# ## Where it does not help
#
# Let us measure three cases.
#
# 1. When all requests are **equally long**, static batching takes just as many steps.
# 2. With only **two slots**, how much faster is it than one at a time?
# 3. In a step that seats a long prompt, **everybody waits for its prefill**: the text of those already being served stops.

# %% id="loses-code" kind="demo"
def pause(slots, prompt_length):
    scheduler = Scheduler(Engine(model, slots))
    for number in range(slots - 1):
        scheduler.submit(number, academy_lm.encode("A class "), 200)
    for _ in range(8):
        scheduler.step()
    ordinary = typical(scheduler.step, repeats=9)
    scheduler.submit("late", academy_lm.encode("x" * prompt_length), 200)
    return ordinary, typical(scheduler.step, repeats=1)


with when_solved():
    engine = Rehearsal(8)
    drive(Scheduler(engine), requests_of([20] * 64))
    print(hint("loses-equal", static=static_steps([20] * 64, 8), yours=engine.steps))
    for slots in (2, 4):
        found = speedup(
            lambda requests: serve(Engine(model, slots, 64), requests),
            lambda requests: one_by_one(Engine(model, 1, 64), requests),
            lambda i: (draw_requests(i, 16, 16, 24),),
            nearly_all_agree,
            rounds=3,
        )
        print(hint("loses-small", slots=f"{slots:2}", found=found))
    for length in (8, 400):
        pauses = [pause(8, length) for _ in range(3)]
        ordinary, late = (sorted(times)[1] for times in zip(*pauses))
        times = {"ordinary": f"{1e3 * ordinary:.1f}", "late": f"{1e3 * late:.1f}"}
        print(hint("loses-pause", length=f"{length:3}", **times))

# %% [markdown] id="loses-seen" lang="ko" reviewed="5f92930d003b"
# 1. 길이가 모두 같고 한꺼번에 왔다면 단계마다 다시 묶을 까닭이 없어요. 밤새 같은 길이로 채점하거나 번역하는 일이 그래요.
# 2. 자리가 적으면 나눠 낼 사람이 적으니 이득도 작아요. 손님이 한두 명뿐인 밤의 서버를 위한 방법은 4.6의
#    추측 디코딩이에요.
# 3. 긴 프롬프트 하나가 들어오는 단계에는 모두의 글이 멈춰요. 그래서 실제 서버는 프롬프트를 조각내어 단계마다 조금씩 넣어요(chunked
#    prefill). 대신 그 손님의 첫 토큰은 늦어지고, 조각마다 앞 조각의 키와 값을 다시 읽어야 해요.
#
# 한 가지 낭비가 더 남아 있어요. 이 엔진은 자리마다 **가장 긴 길이만큼** 캐시를 잡아 둬요. 그 대부분이 빈 채로 있어서 자리를 더 늘리지
# 못해요. 4.5에서 그 자리를 되찾아요.

# %% [markdown] id="loses-seen" lang="en"
# 1. When all are equally long and come at once, nothing is gained by regrouping at every step: a night's work of grading or
#    translating, say.
# 2. Few slots share a cost among few. For a server with one or two customers at night there is speculative decoding
#    (4.6).
# 3. In a step that seats a long prompt, everybody's text stops. Real servers therefore cut prompts into pieces and put in one piece a
#    step (chunked prefill). That customer's first token comes later for it, and every piece reads the keys and values of those before it.
#
# One waste is left. This engine reserves **the longest length** for every slot. Most of it stays empty, and keeps us from having
# more slots. Unit 4.5 takes it back.

# %% [markdown] id="task-price" lang="ko" reviewed="1177db23cad6"
# ## 과제 7. 돈으로 말하기 (보통)
#
# 배치를 키우면 토큰은 싸지지만, 한 단계가 길어져서 **한 사람이 받는 글은 느려져요.** 손님은 사람이 읽는 속도보다 느리면 떠나요. 그러니
# 약속한 시간 안에서 가장 싼 배치를 골라야 해요.
#
# - `won_per_million(slots, seconds, won_per_hour)`: 한 단계에 `seconds`초가 걸리고 그때마다 토큰 `slots`개가 나올 때, 토큰 백만 개에 드는
#   돈(원)이에요. 서버를 한 시간 빌리는 값은 `won_per_hour`원이에요. 단계 수가 나누어떨어지지 않아도 반올림하지 마세요.
# - `cheapest(measured, slowest)`: `measured`는 배치 크기에서 한 단계의 시간(초)을 찾는 사전이에요. 한 단계가 `slowest`초를 **넘지 않는**
#   배치 가운데 토큰이 가장 싼 것을 골라 배치 크기를 돌려줘요. 값이 같으면 작은 배치가 나아요(왜일까요?). 하나도 없으면 0이에요.

# %% [markdown] id="task-price" lang="en"
# ## Task 7. Say it in money (medium)
#
# A larger batch makes tokens cheaper, but every step longer: **each person's text comes more slowly**. Customers leave when it
# comes more slowly than they read. So pick the cheapest batch that keeps the promised time.
#
# - `won_per_million(slots, seconds, won_per_hour)`: a step takes `seconds` and makes `slots` tokens; how many won do a million
#   tokens cost? The server costs `won_per_hour` won an hour. Do not round, even where the steps do not divide evenly.
# - `cheapest(measured, slowest)`: `measured` is a dictionary from batch sizes to seconds of one step. Of the batches whose step
#   takes **no more than** `slowest` seconds, return the size of the one with the cheapest tokens. Of equally cheap ones the
#   smaller is better (why?). Return 0 when there is none.

# %% id="price" kind="solution"
def won_per_million(slots, seconds, won_per_hour):
    ### BEGIN SOLUTION
    tokens_per_hour = slots / seconds * 3600
    return won_per_hour / tokens_per_hour * 1_000_000
    ### END SOLUTION


def cheapest(measured, slowest):
    ### BEGIN SOLUTION
    allowed = [slots for slots in sorted(measured) if measured[slots] <= slowest]
    return min(allowed, key=lambda slots: measured[slots] / slots, default=0)
    ### END SOLUTION

# %% id="test-price" kind="test" points=2
assert abs(submission.won_per_million(10, 0.01, 3600) - 1000) < 1e-6, hint("price-won")
assert submission.cheapest({1: 0.010, 8: 0.020, 32: 0.050}, 0.030) == 8, hint("price-limit")
assert submission.cheapest({1: 0.010, 2: 0.030, 4: 0.050}, 1.0) == 1, hint("price-per-token")
### BEGIN HIDDEN TESTS
assert abs(submission.won_per_million(1, 0.5, 720) - 100_000) < 1e-3, hint("price-won")
for batches in ({8: 0.008, 16: 0.016, 32: 0.032}, {32: 0.032, 16: 0.016, 8: 0.008}):
    assert submission.cheapest(batches, 0.02) == 8, hint("price-tie")
assert submission.cheapest({1: 0.010, 8: 0.020}, 0.020) == 8, hint("price-equal")
assert submission.cheapest({1: 0.010, 8: 0.020}, 0.005) == 0, hint("price-none")
assert submission.cheapest({}, 1.0) == 0, hint("price-none")
for _ in range(30):
    sizes, won_per_hour = random.sample(range(1, 65), 9), random.uniform(100, 5000)
    times = {slots: random.uniform(0.001, 0.1) for slots in sizes}
    nearly_equal = {slots: slots * random.uniform(0.001, 0.00101) for slots in sizes}
    for batches in (times, nearly_equal):
        slowest = random.uniform(0.0, 0.12)
        best = 0
        for slots, seconds in batches.items():
            if seconds <= slowest and (best == 0 or seconds / slots < batches[best] / best):
                best = slots
            wanted = 1_000_000 * seconds / slots * won_per_hour / 3600
            won = submission.won_per_million(slots, seconds, won_per_hour)
            assert abs(won - wanted) < 1e-9 * wanted, hint("price-won")
        assert submission.cheapest(batches, slowest) == best, hint("price-limit")
### END HIDDEN TESTS

# %% [markdown] id="money" lang="ko" reviewed="1202e1c17241"
# 여러분이 잰 값으로 값을 매겨 봐요. `won_per_hour`는 예로 든 숫자이니 여러분이 쓰는 서버의 값으로 바꿔 보세요. 약속한 시간 `slowest`를
# 바꾸면 고르는 배치와 값이 어떻게 달라지나요? 마지막 두 줄은 위에서 단계 수를 센 요청 64건을 자리 8개로 처리한 결과예요.

# %% [markdown] id="money" lang="en"
# Put a price on what you measured. `won_per_hour` is an example: put in that of a server you use. Change the promised time
# `slowest`: how do the batch and the price change? The last two lines are the 64 requests whose steps you counted above, in 8 slots.

# %% id="money-code" kind="demo"
won_per_hour = 200

with when_solved():
    for slots, seconds in measured.items():
        won = won_per_million(slots, seconds, won_per_hour)
        print(hint("price-line", slots=f"{slots:3}", ms=f"{1e3 * seconds:5.2f}", won=f"{won:7.1f}"))
    for slowest in (2 * measured[1], 4 * measured[1], 16 * measured[1]):
        print(hint("price-choice", ms=f"{1e3 * slowest:.1f}", slots=cheapest(measured, slowest)))
    prompts = [prompt for prompt, _ in draw_requests(1, 64, 1, 1)]
    requests = [(prompt, n + 1) for prompt, n in zip(prompts, varied_lengths(4, 64))]
    total = sum(most for _, most in requests)
    for key, function in [("price-static", serve_static), ("price-continuous", serve)]:
        seconds = typical(lambda: function(Engine(model, 8, 256), requests), repeats=3)
        won = won_per_million(total, seconds, won_per_hour)
        print(hint(key, rate=f"{total / seconds:,.0f}", won=f"{won:.1f}"))

# %% [markdown] id="money-seen" lang="ko" reviewed="23e73db3a7f4"
# 단계 수는 거의 절반으로 줄었는데 값은 그만큼 내려가지 않았어요. 여기서는 정적 배칭도 끝난 요청은 더 계산하지 않으니, **요청마다 드는
# 비용**은 두 방법이 같아요. 줄어드는 것은 **단계마다 드는 고정 비용**뿐이에요. 위에서 맞춘 직선에 두 방법의 단계 수를 넣어 보면 이 차이를
# 실행하지 않고도 어림할 수 있어요. 가중치가 커서 고정 비용이 거의 전부인 모델에서는 값도 단계 수만큼 내려가요.

# %% [markdown] id="money-seen" lang="en"
# The steps fell to about half, the price by less. Static batching, as it is here, does not go on computing finished requests either, so
# **the cost for each request** is the same both ways; only **the fixed cost of each step** is saved. Put the two numbers of steps
# into the line that you fitted above, and you can estimate the difference without running anything. In a model whose weights make nearly
# all of the fixed cost, the price falls as the steps do.

# %% [markdown] id="question" lang="ko" reviewed="69012fb24f99"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 여러분의 회사가 챗봇을 서비스해요. 낮에는 손님이 몰려 늘 열 명이 줄을 서 있고, 밤에는 한두 명뿐이에요. 답은 대부분 50토큰 안쪽이지만
# 스무 건 가운데 하나는 1,000토큰이 넘어요. **위에서 여러분이 잰 값**을 근거로 6~10문장으로 답하세요. (1) 정적 배칭을 쓰면 이 손님들에게
# 무슨 일이 생기나요? (2) 자리를 몇 개 두겠어요? 낮과 밤에 백만 토큰의 값은 각각 얼마이고 왜 다른가요? (3) 짧은 요청부터 처리하자는
# 동료의 제안에는 뭐라고 답하겠어요? (4) 긴 프롬프트가 들어올 때 다른 손님의 글이 멈추는 문제를 줄일 방법 하나와 그 대가를 말해 보세요.
#
# *채점 기준*: 노는 자리를 단계 수나 비율로 설명했다(1점), 잰 값으로 배치와 값을 골랐고 밤에 왜 비싼지 말했다(1점), 평균 기다림과 굶주림을
# 둘 다 따졌다(1점), 방법 하나와 그 대가를 말했다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# Your company runs a chatbot. By day ten customers are always queueing; at night there are one or two. Most answers have fewer
# than 50 tokens, but one in twenty has over 1,000. Using **what you measured above**, answer in 6 to 10 sentences: (1) what
# does static batching do to these customers? (2) how many slots would you have, what do a million tokens cost by day and at
# night, and why do the prices differ? (3) what do you answer a colleague who wants to serve short requests first? (4) name one
# way to keep a long prompt from stopping everybody's text, and what it costs.
#
# *Rubric*: explains the idle slots in steps or as a share (1 point); chooses batch and price by measured figures and says why
# the night is dearer (1 point); weighs mean waiting against starvation (1 point); names one way and its cost (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="54e40f48d5f4"
# ## 더 읽어 보기
#
# - Yu 외, *Orca: A Distributed Serving System for Transformer-Based Generative Models*, OSDI (2022): 단계마다 다시 묶는 법을 트랜스포머에
#   들여온 논문
# - Kwon 외, *Efficient Memory Management for Large Language Model Serving with PagedAttention*, SOSP (2023): 자리마다 가장 긴 길이만큼
#   잡아 두지 않는 법. 4.5 단원에서 만들어 봐요.
# - Agrawal 외, *Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve*, OSDI (2024): 프롬프트를 나눠 넣어 멈춤을 줄이는 법
# - Graham, *Bounds on Multiprocessing Timing Anomalies*, SIAM Journal on Applied Mathematics 17(2) (1969): 빈자리를 바로 채우기만 해도
#   가장 좋은 순서의 두 배를 넘지 않는다는 증명

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Yu et al., *Orca: A Distributed Serving System for Transformer-Based Generative Models*, OSDI (2022): brought regrouping
#   at every step to transformers
# - Kwon et al., *Efficient Memory Management for Large Language Model Serving with PagedAttention*, SOSP (2023): slots that
#   need not reserve the longest length; you build it in unit 4.5
# - Agrawal et al., *Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve*, OSDI (2024): prompts in pieces, so
#   that nobody's text stops
# - Graham, *Bounds on Multiprocessing Timing Anomalies*, SIAM Journal on Applied Mathematics 17(2) (1969): the proof that filling
#   free slots at once is never worse than twice the best order
