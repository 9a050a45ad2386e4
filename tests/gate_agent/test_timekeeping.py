"""The gate's time: how good it is, and what nobody but the controller's signature or a guard can make it."""

from __future__ import annotations

import itertools
import json
import struct
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate_agent.timekeeping import (
    BUILT,
    MAX_BEACONS,
    STA_NANO,
    STA_UNSYNC,
    TIME_ERROR,
    TIMEX_BYTES,
    Detail,
    KernelState,
    Settings,
    Source,
    TimeFacts,
    Timekeeper,
    parse_timex,
    read_kernel,
)
from policy.situation import ClockQuality

START = datetime(2026, 11, 24, 9, tzinfo=UTC)
SYNCED = KernelState(True, 12, 0.0)
UNSYNCED = KernelState(False, 16_000, 0.0)
HOUR = 3600.0


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def keeper(records: datetime | None = None, **more: float) -> Timekeeper:
    return Timekeeper(Settings(**more), records=records)  # type: ignore[arg-type]  # whole numbers where the field wants them


def trusted() -> Timekeeper:
    """Synchronised at START, ten seconds after boot."""
    found = keeper()
    assert found.observe(START, 10, SYNCED).quality is ClockQuality.SYNCED
    return found


def short(facts: TimeFacts) -> tuple[ClockQuality, Detail]:
    return facts.quality, facts.detail


# The kernel.


def timex(offset: int = 0, maxerror: int = 0, status: int = 0) -> bytes:
    """struct timex as x86-64 Linux fills it."""
    return struct.pack("=I4xqqqqi", 0, offset, 0, maxerror, 500, status).ljust(TIMEX_BYTES, b"\0")


@pytest.mark.parametrize(
    ("raw", "returned", "state"),
    [
        (timex(maxerror=11_001), 0, KernelState(True, 12, 0.0)),
        (timex(maxerror=500, offset=2500), 0, KernelState(True, 1, 2.5)),
        (timex(maxerror=500, offset=-2_500_000, status=STA_NANO), 0, KernelState(True, 1, -2.5)),
        (timex(maxerror=16_000_000, status=STA_UNSYNC), TIME_ERROR, KernelState(False, 16_000, 0.0)),
        (timex(maxerror=500), TIME_ERROR, KernelState(False, 1, 0.0)),
        (timex(maxerror=500, status=STA_UNSYNC), 0, KernelState(False, 1, 0.0)),
        (timex(maxerror=500), 1, KernelState(True, 1, 0.0)),  # TIME_INS: a leap second tonight
    ],
)
def test_the_kernels_state_is_read_from_its_bytes(raw: bytes, returned: int, state: KernelState) -> None:
    assert parse_timex(raw, returned) == state


def test_the_bytes_that_a_kernel_gave_without_a_time_source() -> None:
    """Recorded on Linux x86-64 (strace: status=STA_UNSYNC, maxerror=16000000, tolerance=32768000, tick=10000)."""
    raw = struct.pack(
        "=I4xqqqqi4xqqqqqqqqi4xqqqqqi", 0, 0, 0, 16000000, 16000000, 64, 2, 1, 32768000, 1795548370, 425799, 10000, 0, 0, 0,
        0, 0, 0, 0, 0, 0
    ).ljust(TIMEX_BYTES, b"\0")  # fmt: skip
    assert parse_timex(raw, TIME_ERROR) == KernelState(False, 16_000, 0.0)


