"""Lists and certificates with every single thing changed: outside the signature nothing passes, inside nothing escapes.

Whoever signs a list may write anything into it. A gate that reads it then has a list, or one documented error for that file.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import crl, identifierlist, issuerlist, statuslist, vical
from mdoc.certificates import (
    DOCUMENT_SIGNER_PROFILE,
    IACA_PROFILE,
    READER_PROFILE,
    STATUS_SIGNER_PROFILE,
    VICAL_SIGNER_PROFILE,
    Anchor,
    TrustAnchors,
    path_problem,
    read,
    remarks,
    verification_key,
)
from mdoc.errors import MdocError
from mdoc.freshness import Freshness
from tests.conftest import NOW
from tests.mdoc import forge
from tests.mdoc.forge import Node
from tests.mdoc.forgeries import mutations, x509
from tests.mdoc.forgeries.builder import (
    DOC_TYPE,
    IDENTIFIER_URI,
    KID,
    LIST_KEY,
    ROOT,
    SIGNER,
    STATUS_URI,
    VICAL_ROOT,
    VICAL_SIGNER,
    Gate,
    Plan,
    anchors,
    date,
    issuer_list,
    lists,
    response,
    root_der,
    sign1,
    signer_der,
    status_signer_der,
    status_token,
    trusted,
    vical_token,
    vical_trust,
)
from tests.mdoc.forgeries.genuine import IDENTIFIERS, STATUS
from tests.mdoc.forgeries.wire import Tagged, oid, sequence, tlv, write
from tests.mdoc.forgeries.x509 import DAY, key

Known = TrustAnchors | statuslist.StatusLists
EXTREMES: dict[str, Callable[[], Node]] = {
    "2^64 - 1": lambda: Node(forge.UINT, (1 << 64) - 1),
    "2^40": lambda: Node(forge.UINT, 1 << 40),
    "-2^64": lambda: Node(forge.NEGATIVE, (1 << 64) - 1),
    "infinity": lambda: Node(forge.SIMPLE, 0x7C00, 2),
    "no number": lambda: Node(forge.SIMPLE, 0x7E00, 2),
    "the first moment": lambda: Node(forge.TAG, 0, children=[Node(forge.TEXT, 0, content=b"0001-01-01T00:00:00Z")]),
    "the last moment": lambda: Node(forge.TAG, 0, children=[Node(forge.TEXT, 0, content=b"9999-12-31T23:59:59Z")]),
}
AGED = Freshness(timedelta(days=3), timedelta(days=3), timedelta(days=3))


def changed(body: Any) -> Iterator[bytes]:
    """Every structural change, and every node as one of the extremes."""
    plain = write(body)
    for _name, forged in mutations.cbor(plain):
        yield forged
    root = forge.read(plain, lambda _: False)
    for _path, node in list(root.walk()):
        before = forge.copy(node)
        for make in EXTREMES.values():
            forge.replace(node, make())
            yield root.encode()
            forge.replace(node, before)


def _token(plain: bytes, kind: str) -> bytes:
    header = {16: f"application/{kind}+cwt", 33: status_signer_der()}
    return write(Tagged(18, sign1(key(8), plain, header, {})))


def _status_lists() -> Iterator[bytes]:
    body = {
        2: STATUS_URI,
        6: int((NOW - DAY).timestamp()),
        4: int((NOW + DAY).timestamp()),
        65534: 3600,
        65533: {"bits": 1, "lst": zlib.compress(b"\0\2"), "aggregation_uri": "x"},
    }
    for plain in changed(body):
        yield _token(plain, "statuslist")


def _identifier_lists() -> Iterator[bytes]:
    body = {
        2: IDENTIFIER_URI,
        6: int((NOW - DAY).timestamp()),
        4: int((NOW + DAY).timestamp()),
        65530: {"identifiers": {b"revoked": {}}},
    }
    for plain in changed(body):
        yield _token(plain, "identifierlist")


LIST_ROOT = x509.root(VICAL_ROOT, ((x509.COUNTRY, "KR"), (x509.COMMON_NAME, "List root")))


def _vicals() -> Iterator[bytes]:
    chain = x509.signer(VICAL_SIGNER, VICAL_ROOT, LIST_ROOT.subject, "1.0.18013.5.1.8").der()
    serial = Tagged(2, x509.root(ROOT).serial.to_bytes(10, "big"))
    body = {
        "version": "1.0",
        "vicalProvider": "Site",
        "date": date(NOW - DAY),
        "nextUpdate": date(NOW + DAY),
        "vicalIssueID": 5,
        "certificateInfos": [{"certificate": root_der(), "serialNumber": serial, "ski": b"x", "docType": [DOC_TYPE]}],
    }
    for plain in changed(body):
        yield write(sign1(VICAL_SIGNER, plain, {}, {33: chain}))


def _issuer_lists() -> Iterator[bytes]:
    bodies: list[Any] = []

    def keep(body: dict[str, Any]) -> dict[str, Any]:
        bodies.append({**body, "nextUpdate": date(NOW + DAY)})
        return body

    issuer_list(body=keep)
    for plain in changed(bodies[0]):
        yield write(Tagged(18, sign1(LIST_KEY, plain, {16: "application/gwanmun-issuers+cbor"}, {})))


def _crls() -> Iterator[bytes]:
    (tree,) = mutations.read(x509.revocation_list(ROOT, [5, 6]))
    algorithm = sequence(oid(x509.algorithm_of(ROOT)))
    for _name, tbs in mutations.der(tree.children[0].encode()):
        yield sequence(tbs, algorithm, tlv(0x03, b"\0", x509.der_signature(ROOT, tbs)))


def _read_status(raw: bytes) -> Known:
    return statuslist.StatusLists([statuslist.parse_token(raw, trusted(), unanchored=True)])


def _read_identifiers(raw: bytes) -> Known:
    return statuslist.StatusLists([identifierlist.parse_token(raw, trusted(), unanchored=True)])


def _read_vical(raw: bytes) -> Known:
    return TrustAnchors(vical.parse(raw, [read(LIST_ROOT.der())]).anchors)


def _read_issuers(raw: bytes) -> Known:
    public = LIST_KEY.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return TrustAnchors([], issuers=issuerlist.parse(raw, public))


def _read_crl(raw: bytes) -> Known:
    root = read(root_der())
    return TrustAnchors([Anchor.from_certificate(root)], crls=[crl.parse(raw, [root])])


LISTS: dict[str, tuple[Callable[[], Iterator[bytes]], Callable[[bytes], Known], Plan]] = {
    "status list": (_status_lists, _read_status, Plan(status=STATUS)),
    "identifier list": (_identifier_lists, _read_identifiers, Plan(status=IDENTIFIERS)),
    "VICAL": (_vicals, _read_vical, Plan()),
    "issuer list": (_issuer_lists, _read_issuers, Plan(kid=KID)),
    "CRL": (_crls, _read_crl, Plan()),
}


@pytest.mark.parametrize("kind", LISTS)
def test_whatever_a_lists_own_signer_writes_ends_in_a_list_or_a_documented_error(kind: str) -> None:
    tokens, load, plan = LISTS[kind]
    raw = response(plan)
    taken = refused = 0
    for token in tokens():
        try:
            known = load(token)
        except MdocError:
            refused += 1
            continue
        taken += 1
        for skew in (timedelta(0), timedelta(minutes=3)):
            more: dict[str, Any] = {"skew": skew, "freshness": AGED}
            if isinstance(known, TrustAnchors):
                assert Gate(trust=known, more=more).verify(raw).checks
            else:
                assert Gate(status=known, more=more).verify(raw).checks
    assert taken >= 20
    assert refused > 100


@pytest.mark.parametrize("draft", [x509.signer(SIGNER, ROOT), x509.root(ROOT)], ids=["signer", "root"])
def test_whatever_a_certificate_says_ends_in_words_or_a_documented_error(draft: x509.Draft) -> None:
    parts: list[bytes] = []

    def keep(tbs: bytes) -> bytes:
        parts.append(tbs)
        return tbs

    replace(draft, tbs=keep).der()
    root, signer = read(root_der()), read(signer_der())
    profiles = (
        DOCUMENT_SIGNER_PROFILE,
        IACA_PROFILE,
        READER_PROFILE,
        STATUS_SIGNER_PROFILE,
        VICAL_SIGNER_PROFILE,
    )
    readable = 0
    for _name, tbs in mutations.der(parts[0]):
        raw = sequence(tbs, sequence(oid(x509.algorithm_of(ROOT))), tlv(0x03, b"\0", x509.der_signature(ROOT, tbs)))
        try:
            certificate = read(raw)
        except MdocError:
            continue
        readable += 1
        for profile in profiles:
            remarks(certificate, profile, root)
            path_problem([certificate, root], [root], profile, NOW)
            path_problem([signer, certificate], [certificate], profile, NOW)
        for use in (Anchor.from_certificate, verification_key):
            try:
                use(certificate)
            except MdocError:
                continue
    assert readable > 300


Token = tuple[bytes, Callable[[bytes], Gate], Plan]


def _tokens() -> dict[str, Token]:
    required: dict[str, Any] = {"freshness": Freshness(crl_required=True)}
    return {
        "status list": (status_token(), lambda token: Gate(status=lists(token)), Plan(status=STATUS)),
        "issuer list": (issuer_list(), lambda token: Gate(trust=anchors(issuers=token)), Plan(kid=KID)),
        "VICAL": (vical_token(), lambda token: Gate(trust=vical_trust(token)), Plan()),
        "CRL": (
            x509.revocation_list(ROOT, [5]),
            lambda token: Gate(trust=anchors(root_der(), crls=[token]), more=required),
            Plan(),
        ),
    }


@pytest.mark.parametrize("kind", ["status list", "issuer list", "VICAL", "CRL"])
def test_no_bit_of_a_list_can_be_turned(kind: str) -> None:
    token, gate, plan = _tokens()[kind]
    raw = response(plan)
    assert gate(token).verify(raw).accepted
    for at in range(len(token)):
        turned = token[:at] + bytes((token[at] ^ 1 << at % 8,)) + token[at + 1 :]
        assert not gate(turned).verify(raw).accepted, at
