"""Image messages written byte by byte. No ROS."""

from __future__ import annotations

import array
from dataclasses import dataclass

import numpy as np
import pytest

from robot.ros2.images import ImageError, rgb, view


@dataclass
class Message:
    height: int
    width: int
    encoding: str
    step: int
    data: array.array
    is_bigendian: int = 0


def message(height: int, width: int, encoding: str, step: int, values, is_bigendian: int = 0) -> Message:
    return Message(height, width, encoding, step, array.array("B", values), is_bigendian)


def test_rows_with_padding():
    """Two pixels a row are six bytes, the step is eight; the last row may lack its padding."""
    image = message(2, 2, "rgb8", 8, [1, 2, 3, 4, 5, 6, 99, 99, 7, 8, 9, 10, 11, 12])
    assert view(image).tolist() == rgb(image).tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]


def test_a_view_copies_nothing():
    image = message(1, 2, "rgb8", 6, [0] * 6)
    pixels = view(image)
    image.data[5] = 7
    assert pixels[0, 1, 2] == 7 and not pixels.flags.writeable


@pytest.mark.parametrize(
    ("encoding", "values", "colour"),
    [
        ("rgb8", [10, 20, 30], [10, 20, 30]),
        ("bgr8", [10, 20, 30], [30, 20, 10]),
        ("rgba8", [10, 20, 30, 40], [10, 20, 30]),
        ("bgra8", [10, 20, 30, 40], [30, 20, 10]),
        ("mono8", [50], [50, 50, 50]),
    ],
)
def test_colours(encoding: str, values: list[int], colour: list[int]):
    assert rgb(message(1, 1, encoding, len(values), values)).tolist() == [[colour]]


@pytest.mark.parametrize(
    ("encoding", "reds", "blues"),
    [("bayer_rggb8", (0, 0), (1, 1)), ("bayer_bggr8", (1, 1), (0, 0)), ("bayer_gbrg8", (1, 0), (0, 1)), ("bayer_grbg8", (0, 1), (1, 0))],
)
def test_bayer_patterns(encoding: str, reds: tuple[int, int], blues: tuple[int, int]):
    """A mosaic whose red cells hold 200, green 100, blue 50 is one flat colour away from the border."""
    mosaic = np.full((8, 8), 100, np.uint8)
    mosaic[reds[0] :: 2, reds[1] :: 2], mosaic[blues[0] :: 2, blues[1] :: 2] = 200, 50
    pixels = rgb(message(8, 8, encoding, 8, mosaic.tobytes()))
    assert (pixels[2:6, 2:6] == [200, 100, 50]).all()


def test_yuv_of_grey():
    """U and V of 128 are no colour; Y of 126 is grey 128: 1.164 (126 - 16)."""
    assert rgb(message(1, 2, "yuv422", 4, [128, 126, 128, 126])).tolist() == [[[128] * 3] * 2]
    assert rgb(message(1, 2, "yuv422_yuy2", 4, [126, 128, 126, 128])).tolist() == [[[128] * 3] * 2]


@pytest.mark.parametrize(("big", "values"), [(0, [0xE8, 0x03, 0, 0, 1, 0, 0, 0]), (1, [0x03, 0xE8, 0, 0, 0, 1, 0, 0])])
def test_byte_order_of_depth(big: int, values: list[int]):
    """1000 mm and 1 mm, each row padded by two bytes."""
    assert view(message(2, 1, "16UC1", 4, values, big)).tolist() == [[1000], [1]]


def test_float_depth():
    assert view(message(1, 2, "32FC1", 8, np.array([0.5, 2.0], ">f4").tobytes(), 1)).tolist() == [[0.5, 2.0]]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (message(1, 1, "rgb9", 3, [0] * 3), "unknown image encoding 'rgb9'; understood: rgb8, bgr8"),
        (message(2, 2, "rgb8", 6, [0] * 11), "holds 11 bytes, 2 rows of step 6 need 12"),
        (message(1, 2, "rgb8", 5, [0] * 6), "step is 5 bytes, a row of 2 pixels of rgb8 needs 6"),
        (message(0, 2, "rgb8", 6, []), "2 × 0 pixels is empty"),
        (message(1, 1, "16UC1", 2, [0, 0]), "'16UC1' holds no colours; colour encodings: rgb8"),
    ],
)
def test_refusals(image: Message, says: str):
    with pytest.raises(ImageError, match=says):
        rgb(image)
