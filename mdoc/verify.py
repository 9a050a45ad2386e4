"""Inspection of a device response (18013-5 9.3): a straight list of named checks, in published order.

All checks run even after one has failed, so that `gwanmun inspect` and a guard can see the whole picture; the first failure
is the reason. Not checked here, and left to the caller: what the elements allow (policy), single use, the lane, how far the
clock may be wrong.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cose, mso, session
from mdoc.certificates import Chained, TrustAnchors, chain_from_header, read, verification_key
from mdoc.errors import MalformedError
from mdoc.freshness import NO_LIMITS, Freshness, ListFacts, staleness
from mdoc.issuerlist import ListedIssuer
from mdoc.mso import MobileSecurityObject
from mdoc.request import RequestedItems
from mdoc.response import STATUS_OK, DeviceResponse, Document, device_authentication
from mdoc.statuslist import StatusLists, TokenStatus
from mdoc.transcript import SessionTranscript
from mdoc.verdict import Check, Checklist, CheckRow, Failure, Outcome, Verdict, VerifiedDocument

TABLE: tuple[CheckRow, ...] = (
    CheckRow(
        "structure",
        "8.3.2.1.2.2, 9.1.2.4",
        (Failure.MALFORMED,),
        "응답, MSO, 인증서를 한도 안에서 끝까지 읽을 수 있고, 필요한 항목이 모두 바른 형식으로 한 번씩만 있습니다.",
        "Response, MSO and certificates can be read to the end within the limits; every member is there once, in its form.",
    ),
    CheckRow(
        "document_returned",
        "8.3.2.1.2.2",
        (Failure.HOLDER_DECLINED,),
        "요청한 문서가 들어 있습니다.",
        "The documents that were asked for are there.",
    ),
    CheckRow(
        "nothing_unasked",
        "8.3.2.1.2.1",
        (Failure.MALFORMED,),
        "요청하지 않은 문서나 항목이 없습니다.",
        "No document and no element is there that nobody asked for.",
    ),
    CheckRow(
        "issuer_chain",
        "9.3.3, B.1",
        (Failure.UNKNOWN_ISSUER, Failure.BAD_CERTIFICATE),
        "이 문서 종류를 맡은 신뢰하는 발급 기관이 서명자 인증서를 직접 발급했고, 인증서가 부속서 B의 규정에 맞습니다.",
        "A trusted authority, trusted for this document type, issued the signer's certificate itself, to the profile.",
    ),
    CheckRow(
        "issuer_list",
        "C.1",
        (Failure.ISSUER_LIST_STALE,),
        "발급 기관 목록이 허용된 기간보다 오래되지 않았습니다.",
        "The list that names the authority is no older than allowed.",
    ),
    CheckRow(
        "certificate_dates",
        "9.3.3",
        (Failure.BAD_CERTIFICATE,),
        "인증서가 지금 유효 기간 안에 있습니다.",
        "The certificates are within their dates now.",
    ),
    CheckRow(
        "signed_within_certificate",
        "9.3.1 step 5",
        (Failure.BAD_CERTIFICATE,),
        "MSO는 인증서의 유효 기간 안에 서명되었습니다.",
        "The MSO was signed within the certificates' dates.",
    ),
    CheckRow(
        "signer_revocation",
        "9.3.3, B.1.9",
        (Failure.SIGNER_REVOKED, Failure.CRL_STALE),
        "서명자 인증서가 폐지되지 않았고, 폐지 목록이 허용된 기간보다 오래되지 않았습니다.",
        "The signer's certificate is not revoked, and the list that says so is no older than allowed.",
    ),
    CheckRow(
        "issuer_signature",
        "9.3.1 step 2",
        (Failure.BAD_SIGNATURE,),
        "MSO의 서명이 맞고, 알고리즘이 서명자의 키에 맞습니다.",
        "The signature of the MSO holds, with an algorithm that fits the signer's key.",
    ),
    CheckRow(
        "document_type",
        "9.3.1 step 4",
        (Failure.WRONG_DOCUMENT_TYPE,),
        "응답과 MSO의 문서 종류가 같고, 요청한 것입니다.",
        "Response and MSO agree on the document type, and it is one that was asked for.",
    ),
    CheckRow(
        "digests",
        "9.3.1 step 3",
        (Failure.ALTERED,),
        "모든 항목의 해시가 같은 네임스페이스의 MSO 값과 같고, 같은 항목이 두 번 들어 있지 않습니다.",
        "Every element has the MSO's digest in its own namespace; no element is there twice.",
    ),
    CheckRow(
        "key_authorizations",
        "9.1.2.4",
        (Failure.ALTERED,),
        "기기가 서명한 항목은 모두 발급 기관이 그 키에 허락한 것입니다.",
        "Every element that the device signed is one that the issuer authorized its key for.",
    ),
    CheckRow(
        "validity",
        "9.3.1 step 5",
        (Failure.NOT_YET_VALID, Failure.EXPIRED),
        "신분증이 지금 유효 기간 안에 있습니다.",
        "The credential is within its dates now.",
    ),
    CheckRow(
        "device_authentication",
        "9.3.1 step 1, 9.1.3",
        (Failure.WRONG_SESSION,),
        "MSO에 있는 기기 키가 바로 이 세션에 서명했거나 이 세션의 MAC을 만들었습니다.",
        "The device key of the MSO signed, or made the MAC of, this very session.",
    ),
    CheckRow(
        "status",
        "12.3.6 (2nd ed.)",
        (Failure.STATUS_UNKNOWN, Failure.REVOKED, Failure.STATUS_STALE),
        "신분증이 가리키는 상태 목록이 모두 있고, 허용된 기간보다 오래되지 않았으며, 모두 유효하다고 합니다.",
        "Every status list that the credential names is at hand, no older than allowed, and says that it is valid.",
    ),
    CheckRow(
        "requested_elements",
        "8.3.2.1.2.1",
        (Failure.MISSING_ELEMENT,),
        "반드시 필요한 항목이 모두 들어 있고, 발급 기관이 서명한 것입니다.",
        "Every element that is needed is there, signed by the issuer.",
    ),
)
"""Every check, in the order in which the first failure becomes the reason."""

CHECKS: Mapping[str, tuple[Failure, ...]] = {row.name: row.failures for row in TABLE}
"""How each check may fail."""

_ORDER = {row.name: number for number, row in enumerate(TABLE)}
_HASHES = {"SHA-256": hashlib.sha256, "SHA-384": hashlib.sha384, "SHA-512": hashlib.sha512}
Signer = Chained | ListedIssuer


def verify_response(
    response: bytes,
    *,
    transcript: SessionTranscript | None,
    reader_key: ec.EllipticCurvePrivateKey | None,
    requested: RequestedItems | Sequence[RequestedItems],
    trust: TrustAnchors,
    status: StatusLists,
    now: datetime,
    skew: timedelta = timedelta(0),
    freshness: Freshness = NO_LIMITS,
    issuer_only: bool = False,
) -> Verdict:
    """Verify a decrypted DeviceResponse. Every document in it has to be good.

    `reader_key` is the session's ephemeral reader key; it is needed to check a deviceMac and may be None where there is
    none. `requested` is what was asked, one entry a document. `now` is aware; `skew` widens every date comparison by the
    clock's error bound. `freshness` holds the zone's maximum ages; by default a list past its own date is stale, of whatever
    age. Never raises for what the response holds.

    `issuer_only` is for looking at a response whose session is not known: device authentication is then skipped and the
    verdict says nothing about who presented it. No gate sets it. Without it, a missing transcript fails.
    """
    checks = Checklist()
    asked = (requested,) if isinstance(requested, RequestedItems) else tuple(requested)
    try:
        parsed = DeviceResponse.parse(response)
        if parsed.documents and parsed.status != STATUS_OK:
            raise MalformedError("device response: documents beside an error status")
        if parsed.documents and parsed.document_errors and _contradicts(parsed, asked):
            raise MalformedError("device response: an error for a document that is there")
        if len(parsed.documents) > len(asked) and not any(items.unlimited for items in asked):
            # Before any signature is checked, so that what was asked bounds the work.
            checks.passed("structure")
            checks.passed("document_returned")
            checks.failed("nothing_unasked", Failure.MALFORMED, "more documents than were asked")
            return Verdict(tuple(checks.checks), checks.reason)
        opened = [_open(document, parsed, trust) for document in parsed.documents]
    except MalformedError as error:
        checks.failed("structure", Failure.MALFORMED, str(error))
        return Verdict(tuple(checks.checks), checks.reason)
    checks.passed("structure")
    if not opened:
        checks.failed("document_returned", Failure.HOLDER_DECLINED, f"status {parsed.status}, no document")
        return Verdict(tuple(checks.checks), checks.reason)
    matched, surplus, missing = _match(parsed.documents, asked)
    checks.expect(not missing, "document_returned", Failure.HOLDER_DECLINED, "a document that was asked is missing")
    facts: list[ListFacts] = []
    documents = []
    for (document, security_object, signer), items, extra in zip(opened, matched, surplus, strict=True):
        _nothing_unasked(checks, document, items, extra)
        _issuer(checks, document, security_object, items, signer, freshness, facts, now, skew)
        _document_type(checks, document, security_object, items)
        _digests(checks, document, security_object)
        _authorizations(checks, document, security_object)
        _validity(checks, security_object, now, skew)
        if transcript is None and issuer_only:
            checks.skipped("device_authentication", "no session is known: nothing is said about who presented it")
        else:
            _device(checks, document, security_object, transcript, reader_key)
        _status(checks, security_object, signer, status, freshness, facts, now, skew)
        _requested(checks, document, items)
        spaces = document.name_spaces
        elements = {space: {item.element: item.value for item in spaces[space]} for space in spaces}
        documents.append(
            VerifiedDocument(
                security_object.doc_type,
                elements,
                document.device_name_spaces,
                signer,
                security_object.device_key,
                security_object.valid_from,
                security_object.valid_until,
                security_object.status,
            )
        )
    reason = checks.reason if len(documents) == 1 else _first(checks.checks)
    issuers = [None if isinstance(signer, str) else signer for _, _, signer in opened]
    return Verdict(tuple(checks.checks), reason, documents, facts, now, issuers)


def _contradicts(response: DeviceResponse, asked: Sequence[RequestedItems]) -> bool:
    """documentErrors names a document that is there (8.3.2.1.2.3): more answers for one type than it was asked."""
    named = Counter(doc_type for doc_type, _ in response.document_errors)
    there = Counter(document.doc_type for document in response.documents)
    wanted = Counter(items.doc_type for items in asked)
    return any(named[doc_type] and there[doc_type] + named[doc_type] > wanted[doc_type] for doc_type in there)


def _open(
    document: Document, response: DeviceResponse, trust: TrustAnchors
) -> tuple[Document, MobileSecurityObject, Signer | str | None]:
    """A document with its MSO and whoever signed it (or what is wrong with the signer). Raises MalformedError."""
    payload = document.issuer_auth.payload
    if payload is None:
        raise MalformedError("issuerAuth without payload")
    return document, mso.parse(payload, response.budget), trust.signer(document.issuer_auth)


def _first(checks: Sequence[Check]) -> Failure | None:
    """Of several documents' failures the first in published order."""
    failed = [check for check in checks if check.outcome is Outcome.FAILED]
    return min(failed, key=lambda check: _ORDER[check.name]).failure if failed else None


