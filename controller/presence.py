"""Whether a birth or a will counts: the will of an earlier boot is late, and a boot counter that went back is a copied disk.

A boot id is `<counter>-<hex>`; the counter is durable at the gate and 0 while its journal cannot be written. Agents of before
send the hex alone: nothing can be said about their order.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum

from protocol.status import Online

BOOT = re.compile(r"([1-9][0-9]{0,17})-[0-9a-f]+")


class Verdict(Enum):
    COUNTS = "counts"
    LATE = "late"
    """Of an earlier boot, delivered late or again."""
    REWIND = "rewind"
    """It counts, and somebody has to look: a new boot with a number that was already used."""


def counter(boot: str) -> int | None:
    found = BOOT.fullmatch(boot)
    return int(found[1]) if found else None


def judge(online: Online, known: str | None, boots: Collection[str]) -> Verdict:
    """`known` is the boot that counted last, `boots` are those seen before."""
    if known is None or online.boot == known:
        return Verdict.COUNTS
    if not online.online:
        return Verdict.LATE
    new, old = counter(online.boot), counter(known)
    if new is None or old is None or new > old:
        return Verdict.COUNTS
    return Verdict.LATE if online.boot in boots else Verdict.REWIND
