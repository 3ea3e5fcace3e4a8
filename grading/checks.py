"""What test cells import; the same cell runs in a student's notebook and in the grader.

    from grading.checks import gate, hint, speedup, submission

    distance = submission.pairwise_distance(points, centres)
    np.testing.assert_allclose(distance, expected, err_msg=hint("distance.broadcast"))

Arguments and results are copied on the way, so that a test sees what it would see if the student's code ran elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_TEXTS = {
    "missing": {
        "ko": "`{name}` 이름을 찾을 수 없어요. 그 이름을 정의하는 셀을 먼저 실행했는지, 이름을 바꾸지 않았는지 확인해 보세요.",
        "en": "There is no `{name}` yet. Did you run the cell that defines it, and keep its name?",
    },
    "nothing": {
        "ko": "`{name}`이 아무 값도 돌려주지 않았어요(None). return을 빠뜨리지 않았나요?",
        "en": "`{name}` returned nothing (None). Is a return missing?",
    },
    "unsolved": {
        "ko": "`{name}`을 아직 풀지 않았어요. 코드를 채우고 그 셀을 실행한 다음 다시 해 보세요.",
        "en": "`{name}` is not solved yet. Write it, run its cell, and try again.",
    },
    "not-yet": {
        "ko": "아직 풀지 않은 과제가 있어요. 과제를 푼 뒤에 이 셀을 다시 실행해 보세요.",
        "en": "A task is not solved yet. Run this cell again when it is.",
    },
    "unequal": {
        "ko": "빠른 쪽과 느린 쪽의 결과가 달라요. 속도보다 정답이 먼저예요.",
        "en": "The fast and the slow version disagree. Right comes before fast.",
    },
    "gate": {
        "ko": "{ratio:.1f}배가 나왔어요. {wanted:g}배 이상이어야 해요.",
        "en": "It reached {ratio:.1f}x; at least {wanted:g}x is wanted.",
    },
}
MESSAGES = Path("messages.json")  # lies beside the notebook


def language() -> str:
    """The language of the person who reads: ``ko`` or ``en``; the server's, else the unit's."""
    spoken = os.environ.get("ACADEMY_LANGUAGE") or _catalogue().get("language")
    return "en" if spoken == "en" else "ko"


def hint(key: str, **values: object) -> str:
    """A message of this unit in the reader's language; the key itself when the unit has none of that name."""
    texts = _catalogue().get("messages", {}).get(key)
    if texts is None:
        return key
    text = str(texts.get(language(), key))
    return text.format(**values) if values else text


@cache
def _catalogue() -> dict[str, Any]:
    try:
        found = json.loads(MESSAGES.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(key: str, **values: object) -> str:
    return _TEXTS[key][language()].format(**values)


@contextlib.contextmanager
def when_solved() -> Iterator[None]:
    """A demonstration that uses the learner's code: says so, without an error, while a task is not solved yet."""
    try:
        yield
    except NotImplementedError:
        print(_text("not-yet"))


class _Submission:
    """The names that the student's cells defined."""

    def __getattr__(self, name: str) -> Any:
        namespace = vars(sys.modules["__main__"])
        if name.startswith("__") or name not in namespace:
            raise AssertionError(_text("missing", name=name))
        value = namespace[name]
        return _function(value, name, needs_result=not isinstance(value, type)) if callable(value) else _received(value)


submission = _Submission()


class _Handle:
    """An object that stays with the student's code; attributes and calls reach it, plain data comes back as a copy."""

    def __init__(self, value: Any) -> None:
        object.__setattr__(self, "_value", value)

    def __getattr__(self, name: str) -> Any:
        try:
            value = getattr(self._value, name)
        except AttributeError:
            raise AssertionError(_text("missing", name=f"{type(self._value).__name__}.{name}")) from None
        return _function(value, name) if callable(value) else _received(value)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._value, name, _sent(value))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _function(self._value, type(self._value).__name__)(*args, **kwargs)

    def __len__(self) -> int:
        return len(self._value)

    def __getitem__(self, key: Any) -> Any:
        return _received(self._value[key])

    def __iter__(self) -> Iterator[Any]:
        return map(_received, iter(self._value))


def _function(value: Callable[..., Any], name: str, needs_result: bool = False) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True  # a traceback goes from the test's line straight to the student's
        try:
            result = value(*map(_sent, args), **{key: _sent(argument) for key, argument in kwargs.items()})
        except NotImplementedError:
            raise AssertionError(_text("unsolved", name=name)) from None
        if result is NotImplemented:
            raise AssertionError(_text("unsolved", name=name))
        if result is None and needs_result:
            raise AssertionError(_text("nothing", name=name))
        return _received(result)

    call.__name__ = name
    return call


def _sent(value: Any) -> Any:
    """An argument as it arrives at the student's code: plain data copied, a handle as the object it stands for."""
    return value._value if isinstance(value, _Handle) else _copied(value, lambda other: other)


def _received(value: Any) -> Any:
    """A result as it arrives at the test: plain data copied, any other object as a handle."""
    return _copied(value, _Handle)


def _copied(value: Any, other: Callable[[Any], Any]) -> Any:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if kind == "numpy.ndarray":
        return value.copy(order="K")
    if kind in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        return value.detach().clone()
    if isinstance(value, _PLAIN) or kind.startswith(("numpy.", "torch.")):  # scalars, types, sizes
        return value
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_copied(item, other) for item in value)
    if type(value) is dict:
        return {_copied(key, other): _copied(item, other) for key, item in value.items()}
    if type(value) is bytearray:
        return bytearray(value)
    return other(value)


_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice)


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
    ratios: list[float] = []
    fasts: list[float] = []
    slows: list[float] = []
    with _one_thread():  # idle threads of a pool spin, and spinning counts as CPU time
        for number in range(rounds):
            arguments = inputs(number)
            pair = [(fast, fasts), (slow, slows)]
            results = {}
            for function, seconds in pair if number % 2 == 0 else pair[::-1]:
                results[function], took = _timed(function, arguments)
                seconds.append(took)
            if not same(results[fast], results[slow]):
                raise AssertionError(_text("unequal"))
            ratios.append(slows[-1] / fasts[-1])
    return Speedup(statistics.median(ratios), tuple(ratios), statistics.median(fasts), statistics.median(slows))


def gate(name: str, reached: Speedup, at_least: float, text: str = "") -> None:
    """A performance gate: prints the figure, which ``academy courses check`` reads.

    Raises:
        AssertionError: below ``at_least``; ``text`` says where to look.
    """
    print(f"gate {name}: {reached.ratio:.2f}x, at least {at_least:g}x")
    if reached.ratio < at_least:
        raise AssertionError(f"{_text('gate', ratio=reached.ratio, wanted=at_least)} {text}".strip())


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


def _timed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    """The result and the CPU seconds of one call; a short call is repeated, as one block, until it can be measured."""
    calls = 1
    while True:
        began = time.process_time()
        for _ in range(calls):
            result = function(*arguments)
        spent = time.process_time() - began
        if spent >= 0.01 or calls >= 4096:
            return result, max(spent, 1e-9) / calls
        calls *= 4
