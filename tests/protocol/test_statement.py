"""A signed statement counts for its purpose, its gate and its signer only."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from protocol import ack, events, replay
from protocol.ack import Ack
from protocol.replay import Replay
from protocol.statement import MAX_SEALED, Purpose, Statement, StatementError, from_data, open_sealed

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
SIGNER = KEY.public_key()
STATEMENT = Statement("hq", "gate-1", "e1", 3, 9, "ab" * 32)
purposes = pytest.mark.parametrize("purpose", Purpose)


@purposes
def test_what_is_sealed_opens_for_its_purpose_and_signer_only(purpose: Purpose) -> None:
    sealed = STATEMENT.seal(purpose, KEY)
    assert len(sealed) <= MAX_SEALED
    assert open_sealed(sealed, purpose, SIGNER) == STATEMENT
    for other in set(Purpose) - {purpose}:
        with pytest.raises(StatementError):
            open_sealed(sealed, other, SIGNER)
    with pytest.raises(StatementError):
        open_sealed(sealed, purpose, OTHER.public_key())


@pytest.mark.parametrize(("name", "value"), [("from", 2), ("to", 10), ("hash", "cd" * 32)])
def test_other_values_beside_the_sealed_ones_are_refused(name: str, value: object) -> None:
    data = STATEMENT.data(Purpose.PRUNED, KEY)
    assert from_data(data, Purpose.PRUNED, SIGNER) == STATEMENT
    with pytest.raises(StatementError):
        from_data({**data, name: value}, Purpose.PRUNED, SIGNER)


@given(st.none() | st.integers() | st.text(max_size=80) | st.binary(max_size=40))
def test_anything_else_is_one_typed_error(text: object) -> None:
    with pytest.raises(StatementError):
        open_sealed(text, Purpose.ACK, SIGNER)


@pytest.mark.parametrize(
    "bad",
    [
        replace(STATEMENT, first=10),
        replace(STATEMENT, first=0),
        replace(STATEMENT, gate="x" * 65),
        replace(STATEMENT, hash="ab" * 31),
    ],
)
def test_a_signed_statement_that_makes_no_sense_is_refused(bad: Statement) -> None:
    with pytest.raises(StatementError):
        open_sealed(bad.seal(Purpose.GAP, KEY), Purpose.GAP, SIGNER)


def test_an_acknowledgement_is_for_one_gate_and_says_what_is_signed() -> None:
    raw = Ack("e1", 7, "ab" * 32).encode("hq", "gate-1", KEY)
    assert ack.parse(raw, "hq", "gate-1", SIGNER) == Ack("e1", 7, "ab" * 32)
    for site, gate, signer in (("hq", "gate-2", SIGNER), ("x", "gate-1", SIGNER), ("hq", "gate-1", OTHER.public_key())):
        with pytest.raises(ValueError, match=r"."):
            ack.parse(raw, site, gate, signer)
    for name, value in (("seq", 8), ("epoch", "e2"), ("hash", "cd" * 32)):
        with pytest.raises(ValueError, match=r"."):
            ack.parse(json.dumps({**json.loads(raw), name: value}).encode(), "hq", "gate-1", SIGNER)


def test_a_replay_request_is_no_acknowledgement() -> None:
    raw = json.loads(Replay("e1", 1, 7).encode("hq", "gate-1", KEY))
    forged = {"v": 1, "epoch": "e1", "seq": 7, "hash": events.GENESIS, "sealed": raw["sealed"]}
    with pytest.raises(ValueError, match=r"."):
        ack.parse(json.dumps(forged).encode(), "hq", "gate-1", SIGNER)
    with pytest.raises(ValueError, match=r"."):
        replay.parse(json.dumps({**raw, "to": 8}).encode(), "hq", "gate-1", SIGNER)
