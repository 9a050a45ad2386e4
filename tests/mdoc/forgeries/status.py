"""Credentials that are revoked, or whose revocation list does not say that they are valid (18013-5 second edition 12.3.6)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from mdoc.freshness import Freshness
from mdoc.verdict import Failure
from tests.conftest import NOW
from tests.mdoc.forgeries import x509
from tests.mdoc.forgeries.builder import (
    DEVICE,
    IDENTIFIER_URI,
    KID,
    ROOT,
    SIGNER,
    STATUS_URI,
    STRANGER,
    Forgery,
    Gate,
    Plan,
    anchors,
    expect,
    identifier_token,
    issuer_list,
    lists,
    response,
    root_der,
    status_token,
)
from tests.mdoc.forgeries.genuine import IDENTIFIERS, STATUS
from tests.mdoc.forgeries.wire import Hook, Raw, Tagged, drop, indefinite, pairs, put, under, write
from tests.mdoc.forgeries.x509 import DAY, key

MALFORMED = expect(Failure.MALFORMED)
UNKNOWN = expect(Failure.STATUS_UNKNOWN)
STALE = expect(Failure.STATUS_STALE)
REVOKED = expect(Failure.REVOKED)


def _listed(index: Any, uri: Any = STATUS_URI, **more: Any) -> dict[str, Any]:
    return {"status_list": {"idx": index, "uri": uri, **more}}


def _credentials() -> Iterator[tuple[str, Any, frozenset[Failure]]]:
    """What the MSO names, with a genuine list of 16 entries at hand, of which number 9 is revoked."""
    yield "revoked", _listed(9), REVOKED
    yield "the first index beyond the list", _listed(16), UNKNOWN
    yield "an index far beyond the list", _listed(1 << 40), UNKNOWN
    yield "an index of 64 bits", _listed((1 << 64) - 1), UNKNOWN
    for name, index in (
        ("negative", -1),
        ("true", True),
        ("text", "3"),
        ("a float", Raw(b"\xf9\x42\x00")),
        ("a bignum", Tagged(2, b"\x03")),
        ("nil", None),
        ("an array", [3]),
    ):
        yield f"index {name}", _listed(index), MALFORMED
    for name, uri in (
        ("another address", STATUS_URI + "2"),
        ("the address with another case", STATUS_URI.upper()),
        ("the address with a slash", STATUS_URI + "/"),
        ("the address with a fragment", STATUS_URI + "#"),
        ("the address of the identifier list", IDENTIFIER_URI),
    ):
        yield name, _listed(3, uri), UNKNOWN
    for name, address in (
        ("empty", ""),
        ("bytes", STATUS_URI.encode()),
        ("tagged", Tagged(32, STATUS_URI)),
        ("nil", None),
    ):
        yield f"address {name}", _listed(3, address), MALFORMED
    yield "no index", {"status_list": {"uri": STATUS_URI}}, MALFORMED
    yield "no address", {"status_list": {"idx": 3}}, MALFORMED
    yield "the index twice", {"status_list": pairs([("idx", 9), ("uri", STATUS_URI), ("idx", 3)])}, MALFORMED
    yield "the list twice", pairs([("status_list", _listed(9)["status_list"]), *_listed(3).items()]), MALFORMED
    yield "nil as list", {"status_list": None}, MALFORMED
    yield "an array as list", {"status_list": [3, STATUS_URI]}, MALFORMED
    yield "an unknown kind alone", {"status_assertion": {"x": 1}}, UNKNOWN
    yield "a kind by number alone", {1: {"idx": 3, "uri": STATUS_URI}}, UNKNOWN
    yield "empty", {}, UNKNOWN
    yield "an array", [], MALFORMED
    yield "text", "valid", MALFORMED
    yield "false", False, MALFORMED
    yield "identifier revoked", {"identifier_list": {"id": b"revoked", "uri": IDENTIFIER_URI}}, REVOKED
    for name, identifier in (("empty", b""), ("text", "good"), ("nil", None), ("a number", 1)):
        yield f"identifier {name}", {"identifier_list": {"id": identifier, "uri": IDENTIFIER_URI}}, MALFORMED
    yield "identifier list at a status list's address", {"identifier_list": {"id": b"good", "uri": STATUS_URI}}, UNKNOWN
    revoked = {"identifier_list": {"id": b"revoked", "uri": IDENTIFIER_URI}}
    yield "valid by one list, revoked by the other", {**_listed(3), **revoked}, REVOKED
    yield "revoked by one list, valid by the other", {**_listed(9), **IDENTIFIERS}, REVOKED
    absent = {"identifier_list": {"id": b"good", "uri": "https://example.org/none"}}
    yield "valid by one list, the other not at hand", {**_listed(3), **absent}, UNKNOWN
    yield "revoked by one list, the other not at hand", {**_listed(9), **absent}, REVOKED
    stranger = x509.root(STRANGER).der()
    yield "a stranger's root named for the list", _listed(3, certificate=stranger), UNKNOWN
    yield "another signer named for the list", _listed(3, certificate=x509.signer(DEVICE, ROOT).der()), UNKNOWN
    yield "no certificate named for the list", _listed(3, certificate=b"\x30\x00"), UNKNOWN
    yield "a certificate as text named", _listed(3, certificate="x"), MALFORMED
    yield "a certificate in an array named", _listed(3, certificate=[root_der()]), MALFORMED
    yield "nil named as certificate", _listed(3, certificate=None), MALFORMED


def _tokens() -> Iterator[tuple[str, bytes, frozenset[Failure]]]:
    """Lists at the credential's address, where entry 3 seems valid."""
    draft = x509.signer(key(8), ROOT)
    bare = replace(draft, extensions=x509.without(draft, x509.EKU))
    token = status_token

    def by(signer: x509.Draft, private: x509.PrivateKey = key(8), **more: Any) -> bytes:  # noqa: B008  a fixed key
        return token(private=private, chain=signer.der(), **more)

    yield "signed by a stranger", token(private=STRANGER), UNKNOWN
    yield "signed by the device", token(private=DEVICE), UNKNOWN
    yield "signer of a stranger with the root's name", by(replace(bare, signed_by=STRANGER)), UNKNOWN
    yield "self-signed", by(x509.root(key(8))), UNKNOWN
    yield "signed by the root itself", by(x509.root(ROOT), ROOT), UNKNOWN
    yield "below the document signer", by(x509.signer(key(8), SIGNER, x509.SIGNER_NAME)), UNKNOWN
    yield "signer and document signer", token(chain=[bare.der(), x509.signer(SIGNER, ROOT).der()]), UNKNOWN
    for kind, words in (
        ("1.0.18013.5.1.6", "reader's"),
        ("1.0.18013.5.1.8", "VICAL signer's"),
        ("1.3.6.1.5.5.7.3.1", "TLS server's"),
        ("2.5.29.37.0", "every"),
    ):
        yield (
            f"signer with a {words} purpose",
            by(replace(draft, extensions=x509.replaced(draft, x509.purposes(kind)))),
            UNKNOWN,
        )
    yield (
        "signer that is an authority",
        by(replace(bare, extensions=x509.replaced(bare, x509.constraints(x509.CA)))),
        UNKNOWN,
    )
    yield (
        "signer whose key may not sign",
        by(replace(bare, extensions=x509.replaced(bare, x509.usage(0x0800)))),
        UNKNOWN,
    )
    yield (
        "signer with an unknown critical extension",
        by(replace(bare, extensions=(*bare.extensions, ("1.2.3", True, b"\5\0")))),
        UNKNOWN,
    )
    yield "signer over when it signed", by(replace(bare, end=NOW - 9 * DAY)), UNKNOWN
    yield "signer to come when it signed", by(replace(bare, begin=NOW)), UNKNOWN
    for name, claims in _claims():
        yield name, token(claims=claims), UNKNOWN
    at = {name: int(moment.timestamp()) for name, moment in (("past", NOW - DAY / 4), ("future", NOW + DAY / 4))}
    yield "past its exp", token(claims=put(4, at["past"])), STALE
    yield "past its exp by a second", token(claims=put(4, int(NOW.timestamp()) - 1)), STALE
    yield "issued in the future", token(claims=put(6, at["future"])), UNKNOWN | STALE
    for name, protected in (
        ("no type", drop(16)),
        ("an identifier list's type", put(16, "application/identifierlist+cwt")),
        ("a JWT's type", put(16, "statuslist+jwt")),
        ("type as a number", put(16, 61)),
        ("no x5chain", drop(33)),
        ("crit", put(2, [16])),
        ("alg of another curve", put(1, -35)),
        ("alg as text", put(1, "ES256")),
    ):
        yield name, token(protected=protected), UNKNOWN
    for name, outer in (
        ("untagged", lambda found: found.value),
        ("tagged as a CWT", lambda found: Tagged(61, found)),
        ("tagged as COSE_Sign", lambda found: Tagged(98, found.value)),
        ("tagged as COSE_Mac0", lambda found: Tagged(17, found.value)),
        ("without payload", lambda found: Tagged(18, [*found.value[:2], None, found.value[3]])),
        ("a signature of zeros", lambda found: Tagged(18, [*found.value[:3], bytes(64)])),
        ("a byte after it", lambda found: Raw(write(found) + b"\0")),
        ("of indefinite length", lambda found: Tagged(18, indefinite(found.value))),
        ("an entry changed", lambda found: Tagged(18, under(2, lambda p: p.replace(b"\x04", b"\x05", 1))(found.value))),
    ):
        yield name, token(outer=outer), UNKNOWN
    compressed = zlib.compress(b"\0\0")
    for name, packed in (
        ("lst not packed", b"\0\0"),
        ("lst empty", b""),
        ("lst cut short", compressed[:-1]),
        ("lst with a wrong checksum", compressed[:-1] + bytes((compressed[-1] ^ 1,))),
        ("lst followed by another", compressed * 2),
        ("lst as raw deflate", compressed[2:-4]),
        ("lst of no entry", zlib.compress(b"")),
        ("lst that unpacks to 64 MB", zlib.compress(bytes(64 << 20))),
    ):
        yield name, token(packed=packed), UNKNOWN


