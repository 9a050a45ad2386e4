"""docs/verification.md is what the verifier does: every check, its clause, every way to fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mdoc import inspect
from mdoc.verdict import CheckRow, Failure
from mdoc.verify import TABLE

ROOT = Path(__file__).resolve().parents[2]
OF_PASSES = {Failure.WRONG_AUDIENCE, Failure.STALE}


def test_pages_made_from_the_code_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_page_is_one_that_the_parser_takes() -> None:
    page = (ROOT / "docs" / "verification.md").read_text("utf-8")
    commands = [line for line in page.splitlines() if line.startswith("gwanmun inspect ")]
    assert len(commands) == 4
    for command in commands:
        inspect.parser().parse_args(command.split()[2:])


def test_every_failure_belongs_to_a_check() -> None:
    assert {failure for row in TABLE for failure in row.failures} == set(Failure) - OF_PASSES
    assert len({row.name for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_check_has_a_clause_and_says_in_both_languages_what_then_holds(row: CheckRow) -> None:
    assert row.clause
    assert any("가" <= letter <= "힣" for letter in row.ko)
    assert row.en.isascii()
    assert row.ko.endswith("다.")
    assert row.en.endswith(".")
