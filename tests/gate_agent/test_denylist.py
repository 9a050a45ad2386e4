from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from gate_agent import denylist
from gate_agent.denylist import DenyList, build, key_entry, load, parse, status_entry
from mdoc import cbor, cose
from mdoc.cbor import Tag
from mdoc.errors import MalformedError, MdocError, TrustError
from mdoc.issuerlist import format_tdate
from protocol.signed import seal
from tests.conftest import NOW

KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = KEY.public_key()
LOST = status_entry("https://status.example/1", 412)


def test_a_listed_status_reference_is_denied_and_its_neighbours_are_not() -> None:
    deny = parse(build([LOST], version=3, date=NOW, key=KEY), SIGNER)
    assert (deny.version, deny.date) == (3, NOW)
    assert deny.denies([status_entry("https://status.example/1", 412)])
    assert not deny.denies(
        [status_entry("https://status.example/1", 413), status_entry("https://status.example/2", 412)]
    )
    assert not DenyList().denies([LOST])


def test_a_listed_device_key_is_denied_however_it_was_sent() -> None:
    device = ec.generate_private_key(ec.SECP256R1()).public_key()
    deny = parse(build([key_entry(device)], version=1, date=NOW, key=KEY), SIGNER)
    compressed = cose.ec_public_key(cose.cose_key(device, compressed=True))
    assert deny.denies([LOST, key_entry(compressed)])
    assert not deny.denies([key_entry(SIGNER)])


def test_the_thumbprint_of_rfc_9679_section_6() -> None:
    key = cose.ec_public_key(
        {
            1: 2,
            -1: 1,
            -2: bytes.fromhex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"),
            -3: bytes.fromhex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"),
        }
    )
    assert key_entry(key).hex() == "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"


def test_an_okp_key_has_a_thumbprint_too() -> None:
    first, second = (ed25519.Ed25519PrivateKey.generate().public_key() for _ in range(2))
    assert key_entry(first) == key_entry(first) != key_entry(second)


def test_an_rsa_key_has_a_thumbprint_of_modulus_and_exponent() -> None:
    """RFC 9679 4.3: kty 3, n and e without leading zeros."""
    modulus = int.from_bytes(b"\xc1" * 256)
    key = rsa.RSAPublicNumbers(65_537, modulus).public_key()
    expected = b"\xa3\x01\x03\x20\x59\x01\x00" + b"\xc1" * 256 + b"\x21\x43\x01\x00\x01"
    assert key_entry(key) == hashlib.sha256(expected).digest()


def test_a_status_reference_has_one_reading() -> None:
    assert status_entry("a", 1) != status_entry("a\x00", 1)
    assert len({status_entry(uri, index) for uri in ("a", "b") for index in (0, 1, 256)}) == 6


def test_a_list_of_somebody_else_is_refused() -> None:
    with pytest.raises(TrustError):
        parse(build([LOST], version=1, date=NOW, key=ec.generate_private_key(ec.SECP256R1())), SIGNER)


def test_a_list_may_not_go_back() -> None:
    raw = build([], version=4, date=NOW, key=KEY)
    assert parse(raw, SIGNER, in_force=4).version == 4
    with pytest.raises(TrustError, match="goes back"):
        parse(raw, SIGNER, in_force=5)


GOOD: dict[str, Any] = {"version": 1, "date": format_tdate(NOW), "deny": [LOST]}


@pytest.mark.parametrize(
    "change",
    [
        {"version": -1},
        {"version": "1"},
        {"version": True},
        {"date": "today"},
        {"deny": None},
        {"deny": [b"short"]},
        {"deny": [412]},
        {"deny": ["x" * 32]},
        {"allow": [LOST]},
        {"names": ["Hong"]},
    ],
)
def test_a_list_that_says_anything_else_is_refused(change: dict[str, Any]) -> None:
    parse(seal(GOOD, denylist.TYPE, KEY), SIGNER)
    with pytest.raises(MalformedError):
        parse(seal({**GOOD, **change}, denylist.TYPE, KEY), SIGNER)


def test_too_many_entries_are_refused() -> None:
    entries = [number.to_bytes(32, "big") for number in range(denylist.MAX_ENTRIES + 1)]
    assert len(parse(build(entries[:-1], version=1, date=NOW, key=KEY), SIGNER).entries) == denylist.MAX_ENTRIES
    with pytest.raises(MalformedError):
        parse(build(entries, version=1, date=NOW, key=KEY), SIGNER)


def test_another_signed_file_of_the_same_signer_is_no_deny_list() -> None:
    with pytest.raises(MalformedError):
        parse(seal(GOOD, "application/gwanmun-visit+cbor", KEY), SIGNER)


@given(st.binary(max_size=64))
def test_garbage_gives_a_typed_error(raw: bytes) -> None:
    for sample in (
        raw,
        cbor.encode(Tag(cose.TAG_SIGN1, cose.build_sign1(KEY, raw, protected={cose.TYP: denylist.TYPE}))),
    ):
        with pytest.raises(MdocError):
            parse(sample, SIGNER)


def test_it_is_read_from_the_trust_directory(tmp_path: Path) -> None:
    assert load(tmp_path, SIGNER) == DenyList()
    (tmp_path / denylist.FILE).write_bytes(build([LOST], version=2, date=NOW, key=KEY))
    assert load(tmp_path, SIGNER).denies([LOST])
    (tmp_path / denylist.FILE).write_bytes(b"x" * (denylist.MAX_FILE + 1))
    with pytest.raises(MalformedError):
        load(tmp_path, SIGNER)


def test_a_list_that_is_taken_away_does_not_let_a_lost_phone_in_again(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="taken away"):
        load(tmp_path, SIGNER, in_force=2)


def test_entries_do_not_show_in_a_log_line() -> None:
    assert LOST.hex() not in repr(DenyList(1, NOW, frozenset({LOST})))
    assert repr(LOST) not in repr(DenyList(1, NOW, frozenset({LOST})))
