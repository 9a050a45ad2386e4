"""The agent's log: one line an entry on stderr, `key=value`, for journald. It holds nothing that points to a person.

Text of an unexpected exception may quote what a phone sent, so only its type and place are written.
"""

from __future__ import annotations

import json
import logging
import sys
from types import TracebackType

OURS = ("gate_agent", "drivers", "protocol", "policy", "mdoc")
SILENT = ("bleak", "bumble", "nfc", "dbus_fast")
"""Libraries whose lines name radio addresses and card numbers."""
MAX_LINE = 1000

_Info = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = " ".join(record.getMessage().split())[:MAX_LINE]
        line = f"level={record.levelname.lower()} src={record.name} msg={json.dumps(message, ensure_ascii=False)}"
        if record.exc_info:
            line += f" error={self.formatException(record.exc_info)}"
        return line

    def formatException(self, ei: _Info) -> str:  # noqa: N802  the base class's name
        kind, _, trace = ei
        where = []
        while trace is not None:
            code = trace.tb_frame.f_code
            where.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}:{code.co_name}")
            trace = trace.tb_next
        return f"{kind.__name__ if kind else '-'}@{'<'.join(reversed(where[-8:]))}"


def set_up() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
