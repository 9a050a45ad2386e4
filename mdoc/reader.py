"""The reader's side of one session, sans-I/O: engagement in, SessionEstablishment out, DeviceResponse back (18013-5 6.3.2.4)."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose, request, session
from mdoc.cbor import Encoded
from mdoc.engagement import DeviceEngagement
from mdoc.errors import HolderDeclinedError, SessionError
from mdoc.request import ReaderIdentity, RequestedItems
from mdoc.session import SessionData, SessionEncryption, Status
from mdoc.transcript import Handover, SessionTranscript

__all__ = ["ReaderIdentity", "ReaderSession", "RequestedItems"]


class ReaderSession:
    """One session with one phone. `ephemeral` is a fresh key on the curve of the phone's engagement key.

    `items` may be several documents; `authenticate_all` signs their requests together as well (request.build_request).
    """

    def __init__(
        self,
        engagement: bytes,
        handover: Handover,
        items: RequestedItems | Sequence[RequestedItems],
        identity: ReaderIdentity,
        *,
        ephemeral: ec.EllipticCurvePrivateKey | None = None,
        authenticate_all: bool = False,
    ) -> None:
        """Raises MalformedError for an engagement that cannot be used."""
        self.engagement = DeviceEngagement.parse(engagement)
        self.items = items
        self.ephemeral = ephemeral or ec.generate_private_key(self.engagement.key.curve)
        self._key_bytes = Encoded.wrap(cbor.encode(cose.cose_key(self.ephemeral.public_key())))
        self.transcript = SessionTranscript.build(engagement, self._key_bytes, handover)
        self._encryption = SessionEncryption(self.ephemeral, self.engagement.key, self.transcript, reader=True)
        self._identity, self._all = identity, authenticate_all

    def start(self) -> bytes:
        """SessionEstablishment with the signed DeviceRequest."""
        plain = request.build_request(self.items, self.transcript, self._identity, authenticate_all=self._all)
        return session.build_establishment(self._key_bytes, self._encryption.seal(plain))

    def receive(self, message: bytes) -> bytes:
        """The plaintext DeviceResponse of a SessionData message.

        Raises HolderDeclinedError (termination without data), SessionError (error status, wrong key) or MalformedError.
        """
        body = SessionData.parse(message)
        if body.data is None:
            if body.status == Status.SESSION_TERMINATION:
                raise HolderDeclinedError("session ended without data")
            raise SessionError(f"status {body.status}")
        if body.status not in (None, Status.SESSION_TERMINATION):
            raise SessionError(f"status {body.status}")
        return self._encryption.open(body.data)

    def terminate(self) -> bytes:
        """SessionData {"status": 20}."""
        return session.build_data(status=Status.SESSION_TERMINATION)
