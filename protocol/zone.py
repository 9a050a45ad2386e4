"""Sealed anti-passback messages between the gates of one zone: bytes of a fixed size, whatever they say.

Layout (big-endian), 512 bytes: version 1 | tag period 4 | nonce 12 | ChaCha20-Poly1305 (RFC 8439) over 479 bytes | its tag 16.
The tag period alone is in clear. Site, gate and zone are bound in as associated data by way of the topic, so a message that
is moved to another gate's or zone's topic does not open. Every key comes from the zone key of the tag period (HKDF-Expand
with SHA-256, RFC 5869; a zone key is 32 uniformly random bytes, so the extract step is left out): one key for tags, one for
attempt references, one per sending gate for sealing. With a key of its own per sender and period, random 96-bit nonces repeat
with a chance under 2^-60 for a million messages.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

VERSION = 1
SIZE = 512
"""Bytes of every message: who watches the broker cannot tell kinds apart by their length."""
KEY_BYTES = 32
TAG_BYTES = 16
"""HMAC-SHA-256 cut to 128 bits: among 10^5 tags of one zone and period two collide with a chance of about 10^-29, and half the
bytes go over the air and into the file."""
REF_BYTES = 8
ORIGIN_BYTES = 8
BUCKETS = 32
"""Shares of the tag space that two gates compare; the first five bits of a tag choose."""
MAX_MOVEMENTS = 13
"""Movements in one message."""
MAX_COUNT_ROWS = 22
"""Counts of other gates in one message."""
MAX_SENDERS = 256
"""Gates of one zone whose keys and sequences are kept."""

_HEADER = struct.Struct(">BI12s")
_ENVELOPE = struct.Struct(">BQQ8sIII")
_MOVEMENT = struct.Struct(">16sQ8sB")
_RESERVE = struct.Struct(">16s8sQ")
_ROW = struct.Struct(">8sIII")
_STAMP = struct.Struct(">Q")
_USED = struct.Struct(">16sQ")
_ASK = struct.Struct(">8sI")
_DIGEST = struct.Struct(f">QB{BUCKETS}Q")
_PLAIN = SIZE - _HEADER.size - 16
_BODY = _PLAIN - _ENVELOPE.size


class ZoneMessageError(ValueError):
    """Opens, but does not say what a gate of this version would say."""


class ForgedError(ValueError):
    """Does not open: forged, changed, cut, or sealed for another topic or under another key."""


class Kind(IntEnum):
    RESERVE = 1
    COMMIT = 2
    FREE = 3
    EXIT = 4
    FORGIVE = 5
    COUNT = 6
    DIGEST = 7
    ASK = 8
    MOVEMENTS = 9
    USED = 10


@dataclass(frozen=True, slots=True, order=True)
class Movement:
    """A passage of whoever the tag stands for. Ordered by stamp, then origin."""

    stamp: int
    """Milliseconds since 1970 by the clock of the gate, moved up where the tag's earlier movement would be later."""
    origin: bytes
    """The storage file that wrote it first: 8 random bytes, not the gate's name."""
    inward: bool
    tag: bytes


@dataclass(frozen=True, slots=True)
class CountRow:
    """What one gate has counted through on the day of the count."""

    origin: bytes
    day: int
    """date.toordinal() of the local date on which the count began."""
    entered: int
    left: int


@dataclass(frozen=True, slots=True)
class Reserve:
    """A lane has been granted to this tag; `ref` stands for the attempt and joins no event."""

    tag: bytes
    ref: bytes
    until: int
    """Milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The passage inward is complete."""

    ref: bytes
    movement: Movement


@dataclass(frozen=True, slots=True)
class Free:
    """The lane was not taken, or never opened."""

    tag: bytes
    ref: bytes
    until: int


@dataclass(frozen=True, slots=True)
class Exit:
    movement: Movement


@dataclass(frozen=True, slots=True)
class Forgive:
    """A guard forgives the whole zone: movements up to this stamp are forgotten."""

    stamp: int


