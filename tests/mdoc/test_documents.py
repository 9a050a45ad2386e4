"""Requests and responses of several documents: what is needed, what may be declined, and nothing that nobody asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import cbor, cose
from mdoc.cbor import Encoded
from mdoc.errors import MalformedError
from mdoc.holder import Answer, build_device_response, build_document
from mdoc.issue import Credential, issue
from mdoc.reader import ReaderSession, RequestedItems
from mdoc.request import DeviceRequest, build_request
from mdoc.response import DeviceResponse
from mdoc.statuslist import StatusLists
from mdoc.transcript import QrHandover
from mdoc.verdict import NotAcceptedError, Outcome, Verdict
from testbed.authority import NAME_SPACE
from tests.conftest import NOW
from tests.mdoc.conftest import World

STAFF, BADGE = "kr.go.civilservant.1", "kr.go.badge.1"
BADGE_SPACE = "kr.go.badge"
ASKED_STAFF = RequestedItems(STAFF, {NAME_SPACE: ("agency_code", "card_type")})
ASKED_BADGE = RequestedItems(BADGE, {BADGE_SPACE: ("number",)})


@dataclass
class Holder:
    """Two credentials of one authority, and what is asked of them."""

    world: World
    staff: Credential
    badge: Credential
    key: ec.EllipticCurvePrivateKey

    def answer(self, credential: Credential, **changes: Any) -> Answer:
        shared = {NAME_SPACE: ("agency_code", "card_type")} if credential is self.staff else {BADGE_SPACE: ("number",)}
        return Answer(**{"credential": credential, "device_key": self.key, "disclose": shared, **changes})

    def present(
        self, answers: Sequence[Answer], items: RequestedItems | Sequence[RequestedItems], **more: Any
    ) -> tuple[bytes, ReaderSession]:
        reader, phone = self.world.session(items)
        phone.receive(reader.start())
        return reader.receive(phone.respond_all(answers, **more)), reader

    def verify(
        self, answers: Sequence[Answer], items: RequestedItems | Sequence[RequestedItems], **more: Any
    ) -> Verdict:
        raw, reader = self.present(answers, items, **more)
        return self.world.verify(raw, reader, status=StatusLists())


def issued(world: World, doc_type: str, elements: Any, key: ec.EllipticCurvePrivateKey, **more: Any) -> Credential:
    return issue(
        doc_type=doc_type,
        elements=elements,
        device_key=key.public_key(),
        signer=world.authority.signer_key,
        certificate=world.authority.document_signer,
        signed=NOW - timedelta(days=1),
        valid_from=NOW - timedelta(days=1),
        valid_until=NOW + timedelta(days=1),
        random_bytes=os.urandom,
        **more,
    )


@pytest.fixture(scope="module")
def holder(world: World) -> Holder:
    key = ec.generate_private_key(ec.SECP256R1())
    staff = {"agency_code": "1741000", "card_type": "staff", "access_class": "general"}
    return Holder(
        world,
        issued(world, STAFF, {NAME_SPACE: staff}, key),
        issued(world, BADGE, {BADGE_SPACE: {"number": 7, "colour": "red"}}, key),
        key,
    )


def test_accepts_two_documents_and_gives_out_each(holder: Holder) -> None:
    verdict = holder.verify([holder.answer(holder.staff), holder.answer(holder.badge)], [ASKED_STAFF, ASKED_BADGE])
    assert verdict.reason is None, verdict.checks
    assert [document.doc_type for document in verdict.documents] == [STAFF, BADGE]
    assert verdict.documents[1].elements == {BADGE_SPACE: {"number": 7}}
    with pytest.raises(NotAcceptedError):
        _ = verdict.elements


def test_a_bad_second_document_refuses_the_response(holder: Holder) -> None:
    stolen = holder.answer(holder.badge, device_key=ec.generate_private_key(ec.SECP256R1()))
    verdict = holder.verify([holder.answer(holder.staff), stolen], [ASKED_STAFF, ASKED_BADGE])
    assert verdict.reason == "wrong_session"
    with pytest.raises(NotAcceptedError):
        _ = verdict.documents


def test_a_second_document_that_cannot_be_read_refuses_the_response(holder: Holder) -> None:
    raw, reader = holder.present([holder.answer(holder.staff)], [ASKED_STAFF])
    body = cbor.decode(raw)
    body["documents"].append({"docType": BADGE})
    assert holder.world.verify(cbor.encode(body), reader, status=StatusLists()).reason == "malformed"


def test_of_two_bad_documents_the_first_failure_in_published_order_is_the_reason(holder: Holder) -> None:
    late = issued(holder.world, STAFF, {NAME_SPACE: {"agency_code": "1"}}, ec.generate_private_key(ec.SECP256R1()))
    wrong_key = Answer(late, holder.key, {NAME_SPACE: ("agency_code",)})
    other = Credential(BADGE, holder.badge.items, holder.staff.issuer_auth)
    asked = [RequestedItems(STAFF, {NAME_SPACE: ("agency_code",)}), ASKED_BADGE]
    assert holder.verify([wrong_key, holder.answer(other, disclose={BADGE_SPACE: ("number",)})], asked).reason == (
        "wrong_document_type"
    )


def test_refuses_a_document_that_nobody_asked_for(holder: Holder) -> None:
    both = [holder.answer(holder.staff), holder.answer(holder.badge)]
    assert holder.verify(both, ASKED_STAFF).reason == "malformed"
    assert holder.verify(both, [ASKED_STAFF, RequestedItems("org.example.1", {"x": ("y",)})]).reason == (
        "wrong_document_type"
    )


def test_refuses_the_same_document_twice_for_one_request(holder: Holder) -> None:
    twice = [holder.answer(holder.staff), holder.answer(holder.staff)]
    assert holder.verify(twice, ASKED_STAFF).reason == "malformed"
    assert holder.verify(twice, [ASKED_STAFF, ASKED_BADGE]).reason == "malformed"


def test_one_credential_cannot_stand_for_two(holder: Holder) -> None:
    again = [holder.answer(holder.staff), holder.answer(holder.staff)]
    assert holder.verify(again, [ASKED_STAFF, ASKED_STAFF]).reason == "malformed"
    renewed = issued(holder.world, STAFF, {NAME_SPACE: {"agency_code": "1", "card_type": "staff"}}, holder.key)
    two = [holder.answer(holder.staff), Answer(renewed, holder.key, again[0].disclose)]
    assert holder.verify(two, [ASKED_STAFF, ASKED_STAFF]).reason is None
    raw, reader = holder.present(again, ASKED_STAFF)
    unknown = RequestedItems(STAFF, {}, unlimited=True)
    assert holder.world.verify(raw, reader, status=StatusLists(), requested=unknown).reason == "malformed"
    raw, reader = holder.present(two, ASKED_STAFF)
    assert holder.world.verify(raw, reader, status=StatusLists(), requested=unknown).reason is None


def test_elements_of_one_document_cannot_answer_for_another(holder: Holder) -> None:
    wide = holder.answer(holder.badge, disclose={BADGE_SPACE: ("number", "colour")})
    assert holder.verify([holder.answer(holder.staff), wide], [ASKED_STAFF, ASKED_BADGE]).reason == "malformed"


def test_a_document_may_be_declined_only_where_nothing_of_it_is_needed(holder: Holder) -> None:
    optional = RequestedItems(BADGE, ASKED_BADGE.elements, required={})
    only_staff = [holder.answer(holder.staff)]
    assert holder.verify(only_staff, [ASKED_STAFF, ASKED_BADGE], declined=[BADGE]).reason == "holder_declined"
    verdict = holder.verify(only_staff, [ASKED_STAFF, optional], declined=[BADGE])
    assert verdict.reason is None
    assert verdict.elements == {NAME_SPACE: {"agency_code": "1741000", "card_type": "staff"}}


def test_the_holder_may_decline_elements_that_the_rules_do_not_need(holder: Holder) -> None:
    shared = holder.answer(holder.staff, disclose={NAME_SPACE: ("agency_code",)})
    needed = RequestedItems(STAFF, ASKED_STAFF.elements, required={NAME_SPACE: ("agency_code",)})
    assert holder.verify([shared], needed).reason is None
    assert holder.verify([shared], ASKED_STAFF).reason == "missing_element"
    other = RequestedItems(STAFF, ASKED_STAFF.elements, required={NAME_SPACE: ("card_type",)})
    assert holder.verify([shared], other).reason == "missing_element"


def test_device_signed_elements_need_the_issuers_authorization(holder: Holder) -> None:
    asked = RequestedItems(STAFF, {NAME_SPACE: ("agency_code", "mood")}, required={NAME_SPACE: ("agency_code",)})

    def reason(element: str = "mood", space: str = NAME_SPACE, **authorizations: Any) -> str | None:
        credential = issued(holder.world, STAFF, {NAME_SPACE: {"agency_code": "1"}}, holder.key, **authorizations)
        said = {space: {element: "good"}}
        shared = Answer(credential, holder.key, {NAME_SPACE: ("agency_code",)}, device_signed=said)
        return holder.verify([shared], asked).reason

    assert reason() == "altered"
    assert reason(authorized_name_spaces=[NAME_SPACE]) is None
    assert reason(authorized_elements={NAME_SPACE: ["mood"]}) is None
    assert reason(authorized_elements={NAME_SPACE: ["other"]}) == "altered"
    assert reason(authorized_name_spaces=["org.example"]) == "altered"
    assert reason(element="unasked", authorized_name_spaces=[NAME_SPACE]) == "malformed"


def test_what_the_device_says_does_not_stand_in_for_what_the_issuer_signed(holder: Holder) -> None:
    asked = RequestedItems(STAFF, {NAME_SPACE: ("agency_code", "mood")})
    credential = issued(
        holder.world, STAFF, {NAME_SPACE: {"agency_code": "1"}}, holder.key, authorized_name_spaces=[NAME_SPACE]
    )
    said = Answer(credential, holder.key, {NAME_SPACE: ("agency_code",)}, device_signed={NAME_SPACE: {"mood": "good"}})
    assert holder.verify([said], asked).reason == "missing_element"
    enough = RequestedItems(STAFF, asked.elements, required={NAME_SPACE: ("agency_code",)})
    verdict = holder.verify([said], enough)
    assert verdict.elements == {NAME_SPACE: {"agency_code": "1"}}
    assert verdict.documents[0].device_elements == {NAME_SPACE: {"mood": "good"}}


def test_a_response_of_the_wrong_session_is_refused_for_every_document(holder: Holder) -> None:
    raw, _ = holder.present(
        [holder.answer(holder.staff, mac=True), holder.answer(holder.badge)], [ASKED_STAFF, ASKED_BADGE]
    )
    other, _ = holder.world.session([ASKED_STAFF, ASKED_BADGE])
    verdict = holder.world.verify(raw, other, status=StatusLists())
    failed = [check.name for check in verdict.checks if check.outcome is Outcome.FAILED]
    assert failed == ["device_authentication"] * 2


def test_without_a_session_nothing_is_accepted_unless_only_the_issuers_part_is_asked(holder: Holder) -> None:
    raw, reader = holder.present([holder.answer(holder.staff)], ASKED_STAFF)
    assert holder.world.verify(raw, reader, status=StatusLists(), transcript=None).reason == "wrong_session"
    verdict = holder.world.verify(raw, reader, status=StatusLists(), transcript=None, issuer_only=True)
    assert verdict.reason is None
    assert ("device_authentication", Outcome.SKIPPED) in {(check.name, check.outcome) for check in verdict.checks}
    with_session = holder.world.verify(raw, holder.world.session()[0], status=StatusLists(), issuer_only=True)
    assert with_session.reason == "wrong_session"


def test_a_mac_needs_the_sessions_reader_key(holder: Holder) -> None:
    raw, reader = holder.present([holder.answer(holder.staff, mac=True)], ASKED_STAFF)
    verify = holder.world.verify
    assert verify(raw, reader, status=StatusLists()).reason is None
    for key in (None, ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())):
        assert verify(raw, reader, status=StatusLists(), reader_key=key).reason == "wrong_session"


# The request.


def request_of(world: World, items: Any, **more: Any) -> tuple[DeviceRequest, bytes, Any]:
    reader, phone = world.session()
    raw = build_request(items, reader.transcript, world.identity, **more)
    return DeviceRequest.parse(raw), raw, (reader, phone)


def test_a_request_states_version_1_1_only_where_it_uses_it(world: World) -> None:
    assert request_of(world, [ASKED_STAFF, ASKED_BADGE])[0].version == "1.0"
    assert request_of(world, ASKED_STAFF, authenticate_all=True)[0].version == "1.1"
    info = {"useCases": [{"mandatory": True, "documentSets": [[0]]}]}
    request = request_of(world, ASKED_STAFF, device_request_info=info)[0]
    assert request.version == "1.1"
    assert request.device_request_info == Encoded.wrap(cbor.encode(info))


def test_request_info_and_unknown_members_are_kept_as_bytes(world: World) -> None:
    request, raw, _ = request_of(world, ASKED_STAFF, request_info={"uniqueDocSetRequired": True})
    assert request.doc_requests[0].request_info == cbor.encode({"uniqueDocSetRequired": True})
    body = cbor.decode(raw)
    body["more"] = [1, {"x": b"y"}]
    again = DeviceRequest.parse(cbor.encode(body))
    assert again.other == {"more": cbor.encode([1, {"x": b"y"}])}
    assert again.doc_requests == request.doc_requests


@pytest.mark.parametrize("authenticate_all", [False, True])
def test_the_holder_sees_who_asks_for_each_document(world: World, authenticate_all: bool) -> None:
    _, phone = world.session()
    both = [ASKED_STAFF, ASKED_BADGE]
    asking = ReaderSession(phone._engagement, QrHandover(), both, world.identity, authenticate_all=authenticate_all)
    request = phone.receive(asking.start())
    assert request is not None
    assert [(entry.items.doc_type, entry.items.elements) for entry in request.doc_requests] == [
        (STAFF, {NAME_SPACE: ["agency_code", "card_type"]}),
        (BADGE, {BADGE_SPACE: ["number"]}),
    ]
    for entry in request.doc_requests:
        assert not entry.retained
        assert phone.who_asks(entry, [world.reader_root], NOW).reader == world.identity.certificates[0]
        assert phone.who_asks(entry, [world.authority.iaca], NOW).reader is None


def altered_request(world: World, change: Callable[[dict[str, Any]], None]) -> list[Any]:
    """Readers that the holder's side finds for each document of a request signed as a whole, after `change`."""
    reader, phone = world.session()
    raw = build_request([ASKED_STAFF, ASKED_BADGE], reader.transcript, world.identity, authenticate_all=True)
    body = cbor.decode(raw)
    for entry in body["docRequests"]:
        del entry["readerAuth"]
    change(body)
    sealed = cbor.encode({"eReaderKey": reader._key_bytes, "data": reader._encryption.seal(cbor.encode(body))})
    request = phone.receive(sealed)
    assert request is not None
    return [phone.who_asks(entry, [world.reader_root], NOW).reader for entry in request.doc_requests]


