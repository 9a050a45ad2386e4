"""Document signers that are not what 18013-5 9.3.3 and table B.3 ask, signed by the genuine root or seemingly so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mdoc.verdict import Failure
from tests.conftest import NOW
from tests.mdoc.forgeries import mutations, x509
from tests.mdoc.forgeries.builder import (
    ROOT,
    SIGNER,
    STRANGER,
    Forgery,
    Plan,
    response,
    root_der,
)
from tests.mdoc.forgeries.values import BAD, MALFORMED, NOBODY, SIGNATURE, UNKNOWN, UNREADABLE
from tests.mdoc.forgeries.wire import integer, oid, put, sequence, tlv
from tests.mdoc.forgeries.x509 import AKI, CA, COMMON_NAME, COUNTRY, DAY, EKU, KU, SKI, STATE, Draft, key

GENUINE = x509.signer(SIGNER, ROOT)


def _drafts() -> Iterator[tuple[str, str, Draft, frozenset[Failure]]]:
    """Signers that the genuine root has signed, or seems to."""
    yield "signed by a stranger with the root's name", "9.3.3", replace(GENUINE, signed_by=STRANGER), UNKNOWN
    yield "self-signed", "9.3.3", x509.root(SIGNER, x509.SIGNER_NAME), UNKNOWN
    yield "self-signed under the root's name", "9.3.3", x509.root(SIGNER), UNKNOWN
    signed_itself = replace(GENUINE, issuer=x509.SIGNER_NAME, signed_by=SIGNER)
    yield "signer's profile, self-signed", "9.3.3", signed_itself, UNKNOWN
    yield (
        "an issuer of another name, signed by the root",
        "RFC 5280 6.1.3",
        replace(GENUINE, issuer=((COUNTRY, "KR"), (COMMON_NAME, "Other"))),
        UNKNOWN,
    )
    yield "the root's key as the signer's", "B.1.4", x509.signer(ROOT, ROOT), BAD
    compressed = replace(x509.signer(ROOT, ROOT), info=_point(_compressed(ROOT)))
    yield "the root's key as the signer's, as a compressed point", "B.1.4", compressed, BAD | UNREADABLE
    yield "a certification authority", "B.1.4", _with(x509.constraints(CA)), BAD
    yield "an authority of path length 0", "B.1.4", _with(x509.constraints(CA + integer(0))), BAD
    yield "a path length without authority", "B.1.4", _with(x509.constraints(integer(0))), BAD
    yield "the root's own profile", "B.1.4", replace(x509.root(SIGNER), issuer=x509.ROOT_NAME, signed_by=ROOT), BAD
    for kind, words in ((KU, "key usage"), (EKU, "extended key usage"), (AKI, "authority key identifier")):
        yield f"no {words}", "table B.3", replace(GENUINE, extensions=x509.without(GENUINE, kind)), BAD
    yield "no extension at all", "table B.3", replace(GENUINE, extensions=()), BAD
    for kind, words in (
        ("1.0.18013.5.1.6", "reader authentication"),
        ("1.0.18013.5.1.8", "VICAL signing"),
        ("1.0.18013.5.1.1", "another arc of 18013-5"),
        ("1.0.18013.5.1.2.1", "an arc below the right one"),
        ("1.0.23220.4.1.6", "23220 reader authentication"),
        ("1.3.6.1.5.5.7.3.1", "TLS server"),
        ("1.3.6.1.5.5.7.3.2", "TLS client"),
        ("1.3.6.1.5.5.7.3.3", "code signing"),
        ("2.5.29.37.0", "any purpose"),
    ):
        yield f"extended key usage: {words}", "table B.3", _with(x509.purposes(kind)), BAD
        yield f"extended key usage: {words} beside", "table B.3", _with(x509.purposes(x509.MDL_DS, kind)), BAD
    yield "extended key usage: the same twice", "table B.3", _with(x509.purposes(x509.MDL_DS, x509.MDL_DS)), BAD
    yield "extended key usage: none", "table B.3", _with(x509.purposes()), BAD
    yield "extended key usage not critical", "table B.3", _with(x509.purposes(x509.MDL_DS, critical=False)), BAD
    for bits, words in (
        (0x0000, "nothing"),
        (0x0400, "keyCertSign"),
        (0x8400, "digitalSignature and keyCertSign"),
        (0x8200, "digitalSignature and cRLSign"),
        (0x4000, "nonRepudiation"),
        (0xC000, "digitalSignature and nonRepudiation"),
        (0x0800, "keyAgreement"),
        (0x8800, "digitalSignature and keyAgreement"),
        (0x0600, "an authority's"),
        (0xFF80, "everything"),
    ):
        yield f"key usage: {words}", "table B.3", _with(x509.usage(bits)), BAD
    yield "key usage not critical", "table B.3", _with((KU, False, x509.usage(0x8000)[2])), BAD
    yield "key usage that is no bit string", "RFC 5280 4.2.1.3", _with((KU, True, integer(128))), UNREADABLE
    yield "authority key identifier of a stranger", "table B.3", _with(_aki(x509.identifier(STRANGER))), BAD
    yield "authority key identifier cut short", "table B.3", _with(_aki(x509.identifier(ROOT)[:-1])), BAD
    yield "authority key identifier empty", "table B.3", _with(_aki(b"")), BAD
    yield "authority key identifier without key", "table B.3", _with((AKI, False, sequence())), BAD
    yield "authority key identifier, the right one second", "table B.3", _with(_two_identifiers()), UNREADABLE
    for kind, words in (
        ("2.5.29.30", "nameConstraints"),
        ("2.5.29.33", "policyMappings"),
        ("2.5.29.36", "policyConstraints"),
        ("2.5.29.54", "inhibitAnyPolicy"),
        ("2.5.29.46", "freshestCRL"),
    ):
        for critical in (True, False):
            spelled = f"{words}{', critical' if critical else ''}"
            yield spelled, "table B.3", _and((kind, critical, sequence())), BAD
    for kind, words in (
        ("1.2.3.4.5", "unknown"),
        ("2.5.29.32", "certificatePolicies"),
        ("2.5.29.17", "subjectAltName"),
        ("2.5.29.18.1", "below issuerAltName"),
        ("2.16.840.1.113730.1.1", "Netscape's type"),
    ):
        yield f"critical extension: {words}", "RFC 5280 4.2", _and((kind, True, sequence())), BAD
    endless = replace(GENUINE, tbs=_long_identifier)
    yield "critical extension: an identifier of 2,500 bytes", "RFC 5280 4.2", endless, BAD
    for kind, words in ((AKI, "AKI"), (SKI, "SKI"), (x509.CRL_DP, "distribution points"), (x509.IAN, "issuerAltName")):
        value = next(entry[2] for entry in GENUINE.extensions if entry[0] == kind)
        yield f"{words} critical", "RFC 5280 4.2.1", _with((kind, True, value)), BAD
    for entry in GENUINE.extensions:
        yield f"extension {entry[0]} twice", "RFC 5280 4.2", _and(entry), UNREADABLE
    yield "a reader's purpose in a second extension", "RFC 5280 4.2", _and(x509.purposes("1.0.18013.5.1.6")), UNREADABLE
    country, state = ((COUNTRY, "US"), (COMMON_NAME, "Signer")), (*x509.SIGNER_NAME, (STATE, "Busan"))
    yield "another country", "table B.3", replace(GENUINE, subject=country), BAD
    yield "no country", "table B.3", replace(GENUINE, subject=((COMMON_NAME, "Signer"),)), BAD
    yield "two countries", "table B.3", replace(GENUINE, subject=((COUNTRY, "KR"), *country)), BAD
    yield "country in lower case", "table B.3", replace(GENUINE, subject=((COUNTRY, "kr"), (COMMON_NAME, "S"))), BAD
    yield "a state that the root has not", "table B.3", replace(GENUINE, subject=state), BAD
    two_values = replace(GENUINE, subject_der=_two_values())
    yield "a second value behind the country", "RFC 5280 4.1.2.4", two_values, UNREADABLE
    yield "no name at all", "table B.3", replace(GENUINE, subject=()), BAD
    yield "expired", "9.3.3", replace(GENUINE, end=NOW - DAY), BAD
    yield "expired a second ago", "9.3.3", replace(GENUINE, end=NOW - timedelta(seconds=1)), BAD
    yield "not yet valid", "9.3.3", replace(GENUINE, begin=NOW + DAY), BAD
    yield "begins after it ends", "RFC 5280 4.1.2.5", replace(GENUINE, begin=NOW + DAY, end=NOW - DAY), BAD
    after, before = replace(GENUINE, begin=NOW - DAY), replace(GENUINE, end=NOW - 3 * DAY)
    yield "begins after the document was signed", "9.3.1 step 5", after, BAD
    yield "ended before the document was signed", "9.3.1 step 5", before, BAD
    yield "version 1", "table B.3", replace(GENUINE, version=0, extensions=()), BAD
    yield "version 1 with extensions", "RFC 5280 4.1.2.1", replace(GENUINE, version=0), UNREADABLE
    yield "version 2", "table B.3", replace(GENUINE, version=1), BAD
    yield "version 4", "table B.3", replace(GENUINE, version=3), BAD
    sha1 = replace(GENUINE, algorithm=x509.ECDSA_SHA1, digest=hashes.SHA1())  # noqa: S303  what is forged
    yield "signed over SHA-1", "table B.1", sha1, NOBODY
    sha224 = replace(GENUINE, algorithm="1.2.840.10045.4.3.1", digest=hashes.SHA224())
    yield "signed over SHA-224", "table B.1", sha224, NOBODY
    yield "names RSA", "table B.1", replace(GENUINE, algorithm="1.2.840.113549.1.1.11"), NOBODY
    yield "names SHA-384 over SHA-256", "table B.1", replace(GENUINE, algorithm="1.2.840.10045.4.3.3"), NOBODY
    yield "two algorithms", "RFC 5280 4.1.1.2", replace(GENUINE, whole=_other_algorithm), UNREADABLE
    yield "a signature of zeros", "9.3.3", replace(GENUINE, signature=lambda found: bytes(len(found))), NOBODY
    zeros = sequence(integer(0), integer(0))
    yield "a signature of r = s = 0", "9.3.3", replace(GENUINE, signature=lambda _: zeros), NOBODY
    yield "no signature", "9.3.3", replace(GENUINE, signature=lambda _: b""), NOBODY | MALFORMED
    yield "a byte after it", "RFC 5280 4.1", replace(GENUINE, whole=lambda found: found + b"\0"), UNREADABLE
    yield "a certificate after it", "RFC 5280 4.1", replace(GENUINE, whole=lambda found: found + root_der()), UNREADABLE
    yield "cut short", "RFC 5280 4.1", replace(GENUINE, whole=lambda found: found[:-1]), UNREADABLE
    yield "empty", "RFC 5280 4.1", replace(GENUINE, whole=lambda _: b""), UNREADABLE
    yield "as PEM", "9.1.2.4", replace(GENUINE, whole=lambda _: b"-----BEGIN CERTIFICATE-----"), UNREADABLE
    yield "larger than any", "limits", _and(("1.2.3.4", False, tlv(0x04, bytes(5000)))), UNREADABLE
    rsa_key = _rsa_info()
    yield "an RSA key", "table B.3", replace(GENUINE, info=rsa_key), UNREADABLE
    yield "a key on secp256k1", "table B.3", x509.signer(key(30, "secp256k1"), ROOT), UNREADABLE
    yield "a key off its curve", "table B.3", replace(GENUINE, info=_off_curve()), UNREADABLE
    yield "a key with parameters spelled out", "table B.3", replace(GENUINE, info=_explicit()), UNREADABLE | SIGNATURE
    neutral = sequence(sequence(oid("1.3.101.112")), tlv(0x03, b"\0", b"\1" + bytes(31)))
    yield "an Ed25519 key of small order", "table B.3", replace(GENUINE, info=neutral), UNREADABLE
    yield "a key at infinity", "table B.3", replace(GENUINE, info=_point(b"\0")), UNREADABLE


def _long_identifier(tbs: bytes) -> bytes:
    """A critical extension whose identifier has one arc of 5,000 digits."""
    (tree,) = mutations.read(tbs)
    entry = sequence(tlv(0x06, b"\xff" * 2500 + b"\x01"), tlv(0x01, b"\xff"), tlv(0x04, b""))
    tree.children[-1].children[0].children.extend(mutations.read(entry))
    return tree.encode()


def _two_values() -> bytes:
    """A Name whose country has a second value behind the first."""
    values = tlv(0x13, b"KR"), tlv(0x13, b"US")
    common = tlv(0x31, sequence(oid(COMMON_NAME), tlv(0x0C, b"Signer")))
    return sequence(tlv(0x31, sequence(oid(COUNTRY), *values)), common)


def _with(*extensions: x509.Extension) -> Draft:
    return replace(GENUINE, extensions=x509.replaced(GENUINE, *extensions))


def _and(*extensions: x509.Extension) -> Draft:
    return replace(GENUINE, extensions=(*GENUINE.extensions, *extensions))


def _aki(identifier: bytes) -> x509.Extension:
    return AKI, False, sequence(tlv(0x80, identifier))


def _two_identifiers() -> x509.Extension:
    identifiers = tlv(0x80, x509.identifier(ROOT)), tlv(0x80, x509.identifier(STRANGER))
    return AKI, False, sequence(*identifiers)


def _other_algorithm(found: bytes) -> bytes:
    used, other = (oid(f"1.2.840.10045.4.3.{number}") for number in (2, 3))
    at = found.rindex(used)
    return found[:at] + other + found[at + len(used) :]


def _rsa_info() -> bytes:
    public = rsa.RSAPublicNumbers(65537, (1 << 2047) + 5).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _point(bits: bytes) -> bytes:
    algorithm = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"))
    return sequence(algorithm, tlv(0x03, b"\0", bits))


def _compressed(private: x509.PrivateKey) -> bytes:
    bits = x509.key_bits(private)
    return bytes((2 + bits[-1] % 2,)) + bits[1:33]


def _off_curve() -> bytes:
    bits = x509.key_bits(SIGNER)
    return _point(bits[:-1] + bytes((bits[-1] ^ 1,)))


def _explicit() -> bytes:
    """P-256 spelled out with the signer's own point as generator, so that anybody can sign for it (CVE-2020-0601)."""
    prime = (1 << 256) - (1 << 224) + (1 << 192) + (1 << 96) - 1
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    bits = x509.key_bits(SIGNER)
    curve = sequence(tlv(0x04, (prime - 3).to_bytes(32, "big")), tlv(0x04, b.to_bytes(32, "big")))
    field = sequence(oid("1.2.840.10045.1.1"), integer(prime))
    parameters = sequence(integer(1), field, curve, tlv(0x04, bits), integer(order), integer(1))
    return sequence(sequence(oid("1.2.840.10045.2.1"), parameters), tlv(0x03, b"\0", bits))


