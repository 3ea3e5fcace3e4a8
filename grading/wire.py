"""Plain data as bytes, for the border between a student's code and the tests: no pickle, no code, caps on size and depth.

A value is one tag byte and its content; numbers are little-endian. Arrays and tensors travel as dtype, shape and raw elements
and arrive bit-equal. What is not plain data travels as a ``Ref``: a number that only the side it came from can resolve.
The bytes are hostile: ``decode`` either gives plain data or raises ``WireError``.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 256 << 20  # of one message
MAX_DEPTH = 64
MAX_ITEMS = 4_000_000  # values in one message
MAX_TEXT = 100  # characters of a type's name
MAX_RANK = 32

_U32, _I64, _F64, _2F64 = struct.Struct("<I"), struct.Struct("<q"), struct.Struct("<d"), struct.Struct("<dd")
_CONSTANTS = {b"N": None, b"T": True, b"F": False, b"E": Ellipsis, b"X": NotImplemented}
_NUMPY_KINDS = "biufc"  # plain numbers; "S" and "U" are texts of a fixed width, "M" and "m" times
_NUMPY_TEXT = "SUMm"
_TORCH = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
    "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip


class WireError(ValueError):
    """The bytes are not a value, or a value is none that may cross."""


@dataclass(frozen=True)
class Ref:
    """An object that stays where it is. ``mine`` as its owner's side sees it: the other side sees ``mine`` false."""

    number: int
    kind: str = ""  # its type's name, for messages
    called: bool = False  # whether it can be called
    mine: bool = False


def encode(value: Any, refer: Callable[[Any], Ref] | None = None) -> bytes:
    """
    Args:
        refer: gives the ``Ref`` that stands for an object that is no plain data.

    Raises:
        WireError: too large, too deep, or no plain data and ``refer`` is missing.
    """
    out: list[bytes] = []
    _Encoder(out, refer).put(value, 0)
    return b"".join(out)


