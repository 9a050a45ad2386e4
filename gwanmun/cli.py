"""The command line: one table of subcommands, each run by its own package, imported only when it is asked for.

A gate has no web console installed and a controller no camera stack, so nothing is imported at the top. Exit status: what the
subcommand returns; 2 for a wrong command line or a part that is not installed; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand and the function behind it."""

    name: str
    module: str
    function: str
    extra: str
    """The extra of the distribution that brings what the module imports."""
    summary: str
    takes_config: bool
    """True: one `--config FILE`, the function takes the path. False: the function takes every argument that follows."""


COMMANDS = (
    Command("agent", "gate_agent.agent", "run", "gate", "게이트 에이전트를 실행합니다 / run the gate agent", True),
    Command(
        "guard",
        "gate_agent.guard_cli",
        "main",
        "gate",
        "게이트에서 내리는 경비원의 지시 / a guard's orders at the gate itself",
        False,
    ),
    Command(
        "journal",
        "gate_agent.journal_cli",
        "main",
        "gate",
        "게이트의 저널을 검사하고 내보냅니다 / verify and export a gate's journal",
        False,
    ),
    Command(
        "selftest",
        "gate_agent.selftest",
        "main",
        "gate",
        "게이트의 장치와 설정을 점검합니다 / check the gate's devices and what they need",
        False,
    ),
    Command(
        "controller",
        "gwanmun.controller_cli",
        "main",
        "controller",
        "건물 관제 서버를 실행하고 지시를 내립니다 / run the building controller, give orders through it",
        False,
    ),
    Command(
        "backup",
        "gwanmun.backup_cli",
        "backup",
        "controller",
        "관제 서버의 데이터베이스를 백업합니다 / back up the controller's database",
        False,
    ),
    Command(
        "restore",
        "gwanmun.backup_cli",
        "restore",
        "controller",
        "백업을 관제 서버에 되돌립니다 / put a backup of the controller back",
        False,
    ),
    Command(
        "gates",
        "gwanmun.gates_cli",
        "main",
        "controller",
        "게이트를 등록하고 폐기합니다 / enrol and revoke gates",
        False,
    ),
    Command(
        "inspect",
        "mdoc.inspect",
        "main",
        "gate",
        "제출된 응답 하나를 검사합니다 / inspect one device response",
        False,
    ),
    Command(
        "demo",
        "testbed.demo",
        "main",
        "testbed",
        "이 컴퓨터에서 작은 건물을 실행합니다 / run a small building on this machine",
        False,
    ),
    Command(
        "issuer",
        "testbed.issuer_cli",
        "main",
        "testbed",
        "시험용 발급 기관 / an issuing authority for demo and pilot",
        False,
    ),
    Command(
        "policy",
        "gwanmun.policy_cli",
        "main",
        "gate",
        "출입 규칙을 검사·설명·비교·서명합니다 / check, explain, compare and sign access rules",
        False,
    ),
    Command("phone", "testbed.phone_cli", "main", "testbed", "시험용 휴대전화 / a phone for demo and pilot", False),
    Command(
        "lane",
        "testbed.lane_cli",
        "main",
        "testbed",
        "통로에 사람을 지나가게 해 봅니다 / try out a lane with people in it",
        False,
    ),
)

OWN = frozenset({"mdoc", "card", "policy", "protocol", "drivers", "gate_agent", "controller", "testbed"})
TESTBED = "testbed"
"""The package that wheels leave out: it is there in a checkout only."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun",
        description="관문: 모바일 공무원증 출입 게이트 / Gwanmun: access-control gateway for the mobile civil-servant ID",
    )
    top.add_argument("--version", action="version", version=f"gwanmun {version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="명령 / commands")
    for command in COMMANDS:
        # One that takes every argument parses them itself, `--help` too: it stands here for the list of commands.
        sub = commands.add_parser(
            command.name, help=command.summary, description=command.summary, add_help=command.takes_config
        )
        if command.takes_config:
            sub.add_argument(
                "--config",
                type=Path,
                required=True,
                metavar="FILE",
                help="설정 파일 (TOML) / configuration file (TOML)",
            )
    return top


def version() -> str:
    try:
        return metadata.version("gwanmun")
    except metadata.PackageNotFoundError:
        return "0+source"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and give its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    by_name = {command.name: command for command in COMMANDS}
    command = by_name.get(arguments[0]) if arguments else None
    if command is None or command.takes_config:
        parsed = parser().parse_args(arguments)
        command, argument = by_name[parsed.command], parsed.config
    else:
        argument = arguments[1:]
    try:
        function = _load(command)
        return EXIT_USAGE if function is None else int(function(argument))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _load(command: Command) -> Callable[[Any], int] | None:
    """The function behind a subcommand; None, with a message, when its part is not installed."""
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if error.name == TESTBED:
            _say(
                f"`gwanmun {command.name}`에는 testbed가 필요하며, 설치된 패키지에는 들어 있지 않습니다. "
                "소스 저장소에서 `make demo`를 실행하십시오.",
                f"`gwanmun {command.name}` needs the testbed, which an installed package leaves out. "
                "Run `make demo` in a source checkout.",
            )
            return None
        if missing in OWN or missing in sys.stdlib_module_names:
            raise  # our own code is broken: that wants its traceback
        _say(
            f"`{missing}` 모듈이 없습니다. `gwanmun[{command.extra}]`를 설치하십시오.",
            f"The module `{missing}` is missing. Install `gwanmun[{command.extra}]`.",
        )
        return None
    loaded: Callable[[Any], int] = getattr(module, command.function)
    return loaded


def _say(korean: str, english: str) -> None:
    print(f"gwanmun: {korean}\ngwanmun: {english}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
