"""Evaluation on initial states that training never sees: success with intervals, per task and per episode.

Episode i of a task starts from seed `first_seed + i`, so two evaluations over the same tasks, split, `skip` and
number of episodes are paired episode by episode. Every outcome is kept in the JSON for later statistics.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError, computed_field, model_validator

from policies.interface import UserError
from sim.vec_env import SEED_RANGES, Demonstration, VecEnv, seat
from vla_rl.config import EvalConfig, Strict
from vla_rl.statistics import wilson
from vla_rl.tables import percent

if TYPE_CHECKING:
    from policies.interface import ChunkPolicy
    from vla_rl.batch import EpisodeResult

Progress = Callable[[int, int], None]
"""Called with (finished episodes, successes so far)."""

AMBIGUOUS_PAIRS = (("faucet-open", "faucet-close"),)
"""Tasks that start from the same scenes, so that only the instruction says what to do."""


class Derived(Strict):
    """A record whose JSON also shows computed values; they are recomputed, not trusted, when it is read."""

    @model_validator(mode="before")
    @classmethod
    def _drop_computed(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if k not in cls.model_computed_fields} if isinstance(value, dict) else value


class TaskResult(Derived):
    """Outcomes of one task."""

    task: str
    """Task whose success is scored."""
    first_seed: int
    """Initial-state seed of the first episode; the following ones count up."""
    outcomes: str
    """One character per episode: 1 if the task succeeded at any step."""
    at_end: str
    """One character per episode: 1 if the task was in success at the last executed step."""
    steps: tuple[int, ...]
    """Control steps executed in each episode."""
    told: tuple[str, ...] = ()
    """Task whose instruction each episode was given; empty if its own."""

    @model_validator(mode="after")
    def _same_length(self) -> TaskResult:
        sizes = {"outcomes": len(self.outcomes), "at_end": len(self.at_end), "steps": len(self.steps)}
        if len(set(sizes.values())) > 1 or not self.steps:
            raise ValueError(f"task '{self.task}' needs one outcome, at_end and steps per episode, got {sizes}")
        if set(self.outcomes + self.at_end) - set("01"):
            raise ValueError(f"task '{self.task}': outcomes and at_end may hold 0 and 1 only")
        return self

    @property
    def array(self) -> np.ndarray:
        """`(episodes,)` int64 of 0 and 1."""
        return np.array([int(character) for character in self.outcomes])

    @computed_field
    @property
    def success(self) -> float:
        """Fraction of episodes that succeeded at any step."""
        return self.outcomes.count("1") / len(self.outcomes)

    @computed_field
    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of `success`."""
        return wilson(self.outcomes.count("1"), len(self.outcomes))

    @computed_field
    @property
    def success_at_end(self) -> float:
        """Fraction of episodes in success at their last executed step."""
        return self.at_end.count("1") / len(self.at_end)

    @computed_field
    @property
    def mean_steps_to_success(self) -> float | None:
        """Mean control steps of the successful episodes; None if there is none."""
        steps = [n for n, outcome in zip(self.steps, self.outcomes, strict=True) if outcome == "1"]
        return float(np.mean(steps)) if steps else None


