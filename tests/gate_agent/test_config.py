from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tomllib
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from drivers.lane.wiring import (
    Bias,
    BitInput,
    Bits,
    ChangeOver,
    CoilOutput,
    FireRegister,
    Flash,
    FlashStyle,
    GpioInput,
    GpioOutput,
    GpioWiring,
    ModbusWiring,
    SerialPlace,
    TcpPlace,
    Wiring,
)
from drivers.ports import Carrier, Direction, DriverError, LaneSignal
from drivers.signal.light import GpioLight, Lamp, LightWiring, ModbusLight
from gate_agent.config import Barrier, ConfigError, GateConfig, Lane, Limits, Times, load, place
from gate_agent.hardware import open_device
from gate_agent.installation import simulated_by
from gate_agent.passage import Egress, LaneType, Settings
from gate_agent.proximity import Threshold
from gate_agent.retention import Limits as JournalLimits
from protocol.clock import SystemClock

BASE = """
[gate]
id = "gate-1"
site = "seoul-1"
state_dir = "state"
[trust]
directory = "trust"
list_key = "list.pem"
[reader]
certificate = "reader.pem"
key = "reader.key"
[policy]
file = "policy.toml"
[mqtt]
host = "127.0.0.1"
port = 8883
ca = "ca.pem"
certificate = "gate.pem"
key = "gate.key"
controller_key = "controller.pub.pem"
[device.camera.hall]
driver = "opencv"
source = 0
[device.nfc.hall]
driver = "nfcpy"
path = "udp:127.0.0.1:54321"
[device.ble.hall]
driver = "bluez"
adapter = "hci0"
[device.lane.hall]
driver = "simulated"
path = "hall.lane"
[device.signal.hall]
driver = "simulated"
path = "hall.sign"
[[lane]]
id = "hall-in"
point = "lobby-in"
direction = "in"
camera = "hall"
nfc = "hall"
ble = "hall"
hardware = "hall"
signal = "hall"
"""
FILES = ("list.pem", "reader.pem", "reader.key", "policy.toml", "ca.pem", "gate.pem", "gate.key", "controller.pub.pem")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trust").mkdir()
    for name in FILES:
        (tmp_path / name).write_text("-")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "gate.toml"
    path.write_text(text)
    return path


def test_reads_a_complete_file_with_defaults(folder: Path) -> None:
    config = load(written(folder, BASE), {})
    assert (config.id, config.site, config.state_dir) == ("gate-1", "seoul-1", folder / "state")
    lane = config.lanes[0]
    assert (lane.direction, lane.barrier.pulse_ms) == (Direction.IN, 300)
    assert lane.barrier.passage == Settings(type=LaneType.SPEED_GATE, egress=Egress.FREE)
    assert config.device("camera", "hall").options == {"source": "0", "fps": "15"}
    assert config.device("lane", "hall").options == {"path": str(folder / "hall.lane")}
    assert config.times.consent_timeout_s == 20
    assert sorted(config.request.attribute_by_element) == ["access_class", "agency_code", "card_type"]


NFC = 'driver = "nfcpy"\npath = "udp:127.0.0.1:54321"'

SIGN = 'driver = "simulated"\npath = "hall.sign"'
PANEL_TEXT = 'driver = "panel"\n[device.signal.hall.text]\ndevice = "/dev/ttyUSB0"\n'
PANEL_GPIO = """driver = "panel"
[device.signal.hall.light]
driver = "gpio"
chip = "/dev/gpiochip0"
green = 5
red = 6
"""
PANEL_MODBUS = """driver = "panel"
[device.signal.hall.light]
driver = "modbus"
host = "192.0.2.10"
unit = 7
green = 4
red = 5
yellow = 6
blue = 7
"""

