from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from card import tlv
from mdoc.errors import MalformedError


@pytest.mark.parametrize("size", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000])
def test_what_is_written_is_read_at_every_length_form(size: int) -> None:
    assert tlv.whole(tlv.encode(0x7F49, bytes(size)), 0x7F49, "object") == bytes(size)


@pytest.mark.parametrize("raw", ["53050102030405", "5381050102030405", "538200050102030405"])
def test_a_length_longer_than_needed_is_read(raw: str) -> None:
    """Cards reserve room for the length before they know it."""
    assert tlv.whole(bytes.fromhex(raw), 0x53, "object") == bytes(range(1, 6))


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "53",
        "5301",
        "5380",  # indefinite
        "5384000000010a",  # four bytes of length
        "538201",
        "5f",
        "5fc1",
        "5f81818100",  # a tag of four bytes
        "530101ff",
        "5402aabb",
    ],
)
def test_what_is_cut_off_indefinite_or_left_over_is_refused(raw: str) -> None:
    with pytest.raises(MalformedError):
        tlv.whole(bytes.fromhex(raw), 0x53, "object")


def test_an_object_twice_is_refused() -> None:
    with pytest.raises(MalformedError, match="twice"):
        tlv.once(bytes.fromhex("700101700102"), "object")


def test_the_number_of_objects_is_bounded() -> None:
    with pytest.raises(MalformedError, match="too many"):
        tlv.items(b"\x70\x00" * 65, "object")


@given(
    st.lists(st.tuples(st.sampled_from([0x53, 0x70, 0x5F2F, 0x7F49, 0x5FC102]), st.binary(max_size=300)), max_size=9)
)
def test_objects_come_back_in_order(objects: list[tuple[int, bytes]]) -> None:
    raw = b"".join(tlv.encode(tag, value) for tag, value in objects)
    assert tlv.items(raw, "object") == objects


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused_as_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedError):
        tlv.items(raw, "object")
