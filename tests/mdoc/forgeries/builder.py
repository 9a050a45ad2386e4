"""A whole presentation, step by step, with a hook at every step: what a forger with any of the keys could send."""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mdoc import identifierlist, issuerlist, statuslist, vical
from mdoc.cbor import Encoded
from mdoc.certificates import Anchor, Settings, TrustAnchors, read
from mdoc.crl import Crl
from mdoc.crl import parse as parse_crl
from mdoc.errors import MdocError
from mdoc.issuerlist import IssuerList
from mdoc.request import RequestedItems
from mdoc.statuslist import StatusLists
from mdoc.transcript import QrHandover, SessionTranscript
from mdoc.verdict import Failure, Verdict
from mdoc.verify import verify_response
from tests.conftest import NOW
from tests.mdoc.forgeries import x509
from tests.mdoc.forgeries.wire import Hook, Raw, Tagged, unchanged, write
from tests.mdoc.forgeries.x509 import DAY, PrivateKey, key

DOC_TYPE = "kr.go.civilservant.1"
SPACE = "kr.go.civilservant.1"
OTHER_SPACE = "kr.go.civilservant.agency.1"
MDL = "org.iso.18013.5.1.mDL"
ELEMENTS: Mapping[str, Mapping[str, Any]] = {
    SPACE: {"agency_code": "1741000", "card_type": "staff", "access_class": "general"},
    OTHER_SPACE: {"agency_code": "1741000", "floor": 3},
}
UNDISCLOSED = "clearance"
"""Of SPACE: issued, signed, not asked for and not shown."""
ASKED = RequestedItems(DOC_TYPE, {space: tuple(names) for space, names in ELEMENTS.items()})

ROOT, SIGNER, DEVICE, READER, STRANGER = key(1), key(2), key(3), key(4), key(5)
KID = b"did:example:issuer#1"
STATUS_URI, IDENTIFIER_URI = "https://example.org/status/1", "https://example.org/identifiers/1"
_ALGORITHMS = {"secp256r1": -7, "secp384r1": -35, "secp521r1": -36, "brainpoolP256r1": -7, "secp256k1": -47}
_CURVES = {"secp256r1": 1, "secp384r1": 2, "secp521r1": 3, "brainpoolP256r1": 256, "secp256k1": 8}


def algorithm(private: PrivateKey) -> int:
    return _ALGORITHMS[private.curve.name] if isinstance(private, ec.EllipticCurvePrivateKey) else -8


def cose_key(private: PrivateKey) -> dict[int, Any]:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        bits = x509.key_bits(private)[1:]
        half = len(bits) // 2
        return {1: 2, -1: _CURVES[private.curve.name], -2: bits[:half], -3: bits[half:]}
    bits = x509.key_bits(private)
    return {1: 1, -1: 6 if len(bits) == 32 else 7, -2: bits}


