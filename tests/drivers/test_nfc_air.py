"""The air as arithmetic, and the same exchange frame by frame through nfcpy and a modelled PN532: both say the same."""

from __future__ import annotations

import random

import pytest

from drivers.nfc.link import NfcLink
from drivers.ports import LinkLostError, NfcCard
from mdoc.apdu import MDOC_AID, Command, EnvelopeApplet
from testbed.phone.nfc_air import (
    CCID,
    CCID_106,
    CONTROLLER_S,
    FRAME_DELAY_S,
    FWI,
    PN532,
    TYPICAL,
    UART_BYTE_S,
    Air,
    BitRate,
    Lognormal,
    PhoneModel,
    PhoneTimes,
    Step,
    frame_time,
    pieces,
    replay,
    step_of,
)
from testbed.phone.nfc_chip import IN_COMMUNICATE_THRU, ChipReader, Pn532, Presentation
from testbed.phone.nfc_delay import DelayedPhone, DelayedReader, Stopwatch
from testbed.phone.nfc_time import ModelClock

STEADY = PhoneModel(apdu=Lognormal(0.010, 0.0), byte=0.0, answer=Lognormal(0.040, 0.0), device=Lognormal(1.0, 0.0))
SIZES = [(5, 2), (253, 253), (254, 254), (900, 2_100), (5_000, 5_000)]


def steady() -> PhoneTimes:
    return STEADY.phone(random.Random(1))


def answering(size: int) -> bytes:
    return bytes(size - 2) + b"\x90\x00"


def test_a_frame_of_256_bytes_takes_22_ms_at_106_and_a_quarter_at_424() -> None:
    slow, fast = (frame_time(256, rate) for rate in BitRate)
    assert slow == pytest.approx((3 + 9 * 256) * 128 / 13.56e6)
    assert 0.0217 < slow < 0.0219
    assert slow == pytest.approx(4 * fast)


def test_only_a_fast_card_begins_with_a_subcarrier() -> None:
    assert frame_time(10, BitRate.KBIT_106, from_card=True) == frame_time(10, BitRate.KBIT_106)
    extra = frame_time(10, BitRate.KBIT_424, from_card=True) - frame_time(10, BitRate.KBIT_424)
    assert extra == pytest.approx(512 / 13.56e6)


def test_blocks_fill_the_frame_and_an_empty_message_is_one_block() -> None:
    assert pieces(0, 256) == [0]
    assert pieces(253, 256) == [253]
    assert pieces(254, 256) == [253, 1]
    assert sum(pieces(5_000, 64)) == 5_000


def test_five_kilobytes_each_way_are_39_frame_pairs_and_the_better_part_of_a_second() -> None:
    """io-lab 1a: 39 pairs and at least 0.87 s of air at 106, 0.22 s at 424."""
    slow, fast = (Air(reader).exchange(5_000, 5_000, 0.0) for reader in (PN532, CCID))
    assert slow.frames == fast.frames == 39
    assert 0.86 < slow.air < 0.90
    assert 0.21 < fast.air < 0.24


def test_a_busy_phone_asks_for_time_after_a_part_of_what_it_has() -> None:
    air = Air(PN532)
    assert [air.extensions(seconds) for seconds in (0.0, 0.046, 0.047, 0.5, 0.6)] == [0, 0, 1, 1, 2]
    quick, slow = air.exchange(20, 20, 0.01), air.exchange(20, 20, 0.1)
    assert (quick.frames, slow.frames) == (1, 2)
    assert slow.phone == 0.1
    assert slow.total - quick.total > 0.09


def test_activation_is_at_106_and_a_fast_reader_adds_one_frame() -> None:
    slow, fast = Air(PN532).activation(), Air(CCID).activation()
    assert (slow.frames, fast.frames) == (4, 5)
    assert 0.005 < slow.total < fast.total < 0.012


