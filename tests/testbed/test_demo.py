"""The scripted demo: every attempt ends as expected, every event reaches the controller exactly once, nothing issued leaks."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from protocol.events import Kind
from testbed import broker
from testbed.journal_tail import JournalTail

LAST_LINE = re.compile(
    r"demo: (\d+) presentations, (\d+) granted, (\d+) refused, 0 unexpected, (\d+) events, 0 lost, 0 duplicated"
)
GUARD_S = 180.0
EVENTS = Path(__file__).resolve().parents[2] / "docs" / "events.md"


def fields_by_name() -> dict[str, set[str]]:
    """What docs/events.md says of each event: its name and the fields of its `data`."""
    found: dict[str, set[str]] = {}
    for line in EVENTS.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        names = re.findall(r"`([a-z.]+_?[a-z]*)`", cells[1]) if len(cells) == 6 else []
        if len(names) == 1 and names[0] in set(Kind):
            found[names[0]] = set(re.findall(r"`([a-z_]+)`", cells[3]))
    every = re.search(r"^Every record has (.+) beside", EVENTS.read_text("utf-8"), re.MULTILINE)
    assert every is not None
    for fields in found.values():
        fields |= set(re.findall(r"`([a-z]+)`", every[1]))
    denied = "access.denied"  # documented as "as `access.granted`, and ..."
    found[denied] |= found["access.granted"]
    return found


@pytest.mark.xdist_group("machine")  # not beside a test that wears the disk out
@pytest.mark.skipif(broker.executable() is None, reason="mosquitto is not installed (apt install mosquitto)")
async def test_scripted_demo_ends_well(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gwanmun", "demo", "--scripted", "--dir", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(GUARD_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    text = output.decode()
    last = LAST_LINE.fullmatch(text.strip().splitlines()[-1])
    assert last is not None, text
    assert process.returncode == 0, text
    presentations, granted, refused, events = map(int, last.groups())
    assert presentations == granted + refused
    assert granted >= 9
    assert refused >= 13
    assert events > presentations
    documented = fields_by_name()
    for event in JournalTail(tmp_path / "gate" / "state" / "journal.db").read():
        assert set(event.data) <= documented[event.kind], event.raw
        assert {"v", "boot", "mono", "clk"} <= set(event.data), event.raw
    for log in ("agent.log", "controller.log"):
        assert "Traceback" not in (tmp_path / log).read_text("utf-8"), log
