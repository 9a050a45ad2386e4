"""What every virtual card is to whoever holds it to a reader."""

from __future__ import annotations

from typing import Protocol


class Card(Protocol):
    """One card, in one field at a time."""

    @property
    def uid(self) -> bytes:
        """4 or 7 bytes (ISO/IEC 14443-3 6.5.4)."""
        ...

    def power_on(self) -> None:
        """A new field: forget the exchange under way."""
        ...

    def transmit(self, apdu: bytes) -> bytes | None:
        """C-APDU in, R-APDU out; None: the card has left the field. May block."""
        ...
