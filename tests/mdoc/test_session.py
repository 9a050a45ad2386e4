"""Session messages and encryption: order, counters, tampering, and structures that are refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import cbor, cose
from mdoc.cbor import Encoded
from mdoc.errors import MalformedError, SessionError
from mdoc.session import SessionData, SessionEncryption, SessionEstablishment, Status, build_data, build_establishment
from mdoc.transcript import Handover, NfcHandover, QrHandover, SessionTranscript, WalkUpHandover

READER, PHONE = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
READER_BYTES = Encoded.wrap(cbor.encode(cose.cose_key(READER.public_key())))
TRANSCRIPT = SessionTranscript.build(b"engagement", READER_BYTES, QrHandover())


def pair(transcript: SessionTranscript = TRANSCRIPT) -> tuple[SessionEncryption, SessionEncryption]:
    return (
        SessionEncryption(READER, PHONE.public_key(), TRANSCRIPT, reader=True),
        SessionEncryption(PHONE, READER.public_key(), transcript, reader=False),
    )


def test_messages_go_both_ways_in_order() -> None:
    reader, phone = pair()
    for number in range(3):
        assert phone.open(reader.seal(b"request %d" % number)) == b"request %d" % number
        assert reader.open(phone.seal(b"response %d" % number)) == b"response %d" % number


def test_a_message_again_or_out_of_order_does_not_open() -> None:
    reader, phone = pair()
    first, second = reader.seal(b"1"), reader.seal(b"2")
    with pytest.raises(SessionError):
        phone.open(second)
    reader, phone = pair()
    sealed = reader.seal(b"1")
    assert phone.open(sealed) == b"1"
    with pytest.raises(SessionError):
        phone.open(sealed)
    assert first != second


def test_a_message_sent_back_does_not_open() -> None:
    reader, _ = pair()
    with pytest.raises(SessionError):
        reader.open(reader.seal(b"1"))


@pytest.mark.parametrize("at", [0, -1])
def test_a_changed_message_does_not_open(at: int) -> None:
    reader, phone = pair()
    sealed = bytearray(reader.seal(b"request"))
    sealed[at] ^= 1
    with pytest.raises(SessionError):
        phone.open(bytes(sealed))


@pytest.mark.parametrize("size", [0, 1, 15])
def test_a_message_without_room_for_its_tag_does_not_open(size: int) -> None:
    with pytest.raises(SessionError):
        pair()[1].open(bytes(size))


HANDOVERS: list[Handover] = [
    QrHandover(),
    NfcHandover(b"Hs"),
    NfcHandover(b"Hs", b"Hr"),
    NfcHandover(b"Hs", b""),
    WalkUpHandover("entrance", b"engagement"),
    WalkUpHandover("exit", b"engagement"),
]


def test_every_handover_makes_another_session() -> None:
    transcripts = [SessionTranscript.build(b"engagement", READER_BYTES, handover) for handover in HANDOVERS]
    assert len({transcript.salt for transcript in transcripts}) == len(HANDOVERS)
    reader, phone = pair(transcripts[1])
    with pytest.raises(SessionError):
        phone.open(reader.seal(b"request"))


def test_handovers_have_the_forms_of_the_standard() -> None:
    forms = [cbor.decode(handover.encode()) for handover in HANDOVERS[:4]]
    assert forms == [None, [b"Hs", None], [b"Hs", b"Hr"], [b"Hs", b""]]


def test_keys_on_different_curves_make_no_session() -> None:
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(MalformedError, match="curves"):
        SessionEncryption(READER, other, TRANSCRIPT, reader=True)


KEY = cose.cose_key(READER.public_key())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": b"x"},
        {"eReaderKey": READER_BYTES},
        {"eReaderKey": READER_BYTES, "data": "x"},
        {"eReaderKey": READER_BYTES, "data": None},
        {"eReaderKey": READER_BYTES.content, "data": b"x"},
        {"eReaderKey": KEY, "data": b"x"},
        {"eReaderKey": Encoded.wrap(READER_BYTES.content + b"\0"), "data": b"x"},
        {"eReaderKey": Encoded.wrap(READER_BYTES.raw), "data": b"x"},
        {"eReaderKey": Encoded.wrap(cbor.encode({**KEY, -3: bytes(32)})), "data": b"x"},
        {"eReaderKey": Encoded.wrap(cbor.encode({1: 1, -1: 6, -2: bytes(32)})), "data": b"x"},
        [READER_BYTES, b"x"],
    ],
)
def test_refuses_a_session_establishment(body: Any) -> None:
    with pytest.raises(MalformedError):
        SessionEstablishment.parse(cbor.encode(body))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": "x"},
        {"status": "20"},
        {"status": 20.0},
        {"status": True},
        {"status": -1},
        {"status": []},
        [20],
        None,
    ],
)
def test_refuses_session_data(body: Any) -> None:
    with pytest.raises(MalformedError):
        SessionData.parse(cbor.encode(body))


def test_refuses_a_member_twice_and_bytes_after_the_message() -> None:
    for raw in ("a2667374617475731466737461747573 14", "a1667374617475731400"):
        with pytest.raises(MalformedError):
            SessionData.parse(bytes.fromhex(raw))


def test_session_data_of_later_versions_is_read() -> None:
    assert SessionData.parse(cbor.encode({"data": b"x", "seq": 1})) == SessionData(b"x", None)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(data=st.binary(max_size=600), status=st.none() | st.sampled_from(Status))
def test_what_is_written_is_read(data: bytes, status: Status | None) -> None:
    assert SessionData.parse(build_data(data, status)) == SessionData(data, status)
    opening = SessionEstablishment.parse(build_establishment(READER_BYTES, data))
    assert (opening.reader_key_bytes, opening.data) == (READER_BYTES, data)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(raw=st.binary(max_size=80))
def test_any_bytes_are_read_or_end_in_one_error(raw: bytes) -> None:
    for parse in (SessionData.parse, SessionEstablishment.parse):
        with contextlib.suppress(MalformedError):
            parse(raw)
