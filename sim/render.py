"""Fast software rendering: no shadows, reflections or multisampling, and decimated meshes in a copy of the model.

V vertices · T triangles
"""

from __future__ import annotations

import copy
from functools import cache

import fast_simplification
import mujoco
import numpy as np
from mujoco.gl_context import GLContext

from sim.camera import SUPERSAMPLE, Camera, shrink
from sim.vec_env import SimulationError
from sim.workers.process import RENDERER_HINT

DECIMATE_ABOVE = 1000
"""Meshes with at most so many triangles stay as they are."""
KEEP = 0.25
"""Fraction of triangles kept in larger meshes."""
CREASE = np.cos(np.deg2rad(45))
"""Triangles whose normal differs more from the vertex normal are shaded flat."""


class RenderContext:
    """The worker's one OpenGL context."""

    def __init__(self, px: int) -> None:
        try:
            self._context = GLContext(px, px)
            self._context.make_current()
        except (ImportError, AttributeError, RuntimeError) as error:
            raise SimulationError(f"cannot open an OpenGL context ({type(error).__name__}: {error}); {RENDERER_HINT}") from error

    def close(self) -> None:
        """Free the context."""
        self._context.free()


class Renderer:
    """Renders one model from one camera; the physics model itself is never changed."""

    def __init__(self, model: mujoco.MjModel, camera: Camera, px: int, visible_sites: tuple[str, ...] = (), simplify: bool = True) -> None:
        """Prepare a render copy of `model`.

        Args:
            model: the physics model.
            camera: where to look from.
            px: height and width of the image [pixel].
            visible_sites: names of the markers that are drawn; all others are hidden.
            simplify: decimate large meshes.
        """
        self.model = copy.deepcopy(model)
        self.model.vis.quality.offsamples = 0
        self.model.vis.global_.offwidth = self.model.vis.global_.offheight = px * SUPERSAMPLE
        for site in range(model.nsite):
            if model.site(site).name not in visible_sites:
                self.model.site_rgba[site, 3] = 0.0
        if simplify:
            simplify_meshes(self.model)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self.aim(camera)
        self._option, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._scene = mujoco.MjvScene(self.model, maxgeom=500)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = False
        self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        self._rect = mujoco.MjrRect(0, 0, px * SUPERSAMPLE, px * SUPERSAMPLE)

    def aim(self, camera: Camera) -> None:
        """Look from another camera."""
        self.model.vis.global_.fovy = camera.fovy_deg
        self._camera.lookat[:] = camera.lookat_m
        self._camera.distance = camera.distance_m
        self._camera.azimuth = camera.azimuth_deg
        self._camera.elevation = camera.elevation_deg

    def render(self, data: mujoco.MjData) -> np.ndarray:
        """Image `(px, px, 3)` uint8, first row at the top, of the state in `data` (whose poses must be up to date)."""
        image = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self.model, data, self._option, self._perturb, self._camera, everything, self._scene)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)  # other renderers share the GL context
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(image, None, self._rect, self._context)
        return shrink(image[::-1])


def simplify_meshes(model: mujoco.MjModel) -> None:
    """Decimate large meshes of a compiled model in place, in the memory of the original mesh. For rendering only."""
    for mesh in range(model.nmesh):
        faces, vertices = int(model.mesh_facenum[mesh]), int(model.mesh_vertnum[mesh])
        if faces <= DECIMATE_ABOVE:
            continue
        vert, face = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
        points, triangles, normals, corners = _decimate(
            model.mesh_vert[vert : vert + vertices].tobytes(), model.mesh_face[face : face + faces].tobytes()
        )
        normal, capacity = int(model.mesh_normaladr[mesh]), int(model.mesh_normalnum[mesh])
        if len(points) > vertices or len(triangles) > faces or len(normals) > capacity:
            continue
        model.mesh_vert[vert : vert + len(points)] = points
        model.mesh_face[face : face + len(triangles)] = triangles
        model.mesh_normal[normal : normal + len(normals)] = normals
        model.mesh_facenormal[face : face + len(triangles)] = corners
        if model.mesh_texcoordadr[mesh] >= 0:
            model.mesh_facetexcoord[face : face + len(triangles)] = 0
        model.mesh_vertnum[mesh], model.mesh_facenum[mesh], model.mesh_normalnum[mesh] = len(points), len(triangles), len(normals)


@cache
def _decimate(vertices: bytes, faces: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Decimate one mesh of V vertices and T triangles; cached, as all tasks share the robot's meshes.

    Returns:
        Vertices `(V, 3)`, triangles `(T, 3)`, normals `(N, 3)` and each triangle corner's normal index `(T, 3)`.
    """
    points, merged = np.unique(np.frombuffer(vertices, np.float32).reshape(-1, 3), axis=0, return_inverse=True)
    triangles = merged.astype(np.int32)[np.frombuffer(faces, np.int32).reshape(-1, 3)]
    points, triangles, *_ = fast_simplification.simplify(points.astype(np.float64), triangles, 1.0 - KEEP)
    edges = points[triangles]
    area = np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])
    smooth = np.zeros_like(points)
    for corner in range(3):
        np.add.at(smooth, triangles[:, corner], area)
    flat = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-12)
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)
    sharp = (smooth[triangles] * flat[:, None]).sum(-1) < CREASE
    corners = np.where(sharp, len(points) + np.arange(len(triangles))[:, None], triangles)
    return points, triangles, np.concatenate([smooth, flat]), corners
