"""The fast image against the plain one, and what is in it."""

import os

os.environ.setdefault("MUJOCO_GL", "osmesa")

import numpy as np
import pytest

from sim.metaworld.scene import Scene
from sim.metaworld.tasks import CAMERAS, VISIBLE_SITES
from sim.render import RenderContext, Renderer

PX = 96


@pytest.fixture(scope="module")
def context():
    context = RenderContext(PX)
    yield context
    context.close()


def changed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pixels `(px, px)` that differ clearly."""
    return np.abs(a.astype(int) - b.astype(int)).max(-1) > 24


@pytest.mark.parametrize("task", ["drawer-open", "button-press-topdown"])
@pytest.mark.parametrize("camera", CAMERAS)
def test_decimated_image_is_close_to_the_plain_one(context, task, camera):
    scene = Scene(task)
    fast, plain = Renderer(scene.model, CAMERAS[camera], PX), Renderer(scene.model, CAMERAS[camera], PX, simplify=False)
    assert fast.model.mesh_facenum.sum() < 0.4 * plain.model.mesh_facenum.sum()
    for seed in range(3):
        scene.reset(seed)
        a, b = fast.render(scene.data), plain.render(scene.data)
        assert a.shape == (PX, PX, 3) and a.dtype == np.uint8 and a.std() > 20
        assert np.abs(a.astype(int) - b.astype(int)).mean() < 1.5
        assert changed(a, b).mean() < 0.02


def test_physics_model_is_untouched(context):
    scene = Scene("drawer-open")
    faces, rgba = scene.model.mesh_facenum.copy(), scene.model.site_rgba.copy()
    vertices = scene.model.mesh_vert.copy()
    Renderer(scene.model, CAMERAS["corner2"], PX)
    np.testing.assert_array_equal(scene.model.mesh_facenum, faces)
    np.testing.assert_array_equal(scene.model.mesh_vert, vertices)
    np.testing.assert_array_equal(scene.model.site_rgba, rgba)


@pytest.mark.parametrize("task", ["button-press-topdown", "window-open", "door-open", "drawer-open", "faucet-open", "push", "plate-slide"])
@pytest.mark.parametrize("camera", CAMERAS)
def test_hand_and_object_are_in_the_picture(context, task, camera):
    """Repaint the fingers, then everything that the task adds, and look which pixels change."""
    scene = Scene(task)
    marked = VISIBLE_SITES.get(task, ())
    base = Renderer(scene.model, CAMERAS[camera], PX, marked)
    model = base.model
    robot = {"base", "mocap", "world", "tablelink", "RetainingWall", "controller_box", "pedestal", "torso"}
    root = [model.body(int(model.body_rootid[int(body)])).name for body in model.geom_bodyid]
    fingers = [
        g for g in range(model.ngeom) if model.body(int(model.geom_bodyid[g])).name in ("rightpad", "leftpad", "rightclaw", "leftclaw")
    ]
    task_geoms = [g for g in range(model.ngeom) if root[g] not in robot and "table" not in root[g]]
    assert task_geoms, f"no task geometry found among {sorted(set(root))}"
    for seed in range(3):
        scene.reset(seed)
        image = base.render(scene.data)
        for geoms, least in ((fingers, 3), (task_geoms, 6)):
            hidden = model.geom_rgba[geoms].copy(), model.geom_matid[geoms].copy()
            model.geom_rgba[geoms] = (1, 0, 1, 1)
            model.geom_matid[geoms] = -1
            repainted = changed(image, base.render(scene.data))
            model.geom_rgba[geoms], model.geom_matid[geoms] = hidden
            assert repainted.sum() >= least, (
                f"seed {seed}: only {repainted.sum()} pixels of {'fingers' if geoms is fingers else 'the object'}"
            )


def test_image_is_upright(context):
    """The hand moves up: the pixels that change have their centre in the upper half for the raised hand."""
    scene = Scene("drawer-open")
    renderer = Renderer(scene.model, CAMERAS["corner2"], PX)
    scene.reset(0)
    low = renderer.render(scene.data)
    for _ in range(30):
        scene.step(np.array([0, 0, 1, 0], np.float32))
    high = renderer.render(scene.data)
    red_low, red_high = (np.nonzero((im[..., 0] > 90) & (im[..., 1] < 50))[0].max() for im in (low, high))
    assert red_high < red_low - 5


def test_markers_are_hidden_unless_they_alone_show_the_goal(context):
    scene = Scene("push")
    scene.reset(0)
    with_goal = Renderer(scene.model, CAMERAS["corner2"], PX, VISIBLE_SITES["push"]).render(scene.data)
    without = Renderer(scene.model, CAMERAS["corner2"], PX).render(scene.data)
    assert 3 <= changed(with_goal, without).sum() <= 60
    assert "drawer-open" not in VISIBLE_SITES and "faucet-open" not in VISIBLE_SITES


def test_faucet_images_are_identical(context):
    images = []
    for task in ("faucet-open", "faucet-close"):
        scene = Scene(task)
        scene.reset(4)
        images.append(Renderer(scene.model, CAMERAS["corner2"], PX, VISIBLE_SITES.get(task, ())).render(scene.data))
    np.testing.assert_array_equal(*images)
