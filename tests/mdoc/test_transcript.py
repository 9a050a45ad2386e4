"""A recorded session transcript is taken as it is, of whatever handover; a gate's own come from the closed list alone."""

from __future__ import annotations

from typing import Any

import pytest

from mdoc import cbor
from mdoc.cbor import Encoded
from mdoc.errors import MalformedError
from mdoc.transcript import SessionTranscript

SEEN: dict[str, list[Any]] = {
    "QR": [Encoded.wrap(b"\xa0"), Encoded.wrap(b"\xa0"), None],
    "NFC": [Encoded.wrap(b"\xa0"), Encoded.wrap(b"\xa0"), [b"select", b"request"]],
    "OpenID4VP": [None, None, ["OpenID4VPHandover", bytes(32)]],
    "OpenID4VP of 18013-7:2024": [None, None, [bytes(32), bytes(32), "nonce"]],
    "browser": [None, None, ["OpenID4VPDCAPIHandover", bytes(32)]],
    "web API": [Encoded.wrap(b"\xa0"), Encoded.wrap(b"\xa0"), bytes(32)],
    "none": [None, None, None],
}


@pytest.mark.parametrize("handover", SEEN)
def test_bare_and_wrapped_are_the_same_session(handover: str) -> None:
    raw = cbor.encode(SEEN[handover])
    bare, wrapped = SessionTranscript.recorded(raw), SessionTranscript.recorded(Encoded.wrap(raw).raw)
    assert bare.raw == wrapped.raw == raw
    assert bare.salt == wrapped.salt


def test_bytes_are_kept_as_recorded() -> None:
    raw = b"\x99\x00\x03\xf6\xf6\x79\x00\x01x"  # heads longer than needed
    assert SessionTranscript.recorded(raw).raw == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xf6",
        b"\x82\xf6\xf6",
        b"\x84\xf6\xf6\xf6\xf6",
        b"\x83\xf6\xf6\xf6\x00",
        b"\xd8\x18\x41\xf6",
        b"\xd8\x18\xa0",
    ],
    ids=bytes.hex,
)
def test_anything_else_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        SessionTranscript.recorded(raw)
