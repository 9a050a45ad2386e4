"""Certificates to the 18013-5 profiles (Annex B): IACA, document signer, status and list signer, reader root, reader.

Every builder takes what may deviate as a parameter, so that a test makes a forgery from the same code that makes the genuine
certificate: `without` leaves extensions out, `extra` replaces or adds some (last of a kind wins).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mdoc.certificates import EKU_MDOC_DS, EKU_MDOC_READER, EKU_VICAL_SIGNER

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
Extra = tuple[x509.ExtensionType, bool]
"""(extension, critical)."""


def _name(common_name: str, country: str, state: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COUNTRY_NAME, country)] if country else []
    if state:
        attributes.append(x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, state))
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def usage(**on: bool) -> x509.KeyUsage:
    """KeyUsage with the named bits on."""
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


_ALTERNATIVE = x509.IssuerAlternativeName([x509.UniformResourceIdentifier("https://issuer.example/")])


def _hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """The hash of the key's strength; Ed25519 and Ed448 bring their own."""
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    if key.curve.key_size > 384:
        return hashes.SHA512()
    return hashes.SHA384() if key.curve.key_size > 256 else hashes.SHA256()


def _sign(
    builder: x509.CertificateBuilder,
    key: PrivateKey,
    extensions: Iterable[Extra],
    extra: Iterable[Extra],
    without: Collection[type[x509.ExtensionType]],
    algorithm: hashes.HashAlgorithm | None,
) -> x509.Certificate:
    chosen: dict[ObjectIdentifier, Extra] = {}
    for extension, critical in extensions:
        if type(extension) not in without:
            chosen[extension.oid] = (extension, critical)
    chosen.update({extension.oid: (extension, critical) for extension, critical in extra})
    for extension, critical in chosen.values():
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, algorithm or _hash(key))  # type: ignore[arg-type]  # weak hashes are for forgeries in tests


def root(
    key: PrivateKey,
    common_name: str,
    *,
    country: str,
    not_before: datetime,
    lifetime: timedelta,
    state: str | None = None,
    serial: int | None = None,
    extra: Iterable[Extra] = (),
    without: Collection[type[x509.ExtensionType]] = (),
    algorithm: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    """A self-signed root (table B.1): IACA, or root of readers or of list signers."""
    name = _name(common_name, country, state)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + lifetime)
    )
    extensions: tuple[Extra, ...] = (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage(key_cert_sign=True, crl_sign=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (_ALTERNATIVE, False),
        (_distribution("https://issuer.example/iaca.crl"), False),
    )
    return _sign(builder, key, extensions, extra, without, algorithm)


def leaf(
    key: PublicKey,
    common_name: str,
    *,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    not_before: datetime,
    lifetime: timedelta,
    purpose: ObjectIdentifier | None,
    country: str | None = None,
    state: str | None = None,
    serial: int | None = None,
    extra: Iterable[Extra] = (),
    without: Collection[type[x509.ExtensionType]] = (),
    algorithm: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    """An end-entity certificate below `issuer` (tables B.3 and B.7); `purpose` is its only, critical extended key usage.

    Country and state are the issuer's unless given; an empty one is left out.
    """

    def issuers(oid: ObjectIdentifier) -> str | None:
        found = issuer.subject.get_attributes_for_oid(oid)
        return str(found[0].value) if found else None

    name = _name(
        common_name,
        country if country is not None else issuers(NameOID.COUNTRY_NAME) or "",
        state if state is not None else issuers(NameOID.STATE_OR_PROVINCE_NAME),
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(min(not_before + lifetime, issuer.not_valid_after_utc))
    )
    extensions: list[Extra] = [
        (usage(digital_signature=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
        (_ALTERNATIVE, False),
        (_distribution("https://issuer.example/ds.crl"), False),
    ]
    if purpose is not None:
        extensions.append((x509.ExtendedKeyUsage([purpose]), True))
    return _sign(builder, issuer_key, extensions, extra, without, algorithm)


def document_signer(
    key: PublicKey,
    *,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    not_before: datetime,
    lifetime: timedelta = timedelta(days=457),
    purpose: ObjectIdentifier | None = EKU_MDOC_DS,
    country: str | None = None,
    state: str | None = None,
    extra: Iterable[Extra] = (),
    without: Collection[type[x509.ExtensionType]] = (),
    algorithm: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    """Table B.3 allows at most 457 days. A driving licence's signer has the purpose EKU_MDL_DS."""
    return leaf(
        key,
        "Gwanmun demo document signer",
        issuer=issuer,
        issuer_key=issuer_key,
        not_before=not_before,
        lifetime=lifetime,
        purpose=purpose,
        country=country,
        state=state,
        extra=extra,
        without=without,
        algorithm=algorithm,
    )


def status_signer(
    key: PublicKey,
    common_name: str,
    *,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    not_before: datetime,
    lifetime: timedelta = timedelta(days=457),
) -> x509.Certificate:
    """Signs revocation lists of credentials; its purpose has no number yet (Token Status List 11.3)."""
    return leaf(
        key,
        common_name,
        issuer=issuer,
        issuer_key=issuer_key,
        not_before=not_before,
        lifetime=lifetime,
        purpose=None,
    )


def vical_signer(
    key: PublicKey,
    common_name: str,
    *,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    not_before: datetime,
    lifetime: timedelta = timedelta(days=1187),
    purpose: ObjectIdentifier | None = EKU_VICAL_SIGNER,
    extra: Iterable[Extra] = (),
) -> x509.Certificate:
    """C.1.7.1, with nonRepudiation as real signers have it."""
    return leaf(
        key,
        common_name,
        issuer=issuer,
        issuer_key=issuer_key,
        not_before=not_before,
        lifetime=lifetime,
        purpose=purpose,
        extra=((usage(content_commitment=True), True), *extra),
    )


def reader(
    key: PublicKey,
    common_name: str,
    *,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
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
