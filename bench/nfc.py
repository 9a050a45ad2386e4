"""A tap over NFC from field-on to the verdict, presentation armed and consent apart: the gate's own code over a modelled reader
and phone, at 106 kbit/s (nfcpy and a PN532) and at 424 kbit/s (PC/SC).

Air, reader and phone take modelled time: testbed.phone.nfc_air says what of it is standard and what an estimate. Ours is
measured: the wall time that the gate's code takes between frames, from the first look on to the verdict.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import fmean

from cryptography.hazmat.primitives.asymmetric import ec

from bench import nfc_field
from bench.row import Row, quantile
from drivers.nfc.link import engage
from drivers.nfc.reader import POLL_PERIOD_S
from drivers.ports import NfcCard
from mdoc import statuslist
from mdoc.certificates import Anchor, TrustAnchors
from mdoc.engagement import build_engagement
from mdoc.holder import HolderSession
from mdoc.ndef_handover import build_handover_select
from mdoc.reader import ReaderIdentity, ReaderSession, RequestedItems
from mdoc.statuslist import StatusLists
from mdoc.transcript import NfcHandover
from mdoc.type4tag import Shortcuts
from mdoc.verify import verify_response
from testbed import certificates
from testbed.authority import DOC_TYPE, NAME_SPACE, Authority, canary_person
from testbed.phone.nfc import PhoneApplication
from testbed.phone.nfc_air import CCID, CCID_POLL_S, TYPICAL, Air, ExchangeTime, Step
from testbed.phone.nfc_chip import ChipReader, Pn532, Presentation
from testbed.phone.nfc_delay import DelayedPhone, DelayedReader, Split, Stopwatch
from testbed.phone.nfc_time import START, ModelClock
from testbed.phone.phone import NFC_LIMITS, Phone
from testbed.phone.wallet import Held, Wallet

TAPS = 400
STAFF = ("agency_code", "card_type", "access_class")
"""All attributes that rules may need."""
WITH_HANDLE = (*STAFF, "holder_handle")
SEED = 18013


@dataclass(frozen=True, slots=True)
class Tap:
    """One presentation, in seconds."""

    waiting: float
    """From field-on until the reader looks: any time of its period."""
    modelled: float
    """From that look to the last byte: reader, air, phone."""
    split: Split
    ours: float

    @property
    def total(self) -> float:
        return self.waiting + self.modelled + self.ours

    def part(self, step: Step) -> ExchangeTime:
        return self.split.parts[step]


class Site:
    """An issuing authority, a phone with one credential, and a gate with its trust and reader identity."""

    def __init__(self, folder: Path) -> None:
        authority = Authority.create(folder, name="Bench", now=START)
        person = canary_person(os.urandom, agency_code="1741000", card_type="staff", access_class="general")
        key, root_key, reader_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        credential, _ = authority.issue(key.public_key(), person, now=START)
        begin = START - timedelta(days=1)
        root = certificates.root(
            root_key, "Bench readers", country="KR", not_before=begin, lifetime=timedelta(days=365)
        )
        leaf = certificates.reader(
            reader_key.public_key(), "Bench gate", issuer=root, issuer_key=root_key, not_before=begin
        )
        self.identity = ReaderIdentity(reader_key, (leaf,))
        self.wallet = Wallet(held=[Held(credential, key)], reader_roots=[root])
        self.trust = TrustAnchors([Anchor.from_certificate(authority.iaca)])
        self.status = StatusLists([statuslist.parse_token(authority.status_token(START), self.trust)])

    def application(self, *, beyond_end: bool = False) -> PhoneApplication:
        """A phone with the presentation armed: a fresh engagement, and consent already given. It reads nothing beyond the end
        of a file, as most wallets on Android."""
        phone = Phone(self.wallet, ModelClock())
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        engagement = build_engagement(ephemeral.public_key(), nfc=NFC_LIMITS)
        select = build_handover_select(engagement, nfc=NFC_LIMITS)
        session = HolderSession(engagement, ephemeral, NfcHandover(select, None))
        return PhoneApplication(
            select, lambda message: phone.on_message(session, message, "nfc"), beyond_end=beyond_end
        )


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked of which phones. `shortcuts` False: phones that are read by the book."""

    elements: Sequence[str] = STAFF
    shortcuts: bool = True
    beyond_end: bool = False


class Gate:
    """What the gate does with a card, up to the verdict."""

    def __init__(self, site: Site, case: Case) -> None:
        self._site, self._case = site, case
        self._shortcuts = Shortcuts() if case.shortcuts else None
        self._items = RequestedItems(DOC_TYPE, {NAME_SPACE: case.elements})

    def phone(self) -> PhoneApplication:
        return self._site.application(beyond_end=self._case.beyond_end)

    async def serve(self, card: NfcCard, clock: ModelClock) -> None:
        found = await engage(card, clock, shortcuts=self._shortcuts)
        link = await found.open_link()
        session = ReaderSession(found.engagement, found.handover, self._items, self._site.identity)
        await link.send(session.start())
        response = session.receive(await link.receive(60.0))
        verdict = verify_response(
            response,
            transcript=session.transcript,
            reader_key=session.ephemeral,
            requested=self._items,
            trust=self._site.trust,
            status=self._site.status,
            now=START,
        )
        if not verdict.accepted:
            raise RuntimeError(f"the benchmark's own presentation was refused: {verdict.checks}")


