"""Plastic cards and PKOC keys for `fuzz.targets`: parsers of what a card says, and of the signed list of keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from card import apdu, chuid, piv, piv_certificate, pkoc
from card.anchors import CardAnchors, Terms
from card.keys import card_key, holds
from card.profile import CARD_AUTHENTICATION_PROFILE
from card.verify import Enrolment, verify_piv
from fuzz.world import NOW
from gate_agent import enrolled
from gate_agent.denylist import key_entry
from mdoc import cbor, cose, crl
from mdoc.cbor import Tag
from mdoc.certificates import broken_rule, read, remarks
from protocol.signed import open_signed
from testbed.card.issuer import CardIssuer
from testbed.card.keys import KeyKind
from testbed.card.piv import CERTIFICATE, CHUID, VirtualPivCard
from testbed.card.pkoc import VirtualPkocCard

NONCE = bytes(32)
SIZES = apdu.Sizes()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made:
    """One authority, one card of it, what the card answers, and one list of keys."""

    anchors: CardAnchors
    authority: bytes
    answer: piv.CardAnswer
    list_key: ec.EllipticCurvePrivateKey
    messages: Mapping[str, bytes]

    def key_list(self, payload: bytes) -> bytes:
        """A good signature around any payload."""
        header = {cose.TYP: enrolled.TYPE}
        return cbor.encode(Tag(cose.TAG_SIGN1, cose.build_sign1(self.list_key, payload, protected=header)))


def answered(steps: Generator[bytes, bytes, T], answers: Iterator[bytes]) -> T:
    """A card that answers whatever it likes; after its last answer every command fails."""
    try:
        next(steps)
        while True:
            steps.send(next(answers, b"\x6f\x00"))
    except StopIteration as done:
        found: T = done.value
        return found


@lru_cache(maxsize=1)
def made() -> Made:
    """Made once per process."""
    issuer = CardIssuer("Fuzz", NOW)
    root = read(issuer.root.public_bytes(Encoding.DER))
    credential = issuer.issue(NOW)
    rsa = issuer.issue(NOW, kind=KeyKind.RSA_2048)
    lists = [crl.parse(raw, [root], holds=holds) for raw in issuer.crls(NOW).values()]
    anchors = CardAnchors([root], crls=lists, terms={root.fingerprint(): Terms("1741000", "staff", "general")})
    card = VirtualPivCard(credential)
    card.transmit(apdu.select(piv.AID))
    responses: list[bytes] = []

    def noted(steps: Generator[bytes, bytes, T], transmit: Callable[[bytes], bytes]) -> T:
        try:
            command = next(steps)
            while True:
                responses.append(transmit(command))
                command = steps.send(responses[-1])
        except StopIteration as done:
            found: T = done.value
            return found

    answer = noted(piv.read(NONCE, SIZES), card.transmit)
    key = ec.generate_private_key(ec.SECP256R1())
    pkoc_card = VirtualPkocCard(key)
    pkoc_card.transmit(apdu.select(pkoc.AID))
    said = pkoc_card.transmit(next(pkoc.read(bytes(16), bytes(32), SIZES)))
    list_key = ec.generate_private_key(ec.SECP256R1())
    enrolment = Enrolment(Terms("1741000", "staff", "general"), NOW - timedelta(days=1), NOW + timedelta(days=1))
    signed = enrolled.build(
        [(enrolment, [key_entry(key.public_key()), os.urandom(32)])], version=1, date=NOW, key=list_key
    )
    payload = cbor.encode(open_signed(signed, list_key.public_key(), enrolled.TYPE, "key list"))
    der = credential.certificate.public_bytes(Encoding.DER)
    messages = {
        "piv_object": card.objects[CERTIFICATE],
        "piv_object_gzip": VirtualPivCard(credential, compressed=True).objects[CERTIFICATE],
        "chuid": card.objects[CHUID],
        "card_certificate": der,
        "card_certificate_rsa": rsa.certificate.public_bytes(Encoding.DER),
        "pkoc": said[:-2],
        "key_list": signed,
        "key_list_payload": payload,
        # The exchange itself, with two bytes of length before each answer.
        "piv_answers": b"".join(len(each).to_bytes(2) + each for each in responses),
    }
    return Made(anchors, root.der, answer, list_key, messages)


def piv_object(data: bytes) -> None:
    piv_certificate.parse(data)


def piv_chuid(data: bytes) -> None:
    chuid.parse(data)


def piv_exchange(data: bytes) -> None:
    """Never accepted but with a signature over this nonce, which no changed answer has."""
    answers = []
    at = 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2])
        answers.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    answer = answered(piv.read(NONCE, SIZES), iter(answers))
    verdict = verify_piv(answer, made().anchors, now=NOW)
    if verdict.accepted and answer.certificate != made().answer.certificate:
        raise AssertionError("accepted another certificate than the genuine one")


def card_certificate(data: bytes) -> None:
    """A certificate that nobody signed is never accepted."""
    certificate, authority = read(data), read(made().authority)
    for issuer in (None, authority):
        broken_rule(certificate, CARD_AUTHENTICATION_PROFILE, issuer=issuer)
    remarks(certificate, CARD_AUTHENTICATION_PROFILE, authority)
    verdict = verify_piv(replace(made().answer, certificate=certificate), made().anchors, now=NOW)
    if verdict.accepted and certificate != made().answer.certificate:
        raise AssertionError("accepted another certificate than the genuine one")
    card_key(certificate.public_key_info)


def pkoc_answer(data: bytes) -> None:
    pkoc.PkocAnswer.parse(data).key()


def key_list(data: bytes) -> None:
    enrolled.parse(data, made().list_key.public_key())


def key_list_payload(data: bytes) -> None:
    key_list(made().key_list(data))
