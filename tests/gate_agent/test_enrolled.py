from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from card.anchors import Terms
from card.verify import Enrolment
from gate_agent import enrolled
from gate_agent.denylist import key_entry
from gate_agent.enrolled import Enrolled, build, load, parse
from mdoc.errors import MalformedError, MdocError, TrustError
from mdoc.issuerlist import format_tdate
from protocol.signed import seal
from tests.conftest import NOW

KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = KEY.public_key()
DAY = timedelta(days=1)
STAFF = Enrolment(Terms("1741000", "staff", "general"), NOW - DAY, NOW + DAY)
GUARDS = Enrolment(Terms("1741000", "guard", "general"), NOW - DAY, NOW + 2 * DAY)


def test_each_key_has_what_its_group_says() -> None:
    first, second, third = (ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(3))
    groups = [(STAFF, [key_entry(first)]), (GUARDS, [key_entry(second)])]
    found = parse(build(groups, version=3, date=NOW, key=KEY), SIGNER)
    assert (found.version, found.date) == (3, NOW)
    assert [found.find(each) for each in (first, second, third)] == [STAFF, GUARDS, None]
    assert found.facts[0].issued_at == NOW
    assert Enrolled().find(first) is None
    assert Enrolled().facts == ()


def test_nothing_shows_a_key(tmp_path: Path) -> None:
    entry = key_entry(SIGNER)
    found = parse(build([(STAFF, [entry])], version=1, date=NOW, key=KEY), SIGNER)
    assert repr(entry)[2:-1] not in repr(found)


def test_somebody_else_s_list_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(TrustError, match="signature"):
        parse(build([], version=1, date=NOW, key=other), SIGNER)


def test_a_deny_list_is_no_key_list() -> None:
    from gate_agent import denylist

    with pytest.raises(MalformedError, match="type header"):
        parse(denylist.build([], version=1, date=NOW, key=KEY), SIGNER)


def test_a_list_never_goes_back_and_never_away(tmp_path: Path) -> None:
    raw = build([], version=4, date=NOW, key=KEY)
    assert parse(raw, SIGNER, in_force=4).version == 4
    with pytest.raises(TrustError, match="goes back"):
        parse(raw, SIGNER, in_force=5)
    assert load(tmp_path, SIGNER).version == 0
    with pytest.raises(TrustError, match="taken away"):
        load(tmp_path, SIGNER, in_force=4)


def test_a_file_that_is_too_long_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / enrolled.FILE).write_bytes(bytes(enrolled.MAX_FILE + 1))
    with pytest.raises(MalformedError, match="at most"):
        load(tmp_path, SIGNER)


def test_the_longest_list_is_read(tmp_path: Path) -> None:
    keys = [number.to_bytes(32) for number in range(enrolled.MAX_KEYS)]
    (tmp_path / enrolled.FILE).write_bytes(build([(STAFF, keys)], version=1, date=NOW, key=KEY))
    assert len(load(tmp_path, SIGNER).keys) == enrolled.MAX_KEYS


def group(**changes: Any) -> dict[str, Any]:
    usual = {
        "agency_code": "1741000",
        "card_type": "staff",
        "access_class": "general",
        "from": format_tdate(NOW),
        "until": format_tdate(NOW + DAY),
        "keys": [bytes(32)],
    }
    return {**usual, **changes}


def whole(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "date": format_tdate(NOW), "groups": [group()], **changes}


def test_what_the_wrong_lists_below_are_made_of_is_right() -> None:
    assert len(parse(seal(whole(), enrolled.TYPE, KEY), SIGNER).keys) == 1


@pytest.mark.parametrize(
    "payload",
    [
        whole(version=-1),
        whole(version="1"),
        whole(date="today"),
        whole(groups={}),
        whole(more=1),
        whole(groups=[1]),
        whole(groups=[group(card_type=1)]),
        whole(groups=[group(card_type="x" * 129)]),
        whole(groups=[group(keys=[])]),
        whole(groups=[group(keys=[bytes(31)])]),
        whole(groups=[group(keys=[bytes(32), bytes(32)])]),
        whole(groups=[group(), group()]),
        whole(groups=[group(until=format_tdate(NOW))]),
        whole(groups=[group(name="x")]),
        whole(groups=[group(keys=[bytes((each,)) * 32]) for each in range(101)]),
    ],
)
def test_a_list_of_another_shape_is_malformed(payload: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse(seal(payload, enrolled.TYPE, KEY), SIGNER)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(MdocError):
        parse(raw, SIGNER)
