"""Virtual cards at the virtual antenna, read through the NFC driver."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from drivers.nfc.reader import NfcpyReader
from drivers.ports import LinkError, LinkLostError, NfcCard
from protocol.clock import SystemClock
from testbed.card.card import Card
from testbed.card.field import NfcHolder, present_by_nfc
from testbed.card.issuer import CardCredential
from testbed.card.keys import Algorithm, KeyKind, algorithm
from testbed.card.misbehaving import Slow, Vanishing
from testbed.card.piv import VirtualPivCard
from testbed.card.pkoc import VirtualPkocCard
from testbed.phone.isodep import Ended
from tests.card_reader import GUARD_S, MDOC, SELECT, SELECT_PKOC, Transmit, ask, authenticate, block_of, shown, verify


def free_port() -> int:
    """Below the ephemeral range, where readers of other tests take theirs."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Lane:
    """A started reader, and a hand that holds cards to it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.reader = NfcpyReader(f"udp:127.0.0.1:{self.port}", SystemClock())
        self.cards = self.reader.cards()
        self.holder = NfcHolder(self.port)
        self._presented: list[asyncio.Task[Ended]] = []

    def hold(self, card: Card) -> asyncio.Task[Ended]:
        self._presented.append(asyncio.create_task(asyncio.to_thread(self.holder.present, card)))
        return self._presented[-1]

    async def card(self) -> NfcCard:
        return await asyncio.wait_for(anext(self.cards), GUARD_S)

    async def stop(self) -> None:
        self.holder.stop()
        await asyncio.wait_for(asyncio.gather(*self._presented, return_exceptions=True), GUARD_S)
        await asyncio.wait_for(self.reader.stop(), GUARD_S)


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    lane = Lane()
    await lane.reader.start()
    yield lane
    await lane.stop()


def over(card: NfcCard) -> Transmit:
    """For the reader of this test, in a thread."""
    loop = asyncio.get_running_loop()
    return lambda apdu: asyncio.run_coroutine_threadsafe(card.transceive(apdu), loop).result(GUARD_S)


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA_2048])
async def test_a_card_at_the_antenna_is_read_and_proven(
    lane: Lane, credentials: dict[KeyKind, CardCredential], kind: KeyKind
) -> None:
    credential = credentials[kind]
    held = lane.hold(VirtualPivCard(credential))
    card = await lane.card()
    transmit = over(card)
    assert await card.transceive(MDOC) == b"\x6a\x82"
    assert (await asyncio.to_thread(ask, transmit, SELECT))[1] == 0x9000
    assert await asyncio.to_thread(shown, transmit) == credential.certificate
    block = block_of(credential.key, b"n")
    response, _ = await asyncio.to_thread(authenticate, transmit, algorithm(credential.key), block)
    verify(credential.key.public_key(), b"n", response)
    await card.release()
    assert await asyncio.wait_for(held, GUARD_S) is Ended.DESELECTED


async def test_a_pkoc_card_at_the_antenna_answers_after_a_plastic_one_has_left(
    lane: Lane, credential: CardCredential
) -> None:
    lane.hold(VirtualPivCard(credential))
    first = await lane.card()
    assert await first.transceive(SELECT_PKOC) == b"\x6a\x82"
    await first.release()
    lane.hold(VirtualPkocCard(ec.generate_private_key(ec.SECP256R1())))
    assert await (await lane.card()).transceive(SELECT_PKOC) == bytes.fromhex("5C0201009000")


async def test_a_slow_card_is_given_time_over_the_air(lane: Lane, credential: CardCredential) -> None:
    """Its key answers only once the card has asked for time twice: S(WTX)."""

    def until_asked(_seconds: float) -> None:
        end = time.monotonic() + GUARD_S
        while lane.holder.waiting_times_asked < 2:
            assert time.monotonic() < end
            threading.Event().wait(0.01)

    lane.hold(Slow(VirtualPivCard(credential), 1.0, until_asked))
    card = await lane.card()
    await card.transceive(SELECT)
    response, status = await asyncio.to_thread(authenticate, over(card), Algorithm.P256, bytes(32))
    assert status == 0x9000
    public = credential.key.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(response, bytes(32), ec.ECDSA(Prehashed(hashes.SHA256())))


async def test_a_card_pulled_away_is_lost_to_the_reader(lane: Lane, credential: CardCredential) -> None:
    held = lane.hold(Vanishing(VirtualPivCard(credential), answers=1))
    card = await lane.card()
    await card.transceive(SELECT)
    with pytest.raises(LinkError):
        await card.transceive(bytes.fromhex("00CB3FFF055C035FC10100"))
    assert await asyncio.wait_for(held, GUARD_S) is Ended.VANISHED
    await card.release()
    with pytest.raises(LinkLostError):
        await card.transceive(SELECT)


async def test_without_a_reader_a_presentation_ends(credential: CardCredential) -> None:
    card = VirtualPivCard(credential)
    assert await asyncio.to_thread(lambda: present_by_nfc(card, free_port(), wait=0.0)) is Ended.NO_READER
