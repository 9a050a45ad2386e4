"""What can be wrong with a COSE structure (RFC 9052, 9053), issuer's or device's: hooks by name."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.mdoc.forgeries.builder import (
    session_transcript,
)
from tests.mdoc.forgeries.wire import (
    Hook,
    Raw,
    Tagged,
    constant,
    drop,
    indefinite,
    pairs,
    put,
    twice,
    under,
    write,
)

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's group."""


def algorithms() -> Iterator[tuple[str, Hook]]:
    """Protected headers whose algorithm is not one that may be used, on the map {1: alg}."""
    for name, value in (
        ("ES384 for P-256", -35),
        ("ES512 for P-256", -36),
        ("EdDSA for P-256", -8),
        ("Ed448 for P-256", -53),
        ("ES256K", -47),
        ("ESP384", -51),
        ("a Brainpool number", -265),
        ("RS256", -257),
        ("PS256", -37),
        ("RS1", -65535),
        ("HMAC-256/64", 4),
        ("HMAC-256/256 for a signature", 5),
        ("HMAC-384", 6),
        ("A128GCM", 1),
        ("direct", -6),
        ("ECDH-ES", -25),
        ("zero", 0),
        ("positive seven", 7),
        ("nil", None),
        ("undefined", Raw(b"\xf7")),
        ("false", False),
        ("true", True),
        ("text ES256", "ES256"),
        ("text none", "none"),
        ("text -7", "-7"),
        ("half float -7.0", Raw(b"\xf9\xc7\x00")),
        ("single float -7.0", Raw(b"\xfa\xc0\xe0\x00\x00")),
        ("double float -7.0", Raw(b"\xfb\xc0\x1c\x00\x00\x00\x00\x00\x00")),
        ("a bignum of -7", Tagged(3, b"\x06")),
        ("bytes", b"\x26"),
        ("an array", [-7]),
        ("a map", {1: -7}),
        ("a decimal fraction", Tagged(4, [0, -7])),
        ("a reserved simple value", Raw(b"\xf8\x18")),
    ):
        yield name, put(1, value)
    yield "absent", drop(1)
    yield "twice", twice(1, -7)
    yield "twice, the other first", twice(1, -35, first=True)
    yield "twice, the other last", twice(1, -35)
    yield "twice, one with a longer head", lambda body: pairs([(1, body[1]), (Raw(b"\x18\x01"), body[1])])
    yield "under text", lambda body: {"1": body[1]}
    yield "under its name", lambda body: {"alg": body[1]}
    yield "under a float key", lambda body: pairs([(Raw(b"\xf9\x3c\x00"), body[1])])
    yield "under a bool key", lambda body: pairs([(True, body[1])])
    yield "under a bignum key", lambda body: pairs([(Tagged(2, b"\x01"), body[1])])


def headers() -> Iterator[tuple[str, Hook]]:
    """Other protected headers, on the map {1: alg}."""
    for name, value in (
        ("an unknown label", [99]),
        ("alg", [1]),
        ("nothing", []),
        ("text", ["exp"]),
        ("no array", 1),
        ("itself", [2]),
        ("nil", None),
    ):
        yield f"crit lists {name}", put(2, value)
    yield "empty string", lambda _: b""
    yield "empty map", lambda _: b"\xa0"
    yield "an array", lambda body: write([1, body[1]])
    yield "a number", lambda _: write(-7)
    yield "a byte after the map", lambda body: write(body) + b"\0"
    yield "two maps", lambda body: write(body) * 2
    yield "cut short", lambda body: write(body)[:-1]
    yield "wrapped in tag 24", lambda body: write(Tagged(24, write(body)))
    yield "wrapped in a byte string", lambda body: write(write(body))
    yield "of indefinite length", lambda body: write(indefinite(body))
    yield "a label that is bytes", put(b"kid", 5)
    yield "a label twice", lambda body: pairs([*body.items(), (99, 1), (99, 1)])
    yield "text that is no UTF-8", put(99, Raw(b"\x61\xff"))
    yield "a key beyond 64 bits", lambda body: pairs([*body.items(), (Tagged(2, b"\xff" * 9), 1)])
    yield "a large number as label", put(1 << 63, 1)


