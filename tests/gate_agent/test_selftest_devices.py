"""`gwanmun selftest` against the virtual devices: what each kind answers, what is said where it does not, and its outputs."""

from __future__ import annotations

import os
import pty
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drivers.findings import Finding, Result
from drivers.lane import check as lane
from drivers.lane.gpio import Gpio
from drivers.ports import Direction, LaneSignal, Light
from drivers.signal import check as sign
from gate_agent import config as configuration
from gate_agent.selftest import causes, checks, running
from gate_agent.selftest.checks import Outputs
from testbed.camera import HEIGHT, WIDTH, VirtualCamera
from testbed.sockets import Listener
from testbed.turnstile import Turnstile
from tests.drivers.lane_boards import UNIT_MS, Board, FakeChip, Pins
from tests.gate_agent.test_config import BASE, FILES

LANE = 'driver = "simulated"\npath = "hall.lane"\n'
SIGN = 'driver = "simulated"\npath = "hall.sign"\n'
CAMERA = 'driver = "opencv"\nsource = 0\n'
NFC = 'driver = "nfcpy"\npath = "udp:127.0.0.1:54321"\n'
GPIO = """driver = "gpio"
chip = "{chip}"
[device.lane.hall.inputs]
beam_a = 1
beam_m = 2
beam_b = 3
contact = 4
fire = 5
[device.lane.hall.outputs]
in = 20
"""
MODBUS = """driver = "modbus"
host = "127.0.0.1"
port = {port}
unseen_ms = 5000
[device.lane.hall.inputs]
beam_a = 0
beam_m = 1
beam_b = 2
contact = 3
fire = 5
{feedback}
[device.lane.hall.outputs]
in = 0
[device.lane.hall.flash]
unit_ms = {unit}
"""
FEEDBACK = "relay_in = 4"


