"""Certificates and revocation lists written byte by byte, so that any of their parts can be wrong (RFC 5280 4.1, 5.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.conftest import NOW
from tests.mdoc.forgeries.wire import Hook, integer, oid, sequence, tlv, unchanged

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
Extension = tuple[str, bool, bytes]
"""(identifier, critical, value)."""
Name = tuple[tuple[str, str], ...]

_HASHES: dict[str, tuple[hashes.HashAlgorithm, str]] = {
    "secp256r1": (hashes.SHA256(), "1.2.840.10045.4.3.2"),
    "secp384r1": (hashes.SHA384(), "1.2.840.10045.4.3.3"),
    "secp521r1": (hashes.SHA512(), "1.2.840.10045.4.3.4"),
    "brainpoolP256r1": (hashes.SHA256(), "1.2.840.10045.4.3.2"),
}
ECDSA_SHA1 = "1.2.840.10045.4.1"
KU, EKU, BC = "2.5.29.15", "2.5.29.37", "2.5.29.19"
SKI, AKI, IAN, CRL_DP = "2.5.29.14", "2.5.29.35", "2.5.29.18", "2.5.29.31"
MDL_DS, MDOC_DS = "1.0.18013.5.1.2", "1.0.23220.4.1.2"
COUNTRY, STATE, COMMON_NAME = "2.5.4.6", "2.5.4.8", "2.5.4.3"
DAY = timedelta(days=1)


@lru_cache(maxsize=64)
def key(number: int, curve: str = "secp256r1") -> PrivateKey:
    """Always the same key for the same number."""
    seed = hashlib.sha512(f"{curve} {number}".encode()).digest()
    if curve == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(seed[:32])
    if curve == "ed448":
        return ed448.Ed448PrivateKey.from_private_bytes(seed[:57])
    curves = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1(), ec.BrainpoolP256R1())
    found = next(entry for entry in curves if entry.name == curve)
    return ec.derive_private_key(int.from_bytes(seed[:31], "big"), found)


def key_info(private: PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_bits(private: PrivateKey) -> bytes:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def identifier(private: PrivateKey) -> bytes:
    return hashlib.sha1(key_bits(private), usedforsecurity=False).digest()


def der_signature(private: PrivateKey, message: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        chosen = algorithm or _HASHES.get(private.curve.name, (hashes.SHA256(), ""))[0]
        return private.sign(message, ec.ECDSA(chosen, deterministic_signing=True))
    return private.sign(message)


def raw_signature(private: PrivateKey, message: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    """r || s, as COSE wants it."""
    signature = der_signature(private, message, algorithm)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        return signature
    r, s = decode_dss_signature(signature)
    size = (private.curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def algorithm_of(private: PrivateKey) -> str:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return _HASHES[private.curve.name][1]
    return "1.3.101.112" if isinstance(private, ed25519.Ed25519PrivateKey) else "1.3.101.113"


def name(entries: Name) -> bytes:
    return sequence(
        *(
            tlv(0x31, sequence(oid(kind), tlv(0x13 if kind == COUNTRY else 0x0C, text.encode())))
            for kind, text in entries
        )
    )


def time(moment: datetime) -> bytes:
    if moment.year < 2050:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def extension(entry: Extension) -> bytes:
    kind, critical, value = entry
    return sequence(oid(kind), tlv(0x01, b"\xff") if critical else b"", tlv(0x04, value))


def usage(bits: int) -> Extension:
    """KeyUsage from the two bytes of RFC 5280 4.2.1.3, first named bit highest."""
    content = bits.to_bytes(2, "big").rstrip(b"\0") or b"\0"
    unused = (content[-1] & -content[-1]).bit_length() - 1 if content[-1] else 0
    return KU, True, tlv(0x03, bytes((unused,)), content)


def purposes(*kinds: str, critical: bool = True) -> Extension:
    return EKU, critical, sequence(*(oid(kind) for kind in kinds))


def constraints(content: bytes) -> Extension:
    return BC, True, sequence(content)


CA = tlv(0x01, b"\xff")
ROOT_NAME: Name = ((COUNTRY, "KR"), (COMMON_NAME, "Root"))
SIGNER_NAME: Name = ((COUNTRY, "KR"), (COMMON_NAME, "Signer"))
FORMAL: tuple[Extension, ...] = (
    (IAN, False, sequence(tlv(0x81, b"root@example.org"))),
    (CRL_DP, False, sequence(sequence(tlv(0xA0, tlv(0xA0, tlv(0x86, b"https://example.org/crl")))))),
)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A certificate about to be signed. Every part is what the profile asks unless a forger says otherwise."""

    subject: Name
    issuer: Name
    key: PrivateKey
    signed_by: PrivateKey
    extensions: tuple[Extension, ...]
    serial: int = 0x0123456789ABCDEF0123
    begin: datetime = NOW - 60 * DAY
    end: datetime = NOW + 300 * DAY
    version: int = 2
    algorithm: str = ""
    """Dotted; empty for the one that fits."""
    digest: hashes.HashAlgorithm | None = None
    subject_der: bytes = b""
    """The subject's Name in place of `subject`."""
    info: bytes = b""
    """SubjectPublicKeyInfo in place of the key's."""
    tbs: Hook = field(default=unchanged)
    """On TBSCertificate, before it is signed."""
    signature: Hook = field(default=unchanged)
    whole: Hook = field(default=unchanged)
    """On the finished certificate."""

    def der(self) -> bytes:
        algorithm = sequence(oid(self.algorithm or algorithm_of(self.signed_by)))
        tbs = sequence(
            tlv(0xA0, integer(self.version)) if self.version else b"",
            integer(self.serial),
            algorithm,
            name(self.issuer),
            sequence(time(self.begin), time(self.end)),
            self.subject_der or name(self.subject),
            self.info or key_info(self.key),
            tlv(0xA3, sequence(*map(extension, self.extensions))) if self.extensions else b"",
        )
        tbs = self.tbs(tbs)
        signature = self.signature(der_signature(self.signed_by, tbs, self.digest))
        made: bytes = self.whole(sequence(tbs, algorithm, tlv(0x03, b"\0", signature)))
        return made


