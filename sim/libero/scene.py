# LIBERO and robosuite are in no environment that types are checked in.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""One LIBERO task in one process, through LeRobot's environment: seeded resets, exact control steps, states to save and load.

Observations are LeRobot's, images to the last bit. robosuite samples them by a clock of its own, some physics steps before the end of a
control step, so that this clock and what the cameras saw then belong to a state.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from functools import cache
from typing import Any

import libero.libero
import mujoco
import numpy as np
from lerobot.envs.libero import LiberoEnv, get_libero_dummy_action
from libero.libero import benchmark, get_libero_path
from libero.libero.envs.object_states import SiteObjectState
from robosuite.utils.binding_utils import MjSim
from robosuite.utils.errors import RandomizationError
from robosuite.utils.observables import Observable, sensor
from scipy.spatial.transform import Rotation

from sim.libero.env import CAMERAS, STARTS, SUITES, TASKS, Settings, entry_names
from sim.libero.expert import Seen, act
from sim.libero.state import SceneState
from sim.unstable import UNSTABLE
from sim.vec_env import SEED_RANGES, SimulationError
from sim.workers.episodes import Episodes

PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION
SETTLE = 10
"""Control steps without motion that an episode begins with, as LeRobot's do."""
PLACEMENTS = 100
"""Attempts to place objects where they do not touch."""
PRESSED = 0.9
"""Command of the fingers from which the expert takes them for closed."""

SHOWN = "shown"
"""Our observation beside the library's."""
DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Orientation of a hand that points down, as the robot's does at home."""
FINGER_M = 0.03
"""How deep an object fits between the fingers."""


