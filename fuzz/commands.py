"""Orders, answers, the emergency state and the list of command keys for `fuzz.targets`; behind a signature its payload too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec

from fuzz.world import NOW
from gate_agent import command_keys
from gate_agent.command_keys import CommandKey
from mdoc import cbor, cose
from mdoc.cbor import Tag
from mdoc.errors import MalformedError
from protocol import command, emergency
from protocol.command import Answer, Asked, Command, CommandError, Operator, Ordered
from protocol.emergency import Emergency
from protocol.fields import PayloadError
from protocol.signed import open_signed


@dataclass(frozen=True, slots=True)
class Made:
    key: ec.EllipticCurvePrivateKey
    state: emergency.Unverified
    messages: Mapping[str, bytes]


@lru_cache(maxsize=1)
def made() -> Made:
    """Made once per process."""
    key = ec.generate_private_key(ec.SECP256R1())
    order = Command(
        "hq",
        "gate-1",
        "lane-1",
        "free",
        Operator("Kim", "guard"),
        "c-1",
        bytes(16),
        {"level": 2},
        Operator("Lee", "chief"),
    )
    payload = order.payload()
    state = Emergency("hq", 3, NOW, NOW + timedelta(hours=1), {"lobby": 2}).encode(key)
    found = emergency.parse(state)
    words = (frozenset({"free", "lockdown"}), frozenset({"guard"}), frozenset({"*"}))
    listed = command_keys.build([CommandKey(key.public_key(), *words, NOW)], version=1, date=NOW, key=key)
    keys = cbor.encode(open_signed(listed, key.public_key(), command_keys.TYPE, "keys"))
    messages = {
        "command_challenge": Asked("c-1").encode(),
        "command_order": command.order("c-1", command.seal(payload, key), command.seal(payload, key)),
        "command_payload": payload,
        "command_answer": Answer("c-1", results={"lane-1": None, "lane-2": "lockdown"}).encode(),
        "command_given": Answer("c-1", challenge=bytes(16)).encode(),
        "emergency": state,
        "emergency_payload": found.sealed.payload,
        "command_keys": listed,
        "command_keys_payload": keys,
    }
    return Made(key, found, messages)


def _typed(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """The documented errors of these parsers, as the targets know them."""

    def run(data: bytes) -> object:
        try:
            return parse(data)
        except (CommandError, PayloadError) as error:
            raise MalformedError(str(error)) from error

    return run


def _message(data: bytes) -> None:
    found = command.parse(data)
    if isinstance(found, Ordered):
        found.first.verify(made().key.public_key())
        command.read(found.first.payload)


def _state(data: bytes) -> None:
    found = emergency.parse(data)
    found.sealed.verify(made().key.public_key())
    emergency.read(found)


def _state_payload(data: bytes) -> None:
    found = made().state
    emergency.read(replace(found, sealed=replace(found.sealed, payload=data)))


message, state, state_payload = _typed(_message), _typed(_state), _typed(_state_payload)
payload, answer = _typed(command.read), _typed(command.parse_answer)


def keys(data: bytes) -> None:
    command_keys.parse(data, made().key.public_key())


def keys_payload(data: bytes) -> None:
    """A good signature around any payload."""
    header = {cose.TYP: command_keys.TYPE}
    keys(cbor.encode(Tag(cose.TAG_SIGN1, cose.build_sign1(made().key, data, protected=header))))
