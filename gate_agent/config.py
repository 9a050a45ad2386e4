"""gate.toml as frozen dataclasses (docs/configuration.md). Every mistake is refused with file, key and what is expected.

Devices' own keys are read by gate_agent.device_config. Cross references are checked here: a lane names devices that exist,
one lane each (a BLE adapter may be shared).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from drivers.lane.wiring import wired
from drivers.ports import BleRole, Carrier, Direction
from gate_agent import passage, timekeeping
from gate_agent.device_config import DEFAULT_ORDER, Application, Device, devices_of, occupied, order_of, socket_path
from gate_agent.passage import Egress, LaneType
from gate_agent.passage.sensors import REQUIRED
from gate_agent.proximity import Threshold
from gate_agent.retention import MIB
from gate_agent.retention import Limits as JournalLimits
from protocol import toml, topics
from protocol.toml import ConfigError, Expected, Table

__all__ = ["ConfigError", "Device", "Expected", "GateConfig", "load"]

ATTRIBUTES = ("agency_code", "card_type", "access_class")
"""What a rule may speak of (policy.decision.Attributes); every requested element feeds exactly one."""
CIVIL_SERVANT = "kr.go.civilservant.1"
RESERVED = frozenset({topics.ALL, "controller"})
"""Names that mean somebody else at the broker."""
MAX_LANES = 64
"""Lanes of one gate host (ARCHITECTURE section 9)."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reader authentication: the chain shown to phones (leaf first) and its private key, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Mqtt:
    host: str
    port: int
    ca: Path
    certificate: Path
    key: Path
    """The gate's own; it signs what the journal vouches for as well."""
    controller_key: Path
    """Public key (PEM) that signs acknowledgements and replay requests."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a phone is asked for, and which attribute each element feeds."""

    doc_type: str
    namespace: str
    attribute_by_element: Mapping[str, str]
    handle_element: str
    """The issuer-signed random handle, asked only where a zone remembers who is inside."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """What stands in one lane: one [[lane]] without its readers. `hardware` is a name from [device.lane.NAME]."""

    id: str
    """The lane's."""
    hardware: str
    pulse_ms: int
    passage: passage.Settings


@dataclass(frozen=True, slots=True)
class Lane:
    """One direction through one barrier and the readers for it. Device fields hold names from [device.*.NAME]."""

    id: str
    point: str
    direction: Direction
    camera: str | None
    nfc: str | None
    ble: str | None
    signal: str
    factor: str | None
    """A second factor, for zones whose rules ask for one."""
    pass_challenge: bool
    """The sign shows digits that a QR pass has to answer."""
    barrier: Barrier
    prefer: Carrier = Carrier.NFC
    """After a tap, where phone and gate can both: NFC data transfer or BLE."""
    card_order: tuple[Application, ...] = DEFAULT_ORDER
    """What a tap is tried for, in this order (gate_agent.cards)."""
    walk_up: Threshold | None = None
    """Signal strengths from which an armed phone is asked by itself; None: none is."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds."""

    ble_connect_s: float
    nfc_engage_s: float
    consent_timeout_s: float
    pass_max_age_s: float
    clock_error_s: float
    record_timeout_s: float
    relay_timeout_s: float
    message_s: float
    repeat_gap_s: float
    trust_poll_s: float
    health_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    in_flight: int
    """Records published and not yet acknowledged by the controller, while the outbox keeps up."""
    batches_in_flight: int
    """Batches of up to 100 records, while it is behind."""
    refusals_per_window: int
    """Unauthenticated refusals recorded one by one per lane and 10 s; beyond it they are counted."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    file: Path
    id: str
    site: str
    state_dir: Path
    runtime_dir: Path | None
    """Goes with the boot: the guard's socket (gate_agent.control) and the last trusted time. None: neither is kept."""
    trust_directory: Path
    list_key: Path
    """Public key (PEM) that signs the issuer list."""
    deny_key: Path | None
    visit_key: Path | None
    """Public keys (PEM) that sign deny list and visit records; None: none are taken."""
    pkoc_key: Path | None
    """Public key (PEM) that signs the list of PKOC keys; None: none is taken."""
    command_key: Path | None
    """Public key (PEM) that signs the list of keys that may order from afar; None: no order from afar is taken."""
    policy_file: Path
    policy_key: Path | None
    """Public key (PEM) that signs the rules; None: they are taken unsigned."""
    zone_keys: Path | None
    """Keys of the zones with anti-passback (gate_agent.zone.keys)."""
    clock: timekeeping.Settings
    reader: Reader
    mqtt: Mqtt
    request: Request
    devices: Mapping[str, Device]
    """By id, `kind.name`."""
    lanes: tuple[Lane, ...]
    """Each direction of each lane that has readers; the two sides of one lane share its barrier."""
    times: Times
    limits: Limits
    journal: JournalLimits

    @property
    def barriers(self) -> tuple[Barrier, ...]:
        """Each lane once."""
        return tuple({lane.id: lane.barrier for lane in self.lanes}.values())

    def device(self, kind: str, name: str) -> Device:
        return self.devices[f"{kind}.{name}"]


