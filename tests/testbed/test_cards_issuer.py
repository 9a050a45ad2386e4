"""The authority that issues virtual cards: identifiers, certificates, signed CHUIDs, revocation lists, canaries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from mdoc.certificates.structure import of as as_read
from mdoc.crl import parse as parse_crl
from mdoc.specimen import marked
from testbed.card import chuid
from testbed.card.identifiers import fasc_n, random_fasc_n
from testbed.card.issuer import CARD_AUTHENTICATION, CardCredential, CardIssuer
from testbed.card.keys import KeyKind
from testbed.card.piv import CAPABILITIES, CERTIFICATE, CHUID, VirtualPivCard
from testbed.card.tlv import TlvError, objects, oid, tlv
from tests.card_reader import SELECT, read
from tests.conftest import NOW


@given(st.binary(max_size=40))
def test_data_objects_read_are_the_data_objects_written(raw: bytes) -> None:
    try:
        found = list(objects(raw))
    except TlvError:
        return
    written = b"".join(tlv(tag, value) for tag, value in found)
    assert list(objects(written)) == found


def test_an_object_identifier_is_written_as_x690_has_it() -> None:
    assert oid("2.16.840.1.101.3.6.8").hex() == "060860864801650 30608".replace(" ", "")


def test_fasc_n_is_coded_as_in_the_example_of_its_specification() -> None:
    number = fasc_n(agency="0032", system="0001", credential="092446", person="1112223333", rest="112232")
    assert number.hex().upper() == "D0439458210C2C19A0846D83685A1082108CE73984108CA3FC"
    with pytest.raises(ValueError, match="length"):
        fasc_n(system="1", credential="092446", person="1112223333", rest="112232")


def test_every_character_of_a_fasc_n_has_odd_parity_and_the_columns_even(random_bytes: Callable[[int], bytes]) -> None:
    bits = f"{int.from_bytes(random_fasc_n(random_bytes)):0200b}"
    characters = [bits[at : at + 5] for at in range(0, 200, 5)]
    assert all(each.count("1") % 2 == 1 for each in characters)
    assert all(sum(int(each[column]) for each in characters) % 2 == 0 for column in range(4))


@pytest.mark.parametrize("intermediate", [False, True])
def test_a_card_chains_to_the_root(intermediate: bool) -> None:
    issuer = CardIssuer("Chain", NOW, intermediate=intermediate)
    credential = issuer.issue(NOW)
    assert [issuer.root, *issuer.intermediates][-1] == issuer.certificate
    above = issuer.certificate
    credential.certificate.verify_directly_issued_by(above)
    issuer.content_signer.verify_directly_issued_by(above)
    for certificate in issuer.intermediates:
        certificate.verify_directly_issued_by(issuer.root)
    assert marked(as_read(issuer.root))


def test_a_card_certificate_is_for_card_authentication_and_names_nobody(credential: CardCredential) -> None:
    extensions = credential.certificate.extensions
    purpose = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (list(purpose.value), purpose.critical) == ([CARD_AUTHENTICATION], True)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not extensions.get_extension_for_class(x509.CRLDistributionPoints).critical
    assert [attribute.oid._name for attribute in credential.certificate.subject] == ["countryName", "serialNumber"]


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA_2048])
def test_the_chuid_is_signed_by_the_content_signer(kind: KeyKind) -> None:
    issuer = CardIssuer("CHUID", NOW, kind=kind)
    credential = issuer.issue(NOW)
    parts = dict(objects(credential.chuid))
    content = chuid.signed(parts[0x30], parts[0x34], credential.certificate.not_valid_after_utc.date())
    attributes, signature = signed_attributes(parts[0x3E])
    assert hashlib.sha256(content).digest() in attributes
    signer = issuer.content_signer.public_key()
    assert isinstance(signer, ec.EllipticCurvePublicKey)
    signer.verify(signature, attributes, ec.ECDSA(hashes.SHA256()))
    assert issuer.content_signer.public_bytes(Encoding.DER) in parts[0x3E]


def signed_attributes(cms: bytes) -> tuple[bytes, bytes]:
    """(the attributes as they are signed, the signature) of the only signer (RFC 5652 5.3, 5.4)."""
    ((_, information),) = objects(cms)
    _, (_, wrapped) = objects(information)
    ((_, data),) = objects(wrapped)
    *_, (_, signers) = objects(data)
    ((_, signer),) = objects(signers)
    fields = dict(objects(signer))
    return tlv(0x31, fields[0xA0]), fields[0x04]


def test_what_is_published_is_what_a_gate_needs(tmp_path: Path) -> None:
    issuer = CardIssuer("Published", NOW, intermediate=True)
    good, bad = issuer.issue(NOW), issuer.issue(NOW)
    issuer.revoke(bad)
    issuer.publish(tmp_path, NOW)
    issuer.publish(tmp_path, NOW + timedelta(days=1))
    anchors, below, lists = (sorted((tmp_path / name).iterdir()) for name in ("anchors", "intermediates", "crl"))
    assert [x509.load_pem_x509_certificate(path.read_bytes()) for path in anchors] == [issuer.root]
    assert [x509.load_pem_x509_certificate(path.read_bytes()) for path in below] == [issuer.certificate]
    authorities = [as_read(each) for each in (issuer.root, issuer.certificate)]
    found = {crl.issuer: crl for crl in (parse_crl(path.read_bytes(), authorities) for path in lists)}
    assert found[authorities[0].subject].revoked == frozenset()
    of_cards = found[authorities[1].subject]
    assert of_cards.revoked == {bad.certificate.serial_number}
    assert good.certificate.serial_number not in of_cards.revoked
    assert (of_cards.number, of_cards.this_update) == (2, NOW + timedelta(days=1))


def test_no_two_cards_share_a_canary_and_each_canary_is_on_its_card(issuer: CardIssuer) -> None:
    one, other = issuer.issue(NOW), issuer.issue(NOW)
    assert not set(one.canaries.values()) & set(other.canaries.values())
    card = VirtualPivCard(one)
    card.transmit(SELECT)
    said = card.uid + b"".join(read(card.transmit, tag)[0] for tag in (CERTIFICATE, CHUID, CAPABILITIES))
    absent = {name for name, value in one.canaries.items() if value not in said}
    assert absent == {"serial_decimal"}
    assert all(len(value) >= 7 for value in one.canaries.values())


def test_a_credential_shows_nothing_of_itself_in_a_log(credential: CardCredential) -> None:
    assert repr(credential) == "CardCredential()"
