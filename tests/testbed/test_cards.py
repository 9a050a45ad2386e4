"""The virtual PIV and PKOC cards: what a genuine card answers, and with which status word it refuses."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from testbed.card.issuer import CardCredential, CardIssuer
from testbed.card.keys import Algorithm, KeyKind, algorithm
from testbed.card.piv import CAPABILITIES, CERTIFICATE, CHUID, DISCOVERY, MAX_CHAIN, PIV_AID, VirtualPivCard
from testbed.card.pkoc import Order, VirtualPkocCard
from testbed.card.tlv import objects, tlv
from tests.card_reader import (
    KINDS,
    MDOC,
    SELECT,
    SELECT_PKOC,
    ask,
    authenticate,
    block_of,
    pkoc_answer,
    pkoc_proves,
    proves,
    read,
    shown,
    verify,
)
from tests.conftest import NOW


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_card_shows_its_certificate_and_its_key_answers_a_challenge(
    credentials: dict[KeyKind, CardCredential], kind: KeyKind, compressed: bool
) -> None:
    credential = credentials[kind]
    card = VirtualPivCard(credential, compressed=compressed)
    assert ask(card.transmit, SELECT)[1] == 0x9000
    certificate = shown(card.transmit)
    assert certificate == credential.certificate
    response, status = authenticate(card.transmit, algorithm(credential.key), block_of(credential.key, b"fresh"))
    assert status == 0x9000
    verify(credential.key.public_key(), b"fresh", response)
    with pytest.raises(InvalidSignature):
        verify(credential.key.public_key(), b"another", response)


@pytest.mark.parametrize("size", [5, 9, 10, 11])
def test_the_application_is_selected_by_its_name_or_the_beginning_of_it(card: VirtualPivCard, size: int) -> None:
    card.power_on()
    data, status = ask(card.transmit, b"\x00\xa4\x04\x00" + bytes((size,)) + PIV_AID[:size] + b"\x00")
    assert (data.hex(), status) == ("61114f0600001000010079074f05a000000308", 0x9000)


def test_another_application_is_not_there_and_leaves_the_selected_one(card: VirtualPivCard) -> None:
    for other in (
        MDOC,
        SELECT_PKOC,
        bytes.fromhex("00A4040004A000000300"),
        bytes.fromhex("00A404000CA0000003080000100001000000"),
    ):
        assert card.transmit(other) == b"\x6a\x82"
    assert read(card.transmit, CHUID)[1] == 0x9000


def test_nothing_is_answered_before_select_nor_after_a_new_field(card: VirtualPivCard) -> None:
    card.power_on()
    assert read(card.transmit, CERTIFICATE) == (b"", 0x6D00)
    card.transmit(SELECT)
    assert read(card.transmit, CERTIFICATE)[1] == 0x9000


def test_the_discovery_object_names_the_application_and_its_pin_policy(card: VirtualPivCard) -> None:
    assert read(card.transmit, DISCOVERY)[0].hex() == "7e124f0ba0000003080000100001005f2f024000"


def test_the_chuid_names_the_card_as_its_certificate_does(card: VirtualPivCard, credential: CardCredential) -> None:
    ((tag, content),) = objects(read(card.transmit, CHUID)[0])
    parts = dict(objects(content))
    assert (tag, list(parts)) == (0x53, [0x30, 0x34, 0x35, 0x3E, 0xFE])
    assert parts[0x35] == credential.certificate.not_valid_after_utc.strftime("%Y%m%d").encode()
    names = credential.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names.get_values_for_type(x509.OtherName)] == [b"\x04\x19" + parts[0x30]]
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uri.replace("-", "") == "urn:uuid:" + parts[0x34].hex()


def test_the_container_of_capabilities_names_the_card(card: VirtualPivCard, credential: CardCredential) -> None:
    assert credential.capability_identifier in read(card.transmit, CAPABILITIES)[0]


def test_a_long_answer_comes_in_pieces_of_the_asked_length(card: VirtualPivCard, credential: CardCredential) -> None:
    whole = tlv(0x53, tlv(0x70, credential.certificate.public_bytes(Encoding.DER)), tlv(0x71, b"\x00"), tlv(0xFE))
    first = card.transmit(bytes.fromhex("00CB3FFF055C035FC10180"))
    assert (first[:-2], first[-2:]) == (whole[:128], b"\x61\x00")
    got = whole[:128]
    while len(got) < len(whole):
        left = len(whole) - len(got)
        answer = card.transmit(bytes.fromhex("00C00000C8"))
        got += answer[:-2]
        after = left - 200
        expected = b"\x90\x00" if after <= 0 else bytes((0x61, after if after < 256 else 0))
        assert answer[-2:] == expected
    assert got == whole
    assert card.transmit(bytes.fromhex("00C0000000")) == b"\x69\x85"


def test_another_command_ends_an_answer_that_waits(card: VirtualPivCard) -> None:
    assert card.transmit(bytes.fromhex("00CB3FFF055C035FC10110"))[-2:] == b"\x61\x00"
    card.transmit(SELECT)
    assert card.transmit(bytes.fromhex("00C0000000")) == b"\x69\x85"


def test_a_card_takes_extended_apdus_only_where_it_says_so(credential: CardCredential) -> None:
    apdu = bytes.fromhex("00CB3FFF0000055C035FC1010000")
    plain, wide = VirtualPivCard(credential), VirtualPivCard(credential, extended=True)
    for card in (plain, wide):
        card.transmit(SELECT)
    assert plain.transmit(apdu) == b"\x67\x00"
    assert wide.transmit(apdu) == read(plain.transmit, CERTIFICATE)[0] + b"\x90\x00"


@pytest.mark.parametrize("piece", [1, 16, 100, 255])
def test_a_challenge_may_come_in_any_number_of_pieces(credentials: dict[KeyKind, CardCredential], piece: int) -> None:
    credential = credentials[KeyKind.RSA_2048]
    card = VirtualPivCard(credential)
    card.transmit(SELECT)
    response, _ = authenticate(card.transmit, Algorithm.RSA_2048, block_of(credential.key, b"n"), piece)
    verify(credential.key.public_key(), b"n", response)


def test_a_chain_of_another_command_is_refused_and_forgotten(card: VirtualPivCard, credential: CardCredential) -> None:
    assert card.transmit(bytes.fromhex("1087119E027C24")) == b"\x90\x00"
    assert card.transmit(bytes.fromhex("00CB3FFF055C035FC10100")) == b"\x68\x83"
    assert authenticate(card.transmit, Algorithm.P256, block_of(credential.key, b"n"))[1] == 0x9000


def test_a_chain_without_end_is_refused_at_the_limit(card: VirtualPivCard) -> None:
    part = bytes.fromhex("1087119EFF") + bytes(255)
    answers = [card.transmit(part) for _ in range(MAX_CHAIN // 255 + 1)]
    assert answers == [b"\x90\x00"] * (MAX_CHAIN // 255) + [b"\x67\x00"]


@pytest.mark.parametrize(
    ("apdu", "status"),
    [
        ("00CB3FFF055C035FC10500", 0x6A82),  # an object that is not there: the certificate that wants a PIN
        ("00CB3FFF035C017F00", 0x6A82),
        ("00CB3FFF045C025FC100", 0x6A80),  # no tag has two bytes
        ("00CB3FFF055C045FC10100", 0x6A80),
        ("00CB3FFF055D035FC10100", 0x6A80),
        ("00CB3FFE055C035FC10100", 0x6A86),
        ("00A4000C023F0000", 0x6A86),
        ("0087079E", 0x6A86),  # the algorithm of another key
        ("0087119A", 0x6A86),  # another key
        ("0087119E00", 0x6A80),
        ("0087119E047C02820000", 0x6A80),  # a witness, not a challenge
        ("0087119E067C0482008100", 0x6A80),  # an empty challenge
        ("0087119E047C03820000", 0x6A80),
        ("0020008000", 0x6A88),  # no PIN
        ("00FD000000", 0x6D00),
        ("80CB3FFF055C035FC10100", 0x6E00),
        ("00CB3F", 0x6700),
        ("00CB3FFF095C0300", 0x6700),
        ("", 0x6700),
    ],
)
def test_a_wrong_command_has_the_status_word_of_its_fault(card: VirtualPivCard, apdu: str, status: int) -> None:
    assert card.transmit(bytes.fromhex(apdu)) == status.to_bytes(2)
    assert proves(card)


@pytest.mark.parametrize("kind", KINDS)
def test_a_challenge_of_another_length_is_refused(credentials: dict[KeyKind, CardCredential], kind: KeyKind) -> None:
    credential = credentials[kind]
    card = VirtualPivCard(credential)
    card.transmit(SELECT)
    block = block_of(credential.key, b"n")
    for wrong in (block[1:], block + b"\x00", b"\xff" * len(block) if kind.startswith("rsa") else b""):
        assert authenticate(card.transmit, algorithm(credential.key), wrong) == (b"", 0x6A80)


@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([SELECT, bytes.fromhex("00CB3FFF055C035FC10100")]), max_size=6)
)
def test_any_bytes_are_answered_with_a_status_word(commands: list[bytes]) -> None:
    for card in (FUZZED_PIV, FUZZED_PKOC):
        card.power_on()
        for command in commands:
            assert 2 <= len(card.transmit(command)) <= 258


FUZZED_PIV = VirtualPivCard(CardIssuer("Fuzz", NOW).issue(NOW))
FUZZED_PKOC = VirtualPkocCard(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize("order", list(Order))
def test_a_pkoc_card_signs_the_transaction_in_either_order(order: Order) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    card = VirtualPkocCard(key, order=order)
    tags, point, signature = pkoc_answer(card, bytes(range(16)))
    assert tags == ([0x5A, 0x9E] if order is Order.KEY_FIRST else [0x9E, 0x5A])
    assert point == key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert len(signature) == 64
    assert pkoc_proves(card, bytes(range(16)))


@pytest.mark.parametrize(
    ("apdu", "status"),
    [
        ("80800002" + "00", 0x6A86),
        ("8080000100", 0x6F00),
        ("80800001045C02020000", 0x6F00),
        ("80800001385C020200" + "4C10" + "00" * 16 + "4D20" + "00" * 32 + "00", 0x6F00),  # version 2
        ("80800001375C020100" + "4C0F" + "00" * 15 + "4D20" + "00" * 32 + "00", 0x6F00),
        ("00CB3FFF055C035FC10100", 0x6D00),
        ("00A4040007A000000248040000", 0x6A82),
        ("00A4", 0x6700),
    ],
)
def test_a_pkoc_card_refuses_what_it_does_not_know(apdu: str, status: int) -> None:
    card = VirtualPkocCard(ec.generate_private_key(ec.SECP256R1()))
    card.transmit(SELECT_PKOC)
    assert card.transmit(bytes.fromhex(apdu)) == status.to_bytes(2)


def test_a_pkoc_card_signs_nothing_before_select_and_has_no_other_curve() -> None:
    card = VirtualPkocCard(ec.generate_private_key(ec.SECP256R1()))
    assert card.transmit(bytes.fromhex("8080000100")) == b"\x69\x85"
    with pytest.raises(ValueError, match="P-256"):
        VirtualPkocCard(ec.generate_private_key(ec.SECP384R1()))
