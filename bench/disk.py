"""A directory on a real disk: what is measured in memory says nothing about durability."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import psutil

MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})


class DiskError(Exception):
    """No writable directory on a disk."""


def filesystem(path: Path) -> str:
    """Type of the file system that holds `path`, such as `ext4`."""
    whole = path.resolve()
    mounts = [each for each in psutil.disk_partitions(all=True) if whole.is_relative_to(each.mountpoint)]
    return max(mounts, key=lambda each: len(each.mountpoint)).fstype if mounts else "unknown"


def directory() -> tuple[Path, str]:
    """The place for temporary files if it is on a disk, else the next that is; and its file system. Raises DiskError."""
    places = (Path(tempfile.gettempdir()), Path("/var/tmp"), Path(__file__).resolve().parents[1])  # noqa: S108
    for place in places:
        kind = filesystem(place)
        if kind not in MEMORY and os.access(place, os.W_OK):
            return place, kind
    raise DiskError(f"no disk among {', '.join(map(str, places))}")
