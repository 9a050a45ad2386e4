"""Device authentication of another session, key or content (18013-5 9.1.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from mdoc.verdict import Failure
from tests.mdoc.forgeries import x509
from tests.mdoc.forgeries.builder import (
    DEVICE,
    ENGAGEMENT,
    READER,
    ROOT,
    SIGNER,
    SPACE,
    STRANGER,
    Forgery,
    Plan,
    cose_key,
    emac_key,
    response,
    session_transcript,
)
from tests.mdoc.forgeries.cose import algorithms, headers, proofs, signed_content, structures
from tests.mdoc.forgeries.genuine import VISITOR
from tests.mdoc.forgeries.values import (
    MALFORMED,
    SESSION,
)
from tests.mdoc.forgeries.wire import (
    Hook,
    Raw,
    Tagged,
    constant,
    long_head,
    pairs,
    put,
    tagged,
    under,
    write,
)
from tests.mdoc.forgeries.x509 import key


def _device() -> Iterator[tuple[str, str, Plan, frozenset[Failure]]]:
    for mac, what in ((False, "signature"), (True, "MAC")):
        base = Plan(mac=mac)
        for name, hook in algorithms():
            if mac and name == "HMAC-256/256 for a signature":
                continue
            yield f"{what}: alg {name}", "9.1.3", replace(base, device_protected=hook), MALFORMED | SESSION
        for name, hook in headers():
            yield f"{what}: protected: {name}", "RFC 9052 3", replace(base, device_protected=hook), MALFORMED | SESSION
        for name, hook in structures():
            yield f"{what}: {name}", "RFC 9052 4.2, 6.2", replace(base, device_cose=hook), MALFORMED | SESSION
        wrong = 18 if mac else 17
        other_tag = replace(base, device_cose=tagged(wrong))
        yield f"{what}: the other one's tag", "RFC 9052 2", other_tag, MALFORMED
        for name, hook in signed_content("MAC0" if mac else "Signature1"):
            yield f"{what} over: {name}", "RFC 9052 4.4, 6.3", replace(base, device_tbs=hook), SESSION
        for name, clause, changes in _sessions():
            yield f"{what}: {name}", clause, replace(base, **changes), SESSION
        yield f"{what}: of another payload, which is attached", "9.1.3.4", _replayed(base), SESSION
        empty = replace(base, device_cose=lambda array: [*array[:2], b"", array[3]])
        yield f"{what}: an empty payload attached", "9.1.3.4", empty, SESSION
        for name, hook in _device_auths():
            yield f"{what}: {name}", "9.1.3", replace(base, device_auth=hook), MALFORMED
    for name, hook in proofs():
        yield f"signature: {name}", "RFC 9053 2.1", Plan(device_proof=hook), SESSION
    for name, hook in (
        ("zeros", lambda _: bytes(32)),
        ("empty", lambda _: b""),
        ("cut to 8 bytes", lambda found: found[:8]),
        ("cut to 31 bytes", lambda found: found[:31]),
        ("one byte long", lambda found: found + b"\0"),
        ("last bit", lambda found: found[:-1] + bytes((found[-1] ^ 1,))),
    ):
        yield f"MAC: {name}", "9.1.3.5", Plan(mac=True, device_proof=hook), SESSION
    short = replace(Plan(mac=True), device_protected=put(1, 4), device_proof=lambda found: found[:8])
    yield "MAC: cut to 8 bytes, as HMAC-256/64", "9.1.3.5", short, SESSION
    for name, private in (
        ("the signer's", SIGNER),
        ("the root's", ROOT),
        ("a stranger's", STRANGER),
        ("the reader's", READER),
        ("another credential's", VISITOR.device),
        ("the engagement's", key(6)),
    ):
        yield f"signature: with {name} key", "9.1.3", Plan(holder=private), SESSION
        yield f"MAC: with {name} key", "9.1.3", Plan(holder=private, mac=True), SESSION
    transcript = session_transcript()
    for name, secret in (
        ("the session key of the device", emac_key(key(6), READER, transcript, b"SKDevice")),
        ("the session key of the reader", emac_key(key(6), READER, transcript, b"SKReader")),
        ("EMacKey of the engagement's key", emac_key(key(6), READER, transcript)),
        ("another info", emac_key(DEVICE, READER, transcript, b"EMacKey\0")),
        ("no info", emac_key(DEVICE, READER, transcript, b"")),
        ("SKDevice as info", emac_key(DEVICE, READER, transcript, b"SKDevice")),
        ("another salt", emac_key(DEVICE, READER, transcript + b"\0")),
        ("zeros", bytes(32)),
        ("an empty key", b""),
    ):
        yield f"MAC: keyed with {name}", "9.1.3.5", Plan(mac=True, mac_key=constant(secret)), SESSION
    mac_by_signer = Plan(device_auth=lambda auth: {"deviceMac": auth["deviceSignature"]})
    yield "a signature called a MAC", "9.1.3", mac_by_signer, SESSION
    signed_mac = Plan(mac=True, device_auth=lambda auth: {"deviceSignature": auth["deviceMac"]})
    yield "a MAC called a signature", "9.1.3", signed_mac, SESSION
    yield "signature: of nobody, under a key of small order", "RFC 8032 5.1.7", _nobody(), MALFORMED | SESSION
    for curve, other in (
        ("secp384r1", -7),
        ("secp521r1", -35),
        ("ed25519", -7),
        ("ed448", -19),
        ("brainpoolP256r1", -9),
    ):
        plan = Plan(device=key(24, curve), device_protected=put(1, other))
        yield f"signature: alg {other} with a key on {curve}", "table B.2", plan, SESSION


def _nobody() -> Plan:
    """S·B = R + k·A holds for every message where A is the neutral point and R = S·B."""
    seed = bytes(range(32))
    scalar = bytearray(hashlib.sha512(seed).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    order = (1 << 252) + 27742317777372353535851937790883648493
    point = x509.key_bits(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    signature = point + (int.from_bytes(scalar, "little") % order).to_bytes(32, "little")
    neutral = {"deviceKey": {1: 1, -1: 6, -2: b"\x01" + bytes(31)}}
    return Plan(mso=put("deviceKeyInfo", neutral), device_protected=put(1, -8), device_proof=lambda _: signature)


def _sessions() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Answers for another session, type or content than what stands in the response."""
    for name, transcript in (
        ("another reader's session", session_transcript(STRANGER)),
        ("another engagement's session", session_transcript(engagement=ENGAGEMENT + b"\0")),
        ("a session by NFC", session_transcript(handover=[b"Hs", None])),
        ("a session online", write([None, None, ["OpenID4VPHandover", bytes(32)]])),
        ("no session", write([None, None, None])),
        ("nil as session", b"\xf6"),
        ("the session with its tag", write(Tagged(24, session_transcript()))),
        ("engagement and reader key turned round", _turned()),
    ):
        yield name, "9.1.5.1", {"transcript": transcript}
    yield "another docType inside", "9.1.3.4", {"device_content": under(2, lambda _: "other")}
    yield "another name for the structure", "9.1.3.4", {"device_content": under(0, lambda _: "ReaderAuthentication")}
    spaces = Raw(write(Tagged(24, write({SPACE: {"locker": 7}}))))
    yield "other namespaces inside", "9.1.3.4", {"device_content": under(3, lambda _: spaces)}
    plain = Raw(write({}))
    yield "namespaces without their tag", "9.1.3.4", {"device_content": under(3, lambda _: plain)}
    yield "without docType", "9.1.3.4", {"device_content": lambda parts: [*parts[:2], parts[3]]}
    yield "one entry more", "9.1.3.4", {"device_content": lambda parts: [*parts, None]}
    yield "the array without its tag", "9.1.3.4", {"device_detached": lambda found: found[5:]}
    yield "the array with another head", "9.1.3.4", {"device_content": long_head}
    yield "other namespaces beside it", "9.1.3.4", {"device_signed": put("nameSpaces", Tagged(24, b"\xb8\x00"))}


