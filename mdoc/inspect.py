"""`gwanmun inspect`: what the verifier thinks of one device response, check by check, for whoever has to find out why.

Reads files and prints; decides nothing itself. Element values stay hidden unless they are asked for, and values that were
not verified are not printed at all. Exit status: 0 accepted, 1 refused, 2 for a wrong command line or a file that is missing.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, load_pem_public_key

from mdoc import cose, crl, identifierlist, limits, mso, statuslist, truststore, vical
from mdoc.cbor import Encoded, Tag
from mdoc.certificates import (
    DOCUMENT_SIGNER_PROFILE,
    Anchor,
    Certificate,
    Chained,
    TrustAnchors,
    chain_from_header,
    pem_blocks,
    read,
    remarks,
)
from mdoc.errors import MalformedError, MdocError, TrustError
from mdoc.freshness import Freshness, ListKind
from mdoc.issuerlist import ListedIssuer
from mdoc.request import DeviceRequest, RequestedItems
from mdoc.response import DeviceResponse, Document
from mdoc.statuslist import AnyList, StatusLists
from mdoc.transcript import SessionTranscript
from mdoc.verdict import Check, Outcome, Verdict
from mdoc.verify import TABLE, verify_response

ACCEPTED, REFUSED, USAGE = 0, 1, 2
_ROWS = {row.name: row for row in TABLE}
_NUMBERS = {row.name: number for number, row in enumerate(TABLE)}
_SUFFIXES = frozenset({".pem", ".cer", ".crt", ".der"})
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2})+")
_BASE64 = re.compile(rb"[0-9A-Za-z_+/-]+={0,2}")
_SCALARS = {32: ec.SECP256R1(), 48: ec.SECP384R1(), 66: ec.SECP521R1()}
"""Curve of a bare private scalar of so many bytes."""
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2}))?")


class UsageError(Exception):
    """The command line or a file it names cannot be used; the text says why, Korean first."""

    def __init__(self, korean: str, english: str) -> None:
        super().__init__(english)
        self.korean, self.english = korean, english


@dataclass(frozen=True, slots=True)
class Question:
    """All that one inspection goes by."""

    response: bytes
    transcript: SessionTranscript | None
    reader_key: ec.EllipticCurvePrivateKey | None
    requested: Sequence[RequestedItems] | None
    """None: whatever types the response holds."""
    trust: TrustAnchors
    status: StatusLists
    freshness: Freshness
    now: datetime
    skew: timedelta
    issuer_only: bool
    notes: tuple[str, ...]
    """Trust data that was left out, and why."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun inspect",
        description="제출된 응답 하나를 검사하고 판정을 보여 줍니다 / inspect one device response and show the verdict",
        epilog="종료 코드: 0 수락, 1 거절, 2 사용법 / exit status: 0 accepted, 1 refused, 2 usage",
    )
    add = top.add_argument
    add(
        "file",
        metavar="FILE",
        help="응답: 원본, hex, base64url ('-'는 표준 입력) / response: raw, hex or base64url ('-': stdin)",
    )
    add(
        "--transcript",
        "--session-transcript",
        type=Path,
        metavar="FILE",
        help="세션 기록(SessionTranscript 또는 태그 24를 씌운 것) / session transcript, bare or tagged 24",
    )
    add(
        "--reader-key",
        type=Path,
        metavar="FILE",
        help="리더 임시 개인키 (PEM, DER, hex): MAC 확인용 / ephemeral reader key, for a deviceMac",
    )
    add(
        "--request",
        type=Path,
        metavar="FILE",
        help="보낸 DeviceRequest: 응답과 맞춰 봅니다 / the DeviceRequest that was sent, to compare with",
    )
    add(
        "--doctype",
        action="append",
        default=[],
        metavar="TYPE",
        help="기대하는 문서 종류 (여러 번 가능) / expected document type (may repeat)",
    )
    add(
        "--roots",
        "--root",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="신뢰하는 발급 기관 인증서 파일이나 폴더 / trusted issuing authorities, file or folder",
    )
    add("--vical", type=Path, action="append", default=[], metavar="FILE", help="발급 기관 목록 / a VICAL")
    add(
        "--vical-root",
        type=Path,
        action="append",
        default=[],
        metavar="PEM",
        help="VICAL 서명자의 루트 / root of the VICAL's signer",
    )
    add("--trust", type=Path, metavar="DIR", help="게이트의 신뢰 폴더 / a gate's trust directory")
    add(
        "--list-key",
        type=Path,
        metavar="PEM",
        help="신뢰 폴더의 issuers.cose를 서명한 공개키 / public key of the trust directory's issuers.cose",
    )
    add("--crl", type=Path, action="append", default=[], metavar="FILE", help="인증서 폐지 목록 / revocation list")
    add(
        "--status",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="상태 목록 또는 식별자 목록 (CWT) / status list or identifier list (CWT)",
    )
    add("--at", metavar="TIME", help="판정 시각 (RFC 3339, 기본: 지금) / time of the verdict (RFC 3339; default: now)")
    add("--skew", type=float, default=0.0, metavar="SECONDS", help="시계 오차 한도 / bound of the clock's error")
    add(
        "--max-age",
        action="append",
        default=[],
        metavar="KIND=HOURS",
        help="issuer_list, status_list, crl의 최대 나이 / maximum age of issuer_list, status_list or crl",
    )
    add(
        "--issuer-only",
        action="store_true",
        help="세션 없이 발급자 서명만 확인: 누가 제출했는지는 알 수 없습니다 / "
        "check the issuer's part alone: says nothing about who presented it",
    )
    add("--show-values", action="store_true", help="수락된 항목의 값도 출력 / print the values of accepted elements")
    add("--json", action="store_true", help="JSON으로 출력 / print JSON")
    return top


