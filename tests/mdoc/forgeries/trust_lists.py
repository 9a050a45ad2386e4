"""What lists of revoked signers and of issuers say: CRL, VICAL, and issuers named by kid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from mdoc.certificates import Anchor, Settings, TrustAnchors, read
from mdoc.freshness import Freshness, ListFacts, ListKind
from mdoc.verdict import Failure
from tests.conftest import NOW
from tests.mdoc.forgeries import x509
from tests.mdoc.forgeries.builder import (
    DOC_TYPE,
    KID,
    ROOT,
    SIGNER,
    STRANGER,
    VICAL_ROOT,
    Forgery,
    Gate,
    Plan,
    anchors,
    cose_key,
    date,
    expect,
    issuer_list,
    response,
    root_der,
    vical_token,
    vical_trust,
)
from tests.mdoc.forgeries.genuine import MDL_ASKED, VISITOR
from tests.mdoc.forgeries.signers import GENUINE
from tests.mdoc.forgeries.values import BAD, MALFORMED, SIGNATURE, UNKNOWN
from tests.mdoc.forgeries.wire import drop, integer, put
from tests.mdoc.forgeries.x509 import DAY


def _lists() -> Iterator[tuple[str, str, bytes, Gate, frozenset[Failure]]]:
    """What lists of revoked signers and of issuers say."""
    serial = GENUINE.serial
    revoked = expect(Failure.SIGNER_REVOKED)
    stale = expect(Failure.CRL_STALE)
    genuine = response(Plan())

    def with_crls(*crls: bytes, required: bool = False) -> Gate:
        freshness = {"freshness": Freshness(crl_required=True)} if required else {}
        return Gate(trust=anchors(root_der(), crls=crls), more=freshness)

    crl = x509.revocation_list
    yield "signer on the CRL", "B.1.9", genuine, with_crls(crl(ROOT, [serial])), revoked
    yield "signer on the CRL among others", "B.1.9", genuine, with_crls(crl(ROOT, [1, serial, 3])), revoked
    old = crl(ROOT, [serial], at=NOW - 9 * DAY, until=NOW - 8 * DAY)
    yield "signer on a CRL past its date", "B.1.9", genuine, with_crls(old), revoked
    over = crl(ROOT, [], at=NOW - 9 * DAY, until=NOW - 8 * DAY)
    yield "CRL past its date", "B.1.9", genuine, with_crls(over), stale
    future = crl(ROOT, [], at=NOW + 2 * DAY, until=NOW + 9 * DAY)
    yield "CRL of the future", "B.1.9", genuine, with_crls(future), stale
    yield "no CRL where one is required", "B.1.9", genuine, with_crls(required=True), stale
    forged = crl(STRANGER, [])
    yield "CRL by a stranger under the root's name", "B.1.9", genuine, with_crls(forged, required=True), stale
    by_signer = crl(SIGNER, [], issuer=x509.SIGNER_NAME)
    yield "CRL by the signer", "B.1.9", genuine, with_crls(by_signer, required=True), stale
    changed = crl(ROOT, [serial]).replace(integer(serial), integer(serial + 1))
    yield "CRL with a changed serial number", "B.1.9", genuine, with_crls(changed, required=True), stale
    counted = crl(ROOT, [], number=1 << 20_000)
    yield "CRL with a number of 2,500 octets", "RFC 5280 5.2.3", genuine, with_crls(counted, required=True), stale
    yield "CRL with a byte after it", "B.1.9", genuine, with_crls(crl(ROOT, []) + b"\0", required=True), stale

    empty = Gate(trust=anchors())
    yield "nobody is trusted", "9.3.3", genuine, empty, UNKNOWN
    site = anchors(root_der(), settings=Settings(doc_types=frozenset({"other"})))
    yield "the site keeps the root from this type", "C.1", genuine, Gate(trust=site), UNKNOWN
    yield (
        "the VICAL lists another type",
        "C.1.7",
        genuine,
        Gate(trust=vical_trust(vical_token(types=["other"]))),
        UNKNOWN,
    )
    mdl = vical_trust(vical_token(types=[DOC_TYPE]))
    yield (
        "a licence by an authority listed for IDs",
        "C.1.7",
        response(VISITOR),
        Gate(asked=MDL_ASKED, trust=mdl),
        UNKNOWN,
    )
    own = x509.signer(SIGNER, ROOT, purpose=x509.MDOC_DS).der()
    licence = response(replace(VISITOR, chain=[own]))
    yield "a licence under 23220-4's purpose", "table B.3", licence, Gate(asked=MDL_ASKED), BAD
    for name, trust in (
        ("signed by a stranger", vical_trust(vical_token(private=STRANGER))),
        ("signed by its root", vical_trust(vical_token(private=VICAL_ROOT))),
        ("by a document signer", vical_trust(vical_token(signer=_purpose(x509.MDL_DS)))),
        ("by a reader", vical_trust(vical_token(signer=_purpose("1.0.18013.5.1.6")))),
        (
            "signer expired when it signed",
            vical_trust(vical_token(signer=lambda draft: replace(draft, end=NOW - 9 * DAY))),
        ),
        ("signer of a stranger", vical_trust(vical_token(signer=lambda draft: replace(draft, signed_by=STRANGER)))),
        ("entry without docType", vical_trust(vical_token(entry=drop("docType")))),
        ("entry's docType is text", vical_trust(vical_token(entry=put("docType", DOC_TYPE)))),
        ("entry of another serial number", vical_trust(vical_token(entry=put("serialNumber", 4)))),
        ("version 2.0", vical_trust(vical_token(payload=put("version", "2.0")))),
        ("no date", vical_trust(vical_token(payload=drop("date")))),
    ):
        yield f"VICAL: {name}", "C.1.7", genuine, Gate(trust=trust), UNKNOWN
    stale_list = Freshness(issuer_list=timedelta(hours=1))
    aged = Gate(trust=vical_trust(vical_token()), more={"freshness": stale_list})
    yield "VICAL older than the zone allows", "C.1.7", genuine, aged, expect(Failure.ISSUER_LIST_STALE)
    gone = vical_trust(vical_token(payload=put("nextUpdate", date(NOW - DAY / 2))))
    yield "VICAL past its nextUpdate", "C.1.7", genuine, Gate(trust=gone), expect(Failure.ISSUER_LIST_STALE)

    yield from _renewals(genuine)

    by_kid = response(Plan(kid=KID))
    for name, trust in (
        ("without a list", anchors(root_der())),
        ("list signed by a stranger", anchors(issuers=issuer_list(STRANGER))),
        ("another kid on the list", anchors(issuers=issuer_list(entry=put("kid", b"other")))),
        ("listed for another type", anchors(issuers=issuer_list(entry=put("docTypes", ["other"])))),
        ("listed for the type's beginning", anchors(issuers=issuer_list(entry=put("docTypes", ["kr.go"])))),
        ("list with the kid twice", anchors(issuers=issuer_list(body=_entry_twice))),
    ):
        yield f"kid: {name}", "RFC 9052 3.1", by_kid, Gate(trust=trust), UNKNOWN
    other_key = anchors(issuers=issuer_list(entry=put("key", cose_key(STRANGER))))
    yield "kid: another key on the list", "RFC 9052 3.1", by_kid, Gate(trust=other_key), SIGNATURE
    for name, member, value in (("over", "notAfter", NOW - DAY), ("to come", "notBefore", NOW + DAY)):
        trust = anchors(issuers=issuer_list(entry=put(member, date(value))))
        yield f"kid: its time is {name}", "9.3.3", by_kid, Gate(trust=trust), BAD | UNKNOWN
    late = anchors(issuers=issuer_list(entry=put("notBefore", date(NOW - DAY))))
    yield "kid: signed before its time", "9.3.1 step 5", by_kid, Gate(trust=late), BAD
    listed = Gate(trust=anchors(root_der(), issuers=issuer_list()))
    longer = response(Plan(kid=KID + b"0"))
    yield "kid: one byte longer", "RFC 9052 3.1", longer, listed, UNKNOWN
    for name, kid in (("empty", b""), ("text", KID.decode()), ("nil", None)):
        plan = Plan(kid=KID, unprotected=put(4, kid))
        yield f"kid: {name}", "RFC 9052 3.1", response(plan), listed, MALFORMED
    beside = Plan(kid=KID, unprotected=put(33, x509.signer(SIGNER, STRANGER).der()))
    yield "kid: beside a stranger's certificate", "9.1.2.4", response(beside), listed, UNKNOWN
    both = Plan(kid=KID, protected=put(4, b"other"))
    yield "kid: two of them", "RFC 9052 3", response(both), listed, MALFORMED


def _renewals(genuine: bytes) -> Iterator[tuple[str, str, bytes, Gate, frozenset[Failure]]]:
    """A root and its renewal, under one name and key: what one may and the other is do not add up."""
    old = replace(x509.root(ROOT), end=NOW - DAY).der()
    young = replace(x509.root(ROOT), serial=77).der()

    def listed(der: bytes, types: Sequence[str], issued: datetime, name: str) -> Anchor:
        facts = ListFacts(ListKind.ISSUER_LIST, name, None, issued, None)
        return Anchor.from_certificate(read(der), source=facts, listed_types=frozenset(types))

    fresh, weeks = NOW - DAY / 24, NOW - 30 * DAY
    aged = {"freshness": Freshness(issuer_list=DAY)}
    for turned in (False, True):
        words = ", turned round" if turned else ""
        roots = [listed(old, [DOC_TYPE], fresh, "a"), listed(young, ["other"], fresh, "b")]
        gate = Gate(trust=TrustAnchors(roots[::-1] if turned else roots))
        yield f"the root over, its renewal listed for another type{words}", "C.1.7", genuine, gate, BAD
        roots = [listed(old, [DOC_TYPE], fresh, "a"), listed(young, [DOC_TYPE], weeks, "b")]
        gate = Gate(trust=TrustAnchors(roots[::-1] if turned else roots), more=aged)
        stale = expect(Failure.ISSUER_LIST_STALE)
        yield f"the root over, its renewal on a stale list{words}", "C.1.7", genuine, gate, stale
        roots = [listed(young, ["other"], fresh, "a"), listed(root_der(), [DOC_TYPE], weeks, "b")]
        gate = Gate(trust=TrustAnchors(roots[::-1] if turned else roots), more=aged)
        yield f"a fresh list for another type, a stale one for this{words}", "C.1.7", genuine, gate, stale


def _purpose(kind: str) -> Any:
    return lambda draft: replace(draft, extensions=x509.replaced(draft, x509.purposes(kind)))


def _entry_twice(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "issuers": body["issuers"] * 2}


def forgeries() -> Iterator[Forgery]:
    for name, clause, raw, gate, expected in _lists():
        yield Forgery(name=f"trust: {name}", clause=clause, raw=raw, expected=expected, gate=gate)
