"""Counts from the rollups, and from the events that are not in them yet: passages, refusals, times taken.

Passages and times taken go through controller.masking; refusals are shown row by row anyway (controller.timelines).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from controller.latencies import Latencies
from controller.masking import at_least, rounded, shown
from controller.query_rows import BadQueryError, Cell, Percentiles, Refusals
from controller.reader import Reader
from protocol import events
from protocol.clock import rfc3339
from protocol.events import Kind

QUARTER_S = 900
MAX_CELLS = 50_000
MAX_LIVE = 20_000
"""Events looked at beyond the rollups: some seconds of the worst minute. Of more, the rest is counted when it is rolled up."""
MAX_CACHED_DAYS = 400
LONGEST = {
    ("quarter", False): timedelta(days=7),
    ("quarter", True): timedelta(days=31),
    ("day", False): timedelta(days=62),
    ("day", True): timedelta(days=93),
}
"""By step, and whether of one gate."""

Lane = tuple[str, str, str]
"""Gate, lane, direction."""
Quarter = tuple[int, str, str, str]


@dataclass(frozen=True, slots=True)
class Live:
    """One event beyond the rollups."""

    quarter: int
    gate: str
    lane: str
    dir: str
    kind: str
    reason: str


def quarter_of(moment: datetime) -> int:
    return int(moment.timestamp()) // QUARTER_S


def begin_of(quarter: int) -> str:
    return rfc3339(datetime.fromtimestamp(quarter * QUARTER_S, UTC))


def day_quarters(day: date, zone: ZoneInfo) -> range:
    """Quarters of one day of the site: 96, but where the clock is changed."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    following = day + timedelta(days=1)
    return range(
        quarter_of(midnight), quarter_of(datetime(following.year, following.month, following.day, tzinfo=zone))
    )


def live(reader: Reader, kinds: Iterable[str], gate: str | None = None) -> list[Live]:
    """Events of these kinds that the rollups do not have yet, as they will count them: one each."""
    wanted = sorted(kinds)
    marks = ",".join("?" * len(wanted))
    rows = reader.rows(
        "SELECT time, gate, coalesce(lane, ''), kind, coalesce(reason, ''), raw FROM (SELECT * FROM events "  # noqa: S608
        f"WHERE arrival > (SELECT arrival FROM rolled) ORDER BY arrival LIMIT {MAX_LIVE}) "
        f"WHERE kind IN ({marks}) AND gate = coalesce(?, gate)",
        (*wanted, gate),
    )
    found = []
    for time, of, lane, kind, reason, raw in rows:
        direction = events.parse(raw).data.get("dir")
        quarter = quarter_of(datetime.fromisoformat(time))
        found.append(Live(quarter, of, lane, direction if direction in ("in", "out") else "", kind, reason))
    return found


def too_much() -> BadQueryError:
    return BadQueryError("결과가 너무 많습니다. 기간을 줄이십시오", "too many rows; ask for less time")


