"""The gate's own share of a tap in a running building: last byte of the presentation to relay, and memory of its processes."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import psutil

from bench.row import Row, quantile
from protocol.clock import SystemClock
from testbed.building import Building
from testbed.people import SECURE, Crowd
from testbed.runner import Runner
from testbed.scenario import GRANTED, Attempt, Script

NFC, PASS, BLE = 70, 40, 20
"""Presentations of each kind."""
BETWEEN_S = 0.4
MEGABYTE = 1_000_000


def _pss(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss) / MEGABYTE


async def _measure(directory: Path) -> list[Row]:
    building = Building(directory, SystemClock())
    try:
        await building.start()
        runner, crowd = Runner(building), Crowd(building)
        script = Script(building, crowd, runner.decided)
        phone = crowd.phone(crowd.person(access_class=SECURE))
        acts = [("NFC", script.nfc), ("QR pass", script.qr_pass), ("QR+BLE", script.qr_ble)]
        rows: list[Row] = []
        every: list[float] = []
        for (label, act), count in zip(acts, (NFC, PASS, BLE), strict=True):
            own: list[float] = []
            for number in range(count):
                lane = f"lane-{number % 2 + 1}"
                result = await runner.present(Attempt("", "", lane, act(phone, lane), GRANTED))
                if not result.expected or result.opened is None:
                    raise RuntimeError(f"{label}: {result.outcome}")
                own.append(float(result.opened.data["lat_ms"]["ours"]))
                await asyncio.sleep(BETWEEN_S)
            every += own
            rows.append(Row(f"last byte to relay, {label}, p50 of {count}", quantile(own, 0.5), "ms"))
        rows.append(Row(f"last byte to relay, all, p99 of {len(every)}", quantile(every, 0.99), "ms", None, 10))
        agent = psutil.Process(building.agent.pid)
        workers = [child for child in agent.children() if "drivers.camera.worker" in child.cmdline()]
        rows.append(Row("agent with two lanes, PSS", _pss(agent), "MB", None, 150))
        rows.append(Row("camera worker, PSS, the larger", max(map(_pss, workers)), "MB", None, 80))
        return rows
    finally:
        await building.stop()


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="gwanmun-bench-") as name:
        return asyncio.run(_measure(Path(name)))