MISTAKES = [
    ('site = "seoul-1"', "", "gate.site"),
    ('id = "gate-1"', 'id = "Gate 1"', "gate.id"),
    ('id = "gate-1"', 'id = "all"', "gate.id"),
    ('id = "gate-1"', 'id = "controller"', "gate.id"),
    ('id = "hall-in"', 'id = "hall-in"\ntype = "drawbridge"', "lane[0].type"),
    ('id = "hall-in"', 'id = "hall-in"\negress = "sometimes"', "lane[0].egress"),
    ('id = "hall-in"', 'id = "hall-in"\nfactor = "face"', "lane[0].factor"),
    ("port = 8883", "port = 0", "mqtt.port"),
    ("port = 8883", 'port = "8883"', "mqtt.port"),
    ("port = 8883", "port = true", "mqtt.port"),
    ('ca = "ca.pem"', 'ca = "absent.pem"', "mqtt.ca"),
    ('directory = "trust"', 'directory = "absent"', "trust.directory"),
    ('file = "policy.toml"', 'file = "absent.toml"', "policy.file"),
    ('driver = "opencv"', 'driver = "gphoto"', "device.camera.hall.driver"),
    ("source = 0", "source = 1.5", "device.camera.hall.source"),
    ('driver = "bluez"\nadapter = "hci0"', 'driver = "bumble"', "device.ble.hall.hci"),
    ('driver = "nfcpy"', 'driver = "nfcpy"\nprefer = "qr"', "device.nfc.hall.prefer"),
    ('driver = "nfcpy"', 'driver = "nfcpy"\necp = "yes"', "device.nfc.hall.ecp"),
    ('driver = "nfcpy"', 'driver = "nfcpy"\nmax_apdu = 300', "device.nfc.hall.max_apdu"),
    ('driver = "nfcpy"', 'driver = "pcsc"', "device.nfc.hall.reader"),
    (NFC, 'driver = "pcsc"\nreader = 0\nmax_apdu = 16', "device.nfc.hall.max_apdu"),
    (NFC, 'driver = "pcsc"\nreader = -1', "device.nfc.hall.reader"),
    (NFC, 'driver = "pcsc"\nreader = 0\necp = true', "device.nfc.hall.ecp"),
    ("source = 0", "source = 0\nfps = 0", "device.camera.hall.fps"),
    ('adapter = "hci0"', "adapter = 0", "device.ble.hall.adapter"),
    ('adapter = "hci0"', 'adapter = "hci0"\nhci = "usb:0"', "device.ble.hall.hci"),
    ('adapter = "hci0"', 'adapter = "hci0"\nroles = []', "device.ble.hall.roles"),
    ('adapter = "hci0"', 'adapter = "hci0"\nroles = ["master"]', "device.ble.hall.roles"),
    ('adapter = "hci0"', 'adapter = "hci0"\nroles = ["central", "central"]', "device.ble.hall.roles"),
    ('signal = "hall"', 'signal = "hall"\nwalk_up = true', "lane[0].walk_up"),
    ('signal = "hall"', 'signal = "hall"\n[lane.walk_up]\nenter_dbm = 5', "lane[0].walk_up.enter_dbm"),
    ('signal = "hall"', 'signal = "hall"\n[lane.walk_up]\nleave_dbm = -56', "lane[0].walk_up.leave_dbm"),
    ('signal = "hall"', 'signal = "hall"\ntype = "swing_door"\n[lane.walk_up]', "lane[0].walk_up"),
    (
        'ble = "hall"\nhardware = "hall"\nsignal = "hall"',
        'hardware = "hall"\nsignal = "hall"\n[lane.walk_up]',
        "lane[0].ble",
    ),
    ('direction = "in"', 'direction = "up"', "lane[0].direction"),
    ('camera = "hall"', 'camera = "yard"', "lane[0].camera"),
    ('hardware = "hall"', "", "lane[0].hardware"),
    ('camera = "hall"\nnfc = "hall"', "", "lane[0].camera"),
    ('id = "hall-in"', 'id = "hall-in"\npulse_ms = 5', "lane[0].pulse_ms"),
    ('id = "hall-in"', 'id = "hall-in"\npassage_s = "long"', "lane[0].passage_s"),
    ('id = "hall-in"', 'id = "hall-in"\nwait_for_start_s = nan', "lane[0].wait_for_start_s"),
    ('id = "hall-in"', 'id = "hall-in"\ncolour = "red"', "lane[0].colour"),
    ("[gate]", "[gate]\ncolor = 1", "gate.color"),
    ("[gate]", "[times]\nconsent_timeout_s = 0\n[gate]", "times.consent_timeout_s"),
    ("[gate]", "[times]\nlunch_s = 1\n[gate]", "times.lunch_s"),
    ("[gate]", "[limits]\nin_flight = 0\n[gate]", "limits.in_flight"),
    ("[gate]", "[journal]\nkeep_days = 0\n[gate]", "journal.keep_days"),
    ("[gate]", "[journal]\nmax_mb = 15\n[gate]", "journal.max_mb"),
    ("[gate]", "[journal]\nkeep = 3\n[gate]", "journal.keep"),
    ("[gate]", '[request.elements]\nname = "name"\n[gate]', "request.elements"),
    ("[gate]", "[nonsense]\n[gate]", "nonsense"),
    ("[device.camera.hall]", "[device.laser.hall]\n[device.camera.hall]", "device.laser"),
    ("[gate]", "reader = 1\n[gate]", ""),
    (BASE[BASE.index("[[lane]]") :], "", "lane"),
    (SIGN, 'driver = "panel"', "device.signal.hall.sound"),
    (SIGN, 'driver = "panel"\nlight = "none"', "device.signal.hall.light"),
    (SIGN, 'driver = "panel"\n[device.signal.hall.light]\ndriver = "laser"', "device.signal.hall.light.driver"),
    (SIGN, 'driver = "simulated"\npath = "x"\n[device.signal.hall.light]', "device.signal.hall.light"),
    (SIGN, PANEL_GPIO.replace("green = 5", ""), "device.signal.hall.light.green"),
    (SIGN, PANEL_GPIO.replace("red = 6", "red = 5"), "device.signal.hall.light.red"),
    (SIGN, PANEL_GPIO.replace("red = 6", "red = -1"), "device.signal.hall.light.red"),
    (SIGN, PANEL_GPIO + "violet = 9\n", "device.signal.hall.light.violet"),
    (SIGN, PANEL_GPIO + 'active_low = "yes"\n', "device.signal.hall.light.active_low"),
    (SIGN, PANEL_GPIO.replace('chip = "/dev/gpiochip0"', ""), "device.signal.hall.light.chip"),
    (SIGN, PANEL_MODBUS.replace('host = "192.0.2.10"', ""), "device.signal.hall.light.host"),
    (SIGN, PANEL_MODBUS.replace("unit = 7", "unit = 0"), "device.signal.hall.light.unit"),
    (SIGN, PANEL_MODBUS.replace("green = 4", "green = 70000"), "device.signal.hall.light.green"),
    (SIGN, PANEL_MODBUS + "active_low = true\n", "device.signal.hall.light.active_low"),
    (SIGN, 'driver = "panel"\nvolume = 11', "device.signal.hall.sound"),
    (SIGN, 'driver = "panel"\nvolume = 11\n[device.signal.hall.sound]', "device.signal.hall.volume"),
    (SIGN, 'driver = "panel"\n[device.signal.hall.sound]\nplayer = "mpg123"', "device.signal.hall.sound.player"),
    (SIGN, 'driver = "panel"\n[device.signal.hall.sound]\nlanguages = ["fr"]', "device.signal.hall.sound.languages"),
    (SIGN, 'driver = "panel"\n[device.signal.hall.sound]\nspeech = "off"', "device.signal.hall.sound.speech"),
    (SIGN, 'driver = "panel"\n[device.signal.hall.sound]\nrecordings = "no"', "device.signal.hall.sound.recordings"),
    (SIGN, 'driver = "panel"\n[device.signal.hall.sound]\nrepeat_s = -1', "device.signal.hall.sound.repeat_s"),
    (SIGN, 'driver = "panel"\n[device.signal.hall.sound]\nloud = true', "device.signal.hall.sound.loud"),
    (SIGN, 'driver = "panel"\n[device.signal.hall.text]', "device.signal.hall.text.device"),
    (SIGN, PANEL_TEXT + "baud = 9601", "device.signal.hall.text.baud"),
    (SIGN, PANEL_TEXT + "columns = 4", "device.signal.hall.text.columns"),
    (SIGN, PANEL_TEXT + "rows = 4", "device.signal.hall.text.rows"),
    (SIGN, PANEL_TEXT + 'encoding = "latin-1"', "device.signal.hall.text.encoding"),
    (SIGN, PANEL_TEXT + 'commands = "morse"', "device.signal.hall.text.commands"),
]


