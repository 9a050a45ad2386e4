"""Reasons by short names, and what may stand where a number, a text or a key is expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdoc.verdict import Failure
from tests.mdoc.forgeries.builder import (
    expect,
)
from tests.mdoc.forgeries.wire import (
    Raw,
    Tagged,
    indefinite,
)

MALFORMED = expect(Failure.MALFORMED)
ALTERED = expect(Failure.ALTERED)
TYPE = expect(Failure.WRONG_DOCUMENT_TYPE)
SIGNATURE = expect(Failure.BAD_SIGNATURE)
SESSION = expect(Failure.WRONG_SESSION)
MISSING = expect(Failure.MISSING_ELEMENT)
DECLINED = expect(Failure.HOLDER_DECLINED)
EARLY, EXPIRED = expect(Failure.NOT_YET_VALID), expect(Failure.EXPIRED)

NOT_A_NUMBER: Mapping[str, Any] = {
    "nil": None,
    "text": "0",
    "false": False,
    "true": True,
    "half float": Raw(b"\xf9\x00\x00"),
    "double float": Raw(b"\xfb" + bytes(8)),
    "bignum": Tagged(2, b""),
    "negative": -1,
    "bytes": b"\0",
    "an array": [0],
    "beyond 64 bits": Tagged(2, b"\xff" * 9),
}
NOT_TEXT: Mapping[str, Any] = {
    "nil": None,
    "empty": "",
    "bytes": b"text",
    "a number": 1,
    "an array": ["text"],
    "a map": {"text": 1},
    "tagged": Tagged(32, "text"),
    "no UTF-8": Raw(b"\x62\xc3\x28"),
    "an overlong form": Raw(b"\x62\xc0\xaf"),
    "a surrogate": Raw(b"\x63\xed\xa0\x80"),
    "of indefinite length": indefinite("text"),
}


_ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
SMALL_ORDER: tuple[bytes, ...] = (
    b"\x01" + bytes(31),
    b"\x01" + bytes(30) + b"\x80",
    b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes(32),
    bytes(31) + b"\x80",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 31,
    _ORDER_8,
    _ORDER_8[:-1] + b"\x85",
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
)
"""Points of Ed25519 of order 1, 2, 4 and 8, some in a second encoding: under them a signature of nobody holds."""

BAD = expect(Failure.BAD_CERTIFICATE)
UNKNOWN = expect(Failure.UNKNOWN_ISSUER)
UNREADABLE = expect(Failure.MALFORMED, Failure.BAD_CERTIFICATE)
NOBODY = expect(Failure.UNKNOWN_ISSUER, Failure.BAD_CERTIFICATE)
