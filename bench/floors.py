"""Floors: the least that must be done for a verification, in straight calls to the libraries and nothing of ours.

Signatures (two with the document signer's certificate known, three without), one decode of every CBOR layer, hashing of the
items. No chain policy, no dates, no strictness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils


def _verify(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> None:
    der = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    key.verify(der, message, ec.ECDSA(hashes.SHA256()))


def _bstr(value: bytes) -> bytes:
    return cbor2.dumps(value)


def verification(response: bytes, transcript: bytes, root: x509.Certificate, *, cached: bool) -> Callable[[], object]:
    """A call that does the floor's work for `response` (P-256, SHA-256, device signature)."""
    document = cbor2.loads(response)["documents"][0]
    certificate_der: bytes = document["issuerSigned"]["issuerAuth"][1][33]
    signer = x509.load_der_x509_certificate(certificate_der).public_key()
    root_key = root.public_key()
    if not isinstance(signer, ec.EllipticCurvePublicKey) or not isinstance(root_key, ec.EllipticCurvePublicKey):
        raise TypeError("the floor is written for P-256")

    def run() -> Any:
        body = cbor2.loads(response)["documents"][0]
        issuer = body["issuerSigned"]
        protected, header, payload, signature = issuer["issuerAuth"]
        key = signer
        if not cached:
            leaf = x509.load_der_x509_certificate(header[33])
            root_key.verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
            found = leaf.public_key()
            if isinstance(found, ec.EllipticCurvePublicKey):
                key = found
        _verify(key, signature, b"\x84\x6aSignature1" + _bstr(protected) + b"\x40" + _bstr(payload))
        security_object = cbor2.loads(cbor2.loads(payload).value)
        for space, items in issuer["nameSpaces"].items():
            digests = security_object["valueDigests"][space]
            for item in items:
                content = item.value
                raw = b"\xd8\x18" + _bstr(content)
                if digests[cbor2.loads(content)["digestID"]] != hashlib.sha256(raw).digest():
                    raise ValueError("digest")
        point = security_object["deviceKeyInfo"]["deviceKey"]
        device = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point[-2] + point[-3])
        protected, _, _, signature = body["deviceSigned"]["deviceAuth"]["deviceSignature"]
        proof = (
            b"\x84\x74DeviceAuthentication"
            + transcript
            + cbor2.dumps(body["docType"])
            + b"\xd8\x18"
            + _bstr(body["deviceSigned"]["nameSpaces"].value)
        )
        tagged = b"\xd8\x18" + _bstr(proof)
        _verify(device, signature, b"\x84\x6aSignature1" + _bstr(protected) + b"\x40" + _bstr(tagged))

    return run