class Counted:
    def __init__(self, reader: Reader, zone: ZoneInfo, k: int) -> None:
        self._reader, self._zone, self._k = reader, zone, k
        self._latencies = Latencies(reader, k)
        self._days: OrderedDict[date, tuple[int, Mapping[Lane, int]]] = OrderedDict()
        """Of whole days of the building: how many passages the rollup had, and what is told of each lane."""

    def traffic(self, since: datetime, until: datetime, *, gate: str | None, lane: str | None, step: str) -> list[Cell]:
        """What is over and begins in `since` to `until`. Of the building: sums of what is told of its lanes."""
        longest = LONGEST[step, gate is not None]
        if until - since > longest:
            days = longest.days
            raise BadQueryError(f"기간: {days}일까지입니다", f"at most {days} days are expected")
        if lane is not None and gate is None:
            raise BadQueryError("gate: lane에는 gate가 있어야 합니다", "gate: is expected with lane")
        if step == "day":
            return self._by_day(since, until, gate, lane)
        quarters = self._whole_quarters(since, until)
        return self._by_quarter(quarters.start, quarters.stop, gate, lane)

    def by_lane(self, since: datetime, until: datetime, *, gate: str | None, step: str) -> list[Cell]:
        """As `traffic`, of every lane of a gate, or of the building."""
        gates = [gate] if gate is not None else [name for (name,) in self._reader.rows("SELECT gate FROM gates")]
        found: list[Cell] = []
        for name in gates:
            found += self.traffic(since, until, gate=name, lane=None, step=step)
            if len(found) > MAX_CELLS:
                raise too_much()
        return found

    def grid(self, since: datetime, until: datetime, step: str) -> list[str]:
        """The beginnings of all quarters or days that are over and lie in `since` to `until`: what cells can be of."""
        if step == "day":
            return [day.isoformat() for day in self._whole_days(since, until)]
        return [begin_of(quarter) for quarter in self._whole_quarters(since, until)]

    def _whole_quarters(self, since: datetime, until: datetime) -> range:
        first = -(-int(since.timestamp()) // QUARTER_S)
        return range(first, max(first, min(quarter_of(until), quarter_of(self._reader.clock.now()))))

    def _whole_days(self, since: datetime, until: datetime) -> list[date]:
        today = self._reader.clock.now().astimezone(self._zone).date()
        day = since.astimezone(self._zone).date()
        if datetime(day.year, day.month, day.day, tzinfo=self._zone) < since:
            day += timedelta(days=1)
        end = min(until.astimezone(self._zone).date(), today)
        return [day + timedelta(days=more) for more in range(max(0, (end - day).days))]

    def _by_quarter(self, first: int, last: int, gate: str | None, lane: str | None) -> list[Cell]:
        more: Counter[Quarter] = Counter()
        for each in live(self._reader, [Kind.PASSAGE_COMPLETED], gate):
            if first <= each.quarter < last and lane in (None, each.lane):
                more[each.quarter, each.gate, each.lane, each.dir] += 1
        if gate is None:
            return self._of_building(first, last, more)
        cells = Counter(self._cells(first, last, gate, lane))
        cells.update(more)
        return [
            Cell(begin_of(quarter), gate_, lane_, direction, n)
            for (quarter, gate_, lane_, direction), n in sorted(cells.items())
            if shown(n, self._k)
        ]

    def _cells(self, first: int, last: int, gate: str, lane: str | None) -> dict[Quarter, int]:
        rows = self._reader.rows(
            "SELECT quarter, gate, lane, dir, sum(n) FROM quarters WHERE kind = 'passage.completed' AND gate = ? "
            "AND quarter >= ? AND quarter < ? AND lane = coalesce(?, lane) GROUP BY gate, quarter, lane, dir LIMIT ?",
            (gate, first, last, lane, MAX_CELLS + 1),
        )
        if len(rows) > MAX_CELLS:
            raise too_much()
        return {(row[0], row[1], row[2], row[3]): row[4] for row in rows}

    def _of_building(self, first: int, last: int, more: Mapping[Quarter, int]) -> list[Cell]:
        rows = self._reader.rows(
            f"SELECT quarter, dir, sum(n) FROM {self._source()} WHERE kind = 'passage.completed' "  # noqa: S608
            "AND quarter >= ? AND quarter < ? AND n >= ? GROUP BY quarter, dir",
            (first, last, self._k),
        )
        sums: Counter[tuple[int, str]] = Counter({(quarter, direction): n for quarter, direction, n in rows})
        for (quarter, gate, lane, direction), n in more.items():
            ((rolled,),) = self._reader.rows(
                "SELECT coalesce(sum(n), 0) FROM quarters WHERE kind = 'passage.completed' AND gate = ? AND quarter = ? "
                "AND lane = ? AND dir = ?",
                (gate, quarter, lane, direction),
            )
            before = rolled if shown(rolled, self._k) else 0
            sums[quarter, direction] += (rolled + n if shown(rolled + n, self._k) else 0) - before
        return [Cell(begin_of(quarter), "", "", direction, n) for (quarter, direction), n in sorted(sums.items()) if n]

    def _source(self) -> str:
        """Cells one a row. So are the rows of `quarters`, as long as no gate gives passages a reason or carrier."""
        split = self._reader.rows(
            "SELECT 1 FROM quarters INDEXED BY quarters_split WHERE kind = 'passage.completed' "
            "AND (reason != '' OR carrier != '') LIMIT 1"
        )
        if not split:
            return "quarters"
        return (
            "(SELECT kind, quarter, gate, lane, dir, sum(n) AS n FROM quarters WHERE kind = 'passage.completed' "
            "GROUP BY kind, quarter, gate, lane, dir)"
        )

    def _by_day(self, since: datetime, until: datetime, gate: str | None, lane: str | None) -> list[Cell]:
        found: list[Cell] = []
        for day in self._whole_days(since, until):
            if gate is None:
                sums: Counter[str] = Counter()
                for (_, _, direction), n in self._building_day(day).items():
                    sums[direction] += n
                found += [Cell(day.isoformat(), "", "", direction, n) for direction, n in sorted(sums.items()) if n]
            else:
                found += [
                    Cell(day.isoformat(), *key, n) for key, n in sorted(self._gate_day(day, gate, lane).items()) if n
                ]
        return found

    def _gate_day(self, day: date, gate: str, lane: str | None) -> dict[Lane, int]:
        quarters = day_quarters(day, self._zone)
        lanes: dict[Lane, list[int]] = {}
        for (_, *key), n in self._cells(quarters.start, quarters.stop, gate, lane).items():
            lanes.setdefault((key[0], key[1], key[2]), []).append(n)
        return {key: at_least(cells, len(quarters), self._k) for key, cells in lanes.items()}

    def _building_day(self, day: date) -> Mapping[Lane, int]:
        """A day that is over changes only by late records, and then its sum does."""
        ((rolled,),) = self._reader.rows(
            "SELECT coalesce(sum(n), 0) FROM days WHERE kind = 'passage.completed' AND day = ?", (day.isoformat(),)
        )
        kept = self._days.get(day)
        if kept is not None and kept[0] == rolled:
            return kept[1]
        quarters = day_quarters(day, self._zone)
        rows = self._reader.rows(
            "SELECT gate, lane, dir, sum(CASE WHEN n >= :k THEN n ELSE 0 END), sum(n >= :k), sum(n) "  # noqa: S608
            f"FROM {self._source()} WHERE kind = 'passage.completed' AND quarter >= :first AND quarter < :last "
            "GROUP BY gate, lane, dir",
            {"k": self._k, "first": quarters.start, "last": quarters.stop},
        )
        told = {
            (gate, lane, direction): n + rounded(all_ - n, len(quarters) - cells, self._k)
            for gate, lane, direction, n, cells, all_ in rows
        }
        self._days[day] = (rolled, told)
        while len(self._days) > MAX_CACHED_DAYS:
            self._days.popitem(last=False)
        return told

    def latency(
        self,
        since: datetime,
        until: datetime,
        *,
        gate: str | None,
        lane: str | None,
        carrier: str | None,
        stage: str,
    ) -> Percentiles:
        """Of quarters and carriers with k decisions and more, and only where all passages of that lane and quarter are told."""
        if until - since > (longest := timedelta(days=31 if gate is not None else 1)):
            raise BadQueryError(
                f"기간: {longest.days}일까지입니다", f"at most {longest.days} days are expected; more with a gate"
            )
        return self._latencies.percentiles(
            self._whole_quarters(since, until), gate=gate, lane=lane, carrier=carrier, stage=stage
        )

    def refusals(self, since: datetime, until: datetime, *, gate: str | None) -> list[Refusals]:
        """By reason, the most frequent first, of the quarters that begin in `since` to `until`."""
        if until - since > (longest := timedelta(days=93)):
            raise BadQueryError(f"기간: {longest.days}일까지입니다", f"at most {longest.days} days are expected")
        first, last = -(-int(since.timestamp()) // QUARTER_S), -(-int(until.timestamp()) // QUARTER_S)
        of_gate, values = ("AND gate = ?", (gate,)) if gate is not None else ("", ())
        sums: Counter[str] = Counter()
        rows = self._reader.rows(
            f"SELECT reason, sum(n) FROM quarters WHERE kind = 'access.denied' AND quarter >= ? AND quarter < ? {of_gate} "  # noqa: S608
            "GROUP BY reason",
            (first, last, *values),
        )
        sums.update(dict(rows))
        for each in live(self._reader, [Kind.ACCESS_DENIED], gate):
            if first <= each.quarter < last:
                sums[each.reason] += 1
        return [Refusals(reason, n) for reason, n in sums.most_common()]
