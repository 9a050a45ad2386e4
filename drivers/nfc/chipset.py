"""Fewer host commands on PN532 and PN533: per frame of an exchange, and per look into an empty field.

nfcpy 1.0.4 sets bit rate and timeout anew before every frame: a register read, a register write and an RF configuration, each
with a command, an acknowledgement and an answer on the serial line or on USB. Within one activation nothing of it changes.
It switches the field off twice between two looks, and asks after tags of type 1. Here a thing is sent when it changes something.
"""

from __future__ import annotations

import errno
from typing import Any

import nfc.clf
import nfc.clf.pn53x
from nfc.clf import pn532, pn533

NO_ANSWER = 0x01
"""Chip status: the card did not answer in time (PN532 user manual 7.1)."""
HOST_MARGIN_S = 0.1
"""Beyond the card's own timeout, as in nfcpy."""
ISO_DEP = 0x20
"""SAK bit; nfcpy treats the other tags in ways of its own."""
_ITEM_TIMINGS, _OTHER_TIMINGS = 0x02, (10, 11)
"""RFConfiguration item 2: the timeouts that are none of an exchange's, as nfcpy sets them."""


def spare_commands(device: Any) -> None:
    """Change an open PN532 or PN533 `device` of nfcpy (also in an ACR122U); any other stays as it is.

    Their elder relations need work-arounds of nfcpy's that set the chip back (RC-S956).
    """
    if not isinstance(device, (pn532.Device, pn533.Device)):
        return
    device.chipset.rf_configuration = _Timings(device.chipset).configure
    device.send_cmd_recv_rsp = _Sparing(device).exchange
    look = _Look(device)
    device.sense_tta, device.mute = look.sense, look.mute


class _Timings:
    """Remembers the chip's timeouts: they stay until they are set to others."""

    def __init__(self, chipset: Any) -> None:
        self._in_full = chipset.rf_configuration
        self._known: bytes | None = None

    def configure(self, item: int, data: bytes) -> None:
        if item != _ITEM_TIMINGS:
            self._in_full(item, data)
        elif bytes(data) != self._known:
            self._known = None
            self._in_full(item, data)
            self._known = bytes(data)


class _Look:
    """One look into the field, for cards of type A that are none of types 1 and 2."""

    def __init__(self, device: Any) -> None:
        self._chipset, self._switch_off = device.chipset, device.mute
        self._off = False

    def sense(self, target: nfc.clf.RemoteTarget) -> nfc.clf.RemoteTarget | None:
        """Field on, one target, its UID as it comes. Raises OSError (device), ValueError or IndexError for a broken answer."""
        if target.brty != "106A":
            raise nfc.clf.UnsupportedTargetError("type A at 106 kbit/s is expected")
        self._off = False
        found = self._chipset.in_list_passive_target(1, 0, b"")
        if found is None:
            return None
        return nfc.clf.RemoteTarget("106A", sens_res=found[1::-1], sel_res=found[2:3], sdd_res=found[4:])

    def mute(self) -> None:
        if not self._off:
            self._switch_off()
            self._off = True


class _Sparing:
    """Remembers for which target the chip is set up."""

    def __init__(self, device: Any) -> None:
        self._device, self._in_full = device, device.send_cmd_recv_rsp
        self._target: nfc.clf.RemoteTarget | None = None

    def exchange(self, target: nfc.clf.RemoteTarget, data: bytearray | None, timeout: float) -> bytearray:
        """One frame out, one back. Raises nfc.clf.CommunicationError, or OSError (device)."""
        index, known = timeout_index(timeout), target is self._target and data is not None
        self._target = None  # until this frame has gone well
        if not known:
            answer = self._in_full(target, data, timeout)
        else:
            self._device.chipset.rf_configuration(_ITEM_TIMINGS, bytes((*_OTHER_TIMINGS, index)))
            answer = self._through(bytearray(data or b""), 1e-4 * 2 ** (index - 1))
        if target.sel_res and target.sel_res[0] & ISO_DEP:
            self._target = target
        return bytearray(answer)

    def _through(self, data: bytearray, timeout: float) -> bytearray:
        """InCommunicateThru with the errors that nfcpy makes of it."""
        try:
            answer: bytearray = self._device.chipset.in_communicate_thru(data, timeout + HOST_MARGIN_S)
        except nfc.clf.pn53x.Chipset.Error as error:
            if error.errno == NO_ANSWER:
                raise nfc.clf.TimeoutError from None
            raise nfc.clf.TransmissionError(str(error)) from None
        except OSError as error:
            if error.errno != errno.ETIMEDOUT:
                raise
            raise nfc.clf.TimeoutError("no answer from the chip") from None
        return answer


def timeout_index(timeout: float) -> int:
    """The chip's number for the shortest of its timeouts, 100 µs * 2^(n-1), that is not below `timeout` seconds: 1 to 16."""
    microseconds = int(timeout * 1e6)
    return next((n for n in range(1, 17) if microseconds >> (n - 1) <= 100), 16)
