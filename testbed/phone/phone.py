"""A phone that presents: it shows what the gate asks and by whom, asks consent, and answers over BLE, NFC or by a QR pass.

No network call is made from engagement to end; engagement key, BLE address, service UUID and NFC UID are fresh per
presentation. A misbehaving phone is a subclass that overrides `answer` (testbed.scenario).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drivers.ports import LinkError
from mdoc.ble import ble_ident
from mdoc.engagement import BleOptions, DeviceEngagement, NfcOptions, build_engagement, to_qr
from mdoc.errors import MdocError
from mdoc.holder import Asked, HolderSession
from mdoc.ndef_handover import BleCarrier, HandoverRequest, LeRole, build_handover_select
from mdoc.qrpass import present_pass
from mdoc.transcript import Handover, NfcHandover, QrHandover, WalkUpHandover
from protocol.clock import Clock
from testbed.phone.ble import PhonePeripheral
from testbed.phone.central import PhoneCentral
from testbed.phone.nfc import PhoneNfc
from testbed.phone.wallet import Held, Wallet

NFC_LIMITS = NfcOptions(max_command=0xFFFF, max_response=0x10000)
BLE_PATIENCE_S = 15.0
ARMED_S = 60.0
"""Longest time for which a holder arms a walk-up presentation."""
Elements = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Question:
    """What the holder is asked on the phone's screen."""

    reader: str | None
    """Common name of the reader's certificate, or None where it could not be proved who asks."""
    doc_type: str
    elements: Elements


Consent = Callable[[Question], bool]


class BleSide(Protocol):
    """A phone's end of a BLE session, in either role."""

    async def receive(self, timeout: float) -> bytes: ...

    async def send(self, message: bytes) -> None: ...

    async def vanish(self) -> None: ...


class Screen(Protocol):
    """The phone's screen in front of a lane's camera."""

    async def show(self, text: str) -> None: ...

    async def clear(self) -> None: ...


def agree_to_proved_readers(question: Question) -> bool:
    """The default holder: yes, but only to a reader whose authentication holds."""
    return question.reader is not None


