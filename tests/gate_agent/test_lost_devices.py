"""One lane's device dies and the other lane goes on: each kind of device through the agent, and once with real drivers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drivers.ports import CodeSeen, Direction, DriverError, LaneSignal, Message
from gate_agent import agent as agent_module
from gate_agent import config
from gate_agent.agent import Agent
from mdoc.qrpass import present_pass
from protocol.clock import SystemClock
from protocol.events import Event, Kind
from testbed.authority import Authority, IssuedPass
from testbed.camera import VirtualCamera
from testbed.journal_tail import JournalTail
from testbed.pki import DevicePki
from testbed.turnstile import Turnstile
from tests.drivers.test_signal_text import Wire
from tests.gate_agent.conftest import REST, World
from tests.gate_agent.fakes import FakeBle, FakeCamera, FakeHardware, FakeNfcReader, FakeSignal, beam
from tests.gate_agent.site import WAIT_S, Site, build, free_port

RULES = '[points.two-in]\ndirection = "entry"\nfrom = "outside"\nto = "hall"\nentrance_group = "hall"\n'
LANES = ("hall", "two")
KINDS = ("camera", "nfc", "ble", "lane", "signal")


def gate_text(text: str, sources: dict[str, str], nfc: str) -> str:
    """The site's gate.toml with a second lane of the same devices, named `two`."""
    head, lane = text.split("[[lane]]")
    lane, _, rest = lane.partition("[clock]")
    lane = lane.replace('hardware = "hall"', 'ble = "hall"\nhardware = "hall"')
    devices = "".join(
        f'[device.camera.{name}]\ndriver = "opencv"\nsource = "{sources[name]}"\n'
        f'[device.lane.{name}]\ndriver = "simulated"\npath = "{name}.lane"\n'
        f'[device.signal.{name}]\ndriver = "simulated"\npath = "{name}.sign"\n'
        f'[device.ble.{name}]\ndriver = "bluez"\n'
        for name in LANES
    )
    nfcs = f'[device.nfc.two]\ndriver = "nfcpy"\npath = "{nfc}"\n'
    before = head.partition("[device.nfc.hall]")
    first_nfc = before[2].partition("[device.camera.hall]")[0]
    second = lane.replace("hall", "two")
    return f"{before[0]}[device.nfc.hall]{first_nfc}{devices}{nfcs}[[lane]]{lane}[[lane]]{second}[clock]{rest}"


class FailingHardware(FakeHardware):
    """Reports every input at rest whenever it is started."""

    async def start(self) -> None:
        await super().start()
        for each in REST:
            self.queue.put_nowait(beam(each, False))


class FailingSignal(FakeSignal):
    async def show(self, message: Message) -> None:
        if self.broken:
            raise DriverError("unplugged")
        await super().show(message)


def names(journal: JournalTail, kind: Kind) -> list[str]:
    """Devices of the lanes that were told of; no broker stands here."""
    found = [str(event.data["device"]) for event in journal.read() if event.kind is kind]
    return [name for name in found if name != "uplink"]


