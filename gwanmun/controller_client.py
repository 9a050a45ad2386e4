"""The API of the controller that runs on this machine, for command lines: loopback, and a token from its state directory."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.commands import ANSWER_S
from controller.config import load_api

TIMEOUT_S = 2 * ANSWER_S + 5
"""The controller waits twice for a gate: for a challenge and for the answer."""


class UsageError(Exception):
    """Korean and English, a line each."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
"""Straight to the controller: a proxy of the environment, or who it is redirected to, would get the token."""


@dataclass(frozen=True, slots=True)
class Api:
    """The running controller."""

    url: str
    token: str

    def get(self, path: str) -> tuple[int, Any]:
        """Status and answer. Raises UsageError where nobody answers there."""
        return self._ask(path, None, {})

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """The same."""
        return self._ask(path, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _ask(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, Any]:
        request = urllib.request.Request(  # noqa: S310  a loopback address of the configuration
            f"{self.url}{path}", body, {**headers, "Authorization": f"Bearer {self.token}"}
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                try:
                    return error.code, json.load(error)
                except ValueError:
                    return error.code, str(error.reason)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"관제 서버에 닿을 수 없습니다: {self.url}\nthe controller at {self.url} does not answer: {error}"
            ) from error


def refusal(answer: object) -> tuple[str, str]:
    """The Korean and the English of an error (controller.requests)."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return (str(answer),) * 2
    return str(error.get("ko", "")), str(error.get("en", ""))


def connect(config: Path, url: str | None, token_file: Path | None = None) -> Api:
    """`token_file`: another than that of orders. Raises ConfigError or UsageError."""
    web, orders_token = load_api(config)
    token_file = token_file or orders_token
    if url is None and not web.port:
        raise UsageError("web.port가 0이면 --url이 있어야 합니다\n--url is expected where web.port is 0")
    host = f"[{web.bind}]" if ":" in web.bind else web.bind
    try:
        token = token_file.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"API 토큰을 읽을 수 없습니다: {token_file}\n{token_file}: the controller's token cannot be read"
        ) from error
    return Api((url or f"http://{host}:{web.port}").rstrip("/"), token)
