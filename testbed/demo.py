"""`gwanmun demo`: a small building on this machine. Live until Ctrl-C, or one fixed scenario with `--scripted`."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from policy.reasons import WORDING, Reason
from protocol.clock import SystemClock
from testbed.broker import BrokerError
from testbed.building import Building, StartError
from testbed.control import ControlServer
from testbed.people import SECURE, Crowd
from testbed.place import STATE
from testbed.runner import Result as RunResult
from testbed.runner import Runner
from testbed.scenario import GRANTED, Attempt, Incident, IncidentError, script

PAUSE_S = (0.6, 2.5)
NEXT_PERSON_S = 0.5
"""The next person needs a moment; a phone held to the antenna at once is taken for the one that is still there."""
_CARRIERS = {"ble": "BLE", "nfc": "NFC", "qr": "QR pass", "walk_up": "walk-up", "piv": "PIV card"}
_GREEN, _RED, _DIM, _BOLD, _OFF = "\033[32m", "\033[31m", "\033[2m", "\033[1m", "\033[0m"


class Terminal:
    """Plain lines; colour only where a person looks."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty()

    def paint(self, text: str, style: str) -> str:
        return f"{style}{text}{_OFF}" if self._colour else text

    def say(self, ko: str, en: str) -> None:
        print(f"{ko}\n{self.paint(en, _DIM)}", flush=True)

    def head(self) -> None:
        print(
            self.paint(
                f"{'시각 time':<10} {'통로 lane':<9} {'수단 carrier':<11} {'판단 decision':<13} "
                f"{'사유 reason':<20} {'전체 total':>10} {'게이트 gate':>9}",
                _BOLD,
            )
        )

    def attempt(self, result: RunResult) -> None:
        event = result.event
        total = gate = ""
        time_ = "--:--:--"
        carrier = "?"
        if event is not None:
            time_ = f"{datetime.fromisoformat(event.time).astimezone():%H:%M:%S}"
            carrier = _CARRIERS.get(str(event.data.get("carrier")), "?")
            total, gate = _milliseconds(result)
        granted = result.outcome == GRANTED
        decision = (
            self.paint(f"{'✔ 열림 open':<11}", _GREEN) if granted else self.paint(f"{'✖ 거절 refused':<11}", _RED)
        )
        reason = "" if granted else result.outcome
        print(f"{time_:<10} {result.attempt.lane:<9} {carrier:<11} {decision} {reason:<20} {total:>10} {gate:>9}")
        if not granted and result.outcome in set(Reason):
            words = WORDING[Reason(result.outcome)]
            print(self.paint(f"{'':<10} {words.ko} · {words.en}", _DIM))
        if not result.expected:
            print(self.paint(f"{'':<10} ! 예상 expected: {result.attempt.expected} ({result.attempt.en})", _RED))
        sys.stdout.flush()


def _milliseconds(result: RunResult) -> tuple[str, str]:
    """Whole attempt, and the gate's own share of it (last byte to relay), where the records say so."""
    latencies: dict[str, float] = {}
    for event in (result.event, result.opened):
        if event is not None:
            latencies |= event.data.get("lat_ms", {})
    own = latencies.get("ours")
    whole = sum(value for stage, value in latencies.items() if stage != "ours")
    return f"{whole:.0f} ms", "" if own is None else f"{own:.1f} ms"


async def scripted(building: Building, terminal: Terminal) -> int:
    """0 only if every attempt ended as expected and every event reached the controller exactly once."""
    runner, crowd = Runner(building), Crowd(building)
    failed_incidents = 0
    for step in script(building, crowd, runner.decided):
        if isinstance(step, Incident):
            print(terminal.paint(f"{'':<10} ― {step.ko} · {step.en}", _DIM), flush=True)
            try:
                await step.act()
            except (TimeoutError, OSError, StartError, IncidentError) as error:
                failed_incidents += 1
                print(terminal.paint(f"{'':<10} ! {type(error).__name__}: {error}", _RED), flush=True)
            continue
        terminal.attempt(await runner.present(step))
        await asyncio.sleep(NEXT_PERSON_S)
    count = await runner.count(crowd.canaries)
    granted = sum(result.outcome == GRANTED for result in runner.results)
    unexpected = sum(not result.expected for result in runner.results) + failed_incidents + len(count.leaks)
    kinds = len(crowd.canaries.counts)
    terminal.say(
        f"발급한 값 {len(crowd.canaries)}개({kinds}종)를 저널·데이터베이스·로그·MQTT·화면·API·지표에서 찾음: "
        f"{len(count.leaks)}건",
        f"searched journals, databases, logs, MQTT, page, API and metrics for {len(crowd.canaries)} values of {kinds} kinds: "
        f"{len(count.leaks)} found",
    )
    for find in count.leaks:
        print(terminal.paint(f"{'':<10} ! {find.place}: {find.kind}", _RED), flush=True)
    print(
        f"demo: {len(runner.results)} presentations, {granted} granted, {len(runner.results) - granted} refused, "
        f"{unexpected} unexpected, {count.events} events, {count.lost} lost, {count.duplicated} duplicated",
        flush=True,
    )
    return 1 if unexpected or count.lost or count.duplicated else 0


