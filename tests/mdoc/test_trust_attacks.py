"""Whole presentations whose every signature is good and whose issuer is not: each chain attack ends in its published reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import cose, crl, issue
from mdoc.certificates import EKU_MDL_DS, EKU_MDL_READER, Anchor, Settings, TrustAnchors, read
from mdoc.freshness import Freshness, ListFacts, ListKind
from mdoc.issue import Credential
from mdoc.request import RequestedItems
from mdoc.statuslist import StatusLists
from mdoc.verdict import Verdict
from testbed import certificates
from testbed.authority import DOC_TYPE, MDL_DOC_TYPE, NAME_SPACE
from tests.conftest import NOW
from tests.mdoc.conftest import World

BEGIN = NOW - timedelta(days=30)
ELEMENTS = {NAME_SPACE: {"agency_code": "1741000", "card_type": "staff", "access_class": "general"}}
DAY = timedelta(days=1)


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Issuer:
    """A root, a signer below it, and a credential of theirs; every part may be replaced."""

    root_key: ec.EllipticCurvePrivateKey = field(default_factory=p256)
    key: ec.EllipticCurvePrivateKey = field(default_factory=p256)
    root_lifetime: timedelta = timedelta(days=3650)

    def __post_init__(self) -> None:
        self.root = certificates.root(
            self.root_key, "Root", country="KR", not_before=BEGIN, lifetime=self.root_lifetime
        )

    def signer(self, **deviations: Any) -> x509.Certificate:
        settings: dict[str, Any] = {"issuer": self.root, "issuer_key": self.root_key, "not_before": BEGIN}
        return certificates.document_signer(self.key.public_key(), **{**settings, **deviations})

    def below(self, signer: x509.Certificate) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = p256()
        return key, certificates.document_signer(key.public_key(), issuer=signer, issuer_key=self.key, not_before=BEGIN)


@dataclass
class Case:
    world: World
    issuer: Issuer

    def verify(
        self,
        chain: Sequence[x509.Certificate],
        *,
        key: ec.EllipticCurvePrivateKey | None = None,
        signed: datetime = NOW - DAY,
        doc_type: str = DOC_TYPE,
        anchor: dict[str, Any] | None = None,
        crls: Sequence[crl.Crl] = (),
        at: datetime = NOW,
        freshness: Freshness | None = None,
    ) -> Verdict:
        device = p256()
        credential = issue.issue(
            doc_type=doc_type,
            elements=ELEMENTS,
            device_key=device.public_key(),
            signer=key or self.issuer.key,
            certificate=chain[0],
            signed=signed,
            valid_from=signed,
            valid_until=NOW + 300 * DAY,
            random_bytes=os.urandom,
        )
        if len(chain) > 1:
            body = credential.issuer_auth
            header = {cose.X5CHAIN: [entry.public_bytes(Encoding.DER) for entry in chain]}
            credential = Credential(doc_type, credential.items, [body[0], header, *body[2:]])
        asked = RequestedItems(doc_type, {space: tuple(names) for space, names in ELEMENTS.items()})
        raw, reader = self.world.response(credential=credential, device_key=device, items=asked)
        trust = TrustAnchors([Anchor.from_certificate(self.issuer.root, **(anchor or {}))], crls=crls)
        more = {} if freshness is None else {"freshness": freshness}
        return self.world.verify(raw, reader, at, trust=trust, status=StatusLists(), **more)


@pytest.fixture
def case(world: World) -> Case:
    return Case(world, Issuer())


def test_a_genuine_one_is_accepted_with_and_without_its_root_in_the_chain(case: Case) -> None:
    signer = case.issuer.signer()
    assert case.verify([signer]).reason is None
    assert case.verify([signer, case.issuer.root]).reason is None


def stranger_first(case: Case) -> list[x509.Certificate]:
    return [Issuer(key=case.issuer.key).signer(), case.issuer.signer()]


CHAINS: dict[str, tuple[Callable[[Case], list[x509.Certificate]], str]] = {
    "a stranger's signer before the genuine one": (stranger_first, "unknown_issuer"),
    "a stranger's signer": (lambda c: [Issuer(key=c.issuer.key).signer()], "unknown_issuer"),
    "the genuine signer twice": (lambda c: [c.issuer.signer(), c.issuer.signer()], "bad_certificate"),
    "a stranger's root behind the signer": (lambda c: [c.issuer.signer(), Issuer().root], "bad_certificate"),
    "four certificates": (lambda c: [c.issuer.signer(), *[c.issuer.root] * 3], "malformed"),
    "a reader's certificate": (lambda c: [c.issuer.signer(purpose=EKU_MDL_READER)], "bad_certificate"),
    "a certificate without a purpose": (lambda c: [c.issuer.signer(purpose=None)], "bad_certificate"),
    "a certificate of another country": (lambda c: [c.issuer.signer(country="JP")], "bad_certificate"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_refuses_a_chain_of(case: Case, name: str) -> None:
    make, reason = CHAINS[name]
    assert case.verify(make(case)).reason == reason


def test_refuses_a_credential_that_the_root_signed_itself(case: Case) -> None:
    assert case.verify([case.issuer.root], key=case.issuer.root_key).reason == "bad_certificate"


def test_refuses_a_signer_below_a_signer(case: Case) -> None:
    signer = case.issuer.signer()
    key, below = case.issuer.below(signer)
    for chain in ([below], [below, signer], [below, signer, case.issuer.root]):
        assert case.verify(chain, key=key).reason == "unknown_issuer"
    # Nor does the lower one's credential pass under the upper one's certificate.
    assert case.verify([signer, below], key=key).reason == "bad_certificate"
    assert case.verify([signer], key=key).reason == "bad_signature"


def test_refuses_a_credential_signed_before_its_signer_was_valid(case: Case) -> None:
    fresh = case.issuer.signer(not_before=NOW - DAY)
    assert case.verify([fresh], signed=NOW - 2 * DAY).reason == "bad_certificate"
    assert case.verify([fresh], signed=NOW - timedelta(hours=1)).reason is None


def test_refuses_a_signer_outside_its_dates(case: Case) -> None:
    old = case.issuer.signer(lifetime=30 * DAY - timedelta(seconds=1))
    assert case.verify([old]).reason == "bad_certificate"
    assert case.verify([case.issuer.signer(not_before=NOW + DAY)], signed=NOW + DAY).reason == "bad_certificate"


def test_refuses_a_signer_whose_root_has_ended(world: World) -> None:
    case = Case(world, Issuer(root_lifetime=40 * DAY))
    signer = case.issuer.signer()
    assert case.verify([signer]).reason is None
    assert case.verify([signer], at=NOW + 11 * DAY).reason == "bad_certificate"


def test_refuses_a_licence_under_another_document_s_purpose(case: Case) -> None:
    assert case.verify([case.issuer.signer()], doc_type=MDL_DOC_TYPE).reason == "bad_certificate"
    assert case.verify([case.issuer.signer(purpose=EKU_MDL_DS)], doc_type=MDL_DOC_TYPE).reason is None


@pytest.mark.parametrize(
    "anchor",
    [{"listed_types": frozenset({MDL_DOC_TYPE})}, {"settings": Settings(doc_types=frozenset({MDL_DOC_TYPE}))}],
    ids=["by the list", "by the site"],
)
def test_refuses_an_issuer_of_other_documents(case: Case, anchor: dict[str, Any]) -> None:
    assert case.verify([case.issuer.signer()], anchor=anchor).reason == "unknown_issuer"
    licence = case.issuer.signer(purpose=EKU_MDL_DS)
    assert case.verify([licence], doc_type=MDL_DOC_TYPE, anchor=anchor).reason is None


def revocations(case: Case, *serials: int, at: datetime = NOW) -> crl.Crl:
    raw = crl.build(
        case.issuer.root, case.issuer.root_key, number=1, revoked=serials, this_update=at, lifetime=30 * DAY
    )
    return crl.parse(raw, [read(case.issuer.root.public_bytes(Encoding.DER))])


def test_refuses_a_revoked_signer(case: Case) -> None:
    signer = case.issuer.signer()
    assert case.verify([signer], crls=[revocations(case, signer.serial_number)]).reason == "signer_revoked"
    assert case.verify([signer], crls=[revocations(case, 1)]).reason is None


def test_an_old_revocation_list_still_revokes_but_clears_nobody(case: Case) -> None:
    signer = case.issuer.signer()
    past = NOW - 31 * DAY
    assert case.verify([signer], crls=[revocations(case, signer.serial_number, at=past)]).reason == "signer_revoked"
    assert case.verify([signer], crls=[revocations(case, 1, at=past)]).reason == "crl_stale"
    limit = Freshness(crl=5 * DAY)
    assert case.verify([signer], crls=[revocations(case, 1, at=NOW - 6 * DAY)], freshness=limit).reason == "crl_stale"
    assert case.verify([signer], freshness=Freshness(crl_required=True)).reason == "crl_stale"


def test_a_list_of_issuers_too_old_for_the_zone_is_stale(case: Case) -> None:
    listed = {"source": ListFacts(ListKind.ISSUER_LIST, "Site", "1", NOW - 8 * DAY, None)}
    signer = case.issuer.signer()
    week, month = Freshness(issuer_list=7 * DAY), Freshness(issuer_list=30 * DAY)
    assert case.verify([signer], anchor=listed, freshness=week).reason == "issuer_list_stale"
    assert case.verify([signer], anchor=listed, freshness=month).reason is None
    assert case.verify([signer], freshness=week).reason is None  # a root that the site put there itself does not age
    expired = {"source": ListFacts(ListKind.ISSUER_LIST, "Site", "1", NOW - 8 * DAY, NOW - DAY)}
    assert case.verify([signer], anchor=expired).reason == "issuer_list_stale"
