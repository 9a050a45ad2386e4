"""A trust directory: what cannot be used disables itself, never the rest; the version names the content."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import truststore
from mdoc.errors import TrustError
from tests.conftest import NOW
from tests.mdoc.conftest import World


@pytest.fixture
def directory(world: World, tmp_path: Path) -> Path:
    world.authority.publish(tmp_path, NOW)
    return tmp_path


def load(world: World, directory: Path) -> truststore.Trust:
    return truststore.load_directory(directory, list_key=world.authority.list_key, now=NOW)


def test_reads_roots_issuers_and_status(world: World, directory: Path) -> None:
    trust = load(world, directory)
    assert trust.problems == ()
    assert (len(trust.anchors), len(trust.issuers), len(trust.status)) == (1, 1, 1)


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
        ("issuers.cose", b"\xa0"),
    ],
)
def test_a_bad_file_is_named_and_left_out(world: World, directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)
    trust = load(world, directory)
    assert len(trust.problems) == 1
    assert trust.problems[0].startswith(Path(name).name)
    assert len(trust.anchors) == 1


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
