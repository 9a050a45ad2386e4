"""The virtual cards on a real pcscd, read and tested by programs that know nothing of this project: OpenSC, yubico-piv-tool, and
openssl for the signature of the CHUID.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding

from testbed.card import chuid, hostile
from testbed.card.card import Card
from testbed.card.field import lay_on_pcsc
from testbed.card.issuer import CardCredential, CardIssuer
from testbed.card.keys import KeyKind
from testbed.card.piv import VirtualPivCard
from testbed.card.pkoc import VirtualPkocCard
from testbed.card.tlv import objects
from tests.pcscd import GUARD_S, Pcscd, running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pcscd")]

READER = "Virtual PCD 00 00"
CARD_AUTHENTICATION = "04"
"""What OpenSC calls the certificate and key of card authentication."""
HASHES = {KeyKind.P384: "SHA384"}
"""yubico-piv-tool hashes by SHA-256 unless told otherwise, and the card takes a hash of its curve's size only."""
KINDS = (KeyKind.P256, KeyKind.P384, KeyKind.RSA_2048, KeyKind.RSA_3072)
NOW = datetime.now(UTC)
"""openssl and the tools look at the machine's clock."""


@pytest.fixture(scope="module")
def pcscd(tmp_path_factory: pytest.TempPathFactory) -> Pcscd:
    return running(tmp_path_factory.mktemp("pcscd"))


@pytest.fixture(scope="module")
def issuer() -> CardIssuer:
    return CardIssuer("Test", NOW)


@pytest.fixture(scope="module")
def credentials(issuer: CardIssuer) -> dict[KeyKind, CardCredential]:
    return {kind: issuer.issue(NOW, kind=kind) for kind in KINDS}


def await_card(present: bool) -> None:
    """Until pcscd sees a card in the reader, or none. Raises TimeoutError."""
    from smartcard import scard

    _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
    known, end = scard.SCARD_STATE_UNAWARE, time.monotonic() + GUARD_S
    try:
        while time.monotonic() < end:
            _, states = scard.SCardGetStatusChange(context, 1000, [(READER, known)])
            known: Any = states[0][1] & ~scard.SCARD_STATE_CHANGED  # type: ignore[no-redef]
            if bool(known & scard.SCARD_STATE_PRESENT) is present:
                return
    finally:
        scard.SCardReleaseContext(context)
    raise TimeoutError("pcscd does not see the change")


@contextmanager
def lying(card: Card, pcscd: Pcscd) -> Iterator[None]:
    """The card on the reader, seen by pcscd."""
    await_card(False)
    laid = lay_on_pcsc(card, pcscd.port)
    try:
        await_card(True)
        yield
    finally:
        laid.remove()
        await_card(False)


