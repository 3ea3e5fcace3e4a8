"""What test cells import; the same cell runs in a student's notebook and in the grader.

    from grading.checks import hint, speedup, submission

    distance = submission.pairwise_distance(points, centres)
    np.testing.assert_allclose(distance, expected, err_msg=hint("distance.broadcast"))

Arguments and results are copied on the way, so that a test sees what it would see if the student's code ran elsewhere.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_TEXTS = {
    "missing": {
        "ko": "{name}이(가) 아직 없어요. 이 이름을 정의하는 셀을 먼저 실행했는지, 이름을 바꾸지 않았는지 확인해 보세요.",
        "en": "{name} is not there yet. Did you run the cell that defines it, and keep its name?",
    },
    "nothing": {
        "ko": "{name}이(가) 아무것도 돌려주지 않았어요(None). return을 빠뜨리지 않았나요?",
        "en": "{name} returned nothing (None). Is a return missing?",
    },
    "unequal": {
        "ko": "빠른 쪽과 느린 쪽의 결과가 달라요. 속도보다 정답이 먼저예요.",
        "en": "The fast and the slow version disagree. Right comes before fast.",
    },
}


def language() -> str:
    """The language of the person who reads: ``ko`` or ``en``."""
    return "en" if os.environ.get("ACADEMY_LANGUAGE") == "en" else "ko"


def hint(key: str, **values: object) -> str:
    """A message of this unit in the reader's language; the key itself when the unit has none of that name."""
    text = _messages().get(key, key)
    return text.format(**values) if values else text


@cache
def _messages() -> dict[str, str]:
    try:
        found = json.loads(Path("messages.json").read_text(encoding="utf-8"))
        return {str(key): str(text) for key, text in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


class _Submission:
    """The names that the student's cells defined."""

    def __getattr__(self, name: str) -> Any:
        namespace = vars(sys.modules["__main__"])
        if name.startswith("__") or name not in namespace:
            raise AssertionError(_TEXTS["missing"][language()].format(name=name))
        return _across(namespace[name], name)


submission = _Submission()


def _across(value: Any, name: str) -> Any:
    """A value as it arrives on the other side: plain data copied, functions wrapped, anything else a handle (itself)."""
    if isinstance(value, type) or not callable(value):
        return _copied(value)

    def call(*args: Any, **kwargs: Any) -> Any:
        result = value(*(_copied(arg) for arg in args), **{key: _copied(arg) for key, arg in kwargs.items()})
        if result is None:
            raise AssertionError(_TEXTS["nothing"][language()].format(name=name))
        return _copied(result)

    call.__name__ = name
    return call


def _copied(value: Any) -> Any:
    kind = f"{type(value).__module__}.{type(value).__name__}"
    if kind == "numpy.ndarray":
        return value.copy(order="K")
    if kind == "torch.Tensor":
        return value.detach().clone()
    if isinstance(value, list | tuple | set | frozenset) and type(value) in (list, tuple, set, frozenset):
        return type(value)(_copied(item) for item in value)
    if type(value) is dict:
        return {_copied(key): _copied(item) for key, item in value.items()}
    return copy.copy(value) if isinstance(value, bytearray) else value


@dataclass(frozen=True)
class Speedup:
    """How many times faster, as the median of the rounds; ``rounds`` holds each round's ratio."""

    ratio: float
    rounds: tuple[float, ...]
    fast_seconds: float
    slow_seconds: float

    def __str__(self) -> str:
        return f"{self.ratio:.1f}x ({min(self.rounds):.1f}x - {max(self.rounds):.1f}x)"


def speedup(
    fast: Callable[..., Any],
    slow: Callable[..., Any],
    inputs: Callable[[int], tuple[Any, ...]],
    same: Callable[[Any, Any], bool],
    rounds: int = 5,
) -> Speedup:
    """CPU time of ``slow`` over CPU time of ``fast``, on one thread: alternating order, fresh inputs each round, every output
    compared.

    Args:
        inputs: makes the arguments of round i; called once a round, for both.
        same: whether two results agree.

    Raises:
        AssertionError: a pair of results does not agree.
    """
    from threadpoolctl import threadpool_limits  # here, so that importing this module stays light

    ratios: list[float] = []
    fasts: list[float] = []
    slows: list[float] = []
    for number in range(rounds):
        arguments = inputs(number)
        pair = [(fast, fasts), (slow, slows)]
        results = []
        for function, seconds in pair if number % 2 == 0 else pair[::-1]:
            with threadpool_limits(1):  # idle threads of a pool spin, and spinning counts as CPU time
                result, took = _timed(function, arguments)
            results.append(result)
            seconds.append(took)
        if not same(*results):
            raise AssertionError(_TEXTS["unequal"][language()])
        ratios.append(slows[-1] / fasts[-1])
    return Speedup(statistics.median(ratios), tuple(ratios), statistics.median(fasts), statistics.median(slows))


def _timed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    """The result and the CPU seconds of one call; a short call is repeated until it can be measured."""
    calls, spent, result = 0, 0.0, None
    while spent < 0.01 and calls < 1000:
        began = time.process_time()
        result = function(*arguments)
        spent += time.process_time() - began
        calls += 1
    return result, max(spent, 1e-9) / calls