@pytest.mark.parametrize(
    ("old", "new", "key"), MISTAKES, ids=[f"{key}-{at}" for at, (_, _, key) in enumerate(MISTAKES)]
)
def test_a_mistake_names_file_key_and_what_is_expected(folder: Path, old: str, new: str, key: str) -> None:
    assert old in BASE
    path = written(folder, BASE.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert (caught.value.file, caught.value.key) == (path, key)
    korean, english = caught.value.text().splitlines()
    assert korean.startswith(f"{path}: {key}: " if key else f"{path}: ")
    assert any("가" <= letter <= "힣" for letter in korean)
    assert english.startswith(f"{path}: {key}: " if key else f"{path}: ")
    assert english.isascii()


def test_two_lanes_do_not_share_a_camera_but_may_share_a_radio(folder: Path) -> None:
    devices = "".join(
        f'[device.{kind}.other]\ndriver = "{driver}"\n{option}\n'
        for kind, driver, option in (
            ("camera", "opencv", "source = 1"),
            ("lane", "simulated", 'path = "other.lane"'),
            ("signal", "simulated", 'path = "other.sign"'),
        )
    )
    lane = (
        '[[lane]]\nid = "hall-out"\npoint = "p"\ndirection = "out"\ncamera = "other"\nble = "hall"\n'
        'hardware = "other"\nsignal = "other"\n'
    )
    text = BASE.replace("[[lane]]", devices + "[[lane]]") + lane
    assert len(load(written(folder, text), {}).lanes) == 2
    for key, name in (("camera", "other"), ("hardware", "other"), ("signal", "other")):
        with pytest.raises(ConfigError) as caught:
            load(written(folder, text.replace(f'{key} = "{name}"', f'{key} = "hall"')), {})
        assert caught.value.key == f"lane[1].{key}"
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text.replace('"hall-out"', '"hall-in"')), {})
    assert caught.value.key == "lane[1].id"


