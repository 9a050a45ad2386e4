"""What the gate decides with: the trust directory and the rules document, watched and switched whole.

Both are read in a thread and take effect together between two attempts; a document that cannot be used is refused with its
reason, and the one in force stays. A change counts once two looks in a row agree, so that a half-copied set is not taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent import card_trust, command_keys, denylist
from gate_agent import visits as visit_records
from gate_agent.card_trust import CardTrust
from gate_agent.command_keys import CommandKeys
from gate_agent.denylist import DenyList
from gate_agent.keys import Signers
from gate_agent.policy_file import Kept, load_policy, signature_path
from gate_agent.visits import Visits
from mdoc.errors import MdocError, TrustError
from mdoc.truststore import Trust, load_directory
from policy.document import Policy, PolicyError
from protocol.clock import Clock
from protocol.events import Kind
from protocol.toml import ConfigError, Expected

_log = logging.getLogger(__name__)

MAX_PROBLEMS = 5
"""Problems of a directory named in one event."""
MAX_FILES = 4096
"""Files looked at in one poll, the library's own limit."""
SETTLE_S = 0.1
"""Seconds between the two looks that must agree."""
MAX_WHY = 200
"""Characters of a reason in an event."""

COMMANDS = "commands"
"""`what` of trust.rejected for the list of keys that may order from afar."""
SPECIMEN = "specimen"
"""`what` of trust.rejected for issuers that anybody can make (mdoc.specimen)."""

