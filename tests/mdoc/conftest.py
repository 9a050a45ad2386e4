"""One authority, one phone and one reader, made once; each test runs sessions between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import statuslist
from mdoc.certificates import Anchor, TrustAnchors
from mdoc.engagement import BleOptions, build_engagement
from mdoc.holder import HolderSession
from mdoc.issue import Credential
from mdoc.reader import ReaderIdentity, ReaderSession, RequestedItems
from mdoc.statuslist import StatusLists
from mdoc.transcript import QrHandover
from mdoc.verdict import Verdict
from mdoc.verify import verify_response
from testbed import certificates
from testbed.authority import DOC_TYPE, NAME_SPACE, Authority, Person, canary_person
from tests.conftest import NOW

ASKED = RequestedItems(DOC_TYPE, {NAME_SPACE: ("agency_code", "card_type", "access_class")})


@dataclass
class World:
    authority: Authority
    person: Person
    device_key: ec.EllipticCurvePrivateKey
    credential: Credential
    index: int
    identity: ReaderIdentity
    reader_root: x509.Certificate
    trust: TrustAnchors = field(init=False)

    def __post_init__(self) -> None:
        self.trust = TrustAnchors([Anchor.from_certificate(self.authority.iaca)])

    def status(self, at: datetime = NOW) -> StatusLists:
        return StatusLists([statuslist.parse_token(self.authority.status_token(at), self.trust)])

    def session(self, items: RequestedItems | Sequence[RequestedItems] = ASKED) -> tuple[ReaderSession, HolderSession]:
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        engagement = build_engagement(ephemeral.public_key(), ble=BleOptions())
        reader = ReaderSession(engagement, QrHandover(), items, self.identity)
        phone = HolderSession(engagement, ephemeral, QrHandover())
        return reader, phone

    def verify(self, raw: bytes, reader: ReaderSession, at: datetime = NOW, **changes: Any) -> Verdict:
        settings: dict[str, Any] = {
            "transcript": reader.transcript,
            "reader_key": reader.ephemeral,
            "requested": reader.items,
            "trust": self.trust,
            "status": self.status(at),
            "now": at,
        }
        return verify_response(raw, **{**settings, **changes})

    def response(
        self,
        *,
        credential: Credential | None = None,
        device_key: ec.EllipticCurvePrivateKey | None = None,
        disclose: Mapping[str, tuple[str, ...]] | None = None,
        mac: bool = False,
        items: RequestedItems = ASKED,
    ) -> tuple[bytes, ReaderSession]:
        """One whole session; the decrypted response and the reader's side of it."""
        reader, phone = self.session(items)
        request = phone.receive(reader.start())
        assert request is not None
        wanted = disclose if disclose is not None else request.doc_requests[0].items.elements
        message = phone.respond(
            credential or self.credential,
            device_key or self.device_key,
            {space: tuple(elements) for space, elements in wanted.items()},
            mac=mac,
        )
        return reader.receive(message), reader


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder: Path = tmp_path_factory.mktemp("authority")
    random_bytes: Callable[[int], bytes] = os.urandom
    authority = Authority.create(folder, name="Test", now=NOW, random_bytes=random_bytes)
    person = canary_person(random_bytes, agency_code="1741000", card_type="staff", access_class="general")
    device_key = ec.generate_private_key(ec.SECP256R1())
    credential, index = authority.issue(device_key.public_key(), person, now=NOW)
    root_key, reader_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificates.root(
        root_key, "Readers", country="KR", not_before=NOW - timedelta(days=1), lifetime=timedelta(days=30)
    )
    leaf = certificates.reader(
        reader_key.public_key(), "Gate 1", issuer=root, issuer_key=root_key, not_before=NOW - timedelta(days=1)
    )
    return World(authority, person, device_key, credential, index, ReaderIdentity(reader_key, [leaf]), root)
