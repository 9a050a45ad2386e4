"""The rules document on disk: size, signature, syntax, contradictions, this gate's access points, version. Refused whole.

    policy.toml        the document
    policy.toml.sig    COSE_Sign1 (tag 18), protected {1: alg, 16: "application/gwanmun-policy+toml"}, payload nil: detached,
                       over the exact bytes of the document (RFC 9052 4.1)

With a signer's key configured an unsigned document is refused. A version lower than the one in force is refused with or without.
"""

from __future__ import annotations

import os
from collections.abc import Collection
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


def load_policy(
    path: Path,
    points: Collection[str],
    *,
    signer: cose.PublicKey | None = None,
    in_force: int | None = None,
) -> Policy:
    """Read the rules and check that they know every access point of this gate. Raises PolicyError.

    `signer`: the key that must have signed them; None takes them unsigned. `in_force`: the version not to go back behind.
    """
    raw = _read(path, limits.MAX_DOCUMENT)
    if signer is not None:
        _check_signature(raw, signature_path(path), signer)
    policy = document.parse(raw)
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


def read_floor(path: Path) -> int | None:
    """Version of the rules that were in force before the last stop; None where none is kept."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def write_floor(path: Path, version: int) -> None:
    """On the disk when it returns. Raises OSError."""
    beside = path.with_name(path.name + ".new")
    with beside.open("w", encoding="ascii") as file:
        file.write(str(version))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


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


def _check_signature(raw: bytes, path: Path, signer: cose.PublicKey) -> None:
    if not path.exists():
        raise PolicyError.one(
            "", f"서명 파일 {path.name}이(가) 없습니다", f"unsigned: the signature file {path.name} is expected"
        )
    try:
        sign1 = cose.parse_sign1(cbor.decode(_read(path, MAX_SIGNATURE)), path.name)
    except MalformedError as error:
        raise PolicyError.one("", f"{path.name}: 잘못된 서명 파일({error})", f"{path.name}: {error}") from error
    if sign1.protected.get(cose.TYP) != TYPE:
        raise PolicyError.one("", f"{path.name}: 규칙의 서명이 아닙니다", f"{path.name}: not a signature of rules")
    if not cose.verify_sign1(sign1, signer, detached=raw):
        raise PolicyError.one("", f"{path.name}: 서명이 맞지 않습니다", f"{path.name}: signature does not verify")
