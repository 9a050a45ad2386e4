"""Static handover: messages of real wallets, the standard's Annex D, and broken ones; and reading a Type 4 Tag."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import ndef
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc.apdu import Command
from mdoc.engagement import BleOptions, NfcOptions
from mdoc.ndef_handover import (
    MAX_HANDOVER,
    BleCarrier,
    HandoverError,
    HandoverSelect,
    LeRole,
    NegotiatedHandoverError,
    NotReadyError,
    Pause,
    build_handover_select,
    read_ndef_file,
)
from mdoc.type4tag import NOT_READY_POLLS, Steps

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="shared/vectors is not beside the checkout")
FAST = settings(max_examples=300, derandomize=True, deadline=None, database=None)

SERVICE = UUID("b3d52ac4-a1b6-4b51-a22e-78ee55ef6eb6")
ENGAGEMENT = bytes(range(120))
BLE_TYPE = "application/vnd.bluetooth.le.oob"
ENGAGEMENT_TYPE = "urn:nfc:ext:iso.org:18013:deviceengagement"
CONTAINER = bytes.fromhex("000f207fff7fff0406e1047fff00ff")
OK = b"\x90\x00"


def hex_file(name: str) -> bytes:
    return bytes.fromhex((VECTORS / name).read_text())


def message(*records: ndef.Record) -> bytes:
    return b"".join(ndef.message_encoder(records))


def hs(*references: str) -> ndef.Record:
    record = ndef.HandoverSelectRecord("1.5")
    for reference in references:
        record.add_alternative_carrier("active", reference, "mdoc")
    return record


def engagement_record() -> ndef.Record:
    return ndef.Record(ENGAGEMENT_TYPE, "mdoc", ENGAGEMENT)


@needs_vectors
def test_parses_the_handover_select_of_apple_wallet() -> None:
    raw = hex_file("nfc/apple_wallet_handover_select.hex")
    select = HandoverSelect.parse(raw)
    assert select.raw == raw
    assert select.engagement.hex().startswith("a40063312e31")
    assert select.ble == BleCarrier(LeRole.CENTRAL)
    assert select.ble is not None
    assert select.ble.options() == BleOptions(peripheral_server=False, central_client=True)
    assert select.nfc is None


@needs_vectors
def test_parses_the_handover_select_of_annex_d() -> None:
    raw = hex_file("annexd/nfc_handover_select.hex")
    select = HandoverSelect.parse(raw)
    assert select.raw == raw
    assert raw.endswith(select.engagement)
    assert select.ble == BleCarrier(LeRole.CENTRAL, None, bytes.fromhex("2828378b1228"), address_random=True)


@needs_vectors
def test_a_handover_request_is_not_a_handover_select() -> None:
    with pytest.raises(HandoverError):
        HandoverSelect.parse(hex_file("annexd/nfc_handover_request.hex"))


def trace(name: str) -> list[tuple[Command, bytes]]:
    """Command and response pairs of a multipaz transcript."""
    pairs: list[tuple[Command, bytes]] = []
    command: Command | None = None
    for line in (VECTORS / "nfc" / name).read_text().splitlines():
        payload = bytes.fromhex(found[1]) if (found := re.search(r"hex=([0-9a-f]*)", line)) else b""
        if line.startswith("CommandApdu"):
            cla, ins, p1, p2 = (int(value) for value in re.findall(r"(?:cla|ins|p1|p2)=(\d+)", line))
            le = int(re.findall(r"le=(\d+)", line)[0])
            command = Command(cla, ins, p1, p2, payload, le or None)
        elif line.startswith("ResponseApdu") and command is not None:
            status = int(re.findall(r"status=(\d+)", line)[0])
            pairs.append((command, payload + status.to_bytes(2)))
    return pairs


@needs_vectors
def test_replays_the_static_handover_of_multipaz_byte_for_byte() -> None:
    steps = read_ndef_file()
    pairs = trace("multipaz_testStaticHandover.txt")
    sent = next(steps)
    for index, (command, response) in enumerate(pairs):
        assert isinstance(sent, bytes)
        # The transcript prints an absent Le and Le = 00 alike; the application SELECT has one (T4T 5.5.2).
        assert sent == (command.encode() + b"\x00" if index == 0 else command.encode())
        try:
            sent = steps.send(response)
        except StopIteration as done:
            select = HandoverSelect.parse(done.value)
            assert index == len(pairs) - 1
            break
    assert select.ble == BleCarrier(LeRole.CENTRAL_PREFERRED, SERVICE)
    assert select.nfc == NfcOptions(65_535, 65_536)
    assert build_handover_select(select.engagement, ble=select.ble, nfc=select.nfc) == select.raw


@needs_vectors
@pytest.mark.parametrize("name", ["multipaz_testNegotiatedHandover.txt", "apple_wallet_negotiated_responses.txt"])
def test_says_that_negotiated_handover_is_not_supported(name: str) -> None:
    if name.startswith("multipaz"):
        answers = [response for _, response in trace(name)][:6]
    else:
        answers = [bytes.fromhex(line.split()[0]) for line in (VECTORS / "nfc" / name).read_text().splitlines()][:6]
    raw = run(read_ndef_file(), answers)
    with pytest.raises(NegotiatedHandoverError):
        HandoverSelect.parse(raw)


@pytest.mark.parametrize(
    ("ble", "nfc"),
    [
        (BleCarrier(LeRole.PERIPHERAL, SERVICE), None),
        (BleCarrier(LeRole.CENTRAL_PREFERRED, SERVICE, bytes.fromhex("c0ffee112233"), address_random=True), NfcOptions(255, 256)),
        (None, NfcOptions(65_535, 65_536)),
    ],
)  # fmt: skip
def test_built_messages_parse_to_what_went_in(ble: BleCarrier | None, nfc: NfcOptions | None) -> None:
    raw = build_handover_select(ENGAGEMENT, ble=ble, nfc=nfc)
    assert HandoverSelect.parse(raw) == HandoverSelect(raw, ENGAGEMENT, ble, nfc)


def test_both_roles_share_the_one_uuid() -> None:
    options = BleCarrier(LeRole.PERIPHERAL_PREFERRED, SERVICE).options()
    assert options == BleOptions(True, True, SERVICE, SERVICE)
    assert BleCarrier(LeRole.PERIPHERAL, SERVICE).options() == BleOptions(True, False, SERVICE, None)


def test_takes_records_in_any_order() -> None:
    ble = ndef.Record(BLE_TYPE, "0", bytes.fromhex("021c01"))
    select = HandoverSelect.parse(message(engagement_record(), ble, hs("0")))
    assert select.ble == BleCarrier(LeRole.CENTRAL)
    assert select.engagement == ENGAGEMENT


def test_takes_long_record_headers_and_passes_over_unknown_records() -> None:
    payload = ENGAGEMENT
    kind = b"iso.org:18013:deviceengagement"
    long_form = bytes((0x4C, len(kind))) + len(payload).to_bytes(4) + b"\x04" + kind + b"mdoc" + payload
    other = ndef.Record("application/vnd.wfa.nan", "W", b"\x00")
    start = bytearray(message(hs("0"), other))
    assert start[0] & 0x80
    first = len(message(hs("0")))
    start[first] &= ~0x40  # the unknown record is no longer the last
    select = HandoverSelect.parse(bytes(start) + long_form)
    assert select.engagement == ENGAGEMENT


def test_ignores_a_carrier_that_the_handover_does_not_name() -> None:
    ble = ndef.Record(BLE_TYPE, "0", bytes.fromhex("021c01"))
    assert HandoverSelect.parse(message(hs("x"), ble, engagement_record())).ble is None


def test_takes_an_address_with_and_without_type_byte() -> None:
    for payload, random in (("081b06050403020101021c01", True), ("071b060504030201021c01", False)):
        ble = ndef.Record(BLE_TYPE, "0", bytes.fromhex(payload))
        carrier = HandoverSelect.parse(message(hs("0"), ble, engagement_record())).ble
        assert carrier == BleCarrier(LeRole.CENTRAL, None, bytes.fromhex("010203040506"), address_random=random)


@pytest.mark.parametrize(
    "payload", ["", "021c", "021c04", "031c0100", "00", "ff1c01", "021c01021c01", "0307aabb021c01", "021c01031b0102"]
)
def test_refuses_a_malformed_ble_carrier(payload: str) -> None:
    raw = message(hs("0"), ndef.Record(BLE_TYPE, "0", bytes.fromhex(payload)), engagement_record())
    with pytest.raises(HandoverError, match="BLE carrier"):
        HandoverSelect.parse(raw)


@pytest.mark.parametrize(
    "payload", ["", "02", "01030100fe", "010402010001", "0104020000ff", "01030100", "0105020000010000"]
)
def test_refuses_a_malformed_nfc_carrier(payload: str) -> None:
    record = ndef.Record("urn:nfc:ext:iso.org:18013:nfc", "nfc", bytes.fromhex(payload))
    with pytest.raises(HandoverError, match="NFC carrier"):
        HandoverSelect.parse(message(hs("nfc"), record, engagement_record()))


def test_nfc_carrier_without_lengths_means_the_short_ones() -> None:
    record = ndef.Record("urn:nfc:ext:iso.org:18013:nfc", "nfc", b"\x01")
    assert HandoverSelect.parse(message(hs("nfc"), record, engagement_record())).nfc == NfcOptions(255, 256)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "length"),
        (bytes(MAX_HANDOVER + 1), "length"),
        (message(engagement_record()), "select record is missing"),
        (message(hs("0")), "engagement record is missing"),
        (message(hs("0"), hs("0"), engagement_record()), "twice"),
        (message(hs("0"), engagement_record(), engagement_record()), "twice"),
        (message(hs("0"), ndef.Record(ENGAGEMENT_TYPE, "mdoc", b"")), "length"),
        (message(ndef.HandoverSelectRecord("2.0"), engagement_record()), "version"),
        (message(hs("0"), engagement_record()) + b"\x00", "trailing"),
        (message(*[ndef.Record("a/b", "", b"")] * 40), "too many"),
        (b"\xd1\x01\x00\xff", "NDEF"),
    ],
)
def test_refuses_a_malformed_message(raw: bytes, reason: str) -> None:
    with pytest.raises(HandoverError, match=reason):
        HandoverSelect.parse(raw)


def test_nothing_of_the_phone_shows_in_a_repr() -> None:
    ble = BleCarrier(LeRole.CENTRAL, SERVICE, bytes.fromhex("010203040506"))
    shown = repr(HandoverSelect.parse(build_handover_select(ENGAGEMENT, ble=ble)))
    assert "b3d52ac4" not in shown
    assert "x05" not in shown


def run(steps: Steps[bytes], answers: list[bytes], sent: list[bytes] | None = None) -> bytes:
    """The answers in turn; a Pause costs none of them."""
    left = list(answers)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Pause):
                step = steps.send(b"")
            else:
                if sent is not None:
                    sent.append(step)
                step = steps.send(left.pop(0))
    except StopIteration as done:
        result: bytes = done.value
        return result


HEAD = [OK, OK, CONTAINER + OK, OK]


def test_reads_a_long_file_in_pieces() -> None:
    content = bytes(index % 256 for index in range(700))
    answers = [content[:255] + OK, content[255:400] + OK, content[400:655] + OK, content[655:] + OK]
    sent: list[bytes] = []
    assert run(read_ndef_file(), [*HEAD, (700).to_bytes(2) + OK, *answers], sent) == content
    assert [Command.parse(raw).le for raw in sent[5:]] == [255, 255, 255, 45]


def test_small_mle_makes_small_pieces() -> None:
    container = CONTAINER[:3] + b"\x00\x0f" + CONTAINER[5:]
    content = bytes(20)
    answers = [OK, OK, container + OK, OK, b"\x00\x14" + OK, content[:15] + OK, content[15:] + OK]
    assert run(read_ndef_file(), answers) == content


def test_a_locked_phone_is_not_ready() -> None:
    with pytest.raises(NotReadyError):
        run(read_ndef_file(), [b"\x6a\x82"])


def test_an_empty_file_is_polled_again() -> None:
    assert run(read_ndef_file(), [*HEAD, b"\x00\x00" + OK, b"\x00\x00" + OK, b"\x00\x01" + OK, b"x" + OK]) == b"x"


def test_a_file_that_stays_empty_is_not_ready_after_a_bounded_number_of_polls() -> None:
    with pytest.raises(NotReadyError):
        run(read_ndef_file(), [*HEAD, *[b"\x00\x00" + OK] * NOT_READY_POLLS])


@pytest.mark.parametrize(
    "answers",
    [
        [b"\x69\x85"],
        [b"\x90"],
        [OK, b"\x6a\x82"],
        [OK, OK, CONTAINER[:14] + OK],
        [OK, OK, CONTAINER],
        [OK, OK, b"\x00\x0f\x10" + CONTAINER[3:] + OK],
        [OK, OK, CONTAINER[:3] + b"\x00\x01" + CONTAINER[5:] + OK],
        [OK, OK, CONTAINER[:7] + b"\x05\x06" + CONTAINER[9:] + OK],
        [OK, OK, CONTAINER[:13] + b"\xff\xff" + OK],
        [*HEAD[:3], b"\x6a\x82"],
        [*HEAD, b"\x01" + OK],
        [*HEAD, b"\xff\xff" + OK],
        [*HEAD, b"\x10\x01" + OK],
        [*HEAD, b"\x00\x05" + OK, OK],
        [*HEAD, b"\x00\x05" + OK, b"123456" + OK],
        [*HEAD, b"\x00\x05" + OK, b"12345" + b"\x62\x82"],
    ],
)
def test_refuses_a_tag_that_breaks_the_reading_procedure(answers: list[bytes]) -> None:
    with pytest.raises(HandoverError):
        run(read_ndef_file(), answers)


def total(parse: Callable[[bytes], object], raw: bytes) -> None:
    try:
        parse(raw)
    except HandoverError:
        return


@FAST
@given(st.binary(max_size=200))
def test_any_bytes_parse_or_end_in_one_error(raw: bytes) -> None:
    total(HandoverSelect.parse, raw)


@FAST
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_mutation_of_a_message_parses_or_ends_in_one_error(changes: list[tuple[int, int]]) -> None:
    ble = BleCarrier(LeRole.CENTRAL_PREFERRED, SERVICE, bytes(6))
    raw = bytearray(build_handover_select(ENGAGEMENT, ble=ble, nfc=NfcOptions(255, 256)))
    for at, value in changes:
        raw[at % len(raw)] = value
    total(HandoverSelect.parse, bytes(raw))
