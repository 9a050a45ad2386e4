"""Trust from a directory, as an offline gate holds it. The layout is documented in docs/trust-directory.md:

    iaca/*.pem *.cer *.der   roots of trusted issuing authorities
    issuers.cose             signed issuer list (mdoc.issuerlist); its signer's key is pinned in the gate's configuration
    status/*.cwt             Status List Tokens

A file that cannot be used disables itself and is named in `problems`; it never disables the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import Certificate

from mdoc import issuerlist, limits, statuslist
from mdoc.certificates import Anchor, TrustAnchors, load_der, load_pem, valid_at
from mdoc.errors import MdocError, TrustError
from mdoc.issuerlist import IssuerList
from mdoc.statuslist import StatusList, StatusLists

_CERTIFICATE_SUFFIXES = frozenset({".pem", ".cer", ".crt", ".der"})
_MAX_FILES = 4096

Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True)
class Trust:
    """One snapshot; a verification uses one and the same from begin to end."""

    anchors: TrustAnchors
    issuers: IssuerList
    status: StatusLists
    version: str
    """First 16 hex digits of SHA-256 over all file names and contents: says which snapshot decided."""
    problems: tuple[str, ...]
    """`file: what is wrong`, for files that were left out."""


def _files(directory: Path) -> Iterator[Path]:
    for name in ("iaca", "status"):
        folder = directory / name
        if folder.is_dir():
            yield from sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.name[0] != ".")
    single = directory / "issuers.cose"
    if single.is_file():
        yield single


def _certificates(content: bytes) -> list[Certificate]:
    return load_pem(content) if b"-----BEGIN" in content else [load_der(content)]


def load_directory(directory: Path, *, list_key: ec.EllipticCurvePublicKey | None, now: datetime) -> Trust:
    """Read everything. Raises TrustError only where the directory itself cannot be read."""
    contents: dict[Path, bytes] = {}
    digest = hashlib.sha256()
    problems: list[str] = []
    try:
        if not directory.is_dir():
            raise TrustError(f"{directory}: not a directory")
        for path in _files(directory):
            if len(contents) >= _MAX_FILES or path.stat().st_size > limits.MAX_STATUS_LIST:
                problems.append(f"{path.name}: too large, or too many files")
                continue
            contents[path] = path.read_bytes()
            digest.update(f"{path.relative_to(directory)}\0{len(contents[path])}\0".encode() + contents[path])
    except OSError as error:
        raise TrustError(f"{directory}: {error.strerror}") from error

    def attempt(path: Path, load: Callable[[], Loaded]) -> Loaded | None:
        try:
            return load()
        except MdocError as error:
            problems.append(f"{path.name}: {error}")
            return None

    anchors: list[Anchor] = []
    for path, content in contents.items():
        if path.parent.name != "iaca" or path.suffix.lower() not in _CERTIFICATE_SUFFIXES:
            continue
        for certificate in attempt(path, lambda content=content: _certificates(content)) or []:  # type: ignore[misc]  # lambda default
            anchor = attempt(path, lambda certificate=certificate: Anchor.from_certificate(certificate))  # type: ignore[misc]  # lambda default
            if anchor is not None and not valid_at(certificate, now):
                problems.append(f"{path.name}: outside its dates")
            if anchor is not None:
                anchors.append(anchor)
    trusted = TrustAnchors(anchors)
    lists: list[StatusList] = []
    issuers = IssuerList()
    for path, content in contents.items():
        if path.parent.name == "status" and path.suffix == ".cwt":
            token = attempt(path, lambda content=content: statuslist.parse_token(content, trusted))  # type: ignore[misc]  # lambda default
            if token is not None:
                lists.append(token)
        elif path.name == "issuers.cose" and path.parent == directory:
            if list_key is None:
                problems.append(f"{path.name}: no list key is configured")
                continue
            issuers = attempt(path, lambda content=content: issuerlist.parse(content, list_key)) or IssuerList()  # type: ignore[misc]  # lambda default
    return Trust(trusted, issuers, StatusLists(lists), digest.hexdigest()[:16], tuple(problems))