def test_walk_up_is_off_by_default_and_needs_an_adapter_that_can_connect(folder: Path) -> None:
    assert load(written(folder, BASE), {}).lanes[0].walk_up is None
    walking = BASE + "[lane.walk_up]\n"
    assert load(written(folder, walking), {}).lanes[0].walk_up == Threshold(-55, -63)
    with pytest.raises(ConfigError) as caught:
        load(written(folder, walking.replace('adapter = "hci0"', 'roles = ["peripheral"]')), {})
    assert caught.value.key == "lane[0].ble"


def test_two_lanes_with_walk_up_do_not_share_an_adapter(folder: Path) -> None:
    back = '[lane.walk_up]\n[lane.back]\npoint = "p"\ncamera = "back"\nble = "hall"\nsignal = "back"\n'
    devices = (
        '[device.camera.back]\ndriver = "opencv"\nsource = 1\n'
        '[device.signal.back]\ndriver = "log"\n'
        '[device.ble.back]\ndriver = "bluez"\nadapter = "hci1"\n'
    )
    text = BASE.replace("[[lane]]", devices + "[[lane]]") + back + "[lane.back.walk_up]\n"
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), {})
    assert caught.value.key == "lane[0].back.ble"
    own = text.replace('camera = "back"\nble = "hall"', 'camera = "back"\nble = "back"')
    assert [lane.ble for lane in load(written(folder, own), {}).lanes] == ["hall", "back"]


def test_an_adapter_plays_both_roles_unless_told_otherwise(folder: Path) -> None:
    def roles(text: str) -> str:
        return load(written(folder, text), {}).devices["ble.hall"].options["roles"]

    assert roles(BASE) == "central,peripheral"
    assert roles(BASE.replace('adapter = "hci0"', 'roles = ["peripheral"]')) == "peripheral"


def test_a_key_may_come_from_systemd(folder: Path, tmp_path: Path) -> None:
    handed = tmp_path / "credentials"
    handed.mkdir()
    (handed / "reader").write_text("-")
    text = BASE.replace('key = "reader.key"', 'key = "credential:reader"')
    assert load(written(folder, text), {"CREDENTIALS_DIRECTORY": str(handed)}).reader.key == handed / "reader"
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), {})
    assert caught.value.key == "reader.key"


@pytest.mark.parametrize("name", ["", "..", "../gate.key", "a/b"])
def test_a_credential_is_a_plain_name(folder: Path, name: str) -> None:
    text = BASE.replace('key = "reader.key"', f'key = "credential:{name}"')
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), {"CREDENTIALS_DIRECTORY": str(folder)})
    assert caught.value.key == "reader.key"


@pytest.mark.parametrize("text", ["[gate", "gate = " + "[" * 5000, "\udcff"])
def test_what_is_no_toml_is_one_error(folder: Path, text: str) -> None:
    path = folder / "gate.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError):
        load(path, {})


def test_the_journal_keeps_thirty_days_and_a_gibibyte_unless_told_otherwise(folder: Path) -> None:
    assert load(written(folder, BASE), {}).journal == JournalLimits(timedelta(days=30), 1 << 30)
    text = BASE.replace("[trust]", "[journal]\nkeep_days = 90\nmax_mb = 16\n[trust]", 1)
    assert load(written(folder, text), {}).journal == JournalLimits(timedelta(days=90), 16 << 20)


def test_whose_the_journal_is_can_be_read_where_the_keys_cannot(folder: Path) -> None:
    text = BASE.replace('key = "gate.key"', 'key = "credential:mqtt.key"')
    found = place(written(folder, text))
    assert (found.id, found.site, found.state_dir) == ("gate-1", "seoul-1", folder / "state")


def test_an_absent_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "gate.toml", {})
    assert "cannot be read" in caught.value.text()


def test_a_socket_path_that_no_socket_can_have_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(folder, BASE.replace("hall.lane", "x" * 120)), {})
    assert caught.value.key == "device.lane.hall.path"


EXAMPLE = (Path(__file__).parents[2] / "config" / "gate.toml").read_text("utf-8")


def example(folder: Path, text: str = EXAMPLE) -> GateConfig:
    """config/gate.toml with its absolute paths moved into a folder that has the files."""
    for name in (
        "list-signer.pub.pem",
        "reader.pem",
        "mqtt-ca.pem",
        "mqtt.pem",
        "reader.key",
        "mqtt.key",
        "controller-records.pub.pem",
    ):
        (folder / name).write_text("-")
    shutil.copy(Path(__file__).parents[2] / "config" / "policy.toml", folder / "policy.toml")
    text = text.replace("/etc/gwanmun/", "").replace("/var/lib/gwanmun/trust", "trust")
    return load(written(folder, text), {"CREDENTIALS_DIRECTORY": str(folder)})


