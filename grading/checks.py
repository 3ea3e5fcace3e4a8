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
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from grading.border import Border, Handle, block, called, error_of, kind_of

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
    "ended": {
        "ko": "제출한 코드가 실행 중에 끝나 버려서 이 테스트를 할 수 없었어요. exit나 무한 재귀가 없는지 확인해 보세요.",
        "en": "Your code ended while it ran, so this test could not be done. Look for an exit or an endless recursion.",
    },
}
MESSAGES = Path("messages.json")  # lies beside the notebook
said: list[str] = []  # what ``hint`` has said since the cell began: of a hidden test, the student sees nothing else
border: Border | None = None  # in the grader, the way to the student's code
service: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # in the grader, the supervisor


def connect(to: Border | None, supervisor: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """From now on ``submission`` is on the other side of a border. Called by the grader."""
    global border, service
    border, service = to, supervisor
    if to is not None:
        to.raised, to.ended = _raised, lambda: AssertionError(_text("ended"))


def _raised(question: tuple[Any, ...], names: list[str], text: str) -> BaseException:
    """What a test sees of an exception in the student's code: the same as in the student's own notebook."""
    what, target = question[0], question[1]
    if names[:1] == ["NotImplementedError"] and what in ("call", "block"):
        return AssertionError(_text("unsolved", name=kind_of(target)))
    if names[:1] == ["AttributeError"] and what == "get":
        return AssertionError(_text("missing", name=f"{kind_of(target)}.{question[2]}"))
    return error_of(names, text)


def language() -> str:
    """The language of the person who reads: ``ko`` or ``en``; the server's, else the unit's."""
    spoken = os.environ.get("ACADEMY_LANGUAGE") or _catalogue().get("language")
    return "en" if spoken == "en" else "ko"


def hint(key: str, **values: object) -> str:
    """A message of this unit in the reader's language; the key itself when the unit has none of that name."""
    texts = _catalogue().get("messages", {}).get(key)
    text = key if texts is None else str(texts.get(language(), key))
    if texts is not None and values:
        try:
            text = text.format(**values)
        except (KeyError, IndexError) as error:
            raise TypeError(f"the message {key!r} wants {error}, which hint(...) does not give") from None
    said.append(text)
    return text


@cache
def _catalogue() -> dict[str, Any]:
    try:
        found = json.loads(MESSAGES.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def calibrated() -> set[str]:
    """Names of the gates that this unit's solution was seen to pass on a GPU."""
    return set(_catalogue().get("calibrated", []))


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
        if name.startswith("__"):
            raise AttributeError(name)
        if border is not None:
            return self._across(border, name)
        namespace = vars(sys.modules["__main__"])
        if name not in namespace:
            raise AssertionError(_text("missing", name=name))
        value = namespace[name]
        return _function(value, name, needs_result=not isinstance(value, type)) if callable(value) else _received(value)

    def _across(self, border: Border, name: str) -> Any:
        try:
            value = border.name(name)
        except KeyError:
            raise AssertionError(_text("missing", name=name)) from None
        return _Function(value, name) if isinstance(value, Handle) and called(value) else value


class _Function:
    """A function or class of the student's, on the other side."""

    def __init__(self, handle: Handle, name: str) -> None:
        self.handle, self.__name__ = handle, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._checked(self.handle(*args, **kwargs))

    def each(self, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """One call for each tuple of arguments, in one journey."""
        return [self._checked(result) for result in block(self.handle, arguments)]

    def _checked(self, result: Any) -> Any:
        if result is NotImplemented:
            raise AssertionError(_text("unsolved", name=self.__name__))
        if result is None:
            raise AssertionError(_text("nothing", name=self.__name__))
        return result


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


def __getattr__(name: str) -> Any:
    """The performance gates, at their first use: ``speedup``, ``gate``, ``gpu``, ``Speedup``, ``bandwidth``."""
    from grading import timing

    if name not in timing.__all__:
        raise AttributeError(f"module 'grading.checks' has no attribute {name!r}")
    return getattr(timing, name)
