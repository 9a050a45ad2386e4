"""Watchers of the controller's live stream, all in one process, reading as fast as it comes.

`python -m bench.watchers PLAN` connects them, prints `ready`, and reads until each has everything that is published, or nothing
comes any more. Then it prints what they have seen: how many seconds behind the moment at which each event was due for
publication by the load's own plan, so that a load that is held up does not make the figures better.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from bench import records
from bench.load import HOST
from bench.row import quantile
from protocol import events

PATH = "/api/v1/stream?type=event"
READ_BYTES = 1 << 18
CONNECT_S, QUIET_S = 10.0, 60.0
"""Longest wait for the answer's head, and for anything at all."""
_EVENT = re.compile(rb"event: (\w+)\n(?:id: [^\n]*\n)?data: ([^\n]*)\n\n")
_GATE, _TIME = re.compile(rb'"gate": ?"([^"]+)"'), re.compile(rb'"time": ?"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Plan:
    port: int
    watchers: int
    site: str
    gates: tuple[str, ...]
    """In the order in which they publish."""
    records: int
    """Of each gate."""
    rate: float
    since: str
    """As of the load."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What all watchers saw together; from the times the load's `begin` is still to be taken (bench.load.Sent)."""

    count: int
    resyncs: int
    p50: float
    p99: float
    longest: float


class Watcher:
    """One connection."""

    def __init__(self, port: int) -> None:
        """Raises OSError."""
        self.sock = socket.create_connection((HOST, port), timeout=CONNECT_S)
        self.sock.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {HOST}:{port}\r\nAccept: text/event-stream\r\n\r\n".encode())
        self._rest = b""
        while b"\r\n\r\n" not in self._rest:
            some = self.sock.recv(READ_BYTES)
            if not some:
                raise ConnectionError("the stream has ended at once")
            self._rest += some
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(head.split(b"\r\n")[0].decode("latin-1"))
        self.sock.setblocking(False)
        self.seen = self.resyncs = 0

    def read(self) -> list[bytes]:
        """The data of each event that is whole. Raises ConnectionError at the end of the stream."""
        some = self.sock.recv(READ_BYTES)
        if not some:
            raise ConnectionError("the stream has ended")
        self._rest += some
        found, end = [], 0
        for match in _EVENT.finditer(self._rest):
            end = match.end()
            if match[1] == b"event":
                found.append(match[2])
            elif match[1] == b"resync":
                self.resyncs += 1
        self._rest = self._rest[end:]
        self.seen += len(found)
        return found


def offsets(plan: Plan) -> dict[bytes, int]:
    """By the time that a record names, its number: of every gate the same."""
    chain = records.chain(plan.site, plan.gates[0], plan.records, datetime.fromisoformat(plan.since))
    return {events.parse(raw).time.encode(): number for number, raw in enumerate(chain)}


def watch(plan: Plan, watchers: Sequence[Watcher]) -> Seen:
    """Until each has seen everything. Raises OSError."""
    numbers, places = offsets(plan), {gate.encode(): at for at, gate in enumerate(plan.gates)}
    total = plan.records * len(plan.gates)
    times = array("d")
    with selectors.DefaultSelector() as selector:
        for each in watchers:
            selector.register(each.sock, selectors.EVENT_READ, each)
        print("ready", flush=True)
        while selector.get_map():
            ready = selector.select(QUIET_S)
            if not ready:
                break
            for key, _ in ready:
                watcher: Watcher = key.data
                found, now = watcher.read(), time.monotonic()
                for data in found:
                    gate, at = _GATE.search(data), _TIME.search(data)
                    assert gate is not None, data
                    assert at is not None, data
                    due = (numbers[at[1]] * len(plan.gates) + places[gate[1]]) / plan.rate
                    times.append(now - due)
                if watcher.seen >= total:
                    selector.unregister(watcher.sock)
    resyncs = sum(each.resyncs for each in watchers)
    return Seen(len(times), resyncs, quantile(times, 0.5), quantile(times, 0.99), max(times))


def main(path: Path) -> None:
    plan = Plan(**json.loads(path.read_text("utf-8")))
    watchers = [Watcher(plan.port) for _ in range(plan.watchers)]
    seen = watch(plan, watchers)
    print(json.dumps(asdict(seen)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
