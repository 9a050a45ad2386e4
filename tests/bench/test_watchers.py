"""What reads the live stream for its bench: nothing is missed wherever the bytes are cut, and the load keeps its pace."""

from __future__ import annotations

import json
import socket
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bench import load
from bench.load import Stream
from bench.watchers import Plan, Watcher, offsets

PLAN = Plan(0, 1, "bench", ("gate-001", "gate-002"), 6, 10.0, "2026-11-24T00:00:00+00:00")


def message(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\nid: r-1\ndata: {json.dumps(data)}\n\n".encode()


SENT = (
    message("event", {"n": 1}),
    b": idle\n\n",
    message("resync", {}),
    message("event", {"n": 2}),
    message("gate", {"n": 3}),
    message("event", {"n": 4}),
)


@settings(deadline=None)
@given(cuts=st.lists(st.integers(1, 200), max_size=8))
def test_every_event_is_read_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    whole = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in SENT)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watcher = Watcher.__new__(Watcher)
        watcher.sock, watcher._rest, watcher.seen, watcher.resyncs = ours, b"", 0, 0
        found: list[bytes] = []
        at = 0
        for cut in [*sorted(cuts), len(whole)]:
            if whole[at:cut]:
                theirs.sendall(whole[at:cut])
                at = cut
                found += watcher.read()
    assert [json.loads(each)["n"] for each in found] == [1, 2, 4]
    assert (watcher.seen, watcher.resyncs) == (3, 1)


def test_every_record_has_a_time_of_its_own_by_which_it_is_known() -> None:
    numbers = offsets(PLAN)
    assert sorted(numbers.values()) == list(range(PLAN.records))


class Line(load.Publisher):
    """A publisher whose broker acknowledges at once."""

    def __init__(self, plan: load.Plan, gate: str, log: list[tuple[str, int]]) -> None:
        self._plan, self._stream = plan, Stream(plan, gate)
        self._sent = self._held = self._at = self.acked = self.released = 0
        self._gate, self._log = gate, log
        self.sock, self._other = socket.socketpair()  # type: ignore[assignment]  # no TLS here

    def write(self) -> None:
        if self._at < self._limit():
            self._at = self._limit()
            self._other.send(b"x")

    def read(self) -> None:
        self.sock.recv(100)
        while self.acked < self.released:
            self._log.append((self._gate, self.acked))
            self.acked += 1

    def close(self) -> None:
        self.sock.close()
        self._other.close()


def test_a_paced_load_sends_of_every_gate_in_turn_and_everything() -> None:
    rate = 1000.0
    plan = load.Plan("bench", "", (("a", "", ""), ("b", "", "")), 5, 1, 100, rate=rate)
    log: list[tuple[str, int]] = []
    lines = [Line(plan, gate, log) for gate, _, _ in plan.gates]
    sent = load.send(lines, rate)
    for each in lines:
        each.close()
    assert sent.messages == 10
    assert sorted(log) == [(gate, number) for gate in ("a", "b") for number in range(5)]
    assert sent.end - sent.begin >= 9 / rate  # the last is due then, and is not sent before
