"""Inspection of a device response (18013-5 9.3): a straight list of named checks, in published order.

All checks run even after one has failed, so that `gwanmun inspect` and a guard can see the whole picture; the first failure
is the reason. Not checked here, and left to the caller: what the elements allow (policy), single use, the lane.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cose, mso, session
from mdoc.certificates import (
    DOCUMENT_SIGNER_PROFILE,
    Chained,
    TrustAnchors,
    chain_from_header,
    load_der,
    verification_key,
)
from mdoc.errors import MalformedError
from mdoc.mso import MobileSecurityObject
from mdoc.request import RequestedItems
from mdoc.response import STATUS_OK, DeviceResponse, Document, device_authentication
from mdoc.statuslist import StatusLists, TokenStatus
from mdoc.transcript import SessionTranscript
from mdoc.verdict import Checklist, Failure, Verdict

CHECKS: Mapping[str, tuple[Failure, ...]] = {
    "structure": (Failure.MALFORMED,),
    "document_returned": (Failure.HOLDER_DECLINED,),
    "nothing_unasked": (Failure.MALFORMED,),
    "issuer_chain": (Failure.UNKNOWN_ISSUER, Failure.BAD_CERTIFICATE),
    "certificate_dates": (Failure.BAD_CERTIFICATE,),
    "signed_within_certificate": (Failure.BAD_CERTIFICATE,),
    "issuer_signature": (Failure.BAD_SIGNATURE,),
    "document_type": (Failure.WRONG_DOCUMENT_TYPE,),
    "digests": (Failure.ALTERED,),
    "key_authorizations": (Failure.ALTERED,),
    "validity": (Failure.NOT_YET_VALID, Failure.EXPIRED),
    "device_authentication": (Failure.WRONG_SESSION,),
    "status": (Failure.STATUS_UNKNOWN, Failure.REVOKED),
    "requested_elements": (Failure.MISSING_ELEMENT,),
}
"""Every check and how it may fail, in the order in which the first failure becomes the reason."""


def verify_response(
    response: bytes,
    *,
    transcript: SessionTranscript,
    reader_key: ec.EllipticCurvePrivateKey | None,
    requested: RequestedItems,
    trust: TrustAnchors,
    status: StatusLists,
    now: datetime,
    skew: timedelta = timedelta(0),
) -> Verdict:
    """Verify a decrypted DeviceResponse.

    `reader_key` is the session's ephemeral reader key; it is needed to check a deviceMac and may be None where there is
    none (a response taken from a file). `now` is aware; `skew` widens every date comparison by the clock's error bound.
    Never raises for what the response holds.
    """
    checks = Checklist()
    try:
        parsed = DeviceResponse.parse(response)
        if not parsed.documents:
            checks.passed("structure")
            checks.failed("document_returned", Failure.HOLDER_DECLINED, f"status {parsed.status}, no document")
            return checks.verdict()
        if parsed.status != STATUS_OK or len(parsed.documents) != 1:
            raise MalformedError("one document and status 0 are expected")
        document = parsed.documents[0]
        payload = document.issuer_auth.payload
        if payload is None:
            raise MalformedError("issuerAuth without payload")
        security_object = mso.parse(payload)
        leaf = chain_from_header(document.issuer_auth.unprotected.get(cose.X5CHAIN))[0]
        signer, chain_problem = _signer(leaf, trust)
    except MalformedError as error:
        checks.failed("structure", Failure.MALFORMED, str(error))
        return checks.verdict()
    checks.passed("structure")
    checks.passed("document_returned")
    _nothing_unasked(checks, document, requested)
    _issuer(checks, document, security_object, leaf, signer, chain_problem, now, skew)
    _document_type(checks, document, security_object, requested)
    _digests(checks, document, security_object)
    _authorizations(checks, document, security_object)
    _validity(checks, security_object, now, skew)
    _device(checks, document, security_object, transcript, reader_key)
    _status(checks, security_object, signer, status, now, skew)
    _requested(checks, document, requested)
    elements = {space: {item.element: item.value for item in items} for space, items in document.name_spaces.items()}
    return checks.verdict(security_object.doc_type, elements)


def _signer(leaf: bytes, trust: TrustAnchors) -> tuple[Chained | None, str | None]:
    found = trust.issued(leaf, DOCUMENT_SIGNER_PROFILE)
    return (found, None) if isinstance(found, Chained) else (None, found)


def _issuer(
    checks: Checklist,
    document: Document,
    security_object: MobileSecurityObject,
    leaf: bytes,
    signer: Chained | None,
    problem: str | None,
    now: datetime,
    skew: timedelta,
) -> None:
    if signer is None and problem is None:
        checks.failed("issuer_chain", Failure.UNKNOWN_ISSUER, "no trusted issuing authority issued the signer")
    elif signer is None:
        checks.failed("issuer_chain", Failure.BAD_CERTIFICATE, problem or "")
    else:
        checks.passed("issuer_chain")
    if signer is None:
        checks.skipped("certificate_dates", "no trusted signer")
        checks.skipped("signed_within_certificate", "no trusted signer")
    else:
        dated = signer.dated(now) or signer.dated(now - skew) or signer.dated(now + skew)
        checks.expect(dated, "certificate_dates", Failure.BAD_CERTIFICATE, "outside the certificates' dates")
        inside = signer.not_before <= security_object.signed <= signer.not_after
        checks.expect(inside, "signed_within_certificate", Failure.BAD_CERTIFICATE, "signed outside the signer's dates")
    try:
        key = signer.key if signer is not None else verification_key(load_der(leaf))
        good = cose.verify_sign1(document.issuer_auth, key)
    except MalformedError:
        good = False
    checks.expect(good, "issuer_signature", Failure.BAD_SIGNATURE)


def _document_type(
    checks: Checklist, document: Document, security_object: MobileSecurityObject, requested: RequestedItems
) -> None:
    good = document.doc_type == security_object.doc_type == requested.doc_type
    checks.expect(good, "document_type", Failure.WRONG_DOCUMENT_TYPE, "response, MSO and request do not agree")


def _digests(checks: Checklist, document: Document, security_object: MobileSecurityObject) -> None:
    """Each item has a digest in the same namespace, and no digest or element is used twice (9.3.1, step 3)."""
    new_hash = {"SHA-256": hashlib.sha256, "SHA-384": hashlib.sha384, "SHA-512": hashlib.sha512}[
        security_object.digest_algorithm
    ]
    for space, items in document.name_spaces.items():
        known = security_object.value_digests.get(space)
        if known is None:
            checks.failed("digests", Failure.ALTERED, "a namespace that the issuer did not sign")
            return
        for item in items:
            if known.get(item.digest_id) != new_hash(item.raw).digest():
                checks.failed("digests", Failure.ALTERED, "an element that the issuer did not sign")
                return
        if len({item.element for item in items}) != len(items):
            checks.failed("digests", Failure.ALTERED, "an element twice")
            return
    checks.passed("digests")


def _validity(checks: Checklist, security_object: MobileSecurityObject, now: datetime, skew: timedelta) -> None:
    if now + skew < security_object.valid_from:
        checks.failed("validity", Failure.NOT_YET_VALID)
    elif now - skew > security_object.valid_until:
        checks.failed("validity", Failure.EXPIRED)
    else:
        checks.passed("validity")


def _device(
    checks: Checklist,
    document: Document,
    security_object: MobileSecurityObject,
    transcript: SessionTranscript,
    reader_key: ec.EllipticCurvePrivateKey | None,
) -> None:
    expected = device_authentication(transcript, document.doc_type, document.device_name_spaces_bytes)
    good = False
    detail = "not made by the credential's device key for this session"
    if document.device_signature is not None:
        good = cose.verify_sign1(document.device_signature, security_object.device_key, detached=expected)
    elif document.device_mac is not None:
        key = security_object.device_key
        if reader_key is None:
            detail = "a MAC can only be checked with the session's reader key"
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == reader_key.curve.name:
            good = cose.verify_mac0(document.device_mac, session.emac_key(reader_key, key, transcript.salt), expected)
    checks.expect(good, "device_authentication", Failure.WRONG_SESSION, detail)


def _authorizations(checks: Checklist, document: Document, security_object: MobileSecurityObject) -> None:
    """Device-signed elements count only where the issuer authorized the device key for them (9.1.2.4)."""
    for space, elements in document.device_name_spaces.items():
        if space in security_object.authorized_name_spaces:
            continue
        if any((space, element) not in security_object.authorized_elements for element in elements):
            checks.failed("key_authorizations", Failure.ALTERED, "a device-signed element without authorization")
            return
    checks.passed("key_authorizations")


def _status(
    checks: Checklist,
    security_object: MobileSecurityObject,
    signer: Chained | None,
    status: StatusLists,
    now: datetime,
    skew: timedelta,
) -> None:
    reference = security_object.status_list
    if not security_object.has_status:
        checks.skipped("status", "the credential names no status list")
        return
    entry = None if reference is None else status.find(reference.uri)
    if reference is None or entry is None:
        checks.failed("status", Failure.STATUS_UNKNOWN, "no cached list at the credential's address")
        return
    if signer is not None and entry.anchor.certificate != signer.anchor.certificate:
        checks.failed("status", Failure.STATUS_UNKNOWN, "the list is another issuing authority's")
        return
    value, detail = status.judge(reference.uri, reference.index, now, skew)
    report_status(checks, value, detail)


def report_status(checks: Checklist, value: TokenStatus, detail: str) -> None:
    """The `status` check, the same for every kind of presentation."""
    if value is TokenStatus.VALID:
        checks.passed("status")
    else:
        revoked = value is TokenStatus.INVALID
        checks.failed("status", Failure.REVOKED if revoked else Failure.STATUS_UNKNOWN, detail)


def _nothing_unasked(checks: Checklist, document: Document, requested: RequestedItems) -> None:
    """Another document has other elements; its type is the reason then."""
    if document.doc_type != requested.doc_type:
        checks.skipped("nothing_unasked", "another document type")
        return
    for space, items in document.name_spaces.items():
        asked = requested.elements.get(space, ())
        if any(item.element not in asked for item in items):
            checks.failed("nothing_unasked", Failure.MALFORMED, "an element that nobody asked for")
            return
    checks.passed("nothing_unasked")


def _requested(checks: Checklist, document: Document, requested: RequestedItems) -> None:
    """All that was asked is there, signed by the issuer."""
    for space, wanted in requested.elements.items():
        have = {item.element for item in document.name_spaces.get(space, ())}
        if not have.issuperset(wanted):
            checks.failed("requested_elements", Failure.MISSING_ELEMENT, "an element that was asked is missing")
            return
    checks.passed("requested_elements")
