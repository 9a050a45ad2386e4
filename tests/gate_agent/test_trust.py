from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from gate_agent.config import ConfigError
from gate_agent.keys import public_key
from gate_agent.policy_file import Kept, load_policy
from gate_agent.trust import TrustCache
from policy.document import PolicyError
from protocol.events import Kind
from testbed import certificates
from tests.conftest import NOW
from tests.gate_agent.conftest import POLICY, World
from tests.gate_agent.fakes import FakeClock


@dataclass
class Bench:
    world: World
    folder: Path
    cache: TrustCache
    reports: list[tuple[Kind, dict[str, Any]]]

    @property
    def policy(self) -> Path:
        return self.folder / "policy.toml"

    def last(self) -> tuple[Kind, str]:
        kind, data = self.reports[-1]
        return kind, data["what"]


def started(world: World, tmp_path: Path, *, take_specimens: bool = True) -> Bench:
    """As after a start of the agent: what an earlier one kept is there."""
    reports: list[tuple[Kind, dict[str, Any]]] = []
    cache = TrustCache(
        tmp_path / "trust",
        tmp_path / "policy.toml",
        list_key=world.authority.list_key,
        points={"lobby-in"},
        clock=FakeClock(),
        report=lambda kind, data: reports.append((kind, data)),
        kept=Kept(tmp_path / "rules.kept"),
        take_specimens=take_specimens,
    )
    return Bench(world, tmp_path, cache, reports)


@pytest.fixture
def bench(world: World, tmp_path: Path) -> Bench:
    world.authority.publish(tmp_path / "trust", NOW)
    made = started(world, tmp_path)
    made.policy.write_text(POLICY)
    return made


async def test_the_first_load_reports_both_versions(bench: Bench) -> None:
    await bench.cache.load_first()
    assert [(kind, data["what"]) for kind, data in bench.reports] == [
        (Kind.TRUST_APPLIED, "policy"),
        (Kind.TRUST_APPLIED, "trust"),
    ]
    trust = bench.reports[1][1]
    assert (trust["authorities"], trust["status_lists"], trust["problems"]) == (1, 1, [])


async def test_nothing_changed_is_nothing_done(bench: Bench) -> None:
    await bench.cache.load_first()
    before = bench.cache.current
    await bench.cache.poll()
    assert bench.cache.current is before


async def test_a_new_policy_takes_effect_at_the_next_look(bench: Bench) -> None:
    await bench.cache.load_first()
    trust = bench.cache.current.trust
    bench.policy.write_text(POLICY.replace("version = 7", "version = 18"))
    await bench.cache.poll()
    assert bench.cache.current.policy.version == 18
    assert bench.cache.current.trust is trust


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = ",
        POLICY.replace('to = "lobby"', 'to = "attic"'),
        POLICY.replace("points.lobby-in", "points.elsewhere"),
        POLICY + "\nextra = 1\n",
        POLICY.replace("07:00-20:00", "20:00-07:00"),
    ],
)
async def test_a_bad_policy_is_refused_with_its_reason_and_the_old_one_stays(bench: Bench, text: str) -> None:
    await bench.cache.load_first()
    before = bench.cache.current.policy
    bench.policy.write_text(text)
    await bench.cache.poll()
    assert bench.cache.current.policy is before
    assert bench.last() == (Kind.TRUST_REJECTED, "policy")
    assert bench.reports[-1][1]["why"]
    count = len(bench.reports)
    await bench.cache.poll()
    assert len(bench.reports) == count  # told once


@pytest.mark.parametrize("text", [None, "version = ", POLICY.replace("version = 7", "version = 6")])
async def test_a_gate_that_starts_with_rules_it_cannot_use_goes_on_with_those_from_before(
    bench: Bench, text: str | None
) -> None:
    await bench.cache.load_first()
    if text is None:
        bench.policy.unlink()
    else:
        bench.policy.write_text(text)
    after = started(bench.world, bench.folder)
    await after.cache.load_first()
    assert after.cache.current.policy == bench.cache.current.policy
    assert [kind for kind, data in after.reports if data["what"] == "policy"] == [
        Kind.TRUST_REJECTED,
        Kind.TRUST_APPLIED,
    ]
    await after.cache.poll()
    assert len(after.reports) == 3  # told once
    after.policy.write_text(POLICY.replace("version = 7", "version = 8"))
    await after.cache.poll()
    assert after.cache.current.policy.version == 8


async def test_a_policy_that_is_taken_away_is_refused_too(bench: Bench) -> None:
    await bench.cache.load_first()
    bench.policy.unlink()
    await bench.cache.poll()
    assert bench.last() == (Kind.TRUST_REJECTED, "policy")


async def test_a_new_status_list_takes_effect_and_changes_the_version(bench: Bench) -> None:
    await bench.cache.load_first()
    before = bench.cache.current.trust.version
    bench.world.authority.publish(bench.folder / "trust", NOW + timedelta(minutes=1))
    await bench.cache.poll()
    assert bench.cache.current.trust.version != before
    assert bench.last() == (Kind.TRUST_APPLIED, "trust")


