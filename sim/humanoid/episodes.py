"""The environments of one worker: episodes of one body that is put into the state of whichever is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sim.humanoid import hands
from sim.humanoid.body import Body
from sim.humanoid.env import NAMES, Settings, Slot
from sim.humanoid.picture import Painter
from sim.resets import State
from sim.vec_env import PICTURE, Demonstration, Render, SimulationError

Arrays = dict[str, np.ndarray]

SETTLE = 25
"""Control steps in success that a demonstration goes on for: what it shows ends where the hands rest, not where success begins."""


class Episodes:
    """The environments of one process, by id. Every public method answers a request of the parent."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._body = settings, Body()
        self._slots: dict[int, Slot] = {}
        self._painter: Painter | None = None

    def reset(self, ids: list[int], seeds: list[int], tasks: list[str], starts: list[State | None] | None = None) -> Arrays:
        """Start an episode in each environment and show it."""
        if starts is not None:
            raise SimulationError("the humanoid starts from its own initial states only; set sim.resets to default")
        choices = hands.INSTRUCTIONS if self._settings.paraphrases == "train" else hands.HELD_OUT
        for env, seed, task in zip(ids, seeds, tasks, strict=True):
            start = hands.Start.of(seed)
            self._body.reset(seed, start.offset)
            command = self._body.arms.astype(np.float32)
            self._slots[env] = Slot(task, seed, start.instruction(seed, choices), 0, False, command, self._body.save())
        return self._views(ids)

    def chunk(self, ids: list[int], actions: np.ndarray, render: Render) -> Arrays:
        """Execute `actions` `(n, K, 14)`, each environment until its episode ends."""
        self._require_alive(ids, "stepping")
        return _stack([self._advance(env, chunk, render) for env, chunk in zip(ids, actions, strict=True)])

    def snapshot(self, ids: list[int]) -> Arrays:
        """The whole state of each environment."""
        slots = np.empty(len(ids), object)
        slots[:] = [self._slot(env) for env in ids]
        return {"slot": slots}

    def restore(self, ids: list[int], slots: list[Slot]) -> Arrays:
        """Put environments into earlier states and show them."""
        self._slots |= dict(zip(ids, slots, strict=True))
        return self._views(ids)

    def expert(self, ids: list[int], length: int) -> Arrays:
        """The expert's next `length` actions from each state, also past success; the environments stay as they are."""
        chunks = []
        for env in ids:
            slot, goal, actions = self._load(env), self._goal(env), []
            while len(actions) < length:
                try:
                    actions.append(hands.expert(self._body, goal, slot.command))
                    if len(actions) < length:
                        slot = self._step(slot, actions[-1])
                except SimulationError:
                    actions += actions[-1:] * (length - len(actions))
            chunks.append(np.stack(actions))
        return {"action": np.stack(chunks)}

    def privileged(self, ids: list[int]) -> Arrays:
        """Arms, their rates and commands, hands, tilt and spots as numbers."""
        rows = []
        for env in ids:
            slot, body = self._load(env), self._body
            rows.append(np.concatenate([body.arms, body.arm_rates, slot.command, body.hands.ravel(), body.down, self._goal(env).ravel()]))
        return {"obs": np.stack(rows).astype(np.float32)}

    def demonstrate(self, ids: list[int], noise_std: list[float], render: bool) -> Arrays:
        """Run the expert from each state to the end of the episode, disturbed by action noise."""
        del render
        self._require_alive(ids, "demonstrating")
        out = np.empty(len(ids), object)
        out[:] = [self._demonstrate(env, std) for env, std in zip(ids, noise_std, strict=True)]
        return {"demonstration": out}

    def close(self) -> None:
        """Free rendering memory."""
        if self._painter is not None:
            self._painter.close()

    def _demonstrate(self, env: int, noise_std: float) -> Demonstration:
        slot, goal, noise = self._load(env), self._goal(env), np.random.default_rng([self._slots[env].seed, 2])
        steps: list[dict[str, Any]] = []
        since = 0
        while not slot.diverged and self._body.standing and slot.steps < self._settings.horizon and since <= SETTLE:
            action = hands.expert(self._body, goal, slot.command)
            executed = np.clip(action + noise.normal(0.0, noise_std, len(action)), -1.0, 1.0).astype(np.float32)
            felt = self._felt(slot)
            slot, _, solved = self._outcome(slot, goal, executed)
            since += solved
            steps.append({"state": felt, "action": action, "executed": executed, "success": np.array(solved)})
        self._slots[env] = replace(slot, ended=True, physics=self._body.save())
        kept = _stack(steps)
        obs = {NAMES["state"]: kept["state"]}
        return Demonstration(slot.task, slot.seed, slot.instruction, obs, kept["action"], kept["executed"], kept["success"])

    def _advance(self, env: int, actions: np.ndarray, render: Render) -> Arrays:
        """Step one environment through a chunk."""
        slot, goal = self._load(env), self._goal(env)
        reward, success = np.zeros(len(actions), np.float32), np.zeros(len(actions), bool)
        frames: list[Arrays] = []
        executed = 0
        for k, action in enumerate(actions):
            slot, reward[k], success[k] = self._outcome(slot, goal, action)
            executed = k + 1
            if render == "all":
                frames.append({"state": self._felt(slot), PICTURE: self._picture(goal)})
            if slot.ended:
                break
        slot = self._slots[env] = replace(slot, physics=self._body.save())
        terminated = bool(success.any())
        out: dict[str, Any] = {"reward": reward, "success": success, "terminated": terminated, "executed": executed}
        out |= {"truncated": slot.ended and not terminated, "diverged": slot.diverged}
        if render == "all":
            repeated = _stack(frames + frames[-1:] * (len(actions) - executed))
            out |= {f"frames.{key}": value for key, value in repeated.items()}
        return self._view(slot) | out

    def _outcome(self, slot: Slot, goal: np.ndarray, action: np.ndarray) -> tuple[Slot, float, bool]:
        """One control step: what is left of the episode, its reward, and whether it was solved. A fall ends it."""
        try:
            slot = self._step(slot, action)
        except SimulationError:
            self._body.reset(slot.seed, hands.Start.of(slot.seed).offset)  # finite numbers to show
            return replace(slot, command=self._body.arms.astype(np.float32), ended=True, diverged=True), 0.0, False
        solved = hands.success(self._body, goal)
        ended = solved or not self._body.standing or slot.steps >= self._settings.horizon
        return replace(slot, ended=ended), hands.reward(self._body, goal), solved

    def _step(self, slot: Slot, action: np.ndarray) -> Slot:
        """One control step of the body, which is in the slot's state."""
        command = hands.follow(slot.command, action, self._body.limits)
        self._body.command(command)
        self._body.step()
        return replace(slot, command=command, steps=slot.steps + 1)

    def _views(self, ids: list[int]) -> Arrays:
        return _stack([self._view(self._load(env)) for env in ids])

    def _view(self, slot: Slot) -> Arrays:
        return {"state": self._felt(slot), "task": np.array(slot.instruction)}

    def _felt(self, slot: Slot) -> np.ndarray:
        """`(28,)` float32: arm joints, and what is commanded less than them [rad]."""
        arms = self._body.arms.astype(np.float32)
        return np.concatenate([arms, slot.command - arms])

    def _picture(self, goal: np.ndarray) -> np.ndarray:
        if self._painter is None:
            self._painter = Painter(self._body)
        return self._painter.draw(goal)

    def _load(self, env: int) -> Slot:
        """Put the body into an environment's state."""
        slot = self._slot(env)
        self._body.load(slot.seed, slot.physics)
        return slot

    def _goal(self, env: int) -> np.ndarray:
        return hands.Start.of(self._slots[env].seed).goal

    def _slot(self, env: int) -> Slot:
        if env not in self._slots:
            raise SimulationError(f"environment {env} holds no episode yet: call reset first")
        return self._slots[env]

    def _require_alive(self, ids: list[int], doing: str) -> None:
        for env in ids:
            slot = self._slot(env)
            if slot.ended:
                raise SimulationError(f"environment {env} ({slot.task}, seed {slot.seed}) has ended: reset it before {doing}")


def _stack(rows: list[dict[str, Any]]) -> Arrays:
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
