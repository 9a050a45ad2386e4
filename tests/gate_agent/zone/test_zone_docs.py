"""docs/antipassback.md says what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from gate_agent.zone import Drop, Fact, FileZoneKeys, ZoneSettings
from gate_agent.zone.facts import Limits
from policy.situation import AntiPassbackFinding
from protocol import topics, zone

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "antipassback.md").read_text(encoding="utf-8")


def test_every_answer_and_every_reason_for_dropping_is_documented_in_order() -> None:
    answers = PAGE.split("| 답 answer |", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"^\| `(\w+)`", answers, re.MULTILINE) == list(Fact)
    reasons = PAGE.split("counted by reason:*\n", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"`(\w+)`", reasons) == list(Drop)


def test_the_documented_numbers_are_the_real_ones() -> None:
    settings = ZoneSettings("hq-1f")
    assert f"{settings.max_tags:,}" in PAGE
    assert f"| {zone.MAX_SENDERS} |" in PAGE
    assert zone.MAX_SENDERS == Limits.COUNT_ROWS
    assert f"{settings.roll_at:%H:%M} " in PAGE
    assert f"After {settings.cut_off_s:.0f} s without the link" in PAGE
    assert f"ends after {settings.reserve_s:.0f} s" in PAGE
    assert f"for {settings.overlap_s / 60:.0f} minutes more" in PAGE
    assert f"more than {Limits.SKEW_S:.0f} s ahead" in PAGE
    assert f"within {Limits.FORGIVE_LANE_S:.0f} s" in PAGE
    assert f"none answers for\n{Limits.SETTLE_S:.0f} s" in PAGE
    assert f"at most {Limits.MARK_S / 60:.0f} minutes" in PAGE
    assert (Limits.KEEP, Limits.SUSPECT_S, zone.BUCKETS) == (4, 10.0, 32), "in words on the page"
    assert f"is {zone.SIZE} bytes sealed" in PAGE
    assert topics.zone_tag("<site>", "<gate>", "<zone>") in PAGE


def test_the_documented_key_file_is_one(tmp_path: Path) -> None:
    text = PAGE.split("```toml\n", 1)[1].split("```", 1)[0].replace('"…"', f'"{"0f" * 32}"')
    period = tomllib.loads(text)["keys"][0]["period"].toordinal()
    path = tmp_path / "keys.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    assert FileZoneKeys(path).key("hq-1f", period) == b"\x0f" * 32


def test_the_answers_are_the_ones_the_rules_decide_with() -> None:
    assert [each.value for each in Fact] == [each.value for each in AntiPassbackFinding]
