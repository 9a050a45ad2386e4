"""Holder and reader over every carrier, with anything a credential may hold; what one side writes the other reads."""

from __future__ import annotations

import os
from collections.abc import Generator
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdoc import apdu, ble, cbor, issue, issuerlist, statuslist
from mdoc.cbor import Encoded, Tag
from mdoc.engagement import BleOptions, DeviceEngagement, NfcOptions, build_engagement, from_qr, to_qr
from mdoc.errors import MalformedError
from mdoc.holder import HolderSession
from mdoc.issuerlist import ListedIssuer
from mdoc.mso import MobileSecurityObject
from mdoc.mso import parse as parse_mso
from mdoc.ndef_handover import BleCarrier, HandoverRequest, LeRole, build_handover_request, build_handover_select
from mdoc.negotiated_handover import NfcEngagement, engage
from mdoc.reader import ReaderSession, RequestedItems
from mdoc.request import DeviceRequest, ReaderIdentity, build_request
from mdoc.transcript import Handover, NfcHandover, QrHandover, SessionTranscript, WalkUpHandover
from mdoc.type4tag import Pause
from testbed.authority import DOC_TYPE, NAME_SPACE
from testbed.phone.nfc import PhoneApplication
from tests.conftest import NOW
from tests.mdoc.conftest import ASKED, World

SERVICE = UUID("b3d52ac4-a1b6-4b51-a22e-78ee55ef6eb6")
SLOW = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.text(max_size=30) | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES, inner, max_size=3)
        | st.dates().map(lambda day: Tag(1004, day.isoformat()))
        | inner.map(lambda value: Encoded.wrap(cbor.encode(value)))
    ),
    max_leaves=6,
)

T = TypeVar("T")


def answered(steps: Generator[bytes | Pause, bytes, T], phone: PhoneApplication) -> T:
    step = next(steps)
    try:
        while True:
            step = steps.send(b"" if isinstance(step, Pause) else phone(step))
    except StopIteration as done:
        result: T = done.value
        return result


@SLOW
@given(
    elements=st.dictionaries(NAMES, VALUES, min_size=1, max_size=6),
    shown=st.data(),
    mac=st.booleans(),
    curve=st.sampled_from([ec.SECP256R1(), ec.SECP384R1()]),
    fragment=st.integers(20, 512),
)
def test_anything_a_credential_holds_arrives(
    world: World, elements: dict[str, Any], shown: Any, mac: bool, curve: ec.EllipticCurve, fragment: int
) -> None:
    device_key = ec.generate_private_key(ec.SECP256R1() if mac else curve)
    credential, _ = world.authority.issue(device_key.public_key(), world.person, now=NOW, extra={NAME_SPACE: elements})
    disclosed = shown.draw(st.lists(st.sampled_from(sorted(elements)), min_size=1, unique=True))
    items = RequestedItems(DOC_TYPE, {NAME_SPACE: disclosed})
    raw, reader = world.response(
        credential=credential, device_key=device_key, disclose={NAME_SPACE: tuple(disclosed)}, mac=mac, items=items
    )
    whole = ble.Reassembler()
    arrived = [message for chunk in ble.chunks(raw, fragment) if (message := whole.feed(chunk)) is not None]
    assert arrived == [raw]
    verdict = world.verify(raw, reader, status=world.status(NOW))
    assert verdict.reason is None, verdict.checks
    assert verdict.elements == {NAME_SPACE: {name: elements[name] for name in disclosed}}


def converse(
    world: World, engagement: bytes, ephemeral: ec.EllipticCurvePrivateKey, ours: Handover, theirs: Handover
) -> bool:
    reader = ReaderSession(engagement, ours, ASKED, world.identity)
    phone = HolderSession(engagement, ephemeral, theirs)
    request = phone.receive(reader.start())
    assert request is not None
    message = phone.respond(world.credential, world.device_key, {NAME_SPACE: tuple(ASKED.elements[NAME_SPACE])})
    return world.verify(reader.receive(message), reader).accepted


