"""controller.toml as frozen dataclasses (commented example: config/controller.toml). A wrong, missing or unknown key is refused
with file, key and what is expected."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import time
from ipaddress import ip_address
from pathlib import Path
from zoneinfo import ZoneInfo

from controller import webhook_settings
from controller.alarm_book import Limits
from controller.alarm_kinds import Severity
from controller.retention import Retention
from controller.webhook_settings import Webhook
from protocol import toml, topics
from protocol.mqtt import MqttSettings
from protocol.toml import ConfigError, Expected, Table

__all__ = [
    "Alarms",
    "ConfigError",
    "ControllerConfig",
    "Expected",
    "Ingest",
    "Place",
    "Reports",
    "Web",
    "load",
    "load_api",
    "load_place",
    "load_time_zone",
    "load_webhooks",
]

CLIENT_ID = "controller"
"""Common name of the controller's certificate; the broker's access list and its client id go by it (controller.acl)."""
MIN_K, MAX_K = 5, 100
_RESET = re.compile(r"([01]\d|2[0-3]):(00|15|30|45)")
MAX_PAYLOAD = 65536
"""Bytes; the broker takes packets of 1 KiB more (max_packet_size)."""


MAX_DAYS = 3650
"""That anything is kept."""


@dataclass(frozen=True, slots=True)
class Web:
    bind: str
    """A loopback address."""
    port: int
    """0: any free port."""


@dataclass(frozen=True, slots=True)
class Ingest:
    batch: int
    """Messages in one transaction at most."""
    linger_s: float
    """Between the beginnings of two transactions at least, unless a batch is full."""


@dataclass(frozen=True, slots=True)
class Reports:
    k: int
    """A quarter of an hour of one lane with fewer passages is not told (docs/queries.md)."""
    rules: Path | None
    """The rules document, whose zones are counted; None: none are."""
    reset: time
    """When nobody is inside, by the site's clock."""


@dataclass(frozen=True, slots=True)
class Alarms:
    offline_s: float
    """Silence of a gate."""
    outbox_s: int
    """Age of the oldest record that waits at a gate."""
    disk_free_mb: int
    """Free space below which a disk is an alarm, a gate's and the controller's own."""
    escalate_s: Mapping[Severity, float]
    """How long an alarm may wait for somebody; 0: for ever."""

    @property
    def limits(self) -> Limits:
        return Limits(self.outbox_s, self.disk_free_mb)


ESCALATE_S = {Severity.CRITICAL: 120, Severity.MAJOR: 600, Severity.MINOR: 3600, Severity.WARNING: 0}
OFFLINE_S = 120


@dataclass(frozen=True, slots=True)
class Place:
    """Which site this is, and where its files are: all that a command beside the running controller wants to know."""

    site: str
    state_dir: Path

    @property
    def database(self) -> Path:
        return self.state_dir / "controller.db"

    @property
    def lock(self) -> Path:
        """Held by whoever may write the database (controller.state_lock)."""
        return self.state_dir / "controller.lock"

    @property
    def gates(self) -> Path:
        """Certificates of the enrolled gates (controller.enrolled)."""
        return self.state_dir / "gates"

    @property
    def access_list(self) -> Path:
        """The broker's, made from them (controller.acl)."""
        return self.state_dir / "broker" / "acl"

    @property
    def api_token(self) -> Path:
        """The token of who may order something through the API, made at start."""
        return self.state_dir / "api-token"

    @property
    def officer_token(self) -> Path:
        """The token of who may read exact times of passages through the API, made at start (controller.officer)."""
        return self.state_dir / "officer-token"


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    file: Path
    place: Place
    time_zone: ZoneInfo
    mqtt: MqttSettings
    web: Web
    ingest: Ingest
    reports: Reports
    alarms: Alarms
    records_key: Path
    """Private key (PEM) that signs acknowledgements and replay requests."""
    commands_key: Path | None = None
    """Private key (PEM) that signs orders to gates; None: this controller gives none."""
    emergency_key: Path | None = None
    """Private key (PEM) that signs the emergency state; None: this controller issues none."""
    retention: Retention = field(default_factory=Retention)
    webhooks: tuple[Webhook, ...] = ()

    @property
    def site(self) -> str:
        return self.place.site

    @property
    def database(self) -> Path:
        return self.place.database


def load(path: Path, environ: Mapping[str, str] = os.environ) -> ControllerConfig:
    """Read and check the configuration. Raises ConfigError."""
    root = Table(path, toml.read(path), "", environ)
    place = _place(root)
    time_zone = _time_zone(root)
    mqtt = _mqtt(root.table("mqtt"))
    web = _web(root.optional_table("web"))
    records = root.table("records")
    records_key = records.file_path("key")
    records.done()
    commands = root.optional_table("commands")
    commands_key, emergency_key = (
        commands.file_path(name) if commands.has(name) else None for name in ("key", "emergency_key")
    )
    commands.done()
    limits = root.optional_table("ingest")
    ingest = Ingest(
        batch=limits.whole("batch", 1, 10_000, 500),
        linger_s=limits.whole("linger_ms", 0, 1000, 10) / 1000,
    )
    limits.done()
    retention = _retention(root.optional_table("retention"))
    reports = _reports(root)
    alarms = _alarms(root.optional_table("alarms"))
    webhooks = webhook_settings.read(root)
    root.done()
    return ControllerConfig(
        path,
        place,
        time_zone,
        mqtt,
        web,
        ingest,
        reports,
        alarms,
        records_key,
        commands_key,
        emergency_key,
        retention,
        webhooks,
    )


