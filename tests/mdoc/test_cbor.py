"""The reader keeps received bytes, takes non-minimal heads, and refuses what is not well-formed or too much."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.work import lines
from mdoc import cbor, limits
from mdoc.cbor import Encoded, ItemBudget, Tag
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


def test_numbers_made_to_collide_end_at_the_first_of_them() -> None:
    count = limits.MAX_ITEMS // 2
    pairs = b"".join(cbor.encode((2**61 - 1) * (n + 1)) + b"\xf6" for n in range(count))
    with pytest.raises(MalformedError, match="beyond the numbers"):
        lines(lambda: cbor.decode(cbor.head(5, count) + pairs), at_most=200)


@pytest.mark.parametrize("key", [2**60 + 1, -(2**60) - 1, 2**64 - 1, -(2**64)])
def test_refuses_a_map_key_beyond_the_range(key: int) -> None:
    with pytest.raises(MalformedError, match="beyond the numbers"):
        cbor.decode(b"\xa1" + cbor.encode(key) + b"\xf6")


def test_takes_the_map_keys_of_real_producers() -> None:
    for key in (0, 23, 24, 255, 256, 2**31, 2**32 - 1, -1, -24, -25, -257, -65537, 2**60):
        assert cbor.decode(cbor.encode({key: key})) == {key: key}


def test_refuses_a_map_of_too_many_numbers() -> None:
    count = limits.MAX_INT_KEYED_MAP + 1
    pairs = b"".join(cbor.encode(number) + b"\xf6" for number in range(count))
    with pytest.raises(MalformedError, match="whole-number keys"):
        cbor.decode(cbor.head(5, count) + pairs)
    texts = b"".join(cbor.encode(str(number)) + b"\xf6" for number in range(count))
    assert len(cbor.decode(cbor.head(5, count) + texts)) == count


CONTEXTS = {
    "alone": lambda raw: raw,
    "in an array": lambda raw: b"\x81" + raw,
    "as a map value": lambda raw: b"\xa1\x01" + raw,
    "in a tag": lambda raw: b"\xc1" + raw,
    "in a map in an array": lambda raw: b"\x81\xa1\x61a" + raw,
}


@pytest.mark.parametrize("place", CONTEXTS)
@pytest.mark.parametrize(
    "raw",
    [
        "a2616101616102",  # text key twice
        "a201010102",  # number key twice
        "a2010118010a",  # the same number with a longer head
        "a2616101780161f6",  # the same text with a longer head
        "a241610141610a",  # byte string key twice
        "a1f501",  # true, equal to 1 in Python
        "a1f93c0001",  # 1.0, equal to 1 in Python
        "a1f90000f6",  # 0.0 and -0.0
        "a1f98000f6",
        "a1f97e00f6",  # NaN
        "a1f6f6",  # nil
        "a1a0f6",  # a map
        "a1c001f6",  # a tag
        "a1c24101f6",  # a bignum
        "9fff",  # indefinite lengths
        "bfff",
        "5fff",
        "7fff",
        "ff",
        "61ff",  # not UTF-8
        "62c328",
        "63eda080",  # a surrogate
        "f0",  # simple values nobody assigned
        "f800",
        "f814",
        "f8ff",
        "fc",
        "d818a0",  # tag 24 around something else
        "d81861",
        "19ff",  # cut off
        "1bffffffff",
        "62",
        "4201",
        "5801",
        "590001",
        "7801",
        "8201",
        "a2",
        "a101",
        "d8",
        "d818",
        "d81858",
        "d8185801",
        "c0",
        "c074",
        "f9",
        "fb00",
        "5bffffffffffffffff",
        "7bffffffffffffffff",
        "9bffffffffffffffff",
        "bbffffffffffffffff",
    ],
)
def test_refuses_everywhere(raw: str, place: str) -> None:
    with pytest.raises(MalformedError):
        cbor.decode(CONTEXTS[place](bytes.fromhex(raw)))


def test_the_short_ways_of_reading_agree_with_the_long_one() -> None:
    """Strings and numbers inside containers are read in place; with longer heads they take the general way."""
    for value in (
        0,
        23,
        24,
        255,
        -1,
        -24,
        "",
        "t" * 23,
        "t" * 24,
        "t" * 255,
        b"",
        b"b" * 23,
        b"b" * 24,
        b"b" * 255,
        Tag(0, "z"),
    ):
        short = cbor.encode(value)
        content = value.value if isinstance(value, Tag) else value
        size = abs(content) - (content < 0) if isinstance(content, int) else len(content)
        body = b"" if isinstance(content, int) else content.encode() if isinstance(content, str) else content
        major = {int: 1 if isinstance(content, int) and content < 0 else 0, str: 3, bytes: 2}[type(content)]
        long = bytes((major << 5 | 26,)) + size.to_bytes(4, "big") + body
        if isinstance(value, Tag):
            long = b"\xc0" + long
        for item in (short, long):
            assert cbor.decode(item) == value
            assert cbor.decode(b"\x81" + item) == [value]
            assert cbor.decode(b"\xa1\x01" + item) == {1: value}
            if not isinstance(value, Tag):
                assert cbor.decode(b"\xa1" + item + b"\x01") == {value: 1}


def test_bytes_of_an_encoded_item_are_kept_in_an_array_and_in_a_map() -> None:
    for size in (0, 3, 24, 255, 256):
        content = bytes(size)
        for raw in (
            b"\xd8\x18" + cbor.head(2, size) + content,
            b"\xd9\x00\x18\x5a" + size.to_bytes(4, "big") + content,
            b"\xd8\x18\x59" + size.to_bytes(2, "big") + content,
        ):
            for value in (cbor.decode(raw), cbor.decode(b"\x81" + raw)[0], cbor.decode(b"\xa1\x01" + raw)[1]):
                assert (value.raw, value.content) == (raw, content)


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x01", b"\xc1", b"\x81\xa1\x01", b"\xc1\x81", b"\xa1\x01\xc1"])
def test_depth_is_counted_in_every_container(opening: bytes) -> None:
    per_layer = len([byte for byte in opening if byte != 0x01])
    fits = limits.MAX_DEPTH // per_layer
    cbor.decode(opening * fits + b"\x00")
    with pytest.raises(MalformedError, match="deep"):
        cbor.decode(opening * (fits + 1) + b"\x00")
    with pytest.raises(MalformedError, match="deep"):
        cbor.decode(b"\xa1\x01" * limits.MAX_DEPTH + b"\xc0\x61z")


def test_a_bignum_stays_bytes() -> None:
    assert cbor.decode(b"\xc2\x59\xff\xff" + bytes(65535)) == Tag(2, bytes(65535))


def test_one_budget_bounds_all_layers_of_a_message() -> None:
    inner = cbor.encode([0] * 1000)
    budget = ItemBudget()
    for _ in range(limits.MAX_ITEMS // 1000):
        cbor.decode(inner, budget=budget)
    with pytest.raises(MalformedError, match="too many items"):
        cbor.decode(inner, budget=budget)


def test_work_grows_with_the_items_and_not_with_their_sizes() -> None:
    def work(entries: int, size: int) -> int:
        raw = cbor.encode([{"name": bytes(size), number: "x"} for number in range(entries)])
        return lines(lambda: cbor.decode(raw))

    assert work(400, 30) <= 5 * work(100, 30)
    assert work(100, 250) <= 1.1 * work(100, 30)
