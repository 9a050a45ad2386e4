"""The broker's access list (mosquitto.conf(5), acl_file), made from the enrolled gates: one line a gate and leaf.

No pattern, and no wildcard where a gate writes but for its own zones' names. A gate that is not named has no right at all:
taking its lines out ends what a session that is already connected may do. What the leaves mean stands in protocol.topics.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from controller import files
from controller.config import CLIENT_ID
from controller.enrolled import RESERVED, EnrolError, Enrolled
from protocol import topics

GATE_WRITES = (topics.event, topics.alarm, topics.state, topics.online, topics.health, topics.result)
GATE_READS = (topics.ack, topics.replay, topics.command)
ALL_READ = (topics.time, topics.emergency)
"""What the controller writes once for all gates."""
POLL_S = 2.0
"""Seconds between two looks at the directory of gates: a revocation reaches the broker within this and its reload."""
HEADER = """\
# Access list of the broker. Made by the controller from the enrolled gates: whatever is changed here is overwritten.
"""
Version = tuple[int, int]
_log = logging.getLogger(__name__)


def render(site: str, gates: Iterable[str]) -> str:
    """The access list for `gates`, in their order by name, each once; the controller's rights are always there.

    Raises ValueError for a site or gate that is no topics.ID, or a gate named as something else is.
    """
    names = sorted(set(gates))
    for name in (site, *names):
        if not topics.ID.fullmatch(name):
            raise ValueError("not a name of a site or gate")
    if reserved := RESERVED.intersection(names):
        raise ValueError(f"no gate may be named {min(reserved)}")
    return "".join([HEADER, _controller(site), *(_gate(site, name) for name in names)])


def _controller(site: str) -> str:
    every = "+"
    lines = [
        f"user {CLIENT_ID}",
        *(f"topic read {leaf(site, every)}" for leaf in GATE_WRITES),
        *(f"topic write {leaf(site, every)}" for leaf in GATE_READS),
        *(f"topic write {leaf(site)}" for leaf in ALL_READ),
        # What was issued last, for a controller whose own database is older (controller.emergency).
        f"topic read {topics.emergency(site)}",
    ]
    return "\n" + "\n".join(lines) + "\n"


def _gate(site: str, gate: str) -> str:
    lines = [
        f"user {gate}",
        *(f"topic write {leaf(site, gate)}" for leaf in GATE_WRITES),
        *(f"topic read {leaf(site, gate)}" for leaf in GATE_READS),
        *(f"topic read {leaf(site)}" for leaf in ALL_READ),
        # Gates of a zone tell each other who is inside, sealed under a key that neither broker nor controller has.
        f"topic write {topics.zone_tag(site, gate, '+')}",
        f"topic read {topics.zone_tag(site, '+', '+')}",
    ]
    return "\n" + "\n".join(lines) + "\n"


class AclFile:
    """Keeps the file `path` in step with the enrolled gates. Another process may do the same (`gwanmun gates`)."""

    def __init__(self, path: Path, site: str, enrolled: Enrolled) -> None:
        self.path, self._site, self._enrolled = path, site, enrolled
        self._checked: Version | None = None

    def step(self) -> bool:
        """Look at the directory, and write the file when it is not what the gates there call for; says whether it was written.

        Raises OSError and EnrolError; the next step tries again. Blocks for a few milliseconds.
        """
        # The file is looked at too: a gate that came and went between two steps leaves the directory as it was, not the file.
        if not self._enrolled.changed() and self._checked is not None and _version(self.path) == self._checked:
            return False
        self._checked = None
        content = render(self._site, self._enrolled.gates()).encode()
        version = _version(self.path)
        # Only what differs is written: each writing makes the broker load its list again.
        written = _read(self.path, len(content) + 1) != content
        if written:
            files.replace(self.path, content)
            for name, refusal in self._enrolled.unusable().items():
                _log.warning("%s enrols no gate: %s", name, refusal)
            _log.info("access list for %d gates written", len(self._enrolled.gates()))
        # What was just written is compared once more at the next step: another process may have been faster.
        self._checked = None if written else version
        return written

    async def keep(self) -> None:
        """One step off the loop; what goes wrong is logged, and the list in force stays in force."""
        try:
            await asyncio.to_thread(self.step)
        except (OSError, EnrolError) as error:
            _log.error("access list not written: %s", error)

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """A step every POLL_S seconds, for ever."""
        while True:
            await sleep(POLL_S)
            await self.keep()


def _read(path: Path, at_most: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(at_most)
    except FileNotFoundError:
        return None


def _version(file: Path) -> Version | None:
    """What differs after every replacement of the file; None while it is absent."""
    try:
        about = file.stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns
