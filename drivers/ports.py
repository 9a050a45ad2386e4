"""What the gate agent asks of hardware: one small interface per port, and the errors they may raise.

Times are seconds on the monotonic clock of the process unless a name says otherwise. Messages are whole session messages;
BLE chunk framing and NFC ENVELOPE chaining live under `Link` and nowhere else. Everything here is called from one asyncio
loop; a driver keeps its blocking library in a thread or a worker process of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class Carrier(StrEnum):
    """How the presentation travelled."""

    BLE = "ble"
    NFC = "nfc"
    QR = "qr"
    WALK_UP = "walk_up"
    """BLE to a phone that its holder armed beforehand; nothing was shown or tapped at the lane."""
    PIV = "piv"
    """A plastic card, whose card-authentication key answered over NFC."""
    PKOC = "pkoc"
    """An enrolled key in a card or phone, which answered over NFC."""


class Direction(StrEnum):
    """Direction of passage through an access point (ONVIF: from/to area)."""

    IN = "in"
    OUT = "out"


class DriverError(Exception):
    """The device is absent, failed or refused a command. The supervisor restarts the driver with back-off."""


class LinkError(Exception):
    """The exchange with one phone ended without a result. Never a fault of the device."""


class LinkLostError(LinkError):
    """The phone went out of the field, disconnected or stopped answering at link level."""


class LinkTimeoutError(LinkError):
    """The phone is there but sent no complete message within the time given."""


class LinkProtocolError(LinkError):
    """The phone broke the rules of the link (bad chunk prefix, wrong tag, over a limit)."""


class LinkEndedError(LinkError):
    """The phone ended the session in good order (BLE State 0x02)."""


class Link(Protocol):
    """One open channel to one phone."""

    @property
    def carrier(self) -> Carrier: ...

    @property
    def last_byte_at(self) -> float:
        """Monotonic time at which the last byte of the newest received message arrived."""
        ...

    async def send(self, message: bytes) -> None:
        """Send one whole message. Raises LinkError."""
        ...

    async def receive(self, timeout: float) -> bytes:
        """Wait at most `timeout` seconds for one whole message. Raises LinkError."""
        ...

    async def close(self) -> None:
        """End the exchange. May take seconds (BlueZ); never raises; never awaited before a lane opens."""
        ...


class BleRole(StrEnum):
    """The reader's role on the air, named as GAP names it."""

    CENTRAL = "central"
    """The phone advertises and is the GATT server (mdoc peripheral server mode, ISO/IEC 18013-5 8.3.3.1.1)."""
    PERIPHERAL = "peripheral"
    """The reader advertises and is the GATT server (mdoc central client mode)."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One advertisement of an armed phone (walk-up)."""

    peer: str
    """Tells phones apart while they advertise, the same at every adapter. Held in memory only, and never shown."""
    rssi: int
    """Received signal strength, dBm."""
    at: float
    """Monotonic time."""


@dataclass(frozen=True, slots=True)
class Approached:
    """A phone that was walked up with: its engagement as read, and the open link."""

    engagement: bytes
    link: Link