def _match(
    documents: Sequence[Document], asked: Sequence[RequestedItems]
) -> tuple[list[RequestedItems | None], list[bool], bool]:
    """Which request each document answers; which are more than was asked; whether a needed one is missing.

    Where a document answers no request, none is counted as missing: the one that is too many is the reason.
    """
    unanswered = list(asked)
    matched: list[RequestedItems | None] = []
    surplus: list[bool] = []
    stray = False
    seen: set[bytes | None] = set()
    for document in documents:
        again = document.issuer_auth.payload in seen  # one credential cannot stand for two
        seen.add(document.issuer_auth.payload)
        of_type = (items for items in unanswered if items.doc_type == document.doc_type)
        found = None if again else next(of_type, None)
        if found is not None and not found.unlimited:
            unanswered.remove(found)
        extra = found is None and any(items.doc_type == document.doc_type for items in asked)
        stray = stray or found is None
        matched.append(found)
        surplus.append(extra)
    missing = any(not items.optional and not items.unlimited for items in unanswered)
    return matched, surplus, missing and not stray


def _nothing_unasked(checks: Checklist, document: Document, items: RequestedItems | None, extra: bool) -> None:
    """Elements of the issuer and of the device alike. A document of another type has other elements; its type is the reason."""
    if extra:
        checks.failed("nothing_unasked", Failure.MALFORMED, "a document more than was asked")
        return
    if items is None:
        checks.skipped("nothing_unasked", "another document type")
        return
    if items.unlimited:
        checks.skipped("nothing_unasked", "the request is not known")
        return
    for space, entries in document.name_spaces.items():
        allowed = frozenset(items.elements.get(space, ()))
        if any(item.element not in allowed for item in entries):
            checks.failed("nothing_unasked", Failure.MALFORMED, "an element that nobody asked for")
            return
    for space, elements in document.device_name_spaces.items():
        if not elements.keys() <= frozenset(items.elements.get(space, ())):
            checks.failed("nothing_unasked", Failure.MALFORMED, "a device-signed element that nobody asked for")
            return
    checks.passed("nothing_unasked")


