"""Cards that an attacker or bad luck may hold to a gate, each wrong in one way. `PIV` and `PKOC` list them by name.

What a card holds is changed here; what it does in an exchange is in `testbed.card.misbehaving`, bad public keys in
`testbed.card.forged`.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mdoc.apdu import SW_OK
from testbed.card import forged
from testbed.card.card import Card
from testbed.card.issuer import CardCredential, CardIssuer
from testbed.card.keys import KeyKind, algorithm, generate, signer
from testbed.card.misbehaving import EndlessMore, Slow, StatusOnly, Vanishing, WrongLe
from testbed.card.piv import CERTIFICATE, CHUID, INS_GENERAL_AUTHENTICATE, VirtualPivCard, certificate_object
from testbed.card.pkoc import VirtualPkocCard, transaction_signer
from testbed.card.tlv import length, tlv

BOMB_BYTES = 3 << 19
"""What a thousand to one makes of as much as a card has room for (SP 800-73-5 part 1 table 7: 1905 bytes)."""


def without_key(credential: CardCredential) -> VirtualPivCard:
    """A clone: everything that can be read from the genuine card, and no key."""
    card = VirtualPivCard(credential)
    card.sign = None
    return card


def wrong_key(credential: CardCredential) -> VirtualPivCard:
    """A clone that signs with a key of its own, of the same kind."""
    card = VirtualPivCard(credential)
    key = credential.key
    kind = KeyKind(f"rsa{key.key_size}" if isinstance(key, rsa.RSAPrivateKey) else f"p{key.key_size}")
    card.sign = signer(generate(kind))
    return card


def wrong_hash(credential: CardCredential) -> VirtualPivCard:
    """Signs with the right key what it was not asked to sign: the last byte of the challenge is another."""
    card = VirtualPivCard(credential)
    genuine = signer(credential.key)
    card.sign = lambda number, challenge: genuine(number, challenge[:-1] + bytes((challenge[-1] ^ 1,)))
    return card


def replaying(credential: CardCredential) -> VirtualPivCard:
    """A clone with one response that the genuine card once gave to another challenge."""
    card = VirtualPivCard(credential)
    key = credential.key
    size = key.key_size // 8
    # As a host would have padded it, where the key is RSA.
    other = bytes(size) if isinstance(key, ec.EllipticCurvePrivateKey) else b"\x00\x01" + b"\xff" * (size - 3) + b"\x00"
    recorded = signer(key)(algorithm(key), other)
    card.sign = lambda _number, _challenge: recorded
    return card


def swapped_chuid(credential: CardCredential, other: CardCredential) -> VirtualPivCard:
    """Its own certificate and key, with the CHUID of another card of the same issuer."""
    card = VirtualPivCard(credential)
    card.objects[CHUID] = tlv(0x53, other.chuid)
    return card


def foreign_certificate(credential: CardCredential, other: CardCredential) -> VirtualPivCard:
    """Another card's certificate and CHUID over its own key."""
    card = VirtualPivCard(other)
    card.algorithm, card.sign = algorithm(credential.key), signer(credential.key)
    return card


