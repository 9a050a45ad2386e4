"""What the gate does with an NFC card: read the engagement (static or negotiated handover), then carry the session by ENVELOPE.

Runs the sans-I/O exchanges of `mdoc.negotiated_handover` and `mdoc.apdu` over any `drivers.ports.NfcCard`
(ISO/IEC 18013-5 8.2.2.1 and 8.3.3.1.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable
from uuid import UUID

from drivers.ports import BleRole, Carrier, LinkError, LinkProtocolError, LinkTimeoutError, NfcCard
from mdoc import apdu, limits, negotiated_handover
from mdoc.engagement import BleOptions, DeviceEngagement, NfcOptions
from mdoc.errors import MalformedError, NotReadyError
from mdoc.ndef_handover import BleCarrier, HandoverRequest, LeRole, build_handover_request
from mdoc.transcript import NfcHandover
from mdoc.type4tag import Pause, Shortcuts
from protocol.clock import Clock

ENGAGE_TIMEOUT_S = 5.0
"""Longest time for reading the engagement, whatever the card does."""
LOCKED_PAUSE_S = 0.2
"""Seconds between two tries while the phone is locked."""
LOCKED_PATIENCE_S = 2.0
"""How long a locked phone is asked again by default."""
CLOSE_GRACE_S = 0.5
"""How long `close` lets a last message (session termination) go out."""

T = TypeVar("T")


class PhoneNotReadyError(LinkError):
    """The phone gives no engagement: locked, or no wallet presents. The person has to unlock it and tap again."""


@runtime_checkable
class _Stamped(Protocol):
    """A card that stamps each response where it arrives, before the event loop has a part in it."""

    @property
    def last_byte_at(self) -> float: ...


def last_byte_at(card: NfcCard, clock: Clock) -> float:
    """Monotonic time at which the card's newest response was complete."""
    return card.last_byte_at if isinstance(card, _Stamped) else clock.monotonic()


async def run(card: NfcCard, steps: Generator[bytes | Pause, bytes, T], first: bytes | None = None) -> T:
    """Run a sans-I/O exchange over `card`. `first`: the response to its first command, where the card has already given it.
    Raises LinkError and whatever the exchange raises."""
    try:
        step = next(steps)
        if first is not None:
            step = steps.send(first)
        while True:
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                step = steps.send(b"")
            else:
                step = steps.send(await card.transceive(step))
    except StopIteration as done:
        result: T = done.value
        return result


