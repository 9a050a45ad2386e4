"""Which records leave next, in which message, and which are on their way. No input or output.

While the outbox keeps up, each record is a message of its own and leaves at once. An outbox that is behind (more waits than one
window, or the link is new) is packed (protocol.packing) until nothing waits any more. What is on its way is counted, never
reckoned from sequence numbers: the outbox has holes where records were given up, and may hold records of an earlier epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from gate_agent.journal import Record
from protocol import packing

RUN = 1000
"""Records read from the outbox at once: one hop to the journal's thread for ten full messages."""
GROW_AFTER = 64
"""Acknowledgements that must move before a batch that had to shrink is doubled again."""


@dataclass(slots=True)
class _Flight:
    """One message on its way: sequence numbers of one epoch, ascending, and its share of the window."""

    epoch: str
    seqs: deque[int]
    cost: int
    batch: bool


class Sending:
    """A cursor over the outbox and the window. The caller reads what `wanted` says and publishes what `take` gives."""

    def __init__(self, records: int, batches: int) -> None:
        """The window is full with `records` messages of one record, with `batches` batches, or with a mix in proportion."""
        self._records, self._batches = records, batches
        self._capacity = records * batches
        self._load = 0
        self._flights: deque[_Flight] = deque()
        self._buffer: deque[Record] = deque()
        self.epoch = ""
        """The epoch that is being written; records of another one are salvaged from an earlier file."""
        self._after = 0
        self._more = True
        """The outbox may hold records beyond `_after`."""
        self._commits = self._seen = 0
        self._salvage = False
        """Salvaged records were read: what is behind them is read when the outbox has forgotten these."""
        self._packing = True
        self._taken: tuple[str, int] = ("", 0)
        self._most = packing.MAX_RECORDS
        self._moved = 0
        self._heard = True

    @property
    def in_flight(self) -> int:
        """Records on their way."""
        return sum(len(flight.seqs) for flight in self._flights)

    @property
    def behind(self) -> bool:
        """Records wait that are not on their way."""
        return bool(self._buffer) or self._more or self._salvage

    @property
    def empty(self) -> bool:
        return not self._flights

    def taken(self, record: Record) -> bool:
        """It has been given by `take` since the last rewind."""
        epoch, seq = self._taken
        return record.epoch == epoch and record.seq <= seq

    def begin(self, epoch: str) -> None:
        """Begin again with the oldest record of the outbox, packed; `epoch` is being written."""
        self.epoch = epoch
        self._flights.clear()
        self._buffer.clear()
        self._load = self._after = 0
        self._more, self._salvage, self._packing = True, False, True
        self._taken = ("", 0)

    def committed(self) -> None:
        """The outbox has got records at its end."""
        self._commits += 1
        self._more = True

    def wanted(self) -> tuple[int, int] | None:
        """What to read from the outbox now: (after, limit); None: nothing, or no room for it."""
        if self._salvage and not self._buffer and not self._flights:
            self._salvage, self._after, self._more = False, 0, True
        if self._salvage or not self._more or len(self._buffer) >= packing.MAX_RECORDS or not self._fits(self._batches):
            return None
        self._seen = self._commits
        return self._after, RUN

    def read(self, records: Sequence[Record]) -> None:
        """The answer to `wanted`."""
        salvaged = [record for record in records if record.epoch != self.epoch]
        self._salvage = bool(salvaged)
        if salvaged and self._after == 0:
            # The cursor counts in the current epoch only, so they go alone.
            self._buffer.extend(salvaged)
            return
        own = [record for record in records if record.epoch == self.epoch] if salvaged else records
        self._more = len(records) >= RUN or self._commits != self._seen
        if own:
            self._buffer.extend(own)
            self._after = own[-1].seq

    def take(self) -> list[Record]:
        """The records of the next message, which is now on its way; several are a batch. Empty: none, or no room."""
        if not self._buffer:
            self._packing = self._packing and self.behind
            return []
        self._packing = self._packing or self.in_flight + len(self._buffer) > self._records
        count = self._fitting() if self._packing else 1
        cost = self._batches if count == 1 else self._records
        if not self._fits(cost):
            return []
        message = [self._buffer.popleft() for _ in range(count)]
        self._flights.append(_Flight(message[0].epoch, deque(record.seq for record in message), cost, count > 1))
        self._load += cost
        self._taken = (message[-1].epoch, message[-1].seq)
        if not self.behind:
            self._packing = False
        return message

    def acknowledged(self, epoch: str, seq: int) -> None:
        """The controller holds every record of `epoch` up to `seq`."""
        kept: deque[_Flight] = deque()
        for flight in self._flights:
            if flight.epoch == epoch:
                while flight.seqs and flight.seqs[0] <= seq:
                    flight.seqs.popleft()
            if flight.seqs:
                kept.append(flight)
            else:
                self._load -= flight.cost
        self._flights = kept
        self._heard = True
        self._moved += 1
        if self._moved >= GROW_AFTER:
            self._moved, self._most = 0, min(self._most * 2, packing.MAX_RECORDS)

    def shrink(self) -> None:
        """The broker does not take batches of this size."""
        self._most, self._moved = max(1, self._most // 2), 0

    def lost(self) -> None:
        """The connection has ended. A second time without a word from the controller, the batches may be the reason: a broker
        may cut off whoever passes its limit."""
        if not self._heard and any(flight.batch for flight in self._flights):
            self.shrink()
        self._heard = False
        self._flights.clear()
        self._load = 0

    def _fits(self, cost: int) -> bool:
        return self._load + cost <= self._capacity

    def _fitting(self) -> int:
        head = list(islice(self._buffer, self._most))
        same = next((at for at, record in enumerate(head) if record.epoch != head[0].epoch), len(head))
        return packing.fitting([record.raw for record in head[:same]])