def test_a_command_belongs_to_one_part_of_a_presentation() -> None:
    assert step_of(bytes.fromhex("00A4040007D276000085010100")) is Step.ENGAGEMENT
    assert step_of(bytes.fromhex("00B0000002")) is Step.ENGAGEMENT
    assert step_of(Command(0, 0xA4, 4, 0, MDOC_AID, 256).encode()) is Step.SELECT
    assert step_of(bytes.fromhex("00C0000000")) is Step.TRANSFER
    assert step_of(bytes.fromhex("10C3000001AA")) is Step.TRANSFER


def test_a_recorded_exchange_is_timed_without_being_run() -> None:
    recorded = [(b"\x00\xa4\x04\x00", b"\x90\x00"), (b"\x00\xc3\x00\x00\x01\x53", answering(900))]
    found = replay(recorded, Air(PN532), steady())
    assert found[Step.ENGAGEMENT].phone == pytest.approx(0.010)
    assert found[Step.TRANSFER].phone == pytest.approx(0.050)
    assert found[Step.SELECT].total == 0.0
    assert replay(recorded, Air(CCID), steady())[Step.TRANSFER].air < found[Step.TRANSFER].air / 3


def test_the_phones_times_are_spread_as_said_and_the_same_for_the_same_seed() -> None:
    draws = sorted(TYPICAL.apdu.draw(source) for source in [random.Random(7)] for _ in range(2_000))
    assert draws[1_000] == pytest.approx(TYPICAL.apdu.median, rel=0.05)
    assert draws[1_900] == pytest.approx(TYPICAL.apdu.median * 1.638, rel=0.08)
    assert TYPICAL.phone(random.Random(3)).factor == TYPICAL.phone(random.Random(3)).factor


def test_the_estimated_phone_pays_and_transfers_as_fast_as_published() -> None:
    """250 to 350 ms for a payment tap of 9 short APDUs (access-control 2a); 3 to 10 kB/s in APDUs of 255 bytes (korea, NFC)."""
    source, air = random.Random(5), Air(CCID_106)
    payments, rates = [], []
    for _ in range(500):
        phone = TYPICAL.phone(source)
        reads = [(b"\x00\xb2" + bytes(18), bytes(80))] * 8
        signature = (b"\x00\xc3" + bytes(60), bytes(60))
        spent = replay([*reads, signature], air, phone)
        payments.append(air.activation().total + sum(each.total for each in spent.values()))
        chained = (b"\x10\xc3" + bytes(259), b"\x90\x00")
        rates.append(255 / replay([chained], air, phone)[Step.TRANSFER].total)
    payments.sort()
    rates.sort()
    assert 0.23 < payments[25] < payments[475] < 0.37
    assert 3_000 < rates[25] < rates[475] < 10_000


# Frame by frame -------------------------------------------------------------------------------------------------------


class Bench:
    """The gate's reader over a chip with `size` bytes of answer to everything."""

    def __init__(self, size: int = 2, *, fwi: int = FWI) -> None:
        self.clock = ModelClock()
        self.chip = Pn532(self.clock)
        self.presentation = Presentation(lambda _: answering(size), steady(), fwi=fwi)
        self.reader = ChipReader(self.chip, self.clock, ecp=False)

    async def card(self) -> NfcCard:
        self.chip.present(self.presentation)
        await self.reader.start()
        return await anext(self.reader.cards())

    async def stop(self, card: NfcCard) -> None:
        await card.release()
        await self.reader.stop()


@pytest.mark.parametrize(("command", "response"), SIZES)
async def test_the_arithmetic_says_what_the_frames_take(command: int, response: int) -> None:
    bench = Bench(response)
    card = await bench.card()
    await card.transceive(bytes(100))  # from here on the chip is set up
    frames, begin = bench.presentation.frames, bench.clock.monotonic()
    await card.transceive(b"\x01" + bytes(command - 1))
    expected = Air(PN532).exchange(command, response, 0.010)
    assert bench.presentation.frames - frames == expected.frames
    # The host's frames for more than 255 bytes have three bytes more around them; that is what the arithmetic leaves out.
    assert bench.clock.monotonic() - begin == pytest.approx(expected.total, abs=12 * expected.frames * UART_BYTE_S)
    await bench.stop(card)


