"""A trust directory: what cannot be used disables itself, never the rest; no list falls back; the site's settings bind."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import crl, identifierlist, limits, truststore
from mdoc.certificates import (
    DOCUMENT_SIGNER_PROFILE,
    IACA_PROFILE,
    STATUS_SIGNER_PROFILE,
    Chained,
    remarks,
    sitefile,
)
from mdoc.certificates.profiles import Kind
from mdoc.errors import TrustError
from mdoc.truststore import Trust
from testbed import certificates
from testbed.authority import DOC_TYPE, MDL_DOC_TYPE, Authority, read_private
from testbed.provider import Provider
from tests.conftest import NOW
from tests.mdoc.conftest import World

DAY = timedelta(days=1)


@pytest.fixture
def directory(world: World, tmp_path: Path) -> Path:
    world.authority.publish(tmp_path, NOW)
    return tmp_path


@pytest.fixture
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider.create(tmp_path_factory.mktemp("provider"), name="Site", now=NOW - DAY)


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One whose signers may be revoked without harm to other tests."""
    return Authority.create(tmp_path_factory.mktemp("own"), name="Own", now=NOW - DAY)


def load(world: World, directory: Path, **changes: Any) -> Trust:
    return truststore.load_directory(directory, **{"list_key": world.authority.list_key, "now": NOW, **changes})


def loaded(authority: Authority, directory: Path, previous: Trust | None = None, now: datetime = NOW) -> Trust:
    return truststore.load_directory(directory, list_key=authority.list_key, now=now, previous=previous)


def signer_in(trust: Trust, certificate: x509.Certificate) -> Chained:
    found = trust.anchors.issued(certificate.public_bytes(Encoding.DER), DOCUMENT_SIGNER_PROFILE)
    assert isinstance(found, Chained)
    return found


def test_reads_roots_issuers_status_and_revocation(world: World, directory: Path) -> None:
    trust = load(world, directory)
    assert trust.problems == ()
    assert (len(trust.anchors), len(trust.issuers), len(trust.status), len(trust.crls)) == (1, 1, 1, 1)
    assert [(facts.kind.value, facts.issued_at) for facts in trust.lists] == [("issuer_list", NOW), ("crl", NOW)]


def test_version_follows_the_content(world: World, directory: Path) -> None:
    version = load(world, directory).version
    assert load(world, directory).version == version
    (directory / "iaca" / "more.pem").write_bytes(b"x")
    assert load(world, directory).version != version


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("iaca/bad.pem", b"not a certificate"),
        ("iaca/bad.der", b"\x30\x03\x02\x01\x01"),
        ("status/bad.cwt", b"\xd2\x84"),
        ("crl/bad.crl", b"\x30\x03\x02\x01\x01"),
        ("vical/bad.cbor", b"\x84"),
        ("vical-roots/bad.pem", b"-----BEGIN CERTIFICATE-----"),
        ("issuers.cose", b"\xa0"),
    ],
)
def test_a_bad_file_is_named_and_left_out(world: World, directory: Path, name: str, content: bytes) -> None:
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_bytes(content)
    trust = load(world, directory)
    assert len(trust.problems) == 1
    assert trust.problems[0].startswith(Path(name).name)
    assert len(trust.anchors) == 1


def test_a_bad_certificate_in_a_bundle_takes_none_of_the_others_with_it(
    world: World, authority: Authority, directory: Path
) -> None:
    good = authority.iaca.public_bytes(Encoding.PEM)
    bad = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"
    (directory / "iaca" / "bundle.pem").write_bytes(b"# a comment\n" + bad + good)
    trust = load(world, directory)
    assert len(trust.anchors) == 2
    assert len(trust.problems) == 1
    assert trust.problems[0].startswith("bundle.pem: ")


def test_a_document_signer_is_no_root(world: World, directory: Path) -> None:
    signer = world.authority.document_signer.public_bytes(Encoding.DER)
    (directory / "iaca" / "ds.cer").write_bytes(signer)
    trust = load(world, directory)
    assert len(trust.anchors) == 1
    assert "ds.cer: issuing authority" in trust.problems[0]


