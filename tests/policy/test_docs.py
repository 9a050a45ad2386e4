"""docs/rules.md says what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from policy.decision import RULES
from policy.document import load
from policy.problems import PolicyError
from tests.policy.conftest import BASE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text("utf-8")
NAMED = {"schedules", "special_days", "zones", "points", "profiles"}
"""Tables whose keys are names that the site gives."""


def _known_keys(document: dict[str, Any]) -> set[str]:
    """Every key that the reader knows: it lists them when it meets one that it does not."""
    found: set[str] = set()

    def spoil(table: dict[str, Any], *, names: bool) -> None:
        for key, value in list(table.items()):
            if isinstance(value, dict):
                spoil(value, names=not names and key in NAMED and table is document)
        if not names:
            table["no such key"] = 1

    spoil(document, names=False)
    try:
        load(document)
    except PolicyError as error:
        for problem in error.problems:
            found |= set(problem.en.partition("unknown key; known here: ")[2].split(", "))
    return found - {""}


def test_every_key_of_a_rules_document_is_explained() -> None:
    keys = _known_keys(tomllib.loads(BASE))
    assert {"version", "country", "windows", "within_s", "up_to_level", "entrance_group", "issuers"} <= keys
    explained = set(re.findall(r"`\[?([a-z_]+)", PAGE)) | {"tue", "wed", "thu", "fri", "sat"}
    tables = set(re.findall(r"\[zones\.이름\.([a-z_]+)\]", PAGE))
    assert keys - explained - tables == set()


def test_the_rules_stand_in_the_order_in_which_they_are_tried() -> None:
    listed = re.findall(r"(?m)^\| (\d+) \| `([a-z_]+)` \|", PAGE)
    assert listed == [(str(number), rule.name) for number, rule in enumerate(RULES, 1)]