def _turned() -> bytes:
    return write([Tagged(24, write(cose_key(READER))), Tagged(24, ENGAGEMENT), None])


def _replayed(base: Plan) -> Plan:
    """The answer of another session with what it signed: valid for whoever takes the attached payload."""
    content: list[bytes] = []

    def keep(detached: bytes) -> bytes:
        content.append(detached)
        return detached

    return replace(
        base,
        transcript=session_transcript(STRANGER),
        device_detached=keep,
        device_cose=lambda array: [*array[:2], content[-1], array[3]],
    )


def _device_auths() -> Iterator[tuple[str, Hook]]:
    """On {"deviceSignature" | "deviceMac": array}."""

    def both(auth: dict[str, Any]) -> dict[str, Any]:
        (array,) = auth.values()
        return {"deviceSignature": array, "deviceMac": array}

    def only(auth: dict[str, Any]) -> tuple[str, Any]:
        return next(iter(auth.items()))

    yield "both kinds", both
    yield "both kinds, turned round", lambda auth: dict(reversed(both(auth).items()))
    yield "the kind twice", lambda auth: pairs([only(auth), only(auth)])
    yield "nothing", lambda _: {}
    yield "nil", lambda _: None
    yield "the array alone", lambda auth: only(auth)[1]
    yield "an array of it", lambda auth: [auth]
    yield "an unknown kind", lambda auth: {"deviceProof": only(auth)[1]}
    yield "an unknown kind beside", put("deviceProof", [])
    yield "nil for both kinds", lambda _: {"deviceSignature": None, "deviceMac": None}
    yield "the kind and something else for the other", lambda auth: {"deviceSignature": [], "deviceMac": [], **auth}
    yield "nil in its place", lambda auth: {only(auth)[0]: None}
    yield "several in an array", lambda auth: {only(auth)[0]: [only(auth)[1]] * 2}


def forgeries() -> Iterator[Forgery]:
    for name, clause, plan, expected in _device():
        yield Forgery(name=f"device: {name}", clause=clause, raw=response(plan), expected=expected)
