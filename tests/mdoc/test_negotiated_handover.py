"""NFC engagement by TNEP: traces of multipaz and of Apple Wallet, waiting, writing in pieces, roles, and everything refused."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import ndef
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import cbor
from mdoc.apdu import Command, Response
from mdoc.engagement import NfcOptions
from mdoc.ndef_handover import (
    BleCarrier,
    HandoverError,
    HandoverRequest,
    HandoverSelect,
    LeRole,
    NotReadyError,
    Pause,
    build_handover_request,
    build_handover_select,
    encode_record,
)
from mdoc.negotiated_handover import (
    MAX_PAUSE,
    MIN_PAUSE,
    SERVICE,
    TP,
    NfcEngagement,
    ServiceParameters,
    agreed,
    engage,
    service_parameters,
)
from mdoc.transcript import NfcHandover, SessionTranscript
from mdoc.type4tag import NDEF_AID, NdefFile, Steps, write_message
from testbed.phone.nfc import NegotiatedNdefApplet
from tests.nfc_traces import VECTORS, apple, apple_select, multipaz, needs_vectors, replay

FAST = settings(max_examples=300, derandomize=True, deadline=None, database=None)

SERVICE_UUID = UUID("b3d52ac4-a1b6-4b51-a22e-78ee55ef6eb6")
OTHER_UUID = UUID("00000000-0000-4000-8000-000000000001")
ENGAGEMENT = bytes(range(120))
NFC = NfcOptions(65_535, 65_536)
BOTH = BleCarrier(LeRole.CENTRAL_PREFERRED, SERVICE_UUID)
REQUEST = build_handover_request(ble=BOTH, nfc=NFC)
OK = b"\x90\x00"


def run(
    steps: Steps[NfcEngagement], answer: Callable[[bytes], bytes], pauses: list[float] | None = None
) -> NfcEngagement:
    step = next(steps)
    try:
        while True:
            if isinstance(step, Pause):
                if pauses is not None:
                    pauses.append(step.seconds)
                step = steps.send(b"")
            else:
                step = steps.send(answer(step))
    except StopIteration as done:
        result: NfcEngagement = done.value
        return result


@needs_vectors
def test_replays_the_negotiated_handover_of_multipaz_byte_for_byte() -> None:
    pairs = multipaz("Negotiated")
    sent: list[bytes] = []
    pauses: list[float] = []
    result = run(engage(REQUEST), replay([response for _, response in pairs], sent), pauses)
    assert sent == [command for command, _ in pairs]
    assert pauses == [MIN_PAUSE, MIN_PAUSE]
    assert result.select.ble == BleCarrier(LeRole.CENTRAL, SERVICE_UUID)
    assert result.select.nfc is None
    assert result.handover == NfcHandover(pairs[-1][1][:-2], REQUEST.raw)


@needs_vectors
def test_replays_the_negotiated_handover_of_apple_wallet() -> None:
    """The responses are Apple's; the request they answered is not in the trace, so ours stands in. NLEN = 0 is polled again."""
    sent: list[bytes] = []
    pauses: list[float] = []
    answers = apple()
    result = run(engage(REQUEST), replay(answers, sent), pauses)
    assert len(sent) == len(answers)
    assert pauses == [0.016, 0.016, 0.016]
    assert result.select.raw == apple_select()
    assert result.select.ble == BleCarrier(LeRole.CENTRAL, SERVICE_UUID)


@needs_vectors
def test_parses_the_handover_request_of_annex_d() -> None:
    """It has a collision record, a Wi-Fi Aware carrier and no reader engagement."""
    raw = bytes.fromhex((VECTORS / "annexd" / "nfc_handover_request.hex").read_text())
    request = HandoverRequest.parse(raw)
    assert request.raw == raw
    uuid = UUID("3a82d455-d5fc-4db3-bea0-6fd2f6ff32c8")
    address = bytes.fromhex("28bf80800728")
    assert request.ble == BleCarrier(LeRole.PERIPHERAL_PREFERRED, uuid, address, address_random=True)
    assert request.nfc == NfcOptions(255, 256)


@needs_vectors
def test_the_transcript_of_annex_d_holds_both_messages() -> None:
    annex = VECTORS / "annexd"
    select, request = (
        bytes.fromhex((annex / f"nfc_handover_{name}.hex").read_text()) for name in ("select", "request")
    )
    session = cbor.decode(bytes.fromhex((annex / "session_establishment.hex").read_text()))
    engaged = NfcEngagement(HandoverSelect.parse(select), request)
    built = SessionTranscript.build(engaged.select.engagement, session["eReaderKey"], engaged.handover)
    assert built.tagged == bytes.fromhex((annex / "session_transcript_bytes.hex").read_text())