def test_a_reader_who_signs_all_requests_together_vouches_for_all_and_for_no_other(world: World) -> None:
    certificate = world.identity.certificates[0]
    assert altered_request(world, lambda body: None) == [certificate, certificate]
    assert altered_request(world, lambda body: body["docRequests"].pop()) == [None]
    assert altered_request(world, lambda body: body["docRequests"].reverse()) == [None, None]
    assert altered_request(world, lambda body: body["docRequests"].append(body["docRequests"][0])) == [None] * 3
    info = Encoded.wrap(cbor.encode({}))
    assert altered_request(world, lambda body: body.update(deviceRequestInfo=info)) == [None, None]


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.pop("version"),
        lambda body: body.update(version="2.0"),
        lambda body: body.update(docRequests=[]),
        lambda body: body.update(docRequests=body["docRequests"] * 9),
        lambda body: body.update(deviceRequestInfo={}),
        lambda body: body.update(readerAuthAll={}),
        lambda body: body.update(readerAuthAll=[1]),
        lambda body: body["docRequests"][0].pop("itemsRequest"),
        lambda body: body["docRequests"][0].update(readerAuth=b""),
    ],
    ids=range(9),
)
def test_refuses_a_malformed_request(world: World, change: Callable[[dict[str, Any]], None]) -> None:
    _, raw, _ = request_of(world, ASKED_STAFF)
    body = cbor.decode(raw)
    change(body)
    with pytest.raises(MalformedError):
        DeviceRequest.parse(cbor.encode(body))


