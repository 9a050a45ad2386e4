"""The devices of gate.toml, [device.KIND.NAME]: each driver's own keys, and the wiring of what has wires."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
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
)
from drivers.ports import BleRole, Carrier, Direction, LaneSignal
from drivers.signal.light import REQUIRED, GpioLight, Lamp, LightWiring, ModbusLight
from drivers.signal.sound import PLAYERS, REPEAT_S
from drivers.signal.speech import LANGUAGES
from drivers.signal.text import BAUDS, COMMAND_SETS, ENCODINGS
from protocol.toml import Table


@dataclass(frozen=True, slots=True)
class Device:
    """One [device.KIND.NAME]. `options` are the driver's own keys, checked."""

    kind: str
    name: str
    driver: str
    options: Mapping[str, str]
    wiring: Wiring | None = None
    """Of lane hardware that has lines, coils and inputs of its own (drivers.lane.wiring)."""
    light: LightWiring | None = None
    """Lamps of a panel."""

    @property
    def id(self) -> str:
        return f"{self.kind}.{self.name}"


class Application(StrEnum):
    """What a card or phone in the field may be asked for."""

    MDOC = "mdoc"
    PIV = "piv"
    PKOC = "pkoc"


DEFAULT_ORDER = tuple(Application)
"""A phone is served without one command more; the zone's rules say which of the others are tried at all."""


def order_of(reader: Device) -> tuple[Application, ...]:
    """`card_order` of an NFC reader."""
    return tuple(Application(each) for each in reader.options["card_order"].split(","))


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


def socket_path(table: Table, key: str) -> Path:
    """Simulated hardware listens on a Unix socket or on loopback, never on a network."""
    path = table.path(key)
    if len(os.fsencode(path)) > 100:
        raise table.error(
            key,
            "유닉스 소켓 경로는 100바이트 이하여야 합니다",
            "a Unix socket path of at most 100 bytes is expected",
        )
    return path


def _socket(table: Table) -> dict[str, str]:
    return {"path": str(socket_path(table, "path"))}


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
        found = {
            "prefer": table.choice("prefer", (Carrier.NFC.value, Carrier.BLE.value), Carrier.NFC.value),
            "card_order": ",".join(table.list_of_choices("card_order", list(Application), DEFAULT_ORDER)),
        }
        if driver == "nfcpy":
            return found | {"path": table.text("path"), "ecp": str(table.flag("ecp", default=True))}
        reader = str(table.whole("reader", 0, 99)) if table.is_whole("reader") else table.text("reader")
        longest = str(table.whole("max_apdu", 261, 65_544)) if table.has("max_apdu") else ""
        return found | {"reader": reader, "max_apdu": longest}

    return options


def _panel(table: Table) -> dict[str, str]:
    """The parts of a sign; each may be left out, but not all of them. Keys of a part are `part.key`."""
    found: dict[str, str] = {}
    if table.has("sound"):
        found |= _keys_of("sound", _sound, table.table("sound"))
    if table.has("text"):
        found |= _keys_of("text", _text_display, table.table("text"))
    if not found and not table.has("light"):
        raise table.error(
            "sound", "light, sound, text 중 하나는 있어야 합니다", "one of the parts light, sound and text is expected"
        )
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


# Lamps of a sign.


def _lamps(table: Table, highest: int) -> dict[Lamp, int]:
    """Where each lamp hangs."""
    found: dict[Lamp, int] = {}
    for each in Lamp:
        if each in REQUIRED or table.has(each):
            found[each] = table.whole(each, 0, highest)
        else:
            table.optional_table(each)  # asked for, so that a key that is none lists all there are
    _once(table, found.items())
    return found


def _gpio_light(table: Table) -> GpioLight:
    return GpioLight(
        table.text("chip"), _lamps(table, MAX_LINE_NUMBER), active_low=table.flag("active_low", default=False)
    )


def _modbus_light(table: Table) -> ModbusLight:
    return ModbusLight(_modbus_place(table), _lamps(table, MAX_ADDRESS), table.whole("unit", 1, 255, 1))


_LIGHTS: Mapping[str, Callable[[Table], LightWiring]] = {"gpio": _gpio_light, "modbus": _modbus_light}


def _light(panel: Table) -> LightWiring | None:
    """[device.signal.NAME.light]; None: the panel has no lamps."""
    if not panel.has("light"):
        return None
    table = panel.table("light")
    found = _LIGHTS[table.choice("driver", tuple(_LIGHTS))](table)
    table.done()
    return found


def occupied(device: Device) -> list[tuple[str, object]]:
    """(key, place) of the lines, coils and serial ports that a lane's wiring or a panel's lamps take."""
    found: list[tuple[str, object]] = []
    if device.light is not None:
        match device.light:
            case GpioLight(chip, lines):
                found = [(f"light.{lamp}", (chip, line)) for lamp, line in lines.items()]
            case ModbusLight(place, coils, unit):
                found = _on_module("light.", place, unit, [(lamp, coil) for lamp, coil in coils.items()])
    match device.wiring:
        case GpioWiring(chip, inputs, outputs, line):
            lines_of = [*((f"inputs.{name}", each.line) for name, each in inputs.items())]
            lines_of += [(f"outputs.{name}", each.line) for name, each in outputs.items()]
            if line is not None:
                lines_of += [("fire_line.nc", line.nc.line), ("fire_line.no", line.no.line)]
            found = [(key, (chip, number)) for key, number in lines_of]
        case ModbusWiring(place, bits, relays, _, unit):
            coils_of = [(f"outputs.{name}", each.coil) for name, each in relays.items()]
            coils_of += [(f"inputs.{name}", each.address) for name, each in bits.items() if each.table is Bits.COIL]
            found = _on_module("", place, unit, coils_of)
    return found


def _on_module(
    prefix: str, place: TcpPlace | SerialPlace, unit: int, coils: Iterable[tuple[str, int]]
) -> list[tuple[str, object]]:
    """A serial port has one master, whatever its units: two that ask at once hear each other's answers."""
    if isinstance(place, SerialPlace):
        return [(f"{prefix}serial", place.path)]
    return [(f"{prefix}{key}", (place, unit, coil)) for key, coil in coils]


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


def devices_of(root: Table) -> dict[str, Device]:
    """Every device, by id. Raises ConfigError."""
    kinds = root.table("device")
    found: dict[str, Device] = {}
    for kind, drivers in _DRIVERS.items():
        for name, table in kinds.tables(kind).items():
            driver = table.choice("driver", tuple(drivers))
            wiring = _WIRED[driver](table) if kind == "lane" and driver in _WIRED else None
            light = _light(table) if kind == "signal" and driver == "panel" else None
            device = Device(kind, name, driver, drivers[driver](table), wiring, light)
            table.done()
            found[device.id] = device
    kinds.done()
    return found
