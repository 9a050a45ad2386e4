"""What only a source checkout may use: an installed gate refuses devices that stand for no hardware."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate_agent import installation
from gate_agent.config import ConfigError, Device, load
from gate_agent.hardware import open_device
from gate_agent.installation import is_checkout, simulated_by
from protocol.clock import SystemClock
from tests.gate_agent.test_config import BASE, FILES, written

SIMULATED = [
    ("lane", "simulated", {"path": "/run/x"}, "driver"),
    ("signal", "simulated", {"path": "/run/x"}, "driver"),
    ("nfc", "nfcpy", {"path": "udp:127.0.0.1:54321"}, "path"),
    ("nfc", "nfcpy", {"path": "udp"}, "path"),
    ("ble", "bumble", {"hci": "unix:/run/air"}, "hci"),
    ("ble", "bumble", {"hci": "tcp-client:127.0.0.1:9"}, "hci"),
]
REAL = [
    ("nfc", "nfcpy", {"path": "tty:AMA0:pn532"}),
    ("nfc", "pcsc", {"reader": "0"}),
    ("ble", "bluez", {"adapter": "hci0"}),
    ("ble", "bumble", {"hci": "usb:0"}),
    ("ble", "bumble", {"hci": "serial:/dev/ttyACM0,1000000"}),
    ("camera", "opencv", {"source": "0"}),
    ("signal", "log", {}),
    ("signal", "panel", {"light": "none"}),
    ("factor", "callback", {"path": "/run/face"}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trust").mkdir()
    for name in FILES:
        (tmp_path / name).write_text("-")
    return tmp_path


@pytest.mark.parametrize(("kind", "driver", "options", "key"), SIMULATED)
def test_a_device_without_hardware_is_known_by_the_key_that_says_so(
    kind: str, driver: str, options: dict[str, str], key: str
) -> None:
    assert simulated_by(Device(kind, "hall", driver, options)) == key


@pytest.mark.parametrize(("kind", "driver", "options"), REAL)
def test_a_device_of_hardware_is_none_of_them(kind: str, driver: str, options: dict[str, str]) -> None:
    assert simulated_by(Device(kind, "hall", driver, options)) is None


def test_a_source_checkout_has_the_testbed() -> None:
    assert is_checkout()


@pytest.mark.parametrize("name", ["testbed_that_is_not_there.simulation", "tests.no_such_module"])
def test_a_package_has_none_and_a_directory_of_its_name_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(installation, "TESTBED", name)
    assert not is_checkout()


@pytest.mark.parametrize(
    ("device", "key"),
    [("lane.hall", "driver"), ("signal.hall", "driver"), ("nfc.hall", "path")],
)
def test_an_installed_gate_refuses_it_with_file_key_and_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str, key: str
) -> None:
    config = load(written(folder, BASE), {})
    open_device(config, config.devices[device], SystemClock())
    monkeypatch.setattr(installation, "TESTBED", "testbed_that_is_not_there.simulation")
    with pytest.raises(ConfigError) as caught:
        open_device(config, config.devices[device], SystemClock())
    assert (caught.value.file, caught.value.key) == (folder / "gate.toml", f"device.{device}.{key}")
    korean, english = caught.value.text().splitlines()
    assert "실제 장치" in korean
    assert "source checkout" in english


def test_an_installed_gate_refuses_a_virtual_radio(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = BASE.replace('driver = "bluez"\nadapter = "hci0"', 'driver = "bumble"\nhci = "unix:/run/air"')
    config = load(written(folder, text), {})
    monkeypatch.setattr(installation, "TESTBED", "testbed_that_is_not_there.simulation")
    with pytest.raises(ConfigError) as caught:
        open_device(config, config.devices["ble.hall"], SystemClock())
    assert caught.value.key == "device.ble.hall.hci"