def main(arguments: Sequence[str]) -> int:
    """Run with the arguments after `gwanmun inspect`."""
    options = parser().parse_args(list(arguments))
    try:
        question = _question(options)
    except UsageError as error:
        sys.stderr.write(f"gwanmun inspect: {error.korean}\ngwanmun inspect: {error.english}\n")
        return USAGE
    requested = question.requested
    if requested is None:
        requested = [RequestedItems(doc_type, {}, unlimited=True) for doc_type in _types(question.response)]
    verdict = verify_response(
        question.response,
        transcript=question.transcript,
        reader_key=question.reader_key,
        requested=requested,
        trust=question.trust,
        status=question.status,
        now=question.now,
        skew=question.skew,
        freshness=question.freshness,
        issuer_only=question.issuer_only,
    )
    found = report(question, verdict, show_values=options.show_values)
    text = json.dumps(found, ensure_ascii=False, indent=2) + "\n" if options.json else "\n".join(_table(found)) + "\n"
    sys.stdout.write(text)
    return ACCEPTED if verdict.accepted else REFUSED


# Reading.


def unwrap(content: bytes) -> bytes:
    """The bytes of a file that holds them raw, as hex or as base64 (either alphabet, padded or not)."""
    text = b"".join(content.split())
    if _HEX.fullmatch(text):
        return bytes.fromhex(text.decode())
    if _BASE64.fullmatch(text):
        plain = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        try:
            return base64.b64decode(plain + b"=" * (-len(plain) % 4))
        except binascii.Error:
            return content
    return content


def _read(path: Path | str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read(4 * limits.MAX_MESSAGE)
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: 읽을 수 없습니다 ({error.strerror})", f"{path}: {error.strerror}") from error


def _transcript(path: Path) -> SessionTranscript:
    try:
        return SessionTranscript.recorded(unwrap(_read(path)))
    except MalformedError as error:
        raise UsageError(f"{path}: 세션 기록이 아닙니다", f"{path}: not a session transcript: {error}") from error


def reader_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """PEM, DER, or the bare scalar; raw or in a text form. Raises UsageError."""
    content = _read(path)
    try:
        if b"-----BEGIN" in content:
            key: object = load_pem_private_key(content, None)
        else:
            key = _bare_key(unwrap(content))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: 개인키가 아닙니다", f"{path}: not a private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path}: 타원 곡선 키가 아닙니다", f"{path}: not an elliptic-curve key")
    return key


def _bare_key(raw: bytes) -> object:
    """Raises ValueError, TypeError or UnsupportedAlgorithm."""
    try:
        return load_der_private_key(raw, None)
    except ValueError:
        if len(raw) not in _SCALARS:
            raise
        return ec.derive_private_key(int.from_bytes(raw, "big"), _SCALARS[len(raw)])


