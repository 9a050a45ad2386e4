"""Activation of a card and the guard around nfcpy's block protocol, against raw cards at the virtual antenna."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator

import nfc.clf
import pytest

from drivers.nfc.isodep import EXCHANGE_LIMIT_S, Ats, IsoDepSession
from drivers.nfc.loopback import LoopbackUdp, parse_path
from drivers.ports import LinkError, LinkLostError, LinkProtocolError, LinkTimeoutError
from protocol.clock import Clock, SystemClock
from tests.gate_agent.fakes import FakeClock

FWI_8 = 4096 / 13.56e6 * 2**8
CLOCK = SystemClock()


def free_port() -> int:
    """Below the ephemeral range, where readers of other tests take theirs."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.mark.parametrize(
    ("raw", "frame_size", "waiting_time", "guard_time"),
    [
        ("0578808102", 256, FWI_8, 4096 / 13.56e6 * 2),
        ("04688002", 256, FWI_8, 0),
        ("01", 32, 4096 / 13.56e6 * 16, 0),
        ("0205", 64, 4096 / 13.56e6 * 16, 0),
        ("031880", 256, 4096 / 13.56e6 * 16, 0),
        ("0468F000", 256, 4096 / 13.56e6 * 16, 0),
        ("046CE000", 256, 4096 / 13.56e6 * 2**14, 0),
        ("0468808F", 256, FWI_8, 0),
        ("066880008080", 256, FWI_8, 0),
    ],
)
def test_reads_the_answer_to_select_by_the_bits_of_t0(
    raw: str, frame_size: int, waiting_time: float, guard_time: float
) -> None:
    assert Ats.parse(bytes.fromhex(raw)) == Ats(frame_size, waiting_time, guard_time)


@pytest.mark.parametrize("raw", ["", "02", "0305", "0268", "037880", "00"])
def test_refuses_an_answer_to_select_that_does_not_fit_its_length(raw: str) -> None:
    with pytest.raises(LinkProtocolError):
        Ats.parse(bytes.fromhex(raw))


@pytest.mark.parametrize(
    "path",
    ["udp:0.0.0.0:7000", "udp:192.0.2.1:7000", "udp:example.org:7000", "udp:127.0.0.1", "udp:127.0.0.1:0",
     "udp:127.0.0.1:65536", "udp:127.0.0.1:x", "udp:::1:7000", "tcp:127.0.0.1:7000"],
)  # fmt: skip
def test_virtual_antenna_is_refused_off_this_machine(path: str) -> None:
    with pytest.raises(ValueError, match="NFC device"):
        parse_path(path)


@pytest.mark.parametrize("path", ["udp:127.0.0.1:7000", "udp:localhost:7000", "udp::7000"])
def test_virtual_antenna_takes_loopback_paths(path: str) -> None:
    assert parse_path(path) == 7000


def test_virtual_antenna_binds_loopback_only_on_both_sides() -> None:
    port = free_port()
    phone, reader = LoopbackUdp(port, threading.Event()), LoopbackUdp(port, threading.Event())
    try:
        assert phone._bind_socket(0.0)
        assert reader.sense_tta(nfc.clf.RemoteTarget("106A")) is None
        assert phone.socket is not None
        assert reader.socket is not None
        assert phone.socket.getsockname() == ("127.0.0.1", port)
        assert reader.socket.getsockname()[0] == "127.0.0.1"
    finally:
        phone.close()
        reader.close()


class RawCard:
    """Answers frames after activation by `script(frame, count)`; None stays silent."""

    def __init__(self, ats: bytes, script: Callable[[bytes, int], bytes | None]) -> None:
        self.port = free_port()
        self._ats, self._script = ats, script
        self._stop = threading.Event()
        self._frontend = nfc.clf.ContactlessFrontend()
        self._frontend.device = LoopbackUdp(self.port, self._stop)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        local = nfc.clf.LocalTarget("106A")
        local.sens_res, local.sdd_res, local.sel_res = bytearray(b"\x04\x00"), bytearray(b"\x08abc"), bytearray(b"\x20")
        count = 0
        try:
            if self._frontend.listen(local, 10.0) is None:
                return
            answer: bytes | None = self._ats
            while True:
                frame = self._frontend.exchange(bytearray(answer) if answer is not None else None, 10.0)
                count += 1
                answer = self._script(bytes(frame), count)
        except nfc.clf.CommunicationError:
            pass

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._frontend.close()


