"""Whose cards a gate takes: the folder `cards` of the trust directory (docs/cards.md).

    cards/anchors/*.pem       pinned authorities of PIV cards, apart from those of phones
    cards/intermediates/*.pem authorities below them
    cards/crl/*.crl           their revocation lists (mdoc.crl)
    cards/cards.toml          what the site says of each authority's cards
    cards/keys.cose           signed list of PKOC keys (gate_agent.enrolled)

A file that cannot be used is left out and named. cards.toml and keys.cose say who may enter, so one of them that cannot be used
leaves the whole set in force.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from card.anchors import CardAnchors, Terms
from card.keys import holds
from gate_agent import enrolled
from gate_agent.enrolled import Enrolled
from mdoc import crl, limits, specimen
from mdoc.certificates import Certificate, pem_blocks, read
from mdoc.cose import PublicKey
from mdoc.errors import MdocError, TrustError

FOLDER = "cards"
ANCHORS, INTERMEDIATES, CRLS = "anchors", "intermediates", "crl"
SETTINGS = "cards.toml"
MAX_FILES = 512
MAX_SETTINGS = 256 * 1024
MAX_VALUE = 128
"""Characters of an attribute, as in the rules."""
_AHEAD = timedelta(hours=1)
"""A list dated further ahead of our clock is not taken (mdoc.truststore)."""
_CERTIFICATES = frozenset({".pem", ".cer", ".crt", ".der"})
_PEM = b"-----BEGIN"
_TERMS = frozenset({"agency_code", "card_type", "access_class"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CardTrust:
    """One snapshot."""

    anchors: CardAnchors = field(default_factory=CardAnchors)
    enrolled: Enrolled = field(default_factory=Enrolled)
    version: str = ""
    """First 16 hex digits of SHA-256 over all file names and contents."""
    problems: tuple[str, ...] = ()


class _Files:
    """One pass over the folder."""

    def __init__(self, folder: Path) -> None:
        """Raises TrustError where a file cannot be read."""
        self.problems: list[str] = []
        self._contents: dict[tuple[str, str], bytes] = {}
        digest = hashlib.sha256()
        try:
            for at, path in enumerate(self._paths(folder)):
                if at >= MAX_FILES or path.stat().st_size > limits.MAX_CRL:
                    self.problems.append(f"{path.name}: too large, or too many files")
                    continue
                content = path.read_bytes()
                name = str(path.relative_to(folder))
                digest.update(f"{name}\0{len(content)}\0".encode() + content)
                self._contents["" if path.parent == folder else path.parent.name, path.name] = content
        except OSError as error:
            raise TrustError(f"{FOLDER}: {error.strerror}") from error
        self.version = digest.hexdigest()[:16] if self._contents else ""

    @staticmethod
    def _paths(folder: Path) -> Iterator[Path]:
        for name in (ANCHORS, INTERMEDIATES, CRLS):
            if (folder / name).is_dir():
                yield from sorted(each for each in (folder / name).iterdir() if each.is_file() and each.name[0] != ".")
        yield from (folder / name for name in (SETTINGS, enrolled.FILE) if (folder / name).is_file())

    def single(self, name: str) -> bytes | None:
        return self._contents.get(("", name))

    def each(self, folder: str, endings: frozenset[str]) -> Iterator[tuple[str, bytes]]:
        for (place, name), content in self._contents.items():
            if place == folder and Path(name).suffix.lower() in endings:
                yield name, content

    def attempt(self, name: str, load: Callable[[bytes], T], content: bytes) -> T | None:
        try:
            return load(content)
        except MdocError as error:
            self.problems.append(f"{name}: {error}")
            return None

    def certificates(self, folder: str, *, take_specimens: bool) -> list[Certificate]:
        """Every certificate that can be read, PEM or DER."""
        found: list[Certificate] = []
        for name, content in self.each(folder, _CERTIFICATES):
            blocks = self.attempt(name, pem_blocks, content) if _PEM in content else [content]
            for raw in blocks or ():
                certificate = self.attempt(name, read, raw)
                if certificate is None:
                    continue
                if specimen.marked(certificate) and not take_specimens:
                    self.problems.append(f"{name}: a specimen")
                else:
                    found.append(certificate)
        return found


def load(
    directory: Path,
    signer: PublicKey | None,
    *,
    now: datetime,
    previous: CardTrust | None = None,
    take_specimens: bool = True,
) -> CardTrust:
    """Read the folder `cards` of a trust directory; an absent one holds nothing. `signer` of keys.cose; None: it is not read.
    `previous` is the snapshot in force, behind which no list may fall.

    Raises MdocError where the folder, cards.toml or keys.cose cannot be used.
    """
    folder = directory / FOLDER
    files = _Files(folder)
    in_force = None if previous is None else previous.enrolled.version
    keys = Enrolled() if signer is None else enrolled.load(folder, signer, in_force=in_force)
    if keys.date is not None and keys.date > now + _AHEAD:
        raise TrustError("key list: issued in the future")
    content = files.single(SETTINGS)
    terms = {} if content is None else settings(content)
    pinned = files.certificates(ANCHORS, take_specimens=take_specimens)
    below = files.certificates(INTERMEDIATES, take_specimens=take_specimens)
    lists = _crls(files, [*pinned, *below], now, () if previous is None else previous.anchors.crls)
    anchors = CardAnchors(pinned, below, crls=lists, terms=terms)
    return CardTrust(anchors, keys, files.version, (*files.problems, *anchors.problems))


def _crls(
    files: _Files, authorities: Sequence[Certificate], now: datetime, in_force: Sequence[crl.Crl]
) -> tuple[crl.Crl, ...]:
    found: list[crl.Crl] = []
    for name, content in files.each(CRLS, frozenset({".crl"})):
        entry = files.attempt(name, lambda raw: crl.parse(raw, authorities, holds=holds), content)
        if entry is None:
            continue
        if entry.this_update > now + _AHEAD:
            files.problems.append(f"{name}: issued in the future")
            continue
        found.append(entry)
    kept, older = crl.newest(found, in_force)
    if older:
        files.problems.append(f"{FOLDER}/{CRLS}: {older} older than the one in force, which stays")
    return kept


def settings(content: bytes) -> dict[bytes, Terms]:
    """cards.toml: {SHA-256 of an authority's certificate: what its cards are}. Raises TrustError."""
    if len(content) > MAX_SETTINGS:
        raise _wrong("document", f"at most {MAX_SETTINGS} bytes are expected")
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrustError(f"{SETTINGS}: {error}") from error
    tables = document.get("authority", [])
    if document.keys() - {"authority"} or type(tables) is not list:
        raise _wrong("document", "tables [[authority]] are expected, and nothing else")
    found: dict[bytes, Terms] = {}
    for number, table in enumerate(tables):
        place = f"authority[{number}]"
        fingerprint, terms = _authority(table, place)
        if fingerprint in found:
            raise _wrong(f"{place}.certificate", "a certificate twice")
        found[fingerprint] = terms
    return found


def _authority(table: Any, place: str) -> tuple[bytes, Terms]:
    if type(table) is not dict or table.keys() - {"certificate", *_TERMS}:
        raise _wrong(place, f"certificate, {', '.join(sorted(_TERMS))} are expected, and nothing else")
    try:
        fingerprint = bytes.fromhex(table["certificate"])
    except (KeyError, TypeError, ValueError):
        fingerprint = b""
    if len(fingerprint) != 32:
        raise _wrong(f"{place}.certificate", "SHA-256 of the authority's DER in hex digits is expected")
    for name in _TERMS:
        value = table.get(name, "")
        if type(value) is not str or len(value) > MAX_VALUE:
            raise _wrong(f"{place}.{name}", f"a text of at most {MAX_VALUE} characters is expected")
    return fingerprint, Terms(**{name: table.get(name, "") for name in _TERMS})


def _wrong(place: str, expected: str) -> TrustError:
    return TrustError(f"{SETTINGS}: {place}: {expected}")
