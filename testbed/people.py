"""The people of the demo: each has a phone with credentials of one kind, all of them made up."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from testbed.authority import MDL_DOC_TYPE, Authority, Person, canary_person
from testbed.building import Building
from testbed.phone.phone import Consent, Phone, agree_to_proved_readers
from testbed.phone.wallet import Held, Wallet

AGENCY = "1741000"
GENERAL, SECURE = "general", "secure"


class Crowd:
    """Issues phones and remembers every value it issued, so that a leak can be searched for."""

    def __init__(self, building: Building) -> None:
        self._building = building
        self.canaries: list[bytes] = []

    def person(self, *, card_type: str = "staff", access_class: str = GENERAL, agency_code: str = AGENCY) -> Person:
        return canary_person(os.urandom, agency_code=agency_code, card_type=card_type, access_class=access_class)

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
        return kind(wallet, self._building.clock, consent=consent)

    def licence_phone(self, kind: type[Phone]) -> Phone:
        """A phone that holds a mobile driving licence of a trusted issuer, and nothing else."""
        now = self._building.clock.now()
        key = ec.generate_private_key(ec.SECP256R1())
        person = self.person()
        elements = {"org.iso.18013.5.1": {"family_name": person.name, "document_number": person.employee_number}}
        credential, _ = self._building.authority.issue(
            key.public_key(), person, now=now, doc_type=MDL_DOC_TYPE, extra=elements
        )
        self._watch(person, key)
        wallet = Wallet([Held(credential, key)], [], [self._building.reader_root])
        return kind(wallet, self._building.clock)

    def expired(self, days: int = 3) -> Phone:
        now = self._building.clock.now()
        return self.phone(valid_from=now - timedelta(days=20), valid_until=now - timedelta(days=days))

    def not_yet_valid(self) -> Phone:
        return self.phone(valid_from=self._building.clock.now() + timedelta(days=2))

    def _watch(self, person: Person, *keys: ec.EllipticCurvePrivateKey) -> None:
        texts = (person.name, person.agency, person.department, person.grade, person.employee_number)
        self.canaries += [text.encode() for text in texts]
        self.canaries.append(person.portrait[8:40])
        for key in keys:
            point = key.public_key().public_numbers().x.to_bytes(32, "big")
            self.canaries += [point, point.hex().encode()]