@pytest.mark.parametrize("negotiated", [False, True])
@pytest.mark.parametrize("max_command", [255, 700])
def test_a_whole_session_over_nfc(world: World, negotiated: bool, max_command: int) -> None:
    """Engagement by static or negotiated handover, then the session by ENVELOPE, all through one phone."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    limits = NfcOptions(65_535, 65_536)
    engagement = build_engagement(ephemeral.public_key())
    static = build_handover_select(engagement, nfc=limits)
    seen: list[HandoverRequest] = []
    sessions: list[HolderSession] = []

    def choose(request: HandoverRequest) -> bytes:
        seen.append(request)
        return static

    def on_message(message: bytes) -> bytes:
        handover = NfcHandover(static, seen[0].raw if negotiated else None)
        sessions.append(HolderSession(engagement, ephemeral, handover))
        assert sessions[0].receive(message) is not None
        return sessions[0].respond(world.credential, world.device_key, {NAME_SPACE: tuple(ASKED.elements[NAME_SPACE])})

    phone = PhoneApplication(choose if negotiated else static, on_message)
    offer = build_handover_request(ble=BleCarrier(LeRole.CENTRAL_PREFERRED, SERVICE), nfc=limits)
    engaged: NfcEngagement = answered(engage(offer), phone)
    assert engaged.handover == NfcHandover(static, offer.raw if negotiated else None)
    reader = ReaderSession(engaged.select.engagement, engaged.handover, ASKED, world.identity)
    answered(apdu.select(apdu.MDOC_AID), phone)
    message = answered(apdu.exchange(reader.start(), max_command=max_command, max_response=256), phone)
    verdict = world.verify(reader.receive(message), reader)
    assert verdict.reason is None, verdict.checks


def test_both_sides_must_have_seen_the_same_handover(world: World) -> None:
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    engagement = build_engagement(ephemeral.public_key())
    handovers: list[Handover] = [
        QrHandover(),
        NfcHandover(b"Hs"),
        NfcHandover(b"Hs", b"Hr"),
        WalkUpHandover("entrance", engagement),
    ]
    for ours in handovers:
        for theirs in handovers:
            if ours == theirs:
                assert converse(world, engagement, ephemeral, ours, theirs)
            else:
                with pytest.raises(Exception, match="decrypt"):
                    converse(world, engagement, ephemeral, ours, theirs)


@SLOW
@given(
    spaces=st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=4, unique=True), min_size=1, max_size=3),
    doc_type=NAMES,
)
def test_a_request_written_is_the_request_read(world: World, spaces: dict[str, list[str]], doc_type: str) -> None:
    reader_key = Encoded.wrap(b"\xa0")
    transcript = SessionTranscript.build(b"engagement", reader_key, QrHandover())
    identity = ReaderIdentity(world.identity.private_key, world.identity.certificates)
    request = DeviceRequest.parse(build_request(RequestedItems(doc_type, spaces), transcript, identity))
    (found,) = request.doc_requests
    assert found.items.doc_type == doc_type
    assert {space: list(names) for space, names in found.items.elements.items()} == spaces
    assert found.retained == frozenset()
    assert found.reader_auth is not None


@SLOW
@given(
    elements=st.dictionaries(NAMES, VALUES, min_size=1, max_size=6),
    days=st.integers(0, 3000),
    index=st.integers(0, 2**32),
)
def test_a_security_object_written_is_the_one_read(
    world: World, elements: dict[str, Any], days: int, index: int
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    until = NOW + timedelta(days=days)
    credential = issue.issue(
        doc_type=DOC_TYPE,
        elements={NAME_SPACE: elements},
        device_key=key.public_key(),
        signer=world.authority.signer_key,
        certificate=world.authority.document_signer,
        signed=NOW,
        valid_from=NOW,
        valid_until=until,
        random_bytes=os.urandom,
        status=("https://issuer.example/status", index),
    )
    read: MobileSecurityObject = parse_mso(credential.issuer_auth[2])
    assert (read.doc_type, read.signed, read.valid_from, read.valid_until) == (DOC_TYPE, NOW, NOW, until)
    assert len(read.value_digests[NAME_SPACE]) == len(elements)
    assert isinstance(read.device_key, ec.EllipticCurvePublicKey)
    assert read.device_key.public_numbers() == key.public_key().public_numbers()


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(
    cla=st.integers(0, 255),
    ins=st.integers(0, 255),
    place=st.tuples(st.integers(0, 255), st.integers(0, 255)),
    data=st.binary(max_size=300) | st.integers(0, 65_535).map(bytes),
    le=st.none() | st.integers(1, 65_536),
)
def test_a_command_written_is_the_command_read(
    cla: int, ins: int, place: tuple[int, int], data: bytes, le: int | None
) -> None:
    command = apdu.Command(cla, ins, *place, data, le)
    assert apdu.Command.parse(command.encode()) == command
    response = apdu.Response(ins << 8 | cla, data)
    assert apdu.Response.parse(response.encode()) == response


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(message=st.binary(max_size=400) | st.integers(0, 70_000).map(bytes))
def test_a_data_object_written_is_the_one_read(message: bytes) -> None:
    assert apdu.unwrap(apdu.wrap(message)) == message


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(bits=st.sampled_from([1, 2, 4, 8]), entries=st.lists(st.integers(0, 255), min_size=1, max_size=200))
def test_a_status_list_written_is_the_one_read(bits: int, entries: list[int]) -> None:
    values = [entry % (1 << bits) for entry in entries]
    read_bits, packed = statuslist.unpack({"bits": bits, "lst": statuslist.pack(values, bits)})
    per_byte = 8 // bits
    read = [packed[at // per_byte] >> (at % per_byte * bits) & ((1 << bits) - 1) for at in range(len(values))]
    assert (read_bits, read) == (bits, values)


@SLOW
@given(
    kids=st.lists(st.binary(min_size=1, max_size=40), max_size=5, unique=True),
    types=st.lists(NAMES, min_size=1, max_size=3, unique=True),
)
def test_an_issuer_list_written_is_the_one_read(kids: list[bytes], types: list[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    entries = [
        ListedIssuer(kid, key.public_key(), tuple(types), NOW, NOW + timedelta(days=1), ("https://issuer.example/1",))
        for kid in kids
    ]
    read = issuerlist.parse(issuerlist.build(entries, NOW, key), key.public_key())
    assert len(read) == len(kids)
    for entry in entries:
        found = read.find(entry.kid)
        assert found is not None
        assert (found.doc_types, found.not_before, found.status_lists) == (
            entry.doc_types,
            entry.not_before,
            entry.status_lists,
        )


def test_a_qr_code_carries_any_engagement() -> None:
    for ble_options in (None, BleOptions(True, False, SERVICE), BleOptions(True, True, SERVICE, SERVICE, bytes(6))):
        raw = build_engagement(ec.generate_private_key(ec.SECP256R1()).public_key(), ble=ble_options)
        assert DeviceEngagement.parse(from_qr(to_qr(raw).encode())).ble == ble_options


def test_a_message_with_more_items_than_its_structure_needs_is_refused() -> None:
    many = dict.fromkeys(range(300))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    engagement = cbor.decode_map(build_engagement(key))
    with pytest.raises(MalformedError, match="too many items"):
        DeviceEngagement.parse(cbor.encode({**engagement, 9: many}))
