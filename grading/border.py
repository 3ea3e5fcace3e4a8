"""Calls across the border between the tests and a student's code; plain data crosses, everything else stays and is a handle.

Both sides run the same code over a socket of their own: whoever waits for an answer serves what the other asks meanwhile, so a
student's function can call back a model that lives with the tests, and the tests count those calls where nobody can lie.
"""

from __future__ import annotations

import builtins
import itertools
import operator
import socket
import struct
import threading
import time
import types
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from grading.wire import MAX_BYTES, Ref, WireError, decode, encode

CALL, REPLY = b"c", b"r"
MOST_ITEMS = 100_000  # of something that is iterated over
MOST_NESTED = 50  # calls inside calls
TEXT = 2000  # characters of an error's text
_HEADER = struct.Struct("<cI")
# whose public attributes lead to frames, globals and code
_INSIDES = (
    types.FunctionType, types.ModuleType, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType,
    types.FrameType, types.CodeType, types.TracebackType, type,
)  # fmt: skip


class BorderClosed(Exception):
    """The other side has gone."""


class Failed(Exception):
    """The other side's code raised something that this side has no class for."""


class Border:
    """One end of the border.

    Args:
        names: gives the object of this side that the other side asks for by name, or raises ``KeyError``.
        trusting: whether the other side may do anything with this side's objects. To a student's code, the tests' objects
            show their public attributes and methods, take plain data, and cannot be changed.
    """

    def __init__(self, sock: socket.socket, names: Callable[[str], Any], trusting: bool) -> None:
        self.sock, self.names, self.trusting = sock, names, trusting
        self.ended: Callable[[], BaseException] = BorderClosed
        self.raised: Callable[[tuple[Any, ...], list[str], str], BaseException] = lambda _, names, text: error_of(names, text)
        self.objects: dict[int, Any] = {}
        self.depth = 0
        self.calls = 0  # questions asked
        self.served_seconds = 0.0  # CPU time spent on the other side's questions
        self.owner = threading.get_ident()

    def name(self, name: str) -> Any:
        """The other side's object of that name, as plain data or a handle. Raises ``KeyError``: it has none."""
        return self.request("name", name)

    def request(self, *message: Any) -> Any:
        """Ask the other side and wait for its answer, serving its questions meanwhile."""
        if threading.get_ident() != self.owner:
            raise RuntimeError("call this from the main thread")
        self.calls += 1
        data = encode(message, self._refer)
        try:
            return self._asked(message, data)
        except BorderClosed:
            raise self.ended() from None

    def _asked(self, message: tuple[Any, ...], data: bytes) -> Any:
        self._send(CALL, data)
        while True:
            kind, data = self._receive()
            if kind == REPLY:
                return self._result(message, decode(data, self._resolve))
            began = time.thread_time()
            self._answer(data)
            self.served_seconds += time.thread_time() - began

    def serve(self) -> None:
        """Answer one question that has come, or raise ``BorderClosed``."""
        kind, data = self._receive()
        if kind == CALL:
            self._answer(data)

    def _answer(self, data: bytes) -> None:
        self.depth += 1
        try:
            if self.depth > MOST_NESTED:
                raise RecursionError("calls across the border are nested too deep")
            reply = encode(("ok", self._do(*decode(data, self._resolve if self.trusting else self._own))), self._refer)
        except BorderClosed:
            raise
        except BaseException as error:
            names = [kind.__name__ for kind in type(error).__mro__]
            reply = encode(("error", names, str(error)[:TEXT]))
        finally:
            self.depth -= 1
        self._send(REPLY, reply)

    def _do(self, what: str, target: Any, *rest: Any) -> Any:
        if what == "name":
            return self.names(target)
        if what == "call":
            return target(*rest[0], **rest[1])
        if what == "block":
            return [target(*arguments) for arguments in rest[0]]
        if what == "get":
            if not self.trusting and (rest[0].startswith("_") or isinstance(target, _INSIDES)):
                raise AttributeError(rest[0])
            return getattr(target, rest[0])
        if what == "item":
            return target[rest[0]]
        if what == "len":
            return len(target)
        if what == "list":
            return list(itertools.islice(target, MOST_ITEMS))
        if self.trusting and what == "set":
            return setattr(target, *rest)
        if self.trusting and what == "setitem":
            return operator.setitem(target, *rest)
        raise TypeError("the tests' objects cannot be changed")

    def _result(self, message: tuple[Any, ...], reply: Any) -> Any:
        match reply:
            case ("ok", value):
                return value
            case ("error", [*names], str(text)):
                error = self.raised(message, [name for name in names if isinstance(name, str)], text)
                error.academy_student = True  # type: ignore[attr-defined]  # its text is the student's, not the test's
                raise error
        raise WireError("not an answer")

    def _refer(self, value: Any) -> Ref:
        if isinstance(value, Handle) and object.__getattribute__(value, "_border") is self:
            return object.__getattribute__(value, "_ref")
        number = len(self.objects)
        self.objects[number] = value
        kind = getattr(value, "__name__", None) if callable(value) else None
        method = isinstance(value, types.MethodType)
        return Ref(number, ("." if method else "") + str(kind or type(value).__name__), callable(value), mine=True)

    def _resolve(self, ref: Ref) -> Any:
        if ref.mine:
            if ref.number not in self.objects:
                raise WireError("no such handle")
            return self.objects[ref.number]
        return Handle(self, ref)

    def _own(self, ref: Ref) -> Any:
        if not ref.mine:
            raise TypeError("the tests' objects take plain data: numbers, texts, lists, arrays, tensors")
        return self._resolve(ref)

    def _send(self, kind: bytes, data: bytes) -> None:
        try:
            self.sock.sendall(_HEADER.pack(kind, len(data)) + data)
        except OSError as error:
            raise BorderClosed from error

    def _receive(self) -> tuple[bytes, bytes]:
        kind, size = _HEADER.unpack(self._exactly(_HEADER.size))
        if kind not in (CALL, REPLY) or size > MAX_BYTES:
            raise BorderClosed
        return kind, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view, got = memoryview(data), 0
        while got < size:
            try:
                count = self.sock.recv_into(view[got:])
            except OSError as error:
                raise BorderClosed from error
            if not count:
                raise BorderClosed
            got += count
        return bytes(data)


