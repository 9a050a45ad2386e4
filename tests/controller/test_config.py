"""A configuration mistake names file, key and what is expected, in Korean and English."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import time
from pathlib import Path

import pytest

from controller.alarm_kinds import Category
from controller.config import ConfigError, Reports, load
from controller.retention import Retention
from controller.webhook_settings import MAX_WEBHOOKS, Webhook

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
    secret = file.parent / "s.key"
    secret.touch(0o600)
    text = text.replace('"credential:situation-room.key"', '"s.key"')
    text = text.replace('"/etc/gwanmun/situation-room-ca.pem"', '"ca.pem"')
    file.write_text(re.sub(r"^#(?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE))
    key = file.parent / "o.key"
    hook = Webhook(
        "situation-room",
        "https://situation.example/hooks/gwanmun",
        secret,
        frozenset(Category),
        "warning",
        file.parent / "ca.pem",
        10,
        86400,
    )
    reports = replace(plain.reports, rules=key)
    assert load(file) == replace(plain, commands_key=key, emergency_key=key, reports=reports, webhooks=(hook,))
    file.write_text(f'{GOOD}[webhooks.situation-room]\nurl = "{hook.url}"\nsecret = "s.key"\n')
    assert load(file).webhooks == (replace(hook, ca=None),)
    file.write_text(GOOD)
    bare = load(file)
    assert (plain.mqtt, plain.web, plain.ingest, plain.reports) == (bare.mqtt, bare.web, bare.ingest, bare.reports)
    assert bare.reports == Reports(5, None, time(4, 0))
    assert plain.retention == bare.retention == Retention()


def test_the_documents_name_every_period_with_its_default() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    for name in ("configuration.md", "store.md"):
        text = (docs / name).read_text("utf-8")
        for key, days in asdict(Retention()).items():
            assert f"| `{key}` | {days} |" in text, (name, key)


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        ('site = "hq"', "", "site", "non-empty string"),
        ('site = "hq"', 'site = "HQ/1"', "site", "lower-case"),
        ('site = "hq"', "site = 3", "site", "string"),
        ("[records]", "[retention]\ndetail_days = 0\n[records]", "retention.detail_days", "from 1 to 3650"),
        ("[records]", "[retention]\nstate_days = 3651\n[records]", "retention.state_days", "from 1 to 3650"),
        ("[records]", "[retention]\nfor_ever = true\n[records]", "retention.for_ever", "unknown key"),
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
        ('key = "c.key"', 'key = "c.key"\n[reports]\nk = 4', "reports.k", "5 to 100"),
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


HOOK = GOOD + '[webhooks.a]\nurl = "https://r.example/in"\nsecret = "s.key"\n'


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        ("https://r.example", "http://r.example", "webhooks.a.url", "https"),
        ("https://r.example", "ftp://r.example", "webhooks.a.url", "https"),
        ("https://r.example", "https://me:secret@r.example", "webhooks.a.url", "without user"),
        ("https://r.example", "https://r.example:0", "webhooks.a.url", "https"),
        ("https://r.example", "https://r.example:99999", "webhooks.a.url", "https"),
        ("https://r.example/in", "https:///in", "webhooks.a.url", "https"),
        ("https://r.example/in", "https://r.example/in#part", "webhooks.a.url", "without user"),
        ("https://r.example/in", "https://r.example/in\\n", "webhooks.a.url", "https"),
        ("https://r.example/in", "https://r.example/" + "a" * 2000, "webhooks.a.url", "https"),
        ("[webhooks.a]", "[webhooks.A]", "webhooks.A", "lower-case"),
        ('"s.key"', '"ca.pem"', "webhooks.a.secret", "only its owner"),
        ('"s.key"', '"gone.key"', "webhooks.a.secret", "existing file"),
        ('"s.key"', '"s.key"\nevents = ["passages"]', "webhooks.a.events", "alarms, health"),
        ('"s.key"', '"s.key"\nevents = []', "webhooks.a.events", "alarms, health"),
        ('"s.key"', '"s.key"\nseverity = "loud"', "webhooks.a.severity", "critical"),
        ('"s.key"', '"s.key"\ngive_up_hours = 0', "webhooks.a.give_up_hours", "1 to 168"),
        ('"s.key"', '"s.key"\nproxy = "http://p"', "webhooks.a.proxy", "unknown key"),
    ],
)
def test_a_mistake_in_a_webhook_is_named(file: Path, old: str, new: str, key: str, expected: str) -> None:
    (file.parent / "s.key").touch(0o600)
    (file.parent / "ca.pem").chmod(0o644)
    file.write_text(
        HOOK.replace(old, new, 1) if old.startswith("[") else HOOK[::-1].replace(old[::-1], new[::-1], 1)[::-1]
    )
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert (caught.value.key, expected in caught.value.text()) == (key, True)


def test_webhooks_are_bounded_and_http_is_for_loopback(file: Path) -> None:
    (file.parent / "s.key").touch(0o600)
    for host in ("127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "localhost"):
        file.write_text(HOOK.replace("https://r.example", f"http://{host}"))
        assert load(file).webhooks[0].url == f"http://{host}/in"
    table = HOOK.removeprefix(GOOD)
    file.write_text(GOOD + "".join(table.replace("webhooks.a", f"webhooks.a{n}") for n in range(MAX_WEBHOOKS + 1)))
    with pytest.raises(ConfigError, match="at most 16"):
        load(file)


def test_a_credential_comes_from_systemds_directory(file: Path, tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "mqtt.key").write_text("x")
    file.write_text(GOOD.replace('"c.key"', '"credential:mqtt.key"'))
    config = load(file, {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    assert config.mqtt.key == tmp_path / "credentials" / "mqtt.key"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load(tmp_path / "none.toml")