@contextlib.contextmanager
def activated(
    ats: bytes, script: Callable[[bytes, int], bytes | None], clock: Clock = CLOCK
) -> Iterator[tuple[IsoDepSession | None, threading.Event]]:
    card = RawCard(ats, script)
    interrupted = threading.Event()
    frontend = nfc.clf.ContactlessFrontend()
    frontend.device = LoopbackUdp(card.port, interrupted)
    try:
        target = None
        for _ in range(50):
            target = target or frontend.sense(nfc.clf.RemoteTarget("106A"))
        assert target is not None
        yield IsoDepSession.activate(frontend, target, clock, interrupted), interrupted
    finally:
        frontend.close()
        card.close()


GOOD_ATS = bytes.fromhex("0578807000")


@pytest.mark.parametrize("ats", [b"\x02", b"\x01\x02\x03", bytes.fromhex("037880")])
def test_a_card_with_a_nonsense_answer_to_select_is_no_card(ats: bytes) -> None:
    with activated(ats, lambda _, __: None) as (session, _):
        assert session is None


def test_a_card_without_ta_gets_its_full_waiting_time() -> None:
    """nfcpy read FWI from a fixed place: without TA(1) it waited 0.3 ms instead of 77 ms, and the exchange failed."""

    def slow(frame: bytes, _: int) -> bytes:
        threading.Event().wait(0.04)
        return bytes((frame[0],)) + b"\x90\x00"

    with activated(bytes.fromhex("04688000"), slow) as (session, _):
        assert session is not None
        assert session.transceive(b"\x00\xb0\x00\x00\x02") == b"\x90\x00"


