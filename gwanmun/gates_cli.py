"""`gwanmun gates`: which gates belong to this building. Each command brings the broker's access list up to date at once.

Run by root it first becomes the owner of the controller's directory: every file is the controller's own then, and nothing in a
directory that is not root's is followed with root's rights. Exit status: 0 done, 1 refused or not possible, 2 wrong command
line or configuration.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from cryptography.hazmat.primitives import hashes

from controller.acl import AclFile
from controller.config import ConfigError, Place, load_place
from controller.enrolled import MAX_CERTIFICATE, MAX_GATES, EnrolError, Enrolled, Refusal
from protocol.clock import rfc3339

EXIT_OK, EXIT_REFUSED, EXIT_USAGE = 0, 1, 2
SHOWN_HASH = 16
"""Hexadecimal digits of a certificate's SHA-256 in the list."""
CONFIG = Path("/etc/gwanmun/controller.toml")
WORDS: dict[Refusal, tuple[str, str]] = {
    Refusal.TOO_LARGE: (
        f"파일이 너무 큽니다(최대 {MAX_CERTIFICATE}바이트)",
        f"the file is too large (at most {MAX_CERTIFICATE} bytes)",
    ),
    Refusal.NOT_A_CERTIFICATE: ("PEM 인증서 하나가 있어야 합니다", "one certificate in PEM is expected"),
    Refusal.BAD_NAME: (
        "CN이 게이트 이름이어야 합니다(소문자, 숫자, 하이픈, 최대 63자)",
        "the common name is expected to be a gate's (lower-case letters, digits, hyphens, at most 63)",
    ),
    Refusal.RESERVED_NAME: ("게이트에 쓸 수 없는 이름입니다", "no gate may have this name"),
    Refusal.WRONG_FILE: ("파일 이름과 CN이 다릅니다", "file name and common name differ"),
    Refusal.BAD_KEY: ("P-256이나 P-384 키여야 합니다", "a key on P-256 or P-384 is expected"),
    Refusal.BAD_PURPOSE: (
        "TLS 클라이언트용 인증서가 아닙니다(extendedKeyUsage)",
        "the certificate is not for a TLS client (extendedKeyUsage)",
    ),
    Refusal.REVOKED_KEY: (
        "이미 폐기한 키입니다. 새 키를 만드십시오",
        "this key has been revoked; make a new one",
    ),
    Refusal.OTHER_KEY: (
        "이 게이트는 다른 키로 등록되어 있습니다. 먼저 폐기하십시오",
        "this gate is enrolled with another key; revoke it first",
    ),
    Refusal.TOO_MANY: (f"게이트가 너무 많습니다(최대 {MAX_GATES})", f"too many gates (at most {MAX_GATES})"),
    Refusal.NOT_ENROLLED: ("등록되지 않은 게이트입니다", "no such gate is enrolled"),
    Refusal.UNREADABLE: ("읽을 수 없는 파일입니다", "the file cannot be read"),
}


def main(argv: Sequence[str], stream: TextIO | None = None) -> int:
    arguments = _parser().parse_args(argv)
    out = stream or sys.stdout
    try:
        place = load_place(arguments.config)
        pem = _read(arguments.certificate) if arguments.action == "add" else b""
        become_owner(place.state_dir)
        return _run(arguments, place, pem, out)
    except ConfigError as error:
        print(error.text(), file=sys.stderr)
        return EXIT_USAGE
    except EnrolError as error:
        korean, english = WORDS[error.refusal]
        detail = f"{error.detail}: " if error.detail else ""
        _complain(f"{detail}{korean}", f"{detail}{english}")
    except OSError as error:
        why = f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
        _complain(f"파일을 다룰 수 없습니다. {why}", f"a file cannot be used. {why}")
    return EXIT_REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gwanmun gates", description="이 건물에 속하는 게이트 / the gates that belong to this building"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="명령 / actions")
    parsers = {
        name: actions.add_parser(name, help=text, description=text)
        for name, text in {
            "list": "등록된 게이트를 보입니다 / show the enrolled gates",
            "add": "게이트를 그 MQTT 인증서로 등록하거나 인증서를 갱신합니다 / enrol a gate by its MQTT certificate, or renew it",
            "revoke": "게이트의 권한을 곧바로 거둡니다 / take a gate's rights away, at once",
            "render": "브로커의 접근 목록을 만듭니다 / make the broker's access list",
        }.items()
    }
    parsers["add"].add_argument("certificate", type=Path, metavar="PEM", help="인증서 파일 / certificate file")
    parsers["revoke"].add_argument("gate", metavar="GATE", help="게이트 이름 / name of the gate")
    for each in parsers.values():
        each.add_argument(
            "--config",
            type=Path,
            default=CONFIG,
            metavar="FILE",
            help=f"관제 서버 설정, 기본값 {CONFIG} / configuration of the controller",
        )
    return parser


def _run(arguments: argparse.Namespace, place: Place, pem: bytes, out: TextIO) -> int:
    gates = Enrolled(place.gates)
    access_list = AclFile(place.access_list, place.site, gates)
    match arguments.action:
        case "add":
            gate = gates.add(pem)
            access_list.step()
            _say(out, f"등록했습니다: {gate}", f"enrolled: {gate}")
        case "revoke":
            gates.revoke(arguments.gate)
            access_list.step()
            _say(out, f"폐기했습니다: {arguments.gate}", f"revoked: {arguments.gate}")
        case "render":
            access_list.step()
            _say(out, f"접근 목록: {place.access_list}", f"access list: {place.access_list}")
        case _:
            gates.changed()
            _list(gates, out)
    return EXIT_OK


def _list(gates: Enrolled, out: TextIO) -> None:
    rows = [("게이트 / gate", "SHA-256", "만료 / not after", "등록 / since")]
    for gate, certificate in gates.gates().items():
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()[:SHOWN_HASH]
        rows.append((gate, fingerprint, rfc3339(certificate.not_valid_after_utc), rfc3339(gates.since(gate))))
    for row in rows:
        print("\t".join(row), file=out)
    for name, refusal in gates.unusable().items():
        korean, english = WORDS[refusal]
        _complain(f"{name}: 아무도 등록하지 않습니다. {korean}", f"{name}: enrols nobody. {english}")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_CERTIFICATE + 1)


def become_owner(directory: Path) -> None:
    """Root becomes who owns `directory`."""
    if os.geteuid() != 0:
        return
    about = directory.stat()
    if about.st_uid != 0:
        os.setgroups([])
        os.setresgid(about.st_gid, about.st_gid, about.st_gid)
        os.setresuid(about.st_uid, about.st_uid, about.st_uid)


def _say(out: TextIO, korean: str, english: str) -> None:
    print(f"{korean}\n{english}", file=out)


def _complain(korean: str, english: str) -> None:
    print(f"오류: {korean}\nerror: {english}", file=sys.stderr)
