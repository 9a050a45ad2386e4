"""x5chain and roots: who stands above a document signer, and in which order (18013-5 9.1.2.4, B.1.2; RFC 9360)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes

from mdoc.verdict import Failure
from tests.mdoc.forgeries import x509
from tests.mdoc.forgeries.builder import (
    ROOT,
    SIGNER,
    STRANGER,
    Forgery,
    Gate,
    Plan,
    attempt,
    response,
    root_der,
    signer_der,
)
from tests.mdoc.forgeries.signers import GENUINE
from tests.mdoc.forgeries.values import BAD, MALFORMED, SIGNATURE, UNKNOWN, UNREADABLE
from tests.mdoc.forgeries.wire import drop, integer, put, sequence
from tests.mdoc.forgeries.x509 import BC, CA, COMMON_NAME, COUNTRY, KU, Draft, key

STRANGE_ROOT = x509.root(STRANGER)
"""The genuine root's name over a stranger's key."""


def _chains() -> Iterator[tuple[str, str, Sequence[Any], Any, frozenset[Failure]]]:
    """Whole x5chains: name, clause, certificates, the key that signs, reasons."""
    below_key = key(31)
    below = x509.signer(below_key, SIGNER, x509.SIGNER_NAME).der()
    middle_name = ((COUNTRY, "KR"), (COMMON_NAME, "Middle"))
    middle = replace(x509.root(STRANGER, middle_name), issuer=x509.ROOT_NAME, signed_by=ROOT).der()
    under_middle = x509.signer(SIGNER, STRANGER, middle_name).der()
    foreign = x509.signer(SIGNER, STRANGER).der()
    foreign_root = STRANGE_ROOT.der()
    other_root = x509.root(STRANGER, middle_name).der()
    yield "the root signs the MSO itself", "B.1.2", [root_der()], ROOT, BAD
    yield "the root signs the MSO, the signer behind it", "B.1.2", [root_der(), signer_der()], ROOT, BAD
    yield "a signer below the signer", "B.1.2", [below], below_key, UNKNOWN
    yield "a signer below the signer, with the way up", "B.1.2", [below, signer_der()], below_key, UNKNOWN
    yield "and with the root", "B.1.2", [below, signer_der(), root_der()], below_key, UNKNOWN
    yield "an intermediate authority", "B.1.2", [under_middle, middle], SIGNER, UNKNOWN
    yield "an intermediate authority and the root", "B.1.2", [under_middle, middle, root_der()], SIGNER, UNKNOWN
    yield "the intermediate authority signs the MSO", "B.1.2", [middle], STRANGER, BAD
    yield "a stranger's signer", "9.3.3", [foreign], SIGNER, UNKNOWN
    yield "a stranger's signer with the stranger's root", "9.3.3", [foreign, foreign_root], SIGNER, UNKNOWN
    yield "a stranger's signer with the genuine root", "9.3.3", [foreign, root_der()], SIGNER, UNKNOWN
    yield "a stranger's signer before the genuine one", "9.3.3", [foreign, signer_der()], SIGNER, UNKNOWN
    yield "the genuine signer before a stranger's", "9.1.2.4", [signer_der(), foreign], SIGNER, BAD
    yield "the genuine signer, signed by a stranger's key", "9.3.1", [signer_der()], STRANGER, SIGNATURE
    yield "a self-signed one before the genuine one", "9.3.3", [foreign_root, signer_der()], STRANGER, UNKNOWN
    yield "signer and root turned round", "RFC 9360 2", [root_der(), signer_der()], SIGNER, BAD
    yield "the genuine signer twice", "RFC 9360 2", [signer_der(), signer_der()], SIGNER, BAD
    yield "a stranger's root behind the signer", "RFC 9360 2", [signer_der(), other_root], SIGNER, BAD
    yield "a stranger's root under the root's name", "RFC 9360 2", [signer_der(), foreign_root], SIGNER, BAD
    unsigned = replace(x509.root(ROOT), signed_by=STRANGER, serial=99).der()
    yield "the root's key, certified by a stranger", "RFC 9360 2", [signer_der(), unsigned], SIGNER, BAD
    yield "another certificate of the root", "RFC 9360 2", [signer_der(), middle], SIGNER, BAD
    yield "the root and something else", "RFC 9360 2", [signer_der(), root_der(), foreign], SIGNER, BAD
    yield "bytes that are no certificate behind it", "RFC 9360 2", [signer_der(), b"\x30\x00"], SIGNER, UNREADABLE
    yield "an empty string behind it", "RFC 9360 2", [signer_der(), b""], SIGNER, UNREADABLE
    yield "four certificates", "limits", [signer_der(), *[root_der()] * 3], SIGNER, MALFORMED
    yield "a hundred certificates", "limits", [signer_der()] * 100, SIGNER, MALFORMED


def _roots() -> Iterator[tuple[str, Draft]]:
    """Roots that are none: what the gate's installer put there by mistake, or was talked into."""
    genuine = x509.root(ROOT)

    def changed(*extensions: x509.Extension) -> Draft:
        return replace(genuine, extensions=x509.replaced(genuine, *extensions))

    yield "no certification authority", replace(genuine, extensions=x509.without(genuine, BC))
    yield "authority false", changed(x509.constraints(b""))
    yield "path length 1", changed(x509.constraints(CA + integer(1)))
    yield "no path length", changed(x509.constraints(CA))
    yield "path length negative", changed(x509.constraints(CA + integer(-1)))
    yield "basic constraints not critical", changed((BC, False, sequence(CA + integer(0))))
    yield "key usage of a signer", changed(x509.usage(0x8000))
    yield "key usage keyCertSign alone", changed(x509.usage(0x0400))
    yield "no key usage", replace(genuine, extensions=x509.without(genuine, KU))
    yield "not self-signed", replace(genuine, signed_by=STRANGER)
    yield "not self-issued", replace(genuine, issuer=((COUNTRY, "KR"), (COMMON_NAME, "Other")))
    yield "no country", replace(genuine, subject=((COMMON_NAME, "Root"),), issuer=((COMMON_NAME, "Root"),))
    yield "version 1", replace(genuine, version=0, extensions=())
    yield "over SHA-1", replace(genuine, algorithm=x509.ECDSA_SHA1, digest=hashes.SHA1())  # noqa: S303  what is forged
    yield "name constraints", replace(genuine, extensions=(*genuine.extensions, ("2.5.29.30", True, sequence())))
    yield "unknown critical extension", replace(genuine, extensions=(*genuine.extensions, ("1.2.3", True, sequence())))
    yield "a document signer", GENUINE


