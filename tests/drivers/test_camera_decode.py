"""QR codes from single frames: what is read, what is refused, and when the second reader looks."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import segno
import zxingcpp
from numpy.typing import NDArray
from pyzbar import pyzbar

from drivers.camera import decode
from drivers.camera.decode import SECOND_LOOK_S, SETTLE_S, ZBAR_S, Decoder, by_zbar, by_zxing, by_zxing_sharpened
from drivers.camera.limits import MAX_CODES, MAX_PAYLOAD

Frame = NDArray[np.uint8]
Reader = Callable[[Frame], list[bytes]]
TEXT = b"mdoc:owBjMS4wAYIB2BhYSw"
READERS: dict[str, Reader] = {"zxing": by_zxing, "sharpened": by_zxing_sharpened, "zbar": by_zbar}


def code(content: bytes | str, scale: int = 6) -> Frame:
    modules = np.array(
        [list(row) for row in segno.make(content, error="m", micro=False).matrix_iter(border=4)], np.uint8
    )
    grey = np.where(modules, 15, 235).astype(np.uint8)
    return grey.repeat(scale, axis=0).repeat(scale, axis=1)


def scene(*codes: Frame, width: int = 640, height: int = 480) -> Frame:
    frame = np.full((height, width), 70, np.uint8)
    for at, each in enumerate(codes):
        left = (2 * at + 1) * width // (2 * len(codes)) - each.shape[1] // 2
        top = (height - each.shape[0]) // 2
        frame[top : top + each.shape[0], left : left + each.shape[1]] = each
    return frame


NOISE = np.random.default_rng(7).integers(0, 256, (480, 640), np.uint8)
DARK = np.zeros((480, 640), np.uint8)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_reads_a_plain_code(read: Reader) -> None:
    assert read(scene(code(TEXT))) == [TEXT]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_reads_a_code_that_is_turned(read: Reader, quarters: int) -> None:
    assert read(np.ascontiguousarray(np.rot90(scene(code(TEXT)), quarters))) == [TEXT]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_reads_a_code_that_a_front_camera_mirrors(read: Reader) -> None:
    assert read(np.ascontiguousarray(scene(code(TEXT))[:, ::-1])) == [TEXT]


def test_reads_a_code_of_a_phone_in_dark_mode() -> None:
    assert by_zxing(scene(255 - code(TEXT))) == [TEXT]


def test_reads_a_code_that_is_mirrored_and_light_on_dark() -> None:
    assert by_zxing(np.ascontiguousarray(scene(255 - code(TEXT))[:, ::-1])) == [TEXT]


def out_of_focus() -> Frame:
    """By more than half a module of ten pixels, with a little noise."""
    frame = scene(code(TEXT, scale=10)).astype(np.float32)
    noise = np.random.default_rng(2).normal(0, 1, frame.shape)
    return np.clip(cv2.GaussianBlur(frame, (0, 0), 6.0) + noise, 0, 255).astype(np.uint8)


def test_the_second_look_reads_a_code_that_is_out_of_focus() -> None:
    assert by_zxing(out_of_focus()) == by_zbar(out_of_focus()) == []
    decoder = Decoder()
    assert decoder.read(DARK, 0.0) == []
    assert decoder.read(out_of_focus(), 0.1) == [(TEXT, "zxing")]
    assert (decoder.moved, decoder.second) == (True, True)
    assert decoder.read(scene(code(TEXT)), 0.2) == [(TEXT, "zxing")]
    assert not decoder.second


def test_reads_both_of_two_codes_in_one_frame() -> None:
    assert sorted(by_zxing(scene(code(b"one"), code(b"two")))) == [b"one", b"two"]


def test_reads_a_pass_of_version_14_at_level_m() -> None:
    text = "GM1:" + "".join("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"[at * 7 % 45] for at in range(500))
    made = segno.make(text, error="m", boost_error=False)
    assert made.version == 14
    assert by_zxing(scene(code(text, scale=5))) == [text.encode()]


def test_reads_binary_payloads_exactly() -> None:
    payload = np.random.default_rng(3).integers(0, 256, 100, np.uint8).tobytes()
    assert by_zxing(scene(code(payload))) == [payload]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "frame",
    [np.zeros((0, 0), np.uint8), np.zeros((0, 640), np.uint8), np.zeros((1, 1), np.uint8), NOISE, DARK],
    ids=["empty", "no rows", "one pixel", "noise", "dark"],
)
def test_finds_nothing_where_nothing_is(read: Reader, frame: Frame) -> None:
    assert read(frame) == []


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_finds_nothing_in_an_ordinary_bar_code(read: Reader) -> None:
    bars = np.asarray(zxingcpp.create_barcode("880123456789", zxingcpp.BarcodeFormat.EAN13).to_image(scale=3))
    assert zxingcpp.read_barcodes(scene(bars)), "the picture is a readable bar code"
    assert read(scene(bars)) == []


def test_drops_a_payload_over_the_limit() -> None:
    within, over = "1" * MAX_PAYLOAD, "1" * (MAX_PAYLOAD + 1)
    side = 185 * 4 + 60
    assert by_zxing(scene(code(within, scale=4), width=side, height=side)) == [within.encode()]
    assert by_zxing(scene(code(over, scale=4), width=side, height=side)) == []


def test_takes_no_more_than_a_few_codes_from_a_frame_full_of_them() -> None:
    row = [code(str(at), scale=3) for at in range(MAX_CODES + 3)]
    frame = scene(*row, width=1280)
    assert len(zxingcpp.read_barcodes(frame)) > MAX_CODES
    assert len(by_zxing(frame)) == MAX_CODES


def _fails(*_: object, **__: object) -> None:
    raise RuntimeError("inside the decoder")


def test_a_decoder_that_fails_has_found_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zxingcpp, "read_barcodes", _fails)
    monkeypatch.setattr(pyzbar, "decode", _fails)
    assert by_zxing(scene(code(TEXT))) == []
    assert by_zxing_sharpened(scene(code(TEXT))) == []
    assert by_zbar(scene(code(TEXT))) == []


class TestSecondLook:
    """The reader of every frame finds nothing here; times are pinned."""

    @pytest.fixture(autouse=True)
    def looks(self, monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
        looks: list[Frame] = []

        def look(frame: Frame) -> list[bytes]:
            looks.append(frame)
            return by_zbar(frame)

        monkeypatch.setattr(decode, "by_zxing", lambda frame: [])
        monkeypatch.setattr(decode, "by_zbar", look)
        return looks

    def test_is_not_taken_while_nothing_moves(self, looks: list[Frame]) -> None:
        decoder = Decoder()
        for at in range(50):
            assert decoder.read(DARK, at / 10) == []
        assert looks == []

    def test_is_not_taken_for_sensor_noise(self, looks: list[Frame]) -> None:
        decoder, chance = Decoder(), np.random.default_rng(1)
        for at in range(50):
            decoder.read(np.clip(chance.normal(70, 2, DARK.shape), 0, 255).astype(np.uint8), at / 10)
        assert looks == []

    def test_reads_the_code_that_a_phone_brings(self) -> None:
        decoder = Decoder()
        assert decoder.read(DARK, 0.0) == []
        assert decoder.read(scene(code(TEXT)), 0.1) == [(TEXT, "zbar")]

    def test_is_taken_at_most_twice_a_second_and_asks_zbar_every_other_time(
        self, looks: list[Frame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sharpened: list[Frame] = []

        def sharpen(frame: Frame) -> list[bytes]:
            sharpened.append(frame)
            return []

        monkeypatch.setattr(decode, "by_zxing_sharpened", sharpen)
        decoder = Decoder()
        for at in range(200):
            decoder.read(DARK if at % 2 else NOISE, at / 100)
        assert len(sharpened) == round(2 / SECOND_LOOK_S)
        assert len(looks) == round(2 / ZBAR_S)

    def test_goes_on_until_the_phone_has_come_to_rest_and_then_ends(self, looks: list[Frame]) -> None:
        decoder = Decoder()
        decoder.read(DARK, 0.0)
        for at in range(1, 101):
            decoder.read(NOISE, at / 10)
        assert 2 <= len(looks) <= SETTLE_S / ZBAR_S + 1

    def test_takes_frames_of_changing_and_of_no_size(self) -> None:
        decoder = Decoder()
        for at, shape in enumerate([(480, 640), (0, 0), (0, 0), (720, 1280), (1, 1)]):
            assert decoder.read(np.zeros(shape, np.uint8), float(at)) == []


def test_the_second_reader_rests_while_the_first_one_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "by_zbar", _fails)
    decoder = Decoder()
    decoder.read(DARK, 0.0)
    for at in range(1, 20):
        assert decoder.read(scene(code(f"code {at}")), at / 10) == [(f"code {at}".encode(), "zxing")]
