"""Genuine presentations as other issuers and wallets write them, made with an encoder of our own for each habit seen."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import session
from mdoc.response import DeviceResponse
from mdoc.statuslist import StatusLists
from mdoc.verdict import Verdict
from testbed.authority import DOC_TYPE, NAME_SPACE
from tests.conftest import NOW
from tests.mdoc.conftest import World
from tests.mdoc.forge import ARRAY, BYTES, MAP, TAG, TEXT, UINT, UNDEFINED_VALUE, Tagged, write

_SEOUL = timezone(timedelta(hours=9))
ELEMENTS = {"agency_code": "1741000", "card_type": "staff", "access_class": "general"}
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_CURVES = {"secp256r1": (1, -7, hashes.SHA256()), "secp384r1": (2, -35, hashes.SHA384())}


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Producer:
    """One way of writing a presentation. The defaults are the standard's letter."""

    wide: dict[int, int] = field(default_factory=dict)
    """Width of the heads of a major type, in everything that is written."""
    digest_ids: tuple[int, ...] = (0, 1, 2)
    random: int = 32
    date: Callable[[datetime], Any] = lambda moment: Tagged(0, _date(moment))
    algorithm: str = "SHA-256"
    issuer_header: dict[Any, Any] = field(default_factory=dict)
    """More for the unprotected header of issuerAuth."""
    device_header: dict[Any, Any] = field(default_factory=dict)
    chain_in_array: bool = False
    cose_tag: bool = False
    attach: bool | bytes = False
    """Attach the device payload, or these bytes in its place."""
    device_key: Key = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    key_form: Callable[[dict[int, Any]], dict[int, Any]] = lambda key: key
    """How the issuer writes the device key."""
    turned: bool = False
    """Members of items and MSO in another order."""
    extra: dict[str, Any] = field(default_factory=dict)
    """More members of the response."""
    version: str = "1.0"
    mso: dict[str, Any] = field(default_factory=dict)
    """More members of the MSO."""
    mac: bool = False
    mac_without_aad: bool = False
    beside: dict[str, Any] = field(default_factory=dict)
    """More members of deviceAuth."""

    def present(self, world: World) -> tuple[bytes, Any]:
        reader, _ = world.session()
        issuer_auth, items = self._issued(world)
        spaces = self._encoded({})
        # What is signed is the standard's array with shortest heads: that is what every reader rebuilds.
        plain = (
            b"\x84" + write("DeviceAuthentication") + reader.transcript.raw + write(DOC_TYPE) + write(spaces, self.wide)
        )
        proof = Tagged(24, plain)
        device_auth = {**self.beside, **self._device_auth(write(proof), reader)}
        document = {
            "docType": DOC_TYPE,
            "issuerSigned": {"nameSpaces": {NAME_SPACE: items}, "issuerAuth": issuer_auth},
            "deviceSigned": {"nameSpaces": spaces, "deviceAuth": device_auth},
        }
        body = {"version": self.version, "documents": [document], "status": 0, **self.extra}
        return write(body, self.wide), reader

    def _encoded(self, value: Any) -> Tagged:
        return Tagged(24, write(value, self.wide))

    def _map(self, members: dict[str, Any]) -> dict[str, Any]:
        return dict(reversed(members.items())) if self.turned else members

    def _issued(self, world: World) -> tuple[Any, list[Tagged]]:
        items, digests = [], {}
        for number, (element, value) in zip(self.digest_ids, ELEMENTS.items(), strict=True):
            item = self._encoded(
                self._map(
                    {
                        "digestID": number,
                        "random": os.urandom(self.random),
                        "elementIdentifier": element,
                        "elementValue": value,
                    }
                )
            )
            items.append(item)
            digests[number] = hashlib.new(self.algorithm.replace("-", ""), write(item, self.wide)).digest()
        mso = {
            "version": "1.0",
            "digestAlgorithm": self.algorithm,
            "valueDigests": {NAME_SPACE: digests},
            "deviceKeyInfo": {"deviceKey": self.key_form(self._cose_key())},
            "docType": DOC_TYPE,
            "validityInfo": {
                "signed": self.date(NOW.replace(microsecond=210391)),
                "validFrom": self.date(NOW.replace(microsecond=210391)),
                "validUntil": self.date(NOW.replace(year=NOW.year + 1)),
            },
            **self.mso,
        }
        payload = write(self._encoded(self._map(mso)), self.wide)
        der = world.authority.document_signer.public_bytes(Encoding.DER)
        unprotected = {33: [der] if self.chain_in_array else der, **self.issuer_header}
        protected = write({1: -7})
        signature = _raw(world.authority.signer_key, _structure("Signature1", protected, payload))
        sign1: Any = [protected, unprotected, payload, signature]
        return (Tagged(18, sign1) if self.cose_tag else sign1), items

    def _cose_key(self) -> dict[int, Any]:
        if isinstance(self.device_key, ed25519.Ed25519PrivateKey):
            return {1: 1, -1: 6, -2: self.device_key.public_key().public_bytes_raw()}
        numbers = self.device_key.public_key().public_numbers()
        curve, _, _ = _CURVES[self.device_key.curve.name]
        size = self.device_key.curve.key_size // 8
        return {1: 2, -1: curve, -2: numbers.x.to_bytes(size, "big"), -3: numbers.y.to_bytes(size, "big")}

    def _device_auth(self, proof: bytes, reader: Any) -> dict[str, Any]:
        payload: Any = proof if self.attach is True else self.attach or None
        if self.mac:
            assert isinstance(self.device_key, ec.EllipticCurvePrivateKey)
            protected = write({1: 5})
            key = session.emac_key(self.device_key, reader.ephemeral.public_key(), reader.transcript.salt)
            array: list[Any] = ["MAC0", protected, proof] if self.mac_without_aad else ["MAC0", protected, b"", proof]
            tag = hmac.digest(key, write(array), "sha256")
            return {"deviceMac": [protected, self.device_header, payload, tag]}
        algorithm = -8
        if isinstance(self.device_key, ec.EllipticCurvePrivateKey):
            _, algorithm, _ = _CURVES[self.device_key.curve.name]
        protected = write({1: algorithm})
        sign1: Any = [
            protected,
            self.device_header,
            payload,
            _raw(self.device_key, _structure("Signature1", protected, proof)),
        ]
        return {"deviceSignature": Tagged(18, sign1) if self.cose_tag else sign1}