def _identifier(table: Table, name: str) -> str:
    value = table.text(name)
    if not topics.ID.fullmatch(value):
        raise table.error(
            name,
            "소문자, 숫자, '-'로 된 이름(63자 이하)이어야 합니다",
            "a name of lower-case letters, digits and '-' (at most 63) is expected",
        )
    return value


@dataclass(frozen=True, slots=True)
class _Pace:
    """Defaults of one lane, in seconds."""

    wait_for_start_s: float
    passage_s: float
    tail_gap_s: float
    settle_s: float


_NARROW = _Pace(wait_for_start_s=5, passage_s=30, tail_gap_s=0.15, settle_s=0.5)
_WIDE = _Pace(wait_for_start_s=10, passage_s=60, tail_gap_s=0.4, settle_s=1.5)
"""A wide lane: wheelchairs and trolleys are long, slow, and have gaps that are no second person."""


def passage_settings(table: Table, *, back: bool, direction: Direction) -> passage.Settings:
    """Type and times of one [[lane]]; `back`: readers on both sides. Raises ConfigError."""
    kind = LaneType(table.choice("type", [each.value for each in LaneType], LaneType.SPEED_GATE.value))
    default = _WIDE if table.flag("wide", default=False) else _NARROW
    egress = Egress.READER if back or direction is Direction.OUT else Egress.FREE
    return passage.Settings(
        type=kind,
        egress=Egress(table.choice("egress", [each.value for each in Egress], egress.value)),
        max_credits=table.whole("max_credits", 1, 10, 1),
        wait_for_start_s=table.seconds("wait_for_start_s", 1, 60, default.wait_for_start_s),
        passage_s=table.seconds("passage_s", 2, 300, default.passage_s),
        held_alarm_s=table.seconds("held_alarm_s", 0, 300, 10),
        alarm_s=table.seconds("alarm_s", 1, 600, 5),
        # Longer than a holder takes to consent in front of the lane.
        loiter_s=table.seconds("loiter_s", 5, 600, 30),
        tail_gap_s=table.seconds("tail_gap_s", 0, 2, default.tail_gap_s),
        settle_s=table.seconds("settle_s", 0.1, 5, default.settle_s),
        crawl_s=table.seconds("crawl_s", 0.1, 5, 0.4),
        stuck_s=table.seconds("stuck_s", 10, 3600, 120),
    )


