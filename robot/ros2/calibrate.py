"""`vla-rl calibrate PROFILE --camera NAME`: intrinsics and distortion of a robot's camera, from a chessboard that is held before it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
import yaml

from policies.interface import UserError
from robot.calibration import FEWEST, Board, Calibration, Views
from robot.profile import load_profile

if TYPE_CHECKING:
    from rclpy.node import Node
    from sensor_msgs.msg import Image

    from robot.ros2.streams import Stream

SILENT_S = 10.0
"""Without an image before it is given up."""
SHARP_PX = 0.5
"""A larger error asks for another try."""
COVERED = 0.75
"""Where corners were seen in less of the image, the lens at its edges is a guess."""


class Newest:
    """The newest image of one camera."""

    def __init__(self, node: Node, stream: Stream) -> None:
        self._image: np.ndarray | None = None
        self._came = threading.Event()
        self.refused = ""
        """Why the last image could not be read."""
        node.create_subscription(stream.message_type, stream.topic, self._receive, stream.qos)

    def wait(self) -> np.ndarray:
        """The next image `(H, W, 3)` uint8, RGB. Raises `UserError` if none comes."""
        if not self._came.wait(SILENT_S):
            raise UserError(f"no image came for {SILENT_S:g} s{self.refused and f': {self.refused}'}; look with `vla-rl doctor`")
        self._came.clear()
        assert self._image is not None  # the event says so
        return self._image

    def _receive(self, message: Image) -> None:
        from robot.ros2.images import rgb

        try:
            self._image = rgb(message)
        except UserError as error:
            self.refused = str(error)
        else:
            self._came.set()


def calibrate(
    profile: Annotated[Path, tyro.conf.Positional],
    camera: str,
    columns: int = 9,
    rows: int = 6,
    square_m: float = 0.025,
    views: int = 25,
) -> int:
    """Calibrate a camera of a robot that publishes it. Prints what belongs under `cameras` of the robot's profile.

    Hold the board still, near and far, in every corner of the image, tilted by up to 45 degrees. The position of the camera is not
    measured: mount it as in training.

    Args:
        profile: the robot's profile, such as configs/robots/so101.yaml.
        camera: one of its topics.images.
        columns: inner corners of the chessboard in a row.
        rows: inner corners in a column.
        square_m: side of a square [m].
        views: of the board, from different places; Ctrl-C ends with those that there are.
    """
    from robot.ros2.comms import spinning
    from robot.ros2.wiring import image_streams

    if views < FEWEST:
        raise UserError(f"a calibration needs at least {FEWEST} views, got {views}")
    robot, board, failures = load_profile(profile), Board(columns, rows, square_m), list[Exception]()
    (stream,) = image_streams(robot, (camera,))
    with spinning("calibrate", lambda node: Newest(node, stream), failures.append) as newest:
        found = _look(newest, board, views).calibrate()
    if failures:
        raise failures[0]
    print(_advice(found), file=sys.stderr)
    lens = [round(value, 6) for value in found.camera.distortion]
    focal = {name: round(getattr(found.camera, name), 3) for name in ("fx_px", "fy_px", "cx_px", "cy_px")}
    values = {"width_px": found.camera.width_px, "height_px": found.camera.height_px, **focal, "distortion": lens}
    print(yaml.safe_dump({"cameras": {camera: values}}, sort_keys=False, default_flow_style=None, width=140), end="")
    return 0


def _look(newest: Newest, board: Board, wanted: int) -> Views:
    image = newest.wait()
    taken, said = Views(board, (image.shape[0], image.shape[1])), ""
    try:
        while len(taken.corners) < wanted:
            why = taken.add(image)
            text = why or f"view {len(taken.corners)} of {wanted}"
            if text != said:
                print(text, file=sys.stderr, flush=True)
            said = text
            if len(taken.corners) < wanted:
                image = newest.wait()
    except KeyboardInterrupt:
        print("enough", file=sys.stderr)
    except UserError as error:
        if len(taken.corners) < FEWEST:
            raise
        print(f"{error}; going on with {len(taken.corners)} views", file=sys.stderr)
    return taken


def _advice(found: Calibration) -> str:
    text = (
        f"corners lie {found.error_px:.2f} px (rms) from where this camera says, and were seen in {100 * found.covered:.0f} % of the image"
    )
    if found.error_px > SHARP_PX:
        text += f"; more than {SHARP_PX} px: was the board flat and still, and are its columns, rows and squares as given?"
    if found.covered < COVERED:
        text += "; show it in the image's corners too, otherwise the lens at its edges is a guess"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, no images or too few views."""
    try:
        return tyro.cli(calibrate, args=argv, prog="vla-rl calibrate")
    except (UserError, ImportError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("calibrate: stopped before there was an image", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
