"""The mark of specimens: an authority that anybody can make puts it, signed, into its root and its issuer list.

As on a specimen of a passport, everything else about it is genuine. In a certificate the mark is an extension of its own, not
critical, with NULL for a value; in an issuer list `"specimen": true`. It guards against a mix-up, not against somebody who may
write into the trust directory. The number is a UUID's (ITU-T X.667), so that it needs no registration.
"""

from __future__ import annotations

from mdoc.certificates import Certificate, der

OID = "2.25.74837786318284648358872538684076411462"
VALUE = b"\x05\x00"
_CONTENT = der.oid(OID)


def marked(certificate: Certificate) -> bool:
    return _CONTENT in certificate.extensions
