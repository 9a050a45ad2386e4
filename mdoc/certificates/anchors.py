"""Trusted issuing authorities, and what they issued: one step from anchor to signer, since a root has path length 0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509

from mdoc import cose
from mdoc.certificates.profiles import DOCUMENT_SIGNER_PROFILE, IACA_PROFILE, Profile, broken_rule, purpose_fits
from mdoc.certificates.settings import DEFAULT, Settings
from mdoc.certificates.structure import (
    Certificate,
    chain_from_header,
    key_identifier,
    of,
    read,
    signature_holds,
    verification_key,
)
from mdoc.cose import PublicKey
from mdoc.errors import MalformedError, TrustError
from mdoc.freshness import ListFacts, ListKind

if TYPE_CHECKING:
    from mdoc.crl import Crl
    from mdoc.issuerlist import IssuerList, ListedIssuer


SITE = ListFacts(ListKind.ISSUER_LIST, "", None, None, None)
"""A root that the site put there itself: no list, no date, no ageing."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """One trusted issuing authority."""

    certificate: Certificate
    key: PublicKey
    key_identifier: bytes | None
    not_before: datetime
    not_after: datetime
    source: ListFacts = SITE
    """The VICAL that lists it, or the site's file: what a verdict says it rests on, and what grows old."""
    settings: Settings = DEFAULT
    listed_types: frozenset[str] | None = None
    """Document types the VICAL lists it for; None where no list says."""

    @classmethod
    def from_certificate(
        cls,
        certificate: Certificate | x509.Certificate,
        *,
        source: ListFacts = SITE,
        settings: Settings = DEFAULT,
        listed_types: frozenset[str] | None = None,
    ) -> Anchor:
        """Raises TrustError when the certificate breaks the IACA profile or its own signature, or cannot be read."""
        try:
            root = of(certificate)
            problem = broken_rule(root, IACA_PROFILE, issuer=root, settings=settings)
            key = verification_key(root)
            if problem is None and not signature_holds(key, root.algorithm, root.signature, root.tbs):
                problem = "own signature does not verify"
            identifier = key_identifier(root)
        except MalformedError as error:
            raise TrustError(f"issuing authority: {error}") from error
        if problem is not None:
            raise TrustError(f"issuing authority: {problem}")
        return cls(root, key, identifier, root.not_before, root.not_after, source, settings, listed_types)

    def may_issue(self, doc_type: str) -> bool:
        """Neither the list nor the site keeps it from this document type. A site can only narrow what a list says."""
        return all(types is None or doc_type in types for types in (self.listed_types, self.settings.doc_types))

    def same_authority(self, other: Anchor) -> bool:
        """The same name and key: the same certificate, or one that renews it."""
        mine, theirs = self.certificate, other.certificate
        return mine.subject == theirs.subject and mine.public_key_info == theirs.public_key_info


@dataclass(frozen=True, slots=True)
class Chained:
    """A leaf certificate that a trusted anchor issued. What depends on the moment or the document is still to be asked:
    `dated`, `revoked`, `may_sign`, `purpose_fits`."""

    certificate: Certificate
    key: PublicKey
    authorities: tuple[Anchor, ...]
    """The anchor that issued it, and others of the same name and key (a root and its renewal)."""
    not_before: datetime
    not_after: datetime
    """The leaf's own dates."""
    crl: Crl | None = None
    """The issuing authority's revocation list, where there is one."""
    revoked: bool = False
    """The leaf stands on it."""

    @property
    def anchor(self) -> Anchor:
        return self.authorities[0]

    @property
    def source(self) -> ListFacts:
        return self.anchor.source

    def dated(self, moment: datetime) -> bool:
        """Leaf and an anchor are both valid at `moment`: now, or when the document was signed."""
        return self.not_before <= moment <= self.not_after and any(
            anchor.not_before <= moment <= anchor.not_after for anchor in self.authorities
        )

    def for_type(self, doc_type: str) -> Chained:
        """With the authorities trusted for this type alone, so that no other one's dates or list speak for it."""
        kept = tuple(anchor for anchor in self.authorities if anchor.may_issue(doc_type))
        return replace(self, authorities=kept) if 0 < len(kept) < len(self.authorities) else self

    def may_sign(self, doc_type: str) -> bool:
        """The issuing authority is trusted for documents of this type (VICAL docType, the site's `doc_types`)."""
        return any(anchor.may_issue(doc_type) for anchor in self.authorities)

    def purpose_fits(self, doc_type: str) -> bool:
        """The certificate's extended key usage is one for this document type."""
        return purpose_fits(self.certificate, doc_type)

    def accepts_status(self, uri: str, authority: Anchor) -> bool:  # noqa: ARG002  the listed issuer's twin needs it
        """A status list speaks for this signer's documents when the same authority issued the list's signer."""
        return self.anchor.same_authority(authority)


