"""Certificates of the machines (not of people): one authority for MQTT over TLS, the broker, each gate and the controller.

The common name of a client is what the broker's access list knows it by: the gate's id, or `controller`
(controller.acl). EC P-256, SHA-256; every file has mode 0600.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

CONTROLLER = "controller"
BROKER_NAMES = ("127.0.0.1", "localhost", "::1")
LIFETIME = timedelta(days=90)
SKEW = timedelta(minutes=5)
"""Certificates begin this long ago: the machine that checks them may be a little behind."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its private key, both PEM."""

    certificate: Path
    key: Path


class DevicePki:
    """Keeps its files in one directory; `ca` is what everybody trusts, `records` signs for the controller what it holds."""

    def __init__(self, directory: Path, now: datetime) -> None:
        """Makes the directory and a new authority in it."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory, self._now = directory, now
        self._clients: dict[str, Identity] = {}
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Gwanmun device authority")
        self._certificate = self._sign(
            self._builder(name, name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        )
        self.ca = directory / "ca.pem"
        _write(self.ca, self._certificate.public_bytes(serialization.Encoding.PEM))
        self.records = ec.generate_private_key(ec.SECP256R1())
        self.records_key, self.records_public = directory / "records.key", directory / "records.pub.pem"
        _write(self.records_key, _private(self.records))
        _write(
            self.records_public,
            self.records.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
        )

    def server(self, names: Sequence[str] = BROKER_NAMES) -> Identity:
        """The broker; `names` are the host names and addresses it is reached by."""
        return self._issue("broker", "broker", ExtendedKeyUsageOID.SERVER_AUTH, names)

    def client(self, common_name: str) -> Identity:
        """A gate, by its id, or the controller. Issued once; asked again, it is the same."""
        if common_name not in self._clients:
            self._clients[common_name] = self._issue(common_name, common_name, ExtendedKeyUsageOID.CLIENT_AUTH, ())
        return self._clients[common_name]

    def revoked(self, *identities: Identity, now: datetime | None = None, lifetime: timedelta = LIFETIME) -> bytes:
        """The authority's list of revoked certificates (PEM), in force from `now` for `lifetime`."""
        begin = (now or self._now) - SKEW
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(begin)
            .next_update(begin + lifetime)
        )
        for identity in identities:
            serial = x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begin).build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _issue(self, file: str, common_name: str, purpose: ObjectIdentifier, names: Sequence[str]) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(_name(common_name), self._certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(each) for each in names]), critical=False
            )
        identity = Identity(self.directory / f"{file}.pem", self.directory / f"{file}.key")
        _write(identity.certificate, self._sign(builder).public_bytes(serialization.Encoding.PEM))
        _write(identity.key, _private(key))
        return identity

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - SKEW)
            .not_valid_after(self._now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, hashes.SHA256())


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, content: bytes) -> None:
    """Never readable by anybody else, not even for a moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