@dataclass
class Gate:
    """An agent with two lanes on fake ports."""

    agent: Agent
    journal: JournalTail
    authority: Authority
    card: IssuedPass
    devices: dict[str, Any]
    _after: int = 0
    _seen: list[str] = field(default_factory=list)

    async def wait_for(self, kind: Kind, **data: str) -> Event:
        return await self.journal.wait_for(
            lambda event: event.kind is kind and data.items() <= event.data.items(), after=0, timeout=WAIT_S
        )

    async def decided(self, lane: str) -> str:
        """A QR pass before the lane's camera: `opened`, or the reason of the refusal."""
        before = self.journal.last()
        clock = SystemClock()
        text = present_pass(self.card.card, self.card.key, audience="hall", now=clock.now(), nonce=os.urandom(8))
        now = clock.monotonic()
        await self.devices[f"camera.{lane}"].queue.put(CodeSeen(text, now, now, "zxing"))
        event = await self.journal.wait_for(
            lambda event: event.kind in {Kind.LANE_OPENED, Kind.ACCESS_DENIED}, after=before, timeout=WAIT_S
        )
        assert event.data["lane"] == f"{lane}-in"
        return str(event.data.get("reason", "opened"))

    async def walk(self, lane: str) -> None:
        before = self.journal.last()
        for each, active in (
            (LaneSignal.BEAM_A, True),
            (LaneSignal.BEAM_M, True),
            (LaneSignal.BEAM_A, False),
            (LaneSignal.BEAM_B, True),
            (LaneSignal.BEAM_M, False),
            (LaneSignal.BEAM_B, False),
        ):
            now = SystemClock().monotonic()
            await self.devices[f"lane.{lane}"].queue.put(beam(each, active, now))
        await self.journal.wait_for(lambda event: event.kind is Kind.PASSAGE_COMPLETED, after=before, timeout=WAIT_S)

    async def lose(self, device: str) -> None:
        """Unplug it and wait until the agent has told of it."""
        lost = self.devices[device]
        lost.broken = True
        if isinstance(lost, FakeBle):
            lost.lost.set()
        elif isinstance(lost, FailingSignal):
            # A sign that says nothing new is only written to again when the lane has something to say.
            await self.devices[device.replace("signal", "camera")].queue.put(
                CodeSeen(b"no credential", SystemClock().monotonic(), SystemClock().monotonic(), "zxing")
            )
        else:
            await lost.queue.put(DriverError("unplugged"))
        await self.wait_for(Kind.DEVICE_DEGRADED, device=device)

    async def mend(self, device: str) -> None:
        mended = self.devices[device]
        mended.broken = False
        if isinstance(mended, FakeBle):
            mended.lost.clear()
        await self.wait_for(Kind.DEVICE_RESTORED, device=device)

    def told(self, kind: Kind) -> list[str]:
        return names(self.journal, kind)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not reached():  # noqa: ASYNC110  tasks of the agent
                await asyncio.sleep(0.005)


def made(world: World, folder: Path, sources: dict[str, str]) -> tuple[Site, IssuedPass]:
    """Keys, rules and configuration of a gate with two lanes."""
    now = datetime.now(UTC)
    authority = Authority.create(folder / "authority", name="Lost", now=now)
    card, _ = authority.issue_pass(world.person, now=now)
    held = world.holder(authority=authority, now=now)
    pki = DevicePki(folder / "pki", now)
    port = free_port(socket.SOCK_STREAM)
    site = build(
        world,
        folder / "gate",
        now=now,
        authority=authority,
        pki=pki,
        broker_port=port,
        held=held,
        rules=RULES,
        settings="[times]\nmessage_s = 0.2\n",
    )
    nfc = f"udp:127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    site.config.write_text(gate_text(site.config.read_text(), sources, nfc))
    site.phone.wallet.passes.append(card)
    return site, card