def _issuer(
    checks: Checklist,
    document: Document,
    security_object: MobileSecurityObject,
    items: RequestedItems | None,
    found: Signer | str | None,
    freshness: Freshness,
    facts: list[ListFacts],
    now: datetime,
    skew: timedelta,
) -> None:
    if found is None or isinstance(found, str):
        if found is None:
            checks.failed("issuer_chain", Failure.UNKNOWN_ISSUER, "no trusted issuing authority issued the signer")
        else:
            checks.failed("issuer_chain", Failure.BAD_CERTIFICATE, found)
        for name in ("issuer_list", "certificate_dates", "signed_within_certificate", "signer_revocation"):
            checks.skipped(name, "no trusted signer")
        _unknown_signature(checks, document)
        return
    doc_type = security_object.doc_type
    if items is None or doc_type != document.doc_type:
        checks.passed("issuer_chain")  # whose documents it may sign does not matter: `document_type` refuses this one
    elif not found.may_sign(doc_type):
        detail = "the issuing authority is not trusted for this document type"
        checks.failed("issuer_chain", Failure.UNKNOWN_ISSUER, detail)
    elif not found.purpose_fits(doc_type):
        checks.failed("issuer_chain", Failure.BAD_CERTIFICATE, "the signer's purpose is another document type")
    else:
        checks.passed("issuer_chain")
    found = found.for_type(doc_type)
    source = _source(found, freshness, now, skew)
    facts.append(source)
    _aged(checks, "issuer_list", Failure.ISSUER_LIST_STALE, source, freshness, now, skew)
    dated = found.dated(now) or (bool(skew) and (found.dated(now - skew) or found.dated(now + skew)))
    checks.expect(dated, "certificate_dates", Failure.BAD_CERTIFICATE, "outside the certificates' dates")
    inside = found.dated(security_object.signed)
    checks.expect(
        inside, "signed_within_certificate", Failure.BAD_CERTIFICATE, "signed outside the certificates' dates"
    )
    _signer_revocation(checks, found, freshness, facts, now, skew)
    good = cose.verify_sign1(document.issuer_auth, found.key)
    checks.expect(good, "issuer_signature", Failure.BAD_SIGNATURE)