class NfcLink:
    """One session over NFC data transfer (drivers.ports.Link). Each message sent is answered by one message.

    `send` starts the exchange, `receive` waits for its answer: the phone's holder may take time to consent. After a
    receive that timed out, `receive` may be called again. Limits are data field lengths in bytes.
    """

    def __init__(self, card: NfcCard, clock: Clock, *, max_command: int, max_response: int) -> None:
        self._card, self._clock = card, clock
        self._max_command, self._max_response = max_command, max_response
        self._exchange: asyncio.Task[bytes] | None = None
        self._last_byte_at = clock.monotonic()

    @property
    def carrier(self) -> Carrier:
        return Carrier.NFC

    @property
    def last_byte_at(self) -> float:
        return self._last_byte_at

    async def send(self, message: bytes) -> None:
        """Raises LinkProtocolError over 256 kB or while an answer is still to be received."""
        if self._exchange is not None:
            raise LinkProtocolError("the answer to the message before has not been received")
        if len(message) > limits.MAX_MESSAGE:
            raise LinkProtocolError("message longer than the limit")
        self._exchange = asyncio.create_task(self._transfer(message))
        await asyncio.sleep(0)

    async def receive(self, timeout: float) -> bytes:
        if self._exchange is None:
            raise LinkProtocolError("nothing has been sent that the phone could answer")
        try:
            async with asyncio.timeout(timeout):
                answer = await asyncio.shield(self._exchange)
        except TimeoutError:
            raise LinkTimeoutError("no complete message in time") from None
        except LinkError:
            self._exchange = None
            raise
        self._exchange = None
        return answer

    async def close(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            try:
                await asyncio.wait((exchange,), timeout=CLOSE_GRACE_S)
            finally:
                exchange.cancel()
            await asyncio.wait((exchange,), timeout=CLOSE_GRACE_S)
            if exchange.done() and not exchange.cancelled():
                exchange.exception()  # marks it as seen: nobody waits for the answer any more
        await self._card.release()

    async def _transfer(self, message: bytes) -> bytes:
        try:
            steps = apdu.exchange(message, max_command=self._max_command, max_response=self._max_response)
            answer = await run(self._card, steps)
        except apdu.ApduError as error:
            raise LinkProtocolError(str(error)) from error
        self._last_byte_at = last_byte_at(self._card, self._clock)
        return answer


@dataclass(frozen=True, slots=True)
class NfcEngagement:
    """What a tap gave. `engagement` are the bytes received; `handover` holds both handover messages, for the transcript.

    `ble` and `nfc` are the carriers agreed on for the session; `open_link` uses the second.
    """

    engagement: bytes = field(repr=False)
    handover: NfcHandover = field(repr=False)
    ble: BleCarrier | None
    nfc: NfcOptions | None
    _card: NfcCard = field(repr=False)
    _clock: Clock = field(repr=False)

    def ble_options(self) -> BleOptions | None:
        """The BLE carrier as options; from the engagement where the handover names no UUID. Raises MalformedError."""
        if self.ble is None:
            return None
        if self.ble.uuid is not None:
            return self.ble.options()
        return DeviceEngagement.parse(self.engagement).ble

    async def open_link(self) -> NfcLink:
        """Select the mdoc application. Raises LinkError, also when the phone does not offer NFC data transfer."""
        if self.nfc is None:
            raise LinkProtocolError("the phone offers no NFC data transfer")
        try:
            await run(self._card, apdu.select(apdu.MDOC_AID))
        except apdu.ApduError as error:
            raise LinkProtocolError(str(error)) from error
        offered = nfc_options(self._card)
        return NfcLink(
            self._card,
            self._clock,
            max_command=min(self.nfc.max_command, offered.max_command),
            max_response=min(self.nfc.max_response, offered.max_response),
        )


def nfc_options(card: NfcCard) -> NfcOptions:
    """What reader and card carry between them, as data field lengths."""
    return NfcOptions(apdu.command_data(card.max_command), apdu.response_data(card.max_response))


_LE_ROLE: Mapping[tuple[BleRole, ...], LeRole] = {
    (BleRole.CENTRAL,): LeRole.CENTRAL,
    (BleRole.PERIPHERAL,): LeRole.PERIPHERAL,
    (BleRole.CENTRAL, BleRole.PERIPHERAL): LeRole.CENTRAL_PREFERRED,
    (BleRole.PERIPHERAL, BleRole.CENTRAL): LeRole.PERIPHERAL_PREFERRED,
}


def handover_request(
    card: NfcCard, *, ble: UUID | None, roles: Sequence[BleRole] = (BleRole.CENTRAL,), prefer: Carrier
) -> HandoverRequest:
    """What a reader offers in a negotiated handover: NFC data transfer, and BLE with the service `ble`, if given, in the reader's
    `roles`, the preferred one first.

    `prefer` comes first: of several carriers a phone takes the first that it can (Connection Handover 1.5, 2.5).
    """
    carrier = None if ble is None else BleCarrier(_LE_ROLE[tuple(roles)], ble)
    return build_handover_request(ble=carrier, nfc=nfc_options(card), nfc_first=prefer is Carrier.NFC)


async def engage(
    card: NfcCard,
    clock: Clock,
    *,
    request: HandoverRequest | None = None,
    shortcuts: Shortcuts | None = None,
    patience: float = LOCKED_PATIENCE_S,
    on_not_ready: Callable[[], None] = lambda: None,
    selected: bytes | None = None,
) -> NfcEngagement:
    """Read the engagement of the phone in the field. A locked phone is asked again for `patience` seconds;
    `on_not_ready` is called each time, so that a sign may say what to do. `selected`: the phone's response to
    mdoc.type4tag.SELECT_APPLICATION, where it has been asked already.

    `request` is what we offer to a phone that negotiates; None takes static handover only. Raises PhoneNotReadyError,
    LinkProtocolError (malformed or refused), LinkLostError, LinkTimeoutError. The caller releases the card.
    """
    give_up = clock.monotonic() + patience
    try:
        async with asyncio.timeout(ENGAGE_TIMEOUT_S + patience):
            while True:
                try:
                    answered, selected = selected, None
                    found = await run(card, negotiated_handover.engage(request, shortcuts), answered)
                    break
                except NotReadyError as error:
                    if clock.monotonic() >= give_up:
                        raise PhoneNotReadyError(str(error)) from error
                    on_not_ready()
                    await asyncio.sleep(LOCKED_PAUSE_S)
    except MalformedError as error:
        raise LinkProtocolError(str(error)) from error
    except TimeoutError:
        raise LinkTimeoutError("the engagement could not be read in time") from None
    select = found.select
    return NfcEngagement(select.engagement, found.handover, select.ble, select.nfc, card, clock)