def test_the_example_loads_and_shows_the_defaults(folder: Path) -> None:
    config = example(folder)
    plain = load(written(folder, BASE), {})
    assert (config.times, config.limits, config.request) == (plain.times, plain.limits, plain.request)
    points = tomllib.loads((folder / "policy.toml").read_text("utf-8"))["points"]
    assert {lane.point for lane in config.lanes} <= points.keys()


def test_an_installed_gate_takes_the_example(folder: Path) -> None:
    config = example(folder)
    assert [device.id for device in config.devices.values() if simulated_by(device) is not None] == []
    assert isinstance(config.device("lane", "hall-in").wiring, ModbusWiring)
    assert isinstance(config.device("signal", "hall-in").light, ModbusLight)
    for device in ("lane.hall-in", "signal.hall-in"):
        assert callable(open_device(config, config.devices[device], SystemClock()).start)


def test_the_examples_other_lane_loads_in_place_of_the_first(folder: Path) -> None:
    begin, other, end = (
        EXAMPLE.index(mark)
        for mark in ("[device.lane.hall-in]\n", "#[device.lane.hall-in]\n", "[device.signal.hall-in]\n")
    )
    text = EXAMPLE[:begin] + re.sub("(?m)^#(?=\\S)", "", EXAMPLE[other:end]) + EXAMPLE[end:]
    assert isinstance(example(folder, text).device("lane", "hall-in").wiring, GpioWiring)