def _source(found: Signer, freshness: Freshness, now: datetime, skew: timedelta) -> ListFacts:
    """The list that trust in the signer rests on: of several that name its authority, one that still counts.

    Of an authority and its renewal the one that is within its dates counts: a fresh list does not speak for another's root.
    """
    if isinstance(found, Chained) and len(found.authorities) > 1:
        dated = [
            entry for entry in found.authorities if entry.not_before <= now + skew and now - skew <= entry.not_after
        ]
        anchors = dated or found.authorities
        fresh = (anchor.source for anchor in anchors if staleness(anchor.source, freshness, now, skew) is None)
        return next(fresh, anchors[0].source)
    return found.source


def _aged(
    checks: Checklist,
    name: str,
    failure: Failure,
    facts: ListFacts,
    freshness: Freshness,
    now: datetime,
    skew: timedelta,
) -> None:
    problem = staleness(facts, freshness, now, skew)
    if problem is None:
        checks.passed(name)
    else:
        checks.failed(name, failure, f"the list is {problem}")


def _signer_revocation(
    checks: Checklist, signer: Signer, freshness: Freshness, facts: list[ListFacts], now: datetime, skew: timedelta
) -> None:
    crl = signer.crl
    if isinstance(signer, ListedIssuer):
        checks.skipped("signer_revocation", "an issuer by name is revoked by a newer issuer list")
    elif crl is None:
        if freshness.crl_required:
            checks.failed("signer_revocation", Failure.CRL_STALE, "no revocation list of the issuing authority")
        else:
            checks.skipped("signer_revocation", "no revocation list of the issuing authority")
    else:
        held = crl.facts
        facts.append(held)
        if signer.revoked:  # a list that is too old still proves it
            checks.failed("signer_revocation", Failure.SIGNER_REVOKED, "the signer's certificate is on the list")
        else:
            _aged(checks, "signer_revocation", Failure.CRL_STALE, held, freshness, now, skew)


