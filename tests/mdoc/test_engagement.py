"""DeviceEngagement: what wallets send is read, what is unknown is kept, what breaks the structure is refused."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import cbor, cose, limits
from mdoc.cbor import Encoded
from mdoc.engagement import (
    CAPABILITY_EXTENDED_REQUEST,
    CAPABILITY_READER_AUTH_ALL,
    BleOptions,
    DeviceEngagement,
    NfcOptions,
    build_engagement,
    from_qr,
    to_qr,
)
from mdoc.errors import MalformedError
from mdoc.ndef_handover import HandoverSelect

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="shared/vectors is not beside the checkout")
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
SERVER, CLIENT = UUID(int=1), UUID(int=2)
BLE = {0: True, 1: True, 10: SERVER.bytes, 11: CLIENT.bytes}


def body() -> dict[Any, Any]:
    return {
        0: "1.0",
        1: [1, Encoded.wrap(cbor.encode(cose.cose_key(KEY)))],
        2: [[1, 1, {0: 255, 1: 256}], [2, 1, dict(BLE)], [3, 1, {0: "passphrase"}]],
    }


def parse(value: dict[Any, Any]) -> DeviceEngagement:
    return DeviceEngagement.parse(cbor.encode(value))


@needs_vectors
def test_annex_d_is_read() -> None:
    raw = bytes.fromhex((VECTORS / "annexd" / "device_engagement.hex").read_text())
    engagement = DeviceEngagement.parse(raw)
    assert engagement.raw == raw
    assert engagement.ble is not None
    assert (engagement.ble.peripheral_server, engagement.ble.central_client) == (False, True)
    assert engagement.key_bytes.raw == bytes.fromhex((VECTORS / "annexd" / "e_device_key_bytes.hex").read_text())
    assert from_qr(to_qr(raw).encode()) == raw


@needs_vectors
def test_the_engagement_of_apple_wallet_keeps_its_later_keys() -> None:
    raw = HandoverSelect.parse(bytes.fromhex((VECTORS / "nfc/apple_wallet_handover_select.hex").read_text())).engagement
    engagement = DeviceEngagement.parse(raw)
    assert engagement.version == "1.1"
    assert engagement.origin_infos == ()
    assert engagement.capabilities == {CAPABILITY_READER_AUTH_ALL: True, CAPABILITY_EXTENDED_REQUEST: True}
    assert (engagement.raw, engagement.ble, engagement.nfc, engagement.other) == (raw, None, None, {})


def test_several_methods_in_one_engagement() -> None:
    engagement = parse(body())
    assert engagement.nfc == NfcOptions(255, 256)
    assert engagement.ble == BleOptions(True, True, SERVER, CLIENT)
    assert engagement.method_types == (1, 2, 3)


def test_two_ble_methods_with_one_mode_each() -> None:
    value = body()
    value[2] = [
        [2, 1, {0: False, 1: True, 11: CLIENT.bytes}],
        [2, 1, {0: True, 1: False, 10: SERVER.bytes, 20: bytes(6)}],
    ]
    assert parse(value).ble == BleOptions(True, True, SERVER, CLIENT, bytes(6))


def test_unknown_keys_are_kept_as_received() -> None:
    raw = cbor.encode(body() | {0: "1.1", 3: "server", 4: "protocol", 7: {1: 2}, -1: b"x"})
    long_head = b"\xb8" + bytes((raw[0] & 31,)) + raw[1:]
    for received in (raw, long_head):
        engagement = DeviceEngagement.parse(received)
        assert engagement.raw == received
        assert engagement.other == {
            3: cbor.encode("server"),
            4: cbor.encode("protocol"),
            7: bytes.fromhex("a10102"),
            -1: b"\x41x",
        }


def test_unknown_methods_versions_and_options_are_no_error() -> None:
    value = body()
    value[2] = [[5, 1, {}], [9, 7, "x", 1], [2, 2, {0: "later"}], [2, 1, {**BLE, 21: 192, 99: "x"}], [3, 1]]
    engagement = parse(value)
    assert engagement.ble == BleOptions(True, True, SERVER, CLIENT)
    assert engagement.method_types == (5, 9, 2, 2, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop(0),
        lambda value: value.pop(1),
        lambda value: value.update({0: "2.0"}),
        lambda value: value.update({0: "1"}),
        lambda value: value.update({0: "1.x"}),
        lambda value: value.update({0: 1.0}),
        lambda value: value.update({1: [2, value[1][1]]}),
        lambda value: value.update({1: [True, value[1][1]]}),
        lambda value: value.update({1: [1.0, value[1][1]]}),
        lambda value: value.update({1: [1]}),
        lambda value: value.update({1: [1, value[1][1].content]}),
        lambda value: value.update({1: [1, Encoded.wrap(value[1][1].content + b"\0")]}),
        lambda value: value.update({1: [1, Encoded.wrap(b"\xa0")]}),
        lambda value: value.update({1: {0: 1}}),
        lambda value: value.update({2: {}}),
        lambda value: value.update({2: None}),
        lambda value: value.update({2: [[]]}),
        lambda value: value.update({2: [["2", 1, BLE]]}),
        lambda value: value.update({2: [[2, "1", BLE]]}),
        lambda value: value.update({2: [[2, 1]]}),
        lambda value: value.update({2: [[2, 1, []]]}),
        lambda value: value.update({2: [[5, 1, {}]] * 17}),
        lambda value: value.update({2: [[2, 1, {**BLE, 0: 1}]]}),
        lambda value: value.update({2: [[2, 1, {0: True, 1: False}]]}),
        lambda value: value.update({2: [[2, 1, {0: False, 1: True}]]}),
        lambda value: value.update({2: [[2, 1, {**BLE, 10: bytes(15)}]]}),
        lambda value: value.update({2: [[2, 1, {**BLE, 11: str(CLIENT)}]]}),
        lambda value: value.update({2: [[2, 1, {**BLE, 20: bytes(7)}]]}),
        lambda value: value.update({2: [[1, 1, {0: 254, 1: 256}]]}),
        lambda value: value.update({2: [[1, 1, {0: 255, 1: 65537}]]}),
        lambda value: value.update({2: [[1, 1, {0: 255.0, 1: 256}]]}),
        lambda value: value.update({2: [[1, 1, {0: 255}]]}),
        lambda value: value.update({5: {}}),
        lambda value: value.update({5: [1]}),
        lambda value: value.update({6: []}),
        lambda value: value.update({6: {"x": 1}}),
    ],
)
def test_refuses(change: Callable[[dict[Any, Any]], object]) -> None:
    value = body()
    change(value)
    with pytest.raises(MalformedError):
        parse(value)


def test_refuses_an_engagement_over_the_limit() -> None:
    with pytest.raises(MalformedError, match="at most"):
        parse(body() | {9: bytes(limits.MAX_ENGAGEMENT)})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"mdoc",
        b"MDOC:AA",
        b"openid4vp:AA",
        b"mdoc:A",
        b"mdoc:A+/A",
        b"mdoc:AA AA",
        b"mdoc:AA==A",
        b"mdoc:\xff\xff",
        b"mdoc:AA\n",
    ],
)
def test_refuses_another_code(text: bytes) -> None:
    with pytest.raises(MalformedError):
        from_qr(text)


def test_refuses_a_code_over_the_limit() -> None:
    with pytest.raises(MalformedError, match="too long"):
        from_qr(b"mdoc:" + b"A" * (limits.MAX_ENGAGEMENT * 2))


def test_takes_padding_that_some_encoders_leave() -> None:
    raw = build_engagement(KEY)
    assert from_qr(b"mdoc:" + base64.urlsafe_b64encode(raw)) == raw


UUIDS = st.none() | st.uuids()


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(
    server=UUIDS,
    client=UUIDS,
    address=st.none() | st.binary(min_size=6, max_size=6),
    nfc=st.none() | st.builds(NfcOptions, st.integers(255, 65_535), st.integers(256, 65_536)),
    capabilities=st.none() | st.dictionaries(st.integers(0, 40), st.booleans(), max_size=3),
)
def test_what_is_written_is_read(
    server: UUID | None,
    client: UUID | None,
    address: bytes | None,
    nfc: NfcOptions | None,
    capabilities: dict[int, Any] | None,
) -> None:
    ble = BleOptions(server is not None, client is not None, server, client, address)
    raw = build_engagement(KEY, ble=ble, nfc=nfc, capabilities=capabilities)
    read = DeviceEngagement.parse(from_qr(to_qr(raw).encode()))
    assert (read.raw, read.ble, read.nfc, read.capabilities) == (raw, ble, nfc, capabilities or {})
    assert read.key.public_numbers() == KEY.public_numbers()
    assert read.version == ("1.0" if capabilities is None else "1.1")


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_mutation_is_read_or_ends_in_one_error(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(cbor.encode(body()))
    for at, value in changes:
        raw[at % len(raw)] = value
    with contextlib.suppress(MalformedError):
        DeviceEngagement.parse(bytes(raw))
