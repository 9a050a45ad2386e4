"""BLE framing, State values and Ident (ISO/IEC 18013-5 8.3.3.1.1)."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdoc import ble, limits

ANNEX_D = Path(__file__).resolve().parents[2].parent / "shared" / "vectors" / "annexd"


def annex_d(name: str) -> bytes:
    path = ANNEX_D / f"{name}.hex"
    if not path.exists():
        pytest.skip(f"vector {path.name} is not beside the checkout")
    return bytes.fromhex(path.read_text())


def whole(values: list[bytes]) -> list[bytes]:
    reassembler = ble.Reassembler()
    return [message for value in values if (message := reassembler.feed(value)) is not None]


@given(message=st.binary(max_size=3000), fragment=st.integers(ble.MIN_VALUE, ble.MAX_VALUE))
def test_chunks_come_together_again(message: bytes, fragment: int) -> None:
    values = list(ble.chunks(message, fragment))
    assert whole(values) == [message]
    assert all(len(value) == fragment for value in values[:-1])
    assert len(values[-1]) <= fragment
    assert [value[0] for value in values] == [1] * (len(values) - 1) + [0]


def test_a_message_that_fills_its_last_chunk_sends_no_empty_one() -> None:
    assert [len(value) for value in ble.chunks(bytes(2 * 19), 20)] == [20, 20]


def test_an_empty_message_is_one_bare_last_chunk() -> None:
    assert list(ble.chunks(b"", 20)) == [b"\x00"]


@pytest.mark.parametrize("fragment", [-1, 0, 1, 513, 514])
def test_refuses_a_fragment_that_no_attribute_can_have(fragment: int) -> None:
    with pytest.raises(ValueError, match="fragment"):
        ble.chunks(b"message", fragment)


@pytest.mark.parametrize(("mtu", "size"), [(23, 20), (185, 182), (247, 244), (515, 512), (517, 512)])
def test_fragments_are_the_mtu_less_three_and_at_most_512(mtu: int, size: int) -> None:
    assert ble.fragment_size(mtu) == size


def test_asks_for_the_mtu_at_which_one_write_is_full() -> None:
    assert ble.fragment_size(ble.ATT_MTU) == ble.MAX_VALUE
    assert ble.fragment_size(ble.ATT_MTU - 1) < ble.MAX_VALUE


def test_tolerates_short_and_empty_chunks_with_more_to_follow() -> None:
    assert whole([b"\x01a", b"\x01", b"\x01bc", b"\x00"]) == [b"abc"]


@pytest.mark.parametrize("prefix", [2, 3, 0x7F, 0x80, 0xFF])
def test_refuses_a_chunk_with_an_unknown_prefix(prefix: int) -> None:
    with pytest.raises(ble.FramingError, match="prefix"):
        ble.Reassembler().feed(bytes([prefix]) + b"rest")


def test_refuses_a_value_without_a_prefix() -> None:
    with pytest.raises(ble.FramingError, match="without a prefix"):
        ble.Reassembler().feed(b"")


def test_refuses_a_value_longer_than_an_attribute() -> None:
    with pytest.raises(ble.FramingError, match="513 bytes"):
        ble.Reassembler().feed(bytes(513))


def test_takes_a_message_of_the_limit_and_not_one_byte_more() -> None:
    message = bytes(limits.MAX_MESSAGE)
    assert whole(list(ble.chunks(message, 512))) == [message]
    with pytest.raises(ble.FramingError, match="longer than"):
        whole(list(ble.chunks(message + b"x", 512)))


def test_takes_the_longest_message_at_the_smallest_mtu() -> None:
    message = bytes(limits.MAX_MESSAGE)
    assert whole(list(ble.chunks(message, ble.fragment_size(ble.ATT_MTU_DEFAULT)))) == [message]


def test_ends_an_endless_run_of_empty_chunks() -> None:
    reassembler = ble.Reassembler()
    for _ in range(ble.MAX_CHUNKS):
        assert reassembler.feed(b"\x01") is None
    with pytest.raises(ble.FramingError, match="chunks"):
        reassembler.feed(b"\x01")


def test_a_fault_leaves_nothing_behind_for_the_next_message() -> None:
    reassembler = ble.Reassembler()
    reassembler.feed(b"\x01secret")
    with pytest.raises(ble.FramingError):
        reassembler.feed(b"\x05")
    assert reassembler.feed(b"\x00next") == b"next"


@given(values=st.lists(st.binary(max_size=600), max_size=20))
def test_any_bytes_give_messages_or_a_framing_error(values: list[bytes]) -> None:
    reassembler = ble.Reassembler(max_message=700)
    for value in values:
        try:
            message = reassembler.feed(value)
        except ble.FramingError:
            continue
        assert message is None or len(message) <= 700


def test_characteristics_are_those_of_tables_5_and_6() -> None:
    tail = "-a123-48ce-896b-4c76973373e6"
    peripheral, central = ble.PERIPHERAL_SERVER, ble.CENTRAL_CLIENT
    assert [peripheral.state, peripheral.client_to_server, peripheral.server_to_client, peripheral.l2cap_psm] == [
        UUID(f"0000000{digit}{tail}") for digit in "123a"
    ]
    assert peripheral.ident is None
    assert [central.state, central.client_to_server, central.server_to_client, central.ident, central.l2cap_psm] == [
        UUID(f"0000000{digit}{tail}") for digit in "5678b"
    ]


def test_ident_of_the_annex_d_engagement() -> None:
    assert ble.ble_ident(annex_d("e_device_key_bytes")) == annex_d("ble_ident_computed")
