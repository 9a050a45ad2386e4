"""gate.toml as frozen dataclasses (docs/configuration.md). Every mistake is refused with file, key and what is expected.

Cross references are checked here too: a lane names devices that exist, one lane each (a BLE adapter may be shared).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from drivers.lane.wiring import (
    Bias,
    BitInput,
    Bits,
    ChangeOver,
    CoilOutput,
    FireRegister,
    FireState,
    Flash,
    FlashStyle,
    GpioInput,
    GpioOutput,
    GpioWiring,
    ModbusWiring,
    SerialPlace,
    TcpPlace,
    Wiring,
    Words,
    wired,
)
from drivers.ports import BleRole, Carrier, Direction, LaneSignal
from drivers.signal.sound import PLAYERS, REPEAT_S
from drivers.signal.speech import LANGUAGES
from drivers.signal.text import BAUDS, COMMAND_SETS, ENCODINGS
from gate_agent import passage, timekeeping
from gate_agent.passage import Egress, LaneType
from gate_agent.passage.sensors import REQUIRED
from gate_agent.proximity import Threshold
from protocol import toml, topics
from protocol.toml import ConfigError, Expected, Table

__all__ = ["ConfigError", "Expected", "GateConfig", "load"]

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


@dataclass(frozen=True, slots=True)
class Request:
    """What a phone is asked for, and which attribute each element feeds."""

    doc_type: str
    namespace: str
    attribute_by_element: Mapping[str, str]
    handle_element: str
    """The issuer-signed random handle, asked only where a zone remembers who is inside."""


@dataclass(frozen=True, slots=True)
class Device:
    """One [device.KIND.NAME]. `options` are the driver's own keys, checked."""

    kind: str
    name: str
    driver: str
    options: Mapping[str, str]
    wiring: Wiring | None = None
    """Of lane hardware that has lines, coils and inputs of its own (drivers.lane.wiring)."""

    @property
    def id(self) -> str:
        return f"{self.kind}.{self.name}"


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
    """Records published and not yet acknowledged by the controller."""
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

    @property
    def barriers(self) -> tuple[Barrier, ...]:
        """Each lane once."""
        return tuple({lane.id: lane.barrier for lane in self.lanes}.values())

    def device(self, kind: str, name: str) -> Device:
        return self.devices[f"{kind}.{name}"]


_Options = Callable[[Table], dict[str, str]]


def _source(table: Table) -> dict[str, str]:
    """A camera number, a device path, a video file or a stream address; frames decoded a second; which part of them; and what
    a device is asked for. A key left out is no option: the camera stays as it is."""
    source = str(table.whole("source", 0, 63)) if table.is_whole("source") else table.text("source")
    found = {"source": source, "fps": str(table.whole("fps", 1, 60, 15))}
    if table.has("region"):
        found["region"] = ",".join(map(str, table.fractions("region", 4)))
    for name, low, high in (("width", 16, 8192), ("height", 16, 8192), ("gain", 0, 65_535)):
        if table.has(name):
            found[name] = str(table.whole(name, low, high))
    if table.is_whole("exposure_us"):
        found["exposure_us"] = str(table.whole("exposure_us", 100, 500_000))
    elif table.has("exposure_us"):
        found["exposure_us"] = table.choice("exposure_us", ["auto"])
    if table.has("power_line_hz"):
        hertz = table.whole("power_line_hz", 50, 60)
        if hertz not in (50, 60):
            raise table.error("power_line_hz", "50이나 60이어야 합니다", "50 or 60 is expected")
        found["power_line_hz"] = str(hertz)
    return found


def _socket(table: Table, key: str = "path") -> dict[str, str]:
    """Simulated hardware listens on a Unix socket or on loopback, never on a network."""
    path = table.path(key)
    if len(os.fsencode(path)) > 100:
        raise table.error(
            key,
            "유닉스 소켓 경로는 100바이트 이하여야 합니다",
            "a Unix socket path of at most 100 bytes is expected",
        )
    return {"path": str(path)}


def _ble_roles(table: Table) -> dict[str, str]:
    """What the adapter may be used as; the first is preferred where a phone can both."""
    roles = table.list_of_choices("roles", [each.value for each in BleRole], [each.value for each in BleRole])
    return {"roles": ",".join(roles)}


def _bluez(table: Table) -> dict[str, str]:
    """Without an adapter, the first powered one."""
    adapter = table.optional_text("adapter")
    return _ble_roles(table) | ({} if adapter is None else {"adapter": adapter})


def _bumble(table: Table) -> dict[str, str]:
    return _ble_roles(table) | {"hci": table.text("hci")}


def _text(*keys: str) -> _Options:
    return lambda table: {key: table.text(key) for key in keys}


