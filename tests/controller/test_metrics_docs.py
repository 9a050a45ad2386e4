"""docs/metrics.md, the example alert rules and the code name the same metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.metric_families import FAMILIES
from controller.metric_gates import STANDING

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
EXAMPLES = CHECKOUT / "deploy" / "prometheus"
SHOWN = {family.shown: family for family in FAMILIES}
NAME = re.compile(r"gwanmun_[a-z0-9_]+")


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((EXAMPLES / "gwanmun.rules.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_the_page_has_a_row_for_every_metric_and_no_other() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith(("| `gwanmun_", "| `process_"))]
    expected = [
        f"| `{family.shown}` | {family.type} | {', '.join(f'`{label}`' for label in family.labels) or '—'} | "
        f"{family.ko} · {family.en} |"
        for family in FAMILIES
    ]
    assert rows == expected


def test_the_page_names_every_state_of_a_lane() -> None:
    paragraph = PAGE[PAGE.index("`gwanmun_lane_state`의") :]
    for state in set(STANDING.values()):
        assert f"`{state}`" in paragraph, state


def test_every_metric_that_is_named_anywhere_exists() -> None:
    named = {name for file in EXAMPLES.iterdir() for name in NAME.findall(file.read_text(encoding="utf-8"))}
    named |= {name for name in NAME.findall(PAGE) if not name.endswith("_")}
    assert named <= set(SHOWN)
    assert len(named) > 20


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_rule_is_whole(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Gwanmun[A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in {"critical", "major", "minor", "warning"}
    korean, _, english = rule["annotations"]["summary"].partition(" / ")
    assert re.search("[가-힣]", korean)
    assert re.search("[a-z]", english)
    for opening, closing in ("()", "[]", "{}"):
        assert rule["expr"].count(opening) == rule["expr"].count(closing)
    named = [name for name in NAME.findall(rule["expr"]) if name in SHOWN]
    assert named or rule["expr"].startswith("up{")
    # A label that a rule looks at or shows is one of the metric's.
    used = re.findall(r"([a-z]+)(?:=|!=|=~)\"", rule["expr"]) + re.findall(
        r"\$labels\.([a-z]+)", str(rule["annotations"])
    )
    known = {label for name in named for label in SHOWN[name].labels} | {"job"}
    assert set(used) <= known


def test_the_scrape_configuration_is_whole() -> None:
    document = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text(encoding="utf-8"))
    assert document["rule_files"] == ["gwanmun.rules.yml"]
    assert document["scrape_configs"][0]["static_configs"][0]["targets"] == ["127.0.0.1:8080"]
