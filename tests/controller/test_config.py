"""A configuration mistake names file, key and what is expected, in Korean and English."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import time
from pathlib import Path

import pytest

from controller.config import ConfigError, Reports, load

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "controller.toml"
GOOD = """\
site = "hq"
state_dir = "state"
[mqtt]
host = "127.0.0.1"
port = 8883
ca = "ca.pem"
certificate = "c.pem"
key = "c.key"
[records]
key = "r.key"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("ca.pem", "c.pem", "c.key", "r.key"):
        (tmp_path / name).write_text("x")
    return tmp_path / "controller.toml"


def test_defaults_are_loopback_and_durable(file: Path) -> None:
    file.write_text(GOOD)
    config = load(file)
    assert (config.web.bind, config.web.port) == ("127.0.0.1", 8080)
    assert config.database == file.parent / "state" / "controller.db"
    assert config.mqtt.manual_ack
    assert not config.mqtt.clean_start
    assert config.mqtt.client_id == "controller"
    assert config.time_zone.key == "Asia/Seoul"


def test_the_example_is_complete_and_its_commented_defaults_are_the_real_ones(file: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    for deployed, here in {
        "/etc/gwanmun/mqtt-ca.pem": "ca.pem",
        "/etc/gwanmun/controller-mqtt.pem": "c.pem",
        "credential:mqtt.key": "c.key",
        "credential:records.key": "r.key",
        "/var/lib/gwanmun/controller": "state",
    }.items():
        assert f'"{deployed}"' in text, deployed
        text = text.replace(f'"{deployed}"', f'"{here}"')
    file.write_text(text)
    plain = load(file)
    (file.parent / "o.key").write_text("")
    text = text.replace('"credential:command.key"', '"o.key"').replace('"credential:emergency.key"', '"o.key"')
    text = text.replace('"/etc/gwanmun/policy.toml"', '"o.key"')
    file.write_text(re.sub(r"^#(?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE))
    key = file.parent / "o.key"
    reports = replace(plain.reports, rules=key)
    assert load(file) == replace(plain, commands_key=key, emergency_key=key, reports=reports)
    file.write_text(GOOD)
    bare = load(file)
    assert (plain.mqtt, plain.web, plain.ingest, plain.reports) == (bare.mqtt, bare.web, bare.ingest, bare.reports)
    assert bare.reports == Reports(5, None, time(4, 0))


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        ('site = "hq"', "", "site", "non-empty string"),
        ('site = "hq"', 'site = "HQ/1"', "site", "lower-case"),
        ('site = "hq"', "site = 3", "site", "string"),
        ('site = "hq"', 'site = "hq"\ntime_zone = "Mars/Olympus"', "time_zone", "IANA"),
        ('site = "hq"', 'site = "hq"\ntime_zone = "../../etc/passwd"', "time_zone", "IANA"),
        ('site = "hq"', 'site = "hq"\nspeed = 3', "speed", "unknown key"),
        ("port = 8883", "port = 0", "mqtt.port", "1 to 65535"),
        ("port = 8883", "port = true", "mqtt.port", "1 to 65535"),
        ('key = "c.key"', 'key = "gone.key"', "mqtt.key", "existing file"),
        ('key = "c.key"', 'key = "credential:mqtt.key"', "mqtt.key", "CREDENTIALS_DIRECTORY"),
        ('key = "c.key"', 'key = "c.key"\n[web]\nbind = "0.0.0.0"', "web.bind", "loopback"),
        ('key = "c.key"', 'key = "c.key"\n[web]\nbind = "example.org"', "web.bind", "loopback"),
        ('key = "c.key"', 'key = "c.key"\n[web]\nbind = "::"', "web.bind", "loopback"),
        ('key = "c.key"', 'key = "c.key"\n[ingest]\nbatch = 0', "ingest.batch", "1 to 10000"),
        ('key = "c.key"', 'key = "c.key"\n[reports]\nk = 2', "reports.k", "3 to 100"),
        ('key = "c.key"', 'key = "c.key"\n[rules]\npolicy = "gone.toml"', "rules.policy", "existing file"),
        ('key = "c.key"', 'key = "c.key"\n[occupancy]\nreset = "04:10"', "occupancy.reset", "quarter of an hour"),
        ('key = "c.key"', 'key = "c.key"\n[occupancy]\nreset = "24:00"', "occupancy.reset", "quarter of an hour"),
        ("[mqtt]", "[mtqq]", "mqtt", "table"),
        ("[mqtt]", "[mqtt", "", "TOML syntax"),
    ],
)
def test_a_mistake_names_file_key_and_expectation(file: Path, old: str, new: str, key: str, expected: str) -> None:
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    korean, english = caught.value.text().splitlines()[:2]
    assert caught.value.key == key
    assert korean.startswith(f"{file}:")
    assert expected in caught.value.text()
    assert any("가" <= letter <= "힣" for letter in korean)
    assert str(file) in english or "TOML" in expected


def test_a_credential_comes_from_systemds_directory(file: Path, tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "mqtt.key").write_text("x")
    file.write_text(GOOD.replace('"c.key"', '"credential:mqtt.key"'))
    config = load(file, {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    assert config.mqtt.key == tmp_path / "credentials" / "mqtt.key"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load(tmp_path / "none.toml")
