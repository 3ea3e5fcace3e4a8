# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="f250b472f836"
# # 1.6 정직한 성능 측정
#
# **이 단원을 마치면** 믿을 수 있는 벤치마크를 직접 만들 수 있어요. 준비 운동, 흔들림, 비동기 장치, 점점 느려지는 컴퓨터에 속지 않고 "몇 배 빨라졌다"고
# 말할 수 있고, 일부만 빨라졌을 때 전체가 얼마나 빨라질지 미리 계산할 수 있어요.
#
# **왜 중요할까요?** "30배 빨라졌습니다"라는 보고를 믿고 서버를 서른 대에서 한 대로 줄였는데 사실은 1.4배였다면, 서비스는 그날 멈춰요. 반대로
# 진짜 빨라졌는데 흔들림에 묻혀 버리면 좋은 코드를 버리게 돼요. 이 아카데미가 여러분의 코드를 채점할 때 쓰는 자도 이 단원에서 만드는 것과
# 똑같은 원리로 되어 있어요. 이제 그 자를 직접 만들어 봐요.
#
# **걸리는 시간** 4시간 · **먼저 알아야 할 것** 1.1 배열과 반복문의 비용, 함수를 인자로 넘기는 법

# %% [markdown] id="title" lang="en"
# # 1.6 Measuring honestly
#
# **After this unit** you can build a benchmark that deserves trust. Warm-up, noise, asynchronous devices and a machine that
# slows down no longer fool you when you say "this many times faster", and you can work out beforehand how much the whole gains
# when a part gets faster.
#
# **Why it matters.** Somebody reports "30 times faster", you cut thirty servers down to one, and it really was 1.4 times: that
# day the service stops. The other way round, a real gain that drowns in noise means good code thrown away. The ruler with
# which this academy grades your code works just like the one in this unit. Now you build it yourself.
#
# **Time** 4 hours · **Before you start** 1.1 Arrays and the price of loops; passing a function as an argument

# %% id="setup" kind="locked"
import functools
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np

from grading.checks import hint, submission, when_solved


def nothing():
    pass

# %% [markdown] id="first" lang="ko" reviewed="d26ff19807c6"
# ## 같은 일을 300번 재 보기
#
# 숫자 2만 개를 정렬하는 일을 300번 재 볼게요. 코드도 데이터도 매번 똑같아요. 그렇다면 시간도 똑같을까요?

# %% [markdown] id="first" lang="en"
# ## The same work, timed 300 times
#
# Let us time 300 times how long it takes to sort 20,000 numbers. The code and the data are the same each time. Is the time?

# %% id="first-code" kind="demo"
numbers = np.random.default_rng(0).normal(size=20_000)
raw = []
for _ in range(300):
    began = time.perf_counter()
    np.sort(numbers)
    raw.append(1e6 * (time.perf_counter() - began))
for label, value in [
    ("raw-first", raw[0]),
    ("raw-least", min(raw)),
    ("raw-median", np.median(raw)),
    ("raw-mean", np.mean(raw)),
    ("raw-most", max(raw)),
]:
    print(hint(label, us=f"{value:8.1f}"))
figure, axes = plt.subplots(figsize=(7, 3.5))
axes.plot(raw, ".", markersize=4)
axes.axhline(np.median(raw), color="k", linestyle="--", label=hint("plot-median"))
axes.axhline(np.mean(raw), color="tab:red", linestyle=":", label=hint("plot-mean"))
axes.set(xlabel=hint("plot-run"), ylabel=hint("plot-us"), yscale="log")
axes.set_yticks(sorted({float(f"{us:.2g}") for us in np.geomspace(min(raw), max(raw), 5)}))
axes.yaxis.set_major_formatter("{x:g}")
axes.yaxis.set_minor_formatter("")
axes.legend()
axes.grid(alpha=0.3)
plt.show()

# %% [markdown] id="first-after" lang="ko" reviewed="78c19c301dbd"
# 점들이 바닥 근처에 몰려 있고, 가끔 위로 튀어 올라요. 컴퓨터가 도중에 다른 일을 하느라 **느려지는 일은 있어도, 실수로 빨라지는 일은 거의 없기**
# 때문이에요. 그래서 흔들림은 한쪽으로만 길게 늘어져요. 이런 값들의 **평균**은 몇 번 안 되는 튀는 값에 끌려 올라가요. **중앙값**(크기순으로 한가운데
# 있는 값)은 튀는 값이 절반을 넘지 않는 한 끄떡없어요. 최솟값은 가장 깨끗한 값이지만, 서비스가 늘 그 속도로 돈다고 말하면 거짓말이 돼요.
#
# 첫 번째 값도 보세요. 처음에는 코드와 데이터를 메모리에서 CPU 캐시로 가져오고, 장치가 잠에서 깨고, 컴파일이 일어나기도 해요. 그래서 첫 몇 번은
# **준비 운동**(warm-up)으로 보고 버려요.

# %% [markdown] id="first-after" lang="en"
# The dots crowd near the floor, and now and then one jumps up. A computer that does something else meanwhile
# **can make you slower, but hardly anything makes you faster by accident**; so noise stretches to one side only. The **mean** of such
# values is dragged up by a few that jump. The **median** (the value in the middle when sorted) stands firm as long as fewer
# than half of them jump. The minimum is the cleanest value, but to claim that a service always runs at that speed is a lie.
#
# Look at the first value too. At first, code and data come from memory into the CPU's caches, a device wakes up, perhaps
# something is compiled. So the first few runs are thrown away as **warm-up**.

# %% [markdown] id="task-typical" lang="ko" reviewed="0d5047ae1423"
# ## 과제 1. 대푯값과 흔들림 (쉬움)
#
# `typical(times)`를 완성하세요. 잰 시간들을 받아 세 값의 튜플 `(중앙값, 아래, 위)`를 돌려줘요.
#
# - `times`: 숫자 하나 이상이 든 리스트나 배열. 순서는 뒤섞여 있어요.
# - 중앙값: 개수가 짝수면 가운데 두 값의 평균이에요.
# - 아래와 위: 25%와 75% 자리의 값(사분위수). `np.quantile`의 기본 방식을 따라요. 잰 값의 절반이 이 사이에 들어가요.
#
# 흔들림을 함께 말하지 않는 숫자는 반쪽짜리 보고예요.

# %% [markdown] id="task-typical" lang="en"
# ## Task 1. A typical value and its spread (easy)
#
# Complete `typical(times)`: it takes measured times and returns a tuple of three, `(median, low, high)`.
#
# - `times`: a list or array of at least one number, in no order
# - median: of an even number of values, the mean of the two in the middle
# - low and high: the values at 25% and 75% (the quartiles), as `np.quantile` computes them by default. Half of the
#   measurements lie between them.
#
# A figure without its spread is half a report.

# %% id="typical" kind="solution"
def typical(times):
    ### BEGIN SOLUTION
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)
    ### END SOLUTION

# %% id="test-typical" kind="test" points=1
found = submission.typical([5.0, 1.0, 2.0, 4.0, 300.0])
assert len(found) == 3, hint("typical-three")
np.testing.assert_allclose(found[0], 4.0, err_msg=hint("typical-median"))
np.testing.assert_allclose(found[1:], [2.0, 5.0], err_msg=hint("typical-quartiles"))
### BEGIN HIDDEN TESTS
for count in (1, 2, 7, 40):
    times = np.random.default_rng().lognormal(sigma=5, size=count)
    middle, low, high = submission.typical(times if count % 2 else times.tolist())
    text = hint("typical-count", n=count)
    np.testing.assert_allclose(middle, np.median(times), rtol=1e-6, err_msg=text)
    expected = np.quantile(times, [0.25, 0.75])
    np.testing.assert_allclose([low, high], expected, rtol=1e-6, err_msg=text)
### END HIDDEN TESTS

