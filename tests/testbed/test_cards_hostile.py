"""Each hostile card does what its name says, and nothing else wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from testbed.card import hostile
from testbed.card.card import Card
from testbed.card.issuer import CARD_AUTHENTICATION, CardCredential, CardIssuer
from testbed.card.keys import Algorithm, KeyKind, algorithm
from testbed.card.piv import CERTIFICATE, CHUID, VirtualPivCard
from testbed.card.tlv import TlvError, objects
from tests.card_reader import (
    CONTAINER,
    SELECT,
    SELECT_PKOC,
    authenticate,
    block_of,
    challenge_template,
    pkoc_proves,
    proves,
    read,
    shown,
)
from tests.conftest import NOW


def hostile_card(issuer: CardIssuer, name: str) -> Card:
    card = hostile.PIV[name](issuer, NOW)
    assert card.transmit(SELECT) is not None
    return card


@pytest.mark.parametrize("name", ["without_key", "wrong_key", "wrong_hash", "replaying", "foreign_certificate"])
def test_a_card_without_the_key_of_its_certificate_proves_nothing(issuer: CardIssuer, name: str) -> None:
    card = hostile_card(issuer, name)
    shown(card.transmit).verify_directly_issued_by(issuer.certificate)
    assert not proves(card)


@pytest.mark.parametrize("kind", [KeyKind.P384, KeyKind.RSA_2048])
def test_clones_are_as_well_made_of_other_keys(credentials: dict[KeyKind, CardCredential], kind: KeyKind) -> None:
    for make in (hostile.wrong_key, hostile.wrong_hash, hostile.replaying):
        card = make(credentials[kind])
        card.transmit(SELECT)
        assert (
            authenticate(card.transmit, algorithm(credentials[kind].key), block_of(credentials[kind].key, b"n"))[1]
            == 0x9000
        )
        assert not proves(card)


def test_the_replaying_card_repeats_a_genuine_response(credential: CardCredential) -> None:
    card = hostile.replaying(credential)
    card.transmit(SELECT)
    first, second = (authenticate(card.transmit, Algorithm.P256, bytes((n,)) * 32)[0] for n in (1, 2))
    assert first == second
    public = credential.key.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(first, bytes(32), ec.ECDSA(Prehashed(hashes.SHA256())))


@pytest.mark.parametrize(
    "name",
    ["expired", "not_yet_valid", "no_purpose", "other_purpose", "revoked", "unknown_root", "same_name_other_key"],
)
def test_a_card_that_proves_its_key_has_a_certificate_with_one_fault(issuer: CardIssuer, name: str) -> None:
    card = hostile_card(issuer, name)
    assert proves(card)
    certificate = shown(card.transmit)
    purposes = [list(each.value) for each in certificate.extensions if isinstance(each.value, x509.ExtendedKeyUsage)]
    revoked = x509.load_der_x509_crl(next(iter(issuer.crls(NOW).values())))
    faults = {
        "expired": certificate.not_valid_after_utc < NOW,
        "not_yet_valid": certificate.not_valid_before_utc > NOW,
        "no_purpose": purposes == [],
        "other_purpose": purposes not in ([], [[CARD_AUTHENTICATION]]),
        "revoked": revoked.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None,
        "unknown_root": certificate.issuer != issuer.certificate.subject,
        "same_name_other_key": certificate.issuer == issuer.certificate.subject and not issued(certificate, issuer),
    }
    assert [fault for fault, there in faults.items() if there] == [name]


def issued(certificate: x509.Certificate, issuer: CardIssuer) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer.certificate)
    except InvalidSignature:
        return False
    return True


def test_a_swapped_chuid_is_genuine_and_of_another_card(issuer: CardIssuer) -> None:
    card = hostile_card(issuer, "swapped_chuid")
    assert proves(card)
    ((_, content),) = objects(read(card.transmit, CHUID)[0])
    guid = dict(objects(content))[0x34]
    names = shown(card.transmit).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uri.replace("-", "") != "urn:uuid:" + guid.hex()


@pytest.mark.parametrize(("name", "tag"), [("truncated_certificate", CERTIFICATE), ("truncated_chuid", CHUID)])
def test_a_truncated_object_ends_inside_what_its_length_announces(issuer: CardIssuer, name: str, tag: int) -> None:
    data, status = read(hostile_card(issuer, name).transmit, tag)
    assert (status, data[:2]) == (0x9000, b"\x53\x82")
    assert int.from_bytes(data[2:4]) > len(data)
    with pytest.raises(TlvError):
        list(objects(data))


@pytest.mark.parametrize(("name", "tag"), [("oversized_certificate", CERTIFICATE), ("oversized_chuid", CHUID)])
def test_an_oversized_object_announces_two_gigabytes(issuer: CardIssuer, name: str, tag: int) -> None:
    data, _ = read(hostile_card(issuer, name).transmit, tag)
    assert data[:6] == bytes.fromhex("53847FFFFFFF")
    assert len(data) < CONTAINER


def test_a_gzip_bomb_fits_the_card_and_is_a_thousand_times_as_long_inflated(issuer: CardIssuer) -> None:
    data, _ = read(hostile_card(issuer, "gzip_bomb").transmit, CERTIFICATE)
    ((_, content),) = objects(data)
    parts = dict(objects(content))
    assert len(data) < CONTAINER
    assert (parts[0x71], len(gzip.decompress(parts[0x70]))) == (b"\x01", hostile.BOMB_BYTES)


def test_the_authority_s_own_certificate_is_shown_and_proven(issuer: CardIssuer) -> None:
    card = hostile_card(issuer, "of_authority")
    assert shown(card.transmit) == issuer.certificate
    assert proves(card)


def test_a_key_of_1024_bits_is_proven(issuer: CardIssuer) -> None:
    card = hostile_card(issuer, "rsa_1024")
    assert shown(card.transmit).public_key().key_size == 1024  # type: ignore[union-attr]
    assert proves(card)


@pytest.mark.parametrize("name", ["rsa_exponent_one", "explicit_curve", "point_off_curve"])
def test_a_forged_public_key_is_in_a_certificate_that_the_authority_signed(issuer: CardIssuer, name: str) -> None:
    certificate = shown(hostile_card(issuer, name).transmit)
    assert issued(certificate, issuer)
    with pytest.raises(Exception, match=r"(?i)curve|key|exponent|e must be"):
        certificate.public_key()


def test_anybody_answers_for_exponent_one(issuer: CardIssuer) -> None:
    card = hostile_card(issuer, "rsa_exponent_one")
    block = b"\x00\x01" + bytes(254)
    assert authenticate(card.transmit, Algorithm.RSA_2048, block) == (block, 0x9000)


@pytest.mark.parametrize(("name", "piece"), [("endless_61xx", 256), ("empty_61xx", 0)])
def test_an_answer_has_no_end(issuer: CardIssuer, name: str, piece: int) -> None:
    card = hostile_card(issuer, name)
    data, status = read(card.transmit, CERTIFICATE)
    assert (len(data), status) == (64 * piece, 0x61FF)


def test_a_length_that_is_never_right_is_another_each_time(issuer: CardIssuer) -> None:
    card = hostile_card(issuer, "endless_6cxx")
    wanted = 0
    for _ in range(20):
        answer = card.transmit(bytes.fromhex("00CB3FFF055C035FC101") + bytes((wanted,)))
        assert answer is not None
        assert answer[0] == 0x6C
        assert answer[1] != wanted
        wanted = answer[1]


def test_an_answer_without_data_is_a_bare_success(issuer: CardIssuer) -> None:
    assert read(hostile_card(issuer, "no_data").transmit, CERTIFICATE) == (b"", 0x9000)
    card = hostile_card(issuer, "no_signature")
    shown(card.transmit)
    template = challenge_template(bytes(32))
    assert card.transmit(bytes.fromhex("0087119E26") + template + b"\x00") == b"\x90\x00"


def test_a_vanishing_card_gives_so_many_answers_in_each_field(issuer: CardIssuer) -> None:
    card = hostile.PIV["vanishing"](issuer, NOW)
    for _ in range(2):
        card.power_on()
        assert card.transmit(SELECT) is not None
        assert card.transmit(SELECT) is not None
        assert card.transmit(SELECT) is None


def test_a_slow_card_waits_before_its_key_answers_and_only_then(credential: CardCredential) -> None:
    waited: list[float] = []
    card = hostile.slow(VirtualPivCard(credential), 1.5, waited.append)
    card.transmit(SELECT)
    shown(card.transmit)
    assert waited == []
    assert proves(card)
    assert waited == [1.5]


def test_every_hostile_card_of_the_table_answers_select(issuer: CardIssuer) -> None:
    for name, make in hostile.PIV.items():
        assert make(issuer, NOW).transmit(SELECT) is not None, name
    for name, make_pkoc in hostile.PKOC.items():
        assert make_pkoc().transmit(SELECT_PKOC) == bytes.fromhex("5C0201009000"), name


@pytest.mark.parametrize("name", ["wrong_key", "replaying", "null_signature"])
def test_a_hostile_pkoc_card_proves_nothing(name: str) -> None:
    assert not pkoc_proves(hostile.PKOC[name](), bytes(range(16)))


def test_a_pkoc_key_off_the_curve_is_no_key() -> None:
    with pytest.raises(ValueError, match=r"(?i)invalid EC key"):
        pkoc_proves(hostile.PKOC["off_curve"](), bytes(range(16)))


def test_every_hostile_card_is_documented() -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = "".join(path.read_text("utf-8") for path in docs.glob("cards*.md"))
    missing = [name for name in (*hostile.PIV, *hostile.PKOC) if f"`{name}`" not in text]
    assert missing == []
