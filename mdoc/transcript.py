"""Session transcripts (18013-5 9.1.5.1). A gate builds its own, from a closed list of handovers; one that somebody recorded
is for looking at a presentation afterwards.

SessionTranscript = [DeviceEngagementBytes, EReaderKeyBytes, Handover]
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mdoc import cbor
from mdoc.cbor import Encoded, head
from mdoc.errors import MalformedError


@dataclass(frozen=True, slots=True)
class QrHandover:
    """Handover = null: the engagement came as a QR code."""

    def encode(self) -> bytes:
        return b"\xf6"


@dataclass(frozen=True, slots=True)
class NfcHandover:
    """Handover = [Hs bstr, Hr bstr / nil]: raw NDEF messages; nil for static handover."""

    select: bytes
    request: bytes | None = None

    def encode(self) -> bytes:
        return cbor.encode([self.select, self.request])


@dataclass(frozen=True, slots=True)
class WalkUpHandover:
    """Handover = ["gwanmun.walkup.1", reader group, SHA-256 of the engagement bytes read]."""

    reader_group: str
    engagement: bytes

    def encode(self) -> bytes:
        return cbor.encode(["gwanmun.walkup.1", self.reader_group, hashlib.sha256(self.engagement).digest()])


Handover = QrHandover | NfcHandover | WalkUpHandover


class SessionTranscript:
    """The transcript's bytes. `raw` is the bare array, `tagged` SessionTranscriptBytes (#6.24)."""

    __slots__ = ("raw", "salt", "tagged")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.tagged = Encoded.wrap(raw).raw
        self.salt = hashlib.sha256(self.tagged).digest()
        """SHA-256(SessionTranscriptBytes): salt of every key derivation of the session."""

    @classmethod
    def build(cls, engagement: bytes, reader_key: Encoded, handover: Handover) -> SessionTranscript:
        """`engagement` and `reader_key` (EReaderKeyBytes) exactly as sent or received."""
        return cls(head(4, 3) + Encoded.wrap(engagement).raw + reader_key.raw + handover.encode())

    @classmethod
    def recorded(cls, raw: bytes) -> SessionTranscript:
        """Of any session and handover, as recorded: the bare array or SessionTranscriptBytes. Raises MalformedError.

        The array's bytes count as they are; only its shape is looked at.
        """
        item = cbor.decode(raw)
        if type(item) is Encoded:
            raw, item = item.content, cbor.decode(item.content)
        if type(item) is not list or len(item) != 3:
            raise MalformedError("a session transcript is an array of three")
        return cls(raw)
