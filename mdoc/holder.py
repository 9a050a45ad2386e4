"""The holder's side of one session, sans-I/O: engagement out, request in, selectively disclosed response out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose, session
from mdoc.cbor import Encoded
from mdoc.certificates import READER_PROFILE, chain_from_header, read, verification_key
from mdoc.certificates.path import path_problem
from mdoc.certificates.structure import of
from mdoc.errors import MalformedError, SessionError
from mdoc.issue import Credential
from mdoc.request import DeviceRequest, DocRequest, reader_authentication, reader_authentication_all
from mdoc.response import STATUS_OK, device_authentication
from mdoc.session import SessionData, SessionEncryption, SessionEstablishment, Status
from mdoc.transcript import Handover, SessionTranscript

EMPTY_NAME_SPACES = Encoded.wrap(b"\xa0")
NOT_RETURNED = 0
"""Error code "data not returned" (8.3.2.1.2.3)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One document of a request, and who asks."""

    request: DocRequest
    reader: x509.Certificate | None
    """The reader's certificate where its authentication holds against a trusted root, else None."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the holder shares of one credential."""

    credential: Credential
    device_key: ec.EllipticCurvePrivateKey
    disclose: Mapping[str, Collection[str]]
    device_signed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{namespace: {element: value}} that the device says itself."""
    mac: bool = False
    """Prove by MAC instead of signature."""


class HolderSession:
    """One presentation. `engagement` are the bytes shown; `ephemeral` the key inside them, fresh for this presentation."""

    def __init__(self, engagement: bytes, ephemeral: ec.EllipticCurvePrivateKey, handover: Handover) -> None:
        self._engagement, self._ephemeral, self._handover = engagement, ephemeral, handover
        self._encryption: SessionEncryption | None = None
        self._reader_key: ec.EllipticCurvePublicKey | None = None
        self._request: DeviceRequest | None = None
        self.transcript: SessionTranscript | None = None

    def receive(self, message: bytes) -> DeviceRequest | None:
        """The reader's request, or None when the reader ended the session. Raises MalformedError, SessionError."""
        if self._encryption is None:
            opening = SessionEstablishment.parse(message)
            self.transcript = SessionTranscript.build(self._engagement, opening.reader_key_bytes, self._handover)
            self._reader_key = opening.reader_key
            self._encryption = SessionEncryption(self._ephemeral, opening.reader_key, self.transcript, reader=False)
            self._request = DeviceRequest.parse(self._encryption.open(opening.data))
            return self._request
        body = SessionData.parse(message)
        if body.data is None:
            return None
        self._request = DeviceRequest.parse(self._encryption.open(body.data))
        return self._request

    def who_asks(self, doc_request: DocRequest, roots: Sequence[x509.Certificate], now: datetime) -> Asked:
        """Check reader authentication against trusted reader roots (9.1.4): of this request, or of all of them together."""
        request = self._request
        reader = None
        if self.transcript is not None and doc_request.reader_auth is not None:
            expected = reader_authentication(self.transcript, doc_request.items_bytes)
            reader = _reader(doc_request.reader_auth, expected, roots, now)
        if (
            self.transcript is not None
            and reader is None
            and request is not None
            and doc_request in request.doc_requests
        ):
            every = [entry.items_bytes for entry in request.doc_requests]
            expected = reader_authentication_all(self.transcript, every, request.device_request_info)
            found = (_reader(auth, expected, roots, now) for auth in request.reader_auth_all)
            reader = next((certificate for certificate in found if certificate is not None), None)
        return Asked(doc_request, reader)

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
        return self.respond_all([Answer(credential, device_key, disclose, mac=mac)], terminate=terminate)

    def respond_all(
        self, answers: Sequence[Answer], *, declined: Collection[str] = (), terminate: bool = True
    ) -> bytes:
        """SessionData with one document an answer; `declined` are document types that the holder keeps to itself."""
        transcript, encryption = self._ready()
        documents = [build_document(answer, transcript, self._reader_key) for answer in answers]
        response = build_device_response(documents, declined)
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


def _reader(
    auth: cose.Sign1, expected: bytes, roots: Sequence[x509.Certificate], now: datetime
) -> x509.Certificate | None:
    """The reader's certificate where it signed `expected` and a trusted root issued it."""
    try:
        # readerAuth has its chain in the unprotected header; ReaderAuthAll is seen with either.
        chain = auth.unprotected.get(cose.X5CHAIN, auth.protected.get(cose.X5CHAIN))
        path = [read(der) for der in chain_from_header(chain)]
        if path_problem(path, [of(root) for root in roots], READER_PROFILE, now) is not None:
            return None
        key = verification_key(path[0])
        return path[0].library() if cose.verify_sign1(auth, key, detached=expected) else None
    except MalformedError:
        return None


def build_document(
    answer: Answer, transcript: SessionTranscript, reader_key: ec.EllipticCurvePublicKey | None
) -> dict[str, Any]:
    """One Document, ready for cbor.encode. Elements that the credential does not hold are reported in `errors`."""
    credential = answer.credential
    name_spaces: dict[str, list[Encoded]] = {}
    errors: dict[str, dict[str, int]] = {}
    for space, elements in answer.disclose.items():
        known = credential.items.get(space, {})
        said = answer.device_signed.get(space, {})
        found = [known[element] for element in elements if element in known]
        absent = {element: NOT_RETURNED for element in elements if element not in known and element not in said}
        if found:
            name_spaces[space] = found
        if absent:
            errors[space] = absent
    issuer_signed: dict[str, Any] = {"issuerAuth": credential.issuer_auth}
    if name_spaces:
        issuer_signed = {"nameSpaces": name_spaces, **issuer_signed}
    device_spaces = EMPTY_NAME_SPACES
    if answer.device_signed:
        device_spaces = Encoded.wrap(cbor.encode({space: dict(said) for space, said in answer.device_signed.items()}))
    proof = device_authentication(transcript, credential.doc_type, device_spaces)
    if not answer.mac:
        auth: dict[str, Any] = {"deviceSignature": cose.build_sign1(answer.device_key, proof, detached=True)}
    elif reader_key is None:
        raise SessionError("a MAC needs the reader's key")
    else:
        key = session.emac_key(answer.device_key, reader_key, transcript.salt)
        auth = {"deviceMac": cose.build_mac0(key, proof)}
    document = {
        "docType": credential.doc_type,
        "issuerSigned": issuer_signed,
        "deviceSigned": {"nameSpaces": device_spaces, "deviceAuth": auth},
    }
    return {**document, "errors": errors} if errors else document


def build_device_response(documents: Sequence[Mapping[str, Any]], declined: Collection[str] = ()) -> bytes:
    """DeviceResponse version 1.0 around ready documents."""
    body: dict[str, Any] = {"version": "1.0"}
    if documents:
        body["documents"] = [dict(document) for document in documents]
    if declined:
        body["documentErrors"] = [{doc_type: NOT_RETURNED} for doc_type in declined]
    body["status"] = STATUS_OK
    return cbor.encode(body)


def build_response(
    credential: Credential,
    device_key: ec.EllipticCurvePrivateKey,
    disclose: Mapping[str, Collection[str]],
    transcript: SessionTranscript,
    *,
    mac_with: ec.EllipticCurvePublicKey | None = None,
) -> bytes:
    """DeviceResponse version 1.0 with one document; device MAC when the reader's ephemeral key is given."""
    answer = Answer(credential, device_key, disclose, mac=mac_with is not None)
    return build_device_response([build_document(answer, transcript, mac_with)])