def _claims() -> Iterator[tuple[str, Hook]]:
    lst = zlib.compress(bytes(2))
    yield "no address", drop(2)
    yield "another address", put(2, "https://example.org/status/2")
    yield "address as bytes", put(2, STATUS_URI.encode())
    yield "the address twice", lambda claims: pairs([*claims.items(), (2, STATUS_URI)])
    yield "no date", drop(6)
    yield "date as text", put(6, "2026-11-24")
    yield "date as a float", put(6, Raw(b"\xfb\x41\xda\xc0\x00\x00\x00\x00\x00"))
    yield "date negative", put(6, -1)
    yield "date true", put(6, True)
    yield "exp as text", put(4, "2099-01-01")
    yield "exp true", put(4, True)
    yield "exp twice", lambda claims: pairs([*claims.items(), (4, 4000000000)])
    yield "ttl of zero", put(65534, 0)
    yield "ttl negative", put(65534, -5)
    yield "ttl as text", put(65534, "1h")
    yield "no list", drop(65533)
    yield "an identifier list beside", put(65530, {"identifiers": {}})
    yield "the list under another claim", lambda claims: {**drop(65533)(claims), 65535: claims[65533]}
    for bits in (0, 3, 16, -1, True, "1", None):
        yield f"bits {bits!r}", put(65533, {"bits": bits, "lst": lst})
    yield "no bits", put(65533, {"lst": lst})
    yield "bits twice", put(65533, pairs([("bits", 1), ("lst", lst), ("bits", 2)]))
    yield "no lst", put(65533, {"bits": 1})
    yield "lst as text", put(65533, {"bits": 1, "lst": lst.hex()})
    yield "the list as an array", put(65533, [1, lst])


