"""How old trust data may be (an offline gate's question): what a list says of itself, and a zone's maximum ages.

Age counts from the list's own issue time (VICAL date, iat, thisUpdate), never from when a file arrived. A list past its own
expiry (nextUpdate, exp) is stale for every zone; the zone's limit decides before that. A status list's ttl asks for an earlier
fetch and is shown, not enforced: whether an offline gate may go on is the zone's to say. The gate clock's own age is judged by
the policy, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class ListKind(StrEnum):
    """What kind of trust data a verdict rests on."""

    ISSUER_LIST = "issuer_list"
    STATUS_LIST = "status_list"
    IDENTIFIER_LIST = "identifier_list"
    CRL = "crl"


@dataclass(frozen=True, slots=True)
class ListFacts:
    """What a list says of itself. Two lists of one kind and name are told apart by `version` and `issued_at`."""

    kind: ListKind
    name: str
    """A VICAL's provider, a file name, a status list's address, a CRL's issuer."""
    version: str | None
    """vicalIssueID or the CRL number as decimal digits; None where the list has none."""
    issued_at: datetime | None
    """None: a plain root file, which has no date and does not age."""
    expires: datetime | None
    """exp or nextUpdate."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """A zone's limits. None: no limit but the list's own expiry."""

    issuer_list: timedelta | None = None
    status_list: timedelta | None = None
    """For status and identifier lists."""
    crl: timedelta | None = None
    crl_required: bool = False
    """Refuse a signer whose issuing authority's revocation list is not at hand (as stale)."""

    def limit(self, kind: ListKind) -> timedelta | None:
        return {ListKind.ISSUER_LIST: self.issuer_list, ListKind.CRL: self.crl}.get(kind, self.status_list)


@dataclass(frozen=True, slots=True)
class Used:
    """One list that a verdict rests on. Names a batch of credentials at most, yet belongs on no event (docs/privacy.md)."""

    facts: ListFacts
    age: timedelta | None
    """At the moment of the verdict; None where the list carries no date."""


NO_LIMITS = Freshness()
"""A list's own expiry and nothing else."""
AHEAD = timedelta(minutes=5)
"""How far an issuer's clock may run before ours. A date beyond that would let a list outlive every limit."""


def staleness(facts: ListFacts, freshness: Freshness, now: datetime, skew: timedelta) -> str | None:
    """Why the list is too old to prove validity, in words, or None. `skew` is the bound of the clock's error."""
    if facts.expires is not None and now - skew > facts.expires:
        return "past its own date"
    if facts.issued_at is None:
        return None
    age = now - facts.issued_at
    if age < -(skew + AHEAD):
        return "issued in the future"
    limit = freshness.limit(facts.kind)
    if limit is not None and age > limit + skew:
        return "older than allowed here"
    return None