class _Encoder:
    def __init__(self, out: list[bytes], refer: Callable[[Any], Ref] | None) -> None:
        self.out, self.refer = out, refer
        self.size = self.items = 0

    def add(self, *parts: bytes) -> None:
        self.size += sum(map(len, parts))
        if self.size > MAX_BYTES:
            raise WireError(f"more than {MAX_BYTES >> 20} MB")
        self.out.extend(parts)

    def put(self, value: Any, depth: int) -> None:
        self.items += 1
        if depth > MAX_DEPTH:
            raise WireError(f"nested more than {MAX_DEPTH} levels deep")
        if self.items > MAX_ITEMS:
            raise WireError(f"more than {MAX_ITEMS} values")
        kind = type(value)  # not isinstance: a subclass may lie about what it holds
        if value is None or kind is bool or value is Ellipsis or value is NotImplemented:
            self.add(next(tag for tag, constant in _CONSTANTS.items() if constant is value))
        elif kind is int:
            self.integer(value)
        elif kind is float:
            self.add(b"f", _F64.pack(value))
        elif kind is complex:
            self.add(b"c", _2F64.pack(value.real, value.imag))
        elif kind is str:
            self.sized(b"s", value.encode("utf-8", "surrogatepass"))
        elif kind in (bytes, bytearray):
            self.sized(b"b" if kind is bytes else b"B", bytes(value))
        elif kind in _SEQUENCES:
            self.add(_SEQUENCES[kind], _U32.pack(len(value)))
            for item in value:
                self.put(item, depth + 1)
        elif kind is dict:
            self.add(b"d", _U32.pack(len(value)))
            for key, item in value.items():
                self.put(key, depth + 1)
                self.put(item, depth + 1)
        elif kind in (slice, range):
            self.add(b"/" if kind is slice else b"r")
            for item in (value.start, value.stop, value.step):
                self.put(item, depth + 1)
        elif kind is Ref:
            self.ref(value)
        elif not (self.numpy(value, kind) or self.torch(value, kind, depth)):
            if self.refer is None:
                raise WireError(f"{kind.__name__} is no plain data")
            self.ref(self.refer(value))

    def integer(self, value: int) -> None:
        if -(1 << 63) <= value < 1 << 63:
            self.add(b"i", _I64.pack(value))
        else:
            self.sized(b"I", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))

    def sized(self, tag: bytes, content: bytes) -> None:
        if len(content) >= 1 << 32:
            raise WireError(f"more than {MAX_BYTES >> 20} MB")
        self.add(tag, _U32.pack(len(content)), content)

    def ref(self, value: Ref) -> None:
        self.add(b"h", bytes([value.mine, value.called]), _I64.pack(value.number))
        self.sized(b"s", value.kind[:MAX_TEXT].encode("utf-8", "replace"))

    def shape(self, tag: bytes, name: str, shape: tuple[int, ...]) -> None:
        self.sized(tag, name.encode())
        self.add(bytes([len(shape)]), *(_I64.pack(n) for n in shape))

    def numpy(self, value: Any, kind: type) -> bool:
        np = sys.modules.get("numpy")
        if np is None:
            return False
        if kind is np.ndarray and value.dtype.kind in _NUMPY_KINDS + _NUMPY_TEXT and value.ndim <= MAX_RANK:
            fortran = value.flags.f_contiguous and not value.flags.c_contiguous
            self.shape(b"A" if fortran else b"a", value.dtype.str, value.shape)
            self.sized(b"b", value.tobytes("F" if fortran else "C"))
            return True
        if isinstance(value, np.generic) and kind.__module__ == "numpy" and value.dtype.kind in _NUMPY_KINDS + _NUMPY_TEXT:
            self.shape(b"g", value.dtype.str, ())
            self.sized(b"b", value.tobytes())
            return True
        if isinstance(value, np.dtype) and value.kind in _NUMPY_KINDS + _NUMPY_TEXT:
            self.sized(b"y", value.str.encode())
            return True
        if kind is type and value.__module__ == "numpy" and issubclass(value, np.number | np.bool_) and value in _scalars(np):
            self.sized(b"Y", value.__name__.encode())
            return True
        return False

    def torch(self, value: Any, kind: type, depth: int) -> bool:
        torch = sys.modules.get("torch")
        if torch is None:
            return False
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            name = str(value.dtype).removeprefix("torch.")
            if name not in _TORCH or value.layout is not torch.strided or value.ndim > MAX_RANK:
                return False
            flat = value.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
            self.shape(b"t", name, tuple(value.shape))
            self.sized(b"b", flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
            return True
        if kind is torch.dtype and str(value).removeprefix("torch.") in _TORCH:
            self.sized(b"z", str(value).removeprefix("torch.").encode())
            return True
        if kind is torch.Size:
            self.put(tuple(value), depth)
            return True
        return False


_SEQUENCES: dict[type, bytes] = {list: b"l", tuple: b"u", set: b"S", frozenset: b"Z"}
_MAKERS: dict[bytes, Callable[[list[Any]], Any]] = {b"l": list, b"u": tuple, b"S": set, b"Z": frozenset}


def _scalars(np: Any) -> set[type]:
    return {np.dtype(code).type for code in "?bhilqBHILQefdFD"}


def decode(data: bytes, resolve: Callable[[Ref], Any] | None = None) -> Any:
    """
    Args:
        resolve: gives the object, or what stands for it here, of a ``Ref``.

    Raises:
        WireError: the bytes are not one whole value.
    """
    if len(data) > MAX_BYTES + 64:
        raise WireError(f"more than {MAX_BYTES >> 20} MB")
    decoder = _Decoder(memoryview(data), resolve)
    try:
        value = decoder.take(0)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError, TypeError, ValueError, MemoryError) as error:
        raise error if isinstance(error, WireError) else WireError(f"not a value: {error}") from None
    if decoder.at != len(data):
        raise WireError("bytes behind the value")
    return value


