# Warp's stubs do not know what its arrays and vectors are made of.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Drawing of varied episodes with Newton's Warp renderer, one after another.

Newton's clones share rays (and so the field of view), light and floor, so what draws them is a model of one clone, into which
each clone's poses are put in turn.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import warp as wp
from newton import Model, State
from newton.sensors import SensorTiledCamera
from scipy.spatial.transform import Rotation

from sim.camera import SUPERSAMPLE, Camera, shrink
from sim.isaaclab.scene import BACKGROUND, CLIPPING_M
from sim.looks import Rgb, moved, recoloured, tilted
from sim.randomize import Variation
from sim.scene import LIGHT_DIRECTION, Scene

OF_SHAPES = ("body", "color", "flags", "scale", "source", "source_ptr", "transform", "type", "world")
"""What Newton's renderer reads of each shape."""


class Stage:
    """Draws clones of a scene, each as its episode varies it."""

    def __init__(self, model: Model, scene: Scene, camera: Camera, px: int) -> None:
        """Prepare images `px` pixels high and wide, by the settings that `sim.isaaclab.scene` gives Isaac Lab's camera."""
        self._clone = one_clone(model)
        config = SensorTiledCamera.RenderConfig(
            enable_textures=True,
            enable_backface_culling=False,
            render_order=SensorTiledCamera.RenderOrder.TILED,
            tile_width=8,
            tile_height=8,
            max_distance=CLIPPING_M[1],
        )
        self._sensor = SensorTiledCamera(self._clone, default_render_config=config)
        self._image = self._sensor.utils.create_color_image_output(px * SUPERSAMPLE, px * SUPERSAMPLE)
        self._bodies, self._camera, self._px = model.body_count // model.world_count, camera, px * SUPERSAMPLE
        assert self._clone.shape_color is not None
        self._colours = wp.to_torch(self._clone.shape_color)
        self._nominal = self._colours.cpu().tolist()
        self._parts = [_shapes(self._clone, path) for path in _paths(scene)]

    def draw(self, state: State, row: int, variation: Variation) -> np.ndarray:
        """Image `(px, px, 3)` uint8 of a clone as it stands in the state of all."""
        assert state.body_q is not None
        stands = State()
        stands.body_q = state.body_q[row * self._bodies : (row + 1) * self._bodies]
        self._clone.bvh_refit_shapes(stands)
        self._paint(variation)
        x, y, z = tilted(LIGHT_DIRECTION, variation)
        self._sensor.utils.create_default_light(enable_shadows=False, direction=wp.vec3f(x, y, z))
        camera = moved(self._camera, variation)
        self._sensor.update(
            stands,
            wp.array(_pose(camera), dtype=wp.transformf, device=self._clone.device),
            wp.array(_rays(camera, self._px), dtype=wp.vec3f, device=self._clone.device),
            color_image=self._image,
            clear_data=SensorTiledCamera.ClearData(clear_color=BACKGROUND),
        )
        image = shrink(self._image.numpy()[0, 0].view(np.uint8).reshape(self._px, self._px, 4)[..., :3])
        if variation.light_intensity == 1.0:
            return image
        return np.rint(image * variation.light_intensity).clip(0, 255).astype(np.uint8)  # as MuJoCo does: by what is shown

    def _paint(self, v: Variation) -> None:
        """Recolour what stands on the table, the table and the floor."""
        colours = list(self._nominal)
        hues, saturations = (*v.hue_deg, *v.surface_hue_deg), (*v.saturation, 1.0, 1.0)
        for shapes, *shift in zip(self._parts, hues, saturations, (*v.value, *v.surface_value), strict=True):
            for shape in shapes:
                red, green, blue = self._nominal[shape]
                colour: Rgb = (red, green, blue) if shift == [0.0, 1.0, 1.0] else recoloured((red, green, blue), *shift)
                colours[shape] = list(colour)
        self._colours.copy_(torch.tensor(colours))


def one_clone(model: Model) -> Model:
    """The shapes of the first clone, and those that all share, as a model that can be drawn; colours are its own."""
    world = model.shape_world.numpy() if model.shape_world is not None else np.empty(0)
    count = int((world <= 0).sum())
    assert (world[:count] <= 0).all(), "the first clone's shapes follow those that all share"
    clone = copy.copy(model)
    clone.world_count, clone.shape_count, clone.shape_label = 1, count, model.shape_label[:count]
    for name in OF_SHAPES:
        setattr(clone, f"shape_{name}", getattr(model, f"shape_{name}")[:count])
    clone.shape_color = wp.clone(clone.shape_color)
    clone.bvh_build_shapes(model.state())
    return clone


def _pose(camera: Camera) -> np.ndarray:
    """`(1, 1, 7)` position, and the quaternion x, y, z, w of a frame with y up that looks along -z."""
    turn = Rotation.from_matrix(camera.rotation * (1, -1, -1))
    return np.concatenate([camera.position_m, turn.as_quat()]).astype(np.float32)[None, None]


def _rays(camera: Camera, px: int) -> np.ndarray:
    """`(1, px, px, 2, 3)` origins and directions of rays in that frame."""
    edge = ((np.arange(px) + 0.5) / px * 2 - 1) * math.tan(math.radians(camera.fovy_deg) / 2)
    rays = np.zeros((1, px, px, 2, 3))
    rays[..., 1, 0], rays[..., 1, 1], rays[..., 1, 2] = edge, -edge[:, None], -1.0
    rays[..., 1, :] /= np.linalg.norm(rays[..., 1, :], axis=-1, keepdims=True)
    return rays.astype(np.float32)


def _paths(scene: Scene) -> list[str]:
    """Where the shapes of each part are that has a colour of its own, in a variation's order."""
    clone = "/World/envs/env_0"
    parts = [f"{clone}/{part.name}/" for part in (*scene.bodies, *scene.fixtures)]
    mats = [f"{clone}/table/mats/shape{i}" for i in range(len(scene.mats))]
    return [*parts, *mats, f"{clone}/table/shape", "/World/floor/"]


def _shapes(model: Model, path: str) -> list[int]:
    """Shapes under a path."""
    found = [shape for shape, label in enumerate(model.shape_label) if label.startswith(path)]
    assert found, f"no shape is at {path}"
    return found
