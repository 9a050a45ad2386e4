"""Orders from afar at a real lane on a bench: the test is the controller's side, its operators' keys and the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec

from drivers.ports import LaneSignal
from gate_agent.clockwatch import ClockWatch
from gate_agent.command_keys import ANY, CommandKey, CommandKeys
from gate_agent.command_refusals import CommandRefusals
from gate_agent.commands import Commands, Site
from gate_agent.emergencies import Emergencies
from gate_agent.guard import Guard
from gate_agent.modes import KeptModes
from gate_agent.passage import State
from gate_agent.remote import Remote
from gate_agent.timekeeping import KernelState, Settings
from policy.situation import ClockQuality
from protocol import command as wire
from protocol import topics
from protocol.command import EMERGENCY, Answer, Asked, Command, CommandVerb, Operator
from protocol.emergency import Emergency
from protocol.events import Event, Kind
from protocol.mqtt import Message, PublishProperties
from protocol.replay import Replay
from tests.conftest import NOW
from tests.gate_agent.conftest import Bench
from tests.gate_agent.fakes import beam

SITE, GATE, LANE = "seoul-1", "gate-1", "hall-in"
GUARD_KEY, CHIEF_KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
GUARD, CHIEF = Operator("Kim", "guard"), Operator("Lee", "chief")
LONG = NOW + timedelta(days=365)
VERBS = frozenset(map(str, CommandVerb))


def listed(key: ec.EllipticCurvePrivateKey, role: str, **more: Any) -> CommandKey:
    settings: dict[str, Any] = {"verbs": VERBS, "roles": frozenset({role}), "zones": frozenset({"lobby"}), **more}
    return CommandKey(key.public_key(), not_after=settings.pop("not_after", LONG), **settings)


def keys(*entries: CommandKey) -> CommandKeys:
    return CommandKeys(1, NOW, {wire.kid_of(each.key): each for each in entries})


LISTED = keys(
    listed(GUARD_KEY, "guard"),
    listed(CHIEF_KEY, "chief", verbs=VERBS | {EMERGENCY}, zones=frozenset({ANY})),
)


def message(payload: bytes, *, retain: bool = False, response_topic: str | None = None) -> Message:
    return Message(
        topics.command(SITE, GATE), payload, 1, retain, {}, 1, cast(Any, None), response_topic, b"correlation"
    )


@dataclass
class Desk:
    bench: Bench
    commands: Commands
    emergencies: Emergencies
    watch: ClockWatch
    modes: KeptModes
    listed: CommandKeys = LISTED
    answers: list[tuple[Answer, PublishProperties]] = field(default_factory=list)
    refreshed: int = 0
    replays: list[Replay] = field(default_factory=list)
    restarts: int = 0
    kernel: KernelState | None = field(default_factory=lambda: KernelState(True, 12, 0.0))

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text("desk")  # what hypothesis would print of it is longer than it allows

    async def ask(self, payload: bytes, **more: Any) -> Answer | None:
        """Hand over one message; the answer to it, if there was one."""
        before = len(self.answers)
        self.commands.on_message(message(payload, **more))
        while self.commands._waiting:
            await self.commands.handle(self.commands._waiting.popleft())
        return self.answers[-1][0] if len(self.answers) > before else None

    async def challenge(self) -> bytes:
        answer = await self.ask(Asked("c-1").encode())
        assert answer is not None
        assert answer.challenge is not None
        return answer.challenge

    async def order(
        self,
        verb: str,
        lane: str = LANE,
        *,
        key: ec.EllipticCurvePrivateKey = GUARD_KEY,
        second_key: ec.EllipticCurvePrivateKey | None = None,
        challenge: bytes | None = None,
        **more: Any,
    ) -> Answer:
        """A whole order. `more` replaces fields of the command."""
        wanted = challenge or await self.challenge()
        order = Command(**{**plain(verb, lane, wanted), **more})
        payload = order.payload()
        second = None if second_key is None else wire.seal(payload, second_key)
        answer = await self.ask(wire.order(order.id, wire.seal(payload, key), second))
        assert answer is not None
        return answer

    async def emergency(self, sequence: int, *, key: ec.EllipticCurvePrivateKey = CHIEF_KEY, **levels: int) -> None:
        now = self.bench.clock.now()
        await self.emergencies.handle(Emergency(SITE, sequence, now, now + timedelta(hours=1), levels).encode(key))

    @property
    def state(self) -> State:
        return self.bench.lane.state

    def at(self, state: State) -> bool:
        return self.state is state

    async def events(self, *kinds: Kind) -> list[Event]:
        return [each for each in await self.bench.records() if each.kind in kinds]

    async def refused(self) -> list[Mapping[str, Any]]:
        return [
            {name: value for name, value in each.data.items() if name not in {"v", "boot", "mono", "clk"}}
            for each in await self.events(Kind.COMMAND_REFUSED)
        ]

    async def whys(self) -> list[str]:
        return [each["why"] for each in await self.refused()]

    def fire(self, active: bool = True) -> None:
        self.bench.lane.barrier.on_input(beam(LaneSignal.FIRE, active))


def plain(verb: str, lane: str, challenge: bytes) -> dict[str, Any]:
    args = {"reason": "visitor"} if verb == CommandVerb.OPEN_ONCE else {}
    return {
        "site": SITE,
        "gate": GATE,
        "lane": lane,
        "verb": verb,
        "operator": GUARD,
        "id": "c-1",
        "challenge": challenge,
        "args": args,
    }


def desk_of(bench: Bench, folder: Path) -> Desk:
    desk: Desk
    clock, journal = bench.clock, bench.journal
    watch = ClockWatch(
        clock,
        Settings(),
        records=None,
        note=journal.note,
        call_later=bench.timers.call_later,
        kernel=lambda: desk.kernel,
        seconds=clock.monotonic,
    )
    barriers = {LANE: bench.lane.barrier}

    def zones_of(_lane: str) -> list[str]:
        return ["lobby"]

    guard = Guard(
        barriers, journal.note, zones=bench.services.judge.zones, watch=watch, zones_of=zones_of, degraded=list
    )
    refusals = CommandRefusals(journal.note, clock, bench.timers.call_later)

    async def refresh() -> None:
        desk.refreshed += 1

    def restart() -> None:
        desk.restarts += 1

    async def send(topic: str, payload: bytes, properties: PublishProperties) -> bool:
        assert topic == topics.result(SITE, GATE)
        desk.answers.append((wire.parse_answer(payload), properties))
        return True

    executor = Remote(
        guard,
        barriers,
        journal,
        clock=clock,
        record_timeout_s=5,
        random_bytes=bench.services.random_bytes,
        refresh=refresh,
        replay=lambda request: desk.replays.append(request),  # noqa: PLW0108  the desk is not there yet
        restart=restart,
    )
    commands = Commands(
        Site(SITE, GATE, [LANE], zones_of),
        executor,
        keys=lambda: desk.listed,
        time=watch.look,
        clock=clock,
        random_bytes=bench.services.random_bytes,
        note=journal.note,
        refusals=refusals,
        send=send,
    )
    modes = KeptModes(folder / "modes.db", [LANE])
    bench.lane.barrier._keep = modes
    emergencies = Emergencies(
        SITE,
        barriers,
        modes,
        zones_of=zones_of,
        keys=lambda: desk.listed,
        time=watch.look,
        note=journal.note,
        refusals=refusals,
    )
    desk = Desk(bench, commands, emergencies, watch, modes)
    assert watch.look().quality is ClockQuality.SYNCED
    return desk