class Phone:
    """The testbed's phone behind raw APDUs, with every command it got."""

    def __init__(self, on_request: Callable[[HandoverRequest], bytes], **settings: int) -> None:
        self.commands: list[Command] = []
        self._applet = NegotiatedNdefApplet(on_request, **settings)

    def __call__(self, raw: bytes) -> bytes:
        command = Command.parse(raw)
        self.commands.append(command)
        if command.data == NDEF_AID:
            return OK
        return self._applet.process(command).encode()


def chosen(_: HandoverRequest) -> bytes:
    return build_handover_select(ENGAGEMENT, ble=BleCarrier(LeRole.CENTRAL))


def test_holder_and_reader_agree() -> None:
    seen: list[HandoverRequest] = []

    def choose(request: HandoverRequest) -> bytes:
        seen.append(request)
        return build_handover_select(ENGAGEMENT, ble=BleCarrier(LeRole.PERIPHERAL), nfc=None)

    result = run(engage(REQUEST), Phone(choose))
    assert seen == [REQUEST]
    assert result.request == REQUEST.raw
    assert result.select.engagement == ENGAGEMENT
    assert result.select.ble == BleCarrier(LeRole.PERIPHERAL, SERVICE_UUID)
    options = result.select.ble.options()
    assert (options.peripheral_server, options.peripheral_server_uuid) == (True, SERVICE_UUID)
    assert not options.central_client


def test_a_phone_that_is_not_ready_is_polled_as_often_as_it_announced() -> None:
    pauses: list[float] = []
    run(engage(REQUEST), Phone(chosen, not_ready=7, waiting=0x18, extensions=7), pauses)
    assert pauses == [0.032] * 16  # one after each of two writes, and seven times not ready after each
    with pytest.raises(NotReadyError):
        run(engage(REQUEST), Phone(chosen, not_ready=8, waiting=0x18, extensions=7))


def test_waiting_times() -> None:
    """t = 2^(WT/4 - 1) ms; the least and the most that a reader grants."""

    def wait(number: int) -> float:
        return ServiceParameters.parse(b"\x10\x13" + SERVICE + bytes((0, number, 15)) + b"\xff\xff").wait

    assert [round(wait(number) * 1000, 3) for number in (0, 4, 8, 20, 63, 64)] == [0.5, 1, 2, 16, 27554.494, 0.5]
    pauses: list[float] = []
    run(engage(REQUEST), Phone(chosen, waiting=63), pauses)
    assert set(pauses) == {MAX_PAUSE}


def test_the_smallest_commands_a_phone_may_ask_for_will_do() -> None:
    phone = Phone(chosen, max_command=13)
    assert run(engage(REQUEST), phone).request == REQUEST.raw
    assert max(len(command.data) for command in phone.commands if command.ins == 0xD6) == 13


def test_a_request_longer_than_one_command_is_written_in_pieces() -> None:
    phone = Phone(chosen, max_command=0x20)
    run(engage(REQUEST), phone)
    writes = [(command.p1 << 8 | command.p2, command.data) for command in phone.commands if command.ins == 0xD6]
    assert writes[0] == (0, b"\x00\x19" + encode_record("urn:nfc:wkt:Ts", b"\x13" + SERVICE))
    pieces = writes[1:]
    assert pieces[0] == (0, b"\x00\x00")
    assert pieces[-1] == (0, len(REQUEST.raw).to_bytes(2))
    assert [at for at, _ in pieces[1:-1]] == list(range(2, 2 + len(REQUEST.raw), 0x20))
    assert b"".join(data for _, data in pieces[1:-1]) == REQUEST.raw


@pytest.mark.parametrize(("size", "writes"), [(253, 1), (254, 3), (508, 4), (511, 5)])
def test_writing_at_the_edges_of_a_command(size: int, writes: int) -> None:
    file = NdefFile(b"\xe1\x04", 255, 255, 4096, writable=True)
    steps = write_message(file, bytes(size))
    sent = [next(steps)]
    sent.extend([steps.send(OK) for _ in range(writes - 1)])
    with pytest.raises(StopIteration):
        steps.send(OK)
    assert all(isinstance(step, bytes) and len(step) <= 260 for step in sent)


def test_a_static_handover_needs_no_request() -> None:
    message = build_handover_select(ENGAGEMENT, ble=BOTH)
    container = bytes.fromhex("000f207fff7fff0406e1047fff00ff")
    for request in (None, REQUEST):
        answers = [OK, OK, container + OK, OK, len(message).to_bytes(2) + OK, message + OK]
        result = run(engage(request), replay(answers, []))
        assert result == NfcEngagement(HandoverSelect.parse(message), None)
        assert result.handover == NfcHandover(message, None)


def test_a_reader_without_a_request_refuses_negotiation() -> None:
    with pytest.raises(HandoverError, match="static"):
        run(engage(None), Phone(chosen))


