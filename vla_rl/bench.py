"""Throughput of the rollout engine against what its parts allow, and of our rendering against LeRobot's, in one run.

Raw rates are taken on all cores at once, one process per core, over the tasks in turn: physics steps, renders, and
policy inferences at the batch that a group of environments has. A decision costs K physics steps, one render and one
inference, so these cores cannot make more than `1 / (K / physics + 1 / render + 1 / inference)` decisions per second.
A second bound counts the simulator's own observation and reward, which are Python, with the physics.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import mujoco
import numpy as np
import torch
from pydantic import Field

from policies.config import PolicyConfig
from policies.folder import load_policy, save_policy
from policies.vla import VlaPolicy
from sim.metaworld.scene import Scene
from sim.metaworld.tasks import CAMERAS, VISIBLE_SITES
from sim.render import RenderContext, Renderer
from sim.vec_env import SEED_RANGES
from vla_rl.batch import Episode
from vla_rl.config import Positive, SimConfig, Strict
from vla_rl.rollout import GROUPS, run_episodes
from vla_rl.train import make_env, make_spec

SUBSTEPS = 5
"""MuJoCo steps of one Meta-World control step."""


class BenchConfig(Strict):
    """What to measure."""

    sim: SimConfig = SimConfig()
    policy: PolicyConfig = PolicyConfig()
    init: Path | None = None
    """Policy folder to measure with; an untrained policy (whose episodes run to the horizon) if unset."""
    repeats: Positive = 7
    """Interleaved repeats; medians are printed with their spread."""
    rollout_episodes: Positive = 128
    """Episodes per repeat of the rollout engine; with few per environment its tail, where environments run out, shows."""
    raw_seconds: float = Field(default=1.0, gt=0)
    """Seconds per repeat of each raw rate."""
    lerobot: bool = True
    """Also measure LeRobot's own Meta-World environment."""


@dataclass(frozen=True)
class Rate:
    """Repeats of one rate [1/s]."""

    name: str
    values: list[float]

    @property
    def median(self) -> float:
        """Median over the repeats."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.name:44} {self.median:9.1f} /s   ({min(self.values):.1f} – {max(self.values):.1f})"


def bench_rollout(config: BenchConfig) -> dict[str, float]:
    """Measure, print and return medians and ratios."""
    torch.set_num_threads(1)
    env = make_env(config.sim)
    folder = TemporaryDirectory()
    spawn = get_context("spawn")
    cores, other = ProcessPoolExecutor(config.sim.workers, mp_context=spawn), ProcessPoolExecutor(1, mp_context=spawn)
    try:
        policy = load_policy(config.init) if config.init else VlaPolicy(config.policy, make_spec(env.spec, config.policy))
        save_policy(policy, Path(folder.name) / "policy")
        episodes = [Episode(config.sim.tasks[i % len(config.sim.tasks)], SEED_RANGES["train"][i]) for i in range(config.rollout_episodes)]
        run_episodes(policy, env, episodes, mode="stochastic", seed=0)  # every scene is built and compiled once

        def rollout() -> float:
            started = time.perf_counter()
            batch, _ = run_episodes(policy, env, episodes, mode="stochastic", seed=0, keep=True)
            assert batch is not None
            return len(batch) / (time.perf_counter() - started)

        def raw(kind: str, seconds: float = config.raw_seconds) -> float:
            """Sum over processes that run at the same time."""
            arguments = (kind, config.sim.model_dump_json(), Path(folder.name) / "policy", seconds)
            return sum(future.result() for future in [cores.submit(_raw_rate, *arguments) for _ in range(config.sim.workers)])

        kinds = ("physics", "step", "render", "inference")
        for kind in kinds:
            raw(kind, 0.01)  # imports and builds
        measures: dict[str, Callable[[], float]] = {kind: partial(raw, kind) for kind in kinds}
        measures["rollout"] = rollout
        if config.lerobot:
            _lerobot_rate_elsewhere(other, config, 0.01)  # imports and builds
            measures["lerobot"] = lambda: _lerobot_rate_elsewhere(other, config, config.raw_seconds)
            measures["ours"] = _repeat(_step_and_render(config.sim), config.raw_seconds)
        values: dict[str, list[float]] = {name: [] for name in measures}
        for _ in range(config.repeats):
            for name, measure in measures.items():
                values[name].append(measure())
    finally:
        env.close()
        cores.shutdown()
        other.shutdown()
        folder.cleanup()
    return _report(config, policy.spec.executed, {name: Rate(_LABELS[name], value) for name, value in values.items()})


_LABELS = {
    "physics": "raw physics of control steps, all cores",
    "step": "steps with observation and reward, all cores",
    "render": "raw renders, all cores",
    "inference": "raw policy inferences, all cores",
    "rollout": "rollout engine, decisions",
    "lerobot": "LeRobot's Meta-World environment, steps",
    "ours": "our scene, step and render, steps",
}


def _report(config: BenchConfig, executed: int, rates: dict[str, Rate]) -> dict[str, float]:
    for rate in rates.values():
        print(rate)
    result = {name: rate.median for name, rate in rates.items()}
    for stepping, suffix in (("physics", ""), ("step", "_with_reward")):
        cost = executed / result[stepping] + 1 / result["render"] + 1 / result["inference"]
        result[f"bound{suffix}"] = 1 / cost
        result[f"fraction{suffix}"] = result["rollout"] / result[f"bound{suffix}"]
    for name, suffix in (("physics, render, inference", ""), ("the same with observation and reward", "_with_reward")):
        print(f"bound by {name}: {result[f'bound{suffix}']:.1f} decisions/s; reached: {result[f'fraction{suffix}']:.2f}")
    if "lerobot" in rates:
        ratios = [ours / theirs for ours, theirs in zip(rates["ours"].values, rates["lerobot"].values, strict=True)]
        result["render_ratio"] = statistics.median(ratios)
        print(f"step and render: {result['render_ratio']:.1f} times LeRobot's environment ({min(ratios):.1f} – {max(ratios):.1f})")
    return result


def _repeat(action: Callable[[], int], seconds: float) -> Callable[[], float]:
    """Rate of `action`, which returns how many things it did, over at least `seconds`."""

    def measure() -> float:
        started, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds:
            count += action()
        return count / elapsed

    return measure


def _group(sim: SimConfig) -> int:
    return max(1, sim.num_envs // GROUPS)


def _starts(sim: SimConfig) -> tuple[list[int], list[str]]:
    """Seeds and tasks of one group's environments."""
    count = _group(sim)
    return list(SEED_RANGES["train"][:count]), [sim.tasks[i % len(sim.tasks)] for i in range(count)]


