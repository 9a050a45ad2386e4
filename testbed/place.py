"""Where a running demo says that it runs."""

from __future__ import annotations

import getpass
import tempfile
from pathlib import Path

STATE = Path(tempfile.gettempdir()) / f"gwanmun-demo-{getpass.getuser()}"
"""A link to the working directory of the demo that runs, for `gwanmun phone`."""
