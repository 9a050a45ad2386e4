from __future__ import annotations

import getpass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from gate_agent.policy_file import load_policy, signature_path
from gwanmun import cli
from tests.policy.conftest import BASE

KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, lock: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text(BASE)
    (tmp_path / "key.pem").write_bytes(pem(KEY, NoEncryption()))
    return tmp_path


def sign(folder: Path) -> int:
    return cli.main(["policy", "sign", "--key", str(folder / "key.pem"), str(folder / "policy.toml")])


def test_a_gate_takes_what_the_officer_signed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sign(folder) == 0
    assert "서명했습니다" in capsys.readouterr().out
    assert load_policy(folder / "policy.toml", (), signer=KEY.public_key()).version == 3
    assert sorted(path.name for path in folder.iterdir()) == ["key.pem", "policy.toml", "policy.toml.sig"]


def test_a_locked_key_asks_for_its_password(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "key.pem").write_bytes(pem(KEY, BestAvailableEncryption(b"opensesame")))
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: "opensesame")
    assert sign(folder) == 0
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: "wrong")
    assert sign(folder) == 2


def test_rules_that_cannot_be_used_are_not_signed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policy.toml").write_text(BASE.replace("factors = 2", "factors = 7"))
    assert sign(folder) == 2
    assert "zones.vault.factors" in capsys.readouterr().err
    assert not signature_path(folder / "policy.toml").exists()


OKP = ed25519.Ed25519PrivateKey.generate()
OTHER_CURVE = ec.generate_private_key(ec.SECP256K1())


@pytest.mark.parametrize("content", [b"", b"no key", pem(OKP, NoEncryption()), pem(OTHER_CURVE, NoEncryption())])
def test_a_key_that_cannot_sign_rules_is_refused(
    folder: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "key.pem").write_bytes(content)
    assert sign(folder) == 2
    assert "key.pem" in capsys.readouterr().err
    (folder / "key.pem").unlink()
    assert sign(folder) == 2


def test_the_other_commands_are_there_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["policy", "check", str(folder / "policy.toml")]) == 0
    assert "Usable" in capsys.readouterr().out
