"""A QR pass is small, fresh, bound to its key and entrance, and good once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import segno
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import issuerlist, qrpass
from mdoc.errors import TrustError
from mdoc.freshness import Freshness
from mdoc.issuerlist import IssuerList
from mdoc.qrpass import PassVerdict, present_pass, verify_pass
from mdoc.statuslist import StatusLists
from testbed.authority import DOC_TYPE, Authority, IssuedPass
from tests.conftest import NOW
from tests.mdoc.conftest import World

GROUP = "sejong-main"
NONCE = bytes(range(8))


@pytest.fixture(scope="module")
def card(world: World) -> IssuedPass:
    return world.authority.issue_pass(world.person, now=NOW)[0]


def shown(card: IssuedPass, at: datetime = NOW, **changes: Any) -> bytes:
    return present_pass(card.card, card.key, **{"audience": GROUP, "now": at, "nonce": NONCE, **changes})


def check(world: World, text: bytes, at: datetime = NOW, **changes: Any) -> PassVerdict:
    settings_: dict[str, Any] = {
        "audience": GROUP,
        "issuers": issuerlist.parse(world.authority.issuer_list(NOW), world.authority.list_key),
        "status": world.status(),
        "now": at,
    }
    return verify_pass(text, **{**settings_, **changes})


def test_accepts_a_fresh_pass_and_gives_its_attributes(world: World, card: IssuedPass) -> None:
    verdict = check(world, shown(card))
    assert verdict.reason is None, verdict.checks
    assert verdict.attributes == qrpass.PassAttributes(DOC_TYPE, "1741000", "staff", "general")
    assert [check.name for check in verdict.checks] == list(qrpass.CHECKS)


def test_fits_version_14_at_level_m(card: IssuedPass) -> None:
    text = shown(card, audience="sejong-complex-1-main")
    code = segno.make(text.decode(), error="m", micro=False, boost_error=False)
    assert code.mode == "alphanumeric"
    assert int(code.version) <= 14


@pytest.mark.parametrize(("seconds", "reason"), [(-3, "stale"), (0, None), (15, None), (17, "stale"), (3600, "stale")])
def test_is_fresh_for_fifteen_seconds(world: World, card: IssuedPass, seconds: int, reason: str | None) -> None:
    verdict = check(world, shown(card), NOW + timedelta(seconds=seconds))
    assert verdict.reason == reason


def test_clock_error_widens_freshness(world: World, card: IssuedPass) -> None:
    at = NOW + timedelta(seconds=20)
    assert check(world, shown(card), at).reason == "stale"
    assert check(world, shown(card), at, clock_error=timedelta(seconds=6)).accepted


def test_the_same_presentation_has_one_mark_and_the_next_another(world: World, card: IssuedPass) -> None:
    one, again = check(world, shown(card)), check(world, shown(card))  # ECDSA is random: other bytes, same payloads
    assert one.mark == again.mark
    assert one.mark_until is not None
    assert one.mark_until > NOW + qrpass.MAX_AGE
    assert check(world, shown(card, nonce=bytes(8))).mark != one.mark


def test_refuses_another_entrance(world: World, card: IssuedPass) -> None:
    assert check(world, shown(card, audience="daejeon")).reason == "wrong_audience"


def test_refuses_a_pass_shown_without_its_key(world: World, card: IssuedPass) -> None:
    stolen = IssuedPass(card.card, ec.generate_private_key(ec.SECP256R1()))
    assert check(world, shown(stolen)).reason == "wrong_session"


def test_refuses_an_unlisted_issuer_and_a_forged_pass(
    world: World, card: IssuedPass, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert check(world, shown(card), issuers=IssuerList()).reason == "unknown_issuer"
    other = Authority.create(tmp_path_factory.mktemp("other"), name="Other", now=NOW)
    forged, _ = other.issue_pass(world.person, now=NOW)
    assert check(world, shown(forged)).reason == "unknown_issuer"
    protected, unprotected, _, signature = forged.card
    swapped = IssuedPass([card.card[0], unprotected, forged.card[2], signature], forged.key)
    assert protected != card.card[0]
    assert check(world, shown(swapped)).reason == "bad_signature"


def test_refuses_an_issuer_list_of_another_signer(world: World) -> None:
    with pytest.raises(TrustError):
        issuerlist.parse(world.authority.issuer_list(NOW), ec.generate_private_key(ec.SECP256R1()).public_key())


def test_refuses_expired_revoked_and_undetermined(world: World) -> None:
    card, index = world.authority.issue_pass(world.person, now=NOW, lifetime=timedelta(hours=1))
    later = NOW + timedelta(hours=2)
    assert check(world, shown(card, later), later).reason == "expired"
    assert check(world, shown(card), status=StatusLists()).reason == "status_unknown"
    world.authority.revoke(index)
    assert check(world, shown(card)).reason == "revoked"


def test_a_lane_that_shows_a_challenge_wants_it_back(world: World, card: IssuedPass) -> None:
    challenge = b"challenge-1"
    assert check(world, shown(card), challenges=[challenge]).reason == "stale"
    assert check(world, shown(card, nonce=challenge), challenges=[challenge]).accepted


@settings(max_examples=150, derandomize=True, deadline=None)
@given(tail=st.text(alphabet="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:", max_size=200))
def test_any_text_is_one_reason(tail: str) -> None:
    verdict = verify_pass(b"GM1:" + tail.encode(), audience=GROUP, issuers=IssuerList(), status=StatusLists(), now=NOW)
    assert verdict.reason == "malformed"


def test_a_zone_may_want_younger_lists_than_their_own_dates_allow(world: World, card: IssuedPass) -> None:
    later = NOW + timedelta(hours=7)

    def reason(**limits: Any) -> str | None:
        return check(world, shown(card, later), later, freshness=Freshness(**limits)).reason

    six, eight = timedelta(hours=6), timedelta(hours=8)
    assert reason() is None
    assert reason(issuer_list=eight, status_list=eight) is None
    assert reason(issuer_list=six) == "issuer_list_stale"
    assert reason(status_list=six) == "status_stale"


def test_a_status_list_past_its_own_date_is_stale_whatever_the_zone_allows(world: World, card: IssuedPass) -> None:
    old = world.status(NOW - timedelta(days=8))
    assert check(world, shown(card), status=old).reason == "status_stale"
