"""Session encryption (18013-5 9.1.1): keys, counters, the two session messages, for both sides.

SessionEstablishment = {"eReaderKey": EReaderKeyBytes, "data": bstr}        reader's first message
SessionData          = {? "data": bstr, ? "status": uint}
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mdoc import cbor, cose, limits
from mdoc.cbor import Encoded, ItemBudget
from mdoc.errors import MalformedError, SessionError
from mdoc.transcript import SessionTranscript


class Status(IntEnum):
    """SessionData status (table 20)."""

    SESSION_ENCRYPTION_ERROR = 10
    CBOR_DECODING_ERROR = 11
    SESSION_TERMINATION = 20


READER_IDENTIFIER = bytes(8)
DEVICE_IDENTIFIER = bytes(7) + b"\x01"
"""First eight bytes of the IV, by sender (9.1.1.5)."""


def derive(shared: bytes, salt: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-SHA-256."""
    return HKDF(hashes.SHA256(), length, salt, info).derive(shared)


def shared_secret(private: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey) -> bytes:
    """ECDH. Raises MalformedError when the keys lie on different curves."""
    if private.curve.name != public.curve.name:
        raise MalformedError("keys on different curves")
    return private.exchange(ec.ECDH(), public)


def emac_key(private: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey, salt: bytes) -> bytes:
    """EMacKey (9.1.3.5), from one side's private key and the other's public one."""
    return derive(shared_secret(private, public), salt, b"EMacKey")


class _Channel:
    """One direction: AES-256-GCM with a counter that starts at 1."""

    __slots__ = ("_aead", "_counter", "_identifier")

    def __init__(self, key: bytes, identifier: bytes) -> None:
        self._aead, self._identifier, self._counter = AESGCM(key), identifier, 0

    def _iv(self) -> bytes:
        self._counter += 1
        return self._identifier + self._counter.to_bytes(4, "big")

    def seal(self, plain: bytes) -> bytes:
        return self._aead.encrypt(self._iv(), plain, None)

    def open(self, sealed: bytes) -> bytes:
        try:
            return self._aead.decrypt(self._iv(), sealed, None)
        except InvalidTag:
            raise SessionError("message does not decrypt") from None


class SessionEncryption:
    """Both directions of one session, seen from one side."""

    __slots__ = ("_incoming", "_outgoing")

    def __init__(
        self,
        private: ec.EllipticCurvePrivateKey,
        peer: ec.EllipticCurvePublicKey,
        transcript: SessionTranscript,
        *,
        reader: bool,
    ) -> None:
        secret = shared_secret(private, peer)
        from_reader = _Channel(derive(secret, transcript.salt, b"SKReader"), READER_IDENTIFIER)
        from_device = _Channel(derive(secret, transcript.salt, b"SKDevice"), DEVICE_IDENTIFIER)
        self._outgoing, self._incoming = (from_reader, from_device) if reader else (from_device, from_reader)

    def seal(self, plain: bytes) -> bytes:
        return self._outgoing.seal(plain)

    def open(self, sealed: bytes) -> bytes:
        """Raises SessionError."""
        return self._incoming.open(sealed)


@dataclass(frozen=True, slots=True)
class SessionEstablishment:
    """The reader's first message. `reader_key_bytes` are as received: they go into the transcript."""

    reader_key_bytes: Encoded
    reader_key: ec.EllipticCurvePublicKey
    data: bytes

    @classmethod
    def parse(cls, raw: bytes) -> SessionEstablishment:
        """Raises MalformedError."""
        body = cbor.decode_map(raw, budget=ItemBudget(limits.MAX_SESSION_ITEMS))
        key, data = body.get("eReaderKey"), body.get("data")
        if type(key) is not Encoded or type(data) is not bytes:
            raise MalformedError("session establishment: eReaderKey and data are expected")
        return cls(
            key,
            cose.ec_public_key(cbor.decode(key.content, budget=ItemBudget(limits.MAX_SESSION_ITEMS)), "EReaderKey"),
            data,
        )


def build_establishment(reader_key: Encoded, data: bytes) -> bytes:
    return cbor.encode({"eReaderKey": reader_key, "data": data})


@dataclass(frozen=True, slots=True)
class SessionData:
    data: bytes | None
    status: int | None

    @classmethod
    def parse(cls, raw: bytes) -> SessionData:
        """Unknown keys are ignored (drafts of the second edition add some). Raises MalformedError."""
        body = cbor.decode_map(raw, budget=ItemBudget(limits.MAX_SESSION_ITEMS))
        data, status = body.get("data"), body.get("status")
        if not (data is None or type(data) is bytes) or not (status is None or type(status) is int):
            raise MalformedError("session data: data is a bstr, status a number")
        if data is None and status is None:
            raise MalformedError("session data: neither data nor status")
        if status is not None and status < 0:
            raise MalformedError("session data: status is not negative")
        return cls(data, status)


def build_data(data: bytes | None = None, status: Status | None = None) -> bytes:
    body: dict[str, bytes | int] = {}
    if data is not None:
        body["data"] = data
    if status is not None:
        body["status"] = int(status)
    return cbor.encode(body)
