"""How far the gate's time can be trusted: synced, holdover or unset, with an error bound in milliseconds.

A clock that was right once stays right within its drift (holdover). A step that drift cannot explain is quarantined until the
time goes back to what it was, or a signed controller time or a guard on the spot agrees. Time below the floor is never right.
Pure but for its own state; `read_kernel` and `boottime` are the rim.
"""

from __future__ import annotations

import ctypes
import math
import struct
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from statistics import linear_regression, median
from typing import Any, Protocol

from policy.situation import ClockQuality
from protocol import fields

BUILT = datetime(2026, 1, 1, tzinfo=UTC)
"""No clock of this product can be right before this."""

# adjtimex(2): struct timex of a 64-bit Linux (modes, offset, freq, maxerror, esterror, status, ...), 208 bytes.
TIMEX_BYTES = 208
_TIMEX = struct.Struct("=I4xqqqqi")
STA_UNSYNC = 0x0040
STA_NANO = 0x2000
TIME_ERROR = 5
"""What adjtimex returns while the kernel's clock is not synchronised."""

MAX_BEACONS = 64
MIN_BEACONS = 5
MIN_BEACON_SPAN_S = 240.0
"""Fewer beacons, or over a shorter time, measure the network and not the clock."""
RECENT_BEACONS = 5
MAX_KEPT_BYTES = 512


@dataclass(frozen=True, slots=True)
class KernelState:
    """What the kernel's time discipline says of itself."""

    synced: bool
    max_error_ms: int
    """Upper bound of the error; the kernel lets it grow by 500 ppm from one correction to the next."""
    offset_ms: float
    """Correction that is still being slewed in."""


def parse_timex(raw: bytes, returned: int) -> KernelState:
    """`raw`: struct timex as adjtimex(2) filled it; `returned`: its result. Raises ValueError for anything else."""
    if len(raw) != TIMEX_BYTES:
        raise ValueError(f"struct timex has {TIMEX_BYTES} bytes")
    if returned < 0:
        raise ValueError("adjtimex failed")
    _modes, offset, _freq, maxerror, _esterror, status = _TIMEX.unpack_from(raw)
    if maxerror < 0:
        raise ValueError("maxerror: no negative time is expected")
    synced = returned != TIME_ERROR and not status & STA_UNSYNC
    return KernelState(synced, math.ceil(maxerror / 1000), offset / (1e6 if status & STA_NANO else 1e3))


def read_kernel() -> KernelState | None:
    """The kernel's state, read and nothing set (modes 0 needs no capability). None where it cannot be asked: a sandbox that
    bars the call, or a machine whose struct timex is another."""
    if struct.calcsize("l") != 8:
        return None
    buffer = ctypes.create_string_buffer(TIMEX_BYTES)
    try:
        returned = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
        return parse_timex(buffer.raw, returned)
    except (OSError, AttributeError, ValueError):
        return None


def boottime() -> float:
    """Seconds since boot, suspended ones too: a gate that slept has not stepped forward (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Detail(StrEnum):
    """Why the quality is what it is; one word for the health, the guard and the decision's `detail`."""

    NONE = "none"
    NEVER_SET = "never_set"
    """Nobody has vouched for the time since boot."""
    BELOW_FLOOR = "below_floor"
    FORWARD_STEP = "forward_step"
    """Quarantined."""
    BACKWARD_STEP = "backward_step"
    """Quarantined."""
    NOT_SYNCED = "not_synced"
    """The time service has lost its source; the drift is counted."""
    HARDWARE_CLOCK = "hardware_clock"
    """The installer vouches for the battery-backed clock."""
    CONFIRMED = "confirmed"
    """By the controller or by a guard; the time service says nothing."""


class Source(StrEnum):
    """Who may say what time it is. An unsigned beacon may not."""

    CONTROLLER = "controller"
    """A signed time."""
    GUARD = "guard"
    """Somebody on the spot, by the watch."""


