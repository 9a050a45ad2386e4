"""Decisions at a lane that need more than the presentation: who is inside, who comes second, who waits, what time it is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.ports import Direction, DriverError, LinkTimeoutError
from gate_agent import denylist, visits
from gate_agent.devices import Supervised
from gate_agent.journal import RecordUnavailableError
from gate_agent.judge import Judge
from gate_agent.keys import Signers
from gate_agent.lane import Lane
from gate_agent.passage import Effect, State, Verb
from gate_agent.timekeeping import Detail
from gate_agent.trust import TrustCache
from gate_agent.zone import Fact, Finding, ZoneStoreError
from gate_agent.zones import Way
from mdoc.qrpass import verify_pass
from policy.reasons import Reason
from policy.situation import ClockQuality, Visit
from protocol.backoff import Backoff
from protocol.events import Kind
from testbed.authority import canary_person
from testbed.phone.wallet import Held
from tests.conftest import NOW
from tests.gate_agent.conftest import POLICY, Bench, clock_facts

OUT = """
[points.lobby-out]
direction = "exit"
from = "lobby"
to = "outside"
entrance_group = "hall"
"""
ANTIPASSBACK = POLICY + OUT + '[zones.lobby.antipassback]\nmode = "hard"\n'


async def use(bench: Bench, policy: str) -> None:
    """Other rules, one version on."""
    path = bench.folder / "policy.toml"
    await asyncio.to_thread(path.write_text, policy.replace("version = 7", "version = 8"))
    await bench.trust.reload()
    assert bench.trust.current.policy.version == 8


def holder(bench: Bench, card_type: str = "staff", access_class: str = "general") -> Held:
    person = canary_person(os.urandom, agency_code="1741000", card_type=card_type, access_class=access_class)
    key = ec.generate_private_key(ec.SECP256R1())
    credential, _ = bench.world.authority.issue(key.public_key(), person, now=NOW)
    return Held(credential, key)


IN, OUT_AGAIN = Way("outside", "lobby", "lobby"), Way("lobby", "outside", "lobby")


async def alone(bench: Bench) -> None:
    """The link is there and nobody else is at it: after a while the gate knows what there is to know."""
    bench.services.judge.zones.on_link(True)
    for _ in range(3):
        await asyncio.sleep(0)
        bench.timers.advance(10)
    await asyncio.sleep(0)


async def notes(bench: Bench) -> list[str]:
    granted: list[str] = (await bench.records())[-2].data["notes"]  # the opening comes after it
    return granted


# Anti-passback.


async def test_the_handle_is_asked_for_only_where_the_zone_remembers_who_is_inside(bench: Bench) -> None:
    await bench.present(holder(bench))
    bench.walk()
    await use(bench, ANTIPASSBACK)
    await bench.present(holder(bench))
    asked = [request.doc_requests[0].items.elements["kr.go.civilservant.1"] for request in bench.requests]
    assert ["holder_handle" in names for names in asked] == [False, True]


async def test_who_is_inside_may_not_enter_again_until_a_guard_forgives(bench: Bench) -> None:
    await use(bench, ANTIPASSBACK)
    one, zones = holder(bench), bench.services.judge.zones
    await alone(bench)
    await bench.present(one)
    bench.walk()
    zones.ended(Effect.COMPLETED, (await bench.records())[-1].data["attempt"], IN)
    await bench.present(one)
    await bench.present(holder(bench))
    bench.walk()
    assert zones.forgive_lane("lobby", "hall-in")
    await bench.present(one)
    assert await bench.reasons() == ["granted", Reason.ANTIPASSBACK_HARD, "granted", "granted"]


async def test_a_passage_not_taken_leaves_nobody_inside(bench: Bench) -> None:
    await use(bench, ANTIPASSBACK)
    one, zones = holder(bench), bench.services.judge.zones
    await alone(bench)
    await bench.present(one)
    bench.timers.advance(6)
    zones.ended(Effect.NOT_TAKEN, (await bench.records())[-1].data["attempt"], IN)
    await bench.present(one)
    assert await bench.reasons() == ["granted", "granted"]


async def test_a_gate_that_cannot_hear_the_others_says_so_and_goes_by_the_zones_rule(bench: Bench) -> None:
    await use(bench, ANTIPASSBACK)
    bench.timers.advance(60)
    await bench.present(holder(bench))
    assert await notes(bench) == ["cut_off_soft"]
    bench.walk()
    await use(bench, ANTIPASSBACK.replace('mode = "hard"', 'mode = "hard"\ncut_off = "refuse"'))
    await bench.present(holder(bench))
    assert await bench.reasons() == ["granted", Reason.ANTIPASSBACK_CUT_OFF]


async def test_another_lane_that_was_faster_is_found_before_anything_is_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(bench, ANTIPASSBACK)
    inside = Finding(Fact.INSIDE, Fact.INSIDE)
    monkeypatch.setattr(bench.services.judge.zones, "reserve", lambda *_: inside)
    await bench.present(holder(bench))
    assert await bench.reasons() == [Reason.ANTIPASSBACK_HARD]
    assert not bench.hardware.pulses


async def test_a_grant_that_is_not_recorded_leaves_no_reservation(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(bench, ANTIPASSBACK)
    freed: list[str] = []
    monkeypatch.setattr(bench.services.judge.zones, "free", freed.append)

    async def fails(*_args: Any, **_more: Any) -> None:
        raise OSError("disk gone")

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "append", fails)
        await bench.present(holder(bench))
    assert len(freed) == 1
    assert not bench.hardware.pulses


async def leaving(bench: Bench) -> None:
    """The lane's other side: readers on the way out."""
    await use(bench, ANTIPASSBACK)
    bench.lane = Lane(
        replace(bench.lane.settings, point="lobby-out", direction=Direction.OUT),
        bench.lane.ports,
        bench.lane.barrier,
        bench.services,
        call_later=bench.timers.call_later,
    )


