# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="4da2b1c47ec2"
# # 4.7 SLO와 원가
#
# **이 단원을 마치면** 언어 모델 서버의 한 단계가 몇 초 걸리는지 재서 모형으로 만들고, 서버가 어디까지 버티는지 종이 위에서 계산하고,
# 몰려드는 요청 가운데 누구를 먼저, 얼마나, 언제까지 처리할지 정하는 **정책**을 직접 짤 수 있어요. 그 정책이 지연 시간 약속을 지키며 1초에
# 몇 건을 처리하는지 증명하고, 백만 토큰의 원가로 말할 수 있어요.
#
# **왜 중요할까요?** 빠른 커널과 좋은 캐시가 있어도 서비스는 무너질 수 있어요. 점심시간에 요청이 몰리고, 누군가 긴 문서를 통째로 붙여 넣고,
# KV 캐시가 가득 차는 순간, 사용자 모두의 화면이 멈춰요. 같은 GPU, 같은 모델이라도 **다음 단계에 무엇을 계산할지**를 어떻게 정하느냐에 따라
# 약속을 지키며 받을 수 있는 손님이 몇 배나 달라져요. 이 과목에서 배운 것을 모두 모아 그 결정을 내려 봐요.
#
# **걸리는 시간** 10시간 · **먼저 알아야 할 것** 연속 배칭(4.4), 페이지드 KV(4.5), 추측 디코딩(4.6)

# %% [markdown] id="title" lang="en"
# # 4.7 Serving under a latency target
#
# **After this unit** you can measure what one step of a language model server costs and turn it into a model, compute on paper
# how much load the server can bear, and write the **policy** that decides whom to serve, when, and how much of them, as
# requests pour in. You prove how many requests a second it serves while keeping its promise about latency, and say it as the
# cost of a million tokens.
#
# **Why it matters.** Fast kernels and a good cache do not save a service. At lunch time requests pour in, somebody pastes a
# whole document, the KV cache fills up, and every user's screen freezes. With the same GPU and the same model, the number of
# users you can serve within your promise differs several-fold, depending on **what you choose to compute in the next step**.
# Here everything in this course comes together in that choice.
#
# **Time** 10 hours · **Before you start** continuous batching (4.4), paged KV (4.5), speculative decoding (4.6)

# %% id="setup" kind="locked"
import math
import random
import time
from collections import deque

import matplotlib.pyplot as plt
import numpy as np
import torch

import academy_lm
from academy_lm.model import attend
from grading.checks import Speedup, gate, hint, submission, when_solved

torch.set_num_threads(1)

# %% [markdown] id="feel" lang="ko" reviewed="029a2048e4ae"
# ## 사용자가 느끼는 두 가지 시간
#
# 챗봇에게 질문을 보낸 사람은 두 번 기다려요.
#
# - **첫 토큰까지의 시간**(time to first token, TTFT): 질문을 보낸 때부터 첫 글자가 나올 때까지
# - **토큰당 시간**(time per output token, TPOT): 글자가 나오기 시작한 뒤, 다음 토큰까지 평균 몇 초인지. 토큰이 n개면 그 사이의 간격은
#   n-1개예요.
#
# 서비스의 약속을 SLO(service level objective)라고 해요. "질문의 99%는 1초 안에 첫 토큰이 나온다" 같은 문장이에요. 평균이 아니라 99번째
# 백분위수(p99)로 말하는 까닭은, 평균은 몇 명이 30초를 기다려도 멀쩡해 보이기 때문이에요.
#
# 백분위수는 책마다 정의가 조금씩 달라요. 여기서는 **최근접 순위**(nearest rank)를 써요. `p`번째 백분위수는 "값들의 `p`% 이상이 이 값보다
# 작거나 같다"를 만족하는 **가장 작은 값**이에요. 사이를 보간해 지어내지 않고, 실제로 누군가 겪은 시간을 말해요.
#
# **굿풋**(goodput)은 첫 토큰도 제때 나오고 토큰당 시간도 지킨 요청이 1초에 몇 건인지예요. 약속을 어긴 답은 아무리 많아도 세지 않아요.

# %% [markdown] id="feel" lang="en"
# ## The two times a user feels
#
# Whoever sends a question to a chatbot waits twice.
#
# - **Time to first token** (TTFT): from sending the question until the first token appears
# - **Time per output token** (TPOT): once tokens appear, how long the next one takes on average. Between n tokens there are
#   n-1 gaps.
#
# What a service promises is its SLO, the service level objective: "99% of questions get their first token within a second".
# It speaks of the 99th percentile (p99) and not of the mean, because a mean looks healthy while some wait for 30 seconds.
#
# Books define percentiles a little differently. We use the **nearest rank**: the `p`th percentile is the **smallest value**
# such that at least `p`% of all values are less than or equal to it. Nothing is interpolated; somebody really waited that long.
#
# **Goodput** is how many requests a second got their first token in time and kept to the time per token. Answers that broke the
# promise do not count, however many there are.

# %% id="feel-code"
waits = [0.2] * 97 + [30.0] * 3
print(f"{sum(waits) / len(waits):.2f}", sorted(waits)[98])
example = {"arrived": 10.0, "deadline": 11.0, "times": [10.4, 10.45, 10.5, 10.6], "rejected": False}
first, last = example["times"][0], example["times"][-1]
print(f"{first - example['arrived']:.2f} {last - first:.2f}")

# %% [markdown] id="task-metrics" lang="ko" reviewed="615298fb0769"
# ## 과제 1. 약속을 재는 자 (쉬움)
#
# 기록 `record`는 요청 하나에 일어난 일을 담은 사전이에요. `arrived`는 도착한 때, `deadline`은 첫 토큰이 나와야 하는 마감, `times`는 토큰이
# 나온 때의 리스트, `rejected`는 서버가 "지금은 못 받아요"라고 거절했는지예요. 거절된 요청의 `times`는 비어 있고, 받아들인 요청에는 토큰이
# 적어도 하나 있어요.
#
# - `percentile(values, p)`: 비어 있지 않은 `values`의 `p`번째 백분위수를 최근접 순위로. `p`는 1부터 100까지의 정수예요.
#   순위는 정수로 셈하세요. 부동소수점으로는 `0.07 * 100`도 7보다 조금 커요.
# - `ttft(record)`: 첫 토큰까지의 시간
# - `tpot(record)`: 토큰당 시간. 토큰이 하나뿐이면 0.0
# - `good(record, tpot_target)`: 첫 토큰이 마감보다 **늦지 않게** 나왔고 토큰당 시간이 `tpot_target` **이하**이면 참. 거절된 요청은 거짓
# - `goodput(records, tpot_target, seconds)`: `seconds`초 동안의 기록 가운데 좋은 요청이 1초에 몇 건인지

# %% [markdown] id="task-metrics" lang="en"
# ## Task 1. The yardstick of the promise (easy)
#
# A `record` is a dictionary of what happened to one request: `arrived`, when it came; `deadline`, when its first token is due;
# `times`, the list of times at which its tokens came out; `rejected`, whether the server said "not now". A rejected request
# has empty `times`; one that was accepted has at least one token.
#
# - `percentile(values, p)`: the `p`th percentile of `values` (not empty) by nearest rank; `p` is an integer from 1 to 100.
#   Compute the rank in integers: in floating point even `0.07 * 100` is a little more than 7.
# - `ttft(record)`: time to first token
# - `tpot(record)`: time per output token; 0.0 when there is only one token
# - `good(record, tpot_target)`: true when the first token came **no later** than its deadline and the time per token is **at
#   most** `tpot_target`. False for a rejected request.
# - `goodput(records, tpot_target, seconds)`: of the records of `seconds` seconds, how many good requests there were a second

# %% id="metrics" kind="solution"
def percentile(values, p):
    ### BEGIN SOLUTION
    rank = -(-p * len(values) // 100)
    return sorted(values)[rank - 1]
    ### END SOLUTION


def ttft(record):
    ### BEGIN SOLUTION
    return record["times"][0] - record["arrived"]
    ### END SOLUTION


def tpot(record):
    ### BEGIN SOLUTION
    times = record["times"]
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    ### END SOLUTION


def good(record, tpot_target):
    ### BEGIN SOLUTION
    if record["rejected"]:
        return False
    return record["times"][0] <= record["deadline"] and tpot(record) <= tpot_target
    ### END SOLUTION


def goodput(records, tpot_target, seconds):
    ### BEGIN SOLUTION
    return sum(good(record, tpot_target) for record in records) / seconds
    ### END SOLUTION

# %% id="test-metrics" kind="test" points=3
one = {"arrived": 10.0, "deadline": 11.0, "times": [10.4, 10.45, 10.5, 10.6], "rejected": False}
assert submission.percentile([5.0, 1.0, 3.0, 2.0, 4.0], 50) == 3.0, hint("percentile")
assert submission.percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0, hint("percentile-rank")
assert submission.percentile(list(range(1, 101)), 99) == 99, hint("percentile-rank")
assert abs(submission.ttft(one) - 0.4) < 1e-9, hint("ttft")
assert abs(submission.tpot(one) - 0.2 / 3) < 1e-9, hint("tpot")
assert submission.tpot({**one, "times": [10.4]}) == 0, hint("tpot-one")
assert submission.good(one, 0.07) and not submission.good(one, 0.06), hint("good-tpot")
assert abs(submission.goodput([one] * 6, 0.07, 3.0) - 2.0) < 1e-9, hint("goodput")
### BEGIN HIDDEN TESTS
def made_record(late=False, rejected=False, tokens=5, gap=0.25):
    arrived = random.uniform(0, 100)
    first = arrived + (2.5 if late else 1.5)
    times = [] if rejected else [first + i * gap for i in range(tokens)]
    return {"arrived": arrived, "deadline": arrived + 2.0, "times": times, "rejected": rejected}


for n in (1, 2, 7, 64, 100, 101, 200, 999):
    values = [random.choice([random.uniform(0, 9), 4.0]) for _ in range(n)]
    for p in (1, 7, 29, 50, 57, 90, 99, 100):
        expected = min(v for v in values if 100 * sum(w <= v for w in values) >= p * n)
        assert submission.percentile(values, p) == expected, hint("percentile-several", p=p, n=n)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
assert not submission.good(made_record(late=True), 9.0), hint("good-late")
assert not submission.good(made_record(rejected=True), 9.0), hint("good-rejected")
assert submission.good(made_record(tokens=1), 1e-6), hint("tpot-one")
exact = {"arrived": 0.0, "deadline": 1.0, "times": [1.0, 1.5, 2.0], "rejected": False}
assert submission.good(exact, 0.5), hint("good-edge")
for _ in range(20):
    one = made_record()
    first = one["times"][0]
    one["times"] += sorted(random.uniform(first + 1, first + 9) for _ in range(random.randint(1, 60)))
    mean = (one["times"][-1] - first) / (len(one["times"]) - 1)
    assert abs(submission.tpot(one) - mean) < 1e-9, hint("tpot")
    assert abs(submission.ttft(one) - 1.5) < 1e-9, hint("ttft")
    kept = [bool(submission.good(one, mean * part)) for part in (0.99, 1.01)]
    assert kept == [False, True], hint("good-tpot")
many = [made_record(late=i % 3 == 0, rejected=i % 5 == 0) for i in range(90)]
wanted = sum(i % 3 > 0 and i % 5 > 0 for i in range(90)) / 45
assert abs(submission.goodput(many, 0.3, 45) - wanted) < 1e-9, hint("goodput")
assert submission.goodput([], 0.3, 10.0) == 0, hint("goodput")
### END HIDDEN TESTS

# %% [markdown] id="cost" lang="ko" reviewed="5ceba6760418"
# ## 한 단계는 몇 초일까
#
# 서버는 **단계**(step)를 되풀이해요. 한 단계에서 몇 사람의 프롬프트를 조금씩 계산하고(프리필), 답을 받고 있는 사람들에게 토큰을 하나씩 만들어
# 줘요(디코드). 4.4에서 본 것처럼 가중치는 한 단계에 한 번만 읽어서 모두가 나눠 써요. 그래서 한 단계의 시간은 숫자 네 개로 어림할 수 있어요.
#
# $$\text{초} = \text{base} + \text{prefill} \times (\text{프리필 토큰}) + \text{row} \times (\text{디코드하는 요청}) + \text{kv} \times (\text{디코드가 읽는 KV 토큰})$$
#
# `base`는 가중치를 읽는 시간, `prefill`과 `row`는 토큰 하나를 계산하는 시간, `kv`는 캐시에서 토큰 하나의 키와 값을 읽는 시간이에요. 디코드하는
# 요청이 캐시에 100토큰씩 쌓아 둔 셋이라면 KV 토큰은 300개예요.
#
# 이 네 숫자를 남의 표에서 베끼지 않고 **진짜 모델로 재서** 구해 봐요. 아래 `RealEngine`은 `academy_lm`으로 한 단계를 계산하는 엔진이에요.
# 프리필 토큰과 디코드 토큰을 한 줄로 늘어놓아 행렬곱은 한꺼번에 하고, 어텐션만 요청마다 따로 해요. Orca(2022)가 선택적 배칭이라고 부른
# 방법이에요. 코드는 눈으로 한 번 따라가 보세요. 고칠 필요는 없어요.

# %% [markdown] id="cost" lang="en"
# ## How many seconds a step takes
#
# The server repeats **steps**. In one step it computes some tokens of some prompts (prefill) and makes one token for each
# request that is being answered (decode). As in 4.4, the weights are read once a step and shared by all. So four numbers
# describe the time of a step:
#
# $$\text{seconds} = \text{base} + \text{prefill} \times (\text{prefill tokens}) + \text{row} \times (\text{decoding requests}) + \text{kv} \times (\text{KV tokens that decode reads})$$
#
# `base` is the time to read the weights, `prefill` and `row` that to compute a token, `kv` that to read the key and
# value of one token in the cache. Three decoding requests with 100 tokens each in the cache read 300 KV tokens.
#
# We do not copy these numbers from a table but **measure them on a real model**. `RealEngine` below computes a step with
# `academy_lm`: it lines up prefill and decode tokens, does the matrix products for all at once, and attention for each request
# apart, which Orca (2022) called selective batching. Read through it once; nothing needs to be changed.

# %% id="cost-code" kind="locked"
def step_seconds(cost, prefill, rows, kv):
    return cost["base"] + cost["prefill"] * prefill + cost["row"] * rows + cost["kv"] * kv

# %% id="engine" kind="demo"
class RealEngine:
    def __init__(self, model, texts, clock=time.perf_counter, slots=64):
        self.model, self.texts = model, {number: list(text) for number, text in texts.items()}
        shape = (model.layers, slots, model.kv_heads, model.longest, model.size)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)
        self.places, self.empty = {}, list(range(slots))
        self.clock, self.began, self.rested = clock, clock(), 0.0

    @property
    def now(self):
        return self.clock() - self.began + self.rested

    def wait(self, until):
        gap = max(0.0, until - self.now)
        if self.clock is time.perf_counter:
            time.sleep(gap)
        else:
            self.rested += gap

    def release(self, number):
        if number in self.places:
            self.empty.append(self.places.pop(number))

    def run(self, chunks, rows):
        parts = [*chunks, *((request, 1) for request in rows)]
        tokens, at, slots, ends = [], [], [], []
        for request, count in parts:
            number, start = request["number"], request["context"]
            if number not in self.places:
                self.places[number] = self.empty.pop()
            tokens += self.texts[number][start : start + count]
            at += range(start, start + count)
            slots += [self.places[number]] * count
            ends.append(len(at))
        lined_up = (torch.tensor(numbers) for numbers in (tokens, at, slots))
        x = self.forward(*lined_up, ends, len(rows))
        done = [i for i, (r, n) in enumerate(parts) if i >= len(chunks) or n == r["todo"]]
        if done:
            logits = self.model.logits(x[[ends[i] - 1 for i in done]])[:, 0]
            for i, token in zip(done, logits.argmax(dim=-1).tolist()):
                self.texts[parts[i][0]["number"]].append(token)

    def forward(self, tokens, at, slots, ends, rows):
        first = len(tokens) - rows
        longest = int(at[first:].max()) + 1 if rows else 0
        row_mask = (torch.arange(longest) <= at[first:, None])[:, None, None]
        x = self.model.embed(tokens[:, None], at)
        for layer in range(self.model.layers):
            q, k, v = self.model.project(layer, x)
            keys, values = self.keys[layer], self.values[layer]
            keys[slots, :, at], values[slots, :, at] = k[:, :, 0], v[:, :, 0]
            mixed, start = torch.empty_like(q), 0
            for end in ends[: len(ends) - rows]:
                slot, last = slots[start], int(at[end - 1]) + 1
                mask = torch.arange(last) <= at[start:end, None]
                query = q[start:end, :, 0].transpose(0, 1)[None]
                k, v = keys[slot, :, :last][None], values[slot, :, :last][None]
                chunk = attend(query, k, v, mask)
                mixed[start:end, :, 0] = chunk[0].transpose(0, 1)
                start = end
            if rows:
                seen = slots[first:]
                k, v = keys[seen, :, :longest], values[seen, :, :longest]
                mixed[first:] = attend(q[first:], k, v, row_mask)
            x = self.model.finish(layer, x, mixed)
        return x


