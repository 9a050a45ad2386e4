"""A camera through its whole way: stream, worker process, pipe, port. Only the picture is drawn."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from drivers.camera import CameraFigures, CameraSettings, OpenCvCamera, Region, open_camera
from drivers.camera.limits import MAX_LINE, MAX_PAYLOAD, MAX_WAITING, SETTINGS_BAD, SOURCE_FAILED
from drivers.ports import CodeSeen, DriverError
from protocol.clock import SystemClock
from testbed.camera import VirtualCamera, render
from testbed.rtsp import RtspCamera

GUARD_S = 20.0
"""No test waits this long; it keeps a broken one from hanging."""
MAX_PSS_KB = 80 * 1024
"""Limit of one camera worker."""


@pytest.fixture
async def scene() -> AsyncIterator[VirtualCamera]:
    camera = VirtualCamera()
    await camera.start()
    yield camera
    await camera.stop()


@asynccontextmanager
async def opened(source: str, python: str = sys.executable, **settings: Any) -> AsyncIterator[OpenCvCamera]:
    camera = OpenCvCamera(CameraSettings(source, **settings), SystemClock(), python=python)
    try:
        async with asyncio.timeout(GUARD_S):
            await camera.start()
            yield camera
    finally:
        await camera.stop()


async def next_code(camera: OpenCvCamera) -> CodeSeen:
    async with aclosing(camera.codes()) as codes:  # type: ignore[type-var]  # the port promises the iterator only
        return await anext(codes)


def of_process(pid: int | None, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


async def ended(pid: int) -> None:
    """Wait for the end of a process that need not be ours."""
    try:
        process, end = os.pidfd_open(pid), asyncio.Event()
    except ProcessLookupError:
        return  # ended and reaped before we looked
    loop = asyncio.get_running_loop()
    loop.add_reader(process, end.set)
    try:
        async with asyncio.timeout(GUARD_S):
            await end.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


async def test_reports_a_code_held_before_the_camera_once_a_second(scene: VirtualCamera) -> None:
    async with opened(scene.source) as camera:
        await scene.show("mdoc:held")
        first, second = await next_code(camera), await next_code(camera)
        assert first.payload == second.payload
        assert second.seen_at - first.seen_at >= 1.0


async def test_reads_an_rtsp_stream_and_tells_when_it_ends() -> None:
    scene = RtspCamera()
    await scene.start()
    try:
        async with opened(scene.source) as camera:
            await scene.show("mdoc:by rtsp")
            assert (await next_code(camera)).payload == b"mdoc:by rtsp"
            await scene.stop()
            with pytest.raises(DriverError, match="no more frames"):
                await next_code(camera)
    finally:
        await scene.stop()


async def test_goes_on_after_a_picture_of_noise(scene: VirtualCamera) -> None:
    async with opened(scene.source) as camera:
        await scene.show_image(np.random.default_rng(5).integers(0, 256, (480, 640, 3), np.uint8))
        waiting = asyncio.ensure_future(next_code(camera))
        await scene.show(b"\x00\xff binary")
        assert (await waiting).payload == b"\x00\xff binary"


async def test_tells_how_well_it_reads(scene: VirtualCamera) -> None:
    async with opened(scene.source) as camera:
        await scene.show("mdoc:counted")
        found: CameraFigures | None = None
        while found is None:
            await next_code(camera)
            found = camera.figures
        assert 0 < found.fps <= 20
        assert 0 < found.mean_ms <= found.p95_ms
        assert found.refused == ()


async def test_decodes_its_region_only(scene: VirtualCamera) -> None:
    """The code stands in the middle of the frame; half of it is no code."""
    left = opened(scene.source, region=Region(0.0, 0.0, 0.5, 1.0))
    middle = opened(scene.source, region=Region(0.1, 0.0, 0.8, 1.0))
    async with left as blind, middle as camera:
        await scene.show("mdoc:middle")
        assert (await next_code(camera)).payload == b"mdoc:middle"
        assert (await next_code(camera)).payload == b"mdoc:middle", "a second later"
        assert not blind._codes


async def test_fails_when_its_worker_is_killed(scene: VirtualCamera) -> None:
    async with opened(scene.source) as camera:
        assert camera.worker_pid is not None
        os.kill(camera.worker_pid, signal.SIGKILL)
        with pytest.raises(DriverError, match="worker has failed"):
            await next_code(camera)


async def test_a_stopped_camera_leaves_no_worker(scene: VirtualCamera) -> None:
    async with opened(scene.source) as camera:
        worker = camera.worker_pid
        assert worker is not None
        await camera.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
        with pytest.raises(DriverError, match="stopped"):
            await next_code(camera)


AGENT = """
import asyncio, sys
from drivers.camera import CameraSettings, open_camera
from protocol.clock import SystemClock

