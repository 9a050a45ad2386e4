"""One lane: contacts in, one transaction at a time, passage watched, relay and sign driven.

A contact while a transaction runs is ignored (the same code or the next person's, who is seen again a second later); while a
grant waits to be walked, another presentation is refused as `lane_busy`. Fire is only watched: the hard-wired line opens.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from drivers.ble.roles import meeting
from drivers.nfc.link import PhoneNotReadyError, engage, handover_request
from drivers.ports import (
    Ble,
    BleRole,
    Camera,
    Carrier,
    CodeSeen,
    DriverError,
    Link,
    LinkLostError,
    LinkProtocolError,
    LinkTimeoutError,
    Message,
    NfcCard,
    NfcReader,
    SecondFactor,
    Sighting,
    Signal,
)
from gate_agent import cards, config, messages
from gate_agent.barrier import Barrier
from gate_agent.challenge import CHANGE_S, Challenges
from gate_agent.coalesce import Coalescer
from gate_agent.device_config import Application
from gate_agent.devices import Supervised
from gate_agent.display import Display
from gate_agent.journal import AlreadyUsedError, RecordUnavailableError
from gate_agent.judge import Judged, Presented, Side, exempt, notes_of
from gate_agent.passage import PASSAGE, RESTING, Refusal, State
from gate_agent.proximity import Proximity
from gate_agent.services import Services
from gate_agent.taps import SecondTap
from gate_agent.timers import CallLater, Handle
from gate_agent.transaction import SECOND_FACTOR, Attempt, Opened, RefusedError, Stage, reason_of
from gate_agent.zone import ZoneStoreError
from gate_agent.zones import Way
from mdoc.ble import ble_ident
from mdoc.engagement import QR_SCHEME, BleOptions, DeviceEngagement, from_qr
from mdoc.errors import MalformedError
from mdoc.qrpass import PREFIX
from mdoc.transcript import QrHandover, WalkUpHandover
from mdoc.type4tag import Shortcuts
from policy.decision import RULES, Wait
from policy.model import WALK_UP
from policy.reasons import Reason
from policy.situation import SecondFactor as Factor
from protocol.events import Kind

_log = logging.getLogger(__name__)

REMEMBERED_CODES = 16
"""Codes whose holder may still be showing them; in memory only."""
UNREADABLE = "unreadable"
PROVEN = frozenset({reason for rule in RULES for reason in rule.reasons} | {Reason.RECORD_UNAVAILABLE}) - {
    Reason.WRONG_DOCUMENT_TYPE
}
"""Refusals of somebody who was authenticated: always recorded one by one. The others have a quota per lane and reason."""


@dataclass(frozen=True, slots=True)
class Ports:
    """One side's devices, each under its supervisor. A BLE adapter may serve several lanes."""

    signal: Supervised[Signal]
    factor: Supervised[SecondFactor] | None
    camera: Supervised[Camera] | None
    nfc: Supervised[NfcReader] | None
    ble: Supervised[Ble] | None


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant on the disk."""

    attempt: Attempt
    exempt: bool


@dataclass(frozen=True, slots=True)
class _First:
    """The first of two people, who waits for the second."""

    attempt: Attempt
    presented: Presented
    judged: Judged


class Lane:
    def __init__(
        self,
        settings: config.Lane,
        ports: Ports,
        barrier: Barrier,
        services: Services,
        *,
        call_later: CallLater,
        proximity: Proximity | None = None,
    ) -> None:
        """`barrier` is shared with the lane's other side, where it has one; `proximity` with the other lanes of walk-up."""
        self.settings, self.ports, self.barrier, self._services = settings, ports, barrier, services
        self._call_later = call_later
        self._challenges = Challenges(services.random_bytes, services.clock) if settings.pass_challenge else None
        self._challenge_timer: Handle | None = None
        self._transaction: asyncio.Task[None] | None = None
        self._side = Side(settings.id, settings.point, settings.direction, ports.factor)
        self._second_tap, self._shortcuts = SecondTap(), Shortcuts()
        self._proximity = proximity or Proximity({})
        self._first: _First | None = None
        self._codes: OrderedDict[bytes, float] = OrderedDict()
        self._unreadable = Coalescer(1, self._report_unreadable)
        self._refusals = Coalescer(services.limits.refusals_per_window, self._report_refusals)
        self._tick: Handle | None = None
        self.display = Display(ports.signal, self._standing(), call_later)
        if self._challenges is not None:
            self._challenge_timer = call_later(CHANGE_S, self._change_challenge)
        barrier.listen(self._changed)

    @property
    def state(self) -> State:
        return self.barrier.state

    # Inputs: the work of the devices' supervisors.

    async def watch_camera(self, camera: Camera) -> None:
        async for code in camera.codes():
            self.on_code(code)

    async def watch_nfc(self, reader: NfcReader) -> None:
        async for card in reader.cards():
            self.on_card(card)

    def on_code(self, code: CodeSeen) -> None:
        """A QR code was read: a device engagement, a one-shot pass, or something else."""
        if self._held(code):
            return
        if code.payload.startswith(QR_SCHEME):
            try:
                engagement = DeviceEngagement.parse(from_qr(code.payload))
            except MalformedError:
                self._see_unreadable(code)
                return
            self._contact(
                Carrier.BLE,
                code.seen_at,
                lambda attempt: attempt.by_session(lambda each: self._scanned(each, engagement, code.decoded_at)),
                code,
            )
        elif code.payload.startswith(PREFIX):

            async def by_pass(attempt: Attempt) -> Presented:
                challenges = None if self._challenges is None else self._challenges.good()
                return attempt.by_pass(code.payload, code.decoded_at, challenges)

            self._contact(Carrier.QR, code.seen_at, by_pass, code)
        else:
            self._see_unreadable(code)

    def on_card(self, card: NfcCard) -> None:
        """A phone or card is in the NFC field. It is released in the end, whatever happens."""
        if self._second_tap.take(card):
            return
        taken = self._contact(
            Carrier.NFC,
            card.present_since,
            lambda attempt: self._tapped(attempt, card),
            None,
            card.release,
        )
        if not taken:
            self._services.background.spawn(card.release())

    # Contacts.

    def _held(self, code: CodeSeen) -> bool:
        """True while a code that was acted on is still held before the camera."""
        seen = self._codes.get(code.payload)
        if seen is None or code.decoded_at - seen > self._services.times.repeat_gap_s:
            return False
        self._remember(code)
        return True

    def _remember(self, code: CodeSeen) -> None:
        self._codes[code.payload] = code.decoded_at
        self._codes.move_to_end(code.payload)
        while len(self._codes) > REMEMBERED_CODES:
            self._codes.popitem(last=False)

    def _see_unreadable(self, code: CodeSeen) -> None:
        self._remember(code)
        if self._unreadable.seen(UNREADABLE, self._now()):
            self._report_unreadable(UNREADABLE, 1)
        self._schedule_tick()
        if self._transaction is None and self.state in RESTING:
            self.display.flash(messages.refusal(Reason.UNREADABLE), self._services.times.message_s)

    def _contact(
        self,
        carrier: Carrier,
        detected_at: float,
        present: Callable[[Attempt], Awaitable[Presented]],
        code: CodeSeen | None,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:
        """Begin an attempt. False: nothing was begun."""
        if self._transaction is not None or self.state is State.LOCKED_OPEN:
            self._second_tap.give_up()  # a code that is still there is seen again in a second
            return False
        if code is not None:
            self._remember(code)
        attempt = Attempt(self._services, self.settings, carrier, detected_at, self._on_stage)
        barred = self._barred()
        if barred is not None and barred is not Refusal.LOCKDOWN:
            # Under lockdown the decision says who is exempt; everything else is the same for everybody.
            self._refuse(attempt, RefusedError(Reason(barred)), show=self.state not in PASSAGE)
            return False
        self._transaction = asyncio.create_task(self._run(attempt, present, release))
        return True

    async def _run(
        self,
        attempt: Attempt,
        present: Callable[[Attempt], Awaitable[Presented]],
        release: Callable[[], Awaitable[None]] | None,
    ) -> None:
        try:
            presented = await present(attempt)
            granted = await self._decide(attempt, presented)
        except Exception as error:
            self._refuse(attempt, error)
        else:
            await self._open(granted)
        finally:
            self._transaction = None
            attempt.finish(release)

    async def _decide(self, attempt: Attempt, presented: Presented) -> list[Granted]:
        """Whoever may pass now, each recorded: one person, the two of a two-person rule, or nobody yet. Raises RefusedError,
        AlreadyUsedError or RecordUnavailableError."""
        judge = self._services.judge
        judged = await judge.judge(
            self._side,
            attempt.in_force,
            presented,
            attempt.id,
            lambda: self.barrier.orders.lockdown,
            on_wait=lambda: self.display.stand(messages.SECOND_FACTOR),
        )
        attempt.clock = judged.clock
        if judged.situation.second_factor is Factor.PASSED:
            attempt.assurance = (*attempt.assurance, SECOND_FACTOR)
        attempt.stage(Stage.DECIDED)
        decision = judged.decision
        if decision.wait is Wait.SECOND_PERSON:
            self._wait_for_second(attempt, presented, judged)
            return []
        if decision.refusal is not None:
            raise RefusedError(decision.refusal, notes=notes_of(decision))
        self._may_open(exempt=exempt(decision))
        if self._left(attempt):
            raise RefusedError(Reason.NOT_AT_LANE)
        first, self._first = self._first, None
        if first is not None:
            granted = await self._grant_both(first, attempt, presented, judged)
        elif judged.paired:
            # Whoever waited has been sent away at this very moment.
            judge.give_up(self._side)
            raise RefusedError(Reason.SECOND_PERSON_MISSING)
        else:
            granted = [await self._grant(attempt, presented, judged)]
        judge.settled(self._side, attempt.in_force, presented, judged, attempt.id)
        if judged.guest:
            data = {**attempt.base(), "point": self.settings.point}
            self._services.journal.note(Kind.ESCORT_BOUND, data)
        return granted

    async def _grant_both(self, first: _First, attempt: Attempt, presented: Presented, judged: Judged) -> list[Granted]:
        """Both of two people or neither, each with a record of their own. Raises as `_grant`."""
        judge = self._services.judge
        try:
            self._may_open(exempt=exempt(first.judged.decision))
            before = await self._grant(first.attempt, first.presented, judge.accompanied(first.judged))
        except Exception as error:
            judge.give_up(self._side)
            self._refuse(first.attempt, error, show=False)
            raise RefusedError(Reason.SECOND_PERSON_MISSING) from error
        try:
            return [before, await self._grant(attempt, presented, judged)]
        except Exception:
            judge.give_up(self._side)
            self.barrier.withhold(first.attempt, self.settings.direction, str(Reason.SECOND_PERSON_MISSING))
            raise

    async def _open(self, granted: list[Granted]) -> None:
        """Of two people the second is let in only where the first was."""
        alone = len(granted) == 1
        for at, each in enumerate(granted):
            if self._left(each.attempt):
                # Stepped back while the grant was being written.
                self.barrier.withhold(each.attempt, self.settings.direction, str(Reason.NOT_AT_LANE))
                opened = False
            else:
                opened = await self.barrier.open(
                    each.attempt, self.settings.direction, exempt=each.exempt, companion=not alone
                )
            if not opened:
                for left in granted[at + 1 :]:
                    self.barrier.withhold(left.attempt, self.settings.direction, str(Reason.SECOND_PERSON_MISSING))
                return

    async def _grant(self, attempt: Attempt, presented: Presented, judged: Judged) -> Granted:
        """Reserved, then durable. Raises RefusedError, AlreadyUsedError or RecordUnavailableError; nothing is reserved then.

        No disk holds anybody in: on the way out what cannot be written becomes part of a `log.gap`, and the lane opens.
        """
        zones, policy = self._services.judge.zones, attempt.in_force.policy
        way = Way.of(policy, self.settings.point)
        leaving = way.decides == way.leaves
        now = self._services.trust.current
        if now is not attempt.in_force and not leaving and presented.denied(now.deny):
            raise RefusedError(Reason.DENIED_LIST)  # lost and told while somebody waited
        if presented.mark is not None and zones.pass_used(way.decides, presented.mark[0]):
            raise AlreadyUsedError
        try:
            while True:
                found = zones.reserve(way, presented.handle, attempt.id, self.settings.id, judged.finding)
                if found is None:
                    break
                # The same person at another lane, a moment ago. What is found against somebody only grows: this ends.
                judged = self._services.judge.again(self._side, attempt.in_force, presented, judged, found)
                if judged.decision.refusal is not None:
                    raise RefusedError(judged.decision.refusal, notes=notes_of(judged.decision))
        except ZoneStoreError:
            if not leaving:
                raise RefusedError(Reason.RECORD_UNAVAILABLE, "antipassback") from None
        notes = notes_of(judged.decision)
        try:
            await attempt.record(presented.mark, notes=notes)
        except BaseException as error:
            if not (leaving and isinstance(error, RecordUnavailableError)):
                zones.free(attempt.id)
                raise
            self._services.journal.note(Kind.ACCESS_GRANTED, attempt.data(notes=notes))
        if presented.mark is not None:
            zones.use_pass(way.decides, *presented.mark)
        return Granted(attempt, exempt(judged.decision))

    def _wait_for_second(self, attempt: Attempt, presented: Presented, judged: Judged) -> None:
        self._miss(self._first)  # whose time was over at this very moment
        self._services.judge.settled(self._side, attempt.in_force, presented, judged, attempt.id)
        first = self._first = _First(attempt, presented, judged)
        self._call_later(judged.decision.wait_s, lambda: self._miss(first))
        self.display.stand(self._standing())
        self.display.flash(messages.SECOND_PERSON, judged.decision.wait_s)

    def _miss(self, first: _First | None) -> None:
        """Nobody came after `first`, unless somebody did."""
        if first is None or first is not self._first:
            return
        self._first = None
        self._services.judge.expire()
        self._refuse(first.attempt, RefusedError(Reason.SECOND_PERSON_MISSING))

    def _barred(self, *, exempt: bool = False) -> Refusal | None:
        if not self.barrier.hardware.available:
            return Refusal.OUT_OF_SERVICE
        return self.barrier.may(self.settings.direction, exempt=exempt)

    def _may_open(self, *, exempt: bool = False) -> None:
        barred = self._barred(exempt=exempt)
        if barred is not None:
            raise RefusedError(Reason(barred))

    async def _scanned(self, attempt: Attempt, engagement: DeviceEngagement, engaged_at: float) -> Opened:
        """QR engagement, then BLE."""
        attempt.stage(Stage.ENGAGE, engaged_at)
        return Opened(await self._connect(engagement), engagement.raw, QrHandover())

    async def _tapped(self, attempt: Attempt, card: NfcCard) -> Presented:
        """A phone, or a card of a kind that the zone takes: which of them, its applications say."""
        carriers = attempt.in_force.policy.zone_of(self.settings.point).carriers
        order = cards.tried(self.settings.card_order, carriers)
        seconds = self._services.times.nfc_engage_s
        found = await cards.find(card, order, seconds)
        if found is not None and found.application is Application.MDOC:
            selected = found.selected
            try:
                return await attempt.by_session(lambda each: self._engage(each, card, selected))
            except LinkProtocolError:
                # A card may have a tag's application beside its own: a key that is sold with an address written into it.
                if attempt.reached(Stage.ENGAGE):
                    raise
                found = await cards.find(card, cards.after_mdoc(order), seconds)
                if found is None:
                    raise
        if found is None:
            raise RefusedError(Reason.UNREADABLE)
        attempt.stage(Stage.ENGAGE)
        return await cards.present(attempt, card, found.application, self._services)

    async def _engage(self, attempt: Attempt, card: NfcCard, selected: bytes | None = None) -> Opened:
        """Static or negotiated handover, then NFC data transfer or BLE: of what the phone offers, what the site prefers."""
        times, ble = self._services.times, self.ports.ble
        roles = ble.device.roles if ble is not None and ble.available else ()
        service = ble.device.reserve() if ble is not None and roles else None
        request = handover_request(card, ble=service, roles=roles, prefer=self.settings.prefer)
        try:
            async with asyncio.timeout(times.nfc_engage_s):
                # A phone that is locked is asked until it is unlocked, for as long as it stays.
                found = await engage(
                    card,
                    self._services.clock,
                    request=request,
                    shortcuts=self._shortcuts,
                    patience=times.nfc_engage_s,
                    on_not_ready=lambda: self.display.stand(messages.UNLOCK),
                    selected=selected,
                )
                attempt.stage(Stage.ENGAGE)
                options = found.ble_options()
                by_ble = meeting(options, roles) is not None
                if found.nfc is not None and not (by_ble and self.settings.prefer is Carrier.BLE):
                    link = await found.open_link()
                    again = partial(self._tapped_again, attempt)
                    return Opened(link, found.engagement, found.handover, again)
        except TimeoutError:
            raise LinkTimeoutError("no engagement in time") from None
        return Opened(
            await self._connect(DeviceEngagement.parse(found.engagement), options), found.engagement, found.handover
        )

    async def _tapped_again(self, attempt: Attempt, seconds: float) -> Opened:
        """The phone left with the request in hand. Raises LinkLostError when none comes back in time."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self.display.stand(messages.TAP_AGAIN)
                    card = await self._second_tap.card()
                    opened: Opened | None = None
                    try:
                        opened = await self._engage(attempt, card)
                        return opened
                    except (LinkLostError, LinkTimeoutError, PhoneNotReadyError):
                        continue  # held badly, or still locked: once more
                    finally:
                        if opened is None or opened.link.carrier is not Carrier.NFC:
                            self._services.background.spawn(card.release())  # otherwise closing the link does it
        except TimeoutError:
            raise LinkLostError("the phone did not come back") from None

    async def _connect(self, engagement: DeviceEngagement, options: BleOptions | None = None) -> Link:
        """BLE as the phone offers it: by `options`, else by its engagement. Raises LinkError, DriverError or RefusedError."""
        ble, seconds = self.ports.ble, self._services.times.ble_connect_s
        met = None if ble is None else meeting(options or engagement.ble, ble.device.roles)
        if ble is None or met is None:
            raise RefusedError(Reason.SESSION_ERROR, "no_common_carrier")
        role, service = met
        with self._radio(ble) as radio:
            if role is BleRole.CENTRAL:
                return await radio.connect(service, seconds)
            return await radio.serve(service, ble_ident(engagement.key_bytes.raw), seconds)

    @contextmanager
    def _radio(self, ble: Supervised[Ble]) -> Iterator[Ble]:
        """The adapter, whose failure goes to its supervisor. Raises RefusedError while it is away."""
        if not ble.available:
            raise RefusedError(Reason.OUT_OF_SERVICE, ble.name)
        try:
            yield ble.device
        except DriverError as error:
            ble.failed(error)
            raise

    # Walk-up.

    async def watch_ble(self, ble: Ble) -> None:
        """Armed phones near this lane; only where it has walk-up."""
        async for sighting in ble.sightings():
            self.on_sighting(sighting)

    def on_sighting(self, sighting: Sighting) -> None:
        """An armed phone was heard. It is asked while somebody stands in this lane's entry beam, and the zone takes walk-up."""
        ble = self.ports.ble
        if ble is None:
            return
        self._proximity.heard(ble.name, sighting.peer, sighting.rssi, sighting.at)
        if self._transaction is not None or not self.barrier.taken(self.settings.direction) or not self._asks_armed():
            return
        peer = self._proximity.nearest(ble.name, self._now())
        if peer is not None:
            self._proximity.spend(peer, self._now())
            self._contact(
                Carrier.WALK_UP,
                sighting.at,
                lambda attempt: attempt.by_session(lambda each: self._approached(each, ble, peer)),
                None,
            )

    def _asks_armed(self) -> bool:
        """Whoever could not pass anyway keeps what their phone would tell."""
        policy = self._services.trust.current.policy
        return WALK_UP in policy.zone_of(self.settings.point).carriers and self._barred() in (None, Refusal.LOCKDOWN)

    async def _approached(self, attempt: Attempt, ble: Supervised[Ble], peer: str) -> Opened:
        """The phone gives its engagement over the air; the reader group that it was armed for goes into the transcript."""
        with self._radio(ble) as radio:
            found = await radio.approach(peer, self._services.times.ble_connect_s)
        attempt.stage(Stage.ENGAGE)
        group = attempt.in_force.policy.points[self.settings.point].entrance_group
        return Opened(found.link, found.engagement, WalkUpHandover(group, found.engagement), carrier=Carrier.WALK_UP)

    def _left(self, attempt: Attempt) -> bool:
        """A phone that was asked over the air opens only for somebody who stands there."""
        return attempt.carrier is Carrier.WALK_UP and not self.barrier.taken(self.settings.direction)

    def _on_stage(self, stage: Stage) -> None:
        if stage is Stage.ENGAGE:
            self.display.stand(messages.CONNECTING)
        elif stage is Stage.REQUEST_SENT:
            self.display.stand(messages.CONSENT)

    # Results.

    def _refuse(self, attempt: Attempt, error: Exception, *, show: bool = True) -> None:
        """The one place where an attempt ends without opening."""
        reason = reason_of(error)
        if reason in PROVEN or self._refusals.seen(reason, self._now()):
            more: dict[str, Any] = {"reason": str(reason)}
            if isinstance(error, RefusedError):
                if error.detail:
                    more["detail"] = error.detail
                if error.notes:
                    more["notes"] = list(error.notes)
            self._services.journal.note(Kind.ACCESS_DENIED, attempt.data(**more))
        self._schedule_tick()
        if show:
            self.display.stand(self._standing())
            self.display.flash(messages.refusal(reason), self._services.times.message_s)

    def _changed(self, problem: Message | None) -> None:
        """The barrier's state changed, or its relay has a problem to be shown for a while."""
        self.display.stand(self._standing())
        if problem is not None:
            self.display.flash(problem, self._services.times.message_s)

    def devices_changed(self) -> None:
        """A device came or went, or the challenge has changed: the idle sign says so."""
        if self._transaction is None and self.state in RESTING:
            self.display.stand(self._standing())

    def _standing(self) -> Message:
        if self.state in RESTING and not self.barrier.hardware.available:
            return messages.OUT_OF_SERVICE
        if self.state is State.GRANTED and self.barrier.direction is not self.settings.direction:
            return messages.OTHER_SIDE
        if self.state is State.SECURED:
            return messages.IDLE if self._challenges is None else messages.idle(self._challenges.current())
        return messages.STANDING[self.state]

    def _change_challenge(self) -> None:
        self._challenge_timer = self._call_later(CHANGE_S, self._change_challenge)
        self.devices_changed()

    # Counting.

    def _report_unreadable(self, _key: Hashable, count: int) -> None:
        data = {
            "lane": self.settings.id,
            "carrier": str(Carrier.QR),
            "reason": str(Reason.UNREADABLE),
            "count": count,
        }
        self._services.journal.note(Kind.ACCESS_UNREADABLE, data)

    def _report_refusals(self, key: Hashable, count: int) -> None:
        data = {"lane": self.settings.id, "dir": str(self.settings.direction), "reason": str(key), "count": count}
        self._services.journal.note(Kind.ACCESS_DENIED, data)

    def _schedule_tick(self) -> None:
        """Report counted input when its window ends, also if nothing more comes."""
        ends = [each for each in (self._unreadable.next_close, self._refusals.next_close) if each is not None]
        if self._tick is None and ends:
            self._tick = self._call_later(max(0.0, min(ends) - self._now()), self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        now = self._now()
        self._unreadable.tick(now)
        self._refusals.tick(now)
        self._schedule_tick()

    def _now(self) -> float:
        return self._services.clock.monotonic()

    async def stop(self) -> None:
        """End the attempt under way and report what was counted. A grant that is being walked stays open in the journal
        and becomes `passage.unknown` at the next start."""
        if self._transaction is not None:
            self._transaction.cancel()
            await asyncio.gather(self._transaction, return_exceptions=True)
        self._miss(self._first)
        for timer in (self._tick, self._challenge_timer):
            if timer is not None:
                timer.cancel()
        self._unreadable.flush()
        self._refusals.flush()