def test_every_key_is_explained_in_the_documentation(folder: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
    keys = {each.name for kind in (Times, Limits) for each in fields(kind)}
    keys |= {each.name for kind in (Lane, Barrier, Settings) for each in fields(kind)} - {
        "barrier",
        "passage",
        "hold_s",
    }
    for table in ("gate", "trust", "policy", "reader", "mqtt"):
        keys |= tomllib.loads(BASE)[table].keys()
    keys |= {
        "adapter",
        "hci",
        "roles",
        "walk_up.enter_dbm",
        "walk_up.leave_dbm",
        "source",
        "fps",
        "path",
        "ecp",
        "max_apdu",
        "light",
        "sound",
        "text",
        *(f"light.{lamp}" for lamp in Lamp),
        *(f"light.{key}" for key in ("driver", "chip", "active_low", "unit")),
        *(f"sound.{key}" for key in ("player", "device", "speech", "languages", "recordings", "repeat_s")),
        *(f"text.{key}" for key in ("device", "baud", "columns", "rows", "encoding", "commands")),
        "chip",
        "inputs",
        "outputs",
        "fire_line",
        "host",
        "serial",
        "baud",
        "parity",
        "stop_bits",
        "unit",
        "poll_ms",
        "unseen_ms",
        "flash",
        "elements",
        "doc_type",
        "namespace",
    }
    assert {key for key in keys if f"`{key}`" not in text} == set()


GPIO = """
driver = "gpio"
chip = "/dev/gpiochip0"
[device.lane.hall.inputs]
beam_a = 5
beam_m = { line = 6, active_low = true, bias = "pull-up", debounce_us = 500 }
beam_b = 7
contact = 8
relay_in = 9
tamper = 10
key_free = 13
[device.lane.hall.fire_line]
nc = 11
no = { line = 12, bias = "pull-down" }
[device.lane.hall.outputs]
in = 20
out = { line = 21, rest = "high" }
"""
MODBUS = """
driver = "modbus"
host = "192.0.2.10"
unit = 7
[device.lane.hall.inputs]
beam_a = 0
beam_m = { discrete = 1, active_low = true }
beam_b = 2
contact = 3
relay_in = { coil = 8 }
[device.lane.hall.fire_line]
register = 4
normal_from = 400
normal_to = 600
alarm_from = 150
alarm_to = 300
[device.lane.hall.outputs]
in = 0
out = { coil = 1, rest = "on" }
"""
OUTPUTS = "[device.lane.hall.outputs]"
REGISTER = '[device.lane.hall.flash]\nstyle = "register"\n'
PLAIN_LANE = """
driver = "simulated"
path = "hall.lane"
"""


def wiring_of(folder: Path, hardware: str) -> Wiring:
    found = load(written(folder, BASE.replace(PLAIN_LANE, hardware)), {}).device("lane", "hall").wiring
    assert found is not None
    return found


def test_a_lane_on_gpio_is_wired_as_written(folder: Path) -> None:
    assert wiring_of(folder, GPIO) == GpioWiring(
        "/dev/gpiochip0",
        {
            LaneSignal.BEAM_A: GpioInput(5),
            LaneSignal.BEAM_M: GpioInput(6, active_low=True, bias=Bias.PULL_UP, debounce_us=500),
            LaneSignal.BEAM_B: GpioInput(7),
            LaneSignal.CONTACT: GpioInput(8),
            LaneSignal.RELAY_IN: GpioInput(9),
            LaneSignal.TAMPER: GpioInput(10),
            LaneSignal.KEY_FREE: GpioInput(13),
        },
        {Direction.IN: GpioOutput(20), Direction.OUT: GpioOutput(21, rest_high=True)},
        ChangeOver(GpioInput(11), GpioInput(12, bias=Bias.PULL_DOWN)),
    )


def test_a_lane_on_modbus_is_wired_as_written(folder: Path) -> None:
    assert wiring_of(folder, MODBUS) == ModbusWiring(
        TcpPlace("192.0.2.10"),
        {
            LaneSignal.BEAM_A: BitInput(0),
            LaneSignal.BEAM_M: BitInput(1, active_low=True),
            LaneSignal.BEAM_B: BitInput(2),
            LaneSignal.CONTACT: BitInput(3),
            LaneSignal.RELAY_IN: BitInput(8, Bits.COIL),
        },
        {Direction.IN: CoilOutput(0), Direction.OUT: CoilOutput(1, rest_on=True)},
        FireRegister(4, normal=(400, 600), alarm=(150, 300)),
        unit=7,
    )


def test_a_module_on_a_serial_line_with_its_times_in_registers(folder: Path) -> None:
    serial = 'serial = "/dev/ttyUSB0"\nbaud = 19200\nparity = "E"\npoll_ms = 50\nunseen_ms = 1000'
    flash = '[device.lane.hall.flash]\nstyle = "register"\non = 16\noff = 32\nunit_ms = 10\n'
    found = wiring_of(folder, MODBUS.replace('host = "192.0.2.10"', serial) + flash)
    assert isinstance(found, ModbusWiring)
    assert found.place == SerialPlace("/dev/ttyUSB0", 19200, "E")
    assert (found.poll_s, found.unseen_s) == (0.05, 1.0)
    assert found.flash == Flash(FlashStyle.REGISTER, 16, 32, 10)


@pytest.mark.parametrize(
    ("hardware", "old", "new", "key"),
    [
        (GPIO, 'chip = "/dev/gpiochip0"', "", "chip"),
        (GPIO, "beam_a = 5", "beam_a = -1", "inputs.beam_a"),
        (GPIO, "beam_a = 5", 'beam_a = "5"', "inputs.beam_a"),
        (GPIO, "beam_a = 5", "beam_z = 5", "inputs.beam_z"),
        (GPIO, "beam_a = 5", "beam_a = 7", "inputs.beam_b"),
        (GPIO, "beam_a = 5", "beam_a = 11", "fire_line.nc"),
        (GPIO, "beam_a = 5", "", "inputs"),
        (GPIO, "beam_a = 5", "beam_a = 5\nfire = 30", "inputs.fire"),
        (GPIO, '"pull-up"', '"up"', "inputs.beam_m.bias"),
        (GPIO, "debounce_us = 500", "debounce = 500", "inputs.beam_m.debounce"),
        (GPIO, "nc = 11", "", "fire_line.nc"),
        (GPIO, "in = 20", "in = 5", "outputs.in"),
        (GPIO, '"high"', '"on"', "outputs.out.rest"),
        (GPIO, 'in = 20\nout = { line = 21, rest = "high" }', "", "outputs"),
        (GPIO, "in = 20", "north = 20", "outputs.north"),
        (MODBUS, 'host = "192.0.2.10"', "", "host"),
        (MODBUS, "unit = 7", "unit = 300", "unit"),
        (MODBUS, "unit = 7", 'serial = "/dev/ttyUSB0"', "serial"),
        (MODBUS, "unit = 7", "poll_ms = 400\nunseen_ms = 500", "unseen_ms"),
        (MODBUS, "beam_a = 0", "beam_a = 2", "inputs.beam_b"),
        (MODBUS, "in = 0", "in = 1", "outputs.out"),
        (MODBUS, "register = 4", "", "fire_line.nc"),
        (MODBUS, "alarm_to = 300", "alarm_to = 450", "fire_line.alarm_from"),
        (MODBUS, "normal_to = 600", "normal_to = 300", "fire_line.normal_to"),
        (MODBUS, OUTPUTS, REGISTER + OUTPUTS, "flash.on"),
        (MODBUS, OUTPUTS, REGISTER + "on = 1\n" + OUTPUTS, "flash.off"),
    ],
)
def test_a_mistake_in_the_wiring_names_its_key(folder: Path, hardware: str, old: str, new: str, key: str) -> None:
    assert old in hardware
    with pytest.raises(ConfigError) as caught:
        wiring_of(folder, hardware.replace(old, new))
    assert caught.value.key == f"device.lane.hall.{key}"


LANE_HARDWARE = Path(__file__).parents[2] / "docs" / "lane-hardware.md"


def test_the_examples_of_wiring_load(folder: Path) -> None:
    blocks = LANE_HARDWARE.read_text("utf-8").split("```toml\n[device.lane.hall]")[1:]
    kinds = [type(wiring_of(folder, block.split("```")[0])) for block in blocks]
    assert kinds == [GpioWiring, ModbusWiring]


def test_every_input_of_a_lane_is_explained(folder: Path) -> None:
    text = LANE_HARDWARE.read_text("utf-8")
    assert {each for each in LaneSignal if f"`{each}`" not in text and not each.startswith("vendor_")} == set()


@pytest.mark.parametrize("hardware", [GPIO, MODBUS], ids=["gpio", "modbus"])
def test_wired_hardware_opens_as_its_port(folder: Path, hardware: str) -> None:
    config = load(written(folder, BASE.replace(PLAIN_LANE, hardware)), {})
    port = open_device(config, config.devices["lane.hall"], SystemClock())
    assert {callable(each) for each in (port.start, port.stop, port.pulse, port.inputs)} == {True}


@pytest.mark.parametrize("device", ["camera.hall", "nfc.hall", "ble.hall", "lane.hall", "signal.hall"])
def test_every_configured_device_opens_as_its_port(folder: Path, device: str) -> None:
    config = load(written(folder, BASE), {})
    port = open_device(config, config.devices[device], SystemClock())
    assert callable(port.start)
    assert callable(port.stop)


@pytest.mark.parametrize(
    ("device", "options", "prefer"),
    [
        (NFC, {"path": "udp:127.0.0.1:54321", "ecp": "True", "prefer": "nfc"}, Carrier.NFC),
        (
            NFC + '\necp = false\nprefer = "ble"',
            {"path": "udp:127.0.0.1:54321", "ecp": "False", "prefer": "ble"},
            Carrier.BLE,
        ),
        ('driver = "pcsc"\nreader = 1', {"reader": "1", "max_apdu": "", "prefer": "nfc"}, Carrier.NFC),
        (
            'driver = "pcsc"\nreader = "OMNIKEY"\nmax_apdu = 2000\nprefer = "ble"',
            {"reader": "OMNIKEY", "max_apdu": "2000", "prefer": "ble"},
            Carrier.BLE,
        ),
    ],
)
def test_an_nfc_reader_and_what_its_lane_prefers(
    folder: Path, device: str, options: dict[str, str], prefer: Carrier
) -> None:
    config = load(written(folder, BASE.replace(NFC, device, 1)), {})
    assert config.device("nfc", "hall").options == {"card_order": "mdoc,piv,pkoc", **options}
    assert config.lanes[0].prefer is prefer


def test_a_pcsc_reader_opens_as_its_port_or_names_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(written(folder, BASE.replace(NFC, 'driver = "pcsc"\nreader = 0\nmax_apdu = 2000', 1)), {})
    asked: list[tuple[str, int | None]] = []
    monkeypatch.setattr(
        "drivers.nfc.pcsc.PcscReader", lambda reader, _clock, *, max_apdu: asked.append((reader, max_apdu))
    )
    open_device(config, config.devices["nfc.hall"], SystemClock())
    assert asked == [("0", 2000)]
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "smartcard", None)
    monkeypatch.setitem(sys.modules, "smartcard.scard", None)
    with pytest.raises(ConfigError, match=r"gwanmun\[pcsc\]") as caught:
        open_device(config, config.devices["nfc.hall"], SystemClock())
    assert caught.value.key == "device.nfc.hall"


