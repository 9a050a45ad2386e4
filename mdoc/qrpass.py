"""The one-shot QR pass: a device-signed pass that fits one QR code and needs no radio.

Text: `GM1:` and base45 of the key-binding token, a COSE_Sign1 in the manner of SD-CWT key binding:

    KBT  protected {1: alg, 16: 65002, 13 (kcwt): Pass}, payload {3: aud, 6: iat, 39 (cnonce): bstr}, signed by the pass key
    Pass COSE_Sign1, protected {1: alg, 4: kid, 16: 65001}, payload {4: exp, 5: nbf, 8: {1: COSE_Key},
         -65537: [docType no., agency code, card type, access class, status list no., index]}, signed by the listed issuer

RFC 8392 (claims), RFC 8747 (cnf), RFC 9596 (typ; experimental content formats), RFC 9528 (kcwt). Anyone may film a code, so it
holds no more than that; it is fresh for seconds, names its audience (the entrance group) and opens once. The pass key is
never the mdoc device key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import base45
from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose, limits
from mdoc.cbor import ItemBudget
from mdoc.errors import MalformedError
from mdoc.freshness import NO_LIMITS, Freshness, staleness
from mdoc.issuerlist import IssuerList, ListedIssuer
from mdoc.statuslist import StatusLists, numeric_date
from mdoc.verdict import Check, Checklist, Failure, NotAcceptedError
from mdoc.verify import report_status

PREFIX = b"GM1:"
TYP_PASS, TYP_KEY_BINDING = 65001, 65002
KCWT = 13
AUD, EXP, NBF, IAT, CNF, CNONCE = 3, 4, 5, 6, 8, 39
PASS_CLAIM = -65537
"""CWT claim keys below -65536 are for private use (RFC 8392 9.1.1)."""
MIN_NONCE, MAX_NONCE = 8, 32
MAX_AGE = timedelta(seconds=15)
"""How long a shown code stays fresh; the phone draws a new one before that."""

CHECKS: Mapping[str, tuple[Failure, ...]] = {
    "structure": (Failure.MALFORMED,),
    "issuer_listed": (Failure.UNKNOWN_ISSUER, Failure.BAD_CERTIFICATE),
    "issuer_list": (Failure.ISSUER_LIST_STALE,),
    "issuer_signature": (Failure.BAD_SIGNATURE,),
    "document_type": (Failure.WRONG_DOCUMENT_TYPE,),
    "validity": (Failure.NOT_YET_VALID, Failure.EXPIRED),
    "key_binding": (Failure.WRONG_SESSION,),
    "status": (Failure.STATUS_UNKNOWN, Failure.REVOKED, Failure.STATUS_STALE),
    "audience": (Failure.WRONG_AUDIENCE,),
    "freshness": (Failure.STALE,),
    "challenge": (Failure.STALE,),
}
"""Every check and how it may fail, in the order in which the first failure becomes the reason."""


@dataclass(frozen=True, slots=True)
class PassAttributes:
    doc_type: str
    agency_code: str
    card_type: str
    access_class: str


@dataclass(frozen=True, slots=True)
class PassVerdict:
    """`reason` is None exactly when the pass is good. `mark` and `mark_until` are what single use is kept by."""

    checks: tuple[Check, ...]
    reason: Failure | None
    _attributes: PassAttributes | None
    mark: bytes
    """SHA-256 over both signed payloads: the same for every encoding of the same presentation."""
    mark_until: datetime | None
    """After this moment the freshness check refuses the code, so the mark may be forgotten."""
    key: ec.EllipticCurvePublicKey | None = None
    """The pass's own key. Names the pass: for comparing in memory, and for nothing else."""
    status: tuple[str, int] | None = None
    """Address and index of its status entry, likewise."""
    issuer: ListedIssuer | None = None

    @property
    def accepted(self) -> bool:
        return self.reason is None

    @property
    def attributes(self) -> PassAttributes:
        """Raises NotAcceptedError unless accepted."""
        if self.reason is not None or self._attributes is None:
            raise NotAcceptedError(f"refused: {self.reason}")
        return self._attributes


@dataclass(frozen=True, slots=True)
class _Pass:
    sign1: cose.Sign1
    kid: bytes
    not_before: datetime
    expires: datetime
    key: ec.EllipticCurvePublicKey
    doc_type: int
    agency_code: str
    card_type: str
    access_class: str
    status_list: int
    status_index: int