class _Decoder:
    def __init__(self, data: memoryview, resolve: Callable[[Ref], Any] | None) -> None:
        self.data, self.resolve, self.at, self.items = data, resolve, 0, 0

    def part(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.data):
            raise WireError("cut off")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.part(form.size))[0]

    def sized(self, tag: bytes = b"") -> memoryview:
        if tag and bytes(self.part(1)) != tag:
            raise WireError("not a value")
        return self.part(self.number(_U32))

    def shape(self) -> tuple[str, tuple[int, ...], int]:
        name = str(self.sized(), "ascii")
        rank = self.part(1)[0]
        if len(name) > MAX_TEXT or rank > MAX_RANK:
            raise WireError("not an array")
        shape = tuple(self.number(_I64) for _ in range(rank))
        if any(n < 0 for n in shape):
            raise WireError("not an array")
        return name, shape, math.prod(shape)

    def take(self, depth: int) -> Any:
        self.items += 1
        if depth > MAX_DEPTH:
            raise WireError(f"nested more than {MAX_DEPTH} levels deep")
        if self.items > MAX_ITEMS:
            raise WireError(f"more than {MAX_ITEMS} values")
        tag = bytes(self.part(1))
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _MAKERS:
            count = self.number(_U32)
            return _MAKERS[tag]([self.take(depth + 1) for _ in range(count)])
        reader = _READERS.get(tag)
        if reader is None:
            raise WireError("not a value")
        return reader(self, depth)

    def dictionary(self, depth: int) -> dict[Any, Any]:
        count, found = self.number(_U32), {}
        for _ in range(count):
            key = self.take(depth + 1)
            found[key] = self.take(depth + 1)
        return found

    def ref(self, _: int) -> Any:
        mine, called = self.part(2)
        number = self.number(_I64)
        kind = str(self.sized(b"s"), "utf-8")
        if mine not in (0, 1) or called not in (0, 1):
            raise WireError("not a handle")
        found = Ref(number, kind[:MAX_TEXT], bool(called), not mine)  # what is theirs there is the other's here
        return self.resolve(found) if self.resolve else found

    def dtype(self, name: str) -> Any:
        import numpy as np

        if not name or name[0] not in "<>|=" or name[1:2] not in _NUMPY_KINDS + _NUMPY_TEXT:
            raise WireError("not an array")
        return np.dtype(name)

    def array(self, order: str) -> Any:
        import numpy as np

        name, shape, count = self.shape()
        dtype = self.dtype(name)
        raw = self.sized(b"b")
        if count * dtype.itemsize != len(raw):
            raise WireError("not an array")
        if not raw:
            return np.empty(shape, dtype)
        flat = np.frombuffer(bytearray(raw), dtype)
        if dtype.kind == "b":  # any other byte would be a bool that is neither
            flat = flat.view(np.uint8) != 0
        return flat.reshape(shape, order="F" if order == "F" else "C")

    def tensor(self, _: int) -> Any:
        import torch

        name, shape, count = self.shape()
        raw = self.sized(b"b")
        if name not in _TORCH or count * _TORCH[name] != len(raw):
            raise WireError("not a tensor")
        dtype = getattr(torch, name)
        if not raw:
            return torch.empty(shape, dtype=dtype)
        if name == "bool":
            return (torch.frombuffer(bytearray(raw), dtype=torch.uint8) != 0).reshape(shape)
        return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)

    def torch_dtype(self, _: int) -> Any:
        import torch

        name = str(self.sized(), "ascii")
        if name not in _TORCH:
            raise WireError("not a type")
        return getattr(torch, name)

    def scalar_type(self, _: int) -> Any:
        import numpy as np

        name = str(self.sized(), "ascii")
        found = {kind.__name__: kind for kind in _scalars(np)}.get(name)
        if found is None:
            raise WireError("not a type")
        return found


_READERS: dict[bytes, Callable[[_Decoder, int], Any]] = {
    b"i": lambda d, _: d.number(_I64),
    b"I": lambda d, _: int.from_bytes(d.sized(), "little", signed=True),
    b"f": lambda d, _: d.number(_F64),
    b"c": lambda d, _: complex(*_2F64.unpack(d.part(16))),
    b"s": lambda d, _: str(d.sized(), "utf-8", "surrogatepass"),
    b"b": lambda d, _: bytes(d.sized()),
    b"B": lambda d, _: bytearray(d.sized()),
    b"d": _Decoder.dictionary,
    b"/": lambda d, depth: slice(d.take(depth + 1), d.take(depth + 1), d.take(depth + 1)),
    b"r": lambda d, depth: range(d.take(depth + 1), d.take(depth + 1), d.take(depth + 1)),
    b"h": _Decoder.ref,
    b"a": lambda d, _: d.array("C"),
    b"A": lambda d, _: d.array("F"),
    b"g": lambda d, _: d.array("C")[()],
    b"t": _Decoder.tensor,
    b"y": lambda d, _: d.dtype(str(d.sized(), "ascii")),
    b"Y": _Decoder.scalar_type,
    b"z": _Decoder.torch_dtype,
}
