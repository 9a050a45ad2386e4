"""NFC engagement on the reader's side, static or negotiated (ISO/IEC 18013-5 8.2.2.1), sans-I/O.

Which of the two it is, the phone's NDEF file says. Static: the file holds the Handover Select message. Negotiated: it holds
service parameters ("Tp") of NFC Forum TNEP 1.0, over which the reader selects the handover service ("Ts", answered by status
"Te"), writes its Handover Request and reads the Handover Select. Between a write and a read the reader waits as the phone
asked for; NLEN = 0 means "not ready, poll again".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mdoc.errors import HandoverError, NotReadyError
from mdoc.ndef_handover import BleCarrier, HandoverRequest, HandoverSelect, LeRole, decode_message, encode_record
from mdoc.transcript import NfcHandover
from mdoc.type4tag import (
    NdefFile,
    Pause,
    Shortcut,
    Shortcuts,
    Steps,
    open_file,
    read_first,
    read_message,
    write_message,
)

SERVICE = b"urn:nfc:sn:handover"
TP, TS, TE = "urn:nfc:wkt:Tp", "urn:nfc:wkt:Ts", "urn:nfc:wkt:Te"
TNEP_VERSION_MAJOR = 1
STATUS_SUCCESS = 0x00
MIN_PAUSE = 0.005
"""Seconds. TNEP's time is a minimum; some phones announce half a millisecond and then need several."""
MAX_PAUSE = 0.5
"""Seconds between two polls at most; nobody announces more than 16 ms, and 2^(63/4 - 1) ms would hold the lane 28 s."""


@dataclass(frozen=True, slots=True)
class ServiceParameters:
    """A service parameter record of TNEP (4.1.2)."""

    service: bytes
    wait: float
    """Minimum waiting time in seconds, 2^(WT/4 - 1) ms."""
    polls: int
    """How often the answer is asked for: once, and N_WAIT times more."""
    max_message: int
    """Longest message in bytes that the service takes."""

    @classmethod
    def parse(cls, payload: bytes) -> ServiceParameters:
        """[version, URI length, URI, communication mode, WT, N_WAIT, longest message (2)]. Raises HandoverError."""
        if len(payload) < 7 or len(payload) != 7 + payload[1]:
            raise HandoverError("service parameters: length is wrong")
        if payload[0] >> 4 != TNEP_VERSION_MAJOR:
            raise HandoverError("service parameters: TNEP version 1.x is expected")
        mode, waiting, extensions = payload[-5:-2]
        if mode != 0:
            raise HandoverError("service parameters: single response mode is expected")
        wait = 2 ** ((waiting & 0x3F) / 4 - 1) / 1000
        return cls(payload[2:-5], wait, 1 + (extensions & 0x0F), int.from_bytes(payload[-2:]))


@dataclass(frozen=True, slots=True)
class NfcEngagement:
    """What a tap agreed on. `request` are the bytes of our Handover Request, None for static handover."""

    select: HandoverSelect
    request: bytes | None = field(default=None, repr=False)

    @property
    def handover(self) -> NfcHandover:
        """The handover of the session transcript: [Hs, Hr / nil]."""
        return NfcHandover(self.select.raw, self.request)


def engage(request: HandoverRequest | None, shortcuts: Shortcuts | None = None) -> Steps[NfcEngagement]:
    """Read the phone's engagement. `request` is what we offer in a negotiated handover; None accepts a static one only.

    Raises NotReadyError (locked, or no answer in the time the phone announced) or HandoverError (malformed, refused, or a
    choice that the request did not offer).
    """
    file, first = yield from read_first(shortcuts)
    parameters = service_parameters(first)
    if parameters is None:
        return NfcEngagement(HandoverSelect.parse(first))
    if request is None:
        raise HandoverError("negotiated handover is offered, static handover is expected")
    if file is None:
        file = yield from open_file()
    whole = None if shortcuts is None else shortcuts.whole
    status = yield from _converse(file, parameters, whole, encode_record(TS, bytes((len(SERVICE),)) + SERVICE))
    _expect_success(status)
    raw = yield from _converse(file, parameters, whole, request.raw)
    return NfcEngagement(agreed(HandoverSelect.parse(raw), request), request.raw)


def service_parameters(message: bytes) -> ServiceParameters | None:
    """The handover service among the service parameters of an NDEF message; None where it holds no such records.

    Raises HandoverError when there are some, but not the handover service exactly once.
    """
    records = [record for record in decode_message(message) if record.type == TP]
    if not records:
        return None
    found = [
        entry for entry in map(ServiceParameters.parse, (bytes(r.data) for r in records)) if entry.service == SERVICE
    ]
    if len(found) != 1:
        raise HandoverError("service parameters: the handover service is expected once")
    return found[0]


def _converse(file: NdefFile, parameters: ServiceParameters, whole: Shortcut | None, message: bytes) -> Steps[bytes]:
    """Write a message, wait, read the answer (TNEP 5)."""
    if len(message) > parameters.max_message:
        raise HandoverError("the handover service does not take so long a message")
    yield from write_message(file, message)
    pause = min(max(parameters.wait, MIN_PAUSE), MAX_PAUSE)
    yield Pause(pause)
    try:
        return (yield from read_message(file, polls=parameters.polls, pause=pause, whole=whole))
    except NotReadyError:
        raise NotReadyError("the phone gave no answer in the time it announced") from None


def _expect_success(message: bytes) -> None:
    records = [record for record in decode_message(message) if record.type == TE]
    if len(records) != 1 or bytes(records[0].data) != bytes((STATUS_SUCCESS,)):
        raise HandoverError("the phone did not accept the handover service")


_MAY_ANSWER: dict[LeRole, frozenset[LeRole]] = {
    # Each side speaks from its own viewpoint: a reader that is central only needs a phone that can be peripheral.
    LeRole.CENTRAL: frozenset(LeRole) - {LeRole.CENTRAL},
    LeRole.PERIPHERAL: frozenset(LeRole) - {LeRole.PERIPHERAL},
    LeRole.PERIPHERAL_PREFERRED: frozenset(LeRole),
    LeRole.CENTRAL_PREFERRED: frozenset(LeRole),
}


def agreed(select: HandoverSelect, request: HandoverRequest) -> HandoverSelect:
    """`select` as it is to be understood after `request`: only carriers that were offered, BLE in a role that fits ours,
    with our UUID where the phone names none, as Apple's does. Raises HandoverError when nothing of it was offered.
    """
    nfc = select.nfc if request.nfc is not None else None
    ble = None
    if select.ble is not None and request.ble is not None:
        if select.ble.role in _MAY_ANSWER[request.ble.role]:
            role = _narrowed(select.ble.role, request.ble.role)
            ble = BleCarrier(role, select.ble.uuid or request.ble.uuid, select.ble.address, select.ble.address_random)
        elif nfc is None:
            raise HandoverError("BLE carrier: the phone's role does not fit the reader's")
    if ble is None and nfc is None:
        raise HandoverError("the phone chose nothing that the request offered")
    return replace(select, ble=ble, nfc=nfc)


def _narrowed(phone: LeRole, reader: LeRole) -> LeRole:
    """The phone's role, without the half that the reader cannot meet."""
    if phone in (LeRole.CENTRAL, LeRole.PERIPHERAL) or reader in (
        LeRole.PERIPHERAL_PREFERRED,
        LeRole.CENTRAL_PREFERRED,
    ):
        return phone
    return LeRole.PERIPHERAL if reader is LeRole.CENTRAL else LeRole.CENTRAL