class Gate:
    """One gate.toml and somebody at its terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "trust").mkdir()
        for name in FILES:
            (folder / name).write_text("-")
        self.answer = True
        self.asked: list[str] = []
        self.said: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens while the person looks."""

    async def _ask(self, ko: str, en: str) -> bool:
        self.asked += [ko, en]
        self.meanwhile()
        return self.answer

    async def check(
        self, device: str, was: str = "", now: str = "", more: str = "", *, outputs: bool = False
    ) -> dict[str, Finding]:
        path = self.folder / "gate.toml"
        path.write_text(BASE.replace(was, now) + more if was else BASE + more)
        config = configuration.load(path, {})
        asked = Outputs(self._ask, lambda _ko, en: self.said.append(en)) if outputs else None
        found = await checks.run(config, config.devices[device], asked)
        for each in found:
            assert each.ko
            assert each.en
            assert bool(each.do_ko) is bool(each.do_en)
        return {each.id: each for each in found}


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture
async def turnstile(gate: Gate) -> AsyncIterator[Turnstile]:
    made = Turnstile(gate.folder / "hall.lane", gate.folder / "hall.sign")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches here."""
    monkeypatch.setattr(sign, "SHOWN_S", 0.0)
    monkeypatch.setattr(lane, "RETURNS_S", 0.6)


# Camera, NFC, second factor.


async def test_a_camera_says_size_and_rate(gate: Gate) -> None:
    camera = VirtualCamera()
    await camera.start()
    try:
        found = await gate.check("camera.hall", CAMERA, f'driver = "opencv"\nsource = "{camera.source}"\n')
    finally:
        await camera.stop()
    frames = found["camera.hall.frames"]
    assert frames.result in {Result.OK, Result.WARNING}  # a busy machine is a slow camera
    assert f"{WIDTH}x{HEIGHT}" in frames.en


async def test_a_camera_that_is_not_there_is_a_fault_with_its_path(gate: Gate) -> None:
    found = await gate.check("camera.hall", CAMERA, 'driver = "opencv"\nsource = 63\n')
    assert found["camera.hall"].result is Result.FAULT
    assert "/dev/video63" in found["camera.hall"].do_ko


async def test_the_address_of_a_stream_is_not_printed(gate: Gate) -> None:
    secret = "http://guard:secret@127.0.0.1:1/stream"
    found = await gate.check("camera.hall", CAMERA, f'driver = "opencv"\nsource = "{secret}"\n')
    assert found["camera.hall"].result is Result.FAULT
    assert "secret" not in str(found)


async def test_a_reader_answers_and_looks_into_its_field(gate: Gate) -> None:
    found = await gate.check("nfc.hall")
    assert {each: found[each].result for each in found} == {
        "nfc.hall.reader": Result.OK,
        "nfc.hall.field": Result.OK,
    }
    assert "loopback udp UDP" in found["nfc.hall.reader"].en


async def test_a_reader_that_is_not_there_is_a_fault_with_its_device_file(gate: Gate) -> None:
    found = await gate.check("nfc.hall", NFC, 'driver = "nfcpy"\npath = "tty:AMA99:pn532"\n')
    assert found["nfc.hall"].result is Result.FAULT
    assert "/dev/ttyAMA99" in found["nfc.hall"].do_en


@asynccontextmanager
async def terminal(path: Path, *, hangs_up: bool) -> AsyncIterator[list[bytes]]:
    heard: list[bytes] = []

    async def serve(reader: object, writer: object) -> None:
        if not hangs_up:
            heard.append(await reader.readline())  # type: ignore[attr-defined]

    listener = Listener(serve, limit=4096)
    await listener.listen_unix(path)
    try:
        yield heard
    finally:
        await listener.stop()


FACTOR = '[device.factor.face]\ndriver = "callback"\npath = "face"\n'


@pytest.mark.parametrize(("hangs_up", "result"), [(False, Result.OK), (True, Result.FAULT)])
async def test_a_terminal_keeps_the_connection_and_is_asked_nothing(gate: Gate, hangs_up: bool, result: Result) -> None:
    async with terminal(gate.folder / "face", hangs_up=hangs_up) as heard:
        found = await gate.check("factor.face", "[[lane]]", FACTOR + "[[lane]]")
    assert [each.result for each in found.values()] == [result]
    assert heard in ([], [b""])


# Signs.


async def test_a_sign_that_opens_is_shown_nothing_by_default(gate: Gate, turnstile: Turnstile) -> None:
    found = await gate.check("signal.hall")
    assert found["signal.hall"].result is Result.OK
    assert turnstile.shown is None


async def test_a_sign_is_shown_every_light_and_then_rest(
    gate: Gate, turnstile: Turnstile, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await gate.check("signal.hall", outputs=True)
    assert found["signal.hall.outputs"].result is Result.OK
    assert set(sign.SHOWN) | {Light.IDLE} == set(Light)
    await turnstile.until(lambda: turnstile.shown == sign.REST, 10)
    assert [each.split(":")[0] for each in gate.said] == ["signal.hall", "now", "now", "now", "now"]
    assert "short, short, long, falling" in found["signal.hall.outputs"].en


async def test_each_part_of_a_panel_is_told_by_name(gate: Gate) -> None:
    master, slave = pty.openpty()
    tty.setraw(master)
    panel = (
        f'driver = "panel"\n[device.signal.hall.sound]\nplayer = "paplay"\ndevice = "nowhere"\n'
        f'[device.signal.hall.text]\ndevice = "{os.ttyname(slave)}"\n'
    )
    try:
        found = await gate.check("signal.hall", SIGN, panel)
    finally:
        os.close(master)
        os.close(slave)
    assert found["signal.hall"].result is Result.OK
    assert found["signal.hall.text"].result is Result.OK
    assert found["signal.hall.sound"].result is Result.FAULT
    assert "alsa-utils" in found["signal.hall.sound"].do_en
    assert not (gate.folder / "state").exists()  # the agent's own files are not made by whoever runs the check


async def test_a_panel_without_any_part_that_works_is_a_fault_for_the_whole_and_for_each(gate: Gate) -> None:
    panel = 'driver = "panel"\n[device.signal.hall.text]\ndevice = "/dev/ttyNONE"\n'
    found = await gate.check("signal.hall", SIGN, panel, outputs=True)
    assert {found["signal.hall"].result, found["signal.hall.text"].result} == {Result.FAULT}
    assert "/dev/ttyNONE" in found["signal.hall.text"].do_ko


# Lanes.


async def test_a_lane_says_every_input_by_name_and_moves_nothing(gate: Gate, turnstile: Turnstile) -> None:
    turnstile.levels[LaneSignal.CONTACT] = True
    found = await gate.check("lane.hall")
    inputs = found["lane.hall.inputs"]
    assert inputs.result is Result.WARNING
    assert all(signal.value in inputs.en for signal in LaneSignal)
    assert "contact active" in inputs.en
    assert "contact" in inputs.do_en
    assert "in, out" in found["lane.hall.relays"].en
    assert turnstile.pulses == 0
    assert gate.asked == []


async def test_a_lane_whose_module_is_not_there_is_a_fault_with_its_socket(gate: Gate) -> None:
    found = await gate.check("lane.hall")
    assert found["lane.hall"].result is Result.FAULT
    assert "hall.lane" in found["lane.hall"].do_ko


async def test_each_relay_is_pulsed_once_after_one_question_and_comes_back(gate: Gate, turnstile: Turnstile) -> None:
    found = await gate.check("lane.hall", outputs=True)
    assert [found[f"lane.hall.{each}"].result for each in ("relay_in", "relay_out", "rest")] == [Result.OK] * 3
    assert turnstile.pulses == 2
    assert [each.direction for each in turnstile.moves if each.energised] == [Direction.IN, Direction.OUT]
    assert gate.asked == [
        "통로 hall-in: 차단기가 열립니다. 통로를 비웠습니까?",
        "Lane hall-in: The barrier will open. Is the lane clear?",
    ]
    assert "feedback contact moved and came back" in found["lane.hall.relay_in"].en


async def test_without_a_yes_no_relay_moves(gate: Gate, turnstile: Turnstile) -> None:
    gate.answer = False
    found = await gate.check("lane.hall", outputs=True)
    assert found["lane.hall.outputs"].result is Result.SKIPPED
    assert turnstile.pulses == 0


@pytest.mark.parametrize("signal", [LaneSignal.FIRE, LaneSignal.FIRE_OPEN, LaneSignal.KEY_LOCKED, LaneSignal.BEAM_M])
async def test_a_lane_in_a_fire_locked_or_occupied_is_not_even_asked_about(
    gate: Gate, turnstile: Turnstile, signal: LaneSignal
) -> None:
    turnstile.levels[signal] = True
    found = await gate.check("lane.hall", outputs=True)
    assert found["lane.hall.outputs"].result is Result.SKIPPED
    assert signal.value in found["lane.hall.outputs"].en
    assert (turnstile.pulses, gate.asked) == (0, [])


async def test_an_agent_that_starts_while_the_person_looks_keeps_its_relays(
    gate: Gate, turnstile: Turnstile, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(_config: object) -> running.Running:
        return running.Running(())

    monkeypatch.setattr(running, "find", find)
    found = await gate.check("lane.hall", outputs=True)
    assert found["lane.hall.outputs"].result is Result.SKIPPED
    assert turnstile.pulses == 0


async def test_a_fire_that_begins_while_the_person_looks_bars_the_relays(gate: Gate, turnstile: Turnstile) -> None:
    levels: list[lane.Levels] = []
    begin = lane.Levels.start

    async def started(self: lane.Levels) -> None:
        levels.append(self)
        await begin(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane.Levels, "start", started)
        gate.meanwhile = lambda: levels[0].now.update({LaneSignal.FIRE: True})
        found = await gate.check("lane.hall", outputs=True)
    assert "fire" in found["lane.hall.outputs"].en
    assert turnstile.pulses == 0


async def test_hardware_that_no_lane_names_is_not_moved(gate: Gate, turnstile: Turnstile) -> None:
    spare = '[device.lane.spare]\ndriver = "simulated"\npath = "hall.lane"\n[[lane]]'
    found = await gate.check("lane.spare", "[[lane]]", spare, outputs=True)
    assert found["lane.spare.outputs"].result is Result.SKIPPED
    assert turnstile.pulses == 0


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    made = Board(feedback={0: 4})
    yield made
    await made.stop()


@pytest.mark.parametrize("feedback", [FEEDBACK, ""])
async def test_a_module_is_read_back_after_its_pulse(gate: Gate, board: Board, feedback: str) -> None:
    modbus = MODBUS.format(port=await board.start(), feedback=feedback, unit=UNIT_MS)
    found = await gate.check("lane.hall", LANE, modbus, outputs=True)
    assert [found[f"lane.hall.{each}"].result for each in ("relay_in", "rest")] == [Result.OK] * 2
    assert len(board.ticks) == 1
    assert not board.coils[0]


@pytest.mark.parametrize("feedback", [FEEDBACK, ""])
async def test_a_module_whose_timer_does_not_let_go_is_a_fault_and_is_put_to_rest(
    gate: Gate, board: Board, feedback: str
) -> None:
    """The board counts in units a hundred times as long as configured."""
    modbus = MODBUS.format(port=await board.start(), feedback=feedback, unit=1)
    found = await gate.check("lane.hall", LANE, modbus, outputs=True)
    assert found["lane.hall.relay_in"].result is Result.FAULT
    assert "did not come back" in found["lane.hall.relay_in"].en
    assert found["lane.hall.rest"].result is Result.OK
    assert not board.coils[0]


async def test_a_stuck_relay_is_a_fault(gate: Gate, board: Board) -> None:
    board.coils = [False] * board.COILS
    board.stuck = True
    modbus = MODBUS.format(port=await board.start(), feedback=FEEDBACK, unit=UNIT_MS)
    found = await gate.check("lane.hall", LANE, modbus, outputs=True)
    assert found["lane.hall.relay_in"].result is Result.FAULT
    assert "outputs.in" in found["lane.hall.relay_in"].do_en


async def test_a_chip_that_is_not_there_is_a_fault_with_its_path(
    gate: Gate, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = Pins(tmp_path_factory.mktemp("pins"))
    for name, value in pins.environ.items():
        monkeypatch.setenv(name, value)
    found = await gate.check("lane.hall", LANE, GPIO.format(chip=gate.folder / "gpiochip9"))
    assert found["lane.hall"].result is Result.FAULT
    assert "gpiochip9" in found["lane.hall"].do_en
    assert not pins.high(20)


async def test_a_relay_on_a_board_is_pulsed_and_let_go_and_needs_eyes_without_a_feedback_contact(
    gate: Gate, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = Pins(tmp_path_factory.mktemp("pins"))
    for name, value in pins.environ.items():
        monkeypatch.setenv(name, value)
    assert Gpio.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Gpio.__init__.__kwdefaults__, "request", FakeChip())
    found = await gate.check("lane.hall", LANE, GPIO.format(chip="/dev/gpiochip0"), outputs=True)
    assert (
        found["lane.hall.inputs"].en
        == "Inputs: beam_a at rest, beam_b at rest, beam_m at rest, contact at rest, fire at rest"
    )
    assert found["lane.hall.relay_in"].result is Result.OK
    assert "see for yourself" in found["lane.hall.relay_in"].en
    assert [high for _, high in pins.history(20)].count(True) == 1
    assert not pins.high(20)


# Causes.


def test_a_device_file_is_absent_forbidden_or_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tty"
    assert "There is no" in causes.node(path, "path")[1]
    path.touch()
    assert "fuser" in causes.node(path, "path")[1]
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "usermod -aG" in causes.node(path, "path")[1]
