"""A verdict: every check by name, the one reason of a refusal, and elements that only an accepted verdict gives out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Failure(StrEnum):
    """Why a presentation is refused. The words are those of the gate's published reasons (policy.reasons)."""

    MALFORMED = "malformed"
    HOLDER_DECLINED = "holder_declined"
    UNKNOWN_ISSUER = "unknown_issuer"
    BAD_CERTIFICATE = "bad_certificate"
    BAD_SIGNATURE = "bad_signature"
    WRONG_DOCUMENT_TYPE = "wrong_document_type"
    ALTERED = "altered"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_SESSION = "wrong_session"
    STATUS_UNKNOWN = "status_unknown"
    REVOKED = "revoked"
    MISSING_ELEMENT = "missing_element"
    WRONG_AUDIENCE = "wrong_audience"
    STALE = "stale"


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One named check. `detail` says what was seen, never whose."""

    name: str
    outcome: Outcome
    detail: str = ""


class NotAcceptedError(Exception):
    """Elements were asked of a verdict that did not accept them: a fault of the caller."""


class Verdict:
    """The result of one verification. `reason` is None exactly when every check that ran has passed."""

    __slots__ = ("_elements", "checks", "doc_type", "reason")

    def __init__(
        self,
        checks: tuple[Check, ...],
        reason: Failure | None,
        doc_type: str | None,
        elements: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.checks = checks
        self.reason = reason
        self.doc_type = doc_type
        """The signed document type; None where it is not established."""
        self._elements = elements

    @property
    def accepted(self) -> bool:
        return self.reason is None

    @property
    def elements(self) -> Mapping[str, Mapping[str, Any]]:
        """{namespace: {element: value}} of issuer-signed elements. Raises NotAcceptedError unless accepted."""
        if self.reason is not None:
            raise NotAcceptedError(f"refused: {self.reason}")
        return self._elements


class Checklist:
    """Collects checks in order; the first failure is the reason."""

    __slots__ = ("checks", "reason")

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.reason: Failure | None = None

    def passed(self, name: str, detail: str = "") -> None:
        self.checks.append(Check(name, Outcome.PASSED, detail))

    def failed(self, name: str, failure: Failure, detail: str = "") -> None:
        self.checks.append(Check(name, Outcome.FAILED, detail))
        if self.reason is None:
            self.reason = failure

    def skipped(self, name: str, detail: str = "") -> None:
        self.checks.append(Check(name, Outcome.SKIPPED, detail))

    def expect(self, good: bool, name: str, failure: Failure, detail: str = "") -> None:
        if good:
            self.passed(name)
        else:
            self.failed(name, failure, detail)

    def verdict(self, doc_type: str | None = None, elements: Mapping[str, Mapping[str, Any]] | None = None) -> Verdict:
        return Verdict(tuple(self.checks), self.reason, doc_type, elements or {})
