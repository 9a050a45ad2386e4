"""Orders from the controller to a gate: what is asked, what is signed, what is answered.

In two steps, so that no clock counts but the gate's own monotonic one: the controller asks for a challenge, and the order that
it signs names it. One COSE_Sign1 for each operator, over the same payload bytes; they travel as base64url text inside JSON.

    payload   {"site", "gate", "lane", "verb": tstr, "args": {* tstr => tstr / int}, "operator", "role", "id": tstr,
               "challenge": bstr .size 16, ? "second": {"operator", "role": tstr}}
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose
from mdoc.cbor import Tag
from mdoc.errors import MdocError
from protocol import fields
from protocol.fields import WORD, PayloadError

TYPE = "application/gwanmun-command+cbor"
CHALLENGE = 16
"""Bytes."""
CHALLENGE_S = 10.0
"""Seconds for which a challenge counts, on the gate's monotonic clock."""
EXPIRY_S = 10
"""Message expiry of an order and of a request for a challenge: what waited longer in the broker is not delivered."""
MAX_BYTES = 6144
"""Of a message on `cmd`."""
MAX_ANSWER = 8192
"""Of a message on `res`: 64 lanes with one word each."""
MAX_SEALED = 2700
"""Characters of one sealed form; 2,000 bytes."""
MAX_ARGS = 8
MAX_TEXT = 64
"""Characters of a name or an argument."""
MAX_RESULTS = 64
ALL = "all"
"""In the place of a lane: every lane of the gate."""
KID = 8
"""Bytes of a key identifier."""


class CommandVerb(StrEnum):
    """What may be ordered from afar. Setting a lane back after a fire, and confirming the clock, are done on the spot only."""

    OPEN_ONCE = "open_once"
    FREE = "free"
    END_FREE = "end_free"
    LOCKDOWN = "lockdown"
    RELEASE = "release"
    DISABLE = "disable"
    ENABLE = "enable"
    ACKNOWLEDGE = "acknowledge"
    FORGIVE = "forgive"
    FORGIVE_ZONE = "forgive_zone"
    REFRESH = "refresh"
    REPLAY = "replay"
    RESTART = "restart"


EMERGENCY = "emergency"
"""In a key list: the key may sign the emergency state (protocol.emergency)."""
TWO_OPERATORS = frozenset({CommandVerb.FREE})
"""Orders that open more than one passage: a second operator signs with another key."""
OF_THE_GATE = frozenset({CommandVerb.FORGIVE_ZONE, CommandVerb.REFRESH, CommandVerb.REPLAY, CommandVerb.RESTART})
"""Orders that concern no lane alone: `lane` is ALL."""


class OpenReason(StrEnum):
    """Why a lane is opened once without a credential."""

    FORGOTTEN_PHONE = "forgotten_phone"
    VISITOR = "visitor"
    TEST = "test"


class Refused(StrEnum):
    """Why a message is no order that counts; in this order, the first that failed. What a lane says comes after these."""

    RETAINED = "retained"
    BUSY = "busy"
    """More messages wait than are read."""
    MALFORMED = "malformed"
    FORGED = "forged"
    MISADDRESSED = "misaddressed"
    LATE = "late"
    """The challenge is not one that this gate has given in the last ten seconds."""
    REPLAYED = "replayed"
    """The challenge was used."""
    UNKNOWN_VERB = "unknown_verb"
    NOT_PERMITTED = "not_permitted"
    SECOND_MISSING = "second_missing"
    FIRE_ACTIVE = "fire_active"
    NOT_OPENED = "not_opened"
    """Recorded, and the lane's relay did not confirm."""
    FAILED = "failed"
    """A fault of the gate's own, which its log names."""


class CommandError(ValueError):
    """Not of this form."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who orders. Known to the controller, which keeps it; no event of a gate has the name."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Command:
    site: str
    gate: str
    lane: str
    """A lane's name, or ALL."""
    verb: str
    """A CommandVerb; another word for an order of a newer controller."""
    operator: Operator
    id: str
    challenge: bytes = field(repr=False)
    args: Mapping[str, str | int] = field(default_factory=dict)
    second: Operator | None = None

    def payload(self) -> bytes:
        """The bytes that every operator's key signs."""
        body: dict[str, Any] = {
            "site": self.site,
            "gate": self.gate,
            "lane": self.lane,
            "verb": str(self.verb),
            "args": dict(self.args),
            "operator": self.operator.name,
            "role": self.operator.role,
            "id": self.id,
            "challenge": self.challenge,
        }
        if self.second is not None:
            body["second"] = {"operator": self.second.name, "role": self.second.role}
        return cbor.encode(body)


