"""Every robot, asked the same questions; the kinematics of real arms against the makers' published parameters."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from sim.mujoco.physics import Physics
from sim.robots import ARM7, PANDA, ROBOTS, UR5E, Meshes, Robot
from sim.scene import build
from sim.tasks import TASKS
from sim.vec_env import SimulationError

BLOCKS = TASKS["reach"].scene
each_robot = pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)

PANDA_DH = [(0, 0, 0.333), (0, -90, 0), (0, 90, 0.316), (0.0825, 90, 0), (-0.0825, -90, 0.384), (0, 90, 0), (0.088, 90, 0)]
"""a [m], α [°] and d [m] before each joint (Craig's convention), from Franka's documentation; the flange is 0.107 m further."""
UR5E_DH = [(0, 90, 0.1625), (-0.425, 0, 0), (-0.3922, 0, 0), (0, 90, 0.1333), (0, -90, 0.0997), (0, 0, 0.0996)]
"""a [m], α [°] and d [m] after each joint (the classic convention), from Universal Robots' documentation."""


def turn_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def link(a: float, alpha_deg: float, d: float) -> np.ndarray:
    """Turn about x and shift by a along x and by d along the old z."""
    c, s = np.cos(np.radians(alpha_deg)), np.sin(np.radians(alpha_deg))
    return np.array([[1, 0, 0, a], [0, c, -s, 0], [0, s, c, d], [0, 0, 0, 1]])


def flange(robot: Robot, joints: np.ndarray) -> np.ndarray:
    """Pose `(4, 4)` of the frame that carries the hand, by the maker's parameters."""
    pose = np.eye(4)
    if robot is PANDA:
        for (a, alpha, d), q in zip(PANDA_DH, joints, strict=True):
            shift = np.eye(4)
            shift[2, 3] = d
            pose = pose @ link(a, alpha, 0) @ shift @ turn_z(q)
        pose[:3, 3] += 0.107 * pose[:3, 2]
        return pose
    pose = turn_z(np.pi)  # here the arm reaches forwards at zero, by the maker's frames backwards
    for (a, alpha, d), q in zip(UR5E_DH, joints, strict=True):
        pose = pose @ turn_z(q) @ link(a, alpha, d)
    return pose


def physics_of(robot: Robot) -> Physics:
    physics = Physics(BLOCKS, robot)
    physics.reset(replace(TASKS["reach"].draw(0), joint_offset=np.zeros(7)))
    return physics


@each_robot
def test_the_tool_starts_over_the_table_and_points_down(robot: Robot) -> None:
    state = physics_of(robot).state()
    np.testing.assert_allclose(state["tcp_pos"], [0.4976, 0.0, 0.2860], atol=2e-3)
    np.testing.assert_allclose(np.abs(state["tcp_quat"]), [0, 1, 0, 0], atol=2e-3)  # fingers open along y


@each_robot
def test_fingers_close_on_the_tool_centre_point_from_both_sides(robot: Robot) -> None:
    physics = physics_of(robot)
    bodies = [physics.model.joint(finger).bodyid[0] for finger in robot.fingers]
    for opening in (1.0, 0.25):
        physics.data.qpos[physics._fingers] = opening * robot.finger_travel
        physics._locate()
        left, right = (physics.data.xpos[body] for body in bodies)
        assert left[1] * right[1] < 0 and np.linalg.norm(left - right) == pytest.approx(2 * opening * robot.finger_travel, abs=1e-6)
        np.testing.assert_allclose((left + right)[:2] / 2, physics.state()["tcp_pos"][:2], atol=1e-4)


@each_robot
def test_meshes_are_seen_and_primitives_collide(robot: Robot) -> None:
    model = build(BLOCKS, robot).compile()
    solid = (model.geom_contype > 0) | (model.geom_conaffinity > 0)
    mesh = model.geom_type == mujoco.mjtGeom.mjGEOM_MESH
    assert mesh.any() == (robot.meshes is not None) and not (mesh & solid).any()
    hand = {model.body(robot.hand).id, *(int(model.joint(finger).bodyid[0]) for finger in robot.fingers)}
    assert hand <= {int(body) for body in model.geom_bodyid[solid]}


@each_robot
def test_an_arm_stays_where_it_is_told(robot: Robot) -> None:
    physics = physics_of(robot)
    before = physics.state()["joint_pos"].copy()
    for _ in range(20):
        physics.step()
    np.testing.assert_allclose(physics.state()["joint_pos"], before, atol=1e-3)


@pytest.mark.parametrize("robot", [PANDA, UR5E], ids=["panda", "ur5e"])
def test_kinematics_are_the_makers(robot: Robot) -> None:
    physics = physics_of(robot)
    rng = np.random.default_rng(0)
    for _ in range(20):
        physics.data.qpos[physics._q] = joints = rng.uniform(*physics.limits.T)
        physics._locate()
        hand = physics.data.xpos[physics._hand], physics.data.xmat[physics._hand].reshape(3, 3)
        pose = flange(robot, joints)
        np.testing.assert_allclose(hand[0], pose[:3, 3], atol=1e-5)
        np.testing.assert_allclose(hand[1][:, 2], pose[:3, 2], atol=1e-5)


@pytest.mark.parametrize(("robot", "kg"), [(PANDA, 18.0), (UR5E, 20.6 + 0.9)], ids=["panda", "ur5e"])
def test_masses_are_near_the_data_sheets(robot: Robot, kg: float) -> None:
    model = build(BLOCKS, robot).compile()
    blocks = sum(float(model.body(body.name).mass[0]) for body in BLOCKS.bodies)
    assert float(model.body_mass.sum()) - blocks == pytest.approx(kg, rel=0.1)


def test_missing_meshes_name_the_extra() -> None:
    homeless = replace(PANDA, meshes=Meshes("no_such_package", "meshes"))
    with pytest.raises(SimulationError, match=r"package 'no_such_package', which is not installed: install the extra 'robots'"):
        build(BLOCKS, homeless)
    with pytest.raises(SimulationError, match=r"package 'rtbdata' holds no folder nowhere: install the version"):
        replace(PANDA, meshes=Meshes("rtbdata", "nowhere")).mjcf()
    assert ARM7.mjcf() == ARM7.model.read_text()