def _certificates(path: Path, notes: list[str]) -> Iterator[Certificate]:
    files = [path]
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in _SUFFIXES)
    for file in files:
        content = _read(file)
        try:
            found = pem_blocks(content) if b"-----BEGIN" in content else [unwrap(content)]
        except TrustError as error:
            notes.append(f"{file}: {error}")
            continue
        for raw in found:
            try:
                yield read(raw)
            except MalformedError as error:
                notes.append(f"{file}: {error}")


def _anchors(options: argparse.Namespace, notes: list[str]) -> Iterator[Anchor]:
    for path in options.roots:
        for certificate in _certificates(path, notes):
            try:
                yield Anchor.from_certificate(certificate)
            except TrustError as error:
                notes.append(f"{path}: {error}")
    roots = [root for path in options.vical_root for root in _certificates(path, notes)]
    for path in options.vical:
        try:
            listed = vical.parse(unwrap(_read(path)), roots)
        except MdocError as error:
            notes.append(f"{path}: {error}")
            continue
        notes.extend(f"{path}: {problem}" for problem in listed.problems)
        yield from listed.anchors


def _status_list(content: bytes, trust: TrustAnchors) -> AnyList:
    try:
        return statuslist.parse_token(content, trust, unanchored=True)
    except MalformedError:
        return identifierlist.parse_token(content, trust, unanchored=True)


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--at {text}: RFC 3339 시각이 아닙니다 (예: 2026-01-31T09:00:00Z)",
            f"--at {text}: not an RFC 3339 time (such as 2026-01-31T09:00:00Z)",
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _freshness(limits_: Sequence[str]) -> Freshness:
    ages: dict[str, timedelta] = {}
    for entry in limits_:
        kind, _, hours = entry.partition("=")
        try:
            if kind not in ("issuer_list", "status_list", "crl") or float(hours) < 0:
                raise ValueError
            ages[kind] = timedelta(hours=float(hours))
        except (ValueError, OverflowError):
            raise UsageError(
                f"--max-age {entry}: 예를 들어 status_list=6처럼 씁니다", f"--max-age {entry}: such as status_list=6"
            ) from None
    return Freshness(ages.get("issuer_list"), ages.get("status_list"), ages.get("crl"))


def _question(options: argparse.Namespace) -> Question:
    if options.transcript is not None and options.issuer_only:
        raise UsageError(
            "--transcript와 --issuer-only는 함께 쓸 수 없습니다", "--transcript and --issuer-only exclude each other"
        )
    if options.vical and not options.vical_root:
        raise UsageError("--vical에는 --vical-root가 필요합니다", "--vical needs --vical-root")
    if options.request is not None and options.doctype:
        raise UsageError("--request와 --doctype은 함께 쓸 수 없습니다", "--request and --doctype exclude each other")
    if not 0 <= options.skew <= 86400:
        raise UsageError("--skew: 0에서 86400초까지입니다", "--skew: 0 to 86400 seconds")
    now, notes = _moment(options.at), list[str]()
    anchors = list(_anchors(options, notes))
    crls, lists = list[crl.Crl](), list[AnyList]()
    stored: StatusLists | None = None
    if options.trust is not None:
        if anchors or options.crl or options.status:
            raise UsageError(
                "--trust는 다른 신뢰 자료와 함께 쓸 수 없습니다", "--trust stands alone, without other trust data"
            )
        trust, stored = _directory(options, now, notes)
    else:
        for path in options.crl:
            try:
                crls.append(crl.parse(unwrap(_read(path)), [anchor.certificate for anchor in anchors]))
            except MdocError as error:
                notes.append(f"{path}: {error}")
        trust = TrustAnchors(anchors, crls=crls)
        for path in options.status:
            try:
                lists.append(_status_list(unwrap(_read(path)), trust))
            except MdocError as error:
                notes.append(f"{path}: {error}")
    requested: Sequence[RequestedItems] | None = None
    if options.request is not None:
        try:
            asked = DeviceRequest.parse(unwrap(_read(options.request)))
        except MalformedError as error:
            raise UsageError(
                f"{options.request}: DeviceRequest가 아닙니다", f"{options.request}: not a device request: {error}"
            ) from error
        requested = [entry.items for entry in asked.doc_requests]
    elif options.doctype:
        requested = [RequestedItems(doc_type, {}, unlimited=True) for doc_type in options.doctype]
    return Question(
        unwrap(_read(options.file)),
        None if options.transcript is None else _transcript(options.transcript),
        None if options.reader_key is None else reader_key(options.reader_key),
        requested,
        trust,
        StatusLists(lists) if stored is None else stored,
        _freshness(options.max_age),
        now,
        timedelta(seconds=options.skew),
        options.issuer_only,
        tuple(notes),
    )


