"""`gwanmun backup`, `gwanmun restore`, `gwanmun controller deletions`: the controller's database from outside (docs/store.md).

    gwanmun backup --config FILE [--without-detail] TARGET      while the controller runs, or not
    gwanmun restore --config FILE [--without-checksum] SOURCE   only while it does not
    gwanmun restore --config FILE --check SOURCE                whether it could be put back; while the controller runs, or not
    gwanmun controller deletions --config FILE [--last N]       what retention removed, and whether the proofs are whole

Run by root they first become the owner of the controller's directory, which has to be able to write TARGET and read SOURCE.
Exit status: 0 done, 1 not possible or a broken chain, 2 wrong command line or configuration.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from controller import backup as copies
from controller import checksum
from controller import deletions as proofs
from controller import restore as returns
from controller.backup import BackupError, Summary
from controller.config import ConfigError, Place, load_place, load_time_zone
from controller.integrity import read_only
from controller.state_lock import HeldError, StateLock
from gwanmun.owner import become_owner
from protocol.clock import Clock, SystemClock

EXIT_OK, EXIT_NOT_DONE, EXIT_USAGE = 0, 1, 2
CONFIG = Path("/etc/gwanmun/controller.toml")
SHOWN = 20


def backup(argv: Sequence[str], clock: Clock | None = None) -> int:
    parser = _parser(
        "gwanmun backup",
        "관제 서버의 데이터베이스를 백업합니다. 관제 서버는 계속 돌아갑니다 / back up the controller's database while it runs",
    )
    parser.add_argument("target", type=Path, metavar="TARGET", help="새 파일 / a file that does not exist yet")
    parser.add_argument(
        "--without-detail",
        action="store_true",
        help="사람이 지나간 정확한 시각을 뺍니다 / leave out the exact times at which people passed",
    )
    options = parser.parse_args(argv)

    def work(place: Place) -> int:
        found = copies.back_up(
            place.database,
            options.target.absolute(),
            time_zone=load_time_zone(options.config),
            now=(clock or SystemClock()).now(),
            detail=not options.without_detail,
            progress=_progress if sys.stderr.isatty() else None,
        )
        _tell_backup(options.target, found)
        return EXIT_OK

    return _run(options.config, work)


def restore(argv: Sequence[str], clock: Clock | None = None) -> int:
    parser = _parser(
        "gwanmun restore",
        "백업을 되돌립니다. 관제 서버가 멈춰 있어야 합니다 / put a backup back; the controller has to be stopped",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="백업 파일 / the backup")
    parser.add_argument(
        "--check", action="store_true", help="되돌리지 않고 온전한지만 봅니다 / only look whether it could be put back"
    )
    parser.add_argument(
        "--without-checksum",
        action="store_true",
        help="SOURCE.sha256이 없어도 됩니다 / also where there is no SOURCE.sha256",
    )
    options = parser.parse_args(argv)

    def work(place: Place) -> int:
        source = options.source.absolute()
        unsealed = options.without_checksum
        if options.check:
            _tell_check(returns.check(source, site=place.site, unsealed=unsealed))
            return EXIT_OK
        with StateLock(place.lock):
            now = (clock or SystemClock()).now()
            done = returns.restore(source, place.database, site=place.site, now=now, unsealed=unsealed)
        print("되돌렸습니다. 관제 서버를 시작하면 게이트가 그 뒤의 기록을 다시 보냅니다.")
        print("Restored. Once the controller is started, the gates send again what came after the backup.")
        _tell_emergency(done.levels)
        if done.kept is not None:
            print(f"이전 데이터베이스: {done.kept} (정확한 시각이 들어 있습니다. 필요 없으면 지우십시오)")
            print(f"The old database: {done.kept} (it holds exact times: destroy it once it is not needed)")
        return EXIT_OK

    return _run(options.config, work)


def deletions(argv: Sequence[str]) -> int:
    parser = _parser(
        "gwanmun controller deletions",
        "보존 기간이 지나 지운 것과 그 증거를 보입니다 / show what retention removed, and check the proofs",
    )
    parser.add_argument("--last", type=int, default=SHOWN, metavar="N", help=f"줄 수 / how many ({SHOWN})")
    options = parser.parse_args(argv)

    def work(place: Place) -> int:
        with closing(read_only(place.database)) as connection:
            rows = list(proofs.every(Database(connection)))
        for row in rows[max(0, len(rows) - max(0, options.last)) :]:
            print(f"{row.number}\t{row.time}\t{row.what}\t< {row.before}\t{row.n}\t{row.digest}\t{row.hash}")
        bad = proofs.broken(rows)
        head = rows[-1].hash if rows else proofs.GENESIS
        if bad is not None:
            _complain(f"증거의 사슬이 {bad}번에서 끊겼습니다", f"the chain of proofs is broken at number {bad}")
            return EXIT_NOT_DONE
        removed = sum(row.n for row in rows)
        print(f"온전함: {len(rows)}번, {removed}줄을 지움, 머리 {head}")
        print(f"whole: {len(rows)} proofs of {removed} rows removed, head {head}")
        return EXIT_OK

    return _run(options.config, work)


def _run(config: Path, work: Callable[[Place], int]) -> int:
    try:
        place = load_place(config)
        become_owner(place.state_dir)
        return work(place)
    except ConfigError as error:
        print(error.text(), file=sys.stderr)
        return EXIT_USAGE
    except BackupError as error:
        _complain(*str(error).split("\n", 1))
    except HeldError:
        _complain("관제 서버가 돌고 있습니다. 먼저 멈추십시오", "the controller is running; stop it first")
    except OSError as error:
        why = f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
        _complain(f"파일을 다룰 수 없습니다. {why}", f"a file cannot be used. {why}")
    except sqlite3.Error as error:
        _complain(f"데이터베이스를 다룰 수 없습니다. {error}", f"the database cannot be used. {error}")
    return EXIT_NOT_DONE


def _tell_backup(target: Path, found: Summary) -> None:
    megabytes = f"{found.size / 1e6:.1f} MB"
    print(f"백업했습니다: {target} ({megabytes}, 기록 {found.records}개)")
    print(f"backed up: {target} ({megabytes}, {found.records} records)")
    print(f"체크섬 / checksum: {checksum.beside(target)}")
    if found.left_out:
        print(f"뺀 것: {found.left_out}줄 / left out: {found.left_out} rows")
    if found.detail:
        print(f"정확한 통과 시각 {found.detail}개가 들어 있습니다. detail_days가 지나면 이 백업을 없애십시오.")
        print(
            f"It holds {found.detail} exact times of passages: destroy it after detail_days (or use --without-detail)."
        )
    print("들어 있지 않은 것: 키, 인증서, 설정, 등록된 게이트(gates/). 따로 보관하십시오.")
    print("Not in it: keys, certificates, configuration, the enrolled gates (gates/). Keep them apart.")


def _tell_check(found: Summary) -> None:
    print(f"온전한 백업입니다: 기록 {found.records}개, 정확한 통과 시각 {found.detail}개")
    print(f"a whole backup: {found.records} records, {found.detail} exact times of passages")


def _tell_emergency(levels: Mapping[str, int] | None) -> None:
    if levels is None:
        return
    listed = ", ".join(f"{zone}={level}" for zone, level in sorted(levels.items()))
    print(f"백업 때의 비상 상태: {listed or '없음'}. 되살리지 않았습니다.")
    print("관제 서버는 브로커가 가진 상태를 이어받습니다. 브로커에 없으면 필요한 단계를 다시 지시하십시오.")
    print(f"The emergency state at the time of the backup: {listed or 'none'}. It was not put back.")
    print(
        "The controller takes over what the broker holds. Where the broker holds nothing, order the levels that are needed anew."
    )


def _progress(left: int, pages: int) -> None:
    print(f"\r{100 * (pages - left) // max(1, pages)} %", end="\n" if not left else "", file=sys.stderr, flush=True)


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument(
        "--config",
        type=Path,
        default=CONFIG,
        metavar="FILE",
        help=f"관제 서버 설정, 기본값 {CONFIG} / configuration of the controller",
    )
    return parser


def _complain(korean: str, english: str) -> None:
    print(f"오류: {korean}\nerror: {english}", file=sys.stderr)
