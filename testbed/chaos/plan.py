"""What happens in a run, and in which order: decided by a seed alone. How long something lasts is counted in records."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Action(StrEnum):
    KILL_GATE = "kill_gate"
    KILL_BROKER = "kill_broker"
    KILL_CONTROLLER = "kill_controller"
    STOP_GATE = "stop_gate"
    """SIGTERM, as at a reboot."""
    HOLD = "hold"
    SWALLOW = "swallow"
    CUT = "cut"
    REFUSE = "refuse"
    SLOW = "slow"
    """Delay, jitter and a narrow line."""
    CLOCK = "clock"
    """Every wall clock jumps."""
    RESEND = "resend"
    """Earlier records again, doubled and out of order."""
    BROKER_FORGETS = "broker_forgets"
    """Killed, and its persistence file is gone."""
    BACK_UP = "back_up"
    RESTORE = "restore"
    """The controller starts on its last backup."""


KILLS = frozenset({Action.KILL_GATE, Action.KILL_BROKER, Action.KILL_CONTROLLER, Action.BROKER_FORGETS, Action.RESTORE})
PARTITIONS = frozenset({Action.HOLD, Action.SWALLOW, Action.CUT, Action.REFUSE})
CONTROLLER = "controller"
ROUND = (
    *(Action.KILL_GATE, Action.KILL_BROKER, Action.KILL_CONTROLLER) * 2,
    *(action for action in Action if action not in {Action.KILL_GATE, Action.KILL_BROKER, Action.KILL_CONTROLLER}),
)
"""Each action once, the plain kills twice."""
SHORT = (
    *(Action.KILL_GATE, Action.KILL_BROKER, Action.KILL_CONTROLLER) * 6,
    *(Action.SWALLOW, Action.CLOCK, Action.RESEND, Action.BROKER_FORGETS, Action.BACK_UP, Action.RESTORE),
)
"""One round for the quick tests."""
DAY_S = 86_400.0
JUMPS_S = (-400 * DAY_S, -DAY_S, -3600.0, -2.0, 0.0, 2.0, 3600.0, DAY_S, 400 * DAY_S)


@dataclass(frozen=True, slots=True)
class Step:
    action: Action
    target: str
    """A gate, or the controller: whose process, whose line."""
    before: int
    """Records that become durable before it happens."""
    records: int
    """Records that become durable while it lasts; what lasts is mended after them."""
    amount: float
    """Of SLOW the delay in seconds, of CLOCK the offset in seconds, of RESEND the number of records; else 0."""


def steps(
    seed: int,
    gates: Sequence[str],
    *,
    longest: int,
    without: Collection[Action] = frozenset(),
    a_round: Sequence[Action] = ROUND,
) -> Iterator[Step]:
    """For ever, round by round, each round in another order. `longest`: most records that one step may last."""
    random = Random(seed)  # noqa: S311  a plan that can be repeated, no secret
    while True:
        order = [action for action in a_round if action not in without]
        random.shuffle(order)
        for action in order:
            yield _step(action, random, gates, longest)


def _step(action: Action, random: Random, gates: Sequence[str], longest: int) -> Step:
    target = random.choice(gates)
    if action in PARTITIONS or action is Action.SLOW:
        target = random.choice((*gates, CONTROLLER))
    amount = 0.0
    if action is Action.SLOW:
        amount = round(random.uniform(0.01, 0.2), 3)
    elif action is Action.CLOCK:
        amount = random.choice(JUMPS_S)
    elif action is Action.RESEND:
        amount = float(random.randint(5, 60))
    # As many short ones as long ones of each size.
    records = int(longest ** random.random())
    return Step(action, target, random.randint(0, 15), records, amount)
