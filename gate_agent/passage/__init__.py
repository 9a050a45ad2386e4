"""The lane: what its sensors mean, its state machine as one table, and the machine that walks it. No I/O, no clock.

`Passage` is the whole of it for a caller; docs/passage.md shows the table.
"""

from gate_agent.passage.machine import (
    Credit,
    Happening,
    Happenings,
    Passage,
    Result,
    SensorChanged,
    Settings,
    Verb,
)
from gate_agent.passage.states import (
    HOUSING,
    MAX_LEVEL,
    PASSAGE,
    RESTING,
    Effect,
    Egress,
    Input,
    Key,
    LaneType,
    Orders,
    Refusal,
    State,
    Step,
    Timer,
)
from gate_agent.passage.table import TABLE, step

__all__ = [
    "HOUSING",
    "MAX_LEVEL",
    "PASSAGE",
    "RESTING",
    "TABLE",
    "Credit",
    "Effect",
    "Egress",
    "Happening",
    "Happenings",
    "Input",
    "Key",
    "LaneType",
    "Orders",
    "Passage",
    "Refusal",
    "Result",
    "SensorChanged",
    "Settings",
    "State",
    "Step",
    "Timer",
    "Verb",
    "step",
]
