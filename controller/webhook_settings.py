"""[webhooks.NAME] of controller.toml: who is told of alarms and health, and the secrets that sign it (docs/webhooks.md)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from controller.alarm_kinds import Category, Severity
from protocol import topics
from protocol.toml import CREDENTIAL, Table

MAX_WEBHOOKS = 16
MAX_URL = 2000
SEVERITIES = tuple(reversed(Severity))
"""From the least to the worst."""
PREFIX = "whsec_"
"""Before a secret in base64 (Standard Webhooks 1.0, signature scheme)."""
MIN_SECRET, MAX_SECRET = 32, 64
"""Bytes; the specification asks for 24 to 64."""
MAX_SECRETS = 2
MAX_SECRET_FILE = 1024


class SecretError(Exception):
    """A secret cannot be used; Korean and English, a line each, and never what is in it."""


@dataclass(frozen=True, slots=True)
class Webhook:
    name: str
    url: str = field(repr=False)
    """Never logged: a receiver may keep its own secret in it."""
    secret: Path
    events: frozenset[Category]
    severity: str
    """The least that is sent."""
    ca: Path | None
    """PEM roots instead of the system's."""
    timeout_s: float
    """For one attempt as a whole."""
    give_up_s: float
    """Changes older than this are given up once every attempt has failed for as long."""


def read(root: Table) -> tuple[Webhook, ...]:
    """Raises ConfigError."""
    tables = root.tables("webhooks")
    if len(tables) > MAX_WEBHOOKS:
        raise root.error("webhooks", f"최대 {MAX_WEBHOOKS}개입니다", f"at most {MAX_WEBHOOKS} are expected")
    return tuple(_webhook(root, name, table) for name, table in tables.items())


def _webhook(root: Table, name: str, table: Table) -> Webhook:
    if not topics.ID.fullmatch(name):
        raise root.error(
            f"webhooks.{name[:64]}",
            "이름은 소문자, 숫자, 하이픈이어야 합니다(최대 63자)",
            "a name of lower-case letters, digits and hyphens (at most 63) is expected",
        )
    webhook = Webhook(
        name=name,
        url=_url(table),
        secret=_secret_file(table),
        events=frozenset(Category(each) for each in table.list_of_choices("events", list(Category), list(Category))),
        severity=table.choice("severity", SEVERITIES, SEVERITIES[0]),
        ca=table.file_path("ca") if table.has("ca") else None,
        timeout_s=table.seconds("timeout_s", 1, 60, 10),
        give_up_s=table.whole("give_up_hours", 1, 7 * 24, 24) * 3600.0,
    )
    table.done()
    return webhook


def _url(table: Table) -> str:
    url = table.text("url")
    try:
        parts = urlsplit(url)
        good = len(url) <= MAX_URL and url.isascii() and url.isprintable() and " " not in url and _allowed(parts)
    except ValueError:  # a port that is none, a bracket that is not closed
        good = False
    if not good:
        raise table.error(
            "url",
            "https:// 주소여야 합니다(루프백만 http:// 가능). 사용자 이름, 암호, #은 쓸 수 없습니다",
            "an https:// address is expected (http:// to loopback only), without user, password or #",
        )
    return url


def _allowed(parts: SplitResult) -> bool:
    """Raises ValueError for a port that is none."""
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        return False
    if parts.port == 0:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret_file(table: Table) -> Path:
    path = table.file_path("secret")
    # systemd guards its own credentials, with an access list that shows as a group's right.
    if not table.text("secret").startswith(CREDENTIAL) and path.stat().st_mode & 0o077:
        raise table.error(
            "secret",
            f"소유자만 읽을 수 있어야 합니다(chmod 600): {path}",
            f"only its owner may read it (chmod 600): {path}",
        )
    return path


def read_secrets(webhook: Webhook) -> tuple[bytes, ...]:
    """One line `whsec_` and base64, or two while it is being changed: both sign. Raises SecretError."""
    try:
        with webhook.secret.open("rb") as file:
            text = file.read(MAX_SECRET_FILE + 1)
    except OSError as error:
        raise SecretError(
            f"웹훅 {webhook.name}의 비밀 파일을 읽을 수 없습니다: {webhook.secret}\n"
            f"webhook {webhook.name}: {webhook.secret}: {error.strerror}"
        ) from error
    try:
        lines = text.decode("ascii").split()
        secrets = tuple(base64.b64decode(line.removeprefix(PREFIX), validate=True) for line in lines)
        good = len(text) <= MAX_SECRET_FILE and all(line.startswith(PREFIX) for line in lines)
    except (UnicodeDecodeError, binascii.Error):
        secrets, good = (), False
    if not good or not 1 <= len(secrets) <= MAX_SECRETS or not all(_long_enough(each) for each in secrets):
        raise SecretError(
            f"웹훅 {webhook.name}: {webhook.secret}: {PREFIX}와 무작위 {MIN_SECRET}–{MAX_SECRET}바이트의 base64가 한두 줄 있어야 "
            "합니다\n"
            f"webhook {webhook.name}: {webhook.secret}: one or two lines of {PREFIX} and base64 of {MIN_SECRET} to {MAX_SECRET} "
            "random bytes are expected"
        )
    return secrets


def _long_enough(secret: bytes) -> bool:
    return MIN_SECRET <= len(secret) <= MAX_SECRET
