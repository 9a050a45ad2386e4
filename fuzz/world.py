"""What the targets verify against, and the genuine messages that seed them: one authority, one phone, one session. No vector
is copied here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import cbor, cose, holder, identifierlist, issuerlist, qrpass, statuslist, vical
from mdoc.cbor import Encoded, Tag
from mdoc.certificates import Anchor, TrustAnchors, read
from mdoc.engagement import BleOptions, NfcOptions, build_engagement
from mdoc.issuerlist import IssuerList
from mdoc.ndef_handover import BleCarrier, HandoverRequest, LeRole, build_handover_request, build_handover_select
from mdoc.request import ReaderIdentity, RequestedItems, build_request
from mdoc.statuslist import StatusLists
from mdoc.transcript import QrHandover, SessionTranscript
from testbed import certificates
from testbed.authority import DOC_TYPE, NAME_SPACE, Authority, canary_person, read_private

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
ASKED = ("agency_code", "card_type", "access_class")
AUDIENCE = "main"
SERVICE = UUID("b3d52ac4-a1b6-4b51-a22e-78ee55ef6eb6")


@dataclass(frozen=True, slots=True)
class World:
    trust: TrustAnchors
    status: StatusLists
    issuers: IssuerList
    list_key: ec.EllipticCurvePrivateKey
    status_key: ec.EllipticCurvePrivateKey
    status_certificate: bytes
    provider_key: ec.EllipticCurvePrivateKey
    provider_chain: tuple[bytes, ...]
    provider_root: bytes
    authority: bytes
    authority_key: ec.EllipticCurvePrivateKey
    transcript: SessionTranscript
    reader_key: ec.EllipticCurvePrivateKey
    requested: RequestedItems
    handover_request: HandoverRequest
    messages: Mapping[str, bytes]
    """Genuine messages by kind."""

    # What lies behind a signature check is fuzzed as well: a good signature around any payload.

    def status_token(self, payload: bytes, media_type: str) -> bytes:
        header = {cose.TYP: media_type, cose.X5CHAIN: self.status_certificate}
        return cbor.encode(Tag(cose.TAG_SIGN1, cose.build_sign1(self.status_key, payload, protected=header)))

    def vical(self, payload: bytes) -> bytes:
        header = {cose.X5CHAIN: list(self.provider_chain)}
        return cbor.encode(cose.build_sign1(self.provider_key, payload, unprotected=header))

    def issuer_list(self, payload: bytes) -> bytes:
        header = {cose.TYP: issuerlist.TYPE}
        return cbor.encode(Tag(cose.TAG_SIGN1, cose.build_sign1(self.list_key, payload, protected=header)))

    def crl(self, to_be_signed: bytes) -> bytes:
        signature = self.authority_key.sign(to_be_signed, ec.ECDSA(hashes.SHA256()))
        algorithm = bytes.fromhex("300a06082a8648ce3d040302")
        return _der(0x30, to_be_signed + algorithm + _der(0x03, b"\0" + signature))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    width = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 | width)) + size.to_bytes(width) + content


def _payload(token: bytes) -> bytes:
    """The payload of a Sign1 of our own making."""
    value = cbor.decode(token)
    payload = cose.parse_sign1(value.value if isinstance(value, Tag) else value).payload
    if payload is None:
        raise ValueError("no payload")
    return payload


def _to_be_signed(crl: bytes) -> bytes:
    """The first element inside the outer SEQUENCE of a DER list of our own making."""

    def element(at: int) -> tuple[int, int]:
        size = crl[at + 1]
        head = 2
        if size >= 0x80:
            head += size & 0x7F
            size = int.from_bytes(crl[at + 2 : at + head])
        return at + head, at + head + size

    begin, _ = element(0)
    return crl[begin : element(begin)[1]]


@lru_cache(maxsize=1)
def world() -> World:
    """Made once per process."""
    with tempfile.TemporaryDirectory(prefix="gwanmun-fuzz-") as name:
        return _world(Path(name))


def _world(folder: Path) -> World:
    authority = Authority.create(folder, name="Fuzz", now=NOW)
    anchors = TrustAnchors([Anchor.from_certificate(authority.iaca)])
    person = canary_person(os.urandom, agency_code="1741000", card_type="staff", access_class="general")
    shown, _ = authority.issue_pass(person, now=NOW)
    private = {file.name: read_private(file) for file in folder.glob("*.key.pem")}
    device_key, reader_key, ephemeral = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    credential, _ = authority.issue(device_key.public_key(), person, now=NOW)
    ble = BleOptions(True, True, SERVICE, SERVICE)
    engagement = build_engagement(ephemeral.public_key(), ble=ble, nfc=NfcOptions(255, 256), capabilities={3: True})
    reader_bytes = Encoded.wrap(cbor.encode(cose.cose_key(reader_key.public_key())))
    transcript = SessionTranscript.build(engagement, reader_bytes, QrHandover())
    requested = RequestedItems(DOC_TYPE, {NAME_SPACE: ASKED})
    root_key, identity_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    begin = NOW - timedelta(days=1)
    root = certificates.root(root_key, "Readers", country="KR", not_before=begin, lifetime=timedelta(days=30))
    leaf = certificates.reader(identity_key.public_key(), "Gate", issuer=root, issuer_key=root_key, not_before=begin)
    provider_key = ec.generate_private_key(ec.SECP256R1())
    provider = certificates.vical_signer(
        provider_key.public_key(), "Provider", issuer=root, issuer_key=root_key, not_before=begin
    )
    status_key = private["status-signer.key.pem"]
    status_token, issuer_list = authority.status_token(NOW), authority.issuer_list(NOW)
    carrier = BleCarrier(LeRole.CENTRAL_PREFERRED, SERVICE, bytes(6), address_random=True)
    offer = build_handover_request(ble=carrier, nfc=NfcOptions(65_535, 65_536))
    listed = vical.build(
        provider="Provider",
        authorities=[(authority.iaca, [DOC_TYPE])],
        date=NOW,
        lifetime=timedelta(days=7),
        issue_id=1,
        key=provider_key,
        chain=[provider],
    )
    identifiers = identifierlist.build_token(
        uri="https://issuer.example/identifiers",
        identifiers=[b"one", b"two"],
        issued_at=NOW,
        expires=NOW + timedelta(days=1),
        key=status_key,
        certificate=authority.status_signer,
    )
    revocations = authority.crl(NOW)
    messages = {
        "response": holder.build_response(credential, device_key, {NAME_SPACE: ASKED}, transcript),
        "response_mac": holder.build_response(
            credential, device_key, {NAME_SPACE: ASKED}, transcript, mac_with=reader_key.public_key()
        ),
        "mso": _payload(cbor.encode(credential.issuer_auth)),
        "request": build_request(requested, transcript, ReaderIdentity(identity_key, [leaf])),
        "engagement": engagement,
        "handover_select": build_handover_select(engagement, ble=carrier, nfc=NfcOptions(255, 256)),
        "handover_request": offer.raw,
        "establishment": cbor.encode({"eReaderKey": reader_bytes, "data": bytes(64)}),
        "session_data": cbor.encode({"data": bytes(64), "status": 20}),
        "qr_pass": qrpass.present_pass(shown.card, shown.key, audience=AUDIENCE, now=NOW, nonce=bytes(8)),
        "status_list": status_token,
        "status_list_payload": _payload(status_token),
        "identifier_list": identifiers,
        "identifier_list_payload": _payload(identifiers),
        "vical": listed,
        "vical_payload": _payload(listed),
        "issuer_list": issuer_list,
        "issuer_list_payload": _payload(issuer_list),
        "crl": revocations,
        "crl_to_be_signed": _to_be_signed(revocations),
        "certificate_iaca": authority.iaca.public_bytes(Encoding.DER),
        "certificate_signer": authority.document_signer.public_bytes(Encoding.DER),
        "certificate_status": authority.status_signer.public_bytes(Encoding.DER),
        "certificate_reader": leaf.public_bytes(Encoding.DER),
        "certificate_vical": provider.public_bytes(Encoding.DER),
    }
    return World(
        anchors,
        StatusLists([statuslist.parse_token(status_token, anchors)]),
        issuerlist.parse(issuer_list, authority.list_key),
        private["list.key.pem"],
        status_key,
        authority.status_signer.public_bytes(Encoding.DER),
        provider_key,
        (provider.public_bytes(Encoding.DER),),
        root.public_bytes(Encoding.DER),
        read(authority.iaca.public_bytes(Encoding.DER)).der,
        private["iaca.key.pem"],
        transcript,
        reader_key,
        requested,
        offer,
        messages,
    )