Script = Callable[[bytes, int], bytes | None]
HOSTILE: dict[str, tuple[Script, str]] = {
    "silent": (lambda _, __: None, "stopped answering"),
    "wrong block number": (lambda frame, _: bytes((frame[0] ^ 1,)) + b"\x90\x00", "block protocol"),
    "acknowledges for ever": (lambda frame, _: bytes((0xA2 | ~frame[0] & 1,)), "too many frames"),
    "chains for ever": (lambda _, count: bytes((0x12 | count + 1 & 1,)) + bytes(250), "longer than an APDU"),
    "waiting time 0": (lambda _, __: b"\xf2\x00", "extension out of range"),
    "waiting time 63": (lambda _, __: b"\xf2\x3f", "extension out of range"),
    "waiting time without number": (lambda _, __: b"\xf2", "extension out of range"),
    "waiting time flood": (lambda _, __: b"\xf2\x01", "too many frames"),
    "one byte of response": (lambda frame, _: bytes((frame[0], 0x90)), "without status"),
    "no information": (lambda frame, _: frame[:1], "without status"),
    "deselects": (lambda _, __: b"\xc2", "block protocol"),
    "other bits": (lambda _, __: b"\xff" * 300, "block protocol"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_card_ends_in_a_link_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.nfc.isodep.MAX_FRAMES", 400)
    script, reason = HOSTILE[name]
    with activated(GOOD_ATS, script) as (session, _):
        assert session is not None
        with pytest.raises(LinkError, match=reason):
            session.transceive(b"\x00\xb0\x00\x00\x02")


@pytest.mark.parametrize("lost", [1, 2])
def test_an_answer_lost_after_a_waiting_time_extension_is_asked_for_again(lost: int) -> None:
    """nfcpy sent its answer to S(WTX) once and then gave up with an error of another layer."""
    frames: list[bytes] = []

    def script(frame: bytes, count: int) -> bytes | None:
        frames.append(frame)
        if count == 1:
            return b"\xf2\x01"
        return b"\x02\x90\x00" if count == 2 + lost else None

    with activated(GOOD_ATS, script) as (session, _):
        assert session is not None
        assert session.transceive(b"\x00\xb0\x00\x00\x02") == b"\x90\x00"
    assert frames[1:] == [b"\xf2\x01", *[b"\xb2"] * lost]


def test_a_frame_lost_to_a_card_with_a_long_waiting_time_is_asked_for_again() -> None:
    """nfcpy repeated nothing from FWI 12 on, where 1/FWT is 0: one bad frame ended the presentation."""

    class Noisy:
        """A frontend that hears one broken frame; FWI 13 waits 2.5 s, too long to play."""

        max_send_data_size = 256

        def __init__(self) -> None:
            self.frames: list[bytes] = []

        def exchange(self, frame: bytearray, _timeout: float) -> bytearray:
            self.frames.append(bytes(frame))
            if len(self.frames) == 1:
                raise nfc.clf.TransmissionError("CRC")
            return bytearray(b"\x02\x90\x00")

    frontend = Noisy()
    session = IsoDepSession(frontend, Ats(256, FWI_8 * 2**5), CLOCK, threading.Event())
    assert session.transceive(b"\x00\xb0\x00\x00\x02") == b"\x90\x00"
    assert frontend.frames == [b"\x02\x00\xb0\x00\x00\x02", b"\xb2"]


@pytest.mark.parametrize(("fwi", "silences"), [(8, 6), (12, 2), (13, 1)])
def test_a_silent_card_is_given_up_by_time_or_by_retries(fwi: int, silences: int) -> None:
    """Whatever comes first: five retries, or two seconds without an answer."""

    class Silent:
        max_send_data_size = 256

        def __init__(self) -> None:
            self.frames = 0

        def exchange(self, _frame: bytearray, _timeout: float) -> bytearray:
            self.frames += 1
            raise nfc.clf.TimeoutError("nothing heard")

    frontend = Silent()
    session = IsoDepSession(frontend, Ats(256, FWI_8 * 2 ** (fwi - 8)), CLOCK, threading.Event())
    with pytest.raises(LinkLostError):
        session.transceive(b"\x00\xb0\x00\x00\x02")
    assert frontend.frames == silences


def test_waiting_time_extensions_end_at_the_limit() -> None:
    clock = FakeClock()

    def extends(_: bytes, __: int) -> bytes:
        clock.elapsed += EXCHANGE_LIMIT_S / 4
        return b"\xf2\x01"

    # FWI 12: the card's thread has 1.2 s for its answer, however busy the machine
    with activated(bytes.fromhex("057880C000"), extends, clock) as (session, _):
        assert session is not None
        with pytest.raises(LinkTimeoutError):
            session.transceive(b"\x00\xb0\x00\x00\x02")


@pytest.mark.parametrize("first", [None, b"\xf2\x3b"], ids=["silent", "after a waiting time extension"])
def test_an_interrupt_ends_a_long_wait_at_once(first: bytes | None) -> None:
    asked = threading.Event()

    def busy(_: bytes, count: int) -> bytes | None:
        asked.set()
        return first if count == 1 else None

    # FWI 12: 1.2 s for a frame, 5 s at most when extended
    with activated(bytes.fromhex("057880C000"), busy) as (session, interrupted):
        assert session is not None

        def interrupt() -> None:
            asked.wait(5)
            interrupted.set()

        threading.Thread(target=interrupt).start()
        began = CLOCK.monotonic()
        with pytest.raises(LinkLostError):
            session.transceive(b"\x00\xb0\x00\x00\x02")
        assert CLOCK.monotonic() - began < 3.0
        with pytest.raises(LinkLostError, match="given up"):
            session.transceive(b"\x00\xb0\x00\x00\x02")


def test_garbage_datagrams_are_no_card() -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", port))
        phone.settimeout(2.0)
        reader = nfc.clf.ContactlessFrontend()
        reader.device = LoopbackUdp(port, threading.Event())
        try:
            for garbage in (b"", b"106A", b"106A zz", b"\xff\xfe 00", b"106A 00 00", b"RFOFF", b"106A 0"):
                answers = threading.Thread(target=lambda g=garbage: phone.sendto(g, phone.recvfrom(100)[1]))
                answers.start()
                assert reader.sense(nfc.clf.RemoteTarget("106A")) is None
                answers.join()
                phone.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    while True:
                        phone.recvfrom(100)
                phone.settimeout(2.0)
        finally:
            reader.close()
