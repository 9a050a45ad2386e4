"""`gwanmun selftest`: are the devices of gate.toml there and do they answer, and if not, what is to be done (docs/selftest.md).

Nothing moves, unless every output is to be exercised (`--outputs`), and then no relay without somebody's word that its lane is
clear. A device that the running agent holds is not touched.
"""

from __future__ import annotations

from gate_agent.selftest.cli import main

__all__ = ["main"]
