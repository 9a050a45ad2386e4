"""Runs presentations in a building and judges them by the gate's own journal; in the end holds the controller against it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from gate_agent.agent import KEPT_RULES
from protocol import events
from protocol.events import Event, Kind
from testbed.building import CAPTURE, GATE, Building
from testbed.canaries import Canaries, Find
from testbed.scenario import GRANTED, Attempt

DECISION_S = 25.0
PASSAGE_S = 10.0
ARRIVAL_S = 30.0
API = (
    "events?limit=500",
    "gates",
    "traffic",
    "latency",
    "refusals",
    "occupancy",
    "muster",
    "alarms",
    "orders",
    "reports/passages",
)
SHOWN = ("/", "/?lang=en", "/metrics", *(f"/api/v1/{each}" for each in API))
"""What the controller answers to whoever asks, searched for canaries as its files are."""
_DECIDED = frozenset({Kind.ACCESS_GRANTED, Kind.ACCESS_DENIED, Kind.ACCESS_UNREADABLE})


@dataclass(frozen=True, slots=True)
class Result:
    attempt: Attempt
    outcome: str
    """`granted`, a reason, or what went wrong instead."""
    event: Event | None
    opened: Event | None

    @property
    def expected(self) -> bool:
        return self.outcome == self.attempt.expected


@dataclass(frozen=True, slots=True)
class Count:
    """What the controller holds against what the gate recorded."""

    events: int
    lost: int
    duplicated: int
    leaks: Sequence[Find]
    """Issued values found where none may be."""


@dataclass(slots=True)
class Runner:
    building: Building
    results: list[Result] = field(default_factory=list)
    _decision: asyncio.Future[Event] | None = None

    async def decided(self) -> None:
        """Until the attempt under way has its decision."""
        if self._decision is not None:
            await asyncio.wait([self._decision])

    async def present(self, attempt: Attempt) -> Result:
        journal = self.building.journal
        after = journal.last()
        self._decision = asyncio.ensure_future(
            journal.wait_for(
                lambda event: event.kind in _DECIDED and event.data.get("lane") == attempt.lane,
                after=after,
                timeout=DECISION_S,
            )
        )
        act = asyncio.ensure_future(_act(attempt))
        try:
            event = await self._decision
        except TimeoutError:
            result = Result(attempt, "no decision", None, None)
        else:
            opened = await self._passed(attempt, event, after) if event.kind is Kind.ACCESS_GRANTED else None
            result = Result(attempt, self._outcome(event, opened), event, opened)
        failure = await act
        if failure is not None:
            result = Result(attempt, f"phone: {failure}", result.event, result.opened)
        self.results.append(result)
        return result

    @staticmethod
    def _outcome(event: Event, opened: Event | None) -> str:
        if event.kind is not Kind.ACCESS_GRANTED:
            return str(event.data.get("reason"))
        return GRANTED if opened is not None else "granted, but not opened"

    async def _passed(self, attempt: Attempt, event: Event, after: int) -> Event | None:
        """The relay moved and the person went through; the record of the opening."""
        journal, rig = self.building.journal, self.building.lanes[attempt.lane]
        number = event.data["attempt"]

        def of_this(kind: Kind) -> asyncio.Future[Event]:
            return asyncio.ensure_future(
                journal.wait_for(
                    lambda each: each.kind is kind and each.data.get("attempt") == number,
                    after=after,
                    timeout=PASSAGE_S,
                )
            )

        try:
            opened = await of_this(Kind.LANE_OPENED)
            if attempt.walks:
                await rig.turnstile.walk(rig.direction)
                await of_this(Kind.PASSAGE_COMPLETED)
        except TimeoutError:
            return None
        return opened

    async def count(self, canaries: Canaries) -> Count:
        """Wait until everything has arrived, then compare record by record."""
        await self.building.agent.stop()
        recorded = {event.seq: event.raw for event in self.building.journal.read()}
        stored: list[tuple[int, bytes]] = []
        loop = asyncio.get_running_loop()
        end = loop.time() + ARRIVAL_S
        while loop.time() < end:
            stored = await asyncio.to_thread(self._stored)
            if len(stored) >= len(recorded):
                break
            await asyncio.sleep(0.1)
        lost = sum(1 for seq, raw in recorded.items() if (seq, raw) not in set(stored))
        return Count(
            events=len(recorded),
            lost=lost,
            duplicated=self._duplicated(recorded, stored),
            leaks=await asyncio.to_thread(canaries.search, self._left_behind()),
        )

    def _stored(self) -> list[tuple[int, bytes]]:
        path = self.building.controller_state / "controller.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            rows = database.execute("SELECT seq, raw FROM events WHERE gate = ?", (GATE,)).fetchall()
        return [(int(seq), bytes(raw)) for seq, raw in rows]

    @staticmethod
    def _duplicated(recorded: dict[int, bytes], stored: list[tuple[int, bytes]]) -> int:
        """Events stored twice, stored but never recorded, and attempts with more than one decision."""
        twice = sum(count - 1 for count in Counter(raw for _, raw in stored).values())
        foreign = sum(1 for seq, raw in stored if recorded.get(seq) != raw)
        decisions = Counter(
            event.data.get("attempt")
            for event in (events.parse(raw) for _, raw in stored)
            if event.kind in events.DECISIONS
        )
        return twice + foreign + sum(count - 1 for count in decisions.values())

    def _left_behind(self) -> Iterator[tuple[str, bytes]]:
        """All that crossed the broker; databases (free pages and WAL included), logs and other files of agent, controller and
        broker, but for the rules, which name what they are about; and what the controller shows to whoever asks."""
        root = self.building.directory
        places = [self.building.agent_state, self.building.controller_state, root / "broker"]
        files = [path for place in places for path in place.rglob("*") if path.is_file() and path.name != KEPT_RULES]
        files += [root / "agent.log", root / "controller.log", root / CAPTURE]
        for path in files:
            if path.exists():
                yield str(path.relative_to(root)), path.read_bytes()
        for shown in SHOWN:
            yield shown, self.building.shown(shown)


async def _act(attempt: Attempt) -> str | None:
    """What the person does; what went wrong with the phone itself, which is never expected."""
    try:
        async with asyncio.timeout(DECISION_S + 5):
            await attempt.act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