class TrustAnchors:
    """The trusted issuing authorities, and a bounded memory of leaves already checked against them.

    The memory holds only what does not depend on time (signature, profile, names, revocation), by the exact bytes.
    """

    _REMEMBERED = 256

    def __init__(
        self, anchors: Iterable[Anchor], *, crls: Iterable[Crl] = (), issuers: IssuerList | None = None
    ) -> None:
        """`issuers` are those named by `kid`, for documents that carry no certificate."""
        self._by_subject: dict[bytes, list[Anchor]] = {}
        for anchor in anchors:
            self._by_subject.setdefault(anchor.certificate.subject, []).append(anchor)
        self._crls: dict[tuple[bytes, bytes], Crl] = {(crl.issuer, crl.issuer_key): crl for crl in crls}
        self._issuers = issuers
        self._known: dict[tuple[bytes, tuple[bytes, ...], int], Chained | str] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_subject.values()))

    def __iter__(self) -> Iterator[Anchor]:
        return (anchor for anchors in self._by_subject.values() for anchor in anchors)

    def forget(self) -> None:
        """Drop the memory of checked leaves (the benchmark's uncached case)."""
        self._known.clear()

    def signer(self, issuer_auth: cose.Sign1) -> Chained | ListedIssuer | str | None:
        """Who signed a document, from the header of its issuerAuth: `x5chain`, or else `kid`.

        x5chain counts in the unprotected header only (9.1.2.4); a kid beside it is ignored. Without a chain the kid, in
        either header, names an entry of the signed issuer list. What is wrong with the certificate, as text; or None for
        nobody we know. Raises MalformedError where the header names nobody, or the certificate cannot be read.
        """
        chain = issuer_auth.unprotected.get(cose.X5CHAIN)
        if chain is not None:
            leaf, *further = chain_from_header(chain)
            return self.issued(leaf, DOCUMENT_SIGNER_PROFILE, further)
        if cose.X5CHAIN in issuer_auth.protected:
            raise MalformedError("issuerAuth: x5chain in the protected header")
        kid = issuer_auth.protected.get(cose.KID, issuer_auth.unprotected.get(cose.KID))
        if type(kid) is not bytes or not kid:
            raise MalformedError("issuerAuth: neither x5chain nor kid")
        return None if self._issuers is None else self._issuers.find(kid)

    def issued(self, leaf: bytes, profile: Profile, further: Sequence[bytes] = ()) -> Chained | str | None:
        """The leaf (DER) as issued by an anchor; what is wrong with it, as text; or None when no anchor issued it.

        `further` is the rest of an x5chain. 18013-5 leaves the root out, and no other certificate can stand there since a
        root has path length 0; producers that send the root along are let through. Raises MalformedError when a
        certificate cannot be read.
        """
        remembered = (leaf, tuple(further), id(profile))
        known = self._known.get(remembered)
        if known is not None:
            return known
        result = self._issued(read(leaf), profile, [read(entry) for entry in further])
        if result is not None:
            if len(self._known) >= self._REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[remembered] = result
        return result

    def _issued(self, leaf: Certificate, profile: Profile, further: Sequence[Certificate]) -> Chained | str | None:
        candidates = self._by_subject.get(leaf.issuer, ())
        # A root and its renewals share a key, and a check costs milliseconds on the larger curves.
        keys = {anchor.certificate.public_key_info: anchor.key for anchor in candidates}
        holds = {info: signature_holds(key, leaf.algorithm, leaf.signature, leaf.tbs) for info, key in keys.items()}
        signed = [anchor for anchor in candidates if holds[anchor.certificate.public_key_info]]
        if not signed:
            return None
        problem = ""
        accepted = []
        for anchor in signed:
            broken = broken_rule(leaf, profile, issuer=anchor.certificate, settings=anchor.settings)
            if broken is None:
                accepted.append(anchor)
            else:
                problem = problem or broken
        if not accepted:
            return problem
        try:
            key = verification_key(leaf)
        except MalformedError as error:
            return str(error)
        root, root_key = accepted[0].certificate, accepted[0].key
        for entry in further:
            own = entry.subject == root.subject and entry.public_key_info == root.public_key_info
            if entry != root and not (own and signature_holds(root_key, entry.algorithm, entry.signature, entry.tbs)):
                return "x5chain holds a certificate that is not the issuing authority's"
        crl = self._crls.get((root.subject, root.public_key_info))
        return Chained(
            leaf,
            key,
            tuple(accepted),
            leaf.not_before,
            leaf.not_after,
            crl,
            crl is not None and leaf.serial in crl.revoked,
        )
