"""The verifier against its floor: 3 and 30 elements, portrait, DS certificate cached and not, signature and MAC, refusals."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from bench import floors
from bench.row import Row, alternate
from mdoc import cbor, cose, holder, statuslist
from mdoc.certificates import Anchor, TrustAnchors
from mdoc.engagement import build_engagement
from mdoc.reader import RequestedItems
from mdoc.statuslist import StatusLists
from mdoc.transcript import QrHandover, SessionTranscript
from mdoc.verify import verify_response
from testbed.authority import DOC_TYPE, NAME_SPACE, Authority, canary_person

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
SECONDS = 2.0
THREE = ("agency_code", "card_type", "access_class")


class _Case:
    def __init__(self, folder: Path, elements: int, portrait: int, *, mac: bool = False) -> None:
        self.authority = Authority.create(folder, name="Bench", now=NOW)
        person = canary_person(
            os.urandom, agency_code="1741000", card_type="staff", access_class="general", portrait_bytes=15_000
        )
        key = ec.generate_private_key(ec.SECP256R1())
        values = person.elements(NOW, NOW, os.urandom(16))
        asked = [*THREE, *(f"extra_{number}" for number in range(elements - 3))]
        for name in asked[3:]:
            values[name] = f"value {name}"
        if portrait:
            asked.append("portrait")
        credential, _ = self.authority.issue(key.public_key(), person, now=NOW, extra={NAME_SPACE: values})
        self.reader_key = ec.generate_private_key(ec.SECP256R1())
        engagement = build_engagement(ec.generate_private_key(ec.SECP256R1()).public_key())
        reader_bytes = cbor.Encoded.wrap(cbor.encode(cose.cose_key(self.reader_key.public_key())))
        self.transcript = SessionTranscript.build(engagement, reader_bytes, QrHandover())
        self.requested = RequestedItems(DOC_TYPE, {NAME_SPACE: asked})
        self.response = holder.build_response(
            credential,
            key,
            {NAME_SPACE: asked},
            self.transcript,
            mac_with=self.reader_key.public_key() if mac else None,
        )
        self.trust = TrustAnchors([Anchor.from_certificate(self.authority.iaca)])
        self.status = StatusLists([statuslist.parse_token(self.authority.status_token(NOW), self.trust)])

    def ours(self, *, cached: bool = True, response: bytes | None = None) -> Callable[[], object]:
        raw = response or self.response

        def run() -> object:
            if not cached:
                self.trust.forget()
            return verify_response(
                raw,
                transcript=self.transcript,
                reader_key=self.reader_key,
                requested=self.requested,
                trust=self.trust,
                status=self.status,
                now=NOW,
            )

        verdict = verify_response(
            raw,
            transcript=self.transcript,
            reader_key=self.reader_key,
            requested=self.requested,
            trust=self.trust,
            status=self.status,
            now=NOW,
        )
        if response is None and not verdict.accepted:
            raise RuntimeError(f"the benchmark's own presentation was refused: {verdict.checks}")
        return run

    def floor(self, *, cached: bool) -> Callable[[], object]:
        return floors.verification(self.response, self.transcript.raw, self.authority.iaca, cached=cached)


def rows() -> list[Row]:
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = (
            ("3 elements", _Case(folder / "3", 3, 0), 1.6),
            ("30 elements", _Case(folder / "30", 30, 0), 2.0),
            ("3 elements and a 15 kB portrait", _Case(folder / "p", 3, 1), 1.6),
        )
        for label, case, target in cases:
            for cached in (True, False):
                ours, floor = alternate([case.ours(cached=cached), case.floor(cached=cached)], seconds=SECONDS)
                state = "DS cached" if cached else "DS not cached"
                found.append(Row(f"verify, {label}, {state}", ours, "µs", floor, target))
        mac = _Case(folder / "mac", 3, 0, mac=True)
        (ours,) = alternate([mac.ours()], seconds=SECONDS)
        found.append(Row("verify, 3 elements, device MAC, DS cached", ours, "µs"))
        case = cases[0][1]
        altered = case.response.replace(b"general", b"GENERAL")
        garbage = os.urandom(16_384)
        for label, raw in (("altered element", altered), ("16 kB of noise", garbage)):
            (ours,) = alternate([case.ours(response=raw)], seconds=SECONDS / 2)
            found.append(Row(f"refuse, {label}", ours, "µs", None, 5000))
    return found
