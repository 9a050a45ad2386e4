"""MQTT topics, one leaf per right: a broker ACL line grants each leaf to exactly one writer (controller.acl)."""

from __future__ import annotations

import re

ROOT = "pacs/1"
ALL = "all"
"""In the place of a gate: what the controller says to every gate at once. No gate may be named so."""
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Site and gate names: they stand in topics, file names and certificate common names."""

ZONE = re.compile(r"[\w.-]{1,64}")
"""Zone names as the rules document has them (policy.reading); none of these characters means anything in a topic."""


def event(site: str, gate: str) -> str:
    """Gate writes, QoS 1, not retained: one journal record."""
    return f"{ROOT}/{site}/{gate}/evt"


def state(site: str, gate: str) -> str:
    """Gate writes, QoS 1, retained: lanes and their modes, with the sequence of the last change."""
    return f"{ROOT}/{site}/{gate}/state"


def online(site: str, gate: str) -> str:
    """Gate's birth and, by the broker, its will; QoS 1, retained; carries the boot id."""
    return f"{ROOT}/{site}/{gate}/online"


def health(site: str, gate: str) -> str:
    """Gate writes, QoS 0, every 30 s, expires after 90 s."""
    return f"{ROOT}/{site}/{gate}/health"


def alarm(site: str, gate: str) -> str:
    """Gate writes, QoS 1, not retained: a copy of an urgent record, ahead of the backlog."""
    return f"{ROOT}/{site}/{gate}/alarm"


def replay(site: str, gate: str) -> str:
    """Controller writes, QoS 1, not retained, expires: which records it asks for again."""
    return f"{ROOT}/{site}/{gate}/replay"


def command(site: str, gate: str) -> str:
    """Controller writes, QoS 1, never retained, expires: an order, or a request for a challenge (protocol.command)."""
    return f"{ROOT}/{site}/{gate}/cmd"


def result(site: str, gate: str) -> str:
    """Gate writes, QoS 1, not retained, expires: its answer to a message on `cmd`."""
    return f"{ROOT}/{site}/{gate}/res"


def ack(site: str, gate: str) -> str:
    """Controller writes, QoS 1, retained: highest contiguous record stored."""
    return f"{ROOT}/{site}/{gate}/ack"


def zone_tag(site: str, gate: str, zone: str) -> str:
    """Gate writes, gates read, QoS 1, not retained: one sealed anti-passback message (protocol/zone.py)."""
    return f"{ROOT}/{site}/{gate}/zone/{zone}/tag"


def zone_tags(site: str, zone: str) -> str:
    """The filter by which a gate hears every gate of a zone, itself included."""
    return zone_tag(site, "+", zone)


def zone_tag_of(topic: str) -> tuple[str, str, str]:
    """Site, gate and zone of a `zone_tag` topic. Raises ValueError on any other topic."""
    parts = topic.split("/")
    if len(parts) != 7 or "/".join(parts[:2]) != ROOT or (parts[4], parts[6]) != ("zone", "tag"):
        raise ValueError("not a zone topic of this product")
    site, gate, zone = parts[2], parts[3], parts[5]
    if not (ID.fullmatch(site) and ID.fullmatch(gate) and ZONE.fullmatch(zone)):
        raise ValueError("not a zone topic of this product")
    return site, gate, zone


def time(site: str) -> str:
    """Controller writes, QoS 0, not retained, every 30 s: its beacon, unsigned (protocol.beacon)."""
    return f"{ROOT}/{site}/{ALL}/time"


def emergency(site: str) -> str:
    """Controller writes, QoS 1, retained: the lockdown level of every zone, signed (protocol.emergency)."""
    return f"{ROOT}/{site}/{ALL}/emergency"


def gate_of(topic: str) -> str:
    """The gate level of one of the topics above that have one. Raises ValueError on any other topic."""
    parts = topic.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != ROOT or not ID.fullmatch(parts[3]) or parts[3] == ALL:
        raise ValueError("not a topic of this product")
    return parts[3]
