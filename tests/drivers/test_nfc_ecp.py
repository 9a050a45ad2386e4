"""The frame that calls up an iPhone's ID pass, as bytes on the wire to a PN532, and readers that cannot send it."""

from __future__ import annotations

import logging
import random
import threading
from typing import Any

import nfc.clf
import pytest
from nfc.clf import pn532

from drivers.nfc.ecp import IDENTITY, Broadcasting, can_broadcast
from drivers.nfc.loopback import LoopbackUdp
from drivers.nfc.reader import NfcpyReader
from drivers.ports import NfcCard
from mdoc.engagement import NfcOptions
from mdoc.ndef_handover import build_handover_select
from protocol.clock import SystemClock
from testbed.phone.nfc import PhoneApplication
from testbed.phone.nfc_air import PhoneModel
from testbed.phone.nfc_chip import IN_COMMUNICATE_THRU, IN_LIST_PASSIVE_TARGET, RF_CONFIGURATION, Pn532, Presentation

CLOCK = SystemClock()
ON_AIR = bytes.fromhex("6A02810300003551")
"""With CRC_A, as in the trace of Apple's own reader."""
SELECT = build_handover_select(bytes(60), nfc=NfcOptions(65_535, 65_536))


class Still:
    """A clock of the chip's own."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


class Wire(Pn532):
    """Keeps what the host wrote, and puts a phone before the antenna once the frame has been sent `phone_after` times."""

    def __init__(self, phone_after: int = 0) -> None:
        super().__init__(Still())
        self.written: list[bytes] = []
        self._phone_after = phone_after

    def write(self, frame: bytes) -> None:
        self.written.append(bytes(frame))
        super().write(frame)
        if self._phone_after and len(self.raw_frames) == self._phone_after:
            self._phone_after = 0
            self.present(
                Presentation(PhoneApplication(SELECT, lambda message: message), PhoneModel().phone(random.Random(1)))
            )

    def commands_sent(self) -> list[tuple[int, bytes]]:
        """(command code, parameters) of each host command."""
        return [(frame[6], frame[7:-2]) for frame in self.written if frame[5:6] == b"\xd4"]


def device(wire: Pn532) -> Any:
    log = logging.getLogger("nfc.test")
    return pn532.Device(EchoingChipset(wire, logger=log), logger=log)


class EchoingChipset(pn532.Chipset):  # type: ignore[misc]  # nfcpy ships no types
    """The self-test of the line at opening is no part of this."""

    def diagnose(self, _test: str, _data: bytes | None = None) -> bool:
        return True


def test_the_frame_is_the_one_that_apple_s_reader_sends() -> None:
    assert bytes(pn532.Device.add_crc_a(bytearray(IDENTITY))) == ON_AIR


def test_every_look_into_an_empty_field_ends_with_the_frame_before_the_field_goes_off() -> None:
    wire = Wire()
    frontend = nfc.clf.ContactlessFrontend()
    frontend.device = Broadcasting(device(wire))
    wire.written.clear()
    for _ in range(3):
        assert frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1) is None
    assert wire.raw_frames == [ON_AIR] * 3
    sent = [
        (code, parameters)
        for code, parameters in wire.commands_sent()
        if code in (IN_LIST_PASSIVE_TARGET, IN_COMMUNICATE_THRU)
        or (code, parameters[:1]) == (RF_CONFIGURATION, b"\x01")
    ]
    off = (RF_CONFIGURATION, b"\x01\x02")
    look = [off, (IN_LIST_PASSIVE_TARGET, b"\x01\x00"), (IN_COMMUNICATE_THRU, ON_AIR), off]
    assert sent == look * 3


def test_one_sens_req_a_look_and_a_whole_byte_frame_without_the_chip_s_own_crc() -> None:
    wire = Wire()
    broadcasting = Broadcasting(device(wire))
    assert (RF_CONFIGURATION, bytes.fromhex("05010000")) in wire.commands_sent()
    wire.written.clear()
    assert broadcasting.sense_tta(nfc.clf.RemoteTarget("106A")) is None
    # CIU_TxMode (6302) and CIU_BitFraming (633D) are written last before the frame.
    assert wire.commands_sent()[-2:] == [(0x08, bytes.fromhex("630200633D00")), (IN_COMMUNICATE_THRU, ON_AIR)]


async def started(wire: Pn532, monkeypatch: pytest.MonkeyPatch, *, ecp: bool) -> NfcpyReader:
    def open_device(frontend: nfc.clf.ContactlessFrontend, _path: str) -> bool:
        frontend.device = device(wire)
        return True

    monkeypatch.setattr(nfc.clf.ContactlessFrontend, "open", open_device)
    reader = NfcpyReader("tty:AMA0:pn532", CLOCK, ecp=ecp, leave_timeout=0.0)
    await reader.start()
    return reader


async def test_a_phone_that_the_frame_brought_up_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(phone_after=2)
    reader = await started(wire, monkeypatch, ecp=True)
    card: NfcCard = await anext(reader.cards())
    assert wire.raw_frames == [ON_AIR] * 2
    assert await card.transceive(bytes.fromhex("00A4040007D276000085010100")) == b"\x90\x00"
    assert await card.transceive(bytes.fromhex("00A4000C02E103")) == b"\x90\x00"
    await card.release()
    await reader.stop()
    assert wire.raw_frames == [ON_AIR] * 2


async def test_a_site_may_leave_the_frame_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    reader = await started(wire, monkeypatch, ecp=False)
    frontend = reader._frontend
    assert frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1) is None
    assert wire.raw_frames == []
    await reader.stop()


def test_readers_that_cannot_send_it_are_left_alone() -> None:
    antenna = LoopbackUdp(7_000, threading.Event())
    assert not can_broadcast(antenna)
    antenna.close()
    assert not can_broadcast(None)
    assert can_broadcast(device(Wire()))


class Noise(Wire):
    """Something answers the frame with a broken one."""

    def _communicate(self, frame: bytes) -> bytes:
        self.raw_frames.append(frame)
        return b"\x02"


class Unplugged(Wire):
    def _communicate(self, _frame: bytes) -> bytes:
        raise OSError("unplugged")


def test_noise_is_no_failure_and_a_device_that_is_gone_is_one() -> None:
    assert Broadcasting(device(Noise())).sense_tta(nfc.clf.RemoteTarget("106A")) is None
    with pytest.raises(OSError, match="error"):
        Broadcasting(device(Unplugged())).sense_tta(nfc.clf.RemoteTarget("106A"))
