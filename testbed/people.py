"""The people of the demo: each has a phone with credentials of one kind, all of them made up."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent.denylist import key_entry
from mdoc import cbor
from mdoc.issue import Credential
from testbed.air import static_address
from testbed.authority import MDL_DOC_TYPE, NAME_SPACE, Authority, Person, canary_person
from testbed.building import Building
from testbed.canaries import WORD, Canaries
from testbed.card import hostile
from testbed.card.card import Card
from testbed.card.issuer import CardCredential
from testbed.card.piv import VirtualPivCard
from testbed.phone.phone import Consent, Phone, agree_to_proved_readers
from testbed.phone.wallet import Held, Wallet

AGENCY = "1741000"
GENERAL, SECURE = "general", "secure"


class Crowd:
    """Issues phones and remembers every value it issued, so that a leak can be searched for."""

    def __init__(self, building: Building) -> None:
        self._building = building
        self.canaries = Canaries()

    def person(self, *, card_type: str = "staff", access_class: str = GENERAL, agency_code: str = AGENCY) -> Person:
        """Words of the rules by their plain names."""
        words = [self._building.word(each) for each in (agency_code, card_type, access_class)]
        return canary_person(os.urandom, agency_code=words[0], card_type=words[1], access_class=words[2])

    def phone(
        self,
        person: Person | None = None,
        *,
        kind: type[Phone] = Phone,
        authority: Authority | None = None,
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
        consent: Consent = agree_to_proved_readers,
    ) -> Phone:
        """A phone with one credential and one QR pass of `authority` (default: the trusted one)."""
        person = person or self.person()
        issuer = authority or self._building.authority
        now = self._building.clock.now()
        key = ec.generate_private_key(ec.SECP256R1())
        credential, self.last_index = issuer.issue(
            key.public_key(), person, now=now, valid_from=valid_from, valid_until=valid_until
        )
        card, self.last_pass_index = issuer.issue_pass(person, now=now)
        wallet = Wallet([Held(credential, key)], [card], [self._building.reader_root])
        self._watch(person, key, card.key)
        self._watch_credential(credential, self.last_index, self.last_pass_index)
        return kind(wallet, self._building.clock, consent=consent, random_bytes=self._draw)

    def licence_phone(self, kind: type[Phone]) -> Phone:
        """A phone that holds a mobile driving licence of a trusted issuer, and nothing else."""
        now = self._building.clock.now()
        key = ec.generate_private_key(ec.SECP256R1())
        person = self.person()
        elements = {"org.iso.18013.5.1": {"family_name": person.name, "document_number": person.employee_number}}
        credential, index = self._building.authority.issue(
            key.public_key(), person, now=now, doc_type=MDL_DOC_TYPE, extra=elements
        )
        self._watch(person, key)
        self._watch_credential(credential, index)
        wallet = Wallet([Held(credential, key)], [], [self._building.reader_root])
        return kind(wallet, self._building.clock, random_bytes=self._draw)

    def card(self) -> VirtualPivCard:
        """A plastic card of the trusted authority."""
        return VirtualPivCard(self._card())

    def cloned_card(self) -> Card:
        """Everything that can be read from a genuine card, and another key behind it."""
        return hostile.wrong_key(self._card())

    def _card(self) -> CardCredential:
        credential = self._building.cards.issue(self._building.clock.now())
        for kind, value in credential.canaries.items():
            self.canaries.octets(f"card_{kind.removeprefix('card_')}", value)
        return credential

    def expired(self, days: int = 3) -> Phone:
        now = self._building.clock.now()
        return self.phone(valid_from=now - timedelta(days=20), valid_until=now - timedelta(days=days))

    def not_yet_valid(self) -> Phone:
        return self.phone(valid_from=self._building.clock.now() + timedelta(days=2))

    def _draw(self, size: int) -> bytes:
        """A phone's randomness: what it draws for a presentation names it for that long (testbed.phone)."""
        value = os.urandom(size)
        if size == 3:
            self.canaries.octets("nfc_uid", b"\x08" + value)
        elif size == 6:
            self.canaries.octets("ble_address", bytes(static_address(lambda _size: value)))
        elif size >= WORD:
            self.canaries.octets("presentation", value)
        return value

    def _watch(self, person: Person, *keys: ec.EllipticCurvePrivateKey) -> None:
        for kind in ("name", "agency", "department", "grade", "employee_number"):
            self.canaries.text(kind, getattr(person, kind))
        for kind in ("agency_code", "card_type", "access_class"):
            self.canaries.text(kind, getattr(person, kind))
        self.canaries.octets("portrait", person.portrait[8:40])
        for key in keys:
            self.canaries.digest("key", key.public_key().public_numbers().x.to_bytes(32, "big"))
            self.canaries.octets("key_thumbprint", key_entry(key.public_key()))

    def _watch_credential(self, credential: Credential, *indices: int) -> None:
        self.canaries.digest("credential", credential.issuer_auth[2])
        handle = credential.items.get(NAME_SPACE, {}).get("holder_handle")
        if handle is not None:
            self.canaries.octets("holder_handle", cbor.decode_map(handle.content)["elementValue"])
        for index in indices:
            self.canaries.number("status_index", index)
