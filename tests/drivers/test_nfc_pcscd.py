"""The PC/SC driver against the real pcscd with a virtual reader (vpcd): APDUs of any size, phones that come and go, faults."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from drivers.nfc import open_reader
from drivers.nfc.link import engage
from drivers.nfc.pcsc import PcscReader
from drivers.ports import DriverError, LinkError, LinkLostError, LinkTimeoutError, NfcCard
from mdoc.engagement import NfcOptions
from mdoc.ndef_handover import build_handover_select
from protocol.clock import SystemClock
from testbed.phone.isodep import Application
from testbed.phone.nfc import PhoneApplication
from testbed.phone.nfc_vpcd import STORAGE_ATR, VirtualCard
from tests.pcscd import Pcscd, running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pcscd")]

CLOCK = SystemClock()
GUARD_S = 15.0
"""Nothing here takes that long; a test that does has failed."""
ENGAGEMENT = bytes(range(100))
EXTENDED = build_handover_select(ENGAGEMENT, nfc=NfcOptions(65_535, 65_536))
LOOK_S = 0.6
"""pcscd looks at a virtual reader every 0.4 s, and takes a phone that comes between two looks for the one that has left."""
MAX_APDU = 60_000
"""Bytes: vpcd frames an APDU with two bytes of length, and does not say what it carries."""


@pytest.fixture(scope="module")
def pcscd(tmp_path_factory: pytest.TempPathFactory) -> Pcscd:
    return running(tmp_path_factory.mktemp("pcscd"))


class Lane:
    """A started reader and the phones laid on it."""

    def __init__(self, pcscd: Pcscd) -> None:
        self.pcscd = pcscd
        self.reader = PcscReader("Virtual PCD 00 00", CLOCK, max_apdu=MAX_APDU)
        self.cards = self.reader.cards()
        self._laid: list[VirtualCard] = []

    async def lay(self, new_application: Callable[[], Application], **options: bytes) -> VirtualCard:
        await asyncio.sleep(LOOK_S)
        card = VirtualCard(self.pcscd.port, new_application, **options)
        self._laid.append(card)
        return card

    async def card(self) -> NfcCard:
        return await asyncio.wait_for(anext(self.cards), GUARD_S)

    async def stop(self) -> None:
        for card in self._laid:
            await asyncio.to_thread(card.remove)
        await asyncio.wait_for(self.reader.stop(), GUARD_S)
        self._laid.clear()


@pytest.fixture
async def lane(pcscd: Pcscd) -> AsyncIterator[Lane]:
    lane = Lane(pcscd)
    await lane.reader.start()
    yield lane
    await lane.stop()


def phone(on_message: Callable[[bytes], bytes | None] = lambda message: message[::-1]) -> Callable[[], Application]:
    return lambda: PhoneApplication(EXTENDED, on_message)


async def good_presentation(lane: Lane) -> None:
    laid = await lane.lay(phone())
    card = await lane.card()
    link = await (await engage(card, CLOCK)).open_link()
    await link.send(b"hello")
    assert await link.receive(GUARD_S) == b"olleh"
    closing = asyncio.create_task(link.close())
    assert await asyncio.to_thread(laid.powered_off.wait, GUARD_S)
    await asyncio.to_thread(laid.remove)
    await asyncio.wait_for(closing, GUARD_S)


async def test_messages_of_any_size_travel_both_ways(lane: Lane) -> None:
    laid = await lane.lay(phone())
    card = await lane.card()
    engagement = await engage(card, CLOCK)
    assert engagement.engagement == ENGAGEMENT
    link = await engagement.open_link()
    for size in (100, 1_000, 5_000, 20_000, 120_000):
        message = bytes(index * 7 % 256 for index in range(size))
        await link.send(message)
        assert await link.receive(GUARD_S) == message[::-1]
        assert card.present_since < link.last_byte_at <= CLOCK.monotonic()
    await asyncio.to_thread(laid.remove)
    await link.close()
    with pytest.raises(LinkLostError):
        await card.transceive(b"\x00\xa4\x04\x00")


async def test_a_reader_that_does_not_say_what_it_carries_gets_short_apdus(pcscd: Pcscd) -> None:
    lengths: list[int] = []

    def application() -> Application:
        inner = PhoneApplication(EXTENDED, lambda message: message[::-1])

        def counted(raw: bytes) -> bytes:
            lengths.append(len(raw))
            return inner(raw)

        return counted

    lane = Lane(pcscd)
    lane.reader = PcscReader("Virtual PCD 00 00", CLOCK)
    lane.cards = lane.reader.cards()
    await lane.reader.start()
    laid = await lane.lay(application)
    card = await lane.card()
    assert (card.max_command, card.max_response) == (261, 258)
    link = await (await engage(card, CLOCK)).open_link()
    await link.send(bytes(5_000))
    assert await link.receive(GUARD_S) == bytes(5_000)
    assert max(lengths) <= 261
    await asyncio.to_thread(laid.remove)
    await link.close()
    await lane.stop()


async def test_one_phone_after_the_other(lane: Lane) -> None:
    for _ in range(3):
        await good_presentation(lane)


async def test_a_phone_that_lies_there_already_is_seen(lane: Lane) -> None:
    await lane.lay(phone())
    await asyncio.sleep(0.5)
    card = await lane.card()
    assert (await engage(card, CLOCK)).engagement == ENGAGEMENT
    await card.release()


@pytest.mark.parametrize("exchanges", [1, 3, 6, 8])
async def test_a_phone_that_vanishes_at_any_step_is_lost_and_the_next_one_is_served(lane: Lane, exchanges: int) -> None:
    def vanishing() -> Application:
        inner, left = PhoneApplication(EXTENDED, lambda message: message[::-1]), [exchanges]

        def until_gone(raw: bytes) -> bytes | None:
            left[0] -= 1
            return inner(raw) if left[0] else None

        return until_gone

    await lane.lay(vanishing)
    card = await lane.card()

    async def session() -> None:
        link = await (await engage(card, CLOCK)).open_link()
        await link.send(bytes(100))
        await link.receive(GUARD_S)

    with pytest.raises(LinkError):
        await asyncio.wait_for(session(), GUARD_S)
    await asyncio.wait_for(card.release(), GUARD_S)
    await good_presentation(lane)


async def test_a_storage_card_is_passed_over(lane: Lane) -> None:
    waiting = asyncio.create_task(lane.card())
    storage = await lane.lay(phone(), atr=STORAGE_ATR)
    await asyncio.sleep(0.7)
    assert not waiting.done()
    await asyncio.to_thread(storage.remove)
    await lane.lay(phone())
    card = await waiting
    assert (await engage(card, CLOCK)).engagement == ENGAGEMENT
    await card.release()


async def test_the_event_loop_runs_on_during_consent_and_a_phone_given_up_is_waited_off(lane: Lane) -> None:
    consent = threading.Event()
    laid = await lane.lay(phone(lambda message: message if consent.wait(GUARD_S) else None))
    card = await lane.card()
    link = await (await engage(card, CLOCK)).open_link()
    await link.send(b"request")
    with pytest.raises(LinkTimeoutError):
        await link.receive(0.2)
    closing = asyncio.create_task(link.close())
    removing = asyncio.create_task(asyncio.to_thread(laid.remove))
    consent.set()
    await asyncio.wait_for(asyncio.gather(closing, removing), GUARD_S)
    await good_presentation(lane)


async def test_pcscd_that_stops_is_a_driver_error_until_it_is_back(lane: Lane) -> None:
    waiting = asyncio.create_task(lane.card())
    await asyncio.sleep(0.2)
    await asyncio.to_thread(lane.pcscd.stop)
    with pytest.raises(DriverError):
        await waiting
    with pytest.raises(DriverError):
        await lane.reader.start()
    await asyncio.to_thread(lane.pcscd.start)
    await lane.reader.start()
    lane.cards = lane.reader.cards()
    await good_presentation(lane)


async def test_stop_ends_the_wait_for_cards(lane: Lane) -> None:
    waiting = asyncio.ensure_future(anext(lane.cards))
    await asyncio.sleep(0.1)
    await asyncio.wait_for(lane.reader.stop(), GUARD_S)
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert not [thread for thread in threading.enumerate() if thread.name == "nfc-reader"]


@pytest.mark.parametrize("name", ["No such reader", "7", "Virtual"])
async def test_a_reader_that_is_not_there_or_not_the_only_one_is_a_driver_error(pcscd: Pcscd, name: str) -> None:
    reader = open_reader(driver="pcsc", reader=name, clock=CLOCK)
    with pytest.raises(DriverError, match="Virtual PCD 00 00, Virtual PCD 00 01"):
        await reader.start()
