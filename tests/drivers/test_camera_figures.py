"""What a camera tells of itself: movements, codes read, and times, over one minute."""

from __future__ import annotations

import math
from typing import Any

import pytest

from drivers.camera.figures import MOVEMENT_S, REST_S, WINDOW_S, CameraFigures, Meter, parse
from drivers.camera.limits import MAX_FPS


class Camera:
    """Ten frames a second before a meter, from time 0."""

    def __init__(self) -> None:
        self.meter, self.now = Meter(0.0), 0.0

    def frames(
        self, count: int, *, moved: bool = False, read: bool = False, second: bool = False, ms: float = 1
    ) -> None:
        for _ in range(count):
            self.now += 0.1
            self.meter.count(self.now, ms, moved=moved, read=read, second=second)

    def rest(self) -> None:
        self.frames(math.ceil(REST_S * 10) + 1)

    @property
    def figures(self) -> CameraFigures:
        return self.meter.figures(self.now)


@pytest.fixture
def camera() -> Camera:
    return Camera()


def test_a_phone_that_is_brought_held_still_and_read_is_one_movement_with_a_code(camera: Camera) -> None:
    camera.frames(5, moved=True)
    camera.frames(3)
    camera.frames(50, read=True)
    camera.frames(2, moved=True)
    camera.rest()
    assert (camera.figures.movements, camera.figures.read) == (1, 1)


def test_a_person_who_walks_past_is_a_movement_without_a_code(camera: Camera) -> None:
    camera.frames(8, moved=True)
    camera.rest()
    assert (camera.figures.movements, camera.figures.read) == (1, 0)


def test_a_code_too_small_to_be_seen_moving_counts_as_one_movement(camera: Camera) -> None:
    camera.frames(10, read=True)
    camera.rest()
    assert (camera.figures.movements, camera.figures.read) == (1, 1)


def test_a_movement_counts_when_it_has_ended(camera: Camera) -> None:
    camera.frames(8, moved=True)
    assert camera.figures.movements == 0
    camera.now += REST_S
    assert camera.figures.movements == 1


def test_a_hall_that_never_rests_counts_one_movement_after_another(camera: Camera) -> None:
    camera.frames(int(WINDOW_S * 10), moved=True)
    assert WINDOW_S / MOVEMENT_S - 1 <= camera.figures.movements <= WINDOW_S / MOVEMENT_S


def test_what_only_the_second_reader_read_is_counted(camera: Camera) -> None:
    camera.frames(4, read=True)
    camera.frames(2, read=True, second=True)
    assert camera.figures.second == 2


def test_times_are_a_mean_and_a_95th_percentile(camera: Camera) -> None:
    camera.frames(90, ms=1)
    camera.frames(10, ms=11)
    assert (camera.figures.mean_ms, camera.figures.p95_ms) == (2.0, 11.0)


def test_figures_are_of_the_last_minute(camera: Camera) -> None:
    camera.frames(10, moved=True, read=True, second=True, ms=50)
    camera.rest()
    camera.now += WINDOW_S
    camera.frames(1)
    found = camera.figures
    assert (found.movements, found.read, found.second, found.p95_ms) == (0, 0, 0, 1.0)


def test_the_frame_rate_is_right_from_the_first_second_on(camera: Camera) -> None:
    camera.frames(10)
    assert camera.figures.fps == pytest.approx(10)
    camera.frames(int(WINDOW_S * 20))
    assert camera.figures.fps == pytest.approx(10, abs=0.1)


def test_a_camera_without_a_frame_has_figures_too() -> None:
    assert Meter(0.0).figures(0.0) == CameraFigures(0.0, 0, 0, 0, 0.0, 0.0)


def test_a_meter_does_not_grow_without_bound(camera: Camera) -> None:
    for _ in range(10_000):
        camera.meter.count(0.0, 1.0, moved=True, read=True, second=True)
    assert camera.figures.second == MAX_FPS * WINDOW_S


def test_figures_parse_back(camera: Camera) -> None:
    camera.frames(20, moved=True, read=True, ms=2.5)
    assert parse(camera.figures.body(), ()) == camera.figures


@pytest.mark.parametrize(
    "change",
    [
        {"fps": -1.0},
        {"fps": float("nan")},
        {"fps": 1},
        {"movements": 1},
        {"read": -1},
        {"second": 10**6},
        {"mean_ms": 1e9},
        {"p95_ms": "1"},
    ],
)
def test_figures_that_no_camera_has_are_refused(change: dict[str, Any]) -> None:
    good = {"fps": 15.0, "movements": 3, "read": 2, "second": 1, "mean_ms": 1.5, "p95_ms": 3.5}
    assert parse(good, ("gain",)).refused == ("gain",)
    with pytest.raises(ValueError, match="figures"):
        parse({**good, **change}, ())
