"""What a tabletop environment shows and accepts, the same in every backend."""

from __future__ import annotations

from policies.interface import Entry
from sim.camera import Camera
from sim.control import Kind, action_spec
from sim.robots import Robot
from sim.scene import CONTROL_HZ
from sim.vec_env import EnvSpec

CAMERAS: dict[str, Camera] = {
    "front": Camera((0.47, 0.0, 0.08), 1.0, 180.0, -48.0, 44.0),
    "side": Camera((0.5, 0.0, 0.06), 1.05, 115.0, -42.0, 44.0),
}
"""Camera presets: `front` stands opposite the robot and looks back at it."""

JOINT_RANGE = 3.2
"""Half the range that joint angles are normalised by [rad]."""


def entry_names(camera: str) -> dict[str, str]:
    """Observation entry of each array that backends return; the names are LeRobot's."""
    return {"image": f"observation.images.{camera}", "state": "observation.state", "task": "task"}


def make_spec(robot: Robot, kind: Kind, camera: str, image_px: int) -> EnvSpec:
    """The interface of a robot at the table: one image, joint angles and gripper opening, an instruction."""
    names = entry_names(camera)
    joints = len(robot.joints)
    image = Entry(name=names["image"], kind="image", shape=(image_px, image_px, 3), frame=camera)
    state = Entry(
        name=names["state"],
        kind="state",
        shape=(joints + 1,),
        names=(*(f"{joint} [rad]" for joint in robot.joints), "gripper_opening"),
        low=(-JOINT_RANGE,) * joints + (0.0,),
        high=(JOINT_RANGE,) * joints + (1.0,),
        frame="joints",
    )
    return EnvSpec(robot.name, (image, state, Entry(name=names["task"], kind="text")), action_spec(robot, kind), CONTROL_HZ)
