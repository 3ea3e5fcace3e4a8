"""Plain data across the border: bit-equal there, refused what is none, and no bytes do harm."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grading import wire
from grading.wire import Ref, WireError, decode, encode

keys = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.tuples(st.integers(), st.text()))
scalars = st.one_of(keys, st.floats(allow_nan=False), st.complex_numbers(allow_nan=False), st.just(Ellipsis))
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(keys, inner), st.sets(keys), st.frozensets(keys)
    ),
    max_leaves=30,
)


@given(plain)
def test_plain_data_arrives_equal_and_of_the_same_type(value: Any) -> None:
    there = decode(encode(value))
    assert there == value
    assert repr(there) == repr(value) or isinstance(value, set | frozenset | dict | list | tuple)


@given(hnp.arrays(dtype=hnp.scalar_dtypes(), shape=hnp.array_shapes(min_dims=0, min_side=0, max_side=5)))
def test_arrays_arrive_bit_equal(array: Any) -> None:
    for sent in (array, np.asfortranarray(array), array.T):
        there = decode(encode(sent))
        assert (there.dtype, there.shape, there.tobytes()) == (sent.dtype, sent.shape, sent.tobytes())


@pytest.mark.parametrize("name", wire._TORCH)
def test_tensors_arrive_bit_equal(name: str) -> None:
    dtype = getattr(torch, name)
    for shape in [(), (0,), (3,), (2, 3), (2, 0, 4)]:
        sent = (torch.randn(shape) * 9).to(dtype)
        for tensor in (sent, sent.T if sent.ndim == 2 else sent, torch.nn.Parameter(sent, requires_grad=False)):
            there = decode(encode(tensor))
            assert there.dtype == dtype
            assert torch.equal(there, tensor)


@pytest.mark.parametrize(
    "value",
    [2**200, -(2**64), -0.0, float("inf"), "한글 \ud800", bytearray(b"x"), range(3, 9, 2), slice(None, 4), np.float32(1.5),
     np.bool_(True), np.dtype("<f4"), np.float64, torch.bfloat16, NotImplemented],
)  # fmt: skip
def test_rarer_values(value: Any) -> None:
    there = decode(encode(value))
    assert type(there) is type(value)
    assert there == value or value is NotImplemented


def test_nan_stays_nan() -> None:
    assert math.isnan(decode(encode(float("nan"))))


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    "value",
    [object(), Liar(3), type("A", (np.ndarray,), {})((2,)), np.array([object()]), type("D", (dict,), {})(a=1), lambda: 1,
     torch.ones(2).to_sparse()],
)  # fmt: skip
def test_what_could_lie_does_not_cross_as_data(value: Any) -> None:
    with pytest.raises(WireError):
        encode(value)
    there = decode(encode([value], lambda _: Ref(7, "Thing", called=True, mine=True)))
    assert there == [Ref(7, "Thing", called=True, mine=False)]


def test_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(WireError, match="deep"):
        encode(loop)
    with pytest.raises(WireError, match="deep"):
        decode(b"l\x01\x00\x00\x00" * 10_000 + b"N")
    monkeypatch.setattr(wire, "MAX_BYTES", 1000)
    with pytest.raises(WireError, match="MB"):
        encode(np.zeros(200))
    monkeypatch.setattr(wire, "MAX_ITEMS", 10)
    with pytest.raises(WireError, match="values"):
        encode(list(range(20)))


def test_a_claimed_size_reserves_no_memory() -> None:
    for data in (
        b"l\xff\xff\xff\xff",
        b"s\xff\xff\xff\xff",
        b"a\x03\x00\x00\x00<f8\x01" + b"\xff" * 7 + b"\x7fb\x00\x00\x00\x00",
    ):
        with pytest.raises(WireError):
            decode(data)


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data: bytes) -> None:
    with contextlib.suppress(WireError):
        decode(data)


@given(plain, st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_value_is_refused_or_another_value(value: Any, place: int, byte: int) -> None:
    data = bytearray(encode([value, np.arange(4), torch.ones(2)]))
    data[place % len(data)] = byte
    with contextlib.suppress(WireError):
        decode(bytes(data))
