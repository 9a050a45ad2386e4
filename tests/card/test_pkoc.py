from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from card import pkoc
from card.apdu import Sizes, select
from card.pkoc import PkocAnswer
from card.tlv import encode
from card.verify import PKOC_CHECKS, CardVerdict, Enrolment, verify_pkoc
from mdoc.errors import MalformedError
from mdoc.freshness import Freshness, ListFacts, ListKind
from mdoc.verdict import Failure
from testbed.card.pkoc import Order, VirtualPkocCard
from tests.card.conftest import TERMS, drive
from tests.conftest import NOW

TRANSACTION, READER = bytes(range(16)), bytes(range(32))
DAY = timedelta(days=1)
ENROLMENT = Enrolment(TERMS, NOW - DAY, NOW + DAY)


def tap(card: VirtualPkocCard, transaction: bytes = TRANSACTION) -> PkocAnswer:
    assert pkoc.selected(card.transmit(select(pkoc.AID)))
    return drive(pkoc.read(transaction, READER, Sizes()), card.transmit)


def verdict(
    answer: PkocAnswer, enrolment: Enrolment | None = ENROLMENT, later: timedelta = timedelta(0), age: int = 0
) -> CardVerdict:
    facts = ListFacts(ListKind.ISSUER_LIST, "keys", "1", NOW - timedelta(hours=age), None)
    return verify_pkoc(
        answer,
        answer.key(),
        TRANSACTION,
        enrolment,
        listed=[facts],
        now=NOW + later,
        freshness=Freshness(issuer_list=timedelta(hours=24)),
    )


@pytest.fixture
def card() -> VirtualPkocCard:
    return VirtualPkocCard(ec.generate_private_key(ec.SECP256R1()))


def test_the_commands_are_those_of_the_specification(card: VirtualPkocCard) -> None:
    sent: list[bytes] = []

    def noted(command: bytes) -> bytes:
        sent.append(command)
        return card.transmit(command)

    card.transmit(select(pkoc.AID))
    drive(pkoc.read(TRANSACTION, READER, Sizes()), noted)
    assert select(pkoc.AID).hex() == "00a4040008a00000089800000100"
    assert sent == [bytes.fromhex("80800001385c0201004c10") + TRANSACTION + b"\x4d\x20" + READER + b"\x00"]


@pytest.mark.parametrize("order", list(Order))
def test_an_enrolled_key_is_taken_in_both_orders_of_its_answer(order: Order) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    found = verdict(tap(VirtualPkocCard(key, order=order)))
    assert found.accepted
    assert [check.name for check in found.checks] == [row.name for row in PKOC_CHECKS]
    assert (found.card.terms, found.card.key, found.card.issuer) == (TERMS, key.public_key(), None)


def test_a_key_that_nobody_enrolled_is_refused(card: VirtualPkocCard) -> None:
    assert verdict(tap(card), None).reason is Failure.UNKNOWN_ISSUER


def test_an_answer_to_an_earlier_transaction_is_refused(card: VirtualPkocCard) -> None:
    assert verdict(tap(card, bytes(16))).reason is Failure.WRONG_SESSION


def test_a_cloned_key_without_its_secret_is_refused(card: VirtualPkocCard) -> None:
    other = VirtualPkocCard(ec.generate_private_key(ec.SECP256R1()))
    other.point = card.point
    assert verdict(tap(other)).reason is Failure.WRONG_SESSION


@pytest.mark.parametrize("signature", [bytes(64), b"\xff" * 64])
def test_what_is_no_signature_is_refused(card: VirtualPkocCard, signature: bytes) -> None:
    assert verdict(PkocAnswer(card.point, signature)).reason is Failure.WRONG_SESSION


@pytest.mark.parametrize(("later", "reason"), [(-2 * DAY, Failure.NOT_YET_VALID), (2 * DAY, Failure.EXPIRED)])
def test_an_enrolment_counts_within_its_dates(card: VirtualPkocCard, later: timedelta, reason: Failure) -> None:
    answer = tap(card)
    found = verify_pkoc(answer, answer.key(), TRANSACTION, ENROLMENT, now=NOW + later)
    assert found.reason is reason


def test_a_list_older_than_the_zone_allows_is_refused(card: VirtualPkocCard) -> None:
    assert verdict(tap(card), age=25).reason is Failure.ISSUER_LIST_STALE


@pytest.mark.parametrize(
    "point",
    [
        b"\x04" + bytes(64),  # on no curve
        b"\x02" + bytes(64),
        b"\x00" * 65,
    ],
)
def test_a_point_that_is_no_key_is_malformed(point: bytes) -> None:
    with pytest.raises(MalformedError):
        PkocAnswer(point, bytes(64)).key()


KEY, SIGNATURE = encode(0x5A, bytes(65)), encode(0x9E, bytes(64))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        KEY,
        SIGNATURE,
        KEY + KEY,
        KEY + SIGNATURE + b"\x00",
        KEY + SIGNATURE + encode(0x5C, b"\x01\x00"),
        encode(0x5A, bytes(64)) + SIGNATURE,
        KEY + encode(0x9E, bytes(63)),
    ],
)
def test_an_answer_of_another_shape_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        PkocAnswer.parse(data)


@pytest.mark.parametrize("response", ["6f00", "6985", "9000"])
def test_a_card_that_fails_is_malformed(response: str) -> None:
    with pytest.raises(MalformedError):
        drive(pkoc.read(TRANSACTION, READER, Sizes()), lambda _: bytes.fromhex(response))


@pytest.mark.parametrize(
    ("response", "there"),
    [
        ("5c0201009000", True),
        ("5c04020001009000", True),
        ("5c0202009000", False),  # version 2 alone
        ("9000", False),
        ("5c0301009000", False),
        ("6a82", False),
        ("6a00000000009000", False),
    ],
)
def test_an_application_is_pkoc_where_it_names_version_1(response: str, there: bool) -> None:
    assert pkoc.selected(bytes.fromhex(response)) is there


@pytest.mark.parametrize(("transaction", "reader"), [(15, 32), (16, 31)])
def test_a_transaction_id_or_reader_id_of_another_length_is_a_fault_of_the_caller(
    transaction: int, reader: int
) -> None:
    with pytest.raises(ValueError, match="expected"):
        next(pkoc.read(bytes(transaction), bytes(reader), Sizes()))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedError):
        PkocAnswer.parse(raw).key()
