"""Isaac Lab's configuration of a tabletop scene with a robot, made from the same definitions as MuJoCo's model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from isaaclab import sim as sim_utils
from isaaclab.actuators import ImplicitActuatorCfg
from isaaclab.assets import ArticulationCfg, AssetBaseCfg, RigidObjectCfg
from isaaclab.scene import InteractiveSceneCfg
from isaaclab.sensors import CameraCfg
from isaaclab.sim import SimulationCfg
from isaaclab_newton.physics import MJWarpSolverCfg, NewtonCfg
from isaaclab_newton.physics.newton_manager_cfg import NewtonShapeCfg
from isaaclab_newton.renderers import NewtonWarpRendererCfg
from isaaclab_newton.sim.schemas import MujocoRigidBodyCfg, NewtonArticulationCfg
from scipy.spatial.transform import Rotation

from sim.cache import cache_folder
from sim.camera import SUPERSAMPLE, Camera
from sim.isaaclab.convert import robot_usd
from sim.isaaclab.graph import NewtonCpuGraphManager, require_checked_versions
from sim.isaaclab.usd import linear, write_body, write_fixture, write_table
from sim.robots import Robot
from sim.scene import CONTROL_STEPS, FLOOR_COLOUR, FLOOR_Z, LIGHT_DIRECTION, PHYSICS_DT_S, Scene, Vector

SPACING_M = 0.0
"""Between environments: none, as each is a world of its own, and so an episode does not depend on where it runs."""
CONSTRAINTS, CONTACTS = 320, 96
"""Room for so many constraint rows and contact points per environment."""
CLIPPING_M = (0.05, 10.0)
"""Of the camera."""
BACKGROUND = 0xFFEEEEEE
"""Colour (alpha, blue, green, red) that Isaac Lab gives to what is beyond."""


def simulation(device: str, graph: bool) -> SimulationCfg:
    """Newton with the MuJoCo Warp solver, at MuJoCo's settings.

    Args:
        device: Warp device.
        graph: on the CPU, replay a recorded step. On CUDA, Isaac Lab records by itself.
    """
    solver = MJWarpSolverCfg(
        njmax=CONSTRAINTS,
        nconmax=CONTACTS,
        cone="pyramidal",
        integrator="implicitfast",
        iterations=20,
        ls_iterations=30,
        tolerance=1e-8,
    )
    physics = NewtonCfg(solver_cfg=solver, default_shape_cfg=NewtonShapeCfg(gap=0.0), use_cuda_graph="cuda" in device)
    if graph and "cuda" not in device:
        require_checked_versions()
        physics.class_type = solver.class_type = NewtonCpuGraphManager
    return SimulationCfg(dt=PHYSICS_DT_S, render_interval=CONTROL_STEPS, device=device, physics=physics)


def scene_cfg(scene: Scene, robot: Robot, num_envs: int, camera: Camera | None, image_px: int) -> InteractiveSceneCfg:
    """A robot in front of a scene, cloned `num_envs` times, with a camera if one is given.

    Entities are named `robot`, `camera` and like the scene's bodies and fixtures.
    """
    folder = cache_folder() / "usd" / hashlib.sha256(repr(scene).encode()).hexdigest()[:16]
    cfg = InteractiveSceneCfg(num_envs=num_envs, env_spacing=SPACING_M, replicate_physics=True)
    parts: dict[str, object] = {
        "floor": AssetBaseCfg(
            prim_path="/World/floor",
            init_state=AssetBaseCfg.InitialStateCfg(pos=(0.0, 0.0, FLOOR_Z - 0.05)),
            spawn=sim_utils.CuboidCfg(
                size=(200.0, 200.0, 0.1),
                collision_props=sim_utils.UsdPhysicsCollisionCfg(),
                visual_material=sim_utils.PreviewSurfaceCfg(diffuse_color=linear(FLOOR_COLOUR)),
            ),
        ),
        "light": AssetBaseCfg(
            prim_path="/World/light",
            init_state=AssetBaseCfg.InitialStateCfg(rot=_turn_onto(LIGHT_DIRECTION)),
            spawn=sim_utils.DistantLightCfg(intensity=2500.0),
        ),
        "table": AssetBaseCfg(prim_path="{ENV_REGEX_NS}/table", spawn=_file(write_table(scene, folder / "table.usda"))),
        "robot": _robot(robot),
    }
    for body in scene.bodies:
        parts[body.name] = RigidObjectCfg(
            prim_path=f"{{ENV_REGEX_NS}}/{body.name}", spawn=_file(write_body(body, folder / f"{body.name}.usda"))
        )
    for fixture in scene.fixtures:
        parts[fixture.name] = ArticulationCfg(
            prim_path=f"{{ENV_REGEX_NS}}/{fixture.name}", spawn=_file(write_fixture(fixture, folder / f"{fixture.name}.usda")), actuators={}
        )
    if camera is not None:
        parts["camera"] = _camera(camera, image_px)
    for name, part in parts.items():
        setattr(cfg, name, part)
    return cfg


def _turn_onto(direction: Vector) -> tuple[float, float, float, float]:
    """Quaternion x, y, z, w that turns the direction in which USD lights shine (-z) onto `direction`."""
    wanted = np.array(direction) / np.linalg.norm(direction)
    x, y, z, w = Rotation.align_vectors(wanted[None], np.array([[0.0, 0.0, -1.0]]))[0].as_quat().tolist()
    return x, y, z, w


def _file(path: Path) -> sim_utils.UsdFileCfg:
    return sim_utils.UsdFileCfg(usd_path=str(path))


def _robot(robot: Robot) -> ArticulationCfg:
    start = dict(zip(robot.joints, robot.home, strict=True)) | dict.fromkeys(robot.fingers, robot.finger_travel)
    return ArticulationCfg(
        prim_path="{ENV_REGEX_NS}/robot",
        spawn=sim_utils.UsdFileCfg(
            usd_path=str(robot_usd(robot)),
            rigid_props=[MujocoRigidBodyCfg(gravcomp=1.0)],
            articulation_props=[NewtonArticulationCfg(self_collision_enabled=True)],
        ),
        init_state=ArticulationCfg.InitialStateCfg(joint_pos=start),
        actuators={
            "arm": ImplicitActuatorCfg(
                joint_names_expr=list(robot.joints),
                stiffness=dict(zip(robot.joints, robot.stiffness, strict=True)),
                damping=dict(zip(robot.joints, robot.damping, strict=True)),
                joint_effort_limit=dict(zip(robot.joints, robot.effort, strict=True)),
            ),
            "fingers": ImplicitActuatorCfg(
                joint_names_expr=list(robot.fingers),
                stiffness=robot.finger_stiffness,
                damping=robot.finger_damping,
                joint_effort_limit=robot.finger_effort,
            ),
        },
    )


def _camera(camera: Camera, image_px: int) -> CameraCfg:
    """A pinhole camera with the same position, direction and field of view as MuJoCo's."""
    azimuth, elevation = np.radians(camera.azimuth_deg), np.radians(camera.elevation_deg)
    forward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, forward), -forward], 1)  # x right, y up, looking along -z
    aperture = 20.0
    return CameraCfg(
        prim_path="{ENV_REGEX_NS}/camera",
        offset=CameraCfg.OffsetCfg(
            pos=tuple((np.array(camera.lookat_m) - camera.distance_m * forward).tolist()),
            rot=tuple(Rotation.from_matrix(axes).as_quat().tolist()),
            convention="opengl",
        ),
        data_types=["rgb"],
        width=image_px * SUPERSAMPLE,
        height=image_px * SUPERSAMPLE,
        spawn=sim_utils.PinholeCameraCfg(
            focal_length=aperture / (2 * np.tan(np.radians(camera.fovy_deg) / 2)), horizontal_aperture=aperture, clipping_range=CLIPPING_M
        ),
        renderer_cfg=NewtonWarpRendererCfg(enable_shadows=False),
    )
