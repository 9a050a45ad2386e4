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
from testbed.opendid import listed_issuer
from testbed.phone.wallet import Held, Wallet
from testbed.provider import Provider


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
    signer = "발급 인증서를 폐지하고 새로 만들기 (revoke the document signer, make a new one)"
    commands.add_parser("revoke-signer", help=signer)
    publish = commands.add_parser("publish", help="출입문 신뢰 디렉터리에 쓰기 (write a gate's trust directory)")
    publish.add_argument("--trust", type=Path, required=True, help="신뢰 디렉터리 (trust directory)")
    listed = commands.add_parser("list-did", help="Open DID 발급자를 발급자 목록에 올리기 (list an Open DID issuer)")
    listed.add_argument("--document", type=Path, required=True, help="DID 문서, JSON (DID document)")
    listed.add_argument("--key", default="assert", help="서명 키 이름 (name of its signing key)")
    listed.add_argument("--doc-type", action="append", required=True, help="문서 종류 (document type)")
    listed.add_argument(
        "--status-list", action="append", default=[], help="상태 목록 주소 (address of its status list)"
    )
    listed.add_argument("--valid-until", type=_moment, required=True, help="유효 끝 (valid until)")
    vical = commands.add_parser(
        "vical",
        help="발급기관 목록(VICAL)에 서명해 신뢰 디렉터리에 쓰기 (sign a list of authorities into a trust directory)",
        description="--dir은 목록 제공자의 디렉터리, 없으면 만듭니다. (--dir is the list provider's, made if absent.)",
    )
    vical.add_argument("--name", default="Gwanmun pilot", help="제공자 이름 (the provider's name)")
    vical.add_argument("--trust", type=Path, required=True, help="신뢰 디렉터리 (trust directory)")
    vical.add_argument(
        "--authority",
        type=_listed,
        action="append",
        required=True,
        metavar="PEM=DOCTYPE[,DOCTYPE]",
        help="발급기관 루트와 문서 종류 (an authority's root and its document types)",
    )
    return parser


def _listed(text: str) -> tuple[x509.Certificate, list[str]]:
    path, _, types = text.rpartition("=")
    wanted = [entry for entry in types.split(",") if entry]
    try:
        if not path or not wanted:
            raise ValueError
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    except (OSError, ValueError):
        raise argparse.ArgumentTypeError("iaca.pem=kr.go.civilservant.1 같은 값 (a value such as that)") from None
    return certificate, wanted


def _vical(options: argparse.Namespace, now: datetime) -> None:
    if (options.dir / "provider.json").exists():
        provider = Provider(options.dir)
    else:
        provider = Provider.create(options.dir, name=options.name, now=now)
    provider.publish(options.trust, options.authority, now)
    print(f"목록을 배포했습니다: 발급기관 {len(options.authority)}곳, {options.trust}")
    print(f"List published: {len(options.authority)} authorities, {options.trust}")


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
        if options.command == "vical":
            _vical(options, now)
            return 0
        authority = Authority(options.dir, os.urandom)
        if options.command == "issue":
            _issue(authority, options, now)
        elif options.command == "revoke":
            for index in options.index:
                authority.revoke(index)
            print("폐지했습니다. publish로 배포하세요")
            print("Revoked. Publish it with `publish`")
        elif options.command == "list-did":
            issuer = listed_issuer(
                options.document.read_bytes(),
                key=options.key,
                doc_types=options.doc_type,
                not_before=now,
                not_after=options.valid_until,
                status_lists=options.status_list,
            )
            authority.list_issuer(issuer)
            print(f"목록에 올렸습니다: {issuer.kid.decode()}. publish로 배포하세요")
            print(f"Listed: {issuer.kid.decode()}. Publish it with `publish`")
        elif options.command == "revoke-signer":
            authority.revoke_signer(now)
            print("발급 인증서를 폐지하고 새로 만들었습니다. publish로 배포하세요")
            print("The document signer is revoked and a new one made. Publish it with `publish`")
        else:
            authority.publish(options.trust, now)
            print(f"배포했습니다: {options.trust}")
            print(f"Published: {options.trust}")
    except (OSError, IndexError, ValueError, MdocError, x509.InvalidVersion) as error:
        print(f"오류 (error): {error}", file=sys.stderr)
        return 2
    return 0
