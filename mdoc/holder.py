"""The holder's side of one session, sans-I/O: engagement out, request in, selectively disclosed response out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose, session
from mdoc.cbor import Encoded
from mdoc.certificates import (
    READER_PROFILE,
    broken_rule,
    chain_from_header,
    load_der,
    signed_by,
    valid_at,
    verification_key,
)
from mdoc.errors import MalformedError, SessionError
from mdoc.issue import Credential
from mdoc.request import DeviceRequest, DocRequest, reader_authentication
from mdoc.response import STATUS_OK, device_authentication
from mdoc.session import SessionData, SessionEncryption, SessionEstablishment, Status
from mdoc.transcript import Handover, SessionTranscript

EMPTY_NAME_SPACES = Encoded.wrap(b"\xa0")


@dataclass(frozen=True, slots=True)
class Asked:
    """One document of a request, and who asks."""

    request: DocRequest
    reader: x509.Certificate | None
    """The reader's certificate where its authentication holds against a trusted root, else None."""


class HolderSession:
    """One presentation. `engagement` are the bytes shown; `ephemeral` the key inside them, fresh for this presentation."""

    def __init__(self, engagement: bytes, ephemeral: ec.EllipticCurvePrivateKey, handover: Handover) -> None:
        self._engagement, self._ephemeral, self._handover = engagement, ephemeral, handover
        self._encryption: SessionEncryption | None = None
        self._reader_key: ec.EllipticCurvePublicKey | None = None
        self.transcript: SessionTranscript | None = None

    def receive(self, message: bytes) -> DeviceRequest | None:
        """The reader's request, or None when the reader ended the session. Raises MalformedError, SessionError."""
        if self._encryption is None:
            opening = SessionEstablishment.parse(message)
            self.transcript = SessionTranscript.build(self._engagement, opening.reader_key_bytes, self._handover)
            self._reader_key = opening.reader_key
            self._encryption = SessionEncryption(self._ephemeral, opening.reader_key, self.transcript, reader=False)
            return DeviceRequest.parse(self._encryption.open(opening.data))
        body = SessionData.parse(message)
        if body.data is None:
            return None
        return DeviceRequest.parse(self._encryption.open(body.data))

    def who_asks(self, doc_request: DocRequest, roots: Sequence[x509.Certificate], now: datetime) -> Asked:
        """Check reader authentication against trusted reader roots (9.1.4)."""
        return Asked(doc_request, self._reader(doc_request, roots, now))

    def _reader(
        self, doc_request: DocRequest, roots: Sequence[x509.Certificate], now: datetime
    ) -> x509.Certificate | None:
        auth = doc_request.reader_auth
        if auth is None or self.transcript is None:
            return None
        try:
            leaf = load_der(chain_from_header(auth.unprotected.get(cose.X5CHAIN))[0])
            key = verification_key(leaf)
        except MalformedError:
            return None
        trusted = any(signed_by(leaf, root) and valid_at(root, now) for root in roots)
        expected = reader_authentication(self.transcript, doc_request.items_bytes)
        if (
            trusted
            and valid_at(leaf, now)
            and broken_rule(leaf, READER_PROFILE) is None
            and cose.verify_sign1(auth, key, detached=expected)
        ):
            return leaf
        return None

    def respond(
        self,
        credential: Credential,
        device_key: ec.EllipticCurvePrivateKey,
        disclose: Mapping[str, Collection[str]],
        *,
        mac: bool = False,
        terminate: bool = True,
    ) -> bytes:
        """SessionData with the elements of `disclose` and device authentication by signature or MAC."""
        transcript, encryption = self._ready()
        response = build_response(
            credential, device_key, disclose, transcript, mac_with=self._reader_key if mac else None
        )
        return session.build_data(encryption.seal(response), Status.SESSION_TERMINATION if terminate else None)

    def seal(self, response: bytes, *, terminate: bool = True) -> bytes:
        """SessionData around a ready DeviceResponse."""
        _, encryption = self._ready()
        return session.build_data(encryption.seal(response), Status.SESSION_TERMINATION if terminate else None)

    def decline(self) -> bytes:
        """The holder said no: termination without data."""
        return session.build_data(status=Status.SESSION_TERMINATION)

    def _ready(self) -> tuple[SessionTranscript, SessionEncryption]:
        if self.transcript is None or self._encryption is None:
            raise SessionError("no request has been received")
        return self.transcript, self._encryption


def build_response(
    credential: Credential,
    device_key: ec.EllipticCurvePrivateKey,
    disclose: Mapping[str, Collection[str]],
    transcript: SessionTranscript,
    *,
    mac_with: ec.EllipticCurvePublicKey | None = None,
) -> bytes:
    """DeviceResponse version 1.0 with one document; device MAC when the reader's ephemeral key is given."""
    name_spaces: dict[str, list[Encoded]] = {}
    for space, elements in disclose.items():
        known = credential.items.get(space, {})
        found = [known[element] for element in elements if element in known]
        if found:
            name_spaces[space] = found
    issuer_signed: dict[str, Any] = {"issuerAuth": credential.issuer_auth}
    if name_spaces:
        issuer_signed = {"nameSpaces": name_spaces, **issuer_signed}
    proof = device_authentication(transcript, credential.doc_type, EMPTY_NAME_SPACES)
    if mac_with is None:
        auth: dict[str, Any] = {"deviceSignature": cose.build_sign1(device_key, proof, detached=True)}
    else:
        auth = {"deviceMac": cose.build_mac0(session.emac_key(device_key, mac_with, transcript.salt), proof)}
    document = {
        "docType": credential.doc_type,
        "issuerSigned": issuer_signed,
        "deviceSigned": {"nameSpaces": EMPTY_NAME_SPACES, "deviceAuth": auth},
    }
    return cbor.encode({"version": "1.0", "documents": [document], "status": STATUS_OK})
