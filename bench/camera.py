"""QR codes from camera frames: what is read, how long it takes, and a QR pass from its first readable frame to the relay.

Frames are drawn (bench.camera_frames), every version from 5 to 20, at 640x480 and 1280x720. Ours is the decoder of the camera's
worker, which has seen the empty hall before; the peers are each library alone, called once for each frame.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import psutil
import zxingcpp
from numpy.typing import NDArray
from pyzbar import pyzbar

from bench import camera_frames
from bench.camera_frames import SIZES, Fault, Shot
from bench.row import Row, quantile
from drivers.camera import FPS, CameraSettings, OpenCvCamera
from drivers.camera.decode import Decoder
from drivers.ports import Direction
from protocol.clock import SystemClock
from testbed.building import Building
from testbed.camera import VirtualCamera
from testbed.people import Crowd
from testbed.runner import Runner
from testbed.scenario import GRANTED, Attempt

EACH = 3
"""Frames for every version, size and fault."""
PROMISED = 14
"""Up to this version 99 of 100 frames are to be read."""
EMPTY = 60
PASSES = 60
BETWEEN_S = 0.4
STREAM_S = 10.0
Frame = NDArray[np.uint8]
Read = Callable[[Frame], list[bytes]]


def _ours(before: Frame) -> Read:
    """As the worker does it: a phone comes into an empty hall. For one frame: each is somebody else's."""
    decoder = Decoder()
    decoder.read(before, 0.0)
    return lambda frame: [payload for payload, _ in decoder.read(frame, 1.0)]


def _zxing(frame: Frame) -> list[bytes]:
    found = zxingcpp.read_barcodes(frame, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode))
    return [bytes(code.bytes) for code in found]


def _pyzbar(frame: Frame) -> list[bytes]:
    return [bytes(code.data) for code in pyzbar.decode(frame, symbols=[pyzbar.ZBarSymbol.QRCODE])]


def grey(jpeg: bytes) -> Frame:
    """As OpenCV hands a camera's frame over: decoded to colour, then made grey."""
    colour = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert colour is not None
    return np.asarray(cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY), np.uint8)


def _timed(read: Read, frame: Frame) -> tuple[list[bytes], float]:
    """What is read, and milliseconds."""
    begin = time.perf_counter()
    found = read(frame)
    return found, (time.perf_counter() - begin) * 1000


@dataclass(slots=True)
class _Score:
    tried: Counter[bool] = field(default_factory=Counter)
    """By whether the version is within what is promised."""
    missed: Counter[bool] = field(default_factory=Counter)
    missed_by: Counter[Fault] = field(default_factory=Counter)
    times: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Milliseconds, by size."""

    def add(self, shot: Shot, found: Sequence[bytes], milliseconds: float) -> None:
        promised = shot.version <= PROMISED
        self.tried[promised] += 1
        self.times[shot.size].append(milliseconds)
        if shot.payload not in found:
            self.missed[promised] += 1
            self.missed_by[shot.fault] += 1

    def missed_share(self, *, promised: bool) -> float:
        """Per cent."""
        return 100 * self.missed[promised] / self.tried[promised]


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


_A_CORE = f"cameras of {_name(SIZES[-1])} at {FPS:g} frames a second on one core"


def _decoders() -> list[Row]:
    halls = {size: [grey(jpeg) for jpeg in camera_frames.empty(size, EMPTY)] for size in SIZES}
    readers: dict[str, Callable[[tuple[int, int]], Read]] = {
        "ours": lambda size: _ours(halls[size][0]),
        "zxing-cpp alone": lambda _size: _zxing,
        "pyzbar alone": lambda _size: _pyzbar,
    }
    scores = {name: _Score() for name in readers}
    unpacking: list[float] = []
    turns = deque(readers)
    for shot in camera_frames.shots(EACH):
        begin = time.perf_counter()
        frame = grey(shot.jpeg)
        if shot.size == SIZES[-1]:
            unpacking.append((time.perf_counter() - begin) * 1000)
        turns.rotate()  # who comes first finds the frame far from the processor
        for name in turns:
            scores[name].add(shot, *_timed(readers[name](shot.size), frame))
    rows: list[Row] = []
    for name, score in scores.items():
        own = name == "ours"
        for promised, versions in ((True, f"5 to {PROMISED}"), (False, f"{PROMISED + 1} to 20")):
            label = f"QR versions {versions}, not read of {score.tried[promised]}, {name}"
            target = 1.0 if own and promised else None
            rows.append(Row(label, score.missed_share(promised=promised), "%", None, target))
    for name, score in scores.items():
        for size in SIZES:
            label = f"QR frame {_name(size)}, decoding, mean, {name}"
            rows.append(Row(label, fmean(score.times[size]), "ms", None, 10.0 if name == "ours" else None))
    jpeg, decoding = fmean(unpacking), fmean(scores["ours"].times[SIZES[-1]])
    rows.append(Row(f"JPEG to grey, {_name(SIZES[-1])}, mean", jpeg, "ms"))
    rows.append(Row(f"{_A_CORE}, by the mean of JPEG and decoding", 1000 / FPS / (jpeg + decoding), "cameras"))
    blurred = list(camera_frames.shots(EACH, versions=range(5, PROMISED + 1), faults=[Fault.OUT_OF_FOCUS]))
    for name, reader in readers.items():
        missed = sum(shot.payload not in reader(shot.size)(grey(shot.jpeg)) for shot in blurred)
        label = f"QR versions 5 to {PROMISED}, out of focus by half a module, not read of {len(blurred)}, {name}"
        rows.append(Row(label, 100 * missed / len(blurred), "%"))
    return rows + _empty(halls)


def _empty(halls: dict[tuple[int, int], list[Frame]]) -> list[Row]:
    """Frames without a code; ours has a decoder that lives as long as its camera, at the camera's pace."""
    rows: list[Row] = []
    for size, frames in halls.items():
        works = {
            "ours, nothing moves": (_lasting(), frames[:1] * EMPTY),
            "ours, something moves in every frame": (_lasting(), frames),
            "zxing-cpp alone": (_zxing, frames),
            "pyzbar alone": (_pyzbar, frames),
        }
        for name, (read, shown) in works.items():
            taken = fmean(_timed(read, frame)[1] for frame in shown)
            target = 4.0 if name.startswith("ours") and size == SIZES[-1] else None
            rows.append(Row(f"empty frame {_name(size)}, mean, {name}", taken, "ms", None, target))
    return rows


