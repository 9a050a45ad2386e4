"""Walk-up: an armed phone is asked only where the zone takes it and somebody stands in the lane's own entry beam."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from drivers.ports import Direction, DriverError, LaneSignal, LinkLostError, Sighting
from gate_agent.lane import Lane
from gate_agent.passage import State
from gate_agent.proximity import SPENT_S, Proximity, Threshold
from mdoc.holder import HolderSession
from mdoc.request import DeviceRequest
from policy.reasons import Reason
from protocol.events import Kind
from testbed.phone.wallet import Held
from tests.gate_agent.conftest import LANE, POLICY, Bench, share
from tests.gate_agent.fakes import beam

WALKING = POLICY.replace("[zones.lobby]", '[zones.lobby]\ncarriers = ["nfc", "ble", "qr", "walk_up"]')


@pytest.fixture
async def walking(bench: Bench) -> Bench:
    """A lane with walk-up, in a zone that takes it."""
    threshold = Threshold(-55, -63)
    bench.lane = Lane(
        replace(LANE, walk_up=threshold),
        bench.lane.ports,
        bench.lane.barrier,
        bench.services,
        call_later=bench.timers.call_later,
        proximity=Proximity({"ble.hall": threshold}),
    )
    await rules(bench, WALKING)
    return bench


async def rules(bench: Bench, text: str) -> None:
    (bench.folder / "policy.toml").write_text(text.replace("version = 7", "version = 8"))
    await bench.trust.reload()


def hear(bench: Bench, peer: str, rssi: int = -45) -> None:
    for _ in range(6):
        bench.lane.on_sighting(Sighting(peer, rssi, bench.clock.monotonic()))


def step_in(bench: Bench, there: bool = True) -> None:
    bench.lane.barrier.on_input(beam(LaneSignal.BEAM_A, there))
    bench.timers.advance(0.5)


async def test_an_armed_phone_opens_for_who_stands_in_the_entry_beam(walking: Bench) -> None:
    link = walking.armed(walking.world.holder(), "phone")
    step_in(walking)
    hear(walking, "phone")
    await walking.done()
    assert await walking.reasons() == ["granted"]
    assert walking.hardware.pulses == [(Direction.IN, 300)]
    granted = next(event for event in await walking.records() if event.kind is Kind.ACCESS_GRANTED)
    assert granted.data["carrier"] == "walk_up"
    await asyncio.wait_for(link.closed.wait(), 5)


async def test_nobody_in_the_beam_and_no_phone_is_asked(walking: Bench) -> None:
    walking.armed(walking.world.holder(), "phone")
    hear(walking, "phone")
    await walking.done()
    assert walking.ble.asked == []
    step_in(walking)
    hear(walking, "phone")
    await walking.done()
    assert await walking.reasons() == ["granted"]


async def test_a_phone_that_is_not_near_is_not_asked(walking: Bench) -> None:
    walking.armed(walking.world.holder(), "phone")
    step_in(walking)
    hear(walking, "phone", -70)
    await walking.done()
    assert walking.ble.asked == []


async def test_a_zone_takes_walk_up_only_where_its_rules_say_so(walking: Bench) -> None:
    await rules(walking, POLICY)
    walking.armed(walking.world.holder(), "phone")
    step_in(walking)
    hear(walking, "phone")
    await walking.done()
    assert walking.ble.asked == []


async def test_who_steps_back_before_the_answer_is_refused(walking: Bench) -> None:
    def late(session: HolderSession, request: DeviceRequest, held: Held) -> bytes:
        step_in(walking, False)
        return share(session, request, held)

    walking.armed(walking.world.holder(), "phone", late)
    step_in(walking)
    hear(walking, "phone")
    await walking.done()
    assert await walking.reasons() == [Reason.NOT_AT_LANE]
    assert walking.hardware.pulses == []
    assert walking.lane.state is State.SECURED


async def test_who_steps_back_while_the_grant_is_written_finds_it_closed(
    walking: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = walking.services.journal.append

    async def slow(*args: object, **more: object) -> None:
        await append(*args, **more)  # type: ignore[arg-type]  # handed on as it came
        step_in(walking, False)

    monkeypatch.setattr(walking.services.journal, "append", slow)
    walking.armed(walking.world.holder(), "phone")
    step_in(walking)
    hear(walking, "phone")
    await walking.done()
    assert await walking.kinds() == [Kind.ACCESS_GRANTED, Kind.PASSAGE_NOT_TAKEN]
    assert (await walking.records())[-1].data["why"] == "not_at_lane"
    assert walking.hardware.pulses == []


async def test_one_phone_at_a_time_and_each_is_asked_once(walking: Bench) -> None:
    walking.armed(walking.world.holder(access_class="visitor"), "one")
    walking.armed(walking.world.holder(), "two")
    step_in(walking)
    hear(walking, "one", -40)
    hear(walking, "two", -50)
    assert walking.lane._transaction is not None
    await walking.done()
    assert [key for _, key in walking.ble.asked] == ["one"]
    hear(walking, "one", -40)  # the next is asked, whoever is heard
    await walking.done()
    assert [key for _, key in walking.ble.asked] == ["one", "two"]
    assert await walking.reasons() == [Reason.NO_RIGHT_ZONE, "granted"]


async def test_a_phone_that_stays_is_asked_again_only_after_a_while(walking: Bench) -> None:
    walking.armed(walking.world.holder(), "phone")
    walking.ble.links["phone"] = LinkLostError("gone")
    step_in(walking)
    hear(walking, "phone")
    await walking.done()
    assert await walking.reasons() == [Reason.LINK_LOST]
    walking.armed(walking.world.holder(), "phone")
    walking.timers.advance(SPENT_S + 1)
    hear(walking, "phone")
    await walking.done()
    assert await walking.reasons() == [Reason.LINK_LOST, "granted"]


async def test_an_armed_phone_keeps_what_it_has_while_the_lane_could_not_open(walking: Bench) -> None:
    walking.armed(walking.world.holder(), "phone")
    step_in(walking)
    walking.lane.barrier.hardware.available = False
    hear(walking, "phone")
    await walking.done()
    assert walking.ble.asked == []
    assert await walking.reasons() == []


async def test_a_phone_armed_for_another_reader_group_answers_nothing_that_counts(walking: Bench) -> None:
    """The group stands in the transcript: reader authentication fails at the phone, and its keys are not ours."""
    walking.armed(walking.world.holder(), "phone", group="annex")
    step_in(walking)
    hear(walking, "phone")
    await walking.done()
    reasons = await walking.reasons()
    assert reasons
    assert "granted" not in reasons


async def test_a_radio_that_fails_while_it_approaches_goes_to_its_supervisor(walking: Bench) -> None:
    walking.armed(walking.world.holder(), "phone")
    walking.ble.links["phone"] = DriverError("unplugged")
    assert walking.ports.ble is not None
    supervisor = asyncio.ensure_future(walking.ports.ble.run())
    await asyncio.sleep(0)
    step_in(walking)
    hear(walking, "phone")
    await walking.done()
    assert await walking.reasons() == [Reason.OUT_OF_SERVICE]
    await asyncio.sleep(0)
    assert not walking.ports.ble.available
    supervisor.cancel()
    await asyncio.gather(supervisor, return_exceptions=True)


async def test_sightings_come_in_as_the_radio_gives_them(walking: Bench) -> None:
    walking.armed(walking.world.holder(), "phone")
    step_in(walking)
    watching = asyncio.ensure_future(walking.lane.watch_ble(walking.ble))
    for _ in range(4):
        walking.ble.queue.put_nowait(Sighting("phone", -45, walking.clock.monotonic()))
    walking.ble.queue.put_nowait(DriverError("unplugged"))
    with pytest.raises(DriverError):
        await asyncio.wait_for(watching, 5)
    await walking.done()
    assert await walking.reasons() == ["granted"]