@dataclass(frozen=True, slots=True)
class Sealed:
    """One signature over a payload, not yet checked."""

    kid: bytes
    sign1: cose.Sign1 = field(repr=False)
    payload: bytes = field(repr=False)

    def verify(self, key: cose.PublicKey) -> bool:
        return cose.verify_sign1(self.sign1, key)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a challenge."""

    id: str

    def encode(self) -> bytes:
        return fields.encode({"want": "challenge", "id": self.id})


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order as it came."""

    id: str
    first: Sealed
    second: Sealed | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One of three: a challenge; a reason why the message is no order; what each lane said (None: done)."""

    id: str
    challenge: bytes | None = None
    refused: str | None = None
    results: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.refused is None and bool(self.results) and not any(self.results.values())

    def encode(self) -> bytes:
        body: dict[str, Any] = {"id": self.id}
        if self.challenge is not None:
            body["challenge"] = to_text(self.challenge)
        elif self.refused is not None:
            body["refused"] = self.refused
        else:
            body["results"] = dict(self.results)
        return fields.encode(body)


def kid_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """The identifier of a key: the first 8 bytes of its COSE Key Thumbprint with SHA-256 (RFC 9679 3)."""
    return hashlib.sha256(cbor.encode(cose.cose_key(key))).digest()[:KID]


def seal(payload: bytes, key: ec.EllipticCurvePrivateKey, kind: str = TYPE) -> str:
    """base64url of the tagged COSE_Sign1, with `kid` and type in its protected header."""
    protected = {cose.KID: kid_of(key.public_key()), cose.TYP: kind}
    return to_text(cbor.encode(Tag(cose.TAG_SIGN1, cose.build_sign1(key, payload, protected=protected))))


def order(command_id: str, first: str, second: str | None = None) -> bytes:
    """A message on `cmd` from what `seal` gave."""
    return fields.encode({"id": command_id, "sealed": first, **({} if second is None else {"second": second})})


def open_text(text: object, kind: str = TYPE) -> Sealed:
    """The other side of `seal`, without checking the signature. Raises CommandError."""
    if not isinstance(text, str) or len(text) > MAX_SEALED:
        raise CommandError("base64url text is expected")
    try:
        item = cbor.decode(from_text(text))
        if type(item) is not Tag or item.number != cose.TAG_SIGN1:
            raise CommandError("COSE_Sign1 with its tag is expected")
        sign1 = cose.parse_sign1(item, "command")
    except (ValueError, MdocError) as error:
        raise CommandError(str(error)) from error
    kid = sign1.protected.get(cose.KID)
    if sign1.protected.get(cose.TYP) != kind or type(kid) is not bytes or sign1.payload is None:
        raise CommandError("type header, kid or payload is missing")
    return Sealed(kid, sign1, sign1.payload)


def parse(raw: bytes) -> Asked | Ordered:
    """A message on `cmd`. Nothing in it is authentic yet. Raises CommandError."""
    try:
        body = fields.read(raw, MAX_BYTES)
        name = body.word("id")
        if body.has("want"):
            if body.word("want") != "challenge":
                raise CommandError("want: challenge is expected")
            body.done()
            return Asked(name)
        first = open_text(body.take("sealed"))
        second = open_text(body.take("second")) if body.has("second") else None
        body.done()
    except PayloadError as error:
        raise CommandError(str(error)) from error
    if second is not None and second.payload != first.payload:
        raise CommandError("both signatures are over the same bytes")
    return Ordered(name, first, second)


def read(payload: bytes) -> Command:
    """The order in a payload whose signature was checked. Raises CommandError."""
    try:
        body = cbor.decode_map(payload)
    except MdocError as error:
        raise CommandError(str(error)) from error
    names = {"site", "gate", "lane", "verb", "args", "operator", "role", "id", "challenge"}
    if set(body) - {"second"} != names:
        raise CommandError(f"{', '.join(sorted(names))} are expected")
    texts = [_text(body[name], name) for name in ("site", "gate", "lane", "verb", "id")]
    challenge, args = body["challenge"], body["args"]
    if type(challenge) is not bytes or len(challenge) != CHALLENGE:
        raise CommandError(f"challenge: {CHALLENGE} bytes are expected")
    if type(args) is not dict or len(args) > MAX_ARGS:
        raise CommandError(f"args: a map of at most {MAX_ARGS} is expected")
    for name, value in args.items():
        _text(name, "args")
        if type(value) is not int:
            _text(value, "args")
    site, gate, lane, verb, command_id = texts
    if not all(WORD.fullmatch(each) for each in (site, gate, lane, verb, command_id)):
        raise CommandError("site, gate, lane, verb and id are short words")
    second = body.get("second")
    if second is not None and (type(second) is not dict or set(second) != {"operator", "role"}):
        raise CommandError("second: operator and role are expected")
    return Command(
        site,
        gate,
        lane,
        verb,
        _operator(body),
        command_id,
        challenge,
        dict(args),
        None if second is None else _operator(second),
    )


def parse_answer(raw: bytes) -> Answer:
    """A message on `res`. Raises PayloadError."""
    body = fields.read(raw, MAX_ANSWER)
    name = body.word("id")
    if body.has("challenge"):
        try:
            challenge = from_text(str(body.take("challenge"))[:MAX_TEXT])
        except ValueError as error:
            raise PayloadError("challenge: base64url text is expected") from error
        if len(challenge) != CHALLENGE:
            raise PayloadError(f"challenge: {CHALLENGE} bytes are expected")
        found = Answer(name, challenge=challenge)
    elif body.has("refused"):
        found = Answer(name, refused=body.word("refused"))
    else:
        results = body.take("results")
        if not isinstance(results, dict) or not 0 < len(results) <= MAX_RESULTS:
            raise PayloadError("results: what each lane said is expected")
        for lane, why in results.items():
            if not WORD.fullmatch(lane) or not (why is None or (isinstance(why, str) and WORD.fullmatch(why))):
                raise PayloadError("results: short words are expected")
        found = Answer(name, results=results)
    body.done()
    return found


def to_text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def from_text(text: str) -> bytes:
    """Raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("base64url text is expected") from error


def _text(value: object, name: str) -> str:
    if type(value) is not str or not 0 < len(value) <= MAX_TEXT:
        raise CommandError(f"{name}: a text of at most {MAX_TEXT} characters is expected")
    return value


def _operator(body: Mapping[Any, Any]) -> Operator:
    role = _text(body["role"], "role")
    if not WORD.fullmatch(role):
        raise CommandError("role: a short word is expected")
    return Operator(_text(body["operator"], "operator"), role)