def forgeries() -> Iterator[Forgery]:
    clause = "12.3.6 (2nd ed.)"
    both = Gate(status=lists(status_token(), identifier_token()))
    for name, status, expected in _credentials():
        raw = response(Plan(mso=put("status", status)))
        yield Forgery(name=f"status: {name}", clause=clause, raw=raw, expected=expected, gate=both)
    raw = response(Plan(status=STATUS))
    yield Forgery(name="status: no list at hand", clause=clause, raw=raw, expected=UNKNOWN)
    for name, token, expected in _tokens():
        gate = Gate(status=lists(token))
        yield Forgery(
            name=f"status list: {name}", clause="Token Status List 8.3", raw=raw, expected=expected, gate=gate
        )
    for bits, entries in (
        (1, b"\x08"),
        (2, b"\x40"),
        (2, b"\x80"),
        (2, b"\xc0"),
        (4, b"\0\x20"),
        (8, bytes(3) + b"\x02"),
        (8, bytes(3) + b"\x80"),
    ):
        claims = put(65533, {"bits": bits, "lst": zlib.compress(entries)})
        gate = Gate(status=lists(status_token(claims=claims)))
        name = f"status list: {bits} bits, {entries.hex()}"
        yield Forgery(name=name, clause="Token Status List 7.1", raw=raw, expected=REVOKED, gate=gate)
    one_byte = put(65533, {"bits": 8, "lst": zlib.compress(bytes(3))})
    gate = Gate(status=lists(status_token(claims=one_byte)))
    yield Forgery(name="status list: 8 bits, one entry short", clause=clause, raw=raw, expected=UNKNOWN, gate=gate)
    yield from _several(raw, clause)
    yield from _identifiers(clause)


