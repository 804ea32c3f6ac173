"""Pixels of sensor_msgs/Image as numpy, honouring row step, encoding and byte order. Reads messages by attribute, without ROS.

H, W of the message
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from policies.interface import UserError

if TYPE_CHECKING:
    from sensor_msgs.msg import Image


class ImageError(UserError):
    """An image message cannot be what it says it is."""


@dataclass(frozen=True)
class _Encoding:
    dtype: str
    channels: int
    to_rgb: int | None = None
    """OpenCV conversion code; `None` for what is RGB already or no colour image."""


ENCODINGS = {
    "rgb8": _Encoding("u1", 3),
    "bgr8": _Encoding("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Encoding("u1", 3),
    "bayer_rggb8": _Encoding("u1", 1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": _Encoding("u1", 1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": _Encoding("u1", 1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": _Encoding("u1", 1, cv2.COLOR_BayerGRBG2RGB),
    "yuv422": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "mono16": _Encoding("u2", 1),
    "16UC1": _Encoding("u2", 1),
    "32FC1": _Encoding("f4", 1),
}
"""What is understood. Depth images (16UC1 in mm, 32FC1 in m) and mono16 have no colours."""


def view(message: Image) -> np.ndarray:
    """The message's own pixels, `(H, W)` or `(H, W, channels)`, without a copy and read-only where the bytes allow it.

    Raises:
        ImageError: unknown encoding, or fewer bytes than height, step and width ask for.
    """
    encoding = _encoding(message)
    dtype = np.dtype(encoding.dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = message.width * encoding.channels * dtype.itemsize
    if message.height < 1 or message.width < 1:
        raise ImageError(f"an image of {message.width} × {message.height} pixels is empty")
    if message.step < row:
        raise ImageError(f"step is {message.step} bytes, a row of {message.width} pixels of {message.encoding} needs {row}")
    raw = np.frombuffer(message.data, np.uint8)
    needed = (message.height - 1) * message.step + row
    if len(raw) < needed:
        raise ImageError(f"the image holds {len(raw)} bytes, {message.height} rows of step {message.step} need {needed}")
    shape = (message.height, message.width, encoding.channels)
    strides = (message.step, encoding.channels * dtype.itemsize, dtype.itemsize)
    pixels = np.ndarray(shape, dtype, buffer=raw, strides=strides)
    pixels.flags.writeable = False
    return pixels[..., 0] if encoding.channels == 1 else pixels


def rgb(message: Image) -> np.ndarray:
    """`(H, W, 3)` uint8 colours, contiguous, as policies take them.

    Raises:
        ImageError: as `view`, or the encoding has no colours.
    """
    encoding = _encoding(message)
    if encoding.dtype != "u1":
        raise ImageError(f"encoding '{message.encoding}' holds no colours; colour encodings: {', '.join(_colour())}")
    pixels = np.ascontiguousarray(view(message))
    return pixels if encoding.to_rgb is None else cv2.cvtColor(pixels, encoding.to_rgb)


def _colour() -> list[str]:
    return [name for name, encoding in ENCODINGS.items() if encoding.dtype == "u1"]


def _encoding(message: Image) -> _Encoding:
    if message.encoding not in ENCODINGS:
        raise ImageError(f"unknown image encoding '{message.encoding}'; understood: {', '.join(ENCODINGS)}")
    return ENCODINGS[message.encoding]