@dataclass(frozen=True, slots=True)
class _KeyBinding:
    sign1: cose.Sign1
    card: _Pass
    audience: str
    issued_at: datetime
    nonce: bytes


def _payload(sign1: cose.Sign1, typ: int, what: str) -> tuple[bytes, dict[Any, Any]]:
    found = sign1.protected.get(cose.TYP)
    if type(found) is not int or found != typ or sign1.payload is None:
        raise MalformedError(f"{what}: type header or payload is missing")
    return sign1.payload, cbor.decode_map(sign1.payload, budget=ItemBudget(limits.MAX_PASS_ITEMS))


def _parse_pass(value: Any) -> _Pass:
    sign1 = cose.parse_sign1(value, "pass")
    _, claims = _payload(sign1, TYP_PASS, "pass")
    kid, confirmation, row = sign1.protected.get(cose.KID), claims.get(CNF), claims.get(PASS_CLAIM)
    if type(kid) is not bytes or type(confirmation) is not dict:
        raise MalformedError("pass: kid and cnf are expected")
    match row:
        case [int(doc_type), str(agency), str(card_type), str(access_class), int(list_number), int(index)] if (
            doc_type >= 0 and list_number >= 0 and index >= 0 and not any(type(entry) is bool for entry in row)
        ):
            pass
        case _:
            raise MalformedError("pass: its own claim has the wrong form")
    return _Pass(
        sign1,
        kid,
        numeric_date(claims.get(NBF), "nbf"),
        numeric_date(claims.get(EXP), "exp"),
        cose.ec_public_key(confirmation.get(1), "cnf"),
        doc_type,
        agency,
        card_type,
        access_class,
        list_number,
        index,
    )


def _parse(text: bytes) -> _KeyBinding:
    if not text.startswith(PREFIX) or len(text) > limits.MAX_QR_PASS:
        raise MalformedError("not a pass")
    try:
        raw = base45.b45decode(text[len(PREFIX) :])
    except ValueError as error:
        raise MalformedError("not base45") from error
    sign1 = cose.parse_sign1(cbor.decode(raw, budget=ItemBudget(limits.MAX_PASS_ITEMS)), "key binding")
    _, claims = _payload(sign1, TYP_KEY_BINDING, "key binding")
    audience, nonce = claims.get(AUD), claims.get(CNONCE)
    if type(audience) is not str or type(nonce) is not bytes or not MIN_NONCE <= len(nonce) <= MAX_NONCE:
        raise MalformedError("key binding: aud and cnonce are expected")
    return _KeyBinding(
        sign1,
        _parse_pass(sign1.protected.get(KCWT)),
        audience,
        numeric_date(claims.get(IAT), "iat"),
        nonce,
    )