async def main():
    settings = CameraSettings(sys.stdin.readline().strip())
    camera = open_camera(driver="opencv", settings=settings, clock=SystemClock())
    await camera.start()
    print(camera.worker_pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_worker_of_a_killed_agent_ends(scene: VirtualCamera) -> None:
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AGENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert agent.stdin is not None
    assert agent.stdout is not None
    agent.stdin.write(scene.source.encode() + b"\n")
    async with asyncio.timeout(GUARD_S):
        worker = int(await agent.stdout.readline())
    assert b"drivers.camera.worker" in of_process(worker, "cmdline")
    gone = asyncio.ensure_future(ended(worker))
    agent.kill()
    await agent.wait()
    await gone


async def test_keeps_the_source_out_of_command_line_and_environment(scene: VirtualCamera) -> None:
    source = scene.source.replace("127.0.0.1", "viewer:swordfish@127.0.0.1")
    async with opened(source) as camera:
        for where in ("cmdline", "environ"):
            assert b"swordfish" not in of_process(camera.worker_pid, where)


async def test_a_failure_does_not_tell_the_source(caplog: pytest.LogCaptureFixture) -> None:
    camera = OpenCvCamera(CameraSettings("http://viewer:swordfish@127.0.0.1:9/"), SystemClock())
    with pytest.raises(DriverError) as failure:
        await camera.start()
    assert "swordfish" not in str(failure.value) + caplog.text


async def test_a_worker_stays_within_80_mb(scene: VirtualCamera) -> None:
    async with opened(scene.source) as camera:
        await scene.show_image(np.random.default_rng(5).integers(0, 256, (480, 640), np.uint8))  # both readers at work
        await scene.show("mdoc:weigh")
        await next_code(camera)
        rollup = of_process(camera.worker_pid, "smaps_rollup").splitlines()
        pss = next(int(line.split()[1]) for line in rollup if line.startswith(b"Pss:"))
        assert pss <= MAX_PSS_KB


async def test_ctrl_c_is_left_to_the_agent(scene: VirtualCamera) -> None:
    async with opened(scene.source) as camera:
        assert camera.worker_pid is not None
        os.kill(camera.worker_pid, signal.SIGINT)
        await scene.show("mdoc:still here")
        assert (await next_code(camera)).payload == b"mdoc:still here"


async def test_reads_a_video_file_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "gate.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 15, (640, 480))
    for text in [None] * 5 + ["mdoc:filmed"] * 5:
        (tmp_path / "frame.jpg").write_bytes(render(text))
        with Image.open(tmp_path / "frame.jpg") as picture:
            writer.write(np.asarray(picture)[:, :, ::-1].copy())
    writer.release()
    async with opened(str(path)) as camera:
        assert (await next_code(camera)).payload == b"mdoc:filmed"
        with pytest.raises(DriverError, match="no more frames"):
            await next_code(camera)


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/", "/dev/null"])
async def test_refuses_to_start_without_a_camera(source: str) -> None:
    camera = OpenCvCamera(CameraSettings(source), SystemClock())
    async with asyncio.timeout(GUARD_S):
        with pytest.raises(DriverError, match="does not open"):
            await camera.start()
    assert camera.worker_pid is None


@asynccontextmanager
async def server(answer: bytes, *, stays: bool) -> AsyncIterator[str]:
    """A faulty camera: sends `answer` and closes, or stays silent afterwards."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if stays:
            await done.wait()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    finally:
        done.set()
        listening.close()


HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


@pytest.mark.parametrize(
    "answer", [HEAD, HEAD + b"--frame\r\n\r\n" + b"\x00\xff" * 5000, b"\x16\x03" * 200], ids=["empty", "garbage", "TLS"]
)
async def test_refuses_a_stream_that_is_none(answer: bytes) -> None:
    async with server(answer, stays=False) as source:
        camera = OpenCvCamera(CameraSettings(source), SystemClock())
        async with asyncio.timeout(GUARD_S):
            with pytest.raises(DriverError, match="does not open"):
                await camera.start()


@pytest.mark.parametrize(
    "pictures",
    [pytest.param(0, id="at once", marks=pytest.mark.slow), pytest.param(20, id="after some frames")],
)
async def test_fails_when_a_camera_falls_silent(pictures: int) -> None:
    picture = render(None)
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(picture), picture)
    async with server(HEAD + part * pictures, stays=True) as source:
        with pytest.raises(DriverError, match=r"does not open|no more frames"):
            async with opened(source) as camera:
                await next_code(camera)


def worker(tmp_path: Path, *lines: str, status: int = SOURCE_FAILED, stays: bool = False) -> str:
    """A worker of no camera: takes its settings, says `lines` and ends, or stays until its standard input is closed."""
    (tmp_path / "said").write_text("".join(line + "\n" for line in lines))
    script = tmp_path / "worker"
    script.write_text(f"#!/bin/sh\nread settings\ncat {tmp_path / 'said'}\n{'cat' if stays else ''}\nexit {status}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


OPEN = json.dumps({"open": True, "refused": []})


def said(code: object = "eA==", seen: object = 1.0, decoded: object = 1.0, by: object = "zxing") -> str:
    return json.dumps({"code": code, "seen": seen, "decoded": decoded, "by": by})


FIGURES = {"fps": 15.0, "movements": 3, "read": 2, "second": 1, "mean_ms": 1.5, "p95_ms": 3.5}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        "[" * 5000,
        "x" * (MAX_LINE + 1),
        said(code=7),
        said(code="!"),
        said(code="é"),
        said(code=""),
        said(code="eHh4" * (MAX_PAYLOAD // 3 + 1)),
        said(seen="now"),
        said(seen=float("nan")),
        said(decoded=float("inf")),
        said(by="eye"),
        json.dumps({"figures": None}),
        json.dumps({"figures": {**FIGURES, "read": 4}}),
        json.dumps({"figures": {**FIGURES, "fps": float("nan")}}),
    ],
    ids=range(18),
)
async def test_fails_when_the_worker_breaks_its_protocol(tmp_path: Path, line: str) -> None:
    async with opened("0", worker(tmp_path, OPEN, line)) as camera:
        with pytest.raises(DriverError, match="broke its protocol"):
            await next_code(camera)


async def test_does_not_start_with_a_worker_that_says_something_else(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="broke its protocol"):
        async with opened("0", worker(tmp_path, said())):
            pass


@pytest.mark.parametrize("refused", [None, "exposure", [7], ["iris"]])
async def test_does_not_start_with_a_worker_that_refuses_what_no_camera_has(tmp_path: Path, refused: object) -> None:
    with pytest.raises(DriverError, match="broke its protocol"):
        async with opened("0", worker(tmp_path, json.dumps({"open": True, "refused": refused}))):
            pass


async def test_what_a_camera_refuses_is_logged_once_and_stands_in_its_figures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened_line = json.dumps({"open": True, "refused": ["exposure", "power_line"]})
    figures_line = json.dumps({"figures": FIGURES})
    python = worker(tmp_path, opened_line, figures_line, said(), stays=True)
    camera = OpenCvCamera(CameraSettings("0"), SystemClock(), python=python)
    for _ in range(2):  # a camera that its supervisor starts again
        await camera.start()
        await next_code(camera)
        assert camera.figures == CameraFigures(15.0, 3, 2, 1, 1.5, 3.5, ("exposure", "power_line"))
        await camera.stop()
        assert camera.figures is None
    assert caplog.text.count("exposure, power_line") == 1


@pytest.mark.parametrize(("status", "why"), [(SOURCE_FAILED, "does not open"), (SETTINGS_BAD, "status 2")])
async def test_tells_a_lost_source_from_a_failed_worker(tmp_path: Path, status: int, why: str) -> None:
    with pytest.raises(DriverError, match=why):
        async with opened("0", worker(tmp_path, status=status)):
            pass


async def test_does_not_start_without_a_python(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="does not start"):
        async with opened("0", str(tmp_path / "absent")):
            pass


async def test_drops_the_oldest_codes_when_the_lane_is_behind_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codes = [said(seen=float(at)) for at in range(MAX_WAITING + 8)]
    async with opened("0", worker(tmp_path, OPEN, *codes)) as camera:
        await ended(camera.worker_pid or 0)
        waiting: list[CodeSeen] = []
        with suppress(DriverError):
            async for code in camera.codes():
                waiting.append(code)  # noqa: PERF401  a comprehension would lose them with the error
    assert [round(each.seen_at - waiting[0].seen_at) for each in waiting] == list(range(MAX_WAITING))
    assert caplog.text.count("the oldest code seen is dropped") == 8


@pytest.mark.parametrize(
    "settings", ["", "[" * 5000, '{"source": "0", "fps": 0}'], ids=["none", "nested", "no frame rate"]
)
async def test_the_worker_refuses_settings_that_are_none(settings: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "drivers.camera.worker", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate(settings.encode() + b"\n")
    assert (process.returncode, output) == (SETTINGS_BAD, b"")


def test_refuses_a_driver_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="camera driver"):
        open_camera(driver="webcam", settings=CameraSettings("0"), clock=SystemClock())


def test_the_agent_loads_no_decoder() -> None:
    """They cost 17 MB in a process that never decodes."""
    look = "import sys, drivers.camera; print({'cv2', 'numpy', 'zxingcpp', 'pyzbar'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", look], text=True).strip() == "set()"
