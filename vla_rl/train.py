"""The training entry: config → policy, teacher, simulator, data → loop → evaluation → run folder."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sim
from policies.config import SmolVlaConfig
from policies.folder import load_policy, make_policy, save_policy
from policies.interface import ChunkPolicy, Policy, PolicySpec, UserError
from sim.resets import DefaultResets
from sim.vec_env import SEED_RANGES, EnvSpec, VecEnv
from vla_rl.algorithms.dagger import Dagger
from vla_rl.algorithms.grpo import Grpo
from vla_rl.algorithms.opd import Opd
from vla_rl.algorithms.ppo import Ppo
from vla_rl.algorithms.sft import Sft
from vla_rl.batch import Episode
from vla_rl.capabilities import require_capabilities
from vla_rl.checkpoint import Progress
from vla_rl.compute import prepare, require_device
from vla_rl.config import (
    Config,
    DaggerConfig,
    EvalConfig,
    GrpoConfig,
    OnPolicyConfig,
    OpdConfig,
    PolicyConfig,
    PpoConfig,
    SftConfig,
    SimConfig,
)
from vla_rl.data.demos import Demos, load_demos
from vla_rl.evaluate import Evaluation, evaluate, evaluate_experts, format_table, require_evaluable
from vla_rl.loops import Algorithm, bar, make_starts, offline, on_policy
from vla_rl.metrics import is_kept
from vla_rl.rollout import require_matching_env
from vla_rl.run import Run, require_fresh_or_same
from vla_rl.teachers import ExpertTeacher, PolicyTeacher, Teacher, require_same_family
from vla_rl.video import save_media

SHEET_EPISODES = 8
"""Episodes per task on the contact sheet."""


def make_env(config: SimConfig) -> VecEnv:
    """Start the simulator of a config."""
    return sim.make(
        config.backend,
        config.tasks,
        config.num_envs,
        config.workers,
        config.image_px,
        config.camera,
        config.horizon,
        config.paraphrases,
        config.robot,
        config.control,
        config.device,
        config.randomize,
        tuple(map(str, config.experts)),
    )


def make_spec(env: EnvSpec, policy: PolicyConfig | SmolVlaConfig) -> PolicySpec:
    """The interface of a new policy in an environment."""
    return PolicySpec(
        embodiment=env.embodiment,
        entries=env.entries,
        action=env.action,
        control_hz=env.control_hz,
        chunk=policy.chunk,
        executed=policy.executed,
    )


def train(config: Config, folder: Path, resume: bool = False) -> Path:
    """Run one training run to its end and evaluate it. Returns the run folder.

    Raises:
        UserError: something in the config does not fit together; nothing was trained.
        Stopped: interrupted; a checkpoint was written.
    """
    _check(config)
    require_fresh_or_same(folder, config, resume)
    if (folder / "result.json").exists():
        print(f"{folder} is complete: reused")
        return folder
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    env = make_env(config.sim)
    try:
        policy = load_policy(config.init) if config.init else make_policy(config.policy, make_spec(env.spec, config.policy))
        require_matching_env(policy.spec, env)
        require_evaluable(config.sim.tasks, env, config.evaluate)
        prepare(policy, config.compute)
        algorithm = build(config, policy)
        demos = _load(config, policy.spec)
        _require_drawing(policy, env, config)
        run = Run(folder, config, resume)
        progress = _fit(run, algorithm, demos, env)
        save_policy(policy, folder / "policy")
        evaluation = evaluate_policy(policy, env, config.evaluate, config.sim.tasks, config.seed, folder / "evaluation")
        run.finish({"evaluation": evaluation.model_dump(mode="json"), **asdict(progress), "curve": _curve(run)})
    finally:
        env.close()
    return folder


def evaluate_policy(
    policy: ChunkPolicy | None, env: VecEnv, config: EvalConfig, tasks: tuple[str, ...], seed: int, out: Path
) -> Evaluation:
    """Evaluate a policy, or the experts if `None`; print the table, save JSON, contact sheet and videos under `out`."""
    started = time.monotonic()
    with bar() as progress:
        task = progress.add_task("evaluation", total=len(tasks) * config.episodes)

        def show(done: int, successes: int) -> None:
            progress.update(task, completed=done)

        evaluation = evaluate(policy, env, tasks, config, seed, show) if policy else evaluate_experts(env, tasks, config, show)
    print(format_table(evaluation))
    out.mkdir(parents=True, exist_ok=True)
    evaluation.save(out / "evaluation.json")
    if policy and config.videos:
        seeds = SEED_RANGES[config.split][config.skip :][: min(SHEET_EPISODES, config.episodes)]
        save_media(policy, env, [Episode(task, seed) for task in tasks for seed in seeds], config.videos, out)
    print(f"evaluated {evaluation.episodes} episodes in {time.monotonic() - started:.0f} s; results in {out}")
    return evaluation


def _require_drawing(policy: Policy, env: VecEnv, config: Config) -> None:
    """Draw an image, or a picture if videos are wanted of a policy that sees none: a missing renderer shows now, not after training."""
    env.reset([0], [SEED_RANGES["train"][0]], [config.sim.tasks[0]])
    if config.evaluate.videos and not policy.spec.of_kind("image"):
        env.step_chunk(np.zeros((1, 1, policy.spec.action.dim), np.float32), [0], "all")


def _check(config: Config) -> None:
    """Refuse a config whose parts do not fit before anything is started or written."""
    algorithm, name = config.algorithm, config.algorithm.name
    require_device(config.compute.device)
    if isinstance(algorithm, SftConfig):
        if not isinstance(config.sim.resets, DefaultResets):
            raise UserError(f"sft starts no training episodes: sim.resets '{config.sim.resets.name}' has no use, remove it")
        if config.data.path is None:
            raise UserError("sft needs demonstrations: set data.path to a LeRobotDataset folder, for example one made by `vla-rl collect`")
        return
    if config.init is None:
        raise UserError(f"{name} starts from a student: set init to a policy folder, for example one trained by sft")
    make_starts(config.sim)
    needs_teacher = _needs_teacher(algorithm)
    if needs_teacher == (config.teacher is None):
        wanted = "needs a teacher: set teacher to a policy folder or `expert`" if needs_teacher else "takes no teacher: remove it"
        raise UserError(f"{_described(algorithm, name)} {wanted}")


def _needs_teacher(algorithm: OnPolicyConfig) -> bool:
    if isinstance(algorithm, OpdConfig):
        return algorithm.signal != "constant_negative"
    return isinstance(algorithm, DaggerConfig) or (isinstance(algorithm, GrpoConfig) and algorithm.distill > 0)


def _described(algorithm: OnPolicyConfig, name: str) -> str:
    if isinstance(algorithm, OpdConfig):
        return f"opd with signal {algorithm.signal}"
    return f"grpo with distill {algorithm.distill:g}" if isinstance(algorithm, GrpoConfig) else name


def build(config: Config, policy: Policy) -> Algorithm:
    """The algorithm of a config on a policy. Raises `SpecError` for a head or a teacher that it cannot work with."""
    require_capabilities(config.algorithm, policy, config.teacher == "expert")
    accumulate, teacher = config.compute.accumulate, _teacher(config, policy)
    match config.algorithm:
        case SftConfig():
            return Sft(policy, config.algorithm, accumulate)
        case PpoConfig():
            return Ppo(policy, config.algorithm, accumulate)
        case DaggerConfig():
            assert teacher is not None
            return Dagger(policy, config.algorithm, teacher, accumulate)
        case OpdConfig():
            return Opd(policy, config.algorithm, teacher, _start_policy(config, config.algorithm.reward_scale != 1), accumulate)
        case GrpoConfig():
            return Grpo(policy, config.algorithm, teacher, _start_policy(config, config.algorithm.reference_kl > 0), accumulate)


def _teacher(config: Config, student: Policy) -> Teacher | None:
    if config.teacher is None:
        return None
    if config.teacher == "expert":
        assert isinstance(config.algorithm, OnPolicyConfig)
        return ExpertTeacher(student, config.algorithm.expert_std)
    teacher = prepare(load_policy(Path(config.teacher)), config.compute)
    if isinstance(config.algorithm, DaggerConfig):  # only its chunks are used, so that its head does not matter
        student.spec.require_same(teacher.spec, "student and teacher")
    else:
        require_same_family(student, teacher)
    return PolicyTeacher(teacher)


def _start_policy(config: Config, wanted: bool) -> Policy | None:
    """The frozen reference: the policy that training starts from."""
    assert config.init is not None
    return prepare(load_policy(config.init), config.compute) if wanted else None


def _load(config: Config, spec: PolicySpec) -> Demos | None:
    if config.data.path is None:
        return None
    return load_demos(config.data.path, spec, config.data.tasks or config.sim.tasks, config.data.episodes_per_task)


def _fit(run: Run, algorithm: Algorithm, demos: Demos | None, env: VecEnv) -> Progress:
    if isinstance(algorithm, Sft):
        assert demos is not None
        return offline(run, algorithm, demos)
    return on_policy(run, algorithm, env)


def _curve(run: Run) -> list[dict[str, Any]]:
    """Rows with success: that of the rollouts, and on validation seeds where it was measured. Empty for offline training."""
    names = ("update", "episodes", "decisions", "wall_s", "rollout_success", "validation_success")
    rows = [row for row in run.rows if "rollout_success" in row or "validation_success" in row]
    return [{name: value for name, value in row.items() if name in names or is_kept(name)} for row in rows]
