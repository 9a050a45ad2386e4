"""Who holds the controller's state directory: the running controller, or a restore, never both. A kill frees it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self


class HeldError(Exception):
    """Another process holds it."""


class StateLock:
    """A lock on a file of its own: on the database itself it would be in the way of SQLite's. The file stays: were it removed,
    two processes could each lock one of that name."""

    def __init__(self, path: Path) -> None:
        """Raises HeldError, OSError."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if isinstance(error, BlockingIOError):
                raise HeldError(str(path)) from error
            raise

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