def run(pcscd: Pcscd, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Skips the test where the program is missing."""
    if shutil.which(str(command[0])) is None:
        # `make test-all` installs what is missing; in CI nothing may be.
        assert os.environ.get("CI") != "true", f"missing: {command[0]}"
        pytest.skip(f"missing: {command[0]}")
    return subprocess.run(
        [*map(str, command)], env=pcscd.environment, capture_output=True, text=True, timeout=60, check=check
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compressed", [False, True])
def test_opensc_reads_the_certificate_and_has_the_key_sign(
    pcscd: Pcscd, credentials: dict[KeyKind, CardCredential], tmp_path: Path, kind: KeyKind, compressed: bool
) -> None:
    credential = credentials[kind]
    digest = (hashlib.sha384 if kind is KeyKind.P384 else hashlib.sha256)(tmp_path.name.encode()).digest()
    (tmp_path / "hash").write_bytes(digest)
    padded = ["--pkcs1", "--sha-256"] if kind.startswith("rsa") else ["--signature-format", "openssl"]
    with lying(VirtualPivCard(credential, compressed=compressed), pcscd):
        pem = run(pcscd, "pkcs15-tool", "--read-certificate", CARD_AUTHENTICATION).stdout
        run(
            pcscd,
            *("pkcs15-crypt", "--sign", "--key", CARD_AUTHENTICATION, *padded),
            *("--input", tmp_path / "hash", "--output", tmp_path / "signature"),
        )
    assert x509.load_pem_x509_certificate(pem.encode()) == credential.certificate
    public, signature = credential.key.public_key(), (tmp_path / "signature").read_bytes()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    else:
        scheme = hashes.SHA384() if kind is KeyKind.P384 else hashes.SHA256()
        public.verify(signature, digest, ec.ECDSA(Prehashed(scheme)))


def test_opensc_knows_the_card_as_a_piv_card_with_its_number(
    pcscd: Pcscd, credentials: dict[KeyKind, CardCredential]
) -> None:
    credential = credentials[KeyKind.P256]
    with lying(VirtualPivCard(credential), pcscd):
        assert run(pcscd, "opensc-tool", "--name").stdout.strip() == "Personal Identity Verification Card"
        serial = run(pcscd, "piv-tool", "--serial").stdout
    assert credential.card_uuid.hex(" ").upper() in serial


def test_pkcs11_finds_certificate_and_key_without_a_pin(
    pcscd: Pcscd, credentials: dict[KeyKind, CardCredential], tmp_path: Path
) -> None:
    credential, out = credentials[KeyKind.P256], tmp_path / "certificate.der"
    with lying(VirtualPivCard(credential), pcscd):
        run(
            pcscd,
            *("pkcs11-tool", "--read-object", "--type", "cert", "--id", CARD_AUTHENTICATION, "--output-file", out),
        )
        listed = run(pcscd, "pkcs11-tool", "--list-objects").stdout
    assert out.read_bytes() == credential.certificate.public_bytes(Encoding.DER)
    assert "CARD AUTH key" in listed


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA_2048])
def test_yubico_piv_tool_reads_the_certificate_and_verifies_a_signature(
    pcscd: Pcscd, credentials: dict[KeyKind, CardCredential], tmp_path: Path, kind: KeyKind
) -> None:
    """It knows no RSA of 3072 bits and no compressed certificates (version 2.2.0)."""
    credential, pem = credentials[kind], tmp_path / "certificate.pem"
    with lying(VirtualPivCard(credential), pcscd):
        run(pcscd, *yubico("read-certificate"), "-s", "9e", "-o", pem)
        tested = run(pcscd, *yubico("test-signature"), "-s", "9e", "-i", pem, "-H", HASHES.get(kind, "SHA256"))
    assert x509.load_pem_x509_certificate(pem.read_bytes()) == credential.certificate
    assert "Successful" in tested.stderr


@pytest.mark.parametrize("make", [hostile.wrong_key, hostile.wrong_hash, hostile.replaying, hostile.without_key])
@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA_2048])
def test_yubico_piv_tool_refuses_a_card_without_the_key(
    pcscd: Pcscd, credentials: dict[KeyKind, CardCredential], tmp_path: Path, make: Any, kind: KeyKind
) -> None:
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(credentials[kind].certificate.public_bytes(Encoding.PEM))
    with lying(make(credentials[kind]), pcscd):
        tested = run(pcscd, *yubico("test-signature"), "-s", "9e", "-i", pem, check=False)
    assert tested.returncode != 0
    assert "Successful" not in tested.stderr


def test_yubico_piv_tool_shows_what_is_on_the_card(pcscd: Pcscd, credentials: dict[KeyKind, CardCredential]) -> None:
    credential = credentials[KeyKind.P256]
    with lying(VirtualPivCard(credential), pcscd):
        status = run(pcscd, *yubico("status")).stdout
    assert credential.chuid.hex() in status
    assert credential.certificate.fingerprint(hashes.SHA256()).hex() in status
    assert credential.capability_identifier.hex() in status
    assert [line for line in status.splitlines() if line.startswith("Slot")] == ["Slot 9e:\t"]


def yubico(action: str) -> tuple[str, ...]:
    return ("yubico-piv-tool", "-r", "Virtual", "-a", action)


def test_opensc_speaks_to_a_pkoc_card(pcscd: Pcscd) -> None:
    card = VirtualPkocCard(ec.generate_private_key(ec.SECP256R1()))
    select = "00A4040008A00000089800000100"
    authenticate = "8080000138 5C020100 4C10".replace(" ", "") + "11" * 16 + "4D20" + "22" * 32 + "00"
    with lying(card, pcscd):
        said = run(pcscd, "opensc-tool", "--card-driver", "default", "-s", select, "-s", authenticate).stdout
    assert said.count("SW1=0x90, SW2=0x00") == 2
    assert "5A 41 04" in said


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA_2048])
def test_openssl_verifies_the_signature_of_the_chuid(pcscd: Pcscd, tmp_path: Path, kind: KeyKind) -> None:
    issuer = CardIssuer("CHUID", NOW, kind=kind, intermediate=True)
    credential = issuer.issue(NOW)
    parts = dict(objects(credential.chuid))
    content = chuid.signed(parts[0x30], parts[0x34], credential.certificate.not_valid_after_utc.date())
    (tmp_path / "cms").write_bytes(parts[0x3E])
    chain = [issuer.root, *issuer.intermediates]
    (tmp_path / "chain").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))

    def verified(signed: bytes) -> subprocess.CompletedProcess[str]:
        (tmp_path / "content").write_bytes(signed)
        return run(
            pcscd,
            *("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", tmp_path / "cms"),
            *("-content", tmp_path / "content", "-CAfile", tmp_path / "chain", "-purpose", "any"),
            *("-out", tmp_path / "out"),
            check=False,
        )

    assert verified(content).returncode == 0
    assert verified(content[:-3] + b"x" + content[-2:]).returncode != 0
