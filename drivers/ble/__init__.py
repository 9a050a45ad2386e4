"""Reader as BLE central (mdoc peripheral server mode) on bleak: over BlueZ, or over bumble on an HCI transport of its own.

`open_central` chooses from the configuration; bumble is not even imported where BlueZ is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drivers.ble.central import BleakCentral, ConnectBudget
from drivers.ble.radio import BluezRadio, Radio
from protocol.clock import Clock

__all__ = ["BleDriver", "BleSettings", "BleakCentral", "ConnectBudget", "open_central"]


class BleDriver(StrEnum):
    BLUEZ = "bluez"
    BUMBLE = "bumble"


@dataclass(frozen=True, slots=True)
class BleSettings:
    """Which radio, as the configuration names it. Raises ValueError (key and what is expected) when it cannot be meant."""

    driver: BleDriver = BleDriver.BLUEZ
    adapter: str | None = None
    """BlueZ adapter, e.g. `hci0`; None = the first powered one. BlueZ only."""
    hci: str | None = None
    """HCI transport, e.g. `usb:0`, `serial:/dev/ttyACM0,1000000`, `hci-socket:0`, `unix:/run/air.sock`. bumble only."""

    def __post_init__(self) -> None:
        if self.driver is BleDriver.BUMBLE and not self.hci:
            raise ValueError("hci: an HCI transport such as usb:0 is expected with driver bumble")
        if self.driver is BleDriver.BUMBLE and self.adapter is not None:
            raise ValueError("adapter: only driver bluez has adapters; driver bumble takes hci")
        if self.driver is BleDriver.BLUEZ and self.hci is not None:
            raise ValueError("hci: only driver bumble takes an HCI transport; driver bluez takes adapter")


def open_central(settings: BleSettings, clock: Clock, budget: ConnectBudget | None = None) -> BleakCentral:
    """The central of one radio, not started. One radio serves all lanes of an agent."""
    return BleakCentral(_radio(settings), clock, budget or ConnectBudget())


def _radio(settings: BleSettings) -> Radio:
    if settings.driver is BleDriver.BUMBLE and settings.hci is not None:
        # bumble takes 0.3 s and memory to import: only the gate that uses it pays
        from drivers.ble.bumble_host import BumbleRadio  # noqa: PLC0415  loaded where it is configured

        return BumbleRadio(settings.hci)
    return BluezRadio(settings.adapter)
