"""Performance gates: a ratio of CPU times, taken from outside the student's process where the grader runs it.

In a student's notebook both versions are timed in this process. In the grader the student's version is timed by the CPU clock
of its whole sandbox, which its code can neither read nor set; what it spends in the tests' objects counts too. Inputs are fresh
at every call, the order alternates, results are compared.

Work on a GPU is timed by the wall clock of the tests' process, from the call until its finished result is there; the run has
the device to itself. Such a gate counts only where its unit was calibrated on a GPU; elsewhere it is reported.
"""

from __future__ import annotations

import contextlib
import html
import math
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from grading import checks
from grading.border import Handle

__all__ = ["Speedup", "bandwidth", "gate", "gpu", "speedup"]

SHORTEST = 0.01  # seconds of a timed block: shorter calls are timed several in a row
MOST_CALLS = 64  # in a block
_TEXTS = {
    "unequal": {
        "ko": "빠른 쪽과 느린 쪽의 결과가 달라요. 속도보다 정답이 먼저예요.",
        "en": "The fast and the slow version disagree. Right comes before fast.",
    },
    "promise": {
        "ko": "결과가 숫자나 배열이 아니라 다른 객체예요. 계산을 끝낸 값을 돌려주세요.",
        "en": "The result is an object of its own kind; return finished numbers or arrays.",
    },
    "reached": {
        "ko": "성능 기준 {name}: {ratio:.2f}배가 나왔어요. 기준은 {wanted:g}배 이상이에요.",
        "en": "gate {name}: {ratio:.2f}x, at least {wanted:g}x",
    },
    "gate": {
        "ko": "{ratio:.1f}배가 나왔어요. {wanted:g}배 이상이어야 해요.",
        "en": "It reached {ratio:.1f}x; at least {wanted:g}x is wanted.",
    },
    "no-gpu": {
        "ko": "이 서버에는 GPU가 없어서 이 부분은 건너뛰어요.",
        "en": "There is no GPU on this server; this part is left out.",
    },
    "reported": {
        "ko": "아직 GPU에서 기준을 맞춰 보지 않은 단원이라, 이 결과는 보여 주기만 하고 점수에는 넣지 않아요.",
        "en": "This unit was not calibrated on a GPU yet: the figure is reported and not graded.",
    },
    "floor": {
        "ko": "이 컴퓨터의 물리적인 한계보다 빠른 값이 나왔어요. 계산을 건너뛰지 않았는지 확인해 보세요.",
        "en": "This is faster than the machine's physical limit allows. Is some of the work left out?",
    },
}


@dataclass(frozen=True)
class Speedup:
    """How many times faster, as the median of the rounds; ``rounds`` holds each round's ratio, seconds are of one call."""

    ratio: float
    rounds: tuple[float, ...]
    fast_seconds: float
    slow_seconds: float
    gpu: bool = False

    def __str__(self) -> str:
        return f"{self.ratio:.1f}x ({min(self.rounds):.1f}x - {max(self.rounds):.1f}x)"


