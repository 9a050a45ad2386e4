"""What a site says about one issuing authority: how strict, for which document types, and which breaches it tolerates and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Strictness(StrEnum):
    STANDARD = "standard"
    """Every row that trust rests on."""
    FULL = "full"
    """Every row of the annex."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    rule: str
    """`profile.row` of mdoc.certificates.profiles."""
    reason: str


@dataclass(frozen=True, slots=True)
class Settings:
    strictness: Strictness = Strictness.STANDARD
    doc_types: frozenset[str] | None = None
    """The document types it may sign; None where the site does not narrow them."""
    tolerances: tuple[Tolerance, ...] = ()


DEFAULT = Settings()
