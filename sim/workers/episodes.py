"""The environments of one worker that steps them one by one: any number of episodes share each task's scene.

T steps of a demonstration · A actions
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from sim.resets import State
from sim.vec_env import Demonstration, Render, SimulationError
from sim.workers.vec_env import Slot

Arrays = dict[str, np.ndarray]


class Scene(Protocol):
    """The simulator of one task, in the state of one episode at a time."""

    horizon: int
    """Control steps after which an episode is truncated."""

    def instruction(self, seed: int) -> str:
        """What the task is called in the episode of a seed."""
        ...

    def reset(self, seed: int) -> None:
        """Start the episode of `seed`; nothing that happened before matters."""
        ...

    def step(self, action: np.ndarray) -> tuple[float, bool]:
        """One control step with `(A,)`. Returns reward and whether the task is solved now. Raises `SimulationError` if physics break."""
        ...

    def expert_action(self) -> np.ndarray:
        """The scripted expert's action `(A,)` float32 at the present state, within the action range."""
        ...

    def save(self) -> Any:
        """Copy out everything that stepping, rewards and the expert depend on."""
        ...

    def load(self, state: Any) -> None:
        """Put the scene into a state that `save` of this task returned."""
        ...

    def state(self) -> np.ndarray:
        """The state entry that policies see, float32."""
        ...

    def privileged(self) -> np.ndarray:
        """`(S,)` float32 what only teachers and critics see."""
        ...

    def images(self) -> Arrays:
        """The images of the present state, `(H, W, 3)` uint8 by the array names of `Episodes`."""
        ...


