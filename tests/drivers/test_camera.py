"""A code held before the camera is reported once a second; a camera or worker that fails is a DriverError."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import segno
from PIL import Image, ImageOps

from drivers.camera import open_camera
from drivers.camera.decode import MOTION, SECOND_LOOK_S, Decoder, Frame, by_zbar, by_zxing
from drivers.camera.opencv import OpenCvCamera
from drivers.camera.worker import REPEAT_S, Repeats
from drivers.ports import DriverError
from protocol.clock import SystemClock
from testbed.camera import VirtualCamera, render

GUARD_S = 15.0


def frame_of(text: str | None, seed: int = 0) -> Frame:
    return np.asarray(Image.open(io.BytesIO(render(text, seed=seed))).convert("L"))


@pytest.mark.parametrize("read", [by_zxing, by_zbar])
def test_both_readers_give_the_exact_text(read: object) -> None:
    assert callable(read)
    assert read(frame_of("GM1:%69 HELLO-WORLD")) == [b"GM1:%69 HELLO-WORLD"]


def test_reads_mirrored_and_inverted_codes() -> None:
    code = frame_of("MDOC:ABC")
    assert by_zxing(np.ascontiguousarray(code[:, ::-1])) == [b"MDOC:ABC"]
    picture = segno.make("MDOC:ABC", micro=False)
    buffer = io.BytesIO()
    picture.save(buffer, kind="png", scale=6, border=6)
    inverted = np.asarray(ImageOps.invert(Image.open(buffer).convert("L")))
    assert by_zxing(inverted) == [b"MDOC:ABC"]


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (480, 640)])
def test_frames_without_a_code_give_nothing(shape: tuple[int, int]) -> None:
    empty = np.zeros(shape, dtype=np.uint8)
    assert by_zbar(empty) == []
    if empty.size:
        assert by_zxing(empty) == []


def test_second_look_only_after_motion_and_twice_a_second() -> None:
    looked: list[float] = []

    class Counting(Decoder):
        def read(self, frame: Frame, now: float) -> list[tuple[bytes, str]]:
            before = self._looked_at
            found = super().read(frame, now)
            if self._looked_at != before:
                looked.append(now)
            return found

    decoder = Counting()
    still, moved = np.zeros((64, 64), np.uint8), np.full((64, 64), int(MOTION) * 4, np.uint8)
    for tick in range(20):
        decoder.read(still, tick * 0.1)
    assert looked == []
    for tick in range(20, 40):
        decoder.read(moved if tick % 2 else still, tick * 0.1)
    assert len(looked) >= 3
    assert all(later - earlier >= SECOND_LOOK_S - 1e-9 for earlier, later in itertools.pairwise(looked))


def test_a_held_code_is_fresh_once_a_second_and_memory_is_bounded() -> None:
    repeats = Repeats()
    assert repeats.fresh(b"a", 0.0)
    assert not repeats.fresh(b"a", REPEAT_S / 2)
    assert repeats.fresh(b"b", REPEAT_S / 2)
    assert repeats.fresh(b"a", REPEAT_S)
    for number in range(1000):
        repeats.fresh(str(number).encode(), 5.0)
    assert len(repeats._reported) < 100


@pytest.fixture
async def hall() -> AsyncIterator[VirtualCamera]:
    camera = VirtualCamera()
    await camera.start()
    yield camera
    await camera.stop()


async def test_a_shown_code_is_reported_and_the_worker_ends_with_its_agent(hall: VirtualCamera) -> None:
    camera = OpenCvCamera(hall.source, SystemClock())
    async with asyncio.timeout(GUARD_S):
        await camera.start()
        codes = camera.codes()
        await hall.show("GM1:ONE")
        first = await anext(codes)
        assert first.payload == b"GM1:ONE"
        assert first.decoder in {"zxing", "zbar"}
        assert first.decoded_at >= first.seen_at
        await hall.show("GM1:TWO")
        while (code := await anext(codes)).payload == b"GM1:ONE":
            pass
        assert code.payload == b"GM1:TWO"
        pid = camera.worker_pid
        assert pid is not None
        await camera.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_camera_that_goes_away_is_an_error_and_can_be_started_again(hall: VirtualCamera) -> None:
    camera = OpenCvCamera(hall.source, SystemClock())
    async with asyncio.timeout(GUARD_S):
        await camera.start()
        await hall.stop()
        with pytest.raises(DriverError):
            await anext(camera.codes())
        with pytest.raises(DriverError, match="does not open"):
            await camera.start()
        await hall.start()
        await camera.start()
        await hall.show("GM1:BACK")
        assert (await anext(camera.codes())).payload == b"GM1:BACK"
        await camera.stop()


async def test_a_killed_worker_is_an_error(hall: VirtualCamera) -> None:
    camera = OpenCvCamera(hall.source, SystemClock())
    async with asyncio.timeout(GUARD_S):
        await camera.start()
        assert camera.worker_pid is not None
        os.kill(camera.worker_pid, signal.SIGKILL)
        with pytest.raises(DriverError):
            await anext(camera.codes())
        await camera.stop()


async def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    camera = OpenCvCamera(str(tmp_path / "none.avi"), SystemClock())
    async with asyncio.timeout(GUARD_S):
        with pytest.raises(DriverError, match="does not open"):
            await camera.start()


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(ValueError, match="no camera driver"):
        open_camera(driver="webcam", source="0", clock=SystemClock())
