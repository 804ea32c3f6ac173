"""The training loops: offline (fixed data) and on-policy (roll out, update, repeat).

Everything random is drawn from (run seed, update), and checkpoints fall between updates; so a resumed run repeats an
uninterrupted one exactly, at an equal thread count.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from policies.vla import VlaPolicy
from sim.vec_env import SEED_RANGES, VecEnv
from vla_rl.algorithms.opd import Opd
from vla_rl.algorithms.sft import Sft
from vla_rl.batch import Episode
from vla_rl.checkpoint import Progress, list_checkpoints, load_checkpoint, save_checkpoint
from vla_rl.data.demos import Demos
from vla_rl.errors import Stopped
from vla_rl.rollout import run_episodes
from vla_rl.run import Run

BOOTSTRAP_WALL = 0.05
"""Start success below which on-policy learning is likely to see no useful states."""


def bar() -> Bar:
    """A progress bar with the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Bar(*columns, TextColumn("left"), TimeRemainingColumn())


def offline(run: Run, algorithm: Sft, demos: Demos) -> Progress:
    """Supervised training on a fixed data set."""
    config = algorithm.config
    with _training(run, algorithm) as progress:
        progress.episodes = len(demos.tasks)
        recent: list[dict[str, float]] = []
        for step in _updates(progress.updates, config.steps, "sft"):
            started = time.monotonic()
            generator = torch.Generator().manual_seed(_seed(run, step))
            rng = np.random.default_rng([run.config.seed, step])
            obs, chunk, mask = demos.sample(rng.integers(len(demos), size=config.batch), algorithm.policy.spec.chunk)
            recent.append(algorithm.update(obs, torch.as_tensor(chunk), torch.as_tensor(mask), step, generator))
            progress.updates = step + 1
            progress.wall_s += time.monotonic() - started
            if progress.updates % config.log_every == 0:
                means = {name: float(np.mean([metrics[name] for metrics in recent])) for name in recent[0]}
                run.log({"update": progress.updates, "wall_s": progress.wall_s} | means)
                recent = []
            if progress.updates % config.checkpoint_every == 0:
                save_checkpoint(run.checkpoints, algorithm.policy, algorithm.optimizer, progress)
    return progress


def on_policy(run: Run, algorithm: Opd, env: VecEnv) -> Progress:
    """Roll out the student, update on what it did, repeat."""
    config, tasks = algorithm.config, run.config.sim.tasks
    expert = algorithm.teacher is not None and algorithm.teacher.needs_expert
    with _training(run, algorithm) as progress:
        if progress.updates == 0:
            _start(run, algorithm, env)
        for update in _updates(progress.updates, config.updates, "opd"):
            started = time.monotonic()
            seeds = np.random.default_rng([run.config.seed, update]).choice(SEED_RANGES["train"], config.episodes)
            episodes = [Episode(tasks[i % len(tasks)], int(seed)) for i, seed in enumerate(seeds)]
            batch, results = run_episodes(
                algorithm.policy, env, episodes, mode="stochastic", temperature=config.temperature, seed=_seed(run, update),
                keep=True, expert=expert, version=update, first_rollout=progress.episodes,
            )  # fmt: skip
            assert batch is not None
            rollout_s = time.monotonic() - started
            metrics = algorithm.update(batch, torch.Generator().manual_seed(_seed(run, update)))
            progress.updates = update + 1
            progress.episodes += len(episodes)
            progress.decisions += len(batch)
            progress.teacher_queries += len(batch) if algorithm.teacher else 0
            progress.wall_s += time.monotonic() - started
            row = {"update": progress.updates, "episodes": progress.episodes, "decisions": progress.decisions, "wall_s": progress.wall_s}
            row |= {"rollout_s": rollout_s, "rollout_success": float(np.mean([r.success for r in results]))} | metrics
            if config.validate_every and progress.updates % config.validate_every == 0:
                row["validation_success"] = validate(algorithm.policy, env, tasks, config.validate_episodes)
            run.log(row)
            if progress.updates % config.checkpoint_every == 0:
                save_checkpoint(run.checkpoints, algorithm.policy, algorithm.optimizer, progress)
    return progress


def _start(run: Run, algorithm: Opd, env: VecEnv) -> None:
    """Log the success that training starts from, and warn when there is next to none."""
    start = validate(algorithm.policy, env, run.config.sim.tasks, algorithm.config.validate_episodes)
    print(f"start success on validation seeds: {start:.0%}")
    if start < BOOTSTRAP_WALL:
        print(
            f"warning: below {BOOTSTRAP_WALL:.0%} the student may never visit useful states (bootstrap wall);"
            " more demonstrations or SFT steps first usually help"
        )
    run.log({"update": 0, "episodes": 0, "decisions": 0, "wall_s": 0.0, "validation_success": start})


def validate(policy: VlaPolicy, env: VecEnv, tasks: Iterable[str], episodes: int) -> float:
    """Mean greedy success on the first validation seeds of every task."""
    chosen = [Episode(task, seed) for task in tasks for seed in SEED_RANGES["validation"][:episodes]]
    _, results = run_episodes(policy, env, chosen, mode="greedy", seed=0)
    return float(np.mean([result.success for result in results]))


@contextmanager
def _training(run: Run, algorithm: Sft | Opd) -> Iterator[Progress]:
    """Resume from the newest checkpoint if there is one; write one at the end, also when stopped between updates."""
    progress = Progress()
    found = list_checkpoints(run.checkpoints)
    if found:
        progress = load_checkpoint(found[-1], algorithm.policy, algorithm.optimizer)
        print(f"resuming {run.folder} after update {progress.updates}")
    run.start_at(progress.updates)
    try:
        yield progress
    except Stopped:
        path = save_checkpoint(run.checkpoints, algorithm.policy, algorithm.optimizer, progress)
        raise Stopped(f"stopped after update {progress.updates}; checkpoint {path}; continue with --resume") from None
    finally:
        run.close()
    save_checkpoint(run.checkpoints, algorithm.policy, algorithm.optimizer, progress)


def _updates(start: int, stop: int, name: str) -> Iterator[int]:
    """Count updates behind a progress bar with the time left. Ctrl-C or SIGTERM raises `Stopped` after the update under way."""
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("stopping after this update (again: stop at once, without a checkpoint)")

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with bar() as shown:
            task = shown.add_task(name, total=stop, completed=start)
            for update in range(start, stop):
                yield update
                shown.advance(task)
                if asked and update + 1 < stop:
                    raise Stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _seed(run: Run, update: int) -> int:
    return run.config.seed * 1_000_003 + update
