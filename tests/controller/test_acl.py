"""The access list that the controller makes: who may do what, and when it is written."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from stat import S_IMODE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import acl
from controller.acl import AclFile, render
from controller.enrolled import RESERVED, Enrolled
from protocol import topics
from tests.controller.test_enrolled import KEYS, certificate

NAMES = st.from_regex(topics.ID, fullmatch=True)
GATES = st.lists(NAMES.filter(lambda name: name not in RESERVED), max_size=5)


def rights(text: str) -> dict[str, set[str]]:
    """`read TOPIC` and `write TOPIC` by user; every line is of a known form."""
    found: dict[str, set[str]] = {}
    user: set[str] | None = None
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "user":
            assert rest not in found
            user = found[rest] = set()
        else:
            assert word == "topic"
            assert user is not None
            assert rest not in user
            user.add(rest)
    return found


def test_a_gate_has_exactly_the_rights_of_its_leaves() -> None:
    assert rights(render("hq", ["gate-1"]))["gate-1"] == {
        "write pacs/1/hq/gate-1/evt",
        "write pacs/1/hq/gate-1/alarm",
        "write pacs/1/hq/gate-1/state",
        "write pacs/1/hq/gate-1/online",
        "write pacs/1/hq/gate-1/health",
        "write pacs/1/hq/gate-1/res",
        "read pacs/1/hq/gate-1/ack",
        "read pacs/1/hq/gate-1/replay",
        "read pacs/1/hq/gate-1/cmd",
        "read pacs/1/hq/all/time",
        "read pacs/1/hq/all/emergency",
        "write pacs/1/hq/gate-1/zone/+/tag",
        "read pacs/1/hq/+/zone/+/tag",
    }


def test_the_controller_has_the_other_side_of_each_leaf_and_no_part_in_the_zones() -> None:
    assert rights(render("hq", [])) == {
        "controller": {
            "read pacs/1/hq/+/evt",
            "read pacs/1/hq/+/alarm",
            "read pacs/1/hq/+/state",
            "read pacs/1/hq/+/online",
            "read pacs/1/hq/+/health",
            "read pacs/1/hq/+/res",
            "write pacs/1/hq/+/ack",
            "write pacs/1/hq/+/replay",
            "write pacs/1/hq/+/cmd",
            "write pacs/1/hq/all/time",
            "write pacs/1/hq/all/emergency",
            "read pacs/1/hq/all/emergency",
        }
    }


@given(site=NAMES, gates=GATES)
def test_no_gate_writes_under_another_name_and_none_writes_what_the_controller_writes(
    site: str, gates: list[str]
) -> None:
    found = rights(render(site, gates))
    assert set(found) == {"controller", *gates}
    for gate in gates:
        for right in found[gate]:
            access, topic = right.split(" ")
            if access == "write":
                assert topic.startswith(f"pacs/1/{site}/{gate}/")
                assert not topic.endswith(("/ack", "/replay", "/cmd", "/time", "/emergency"))
            assert "#" not in topic
            assert not topic.endswith("+")


@given(site=NAMES, gates=GATES)
def test_the_text_is_the_same_for_the_same_gates_in_any_order(site: str, gates: list[str]) -> None:
    assert render(site, gates) == render(site, [*reversed(gates), *gates])


@pytest.mark.parametrize("name", ["gate-1\ntopic write #", "gate 1", "", "+", "#", "%u", "Gate", "gate-1\n", "a/b"])
def test_a_name_that_means_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        render("hq", [name])
    with pytest.raises(ValueError, match="not a name"):
        render(name, [])


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_no_gate_gets_the_rights_of_the_controller_or_of_all(name: str) -> None:
    with pytest.raises(ValueError, match="no gate may be named"):
        render("hq", [name])


def test_every_topic_of_the_product_stands_in_the_list_once_for_its_writer() -> None:
    """A new leaf without a right here would be refused by the broker, and is noticed here first."""
    writers = re.findall(r"(?m)^topic write (\S+)$", render("hq", ["gate-1"]))
    leaves = [topics.event, topics.alarm, topics.state, topics.online, topics.health, topics.result]
    assert sorted(writers) == sorted(
        [
            *(leaf("hq", "gate-1") for leaf in leaves),
            topics.zone_tag("hq", "gate-1", "+"),
            topics.ack("hq", "+"),
            topics.replay("hq", "+"),
            topics.command("hq", "+"),
            topics.time("hq"),
            topics.emergency("hq"),
        ]
    )


# -- the file -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gates(tmp_path: Path) -> Enrolled:
    return Enrolled(tmp_path / "gates")


@pytest.fixture
def file(tmp_path: Path, gates: Enrolled) -> AclFile:
    return AclFile(tmp_path / "broker" / "acl", "hq", Enrolled(gates.directory))


def test_the_first_step_writes_the_controllers_rights_for_all_to_read(file: AclFile) -> None:
    assert file.step()
    assert file.path.read_text() == render("hq", [])
    assert S_IMODE(file.path.stat().st_mode) == 0o644


def test_a_step_writes_when_the_gates_changed_and_not_otherwise(file: AclFile, gates: Enrolled) -> None:
    assert [file.step(), file.step()] == [True, False]
    gates.add(certificate("gate-1"))
    assert [file.step(), file.step()] == [True, False]
    assert file.path.read_text() == render("hq", ["gate-1"])
    before = file.path.stat().st_ino
    gates.add(certificate("gate-1", serial=8))  # renewed: the same rights
    assert not file.step()
    assert file.path.stat().st_ino == before
    gates.revoke("gate-1")
    assert file.step()
    assert file.path.read_text() == render("hq", [])


def test_a_gate_that_came_and_went_between_two_steps_leaves_no_right_behind(file: AclFile, gates: Enrolled) -> None:
    """The directory is as it was, and still the list is not: the command that enrolled has written it."""
    file.step()
    gates.add(certificate("gate-1"))
    AclFile(file.path, "hq", Enrolled(gates.directory)).step()
    (gates.directory / "gate-1.pem").unlink()
    assert [file.step(), file.step()] == [True, False]
    assert file.path.read_text() == render("hq", [])


def test_a_list_that_somebody_changed_or_removed_is_made_again(file: AclFile) -> None:
    file.step()
    file.path.write_text("user gate-1\n")
    assert [file.step(), file.step()] == [True, False]
    file.path.unlink()
    assert [file.step(), file.step()] == [True, False]
    assert file.path.read_text() == render("hq", [])


def test_a_list_that_could_not_be_written_is_written_by_a_later_step(file: AclFile, gates: Enrolled) -> None:
    file.path.parent.parent.mkdir(exist_ok=True)
    file.path.parent.write_text("in the way")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        file.step()
    file.path.parent.unlink()
    assert file.step()
    assert file.path.read_text() == render("hq", [])


async def test_the_controller_looks_every_two_seconds_and_outlives_a_failed_step(
    file: AclFile, gates: Enrolled, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)
        match len(asked):
            case 1:
                file.path.parent.write_text("in the way")
            case 2:
                file.path.parent.unlink()
                gates.add(certificate("gate-1", key=KEYS["two"]))
            case _:
                raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await file.run(sleep)
    assert asked == [acl.POLL_S] * 3
    assert "access list not written" in caplog.text
    assert file.path.read_text() == render("hq", ["gate-1"])
