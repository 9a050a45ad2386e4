"""Device responses that are not what 18013-5 8.3.2.1.2.2 asks, several documents, and what costs a careless parser seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mdoc.request import RequestedItems
from mdoc.verdict import Failure
from tests.conftest import NOW
from tests.mdoc.forgeries import x509
from tests.mdoc.forgeries.builder import (
    ASKED,
    DEVICE,
    DOC_TYPE,
    SPACE,
    STRANGER,
    Forgery,
    Gate,
    Plan,
    date,
    expect,
    response,
)
from tests.mdoc.forgeries.genuine import MDL, MDL_ELEMENTS, MDL_SPACE, TWO, VISITOR
from tests.mdoc.forgeries.items import invented
from tests.mdoc.forgeries.values import (
    ALTERED,
    DECLINED,
    EARLY,
    EXPIRED,
    MALFORMED,
    MISSING,
    NOT_TEXT,
    SESSION,
    SIGNATURE,
    TYPE,
)
from tests.mdoc.forgeries.wire import (
    Hook,
    Raw,
    Tagged,
    again,
    drop,
    encoded,
    in_array,
    indefinite,
    pairs,
    put,
    twice,
    under,
    write,
)
from tests.mdoc.forgeries.x509 import DAY, key


def _responses() -> Iterator[tuple[str, str, bytes, Gate, frozenset[Failure]]]:
    one = Gate()

    def body(hook: Hook) -> bytes:
        return response(Plan(), body=hook)

    for version in ("2.0", "0.9", "1", "1.0 ", "", "1.00", 1, None, b"1.0"):
        yield f"version {version!r}", "8.3.2.1.2.2", body(put("version", version)), one, MALFORMED
    for status in (10, 11, 12, 1, -1, None, "0", False, Tagged(2, b""), Raw(b"\xf9\x00\x00"), [0]):
        yield f"status {status!r} with documents", "8.3.2.1.2.2", body(put("status", status)), one, MALFORMED
    for member in ("version", "status"):
        yield f"no {member}", "8.3.2.1.2.2", body(drop(member)), one, MALFORMED
    yield "no documents", "8.3.2.1.2.2", body(drop("documents")), one, DECLINED
    yield "documents empty", "8.3.2.1.2.2", body(put("documents", [])), one, DECLINED | MALFORMED
    yield "documents a map", "8.3.2.1.2.2", body(lambda b: {**b, "documents": b["documents"][0]}), one, MALFORMED
    yield (
        "documents in an array more",
        "8.3.2.1.2.2",
        body(lambda b: {**b, "documents": [b["documents"]]}),
        one,
        MALFORMED,
    )
    yield "a document nil", "8.3.2.1.2.2", body(under("documents", lambda d: [*d, None])), one, MALFORMED
    for member in ("version", "documents", "status"):
        yield f"{member} twice", "RFC 8949 5.6", body(again(member)), one, MALFORMED
    empty_first = body(twice("documents", [], first=True))
    yield "documents twice, none first", "RFC 8949 5.6", empty_first, one, MALFORMED
    for member in ("docType", "issuerSigned", "deviceSigned"):
        for name, hook in (
            ("missing", drop(member)),
            ("nil", put(member, None)),
            ("twice", again(member)),
            ("twice, nil first", twice(member, None, first=True)),
            ("tagged", under(member, lambda part: Tagged(24, write(part)))),
            ("in an array", under(member, in_array)),
        ):
            yield f"{member} {name}", "8.3.2.1.2.2", response(Plan(document=hook)), one, MALFORMED
    for name, value in NOT_TEXT.items():
        yield f"docType as text: {name}", "8.3.2.1.2.2", response(Plan(document=put("docType", value))), one, MALFORMED
    for value in ("other", DOC_TYPE + "\0", DOC_TYPE.upper(), MDL):
        yield f"docType {value!r}", "9.3.1 step 4", response(Plan(document=put("docType", value))), one, TYPE
    for member, hooks in (("issuerAuth", "issuer_signed"), ("deviceAuth", "device_signed")):
        for name, hook in (
            ("missing", drop(member)),
            ("nil", put(member, None)),
            ("twice", again(member)),
            ("twice, nil first", twice(member, None, first=True)),
            ("in a string", under(member, encoded)),
        ):
            changes: dict[str, Any] = {hooks: hook}
            yield f"{member} {name}", "8.3.2.1.2.2", response(Plan(**changes)), one, MALFORMED
    for name, value in (
        ("an array", []),
        ("of another type", {SPACE: {"x": "0"}}),
        ("with a float", {SPACE: {"x": Raw(b"\xf9\x00\x00")}}),
        ("by bytes", {b"x": {"x": 0}}),
        ("by number", {1: {"x": 0}}),
        ("not by namespace", {"x": 0}),
        ("twice", pairs([(SPACE, {"x": 0}), (SPACE, {"x": 0})])),
    ):
        yield f"errors {name}", "8.3.2.1.2.3", response(Plan(document=put("errors", value))), one, MALFORMED
    contradicting = {SPACE: {"agency_code": 0}}
    yield (
        "errors for an element that is there",
        "8.3.2.1.2.3",
        response(Plan(document=put("errors", contradicting))),
        one,
        MALFORMED,
    )
    for name, value in (
        ("a map", {"x": 0}),
        ("of numbers", [0]),
        ("text codes", [{"x": "0"}]),
        ("byte types", [{b"x": 0}]),
    ):
        yield f"documentErrors {name}", "8.3.2.1.2.3", body(put("documentErrors", value)), one, MALFORMED
    yield "documentErrors for the document", "8.3.2.1.2.3", body(put("documentErrors", [{DOC_TYPE: 0}])), one, MALFORMED

    raw = response(Plan())
    yield "a byte after it", "RFC 8949 5.3", raw + b"\0", one, MALFORMED
    yield "two responses", "RFC 8949 5.3", raw * 2, one, MALFORMED
    yield "a byte before it", "RFC 8949 5.3", b"\0" + raw, one, MALFORMED
    yield "in a string", "8.3.2.1.2.2", write(raw), one, MALFORMED
    yield "tagged 24", "8.3.2.1.2.2", write(Tagged(24, raw)), one, MALFORMED
    yield "tagged as self-described CBOR", "8.3.2.1.2.2", b"\xd9\xd9\xf7" + raw, one, MALFORMED
    yield "in an array", "8.3.2.1.2.2", b"\x81" + raw, one, MALFORMED
    yield "nothing", "8.3.2.1.2.2", b"", one, MALFORMED
    yield "of indefinite length", "limits", body(indefinite), one, MALFORMED
    indefinite_documents = body(under("documents", indefinite))
    yield "documents of indefinite length", "limits", indefinite_documents, one, MALFORMED
    indefinite_items = response(Plan(released=under(SPACE, indefinite)))
    yield "items of indefinite length", "limits", indefinite_items, one, MALFORMED
    for name, pair in (
        ("a number", (1, 1)),
        ("bytes", (b"x", 1)),
        ("a float", (Raw(b"\xf9\x3c\x00"), 1)),
        ("true", (True, 1)),
        ("nil", (None, 1)),
        ("an array", ([1], 1)),
        ("an unknown one with a key twice inside", ("x", pairs([(1, 1), (1, 1)]))),
        ("an unknown one with text that is no UTF-8", ("x", Raw(b"\x61\xff"))),
        ("an unknown one cut short", ("x", Raw(b"\x5a\xff\xff\xff\xff"))),
    ):
        yield f"a member: {name}", "8.3.2.1.2.2", body(twice(*pair)), one, MALFORMED

    mdl = Plan(doc_type=MDL, elements=MDL_ELEMENTS, device=key(11), salt="visitor")
    forged = replace(VISITOR, issuer_signature=lambda found: bytes(len(found)))
    yield "the second document's signature bad", "9.3.1", response(Plan(), forged), TWO, SIGNATURE
    yield "the first document's signature bad", "9.3.1", response(forged, Plan()), TWO, SIGNATURE
    stolen = replace(VISITOR, holder=DEVICE)
    yield "the second document another person's", "9.1.3", response(Plan(), stolen), TWO, SESSION
    yield "the first document another person's", "9.1.3", response(stolen, Plan()), TWO, SESSION
    altered = replace(VISITOR, released=put(MDL_SPACE, [invented("family_name"), invented("age_over_18")]))
    yield "the second document altered", "9.3.1 step 3", response(Plan(), altered), TWO, ALTERED
    expired = replace(VISITOR, mso=under("validityInfo", put("validUntil", date(NOW - DAY))))
    yield "the second document expired", "9.3.1 step 5", response(Plan(), expired), TWO, EXPIRED
    unknown = replace(VISITOR, key=STRANGER, chain=[x509.root(STRANGER).der()])
    yield "the second document self-signed", "9.3.3", response(Plan(), unknown), TWO, expect(Failure.UNKNOWN_ISSUER)
    yield "one of two missing", "8.3.2.1.2.2", response(Plan()), TWO, DECLINED
    yield "the document twice", "8.3.2.1.2.1", response(Plan(), Plan()), one, MALFORMED
    yield "the document twice, where two types are asked", "8.3.2.1.2.1", response(Plan(), Plan()), TWO, MALFORMED
    yield "two people's documents", "8.3.2.1.2.1", response(Plan(), replace(Plan(), salt="other")), one, MALFORMED
    yield "a document that nobody asked for", "8.3.2.1.2.1", response(Plan(), mdl), one, MALFORMED | TYPE
    yield "only a document that nobody asked for", "8.3.2.1.2.1", response(mdl), one, TYPE | DECLINED
    yield "nine documents", "limits", response(*[Plan()] * 9), one, MALFORMED
    yield "three documents", "8.3.2.1.2.1", response(Plan(), mdl, Plan()), TWO, MALFORMED
    headless = response(Plan(), VISITOR, body=under("documents", lambda d: [d[0], {"docType": MDL}]))
    yield "the second document its type alone", "8.3.2.1.2.2", headless, TWO, MALFORMED
    exchanged = response(Plan(), VISITOR, body=under("documents", _exchange("deviceSigned")))
    yield "device parts of two documents exchanged", "9.1.3", exchanged, TWO, SESSION
    exchanged = response(Plan(), VISITOR, body=under("documents", _exchange("issuerSigned")))
    yield "issuer parts of two documents exchanged", "9.3.1 step 4", exchanged, TWO, TYPE | MALFORMED | ALTERED
    exchanged = response(Plan(), VISITOR, body=under("documents", _exchange("docType")))
    yield "types of two documents exchanged", "9.3.1 step 4", exchanged, TWO, TYPE | MALFORMED | ALTERED
    other = Plan(salt="another", device=key(12))
    strange = under("documents", lambda d: [{**d[0], "issuerSigned": other.build()["issuerSigned"]}])
    yield "another person's issuer part", "9.1.3", response(Plan(), body=strange), one, SESSION
    mixed = Plan(issuer_signed=put("issuerAuth", other.build()["issuerSigned"]["issuerAuth"]))
    yield "another credential's MSO under these items", "9.3.1 step 3", response(mixed), one, ALTERED
    narrow = Gate(asked=RequestedItems(DOC_TYPE, {SPACE: ("card_type",)}))
    yield "more elements than were asked", "8.3.2.1.2.1", raw, narrow, MALFORMED
    wide = Gate(asked=RequestedItems(DOC_TYPE, {**ASKED.elements, "x": ("y",)}))
    yield "fewer elements than were asked", "8.3.2.1.2.1", raw, wide, MISSING
    late, soon = Gate(now=NOW + 60 * DAY), Gate(now=NOW - 3 * DAY)
    yield "shown after it has ended", "9.3.1 step 5", raw, late, EXPIRED
    yield "shown before it begins", "9.3.1 step 5", raw, soon, EARLY
    years = Gate(now=NOW + 2000 * DAY)
    yield "shown after the signer's certificate has ended", "9.3.3", raw, years, expect(Failure.BAD_CERTIFICATE)
    yield "shown to another reader", "9.1.5.1", raw, Gate(reader=STRANGER), SESSION
    yield "a MAC shown to another reader", "9.1.5.1", response(Plan(mac=True)), Gate(reader=STRANGER), SESSION


def _exchange(member: str) -> Hook:
    return lambda found: [{**found[0], member: found[1][member]}, {**found[1], member: found[0][member]}]


def _bombs() -> Iterator[tuple[str, bytes]]:
    """What costs a careless parser seconds (limits)."""
    yield "nested arrays", b"\x81" * 200_000
    yield "nested maps", b"\xa1\x00" * 100_000
    yield "nested tags", b"\xd8\x18" * 100_000
    yield "a map of 2^64 - 1 entries", b"\xbb" + b"\xff" * 8
    yield "an array of 2^32 entries", b"\x9a" + b"\xff" * 4
    yield "a string of 2^63 bytes", b"\x5b\x7f" + b"\xff" * 7
    yield "a tag of 2^64 - 1", b"\xdb" + b"\xff" * 8
    yield "more than a message may have", write({"version": "1.0", "status": 0, "x": bytes(300_000)})
    colliding = [(Raw(b"\x1b" + (number * ((1 << 61) - 1)).to_bytes(8, "big")), 0) for number in range(1, 8)]
    yield "colliding keys", write(pairs([("version", "1.0"), ("status", 0), ("x", pairs(colliding))]))
    hundred = [(number, 0) for number in range(4000)]
    yield "4,000 keys", write(pairs([("version", "1.0"), ("status", 0), ("x", pairs(hundred))]))
    yield "a large bignum as a key", write(pairs([("status", 0), (Tagged(2, bytes(100_000)), 0)]))
    yield "5,000 items", write({"version": "1.0", "status": 0, "x": [0] * 5000})
    yield "arrays that announce much each", write({"x": Raw(b"\x99\x0f\xff" * 16)})


def forgeries() -> Iterator[Forgery]:
    for name, clause, raw, gate, expected in _responses():
        yield Forgery(name=f"response: {name}", clause=clause, raw=raw, expected=expected, gate=gate)
    for name, raw in _bombs():
        yield Forgery(name=f"cost: {name}", clause="limits", raw=raw, expected=MALFORMED)
