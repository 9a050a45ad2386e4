"""The search for issued values finds each of them in every form in which it might be written, also where it was deleted."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from testbed.canaries import Canaries, Find
from testbed.runner import Runner

NAME, KEY, ADDRESS, UID, INDEX = (
    "홍길동-5f0c6e",
    bytes(range(32)),
    bytes.fromhex("c1d2e3f4a5b6"),
    b"\x08\xfe\xdc\xba",
    1_048_577,
)


@pytest.fixture
def canaries() -> Canaries:
    made = Canaries()
    made.text("name", NAME)
    made.digest("device_key", KEY)
    made.octets("ble_address", ADDRESS)
    made.octets("nfc_uid", UID)
    made.number("status_index", INDEX)
    return made


WRITTEN: list[tuple[str, bytes]] = [
    ("name", NAME.encode()),
    ("name", json.dumps({"who": NAME}).encode()),
    ("name", json.dumps({"who": NAME}, ensure_ascii=False).encode()),
    ("device_key", KEY),
    ("device_key", KEY.hex().upper().encode()),
    ("device_key", base64.urlsafe_b64encode(KEY)),
    ("device_key", base64.b64encode(b"x" + KEY + b"yz")),
    ("device_key", base64.b64encode(b"xx" + KEY)),
    ("device_key_hash", sha256(KEY).hexdigest().encode()),
    ("ble_address", b"peer C1:D2:E3:F4:A5:B6 lost"),
    ("ble_address", b"peer b6-a5-f4-e3-d2-c1"),
    ("ble_address", ADDRESS.hex().encode()),
    ("nfc_uid", b"card 08FEDCBA gone"),
    ("nfc_uid", b"card 08:fe:dc:ba"),
    ("status_index", b'{"index":1048577}'),
    ("status_index", b"index 1048577\n"),
]


@pytest.mark.parametrize(("kind", "content"), WRITTEN)
@pytest.mark.parametrize("before", range(9))
def test_a_value_is_found_in_any_form_and_at_any_place(
    canaries: Canaries, kind: str, content: bytes, before: int
) -> None:
    noise = Random(3).randbytes(1000) + b"." * before + b" "
    assert Find(kind, "file") in canaries.search([("file", noise + content + b" " + noise)])


def test_what_was_not_written_is_not_found(canaries: Canaries) -> None:
    near = [KEY[:-1] + b"\xff", b"10485770", b"a1048577", b"08fedcbaa", ADDRESS, NAME[:-1].encode()]
    assert canaries.search([("noise", Random(5).randbytes(300_000)), ("near", b" ".join(near))]) == []


def test_what_was_deleted_from_a_database_without_overwriting_is_found(canaries: Canaries, tmp_path: Path) -> None:
    path = tmp_path / "leaky.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("CREATE TABLE people (name TEXT)")
        db.execute("INSERT INTO people VALUES (?)", (NAME,))
        db.execute("DELETE FROM people")
        files = [(each.name, each.read_bytes()) for each in tmp_path.iterdir()]
        assert {find.place for find in canaries.search(files)} >= {"leaky.db-wal"}
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert canaries.search([("leaky.db", path.read_bytes())]) == [Find("name", "leaky.db")]


@pytest.mark.parametrize(
    "bad", [lambda c: c.octets("x", b"12345"), lambda c: c.number("x", 42), lambda c: c.text("x", "ab")]
)
def test_a_value_that_chance_could_write_is_refused(canaries: Canaries, bad: Callable[[Canaries], None]) -> None:
    with pytest.raises(ValueError, match=r"."):
        bad(canaries)


def test_what_the_controller_shows_is_searched_as_its_files_are(canaries: Canaries, tmp_path: Path) -> None:
    class Shows:
        directory = agent_state = controller_state = tmp_path

        def shown(self, path: str) -> bytes:
            return f'gwanmun_gate_info{{version="{NAME}"}} 1'.encode() if path == "/metrics" else b""

    runner = Runner(Shows())  # type: ignore[arg-type]  # a building that is only looked at
    assert [find.place for find in canaries.search(runner._left_behind())] == ["/metrics"]
