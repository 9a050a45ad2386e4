"""The issuer's side: an MSO over salted items, signed by a document signer (18013-5 9.1.2). Used by the testbed and by tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import cbor, cose
from mdoc.cbor import Encoded
from mdoc.issuerlist import format_tdate
from mdoc.mso import HASH_NAMES


@dataclass(frozen=True, slots=True)
class Credential:
    """What an issuer hands to a phone: everything but the device's private key."""

    doc_type: str
    items: Mapping[str, Mapping[str, Encoded]]
    """{namespace: {element: IssuerSignedItemBytes}}"""
    issuer_auth: list[Any]


def issue(
    *,
    doc_type: str,
    elements: Mapping[str, Mapping[str, Any]],
    device_key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    signed: datetime,
    valid_from: datetime,
    valid_until: datetime,
    random_bytes: Callable[[int], bytes],
    status: tuple[str, int] | None = None,
    identifier: tuple[str, bytes] | None = None,
    status_certificate: x509.Certificate | None = None,
    authorized_name_spaces: Sequence[str] = (),
    authorized_elements: Mapping[str, Sequence[str]] | None = None,
    digest_algorithm: str = "SHA-256",
) -> Credential:
    """Issue one credential.

    `status` is (status list's address, index), `identifier` (identifier list's address, identifier); both lists' signer
    chains to `status_certificate` where one is given, else to the issuing authority. The authorizations say what the
    device key may sign itself.
    """
    items: dict[str, dict[str, Encoded]] = {}
    digests: dict[str, dict[int, bytes]] = {}
    for space, values in elements.items():
        items[space], digests[space] = {}, {}
        # Numbers in random order, so that a digest's number does not tell which element was left out.
        order = sorted(range(len(values)), key=lambda _: random_bytes(8))
        for number, (element, value) in zip(order, values.items(), strict=True):
            item = Encoded.wrap(
                cbor.encode(
                    {
                        "digestID": number,
                        "random": random_bytes(32),
                        "elementIdentifier": element,
                        "elementValue": value,
                    }
                )
            )
            items[space][element] = item
            digests[space][number] = hashlib.new(HASH_NAMES[digest_algorithm], item.raw).digest()
    body: dict[str, Any] = {
        "version": "1.0",
        "digestAlgorithm": digest_algorithm,
        "valueDigests": digests,
        "deviceKeyInfo": {"deviceKey": cose.cose_key(device_key)},
        "docType": doc_type,
        "validityInfo": {
            "signed": format_tdate(signed),
            "validFrom": format_tdate(valid_from),
            "validUntil": format_tdate(valid_until),
        },
    }
    authorizations: dict[str, Any] = {}
    if authorized_name_spaces:
        authorizations["nameSpaces"] = list(authorized_name_spaces)
    if authorized_elements:
        authorizations["dataElements"] = {space: list(names) for space, names in authorized_elements.items()}
    if authorizations:
        body["deviceKeyInfo"]["keyAuthorizations"] = authorizations
    vouched = {} if status_certificate is None else {"certificate": status_certificate.public_bytes(Encoding.DER)}
    lists: dict[str, Any] = {}
    if status is not None:
        lists["status_list"] = {"idx": status[1], "uri": status[0], **vouched}
    if identifier is not None:
        lists["identifier_list"] = {"id": identifier[1], "uri": identifier[0], **vouched}
    if lists:
        body["status"] = lists
    issuer_auth = cose.build_sign1(
        signer,
        Encoded.wrap(cbor.encode(body)).raw,
        unprotected={cose.X5CHAIN: certificate.public_bytes(Encoding.DER)},
    )
    return Credential(doc_type, items, issuer_auth)
