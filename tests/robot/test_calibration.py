"""A camera that is known is found again from pictures of a board, and robots' images become what policies were trained on."""

from __future__ import annotations

import numpy as np
import pytest

from policies.images import Pinhole, matching_crop, prepare_image, prepared_camera
from policies.interface import SpecError
from robot.calibration import FEWEST, Board, CalibrationError, Views
from robot.observation import CommanderError, image_entries
from tests.robot.chessboard import album, photograph
from tests.robot.session import ARM7
from tests.robot.test_commander import IMAGE, STATE, bundle

BOARD = Board(7, 5, 0.03)
LENS = Pinhole(width_px=320, height_px=240, fx_px=270.0, fy_px=265.0, cx_px=165.0, cy_px=116.0, distortion=(-0.25, 0.08, 0.001, -0.002))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return album(LENS, BOARD, seed=1, count=27)


def test_a_camera_is_found_again(pictures: list[np.ndarray]) -> None:
    views = Views(BOARD, LENS.size)
    reasons = [views.add(picture) for picture in pictures]
    assert len(views.corners) >= 15, reasons
    found = views.calibrate()
    assert found.error_px < 0.2 and found.covered > 0.8
    wanted = np.array([LENS.fx_px, LENS.fy_px, LENS.cx_px, LENS.cy_px])
    np.testing.assert_allclose([found.camera.fx_px, found.camera.fy_px, found.camera.cx_px, found.camera.cy_px], wanted, atol=2.0)
    assert found.camera.size == LENS.size and found.camera.distortion[0] == pytest.approx(-0.25, abs=0.03)


def test_the_lens_is_taken_out(pictures: list[np.ndarray]) -> None:
    """Corners on one edge of the board lie on a line once the image is straightened, and do not before."""

    def bend(image: np.ndarray) -> float:
        corners = BOARD.find(image)
        assert corners is not None
        rows = corners.reshape(BOARD.rows, BOARD.columns, 2)
        across = rows - rows.mean(1, keepdims=True)
        return float(np.linalg.svd(across)[1][:, 1].mean())

    seen = [
        picture
        for picture in pictures
        if BOARD.find(picture) is not None and BOARD.find(prepare_image(picture, 240, 320, LENS)) is not None
    ]
    before, after = np.mean([[bend(picture), bend(prepare_image(picture, 240, 320, LENS))] for picture in seen[:8]], axis=0)
    assert before > 0.4 and after < 0.6 * before


def test_views_that_tell_nothing_are_not_taken(pictures: list[np.ndarray]) -> None:
    views = Views(BOARD, LENS.size)
    assert views.add(np.full((240, 320, 3), 90, np.uint8)) == "the board is not seen whole"
    first = next(picture for picture in pictures if BOARD.find(picture) is not None)
    assert views.add(first) == "" and views.add(first).startswith("it was seen there already")
    with pytest.raises(CalibrationError, match=r"\(120, 160\) pixels"):
        views.add(first[::2, ::2])
    with pytest.raises(CalibrationError, match=f"1 views are too few, {FEWEST} are needed"):
        views.calibrate()


@pytest.mark.parametrize("board", [(2, 5, 0.03), (7, 5, 0.0)])
def test_what_is_no_board_is_refused(board: tuple[int, int, float]) -> None:
    with pytest.raises(CalibrationError, match="inner corners"):
        Board(*board)


def test_a_board_that_is_never_tilted_is_refused() -> None:
    """The focal length could be anything: further away or longer is the same."""
    middle, views = BOARD.points.mean(0), Views(BOARD, LENS.size)
    for x in (-0.08, -0.04, 0.0, 0.04, 0.08):
        for y in (-0.04, 0.0, 0.04):
            views.add(photograph(LENS, BOARD, np.zeros(3), np.array([x, y, 0.42]) - middle))
    assert len(views.corners) >= FEWEST
    with pytest.raises(CalibrationError, match=r"tilted by more than 15 degrees in [0-3] views, 5 are needed"):
        views.calibrate()


def test_a_lens_that_leaves_edges_empty_is_refused() -> None:
    """A pincushion's straightened image does not fill its frame."""
    lens = Pinhole(width_px=320, height_px=240, fx_px=270.0, fy_px=270.0, cx_px=159.5, cy_px=119.5, distortion=(0.3, 0.0, 0.0, 0.0))
    whole = prepared_camera(lens, 24, 32)
    with pytest.raises(SpecError, match="once its image is straightened"):
        matching_crop(lens, whole)
    narrow = whole.model_copy(update={"fx_px": 1.5 * whole.fx_px, "fy_px": 1.5 * whole.fy_px})
    assert (prepare_image(np.full((240, 320, 3), 200, np.uint8), 24, 32, lens, matching_crop(lens, narrow)) == 200).all()


TRAINED = Pinhole(width_px=4, height_px=4, fx_px=4.0, fy_px=4.0, cx_px=1.5, cy_px=1.5)


def _trained(camera: Pinhole | None = TRAINED):
    described = bundle(IMAGE, STATE)
    terms = tuple(term.model_copy(update={"camera": camera}) if term.name == IMAGE.name else term for term in described.observations)
    return described.model_copy(update={"observations": terms})


def _with(lens: Pinhole):
    return ARM7.model_copy(update={"cameras": {"front": lens}})


def test_a_calibrated_camera_shows_what_the_policy_was_trained_on() -> None:
    """Twice as many pixels and a wider view: a quarter of the picture, two pixels to one."""
    lens = Pinhole(width_px=16, height_px=16, fx_px=8.0, fy_px=8.0, cx_px=7.5, cy_px=7.5)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    shown = image_entries(_trained(), _with(lens))["front"].value(image)
    by_hand = image[4:12, 4:12].astype(float).reshape(4, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(shown, by_hand, atol=0.51)
    with pytest.raises(CommanderError, match=r"camera 'front': the image is \(8, 16\), its camera is calibrated for \(16, 16\)"):
        image_entries(_trained(), _with(lens))["front"].value(image[:8])


def test_a_camera_that_sees_too_little_is_refused() -> None:
    with pytest.raises(CommanderError, match="camera 'front' of arm7: the camera sees less than the policy was trained on"):
        image_entries(_trained(), _with(Pinhole(width_px=4, height_px=4, fx_px=8.0, fy_px=8.0, cx_px=1.5, cy_px=1.5)))


@pytest.mark.parametrize("described", [_trained(), _trained(None)], ids=["robot's camera unknown", "policy's camera unknown"])
def test_an_unknown_camera_must_show_images_of_the_policys_size(described) -> None:
    profile = ARM7 if described.observations[0].camera else _with(LENS)
    entry = image_entries(described, profile)["front"]
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    assert np.array_equal(entry.value(image), image)
    with pytest.raises(CommanderError, match=r"shows \(8, 4\) pixels .*vla-rl calibrate"):
        entry.value(np.zeros((8, 4, 3), np.uint8))
