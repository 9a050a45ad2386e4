from __future__ import annotations

import pytest
from cryptography import x509

from card import limits
from card.anchors import CardAnchors, Terms
from card.keys import holds
from mdoc import crl
from mdoc.errors import MalformedError, TrustError
from testbed.card.issuer import CardIssuer
from testbed.card.keys import KeyKind
from tests.card.conftest import TERMS, Cards, ours
from tests.conftest import NOW


@pytest.fixture(scope="module")
def below() -> CardIssuer:
    return CardIssuer("Below", NOW, intermediate=True)


def test_an_authority_counts_only_with_terms(cards: Cards) -> None:
    root = ours(cards.issuer.root)
    anchors = CardAnchors([root])
    assert len(anchors) == 0
    assert len(anchors.problems) == 1


def test_the_terms_nearest_to_the_card_count(below: CardIssuer) -> None:
    root, (child,) = ours(below.root), [ours(each) for each in below.intermediates]
    near = Terms("1", "2", "3")
    anchors = CardAnchors([root], [child], terms={root.fingerprint(): TERMS, child.fingerprint(): near})
    assert {each.certificate: each.terms for each in anchors} == {root: TERMS, child: near}
    assert not anchors.problems


def test_an_authority_without_a_path_to_a_pinned_one_issues_nothing(cards: Cards, below: CardIssuer) -> None:
    (child,) = (ours(each) for each in below.intermediates)
    said = {each.fingerprint(): TERMS for each in (ours(cards.issuer.root), child)}
    anchors = CardAnchors([ours(cards.issuer.root)], [child], terms=said)
    assert [each.certificate for each in anchors] == [ours(cards.issuer.root)]
    assert len(anchors.problems) == 2


def test_an_authority_below_may_be_pinned_itself(below: CardIssuer) -> None:
    (child,) = (ours(each) for each in below.intermediates)
    anchors = CardAnchors([child], terms={child.fingerprint(): TERMS})
    assert [each.path for each in anchors] == [(child,)]


def test_a_card_s_certificate_is_no_authority(cards: Cards) -> None:
    leaf = ours(cards.usual.certificate)
    anchors = CardAnchors([leaf], terms={leaf.fingerprint(): TERMS})
    assert len(anchors) == 0


def test_a_path_length_is_kept(below: CardIssuer) -> None:
    """The intermediate has path length 0: nothing may stand below it."""
    root, (child,) = ours(below.root), [ours(each) for each in below.intermediates]
    grandchild = CardIssuer("Third", NOW)
    made = below._authority(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Third")]),
        grandchild.key.public_key(),
        below.key,
        below.certificate,
        NOW,
    )
    third = ours(made)
    anchors = CardAnchors([root], [child, third], terms={root.fingerprint(): TERMS})
    assert {each.certificate for each in anchors} == {root, child}


def test_terms_of_an_authority_that_is_not_there_are_a_problem(cards: Cards) -> None:
    root = ours(cards.issuer.root)
    anchors = CardAnchors([root], terms={root.fingerprint(): TERMS, bytes(32): TERMS})
    assert anchors.problems == [f"{bytes(32).hex()}: no such authority in use"]


def test_the_number_of_authorities_is_bounded(cards: Cards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_AUTHORITIES", 1)
    with pytest.raises(TrustError):
        CardAnchors([ours(cards.issuer.root), ours(cards.other.root)])


def test_a_revocation_list_signed_by_rsa_is_read_for_cards_and_for_nobody_else() -> None:
    issuer = CardIssuer("RSA", NOW, kind=KeyKind.RSA_2048)
    (raw,) = issuer.crls(NOW).values()
    assert crl.parse(raw, [ours(issuer.root)], holds=holds).number == 1
    with pytest.raises(MalformedError, match="elliptic-curve"):
        crl.parse(raw, [ours(issuer.root)])


def test_a_revocation_list_of_another_authority_is_refused(cards: Cards) -> None:
    (raw,) = cards.other.crls(NOW).values()
    with pytest.raises(TrustError):
        crl.parse(raw, [ours(cards.issuer.root)], holds=holds)
