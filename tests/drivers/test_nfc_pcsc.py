"""The PC/SC driver over a scripted pcscd: which reader is meant, what it carries, and what each error means."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from drivers.nfc import open_reader
from drivers.nfc.pcsc import PcscReader, apdu_limits, choose_reader, is_storage_card, load_scard, tag_length_values
from drivers.ports import DriverError, LinkLostError, LinkProtocolError
from protocol.clock import SystemClock
from testbed.phone.nfc_vpcd import PHONE_ATR, STORAGE_ATR

CLOCK = SystemClock()
GUARD_S = 10.0
NAMES = [
    "ACS ACR1252 1S CL Reader [ACR1252 Dual Reader PICC] 00 00",
    "ACS ACR1252 SAM 01 00",
    "HID OMNIKEY 5022 CL 02 00",
]
OK = b"\x90\x00"


class Scard:
    """pyscard's C level for one reader. `card` answers APDUs with (code, response); None: the reader is empty."""

    SCARD_S_SUCCESS, SCARD_SCOPE_SYSTEM, SCARD_SHARE_EXCLUSIVE, SCARD_PROTOCOL_T1, SCARD_PCI_T1 = 0, 2, 1, 2, "T1"
    SCARD_UNPOWER_CARD, SCARD_ATTR_MAXINPUT = 2, 0x7A007
    SCARD_STATE_UNAWARE, SCARD_STATE_CHANGED, SCARD_STATE_UNKNOWN, SCARD_STATE_UNAVAILABLE = 0, 2, 4, 8
    SCARD_STATE_EMPTY, SCARD_STATE_PRESENT, SCARD_STATE_MUTE = 16, 32, 512
    SCARD_E_INSUFFICIENT_BUFFER, SCARD_E_TIMEOUT, SCARD_E_NO_READERS_AVAILABLE = 0x80100008, 0x8010000A, 0x8010002E
    SCARD_E_SHARING_VIOLATION, SCARD_E_NO_SMARTCARD, SCARD_E_PROTO_MISMATCH = 0x8010000B, 0x8010000C, 0x8010000F
    SCARD_E_NOT_TRANSACTED, SCARD_E_READER_UNAVAILABLE, SCARD_E_CARD_UNSUPPORTED = 0x80100016, 0x80100017, 0x8010001C
    SCARD_E_COMM_DATA_LOST, SCARD_F_COMM_ERROR, SCARD_E_NO_SERVICE = 0x8010002F, 0x80100013, 0x8010001D
    SCARD_W_UNSUPPORTED_CARD, SCARD_W_UNRESPONSIVE_CARD, SCARD_W_UNPOWERED_CARD = 0x80100065, 0x80100066, 0x80100067
    SCARD_W_RESET_CARD, SCARD_W_REMOVED_CARD = 0x80100068, 0x80100069

    def __init__(self) -> None:
        self.names: list[str] = list(NAMES)
        self.service = 0
        self._card: Callable[[bytes], tuple[int, bytes]] | None = None
        self._changes = 0
        self.atr = PHONE_ATR
        self.connecting: list[int] = []
        self.pulled_out = False
        self.properties: bytes | None = None
        self.max_input = b""
        self.disconnected = 0
        self.refused = threading.Event()

    @property
    def card(self) -> Callable[[bytes], tuple[int, bytes]] | None:
        return self._card

    @card.setter
    def card(self, card: Callable[[bytes], tuple[int, bytes]] | None) -> None:
        self._card = card
        self._changes += 1

    def SCardEstablishContext(self, _scope: int) -> tuple[int, Any]:  # noqa: N802
        return self.service, "context"

    def SCardReleaseContext(self, _context: Any) -> int:  # noqa: N802
        return 0

    def SCardListReaders(self, _context: Any, _groups: list[str]) -> tuple[int, list[str]]:  # noqa: N802
        return (0, self.names) if self.names else (self.SCARD_E_NO_READERS_AVAILABLE, [])

    def SCardGetStatusChange(self, _context: Any, _timeout: int, states: Any) -> tuple[int, Any]:  # noqa: N802
        (name, known) = states[0]
        if self.service:
            return self.service, states
        if self.pulled_out:
            return 0, [(name, self.SCARD_STATE_CHANGED | self.SCARD_STATE_UNKNOWN, [])]
        # As pcscd does, the upper half counts changes: none is missed, however short it was.
        state = self._changes << 16 | (self.SCARD_STATE_EMPTY if self.card is None else self.SCARD_STATE_PRESENT)
        if state == known:
            threading.Event().wait(0.001)
            return self.SCARD_E_TIMEOUT, states
        return 0, [(name, state | self.SCARD_STATE_CHANGED, list(self.atr) if self.card else [])]

    def SCardConnect(self, _context: Any, _name: str, share: int, protocol: int) -> tuple[int, Any, int]:  # noqa: N802
        assert (share, protocol) == (self.SCARD_SHARE_EXCLUSIVE, self.SCARD_PROTOCOL_T1)
        if self.connecting:
            self.refused.set()
            return self.connecting.pop(0), None, 0
        return 0, "card", 2

    def SCardDisconnect(self, _card: Any, disposition: int) -> int:  # noqa: N802
        assert disposition == self.SCARD_UNPOWER_CARD
        self.disconnected += 1
        return 0

    def SCardTransmit(self, _card: Any, _protocol: Any, command: list[int]) -> tuple[int, list[int]]:  # noqa: N802
        assert self.card is not None
        code, response = self.card(bytes(command))
        return code, list(response)

    def SCardControl(self, _card: Any, code: int, _data: list[int]) -> tuple[int, list[int]]:  # noqa: N802
        if self.properties is None:
            return 0x8010001F, []
        return 0, list(bytes.fromhex("1204" + "0000ABCD") if code == 3400 else self.properties)

    def SCARD_CTL_CODE(self, code: int) -> int:  # noqa: N802
        return code

    def SCardGetAttrib(self, _card: Any, attribute: int) -> tuple[int, list[int]]:  # noqa: N802
        assert attribute == self.SCARD_ATTR_MAXINPUT
        return (0, list(self.max_input)) if self.max_input else (0x8010001F, [])


