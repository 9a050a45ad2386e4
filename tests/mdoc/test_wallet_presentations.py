"""Responses made by independent wallets: all that does not need their (unpublished) roots holds over the bytes received."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mdoc.certificates import TrustAnchors
from mdoc.request import RequestedItems
from mdoc.response import DeviceResponse
from mdoc.statuslist import StatusLists
from mdoc.transcript import SessionTranscript
from mdoc.verdict import Outcome, Verdict
from mdoc.verify import verify_response

NUMBERS = ("00", "01", "03", "04", "07", "13", "14", "15", "16", "17")


def load(folder: Path, number: str) -> tuple[bytes, SessionTranscript, dict[str, Any]]:
    def read(name: str) -> bytes:
        return bytes.fromhex((folder / f"{number}_{name}.hex").read_text().strip())

    rows = json.loads((folder / "index.json").read_text())
    row = next(row for row in rows if row["n"] == int(number))
    return read("device_response"), SessionTranscript(read("session_transcript")), row


def verify(raw: bytes, transcript: SessionTranscript, row: dict[str, Any]) -> Verdict:
    document = DeviceResponse.parse(raw).documents[0]
    asked = {space: [item.element for item in items] for space, items in document.name_spaces.items()}
    return verify_response(
        raw,
        transcript=transcript,
        reader_key=None,
        requested=RequestedItems(row["mso_doctype"], asked),
        trust=TrustAnchors([]),
        status=StatusLists(),
        now=datetime.fromisoformat(row["now"]),
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_signature_digests_dates_and_device_signature_hold(vectors: Path, number: str) -> None:
    verdict = verify(*load(vectors / "presentations", number))
    assert [check.name for check in verdict.checks if check.outcome is Outcome.FAILED] == ["issuer_chain"]
    assert verdict.reason == "unknown_issuer"


def test_a_transcript_of_another_session_fails_device_authentication_only(vectors: Path) -> None:
    raw, _, row = load(vectors / "presentations", "00")
    _, other, _ = load(vectors / "presentations", "01")
    verdict = verify(raw, other, row)
    failed = [check.name for check in verdict.checks if check.outcome is Outcome.FAILED]
    assert failed == ["issuer_chain", "device_authentication"]
