"""The episodes of one worker, over any physics of the robot. Those of a request advance side by side.

n environments of a request · K chunk steps
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from sim.humanoid import hands
from sim.humanoid.body import Body
from sim.humanoid.env import NAMES, Settings, Slot
from sim.humanoid.g1 import ARM_JOINTS
from sim.humanoid.picture import Painter
from sim.resets import State
from sim.vec_env import PICTURE, Demonstration, Render, SimulationError

Arrays = dict[str, np.ndarray]

SETTLE = 25
"""Control steps in success that a demonstration goes on for: what it shows ends where the hands rest, not where success begins."""


class World(Protocol):
    """The robots of one worker's environments. A call changes no others than those it names."""

    limits: np.ndarray
    """`(14, 2)` range of each arm joint [rad]."""

    def start(self, ids: Sequence[int], seeds: Sequence[int], offsets: Sequence[np.ndarray]) -> None:
        """Stand at home, each with its arms off it by `(14,)` [rad]; seeds decide the pushes."""
        ...

    def step(self, ids: Sequence[int], commands: np.ndarray) -> list[bool]:
        """One control step with the arms' servos told to go to `(n, 14)` [rad]. Returns whose physics diverged."""
        ...

    def look(self, env: int) -> Body:
        """The robot of an environment as it is now, to be looked at until the next call."""
        ...

    def save(self, ids: Sequence[int]) -> list[Any]:
        """Everything that stepping each environment depends on, besides the seed."""
        ...

    def load(self, ids: Sequence[int], seeds: Sequence[int], saved: Sequence[Any]) -> None:
        """Continue from saved states, of the same or other environments, bit by bit."""
        ...


