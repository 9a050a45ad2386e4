"""Retained payloads of a gate: `online` (birth and will) and `state` (its lanes). docs/asyncapi.yaml describes both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocol import fields

MAX_ONLINE_BYTES = 256
MAX_STATE_BYTES = 32768
MAX_LANES = 128
"""Two directions of 64 barriers, the most one gate host drives."""
MAX_DEGRADED = 16


class LaneState(StrEnum):
    """States of a lane (access-control practice: speed-gate state machine), and `unknown` before the first message."""

    UNKNOWN = "unknown"
    BOOT = "boot"
    SECURED = "secured"
    GRANTED = "granted"
    PASSING = "passing"
    EGRESS = "egress"
    HELD = "held"
    INTRUSION = "intrusion"
    LOCKED_OPEN = "locked_open"
    FREE = "free"
    LOCKED_DOWN = "locked_down"
    OUT_OF_SERVICE = "out_of_service"


@dataclass(frozen=True, slots=True)
class Online:
    """A will carries the boot id of the connection it belongs to: it cannot overrule the birth of a later one."""

    online: bool
    boot: str

    def encode(self) -> bytes:
        return fields.encode({"online": self.online, "boot": self.boot})


def parse_online(raw: bytes) -> Online:
    """Raises PayloadError."""
    body = fields.read(raw, MAX_ONLINE_BYTES)
    online = Online(body.flag("online"), body.word("boot"))
    body.done()
    return online


@dataclass(frozen=True, slots=True)
class LaneStatus:
    lane: str
    direction: str
    """`in` or `out`."""
    state: LaneState
    degraded: tuple[str, ...] = ()
    """What of this lane does not work, such as `camera` or `nfc`."""


@dataclass(frozen=True, slots=True)
class GateState:
    boot: str
    epoch: str
    seq: int
    """The last record written before this state: how old it is, for a reader who has the events."""
    lanes: tuple[LaneStatus, ...]

    def encode(self) -> bytes:
        return fields.encode(
            {
                "boot": self.boot,
                "epoch": self.epoch,
                "seq": self.seq,
                "lanes": [
                    {"lane": each.lane, "dir": each.direction, "state": each.state, "degraded": list(each.degraded)}
                    for each in self.lanes
                ],
            }
        )


def parse_state(raw: bytes) -> GateState:
    """Raises PayloadError."""
    body = fields.read(raw, MAX_STATE_BYTES)
    state = GateState(
        boot=body.word("boot"),
        epoch=body.word("epoch"),
        seq=body.number("seq"),
        lanes=tuple(_lane(each) for each in body.objects("lanes", MAX_LANES)),
    )
    body.done()
    if len({each.lane for each in state.lanes}) != len(state.lanes):
        raise fields.PayloadError("lanes: each lane once is expected")
    return state


def _lane(body: fields.Fields) -> LaneStatus:
    lane, direction, state = body.word("lane"), body.word("dir"), body.word("state")
    degraded = body.words("degraded", MAX_DEGRADED)
    body.done()
    if direction not in {"in", "out"}:
        raise body.error("dir", "in or out")
    try:
        return LaneStatus(lane, direction, LaneState(state), degraded)
    except ValueError:
        raise body.error("state", "a lane state") from None
