"""The controller as a process, killed with -9 while its webhook delivers: nothing is lost, and by id nothing comes twice."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from controller.store import Store
from protocol.clock import rfc3339
from testbed.pki import DevicePki
from tests.controller.conftest import SEOUL, START
from tests.controller.receiver import Behave, Received, Receiver, answer
from tests.controller.test_main import launch

CHANGES = 60
ALARM = {
    "alarm": 1,
    "gate": "gate-1",
    "lane": "l1",
    "kind": "alarm.forced",
    "detail": "",
    "severity": "critical",
    "state": "raised",
    "count": 1,
    "raised": rfc3339(START),
    "last": rfc3339(START),
}


@pytest.fixture
def configured(tmp_path: Path, pki: DevicePki) -> Callable[[str], Path]:
    """A controller without a broker, whose one webhook goes to a URL."""

    def written(url: str) -> Path:
        pki.client("controller")
        secret = tmp_path / "hook.key"
        secret.touch(0o600)
        secret.write_text("whsec_" + base64.b64encode(bytes(range(32))).decode())
        file = tmp_path / "controller.toml"
        file.write_text(
            'site = "hq"\nstate_dir = "state"\n[mqtt]\nhost = "127.0.0.1"\nport = 1\nca = "pki/ca.pem"\n'
            'certificate = "pki/controller.pem"\nkey = "pki/controller.key"\n[records]\nkey = "pki/records.key"\n'
            f'[web]\nport = 0\n[webhooks.room]\nurl = "{url}"\nsecret = "hook.key"\n'
        )
        return file

    return written


@pytest.fixture
async def target() -> AsyncIterator[Receiver]:
    target = Receiver()
    await target.start()
    yield target
    await target.stop()


def write_changes(database: Path) -> None:
    Store(database, SEOUL).close()
    with closing(sqlite3.connect(database, timeout=10)) as db, db:
        db.execute("INSERT INTO webhooks (name, change, attempts, disabled) VALUES ('room', 0, 0, 0)")
        db.executemany(
            "INSERT INTO alarm_changes (alarm, time, change, body) VALUES (1, ?, 'raised', ?)",
            [(rfc3339(START), json.dumps({**ALARM, "count": n})) for n in range(1, CHANGES + 1)],
        )


@pytest.mark.slow
async def test_killed_again_and_again_every_change_arrives_in_order(
    configured: Callable[[str], Path], target: Receiver, tmp_path: Path
) -> None:
    file = configured(target.url)
    write_changes(tmp_path / "state" / "controller.db")
    failing = {7, 23}

    def behave(got: Received) -> Behave:
        """Two of them fail once: a kill may come in the middle of a wait too."""
        count = int(json.loads(got.body)["data"]["count"])
        if count in failing:
            failing.discard(count)
            return answer(503, Retry_After="1")
        return answer(204)

    target.behave = behave
    for until in (1, 5, 20, 21, 40):  # in the middle of the stream, whatever its speed
        process = await launch(file)
        await target.wait(until)
        process.kill()
        await process.communicate()
    process = await launch(file)
    try:
        while {json.loads(each.body)["data"]["count"] for each in target.received} != set(range(1, CHANGES + 1)):
            await target.wait(len(target.received) + 1)
    finally:
        process.kill()
        await process.communicate()
    numbers = [json.loads(each.body)["data"]["count"] for each in target.received]
    assert numbers == sorted(numbers)
    once = {each.id: each for each in target.received}
    assert [json.loads(each.body)["data"]["count"] for each in once.values()] == list(range(1, CHANGES + 1))
