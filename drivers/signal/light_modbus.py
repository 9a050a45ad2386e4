"""Lamps on the coils of a Modbus module, TCP or RTU. Every show reads the coils, so that a module that is gone or was switched
off is noticed, and one that came back shows the light again."""

from __future__ import annotations

from collections.abc import Collection

from drivers.lane.wiring import Bits
from drivers.modbus import Module, again_when_lost
from drivers.ports import DriverError
from drivers.signal.light import Lamp, ModbusLight

ANSWER_S = 0.3
"""A module answers within some milliseconds, over a slow bus within 50."""
SHOW_S = 1.0
"""For one change with its lost answers. With the time between two looks at the lamps it stays below the 5 s within which a
light that is gone is told."""
MAX_SPAN = 16
"""Coils read in one request; between them a small module may have addresses that it refuses."""


class ModbusLamps:
    """drivers.signal.light.Outputs on one module."""

    def __init__(self, wires: ModbusLight) -> None:
        self._coils = wires.coils
        self._module = Module(wires.place, wires.unit, ANSWER_S)

    async def open(self) -> None:
        self._module.close()
        await self._module.connect()
        await self.show(())

    async def show(self, lit: Collection[Lamp]) -> None:
        if not self._module.opened:
            raise DriverError("not started")
        try:
            await again_when_lost(lambda: self._show(lit), SHOW_S)
        except TimeoutError:
            raise DriverError("the module does not move the lamps in time") from None

    async def _show(self, lit: Collection[Lamp]) -> None:
        wanted = {coil: lamp in lit for lamp, coil in self._coils.items()}
        now = await self._read()
        wrong = [coil for coil, on in wanted.items() if now[coil] is not on]
        if not wrong:
            return
        for coil in sorted(wrong, key=lambda coil: wanted[coil]):  # what goes dark first
            await self._module.write_coil(coil, wanted[coil])
        if await self._read() != wanted:
            raise DriverError("a lamp's coil does not follow")

    async def _read(self) -> dict[int, bool]:
        """The lamps' coils as they are."""
        low, high = min(self._coils.values()), max(self._coils.values())
        if high - low < MAX_SPAN:
            levels = await self._module.bits(Bits.COIL, low, high - low + 1)
            return {coil: levels[coil - low] for coil in self._coils.values()}
        return {coil: (await self._module.bits(Bits.COIL, coil, 1))[0] for coil in self._coils.values()}

    def close(self) -> None:
        self._module.close()
