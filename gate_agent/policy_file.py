"""The rules document on disk: size, signature, syntax, contradictions, this gate's access points, version. Refused whole.

    policy.toml        the document
    policy.toml.sig    COSE_Sign1 (tag 18), protected {1: alg, 16: "application/gwanmun-policy+toml"}, payload nil: detached,
                       over the exact bytes of the document (RFC 9052 4.1)

With a signer's key configured an unsigned document is refused. A version lower than the one in force is refused with or without.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose
from mdoc.cbor import Tag
from mdoc.errors import MalformedError
from policy import document, limits
from policy.model import Policy
from policy.problems import PolicyError

TYPE = "application/gwanmun-policy+toml"
SUFFIX = ".sig"
MAX_SIGNATURE = 4096
"""Bytes of the signature file: about 200 are in use."""
MAX_KEPT = limits.MAX_DOCUMENT + 2 * MAX_SIGNATURE + 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rules:
    """The document and its signature, the bytes as they were read."""

    raw: bytes
    signature: bytes | None


def load_policy(
    path: Path,
    points: Collection[str],
    *,
    signer: cose.PublicKey | None = None,
    in_force: int | None = None,
    kept: Kept | None = None,
) -> Policy:
    """Read the rules and check that they know every access point of this gate. Raises PolicyError.

    `signer`: the key that must have signed them; None takes them unsigned. `in_force`: the version not to go back behind.
    `kept` gets a copy of what is taken.
    """
    rules = _read_rules(path, signed=signer is not None)
    policy = _check(rules, path.name, points, signer, in_force)
    if kept is not None:
        kept.write(policy.version, rules)
    return policy


class Kept:
    """The rules in force, kept over restarts in one file: version, signature in hex, and the document, in this order.

    The version is the floor for what comes after. A gate that starts with a document it cannot use goes on with this one, which
    is checked like any other: signature, access points and all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def version(self) -> int | None:
        """Of the rules that were in force before the last stop; None where none are kept."""
        try:
            return int(self._parts()[0])
        except (OSError, ValueError):
            return None

    def load(self, points: Collection[str], *, signer: cose.PublicKey | None = None) -> Policy:
        """Raises PolicyError."""
        try:
            _version, signature, raw = self._parts()
            rules = Rules(raw, bytes.fromhex(signature.decode("ascii")) or None)
        except (OSError, ValueError) as error:
            raise PolicyError.one("", "보관한 규칙이 없습니다", "no rules are kept") from error
        return _check(rules, self._path.name, points, signer, None)

    def write(self, version: int, rules: Rules) -> None:
        """On the disk when it returns. What cannot be kept is told in the log, and the rules hold all the same."""
        beside = self._path.with_name(self._path.name + ".new")
        try:
            with beside.open("wb") as file:
                file.write(b"%d\n%s\n%s" % (version, (rules.signature or b"").hex().encode(), rules.raw))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            _log.error("the rules in force cannot be kept: %s", error.strerror)

    def _parts(self) -> tuple[bytes, bytes, bytes]:
        with self._path.open("rb") as file:
            raw = file.read(MAX_KEPT + 1)
        if len(raw) > MAX_KEPT:
            raise ValueError("too large")
        version, signature, document_bytes = raw.split(b"\n", 2)
        return version, signature, document_bytes


def _check(
    rules: Rules, name: str, points: Collection[str], signer: cose.PublicKey | None, in_force: int | None
) -> Policy:
    if signer is not None:
        _check_signature(rules, name + SUFFIX, signer)
    policy = document.parse(rules.raw)
    if in_force is not None and policy.version < in_force:
        raise PolicyError.one(
            "version",
            f"쓰고 있는 {in_force}보다 낮을 수 없습니다",
            f"{policy.version} goes back behind {in_force}, which is in force",
        )
    for point in points:
        if point not in policy.points:
            raise PolicyError.one(
                f"points.{point}",
                "항목이 있어야 합니다. 이 게이트의 통로가 쓰는 출입점입니다",
                "an entry is expected: a lane of this gate leads through it",
            )
    return policy


def signature_path(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def sign(raw: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The signature file for a document's exact bytes (the officer's side)."""
    return cbor.encode(Tag(cose.TAG_SIGN1, cose.build_sign1(key, raw, detached=True, protected={cose.TYP: TYPE})))


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise PolicyError.one(
            "", f"{path.name}: 읽을 수 없습니다({error.strerror})", f"{path.name}: cannot be read ({error.strerror})"
        ) from error
    if len(raw) > most:
        raise PolicyError.one(
            "", f"{path.name}: {most}바이트 이하여야 합니다", f"{path.name}: at most {most} bytes are expected"
        )
    return raw


def _read_rules(path: Path, *, signed: bool) -> Rules:
    raw, beside = _read(path, limits.MAX_DOCUMENT), signature_path(path)
    return Rules(raw, _read(beside, MAX_SIGNATURE) if signed and beside.exists() else None)


def _check_signature(rules: Rules, name: str, signer: cose.PublicKey) -> None:
    if rules.signature is None:
        raise PolicyError.one(
            "", f"서명 파일 {name}이(가) 없습니다", f"unsigned: the signature file {name} is expected"
        )
    try:
        sign1 = cose.parse_sign1(cbor.decode(rules.signature), name)
    except MalformedError as error:
        raise PolicyError.one("", f"{name}: 잘못된 서명 파일({error})", f"{name}: {error}") from error
    if sign1.protected.get(cose.TYP) != TYPE:
        raise PolicyError.one("", f"{name}: 규칙의 서명이 아닙니다", f"{name}: not a signature of rules")
    if not cose.verify_sign1(sign1, signer, detached=rules.raw):
        raise PolicyError.one("", f"{name}: 서명이 맞지 않습니다", f"{name}: signature does not verify")
