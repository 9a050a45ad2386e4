"""Raw inputs made trustworthy: bounce removed, chattering and stuck sensors set aside.

A rising edge counts at once; a falling one when the input has stayed down for its gap. For a beam that gap is the tail gap: a
shorter one is an arm or a trolley's handle, not a second person. Time is the caller's monotonic clock, in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from drivers.ports import LaneSignal

BEAMS = frozenset({LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B, LaneSignal.BEAM_LOW})
FIRE_LINES = frozenset({LaneSignal.FIRE, LaneSignal.FIRE_OPEN, LaneSignal.FIRE_SHORT, LaneSignal.VENDOR_EMERGENCY})
"""The building's own line, its faults, and what the vendor's controller says; each holds the lane open."""
HOUSING = frozenset({LaneSignal.TAMPER, LaneSignal.MAINS_FAIL, LaneSignal.BATTERY_LOW})
"""They say how the hardware fares and open nothing."""
NEVER_SET_ASIDE = FIRE_LINES | HOUSING | {LaneSignal.BUTTON, LaneSignal.KEY_LOCKED}
"""Inputs that guard: a faulty one counts as active, never as at rest. The key's "free" is none: a loose contact opens nothing."""
CHATTER_EDGES = 24
"""Edges of one input within CHATTER_S: twelve beats a second, which no person makes."""
CHATTER_S = 1.0
CALM_S = 5.0
"""An input that chattered is believed again after being quiet for this long."""


class Fault(StrEnum):
    STUCK = "stuck"
    CHATTER = "chatter"


@dataclass(frozen=True, slots=True)
class Change:
    signal: LaneSignal
    active: bool
    found: bool = False
    """The level at which an input is believed again: nobody is known to have moved it."""


@dataclass(frozen=True, slots=True)
class FaultChange:
    """`fault` None: the input is believed again."""

    signal: LaneSignal
    fault: Fault | None


@dataclass(slots=True)
class _Input:
    raw: bool = False
    """What the hardware says."""
    believed: bool = False
    """What is passed on."""
    falls_at: float | None = None
    risen_at: float = 0.0
    fault: Fault | None = None
    calm_at: float = 0.0
    edges: deque[float] = field(default_factory=lambda: deque(maxlen=CHATTER_EDGES))


class Conditioner:
    """`change` for each edge, `tick` when `deadline` has come; both give what follows, in order."""

    def __init__(self, gaps: Mapping[LaneSignal, float], sticks: Mapping[LaneSignal, float]) -> None:
        """`gaps`: seconds that an input has to stay down; 0 for those not named. `sticks`: seconds for which nobody can
        hold an input active in good faith; for ever for those not named."""
        self._gaps, self._sticks = gaps, sticks
        self._inputs: dict[LaneSignal, _Input] = {}

    @property
    def faults(self) -> dict[LaneSignal, Fault]:
        return {signal: each.fault for signal, each in self._inputs.items() if each.fault is not None}

    def active(self, signal: LaneSignal) -> bool:
        found = self._inputs.get(signal)
        return found is not None and found.believed

    def renew(self, signals: Collection[LaneSignal], at: float) -> None:
        """These may stand for as long again, from now on."""
        for signal in signals:
            if signal in self._inputs:
                self._inputs[signal].risen_at = at

    def change(self, signal: LaneSignal, active: bool, at: float) -> list[Change | FaultChange]:
        found: list[Change | FaultChange] = []
        each = self._inputs.setdefault(signal, _Input())
        if each.raw == active:
            return found
        each.raw = active
        each.edges.append(at)
        if active:
            each.risen_at = at
        if signal not in NEVER_SET_ASIDE and len(each.edges) == CHATTER_EDGES and at - each.edges[0] <= CHATTER_S:
            each.calm_at = at + CALM_S
            found += self._set_aside(signal, each, Fault.CHATTER)
        if each.fault is Fault.STUCK and not active:
            each.fault = None
            found.append(FaultChange(signal, None))
        if each.fault is None:
            found += self._follow(signal, each, at)
        return found

    def _follow(self, signal: LaneSignal, each: _Input, at: float) -> list[Change | FaultChange]:
        if each.raw:
            each.falls_at = None
            if not each.believed:
                each.believed = True
                return [Change(signal, True)]
        elif each.believed:
            gap = self._gaps.get(signal, 0.0)
            if gap > 0:
                each.falls_at = at + gap
            else:
                each.believed = False
                return [Change(signal, False)]
        return []

    def _set_aside(self, signal: LaneSignal, each: _Input, fault: Fault) -> list[Change | FaultChange]:
        found: list[Change | FaultChange] = []
        if each.fault is not fault:
            each.fault = fault
            found.append(FaultChange(signal, fault))
        each.falls_at = None
        if each.believed:
            each.believed = False
            found.append(Change(signal, False))
        return found

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do, unless an edge comes first."""
        return min((at for signal, each in self._inputs.items() for at in self._due(signal, each)), default=None)

    def _due(self, signal: LaneSignal, each: _Input) -> list[float]:
        if each.fault is Fault.CHATTER:
            return [each.calm_at]
        found = [] if each.falls_at is None else [each.falls_at]
        if each.raw and each.fault is None and signal in self._sticks:
            found.append(each.risen_at + self._sticks[signal])
        return found

    def tick(self, at: float) -> list[Change | FaultChange]:
        found: list[Change | FaultChange] = []
        # Of beams that fall in one reading the barrier line's comes first, as a body that leaves frees them.
        for signal, each in sorted(self._inputs.items(), key=lambda item: item[0] is not LaneSignal.BEAM_M):
            if each.falls_at is not None and at >= each.falls_at:
                each.falls_at, each.believed = None, False
                found.append(Change(signal, False))
            elif each.fault is Fault.CHATTER and at >= each.calm_at:
                if each.edges and at - each.edges[-1] < CALM_S:
                    each.calm_at = each.edges[-1] + CALM_S
                    continue
                each.fault = None
                each.risen_at = at
                found.append(FaultChange(signal, None))
                found += [
                    replace(follows, found=True) if isinstance(follows, Change) else follows
                    for follows in self._follow(signal, each, at)
                ]
            elif each.raw and each.fault is None and at >= each.risen_at + self._sticks.get(signal, math.inf):
                found += self._set_aside(signal, each, Fault.STUCK)
        return found
