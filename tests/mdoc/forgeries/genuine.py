"""Genuine presentations of every kind that is forged: what is refused elsewhere differs from one of these in one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mdoc.request import RequestedItems
from tests.mdoc.forgeries import x509
from tests.mdoc.forgeries.builder import (
    ASKED,
    DOC_TYPE,
    IDENTIFIER_URI,
    KID,
    ROOT,
    SPACE,
    STATUS_URI,
    Gate,
    Plan,
    anchors,
    identifier_token,
    issuer_list,
    lists,
    response,
    root_der,
    signer_der,
    status_token,
    vical_token,
    vical_trust,
)
from tests.mdoc.forgeries.wire import Tagged, put
from tests.mdoc.forgeries.x509 import key

MDL = "org.iso.18013.5.1.mDL"
MDL_SPACE = "org.iso.18013.5.1"
MDL_ELEMENTS = {MDL_SPACE: {"family_name": "Doe", "age_over_18": True}}
MDL_ASKED = RequestedItems(MDL, {MDL_SPACE: ("family_name", "age_over_18")})
VISITOR = Plan(doc_type=MDL, elements=MDL_ELEMENTS, device=key(11), salt="visitor")
TWO = Gate(asked=(ASKED, MDL_ASKED))

STATUS = {"status_list": {"idx": 3, "uri": STATUS_URI}}
IDENTIFIERS = {"identifier_list": {"id": b"good", "uri": IDENTIFIER_URI}}
SAID = {SPACE: {"agency_code": "1741000"}}
DEVICE_ASKED = RequestedItems(
    DOC_TYPE, {**ASKED.elements, SPACE: (*ASKED.elements[SPACE], "locker")}, required=ASKED.elements
)


def authorized(elements: Mapping[str, list[str]] | None = None, spaces: list[str] | None = None) -> Plan:
    """The device says {locker: 7} of its own, which the issuer authorized."""
    allowed: dict[str, object] = {}
    if elements is not None:
        allowed["dataElements"] = elements
    if spaces is not None:
        allowed["nameSpaces"] = spaces
    return Plan(
        mso=lambda body: {**body, "deviceKeyInfo": {**body["deviceKeyInfo"], "keyAuthorizations": allowed}},
        device_spaces=put(SPACE, {"locker": 7}),
    )


def _signed_with(curve: str) -> tuple[Plan, Gate]:
    private = key(20, curve)
    root = key(21, curve)
    draft = x509.signer(private, root)
    return Plan(key=private, chain=[draft.der()]), Gate(trust=anchors(x509.root(root).der()))


def _reader_on(curve: str) -> tuple[Plan, Gate]:
    reader = key(22, curve)
    return Plan(device=key(23, curve), reader=reader, mac=True), Gate(reader=reader)


def presentations() -> dict[str, tuple[bytes, Gate]]:
    """Name to response and what the gate knows. Every one is accepted."""
    found: dict[str, tuple[bytes, Gate]] = {
        "signature": (response(Plan()), Gate()),
        "MAC": (response(Plan(mac=True)), Gate()),
        "x5chain in an array": (
            response(Plan(unprotected=lambda header: {33: [header[33]]})),
            Gate(),
        ),
        "x5chain with the root": (response(Plan(chain=[signer_der(), root_der()])), Gate()),
        "two documents": (response(Plan(), VISITOR), TWO),
        "an issuer by kid": (response(Plan(kid=KID)), Gate(trust=anchors(issuers=issuer_list()))),
        "an issuer by kid with status": (
            response(Plan(kid=KID, status=STATUS)),
            Gate(trust=anchors(root_der(), issuers=issuer_list()), status=lists(status_token())),
        ),
        "status list": (response(Plan(status=STATUS)), Gate(status=lists(status_token()))),
        "identifier list": (response(Plan(status=IDENTIFIERS)), Gate(status=lists(identifier_token()))),
        "both lists": (
            response(Plan(status={**STATUS, **IDENTIFIERS})),
            Gate(status=lists(status_token(), identifier_token())),
        ),
        "SHA-384 digests": (response(Plan(digest="SHA-384")), Gate()),
        "SHA-512 digests": (response(Plan(digest="SHA-512")), Gate()),
        "a revocation list without the signer": (
            response(Plan()),
            Gate(trust=anchors(root_der(), crls=[x509.revocation_list(ROOT, [5])])),
        ),
        "a VICAL": (response(Plan()), Gate(trust=vical_trust(vical_token()))),
        "a root and its renewal for ever, by an uncertain clock": (
            response(Plan()),
            Gate(trust=anchors(root_der(), _renewed()), more={"skew": timedelta(minutes=3)}),
        ),
        "23220-4's purpose": (
            response(Plan(chain=[x509.signer(key(2), ROOT, purpose=x509.MDOC_DS).der()])),
            Gate(),
        ),
        "a device-signed element": (response(authorized({SPACE: ["locker"]})), Gate(asked=DEVICE_ASKED)),
        "a device-signed element of an authorized namespace": (
            response(authorized(spaces=[SPACE])),
            Gate(asked=DEVICE_ASKED),
        ),
        "tagged as COSE": (response(Plan(issuer_auth=lambda array: Tagged(18, array))), Gate()),
        "nil for the other kind of proof": (
            response(Plan(device_auth=lambda auth: {**auth, "deviceMac": None})),
            Gate(),
        ),
        "a payload attached that is the same": (response(_attached()), Gate()),
    }
    for curve in ("secp384r1", "secp521r1", "ed25519", "ed448", "brainpoolP256r1"):
        plan, gate = _signed_with(curve)
        found[f"issuer key on {curve}"] = response(plan), gate
        found[f"device key on {curve}"] = response(Plan(device=key(24, curve))), Gate()
    for curve in ("secp384r1", "secp521r1"):
        plan, gate = _reader_on(curve)
        found[f"MAC on {curve}"] = response(plan), gate
    return found


def _renewed() -> bytes:
    """RFC 5280 4.1.2.5: the end of time, where there is none."""
    return replace(x509.root(ROOT), serial=77, end=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)).der()


def _attached() -> Plan:
    content: list[bytes] = []

    def keep(detached: bytes) -> bytes:
        content.append(detached)
        return detached

    return Plan(device_detached=keep, device_cose=lambda array: [*array[:2], content[-1], array[3]])
