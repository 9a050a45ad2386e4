"""Parameters of a read, from the address or from a JSON body: each is named where it is wrong, and none is overlooked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.datastructures import QueryParams

from controller.query_rows import Cursor, QueryError
from controller.requests import ApiError, wrong
from protocol.fields import WORD

DEFAULT_LIMIT, MAX_LIMIT = 100, 500
MAX_QUERY_BYTES = 4096
EARLIEST, LATEST = 2000, 2199
"""Years that a time may name."""
DAY = timedelta(days=1)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


class Parameters:
    """Taken one by one; `done` refuses what is left over. All methods raise ApiError."""

    def __init__(self, values: Mapping[str, list[Any]]) -> None:
        self._values = dict(values)

    @classmethod
    def of_query(cls, query: QueryParams) -> Parameters:
        values: dict[str, list[Any]] = {}
        for name, value in query.multi_items():
            values.setdefault(name, []).append(value)
        return cls(values)

    @classmethod
    def of_body(cls, body: Mapping[str, Any]) -> Parameters:
        """A null is as good as leaving it out."""
        return cls(
            {name: value if isinstance(value, list) else [value] for name, value in body.items() if value is not None}
        )

    def text(self, name: str, most: int) -> str:
        value = self._one(name)
        if not isinstance(value, str) or not 0 < len(value) <= most:
            raise wrong(name, f"{most}자까지의 글이 있어야 합니다", f"a text of at most {most} characters is expected")
        return value

    def word(self, name: str) -> str | None:
        value = self._one(name)
        return None if value is None else _word(name, value)

    def words(self, name: str, most: int) -> list[str] | None:
        """One that may be given several times; None: not at all."""
        values = self._values.pop(name, None)
        if values is None:
            return None
        if not 0 < len(values) <= most:
            raise wrong(name, f"1개에서 {most}개까지입니다", f"1 to {most} of it are expected")
        return [_word(name, value) for value in values]

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        value = self._one(name)
        if value is not None and value not in choices:
            raise _not_among(name, choices)
        return None if value is None else str(value)

    def choices(self, name: str, choices: Collection[str]) -> list[str] | None:
        values = self.words(name, len(choices))
        if values is not None and not set(values) <= set(choices):
            raise _not_among(name, choices)
        return values

    def number(self, name: str, default: int, low: int, high: int) -> int:
        value = self._one(name)
        if value is None:
            return default
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise wrong(
                name, f"{low}에서 {high}까지의 정수여야 합니다", f"a whole number from {low} to {high} is expected"
            )
        return value

    def moment(self, name: str, default: datetime) -> datetime:
        """RFC 3339 with an offset; in an address `+` is written `%2B`."""
        value = self._one(name)
        if value is None:
            return default
        try:
            if isinstance(value, str) and _MOMENT.fullmatch(value):
                found = datetime.fromisoformat(value.upper()).astimezone(UTC)
                if EARLIEST <= found.year <= LATEST:
                    return found
        except (ValueError, OverflowError):
            pass
        raise wrong(
            name,
            f"{EARLIEST}년에서 {LATEST}년까지의 RFC 3339 시각이어야 합니다(예: 2026-11-24T00:00:00Z)",
            f"an RFC 3339 time of the years {EARLIEST} to {LATEST} is expected, such as 2026-11-24T00:00:00Z",
        )

    def range(self, now: datetime, default: timedelta = DAY) -> tuple[datetime, datetime]:
        """`since` and `until`: until now, and from `default` before it, where they are left out."""
        until = self.moment("until", now)
        since = self.moment("since", max(until - default, datetime(EARLIEST, 1, 1, tzinfo=UTC)))
        if not since < until:
            raise wrong("since", "until보다 앞서야 합니다", "a time before until is expected")
        return since, until

    def after(self) -> Cursor | None:
        value = self._one("after")
        if value is None:
            return None
        if not isinstance(value, str):
            raise wrong("after", "앞 쪽에서 받은 값이어야 합니다", "a value given with the page before is expected")
        try:
            return Cursor.parse(value)
        except QueryError as error:
            raise ApiError(400, "wrong_parameter", error.ko, error.en) from None

    def limit(self) -> int:
        return self.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)

    def done(self) -> None:
        if self._values:
            name = min(self._values)[:64]
            raise ApiError(400, "unknown_parameter", f"{name}: 모르는 매개변수입니다", f"{name}: no such parameter")

    def _one(self, name: str) -> Any:
        values = self._values.pop(name, None)
        if values is None:
            return None
        if len(values) != 1:
            raise wrong(name, "한 번만 줄 수 있습니다", "expected once")
        return values[0]


def _word(name: str, value: object) -> str:
    if not isinstance(value, str) or not WORD.fullmatch(value):
        raise wrong(name, "짧은 낱말이어야 합니다", "a short word is expected")
    return value


def _not_among(name: str, choices: Collection[str]) -> ApiError:
    named = ", ".join(choices)
    return wrong(name, f"{named} 가운데 하나여야 합니다", f"one of {named} is expected")
