"""Calls across the border, with a hostile student on the other side."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from grading.border import CALL, REPLY, Border, BorderClosed, Failed, Handle, block
from grading.wire import encode


class Cache:
    def __init__(self, size: int) -> None:
        self.size, self.rows = size, np.zeros((size, 2))

    def append(self, x: int) -> int:
        self.size += x
        return self.size

    def todo(self) -> None:
        raise NotImplementedError


class Model:
    """The tests' own: counts its calls."""

    bias = 10

    def __init__(self) -> None:
        self.calls, self._secret = 0, "hidden"

    def run(self, x: Any) -> Any:
        self.calls += 1
        return x * 2

    def stream(self) -> Iterator[int]:
        yield from range(3)


class Odd(Exception):
    pass


def raises(error: BaseException) -> Any:
    raise error


STUDENT: dict[str, Any] = {
    "double": lambda x: 2 * x,
    "Cache": Cache,
    "uses": lambda model, x: model.run(x) + model.bias,
    "value": lambda error: raises(ValueError("too small")),
    "odd": lambda: raises(Odd("strange")),
    "globals": lambda model: model.run.__globals__,
    "secret": lambda model: model._secret,
    "frame": lambda model: model.stream().gi_frame,
    "rewrites": lambda model: setattr(model, "calls", 0),
    "streams": lambda model: [model.run(x) for x in ({1: 2}.keys(), {1: 2}.items(), map(str, [3]), (n for n in (4, 5)))],
    "fools": lambda model: model.run(Cache(3)),
    "lies": lambda: type("Zero", (float,), {"__eq__": lambda *_: True})(),
    "many": lambda: iter(range(10**9)),
    "table": {"a": [1, 2]},
}


@pytest.fixture
def border() -> Iterator[Border]:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        side = Border(theirs, STUDENT.__getitem__, trusting=True)
        while True:
            try:
                side.serve()
            except BorderClosed:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    yield Border(ours, {}.__getitem__, trusting=False)
    ours.close()
    thread.join()


def test_functions_values_and_classes(border: Border) -> None:
    double = border.name("double")
    np.testing.assert_array_equal(double(np.arange(3)), [0, 2, 4])
    assert block(double, [(1,), (2.5,), ("a",)]) == [2, 5.0, "aa"]
    assert border.name("table") == {"a": [1, 2]}
    cache = border.name("Cache")(3)
    assert isinstance(cache, Handle)
    assert (cache.size, cache.append(4), cache.size) == (3, 7, 7)
    cache.rows[:] = 1  # a copy
    assert cache.rows.sum() == 0
    with pytest.raises(KeyError):
        border.name("nothing")


def test_callbacks_count_on_this_side(border: Border) -> None:
    model = Model()
    assert [border.name("uses")(model, x) for x in range(4)] == [10, 12, 14, 16]
    assert model.calls == 4
    assert border.served_seconds > 0


def test_the_tests_objects_get_iterators_and_views_as_lists(border: Border) -> None:
    assert border.name("streams")(Model()) == [[1, 1], [(1, 2), (1, 2)], ["3", "3"], [4, 5, 4, 5]]


def test_errors_keep_their_class_where_this_side_has_it(border: Border) -> None:
    with pytest.raises(ValueError, match="too small"):
        border.name("value")(1)
    with pytest.raises(Failed, match="Odd: strange"):
        border.name("odd")()
    with pytest.raises(NotImplementedError):
        border.name("Cache")(1).todo()


@pytest.mark.parametrize("name", ["globals", "secret", "frame", "rewrites", "fools"])
def test_a_student_gets_at_nothing_behind_the_tests_objects(border: Border, name: str) -> None:
    model = Model()
    with pytest.raises((AttributeError, TypeError, ValueError, Failed)):
        border.name(name)(model)
    assert model.calls == 0


def test_an_object_that_lies_arrives_as_a_handle(border: Border) -> None:
    found = border.name("lies")()
    assert isinstance(found, Handle)
    assert found != 3
    assert len(list(border.name("many")())) == 100_000


def test_whatever_comes_back_is_a_value_or_an_error() -> None:
    for kind, data in [
        (REPLY, b"garbage"), (REPLY, encode(3)), (REPLY, encode(("ok",))), (REPLY, encode(("error", 3, 4))), (b"x", b""),
        (CALL, b"garbage"), (CALL, encode(("get", 99, "x"))), (CALL, encode(("nonsense", 1))), (CALL, encode(5)),
    ]:  # fmt: skip
        ours, theirs = socket.socketpair()
        theirs.sendall(kind + len(data).to_bytes(4, "little") + data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises((ValueError, BorderClosed)):
            Border(ours, {}.__getitem__, trusting=False).name("x")
        ours.close()
        theirs.close()


def test_a_side_that_is_gone_is_told(border: Border) -> None:
    border.ended = lambda: AssertionError("gone")
    border.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(AssertionError, match="gone"):
        border.name("double")