def load_place(path: Path) -> Place:
    """Site and places alone: no key of the controller has to be there, or readable. Raises ConfigError."""
    return _place(Table(path, toml.read(path), "", {}))


def load_time_zone(path: Path) -> ZoneInfo:
    """The site's. Raises ConfigError."""
    return _time_zone(Table(path, toml.read(path), "", {}))


def load_api(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[Web, Path]:
    """Address of the API and its token's file, for who orders something through it. Raises ConfigError."""
    root = Table(path, toml.read(path), "", environ)
    return _web(root.optional_table("web")), _place(root).api_token


def load_webhooks(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[Place, tuple[Webhook, ...]]:
    """For who tries one: the secrets' files have to be there. Raises ConfigError."""
    root = Table(path, toml.read(path), "", environ)
    return _place(root), webhook_settings.read(root)


def _place(root: Table) -> Place:
    site = root.text("site")
    if not topics.ID.fullmatch(site):
        raise root.error(
            "site",
            "소문자, 숫자, 하이픈으로 된 이름이 있어야 합니다(최대 63자)",
            "a name of lower-case letters, digits and hyphens (at most 63) is expected",
        )
    return Place(site, root.path("state_dir"))


def _time_zone(root: Table) -> ZoneInfo:
    name = root.text("time_zone", "Asia/Seoul")
    try:
        return ZoneInfo(name)
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError, below
        pass
    except KeyError:
        pass
    raise root.error(
        "time_zone",
        "IANA 시간대 이름이 있어야 합니다(예: Asia/Seoul)",
        "an IANA time zone name is expected, such as Asia/Seoul",
    )


def _mqtt(table: Table) -> MqttSettings:
    settings = MqttSettings(
        host=table.text("host"),
        port=table.whole("port", 1, 65535),
        ca=table.file_path("ca"),
        certificate=table.file_path("certificate"),
        key=table.file_path("key"),
        client_id=CLIENT_ID,
        keepalive=table.whole("keepalive_s", 5, 120, 30),
        # The broker keeps what gates send while the controller is away; the gates' own outboxes outlive even that.
        clean_start=False,
        session_expiry=table.whole("session_expiry_s", 0, 30 * 86400, 7 * 86400),
        receive_maximum=table.whole("receive_maximum", 1, 65535, 1000),
        in_flight=200,
        max_payload=MAX_PAYLOAD,
        manual_ack=True,
        backoff_cap=table.seconds("reconnect_max_s", 0.5, 300, 30),
    )
    table.done()
    return settings


def _retention(table: Table) -> Retention:
    found = Retention(**{name: table.whole(name, 1, MAX_DAYS, days) for name, days in asdict(Retention()).items()})
    table.done()
    return found


def _reports(root: Table) -> Reports:
    table = root.optional_table("reports")
    k = table.whole("k", MIN_K, MAX_K, 5)
    table.done()
    table = root.optional_table("rules")
    rules = table.file_path("policy") if table.has("policy") else None
    table.done()
    table = root.optional_table("occupancy")
    match = _RESET.fullmatch(table.text("reset", "04:00"))
    if match is None:
        raise table.error(
            "reset",
            "15분 단위의 시각이 있어야 합니다(예: 04:00)",
            "a time of day on a quarter of an hour is expected, such as 04:00",
        )
    table.done()
    return Reports(k, rules, time(int(match[1]), int(match[2])))


def _alarms(table: Table) -> Alarms:
    defaults = Limits()
    escalate = table.optional_table("escalate_s")
    alarms = Alarms(
        # A gate says something every 30 s: one that was missed is no alarm.
        offline_s=table.whole("offline_s", 60, 86400, OFFLINE_S),
        outbox_s=table.whole("outbox_s", 60, 7 * 86400, defaults.outbox_s),
        disk_free_mb=table.whole("disk_free_mb", 10, 1_000_000, defaults.disk_free_mb),
        escalate_s={each: escalate.whole(each.value, 0, 7 * 86400, of) for each, of in ESCALATE_S.items()},
    )
    escalate.done()
    table.done()
    return alarms


def _web(table: Table) -> Web:
    bind = table.text("bind", "127.0.0.1")
    try:
        loopback = ip_address(bind).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise table.error(
            "bind",
            "루프백 주소여야 합니다(127.0.0.1 또는 ::1). 이 화면에는 아직 로그인이 없습니다",
            "a loopback address is expected (127.0.0.1 or ::1): this page has no log-in yet",
        )
    web = Web(bind, table.whole("port", 0, 65535, 8080))
    table.done()
    return web