async def live(building: Building, terminal: Terminal, *, presentations: int | None) -> int:
    """People come by until Ctrl-C, or until `presentations` have come."""
    runner, crowd = Runner(building), Crowd(building)
    chance = random.Random()  # noqa: S311  who comes next, no secret
    staff = [crowd.phone() for _ in range(4)]
    secure = [crowd.phone(crowd.person(access_class=SECURE)) for _ in range(2)]
    others = [crowd.expired(), crowd.phone(crowd.person(card_type="contractor")), crowd.phone(consent=lambda _: False)]
    while presentations is None or len(runner.results) < presentations:
        lane = chance.choice(("lane-1", "lane-1", "lane-2"))
        phone = chance.choice(staff * 3 + secure * 3 + others)
        rig = building.lanes[lane]
        carrier = chance.choice(("ble", "connects", "nfc", "tap", "qr"))

        async def act(phone=phone, rig=rig, carrier=carrier) -> None:  # type: ignore[no-untyped-def]  # bound by default
            if carrier == "ble":
                await phone.by_ble(building.hci, rig.camera)
            elif carrier == "connects":
                await phone.by_ble(building.hci, rig.camera, connects=True)
            elif carrier == "tap":
                await phone.by_tap(rig.nfc_port, building.hci)
            elif carrier == "nfc":
                await phone.by_nfc(rig.nfc_port)
            else:
                await phone.by_pass(rig.camera, rig.entrance_group, hold=runner.decided)

        result = await runner.present(Attempt("", "", lane, act, GRANTED))
        shown = RunResult(Attempt("", "", lane, act, result.outcome), result.outcome, result.event, result.opened)
        terminal.attempt(shown)
        await asyncio.sleep(chance.uniform(*PAUSE_S))
    return 0


async def _run(options: argparse.Namespace, directory: Path) -> int:
    terminal = Terminal()
    building = Building(directory, SystemClock())
    control = ControlServer(building.control, building.lanes)
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  we are in one
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        terminal.say("작은 건물을 세웁니다…", "Starting a small building…")
        await building.start()
        await control.start()
        building.describe()
        terminal.say(
            f"화면: {building.page}  (영어: {building.page}?lang=en)",
            f"Page: {building.page}  (English: {building.page}?lang=en)",
        )
        terminal.head()
        if options.scripted:
            return await scripted(building, terminal)
        return await live(building, terminal, presentations=options.presentations)
    except asyncio.CancelledError:
        terminal.say("\n건물을 닫습니다", "Closing the building")
        return 0 if not options.scripted else 130
    except (StartError, BrokerError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        await control.stop()
        await building.stop()


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gwanmun demo",
        description="이 컴퓨터에 작은 건물을 세웁니다. (Starts a small building on this machine.)",
    )
    parser.add_argument(
        "--scripted", action="store_true", help="정해진 각본을 재생하고 끝냄 (play the scenario and exit)"
    )
    parser.add_argument(
        "--presentations", type=int, metavar="N", help="N번 뒤에 끝냄 (end after N presentations; live only)"
    )
    parser.add_argument("--dir", type=Path, help="작업 디렉터리, 남겨 둠 (working directory, kept afterwards)")
    options = parser.parse_args(argv)
    directory = options.dir.resolve() if options.dir else Path(tempfile.mkdtemp(prefix="gwanmun-"))
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(OSError):
        STATE.unlink(missing_ok=True)
        STATE.symlink_to(directory)
    try:
        return asyncio.run(_run(options, directory))
    finally:
        with suppress(OSError):
            if STATE.is_symlink() and STATE.readlink() == directory:
                STATE.unlink()
        if not options.dir:
            shutil.rmtree(directory, ignore_errors=True)