class SignedTime(Protocol):
    """Verifies a time that the controller signed."""

    def time_of(self, raw: bytes) -> datetime:
        """The time stated, aware. Raises ValueError for anything that the controller did not sign."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    drift_ppm: float = 50
    """Of the hardware in holdover; a quartz without compensation stays within it from -20 to 60 °C."""
    step_ms: int = 1500
    """A step of at most this much beyond the bound is taken: a leap second, and the time between two readings."""
    boot_error_ms: int | None = None
    """The installer vouches that the battery-backed clock is right within this at boot; None: it is not trusted."""
    controller_tolerance_ms: int = 2000
    guard_tolerance_ms: int = 90_000
    """A guard reads a watch: the minute, and the seconds it takes to type it."""


@dataclass(frozen=True, slots=True)
class TimeFacts:
    """What a decision and the `clk` field of an event use."""

    now: datetime
    quality: ClockQuality
    error_ms: int | None
    """The true time is within this of `now`; None while the quality is unset."""
    detail: Detail
    floor: datetime
    since_boot_s: float
    """For a zone that grants a grace to a gate that has just been switched on."""
    since_sync_s: float | None = None
    """Seconds since somebody vouched for the time; 0 while synced, None while unset."""
    offset_ms: float | None = None
    """Controller's beacon minus this clock; None with too few beacons. Tells, never decides."""
    drift_ppm: float | None = None
    """Of this clock against the controller's; positive: the controller's is faster."""

    @property
    def quarantined(self) -> bool:
        return self.detail in {Detail.FORWARD_STEP, Detail.BACKWARD_STEP}

    def clk(self) -> dict[str, Any]:
        """The event field: `{"q": "synced", "err_ms": 12}`; no `err_ms` while the time is unset."""
        found: dict[str, Any] = {"q": str(self.quality)}
        return found if self.error_ms is None else {**found, "err_ms": self.error_ms}


@dataclass(frozen=True, slots=True)
class _Anchor:
    """The last time that was trusted."""

    wall: datetime
    monotonic: float
    error_ms: float
    detail: Detail


