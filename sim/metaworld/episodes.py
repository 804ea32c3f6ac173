"""The environments of one worker: episodes that are stepped, shown, saved and demonstrated in its process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sim.metaworld.instructions import draw
from sim.metaworld.scene import Scene
from sim.metaworld.state import Settings, Slot, entry_names
from sim.metaworld.tasks import CAMERAS, VISIBLE_SITES
from sim.render import RenderContext, Renderer
from sim.resets import State
from sim.vec_env import Demonstration, Render, SimulationError

STATE = slice(0, 4)
"""Hand position and gripper opening within the library's observation."""

Arrays = dict[str, np.ndarray]


class Episodes:
    """The environments of one process, by id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names = entry_names(settings.camera)
        self._slots: dict[int, Slot] = {}
        self._scenes: dict[str, Scene] = {}
        self._renderers: dict[str, Renderer] = {}
        self._context: RenderContext | None = None

    def reset(self, ids: list[int], seeds: list[int], tasks: list[str], starts: list[State | None] | None = None) -> Arrays:
        """Start an episode in each environment and show it."""
        if starts is not None:
            raise SimulationError("Meta-World starts from its own initial states only; set sim.resets to default")
        views = []
        for env, seed, task in zip(ids, seeds, tasks, strict=True):
            scene = self._scene(task)
            try:
                scene.reset(seed)
            except SimulationError as error:
                raise SimulationError(f"{task}, seed {seed}, at reset: {error}") from error
            self._slots[env] = Slot(task, seed, draw(task, seed, self._settings.paraphrases), 0, False, scene.save())
            views.append(self._view(self._slots[env], image=True))
        return _stack(views)

    def chunk(self, ids: list[int], actions: np.ndarray, render: Render) -> Arrays:
        """Execute `actions` `(n, K, 4)`, each environment until its episode ends."""
        for env in ids:
            if self._slot(env).ended:
                slot = self._slots[env]
                raise SimulationError(f"environment {env} ({slot.task}, seed {slot.seed}) has ended: reset it before stepping it again")
        return _stack([self._advance(env, chunk, render) for env, chunk in zip(ids, actions, strict=True)])

    def snapshot(self, ids: list[int]) -> Arrays:
        """The whole state of each environment."""
        return _stack([{"slot": np.array(self._slot(env), dtype=object)} for env in ids])

    def restore(self, ids: list[int], slots: list[Slot]) -> Arrays:
        """Put environments into earlier states and show them."""
        views = []
        for env, slot in zip(ids, slots, strict=True):
            self._slots[env] = slot
            self._scene(slot.task).load(slot.scene)
            views.append(self._view(slot, image=True))
        return _stack(views)

    def expert(self, ids: list[int], length: int) -> Arrays:
        """The expert's next `length` actions from each state, also past success; the environments stay as they are."""
        chunks = []
        for env in ids:
            slot, actions = self._slot(env), []
            scene = self._scene(slot.task)
            scene.load(slot.scene)
            while len(actions) < length:
                actions.append(scene.expert_action())
                if len(actions) < length:
                    self._step(scene, slot, actions[-1])
            chunks.append({"action": np.stack(actions)})
        return _stack(chunks)

    def privileged(self, ids: list[int]) -> Arrays:
        """The library's whole observation, with object and goal."""
        return _stack([{"obs": self._slot(env).scene.obs.astype(np.float32)} for env in ids])

    def demonstrate(self, ids: list[int], noise_std: list[float], render: bool) -> Arrays:
        """Run the expert from each state to the end of the episode, disturbed by action noise."""
        rows = [np.array(self._demonstrate(env, std, render), dtype=object) for env, std in zip(ids, noise_std, strict=True)]
        return _stack([{"demonstration": row} for row in rows])

    def close(self) -> None:
        """Free rendering memory."""
        self._renderers.clear()
        if self._context is not None:
            self._context.close()

    def _advance(self, env: int, actions: np.ndarray, render: Render) -> Arrays:
        """Step one environment through a chunk."""
        slot, limit = self._slots[env], self._settings.horizon
        scene = self._scene(slot.task)
        scene.load(slot.scene)
        reward, success = np.zeros(len(actions), np.float32), np.zeros(len(actions), bool)
        frames: list[Arrays] = []
        executed = 0
        for k, action in enumerate(actions[: limit - slot.steps]):
            reward[k], success[k] = self._step(scene, slot, action)
            executed = k + 1
            if render == "all":
                frames.append({"image": self._render(slot.task), "state": scene.obs[STATE].astype(np.float32)})
            if success[k]:
                break
        terminated = bool(success.any())
        truncated = not terminated and slot.steps + executed >= limit
        slot = replace(slot, steps=slot.steps + executed, ended=terminated or truncated, scene=scene.save())
        self._slots[env] = slot
        out = {"reward": reward, "success": success, "terminated": terminated, "truncated": truncated, "executed": executed}
        if render == "all":
            repeated = _stack(frames + frames[-1:] * (len(actions) - executed))
            out |= {f"frames.{key}": value for key, value in repeated.items()}
        return self._view(slot, image=render == "last") | ({"image": frames[-1]["image"]} if frames else {}) | out

    def _demonstrate(self, env: int, noise_std: float, render: bool) -> Demonstration:
        slot = self._slot(env)
        if slot.ended:
            raise SimulationError(f"environment {env} ({slot.task}, seed {slot.seed}) has ended: reset it before demonstrating")
        scene, noise = self._scene(slot.task), np.random.default_rng([slot.seed, 2])
        scene.load(slot.scene)
        views, actions, executed, success = [], [], [], []
        solved = False
        while not solved and slot.steps + len(success) < self._settings.horizon:
            view = {"state": scene.obs[STATE].astype(np.float32)}
            views.append(view | {"image": self._render(slot.task)} if render else view)
            actions.append(scene.expert_action())
            disturbed = actions[-1] + noise.normal(0.0, noise_std, 4)
            executed.append(np.clip(disturbed, -1.0, 1.0).astype(np.float32))
            solved = self._step(scene, slot, executed[-1])[1]
            success.append(solved)
        self._slots[env] = replace(slot, steps=slot.steps + len(success), ended=True, scene=scene.save())
        return Demonstration(
            slot.task,
            slot.seed,
            slot.instruction,
            {self._names[key]: value for key, value in _stack(views).items()},
            np.stack(actions),
            np.stack(executed),
            np.array(success),
        )

    def _step(self, scene: Scene, slot: Slot, action: np.ndarray) -> tuple[float, bool]:
        try:
            return scene.step(action)
        except SimulationError as error:
            raise SimulationError(f"{slot.task}, seed {slot.seed}: {error}") from error

    def _view(self, slot: Slot, image: bool) -> Arrays:
        """What the environment shows; its scene must be loaded if an image is wanted."""
        px = self._settings.image_px
        pixels = self._render(slot.task) if image else np.zeros((px, px, 3), np.uint8)
        return {"image": pixels, "state": slot.scene.obs[STATE].astype(np.float32), "task": np.array(slot.instruction)}

    def _render(self, task: str) -> np.ndarray:
        if self._context is None:
            self._context = RenderContext(self._settings.image_px)
        scene = self._scene(task)
        if task not in self._renderers:
            camera, px = CAMERAS[self._settings.camera], self._settings.image_px
            self._renderers[task] = Renderer(scene.model, camera, px, VISIBLE_SITES.get(task, ()))
        return self._renderers[task].render(scene.data)

    def _scene(self, task: str) -> Scene:
        if task not in self._scenes:
            self._scenes[task] = Scene(task)
        return self._scenes[task]

    def _slot(self, env: int) -> Slot:
        if env not in self._slots:
            raise SimulationError(f"environment {env} holds no episode yet: call reset first")
        return self._slots[env]


def _stack(rows: list[dict[str, Any]]) -> Arrays:
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
