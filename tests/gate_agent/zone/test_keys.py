"""Zone keys from a file that only its owner may read."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gate_agent.zone import FileZoneKeys, write_keys
from protocol.toml import ConfigError

DAY = date(2026, 11, 24).toordinal()
KEYS = {
    ("hq-1f", DAY): bytes(32),
    ("본관_1.층", DAY): b"\x01" * 32,
    ("hq-1f", DAY + 1): bytes(range(32)),
    ("annex", DAY): b"\xff" * 32,
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "zone-keys.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def test_what_was_written_is_read_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "zone-keys.toml"
    write_keys(path, KEYS)
    assert path.stat().st_mode & 0o777 == 0o600
    keys = FileZoneKeys(path)
    assert all(keys.key(zone, period) == key for (zone, period), key in KEYS.items())
    assert keys.key("hq-1f", DAY - 1) is None
    assert keys.key("attic", DAY) is None
    assert list(tmp_path.iterdir()) == [path]


def test_a_period_left_out_is_gone_after_reload(tmp_path: Path) -> None:
    path = tmp_path / "zone-keys.toml"
    write_keys(path, KEYS)
    keys = FileZoneKeys(path)
    write_keys(path, {("hq-1f", DAY + 1): bytes(32)})
    keys.reload()
    assert keys.key("hq-1f", DAY) is None
    assert keys.key("hq-1f", DAY + 1) == bytes(32)


def test_an_empty_file_has_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "zone-keys.toml"
    write_keys(path, {})
    assert FileZoneKeys(path).key("hq-1f", DAY) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "zone-keys.toml"
    write_keys(path, KEYS)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        FileZoneKeys(path)


GOOD = f'[[keys]]\nzone = "hq-1f"\nperiod = 2026-11-24\nkey = "{"00" * 32}"\n'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (GOOD.replace("2026-11-24", '"2026-11-24"'), "period"),
        (GOOD.replace("2026-11-24", "2026-11-24T00:00:00"), "period"),
        (GOOD.replace("2026-11-24", "20261124"), "period"),
        (GOOD.replace("00" * 32, "00" * 31), "key"),
        (GOOD.replace("00" * 32, "zz" * 32), "key"),
        (GOOD.replace("hq-1f", "HQ/1"), "zone"),
        (GOOD + 'note = "x"\n', "key"),
        (GOOD + GOOD, "period"),
        ("extra = 1\n" + GOOD, "extra"),
        ("keys = 1\n", "keys"),
        ("keys = [1]\n", "keys"),
        ("[[keys]\n", ""),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_its_place_and_without_the_key(
    tmp_path: Path, text: str, place: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        FileZoneKeys(written(tmp_path, text))
    assert place in caught.value.key
    assert "00" * 8 not in caught.value.text()


def test_a_missing_file_is_refused_and_a_reload_that_fails_keeps_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "zone-keys.toml"
    with pytest.raises(ConfigError):
        FileZoneKeys(path)
    write_keys(path, KEYS)
    keys = FileZoneKeys(path)
    path.write_text("nonsense", encoding="utf-8")
    with pytest.raises(ConfigError):
        keys.reload()
    assert keys.key("hq-1f", DAY) == bytes(32)


def test_a_key_of_another_length_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "zone-keys.toml"
    with pytest.raises(ValueError, match="32"):
        write_keys(path, {("hq-1f", DAY): bytes(16)})
    assert not path.exists()


def test_a_name_that_is_none_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name"):
        write_keys(tmp_path / "zone-keys.toml", {('x"\n', DAY): bytes(32)})


def test_no_key_stands_in_a_representation(tmp_path: Path) -> None:
    path = tmp_path / "zone-keys.toml"
    write_keys(path, {("hq-1f", DAY): b"\xab" * 32})
    keys = FileZoneKeys(path)
    assert "ab" * 4 not in repr(keys)
    assert "\\xab" not in repr(keys)