ROLES = {
    (LeRole.CENTRAL, LeRole.CENTRAL): None,
    (LeRole.CENTRAL, LeRole.PERIPHERAL): LeRole.PERIPHERAL,
    (LeRole.CENTRAL, LeRole.CENTRAL_PREFERRED): LeRole.PERIPHERAL,
    (LeRole.CENTRAL, LeRole.PERIPHERAL_PREFERRED): LeRole.PERIPHERAL,
    (LeRole.PERIPHERAL, LeRole.PERIPHERAL): None,
    (LeRole.PERIPHERAL, LeRole.CENTRAL): LeRole.CENTRAL,
    (LeRole.PERIPHERAL, LeRole.CENTRAL_PREFERRED): LeRole.CENTRAL,
    (LeRole.PERIPHERAL, LeRole.PERIPHERAL_PREFERRED): LeRole.CENTRAL,
    **{
        (reader, phone): phone for reader in (LeRole.PERIPHERAL_PREFERRED, LeRole.CENTRAL_PREFERRED) for phone in LeRole
    },
}


@pytest.mark.parametrize(("reader", "phone"), ROLES)
def test_roles_are_each_side_s_own_view(reader: LeRole, phone: LeRole) -> None:
    request = build_handover_request(ble=BleCarrier(reader, SERVICE_UUID))
    select = HandoverSelect.parse(build_handover_select(ENGAGEMENT, ble=BleCarrier(phone)))
    expected = ROLES[reader, phone]
    if expected is None:
        with pytest.raises(HandoverError, match="role"):
            agreed(select, request)
    else:
        assert agreed(select, request).ble == BleCarrier(expected, SERVICE_UUID)


def test_a_phone_may_name_its_own_uuid() -> None:
    select = HandoverSelect.parse(build_handover_select(ENGAGEMENT, ble=BleCarrier(LeRole.CENTRAL, OTHER_UUID)))
    assert agreed(select, REQUEST).ble == BleCarrier(LeRole.CENTRAL, OTHER_UUID)


def test_a_role_that_does_not_fit_leaves_the_other_carrier() -> None:
    request = build_handover_request(ble=BleCarrier(LeRole.CENTRAL, SERVICE_UUID), nfc=NFC)
    select = HandoverSelect.parse(build_handover_select(ENGAGEMENT, ble=BleCarrier(LeRole.CENTRAL), nfc=NFC))
    found = agreed(select, request)
    assert (found.ble, found.nfc) == (None, NFC)


def test_a_carrier_that_was_not_offered_cannot_be_chosen() -> None:
    ble_only, nfc_only = build_handover_request(ble=BOTH), build_handover_request(nfc=NFC)
    select = HandoverSelect.parse(build_handover_select(ENGAGEMENT, ble=BleCarrier(LeRole.CENTRAL), nfc=NFC))
    assert agreed(select, ble_only).nfc is None
    assert agreed(select, nfc_only).ble is None
    only_nfc = HandoverSelect.parse(build_handover_select(ENGAGEMENT, nfc=NFC))
    with pytest.raises(HandoverError, match="nothing"):
        agreed(only_nfc, ble_only)


def tp(*changes: tuple[int, int], service: bytes = SERVICE) -> bytes:
    payload = bytearray(b"\x10" + bytes((len(service),)) + service + b"\x00\x14\x0f\x08\x00")
    for at, value in changes:
        payload[at] = value
    return bytes(payload)


def test_the_handover_service_is_found_among_others() -> None:
    others = [ndef.Record(TP, "", tp(service=b"urn:nfc:sn:other")), ndef.Record(TP, "", tp())]
    for records in (others, others[::-1]):
        found = service_parameters(b"".join(ndef.message_encoder(records)))
        assert found == ServiceParameters(SERVICE, 0.016, 16, 0x800)
    assert service_parameters(build_handover_select(ENGAGEMENT, ble=BOTH)) is None


@pytest.mark.parametrize(
    "payloads",
    [
        [tp((0, 0x20))],
        [tp((0, 0x00))],
        [tp((1, 0x12))],
        [tp((1, 0xFF))],
        [tp((-5, 1))],
        [tp()[:-1]],
        [tp() + b"\0"],
        [b""],
        [b"\x10\x00"],
        [tp(), tp()],
        [tp(service=b"urn:nfc:sn:other")],
    ],
)
def test_refuses_service_parameters(payloads: list[bytes]) -> None:
    with pytest.raises(HandoverError):
        service_parameters(b"".join(ndef.message_encoder([ndef.Record(TP, "", payload) for payload in payloads])))


READ_WRITE = bytes.fromhex("000f207fff7fff0406e1047fff0000")
OPEN = [OK, OK, READ_WRITE + OK, OK]