def _unknown_signature(checks: Checklist, document: Document) -> None:
    """Of a signer whom nobody trusts: whether at least the certificate sent along made the signature."""
    chain = document.issuer_auth.unprotected.get(cose.X5CHAIN)
    if chain is None:
        checks.skipped("issuer_signature", "the signer's key is not known")
        return
    try:
        good = cose.verify_sign1(document.issuer_auth, verification_key(read(chain_from_header(chain)[0])))
    except MalformedError:
        good = False
    checks.expect(good, "issuer_signature", Failure.BAD_SIGNATURE)


def _document_type(
    checks: Checklist, document: Document, security_object: MobileSecurityObject, items: RequestedItems | None
) -> None:
    if document.doc_type != security_object.doc_type:
        checks.failed("document_type", Failure.WRONG_DOCUMENT_TYPE, "response and MSO do not agree")
    elif items is None:
        checks.failed("document_type", Failure.WRONG_DOCUMENT_TYPE, "not a type that was asked, or one too many of it")
    else:
        checks.passed("document_type")


def _digests(checks: Checklist, document: Document, security_object: MobileSecurityObject) -> None:
    """Each item has a digest in the same namespace, and no element is there twice (9.3.1, step 3).

    A digest used twice needs no check of its own: the items would be the same, and with them the element.
    """
    new_hash = _HASHES[security_object.digest_algorithm]
    for space, items in document.name_spaces.items():
        known = security_object.value_digests.get(space)
        if known is None:
            checks.failed("digests", Failure.ALTERED, "a namespace that the issuer did not sign")
            return
        for item in items:
            if known.get(item.digest_id) != new_hash(item.raw).digest():
                checks.failed("digests", Failure.ALTERED, "an element that the issuer did not sign")
                return
        elements = {item.element for item in items}
        if len(elements) != len(items):
            checks.failed("digests", Failure.ALTERED, "an element twice")
            return
        if not elements.isdisjoint(document.device_name_spaces.get(space, ())):
            checks.failed("digests", Failure.ALTERED, "an element twice: by the issuer and by the device")
            return
    checks.passed("digests")


def _authorizations(checks: Checklist, document: Document, security_object: MobileSecurityObject) -> None:
    """Device-signed elements count only where the issuer authorized the device key for them (9.1.2.4)."""
    for space, elements in document.device_name_spaces.items():
        if space in security_object.authorized_name_spaces:
            continue
        if any((space, element) not in security_object.authorized_elements for element in elements):
            checks.failed("key_authorizations", Failure.ALTERED, "a device-signed element without authorization")
            return
    checks.passed("key_authorizations")


