"""Evaluation with a one-number robot: the arm moves by the action, tasks want it at +6 or −6 steps."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch

import sim
from policies.factors import Decision
from policies.interface import ActionSpec, Entry, PolicySpec, UserError
from sim.tasks import TASKS
from sim.vec_env import SEED_RANGES, ChunkStep, Demonstration, EnvSpec, SimulationError
from tests.vla_rl.independent import Independent
from vla_rl.batch import Episode
from vla_rl.config import EvalConfig
from vla_rl.evaluate import Evaluation, TaskResult, _of_expert, evaluate, evaluate_experts, format_table
from vla_rl.statistics import wilson
from vla_rl.video import record, save_media

HORIZON = 8
ENTRIES = (Entry(name="camera", kind="image", shape=(16, 16, 3)), Entry(name="task", kind="text"))
ACTION = ActionSpec(names=("x",), representation="delta", low=(-1.0,), high=(1.0,))
DIRECTION = {"faucet-open": 1, "faucet-close": -1}


@dataclass
class Done:
    value: object

    def result(self):
        return self.value


class LineEnv(Independent):
    """Even seeds start at 0, so 6 steps in the right direction succeed; odd seeds start too far away."""

    spec = EnvSpec(embodiment="line", entries=ENTRIES, action=ACTION, control_hz=10.0)
    num_envs = 3
    tasks = ("faucet-open", "faucet-close", "wait")

    def __init__(self):
        self.task, self.x, self.t = {}, {}, {}

    def reset(self, env_ids, seeds, tasks):
        for i, seed, task in zip(env_ids, seeds, tasks, strict=True):
            self.task[i], self.t[i] = task, 0
            self.x[i] = -20 * (seed % 2) * DIRECTION.get(task, 0)
        return self._obs(list(env_ids))

    def submit_reset(self, env_ids, seeds, tasks, starts=None):
        assert not any(starts), "evaluation starts from the tasks' own distribution"
        return Done(self.reset(env_ids, seeds, tasks))

    def submit_chunk(self, actions, env_ids, render="last"):
        return Done(self.step_chunk(actions, env_ids, render))

    def step_chunk(self, actions, env_ids, render="last"):
        n, k = actions.shape[:2]
        success, executed, frames = np.zeros((n, k), bool), np.zeros(n, np.int64), []
        for step in range(k):
            for row, i in enumerate(env_ids):
                if executed[row] < step or self._success(i) or self.t[i] >= HORIZON:
                    continue
                self.x[i] += float(actions[row, step, 0])
                self.t[i] += 1
                executed[row] += 1
                success[row, step] = self._success(i)
            frames.append(self._obs(env_ids))
        terminated = success.any(1)
        truncated = np.array([self.t[i] >= HORIZON for i in env_ids]) & ~terminated
        obs = self._obs(env_ids)
        reward, diverged, shown = success.astype(np.float32), np.zeros(n, bool), tuple(frames) if render == "all" else ()
        return ChunkStep(obs, reward, success, terminated, truncated, executed, diverged, shown)

    def _success(self, i):
        return self.t[i] >= 2 if self.task[i] == "wait" else self.x[i] * DIRECTION[self.task[i]] >= 6

    def _obs(self, env_ids):
        images = np.stack([np.full((16, 16, 3), 10 * self.t[i], np.uint8) for i in env_ids])
        return {"camera": images, "task": np.array([f"please {self.task[i]}" for i in env_ids])}


class ReadingPolicy:
    """Goes where the instruction says."""

    spec = PolicySpec(embodiment="line", entries=ENTRIES, action=ACTION, control_hz=10.0, chunk=4, executed=4)

    def encode(self, obs):
        self.spec.check(obs)
        return torch.tensor([DIRECTION.get(str(text).removeprefix("please "), 0) for text in obs["task"]], dtype=torch.float32)

    def sample(self, context, mode="stochastic", temperature=1.0, generator=None):
        assert mode == "greedy"
        return context[:, None, None].expand(-1, 4, 1).clone(), Decision({"tokens": torch.zeros(len(context), 4)}, mode, temperature)

    def factors(self, context, decision, mask):
        return SimpleNamespace(log_prob=lambda: torch.zeros(len(context), 4))


def run(tasks=LineEnv.tasks, **settings):
    return evaluate(ReadingPolicy(), LineEnv(), tasks, EvalConfig(**{"episodes": 4} | settings), seed=0)


def test_outcomes_steps_and_seeds_are_those_of_the_episodes():
    evaluation = run()
    opened, closed, waited = evaluation.tasks
    assert (opened.task, opened.outcomes, opened.at_end, opened.steps) == ("faucet-open", "1010", "1010", (6, 8, 6, 8))
    assert (closed.outcomes, waited.outcomes, waited.steps) == ("1010", "1111", (2, 2, 2, 2))
    assert opened.first_seed == SEED_RANGES["test"].start
    assert (opened.success, opened.mean_steps_to_success, opened.interval) == (0.5, 6.0, wilson(2, 4))
    assert evaluation.success == pytest.approx(8 / 12)
    assert (evaluation.interval, evaluation.episodes) == (wilson(8, 12), 12)
    assert run(split="validation").tasks[0].first_seed == SEED_RANGES["validation"].start
    assert run(skip=50).tasks[0].first_seed == SEED_RANGES["test"].start + 50


def test_wrong_instructions_fail_where_language_decides():
    evaluation = run(shuffled=True)
    assert evaluation.tasks == run().tasks
    assert {row.task: row.outcomes for row in evaluation.shuffled} == {"faucet-open": "0000", "faucet-close": "0000", "wait": "1111"}
    assert all(name != row.task for row in evaluation.shuffled for name in row.told)
    assert {row.task: row.outcomes for row in evaluation.swapped} == {"faucet-open": "0000", "faucet-close": "0000"}
    assert evaluation.swapped[0].told == ("faucet-close",) * 4


def test_no_swapped_rows_without_a_shared_scene():
    assert run(tasks=("faucet-open", "wait"), shuffled=True).swapped == ()


@pytest.mark.parametrize(
    ("tasks", "settings", "message"),
    [
        ((), {}, "each task once"),
        (("faucet-open", "faucet-open"), {}, "each task once"),
        (("lift",), {}, "lift"),
        (("wait",), {"shuffled": True}, "at least two tasks"),
        (("wait",), {"episodes": 100_001}, "100000 seeds"),
    ],
)
def test_impossible_requests_are_refused(tasks, settings, message):
    with pytest.raises(UserError, match=message):
        run(tasks, **settings)


def test_json_round_trip_recomputes_what_is_derived(tmp_path):
    evaluation = run(shuffled=True)
    path = tmp_path / "evaluation.json"
    evaluation.save(path)
    assert Evaluation.load(path) == evaluation
    tree = json.loads(path.read_text())
    assert tree["success"] == evaluation.success
    tree["success"] = 0.99
    path.write_text(json.dumps(tree))
    assert Evaluation.load(path).success == evaluation.success


def test_damaged_files_are_refused_with_the_field(tmp_path):
    path = tmp_path / "evaluation.json"
    with pytest.raises(FileNotFoundError, match="evaluation"):
        Evaluation.load(path)
    path.write_text('{"split": "test", "tasks": [], "sucess": 1}')
    with pytest.raises(UserError, match="sucess"):
        Evaluation.load(path)
    with pytest.raises(ValueError, match="one outcome"):
        TaskResult(task="wait", first_seed=0, outcomes="11", at_end="1", steps=(1, 2))


def test_pairing_needs_the_same_initial_states():
    run().require_paired(run(), "a and b")
    with pytest.raises(UserError, match="a and b were not evaluated on the same"):
        run().require_paired(run(episodes=5), "a and b")


def test_experts_are_evaluated_from_the_seeds_of_policies():
    config = EvalConfig(episodes=5, skip=3)
    seen = []
    with sim.make("mujoco", ("reach", "drawer"), 4, 1, image_px=16) as env:
        found = evaluate_experts(env, ("reach", "drawer"), config, lambda *progress: seen.append(progress))
        with pytest.raises(UserError, match="experts know the task without its instruction"):
            evaluate_experts(env, ("reach",), EvalConfig(shuffled=True))
    assert [(t.task, t.first_seed, t.outcomes, t.at_end) for t in found.tasks] == [
        (t, 2_000_003, "11111", "11111") for t in ("reach", "drawer")
    ]
    assert seen[-1] == (10, 10)
    assert all(0 < steps < TASKS[row.task].horizon for row in found.tasks for steps in row.steps)
    found.require_paired(found.model_copy(), "a copy")


def test_an_expert_that_only_passes_the_goal_is_not_there_at_the_end():
    """Success at the second of four steps, and a failure, by hand."""
    passed, failed = np.array([False, True, False, False]), np.zeros(4, bool)
    rows = [
        Demonstration("reach", seed, "", {}, np.zeros((4, 7)), np.zeros((4, 7)), success) for seed, success in enumerate((passed, failed))
    ]
    row = _of_expert("reach", 0, rows)
    assert (row.outcomes, row.at_end, row.steps) == ("10", "00", (2, 4))


def test_table_shows_rates_and_intervals():
    table = format_table(run(shuffled=True))
    row = next(line for line in table.splitlines() if line.startswith("faucet-open"))
    assert " ".join(row.split()) == "faucet-open 50 % 15 – 85 % 50 % 4 6 0 % 0 %"
    assert "67 %" in next(line for line in table.splitlines() if line.startswith("mean"))


def test_recording_keeps_every_step_and_agrees_with_the_evaluation():
    first = SEED_RANGES["test"].start
    episodes = [Episode("faucet-open", first + i) for i in range(4)]
    every, last = (record(ReadingPolicy(), LineEnv(), episodes, render) for render in ("all", "last"))
    assert [r.success for r in every] == [r.success for r in last] == [True, False, True, False]
    assert [r.steps for r in every[:2]] == [tuple(range(7)), tuple(range(9))]
    assert [int(frame[0, 0, 0]) for frame in every[0].frames] == [10 * t for t in range(7)]
    assert last[0].steps == (0, 4, 6)
    misled = record(ReadingPolicy(), LineEnv(), [Episode("faucet-open", first, "please faucet-close")])
    assert not misled[0].success


class OneTaskEach(LineEnv):
    """Environments that hold one scene each, as in Isaac Lab."""

    def hosts(self, env_id):
        return (self.tasks[env_id % len(self.tasks)],)

    def reset(self, env_ids, seeds, tasks):
        assert all(task in self.hosts(env_id) for env_id, task in zip(env_ids, tasks, strict=True))
        return super().reset(env_ids, seeds, tasks)


def test_recording_seats_each_task_where_it_can_run():
    episodes = [Episode(task, SEED_RANGES["test"].start + i) for task in ("wait", "faucet-open") for i in range(3)]
    found = record(ReadingPolicy(), OneTaskEach(), episodes)
    assert [(r.episode, r.success, r.steps) for r in found] == [
        (r.episode, r.success, r.steps) for r in record(ReadingPolicy(), LineEnv(), episodes)
    ]
    with pytest.raises(SimulationError, match="no environment runs lift"):
        record(ReadingPolicy(), OneTaskEach(), [Episode("lift", 0)])


def test_videos_and_contact_sheet_can_be_read_back(tmp_path):
    first = SEED_RANGES["test"].start
    episodes = [Episode(task, first + i) for task in ("faucet-open", "wait") for i in range(2)]
    save_media(ReadingPolicy(), LineEnv(), episodes, 1, tmp_path)
    assert sorted(p.name for p in (tmp_path / "videos").iterdir()) == [f"faucet-open-{first}.mp4", f"wait-{first}.mp4"]
    with av.open(str(tmp_path / "videos" / f"faucet-open-{first}.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 7 + 10  # first frame and 6 steps, then one second at 10 Hz
    assert (frames[0].width, frames[0].height) == (384, 452)
    sheet = cv2.imread(str(tmp_path / "contact_sheet.png"))
    assert sheet is not None and sheet.shape == (2 * (160 + 38) + 8, 2 * 168 + 8, 3)
    _, green, red = sheet[34 + 80, 9]
    assert green > 100 > red, "the first episode succeeded: green border"
    _, green, red = sheet[34 + 80, 177]
    assert red > 200 > green, "the second did not"