def file(message: bytes) -> list[bytes]:
    return [len(message).to_bytes(2) + OK, message + OK]


OFFER, ACCEPT = file(encode_record(TP, tp())), file(encode_record("urn:nfc:wkt:Te", b"\x00"))


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([OK, OK, READ_WRITE[:14] + b"\xff" + OK, OK, *OFFER], "cannot be written"),
        ([OK, OK, READ_WRITE[:5] + b"\x00\x01" + READ_WRITE[7:] + OK, OK, *OFFER], "cannot be written"),
        ([*OPEN, *OFFER, b"\x6a\x82"], "writing"),
        ([*OPEN, *OFFER, OK, *file(encode_record("urn:nfc:wkt:Te", b"\x01"))], "not accept"),
        ([*OPEN, *OFFER, OK, *file(encode_record("urn:nfc:wkt:Te", b""))], "not accept"),
        ([*OPEN, *OFFER, OK, *file(encode_record("urn:nfc:wkt:Te", b"\x00\x00"))], "not accept"),
        ([*OPEN, *OFFER, OK, *OFFER], "not accept"),
        ([*OPEN, *OFFER, OK, *ACCEPT, b"\x6f\x00"], "writing"),
        ([*OPEN, *OFFER, OK, *ACCEPT, OK, *ACCEPT], "select record is missing"),
        ([*OPEN, *OFFER, OK, *ACCEPT, OK, *file(REQUEST.raw)], "select record is missing"),
        ([*OPEN, *OFFER, OK, *ACCEPT, OK, *OFFER], "negotiated"),
        ([*OPEN, *OFFER, OK, *ACCEPT, OK, b"\x08\x01" + OK, b"\x6a\x82"], "status"),
        ([*OPEN, *file(encode_record(TP, tp((-2, 0), (-1, 24))))], "so long"),
    ],
)
def test_refuses_an_exchange(answers: list[bytes], why: str) -> None:
    with pytest.raises(HandoverError, match=why):
        run(engage(REQUEST), replay(answers, []))


def test_request_records_may_come_in_any_order_and_with_a_collision_record() -> None:
    records = list(ndef.message_decoder(REQUEST.raw, "strict", {}))
    for order in (records[::-1], records[1:] + records[:1]):
        raw = b"".join(ndef.message_encoder(order))
        assert HandoverRequest.parse(raw) == HandoverRequest(raw, BOTH, NFC)
    with_collision = ndef.HandoverRequestRecord("1.5", 0x1234)
    with_collision.add_alternative_carrier("active", "0")
    raw = b"".join(ndef.message_encoder([with_collision, *records[1:]]))
    assert HandoverRequest.parse(raw) == HandoverRequest(raw, BOTH, None)


@pytest.mark.parametrize("drop", [b"", b"Hr", b"\x15"])
def test_refuses_a_request(drop: bytes) -> None:
    raw = REQUEST.raw.replace(drop, b"\x25" if drop == b"\x15" else b"Hx", 1) if drop else b""
    with pytest.raises(HandoverError):
        HandoverRequest.parse(raw)


def test_a_handover_needs_a_carrier() -> None:
    with pytest.raises(HandoverError, match="carrier"):
        build_handover_request()


@FAST
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_mutation_of_a_request_parses_or_ends_in_one_error(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(REQUEST.raw)
    for at, value in changes:
        raw[at % len(raw)] = value
    try:
        HandoverRequest.parse(bytes(raw))
    except HandoverError:
        return


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(
    role=st.sampled_from(LeRole),
    uuid=st.none() | st.uuids(),
    address=st.none() | st.binary(min_size=6, max_size=6),
    random=st.booleans(),
    nfc=st.none() | st.builds(NfcOptions, st.integers(255, 65_535), st.integers(256, 65_536)),
)
def test_messages_written_are_the_messages_read(
    role: LeRole, uuid: UUID | None, address: bytes | None, random: bool, nfc: NfcOptions | None
) -> None:
    ble = BleCarrier(role, uuid, address, random and address is not None)
    request = build_handover_request(ble=ble, nfc=nfc)
    assert HandoverRequest.parse(request.raw) == request
    select = HandoverSelect.parse(build_handover_select(ENGAGEMENT, ble=ble, nfc=nfc))
    assert (select.ble, select.nfc, select.engagement) == (ble, nfc, ENGAGEMENT)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(
    st.lists(
        st.binary(max_size=40).map(lambda data: Response(0x9000, data).encode()) | st.binary(max_size=6), max_size=30
    )
)
def test_any_answers_end_in_one_of_two_errors(answers: list[bytes]) -> None:
    with pytest.raises((HandoverError, NotReadyError)):
        run(engage(REQUEST), replay([*OPEN, *OFFER, OK, *answers, *[b"\x6f\x00"] * 40], []))