class Evaluation(Derived):
    """Success of one policy on a set of tasks."""

    split: Literal["validation", "test"]
    """Seed range of the initial states."""
    tasks: tuple[TaskResult, ...]
    """Results with each task's own instruction."""
    shuffled: tuple[TaskResult, ...] = ()
    """Results when every episode is told the instruction of another task of the set; empty if not asked for."""
    swapped: tuple[TaskResult, ...] = ()
    """Results of tasks sharing a scene with another task of the set, told that task's instruction."""

    @property
    def array(self) -> np.ndarray:
        """`(tasks, episodes)` int64 of 0 and 1."""
        return np.stack([task.array for task in self.tasks])

    @computed_field
    @property
    def success(self) -> float:
        """Mean success over tasks, which have equally many episodes."""
        return float(np.mean([task.success for task in self.tasks]))

    @computed_field
    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval over all episodes: for this policy on these tasks, not for the training method."""
        outcomes = "".join(task.outcomes for task in self.tasks)
        return wilson(outcomes.count("1"), len(outcomes))

    @computed_field
    @property
    def episodes(self) -> int:
        """Episodes with the right instruction, over all tasks."""
        return sum(len(task.steps) for task in self.tasks)

    def require_paired(self, other: Evaluation, what: str) -> None:
        """Raise `UserError` unless both used the same tasks and initial states; `what` names the two."""
        mine, theirs = ([(t.task, t.first_seed, len(t.steps)) for t in side.tasks] for side in (self, other))
        if mine != theirs:
            raise UserError(
                f"{what} were not evaluated on the same initial states: (task, first seed, episodes) {mine} against {theirs}; "
                "evaluate both with the same tasks, split and episodes"
            )

    def save(self, path: Path) -> None:
        """Write the evaluation as JSON, every episode's outcome included."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what `save` wrote. Raises `FileNotFoundError`, or `UserError` naming the file and the field."""
        if not path.is_file():
            raise FileNotFoundError(f"no such evaluation: {path}")
        try:
            return cls.model_validate_json(path.read_text())
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{path} is not an evaluation: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def evaluate(
    policy: ChunkPolicy,
    env: VecEnv,
    tasks: Sequence[str],
    config: EvalConfig,
    seed: int,
    progress: Progress | None = None,
    pairs: Sequence[tuple[str, str]] = AMBIGUOUS_PAIRS,
) -> Evaluation:
    """Run the greedy policy from `config.episodes` seeds of the split for every task.

    Args:
        policy: chunk policy whose spec matches `env`.
        env: environment that can play `tasks`.
        tasks: tasks to score, each once.
        config: episodes per task, split, and whether to shuffle instructions.
        seed: draws the wrong instructions; the initial states depend on the split alone.
        progress: called with (finished episodes, successes so far); with shuffling, once through for each of three passes.
        pairs: tasks that start from the same scenes; scored apart when instructions are shuffled.

    Raises:
        UserError: no task, a repeated one, one that `env` lacks, too many episodes for the split, or
            shuffling a single task.
    """
    require_evaluable(tasks, env, config)
    first = SEED_RANGES[config.split].start + config.skip
    own = {(task, first + i): task for task in tasks for i in range(config.episodes)}
    results = _play(policy, env, {key: None for key in own}, seed, progress)
    evaluation = Evaluation(split=config.split, tasks=_by_task(results, {}))
    if not config.shuffled:
        return evaluation
    instructions = {(result.episode.task, result.episode.seed): result.instruction for result in results}
    rng = np.random.default_rng(seed)
    others = {key: str(rng.choice([name for name in tasks if name != key[0]])) for key in own}
    partner = {a: b for pair in pairs if set(pair) <= set(tasks) for a, b in (pair, pair[::-1])}
    swaps = {key: partner[key[0]] for key in own if key[0] in partner}
    outcomes = []
    for told in (others, swaps):
        wrong = {key: instructions[name, key[1]] for key, name in told.items()}
        outcomes.append(_by_task(_play(policy, env, wrong, seed, progress), told))
    return evaluation.model_copy(update={"shuffled": outcomes[0], "swapped": outcomes[1]})


def evaluate_experts(env: VecEnv, tasks: Sequence[str], config: EvalConfig, progress: Progress | None = None) -> Evaluation:
    """Let the tasks' scripted experts act undisturbed from the same seeds as `evaluate`. Raises `UserError` as that."""
    if config.shuffled or config.videos:
        raise UserError("experts know the task without its instruction, and are not filmed: set shuffled to false and videos to 0")
    require_evaluable(tasks, env, config)
    first = SEED_RANGES[config.split].start + config.skip
    queue = [(task, first + i) for task in tasks for i in range(config.episodes)]
    rows: dict[str, list[Demonstration]] = {task: [] for task in tasks}
    while queue:
        seats = seat(env, [task for task, _ in queue])
        batch = [(env_id, *item) for item, env_id in zip(queue, seats, strict=True) if env_id is not None]
        queue = [item for item, env_id in zip(queue, seats, strict=True) if env_id is None]
        ids = [env_id for env_id, _, _ in batch]
        env.reset(ids, [start for _, _, start in batch], [task for _, task, _ in batch])
        for (_, task, _), pending in zip(batch, env.submit_demonstrations(ids, 0.0, render=False), strict=True):
            rows[task].append(pending.result())
        if progress:
            done = [episode.succeeded for episodes in rows.values() for episode in episodes]
            progress(len(done), sum(done))
    return Evaluation(split=config.split, tasks=tuple(_of_expert(task, first, episodes) for task, episodes in rows.items()))


