"""What is in force at a lane outlives everything: restart, kill -9, a torn file, a full disk. A damaged file opens nothing."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate_agent.modes import DAMAGED_ORDERS, KeptModes, Modes
from gate_agent.passage import Orders, State
from gate_agent.passage.machine import MAX_LEVEL

LANES = ("lane-1", "lane-2")
CHECKOUT = Path(__file__).resolve().parents[2]
LOCKED = Orders(lockdown=3)
ANY_ORDERS = st.builds(Orders, st.booleans(), st.booleans(), st.integers(0, MAX_LEVEL), st.booleans())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "modes.db"


def found(path: Path) -> tuple[dict[str, Orders], int, str | None]:
    modes = Modes(path, LANES)
    try:
        return modes.load(), modes.sequence, modes.damaged
    finally:
        modes.close()


def written(path: Path) -> None:
    modes = Modes(path, LANES)
    modes.save("lane-1", LOCKED)
    modes.adopt(7, {"lane-2": Orders(disabled=True, fire=True)})
    modes.close()


WRITTEN = {"lane-1": LOCKED, "lane-2": Orders(disabled=True, fire=True)}


def test_a_first_start_has_no_orders_and_no_damage(path: Path) -> None:
    assert found(path) == ({}, 0, None)
    assert found(path) == ({}, 0, None)


def test_orders_and_sequence_are_there_after_a_restart(path: Path) -> None:
    written(path)
    assert found(path) == (WRITTEN, 7, None)


@given(orders=st.dictionaries(st.sampled_from(["lane-1", "lane-2", "b9"]), ANY_ORDERS))
@settings(max_examples=25, deadline=None)
def test_whatever_was_saved_is_what_is_loaded(
    orders: dict[str, Orders], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("modes") / "modes.db"
    modes = Modes(path, LANES)
    for lane, each in orders.items():
        modes.save(lane, each)
        assert modes.load()[lane] == each
    modes.close()
    assert found(path) == (orders, 0, None)


def test_what_was_ordered_is_where_the_lane_rests_after_a_power_cut(path: Path) -> None:
    """A lockdown, a lane out of service, and a fire that nobody has reset."""
    modes = Modes(path, LANES)
    expected = {
        State.LOCKED_DOWN: Orders(lockdown=1),
        State.OUT_OF_SERVICE: Orders(disabled=True),
        State.LOCKED_OPEN: Orders(fire=True, lockdown=2),
    }
    for number, orders in enumerate(expected.values()):
        modes.save(f"lane-{number}", orders)
    again = Modes(path, LANES)  # the first was never closed
    for number, state in enumerate(expected):
        assert again.load()[f"lane-{number}"].rest() is state
    again.close()
    modes.close()


@pytest.mark.parametrize("sequence", [-1, 0, 6, 7, 2**63])
def test_an_emergency_state_that_is_not_newer_is_refused_whole(path: Path, sequence: int) -> None:
    written(path)
    modes = Modes(path, LANES)
    with pytest.raises(ValueError, match="sequence"):
        modes.adopt(sequence, {"lane-1": Orders()})
    assert (modes.load(), modes.sequence) == (WRITTEN, 7)
    modes.close()
    assert found(path) == (WRITTEN, 7, None)


@pytest.mark.parametrize(("lane", "orders"), [("Lane 1", LOCKED), ("", LOCKED), ("lane-1", Orders(lockdown=10))])
def test_what_no_lane_can_be_ordered_is_not_written(path: Path, lane: str, orders: Orders) -> None:
    modes = Modes(path, LANES)
    with pytest.raises(ValueError, match="expected"):
        modes.save(lane, orders)
    modes.close()
    assert found(path) == ({}, 0, None)


def test_a_failed_write_leaves_what_was_there(path: Path) -> None:
    written(path)
    modes = Modes(path, LANES)
    other = sqlite3.connect(path)
    other.execute("PRAGMA query_only = OFF")
    other.execute("BEGIN IMMEDIATE")
    modes._db.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        modes.save("lane-1", Orders())
    assert modes.load() == WRITTEN
    other.rollback()
    other.close()
    modes.save("lane-1", Orders(free=True))
    modes.close()
    assert found(path)[0]["lane-1"] == Orders(free=True)


# kill -9.

WRITER = """
import sys
from pathlib import Path
from gate_agent.modes import Modes
from gate_agent.passage import Orders
modes = Modes(Path(sys.argv[1]), ())
for sequence in range(1, 100_000):
    level = sequence % 10
    modes.adopt(sequence, {"lane-1": Orders(lockdown=level), "lane-2": Orders(lockdown=level)})
    print(sequence, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 17, 60])
def test_kill_9_loses_nothing_that_counted_and_halves_nothing(path: Path, lines: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(lines)]
        process.kill()
        told += [int(line) for line in process.stdout.read().splitlines() if line]
    orders, sequence, damaged = found(path)
    assert damaged is None
    assert told[-1] <= sequence <= told[-1] + 1
    assert orders == dict.fromkeys(LANES, Orders(lockdown=sequence % 10))


# Damage.


