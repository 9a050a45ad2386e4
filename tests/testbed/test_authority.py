"""An issuing authority and a phone on disk: private files, issue, revoke, publish, and a history that stays on the phone."""

from __future__ import annotations

import json
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mdoc import cbor, truststore
from mdoc.statuslist import TokenStatus
from protocol.clock import SystemClock
from testbed import issuer_cli
from testbed.authority import Authority
from testbed.opendid import listed_issuer
from testbed.phone.wallet import Wallet


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    directory = tmp_path / "authority"
    assert issuer_cli.main(["--dir", str(directory), "create"]) == 0
    return directory


def loaded(authority: Path, trust: Path) -> truststore.Trust:
    opened = Authority(authority, bytes)
    return truststore.load_directory(trust, list_key=opened.list_key, now=SystemClock().now())


def test_keys_are_readable_by_nobody_else(authority: Path, tmp_path: Path) -> None:
    phone = tmp_path / "phone"
    assert issuer_cli.main(["--dir", str(authority), "issue", "--phone", str(phone)]) == 0
    keys = [*authority.glob("*.key.pem"), *phone.glob("*.key.pem")]
    assert len(keys) == 7
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)


def test_issue_revoke_publish(authority: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phone, trust = tmp_path / "phone", tmp_path / "trust"
    run = ["--dir", str(authority)]
    assert issuer_cli.main([*run, "issue", "--phone", str(phone), "--access-class", "secure"]) == 0
    assert "상태 번호 0" in capsys.readouterr().out
    assert issuer_cli.main([*run, "revoke", "0"]) == 0
    assert issuer_cli.main([*run, "publish", "--trust", str(trust)]) == 0
    snapshot = loaded(authority, trust)
    assert snapshot.problems == ()
    assert (len(snapshot.anchors), len(snapshot.issuers), len(snapshot.status)) == (1, 1, 1)
    (uri,) = snapshot.status.ages(SystemClock().now())
    found = snapshot.status.find(uri)
    assert found is not None
    assert found.get(0) is TokenStatus.INVALID
    assert found.get(1) is TokenStatus.VALID
    assert found.get(len(found)) is TokenStatus.UNDETERMINED
    wallet = Wallet.load(phone)
    assert len(wallet.held) == len(wallet.passes) == 1


def test_a_revoked_document_signer_is_on_the_published_list(authority: Path, tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    before = Authority(authority, bytes).document_signer
    assert issuer_cli.main(["--dir", str(authority), "revoke-signer"]) == 0
    assert issuer_cli.main(["--dir", str(authority), "publish", "--trust", str(trust)]) == 0
    snapshot = loaded(authority, trust)
    assert snapshot.problems == ()
    (revoked,) = snapshot.crls
    opened = Authority(authority, bytes)
    assert before.serial_number in revoked.revoked
    assert opened.document_signer.serial_number not in revoked.revoked
    assert opened.signer_key.public_key() == opened.document_signer.public_key() == opened.licence_signer.public_key()


def test_a_site_signs_a_list_of_authorities(
    authority: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = tmp_path / "trust"
    run = ["--dir", str(tmp_path / "provider"), "vical", "--trust", str(trust), "--authority"]
    assert issuer_cli.main([*run, f"{authority / 'iaca.pem'}=kr.go.civilservant.1,org.iso.18013.5.1.mDL"]) == 0
    assert issuer_cli.main([*run, f"{authority / 'iaca.pem'}=kr.go.civilservant.1"]) == 0
    assert "발급기관 1곳" in capsys.readouterr().out
    snapshot = loaded(authority, trust)
    assert snapshot.problems == ()
    (listed,) = snapshot.vicals
    assert listed.issue_id == 2
    assert listed.anchors[0].listed_types == frozenset({"kr.go.civilservant.1"})
    for wrong in ("iaca.pem", f"{tmp_path}/none.pem=a", f"{authority / 'iaca.pem'}="):
        with pytest.raises(SystemExit):
            issuer_cli.main([*run, wrong])


def did_document(key: ec.EllipticCurvePrivateKey, **changes: Any) -> bytes:
    """As the Open DID platform writes it, with a made-up issuer."""
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    number, text = int.from_bytes(point, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + text
    method = {"id": "assert", "type": "Secp256r1VerificationKey2018", "publicKeyMultibase": "z" + text}
    return json.dumps(
        {
            "id": "did:omn:made-up",
            "versionId": "3",
            "deactivated": False,
            "assertionMethod": ["assert"],
            "verificationMethod": [method, {**method, "id": "auth"}],
            **changes,
        }
    ).encode()


def test_an_open_did_issuer_is_listed_and_listed_anew_in_its_place(authority: Path, tmp_path: Path) -> None:
    trust, document = tmp_path / "trust", tmp_path / "did.json"
    key = ec.generate_private_key(ec.SECP256R1())
    document.write_bytes(did_document(key))
    run = ["--dir", str(authority)]
    for doc_type in ("org.iso.18013.5.1.mDL", "kr.go.civilservant.1"):
        command = [*run, "list-did", "--document", str(document), "--doc-type", doc_type]
        assert issuer_cli.main([*command, "--valid-until", "2099-01-01T00:00:00Z"]) == 0
    assert issuer_cli.main([*run, "publish", "--trust", str(trust)]) == 0
    snapshot = loaded(authority, trust)
    assert len(snapshot.issuers) == 2
    issuer = snapshot.issuers.find(b"did:omn:made-up?versionId=3#assert")
    assert issuer is not None
    assert issuer.key == key.public_key()
    assert issuer.doc_types == ("kr.go.civilservant.1",)


@pytest.mark.parametrize(
    "changes",
    [
        {"deactivated": True},
        {"id": ""},
        {"versionId": None},
        {"assertionMethod": ["auth"]},
        {"assertionMethod": None},
        {"verificationMethod": []},
        {"verificationMethod": [{"id": "assert", "type": "Ed25519VerificationKey2018", "publicKeyMultibase": "z1"}]},
        {"verificationMethod": [{"id": "assert", "type": "Secp256r1VerificationKey2018", "publicKeyMultibase": "z0"}]},
        {"verificationMethod": [{"id": "assert", "type": "Secp256r1VerificationKey2018", "publicKeyMultibase": "uAA"}]},
        {"verificationMethod": [{"id": "assert", "type": "Secp256r1VerificationKey2018", "publicKeyMultibase": "z11"}]},
    ],
)
def test_a_did_document_that_cannot_be_used_lists_nobody(changes: dict[str, Any], now: datetime) -> None:
    raw = did_document(ec.generate_private_key(ec.SECP256R1()), **changes)
    with pytest.raises(ValueError, match=r".+"):
        listed_issuer(raw, key="assert", doc_types=["x"], not_before=now, not_after=now)


def test_a_real_did_document_names_the_key_as_its_credential_does(vectors: Path, now: datetime) -> None:
    raw = (vectors / "opendid" / "did_omn_issuer_poc-did-mdoc.json").read_bytes()
    issuer = listed_issuer(raw, key="assert", doc_types=["org.iso.18013.5.1.mDL"], not_before=now, not_after=now)
    assert issuer.kid == b"did:omn:issuer?versionId=1#assert"
    credential = cbor.decode_map((vectors / "opendid" / "mdoc_kid_devresp_noportrait.cbor").read_bytes())
    assert credential["documents"][0]["issuerSigned"]["issuerAuth"][1] == {4: issuer.kid}


def test_mistakes_are_told_in_one_line(authority: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issuer_cli.main(["--dir", str(authority), "revoke", "7"]) == 2
    assert issuer_cli.main(["--dir", str(tmp_path / "none"), "publish", "--trust", str(tmp_path)]) == 2
    assert issuer_cli.main(["--dir", str(authority), "create"]) == 2
    assert capsys.readouterr().err.count("오류 (error)") == 3


def test_history_is_kept_on_the_phone(tmp_path: Path, now: datetime) -> None:
    wallet = Wallet()
    wallet.save(tmp_path)
    wallet.remember(now, carrier="nfc", reader="정부세종청사", shared={"ns": ["access_class"]}, outcome="shared")
    assert Wallet.load(tmp_path).history == wallet.history
    assert wallet.history[0]["reader"] == "정부세종청사"