def speedup(
    fast: Callable[..., Any],
    slow: Callable[..., Any],
    inputs: Callable[[int], tuple[Any, ...]],
    same: Callable[[Any, Any], bool],
    rounds: int = 5,
    gpu: bool = False,
) -> Speedup:
    """CPU time of ``slow`` over CPU time of ``fast``, on one thread: alternating order, fresh inputs at every call.

    Args:
        inputs: makes the arguments of call i.
        same: whether two results agree.
        gpu: both work on a GPU, so take wall time instead, until the result is there.

    Raises:
        AssertionError: a pair of results does not agree.
    """
    ratios: list[float] = []
    seconds: tuple[list[float], list[float]] = ([], [])
    with _one_thread():  # idle threads of a pool spin, and spinning counts as CPU time
        drawn = inputs(0)
        for function in (fast, slow) if gpu else ():
            _timed(function, [drawn], gpu)  # compiles kernels
        counts = [_count(function, drawn, gpu) for function in (fast, slow)]  # also warms both up
        for turn in range(rounds):
            pool = [inputs(1 + turn * max(counts) + i) for i in range(max(counts))]
            compared = random.sample(range(len(pool)), min(counts))  # nobody can tell which results these are
            few = [pool[i] for i in compared]
            blocks = (pool, few) if counts[0] > counts[1] else (few, pool)
            results: list[list[Any]] = [[], []]
            for side, function in [(0, fast), (1, slow)][:: 1 if turn % 2 == 0 else -1]:
                results[side], spent = _timed(function, blocks[side], gpu)
                seconds[side].append(spent / len(blocks[side]))
            many, some = results if counts[0] > counts[1] else results[::-1]
            if not all(same(*pair) for pair in zip([many[i] for i in compared], some, strict=True)):
                raise AssertionError(_text("unequal"))
            ratios.append(seconds[1][-1] / seconds[0][-1])
    return Speedup(statistics.median(ratios), tuple(ratios), statistics.median(seconds[0]), statistics.median(seconds[1]), gpu)


def _count(function: Callable[..., Any], arguments: tuple[Any, ...], gpu: bool) -> int:
    """How many calls make a block that is long enough to be timed."""
    _, spent = _timed(function, [arguments], gpu)
    return max(1, min(MOST_CALLS, math.ceil(SHORTEST / max(spent, 1e-9))))


def _timed(function: Callable[..., Any], arguments: list[tuple[Any, ...]], gpu: bool) -> tuple[list[Any], float]:
    """The results, and the CPU seconds of all calls together; on a GPU, the seconds."""
    border = checks.border
    if gpu:
        _finish()
        began = time.perf_counter()
        results = (
            function.each(arguments) if isinstance(function, checks._Function) else [function(*each) for each in arguments]
        )
        _finish()
        spent = time.perf_counter() - began
        if not all(map(_plain, results)):
            raise AssertionError(_text("promise"))
        return results, max(spent, 1e-9)
    if border is None:
        began = _cpu_seconds()
        results = [function(*each) for each in arguments]
        return results, max(_cpu_seconds() - began, 1e-9)
    calls, served, theirs, own = border.calls, border.served_seconds, _their_clock(), _cpu_seconds()
    if isinstance(function, checks._Function):
        results = function.each(arguments)
        if not all(map(_plain, results)):
            raise AssertionError(_text("promise"))  # it would be computed when it is looked at, and not timed
        spent = _their_clock() - theirs + border.served_seconds - served
    else:
        results = [function(*each) for each in arguments]
        spent = _cpu_seconds() - own
        if border.calls > calls:  # a test's function around the student's
            spent += _their_clock() - theirs
    return results, max(spent, 1e-9)


def _cpu_seconds() -> float:
    """CPU time of this process. ``time.process_time`` stands still between ticks where a process has a limit of CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _finish() -> None:
    """Wait until this process's work on the GPU is done."""
    import torch

    torch.cuda.synchronize()


def gpu() -> bool:
    """Whether there is a GPU to work on; where there is none, says that what follows is left out."""
    import torch

    if torch.cuda.is_available():
        return True
    print(_text("no-gpu"))
    return False


def _plain(value: Any) -> bool:
    """Whether a result is here whole, and none of it an object on the other side."""
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(_plain(key) and _plain(item) for key, item in value.items())
    return not isinstance(value, Handle)


def _their_clock() -> float:
    """Seconds of CPU time that the student's sandbox has used, as the supervisor reads them."""
    assert checks.service is not None
    return float(checks.service({"clock": True})["ns"]) / 1e9


