"""Throughput of both simulators behind our environments, against the simulators by themselves, in one run.

plain MuJoCo     a loop over `mj_step` and a renderer, a process per core
our MuJoCo       `sim.mujoco`: the same with actions, state, reward, success, and everything carried to this process
bare Isaac Lab   Isaac Lab's loop over the cloned scene, eager
our Isaac Lab    `sim.isaaclab`, eager, and with the recorded step

Control steps per second of all environments together. Robots hold still; a decision is `CHUNK` control steps and, where there is a
camera, one image per environment. Repeats take turns, so that a busy host is busy for all.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sim.bare import BareSettings
from sim.isaaclab.env import IsaacVecEnv
from sim.mujoco.env import MujocoVecEnv
from sim.vec_env import SEED_RANGES, ChunkStep
from sim.workers.process import WorkerProcess
from sim.workers.vec_env import Pending, WorkerVecEnv

CHUNK, IMAGE_PX = 8, 64
WORKERS = 2
"""Processes of MuJoCo."""
NEVER = 1_000_000_000
"""A horizon that no benchmark reaches."""
PARTS = {"mujoco": ("plain MuJoCo", "our MuJoCo"), "isaaclab": ("bare Isaac Lab", "our Isaac Lab, eager", "our Isaac Lab, recorded")}
"""What is measured of a simulator; the first is the simulator by itself."""

Measure = Callable[[bool, float], float]
"""From whether to draw and for how long, to control steps per second."""


@dataclass(frozen=True)
class BenchSettings:
    """What to measure."""

    task: str = "reach"
    backends: tuple[str, ...] = ("mujoco", "isaaclab")
    envs: tuple[int, ...] = (1, 16, 64, 256)
    repeats: int = 5
    seconds: float = 2.0
    """At least, of each repeat."""


@dataclass(frozen=True)
class Throughput:
    """Repeats of one part at one size."""

    part: str
    num_envs: int
    camera: bool
    steps_per_s: tuple[float, ...]
    of_bare: float
    """Median over the repeats of the ratio to the simulator by itself."""

    @property
    def median(self) -> float:
        """Over the repeats [1/s]."""
        return statistics.median(self.steps_per_s)


def bench_simulators(settings: BenchSettings, out: Path | None, about: Mapping[str, object]) -> list[Throughput]:
    """Measure, print the table, and write the numbers.

    Raises:
        SimulationError: unknown task, or a simulator that is not installed.
    """
    found, console = list[Throughput](), Console(highlight=False)
    with console.status("") as status:
        for num_envs in settings.envs:
            for backend in settings.backends:
                status.update(f"{backend}, {num_envs} environments")
                found += _measured(settings, backend, num_envs)
    print_table(found)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        content = {
            **about,
            "settings": asdict(settings),
            "chunk": CHUNK,
            "image_px": IMAGE_PX,
            "workers": WORKERS,
            "throughput": [asdict(row) for row in found],
        }
        out.write_text(json.dumps(content, indent=1) + "\n")
    return found


def print_table(rows: Sequence[Throughput]) -> None:
    """A line per part, size and camera."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("environments", "camera", "", "control steps/s", "lowest – highest", "of the simulator by itself"):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        spread = f"{min(row.steps_per_s):,.0f} – {max(row.steps_per_s):,.0f}"
        table.add_row(str(row.num_envs), "yes" if row.camera else "no", row.part, f"{row.median:,.0f}", spread, f"{row.of_bare:.2f}")
    Console(highlight=False).print(table)


def _measured(settings: BenchSettings, backend: str, num_envs: int) -> list[Throughput]:
    rows = []
    with _parts(settings, backend, num_envs) as measures:
        for camera in (False, True):
            for measure in measures:
                measure(camera, 0.0)  # compiles, allocates and records
                measure(camera, 0.0)
            repeats = [[measure(camera, settings.seconds) for measure in measures] for _ in range(settings.repeats)]
            for i, part in enumerate(PARTS[backend]):
                ratio = statistics.median(rates[i] / rates[0] for rates in repeats)
                rows.append(Throughput(part, num_envs, camera, tuple(round(rates[i], 1) for rates in repeats), round(ratio, 3)))
    return rows


@contextmanager
def _parts(settings: BenchSettings, backend: str, num_envs: int) -> Iterator[list[Measure]]:
    """How to measure each part of a simulator, in the order of `PARTS`."""
    with ExitStack() as stack:

        def environment(env: WorkerVecEnv, workers: int = 1) -> Measure:
            return _through(stack.enter_context(env), settings.task, workers)

        def bare(module: str, workers: int) -> Measure:
            sizes = [num_envs // workers + (i < num_envs % workers) for i in range(workers)]
            processes = [WorkerProcess(module, BareSettings(settings.task, "arm7", size, IMAGE_PX, "front", CHUNK)) for size in sizes]
            for process in processes:
                stack.callback(process.close)
            return _together(processes)

        if backend == "mujoco":
            workers = min(WORKERS, num_envs)
            ours = MujocoVecEnv([settings.task], num_envs, workers, IMAGE_PX, horizon=NEVER, control="joint_delta")
            yield [bare("sim.mujoco.bare", workers), environment(ours, workers)]
        else:
            envs = [
                IsaacVecEnv([settings.task], num_envs, IMAGE_PX, horizon=NEVER, control="joint_delta", graph=graph)
                for graph in (False, True)
            ]
            yield [bare("sim.isaaclab.bare", 1), *map(environment, envs)]


def _through(env: WorkerVecEnv, task: str, workers: int) -> Measure:
    """Of an environment whose workers always have a chunk under way, each at its own pace, as in the plain loop."""
    groups = env.lockstep or tuple(tuple(range(worker, env.num_envs, workers)) for worker in range(workers))
    env.reset(range(env.num_envs), SEED_RANGES["train"][: env.num_envs], [task] * env.num_envs)

    def start(group: Sequence[int], draw: bool) -> Pending[ChunkStep]:
        still = np.zeros((len(group), CHUNK, env.spec.action.dim), np.float32)
        return env.submit_chunk(still, group, render="last" if draw else "none")

    def measure(draw: bool, seconds: float) -> float:
        began_s, done = time.perf_counter(), 0
        under_way = deque((group, start(group, draw)) for group in groups)
        while under_way:
            group, chunk = under_way.popleft()
            chunk.result()
            done += len(group) * CHUNK
            if time.perf_counter() - began_s < seconds:
                under_way.append((group, start(group, draw)))
        return done / (time.perf_counter() - began_s)

    return measure


def _together(processes: Sequence[WorkerProcess]) -> Measure:
    """Of processes at the same time, summed."""

    def measure(draw: bool, seconds: float) -> float:
        futures: list[Future[float]] = [process.request("run", draw, seconds) for process in processes]
        return sum(future.result() for future in futures)

    return measure
