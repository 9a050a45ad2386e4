"""Who read exact times: written down first, in a chain."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.query_rows import BadQueryError
from controller.reads import NotPermittedError, Officer, ReadRow, broken, removed, rows
from controller.store import Store
from gwanmun import controller_cli
from tests.controller.past import SEOUL, Past

OFFICER = Officer.of("Kim", "security-officer", "incident", "2026-113")


@pytest.fixture
def kept(past: Past) -> Iterator[Store]:
    store = Store(past.path, SEOUL)
    yield store
    store.close()


def test_each_read_is_a_row_that_names_the_one_before(kept: Store, past: Past) -> None:
    for number in range(3):
        assert kept.reads.log(OFFICER, f"question {number}", past.clock.now()) == number + 1
    found = list(rows(past.db))
    assert [(row.operator, row.role, row.reason, row.reference) for row in found] == [
        ("Kim", "security-officer", "incident", "2026-113")
    ] * 3
    assert [row.query for row in found] == ["question 0", "question 1", "question 2"]
    assert [row.prev for row in found] == ["0" * 64, found[0].hash, found[1].hash]
    assert broken(found) is None
    assert broken([]) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda row: replace(row, operator="Lee"),
        lambda row: replace(row, time="2026-11-25T00:00:00.001Z"),
        lambda row: replace(row, role="guard"),
        lambda row: replace(row, reason="test"),
        lambda row: replace(row, reference="other"),
        lambda row: replace(row, query="other"),
        lambda row: replace(row, prev="1" * 64),
        lambda row: replace(row, hash="1" * 64),
        lambda row: replace(row, number=9),
    ],
)
def test_a_row_that_was_changed_is_found(kept: Store, past: Past, change: Callable[[ReadRow], ReadRow]) -> None:
    for number in range(3):
        kept.reads.log(OFFICER, str(number), past.clock.now())
    one, two, three = rows(past.db)
    assert broken([one, change(two), three]) == 2
    assert broken([one, three]) == 2
    assert broken([two, three]) == 1


def test_a_row_changed_with_its_own_hash_made_anew_is_found_by_the_next(kept: Store, past: Past) -> None:
    for number in range(3):
        kept.reads.log(OFFICER, str(number), past.clock.now())
    one, two, three = rows(past.db)
    forged = replace(two, operator="Lee")
    assert broken([one, replace(forged, hash=forged.expected), three]) == 3


def test_the_chain_goes_on_after_a_restart(past: Past) -> None:
    for number in range(2):
        store = Store(past.path, SEOUL)
        store.reads.log(OFFICER, str(number), past.clock.now())
        store.close()
    assert broken(rows(past.db)) is None
    assert [row.number for row in rows(past.db)] == [1, 2]


@pytest.mark.parametrize("role", ["guard", "chief", "", "Security-Officer"])
def test_nobody_but_a_security_officer_reads(role: str) -> None:
    with pytest.raises(NotPermittedError):
        Officer.of("Kim", role, "incident", "x")


@pytest.mark.parametrize(
    ("operator", "reason", "reference"),
    [
        ("", "incident", "x"),
        (" ", "incident", "x"),
        ("K" * 65, "incident", "x"),
        ("Kim\n", "incident", "x"),
        ("Kim", "curiosity", "x"),
        ("Kim", "", "x"),
        ("Kim", "incident", ""),
        ("Kim", "incident", "x" * 81),
        ("Kim", "incident", "a\r\nb"),
        ("Kim", "incident", "a\u2028b"),
        ("Kim", "incident", "a\x1b[2Jb"),
        ("Kim", "incident", "a\u202eb"),
        ("Kim", "incident", "a\ud800b"),
    ],
)
def test_a_reason_of_the_list_and_a_reference_of_one_line_are_asked_for(
    operator: str, reason: str, reference: str
) -> None:
    with pytest.raises(BadQueryError):
        Officer.of(operator, "security-officer", reason, reference)


def test_a_read_that_cannot_be_written_leaves_the_chain_as_it_was(kept: Store, past: Past) -> None:
    kept.reads.log(OFFICER, "first", past.clock.now())
    past.db.execute("CREATE TRIGGER full BEFORE INSERT ON reads BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(sqlite3.Error, match="disk full"):
        kept.reads.log(OFFICER, "second", past.clock.now())
    past.db.execute("DROP TRIGGER full")
    assert kept.reads.log(OFFICER, "third", past.clock.now()) == 2
    assert [row.query for row in rows(past.db)] == ["first", "third"]
    assert broken(rows(past.db)) is None


def remove(past: Past, upto: int, number: int, n: int) -> None:
    """As retention does, with its proof."""
    ((digest,),) = past.db.execute("SELECT hash FROM reads WHERE number = ?", [upto]).fetchall()
    past.db.execute("DELETE FROM reads WHERE number <= ?", [upto])
    past.db.execute("INSERT INTO deletions VALUES (?, '', 'reads', '', ?, ?, '', '')", (number, n, digest))


def test_rows_that_retention_took_off_the_beginning_with_a_proof_are_not_missing(kept: Store, past: Past) -> None:
    for number in range(5):
        kept.reads.log(OFFICER, str(number), past.clock.now())
    remove(past, 2, 1, 2)
    assert removed(past.db)[0] == 2
    assert broken(rows(past.db), removed(past.db)) is None
    past.db.execute("DELETE FROM reads WHERE number = 3")
    assert broken(rows(past.db), removed(past.db)) == 3


def test_numbers_go_on_where_retention_took_every_row(kept: Store, past: Past) -> None:
    for number in range(3):
        kept.reads.log(OFFICER, str(number), past.clock.now())
    remove(past, 1, 1, 1)
    remove(past, 3, 2, 2)
    assert kept.reads.log(OFFICER, "next", past.clock.now()) == 4
    assert broken(rows(past.db), removed(past.db)) is None


# The command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "controller.toml"
    file.write_text('site = "hq"\nstate_dir = "."\n')
    return file


def test_the_command_lists_the_reads_and_says_that_the_chain_is_whole(
    kept: Store, past: Past, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        kept.reads.log(OFFICER, f"q{number}", past.clock.now())
    assert controller_cli.main(["reads", "--config", str(config), "--last", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].split("\t") == ["2", "2026-11-25T00:00:00.000Z", "Kim", "incident", "2026-113", "q1"]
    assert out[2].split("\t")[0] == "3"
    assert "3" in out[3]
    assert len(out) == 5  # header, two rows, and the verdict in Korean and English


def test_the_command_finds_a_row_that_was_changed(
    kept: Store, past: Past, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        kept.reads.log(OFFICER, f"q{number}", past.clock.now())
    past.db.execute("UPDATE reads SET operator = 'Lee' WHERE number = 2")
    assert controller_cli.main(["reads", "--config", str(config)]) == 1
    assert "2" in capsys.readouterr().err


def test_the_command_gives_json_for_programs(
    kept: Store, past: Past, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.reads.log(OFFICER, "q", past.clock.now())
    assert controller_cli.main(["reads", "--config", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["whole"] is True
    assert found["reads"][0]["operator"] == "Kim"


def test_the_command_says_where_there_is_no_database(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert controller_cli.main(["reads", "--config", str(config)]) == 2
    assert "controller.db" in capsys.readouterr().err
    assert not (config.parent / "controller.db").exists()
