"""Revocation and freshness: whose list counts for which credential, what it says, and how old it may be."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import cbor, cose, crl, identifierlist, limits, statuslist
from mdoc.cbor import Tag
from mdoc.certificates import Anchor, TrustAnchors
from mdoc.errors import MalformedError, TrustError
from mdoc.freshness import AHEAD, NO_LIMITS, Freshness, ListFacts, ListKind, staleness
from mdoc.issue import Credential, issue
from mdoc.statuslist import AnyList, StatusLists, TokenStatus
from mdoc.verdict import Verdict
from testbed import certificates
from testbed.authority import DOC_TYPE, NAME_SPACE
from tests.conftest import NOW
from tests.mdoc.conftest import World

BEGIN = NOW - timedelta(days=30)
ISSUED = int(NOW.timestamp()) - 3600
LISTS, NAMES = "https://issuer.example/status/1", "https://issuer.example/revoked/1"
VALUES = {"agency_code": "1741000", "card_type": "staff", "access_class": "general"}


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """A root with a document signer and a status signer below it."""

    def __init__(self, name: str = "Status") -> None:
        self.root_key, self.signer_key, self.status_key = new_key(), new_key(), new_key()
        self.root = certificates.root(
            self.root_key, f"{name} IACA", country="KR", not_before=BEGIN, lifetime=timedelta(days=3650)
        )
        self.signer = certificates.document_signer(
            self.signer_key.public_key(), issuer=self.root, issuer_key=self.root_key, not_before=BEGIN
        )
        self.status = self.below(self.status_key, self.root, self.root_key)
        self.anchor = Anchor.from_certificate(self.root)
        self.trust = TrustAnchors([self.anchor])
        self.device_key = new_key()

    @staticmethod
    def below(
        key: ec.EllipticCurvePrivateKey, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey
    ) -> x509.Certificate:
        return certificates.leaf(
            key.public_key(),
            "Status signer",
            issuer=root,
            issuer_key=root_key,
            not_before=BEGIN,
            lifetime=timedelta(days=400),
            purpose=None,
        )

    def issue(self, **status: Any) -> Credential:
        return issue(
            doc_type=DOC_TYPE,
            elements={NAME_SPACE: VALUES},
            device_key=self.device_key.public_key(),
            signer=self.signer_key,
            certificate=self.signer,
            signed=NOW - timedelta(days=1),
            valid_from=NOW - timedelta(days=1),
            valid_until=NOW + timedelta(days=30),
            random_bytes=os.urandom,
            **status,
        )

    def list_token(self, statuses: Sequence[int] = (0, 1), **changes: Any) -> bytes:
        settings: dict[str, Any] = {
            "uri": LISTS,
            "statuses": statuses,
            "bits": 1,
            "issued_at": NOW - timedelta(hours=1),
            "expires": NOW + timedelta(days=1),
            "key": self.status_key,
            "certificate": self.status,
        }
        return statuslist.build_token(**{**settings, **changes})

    def names_token(self, identifiers: Sequence[bytes] = (b"revoked",), **changes: Any) -> bytes:
        settings: dict[str, Any] = {
            "uri": NAMES,
            "identifiers": identifiers,
            "issued_at": NOW - timedelta(hours=1),
            "expires": NOW + timedelta(days=1),
            "key": self.status_key,
            "certificate": self.status,
        }
        return identifierlist.build_token(**{**settings, **changes})

    def lists(self, *tokens: bytes, unanchored: bool = False) -> StatusLists:
        found: list[AnyList] = []
        for token in tokens:
            try:
                found.append(statuslist.parse_token(token, self.trust, unanchored=unanchored))
            except MalformedError:
                found.append(identifierlist.parse_token(token, self.trust, unanchored=unanchored))
        return StatusLists(found)


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


def verdict(
    world: World, issuer: Issuer, lists: StatusLists, freshness: Freshness = NO_LIMITS, **status: Any
) -> Verdict:
    raw, reader = world.response(credential=issuer.issue(**status), device_key=issuer.device_key)
    return world.verify(raw, reader, trust=issuer.trust, status=lists, freshness=freshness)


def reason(*arguments: Any, **status: Any) -> str | None:
    return verdict(*arguments, **status).reason


@pytest.mark.parametrize(
    ("bits", "value", "expected"),
    [(1, 0, None), (1, 1, "revoked"), (2, 2, "revoked"), (2, 3, "revoked"), (4, 0, None), (8, 255, "revoked")],
)
def test_only_the_value_0_is_valid(world: World, issuer: Issuer, bits: int, value: int, expected: str | None) -> None:
    lists = issuer.lists(issuer.list_token((0, 0, 0, value, 0), bits=bits))
    assert reason(world, issuer, lists, status=(LISTS, 3)) == expected


def test_an_index_outside_the_list_is_not_valid(world: World, issuer: Issuer) -> None:
    lists = issuer.lists(issuer.list_token((0,) * 8))
    assert reason(world, issuer, lists, status=(LISTS, 7)) is None
    assert reason(world, issuer, lists, status=(LISTS, 8)) == "status_unknown"


def test_an_address_that_nobody_configured_is_not_valid(world: World, issuer: Issuer) -> None:
    assert reason(world, issuer, issuer.lists(issuer.list_token()), status=(LISTS + "/2", 0)) == "status_unknown"
    assert reason(world, issuer, StatusLists(), identifier=(NAMES, b"mine")) == "status_unknown"


def test_an_identifier_on_the_list_is_revoked_and_another_is_valid(world: World, issuer: Issuer) -> None:
    lists = issuer.lists(issuer.names_token())
    assert reason(world, issuer, lists, identifier=(NAMES, b"revoked")) == "revoked"
    assert reason(world, issuer, lists, identifier=(NAMES, b"mine")) is None


def test_a_credential_on_both_kinds_of_list_has_to_pass_both(world: World, issuer: Issuer) -> None:
    lists = issuer.lists(issuer.list_token(), issuer.names_token())
    assert reason(world, issuer, lists, status=(LISTS, 0), identifier=(NAMES, b"mine")) is None
    assert reason(world, issuer, lists, status=(LISTS, 1), identifier=(NAMES, b"mine")) == "revoked"
    assert reason(world, issuer, lists, status=(LISTS, 0), identifier=(NAMES, b"revoked")) == "revoked"
    without = issuer.lists(issuer.list_token())
    assert reason(world, issuer, without, status=(LISTS, 0), identifier=(NAMES, b"mine")) == "status_unknown"
    assert reason(world, issuer, without, status=(LISTS, 1), identifier=(NAMES, b"mine")) == "revoked"


def test_a_list_of_one_kind_does_not_answer_for_the_other(world: World, issuer: Issuer) -> None:
    lists = issuer.lists(issuer.names_token(uri=LISTS))
    assert reason(world, issuer, lists, status=(LISTS, 0)) == "status_unknown"


def test_a_trusted_authority_cannot_speak_for_another_ones_credentials(world: World, issuer: Issuer) -> None:
    other = Issuer("Other")
    both = TrustAnchors([issuer.anchor, other.anchor])
    lists = StatusLists([statuslist.parse_token(other.list_token((0, 0)), both)])
    raw, reader = world.response(credential=issuer.issue(status=(LISTS, 0)), device_key=issuer.device_key)
    assert world.verify(raw, reader, trust=both, status=lists).reason == "status_unknown"


def test_another_authoritys_newer_list_does_not_take_the_place_of_the_right_one(world: World, issuer: Issuer) -> None:
    other = Issuer("Other")
    both = TrustAnchors([issuer.anchor, other.anchor])
    tokens = (issuer.list_token((1,)), other.list_token((0,), issued_at=NOW))
    lists = StatusLists([statuslist.parse_token(token, both) for token in tokens])
    raw, reader = world.response(credential=issuer.issue(status=(LISTS, 0)), device_key=issuer.device_key)
    assert world.verify(raw, reader, trust=both, status=lists).reason == "revoked"


def test_the_newer_of_two_lists_counts_in_whatever_order_they_come(world: World, issuer: Issuer) -> None:
    old = issuer.list_token((0,), issued_at=NOW - timedelta(hours=5))
    new = issuer.list_token((1,), issued_at=NOW - timedelta(hours=4))
    for tokens in ((old, new), (new, old)):
        assert reason(world, issuer, issuer.lists(*tokens), status=(LISTS, 0)) == "revoked"


def test_the_document_signer_is_no_status_signer_of_a_stranger(issuer: Issuer) -> None:
    stranger = Issuer("Stranger")
    with pytest.raises(TrustError):
        statuslist.parse_token(stranger.list_token(), issuer.trust)


def test_a_list_signed_below_the_certificate_that_the_mso_names_counts(world: World, issuer: Issuer) -> None:
    service = Issuer("Status service")
    token = service.list_token((0, 1))
    lists = issuer.lists(token, unanchored=True)
    named = {"status_certificate": service.root}
    assert reason(world, issuer, lists, status=(LISTS, 0), **named) is None
    assert reason(world, issuer, lists, status=(LISTS, 1), **named) == "revoked"
    assert reason(world, issuer, lists, status=(LISTS, 0)) == "status_unknown"


def test_the_certificate_that_the_mso_names_may_be_the_signers_own(world: World, issuer: Issuer) -> None:
    service = Issuer("Status service")
    lists = issuer.lists(service.list_token(), unanchored=True)
    assert reason(world, issuer, lists, status=(LISTS, 0), status_certificate=service.status) is None


def test_where_the_mso_names_a_certificate_the_authoritys_own_list_does_not_count(world: World, issuer: Issuer) -> None:
    service = Issuer("Status service")
    lists = issuer.lists(issuer.list_token())
    assert reason(world, issuer, lists, status=(LISTS, 0), status_certificate=service.root) == "status_unknown"
    assert reason(world, issuer, lists, status=(LISTS, 0), status_certificate=issuer.root) is None


@pytest.mark.parametrize(
    ("age", "limit", "expires", "expected"),
    [
        (timedelta(hours=5), timedelta(hours=6), timedelta(days=1), None),
        (timedelta(hours=7), timedelta(hours=6), timedelta(days=1), "status_stale"),
        (timedelta(days=9), None, timedelta(days=1), None),
        (timedelta(hours=2), timedelta(hours=6), timedelta(minutes=-1), "status_stale"),
    ],
    ids=["within the limit", "older than the zone allows", "no limit", "past its own date"],
)
def test_age_counts_from_the_lists_own_issue_time(
    world: World, issuer: Issuer, age: timedelta, limit: timedelta | None, expires: timedelta, expected: str | None
) -> None:
    freshness = Freshness(status_list=limit)
    token = issuer.list_token((0, 1), issued_at=NOW - age, expires=NOW + expires)
    found = verdict(world, issuer, issuer.lists(token), freshness, status=(LISTS, 0))
    assert found.reason == expected
    used = [entry for entry in found.used if entry.facts.kind is ListKind.STATUS_LIST]
    assert [(entry.facts.name, entry.age) for entry in used] == [(LISTS, age)]
    assert reason(world, issuer, issuer.lists(token), freshness, status=(LISTS, 1)) == "revoked", (
        "too old still proves it"
    )


def test_an_identifier_list_ages_too(world: World, issuer: Issuer) -> None:
    lists = issuer.lists(issuer.names_token())
    limit = Freshness(status_list=timedelta(minutes=30))
    assert reason(world, issuer, lists, limit, identifier=(NAMES, b"mine")) == "status_stale"


def facts(issued_at: datetime | None, expires: datetime | None = None) -> ListFacts:
    return ListFacts(ListKind.CRL, "list", "1", issued_at, expires)


def test_a_list_without_a_date_does_not_age_and_one_from_the_future_does_not_count() -> None:
    none = timedelta(0)
    limit = Freshness(crl=timedelta(hours=1))
    assert staleness(facts(None), limit, NOW, none) is None
    assert staleness(facts(NOW + AHEAD), limit, NOW, none) is None
    assert staleness(facts(NOW + AHEAD + timedelta(seconds=1)), limit, NOW, none) is not None


def test_the_clocks_error_is_given_to_the_list() -> None:
    skew = timedelta(minutes=10)
    limit = Freshness(crl=timedelta(hours=1))
    assert staleness(facts(NOW - timedelta(minutes=69)), limit, NOW, skew) is None
    assert staleness(facts(NOW - timedelta(minutes=71)), limit, NOW, skew) is not None
    assert staleness(facts(NOW, NOW - timedelta(minutes=9)), limit, NOW, skew) is None
    assert staleness(facts(NOW, NOW - timedelta(minutes=11)), limit, NOW, skew) is not None


def with_crl(issuer: Issuer, age: timedelta, *, revoked: Sequence[int] = ()) -> TrustAnchors:
    raw = crl.build(
        issuer.root,
        issuer.root_key,
        number=7,
        revoked=revoked,
        this_update=(NOW - age).replace(microsecond=0),
        lifetime=timedelta(days=2),
    )
    return TrustAnchors([issuer.anchor], crls=[crl.parse(raw, [issuer.anchor.certificate])])


@pytest.mark.parametrize(
    ("age", "limit", "expected"),
    [
        (timedelta(hours=1), None, None),
        (timedelta(hours=1), timedelta(hours=2), None),
        (timedelta(hours=3), timedelta(hours=2), "crl_stale"),
        (timedelta(days=3), None, "crl_stale"),
    ],
    ids=["no limit", "within the limit", "older than the zone allows", "past its own date"],
)
def test_a_signers_revocation_list_ages_and_still_revokes(
    world: World, issuer: Issuer, age: timedelta, limit: timedelta | None, expected: str | None
) -> None:
    raw, reader = world.response(credential=issuer.issue(), device_key=issuer.device_key)
    freshness = Freshness(crl=limit)
    found = world.verify(raw, reader, trust=with_crl(issuer, age), status=StatusLists(), freshness=freshness)
    assert found.reason == expected
    (used,) = (entry.facts for entry in found.used if entry.facts.kind is ListKind.CRL)
    assert used.version == "7"
    trust = with_crl(issuer, age, revoked=[issuer.signer.serial_number])
    assert world.verify(raw, reader, trust=trust, status=StatusLists(), freshness=freshness).reason == "signer_revoked"


def test_a_zone_may_want_a_revocation_list_to_be_there(world: World, issuer: Issuer) -> None:
    raw, reader = world.response(credential=issuer.issue(), device_key=issuer.device_key)
    wanted = Freshness(crl_required=True)

    def reason_of(trust: TrustAnchors) -> str | None:
        return world.verify(raw, reader, trust=trust, status=StatusLists(), freshness=wanted).reason

    assert reason_of(issuer.trust) == "crl_stale"
    assert reason_of(with_crl(issuer, timedelta(hours=1))) is None


@pytest.mark.parametrize(
    ("age", "lifetime", "limit", "expected"),
    [
        (timedelta(hours=30), None, None, None),
        (timedelta(hours=30), timedelta(hours=24), None, "issuer_list_stale"),
        (timedelta(hours=20), timedelta(hours=24), timedelta(hours=12), "issuer_list_stale"),
        (timedelta(hours=10), timedelta(hours=24), timedelta(hours=12), None),
    ],
)
def test_the_list_that_names_the_authority_ages(
    world: World,
    issuer: Issuer,
    age: timedelta,
    lifetime: timedelta | None,
    limit: timedelta | None,
    expected: str | None,
) -> None:
    source = ListFacts(
        ListKind.ISSUER_LIST, "A VICAL", "12", NOW - age, None if lifetime is None else NOW - age + lifetime
    )
    trust = TrustAnchors([Anchor.from_certificate(issuer.root, source=source)])
    raw, reader = world.response(credential=issuer.issue(), device_key=issuer.device_key)
    found = world.verify(raw, reader, trust=trust, status=StatusLists(), freshness=Freshness(issuer_list=limit))
    assert found.reason == expected
    assert [(entry.facts.version, entry.age) for entry in found.used] == [("12", age)]


def test_a_stale_list_does_not_spoil_trust_that_also_rests_on_a_fresh_one(world: World, issuer: Issuer) -> None:
    old = ListFacts(ListKind.ISSUER_LIST, "old", "1", NOW - timedelta(days=9), NOW - timedelta(days=8))
    new = ListFacts(ListKind.ISSUER_LIST, "new", "2", NOW - timedelta(hours=9), None)
    raw, reader = world.response(credential=issuer.issue(), device_key=issuer.device_key)
    for sources in ((old, new), (new, old)):
        trust = TrustAnchors([Anchor.from_certificate(issuer.root, source=source) for source in sources])
        found = world.verify(raw, reader, trust=trust, status=StatusLists())
        assert found.reason is None
        assert [entry.facts.name for entry in found.used] == ["new"]


def forged(issuer: Issuer, body: dict[Any, Any], media_type: str = statuslist.TYPE) -> bytes:
    protected = {cose.TYP: media_type, cose.X5CHAIN: issuer.status.public_bytes(Encoding.DER)}
    return cbor.encode(Tag(cose.TAG_SIGN1, cose.build_sign1(issuer.status_key, cbor.encode(body), protected=protected)))


def claims(**changes: Any) -> dict[Any, Any]:
    body: dict[Any, Any] = {
        2: LISTS,
        6: ISSUED,
        4: ISSUED + 86400,
        65533: {"bits": 1, "lst": statuslist.pack([0])},
    }
    names = {"sub": 2, "iat": 6, "exp": 4, "ttl": 65534, "list": 65533, "identifiers": 65530, "type": 16}
    for name, value in changes.items():
        body[names[name]] = value
    return {key: value for key, value in body.items() if value is not None}


BOMB = zlib.compress(bytes(limits.MAX_STATUS_LIST + 1), 9)


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": None},
        {"sub": b"bytes"},
        {"iat": None},
        {"iat": "text"},
        {"iat": -1},
        {"exp": True},
        {"exp": ISSUED - 1},
        {"ttl": 0},
        {"ttl": "day"},
        {"list": None},
        {"list": {"bits": 3, "lst": b""}},
        {"list": {"bits": True, "lst": statuslist.pack([0])}},
        {"list": {"bits": 1}},
        {"list": {"bits": 1, "lst": b"not zlib"}},
        {"list": {"bits": 1, "lst": statuslist.pack([0])[:-1]}},
        {"list": {"bits": 1, "lst": statuslist.pack([0]) + b"more"}},
        {"list": {"bits": 1, "lst": BOMB}},
        {"identifiers": {"identifiers": {}}},
        {"type": "application/statuslist+jwt"},
    ],
    ids=lambda changes: ", ".join(f"{name} {str(value)[:24]}" for name, value in changes.items()),
)
def test_refuses_a_status_list_with(issuer: Issuer, changes: dict[str, Any]) -> None:
    statuslist.parse_token(forged(issuer, claims()), TrustAnchors([Anchor.from_certificate(issuer.root)]))
    with pytest.raises(MalformedError):
        statuslist.parse_token(forged(issuer, claims(**changes)), issuer.trust)


def test_the_type_may_stand_in_the_header_or_among_the_claims_but_has_to_stand_somewhere(issuer: Issuer) -> None:
    chain = {cose.X5CHAIN: issuer.status.public_bytes(Encoding.DER)}

    def token(body: dict[Any, Any]) -> bytes:
        sign1 = cose.build_sign1(issuer.status_key, cbor.encode(body), protected=chain)
        return cbor.encode(Tag(cose.TAG_SIGN1, sign1))

    assert statuslist.parse_token(token(claims(type=statuslist.TYPE)), issuer.trust).uri == LISTS
    with pytest.raises(MalformedError):
        statuslist.parse_token(token(claims()), issuer.trust)


def test_refuses_a_token_without_its_tag_or_of_another_kind(issuer: Issuer) -> None:
    token = cbor.decode(issuer.list_token())
    for other in (token.value, Tag(61, token), Tag(98, token.value)):
        with pytest.raises(MalformedError):
            statuslist.parse_token(cbor.encode(other), issuer.trust)
    with pytest.raises(MalformedError):
        identifierlist.parse_token(issuer.list_token(), issuer.trust)
    with pytest.raises(MalformedError):
        statuslist.parse_token(b"eyJ0eXAiOiJzdGF0dXNsaXN0K2p3dCJ9.e30.AAAA", issuer.trust)


def test_refuses_a_token_whose_signature_does_not_hold(issuer: Issuer) -> None:
    token = bytearray(issuer.list_token())
    token[-1] ^= 1
    with pytest.raises(TrustError):
        statuslist.parse_token(bytes(token), issuer.trust)
    with pytest.raises(TrustError):
        statuslist.parse_token(bytes(token), issuer.trust, unanchored=True)


def test_refuses_a_token_whose_signer_was_not_yet_valid(issuer: Issuer) -> None:
    with pytest.raises(TrustError):
        statuslist.parse_token(issuer.list_token(issued_at=BEGIN - timedelta(days=1)), issuer.trust)


def test_an_identifier_list_needs_an_end_and_holds_no_status_list(issuer: Issuer) -> None:
    good = claims(list=None, identifiers={"identifiers": {b"1": {}}})
    assert len(identifierlist.parse_token(forged(issuer, good, identifierlist.TYPE), issuer.trust)) == 1
    for bad in (
        claims(list=None, identifiers={"identifiers": {b"1": {}}}, exp=None),
        claims(identifiers={"identifiers": {b"1": {}}}),
        claims(list=None, identifiers={"identifiers": {"1": {}}}),
        claims(list=None, identifiers={"identifiers": {b"": {}}}),
        claims(list=None, identifiers={"identifiers": {b"1": 1}}),
        claims(list=None, identifiers={"identifiers": [b"1"]}),
        claims(list=None, identifiers={}),
    ):
        with pytest.raises(MalformedError):
            identifierlist.parse_token(forged(issuer, bad, identifierlist.TYPE), issuer.trust)


def test_a_long_identifier_list_can_be_read(issuer: Issuer) -> None:
    token = issuer.names_token([number.to_bytes(4, "big") for number in range(20_000)])
    assert len(identifierlist.parse_token(token, issuer.trust)) == 20_000


def test_the_drafts_own_lists_read_as_the_draft_says(vectors: Path) -> None:
    # draft-ietf-oauth-status-list, section 4.1: 16 one-bit and 12 two-bit entries.
    one = _example(vectors / "statuslist" / "status_list_encoding_cbor.md")
    two = _example(vectors / "statuslist" / "status_list_encoding2_cbor.md")
    assert _values(one) == [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]
    assert _values(two) == [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]


def _example(path: Path) -> tuple[int, bytes]:
    digits = "".join(part for part in path.read_text().split() if all(letter in "0123456789abcdef" for letter in part))
    return statuslist.unpack(cbor.decode(bytes.fromhex(digits)))


def _values(unpacked: tuple[int, bytes]) -> list[int]:
    bits, packed = unpacked
    return [byte >> shift & ((1 << bits) - 1) for byte in packed for shift in range(0, 8, bits)]


def test_ttl_is_shown_and_does_not_age_the_list(world: World, issuer: Issuer) -> None:
    token = issuer.list_token(ttl=timedelta(minutes=1))
    assert statuslist.parse_token(token, issuer.trust).ttl == timedelta(minutes=1)
    assert reason(world, issuer, issuer.lists(token), status=(LISTS, 0)) is None


def test_a_pass_is_judged_by_the_same_rules(issuer: Issuer) -> None:
    lists = issuer.lists(issuer.list_token((0, 1)))
    assert lists.judge(LISTS, 0, NOW, timedelta(0))[0] is TokenStatus.VALID
    assert lists.judge(LISTS, 1, NOW, timedelta(0))[0] is TokenStatus.INVALID
    assert lists.judge(LISTS, 99, NOW, timedelta(0))[0] is TokenStatus.UNDETERMINED
    old = Freshness(status_list=timedelta(minutes=1))
    assert lists.judge(LISTS, 0, NOW, timedelta(0), old)[0] is TokenStatus.STALE
