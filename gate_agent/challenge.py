"""Challenges for QR passes: eight digits on the lane's sign that the phone signs along, so that a code made elsewhere is refused.

Optional per lane (`pass_challenge`). The one before is still taken: its holder may have read it just before it changed.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.clock import Clock

CHANGE_S = 30.0
"""Seconds that one challenge is shown. Together with a pass's own 15 s it bounds how long a code can be relayed."""
DIGITS = 8
"""A person types them; the pass's nonce has at least 8 bytes (mdoc.qrpass)."""


class Challenges:
    """`random_bytes` makes them, `clock` (monotonic) ages them."""

    def __init__(self, random_bytes: Callable[[int], bytes], clock: Clock) -> None:
        self._random_bytes, self._clock = random_bytes, clock
        self._shown: list[tuple[str, float]] = []

    def current(self) -> str:
        """The digits to show now."""
        now = self._clock.monotonic()
        if not self._shown or now - self._shown[-1][1] >= CHANGE_S:
            # 64 random bits: the bias of the remainder is far below what eight digits can show.
            number = int.from_bytes(self._random_bytes(8), "big") % 10**DIGITS
            self._shown = [*self._shown[-1:], (f"{number:0{DIGITS}}", now)]
        return self._shown[-1][0]

    def good(self) -> list[bytes]:
        """What a pass may answer now, as nonce bytes."""
        now = self._clock.monotonic()
        return [digits.encode() for digits, since in self._shown if now - since < 2 * CHANGE_S]