def _nfc(driver: str) -> _Options:
    """Where the reader is, what it does beyond reading, and by which way a session goes on after a tap."""

    def options(table: Table) -> dict[str, str]:
        found = {"prefer": table.choice("prefer", (Carrier.NFC.value, Carrier.BLE.value), Carrier.NFC.value)}
        if driver == "nfcpy":
            return found | {"path": table.text("path"), "ecp": str(table.flag("ecp", default=True))}
        reader = str(table.whole("reader", 0, 99)) if table.is_whole("reader") else table.text("reader")
        longest = str(table.whole("max_apdu", 261, 65_544)) if table.has("max_apdu") else ""
        return found | {"reader": reader, "max_apdu": longest}

    return options


def _panel(table: Table) -> dict[str, str]:
    """The parts of a sign; each may be left out, but not all of them. Keys of a part are `part.key`."""
    found = {"light": table.choice("light", ("none",), "none")}
    if table.has("sound"):
        found |= _keys_of("sound", _sound, table.table("sound"))
    if table.has("text"):
        found |= _keys_of("text", _text_display, table.table("text"))
    if found == {"light": "none"}:
        raise table.error("sound", "sound, text 중 하나는 있어야 합니다", "one of the parts sound and text is expected")
    return found


def _keys_of(part: str, read: _Options, table: Table) -> dict[str, str]:
    found = read(table)
    table.done()
    return {f"{part}.{key}": value for key, value in found.items()}


def _sound(table: Table) -> dict[str, str]:
    found = {
        "player": table.choice("player", PLAYERS, PLAYERS[0]),
        "device": table.optional_text("device") or "",
        "repeat_s": str(table.seconds("repeat_s", 0, 600, REPEAT_S)),
        "speech": ",".join(table.list_of_choices("languages", LANGUAGES, LANGUAGES)),
    }
    if not table.flag("speech", default=True):
        found["speech"] = ""
    if table.has("recordings"):
        recordings = table.path("recordings")
        if not recordings.is_dir():
            raise table.error(
                "recordings",
                f"디렉터리가 없습니다: {recordings}",
                f"an existing directory is expected; there is no {recordings}",
            )
        found["recordings"] = str(recordings)
    return found


def _text_display(table: Table) -> dict[str, str]:
    baud = table.whole("baud", BAUDS[0], BAUDS[-1], 9600)
    if baud not in BAUDS:
        listed = ", ".join(map(str, BAUDS))
        raise table.error("baud", f"다음 중 하나여야 합니다: {listed}", f"one of these is expected: {listed}")
    commands = table.choice("commands", COMMAND_SETS, COMMAND_SETS[0])
    return {
        "device": str(table.path("device")),
        "baud": str(baud),
        "columns": str(table.whole("columns", 8, 80, 20)),
        "rows": str(table.whole("rows", 1, 2 if commands == "cd5220" else 8, 2)),
        "encoding": table.choice("encoding", ENCODINGS, ENCODINGS[0]),
        "commands": commands,
    }


# Wiring of lane hardware.

_FIRE_SIGNALS = frozenset({LaneSignal.FIRE, LaneSignal.FIRE_OPEN, LaneSignal.FIRE_SHORT})
MAX_LINE_NUMBER = 1023
"""GPIO lines of one chip; the largest in use have some hundreds."""
MAX_ADDRESS = 65_535

P = TypeVar("P")
N = TypeVar("N", bound=StrEnum)


def _placed(table: Table, names: type[N], place: Callable[[Table, str], P]) -> dict[N, P]:
    found: dict[N, P] = {}
    for each in names:
        if table.has(each.value):
            found[each] = place(table, each.value)
        else:
            table.optional_table(each.value)  # asked for, so that a key that is none lists all there are
    table.done()
    return found


def _inputs(table: Table, place: Callable[[Table, str], P]) -> dict[LaneSignal, P]:
    """[device.lane.NAME.inputs]: one key per input that is wired."""
    return _placed(table.optional_table("inputs"), LaneSignal, place)


def _outputs(table: Table, place: Callable[[Table, str], P]) -> dict[Direction, P]:
    """[device.lane.NAME.outputs]: one relay for both ways, or one each."""
    found = _placed(table.table("outputs"), Direction, place)
    if not found:
        raise table.error("outputs", "릴레이가 하나는 있어야 합니다(in, out)", "a relay (in, out) is expected")
    return found


def _change_over(table: Table, place: Callable[[Table, str], P]) -> ChangeOver[P]:
    return ChangeOver(place(table, "nc"), place(table, "no"))