def test_a_path_that_no_reader_has_names_the_device(folder: Path) -> None:
    config = load(written(folder, BASE.replace("udp:127.0.0.1:54321", "udp:192.0.2.1:54321")), {})
    with pytest.raises(ConfigError) as caught:
        open_device(config, config.devices["nfc.hall"], SystemClock())
    assert caught.value.key == "device.nfc.hall"


def test_a_lane_without_a_sign_may_use_the_log(folder: Path) -> None:
    text = BASE.replace(
        '[device.signal.hall]\ndriver = "simulated"\npath = "hall.sign"', '[device.signal.hall]\ndriver = "log"'
    )
    config = load(written(folder, text), {})
    assert callable(open_device(config, config.devices["signal.hall"], SystemClock()).show)


PANEL = """driver = "panel"
[device.signal.hall.sound]
device = "plughw:1,0"
[device.signal.hall.text]
device = "/dev/ttyUSB0"
"""


def test_a_sign_of_parts_has_its_defaults_and_opens_as_its_port(folder: Path) -> None:
    config = load(written(folder, BASE.replace(SIGN, PANEL)), {})
    assert config.device("signal", "hall").options == {
        "sound.player": "aplay",
        "sound.device": "plughw:1,0",
        "sound.repeat_s": "10.0",
        "sound.speech": "ko,en",
        "text.device": "/dev/ttyUSB0",
        "text.baud": "9600",
        "text.columns": "20",
        "text.rows": "2",
        "text.encoding": "euc-kr",
        "text.commands": "cd5220",
    }
    assert callable(open_device(config, config.devices["signal.hall"], SystemClock()).show)