def _of_expert(task: str, first: int, episodes: Sequence[Demonstration]) -> TaskResult:
    """Episodes in the order of their seeds; what an expert does after success does not count as steps."""
    return TaskResult(
        task=task,
        first_seed=first,
        outcomes="".join("1" if episode.succeeded else "0" for episode in episodes),
        at_end="".join("1" if episode.success[-1] else "0" for episode in episodes),
        steps=tuple(int(episode.success.argmax()) + 1 if episode.succeeded else len(episode.success) for episode in episodes),
    )


def require_evaluable(tasks: Sequence[str], env: VecEnv, config: EvalConfig) -> None:
    """Raise `UserError` if `env` has not the tasks or the initial states that an evaluation wants."""
    unknown = [task for task in tasks if task not in env.tasks]
    if not tasks or unknown or len(set(tasks)) < len(tasks):
        raise UserError(f"evaluate each task once, from {list(env.tasks)}; got {list(tasks)}")
    size = env.test_states if config.split == "test" and env.test_states else len(SEED_RANGES[config.split])
    if config.skip + config.episodes > size:
        raise UserError(f"the {config.split} split has {size} seeds, got skip={config.skip} and episodes={config.episodes}")
    if config.shuffled and len(tasks) < 2:
        raise UserError(f"shuffled instructions need at least two tasks, got {list(tasks)}; set shuffled to false")


def _play(
    policy: ChunkPolicy, env: VecEnv, told: Mapping[tuple[str, int], str | None], seed: int, progress: Progress | None
) -> list[EpisodeResult]:
    """Greedy episodes for (task, seed) → overriding instruction or None, in that order."""
    from vla_rl.batch import Episode  # torch: reports and grids read evaluations without it
    from vla_rl.rollout import run_episodes

    episodes = [Episode(task, start, instruction) for (task, start), instruction in told.items()]
    if not episodes:
        return []
    return run_episodes(policy, env, episodes, mode="greedy", seed=seed, progress=progress)[1]


def _by_task(results: Sequence[EpisodeResult], told: dict[tuple[str, int], str]) -> tuple[TaskResult, ...]:
    """Group results, which are ordered by task and then by seed."""
    groups: dict[str, list[EpisodeResult]] = {}
    for result in results:
        groups.setdefault(result.episode.task, []).append(result)
    return tuple(
        TaskResult(
            task=task,
            first_seed=group[0].episode.seed,
            outcomes="".join("1" if result.success else "0" for result in group),
            at_end="".join("1" if result.success_at_end else "0" for result in group),
            steps=tuple(result.steps for result in group),
            told=tuple(told[task, result.episode.seed] for result in group) if told else (),
        )
        for task, group in groups.items()
    )


def format_table(evaluation: Evaluation) -> str:
    """Plain-text table for the terminal: success with Wilson intervals, per task and mean."""
    extra = {name: {t.task: t for t in rows} for name, rows in (("shuffled", evaluation.shuffled), ("swapped", evaluation.swapped)) if rows}
    width = max(len(task.task) for task in evaluation.tasks) + 2
    header = f"{'task':<{width}}{'success':>9}{'95 % interval':>17}{'at end':>8}{'episodes':>10}{'steps':>7}"
    lines = [header + "".join(f"{name:>10}" for name in extra)]
    for task in evaluation.tasks:
        steps = "–" if task.mean_steps_to_success is None else f"{task.mean_steps_to_success:.0f}"
        line = f"{task.task:<{width}}{percent(task.success):>9}{_range(task.interval):>17}{percent(task.success_at_end):>8}"
        cells = [f"{percent(rows[task.task].success) if task.task in rows else '–':>10}" for rows in extra.values()]
        lines.append(line + f"{len(task.steps):>10}{steps:>7}" + "".join(cells))
    at_end = float(np.mean([task.success_at_end for task in evaluation.tasks]))
    line = f"{'mean':<{width}}{percent(evaluation.success):>9}{_range(evaluation.interval):>17}{percent(at_end):>8}"
    means = [f"{percent(float(np.mean([t.success for t in rows.values()]))):>10}" for rows in extra.values()]
    lines += ["─" * len(lines[0]), line + f"{evaluation.episodes:>10}{'':>7}" + "".join(means)]
    first, count = evaluation.tasks[0].first_seed, len(evaluation.tasks[0].steps)
    lines.append(f"{evaluation.split} seeds {first}–{first + count - 1} per task; steps: mean control steps to success")
    if extra:
        lines.append("shuffled: told the instruction of another task · swapped: told that of the task sharing the scene")
    return "\n".join(lines)


def _range(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.0f} – {100 * interval[1]:.0f} %"
