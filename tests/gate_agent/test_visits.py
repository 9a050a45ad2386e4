from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent import visits
from gate_agent.denylist import key_entry
from gate_agent.visits import Record, Visits, build, handle_token, load, parse
from mdoc.errors import MalformedError, TrustError
from mdoc.issuerlist import format_tdate
from policy.situation import Visit
from protocol.signed import seal
from tests.conftest import NOW

KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = KEY.public_key()
ME, OTHER = handle_token(b"handle"), handle_token(b"other")
HOUR = timedelta(hours=1)
VISIT = Visit(frozenset({"lobby"}), NOW - HOUR, NOW + HOUR, host_required=False)
RECORD = Record(ME, VISIT)
GOOD: dict[str, Any] = {
    "version": 1,
    "visitor": ME,
    "zones": ["lobby"],
    "from": format_tdate(NOW - HOUR),
    "until": format_tdate(NOW + HOUR),
    "hostRequired": False,
}


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, visit=replace(VISIT, host_required=True)),
        replace(RECORD, visit=replace(VISIT, host_required=True), host=OTHER),
        replace(RECORD, visitor=key_entry(SIGNER), visit=replace(VISIT, zones=frozenset({"lobby", "hall"}))),
    ],
)
def test_what_is_built_is_read(record: Record) -> None:
    assert parse(build(record, KEY), SIGNER) == record


def test_a_record_of_somebody_else_is_refused() -> None:
    with pytest.raises(TrustError):
        parse(build(RECORD, ec.generate_private_key(ec.SECP256R1())), SIGNER)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"visitor": b"short"},
        {"visitor": "Hong Gil-dong"},
        {"zones": []},
        {"zones": ["lobby", 1]},
        {"zones": ["z"] * (visits.MAX_ZONES + 1)},
        {"from": "now"},
        {"until": format_tdate(NOW - HOUR)},
        {"until": format_tdate(NOW + timedelta(days=32))},
        {"hostRequired": 1},
        {"host": OTHER},
        {"host": b"x", "hostRequired": True},
        {"name": "Hong"},
    ],
)
def test_a_record_that_says_anything_else_is_refused(change: dict[str, Any]) -> None:
    parse(seal(GOOD, visits.TYPE, KEY), SIGNER)
    with pytest.raises(MalformedError):
        parse(seal({**GOOD, **change}, visits.TYPE, KEY), SIGNER)


def test_a_record_with_something_missing_or_far_too_large_is_refused() -> None:
    for key in GOOD:
        with pytest.raises(MalformedError):
            parse(seal({name: value for name, value in GOOD.items() if name != key}, visits.TYPE, KEY), SIGNER)
    with pytest.raises(MalformedError):
        parse(b"x" * (visits.MAX_FILE + 1), SIGNER)


def test_the_record_that_holds_here_and_now_is_found() -> None:
    later = replace(RECORD, visit=replace(VISIT, not_before=NOW + HOUR, not_after=NOW + 2 * HOUR))
    elsewhere = replace(RECORD, visit=replace(VISIT, zones=frozenset({"hall"})))
    held = Visits([later, elsewhere, RECORD])
    assert len(held) == 3
    assert held.find([OTHER, ME], "lobby", NOW) is RECORD
    assert held.find([ME], "hall", NOW) is elsewhere
    assert held.find([ME], "lobby", NOW + HOUR) is later
    assert held.find([ME], "attic", NOW) in (later, elsewhere, RECORD)
    assert held.find([OTHER], "lobby", NOW) is None


def test_a_folder_of_records_is_read_and_a_bad_one_disables_itself(tmp_path: Path) -> None:
    assert load(tmp_path / visits.FOLDER, SIGNER)[1] == []
    folder = tmp_path / visits.FOLDER
    folder.mkdir()
    (folder / "1.cose").write_bytes(build(RECORD, KEY))
    (folder / "hong.cose").write_bytes(b"garbage")
    (folder / "note.txt").write_bytes(b"not a record")
    held, problems = load(folder, SIGNER)
    assert held.find([ME], "lobby", NOW) == RECORD
    (problem,) = problems
    assert "record 2" in problem
    assert "hong" not in problem  # a file's name may name a visitor


def test_more_records_than_the_limit_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "MAX_RECORDS", 2)
    for number in range(4):
        (tmp_path / f"{number}.cose").write_bytes(build(replace(RECORD, visitor=handle_token(bytes([number]))), KEY))
    held, problems = load(tmp_path, SIGNER)
    assert len(held) == 2
    assert problems == [f"{tmp_path.name}: more than 2 records"]


def test_nothing_of_a_visitor_shows_in_a_log_line() -> None:
    record = replace(RECORD, visit=replace(VISIT, host_required=True), host=OTHER)
    assert repr(ME) not in repr(record)
    assert repr(OTHER) not in repr(record)