def _several(raw: bytes, clause: str) -> Iterator[Forgery]:
    older = int((NOW - 2 * DAY).timestamp())
    clean = status_token(entries=bytes(2), claims=put(6, older))
    revoking = status_token(entries=b"\x08\0")
    for name, tokens in (("after", (clean, revoking)), ("before", (revoking, clean))):
        gate = Gate(status=lists(*tokens))
        yield Forgery(
            name=f"status list: a newer one that revokes {name} the older",
            clause=clause,
            raw=raw,
            expected=REVOKED,
            gate=gate,
        )
    foreign_root = x509.root(STRANGER, ((x509.COUNTRY, "KR"), (x509.COMMON_NAME, "Other root")))
    draft = x509.signer(key(8), STRANGER, foreign_root.subject)
    foreign = status_token(chain=replace(draft, extensions=x509.without(draft, x509.EKU)).der())
    trust = anchors(root_der(), foreign_root.der())
    gate = Gate(trust=trust, status=lists(foreign, trust=trust))
    yield Forgery(name="status list: another trusted authority's", clause=clause, raw=raw, expected=UNKNOWN, gate=gate)
    gate = Gate(trust=trust, status=lists(foreign, status_token(entries=b"\x08\0", claims=put(6, older)), trust=trust))
    name = "status list: another trusted authority's newer one that clears it"
    yield Forgery(name=name, clause=clause, raw=raw, expected=REVOKED, gate=gate)
    aged = Gate(status=lists(status_token()), more={"freshness": Freshness(status_list=timedelta(hours=6))})
    yield Forgery(name="status list: older than the zone allows", clause=clause, raw=raw, expected=STALE, gate=aged)
    expired = status_token(entries=b"\x08\0", claims=put(4, int((NOW - DAY / 4).timestamp())))
    gate = Gate(status=lists(expired))
    yield Forgery(name="status list: past its exp, and it revokes", clause=clause, raw=raw, expected=REVOKED, gate=gate)
    serial = x509.signer(key(8), ROOT).serial
    revoked = anchors(root_der(), crls=[x509.revocation_list(ROOT, [serial + 1])])
    other = replace(x509.signer(key(8), ROOT), serial=serial + 1)
    chain = replace(other, extensions=x509.without(other, x509.EKU)).der()
    gate = Gate(trust=revoked, status=lists(status_token(chain=chain), trust=revoked))
    yield Forgery(name="status list: its signer is revoked", clause=clause, raw=raw, expected=UNKNOWN, gate=gate)
    by_kid = response(Plan(kid=KID, status=STATUS))
    for name, hook in (
        ("the issuer list names no status list", put("statusLists", [])),
        ("the issuer list names another address", put("statusLists", [STATUS_URI + "2"])),
        ("the issuer list names another authority", put("statusAuthority", x509.identifier(STRANGER))),
    ):
        trust = anchors(root_der(), issuers=issuer_list(entry=hook))
        gate = Gate(trust=trust, status=lists(status_token()))
        yield Forgery(name=f"status list: {name}", clause=clause, raw=by_kid, expected=UNKNOWN, gate=gate)


def _identifiers(clause: str) -> Iterator[Forgery]:
    raw = response(Plan(status=IDENTIFIERS))
    for name, hook in (
        ("no exp", drop(4)),
        ("a status list beside", put(65533, {"bits": 1, "lst": zlib.compress(b"\0")})),
        ("no identifiers", drop(65530)),
        ("identifiers as an array", put(65530, {"identifiers": [b"x"]})),
        ("an identifier as text", put(65530, {"identifiers": {"good": {}}})),
        ("details nil", put(65530, {"identifiers": {b"x": None}})),
        ("an identifier twice", put(65530, {"identifiers": pairs([(b"x", {}), (b"x", {})])})),
        ("another address", put(2, "https://example.org/identifiers/2")),
    ):
        gate = Gate(status=lists(identifier_token(claims=hook)))
        yield Forgery(name=f"identifier list: {name}", clause=clause, raw=raw, expected=UNKNOWN, gate=gate)
    for name, token, expected in (
        ("signed by a stranger", identifier_token(private=STRANGER), UNKNOWN),
        ("a status list's type", identifier_token(protected=put(16, "application/statuslist+cwt")), UNKNOWN),
        ("past its exp", identifier_token(claims=put(4, int((NOW - DAY / 4).timestamp()))), STALE),
        ("revokes it", identifier_token(claims=put(65530, {"identifiers": {b"good": {}}})), REVOKED),
    ):
        gate = Gate(status=lists(token))
        yield Forgery(name=f"identifier list: {name}", clause=clause, raw=raw, expected=expected, gate=gate)
