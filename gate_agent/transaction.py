"""One attempt, whatever carried it: contact, engagement, session, response, verdict, decision, durable record.

The timeline is monotonic; an event's `lat_ms` holds each stage as milliseconds since detection, and `ours` is the gate's own
share: from the last byte of the presentation on. Every way to fail has exactly one policy.reasons.Reason (`REASONS`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

from drivers.nfc.link import PhoneNotReadyError
from drivers.ports import (
    Carrier,
    DriverError,
    Link,
    LinkEndedError,
    LinkError,
    LinkLostError,
    LinkProtocolError,
    LinkTimeoutError,
)
from gate_agent.config import Lane, Request
from gate_agent.journal import AlreadyUsedError, JournalFullError, RecordUnavailableError
from gate_agent.judge import Presented
from gate_agent.services import Services
from gate_agent.timekeeping import TimeFacts
from gate_agent.trust import InForce
from gate_agent.zone.facts import Limits as ZoneLimits
from mdoc import session
from mdoc.certificates import Chained
from mdoc.certificates.structure import Certificate
from mdoc.engagement import DeviceEngagement
from mdoc.errors import HolderDeclinedError, MalformedError, SessionError
from mdoc.freshness import Freshness
from mdoc.issuerlist import ListedIssuer
from mdoc.mso import StatusReference
from mdoc.qrpass import verify_pass
from mdoc.reader import ReaderSession, RequestedItems
from mdoc.transcript import Handover
from mdoc.verify import verify_response
from policy.decision import Attributes
from policy.model import Direction, JournalFull
from policy.reasons import Reason
from protocol.events import Kind

_log = logging.getLogger(__name__)

PASS_ERROR_S = 10.0
"""Most seconds by which the clock's error may widen the freshness of a QR pass."""
HOLDER_KEY, SECOND_FACTOR = "holder_key", "second_factor"
"""Factors of `assurance`: the device, pass or card key has signed; the second factor of this lane was given."""
TERMINATE_S = 1.0
"""Seconds for the last session message, which nobody waits for."""


class Stage(StrEnum):
    DETECT = "detect"
    ENGAGE = "engage"
    CONNECT = "connect"
    REQUEST_SENT = "request_sent"
    LAST_BYTE = "last_byte"
    VERIFIED = "verified"
    DECIDED = "decided"
    RECORDED = "recorded"
    OPENED = "opened"


