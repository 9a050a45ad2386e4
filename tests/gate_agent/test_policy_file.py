from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gate_agent import policy_file
from gate_agent.keys import Signers
from gate_agent.policy_file import Kept, load_policy, sign, signature_path
from gate_agent.trust import TrustCache
from mdoc import cbor, cose
from mdoc.cbor import Tag
from policy import limits
from policy.problems import PolicyError
from protocol.events import Kind
from testbed.authority import Authority
from tests.conftest import NOW
from tests.gate_agent.conftest import POLICY
from tests.gate_agent.fakes import FakeClock

OFFICER = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
POINTS = {"lobby-in"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


def sealed(path: Path, key: ec.EllipticCurvePrivateKey = OFFICER) -> Path:
    signature_path(path).write_bytes(sign(path.read_bytes(), key))
    return path


def refused(path: Path, **options: object) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(path, POINTS, signer=OFFICER.public_key(), **options)  # type: ignore[arg-type]  # one of the keyword options
    assert any("가" <= letter <= "힣" for letter in caught.value.problems[0].ko)
    return str(caught.value)


def test_rules_that_the_officer_signed_are_taken(path: Path) -> None:
    assert signature_path(path).name == "policy.toml.sig"
    assert load_policy(sealed(path), POINTS, signer=OFFICER.public_key()).version == 7


def test_without_a_signers_key_no_signature_is_asked_for(path: Path) -> None:
    assert load_policy(path, POINTS).version == 7


def test_with_a_signers_key_unsigned_rules_are_refused(path: Path) -> None:
    assert "unsigned" in refused(path)


def test_another_officers_signature_is_refused(path: Path) -> None:
    assert "does not verify" in refused(sealed(path, STRANGER))


@pytest.mark.parametrize("change", ["# a comment\n", "\n", " "])
def test_any_changed_byte_breaks_the_signature(path: Path, change: str) -> None:
    sealed(path)
    path.write_text(POLICY + change)
    assert "does not verify" in refused(path)


def test_a_signature_made_for_something_else_is_refused(path: Path) -> None:
    raw = path.read_bytes()
    for protected in ({}, {cose.TYP: "application/gwanmun-deny+cbor"}):
        made = cose.build_sign1(OFFICER, raw, detached=True, protected=protected)
        signature_path(path).write_bytes(cbor.encode(Tag(cose.TAG_SIGN1, made)))
        assert "not a signature of rules" in refused(path)


def test_a_payload_inside_the_signature_is_never_used(path: Path) -> None:
    other = POLICY.replace("version = 7", "version = 8").encode()
    made = cose.build_sign1(OFFICER, other, protected={cose.TYP: policy_file.TYPE})
    signature_path(path).write_bytes(cbor.encode(Tag(cose.TAG_SIGN1, made)))
    assert "does not verify" in refused(path)


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\x80", b"x" * (policy_file.MAX_SIGNATURE + 1)])
def test_a_signature_file_of_garbage_is_refused(path: Path, raw: bytes) -> None:
    signature_path(path).write_bytes(raw)
    assert "policy.toml.sig" in refused(path)


def test_the_wrong_kind_of_key_verifies_nothing(path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    with pytest.raises(PolicyError, match="does not verify"):
        load_policy(sealed(path), POINTS, signer=key)


def test_a_version_may_stay_or_rise_and_not_go_back(path: Path) -> None:
    assert load_policy(path, POINTS, in_force=7).version == 7
    assert load_policy(path, POINTS, in_force=6).version == 7
    with pytest.raises(PolicyError) as caught:
        load_policy(path, POINTS, in_force=8)
    assert caught.value.place == "version"


def test_a_file_that_is_absent_or_too_large_is_refused(path: Path) -> None:
    path.write_bytes(b"#" * (limits.MAX_DOCUMENT + 1))
    with pytest.raises(PolicyError, match="at most"):
        load_policy(path, POINTS)
    path.unlink()
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(path, POINTS)


async def test_the_gate_keeps_its_rules_when_older_or_unsigned_ones_come(tmp_path: Path, path: Path) -> None:
    reports: list[tuple[Kind, str]] = []
    clock = FakeClock(NOW)
    authority = Authority.create(tmp_path / "authority", name="Rules", now=NOW - timedelta(days=1))
    (tmp_path / "trust").mkdir()
    cache = TrustCache(
        tmp_path / "trust",
        sealed(path),
        list_key=authority.list_key,
        points=POINTS,
        clock=clock,
        report=lambda kind, data: reports.append((kind, str(data.get("why", "")))),
        signers=Signers(policy=OFFICER.public_key()),
    )
    await cache.load_first()
    before = cache.current.policy
    for text, key, why in (
        (POLICY.replace("version = 7", "version = 6"), OFFICER, "goes back"),
        (POLICY.replace("version = 7", "version = 8"), STRANGER, "does not verify"),
    ):
        await asyncio.to_thread(path.write_text, text)
        sealed(path, key)
        await cache.reload()
        assert cache.current.policy is before
        rejected = [said for kind, said in reports if kind is Kind.TRUST_REJECTED]
        assert why in rejected[-1]
    sealed(path)
    await cache.reload()
    assert cache.current.policy.version == 8


def test_the_rules_in_force_and_their_version_outlive_a_restart(tmp_path: Path, path: Path) -> None:
    kept, officer = Kept(tmp_path / "rules.kept"), OFFICER.public_key()
    assert kept.version() is None
    with pytest.raises(PolicyError, match="no rules are kept"):
        kept.load(POINTS)
    taken = load_policy(sealed(path), POINTS, signer=officer, kept=kept)
    path.unlink()
    assert kept.version() == taken.version == 7
    assert kept.load(POINTS, signer=officer) == taken


def test_rules_that_are_refused_are_not_kept(tmp_path: Path, path: Path) -> None:
    kept = Kept(tmp_path / "rules.kept")
    with pytest.raises(PolicyError):
        load_policy(sealed(path, STRANGER), POINTS, signer=OFFICER.public_key(), kept=kept)
    assert kept.version() is None


def test_kept_rules_are_checked_like_any_other(tmp_path: Path, path: Path) -> None:
    copy = tmp_path / "rules.kept"
    kept, officer = Kept(copy), OFFICER.public_key()
    load_policy(sealed(path), POINTS, signer=officer, kept=kept)
    with pytest.raises(PolicyError, match="does not verify"):
        kept.load(POINTS, signer=STRANGER.public_key())
    with pytest.raises(PolicyError, match="an entry is expected"):
        kept.load({"another-door"}, signer=officer)
    copy.write_bytes(copy.read_bytes() + b"\n# more")
    with pytest.raises(PolicyError, match="does not verify"):
        kept.load(POINTS, signer=officer)


@pytest.mark.parametrize("raw", [b"", b"twelve", b"7", b"7\nzz\n", b"7\n\xff\n", b"9" * 5000, b"7\n\n" + bytes(2**21)])
def test_a_damaged_copy_is_none(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "rules.kept").write_bytes(raw)
    with pytest.raises(PolicyError):
        Kept(tmp_path / "rules.kept").load(POINTS)


def test_rules_that_cannot_be_kept_hold_all_the_same(
    tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_policy(path, POINTS, kept=Kept(tmp_path / "absent" / "rules.kept")).version == 7
    assert "cannot be kept" in caplog.text
