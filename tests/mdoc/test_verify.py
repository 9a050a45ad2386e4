"""Holder and reader understand each other, and every forgery has exactly one reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import cbor, qrpass
from mdoc.cbor import Encoded
from mdoc.errors import HolderDeclinedError, MalformedError, SessionError
from mdoc.freshness import ListKind
from mdoc.issue import Credential
from mdoc.reader import RequestedItems
from mdoc.statuslist import StatusLists
from mdoc.verdict import Failure, NotAcceptedError, Outcome
from mdoc.verify import CHECKS
from policy.reasons import ORDER, Reason
from testbed.authority import DOC_TYPE, MDL_DOC_TYPE, NAME_SPACE, Authority, canary_person
from tests.conftest import NOW
from tests.mdoc.conftest import ASKED, World


@pytest.mark.parametrize("mac", [False, True], ids=["signature", "mac"])
def test_accepts_a_genuine_presentation(world: World, mac: bool) -> None:
    raw, reader = world.response(mac=mac)
    verdict = world.verify(raw, reader)
    assert verdict.reason is None, verdict.checks
    assert verdict.elements == {NAME_SPACE: {"agency_code": "1741000", "card_type": "staff", "access_class": "general"}}
    assert [check.name for check in verdict.checks] == list(CHECKS)
    (issuer,) = verdict.issuers
    assert issuer is not None
    assert issuer.source.kind is ListKind.ISSUER_LIST
    assert [used.facts.kind for used in verdict.used] == [ListKind.ISSUER_LIST, ListKind.STATUS_LIST]
    assert [used.age for used in verdict.used] == [None, timedelta(0)]
    skipped = {check.name for check in verdict.checks if check.outcome is Outcome.SKIPPED}
    assert skipped == {"signer_revocation"}, "this authority publishes no revocation list"
    assert all(check.outcome is Outcome.PASSED for check in verdict.checks if check.name not in skipped)


def test_phone_sees_who_asks_for_what_and_that_nothing_is_retained(world: World) -> None:
    reader, phone = world.session()
    request = phone.receive(reader.start())
    assert request is not None
    (asked,) = request.doc_requests
    assert asked.items == RequestedItems(DOC_TYPE, {NAME_SPACE: ["agency_code", "card_type", "access_class"]})
    assert not asked.retained
    assert phone.who_asks(asked, [world.reader_root], NOW).reader == world.identity.certificates[0]
    assert phone.who_asks(asked, [world.authority.iaca], NOW).reader is None


def test_elements_of_a_refused_verdict_are_unreachable(world: World) -> None:
    raw, reader = world.response()
    verdict = world.verify(raw, reader, trust=type(world.trust)([]))
    with pytest.raises(NotAcceptedError):
        _ = verdict.elements


def test_every_failure_is_a_published_reason() -> None:
    assert {failure.value for failure in Failure} <= {reason.value for reason in Reason}


@pytest.mark.parametrize("table", [CHECKS, qrpass.CHECKS], ids=["response", "pass"])
def test_checks_fail_in_the_published_order_of_reasons(table: Mapping[str, tuple[Failure, ...]]) -> None:
    firsts = _first_reasons(table)
    assert firsts == sorted(firsts)


def _first_reasons(table: Mapping[str, tuple[Failure, ...]]) -> list[int]:
    """Of each check that looks at content, the first reason it may give."""
    looks = [failures for failures in table.values() if failures[0] not in (Failure.MALFORMED, Failure.HOLDER_DECLINED)]
    return [min(ORDER.index(Reason(failure)) for failure in failures) for failures in looks]


def reissued(world: World, **changes: Any) -> tuple[Credential, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    credential, _ = world.authority.issue(key.public_key(), world.person, now=NOW, **changes)
    return credential, key


def test_refuses_expired(world: World) -> None:
    credential, key = reissued(world, valid_from=NOW - timedelta(days=9), valid_until=NOW - timedelta(days=1))
    raw, reader = world.response(credential=credential, device_key=key)
    assert world.verify(raw, reader).reason == "expired"
    assert world.verify(raw, reader, skew=timedelta(days=2)).accepted


def test_refuses_not_yet_valid(world: World) -> None:
    credential, key = reissued(world, valid_from=NOW + timedelta(days=1))
    raw, reader = world.response(credential=credential, device_key=key)
    assert world.verify(raw, reader).reason == "not_yet_valid"


def test_refuses_a_window_that_ends_before_it_begins(world: World) -> None:
    credential, key = reissued(world, valid_from=NOW - timedelta(days=1), valid_until=NOW - timedelta(days=2))
    raw, reader = world.response(credential=credential, device_key=key)
    assert world.verify(raw, reader).reason == "malformed"


def test_refuses_revoked_and_says_unknown_without_the_list(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    credential, index = world.authority.issue(key.public_key(), world.person, now=NOW)
    raw, reader = world.response(credential=credential, device_key=key)
    assert world.verify(raw, reader).accepted
    world.authority.revoke(index)
    assert world.verify(raw, reader).reason == "revoked"
    assert world.verify(raw, reader, status=StatusLists()).reason == "status_unknown"


def test_refuses_a_status_list_past_its_date(world: World) -> None:
    raw, reader = world.response()
    assert world.verify(raw, reader, status=world.status(NOW - timedelta(days=8))).reason == "status_stale"


def test_refuses_an_untrusted_issuer(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Authority.create(tmp_path_factory.mktemp("other"), name="Test", now=NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    credential, _ = other.issue(key.public_key(), world.person, now=NOW)
    raw, reader = world.response(credential=credential, device_key=key)
    assert world.verify(raw, reader).reason == "unknown_issuer"


def test_refuses_another_document_type(world: World) -> None:
    credential, key = reissued(world, doc_type=MDL_DOC_TYPE)
    raw, reader = world.response(credential=credential, device_key=key)
    assert world.verify(raw, reader).reason == "wrong_document_type"


def test_refuses_a_document_type_that_the_issuer_did_not_sign(world: World) -> None:
    credential, key = reissued(world, doc_type=MDL_DOC_TYPE)
    renamed = Credential(DOC_TYPE, credential.items, credential.issuer_auth)
    raw, reader = world.response(credential=renamed, device_key=key)
    assert world.verify(raw, reader).reason == "wrong_document_type"


def altered(credential: Credential, element: str, value: Any) -> Credential:
    body = cbor.decode(credential.items[NAME_SPACE][element].content)
    item = Encoded.wrap(cbor.encode({**body, "elementValue": value}))
    return Credential(
        credential.doc_type, {NAME_SPACE: {**credential.items[NAME_SPACE], element: item}}, credential.issuer_auth
    )


def test_refuses_an_altered_element(world: World) -> None:
    raw, reader = world.response(credential=altered(world.credential, "access_class", "director"))
    assert world.verify(raw, reader).reason == "altered"


def test_refuses_an_item_whose_head_was_rewritten(world: World) -> None:
    item = world.credential.items[NAME_SPACE]["card_type"]
    longer = Encoded(b"\xd8\x18\x59" + len(item.content).to_bytes(2, "big") + item.content, item.content)
    assert longer.raw != item.raw
    items = {NAME_SPACE: {**world.credential.items[NAME_SPACE], "card_type": longer}}
    raw, reader = world.response(credential=Credential(DOC_TYPE, items, world.credential.issuer_auth))
    assert world.verify(raw, reader).reason == "altered"


def test_refuses_a_namespace_that_the_issuer_did_not_sign(world: World) -> None:
    items = {**world.credential.items, "org.example": world.credential.items[NAME_SPACE]}
    asked = RequestedItems(DOC_TYPE, {**ASKED.elements, "org.example": ("name",)})
    raw, reader = world.response(credential=Credential(DOC_TYPE, items, world.credential.issuer_auth), items=asked)
    assert world.verify(raw, reader).reason == "altered"


@pytest.mark.parametrize("mac", [False, True], ids=["signature", "mac"])
def test_refuses_a_device_proof_of_another_session(world: World, mac: bool) -> None:
    raw, _ = world.response(mac=mac)
    _, reader = world.response()
    assert world.verify(raw, reader).reason == "wrong_session"


def test_refuses_another_device_key(world: World) -> None:
    raw, reader = world.response(device_key=ec.generate_private_key(ec.SECP256R1()))
    assert world.verify(raw, reader).reason == "wrong_session"


def test_refuses_a_missing_element(world: World) -> None:
    raw, reader = world.response(disclose={NAME_SPACE: ("agency_code", "card_type")})
    assert world.verify(raw, reader).reason == "missing_element"


def test_refuses_more_than_was_asked(world: World) -> None:
    wide = (*ASKED.elements[NAME_SPACE], "name")
    raw, reader = world.response(disclose={NAME_SPACE: wide})
    assert world.verify(raw, reader).reason == "malformed"


def test_refuses_a_device_signed_element_without_authorization(world: World) -> None:
    raw, reader = world.response()
    body = cbor.decode(raw)
    body["documents"][0]["deviceSigned"]["nameSpaces"] = Encoded.wrap(cbor.encode({NAME_SPACE: {"grade": 1}}))
    verdict = world.verify(cbor.encode(body), reader)
    failed = [check.name for check in verdict.checks if check.outcome is Outcome.FAILED]
    assert "key_authorizations" in failed


def test_refuses_both_device_signature_and_device_mac(world: World) -> None:
    raw, reader = world.response()
    body = cbor.decode(raw)
    auth = body["documents"][0]["deviceSigned"]["deviceAuth"]
    auth["deviceMac"] = auth["deviceSignature"]
    assert world.verify(cbor.encode(body), reader).reason == "malformed"


def test_refuses_an_attached_payload_in_place_of_the_session(world: World) -> None:
    raw, reader = world.response()
    body = cbor.decode(raw)
    signature = body["documents"][0]["deviceSigned"]["deviceAuth"]["deviceSignature"]
    signature[2] = b"something else"
    assert world.verify(cbor.encode(body), reader).reason == "wrong_session"


def test_a_response_without_documents_is_a_refusal_by_the_holder(world: World) -> None:
    _, reader = world.response()
    assert world.verify(cbor.encode({"version": "1.0", "status": 0}), reader).reason == "holder_declined"


def test_holder_who_says_no_and_a_broken_session_are_different(world: World) -> None:
    reader, phone = world.session()
    phone.receive(reader.start())
    with pytest.raises(HolderDeclinedError):
        reader.receive(phone.decline())
    with pytest.raises(SessionError):
        reader.receive(cbor.encode({"data": bytes(40)}))
    with pytest.raises(MalformedError):
        reader.receive(b"\xa0")


@settings(max_examples=100, derandomize=True, deadline=None)
@given(raw=st.binary(max_size=300))
def test_never_raises_for_arbitrary_bytes(world: World, raw: bytes) -> None:
    reader, _ = world.session()
    assert world.verify(raw, reader, status=StatusLists()).reason == "malformed"


def test_a_canary_person_has_no_value_twice() -> None:
    one, two = (canary_person(os.urandom, agency_code="1", card_type="2", access_class="3") for _ in range(2))
    assert one.name != two.name
    assert one.employee_number != two.employee_number