def _one_fire_line(table: Table, inputs: Collection[LaneSignal], supervised: object) -> None:
    both = sorted(_FIRE_SIGNALS & set(inputs))
    if supervised is not None and both:
        raise table.error(
            f"inputs.{both[0]}",
            "fire_line이 있으면 이 입력은 따로 둘 수 없습니다",
            "no such input is expected beside fire_line",
        )


def _once(table: Table, used: Iterable[tuple[str, object]]) -> None:
    """Nothing carries two meanings. `used`: (key, place)."""
    first: dict[object, str] = {}
    for key, place in used:
        before = first.setdefault(place, key)
        if before != key:
            raise table.error(
                key, f"{before}와 같은 곳에 물릴 수 없습니다", f"a place that {before} does not use is expected"
            )


def _gpio_input(table: Table, name: str) -> GpioInput:
    """`beam_a = 5` or a table."""
    if table.is_whole(name):
        return GpioInput(table.whole(name, 0, MAX_LINE_NUMBER))
    each = table.table(name)
    found = GpioInput(
        line=each.whole("line", 0, MAX_LINE_NUMBER),
        active_low=each.flag("active_low", default=False),
        bias=Bias(each.choice("bias", list(Bias), Bias.AS_IS)),
        debounce_us=each.whole("debounce_us", 0, 100_000, 0),
    )
    each.done()
    return found


def _gpio_output(table: Table, name: str) -> GpioOutput:
    if table.is_whole(name):
        return GpioOutput(table.whole(name, 0, MAX_LINE_NUMBER))
    each = table.table(name)
    found = GpioOutput(each.whole("line", 0, MAX_LINE_NUMBER), each.choice("rest", ("low", "high"), "low") == "high")
    each.done()
    return found


def _gpio(table: Table) -> GpioWiring:
    chip = table.text("chip")
    inputs, outputs = _inputs(table, _gpio_input), _outputs(table, _gpio_output)
    line: ChangeOver[GpioInput] | None = None
    used: list[tuple[str, object]] = [(f"inputs.{name}", each.line) for name, each in inputs.items()]
    if table.has("fire_line"):
        supervised = table.table("fire_line")
        line = _change_over(supervised, _gpio_input)
        supervised.done()
        used += [("fire_line.nc", line.nc.line), ("fire_line.no", line.no.line)]
    _one_fire_line(table, inputs, line)
    _once(table, [*used, *((f"outputs.{name}", each.line) for name, each in outputs.items())])
    return GpioWiring(chip, inputs, outputs, line)


def _bit(table: Table, name: str) -> BitInput:
    """`beam_a = 0` is a discrete input; a table may name a coil."""
    if table.is_whole(name):
        return BitInput(table.whole(name, 0, MAX_ADDRESS))
    each = table.table(name)
    kind = Bits.COIL if each.has(Bits.COIL) else Bits.DISCRETE
    found = BitInput(each.whole(kind, 0, MAX_ADDRESS), kind, each.flag("active_low", default=False))
    each.done()
    return found


def _coil(table: Table, name: str) -> CoilOutput:
    if table.is_whole(name):
        return CoilOutput(table.whole(name, 0, MAX_ADDRESS))
    each = table.table(name)
    found = CoilOutput(each.whole("coil", 0, MAX_ADDRESS), each.choice("rest", ("off", "on"), "off") == "on")
    each.done()
    return found


def _fire_register(table: Table) -> FireRegister:
    def band(name: str) -> tuple[int, int]:
        low = table.whole(f"{name}_from", 0, MAX_ADDRESS)
        return low, table.whole(f"{name}_to", low, MAX_ADDRESS)

    normal, alarm = band("normal"), band("alarm")
    if normal[0] <= alarm[1] and alarm[0] <= normal[1]:
        raise table.error(
            "alarm_from", "normal과 겹치지 않아야 합니다", "a band that does not overlap normal is expected"
        )
    return FireRegister(
        address=table.whole("register", 0, MAX_ADDRESS),
        normal=normal,
        alarm=alarm,
        table=Words(table.choice("table", list(Words), Words.INPUT)),
        below=FireState(table.choice("below", (FireState.SHORT, FireState.OPEN), FireState.SHORT)),
    )


def _modbus_place(table: Table) -> TcpPlace | SerialPlace:
    if table.has("host"):
        return TcpPlace(table.text("host"), table.whole("port", 1, 65_535, 502))
    if not table.has("serial"):
        raise table.error("host", "host나 serial 중 하나가 있어야 합니다", "host or serial is expected")
    return SerialPlace(
        path=table.text("serial"),
        baud=table.whole("baud", 1200, 1_000_000, 9600),
        parity=table.choice("parity", ("N", "E", "O"), "N"),
        stop_bits=table.whole("stop_bits", 1, 2, 1),
    )