def _structure(context: str, protected: bytes, payload: bytes) -> bytes:
    return write([context, protected, b"", payload])


def _raw(key: Key, message: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    _, _, new_hash = _CURVES[key.curve.name]
    size = key.curve.key_size // 8
    return b"".join(
        number.to_bytes(size, "big") for number in decode_dss_signature(key.sign(message, ec.ECDSA(new_hash)))
    )


def verdict_of(world: World, producer: Producer) -> Verdict:
    raw, reader = producer.present(world)
    return world.verify(raw, reader, status=StatusLists(), at=NOW.replace(microsecond=500000))


def _without_zeros(key: dict[int, Any]) -> dict[int, Any]:
    return {**key, -2: key[-2].lstrip(b"\0"), -3: key[-3].lstrip(b"\0")}


BOTH_SHORT = 49350
"""A private key on P-256 both of whose public coordinates begin with a zero byte; so do those of one key in 65,536."""

ACCEPTED: dict[str, Callable[[], Producer]] = {
    "the standard's letter": Producer,
    "16-bit map heads": lambda: Producer(wide={MAP: 2}),
    "16-bit heads of everything": lambda: Producer(wide=dict.fromkeys((BYTES, TEXT, ARRAY, MAP), 2)),
    "64-bit heads of numbers and tags": lambda: Producer(wide={UINT: 8, TAG: 8}),
    "undefined kid in the unprotected headers": lambda: Producer(
        issuer_header={4: UNDEFINED_VALUE}, device_header={4: UNDEFINED_VALUE}
    ),
    "a kid beside x5chain": lambda: Producer(issuer_header={4: b"key-1"}),
    "digestIDs of 32 bits": lambda: Producer(digest_ids=(4294967295, 2147483648, 7)),
    "random of 16 bytes": lambda: Producer(random=16),
    "microseconds in every date": lambda: Producer(date=lambda at: Tagged(0, at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))),
    "dates with the offset of Seoul": lambda: Producer(date=lambda at: Tagged(0, at.astimezone(_SEOUL).isoformat())),
    "members in another order": lambda: Producer(turned=True),
    "x5chain as an array of one": lambda: Producer(chain_in_array=True),
    "tagged COSE structures": lambda: Producer(cose_tag=True),
    "the device payload attached": lambda: Producer(attach=True),
    "the device payload attached to a MAC": lambda: Producer(attach=True, mac=True),
    "SHA-384": lambda: Producer(algorithm="SHA-384"),
    "SHA-512": lambda: Producer(algorithm="SHA-512"),
    "a device key on P-384": lambda: Producer(device_key=ec.generate_private_key(ec.SECP384R1())),
    "an Ed25519 device key": lambda: Producer(device_key=ed25519.Ed25519PrivateKey.generate()),
    "a device MAC": lambda: Producer(mac=True),
    "members of version 1.1": lambda: Producer(
        version="1.1", extra={"zkDocuments": [{"proof": b"1"}], "otherDocuments": [], "documentErrors": [{"other": 0}]}
    ),
    "undefined for what the MSO leaves out": lambda: Producer(mso={"status": UNDEFINED_VALUE}),
    "undefined for the deviceMac that is not used (@animo-id/mdoc up to 0.3)": lambda: Producer(
        beside={"deviceMac": UNDEFINED_VALUE}
    ),
    "null for the deviceSignature that is not used": lambda: Producer(mac=True, beside={"deviceSignature": None}),
    "a device key without its leading zeros (pymdoccbor from PEM)": lambda: Producer(
        device_key=ec.derive_private_key(BOTH_SHORT, ec.SECP256R1()), key_form=_without_zeros
    ),
    "an Ed25519 device key with the curve's name (pymdoccbor from PEM)": lambda: Producer(
        device_key=ed25519.Ed25519PrivateKey.generate(), key_form=lambda key: {**key, -1: "Ed25519"}
    ),
    "unknown members of the MSO": lambda: Producer(mso={"x-issuer": {"any": [1, 2]}}),
}
REFUSED: dict[str, tuple[Callable[[], Producer], str]] = {
    "a MAC without external_aad": (lambda: Producer(mac=True, mac_without_aad=True), "wrong_session"),
    "other bytes in place of the session": (lambda: Producer(attach=b"another session"), "wrong_session"),
    "an empty payload in place of the session": (lambda: Producer(attach=b"\x40"), "wrong_session"),
    "random of 15 bytes": (lambda: Producer(random=15), "malformed"),
    "dates without a tag": (lambda: Producer(date=_date), "malformed"),
    "dates as numbers": (lambda: Producer(date=lambda at: Tagged(1, int(at.timestamp()))), "malformed"),
    "a date of no calendar": (lambda: Producer(date=lambda at: Tagged(0, "2026-02-30T00:00:00Z")), "malformed"),
    "a date without a zone": (lambda: Producer(date=lambda at: Tagged(0, "2026-02-01T00:00:00")), "malformed"),
    "both kinds of device authentication": (lambda: Producer(beside={"deviceMac": [b"", {}, None, b""]}), "malformed"),
    "a third kind beside the signature": (lambda: Producer(beside={"deviceSeal": b""}), "malformed"),
    "a device key with a zero too many": (
        lambda: Producer(key_form=lambda key: {**key, -2: b"\0" + key[-2]}),
        "malformed",
    ),
    "a P-256 device key with the curve's name": (
        lambda: Producer(key_form=lambda key: {**key, -1: "P-256"}),
        "malformed",
    ),
    "a digest id twice": (lambda: Producer(digest_ids=(1, 1, 2)), "altered"),
    "crit in the unprotected header": (lambda: Producer(issuer_header={2: [4]}), "malformed"),
    "the algorithm a second time": (lambda: Producer(issuer_header={1: -7}), "malformed"),
    "the device's algorithm a second time": (lambda: Producer(device_header={1: -7}), "malformed"),
    "a status of an unknown kind": (lambda: Producer(mso={"status": {"other_list": {}}}), "status_unknown"),
    "a status list without an index": (lambda: Producer(mso={"status": {"status_list": {"uri": "x"}}}), "malformed"),
    "a digest algorithm in small letters": (lambda: Producer(mso={"digestAlgorithm": "sha-256"}), "malformed"),
    "an MSO of version 2": (lambda: Producer(mso={"version": "2.0"}), "malformed"),
    "an MSO of another document": (lambda: Producer(mso={"docType": "org.example.1"}), "wrong_document_type"),
    "no device key": (lambda: Producer(mso={"deviceKeyInfo": {}}), "malformed"),
    "a response of version 2": (lambda: Producer(version="2.0"), "malformed"),
    "an error status beside a document": (lambda: Producer(extra={"status": 10}), "malformed"),
}