def _lanes(table: Table, devices: Mapping[str, Device]) -> list[Lane]:
    """One [[lane]]: its own side, and [lane.back] where the other side has readers too."""

    def device(where: Table, kind: str, key: str, *, required: bool) -> str | None:
        if not required and not where.has(key):
            return None
        known = [each.name for each in devices.values() if each.kind == kind]
        if not known:
            where.text(key)
            raise where.error(
                key, f"[device.{kind}.이름]이 먼저 있어야 합니다", f"a [device.{kind}.NAME] is expected first"
            )
        return where.choice(key, known)

    def side(where: Table, barrier: Barrier, direction: Direction) -> Lane:
        nfc = device(where, "nfc", "nfc", required=False)
        lane = Lane(
            id=barrier.id,
            point=where.text("point"),
            direction=direction,
            camera=device(where, "camera", "camera", required=False),
            nfc=nfc,
            ble=device(where, "ble", "ble", required=False),
            signal=device(where, "signal", "signal", required=True) or "",
            factor=device(where, "factor", "factor", required=False),
            pass_challenge=where.flag("pass_challenge", default=False),
            barrier=barrier,
            prefer=Carrier.NFC if nfc is None else Carrier(devices[f"nfc.{nfc}"].options["prefer"]),
            card_order=DEFAULT_ORDER if nfc is None else order_of(devices[f"nfc.{nfc}"]),
            walk_up=_walk_up(where, barrier, devices),
        )
        if lane.camera is None and lane.nfc is None:
            raise where.error("camera", "camera나 nfc 중 하나는 있어야 합니다", "a camera or an nfc reader is expected")
        return lane

    direction = Direction(table.choice("direction", [each.value for each in Direction]))
    two_sided = table.has("back")
    barrier = Barrier(
        id=_identifier(table, "id"),
        hardware=device(table, "lane", "hardware", required=True) or "",
        # A turnstile's passage pulse is 0.3 s (TiSO); much longer ones hold the barrier open.
        pulse_ms=table.whole("pulse_ms", 50, 10_000, 300),
        passage=passage_settings(table, back=two_sided, direction=direction),
    )
    found = [side(table, barrier, direction)]
    if two_sided:
        back = table.table("back")
        found.append(side(back, barrier, Direction.OUT if direction is Direction.IN else Direction.IN))
        back.done()
    table.done()
    return found


def _walk_up(where: Table, barrier: Barrier, devices: Mapping[str, Device]) -> Threshold | None:
    """[lane.walk_up]: needs a beam that says that somebody stands there, and an adapter that can be central."""
    if not where.has("walk_up"):
        return None
    if barrier.passage.type is not LaneType.SPEED_GATE:
        raise where.error(
            "walk_up",
            "진입 감지 빔이 있는 통로(speed_gate)에서만 쓸 수 있습니다",
            "a lane with an entry beam (speed_gate) is expected",
        )
    adapter = devices.get(f"ble.{where.text('ble')}")
    if adapter is not None and BleRole.CENTRAL.value not in adapter.options["roles"].split(","):
        raise where.error(
            "ble", "central 역할을 하는 어댑터가 있어야 합니다", "an adapter with the role central is expected"
        )
    table = where.table("walk_up")
    enter = table.whole("enter_dbm", -90, -20, -55)
    leave = table.whole("leave_dbm", -100, enter - 3, enter - 8)
    table.done()
    return Threshold(enter, leave)


def _unshared(file: Path, tables: Iterable[Sequence[Lane]]) -> None:
    """Only a BLE adapter may serve several lanes: a camera or a relay that two lanes share opens the wrong one. An adapter that
    looks for armed phones has one lane to ask them for."""
    users: dict[tuple[str, str], str] = {}
    for at, sides in enumerate(tables):
        barrier = sides[0].barrier
        used = [("id", "id", barrier.id, ""), ("lane", "hardware", barrier.hardware, "")]
        for lane, place in zip(sides, ("", "back."), strict=False):
            used += [("camera", "camera", lane.camera or "", place), ("nfc", "nfc", lane.nfc or "", place)]
            used += [("signal", "signal", lane.signal, place), ("factor", "factor", lane.factor or "", place)]
            if lane.walk_up is not None:
                used.append(("walk_up", "ble", lane.ble or "", place))
        for kind, key, name, place in used:
            if not name:
                continue
            here = f"lane[{at}].{place}{key}"
            first = users.setdefault((kind, name), here)
            if first != here:
                raise ConfigError(
                    file,
                    here,
                    Expected(f"{first}와 같은 값을 쓸 수 없습니다", f"a value that {first} does not use is expected"),
                )


