"""`make chaos`: breaks everything that may break, then counts. Exit status 0: 0 lost, 0 doubled, every hole explained."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from testbed.broker import MISSING, executable
from testbed.chaos.parts import PARTS, Terms, run
from testbed.chaos.plan import Action, Step
from testbed.chaos.tally import Tally, table


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make chaos",
        description="프로세스를 죽이고 망과 디스크를 망가뜨린 뒤 기록을 하나씩 맞춰 봅니다. "
        "(Kills processes, breaks network and disks, then compares record by record.)",
    )
    parser.add_argument("--seed", type=int, help="계획을 되풀이할 때 쓰는 수 (repeats a plan)")
    parser.add_argument("--minutes", type=float, default=5.0, help="대략 걸릴 시간 (about how long; default 5)")
    parser.add_argument(
        "--part", action="append", choices=[*PARTS], help="이 부분만, 여러 번 가능 (only this part; may be repeated)"
    )
    parser.add_argument(
        "--without",
        action="append",
        type=Action,
        choices=list(Action),
        default=[],
        help="우연 계획에서 이것은 빼고 (leave this out of the random plan; may be repeated)",
    )
    parser.add_argument("--dir", type=Path, help="작업 디렉터리, 남겨 둠 (working directory, kept afterwards)")
    parser.add_argument("--steps", action="store_true", help="계획을 그대로 출력 (print each step)")
    return parser.parse_args(argv)


async def _run(options: argparse.Namespace, seed: int, directory: Path) -> list[Tally]:
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    end = time.monotonic() + options.minutes * 60

    def say(step: Step) -> None:
        if options.steps:
            print(f"  {step.before:>3} {step.action} {step.target} {step.records} {step.amount:g}", flush=True)

    tallies = []
    for name in options.part or PARTS:
        begun = time.monotonic()
        print(f"{name} …", flush=True)
        tally = await run(name, Terms(directory / name, seed, end, say, frozenset(options.without)))
        word = "건너뜀 skipped" if tally.skipped else "통과 passed" if tally.passed else "실패 failed"
        print(f"{name}: {word}, {time.monotonic() - begun:.0f} s", flush=True)
        tallies.append(tally)
    return tallies


def main(argv: Sequence[str]) -> int:
    options = _options(argv)
    if executable() is None:
        print(MISSING, file=sys.stderr)
        return 2
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"씨앗 seed: {seed}", flush=True)
    directory = options.dir.resolve() if options.dir else Path(tempfile.mkdtemp(prefix="gwanmun-chaos-"))
    try:
        tallies = asyncio.run(_run(options, seed, directory))
    except asyncio.CancelledError:
        return 130
    print("\n".join(["", *table(tallies)]), flush=True)
    passed = all(tally.passed for tally in tallies)
    if passed and not options.dir:
        shutil.rmtree(directory, ignore_errors=True)
    elif not passed:
        print(f"\n남겨 둔 파일 files kept: {directory}\n다시 하려면 to repeat: --seed {seed}", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