def date(moment: datetime) -> Tagged:
    return Tagged(0, moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


@cache
def root_der() -> bytes:
    return x509.root(ROOT).der()


@cache
def signer_der() -> bytes:
    return x509.signer(SIGNER, ROOT).der()


ENGAGEMENT = write({0: "1.0", 1: [1, Tagged(24, write(cose_key(key(6))))]})


def session_transcript(reader: PrivateKey = READER, engagement: bytes = ENGAGEMENT, handover: Any = None) -> bytes:
    return write([Tagged(24, engagement), Tagged(24, write(cose_key(reader))), handover])


def verifier_transcript(reader: PrivateKey = READER) -> SessionTranscript:
    """The gate's side of the same session."""
    plain = write(cose_key(reader))
    return SessionTranscript.build(ENGAGEMENT, Encoded(write(Tagged(24, plain)), plain), QrHandover())


def emac_key(private: PrivateKey, public: PrivateKey, transcript: bytes, info: bytes = b"EMacKey") -> bytes:
    """From one side's private key and the other side's pair."""
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(public, ec.EllipticCurvePrivateKey)
    shared = private.exchange(ec.ECDH(), public.public_key())
    salt = hashlib.sha256(write(Tagged(24, transcript))).digest()
    return HKDF(hashes.SHA256(), 32, salt, info).derive(shared)


_HASHES = {"SHA-256": hashlib.sha256, "SHA-384": hashlib.sha384, "SHA-512": hashlib.sha512}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One document, in the order in which it comes about. Each hook gets one part and gives what takes its place."""

    doc_type: str = DOC_TYPE
    elements: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: ELEMENTS)
    key: PrivateKey = SIGNER
    """Signs the MSO."""
    chain: Sequence[bytes] | None = None
    """x5chain; None for the genuine signer's certificate alone."""
    kid: bytes | None = None
    """In place of x5chain."""
    device: PrivateKey = DEVICE
    holder: PrivateKey | None = None
    """Answers in place of the device key."""
    mac: bool = False
    digest: str = "SHA-256"
    status: Mapping[str, Any] | None = None
    salt: str = ""
    """Another one makes another credential of the same elements."""
    item: Hook = unchanged
    """On each item's map; gives a map or Raw."""
    item_bytes: Hook = unchanged
    """On the bytes inside the tag of each item, before its digest."""
    digests: Hook = unchanged
    """On {namespace: {digestID: digest}}."""
    mso: Hook = unchanged
    mso_bytes: Hook = unchanged
    payload: Hook = unchanged
    """On the bytes of #6.24(bstr MSO)."""
    protected: Hook = unchanged
    """On the protected header's map; bytes that it gives are taken as they are."""
    unprotected: Hook = unchanged
    issuer_tbs: Hook = unchanged
    """On the Sig_structure, as a list."""
    issuer_signature: Hook = unchanged
    issuer_auth: Hook = unchanged
    released: Hook = unchanged
    """On {namespace: [IssuerSignedItemBytes]}, after issuing."""
    device_spaces: Hook = unchanged
    """On {}, what the device says itself."""
    device_spaces_bytes: Hook = unchanged
    reader: PrivateKey = READER
    """The gate's key of this session."""
    transcript: bytes | None = None
    """The session the device answered in; None for the gate's own."""
    device_content: Hook = unchanged
    """On DeviceAuthentication, as a list."""
    device_detached: Hook = unchanged
    """On DeviceAuthenticationBytes."""
    device_protected: Hook = unchanged
    device_unprotected: Hook = unchanged
    device_tbs: Hook = unchanged
    """On the Sig_structure or MAC_structure, as a list."""
    mac_key: Hook = unchanged
    device_proof: Hook = unchanged
    """On the signature or tag."""
    device_cose: Hook = unchanged
    """On the COSE array."""
    device_auth: Hook = unchanged
    device_signed: Hook = unchanged
    issuer_signed: Hook = unchanged
    document: Hook = unchanged

    def issued_items(self) -> tuple[dict[str, list[bytes]], dict[str, dict[int, bytes]]]:
        """Items to show, encoded, and the digests of all."""
        items: dict[str, list[bytes]] = {}
        digests: dict[str, dict[int, bytes]] = {}
        for space, elements in self.elements.items():
            everything = {**elements, UNDISCLOSED: "top"} if space == SPACE else dict(elements)
            for number, (element, value) in enumerate(everything.items()):
                seed = hashlib.sha256(f"{self.salt} {space} {element}".encode()).digest()
                body = {"digestID": number, "random": seed, "elementIdentifier": element, "elementValue": value}
                plain: bytes = self.item_bytes(write(self.item(body)))
                encoded = write(Tagged(24, plain))
                digests.setdefault(space, {})[number] = _HASHES[self.digest](encoded).digest()
                if element != UNDISCLOSED:
                    items.setdefault(space, []).append(encoded)
        return items, digests

    def hidden_item(self) -> bytes:
        """The item that is issued and not shown."""
        seed = hashlib.sha256(f"{self.salt} {SPACE} {UNDISCLOSED}".encode()).digest()
        number = len(self.elements[SPACE])
        body = {"digestID": number, "random": seed, "elementIdentifier": UNDISCLOSED, "elementValue": "top"}
        return write(Tagged(24, write(body)))

    def security_object(self, digests: Mapping[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "version": "1.0",
            "digestAlgorithm": self.digest,
            "valueDigests": digests,
            "docType": self.doc_type,
            "deviceKeyInfo": {"deviceKey": cose_key(self.device)},
            "validityInfo": {
                "signed": date(NOW - 2 * DAY),
                "validFrom": date(NOW - 2 * DAY),
                "validUntil": date(NOW + 30 * DAY),
            },
        }
        if self.status is not None:
            body["status"] = self.status
        return body

    def issuer_cose(self, digests: Mapping[str, Any]) -> Any:
        plain: bytes = self.mso_bytes(write(self.mso(self.security_object(self.digests(digests)))))
        payload = self.payload(write(Tagged(24, plain)))
        chain = [signer_der()] if self.chain is None else list(self.chain)
        header: dict[Any, Any] = {33: chain[0] if len(chain) == 1 else chain}
        protected = self.protected({1: algorithm(self.key)})
        if self.kid is not None:
            header = {4: self.kid}
        raw = protected if isinstance(protected, bytes) else write(protected)
        structure = self.issuer_tbs(["Signature1", raw, b"", payload])
        signature = self.issuer_signature(x509.raw_signature(self.key, write(structure)))
        return self.issuer_auth([raw, self.unprotected(header), payload, signature])

    def device_part(self) -> dict[str, Any]:
        transcript = session_transcript(self.reader) if self.transcript is None else self.transcript
        spaces = write(Tagged(24, self.device_spaces_bytes(write(self.device_spaces({})))))
        content = self.device_content(["DeviceAuthentication", Raw(transcript), self.doc_type, Raw(spaces)])
        detached = self.device_detached(write(Tagged(24, write(content))))
        holder = self.holder or self.device
        protected = self.device_protected({1: 5 if self.mac else algorithm(holder)})
        raw = protected if isinstance(protected, bytes) else write(protected)
        structure = write(self.device_tbs(["MAC0" if self.mac else "Signature1", raw, b"", detached]))
        if self.mac:
            secret = self.mac_key(emac_key(holder, self.reader, transcript))
            proof = hmac.digest(secret, structure, "sha256")
        else:
            proof = x509.raw_signature(holder, structure)
        array = self.device_cose([raw, self.device_unprotected({}), None, self.device_proof(proof)])
        kind = "deviceMac" if self.mac else "deviceSignature"
        return {"nameSpaces": Raw(spaces), "deviceAuth": self.device_auth({kind: array})}

    def build(self) -> Any:
        """The document: a map ready to be written, or Raw."""
        items, digests = self.issued_items()
        issuer_auth = self.issuer_cose(digests)
        shown = {space: [Raw(item) for item in entries] for space, entries in items.items()}
        signed = self.issuer_signed({"nameSpaces": self.released(shown), "issuerAuth": issuer_auth})
        return self.document(
            {
                "docType": self.doc_type,
                "issuerSigned": signed,
                "deviceSigned": self.device_signed(self.device_part()),
            }
        )


def response(*plans: Plan, body: Hook = unchanged, raw: Hook = unchanged) -> bytes:
    """A DeviceResponse of these documents."""
    made: bytes = raw(write(body({"version": "1.0", "documents": [plan.build() for plan in plans], "status": 0})))
    return made


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What the verifier knows. The defaults fit the default plan."""

    asked: RequestedItems | Sequence[RequestedItems] = ASKED
    trust: TrustAnchors | None = None
    status: StatusLists = field(default_factory=StatusLists)
    now: datetime = NOW
    reader: PrivateKey = READER
    more: Mapping[str, Any] = field(default_factory=dict)

    def verify(self, raw: bytes) -> Verdict:
        assert isinstance(self.reader, ec.EllipticCurvePrivateKey)
        return verify_response(
            raw,
            transcript=verifier_transcript(self.reader),
            reader_key=self.reader,
            requested=self.asked,
            trust=trusted() if self.trust is None else self.trust,
            status=self.status,
            now=self.now,
            **self.more,
        )


@dataclass(frozen=True, kw_only=True)
class Forgery:
    name: str
    clause: str
    """Of ISO/IEC 18013-5, or the document named."""
    raw: bytes
    expected: frozenset[Failure]
    gate: Gate = field(default_factory=Gate)


def expect(*failures: Failure) -> frozenset[Failure]:
    return frozenset(failures)


def anchors(
    *ders: bytes, crls: Sequence[bytes] = (), issuers: bytes | None = None, settings: Settings | None = None
) -> TrustAnchors:
    """Trust in these roots. A list that cannot be used is left out, as a trust directory leaves it out."""
    roots = [read(der) for der in ders]
    lists: list[Crl] = []
    for entry in crls:
        try:
            lists.append(parse_crl(entry, roots))
        except MdocError:
            continue
    named: IssuerList | None = None
    if issuers is not None:
        public = LIST_KEY.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        try:
            named = issuerlist.parse(issuers, public)
        except MdocError:
            named = None
    chosen = settings or Settings()
    return TrustAnchors([Anchor.from_certificate(entry, settings=chosen) for entry in roots], crls=lists, issuers=named)


def attempt(der: bytes) -> TrustAnchors:
    """Trust in this root if it is one."""
    try:
        return TrustAnchors([Anchor.from_certificate(read(der))])
    except MdocError:
        return TrustAnchors([])


LIST_KEY = key(7)


@cache
def trusted() -> TrustAnchors:
    """The genuine root, once."""
    return anchors(root_der())


def sign1(
    private: PrivateKey, payload: bytes, protected: Mapping[Any, Any], unprotected: Mapping[Any, Any]
) -> list[Any]:
    raw = write({1: algorithm(private), **protected})
    signature = x509.raw_signature(private, write(["Signature1", raw, b"", payload]))
    return [raw, dict(unprotected), payload, signature]


def issuer_list(private: PrivateKey = LIST_KEY, entry: Hook = unchanged, body: Hook = unchanged) -> bytes:
    """A list that names SIGNER by KID."""
    row = {
        "kid": KID,
        "key": cose_key(SIGNER),
        "docTypes": [DOC_TYPE],
        "notBefore": date(NOW - 60 * DAY),
        "notAfter": date(NOW + 60 * DAY),
        "statusLists": [STATUS_URI],
    }
    payload = write(body({"version": 1, "date": date(NOW - DAY), "issuers": [entry(row)]}))
    return write(Tagged(18, sign1(private, payload, {16: "application/gwanmun-issuers+cbor"}, {})))


@cache
def status_signer_der() -> bytes:
    draft = x509.signer(key(8), ROOT)
    return replace(draft, extensions=x509.without(draft, x509.EKU)).der()


def status_token(
    *,
    private: PrivateKey = key(8),  # noqa: B008  a fixed key
    chain: bytes | list[bytes] | None = None,
    claims: Hook = unchanged,
    protected: Hook = unchanged,
    outer: Hook = unchanged,
    entries: bytes = b"\x00\x02",
    packed: bytes | None = None,
    media_type: str = "application/statuslist+cwt",
) -> bytes:
    """A Status List Token of 16 one-bit entries, of which number 9 is revoked."""
    lst = zlib.compress(entries) if packed is None else packed
    body = {
        2: STATUS_URI,
        6: int((NOW - DAY).timestamp()),
        4: int((NOW + DAY).timestamp()),
        65533: {"bits": 1, "lst": lst},
    }
    header = protected({16: media_type, 33: status_signer_der() if chain is None else chain})
    return write(outer(Tagged(18, sign1(private, write(claims(body)), header, {}))))


def identifier_token(*, private: PrivateKey = key(8), claims: Hook = unchanged, protected: Hook = unchanged) -> bytes:  # noqa: B008
    """An identifier list that revokes b"revoked"."""
    body = {
        2: IDENTIFIER_URI,
        6: int((NOW - DAY).timestamp()),
        4: int((NOW + DAY).timestamp()),
        65530: {"identifiers": {b"revoked": {}}},
    }
    header = protected({16: "application/identifierlist+cwt", 33: status_signer_der()})
    return write(Tagged(18, sign1(private, write(claims(body)), header, {})))


def lists(*tokens: bytes, trust: TrustAnchors | None = None) -> StatusLists:
    """The lists that can be used; the others are left out, as a trust directory leaves them out."""
    found: list[statuslist.AnyList] = []
    for token in tokens:
        for load in (statuslist.parse_token, identifierlist.parse_token):
            try:
                found.append(load(token, trust or trusted(), unanchored=True))
                break
            except MdocError:
                continue
    return StatusLists(found)


VICAL_ROOT, VICAL_SIGNER = key(9), key(10)
_VICAL_NAME = ((x509.COUNTRY, "KR"), (x509.COMMON_NAME, "List root"))


def vical_token(
    *,
    types: Sequence[str] = (DOC_TYPE,),
    private: PrivateKey = VICAL_SIGNER,
    signer: Hook = unchanged,
    payload: Hook = unchanged,
    entry: Hook = unchanged,
) -> bytes:
    """A VICAL that lists the genuine root for `types`."""
    draft = signer(x509.signer(VICAL_SIGNER, VICAL_ROOT, _VICAL_NAME, "1.0.18013.5.1.8"))
    info = entry({"certificate": root_der(), "ski": x509.identifier(ROOT), "docType": list(types)})
    body = {"version": "1.0", "vicalProvider": "Site", "date": date(NOW - DAY), "certificateInfos": [info]}
    return write(sign1(private, write(payload(body)), {}, {33: draft.der()}))


def vical_trust(token: bytes) -> TrustAnchors:
    """Trust in what a VICAL lists. One that does not hold lists nobody."""
    root = read(x509.root(VICAL_ROOT, _VICAL_NAME).der())
    try:
        return TrustAnchors(vical.parse(token, [root]).anchors)
    except MdocError:
        return TrustAnchors([])
