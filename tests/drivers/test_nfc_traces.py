"""What real wallets said over NFC, played back by a card under each driver: virtual antenna, PN532, PC/SC."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import nfc.clf
import pytest
from nfc.clf import pn532

from drivers.nfc.link import NfcEngagement, engage
from drivers.nfc.pcsc import PcscReader
from drivers.nfc.reader import NfcpyReader
from drivers.ports import LinkProtocolError, NfcCard
from mdoc.engagement import NfcOptions
from mdoc.ndef_handover import BleCarrier, LeRole, build_handover_request
from mdoc.transcript import NfcHandover
from protocol.clock import SystemClock
from testbed.phone.isodep import IsoDepTarget
from testbed.phone.nfc_air import PhoneModel
from testbed.phone.nfc_chip import Pn532, Presentation
from testbed.phone.nfc_time import ModelClock
from tests.drivers.test_nfc_pcsc import Scard
from tests.drivers.test_nfc_reader import free_port
from tests.nfc_traces import apple, apple_select, multipaz, needs_vectors, replay

pytestmark = needs_vectors

CLOCK = SystemClock()
GUARD_S = 10.0
SERVICE = UUID("b3d52ac4-a1b6-4b51-a22e-78ee55ef6eb6")
REQUEST = build_handover_request(ble=BleCarrier(LeRole.CENTRAL_PREFERRED, SERVICE), nfc=NfcOptions(65_535, 65_536))
"""What multipaz's reader offered in the trace."""
Answer = Callable[[bytes], bytes]


@contextlib.asynccontextmanager
async def at_the_virtual_antenna(answer: Answer, _: pytest.MonkeyPatch) -> AsyncIterator[NfcCard]:
    port = free_port()
    reader = NfcpyReader(f"udp:127.0.0.1:{port}", CLOCK)
    target = IsoDepTarget(port, b"\x08abc")
    serving = asyncio.create_task(asyncio.to_thread(target.serve, answer, GUARD_S))
    await reader.start()
    try:
        yield await asyncio.wait_for(anext(reader.cards()), GUARD_S)
    finally:
        target.stop()
        await asyncio.wait_for(serving, GUARD_S)
        target.close()
        await reader.stop()


@contextlib.asynccontextmanager
async def on_a_pn532(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NfcCard]:
    chip = Pn532(ModelClock())
    chip.present(Presentation(answer, PhoneModel().phone(random.Random(1))))

    def open_device(frontend: nfc.clf.ContactlessFrontend, _path: str) -> bool:
        monkeypatch.setattr(pn532.Chipset, "diagnose", lambda *_: True)
        log = logging.getLogger("nfc.test")
        frontend.device = pn532.Device(pn532.Chipset(chip, logger=log), logger=log)
        return True

    monkeypatch.setattr(nfc.clf.ContactlessFrontend, "open", open_device)
    reader = NfcpyReader("tty:AMA0:pn532", CLOCK, leave_timeout=0.0)
    await reader.start()
    try:
        yield await asyncio.wait_for(anext(reader.cards()), GUARD_S)
    finally:
        await reader.stop()


@contextlib.asynccontextmanager
async def on_a_pcsc_reader(answer: Answer, _: pytest.MonkeyPatch) -> AsyncIterator[NfcCard]:
    scard = Scard()
    scard.card = lambda command: (0, answer(command))
    reader = PcscReader("PICC", CLOCK, scard=scard, leave_timeout=0.0)
    await reader.start()
    try:
        yield await asyncio.wait_for(anext(reader.cards()), GUARD_S)
    finally:
        await reader.stop()


DRIVERS = [at_the_virtual_antenna, on_a_pn532, on_a_pcsc_reader]
every_driver = pytest.mark.parametrize("driver", DRIVERS, ids=[each.__name__ for each in DRIVERS])
Driver = Callable[[Answer, pytest.MonkeyPatch], contextlib.AbstractAsyncContextManager[NfcCard]]


async def read(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, answers: list[bytes]
) -> tuple[NfcEngagement, list[bytes]]:
    sent: list[bytes] = []
    async with driver(replay(answers, sent), monkeypatch) as card:
        found = await asyncio.wait_for(engage(card, CLOCK, request=REQUEST), GUARD_S)
        await card.release()
    assert not [thread for thread in threading.enumerate() if thread.name == "nfc-reader"]
    return found, sent


@every_driver
@pytest.mark.parametrize("handover", ["Static", "Negotiated"])
async def test_multipaz_is_asked_byte_for_byte_as_in_its_trace(
    driver: Driver, handover: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = multipaz(handover)
    found, sent = await read(driver, monkeypatch, [response for _, response in pairs])
    assert sent == [command for command, _ in pairs]
    select, request = pairs[-1][1][:-2], REQUEST.raw if handover == "Negotiated" else None
    assert found.handover == NfcHandover(select, request)
    assert found.ble == BleCarrier(LeRole.CENTRAL if request else LeRole.CENTRAL_PREFERRED, SERVICE)
    assert found.nfc == (None if request else NfcOptions(65_535, 65_536))


@every_driver
async def test_apple_wallet_is_polled_until_it_is_ready(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = apple()
    found, sent = await read(driver, monkeypatch, answers)
    assert len(sent) == len(answers)
    assert found.handover == NfcHandover(apple_select(), REQUEST.raw)
    assert found.ble == BleCarrier(LeRole.CENTRAL, SERVICE)


@every_driver
async def test_a_trace_that_breaks_off_is_one_error(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [response for _, response in multipaz("Negotiated")]
    answers[-1] = answers[-1][:40] + b"\x90\x00"
    answers += [b"\x6f\x00"] * 3
    async with driver(replay(answers, []), monkeypatch) as card:
        with pytest.raises(LinkProtocolError):
            await asyncio.wait_for(engage(card, CLOCK, request=REQUEST), GUARD_S)
        await card.release()
