"""Fewer host commands per frame on the PN53x chips.

nfcpy 1.0.4 sets the bit rate and the timeout anew before every frame: a register read, a register write and an RF configuration,
each with a command, an acknowledgement and an answer on the serial line or on USB. Within one activation nothing of it changes.
Here it is sent when it does.
"""

from __future__ import annotations

import errno
from typing import Any

import nfc.clf
import nfc.clf.pn53x

NO_ANSWER = 0x01
"""Chip status: the card did not answer in time (PN532 user manual 7.1)."""
HOST_MARGIN_S = 0.1
"""Beyond the card's own timeout, as in nfcpy."""
ISO_DEP = 0x20
"""SAK bit; nfcpy treats the other tags in ways of its own."""
_ITEM_TIMINGS, _OTHER_TIMINGS = 0x02, (10, 11)
"""RFConfiguration item 2: the timeouts that are none of an exchange's, as nfcpy sets them."""


def spare_commands(device: Any) -> None:
    """Change an open PN53x `device` of nfcpy; any other stays as it is."""
    if isinstance(device, nfc.clf.pn53x.Device):
        device.send_cmd_recv_rsp = _Sparing(device).exchange


class _Sparing:
    """Remembers for which target and timeout the chip is set up."""

    def __init__(self, device: Any) -> None:
        self._device, self._in_full = device, device.send_cmd_recv_rsp
        self._target: nfc.clf.RemoteTarget | None = None
        self._timeout_index = 0

    def exchange(self, target: nfc.clf.RemoteTarget, data: bytearray | None, timeout: float) -> bytearray:
        """One frame out, one back. Raises nfc.clf.CommunicationError, or OSError (device)."""
        index, known = timeout_index(timeout), target is self._target and data is not None
        self._target = None  # until this frame has gone well
        if not known:
            answer = self._in_full(target, data, timeout)
        else:
            if index != self._timeout_index:
                self._device.chipset.rf_configuration(_ITEM_TIMINGS, bytes((*_OTHER_TIMINGS, index)))
            answer = self._through(bytearray(data or b""), 1e-4 * 2 ** (index - 1))
        if target.sel_res and target.sel_res[0] & ISO_DEP:
            self._target, self._timeout_index = target, index
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
