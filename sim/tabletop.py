"""What a tabletop environment shows and accepts, the same in every backend."""

from __future__ import annotations

import numpy as np
import torch

from policies.interface import Entry
from sim.camera import Camera
from sim.control import Command, Kind, action_spec
from sim.robots import Robot
from sim.scene import CONTROL_HZ
from sim.state import SceneState
from sim.vec_env import EnvSpec

CAMERAS: dict[str, Camera] = {
    "front": Camera((0.47, 0.0, 0.08), 1.0, 180.0, -48.0, 44.0),
    "side": Camera((0.5, 0.0, 0.06), 1.05, 115.0, -42.0, 44.0),
}
"""Camera presets: `front` stands opposite the robot and looks back at it."""

JOINT_RANGE = 1.0
"""Half the range, around home, that joint angles are normalised by [rad]; nothing is clipped."""
ERROR_RANGE = 0.2
"""Half the range that tracking errors are normalised by [rad]."""


def entry_names(camera: str) -> dict[str, str]:
    """Observation entry of each array that backends return; the names are LeRobot's."""
    return {"image": f"observation.images.{camera}", "state": "observation.state", "task": "task"}


def make_spec(robot: Robot, kind: Kind, camera: str, image_px: int) -> EnvSpec:
    """The interface of a robot at the table: one image, joints (`proprioception`), an instruction."""
    names = entry_names(camera)
    joints = len(robot.joints)
    image = Entry(name=names["image"], kind="image", shape=(image_px, image_px, 3), frame=camera)
    state = Entry(
        name=names["state"],
        kind="state",
        shape=(2 * joints + 1,),
        names=(*(f"{joint} [rad]" for joint in robot.joints), "gripper_opening", *(f"{joint}_error [rad]" for joint in robot.joints)),
        low=(*(home - JOINT_RANGE for home in robot.home), 0.0, *(-ERROR_RANGE,) * joints),
        high=(*(home + JOINT_RANGE for home in robot.home), 1.0, *(ERROR_RANGE,) * joints),
        frame="joints",
    )
    return EnvSpec(robot.name, (image, state, Entry(name=names["task"], kind="text")), action_spec(robot, kind), CONTROL_HZ)


def proprioception(state: SceneState, command: Command) -> np.ndarray:
    """`(B, 2 J + 1)` float32: joint angles [rad], gripper opening, and the commanded less the measured joint angles [rad].

    Joint deltas add up from the last command, so that without this error no observation says where they lead.
    """
    return torch.cat([state.joint_pos, state.opening[:, None], command.joints - state.joint_pos], 1).cpu().numpy()