def gate(name: str, reached: Speedup, at_least: float, text: str = "", floor_seconds: float = 0.0) -> None:
    """A performance gate: says and draws the figure, its spread and the gate; in the grader the figure is recorded.

    A figure from a GPU is graded only where the unit's ``calibration.toml`` knows the gate.

    Args:
        text: where to look when it is missed.
        floor_seconds: no code can do one call faster on this machine (see ``bandwidth``); a faster result is refused.

    Raises:
        AssertionError: below ``at_least``, or faster than possible.
    """
    low, high = min(reached.rounds), max(reached.rounds)
    impossible = reached.fast_seconds < floor_seconds
    passed = reached.ratio >= at_least and not impossible
    graded = not reached.gpu or name in checks.calibrated()
    print(_text("reached", name=name, ratio=reached.ratio, wanted=at_least))
    if checks.service is not None:  # it draws the figure that it records
        figure = {"name": name, "ratio": reached.ratio, "low": low, "high": high, "at_least": at_least, "passed": passed}
        checks.service({"gate": {**figure, "impossible": impossible}})
    elif "IPython" in sys.modules:
        from IPython.display import display

        display({"image/svg+xml": picture(name, reached.ratio, low, high, at_least)}, raw=True)  # type: ignore[no-untyped-call]
    if not graded:
        print(_text("reported"))
        return
    if impossible:
        raise AssertionError(_text("floor"))
    if not passed:
        raise AssertionError(f"{_text('gate', ratio=reached.ratio, wanted=at_least)} {text}".strip())


def picture(name: str, ratio: float, low: float, high: float, at_least: float) -> str:
    """An SVG: the median's bar, the spread of the rounds and the gate, on a logarithmic line from 1x on."""
    left, right, most = 20, 460, max(high, at_least, 1.1) * 1.3

    def x(value: float) -> float:
        return left + (right - left) * math.log(min(max(1.0, value), most)) / math.log(most)

    colour = "#1a7f37" if ratio >= at_least else "#b3261e"
    text = f"{name}: {ratio:.2f}x ({low:.2f}x - {high:.2f}x)"
    ticks = [tick for power in range(math.ceil(math.log10(most))) for step in (1, 2, 5) if (tick := step * 10**power) <= most]
    gate_at = x(at_least)
    parts = [
        f'<text x="{left}" y="14" font-weight="bold">{html.escape(text)}</text>',
        f'<rect x="{left}" y="38" width="{max(x(ratio) - left, 1):.1f}" height="18" rx="2" fill="{colour}"/>',
        f'<path d="M{x(low):.1f} 47H{x(high):.1f}M{x(low):.1f} 41v12M{x(high):.1f} 41v12" stroke="#1f2328" stroke-width="2"/>',
        f'<path d="M{gate_at:.1f} 24v42" stroke="#0b57d0" stroke-width="3" stroke-dasharray="5 3"/>',
        f'<text x="{min(gate_at + 5, right - 60):.1f}" y="33" fill="#0b57d0">&#8805; {at_least:g}x</text>',
        f'<path d="M{left} 66H{right}" stroke="#57606a"/>',
        *(f'<text x="{x(tick):.1f}" y="81" text-anchor="middle" fill="#57606a">{tick}x</text>' for tick in ticks),
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="480" height="88" viewBox="0 0 480 88" font-family="sans-serif" '
        f'font-size="12" role="img"><title>{html.escape(f"{text}, >= {at_least:g}x")}</title>'
        f'<rect width="480" height="88" fill="#fff"/>{"".join(parts)}</svg>'
    )


def bandwidth(size: int) -> float:
    """Bytes a second that this machine copies, for a working set of ``size`` bytes: median of five, on one thread."""
    import numpy as np

    source = np.ones(max(1, size // 16))
    target = np.empty_like(source)
    with _one_thread():
        repeats = max(1, (32 << 20) // source.nbytes)
        times = []
        for _ in range(5):
            began = _cpu_seconds()
            for _ in range(repeats):
                np.copyto(target, source)
            times.append((_cpu_seconds() - began) / repeats)
    return 2 * source.nbytes / max(statistics.median(times), 1e-9)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits  # here, so that importing this module stays light

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(1):
        try:
            if torch:
                torch.set_num_threads(1)
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def _text(key: str, **values: object) -> str:
    return _TEXTS[key][checks.language()].format(**values)
