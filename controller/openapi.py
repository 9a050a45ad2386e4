"""The API's own description, as it lies in the package: openapi.yaml, and the same as JSON (scripts/generate_docs.py)."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from controller.requests import JSON, V1

YAML = "application/yaml"
_FILE = Path(__file__).with_name("openapi.yaml")


class OpenApi:
    def __init__(self) -> None:
        """Raises OSError."""
        self._yaml, self._json = _FILE.read_bytes(), _FILE.with_suffix(".json").read_bytes()

    def routes(self) -> list[Route]:
        return [Route(f"{V1}/openapi.yaml", self.yaml), Route(f"{V1}/openapi.json", self.json)]

    async def yaml(self, _request: Request) -> Response:
        return Response(self._yaml, media_type=YAML)

    async def json(self, _request: Request) -> Response:
        return Response(self._json, media_type=JSON)