def test_hidden_and_unfinished_files_are_not_read(world: World, directory: Path) -> None:
    (directory / "iaca" / ".half.pem").write_bytes(b"half")
    assert load(world, directory).problems == ()


def test_a_directory_that_is_not_there_is_an_error(world: World, tmp_path: Path) -> None:
    with pytest.raises(TrustError):
        load(world, tmp_path / "none")


def test_an_expired_root_is_named_and_its_dates_refuse(world: World, directory: Path) -> None:
    late = NOW + timedelta(days=4000)
    trust = load(world, directory, now=late)
    assert any("outside its dates" in problem for problem in trust.problems)
    assert not signer_in(trust, world.authority.document_signer).dated(late)


# Lists of authorities


def listing(provider: Provider, directory: Path, authority: Authority, *types: str, at: datetime = NOW) -> None:
    provider.publish(directory, [(authority.iaca, types or (DOC_TYPE,))], at)


def test_an_authority_is_trusted_by_a_list_alone_and_for_its_types_alone(
    authority: Authority, provider: Provider, tmp_path: Path
) -> None:
    listing(provider, tmp_path, authority)
    trust = loaded(authority, tmp_path)
    assert trust.problems == ()
    signer = signer_in(trust, authority.document_signer)
    assert signer.may_sign(DOC_TYPE)
    assert not signer.may_sign(MDL_DOC_TYPE)
    assert (signer.source.name, signer.source.issued_at) == ("Site", NOW)


def test_a_list_without_its_provider_s_root_trusts_nobody(
    authority: Authority, provider: Provider, tmp_path: Path
) -> None:
    listing(provider, tmp_path, authority)
    for root in (tmp_path / "vical-roots").iterdir():
        root.unlink()
    trust = loaded(authority, tmp_path)
    assert len(trust.anchors) == 0
    assert "VICAL signer" in trust.problems[0]


def test_a_root_that_the_site_put_there_itself_is_not_narrowed_by_a_list(
    authority: Authority, provider: Provider, tmp_path: Path
) -> None:
    authority.publish(tmp_path, NOW)
    listing(provider, tmp_path, authority, MDL_DOC_TYPE)
    trust = loaded(authority, tmp_path)
    assert len(trust.anchors) == 1
    assert signer_in(trust, authority.document_signer).may_sign(DOC_TYPE)


def test_rollback_of_a_list_leaves_the_one_in_force(authority: Authority, provider: Provider, tmp_path: Path) -> None:
    listing(provider, tmp_path, authority, MDL_DOC_TYPE, at=NOW - DAY)
    old = loaded(authority, tmp_path)
    copies = {path: path.read_bytes() for path in tmp_path.rglob("*.cbor")}
    listing(provider, tmp_path, authority, DOC_TYPE)
    current = loaded(authority, tmp_path, old)
    assert current.vicals[0].date == NOW
    for path, content in copies.items():
        path.write_bytes(content)
    after = loaded(authority, tmp_path, current)
    assert after.vicals == current.vicals
    assert signer_in(after, authority.document_signer).may_sign(DOC_TYPE)
    assert any("older than the list in force" in problem for problem in after.problems)


def test_the_list_kept_after_a_rollback_obeys_the_settings_of_today(
    authority: Authority, provider: Provider, tmp_path: Path
) -> None:
    listing(provider, tmp_path, authority, DOC_TYPE, at=NOW - DAY)
    copies = {path: path.read_bytes() for path in tmp_path.rglob("*.cbor")}
    listing(provider, tmp_path, authority, DOC_TYPE)
    current = loaded(authority, tmp_path)
    for path, content in copies.items():
        path.write_bytes(content)
    settings_for(authority, tmp_path, 'doc_types = ["another"]')
    after = loaded(authority, tmp_path, current)
    assert after.vicals[0].date == NOW
    assert not signer_in(after, authority.document_signer).may_sign(DOC_TYPE)


def test_of_two_lists_of_one_provider_the_newer_counts(
    authority: Authority, provider: Provider, tmp_path: Path
) -> None:
    listing(provider, tmp_path, authority, DOC_TYPE)
    (tmp_path / "vical" / "another.cbor").write_bytes(provider.vical([(authority.iaca, [MDL_DOC_TYPE])], NOW - DAY))
    trust = loaded(authority, tmp_path)
    assert [entry.date for entry in trust.vicals] == [NOW]