# %% [markdown] id="clocks" lang="ko" reviewed="ba5edad2d58d"
# ## 어떤 시계로 잴까
#
# 파이썬에는 시계가 여럿 있고, 재는 것이 서로 달라요. 50밀리초를 **자는** 일과 덧셈을 100만 번 **하는** 일을 네 시계로 재 볼게요. 마지막 열은 시계를 잇달아
# 읽었을 때 처음으로 값이 바뀌기까지의 차이예요. 이보다 짧은 일은 한 번만 재서는 알 수 없어요.

# %% [markdown] id="clocks" lang="en"
# ## Which clock
#
# Python has several clocks, and they measure different things. Here four of them time 50 milliseconds of **sleep**, and a
# million additions of **work**. The last column is the first step that shows when the clock is read again and again. Work that
# is shorter cannot be known from timing it once.

# %% id="clocks-code" kind="demo"
def smallest_step(clock):
    began = now = clock()
    while now == began:
        now = clock()
    return now - began


for name in ("time", "perf_counter", "process_time", "thread_time"):
    clock = getattr(time, name)
    began = clock()
    time.sleep(0.05)
    slept = 1e3 * (clock() - began)
    began = clock()
    sum(range(1_000_000))
    worked = 1e3 * (clock() - began)
    step = 1e9 * min(smallest_step(clock) for _ in range(200))
    row = dict(slept=f"{slept:5.1f}", worked=f"{worked:5.1f}", step=f"{step:4.0f}")
    print(hint("clock", name=f"{name:12}", **row))

# %% [markdown] id="clocks-after" lang="ko" reviewed="681e0be773be"
# - `time.time`: 벽시계예요. 시각을 맞추는 프로그램이 도중에 앞뒤로 돌려놓을 수 있으니 성능을 재는 데는 쓰지 않아요.
# - `time.perf_counter`: 뒤로 가지 않는 벽시계예요. 사용자가 기다린 시간을 재요. 남이 컴퓨터를 쓰는 동안 기다린 것까지 들어가요.
# - `time.process_time`, `time.thread_time`: 이 프로그램(이 스레드)이 **CPU를 실제로 쓴** 시간이에요. 자는 동안은 멈춰 있어요. 남이 끼어들어도 덜
#   흔들리지만, 디스크나 GPU를 기다린 시간은 보지 못해요.
#
# 무엇을 묻는지가 시계를 정해요. "사용자가 얼마나 기다리나?"는 벽시계로, "두 코드 가운데 무엇이 일을 덜 하나?"는 CPU 시간으로 재요.

# %% [markdown] id="clocks-after" lang="en"
# - `time.time`: the clock on the wall. A program that keeps the time of day may set it forward or back meanwhile, so it is not
#   for performance.
# - `time.perf_counter`: a wall clock that never goes back. It measures what a user waits for, and that includes waiting while
#   others use the machine.
# - `time.process_time`, `time.thread_time`: the time that this program (this thread) **really used the CPU**. They stand still
#   during sleep. Others disturb them less, but they do not see waiting for a disk or a GPU.
#
# The question decides the clock: "how long does a user wait?" asks for a wall clock, "which code does less work?" for CPU time.

# %% [markdown] id="device" lang="ko" reviewed="9326760811f0"
# ## 비동기 장치: 시켜 놓기와 끝나기
#
# GPU에 일을 시키면 함수는 **곧바로** 돌아와요. 일은 줄(queue)에 들어갔을 뿐, 아직 끝나지 않았어요. 이런 장치를 비동기 장치라고 해요. GPU가 없는 컴퓨터에서도 볼
# 수 있게, 다른 스레드를 장치로 삼아서 행렬 곱을 시켜 볼게요. `launch`는 시켜 놓고 바로 돌아오고, `wait`는 줄이 빌 때까지 기다려요(PyTorch의
# `torch.cuda.synchronize()`가 하는 일이에요).

# %% [markdown] id="device" lang="en"
# ## An asynchronous device: launched is not done
#
# Give work to a GPU and the function returns **at once**. The work has only been put into a queue; it is not done. Such a device
# is called asynchronous. So that it shows without a GPU too, let another thread be the device and give it a matrix product. `launch`
# returns at once, `wait` waits until the queue is empty (what `torch.cuda.synchronize()` does in PyTorch).

# %% id="device-code" kind="demo"
class Device:
    def __init__(self):
        self.worker, self.queue = ThreadPoolExecutor(1), []

    def launch(self, function, *arguments):
        self.queue.append(self.worker.submit(function, *arguments))

    def wait(self):
        while self.queue:
            self.queue.pop(0).result()


device, matrix = Device(), np.ones((700, 700))
for _ in range(3):
    began = time.perf_counter()
    device.launch(np.matmul, matrix, matrix)
    launched = time.perf_counter() - began
    device.wait()
    finished = time.perf_counter() - began
    print(hint("launched", launched=f"{1e6 * launched:6.0f}", finished=f"{1e6 * finished:6.0f}"))

# %% [markdown] id="machine" lang="ko" reviewed="48b121e4fdb2"
# `launch`까지만 잰 사람은 "행렬 곱이 몇십 마이크로초면 끝나요"라고 보고하게 돼요. 실제로 흔한 실수예요.
#
# ### 따라 해 보기: 가짜 시계
#
# 재는 코드도 코드라서 테스트가 필요해요. 그런데 진짜 시계는 잴 때마다 값이 달라서 정답을 미리 알 수 없어요. 그래서 **시계를 밖에서 받도록** 짜요. 그러면
# 테스트할 때는 우리가 마음대로 움직이는 가짜 시계를 넣을 수 있어요. 아래 `Machine`은 시간이 정해 준 대로만 흐르는 컴퓨터예요.
#
# | | 하는 일 |
# |---|---|
# | `clock()` | 지금 시각(초) |
# | `compute(seconds)` | CPU가 그만큼 일해요. 시각이 그만큼 흘러요. |
# | `launch(seconds)` | 장치에 그만큼 걸리는 일을 시켜요. 시각은 시키는 데 드는 `launch_cost`만큼만 흘러요. |
# | `wait()` | 장치가 줄에 있는 일을 모두 끝낼 때까지 기다려요. |

# %% [markdown] id="machine" lang="en"
# Whoever times `launch` alone reports that "a matrix product takes some tens of microseconds". It is a common mistake.
#
# ### A worked example: a fake clock
#
# Code that measures is code, and needs tests. But a real clock shows something else each time, so that the right answer is not
# known beforehand. So write it **to be given its clock**. Then a test can hand in a fake one that moves as we like. `Machine`
# below is a computer whose time passes only as it is told.
#
# | | what it does |
# |---|---|
# | `clock()` | the time now, in seconds |
# | `compute(seconds)` | the CPU works that long, and the time moves on that far |
# | `launch(seconds)` | gives the device work that takes this long; the time moves on only by `launch_cost` |
# | `wait()` | waits until the device has done everything in its queue |

# %% id="machine-code" kind="locked"
class Machine:
    def __init__(self, tick=0.0, launch_cost=1e-5):
        self.now = self.done = 1000.0
        self.tick, self.launch_cost = tick, launch_cost

    def clock(self):
        return math.floor(self.now / self.tick) * self.tick if self.tick else self.now

    def compute(self, seconds):
        self.now += seconds

    def launch(self, seconds):
        self.now += self.launch_cost
        self.done = max(self.now, self.done) + seconds

    def wait(self):
        self.now = max(self.now, self.done)


machine = Machine()
began = machine.clock()
machine.compute(0.25)
print(f"compute {machine.clock() - began:.5f}")
began = machine.clock()
machine.launch(3.0)
print(f"launch  {machine.clock() - began:.5f}")
machine.wait()
print(f"wait    {machine.clock() - began:.5f}")

