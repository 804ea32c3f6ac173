"""Training loops, checkpoints and guards, on a simulator that needs no time."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.config import DiffusionHeadConfig, FlowHeadConfig, HeadConfig, MeanFlowHeadConfig, PolicyConfig, TokenHeadConfig
from policies.interface import SpecError, UserError
from policies.vla import VlaPolicy
from tests.policies import helpers
from tests.vla_rl.counting import SPEC, CountingEnv, counting_policy
from vla_rl import checkpoint
from vla_rl.algorithms.opd import Opd
from vla_rl.algorithms.sft import Sft, drop_states, random_shift
from vla_rl.batch import Batch, Episode
from vla_rl.checkpoint import list_checkpoints
from vla_rl.config import Config, OpdConfig, SftConfig, SimConfig
from vla_rl.data.demos import Demos
from vla_rl.errors import NonFiniteError, Stopped
from vla_rl.loops import offline, on_policy
from vla_rl.optimize import schedule
from vla_rl.rollout import run_episodes
from vla_rl.run import Run
from vla_rl.teachers import ExpertTeacher, PolicyTeacher, Teacher, require_same_family

OPD = OpdConfig(updates=4, episodes=6, passes=2, minibatch=16, checkpoint_every=2)
SFT = SftConfig(steps=12, batch=8, checkpoint_every=5, log_every=3, warmup=2)


def config(algorithm: OpdConfig | SftConfig) -> Config:
    return Config(algorithm=algorithm, sim=SimConfig(tasks=CountingEnv.tasks))


def opd_run(folder: Path, resume: bool = False, settings: OpdConfig = OPD) -> tuple[Run, Opd]:
    policy = counting_policy(seed=0)
    return Run(folder, config(settings), resume), Opd(policy, settings, PolicyTeacher(counting_policy(seed=1)))


def demos(seed: int = 0) -> Demos:
    rng = np.random.default_rng(seed)
    obs = {
        "observation.images.front": rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8),
        "observation.state": rng.uniform(0, 10, (40, 1)).astype(np.float32),
        "task": np.array(["please count", "please wait"] * 20),
    }
    return Demos(obs, rng.uniform(-1, 1, (40, 1)).astype(np.float32), np.repeat(np.arange(4), 10), ("count", "wait") * 2)


def weights(policy: VlaPolicy) -> torch.Tensor:
    return torch.cat([value.flatten() for value in policy.state_dict().values()])


def metrics(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.endswith("_s")} for row in rows]


def test_on_policy_run_resumed_after_a_crash_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, whole = opd_run(tmp_path / "whole")
    progress = on_policy(run, whole, CountingEnv(3))
    assert (progress.updates, progress.episodes) == (4, 24)
    run, killed = opd_run(tmp_path / "killed")
    update, calls = killed.update, []

    def crash_at_the_fourth(batch: Batch, generator: torch.Generator) -> dict[str, float]:
        calls.append(batch.version)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return update(batch, generator)

    monkeypatch.setattr(killed, "update", crash_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        on_policy(run, killed, CountingEnv(3))
    run, resumed = opd_run(tmp_path / "killed", resume=True)  # from update 2: the third update's row is from a lost future
    again = on_policy(run, resumed, CountingEnv(3))
    assert torch.equal(weights(resumed.policy), weights(whole.policy))
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert (again.episodes, again.decisions, again.teacher_queries) == (progress.episodes, progress.decisions, progress.teacher_queries)


def test_offline_run_stopped_by_a_signal_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    whole = Sft(counting_policy(), SFT)
    offline(Run(tmp_path / "whole", config(SFT), resume=False), whole, demos())
    stopped = Sft(counting_policy(), SFT)
    step = stopped.update

    def interrupt_in_step_seven(*args: object) -> dict[str, float]:
        if args[3] == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stopped, "update", interrupt_in_step_seven)
    with pytest.raises(Stopped, match=r"stopped after update 7; checkpoint .*000007; continue with --resume"):
        offline(Run(tmp_path / "stopped", config(SFT), resume=False), stopped, demos())
    resumed = Sft(counting_policy(), SFT)
    offline(Run(tmp_path / "stopped", config(SFT), resume=True), resumed, demos())
    assert torch.equal(weights(resumed.policy), weights(whole.policy))


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    data = demos()
    algorithm = Sft(counting_policy(), SFT)
    step = algorithm.update

    def poison(obs: dict[str, np.ndarray], *args: object) -> dict[str, float]:
        if args[2] == 8:
            obs = obs | {"observation.state": np.full_like(obs["observation.state"], np.nan)}
        return step(obs, *args)  # type: ignore[arg-type]

    algorithm.update = poison  # type: ignore[method-assign, assignment]
    with pytest.raises(NonFiniteError, match="the loss is nan"):
        offline(Run(tmp_path, config(SFT), resume=False), algorithm, data)
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["000005"]
    assert torch.isfinite(weights(algorithm.policy)).all()


def test_a_run_folder_is_not_overwritten(tmp_path: Path) -> None:
    Run(tmp_path, config(SFT), resume=False)
    with pytest.raises(UserError, match="already holds a run; continue it with --resume"):
        Run(tmp_path, config(SFT), resume=False)


def test_a_resumed_run_keeps_its_settings(tmp_path: Path) -> None:
    Run(tmp_path, config(SFT), resume=False)
    Run(tmp_path, config(SFT), resume=True)
    with pytest.raises(UserError, match=r"started with algorithm.lr = 0.001, now 0.1; a resumed run keeps its settings"):
        Run(tmp_path, config(SFT.model_copy(update={"lr": 0.1})), resume=True)


def test_a_torn_last_row_is_dropped_on_resume(tmp_path: Path) -> None:
    run = Run(tmp_path, config(SFT), resume=False)
    (tmp_path / "metrics.jsonl").write_text('{"update": 1, "loss": 2.0}\n{"update": 2, "lo')
    run.start_at(2)
    assert run.rows == [{"update": 1, "loss": 2.0}]
    run.close()


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = counting_policy()
    optimizer = torch.optim.AdamW(policy.parameters())
    checkpoint.save_checkpoint(tmp_path, policy, optimizer, checkpoint.Progress(updates=1))

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match=r"000002 cannot be written: .*No space left.*; the one before it stays"):
        checkpoint.save_checkpoint(tmp_path, policy, optimizer, checkpoint.Progress(updates=2))
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run, algorithm = opd_run(tmp_path)
    on_policy(run, algorithm, CountingEnv(3))
    (tmp_path / "checkpoints" / "000004" / "optimizer.safetensors").write_bytes(b"short")
    run, algorithm = opd_run(tmp_path, resume=True)
    with pytest.raises(UserError, match="000004 cannot be read"):
        on_policy(run, algorithm, CountingEnv(3))


def rollouts(policy: VlaPolicy, teacher: Teacher | None = None) -> Batch:
    labeller = teacher.chunk if teacher else None
    batch, _ = run_episodes(policy, CountingEnv(4), [Episode("count", 99)] * 8, mode="stochastic", seed=0, keep=True, labeller=labeller)
    assert batch is not None
    return batch


@pytest.mark.parametrize(
    "settings",
    [
        OpdConfig(),
        OpdConfig(signal="forward_kl"),
        OpdConfig(estimator="sampled"),
    ],
    ids=["reverse", "forward", "sampled"],
)
def test_opd_moves_the_student_towards_the_teacher(settings: OpdConfig) -> None:
    algorithm = Opd(counting_policy(seed=0), settings.model_copy(update={"lr": 1e-3}), PolicyTeacher(counting_policy(seed=1)))
    losses = [algorithm.update(rollouts(algorithm.policy), torch.Generator().manual_seed(0))["reverse_kl"] for _ in range(6)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_last_minibatch_of_one_decision_is_fine() -> None:
    batch = rollouts(counting_policy())
    settings = OpdConfig(minibatch=len(batch) - 1, passes=1)
    Opd(counting_policy(), settings, PolicyTeacher(counting_policy(seed=1))).update(batch, torch.Generator().manual_seed(0))


def test_cross_entropy_collapses_onto_the_teachers_mode() -> None:
    algorithm = Opd(counting_policy(seed=0), OpdConfig(signal="cross_entropy", lr=1e-3), PolicyTeacher(counting_policy(seed=1)))
    metrics = [algorithm.update(rollouts(algorithm.policy), torch.Generator().manual_seed(0)) for _ in range(8)]
    assert metrics[-1]["entropy"] < 0.3 * metrics[0]["entropy"]
    assert metrics[-1]["loss"] < 0.3 * metrics[0]["loss"]


def test_expert_as_teacher_pulls_actions_to_its_chunk() -> None:
    policy = counting_policy()
    algorithm = Opd(policy, OpdConfig(lr=1e-3), ExpertTeacher(policy, std=0.2))
    for _ in range(8):
        algorithm.update(rollouts(policy, algorithm.teacher), torch.Generator().manual_seed(0))
    chunk, _ = policy.sample(policy.encode(rollouts(policy).obs), "greedy")
    assert chunk.unique().tolist() == [0.5]  # the counting expert's action, a bin centre


def test_control_without_teacher_only_lowers_what_was_sampled() -> None:
    policy = counting_policy()
    algorithm = Opd(policy, OpdConfig(signal="constant_negative", passes=1, minibatch=1000), None)
    batch = rollouts(policy)
    before = policy.factors(policy.encode(batch.obs), batch.decision, batch.mask).log_prob()[batch.mask.flatten(1)].mean()
    algorithm.update(batch, torch.Generator().manual_seed(0))
    after = policy.factors(policy.encode(batch.obs), batch.decision, batch.mask).log_prob()[batch.mask.flatten(1)].mean()
    assert after < before - 0.01


def test_teacher_of_another_family_is_refused() -> None:
    student = counting_policy()
    require_same_family(student, counting_policy(seed=1))
    with pytest.raises(SpecError, match=r"student and teacher disagree on head\.bins: 5 against 7"):
        require_same_family(student, VlaPolicy(PolicyConfig(head=TokenHeadConfig(bins=7)), SPEC))
    with pytest.raises(SpecError, match="student and teacher disagree on chunk: 4 against 6"):
        require_same_family(student, VlaPolicy(PolicyConfig(head=TokenHeadConfig(bins=5)), SPEC.model_copy(update={"chunk": 6})))
    shifted = counting_policy()
    shifted.normalizer["action"].low.fill_(-2)
    with pytest.raises(SpecError, match=r"disagree on normalisation affine.action.low"):
        require_same_family(student, shifted)


@pytest.mark.parametrize(
    ("head", "change", "message"),
    [
        (FlowHeadConfig(), {"steps": 8}, "head.steps: 4 against 8"),
        (FlowHeadConfig(), {"noise": "cps"}, "head.noise: flow_sde against cps"),
        (FlowHeadConfig(), {"noise_level": 0.7}, "head.noise_level: 0.5 against 0.7"),
        (FlowHeadConfig(), {"stochastic": "all"}, "head.stochastic: one against all"),
        (FlowHeadConfig(), {"min_std": 0.1}, "head.min_std: 0.02 against 0.1"),
        (DiffusionHeadConfig(), {"steps": 5}, "head.steps: 10 against 5"),
        (DiffusionHeadConfig(), {"train_steps": 50}, "head.train_steps: 100 against 50"),
        (DiffusionHeadConfig(), {"schedule": "linear"}, "head.schedule: squaredcos_cap_v2 against linear"),
        (DiffusionHeadConfig(), {"sampler": "ddpm"}, "head.sampler: ddim against ddpm"),
        (DiffusionHeadConfig(), {"eta": 0.5}, "head.eta: 1.0 against 0.5"),
        (MeanFlowHeadConfig(), {"exploration_std": 0.3}, "head.exploration_std: 0.1 against 0.3"),
    ],
)
def test_a_teacher_with_another_noise_process_is_refused(head: HeadConfig, change: dict[str, object], message: str) -> None:
    def policy(settings: HeadConfig) -> VlaPolicy:
        return VlaPolicy(PolicyConfig(head=settings, chunk=4, executed=3), SPEC)

    require_same_family(policy(head), policy(head))
    with pytest.raises(SpecError, match=f"student and teacher disagree on {message}"):
        require_same_family(policy(head), policy(head.model_copy(update=change)))
    with pytest.raises(SpecError, match=r"student and teacher disagree on head\.name"):
        require_same_family(policy(head), counting_policy())


def test_learning_rate_schedule_by_hand() -> None:
    assert [schedule(step, 110, 10) for step in (0, 9, 10, 60, 110)] == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])


def test_random_shift_repeats_the_border() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, -1)
    shifted = {random_shift(image, 1, torch.Generator().manual_seed(seed))[0, :, :, 0].numpy().tobytes() for seed in range(200)}
    padded = np.pad(image[0, :, :, 0], 1, mode="edge")
    assert shifted == {padded[y : y + 4, x : x + 4].tobytes() for y in range(3) for x in range(3)}


def test_state_dropout_hides_whole_rows_and_nothing_else() -> None:
    obs = helpers.observations(400)
    seen = drop_states(obs, helpers.SPEC, 0.25, torch.Generator().manual_seed(0))
    hidden = (torch.as_tensor(seen[helpers.STATE]) == torch.tensor([0.0, 0.5])).all(1).numpy()  # the middle of the spec's ranges
    assert 70 <= hidden.sum() <= 130
    assert np.array_equal(np.asarray(seen[helpers.STATE])[~hidden], obs[helpers.STATE][~hidden])
    assert all(seen[name] is obs[name] for name in (helpers.IMAGE, helpers.TEXT))