async def test_a_dead_disk_holds_nobody_in(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await leaving(bench)

    async def fails(*_args: Any, **_more: Any) -> None:
        raise RecordUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "append", fails)
        await bench.present(holder(bench))
    assert bench.hardware.pulses == [(Direction.OUT, 300)]
    assert await bench.reasons() == ["granted"]


async def test_an_anti_passback_file_that_cannot_be_written_holds_nobody_in(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leaving(bench)

    def fails(*_: Any) -> None:
        raise ZoneStoreError

    monkeypatch.setattr(bench.services.judge.zones, "reserve", fails)
    await bench.present(holder(bench))
    assert bench.hardware.pulses == [(Direction.OUT, 300)]


async def test_a_way_out_of_a_zone_that_remembers_nobody_opens_for_its_readers_too(bench: Bench) -> None:
    await leaving(bench)
    await use(bench, POLICY + OUT)
    await bench.present(holder(bench))
    assert await bench.reasons() == ["granted"]
    assert bench.hardware.pulses == [(Direction.OUT, 300)]


async def test_a_full_zone_takes_nobody_more(bench: Bench) -> None:
    await use(bench, (POLICY + OUT).replace("[zones.lobby]\n", "[zones.lobby]\noccupancy_limit = 1\n"))
    zones = bench.services.judge.zones
    await alone(bench)
    await bench.present(holder(bench))
    bench.walk()
    zones.ended(Effect.COMPLETED, None, IN)
    await bench.present(holder(bench))
    zones.ended(Effect.COMPLETED, None, OUT_AGAIN)
    await bench.present(holder(bench))
    assert await bench.reasons() == ["granted", Reason.OCCUPANCY_UPPER, "granted"]


RESPONDERS = POLICY + '[zones.lobby.responders]\ncard_types = ["duty"]\nup_to_level = 2\n'

# Two people, and a host before a guest.

TWO = POLICY + "[zones.lobby.two_person]\nwithin_s = 5\n"


async def test_two_different_people_open_together_and_pass_one_after_the_other(bench: Bench) -> None:
    await use(bench, TWO)
    await bench.present(holder(bench))
    assert await bench.reasons() == []
    assert not bench.hardware.pulses
    await bench.present(holder(bench))
    assert await bench.reasons() == ["granted", "granted"]
    bench.walk()
    await bench.services.background.finish(5)
    bench.walk()
    await bench.services.background.finish(5)
    kinds = await bench.kinds()
    assert kinds.count(Kind.PASSAGE_COMPLETED) == kinds.count(Kind.LANE_OPENED) == 2
    assert bench.lane.state is State.SECURED


async def test_one_person_twice_is_not_two(bench: Bench) -> None:
    await use(bench, TWO)
    one = holder(bench)
    await bench.present(one)
    await bench.present(one)
    assert await bench.reasons() == [Reason.SECOND_PERSON_MISSING]
    assert not bench.hardware.pulses


async def test_a_second_person_who_does_not_come_is_one_refusal_of_the_first(bench: Bench) -> None:
    await use(bench, TWO)
    await bench.present(holder(bench))
    bench.timers.advance(5.1)
    await bench.present(holder(bench))
    bench.timers.advance(5.1)
    assert await bench.reasons() == [Reason.SECOND_PERSON_MISSING, Reason.SECOND_PERSON_MISSING]


async def ends(bench: Bench) -> dict[str, str]:
    """How each attempt stands: the last record of it."""
    return {event.data["attempt"]: str(event.kind) for event in await bench.records() if "attempt" in event.data}


TWO_ONCE = TWO + OUT + '[zones.lobby.antipassback]\nmode = "hard"\n'


async def test_where_the_first_of_two_may_not_pass_any_more_neither_does_and_each_has_a_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(bench, TWO_ONCE)
    await bench.present(holder(bench))
    monkeypatch.setattr(bench.services.judge.zones, "reserve", lambda *_: Finding(Fact.INSIDE, Fact.INSIDE))
    await bench.present(holder(bench))
    assert await bench.reasons() == [Reason.ANTIPASSBACK_HARD, Reason.SECOND_PERSON_MISSING]
    assert len(await ends(bench)) == 2
    assert not bench.hardware.pulses
    monkeypatch.undo()
    await bench.present(holder(bench))  # waits as the first: nobody is left over from before
    await bench.present(holder(bench))
    assert (await bench.reasons())[2:] == ["granted", "granted"]


async def test_a_first_of_two_whose_zone_came_back_meanwhile_still_passes_with_the_second(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(bench, TWO_ONCE)
    await bench.present(holder(bench))
    whole, found = bench.services.judge.zones.reserve, [Finding(Fact.CUT_OFF, Fact.CLEAR)]
    monkeypatch.setattr(bench.services.judge.zones, "reserve", lambda *rest: found.pop() if found else whole(*rest))
    await bench.present(holder(bench))
    assert await bench.reasons() == ["granted", "granted"]


async def test_where_the_second_of_two_cannot_be_recorded_the_first_does_not_pass_either(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(bench, TWO)
    await bench.present(holder(bench))
    whole, told = bench.journal.append, list[Kind]()

    async def fails_for_the_second(kind: Kind, *rest: Any, **more: Any) -> Any:
        told.append(kind)
        if len(told) == 2:
            raise RecordUnavailableError
        return await whole(kind, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "append", fails_for_the_second)
        await bench.present(holder(bench))
    assert sorted((await ends(bench)).values()) == [Kind.ACCESS_DENIED, Kind.PASSAGE_NOT_TAKEN]
    assert not bench.hardware.pulses


async def test_where_the_relay_fails_for_the_first_of_two_the_second_is_not_let_in_alone(bench: Bench) -> None:
    await use(bench, TWO)
    await bench.present(holder(bench))
    bench.hardware.relay_error = DriverError("stuck")
    await bench.present(holder(bench))
    assert set((await ends(bench)).values()) == {Kind.PASSAGE_NOT_TAKEN}
    assert not bench.lane.barrier._passage.credits


async def test_two_people_at_two_lanes_of_one_access_point_are_not_a_pair(bench: Bench) -> None:
    await use(bench, TWO)
    await bench.present(holder(bench))
    first, lane = bench.lane, bench.lane
    bench.lane = Lane(
        replace(lane.settings, id="hall-too"),
        lane.ports,
        lane.barrier,
        bench.services,
        call_later=bench.timers.call_later,
    )
    await bench.present(holder(bench))
    assert await bench.reasons() == []
    assert not bench.hardware.pulses
    bench.lane = first
    await bench.present(holder(bench))
    assert await bench.reasons() == ["granted", "granted"]


async def test_a_second_person_never_passes_alone_though_the_first_was_sent_away_that_moment(bench: Bench) -> None:
    await use(bench, TWO)
    await bench.present(holder(bench))
    bench.lane._miss(bench.lane._first)  # the timer, a hair before the rules' own time is over
    await bench.present(holder(bench))
    assert await bench.reasons() == [Reason.SECOND_PERSON_MISSING, Reason.SECOND_PERSON_MISSING]
    assert not bench.hardware.pulses
    await bench.present(holder(bench))
    await bench.present(holder(bench))
    assert (await bench.reasons())[2:] == ["granted", "granted"]


async def test_a_lockdown_that_came_while_the_first_waited_holds_both_back(bench: Bench) -> None:
    await use(bench, RESPONDERS + "[zones.lobby.two_person]\nwithin_s = 5\n")
    await bench.present(holder(bench, "staff"))
    await bench.lane.barrier.order(Verb.LOCKDOWN, level=1)
    await bench.present(holder(bench, "duty"))
    assert await bench.reasons() == [Reason.LOCKDOWN, Reason.SECOND_PERSON_MISSING]
    assert not bench.hardware.pulses


ESCORT = POLICY + '[zones.lobby.escort]\nguests = ["contractor"]\nhosts = ["staff"]\nwithin_s = 30\n'


async def test_a_guest_passes_after_a_host_and_not_before(bench: Bench) -> None:
    await use(bench, ESCORT)
    await bench.present(holder(bench, "contractor"))
    await bench.present(holder(bench, "staff"))
    bench.walk()
    await bench.present(holder(bench, "contractor"))
    bench.walk()
    await bench.present(holder(bench, "contractor"))
    assert await bench.reasons() == [Reason.ESCORT_MISSING, "granted", "granted", Reason.ESCORT_MISSING]
    (bound,) = [event for event in await bench.records() if event.kind is Kind.ESCORT_BOUND]
    assert bound.data["point"] == "lobby-in"


async def test_nobody_follows_a_host_who_did_not_pass(bench: Bench) -> None:
    await use(bench, ESCORT)
    bench.lane.barrier._on_outcome = lambda outcome, _, attempt: (
        bench.services.judge.not_taken(attempt or "") if outcome is Effect.NOT_TAKEN else None
    )
    await bench.present(holder(bench, "staff"))
    bench.timers.advance(6)
    await bench.present(holder(bench, "contractor"))
    assert await bench.reasons() == ["granted", Reason.ESCORT_MISSING]


# A second factor.


class FakeFactor:
    def __init__(self, answer: bool | Exception) -> None:
        self.answer, self.asked = answer, list[tuple[str, str, float]]()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def confirm(self, attempt: str, lane: str, timeout: float) -> bool:
        self.asked.append((attempt, lane, timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def with_two_factors(policy: str) -> str:
    return policy.replace("[zones.lobby]\n", "[zones.lobby]\nfactors = 2\nsecond_factor_s = 7\n")


async def with_factor(bench: Bench, answer: bool | Exception) -> FakeFactor:
    await use(bench, with_two_factors(POLICY))
    device = FakeFactor(answer)
    factor: Supervised[Any] = Supervised(
        device, "factor.hall", clock=bench.clock, backoff=Backoff(1, 30, Random(1)), report=lambda name, up, why: None
    )
    await factor._start()
    bench.lane = Lane(
        bench.lane.settings,
        replace(bench.ports, factor=factor),
        bench.lane.barrier,
        bench.services,
        call_later=bench.timers.call_later,
    )
    return device


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (True, "granted"),
        (False, Reason.SECOND_FACTOR_FAILED),
        (LinkTimeoutError("nobody looked"), Reason.SECOND_FACTOR_TIMEOUT),
        (DriverError("gone"), Reason.SECOND_FACTOR_MISSING),
    ],
)
async def test_a_second_factor_is_asked_with_the_attempt_and_has_its_own_reasons(
    bench: Bench, answer: bool | Exception, outcome: str
) -> None:
    device = await with_factor(bench, answer)
    await bench.present(holder(bench))
    assert await bench.reasons() == [outcome]
    decided = next(event for event in await bench.records() if event.kind in {Kind.ACCESS_GRANTED, Kind.ACCESS_DENIED})
    assert device.asked == [(decided.data["attempt"], "hall-in", 7.0)]


async def test_a_zone_that_wants_a_second_factor_refuses_where_there_is_no_device(bench: Bench) -> None:
    await use(bench, POLICY.replace("[zones.lobby]\n", "[zones.lobby]\nfactors = 2\n"))
    await bench.present(holder(bench))
    assert await bench.reasons() == [Reason.SECOND_FACTOR_MISSING]


async def test_a_lockdown_raised_while_the_terminal_looks_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    device = await with_factor(bench, True)
    await use(bench, with_two_factors(RESPONDERS))
    await bench.lane.barrier.order(Verb.LOCKDOWN, level=1)

    async def looks(*_: Any) -> bool:
        await bench.lane.barrier.order(Verb.LOCKDOWN, level=3)
        return True

    monkeypatch.setattr(device, "confirm", looks)
    await bench.present(holder(bench, "duty"))
    assert await bench.reasons() == [Reason.LOCKDOWN]
    assert not bench.hardware.pulses


# Time, lockdown, lists.


def clocked(bench: Bench, **facts: Any) -> None:
    judge = bench.services.judge
    judge._time_facts = lambda: replace(clock_facts(bench.clock), **facts)


async def test_an_unset_clock_refuses_or_is_given_a_grace_that_the_event_tells(bench: Bench) -> None:
    clocked(bench, quality=ClockQuality.UNSET, error_ms=None, detail=Detail.NEVER_SET, since_boot_s=30.0)
    await bench.present(holder(bench))
    await use(bench, POLICY.replace("[zones.lobby]\n", "[zones.lobby]\nclock_grace_min = 1\n"))
    await bench.present(holder(bench))
    assert await bench.reasons() == [Reason.CLOCK_UNSET, "granted"]
    granted = (await bench.records())[-2].data
    assert (granted["notes"], granted["clk"]) == (["clock_grace"], {"q": "unset"})


async def test_a_decision_near_the_edge_of_the_hours_says_so(bench: Bench) -> None:
    bench.clock.elapsed = 2 * 3600 - 60  # 19:59 in Seoul
    clocked(bench, error_ms=90_000)
    await bench.present(holder(bench))
    assert await notes(bench) == ["near_edge"]
    assert (await bench.records())[-2].data["clk"] == {"q": "synced", "err_ms": 90_000}


@pytest.mark.parametrize(("left_s", "near"), [(60, True), (120, False)])
async def test_a_decision_near_the_end_of_the_credential_says_so(bench: Bench, left_s: int, near: bool) -> None:
    clocked(bench, error_ms=90_000)
    begin, end = NOW - timedelta(days=1), NOW + timedelta(seconds=left_s)
    await bench.present(bench.world.holder(valid_from=begin, valid_until=end))
    assert await bench.reasons() == ["granted"]
    assert ("near_edge" in (await bench.records())[-2].data.get("notes", ())) is near


@pytest.mark.parametrize(("level", "outcome"), [(2, "granted"), (3, Reason.LOCKDOWN)])
async def test_a_responder_passes_a_lockdown_up_to_the_zones_level(bench: Bench, level: int, outcome: str) -> None:
    await use(bench, RESPONDERS)
    await bench.lane.barrier.order(Verb.LOCKDOWN, level=level)
    await bench.present(holder(bench, "staff"))
    await bench.present(holder(bench, "duty"))
    assert await bench.reasons() == [Reason.LOCKDOWN, outcome]
    if outcome == "granted":
        assert await notes(bench) == ["exempt"]
        assert bench.hardware.pulses == [(Direction.IN, 300)]


async def signed(bench: Bench, signers: Callable[[Any], Signers]) -> ec.EllipticCurvePrivateKey:
    """A trust cache that takes lists of a new key; the lane uses it from here."""
    key = ec.generate_private_key(ec.SECP256R1())
    cache = TrustCache(
        bench.folder / "trust",
        bench.folder / "policy.toml",
        list_key=bench.world.authority.list_key,
        points={"lobby-in"},
        clock=bench.clock,
        report=bench.journal.note,
        signers=signers(key.public_key()),
    )
    await cache.load_first()
    bench.services = replace(bench.services, trust=cache)
    bench.lane._services = bench.services
    bench.trust = cache
    return key


async def test_a_lost_phone_is_refused_by_the_deny_list_and_no_event_says_which(bench: Bench) -> None:
    key = await signed(bench, lambda public: Signers(deny=public))
    lost, other = holder(bench), holder(bench)
    entry = denylist.key_entry(lost.device_key.public_key())
    raw = denylist.build([entry], version=1, date=NOW, key=key)
    await asyncio.to_thread((bench.folder / "trust" / denylist.FILE).write_bytes, raw)
    await bench.trust.reload()
    await bench.present(lost)
    await bench.present(other)
    assert await bench.reasons() == [Reason.DENIED_LIST, "granted"]
    everything = b"".join(event.raw for event in await bench.records())
    assert entry.hex().encode() not in everything


async def test_a_phone_that_is_reported_lost_while_its_holder_waits_does_not_pass(bench: Bench) -> None:
    key = await signed(bench, lambda public: Signers(deny=public))
    await use(bench, TWO)
    lost = holder(bench)
    await bench.present(lost)
    raw = denylist.build([denylist.key_entry(lost.device_key.public_key())], version=1, date=NOW, key=key)
    await asyncio.to_thread((bench.folder / "trust" / denylist.FILE).write_bytes, raw)
    await bench.trust.reload()
    await bench.present(holder(bench))
    assert await bench.reasons() == [Reason.DENIED_LIST, Reason.SECOND_PERSON_MISSING]
    assert not bench.hardware.pulses


async def test_a_visitor_enters_on_a_visit_in_its_time_and_zone(bench: Bench) -> None:
    key = await signed(bench, lambda public: Signers(visit=public))
    await use(bench, POLICY.replace("[zones.lobby]\n", '[zones.lobby]\nvisit_card_types = ["visitor"]\n'))
    visitor = holder(bench, "visitor")
    await bench.present(visitor)
    record = visits.Record(
        denylist.key_entry(visitor.device_key.public_key()),
        Visit(frozenset({"lobby"}), NOW, NOW + timedelta(hours=1), host_required=False),
    )
    folder = bench.folder / "trust" / visits.FOLDER
    await asyncio.to_thread(folder.mkdir)
    await asyncio.to_thread((folder / "1.cose").write_bytes, visits.build(record, key))
    await bench.trust.reload()
    await bench.present(visitor)
    assert await bench.reasons() == [Reason.VISIT_MISSING, "granted"]


def test_a_judge_takes_the_clocks_error_for_at_least_what_is_configured(bench: Bench) -> None:
    judge: Judge = bench.services.judge
    facts = clock_facts(bench.clock)
    assert judge.error_s(facts) == 2
    assert judge.error_s(replace(facts, error_ms=5000)) == 5
    assert judge.error_s(replace(facts, error_ms=None)) == 2


# What the verifier is told by the rules.


async def test_a_zone_sets_how_old_a_status_list_may_be(bench: Bench) -> None:
    await use(bench, POLICY + "[zones.lobby.max_ages]\nstatus_list = 1\n")
    await bench.present(holder(bench))
    bench.walk()
    bench.clock.elapsed += 90 * 60  # still within the hours
    await bench.present(holder(bench))
    assert await bench.reasons() == ["granted", Reason.STATUS_STALE]


async def test_a_rule_may_name_the_issuing_authority(bench: Bench) -> None:
    root = bench.world.authority.iaca.subject.rfc4514_string()
    rule = POLICY.replace("[profiles.staff]\n", f"[profiles.staff]\nissuers = ['{root}']\n")
    await use(bench, rule)
    await bench.present(holder(bench))
    bench.walk()
    await use(bench, rule.replace(root, "CN=Somebody else"))
    await bench.present(holder(bench))
    assert await bench.reasons() == ["granted", Reason.ISSUER_NOT_ACCEPTED]


async def test_a_pass_that_opened_another_gate_of_the_zone_is_replayed(bench: Bench) -> None:
    await use(bench, ANTIPASSBACK)
    await alone(bench)
    card, _ = bench.world.authority.issue_pass(bench.world.person, now=bench.clock.now())
    shown = bench.qr_pass(card)
    mark = verify_pass(
        shown,
        audience="hall",
        issuers=bench.trust.current.trust.issuers,
        status=bench.trust.current.trust.status,
        now=bench.clock.now(),
    )
    assert mark.mark_until is not None
    bench.services.judge.zones.use_pass("lobby", mark.mark, mark.mark_until)  # as another gate tells
    bench.show(shown)
    await bench.done()
    assert await bench.reasons() == [Reason.REPLAYED]