@asynccontextmanager
async def started(scard: Scard, **options: Any) -> AsyncIterator[PcscReader]:
    reader = PcscReader("PICC", CLOCK, scard=scard, **options)
    await reader.start()
    try:
        yield reader
    finally:
        await asyncio.wait_for(reader.stop(), GUARD_S)


def answers(code: int, response: bytes = OK) -> Callable[[bytes], tuple[int, bytes]]:
    return lambda _: (code, response)


@pytest.mark.parametrize(
    ("wanted", "found"), [("PICC", 0), ("omnikey", 2), (NAMES[1], 1), ("0", 0), ("2", 2), ("5022", 2), ("SAM", 1)]
)
def test_a_reader_is_meant_by_number_name_or_a_part_that_only_one_has(wanted: str, found: int) -> None:
    assert choose_reader(NAMES, wanted) == NAMES[found]


@pytest.mark.parametrize(
    ("names", "wanted"), [(NAMES, "ACR1252"), (NAMES, "PN532"), (NAMES, "3"), ([], "0"), ([], "PICC")]
)
def test_a_reader_that_is_not_there_or_not_the_only_one_is_named_with_those_that_are(
    names: list[str], wanted: str
) -> None:
    with pytest.raises(DriverError, match=r"there are: (ACS|none)"):
        choose_reader(names, wanted)


def maximum(size: int) -> bytes:
    """A property list with dwMaxAPDUDataSize among others."""
    return bytes.fromhex("0B02AABB0A04") + size.to_bytes(4, "little") + bytes.fromhex("0100")


@pytest.mark.parametrize(
    ("properties", "max_input", "limits"),
    [
        (b"", b"", (261, 258)),
        (maximum(0), (261).to_bytes(4, "little"), (261, 258)),
        (maximum(0), (65_544).to_bytes(4, "little"), (261, 258)),
        (maximum(0x10000), b"", (65_544, 65_537)),
        (maximum(1_000), b"", (1_009, 1_002)),
        (b"", (261).to_bytes(4, "little"), (261, 258)),
        (b"", (271).to_bytes(4, "little"), (271, 264)),
        (b"", (65_544).to_bytes(4, "little"), (65_544, 65_537)),
        (b"", (2**32 - 1).to_bytes(4, "little"), (65_544, 65_537)),
        (b"\x0a\x04\x00", b"\x00", (261, 258)),
        (b"\x0a", b"", (261, 258)),
        (b"\x0a\x02\x00\x10", b"", (261, 258)),
    ],
)
def test_what_a_reader_carries(properties: bytes, max_input: bytes, limits: tuple[int, int]) -> None:
    """A reader that says that it takes short APDUs only, or says nothing, gets short ones."""
    assert apdu_limits(properties, max_input) == limits


