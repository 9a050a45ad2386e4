"""Where zone keys come from. A port, and a file for now; wrapped and relayed keys (ARCHITECTURE section 7) take its place later.

The file is TOML and readable by its owner alone (mode 0600 or 0400):

    [[keys]]
    zone = "hq-1f"
    period = 2026-11-24   # the local date on which the tag period begins
    key = "…"             # 32 random bytes, 64 hex digits; fresh for each period, the same at every gate of the zone
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Protocol

from protocol import toml, topics
from protocol.toml import ConfigError, Expected, Table
from protocol.zone import KEY_BYTES

MAX_KEYS = 4096
_HEX = re.compile(r"[0-9a-f]{64}")


class ZoneKeys(Protocol):
    def key(self, zone: str, period: int) -> bytes | None:
        """The 32 bytes of `zone` for the tag period that begins on date.fromordinal(period); None: not here.

        Asked for the current period and, for the overlap, the one before. Must not block."""
        ...


class FileZoneKeys:
    """Keys of one file, read at the start and by `reload`. The keys stand in no message and no representation."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError."""
        self._path = path
        self._keys: Mapping[tuple[str, int], bytes] = {}
        self.reload()

    def reload(self) -> None:
        """Read the file anew and switch whole. Raises ConfigError; the keys in force stay then."""
        self._keys = _read(self._path)

    def key(self, zone: str, period: int) -> bytes | None:
        return self._keys.get((zone, period))


def _read(path: Path) -> Mapping[tuple[str, int], bytes]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        why = error.strerror or "unreadable"
        raise ConfigError(path, "", Expected(f"파일을 읽을 수 없습니다({why})", f"cannot be read ({why})")) from error
    if mode & 0o077:
        raise ConfigError(
            path,
            "",
            Expected("소유자만 읽을 수 있어야 합니다(chmod 600)", "only its owner may read it (chmod 600)"),
        )
    document = toml.read(path)
    if not document:
        return {}
    root = Table(path, document, "")
    keys: dict[tuple[str, int], bytes] = {}
    tables = root.list_of_tables("keys")
    root.done()
    if len(tables) > MAX_KEYS:
        raise root.error("keys", f"최대 {MAX_KEYS}개입니다", f"at most {MAX_KEYS} are expected")
    for at, table in enumerate(tables):
        zone, text = table.text("zone"), table.text("key")
        # Table has no dates; this is the only document that has one.
        begins = document["keys"][at].get("period")
        if not topics.ZONE.fullmatch(zone):
            raise table.error("zone", "구역 이름이 있어야 합니다", "a zone's name is expected")
        if not isinstance(begins, date) or isinstance(begins, datetime):
            raise table.error("period", "날짜(예: 2026-11-24)가 있어야 합니다", "a date such as 2026-11-24 is expected")
        if not _HEX.fullmatch(text):
            raise table.error("key", "16진수 64자리가 있어야 합니다", "64 hex digits are expected")
        if set(document["keys"][at]) != {"zone", "period", "key"}:
            raise table.error("key", "zone, period, key만 올 수 있습니다", "only zone, period and key are expected")
        if (zone, begins.toordinal()) in keys:
            raise table.error("period", "같은 구역과 날짜가 두 번 있습니다", "one key per zone and date is expected")
        keys[zone, begins.toordinal()] = bytes.fromhex(text)
    return keys


def write_keys(path: Path, keys: Mapping[tuple[str, int], bytes]) -> None:
    """Write the file whole, mode 0600 from the first byte, in one step. Raises OSError, or ValueError for a key of another
    size or a name that is none.

    Whoever leaves out the periods that are over ends what their tags could be tested with.
    """
    blocks = []
    for (zone, period), key in sorted(keys.items()):
        if len(key) != KEY_BYTES:
            raise ValueError("a zone key of 32 bytes is expected")
        if not topics.ZONE.fullmatch(zone):
            raise ValueError("a zone's name is expected")
        blocks.append(f'[[keys]]\nzone = "{zone}"\nperiod = {date.fromordinal(period)}\nkey = "{key.hex()}"\n')
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("\n".join(blocks))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