def formal() -> Iterator[tuple[str, str, Draft]]:
    """(what is wrong, why nothing rests on it, signer): breaches of rows that only strictness `full` asks for."""
    handled = "RFC 5280 4.1.2.2 asks verifiers to handle it; a revocation list still names the certificate by it"
    yield "serial number negative", handled, replace(GENUINE, serial=-5)
    yield "serial number zero", handled, replace(GENUINE, serial=0)
    yield "serial number of 21 octets", handled, replace(GENUINE, serial=1 << 160)
    yield "serial number of 200 octets", handled, replace(GENUINE, serial=1 << 1590)
    contact = "a way to reach the issuer, which an offline gate does not use"
    yield "no issuer alternative name", contact, replace(GENUINE, extensions=x509.without(GENUINE, x509.IAN))
    yield "no distribution point", contact, replace(GENUINE, extensions=x509.without(GENUINE, x509.CRL_DP))
    label = "a label; the chain is made of names and signatures"
    yield "no subject key identifier", label, replace(GENUINE, extensions=x509.without(GENUINE, SKI))
    yield "another key's identifier as its own", label, _with((SKI, False, tlv(0x04, x509.identifier(STRANGER))))
    yield "no common name", label, replace(GENUINE, subject=((COUNTRY, "KR"),))
    dates = "its dates and the root's are each judged now and at signing"
    yield "valid for ten years", dates, replace(GENUINE, end=NOW + 3600 * DAY)
    yield "valid longer than the root", dates, replace(GENUINE, begin=NOW - 500 * DAY)


def forgeries() -> Iterator[Forgery]:
    for name, clause, draft, expected in _drafts():
        # Those that other keys than the signer's stand for are signed with that key, so that nothing else is wrong.
        plan = Plan(
            key=draft.key, chain=[draft.der()], protected=put(1, -7)
        )  # secp256k1 as what a careless reader takes it for
        yield Forgery(name=f"signer: {name}", clause=clause, raw=response(plan), expected=expected)
