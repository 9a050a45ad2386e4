"""APDU forms, data object '53', and the ENVELOPE / GET RESPONSE exchange against its own card side and hostile ones."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import limits
from mdoc.apdu import (
    INS_GET_RESPONSE,
    MAX_OBJECT,
    MAX_ROUNDS,
    MDOC_AID,
    ApduError,
    Command,
    EnvelopeApplet,
    Response,
    command_data,
    exchange,
    response_data,
    select,
    unwrap,
    wrap,
)

FAST = settings(max_examples=200, derandomize=True, deadline=None, database=None)
SHORT, EXTENDED = (255, 256), (65_535, 65_536)


def drive(
    steps: Generator[bytes, bytes, bytes], card: Callable[[bytes], bytes], log: list[bytes] | None = None
) -> bytes:
    try:
        command = next(steps)
        while True:
            if log is not None:
                log.append(command)
            command = steps.send(card(command))
    except StopIteration as done:
        result: bytes = done.value
        return result


def mirror() -> Callable[[bytes], bytes]:
    applet = EnvelopeApplet(lambda message: message[::-1])
    return lambda raw: applet.process(Command.parse(raw)).encode()


def scripted(*answers: str) -> Callable[[bytes], bytes]:
    left = [bytes.fromhex(answer) for answer in answers]
    return lambda _: left.pop(0)


@pytest.mark.parametrize(
    ("command", "encoded"),
    [
        (Command(0x00, 0xA4, 4, 0), "00A40400"),
        (Command(0x00, 0xC0, 0, 0, le=256), "00C0000000"),
        (Command(0x00, 0xC0, 0, 0, le=1), "00C0000001"),
        (Command(0x00, 0xB0, 0, 0, le=15), "00B000000F"),
        (Command(0x10, 0xC3, 0, 0, b"\x01\x02"), "10C30000020102"),
        (Command(0x00, 0xC3, 0, 0, b"\x01\x02", 256), "00C3000002010200"),
        (Command(0x00, 0xC0, 0, 0, le=257), "00C00000000101"),
        (Command(0x00, 0xC0, 0, 0, le=65_536), "00C00000000000"),
        (Command(0x00, 0xC3, 0, 0, b"\x01\x02", 65_536), "00C300000000020102" + "0000"),
        (Command(0x10, 0xC3, 0, 0, bytes(256)), "10C30000000100" + "00" * 256),
    ],
)
def test_command_forms_of_7816_4_encode_and_parse(command: Command, encoded: str) -> None:
    assert command.encode() == bytes.fromhex(encoded)
    assert Command.parse(bytes.fromhex(encoded)) == command


@pytest.mark.parametrize(
    "raw", ["", "00A404", "00A4040003AABB", "00A4040001AABBCC", "00C30000000003AABB", "00C300000000020102030405"]
)
def test_refuses_a_command_whose_lengths_disagree(raw: str) -> None:
    with pytest.raises(ApduError):
        Command.parse(bytes.fromhex(raw))


@pytest.mark.parametrize(
    "command", [Command(0, 0xC3, data=bytes(65_536)), Command(0, 0, le=0), Command(0, 0, le=65_537)]
)
def test_refuses_to_encode_lengths_out_of_range(command: Command) -> None:
    with pytest.raises(ApduError):
        command.encode()


@pytest.mark.parametrize("raw", [b"", b"\x90", bytes(65_539)])
def test_refuses_a_response_without_status_or_too_long(raw: bytes) -> None:
    with pytest.raises(ApduError):
        Response.parse(raw)


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "5300"), (127, "537F"), (128, "538180"), (255, "5381FF"), (256, "53820100"), (65_535, "5382FFFF"),
     (65_536, "5383010000"), (limits.MAX_MESSAGE, "5383040000")],
)  # fmt: skip
def test_data_object_uses_the_shortest_length_form(size: int, head: str) -> None:
    wrapped = wrap(bytes(size))
    assert wrapped == bytes.fromhex(head) + bytes(size)
    assert unwrap(wrapped) == bytes(size)
    assert len(wrapped) <= MAX_OBJECT


def test_data_object_takes_longer_length_forms_than_needed() -> None:
    assert unwrap(bytes.fromhex("5383000001AA")) == b"\xaa"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "53",
        "5302AA",
        "5301AABB",
        "5401AA",
        "5380AA",
        "538400000001AA",
        "53FF",
        "5383FFFFFF",
        "538304000100",
        "5381",
    ],
)
def test_refuses_a_malformed_data_object(raw: str) -> None:
    with pytest.raises(ApduError):
        unwrap(bytes.fromhex(raw))


def test_refuses_to_wrap_more_than_the_limit() -> None:
    with pytest.raises(ApduError, match="limit"):
        wrap(bytes(limits.MAX_MESSAGE + 1))


@pytest.mark.parametrize("size", [0, 1, 100, 253, 254, 255, 256, 1_000, 5_000, 65_535, 70_000])
@pytest.mark.parametrize("data_limits", [SHORT, EXTENDED, (300, 500)])
def test_any_size_travels_both_ways(size: int, data_limits: tuple[int, int]) -> None:
    message = bytes(index % 251 for index in range(size))
    log: list[bytes] = []
    assert (
        drive(exchange(message, max_command=data_limits[0], max_response=data_limits[1]), mirror(), log)
        == message[::-1]
    )
    commands = [Command.parse(raw) for raw in log]
    envelopes = [command for command in commands if command.ins == 0xC3]
    assert [command.cla for command in envelopes] == [0x10] * (len(envelopes) - 1) + [0x00]
    assert [command.le for command in envelopes] == [None] * (len(envelopes) - 1) + [data_limits[1]]
    assert all(len(command.data) <= data_limits[0] for command in commands)
    if data_limits == SHORT:
        assert all(len(raw) <= 261 for raw in log), "an extended APDU went out although the card takes short ones"


def test_one_extended_envelope_carries_what_fits() -> None:
    log: list[bytes] = []
    drive(exchange(bytes(5_000), max_command=65_535, max_response=65_536), mirror(), log)
    assert len(log) == 1


def test_get_response_asks_for_what_was_announced_and_for_the_maximum_on_6100() -> None:
    log: list[bytes] = []
    card = scripted("6100", "53030161" + "02", "0203" + "9000")
    assert drive(exchange(b"m", max_command=255, max_response=256), card, log) == bytes.fromhex("010203")
    assert [Command.parse(raw).le for raw in log] == [256, 256, 2]
    assert all(Command.parse(raw).ins == INS_GET_RESPONSE for raw in log[1:])


def test_a_command_is_sent_once_more_with_the_length_that_the_card_asks_for() -> None:
    log: list[bytes] = []
    card = scripted("6C05", "530301" + "6102", "6C00", "0203" + "9000")
    assert drive(exchange(b"m", max_command=255, max_response=65_536), card, log) == bytes.fromhex("010203")
    assert [(Command.parse(raw).ins, Command.parse(raw).le) for raw in log] == [
        (0xC3, 65_536),
        (0xC3, 5),
        (INS_GET_RESPONSE, 2),
        (INS_GET_RESPONSE, 256),
    ]
    assert Command.parse(log[0]).data == Command.parse(log[1]).data


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (["6C05", "6C05"], "6C05"),
        (["6102", "6C01", "6C01"], "no data"),
        (["6F00"], "6F00"),
        (["53016985"], "6985"),
        (["9000"], "incomplete"),
        (["5302AA9000"], "incomplete"),
        (["5402AABB9000"], "tag 53"),
        (["5301AABB9000"], "trailing"),
        (["5301AA6102", "BBCC9000"], "trailing"),
        (["5384000000016100"], "length form"),
        (["5383FFFFFF6100"], "limit"),
        (["6110", "6110"], "no data"),
        (["6110", "9000"], "no data"),
        (["6110", "6A82"], "no data"),
        (["90"], "length out of range"),
        ([""], "length out of range"),
    ],
)
def test_refuses_a_card_that_breaks_the_exchange(answers: list[str], reason: str) -> None:
    with pytest.raises(ApduError, match=reason):
        drive(exchange(b"m", max_command=255, max_response=256), scripted(*answers))


def test_refuses_a_status_other_than_9000_inside_a_chain() -> None:
    with pytest.raises(ApduError, match="inside a chain"):
        drive(exchange(bytes(400), max_command=255, max_response=256), scripted("6883"))


def test_gives_up_on_61xx_that_trickles_for_ever() -> None:
    calls = 0

    def trickle(_: bytes) -> bytes:
        nonlocal calls
        calls += 1
        return bytes.fromhex("5383040000" if calls == 1 else "00") + b"\x61\x00"

    with pytest.raises(ApduError, match="rounds"):
        drive(exchange(b"m", max_command=255, max_response=256), trickle)
    assert calls == MAX_ROUNDS + 1


def test_stops_a_giant_answer_as_soon_as_it_overruns_its_length() -> None:
    calls = 0

    def flood(_: bytes) -> bytes:
        nonlocal calls
        calls += 1
        return (bytes.fromhex("53820200") if calls == 1 else b"") + bytes(200) + b"\x61\x00"

    with pytest.raises(ApduError, match="trailing"):
        drive(exchange(b"m", max_command=255, max_response=256), flood)
    assert calls == 3


def test_selects_the_mdoc_application() -> None:
    steps = select(MDOC_AID)
    assert next(steps) == bytes.fromhex("00A4040007A000000248040000")
    with pytest.raises(StopIteration):
        steps.send(b"\x90\x00")
    for answer in ("6F0084009000", "6110"):  # what a card says of itself, or would
        steps = select(MDOC_AID)
        next(steps)
        with pytest.raises(StopIteration):
            steps.send(bytes.fromhex(answer))
    steps = select(MDOC_AID)
    next(steps)
    with pytest.raises(ApduError, match="6A82"):
        steps.send(b"\x6a\x82")


@pytest.mark.parametrize(
    ("apdu", "data"), [(0, 255), (261, 255), (264, 255), (265, 256), (65_544, 65_535), (1 << 20, 65_535)]
)
def test_command_data_limit_uses_extended_length_only_where_it_carries_more(apdu: int, data: int) -> None:
    assert command_data(apdu) == data


def test_response_data_limit() -> None:
    assert [response_data(size) for size in (0, 258, 300, 65_538, 1 << 20)] == [256, 256, 298, 65_536, 65_536]


def test_applet_refuses_an_endless_chain_and_takes_the_next_message() -> None:
    applet = EnvelopeApplet(lambda message: message)
    statuses = {applet.process(Command(0x10, 0xC3, data=bytes(65_535))).sw for _ in range(6)}
    assert 0x6700 in statuses
    applet = EnvelopeApplet(lambda message: message)
    assert applet.process(Command(0x00, 0xC3, data=b"\x54\x00", le=256)).sw == 0x6700
    assert applet.process(Command(0x00, 0xC3, data=b"\x53\x01a", le=256)) == Response(0x9000, b"\x53\x01a")


def test_applet_answers_other_commands_with_a_status() -> None:
    applet = EnvelopeApplet(lambda _: None)
    assert applet.process(Command(0x00, INS_GET_RESPONSE, le=256)).sw == 0x6985
    assert applet.process(Command(0x00, 0xCA, le=256)).sw == 0x6D00
    assert applet.process(Command(0x00, 0xC3, data=b"\x53\x00", le=256)) == Response(0x9000)


def test_applet_without_le_only_announces() -> None:
    applet = EnvelopeApplet(lambda _: bytes(10))
    assert applet.process(Command(0x00, 0xC3, data=b"\x53\x00")) == Response(0x610C)
    assert applet.process(Command(0x00, INS_GET_RESPONSE, le=12)).sw == 0x9000


@FAST
@given(st.binary(max_size=400))
def test_any_bytes_parse_or_end_in_one_error(raw: bytes) -> None:
    for parser in (Command.parse, Response.parse, unwrap):
        try:
            parser(raw)
        except ApduError:
            continue


@FAST
@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=8))
def test_any_answers_of_a_card_end_in_a_message_or_one_error(answers: list[bytes]) -> None:
    left = list(answers)
    try:
        drive(exchange(b"m", max_command=255, max_response=256), lambda _: left.pop(0) if left else b"\x90\x00")
    except ApduError:
        return