def test_a_list_that_is_cut_off_gives_what_was_whole() -> None:
    assert tag_length_values(bytes.fromhex("0101AA0202BBCC0305DD")) == {1: b"\xaa", 2: b"\xbb\xcc"}


def test_a_storage_card_is_told_by_its_atr() -> None:
    assert is_storage_card(STORAGE_ATR)
    assert not is_storage_card(PHONE_ATR)
    assert not is_storage_card(bytes.fromhex("3B888001000000000000000009"))


@pytest.mark.parametrize(
    ("properties", "max_input", "max_apdu", "expected"),
    [
        (maximum(0x10000), b"", None, (65_544, 65_537)),
        (None, (271).to_bytes(4, "little"), None, (271, 264)),
        (None, b"", None, (261, 258)),
        (maximum(0), b"", 2_000, (2_000, 2_000)),
        (None, b"", 16, (261, 258)),
    ],
)
async def test_limits_are_asked_of_the_reader_unless_the_configuration_gives_them(
    properties: bytes | None, max_input: bytes, max_apdu: int | None, expected: tuple[int, int]
) -> None:
    scard = Scard()
    scard.properties, scard.max_input, scard.card = properties, max_input, answers(0)
    async with started(scard, max_apdu=max_apdu, leave_timeout=0.0) as reader:
        card = await anext(reader.cards())
        assert (card.max_command, card.max_response) == expected
        assert await card.transceive(b"\x00\xa4\x04\x00") == OK
        await card.release()


@pytest.mark.parametrize(
    ("code", "response", "error"),
    [
        *[
            (getattr(Scard, f"SCARD_{name}"), b"", LinkLostError)
            for name in ("W_REMOVED_CARD", "W_RESET_CARD", "W_UNPOWERED_CARD", "W_UNRESPONSIVE_CARD", "E_NO_SMARTCARD",
                         "E_NOT_TRANSACTED", "E_COMM_DATA_LOST", "F_COMM_ERROR")
        ],
        (Scard.SCARD_E_INSUFFICIENT_BUFFER, b"", LinkProtocolError),
        (0, b"", LinkProtocolError),
        (0, b"\x90", LinkProtocolError),
    ],
)  # fmt: skip
async def test_a_card_that_fails_is_a_link_error_and_the_next_one_is_served(
    code: int, response: bytes, error: type[Exception]
) -> None:
    scard = Scard()
    scard.card = answers(code, response)
    async with started(scard) as reader:
        cards = reader.cards()
        card = await anext(cards)
        with pytest.raises(error):
            await card.transceive(b"\x00\xa4\x04\x00")
        with pytest.raises(LinkLostError):
            await card.transceive(b"\x00\xa4\x04\x00")
        scard.card = None
        await card.release()
        assert scard.disconnected == 1
        scard.card = answers(0)
        assert await (await asyncio.wait_for(anext(cards), GUARD_S)).transceive(b"\x00") == OK


@pytest.mark.parametrize("code", [Scard.SCARD_E_READER_UNAVAILABLE, Scard.SCARD_E_NO_SERVICE, 0x80100001])
async def test_a_reader_that_fails_in_an_exchange_loses_the_phone_and_is_a_driver_error_after(code: int) -> None:
    scard = Scard()
    scard.card = answers(code, b"")
    async with started(scard, leave_timeout=0.0) as reader:
        cards = reader.cards()
        card = await anext(cards)
        with pytest.raises(LinkLostError):
            await card.transceive(b"\x00\xa4\x04\x00")
        await card.release()
        with pytest.raises(DriverError):
            await anext(cards)


