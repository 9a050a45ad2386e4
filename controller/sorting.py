"""Which message is what: a pure step from MQTT messages to records, states and healths, with everything else set aside.

Bad input ends here: whatever a payload holds, it becomes one reason and a count, and is never in the way of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from controller.store import Batch, Poison, Record
from protocol import events, fields, health, status, topics
from protocol.health import Health
from protocol.status import GateState, Online

EARLIEST, LATEST = 2000, 2199
"""Years an event may name: a clock that was never set is still recorded, nonsense is not."""
LEAVES = ("evt", "state", "online", "health")


class Received(Protocol):
    @property
    def topic(self) -> str: ...

    @property
    def payload(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sorted:
    batch: Batch
    states: dict[str, GateState]
    healths: dict[str, Health]


def sort(messages: Sequence[Received], site: str) -> Sorted:
    """`site` is the only one this controller answers for."""
    records: list[Record] = []
    poison: list[Poison] = []
    seen: dict[str, Online | None] = {}
    states: dict[str, GateState] = {}
    healths: dict[str, Health] = {}
    for message in messages:
        topic, payload = message.topic, message.payload
        try:
            gate, leaf = _address(topic, site)
            match leaf:
                case "evt":
                    records.append(_record(payload, gate, topic))
                case "state":
                    states[gate] = status.parse_state(payload)
                case "health":
                    healths[gate] = health.parse(payload)
                case _:
                    seen[gate] = status.parse_online(payload)
            seen.setdefault(gate, None)
        except _SetAsideError as error:
            poison.append(Poison(topic, str(error), payload))
        except events.EventError:
            poison.append(Poison(topic, "not_an_event", payload))
        except fields.PayloadError:
            poison.append(Poison(topic, "not_a_status", payload))
    return Sorted(Batch(records, poison, seen), states, healths)


class _SetAsideError(Exception):
    """Its text is the reason, one word."""


def _address(topic: str, site: str) -> tuple[str, str]:
    try:
        gate = topics.gate_of(topic)
    except ValueError:
        raise _SetAsideError("bad_topic") from None
    _, _, named, _, leaf = topic.split("/")
    if named != site or leaf not in LEAVES:
        raise _SetAsideError("bad_topic")
    return gate, leaf


def _record(payload: bytes, gate: str, topic: str) -> Record:
    if len(payload) > events.MAX_RECORD_BYTES:
        raise _SetAsideError("too_large")
    event = events.parse(payload)
    if event.gate != gate:
        raise _SetAsideError("wrong_gate")
    if not fields.WORD.fullmatch(event.epoch):
        raise _SetAsideError("bad_epoch")
    try:
        at = datetime.fromisoformat(event.time)
        at = at.astimezone(UTC) if at.tzinfo is not None else at
    except (ValueError, OverflowError):
        raise _SetAsideError("bad_time") from None
    if at.tzinfo is None or not EARLIEST <= at.year <= LATEST:
        raise _SetAsideError("bad_time")
    return Record(event, at, topic)
