"""The controller's beacon: its own time, counted, while there is a broker to carry it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller.beacon import Beacons
from protocol import beacon
from protocol.mqtt import OK, PublishProperties, PubResult

START = datetime(2026, 11, 24, 9, tzinfo=UTC)


class _EndError(Exception):
    pass


class Rig:
    """Broker, clock and sleep in one; the run ends after `rounds`."""

    def __init__(self, connected: list[bool]) -> None:
        self._connected, self._round = connected, 0
        self.sent: list[tuple[str, bytes, int, bool, PublishProperties | None]] = []
        self.slept: list[float] = []

    @property
    def connected(self) -> bool:
        return self._connected[self._round]

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties | None = None,
    ) -> PubResult:
        self.sent.append((topic, payload, qos, retain, properties))
        return PubResult(True, OK)

    def now(self) -> datetime:
        return START + timedelta(seconds=sum(self.slept))

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._round += 1
        if self._round == len(self._connected):
            raise _EndError


async def test_the_time_goes_to_all_gates_every_30_s_and_expires_soon() -> None:
    rig = Rig([True, True])
    with pytest.raises(_EndError):
        await Beacons(rig, site="hq", clock=rig, sleep=rig.sleep).run()
    assert rig.slept == [30.0, 30.0]
    assert [(topic, qos, retain) for topic, _, qos, retain, _ in rig.sent] == [("pacs/1/hq/all/time", 0, False)] * 2
    assert [beacon.parse(raw) for _, raw, *_ in rig.sent] == [
        beacon.Beacon(START, 1),
        beacon.Beacon(START + timedelta(seconds=30), 2),
    ]
    assert all(properties == PublishProperties(expiry=5) for *_, properties in rig.sent)


async def test_nothing_is_sent_or_counted_without_a_broker() -> None:
    rig = Rig([False, True, False])
    with pytest.raises(_EndError):
        await Beacons(rig, site="hq", clock=rig, sleep=rig.sleep).run()
    assert [beacon.parse(raw).seq for _, raw, *_ in rig.sent] == [1]
