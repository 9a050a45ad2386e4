"""Load on the broker: many gates in one process, their packets made beforehand, written over TLS with a window.

paho as a publisher would be the bottleneck. `python -m bench.load PLAN` makes everything, then reads from its standard input:
a port (connect every gate to the broker there; answers `ready`), `go` (send everything; answers one JSON object with `begin` and
`end`, monotonic seconds of the first byte and the last PUBACK), and so on until its input ends.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from bench import mqtt_packets as mqtt
from bench import records
from protocol import topics

HOST = "127.0.0.1"
CONTENT_TYPE, BATCH_TYPE = "application/cloudevents+json", "application/cloudevents-batch+json"
BATCH_BYTES = 60_000
"""A packed message has no more, whatever the number of its records."""
KEEPALIVE_S = 120
CONNECT_S, STALL_S = 10.0, 60.0
"""Longest wait for an answer while connecting, and without any acknowledgement while sending."""
READ_BYTES = 65536
BOOT = (("boot", records.BOOT),)
BEGIN = records.BEGIN.isoformat()


@dataclass(frozen=True, slots=True)
class Plan:
    """What one load process sends, the same at every `go`."""

    site: str
    ca: str
    gates: tuple[tuple[str, str, str], ...]
    """Name, certificate and key of each."""
    records: int
    """Of each gate."""
    packed: int
    """Records in one message at most; 1: as they are."""
    window: int
    """Messages of one gate without PUBACK."""
    ahead: int | None = None
    """Records of one gate beyond the controller's own acknowledgement, as an outbox keeps them; None: that one is not awaited."""
    rate: float | None = None
    """Messages a second of all gates in turn, message n due n / rate seconds after `begin`; None: as fast as windows allow."""
    since: str = BEGIN
    """Time of the first records."""


@dataclass(frozen=True, slots=True)
class Sent:
    begin: float
    end: float
    """Monotonic seconds of the first byte out and the last PUBACK in."""
    messages: int


def batches(chain: Sequence[bytes], most: int) -> list[list[bytes]]:
    """In sequence, at most `most` records and BATCH_BYTES each."""
    found: list[list[bytes]] = []
    size = BATCH_BYTES
    for raw in chain:
        size += len(raw) + 2
        if size > BATCH_BYTES or len(found[-1]) == most:
            found.append([])
            size = len(raw) + 4
        found[-1].append(raw)
    return found


class Stream:
    """All packets of one gate in one piece, so that any run of them is written without a copy."""

    def __init__(self, plan: Plan, gate: str) -> None:
        topic = topics.event(plan.site, gate)
        self.ends: list[int] = []
        """Where each packet ends."""
        self.last: list[int] = []
        """Sequence number of the last record in each."""
        parts: list[bytes] = []
        at = seq = 0
        chain = records.chain(plan.site, gate, plan.records, datetime.fromisoformat(plan.since))
        for number, batch in enumerate(batches(chain, plan.packed)):
            payload = batch[0] if plan.packed == 1 else b"[\n" + b",\n".join(batch) + b"\n]"
            user = (("seq", str(seq + 1)), *BOOT) if plan.packed == 1 else BOOT
            kind = CONTENT_TYPE if plan.packed == 1 else BATCH_TYPE
            parts.append(mqtt.publish(topic, packet_id(number), payload, kind, user))
            at, seq = at + len(parts[-1]), seq + len(batch)
            self.ends.append(at)
            self.last.append(seq)
        self.raw = b"".join(parts)


def packet_id(number: int) -> int:
    """Of the message with this number, from 0; never 0 (MQTT 5.0 2.2.1)."""
    return number % 65535 + 1