class Ble(Protocol):
    """One adapter, shared by any number of lanes."""

    @property
    def roles(self) -> Sequence[BleRole]:
        """What it may be used as; the first is preferred where a phone can both."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def gone(self) -> None:
        """Waits until the radio is gone, used or not, and raises DriverError then."""
        ...

    async def connect(self, service: UUID, timeout: float) -> Link:
        """As central: find the phone that advertises `service`, connect, subscribe and write State = start.
        Raises LinkError, or DriverError when the radio itself failed."""
        ...

    def reserve(self) -> UUID:
        """A fresh service for one handover in which the gate says what is to be used; published ahead where that is possible."""
        ...

    async def serve(self, service: UUID, ident: bytes, timeout: float) -> Link:
        """As peripheral: serve and advertise `service` with this lane's Ident until a phone has written State = start.
        Raises LinkError, or DriverError when the radio itself failed."""
        ...

    def sightings(self) -> AsyncIterator[Sighting]:
        """Armed phones as they are heard, for as long as somebody asks (walk-up). Raises DriverError."""
        ...

    async def approach(self, peer: str, timeout: float) -> Approached:
        """As central: connect to a phone that was sighted, read its engagement, subscribe and write State = start.
        Raises LinkError, or DriverError when the radio itself failed."""
        ...


class NfcCard(Protocol):
    """One card or phone in the field, activated to ISO-DEP."""

    @property
    def present_since(self) -> float: ...

    @property
    def max_command(self) -> int:
        """Longest C-APDU in bytes that reader and card carry in one piece."""
        ...

    @property
    def max_response(self) -> int: ...

    async def transceive(self, command: bytes) -> bytes:
        """One C-APDU out, one R-APDU (with SW1 SW2) back. Raises LinkError."""
        ...

    async def release(self) -> None:
        """Deselect and wait until the field is empty again. Never raises."""
        ...


class NfcReader(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def cards(self) -> AsyncIterator[NfcCard]:
        """Cards as they enter the field, one at a time; the next after `release()`. Raises DriverError."""
        ...


@dataclass(frozen=True, slots=True)
class CodeSeen:
    """One QR code read from one camera frame."""

    payload: bytes
    """Bytes of the code as read (ASCII for every format the gate accepts)."""
    seen_at: float
    """Monotonic time at which the frame was taken."""
    decoded_at: float
    decoder: str
    """`zxing` or `zbar`."""


class Camera(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def codes(self) -> AsyncIterator[CodeSeen]:
        """Codes as they are read; a code held before the camera is reported again at most once a second.
        Raises DriverError when the camera or its worker has failed."""
        ...


class LaneSignal(StrEnum):
    """Inputs of a lane (access-control practice: A entry side, M barrier line, B exit side, C barrier contact).

    Which of them a lane has depends on its type; those it lacks are never reported and count as at rest.
    """

    BEAM_A = "beam_a"
    BEAM_M = "beam_m"
    """Barrier line; of a full-height turnstile: the rotor is past the point of no return."""
    BEAM_B = "beam_b"
    BEAM_LOW = "beam_low"
    """At the barrier line, below the knee: broken alone by somebody who crawls."""
    CONTACT = "contact"
    """The barrier, door leaf or rotor is not closed."""
    BUTTON = "button"
    """Exit button (request to exit)."""
    RESET = "reset"
    """Reset on the spot, after a fire."""
    FIRE = "fire"
    """The fire line's alarm."""
    FIRE_OPEN = "fire_open"
    """A supervised fire line is cut; counts as fire until it is reset."""
    FIRE_SHORT = "fire_short"
    """A supervised fire line is shorted; counts as fire until it is reset."""
    KEY_FREE = "key_free"
    """The guard's key switch stands at "free". At neither of both it is at "normal"."""
    KEY_LOCKED = "key_locked"
    RELAY_IN = "relay_in"
    """Feedback contact: the relay is in its opening position."""
    RELAY_OUT = "relay_out"
    TAMPER = "tamper"
    """The housing is open or the lane's wiring was touched."""
    MAINS_FAIL = "mains_fail"
    """The lane runs on its battery (UPS)."""
    BATTERY_LOW = "battery_low"
    # Reported by a vendor's own lane controller.
    PASSED_IN = "passed_in"
    PASSED_OUT = "passed_out"
    VENDOR_ALARM = "vendor_alarm"
    VENDOR_READY = "vendor_ready"
    VENDOR_FAULT = "vendor_fault"
    VENDOR_EMERGENCY = "vendor_emergency"


@dataclass(frozen=True, slots=True)
class LaneInput:
    signal: LaneSignal
    active: bool
    at: float
    """Monotonic time at which the change was seen."""


class LaneHardware(Protocol):
    """Relay outputs and sensor inputs of one lane. Outputs are at rest level before `start` returns."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def pulse(self, direction: Direction, milliseconds: int) -> float:
        """Energise the relay of `direction`; the pulse is timed by the hardware, so that a killed agent leaves nothing open.
        Returns the monotonic time of the relay's confirmation. Raises DriverError."""
        ...

    def inputs(self) -> AsyncIterator[LaneInput]:
        """First the present level of every input, then each change. Raises DriverError."""
        ...


class SecondFactor(Protocol):
    """A device of its own that checks the person after the phone, such as a face terminal. It is told the attempt's id and
    nothing of the holder, and answers yes or no."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def confirm(self, attempt: str, lane: str, timeout: float) -> bool:
        """True when the device confirmed within `timeout` seconds, False when it said no.

        Raises LinkTimeoutError for no answer in time and DriverError for a device that is gone.
        """
        ...

    async def gone(self) -> None:
        """Waits until the device is gone, asked or not, and raises DriverError then."""
        ...


class Light(StrEnum):
    IDLE = "idle"
    WAIT = "wait"
    GREEN = "green"
    RED = "red"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Message:
    """What the person at the lane sees and hears. No name, no number: only what to do."""

    light: Light
    ko: str
    en: str
    key: str = field(default="", compare=False)
    """Names the message for a recording (docs/messages.md): lower-case letters, digits and `_`. The same text is the same
    message, whatever it is called."""


class Signal(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def show(self, message: Message) -> None:
        """Show light, text and sound. Raises DriverError."""
        ...

    async def gone(self) -> None:
        """Waits until the sign is gone, shown anything or not, and raises DriverError then."""
        ...


class LightOutput(Protocol):
    """The lamps of a sign, on outputs of whatever kind. After `stop` they show nothing that invites anybody to pass."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def set(self, light: Light) -> None:
        """Show one light and no other. Asked for again now and then; must not blink then. Raises DriverError."""
        ...