@asynccontextmanager
async def running(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, *lost: str) -> AsyncIterator[Gate]:
    """Devices in `lost` are not there at start."""
    site, card = made(world, folder, dict.fromkeys(LANES, "absent.mjpg"))
    make = {
        "camera": FakeCamera,
        "nfc": FakeNfcReader,
        "ble": FakeBle,
        "lane": lambda: FailingHardware(SystemClock()),  # type: ignore[arg-type]  # any monotonic clock
        "signal": FailingSignal,
    }
    devices: dict[str, Any] = {f"{kind}.{name}": make[kind]() for kind in KINDS for name in LANES}
    for name in lost:
        devices[name].broken = True
    monkeypatch.setattr(agent_module, "open_device", lambda _config, device, *_: devices[device.id])
    monkeypatch.setattr(agent_module, "BACKOFF_BASE_S", 0.01)
    monkeypatch.setattr(agent_module, "BACKOFF_CAP_S", 0.05)
    agent = Agent(config.load(site.config), SystemClock())
    try:
        await agent.start()
        gate = Gate(agent, site.journal, site.authority, card, devices)
        await gate.until(lambda: all(devices[name].starts for name in devices if name not in lost))
        yield gate
    finally:
        await agent.stop("asked")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_device_that_dies_takes_no_other_lane_along_and_comes_back_by_itself(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async with running(world, tmp_path, monkeypatch) as gate:
        await gate.lose(f"{kind}.hall")
        assert await gate.decided("two") == "opened"
        await gate.walk("two")
        if kind == "lane":
            assert await gate.decided("hall") == "out_of_service"
        elif kind != "camera":
            assert await gate.decided("hall") == "opened"
            await gate.walk("hall")
        await gate.mend(f"{kind}.hall")
        assert await gate.decided("hall") == "opened"
        assert len(gate.devices["lane.two"].pulses) == 1
        assert gate.told(Kind.DEVICE_DEGRADED) == [f"{kind}.hall"]
        assert gate.told(Kind.DEVICE_RESTORED) == [f"{kind}.hall"]
        assert {gate.devices[f"{each}.two"].starts for each in KINDS} == {1}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_device_that_is_plugged_in_after_the_start_is_taken_up(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async with running(world, tmp_path, monkeypatch, f"{kind}.hall") as gate:
        await gate.wait_for(Kind.DEVICE_DEGRADED, device=f"{kind}.hall")
        assert await gate.decided("two") == "opened"
        await gate.mend(f"{kind}.hall")
        assert await gate.decided("hall") == "opened"
        assert set(gate.told(Kind.DEVICE_DEGRADED)) == {f"{kind}.hall"}


async def test_with_every_device_of_one_lane_gone_the_other_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [f"{kind}.hall" for kind in KINDS]
    async with running(world, tmp_path, monkeypatch, *lost) as gate:
        assert await gate.decided("two") == "opened"
        assert {*lost} <= {*gate.agent.degraded()}
        assert not {name for name in gate.agent.degraded() if name.endswith(".two")}


async def test_a_part_of_a_sign_that_is_lost_is_told_and_shown_as_degraded_until_it_is_back(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(world, tmp_path, monkeypatch) as gate:
        gate.agent._part_changed("signal.hall.sound", False, "audio open error")
        degraded = await gate.wait_for(Kind.DEVICE_DEGRADED, device="signal.hall.sound")
        assert degraded.data["why"] == "audio open error"
        assert "signal.hall.sound" in gate.agent.degraded()
        gate.agent._part_changed("signal.hall.sound", True, "")
        await gate.wait_for(Kind.DEVICE_RESTORED, device="signal.hall.sound")
        assert "signal.hall.sound" not in gate.agent.degraded()


@pytest.fixture
async def cameras() -> AsyncIterator[dict[str, VirtualCamera]]:
    found = {name: VirtualCamera() for name in LANES}
    for each in found.values():
        await each.start()
    yield found
    for each in found.values():
        await each.stop()


async def test_camera_module_and_sign_of_one_lane_are_unplugged_and_plugged_in_again_beside_a_lane_that_goes_on(
    world: World, tmp_path: Path, cameras: dict[str, VirtualCamera]
) -> None:
    """Real drivers, the agent as a process of its own."""
    site, _ = await asyncio.to_thread(made, world, tmp_path, {name: each.source for name, each in cameras.items()})
    turnstiles = {
        name: Turnstile(site.folder / f"{name}.lane", site.folder / f"{name}.sign", step=0.02) for name in LANES
    }
    for each in turnstiles.values():
        await each.start()

    async def passes(name: str) -> str:
        before = site.journal.last()
        event: Event | None = None

        async def decided() -> None:
            nonlocal event
            event = await site.journal.wait_for(
                lambda event: event.kind in {Kind.LANE_OPENED, Kind.ACCESS_DENIED}, after=before, timeout=WAIT_S
            )

        await site.phone.by_pass(cameras[name], "hall", hold=decided)
        assert event is not None
        assert event.data["lane"] == f"{name}-in"
        if event.kind is Kind.LANE_OPENED:
            await turnstiles[name].walk(Direction.IN)
            await site.journal.wait_for(
                lambda event: event.kind is Kind.PASSAGE_COMPLETED, after=before, timeout=WAIT_S
            )
        return str(event.data.get("reason", "opened"))

    async def told(kind: Kind, device: str) -> None:
        await site.journal.wait_for(
            lambda event: event.kind is kind and event.data["device"] == device, after=0, timeout=WAIT_S
        )

    try:
        async with site.running() as process:
            assert await passes("hall") == "opened"
            await cameras["hall"].stop()
            await told(Kind.DEVICE_DEGRADED, "camera.hall")
            assert await passes("two") == "opened"
            await cameras["hall"].start()
            await told(Kind.DEVICE_RESTORED, "camera.hall")
            assert await passes("hall") == "opened"
            await turnstiles["hall"].stop()
            await told(Kind.DEVICE_DEGRADED, "lane.hall")
            assert await passes("hall") == "out_of_service"
            await told(Kind.DEVICE_DEGRADED, "signal.hall")
            assert await passes("two") == "opened"
            await turnstiles["hall"].start()
            await told(Kind.DEVICE_RESTORED, "lane.hall")
            await told(Kind.DEVICE_RESTORED, "signal.hall")
            assert await passes("hall") == "opened"
            process.send_signal(signal.SIGTERM)
            _, log = await asyncio.wait_for(process.communicate(), WAIT_S)
            assert process.returncode == 0
            assert b"Traceback" not in log
    finally:
        for each in turnstiles.values():
            await each.stop()
    degraded = names(site.journal, Kind.DEVICE_DEGRADED)
    assert sorted({*degraded} - {f"ble.{name}" for name in LANES}) == ["camera.hall", "lane.hall", "signal.hall"]
    assert len(degraded) == len({*degraded})


APLAY = """\
#!{python}
import pathlib, sys
folder = pathlib.Path({folder!r})
if (folder / "unplugged").exists():
    sys.exit("audio open error: No such file or directory")
with (folder / "played").open("a") as notes:
    notes.write(pathlib.Path(sys.argv[-1]).name + "\\n")
"""


def aplay(folder: Path) -> Path:
    """A loudspeaker that is a script in a directory of its own, for PATH."""
    folder.mkdir()
    path = folder / "aplay"
    path.write_text(APLAY.format(python=sys.executable, folder=str(folder)))
    path.chmod(0o700)
    return folder


async def test_a_sign_whose_loudspeaker_is_gone_still_shows_its_words(
    world: World, tmp_path: Path, cameras: dict[str, VirtualCamera], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panel in the agent as a process of its own: aplay is a script, the display a pseudo-terminal."""
    loudspeaker = aplay(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(loudspeaker), prepend=os.pathsep)
    site, _ = await asyncio.to_thread(made, world, tmp_path, {name: each.source for name, each in cameras.items()})
    wire = Wire()
    panel = (
        f'[device.signal.hall]\ndriver = "panel"\n[device.signal.hall.sound]\nspeech = false\n'
        f'[device.signal.hall.text]\ndevice = "{wire.settings.device}"\n'
    )
    text = site.config.read_text()
    simulated = '[device.signal.hall]\ndriver = "simulated"\npath = "hall.sign"\n'
    assert simulated in text
    site.config.write_text(text.replace(simulated, panel))
    turnstile = Turnstile(site.folder / "hall.lane", site.folder / "hall.sign", step=0.02)
    await turnstile.start()

    async def opened() -> None:
        await site.journal.wait_for(
            lambda event: event.kind is Kind.LANE_OPENED, after=site.journal.last(), timeout=WAIT_S
        )

    played = loudspeaker / "played"
    played.touch()

    async def heard(name: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while name not in played.read_text().splitlines():  # noqa: ASYNC110  another process
                await asyncio.sleep(0.01)

    try:
        async with site.running():
            await wire.until("모바일 공무원증을".encode("euc-kr"))
            await site.phone.by_pass(cameras["hall"], "hall", hold=opened)
            await heard("green.wav")
            await wire.until("통과하세요".encode("euc-kr"))
            await turnstile.walk(Direction.IN)
            await site.wait_for(Kind.PASSAGE_COMPLETED)
            (loudspeaker / "unplugged").touch()
            wire.seen = b""
            await site.phone.by_pass(cameras["hall"], "hall", hold=opened)
            await wire.until("통과하세요".encode("euc-kr"))
            degraded = await site.journal.wait_for(
                lambda event: event.data.get("device") == "signal.hall.sound", after=0, timeout=WAIT_S
            )
            assert degraded.data["why"] == "aplay: audio open error: No such file or directory"
            (loudspeaker / "unplugged").unlink()
            await site.journal.wait_for(
                lambda event: event.kind is Kind.DEVICE_RESTORED and event.data["device"] == "signal.hall.sound",
                after=degraded.seq,
                timeout=WAIT_S,
            )
    finally:
        await turnstile.stop()
        wire.close()
    assert "signal.hall" not in names(site.journal, Kind.DEVICE_DEGRADED)
