"""The socket between paho and TLS: what goes out stays in order and whole, also while the other side does not read."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from protocol.mqtt_settings import MqttSettings
from protocol.mqtt_socket import MAX_UNSENT_BYTES, PacketSocket
from protocol.mqtt_tls import tls_context
from testbed.pki import DevicePki


@pytest.fixture
def pair(pki: DevicePki) -> Iterator[tuple[PacketSocket, ssl.SSLSocket]]:
    """Ours and the broker's end of one TLS connection."""
    server, client = pki.server(), pki.client("gate-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    settings = MqttSettings("127.0.0.1", 0, pki.ca, client.certificate, client.key, "gate-1")
    near, far = socket.socketpair()
    with ThreadPoolExecutor(1) as thread:
        answered = thread.submit(context.wrap_socket, far, server_side=True)
        ours = tls_context(settings).wrap_socket(near, server_hostname="127.0.0.1")
        theirs = answered.result(timeout=10)
    assert isinstance(ours, PacketSocket)
    ours.setblocking(False)
    theirs.settimeout(10)
    yield ours, theirs
    ours.close()
    theirs.close()


def take(sock: ssl.SSLSocket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += sock.recv(size - len(found))
    return found


def test_what_was_gathered_leaves_together_and_in_order(pair: tuple[PacketSocket, ssl.SSLSocket]) -> None:
    ours, theirs = pair
    assert [ours.send(each) for each in (b"one", b"two", b"three")] == [3, 3, 5]
    assert ours.flush()
    assert theirs.recv(100) == b"onetwothree"  # one TLS record
    assert ours.flush()


def test_nothing_is_lost_or_mixed_while_the_other_side_does_not_read(pair: tuple[PacketSocket, ssl.SSLSocket]) -> None:
    ours, theirs = pair
    sent = bytearray()

    def send_for_ever() -> None:
        while True:
            packet = len(sent).to_bytes(8) * 512
            ours.send(packet)
            sent.extend(packet)
            ours.flush()

    with pytest.raises(ssl.SSLWantWriteError):
        send_for_ever()
    assert not ours.flush()
    assert len(sent) > MAX_UNSENT_BYTES
    found = b""
    while len(found) < len(sent):
        found += take(theirs, min(65536, len(sent) - len(found)))
        ours.flush()
    assert found == sent
    assert ours.flush()


def test_paho_reads_what_was_handed_over_and_nothing_else(pair: tuple[PacketSocket, ssl.SSLSocket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"from the broker")
    with pytest.raises(ssl.SSLWantReadError):
        ours.recv(1)
    ours.hand_over(b"\xd0\x00")
    assert [ours.recv(1), ours.recv(1)] == [b"\xd0", b"\x00"]
    with pytest.raises(ssl.SSLWantReadError):
        ours.recv(1)


def test_the_end_of_the_stream_is_told_after_what_was_handed_over(pair: tuple[PacketSocket, ssl.SSLSocket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"last words")
    theirs.close()
    found = b""
    while not ours.ended:
        select.select([ours], [], [], 10)
        found += ours.fill()
    assert found == b"last words"
    ours.hand_over(b"x")
    assert ours.recv(5) == b"x"
    assert ours.recv(5) == b""


def test_what_was_said_last_leaves_before_it_closes(pair: tuple[PacketSocket, ssl.SSLSocket]) -> None:
    ours, theirs = pair
    ours.send(b"goodbye")
    ours.close()
    assert take(theirs, 7) == b"goodbye"