# %% [markdown] id="task-timed" lang="ko" reviewed="490d3f4f209b"
# ## 과제 2. 한 번 재기 (보통)
#
# `timed(work, argument, clock, wait)`를 완성하세요. `work(argument)`를 꼭 한 번 부르고 튜플 `(결과, 걸린 초)`를 돌려줘요.
#
# - `clock()`은 시각을, `wait()`는 장치가 다 끝내기를 기다려 줘요. 둘 다 인자로 받은 것만 써요.
# - 걸린 시간은 **이 일이 장치에서 끝날 때까지**예요.
# - 재기 전에 시켜 놓은 남의 일이 아직 장치의 줄에 있을 수 있어요. 그 시간이 섞여 들어오면 안 돼요.
#
# 다섯 줄이면 충분해요. 시계를 읽는 두 순간에 장치가 어떤 상태여야 하는지 먼저 생각해 보세요.

# %% [markdown] id="task-timed" lang="en"
# ## Task 2. Time it once (medium)
#
# Complete `timed(work, argument, clock, wait)`: it calls `work(argument)` exactly once and returns a tuple `(result, seconds)`.
#
# - `clock()` gives the time and `wait()` waits until the device is done. Use only those you are given.
# - The time is that **until this work is done on the device**.
# - Work that was launched before may still be in the device's queue. Its time must not get mixed in.
#
# Five lines are enough. First think about the state the device must be in at the two moments when the clock is read.

# %% id="timed" kind="solution"
def timed(work, argument, clock=time.perf_counter, wait=nothing):
    ### BEGIN SOLUTION
    wait()
    began = clock()
    result = work(argument)
    wait()
    return result, clock() - began
    ### END SOLUTION

# %% id="test-timed" kind="test" points=3
machine, calls = Machine(), []


def on_host(seconds):
    calls.append(seconds)
    machine.compute(seconds)
    return 10 * seconds


def on_device(seconds):
    calls.append(seconds)
    machine.launch(seconds)
    return -seconds