def _directory(options: argparse.Namespace, now: datetime, notes: list[str]) -> tuple[TrustAnchors, StatusLists]:
    key = None
    if options.list_key is not None:
        try:
            found = load_pem_public_key(_read(options.list_key))
        except (ValueError, UnsupportedAlgorithm):
            found = None
        if not isinstance(found, ec.EllipticCurvePublicKey):
            raise UsageError(
                f"{options.list_key}: 타원 곡선 공개키가 아닙니다",
                f"{options.list_key}: not an elliptic-curve public key",
            )
        key = found
    try:
        loaded = truststore.load_directory(options.trust, list_key=key, now=now)
    except TrustError as error:
        raise UsageError(f"{options.trust}: 신뢰 폴더를 쓸 수 없습니다", str(error)) from error
    notes.extend(loaded.problems)
    return loaded.anchors, loaded.status


def _types(response: bytes) -> list[str]:
    try:
        return sorted({document.doc_type for document in DeviceResponse.parse(response).documents})
    except MalformedError:
        return []


# Showing.


def report(question: Question, verdict: Verdict, *, show_values: bool) -> dict[str, Any]:
    """The verdict as plain JSON values."""
    try:
        parsed: DeviceResponse | None = DeviceResponse.parse(question.response)
    except MalformedError:
        parsed = None
    documents = [] if parsed is None else [_document(document, question.trust) for document in parsed.documents]
    if show_values and verdict.accepted:
        for shown, document in zip(documents, verdict.documents, strict=True):
            shown["values"] = _plain(document.elements)
            shown["device_values"] = _plain(document.device_elements)
    return {
        "accepted": verdict.accepted,
        "reason": None if verdict.reason is None else str(verdict.reason),
        "at": question.now.isoformat(),
        "issuer_only": question.issuer_only,
        "device_authenticated": verdict.accepted and not question.issuer_only,
        "checks": [
            {
                "document": number,
                "name": check.name,
                "clause": _ROWS[check.name].clause,
                "outcome": str(check.outcome),
                "failure": None if check.failure is None else str(check.failure),
                "detail": check.detail,
            }
            for number, check in _numbered(verdict.checks)
        ],
        "documents": documents,
        "document_errors": [] if parsed is None else [list(pair) for pair in parsed.document_errors],
        "other_members": [] if parsed is None else sorted(parsed.other),
        "issuers": [_issuer(issuer) for issuer in verdict.issuers],
        "used": [
            {
                "kind": str(used.facts.kind),
                "name": used.facts.name,
                "version": used.facts.version,
                "issued_at": None if used.facts.issued_at is None else used.facts.issued_at.isoformat(),
                "expires": None if used.facts.expires is None else used.facts.expires.isoformat(),
                "age_s": None if used.age is None else round(used.age.total_seconds()),
            }
            for used in verdict.used
        ],
        "authorities": len(question.trust),
        "notes": list(question.notes),
    }


def _issuer(issuer: Chained | ListedIssuer | None) -> dict[str, Any] | None:
    """The trusted authority behind a document."""
    if issuer is None:
        return None
    if isinstance(issuer, ListedIssuer):
        return {"kid": issuer.kid.hex()}
    root = issuer.anchor.certificate
    try:
        name = root.library().subject.rfc4514_string()
    except MalformedError:
        name = None
    return {"subject": name, "sha256": root.fingerprint().hex()}


def _numbered(checks: Sequence[Check]) -> Iterator[tuple[int, Check]]:
    """Each check with the number of its document, from 1; the response's own are 0."""
    document, last = 0, -1
    for check in checks:
        at = _NUMBERS[check.name]
        if at >= _NUMBERS["nothing_unasked"] and (document == 0 or at <= last):
            document += 1
        last = at
        yield document, check