def _enough_inputs(file: Path, barriers: Iterable[Barrier], devices: Mapping[str, Device]) -> None:
    """What stands in a lane says which inputs its hardware has to have."""
    for barrier in barriers:
        wiring = devices[f"lane.{barrier.hardware}"].wiring
        missing = () if wiring is None else sorted(REQUIRED[barrier.passage.type] - wired(wiring))
        if missing:
            listed = ", ".join(missing)
            raise ConfigError(
                file,
                f"device.lane.{barrier.hardware}.inputs",
                Expected(
                    f"{barrier.passage.type} 통로에는 이 입력도 있어야 합니다: {listed}",
                    f"these inputs too are expected for a {barrier.passage.type}: {listed}",
                ),
            )


def _lamps_apart(file: Path, devices: Collection[Device]) -> None:
    """A lamp hangs on nothing else: what lights up for a lane must not move one."""
    users: dict[object, str] = {}
    for device in sorted(devices, key=lambda each: each.light is not None):  # what opens lanes first
        for key, place in occupied(device):
            here = f"device.{device.id}.{key}"
            first = users.setdefault(place, here)
            if first != here and device.light is not None:
                raise ConfigError(
                    file,
                    here,
                    Expected(f"{first}와 같은 곳에 물릴 수 없습니다", f"a place that {first} does not use is expected"),
                )


def _request(table: Table) -> Request:
    elements = table.strings("elements", {name: name for name in ATTRIBUTES})
    if sorted(elements.values()) != sorted(ATTRIBUTES):
        listed = ", ".join(ATTRIBUTES)
        raise table.error(
            "elements",
            f"항목 = 속성 표가 있어야 하며 속성은 {listed} 각 하나씩입니다",
            f"element = attribute is expected, with each of {listed} exactly once",
        )
    doc_type = table.text("doc_type", CIVIL_SERVANT)
    request = Request(
        doc_type, table.text("namespace", doc_type), elements, table.text("handle_element", "holder_handle")
    )
    table.done()
    return request


def _times(table: Table) -> Times:
    times = Times(
        ble_connect_s=table.seconds("ble_connect_s", 1, 60, 10),
        nfc_engage_s=table.seconds("nfc_engage_s", 0.5, 30, 5),
        consent_timeout_s=table.seconds("consent_timeout_s", 1, 120, 20),
        pass_max_age_s=table.seconds("pass_max_age_s", 1, 300, 15),
        clock_error_s=table.seconds("clock_error_s", 0, 60, 2),
        record_timeout_s=table.seconds("record_timeout_s", 0.02, 5, 0.25),
        relay_timeout_s=table.seconds("relay_timeout_s", 0.1, 10, 2),
        message_s=table.seconds("message_s", 0.2, 30, 3),
        repeat_gap_s=table.seconds("repeat_gap_s", 0.2, 60, 2.5),
        trust_poll_s=table.seconds("trust_poll_s", 0.05, 3600, 1),
        health_s=table.seconds("health_s", 1, 60, 30),
    )
    table.done()
    return times


def _optional_file(table: Table, name: str) -> Path | None:
    return table.file_path(name) if table.has(name) else None


def _clock(table: Table) -> timekeeping.Settings:
    settings = timekeeping.Settings(
        drift_ppm=table.whole("drift_ppm", 1, 1000, 50),
        boot_error_ms=table.whole("boot_error_ms", 1, 3_600_000) if table.has("boot_error_ms") else None,
    )
    table.done()
    return settings


@dataclass(frozen=True, slots=True)
class GatePlace:
    """Whose the state directory is, for what needs no keys."""

    id: str
    site: str
    state_dir: Path


def place(path: Path) -> GatePlace:
    """Of gate.toml only this, which can be read where the keys cannot. Raises ConfigError."""
    path = path.resolve()
    gate = Table(path, toml.read(path), "").table("gate")
    return GatePlace(_identifier(gate, "id"), _identifier(gate, "site"), gate.path("state_dir"))


