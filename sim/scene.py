"""What stands on the table: movable bodies and fixtures from primitive shapes, and the MuJoCo model made of them.

World frame: the robot's base is the origin, x points over the table, z up, the table's surface is z = 0. SI units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np

from sim.robots import Robot

Rgb = tuple[float, float, float]
Vector = tuple[float, float, float]

PHYSICS_DT_S = 0.005
CONTROL_STEPS = 10
"""Physics steps per control step: 20 Hz."""
CONTROL_HZ = 1 / (PHYSICS_DT_S * CONTROL_STEPS)
TABLE_SIZE: Vector = (0.5, 0.7, 0.02)
"""Half lengths [m]."""
TABLE_CENTRE: Vector = (0.35, 0.0, -0.02)
TABLE_COLOUR: Rgb = (0.72, 0.62, 0.5)
FLOOR_Z = -0.5
TABLE, FLOOR = "table", "floor"
"""Names of their shapes in models."""
FLOOR_COLOUR: Rgb = (0.35, 0.37, 0.4)
LIGHT_DIRECTION: Vector = (-1.0, 1.0, -1.0)
"""Of the one light, as in Newton's renderer, where it cannot be chosen."""
LIGHT, AMBIENT = 0.87, 0.39
"""Diffuse and ambient strength that make MuJoCo's faces as bright as Newton's."""


@dataclass(frozen=True)
class Shape:
    """A coloured primitive in its body's frame."""

    kind: Literal["box", "cylinder"]
    size: Vector
    """Half lengths of a box; radius, half height and 0 of an upright cylinder [m]."""
    colour: Rgb
    position: Vector = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    """About z [rad]."""


@dataclass(frozen=True)
class Body:
    """A free rigid body."""

    name: str
    shapes: tuple[Shape, ...]
    mass: float
    """[kg]."""
    friction: float = 1.0
    """Sliding friction coefficient."""


@dataclass(frozen=True)
class Fixture:
    """Something fixed on the table with one moving part."""

    name: str
    base: tuple[Shape, ...]
    moving: tuple[Shape, ...]
    joint: Literal["slide", "hinge"]
    axis: Vector
    """Of the joint, through the origin of the fixture's frame."""
    range: tuple[float, float]
    """[m] or [rad]."""
    damping: float
    """[N·s/m] or [N·m·s/rad]."""
    resistance: float
    """Dry friction of the joint [N] or [N·m]."""
    mass: float
    """Of the moving part [kg]."""
    stiffness: float = 0.0
    """Of a spring that draws the joint to 0 [N/m] or [N·m/rad]."""


@dataclass(frozen=True)
class Scene:
    """Bodies, fixtures and coloured mats, which are only seen. Order is the order of `SceneState`."""

    name: str
    bodies: tuple[Body, ...]
    fixtures: tuple[Fixture, ...] = ()
    mats: tuple[Shape, ...] = ()


def mat_names(scene: Scene) -> tuple[str, ...]:
    """Names of the mats' shapes in models."""
    return tuple(f"mat{i}" for i in range(len(scene.mats)))


def build(scene: Scene, robot: Robot) -> mujoco.MjSpec:
    """The MuJoCo model of a robot in front of a scene, with position servos named like their joints."""
    spec = mujoco.MjSpec.from_string(robot.mjcf())
    spec.option.timestep = PHYSICS_DT_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.iterations, spec.option.ls_iterations = 20, 30
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0
    _add_servos(spec, robot)
    world = spec.worldbody
    add_light(spec)
    world.add_geom(name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=(5, 5, 0.1), pos=(0, 0, FLOOR_Z), rgba=(*FLOOR_COLOUR, 1))
    add_shapes(world, (Shape("box", TABLE_SIZE, TABLE_COLOUR, TABLE_CENTRE),), names=(TABLE,))
    add_shapes(world, scene.mats, solid=False, names=mat_names(scene))
    for body in scene.bodies:
        free = world.add_body(name=body.name)
        free.add_freejoint(name=body.name)
        add_shapes(free, body.shapes, friction=body.friction, mass=body.mass)
    for fixture in scene.fixtures:
        base = world.add_body(name=fixture.name, mocap=True)
        add_shapes(base, fixture.base, friction=1.0)
        moving = base.add_body(name=f"{fixture.name}_moving")
        kind = {"slide": mujoco.mjtJoint.mjJNT_SLIDE, "hinge": mujoco.mjtJoint.mjJNT_HINGE}[fixture.joint]
        moving.add_joint(
            name=fixture.name,
            type=kind,
            axis=fixture.axis,
            range=fixture.range,
            limited=True,
            stiffness=[fixture.stiffness, 0.0, 0.0],
            damping=[fixture.damping, 0.0, 0.0],
            frictionloss=fixture.resistance,
            armature=0.0,  # else that of the robot file's joints
        )
        add_shapes(moving, fixture.moving, friction=1.0, mass=fixture.mass)
    return spec


def add_light(spec: mujoco.MjSpec) -> None:
    """One directional light without shadows or highlights, and ambient light."""
    none = (0.0, 0.0, 0.0)
    head = spec.visual.headlight
    head.ambient, head.diffuse, head.specular = (AMBIENT,) * 3, none, none
    light = spec.worldbody.add_light(type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, dir=LIGHT_DIRECTION, castshadow=False)
    light.diffuse, light.ambient, light.specular = (LIGHT,) * 3, none, none


def _add_servos(spec: mujoco.MjSpec, robot: Robot) -> None:
    gains = [*zip(robot.joints, robot.stiffness, robot.damping, robot.effort, strict=True)]
    gains += [(finger, robot.finger_stiffness, robot.finger_damping, robot.finger_effort) for finger in robot.fingers]
    for joint, stiffness, damping, effort in gains:
        servo = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=stiffness, kv=damping)
        driven = spec.joint(joint)  # limited here and not at the servo, as Isaac Lab's actuators are
        driven.actfrclimited, driven.actfrcrange = True, (-effort, effort)


def add_shapes(
    body: mujoco.MjsBody,
    shapes: tuple[Shape, ...],
    friction: float = 1.0,
    mass: float = 0.0,
    solid: bool = True,
    names: tuple[str, ...] | None = None,
) -> None:
    """Add shapes that share the body's mass by volume; those that are not solid collide with nothing."""
    volumes = [np.prod(shape.size) if shape.kind == "box" else shape.size[0] ** 2 * shape.size[1] for shape in shapes]
    for name, shape, volume in zip(names or [""] * len(shapes), shapes, volumes, strict=True):
        body.add_geom(
            name=name,
            type={"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER}[shape.kind],
            size=shape.size,
            pos=shape.position,
            quat=(np.cos(shape.yaw / 2), 0.0, 0.0, np.sin(shape.yaw / 2)),
            rgba=(*shape.colour, 1.0),
            mass=mass * volume / sum(volumes),
            friction=(friction, 0.005, 0.0001),
            contype=int(solid),
            conaffinity=int(solid),
        )