def test_a_clock_of_whole_seconds_accepts_what_was_signed_within_this_second(world: World) -> None:
    """isomdoc up to 0.0.4 writes microseconds, and `gwanmun inspect --at` is given whole seconds."""
    raw, reader = Producer(date=lambda at: Tagged(0, at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))).present(world)
    assert world.verify(raw, reader, status=StatusLists(), at=NOW.replace(microsecond=0)).accepted
    before = world.verify(raw, reader, status=StatusLists(), at=NOW.replace(microsecond=0) - timedelta(microseconds=1))
    assert before.reason == "not_yet_valid"


@pytest.mark.parametrize("habit", ACCEPTED)
def test_accepts(world: World, habit: str) -> None:
    verdict = verdict_of(world, ACCEPTED[habit]())
    assert verdict.reason is None, verdict.checks
    assert verdict.elements == {NAME_SPACE: ELEMENTS}


@pytest.mark.parametrize("habit", REFUSED)
def test_refuses(world: World, habit: str) -> None:
    make, reason = REFUSED[habit]
    assert verdict_of(world, make()).reason == reason


def test_a_key_of_another_kind_than_the_algorithm_says_is_refused(world: World) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    raw, reader = Producer(device_key=key).present(world)
    forged = raw.replace(write({1: -35}), write({1: -36}))
    assert forged != raw
    verdict = world.verify(forged, reader, status=StatusLists(), at=NOW.replace(microsecond=500000))
    assert verdict.reason == "wrong_session"


def test_members_of_version_1_1_are_kept_as_received(world: World) -> None:
    producer = Producer(version="1.1", extra={"zkDocuments": [{"proof": b"1"}]}, wide={ARRAY: 2})
    raw, _ = producer.present(world)
    parsed = DeviceResponse.parse(raw)
    assert parsed.other == {"zkDocuments": write([{"proof": b"1"}], {ARRAY: 2})}
    assert len(parsed.documents) == 1
