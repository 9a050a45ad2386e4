"""Root that works on a service's directory becomes its owner first: every file is the service's own then, and nothing in a
directory that is not root's is followed with root's rights."""

from __future__ import annotations

import os
from pathlib import Path


def become_owner(directory: Path) -> None:
    """Raises OSError."""
    if os.geteuid() != 0:
        return
    about = directory.stat()
    if about.st_uid != 0:
        os.setgroups([])
        os.setresgid(about.st_gid, about.st_gid, about.st_gid)
        os.setresuid(about.st_uid, about.st_uid, about.st_uid)