async def test_the_chip_is_set_up_once_and_then_one_command_carries_a_frame() -> None:
    bench = Bench()
    card = await bench.card()
    await card.transceive(bytes(1_000))
    bench.chip.commands.clear()
    await card.transceive(bytes(1_000))
    assert bench.chip.commands == {IN_COMMUNICATE_THRU: 4}
    await bench.stop(card)


async def test_a_phone_that_asks_for_time_gets_it_from_the_chip_too() -> None:
    bench = Bench(fwi=4)  # 4.8 ms; the phone takes 10
    card = await bench.card()
    assert await card.transceive(bytes(10)) == b"\x90\x00"
    assert bench.presentation.extensions == 1
    assert await card.transceive(bytes(10)) == b"\x90\x00"
    await bench.stop(card)


async def test_a_phone_that_leaves_is_lost_and_the_next_one_is_served() -> None:
    bench = Bench()
    card = await bench.card()
    bench.chip.present(None)
    with pytest.raises(LinkLostError):
        await card.transceive(bytes(10))
    await card.release()
    bench.chip.present(Presentation(lambda _: answering(7), steady()))
    following = await anext(bench.reader.cards())
    assert len(await following.transceive(bytes(10))) == 7
    await bench.stop(following)


async def test_release_deselects() -> None:
    bench = Bench()
    card = await bench.card()
    assert not bench.presentation.deselected
    await bench.stop(card)
    assert bench.presentation.deselected


# Whole APDUs ----------------------------------------------------------------------------------------------------------


async def test_a_phone_answers_after_the_time_of_the_air() -> None:
    clock = ModelClock()
    applet = EnvelopeApplet(lambda message: message[::-1])
    phone = DelayedPhone(lambda raw: applet.process(Command.parse(raw)).encode(), Air(CCID), steady(), clock.advance)
    reader = DelayedReader(clock)
    await reader.start()
    reader.present(phone)
    card = await anext(reader.cards())
    assert card.present_since == pytest.approx(Air(CCID).activation().total)
    link = NfcLink(card, clock, max_command=65_535, max_response=65_536)
    await link.send(bytes(900))
    assert await link.receive(5.0) == bytes(900)
    assert link.last_byte_at == clock.monotonic()
    assert clock.monotonic() - card.present_since == pytest.approx(phone.split.total.total)
    assert phone.split.parts[Step.TRANSFER].phone == pytest.approx(0.050)
    await link.close()
    assert phone.gone
    await reader.stop()


async def test_a_phone_may_leave_and_the_next_is_served() -> None:
    clock = ModelClock()
    reader = DelayedReader(clock)
    await reader.start()
    cards = reader.cards()
    for application, lost in ((lambda _: None, True), (lambda _: b"\x90\x00", False)):
        reader.present(DelayedPhone(application, Air(CCID), steady(), clock.advance))
        card = await anext(cards)
        if lost:
            with pytest.raises(LinkLostError):
                await card.transceive(b"\x00\xa4\x04\x00")
        else:
            assert await card.transceive(b"\x00\xa4\x04\x00") == b"\x90\x00"
        await card.release()
    await reader.stop()


def test_a_stopwatch_stands_while_the_phone_works() -> None:
    clock = ModelClock()
    stopwatch = Stopwatch(clock.monotonic)
    phone = DelayedPhone(lambda _: b"\x90\x00", Air(CCID), steady(), clock.advance, stopwatch)
    stopwatch.start()
    clock.advance(1.0)
    phone.activate()
    phone.transceive(b"\x00\xa4\x04\x00")
    clock.advance(2.0)
    stopwatch.stop()
    assert stopwatch.seconds == pytest.approx(3.0)


def test_a_turnaround_is_never_shorter_than_the_standard_allows() -> None:
    assert CONTROLLER_S > FRAME_DELAY_S
    assert Air(CCID, controller=0.0).exchange(5, 2, 0.0).turnaround == pytest.approx(2 * FRAME_DELAY_S)