Report = Callable[[Kind, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class InForce:
    """One consistent pair; an attempt uses one and the same from begin to end."""

    trust: Trust
    policy: Policy
    deny: DenyList = field(default_factory=DenyList)
    visits: Visits = field(default_factory=Visits)
    cards: CardTrust = field(default_factory=CardTrust)
    commands: CommandKeys = field(default_factory=CommandKeys)


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
    try:
        for at, path in enumerate(directory.rglob("*")):
            if at >= MAX_FILES:
                return
            yield path
    except OSError:
        return  # a folder that went away under the look: the next one sees what is there


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
        signers: Signers | None = None,
        kept: Kept | None = None,
        take_specimens: bool = True,
        on_policy: Callable[[Policy], None] = lambda _policy: None,
        on_trust: Callable[[Trust], None] = lambda _trust: None,
    ) -> None:
        """`kept`: the rules that were in force before the last stop. `take_specimens`: specimen issuers (mdoc.specimen) are
        taken for real ones; without it they are left out and reported as rejected. `on_policy` and `on_trust` are called with
        whatever comes into force, before its event.

        `report(kind, data)` records trust.applied and trust.rejected; called on the loop.
        """
        self._directory, self._policy_file, self._list_key = directory, policy_file, list_key
        self._points, self._clock, self._report = frozenset(points), clock, report
        self._signers = signers or Signers()
        self._kept, self._on_policy, self._on_trust = kept, on_policy, on_trust
        self._take_specimens = take_specimens
        self._current: InForce | None = None
        self._seen: tuple[Any, Any] = (None, None)
        self._reloading = asyncio.Lock()
        """A poll and a signal may come together; what is read first must not be put in place last."""

    @property
    def current(self) -> InForce:
        if self._current is None:
            raise RuntimeError("nothing loaded")
        return self._current

    async def load_first(self) -> None:
        """At start both must load; for rules that do not, those from before the last stop stay in force. Raises ConfigError."""
        self._seen = await asyncio.to_thread(self._look)
        refused = None
        try:
            policy = await asyncio.to_thread(self._load_policy)
        except PolicyError as error:
            refused = error
            policy = await asyncio.to_thread(self._load_kept, error)
        try:
            trust = await asyncio.to_thread(self._load_trust)
            deny, visits, problems = await asyncio.to_thread(self._load_people)
        except MdocError as error:
            raise ConfigError(
                self._directory, "", Expected(f"신뢰 디렉터리를 쓸 수 없습니다: {error}", str(error))
            ) from error
        try:
            cards = await asyncio.to_thread(self._load_cards)
        except MdocError as error:
            # Phones go on without: a mistake about cards must not keep a gate from starting.
            cards = CardTrust(problems=(str(error),))
            self._rejected(card_trust.FOLDER, str(error))
        try:
            commands = await asyncio.to_thread(self._load_commands)
        except MdocError as error:
            commands = CommandKeys()
            self._rejected(COMMANDS, str(error))
        self._current = InForce(trust, policy, deny, visits, cards, commands)
        if refused is not None:
            self._rejected("policy", str(refused))
        self._applied_policy(policy)
        self._applied_trust(trust, [*problems, *cards.problems])

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
        async with self._reloading:
            await self._reload_alone(trust=trust, policy=policy)

    async def _reload_alone(self, *, trust: bool, policy: bool) -> None:
        before = self.current
        new_trust, new_policy, cards = before.trust, before.policy, before.cards
        deny, visits, commands = before.deny, before.visits, before.commands
        problems: Sequence[str] = ()
        if policy:
            try:
                new_policy = await asyncio.to_thread(self._load_policy)
            except PolicyError as error:
                self._rejected("policy", str(error))
        if trust:
            try:
                new_trust = await asyncio.to_thread(self._load_trust)
            except TrustError as error:
                self._rejected("trust", str(error))
            try:
                deny, visits, problems = await asyncio.to_thread(self._load_people)
            except MdocError as error:
                self._rejected("deny", str(error))
            try:
                cards = await asyncio.to_thread(self._load_cards)
            except MdocError as error:
                self._rejected(card_trust.FOLDER, str(error))
            try:
                commands = await asyncio.to_thread(self._load_commands)
            except MdocError as error:
                self._rejected(COMMANDS, str(error))
        self._current = InForce(new_trust, new_policy, deny, visits, cards, commands)
        if new_policy is not before.policy:
            self._applied_policy(new_policy)
        if new_trust is not before.trust:
            self._applied_trust(new_trust, [*problems, *cards.problems])

    def _look(self) -> tuple[Any, Any]:
        return _fingerprint(_directory(self._directory)), _fingerprint(
            iter((self._policy_file, signature_path(self._policy_file)))
        )

    def _load_policy(self) -> Policy:
        if self._current is not None:
            in_force: int | None = self._current.policy.version
        else:
            in_force = None if self._kept is None else self._kept.version()
        return load_policy(
            self._policy_file, self._points, signer=self._signers.policy, in_force=in_force, kept=self._kept
        )

    def _load_kept(self, refused: PolicyError) -> Policy:
        """Raises ConfigError of what was refused where none are kept that this gate can use."""
        try:
            if self._kept is not None:
                return self._kept.load(self._points, signer=self._signers.policy)
        except PolicyError as error:
            _log.warning("the rules kept cannot be used either: %s", error)
        first = refused.problems[0]
        raise ConfigError(self._policy_file, first.place, Expected(first.ko, first.en)) from refused

    def _load_trust(self) -> Trust:
        previous = None if self._current is None else self._current.trust
        return load_directory(
            self._directory,
            list_key=self._list_key,
            now=self._clock.now(),
            previous=previous,
            take_specimens=self._take_specimens,
        )

    def _load_people(self) -> tuple[DenyList, Visits, Sequence[str]]:
        """Deny list and visit records. Raises MdocError where the list in force has to stay."""
        deny, visits, problems = DenyList(), Visits(), list[str]()
        if self._signers.deny is not None:
            in_force = None if self._current is None else self._current.deny.version
            deny = denylist.load(self._directory, self._signers.deny, in_force=in_force)
        if self._signers.visit is not None:
            visits, problems = visit_records.load(self._directory / visit_records.FOLDER, self._signers.visit)
        return deny, visits, problems

    def _load_cards(self) -> CardTrust:
        """Raises MdocError where the set in force has to stay."""
        return card_trust.load(
            self._directory,
            self._signers.pkoc,
            now=self._clock.now(),
            previous=None if self._current is None else self._current.cards,
            take_specimens=self._take_specimens,
        )

    def _load_commands(self) -> CommandKeys:
        """Raises MdocError where the list in force has to stay."""
        if self._signers.command is None:
            return CommandKeys()
        in_force = None if self._current is None else self._current.commands.version
        return command_keys.load(self._directory, self._signers.command, in_force=in_force)

    def _applied_policy(self, policy: Policy) -> None:
        _log.info("policy applied version=%d", policy.version)
        self._on_policy(policy)
        self._report(Kind.TRUST_APPLIED, {"what": "policy", "version": str(policy.version)})

    def _applied_trust(self, trust: Trust, more: Sequence[str]) -> None:
        self._on_trust(trust)
        found = [*trust.problems, *more]
        _log.info("trust applied version=%s problems=%d", trust.version, len(found))
        problems = [problem[:MAX_WHY] for problem in found[:MAX_PROBLEMS]]
        if len(found) > MAX_PROBLEMS:
            problems.append(f"and {len(found) - MAX_PROBLEMS} more")
        data: dict[str, Any] = {
            "what": "trust",
            "version": trust.version,
            "authorities": len(trust.anchors),
            "status_lists": len(trust.status),
            "card_authorities": len(self.current.cards.anchors),
            "problems": problems,
        }
        self._report(Kind.TRUST_APPLIED, data)
        if trust.specimens and not self._take_specimens:
            why = f"specimens, which an installed gate does not take: {', '.join(trust.specimens)}"
            _log.error("issuers left out: %s", why)
            self._report(Kind.TRUST_REJECTED, {"what": SPECIMEN, "why": why[:MAX_WHY]})

    def _rejected(self, what: str, why: str) -> None:
        _log.error("%s rejected, the one in force stays: %s", what, why)
        self._report(Kind.TRUST_REJECTED, {"what": what, "why": why[:MAX_WHY]})
