"""The training loops: offline (fixed data) and on-policy (roll out, update, repeat).

Everything random is drawn from (run seed, update), and checkpoints fall between updates; so a resumed run repeats an
uninterrupted one exactly, at an equal thread count.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from policies.interface import ChunkPolicy
from sim.resets import Starts
from sim.vec_env import SEED_RANGES, VecEnv
from vla_rl.alarms import alarms
from vla_rl.algorithms.dagger import Dagger
from vla_rl.algorithms.grpo import Grpo
from vla_rl.algorithms.opd import Opd
from vla_rl.algorithms.ppo import Ppo
from vla_rl.algorithms.sft import Sft
from vla_rl.batch import Episode, EpisodeResult
from vla_rl.checkpoint import Progress, list_checkpoints, load_checkpoint, save_checkpoint
from vla_rl.config import OnPolicyConfig, SimConfig
from vla_rl.data.demos import Demos
from vla_rl.errors import NoSignalError, Stopped
from vla_rl.rollout import Labeller, run_episodes
from vla_rl.run import Run

OnPolicy = Opd | Grpo | Ppo | Dagger
Algorithm = Sft | OnPolicy

BOOTSTRAP_WALL = 0.05
"""Start success below which on-policy learning is likely to see no useful states."""


PATIENCE = 5
"""Updates in a row with failures but nothing to learn from, after which a run is stopped."""


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
                _save(run, algorithm, progress)
    return progress


def on_policy(run: Run, algorithm: OnPolicy, env: VecEnv) -> Progress:
    """Roll out the policy, update on what it did, repeat."""
    config, tasks, teacher = algorithm.config, run.config.sim.tasks, algorithm.teacher
    starts = make_starts(run.config.sim)
    warned: set[str] = set()
    with _training(run, algorithm) as progress:
        if progress.updates == 0:
            _start(run, algorithm, env)
        for update in _updates(progress.updates, config.updates, run.config.algorithm.name):
            started = time.monotonic()
            episodes, (labeller, mixture) = _episodes(run, config, update, starts), _behaviour(algorithm, update)
            batch, results = run_episodes(
                algorithm.policy, env, episodes, mode="stochastic", temperature=config.temperature, seed=_seed(run, update),
                keep=True, labeller=labeller, mixture=mixture, version=update, first_rollout=progress.episodes,
            )  # fmt: skip
            assert batch is not None
            rollout_s = time.monotonic() - started
            metrics = algorithm.update(batch.to(algorithm.policy.device), torch.Generator().manual_seed(_seed(run, update)))
            progress.updates = update + 1
            progress.episodes += len(episodes)
            progress.decisions += len(batch)
            progress.teacher_queries += len(batch) if teacher else 0
            progress.wall_s += time.monotonic() - started
            row = {"update": progress.updates, "episodes": progress.episodes, "decisions": progress.decisions, "wall_s": progress.wall_s}
            row |= {"rollout_s": rollout_s, "rollout_success": float(np.mean([r.success for r in results]))} | metrics
            if diverged := sum(r.diverged for r in results):
                row["diverged_episodes"] = diverged
            row |= _success_by_start(results)
            if config.validate_every and progress.updates % config.validate_every == 0:
                row["validation_success"] = validate(algorithm.policy, env, tasks, config.validate_episodes)
            run.log(row)
            _warn(row, warned)
            _require_signal(run, algorithm, progress, row)
            if progress.updates % config.checkpoint_every == 0:
                _save(run, algorithm, progress)
    return progress


def make_starts(sim: SimConfig) -> Starts:
    """Where the training episodes of a simulator start. Raises `SimulationError` if the bank that is named does not fit."""
    return Starts(sim.resets, bank_identity(sim), sim.tasks)


def bank_identity(sim: SimConfig) -> dict[str, str]:
    """What a bank and a run that starts from it must have in common."""
    return {"backend": sim.backend, "robot": sim.robot, "control": sim.control}


def _episodes(run: Run, config: OnPolicyConfig, update: int, starts: Starts) -> list[Episode]:
    """Initial states of an update, drawn from (run seed, update), spread over the tasks; each `group` times."""
    tasks = run.config.sim.tasks
    count, progress = config.episodes // config.group, update / max(1, config.updates - 1)
    rng = np.random.default_rng([run.config.seed, update])
    states = []
    for i, seed in enumerate(rng.choice(SEED_RANGES["train"], count)):
        task = tasks[(update * count + i) % len(tasks)]
        states.append(Episode(task, int(seed), start=starts.draw(task, rng, progress)))
    return [state for state in states for _ in range(config.group)]


def _success_by_start(results: list[EpisodeResult]) -> dict[str, float]:
    """Success of the episodes that started from the tasks' own distribution, where others started elsewhere."""
    own = [result.success for result in results if result.episode.start is None]
    return {"own_start_success": float(np.mean(own))} if 0 < len(own) < len(results) else {}


