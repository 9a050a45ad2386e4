"""The list of keys that may order from afar: signed, never going back, strict, and kept where a new one cannot be used."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gate_agent import command_keys
from gate_agent.command_keys import ANY, CommandKey, build, load, parse
from gate_agent.keys import Signers
from gate_agent.modes import Modes
from gate_agent.passage import Orders
from mdoc import cose
from mdoc.errors import MalformedError, MdocError, TrustError
from mdoc.issuerlist import format_tdate
from protocol.command import kid_of
from protocol.events import Kind
from protocol.signed import seal
from tests.conftest import NOW
from tests.gate_agent.conftest import Bench

KEY, OTHER, LISTED = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
SIGNER = KEY.public_key()
ENTRY = CommandKey(
    LISTED.public_key(),
    frozenset({"open_once", "lockdown"}),
    frozenset({"guard"}),
    frozenset({"lobby", "yard"}),
    NOW + timedelta(days=30),
)
RAW = build([ENTRY], version=3, date=NOW, key=KEY)


def test_a_list_reads_as_it_was_written() -> None:
    found = parse(RAW, SIGNER)
    assert (found.version, found.date) == (3, NOW)
    assert found.by_kid == {kid_of(LISTED.public_key()): ENTRY}


def test_a_key_may_what_is_said_of_it_in_every_zone_that_is_asked_and_until_its_day() -> None:
    assert ENTRY.may("lockdown", "guard", ["lobby"], NOW)
    assert ENTRY.may("lockdown", "guard", ["lobby", "yard"], NOW)
    assert not ENTRY.may("lockdown", "guard", ["lobby", "vault"], NOW)
    assert not ENTRY.may("lockdown", "guard", [], NOW)
    assert not ENTRY.may("free", "guard", ["lobby"], NOW)
    assert not ENTRY.may("lockdown", "chief", ["lobby"], NOW)
    assert not ENTRY.may("lockdown", "guard", ["lobby"], NOW + timedelta(days=31))
    assert ENTRY.may("lockdown", "guard", ["lobby"], None), "a gate that knows no time locks nobody out"
    assert replace(ENTRY, zones=frozenset({ANY})).may("lockdown", "guard", ["vault"], NOW)


def test_a_list_that_another_key_signed_or_that_goes_back_is_not_taken() -> None:
    with pytest.raises(TrustError):
        parse(RAW, OTHER.public_key())
    with pytest.raises(TrustError, match="goes back"):
        parse(RAW, SIGNER, in_force=4)
    assert parse(RAW, SIGNER, in_force=3).version == 3


ROW: dict[str, Any] = {
    "key": cose.cose_key(LISTED.public_key()),
    "verbs": ["lockdown"],
    "roles": ["guard"],
    "zones": ["*"],
    "not_after": format_tdate(NOW),
}
GOOD: dict[str, Any] = {"version": 1, "date": format_tdate(NOW), "keys": [ROW]}


@pytest.mark.parametrize(
    "change",
    [
        {"version": -1},
        {"version": "1"},
        {"date": 5},
        {"keys": None},
        {"keys": [ROW, ROW]},
        {"keys": [ROW] * (command_keys.MAX_KEYS + 1)},
        {"keys": [{**ROW, "key": b"x"}]},
        {"keys": [{**ROW, "verbs": []}]},
        {"keys": [{**ROW, "verbs": "lockdown"}]},
        {"keys": [{**ROW, "roles": ["a b"]}]},
        {"keys": [{**ROW, "zones": ["#"]}]},
        {"keys": [{**ROW, "zones": ["a"] * 65}]},
        {"keys": [{**ROW, "not_after": "2026-11-24"}]},
        {"keys": [{**ROW, "more": 1}]},
        {"more": 1},
    ],
)
def test_a_signed_list_that_makes_no_sense_is_malformed(change: dict[str, Any]) -> None:
    parse(seal(GOOD, command_keys.TYPE, KEY), SIGNER)
    with pytest.raises(MalformedError):
        parse(seal({**GOOD, **change}, command_keys.TYPE, KEY), SIGNER)


@given(st.binary(max_size=300) | st.integers(0, len(RAW) - 1).map(lambda at: RAW[:at]))
def test_anything_else_is_one_typed_error(raw: bytes) -> None:
    with pytest.raises(MdocError):
        parse(raw, SIGNER)


def test_a_list_in_force_may_not_be_taken_away(tmp_path: Path) -> None:
    assert load(tmp_path, SIGNER).by_kid == {}
    (tmp_path / command_keys.FILE).write_bytes(RAW)
    assert load(tmp_path, SIGNER).version == 3
    (tmp_path / command_keys.FILE).unlink()
    with pytest.raises(TrustError, match="taken away"):
        load(tmp_path, SIGNER, in_force=3)
    (tmp_path / command_keys.FILE).write_bytes(bytes(command_keys.MAX_FILE + 1))
    with pytest.raises(MalformedError):
        load(tmp_path, SIGNER)


async def test_a_running_gate_takes_a_new_list_and_keeps_the_old_one_where_that_cannot_be_used(bench: Bench) -> None:
    file = bench.trust._directory / command_keys.FILE
    bench.trust._signers = Signers(command=SIGNER)
    file.write_bytes(RAW)
    await bench.trust.reload()
    assert bench.trust.current.commands.version == 3
    for bad in (build([], version=2, date=NOW, key=KEY), build([], version=9, date=NOW, key=OTHER), b"junk"):
        file.write_bytes(bad)
        await bench.trust.reload()
        assert bench.trust.current.commands.version == 3
    rejected = [each.data["what"] for each in await bench.records() if each.kind is Kind.TRUST_REJECTED]
    assert rejected == ["commands"] * 3
    file.write_bytes(build([], version=4, date=NOW, key=KEY))
    await bench.trust.reload()
    assert bench.trust.current.commands.by_kid == {}


async def test_without_an_officers_key_no_list_is_read(bench: Bench) -> None:
    (bench.trust._directory / command_keys.FILE).write_bytes(RAW)
    await bench.trust.reload()
    assert bench.trust.current.commands.by_kid == {}


def test_orders_kept_before_there_were_levels_are_read_and_levels_that_were_changed_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "modes.db"
    modes = Modes(path, ["lane-1"])
    modes.save("lane-1", Orders(lockdown=2))
    modes.close()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM meta WHERE key = 'levels'")
    db.close()
    modes = Modes(path, ["lane-1"])
    assert (modes.damaged, modes.load(), modes.levels) == (None, {"lane-1": Orders(lockdown=2)}, {})
    modes.adopt(5, {}, {"lobby": 2})
    modes.close()
    with sqlite3.connect(path) as db:
        db.execute("""UPDATE meta SET value = '{"lobby": 0}' WHERE key = 'levels'""")
    db.close()
    modes = Modes(path, ["lane-1"])
    assert modes.damaged is not None
    modes.close()
