"""Orders and emergency states: what is sealed opens as it was, and everything else is one typed error."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from mdoc import cbor
from protocol import command, emergency
from protocol.command import Answer, Asked, Command, CommandError, Operator, Ordered
from protocol.emergency import Emergency
from protocol.fields import PayloadError
from tests.conftest import NOW

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ORDER = Command(
    "hq", "gate-1", "lane-1", "open_once", Operator("Kim", "guard"), "c-1", bytes(16), {"reason": "visitor"}
)
STATE = Emergency("hq", 3, NOW, NOW + timedelta(hours=1), {"lobby": 2})
WORDS = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
OPERATORS = st.builds(Operator, st.text(min_size=1, max_size=64), WORDS)
COMMANDS = st.builds(
    Command,
    WORDS,
    WORDS,
    WORDS,
    WORDS,
    OPERATORS,
    WORDS,
    st.binary(min_size=16, max_size=16),
    st.dictionaries(WORDS, st.text(min_size=1, max_size=64) | st.integers(-(2**63), 2**63 - 1), max_size=8),
    st.none() | OPERATORS,
)


@given(COMMANDS)
def test_an_order_reads_as_it_was_written(order: Command) -> None:
    assert command.read(order.payload()) == order


def test_what_was_sealed_opens_and_names_the_key_that_signed_it() -> None:
    payload = ORDER.payload()
    raw = command.order("c-1", command.seal(payload, KEY), command.seal(payload, OTHER))
    assert len(raw) <= command.MAX_BYTES
    found = command.parse(raw)
    assert isinstance(found, Ordered)
    assert found.second is not None
    assert found.first.kid == command.kid_of(KEY.public_key())
    assert found.first.verify(KEY.public_key())
    assert not found.first.verify(OTHER.public_key())
    assert found.second.verify(OTHER.public_key())
    assert command.read(found.first.payload) == ORDER


def test_two_signatures_over_different_bytes_are_no_order() -> None:
    first, second = command.seal(ORDER.payload(), KEY), command.seal(replace(ORDER, lane="all").payload(), OTHER)
    with pytest.raises(CommandError, match="same bytes"):
        command.parse(command.order("c-1", first, second))


def test_an_emergency_state_is_no_order_and_an_order_is_no_emergency_state() -> None:
    sealed = json.loads(STATE.encode(KEY))["sealed"]
    with pytest.raises(CommandError):
        command.parse(command.order("c-1", sealed))
    raw = {"v": 1, "sequence": 3, "levels": {}, "sealed": command.seal(ORDER.payload(), KEY)}
    with pytest.raises(CommandError):
        emergency.parse(json.dumps(raw).encode())


@given(st.dictionaries(WORDS, st.integers(1, 9), max_size=emergency.MAX_ZONES))
def test_an_emergency_state_reads_as_it_was_written_whatever_its_zones(levels: dict[str, int]) -> None:
    state = replace(STATE, levels=levels)
    found = emergency.parse(state.encode(KEY))
    assert found.sealed.verify(KEY.public_key())
    assert emergency.read(found) == state


def test_a_zone_at_level_0_is_left_out() -> None:
    assert emergency.read(emergency.parse(replace(STATE, levels={"lobby": 0, "yard": 1}).encode(KEY))).levels == {
        "yard": 1
    }


@pytest.mark.parametrize(("name", "value"), [("sequence", 4), ("levels", {}), ("levels", {"lobby": 3})])
def test_other_values_beside_the_sealed_ones_are_refused(name: str, value: object) -> None:
    raw = {**json.loads(STATE.encode(KEY)), name: value}
    with pytest.raises(CommandError, match="others"):
        emergency.read(emergency.parse(json.dumps(raw).encode()))


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_comes_on_a_topic_is_read_or_one_typed_error(raw: bytes) -> None:
    for parse in (command.parse, emergency.parse):
        try:
            parse(raw)
        except CommandError:
            continue
    try:
        command.parse_answer(raw)
    except PayloadError:
        return


FIELDS = ["site", "gate", "lane", "verb", "args", "operator", "role", "id", "challenge", "second", "more"]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.integers(), st.text(max_size=80), st.binary(max_size=20), st.just({}), st.just([1])
)


@given(st.sampled_from(FIELDS), VALUES)
def test_a_signed_payload_that_makes_no_sense_is_one_typed_error(name: str, value: object) -> None:
    body = {**cbor.decode_map(ORDER.payload()), name: value}
    try:
        command.read(cbor.encode(body))
    except CommandError:
        return


@given(st.sampled_from(["site", "sequence", "issued", "not_after", "levels", "more"]), VALUES)
def test_a_signed_state_that_makes_no_sense_is_one_typed_error(name: str, value: object) -> None:
    found = emergency.parse(STATE.encode(KEY))
    body = {**cbor.decode_map(found.sealed.payload), name: value}
    sealed = command.open_text(command.seal(cbor.encode(body), KEY, emergency.TYPE), emergency.TYPE)
    try:
        assert emergency.read(replace(found, sealed=sealed)).levels == STATE.levels
    except CommandError:
        return


@pytest.mark.parametrize(
    "answer",
    [
        Answer("c-1", challenge=bytes(range(16))),
        Answer("c-1", refused="retained"),
        Answer("c-1", results={"lane-1": None, "lane-2": "fire_active"}),
    ],
)
def test_an_answer_reads_as_it_was_written(answer: Answer) -> None:
    assert command.parse_answer(answer.encode()) == answer


def test_an_answer_is_done_only_where_every_lane_says_so() -> None:
    assert Answer("c", results={"a": None}).done
    assert not Answer("c", results={"a": None, "b": "lockdown"}).done
    assert not Answer("c", challenge=bytes(16)).done
    assert not Answer("c", refused="late").done


def test_a_request_for_a_challenge_reads_as_it_was_written() -> None:
    assert command.parse(Asked("c-1").encode()) == Asked("c-1")
    with pytest.raises(CommandError):
        command.parse(b'{"v":1,"id":"c-1","want":"everything"}')
