"""Whose cards are taken: pinned authorities, those below them, their revocation lists, and what the site says about their cards.

A card brings its own certificate and no other, so every authority between it and the pinned one has to be here. What does not
depend on the moment (names, signatures, right to issue) is settled once, when the set is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from card import limits
from card.keys import authority_key, holds
from mdoc.certificates.path import authority_problem
from mdoc.certificates.structure import Certificate, authority_identifier, key_identifier
from mdoc.crl import Crl
from mdoc.errors import MalformedError, TrustError


@dataclass(frozen=True, slots=True)
class Terms:
    """What the site says about every card of one authority: a card-authentication certificate says none of it."""

    agency_code: str = ""
    card_type: str = ""
    access_class: str = ""


@dataclass(frozen=True, slots=True)
class Authority:
    """One that may issue cards."""

    path: tuple[Certificate, ...]
    """Itself first, then each one's issuer, the pinned one last."""
    crls: tuple[Crl | None, ...]
    """The revocation list of each in `path`: the first speaks for cards, the second for the first authority, and so on."""
    terms: Terms

    @property
    def certificate(self) -> Certificate:
        return self.path[0]

    @property
    def anchor(self) -> Certificate:
        return self.path[-1]


def issued(child: Certificate, parent: Certificate) -> bool:
    """Names and identifiers fit, and the parent's key made the signature. Raises MalformedError."""
    return named(child, parent) and holds(parent, child.algorithm, child.signature, child.tbs)


def named(child: Certificate, parent: Certificate) -> bool:
    """The child says that the parent issued it. Raises MalformedError."""
    expected, found = key_identifier(parent), authority_identifier(child)
    return child.issuer == parent.subject and (expected is None or found is None or expected == found)


class CardAnchors:
    """Every authority whose cards are taken, by name."""

    def __init__(
        self,
        anchors: Iterable[Certificate] = (),
        intermediates: Iterable[Certificate] = (),
        *,
        crls: Iterable[Crl] = (),
        terms: Mapping[bytes, Terms] | None = None,
    ) -> None:
        """`terms` by SHA-256 of an authority's certificate; those nearest to the card count. Without any no card is taken.

        Raises TrustError where there are more authorities than the limit. What cannot be used is named in `problems`.
        """
        self.problems: list[str] = []
        self.crls = tuple(crls)
        self._by_subject: dict[bytes, list[Authority]] = {}
        pinned, below = list(dict.fromkeys(anchors)), list(dict.fromkeys(intermediates))
        if len(pinned) + len(below) > limits.MAX_AUTHORITIES:
            raise TrustError(f"cards: more than {limits.MAX_AUTHORITIES} authorities")
        lists = {(crl.issuer, crl.issuer_key): crl for crl in self.crls}
        said = terms or {}
        for path in self._paths(pinned, [each for each in below if each not in pinned]):
            found = [said[each.fingerprint()] for each in path if each.fingerprint() in said]
            if found:
                held = tuple(lists.get((each.subject, each.public_key_info)) for each in path)
                self._by_subject.setdefault(path[0].subject, []).append(Authority(path, held, found[0]))
        used = {each.fingerprint() for authority in self for each in authority.path}
        self.problems.extend(f"{unused.hex()}: no such authority in use" for unused in sorted(said.keys() - used))
        for each in (*pinned, *below):
            if each.fingerprint() not in used:
                self.problems.append(f"{each.fingerprint().hex()[:16]}: an authority without path or terms")

    def __len__(self) -> int:
        return sum(map(len, self._by_subject.values()))

    def __iter__(self) -> Iterator[Authority]:
        return (each for found in self._by_subject.values() for each in found)

    def named(self, subject: bytes) -> Sequence[Authority]:
        """The authorities of that name (DER)."""
        return self._by_subject.get(subject, ())

    def _paths(self, pinned: Sequence[Certificate], below: Sequence[Certificate]) -> Iterator[tuple[Certificate, ...]]:
        """From each authority to a pinned one, by the first path found."""
        layer: list[tuple[Certificate, ...]] = [(each,) for each in pinned if self._usable(each)]
        yield from layer
        left = list(below)
        for _ in range(limits.MAX_PATH - 1):
            found: list[tuple[Certificate, ...]] = []
            for child in list(left):
                above = next((path for path in layer if self._over(path, child)), None)
                if above is not None:
                    left.remove(child)
                    found.append((child, *above))
            yield from found
            layer = found

    def _usable(self, certificate: Certificate) -> bool:
        try:
            authority_key(certificate.public_key_info)
            problem = authority_problem(certificate, 0)
        except MalformedError as error:
            problem = str(error)
        if problem is not None:
            self.problems.append(f"{certificate.fingerprint().hex()[:16]}: {problem}")
        return problem is None

    def _over(self, path: Sequence[Certificate], child: Certificate) -> bool:
        try:
            if not issued(child, path[0]):
                return False
            # Every authority above has one more below it (RFC 5280 6.1.4, path length).
            above = [authority_problem(each, at + 1) for at, each in enumerate(path)]
        except MalformedError:
            return False
        return all(problem is None for problem in above) and self._usable(child)
