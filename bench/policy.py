"""One decision with as many profiles as a document may have, all leading into one zone, and the time to read such a document."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from bench.row import Row, quantile
from policy.decision import decide
from policy.document import parse
from policy.limits import MAX_PROFILES
from policy.situation import AntiPassbackFinding, Attributes, Situation

DECISIONS = 20_000
POINTS, SCHEDULES, AGENCIES = 40, 60, 700
CIVIL = "kr.go.civilservant.1"


def document() -> str:
    """MAX_PROFILES profiles; each for some agencies, one card type, one access point and one of many schedules."""
    days = ("mon", "tue", "wed", "thu", "fri")
    lines = ['version = 1\ntimezone = "Asia/Seoul"\n[holidays]\ncountry = "KR"']
    lines.append('[zones.z]\n[zones.z.antipassback]\nmode = "timed"\nminutes = 5')
    for number in range(SCHEDULES):
        hours = f"{6 + number % 6:02}:00-{14 + number % 9:02}:{number % 60:02}"
        lines.append(f"[schedules.s{number}]\nholiday = []\n" + "\n".join(f'{day} = ["{hours}"]' for day in days))
    lines += [
        f'[points.p{number}]\ndirection = "entry"\nfrom = "outside"\nto = "z"\nentrance_group = "g"'
        for number in range(POINTS)
    ]
    for number in range(MAX_PROFILES):
        agencies = ", ".join(f'"{1_000_000 + (number + step * 37) % AGENCIES}"' for step in range(8))
        lines.append(
            f'[profiles.r{number}]\ndoc_types = ["{CIVIL}"]\naccess_classes = ["c{number % 5}"]\nagencies = [{agencies}]\n'
            f'card_types = ["t{number % 4}"]\npoints = ["p{number % POINTS}"]\nschedule = "s{number % SCHEDULES}"'
        )
    return "\n".join(lines)


def _cases() -> Iterator[tuple[str, Attributes, Situation]]:
    """Grants and refusals of every kind, spread over points, people and two weeks."""
    start = datetime(2026, 9, 20, tzinfo=UTC)
    for number in range(DECISIONS):
        who = Attributes(CIVIL, str(1_000_000 + number % AGENCIES), f"t{number % 4}", f"c{number % 5}")
        now = start + timedelta(minutes=number * 7 % 20_160)
        facts = Situation(now, "nfc", clock_error_s=1, antipassback=AntiPassbackFinding.CLEAR)
        yield f"p{number % POINTS}", who, facts


def rows() -> list[Row]:
    raw = document().encode()
    begin = time.perf_counter()
    policy = parse(raw)
    reading = time.perf_counter() - begin
    took: list[float] = []
    granted = 0
    for point, who, facts in _cases():
        begin = time.perf_counter()
        decision = decide(policy, point, who, facts)
        took.append((time.perf_counter() - begin) * 1e6)
        granted += decision.granted
    if not 0 < granted < DECISIONS:
        raise RuntimeError(f"{granted} of {DECISIONS} granted: the cases no longer cover both")
    return [
        Row("decision, 2,000 rules, p50", quantile(took, 0.5), "us"),
        Row("decision, 2,000 rules, p99", quantile(took, 0.99), "us", None, 200),
        Row(f"reading the document of {len(raw) / 1000:.0f} kB", reading * 1000, "ms"),
    ]
