"""Run every benchmark, print the table, write bench/results.json; `--full`: what takes long, into bench/results-full.json."""

from __future__ import annotations

import sys
from pathlib import Path

from bench import ble, camera, card, gate, ingest, journal, lane, nfc, policy, queries, stream, verification
from bench.row import table, write

SUITES = {
    "verification": verification.rows,
    "policy": policy.rows,
    "lane": lane.rows,
    "nfc": nfc.rows,
    "card": card.rows,
    "camera": camera.rows,
    "gate": gate.rows,
    "ble": ble.rows,
    "journal": journal.rows,
    "ingest": ingest.rows,
    "packed": ingest.packed_rows,
    "stream": stream.rows,
}


FULL = {"queries": queries.rows}


def main(names: list[str]) -> int:
    full = "--full" in names
    names = [name for name in names if name != "--full"]
    suites = FULL if full else SUITES
    rows = [row for name, suite in suites.items() if not names or name in names for row in suite()]
    print(table(rows))
    write(rows, Path(__file__).with_name("results-full.json" if full else "results.json"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
