"""The process's own figures under the names that Prometheus's client libraries use.

Not prometheus-client's collector: that wants /proc/stat, which the service cannot see (ProcSubset=pid).
"""

from __future__ import annotations

import os
import resource
from datetime import datetime
from pathlib import Path

from controller.metric_sheet import Sheet

PROC = Path("/proc/self")
_AFTER_NAME = b") "
"""In `stat`, behind the program's name, which may hold anything (proc_pid_stat(5), field 2)."""
_UTIME, _STIME, _VSIZE, _RSS = 11, 12, 20, 21
"""Fields 14, 15, 23 and 24, counted from the one behind the name."""


def put_process(sheet: Sheet, started: datetime, proc: Path = PROC) -> None:
    """What cannot be read is left out."""
    sheet.put("process_start_time_seconds", started.timestamp())
    try:
        fields = (proc / "stat").read_bytes().rpartition(_AFTER_NAME)[2].split()
        ticks, page = os.sysconf("SC_CLK_TCK"), resource.getpagesize()
        sheet.put("process_cpu_seconds", (int(fields[_UTIME]) + int(fields[_STIME])) / ticks)
        sheet.put("process_virtual_memory_bytes", int(fields[_VSIZE]))
        sheet.put("process_resident_memory_bytes", int(fields[_RSS]) * page)
        sheet.put("process_open_fds", sum(1 for _ in (proc / "fd").iterdir()))
        sheet.put("process_max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    except (OSError, ValueError, IndexError):
        return
