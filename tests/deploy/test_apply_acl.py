"""deploy/mosquitto/apply-acl.sh: a list that the controller can make comes into force, whatever else stands there does not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controller import enrolled
from controller.acl import render
from controller.files import replace

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "mosquitto" / "apply-acl.sh"
BEFORE = "what was in force\n"
GOOD = render("hq", ["gate-1", "gate-2"])


class Place:
    def __init__(self, directory: Path) -> None:
        self.source, self.target, self.reloads = directory / "new", directory / "acl", directory / "reloads"
        self.target.write_text(BEFORE)

    def apply(self, content: str | bytes | None, command: str = 'echo >>"$0"') -> subprocess.CompletedProcess[str]:
        """Run the script on `content`, None: on what is there."""
        if content is not None:
            self.source.write_bytes(content.encode() if isinstance(content, str) else content)
        return subprocess.run(
            [SCRIPT, self.source, self.target, "sh", "-c", command, self.reloads],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def changed(self) -> bool:
        """`again`: another file stands there than the last run has looked at."""
        done = subprocess.run(
            [SCRIPT, "again", self.source, self.target, "echo", "changed"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout == "changed\n"

    @property
    def reloaded(self) -> int:
        return len(self.reloads.read_text().splitlines()) if self.reloads.exists() else 0

    def left(self) -> set[str]:
        return {path.name for path in self.target.parent.iterdir()} - {"new", "acl", "acl.seen", "reloads"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_is_plain_sh_and_executable() -> None:
    assert os.access(SCRIPT, os.X_OK)
    for shell in ("sh", "bash"):
        done = subprocess.run([shell, "-n", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("gates", [[], ["gate-1"], [f"gate-{number}" for number in range(400)]])
def test_a_list_of_the_controller_comes_into_force_and_is_loaded_once(place: Place, gates: list[str]) -> None:
    done = place.apply(render("sejong-1", gates))
    assert (done.returncode, done.stderr) == (0, "")
    assert place.target.read_text() == render("sejong-1", gates)
    assert place.target.stat().st_mode & 0o777 == 0o644
    assert place.reloaded == 1
    assert place.left() == set()


def test_the_fullest_list_is_within_the_limit(place: Place) -> None:
    names = [f"{number:04}".ljust(63, "x") for number in range(enrolled.MAX_GATES)]
    assert place.apply(render("s" * 63, names)).returncode == 0
    assert place.target.stat().st_size < 2 * 1024 * 1024


def test_the_same_list_again_is_loaded_and_not_replaced(place: Place) -> None:
    """What has changed may be the list of revoked certificates, which mosquitto reads at the same signal."""
    place.apply(GOOD)
    before = place.target.stat().st_ino
    assert place.apply(None).returncode == 0
    assert place.target.stat().st_ino == before
    assert place.reloaded == 2


def test_what_changes_while_the_list_is_loaded_is_seen_afterwards(place: Place) -> None:
    later = place.source.with_name("reloads.later")
    later.write_text(render("hq", ["gate-1"]))
    assert place.apply(GOOD, f"mv {later} {place.source}").returncode == 0
    assert place.changed()
    assert place.apply(None).returncode == 0
    assert place.target.read_text() == render("hq", ["gate-1"])
    assert not place.changed()


def test_a_refused_list_is_not_looked_at_again_until_there_is_another(place: Place) -> None:
    assert place.apply("pattern write #\n").returncode == 1
    assert not place.changed()
    replace(place.source, GOOD.encode())
    assert place.changed()


def test_certificates_revoked_while_the_list_is_loaded_are_seen_afterwards(place: Place) -> None:
    revoked = place.target.with_name("revoked.crl")
    assert place.apply(GOOD, f"touch {revoked}").returncode == 0
    assert place.changed()
    assert place.apply(None).returncode == 0
    assert not place.changed()
    revoked.unlink()


def test_a_file_written_before_the_last_look_and_named_after_it_is_seen(place: Place) -> None:
    written = place.source.with_name("reloads.written")
    written.write_text(render("hq", ["gate-1"]))
    os.utime(written, (0, 0))
    assert place.apply(GOOD).returncode == 0
    written.rename(place.source)
    assert place.changed()


@pytest.mark.parametrize(
    "line",
    [
        "topic readwrite pacs/1/hq/gate-2/evt",
        "topic pacs/1/hq/gate-2/evt",
        "topic deny pacs/1/hq/gate-2/evt",
        "topic write #",
        "topic write pacs/1/hq/#",
        "topic write pacs/1/hq/gate-2/#",
        "topic write pacs/1/hq/+/evt",
        "topic write pacs/1/hq/gate-1/evt",
        "topic write pacs/1/hq/gate-2/ack",
        "topic write pacs/1/hq/gate-2/cmd",
        "topic read pacs/1/hq/gate-1/cmd",
        "topic write pacs/1/hq/gate-1/res",
        "topic read pacs/1/hq/gate-2/res",
        "topic write pacs/1/hq/gate-2/evt ",
        " topic write pacs/1/hq/gate-2/evt",
        "topic write pacs/1/hq/gate-2/evt\r",
        "topic write pacs/1/hq/gate-2/evt\ttopic",
        "topic read pacs/1/hq/gate-1/ack",
        "topic read pacs/1/hq/+/evt",
        "topic read pacs/1/other/gate-2/ack",
        "topic write pacs/1/hq/all/time",
        "topic write pacs/1/hq/all/emergency",
        "topic read pacs/1/hq/all/cmd",
        "topic write pacs/1/hq/gate-2/zone/+/+",
        "topic write pacs/1/hq/+/zone/+/tag",
        "topic read $SYS/#",
        "pattern read pacs/1/hq/%u/ack",
        "pattern write #",
        "user gate-2",
        "user controller",
        "user all",
        "user gate 3",
        "user Gate-3",
        "user -gate",
        "user " + "g" * 64,
        "user ",
        "include_dir /etc",
        "listener 1883",
        "root:*:19000:0:99999:7:::",
    ],
)
def test_a_line_that_the_controller_does_not_make_refuses_the_whole_list(place: Place, line: str) -> None:
    done = place.apply(f"{GOOD}{line}\n")
    assert done.returncode == 1
    assert "access list refused: " in done.stderr
    assert line.strip() not in done.stderr
    assert place.target.read_text() == BEFORE
    assert place.left() == set()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# nothing\n",
        "user gate-1\n",
        "topic write pacs/1/hq/gate-1/evt\n",
        f"{GOOD}# caf\u00e9\n",
        f"{GOOD}# \0\nuser\n",
        GOOD + "#" * 2_097_152,
        GOOD.replace("user controller", "user kontroller"),
    ],
    ids=["empty", "comment", "no controller", "nobody's", "not ASCII", "NUL", "too large", "another controller"],
)
def test_a_list_that_is_not_whole_or_not_text_is_refused(place: Place, content: str) -> None:
    assert place.apply(content).returncode == 1
    assert place.target.read_text() == BEFORE


def test_a_refused_list_does_not_keep_revoked_certificates_from_being_loaded(place: Place) -> None:
    assert place.apply("pattern write #\n").returncode == 1
    assert place.reloaded == 1


def test_a_missing_list_leaves_the_one_in_force(place: Place) -> None:
    done = place.apply(None)
    assert done.returncode == 1
    assert "there is no access list" in done.stderr
    assert place.target.read_text() == BEFORE


def test_a_broker_that_does_not_load_the_list_is_a_failure(place: Place) -> None:
    assert place.apply(GOOD, "false").returncode == 75
    assert place.target.read_text() == GOOD


def test_a_link_to_another_file_is_refused_without_a_word_of_it(place: Place, tmp_path: Path) -> None:
    (tmp_path / "reloads.secret").write_text("root:secret-hash:1\n")
    place.source.symlink_to(tmp_path / "reloads.secret")
    done = place.apply(None)
    assert done.returncode == 1
    assert "secret" not in done.stdout + done.stderr
    assert place.target.read_text() == BEFORE


LINES = st.sampled_from(
    sorted({*GOOD.splitlines(), *render("other", ["gate-1"]).splitlines(), "topic write #", "user all"})
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=12))
@example(lines=["user controller"])
def test_whatever_is_taken_gives_nobody_more_than_the_controllers_own_list_would(
    place: Place, lines: list[str]
) -> None:
    place.target.write_text(BEFORE)
    place.apply("".join(f"{line}\n" for line in lines))
    taken = place.target.read_text()
    if taken == BEFORE:
        return
    sites = {line.split("/")[2] for line in taken.splitlines() if line.startswith("topic")}
    assert len(sites) <= 1
    for site in sites or {"hq"}:
        allowed = rights(render(site, ["gate-1", "gate-2"]))
        assert rights(taken) <= allowed


def rights(text: str) -> set[tuple[str, str]]:
    found, user = set(), ""
    for line in text.splitlines():
        if line.startswith("user "):
            user = line
        elif line.startswith("topic "):
            found.add((user, line))
        else:
            assert not line or line.startswith("#")
    return found
