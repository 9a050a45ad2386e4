"""`gwanmun policy check | explain | diff`: rules documents at the desk, offline. Needs no gate and changes nothing.

Exit status. check: 0 usable, 1 refused. explain: 0 granted, 1 refused or waiting. diff: 0 alike, 1 different. 2 for a wrong
command line, or a document that cannot be used where another answer was asked for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from policy import limits
from policy.diff import AFTER_HOLIDAY, AXES, HORIZON_DAYS, OTHER, Difference, DiffTooLargeError, Row, diff
from policy.document import parse
from policy.explain import Explanation, State, explain
from policy.model import CARRIERS, Direction, Policy
from policy.problems import PolicyError
from policy.reasons import WORDING
from policy.situation import (
    AntiPassbackFinding,
    Attributes,
    ClockQuality,
    EscortFinding,
    SecondFactor,
    SecondPerson,
    Situation,
    Visit,
)

EXIT_OK, EXIT_NO, EXIT_USAGE = 0, 1, 2
_STATES = {
    State.PASSED: ("통과", "passed"),
    State.FAILED: ("불허", "failed"),
    State.WAITS: ("대기", "waits"),
    State.NOT_REACHED: ("보지 않음", "not reached"),
}
_DAYS_KO = dict(zip(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), "월화수목금토일", strict=True))


def main(
    argv: Sequence[str],
    out: TextIO | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    more: Sequence[Callable[[Any], argparse.ArgumentParser]] = (),
) -> int:
    """Run one subcommand and give its exit status.

    `now`: the time that `explain` and `diff` take where none is given. `more`: commands of others, each added to the
    subparsers and given back; what one sets as `run` is called as those here are.
    """
    arguments = _parser(more).parse_args(argv)
    stream = out or sys.stdout
    try:
        status: int = arguments.run(arguments, stream, now)
    except (PolicyError, OSError, UsageError) as error:
        for line in _lines(error):
            print(line, file=sys.stderr)  # noqa: T201  a command line prints
        return EXIT_USAGE
    return status


class UsageError(Exception):
    """A wrong command line, said in both languages."""

    def __init__(self, ko: str, en: str) -> None:
        super().__init__(en)
        self.ko, self.en = ko, en


class _InFileError(PolicyError):
    """A PolicyError that knows its file."""

    def __init__(self, file: Path, error: PolicyError) -> None:
        super().__init__(error.problems)
        self.file = file


def _lines(error: Exception) -> list[str]:
    if isinstance(error, _InFileError):
        return _problem_lines(error.file, error)
    if isinstance(error, UsageError):
        return [f"gwanmun policy: {error.ko}", f"gwanmun policy: {error.en}"]
    if isinstance(error, OSError):
        return [
            f"gwanmun policy: {error.filename}: 쓸 수 없는 파일입니다({error.strerror})",
            f"gwanmun policy: {error.filename}: the file cannot be used ({error.strerror})",
        ]
    return [f"gwanmun policy: {error}"]


def _problem_lines(file: Path, error: PolicyError) -> list[str]:
    found = []
    for problem in error.problems:
        place = f"{problem.place}: " if problem.place else ""
        found += [f"{file}: {place}{problem.ko}", f"{file}: {place}{problem.en}"]
    return found


def _parser(more: Sequence[Callable[[Any], argparse.ArgumentParser]]) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun policy",
        description="출입 규칙을 검사하고, 설명하고, 비교합니다 / check, explain and compare access rules",
        epilog="종료 코드: check 0 쓸 수 있음, 1 거절; explain 0 허용, 1 거절·대기; diff 0 같음, 1 다름; "
        "2 사용법 오류나 읽을 수 없는 문서 / "
        "exit status: check 0 usable, 1 refused; explain 0 granted, 1 refused or waiting; diff 0 alike, 1 different; "
        "2 wrong usage or a document that cannot be used",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="명령 / commands")

    check = commands.add_parser("check", help="문서의 잘못을 모두 알려 줍니다 / name every mistake of a document")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check)

    why = commands.add_parser("explain", help="한 판단을 규칙마다 설명합니다 / explain one decision, rule by rule")
    why.add_argument("file", type=Path, metavar="FILE")
    why.add_argument("--point", required=True, help="출입점 / access point")
    why.add_argument(
        "--at", metavar="TIME", help="시각 2026-11-24T09:00, 없으면 지금 / time, in the rules' time zone; default now"
    )
    why.add_argument(
        "--attributes",
        required=True,
        metavar="NAME=VALUE,…",
        help="doc_type, issuer, access_class, agency, card_type",
    )
    why.add_argument("--carrier", choices=CARRIERS, default="nfc", help="제시 방식 / way of presenting")
    why.add_argument("--lockdown", type=int, default=0, metavar="LEVEL", help="봉쇄 단계 / lockdown level")
    why.add_argument("--occupancy", type=int, metavar="N", help="구역 인원 / people in the zone")
    why.add_argument("--denied", action="store_true", help="차단 목록에 있음 / on the deny list")
    why.add_argument("--visit", metavar="ZONE,FROM,TO[,host]", help="방문 기록 / visit record")
    for name, kind, default, help_text in (
        ("clock", ClockQuality, ClockQuality.SYNCED, "시계 / clock"),
        ("antipassback", AntiPassbackFinding, AntiPassbackFinding.CLEAR, "재진입 확인 / anti-passback"),
        ("second-factor", SecondFactor, SecondFactor.NOT_ASKED, "추가 인증 / second factor"),
        ("escort", EscortFinding, EscortFinding.NOBODY, "먼저 통과한 사람 / who passed before"),
        ("second-person", SecondPerson, SecondPerson.NOBODY, "두 번째 사람 / second person"),
    ):
        why.add_argument(f"--{name}", choices=[str(each) for each in kind], default=str(default), help=help_text)
    why.set_defaults(run=_explain)

    compare = commands.add_parser(
        "diff", help="다르게 판단하는 경우를 모두 찾습니다 / find every case decided differently"
    )
    compare.add_argument("old", type=Path, metavar="OLD")
    compare.add_argument("new", type=Path, metavar="NEW")
    compare.add_argument(
        "--from", dest="start", metavar="DATE", help="휴일을 볼 첫날 / first day to look up holidays for"
    )
    compare.add_argument(
        "--days", type=int, default=HORIZON_DAYS, metavar="N", help=f"볼 날 수, 기본 {HORIZON_DAYS} / days to look at"
    )
    compare.set_defaults(run=_diff)
    for command in (check, why, compare, *(add(commands) for add in more)):
        command.add_argument("--json", action="store_true", help="JSON으로 출력 / print JSON")
    return top


def read(path: Path) -> tuple[bytes, Policy]:
    """A document's bytes and what they say. Raises OSError, or PolicyError with the file's name."""
    try:
        with path.open("rb") as file:
            raw = file.read(limits.MAX_DOCUMENT + 1)
        return raw, parse(raw)
    except PolicyError as error:
        raise _InFileError(path, error) from error


def say(stream: TextIO, *lines: str) -> None:
    stream.writelines(f"{line}\n" for line in lines)


def dump(stream: TextIO, value: Any) -> None:
    stream.write(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")


# -- check --------------------------------------------------------------------------------------------------------------------


def _check(arguments: argparse.Namespace, stream: TextIO, _now: Callable[[], datetime]) -> int:
    try:
        policy = read(arguments.file)[1]
    except PolicyError as error:
        if arguments.json:
            dump(stream, {"usable": False, "problems": [asdict(problem) for problem in error.problems]})
        else:
            say(stream, *_problem_lines(arguments.file, error))
        return EXIT_NO
    if arguments.json:
        needs = {
            name: {"attributes": sorted(need.asked), "holder_handle": need.holder_handle}
            for name, need in policy.needs.items()
        }
        dump(stream, {"usable": True, "version": policy.version, "requested": needs})
        return EXIT_OK
    count = f"{len(policy.zones)} / {len(policy.points)} / {len(policy.profiles)} / {len(policy.schedules)}"
    say(
        stream,
        f"쓸 수 있습니다. 버전 {policy.version}; 구역 / 출입점 / 프로필 / 시간표: {count}",
        f"Usable. Version {policy.version}; zones / access points / profiles / schedules: {count}",
        "출입점마다 휴대전화에 묻는 것 / what each access point asks a phone for:",
    )
    for name, need in policy.needs.items():
        asked = [*sorted(need.asked), *(["holder_handle"] if need.holder_handle else [])]
        say(stream, f"  {name}: {', '.join(asked)}")
    return EXIT_OK


# -- explain ------------------------------------------------------------------------------------------------------------------


def _moment(text: str, policy: Policy) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text}: 2026-11-24T09:00 같은 시각이 있어야 합니다", f"{text}: a time such as 2026-11-24T09:00"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=policy.timezone)


def _attributes(text: str) -> Attributes:
    found = dict.fromkeys(AXES, "")
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        name = {"agency": "agency_code"}.get(name.strip(), name.strip())
        if not equals or name not in found:
            raise UsageError(
                f"--attributes: {part!r}: 쓸 수 있는 이름: {', '.join(AXES)}",
                f"--attributes: {part!r}: names are {', '.join(AXES)}",
            )
        found[name] = value.strip()
    return Attributes(**found)


def _visit(text: str | None, policy: Policy) -> Visit | None:
    if text is None:
        return None
    zone, *rest = text.split(",")
    if len(rest) not in (2, 3) or rest[2:] not in ([], ["host"]):
        raise UsageError("--visit ZONE,FROM,TO[,host]", "--visit ZONE,FROM,TO[,host]")
    return Visit(frozenset({zone}), _moment(rest[0], policy), _moment(rest[1], policy), host_required=len(rest) > 2)


def _explain(arguments: argparse.Namespace, stream: TextIO, now: Callable[[], datetime]) -> int:
    policy = read(arguments.file)[1]
    if arguments.point not in policy.points:
        listed = ", ".join(policy.points)
        raise UsageError(
            f"{arguments.point}: 모르는 출입점입니다. 있는 것: {listed}",
            f"{arguments.point}: no such access point; there are: {listed}",
        )
    situation = Situation(
        now=_moment(arguments.at, policy) if arguments.at else now(),
        carrier=arguments.carrier,
        clock=ClockQuality(arguments.clock),
        lockdown=arguments.lockdown,
        occupancy=arguments.occupancy,
        antipassback=AntiPassbackFinding(arguments.antipassback),
        second_factor=SecondFactor(arguments.second_factor),
        escort=EscortFinding(arguments.escort),
        second_person=SecondPerson(arguments.second_person),
        denied=arguments.denied,
        visit=_visit(arguments.visit, policy),
    )
    found = explain(policy, arguments.point, _attributes(arguments.attributes), situation)
    if arguments.json:
        dump(stream, _explanation(found))
    else:
        _print_explanation(stream, policy, arguments.point, found)
    return EXIT_OK if found.decision.granted else EXIT_NO


def _explanation(found: Explanation) -> dict[str, Any]:
    decision = found.decision
    return {
        "granted": decision.granted,
        "reason": decision.reason,
        "wait": decision.wait,
        "wait_s": decision.wait_s,
        "notes": list(decision.notes),
        "rules": [
            {"rule": step.rule.name, "state": step.state, "detail_ko": step.detail_ko, "detail_en": step.detail_en}
            for step in found.steps
        ],
    }


def _print_explanation(stream: TextIO, policy: Policy, point: str, found: Explanation) -> None:
    if policy.points[point].direction is Direction.EXIT:
        say(stream, "나가는 곳입니다. 나가는 사람은 막지 않습니다.", "An exit. Nobody is kept from leaving.")
    for number, step in enumerate(found.steps, 1):
        ko, en = _STATES[step.state]
        say(stream, f"{number:2} {step.rule.ko} · {step.rule.en}: {ko} · {en}")
        if step.detail_ko:
            same = step.detail_ko == step.detail_en
            say(stream, *(f"     {text}" for text in ((step.detail_ko,) if same else (step.detail_ko, step.detail_en))))
    decision = found.decision
    if decision.reason is not None:
        words = WORDING[decision.reason]
        say(stream, f"거절 · refused: {decision.reason}")
        for ko, en in ((words.ko, words.en), (words.guard_ko, words.guard_en), (words.action_ko, words.action_en)):
            say(stream, f"   {ko} · {en}")
    elif decision.wait is not None:
        say(stream, f"대기 · waits: {decision.wait}, {decision.wait_s:g} s")
    else:
        say(stream, "허용 · granted")
    if decision.notes:
        say(stream, f"알림 · notes: {', '.join(decision.notes)}")


# -- diff ---------------------------------------------------------------------------------------------------------------------


def _diff(arguments: argparse.Namespace, stream: TextIO, now: Callable[[], datetime]) -> int:
    old, new = read(arguments.old)[1], read(arguments.new)[1]
    try:
        start = date.fromisoformat(arguments.start) if arguments.start else now().astimezone(new.timezone).date()
    except ValueError:
        raise UsageError(
            f"--from {arguments.start}: 2026-11-24 같은 날짜", f"--from {arguments.start}: a date"
        ) from None
    if not 1 <= arguments.days <= 10 * HORIZON_DAYS:
        raise UsageError(f"--days: 1에서 {10 * HORIZON_DAYS}까지", f"--days: from 1 to {10 * HORIZON_DAYS}")
    if start > date.max - timedelta(days=arguments.days):
        raise UsageError(
            f"--from {start}: 그렇게 늦은 날짜는 볼 수 없습니다", f"--from {start}: an earlier date is expected"
        )
    try:
        found = diff(old, new, start, arguments.days)
    except DiffTooLargeError as error:
        raise UsageError(f"속성 조합이 너무 많습니다({error})", f"too many attribute combinations ({error})") from error
    if arguments.json:
        dump(stream, _difference(found))
    else:
        _print_difference(stream, found)
    return EXIT_NO if found else EXIT_OK


def _difference(found: Difference) -> dict[str, Any]:
    rows = []
    for row in found.rows:
        attributes: dict[str, Any] = {}
        for axis, values in row.attributes.items():
            if values is not None:
                attributes[axis] = {"values": [one for one in values if one != OTHER], "any_other": OTHER in values}
        times = (
            None if row.times is None else [{"days": t.days, "hours": [_hours(h) for h in t.hours]} for t in row.times]
        )
        rows.append({**asdict(row), "attributes": attributes, "times": times})
    return {"settings": [asdict(setting) for setting in found.settings], "decisions": rows}


def _hours(span: tuple[int, int]) -> str:
    return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in span)


def _day_names(labels: Sequence[str]) -> list[str]:
    """The labels for a person. Where both a day and the day after a holiday are meant, the day is named alone."""
    shown = []
    for label in labels:
        plain = label.removesuffix(AFTER_HOLIDAY)
        after = plain + AFTER_HOLIDAY
        if after in labels and plain in labels:
            if label == after:
                continue
            ko, en = "", ""
        elif label == after:
            ko, en = "(휴일 다음 날)", " after a holiday"
        else:
            ko, en = "(휴일 다음 날 아님)", " not after a holiday"
        name, _, holiday = plain.partition(" ")
        if name not in _DAYS_KO:
            shown.append(name)
            continue
        shown.append(f"{_DAYS_KO[name]}{'(휴일)' if holiday else ''}{ko}·{plain}{en}")
    return shown


def _print_difference(stream: TextIO, found: Difference) -> None:
    if not found and not found.settings:
        say(stream, "다르게 판단하는 경우가 없습니다.", "Nothing is decided differently.")
    for setting in found.settings:
        say(stream, f"{setting.place}: {setting.before or '-'} -> {setting.after or '-'}")
    for row in found.rows:
        say(stream, f"{row.point}: {_outcome(row.before)} -> {_outcome(row.after)}", *_conditions(row))
    say(stream, f"판단이 다른 경우 · decided differently: {len(found.rows)}")


def _outcome(word: str) -> str:
    return {"granted": "허용·granted", "no_access_point": "출입점 없음·no access point"}.get(word, word)


def _conditions(row: Row) -> list[str]:
    lines = []
    for axis, values in row.attributes.items():
        if values is not None:
            shown = ["그 밖의 모든 값·any other" if value == OTHER else value for value in values]
            lines.append(f"    {axis}: {', '.join(shown)}")
    if row.carriers is not None:
        lines.append(f"    carrier: {', '.join(row.carriers)}")
    if row.lockdown is not None:
        lines.append(f"    lockdown: {', '.join(map(str, row.lockdown))}")
    lines += [
        f"    {', '.join(_day_names(times.days))}: {', '.join(map(_hours, times.hours))}" for times in row.times or ()
    ]
    return lines or ["    언제나 누구나 · always, everyone"]
