"""What the person at the lane sees: the display's client and the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drivers.ports import DriverError, Light, Message
from drivers.signal import open_signal
from testbed.turnstile import Turnstile

GUARD_S = 10.0
GO = Message(Light.GREEN, "지나가십시오", "Please walk through")


@pytest.fixture
async def turnstile(tmp_path: Path) -> AsyncIterator[Turnstile]:
    device = Turnstile(tmp_path / "lane", tmp_path / "sign")
    await device.start()
    yield device
    await device.stop()


@pytest.mark.parametrize("light", Light)
async def test_the_display_shows_light_and_both_languages(turnstile: Turnstile, light: Light) -> None:
    sign = open_signal(driver="simulated", path=str(turnstile.display_path))
    await sign.start()
    message = Message(light, "대기 중", "Waiting")
    await sign.show(message)
    await turnstile.until(lambda: turnstile.shown == message, GUARD_S)
    await sign.stop()


async def test_does_not_start_without_a_display(tmp_path: Path) -> None:
    with pytest.raises(DriverError):
        await open_signal(driver="simulated", path=str(tmp_path / "absent")).start()


async def test_fails_when_the_display_goes_and_shows_again_when_it_is_back(turnstile: Turnstile) -> None:
    sign = open_signal(driver="simulated", path=str(turnstile.display_path))
    await sign.start()
    await sign.show(GO)
    await turnstile.until(lambda: turnstile.shown == GO, GUARD_S)
    await turnstile.stop()
    with pytest.raises(DriverError):
        await sign.show(GO)
    with pytest.raises(DriverError):
        await sign.start()
    turnstile.shown = None
    await turnstile.start()
    await sign.start()
    await sign.show(GO)
    await turnstile.until(lambda: turnstile.shown == GO, GUARD_S)
    await sign.stop()


async def test_shows_nothing_before_it_is_started(turnstile: Turnstile) -> None:
    with pytest.raises(DriverError, match="not started"):
        await open_signal(driver="simulated", path=str(turnstile.display_path)).show(GO)


async def test_a_lane_without_display_has_its_messages_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="drivers.signal.log")
    sign = open_signal(driver="log")
    await sign.start()
    await sign.show(GO)
    await sign.stop()
    assert caplog.messages == ["green: 지나가십시오 / Please walk through"]


@pytest.mark.parametrize(("driver", "path"), [("semaphore", "x"), ("simulated", "")])
def test_refuses_a_signal_that_cannot_be_meant(driver: str, path: str) -> None:
    with pytest.raises(ValueError, match=r"signal driver|path"):
        open_signal(driver=driver, path=path)


async def test_a_display_that_hangs_up_is_gone_though_nothing_is_shown(turnstile: Turnstile) -> None:
    sign = open_signal(driver="simulated", path=str(turnstile.display_path))
    await sign.start()
    gone = asyncio.ensure_future(sign.gone())
    await sign.show(GO)
    await turnstile.until(lambda: turnstile.shown == GO, GUARD_S)
    assert not gone.done()
    await turnstile.stop()
    with pytest.raises(DriverError):
        await asyncio.wait_for(gone, GUARD_S)
    await sign.stop()
