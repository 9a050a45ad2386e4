"""`gwanmun issuer`: an issuing authority in a directory. For pilots and tests; the real authority is the government's."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mdoc.errors import MdocError
from protocol.clock import SystemClock
from testbed.authority import Authority, canary_person
from testbed.phone.wallet import Held, Wallet


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("2026-11-24T09:00:00+09:00 같은 시각 (a time such as that)") from None
    return moment.astimezone()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gwanmun issuer",
        description="시험용 발급기관: 만들기, 발급, 폐지, 배포. (A test issuing authority: create, issue, revoke, publish.)",
    )
    parser.add_argument("--dir", type=Path, required=True, help="발급기관 디렉터리 (the authority's directory)")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="키와 인증서 만들기 (make keys and certificates)")
    create.add_argument("--name", default="Gwanmun pilot", help="기관 이름 (name)")
    issue = commands.add_parser("issue", help="휴대전화에 발급 (issue to a phone)")
    issue.add_argument("--phone", type=Path, required=True, help="휴대전화 디렉터리 (the phone's directory)")
    issue.add_argument("--agency-code", default="1741000", help="기관 코드 (agency code)")
    issue.add_argument("--card-type", default="staff", help="카드 종류 (card type)")
    issue.add_argument("--access-class", default="general", help="출입 등급 (access class)")
    issue.add_argument("--valid-from", type=_moment, help="유효 시작 (valid from)")
    issue.add_argument("--valid-until", type=_moment, help="유효 끝 (valid until)")
    issue.add_argument("--pass-days", type=int, default=1, help="QR 패스 유효 일수 (days a QR pass is good)")
    revoke = commands.add_parser("revoke", help="폐지 (revoke)")
    revoke.add_argument("index", type=int, nargs="+", help="발급 때 알려 준 상태 번호 (status index told at issue)")
    publish = commands.add_parser("publish", help="출입문 신뢰 디렉터리에 쓰기 (write a gate's trust directory)")
    publish.add_argument("--trust", type=Path, required=True, help="신뢰 디렉터리 (trust directory)")
    return parser


def _issue(authority: Authority, options: argparse.Namespace, now: datetime) -> None:
    try:
        wallet = Wallet.load(options.phone)
    except FileNotFoundError:
        wallet = Wallet()
    person = canary_person(
        os.urandom,
        agency_code=options.agency_code,
        card_type=options.card_type,
        access_class=options.access_class,
    )
    key = ec.generate_private_key(ec.SECP256R1())
    credential, index = authority.issue(
        key.public_key(), person, now=now, valid_from=options.valid_from, valid_until=options.valid_until
    )
    card, pass_index = authority.issue_pass(person, now=now, lifetime=timedelta(days=options.pass_days))
    wallet.held.insert(0, Held(credential, key))
    wallet.passes.insert(0, card)
    wallet.save(options.phone)
    print(f"발급했습니다: 신분증 상태 번호 {index}, QR 패스 상태 번호 {pass_index}")
    print(f"Issued: credential has status index {index}, QR pass {pass_index}")


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    now = SystemClock().now()
    try:
        if options.command == "create":
            authority = Authority.create(options.dir, name=options.name, now=now)
            expires = authority.iaca.not_valid_after_utc.date()
            print(f"만들었습니다: {options.dir}, 루트 인증서 만료 {expires}")
            print(f"Created: {options.dir}, root certificate expires {expires}")
            return 0
        authority = Authority(options.dir, os.urandom)
        if options.command == "issue":
            _issue(authority, options, now)
        elif options.command == "revoke":
            for index in options.index:
                authority.revoke(index)
            print("폐지했습니다. publish로 배포하세요")
            print("Revoked. Publish it with `publish`")
        else:
            authority.publish(options.trust, now)
            print(f"배포했습니다: {options.trust}")
            print(f"Published: {options.trust}")
    except (OSError, IndexError, ValueError, MdocError, x509.InvalidVersion) as error:
        print(f"오류 (error): {error}", file=sys.stderr)
        return 2
    return 0
