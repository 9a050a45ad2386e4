"""Which armed phone stands at which lane, as far as signal strength can say (walk-up).

It cannot say much: a body damps 10 dB, a pocket 5, and who wants to can shout. So this only chooses whom to ask; the lane opens
only while its own entry beam is broken, and nothing here proves that phone and body are one (docs/walk-up.md).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

MIN_HEARD = 3
"""Advertisements before a strength counts: one may be a reflection."""
WEIGHT = 0.4
"""Of the newest advertisement in the moving average."""
FORGET_S = 4.0
"""A phone not heard for this long has gone. Armed phones advertise many times a second, but bluetoothd tells of one only when its
strength has changed."""
SWITCH_DB = 6.0
"""Another phone takes over as the nearest only when it is louder by this much."""
SPENT_S = 10.0
"""A phone that was asked is not asked again while it stays; its one presentation is gone in any case."""
MAX_PHONES = 64
"""Phones remembered; the one heard longest ago goes first."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """dBm. A phone is near from `enter` on, and no longer below `leave`."""

    enter: float
    leave: float


@dataclass(slots=True)
class _Heard:
    """One phone at one adapter."""

    dbm: float
    count: int
    at: float
    near: bool = False


@dataclass(slots=True)
class _Phone:
    heard: dict[str, _Heard] = field(default_factory=dict)
    """By adapter."""
    spent_at: float | None = None


class Proximity:
    """`adapters`: those of lanes with walk-up, by name. Times are monotonic seconds."""

    def __init__(self, adapters: Mapping[str, Threshold]) -> None:
        self._thresholds = dict(adapters)
        self._phones: OrderedDict[str, _Phone] = OrderedDict()
        self._leaders: dict[str, str] = {}

    def heard(self, adapter: str, peer: str, rssi: float, at: float) -> None:
        """One advertisement of `peer` at `adapter`. 127 dBm means that the controller does not know (Vol 4 Part E 7.7.65.2)."""
        if rssi >= 20 or adapter not in self._thresholds:
            return
        phone = self._phones.setdefault(peer, _Phone())
        self._phones.move_to_end(peer)
        while len(self._phones) > MAX_PHONES:
            self._phones.popitem(last=False)
        here = phone.heard.get(adapter)
        if here is None or at - here.at > FORGET_S:
            here = phone.heard[adapter] = _Heard(rssi, 0, at)
        here.dbm += WEIGHT * (rssi - here.dbm)
        here.count += 1
        here.at = at
        threshold = self._thresholds[adapter]
        here.near = here.count >= MIN_HEARD and here.dbm >= (threshold.leave if here.near else threshold.enter)

    def nearest(self, adapter: str, now: float) -> str | None:
        """The phone to ask at `adapter`: near, heard best here of all adapters, not asked lately, and the loudest of these."""
        found = {
            peer: phone.heard[adapter].dbm for peer, phone in self._phones.items() if self._is_here(phone, adapter, now)
        }
        if not found:
            self._leaders.pop(adapter, None)
            return None
        loudest = max(found, key=lambda peer: found[peer])
        leader = self._leaders.get(adapter)
        if leader not in found or found[loudest] >= found[leader] + SWITCH_DB:
            leader = self._leaders[adapter] = loudest
        return leader

    def _is_here(self, phone: _Phone, adapter: str, now: float) -> bool:
        if phone.spent_at is not None and now - phone.spent_at < SPENT_S:
            return False
        here = phone.heard.get(adapter)
        if here is None or not here.near or now - here.at > FORGET_S:
            return False
        # Between two lanes the one that hears it better asks; on a tie the first by name, so that not both do.
        others = ((each.dbm, name) for name, each in phone.heard.items() if now - each.at <= FORGET_S)
        return min((-dbm, name) for dbm, name in others)[1] == adapter

    def spend(self, peer: str, now: float) -> None:
        """`peer` is being asked."""
        phone = self._phones.get(peer)
        if phone is not None:
            phone.spent_at = now
