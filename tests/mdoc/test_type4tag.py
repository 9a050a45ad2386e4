"""Short cuts in reading a Type 4 Tag: what they save, and that no phone is lost that does not take one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc.apdu import INS_READ_BINARY, INS_SELECT, SW_CONDITIONS, SW_NOT_FOUND, SW_OK, Command, Response
from mdoc.engagement import NfcOptions
from mdoc.errors import HandoverError, NotReadyError
from mdoc.ndef_handover import BleCarrier, LeRole, Pause, build_handover_request, build_handover_select
from mdoc.negotiated_handover import engage
from mdoc.type4tag import (
    CC_FILE,
    NDEF_AID,
    PIECE,
    SHORTCUT_REST,
    SW_END_OF_FILE,
    USUAL_NDEF_FILE,
    Shortcut,
    Shortcuts,
    Steps,
    read_ndef_file,
)
from testbed.phone.nfc import NdefApplet, NegotiatedNdefApplet

T = TypeVar("T")
MESSAGE = bytes(range(200))
NFC = NfcOptions(65_535, 65_536)
SELECT = build_handover_select(bytes(120), nfc=NFC)
REQUEST = build_handover_request(
    ble=BleCarrier(LeRole.CENTRAL_PREFERRED, UUID("b3d52ac4-a1b6-4b51-a22e-78ee55ef6eb6")), nfc=NFC
)
BOOK = 6
"""Commands that T4T 7.2 takes for a static message of up to 255 bytes."""
Applet = Callable[[Command], Response]


def present(applet: Applet, steps: Steps[T]) -> tuple[T, list[Command]]:
    """One presentation: what was read, and the commands that it took."""
    sent: list[Command] = []
    try:
        step = next(steps)
        while True:
            if isinstance(step, Pause):
                step = steps.send(b"")
                continue
            command = Command.parse(step)
            sent.append(command)
            if command.ins == INS_SELECT and command.p1 == 0x04:
                assert command.data == NDEF_AID
                step = steps.send(Response(SW_OK).encode())
            else:
                step = steps.send(applet(command).encode())
    except StopIteration as done:
        result: T = done.value
        return result, sent


def tolerant(message: bytes = MESSAGE) -> Applet:
    return NdefApplet(message).process


def strict(message: bytes = MESSAGE) -> Applet:
    """Android's identity library."""
    return NdefApplet(message, beyond_end=False).process


def by_the_book(refusal: int, message: bytes = MESSAGE) -> Applet:
    """Knows no NDEF file before its container has been read."""
    applet = NdefApplet(message)
    container = False

    def process(command: Command) -> Response:
        nonlocal container
        container |= command.ins == INS_SELECT and command.data == CC_FILE
        return applet.process(command) if container else Response(refusal)

    return process


def elsewhere(message: bytes = MESSAGE) -> Applet:
    """A tag whose NDEF file is E105."""
    other = b"\xe1\x05"
    applet = NdefApplet(message)

    def process(command: Command) -> Response:
        if command.ins == INS_SELECT and command.data in (USUAL_NDEF_FILE, other):
            if command.data == USUAL_NDEF_FILE:
                return Response(SW_NOT_FOUND)
            return applet.process(Command(0, INS_SELECT, 0, 0x0C, USUAL_NDEF_FILE))
        response = applet.process(command)
        return Response(response.sw, response.data.replace(USUAL_NDEF_FILE, other)) if command.le == 15 else response

    return process


def test_without_short_cuts_the_book_is_followed() -> None:
    message, sent = present(tolerant(), read_ndef_file())
    assert message == MESSAGE
    assert len(sent) == BOOK


def test_a_phone_that_takes_both_is_read_with_half_the_commands() -> None:
    shortcuts = Shortcuts()
    for _ in range(3):
        message, sent = present(tolerant(), read_ndef_file(shortcuts))
        assert message == MESSAGE
        assert [command.ins for command in sent] == [INS_SELECT, INS_SELECT, INS_READ_BINARY]


def test_a_phone_that_reads_nothing_beyond_the_end_costs_one_command_once_and_then_saves_two() -> None:
    shortcuts = Shortcuts()
    counts = []
    for _ in range(3):
        message, sent = present(strict(), read_ndef_file(shortcuts))
        assert message == MESSAGE
        counts.append(len(sent))
    assert counts == [BOOK - 1, BOOK - 2, BOOK - 2]