def _flash(table: Table, *, some_rest_on: bool) -> Flash:
    """Many relay boards take the time in function 05 at 0x0200 and 0x0400; those that take it in registers agree on nothing."""
    style = FlashStyle(table.choice("style", list(FlashStyle), FlashStyle.COIL))
    usual = style is FlashStyle.COIL
    on = table.whole("on", 0, MAX_ADDRESS, 0x0200 if usual else None)
    off = table.whole("off", 0, MAX_ADDRESS, 0x0400 if usual else None) if some_rest_on or table.has("off") else 0x0400
    found = Flash(style, on, off, table.whole("unit_ms", 1, 1000, 100))
    table.done()
    return found


def _modbus(table: Table) -> ModbusWiring:
    inputs, outputs = _inputs(table, _bit), _outputs(table, _coil)
    line: ChangeOver[BitInput] | FireRegister | None = None
    used: list[tuple[str, object]] = [(f"inputs.{name}", (each.table, each.address)) for name, each in inputs.items()]
    if table.has("fire_line"):
        supervised = table.table("fire_line")
        if supervised.has("register"):
            line = _fire_register(supervised)
        else:
            line = _change_over(supervised, _bit)
            used += [
                (f"fire_line.{name}", (each.table, each.address)) for name, each in (("nc", line.nc), ("no", line.no))
            ]
        supervised.done()
    _one_fire_line(table, inputs, line)
    _once(table, used)
    _once(table, [(f"outputs.{name}", each.coil) for name, each in outputs.items()])
    poll_ms = table.whole("poll_ms", 5, 1000, 20)
    return ModbusWiring(
        place=_modbus_place(table),
        inputs=inputs,
        outputs=outputs,
        fire_line=line,
        unit=table.whole("unit", 1, 255, 1),
        poll_s=poll_ms / 1000,
        unseen_s=table.whole("unseen_ms", max(100, 2 * poll_ms), 5000, max(500, 2 * poll_ms)) / 1000,
        flash=_flash(table.optional_table("flash"), some_rest_on=any(each.rest_on for each in outputs.values())),
    )


_WIRED: Mapping[str, Callable[[Table], Wiring]] = {"gpio": _gpio, "modbus": _modbus}
"""Driver of lane hardware -> its wiring, in place of options."""

_DRIVERS: Mapping[str, Mapping[str, _Options]] = {
    "camera": {"opencv": _source},
    "nfc": {"nfcpy": _nfc("nfcpy"), "pcsc": _nfc("pcsc")},
    "ble": {"bluez": _bluez, "bumble": _bumble},
    "lane": {"simulated": _socket, "gpio": _text(), "modbus": _text()},
    "signal": {"simulated": _socket, "log": _text(), "panel": _panel},
    "factor": {"callback": _socket, "contact": _socket},
}
"""Kind of device -> driver -> its own keys."""


def _devices(root: Table) -> dict[str, Device]:
    kinds = root.table("device")
    found: dict[str, Device] = {}
    for kind, drivers in _DRIVERS.items():
        for name, table in kinds.tables(kind).items():
            driver = table.choice("driver", tuple(drivers))
            wiring = _WIRED[driver](table) if kind == "lane" and driver in _WIRED else None
            device = Device(kind, name, driver, drivers[driver](table), wiring)
            table.done()
            found[device.id] = device
    kinds.done()
    return found


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
    runtime_dir = Path(_socket(gate, "runtime_dir")["path"]) if gate.has("runtime_dir") else None
    gate.done()

    trust = root.table("trust")
    directory, list_key = trust.path("directory"), trust.file_path("list_key")
    if not directory.is_dir():
        raise trust.error(
            "directory",
            f"디렉터리가 없습니다: {directory}",
            f"an existing directory is expected; there is no {directory}",
        )
    deny_key, visit_key = _optional_file(trust, "deny_key"), _optional_file(trust, "visit_key")
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
    )
    mqtt_table.done()

    devices = _devices(root)
    lane_tables = root.list_of_tables("lane")
    if len(lane_tables) > MAX_LANES:
        raise root.error("lane", f"최대 {MAX_LANES}개입니다", f"at most {MAX_LANES} are expected")
    sides = [_lanes(table, devices) for table in lane_tables]
    _unshared(path, sides)
    lanes = tuple(lane for each in sides for lane in each)
    _enough_inputs(path, [each[0].barrier for each in sides], devices)

    limits_table = root.optional_table("limits")
    limits = Limits(
        in_flight=limits_table.whole("in_flight", 1, 1000, 50),
        refusals_per_window=limits_table.whole("refusals_per_window", 1, 1000, 20),
    )
    limits_table.done()
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
    )
    root.done()
    return config
