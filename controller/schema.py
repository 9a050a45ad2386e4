"""Tables of the controller's database. A change of schema adds a step here; steps of released versions never change."""

from __future__ import annotations

from collections.abc import Sequence

from sqlite_utils import Database

STEPS: tuple[str, ...] = (
    # 1: events, chains, gates, alarms, messages set aside, counts.
    """
    CREATE TABLE events (
        gate TEXT NOT NULL,
        epoch TEXT NOT NULL,
        seq INTEGER NOT NULL,
        arrival INTEGER NOT NULL,
        time TEXT NOT NULL,
        kind TEXT NOT NULL,
        lane TEXT,
        attempt TEXT,
        reason TEXT,
        carrier TEXT,
        raw BLOB NOT NULL,
        PRIMARY KEY (gate, epoch, seq)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX events_arrival ON events (arrival);
    CREATE INDEX events_time ON events (time);
    CREATE INDEX events_attempt ON events (attempt) WHERE attempt IS NOT NULL;
    CREATE TABLE chains (
        gate TEXT NOT NULL,
        epoch TEXT NOT NULL,
        mark INTEGER NOT NULL,
        hash TEXT NOT NULL,
        stopped INTEGER NOT NULL,
        PRIMARY KEY (gate, epoch)
    ) WITHOUT ROWID;
    CREATE TABLE gates (
        gate TEXT PRIMARY KEY,
        epoch TEXT,
        boot TEXT,
        online INTEGER,
        last_seen TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE alarms (
        gate TEXT NOT NULL,
        epoch TEXT NOT NULL,
        seq INTEGER NOT NULL,
        what TEXT NOT NULL,
        time TEXT NOT NULL,
        PRIMARY KEY (gate, epoch, seq, what)
    ) WITHOUT ROWID;
    CREATE TABLE poison (
        topic TEXT NOT NULL,
        reason TEXT NOT NULL,
        digest TEXT NOT NULL,
        size INTEGER NOT NULL,
        head BLOB NOT NULL,
        first TEXT NOT NULL,
        last TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (topic, reason, digest)
    ) WITHOUT ROWID;
    CREATE TABLE counts (
        day TEXT NOT NULL,
        name TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (day, name)
    ) WITHOUT ROWID;
    """,
    # 2: events in the order of arrival, so that new ones go to the end of the file; holes explained; boots; why of alarms.
    """
    CREATE TABLE arrived (
        arrival INTEGER PRIMARY KEY,
        gate TEXT NOT NULL,
        epoch TEXT NOT NULL,
        seq INTEGER NOT NULL,
        time TEXT NOT NULL,
        kind TEXT NOT NULL,
        lane TEXT,
        attempt TEXT,
        reason TEXT,
        carrier TEXT,
        raw BLOB NOT NULL
    );
    INSERT INTO arrived SELECT arrival, gate, epoch, seq, time, kind, lane, attempt, reason, carrier, raw FROM events
        ORDER BY arrival;
    DROP TABLE events;
    ALTER TABLE arrived RENAME TO events;
    CREATE UNIQUE INDEX events_record ON events (gate, epoch, seq);
    ALTER TABLE chains ADD COLUMN earlier TEXT;
    CREATE TABLE gaps (
        gate TEXT NOT NULL,
        epoch TEXT NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        hash TEXT NOT NULL,
        why TEXT NOT NULL,
        time TEXT NOT NULL,
        PRIMARY KEY (gate, epoch, last, first)
    ) WITHOUT ROWID;
    CREATE TABLE boots (
        gate TEXT NOT NULL,
        boot TEXT NOT NULL,
        first TEXT NOT NULL,
        PRIMARY KEY (gate, boot)
    ) WITHOUT ROWID;
    INSERT INTO boots SELECT gate, boot, last_seen FROM gates WHERE boot IS NOT NULL;
    CREATE TABLE raised (
        gate TEXT NOT NULL,
        epoch TEXT NOT NULL,
        seq INTEGER NOT NULL,
        what TEXT NOT NULL,
        why TEXT NOT NULL,
        time TEXT NOT NULL,
        PRIMARY KEY (gate, epoch, seq, what, why)
    ) WITHOUT ROWID;
    INSERT INTO raised SELECT gate, epoch, seq, what, '', time FROM alarms;
    DROP TABLE alarms;
    ALTER TABLE raised RENAME TO alarms;
    """,
    # 3: orders to gates with who gave them and how they ended, and the emergency state in force.
    """
    CREATE TABLE orders (
        id TEXT PRIMARY KEY,
        time TEXT NOT NULL,
        gate TEXT NOT NULL,
        lane TEXT NOT NULL,
        verb TEXT NOT NULL,
        args TEXT NOT NULL,
        operator TEXT NOT NULL,
        role TEXT NOT NULL,
        second TEXT,
        second_role TEXT,
        outcome TEXT,
        answer TEXT,
        answered TEXT
    ) WITHOUT ROWID;
    CREATE INDEX orders_time ON orders (time);
    CREATE TABLE emergency (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        sequence INTEGER NOT NULL,
        levels TEXT NOT NULL
    );
    """,
    # 4: what is counted and outlives the rows it was counted from; who read exact times; what retention removed; whose it is.
    """
    CREATE TABLE site (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        name TEXT NOT NULL
    );
    CREATE TABLE site_time (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        time TEXT NOT NULL
    );
    CREATE TABLE misdated (
        arrival INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        time TEXT NOT NULL
    );
    CREATE INDEX misdated_time ON misdated (kind, time);
    CREATE TABLE rolled (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        arrival INTEGER NOT NULL
    );
    INSERT INTO rolled VALUES (1, 0);
    CREATE TABLE quarters (
        quarter INTEGER NOT NULL,
        gate TEXT NOT NULL,
        lane TEXT NOT NULL,
        dir TEXT NOT NULL,
        kind TEXT NOT NULL,
        reason TEXT NOT NULL,
        carrier TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (quarter, gate, lane, dir, kind, reason, carrier)
    ) WITHOUT ROWID;
    CREATE TABLE days (
        day TEXT NOT NULL,
        gate TEXT NOT NULL,
        lane TEXT NOT NULL,
        dir TEXT NOT NULL,
        kind TEXT NOT NULL,
        reason TEXT NOT NULL,
        carrier TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (day, gate, lane, dir, kind, reason, carrier)
    ) WITHOUT ROWID;
    CREATE TABLE latencies (
        quarter INTEGER NOT NULL,
        gate TEXT NOT NULL,
        lane TEXT NOT NULL,
        carrier TEXT NOT NULL,
        stage TEXT NOT NULL,
        bucket INTEGER NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (quarter, gate, lane, carrier, stage, bucket)
    ) WITHOUT ROWID;
    CREATE TABLE deletions (
        number INTEGER PRIMARY KEY,
        time TEXT NOT NULL,
        what TEXT NOT NULL,
        before TEXT NOT NULL,
        n INTEGER NOT NULL,
        digest TEXT NOT NULL,
        prev TEXT NOT NULL,
        hash TEXT NOT NULL
    );
    CREATE TABLE reads (
        number INTEGER PRIMARY KEY,
        time TEXT NOT NULL,
        operator TEXT NOT NULL,
        role TEXT NOT NULL,
        reason TEXT NOT NULL,
        reference TEXT NOT NULL,
        query TEXT NOT NULL,
        prev TEXT NOT NULL,
        hash TEXT NOT NULL
    );
    -- For controller.queries: what pages look for, so that no filter reads what it does not show.
    CREATE INDEX events_kind ON events (kind, time DESC, gate, lane);
    CREATE INDEX events_open ON events (gate, kind, time DESC, lane) WHERE kind NOT IN (
        'access.granted', 'antipassback.soft', 'door.closed', 'door.opened', 'egress.button', 'escort.bound',
        'journal.checkpoint', 'lane.opened', 'passage.completed', 'passage.not_taken', 'passage.reversed', 'passage.unknown');
    CREATE INDEX quarters_passed ON quarters (quarter, gate, lane, dir, n) WHERE kind = 'passage.completed';
    CREATE INDEX quarters_passed_gate ON quarters (gate, quarter, lane, dir, n) WHERE kind = 'passage.completed';
    CREATE INDEX quarters_split ON quarters (quarter) WHERE kind = 'passage.completed' AND (reason != '' OR carrier != '');
    CREATE INDEX quarters_denied ON quarters (reason, quarter, gate, n) WHERE kind = 'access.denied';
    CREATE INDEX quarters_doubts ON quarters (quarter, gate, lane, dir, kind, n) WHERE kind IN (
        'alarm.crawl', 'alarm.forced', 'alarm.tailgate', 'door.mode', 'fire.asserted', 'log.gap', 'passage.unknown');
    CREATE INDEX days_passed ON days (day, n) WHERE kind = 'passage.completed';
    CREATE INDEX latencies_gate ON latencies (gate, stage, quarter, lane, carrier, bucket, n);
    """,
    # 5: alarms as somebody works on them, each change of one, and the places of the records that raised and ended them.
    """
    CREATE TABLE alarm_states (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        gate TEXT NOT NULL,
        lane TEXT NOT NULL,
        kind TEXT NOT NULL,
        detail TEXT NOT NULL,
        severity TEXT NOT NULL,
        epoch TEXT NOT NULL,
        seq INTEGER NOT NULL,
        count INTEGER NOT NULL,
        raised TEXT NOT NULL,
        last TEXT NOT NULL,
        occurred TEXT NOT NULL,
        acknowledged TEXT,
        operator TEXT,
        role TEXT,
        escalated TEXT,
        level INTEGER NOT NULL,
        cleared TEXT,
        cleared_by TEXT,
        cleared_role TEXT,
        closed TEXT
    );
    CREATE UNIQUE INDEX alarm_states_open ON alarm_states (gate, lane, kind, detail) WHERE closed IS NULL;
    CREATE TABLE alarm_changes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        alarm INTEGER NOT NULL,
        time TEXT NOT NULL,
        change TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX alarm_changes_alarm ON alarm_changes (alarm);
    CREATE TABLE alarm_marks (
        gate TEXT NOT NULL,
        lane TEXT NOT NULL,
        kind TEXT NOT NULL,
        detail TEXT NOT NULL,
        epoch TEXT NOT NULL,
        raised INTEGER NOT NULL,
        cleared INTEGER NOT NULL,
        PRIMARY KEY (gate, lane, kind, detail, epoch)
    ) WITHOUT ROWID;
    INSERT INTO alarm_states (gate, lane, kind, detail, severity, epoch, seq, count, raised, last, occurred, level)
        SELECT gate, '', 'record.' || what,
            CASE what WHEN 'hole' THEN epoch || ':' || why WHEN 'poison' THEN why WHEN 'newer_schema' THEN CAST(seq AS TEXT)
                ELSE epoch END,
            CASE WHEN what IN ('chain', 'conflict', 'checkpoint') THEN 'critical' WHEN what = 'poison' THEN 'minor'
                WHEN what = 'newer_schema' THEN 'warning' ELSE 'major' END,
            epoch, max(seq), count(*), min(time), max(time), min(time), 0
        FROM alarms GROUP BY 1, 3, 4;
    """,
    # 6: how far each webhook has come in the changes of alarms, and what it was not told.
    """
    CREATE TABLE webhooks (
        name TEXT PRIMARY KEY,
        change INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        due TEXT,
        failing TEXT,
        why TEXT,
        disabled INTEGER NOT NULL,
        delivered TEXT
    ) WITHOUT ROWID;
    CREATE TABLE webhooks_given_up (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        change INTEGER NOT NULL,
        time TEXT NOT NULL,
        why TEXT NOT NULL
    );
    """,
)


class SchemaError(Exception):
    """The database was written by a newer version of this program."""


def migrate(db: Database, steps: Sequence[str] = STEPS) -> None:
    """Bring the database to the newest schema, each step in one transaction. Raises SchemaError."""
    db.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    row = db.execute("SELECT max(version) FROM schema_version").fetchone()
    version = row[0] or 0
    if version > len(steps):
        raise SchemaError(f"schema version {version}; this program knows {len(steps)}")
    for number, step in enumerate(steps[version:], version + 1):
        with db.atomic():
            for statement in step.split(";"):
                if statement.strip():
                    db.execute(statement)
            db.execute("INSERT INTO schema_version VALUES (?)", [number])