class Episodes:
    """The environments of one process, by id. Every public method answers a request of the parent."""

    def __init__(self, settings: Settings, world: World) -> None:
        self._settings, self._world = settings, world
        self._slots: dict[int, Slot] = {}
        self._painter: Painter | None = None

    def reset(self, ids: list[int], seeds: list[int], tasks: list[str], starts: list[State | None] | None = None) -> Arrays:
        """Start an episode in each environment and show it."""
        if starts is not None:
            raise SimulationError("the humanoid starts from its own initial states only; set sim.resets to default")
        choices = hands.INSTRUCTIONS if self._settings.paraphrases == "train" else hands.HELD_OUT
        drawn = [hands.Start.of(seed) for seed in seeds]
        self._world.start(ids, seeds, [start.offset for start in drawn])
        for env, seed, task, start in zip(ids, seeds, tasks, drawn, strict=True):
            self._slots[env] = Slot(task, seed, start.instruction(seed, choices), 0, False, self._at_rest(env))
        return self._views(ids)

    def chunk(self, ids: list[int], actions: np.ndarray, render: Render) -> Arrays:
        """Execute `actions` `(n, K, 14)`, each environment until its episode ends."""
        self._require_alive(ids, "stepping")
        n, K = actions.shape[:2]
        reward, success = np.zeros((n, K), np.float32), np.zeros((n, K), bool)
        executed = np.zeros(n, np.int64)
        frames: list[list[Arrays]] = [[] for _ in ids]
        for k in range(K):
            rows = [row for row, env in enumerate(ids) if not self._slots[env].ended]
            if rows:
                reward[rows, k], success[rows, k] = self._advance([ids[row] for row in rows], actions[rows, k])
                executed[rows] += 1
            if render == "all":
                for row in rows:
                    frames[row].append({"state": self._felt(ids[row]), PICTURE: self._picture(ids[row])})
        slots, terminated = [self._slots[env] for env in ids], success.any(1)
        out = {"reward": reward, "success": success, "terminated": terminated, "executed": executed}
        out["truncated"] = np.array([slot.ended for slot in slots]) & ~terminated
        out["diverged"] = np.array([slot.diverged for slot in slots])
        if render == "all":
            filled = _stack([_stack(own + own[-1:] * (K - len(own))) for own in frames])
            out |= {f"frames.{key}": value for key, value in filled.items()}
        return self._views(ids) | out

    def snapshot(self, ids: list[int]) -> Arrays:
        """The whole state of each environment."""
        self._require_started(ids)
        slots = np.empty(len(ids), object)
        slots[:] = [replace(self._slots[env], physics=saved) for env, saved in zip(ids, self._world.save(ids), strict=True)]
        return {"slot": slots}

    def restore(self, ids: list[int], slots: list[Slot]) -> Arrays:
        """Put environments into earlier states and show them."""
        self._load(ids, slots)
        return self._views(ids)

    def expert(self, ids: list[int], length: int) -> Arrays:
        """The expert's next `length` actions from each state, also past success; the environments stay as they are."""
        before = self.snapshot(ids)["slot"].tolist()
        chunk = np.zeros((len(ids), length, len(ARM_JOINTS)), np.float32)
        rows = list(range(len(ids)))
        for k in range(length):
            if k:
                chunk[:, k] = chunk[:, k - 1]  # goes on where physics diverged
            if rows:
                acting = [ids[row] for row in rows]
                chunk[rows, k] = self._expert_actions(acting)
                if k + 1 < length:
                    rows = [row for row, diverged in zip(rows, self._step(acting, chunk[rows, k]), strict=True) if not diverged]
        self._load(ids, before)
        return {"action": chunk}

    def privileged(self, ids: list[int]) -> Arrays:
        """Arms, their rates and commands, hands, tilt and spots as numbers."""
        self._require_started(ids)
        rows = []
        for env in ids:
            body, command = self._world.look(env), self._slots[env].command
            rows.append(np.concatenate([body.arms, body.arm_rates, command, body.hands.ravel(), body.down, self._goal(env).ravel()]))
        return {"obs": np.stack(rows).astype(np.float32)}

    def demonstrate(self, ids: list[int], noise_std: list[float], render: bool) -> Arrays:
        """Run the expert from each state to the end of the episode, disturbed by action noise."""
        del render
        self._require_alive(ids, "demonstrating")
        noise = [np.random.default_rng([self._slots[env].seed, 2]) for env in ids]
        steps: list[list[dict[str, Any]]] = [[] for _ in ids]
        while rows := [row for row, env in enumerate(ids) if not self._demonstrated(env, steps[row])]:
            acting = [ids[row] for row in rows]
            labels, felt = self._expert_actions(acting), [self._felt(env) for env in acting]
            noisy = labels + [noise[row].normal(0.0, noise_std[row], labels.shape[1]) for row in rows]
            executed = np.clip(noisy, -1.0, 1.0).astype(np.float32)
            success = self._advance(acting, executed)[1]
            for i, row in enumerate(rows):
                steps[row].append({"state": felt[i], "action": labels[i], "executed": executed[i], "success": success[i]})
        out = np.empty(len(ids), object)
        out[:] = [self._demonstration(env, _stack(taken)) for env, taken in zip(ids, steps, strict=True)]
        return {"demonstration": out}

    def close(self) -> None:
        """Free rendering memory."""
        if self._painter is not None:
            self._painter.close()

    def _demonstrated(self, env: int, steps: list[dict[str, Any]]) -> bool:
        """Whether a demonstration is over: out of time, fallen, diverged, or settled after success."""
        slot, since = self._slots[env], sum(bool(step["success"]) for step in steps)
        return slot.diverged or slot.steps >= self._settings.horizon or since > SETTLE or not self._world.look(env).standing

    def _demonstration(self, env: int, kept: Arrays) -> Demonstration:
        slot = self._slots[env] = replace(self._slots[env], ended=True)
        obs = {NAMES["state"]: kept["state"]}
        return Demonstration(slot.task, slot.seed, slot.instruction, obs, kept["action"], kept["executed"], kept["success"])

    def _advance(self, ids: list[int], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One control step `(n, 14)` of environments under way. Returns reward and success, each `(n,)`. A fall ends an episode."""
        reward, success = np.zeros(len(ids), np.float32), np.zeros(len(ids), bool)
        for row, (env, diverged) in enumerate(zip(ids, self._step(ids, actions), strict=True)):
            slot = self._slots[env]
            if diverged:  # back to the start, so that it shows finite numbers
                self._world.start([env], [slot.seed], [hands.Start.of(slot.seed).offset])
                self._slots[env] = replace(slot, command=self._at_rest(env), ended=True, diverged=True)
                continue
            body, goal = self._world.look(env), self._goal(env)
            reward[row], success[row] = hands.reward(body, goal), hands.success(body, goal)
            ended = bool(success[row]) or not body.standing or slot.steps >= self._settings.horizon
            self._slots[env] = replace(slot, ended=ended)
        return reward, success

    def _step(self, ids: list[int], actions: np.ndarray) -> list[bool]:
        """One control step of the physics. Returns whose diverged, of which nothing else is noted."""
        limits = self._world.limits
        commands = np.stack([hands.follow(self._slots[env].command, action, limits) for env, action in zip(ids, actions, strict=True)])
        broken = self._world.step(ids, commands)
        for env, command, diverged in zip(ids, commands, broken, strict=True):
            if not diverged:
                self._slots[env] = replace(self._slots[env], command=command, steps=self._slots[env].steps + 1)
        return broken

    def _expert_actions(self, ids: list[int]) -> np.ndarray:
        """`(n, 14)`."""
        return np.stack([hands.expert(self._world.look(env), self._goal(env), self._slots[env].command) for env in ids])

    def _load(self, ids: list[int], slots: list[Slot]) -> None:
        self._slots |= {env: replace(slot, physics=None) for env, slot in zip(ids, slots, strict=True)}
        self._world.load(ids, [slot.seed for slot in slots], [slot.physics for slot in slots])

    def _views(self, ids: list[int]) -> Arrays:
        return _stack([{"state": self._felt(env), "task": np.array(self._slots[env].instruction)} for env in ids])

    def _felt(self, env: int) -> np.ndarray:
        """`(28,)` float32: arm joints, and what is commanded less than them [rad]."""
        arms = self._at_rest(env)
        return np.concatenate([arms, self._slots[env].command - arms])

    def _at_rest(self, env: int) -> np.ndarray:
        """`(14,)` float32 that servos hold an arm at where it is [rad]."""
        return self._world.look(env).arms.astype(np.float32)

    def _picture(self, env: int) -> np.ndarray:
        if self._painter is None:
            self._painter = Painter()
        return self._painter.draw(self._world.look(env), self._goal(env))

    def _goal(self, env: int) -> np.ndarray:
        return hands.Start.of(self._slots[env].seed).goal

    def _require_started(self, ids: list[int]) -> None:
        for env in ids:
            if env not in self._slots:
                raise SimulationError(f"environment {env} holds no episode yet: call reset first")

    def _require_alive(self, ids: list[int], doing: str) -> None:
        self._require_started(ids)
        for env in ids:
            slot = self._slots[env]
            if slot.ended:
                raise SimulationError(f"environment {env} ({slot.task}, seed {slot.seed}) has ended: reset it before {doing}")


def _stack(rows: Sequence[dict[str, Any]]) -> Arrays:
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
