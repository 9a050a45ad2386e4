"""Cards around a card that misbehave in the exchange itself: status words without end, answers without data, no answer."""

from __future__ import annotations

from collections.abc import Callable, Collection

from mdoc.apdu import INS_GET_RESPONSE, INS_SELECT, SW1_MORE, SW1_WRONG_LE, SW_OK, Response
from testbed.card.card import Card
from testbed.card.piv import INS_GENERAL_AUTHENTICATE, INS_GET_DATA
from testbed.card.pkoc import INS_AUTHENTICATE

_PIECE = 256


class _Around:
    """Another card, until `transmit` says otherwise."""

    def __init__(self, card: Card) -> None:
        self._card = card

    @property
    def uid(self) -> bytes:
        return self._card.uid

    def power_on(self) -> None:
        self._card.power_on()

    def transmit(self, apdu: bytes) -> bytes | None:
        return self._card.transmit(apdu)


class EndlessMore(_Around):
    """Every answer but SELECT's is followed by more, for ever: `piece` bytes at a time, after the genuine beginning."""

    def __init__(self, card: Card, *, piece: int = _PIECE) -> None:
        super().__init__(card)
        self._piece = piece

    def transmit(self, apdu: bytes) -> bytes | None:
        if apdu[1:2] == bytes((INS_SELECT,)):
            return self._card.transmit(apdu)
        data = bytes(self._piece)
        if apdu[1:2] != bytes((INS_GET_RESPONSE,)):
            data = ((self._card.transmit(apdu) or b"")[:-2] + data)[: self._piece]
        return Response(SW1_MORE << 8 | 0xFF, data).encode()


class WrongLe(_Around):
    """Whatever Le is, another is wanted (6Cxx), and never the one before."""

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        self._wanted = 0x10

    def transmit(self, apdu: bytes) -> bytes | None:
        if apdu[1:2] == bytes((INS_SELECT,)):
            return self._card.transmit(apdu)
        self._wanted = 0x10 | (self._wanted + 1) & 0x0F
        return Response(SW1_WRONG_LE << 8 | self._wanted).encode()


class StatusOnly(_Around):
    """Answers the instructions `only` (GET DATA and both kinds of AUTHENTICATE where none is named) with a bare status word."""

    def __init__(
        self,
        card: Card,
        status: int = SW_OK,
        *,
        only: Collection[int] = (INS_GET_DATA, INS_GENERAL_AUTHENTICATE, INS_AUTHENTICATE),
    ) -> None:
        super().__init__(card)
        self._status, self._only = status, frozenset(only)

    def transmit(self, apdu: bytes) -> bytes | None:
        if len(apdu) > 1 and apdu[1] in self._only:
            return Response(self._status).encode()
        return self._card.transmit(apdu)


class Vanishing(_Around):
    """Leaves the field after so many answers."""

    def __init__(self, card: Card, answers: int) -> None:
        super().__init__(card)
        self._answers = self._left = answers

    def power_on(self) -> None:
        super().power_on()
        self._left = self._answers

    def transmit(self, apdu: bytes) -> bytes | None:
        if self._left == 0:
            return None
        self._left -= 1
        return self._card.transmit(apdu)


class Slow(_Around):
    """Its key takes `seconds`; `wait` blocks for so long. Over ISO-DEP the card asks for time meanwhile (S(WTX))."""

    def __init__(self, card: Card, seconds: float, wait: Callable[[float], None]) -> None:
        super().__init__(card)
        self._seconds, self._wait = seconds, wait

    def transmit(self, apdu: bytes) -> bytes | None:
        if len(apdu) > 1 and apdu[1] in (INS_GENERAL_AUTHENTICATE, INS_AUTHENTICATE):
            self._wait(self._seconds)
        return self._card.transmit(apdu)
