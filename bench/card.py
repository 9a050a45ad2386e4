"""A plastic card from field-on to the verdict: our share measured, air, reader and card modelled from the bytes of the real
exchange, at 424 kbit/s (PC/SC). testbed.phone.nfc_air says what of the air is standard and what an estimate.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding

from bench.row import Row, alternate, quantile
from card import apdu, piv, pkoc
from card.anchors import CardAnchors, Terms
from card.keys import holds
from card.verify import Enrolment, verify_piv, verify_pkoc
from mdoc import crl
from mdoc.certificates.structure import read
from mdoc.type4tag import SELECT_APPLICATION
from testbed.card.issuer import CardIssuer
from testbed.card.keys import KeyKind
from testbed.card.piv import VirtualPivCard
from testbed.card.pkoc import VirtualPkocCard
from testbed.phone.nfc_air import CCID, CCID_POLL_S, Air, Lognormal
from testbed.phone.nfc_time import START

SECONDS = 1.5
TAPS = 400
SEED = 73
KINDS = (KeyKind.P256, KeyKind.P384, KeyKind.RSA_2048, KeyKind.RSA_3072)
TERMS = Terms("1741000", "staff", "general")

CARD_APDU = Lognormal(0.008, 0.25)
"""A card's operating system, one command: estimate."""
CARD_SIGN: Mapping[KeyKind, Lognormal] = {
    KeyKind.P256: Lognormal(0.110, 0.25),
    KeyKind.P384: Lognormal(0.190, 0.25),
    KeyKind.RSA_2048: Lognormal(0.350, 0.25),
    KeyKind.RSA_3072: Lognormal(0.900, 0.25),
}
"""The signature, on a dual-interface card fed by the field: estimates from vendors' figures for card coprocessors, until
somebody measures a card."""


@dataclass(frozen=True, slots=True)
class Tap:
    """One card's exchange as recorded, and what verifies it."""

    exchanges: list[tuple[bytes, bytes]]
    verify: Callable[[], object]
    floor: Callable[[], object]


def piv_tap(issuer: CardIssuer, kind: KeyKind) -> Tap:
    credential = issuer.issue(START, kind=kind)
    root = read(issuer.root.public_bytes(Encoding.DER))
    lists = [crl.parse(raw, [root], holds=holds) for raw in issuer.crls(START).values()]
    anchors = CardAnchors([root], crls=lists, terms={root.fingerprint(): TERMS})
    card, nonce = VirtualPivCard(credential), bytes(32)
    exchanges = [(SELECT_APPLICATION, b"\x6a\x82")]
    found: list[piv.CardAnswer] = []

    def recorded(command: bytes) -> bytes:
        response = card.transmit(command)
        exchanges.append((command, response))
        return response

    recorded(apdu.select(piv.AID))
    steps = piv.read(nonce, apdu.Sizes())
    try:
        command = next(steps)
        while True:
            command = steps.send(recorded(command))
    except StopIteration as done:
        found.append(done.value)
    (answer,) = found

    def verify() -> None:
        verdict = verify_piv(answer, anchors, now=START)
        if not verdict.accepted:
            raise RuntimeError(f"the benchmark's own card was refused: {verdict.checks}")

    public, authority, certificate = credential.key.public_key(), issuer.root.public_key(), credential.certificate
    digest, signature = sha256(nonce).digest(), answer.signature or b""
    prehashed = Prehashed(hashes.SHA384() if kind is KeyKind.P384 else hashes.SHA256())

    def floor() -> None:
        """The two signatures and nothing else, by keys at hand."""
        if isinstance(authority, ec.EllipticCurvePublicKey):
            authority.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, digest, padding.PKCS1v15(), prehashed)
        elif answer.challenge is not None:
            public.verify(signature, answer.challenge.digest, ec.ECDSA(prehashed))

    return Tap(exchanges, verify, floor)


def pkoc_tap() -> Tap:
    key, transaction_id = ec.generate_private_key(ec.SECP256R1()), bytes(16)
    card = VirtualPkocCard(key)
    exchanges = [(SELECT_APPLICATION, b"\x6a\x82"), (apdu.select(piv.AID), b"\x6a\x82")]
    command = apdu.select(pkoc.AID)
    exchanges.append((command, card.transmit(command)))
    command = next(pkoc.read(transaction_id, bytes(32), apdu.Sizes()))
    response = card.transmit(command)
    exchanges.append((command, response))
    answer = pkoc.PkocAnswer.parse(response[:-2])
    enrolment = Enrolment(TERMS, START, START.replace(year=START.year + 1))
    public = key.public_key()

    def verify() -> None:
        if not verify_pkoc(answer, answer.key(), transaction_id, enrolment, now=START).accepted:
            raise RuntimeError("the benchmark's own key was refused")

    return Tap(exchanges, verify, lambda: answer.signed_by(public, transaction_id))


def modelled(tap: Tap, sign: Lognormal, source: random.Random, air: Air) -> float:
    """Seconds from field-on to the last byte, of one tap."""
    total = source.uniform(0.0, CCID_POLL_S) + air.activation().total
    last = len(tap.exchanges) - 1
    for number, (command, response) in enumerate(tap.exchanges):
        processing = CARD_APDU.draw(source) + (sign.draw(source) if number == last else 0.0)
        total += air.exchange(len(command), len(response), processing).total
    return total


def _rows(name: str, tap: Tap, sign: Lognormal, target: float | None) -> list[Row]:
    ours, floor = alternate([tap.verify, tap.floor], seconds=SECONDS)
    samples = []
    for _ in range(TAPS):
        begin = time.perf_counter()
        tap.verify()
        samples.append((time.perf_counter() - begin) * 1000)
    source = random.Random(SEED)  # noqa: S311  # repeatable, not secret
    share = quantile(samples, 0.5)
    totals = [modelled(tap, sign, source, Air(CCID)) * 1000 + share for _ in range(TAPS)]
    small = [modelled(tap, sign, source, Air(CCID, frame_down=64, frame_up=64)) * 1000 + share for _ in range(TAPS)]
    sent = sum(len(command) + len(response) for command, response in tap.exchanges)
    return [
        Row(f"card {name}, verify", ours, "µs", floor),
        Row(f"card {name}, ours from the last byte, p99 of {TAPS}", quantile(samples, 0.99), "ms", None, 10.0),
        Row(f"card {name}, APDUs", float(len(tap.exchanges)), ""),
        Row(f"card {name}, bytes of all APDUs", float(sent), "B"),
        Row(f"card {name} at 424, PC/SC, field-on to verdict, p50 of {TAPS}", quantile(totals, 0.5), "ms"),
        Row(f"card {name} at 424, PC/SC, field-on to verdict, p95", quantile(totals, 0.95), "ms", None, target),
        Row(f"card {name} at 424, PC/SC, frames of 64 bytes, p95", quantile(small, 0.95), "ms"),
    ]


def rows() -> list[Row]:
    found: list[Row] = []
    issuer = CardIssuer("Bench", START)
    for kind in KINDS:
        found += _rows(f"PIV {kind}", piv_tap(issuer, kind), CARD_SIGN[kind], 700.0 if kind is KeyKind.P256 else None)
    return found + _rows("PKOC", pkoc_tap(), CARD_SIGN[KeyKind.P256], None)
