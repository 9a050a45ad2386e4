from __future__ import annotations

import json
import logging
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.camera import CameraFigures
from gate_agent import health
from gate_agent.devices import Supervised
from gate_agent.journal import Journal
from gate_agent.log import SILENT, Lines, set_up
from policy.situation import ClockQuality
from protocol.backoff import Backoff
from protocol.events import Kind
from protocol.health import CameraHealth, parse
from tests.gate_agent.fakes import FakeClock


async def test_health_says_how_old_the_oldest_unsent_record_is(tmp_path: Path) -> None:
    clock = FakeClock()
    journal = Journal(tmp_path / "journal.db", site="s", gate="g", clock=clock, random_bytes=os.urandom)
    await journal.start()
    await journal.append(Kind.GATE_BOOT, {})
    clock.elapsed = 90
    await journal.append(Kind.GATE_BOOT, {})
    measured = await health.measure(
        journal,
        clock=clock,
        boot="0011",
        started_at=1000.0,
        state_dir=tmp_path,
        trust="abcd",
        quality=ClockQuality.SYNCED,
        degraded=lambda: ["camera.hall"],
    )
    await journal.stop()
    assert (measured.outbox, measured.outbox_age_s, measured.uptime_s) == (2, 90, 90)
    assert measured.degraded == ("camera.hall",)
    assert measured.rss_mb is not None
    assert measured.disk_free_mb is not None
    assert parse(measured.encode()) == measured


async def test_health_of_a_gate_whose_journal_cannot_be_read_still_goes_out(tmp_path: Path) -> None:
    journal = Journal(
        tmp_path / "absent" / "journal.db", site="s", gate="g", clock=FakeClock(), random_bytes=os.urandom
    )
    await journal.start()
    measured = await health.measure(
        journal,
        clock=FakeClock(),
        boot="0011",
        started_at=1000.0,
        state_dir=tmp_path / "absent",
        trust="abcd",
        quality=ClockQuality.SYNCED,
        degraded=lambda: ["journal"],
    )
    await journal.stop()
    assert (measured.outbox, measured.disk_free_mb) == (0, None)


class _Port:
    def __init__(self, figures: object) -> None:
        self.figures = figures

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def test_health_tells_how_well_the_cameras_that_work_read() -> None:
    figures = CameraFigures(14.6, 12, 9, 1, 1.4567, 3.9, ("gain",))
    ports = {
        "camera.yard": figures,
        "camera.hall": figures,
        "camera.off": figures,
        "camera.new": None,
        "nfc.hall": figures,
    }
    devices = {
        name: Supervised(
            _Port(each),
            name,
            clock=FakeClock(),
            backoff=Backoff(0.5, 30.0, random.Random(1)),
            report=lambda name, available, why: None,
        )
        for name, each in ports.items()
    }
    for name, device in devices.items():
        if name != "camera.off":
            await device.start()
    assert health.cameras(devices) == (
        CameraHealth("camera.hall", 15, 12, 9, 1, 1457, 3900, ("gain",)),
        CameraHealth("camera.yard", 15, 12, 9, 1, 1457, 3900, ("gain",)),
    )


def line(message: str, error: Exception | None = None) -> str:
    info = None
    if error is not None:
        try:
            raise error
        except Exception:
            info = sys.exc_info()
    return Lines().format(logging.LogRecord("gate_agent.lane", logging.ERROR, "f", 1, message, None, info))


def test_a_log_entry_is_one_line() -> None:
    text = line('two\nlines and "quotes"')
    assert text == f"level=error src=gate_agent.lane msg={json.dumps('two lines and ' + chr(34) + 'quotes' + chr(34))}"


def test_the_text_of_an_unexpected_exception_is_not_logged() -> None:
    text = line("failed", ValueError("what a phone sent"))
    assert "ValueError@" in text
    assert "test_health_and_log.py" in text
    assert "what a phone sent" not in text


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in SILENT}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, each in levels.items():
        logging.getLogger(name).setLevel(each)


def test_libraries_that_log_addresses_are_silent(restored_logging: None, capsys: pytest.CaptureFixture[str]) -> None:
    set_up()
    for name in SILENT:
        logging.getLogger(name).error("AA:BB:CC:DD:EE:FF")
    logging.getLogger("gate_agent.lane").info("seen")
    assert capsys.readouterr().err == 'level=info src=gate_agent.lane msg="seen"\n'
