"""The reader's Bluetooth: as central on bleak, as GATT server on D-Bus; over BlueZ, or over bumble on a transport of its own.

`open_ble` chooses from the configuration; bumble is not even imported where BlueZ is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drivers.ble.adapter import BleAdapter
from drivers.ble.central import BleakCentral, ConnectBudget
from drivers.ble.radio import BluezRadio
from drivers.ble.server import Host
from drivers.ports import BleRole
from protocol.clock import Clock

__all__ = ["BleAdapter", "BleDriver", "BleSettings", "BleakCentral", "ConnectBudget", "open_ble"]


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
    roles: tuple[BleRole, ...] = tuple(BleRole)
    """The preferred one first."""

    def __post_init__(self) -> None:
        if self.driver is BleDriver.BUMBLE and not self.hci:
            raise ValueError("hci: an HCI transport such as usb:0 is expected with driver bumble")
        if self.driver is BleDriver.BUMBLE and self.adapter is not None:
            raise ValueError("adapter: only driver bluez has adapters; driver bumble takes hci")
        if self.driver is BleDriver.BLUEZ and self.hci is not None:
            raise ValueError("hci: only driver bumble takes an HCI transport; driver bluez takes adapter")


def open_ble(settings: BleSettings, clock: Clock, budget: ConnectBudget | None = None) -> BleAdapter:
    """One adapter, not started. It serves all lanes of an agent that name it."""
    if settings.driver is BleDriver.BUMBLE and settings.hci is not None:
        # bumble takes 0.3 s and memory to import: only the gate that uses it pays
        from drivers.ble.bumble_host import BumbleRadio  # noqa: PLC0415  loaded where it is configured
        from drivers.ble.bumble_server import BumbleHost  # noqa: PLC0415

        radio = BumbleRadio(settings.hci)
        return BleAdapter(radio, lambda: BumbleHost(radio), clock, roles=settings.roles, budget=budget)

    def bluez() -> Host:
        from drivers.ble.bluez_server import BluezHost  # noqa: PLC0415  only a reader that is peripheral needs it

        return BluezHost(settings.adapter)

    return BleAdapter(BluezRadio(settings.adapter), bluez, clock, roles=settings.roles, budget=budget)
