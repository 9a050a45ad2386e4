"""A verdict: every check by name, the one reason of a refusal, and elements that only an accepted verdict gives out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mdoc.cose import PublicKey
from mdoc.freshness import ListFacts, Used

if TYPE_CHECKING:
    from mdoc.certificates import Chained
    from mdoc.issuerlist import ListedIssuer


class Failure(StrEnum):
    """Why a presentation is refused. The words are those of the gate's published reasons (policy.reasons)."""

    MALFORMED = "malformed"
    HOLDER_DECLINED = "holder_declined"
    UNKNOWN_ISSUER = "unknown_issuer"
    ISSUER_LIST_STALE = "issuer_list_stale"
    BAD_CERTIFICATE = "bad_certificate"
    SIGNER_REVOKED = "signer_revoked"
    CRL_STALE = "crl_stale"
    BAD_SIGNATURE = "bad_signature"
    WRONG_DOCUMENT_TYPE = "wrong_document_type"
    ALTERED = "altered"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_SESSION = "wrong_session"
    STATUS_UNKNOWN = "status_unknown"
    STATUS_STALE = "status_stale"
    REVOKED = "revoked"
    MISSING_ELEMENT = "missing_element"
    WRONG_AUDIENCE = "wrong_audience"
    STALE = "stale"


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One row of a published table of checks; docs/verification.md is made from them."""

    name: str
    clause: str
    """Of ISO/IEC 18013-5:2021, or the document that is named."""
    failures: tuple[Failure, ...]
    """How it may fail. The first is the usual one."""
    ko: str
    en: str
    """What holds when it has passed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One named check. `detail` says what was seen, never whose."""

    name: str
    outcome: Outcome
    detail: str = ""
    failure: Failure | None = None
    """Set exactly when the outcome is `failed`."""


class NotAcceptedError(Exception):
    """Elements were asked of a verdict that did not accept them: a fault of the caller."""


Elements = Mapping[str, Mapping[str, Any]]
"""{namespace: {element: value}}"""


@dataclass(slots=True)
class VerifiedDocument:
    """One document of an accepted response."""

    doc_type: str
    elements: Elements
    """Signed by the issuer."""
    device_elements: Elements
    """Said by the device, of which each is one that the issuer authorized its key for."""
    signer: Any
    """mdoc.verify.Signer: whose document it is."""
    device_key: PublicKey
    """The key that answered. Names the credential: for comparing in memory, and for nothing else."""
    valid_from: datetime
    valid_until: datetime
    """The issuer's, which held at the time of the verdict give or take the clock's error."""
    status: tuple[Any, ...] = ()
    """The credential's status references (mdoc.mso), likewise."""


class Verdict:
    """The result of one verification. `reason` is None exactly when every check that ran has passed."""

    __slots__ = ("_documents", "_facts", "_now", "checks", "doc_type", "issuers", "reason")

    def __init__(
        self,
        checks: tuple[Check, ...],
        reason: Failure | None,
        documents: Sequence[VerifiedDocument] = (),
        facts: Sequence[ListFacts] = (),
        now: datetime | None = None,
        issuers: Sequence[Chained | ListedIssuer | None] = (),
    ) -> None:
        self.checks = checks
        """In the table's order; of a response with several documents, one document's after the other's."""
        self.reason = reason
        self.doc_type = documents[0].doc_type if len(documents) == 1 else None
        """The signed type of the one document; None where it is not established, or where there are several."""
        self.issuers = tuple(issuers)
        """Of each document the trusted signer, with the authority that issued it; None where there is none."""
        self._documents, self._facts, self._now = tuple(documents), facts, now

    @property
    def accepted(self) -> bool:
        return self.reason is None

    @property
    def documents(self) -> tuple[VerifiedDocument, ...]:
        """In the order of the response. Raises NotAcceptedError unless accepted, which all of them have to be."""
        if self.reason is not None:
            raise NotAcceptedError(f"refused: {self.reason}")
        return self._documents

    @property
    def elements(self) -> Elements:
        """Issuer-signed elements of the one document. Raises NotAcceptedError unless accepted, or where there are several."""
        found = self.documents
        if len(found) != 1:
            raise NotAcceptedError(f"{len(found)} documents: ask for them one by one")
        return found[0].elements

    @property
    def used(self) -> tuple[Used, ...]:
        """Which lists the verdict rests on, and how old each was then; of a refusal, as far as it came."""
        now = self._now
        return tuple(
            Used(facts, None if facts.issued_at is None or now is None else now - facts.issued_at)
            for facts in self._facts
        )


_PASSED: dict[str, Check] = {}
"""Checks that passed without a word, which is nearly all of them: made once, since a Check is frozen."""


class Checklist:
    """Collects checks in order; the first failure is the reason."""

    __slots__ = ("checks", "reason")

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.reason: Failure | None = None

    def passed(self, name: str, detail: str = "") -> None:
        if detail:
            self.checks.append(Check(name, Outcome.PASSED, detail))
            return
        check = _PASSED.get(name)
        if check is None:
            check = _PASSED[name] = Check(name, Outcome.PASSED)
        self.checks.append(check)

    def failed(self, name: str, failure: Failure, detail: str = "") -> None:
        self.checks.append(Check(name, Outcome.FAILED, detail, failure))
        if self.reason is None:
            self.reason = failure

    def skipped(self, name: str, detail: str = "") -> None:
        self.checks.append(Check(name, Outcome.SKIPPED, detail))

    def expect(self, good: bool, name: str, failure: Failure, detail: str = "") -> None:
        if good:
            self.passed(name)
        else:
            self.failed(name, failure, detail)