def verify_pass(
    text: bytes,
    *,
    audience: str,
    issuers: IssuerList,
    status: StatusLists,
    now: datetime,
    clock_error: timedelta = timedelta(0),
    max_age: timedelta = MAX_AGE,
    challenges: Collection[bytes] | None = None,
    freshness: Freshness = NO_LIMITS,
) -> PassVerdict:
    """Verify the text of a pass shown at an entrance of group `audience`.

    `challenges`: where the lane's display shows one, the challenges still good; None where it shows none. Single use is the
    caller's part (`mark`). `freshness` holds the zone's maximum ages of issuer list and status list. Never raises for what
    the text holds.
    """
    checks = Checklist()
    try:
        binding = _parse(text)
    except MalformedError as error:
        checks.failed("structure", Failure.MALFORMED, str(error))
        return PassVerdict(tuple(checks.checks), checks.reason, None, b"", None)
    checks.passed("structure")
    card = binding.card
    issuer = _issuer(checks, card, issuers, now, clock_error, freshness)
    doc_type = None
    if issuer is not None and card.doc_type < len(issuer.doc_types):
        doc_type = issuer.doc_types[card.doc_type]
    checks.expect(
        doc_type is not None, "document_type", Failure.WRONG_DOCUMENT_TYPE, "a type that the issuer is not listed for"
    )
    if now + clock_error < card.not_before:
        checks.failed("validity", Failure.NOT_YET_VALID)
    elif now - clock_error > card.expires:
        checks.failed("validity", Failure.EXPIRED)
    else:
        checks.passed("validity")
    bound = cose.verify_sign1(binding.sign1, card.key)
    checks.expect(bound, "key_binding", Failure.WRONG_SESSION, "not signed by the pass's key")
    uri = None
    if issuer is None or card.status_list >= len(issuer.status_lists):
        checks.failed("status", Failure.STATUS_UNKNOWN, "no such status list")
    else:
        uri = issuer.status_lists[card.status_list]
        report_status(checks, *status.judge(uri, card.status_index, now, clock_error, freshness))
    checks.expect(binding.audience == audience, "audience", Failure.WRONG_AUDIENCE, "made for another entrance")
    age = now - binding.issued_at
    # iat is cut to whole seconds, so a code may look one second older than it is, never younger.
    fresh = -clock_error - timedelta(seconds=1) <= age <= max_age + clock_error
    checks.expect(fresh, "freshness", Failure.STALE, "too old, or from the future")
    if challenges is None:
        checks.skipped("challenge", "this lane shows none")
    else:
        checks.expect(binding.nonce in challenges, "challenge", Failure.STALE, "not the challenge shown here")
    attributes = None
    if doc_type is not None:
        attributes = PassAttributes(doc_type, card.agency_code, card.card_type, card.access_class)
    signed = hashlib.sha256(card.sign1.payload or b"").digest() + hashlib.sha256(binding.sign1.payload or b"").digest()
    return PassVerdict(
        tuple(checks.checks),
        checks.reason,
        attributes,
        hashlib.sha256(signed).digest(),
        binding.issued_at + max_age + 2 * clock_error + timedelta(seconds=2),
        card.key,
        uri if uri is None else (uri, card.status_index),
        issuer,
    )


def _issuer(
    checks: Checklist,
    card: _Pass,
    issuers: IssuerList,
    now: datetime,
    clock_error: timedelta,
    freshness: Freshness,
) -> ListedIssuer | None:
    issuer = issuers.find(card.kid)
    if issuer is None:
        checks.failed("issuer_listed", Failure.UNKNOWN_ISSUER, "no issuer of this name on the signed list")
        checks.skipped("issuer_list", "no listed issuer")
        checks.skipped("issuer_signature", "no listed issuer")
        return None
    dated = issuer.not_before - clock_error <= now <= issuer.not_after + clock_error
    checks.expect(dated, "issuer_listed", Failure.BAD_CERTIFICATE, "outside the dates of the issuer's entry")
    problem = staleness(issuer.source, freshness, now, clock_error)
    checks.expect(problem is None, "issuer_list", Failure.ISSUER_LIST_STALE, f"the list is {problem}")
    checks.expect(cose.verify_sign1(card.sign1, issuer.key), "issuer_signature", Failure.BAD_SIGNATURE)
    return issuer


def build_pass(
    *,
    kid: bytes,
    issuer_key: ec.EllipticCurvePrivateKey,
    pass_key: ec.EllipticCurvePublicKey,
    not_before: datetime,
    expires: datetime,
    doc_type: int,
    agency_code: str,
    card_type: str,
    access_class: str,
    status_list: int,
    status_index: int,
) -> list[Any]:
    """A pass as the issuer hands it to the phone (COSE_Sign1 array)."""
    claims = {
        EXP: int(expires.timestamp()),
        NBF: int(not_before.timestamp()),
        CNF: {1: cose.cose_key(pass_key, compressed=True)},
        PASS_CLAIM: [doc_type, agency_code, card_type, access_class, status_list, status_index],
    }
    return cose.build_sign1(issuer_key, cbor.encode(claims), protected={cose.KID: kid, cose.TYP: TYP_PASS})


def present_pass(
    card: list[Any], pass_key: ec.EllipticCurvePrivateKey, *, audience: str, now: datetime, nonce: bytes
) -> bytes:
    """The text to show as a QR code (holder's side). `nonce` is fresh random, or the lane's challenge."""
    claims = {AUD: audience, IAT: int(now.timestamp()), CNONCE: nonce}
    sign1 = cose.build_sign1(pass_key, cbor.encode(claims), protected={cose.TYP: TYP_KEY_BINDING, KCWT: card})
    return PREFIX + bytes(base45.b45encode(cbor.encode(sign1)))