async def test_a_directory_that_is_gone_is_refused_and_the_old_trust_stays(bench: Bench) -> None:
    await bench.cache.load_first()
    before = bench.cache.current.trust
    (bench.folder / "trust").rename(bench.folder / "away")
    await bench.cache.poll()
    assert bench.cache.current.trust is before
    assert bench.last() == (Kind.TRUST_REJECTED, "trust")


async def test_a_file_that_cannot_be_used_is_named_and_disables_itself_alone(bench: Bench) -> None:
    await bench.cache.load_first()
    (bench.folder / "trust" / "iaca" / "bad.pem").write_text("nonsense")
    await bench.cache.poll()
    assert bench.last() == (Kind.TRUST_APPLIED, "trust")
    assert "bad.pem" in bench.reports[-1][1]["problems"][0]
    assert len(bench.cache.current.trust.anchors) == 1


async def test_asked_to_reload_it_reads_both_changed_or_not(bench: Bench) -> None:
    await bench.cache.load_first()
    await bench.cache.reload()
    assert [kind for kind, _ in bench.reports] == [Kind.TRUST_APPLIED] * 4


async def test_a_set_that_is_still_being_copied_is_not_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.cache.load_first()
    loads = 0
    load = bench.cache._load_trust

    def counted() -> Any:
        nonlocal loads
        loads += 1
        return load()

    monkeypatch.setattr(bench.cache, "_load_trust", counted)
    copying = bench.folder / "trust" / "status" / "more.cwt"
    pauses = 0

    async def pause(_seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses < 4:
            copying.write_bytes(b"x" * pauses)

    copying.write_bytes(b"")
    monkeypatch.setattr("gate_agent.trust.asyncio.sleep", pause)
    await bench.cache.poll()
    assert (loads, pauses) == (1, 4)


async def test_at_start_a_bad_policy_is_a_configuration_mistake(bench: Bench) -> None:
    bench.policy.write_text(POLICY.replace('to = "lobby"', 'to = "attic"'))
    with pytest.raises(ConfigError) as caught:
        await bench.cache.load_first()
    assert (caught.value.file, caught.value.key) == (bench.policy, "points.lobby-in.to")


async def test_looking_does_not_hold_up_the_loop(bench: Bench) -> None:
    await bench.cache.load_first()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await bench.cache.reload()
    ticking.cancel()
    assert ticks > 1


def test_every_point_of_the_gate_must_be_in_the_policy(bench: Bench) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(bench.policy, {"garage-in"})
    assert caught.value.place == "points.garage-in"


def test_what_is_no_public_key_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("nonsense")
    with pytest.raises(ConfigError):
        public_key(tmp_path / "key.pem")


async def test_a_folder_that_goes_away_under_the_look_does_not_end_the_watch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.cache.load_first()

    def gone(_path: Path, _pattern: str) -> Any:
        raise FileNotFoundError("visits")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rglob", gone)
        await bench.cache.poll()
    bench.policy.write_text(POLICY.replace("version = 7", "version = 8"))
    await bench.cache.poll()
    assert bench.cache.current.policy.version == 8


async def test_of_two_reloads_at_once_what_was_read_last_is_in_force(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.cache.load_first()
    disk, read = asyncio.Event(), list[int]()

    async def slow_the_first_time(work: Any, *rest: Any) -> Any:
        found = work(*rest)
        if work == bench.cache._load_policy:
            read.append(found.version)
            if len(read) == 1:
                await disk.wait()
        return found

    monkeypatch.setattr(asyncio, "to_thread", slow_the_first_time)
    reloads = []
    for version in (8, 9):
        bench.policy.write_text(POLICY.replace("version = 7", f"version = {version}"))
        reloads.append(asyncio.create_task(bench.cache.reload()))
        for _ in range(20):
            await asyncio.sleep(0)
    disk.set()
    await asyncio.gather(*reloads)
    assert bench.cache.current.policy.version == 9


async def test_a_gate_that_takes_no_specimens_trusts_none_and_says_so_each_time(bench: Bench) -> None:
    gate = started(bench.world, bench.folder, take_specimens=False)
    await gate.cache.load_first()
    assert len(gate.cache.current.trust.anchors) == 0
    rejected = [data for kind, data in gate.reports if kind is Kind.TRUST_REJECTED]
    assert [data["what"] for data in rejected] == ["specimen"]
    assert "specimens" in rejected[0]["why"]
    assert "issuers.cose" in rejected[0]["why"]
    await gate.cache.poll()
    assert [kind for kind, _ in gate.reports].count(Kind.TRUST_REJECTED) == 1  # told once
    gate.world.authority.publish(gate.folder / "trust", NOW + timedelta(minutes=1))
    await gate.cache.poll()
    assert [kind for kind, _ in gate.reports].count(Kind.TRUST_REJECTED) == 2


async def test_a_specimen_among_real_roots_takes_none_of_them_along(bench: Bench) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    real = certificates.root(key, "Real", country="KR", not_before=NOW, lifetime=timedelta(days=30))
    (bench.folder / "trust" / "iaca" / "real.pem").write_bytes(real.public_bytes(Encoding.PEM))
    gate = started(bench.world, bench.folder, take_specimens=False)
    await gate.cache.load_first()
    assert [anchor.certificate.der for anchor in gate.cache.current.trust.anchors] == [real.public_bytes(Encoding.DER)]
