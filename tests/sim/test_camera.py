"""Intrinsics and pose of a camera against what MuJoCo draws."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from sim.camera import Camera, shrink
from sim.metaworld.tasks import CAMERAS as METAWORLD
from sim.render import RenderContext, Renderer
from sim.tabletop import CAMERAS as TABLETOP

PX = 64
VIEWS = [*METAWORLD.values(), *TABLETOP.values()]


@pytest.mark.parametrize("camera", VIEWS, ids=[*METAWORLD, *(f"tabletop-{name}" for name in TABLETOP)])
def test_a_point_is_drawn_where_the_camera_says(camera: Camera) -> None:
    point = np.add(camera.lookat_m, (0.05, 0.09, 0.07))
    sphere = f'<geom type="sphere" size="0.02" pos="{" ".join(map(str, point))}" rgba="1 1 1 1"/>'
    light = '<visual><headlight ambient="1 1 1"/></visual>'
    model = mujoco.MjModel.from_xml_string(f"<mujoco>{light}<worldbody>{sphere}</worldbody></mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    context = RenderContext(PX)
    try:
        image = Renderer(model, camera, PX).render(data).astype(float).sum(2)
    finally:
        context.close()
    rows, columns = np.mgrid[:PX, :PX]
    drawn = np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()
    x, y, z = camera.rotation.T @ (point - camera.position_m)
    centre = (PX - 1) / 2
    said = np.array([x, y]) / z * camera.focal_px(PX) + centre
    assert np.abs(said - centre).max() > 4  # not simply in the middle
    assert drawn == pytest.approx(said, abs=0.25)


def test_by_hand() -> None:
    camera = Camera((0.0, 0.0, 0.0), 2.0, 90.0, 0.0, 90.0)  # looks along +y from two metres
    assert camera.focal_px(64) == pytest.approx(32)
    assert camera.position_m == pytest.approx((0, -2, 0))
    assert camera.rotation @ (1, 0, 0) == pytest.approx((1, 0, 0))
    assert camera.rotation @ (0, 1, 0) == pytest.approx((0, 0, -1))
    assert camera.rotation @ (0, 0, 1) == pytest.approx((0, 1, 0))


def test_drawn_images_shrink_to_the_mean_of_each_block() -> None:
    drawn = np.zeros((4, 2, 3), np.uint8)
    drawn[:2, :, 0] = [[10, 20], [30, 41]]  # 25.25
    drawn[2:, :, 2] = [[255, 255], [255, 254]]  # 254.75
    np.testing.assert_array_equal(shrink(drawn), [[[25, 0, 0]], [[0, 0, 255]]])