def test_a_request_without_elements_cannot_be_built(world: World) -> None:
    for items in (RequestedItems(STAFF, {}), RequestedItems(STAFF, {}, unlimited=True)):
        with pytest.raises(ValueError, match="names its elements"):
            request_of(world, items)


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    elements=st.dictionaries(names, st.dictionaries(names, values, min_size=1, max_size=4), min_size=1, max_size=3),
    algorithm=st.sampled_from(["SHA-256", "SHA-384", "SHA-512"]),
    mac=st.booleans(),
    data=st.data(),
)
def test_whatever_is_issued_and_shared_comes_out_at_the_reader(
    holder: Holder, elements: dict[str, dict[str, Any]], algorithm: str, mac: bool, data: st.DataObject
) -> None:
    shared = {
        space: data.draw(st.lists(st.sampled_from(sorted(found)), min_size=1, unique=True))
        for space, found in elements.items()
    }
    credential = issued(holder.world, STAFF, elements, holder.key, digest_algorithm=algorithm)
    asked = RequestedItems(STAFF, {space: sorted(found) for space, found in elements.items()}, required=shared)
    verdict = holder.verify([Answer(credential, holder.key, shared, mac=mac)], asked)
    assert verdict.reason is None, verdict.checks
    assert verdict.elements == {
        space: {name: elements[space][name] for name in found} for space, found in shared.items()
    }


def test_what_the_holder_leaves_out_is_named_in_errors(holder: Holder) -> None:
    shared = holder.answer(holder.staff, disclose={NAME_SPACE: ("agency_code", "shoe_size")})
    raw, _ = holder.present([shared], ASKED_STAFF, declined=[BADGE])
    parsed = DeviceResponse.parse(raw)
    assert parsed.documents[0].errors == {NAME_SPACE: {"shoe_size": 0}}
    assert parsed.document_errors == ((BADGE, 0),)


def test_a_response_of_more_documents_than_any_gate_asks_for_is_refused(holder: Holder) -> None:
    reader, _ = holder.world.session()
    document = build_document(holder.answer(holder.staff), reader.transcript, None)
    with pytest.raises(MalformedError):
        DeviceResponse.parse(build_device_response([document] * 9))
    assert (
        cose.X5CHAIN in cbor.decode(build_device_response([document]))["documents"][0]["issuerSigned"]["issuerAuth"][1]
    )
