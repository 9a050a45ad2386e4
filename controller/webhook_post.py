"""One attempt to hand a message over, and what the answer means.

Answers are judged by status and Retry-After alone: nothing else of them is read, kept or logged.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

import httpx

from controller.webhook_message import Message, headers
from controller.webhook_settings import Webhook
from protocol.clock import Clock

MAX_RETRY_AFTER_S = 3600.0
"""A receiver that asks for longer is tried again after this."""
AGAIN = frozenset({408, 425, 429})
"""Refusals that are about the moment, not about the message (RFC 9110 15.5.9, RFC 8470 5.2, RFC 6585 4)."""


class CaError(Exception):
    """The roots cannot be used; Korean and English, a line each."""


class Outcome(Enum):
    DELIVERED = "delivered"
    LATER = "later"
    """The receiver cannot take anything now."""
    REFUSED = "refused"
    """It does not take this message."""
    GONE = "gone"
    """It wants none any more (410)."""


@dataclass(frozen=True, slots=True)
class Answer:
    outcome: Outcome
    why: str
    """`status 503`, `timeout`, `connect`, `tls`, `closed`: a word or two for the log, the page and the metrics."""
    wait_s: float = 0.0
    """What the receiver asks for."""


def judge(status: int, retry_after: str | None, now: datetime) -> Answer:
    why = f"status {status}"
    if 200 <= status < 300:
        return Answer(Outcome.DELIVERED, why)
    if status == 410:
        return Answer(Outcome.GONE, why)
    if 400 <= status < 500 and status not in AGAIN:
        return Answer(Outcome.REFUSED, why)
    # Redirections among them: what is signed for one address is sent to no other.
    return Answer(Outcome.LATER, why, _seconds(retry_after, now))


def _seconds(retry_after: str | None, now: datetime) -> float:
    """RFC 9110 10.2.3: seconds or a date; 0 for anything else."""
    if retry_after is None:
        return 0.0
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text[:64])
    except (ValueError, OverflowError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max((date - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


class Post:
    """Raises CaError. A connection for each attempt: none is left open to a receiver, and nothing of an answer has to be read."""

    def __init__(self, webhook: Webhook, secrets: Sequence[bytes], clock: Clock) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs every URL
        self._webhook, self._secrets, self._clock = webhook, tuple(secrets), clock
        self._client = httpx.AsyncClient(
            verify=_tls(webhook),
            trust_env=False,
            follow_redirects=False,
            timeout=webhook.timeout_s,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
            headers={"user-agent": "gwanmun", "accept-encoding": "identity"},
        )

    async def __call__(self, message: Message) -> Answer:
        signed = headers(message, self._secrets, self._clock.now())
        try:
            async with (
                asyncio.timeout(
                    self._webhook.timeout_s
                ),  # httpx's own is for each read: one byte a second would never end
                self._client.stream("POST", self._webhook.url, content=message.body, headers=signed) as answer,
            ):
                return judge(answer.status_code, answer.headers.get("retry-after"), self._clock.now())
        except (TimeoutError, httpx.TimeoutException):
            return Answer(Outcome.LATER, "timeout")
        except httpx.ConnectError as error:
            return Answer(Outcome.LATER, "tls" if _is_tls(error) else "connect")
        except (httpx.HTTPError, OSError):
            return Answer(Outcome.LATER, "closed")
        except Exception as error:  # whatever a receiver brings about in the client ends no part of the controller
            return Answer(Outcome.LATER, type(error).__name__)

    async def close(self) -> None:
        await self._client.aclose()


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _tls(webhook: Webhook) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if webhook.ca is None else str(webhook.ca))
    except (OSError, ValueError) as error:
        raise CaError(
            f"웹훅 {webhook.name}의 루트 인증서를 쓸 수 없습니다: {webhook.ca}\n"
            f"webhook {webhook.name}: {webhook.ca}: PEM certificates are expected"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
