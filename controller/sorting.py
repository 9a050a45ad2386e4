"""Which message is what: a pure step from MQTT messages to records, states and healths, with everything else set aside.

Bad input ends here: whatever a payload holds, it becomes one reason and a count, and is never in the way of the next. What is
wrong with one record of a batch touches none of the others. Statements in records are opened here, with their gate's key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from controller.batch import NOT_ENROLLED, Batch, Poison, Record, Remark, What
from mdoc.cose import PublicKey
from protocol import events, fields, health, packing, status, topics
from protocol.clock import rfc3339
from protocol.events import Event, Kind
from protocol.health import Health
from protocol.statement import Purpose, StatementError, from_data
from protocol.status import GateState, Online

EARLIEST, LATEST = 2000, 2199
"""Years an event may name: a clock that was never set is still recorded, nonsense is not."""
RECORDS = frozenset({"evt", "alarm"})
LEAVES = ("evt", "alarm", "state", "online", "health")
CANONICAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
"""How a gate of ours writes an instant (protocol.clock.rfc3339); other forms of RFC 3339 are turned into this one."""
STATEMENTS = {
    Kind.JOURNAL_CHECKPOINT: Purpose.CHECKPOINT,
    Kind.JOURNAL_PRUNED: Purpose.PRUNED,
    Kind.LOG_GAP: Purpose.GAP,
}

Keys = Callable[[str], PublicKey | None]
"""The public key of an enrolled gate. Called in the store's thread."""


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


def sort(messages: Sequence[Received], site: str, keys: Keys) -> Sorted:
    """`site` is the only one this controller answers for."""
    records: list[Record] = []
    poison: list[Poison] = []
    heard: set[str] = set()
    onlines: list[tuple[str, Online]] = []
    states: dict[str, GateState] = {}
    healths: dict[str, Health] = {}
    addresses: dict[str, tuple[str, str]] = {}
    for message in messages:
        topic, payload = message.topic, message.payload
        try:
            address = addresses.get(topic)
            if address is None:
                address = addresses[topic] = _address(topic, site)
            gate, leaf = address
            if leaf in RECORDS:
                if packing.packed(payload):
                    before = len(records)
                    _unpack(payload, gate, topic, site, keys, records, poison)
                    if len(records) == before:
                        continue
                else:
                    records.append(_record(payload, gate, topic, site, keys))
            elif leaf == "state":
                states[gate] = status.parse_state(payload)
            elif leaf == "health":
                healths[gate] = health.parse(payload)
            else:
                onlines.append((gate, status.parse_online(payload)))
            heard.add(gate)
        except _SetAsideError as error:
            poison.append(Poison(topic, str(error), payload))
        except fields.PayloadError:
            poison.append(Poison(topic, "not_a_status", payload))
    heads = {gate: (state.epoch, state.seq) for gate, state in states.items()}
    return Sorted(Batch(records, poison, frozenset(heard), onlines, heads, healths), states, healths)


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


def _unpack(
    payload: bytes, gate: str, topic: str, site: str, keys: Keys, records: list[Record], poison: list[Poison]
) -> None:
    """Adds what a batch holds to `records` or `poison`."""
    try:
        parts = packing.split(payload)
    except packing.PackError:
        raise _SetAsideError("not_a_batch") from None
    for raw in parts:
        try:
            records.append(_record(raw, gate, topic, site, keys))
        except _SetAsideError as error:
            poison.append(Poison(topic, str(error), raw))


def _record(raw: bytes, gate: str, topic: str, site: str, keys: Keys) -> Record:
    if len(raw) > events.MAX_RECORD_BYTES:
        raise _SetAsideError("too_large")
    try:
        event = events.parse(raw)
    except events.EventError:
        raise _SetAsideError("not_an_event") from None
    if event.gate != gate:
        raise _SetAsideError("wrong_gate")
    if not fields.WORD.fullmatch(event.epoch):
        raise _SetAsideError("bad_epoch")
    record = Record(event, _instant(event.time), event.hash, topic)
    if event.kind in STATEMENTS:
        _open_statement(record, site, keys)
    return record


def _instant(text: str) -> str:
    """UTC, milliseconds."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not UTC:
            at = at.astimezone(UTC) if at.tzinfo is not None else at
    except (ValueError, OverflowError):
        raise _SetAsideError("bad_time") from None
    if at.tzinfo is None or not EARLIEST <= at.year <= LATEST:
        raise _SetAsideError("bad_time")
    return text if CANONICAL.fullmatch(text) else rfc3339(at)


def _open_statement(record: Record, site: str, keys: Keys) -> None:
    """Fills in `statement`, or `remark` where it cannot be believed."""
    event = record.event
    purpose = STATEMENTS[Kind(event.kind)]
    if purpose is Purpose.GAP and "sealed" not in event.data:
        return  # how many records could not be written: they never had a number
    key = keys(event.gate)
    if key is None:
        record.remark = NOT_ENROLLED
        return
    try:
        found = from_data(event.data, purpose, key)
        if (found.site, found.gate) != (site, event.gate) or not fields.WORD.fullmatch(found.epoch):
            raise StatementError("a statement about another gate")
        if purpose is Purpose.CHECKPOINT:
            _check_checkpoint(event, found.epoch, found.last, found.hash)
        else:
            record.statement, record.purpose = found, purpose
    except StatementError as error:
        record.remark = Remark(What.CHECKPOINT if purpose is Purpose.CHECKPOINT else What.STATEMENT, str(error)[:200])


def _check_checkpoint(event: Event, epoch: str, last: int, digest: str) -> None:
    if (epoch, last, digest) != (event.epoch, event.seq - 1, event.prevhash):
        raise StatementError("not about the record before it")