async def _chip_taps(gate: Gate, source: random.Random) -> list[Tap]:
    clock, stopwatch, found = ModelClock(), Stopwatch(time.perf_counter), list[Tap]()
    chip = Pn532(clock, stopwatch=stopwatch)
    reader = ChipReader(chip, clock)
    await reader.start()
    try:
        cards = reader.cards()
        for _ in range(TAPS):
            presentation = Presentation(gate.phone(), TYPICAL.phone(source))
            chip.present(presentation)
            stopwatch.seconds, begin = 0.0, clock.monotonic()
            card = await anext(cards)
            await gate.serve(card, clock)
            stopwatch.stop()
            waiting = source.uniform(0.0, POLL_PERIOD_S)
            found.append(Tap(waiting, clock.monotonic() - begin, presentation.split, stopwatch.seconds))
            await card.release()
    finally:
        await reader.stop()
    return found


async def _card_taps(gate: Gate, source: random.Random) -> list[Tap]:
    air, clock, stopwatch, found = Air(CCID), ModelClock(), Stopwatch(time.perf_counter), list[Tap]()
    reader = DelayedReader(clock)
    await reader.start()
    try:
        cards = reader.cards()
        for _ in range(TAPS):
            phone = DelayedPhone(gate.phone(), air, TYPICAL.phone(source), clock.advance, stopwatch)
            stopwatch.seconds, begin = 0.0, clock.monotonic()
            reader.present(phone)
            card = await anext(cards)
            await gate.serve(card, clock)
            stopwatch.stop()
            waiting = source.uniform(0.0, CCID_POLL_S)
            found.append(Tap(waiting, clock.monotonic() - begin, phone.split, stopwatch.seconds))
            await card.release()
    finally:
        await reader.stop()
    return found


def chip_taps(gate: Gate, source: random.Random) -> list[Tap]:
    """At 106 kbit/s: reader thread, nfcpy, one PN532."""
    return asyncio.run(_chip_taps(gate, source))


def card_taps(gate: Gate, source: random.Random) -> list[Tap]:
    """At 424 kbit/s: reader thread and whole APDUs."""
    return asyncio.run(_card_taps(gate, source))


def split(name: str, taps: Sequence[Tap]) -> list[Row]:
    """Where the time of a tap goes, in means, which add up."""
    transfer = [tap.part(Step.TRANSFER) for tap in taps]
    parts = {
        "until the look": [tap.waiting for tap in taps],
        "look and activation": [tap.modelled - tap.split.total.total for tap in taps],
        "engagement": [tap.part(Step.ENGAGEMENT).total for tap in taps],
        "select": [tap.part(Step.SELECT).total for tap in taps],
        "request, air": [each.down for each in transfer],
        "response, air": [each.up for each in transfer],
        "request and response, reader and turnaround": [each.reader + each.turnaround for each in transfer],
        "request and response, phone": [each.phone for each in transfer],
        "ours": [tap.ours for tap in taps],
    }
    rows = [Row(f"NFC {name}, mean: {part}", fmean(values) * 1000, "ms") for part, values in parts.items()]
    whole = [tap.split.total for tap in taps]
    rows.append(Row(f"NFC {name}, of all that: air", fmean(each.air for each in whole) * 1000, "ms"))
    rows.append(Row(f"NFC {name}, of all that: phone", fmean(each.phone for each in whole) * 1000, "ms"))
    return rows


def _totals(name: str, taps: Sequence[Tap], target: float | None = None) -> list[Row]:
    totals = [tap.total * 1000 for tap in taps]
    return [
        Row(f"NFC {name}, field-on to verdict, p50 of {len(totals)}", quantile(totals, 0.5), "ms"),
        Row(f"NFC {name}, field-on to verdict, p95", quantile(totals, 0.95), "ms", None, target),
    ]


READERS = (("at 106, PN532", 600.0, chip_taps), ("at 424, PC/SC", 350.0, card_taps))
"""Name, the most milliseconds at p95, and how a tap is run."""
OTHERS = {
    "with the holder's handle": Case(WITH_HANDLE),
    "a phone that reads beyond the end": Case(beyond_end=True),
    "a phone read by the book": Case(shortcuts=False),
}


def rows() -> list[Row]:
    found: list[Row] = []
    ours: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        for name, target, run in READERS:
            taps = run(Gate(site, Case()), random.Random(SEED))  # noqa: S311  # repeatable, not secret
            ours += [tap.ours * 1000 for tap in taps]
            found += _totals(name, taps, target) + split(name, taps)
            for other, case in OTHERS.items():
                found += _totals(f"{name}, {other}", run(Gate(site, case), random.Random(SEED)))  # noqa: S311
    found.append(Row(f"NFC, ours, p99 of {len(ours)}", quantile(ours, 0.99), "ms", None, 10.0))
    return found + nfc_field.rows()
