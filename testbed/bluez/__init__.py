"""bluetoothd's part on a private bus, for tests without a radio: bleak's own BlueZ backend and our GATT server run unchanged."""

from __future__ import annotations

from testbed.bluez.bus import PrivateBus, private_bus
from testbed.bluez.daemon import DISCONNECT_SECONDS, FakeBluez, Knobs

__all__ = ["DISCONNECT_SECONDS", "FakeBluez", "Knobs", "PrivateBus", "private_bus"]
