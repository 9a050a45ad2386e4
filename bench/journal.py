"""What a durable record costs at the gate: the journal's append beside a bare write and fdatasync of as many bytes."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from bench.disk import directory
from bench.records import data
from bench.row import Row, quantile
from gate_agent.journal import Journal
from protocol.clock import SystemClock
from protocol.events import Kind

APPENDS = 3000
"""Grants, one at a time, in turns with the bare write; each passage ends before the next, unmeasured."""
APPENDERS, EACH = 64, 250
"""Lanes of a full host that all record at once, and how many passages: a grant and its outcome each."""
MILLISECONDS = 1000
SPAN = 4 << 20
"""Bytes of the file that is written over; it does not grow, so that only its data has to reach the disk."""


class _Bare:
    """Bytes over a file that is already there."""

    def __init__(self, path: Path) -> None:
        self._file, self._at = os.open(path, os.O_RDWR | os.O_CREAT, 0o600), 0
        os.pwrite(self._file, bytes(SPAN), 0)
        os.fsync(self._file)

    def write(self, raw: bytes) -> None:
        if self._at + len(raw) > SPAN:
            self._at = 0
        os.pwrite(self._file, raw, self._at)
        os.fdatasync(self._file)
        self._at += len(raw)

    def close(self) -> None:
        os.close(self._file)


@contextmanager
def _bare(path: Path) -> Iterator[_Bare]:
    bare = _Bare(path)
    try:
        yield bare
    finally:
        bare.close()


def _journal(path: Path) -> Journal:
    key = ec.generate_private_key(ec.SECP256R1())
    return Journal(path, site="bench", gate="gate-1", clock=SystemClock(), random_bytes=os.urandom, sign=key)


async def _one_at_a_time(place: Path, appends: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each append, and of each bare write."""
    journal = _journal(place / "one.db")
    await journal.start()
    ours, bare = [], []
    try:
        with _bare(place / "bare") as file:
            for number in range(appends):
                begin = time.perf_counter()
                record = await journal.append(Kind.ACCESS_GRANTED, data(Kind.ACCESS_GRANTED, number))
                middle = time.perf_counter()
                file.write(record.raw)
                end = time.perf_counter()
                ours.append((middle - begin) * MILLISECONDS)
                bare.append((end - middle) * MILLISECONDS)
                await journal.append(Kind.PASSAGE_COMPLETED, data(Kind.PASSAGE_COMPLETED, number))
    finally:
        await journal.stop()
    return ours, bare


async def _all_at_once(place: Path, appenders: int, each: int) -> float:
    """Appends a second."""
    journal = _journal(place / "many.db")
    await journal.start()

    async def appender(number: int) -> None:
        for turn in range(each):
            for kind in (Kind.ACCESS_GRANTED, Kind.PASSAGE_COMPLETED):
                await journal.append(kind, data(kind, turn * appenders + number))

    try:
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(appenders):
                group.create_task(appender(number))
        return 2 * appenders * each / (time.perf_counter() - begin)
    finally:
        await journal.stop()


def rows(appends: int = APPENDS, appenders: int = APPENDERS, each: int = EACH) -> list[Row]:
    disk, kind = directory()
    with tempfile.TemporaryDirectory(prefix="gwanmun-bench-", dir=disk) as name:
        ours, bare = asyncio.run(_one_at_a_time(Path(name), appends))
        rate = asyncio.run(_all_at_once(Path(name), appenders, each))
    found = [
        Row(
            f"durable append on {kind}, p{share * 100:.0f} of {appends:,}",
            quantile(ours, share),
            "ms",
            quantile(bare, share),
        )
        for share in (0.5, 0.99)
    ]
    found.append(Row(f"durable appends on {kind}, {appenders} at once", rate, "appends/s"))
    return found
