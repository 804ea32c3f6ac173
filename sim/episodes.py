"""The episodes of one worker of the tabletop suite, over any physics. Those of one task advance side by side, as one batch.

n environments of a request · K chunk steps · A actions · J arm joints
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from sim.control import Command, action_spec, follow, hold, towards
from sim.delays import Sent
from sim.late import look, send, shown, variation_of
from sim.learned import load_experts
from sim.looks import photographed
from sim.privileged import privileged, privileged_sizes
from sim.randomize import Randomizer
from sim.resets import State
from sim.robots import ROBOTS
from sim.scene import CONTROL_HZ, Scene
from sim.settings import Seen, Settings, Slot
from sim.state import Goal, SceneState
from sim.tabletop import proprioception
from sim.tasks import TASKS
from sim.tasks.task import Start, Task
from sim.varied import VariedWorld, Varies
from sim.vec_env import Demonstration, Render, SimulationError

Arrays = dict[str, np.ndarray]

SETTLE = 8
"""Control steps in success that a demonstration goes on for: what it shows ends where the expert rests, not where success begins."""


class World(Protocol):
    """The physics of one worker's environments. In every call the environments are of one scene, and no others change."""

    limits: torch.Tensor
    """`(J, 2)` range of each arm joint [rad]."""

    def start(self, env_ids: Sequence[int], scene: Scene, starts: Sequence[Start]) -> None:
        """Put environments where episodes start."""
        ...

    def step(self, env_ids: Sequence[int], command: Command) -> list[str]:
        """One control step with `command` `(n, ...)`. Returns for each environment what went wrong, empty if nothing did."""
        ...

    def state(self, env_ids: Sequence[int]) -> SceneState:
        """`(n, ...)`."""
        ...

    def images(self, env_ids: Sequence[int]) -> np.ndarray:
        """`(n, H, W, 3)` uint8."""
        ...

    def save(self, env_ids: Sequence[int]) -> list[Any]:
        """Everything that stepping each environment depends on."""
        ...

    def load(self, env_ids: Sequence[int], scene: Scene, saved: Sequence[Any]) -> None:
        """Continue from saved states, of the same or other environments, bit by bit."""
        ...

    def close(self) -> None:
        """Free what the process will not free by itself."""
        ...


@dataclass(frozen=True)
class _Passed:
    """Where environments of one task came in a step of a chunk."""

    task: Task
    rows: list[int]
    step: int
    state: SceneState


