"""Certificates to the 18013-5 profiles (Annex B): IACA, document signer, status signer, reader root, reader."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mdoc.certificates import EKU_MDOC_DS, EKU_MDOC_READER


def _name(common_name: str, country: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, country),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(**on: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


def _distribution(uri: str) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints([x509.DistributionPoint([x509.UniformResourceIdentifier(uri)], None, None, None)])


def root(
    key: ec.EllipticCurvePrivateKey,
    common_name: str,
    *,
    country: str,
    not_before: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """A self-signed root (table B.1): IACA or reader root."""
    name = _name(common_name, country)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.IssuerAlternativeName([x509.UniformResourceIdentifier("https://issuer.example/")]), critical=False
        )
        .add_extension(_distribution("https://issuer.example/iaca.crl"), critical=False)
        .sign(key, hashes.SHA256())
    )


def leaf(
    key: ec.EllipticCurvePublicKey,
    common_name: str,
    *,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    not_before: datetime,
    lifetime: timedelta,
    purpose: ObjectIdentifier | None,
) -> x509.Certificate:
    """An end-entity certificate below `issuer` (tables B.3 and B.7); `purpose` is its only, critical extended key usage."""
    country = str(issuer.subject.get_attributes_for_oid(NameOID.COUNTRY_NAME)[0].value)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name, country))
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(min(not_before + lifetime, issuer.not_valid_after_utc))
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(
            x509.IssuerAlternativeName([x509.UniformResourceIdentifier("https://issuer.example/")]), critical=False
        )
        .add_extension(_distribution("https://issuer.example/ds.crl"), critical=False)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def document_signer(
    key: ec.EllipticCurvePublicKey,
    *,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    not_before: datetime,
    lifetime: timedelta = timedelta(days=457),
) -> x509.Certificate:
    """Table B.3 allows at most 457 days."""
    return leaf(
        key,
        "Gwanmun demo document signer",
        issuer=issuer,
        issuer_key=issuer_key,
        not_before=not_before,
        lifetime=lifetime,
        purpose=EKU_MDOC_DS,
    )


def reader(
    key: ec.EllipticCurvePublicKey,
    common_name: str,
    *,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    not_before: datetime,
    lifetime: timedelta = timedelta(days=365),
) -> x509.Certificate:
    """Table B.7."""
    return leaf(
        key,
        common_name,
        issuer=issuer,
        issuer_key=issuer_key,
        not_before=not_before,
        lifetime=lifetime,
        purpose=EKU_MDOC_READER,
    )
