"""What lanes and transactions share, built once by the agent and passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from card.pkoc import READER_ID
from gate_agent.background import Background
from gate_agent.config import Limits, Request, Times
from gate_agent.journal import Journal
from gate_agent.judge import Judge
from gate_agent.trust import TrustCache
from mdoc.reader import ReaderIdentity
from protocol.clock import Clock


@dataclass(frozen=True, slots=True)
class Services:
    clock: Clock
    journal: Journal
    trust: TrustCache
    identity: ReaderIdentity
    request: Request
    times: Times
    limits: Limits
    random_bytes: Callable[[int], bytes]
    new_key: Callable[[ec.EllipticCurve], ec.EllipticCurvePrivateKey]
    """A fresh ephemeral key on the curve of the phone's engagement key."""
    judge: Judge
    degraded: Callable[[], list[str]]
    """What is missing right now, such as `no_uplink`, for the event's `degraded` field."""
    reader_id: bytes = bytes(READER_ID)
    """What this gate tells a PKOC card of itself: 16 bytes of the site, 16 of the gate (gate_agent.cards.reader_id)."""
    background: Background = field(default_factory=Background)
