"""issuerAuth that is not what RFC 9052 and 18013-5 9.1.2.4 ask."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes

from mdoc.verdict import Failure
from tests.mdoc.forgeries import x509
from tests.mdoc.forgeries.builder import (
    DEVICE,
    READER,
    ROOT,
    SIGNER,
    STRANGER,
    Forgery,
    Plan,
    response,
)
from tests.mdoc.forgeries.cose import algorithms, headers, proofs, signed_content, structures
from tests.mdoc.forgeries.values import (
    MALFORMED,
    SIGNATURE,
)
from tests.mdoc.forgeries.wire import (
    Tagged,
    put,
    write,
)
from tests.mdoc.forgeries.x509 import key, raw_signature


def _issuer() -> Iterator[tuple[str, str, Plan, frozenset[Failure]]]:
    for name, hook in algorithms():
        yield f"alg {name}", "9.1.2.4", Plan(protected=hook), MALFORMED | SIGNATURE
    for name, hook in headers():
        yield f"protected: {name}", "RFC 9052 3", Plan(protected=hook), MALFORMED | SIGNATURE
    for name, hook in structures():
        yield name, "RFC 9052 4.2", Plan(issuer_auth=hook), MALFORMED | SIGNATURE
    yield "tagged as COSE_Mac0", "RFC 9052 2", Plan(issuer_auth=lambda array: Tagged(17, array)), MALFORMED
    yield "payload nil", "9.1.2.4", Plan(issuer_auth=lambda array: [*array[:2], None, array[3]]), MALFORMED
    yield "payload empty", "9.1.2.4", Plan(issuer_auth=lambda array: [*array[:2], b"", array[3]]), MALFORMED
    for name, hook in proofs():
        yield f"signature: {name}", "RFC 9053 2.1", Plan(issuer_signature=hook), SIGNATURE
    for name, hook in signed_content("Signature1"):
        yield f"signed over: {name}", "RFC 9052 4.4", Plan(issuer_tbs=hook), SIGNATURE
    yield "signed with the device key", "9.3.1 step 2", Plan(key=DEVICE), SIGNATURE
    yield "signed with a stranger's key", "9.3.1 step 2", Plan(key=STRANGER), SIGNATURE
    yield "signed with the reader's key", "9.3.1 step 2", Plan(key=READER), SIGNATURE
    yield "signed with the root's key", "B.1.2", Plan(key=ROOT), SIGNATURE
    yield "signed with the hash of P-384", "RFC 9053 2.1", _hashed(hashes.SHA384()), SIGNATURE
    yield "signed over SHA-1", "RFC 9053 2.1", _hashed(hashes.SHA1()), SIGNATURE  # noqa: S303  what is forged
    yield "a MAC in place of the signature", "9.1.2.4", _mac_in_place(), MALFORMED | SIGNATURE
    for curve, other in (
        ("secp384r1", -7),
        ("secp521r1", -35),
        ("ed25519", -7),
        ("ed448", -19),
        ("brainpoolP256r1", -9),
    ):
        private = key(20, curve)
        chain = [x509.signer(private, ROOT).der()]
        plan = Plan(key=private, chain=chain, protected=put(1, other))
        yield f"alg {other} with a key on {curve}", "table B.2", plan, SIGNATURE


def _hashed(algorithm: hashes.HashAlgorithm) -> Plan:
    tbs: list[bytes] = []

    def keep(parts: list[Any]) -> list[Any]:
        tbs.append(write(parts))
        return parts

    return Plan(issuer_tbs=keep, issuer_signature=lambda _: raw_signature(SIGNER, tbs[-1], algorithm))


def _mac_in_place() -> Plan:
    """HMAC keyed with the signer's public key, which everybody knows."""
    tbs: list[bytes] = []

    def keep(parts: list[Any]) -> list[Any]:
        tbs.append(write(["MAC0", *parts[1:]]))
        return parts

    return Plan(
        protected=put(1, 5),
        issuer_tbs=keep,
        issuer_signature=lambda _: hmac.digest(x509.key_bits(SIGNER), tbs[-1], "sha256"),
    )


def forgeries() -> Iterator[Forgery]:
    for name, clause, plan, expected in _issuer():
        yield Forgery(name=f"issuerAuth: {name}", clause=clause, raw=response(plan), expected=expected)
