"""What a card is called: FASC-N and card UUID of the certificate's subject alternative name (SP 800-73-5 part 1 3.1.2, FIPS 201-3
4.2.2.3), to be compared with the card holder unique identifier (`card.chuid`). Held in memory for one comparison only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mdoc.certificates import der
from mdoc.certificates.structure import Certificate
from mdoc.errors import MalformedError

SUBJECT_ALTERNATIVE_NAME = der.oid("2.5.29.17")
_FASC_N = der.oid("2.16.840.1.101.3.6.6")
_OTHER_NAME, _URI = 0xA0, 0x86
"""Tags of GeneralName (RFC 5280 4.2.1.6)."""
_UUID = re.compile(rb"urn:uuid:([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})", re.IGNORECASE)
FASC_N_SIZE, UUID_SIZE = 25, 16
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Either may be None; false where both are."""

    fasc_n: bytes | None = field(default=None, repr=False)
    card_uuid: bytes | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.fasc_n is not None or self.card_uuid is not None

    def same_as(self, fasc_n: bytes, guid: bytes) -> bool:
        """Every identifier that the certificate names is the one of the CHUID."""
        return bool(self) and self.fasc_n in (None, fasc_n) and self.card_uuid in (None, guid)


def identifiers(certificate: Certificate) -> Identifiers:
    """FASC-N and card UUID, each at most once; other names are passed over. Raises MalformedError."""
    value = certificate.extension(SUBJECT_ALTERNATIVE_NAME)
    if value is None:
        return Identifiers()
    fasc_n: bytes | None = None
    card_uuid: bytes | None = None
    for tag, begin, end in der.children(value, *der.whole(value, der.SEQUENCE)):
        if tag == _OTHER_NAME:
            start, stop = der.expect(value, begin, end, der.OID)
            if value[start:stop] != _FASC_N:
                continue
            wrapped, wrapped_end = der.expect(value, stop, end, 0xA0)
            start, stop = der.expect(value, wrapped, wrapped_end, der.OCTET_STRING)
            if fasc_n is not None or wrapped_end != end or stop != wrapped_end or stop - start != FASC_N_SIZE:
                raise MalformedError("certificate: FASC-N")
            fasc_n = value[start:stop]
        elif tag == _URI:
            found = _UUID.fullmatch(value[begin:end])
            if found is None:
                continue
            if card_uuid is not None:
                raise MalformedError("certificate: card UUID twice")
            card_uuid = bytes.fromhex(b"".join(found.groups()).decode())
    return Identifiers(fasc_n, card_uuid)