model = academy_lm.load()
print(f"{model.weight_bytes() / 1e6:.1f} MB")

# %% id="measure-steps" kind="demo"
def typical(function, repeats=5):
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return sorted(times)[repeats // 2]


def measured_step(engine, prefill, rows, context):
    chunks = [({"number": 63, "context": 0, "todo": 999}, prefill)] if prefill else []
    contexts = [round(context * (0.5 + 7 * row % 11 / 10)) for row in range(rows)]
    decoding = [{"number": row, "context": held} for row, held in enumerate(contexts)]
    return sum(contexts), typical(lambda: engine.run(chunks, decoding), repeats=3)


engine = RealEngine(model, {number: [65] * 512 for number in range(64)})
sizes = [(prefill, 0, 0) for prefill in (1, 16, 64, 192)]
sizes += [(p, r, c) for p in (0, 16, 64, 192) for r in (1, 4, 16) for c in (32, 128, 320)]
engine.run([({"number": 63, "context": 0, "todo": 999}, 64)], [])
kv, seconds = np.array([measured_step(engine, *size) for size in sizes]).T
work = np.column_stack([np.array(sizes, dtype=float)[:, :2], kv])
for i in range(0, len(sizes), 6):
    print(work[i].astype(int), f"{1e3 * seconds[i]:.2f} ms")

# %% [markdown] id="task-fit" lang="ko" reviewed="19dd12acc93c"
# ## 과제 2. 비용 모형 맞추기 (보통)
#
# 잰 값 `work`는 모양 `(n, 3)`인 배열로, 열은 차례로 프리필 토큰, 디코드하는 요청, KV 토큰이에요. `seconds`는 모양 `(n,)`인 잰 시간이에요.
#
# - `fit_cost(work, seconds)`: 네 숫자를 담은 사전 `{"base": …, "prefill": …, "row": …, "kv": …}`. **상대 오차**의 제곱합
#   $\sum_i \left(\frac{\text{예측}_i - \text{초}_i}{\text{초}_i}\right)^2$을 가장 작게 하는 값이에요. 음수가 나와도 고치지
#   않아요. 보통의 최소제곱법은 절대 오차를 줄이기 때문에 긴 단계 몇 개에 끌려가요. 우리에게는 1 ms짜리 단계에서 0.5 ms를 틀리는 것이,
#   20 ms짜리에서 1 ms를 틀리는 것보다 훨씬 나빠요.
# - `fit_errors(cost, work, seconds)`: 모양 `(n,)`인 상대 오차의 크기 $|\text{예측}_i - \text{초}_i| / \text{초}_i$
#
# 행마다 알맞은 수로 나누면 보통의 최소제곱 문제(`np.linalg.lstsq`)가 돼요.

# %% [markdown] id="task-fit" lang="en"
# ## Task 2. Fit the cost model (medium)
#
# `work` is an array of shape `(n, 3)` whose columns are prefill tokens, decoding requests and KV tokens; `seconds`, of shape
# `(n,)`, holds the measured times.
#
# - `fit_cost(work, seconds)`: a dictionary of the four numbers, `{"base": …, "prefill": …, "row": …, "kv": …}`, which make the
#   sum of squared **relative** errors $\sum_i \left(\frac{\text{predicted}_i - \text{seconds}_i}{\text{seconds}_i}\right)^2$ as
#   small as possible; leave a negative one as it is. Ordinary least squares makes absolute errors small, so a few long steps
#   pull it along. To us, being 0.5 ms wrong about a step of 1 ms is much worse than being 1 ms wrong about one of 20 ms.
# - `fit_errors(cost, work, seconds)`: the sizes of the relative errors, $|\text{predicted}_i - \text{seconds}_i| /
#   \text{seconds}_i$, of shape `(n,)`
#
# Divide each row by the right number, and it is an ordinary least squares problem (`np.linalg.lstsq`).

# %% id="fit" kind="solution"
def fit_cost(work, seconds):
    ### BEGIN SOLUTION
    design = np.column_stack([np.ones(len(work)), work])
    found = np.linalg.lstsq(design / seconds[:, None], np.ones(len(work)), rcond=None)[0]
    return dict(zip(("base", "prefill", "row", "kv"), found.tolist()))
    ### END SOLUTION


def fit_errors(cost, work, seconds):
    ### BEGIN SOLUTION
    predicted = step_seconds(cost, *np.asarray(work).T)
    return np.abs(predicted - seconds) / seconds
    ### END SOLUTION

# %% id="fit-helpers" kind="locked"
def synthetic_steps(generator, cost, n, noise):
    prefill, rows = generator.integers(0, 300, n), generator.integers(0, 40, n)
    work = np.column_stack([prefill, rows, rows * generator.integers(16, 900, n)]).astype(float)
    seconds = step_seconds(cost, *work.T) * np.exp(noise * generator.normal(size=n))
    return work, seconds


def relative_loss(cost, work, seconds):
    return float((((step_seconds(cost, *work.T) - seconds) / seconds) ** 2).sum())

# %% id="test-fit" kind="test" points=2
true = {"base": 0.01, "prefill": 1e-4, "row": 2e-4, "kv": 3e-7}
work_seen, seconds_seen = synthetic_steps(np.random.default_rng(0), true, 60, 0.0)
found = submission.fit_cost(work_seen, seconds_seen)
assert set(found) == set(true), hint("fit-keys")
for key in true:
    assert abs(found[key] - true[key]) <= 1e-5 * true[key], hint("fit-exact", name=key)
idle, ten_ms = np.array([[0.0, 0.0, 0.0]]), np.array([0.01])
errors = submission.fit_errors({**true, "base": 0.02}, idle, ten_ms)
assert np.shape(errors) == (1,) and abs(errors[0] - 1.0) < 1e-9, hint("fit-errors")
### BEGIN HIDDEN TESTS
generator = np.random.default_rng()
falling = {"base": 0.01, "prefill": 1e-4, "row": 1e-3, "kv": -5e-7}
found = submission.fit_cost(*synthetic_steps(generator, falling, 60, 0.0))
assert abs(found["kv"] / falling["kv"] - 1) < 1e-5, hint("fit-negative")
for noise in (0.05, 0.3):
    cost = {key: value * math.exp(generator.normal()) for key, value in true.items()}
    timed, took = synthetic_steps(generator, cost, int(generator.integers(30, 90)), noise)
    found = submission.fit_cost(timed, took)
    design = np.column_stack([np.ones(len(timed)), timed]) / took[:, None]
    best = np.linalg.lstsq(design, np.ones(len(timed)), rcond=None)[0]
    least = float(((design @ best - 1) ** 2).sum())
    assert relative_loss(found, timed, took) <= least * (1 + 1e-4) + 1e-9, hint("fit-relative")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
    expected = np.abs(step_seconds(cost, *timed.T) - took) / took
    found = submission.fit_errors(cost, timed, took)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9, err_msg=hint("fit-errors"))
### END HIDDEN TESTS

# %% [markdown] id="fit-look" lang="ko" reviewed="188ea6149a8f"
# 모형이 얼마나 맞는지 꼭 확인하고 써야 해요. 왼쪽 그림에서 점이 대각선에 가까울수록 좋아요. 오른쪽은 같은 서버에서 **한 단계의 시간이 무엇으로
# 이루어지는지** 보여 줘요. 점선은 이 컴퓨터에서 잰 대역폭으로 가중치를 한 번 읽는 데 걸리는 시간, 곧 `base`가 내려갈 수 있는 한계예요.
# 우리 모델은 작아서 `base`의 대부분이 연산을 하나하나 시키는 비용이에요. 마지막 줄의 비율로 확인하세요.

# %% [markdown] id="fit-look" lang="en"
# Check how well a model fits before you rely on it. On the left, the closer the dots are to the diagonal, the better. On the
# right you see **what a step's time consists of** on this server. The dashed line is the time to read the weights once at the
# bandwidth measured on this machine: the limit for `base`. Our model is so small that most of `base` is the cost of issuing
# each operation; the last line says how much.