class Phone:
    """One holder's phone."""

    def __init__(
        self,
        wallet: Wallet,
        clock: Clock,
        *,
        consent: Consent = agree_to_proved_readers,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.wallet, self.clock, self.random_bytes = wallet, clock, random_bytes
        self._consent = consent

    # What the phone answers.

    def answer(self, session: HolderSession, asked: Asked, held: Held, *, carrier: str) -> bytes | None:
        """The session message for a request; None: the phone says nothing at all."""
        question = self.question(asked)
        if not self._consent(question):
            self._remember(carrier, question, "declined")
            return session.decline()
        message = session.respond(held.credential, held.device_key, asked.request.items.elements)
        self._remember(carrier, question, "shared")
        return message

    def question(self, asked: Asked) -> Question:
        reader = None
        if asked.reader is not None:
            names = asked.reader.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            reader = str(names[0].value) if names else "?"
        return Question(reader, asked.request.items.doc_type, asked.request.items.elements)

    def _remember(self, carrier: str, question: Question, outcome: str) -> None:
        shared = question.elements if outcome == "shared" else {}
        self.wallet.remember(self.clock.now(), carrier=carrier, reader=question.reader, shared=shared, outcome=outcome)

    def credential_for(self, asked: Asked) -> Held | None:
        return self.wallet.find(asked.request.items.doc_type)

    def on_message(self, session: HolderSession, message: bytes, carrier: str) -> bytes | None:
        """One reader message in, the phone's answer out; None when the session is over."""
        request = session.receive(message)
        if request is None:
            return None
        asked = session.who_asks(request.doc_requests[0], self.wallet.reader_roots, self.clock.now())
        held = self.credential_for(asked)
        if held is None:
            return session.decline()
        return self.answer(session, asked, held, carrier=carrier)

    # How it travels.

    def _engage(self, *, ble: BleOptions | None, nfc: NfcOptions | None) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        return build_engagement(ephemeral.public_key(), ble=ble, nfc=nfc), ephemeral

    async def by_ble(self, hci: str, screen: Screen, *, connects: bool = False) -> None:
        """Show the engagement as a QR code, then BLE: serve one reader (mdoc peripheral server mode), or with `connects` go and
        find it (mdoc central client mode)."""
        service = UUID(bytes=self.random_bytes(16), version=4)
        if connects:
            options = BleOptions(central_client=True, central_client_uuid=service)
        else:
            options = BleOptions(peripheral_server=True, peripheral_server_uuid=service)
        engagement, ephemeral = self._engage(ble=options, nfc=None)
        session = HolderSession(engagement, ephemeral, QrHandover())
        await self._over_ble(hci, service, engagement, session, connects=connects, screen=screen)

    async def by_tap(self, port: int, hci: str, *, connects: bool = True, wait: float = 10.0) -> None:
        """Hold the phone to the reader: negotiated handover to BLE under the reader's UUID, then as `by_ble`. With `connects` it
        behaves as Apple's wallet does."""
        engagement, ephemeral = self._engage(ble=None, nfc=None)
        role = LeRole.CENTRAL if connects else LeRole.PERIPHERAL
        loop = asyncio.get_running_loop()
        agreed: asyncio.Future[tuple[UUID, HolderSession]] = loop.create_future()

        def choose(request: HandoverRequest) -> bytes:
            select = build_handover_select(engagement, ble=BleCarrier(role))
            if request.ble is not None and request.ble.uuid is not None:
                session = HolderSession(engagement, ephemeral, NfcHandover(select, request.raw))
                loop.call_soon_threadsafe(_settle, agreed, (request.ble.uuid, session))
            return select

        antenna = asyncio.ensure_future(self._at_antenna(port, choose, lambda _message: None, wait=wait))
        try:
            both: tuple[asyncio.Future[Any], ...] = (antenna, agreed)
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if agreed.done():
                service, session = agreed.result()
                await self._over_ble(hci, service, engagement, session, connects=connects)
            await antenna
        finally:
            antenna.cancel()
            await asyncio.gather(antenna, return_exceptions=True)

    async def _over_ble(
        self,
        hci: str,
        service: UUID,
        engagement: bytes,
        session: HolderSession,
        *,
        connects: bool,
        screen: Screen | None = None,
    ) -> None:
        """One session in the role chosen; the engagement stands on `screen` until a reader has begun."""
        async with await (PhoneCentral if connects else PhonePeripheral).open(
            hci, random_bytes=self.random_bytes
        ) as radio:
            if isinstance(radio, PhonePeripheral):
                await radio.advertise(service)
            if screen is not None:
                await screen.show(to_qr(engagement))
            try:
                if isinstance(radio, PhonePeripheral):
                    await radio.wait_started(BLE_PATIENCE_S)
                else:
                    ident = ble_ident(DeviceEngagement.parse(engagement).key_bytes.raw)
                    await radio.begin(service, ident, BLE_PATIENCE_S)
            finally:
                if screen is not None:
                    await screen.clear()
            await self.talk(radio, session)

    async def walk_up(
        self, hci: str, reader_group: str, elements: Collection[str], *, seconds: float = ARMED_S
    ) -> bool:
        """Arm one presentation of `elements` for proved readers of `reader_group`, for `seconds`. True once it was given."""
        given: list[bool] = []

        def consent(question: Question) -> bool:
            asked = {element for each in question.elements.values() for element in each}
            given.append(question.reader is not None and asked <= set(elements))
            return given[-1]

        armed = copy(self)
        armed._consent = consent
        try:
            async with asyncio.timeout(min(seconds, ARMED_S)):
                while True not in given:
                    # A reader that could not be proved has spent nothing: arm again, under another address and key.
                    engagement, ephemeral = self._engage(ble=None, nfc=None)
                    session = HolderSession(engagement, ephemeral, WalkUpHandover(reader_group, engagement))
                    async with await PhonePeripheral.open(hci, random_bytes=self.random_bytes) as peripheral:
                        await peripheral.arm(engagement)
                        await peripheral.wait_started(ARMED_S)
                        await armed.talk(peripheral, session, carrier="walk_up")
        except TimeoutError:
            pass
        return True in given

    async def talk(self, radio: BleSide, session: HolderSession, *, carrier: str = "ble") -> None:
        """Answer messages until the reader ends the session."""
        try:
            while True:
                message = await radio.receive(BLE_PATIENCE_S)
                reply = await asyncio.to_thread(self.on_message, session, message, carrier)
                if reply is None:
                    return
                await radio.send(reply)
        except (LinkError, MdocError):
            return  # the reader has left, or is not one we can talk to: nothing more to do for a phone

    async def by_nfc(self, port: int, *, vanish_after_messages: int | None = None, wait: float = 10.0) -> None:
        """Hold the phone to the reader: static handover, then NFC data transfer."""
        engagement, ephemeral = self._engage(ble=None, nfc=NFC_LIMITS)
        select = build_handover_select(engagement, nfc=NFC_LIMITS)
        handover: Handover = NfcHandover(select, None)
        session = HolderSession(engagement, ephemeral, handover)

        def on_message(message: bytes) -> bytes | None:
            try:
                return self.on_message(session, message, "nfc")
            except MdocError:
                return session.decline()

        await self._at_antenna(port, select, on_message, wait=wait, vanish_after_messages=vanish_after_messages)

    async def _at_antenna(
        self,
        port: int,
        handover: bytes | Callable[[HandoverRequest], bytes],
        on_message: Callable[[bytes], bytes | None],
        *,
        wait: float,
        vanish_after_messages: int | None = None,
    ) -> None:
        """Until the reader has let go. Raises OSError when another phone stays in its field for longer than `wait` seconds."""
        antenna = PhoneNfc(port, random_bytes=self.random_bytes)
        done = asyncio.get_running_loop().create_future()

        def run() -> None:
            error: Exception | None = None
            try:
                antenna.present(handover, on_message, wait=wait, vanish_after_messages=vanish_after_messages)
            except OSError as caught:
                error = caught
            done.get_loop().call_soon_threadsafe(_settle, done, error)

        thread = threading.Thread(target=run, name="phone-nfc", daemon=True)
        thread.start()
        try:
            error = await done
        except asyncio.CancelledError:
            antenna.stop()
            raise
        if error is not None:
            raise error

    async def by_pass(
        self,
        screen: Screen,
        audience: str,
        *,
        hold: Callable[[], Awaitable[None]],
        challenge: str | None = None,
    ) -> str:
        """Show a fresh one-shot pass while `hold` lasts; returns the text shown. `challenge`: digits on the lane's sign."""
        card = self.wallet.passes[0]
        nonce = self.random_bytes(8) if challenge is None else challenge.encode()
        text = present_pass(card.card, card.key, audience=audience, now=self.clock.now(), nonce=nonce).decode()
        self.wallet.remember(self.clock.now(), carrier="qr", reader=audience, shared={}, outcome="shown")
        await screen.show(text)
        try:
            await hold()
        finally:
            await screen.clear()
        return text


def _settle(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)
