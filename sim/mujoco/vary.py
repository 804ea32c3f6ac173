"""A variation's numbers written into MuJoCo models: always from the nominal model, so that nothing is left of an earlier one."""

from __future__ import annotations

import mujoco
import numpy as np

from sim.camera import Camera
from sim.looks import moved, recoloured, tilted
from sim.randomize import Variation
from sim.render import Renderer
from sim.robots import Robot
from sim.scene import FLOOR, TABLE, Scene, mat_names


def vary_physics(model: mujoco.MjModel, nominal: mujoco.MjModel, scene: Scene, robot: Robot, variation: Variation) -> None:
    """Scale masses, friction and servo gains of `model`; the constants that follow from them are left to `mj_setConst`."""
    names = [body.name for body in scene.bodies] + [f"{fixture.name}_moving" for fixture in scene.fixtures]
    for name, scale in zip(names, variation.mass, strict=True):
        body = model.body(name).id
        model.body_mass[body] = nominal.body_mass[body] * scale
        model.body_inertia[body] = nominal.body_inertia[body] * scale
    model.geom_friction[:, 0] = nominal.geom_friction[:, 0] * variation.friction
    for joint in (*robot.joints, *robot.fingers):
        servo, index = model.actuator(joint).id, robot.joints.index(joint) if joint in robot.joints else -1
        stiffness, damping = variation.stiffness[index], variation.damping[index]
        model.actuator_gainprm[servo, 0] = nominal.actuator_gainprm[servo, 0] * stiffness
        model.actuator_biasprm[servo, 1:3] = nominal.actuator_biasprm[servo, 1:3] * (stiffness, damping)


class Stage:
    """Draws varied episodes of one scene, from states that may lie in the past. Physics models are not touched."""

    def __init__(self, nominal: mujoco.MjModel, scene: Scene, camera: Camera, px: int) -> None:
        """Prepare a render copy of `nominal`, `px` pixels high and wide."""
        self._renderer, self._nominal, self._scene, self._camera = Renderer(nominal, camera, px), nominal, scene, camera
        self._data = mujoco.MjData(self._renderer.model)

    def render(self, saved: np.ndarray, variation: Variation) -> np.ndarray:
        """Image `(px, px, 3)` uint8 of a state from `Physics.save`, as its episode varies it."""
        model, data = self._renderer.model, self._data
        self._paint(variation)
        self._illuminate(variation)
        self._renderer.aim(moved(self._camera, variation))
        mujoco.mj_setState(model, data, saved, mujoco.mjtState.mjSTATE_INTEGRATION)
        for update in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            update(model, data)
        return self._renderer.render(data)

    def _paint(self, v: Variation) -> None:
        """Recolour what stands on the table, the table and the floor."""
        model, nominal, scene = self._renderer.model, self._nominal, self._scene
        bodies = [(body.name,) for body in scene.bodies] + [(fixture.name, f"{fixture.name}_moving") for fixture in scene.fixtures]
        parts = [np.flatnonzero(np.isin(model.geom_bodyid, [model.body(name).id for name in names])) for names in bodies]
        parts += [np.array([model.geom(name).id]) for name in (*mat_names(scene), TABLE, FLOOR)]
        hues, saturations = (*v.hue_deg, *v.surface_hue_deg), (*v.saturation, 1.0, 1.0)
        values = (*v.value, *v.surface_value)
        for geoms, *shift in zip(parts, hues, saturations, values, strict=True):
            for geom in geoms:
                red, green, blue = nominal.geom_rgba[geom, :3].tolist()
                if shift != [0.0, 1.0, 1.0]:
                    red, green, blue = recoloured((red, green, blue), *shift)
                model.geom_rgba[geom, :3] = red, green, blue

    def _illuminate(self, v: Variation) -> None:
        """Turn the lights and scale all light."""
        model, nominal = self._renderer.model, self._nominal
        for light in range(model.nlight):
            x, y, z = nominal.light_dir[light].tolist()
            model.light_dir[light] = tilted((x, y, z), v)
        for name in ("ambient", "diffuse", "specular"):
            getattr(model, f"light_{name}")[:] = getattr(nominal, f"light_{name}") * v.light_intensity
            getattr(model.vis.headlight, name)[:] = getattr(nominal.vis.headlight, name) * v.light_intensity