class RefusedError(Exception):
    """The verdict, the rules or the lane say no."""

    def __init__(self, reason: Reason, detail: str = "", notes: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.notes = reason, detail, notes


REASONS: Sequence[tuple[type[Exception], Reason]] = (
    (PhoneNotReadyError, Reason.LINK_TIMEOUT),
    (LinkLostError, Reason.LINK_LOST),
    (LinkTimeoutError, Reason.LINK_TIMEOUT),
    (LinkEndedError, Reason.HOLDER_DECLINED),
    (LinkProtocolError, Reason.MALFORMED),
    (LinkError, Reason.LINK_LOST),
    (HolderDeclinedError, Reason.HOLDER_DECLINED),
    (SessionError, Reason.SESSION_ERROR),
    (MalformedError, Reason.MALFORMED),
    (AlreadyUsedError, Reason.REPLAYED),
    (RecordUnavailableError, Reason.RECORD_UNAVAILABLE),
    (DriverError, Reason.OUT_OF_SERVICE),
)
"""First match counts. Anything else is a fault of this program: logged, and refused as out of service."""


def reason_of(error: Exception) -> Reason:
    if isinstance(error, RefusedError):
        return error.reason
    for kind, reason in REASONS:
        if isinstance(error, kind):
            return reason
    _log.error("unexpected %s in an attempt", type(error).__name__, exc_info=error)
    return Reason.OUT_OF_SERVICE


@dataclass(frozen=True, slots=True)
class Opened:
    """A channel to a phone, and what its session transcript needs."""

    link: Link
    engagement: bytes
    handover: Handover
    again: Callable[[float], Awaitable[Opened]] | None = None
    """Another channel with the same request, within so many seconds: where a phone may leave while its holder consents, and
    come back. Raises what opening raises, and LinkLostError when nobody comes."""
    carrier: Carrier | None = None
    """How the presentation came, where the link alone does not say."""


class Attempt:
    """Identity, timeline and event data of one presentation."""

    def __init__(
        self,
        services: Services,
        lane: Lane,
        carrier: Carrier,
        detected_at: float,
        on_stage: Callable[[Stage], None] = lambda _stage: None,
    ) -> None:
        self._services, self._lane, self.carrier, self._on_stage = services, lane, carrier, on_stage
        self.id = services.random_bytes(8).hex()
        self.in_force: InForce = services.trust.current
        self.clock: TimeFacts = services.judge.time()
        self._stages: dict[Stage, float] = {Stage.DETECT: detected_at}
        self.assurance: tuple[str, ...] = ()
        """Factors that were checked: HOLDER_KEY, SECOND_FACTOR."""
        self._link: Link | None = None
        self._last_message: bytes | None = None
        self.trust_version: str | None = None
        """Of the trust data that decided; None: of the phones'."""

    def look(self) -> None:
        """What is in force now, and the time: whatever came while somebody was asked counts."""
        self.in_force = self._services.trust.current
        self.clock = self._services.judge.time()

    def reached(self, stage: Stage) -> bool:
        return stage in self._stages

    def stage(self, stage: Stage, at: float | None = None) -> None:
        """Reached now, or at monotonic time `at`."""
        self._stages[stage] = self._services.clock.monotonic() if at is None else at
        self._on_stage(stage)

    def latencies(self, *stages: Stage) -> dict[str, float]:
        """Milliseconds since detection of the stages reached (of `stages`, if given), and `ours`."""
        start = self._stages[Stage.DETECT]
        found = {
            str(stage): round((at - start) * 1000, 1)
            for stage, at in self._stages.items()
            if stage is not Stage.DETECT and (not stages or stage in stages)
        }
        last_byte = self._stages.get(Stage.LAST_BYTE)
        if last_byte is not None:
            found["ours"] = round((max(self._stages.values()) - last_byte) * 1000, 2)
        return found

    def base(self) -> dict[str, Any]:
        """Lane, direction and attempt: what joins decision with passage."""
        return {"lane": self._lane.id, "dir": str(self._lane.direction), "attempt": self.id}

    def data(self, **more: Any) -> dict[str, Any]:
        """Event data of the decision. Nothing here names or links a person."""
        return {
            **self.base(),
            "point": self._lane.point,
            "carrier": str(self.carrier),
            **({"assurance": list(self.assurance)} if self.assurance else {}),
            **more,
            "pol": str(self.in_force.policy.version),
            "trust": self.trust_version or self.in_force.trust.version,
            **self._status_age(),
            "clk": self.clock.clk(),
            "lat_ms": self.latencies(),
            "degraded": self._services.degraded(),
        }

    def _status_age(self) -> dict[str, int]:
        """Of the oldest status list at hand, whoever presented: the age of the list that was looked up would tell batches of
        credentials apart."""
        ages = self.in_force.trust.status.ages(self.clock.now)
        return {"status_age_s": max(0, int(max(ages.values()).total_seconds()))} if ages else {}

    async def by_session(self, open_link: Callable[[Attempt], Awaitable[Opened]]) -> Presented:
        """An mdoc session. Raises LinkError, DriverError, MdocError or RefusedError."""
        services, asked = self._services, self._services.request
        items = RequestedItems(asked.doc_type, {asked.namespace: self._elements()})
        opened, patience = await open_link(self), services.times.consent_timeout_s
        until: float | None = None
        while True:
            self._link, self.carrier = opened.link, opened.carrier or opened.link.carrier
            self.stage(Stage.CONNECT)
            key = services.new_key(DeviceEngagement.parse(opened.engagement).key.curve)
            reader = ReaderSession(opened.engagement, opened.handover, items, services.identity, ephemeral=key)
            asked_at = services.clock.monotonic()
            if until is None:
                until = asked_at + patience
            else:  # whoever came back late has consented already: the phone gets the time that it takes to answer
                patience = max(until - asked_at, services.times.nfc_engage_s)
            await opened.link.send(reader.start())
            # Also for a phone that says nothing: status 20 tells it that the session is over.
            self._last_message = session.build_data(status=session.Status.SESSION_TERMINATION)
            self.stage(Stage.REQUEST_SENT)
            try:
                message = await opened.link.receive(patience)
                break
            except LinkLostError:
                if opened.again is None:
                    raise
            self._link = None
            services.background.spawn(opened.link.close())
            opened = await opened.again(until - services.clock.monotonic())
        self.stage(Stage.LAST_BYTE, opened.link.last_byte_at)
        try:
            response = reader.receive(message)
        except SessionError:
            self._last_message = session.build_data(status=session.Status.SESSION_ENCRYPTION_ERROR)
            raise
        except MalformedError:
            self._last_message = session.build_data(status=session.Status.CBOR_DECODING_ERROR)
            raise
        self.look()
        verdict = verify_response(
            response,
            transcript=reader.transcript,
            reader_key=reader.ephemeral,
            requested=items,
            trust=self.in_force.trust.anchors,
            status=self.in_force.trust.status,
            now=self.clock.now,
            skew=timedelta(seconds=services.judge.error_s(self.clock)),
            freshness=self.freshness(),
        )
        self.stage(Stage.VERIFIED)
        if verdict.reason is not None:
            raise RefusedError(Reason(verdict.reason.value))
        self.assurance = (HOLDER_KEY,)
        document = verdict.documents[0]
        elements = document.elements[asked.namespace]
        return Presented(
            attributes=attributes_of(asked, elements, issuer_name(document.signer)),
            carrier=str(self.carrier),
            status=[(each.uri, each.index) for each in document.status if isinstance(each, StatusReference)],
            key=document.device_key,
            handle=handle_of(elements.get(asked.handle_element)),
            edges=(document.valid_from, document.valid_until),
        )

    def by_pass(self, text: bytes, read_at: float, challenges: Collection[bytes] | None = None) -> Presented:
        """A one-shot QR pass, read at monotonic time `read_at`. Raises RefusedError.

        `challenges`: what the lane's sign shows, of which the pass has to answer one; None where it shows none.
        """
        services = self._services
        self.stage(Stage.LAST_BYTE, read_at)
        self.clock = services.judge.time()
        verdict = verify_pass(
            text,
            audience=self.in_force.policy.points[self._lane.point].entrance_group,
            issuers=self.in_force.trust.issuers,
            status=self.in_force.trust.status,
            now=self.clock.now,
            # A guard's watch is good to a minute and a half; a code that anyone may film is not taken for that long.
            clock_error=timedelta(seconds=min(services.judge.error_s(self.clock), PASS_ERROR_S)),
            max_age=timedelta(seconds=services.times.pass_max_age_s),
            challenges=challenges,
            freshness=self.freshness(),
        )
        self.stage(Stage.VERIFIED)
        if verdict.reason is not None or verdict.mark_until is None:
            raise RefusedError(Reason(verdict.reason.value) if verdict.reason else Reason.MALFORMED)
        self.assurance = (HOLDER_KEY,)
        found = verdict.attributes
        issuer = "" if verdict.issuer is None else issuer_name(verdict.issuer)
        attributes = Attributes(found.doc_type, found.agency_code, found.card_type, found.access_class, issuer)
        return Presented(
            attributes=attributes,
            carrier=str(self.carrier),
            status=() if verdict.status is None else (verdict.status,),
            key=verdict.key,
            mark=(verdict.mark, verdict.mark_until),
        )

    def _elements(self) -> list[str]:
        """The fewest that the rules need here, and the holder's handle only where the zone remembers who is inside."""
        asked, needs = self._services.request, self.in_force.policy.needs[self._lane.point]
        found = [name for name, attribute in asked.attribute_by_element.items() if attribute in needs.asked]
        return [*found, asked.handle_element] if needs.holder_handle else found

    def freshness(self) -> Freshness:
        """The zone's limits."""
        ages = self.in_force.policy.zone_of(self._lane.point).max_ages
        return Freshness(issuer_list=ages.issuer_list, status_list=ages.status_list, crl=ages.crl)

    async def record(self, mark: tuple[bytes, datetime] | None, **more: Any) -> None:
        """Returns once the grant is durable, or counted where the zone lets entries go on while the journal is full: only then
        may the lane open.

        Raises AlreadyUsedError or RecordUnavailableError; then it may not.
        """
        services, timeout = self._services, self._services.times.record_timeout_s
        try:
            await services.journal.append(Kind.ACCESS_GRANTED, self.data(**more), mark=mark, timeout=timeout)
        except JournalFullError:
            if not self._goes_on():
                raise
            await services.journal.pass_unrecorded(mark, timeout=timeout)
        self.stage(Stage.RECORDED)

    def _goes_on(self) -> bool:
        """Whoever leaves is recorded all the same, from the journal's reserve."""
        policy, point = self.in_force.policy, self._lane.point
        entry = policy.points[point].direction is Direction.ENTRY
        return entry and policy.zone_of(point).journal_full is JournalFull.CONTINUE_WITH_GAP

    def finish(self, release: Callable[[], Awaitable[None]] | None = None) -> None:
        """End the session, close the link, then `release` the card, all in the background: it may take seconds."""
        link, self._link = self._link, None
        if link is not None or release is not None:
            self._services.background.spawn(_end(link, self._last_message, release))


def attributes_of(asked: Request, elements: Any, issuer: str) -> Attributes:
    """The verified elements as attributes; one that was not asked for is "". Raises RefusedError where one is not a text."""
    found: dict[str, str] = {}
    for element, attribute in asked.attribute_by_element.items():
        value = elements.get(element, "")
        if not isinstance(value, str):
            raise RefusedError(Reason.MALFORMED)
        found[attribute] = value
    return Attributes(doc_type=asked.doc_type, issuer=issuer, **found)


def handle_of(value: Any) -> bytes | None:
    """The holder's handle; None where there is none, or it could be guessed."""
    return value if isinstance(value, bytes) and ZoneLimits.MIN_HANDLE <= len(value) <= ZoneLimits.MAX_HANDLE else None


def issuer_name(signer: Any) -> str:
    """The issuing authority as rules name it: the root's subject (RFC 4514), or the listed issuer's `kid` as text."""
    if isinstance(signer, Chained):
        return subject_name(signer.anchor.certificate)
    return signer.kid.decode("utf-8", "replace") if isinstance(signer, ListedIssuer) else ""


@lru_cache(maxsize=256)
def subject_name(root: Certificate) -> str:
    """The subject as rules write it (RFC 4514)."""
    try:
        return root.library().subject.rfc4514_string()
    except MalformedError:
        return ""  # a root that only our own reader can read has no name that a rule could use


async def _end(link: Link | None, last_message: bytes | None, release: Callable[[], Awaitable[None]] | None) -> None:
    if link is not None:
        if last_message is not None:
            try:
                async with asyncio.timeout(TERMINATE_S):
                    await link.send(last_message)
            except (LinkError, TimeoutError):
                _log.debug("the phone was gone before the session's last message")
        await link.close()
    if release is not None:
        await release()
