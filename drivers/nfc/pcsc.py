"""NFC reader over PC/SC (pcscd, pyscard): any reader that has a CCID driver. Block chaining, waiting times and bit rate up to
848 kbit/s are the reader's own work.

A reader that is pulled out, or a pcscd that stops, is a DriverError: the gate starts the reader again with back-off and finds
it when it is back. A reader cannot be interrupted inside one exchange; whoever gives an exchange up waits until the phone
leaves, and a reader that does not come back from it is given up by `ThreadedReader`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from drivers.nfc.threaded import ThreadedCard, ThreadedReader
from drivers.ports import DriverError, LinkLostError, LinkProtocolError
from mdoc.apdu import EXTENDED_COMMAND_DATA, EXTENDED_OVERHEAD, SHORT_COMMAND_DATA, SHORT_RESPONSE_DATA
from protocol.clock import Clock

LEAVE_TIMEOUT_S = 3.0
"""Longest wait for a card to leave. Whoever stays longer is taken for the next presentation."""
SLICE_MS = 100
"""Longest wait for a change before the interrupt flag is looked at. A tap ends the wait at once."""
STOP_TIMEOUT_S = 6.0
"""A reader's own time limit for one block is 3 s; half an exchange more, and some."""
SHORT_COMMAND = 4 + 1 + SHORT_COMMAND_DATA + 1
SHORT_RESPONSE = SHORT_RESPONSE_DATA + 2
EXTENDED_COMMAND = EXTENDED_COMMAND_DATA + EXTENDED_OVERHEAD
CCID_HEADER = 10
GET_FEATURES, GET_TLV_PROPERTIES, MAX_APDU_DATA = 3400, 0x12, 0x0A
"""PC/SC part 10: control code of the feature list, tag of the property list in it, tag of dwMaxAPDUDataSize in that."""
PCSC_RID = bytes.fromhex("A000000306")
"""In the ATR of a storage card (PC/SC part 3, 3.1.3.2.3): a transit or employee card, nothing to talk ISO 7816-4 with."""

_LOST = ("W_REMOVED_CARD", "W_RESET_CARD", "W_UNPOWERED_CARD", "W_UNRESPONSIVE_CARD", "E_NO_SMARTCARD",
         "E_NOT_TRANSACTED", "E_COMM_DATA_LOST", "F_COMM_ERROR")  # fmt: skip
"""What an exchange ends with when the phone has gone or stopped answering; any other failure is the reader's or pcscd's."""
_NOT_YET = (*_LOST, "E_SHARING_VIOLATION", "E_PROTO_MISMATCH", "W_UNSUPPORTED_CARD", "E_CARD_UNSUPPORTED")
"""No phone that one could talk to: wait for the next change."""


class PcscError(Exception):
    """The reader or pcscd failed. Holds the name of the call and the number of the error."""


def load_scard() -> Any:
    """pyscard's C level. Raises ValueError where the optional extra is not installed."""
    try:
        import smartcard.scard  # noqa: PLC0415  an optional extra
    except ImportError:
        raise ValueError(
            "NFC driver pcsc: pyscard is missing, install it with pip install 'gwanmun[pcsc]' (pcscd and libccid as well)"
        ) from None
    return smartcard.scard


def choose_reader(names: Sequence[str], wanted: str) -> str:
    """The reader meant by number (two digits at most), by name, or by a part of the name that only one has.

    Raises DriverError with the names there are.
    """
    there = ", ".join(names) or "none"
    if wanted in names:
        return wanted
    if wanted.isdecimal() and len(wanted) <= 2:
        if int(wanted) < len(names):
            return names[int(wanted)]
        raise DriverError(f"no PC/SC reader number {wanted}; there are: {there}")
    found = [name for name in names if wanted.casefold() in name.casefold()]
    if len(found) != 1:
        problem = "no PC/SC reader is named" if not found else "several PC/SC readers are named"
        raise DriverError(f"{problem} {wanted}; there are: {there}")
    return found[0]


