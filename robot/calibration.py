"""A camera's intrinsics and lens distortion from views of a chessboard, by OpenCV (Zhang 2000, with k1, k2, p1, p2, k3).

N inner corners of the board
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from policies.images import Pinhole
from policies.interface import UserError

FEWEST = 10
"""Views; fewer leave the distortion to chance."""
TILT_DEG, TILTED = 15.0, 5
"""In so many views the board has to be turned so far away from the camera's own plane."""
APART = 0.04
"""How far corners have moved on average before a view counts as another one, as a share of the image's width."""
CELLS = 4
"""The image is divided into so many columns and rows to tell where corners were seen."""


class CalibrationError(UserError):
    """The views tell nothing reliable about the camera."""


@dataclass(frozen=True)
class Board:
    """A chessboard, by its inner corners."""

    columns: int
    rows: int
    square_m: float
    """Side of a square [m]."""

    def __post_init__(self) -> None:
        """Raises `CalibrationError` for what is no board."""
        if min(self.columns, self.rows) < 3 or self.square_m <= 0:
            raise CalibrationError(
                f"a board has at least 3 inner corners each way and squares, got {self.columns} × {self.rows} of {self.square_m} m"
            )

    @property
    def points(self) -> np.ndarray:
        """`(N, 3)` float32 corners in the board's own frame, row by row [m]."""
        x, y = np.meshgrid(np.arange(self.columns), np.arange(self.rows))
        return (self.square_m * np.stack([x, y, np.zeros_like(x)], -1)).reshape(-1, 3).astype(np.float32)

    def find(self, image: np.ndarray) -> np.ndarray | None:
        """`(N, 2)` float32 corners in an image `(H, W, 3)` uint8 [pixel]; `None` if the whole board is not seen."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found, corners = cv2.findChessboardCornersSB(grey, (self.columns, self.rows), flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
        return corners.reshape(-1, 2) if found else None


@dataclass(frozen=True)
class Calibration:
    """What was found."""

    camera: Pinhole
    error_px: float
    """Root mean square distance of corners from where the camera says they are."""
    covered: float
    """Share of the image's cells in which corners were seen."""


@dataclass
class Views:
    """Corners of one board, seen from different places by a camera that is calibrated with them."""

    board: Board
    size: tuple[int, int]
    """(height, width) of every image [pixel]."""
    corners: list[np.ndarray] = field(default_factory=list)
    """`(N, 2)` each."""

    def add(self, image: np.ndarray) -> str:
        """Take a view. Empty if it was taken, else why it was not. Raises `CalibrationError` for an image of another size."""
        if image.shape[:2] != self.size:
            raise CalibrationError(f"an image is {image.shape[:2]} pixels (height, width), the first one was {self.size}")
        found = self.board.find(image)
        if found is None:
            return "the board is not seen whole"
        if any(np.linalg.norm(found - seen, axis=1).mean() < APART * self.size[1] for seen in self.corners):
            return "it was seen there already; move or tilt the board"
        self.corners.append(found)
        return ""

    def calibrate(self) -> Calibration:
        """The camera that explains the views best. Raises `CalibrationError` if they are too few, or too much alike."""
        if len(self.corners) < FEWEST:
            raise CalibrationError(f"{len(self.corners)} views are too few, {FEWEST} are needed")
        height, width = self.size
        points = [self.board.points] * len(self.corners)
        found = cv2.calibrateCamera(points, self.corners, (width, height), np.zeros((3, 3)), np.zeros(5))
        error_px, matrix, lens, turns, _ = found
        tilts = np.degrees([np.arccos(min(1.0, abs(cv2.Rodrigues(turn)[0][2, 2]))) for turn in turns])
        if (tilted := int((tilts > TILT_DEG).sum())) < TILTED:
            raise CalibrationError(
                f"the board was tilted by more than {TILT_DEG:g} degrees in {tilted} views, {TILTED} are needed: one that is always held "
                "upright does not tell a long focal length from a far board"
            )
        (fx, _, cx), (_, fy, cy) = matrix[:2].tolist()
        camera = Pinhole(
            width_px=width, height_px=height, fx_px=fx, fy_px=fy, cx_px=cx, cy_px=cy, distortion=tuple(lens.reshape(-1).tolist())
        )
        return Calibration(camera, float(error_px), self._covered())

    def _covered(self) -> float:
        height, width = self.size
        cells = (np.concatenate(self.corners) / (width, height) * CELLS).astype(int).clip(0, CELLS - 1)
        return len(np.unique(cells, axis=0)) / CELLS**2
