"""Which certificates enrol a gate, and what a revocation leaves behind."""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import enrolled
from controller.enrolled import EnrolError, Enrolled, Refusal, read_certificate

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("one", "two", "authority")}


def certificate(
    *names: str,
    key: Any = KEYS["one"],
    purpose: ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
    serial: int = 7,
) -> bytes:
    """PEM, signed by an authority that nobody here asks."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=90))
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return builder.sign(KEYS["authority"], hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture
def gates(tmp_path: Path) -> Enrolled:
    return Enrolled(tmp_path / "gates")


def refusal(action: Any, *arguments: Any) -> Refusal:
    with pytest.raises(EnrolError) as caught:
        action(*arguments)
    return caught.value.refusal


def test_an_enrolled_gate_is_known_by_name_and_key(gates: Enrolled) -> None:
    assert gates.add(certificate("gate-1")) == "gate-1"
    assert list(gates.gates()) == ["gate-1"]
    assert gates.public_key("gate-1") == KEYS["one"].public_key()
    assert gates.public_key("gate-2") is None


def test_an_absent_directory_enrols_nobody(gates: Enrolled) -> None:
    assert gates.changed()
    assert gates.gates() == {}
    assert not gates.changed()


@pytest.mark.parametrize(
    ("pem", "expected"),
    [
        (b"", Refusal.NOT_A_CERTIFICATE),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", Refusal.NOT_A_CERTIFICATE),
        (certificate("gate-1") + certificate("gate-1"), Refusal.NOT_A_CERTIFICATE),
        (certificate("gate-1") + b" " * enrolled.MAX_CERTIFICATE, Refusal.TOO_LARGE),
        (certificate(), Refusal.BAD_NAME),
        (certificate("gate-1", "gate-2"), Refusal.BAD_NAME),
        (certificate("Gate 1"), Refusal.BAD_NAME),
        (certificate("gate-1\nuser controller"), Refusal.BAD_NAME),
        (certificate("gate-1\n"), Refusal.BAD_NAME),
        (certificate("../gate-1"), Refusal.BAD_NAME),
        (certificate("+"), Refusal.BAD_NAME),
        (certificate("all"), Refusal.RESERVED_NAME),
        (certificate("controller"), Refusal.RESERVED_NAME),
        (certificate("gate-1", key=rsa.generate_private_key(65537, 2048)), Refusal.BAD_KEY),
        (certificate("gate-1", key=ec.generate_private_key(ec.SECP256K1())), Refusal.BAD_KEY),
        (certificate("gate-1", purpose=ExtendedKeyUsageOID.SERVER_AUTH), Refusal.BAD_PURPOSE),
    ],
)
def test_refuses_what_cannot_be_a_gates_certificate_with_one_reason(
    gates: Enrolled, pem: bytes, expected: Refusal
) -> None:
    assert refusal(gates.add, pem) is expected
    assert gates.gates() == {}
    assert not gates.directory.exists()


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), KEYS["two"]], ids=["P-384", "P-256"])
def test_takes_both_curves_and_a_certificate_without_a_stated_purpose(gates: Enrolled, key: Any) -> None:
    assert gates.add(certificate("gate-1", key=key, purpose=None)) == "gate-1"


def test_a_certificate_for_the_same_key_renews_and_one_for_another_key_is_refused(gates: Enrolled) -> None:
    gates.add(certificate("gate-1", serial=7))
    gates.add(certificate("gate-1", serial=8))
    assert gates.gates()["gate-1"].serial_number == 8
    assert refusal(gates.add, certificate("gate-1", key=KEYS["two"], serial=9)) is Refusal.OTHER_KEY
    assert gates.gates()["gate-1"].serial_number == 8


def test_a_revoked_key_never_comes_back_and_a_new_key_does(gates: Enrolled) -> None:
    gates.add(certificate("gate-1"))
    gates.revoke("gate-1")
    assert gates.public_key("gate-1") is None
    assert [path.name for path in (gates.directory / "revoked").iterdir()] == ["gate-1-7.pem"]
    for again in (certificate("gate-1", serial=8), certificate("gate-9", serial=8)):
        assert refusal(Enrolled(gates.directory).add, again) is Refusal.REVOKED_KEY
    assert gates.add(certificate("gate-1", key=KEYS["two"], serial=9)) == "gate-1"


@pytest.mark.parametrize("name", ["gate-1", "../gate-1", "all", "", "revoked/gate-1-7"])
def test_only_an_enrolled_gate_can_be_revoked(gates: Enrolled, name: str) -> None:
    assert refusal(gates.revoke, name) is Refusal.NOT_ENROLLED


def test_a_change_by_another_process_is_seen_at_the_next_look_and_only_then(gates: Enrolled) -> None:
    gates.add(certificate("gate-1"))
    other = Enrolled(gates.directory)
    assert other.changed()
    assert not other.changed()
    gates.add(certificate("gate-2", key=KEYS["two"]))
    assert other.public_key("gate-2") is None
    assert other.changed()
    assert list(other.gates()) == ["gate-1", "gate-2"]
    gates.add(certificate("gate-1", serial=8))  # a replacement of the same length changes it too
    assert other.changed()
    assert other.gates()["gate-1"].serial_number == 8
    gates.revoke("gate-2")
    assert other.changed()
    assert list(other.gates()) == ["gate-1"]


def test_a_file_that_enrols_nobody_is_named_and_stands_in_nobodys_way(gates: Enrolled) -> None:
    gates.add(certificate("gate-1"))
    (gates.directory / "gate-2.pem").write_bytes(certificate("gate-3", key=KEYS["two"]))
    (gates.directory / "gate-4.pem").write_bytes(b"x" * 100_000)
    (gates.directory / "gate-5.pem").mkdir()
    (gates.directory / "gate-6.txt").write_bytes(certificate("gate-6"))
    assert gates.changed()
    assert list(gates.gates()) == ["gate-1"]
    assert gates.unusable() == {
        "gate-2.pem": Refusal.WRONG_FILE,
        "gate-4.pem": Refusal.TOO_LARGE,
        "gate-5.pem": Refusal.UNREADABLE,
    }
    gates.revoke("gate-2")
    assert "gate-2.pem" not in gates.unusable()


def test_more_gates_than_a_broker_is_made_for_are_refused(gates: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolled, "MAX_GATES", 1)
    gates.add(certificate("gate-1"))
    assert refusal(gates.add, certificate("gate-2", key=KEYS["two"])) is Refusal.TOO_MANY
    gates.add(certificate("gate-1", serial=8))
    (gates.directory / "gate-2.pem").write_bytes(certificate("gate-2", key=KEYS["two"]))
    assert refusal(gates.changed) is Refusal.TOO_MANY
    assert list(gates.gates()) == ["gate-1"]  # what was in force stays


def test_files_can_be_read_by_all_and_nothing_else_is_left(gates: Enrolled) -> None:
    gates.add(certificate("gate-1"))
    gates.add(certificate("gate-2", key=KEYS["two"]))
    gates.revoke("gate-2")
    found = {
        str(path.relative_to(gates.directory)): S_IMODE(path.stat().st_mode)
        for path in (gates.directory, *gates.directory.rglob("*"))
    }
    assert found == {".": 0o755, "gate-1.pem": 0o644, "revoked": 0o755, "revoked/gate-2-7.pem": 0o644}


@pytest.fixture(scope="module")
def good() -> bytes:
    return certificate("gate-1")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_the_bytes_are_they_enrol_or_give_one_typed_error(good: bytes, data: st.DataObject) -> None:
    der = x509.load_pem_x509_certificate(good).public_bytes(Encoding.DER)
    at = data.draw(st.integers(0, len(der) - 1))
    changed = der[:at] + data.draw(st.binary(max_size=4)) + der[at + data.draw(st.integers(0, 4)) :]
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(changed) + b"-----END CERTIFICATE-----\n"
    for candidate in (pem, changed, data.draw(st.binary(max_size=200))):
        with suppress(EnrolError):
            assert read_certificate(candidate).gate not in enrolled.RESERVED