def tag_length_values(raw: bytes) -> dict[int, bytes]:
    """[tag, length, value] as PC/SC part 10 lists features and properties; what is cut off at the end is left out."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 2 <= len(raw) and at + 2 + raw[at + 1] <= len(raw):
        found[raw[at]] = raw[at + 2 : at + 2 + raw[at + 1]]
        at += 2 + raw[at + 1]
    return found


def apdu_limits(properties: bytes, max_input: bytes) -> tuple[int, int]:
    """(command, response): longest APDUs in bytes that a reader carries, short ones where it does not say.

    `properties`: its property list (part 10), where dwMaxAPDUDataSize counts whatever the driver chains; `max_input`:
    SCARD_ATTR_MAXINPUT, dwMaxCCIDMessageLength without its header. Both little-endian, empty where the reader has none.
    """
    data = tag_length_values(properties).get(MAX_APDU_DATA, b"")
    command = SHORT_COMMAND
    if len(data) == 4:
        command = int.from_bytes(data, "little") + EXTENDED_OVERHEAD
    elif len(max_input) == 4:
        command = int.from_bytes(max_input, "little")
    if command <= SHORT_COMMAND + EXTENDED_OVERHEAD:
        return SHORT_COMMAND, SHORT_RESPONSE
    command = min(command, EXTENDED_COMMAND)
    return command, command - EXTENDED_OVERHEAD + 2


def is_storage_card(atr: bytes) -> bool:
    return PCSC_RID in atr


class _Session:
    """One connected card (drivers.nfc.threaded.CardSession)."""

    def __init__(self, scard: Any, handle: Any) -> None:
        self._scard, self._handle = scard, handle
        self._lost = _codes(scard, _LOST)
        self._open = True

    def transceive(self, command: bytes) -> bytes:
        if not command:
            raise LinkProtocolError("empty command")
        code, response = self._scard.SCardTransmit(self._handle, self._scard.SCARD_PCI_T1, list(command))
        if code in self._lost:
            raise LinkLostError("the card stopped answering")
        if code == self._scard.SCARD_E_INSUFFICIENT_BUFFER:
            raise LinkProtocolError("response longer than an APDU can be")
        if code != self._scard.SCARD_S_SUCCESS:
            raise PcscError(f"SCardTransmit: {code & 0xFFFFFFFF:08X}")
        if len(response) < 2:
            raise LinkProtocolError("response without status word")
        return bytes(byte & 0xFF for byte in response)

    def deselect(self) -> None:
        """Power off: the reader sends S(DESELECT) and the phone's application learns that it is done. May be called again."""
        if self._open:
            self._open = False
            self._scard.SCardDisconnect(self._handle, self._scard.SCARD_UNPOWER_CARD)


def _codes(scard: Any, names: Sequence[str]) -> frozenset[int]:
    return frozenset(getattr(scard, f"SCARD_{name}") for name in names)


