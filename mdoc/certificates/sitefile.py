"""The site's own settings of issuing authorities, `issuers.toml` in the trust directory:

    [[issuer]]
    certificate = "<SHA-256 of the root's DER, 64 hex digits>"
    strictness = "full"                                   # or "standard", the default
    doc_types = ["kr.go.civilservant.1"]                  # narrows what it may sign; left out: whatever the list says
    [[issuer.tolerate]]
    rule = "document_signer.extended_key_usage_present"   # a row of mdoc.certificates.profiles
    reason = "발급기관 시험 인증서에 EKU가 없음 (its certificates carry no purpose)"

The file narrows trust, so one that cannot be used is an error for the whole set, never left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from mdoc.certificates.profiles import tolerable
from mdoc.certificates.settings import Settings, Strictness, Tolerance
from mdoc.errors import TrustError

NAME = "issuers.toml"


def _fail(place: str, expected: str) -> TrustError:
    return TrustError(f"{NAME}: {place}: {expected}")


def _texts(value: Any, place: str) -> list[str]:
    if type(value) is not list or not value or not all(type(entry) is str and entry for entry in value):
        raise _fail(place, "an array of texts is expected")
    return value


def _known(table: Mapping[str, Any], keys: frozenset[str], place: str) -> None:
    for key in table:
        if key not in keys:
            raise _fail(f"{place}.{key}", "no such setting")


def _tolerance(value: Any, place: str) -> Tolerance:
    if type(value) is not dict:
        raise _fail(place, "a table is expected")
    _known(value, frozenset({"rule", "reason"}), place)
    rule, reason = value.get("rule"), value.get("reason")
    if type(rule) is not str or rule not in tolerable():
        raise _fail(f"{place}.rule", "no such rule, or one that cannot be tolerated")
    if type(reason) is not str or not reason.strip():
        raise _fail(f"{place}.reason", "a reason is expected")
    return Tolerance(rule, reason)


def _settings(table: Any, place: str) -> tuple[bytes, Settings]:
    if type(table) is not dict:
        raise _fail(place, "a table is expected")
    _known(table, frozenset({"certificate", "strictness", "doc_types", "tolerate"}), place)
    try:
        fingerprint = bytes.fromhex(table["certificate"])
    except (KeyError, TypeError, ValueError):
        fingerprint = b""
    if len(fingerprint) != 32:
        raise _fail(f"{place}.certificate", "SHA-256 of the root's DER in hex digits is expected")
    try:
        strictness = Strictness(table.get("strictness", Strictness.STANDARD))
    except ValueError:
        raise _fail(f"{place}.strictness", "`standard` or `full` is expected") from None
    types = _texts(table["doc_types"], f"{place}.doc_types") if "doc_types" in table else None
    tolerate = table.get("tolerate", [])
    if type(tolerate) is not list:
        raise _fail(f"{place}.tolerate", "an array of tables is expected")
    tolerances = [_tolerance(entry, f"{place}.tolerate[{number}]") for number, entry in enumerate(tolerate)]
    return fingerprint, Settings(strictness, None if types is None else frozenset(types), tuple(tolerances))


def parse(content: bytes) -> dict[bytes, Settings]:
    """{SHA-256 of the root's DER: settings}. Raises TrustError."""
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrustError(f"{NAME}: {error}") from error
    _known(document, frozenset({"issuer"}), "document")
    tables = document.get("issuer", [])
    if type(tables) is not list:
        raise _fail("issuer", "an array of tables is expected")
    found: dict[bytes, Settings] = {}
    for number, table in enumerate(tables):
        fingerprint, settings = _settings(table, f"issuer[{number}]")
        if fingerprint in found:
            raise _fail(f"issuer[{number}].certificate", "a certificate twice")
        found[fingerprint] = settings
    return found