def _document(document: Document, trust: TrustAnchors) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "doc_type": document.doc_type,
        "elements": {space: [item.element for item in items] for space, items in document.name_spaces.items()},
        "device_elements": {space: list(found) for space, found in document.device_name_spaces.items()},
        "device_authentication": "signature" if document.device_mac is None else "mac",
        "errors": {space: dict(codes) for space, codes in document.errors.items()},
    }
    try:
        found = mso.parse(document.issuer_auth.payload or b"")
        shown["mso"] = {
            "version": found.version,
            "doc_type": found.doc_type,
            "digest_algorithm": found.digest_algorithm,
            "digests": sum(map(len, found.value_digests.values())),
            "device_key": _key(found.device_key),
            "signed": found.signed.isoformat(),
            "valid_from": found.valid_from.isoformat(),
            "valid_until": found.valid_until.isoformat(),
            "expected_update": None if found.expected_update is None else found.expected_update.isoformat(),
            "status_lists": [reference.uri for reference in found.status],
        }
    except MalformedError as error:
        shown["mso"] = {"problem": str(error)}
    shown["signer"] = _signer(document, trust)
    return shown


def _key(key: cose.PublicKey) -> str:
    return (
        key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__.removesuffix("PublicKey")
    )


def _signer(document: Document, trust: TrustAnchors) -> dict[str, Any]:
    header = document.issuer_auth
    shown: dict[str, Any] = {"algorithm": header.algorithm if type(header.algorithm) is int else None}
    try:
        chain = header.unprotected.get(cose.X5CHAIN)
        if chain is None:
            kid = header.protected.get(cose.KID, header.unprotected.get(cose.KID))
            return {**shown, "kid": kid.hex() if type(kid) is bytes else None}
        certificates = chain_from_header(chain)
        leaf = read(certificates[0])
        named = leaf.library()
        issuer = next((anchor.certificate for anchor in trust if anchor.certificate.subject == leaf.issuer), None)
        return {
            **shown,
            "certificates": len(certificates),
            "subject": named.subject.rfc4514_string(),
            "issuer": named.issuer.rfc4514_string(),
            "serial": f"{leaf.serial:x}",
            "not_before": leaf.not_before.isoformat(),
            "not_after": leaf.not_after.isoformat(),
            "remarks": list(remarks(leaf, DOCUMENT_SIGNER_PROFILE, issuer)),
        }
    except MalformedError as error:
        return {**shown, "problem": str(error)}


