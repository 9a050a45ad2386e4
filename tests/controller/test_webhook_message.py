"""What leaves by a webhook, how it is signed, and what the answers mean."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import webhook_settings
from controller.alarm_kinds import WEBHOOK, Category
from controller.webhook_message import ChangeRow, Message, category, compose, headers, trial, wanted
from controller.webhook_post import MAX_RETRY_AFTER_S, Outcome, judge
from controller.webhook_settings import SecretError, Webhook, read_secrets
from protocol.events import TIMED, Kind

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SECRET = bytes(range(32))
HOOK = Webhook("room", "https://r.example", Path("s.key"), frozenset(Category), "warning", None, 10, 86400)
ALARM = {
    "alarm": 7,
    "gate": "gate-1",
    "lane": "l1",
    "kind": "alarm.forced",
    "detail": "",
    "severity": "critical",
    "state": "raised",
    "count": 1,
    "raised": "2026-11-24T09:00:00.000Z",
    "last": "2026-11-24T09:00:00.000Z",
}


def row(row_id: int = 1, change: str = "raised", **body: Any) -> ChangeRow:
    return ChangeRow(row_id, "2026-11-24T09:00:00.000Z", change, json.dumps({**ALARM, **body}))


def composed(row_id: int = 1, change: str = "raised", **body: Any) -> Message:
    message = compose("hq", row(row_id, change, **body))
    assert message is not None
    return message


def test_a_message_is_a_cloudevent_of_the_alarm() -> None:
    message = composed(change="acknowledged", occurred="2026-11-24T08:59:59.000Z", level=1)
    assert json.loads(message.body) == {
        "specversion": "1.0",
        "id": message.id,
        "source": "/hq/controller",
        "type": "gwanmun.alarm.acknowledged",
        "subject": "gate-1/l1",
        "time": "2026-11-24T09:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {**ALARM, "occurred": "2026-11-24T08:59:59.000Z", "level": 1, "category": "alarms"},
    }
    subject = json.loads(composed(gate="", lane="", kind="controller.disk").body)["subject"]
    assert subject == "controller"


def test_a_row_gives_away_only_the_fields_that_are_named() -> None:
    body = composed(operator="홍길동", role="guard", note="x").body
    assert not any(each in body for each in ("홍길동".encode(), b"guard", b"note", b"operator", b"role"))


@pytest.mark.parametrize("kind", sorted(TIMED))
def test_what_tells_when_somebody_walked_is_no_message(kind: Kind) -> None:
    assert compose("hq", row(kind=str(kind))) is None


@pytest.mark.parametrize(
    "bad",
    [
        ChangeRow(1, "t", "raised", "{"),
        ChangeRow(1, "t", "raised", "[" * 100_000),
        ChangeRow(1, "t", "raised", "[]"),
        row(change="raised or so"),
        row(count="1"),
        row(count=True),
        row(gate=None),
        row(kind="a kind"),
        row(level="1"),
    ],
)
def test_a_row_that_is_none_is_no_message(bad: ChangeRow) -> None:
    assert compose("hq", bad) is None


def test_long_and_broken_text_is_bounded_and_still_json() -> None:
    data = json.loads(composed(detail="\ud800" + "x" * 10_000).body)["data"]
    assert data["detail"] == "?" + "x" * 499


def test_an_id_is_the_same_for_the_same_change_and_another_for_every_other() -> None:
    assert composed().id == composed().id
    others = [composed(), composed(2), composed(change="cleared"), composed(count=2)]
    # The same number again for another change: a database that was put back from a backup.
    assert len({each.id for each in others}) == len(others)
    assert "." not in "".join(each.id for each in others)  # it separates what is signed
    assert trial("hq", "a1", NOW).id != trial("hq", "a2", NOW).id


def test_the_signature_is_that_of_standard_webhooks() -> None:
    message = composed()
    sent = headers(message, [SECRET, SECRET[::-1]], NOW)
    assert (sent["webhook-id"], sent["webhook-timestamp"]) == (message.id, str(int(NOW.timestamp())))
    signed = f"{sent['webhook-id']}.{sent['webhook-timestamp']}.".encode() + message.body
    expected = [
        "v1," + base64.b64encode(hmac.new(each, signed, hashlib.sha256).digest()).decode()
        for each in (SECRET, SECRET[::-1])
    ]
    assert sent["webhook-signature"].split(" ") == expected


def test_the_signature_matches_the_specifications_own_example() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    sent = headers(message, [secret], datetime.fromtimestamp(1614265330, UTC))
    assert sent["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((kind, Category.ALARM) for kind in ("alarm.forced", "alarm.tamper", "fire.asserted", "power.mains_lost")),
        ("alarm.uplink", Category.HEALTH),
        *((f"record.{each}", Category.ALARM) for each in ("chain", "conflict", "rewind", "poison")),
        *((each, Category.HEALTH) for each in ("gate.offline", "gate.outbox", "device.degraded", "controller.disk")),
        ("clock.unset", Category.HEALTH),
        ("sensor.fault", Category.HEALTH),
        (WEBHOOK, Category.HEALTH),
    ],
)
def test_every_alarm_is_of_one_category(kind: str, expected: Category) -> None:
    assert category(kind) is expected


def test_a_webhook_gets_its_categories_from_its_severity_on() -> None:
    alarm, health = composed(), composed(kind="device.degraded", severity="minor", detail="camera.hall")
    assert wanted(alarm, HOOK)
    assert wanted(health, HOOK)
    assert not wanted(health, replace(HOOK, events=frozenset({Category.ALARM})))
    assert not wanted(alarm, replace(HOOK, events=frozenset({Category.HEALTH})))
    assert not wanted(health, replace(HOOK, severity="major"))
    assert wanted(alarm, replace(HOOK, severity="critical"))
    assert wanted(composed(severity="of a newer program"), replace(HOOK, severity="critical"))


def test_a_webhook_is_not_told_of_its_own_failure() -> None:
    of_room = composed(kind=WEBHOOK, detail="room", gate="", lane="")
    assert not wanted(of_room, HOOK)
    assert wanted(of_room, replace(HOOK, name="other"))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Outcome.DELIVERED) for status in (200, 201, 202, 204, 299)),
        *((status, Outcome.LATER) for status in (300, 301, 302, 307, 308, 408, 425, 429, 500, 502, 503, 599, 101)),
        *((status, Outcome.REFUSED) for status in (400, 401, 403, 404, 413, 422, 499)),
        (410, Outcome.GONE),
    ],
)
def test_a_status_means_one_thing(status: int, outcome: Outcome) -> None:
    assert judge(status, None, NOW).outcome is outcome


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, 0),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("99999999999999999999", MAX_RETRY_AFTER_S),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW + timedelta(days=90), usegmt=True), MAX_RETRY_AFTER_S),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        ("Tue, 24 Nov 2026 09:00:05", 5),
        ("soon", 0),
        ("-5", 0),
        ("1e9", 0),
        ("٣", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(asked: str | None, seconds: float) -> None:
    assert judge(429, asked, NOW).wait_s == seconds
    assert judge(503, asked, NOW).wait_s == seconds


@given(st.text(max_size=80))
def test_no_retry_after_breaks_anything(asked: str) -> None:
    assert 0 <= judge(503, asked, NOW).wait_s <= MAX_RETRY_AFTER_S


def line(secret: bytes) -> str:
    return webhook_settings.PREFIX + base64.b64encode(secret).decode()


def test_a_secret_is_one_line_or_two_while_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "s.key"
    hook = replace(HOOK, secret=file)
    file.write_text(f"{line(SECRET)}\n")
    assert read_secrets(hook) == (SECRET,)
    file.write_text(f"{line(SECRET)}\n{line(SECRET[::-1])}\n")
    assert read_secrets(hook) == (SECRET, SECRET[::-1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        line(SECRET[:31]),
        line(bytes(65)),
        line(SECRET).removeprefix("whsec_"),
        line(SECRET)[:-1],
        "\n".join([line(SECRET)] * 3),
        "whsec_한글",
        line(SECRET) + "\n" * 2000,
    ],
)
def test_a_bad_secret_is_refused_without_telling_it(tmp_path: Path, text: str) -> None:
    hook = replace(HOOK, secret=tmp_path / "s.key")
    hook.secret.write_text(text, encoding="utf-8")
    with pytest.raises(SecretError) as caught:
        read_secrets(hook)
    korean, english = str(caught.value).splitlines()
    assert "웹훅 room" in korean
    assert "webhook room" in english
    assert base64.b64encode(SECRET).decode()[:8] not in str(caught.value)
    hook.secret.unlink()
    with pytest.raises(SecretError, match="No such file"):
        read_secrets(hook)


def test_neither_url_nor_secret_is_shown_by_accident() -> None:
    assert "r.example" not in repr(HOOK)