@pytest.mark.parametrize(
    ("sign", "light"),
    [
        (PANEL_GPIO, GpioLight("/dev/gpiochip0", {Lamp.GREEN: 5, Lamp.RED: 6})),
        (PANEL_GPIO + "active_low = true\n", GpioLight("/dev/gpiochip0", {Lamp.GREEN: 5, Lamp.RED: 6}, True)),
        (
            PANEL_MODBUS,
            ModbusLight(TcpPlace("192.0.2.10"), {Lamp.GREEN: 4, Lamp.RED: 5, Lamp.YELLOW: 6, Lamp.BLUE: 7}, unit=7),
        ),
        (
            PANEL_MODBUS.replace('host = "192.0.2.10"', 'serial = "/dev/ttyUSB1"\nbaud = 19200').replace(
                "yellow = 6\nblue = 7\n", ""
            ),
            ModbusLight(SerialPlace("/dev/ttyUSB1", 19200), {Lamp.GREEN: 4, Lamp.RED: 5}, unit=7),
        ),
    ],
)
def test_a_sign_of_lamps_alone_is_wired_as_written_and_opens_as_its_port(
    folder: Path, sign: str, light: LightWiring
) -> None:
    config = load(written(folder, BASE.replace(SIGN, sign)), {})
    assert config.device("signal", "hall").light == light
    assert callable(open_device(config, config.devices["signal.hall"], SystemClock()).show)


def clash(folder: Path, hardware: str, sign: str, more: str = "") -> str:
    text = BASE.replace(PLAIN_LANE, hardware).replace(SIGN, sign + more)
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), {})
    return f"{caught.value.key}: {caught.value.expected.en}"


@pytest.mark.parametrize(
    ("hardware", "sign", "key", "first"),
    [
        ("gpio", PANEL_GPIO.replace("green = 5", "green = 20"), "light.green", "lane.hall.outputs.in"),
        ("gpio", PANEL_GPIO, "light.green", "lane.hall.inputs.beam_a"),
        ("gpio", PANEL_GPIO.replace("5", "30").replace("6", "12"), "light.red", "lane.hall.fire_line.no"),
        ("modbus", PANEL_MODBUS.replace("green = 4", "green = 0"), "light.green", "lane.hall.outputs.in"),
        ("modbus", PANEL_MODBUS.replace("blue = 7", "blue = 8"), "light.blue", "lane.hall.inputs.relay_in"),
        ("serial", PANEL_MODBUS, "light.serial", "lane.hall.serial"),
    ],
)
def test_a_lamp_does_not_hang_where_a_lane_does(folder: Path, hardware: str, sign: str, key: str, first: str) -> None:
    wiring = GPIO if hardware == "gpio" else MODBUS
    if hardware == "serial":
        wiring, sign = (each.replace('host = "192.0.2.10"', 'serial = "/dev/ttyUSB0"') for each in (wiring, sign))
    said = clash(folder, wiring, sign)
    assert said == f"device.signal.hall.{key}: a place that device.{first} does not use is expected"


def test_two_signs_do_not_share_a_lamp(folder: Path) -> None:
    other = PANEL_GPIO.replace(".hall", ".other").replace("green = 5", "green = 7")
    said = clash(folder, PLAIN_LANE, PANEL_GPIO, "[device.signal.other]\n" + other)
    assert said == "device.signal.other.light.red: a place that device.signal.hall.light.red does not use is expected"


def test_lamps_on_the_lanes_own_module_are_fine_on_coils_of_their_own(folder: Path) -> None:
    text = BASE.replace(PLAIN_LANE, MODBUS).replace(SIGN, PANEL_MODBUS)
    assert load(written(folder, text), {}).device("signal", "hall").light is not None
    apart = text.replace("unit = 7\ngreen = 4", "unit = 8\ngreen = 0")
    assert load(written(folder, apart), {}).device("signal", "hall").light is not None


def test_speech_can_be_switched_off_and_recordings_given(folder: Path) -> None:
    (folder / "recordings").mkdir()
    more = 'speech = false\nrecordings = "recordings"\n'
    config = load(written(folder, BASE.replace(SIGN, PANEL.replace('device = "plughw:1,0"\n', more))), {})
    options = config.device("signal", "hall").options
    assert options["sound.speech"] == ""
    assert options["sound.recordings"] == str(folder / "recordings")
    assert callable(open_device(config, config.devices["signal.hall"], SystemClock()).show)


async def test_a_part_that_is_lost_is_told_by_the_name_of_its_device(folder: Path) -> None:
    config = load(written(folder, BASE.replace(SIGN, PANEL.replace("ttyUSB0", "no-such-port"))), {})
    told: list[tuple[str, bool]] = []
    sign = open_device(
        config, config.devices["signal.hall"], SystemClock(), lambda name, works, _why: told.append((name, works))
    )
    with contextlib.suppress(DriverError):  # a machine without sound has neither part
        await sign.start()
    await sign.stop()
    assert ("signal.hall.text", False) in told