def without(draft: Draft, kind: str) -> tuple[Extension, ...]:
    return tuple(entry for entry in draft.extensions if entry[0] != kind)


def replaced(draft: Draft, *entries: Extension) -> tuple[Extension, ...]:
    """The draft's extensions with these in the place of those of their kinds."""
    kinds = {entry[0] for entry in entries}
    return (*(entry for entry in draft.extensions if entry[0] not in kinds), *entries)


def root(private: PrivateKey, subject: Name = ROOT_NAME) -> Draft:
    return Draft(
        subject=subject,
        issuer=subject,
        key=private,
        signed_by=private,
        begin=NOW - 400 * DAY,
        end=NOW + 3000 * DAY,
        extensions=(
            usage(0x0600),
            constraints(CA + integer(0)),
            (SKI, False, tlv(0x04, identifier(private))),
            *FORMAL,
        ),
    )


def signer(private: PrivateKey, by: PrivateKey, issuer: Name = ROOT_NAME, purpose: str = MDL_DS) -> Draft:
    """A document signer."""
    return Draft(
        subject=SIGNER_NAME,
        issuer=issuer,
        key=private,
        signed_by=by,
        extensions=(
            usage(0x8000),
            purposes(purpose),
            (AKI, False, sequence(tlv(0x80, identifier(by)))),
            (SKI, False, tlv(0x04, identifier(private))),
            *FORMAL,
        ),
    )


def revocation_list(
    by: PrivateKey,
    serials: Sequence[int],
    *,
    issuer: Name = ROOT_NAME,
    number: int = 7,
    at: datetime = NOW - DAY,
    until: datetime = NOW + DAY,
) -> bytes:
    algorithm = sequence(oid(algorithm_of(by)))
    entries = [sequence(integer(serial), time(at)) for serial in serials]
    tbs = sequence(
        integer(1),
        algorithm,
        name(issuer),
        time(at),
        time(until),
        sequence(*entries) if entries else b"",
        tlv(
            0xA0,
            sequence(
                extension((AKI, False, sequence(tlv(0x80, identifier(by))))),
                extension(("2.5.29.20", False, integer(number))),
            ),
        ),
    )
    return sequence(tbs, algorithm, tlv(0x03, b"\0", der_signature(by, tbs)))
