"""Card side of ISO-DEP (ISO/IEC 14443-4) over nfcpy's listen mode on the virtual antenna: what an NFC controller in a phone
does, with `testbed.phone.nfc_blocks` for the blocks.

Knows nothing of applications: `serve` hands whole C-APDUs to a function and asks for more time while it is busy.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

import nfc.clf

from drivers.nfc.loopback import SLICE_S, LoopbackUdp, silence_nfcpy
from testbed.phone.nfc_blocks import WTXM, Blocks, Deselected, Granted, Process, Send

Application = Callable[[bytes], bytes | None]
"""C-APDU in, R-APDU out; None = leave the field instead of answering. May block."""

WTX_SHARE = 0.6
"""Part of the granted waiting time after which more is asked for."""
IDLE_S = 10.0
"""Seconds without a command after which the phone gives up."""
LISTEN_S = 0.5
ARRIVAL_GAP_S = 0.3
"""Seconds between one phone leaving the antenna and the next coming: the reader has to see the empty field."""


class Ended(StrEnum):
    """How a presentation ended, as the phone saw it."""

    DESELECTED = "deselected"
    FIELD_OFF = "field_off"
    IDLE = "idle"
    VANISHED = "vanished"
    STOPPED = "stopped"
    NO_READER = "no_reader"


class _OverError(Exception):
    def __init__(self, how: Ended) -> None:
        self.how = how


class IsoDepTarget:
    """One phone at the antenna on 127.0.0.1:`port`, for one presentation. Call everything but `stop` in one thread.

    `fwi`, `fsci` and `with_ta` as in `nfc_blocks.Blocks`.
    `vanish_after_frames` counts frames from the reader, RATS included; the phone leaves instead of answering the last.
    """

    def __init__(
        self,
        port: int,
        uid: bytes,
        *,
        fwi: int = 10,
        fsci: int = 8,
        with_ta: bool = True,
        vanish_after_frames: int | None = None,
    ) -> None:
        silence_nfcpy()
        self.wtx_sent = 0
        self._uid, self._blocks = uid, Blocks(fwi=fwi, fsci=fsci, with_ta=with_ta)
        self._vanish_after = vanish_after_frames
        self._frames = 0
        self._interrupted = threading.Event()
        self._frontend = nfc.clf.ContactlessFrontend()
        self._device = LoopbackUdp(port, self._interrupted)
        self._frontend.device = self._device

    def stop(self) -> None:
        """End the presentation from another thread, within 50 ms."""
        self._interrupted.set()

    def close(self) -> None:
        self._frontend.close()

    def serve(self, application: Application, wait: float) -> Ended:
        """Wait at most `wait` seconds for the antenna to be free and for a reader, then serve it until it is done.

        Raises OSError when another phone holds the antenna all that time, and what `application` raises.
        """
        application_in: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        application_out: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
        threading.Thread(
            target=_run_application, args=(application, application_in, application_out), name="applet", daemon=True
        ).start()
        try:
            rats = self._wait_for_reader(wait)
            if rats is None:
                return Ended.STOPPED if self._interrupted.is_set() else Ended.NO_READER
            self._count_frame()
            self._serve(rats, application_in, application_out)
        except _OverError as over:
            return over.how
        except nfc.clf.BrokenLinkError:
            return Ended.FIELD_OFF
        except nfc.clf.TimeoutError:
            return Ended.STOPPED if self._interrupted.is_set() else Ended.IDLE
        except nfc.clf.CommunicationError:
            return Ended.FIELD_OFF
        finally:
            application_in.put(None)

    def _wait_for_reader(self, wait: float) -> bytes | None:
        end = time.monotonic() + wait
        while not self._interrupted.is_set():
            target = nfc.clf.LocalTarget("106A")
            target.sens_res, target.sdd_res, target.sel_res = (
                bytearray(b"\x04\x00"),
                bytearray(self._uid),
                bytearray(b"\x20"),
            )
            try:
                found = self._frontend.listen(target, LISTEN_S)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= end:
                    raise
                self._wait_for_antenna(end)
                continue
            if found is not None and found.tt4_cmd:
                return bytes(found.tt4_cmd)
            if time.monotonic() >= end:
                break
        return None

    def _wait_for_antenna(self, end: float) -> None:
        """Queue behind the phone that holds the antenna."""
        while not self._interrupted.wait(SLICE_S) and time.monotonic() < end:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
                probe.bind(self._device.addr)
                break
        self._interrupted.wait(ARRIVAL_GAP_S)

    def _count_frame(self) -> None:
        self._frames += 1
        if self._vanish_after is not None and self._frames >= self._vanish_after:
            raise _OverError(Ended.VANISHED)

    def _answer(self, frame: bytes | None, timeout: float = IDLE_S) -> bytes:
        """Send `frame` (None: stay silent), return the next one from the reader."""
        command = bytes(self._frontend.exchange(None if frame is None else bytearray(frame), timeout) or b"")
        if not command:
            raise _OverError(Ended.FIELD_OFF)
        self._count_frame()
        return command

    def _serve(
        self,
        rats: bytes,
        to_app: queue.SimpleQueue[bytes | None],
        from_app: queue.SimpleQueue[bytes | BaseException | None],
    ) -> NoReturn:
        frame: bytes | None = self._blocks.activate(rats)
        while True:
            step = self._blocks.receive(self._answer(frame))
            if isinstance(step, Deselected):
                self._deselect(step)
            elif isinstance(step, Process):
                to_app.put(step.command)
                frame = self._blocks.respond(self._wait_for_application(from_app))
            elif isinstance(step, Send):
                frame = step.frame

    def _deselect(self, step: Deselected) -> NoReturn:
        self._frontend.exchange(bytearray(step.frame), 0)
        raise _OverError(Ended.DESELECTED)

    def _wait_for_application(self, from_app: queue.SimpleQueue[bytes | BaseException | None]) -> bytes:
        """The application's answer; S(WTX) while it is busy (rules 3 and 9)."""
        left = self._blocks.waiting_time * WTX_SHARE
        while True:
            began = time.monotonic()
            try:
                response = from_app.get(timeout=min(left, SLICE_S))
            except queue.Empty:
                left -= time.monotonic() - began
                if self._interrupted.is_set():
                    raise _OverError(Ended.STOPPED) from None
                if self._device.field_off():
                    raise _OverError(Ended.FIELD_OFF) from None
                if left <= 0:
                    left = self._ask_for_time() * WTX_SHARE
                continue
            if isinstance(response, BaseException):
                raise response
            if response is None:
                raise _OverError(Ended.VANISHED)
            return response

    def _ask_for_time(self) -> float:
        self.wtx_sent += 1
        frame: bytes | None = self._blocks.ask_for_time()
        while not isinstance(step := self._blocks.receive(self._answer(frame)), Granted):
            if isinstance(step, Deselected):
                self._deselect(step)
            frame = step.frame if isinstance(step, Send) else None
        return self._blocks.waiting_time * WTXM


def _run_application(
    application: Application,
    commands: queue.SimpleQueue[bytes | None],
    responses: queue.SimpleQueue[bytes | BaseException | None],
) -> None:
    while (command := commands.get()) is not None:
        try:
            responses.put(application(command))
        except Exception as error:
            responses.put(error)
