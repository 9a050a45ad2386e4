"""The card holder unique identifier (SP 800-73-5 part 1 table 9), which anybody near the card can read:

    53 L { ? EE; 30 FASC-N (25); ? 32; ? 33; 34 GUID (16); 35 expiry YYYYMMDD (8); ? 36; ? 3D; 3E issuer signature; FE 00 }

What it says can only refuse: its identifiers have to be the certificate's, and its date has to lie ahead. So its own signature
is not checked: nobody gains by a forged one, since the certificate, whose key the card proves, names the same card and ends no
later (FIPS 201-3 2.9).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from card import limits, tlv
from card.identifiers import FASC_N_SIZE, UUID_SIZE
from mdoc.errors import MalformedError

TAG_OBJECT, TAG_FASC_N, TAG_GUID, TAG_EXPIRY, TAG_SIGNATURE, TAG_ERROR_DETECTION = 0x53, 0x30, 0x34, 0x35, 0x3E, 0xFE
_KNOWN = frozenset({0xEE, TAG_FASC_N, 0x32, 0x33, TAG_GUID, TAG_EXPIRY, 0x36, 0x3D, TAG_SIGNATURE, TAG_ERROR_DETECTION})


@dataclass(frozen=True, slots=True)
class Chuid:
    fasc_n: bytes = field(repr=False)
    guid: bytes = field(repr=False)
    expires: datetime
    """The end of its last day, UTC."""


def parse(raw: bytes) -> Chuid:
    """From the whole object as read. Raises MalformedError."""
    if len(raw) > limits.MAX_OBJECT:
        raise MalformedError("CHUID: too long")
    found = tlv.once(tlv.whole(raw, TAG_OBJECT, "CHUID"), "CHUID")
    if not found.keys() <= _KNOWN:
        raise MalformedError("CHUID: an object that is not known")
    fasc_n, guid, expiry = (found.get(tag, b"") for tag in (TAG_FASC_N, TAG_GUID, TAG_EXPIRY))
    if len(fasc_n) != FASC_N_SIZE or len(guid) != UUID_SIZE or len(expiry) != 8 or not expiry.isdigit():
        raise MalformedError("CHUID: FASC-N, GUID and a date of eight digits are expected")
    try:
        last = datetime(int(expiry[:4]), int(expiry[4:6]), int(expiry[6:]), tzinfo=UTC)
        return Chuid(fasc_n, guid, last + timedelta(days=1))
    except (ValueError, OverflowError):
        raise MalformedError("CHUID: no such date") from None


def build(fasc_n: bytes, guid: bytes, expires: str, signature: bytes = b"") -> bytes:
    """The object (the card's side). `expires`: YYYYMMDD."""
    parts = ((TAG_FASC_N, fasc_n), (TAG_GUID, guid), (TAG_EXPIRY, expires.encode()), (TAG_SIGNATURE, signature))
    inner = b"".join(tlv.encode(tag, value) for tag, value in parts) + tlv.encode(TAG_ERROR_DETECTION, b"")
    return tlv.encode(TAG_OBJECT, inner)
