"""The DER reader: only the shortest form, nothing outside its parent, and object identifiers both ways."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdoc.certificates import der
from mdoc.errors import MalformedError


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "30",
        "3001",  # ends too early
        "3080",  # indefinite
        "30810100",  # longer than needed
        "30820001" + "00",
        "3085" + "0000000001" + "00",
        "308400000001" + "00",
        "1f8100",  # tag above 30
        "30ff",
    ],
)
def test_refuses_another_form_of_an_element(raw: str) -> None:
    data = bytes.fromhex(raw)
    with pytest.raises(MalformedError):
        der.element(data, 0, len(data))
    with pytest.raises(MalformedError):
        der.expect(data, 0, len(data), der.SEQUENCE)


def test_an_element_may_not_reach_beyond_its_parent() -> None:
    data = bytes.fromhex("3003020105")
    assert der.element(data, 0, 5) == (der.SEQUENCE, 2, 5)
    for end in range(5):
        with pytest.raises(MalformedError):
            der.expect(data, 0, end, der.SEQUENCE)
    with pytest.raises(MalformedError, match="tag"):
        der.expect(data, 0, 5, der.SET)
    with pytest.raises(MalformedError, match="after"):
        der.whole(data + b"\0", der.SEQUENCE)


@given(st.integers(-(2**160), 2**160))
def test_integers_in_their_shortest_form_alone(number: int) -> None:
    content = number.to_bytes((number if number >= 0 else ~number).bit_length() // 8 + 1, "big", signed=True)
    assert der.integer(content, 0, len(content)) == number
    longer = (b"\xff" if number < 0 else b"\0") + content
    with pytest.raises(MalformedError):
        der.integer(longer, 0, len(longer))


def test_an_empty_integer_and_a_third_truth_value_are_refused() -> None:
    with pytest.raises(MalformedError):
        der.integer(b"", 0, 0)
    assert der.boolean(b"\xff", 0, 1)
    assert not der.boolean(b"\0", 0, 1)
    for content in (b"\x01", b"", b"\xff\xff"):
        with pytest.raises(MalformedError):
            der.boolean(content, 0, len(content))


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**40), max_size=8))
def test_object_identifiers_round_trip(first: int, second: int, rest: list[int]) -> None:
    dotted = ".".join(map(str, (first, second, *rest)))
    assert der.dotted(der.oid(dotted)) == dotted


def test_known_object_identifiers() -> None:
    assert der.oid("2.5.29.15").hex() == "551d0f"
    assert der.oid("1.2.840.10045.4.3.2").hex() == "2a8648ce3d040302"
    assert der.dotted(b"") == "?"


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [
        (der.UTC_TIME, "491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (der.UTC_TIME, "500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (der.GENERALIZED_TIME, "20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
    ],
)
def test_times(tag: int, text: str, expected: datetime) -> None:
    assert der.moment(text.encode(), tag, 0, len(text)) == expected


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (der.UTC_TIME, "2601010000Z"),
        (der.UTC_TIME, "260101000000"),
        (der.UTC_TIME, "260101000000+0900"),
        (der.UTC_TIME, "261301000000Z"),
        (der.UTC_TIME, "260230000000Z"),
        (der.UTC_TIME, "260101000060Z"),
        (der.UTC_TIME, "20260101000000Z"),
        (der.GENERALIZED_TIME, "20260101000000.5Z"),
        (der.GENERALIZED_TIME, "00000101000000Z"),
        (der.OCTET_STRING, "260101000000Z"),
        (der.UTC_TIME, ""),
        (der.UTC_TIME, "²60101000000Z"),
    ],
)
def test_refuses_times_of_another_form(tag: int, text: str) -> None:
    raw = text.encode()
    with pytest.raises(MalformedError):
        der.moment(raw, tag, 0, len(raw))
