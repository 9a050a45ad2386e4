"""The checksum beside a backup, `NAME.sha256`: one line as `sha256sum -c` reads it. SQLite's own checks see a damaged page, not a
changed value."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

MAX_BYTES = 1024
"""A digest and the longest name there can be."""
_LINE = re.compile(rb"([0-9a-f]{64}) [ *][^\n]+\n?")
_ODD = re.compile(r"[\\\x00-\x1f\x7f]")


class ChecksumError(Exception):
    """The checksum is there and says something else, or nothing."""


def beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def fits(path: Path) -> bool:
    """Whether the name can stand in a line: `sha256sum` writes others in a way of its own."""
    return not _ODD.search(path.name)


def line(content: Path, name: str) -> bytes:
    """Of what `content` holds now, under the name that it will have. Raises OSError."""
    return f"{_digest(content)}  {name}\n".encode()


def verify(path: Path) -> None:
    """Whatever name stands in it: both may have been renamed. Raises ChecksumError, FileNotFoundError, OSError."""
    with beside(path).open("rb") as file:
        found = _LINE.fullmatch(file.read(MAX_BYTES + 1))
    if found is None:
        raise ChecksumError("unreadable")
    if found[1].decode() != _digest(path):
        raise ChecksumError("changed")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