@pytest.mark.parametrize(
    "code",
    [
        Scard.SCARD_E_SHARING_VIOLATION,
        Scard.SCARD_E_PROTO_MISMATCH,
        Scard.SCARD_W_UNRESPONSIVE_CARD,
        Scard.SCARD_W_REMOVED_CARD,
    ],
)
async def test_a_card_that_cannot_be_connected_to_is_no_phone_and_no_fault(code: int) -> None:
    scard = Scard()
    scard.connecting, scard.card = [code], answers(0)
    async with started(scard) as reader:
        waiting = asyncio.ensure_future(anext(reader.cards()))
        assert await asyncio.to_thread(scard.refused.wait, GUARD_S)
        scard.card = None
        assert not waiting.done()
        scard.card = answers(0)
        assert await (await asyncio.wait_for(waiting, GUARD_S)).transceive(b"\x00") == OK


async def test_a_reader_that_refuses_to_connect_is_a_driver_error() -> None:
    scard = Scard()
    scard.connecting, scard.card = [Scard.SCARD_E_READER_UNAVAILABLE], answers(0)
    async with started(scard) as reader:
        with pytest.raises(DriverError):
            await anext(reader.cards())


async def test_a_reader_pulled_out_is_a_driver_error_until_it_is_plugged_in_again() -> None:
    scard = Scard()
    async with started(scard) as reader:
        waiting = asyncio.ensure_future(anext(reader.cards()))
        await asyncio.sleep(0)
        scard.pulled_out, scard.names = True, []
        with pytest.raises(DriverError):
            await asyncio.wait_for(waiting, GUARD_S)
        with pytest.raises(DriverError, match="there are: none"):
            await reader.start()
        scard.pulled_out, scard.names, scard.card = False, list(NAMES), answers(0)
        await reader.start()
        card = await asyncio.wait_for(anext(reader.cards()), GUARD_S)
        assert await card.transceive(b"\x00\xa4\x04\x00") == OK


async def test_pcscd_that_does_not_answer_is_a_driver_error() -> None:
    scard = Scard()
    scard.service = Scard.SCARD_E_NO_SERVICE
    reader = PcscReader("0", CLOCK, scard=scard)
    with pytest.raises(DriverError, match="pcscd"):
        await reader.start()


async def test_a_reader_that_hangs_in_an_exchange_is_given_up_and_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waiting time extensions for ever: a PC/SC reader follows them, and nothing interrupts it."""
    monkeypatch.setattr("drivers.nfc.threaded.RELEASE_TIMEOUT_S", 0.05)
    monkeypatch.setattr("drivers.nfc.pcsc.STOP_TIMEOUT_S", 0.05)
    scard, until, hanging = Scard(), threading.Event(), threading.Event()

    def hangs(_: bytes) -> tuple[int, bytes]:
        hanging.set()
        until.wait(GUARD_S)
        return Scard.SCARD_W_REMOVED_CARD, b""

    scard.card = hangs
    reader = PcscReader("PICC", CLOCK, scard=scard)
    await reader.start()
    cards = reader.cards()
    card = await anext(cards)
    exchange = asyncio.create_task(card.transceive(b"\x00\xc3\x00\x00"))
    assert await asyncio.to_thread(hanging.wait, GUARD_S)
    exchange.cancel()
    await asyncio.wait((exchange,))
    await asyncio.wait_for(card.release(), GUARD_S)
    with pytest.raises(DriverError):
        await anext(cards)
    await reader.start()
    scard.card = answers(0)
    card = await asyncio.wait_for(anext(reader.cards()), GUARD_S)
    assert await card.transceive(b"\x00\xa4\x04\x00") == OK
    until.set()
    await reader.stop()


def test_without_pyscard_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smartcard", None)
    monkeypatch.setitem(sys.modules, "smartcard.scard", None)
    with pytest.raises(ValueError, match=r"gwanmun\[pcsc\]"):
        load_scard()
    with pytest.raises(ValueError, match=r"gwanmun\[pcsc\]"):
        open_reader(driver="pcsc", reader="0", clock=CLOCK)


def test_a_reader_without_a_name_is_refused_at_configuration() -> None:
    with pytest.raises(ValueError, match="PC/SC reader"):
        PcscReader("", CLOCK, scard=Scard())
