"""Phones that misbehave, each in one way: for the demo's scenario and for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mdoc import cbor, holder
from mdoc.cbor import Encoded
from mdoc.holder import Asked, HolderSession
from mdoc.issue import Credential
from mdoc.transcript import SessionTranscript
from testbed.phone.phone import BleSide, Phone
from testbed.phone.wallet import Held


def altered(credential: Credential, space: str, element: str, value: object) -> Credential:
    """The credential with one element's value replaced, digest and signature left as they are."""
    body = cbor.decode_map(credential.items[space][element].content)
    item = Encoded.wrap(cbor.encode({**body, "elementValue": value}))
    items = {**credential.items, space: {**credential.items[space], element: item}}
    return Credential(credential.doc_type, items, credential.issuer_auth)


class AlteringPhone(Phone):
    """Gives itself another access class."""

    def answer(self, session: HolderSession, asked: Asked, held: Held, *, carrier: str) -> bytes | None:
        (space,) = held.credential.items
        forged = Held(altered(held.credential, space, "access_class", "director"), held.device_key)
        return super().answer(session, asked, forged, carrier=carrier)


class ReplayingPhone(Phone):
    """Answers with a device signature that was made for another session."""

    def answer(self, session: HolderSession, asked: Asked, held: Held, *, carrier: str) -> bytes | None:
        del carrier
        other = SessionTranscript(cbor.encode(["another", "session", None]))
        return session.seal(
            holder.build_response(held.credential, held.device_key, asked.request.items.elements, other)
        )


class WrongDocumentPhone(Phone):
    """Answers with whatever it holds, not with what was asked."""

    def credential_for(self, asked: Asked) -> Held | None:
        del asked
        return self.wallet.held[0]


class SlowPhone(Phone):
    """Takes its time to answer; `meanwhile` is called on the event loop as soon as it is asked."""

    meanwhile: Callable[[], None]
    seconds: float = 0.5

    async def talk(self, radio: BleSide, session: HolderSession, *, carrier: str = "ble") -> None:
        self._loop = asyncio.get_running_loop()
        await super().talk(radio, session, carrier=carrier)

    def answer(self, session: HolderSession, asked: Asked, held: Held, *, carrier: str) -> bytes | None:
        self._loop.call_soon_threadsafe(self.meanwhile)
        time.sleep(self.seconds)  # in a thread of its own
        return super().answer(session, asked, held, carrier=carrier)


class VanishingPhone(Phone):
    """Is carried away as soon as it has the request."""

    async def talk(self, radio: BleSide, session: HolderSession, *, carrier: str = "ble") -> None:
        del session, carrier
        await radio.receive(15.0)
        await radio.vanish()
