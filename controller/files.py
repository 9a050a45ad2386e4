"""Files that other processes read while they are replaced: whole and old, or whole and new."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

FILE_MODE, DIRECTORY_MODE = 0o644, 0o755


def make_directory(path: Path) -> None:
    """`path` and the directory above it, readable for all whatever the umask says. Raises OSError."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(DIRECTORY_MODE)


def replace(path: Path, content: bytes, mode: int = FILE_MODE) -> None:
    """Write beside it, fsync, rename, fsync the directory: a crash leaves the old file or the new one. Raises OSError."""
    make_directory(path.parent)
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """What was renamed or removed in it stays so after a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