def structures() -> Iterator[tuple[str, Hook]]:
    """On the array of four."""
    yield "three entries", lambda array: array[:3]
    yield "five entries", lambda array: [*array, b""]
    yield "no entry", lambda _: []
    yield "a map", lambda array: dict(enumerate(array))
    yield "in a byte string", write
    yield "in tag 24", lambda array: Tagged(24, write(array))
    yield "tagged as COSE_Sign", lambda array: Tagged(98, array)
    yield "tagged as COSE_Mac", lambda array: Tagged(97, array)
    yield "tagged as COSE_Encrypt0", lambda array: Tagged(16, array)
    yield "tagged as a CWT", lambda array: Tagged(61, array)
    yield "tagged twice", lambda array: Tagged(18, Tagged(18, array))
    yield "in an array", lambda array: [array]
    yield "of indefinite length", indefinite
    yield "protected as a map", lambda array: [{1: -7}, *array[1:]]
    yield "protected as text", lambda array: ["", *array[1:]]
    yield "protected as nil", lambda array: [None, *array[1:]]
    yield "unprotected as bytes", lambda array: [array[0], write(array[1]), *array[2:]]
    yield "unprotected as an array", lambda array: [array[0], [], *array[2:]]
    yield "unprotected as nil", lambda array: [array[0], None, *array[2:]]
    yield "headers turned round", lambda array: [write(array[1]), {1: -7}, *array[2:]]
    yield "the algorithm in the unprotected header alone", lambda array: [b"", {**array[1], 1: -7}, *array[2:]]
    yield "the algorithm in both headers", under(1, put(1, -7))
    yield "crit in the unprotected header", under(1, put(2, [99]))
    yield "a bytes label in the unprotected header", under(1, put(b"x", 1))
    yield "a label twice in the unprotected header", under(1, lambda header: pairs([*header.items(), (99, 1), (99, 2)]))
    yield "payload as text", lambda array: [*array[:2], "payload", array[3]]
    yield "payload false", lambda array: [*array[:2], False, array[3]]
    yield "payload in an array", lambda array: [*array[:2], [array[2]], array[3]]
    yield "payload tagged", lambda array: [*array[:2], Tagged(24, array[2] or b""), array[3]]
    yield "signature as text", lambda array: [*array[:3], "signature"]
    yield "signature nil", lambda array: [*array[:3], None]
    yield "signature in an array", lambda array: [*array[:3], [array[3]]]
    yield "signature of indefinite length", lambda array: [*array[:3], indefinite(array[3])]


def proofs() -> Iterator[tuple[str, Hook]]:
    """On a raw P-256 signature."""
    whole = ORDER.to_bytes(32, "big")
    yield "empty", lambda _: b""
    yield "zeros", lambda found: bytes(len(found))
    yield "ones", lambda found: b"\xff" * len(found)
    yield "one byte short", lambda found: found[:-1]
    yield "one byte long", lambda found: found + b"\0"
    yield "a zero before it", lambda found: b"\0" + found
    yield "twice", lambda found: found * 2
    yield "half of it", lambda found: found[:32]
    yield "as DER", _as_der
    yield "r and s turned round", lambda found: found[32:] + found[:32]
    yield "r = 0", lambda found: bytes(32) + found[32:]
    yield "s = 0", lambda found: found[:32] + bytes(32)
    yield "r = n", lambda found: whole + found[32:]
    yield "s = n", lambda found: found[:32] + whole
    yield "r + n", lambda found: _plus(found[:32]) + found[32:]
    yield "s + n", lambda found: found[:32] + _plus(found[32:])
    yield "r = s = 1", lambda _: (bytes(31) + b"\1") * 2
    yield "r = s = n - 1", lambda _: (ORDER - 1).to_bytes(32, "big") * 2
    yield "padded to P-384's size", lambda found: bytes(16) + found[:32] + bytes(16) + found[32:]
    yield "bits turned round", lambda found: found[::-1]
    yield "first bit", lambda found: bytes((found[0] ^ 0x80,)) + found[1:]
    yield "last bit", lambda found: found[:-1] + bytes((found[-1] ^ 1,))


def _as_der(found: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(found[:32], "big"), int.from_bytes(found[32:], "big"))


def _plus(part: bytes) -> bytes:
    """The same modulo n where it fits 32 bytes, and else something that does not verify either."""
    return ((int.from_bytes(part, "big") + ORDER) % (1 << 256)).to_bytes(32, "big")


def signed_content(context: str) -> Iterator[tuple[str, Hook]]:
    """What the signature is over, in place of [context, protected, "", payload]."""
    for name in ("Signature", "CounterSignature", "MAC0" if context == "Signature1" else "Signature1", "", "Encrypt0"):
        yield f"context {name!r}", under(0, constant(name))
    yield "context of COSE_Sign, with its own headers", lambda parts: ["Signature", parts[1], b"", b"", parts[3]]
    yield "external data", lambda parts: [*parts[:2], b"\x01", parts[3]]
    yield "the transcript as external data", lambda parts: [*parts[:2], session_transcript(), parts[3]]
    yield "without external data", lambda parts: [parts[0], parts[1], parts[3]]
    yield "without its protected header", lambda parts: [parts[0], b"", *parts[2:]]
    yield "the payload alone", lambda parts: Raw(parts[3])
    yield "an empty payload", lambda parts: [*parts[:3], b""]
    yield "the payload's hash", lambda parts: [*parts[:3], _sha(parts[3])]
    yield "payload without its tag", lambda parts: [*parts[:3], parts[3][4:]]


def _sha(content: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(content)
    return digest.finalize()