@pytest.mark.parametrize(
    ("raw", "returned"),
    [(timex()[:-1], 0), (timex() + b"\0", 0), (b"", 0), (timex(), -1), (timex(maxerror=-1), 0)],
)
def test_what_is_no_answer_of_adjtimex_is_an_error(raw: bytes, returned: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_timex(raw, returned)


def test_this_machines_kernel_can_be_read_without_any_right() -> None:
    state = read_kernel()
    if state is None:
        pytest.skip("a sandbox here bars adjtimex, or the machine is no 64-bit one")
    assert state.max_error_ms >= 0


# Quality and bound.


def test_a_gate_that_nobody_told_the_time_says_unset() -> None:
    facts = keeper().observe(START, 10, UNSYNCED)
    assert short(facts) == (ClockQuality.UNSET, Detail.NEVER_SET)
    assert (facts.error_ms, facts.since_boot_s, facts.clk()) == (None, 10, {"q": "unset"})


def test_a_synchronised_kernel_gives_its_own_bound() -> None:
    facts = keeper().observe(START, 10, SYNCED)
    assert short(facts) == (ClockQuality.SYNCED, Detail.NONE)
    assert facts.clk() == {"q": "synced", "err_ms": 12}


@pytest.mark.parametrize("kernel", [UNSYNCED, None], ids=["unsynchronised", "cannot be asked"])
def test_in_holdover_the_bound_grows_with_the_drift(kernel: KernelState | None) -> None:
    keeping = trusted()
    facts = keeping.observe(at(HOUR), 10 + HOUR, kernel)
    assert short(facts) == (ClockQuality.HOLDOVER, Detail.NOT_SYNCED)
    assert facts.error_ms == 12 + 180  # 50 ppm of an hour
    later = keeping.observe(at(2 * HOUR), 10 + 2 * HOUR, kernel)
    assert later.error_ms == 12 + 360


def test_a_bound_shrinks_again_with_the_next_synchronisation() -> None:
    keeping = trusted()
    keeping.observe(at(HOUR), 10 + HOUR, UNSYNCED)
    assert keeping.observe(at(HOUR + 1), 11 + HOUR, SYNCED).error_ms == 12


def test_a_small_step_is_taken_and_counts_into_the_bound() -> None:
    facts = trusted().observe(at(1.4), 10, UNSYNCED)
    assert facts.quality is ClockQuality.HOLDOVER
    assert facts.error_ms == 12 + 1400


def test_a_leap_second_is_no_step() -> None:
    assert trusted().observe(at(59), 70, SYNCED).quality is ClockQuality.SYNCED


def test_a_gate_that_slept_has_not_stepped() -> None:
    """Seconds since boot count suspended ones; CLOCK_MONOTONIC would not."""
    assert trusted().observe(at(9 * HOUR), 10 + 9 * HOUR, SYNCED).quality is ClockQuality.SYNCED


def test_the_installer_may_vouch_for_the_hardware_clock() -> None:
    keeping = keeper(boot_error_ms=5000)
    facts = keeping.observe(START, 10, UNSYNCED)
    assert short(facts) == (ClockQuality.HOLDOVER, Detail.HARDWARE_CLOCK)
    assert facts.error_ms == 5000
    assert keeping.observe(at(86400), 20, UNSYNCED).quarantined


def test_a_hardware_clock_below_the_floor_is_not_vouched_for_and_not_later_either() -> None:
    keeping = keeper(boot_error_ms=5000)
    assert short(keeping.observe(datetime(2000, 1, 1, tzinfo=UTC), 10, UNSYNCED))[1] is Detail.BELOW_FLOOR
    assert short(keeping.observe(START, 20, UNSYNCED)) == (ClockQuality.UNSET, Detail.NEVER_SET)


# Floor.


@pytest.mark.parametrize("signed", [{}, {"issuers": at(-100), "status": at(-50)}, {"status": at(900)}])
@pytest.mark.parametrize("records", [None, at(-10), at(600)])
def test_the_floor_is_the_newest_of_records_signed_dates_and_build(
    signed: dict[str, datetime], records: datetime | None
) -> None:
    keeping = Timekeeper(signed=signed, records=records)
    assert keeping.floor == max([BUILT, *signed.values(), *([records] if records else [])])
    below = keeping.floor - timedelta(milliseconds=1)
    assert short(keeping.observe(below, 1, SYNCED)) == (ClockQuality.UNSET, Detail.BELOW_FLOOR)
    assert keeping.observe(keeping.floor, 2, SYNCED).quality is ClockQuality.SYNCED


def test_a_newer_list_raises_the_floor_and_an_older_one_does_not_lower_it() -> None:
    keeping = keeper()
    keeping.raise_floor(at(500))
    keeping.raise_floor(at(-500))
    assert keeping.floor == at(500)


FLOOR = START - timedelta(milliseconds=12 + Settings().step_ms)
"""Of `trusted`: no earlier can it have been."""


def test_time_that_was_trusted_less_its_error_is_the_floor_of_what_follows() -> None:
    assert trusted().floor == FLOOR


def test_a_correction_back_within_the_error_is_taken_and_bars_nobody_meanwhile() -> None:
    keeping = keeper(boot_error_ms=600_000)
    assert keeping.observe(at(300), 10, UNSYNCED).detail is Detail.HARDWARE_CLOCK  # five minutes ahead
    assert keeping.observe(at(15), 25, SYNCED).quality is ClockQuality.SYNCED


def test_the_second_of_a_leap_bars_nobody() -> None:
    keeping = trusted()
    keeping.observe(at(100), 110, SYNCED)
    assert keeping.observe(at(99.5), 110.5, SYNCED).quality is ClockQuality.SYNCED


# Steps.


@pytest.mark.parametrize("kernel", [SYNCED, UNSYNCED, None])
def test_a_forward_step_is_quarantined_whatever_the_time_service_says(kernel: KernelState | None) -> None:
    keeping = trusted()
    for look in range(100):
        facts = keeping.observe(at(HOUR + look), 10 + look, kernel)
        assert short(facts) == (ClockQuality.UNSET, Detail.FORWARD_STEP)
        assert facts.quarantined
        assert facts.floor == FLOOR, "a quarantined time is no floor"


@pytest.mark.parametrize("kernel", [SYNCED, UNSYNCED, None])
def test_a_backward_step_is_no_time_either(kernel: KernelState | None) -> None:
    keeping = trusted()
    keeping.observe(at(HOUR), 10 + HOUR, SYNCED)
    facts = keeping.observe(at(0), 11 + HOUR, kernel)
    assert facts.quality is ClockQuality.UNSET
    assert facts.detail is Detail.BELOW_FLOOR


def test_a_backward_step_that_stays_above_the_floor_is_quarantined() -> None:
    """No observation for an hour: the floor has not moved meanwhile."""
    facts = trusted().observe(at(60), 10 + HOUR, SYNCED)
    assert short(facts) == (ClockQuality.UNSET, Detail.BACKWARD_STEP)


def test_a_step_that_is_undone_leaves_nothing_to_confirm() -> None:
    keeping = trusted()
    assert keeping.observe(at(HOUR), 20, SYNCED).quarantined
    assert keeping.observe(at(20), 30, UNSYNCED).quality is ClockQuality.HOLDOVER


@pytest.mark.parametrize(("source", "bound"), [(Source.CONTROLLER, 2000), (Source.GUARD, 90_000)])
def test_a_confirmation_that_agrees_ends_the_quarantine(source: Source, bound: int) -> None:
    keeping = trusted()
    assert keeping.observe(at(HOUR), 20, UNSYNCED).quarantined
    assert keeping.confirm(at(HOUR), source, wall=at(HOUR), monotonic=20)
    facts = keeping.observe(at(HOUR), 20, UNSYNCED)
    assert short(facts) == (ClockQuality.HOLDOVER, Detail.CONFIRMED)
    assert facts.error_ms == bound
    assert keeping.observe(at(HOUR + 5), 25, SYNCED).error_ms == 12


@pytest.mark.parametrize(("source", "apart"), [(Source.CONTROLLER, 2.1), (Source.GUARD, 91.0)])
def test_a_confirmation_that_does_not_agree_changes_nothing(source: Source, apart: float) -> None:
    keeping = trusted()
    assert keeping.observe(at(HOUR), 20, UNSYNCED).quarantined
    assert not keeping.confirm(at(HOUR + apart), source, wall=at(HOUR), monotonic=20)
    assert keeping.observe(at(HOUR), 20, UNSYNCED).quarantined


def test_a_guard_helps_a_gate_that_boots_without_a_time_source() -> None:
    keeping = keeper()
    assert keeping.observe(START, 10, None).quality is ClockQuality.UNSET
    assert keeping.confirm(at(30), Source.GUARD, wall=START, monotonic=10)
    facts = keeping.observe(START, 10, None)
    assert (facts.quality, facts.error_ms) == (ClockQuality.HOLDOVER, 120_000)


def test_one_wrong_time_in_the_journal_does_not_bar_the_gate_for_good() -> None:
    keeping = keeper(records=datetime(2040, 1, 1, tzinfo=UTC))
    assert short(keeping.observe(START, 10, SYNCED))[1] is Detail.BELOW_FLOOR
    assert not keeping.confirm(START, Source.CONTROLLER, wall=START, monotonic=10), "an old signed time would do it"
    assert keeping.confirm(START, Source.GUARD, wall=START, monotonic=10)
    assert keeping.observe(at(1), 11, SYNCED).quality is ClockQuality.SYNCED


@pytest.mark.parametrize("source", Source)
def test_nobody_confirms_a_time_before_a_signed_date(source: Source) -> None:
    keeping = Timekeeper(signed={"issuers": at(600)}, records=None)
    assert not keeping.confirm(START, source, wall=START, monotonic=10)


class Signer:
    """Accepts one message."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def time_of(self, raw: bytes) -> datetime:
        if raw != b"signed":
            raise ValueError("no signature of the controller")
        return self._moment


def test_a_signed_time_confirms_and_an_unsigned_one_is_an_error() -> None:
    keeping = trusted()
    assert keeping.observe(at(HOUR), 20, UNSYNCED).quarantined
    with pytest.raises(ValueError, match="signature"):
        keeping.confirm_signed(b"forged", Signer(at(HOUR)), wall=at(HOUR), monotonic=20)
    assert keeping.observe(at(HOUR), 20, UNSYNCED).quarantined
    assert keeping.confirm_signed(b"signed", Signer(at(HOUR)), wall=at(HOUR), monotonic=20)
    assert not keeping.observe(at(HOUR), 20, UNSYNCED).quarantined


def test_an_old_signed_time_sent_again_does_not_turn_the_clock_back() -> None:
    keeping = trusted()
    keeping.observe(at(HOUR), 10 + HOUR, SYNCED)
    assert not keeping.confirm_signed(b"signed", Signer(at(60)), wall=at(60), monotonic=20 + HOUR)


# A restart of the agent.


def test_a_restarted_agent_still_knows_that_the_clock_was_stepped() -> None:
    kept = trusted().kept()
    assert kept is not None
    again = keeper()
    assert again.restore(kept, 30)
    assert short(again.observe(at(HOUR), 30, SYNCED)) == (ClockQuality.UNSET, Detail.FORWARD_STEP)
    assert again.observe(at(21), 31, SYNCED).quality is ClockQuality.SYNCED


def test_a_restarted_agent_goes_on_in_holdover() -> None:
    kept = trusted().kept()
    assert kept is not None
    again = keeper()
    assert again.restore(kept, 10 + HOUR)
    facts = again.observe(at(HOUR), 10 + HOUR, UNSYNCED)
    assert short(facts) == (ClockQuality.HOLDOVER, Detail.NOT_SYNCED)
    assert facts.error_ms is not None
    assert 12 + 180 <= facts.error_ms <= 12 + 180 + 3


def test_what_another_boot_kept_says_nothing() -> None:
    kept = trusted().kept()
    assert kept is not None
    again = keeper()
    assert not again.restore(kept, 5)
    assert short(again.observe(START, 5, UNSYNCED))[1] is Detail.NEVER_SET


def test_nothing_trusted_is_nothing_kept() -> None:
    keeping = keeper()
    keeping.observe(START, 10, UNSYNCED)
    assert keeping.kept() is None


GOOD = {"v": 1, "wall_ms": 1000, "boot_ms": 1000, "error_ms": 5, "detail": "confirmed"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff" * 40,
        b"x" * 600,
        json.dumps({**GOOD, "wall_ms": 2**63 - 1}).encode(),
        json.dumps({**GOOD, "detail": "fine"}).encode(),
        json.dumps({**GOOD, "error_ms": -1}).encode(),
        json.dumps({**GOOD, "more": 1}).encode(),
    ],
    ids=range(9),
)
def test_a_damaged_file_is_not_taken(raw: bytes) -> None:
    keeping = keeper()
    assert not keeping.restore(raw, 100)
    assert keeping.kept() is None


# The controller's beacon.


def test_a_beacon_measures_offset_and_drift() -> None:
    keeping = trusted()
    for number in range(20):
        seconds = number * 30.0
        keeping.beacon(at(seconds * 1.00002) + timedelta(milliseconds=250), 10 + seconds)
    facts = keeping.observe(at(570), 580, SYNCED)
    assert facts.drift_ppm == pytest.approx(20, abs=0.1)
    assert facts.offset_ms == pytest.approx(250 + 570 * 0.02, abs=2)


def test_half_the_round_trip_is_the_beacons_way() -> None:
    keeping = trusted()
    for number in range(5):
        keeping.beacon(at(number), 10 + number, round_trip_s=0.2)
    assert keeping.observe(at(5), 15, SYNCED).offset_ms == pytest.approx(100, abs=0.1)


def test_few_beacons_or_a_short_time_measure_nothing() -> None:
    keeping = trusted()
    for number in range(4):
        keeping.beacon(at(number * 100), 10 + number * 100)
    facts = keeping.observe(at(300), 310, SYNCED)
    assert (facts.offset_ms, facts.drift_ppm) == (None, None)
    hasty = trusted()
    for number in range(10):
        hasty.beacon(at(number), 10 + number)
    assert hasty.observe(at(10), 20, SYNCED).drift_ppm is None


def test_the_series_is_bounded_and_takes_only_what_is_newer() -> None:
    keeping = trusted()
    for number in range(10 * MAX_BEACONS):
        keeping.beacon(at(number * 30), 10 + number * 30)
        keeping.beacon(at(9e6), 10 + number * 30)
    assert len(keeping._beacons) == MAX_BEACONS
    last = (10 * MAX_BEACONS - 1) * 30
    facts = keeping.observe(at(last), 10 + last, SYNCED)
    assert facts.offset_ms == pytest.approx(0, abs=0.2)


def test_a_lying_beacon_neither_sets_nor_frees_the_clock() -> None:
    never, stepped = keeper(), trusted()
    for number in range(MAX_BEACONS):
        for keeping in (never, stepped):
            keeping.beacon(at(HOUR + number * 30), 20 + number * 30)
    seconds = MAX_BEACONS * 30.0
    assert short(never.observe(at(HOUR + seconds), 20 + seconds, UNSYNCED))[1] is Detail.NEVER_SET
    assert stepped.observe(at(HOUR + seconds), 20 + seconds, SYNCED).quarantined


# Any clock.

STEPS = st.lists(
    st.tuples(
        st.floats(0, 7200),  # seconds that pass
        st.sampled_from([0.0, 0.0, 0.0, 0.5, -0.5, 1.0, 5.0, -5.0, 3600.0, -3600.0, 10 * 86400.0, -10 * 86400.0]),
        st.sampled_from([SYNCED, UNSYNCED, None]),
    ),
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_never_good_while_quarantined_and_the_floor_never_falls(
    steps: list[tuple[float, float, KernelState | None]],
) -> None:
    keeping, boot, wall = keeper(), 10.0, START
    floors = [keeping.floor]
    trusted_line: list[tuple[float, datetime]] = []
    for passed, step, kernel in steps:
        boot, wall = boot + passed, wall + timedelta(seconds=passed + step)
        facts = keeping.observe(wall, boot, kernel)
        floors.append(facts.floor)
        assert (facts.error_ms is None) is (facts.quality is ClockQuality.UNSET)
        if facts.quarantined:
            assert facts.quality is ClockQuality.UNSET
        if facts.quality is ClockQuality.UNSET:
            continue
        assert facts.now >= facts.floor
        assert facts.quality is not ClockQuality.SYNCED or (kernel is not None and kernel.synced)
        if trusted_line:
            # Nothing that is trusted lies further from what was trusted before than drift and a small step explain.
            boot_before, wall_before = trusted_line[-1]
            apart = abs((wall - wall_before).total_seconds() - (boot - boot_before))
            assert apart < 60
        trusted_line.append((boot, wall))
    assert all(before <= after for before, after in itertools.pairwise(floors))
