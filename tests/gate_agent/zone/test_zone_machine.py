"""Anti-passback on any network: what holds while the gates hear each other, and what holds in the end whatever happens."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drivers.ports import Direction
from gate_agent.zone import Fact, Finding
from tests.gate_agent.zone.network import IN, OUT, ZONE, Network, handle

PEOPLE = st.integers(0, 2)
NAMES = ("g1", "g2", "g3", "g4")


class Zone(RuleBasedStateMachine):
    """Three or four gates in hard mode, and what truly happened."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.net: Network
        self.open: dict[str, tuple[str, int, Direction]] = {}
        """Granted attempts: gate, person, direction."""
        self.inside: Counter[int] = Counter()
        self.entered = self.left = 0

    @initialize(gates=st.integers(2, 4))
    def build(self, gates: int) -> None:
        self.net = Network(Path(self.directory.name), NAMES[:gates], reserve_s=1e6)
        self.net.settle()

    def gate(self, number: int) -> str:
        names = list(self.net.gates)
        return names[number % len(names)]

    def present(self, name: str, person: int, lane: str, direction: Direction) -> Finding:
        """Find, decide as a hard zone that goes soft when cut off, and reserve."""
        found = self.net.find(name, person, direction, lane)
        if direction is OUT:
            assert found == Finding(Fact.CLEAR, Fact.CLEAR), "the exit is never barred"
        if found.fact in {Fact.CLEAR, Fact.CUT_OFF}:
            attempt = f"x{len(self.open)}-{self.entered + self.left}-{self.net.random.random()}"
            changed = self.net[name].reserve(
                ZONE, handle(person), attempt, lane, direction, self.net.now(name), decided_on=found
            )
            assert changed is None
            self.open[attempt] = (name, person, direction)
        return found

    def settle_attempt(self, passes: bool, number: int) -> None:
        attempt = sorted(self.open)[number % len(self.open)]
        name, person, direction = self.open.pop(attempt)
        if not passes:
            self.net.free(name, attempt)
            return
        self.net.commit(name, attempt, direction)
        if direction is IN:
            self.entered += 1
            self.inside[person] += 1
        else:
            self.left += 1
            self.inside[person] = 0

    def teardown(self) -> None:
        try:
            if hasattr(self, "net"):
                self.finish()
                self.net.close()
        finally:
            self.directory.cleanup()

    def finish(self) -> None:
        """What holds in the end."""
        for attempt in list(self.open):
            self.net.free(self.open.pop(attempt)[0], attempt)
        self.net.settle()
        gates = list(self.net.gates.values())
        assert len({gate.ledger().hashes for gate in gates}) == 1, "after a cut all know the same"
        known = [[each for bucket in range(32) for each in gate.ledger().movements(bucket)] for gate in gates]
        assert all(sorted(each) == sorted(known[0]) for each in known)
        for person in range(3):
            assert len(self.net.facts(person)) == 1
        counts = {gate.state.occupancy(ZONE, self.net.now(gate.name)) for gate in gates}
        assert counts == {max(0, self.entered - self.left)}, "the counts agree with what happened"
        assert {len(each.payload) for each in self.net.seen} == {512}
        assert len({each.payload for each in self.net.seen}) == len(self.net.seen)


class Connected(Zone):
    """Every message has arrived before the next thing happens."""

    @rule(number=st.integers(0, 3), person=PEOPLE, lane=st.sampled_from(["l1", "l2"]), inward=st.booleans())
    def somebody_presents(self, number: int, person: int, lane: str, inward: bool) -> None:
        entering = any(each[1:] == (person, IN) for each in self.open.values())
        found = self.present(self.gate(number), person, lane, IN if inward else OUT)
        self.net.drain()
        if inward:
            barred = entering or bool(self.inside[person])
            assert found.fact is (Fact.INSIDE if barred else Fact.CLEAR)

    @precondition(lambda self: self.open)
    @rule(passes=st.booleans(), number=st.integers(0, 20))
    def an_attempt_ends(self, passes: bool, number: int) -> None:
        self.settle_attempt(passes, number)
        self.net.drain()

    @rule(seconds=st.sampled_from([0.5, 3, 40]))
    def time_passes(self, seconds: float) -> None:
        self.net.wait(seconds)
        self.net.drain()

    @invariant()
    def nobody_is_inside_twice(self) -> None:
        assert all(count <= 1 for count in self.inside.values())
        if hasattr(self, "net"):
            assert self.net.twice == 0


class Troubled(Zone):
    """Messages are lost, late, out of order and doubled; gates are cut off, killed and started again."""

    @rule(number=st.integers(0, 3), person=PEOPLE, inward=st.booleans())
    def somebody_presents(self, number: int, person: int, inward: bool) -> None:
        self.present(self.gate(number), person, "l1", IN if inward else OUT)

    @precondition(lambda self: self.open)
    @rule(passes=st.booleans(), number=st.integers(0, 20))
    def an_attempt_ends(self, passes: bool, number: int) -> None:
        self.settle_attempt(passes, number)

    @rule()
    def the_gates_speak(self) -> None:
        self.net.send()

    @precondition(lambda self: self.net.flights)
    @rule(number=st.integers(0, 1000), fate=st.sampled_from(["arrives", "arrives", "lost", "twice"]))
    def a_message(self, number: int, fate: str) -> None:
        at = number % len(self.net.flights)
        if fate == "twice":
            self.net.flights.append(self.net.flights[at])
        if fate == "lost":
            del self.net.flights[at]
        else:
            self.net.deliver(at)

    @rule(number=st.integers(0, 3))
    def a_gate_is_cut_off(self, number: int) -> None:
        self.net.cut(self.gate(number))

    @rule(number=st.integers(0, 3))
    def a_gate_has_its_link_back(self, number: int) -> None:
        self.net.join(self.gate(number))

    @rule(number=st.integers(0, 3))
    def a_gate_is_killed_and_started(self, number: int) -> None:
        name = self.gate(number)
        for attempt in [attempt for attempt, each in self.open.items() if each[0] == name]:
            _, person, direction = self.open.pop(attempt)
            if direction is OUT:
                self.inside[person] = 0  # counts as taken
        self.net.kill(name)
        self.net.start(name)

    @rule(number=st.integers(0, 3))
    def a_guard_forgives_the_zone(self, number: int) -> None:
        name = self.gate(number)
        self.net[name].forgive_zone(ZONE, self.net.now(name))

    @rule(seconds=st.sampled_from([0.5, 3, 40]))
    def time_passes(self, seconds: float) -> None:
        self.net.wait(seconds)


TestConnected = Connected.TestCase
TestConnected.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestTroubled = Troubled.TestCase
TestTroubled.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
