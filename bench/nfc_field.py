"""An empty NFC field: what a polling lane costs, and how late a tap is seen, over a serial line to a modelled PN532 that takes as
long as a chip does, and over the virtual antenna.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import random
import select
import socket
import threading
import time
import tty
from collections.abc import Callable

import nfc.clf
import nfc.clf.transport
from nfc.clf import pn532

from bench.row import Row, quantile
from drivers.nfc.reader import NfcpyReader
from drivers.ports import NfcReader
from protocol.clock import SystemClock
from testbed.phone.nfc import PhoneNfc
from testbed.phone.nfc_air import TYPICAL
from testbed.phone.nfc_chip import Pn532, Presentation

CLOCK = SystemClock()
SECONDS = 4.0
TAPS = 25
SEED = 14443
FRAME = 2048


class _RealTime:
    """What modelled time is to a model: here it really passes."""

    def monotonic(self) -> float:
        return time.monotonic()

    def advance(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)


class SerialChip:
    """A PN532 at the other end of a pseudo terminal, in real time, in a thread whose CPU time is known."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self.chip = Pn532(_RealTime(), byte_s=0.0)  # a thread's shortest sleep is longer than a byte; see `_serve`
        self.cpu = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="chip", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if select.select([self._master], [], [], 0.1)[0]:
                self.chip.write(os.read(self._master, FRAME))
                for answer in self.chip.answers():
                    os.write(self._master, answer)
            self.cpu = time.thread_time()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)


class _Frontend(nfc.clf.ContactlessFrontend):  # type: ignore[misc]  # nfcpy ships no types
    def __init__(self, path: str) -> None:
        super().__init__()
        self._port = path

    def open(self, _path: str) -> bool:
        line = nfc.clf.transport.TTY(self._port)
        line.TYPE = "pseudo terminal"  # which has no speed to be changed
        self.device = pn532.Device(pn532.Chipset(line, logger=pn532.log), logger=pn532.log)
        return True


class SerialReader(NfcpyReader):
    """The gate's own nfcpy reader on a pseudo terminal."""

    def __init__(self, path: str) -> None:
        super().__init__("tty:virtual:pn532", CLOCK)
        self._terminal = path

    def _prepare(self) -> None:
        super()._prepare()
        self._frontend = _Frontend(self._terminal)


async def share(reader: NfcReader, of_others: Callable[[], float] = lambda: 0.0) -> float:
    """Per cent of one core that the reader takes while nobody comes. `of_others`: CPU seconds that are not its own."""
    cards = reader.cards()
    waiting = asyncio.ensure_future(anext(cards))
    await asyncio.sleep(0.5)
    begin, others, at = time.process_time(), of_others(), time.monotonic()
    await asyncio.sleep(SECONDS)
    used = time.process_time() - begin - (of_others() - others)
    elapsed = time.monotonic() - at
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return used / elapsed * 100


async def taps_on_the_line(reader: NfcReader, chip: Pn532, source: random.Random) -> list[float]:
    """Milliseconds from a phone's coming to the moment at which it is seen; it comes at any time of a look."""
    cards, late = reader.cards(), []
    for _ in range(TAPS):
        at = CLOCK.monotonic() + source.uniform(0.1, 0.2)
        chip.present(Presentation(lambda _: b"\x6a\x82", TYPICAL.phone(source)), at=at)
        card = await anext(cards)
        late.append((card.present_since - at) * 1000)
        await card.release()
    return late


async def taps_at_the_antenna(reader: NfcReader, port: int, source: random.Random) -> list[float]:
    """The same with the phone of the testbed."""
    cards, late = reader.cards(), list[float]()
    for _ in range(TAPS):
        phone, came = PhoneNfc(port), list[float]()

        def present(phone: PhoneNfc = phone, came: list[float] = came) -> None:
            time.sleep(source.uniform(0.1, 0.2))
            came.append(CLOCK.monotonic())
            phone.present_application(lambda _: b"\x6a\x82")

        presenting = asyncio.ensure_future(asyncio.to_thread(present))
        card = await anext(cards)
        late.append((card.present_since - came[0]) * 1000)
        await card.release()
        phone.stop()
        await presenting
    return late


def _free_port() -> int:
    """Below the ephemeral range, where the reader takes its own."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def _measure() -> list[Row]:
    source, rows = random.Random(SEED), list[Row]()  # noqa: S311  # repeatable, not secret
    serial = SerialChip()
    reader: NfcReader = SerialReader(serial.path)
    await reader.start()
    try:
        cost = await share(reader, lambda: serial.cpu)
        rows += _rows("PN532 on a serial line", cost, await taps_on_the_line(reader, serial.chip, source))
    finally:
        await reader.stop()
        serial.close()
    port = _free_port()
    reader = NfcpyReader(f"udp:127.0.0.1:{port}", CLOCK)
    await reader.start()
    try:
        cost = await share(reader)
        rows += _rows("virtual antenna", cost, await taps_at_the_antenna(reader, port, source))
    finally:
        await reader.stop()
    return rows


def _rows(name: str, cost: float, late: list[float]) -> list[Row]:
    return [
        Row(f"NFC, empty field, {name}, share of one core", cost, "%", None, 2.0),
        Row(f"NFC, tap seen after, {name}, p50 of {len(late)}", quantile(late, 0.5), "ms"),
        Row(f"NFC, tap seen after, {name}, longest", max(late), "ms", None, 100.0),
    ]


def rows() -> list[Row]:
    return asyncio.run(_measure())
