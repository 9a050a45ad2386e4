"""What nobody reads in a database file becomes zero, and nothing else changes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from controller.scrub import ScrubError, scrub

ALL = 1 << 20


def make(path: Path, page_size: int = 4096, vacuum: str = "NONE") -> None:
    """Rows removed, moved and kept, a table dropped, long rows with overflow pages; without secure_delete."""
    random = Random(3)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {page_size}")
        db.execute(f"PRAGMA auto_vacuum = {vacuum}")
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, word TEXT, filling BLOB)")
        db.execute("CREATE TABLE gone (word TEXT)")
        db.execute("CREATE INDEX word ON kept (word)")
        numbers = list(range(3000))
        random.shuffle(numbers)
        db.execute("BEGIN")
        for number in numbers:
            word = f"{'secret' if number % 3 else 'public'}-{number:05d}"
            db.execute(
                "INSERT INTO kept VALUES (?, ?, ?)", [number, word, random.randbytes(random.choice([5, 300, 9000]))]
            )
        db.executemany("INSERT INTO gone VALUES (?)", [[f"dropped-{number:05d}" * 9] for number in numbers])
        db.execute("COMMIT")
        db.execute("DELETE FROM kept WHERE word LIKE 'secret%'")
        db.execute("DROP TABLE gone")


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return list(db.iterdump())


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_pages_freed_in_former_days_are_zero_and_every_row_is_as_it_was(tmp_path: Path, page_size: int) -> None:
    path = tmp_path / "c.db"
    make(path, page_size)
    before = dump(path)
    assert b"dropped-" in path.read_bytes()
    assert scrub(str(path), 1, ALL) > 0
    assert dump(path) == before
    assert b"dropped-" not in path.read_bytes()
    assert scrub(str(path), 1, ALL) == 0


def test_what_is_freed_within_a_page_is_for_secure_delete(tmp_path: Path) -> None:
    """Both together leave nothing: rows removed with secure_delete on, then the gaps."""
    path = tmp_path / "c.db"
    make(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = ON")
        db.execute("DELETE FROM kept WHERE id % 2")
    scrub(str(path), 1, ALL)
    content = path.read_bytes()
    assert not [number for number in range(3, 3000, 6) if f"public-{number:05d}".encode() in content]
    assert f"public-{6:05d}".encode() in content


def test_parts_one_after_the_other_do_as_much_as_the_whole(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.db", tmp_path / "parts.db"
    make(whole)
    parts.write_bytes(whole.read_bytes())
    scrub(str(whole), 1, ALL)
    for first in range(1, parts.stat().st_size // 4096 + 1, 7):
        scrub(str(parts), first, 7)
    assert parts.read_bytes() == whole.read_bytes()


def test_what_it_does_not_understand_is_left_alone(tmp_path: Path) -> None:
    other, vacuum, looped = tmp_path / "other", tmp_path / "vacuum.db", tmp_path / "looped.db"
    other.write_bytes(b"no database" * 100)
    make(vacuum, vacuum="FULL")
    make(looped)
    content = bytearray(looped.read_bytes())
    trunk = int.from_bytes(content[32:36], "big")
    content[(trunk - 1) * 4096 : (trunk - 1) * 4096 + 4] = trunk.to_bytes(4, "big")
    looped.write_bytes(content)
    for path in (other, vacuum, looped):
        before = path.read_bytes()
        with pytest.raises(ScrubError):
            scrub(str(path), 1, ALL)
        assert path.read_bytes() == before
