"""`gwanmun inspect`: the verdict on one response for whoever has to find out why, and an exit status for scripts."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gwanmun import cli
from mdoc import cbor, inspect
from mdoc.cbor import Encoded
from mdoc.request import build_request
from mdoc.verify import TABLE
from testbed.authority import DOC_TYPE, MDL_DOC_TYPE
from tests.conftest import NOW
from tests.mdoc.conftest import ASKED, World

AT = NOW.isoformat()


@dataclass
class Case:
    """One response on disk with all that belongs to it."""

    folder: Path
    raw: bytes
    session: Any
    world: World

    def path(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)

    @property
    def arguments(self) -> list[str]:
        return [
            self.path("response.cbor", self.raw),
            *("--transcript", self.path("transcript.cbor", self.session.transcript.raw)),
            *("--roots", self.path("iaca.pem", self.world.authority.iaca.public_bytes(Encoding.PEM))),
            *("--status", self.path("status.cwt", self.world.authority.status_token(NOW))),
            *("--at", AT),
        ]

    def key(self) -> bytes:
        key: ec.EllipticCurvePrivateKey = self.session.ephemeral
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def make(world: World, tmp_path: Path) -> Callable[..., Case]:
    def case(**changes: Any) -> Case:
        raw, session = world.response(**changes)
        return Case(tmp_path, raw, session, world)

    return case


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = cli.main(["inspect", *arguments])
    return status, capsys.readouterr().out


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status, text = run(capsys, *arguments, "--json")
    return status, json.loads(text)


def test_accepts_and_shows_every_check_with_its_clause(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = run(capsys, *make().arguments)
    assert status == 0
    assert "수락 ACCEPTED" in text
    for row in TABLE:
        assert row.name in text
        assert row.clause in text
    assert "access_class" in text
    assert "1741000" not in text, "values stay hidden"


def test_values_are_shown_when_asked_for_and_only_of_an_accepted_response(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str]
) -> None:
    case = make()
    assert "agency_code: 1741000" in run(capsys, *case.arguments, "--show-values")[1]
    status, text = run(capsys, *case.arguments, "--show-values", "--doctype", MDL_DOC_TYPE)
    assert status == 1
    assert "1741000" not in text


def test_refuses_with_the_reason_and_what_is_required(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str]
) -> None:
    case = make()
    late = (NOW + timedelta(days=4000)).isoformat()
    status, text = run(capsys, *case.arguments[:-1], late)
    assert status == 1
    assert "거절 REFUSED · bad_certificate" in text
    assert "사유 reason: expired" in text
    assert "required: The credential is within its dates now." in text


def test_json_says_the_same(make: Callable[..., Case], capsys: pytest.CaptureFixture[str]) -> None:
    case = make()
    status, found = run_json(capsys, *case.arguments, "--show-values")
    assert (status, found["accepted"], found["reason"], found["device_authenticated"]) == (0, True, None, True)
    assert [check["name"] for check in found["checks"]] == [row.name for row in TABLE]
    (document,) = found["documents"]
    assert document["values"][DOC_TYPE]["agency_code"] == "1741000"
    assert document["signer"]["issuer"] == "CN=Test IACA,C=KR"
    assert found["issuers"][0]["subject"] == "CN=Test IACA,C=KR"
    assert {used["kind"] for used in found["used"]} == {"issuer_list", "status_list"}
    status, found = run_json(
        capsys, *case.arguments, "--max-age", "status_list=0.5", "--at", (NOW + timedelta(hours=1)).isoformat()
    )
    assert (status, found["reason"]) == (1, "status_stale")


def test_without_a_session_it_refuses_unless_told_to_look_at_the_issuers_part_alone(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = make().arguments
    del arguments[1:3]
    status, found = run_json(capsys, *arguments)
    assert (status, found["reason"]) == (1, "wrong_session")
    status, found = run_json(capsys, *arguments, "--issuer-only")
    assert (status, found["accepted"], found["device_authenticated"]) == (0, True, False)
    text = run(capsys, *arguments, "--issuer-only")[1]
    assert "ISSUER PART ONLY" in text
    assert "ACCEPTED" not in text


def test_a_mac_is_checked_with_the_readers_key(make: Callable[..., Case], capsys: pytest.CaptureFixture[str]) -> None:
    case = make(mac=True)
    assert run(capsys, *case.arguments)[0] == 1
    pem = case.path("reader.pem", case.key())
    assert run(capsys, *case.arguments, "--reader-key", pem)[0] == 0
    scalar = case.session.ephemeral.private_numbers().private_value.to_bytes(32, "big").hex().encode()
    assert run(capsys, *case.arguments, "--reader-key", case.path("reader.hex", scalar))[0] == 0


@pytest.mark.parametrize(("curve", "size"), [(ec.SECP256R1(), 32), (ec.SECP384R1(), 48), (ec.SECP521R1(), 66)])
def test_a_bare_readers_key_is_on_the_curve_of_its_length(tmp_path: Path, curve: ec.EllipticCurve, size: int) -> None:
    private = ec.generate_private_key(curve).private_numbers().private_value
    file = tmp_path / "reader.hex"
    file.write_text(private.to_bytes(size, "big").hex())
    found = inspect.reader_key(file)
    assert found.private_numbers().private_value == private
    assert found.curve.name == curve.name


def test_compares_with_the_request_that_was_sent(make: Callable[..., Case], capsys: pytest.CaptureFixture[str]) -> None:
    case = make(disclose={DOC_TYPE: ("agency_code", "card_type")})
    assert run(capsys, *case.arguments, "--doctype", DOC_TYPE)[0] == 0
    request = case.path("request.cbor", build_request(ASKED, case.session.transcript, case.world.identity))
    status, found = run_json(capsys, *case.arguments, "--request", request)
    assert (status, found["reason"]) == (1, "missing_element")


@pytest.mark.parametrize(
    "form",
    [
        lambda raw: raw,
        lambda raw: raw.hex().encode(),
        lambda raw: b"\n".join(raw.hex().upper().encode()[at : at + 60] for at in range(0, 2 * len(raw), 60)) + b"\n",
        lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"="),
        lambda raw: base64.b64encode(raw) + b"\n",
    ],
    ids=["raw", "hex", "wrapped hex", "base64url", "base64"],
)
def test_reads_every_form(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str], form: Callable[[bytes], bytes]
) -> None:
    case = make()
    arguments = case.arguments
    arguments[0] = case.path("response.txt", form(case.raw))
    arguments[2] = case.path("transcript.txt", form(Encoded.wrap(case.session.transcript.raw).raw))
    assert run(capsys, *arguments)[0] == 0


def test_reads_standard_input(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(case.raw)))
    assert run(capsys, "-", *case.arguments[1:])[0] == 0


def test_uses_a_gates_trust_directory(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    case = make()
    trust = tmp_path / "trust"
    case.world.authority.publish(trust, NOW)
    (trust / "iaca" / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    pem = case.world.authority.list_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    response, session = case.arguments[0], case.arguments[1:3]
    status, text = run(
        capsys, response, *session, "--trust", str(trust), "--list-key", case.path("list.pem", pem), "--at", AT
    )
    assert status == 0
    assert "broken.pem" in text, "what was left out is named"


def test_a_folder_of_roots_with_one_that_cannot_be_read(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    case = make()
    roots = tmp_path / "roots"
    roots.mkdir()
    (roots / "a.der").write_bytes(b"\x30\x03")
    (roots / "b.pem").write_bytes(case.world.authority.iaca.public_bytes(Encoding.PEM))
    arguments = case.arguments
    arguments[arguments.index("--roots") + 1] = str(roots)
    status, found = run_json(capsys, *arguments)
    assert status == 0
    assert found["authorities"] == 1
    assert any("a.der" in note for note in found["notes"])


def test_a_bundle_of_roots_with_one_that_cannot_be_read(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    case = make()
    good = case.world.authority.iaca.public_bytes(Encoding.PEM)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n" + good)
    arguments = case.arguments
    arguments[arguments.index("--roots") + 1] = str(bundle)
    status, found = run_json(capsys, *arguments)
    assert status == 0
    assert found["authorities"] == 1
    assert any("bundle.pem" in note for note in found["notes"])


def test_without_roots_the_issuer_is_unknown(make: Callable[..., Case], capsys: pytest.CaptureFixture[str]) -> None:
    case = make()
    status, found = run_json(capsys, *case.arguments[:3], "--at", AT)
    assert (status, found["reason"]) == (1, "unknown_issuer")


@pytest.mark.parametrize("content", [b"", b"garbage\xff", b"\xa0", b"{}"], ids=["empty", "noise", "empty map", "json"])
def test_bytes_that_are_no_response_are_refused_not_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "response"
    path.write_bytes(content)
    status, found = run_json(capsys, str(path))
    assert (status, found["reason"]) == (1, "malformed")


def test_what_came_from_outside_cannot_steer_the_terminal(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str]
) -> None:
    case = make()
    body = cbor.decode(case.raw)
    body["documents"][0]["docType"] = "\x1b[2Jaccepted"
    status, text = run(capsys, case.path("evil.cbor", cbor.encode(body)), *case.arguments[1:])
    assert status == 1
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "change",
    [
        ["/nowhere/response"],
        ["RESPONSE", "--transcript", "/nowhere/transcript"],
        ["RESPONSE", "--transcript", "RESPONSE"],
        ["RESPONSE", "--issuer-only", "--transcript", "TRANSCRIPT"],
        ["RESPONSE", "--at", "yesterday"],
        ["RESPONSE", "--at", "2026-13-01T00:00:00Z"],
        ["RESPONSE", "--max-age", "status_list"],
        ["RESPONSE", "--max-age", "everything=3"],
        ["RESPONSE", "--max-age", "crl=nan"],
        ["RESPONSE", "--skew", "-1"],
        ["RESPONSE", "--vical", "RESPONSE"],
        ["RESPONSE", "--reader-key", "TRANSCRIPT"],
        ["RESPONSE", "--request", "TRANSCRIPT"],
        ["RESPONSE", "--trust", "/nowhere"],
        ["RESPONSE", "--request", "RESPONSE", "--doctype", "x"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_2_and_says_why_in_both_languages(
    make: Callable[..., Case], capsys: pytest.CaptureFixture[str], change: list[str]
) -> None:
    case = make()
    places = {"RESPONSE": case.arguments[0], "TRANSCRIPT": case.arguments[2]}
    assert inspect.main([places.get(word, word) for word in change]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("gwanmun inspect: ") for line in lines)


def test_an_unknown_option_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        inspect.main(["--nonsense"])
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err