@dataclass(frozen=True, slots=True)
class Count:
    """Counts of other gates, for those that missed them. The sender's own stand in every message."""

    rows: tuple[CountRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Digest:
    """What the sender knows, to compare: `floor` is the newest forgiveness, `buckets` one hash per share of the tags."""

    floor: int
    greeting: bool
    """The sender has just come and waits for somebody who agrees."""
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """The gate whose file is `origin` shall send its movements of these shares (bit n: bucket n)."""

    origin: bytes
    buckets: int


@dataclass(frozen=True, slots=True)
class Movements:
    movements: tuple[Movement, ...]


@dataclass(frozen=True, slots=True)
class Used:
    """A QR pass has opened a lane; `mark` stands for its single-use mark."""

    mark: bytes
    until: int
    """Milliseconds since 1970: when the pass is stale anyway."""


Body = Reserve | Commit | Free | Exit | Forgive | Count | Digest | Ask | Movements | Used


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message inside its seal. `epoch` grows with every start of the sender, `seq` with every message."""

    epoch: int
    seq: int
    own: CountRow
    """The sender's own origin and count."""
    body: Body


def period_of(payload: bytes) -> int:
    """The tag period in clear. Raises ZoneMessageError on a wrong size or version."""
    if len(payload) != SIZE:
        raise ZoneMessageError("size")
    version, period, _ = _HEADER.unpack_from(payload)
    if version != VERSION:
        raise ZoneMessageError("version")
    return int(period)


class PeriodKey:
    """Everything derived from one zone key: for one zone of one site and one tag period."""

    def __init__(self, zone_key: bytes, period: int) -> None:
        """`zone_key`: 32 random bytes. `period`: unsigned 32-bit number."""
        if len(zone_key) != KEY_BYTES:
            raise ValueError("a zone key of 32 bytes is expected")
        self._zone_key, self._period = zone_key, period
        self._tag_key, self._ref_key, self._mark_key = (self._derive(each) for each in ("tag", "attempt", "pass"))
        self._seals: dict[str, ChaCha20Poly1305] = {}

    def _derive(self, what: str) -> bytes:
        info = b"gwanmun zone 1 " + self._period.to_bytes(4) + what.encode()
        return HKDFExpand(SHA256(), KEY_BYTES, info).derive(self._zone_key)

    def tag(self, handle: bytes) -> bytes:
        """The tag of a holder_handle: 16 bytes."""
        return hmac.digest(self._tag_key, handle, "sha256")[:TAG_BYTES]

    def ref(self, attempt: str) -> bytes:
        """The reference of an attempt, which only the holders of the zone key can join to an event: 8 bytes."""
        return hmac.digest(self._ref_key, attempt.encode(), "sha256")[:REF_BYTES]

    def mark(self, mark: bytes) -> bytes:
        """What stands for the single-use mark of a QR pass: 16 bytes."""
        return hmac.digest(self._mark_key, mark, "sha256")[:TAG_BYTES]

    def seal(self, topic: str, envelope: Envelope, random_bytes: Callable[[int], bytes]) -> bytes:
        """The 512 bytes for `topic`."""
        header = _HEADER.pack(VERSION, self._period, random_bytes(12))
        return header + self._cipher(topic).encrypt(header[5:], encode(envelope), header[:5] + topic.encode())

    def open(self, topic: str, payload: bytes) -> Envelope:
        """What came on `topic`. Raises ForgedError or ZoneMessageError."""
        if period_of(payload) != self._period:
            raise ForgedError("another tag period")
        header, sealed = payload[: _HEADER.size], payload[_HEADER.size :]
        try:
            plain = self._cipher(topic).decrypt(header[5:], sealed, header[:5] + topic.encode())
        except InvalidTag:
            raise ForgedError("does not open") from None
        return decode(plain)

    def _cipher(self, topic: str) -> ChaCha20Poly1305:
        found = self._seals.get(topic)
        if found is None:
            if len(self._seals) >= MAX_SENDERS:
                self._seals.clear()  # topics that nobody sends on can only cost time
            found = self._seals[topic] = ChaCha20Poly1305(self._derive(f"seal {topic}"))
        return found


def bucket_of(tag: bytes) -> int:
    return tag[0] >> 3


def encode(envelope: Envelope) -> bytes:
    """The inside of a message, padded with zeros to its fixed 479 bytes."""
    kind, body = _encode_body(envelope.body)
    own = envelope.own
    head = _ENVELOPE.pack(kind, envelope.epoch, envelope.seq, own.origin, own.day, own.entered, own.left)
    return head + body.ljust(_BODY, b"\0")


def _encode_body(body: Body) -> tuple[Kind, bytes]:
    match body:
        case Reserve(tag, ref, until):
            return Kind.RESERVE, _RESERVE.pack(tag, ref, until)
        case Commit(ref, movement):
            return Kind.COMMIT, ref + _pack(movement)
        case Free(tag, ref, until):
            return Kind.FREE, _RESERVE.pack(tag, ref, until)
        case Exit(movement):
            return Kind.EXIT, _pack(movement)
        case Forgive(stamp):
            return Kind.FORGIVE, _STAMP.pack(stamp)
        case Count(rows):
            packed = (_ROW.pack(each.origin, each.day, each.entered, each.left) for each in rows[:MAX_COUNT_ROWS])
            return Kind.COUNT, bytes([min(len(rows), MAX_COUNT_ROWS)]) + b"".join(packed)
        case Digest(floor, greeting, buckets):
            return Kind.DIGEST, _DIGEST.pack(floor, greeting, *buckets)
        case Ask(origin, wanted):
            return Kind.ASK, _ASK.pack(origin, wanted)
        case Used(mark, until):
            return Kind.USED, _USED.pack(mark, until)
        case Movements(movements):
            if len(movements) > MAX_MOVEMENTS:
                raise ValueError(f"at most {MAX_MOVEMENTS} movements")
            return Kind.MOVEMENTS, bytes([len(movements)]) + b"".join(_pack(each) for each in movements)


def _pack(movement: Movement) -> bytes:
    return _MOVEMENT.pack(movement.tag, movement.stamp, movement.origin, movement.inward)


def decode(plain: bytes) -> Envelope:
    """The inside of a message that has opened. Raises ZoneMessageError."""
    if len(plain) != _PLAIN:
        raise ZoneMessageError("size")
    kind, epoch, seq, origin, day, entered, left = _ENVELOPE.unpack_from(plain)
    body = _decode_body(kind, _Reader(plain, _ENVELOPE.size))
    return Envelope(epoch, seq, CountRow(origin, day, entered, left), body)


class _Reader:
    def __init__(self, plain: bytes, at: int) -> None:
        self._plain, self._at = plain, at

    def take(self, shape: struct.Struct) -> tuple[int, ...]:
        values = shape.unpack_from(self._plain, self._at)
        self._at += shape.size
        return values

    def raw(self, size: int) -> bytes:
        self._at += size
        return self._plain[self._at - size : self._at]

    def count(self, most: int) -> int:
        number = self.raw(1)[0]
        if number > most:
            raise ZoneMessageError("too many rows")
        return number

    def movement(self) -> Movement:
        tag, stamp, origin, inward = _MOVEMENT.unpack(self.raw(_MOVEMENT.size))
        if inward > 1:
            raise ZoneMessageError("direction")
        return Movement(stamp, origin, inward == 1, tag)

    def row(self) -> CountRow:
        return CountRow(*_ROW.unpack(self.raw(_ROW.size)))

    def done(self) -> None:
        if self._plain[self._at :].strip(b"\0"):
            raise ZoneMessageError("more than its kind has")


def _decode_body(kind: int, reader: _Reader) -> Body:
    body: Body
    match kind:
        case Kind.RESERVE:
            body = Reserve(reader.raw(TAG_BYTES), reader.raw(REF_BYTES), reader.take(_STAMP)[0])
        case Kind.COMMIT:
            body = Commit(reader.raw(REF_BYTES), reader.movement())
            if not body.movement.inward:
                raise ZoneMessageError("direction")
        case Kind.FREE:
            body = Free(reader.raw(TAG_BYTES), reader.raw(REF_BYTES), reader.take(_STAMP)[0])
        case Kind.EXIT:
            body = Exit(reader.movement())
            if body.movement.inward:
                raise ZoneMessageError("direction")
        case Kind.FORGIVE:
            body = Forgive(reader.take(_STAMP)[0])
        case Kind.COUNT:
            body = Count(tuple(reader.row() for _ in range(reader.count(MAX_COUNT_ROWS))))
        case Kind.DIGEST:
            floor, greeting, *buckets = reader.take(_DIGEST)
            if greeting > 1:
                raise ZoneMessageError("greeting")
            body = Digest(floor, greeting == 1, tuple(buckets))
        case Kind.ASK:
            body = Ask(reader.raw(ORIGIN_BYTES), int.from_bytes(reader.raw(4)))
        case Kind.MOVEMENTS:
            body = Movements(tuple(reader.movement() for _ in range(reader.count(MAX_MOVEMENTS))))
        case Kind.USED:
            body = Used(reader.raw(TAG_BYTES), reader.take(_STAMP)[0])
        case _:
            raise ZoneMessageError("kind")
    reader.done()
    return body
