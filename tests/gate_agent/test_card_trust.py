from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from card.anchors import Terms
from gate_agent import card_trust
from gate_agent.card_trust import CardTrust, load, settings
from mdoc.certificates.structure import read
from mdoc.errors import TrustError
from testbed.card.issuer import CardIssuer
from testbed.card.keys import KeyKind
from tests.conftest import NOW

TERMS = Terms("1741000", "staff", "general")


def fingerprint(issuer: CardIssuer) -> str:
    return read(issuer.root.public_bytes(Encoding.DER)).fingerprint().hex()


def published(folder: Path, issuer: CardIssuer) -> Path:
    """A trust directory with the issuer's cards."""
    cards = folder / card_trust.FOLDER
    issuer.publish(cards, NOW)
    (cards / card_trust.SETTINGS).write_text(
        f'[[authority]]\ncertificate = "{fingerprint(issuer)}"\nagency_code = "1741000"\n'
        'card_type = "staff"\naccess_class = "general"\n'
    )
    return cards


@pytest.fixture(scope="module")
def issuer() -> CardIssuer:
    return CardIssuer("Cards", NOW, kind=KeyKind.RSA_2048, intermediate=True)


def test_a_directory_without_cards_takes_none(tmp_path: Path) -> None:
    found = load(tmp_path, None, now=NOW)
    assert (len(found.anchors), found.problems, found.version) == (0, (), "")


def test_anchors_those_below_lists_and_terms_come_together(tmp_path: Path, issuer: CardIssuer) -> None:
    published(tmp_path, issuer)
    found = load(tmp_path, None, now=NOW)
    assert found.problems == ()
    assert [(len(each.path), each.terms) for each in found.anchors] == [(1, TERMS), (2, TERMS)]
    assert all(crl is not None for each in found.anchors for crl in each.crls)
    assert len(found.version) == 16


def test_the_version_changes_with_any_file(tmp_path: Path, issuer: CardIssuer) -> None:
    cards = published(tmp_path, issuer)
    before = load(tmp_path, None, now=NOW).version
    with (cards / card_trust.SETTINGS).open("a") as file:
        file.write("# another\n")
    assert load(tmp_path, None, now=NOW).version != before


def test_a_file_that_cannot_be_used_takes_none_of_the_others_with_it(tmp_path: Path, issuer: CardIssuer) -> None:
    cards = published(tmp_path, issuer)
    (cards / "anchors" / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (cards / "crl" / "bad.crl").write_bytes(b"\x30\x00")
    (cards / "anchors" / "notes.txt").write_text("not read")
    found = load(tmp_path, None, now=NOW)
    assert len(found.anchors) == 2
    assert sorted(problem.partition(":")[0] for problem in found.problems) == ["bad.crl", "bad.pem"]


def test_a_revocation_list_never_falls_behind_the_one_in_force(tmp_path: Path, issuer: CardIssuer) -> None:
    cards = published(tmp_path, issuer)
    old = {path.name: path.read_bytes() for path in (cards / "crl").iterdir()}
    issuer.publish(cards, NOW + timedelta(minutes=10))
    in_force = load(tmp_path, None, now=NOW + timedelta(minutes=10))
    for name, raw in old.items():
        (cards / "crl" / name).write_bytes(raw)
    found = load(tmp_path, None, now=NOW + timedelta(minutes=10), previous=in_force)
    assert set(found.anchors.crls) == set(in_force.anchors.crls)
    assert found.problems == ("cards/crl: 2 older than the one in force, which stays",)


def test_a_revocation_list_of_tomorrow_is_not_taken(tmp_path: Path, issuer: CardIssuer) -> None:
    published(tmp_path, issuer)
    found = load(tmp_path, None, now=NOW - timedelta(days=1))
    assert found.anchors.crls == ()
    assert len(found.problems) == 2


def test_an_authority_that_anybody_can_make_is_left_out_where_none_is_taken(tmp_path: Path, issuer: CardIssuer) -> None:
    published(tmp_path, issuer)
    found = load(tmp_path, None, now=NOW, take_specimens=False)
    assert len(found.anchors) == 0
    assert sum(problem.endswith("a specimen") for problem in found.problems) == 2


def test_without_a_signer_s_key_no_list_of_keys_is_read(tmp_path: Path, issuer: CardIssuer) -> None:
    cards = published(tmp_path, issuer)
    (cards / "keys.cose").write_bytes(b"anything")
    assert load(tmp_path, None, now=NOW).enrolled.version == 0


HEAD = f'[[authority]]\ncertificate = "{"ab" * 32}"\n'


def test_settings_name_an_authority_by_the_hash_of_its_certificate() -> None:
    found = settings((HEAD + 'card_type = "staff"\n').encode())
    assert found == {b"\xab" * 32: Terms(card_type="staff")}


@pytest.mark.parametrize(
    "text",
    [
        "[[authority]]\n",
        '[[authority]]\ncertificate = "abcd"\n',
        '[[authority]]\ncertificate = "zz"\n',
        "[[authority]]\ncertificate = 1\n",
        HEAD + "card_type = 1\n",
        HEAD + f'card_type = "{"x" * 129}"\n',
        HEAD + 'name = "somebody"\n',
        HEAD + HEAD,
        "authority = 1\n",
        "other = 1\n",
        "[[authority]\n",
        "# " + "x" * card_trust.MAX_SETTINGS,
    ],
)
def test_a_mistake_in_the_settings_is_refused_whole(text: str, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match=r"cards\.toml"):
        settings(text.encode())


def test_an_empty_set_takes_nobody() -> None:
    found = CardTrust()
    assert (len(found.anchors), found.enrolled.version) == (0, 0)