class Scene:
    """LeRobot's environment of one task, used for any number of episodes."""

    def __init__(self, task: str, settings: Settings) -> None:
        suite, index = TASKS[task]
        px = settings.image_px
        self._task, self._settings = task, settings
        self.horizon = settings.horizon or SUITES[suite][1]
        self._library: Any = LiberoEnv(_suite(suite), index, suite, observation_width=px, observation_height=px, hard_reset=False)
        self._library._ensure_env()
        self._env = self._library._env.env
        self._env.ignore_done = True  # episodes end where `Episodes` says
        for camera in self._library.camera_name:
            self._env.modify_observable(camera, "enabled", False)
            self._env.modify_observable(camera, "active", False)
        self._model, self._data = self._env.sim.model._model, self._env.sim.data._data
        self._drawn = MjSim(self._model)
        self._env.sim._render_context_offscreen.data = self._drawn.data
        compiled = MjSim.from_xml_string(self._env.model.get_xml()).model._model  # not kept: textures take much memory
        self._pristine = {name: getattr(compiled, name).copy() for name in ("body_pos", "body_quat", "site_rgba")}
        self._before = self._physics()
        self._shown = self._seen()
        self._state = np.zeros(8, np.float32)
        self._record_what_is_shown()

    def instruction(self, seed: int) -> str:
        """LIBERO has one phrasing for each task."""
        return self._library.task_description

    def reset(self, seed: int) -> None:
        """Start the episode of `seed`: a test seed's is one of the task's fixed initial states, others are drawn where LIBERO draws them.

        Raises:
            SimulationError: a test seed beyond the last fixed state.
        """
        chosen = seed - SEED_RANGES["test"].start
        if chosen >= STARTS:
            raise SimulationError(f"LIBERO has {STARTS} test states of each task, got seed {seed}: evaluate at most {STARTS} episodes")
        np.random.seed(seed)  # robosuite draws from numpy's global generator
        self._place_anew()
        gripper = self._env.robots[0].gripper
        gripper.current_action = np.zeros_like(gripper.current_action)  # a reset that keeps the model forgets this
        start = self._library._init_states[chosen] if chosen >= 0 else self._library._env.get_sim_state()
        self._library._env.set_init_state(start)
        self._forget_warnings()
        for _ in range(SETTLE):
            self.step(np.array(get_libero_dummy_action(), np.float32))

    def step(self, action: np.ndarray) -> tuple[float, bool]:
        """One control step with `(7,)`: LIBERO's reward, 1 where the task is solved, and whether it is."""
        observed, reward, _, _ = self._library._env.step(action)
        self._shown, self._state = observed[SHOWN], _state_entry(observed)
        if any(self._data.warning[kind].number for kind in UNSTABLE):
            raise SimulationError("physics became unstable (NaN or huge position, velocity or acceleration)")
        return float(reward), bool(self._env._check_success())

    def expert_action(self) -> np.ndarray:
        """The scripted expert's action `(7,)` float32. Raises `SimulationError` where a task has none."""
        if TASKS[self._task][0] != "libero_object":
            raise SimulationError(f"task '{self._task}' has no scripted expert; those of libero_object have one")
        self._locate()
        thing, container = self._env.obj_of_interest
        robot, body = self._env.robots[0], self._env.get_object(thing)
        above = max(0.0, float(body.top_offset[2]) - FINGER_M)  # tall things are grasped near their top
        return act(
            Seen(
                hand=self._data.site_xpos[robot.eef_site_id].copy(),
                tilt=Rotation.from_matrix(DOWN @ self._data.site_xmat[robot.eef_site_id].reshape(3, 3).T).as_rotvec(),
                thing=self._pose(thing)[:3] + np.array([0.0, 0.0, above]),
                container=self._pose(container)[:3],
                touched=self._env._check_grasp(robot.gripper, body),
                pressed=robot.gripper.current_action[1] > PRESSED,
                solved=self._env._check_success(),
            )
        )

    def state(self) -> np.ndarray:
        """`(8,)` float32: hand position [m], its orientation as rotation vector [rad], finger positions [m]."""
        return self._state

    def privileged(self) -> np.ndarray:
        """`(22,)` float32: the state entry, and position and quaternion of up to two objects that the task is about."""
        self._locate()
        poses = [self._pose(name) for name in self._env.obj_of_interest[:2]]
        return np.concatenate([self._state, *poses, np.zeros(7 * (2 - len(poses)))]).astype(np.float32)

    def save(self) -> SceneState:
        """Copy out the present state."""
        controller = self._env.robots[0].controller
        return SceneState(
            self._physics(),
            self._shown,
            self._model.body_pos.copy(),
            self._model.body_quat.copy(),
            self._model.site_rgba.copy(),
            (controller.goal_pos.copy(), controller.goal_ori.copy()),
            np.array(self._env.robots[0].gripper.current_action),
            self._state,
            (self._clock._time_since_last_sample, self._clock._sampled),
        )

    def load(self, state: SceneState) -> None:
        """Put the environment into `state`, of this task."""
        robot = self._env.robots[0]
        self._model.body_pos[:], self._model.body_quat[:], self._model.site_rgba[:] = state.body_pos, state.body_quat, state.site_rgba
        mujoco.mj_setState(self._model, self._data, state.physics, PHYSICS)
        self._locate()
        robot.controller.goal_pos, robot.controller.goal_ori = (part.copy() for part in state.goal)
        robot.controller.new_update = True
        robot.gripper.current_action = state.gripper.copy()
        self._shown, self._state = state.shown, state.state
        for observable in self._env._observables.values():
            observable._time_since_last_sample, observable._sampled = state.clock
        self._forget_warnings()

    def images(self) -> dict[str, np.ndarray]:
        """What LeRobot's environment shows, the right way up as its policies see it."""
        px, sim, sites = self._settings.image_px, self._env.sim, self._model.site_rgba.copy()
        physics, colours = np.split(self._shown, [-sites.size])
        sim._render_context_offscreen.gl_ctx.make_current()  # scenes of other tasks have contexts of their own
        mujoco.mj_setState(self._model, self._drawn.data._data, physics, PHYSICS)
        mujoco.mj_forward(self._model, self._drawn.data._data)
        self._model.site_rgba[:] = colours.reshape(sites.shape)
        cameras = CAMERAS[self._settings.camera]
        images = {key: sim.render(px, px, camera_name=camera)[::-1, ::-1].copy() for key, camera in cameras.items()}
        self._model.site_rgba[:] = sites
        return images

    def _place_anew(self) -> None:
        """The library's reset, from the model as it was compiled: it places objects on fixtures as if those had not been moved yet.

        Raises:
            SimulationError: nothing fits.
        """
        for name, value in self._pristine.items():
            getattr(self._model, name)[:] = value
        for _ in range(PLACEMENTS):
            try:
                self._env.reset()
            except RandomizationError:
                continue
            return
        raise SimulationError(f"LIBERO found no place for the objects in {PLACEMENTS} attempts")

    def _forget_warnings(self) -> None:
        for kind in UNSTABLE:
            self._data.warning[kind].number = 0

    def _record_what_is_shown(self) -> None:
        """Add what cameras show to the library's observations: physics before the step that they are drawn after, and sites' colours."""
        advance = self._env.sim.step

        def step() -> None:
            self._before = self._physics()
            advance()

        self._env.sim.step = step
        self._clock = Observable(SHOWN, sensor(modality=SHOWN)(lambda _: self._seen()), sampling_rate=self._env.control_freq)
        self._env.add_observable(self._clock)

    def _seen(self) -> np.ndarray:
        return np.concatenate([self._before, self._model.site_rgba.ravel()])

    def _locate(self) -> None:
        """Bring poses and contacts up to date: a step leaves those of shortly before its end. Stepping on is not disturbed."""
        physics = self._physics()
        mujoco.mj_forward(self._model, self._data)
        mujoco.mj_setState(self._model, self._data, physics, PHYSICS)  # mj_forward has changed the solver's warm start

    def _physics(self) -> np.ndarray:
        physics = np.empty(mujoco.mj_stateSize(self._model, PHYSICS))
        mujoco.mj_getState(self._model, self._data, physics, PHYSICS)
        return physics

    def _pose(self, name: str) -> np.ndarray:
        """Position [m] and quaternion (w, x, y, z) of an object or region, `(7,)`."""
        place = self._env.object_states_dict[name]
        found = place.get_geom_state()
        return np.concatenate([found["pos"], np.roll(found["quat"], 1) if isinstance(place, SiteObjectState) else found["quat"]])


def _state_entry(observed: dict[str, Any]) -> np.ndarray:
    """LeRobot's state of LIBERO's observation; quaternions are (x, y, z, w), rotation angles from 0 to 2π."""
    quat = observed["robot0_eef_quat"].astype(np.float32)
    sine = np.sqrt(max(1.0 - quat[3] ** 2, 0.0))
    turn = quat[:3] / sine * 2.0 * np.arccos(np.clip(quat[3], -1.0, 1.0)) if sine > 1e-10 else np.zeros(3)
    return np.concatenate([observed["robot0_eef_pos"], turn, observed["robot0_gripper_qpos"]]).astype(np.float32)


@cache
def _suite(name: str) -> Any:
    libero.libero._assets_path_cache = get_libero_path("assets")
    with redirect_stdout(sys.stderr):  # it says in which order it holds tasks
        return benchmark.get_benchmark_dict()[name]()


def episodes(settings: Settings) -> Episodes:
    """The episodes of one worker."""
    return Episodes(
        lambda task: Scene(task, settings),
        entry_names(settings.camera),
        "LIBERO starts from its own initial states only; set sim.resets to default",
    )
