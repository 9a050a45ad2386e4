"""The second tap: a phone that was taken away while its holder consented comes back, and the request still stands.

A session of NFC data transfer ends with the field (ISO/IEC 18013-5 8.3.3.1.2), so the phone that comes back begins a new one,
with keys of its own. What stays is the attempt: what is asked, by which reader, and the time given for consent; a wallet that
remembers the consent to that request answers at once. Whoever taps meanwhile is verified like anybody else.
"""

from __future__ import annotations

import asyncio

from drivers.ports import LinkLostError, NfcCard


class SecondTap:
    """Hands the next card to whoever waits for it."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[NfcCard] | None = None

    def take(self, card: NfcCard) -> bool:
        """Called for every card. False: nobody waits, it begins an attempt of its own."""
        if self._waiting is None or self._waiting.done():
            return False
        self._waiting.set_result(card)
        return True

    def give_up(self) -> None:
        """Something else is presented: end the wait, if there is one."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(LinkLostError("something else was presented"))

    async def card(self) -> NfcCard:
        """The next card; the caller releases it. One at a time may wait. Raises LinkLostError when given up."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            return await self._waiting
        finally:
            self._waiting = None
