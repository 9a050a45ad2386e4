"""What the gate decides with: the trust directory and the rules document, watched and switched whole.

Both are read in a thread and take effect together between two attempts; a document that cannot be used is refused with its
reason, and the one in force stays. A change counts once two looks in a row agree, so that a half-copied set is not taken.
"""

from __future__ import annotations

import asyncio
import logging
import tomllib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mdoc.errors import TrustError
from mdoc.truststore import Trust, load_directory
from policy import document
from policy.document import Policy, PolicyError
from protocol.clock import Clock
from protocol.events import Kind
from protocol.toml import MAX_FILE_BYTES, ConfigError, Expected

_log = logging.getLogger(__name__)

MAX_PROBLEMS = 5
"""Problems of a directory named in one event."""
MAX_FILES = 4096
"""Files looked at in one poll, the library's own limit."""
SETTLE_S = 0.1
"""Seconds between the two looks that must agree."""
MAX_WHY = 200
"""Characters of a reason in an event."""

Report = Callable[[Kind, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class InForce:
    """One consistent pair; an attempt uses one and the same from begin to end."""

    trust: Trust
    policy: Policy


def load_policy(path: Path, points: Collection[str]) -> Policy:
    """Read the rules and check that they know every access point of this gate. Raises PolicyError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PolicyError("", "a file of at most 1 MiB is expected")
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError("", f"cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PolicyError("", f"TOML syntax: {error}") from error
    policy = document.load(parsed)
    for point in points:
        if point not in policy.points:
            raise PolicyError(f"points.{point}", "an entry is expected: a lane of this gate leads through it")
    return policy


def load_list_key(path: Path) -> ec.EllipticCurvePublicKey:
    """The public key that signs the issuer list. Raises ConfigError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(path, "", Expected("PEM 공개키가 있어야 합니다", "a PEM public key is expected")) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(
            path, "", Expected("타원곡선 공개키가 있어야 합니다", "an elliptic-curve public key is expected")
        )
    return key


def _fingerprint(paths: Iterator[Path]) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes: what a poll compares. Unreadable entries count as absent."""
    found = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(sorted(found))


def _directory(directory: Path) -> Iterator[Path]:
    yield directory
    for at, path in enumerate(directory.rglob("*")):
        if at >= MAX_FILES:
            return
        yield path


class TrustCache:
    """`current` is what counts now. `load_first` once, then `watch` for ever."""

    def __init__(
        self,
        directory: Path,
        policy_file: Path,
        *,
        list_key: ec.EllipticCurvePublicKey,
        points: Collection[str],
        clock: Clock,
        report: Report,
    ) -> None:
        """`report(kind, data)` records trust.applied and trust.rejected; called on the loop."""
        self._directory, self._policy_file, self._list_key = directory, policy_file, list_key
        self._points, self._clock, self._report = frozenset(points), clock, report
        self._current: InForce | None = None
        self._seen: tuple[Any, Any] = (None, None)

    @property
    def current(self) -> InForce:
        if self._current is None:
            raise RuntimeError("nothing loaded")
        return self._current

    async def load_first(self) -> None:
        """At start both must load: there is nothing older to stay with. Raises ConfigError."""
        self._seen = await asyncio.to_thread(self._look)
        try:
            policy = await asyncio.to_thread(load_policy, self._policy_file, self._points)
        except PolicyError as error:
            place = error.place
            raise ConfigError(
                self._policy_file, place, Expected(f"규칙 문서를 쓸 수 없습니다: {error.expected}", error.expected)
            ) from error
        try:
            trust = await asyncio.to_thread(self._load_trust)
        except TrustError as error:
            raise ConfigError(
                self._directory, "", Expected(f"신뢰 디렉터리를 쓸 수 없습니다: {error}", str(error))
            ) from error
        self._current = InForce(trust, policy)
        self._applied_policy(policy)
        self._applied_trust(trust)

    async def watch(self, period: float) -> None:
        """Look every `period` seconds, for ever."""
        while True:
            await asyncio.sleep(period)
            await self.poll()

    async def poll(self) -> None:
        """One look; a change is taken when a second look soon after sees the same."""
        looked = await asyncio.to_thread(self._look)
        while looked != self._seen:
            await asyncio.sleep(SETTLE_S)
            again = await asyncio.to_thread(self._look)
            if again == looked:
                before, self._seen = self._seen, looked
                await self._reload(trust=looked[0] != before[0], policy=looked[1] != before[1])
            looked = again

    async def reload(self) -> None:
        """Read both anew, changed or not (SIGHUP)."""
        self._seen = await asyncio.to_thread(self._look)
        await self._reload(trust=True, policy=True)

    async def _reload(self, *, trust: bool, policy: bool) -> None:
        new_trust, new_policy = self.current.trust, self.current.policy
        if policy:
            try:
                new_policy = await asyncio.to_thread(load_policy, self._policy_file, self._points)
            except PolicyError as error:
                self._rejected("policy", str(error))
        if trust:
            try:
                new_trust = await asyncio.to_thread(self._load_trust)
            except TrustError as error:
                self._rejected("trust", str(error))
        before, self._current = self.current, InForce(new_trust, new_policy)
        if new_policy is not before.policy:
            self._applied_policy(new_policy)
        if new_trust is not before.trust:
            self._applied_trust(new_trust)

    def _look(self) -> tuple[Any, Any]:
        return _fingerprint(_directory(self._directory)), _fingerprint(iter((self._policy_file,)))

    def _load_trust(self) -> Trust:
        return load_directory(self._directory, list_key=self._list_key, now=self._clock.now())

    def _applied_policy(self, policy: Policy) -> None:
        _log.info("policy applied version=%d", policy.version)
        self._report(Kind.TRUST_APPLIED, {"what": "policy", "version": str(policy.version)})

    def _applied_trust(self, trust: Trust) -> None:
        _log.info("trust applied version=%s problems=%d", trust.version, len(trust.problems))
        problems = [problem[:MAX_WHY] for problem in trust.problems[:MAX_PROBLEMS]]
        if len(trust.problems) > MAX_PROBLEMS:
            problems.append(f"and {len(trust.problems) - MAX_PROBLEMS} more")
        data: dict[str, Any] = {
            "what": "trust",
            "version": trust.version,
            "authorities": len(trust.anchors),
            "status_lists": len(trust.status),
            "problems": problems,
        }
        self._report(Kind.TRUST_APPLIED, data)

    def _rejected(self, what: str, why: str) -> None:
        _log.error("%s rejected, the one in force stays: %s", what, why)
        self._report(Kind.TRUST_REJECTED, {"what": what, "why": why[:MAX_WHY]})
