"""What gates of a zone tell each other, and how they come to know the same after a cut: by comparing, never by counting on a
message to arrive.

Every gate says now and then, and whenever its link comes back, one hash per share of the tags (Digest). Who sees another
hash asks that gate for the share (Ask) and gets its movements (Movements), then a Digest again. So nothing is queued for a
gate that is away, and a lost, repeated or late message changes nothing in the end. Bytes in, bytes out.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping

from gate_agent.zone.counts import Counts
from gate_agent.zone.facts import Drop, Limits, Moment, Outgoing, ZoneSettings
from gate_agent.zone.ledger import Ledger, Reservation
from gate_agent.zone.marks import PassMarks
from gate_agent.zone.replay import ReplayWindow
from protocol import topics
from protocol import zone as wire
from protocol.zone import BUCKETS, MAX_COUNT_ROWS, MAX_MOVEMENTS, MAX_SENDERS, Body, Envelope, Movement, PeriodKey

_SKEW_MS = int(Limits.SKEW_S * 1000)


class Exchange:
    def __init__(
        self,
        settings: ZoneSettings,
        site: str,
        gate: str,
        origin: bytes,
        epoch: int,
        random_bytes: Callable[[int], bytes],
        counts: Counts,
    ) -> None:
        self._settings, self._origin, self._epoch, self._random_bytes = settings, origin, epoch, random_bytes
        self._counts = counts
        self._topic = topics.zone_tag(site, gate, settings.zone)
        self._seq = 0
        self._period = 0
        self._ledgers: Mapping[int, Ledger] = {}
        self._keys: Mapping[int, PeriodKey] = {}
        self._windows: dict[str, ReplayWindow] = {}
        self._queue: deque[tuple[int, Body]] = deque()
        self._answers: deque[tuple[int, int]] = deque()
        """Period and bucket of movements to be sent; made into messages when there is room."""
        self._answered: dict[tuple[int, int], float] = {}
        self._linked_at: float | None = None
        self._agreed = False
        """Somebody has said since the link came back that he holds what this gate holds."""
        self._digest_due = self._digest_at = -math.inf
        self._ask_after = -math.inf
        self._asked: bytes | None = None
        self._differed: dict[bytes, int] = {}
        """Shares in which each other gate's last comparison differed."""
        self._count_due = False
        self.marks = PassMarks()
        self._used_twice = 0
        self.dropped: Counter[Drop] = Counter()

    def follow(self, period: int, ledgers: Mapping[int, Ledger], keys: Mapping[int, PeriodKey]) -> None:
        """The tag periods have changed; the two mappings are the caller's own and stay."""
        if period != self._period:
            # Whatever is sealed for the old period does not open under the new key.
            self._windows.clear()
            self._digest_due = -math.inf
        self._period, self._ledgers, self._keys = period, ledgers, keys
        self._answered = {place: at for place, at in self._answered.items() if place[0] in ledgers}

    # The link.

    def link_up(self, now: Moment) -> None:
        self._linked_at, self._agreed = now.mono, False
        self._ask_after = self._digest_due = -math.inf
        self._differed.clear()
        self._tell_short_lived(now)

    def link_down(self) -> None:
        self._linked_at = None
        self._queue.clear()
        self._answers.clear()

    def _tell_short_lived(self, now: Moment) -> None:
        """What no comparison brings: this gate's reservations and used passes, to whoever has missed them."""
        for period, ledger in self._ledgers.items():
            for each in ledger.reservations():
                if each.own and each.inward and each.until > now.ms:
                    self._add(period, wire.Reserve(each.tag, each.ref, each.until))
        for used in self.marks.own(now.ms):
            self._add(self._period, used)

    def use_pass(self, mark: bytes, until: int) -> None:
        self.marks.put(mark, until, own=True)
        self.send(self._period, wire.Used(mark, until))

    def take_used_twice(self) -> int:
        """Passes that turned out to have opened lanes at two gates at once, since the last call."""
        found, self._used_twice = self._used_twice, 0
        return found

    def settled(self, now: Moment) -> bool:
        """The link is there, and another gate has agreed or there is none."""
        if self._linked_at is None:
            return False
        return self._agreed or now.mono - self._linked_at >= Limits.SETTLE_S

    # Out.

    def send(self, period: int, body: Body) -> None:
        """Without a link nothing waits: the comparison after the cut brings it."""
        if self._linked_at is not None:
            self._add(period, body)

    def counted(self) -> None:
        self._count_due = True

    def _add(self, period: int, body: Body) -> None:
        if len(self._queue) >= Limits.QUEUE:
            self._queue.popleft()
            self._digest_due = -math.inf
        self._queue.append((period, body))

    def outgoing(self, now: Moment, limit: int) -> list[Outgoing]:
        """At most `limit` messages, in order; none without a link. What does not arrive need not be repeated."""
        if self._linked_at is None:
            return []
        if self._digest_due <= now.mono:
            self._add_digest(now)
        sent: list[Outgoing] = []
        while len(sent) < limit:
            if not self._queue and self._answers:
                self._answer_next()
            if not self._queue:
                break
            period, body = self._queue.popleft()
            key = self._keys.get(period)
            if key is not None:
                sent.append(self._seal(key, body))
        key = self._keys.get(self._period)
        if self._count_due and not sent and limit > 0 and key is not None:
            sent.append(self._seal(key, wire.Count()))
        return sent

    def _seal(self, key: PeriodKey, body: Body) -> Outgoing:
        self._seq += 1
        self._count_due = False
        envelope = Envelope(self._epoch, self._seq, self._counts.own, body)
        return Outgoing(self._topic, key.seal(self._topic, envelope, self._random_bytes))

    def _add_digest(self, now: Moment) -> None:
        self._digest_at, self._digest_due = now.mono, now.mono + Limits.DIGEST_S
        for period, ledger in self._ledgers.items():
            self._add(period, wire.Digest(ledger.floor, not self.settled(now), ledger.hashes))
        others = self._counts.others()
        for at in range(0, len(others), MAX_COUNT_ROWS):
            self._add(self._period, wire.Count(tuple(others[at : at + MAX_COUNT_ROWS])))

    def _answer_next(self) -> None:
        """One share of the tags as messages; after the last one a comparison. The movements of a tag stay together."""
        period, bucket = self._answers.popleft()
        ledger = self._ledgers.get(period)
        if ledger is None:
            return
        chunk: list[Movement] = []
        for movements in ledger.movements(bucket):
            if len(chunk) + len(movements) > MAX_MOVEMENTS:
                self._queue.append((period, wire.Movements(tuple(chunk))))
                chunk = []
            chunk += movements
        if chunk:
            self._queue.append((period, wire.Movements(tuple(chunk))))
        if all(each[0] != period for each in self._answers):
            self._queue.append((period, wire.Digest(ledger.floor, False, ledger.hashes)))

    # In.

    def receive(self, topic: str, gate: str, payload: bytes, now: Moment) -> None:
        """One message of gate `gate` on this zone's topic. Never fails: what is not right is counted in `dropped`."""
        drop = self._receive(topic, gate, payload, now)
        if drop is not None:
            self.dropped[drop] += 1

    def _receive(self, topic: str, gate: str, payload: bytes, now: Moment) -> Drop | None:
        try:
            period = wire.period_of(payload)
            ledger, key = self._ledgers.get(period), self._keys.get(period)
            if ledger is None:
                return Drop.FUTURE_PERIOD if period > self._period else Drop.OLD_PERIOD
            if key is None:
                return Drop.NO_KEY
            envelope = key.open(topic, payload)
        except wire.ForgedError:
            return Drop.FORGED
        except wire.ZoneMessageError:
            return Drop.MALFORMED
        window = self._windows.get(gate)
        if window is None:
            if len(self._windows) >= MAX_SENDERS:
                return Drop.TOO_MANY_GATES
            window = self._windows[gate] = ReplayWindow()
        if not window.accept(envelope.epoch, envelope.seq):
            return Drop.REPLAYED
        counted = self._counts.merge(envelope.own)
        drop = self._apply(ledger, envelope, now)
        return drop if counted else Drop.TOO_MANY_GATES

    def _apply(self, ledger: Ledger, envelope: Envelope, now: Moment) -> Drop | None:
        latest = now.ms + _SKEW_MS
        match envelope.body:
            case wire.Reserve(tag, ref, until):
                if until > latest + self._settings.reserve_s * 1000:
                    return Drop.FROM_THE_FUTURE
                if until > now.ms:
                    ledger.put(Reservation(tag, ref, until, own=False, inward=True))
            case wire.Free(_, ref, until):
                ledger.close(ref, min(until, latest + int(self._settings.reserve_s * 1000)))
            case wire.Commit(ref, movement):
                ledger.close(ref, latest + int(self._settings.reserve_s * 1000))
                return self._join(ledger, (movement,), now)
            case wire.Exit(movement):
                return self._join(ledger, (movement,), now)
            case wire.Movements(movements):
                return self._join(ledger, movements, now)
            case wire.Forgive(stamp):
                if stamp > latest:
                    return Drop.FROM_THE_FUTURE
                ledger.forgive(stamp)
            case wire.Count(rows):
                refused = sum(not self._counts.merge(row) for row in rows)
                return Drop.TOO_MANY_GATES if refused else None
            case wire.Digest():
                return self._compare(ledger, envelope.own.origin, envelope.body, now)
            case wire.Ask(origin, wanted):
                if origin == self._origin:
                    self._asked_for(ledger.period, wanted, now)
            case wire.Used(mark, until):
                if until > latest + Limits.MARK_S * 1000:
                    return Drop.FROM_THE_FUTURE
                # Both gates come to know; the one of the greater origin tells.
                if until > now.ms and self.marks.put(mark, until, own=False) and self._origin > envelope.own.origin:
                    self._used_twice += 1
        return None

    def _join(self, ledger: Ledger, movements: tuple[Movement, ...], now: Moment) -> Drop | None:
        believed = [each for each in movements if each.stamp <= now.ms + _SKEW_MS]
        refused = ledger.join(believed, now.mono)
        if len(believed) < len(movements):
            return Drop.FROM_THE_FUTURE
        return Drop.FULL if refused else None

    def _compare(self, ledger: Ledger, origin: bytes, digest: wire.Digest, now: Moment) -> Drop | None:
        if digest.floor > now.ms + _SKEW_MS:
            return Drop.FROM_THE_FUTURE
        ledger.forgive(digest.floor)
        different = sum(
            1 << bucket
            for bucket, (mine, theirs) in enumerate(zip(ledger.hashes, digest.buckets, strict=True))
            if mine != theirs
        )
        if self._asked == origin:
            self._asked, self._ask_after = None, -math.inf
        if digest.greeting and self._linked_at is not None and ledger.period == self._period:
            self._tell_short_lived(now)
        if not different and ledger.floor == digest.floor:
            if ledger.period == self._period:
                self._agreed = True
            if ledger.period == self._period:
                self._differed.pop(origin, None)
            if digest.greeting:
                self._compare_soon(now, joining=True)
            return None
        joining = digest.greeting or not self.settled(now)
        # Among gates that have agreed before, a first difference is most often a message still on its way.
        wanted = different if joining else different & self._differed.get(origin, 0)
        if len(self._differed) >= MAX_SENDERS:
            self._differed.clear()
        self._differed[origin] = different
        if wanted and self._ask_after <= now.mono and not ledger.full:
            self._asked, self._ask_after = origin, now.mono + Limits.ASK_S
            self.send(ledger.period, wire.Ask(origin, wanted))
        # The other one may lack something as well; and a question that could not be asked now comes up again.
        self._compare_soon(now, joining=joining)
        return None

    def _compare_soon(self, now: Moment, *, joining: bool) -> None:
        apart, wait = (Limits.GREET_S, Limits.GREET_S) if joining else (Limits.ANSWER_S, Limits.ASK_S)
        recent = now.mono - self._digest_at < apart
        self._digest_due = min(self._digest_due, now.mono + wait if recent else -math.inf)

    def _asked_for(self, period: int, wanted: int, now: Moment) -> None:
        if self._linked_at is None:
            return
        for bucket in range(BUCKETS):
            place = (period, bucket)
            recent = now.mono - self._answered.get(place, -math.inf) < Limits.ANSWER_S
            if wanted >> bucket & 1 and not recent and place not in self._answers:
                self._answered[place] = now.mono
                self._answers.append(place)