class Episodes:
    """The episodes of one process, by environment id. Every public method answers a request of the parent."""

    def __init__(self, settings: Settings, world: World) -> None:
        torch.set_num_threads(1)
        self._settings, self._world = settings, world
        self._robot = ROBOTS[settings.robot]
        self._actions = action_spec(self._robot, settings.control).dim
        self._slots: dict[int, Slot] = {}
        self._randomizer = Randomizer(settings.randomize, CONTROL_HZ)
        self._varies = Varies.of(settings.randomize.active)
        self._privileged_size = max(privileged_sizes(settings.robot).values())
        self._learned = load_experts(settings.experts, settings.robot, settings.control, self._actions)

    def reset(self, ids: list[int], seeds: list[int], tasks: list[str], states: list[State | None] | None = None) -> Arrays:
        """Start an episode in each environment, from the seed's own initial state or from one of a bank, and show it."""
        found = states or [None] * len(ids)
        starts = []
        for env, seed, name, state in zip(ids, seeds, tasks, found, strict=True):
            task = TASKS[name]
            if state is not None and state.task != name:
                raise SimulationError(f"task '{name}' cannot start from a state of task '{state.task}'")
            start = task.draw(seed if state is None else state.seed)
            instruction = task.instruction(start, seed, self._settings.paraphrases)
            variation = self._randomizer.draw(seed, task.scene, self._robot) if self._varies.anything else None
            self._slots[env] = Slot(name, seed, instruction, 0, False, start.goal, np.empty(0, np.float32), variation=variation)
            starts.append(start)
        for task, rows in self._by_task(ids):
            self._vary([ids[row] for row in rows], task)
            own = [row for row in rows if found[row] is None]
            if own:
                envs = [ids[row] for row in own]
                self._world.start(envs, task.scene, [starts[row] for row in own])
                self._keep_commands(envs, hold(self._world.state(envs)))
            for row in rows:
                self._start_from(ids[row], task, found[row])
            self._begin([ids[row] for row in rows])
        return self._views(ids, image=True)

    def chunk(self, ids: list[int], actions: np.ndarray, render: Render) -> Arrays:
        """Execute `actions` `(n, K, A)`, each environment until its episode ends."""
        self._require_alive(ids, "stepping")
        n, K = actions.shape[:2]
        success, executed = np.zeros((n, K), bool), np.zeros(n, np.int64)
        passed, frames = list[_Passed](), []
        for k in range(K):
            rows = [row for row, env in enumerate(ids) if not self._slots[env].ended]
            if rows:
                acting = [ids[row] for row in rows]
                success[rows, k], states = self._advance(acting, torch.as_tensor(actions[rows, k]))
                executed[rows] += 1
                passed += [_Passed(task, [rows[i] for i in part], k, state) for task, part, state in states]
            if render == "all" and rows:
                frames.append(self._views(ids, image=True))
        ended, diverged = (np.array([getattr(self._slots[env], name) for env in ids]) for name in ("ended", "diverged"))
        reward, terminated = self._rewards(ids, K, passed), success.any(1)
        reward[diverged, executed[diverged] - 1] = 0.0
        out = {
            "reward": reward,
            "success": success,
            "terminated": terminated,
            "truncated": ended & ~terminated,
            "executed": executed,
            "diverged": diverged,
        }
        if render == "all":
            for key in ("image", "state"):
                out[f"frames.{key}"] = np.stack([frame[key] for frame in frames + frames[-1:] * (K - len(frames))], 1)
            return frames[-1] | out
        return self._views(ids, image=render == "last") | out

    def snapshot(self, ids: list[int]) -> Arrays:
        """The whole state of each environment."""
        self._require_started(ids)
        slots = np.empty(len(ids), object)
        for _, rows in self._by_task(ids):
            envs = [ids[row] for row in rows]
            for row, env, physics in zip(rows, envs, self._world.save(envs), strict=True):
                slots[row] = replace(self._slots[env], physics=physics)
        return {"slot": slots}

    def restore(self, ids: list[int], slots: list[Slot]) -> Arrays:
        """Put environments into earlier states and show them."""
        self._load(ids, slots)
        return self._views(ids, image=True)

    def expert(self, ids: list[int], length: int) -> Arrays:
        """The expert's next `length` actions from each state, also past success; the environments stay as they are."""
        before = self.snapshot(ids)["slot"]
        chunk = np.zeros((len(ids), length, self._actions), np.float32)
        for k in range(length):
            rows = [row for row, env in enumerate(ids) if not self._slots[env].diverged]
            if k:
                chunk[:, k] = chunk[:, k - 1]
            if rows:
                acting = [ids[row] for row in rows]
                action = self._expert_actions(acting)
                chunk[rows, k] = action.numpy()
                if k + 1 < length:
                    self._advance(acting, action)
        self._load(ids, before.tolist())
        return {"action": chunk}

    def privileged(self, ids: list[int]) -> Arrays:
        """State, goal and task as numbers."""
        self._require_started(ids)
        numbers = np.zeros((len(ids), self._privileged_size), np.float32)
        for task, rows in self._by_task(ids):
            envs = [ids[row] for row in rows]
            found = privileged(task, self._world.state(envs), self._goal(envs)).cpu().numpy()
            numbers[rows, : found.shape[1]] = found
        return {"obs": numbers}

    def demonstrate(self, ids: list[int], noise_std: list[float], render: bool) -> Arrays:
        """Run the expert from each state to the end of the episode, disturbed by action noise."""
        self._require_alive(ids, "demonstrating")
        noise = [np.random.default_rng([self._slots[env].seed, 2]) for env in ids]
        steps: list[list[dict[str, Any]]] = [[] for _ in ids]
        while rows := [row for row, env in enumerate(ids) if not self._demonstrated(env, steps[row])]:
            acting = [ids[row] for row in rows]
            views, labels = self._views(acting, image=render), self._expert_actions(acting).numpy()
            noisy = labels + [noise[row].normal(0.0, noise_std[row], self._actions) for row in rows]
            executed = np.clip(noisy, -1.0, 1.0).astype(np.float32)
            success = self._advance(acting, torch.as_tensor(executed))[0]
            for i, row in enumerate(rows):
                view = {key: values[i] for key, values in views.items() if key != "task"}
                steps[row].append(view | {"action": labels[i], "executed": executed[i], "success": success[i]})
        out = np.empty(len(ids), object)
        out[:] = [self._demonstration(env, taken, render) for env, taken in zip(ids, steps, strict=True)]
        return {"demonstration": out}

    def close(self) -> None:
        """Free rendering memory."""
        self._world.close()

    def _demonstration(self, env: int, steps: list[dict[str, Any]], render: bool) -> Demonstration:
        slot = self._slots[env]
        kept = {key: np.stack([step[key] for step in steps]) for key in steps[0]}
        obs = {"observation.state": kept["state"]} | ({f"observation.images.{self._settings.camera}": kept["image"]} if render else {})
        return Demonstration(slot.task, slot.seed, slot.instruction, obs, kept["action"], kept["executed"], kept["success"])

    def _demonstrated(self, env: int, steps: list[dict[str, Any]]) -> bool:
        """Whether a demonstration is over: out of time, diverged, or settled after success."""
        slot, since = self._slots[env], sum(bool(step["success"]) for step in steps)
        return slot.diverged or slot.steps >= self._horizon(TASKS[slot.task]) or since > SETTLE

    def _rewards(self, ids: list[int], steps: int, passed: list[_Passed]) -> np.ndarray:
        """Dense rewards `(n, K)` of all states of a chunk at once, which costs as much as those of one."""
        reward = np.zeros((len(ids), steps), np.float32)
        for task in {part.task.name: part.task for part in passed}.values():
            mine = [part for part in passed if part.task is task]
            rows = [row for part in mine for row in part.rows]
            found = task.reward(SceneState.cat([part.state for part in mine]), self._goal([ids[row] for row in rows]))
            reward[rows, [part.step for part in mine for _ in part.rows]] = found.cpu().numpy()
        return reward

    def _advance(self, ids: list[int], action: torch.Tensor) -> tuple[np.ndarray, list[tuple[Task, list[int], SceneState]]]:
        """One control step `(n, A)` of environments under way.

        Returns:
            Success `(n,)`, and each task with the rows of its environments and the states they came to.
        """
        success, states = np.zeros(len(ids), bool), []
        for task, rows in self._by_task(ids):
            envs = [ids[row] for row in rows]
            state = self._world.state(envs)
            command = follow(
                self._settings.control, self._robot, self._commands(envs), action[rows].to(state.tcp_pos), state, self._world.limits
            )
            broken = np.array(self._step(envs, command), bool)
            if broken.any():
                self._restart(task, [env for env, diverged in zip(envs, broken, strict=True) if diverged])
            state, goal = self._world.state(envs), self._goal(envs)
            states.append((task, rows, state))
            success[rows] = task.success(state, goal).cpu().numpy() & ~broken
            horizon = self._horizon(task)
            for env, diverged, solved, row in zip(envs, broken.tolist(), success[rows].tolist(), command.rows, strict=True):
                slot = self._slots[env]
                slot.steps, slot.diverged, slot.command = slot.steps + 1, diverged, row
                slot.ended = solved or diverged or slot.steps >= horizon
            if self._varies.views_late:
                for env, seen in zip(envs, self._seen(envs), strict=True):
                    self._slots[env] = look(self._slots[env], self._randomizer, seen)
        return success, states

    def _start_from(self, env: int, task: Task, state: State | None) -> None:
        """Put an environment into a state of a bank, if there is one."""
        if state is not None:
            self._world.load([env], task.scene, [state.arrays["physics"]])
            self._slots[env] = replace(self._slots[env], command=state.arrays["command"])

    def _begin(self, envs: list[int]) -> None:
        """Remember what is in force and to be seen where episodes start, for what comes late."""
        if self._varies.commands_late:
            command = self._commands(envs)
            for env, joints, opening in zip(envs, command.joints.cpu().numpy(), command.opening.tolist(), strict=True):
                self._slots[env] = replace(self._slots[env], line=(Sent(0, (joints, opening)),))
        if self._varies.views_late:
            for env, seen in zip(envs, self._seen(envs), strict=True):
                self._slots[env] = replace(self._slots[env], seen=(seen,))

    def _step(self, envs: list[int], command: Command) -> list[str]:
        """One control step of the physics, by the command that is sent now or by those sent earlier that arrive meanwhile."""
        if not self._varies.commands_late:
            return self._world.step(envs, command)
        targets = []
        for env, joints, opening in zip(envs, command.joints.cpu().numpy(), command.opening.tolist(), strict=True):
            parts, self._slots[env] = send(self._slots[env], self._randomizer, joints, opening)
            targets.append(parts)
        return self._varied_world().step_late(envs, targets)

    def _seen(self, envs: list[int]) -> list[Seen]:
        """What there is to see now, in environments of one scene."""
        entries = self._felt(envs)
        saved = self._world.save(envs) if self._varies.drawing else [None] * len(envs)
        return [Seen(self._slots[env].steps, physics, entry) for env, physics, entry in zip(envs, saved, entries, strict=True)]

    def _felt(self, envs: list[int]) -> np.ndarray:
        """What the robot measures now, in environments of one scene."""
        return proprioception(self._world.state(envs), self._commands(envs))

    def _vary(self, envs: list[int], task: Task) -> None:
        """Give environments the physics of their episodes."""
        if self._varies.physics:
            self._varied_world().vary(envs, task.scene, [variation_of(self._slots[env]) for env in envs])

    def _varied_world(self) -> VariedWorld:
        assert isinstance(self._world, VariedWorld), "the backend's list of supported terms is wrong"
        return self._world

    def _restart(self, task: Task, envs: list[int]) -> None:
        """Put environments whose physics diverged back to the start of their episode, so that they show finite numbers."""
        self._world.start(envs, task.scene, [task.draw(self._slots[env].seed) for env in envs])

    def _expert_actions(self, ids: list[int]) -> torch.Tensor:
        """The expert's action `(n, A)` in each environment."""
        actions = torch.zeros(len(ids), self._actions)
        for task, rows in self._by_task(ids):
            envs = [ids[row] for row in rows]
            state, goal = self._world.state(envs), self._goal(envs)
            if task.name in self._learned:
                found = self._learned[task.name].act(privileged(task, state, goal))
            else:
                waypoint = task.expert(state, goal)
                found = towards(self._settings.control, self._robot, self._commands(envs), waypoint, state, self._world.limits)
            actions[rows] = found.cpu()
        return actions

    def _by_task(self, ids: list[int]) -> list[tuple[Task, list[int]]]:
        """Every task among `ids` with the rows of its environments."""
        rows: dict[str, list[int]] = {}
        for row, env in enumerate(ids):
            rows.setdefault(self._slots[env].task, []).append(row)
        return [(TASKS[name], found) for name, found in rows.items()]

    def _load(self, ids: list[int], slots: list[Slot]) -> None:
        for env, slot in zip(ids, slots, strict=True):
            self._slots[env] = replace(slot, physics=None)
        for task, rows in self._by_task(ids):
            self._vary([ids[row] for row in rows], task)
            self._world.load([ids[row] for row in rows], task.scene, [slots[row].physics for row in rows])

    def _commands(self, envs: list[int]) -> Command:
        rows = torch.from_numpy(np.concatenate([self._slots[env].command for env in envs]).reshape(len(envs), -1))
        return Command.of(rows.to(self._world.limits.device))

    def _keep_commands(self, envs: list[int], command: Command) -> None:
        for env, row in zip(envs, command.rows, strict=True):
            self._slots[env] = replace(self._slots[env], command=row)

    def _goal(self, envs: list[int]) -> Goal:
        goals, device = [self._slots[env].goal for env in envs], self._world.limits.device
        return {name: torch.tensor([goal[name] for goal in goals], device=device) for name in goals[0]}

    def _horizon(self, task: Task) -> int:
        return self._settings.horizon or task.horizon

    def _views(self, ids: list[int], image: bool) -> Arrays:
        """What environments show; an image only if it is asked for."""
        n, px = len(ids), self._settings.image_px
        pixels, state = np.empty((n if image else 0, px, px, 3), np.uint8), np.zeros((n, 2 * len(self._robot.joints) + 1), np.float32)
        for _, rows in self._by_task(ids):
            envs = [ids[row] for row in rows]
            if not self._varies.anything:
                state[rows] = self._felt(envs)
                if image:
                    pixels[rows] = self._world.images(envs)
                continue
            now = self._seen(envs)
            state[rows] = [shown(self._slots[env], self._slots[env].shown.state, seen).state for env, seen in zip(envs, now, strict=True)]
            if image:
                pixels[rows] = self._photographs(envs, now)
        return ({"image": pixels} if image else {}) | {"state": state, "task": np.array([self._slots[env].instruction for env in ids])}

    def _photographs(self, envs: list[int], now: list[Seen]) -> np.ndarray:
        """Images `(n, H, W, 3)` of environments of one scene, as their episodes vary them."""
        slots = [self._slots[env] for env in envs]
        variations = [variation_of(slot) for slot in slots]
        seen = [shown(slot, slot.shown.image, current) for slot, current in zip(slots, now, strict=True)]
        if self._varies.drawing:
            drawn = self._varied_world().varied_images(envs, [past.physics for past in seen], variations)
        else:
            drawn = self._world.images(envs)
        return np.stack([photographed(*parts) for parts in zip(drawn, variations, [past.step for past in seen], strict=True)])

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
