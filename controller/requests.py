"""What all parts of the API share: tokens, bodies, and the one form of an error, Korean first.

{"error": {"code": "unknown_parameter", "ko": "…", "en": "…"}}
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from controller import files

API = "/api/"
V1 = "/api/v1"
"""Where the documented API lives (controller/openapi.yaml)."""
JSON = "application/json"
MAX_BODY = 8192
TOKEN_BYTES, TOKEN_MODE = 32, 0o600
RETRY_S = 5
"""What a client is told to wait where the trouble may be over soon."""


class _Number(Convertor[int]):
    """Of a row, in a path: so long at most that SQLite takes it."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", _Number())

Handler = Callable[[Request, Exception], Awaitable[Response]]


class ApiError(Exception):
    """An answer that is no answer: raised anywhere below a route, turned into its response by HANDLERS."""

    def __init__(self, status: int, code: str, ko: str, en: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(en)
        self.status, self.code, self.ko, self.en = status, code, ko, en
        self.headers = dict(headers or {})

    def response(self) -> Response:
        return JSONResponse(
            {"error": {"code": self.code, "ko": self.ko, "en": self.en}}, status_code=self.status, headers=self.headers
        )


def wrong(name: str, ko: str, en: str) -> ApiError:
    """A parameter or field that is not what is expected."""
    return ApiError(400, "wrong_parameter", f"{name}: {ko}", f"{name}: {en}")


def not_found(ko: str, en: str) -> ApiError:
    return ApiError(404, "not_found", ko, en)


def unavailable(code: str, ko: str, en: str, retry_s: int = RETRY_S) -> ApiError:
    return ApiError(503, code, ko, en, {"Retry-After": str(retry_s)})


def store_unavailable() -> ApiError:
    """The database cannot be read or written just now."""
    return unavailable("store", "저장소를 쓸 수 없습니다", "the store cannot be used")


def make_token(path: Path) -> str:
    """A token in a file, made once; readable by the controller's user only. Raises OSError."""
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        files.replace(path, f"{token}\n".encode("ascii"), TOKEN_MODE)
        return token


def check_token(request: Request, token: str) -> None:
    """The `Authorization: Bearer` of whoever may read the token's file. Raises ApiError."""
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise ApiError(
            401,
            "token",
            "이 API의 토큰이 있어야 합니다",
            "the token of this API is expected",
            {"WWW-Authenticate": "Bearer"},
        )


async def json_object(request: Request, limit: int = MAX_BODY) -> dict[str, Any]:
    """The body, one JSON object of at most `limit` bytes that can be written again. Raises ApiError.

    Only `application/json` is taken: a page of another origin cannot send it without asking first (CORS), which nothing allows.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise ApiError(415, "media_type", "application/json이어야 합니다", "application/json is expected")
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > limit:
            raise ApiError(
                413,
                "too_large",
                f"{limit}바이트까지 받습니다",
                f"at most {limit} bytes are expected",
                {"Connection": "close"},
            )
    try:
        body = json.loads(raw)
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()  # no lone surrogate, no infinity
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ApiError(400, "wrong_body", "JSON 객체 하나가 있어야 합니다", "one JSON object is expected")
    return body


def only(body: Mapping[str, Any], needed: set[str], more: set[str] | None = None) -> None:
    """All of `needed`, and of others no more than `more`. Raises ApiError."""
    missing, unknown = needed - set(body), set(body) - needed - (more or set())
    if missing:
        names = ", ".join(sorted(missing))
        raise ApiError(400, "missing_field", f"{names}: 있어야 합니다", f"{names}: expected")
    if unknown:
        name = min(unknown)[:64]
        raise ApiError(
            400, "unknown_field", f"{name}: 모르는 항목입니다", f"{name}: unknown; leave it out where expected"
        )


async def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  as it is registered
    return error.response()


_WORDS = {
    404: ("not_found", "없는 주소입니다", "nothing is found here"),
    405: ("method_not_allowed", "이 방법은 쓸 수 없습니다", "this method is not allowed here"),
}


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own: no such path, a method that is not allowed."""
    assert isinstance(error, HTTPException)  # noqa: S101  as it is registered
    headers = dict(error.headers or {})
    if not request.url.path.startswith(API):
        return PlainTextResponse(f"{error.detail}\n", status_code=error.status_code, headers=headers)
    phrase = HTTPStatus(error.status_code).phrase
    code, ko, en = _WORDS.get(error.status_code, ("http", phrase, phrase))
    return ApiError(error.status_code, code, ko, en, headers).response()


HANDLERS: Mapping[Any, Handler] = {ApiError: _api_error, HTTPException: _http_error}
"""For `Starlette(exception_handlers=…)`."""
