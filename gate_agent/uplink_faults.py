"""What is wrong between gate and controller: the meaning of each answer to a publication, and each fault told once.

A publication that the broker refuses (MQTT 5.0, reason code 0x80 and above) is an alarm, never a success. A fault is one event
when it begins and one when it ends, however often it is met in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from protocol import mqtt
from protocol.events import Kind
from protocol.mqtt import PubResult

NAME = "uplink"
"""Stands in device.degraded and device.restored as any device does."""
MAX_WHY = 200
"""Characters of a reason in an event."""
ACK = "ack"
MISMATCH, FORGED = "ack_mismatch", "ack_forged"
LINK = "connection"


class Answer(Enum):
    """What becomes of a publication."""

    TAKEN = "the broker has it"
    AGAIN = "says nothing about the message: it is sent again"
    SMALLER = "a batch is sent again in smaller ones; a single record is refused"
    REFUSED = "alarm, and sent again with back-off"


ANSWERS: Mapping[str, Answer] = {
    mqtt.OK: Answer.TAKEN,
    # A controller that has lost its session: its acknowledgement stays away, and the record goes again as any other does.
    mqtt.NO_SUBSCRIBERS: Answer.TAKEN,
    mqtt.NOT_CONNECTED: Answer.AGAIN,
    mqtt.CONNECTION_LOST: Answer.AGAIN,
    mqtt.QUEUE_FULL: Answer.AGAIN,
    mqtt.TIMEOUT: Answer.AGAIN,
    mqtt.TOO_LARGE: Answer.SMALLER,
    "Packet too large": Answer.SMALLER,
    # A broker that looks into payloads may know single events and no batches.
    "Payload format invalid": Answer.SMALLER,
    "Quota exceeded": Answer.REFUSED,
    "Not authorized": Answer.REFUSED,
    "Topic name invalid": Answer.REFUSED,
    "Packet identifier in use": Answer.REFUSED,
    "Implementation specific error": Answer.REFUSED,
    "Unspecified error": Answer.REFUSED,
}
"""By protocol.mqtt.PubResult.reason."""
_OURS = frozenset({mqtt.TOO_LARGE})
"""Known before anything was sent."""


def answer(result: PubResult) -> Answer:
    """A reason that is not in the table counts by what MQTT makes of it: 0x80 and above is a refusal."""
    return ANSWERS.get(result.reason, Answer.TAKEN if result.ok else Answer.REFUSED)


class Faults:
    def __init__(self, report: Callable[[Kind, dict[str, str]], None]) -> None:
        """`report` records device.degraded, device.restored, alarm.uplink and alarm.uplink.cleared."""
        self._report = report
        self._found: dict[str, str] = {}

    def __contains__(self, what: str) -> bool:
        return what in self._found

    @property
    def mismatch(self) -> bool:
        return self._found.get(ACK) == MISMATCH

    @property
    def refused(self) -> bool:
        """Some topic leaf is."""
        return bool(self._found.keys() - {ACK, LINK})

    def begin(self, what: str, why: str) -> None:
        """`what` is a topic's last level, or LINK. A fault that is known is not told again; an acknowledgement of other records
        outranks one that nobody signed."""
        known = self._found.get(what)
        if known is not None and not (what == ACK and known == FORGED and why == MISMATCH):
            return
        self._found[what] = why
        if what == LINK:
            self._report(Kind.DEVICE_DEGRADED, {"device": NAME, "why": why[:MAX_WHY]})
        else:
            self._report(Kind.ALARM_UPLINK, {"what": what, "why": why[:MAX_WHY]})

    def end(self, what: str) -> None:
        if self._found.pop(what, None) is None:
            return
        if what == LINK:
            self._report(Kind.DEVICE_RESTORED, {"device": NAME})
        else:
            self._report(Kind.ALARM_UPLINK_CLEARED, {"what": what})

    def judge(self, leaf: str, result: PubResult) -> Answer:
        """Begin or end the fault of `leaf` by the broker's answer."""
        found = answer(result)
        if found is Answer.TAKEN:
            self.end(leaf)
        elif found is not Answer.AGAIN:
            self.begin(leaf, f"refused: {result.reason}")
        return found