def test_a_provider_cannot_displace_another_s_list_by_its_name(
    authority: Authority, provider: Provider, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    listing(provider, tmp_path, authority)
    impostor = Provider.create(tmp_path_factory.mktemp("other"), name="Site", now=NOW - DAY, country="US")
    impostor.publish(tmp_path, [], NOW + timedelta(minutes=1))
    trust = loaded(authority, tmp_path)
    assert len(trust.vicals) == 2
    assert signer_in(trust, authority.document_signer).may_sign(DOC_TYPE)


def test_an_authority_on_two_lists_is_trusted_by_both_the_fresher_one_first(
    authority: Authority, provider: Provider, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    listing(provider, tmp_path, authority, DOC_TYPE, at=NOW - timedelta(hours=1))
    other = Provider.create(tmp_path_factory.mktemp("other"), name="Other", now=NOW - DAY)
    other.publish(tmp_path, [(authority.iaca, [MDL_DOC_TYPE])], NOW)
    signer = signer_in(loaded(authority, tmp_path), authority.document_signer)
    assert [anchor.source.name for anchor in signer.authorities] == ["Other", "Site"]
    assert all(signer.may_sign(doc_type) for doc_type in (DOC_TYPE, MDL_DOC_TYPE))
    assert not signer.may_sign("another")


def test_a_list_from_the_future_does_not_keep_later_ones_out(
    authority: Authority, provider: Provider, tmp_path: Path
) -> None:
    listing(provider, tmp_path, authority)
    current = loaded(authority, tmp_path)
    (tmp_path / "vical" / "ahead.cbor").write_bytes(provider.vical([], NOW + 100 * DAY))
    trust = loaded(authority, tmp_path, current)
    assert [entry.date for entry in trust.vicals] == [NOW]
    assert trust.problems == ("ahead.cbor: issued in the future",)


def test_a_list_whose_signer_is_revoked_trusts_nobody(authority: Authority, provider: Provider, tmp_path: Path) -> None:
    listing(provider, tmp_path, authority)
    key = read_private(provider.directory / "root.key.pem")
    revoked = crl.build(
        provider.root, key, number=1, revoked=[provider.signer.serial_number], this_update=NOW, lifetime=30 * DAY
    )
    (tmp_path / "crl").mkdir()
    (tmp_path / "crl" / "lists.crl").write_bytes(revoked)
    trust = loaded(authority, tmp_path)
    assert len(trust.anchors) == 0
    assert trust.vicals == ()
    assert "revoked" in trust.problems[0]


def test_three_real_lists_stand_side_by_side(vectors: Path, tmp_path: Path) -> None:
    for source in (vectors / "vical").iterdir():
        folder = tmp_path / ("vical-roots" if source.suffix == ".pem" else "vical")
        folder.mkdir(exist_ok=True)
        (folder / source.name).write_bytes(source.read_bytes())
    trust = truststore.load_directory(tmp_path, list_key=None, now=datetime.fromisoformat("2025-11-19T00:00:00Z"))
    assert sorted(entry.provider for entry in trust.vicals) == ["AAMVA", "Austroads"]
    assert len(trust.anchors) == 14 + 32
    assert len(trust.problems) == 3  # the entries that cannot be used


# Revocation of signers


def test_a_revoked_signer_is_known_and_its_successor_good(authority: Authority, tmp_path: Path) -> None:
    before = authority.document_signer
    authority.publish(tmp_path, NOW)
    assert not signer_in(loaded(authority, tmp_path), before).revoked
    authority.revoke_signer(NOW)
    authority.publish(tmp_path, NOW)
    trust = loaded(authority, tmp_path)
    assert signer_in(trust, before).revoked
    assert not signer_in(trust, authority.document_signer).revoked


def test_a_status_list_of_a_revoked_signer_is_not_taken(authority: Authority, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW)
    raw = crl.build(
        authority.iaca,
        read_private(authority.directory / "iaca.key.pem"),
        number=9,
        revoked=[authority.status_signer.serial_number],
        this_update=NOW,
        lifetime=30 * DAY,
    )
    (tmp_path / "crl" / "newer.crl").write_bytes(raw)
    trust = loaded(authority, tmp_path)
    assert len(trust.status) == 0
    assert any("revoked" in problem for problem in trust.problems)
    status = authority.status_signer.public_bytes(Encoding.DER)
    found = trust.anchors.issued(status, STATUS_SIGNER_PROFILE)
    assert isinstance(found, Chained)
    assert found.revoked


def test_rollback_of_a_revocation_list_leaves_the_one_in_force(authority: Authority, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW - DAY)
    old = {path: path.read_bytes() for path in tmp_path.rglob("*.crl")}
    before = authority.document_signer
    authority.revoke_signer(NOW)
    authority.publish(tmp_path, NOW)
    current = loaded(authority, tmp_path)
    for path, content in old.items():
        path.write_bytes(content)
    after = loaded(authority, tmp_path, current)
    assert after.crls == current.crls
    assert signer_in(after, before).revoked
    assert any("older than the one in force" in problem for problem in after.problems)


def test_rollback_of_the_issuer_list_leaves_the_one_in_force(authority: Authority, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW - DAY)
    old = (tmp_path / "issuers.cose").read_bytes()
    authority.publish(tmp_path, NOW)
    current = loaded(authority, tmp_path)
    (tmp_path / "issuers.cose").write_bytes(old)
    after = loaded(authority, tmp_path, current)
    assert after.issuers is current.issuers
    assert any("older than the list in force" in problem for problem in after.problems)
    assert loaded(authority, tmp_path).issuers.date == NOW - DAY  # nothing was in force


def test_newer_lists_replace_those_in_force(authority: Authority, provider: Provider, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW - DAY)
    listing(provider, tmp_path, authority, at=NOW - timedelta(hours=1))
    before = loaded(authority, tmp_path)
    authority.publish(tmp_path, NOW)
    listing(provider, tmp_path, authority, MDL_DOC_TYPE)
    after = loaded(authority, tmp_path, before)
    assert after.problems == ()
    assert after.issuers.date == NOW
    assert [entry.this_update for entry in after.crls] == [NOW]
    assert [entry.date for entry in after.vicals] == [NOW]
    unchanged = loaded(authority, tmp_path, after)
    assert (unchanged.problems, unchanged.version) == ((), after.version)


def test_a_revocation_list_from_the_future_is_not_taken(authority: Authority, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW)
    current = loaded(authority, tmp_path)
    (tmp_path / "crl" / "ahead.crl").write_bytes(authority.crl(NOW + 100 * DAY))
    trust = loaded(authority, tmp_path, current)
    assert trust.crls == current.crls
    assert trust.problems == ("ahead.crl: issued in the future",)


def test_without_a_pinned_key_the_issuer_list_counts_for_nothing(authority: Authority, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW)
    trust = truststore.load_directory(tmp_path, list_key=None, now=NOW)
    assert len(trust.issuers) == 0
    assert trust.problems == ("issuers.cose: no list key is configured",)


def test_an_identifier_list_is_read_beside_the_status_lists(authority: Authority, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW)
    raw = identifierlist.build_token(
        uri="https://issuer.example/identifiers",
        identifiers=[b"revoked"],
        issued_at=NOW,
        expires=NOW + 7 * DAY,
        key=read_private(authority.directory / "status-signer.key.pem"),
        certificate=authority.status_signer,
    )
    (tmp_path / "status" / "identifiers.cwt").write_bytes(raw)
    trust = loaded(authority, tmp_path)
    assert trust.problems == ()
    assert len(trust.status) == 2


def test_a_file_too_large_is_named_and_not_read(authority: Authority, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW)
    with (tmp_path / "status" / "huge.cwt").open("wb") as file:
        file.truncate(limits.MAX_STATUS_LIST + 1)
    trust = loaded(authority, tmp_path)
    assert trust.problems == ("huge.cwt: too large, or too many files",)
    assert len(trust.status) == 1


def test_an_issuer_list_from_the_future_is_not_taken(authority: Authority, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW)
    trust = loaded(authority, tmp_path, now=NOW - DAY)
    assert len(trust.issuers) == 0
    assert any(problem == "issuers.cose: issued in the future" for problem in trust.problems)


def test_a_status_list_of_a_stranger_is_kept_for_those_who_name_its_certificate(
    authority: Authority, world: World, tmp_path: Path
) -> None:
    authority.publish(tmp_path, NOW)
    (tmp_path / "status" / "stranger.cwt").write_bytes(world.authority.status_token(NOW))
    trust = loaded(authority, tmp_path)
    assert trust.status.find(world.authority.status_uri) is None
    assert "stranger.cwt: no trusted authority" in trust.problems[0]


# The site's settings


def settings_for(authority: Authority, directory: Path, text: str) -> None:
    fingerprint = authority.iaca.fingerprint(hashes.SHA256()).hex()
    (directory / sitefile.NAME).write_text(f'[[issuer]]\ncertificate = "{fingerprint}"\n{text}\n', "utf-8")


def test_the_site_narrows_what_an_authority_may_sign(authority: Authority, tmp_path: Path) -> None:
    authority.publish(tmp_path, NOW)
    settings_for(authority, tmp_path, f'doc_types = ["{MDL_DOC_TYPE}"]\nstrictness = "full"')
    trust = loaded(authority, tmp_path)
    assert trust.problems == ()
    assert not signer_in(trust, authority.document_signer).may_sign(DOC_TYPE)
    assert signer_in(trust, authority.licence_signer).may_sign(MDL_DOC_TYPE)


def test_the_site_tolerates_one_breach_with_its_reason(authority: Authority, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = certificates.root(
        key,
        "Odd",
        country="KR",
        not_before=NOW - DAY,
        lifetime=100 * DAY,
        extra=((certificates.usage(key_cert_sign=True, crl_sign=True, digital_signature=True), True),),
    )
    (tmp_path / "iaca").mkdir()
    (tmp_path / "iaca" / "odd.cer").write_bytes(root.public_bytes(Encoding.DER))
    assert len(loaded(authority, tmp_path).anchors) == 0
    fingerprint = root.fingerprint(hashes.SHA256()).hex()
    (tmp_path / sitefile.NAME).write_text(
        f'[[issuer]]\ncertificate = "{fingerprint}"\n'
        '[[issuer.tolerate]]\nrule = "iaca.key_usage"\nreason = "루트 용도에 서명이 더 있음"\n',
        "utf-8",
    )
    trust = loaded(authority, tmp_path)
    assert trust.problems == ()
    (anchor,) = trust.anchors
    assert anchor.settings.tolerances[0].reason == "루트 용도에 서명이 더 있음"


def test_settings_of_an_authority_nobody_lists_are_named(authority: Authority, tmp_path: Path) -> None:
    settings_for(authority, tmp_path, "")
    (problem,) = loaded(authority, tmp_path).problems
    assert problem.startswith("issuers.toml: ")


BAD_SETTINGS: dict[str, str | bytes] = {
    "no TOML": b"[[issuer",
    "not UTF-8": b"\xff\xfe",
    "another table": b"[issuers]\n",
    "issuers that are no list": b"issuer = 5\n",
    "an issuer that is no table": b"issuer = [5]\n",
    "an unknown setting": 'colour = "red"',
    "an unknown strictness": 'strictness = "loose"',
    "no document type": "doc_types = []",
    "a document type that is a number": "doc_types = [1]",
    "a rule nobody knows": '[[issuer.tolerate]]\nrule = "iaca.nothing"\nreason = "x"',
    "a rule that cannot be tolerated": '[[issuer.tolerate]]\nrule = "document_signer.end_entity"\nreason = "x"',
    "no reason": '[[issuer.tolerate]]\nrule = "iaca.key_usage"',
    "an empty reason": '[[issuer.tolerate]]\nrule = "iaca.key_usage"\nreason = " "',
    "a rule that is a list": '[[issuer.tolerate]]\nrule = ["iaca.key_usage"]\nreason = "x"',
    "a tolerance that is text": 'tolerate = ["iaca.key_usage"]',
    "a tolerance that is no list": 'tolerate = "iaca.key_usage"',
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_without_settings_that_can_be_used_the_set_is_not_taken(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    """Left out alone, a file that narrows trust would widen it."""
    authority.publish(tmp_path, NOW)
    content = BAD_SETTINGS[name]
    if isinstance(content, bytes):
        (tmp_path / sitefile.NAME).write_bytes(content)
    else:
        settings_for(authority, tmp_path, content)
    with pytest.raises(TrustError, match=r"issuers\.toml"):
        loaded(authority, tmp_path)


@pytest.mark.parametrize("value", ["00", "zz" * 32, "", 5, None])
def test_an_authority_is_named_by_its_whole_fingerprint(value: object) -> None:
    text = "[[issuer]]\n" if value is None else f"[[issuer]]\ncertificate = {value!r}\n"
    with pytest.raises(TrustError, match="certificate"):
        sitefile.parse(text.encode())
    twice = f'[[issuer]]\ncertificate = "{"00" * 32}"\n' * 2
    with pytest.raises(TrustError, match="twice"):
        sitefile.parse(twice.encode())


def test_the_page_shows_the_rows_as_they_are() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "trust-directory.md").read_text("utf-8")
    lines = page.partition("| 규칙 row |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    documented = {
        (profile, row[0].strip("`")): mark
        for row in cells
        for profile, mark in zip(("iaca", "document_signer", "status_signer"), row[1:4], strict=True)
        if mark
    }
    built = {
        (profile.name, row.name): "●" if row.fixed else "○" if row.kind is Kind.REQUIRED else "△"
        for profile in (IACA_PROFILE, DOCUMENT_SIGNER_PROFILE, STATUS_SIGNER_PROFILE)
        for row in profile.rows
    }
    assert documented == built


def test_the_page_s_example_can_be_used() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "trust-directory.md").read_text("utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    (settings,) = sitefile.parse(example.encode()).values()
    assert settings.doc_types == frozenset({DOC_TYPE})
    assert len(settings.tolerances) == 1


# -- specimens ---------------------------------------------------------------------------------------------------------------


def test_a_specimen_authority_is_known_by_its_signed_mark(world: World, directory: Path) -> None:
    trust = load(world, directory)
    (root,) = (directory / "iaca").iterdir()
    assert trust.specimens == (root.name, "issuers.cose")
    assert trust.problems == ()


def test_where_no_specimens_are_taken_root_and_list_are_left_out_and_named(world: World, directory: Path) -> None:
    trust = load(world, directory, take_specimens=False)
    assert (len(trust.anchors), len(trust.issuers)) == (0, 0)
    (root,) = (directory / "iaca").iterdir()
    assert {f"{name}: a specimen" for name in (root.name, "issuers.cose")} <= {*trust.problems}


def test_a_real_root_is_taken_beside_a_specimen(world: World, directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    real = certificates.root(key, "Real", country="KR", not_before=NOW - DAY, lifetime=timedelta(days=30))
    (bundle,) = (directory / "iaca").iterdir()
    bundle.write_bytes(bundle.read_bytes() + real.public_bytes(Encoding.PEM))
    trust = load(world, directory, take_specimens=False)
    assert [anchor.certificate.der for anchor in trust.anchors] == [real.public_bytes(Encoding.DER)]


def test_a_specimen_does_not_come_in_by_a_list(authority: Authority, provider: Provider, tmp_path: Path) -> None:
    listing(provider, tmp_path, authority, DOC_TYPE)
    assert len(loaded(authority, tmp_path).anchors) == 1
    trust = truststore.load_directory(tmp_path, list_key=None, now=NOW, take_specimens=False)
    assert (len(trust.anchors), len(trust.vicals), trust.vicals[0].anchors) == (0, 1, ())
    assert [name.rpartition(".")[2] for name in trust.specimens] == ["cbor"]


def test_the_mark_breaks_no_profile(world: World, directory: Path) -> None:
    (anchor,) = load(world, directory).anchors
    assert remarks(anchor.certificate, IACA_PROFILE) == ()
