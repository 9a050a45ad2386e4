"""controller/openapi.json: the same as openapi.yaml beside it, for programs that read no YAML."""

from __future__ import annotations

import json
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # comes with schemathesis, without types

SOURCE = Path(__file__).resolve().parents[1] / "controller" / "openapi.yaml"


def page() -> str:
    return json.dumps(yaml.safe_load(SOURCE.read_text("utf-8")), ensure_ascii=False, indent=1) + "\n"