class Handle:
    """An object of the other side. Attributes, items and calls reach it; plain data comes back as a copy."""

    def __init__(self, border: Border, ref: Ref) -> None:
        object.__setattr__(self, "_border", border)
        object.__setattr__(self, "_ref", ref)
        object.__setattr__(self, "_methods", {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        methods: dict[str, Any] = object.__getattribute__(self, "_methods")
        if name in methods:
            return methods[name]
        value = _ask(self, "get", name)
        if isinstance(value, Handle) and object.__getattribute__(value, "_ref").kind.startswith("."):
            methods[name] = value  # a bound method stays the same: asked for once
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if object.__getattribute__(self, "_border").trusting:  # the tests' objects take plain data
            args, kwargs = tuple(map(_listed, args)), {name: _listed(value) for name, value in kwargs.items()}
        return _ask(self, "call", args, kwargs)

    def __len__(self) -> int:
        return int(_ask(self, "len"))

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, "item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask(self, "setitem", key, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(_ask(self, "list"))

    def __repr__(self) -> str:
        return f"<{kind_of(self)} of the other side>"


def _ask(handle: Handle, what: str, *rest: Any) -> Any:
    return object.__getattribute__(handle, "_border").request(what, handle, *rest)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator | KeysView | ValuesView | ItemsView) else value


def block(handle: Handle, arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Call a function of the other side once for each tuple of arguments, in one journey."""
    results = _ask(handle, "block", arguments)
    if not isinstance(results, list) or len(results) != len(arguments):
        raise WireError("not an answer")
    return results


def called(handle: Handle) -> bool:
    """Whether the other side says that it can be called."""
    return bool(object.__getattribute__(handle, "_ref").called)


def kind_of(handle: Handle) -> str:
    """The name of a function or class, or of an object's class, as its side says."""
    kind: str = object.__getattribute__(handle, "_ref").kind
    return kind.lstrip(".")


def error_of(names: list[str], text: str) -> BaseException:
    """The exception that the other side's code raised, as the nearest class that every Python has."""
    for name in names:
        kind = getattr(builtins, name, None)
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            continue
        if kind is not Exception and not issubclass(kind, UnicodeError):
            return kind(text) if name == names[0] else kind(f"{names[0]}: {text}")
    return Failed(f"{names[0] if names else 'Exception'}: {text}")