def assert_out_of_service(path: Path) -> None:
    orders, sequence, damaged = found(path)
    assert damaged
    assert orders == dict.fromkeys(LANES, DAMAGED_ORDERS)
    assert sequence == 0
    assert path.with_name("modes.db.damaged").exists() or path.with_name("modes.db.damaged-wal").exists()
    # It is durable, and told once.
    assert found(path) == (dict.fromkeys(LANES, DAMAGED_ORDERS), 0, None)


def test_damaged_orders_bar_entry_and_leave_the_exit_free() -> None:
    assert DAMAGED_ORDERS.rest() is State.OUT_OF_SERVICE


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"SQLite format 3\0", b"no database", b"\xff" * 10_000], ids=range(5)
)
def test_a_file_that_is_no_database_takes_the_lanes_out_of_service(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert_out_of_service(path)


@pytest.mark.parametrize("kept", [1, 50, 100, 512, 4095, 4096, 5000, 8192])
def test_a_file_cut_off_takes_the_lanes_out_of_service(path: Path, kept: int) -> None:
    written(path)
    raw = path.read_bytes()
    assert len(raw) > kept
    path.write_bytes(raw[:kept])
    assert_out_of_service(path)


def test_any_byte_that_turns_is_seen_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "whole" / "modes.db"
    path.parent.mkdir()
    written(path)
    raw = path.read_bytes()
    content = [at for at, byte in enumerate(raw) if byte]
    seen = 0
    for number, at in enumerate([*range(100), *random.Random(11).sample(content, 200)]):
        turned = bytearray(raw)
        turned[at] ^= 1 << number % 8
        place = tmp_path / str(number) / "modes.db"
        place.parent.mkdir()
        place.write_bytes(turned)
        orders, sequence, damaged = found(place)
        if damaged is None:
            assert (orders, sequence) == (WRITTEN, 7), at
        else:
            seen += 1
            assert orders == dict.fromkeys(LANES, DAMAGED_ORDERS), at
    assert seen > 60


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE modes SET lockdown = 0 WHERE lane = 'lane-1'",
        "DELETE FROM modes WHERE lane = 'lane-1'",
        "UPDATE meta SET value = 8 WHERE key = 'sequence'",
        "DELETE FROM meta WHERE key = 'digest'",
        "DROP TABLE modes",
        "PRAGMA user_version = 9",
    ],
)
def test_content_that_does_not_hold_together_takes_the_lanes_out_of_service(path: Path, edit: str) -> None:
    written(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(edit)
    db.close()
    assert_out_of_service(path)


def test_a_file_taken_away_while_in_use_is_no_first_start(path: Path) -> None:
    modes = Modes(path, LANES)
    modes.save("lane-1", LOCKED)
    path.unlink()
    modes._db.execute("BEGIN IMMEDIATE")
    modes._db.execute("ROLLBACK")
    assert path.with_name("modes.db-wal").exists()
    assert_out_of_service(path)


@pytest.mark.parametrize("moved", [False, True], ids=["before the old file is moved", "after it"])
def test_a_crash_while_a_damaged_file_is_replaced_is_no_first_start(path: Path, moved: bool) -> None:
    path.with_name("modes.db.replacing").touch()
    if moved:
        path.with_name("modes.db.damaged").write_bytes(b"no database")
    else:
        path.write_bytes(b"no database")
    assert_out_of_service(path)


def test_a_lost_log_loses_nothing(path: Path) -> None:
    modes = Modes(path, LANES)
    modes.save("lane-1", LOCKED)
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())  # without its log
    modes.close()
    assert found(copy) == ({"lane-1": LOCKED}, 0, None)


def test_an_unfinished_first_file_is_not_taken(path: Path) -> None:
    path.with_name("modes.db.new").write_bytes(b"half")
    assert found(path) == ({}, 0, None)


def test_a_place_that_cannot_be_written_is_an_error_and_no_damage(tmp_path: Path) -> None:
    with pytest.raises((OSError, sqlite3.Error)):
        Modes(tmp_path / "absent" / "modes.db", LANES)


def test_a_file_that_another_process_holds_is_no_damaged_one(path: Path) -> None:
    written(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Modes(path, LANES)
    other.execute("ROLLBACK")
    other.close()
    assert found(path) == (WRITTEN, 7, None)


# In the agent's loop.


async def test_the_agent_saves_through_a_thread_and_reads_back(path: Path) -> None:
    kept = KeptModes(path, LANES)
    modes = await kept.open()
    assert (modes.load(), modes.damaged) == ({}, None)
    await kept.save("lane-1", LOCKED)
    await kept.adopt(3, {"lane-2": LOCKED})
    with pytest.raises(ValueError, match="sequence"):
        await kept.adopt(3, {})
    await kept.close()
    assert found(path) == (dict.fromkeys(LANES, LOCKED), 3, None)


async def test_a_place_that_comes_back_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "later" / "modes.db"
    kept = KeptModes(path, LANES)
    with pytest.raises((OSError, sqlite3.Error)):
        await kept.open()
    with pytest.raises((OSError, sqlite3.Error)):
        await kept.save("lane-1", LOCKED)
    path.parent.mkdir()
    await kept.save("lane-1", LOCKED)
    await kept.close()
    assert found(path) == ({"lane-1": LOCKED}, 0, None)
