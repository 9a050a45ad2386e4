"""The certificate object of a PIV card (SP 800-73-5 part 1 table 15):

53 L { 70 L certificate; 71 01 CertInfo; ? 72 MSCUID; FE 00 }      CertInfo: 00 as it is, 01 compressed by gzip
"""

from __future__ import annotations

import zlib

from card import limits, tlv
from mdoc.certificates.structure import Certificate, read
from mdoc.errors import MalformedError
from mdoc.limits import MAX_CERTIFICATE

TAG_OBJECT, TAG_CERTIFICATE, TAG_INFO, TAG_MSCUID, TAG_ERROR_DETECTION = 0x53, 0x70, 0x71, 0x72, 0xFE
PLAIN, COMPRESSED = b"\x00", b"\x01"
_GZIP = 31
"""zlib's window bits for gzip, header and checksum looked at."""


def parse(raw: bytes) -> Certificate:
    """From the whole object as read. Raises MalformedError; inflates at most one certificate's length."""
    if len(raw) > limits.MAX_OBJECT:
        raise MalformedError("certificate object: too long")
    found = tlv.once(tlv.whole(raw, TAG_OBJECT, "certificate object"), "certificate object")
    if not found.keys() <= {TAG_CERTIFICATE, TAG_INFO, TAG_MSCUID, TAG_ERROR_DETECTION}:
        raise MalformedError("certificate object: an object that is not known")
    content, info = found.get(TAG_CERTIFICATE), found.get(TAG_INFO)
    if not content or info not in (PLAIN, COMPRESSED) or found.get(TAG_ERROR_DETECTION, b""):
        raise MalformedError("certificate object: certificate, CertInfo 00 or 01 and an empty FE are expected")
    return read(_inflated(content) if info == COMPRESSED else content)


def _inflated(content: bytes) -> bytes:
    """One gzip member and nothing after it, of at most a certificate's length: a bomb stops there."""
    engine = zlib.decompressobj(_GZIP)
    try:
        plain = engine.decompress(content, MAX_CERTIFICATE + 1)
    except zlib.error as error:
        raise MalformedError("certificate object: gzip") from error
    if len(plain) > MAX_CERTIFICATE or not engine.eof or engine.unused_data:
        raise MalformedError("certificate object: gzip of another length")
    return plain


def build(certificate: bytes, *, compressed: bool = False) -> bytes:
    """The object around a certificate (DER), the card's side."""
    engine = zlib.compressobj(wbits=_GZIP)
    content = engine.compress(certificate) + engine.flush() if compressed else certificate
    info = COMPRESSED if compressed else PLAIN
    inner = tlv.encode(TAG_CERTIFICATE, content) + tlv.encode(TAG_INFO, info) + tlv.encode(TAG_ERROR_DETECTION, b"")
    return tlv.encode(TAG_OBJECT, inner)
