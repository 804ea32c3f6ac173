"""The Unitree G1's model, which a package carries, and what drives it. SI units.

It is mjlab's `g1.xml`: bodies, joints and collision shapes; its meshes are left out, so that
the robot is drawn by the shapes that collide. mjlab wants another MuJoCo than this project does, so that its files lie in an
environment of their own in the cache folder.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import mujoco

from sim.cache import isolated, packages
from sim.humanoid.g1 import ARM_JOINTS, BODY_JOINTS, SIDES, part
from sim.scene import FLOOR_COLOUR, PHYSICS_DT_S, add_light
from sim.vec_env import SimulationError

PACKAGE = "mjlab==1.6.0"
FILE = "mjlab/asset_zoo/robots/unitree_g1/xmls/g1.xml"

PELVIS, TORSO = "pelvis", "torso_link"
HANDS = tuple(f"{side}_wrist_yaw_link" for side in SIDES)
"""Bodies that carry the hands."""
HAND_POINT = (0.11, 0.0, 0.0)
"""Middle of the hand in its body's frame [m]."""
MARKERS = ("left_spot", "right_spot")
"""Sites for pictures: where the hands are to go."""
HEIGHT = 0.7837
"""Of the pelvis, standing at home [m]."""


class Motor(NamedTuple):
    """A position servo and its reflected inertia."""

    stiffness: float
    """[N·m/rad]; ours: what stands."""
    damping: float
    """[N·m·s/rad]."""
    effort: float
    """Limit, the maker's [N·m]."""
    armature: float
    """Reflected inertia of the rotor, from the motors' data as mjlab gives them [kg·m²]."""


MOTORS = {
    "hip_pitch": Motor(250.0, 8.0, 88.0, 0.0102),
    "hip_roll": Motor(250.0, 8.0, 139.0, 0.0251),
    "hip_yaw": Motor(250.0, 8.0, 88.0, 0.0102),
    "knee": Motor(300.0, 8.0, 139.0, 0.0251),
    "ankle_pitch": Motor(200.0, 8.0, 50.0, 0.0072),
    "ankle_roll": Motor(200.0, 8.0, 50.0, 0.0072),
    "waist_yaw": Motor(250.0, 8.0, 88.0, 0.0102),
    "waist_roll": Motor(250.0, 8.0, 50.0, 0.0072),
    "waist_pitch": Motor(250.0, 8.0, 50.0, 0.0072),
    "shoulder_pitch": Motor(80.0, 4.0, 25.0, 0.0036),
    "shoulder_roll": Motor(80.0, 4.0, 25.0, 0.0036),
    "shoulder_yaw": Motor(80.0, 4.0, 25.0, 0.0036),
    "elbow": Motor(80.0, 4.0, 25.0, 0.0036),
    "wrist_roll": Motor(40.0, 2.0, 25.0, 0.0036),
    "wrist_pitch": Motor(20.0, 1.0, 5.0, 0.0043),
    "wrist_yaw": Motor(20.0, 1.0, 5.0, 0.0043),
}


@cache
def compiled() -> mujoco.MjModel:
    """The robot on a floor, with position servos named like their joints, in the order of `BODY_JOINTS` and `ARM_JOINTS`.

    Raises:
        SimulationError: the model's package cannot be installed.
    """
    spec = _robot()
    spec.option.timestep = PHYSICS_DT_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    add_light(spec)
    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(5, 5, 0.1), rgba=(*FLOOR_COLOUR, 1.0))
    for name, colour in zip(MARKERS, ((0.9, 0.2, 0.2, 1.0), (0.2, 0.4, 0.9, 1.0)), strict=True):
        spec.body(PELVIS).add_site(name=name, size=(0.035, 0.0, 0.0), rgba=colour, group=0)
    for name in (*BODY_JOINTS, *ARM_JOINTS):
        servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=MOTORS[part(name)].stiffness, kv=MOTORS[part(name)].damping)
    return spec.compile()


def mjcf() -> str:
    """The robot alone as an MJCF file's text, for other simulators: no floor, no servos, nothing that senses or only shows.

    Raises:
        SimulationError: as `compiled`.
    """
    spec = _robot()
    for unused in (*spec.sensors, *spec.sites, *spec.cameras):
        spec.delete(unused)
    spec.compile()
    return spec.to_xml()


def _robot() -> mujoco.MjSpec:
    """The model of the package without meshes and lights, with our motors' limits and inertias at the joints."""
    path = packages(isolated(PACKAGE, "carries the G1's model", dependencies=False)) / FILE
    if not path.is_file():
        raise SimulationError(f"{PACKAGE} holds no {FILE}")
    spec = mujoco.MjSpec.from_file(str(path))
    for geom in [geom for geom in spec.geoms if geom.type == mujoco.mjtGeom.mjGEOM_MESH]:
        spec.delete(geom)
    for unused in (*spec.meshes, *spec.lights):
        spec.delete(unused)
    for geom in spec.geoms:
        geom.group, geom.rgba = 0, (0.75, 0.77, 0.8, 1.0)
    for name in (*BODY_JOINTS, *ARM_JOINTS):
        motor, joint = MOTORS[part(name)], spec.joint(name)
        joint.armature, joint.actfrclimited, joint.actfrcrange = motor.armature, True, (-motor.effort, motor.effort)
    return spec
