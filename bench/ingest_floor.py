"""The floor under the controller's ingest: paho-mqtt receives, the bare payloads go into SQLite in batches, then PUBACK.

Same broker, certificate, topics, quality of service, Receive Maximum, batch and linger as the controller; nothing is looked at.
paho's own thread reads the socket. A selector with `loop_read` until the socket is empty was measured beside it, the commits
in between or in a thread: slower or the same, since in paho's thread a commit's wait for the disk costs no reading.

`python -m bench.ingest_floor SETTINGS` prints `ready` when it is subscribed and runs until it is ended.
"""

from __future__ import annotations

import json
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions


@dataclass(frozen=True, slots=True)
class Settings:
    host: str
    port: int
    ca: str
    certificate: str
    key: str
    client_id: str
    filters: dict[str, int]
    """Topic filter and QoS."""
    receive_maximum: int
    database: str
    batch: int
    """Messages in one transaction at most."""
    linger_s: float
    """How long the first message of a batch waits for company."""


def table(path: str) -> sqlite3.Connection:
    """As durable as the controller's store: WAL, synchronous FULL."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE payloads (number INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
    return db


def insert(db: sqlite3.Connection, messages: Sequence[MQTTMessage]) -> None:
    db.execute("BEGIN")
    db.executemany("INSERT INTO payloads (payload) VALUES (?)", [(each.payload,) for each in messages])
    db.execute("COMMIT")


def subscribed(settings: Settings, arrived: SimpleQueue[MQTTMessage]) -> Client:
    """The client, its thread running, once the broker has granted what it subscribed to."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=settings.client_id, protocol=MQTTv5, manual_ack=True)
    context = ssl.create_default_context(cafile=settings.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(settings.certificate, settings.key)
    client.tls_set_context(context)
    granted = threading.Event()
    wanted = [(each, SubscribeOptions(qos=qos)) for each, qos in settings.filters.items()]

    def subscribe(client: Client, *_: object) -> None:
        client.subscribe(wanted)

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: granted.set()
    client.on_message = lambda _client, _userdata, message: arrived.put(message)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves this constructor untyped
    properties.ReceiveMaximum = settings.receive_maximum
    client.connect(settings.host, settings.port, clean_start=True, properties=properties)
    client.loop_start()
    granted.wait()
    return client


def run(settings: Settings) -> None:
    """For ever."""
    arrived: SimpleQueue[MQTTMessage] = SimpleQueue()
    db, client = table(settings.database), subscribed(settings, arrived)
    print("ready", flush=True)
    while True:
        messages = [arrived.get()]
        if arrived.qsize() < settings.batch and settings.linger_s:
            time.sleep(settings.linger_s)
        while len(messages) < settings.batch and not arrived.empty():
            messages.append(arrived.get())
        insert(db, messages)
        for each in messages:
            client.ack(each.mid, each.qos)


if __name__ == "__main__":
    run(Settings(**json.loads(Path(sys.argv[1]).read_text("utf-8"))))