class PcscReader(ThreadedReader):
    """drivers.ports.NfcReader. `reader`: number, name or part of the name as pcscd has it.

    `max_apdu`: longest APDU in bytes, for a reader that carries more than it says. `scard`: pyscard's C level or the like.
    """

    def __init__(
        self,
        reader: str,
        clock: Clock,
        *,
        max_apdu: int | None = None,
        leave_timeout: float = LEAVE_TIMEOUT_S,
        scard: Any = None,
    ) -> None:
        super().__init__(clock, stop_timeout=STOP_TIMEOUT_S)
        if not reader:
            raise ValueError("NFC reader: the number or name of a PC/SC reader is expected")
        self._scard = scard if scard is not None else load_scard()
        self._wanted, self._max_apdu, self._leave_timeout = reader, max_apdu, leave_timeout
        self._not_yet = _codes(self._scard, _NOT_YET)
        self._context: Any = None
        self._name = ""
        self._state: int = self._scard.SCARD_STATE_UNAWARE
        self._limits: tuple[int, int] | None = None
        self._session: _Session | None = None

    def _prepare(self) -> None:
        self._context, self._session, self._limits = None, None, None  # a thread that hangs may still use the old ones

    # In the device's thread -----------------------------------------------------------------------------------------

    def _open(self, _interrupted: threading.Event) -> None:
        code, context = self._scard.SCardEstablishContext(self._scard.SCARD_SCOPE_SYSTEM)
        if code != self._scard.SCARD_S_SUCCESS:
            raise DriverError("pcscd does not answer")
        self._context = context
        code, names = self._scard.SCardListReaders(context, [])
        if code not in (self._scard.SCARD_S_SUCCESS, self._scard.SCARD_E_NO_READERS_AVAILABLE):
            raise DriverError("pcscd lists no readers")
        self._name = choose_reader(list(names or ()), self._wanted)

    def _close(self) -> None:
        self._let_go()
        if self._context is not None:
            self._scard.SCardReleaseContext(self._context)
            self._context = None

    def _let_go(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.deselect()

    def _poll(self, interrupted: threading.Event) -> ThreadedCard | None:
        self._state = self._scard.SCARD_STATE_UNAWARE  # whoever lies there already is seen at once
        while not interrupted.is_set():
            atr = self._change()
            seen_at = self._clock.monotonic()
            if atr is None or is_storage_card(atr):
                continue
            session = self._session = self._connect()
            if session is not None:
                if self._limits is None:
                    self._limits = self._read_limits()
                command, response = self._limits
                return ThreadedCard(self, session, seen_at, max_command=command, max_response=response)
        return None

    def _change(self) -> bytes | None:
        """Wait up to SLICE_MS for a change. The ATR of a card that lies there after it; None for anything else."""
        scard = self._scard
        code, states = scard.SCardGetStatusChange(self._context, SLICE_MS, [(self._name, self._state)])
        if code == scard.SCARD_E_TIMEOUT:
            return None
        if code != scard.SCARD_S_SUCCESS:
            raise PcscError(f"SCardGetStatusChange: {code & 0xFFFFFFFF:08X}")
        _, state, atr = states[0]
        if state & (scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_UNAVAILABLE):
            raise PcscError("the reader has been pulled out")
        self._state = state & ~scard.SCARD_STATE_CHANGED
        present = state & scard.SCARD_STATE_PRESENT and not state & scard.SCARD_STATE_MUTE
        return bytes(byte & 0xFF for byte in atr) if present else None

    def _connect(self) -> _Session | None:
        """Exclusive, by T=1: pcscd's name for ISO-DEP. None: no phone, gone again, or another program has it just now."""
        scard = self._scard
        code, handle, _ = scard.SCardConnect(
            self._context, self._name, scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_PROTOCOL_T1
        )
        if code == scard.SCARD_S_SUCCESS:
            return _Session(scard, handle)
        if code in self._not_yet:
            return None
        raise PcscError(f"SCardConnect: {code & 0xFFFFFFFF:08X}")

    def _read_limits(self) -> tuple[int, int]:
        if self._max_apdu is not None:
            return max(self._max_apdu, SHORT_COMMAND), max(self._max_apdu, SHORT_RESPONSE)
        assert self._session is not None  # noqa: S101  called right after it was made
        handle, scard = self._session._handle, self._scard
        code = tag_length_values(self._ask(handle, scard.SCARD_CTL_CODE(GET_FEATURES))).get(GET_TLV_PROPERTIES, b"")
        properties = self._ask(handle, int.from_bytes(code)) if code else b""
        result, max_input = scard.SCardGetAttrib(handle, scard.SCARD_ATTR_MAXINPUT)
        return apdu_limits(properties, bytes(max_input or ()) if result == scard.SCARD_S_SUCCESS else b"")

    def _ask(self, handle: Any, control_code: int) -> bytes:
        """Answer of a control code; b"" from a reader that does not know it."""
        code, answer = self._scard.SCardControl(handle, control_code, [])
        return bytes(byte & 0xFF for byte in answer or ()) if code == self._scard.SCARD_S_SUCCESS else b""

    def _see_off(self, _card: ThreadedCard, interrupted: threading.Event) -> None:
        """Power off, then wait until nothing lies there."""
        self._let_go()
        end = self._clock.monotonic() + self._leave_timeout
        self._state = self._scard.SCARD_STATE_UNAWARE
        present = True
        while present and self._clock.monotonic() < end and not interrupted.is_set():
            self._change()
            present = (
                bool(self._state & self._scard.SCARD_STATE_PRESENT) or self._state == self._scard.SCARD_STATE_UNAWARE
            )
