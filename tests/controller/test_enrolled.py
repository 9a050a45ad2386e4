"""Who is enrolled is a directory of certificates; nothing in it is taken that could stand for another."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from controller.enrolled import REVOKED, EnrolError, Enrolled, read_certificate
from testbed.pki import DevicePki

NOW = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.fixture
def pki(tmp_path: Path) -> DevicePki:
    return DevicePki(tmp_path / "pki", NOW)


@pytest.fixture
def enrolled(tmp_path: Path) -> Enrolled:
    return Enrolled(tmp_path / "gates")


def pem(pki: DevicePki, gate: str) -> bytes:
    return pki.client(gate).certificate.read_bytes()


def self_signed(name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_an_enrolled_gate_is_known_by_name_and_key_until_it_is_revoked(enrolled: Enrolled, pki: DevicePki) -> None:
    certificate = read_certificate(pem(pki, "gate-1"))
    assert enrolled.add(certificate.public_bytes(Encoding.PEM)) == "gate-1"
    assert enrolled.public_key("gate-1") == certificate.public_key()
    assert list(enrolled.gates()) == ["gate-1"]
    enrolled.revoke("gate-1")
    assert enrolled.public_key("gate-1") is None
    assert not enrolled.gates()


def test_another_process_sees_the_change_at_its_next_look(tmp_path: Path, enrolled: Enrolled, pki: DevicePki) -> None:
    other = Enrolled(tmp_path / "gates")
    assert not other.changed()
    enrolled.add(pem(pki, "gate-1"))
    assert other.changed()
    assert not other.changed()
    assert list(other.gates()) == ["gate-1"]
    enrolled.revoke("gate-1")
    assert other.changed()
    assert not other.gates()


def test_a_renewed_certificate_of_the_same_key_is_taken_and_another_key_is_not(
    enrolled: Enrolled, pki: DevicePki
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    enrolled.add(self_signed("gate-1", key))
    enrolled.add(self_signed("gate-1", key))
    with pytest.raises(EnrolError, match="another key"):
        enrolled.add(pem(pki, "gate-1"))
    enrolled.revoke("gate-1")
    enrolled.add(pem(pki, "gate-1"))


@pytest.mark.parametrize(
    "name", ["all", "controller", "Gate-1", "gate/1", "../x", "", "g" * 64, "게이트", "gate 1\nuser x"]
)
def test_a_name_that_is_no_gates_is_refused(enrolled: Enrolled, name: str) -> None:
    if not name:
        with pytest.raises(ValueError, match=r"."):
            self_signed(name, ec.generate_private_key(ec.SECP256R1()))
        return
    with pytest.raises(EnrolError):
        enrolled.add(self_signed(name, ec.generate_private_key(ec.SECP256R1())))


def test_a_key_that_signs_no_records_is_refused(enrolled: Enrolled) -> None:
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP521R1())):
        with pytest.raises(EnrolError, match="P-256"):
            enrolled.add(self_signed("gate-1", key))


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda raw: b"-----BEGIN CERTIFICATE-----\n" + raw))
def test_any_bytes_are_one_typed_error(raw: bytes) -> None:
    with pytest.raises(EnrolError):
        read_certificate(raw)


def test_a_file_of_another_name_counts_for_nothing_and_is_said(tmp_path: Path, pki: DevicePki) -> None:
    Enrolled(tmp_path / "gates")
    (tmp_path / "gates" / "gate-9.pem").write_bytes(pem(pki, "gate-1"))
    (tmp_path / "gates" / "gate-8.pem").write_bytes(b"rubbish")
    (tmp_path / "gates" / "gate-7.pem").symlink_to(tmp_path / "pki" / "gate-1.pem")
    found = Enrolled(tmp_path / "gates")
    assert not found.gates()
    assert set(found.problems) == {"gate-8.pem", "gate-9.pem"}


def test_revoking_keeps_every_certificate_and_refuses_who_is_not_there(
    tmp_path: Path, enrolled: Enrolled, pki: DevicePki
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for _ in range(2):
        enrolled.add(self_signed("gate-1", key))
        enrolled.revoke("gate-1")
    assert len(list((tmp_path / "gates" / REVOKED).iterdir())) == 2
    for gate in ("gate-1", "../gate-1", REVOKED):
        with pytest.raises(EnrolError, match="not enrolled"):
            enrolled.revoke(gate)


def test_the_files_are_readable_by_all_and_written_by_their_owner(
    tmp_path: Path, enrolled: Enrolled, pki: DevicePki
) -> None:
    enrolled.add(pem(pki, "gate-1"))
    assert stat.S_IMODE((tmp_path / "gates" / "gate-1.pem").stat().st_mode) == 0o644
    assert [each.name for each in (tmp_path / "gates").iterdir() if each.name.startswith(".")] == []
