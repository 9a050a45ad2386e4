"""Gates of one zone on a network in memory that loses, delays, reorders and splits as it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from drivers.ports import Direction
from gate_agent.zone import CutOff, EnteredTwice, Fact, Finding, Full, Moment, Outgoing, ZoneSettings, ZoneState
from gate_agent.zone.ledger import Ledger

IN, OUT = Direction.IN, Direction.OUT
SITE, ZONE = "hq", "lobby"
START = datetime(2026, 11, 24, 0, 0, tzinfo=UTC)
PERIOD = START.date().toordinal() - 1
"""The tag period at START: periods begin at 04:00 in UTC here."""


class Keys:
    """A different key for each period, the same at every gate; `missing` periods have none."""

    def __init__(self) -> None:
        self.missing: set[int] = set()

    def key(self, zone: str, period: int) -> bytes | None:
        return None if period in self.missing else Random(f"{zone} {period}").randbytes(32)


def handle(number: int) -> bytes:
    return Random(f"handle {number}").randbytes(32)


@dataclass
class Gate:
    name: str
    path: Path
    settings: tuple[ZoneSettings, ...]
    keys: Keys
    state: ZoneState = field(init=False)
    linked: bool = False
    twice: int = 0
    flags: list[bool] = field(default_factory=list)
    full: int = 0

    def ledger(self, zone: str = ZONE) -> Ledger:
        member = self.state._members[zone]
        return member._ledgers[member._period]


@dataclass(frozen=True)
class Flight:
    source: str
    to: str
    message: Outgoing


class Network:
    """`at` is the one time all gates live by, unless `ahead` names another for a gate."""

    def __init__(self, directory: Path, names: tuple[str, ...] = ("g1", "g2"), **settings: Any) -> None:
        self.elapsed = 0.0
        self.ahead: dict[str, timedelta] = {}
        self.random = Random(20261124)
        self.keys = Keys()
        self.flights: list[Flight] = []
        self.seen: list[Outgoing] = []
        zones = (ZoneSettings(ZONE, **settings),)
        self.gates = {name: Gate(name, directory / f"{name}.sqlite", zones, self.keys) for name in names}
        self._attempts = 0
        for gate in self.gates.values():
            self.start(gate.name)

    # Time.

    def now(self, name: str = "") -> Moment:
        return Moment(START + timedelta(seconds=self.elapsed) + self.ahead.get(name, timedelta()), 500.0 + self.elapsed)

    def wait(self, seconds: float) -> None:
        self.elapsed += seconds
        self.tick()

    def tick(self) -> None:
        for gate in self.gates.values():
            self.take(gate, gate.state.tick(self.now(gate.name)))

    # Gates.

    def start(self, name: str) -> Gate:
        gate = self.gates[name]
        gate.state = ZoneState(
            gate.path,
            site=SITE,
            gate=name,
            zones=gate.settings,
            keys=gate.keys,
            random_bytes=self.random.randbytes,
            now=self.now(name),
        )
        return gate

    def kill(self, name: str) -> None:
        """Nothing is said or written any more; the file is as it is."""
        self.cut(name)
        self.gates[name].state.close()

    def close(self) -> None:
        for gate in self.gates.values():
            gate.state.close()

    def __getitem__(self, name: str) -> ZoneState:
        return self.gates[name].state

    def take(self, gate: Gate, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case EnteredTwice(zone, count):
                    assert zone == ZONE
                    gate.twice += count
                case CutOff(_, cut_off):
                    gate.flags.append(cut_off)
                case Full():
                    gate.full += 1

    @property
    def twice(self) -> int:
        return sum(gate.twice for gate in self.gates.values())

    # The link.

    def join(self, *names: str) -> None:
        for name in names or tuple(self.gates):
            gate = self.gates[name]
            if not gate.linked:
                gate.linked = True
                gate.state.link_up(self.now(name))

    def cut(self, *names: str) -> None:
        for name in names or tuple(self.gates):
            if self.gates[name].linked:
                self.gates[name].linked = False
                self.gates[name].state.link_down(self.now(name))
            self.flights = [each for each in self.flights if name not in (each.source, each.to)]

    def send(self) -> None:
        """Put on the way what the gates have to say."""
        for gate in self.gates.values():
            for message in gate.state.outgoing(self.now(gate.name)):
                self.seen.append(message)
                self.flights += [Flight(gate.name, each.name, message) for each in self.gates.values() if each.linked]

    def deliver(self, at: int = 0) -> None:
        each = self.flights.pop(at)
        gate = self.gates[each.to]
        self.take(gate, gate.state.receive(each.message.topic, each.message.payload, self.now(each.to)))

    def drain(self) -> None:
        """Until nobody has anything to say."""
        self.send()
        for _ in range(20_000):
            if not self.flights:
                return
            self.deliver()
            self.send()
        raise AssertionError("the gates never stop talking")

    def settle(self) -> None:
        """All joined, all exchanged, all judged."""
        self.join()
        for _ in range(45):
            self.drain()
            self.wait(1)

    # People.

    def find(self, name: str, number: int, direction: Direction = IN, lane: str = "l1") -> Finding:
        return self[name].find(ZONE, handle(number), lane, direction, self.now(name))

    def reserve(self, name: str, number: int, direction: Direction = IN, lane: str = "l1") -> str:
        """Granted, whatever is found."""
        self._attempts += 1
        attempt = f"a{self._attempts}"
        found = self.find(name, number, direction, lane)
        changed = self[name].reserve(ZONE, handle(number), attempt, lane, direction, self.now(name), decided_on=found)
        assert changed is None
        return attempt

    def commit(self, name: str, attempt: str, direction: Direction = IN) -> None:
        self.take(self.gates[name], self[name].commit(attempt, self.now(name)))
        self[name].passed(ZONE, direction, self.now(name))

    def free(self, name: str, attempt: str) -> None:
        self[name].free(attempt, self.now(name))

    def walk(self, name: str, number: int, direction: Direction = IN, lane: str = "l1") -> None:
        self.commit(name, self.reserve(name, number, direction, lane), direction)

    def facts(self, number: int) -> set[Fact]:
        return {self.find(name, number).fact for name in self.gates}
