"""The environments of one MuJoCo worker. Those of one task advance side by side, so that tensors are batched.

n environments of a request · K chunk steps · A actions
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from sim.control import Command, action_spec, follow, hold, towards
from sim.delays import Sent, in_force, shown_step
from sim.mujoco.physics import Physics, compiled
from sim.mujoco.settings import COMMAND, Seen, Settings, Shown, Slot
from sim.mujoco.vary import Stage
from sim.randomize import Randomizer
from sim.render import RenderContext, Renderer
from sim.resets import State
from sim.robots import ROBOTS
from sim.scene import CONTROL_HZ, CONTROL_STEPS, PHYSICS_DT_S
from sim.state import Goal, SceneState
from sim.tabletop import CAMERAS
from sim.tasks import TASKS
from sim.tasks.task import Task
from sim.vec_env import Demonstration, Render, SimulationError

Arrays = dict[str, np.ndarray]


NO_PHYSICS = np.empty(0)


@dataclass(frozen=True)
class _Varies:
    """What randomisation touches, so that the rest costs nothing."""

    physics: bool
    commands_late: bool
    views_late: bool
    images: bool

    @classmethod
    def of(cls, terms: frozenset[str]) -> _Varies:
        """From the names of the terms that are on."""
        late = {name for name in terms if name.startswith(("timing.image", "timing.state"))}
        return cls(
            physics=any(name.startswith("physics.") for name in terms),
            commands_late=any(name.startswith("timing.action") for name in terms),
            views_late=bool(late),
            images=bool(late) or any(name.startswith(("camera.", "light.", "colour.", "image.")) for name in terms),
        )


class Episodes:
    """The environments of one process, by id."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)
        self._settings = settings
        self._robot = ROBOTS[settings.robot]
        self._slots: dict[int, Slot] = {}
        self._physics: dict[tuple[int, str], Physics] = {}
        self._renderers: dict[str, Renderer] = {}
        self._stages: dict[str, Stage] = {}
        self._randomizer = Randomizer(settings.randomize, CONTROL_HZ)
        self._varies = _Varies.of(settings.randomize.active)
        self._context: RenderContext | None = None
        self._privileged_size = max(_privileged_size(task, len(self._robot.joints)) for task in TASKS.values())

    def reset(self, ids: list[int], seeds: list[int], tasks: list[str], starts: list[State | None] | None = None) -> Arrays:
        """Start an episode in each environment, from the seed's own initial state or from one of a bank, and show it."""
        for env, seed, name, found in zip(ids, seeds, tasks, starts or [None] * len(ids), strict=True):
            task = TASKS[name]
            if found is not None and found.task != name:
                raise SimulationError(f"task '{name}' cannot start from a state of task '{found.task}'")
            start = task.draw(seed if found is None else found.seed)
            instruction = task.instruction(start, seed, self._settings.paraphrases)
            variation = self._randomizer.draw(seed, task.scene, self._robot) if self._settings.randomize.active else None
            self._slots[env] = Slot(name, seed, instruction, 0, False, start.goal, {}, NO_PHYSICS, variation)
            if found is None:
                self._varied(env).reset(start)
                self._begin(env, _row(hold(self._state([env])), 0))
            else:
                self._varied(env).load(found.arrays["physics"])
                self._begin(env, {key.removeprefix(COMMAND): value for key, value in found.arrays.items() if key.startswith(COMMAND)})
        return self._views(ids, image=True)

    def chunk(self, ids: list[int], actions: np.ndarray, render: Render) -> Arrays:
        """Execute `actions` `(n, K, A)`, each environment until its episode ends."""
        self._require_alive(ids, "stepping")
        n, K = actions.shape[:2]
        reward, success = np.zeros((n, K), np.float32), np.zeros((n, K), bool)
        executed, frames = np.zeros(n, np.int64), []
        for k in range(K):
            rows = [row for row, env in enumerate(ids) if not self._slots[env].ended]
            if rows:
                acting = [ids[row] for row in rows]
                reward[rows, k], success[rows, k] = self._advance(acting, torch.as_tensor(actions[rows, k]))
                executed[rows] += 1
            if render == "all" and rows:
                frames.append(self._views(ids, image=True))
        ended = np.array([self._slots[env].ended for env in ids])
        terminated = success.any(1)
        out = {"reward": reward, "success": success, "terminated": terminated, "truncated": ended & ~terminated, "executed": executed}
        if render == "all":
            for key in ("image", "state"):
                out[f"frames.{key}"] = np.stack([frame[key] for frame in frames + frames[-1:] * (K - len(frames))], 1)
            return frames[-1] | out
        return self._views(ids, image=render == "last") | out

    def snapshot(self, ids: list[int]) -> Arrays:
        """The whole state of each environment."""
        self._require_started(ids)
        slots = np.empty(len(ids), object)
        slots[:] = [replace(self._slots[env], physics=self._of(env).save()) for env in ids]
        return {"slot": slots}

    def restore(self, ids: list[int], slots: list[Slot]) -> Arrays:
        """Put environments into earlier states and show them."""
        for env, slot in zip(ids, slots, strict=True):
            self._slots[env] = replace(slot, physics=NO_PHYSICS)
            self._varied(env).load(slot.physics)
        return self._views(ids, image=True)

    def expert(self, ids: list[int], length: int) -> Arrays:
        """The expert's next `length` actions from each state; the environments stay as they are."""
        before = self.snapshot(ids)["slot"]
        chunk = np.zeros((len(ids), length, self._robot_actions()), np.float32)
        for k in range(length):
            rows = [row for row, env in enumerate(ids) if not self._slots[env].ended]
            if k:
                chunk[:, k] = chunk[:, k - 1]
            if rows:
                acting = [ids[row] for row in rows]
                action = self._expert_actions(acting)
                chunk[rows, k] = action.numpy()
                if k + 1 < length:
                    self._advance(acting, action)
        for env, slot in zip(ids, before, strict=True):
            self._slots[env] = replace(slot, physics=NO_PHYSICS)
            self._varied(env).load(slot.physics)
        return {"action": chunk}

    def privileged(self, ids: list[int]) -> Arrays:
        """State, goal and task as numbers."""
        self._require_started(ids)
        rows = []
        for env in ids:
            numbers = self._of(env).state()
            values = [np.ravel(value) for name, value in numbers.items() if name != "jacobian"]
            rows.append(np.concatenate([*values, list(self._slots[env].goal.values())]).astype(np.float32))
        return {"obs": np.stack([np.pad(row, (0, self._privileged_size - len(row))) for row in rows])}

    def demonstrate(self, ids: list[int], noise_std: float, render: bool) -> Arrays:
        """Run the expert from each state to the end of the episode, disturbed by action noise."""
        self._require_alive(ids, "demonstrating")
        rows = np.empty(len(ids), object)
        rows[:] = [self._demonstrate(env, noise_std, render) for env in ids]
        return {"demonstration": rows}

    def close(self) -> None:
        """Free rendering memory."""
        self._renderers.clear()
        self._stages.clear()
        if self._context is not None:
            self._context.close()

    def _demonstrate(self, env: int, noise_std: float, render: bool) -> Demonstration:
        noise = np.random.default_rng([self._slots[env].seed, 2])
        views, labels, done, success = [], [], [], []
        while not self._slots[env].ended:
            views.append(self._views([env], image=render))
            labels.append(self._expert_actions([env])[0].numpy())
            disturbed = labels[-1] + noise.normal(0.0, noise_std, len(labels[-1]))
            done.append(np.clip(disturbed, -1.0, 1.0).astype(np.float32))
            success.append(bool(self._advance([env], torch.as_tensor(done[-1])[None])[1][0]))
        slot = self._slots[env]
        names = {"state": "observation.state"} | ({"image": f"observation.images.{self._settings.camera}"} if render else {})
        obs = {name: np.concatenate([view[key] for view in views]) for key, name in names.items()}
        return Demonstration(slot.task, slot.seed, slot.instruction, obs, np.stack(labels), np.stack(done), np.array(success))

    def _advance(self, ids: list[int], action: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """One control step `(n, A)` of environments under way. Returns dense reward and success, each `(n,)`."""
        reward, success = np.zeros(len(ids), np.float32), np.zeros(len(ids), bool)
        for task, rows in self._by_task(ids):
            envs = [ids[row] for row in rows]
            commands = follow(
                self._settings.control, self._robot, self._commands(envs), action[rows], self._state(envs), self._limits(envs[0])
            )
            for i, env in enumerate(envs):
                try:
                    self._drive(env, commands.joints[i].numpy(), float(commands.opening[i]))
                except SimulationError as error:
                    raise SimulationError(f"{task.name}, seed {self._slots[env].seed}: {error}") from error
            state, goal = self._state(envs), self._goal(envs)
            reward[rows], success[rows] = task.reward(state, goal).numpy(), task.success(state, goal).numpy()
            for i, (row, env) in enumerate(zip(rows, envs, strict=True)):
                slot = self._slots[env]
                ended = bool(success[row]) or slot.steps + 1 >= self._horizon(task)
                self._slots[env] = replace(slot, steps=slot.steps + 1, ended=ended, command=_row(commands, i))
                self._look(env)
        return reward, success

    def _begin(self, env: int, command: dict[str, np.ndarray]) -> None:
        """Start an episode from the state that the physics is in, with nothing on its way."""
        target = (command["joints"], float(command["opening"]))
        line = (Sent(0, target),) if self._varies.commands_late else ()
        seen = (self._seen(env),) if self._varies.views_late else ()
        self._slots[env] = replace(self._slots[env], command=command, line=line, seen=seen, shown=Shown(0, 0))

    def _drive(self, env: int, joints: np.ndarray, opening: float) -> None:
        """One control step of the physics, by the command that is sent now or by those sent earlier that arrive meanwhile."""
        physics, slot = self._of(env), self._slots[env]
        if not self._varies.commands_late:
            physics.command(joints, opening)
            physics.step()
            return
        assert slot.variation is not None
        now = slot.steps * CONTROL_STEPS
        arrival = now + round(self._randomizer.moment(slot.variation, slot.steps).action_delay_s / PHYSICS_DT_S)
        parts, line = in_force((*slot.line, Sent(arrival, (joints.copy(), opening))), now, CONTROL_STEPS)
        for steps, target in parts:
            physics.command(*target)
            physics.step(steps)
        self._slots[env] = replace(slot, line=line)

    def _look(self, env: int) -> None:
        """Remember what there is to see after a control step, and decide what is shown."""
        slot = self._slots[env]
        if not self._varies.views_late:
            return
        assert slot.variation is not None
        now, moment = slot.steps, self._randomizer.moment(slot.variation, slot.steps - 1)
        shown = Shown(
            image=shown_step(now, slot.shown.image, moment.image_delay_s, moment.image_lost, CONTROL_HZ),
            state=shown_step(now, slot.shown.state, moment.state_delay_s, moment.state_lost, CONTROL_HZ),
        )
        seen = tuple(seen for seen in (*slot.seen, self._seen(env)) if seen.step >= min(shown.image, shown.state))
        self._slots[env] = replace(slot, seen=seen, shown=shown)

    def _seen(self, env: int) -> Seen:
        """What there is to see now."""
        numbers = self._of(env).state()
        state = np.array([*numbers["joint_pos"], numbers["opening"]], np.float32)
        return Seen(self._slots[env].steps, self._of(env).save(), state)

    def _expert_actions(self, ids: list[int]) -> torch.Tensor:
        """The expert's action `(n, A)` in each environment."""
        actions = torch.zeros(len(ids), self._robot_actions())
        for task, rows in self._by_task(ids):
            envs = [ids[row] for row in rows]
            state = self._state(envs)
            waypoint = task.expert(state, self._goal(envs))
            actions[rows] = towards(self._settings.control, self._robot, self._commands(envs), waypoint, state, self._limits(envs[0]))
        return actions

    def _by_task(self, ids: list[int]) -> list[tuple[Task, list[int]]]:
        """Every task among `ids` with the rows of its environments."""
        rows: dict[str, list[int]] = {}
        for row, env in enumerate(ids):
            rows.setdefault(self._slots[env].task, []).append(row)
        return [(TASKS[name], found) for name, found in rows.items()]

    def _state(self, envs: list[int]) -> SceneState:
        """The state of environments of one task."""
        numbers = [self._of(env).state() for env in envs]
        return SceneState(**{name: torch.as_tensor(np.stack([row[name] for row in numbers]), dtype=torch.float32) for name in numbers[0]})

    def _commands(self, envs: list[int]) -> Command:
        stored = [self._slots[env].command for env in envs]
        return Command(**{name: torch.as_tensor(np.stack([row[name] for row in stored])) for name in stored[0]})

    def _goal(self, envs: list[int]) -> Goal:
        goals = [self._slots[env].goal for env in envs]
        return {name: torch.tensor([goal[name] for goal in goals]) for name in goals[0]}

    def _limits(self, env: int) -> torch.Tensor:
        return torch.as_tensor(self._of(env).limits)

    def _horizon(self, task: Task) -> int:
        return self._settings.horizon or task.horizon

    def _views(self, ids: list[int], image: bool) -> Arrays:
        """What environments show."""
        px = self._settings.image_px
        pixels = np.stack([self._render(env) for env in ids]) if image else np.zeros((len(ids), px, px, 3), np.uint8)
        state = np.stack([self._shown(env, self._slots[env].shown.state).state for env in ids])
        return {"image": pixels, "state": state, "task": np.array([self._slots[env].instruction for env in ids])}

    def _shown(self, env: int, step: int) -> Seen:
        """What there was to see after control step `step`; now, where observations are never late."""
        return next((seen for seen in self._slots[env].seen if seen.step == step), None) or self._seen(env)

    def _render(self, env: int) -> np.ndarray:
        camera, px, slot = CAMERAS[self._settings.camera], self._settings.image_px, self._slots[env]
        if self._context is None:
            self._context = RenderContext(px)
        scene = TASKS[slot.task].scene
        model = compiled(scene, self._robot)
        if slot.variation is not None and self._varies.images:
            if scene.name not in self._stages:
                self._stages[scene.name] = Stage(model, scene, camera, px)
            seen = self._shown(env, slot.shown.image)
            return self._stages[scene.name].render(seen.physics, slot.variation, seen.step)
        if scene.name not in self._renderers:
            self._renderers[scene.name] = Renderer(model, camera, px)
        return self._renderers[scene.name].render(self._of(env).data)

    def _of(self, env: int) -> Physics:
        scene = TASKS[self._slots[env].task].scene
        if (env, scene.name) not in self._physics:
            self._physics[env, scene.name] = Physics(scene, self._robot, own_model=self._varies.physics)
        return self._physics[env, scene.name]

    def _varied(self, env: int) -> Physics:
        """The environment's physics, with the properties of its episode."""
        physics, variation = self._of(env), self._slots[env].variation
        if variation is not None and self._varies.physics:
            physics.vary(variation)
        return physics

    def _robot_actions(self) -> int:
        return action_spec(self._robot, self._settings.control).dim

    def _require_started(self, ids: list[int]) -> None:
        for env in ids:
            if env not in self._slots:
                raise SimulationError(f"environment {env} holds no episode yet: call reset first")

    def _require_alive(self, ids: list[int], doing: str) -> None:
        self._require_started(ids)
        for env in ids:
            if self._slots[env].ended:
                slot = self._slots[env]
                raise SimulationError(f"environment {env} ({slot.task}, seed {slot.seed}) has ended: reset it before {doing}")


def _privileged_size(task: Task, joints: int) -> int:
    return 2 * joints + 8 + 10 * len(task.scene.bodies) + 4 * len(task.scene.fixtures) + len(task.draw(0).goal)


def _row(command: Command, row: int) -> dict[str, np.ndarray]:
    """One environment's part of a command."""
    return {field.name: getattr(command, field.name)[row].numpy().copy() for field in fields(command)}
