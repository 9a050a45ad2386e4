"""Whether this is an installed gate or a source checkout, and what only a checkout may use (docs/adr/0015).

Simulated devices and the demo's issuers belong to the testbed. Packages leave the testbed out; where it is missing, a lane
that nobody built and a credential that anybody can make are refused rather than taken for real ones.
"""

from __future__ import annotations

import importlib.util

from gate_agent.config import Device, Expected

TESTBED = "testbed.simulation"
"""A module of the testbed: a directory that merely has the name is no testbed."""
HCI_OF_HARDWARE = frozenset({"usb", "pyusb", "serial", "hci-socket"})
"""HCI transports that lead to a radio; the others lead to another program."""
NO_HARDWARE = Expected(
    "실제 장치가 있어야 합니다(docs/configuration.md). 이 값은 가상 장치이며 소스 저장소에서만 쓸 수 있습니다",
    "a device that exists is expected (docs/configuration.md); this one is virtual and works in a source checkout only",
)


def is_checkout() -> bool:
    try:
        return importlib.util.find_spec(TESTBED) is not None
    except ModuleNotFoundError:
        return False


def simulated_by(device: Device) -> str | None:
    """The key that says that a device stands for no hardware; None: it does not."""
    options = device.options
    if device.driver == "simulated":
        return "driver"
    if device.kind == "nfc" and options.get("path", "").startswith("udp"):
        return "path"
    if device.kind == "ble" and "hci" in options and options["hci"].partition(":")[0] not in HCI_OF_HARDWARE:
        return "hci"
    return None
