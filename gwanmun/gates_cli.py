"""`gwanmun gates`: which gates may connect to this site's broker. Takes effect at a running controller within seconds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from controller.acl import AclFile
from controller.config import ConfigError, load_place
from controller.enrolled import EnrolError, Enrolled, fingerprint

EXIT_OK, EXIT_REFUSED, EXIT_UNUSABLE = 0, 1, 2


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        site, places = load_place(options.config)
        enrolled = Enrolled(places.gates)
        if options.verb == "add":
            gate = enrolled.add(options.certificate.read_bytes())
            _say(f"{gate}: 등록했습니다", f"{gate}: enrolled")
        elif options.verb == "revoke":
            enrolled.revoke(options.gate)
            _say(f"{options.gate}: 폐지했습니다", f"{options.gate}: revoked")
        elif options.verb == "list":
            _list(enrolled)
        if options.verb != "list":
            AclFile(places.acl, site, enrolled).write()
    except EnrolError as error:
        print(f"{error.ko}\n{error.en}", file=sys.stderr)
        return EXIT_REFUSED
    except ConfigError as error:
        print(error.text(), file=sys.stderr)
        return EXIT_UNUSABLE
    except OSError as error:
        print(f"읽거나 쓸 수 없습니다: {error}\ncannot be read or written: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun gates",
        description="이 장소의 브로커에 접속할 수 있는 게이트 / the gates that may connect to this site's broker",
    )
    top.add_argument("--config", type=Path, required=True, metavar="FILE", help="controller.toml")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", title="동작 / verbs")
    add = verbs.add_parser("add", help="인증서로 등록 / enrol by its certificate")
    add.add_argument("certificate", type=Path, metavar="PEM", help="게이트의 MQTT 인증서 / the gate's MQTT certificate")
    revoke = verbs.add_parser("revoke", help="권한을 거둠 / take its rights")
    revoke.add_argument("gate", metavar="GATE", help="게이트 이름 / its id")
    verbs.add_parser("list", help="목록 / list them")
    verbs.add_parser("render", help="브로커의 접근 목록을 다시 씀 / write the broker's access list anew")
    return top


def _list(enrolled: Enrolled) -> None:
    for gate, certificate in enrolled.gates().items():
        since, until = enrolled.enrolled_at(gate), certificate.not_valid_after_utc
        print(
            f"{gate:<24} 등록 since {since:%Y-%m-%d}  만료 until {until:%Y-%m-%d}  SHA-256 {fingerprint(certificate)[:16]}…"
        )
    for name, why in enrolled.problems.items():
        print(f"{name:<24} ! {why}")
    if not enrolled.gates():
        _say("등록된 게이트가 없습니다", "no gate is enrolled")


def _say(ko: str, en: str) -> None:
    print(f"{ko}\n{en}")