@pytest.mark.parametrize(
    "phone", [by_the_book(SW_CONDITIONS), by_the_book(SW_NOT_FOUND), by_the_book(0x6F00), elsewhere()]
)
def test_a_phone_that_insists_on_its_container_is_read_by_the_book(phone: Applet) -> None:
    shortcuts = Shortcuts()
    first, sent = present(phone, read_ndef_file(shortcuts))
    assert first == MESSAGE
    assert len(sent) <= BOOK + 2
    second, sent = present(phone, read_ndef_file(shortcuts))
    assert second == MESSAGE
    assert len(sent) <= BOOK


def test_a_refused_short_cut_is_tried_again_after_a_while() -> None:
    shortcut = Shortcut()
    assert shortcut.due()
    shortcut.refused()
    assert [shortcut.due() for _ in range(SHORTCUT_REST + 1)] == [False] * SHORTCUT_REST + [True]
    assert shortcut.due()


@pytest.mark.parametrize("size", [1, PIECE - 2, PIECE - 1, PIECE, 600, 2_000])
@pytest.mark.parametrize("phone", [tolerant, strict, elsewhere])
def test_any_length_is_read_the_same_with_and_without(size: int, phone: Callable[[bytes], Applet]) -> None:
    message = bytes(number % 251 for number in range(size))
    assert present(phone(message), read_ndef_file(Shortcuts()))[0] == message
    assert present(phone(message), read_ndef_file())[0] == message


def test_bytes_that_come_with_the_end_of_the_file_are_taken() -> None:
    applet = tolerant()

    def warning(command: Command) -> Response:
        response = applet(command)
        short = command.ins == INS_READ_BINARY and len(response.data) < (command.le or 0)
        return Response(SW_END_OF_FILE, response.data) if short else response

    message, sent = present(warning, read_ndef_file(Shortcuts()))
    assert message == MESSAGE
    assert len(sent) == 3


def test_what_a_file_holds_beyond_its_message_is_not_read_as_message() -> None:
    padded = NdefApplet(MESSAGE + bytes(40))
    padded._files[USUAL_NDEF_FILE] = len(MESSAGE).to_bytes(2) + MESSAGE + bytes(40)
    assert present(padded.process, read_ndef_file(Shortcuts()))[0] == MESSAGE


def test_more_bytes_than_were_asked_for_are_not_taken() -> None:
    applet = tolerant()

    def generous(command: Command) -> Response:
        if command.ins == INS_READ_BINARY and command.le == PIECE:
            return Response(SW_OK, bytes(PIECE + 1))
        return applet(command)

    shortcuts = Shortcuts()
    assert present(generous, read_ndef_file(shortcuts))[0] == MESSAGE
    assert not shortcuts.whole.due()


def test_a_file_that_is_not_ready_is_polled_and_nothing_counts_as_refused() -> None:
    shortcuts = Shortcuts()
    with pytest.raises(NotReadyError):
        present(tolerant(b""), read_ndef_file(shortcuts))
    assert shortcuts.direct.due()
    assert shortcuts.whole.due()


def test_negotiation_agrees_on_the_same_with_fewer_commands() -> None:
    shortcuts = Shortcuts()
    plain, book = present(NegotiatedNdefApplet(lambda _: SELECT).process, engage(REQUEST))
    short, sent = present(NegotiatedNdefApplet(lambda _: SELECT).process, engage(REQUEST, shortcuts))
    assert short == plain
    assert len(book) - len(sent) == 2
    again, sent = present(NegotiatedNdefApplet(lambda _: SELECT, not_ready=2).process, engage(REQUEST, shortcuts))
    assert again == plain


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    st.lists(
        st.one_of(
            st.just(b"\x90\x00"),
            st.binary(max_size=20),
            st.binary(max_size=PIECE).map(lambda data: data + b"\x90\x00"),
            st.just(bytes.fromhex("000f207fff7fff0406e1047fff00ff9000")),
        ),
        max_size=12,
    )
)
def test_any_answers_end_in_one_of_two_errors(answers: list[bytes]) -> None:
    steps = read_ndef_file(Shortcuts())
    left = iter(answers)
    try:
        step = next(steps)
        while True:
            step = steps.send(b"" if isinstance(step, Pause) else next(left, b"\x6f\x00"))
    except (StopIteration, HandoverError, NotReadyError):
        pass
