"""Anti-passback across lanes and gates: who is inside a zone, by tags that mean nothing outside it and last one period.

ARCHITECTURE section 7 "Anti-passback"; access-control reference section 5. docs/antipassback.md says what is promised and what
is not. `ZoneState` is all a lane needs; it has no input or output but its own file (store.py).
"""

from gate_agent.zone.facts import (
    CutOff,
    Drop,
    Effect,
    EnteredTwice,
    Fact,
    Finding,
    Full,
    Moment,
    Outgoing,
    ZoneSettings,
)
from gate_agent.zone.keys import FileZoneKeys, ZoneKeys, write_keys
from gate_agent.zone.link import ZoneLink
from gate_agent.zone.state import ZoneState
from gate_agent.zone.store import ZoneStoreError

__all__ = [
    "CutOff",
    "Drop",
    "Effect",
    "EnteredTwice",
    "Fact",
    "FileZoneKeys",
    "Finding",
    "Full",
    "Moment",
    "Outgoing",
    "ZoneKeys",
    "ZoneLink",
    "ZoneSettings",
    "ZoneState",
    "ZoneStoreError",
    "write_keys",
]