def _headers() -> Iterator[tuple[str, Plan]]:
    """Where x5chain stands and what it is."""
    for name, value in (
        ("an empty array", []),
        ("an array in an array", [[signer_der()]]),
        ("text", signer_der().hex()),
        ("a number", 5),
        ("nil", None),
        ("a map", {0: signer_der()}),
        ("an empty string", b""),
        ("both certificates in one string", signer_der() + root_der()),
    ):
        yield f"x5chain is {name}", Plan(unprotected=put(33, value))
    yield "no x5chain", Plan(unprotected=drop(33))
    yield "x5chain in the protected header", Plan(protected=put(33, signer_der()), unprotected=drop(33))
    yield "x5chain in both headers", Plan(protected=put(33, signer_der()))
    yield "x5chain under its name", Plan(unprotected=lambda header: {"x5chain": header[33]})
    yield "x5bag in its place", Plan(unprotected=lambda header: {32: header[33]})
    yield "x5u in its place", Plan(unprotected=lambda _: {35: "https://example.org/signer.cer"})


def forgeries() -> Iterator[Forgery]:
    for name, clause, chain, private, expected in _chains():
        plan = Plan(key=private, chain=chain)
        yield Forgery(name=f"chain: {name}", clause=clause, raw=response(plan), expected=expected)
    for name, plan in _headers():
        yield Forgery(name=f"chain: {name}", clause="9.1.2.4", raw=response(plan), expected=UNREADABLE)
    for name, draft in _roots():
        by = x509.signer(SIGNER, draft.key, draft.subject)
        raw, gate = response(Plan(chain=[by.der()])), Gate(trust=attempt(draft.der()))
        yield Forgery(name=f"root: {name}", clause="B.1.2", raw=raw, expected=UNKNOWN, gate=gate)