class Timekeeper:
    """One gate's. `observe` at every decision and every few seconds; the seconds passed in are `boottime`'s."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        signed: Mapping[str, datetime] | None = None,
        records: datetime | None,
    ) -> None:
        """`signed`: issue times of signed metadata, by name. `records`: the earliest that the true time can have been at the
        newest record that was written with a trusted clock (its `clk.q` is not unset), None without any."""
        self._settings = settings or Settings()
        self._hard = max([BUILT, *(signed or {}).values()])
        self._records = records
        self._anchor: _Anchor | None = None
        self._fresh = True
        """Nothing has been observed yet."""
        # Controller's time minus boot time, in ms, by boot time: no step of the wall clock is in it.
        self._beacons: deque[tuple[float, float]] = deque(maxlen=MAX_BEACONS)

    @property
    def floor(self) -> datetime:
        """Newest of records, signed metadata and build date."""
        return self._hard if self._records is None else max(self._hard, self._records)

    def raise_floor(self, issued: datetime) -> None:
        """A signed list of this issue time is in force now."""
        self._hard = max(self._hard, issued)

    def observe(self, wall: datetime, monotonic: float, kernel: KernelState | None) -> TimeFacts:
        """`wall` aware; `monotonic` in seconds since boot; `kernel` None where it cannot be asked."""
        anchor, fresh = self._anchor, self._fresh
        self._fresh = False
        if wall < self.floor:
            return self._unset(wall, monotonic, Detail.BELOW_FLOOR)
        if anchor is not None:
            step_ms = self._step_ms(anchor, wall, monotonic)
            if abs(step_ms) > self._bound_ms(anchor, monotonic) + self._settings.step_ms:
                return self._unset(wall, monotonic, Detail.FORWARD_STEP if step_ms > 0 else Detail.BACKWARD_STEP)
        if kernel is not None and kernel.synced:
            self._anchor = _Anchor(wall, monotonic, kernel.max_error_ms, Detail.NOT_SYNCED)
            self._seen(wall, kernel.max_error_ms)
            return self._facts(wall, monotonic, ClockQuality.SYNCED, kernel.max_error_ms, Detail.NONE)
        if anchor is None:
            boot_error_ms = self._settings.boot_error_ms
            if boot_error_ms is None or not fresh:
                return self._unset(wall, monotonic, Detail.NEVER_SET)
            anchor = self._anchor = _Anchor(wall, monotonic, boot_error_ms, Detail.HARDWARE_CLOCK)
        error = self._bound_ms(anchor, monotonic) + abs(self._step_ms(anchor, wall, monotonic))
        self._seen(wall, error)
        return self._facts(wall, monotonic, ClockQuality.HOLDOVER, math.ceil(error), anchor.detail)

    def confirm(self, stated: datetime, source: Source, *, wall: datetime, monotonic: float) -> bool:
        """Somebody who may say so states the time. True: this clock agrees, and is trusted from here. False: it does not,
        and nothing changes; the clock has to be set first.

        A guard's word goes above the records: one wrong time in the journal would bar the gate for good. It never goes above
        a signed date.
        """
        tolerance = self._tolerance_ms(source)
        apart = abs(_ms(stated - wall))
        if apart > tolerance or wall < (self._hard if source is Source.GUARD else self.floor):
            return False
        if source is Source.GUARD and self._records is not None:
            self._records = min(self._records, wall)
        self._anchor = _Anchor(wall, monotonic, apart + tolerance, Detail.CONFIRMED)
        return True

    def confirm_signed(self, raw: bytes, by: SignedTime, *, wall: datetime, monotonic: float) -> bool:
        """As `confirm`, with a time that the controller signed. An old one sent again cannot turn the clock back: it lies
        below the floor. Raises ValueError for what `by` does not accept."""
        return self.confirm(by.time_of(raw), Source.CONTROLLER, wall=wall, monotonic=monotonic)

    def beacon(self, controller_time: datetime, monotonic: float, round_trip_s: float = 0.0) -> None:
        """The controller's unsigned time came at `monotonic`. It measures, and never sets or confirms anything."""
        if self._beacons and monotonic <= self._beacons[-1][0]:
            return
        since_epoch_ms = _ms(controller_time - BUILT)
        self._beacons.append((monotonic, since_epoch_ms + round_trip_s * 500 - monotonic * 1000))

    def kept(self) -> bytes | None:
        """The last trusted time, for a file that goes with the boot (a runtime directory): an agent that starts again still
        knows that the clock was stepped. None: there is none."""
        if self._anchor is None:
            return None
        return fields.encode(
            {
                "wall_ms": math.floor(_ms(self._anchor.wall - BUILT)),
                "boot_ms": math.floor(self._anchor.monotonic * 1000),
                "error_ms": math.ceil(self._anchor.error_ms),
                "detail": str(self._anchor.detail),
            }
        )

    def restore(self, raw: bytes, monotonic: float) -> bool:
        """Take what an earlier agent of this boot kept. False, and nothing taken, for anything else."""
        try:
            body = fields.read(raw, MAX_KEPT_BYTES)
            wall_ms, boot_ms, error_ms = (body.number(name) for name in ("wall_ms", "boot_ms", "error_ms"))
            detail = Detail(body.word("detail"))
            body.done()
            wall = BUILT + timedelta(milliseconds=wall_ms)
        except (ValueError, OverflowError):
            return False
        if boot_ms > monotonic * 1000:
            return False  # another boot's
        self._anchor = _Anchor(wall, boot_ms / 1000, error_ms + 1, detail)
        return True

    def _seen(self, wall: datetime, error_ms: float) -> None:
        # No earlier than this, though the clock be set back within its error or by a step that is allowed.
        surely = wall - timedelta(milliseconds=error_ms + self._settings.step_ms)
        self._records = surely if self._records is None else max(self._records, surely)

    def _tolerance_ms(self, source: Source) -> int:
        of = self._settings
        return of.guard_tolerance_ms if source is Source.GUARD else of.controller_tolerance_ms

    @staticmethod
    def _step_ms(anchor: _Anchor, wall: datetime, monotonic: float) -> float:
        return _ms(wall - anchor.wall) - (monotonic - anchor.monotonic) * 1000

    def _bound_ms(self, anchor: _Anchor, monotonic: float) -> float:
        return anchor.error_ms + max(0.0, monotonic - anchor.monotonic) * self._settings.drift_ppm / 1000

    def _unset(self, wall: datetime, monotonic: float, detail: Detail) -> TimeFacts:
        return self._facts(wall, monotonic, ClockQuality.UNSET, None, detail)

    def _facts(
        self, wall: datetime, monotonic: float, quality: ClockQuality, error_ms: int | None, detail: Detail
    ) -> TimeFacts:
        offset, drift = self._measured(wall, monotonic)
        since = None
        if quality is not ClockQuality.UNSET and self._anchor is not None:
            since = max(0.0, monotonic - self._anchor.monotonic)
        return TimeFacts(wall, quality, error_ms, detail, self.floor, monotonic, since, offset, drift)

    def _measured(self, wall: datetime, monotonic: float) -> tuple[float | None, float | None]:
        if len(self._beacons) < MIN_BEACONS:
            return None, None
        recent = median(line for _, line in list(self._beacons)[-RECENT_BEACONS:])
        offset = round(recent + monotonic * 1000 - _ms(wall - BUILT), 1)
        first, last = self._beacons[0][0], self._beacons[-1][0]
        if last - first < MIN_BEACON_SPAN_S:
            return offset, None
        slope = linear_regression([at - first for at, _ in self._beacons], [line for _, line in self._beacons]).slope
        return offset, round(slope * 1000, 2)  # ms a second are thousands of ppm


def _ms(span: timedelta) -> float:
    return span / timedelta(milliseconds=1)