def _behaviour(algorithm: OnPolicy, update: int) -> tuple[Labeller | None, float]:
    """Whose chunks rollouts record, if anyone's, and how likely those are executed."""
    if isinstance(algorithm, Dagger):
        return algorithm.teacher.chunk, algorithm.mixture(update)
    teacher = algorithm.teacher
    return (teacher.chunk if teacher and teacher.scores_by_chunk else None), 0.0


def _warn(row: dict[str, Any], warned: set[str]) -> None:
    """Print each alarm of a log row the first time that it goes off."""
    for name, sentence in alarms(row).items():
        if name not in warned:
            warned.add(name)
            print(f"warning: update {row['update']}: {sentence}")


def _require_signal(run: Run, algorithm: OnPolicy, progress: Progress, row: dict[str, Any]) -> None:
    """Save, then raise `NoSignalError`, when rewards were all equal (GRPO: within every group) and not all good for long."""
    equal = row.get("dropped_decisions") == 1 or row.get("reward_range") == 0
    progress.idle = progress.idle + 1 if equal and row["rollout_success"] < 1 else 0
    if progress.idle >= PATIENCE:
        _save(run, algorithm, progress)
        grouped = isinstance(algorithm, Grpo)
        dense = isinstance(algorithm, Ppo) and algorithm.config.reward == "dense"
        advice = ", or enlarge algorithm.group" if grouped else "" if dense else ", or set algorithm.reward dense"
        raise NoSignalError(
            f"rewards of the last {PATIENCE} updates were all equal{' within every group' if grouped else ''}"
            f" (success {row['rollout_success']:.0%}): {run.config.algorithm.name} learns nothing from them; start from a better"
            f" student (opd or more sft){advice}"
        )


def _save(run: Run, algorithm: Algorithm, progress: Progress) -> Path:
    return save_checkpoint(run.checkpoints, algorithm.policy, algorithm.optimizer, progress, algorithm.critic)


def _start(run: Run, algorithm: OnPolicy, env: VecEnv) -> None:
    """Log the success that training starts from, and warn when there is next to none."""
    start = validate(algorithm.policy, env, run.config.sim.tasks, algorithm.config.validate_episodes)
    print(f"start success on validation seeds: {start:.0%}")
    if start < BOOTSTRAP_WALL:
        print(
            f"warning: below {BOOTSTRAP_WALL:.0%} the student may never visit useful states (bootstrap wall);"
            " more demonstrations or SFT steps first usually help"
        )
    run.log({"update": 0, "episodes": 0, "decisions": 0, "wall_s": 0.0, "validation_success": start})


def validate(policy: ChunkPolicy, env: VecEnv, tasks: Iterable[str], episodes: int) -> float:
    """Mean greedy success on the first validation seeds of every task."""
    chosen = [Episode(task, seed) for task in tasks for seed in SEED_RANGES["validation"][:episodes]]
    _, results = run_episodes(policy, env, chosen, mode="greedy", seed=0)
    return float(np.mean([result.success for result in results]))


@contextmanager
def _training(run: Run, algorithm: Algorithm) -> Iterator[Progress]:
    """Resume from the newest checkpoint if there is one; write one at the end, also when stopped between updates."""
    progress = Progress()
    found = list_checkpoints(run.checkpoints)
    if found:
        progress = load_checkpoint(found[-1], algorithm.policy, algorithm.optimizer, algorithm.critic)
        print(f"resuming {run.folder} after update {progress.updates}")
    run.start_at(progress.updates)
    try:
        yield progress
    except Stopped:
        path = _save(run, algorithm, progress)
        raise Stopped(f"stopped after update {progress.updates}; checkpoint {path}; continue with --resume") from None
    finally:
        run.close()
    _save(run, algorithm, progress)


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
