"""Trust from a directory, as an offline gate holds it. The layout is documented in docs/trust-directory.md:

    iaca/*.pem *.cer *.der   roots of issuing authorities that the site trusts by itself
    vical/*.cbor             signed lists of issuing authorities (mdoc.vical)
    vical-roots/*.pem        roots of those who sign such lists
    crl/*.crl                certificate revocation lists (mdoc.crl)
    issuers.cose             signed issuer list (mdoc.issuerlist); its signer's key is pinned in the gate's configuration
    issuers.toml             the site's settings per issuing authority (mdoc.certificates.sitefile)
    status/*.cwt             revocation lists of credentials: Status List Tokens and identifier lists

A file that cannot be used disables itself and is named in `problems`; it never disables the rest. The one exception is
issuers.toml, which narrows trust: without it the set is not taken. A list older than the one in force never replaces it.
What carries the mark of specimens (mdoc.specimen) is left out where the caller takes none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import crl, identifierlist, issuerlist, limits, specimen, statuslist, vical
from mdoc.certificates import Anchor, Certificate, Settings, TrustAnchors, pem_blocks, read, sitefile, valid_at
from mdoc.certificates.anchors import SITE
from mdoc.crl import Crl
from mdoc.errors import MdocError, TrustError
from mdoc.freshness import ListFacts
from mdoc.issuerlist import IssuerList
from mdoc.statuslist import AnyList, StatusLists
from mdoc.vical import Vical

_CERTIFICATE_SUFFIXES = frozenset({".pem", ".cer", ".crt", ".der"})
_FOLDERS: Mapping[str, frozenset[str]] = {
    "iaca": _CERTIFICATE_SUFFIXES,
    "vical": frozenset({".cbor", ".vical"}),
    "vical-roots": _CERTIFICATE_SUFFIXES,
    "crl": frozenset({".crl"}),
    "status": frozenset({".cwt"}),
}
"""Folders and the endings that are read in each; other files count for the version alone."""
_PEM = b"-----BEGIN"
_SINGLE = ("issuers.cose", sitefile.NAME)
_MAX_FILES = 4096
_AHEAD = timedelta(hours=1)
"""A list dated further ahead of our clock is not taken: it would keep all later ones out."""

Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True)
class Trust:
    """One snapshot; a verification uses one and the same from begin to end."""

    anchors: TrustAnchors
    """Issuing authorities by certificate, their revocation lists, and the issuers named by `kid`."""
    issuers: IssuerList
    status: StatusLists
    version: str
    """First 16 hex digits of SHA-256 over all file names and contents: says which snapshot decided."""
    problems: tuple[str, ...]
    """`file: what is wrong`, for files and entries that were left out."""
    vicals: tuple[Vical, ...] = ()
    crls: tuple[Crl, ...] = ()
    specimens: tuple[str, ...] = ()
    """Files with something of a specimen authority in them, taken or not."""

    @property
    def lists(self) -> tuple[ListFacts, ...]:
        """What every list of issuers and of revoked signers says of itself, for showing ages; `status` has its own."""
        issuers = () if self.issuers.date is None else (self.issuers.facts,)
        return (*(entry.facts for entry in self.vicals), *issuers, *(entry.facts for entry in self.crls))


def _files(directory: Path) -> Iterator[Path]:
    for name in _FOLDERS:
        folder = directory / name
        if folder.is_dir():
            yield from sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.name[0] != ".")
    yield from (directory / name for name in _SINGLE if (directory / name).is_file())


def _status(content: bytes, trusted: TrustAnchors) -> AnyList:
    # Both kinds name themselves in plain text; the parser then insists on the place.
    if identifierlist.TYPE.encode() in content:
        return identifierlist.parse_token(content, trusted, unanchored=True)
    return statuslist.parse_token(content, trusted, unanchored=True)


class _Loading:
    """One pass over a directory: what could be read, and what was wrong."""

    def __init__(self, directory: Path, *, take_specimens: bool) -> None:
        """Read all files. Raises TrustError where the directory itself cannot be read."""
        self._contents: dict[str, dict[str, bytes]] = {name: {} for name in (*_FOLDERS, "")}
        self.problems: list[str] = []
        self.specimens: list[str] = []
        self._take_specimens = take_specimens
        digest = hashlib.sha256()
        count = 0
        try:
            if not directory.is_dir():
                raise TrustError(f"{directory}: not a directory")
            for path in _files(directory):
                count += 1
                if count > _MAX_FILES or path.stat().st_size > limits.MAX_STATUS_LIST:
                    self.problems.append(f"{path.name}: too large, or too many files")
                    continue
                content = path.read_bytes()
                digest.update(f"{path.relative_to(directory)}\0{len(content)}\0".encode() + content)
                folder = "" if path.parent == directory else path.parent.name
                if not folder or path.suffix.lower() in _FOLDERS[folder]:
                    self._contents[folder][path.name] = content
        except OSError as error:
            raise TrustError(f"{directory}: {error.strerror}") from error
        self.version = digest.hexdigest()[:16]

    def each(self, folder: str, load: Callable[[bytes], Loaded]) -> Iterator[tuple[str, Loaded]]:
        """Every file of a folder that `load` can read; the others become problems."""
        for name, content in self._contents[folder].items():
            found = self.attempt(name, load, content)
            if found is not None:
                yield name, found

    def certificates(self, folder: str) -> Iterator[tuple[str, Certificate]]:
        """Every certificate in the files of a folder, PEM or DER; one that cannot be read takes none of the others with it."""
        for name, ders in self.each(folder, lambda content: pem_blocks(content) if _PEM in content else [content]):
            for raw in ders:
                certificate = self.attempt(name, read, raw)
                if certificate is not None and self.taken(name, is_specimen=specimen.marked(certificate)):
                    yield name, certificate

    def taken(self, name: str, *, is_specimen: bool) -> bool:
        """False for what carries the mark of specimens, where none of them is taken."""
        if is_specimen and name not in self.specimens:
            self.specimens.append(name)
            if not self._take_specimens:
                self.problems.append(f"{name}: a specimen")
        return self._take_specimens or not is_specimen

    def attempt(self, name: str, load: Callable[[bytes], Loaded], content: bytes) -> Loaded | None:
        try:
            return load(content)
        except MdocError as error:
            self.problems.append(f"{name}: {error}")
            return None

    def single(self, name: str) -> bytes | None:
        return self._contents[""].get(name)


def load_directory(
    directory: Path,
    *,
    list_key: ec.EllipticCurvePublicKey | None,
    now: datetime,
    previous: Trust | None = None,
    take_specimens: bool = True,
) -> Trust:
    """Read everything. `previous` is the snapshot in force, behind which no list may fall. Without `take_specimens`, what carries
    the mark of specimens is left out and named.

    Raises TrustError where the directory or issuers.toml cannot be used.
    """
    loading = _Loading(directory, take_specimens=take_specimens)
    site_file = loading.single(sitefile.NAME)
    settings = {} if site_file is None else sitefile.parse(site_file)
    own = _own_anchors(loading, settings, now)
    roots = [root for _, root in loading.certificates("vical-roots")]
    vicals = _vicals(loading, roots, settings, now, previous)
    crls = _crls(loading, own, vicals, roots, now, previous)
    for entry in vicals:
        if crl.revoked(entry.chain, crls):
            loading.problems.append(f"{entry.provider}: the list's signer is revoked")
    vicals = [entry for entry in vicals if not crl.revoked(entry.chain, crls)]
    site_roots = {anchor.certificate for anchor in own}
    listed = [anchor for entry in vicals for anchor in entry.anchors if anchor.certificate not in site_roots]
    anchors = [*own, *listed]
    unused = settings.keys() - {anchor.certificate.fingerprint() for anchor in anchors}
    loading.problems.extend(f"{sitefile.NAME}: {entry.hex()}: no such authority in use" for entry in sorted(unused))
    issuers = _issuers(loading, list_key, now, previous)
    trusted = TrustAnchors(anchors, crls=crls, issuers=issuers)
    lists: list[AnyList] = []
    for name, token in loading.each("status", lambda content: _status(content, trusted)):
        if token.anchor is None:
            loading.problems.append(
                f"{name}: no trusted authority; counts only for credentials that name its certificate"
            )
        lists.append(token)
    return Trust(
        trusted,
        issuers,
        StatusLists(lists),
        loading.version,
        tuple(loading.problems),
        tuple(vicals),
        tuple(crls),
        tuple(loading.specimens),
    )


def _own_anchors(loading: _Loading, settings: Mapping[bytes, Settings], now: datetime) -> list[Anchor]:
    found: list[Anchor] = []
    for name, certificate in loading.certificates("iaca"):
        chosen = settings.get(certificate.fingerprint(), Settings())
        try:
            found.append(Anchor.from_certificate(certificate, source=SITE, settings=chosen))
        except TrustError as error:
            loading.problems.append(f"{name}: {error}")
            continue
        if not valid_at(certificate, now):
            loading.problems.append(f"{name}: outside its dates")
    return found


def _vicals(
    loading: _Loading,
    roots: Sequence[Certificate],
    settings: Mapping[bytes, Settings],
    now: datetime,
    previous: Trust | None,
) -> list[Vical]:
    """Of each provider the newest list by date: real issue numbers go backwards (Annex C; ARCHITECTURE 6)."""

    def load(content: bytes) -> Vical:
        return vical.parse(content, roots, settings=settings)

    in_force = {entry.publisher: entry for entry in (() if previous is None else previous.vicals)}
    found: dict[tuple[str, bytes], Vical] = {}
    for name, read_list in loading.each("vical", load):
        entry = read_list
        if entry.date > now + _AHEAD:
            loading.problems.append(f"{name}: issued in the future")
            continue
        before = in_force.get(entry.publisher)
        if before is not None and entry.date < before.date:
            loading.problems.append(f"{name}: older than the list in force, which stays")
            entry = loading.attempt(name, load, before.raw) or entry
        else:
            loading.problems.extend(f"{name}: {problem}" for problem in entry.problems)
        entry = _vouched(loading, name, entry)
        rival = found.get(entry.publisher)
        if rival is None or entry.date > rival.date:
            found[entry.publisher] = entry
    # An authority on two lists is judged by the fresher one (the first anchor that issued a signer names its source).
    return sorted(found.values(), key=lambda entry: entry.date, reverse=True)


def _vouched(loading: _Loading, name: str, entry: Vical) -> Vical:
    """The list without specimen authorities, where none of them is taken."""
    kept = [anchor for anchor in entry.anchors if loading.taken(name, is_specimen=specimen.marked(anchor.certificate))]
    return replace(entry, anchors=tuple(kept))


def _crls(
    loading: _Loading,
    own: Sequence[Anchor],
    vicals: Sequence[Vical],
    roots: Sequence[Certificate],
    now: datetime,
    previous: Trust | None,
) -> list[Crl]:
    authorities = [*roots, *(anchor.certificate for anchor in own)]
    authorities += [anchor.certificate for entry in vicals for anchor in entry.anchors]
    authorities += [certificate for entry in vicals for certificate in entry.chain[1:]]
    read_lists: list[Crl] = []
    for name, entry in loading.each("crl", lambda content: crl.parse(content, authorities)):
        if entry.this_update > now + _AHEAD:
            loading.problems.append(f"{name}: issued in the future")
            continue
        read_lists.append(entry)
    kept, older = crl.newest(read_lists, () if previous is None else previous.crls)
    if older:
        loading.problems.append(f"crl: {older} older than the one in force, which stays")
    return list(kept)


def _issuers(
    loading: _Loading, list_key: ec.EllipticCurvePublicKey | None, now: datetime, previous: Trust | None
) -> IssuerList:
    name = "issuers.cose"
    content = loading.single(name)
    if content is None:
        return IssuerList()
    if list_key is None:
        loading.problems.append(f"{name}: no list key is configured")
        return IssuerList()
    found = loading.attempt(name, lambda raw: issuerlist.parse(raw, list_key), content)
    if found is None or found.date is None:
        return IssuerList()
    if not loading.taken(name, is_specimen=found.specimen):
        return IssuerList()
    if found.date > now + _AHEAD:
        loading.problems.append(f"{name}: issued in the future")
        return IssuerList()
    before = None if previous is None else previous.issuers
    if before is not None and before.date is not None and found.date < before.date:
        loading.problems.append(f"{name}: older than the list in force, which stays")
        return before
    return found
