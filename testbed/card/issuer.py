"""An authority that issues PIV cards: a root, where wanted an authority below it, card-authentication certificates, signed
CHUIDs and revocation lists. For tests, benchmarks and the demo; nothing of it is kept but what `publish` writes.

Root and intermediate carry the mark of specimens, as anybody can make them. Whatever may deviate is a parameter, so that a
forgery comes from the code that makes the genuine card.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mdoc import specimen
from testbed.authority import replace_file
from testbed.card import chuid
from testbed.card.identifiers import Random, random_fasc_n, random_uuid
from testbed.card.keys import CardKey, KeyKind, PublicKey, generate, key_hash
from testbed.card.tlv import OCTET_STRING, tlv
from testbed.certificates import Extra, usage

CARD_AUTHENTICATION = ObjectIdentifier("2.16.840.1.101.3.6.8")
CONTENT_SIGNING = ObjectIdentifier("2.16.840.1.101.3.6.7")
FASC_N = ObjectIdentifier("2.16.840.1.101.3.6.6")
POLICY = ObjectIdentifier("2.16.840.1.101.3.2.1.3.17")
"""id-fpki-common-cardAuth."""
CARD_LIFETIME = timedelta(days=3 * 365)
AUTHORITY_LIFETIME = timedelta(days=10 * 365)
AUTHORITY_AGE = timedelta(days=30)
"""Authorities begin this long before the moment that they are made at."""
CRL_LIFETIME = timedelta(days=7)
_MARK = x509.UnrecognizedExtension(ObjectIdentifier(specimen.OID), specimen.VALUE)


@dataclass(frozen=True, slots=True)
class CardCredential:
    """What one card holds. Everything in it but the certificate's dates occurs on this card alone."""

    key: CardKey = field(repr=False)
    certificate: x509.Certificate = field(repr=False)
    chuid: bytes = field(repr=False)
    """The content of 5FC102."""
    card_uuid: bytes = field(repr=False)
    fasc_n: bytes = field(repr=False)
    uid: bytes = field(repr=False)
    """7 bytes, of ISO/IEC 14443-3."""
    capability_identifier: bytes = field(repr=False)
    """14 bytes, in the card capability container."""

    @property
    def canaries(self) -> Mapping[str, bytes]:
        """What must be found nowhere behind the reader, by name: raw bytes, for a leak scan to look for in every encoding."""
        serial = self.certificate.serial_number
        public = self.key.public_key()
        if isinstance(public, ec.EllipticCurvePublicKey):
            key = public.public_numbers().x.to_bytes(public.key_size // 8)
        else:
            key = public.public_numbers().n.to_bytes(public.key_size // 8)
        return {
            "card_uuid": self.card_uuid,
            "card_uuid_text": str(uuid.UUID(bytes=self.card_uuid)).encode(),
            "fasc_n": self.fasc_n,
            "serial": serial.to_bytes((serial.bit_length() + 7) // 8),
            "serial_decimal": str(serial).encode(),
            "public_key": key,
            "uid": self.uid,
            "capability_identifier": self.capability_identifier,
            "certificate_signature": self.certificate.signature,
        }


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: CardKey


class CardIssuer:
    """One root and, with `intermediate`, the authority below it that then issues the cards; a content signer for CHUIDs."""

    def __init__(
        self,
        name: str,
        now: datetime,
        *,
        random_bytes: Random = os.urandom,
        kind: KeyKind = KeyKind.P256,
        intermediate: bool = False,
    ) -> None:
        """`kind` is the authorities' own keys'."""
        self.name, self._random = name, random_bytes
        begin = (now - AUTHORITY_AGE).replace(microsecond=0)
        root_key = generate(kind)
        root = self._authority(_name(f"{name} root"), root_key.public_key(), root_key, None, begin)
        self._authorities = [_Authority(root, root_key)]
        if intermediate:
            key = generate(kind)
            below = self._authority(_name(f"{name} cards"), key.public_key(), root_key, root, begin)
            self._authorities.append(_Authority(below, key))
        self._signer_key = ec.generate_private_key(ec.SECP256R1())
        self.content_signer = self._end_entity(
            _name(f"{name} content signer"), self._signer_key.public_key(), begin, AUTHORITY_LIFETIME, CONTENT_SIGNING
        )
        self._revoked: list[int] = []
        self._crl_number = 0

    @property
    def root(self) -> x509.Certificate:
        return self._authorities[0].certificate

    @property
    def certificate(self) -> x509.Certificate:
        """Of the authority that issues the cards: the intermediate, or the root where there is none."""
        return self._authorities[-1].certificate

    @property
    def key(self) -> CardKey:
        """The issuing authority's."""
        return self._authorities[-1].key

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        return tuple(authority.certificate for authority in self._authorities[1:])

    def issue(
        self,
        now: datetime,
        *,
        key: CardKey | None = None,
        kind: KeyKind = KeyKind.P256,
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
        purpose: ObjectIdentifier | None = CARD_AUTHENTICATION,
        named: Collection[str] = ("fasc_n", "card_uuid"),
        extra: Iterable[Extra] = (),
        without: Collection[type[x509.ExtensionType]] = (),
    ) -> CardCredential:
        """A card with a new key of `kind`, or with `key`. `named`: which of its identifiers the certificate names.

        `purpose` None leaves the extended key usage out; `extra` replaces or adds extensions, `without` leaves some out.
        """
        key = key or generate(kind)
        card_uuid, number = random_uuid(self._random), random_fasc_n(self._random)
        begin = (valid_from or now - timedelta(minutes=1)).replace(microsecond=0)
        end = (valid_until or begin + CARD_LIFETIME).replace(microsecond=0)
        names: list[x509.GeneralName] = []
        if "fasc_n" in named:
            names.append(x509.OtherName(FASC_N, tlv(OCTET_STRING, number)))
        if "card_uuid" in named:
            names.append(x509.UniformResourceIdentifier(uuid.UUID(bytes=card_uuid).urn))
        extensions: list[Extra] = [(x509.SubjectAlternativeName(names), False)] if names else []
        # The subject names the card by its number, as the Common Policy's profile has it, and nobody who holds it.
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "KR"),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, str(uuid.UUID(bytes=card_uuid))),
            ]
        )
        certificate = self._end_entity(
            subject, key.public_key(), begin, end - begin, purpose, extra=[*extensions, *extra], without=without
        )
        return CardCredential(
            key=key,
            certificate=certificate,
            chuid=chuid.build(number, card_uuid, end.date(), self.content_signer, self._signer_key),
            card_uuid=card_uuid,
            fasc_n=number,
            uid=b"\x04" + self._random(6),
            capability_identifier=self._random(14),
        )

    def revoke(self, credential: CardCredential) -> None:
        """The next list names its certificate."""
        self._revoked.append(credential.certificate.serial_number)

    def crls(self, now: datetime) -> dict[str, bytes]:
        """The next revocation list of each authority, DER, by file name."""
        self._crl_number += 1
        return {
            _file(authority.certificate): self._crl(
                authority, self._revoked if authority is self._authorities[-1] else (), now
            )
            for authority in self._authorities
        }

    def publish(self, directory: Path, now: datetime) -> None:
        """Write what a gate needs: `anchors/` (PEM, the root), `intermediates/` (PEM) and `crl/` (DER, next lists)."""
        replace_file(directory / "anchors" / f"{_file(self.root)}.pem", self.root.public_bytes(Encoding.PEM))
        for certificate in self.intermediates:
            path = directory / "intermediates" / f"{_file(certificate)}.pem"
            replace_file(path, certificate.public_bytes(Encoding.PEM))
        for name, raw in self.crls(now).items():
            replace_file(directory / "crl" / f"{name}.crl", raw)

    def _authority(
        self, subject: x509.Name, key: PublicKey, issuer_key: CardKey, issuer: x509.Certificate | None, begin: datetime
    ) -> x509.Certificate:
        extensions: list[Extra] = [
            (x509.BasicConstraints(ca=True, path_length=None if issuer is None else 0), True),
            (usage(key_cert_sign=True, crl_sign=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (_MARK, False),
        ]
        if issuer is not None:
            extensions.append(
                (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
            )
        return self._certificate(
            subject, issuer.subject if issuer else subject, key, issuer_key, begin, AUTHORITY_LIFETIME, extensions
        )

    def _end_entity(
        self,
        subject: x509.Name,
        key: PublicKey,
        begin: datetime,
        lifetime: timedelta,
        purpose: ObjectIdentifier | None,
        *,
        extra: Iterable[Extra] = (),
        without: Collection[type[x509.ExtensionType]] = (),
    ) -> x509.Certificate:
        extensions: list[Extra] = [
            (usage(digital_signature=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
            (_distribution(_file(self.certificate)), False),
        ]
        if purpose is not None:
            extensions.append((x509.ExtendedKeyUsage([purpose]), True))
        if purpose == CARD_AUTHENTICATION:
            extensions.append((x509.CertificatePolicies([x509.PolicyInformation(POLICY, None)]), False))
        chosen = {extension.oid: (extension, critical) for extension, critical in (*extensions, *extra)}
        kept = [(extension, critical) for extension, critical in chosen.values() if type(extension) not in without]
        return self._certificate(subject, self.certificate.subject, key, self.key, begin, lifetime, kept)

    def _certificate(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: PublicKey,
        issuer_key: CardKey,
        begin: datetime,
        lifetime: timedelta,
        extensions: Iterable[Extra],
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(int.from_bytes(b"\x40" + self._random(15)))
            .not_valid_before(begin)
            .not_valid_after(begin + lifetime)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(issuer_key, key_hash(issuer_key))

    def _crl(self, authority: _Authority, serials: Iterable[int], now: datetime) -> bytes:
        moment = now.replace(microsecond=0)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.certificate.subject)
            .last_update(moment)
            .next_update(moment + CRL_LIFETIME)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
            )
            .add_extension(x509.CRLNumber(self._crl_number), critical=False)
        )
        for serial in serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment).build()
            )
        return builder.sign(authority.key, key_hash(authority.key)).public_bytes(Encoding.DER)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "KR"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def _file(certificate: x509.Certificate) -> str:
    """A name that no other authority's file has."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()[:4].hex()


def _distribution(name: str) -> x509.CRLDistributionPoints:
    uri = x509.UniformResourceIdentifier(f"http://issuer.example/{name}.crl")
    return x509.CRLDistributionPoints([x509.DistributionPoint([uri], None, None, None)])