class Publisher:
    """One gate's connection."""

    def __init__(self, plan: Plan, gate: tuple[str, str, str], stream: Stream, port: int) -> None:
        """Connects, and subscribes where acknowledgements are awaited. Raises OSError, PacketError."""
        self._plan, self._stream, self._view = plan, stream, memoryview(stream.raw)
        name, certificate, key = gate
        context = ssl.create_default_context(cafile=plan.ca)
        context.load_cert_chain(certificate, key)
        plain = socket.create_connection((HOST, port), timeout=CONNECT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(plain, server_hostname=HOST)
        self._read = bytearray()
        self._at = self._sent = self.acked = 0
        """Bytes written; messages that may be written; messages with PUBACK."""
        self._held = 0
        """Messages that the controller has acknowledged."""
        self.released = len(stream.ends) if plan.rate is None else 0
        """Messages that are due."""
        mqtt.check_connack(self._ask(mqtt.connect(name, KEEPALIVE_S)))
        if plan.ahead is not None:
            mqtt.check_suback(self._ask(mqtt.subscribe(1, topics.ack(plan.site, name))))
        self.sock.setblocking(False)

    @property
    def messages(self) -> int:
        """In all."""
        return len(self._stream.ends)

    @property
    def done(self) -> bool:
        return self.acked == len(self._stream.ends)

    @property
    def writing(self) -> bool:
        """There is something to write for which the window has room."""
        return self._at < self._limit()

    def _limit(self) -> int:
        """The byte up to which may be written now."""
        allowed = min(self.acked + self._plan.window, self.released)
        if self._plan.ahead is not None:
            held = self._stream.last[self._held - 1] if self._held else 0
            while self._sent < allowed and self._stream.last[self._sent] <= held + self._plan.ahead:
                self._sent += 1
            allowed = self._sent
        return self._stream.ends[allowed - 1] if allowed else 0

    def write(self) -> None:
        limit = self._limit()
        try:
            while self._at < limit:
                self._at += self.sock.send(self._view[self._at : limit])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass

    def read(self) -> None:
        """Raises PacketError for a refused publication, or an answer to none."""
        try:
            while True:
                some = self.sock.recv(READ_BYTES)
                if not some:
                    raise mqtt.PacketError("the broker has closed the connection")
                self._read += some
                if not self.sock.pending():
                    break
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        for packet in mqtt.packets(self._read):
            if packet.type == mqtt.PUBLISH:
                self._advance(mqtt.acknowledged(packet))
            elif mqtt.puback(packet) != packet_id(self.acked):
                raise mqtt.PacketError("PUBACK out of order")  # MQTT 5.0 4.6: in the order of the PUBLISH packets
            else:
                self.acked += 1

    def _advance(self, seq: int) -> None:
        while self._held < len(self._stream.last) and self._stream.last[self._held] <= seq:
            self._held += 1

    def _ask(self, question: bytes) -> mqtt.Packet:
        """While the socket still blocks."""
        self.sock.sendall(question)
        while True:
            for packet in mqtt.packets(self._read):
                return packet
            some = self.sock.recv(READ_BYTES)
            if not some:
                raise mqtt.PacketError("the broker has closed the connection")
            self._read += some


def send(publishers: Sequence[Publisher], rate: float | None = None) -> Sent:
    """Everything of everybody, each with its own window, and at `rate` where there is one. Raises OSError, PacketError."""
    with selectors.DefaultSelector() as selector:
        for each in publishers:
            selector.register(each.sock, selectors.EVENT_READ, each)
        begin, open_ = time.monotonic(), len(publishers)
        total = released = sum(each.messages for each in publishers)
        if rate is not None:
            released = 0
        for each in publishers:
            each.write()
            _watch(selector, each)
        while open_:
            longest = STALL_S
            if rate is not None and released < total:
                due = min(total, int((time.monotonic() - begin) * rate) + 1)
                for number in range(released, due):
                    publisher = publishers[number % len(publishers)]
                    publisher.released += 1
                    publisher.write()
                    _watch(selector, publisher)
                released = due
                longest = max(0.0, begin + due / rate - time.monotonic())
            ready = selector.select(longest)
            if not ready and longest == STALL_S:
                raise mqtt.PacketError("nothing was acknowledged for a long time")
            for key, _ in ready:
                publisher = key.data
                publisher.read()
                publisher.write()
                if publisher.done:
                    selector.unregister(publisher.sock)
                    open_ -= 1
                else:
                    _watch(selector, publisher)
        return Sent(begin, time.monotonic(), sum(each.acked for each in publishers))


def _watch(selector: selectors.BaseSelector, publisher: Publisher) -> None:
    wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if publisher.writing else 0)
    if selector.get_key(publisher.sock).events != wanted:
        selector.modify(publisher.sock, wanted, publisher)


def main(path: Path) -> None:
    plan = Plan(**json.loads(path.read_text("utf-8")))
    streams = [Stream(plan, gate[0]) for gate in plan.gates]
    publishers: list[Publisher] = []
    for line in map(str.strip, sys.stdin):
        if line == "go":
            print(json.dumps(asdict(send(publishers, plan.rate))), flush=True)
            continue
        for each in publishers:
            each.sock.close()
        publishers = [
            Publisher(plan, gate, stream, int(line)) for gate, stream in zip(plan.gates, streams, strict=True)
        ]
        print("ready", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
