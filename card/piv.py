"""The PIV card-authentication key (SP 800-73-5 part 2), reader's side, sans-I/O: certificate, CHUID, and a challenge that the
card's key 9E signs. No PIN, contact or contactless.

The card signs what it is given, so what is given is the hash of a fresh nonce (ECDSA), or the whole PKCS #1 v1.5 block around it
(RSA). Generators yield a command APDU and are sent the response; nothing here says whether the card is trusted (`card.verify`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256, sha384

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from card import chuid, limits, piv_certificate, tlv
from card.apdu import Sizes, exchange
from card.chuid import Chuid
from card.keys import CardKey, card_key
from mdoc.apdu import SW_NOT_FOUND, SW_OK, Command, Response, Steps
from mdoc.certificates.structure import Certificate
from mdoc.errors import MalformedError, MdocError

AID = bytes.fromhex("A000000308000010000100")
CERTIFICATE_OBJECT, CHUID_OBJECT = 0x5FC101, 0x5FC102
INS_GET_DATA, INS_GENERAL_AUTHENTICATE = 0xCB, 0x87
KEY_REFERENCE = 0x9E
TAG_LIST, TAG_TEMPLATE, TAG_CHALLENGE, TAG_RESPONSE = 0x5C, 0x7C, 0x81, 0x82

P256, P384, RSA_2048, RSA_3072 = 0x11, 0x14, 0x07, 0x05
"""Algorithm identifiers (SP 800-78-5 table 9)."""
_RSA: Mapping[int, int] = {2048: RSA_2048, 3072: RSA_3072}
_DIGEST_INFO_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
"""DigestInfo up to the hash (RFC 8017 9.2, note 1)."""


class NoCredentialError(MdocError):
    """A PIV card without a card-authentication certificate: nothing here can be verified."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the card is given to sign, and how its answer is checked."""

    algorithm: int
    block: bytes = field(repr=False)
    """ECDSA: the hash. RSA: the whole encoded block of the key's length."""
    digest: bytes = field(repr=False)

    @classmethod
    def to(cls, key: CardKey, nonce: bytes) -> Challenge:
        """`nonce`: fresh, limits.NONCE bytes."""
        if isinstance(key, rsa.RSAPublicKey):
            digest = sha256(nonce).digest()
            return cls(_RSA[key.key_size], pkcs1_block(digest, key.key_size // 8), digest)
        digest = sha384(nonce).digest() if key.curve.name == "secp384r1" else sha256(nonce).digest()
        return cls(P384 if key.curve.name == "secp384r1" else P256, digest, digest)

    def answered(self, key: CardKey, signature: bytes) -> bool:
        """`signature` is the card's over this challenge: DER of an ECDSA signature, or as many bytes as the RSA key."""
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, self.digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
            else:
                scheme = hashes.SHA384() if self.algorithm == P384 else hashes.SHA256()
                key.verify(signature, self.digest, ec.ECDSA(Prehashed(scheme)))
        except (InvalidSignature, ValueError):
            return False
        return True


def pkcs1_block(digest: bytes, size: int) -> bytes:
    """EMSA-PKCS1-v1_5 of a SHA-256 hash in `size` bytes (RFC 8017 9.2): 00 01 FF .. FF 00 DigestInfo."""
    info = _DIGEST_INFO_SHA256 + digest
    return b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info


@dataclass(frozen=True, slots=True)
class CardAnswer:
    """Everything that one card said; unverified."""

    certificate: Certificate = field(repr=False)
    chuid: Chuid
    challenge: Challenge | None
    """None where the certificate's key is none that a PIV card has: then nothing was asked."""
    signature: bytes | None = field(repr=False)
    """None: the card gave none."""


def read(nonce: bytes, sizes: Sizes) -> Steps[CardAnswer]:
    """Certificate, CHUID and the answer to a challenge made of `nonce`, of a card whose PIV application is selected.

    Raises NoCredentialError, or MalformedError for what breaks its format or a limit.
    """
    raw = yield from get_data(CERTIFICATE_OBJECT, sizes)
    if raw is None:
        raise NoCredentialError("no card-authentication certificate on the card")
    certificate = piv_certificate.parse(raw)
    raw = yield from get_data(CHUID_OBJECT, sizes)
    if raw is None:
        raise MalformedError("PIV card without CHUID")
    identifier = chuid.parse(raw)
    try:
        challenge = Challenge.to(card_key(certificate.public_key_info), nonce)
    except MalformedError:
        return CardAnswer(certificate, identifier, None, None)  # which the profile refuses, in its turn
    signature = yield from authenticate(challenge, sizes)
    return CardAnswer(certificate, identifier, challenge, signature)


def get_data(identifier: int, sizes: Sizes) -> Steps[bytes | None]:
    """One data object with its head; None where the card has none (6A82, or an empty one). Raises ApduError."""
    command = Command(0x00, INS_GET_DATA, 0x3F, 0xFF, tlv.encode(TAG_LIST, identifier.to_bytes(3)))
    response = yield from exchange(command, sizes, most=limits.MAX_OBJECT)
    if response.sw == SW_NOT_FOUND or (response.sw == SW_OK and response.data in (b"", b"\x53\x00")):
        return None
    if response.sw != SW_OK:
        raise MalformedError(f"GET DATA: status {response.sw:04X}")
    return response.data


def authenticate(challenge: Challenge, sizes: Sizes) -> Steps[bytes | None]:
    """GENERAL AUTHENTICATE with key 9E (part 2 3.2.4): the signature, or None where the card refuses to make one.

    Raises MalformedError for an answer that is no signature.
    """
    template = tlv.encode(TAG_RESPONSE, b"") + tlv.encode(TAG_CHALLENGE, challenge.block)
    data = tlv.encode(TAG_TEMPLATE, template)
    command = Command(0x00, INS_GENERAL_AUTHENTICATE, challenge.algorithm, KEY_REFERENCE, data)
    response: Response = yield from exchange(command, sizes, most=limits.MAX_SIGNATURE)
    if response.sw != SW_OK:
        return None
    inner = tlv.whole(response.data, TAG_TEMPLATE, "GENERAL AUTHENTICATE")
    return tlv.whole(inner, TAG_RESPONSE, "GENERAL AUTHENTICATE")
