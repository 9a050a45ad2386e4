"""Commands spared on a PN53x: what is sent when, and that errors stay what nfcpy makes of them."""

from __future__ import annotations

import errno
import random
from typing import Any

import nfc.clf
import nfc.clf.pn53x
import pytest
from nfc.clf import pn531, pn532, rcs956

from drivers.nfc.chipset import spare_commands, timeout_index
from drivers.nfc.ecp import Broadcasting
from drivers.nfc.loopback import LoopbackUdp
from testbed.phone.nfc_air import TYPICAL
from testbed.phone.nfc_chip import (
    IN_COMMUNICATE_THRU,
    IN_LIST_PASSIVE_TARGET,
    READ_REGISTER,
    RF_CONFIGURATION,
    WRITE_REGISTER,
    Pn532,
    Presentation,
)
from testbed.phone.nfc_time import ModelClock

IN_FULL = {READ_REGISTER: 1, WRITE_REGISTER: 1, RF_CONFIGURATION: 1, IN_COMMUNICATE_THRU: 1}

ANEW = {READ_REGISTER: 1, WRITE_REGISTER: 1, IN_COMMUNICATE_THRU: 1}
"""The timeout is still the same."""


class Answering(Pn532):
    """Answers every frame with itself, or with the chip's error `status`, or not at all."""

    status: int | None = 0

    def _communicate(self, frame: bytes) -> bytes:
        return bytes((self.status or 0,)) + (b"" if self.status else frame)

    def read(self, timeout: int) -> bytearray:
        if self.status is None:
            raise OSError(errno.ETIMEDOUT, "nothing came")
        return super().read(timeout)


def target(sak: int = 0x20) -> nfc.clf.RemoteTarget:
    return nfc.clf.RemoteTarget("106A", sens_res=bytearray(2), sel_res=bytearray((sak,)), sdd_res=bytearray(4))


@pytest.fixture
def chip() -> Answering:
    return Answering(ModelClock())


@pytest.fixture
def device(chip: Answering) -> Any:
    device = pn532.Device(pn532.Chipset(chip, logger=pn532.log), logger=pn532.log)
    spare_commands(device)
    chip.commands.clear()
    return device


def exchange(device: Any, whom: nfc.clf.RemoteTarget, timeout: float = 0.08) -> bytes:
    return bytes(device.send_cmd_recv_rsp(whom, bytearray(b"\x02\x00"), timeout))


def test_the_first_frame_sets_the_chip_up_and_the_following_do_not(chip: Answering, device: Any) -> None:
    card = target()
    assert exchange(device, card) == b"\x02\x00"
    assert chip.commands == IN_FULL
    chip.commands.clear()
    assert [exchange(device, card) for _ in range(3)] == [b"\x02\x00"] * 3
    assert chip.commands == {IN_COMMUNICATE_THRU: 3}


def test_another_timeout_is_set_and_nothing_else(chip: Answering, device: Any) -> None:
    card = target()
    exchange(device, card)
    chip.commands.clear()
    exchange(device, card, 0.8)
    exchange(device, card, 0.8)
    assert chip.commands == {RF_CONFIGURATION: 1, IN_COMMUNICATE_THRU: 2}


def test_the_next_card_is_set_up_anew(chip: Answering, device: Any) -> None:
    exchange(device, target())
    chip.commands.clear()
    exchange(device, target())
    assert chip.commands == ANEW


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0x01, nfc.clf.TimeoutError),
        (0x02, nfc.clf.TransmissionError),
        (0x0B, nfc.clf.TransmissionError),
    ],
)
def test_an_error_is_what_nfcpy_makes_of_it_and_the_chip_is_set_up_anew(
    chip: Answering, device: Any, status: int, error: type[Exception]
) -> None:
    card = target()
    exchange(device, card)
    chip.status = status
    with pytest.raises(error):
        exchange(device, card)
    chip.status = 0
    chip.commands.clear()
    exchange(device, card)
    assert chip.commands == ANEW


def test_a_chip_that_says_nothing_is_a_device_that_is_gone(chip: Answering, device: Any) -> None:
    card = target()
    exchange(device, card)
    chip.status = None
    with pytest.raises(OSError, match=r"."):
        exchange(device, card)


def test_tags_that_nfcpy_treats_in_its_own_way_are_left_to_it(chip: Answering, device: Any) -> None:
    tag = target(sak=0x08)
    exchange(device, tag)
    chip.commands.clear()
    exchange(device, tag)
    assert chip.commands == ANEW


@pytest.mark.parametrize("timeout", [0.00005, 0.0001, 0.000101, 0.0048, 0.08, 0.1, 0.31, 1.0, 3.2, 4.949])
def test_the_timeout_is_the_one_that_nfcpy_chooses(chip: Answering, device: Any, timeout: float) -> None:
    exchange(device, target(), timeout)  # by nfcpy's own hand
    assert chip.timeout == pytest.approx(1e-4 * 2 ** (timeout_index(timeout) - 1))


def look(device: Any) -> nfc.clf.RemoteTarget | None:
    frontend = nfc.clf.ContactlessFrontend()
    frontend.device = device
    return frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1)


def test_a_look_into_an_empty_field_is_one_list_and_the_field_off(chip: Answering, device: Any) -> None:
    look(device)
    chip.commands.clear()
    for _ in range(5):
        assert look(device) is None
    assert chip.commands == {IN_LIST_PASSIVE_TARGET: 5, RF_CONFIGURATION: 5}


def test_with_the_frame_for_iphones_it_is_two_more(chip: Answering, device: Any) -> None:
    broadcasting = Broadcasting(device)
    look(broadcasting)
    chip.commands.clear()
    for _ in range(5):
        assert look(broadcasting) is None
    assert chip.commands == {IN_LIST_PASSIVE_TARGET: 5, RF_CONFIGURATION: 5, WRITE_REGISTER: 5, IN_COMMUNICATE_THRU: 5}


def test_a_card_is_found_as_nfcpy_finds_it(chip: Answering, device: Any) -> None:
    phone = Presentation(lambda _: b"\x90\x00", TYPICAL.phone(random.Random(1)), uid=b"\x08\x01\x02\x03")
    chip.present(phone)
    plain = pn532.Device(pn532.Chipset(chip, logger=pn532.log), logger=pn532.log)
    theirs, ours = look(plain), look(device)
    assert theirs is not None
    assert ours is not None
    assert bytes(ours.sdd_res) == bytes(theirs.sdd_res) == phone.uid
    assert (ours.sens_res, ours.sel_res) == (theirs.sens_res, theirs.sel_res)


def test_the_field_is_switched_off_again_after_a_card(chip: Answering, device: Any) -> None:
    chip.present(Presentation(lambda _: b"\x90\x00", TYPICAL.phone(random.Random(1))))
    assert look(device) is not None
    assert chip.field
    chip.present(None)
    assert look(device) is None
    assert not chip.field


def test_only_type_a_is_looked_for(device: Any) -> None:
    with pytest.raises(nfc.clf.UnsupportedTargetError):
        device.sense_tta(nfc.clf.RemoteTarget("212A"))


def test_other_devices_stay_as_they_are() -> None:
    class Device(LoopbackUdp):
        def __init__(self) -> None:
            """No socket is needed."""

    for device in (Device(), rcs956.Device.__new__(rcs956.Device), pn531.Device.__new__(pn531.Device)):
        spare_commands(device)
        assert "send_cmd_recv_rsp" not in vars(device)