def _plain(value: Any) -> Any:
    """A CBOR value as JSON: byte strings as h'..', what a tag holds without the tag."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'" if len(value) <= 64 else f"h'{value[:16].hex()}…' ({len(value)} bytes)"
    if isinstance(value, Tag):
        return _plain(value.value)
    if isinstance(value, Encoded):
        return f"24(h'…') ({len(value.content)} bytes)"
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(_plain(key)): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)  # floats, for which JSON has no NaN


_OUTCOMES = {
    str(Outcome.PASSED): "✓ 통과 passed",
    str(Outcome.FAILED): "✗ 실패 FAILED",
    str(Outcome.SKIPPED): "· 건너뜀 skipped",
}
_KINDS = {
    str(ListKind.ISSUER_LIST): "발급 기관 목록 issuer list",
    str(ListKind.STATUS_LIST): "상태 목록 status list",
    str(ListKind.IDENTIFIER_LIST): "식별자 목록 identifier list",
    str(ListKind.CRL): "인증서 폐지 목록 revocation list",
}


def _pad(text: str, width: int) -> str:
    """To `width` columns of a terminal, where a Korean letter takes two."""
    taken = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
    return text + " " * (width - taken)


def _printable(text: object) -> str:
    """What came from outside cannot steer the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(found: Mapping[str, Any]) -> Iterator[str]:
    if found["accepted"] and found["issuer_only"]:
        yield "판정 verdict: 발급자 서명만 확인됨 ISSUER PART ONLY"
        yield "  누가 제출했는지는 확인하지 않았습니다. 이 결과로 문을 열 수 없습니다."
        yield "  Who presented it was not checked. This opens no door."
    elif found["accepted"]:
        yield "판정 verdict: 수락 ACCEPTED"
    else:
        yield f"판정 verdict: 거절 REFUSED · {found['reason']}"
    yield f"시각 at: {found['at']} · 신뢰하는 발급 기관 trusted authorities: {found['authorities']}"
    last = -1
    for check in found["checks"]:
        if check["document"] != last:
            last = check["document"]
            yield ""
            yield "응답 response" if last == 0 else f"문서 document {last}"
        row = _ROWS[check["name"]]
        line = f"  {_pad(_OUTCOMES[check['outcome']], 17)} {row.name:<26} {row.clause:<22}"
        yield f"{line} {_printable(check['detail'])}".rstrip()
        if check["outcome"] == str(Outcome.FAILED):
            yield f"      사유 reason: {check['failure']}"
            yield f"      필요한 것: {row.ko}"
            yield f"      required: {row.en}"
    for number, document in enumerate(found["documents"], 1):
        yield ""
        yield f"내용 content of document {number}"
        yield from _document_lines(document)
        if number <= len(found["issuers"]) and found["issuers"][number - 1] is not None:
            authority = found["issuers"][number - 1]
            name, digest = authority.get("subject") or authority.get("kid"), authority.get("sha256")
            shown = _printable(name) + ("" if digest is None else f" · SHA-256 {digest}")
            yield f"  신뢰한 발급 기관 trusted authority: {shown}"
    for doc_type, code in found["document_errors"]:
        yield f"돌려받지 못한 문서 not returned: {_printable(doc_type)} ({code})"
    if found["other_members"]:
        yield f"모르는 항목 unknown members: {_printable(', '.join(found['other_members']))}"
    if found["used"]:
        yield ""
        yield "쓴 신뢰 자료 trust data used"
    for used in found["used"]:
        version = "" if used["version"] is None else f" · {used['version']}"
        age = "날짜 없음 undated" if used["age_s"] is None else f"나이 age {timedelta(seconds=used['age_s'])}"
        until = "" if used["expires"] is None else f" · 만료 until {used['expires']}"
        name = _printable(used["name"]) or "현장 파일 a file of the site"
        yield f"  {_KINDS[used['kind']]}: {name}{version} · {age}{until}"
    if found["notes"]:
        yield ""
        yield "쓰지 못한 신뢰 자료 trust data left out"
    for note in found["notes"]:
        yield f"  {_printable(note)}"


def _document_lines(document: Mapping[str, Any]) -> Iterator[str]:
    security_object, signer = document["mso"], document["signer"]
    yield f"  문서 종류 type: {_printable(document['doc_type'])}"
    if "problem" in security_object:
        yield f"  MSO: {security_object['problem']}"
    else:
        yield f"  서명 signed: {security_object['signed']}"
        yield f"  유효 valid: {security_object['valid_from']} – {security_object['valid_until']}"
        yield (
            f"  MSO {security_object['version']}, {security_object['digest_algorithm']}, "
            f"{security_object['digests']} digests; 기기 키 device key: {security_object['device_key']} "
            f"({document['device_authentication']})"
        )
        for uri in security_object["status_lists"]:
            yield f"  상태 목록 status list: {_printable(uri)}"
    for key, label in (
        ("problem", "서명자 signer"),
        ("subject", "서명자 signer"),
        ("issuer", "발급자 issuer"),
        ("kid", "서명자 signer kid"),
    ):
        if signer.get(key) is not None:
            yield f"  {label}: {_printable(signer[key])}"
    if "not_after" in signer:
        yield f"  인증서 certificate: {signer['not_before']} – {signer['not_after']}, serial {signer['serial']}"
        for remark in signer["remarks"]:
            yield f"    부속서와 다른 점 differs from the annex: {_printable(remark)}"
    for title, names, values in (
        ("항목 elements", "elements", "values"),
        ("기기가 서명한 항목 device-signed", "device_elements", "device_values"),
    ):
        for space, elements in document[names].items():
            yield f"  {title} {_printable(space)}"
            for element in elements:
                shown = document.get(values, {}).get(space, {})
                value = f": {_printable(_text(shown[element]))}" if element in shown else ""
                yield f"    {_printable(element)}{value}"
    for space, codes in document["errors"].items():
        yield f"  주지 않음 not returned {_printable(space)}: {_printable(', '.join(codes))}"