found = submission.timed(on_host, 0.25, machine.clock, machine.wait)
assert isinstance(found, (tuple, list)) and len(found) == 2, hint("timed-pair")
assert found[0] == 2.5, hint("timed-result")
assert calls == [0.25], hint("timed-calls", calls=len(calls))
np.testing.assert_allclose(found[1], 0.25, rtol=1e-6, err_msg=hint("timed-host"))
result, seconds = submission.timed(on_device, 3.0, machine.clock, machine.wait)
np.testing.assert_allclose(seconds, 3.00001, rtol=1e-6, err_msg=hint("timed-device"))
### BEGIN HIDDEN TESTS
for _ in range(5):
    own, before = random.uniform(0.1, 5), random.uniform(1, 20)
    machine.launch(before)
    result, seconds = submission.timed(on_device, own, machine.clock, machine.wait)
    assert result == -own, hint("timed-result")
    np.testing.assert_allclose(seconds, own + 1e-5, rtol=1e-6, err_msg=hint("timed-queue"))
    machine.launch(before)
    result, seconds = submission.timed(on_host, own, machine.clock, machine.wait)
    np.testing.assert_allclose(seconds, own, rtol=1e-6, err_msg=hint("timed-queue"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
def on_both(pair):
    machine.launch(pair[0])
    machine.compute(pair[1])
    return sum(pair)


for device_seconds, host_seconds in [(2.0, 0.5), (0.5, 2.0), (0.0, 1.0)]:
    found = submission.timed(on_both, [device_seconds, host_seconds], machine.clock, machine.wait)
    assert found[0] == device_seconds + host_seconds, hint("timed-result")
    expected = 1e-5 + max(device_seconds, host_seconds)
    np.testing.assert_allclose(found[1], expected, rtol=1e-6, err_msg=hint("timed-both"))
calls.clear()
submission.timed(on_host, 0.0, machine.clock, machine.wait)
assert len(calls) == 1, hint("timed-calls", calls=len(calls))
### END HIDDEN TESTS

# %% [markdown] id="task-bench" lang="ko" reviewed="9a95774147fe"
# ## 과제 3. 여러 번 재기 (보통)
#
# `bench(work, draw, repeats, warmup, clock, wait)`를 완성하세요. 과제 2의 `timed`를 써도 좋아요.
#
# - `draw(i)`는 `i`번째 입력을 만들어 줘요. `work`를 부를 때마다 **다른 번호로** 새 입력을 뽑아요. 같은 입력을 되풀이하면 캐시에 남은 답을 꺼내 오는
#   코드가 빠르다고 나와요.
# - 입력을 만드는 시간은 재지 않아요.
# - 처음 `warmup`번은 준비 운동이에요. 부르기만 하고 시간은 버려요. `warmup`은 0일 수도 있어요.
# - 돌려주는 값: 그다음 `repeats`번의 시간을 잰 차례대로 담은 리스트. `work`는 모두 `warmup + repeats`번 불려요.

# %% [markdown] id="task-bench" lang="en"
# ## Task 3. Time it many times (medium)
#
# Complete `bench(work, draw, repeats, warmup, clock, wait)`. You may use `timed` of task 2.
#
# - `draw(i)` makes input number `i`. Draw a new input, **of another number**, for every call of `work`: repeat one input, and
#   code that fetches its answer from a cache looks fast.
# - The time to make the input is not counted.
# - The first `warmup` calls are the warm-up: call and throw the time away. `warmup` may be 0.
# - Returns: a list of the times of the next `repeats` calls, in the order they were taken. `work` is called `warmup + repeats`
#   times in all.

# %% id="bench" kind="solution"
def bench(work, draw, repeats, warmup=2, clock=time.perf_counter, wait=nothing):
    ### BEGIN SOLUTION
    times = []
    for i in range(warmup + repeats):
        argument = draw(i)
        times.append(timed(work, argument, clock, wait)[1])
    return times[warmup:]
    ### END SOLUTION

# %% id="test-bench" kind="test" points=3
machine, drawn, worked = Machine(), [], []


def draw(i):
    drawn.append(i)
    machine.compute(7.0)
    return 100 + i


def work(argument):
    worked.append(argument)
    machine.launch(0.5 if len(worked) > 3 else 60.0)
    return argument


times = np.asarray(submission.bench(work, draw, 6, 3, machine.clock, machine.wait))
assert times.shape == (6,), hint("bench-count", n=len(times))
assert times.max() < 60, hint("bench-warmup")
assert times.max() < 7, hint("bench-draw")
np.testing.assert_allclose(times, 0.50001, rtol=1e-6, err_msg=hint("bench-value"))
assert len(worked) == 9, hint("bench-calls", calls=len(worked), wanted=9)
### BEGIN HIDDEN TESTS
assert len(set(worked)) == 9, hint("bench-fresh")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
spent, used = [], []


def draw_on_device(i):
    machine.launch(random.uniform(1, 5))
    return i


def uneven(argument):
    used.append(argument)
    spent.append(10 ** random.uniform(-3, 1))
    machine.launch(spent[-1])
    return None


for repeats, warmup in [(12, 0), (1, 1), (1, 0), (40, 9)]:
    spent.clear(), used.clear()
    times = submission.bench(uneven, draw_on_device, repeats, warmup, machine.clock, machine.wait)
    assert len(times) == repeats, hint("bench-count", n=len(times))
    wanted = repeats + warmup
    assert len(spent) == wanted, hint("bench-calls", calls=len(spent), wanted=wanted)
    assert len(set(used)) == wanted, hint("bench-fresh")
    expected = np.array(spent[warmup:]) + 1e-5
    np.testing.assert_allclose(times, expected, rtol=1e-6, err_msg=hint("bench-order"))
### END HIDDEN TESTS

# %% [markdown] id="bench-real" lang="ko" reviewed="6d6d93e2c190"
# 이제 진짜 시계로 재 볼게요. 위에서 300번 쟀던 정렬과, 다른 스레드를 장치로 삼은 행렬 곱이에요. `wait`를 넘기지 않으면 어떤 값이 나오는지도
# 함께 보세요.

# %% [markdown] id="bench-real" lang="en"
# Now with a real clock: the sorting that we timed 300 times, and the matrix product with another thread as the device. See also
# what comes out when `wait` is not handed in.

# %% id="bench-real-code" kind="demo"
def fresh_numbers(i):
    return np.random.default_rng(i).normal(size=20_000)


def product_on_device(scale):
    device.launch(np.matmul, matrix, matrix)


with when_solved():
    for label, times in [
        ("real-sort", bench(np.sort, fresh_numbers, 50)),
        ("real-waiting", bench(product_on_device, float, 15, wait=device.wait)),
        ("real-launching", bench(product_on_device, float, 15)),
    ]:
        middle, low, high = (f"{1e6 * value:7.0f}" for value in typical(times))
        print(hint(label, middle=middle, low=low, high=high))
device.wait()

# %% [markdown] id="task-per-call" lang="ko" reviewed="275c222b95be"
# ## 과제 4. 아주 짧은 일 재기 (보통)
#
# 시계의 눈금보다 짧은 일은 한 번 재면 0이 나오거나, 시계를 읽는 시간만 재게 돼요. 그럴 때는 여러 번 부른 **블록**을 통째로 재서 나눠요. 그런데 몇 번을 불러야
# 할까요? 느린 일을 백만 번 부르면 하루가 가고, 빠른 일을 열 번 부르면 눈금에도 못 미쳐요.
#
# `per_call(work, at_least, clock, wait)`를 완성하세요. `work()` **한 번**에 드는 초를 돌려줘요.
#
# 1. 준비 운동으로 한 번 불러요.
# 2. 1번, 2번, 4번, …처럼 두 배씩 늘려 가며 블록을 재요. 블록의 시간이 `at_least`초 이상이면 멈추고, 그 블록의 시간을 부른 횟수로 나눠요.
# 3. `clock`과 `wait`는 블록의 처음과 끝에서만 불러요. 시계를 읽는 데도 시간이 들고, 부를 때마다 기다리면 장치가 쉬게 돼요.
#
# 눈금에 걸리면 블록의 시간이 0으로 나올 수도 있어요. 재는 데 드는 시간은 모두 합해 `at_least`의 다섯 배를 넘지 않아야 해요(한 번이 `at_least` 이상
# 걸리는 일은 준비 운동까지 두 번만 불러요).

# %% [markdown] id="task-per-call" lang="en"
# ## Task 4. Time something very short (medium)
#
# Time work that is shorter than a tick of the clock once, and you get 0, or only the time to read the clock. Then a whole
# **block** of calls is timed and divided. But how many calls? A million calls of something slow take a day; ten calls of
# something fast do not reach a tick.
#
# Complete `per_call(work, at_least, clock, wait)`: it returns the seconds of **one** `work()`.
#
# 1. Call it once to warm up.
# 2. Time blocks of 1, 2, 4, … calls, twice as many each time. When a block takes `at_least` seconds or more, stop, and divide
#    its time by its calls.
# 3. Call `clock` and `wait` only at the start and the end of a block: reading the clock takes time too, and waiting at each call
#    leaves the device idle.
#
# With coarse ticks a block may seem to take 0 seconds. All the measuring together must not take more than five times `at_least`
# (work that takes `at_least` or longer by itself is called just twice, warm-up included).

# %% id="per-call" kind="solution"
def per_call(work, at_least, clock=time.perf_counter, wait=nothing):
    ### BEGIN SOLUTION
    work()
    calls = 1
    while True:
        wait()
        began = clock()
        for _ in range(calls):
            work()
        wait()
        seconds = clock() - began
        if seconds >= at_least:
            return seconds / calls
        calls *= 2
    ### END SOLUTION

# %% id="test-per-call" kind="test" points=3
class Short:
    def __init__(self, seconds, launched=False, cold=1, reading=0.0, **machine):
        self.machine, self.seconds = Machine(**machine), seconds
        self.launched, self.cold, self.reading = launched, cold, reading
        self.calls, self.most = 0, 6 / seconds + 10

    def clock(self):
        self.machine.compute(self.reading)
        return self.machine.clock()

    def work(self):
        self.calls += 1
        assert self.calls < self.most, hint("per-call-many")
        seconds = self.seconds * (self.cold if self.calls == 1 else 1)
        (self.machine.launch if self.launched else self.machine.compute)(seconds)
        return 0


short = Short(0.003, tick=1 / 64)
found = submission.per_call(short.work, 1.0, short.machine.clock, short.machine.wait)
assert found < 1, hint("per-call-block")
np.testing.assert_allclose(found, 0.003, rtol=0.05, err_msg=hint("per-call-value"))
### BEGIN HIDDEN TESTS
for _ in range(4):
    seconds = 10 ** random.uniform(-3, -1)
    short = Short(seconds, cold=random.choice([1, 2 / seconds]), tick=1 / 64)
    found = submission.per_call(short.work, 1.0, short.machine.clock, short.machine.wait)
    np.testing.assert_allclose(found, seconds, rtol=0.05, err_msg=hint("per-call-value"))
    assert short.calls * seconds <= 5 + 2 * seconds, hint("per-call-many")
    assert short.calls * seconds >= 1, hint("per-call-few")
    at_least, short = random.uniform(0.3, 1.2), Short(seconds)
    submission.per_call(short.work, at_least, short.machine.clock, short.machine.wait)
    blocks = math.ceil(math.log2(at_least / seconds)) + 1
    assert short.calls == 2**blocks, hint("per-call-doubling", calls=short.calls, blocks=blocks)
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for seconds in (1.0, 4.0):
    long = Short(seconds, tick=1 / 64)
    found = submission.per_call(long.work, 1.0, long.machine.clock, long.machine.wait)
    np.testing.assert_allclose(found, seconds, rtol=0.05, err_msg=hint("per-call-long"))
    assert long.calls == 2, hint("per-call-long")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for cold in (1, 500):
    short = Short(0.004, launched=True, cold=cold, launch_cost=0.0015)
    found = submission.per_call(short.work, 1.0, short.machine.clock, short.machine.wait)
    text = hint("per-call-device") if found < 0.0045 else hint("per-call-waits")
    np.testing.assert_allclose(found, 0.004, rtol=0.05, err_msg=text)
short = Short(0.003, reading=0.03)
found = submission.per_call(short.work, 1.0, short.clock, short.machine.wait)
np.testing.assert_allclose(found, 0.003, rtol=0.05, err_msg=hint("per-call-clock"))
### END HIDDEN TESTS

# %% [markdown] id="block-plot" lang="ko" reviewed="1031d8571f2c"
# ### 측정의 한계선
#
# 시계를 읽고 반복문을 준비하는 데도 시간이 들어요. 일을 한 번도 하지 않는 *빈 블록*의 시간을 $c$, 일 한 번에 드는 시간을 $t$라고 하면, $n$번을 한
# 블록으로 재서 나눈 값은
#
# $$\frac{n\,t+c}{n}=t+\frac{c}{n}$$
#
# 가 돼요. 블록이 짧으면 일이 아니라 **시계를 재게 되는** 거예요. 여러분의 `per_call`로 $t$를 재고 빈 블록으로 $c$를 재서 이 곡선을 그린 다음, 블록의
# 크기를 바꿔 가며 실제로 잰 값과 견주어 볼게요.

# %% [markdown] id="block-plot" lang="en"
# ### The limit of measuring
#
# Reading the clock and starting a loop take time as well. Let $c$ be the time of an *empty block*, with no call in it, and $t$
# the time of the work itself. Timing $n$ calls as one block and dividing gives
#
# $$\frac{n\,t+c}{n}=t+\frac{c}{n}$$
#
# In a short block you measure **the clock** rather than the work. Let us measure $t$ with your `per_call` and $c$ with empty
# blocks, draw this curve, and compare it with what blocks of different sizes really give.

# %% id="block-plot-code" kind="demo"
def tiny():
    return math.sqrt(2.0)


def seconds_of_block(calls):
    began = time.perf_counter()
    for _ in range(calls):
        tiny()
    return time.perf_counter() - began


with when_solved():
    tiny_ns = 1e9 * per_call(tiny, 0.1, time.thread_time)
    empty_ns = 1e9 * np.median([seconds_of_block(0) for _ in range(1001)])
    sizes = 2 ** np.arange(15)
    measured = [1e9 * np.median([seconds_of_block(n) for _ in range(101)]) / n for n in sizes]
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.loglog(sizes, measured, "o", label=hint("plot-block"))
    axes.loglog(sizes, tiny_ns + empty_ns / sizes, "k--", label=hint("plot-curve"))
    axes.axhline(tiny_ns, color="tab:green", linestyle=":", label=hint("plot-tiny"))
    axes.set(xlabel=hint("plot-calls"), ylabel=hint("plot-ns"))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend()
    axes.grid(alpha=0.3, which="both")
    plt.show()
    once = measured[0] / tiny_ns
    print(hint("block", tiny=f"{tiny_ns:.0f}", empty=f"{empty_ns:.0f}", once=f"{once:.1f}"))

# %% [markdown] id="predict" lang="ko" reviewed="cf67ce2ff561"
# ## 먼저 예상해 보세요
#
# 이제 두 코드를 견줘요. 가장 정직한 시험은 **같은 함수를 자기 자신과** 겨루게 하는 거예요(A/A 시험). 정답은 꼭 1배예요. 그런데 한 번씩만 재서 나누면
# 어떨까요? 이런 시험을 200번 하면 1에서 **가장 멀리 벗어난 값은 몇 배**일까요? `worst_guess`에 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Now compare two versions. The most honest test is to let **a function race against itself** (an A/A test). The right answer is
# exactly 1x. But what if each is timed just once and the times are divided? Of 200 such races, **how many times too fast or too
# slow is the worst one**? Write it into `worst_guess`. It is not graded.

# %% id="guess"
worst_guess = 1.1

# %% id="aa-once" kind="demo"
with when_solved():
    once = []
    for i in range(200):
        first = timed(np.sort, fresh_numbers(i))[1]
        second = timed(np.sort, fresh_numbers(i))[1]
        once.append(first / second)
    worst = max(max(once), 1 / min(once))
    print(hint("aa-once", low=f"{min(once):.2f}", high=f"{max(once):.2f}"))
    print(hint("aa-guess", worst=f"{worst:.2f}", guess=worst_guess))

# %% [markdown] id="task-times-faster" lang="ko" reviewed="32716a010af4"
# ## 과제 5. 몇 배 빠른가 (어려움)
#
# 두 함수를 견줄 때 속기 쉬운 것이 네 가지 있어요.
#
# - **드리프트(drift).** 노트북은 뜨거워지면 느려져요. 하나를 다 재고 나서 다른 하나를 재면, 나중에 잰 쪽이 억울해요.
# - **순서.** 새 입력을 먼저 만지는 쪽은 메모리에서 읽어 와야 하고, 나중에 만지는 쪽은 캐시에서 읽어요.
# - **방해.** 한 번 크게 방해받은 값이 평균을 망쳐요.
# - **오답.** 틀린 답을 빨리 내는 건 쉬워요.
#
# `times_faster(slow, fast, draw, same, rounds, clock, wait)`를 완성하세요.
#
# 1. 먼저 준비 운동으로 두 함수를 한 번씩 불러요.
# 2. 라운드마다 **새 입력 하나**를 뽑아 두 함수에 똑같이 주고 한 번씩 재요. 준비 운동까지 통틀어 번호가 겹치지 않게 `draw(i)`를 부르고, 라운드마다
#    **순서를 뒤바꿔요**.
# 3. 라운드마다 두 결과를 `same(slow의 결과, fast의 결과)`로 견줘서, 하나라도 거짓이면 `ValueError`를 일으켜요.
# 4. 라운드마다 `slow의 시간 / fast의 시간`을 구하고, 튜플 `(중앙값, 최솟값, 최댓값)`을 돌려줘요.
#
# 라운드의 수 `rounds`는 보통 짝수로 정해요. 그래야 두 함수가 먼저 잰 횟수가 같아져요.
#
# 코드 아래에 있는 `Rivals`는 가짜 시계 위에서 겨루는 두 함수예요. `race(times_faster, Rivals(2.0, 0.5), 6)`처럼 마음대로 시험해 보세요.

# %% [markdown] id="task-times-faster" lang="en"
# ## Task 5. How many times faster (hard)
#
# Four things fool you when you compare two functions.
#
# - **Drift.** A laptop that gets hot gets slower. Time all of one and then all of the other, and the later one is wronged.
# - **Order.** Whoever touches a new input first must read it from memory; whoever comes second reads it from the cache.
# - **Disturbance.** One badly disturbed value ruins a mean.
# - **Wrong answers.** It is easy to be wrong quickly.
#
# Complete `times_faster(slow, fast, draw, same, rounds, clock, wait)`:
#
# 1. First call both functions once, to warm up.
# 2. In each round draw **one new input**, give it to both functions and time each once. Call `draw(i)` with numbers that do not
#    repeat, not even that of the warm-up, and **swap the order** from round to round.
# 3. In each round compare the two results by `same(result of slow, result of fast)`; raise `ValueError` if one comparison is
#    false.
# 4. Of each round take `seconds of slow / seconds of fast`; return a tuple `(median, smallest, largest)`.
#
# The number of `rounds` is usually even, so that both go first equally often.
#
# `Rivals`, below your code, are two functions that race on a fake clock. Try whatever you like with them, as in
# `race(times_faster, Rivals(2.0, 0.5), 6)`.

# %% id="times-faster" kind="solution"
def times_faster(slow, fast, draw, same, rounds=10, clock=time.perf_counter, wait=nothing):
    ### BEGIN SOLUTION
    warm = draw(0)
    slow(warm), fast(warm)
    ratios = []
    for i in range(1, rounds + 1):
        argument = draw(i)
        if i % 2:
            old, new = timed(slow, argument, clock, wait), timed(fast, argument, clock, wait)
        else:
            new, old = timed(fast, argument, clock, wait), timed(slow, argument, clock, wait)
        if not same(old[0], new[0]):
            raise ValueError("the results differ")
        ratios.append(old[1] / new[1])
    return float(np.median(ratios)), min(ratios), max(ratios)
    ### END SOLUTION

# %% id="rivals" kind="locked"
class Rivals:
    def __init__(self, slow_seconds, fast_seconds, cold=1.0, factor=lambda call: 1.0, wrong=None):
        self.machine, self.cold, self.factor, self.wrong = Machine(), cold, factor, wrong
        self.seconds = {"slow": slow_seconds, "fast": fast_seconds}
        self.calls, self.drawn, self.touched, self.compared = [], [], set(), 0

    def draw(self, i):
        self.drawn.append(i)
        self.machine.launch(7.0)
        return i

    def run(self, name, i):
        seconds = self.seconds[name] * self.factor(len(self.calls))
        seconds *= 1.0 if i in self.touched else self.cold
        self.touched.add(i)
        self.calls.append((name, i))
        self.machine.launch(seconds)
        return -1 if name == "fast" and len(self.calls) == self.wrong else i

    def slow(self, i):
        return self.run("slow", i)

    def fast(self, i):
        return [self.run("fast", i)]

    def same(self, slow_result, fast_result):
        self.compared += 1
        return np.bool_([slow_result] == fast_result)

    def rounds(self):
        return list(zip(self.calls[2::2], self.calls[3::2]))


def race(judge, rivals, rounds):
    clock, wait = rivals.machine.clock, rivals.machine.wait
    return judge(rivals.slow, rivals.fast, rivals.draw, rivals.same, rounds, clock, wait)

# %% id="test-times-faster" kind="test" points=4
rivals = Rivals(2.0, 0.5)
found = race(submission.times_faster, rivals, 6)
assert isinstance(found, (tuple, list)) and len(found) == 3, hint("faster-three")
assert found[0] > 1, hint("faster-upside-down")
np.testing.assert_allclose(found, [4, 4, 4], rtol=1e-3, err_msg=hint("faster-value"))
assert len(rivals.calls) == 14, hint("faster-calls", calls=len(rivals.calls), wanted=14)
assert rivals.compared >= 6, hint("faster-compared")
### BEGIN HIDDEN TESTS
assert {name for name, _ in rivals.calls[:2]} == {"slow", "fast"}, hint("faster-warm")
pairs = rivals.rounds()
assert all(first[0] != second[0] for first, second in pairs), hint("faster-apart")
assert all(first[1] == second[1] for first, second in pairs), hint("faster-same-input")
assert len({first[1] for first, _ in pairs}) == 6, hint("faster-fresh")
assert len(set(rivals.drawn)) == len(rivals.drawn), hint("faster-numbers")
warm = {i for _, i in rivals.calls[:2]}
assert not any(first[1] in warm for first, _ in pairs), hint("faster-numbers")
leads = [first[0] for first, _ in pairs]
assert all(one != other for one, other in zip(leads, leads[1:])), hint("faster-order")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for ratio in (0.4, 3.0):
    rivals = Rivals(ratio, 1.0, cold=1.4)
    found = race(submission.times_faster, rivals, 10)
    np.testing.assert_allclose(found[0], ratio, rtol=0.1, err_msg=hint("faster-order"))
    rivals = Rivals(ratio, 1.0, factor=lambda call: 1.07**call)
    found = race(submission.times_faster, rivals, 10)
    np.testing.assert_allclose(found[0], ratio, rtol=0.1, err_msg=hint("faster-drift"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for _ in range(3):
    disturbed = random.randint(4, 17)
    rivals = Rivals(5.0, 1.0, factor=lambda call: 40.0 if call in (0, 1, disturbed) else 1.0)
    middle, low, high = race(submission.times_faster, rivals, 9)
    np.testing.assert_allclose(middle, 5, rtol=0.01, err_msg=hint("faster-disturbed"))
    spread = (low, high) if rivals.calls[disturbed][0] == "slow" else (high, low)
    expected = (5, 200) if rivals.calls[disturbed][0] == "slow" else (5, 5 / 40)
    np.testing.assert_allclose(spread, expected, rtol=0.01, err_msg=hint("faster-spread"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
factors = [random.uniform(0.3, 3) for _ in range(50)]
rivals = Rivals(2.0, 1.0, factor=lambda call: factors[call])
found = race(submission.times_faster, rivals, 11)
assert len(rivals.calls) == 24, hint("faster-calls", calls=len(rivals.calls), wanted=24)
seconds = [rivals.seconds[name] * factors[call] for call, (name, _) in enumerate(rivals.calls)]
pairs = zip(rivals.calls[2::2], seconds[2::2], seconds[3::2])
ratios = [one / other if lead[0] == "slow" else other / one for lead, one, other in pairs]
expected = [np.median(ratios), min(ratios), max(ratios)]
np.testing.assert_allclose(found, expected, rtol=1e-3, err_msg=hint("faster-ratios"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for wrong in range(3, 13):
    rivals = Rivals(2.0, 1.0, wrong=wrong)
    try:
        race(submission.times_faster, rivals, 5)
    except ValueError:
        refused = True
    except Exception:
        refused = False
    else:
        refused = not any(name == "fast" for name, _ in rivals.calls[wrong - 1 : wrong])
    assert refused, hint("faster-wrong")
### END HIDDEN TESTS

# %% [markdown] id="aa-again" lang="ko" reviewed="b749ac08cadd"
# ### A/A 시험을 다시
#
# 여러분의 `times_faster`로 같은 함수를 자기 자신과 다시 겨루게 해 봐요. 이번에는 라운드 10번의 중앙값이에요. 둘째 줄은 같은 시험을 CPU 시간으로
# 쟀어요.

# %% [markdown] id="aa-again" lang="en"
# ### The A/A test once more
#
# Let the function race against itself again, with your `times_faster`: now it is the median of ten rounds. The second line
# repeats the test with CPU time.

# %% id="aa-again-code" kind="demo"
with when_solved():
    for label, clock in [("aa-wall", time.perf_counter), ("aa-cpu", time.thread_time)]:
        ratios = [
            times_faster(np.sort, np.sort, fresh_numbers, np.array_equal, clock=clock)[0]
            for _ in range(60)
        ]
        print(hint(label, low=f"{min(ratios):.2f}", high=f"{max(ratios):.2f}"))

# %% [markdown] id="aa-after" lang="ko" reviewed="390cc70ef914"
# 이 폭이 여러분의 자의 **눈금**이에요. 이 폭보다 작은 차이를 "빨라졌다"고 말하면 안 돼요. 새 컴퓨터에서 벤치마크를 시작할 때는 늘 A/A 시험부터 해요.
# 이 아카데미가 CPU에서 재는 성능 기준이 참고 풀이가 낸 값의 절반쯤에 있고 1.5배보다 낮지 않은 까닭도 여기에 있어요. 컴퓨터가 바쁠 때도 억울한 사람이 없어야 하니까요.

# %% [markdown] id="aa-after" lang="en"
# That width is **the finest mark on your ruler**. Never call a smaller difference "faster". On a new machine, every benchmark
# begins with an A/A test. It is also why this academy puts its performance gates on the CPU at about half of what the reference
# reaches, and never below 1.5x: nobody should be wronged when the machine is busy.

# %% [markdown] id="task-amdahl" lang="ko" reviewed="a66fd57a0ee4"
# ## 과제 6. 암달의 법칙 (쉬움)
#
# 요청 하나를 처리하는 시간 가운데 비율 $p$를 차지하는 부분을 $s$배 빠르게 만들었어요. 나머지는 그대로예요. 원래 시간을 1이라고 하면 새 시간은
# $(1-p)+p/s$이니, 전체는
#
# $$\text{amdahl}(p,s)=\frac{1}{(1-p)+p/s}$$
#
# 배 빨라져요. $s$가 아무리 커도 $1/(1-p)$배를 넘지 못해요. 두 함수를 완성하세요.
#
# - `amdahl(part, factor)`: 위의 값. `factor`는 `math.inf`일 수도, 1보다 작을 수도 있어요.
# - `factor_needed(part, wanted)`: 전체를 `wanted`배(1 이상) 빠르게 하려면 그 부분을 몇 배 빠르게 해야 할까요? 아무리 빨라져도 안 된다면
#   `math.inf`를 돌려줘요. `part`는 0보다 커요.

# %% [markdown] id="task-amdahl" lang="en"
# ## Task 6. Amdahl's law (easy)
#
# A part that takes the share $p$ of a request's time was made $s$ times faster; the rest stays as it is. If the old time is 1, the
# new one is $(1-p)+p/s$, so the whole is
#
# $$\text{amdahl}(p,s)=\frac{1}{(1-p)+p/s}$$
#
# times faster. However large $s$ is, it never exceeds $1/(1-p)$. Complete two functions:
#
# - `amdahl(part, factor)`: the value above. `factor` may be `math.inf`, or less than 1.
# - `factor_needed(part, wanted)`: to make the whole `wanted` times faster (1 or more), how many times faster must the part
#   become? Return `math.inf` if no factor is enough. `part` is greater than 0.

# %% id="amdahl" kind="solution"
def amdahl(part, factor):
    ### BEGIN SOLUTION
    return 1 / ((1 - part) + part / factor)
    ### END SOLUTION


def factor_needed(part, wanted):
    ### BEGIN SOLUTION
    left = 1 / wanted - (1 - part)
    return part / left if left > 0 else math.inf
    ### END SOLUTION

# %% id="test-amdahl" kind="test" points=2
np.testing.assert_allclose(submission.amdahl(0.5, 2), 4 / 3, err_msg=hint("amdahl-value"))
np.testing.assert_allclose(submission.amdahl(0.9, math.inf), 10, err_msg=hint("amdahl-limit"))
np.testing.assert_allclose(submission.factor_needed(0.75, 2), 3, err_msg=hint("needed-value"))
### BEGIN HIDDEN TESTS
for _ in range(20):
    part, factor = random.uniform(0.02, 0.98), 10 ** random.uniform(-1, 3)
    found, expected = submission.amdahl(part, factor), 1 / (1 - part + part / factor)
    np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=hint("amdahl-value"))
    share = 1 - 10 ** random.uniform(-5, 0)
    wanted = 1 + share * (1 / (1 - part) - 1)
    factor = submission.factor_needed(part, wanted)
    reached = 1 / (1 - part + part / factor)
    np.testing.assert_allclose(reached, wanted, rtol=1e-6, err_msg=hint("needed-value"))
np.testing.assert_allclose(submission.amdahl(0, 50), 1, err_msg=hint("amdahl-value"))
np.testing.assert_allclose(submission.amdahl(1, 50), 50, err_msg=hint("amdahl-value"))
np.testing.assert_allclose(submission.factor_needed(1, 7), 7, err_msg=hint("needed-value"))
np.testing.assert_allclose(submission.factor_needed(0.4, 1), 1, err_msg=hint("needed-value"))
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
for part, wanted in [(0.5, 2), (0.5, 3), (0.2, 1.5), (0.75, 100)]:
    assert submission.factor_needed(part, wanted) == math.inf, hint("needed-never")
### END HIDDEN TESTS

# %% [markdown] id="limit" lang="ko" reviewed="0e9333bbf24f"
# ## 이론의 한계와 비교하기
#
# 작은 서비스를 하나 만들어 볼게요. 요청 하나는 두 부분으로 되어 있어요. `prepare`는 글자를 세는 파이썬 반복문이고, `score`는 벡터 3,000개에 행렬을
# 곱해요. `score`는 벡터를 `chunk`개씩 묶어서 계산하는데, 묶음이 클수록 빨라요(1.1 단원에서 배운 대로예요).
#
# 묶음의 크기를 바꿔 가며 두 가지를 재요. `score` **하나만** 보면 몇 배 빨라졌는지, 그리고 요청 **전체**가 몇 배 빨라졌는지. 앞의 값과 $p$를 암달의 법칙에 넣으면 뒤의
# 값이 나와야 해요. 정말 그럴까요? $p$도 여러분의 `times_faster`로 재요. 요청 전체와 `score`를 겨루게 하면 그 비율이 바로 $1/p$예요.

# %% [markdown] id="limit" lang="en"
# ## Against what theory allows
#
# Let us build a small service. A request has two parts: `prepare` is a Python loop that counts letters, and `score` multiplies
# 3,000 vectors by a matrix. `score` takes the vectors in chunks, and the larger the chunks, the faster (as in unit 1.1).
#
# For several sizes of chunks, measure how many times faster `score` **alone** becomes, and how many times faster the **whole**
# request. Put the former and $p$ into Amdahl's law, and the latter should come out. Does it? Your `times_faster` measures $p$
# too: let the whole request race against `score` alone, and the ratio is $1/p$.

# %% id="service" kind="locked"
weights = np.random.default_rng(1).normal(size=(16, 16))


def draw_request(i):
    generator = np.random.default_rng(i)
    letters = generator.integers(97, 123, 20_000, dtype=np.uint8).tobytes().decode()
    return letters, generator.normal(size=(3000, 16))


def prepare(text):
    counts = {}
    for letter in text:
        counts[letter] = counts.get(letter, 0) + 1
    return counts


def score(vectors, chunk):
    parts = [vectors[i : i + chunk] @ weights for i in range(0, len(vectors), chunk)]
    return np.concatenate(parts)


def serve(request, chunk):
    text, vectors = request
    return prepare(text), score(vectors, chunk)

# %% id="plot" kind="demo"
def part_by(chunk):
    return lambda request: score(request[1], chunk)


def whole_by(chunk):
    return lambda request: serve(request, chunk)


def scores(result):
    return result[1] if isinstance(result, tuple) else result


def agree(a, b):
    return np.allclose(scores(a), scores(b))


def ratio_of(old, new):
    return times_faster(old, new, draw_request, agree, 16, time.thread_time)[0]


with when_solved():
    share = 1 / ratio_of(whole_by(1), part_by(1))
    chunks = [2, 4, 8, 16, 64, 1000]
    factors = [ratio_of(part_by(1), part_by(chunk)) for chunk in chunks]
    gains = [ratio_of(whole_by(1), whole_by(chunk)) for chunk in chunks]
    print(hint("share", percent=f"{100 * share:.0f}", limit=f"{amdahl(share, math.inf):.2f}"))
    for chunk, factor, gain in zip(chunks, factors, gains):
        law = amdahl(share, factor)
        row = dict(factor=f"{factor:5.1f}", gain=f"{gain:4.2f}", law=f"{law:4.2f}")
        print(hint("amdahl-row", chunk=f"{chunk:4}", **row))
    figure, axes = plt.subplots(figsize=(7, 4.5))
    curve = np.geomspace(1, max(factors) * 2, 100)
    axes.plot(curve, [amdahl(share, factor) for factor in curve], label=hint("plot-law"))
    axes.plot(factors, gains, "o", label=hint("plot-gain"))
    axes.axhline(amdahl(share, math.inf), color="k", linestyle="--", label=hint("plot-limit"))
    axes.plot(curve, curve, ":", color="gray", label=hint("plot-hope"))
    axes.set(xlabel=hint("plot-factor"), ylabel=hint("plot-whole"), xscale="log")
    axes.set_ylim(0.9, 1.25 * amdahl(share, math.inf))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    plt.show()
    print(hint("achieved", percent=f"{100 * gains[-1] / amdahl(share, math.inf):.0f}"))

# %% [markdown] id="limit-after" lang="ko" reviewed="4659ecb3d7af"
# 점들이 곡선에서 조금 벗어나 있나요? 암달의 법칙은 나머지 부분의 시간이 **그대로**라고 가정해요. 두 부분이 캐시와 메모리를 함께 쓰면, 하나를 바꿀 때
# 다른 쪽의 시간도 조금 달라질 수 있어요. 법칙은 미리 어림하는 데 쓰고, 마지막에는 늘 전체를 재요.
#
# `score`가 수십 배 빨라져도 요청은 한계선 아래에 머물러요. 이때 `score`를 두 배 더 빠르게 하는 데 쓰는 한 달과, 아무도 보지 않던 `prepare`를 고치는 하루 가운데
# 어느 쪽이 나을까요? **무엇을 빠르게 할지 고르기 전에 비율부터 재는 것**, 그것이 암달의 법칙이 주는 교훈이에요.
#
# 돈으로도 바꿔 봐요. 서버를 한 시간 빌리는 값 `won_per_hour`는 예로 든 숫자이니 바꿔 보세요.

# %% [markdown] id="limit-after" lang="en"
# Are the dots a little off the curve? Amdahl's law takes it that the rest takes **exactly as long as before**. Where two parts share
# caches and memory, changing one can change the time of the other a little. Use the law to estimate beforehand, and in the end
# always measure the whole.
#
# Even with `score` dozens of times faster, the request stays below the limit. Which is better now: a month spent on making `score`
# twice as fast again, or a day on `prepare`, which nobody looked at? **Measure the shares before you choose what to speed up**:
# that is what Amdahl's law teaches.
#
# Now in money. The price of a server, `won_per_hour`, is an example: change it.

# %% id="money" kind="demo"
won_per_hour = 200

with when_solved():
    seconds = typical(bench(whole_by(1), draw_request, 20, clock=time.thread_time))[0]
    won = seconds / 3600 * won_per_hour * 1_000_000
    hoped = ratio_of(part_by(1), part_by(1000))
    reached = ratio_of(whole_by(1), whole_by(1000))
    best = amdahl(1 / ratio_of(whole_by(1), part_by(1)), math.inf)
    print(hint("money-title"))
    print(hint("money-before", won=f"{won:7.0f}"))
    print(hint("money-hoped", won=f"{won / hoped:7.0f}", factor=f"{hoped:.0f}"))
    print(hint("money-after", won=f"{won / reached:7.0f}"))
    print(hint("money-limit", won=f"{won / best:7.0f}"))

# %% [markdown] id="loses" lang="ko" reviewed="8827a9626a78"
# ## 이 방법이 지는 곳
#
# 준비 운동을 하고, 순서를 바꾸고, 중앙값을 봐도 놓치는 것이 있어요. 세 가지를 재 볼게요.
#
# 1. **중앙값은 꼬리를 숨겨요.** 요청 백 건 가운데 두 건이 20배 느린 서비스를 흉내 내 봐요. 그런 요청 40건의 답이 모두 모여야 페이지 하나가 열린다면요?
# 2. **따뜻한 캐시는 현실이 아닐 수 있어요.** 같은 배열을 거듭 더하면 데이터가 CPU 캐시에 남아 있어요. 서비스에는 매번 새 데이터가 와요. 답을 외워
#    두는 함수라면 더해요.
# 3. **매번 기다리면 겹치기가 사라져요.** 비동기 장치는 앞의 일을 하는 동안 다음 일을 받을 수 있어요. 한 번의 지연 시간에 횟수를 곱한 값은 처리량이 아니에요.

# %% [markdown] id="loses" lang="en"
# ## Where this method loses
#
# Warm up, swap the order, take the median, and some things still escape. Let us measure three.
#
# 1. **The median hides the tail.** Imitate a service in which two requests of a hundred are 20 times slower. What if a page
#    opens only when the answers of 40 such requests are there?
# 2. **A warm cache may not be reality.** Sum the same array again and again, and its data stays in the CPU's cache. A service
#    gets new data every time. With a function that remembers its answers it is worse.
# 3. **Waiting every time removes the overlap.** An asynchronous device takes new work while it does the old. The latency of one
#    call times the number of calls is not the throughput.

# %% id="loses-code" kind="demo"
generator = np.random.default_rng(2)
requests = np.where(generator.random(200_000) < 0.02, 200, 10)
requests = requests * generator.uniform(0.9, 1.1, 200_000)
pages = requests.reshape(-1, 40).max(axis=1)
for label, waited in [("tail-request", requests), ("tail-page", pages)]:
    middle, late = np.quantile(waited, [0.5, 0.99])
    print(hint(label, middle=f"{middle:5.0f}", late=f"{late:5.0f}"))
seen, law = 100 * (pages > 100).mean(), 100 * (1 - 0.98**40)
print(hint("tail-share", seen=f"{seen:.0f}", law=f"{law:.0f}"))

blocks = [np.full(200_000, float(i)) for i in range(100)]
remembered = functools.lru_cache(lambda i: blocks[i % 100].sum())
with when_solved():
    for label, work, draw_block in [
        ("cache-same", lambda i: blocks[i % 100].sum(), lambda i: 0),
        ("cache-fresh", lambda i: blocks[i % 100].sum(), lambda i: i),
        ("cache-remembered", remembered, lambda i: 0),
    ]:
        middle = typical(bench(work, draw_block, 90))[0]
        print(hint(label, us=f"{1e6 * middle:6.1f}"))
    machine = Machine(launch_cost=5e-5)
    kernel = functools.partial(machine.launch, 6e-5)
    latency = timed(lambda _: kernel(), None, machine.clock, machine.wait)[1]
    apart = per_call(kernel, 0.1, machine.clock, machine.wait)
    print(hint("overlap", latency=f"{1e6 * latency:.0f}", apart=f"{1e6 * apart:.0f}"))

# %% [markdown] id="loses-after" lang="ko" reviewed="1a1ffdd94e95"
# 그래서 보고서에는 늘 **무엇을** 쟀는지 함께 적어요. 지연 시간인지 처리량인지, 중앙값인지 99백분위수(p99)인지, 캐시가 찼는지 비었는지, 입력은 얼마나 다양했는지. 서비스의
# 약속(SLO)은 보통 중앙값이 아니라 p99로 해요. 4.7 단원에서 그 약속을 지키는 서버를 직접 만들어요.

# %% [markdown] id="loses-after" lang="en"
# So a report always says **what** was measured: latency or throughput, the median or the 99th percentile (p99), with a full or
# an empty cache, on how varied an input. What a service promises (its SLO) is usually a p99, not a median. In unit 4.7 you build a
# server that keeps such a promise.

# %% [markdown] id="question" lang="ko" reviewed="a8158f414284"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 동료가 이렇게 보고했어요. "모델 부분을 GPU로 옮겼더니 **400배** 빨라졌습니다. 먼저 CPU 코드를 10번 재서 평균을 내니 20밀리초였고, 이어서 GPU 코드를 같은 입력으로
# 10번 재니 가장 빠른 값이 0.05밀리초였습니다. `time.time()`으로 함수를 부르기 직전과 직후를 쟀습니다. 모델 부분이 요청의 60%를 차지하니, 서버 100대를
# 1대로 줄여도 됩니다."
#
# **위에서 여러분이 잰 값**을 근거로 6~10문장으로 답하세요. (1) 측정에서 잘못된 점을 세 가지 이상 찾고, 저마다 결과를 어느 쪽으로 얼마나 바꿀 수 있는지
# 말하세요. (2) 400배가 사실이라 해도 서버는 몇 대가 필요할까요? (3) 다시 잰다면 어떤 순서로, 무엇을 보고하겠어요?
#
# *채점 기준*: 잘못을 세 가지 이상 짚고 원리를 설명했다(2점, 두 가지면 1점), 암달의 법칙으로 서버의 수를 바르게 계산했다(1점), 순서, 대푯값, 흔들림, 정답
# 확인이 들어간 측정 방법을 제안했다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# A colleague reports: "Moving the model to a GPU made it **400 times** faster. First I timed the CPU code 10 times; the mean was 20
# milliseconds. Then I timed the GPU code 10 times on the same input; the best value was 0.05 milliseconds. I read `time.time()`
# right before and right after the call. The model takes 60% of a request, so we can go from 100 servers to 1."
#
# Using **what you measured above**, answer in 6 to 10 sentences: (1) at least three things that are wrong with the measurement, and
# in which direction, and how far, each can move the result; (2) if 400 times were true, how many servers would be needed;
# (3) in which order you would measure again, and what you would report.
#
# *Rubric*: names at least three faults and how they work (2 points; two faults: 1 point); computes the number of servers
# correctly by Amdahl's law (1 point); proposes a measurement with order, typical value, spread and a check of the answers
# (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="0939e2e7d2bd"
# ## 더 읽어 보기
#
# - Amdahl, *Validity of the single processor approach to achieving large scale computing capabilities*, AFIPS (1967): 몇 쪽 되지 않는 원문
# - Georges, Buytaert, Eeckhout, *Statistically Rigorous Java Performance Evaluation*, OOPSLA (2007): 발표된 성능 논문들의 결론이 측정법에 따라 뒤집히는 까닭
# - Mytkowicz, Diwan, Hauswirth, Sweeney, *Producing Wrong Data Without Doing Anything Obviously Wrong!*, ASPLOS (2009): 환경 변수의 길이만 바꿔도
#   속도가 달라지는 실험
# - Dean, Barroso, *The Tail at Scale*, CACM 56(2) (2013): 서비스에서 꼬리가 중앙값보다 중요한 까닭
# - Hoefler, Belli, *Scientific Benchmarking of Parallel Computing Systems*, SC (2015): 성능을 보고하는 열두 가지 규칙

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Amdahl, *Validity of the single processor approach to achieving large scale computing capabilities*, AFIPS (1967): the
#   original, a few pages long
# - Georges, Buytaert, Eeckhout, *Statistically Rigorous Java Performance Evaluation*, OOPSLA (2007): how conclusions of published
#   papers flip with the way of measuring
# - Mytkowicz, Diwan, Hauswirth, Sweeney, *Producing Wrong Data Without Doing Anything Obviously Wrong!*, ASPLOS (2009): the length
#   of an environment variable changes the speed
# - Dean, Barroso, *The Tail at Scale*, CACM 56(2) (2013): why the tail matters more to a service than the median
# - Hoefler, Belli, *Scientific Benchmarking of Parallel Computing Systems*, SC (2015): twelve rules for reporting performance
