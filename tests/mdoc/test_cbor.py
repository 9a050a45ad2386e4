"""The reader keeps received bytes, takes non-minimal heads, and refuses what is not well-formed or too much."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import cbor, limits
from mdoc.cbor import Encoded, Tag
from mdoc.errors import MalformedError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.binary(max_size=20).map(Encoded.wrap),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(-5, 5) | st.binary(max_size=5), inner, max_size=4)
        | inner.map(lambda value: Tag(0, value))
    ),
    max_leaves=20,
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(value=VALUES)
def test_what_is_written_is_read(value: object) -> None:
    assert cbor.decode(cbor.encode(value)) == value


@settings(max_examples=400, derandomize=True, deadline=None)
@given(raw=st.binary(max_size=60))
def test_arbitrary_bytes_give_a_value_or_a_malformed_error(raw: bytes) -> None:
    with contextlib.suppress(MalformedError):
        cbor.decode(raw)


def test_received_bytes_of_a_long_head_are_kept() -> None:
    raw = bytes.fromhex("d818590003a10102")
    assert cbor.decode(raw).raw == raw
    assert cbor.decode(bytes.fromhex("b900016161f7")) == {"a": None}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("", "early"),
        ("a2616101616102", "twice"),
        ("a20101190001f6", "twice"),
        ("9f01ff", "indefinite"),
        ("5fff", "indefinite"),
        ("61ff", "UTF-8"),
        ("0000", "after"),
        ("f820", "simple"),
        ("a1800100", "map key"),
        ("a1f90000f6", "map key"),
        ("d81801", "tag 24"),
        ("5b7fffffffffffffff", "early"),
        ("9b7fffffffffffffff", "many items"),
        ("1c", "reserved"),
        ("1a0000", "early"),
    ],
)
def test_refuses(raw: str, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        cbor.decode(bytes.fromhex(raw))


def test_refuses_what_is_nested_too_deep() -> None:
    with pytest.raises(MalformedError, match="deep"):
        cbor.decode(b"\x81" * 1000 + b"\x00")


def test_refuses_what_is_too_long() -> None:
    with pytest.raises(MalformedError, match="at most"):
        cbor.decode(bytes(limits.MAX_MESSAGE + 1))


def test_a_map_of_colliding_numbers_is_cut_off_early() -> None:
    count = limits.MAX_ITEMS // 2
    pairs = b"".join(cbor.encode((2**61 - 1) * (n % 7 + 1) + (n << 20)) + b"\xf6" for n in range(count))
    with pytest.raises(MalformedError, match="whole-number keys"):
        cbor.decode(cbor.head(5, count) + pairs)