def load(path: Path, environ: Mapping[str, str] = os.environ) -> GateConfig:
    """Read and check gate.toml. Raises ConfigError."""
    path = path.resolve()
    root = Table(path, toml.read(path), "", environ)

    gate = root.table("gate")
    if gate.text("id") in RESERVED:
        raise gate.error(
            "id",
            f"{', '.join(sorted(RESERVED))}는 게이트 이름이 될 수 없습니다",
            f"another name than {', '.join(sorted(RESERVED))} is expected",
        )
    gate_id, site, state_dir = _identifier(gate, "id"), _identifier(gate, "site"), gate.path("state_dir")
    runtime_dir = socket_path(gate, "runtime_dir") if gate.has("runtime_dir") else None
    gate.done()

    trust = root.table("trust")
    directory, list_key = trust.path("directory"), trust.file_path("list_key")
    if not directory.is_dir():
        raise trust.error(
            "directory",
            f"디렉터리가 없습니다: {directory}",
            f"an existing directory is expected; there is no {directory}",
        )
    deny_key, visit_key, pkoc_key, command_key = (
        _optional_file(trust, f"{name}_key") for name in ("deny", "visit", "pkoc", "command")
    )
    trust.done()

    policy = root.table("policy")
    policy_file, policy_key = policy.file_path("file"), _optional_file(policy, "signer_key")
    policy.done()

    zones = root.optional_table("zones")
    zone_keys = _optional_file(zones, "keys")
    zones.done()

    reader_table = root.table("reader")
    reader = Reader(reader_table.file_path("certificate"), reader_table.file_path("key"))
    reader_table.done()

    mqtt_table = root.table("mqtt")
    mqtt = Mqtt(
        mqtt_table.text("host"),
        mqtt_table.whole("port", 1, 65535),
        mqtt_table.file_path("ca"),
        mqtt_table.file_path("certificate"),
        mqtt_table.file_path("key"),
        mqtt_table.file_path("controller_key"),
    )
    mqtt_table.done()

    devices = devices_of(root)
    lane_tables = root.list_of_tables("lane")
    if len(lane_tables) > MAX_LANES:
        raise root.error("lane", f"최대 {MAX_LANES}개입니다", f"at most {MAX_LANES} are expected")
    sides = [_lanes(table, devices) for table in lane_tables]
    _unshared(path, sides)
    lanes = tuple(lane for each in sides for lane in each)
    _enough_inputs(path, [each[0].barrier for each in sides], devices)
    _lamps_apart(path, devices.values())

    limits_table = root.optional_table("limits")
    limits = Limits(
        in_flight=limits_table.whole("in_flight", 1, 1000, 50),
        batches_in_flight=limits_table.whole("batches_in_flight", 1, 16, 4),
        refusals_per_window=limits_table.whole("refusals_per_window", 1, 1000, 20),
    )
    limits_table.done()
    journal_table = root.optional_table("journal")
    journal = JournalLimits(
        keep=timedelta(days=journal_table.whole("keep_days", 1, 3650, 30)),
        max_bytes=journal_table.whole("max_mb", 16, 1024 * 1024, 1024) * MIB,
    )
    journal_table.done()
    config = GateConfig(
        file=path,
        id=gate_id,
        site=site,
        state_dir=state_dir,
        runtime_dir=runtime_dir,
        trust_directory=directory,
        list_key=list_key,
        deny_key=deny_key,
        visit_key=visit_key,
        pkoc_key=pkoc_key,
        command_key=command_key,
        policy_file=policy_file,
        policy_key=policy_key,
        zone_keys=zone_keys,
        clock=_clock(root.optional_table("clock")),
        reader=reader,
        mqtt=mqtt,
        request=_request(root.optional_table("request")),
        devices=devices,
        lanes=lanes,
        times=_times(root.optional_table("times")),
        limits=limits,
        journal=journal,
    )
    root.done()
    return config
