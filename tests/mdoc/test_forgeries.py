"""Hundreds of forgeries by a kit that shares nothing with the verifier, and every single change of a genuine presentation."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, lru_cache
from types import FrameType

import pytest

from mdoc.certificates import Settings, Strictness
from mdoc.verdict import Failure
from tests.mdoc import forge
from tests.mdoc.forgeries import (
    chains,
    cose,
    device_auth,
    device_signed,
    issuer_auth,
    items,
    mso,
    mutations,
    responses,
    signers,
    status,
    trust_lists,
    x509,
)
from tests.mdoc.forgeries.builder import (
    ROOT,
    Forgery,
    Gate,
    Plan,
    anchors,
    response,
    root_der,
    signer_der,
)
from tests.mdoc.forgeries.genuine import presentations

KINDS: dict[str, Callable[[], Iterator[Forgery]]] = {
    "document signers": signers.forgeries,
    "chains and roots": chains.forgeries,
    "CRL, VICAL, kid": trust_lists.forgeries,
    "issuerAuth": issuer_auth.forgeries,
    "device authentication": device_auth.forgeries,
    "device-signed elements": device_signed.forgeries,
    "MSO": mso.forgeries,
    "items": items.forgeries,
    "responses": responses.forgeries,
    "status": status.forgeries,
}


@lru_cache(maxsize=16)
def forged(kind: str) -> tuple[Forgery, ...]:
    return tuple(KINDS[kind]())


@cache
def genuine() -> dict[str, tuple[bytes, Gate]]:
    return presentations()


def test_every_kind_of_genuine_presentation_is_accepted() -> None:
    reasons = {name: gate.verify(raw).reason for name, (raw, gate) in genuine().items()}
    assert reasons == dict.fromkeys(reasons)


@pytest.mark.parametrize("kind", KINDS)
def test_no_forgery_is_accepted_and_each_is_refused_for_what_is_wrong(kind: str) -> None:
    wrong = {}
    for entry in forged(kind):
        reason = entry.gate.verify(entry.raw).reason
        if reason not in entry.expected:
            wrong[f"{entry.name} ({entry.clause})"] = reason
    assert wrong == {}


def test_forgeries_are_many_and_none_is_a_genuine_presentation_by_mistake() -> None:
    every = [entry for kind in KINDS for entry in forged(kind)]
    assert len(every) >= 1480
    assert [name for name, count in Counter(entry.name for entry in every).items() if count > 1] == []
    unchanged = {raw for raw, gate in genuine().values() if gate == Gate()}
    assert [entry.name for entry in every if entry.raw in unchanged and entry.gate == Gate()] == []
    assert {failure for entry in every for failure in entry.expected} == set(Failure) - {
        Failure.WRONG_AUDIENCE,  # of a QR pass
        Failure.STALE,
    }


@pytest.mark.parametrize(("why", "draft"), [pytest.param(why, draft, id=name) for name, why, draft in signers.formal()])
def test_a_formal_breach_is_let_through_by_standard_strictness_and_refused_by_full(why: str, draft: x509.Draft) -> None:
    raw = response(Plan(chain=[draft.der()]))
    assert Gate().verify(raw).reason is None, why
    strict = anchors(root_der(), settings=Settings(strictness=Strictness.FULL))
    assert Gate(trust=strict).verify(raw).reason is Failure.BAD_CERTIFICATE
    assert Gate(trust=strict).verify(response(Plan())).reason is None


def test_the_other_of_the_two_signatures_that_ecdsa_has_for_a_message_says_the_same() -> None:
    """(r, n - s) verifies whenever (r, s) does; nothing in 18013-5 forbids it, and phones produce both."""

    def other(found: bytes) -> bytes:
        return found[:32] + (cose.ORDER - int.from_bytes(found[32:], "big")).to_bytes(32, "big")

    raw = response(Plan(issuer_signature=other, device_proof=other))
    assert raw != response(Plan())
    assert Gate().verify(raw).elements == Gate().verify(response(Plan())).elements


class Work:
    """Counts calls, of Python and C alike, while something runs: what a clock would say on a quiet machine."""

    def __init__(self) -> None:
        self.calls = 0
        self.signatures = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            self.calls += 1
            self.signatures += event == "call" and frame.f_code.co_name in ("verify_signature", "signature_holds")

    def of(self, gate: Gate, raw: bytes) -> None:
        self.calls = self.signatures = 0
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            gate.verify(raw)
        finally:
            sys.setprofile(before)


@pytest.mark.parametrize("kind", KINDS)
def test_no_forgery_makes_the_verifier_work_more_than_its_size_warrants(kind: str) -> None:
    work = Work()
    for entry in forged(kind):
        work.of(entry.gate, entry.raw)
        assert work.calls < 2500 + len(entry.raw), entry.name
        assert work.signatures <= 3 * 2 + 2, entry.name


def test_an_issuer_that_signs_a_changed_mso_is_believed_only_where_it_says_the_same() -> None:
    accepted = _accepted(mutations.issuer_signed(Plan(), "mso_bytes"))
    assert {change for change in accepted if not _longer(change)} == {
        ": entries turned round",
        ": unknown member",
        "version: last bit",  # 1.1
        "valueDigests: entries turned round",
        "valueDigests/kr.go.civilservant.1: entries turned round",
        "valueDigests/kr.go.civilservant.agency.1: entries turned round",
        # Of the one element that is not shown:
        "valueDigests/kr.go.civilservant.1: entry left out",
        "valueDigests/kr.go.civilservant.1/0:3 (key): plus one",
        "valueDigests/kr.go.civilservant.1/0:3: last bit",
        "deviceKeyInfo: unknown member",
        "deviceKeyInfo/deviceKey: entries turned round",
        "deviceKeyInfo/deviceKey: unknown member",
        "validityInfo: entries turned round",
        "validityInfo: unknown member",
    }


def test_an_issuer_that_signs_a_changed_item_is_believed_only_where_an_item_may_vary() -> None:
    accepted = _accepted(mutations.issuer_signed(Plan(), "item_bytes"))
    free = {change for change in accepted if not _longer(change)}
    assert {change for change in free if not change.startswith("elementValue: ")} == {
        ": entries turned round",
        ": unknown member",
        "random: one byte more",
        "random: one byte less",
        "random: last bit",
    }


@pytest.mark.parametrize("part", ["payload", "device_spaces_bytes"])
def test_the_tag_around_the_mso_and_the_device_namespaces_may_be_written_longer_and_no_other_way(part: str) -> None:
    accepted = _accepted(mutations.issuer_signed(Plan(), part))
    assert accepted
    assert {change for change in accepted if not _longer(change)} == set()


def _accepted(forgeries: Iterable[tuple[str, bytes]], gate: Gate | None = None) -> set[str]:
    chosen = gate or Gate()
    return {name for name, raw in forgeries if chosen.verify(raw).accepted}


def _longer(change: str) -> bool:
    """A head longer than needed (18013-5 allows it, wallets write it)."""
    return change.endswith("-byte head")


FREE_IN_A_SIGNER = {
    "1": "serial number: any",
    "4": "dates: a month more or less",
    "5": "subject beside its country",
    "7": "what the annex's formal rows ask (subject key identifier, alternative name, distribution point), order",
}
"""Places of TBSCertificate where a root may sign something else, and why nothing that is trusted changes."""


def test_a_root_that_signs_a_changed_certificate_is_believed_only_where_nothing_rests_on_it() -> None:
    accepted = _accepted(mutations.root_signed())
    assert {change.split(":")[0].split(".")[0] for change in accepted} == set(FREE_IN_A_SIGNER)
    # Extensions 0 to 2 are key usage, extended key usage and the authority's key identifier. A bit string may carry bits
    # beyond its unused ones, and zeros after them.
    assert {change for change in accepted if change.startswith(("7.0.0", "7.0.1", "7.0.2"))} == {
        "7.0.0.2.0: a byte more",
        "7.0.0.2.0: byte 0 ^ 01",
    }
    strict = Gate(trust=anchors(root_der(), settings=Settings(strictness=Strictness.FULL)))
    left = _accepted(mutations.root_signed(), strict)
    assert {change.split(":")[0].split(".")[0] for change in left} <= set(FREE_IN_A_SIGNER)


SAME = {
    "1-byte head",
    "2-byte head",
    "4-byte head",
    "8-byte head",
    "entries turned round",
    "unknown member",
    "tagged 18",
    "tagged 17",
    "becomes undefined",
    "becomes null",
    "in an array",
    "last bit",
}
"""Changes outside the signatures that may say the same; the elements are compared as well."""
CARRIERS = ("two documents", "an issuer by kid with status", "a device-signed element", "both lists")


@pytest.mark.parametrize("name", CARRIERS)
def test_no_structural_change_outside_the_signatures_changes_what_is_accepted(name: str) -> None:
    raw, gate = genuine()[name]
    before = {document.doc_type: document.elements for document in gate.verify(raw).documents}
    root = forge.read(raw, lambda content: content[:1] == b"\xa1" and len(content) == 3)
    assert root.encode() == raw
    for path, change, changed in forge.mutated(root):
        verdict = gate.verify(changed)
        if verdict.accepted:
            place = f"{'/'.join(path)}: {change}"
            assert change in SAME, place
            assert {document.doc_type: document.elements for document in verdict.documents} == before, place


@pytest.mark.parametrize("name", ["signature", "MAC"])
def test_no_bit_of_a_presentation_can_be_turned(name: str) -> None:
    raw, gate = genuine()[name]
    accepted = {
        raw[at : at + 1] + bytes((raw[at] ^ 1 << bit,))
        for at in range(len(raw))
        for bit in range(8)
        if gate.verify(raw[:at] + bytes((raw[at] ^ 1 << bit,)) + raw[at + 1 :]).accepted
    }
    # Version 1.0 of the response as 1.1, 1.2, 1.4, 1.8; undefined for nil, where no payload is attached.
    assert accepted == {b"01", b"02", b"04", b"08", b"\xf6\xf7"}


@pytest.mark.parametrize("name", [*CARRIERS, "x5chain with the root"])
def test_no_byte_of_any_kind_of_presentation_can_be_changed(name: str) -> None:
    raw, gate = genuine()[name]
    before = [document.elements for document in gate.verify(raw).documents]
    for at in range(len(raw)):
        verdict = gate.verify(raw[:at] + bytes((raw[at] ^ (1 << at % 7 + 1),)) + raw[at + 1 :])
        if verdict.accepted:
            assert raw[at - 4 : at] == b"\x631." or raw[at - 3 : at] == b"\x631.", at
            assert [document.elements for document in verdict.documents] == before, at


@pytest.mark.parametrize("name", ["signature", "two documents"])
def test_no_presentation_is_accepted_cut_short_or_with_a_piece_left_out(name: str) -> None:
    raw, gate = genuine()[name]
    for at in range(len(raw)):
        assert not gate.verify(raw[:at]).accepted, at
        assert not gate.verify(raw[:at] + raw[at + 1 :]).accepted, at
        assert not gate.verify(raw[:at] + raw[at : at + 1] + raw[at:]).accepted, at


def test_a_signer_below_a_trusted_one_is_refused_whoever_else_is_known_by_then() -> None:
    """Leaves are remembered by their exact bytes: what was accepted before changes nothing."""
    gate = Gate()
    below = x509.signer(x509.key(31), x509.key(2), x509.SIGNER_NAME)
    forgery = response(Plan(key=x509.key(31), chain=[below.der(), signer_der()]))
    assert gate.verify(forgery).reason is Failure.UNKNOWN_ISSUER
    assert gate.verify(response(Plan())).accepted
    assert gate.verify(forgery).reason is Failure.UNKNOWN_ISSUER
    twin = replace(x509.signer(x509.key(2), ROOT), signed_by=x509.key(5)).der()
    assert gate.verify(response(Plan(chain=[twin]))).reason is Failure.UNKNOWN_ISSUER
