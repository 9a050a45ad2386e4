"""Issuers named by `kid`: a document without a certificate counts for what its signed list entry says, and for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose, issuerlist
from mdoc.certificates import Anchor, TrustAnchors
from mdoc.errors import MalformedError, TrustError
from mdoc.issue import Credential
from mdoc.issuerlist import IssuerList, ListedIssuer
from mdoc.request import RequestedItems
from mdoc.response import DeviceResponse
from mdoc.statuslist import StatusLists
from mdoc.transcript import SessionTranscript
from mdoc.verdict import Outcome, Verdict
from mdoc.verify import verify_response
from testbed.authority import DOC_TYPE, MDL_DOC_TYPE
from tests.conftest import NOW
from tests.mdoc.conftest import World

KID = b"did:omn:issuer?versionId=1#assert"
KEY, LIST_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def entry(world: World, **changes: Any) -> ListedIssuer:
    issuer = ListedIssuer(
        KID,
        KEY.public_key(),
        (DOC_TYPE,),
        NOW - timedelta(days=10),
        NOW + timedelta(days=10),
        (world.authority.status_uri,),
    )
    return replace(issuer, **changes)


def listed(world: World, **changes: Any) -> IssuerList:
    """Signed and read back, as a gate gets it."""
    raw = issuerlist.build([entry(world, **changes)], NOW, LIST_KEY, next_update=NOW + timedelta(days=1))
    return issuerlist.parse(raw, LIST_KEY.public_key())


def by_kid(
    credential: Credential,
    *,
    key: ec.EllipticCurvePrivateKey = KEY,
    protected: Mapping[int, Any] | None = None,
    unprotected: Mapping[int, Any] | None = None,
) -> Credential:
    """The same credential, signed anew under a `kid` instead of a certificate."""
    header = {cose.KID: KID} if unprotected is None else unprotected
    signed = cose.build_sign1(key, credential.issuer_auth[2], protected=protected, unprotected=header)
    return Credential(credential.doc_type, credential.items, signed)


def verify(world: World, credential: Credential, issuers: IssuerList | None, **changes: Any) -> Verdict:
    raw, reader = world.response(credential=credential)
    trust = TrustAnchors([Anchor.from_certificate(world.authority.iaca)], issuers=issuers)
    return world.verify(raw, reader, **{"trust": trust, **changes})


@pytest.mark.parametrize("place", ["unprotected", "protected"])
def test_a_document_of_a_listed_issuer_is_accepted(world: World, place: str) -> None:
    header = {cose.KID: KID}
    credential = by_kid(
        world.credential,
        protected=header if place == "protected" else None,
        unprotected=header if place == "unprotected" else {},
    )
    verdict = verify(world, credential, listed(world))
    assert verdict.reason is None, verdict.checks
    assert verdict.used


def test_an_issuer_that_no_list_names_is_unknown(world: World) -> None:
    credential = by_kid(world.credential)
    assert verify(world, credential, None).reason == "unknown_issuer"
    assert verify(world, credential, IssuerList()).reason == "unknown_issuer"
    assert verify(world, credential, listed(world, kid=KID + b"2")).reason == "unknown_issuer"


def test_a_document_signed_by_another_key_under_a_listed_name_is_refused(world: World) -> None:
    forged = by_kid(world.credential, key=ec.generate_private_key(ec.SECP256R1()))
    assert verify(world, forged, listed(world)).reason == "bad_signature"


def test_a_listed_issuer_signs_only_the_types_of_its_entry(world: World) -> None:
    verdict = verify(world, by_kid(world.credential), listed(world, doc_types=(MDL_DOC_TYPE,)))
    assert verdict.reason == "unknown_issuer"


@pytest.mark.parametrize(
    "dates",
    [
        {"not_before": NOW + timedelta(days=1)},
        {"not_after": NOW - timedelta(days=1)},
        {"not_before": NOW},  # the document was signed before
    ],
    ids=["not yet", "no more", "not when it signed"],
)
def test_an_entry_counts_within_its_dates(world: World, dates: dict[str, Any]) -> None:
    assert verify(world, by_kid(world.credential), listed(world, **dates)).reason == "bad_certificate"


def test_a_status_list_that_the_entry_does_not_name_does_not_speak_for_it(world: World) -> None:
    for changes in ({"status_lists": ()}, {"status_authority": b"another"}):
        assert verify(world, by_kid(world.credential), listed(world, **changes)).reason == "status_unknown"
    own = Anchor.from_certificate(world.authority.iaca).key_identifier
    assert verify(world, by_kid(world.credential), listed(world, status_authority=own)).accepted


def test_a_list_past_its_date_is_stale(world: World) -> None:
    # The clock's error bound may not stretch it either.
    late = NOW + timedelta(days=2)
    verdict = verify(world, by_kid(world.credential), listed(world), now=late, status=world.status(late))
    assert verdict.reason == "issuer_list_stale"


def test_a_certificate_counts_before_the_kid_beside_it(world: World) -> None:
    header = {**world.credential.issuer_auth[1], cose.KID: KID}
    body = world.credential.issuer_auth
    kid_beside = Credential(DOC_TYPE, world.credential.items, [body[0], header, body[2], body[3]])
    assert verify(world, kid_beside, listed(world)).accepted  # signed by the certificate's key, not by the listed one
    both = by_kid(world.credential, unprotected=header)
    assert verify(world, both, listed(world)).reason == "bad_signature"


@pytest.mark.parametrize(
    "header", [{}, {cose.KID: ""}, {cose.KID: "text"}, {cose.KID: b""}, {cose.KID: 5}, {cose.KID: None}]
)
def test_a_document_that_names_nobody_is_malformed(world: World, header: Mapping[int, Any]) -> None:
    assert verify(world, by_kid(world.credential, unprotected=header), listed(world)).reason == "malformed"


def test_a_chain_in_the_protected_header_is_malformed(world: World) -> None:
    chain = world.credential.issuer_auth[1][cose.X5CHAIN]
    moved = by_kid(
        world.credential, key=world.authority.signer_key, protected={cose.X5CHAIN: chain}, unprotected={}
    )  # fmt: skip
    assert verify(world, moved, listed(world)).reason == "malformed"


def test_a_wallet_s_document_by_kid_holds_but_for_its_transcription(vectors: Path) -> None:
    """Its issuer signature does not verify in the vector either (see the note there), and it leaves out the device's empty
    namespaces, which is refused; with those put back, digests and device signature hold."""
    raw = (vectors / "opendid" / "mdoc_kid_devresp_noportrait.cbor").read_bytes()
    with pytest.raises(MalformedError, match="nameSpaces"):
        DeviceResponse.parse(raw)
    body = cbor.decode_map(raw)
    device = body["documents"][0]["deviceSigned"]
    attached = cbor.decode(device["deviceAuth"]["deviceSignature"][2])
    _, transcript, _, device["nameSpaces"] = cbor.decode(attached.content)
    items = body["documents"][0]["issuerSigned"]["nameSpaces"]
    asked = {
        space: [cbor.decode(item.content)["elementIdentifier"] for item in entries] for space, entries in items.items()
    }
    at = datetime(2026, 8, 1, tzinfo=UTC)
    issuer = ListedIssuer(KID, KEY.public_key(), (MDL_DOC_TYPE,), at - timedelta(days=365), NOW, ())
    verdict = verify_response(
        cbor.encode(body),
        transcript=SessionTranscript(cbor.encode(transcript)),
        reader_key=None,
        requested=RequestedItems(MDL_DOC_TYPE, asked),
        trust=TrustAnchors([], issuers=IssuerList([issuer], at)),
        status=StatusLists(),
        now=at,
    )
    assert [check.name for check in verdict.checks if check.outcome is Outcome.FAILED] == ["issuer_signature"]


# The list itself


def body(world: World) -> dict[str, Any]:
    raw = issuerlist.build([entry(world)], NOW, LIST_KEY)
    return cbor.decode_map(cose.parse_sign1(cbor.decode(raw)).payload or b"")


def signed(content: Mapping[str, Any], typ: str = issuerlist.TYPE, key: ec.EllipticCurvePrivateKey = LIST_KEY) -> bytes:
    return cbor.encode(cose.build_sign1(key, cbor.encode(content), protected={cose.TYP: typ}))


def test_entries_know_the_list_they_stand_on(world: World) -> None:
    found = listed(world)
    issuer = found.find(KID)
    assert issuer is not None
    assert issuer.source == found.facts
    assert (found.facts.issued_at, found.facts.expires) == (NOW, NOW + timedelta(days=1))
    assert (issuer.revoked, issuer.crl) == (False, None)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("kid", "text"),
        ("kid", b""),
        ("kid", bytes(300)),
        ("key", {1: 1, -1: 4, -2: bytes(32)}),
        ("docTypes", []),
        ("docTypes", [1]),
        ("statusLists", [b"x"]),
        ("statusAuthority", ""),
        ("statusAuthority", b""),
        ("notBefore", "2026-11-24T09:00:00Z"),
        ("notAfter", cbor.Tag(0, "2020-01-01T00:00:00Z")),
    ],
)
def test_refuses_an_entry_of_another_form(world: World, member: str, value: Any) -> None:
    content = body(world)
    content["issuers"][0][member] = value
    with pytest.raises(MalformedError):
        issuerlist.parse(signed(content), LIST_KEY.public_key())


def test_refuses_a_kid_twice_another_type_and_another_signer(world: World) -> None:
    content = body(world)
    with pytest.raises(MalformedError, match="twice"):
        issuerlist.parse(signed({**content, "issuers": content["issuers"] * 2}), LIST_KEY.public_key())
    with pytest.raises(MalformedError):
        issuerlist.parse(signed(content, "application/statuslist+cwt"), LIST_KEY.public_key())
    with pytest.raises(TrustError):
        issuerlist.parse(signed(content, key=KEY), LIST_KEY.public_key())


def test_a_list_says_that_it_is_a_specimen(world: World) -> None:
    key = LIST_KEY.public_key()
    assert issuerlist.parse(issuerlist.build([entry(world)], NOW, LIST_KEY, specimen=True), key).specimen is True
    assert listed(world).specimen is False


@pytest.mark.parametrize("value", [1, "true", None])
def test_the_mark_of_a_specimen_is_true_or_false(world: World, value: object) -> None:
    payload = cose.parse_sign1(cbor.decode(issuerlist.build([entry(world)], NOW, LIST_KEY)), "issuer list").payload
    assert payload is not None
    content = cbor.decode_map(payload)
    with pytest.raises(MalformedError, match="specimen"):
        issuerlist.parse(signed({**content, "specimen": value}), LIST_KEY.public_key())