@cache
def _context(px: int) -> RenderContext:
    """The one OpenGL context of this process: renderers draw into whichever is current."""
    return RenderContext(px)


@cache
def _raw(kind: str, sim_json: str, policy: Path) -> Callable[[], int]:
    sim = SimConfig.model_validate_json(sim_json)
    if kind == "inference":
        return _inference(policy, sim)
    return {"physics": _physics, "step": _step, "render": _render}[kind](sim)


def _raw_rate(kind: str, sim_json: str, policy: Path, seconds: float) -> float:
    """One raw rate in this process, which keeps what it built; JSON, as a config is no key of a cache."""
    torch.set_num_threads(1)
    return _repeat(_raw(kind, sim_json, policy), seconds)()


def _scenes(sim: SimConfig, count: int | None = None) -> list[Scene]:
    """A scene for each of the first `count` tasks (all if unset), at its first training seed."""
    scenes = [Scene(task) for task in sim.tasks[:count]]
    for scene in scenes:
        scene.reset(SEED_RANGES["train"][0])
    return scenes


def _physics(sim: SimConfig) -> Callable[[], int]:
    """MuJoCo alone: the substeps of one control step of each task."""
    scenes = _scenes(sim)

    def run() -> int:
        for scene in scenes:
            mujoco.mj_step(scene.model, scene.data, SUBSTEPS)
        return len(scenes)

    return run


def _step(sim: SimConfig) -> Callable[[], int]:
    """Control steps of each task under random actions, restarted every 100 steps."""
    scenes = _scenes(sim)
    starts = [scene.save() for scene in scenes]
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 4)).astype(np.float32)

    def run() -> int:
        for scene, start in zip(scenes, starts, strict=True):
            scene.load(start)
            for action in actions:
                scene.step(action)
        return len(actions) * len(scenes)

    return run


def _render(sim: SimConfig) -> Callable[[], int]:
    """One image of each task."""
    scenes = _scenes(sim)
    _context(sim.image_px)
    renderers = [Renderer(s.model, CAMERAS[sim.camera or "corner2"], sim.image_px, VISIBLE_SITES.get(s.task, ())) for s in scenes]

    def run() -> int:
        for scene, renderer in zip(scenes, renderers, strict=True):
            renderer.render(scene.data)
        return len(scenes)

    return run


def _step_and_render(sim: SimConfig) -> Callable[[], int]:
    """Control steps of the first task, each with an image."""
    scene = _scenes(sim, 1)[0]
    _context(sim.image_px)
    renderer = Renderer(scene.model, CAMERAS[sim.camera or "corner2"], sim.image_px, VISIBLE_SITES.get(sim.tasks[0], ()))
    start = scene.save()

    def run() -> int:
        scene.load(start)
        for _ in range(20):
            scene.step(np.zeros(4, np.float32))
            renderer.render(scene.data)
        return 20

    return run


def _inference(folder: Path, sim: SimConfig) -> Callable[[], int]:
    """Chunks for the first observations of one group's environments."""
    policy, env = load_policy(folder), make_env(sim.model_copy(update={"workers": 1}))
    obs = env.reset(range(_group(sim)), *_starts(sim))
    env.close()
    generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def run() -> int:
        policy.sample(policy.encode(obs), "stochastic", 1.0, generator)
        return _group(sim)

    return run


def _lerobot_rate_elsewhere(process: ProcessPoolExecutor, config: BenchConfig, seconds: float) -> float:
    """LeRobot's rate in a process of its own: in this one it would draw into our light OpenGL context."""
    return process.submit(_lerobot_rate, config.sim, seconds).result()


def _lerobot_rate(sim: SimConfig, seconds: float) -> float:
    return _repeat(_lerobot(sim.tasks[0], sim.image_px), seconds)()


@cache
def _lerobot(task: str, image_px: int) -> Callable[[], int]:
    """LeRobot's environment of a task at the same pixel size.

    LeRobot never passes its size on, so that Meta-World renders 480 px; its inner environment is replaced by one built
    at the size asked for, which makes it faster.
    """
    import metaworld
    from lerobot.envs.metaworld import MetaworldEnv

    name = f"{task}-v3"
    benchmark = metaworld.MT1(name, seed=42)
    inner = benchmark.train_classes[name](render_mode="rgb_array", camera_name="corner2", width=image_px, height=image_px)
    inner.set_task(benchmark.train_tasks[0])
    inner.reset()
    env = MetaworldEnv(name, obs_type="pixels_agent_pos")
    env._ensure_env()
    env._env = inner
    env.reset(seed=0)

    def run() -> int:
        env.step(np.zeros(4, np.float32))
        return 1

    return run
