"""One change of an alarm as a signed message: CloudEvents 1.0 (structured JSON) with the headers of Standard Webhooks 1.0.

What goes out is named field by field: nothing travels because somebody has put it into a row. Pure.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller.alarm_kinds import KINDS, WEBHOOK, Category
from controller.webhook_settings import SEVERITIES, Webhook
from protocol.clock import rfc3339
from protocol.events import SPEC_VERSION, TIMED, TYPE_PREFIX
from protocol.fields import WORD

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TEXTS = ("gate", "lane", "kind", "detail", "severity", "state", "raised", "last")
NUMBERS = ("alarm", "count")
MORE_TEXTS, MORE_NUMBERS = ("occurred",), ("level",)
"""Fields of `data`, the last three in rows that have them; what else a row has stays here."""
MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One row of `alarm_changes`."""

    id: int
    time: str
    change: str
    body: str


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    """The same in every attempt, another for every change, also of a database that was put back from a backup."""
    body: bytes
    kind: str = ""
    severity: str = ""
    detail: str = ""

    @property
    def about_a_webhook(self) -> bool:
        return self.kind == WEBHOOK


def compose(site: str, row: ChangeRow) -> Message | None:
    """None for a row that is not one, and for kinds whose time tells when somebody walked: these leave by no webhook."""
    try:
        found = json.loads(row.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not WORD.fullmatch(row.change):
        return None
    data: dict[str, Any] = {}
    for name in (*NUMBERS, *(each for each in MORE_NUMBERS if each in found)):
        value = found.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        data[name] = value
    for name in (*TEXTS, *(each for each in MORE_TEXTS if each in found)):
        value = found.get(name)
        if not isinstance(value, str):
            return None
        data[name] = value[:MAX_TEXT]
    kind = str(data["kind"])
    if not WORD.fullmatch(kind) or kind in TIMED:
        return None
    data["category"] = category(kind)
    subject = "/".join(each for each in (data["gate"], data["lane"]) if each) or "controller"
    digest = hashlib.sha256(f"{row.id}\n{row.time}\n{row.change}\n{row.body}".encode()).hexdigest()
    return _message(
        f"change-{row.id}-{digest[:32]}", site, f"alarm.{row.change}", subject, row.time, data, (kind, data)
    )


def trial(site: str, random: str, now: datetime) -> Message:
    """One that says nothing, to try a webhook; `random` makes its id its own."""
    return _message(f"test-{random}", site, "webhook.test", "controller", rfc3339(now), {}, ("", {}))


def _message(
    message_id: str,
    site: str,
    name: str,
    subject: str,
    time: str,
    data: Mapping[str, Any],
    about: tuple[str, Mapping[str, Any]],
) -> Message:
    body = json.dumps(
        {
            "specversion": SPEC_VERSION,
            "id": message_id,
            "source": f"/{site}/controller",
            "type": TYPE_PREFIX + name,
            "subject": subject,
            "time": time,
            "datacontenttype": "application/json",
            "data": dict(data),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )
    kind, fields = about
    # A lone surrogate of a damaged row would otherwise stop the webhook for ever.
    raw = body.encode(errors="replace")
    return Message(message_id, raw, kind, str(fields.get("severity", "")), str(fields.get("detail", "")))


def category(kind: str) -> Category:
    """One of a newer program's counts as an alarm."""
    known = KINDS.get(kind)
    return Category.ALARM if known is None else known.category


def wanted(message: Message, webhook: Webhook) -> bool:
    """Whether a webhook is to be told. Of its own failure it is not: that would be one more message that fails."""
    if message.about_a_webhook and message.detail == webhook.name:
        return False
    return category(message.kind) in webhook.events and _rank(message.severity) >= _rank(webhook.severity)


def _rank(severity: str) -> int:
    """One that this program does not know counts as the worst."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def headers(message: Message, secrets: Sequence[bytes], now: datetime) -> dict[str, str]:
    """Of one attempt at `now`: signed are id, time of the attempt and the exact bytes of the body (signature scheme, `v1`)."""
    attempt = str(int(now.timestamp()))
    content = b".".join((message.id.encode(), attempt.encode(), message.body))
    signatures = (base64.b64encode(hmac.digest(secret, content, "sha256")).decode() for secret in secrets)
    return {
        "content-type": CONTENT_TYPE,
        "webhook-id": message.id,
        "webhook-timestamp": attempt,
        "webhook-signature": " ".join(f"v1,{each}" for each in signatures),
    }
