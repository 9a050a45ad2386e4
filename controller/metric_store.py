"""What metrics ask of the database: a handful of small questions on a connection that cannot write, opened for each scrape."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from controller.metric_sheet import Sheet
from controller.webhook_rows import Standing, standings
from controller.webhook_settings import SEVERITIES

MIB = 1024 * 1024
HUNDRED = 100
OTHER = "other"
MAX_STEPS = 2_000_000
"""Of SQLite's machine for all of it: some 0.2 s."""


@dataclass(frozen=True, slots=True)
class StoreView:
    behind: int
    """Records that no rollup has counted."""
    deleted: str | None
    """When retention last removed something."""
    alarms: Mapping[tuple[str, bool], int]
    """That go on, by severity and whether somebody has acknowledged them."""
    webhooks: Sequence[Standing]


def read(path: Path) -> StoreView:
    """One moment. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as db:
        db.set_progress_handler(lambda: 1, MAX_STEPS)
        db.execute("BEGIN")
        behind = db.execute(
            "SELECT (SELECT coalesce(max(arrival), 0) FROM events) - (SELECT arrival FROM rolled)"
        ).fetchone()[0]
        deleted = db.execute("SELECT time FROM deletions ORDER BY number DESC LIMIT 1").fetchone()
        alarms: dict[tuple[str, bool], int] = {}
        for severity, acknowledged, n in db.execute(
            "SELECT severity, acknowledged IS NOT NULL, count(*) FROM alarm_states WHERE closed IS NULL GROUP BY 1, 2"
        ):
            key = (severity if severity in SEVERITIES else OTHER, bool(acknowledged))
            alarms[key] = alarms.get(key, 0) + n
        webhooks = standings(db)
    return StoreView(behind, None if deleted is None else deleted[0], alarms, webhooks)


def put_store(sheet: Sheet, found: StoreView, now: datetime) -> None:
    # Whole hundreds: a single record that waits to be counted is not told.
    sheet.put("gwanmun_rollup_behind_records", found.behind // HUNDRED * HUNDRED)
    if found.deleted is not None:
        sheet.put(
            "gwanmun_retention_last_deletion_timestamp_seconds", datetime.fromisoformat(found.deleted).timestamp()
        )
    other = {OTHER} & {severity for severity, _ in found.alarms}
    for severity in (*SEVERITIES, *other):
        for acknowledged in (False, True):
            n = found.alarms.get((severity, acknowledged), 0)
            sheet.put("gwanmun_alarms", n, severity, "true" if acknowledged else "false")
    for hook in found.webhooks:
        sheet.put("gwanmun_webhook_waiting", hook.waiting, hook.name)
        sheet.put("gwanmun_webhook_disabled", hook.disabled, hook.name)
        failing = 0.0
        if hook.failing is not None:
            failing = max(0.0, (now - datetime.fromisoformat(hook.failing)).total_seconds())
        sheet.put("gwanmun_webhook_failing_seconds", failing, hook.name)


def put_files(sheet: Sheet, path: Path) -> None:
    """Sizes in whole MiB: a single record does not show. What cannot be read is left out."""
    for name, file in (
        ("gwanmun_store_size_bytes", path),
        ("gwanmun_store_wal_bytes", path.with_name(f"{path.name}-wal")),
    ):
        try:
            sheet.put(name, file.stat().st_size // MIB * MIB)
        except OSError:
            continue
    try:
        free = os.statvfs(path.parent)
    except OSError:
        return
    sheet.put("gwanmun_store_disk_free_bytes", free.f_bavail * free.f_frsize // MIB * MIB)