# %% id="fit-plot" kind="demo"
block = torch.ones(model.weight_bytes() // 4)
bandwidth = block.numel() * 4 / typical(block.sum, repeats=21)
with when_solved():
    cost = fit_cost(work, seconds)
    errors = fit_errors(cost, work, seconds)
    print({key: f"{1e6 * value:.2f} us" for key, value in cost.items()})
    middle, worst = f"{100 * np.median(errors):.0f}", f"{100 * errors.max():.0f}"
    print(hint("fit-said", middle=middle, worst=worst))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    left.loglog(1e3 * seconds, 1e3 * step_seconds(cost, *work.T), "o", alpha=0.6)
    ends = 1e3 * np.array([seconds.min(), seconds.max()])
    left.loglog(ends, ends, "k--")
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    left.set(xlabel=hint("plot-measured"), ylabel=hint("plot-predicted"))
    rows, floor = np.arange(1, 33), 1e3 * model.weight_bytes() / bandwidth
    parts = [cost["base"] + 0 * rows, cost["row"] * rows, cost["kv"] * rows * 128]
    labels = ["base", "row", "kv"]
    right.stackplot(rows, [1e3 * np.maximum(part, 0) for part in parts], labels=labels, alpha=0.8)
    right.axhline(floor, color="k", linestyle="--", label=hint("plot-floor"))
    right.set(xlabel=hint("plot-rows"), ylabel=hint("plot-step"))
    right.legend(loc="upper left")
    plt.tight_layout()
    plt.show()
    percent = 0.1 * floor / cost["base"]
    print(hint("fit-limit", gbs=f"{bandwidth / 1e9:.0f}", percent=f"{percent:.0f}"))

# %% [markdown] id="server" lang="ko" reviewed="9805ec85e0ac"
# ## 채점에 쓰는 서버
#
# 시간을 재면 잴 때마다 달라지니, 채점은 **정해진 비용을 쓰는 가상의 서버**로 해요. 같은 요청이라면 누가 어디서 돌려도 같은 답이 나와요. 숫자는 다음과 같은
# 서버를 산수로 어림한 것이에요. 가중치 107억 개를 16비트로 올리고(층 48개, KV 헤드 8개, 헤드 크기 128), 1초에 0.9 TB를 읽고 107 TFLOP을
# 계산하는 24 GB짜리 GPU 한 장이에요. 아래 셀이 그 산수를 보여 줘요.
#
# `pages`는 KV 캐시의 페이지 수이고 한 페이지에 토큰 `page`개가 들어가요(4.5). `tpot`은 약속한 토큰당 시간이고, `most`는 답의 최대 길이예요.

# %% [markdown] id="server" lang="en"
# ## The server used for grading
#
# Measured times differ every time, so grading uses an **imagined server with fixed costs**, which gives the same answer
# for the same requests, wherever it runs. Its numbers follow by arithmetic from this: one GPU of 24 GB that reads 0.9 TB and computes 107 TFLOP a
# second, holding 10.7 billion weights in 16 bits (48 layers, 8 KV heads of size 128). The cell below does the arithmetic.
#
# `pages` is the number of pages of the KV cache, each of which holds `page` tokens (4.5); `tpot` is the promised time per
# token, and `most` the longest answer.

# %% id="server-code" kind="locked"
SERVER = {
    "base": 0.024,
    "prefill": 0.0002,
    "row": 0.0002,
    "kv": 2.2e-7,
    "pages": 448,
    "page": 16,
    "tpot": 0.05,
    "most": 256,
}


def pages_of(tokens, page):
    return -(-tokens // page)


weights, token_bytes = 10.7e9 * 2, 2 * 48 * 8 * 128 * 2
print(f"base    {weights / 0.9e12:.4f} s")
print(f"prefill {2 * 10.7e9 / 107e12:.6f} s")
print(f"kv      {token_bytes / 0.9e12:.2e} s")
print(f"{(weights + SERVER['pages'] * SERVER['page'] * token_bytes) / 1e9:.1f} GB")

# %% [markdown] id="work" lang="ko" reviewed="59553fe58102"
# ## 몰려드는 요청
#
# `draw_trace(seed, n, rate, burst)`는 1초에 평균 `rate`건씩 오는 요청 `n`건을 만들어요. 진짜 서비스의 성질 네 가지를 흉내 내요.
#
# - **몰려와요.** 바쁜 때와 한산한 때가 번갈아 와요. 바쁠 때는 `burst`배로 와요.
# - **길이가 제각각이에요.** 길이는 로그 정규 분포라서, 가끔 아주 긴 것이 섞여 있어요.
# - **두 종류예요.** 대화(`chat`)는 짧고 1초 안에 첫 토큰이 나와야 해요. 문서(`document`)는 길고 4초까지 기다려 줘요.
# - **두 언어예요.** 같은 뜻이라도 언어에 따라 토큰 수가 달라요. 아래에서 우리 토크나이저로 직접 세어 봐요. 채점용 요청에서는 절반을 한국어로
#   보고 길이를 1.5배로 잡아요.
#
# 답의 길이 `answer`는 **아무도 미리 몰라요.** 서버는 알지만 정책에는 알려 주지 않아요. 진짜 서비스도 그렇지요.

# %% [markdown] id="work" lang="en"
# ## Requests pour in
#
# `draw_trace(seed, n, rate, burst)` makes `n` requests, on average `rate` a second, with four features of real services.
#
# - **They come in bursts.** Busy and quiet times alternate; at busy times they come `burst` times as fast.
# - **Lengths vary.** They are log-normal, so now and then there is a very long one.
# - **There are two kinds.** A `chat` is short and wants its first token within 1 second. A `document` is long and waits up to
#   4 seconds.
# - **There are two languages.** The same meaning takes different numbers of tokens; below we count with our tokenizer. In the
#   requests for grading, half count as Korean and are 1.5 times as long.
#
# The length of the answer, `answer`, is something **nobody knows beforehand**. The server knows it but does not tell the
# policy, just as in a real service.

# %% id="work-code" kind="locked"
def draw_trace(seed, n, rate, burst):
    generator = random.Random(seed)
    now, busy, left, trace = 0.0, False, 0, []
    for number in range(n):
        if left == 0:
            busy, left = not busy, generator.randint(5, 25)
        left -= 1
        now += generator.expovariate(rate * burst if busy else rate / (2 - 1 / burst))
        kind = "document" if generator.random() < 0.2 else "chat"
        longer = 1.5 if generator.random() < 0.5 else 1.0
        middle, spread, longest = (1000, 0.6, 2400) if kind == "document" else (120, 0.8, 600)
        prompt = min(longest, max(8, round(longer * middle * generator.lognormvariate(0, spread))))
        answer = min(256, max(1, round(longer * 30 * generator.lognormvariate(0, 0.8))))
        trace.append(
            {
                "number": number,
                "kind": kind,
                "arrived": now,
                "deadline": now + (4.0 if kind == "document" else 1.0),
                "prompt": prompt,
                "answer": answer,
            }
        )
    return trace


for text in ["When does the library open tomorrow?", "내일 도서관은 몇 시에 문을 여나요?"]:
    print(len(text), len(academy_lm.encode(text)), text)
trace = draw_trace(seed=0, n=2000, rate=6, burst=3)
for kind in ("chat", "document"):
    prompts = sorted(request["prompt"] for request in trace if request["kind"] == kind)
    print(kind, len(prompts), [prompts[len(prompts) * q // 100] for q in (10, 50, 90, 99)])

# %% [markdown] id="task-limits" lang="ko" reviewed="8ba4de2524ae"
# ## 과제 3. 종이 위의 한계 (보통)
#
# 서버를 켜기 전에 계산해 봐요. `server`는 `SERVER` 같은 사전이에요.
#
# - `most_rows(server, context)`: 요청마다 캐시에 `context`토큰(1 이상)이 쌓여 있을 때, 한꺼번에 디코드할 수 있는 요청의 최대 수(정수). 두
#   가지를 모두 지켜야 해요. 한 단계의 시간이 `server["tpot"]` 이하이고, 모두의 KV가 `server["pages"]`페이지에 들어가요. 한 건도 안 되면 0이에요.
# - `saturation(server, prompt, answer, rows)`: 서버가 쉬지 않고 일할 때 1초에 끝낼 수 있는 요청의 수. 요청 하나가 차지하는 서버의 시간은
#   프리필 `prompt`토큰, 그리고 디코드 `answer - 1`단계예요. 디코드 한 단계에서 그 요청의 몫은, `rows`건이 나눠 내는 `base`, 그리고 자기의
#   `row`와 `kv`예요. 캐시는 평균 `prompt + answer / 2`토큰으로 봐요. 이보다 많은 요청이 계속 오면 줄은 끝없이 길어져요. **이용률**은 요청이
#   오는 속도를 이 값으로 나눈 것이에요.
# - `in_flight(rate, seconds)`: 1초에 `rate`건이 오고 한 건이 평균 `seconds`초 동안 서버 안에 머물 때, 서버 안에 있는 요청의 평균 수. **리틀의
#   법칙**이에요. 분포가 어떻든, 정책이 무엇이든 성립해요.
# - `won_per_million(tokens, seconds, won_per_hour)`: 한 시간에 `won_per_hour`원인 서버가 `seconds`초 동안 토큰 `tokens`개를 만들었을 때
#   백만 토큰의 원가(원). 하나도 못 만들었으면 `math.inf`

# %% [markdown] id="task-limits" lang="en"
# ## Task 3. Limits on paper (medium)
#
# Compute before you switch a server on. `server` is a dictionary like `SERVER`.
#
# - `most_rows(server, context)`: the most requests (an integer) that can be decoded at once when each has `context` tokens (at
#   least 1) in the cache. Two things must hold: a step takes at most `server["tpot"]`, and everybody's KV fits into
#   `server["pages"]` pages. 0 when not even one fits.
# - `saturation(server, prompt, answer, rows)`: how many requests a second the server can finish when it never rests. The time
#   one request takes of the server is its prefill of `prompt` tokens and `answer - 1` decode steps. In each decode step it
#   pays its part of the `base` that `rows` requests share, and its own `row` and `kv`; take its cache to hold `prompt + answer
#   / 2` tokens on average. If more keep coming, the queue grows without end. **Utilisation** is the rate of arrivals over
#   this number.
# - `in_flight(rate, seconds)`: the mean number of requests inside the server when `rate` arrive a second and each stays for
#   `seconds` on average. This is **Little's law**; it holds for any distribution and any policy.
# - `won_per_million(tokens, seconds, won_per_hour)`: the cost in won of a million tokens, when a server of `won_per_hour` won an
#   hour made `tokens` tokens in `seconds` seconds. `math.inf` when it made none.

# %% id="limits" kind="solution"
def most_rows(server, context):
    ### BEGIN SOLUTION
    one = server["row"] + server["kv"] * context
    in_time = math.floor((server["tpot"] - server["base"]) / one + 1e-9)
    return max(0, min(in_time, server["pages"] // pages_of(context, server["page"])))
    ### END SOLUTION


def saturation(server, prompt, answer, rows):
    ### BEGIN SOLUTION
    context = prompt + answer / 2
    step = server["base"] / rows + server["row"] + server["kv"] * context
    return 1 / (server["prefill"] * prompt + (answer - 1) * step)
    ### END SOLUTION


def in_flight(rate, seconds):
    ### BEGIN SOLUTION
    return rate * seconds
    ### END SOLUTION


def won_per_million(tokens, seconds, won_per_hour):
    ### BEGIN SOLUTION
    return won_per_hour * seconds / 3600 / tokens * 1e6 if tokens else math.inf
    ### END SOLUTION

# %% id="test-limits" kind="test" points=3
small = {**SERVER, "base": 0.02, "row": 0.001, "kv": 1e-5, "pages": 1000, "tpot": 0.0505}
assert submission.most_rows(small, 100) == 15, hint("rows-time")
assert submission.most_rows({**small, "pages": 50}, 100) == 7, hint("rows-pages")
assert submission.most_rows({**small, "tpot": 0.01}, 100) == 0, hint("rows-none")
assert abs(submission.saturation(small, 100, 1, 4) - 50.0) < 1e-6, hint("saturation-prefill")
wanted = 1 / (0.02 + 10 * (0.005 + 0.001 + 1e-5 * 105.5))
assert abs(submission.saturation(small, 100, 11, 4) - wanted) < 1e-6, hint("saturation")
assert abs(submission.in_flight(3.0, 2.5) - 7.5) < 1e-9, hint("little")
assert abs(submission.won_per_million(2000, 2.0, 3600) - 1000) < 1e-6, hint("won")
### BEGIN HIDDEN TESTS
for _ in range(40):
    pages = random.choice([random.randint(10, 100), random.randint(10, 4000)])
    drawn = {**SERVER, "tpot": random.uniform(0.02, 0.09), "pages": pages}
    drawn["kv"], drawn["page"] = random.uniform(1e-7, 2e-6), random.choice([1, 16, 32])
    context = random.choice([random.randint(1, 40), random.randint(1, 3000)])
    found = submission.most_rows(drawn, context)

    def fits(rows):
        quick = step_seconds(drawn, 0, rows, rows * context) <= drawn["tpot"] + 1e-9
        return quick and rows * math.ceil(context / drawn["page"]) <= drawn["pages"]

    assert found == int(found) and (found == 0 or fits(found)), hint("rows-too-many")
    assert not fits(found + 1), hint("rows-too-few")
edge = {**SERVER, "base": 0.25, "row": 0.125, "kv": 2.0**-10, "tpot": 1.0}
assert submission.most_rows(edge, 128) == 3, hint("rows-too-few")
assert submission.most_rows({**edge, "tpot": 9.0, "pages": 24}, 128) == 3, hint("rows-too-few")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for _ in range(20):
    prompt, answer, rows = random.randint(1, 3000), random.randint(1, 400), random.randint(1, 64)
    drawn = {**SERVER, "prefill": random.uniform(1e-5, 1e-3), "row": random.uniform(1e-5, 1e-3)}
    alone = step_seconds(drawn, 0, rows, rows * (prompt + answer / 2)) / rows
    wanted = 1 / (drawn["prefill"] * prompt + (answer - 1) * alone)
    found = submission.saturation(drawn, prompt, answer, rows)
    assert abs(found / wanted - 1) < 1e-6, hint("saturation")
assert submission.won_per_million(0, 10.0, 700) == math.inf, hint("won-none")
for _ in range(5):
    tokens, span, won = random.randint(1, 10**7), random.uniform(0.1, 9000), random.uniform(100, 9000)
    wanted = won / 3600 * span / tokens * 1e6
    assert abs(submission.won_per_million(tokens, span, won) / wanted - 1) < 1e-6, hint("won")
    assert abs(submission.in_flight(won, span) / (won * span) - 1) < 1e-9, hint("little")
### END HIDDEN TESTS

# %% [markdown] id="limits-look" lang="ko" reviewed="c4d11cda7c10"
# 함께 디코드하는 요청이 늘수록 한 사람은 느려지고 토큰은 싸져요. 왼쪽 축이 약속한 시간에 닿는 곳, 또는 페이지가 바닥나는 곳에서 멈춰야 해요.
# 이 서버에서는 어느 쪽이 먼저 막나요? `context`를 바꿔 보세요. 서버 값 `won_per_hour`는 예로 든 숫자예요.

# %% [markdown] id="limits-look" lang="en"
# The more requests are decoded together, the slower each becomes and the cheaper a token. You must stop where the left axis
# meets the promised time, or where the pages run out. Which stops this server first? Change `context`. The server's price
# `won_per_hour` is an example.

# %% id="limits-plot" kind="demo"
won_per_hour, context = 700, 400
chosen = draw_trace(seed=0, n=2000, rate=6, burst=3)
mean_prompt = sum(request["prompt"] for request in chosen) / len(chosen)
mean_answer = sum(request["answer"] for request in chosen) / len(chosen)
with when_solved():
    rows = np.arange(1, 121)
    steps = step_seconds(SERVER, 0, rows, rows * context)
    won = [won_per_million(float(r), float(s), won_per_hour) for r, s in zip(rows, steps)]
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    lines = axes.plot(rows, 1e3 * steps, label=hint("plot-step"))
    lines += [axes.axhline(1e3 * SERVER["tpot"], color="k", linestyle="--", label=hint("plot-slo"))]
    lines += [axes.axvline(SERVER["pages"] // pages_of(context, 16), color="C3", linestyle=":")]
    lines[-1].set_label(hint("plot-pages"))
    axes.set(xlabel=hint("plot-rows"), ylabel=hint("plot-step"), ylim=(0, 60))
    other = axes.twinx()
    lines += other.plot(rows, won, "C1", label=hint("plot-won"))
    other.set(ylabel=hint("plot-won"), yscale="log")
    other.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(handles=lines, loc="center right")
    plt.show()
    together = int(most_rows(SERVER, round(mean_prompt + mean_answer / 2)))
    full = saturation(SERVER, mean_prompt, mean_answer, together)
    print(hint("limits-said", rows=together, rate=f"{full:.1f}"))

# %% [markdown] id="simulator" lang="ko" reviewed="949c6d3210a6"
# ## 가상의 시계로 도는 서버
#
# `serve(policy, trace, server)`는 서버를 가상의 시계로 돌려요. 단계마다 정책에게 지금 상황 `view`를 보여 주고 `policy.plan(view)`가 돌려준
# 계획대로 한 단계를 처리한 다음, 시계를 `step_seconds`만큼 돌려요.
#
# `view`는 사전이에요. `now`는 지금 시각, `free`는 빈 페이지의 수예요. `waiting`은 프리필이 아직 안 끝난 요청, `running`은 디코드하고 있는
# 요청의 리스트이고 둘 다 도착한 순서예요. 요청 하나는 다음을 담은 사전이에요.
#
# | 이름 | 뜻 |
# |---|---|
# | `number`, `arrived`, `deadline` | 번호, 도착한 때, 첫 토큰의 마감 |
# | `prompt` | 프롬프트의 토큰 수 |
# | `context` | 지금 캐시에 있는 토큰 수. `pages_of(context, page)`페이지를 차지해요. |
# | `todo` | 앞으로 프리필해야 하는 토큰 수 |
# | `made` | 지금까지 만든 답의 토큰 수 |
#
# 계획도 사전이에요. 없는 항목은 비었다고 봐요. 위에서부터 차례로 처리해요.
#
# | 항목 | 뜻 | 규칙 |
# |---|---|---|
# | `"reject"` | 거절할 번호의 리스트 | 기다리는 요청 가운데 `made`가 0인 것만 |
# | `"preempt"` | 쫓아낼 번호의 리스트. 페이지를 모두 내놓고 기다리는 줄로 돌아가요. 나중에 `prompt + made`토큰을 다시 프리필해야 해요. | 디코드하고 있거나, 기다리면서 페이지를 가진 요청 |
# | `"prefill"` | `{번호: 토큰 수}`. `todo`를 다 채우면 그 단계에 토큰이 하나 나와요. | 기다리는 요청. 1 이상 `todo` 이하 |
# | `"decode"` | 토큰을 하나씩 만들 번호의 리스트. 캐시가 한 토큰씩 늘어요. | 디코드하고 있는 요청 |
#
# 프리필과 디코드에 필요한 새 페이지는 모두 합쳐 빈 페이지보다 많을 수 없어요. 규칙을 어기면 이유를 말하고 멈춰요. 아무것도 하지 않는 계획이면
# 다음 요청이 올 때까지 쉬고, 올 요청도 없는데 누군가 남아 있으면 요청을 잃어버린 것이니 멈춰요.

# %% [markdown] id="simulator" lang="en"
# ## A server on a virtual clock
#
# `serve(policy, trace, server)` runs a server on a virtual clock. At every step it shows the policy the present situation,
# `view`, does one step as the plan says that `policy.plan(view)` returns, and moves the clock on by `step_seconds`.
#
# `view` is a dictionary: `now` is the time and `free` the number of free pages. `waiting` lists the requests whose prefill is
# not finished, `running` those that are being decoded, both in the order in which they arrived. A request is a dictionary of
#
# | name | meaning |
# |---|---|
# | `number`, `arrived`, `deadline` | its number, when it came, when its first token is due |
# | `prompt` | tokens of its prompt |
# | `context` | tokens now in the cache; they take `pages_of(context, page)` pages |
# | `todo` | tokens that are still to be prefilled |
# | `made` | tokens of its answer so far |
#
# The plan is a dictionary too. What is missing counts as empty. It is carried out from top to bottom.
#
# | item | meaning | rule |
# |---|---|---|
# | `"reject"` | list of numbers to turn away | of those that wait, only with `made` 0 |
# | `"preempt"` | list of numbers to put out: they give back all pages and wait again; later, `prompt + made` tokens must be prefilled anew | running, or waiting with pages |
# | `"prefill"` | `{number: tokens}`; when `todo` is complete, this step makes a token | waiting; from 1 to `todo` |
# | `"decode"` | list of numbers that get one token each; their caches grow by a token | running |
#
# The new pages that prefill and decode need must not exceed the free ones in total. A plan that breaks a rule ends the run
# and says which. With a plan that does nothing the server rests until the next request; if none is to come and somebody is left,
# requests have been lost, and it ends.

# %% id="simulator-code" kind="locked"
SEEN = ("number", "arrived", "deadline", "prompt", "context", "todo", "made")


class VirtualEngine:
    def __init__(self, server):
        self.server, self.now = server, 0.0

    def wait(self, until):
        self.now = max(self.now, until)

    def release(self, number):
        pass

    def run(self, chunks, rows):
        prefill = sum(tokens for _, tokens in chunks)
        kv = sum(request["context"] for request in rows)
        self.now += step_seconds(self.server, prefill, len(rows), kv)


class Service:
    def __init__(self, trace, server, engine):
        fresh = {"context": 0, "made": 0, "rejected": False}
        self.records = [{**each, **fresh, "todo": each["prompt"], "times": []} for each in trace]
        self.coming = deque(sorted(self.records, key=lambda record: record["arrived"]))
        self.waiting, self.running = {}, {}
        self.server, self.engine, self.free = server, engine, server["pages"]

    def arrive(self):
        while self.coming and self.coming[0]["arrived"] <= self.engine.now:
            record = self.coming.popleft()
            self.waiting[record["number"]] = record

    def view(self):
        def shown(requests):
            ordered = sorted(requests.values(), key=lambda record: record["arrived"])
            return [{name: record[name] for name in SEEN} for record in ordered]

        waiting, running = shown(self.waiting), shown(self.running)
        return {"now": self.engine.now, "free": self.free, "waiting": waiting, "running": running}

    def hold(self, record, tokens):
        page = self.server["page"]
        self.free += pages_of(record["context"], page) - pages_of(tokens, page)
        record["context"] = tokens
        if tokens == 0:
            self.engine.release(record["number"])

    def reject(self, number):
        assert number in self.waiting and not self.waiting[number]["made"], hint("plan-reject")
        record = self.waiting.pop(number)
        record["rejected"] = True
        self.hold(record, 0)

    def preempt(self, number):
        record = self.running.pop(number, None) or self.waiting.get(number)
        assert record and record["context"], hint("plan-preempt")
        self.hold(record, 0)
        record["todo"] = record["prompt"] + record["made"]
        self.waiting[number] = record

    def checked(self, prefill, decode):
        for number, n in prefill.items():
            record = self.waiting.get(number)
            assert record and 1 <= n <= record["todo"], hint("plan-prefill")
        twice = len(set(decode)) < len(decode)
        assert not twice and set(decode) <= self.running.keys(), hint("plan-decode")
        parts = [(self.waiting[number], n) for number, n in prefill.items()]
        parts += [(self.running[number], 1) for number in decode]
        page, needed = self.server["page"], 0
        for record, n in parts:
            needed += pages_of(record["context"] + n, page) - pages_of(record["context"], page)
        assert needed <= self.free, hint("plan-pages", needed=needed, free=self.free)
        return parts

    def step(self, plan):
        try:
            names = ("reject", "preempt", "decode")
            reject, preempt, decode = ([int(i) for i in plan.get(name, ())] for name in names)
            prefill = {int(i): int(n) for i, n in dict(plan.get("prefill", ())).items()}
        except (AttributeError, TypeError, ValueError):
            raise AssertionError(hint("plan-shape")) from None
        for number in reject:
            self.reject(number)
        for number in preempt:
            self.preempt(number)
        parts = self.checked(prefill, decode)
        if not parts:
            left = len(self.waiting) + len(self.running)
            assert self.coming or reject or preempt or not left, hint("plan-lost", left=left)
            if self.coming and not (reject or preempt):
                self.engine.wait(self.coming[0]["arrived"])
            return
        self.engine.run(parts[: len(prefill)], [record for record, _ in parts[len(prefill) :]])
        for place, (record, n) in enumerate(parts):
            self.hold(record, record["context"] + n)
            record["todo"] -= n if place < len(prefill) else 0
            if record["todo"] == 0:
                self.token(record)

    def token(self, record):
        record["made"] += 1
        record["times"].append(self.engine.now)
        self.running[record["number"]] = record
        self.waiting.pop(record["number"], None)
        if record["made"] == record["answer"]:
            self.hold(self.running.pop(record["number"]), 0)


def serve(policy, trace, server, engine=None, longest=15_000):
    service, steps = Service(trace, server, engine or VirtualEngine(server)), 0
    while service.coming or service.waiting or service.running:
        service.arrive()
        if not service.waiting and not service.running:
            service.engine.wait(service.coming[0]["arrived"])
            continue
        steps += 1
        assert steps <= longest, hint("plan-endless", longest=longest)
        service.step(policy.plan(service.view()))
    return service.records

# %% [markdown] id="example" lang="ko" reviewed="83071a3f3fc9"
# ## 따라 해 보기: 먼저 온 순서대로
#
# `FirstCome`은 여러분이 넘어야 할 기준이에요. 나쁜 정책이 아니에요. 2022년 무렵의 서버가 이렇게 했어요. 온 순서대로 받고, 자리가 있으면
# **프롬프트를 통째로** 먼저 계산하고, 도중에 페이지가 모자라지 않도록 **가장 긴 답에 맞춰** 자리를 예약해요. 아무도 거절하지 않아요.
#
# 대화 여섯 건이 답을 받고 있는데 0.5초에 2,000토큰짜리 문서가 와요. 대화 0번은 토큰 사이를 가장 길게 몇 초 기다리게 될까요? 먼저 손으로 계산해
# 보세요.

# %% [markdown] id="example" lang="en"
# ## A worked example: first come, first served
#
# `FirstCome` is the baseline that you are to beat. It is not a foolish policy; servers of about 2022 worked like this. It takes
# requests as they come, computes **whole prompts** first whenever there is room, and reserves room for **the longest answer**,
# so that pages never run out. It rejects nobody.
#
# Six chats are being answered, and at 0.5 s a document of 2,000 tokens arrives. How long is the longest wait of chat 0 between
# two tokens? Work it out by hand first.

# %% id="example-code" kind="locked"
class FirstCome:
    def __init__(self, server):
        self.server = server

    def plan(self, view):
        page, most = self.server["page"], self.server["most"]
        reserved = sum(pages_of(r["prompt"] + most, page) for r in view["running"])
        prefill = {}
        for request in view["waiting"]:
            reserved += pages_of(request["prompt"] + most, page)
            if reserved > self.server["pages"]:
                break
            prefill[request["number"]] = request["todo"]
        if prefill:
            return {"prefill": prefill}
        return {"decode": [request["number"] for request in view["running"]]}


def request_at(number, arrived, prompt, answer, patience=1.0, kind="chat"):
    times = {"arrived": arrived, "deadline": arrived + patience}
    return {"number": number, "kind": kind, "prompt": prompt, "answer": answer, **times}


def longest_gap(record):
    return max(b - a for a, b in zip(record["times"], record["times"][1:]))

# %% id="example-run"
scene = [request_at(number, 0.0, 60, 40) for number in range(6)]
scene.append(request_at(6, 0.5, 2000, 10, patience=4.0, kind="document"))
records = serve(FirstCome(SERVER), scene, SERVER)
print(f"{longest_gap(records[0]):.3f} s")
print(f"{step_seconds(SERVER, 2000, 0, 0):.3f} s + {step_seconds(SERVER, 0, 7, 3000):.3f} s")

# %% [markdown] id="predict" lang="ko" reviewed="0175eb941165"
# ## 먼저 예상해 보세요
#
# `FirstCome`으로 같은 서버를 돌려요. 1초에 평균 1건이 올 때보다 **4건이 올 때**, 첫 토큰까지의 시간의 p99는 **몇 배**가 될까요? 숫자를 적고
# 실행해 보세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Run the same server with `FirstCome`. Compared with one request a second on average, **how many times** longer is the p99 of
# the time to first token with **four a second**? Write a number down and run. It is not graded.

# %% id="guess"
growth_guess = 4

# %% id="predict-code" kind="demo"
def p99_wait(rate, seed):
    records = serve(FirstCome(SERVER), draw_trace(seed, 300, rate, 2), SERVER)
    return sorted(record["times"][0] - record["arrived"] for record in records)[296]


def p99_of_three(rate):
    return sum(p99_wait(rate, seed) for seed in range(3)) / 3


slow, fast = p99_of_three(1), p99_of_three(4)
times = f"{fast / slow:.0f}"
print(hint("growth", one=f"{slow:.1f}", four=f"{fast:.1f}", times=times, guess=growth_guess))

# %% [markdown] id="predict-why" lang="ko" reviewed="303018227077"
# 줄의 길이는 부하에 비례하지 않아요. 이용률 ρ가 1에 다가가면 기다리는 시간은 $1 / (1 - \rho)$처럼 치솟아요. 요청이 무작위로, 그것도 몰려서
# 오기 때문이에요. 그래서 서비스는 언제나 여유를 두고 돌려야 하고, 여유가 사라졌을 때 **무엇을 포기할지** 정해 두어야 해요.
#
# 이제 한 단계씩 만들어 봐요.

# %% [markdown] id="predict-why" lang="en"
# A queue does not grow in proportion to the load. As utilisation ρ comes close to 1, waiting shoots up like $1 / (1 - \rho)$,
# because requests come at random, and in bursts at that. So a service needs slack, and must have decided **what to give up**
# when there is none left.
#
# Now build it, piece by piece.

# %% [markdown] id="task-step" lang="ko" reviewed="d10546742fef"
# ## 과제 4. 한 단계에 담기 (보통)
#
# 긴 프롬프트를 **여러 단계에 나눠** 프리필하면(chunked prefill) 디코드하는 사람들이 멈추지 않아요. 한 단계에 담을 수 있는 것은 두 가지, 시간과
# 페이지예요.
#
# - `prefill_room(server, running)`: `running`을 모두 디코드하면서, 한 단계의 시간이 `server["tpot"]`을 넘지 않게 함께 프리필할 수 있는 토큰의
#   최대 수(정수, 0 이상)
# - `cut_prefill(waiting, room, free, page)`: `waiting`을 **리스트에 적힌 순서대로** 보면서 한 사람에게 줄 수 있는 만큼 최대로 프리필을 나눠 줘요.
#   모두 합쳐 `room`토큰까지, 새 페이지는 `free`개까지예요. 이미 가진 페이지의 남은 칸은 공짜로 쓸 수 있어요. 앞사람이 페이지가 없어 못 받아도
#   뒷사람은 살펴봐요. 돌려주는 값은 `{번호: 토큰 수}`이고, 0토큰인 사람은 넣지 않아요.
# - `victims(running, free, page)`: 디코드하려면 `context`가 `page`의 배수인 요청마다 새 페이지가 하나씩 필요해요. `free`로 모자라면 **가장
#   늦게 온 요청부터** 쫓아내요. 쫓겨난 요청은 페이지를 모두 내놓고, 이번 단계에 새 페이지가 필요하지 않아요. 남은 사람이 모두 디코드할 수 있을
#   때까지만 쫓아내고, 번호를 쫓아낸 순서대로 담은 리스트를 돌려줘요. 도착한 때가 같으면 번호가 큰 쪽이 늦게 온 거예요.

# %% [markdown] id="task-step" lang="en"
# ## Task 4. What fits into a step (medium)
#
# Prefilling a long prompt **in chunks over several steps** keeps those who are being decoded from freezing. What fits into a
# step is limited by two things: time and pages.
#
# - `prefill_room(server, running)`: the most tokens (an integer, at least 0) that can be prefilled in a step along with
#   decoding all of `running`, such that the step takes at most `server["tpot"]`
# - `cut_prefill(waiting, room, free, page)`: goes through `waiting` **in the order of the list** and gives each as many tokens as
#   possible: `room` tokens and `free` new pages for all together. Places left in pages that a request already has are free of
#   charge. If somebody gets nothing for lack of pages, look at those behind nevertheless. Returns `{number: tokens}`, without
#   those who get 0 tokens.
# - `victims(running, free, page)`: to decode, each request whose `context` is a multiple of `page` needs a new page. If `free` is
#   not enough, put out requests **from the latest arrival on**. Whoever is put out gives back all pages and needs none in this
#   step. Stop as soon as all others can be decoded. Returns the list of their numbers in that order. Of two that arrived at
#   the same time, the larger number is the later one.

# %% id="step" kind="solution"
def prefill_room(server, running):
    ### BEGIN SOLUTION
    kv = sum(request["context"] for request in running)
    left = server["tpot"] - step_seconds(server, 0, len(running), kv)
    return max(0, math.floor(left / server["prefill"] + 1e-9))
    ### END SOLUTION


def cut_prefill(waiting, room, free, page):
    ### BEGIN SOLUTION
    cut = {}
    for request in waiting:
        held = pages_of(request["context"], page)
        tokens = min(request["todo"], room, (held + free) * page - request["context"])
        if tokens > 0:
            cut[request["number"]] = tokens
            room -= tokens
            free -= pages_of(request["context"] + tokens, page) - held
    return cut
    ### END SOLUTION


def victims(running, free, page):
    ### BEGIN SOLUTION
    stay, out = sorted(running, key=lambda r: (r["arrived"], r["number"])), []
    while sum(request["context"] % page == 0 for request in stay) > free:
        last = stay.pop()
        free += pages_of(last["context"], page)
        out.append(last["number"])
    return out
    ### END SOLUTION

# %% id="step-helpers" kind="locked"
def seen(number, context=0, todo=0, arrived=0.0, made=0, deadline=1.0):
    known = {"number": number, "context": context, "todo": todo, "arrived": arrived}
    return {**known, "made": made, "prompt": max(1, context + todo - made), "deadline": deadline}

# %% id="test-step" kind="test" points=4
assert submission.prefill_room(SERVER, []) == 130, hint("room-empty")
assert submission.prefill_room(SERVER, [seen(0, 500), seen(1, 1500)]) == 125, hint("room")
queue = [seen(4, 0, 20, 2.0, deadline=5.0), seen(2, 0, 300, 1.0, deadline=4.0), seen(7, 0, 50)]
cut = submission.cut_prefill(queue, 100, 50, 16)
assert cut == {4: 20, 2: 80}, hint("cut-order")
cut = submission.cut_prefill([seen(0, 10, 100), seen(1, 0, 40)], 500, 2, 16)
assert cut == {0: 38}, hint("cut-pages")
crowd = [seen(0, 32, arrived=0.0), seen(1, 20, arrived=1.0), seen(2, 48, arrived=2.0)]
assert list(submission.victims(crowd, 2, 16)) == [], hint("victims-none")
assert list(submission.victims(crowd, 1, 16)) == [2], hint("victims-latest")
### BEGIN HIDDEN TESTS
for _ in range(40):
    drawn = {**SERVER, "prefill": random.uniform(5e-5, 1e-3), "kv": random.uniform(1e-7, 1e-6)}
    drawn["tpot"] = random.choice([0.05, random.uniform(0.03, 0.3)])
    running = [seen(i, random.randint(1, 900)) for i in range(random.randint(0, 150))]
    found = submission.prefill_room(drawn, running)
    kv = sum(request["context"] for request in running)
    bare = step_seconds(drawn, 0, len(running), kv)
    assert found == int(found) >= 0, hint("room-negative")
    assert found == 0 or bare + drawn["prefill"] * found <= drawn["tpot"] + 1e-7, hint("room")
    assert bare + drawn["prefill"] * (found + 1) > drawn["tpot"] - 1e-7, hint("room-more")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for _ in range(60):
    page, room = random.choice([1, 4, 16]), random.choice([0, 30, 300, 3000])
    free = random.randint(0, 40)
    queue = []
    for i in random.sample(range(20), 8):
        todo, moments = random.randint(1, 200), [random.random(), random.choice([0, 0, 1])]
        queue.append(seen(i, random.choice([0, 0, 5, 16, 33]), todo, *moments, random.random()))
    wanted, tokens_left, pages_left = {}, room, free
    for request in queue:
        inside = -request["context"] % page
        most = min(request["todo"], tokens_left, inside + pages_left * page)
        if most:
            wanted[request["number"]] = most
            tokens_left -= most
            pages_left -= max(0, math.ceil((most - inside) / page))
    found = submission.cut_prefill(queue, room, free, page)
    assert dict(found) == wanted, hint("cut-several", room=room, free=free)
assert submission.cut_prefill([], 10, 10, 16) == {}, hint("cut-several", room=10, free=10)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for _ in range(80):
    page, free = random.choice([1, 4, 16]), random.choice([0, 0, 0, 1, 2, 5])
    running = []
    for i in range(random.randint(1, 9)):
        context = page * random.randint(1, 5) + random.choice([0, 0, page // 2])
        running.append(seen(i, context, arrived=random.choice([1.0, random.random()])))
    late = sorted(running, key=lambda r: (-r["arrived"], -r["number"]))
    for gone in range(len(late) + 1):
        pages = free + sum(-(-r["context"] // page) for r in late[:gone])
        if sum(r["context"] % page == 0 for r in late[gone:]) <= pages:
            break
    random.shuffle(running)
    found = submission.victims(running, free, page)
    assert list(found) == [r["number"] for r in late[:gone]], hint("victims-several")
assert list(submission.victims([], 0, 16)) == [], hint("victims-none")
### END HIDDEN TESTS

# %% [markdown] id="task-triage" lang="ko" reviewed="184eb4539d27"
# ## 과제 5. 마감 순서와 거절 (보통)
#
# 순서를 정하는 유명한 방법은 **마감이 가장 이른 것 먼저**(earliest deadline first, EDF)예요. 서버가 하나이고 도중에 바꿔 가며 처리할 수 있으면, 모두의
# 마감을 지킬 방법이 있을 때 EDF도 지켜요. 하지만 손님이 너무 많으면 EDF는 무너져요. 이미 늦을 사람을 붙들고 있느라 다음 사람까지
# 늦어지거든요. 그래서 **가망이 없는 요청을 일찍 거절**해요.
#
# `triage(waiting, now, speed)`를 완성하세요. 프리필은 1초에 `speed`토큰씩 나아간다고 봐요.
#
# 1. `made`가 0보다 큰 요청(쫓겨났다가 돌아온 사람)을 맨 앞에, 그다음은 `deadline`이 이른 순서로 세워요. 같으면 번호가 작은 쪽이 먼저예요. `made`가
#    0보다 큰 사람끼리도 `deadline`, 번호 순서예요.
# 2. 앞에서부터 한 명씩, 앞에 남겨 둔 사람들의 `todo`를 모두 처리하고 자기 `todo`까지 마치는 시각을 계산해요. 마감보다 늦으면 거절하고, 아니면
#    남겨 둬요. 마감과 꼭 같으면 늦지 않은 거예요. **거절한 사람은 뒷사람의 시간을 차지하지 않아요.**
# 3. `made`가 0보다 큰 사람은 늦어도 거절할 수 없어요. 이미 답을 보고 있으니까요.
#
# 돌려주는 값은 번호의 리스트 둘 `(keep, reject)`이고, 둘 다 세운 순서예요.

# %% [markdown] id="task-triage" lang="en"
# ## Task 5. Deadlines and rejection (medium)
#
# A famous way to order work is **earliest deadline first** (EDF): on one server that can switch between requests, if
# there is any way to meet all deadlines, EDF meets them.
# But with too many guests EDF collapses: it spends its time on somebody who will be late anyway, and makes the next one late
# too. So **reject early what is hopeless**.
#
# Complete `triage(waiting, now, speed)`. Take prefill to advance by `speed` tokens a second.
#
# 1. Put requests with `made` above 0 (they were put out and are back) first, and then go by `deadline`, earliest first; of equal
#    ones the smaller number first. Those with `made` above 0 are among themselves in order of `deadline` and number too.
# 2. From the front on, compute when each would be done: after the `todo` of all that were kept before it, and its own. If that
#    is later than its deadline, reject it, else keep it. Exactly at the deadline is not late. **A rejected request takes no time
#    from those behind.**
# 3. One with `made` above 0 cannot be rejected even if late: somebody is already reading its answer.
#
# Returns two lists of numbers, `(keep, reject)`, both in that order.

# %% id="triage" kind="solution"
def triage(waiting, now, speed):
    ### BEGIN SOLUTION
    keep, reject, load = [], [], 0
    for request in sorted(waiting, key=lambda r: (r["made"] == 0, r["deadline"], r["number"])):
        done = now + (load + request["todo"]) / speed
        if request["made"] == 0 and done > request["deadline"]:
            reject.append(request["number"])
        else:
            keep.append(request["number"])
            load += request["todo"]
    return keep, reject
    ### END SOLUTION

# %% id="test-triage" kind="test" points=3
todos = [(100, 9.0), (300, 4.0), (100, 5.0)]
queue = [seen(i, todo=todo, deadline=deadline) for i, (todo, deadline) in enumerate(todos)]
keep, reject = submission.triage(queue, 1.0, 100.0)
assert list(reject) == [], hint("triage-hopeless")
assert list(keep) == [1, 2, 0], hint("triage-order")
keep, reject = submission.triage(queue, 1.5, 100.0)
assert list(reject) == [1], hint("triage-hopeless")
assert list(keep) == [2, 0], hint("triage-load")
### BEGIN HIDDEN TESTS
back = seen(7, todo=800, made=3, deadline=0.1)
keep, reject = submission.triage([*queue, back], 1.5, 1000.0)
assert list(keep)[:1] == [7] and 7 not in list(reject), hint("triage-made")
keep, reject = submission.triage([back, *queue], 1.5, 100.0)
assert list(keep) == [7] and list(reject) == [1, 2, 0], hint("triage-made-load")
keep, reject = submission.triage([], 3.0, 10.0)
assert list(keep) == [] and list(reject) == [], hint("triage-empty")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for _ in range(60):
    queue = []
    for number in random.sample(range(100), random.randint(1, 15)):
        deadline, made = random.choice([2, 3, 5, 8, 13]), random.choice([0, 0, 0, 0, 1, 9])
        known = {"context": random.choice([0, 30]), "arrived": random.uniform(0, 2), "made": made}
        queue.append(seen(number, todo=random.randint(1, 40), deadline=float(deadline), **known))
    now, speed = random.choice([0.0, 1.0, 2.5]), 16.0
    returned = sorted((r["deadline"], r["number"], r["todo"]) for r in queue if r["made"])
    fresh = sorted((r["deadline"], r["number"], r["todo"]) for r in queue if not r["made"])
    wanted, turned = [number for _, number, _ in returned], []
    ahead = sum(todo for _, _, todo in returned)
    for deadline, number, todo in fresh:
        late = now + (ahead + todo) / speed > deadline
        (turned if late else wanted).append(number)
        ahead += 0 if late else todo
    keep, reject = submission.triage(queue, now, speed)
    assert list(keep) == wanted and list(reject) == turned, hint("triage-several")
### END HIDDEN TESTS

# %% [markdown] id="task-policy" lang="ko" reviewed="e8e719abdc03"
# ## 과제 6. 정책 (어려움)
#
# 이제 모두 모아요. `Policy(server)`의 `plan(view)`를 완성하세요. 위의 함수를 써도 되고, 전혀 다르게 짜도 돼요. 상태가 필요하면 `__init__`에서
# 만들어 두세요. 채점은 **한 번도 본 적 없는 요청**으로 `serve`를 돌려서 해요. 네 가지를 봐요.
#
# 1. **잃지 않기**(3점): 규칙을 지키고, 받은 요청을 끝까지 처리해요. 마감이 아주 먼 요청은 페이지가 아무리 모자라도 한 건도 거절하지 않아요.
#    페이지의 수와 크기가 다른 서버에서도 그래야 해요.
# 2. **가벼운 부하**(3점): `rate=0.8, burst=1.5`에서는 100건짜리 요청 묶음마다 99건 이상이 좋은 요청이어야 해요. p99 약속을 지킨다는 뜻이에요.
# 3. **무거운 부하**(4점): `rate=8, burst=3`, 150건짜리 네 묶음에서 굿풋이 `FirstCome`의 **3배 이상**이고, 넘을 수 없는 한계 `most_good`의
#    **60% 이상**이어야 해요. 비용이 조금 다른 서버에서도(`rate=5`) 한계의 50% 이상이어야 해요.
# 4. **굶기지 않기**(2점): 무거운 부하에서 대화의 60% 이상, 문서의 20% 이상이 좋은 요청이어야 해요. 받아들인 요청은 20초 안에 첫 토큰을 받고,
#    토큰 사이를 10초 넘게 기다리지 않아요.
#
# 생각해 볼 것
#
# - 빈 페이지를 마지막 하나까지 새 프롬프트에 주면 다음 단계에 무슨 일이 생길까요? 조금 남겨 두는 것이 나을까요?
# - 프롬프트를 반만 넣은 사람 여럿이 페이지를 나눠 가지면, 아무도 끝내지 못하고 모두 멈출 수 있어요. 그때는 누가 비켜 줘야 할까요?
# - 토큰당 시간은 평균이에요. 한 단계를 약속보다 조금 짧게 잡으면 무엇을 얻고 무엇을 잃나요?
# - 정책은 답의 길이를 몰라요.
#
# `most_good(trace, server)`는 답의 길이와 미래를 모두 아는 사람도 넘지 못하는 한계예요. 좋은 요청 하나에 서버는 적어도 자기 몫의 시간을 써요.
# 프리필, 디코드한 행, 읽은 KV, 그리고 `base`의 몫이에요. 한 단계에 읽을 수 있는 KV는 많아야 캐시 전체이니, KV를 K토큰 읽으려면 적어도
# K ÷ (캐시 크기)단계가 필요하거든요. 이 시간이 짧은 요청부터 담아서 몇 건이 들어가는지 세어요.

# %% [markdown] id="task-policy" lang="en"
# ## Task 6. The policy (hard)
#
# Now put it together. Complete `plan(view)` of `Policy(server)`. Use the functions above or do it quite differently; if you need
# state, make it in `__init__`. Grading runs `serve` with **requests that nobody has seen before** and looks at four things.
#
# 1. **Nothing lost** (3 points): it keeps the rules and finishes what it accepts. Requests whose deadline is very far away are
#    never rejected, however short pages are. This holds on servers with another number or size of pages, too.
# 2. **Light load** (3 points): with `rate=0.8, burst=1.5`, at least 99 of every 100 requests must be good, in every trace. That
#    is what keeping a p99 promise means.
# 3. **Heavy load** (4 points): with `rate=8, burst=3` and four traces of 150, your goodput must be **at least 3 times** that of
#    `FirstCome`, and **at least 60%** of `most_good`, a limit that nobody can exceed. On a server with somewhat different costs (`rate=5`)
#    it must be at least 50% of the limit.
# 4. **Nobody starves** (2 points): at the heavy load, at least 60% of chats and 20% of documents must be good. Whoever is accepted
#    gets a first token within 20 seconds and never waits more than 10 seconds for the next token.
#
# Things to think about
#
# - If you give the last free page to a new prompt, what happens in the next step? Is it better to keep a few?
# - If several hold pages for half a prompt each, nobody can finish and all are stuck. Who should make way?
# - The time per token is a mean. What do you gain, and what do you lose, by making a step a little shorter than promised?
# - The policy does not know how long an answer will be.
#
# `most_good(trace, server)` is a limit even for somebody who knows all answers' lengths and the future. A good request costs the
# server at least its own time: its prefill, its decoded rows, the KV read, and its part of `base`. One step can read at most the
# whole cache, so reading K tokens of KV takes at least K ÷ (size of the cache) steps. It counts how many requests fit, the
# cheapest first.

# %% id="bound" kind="locked"
def least_seconds(request, server):
    steps = request["answer"] - 1
    kv = steps * request["prompt"] + steps * (steps - 1) / 2
    share = kv / (server["pages"] * server["page"])
    return step_seconds({**server, "base": server["base"] * share}, request["prompt"], steps, kv)


def most_good(trace, server):
    end = max(r["deadline"] + (r["answer"] - 1) * server["tpot"] for r in trace)
    left, count = end - min(r["arrived"] for r in trace), 0
    for needed in sorted(least_seconds(request, server) for request in trace):
        left -= needed
        count += left >= 0
    return count


def kept_promise(record, server):
    if record["rejected"] or record["times"][0] > record["deadline"]:
        return False
    spent = record["times"][-1] - record["times"][0]
    return spent <= server["tpot"] * (record["made"] - 1) + 1e-9


def count_good(records, server, kind=None):
    chosen = [r for r in records if kind in (None, r["kind"])]
    return sum(kept_promise(record, server) for record in chosen)

# %% id="policy" kind="solution"
class Policy:
    def __init__(self, server):
        self.server = server
        ### BEGIN SOLUTION
        self.careful = {**server, "tpot": 0.92 * server["tpot"]}
        self.spare = server["pages"] // 20
        ### END SOLUTION

    def plan(self, view):
        ### BEGIN SOLUTION
        page, running = self.server["page"], view["running"]
        out = victims(running, view["free"], page)
        stay = [request for request in running if request["number"] not in out]
        room = prefill_room(self.careful, stay)
        keep, reject = triage(view["waiting"], view["now"], max(1, room) / self.server["tpot"])
        given = [r for r in running + view["waiting"] if r["number"] in out + reject]
        free = view["free"] + sum(pages_of(request["context"], page) for request in given)
        free -= sum(request["context"] % page == 0 for request in stay)
        waiting = {request["number"]: request for request in view["waiting"]}
        kept = [waiting[number] for number in keep]
        prefill = cut_prefill(kept, room, max(0, free - self.spare) if stay else free, page)
        if not (prefill or stay or reject):
            out += [request["number"] for request in kept[1:] if request["context"]]
        decode = [request["number"] for request in stay]
        return {"reject": reject, "preempt": out, "prefill": prefill, "decode": decode}
        ### END SOLUTION

# %% id="test-policy" kind="test" points=3
alone = serve(submission.Policy(SERVER), [request_at(0, 2.0, 300, 20)], SERVER)[0]
assert not alone["rejected"] and alone["made"] == 20, hint("policy-one")
scene = [request_at(n, 0.1 * n, 200, 30, patience=1e9) for n in range(20)]
served = serve(submission.Policy(SERVER), scene, SERVER)
assert not any(record["rejected"] for record in served), hint("policy-patient")
### BEGIN HIDDEN TESTS
def patient(n, prompts, answers, every=0.0):
    lengths = [(random.randint(*prompts), random.randint(*answers)) for _ in range(n)]
    wait = [random.choice([1e8, 1e9]) for _ in range(n)]
    return [request_at(i, i * every, *lengths[i], patience=wait[i]) for i in range(n)]


crowds = [patient(30, (8, 300), (1, 60)), patient(24, (800, 2400), (2, 256), 0.3)]
crowds += [patient(40, (100, 500), (150, 256), 0.3), patient(150, (8, 40), (1, 8))]
for crowd, page in zip(crowds, (32, 16, 8, 16)):
    tight = {**SERVER, "pages": 2720 // page, "page": page}
    served = serve(submission.Policy(tight), crowd, tight)
    assert not any(record["rejected"] for record in served), hint("policy-patient")
    whole = [r["made"] == r["answer"] == len(r["times"]) for r in served]
    assert all(whole), hint("policy-whole")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
assert serve(submission.Policy(SERVER), [], SERVER) == [], hint("policy-one")
whole = {**SERVER, "pages": 166}
for every in (0.0, 0.5):
    long = [request_at(n, every * n, 2400, 256, 10.0 ** (9 - n)) for n in range(3)]
    served = serve(submission.Policy(whole), long, whole)
    assert all(record["made"] == 256 for record in served), hint("policy-pages")
late = [request_at(n, 5.0 * n, 400, 3, patience=random.choice([0.0, 2.0])) for n in range(10)]
served = serve(submission.Policy(SERVER), late, SERVER)
for record in served:
    possible = record["deadline"] - record["arrived"] > 1
    assert not possible or kept_promise(record, SERVER), hint("policy-easy")
### END HIDDEN TESTS

# %% id="test-light" kind="test" points=3
trace = draw_trace(7, 100, 0.8, 1.5)
reached = count_good(serve(submission.Policy(SERVER), trace, SERVER), SERVER)
assert reached >= 99, hint("light", reached=reached)
### BEGIN HIDDEN TESTS
for _ in range(2):
    trace = draw_trace(random.random(), 100, 0.8, 1.5)
    reached = count_good(serve(submission.Policy(SERVER), trace, SERVER), SERVER)
    assert reached >= 99, hint("light", reached=reached)
### END HIDDEN TESTS

# %% id="heavy" kind="locked"
def compare(policy, traces, server):
    rounds, mine, theirs, limit = [], 0, 0, 0
    for trace in traces:
        base = count_good(serve(FirstCome(server), trace, server), server)
        found = count_good(serve(policy(server), trace, server), server)
        rounds.append(found / max(1, base))
        mine, theirs, limit = mine + found, theirs + base, limit + most_good(trace, server)
    span = sum(trace[-1]["arrived"] for trace in traces)
    good_seconds = [span / max(1, count) for count in (mine, theirs)]
    return Speedup(mine / max(1, theirs), tuple(rounds), *good_seconds), mine / limit

# %% id="test-heavy" kind="test" points=4
traces = [draw_trace(random.random(), 150, 8, 3) for _ in range(4)]
reached, share = compare(submission.Policy, traces, SERVER)
gate("goodput", reached, 3, hint("heavy"))
assert share >= 0.6, hint("heavy-share", percent=int(100 * share))
### BEGIN HIDDEN TESTS
changed = {"base": 0.02, "prefill": 0.00025, "row": 0.0004, "tpot": 0.04, "pages": 400}
rushed = {**SERVER, **changed}
traces = [draw_trace(random.random(), 150, 5, 3) for _ in range(3)]
_, share = compare(submission.Policy, traces, rushed)
assert share >= 0.5, hint("heavy-other", percent=int(100 * share))
### END HIDDEN TESTS

# %% id="test-fair" kind="test" points=2
traces = [draw_trace(seed, 150, 8, 3) for seed in (21, 22)]
served = [r for trace in traces for r in serve(submission.Policy(SERVER), trace, SERVER)]
for kind, least in (("chat", 0.6), ("document", 0.2)):
    part = count_good(served, SERVER, kind) / sum(record["kind"] == kind for record in served)
    percent = {"percent": int(100 * part), "least": f"{100 * least:.0f}"}
    assert part >= least, hint("fair", kind=hint(kind), **percent)
### BEGIN HIDDEN TESTS
traces = [draw_trace(random.random(), 150, 8, 3) for _ in range(3)]
served = [r for trace in traces for r in serve(submission.Policy(SERVER), trace, SERVER)]
for kind, least in (("chat", 0.6), ("document", 0.2)):
    part = count_good(served, SERVER, kind) / sum(record["kind"] == kind for record in served)
    percent = {"percent": int(100 * part), "least": f"{100 * least:.0f}"}
    assert part >= least, hint("fair", kind=hint(kind), **percent)
for record in served:
    if not record["rejected"]:
        assert record["times"][0] - record["arrived"] <= 20, hint("fair-first")
        assert record["made"] == 1 or longest_gap(record) <= 10, hint("fair-gap")
### END HIDDEN TESTS

# %% [markdown] id="measure" lang="ko" reviewed="8b09048e0c70"
# ## 이제 재 봅시다
#
# 앞에서 본 장면부터 다시 볼게요. 문서가 도착하는 순간, 답을 받고 있던 대화 0번의 화면은 어떻게 달라질까요? 그다음은 무거운 부하의 성적표예요.
# `Eager`는 한꺼번에 되도록 많이 받으려는 욕심 많은 정책이에요. 페이지가 남으면 프롬프트를 통째로 밀어 넣고, 아무도 거절하지 않아요.

# %% [markdown] id="measure" lang="en"
# ## Now measure
#
# First the scene from before: what does the screen of chat 0 look like now at the moment when the document arrives? Then a
# report of the heavy load. `Eager` is greedy and takes as many at once as it can: it pushes in whole prompts wherever there
# are pages, and rejects nobody.

# %% id="measure-code" kind="demo"
class Eager:
    def __init__(self, server):
        self.server = server

    def plan(self, view):
        page = self.server["page"]
        out = victims(view["running"], view["free"], page)
        stay = [request for request in view["running"] if request["number"] not in out]
        free = view["free"] - sum(request["context"] % page == 0 for request in stay)
        waiting = [] if out else view["waiting"]
        every = sum(request["todo"] for request in waiting)
        prefill = cut_prefill(waiting, every, max(0, free), page)
        whole = {r["number"]: r["todo"] for r in waiting if prefill.get(r["number"]) == r["todo"]}
        decode = [] if whole else [request["number"] for request in stay]
        return {"preempt": out, "prefill": whole, "decode": decode}


def report(label, records, server, seconds):
    served = [record for record in records if not record["rejected"]]
    tokens = sum(record["made"] for record in served)
    end = max((record["times"][-1] for record in served), default=1.0)
    waits = [ttft(r) / (r["deadline"] - r["arrived"]) for r in served] or [0.0]
    paces = [tpot(record) for record in served] or [0.0]
    print(
        hint(
            "report",
            label=hint(label),
            rate=f"{tokens / end:5.0f}",
            ttft=f"{percentile(waits, 99):6.2f}",
            tpot=f"{1e3 * percentile(paces, 99):7.1f}",
            rejected=f"{len(records) - len(served):3}",
            good=f"{goodput(records, server['tpot'], seconds):5.2f}",
        )
    )


heavy_trace = draw_trace(3, 150, 8, 3)
heavy_seconds = heavy_trace[-1]["arrived"]
with when_solved():
    scene = [request_at(number, 0.0, 60, 40) for number in range(6)]
    scene.append(request_at(6, 0.5, 2000, 10, patience=4.0, kind="document"))
    figure, axes = plt.subplots(figsize=(7.5, 3.6))
    for label, policy in [("first-come", FirstCome), ("yours", Policy)]:
        served = serve(policy(SERVER), scene, SERVER)
        axes.step(served[0]["times"], range(1, 41), where="post", label=hint(label))
        print(hint(label), f"{longest_gap(served[0]):.3f} s")
    axes.axvline(0.5, color="k", linestyle=":", label=hint("plot-arrives"))
    axes.set(xlabel=hint("plot-clock"), ylabel=hint("plot-tokens"))
    axes.legend()
    plt.show()
    print(hint("report-head"))
    for label, policy in [("first-come", FirstCome), ("eager", Eager), ("yours", Policy)]:
        report(label, serve(policy(SERVER), heavy_trace, SERVER), SERVER, heavy_seconds)
    print(hint("report-limit", good=f"{most_good(heavy_trace, SERVER) / heavy_seconds:.2f}"))

# %% [markdown] id="limit" lang="ko" reviewed="b8a40155a9c7"
# ## 한계와 비교하기
#
# 부하를 조금씩 올리면서 굿풋을 그려 봐요. 점선은 아무도 넘을 수 없는 한계예요. 온 요청보다 많이 처리할 수는 없고, 서버의 시간보다 많이
# 쓸 수도 없어요(`most_good`). 세로선은 과제 3에서 계산한 포화점이에요. 온 요청을 **종류를 가리지 않고 모두** 처리할 때의 한계지요.
#
# 세로선을 넘어서도 굿풋이 늘어난다면, 비싼 요청을 덜 받고 있다는 뜻이에요. 무엇을 포기했는지 오른쪽 그림에서 확인하세요.

# %% [markdown] id="limit" lang="en"
# ## Against the limit
#
# Raise the load little by little and plot goodput. The dashed line is the limit that nobody can exceed: not more than what
# comes and not more than the server's time allows (`most_good`). The vertical line is the saturation point of
# task 3: the limit for serving all that comes, **whatever its kind**.
#
# If goodput still grows beyond that line, fewer of the expensive requests are being served. See on the right what was given up.

# %% id="limit-plot" kind="demo"
rates = [1, 2, 3, 4, 6, 8, 11]
with when_solved():
    curves = {"first-come": [], "eager": [], "yours": []}
    policies = {"first-come": FirstCome, "eager": Eager, "yours": Policy}
    limit, kinds = [], {"chat": [], "document": []}
    for rate in rates:
        trace = draw_trace(rate, 240, rate, 2)
        span = trace[-1]["arrived"]
        limit.append(most_good(trace, SERVER) / span)
        for label, policy in policies.items():
            served = serve(policy(SERVER), trace, SERVER)
            curves[label].append(goodput(served, SERVER["tpot"], span))
        for kind, shares in kinds.items():
            total = sum(request["kind"] == kind for request in trace)
            shares.append(100 * count_good(served, SERVER, kind) / total)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2))
    for label, values in curves.items():
        left.plot(rates, values, "o-", label=hint(label))
    left.plot(rates, limit, "k--", label=hint("plot-limit"))
    together = int(most_rows(SERVER, round(mean_prompt + mean_answer / 2)))
    full = saturation(SERVER, mean_prompt, mean_answer, together)
    left.axvline(full, color="C3", linestyle=":", label=hint("plot-saturation"))
    left.set(xlabel=hint("plot-rate"), ylabel=hint("plot-goodput"))
    left.legend()
    for kind, shares in kinds.items():
        right.plot(rates, shares, "o-", label=hint(kind))
    right.set(xlabel=hint("plot-rate"), ylabel=hint("plot-share"), ylim=(0, 105))
    right.legend()
    plt.tight_layout()
    plt.show()
    for rate, mine, most in zip(rates, curves["yours"], limit):
        percent = f"{100 * mine / most:3.0f}"
        print(hint("limit-said", rate=f"{rate:2}", good=f"{mine:5.2f}", percent=percent))

# %% [markdown] id="little" lang="ko" reviewed="100384f7ec0a"
# ### 리틀의 법칙을 눈으로
#
# 법칙이 맞는지 서버 안의 요청을 직접 세어 봐요. 한쪽은 단계마다 센 수를 시간으로 평균 낸 것, 다른 쪽은 도착 속도에 머문 시간의 평균을 곱한
# 것이에요. 서로 다른 것을 쟀는데 같은 수가 나와요.

# %% [markdown] id="little" lang="en"
# ### Little's law before your eyes
#
# Count the requests inside the server to see whether the law holds. One number is the count at every step, averaged over time;
# the other is the rate of arrivals times the mean stay. Different things are measured, and the numbers agree.

# %% id="little-code" kind="demo"
class Counted:
    def __init__(self, policy):
        self.policy, self.seen = policy, []

    def plan(self, view):
        self.seen.append((view["now"], len(view["waiting"]) + len(view["running"])))
        return self.policy.plan(view)


with when_solved():
    trace = draw_trace(5, 400, 2, 2)
    watched = Counted(FirstCome(SERVER))
    served = serve(watched, trace, SERVER)
    end = max(record["times"][-1] for record in served)
    moments = [*watched.seen, (end, 0)]
    area = sum(count * (later - now) for (now, count), (later, _) in zip(moments, moments[1:]))
    stay = sum(record["times"][-1] - record["arrived"] for record in served) / len(served)
    law = in_flight(len(served) / end, stay)
    print(hint("little-said", counted=f"{area / end:.2f}", law=f"{law:.2f}"))

# %% [markdown] id="loses" lang="ko" reviewed="dff57b1f80f3"
# ## 정책이 손해일 때
#
# 무엇이든 지나치면 손해예요. **여러분의 정책을 감싸서** 한 가지씩 지나치게 만들어 볼게요. 부하는 1초에 14건, 포화점을 훌쩍 넘는 때예요.
#
# 1. **겁이 많은 정책**: 기다리는 사람이 둘만 넘어도 거절해요. 받아들인 사람의 p99와 굿풋을 나란히 보세요. p99만 보면 속아요.
# 2. **문서를 안 받는 정책**: 문서는 모두 거절해요. 손님의 5분의 1을 버리는데 굿풋은 얼마나 떨어지나요? 굿풋은 요청의 **수**만 세니, 비싼
#    손님을 버려도 점수에는 잘 드러나지 않아요.
# 3. **너무 잘게 써는 정책**: 한 단계에 프리필을 조금씩만 해요. 단계마다 `base`를 다시 내야 하지요.
# 4. **처리량만 보는 정책**: 토큰당 시간을 1초까지 써도 된다고 정책에게 알려 줘요. 마감을 아주 멀리 미뤄 아무도 거절하지 않게 하고 견주어요.
#    단계가 길어지면 `base`를 덜 내니 1초에 만드는 토큰이 늘어요. p99 TPOT과 굿풋은 어떻게 되나요?
#
# 되도록 많이 받으려는 `Eager`가 약속을 어기는 것은 위의 성적표에서 이미 보았어요.

# %% [markdown] id="loses" lang="en"
# ## Where a policy loses
#
# Anything can be overdone. Let us **wrap your policy** and overdo one thing at a time, with 14 requests a
# second, far beyond saturation.
#
# 1. **A timid policy** rejects as soon as more than two wait. Put the p99 of those it accepts beside its goodput: p99 alone
#    deceives.
# 2. **A policy without documents** turns all documents away. It gives up a fifth of its guests; how much goodput does it lose?
#    Goodput counts only **heads**, so giving up the expensive ones hardly shows.
# 3. **A policy that cuts too fine** prefills only a little in each step, and every step pays `base` again.
# 4. **A policy for throughput only**: tell the policy that a token may take a whole second. For a fair comparison, deadlines
#    are put so far off that nobody is rejected. Longer steps pay `base` less often, so more tokens are made a second. What
#    happens to the p99 of TPOT, and to goodput?
#
# `Eager`, which takes as many as it can, breaks the promise, as the report above showed.

# %% id="loses-code" kind="demo"
class Timid:
    def __init__(self, policy, most):
        self.policy, self.most = policy, most

    def refused(self, waiting):
        return [r["number"] for r in waiting if not r["made"]][self.most :]

    def plan(self, view):
        refused = self.refused(view["waiting"])
        seen_by = [r for r in view["waiting"] if r["number"] not in refused]
        plan = self.policy.plan({**view, "waiting": seen_by})
        return {**plan, "reject": [*plan.get("reject", ()), *refused]}


class NoDocuments(Timid):
    def refused(self, waiting):
        return [r["number"] for r in waiting if not r["made"] and r["deadline"] - r["arrived"] > 2]


class Fine(Timid):
    def plan(self, view):
        plan, left, prefill = self.policy.plan(view), self.most, {}
        for number, tokens in dict(plan.get("prefill", ())).items():
            prefill[number] = min(tokens, left)
            left -= prefill[number]
        return {**plan, "prefill": {number: n for number, n in prefill.items() if n}}


crush = draw_trace(3, 300, 14, 3)
with when_solved():
    print(hint("report-head"))
    wrapped = [
        ("yours", Policy(SERVER)),
        ("timid", Timid(Policy(SERVER), 2)),
        ("no-documents", NoDocuments(Policy(SERVER), 0)),
        ("fine", Fine(Policy(SERVER), 16)),
    ]
    for label, policy in wrapped:
        served = serve(policy, crush, SERVER)
        report(label, served, SERVER, crush[-1]["arrived"])
        total = {kind: sum(r["kind"] == kind for r in served) for kind in ("chat", "document")}
        parts = {k: f"{100 * count_good(served, SERVER, k) / n:3.0f}" for k, n in total.items()}
        print(hint("parts", **parts))
    print(hint("no-deadlines"))
    patient_crush = [{**request, "deadline": request["arrived"] + 1e6} for request in crush]
    for label, target in [("yours", SERVER["tpot"]), ("throughput", 1.0)]:
        served = serve(Policy({**SERVER, "tpot": target}), patient_crush, SERVER)
        report(label, served, SERVER, crush[-1]["arrived"])

# %% [markdown] id="real" lang="ko" reviewed="f2692907a053"
# ## 진짜 엔진에서 달려 보기
#
# 가상의 시계를 믿어도 될까요? 같은 정책을 `academy_lm`이 도는 진짜 엔진에 태워서, 벽시계로 몇 초 동안 요청을 받아 봐요. 비용 모형은 과제 2에서
# 여러분이 맞춘 것이고, 약속한 시간과 요청의 길이는 이 작은 모델에 맞게 줄였어요. 그리고 **같은 요청**을 가상의 시계로도 돌려서 비교해요.
#
# 정책은 한 단계를 약속한 시간에 꼭 맞게 채우려 하니, 모형이 조금만 낙관적이어도 **모두가** 약속을 어기게 돼요. 그래서 정책에게는 약속한 시간의
# `margin`배만 알려 줘요. 1로 바꾸면 어떻게 되나요?
#
# 진짜 엔진은 두 번 달려요. 한 번은 벽시계로, 한 번은 이 프로세스가 쓴 CPU 시간만 세는 시계로요. 컴퓨터를 다른 사람과 나눠 쓰고 있다면 벽시계의
# p99는 훨씬 나쁠 수 있어요. 마지막 세 줄에서 차이의 원인을 하나씩 따져 보세요. 모형의 오차에는 모형이 모르는 일도 들어 있어요. 이를테면 이
# 엔진은 함께 디코드하는 요청의 캐시를 가장 긴 것에 맞춰 읽고, 프리필은 요청마다 어텐션을 따로 해요. 이 결과는 점수에 들어가지 않아요.

# %% [markdown] id="real" lang="en"
# ## A run on the real engine
#
# Can the virtual clock be trusted? Put the same policy on the real engine with `academy_lm` and take requests for some seconds
# of wall-clock time. The cost model is the one that you fitted in task 2; the promised times and the lengths are scaled down to
# this small model. The **same requests** also run on the virtual clock.
#
# A policy tries to fill each step up to the promised time, so if the model is a little too optimistic, **everybody's** promise
# is broken. That is why the policy is told only `margin` times the promised time. What happens with 1?
#
# The real engine runs twice: once by the wall clock, and once by a clock that counts only this process's CPU time. If you share
# the machine with others, the p99 of the wall clock may be much worse. The last three lines take the causes apart. The
# model's error includes what the model does not know: this engine reads the caches of all decoded requests as far as the
# longest of them, and computes attention for each prefill apart. The result is not graded.

# %% id="real-code" kind="demo"
class WatchedEngine(RealEngine):
    def watch(self, cost):
        self.cost, self.predicted, self.computed, self.passed = cost, 0.0, 0.0, 0.0
        return self

    def run(self, chunks, rows):
        prefill, kv = sum(n for _, n in chunks), sum(request["context"] for request in rows)
        self.predicted += step_seconds(self.cost, prefill, len(rows), kv)
        wall, processor = time.perf_counter(), time.thread_time()
        super().run(chunks, rows)
        self.passed += time.perf_counter() - wall
        self.computed += time.thread_time() - processor


class Timed:
    def __init__(self, policy):
        self.policy, self.seconds = policy, 0.0

    def plan(self, view):
        began = time.thread_time()
        plan = self.policy.plan(view)
        self.seconds += time.thread_time() - began
        return plan


def shrink(trace, scale):
    small = []
    for request in trace:
        arrived, patience = scale * request["arrived"], request["deadline"] - request["arrived"]
        prompt, answer = max(4, request["prompt"] // 6), max(1, request["answer"] // 3)
        changed = {"arrived": arrived, "prompt": prompt, "answer": answer}
        small.append({**request, **changed, "deadline": arrived + 2 * scale * patience})
    return small


def small_load(cost, seconds=5.0, load=0.6):
    scale = cost["base"] / SERVER["base"]
    server = {**SERVER, **cost, "pages": 160, "most": 86, "tpot": 2 * scale * SERVER["tpot"]}
    rate = load * saturation(server, mean_prompt / 6, mean_answer / 3, 8)
    trace = draw_trace(11, max(20, int(rate * seconds)), rate * scale, 2)
    return server, shrink(trace, scale)


def real_run(server, trace, policy, clock):
    line = academy_lm.encode("The value of an object is looked up in the table of names. " * 8)
    engine = WatchedEngine(model, {r["number"]: line[: r["prompt"]] for r in trace}, clock)
    return engine.watch(server), serve(policy, trace, server, engine)


margin = 0.6
with when_solved():
    cost = fit_cost(work, seconds)
    server, trace = small_load({key: max(value, 1e-9) for key, value in cost.items()})
    planned, span = {**server, "tpot": margin * server["tpot"]}, trace[-1]["arrived"]
    engine, wall = real_run(server, trace, Policy(planned), time.perf_counter)
    timed = Timed(Policy(planned))
    quiet_engine, quiet = real_run(server, trace, timed, time.thread_time)
    results = {"real": wall, "real-cpu": quiet, "virtual": serve(Policy(planned), trace, server)}
    target = f"{1e3 * server['tpot']:.1f}"
    print(hint("real-head", n=len(trace), seconds=f"{span:.1f}", tpot=target))
    print(hint("report-head"))
    for label, records in results.items():
        report(label, records, server, span)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4))
    for label, records in results.items():
        served = [record for record in records if not record["rejected"]]
        for place, values in zip(axes, ([ttft(r) for r in served], [tpot(r) for r in served])):
            share = np.arange(1, len(values) + 1) / len(values)
            place.step(1e3 * np.sort(values), share, where="post", label=hint(label))
    axes[0].set(xlabel=hint("plot-ttft"), ylabel=hint("plot-cdf"), xscale="log")
    axes[1].set(xlabel=hint("plot-tpot"), ylabel=hint("plot-cdf"))
    axes[1].axvline(1e3 * server["tpot"], color="k", linestyle="--", label=hint("plot-slo"))
    for place in axes:
        place.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        place.grid(alpha=0.3)
    axes[0].xaxis.set_major_formatter("{x:g}")
    plt.tight_layout()
    plt.show()
    print(hint("real-model", ratio=f"{quiet_engine.computed / quiet_engine.predicted:.2f}"))
    print(hint("real-others", ratio=f"{engine.passed / engine.computed:.2f}"))
    print(hint("real-policy", percent=f"{100 * timed.seconds / quiet_engine.computed:.0f}"))

# %% [markdown] id="money" lang="ko" reviewed="0d0f8b487df6"
# ## 원가
#
# 끝으로 돈이에요. 서버는 좋은 답을 만들든 나쁜 답을 만들든 같은 값을 받아요. 그러니 **팔 수 있는 토큰**, 곧 약속을 지킨 답의 토큰만 세어야
# 진짜 원가가 나와요. 두 가지로 계산해서 견주어 보세요. `won_per_hour`를 여러분이 쓰는 서버의 값으로 바꿔 보세요. 실제로는 답의 토큰뿐 아니라
# 프롬프트의 토큰에도 값을 매기지만, 여기서는 답의 토큰만 세요.

# %% [markdown] id="money" lang="en"
# ## What it costs
#
# Money at last. A server costs the same whether its answers are good or bad. So only **tokens that can be sold**, those of
# answers that kept the promise, give the true cost. Compute both and compare. Put in the price of a server you use as
# `won_per_hour`. Real services charge for prompt tokens too; here only those of the answers count.

# %% id="money-code" kind="demo"
won_per_hour = 700

with when_solved():
    for label, policy in [("first-come", FirstCome), ("eager", Eager), ("yours", Policy)]:
        served = serve(policy(SERVER), heavy_trace, SERVER)
        elapsed = max(record["times"][-1] for record in served if record["times"])
        every = sum(record["made"] for record in served)
        sold = sum(record["made"] for record in served if good(record, SERVER["tpot"]))
        prices = [won_per_million(tokens, elapsed, won_per_hour) for tokens in (every, sold)]
        every, sold = f"{prices[0]:6,.0f}", f"{prices[1]:9,.0f}"
        print(hint("price", label=hint(label), every=every, sold=sold))

# %% [markdown] id="question" lang="ko" reviewed="a19cdf94e52f"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 여러분은 이 서버로 대화 서비스를 하는 회사의 책임자예요. 두 고객이 있어요. 한 곳은 대화만 보내고, 다른 곳은 긴 문서만 보내요. 요즘 점심시간마다
# 부하가 포화점을 넘어요. **위에서 잰 값**을 근거로 8~12문장으로 답하세요. (1) 지금 정책은 넘치는 부하에서 누구를 포기하고 있나요? (2) 그것을
# 숨기지 않으려면 고객에게 어떤 SLO를, 어떤 숫자로 약속하겠어요? (3) 서버를 한 대 더 빌리는 것과 정책을 바꾸는 것 가운데 무엇을 먼저 하겠어요?
# 원가로 답하세요. (4) 가상의 시계와 진짜 엔진의 결과는 얼마나 달랐고, 그 차이는 어디에서 왔나요?
#
# *채점 기준*: 종류별 비율을 숫자로 들어 누가 포기되는지 말했다(1점), 종류마다 백분위수와 거절 비율을 함께 약속했다(1점), 백만 토큰의 원가나
# 포화점으로 두 선택을 비교했다(1점), 모형의 오차와 정책의 시간, 다른 프로세스 가운데 잰 근거가 있는 원인을 짚었다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# You are in charge of a chat service on this server. It has two customers: one sends only chats, the other only long
# documents. These days, the load exceeds saturation every lunch time. Using **what you measured above**, answer in 8 to 12
# sentences: (1) whom does your policy give up under too much load; (2) which SLO, with which figures, would you promise your
# customers so that this is not hidden; (3) what would you do first, rent another server or change the policy? Argue with
# the cost; (4) how far apart were the virtual clock and the real engine, and where does the difference come from?
#
# *Rubric*: says with each kind's share who is given up (1 point); promises a percentile and a share of rejections for each kind
# (1 point); compares the two choices by the cost of a million tokens or by saturation (1 point); names a cause with
# measured evidence: the model's error, the policy's own time, other processes (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="f9d268c23b38"
# ## 더 읽어 보기
#
# - Little, *A Proof for the Queuing Formula: L = λW* (1961): 리틀의 법칙
# - Liu, Layland, *Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment* (1973): 마감이 이른 것 먼저
# - Dean, Barroso, *The Tail at Scale* (2013): 평균이 아니라 꼬리를 봐야 하는 까닭
# - Yu 외, *Orca: A Distributed Serving System for Transformer-Based Generative Models* (2022): 단계마다 다시 묶기, 선택적 배칭
# - Agrawal 외, *Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve* (2024): 프리필을 나눠 넣는 방법
# - Zhong 외, *DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language Model Serving* (2024): 굿풋, 그리고
#   프리필과 디코드를 서로 다른 GPU에 맡기는 방법
# - Sheng 외, *Fairness in Serving Large Language Models* (2024): 손님 사이의 공정함

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Little, *A Proof for the Queuing Formula: L = λW* (1961): Little's law
# - Liu and Layland, *Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment* (1973): earliest deadline first
# - Dean and Barroso, *The Tail at Scale* (2013): why to look at the tail and not at the mean
# - Yu et al., *Orca: A Distributed Serving System for Transformer-Based Generative Models* (2022): batching anew at each step,
#   selective batching
# - Agrawal et al., *Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve* (2024): prefill in chunks
# - Zhong et al., *DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language Model Serving* (2024):
#   goodput, and prefill and decode on different GPUs
# - Sheng et al., *Fairness in Serving Large Language Models* (2024): fairness between customers