class Episodes:
    """The environments of one process, by id. Every public method answers a request of the parent."""

    def __init__(
        self, make: Callable[[str], Scene], names: dict[str, str], own_starts: str, close: Callable[[], None] = lambda: None
    ) -> None:
        """Hold no episode yet.

        Args:
            make: the scene of a task, made when an episode first needs it.
            names: observation entry of each array: `state`, `task`, all others are images.
            own_starts: what to say where episodes are to start from states of a bank, which no scene here can.
            close: frees what the process will not free by itself.
        """
        self._make, self._names, self._own_starts, self.close = make, names, own_starts, close
        self._slots: dict[int, Slot] = {}
        self._scenes: dict[str, Scene] = {}

    def reset(self, ids: list[int], seeds: list[int], tasks: list[str], starts: list[State | None] | None = None) -> Arrays:
        """Start an episode in each environment and show it."""
        if starts is not None:
            raise SimulationError(self._own_starts)
        views = []
        for env, seed, task in zip(ids, seeds, tasks, strict=True):
            scene = self._scene(task)
            try:
                scene.reset(seed)
            except SimulationError as error:
                raise SimulationError(f"{task}, seed {seed}, at reset: {error}") from error
            self._slots[env] = Slot(task, seed, scene.instruction(seed), 0, False, scene.state(), scene.save())
            views.append(self._view(self._slots[env], image=True))
        return _stack(views)

    def chunk(self, ids: list[int], actions: np.ndarray, render: Render) -> Arrays:
        """Execute `actions` `(n, K, A)`, each environment until its episode ends."""
        self._require_alive(ids, "stepping it again")
        return _stack([self._advance(env, chunk, render) for env, chunk in zip(ids, actions, strict=True)])

    def snapshot(self, ids: list[int]) -> Arrays:
        """The whole state of each environment."""
        return _stack([{"slot": np.array(self._slot(env), dtype=object)} for env in ids])

    def restore(self, ids: list[int], slots: list[Slot]) -> Arrays:
        """Put environments into earlier states and show them."""
        views = []
        for env, slot in zip(ids, slots, strict=True):
            self._slots[env] = slot
            self._loaded(slot)
            views.append(self._view(slot, image=True))
        return _stack(views)

    def expert(self, ids: list[int], length: int) -> Arrays:
        """The expert's next `length` actions from each state, also past success; the environments stay as they are."""
        chunks = []
        for env in ids:
            slot, actions = self._slot(env), []
            scene = self._loaded(slot)
            while len(actions) < length:
                actions.append(scene.expert_action())
                if len(actions) < length:
                    self._step(scene, slot, actions[-1])
            chunks.append({"action": np.stack(actions)})
        return _stack(chunks)

    def privileged(self, ids: list[int]) -> Arrays:
        """What only teachers and critics see of each state."""
        return _stack([{"obs": self._loaded(self._slot(env)).privileged()} for env in ids])

    def demonstrate(self, ids: list[int], noise_std: list[float], render: bool) -> Arrays:
        """Run the expert from each state to the end of the episode, disturbed by action noise."""
        self._require_alive(ids, "demonstrating")
        rows = [np.array(self._demonstrate(env, std, render), dtype=object) for env, std in zip(ids, noise_std, strict=True)]
        return _stack([{"demonstration": row} for row in rows])

    def _advance(self, env: int, actions: np.ndarray, render: Render) -> Arrays:
        """Step one environment through a chunk."""
        slot = self._slots[env]
        scene = self._loaded(slot)
        reward, success = np.zeros(len(actions), np.float32), np.zeros(len(actions), bool)
        frames: list[Arrays] = []
        executed = 0
        for k, action in enumerate(actions[: scene.horizon - slot.steps]):
            reward[k], success[k] = self._step(scene, slot, action)
            executed = k + 1
            if render == "all":
                frames.append(scene.images() | {"state": scene.state()})
            if success[k]:
                break
        terminated = bool(success.any())
        truncated = not terminated and slot.steps + executed >= scene.horizon
        slot = replace(slot, steps=slot.steps + executed, ended=terminated or truncated, state=scene.state(), scene=scene.save())
        self._slots[env] = slot
        out = {"reward": reward, "success": success, "terminated": terminated, "truncated": truncated, "executed": executed}
        if render == "all":
            repeated = _stack(frames + frames[-1:] * (len(actions) - executed))
            out |= {f"frames.{key}": value for key, value in repeated.items()}
        return self._view(slot, image=render == "last") | (frames[-1] if frames else {}) | out

    def _demonstrate(self, env: int, noise_std: float, render: bool) -> Demonstration:
        slot = self._slot(env)
        scene, noise = self._loaded(slot), np.random.default_rng([slot.seed, 2])
        views, actions, executed, success = [], [], [], []
        solved = False
        while not solved and slot.steps + len(success) < scene.horizon:
            view = {"state": scene.state()}
            views.append(view | scene.images() if render else view)
            actions.append(scene.expert_action())
            disturbed = actions[-1] + noise.normal(0.0, noise_std, len(actions[-1]))
            executed.append(np.clip(disturbed, -1.0, 1.0).astype(np.float32))
            solved = self._step(scene, slot, executed[-1])[1]
            success.append(solved)
        self._slots[env] = replace(slot, steps=slot.steps + len(success), ended=True, state=scene.state(), scene=scene.save())
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
        images = self._scene(slot.task).images() if image else {}
        return images | {"state": slot.state, "task": np.array(slot.instruction)}

    def _scene(self, task: str) -> Scene:
        if task not in self._scenes:
            self._scenes[task] = self._make(task)
        return self._scenes[task]

    def _loaded(self, slot: Slot) -> Scene:
        scene = self._scene(slot.task)
        scene.load(slot.scene)
        return scene

    def _slot(self, env: int) -> Slot:
        if env not in self._slots:
            raise SimulationError(f"environment {env} holds no episode yet: call reset first")
        return self._slots[env]

    def _require_alive(self, ids: list[int], what: str) -> None:
        for env in ids:
            if (slot := self._slot(env)).ended:
                raise SimulationError(f"environment {env} ({slot.task}, seed {slot.seed}) has ended: reset it before {what}")


def _stack(rows: list[dict[str, Any]]) -> Arrays:
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
