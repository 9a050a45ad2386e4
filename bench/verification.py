"""The verifier against its floor: 3 and 30 elements, portrait, signer's certificate remembered and not, signature and MAC;
what refusals cost, each kind within its bound; and other readers on the same presentation.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from bench import floors
from bench.forgeries import bound, forgeries, slowest
from bench.peers import peers
from bench.row import Row, alternate
from mdoc import cbor, cose, holder, statuslist
from mdoc.certificates import Anchor, TrustAnchors
from mdoc.engagement import build_engagement
from mdoc.reader import RequestedItems
from mdoc.statuslist import StatusLists
from mdoc.transcript import QrHandover, SessionTranscript
from mdoc.verdict import Verdict
from mdoc.verify import verify_response
from testbed.authority import DOC_TYPE, NAME_SPACE, Authority, canary_person

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
SECONDS = 2.0
REFUSAL_SECONDS = 0.3
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
        times = alternate([mac.ours(cached=True), mac.ours(cached=False)], seconds=SECONDS)
        for value, state in zip(times, ("DS cached", "DS not cached"), strict=True):
            found.append(Row(f"verify, 3 elements, device MAC, {state}", value, "µs"))
        case = cases[0][1]
        found += [_refusal(case, name, raw) for name, raw in forgeries(case.response)]
        for count in (1, 8):
            raw = slowest(count, case.transcript, NOW)
            found.append(_refusal(case, f"{count} documents of strangers on the slowest curve", raw))
        found += _beside(case)
    return found


def _refusal(case: _Case, name: str, raw: bytes) -> Row:
    run = case.ours(response=raw)
    verdict = run()
    if not isinstance(verdict, Verdict) or verdict.accepted:
        raise RuntimeError(f"accepted a forgery: {name}")
    (ours,) = alternate([run], seconds=REFUSAL_SECONDS, batch=1)
    return Row(f"refuse, {name}", ours, "µs", None, bound(len(raw)))


def _beside(case: _Case) -> list[Row]:
    rows: list[Row] = []
    for name, call in peers(case.response, case.transcript.raw, case.authority.iaca):
        if call is None:
            print(name)
            continue
        ours, theirs = alternate([case.ours(cached=False), call], seconds=SECONDS)
        rows.append(Row(f"the same 3 elements by {name}", theirs, "µs"))
        rows.append(Row("... and by ours beside it, DS not cached", ours, "µs"))
    return rows