def truncated(credential: CardCredential, tag: int = CERTIFICATE) -> VirtualPivCard:
    """Half of an object, with status 9000."""
    card = VirtualPivCard(credential)
    card.objects[tag] = card.objects[tag][: len(card.objects[tag]) // 2]
    return card


def oversized(credential: CardCredential, tag: int = CERTIFICATE, size: int = 0x7FFFFFFF) -> VirtualPivCard:
    """An object whose length says 2 GB."""
    card = VirtualPivCard(credential)
    card.objects[tag] = b"\x53" + length(size) + card.objects[tag][4:]
    return card


def gzip_bomb(credential: CardCredential, size: int = BOMB_BYTES) -> VirtualPivCard:
    """A compressed certificate that is `size` zero bytes when inflated."""
    card = VirtualPivCard(credential)
    card.objects[CERTIFICATE] = tlv(
        0x53, tlv(0x70, gzip.compress(bytes(size), mtime=0)) + tlv(0x71, b"\x01") + tlv(0xFE)
    )
    return card


def of_authority(issuer: CardIssuer, credential: CardCredential) -> VirtualPivCard:
    """Shows the certificate of the authority, with its key: an authority is no card."""
    card = VirtualPivCard(replace(credential, key=issuer.key))
    card.objects[CERTIFICATE] = tlv(0x53, certificate_object(issuer.certificate.public_bytes(Encoding.DER)))
    return card


def _revoked(issuer: CardIssuer, now: datetime) -> VirtualPivCard:
    credential = issuer.issue(now)
    issuer.revoke(credential)
    return VirtualPivCard(credential)


def _unknown_root(_issuer: CardIssuer, now: datetime) -> VirtualPivCard:
    return VirtualPivCard(CardIssuer("Unknown", now).issue(now))


def _same_name(issuer: CardIssuer, now: datetime) -> VirtualPivCard:
    """Issued by an authority of the same name, with another key."""
    return VirtualPivCard(CardIssuer(issuer.name, now, intermediate=bool(issuer.intermediates)).issue(now))


Variant = Callable[[CardIssuer, datetime], Card]
_DAY = timedelta(days=1)

PIV: Mapping[str, Variant] = {
    "without_key": lambda issuer, now: without_key(issuer.issue(now)),
    "wrong_key": lambda issuer, now: wrong_key(issuer.issue(now)),
    "wrong_hash": lambda issuer, now: wrong_hash(issuer.issue(now)),
    "replaying": lambda issuer, now: replaying(issuer.issue(now)),
    "swapped_chuid": lambda issuer, now: swapped_chuid(issuer.issue(now), issuer.issue(now)),
    "foreign_certificate": lambda issuer, now: foreign_certificate(issuer.issue(now), issuer.issue(now)),
    "truncated_certificate": lambda issuer, now: truncated(issuer.issue(now)),
    "truncated_chuid": lambda issuer, now: truncated(issuer.issue(now), CHUID),
    "oversized_certificate": lambda issuer, now: oversized(issuer.issue(now)),
    "oversized_chuid": lambda issuer, now: oversized(issuer.issue(now), CHUID),
    "gzip_bomb": lambda issuer, now: gzip_bomb(issuer.issue(now)),
    "of_authority": lambda issuer, now: of_authority(issuer, issuer.issue(now)),
    "no_purpose": lambda issuer, now: VirtualPivCard(issuer.issue(now, purpose=None)),
    "other_purpose": lambda issuer, now: VirtualPivCard(issuer.issue(now, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)),
    "expired": lambda issuer, now: VirtualPivCard(issuer.issue(now, valid_from=now - 9 * _DAY, valid_until=now - _DAY)),
    "not_yet_valid": lambda issuer, now: VirtualPivCard(issuer.issue(now, valid_from=now + _DAY)),
    "revoked": _revoked,
    "unknown_root": _unknown_root,
    "same_name_other_key": _same_name,
    "rsa_1024": lambda issuer, now: VirtualPivCard(issuer.issue(now, kind=KeyKind.RSA_1024)),
    "rsa_exponent_one": forged.rsa_exponent_one,
    "explicit_curve": forged.explicit_curve,
    "point_off_curve": forged.point_off_curve,
    "endless_61xx": lambda issuer, now: EndlessMore(VirtualPivCard(issuer.issue(now))),
    "empty_61xx": lambda issuer, now: EndlessMore(VirtualPivCard(issuer.issue(now)), piece=0),
    "endless_6cxx": lambda issuer, now: WrongLe(VirtualPivCard(issuer.issue(now))),
    "no_data": lambda issuer, now: StatusOnly(VirtualPivCard(issuer.issue(now)), SW_OK),
    "no_signature": lambda issuer, now: StatusOnly(
        VirtualPivCard(issuer.issue(now)), SW_OK, only=(INS_GENERAL_AUTHENTICATE,)
    ),
    "vanishing": lambda issuer, now: Vanishing(VirtualPivCard(issuer.issue(now)), answers=2),
}
"""Each is to be refused, or lost, and none may hold a gate up. To be made before the issuer publishes its revocation lists."""


def _pkoc(change: Callable[[VirtualPkocCard, ec.EllipticCurvePrivateKey], None]) -> Callable[[], Card]:
    def make() -> Card:
        key = ec.generate_private_key(ec.SECP256R1())
        card = VirtualPkocCard(key)
        change(card, key)
        return card

    return make


def pkoc_wrong_key(card: VirtualPkocCard, _key: ec.EllipticCurvePrivateKey) -> None:
    """Shows a key that it has read from another card, and signs with its own."""
    card.sign = transaction_signer(ec.generate_private_key(ec.SECP256R1()))


def pkoc_replaying(card: VirtualPkocCard, _key: ec.EllipticCurvePrivateKey) -> None:
    """Answers with the signature over another transaction."""
    recorded = card.sign(bytes(16))
    card.sign = lambda _transaction: recorded


def pkoc_off_curve(card: VirtualPkocCard, _key: ec.EllipticCurvePrivateKey) -> None:
    """Shows a point that is none of the curve's."""
    card.point = card.point[:-1] + bytes((card.point[-1] ^ 1,))


def pkoc_null_signature(card: VirtualPkocCard, _key: ec.EllipticCurvePrivateKey) -> None:
    """r and s are zero."""
    card.sign = lambda _transaction: bytes(64)


PKOC: Mapping[str, Callable[[], Card]] = {
    "wrong_key": _pkoc(pkoc_wrong_key),
    "replaying": _pkoc(pkoc_replaying),
    "off_curve": _pkoc(pkoc_off_curve),
    "null_signature": _pkoc(pkoc_null_signature),
    "no_data": lambda: StatusOnly(VirtualPkocCard(ec.generate_private_key(ec.SECP256R1())), SW_OK),
    "vanishing": lambda: Vanishing(VirtualPkocCard(ec.generate_private_key(ec.SECP256R1())), answers=1),
}
"""Each is to be refused or lost even where its key is enrolled."""


def slow(card: Card, seconds: float, wait: Callable[[float], None]) -> Card:
    """The same card, with a key that takes so long: genuine, and to be waited for within the reader's patience."""
    return Slow(card, seconds, wait)