def _lasting() -> Read:
    decoder, times = Decoder(), itertools.count()
    return lambda frame: [payload for payload, _ in decoder.read(frame, next(times) / FPS)]


async def _worker(jpeg: bytes) -> Row:
    """The whole worker at work: stream, JPEG, grey, decoder."""
    scene = VirtualCamera()
    await scene.start()
    camera = OpenCvCamera(CameraSettings(scene.source), SystemClock())
    try:
        scene.show_jpeg(jpeg)
        await camera.start()
        process = psutil.Process(camera.worker_pid)
        before, begin = process.cpu_times(), time.perf_counter()
        await asyncio.sleep(STREAM_S)
        after, end = process.cpu_times(), time.perf_counter()
    finally:
        await camera.stop()
        await scene.stop()
    share = (after.user + after.system - before.user - before.system) / (end - begin)
    return Row(f"{_A_CORE}, by a worker's processor time in an empty hall", 1 / share, "cameras")


class _Screen:
    """A phone before a camera; remembers when the camera first sent what it shows."""

    def __init__(self, camera: VirtualCamera) -> None:
        self._camera = camera
        self.seen_at: float | None = None

    async def show(self, text: str) -> None:
        await self._camera.show(text)

    async def clear(self) -> None:
        self.seen_at = self._camera.seen_at
        await self._camera.clear()


async def _passes(directory: Path) -> list[Row]:
    """A whole building: camera stream, worker, lane, journal, relay module."""
    building = Building(directory, SystemClock())
    try:
        await building.start()
        runner, crowd = Runner(building), Crowd(building)
        phone = crowd.phone()
        rig = building.lanes["lane-1"]
        taken: list[float] = []
        for _ in range(PASSES):
            screen = _Screen(rig.camera)

            async def act(screen: _Screen = screen) -> None:
                await phone.by_pass(screen, rig.entrance_group, hold=runner.decided)

            result = await runner.present(Attempt("", "", "lane-1", act, GRANTED))
            opened = [move.at for move in rig.turnstile.moves if move.energised and move.direction is Direction.IN]
            if not result.expected or screen.seen_at is None:
                raise RuntimeError(f"QR pass: {result.outcome}")
            taken.append((opened[-1] - screen.seen_at) * 1000)
            await asyncio.sleep(BETWEEN_S)
    finally:
        await building.stop()
    return [
        Row(f"QR pass, first readable frame to relay, p50 of {len(taken)}", quantile(taken, 0.5), "ms"),
        Row("QR pass, first readable frame to relay, p95", quantile(taken, 0.95), "ms", None, 150.0),
    ]


def rows() -> list[Row]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as the worker has it
    try:
        found = _decoders()
    finally:
        cv2.setNumThreads(threads)
    found.append(asyncio.run(_worker(camera_frames.empty(SIZES[-1], 1)[0])))
    with tempfile.TemporaryDirectory(prefix="gwanmun-bench-") as name:
        return found + asyncio.run(_passes(Path(name)))