def _validity(checks: Checklist, security_object: MobileSecurityObject, now: datetime, skew: timedelta) -> None:
    if now + skew < security_object.valid_from:
        checks.failed("validity", Failure.NOT_YET_VALID)
    elif now + skew < security_object.signed:
        checks.failed("validity", Failure.NOT_YET_VALID, "signed in the future")
    elif now - skew > security_object.valid_until:
        checks.failed("validity", Failure.EXPIRED)
    else:
        checks.passed("validity")


def _device(
    checks: Checklist,
    document: Document,
    security_object: MobileSecurityObject,
    transcript: SessionTranscript | None,
    reader_key: ec.EllipticCurvePrivateKey | None,
) -> None:
    good = False
    detail = "not made by the credential's device key for this session"
    key = security_object.device_key
    if transcript is None:
        detail = "the session is not known"
    else:
        expected = device_authentication(transcript, document.doc_type, document.device_name_spaces_bytes)
        if document.device_signature is not None:
            good = cose.verify_sign1(document.device_signature, key, detached=expected)
        elif document.device_mac is not None:
            if reader_key is None:
                detail = "a MAC can only be checked with the session's reader key"
            elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == reader_key.curve.name:
                secret = session.emac_key(reader_key, key, transcript.salt)
                good = cose.verify_mac0(document.device_mac, secret, expected)
            else:
                detail = "device key and reader key lie on different curves"
    checks.expect(good, "device_authentication", Failure.WRONG_SESSION, detail)


_STATUS_FAILURES = {
    TokenStatus.INVALID: Failure.REVOKED,
    TokenStatus.STALE: Failure.STATUS_STALE,
    TokenStatus.UNDETERMINED: Failure.STATUS_UNKNOWN,
}
_WORST = (TokenStatus.INVALID, TokenStatus.UNDETERMINED, TokenStatus.STALE, TokenStatus.VALID)
"""Of two lists the one that proves a revocation counts, then the one that is not at hand."""


def _status(
    checks: Checklist,
    security_object: MobileSecurityObject,
    signer: Signer | str | None,
    status: StatusLists,
    freshness: Freshness,
    facts: list[ListFacts],
    now: datetime,
    skew: timedelta,
) -> None:
    if not security_object.has_status:
        checks.skipped("status", "the credential names no status list")
        return
    worst, detail = TokenStatus.VALID, ""
    if not security_object.status:
        worst, detail = TokenStatus.UNDETERMINED, "the credential names a kind of status that is not known"
    for reference in security_object.status:
        uri = reference.uri
        if isinstance(signer, Chained | ListedIssuer):
            trusted = signer
            value, why, used = status.look_up(
                reference,
                lambda authority, trusted=trusted, uri=uri: trusted.accepts_status(uri, authority),  # type: ignore[misc]  # bound now
                freshness=freshness,
                now=now,
                skew=skew,
            )
        else:
            value, why, used = TokenStatus.UNDETERMINED, "no trusted signer whose lists would count", None
        if used is not None:
            facts.append(used)
        if _WORST.index(value) < _WORST.index(worst):
            worst, detail = value, why
    report_status(checks, worst, detail)


def report_status(checks: Checklist, value: TokenStatus, detail: str) -> None:
    """The `status` check, the same for every kind of presentation."""
    failure = _STATUS_FAILURES.get(value)
    if failure is None:
        checks.passed("status")
    else:
        checks.failed("status", failure, detail)


def _requested(checks: Checklist, document: Document, items: RequestedItems | None) -> None:
    """All that is needed is there, signed by the issuer."""
    if items is None or items.unlimited:
        checks.skipped("requested_elements", "another document type" if items is None else "the request is not known")
        return
    for space, wanted in items.needed.items():
        have = {item.element for item in document.name_spaces.get(space, ())}
        if not have.issuperset(wanted):
            checks.failed("requested_elements", Failure.MISSING_ELEMENT, "an element that is needed is missing")
            return
    checks.passed("requested_elements")
