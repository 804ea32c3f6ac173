import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from policies.interface import UserError
from vla_rl.grid import GridError, _execute, load_grid, run_grid

ROOT = Path(__file__).parents[2]

GRID = """
name: tiny
seeds: [0, 1]
cells:
  demos: {collect: ../demos.yaml, seeds: [0]}
  teacher: {preset: ../sft.yaml, data: demos, seeds: [7]}
  student: {preset: ../sft.yaml, data: demos, set: {data.episodes_per_task: 2}}
  opd: {preset: ../opd.yaml, init: student, teacher: teacher, set: {algorithm.estimator: exact, evaluate.shuffled: true, sim.tasks: [a, b]}}
"""
ELSEWHERE = GRID + "  elsewhere: {evaluate: opd, seeds: [1], set: {sim.backend: mujoco, evaluate.episodes: 300}}\n"
RESULT = {"evaluation": {"success": 0.5}, "episodes": 4, "teacher_queries": 2, "updates": 1, "wall_s": 3.0, "curve": []}


class Lab:
    """A grid in a temporary folder and a stand-in for `vla-rl` that writes what it is asked for."""

    def __init__(self, root: Path, text: str = GRID):
        self.root, self.path, self.runs = root, root / "configs" / "grids" / "tiny.yaml", root / "runs"
        self.path.parent.mkdir(parents=True)
        for name in ("demos", "sft", "opd"):
            (root / "configs" / f"{name}.yaml").write_text("seed: 0\n")
        self.path.write_text(text)
        self.commands: list[list[str]] = []
        self.result = json.dumps(RESULT)

    def execute(self, command, log):
        assert command[:3] == [sys.executable, "-m", "vla_rl.cli"]
        self.commands.append(command[3:])
        folder = Path(command[6])
        if command[3] == "eval":
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "evaluation.json").write_text(json.dumps(RESULT["evaluation"]))
            return
        if command[3] == "collect":
            folder.mkdir(parents=True, exist_ok=True)
            return
        (folder / "policy").mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(self.result)

    def run(self, *only, dry_run=False):
        self.commands.clear()
        run_grid(self.path, only, self.runs, dry_run, execute=self.execute)
        return [self.name(command) for command in self.commands]

    def name(self, command):
        return Path(command[3]).parent.name if command[0] == "collect" else Path(command[3]).name

    def record(self, name):
        return self.root / "configs" / "results" / "tiny" / f"{name}.json"


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


ALL = ["demos-s0", "teacher-s7", "student-s0", "student-s1", "opd-s0", "opd-s1"]


def test_runs_in_dependency_order_with_resolved_references(lab):
    assert lab.run() == ALL
    runs = lab.runs / "tiny"
    assert lab.commands[0][2:] == ["--out", str(runs / "demos-s0" / "dataset"), "--seed", "0"]
    assert lab.commands[3][2:] == [
        "--run-dir", str(runs / "student-s1"), "--seed", "1",
        "--data.path", str(runs / "demos-s0" / "dataset"), "--data.episodes_per_task", "2",
    ]  # fmt: skip
    assert lab.commands[5][2:] == [
        "--run-dir", str(runs / "opd-s1"), "--seed", "1",
        "--init", str(runs / "student-s1" / "policy"), "--teacher", str(runs / "teacher-s7" / "policy"),
        "--algorithm.estimator", "exact", "--evaluate.shuffled", "True", "--sim.tasks", "a", "b",
    ]  # fmt: skip


def test_records_say_where_numbers_come_from(lab):
    lab.run()
    record = json.loads(lab.record("opd-s1").read_text())
    assert (record["grid"], record["cell"], record["seed"], record["kind"]) == ("tiny", "opd", 1, "train")
    assert record["command"].startswith("vla-rl train ")
    assert "runs/tiny/student-s1/policy" in record["command"] and str(lab.runs) not in record["command"]
    assert record["result"] == RESULT
    assert {"commit", "dirty", "machine", "packages", "python", "minutes"} <= set(record)
    assert json.loads(lab.record("demos-s0").read_text())["result"] == {}


def test_a_cell_evaluates_the_policy_of_another_elsewhere(tmp_path):
    lab = Lab(tmp_path, ELSEWHERE)
    assert lab.run("elsewhere")[-1] == "elsewhere-s1"
    opd, out = (str(lab.runs / "tiny" / name) for name in ("opd-s1", "elsewhere-s1"))
    assert lab.commands[-1] == ["eval", opd, "--out", out, "--seed", "1", "--sim.backend", "mujoco", "--evaluate.episodes", "300"]
    record = json.loads(lab.record("elsewhere-s1").read_text())
    assert record["kind"] == "evaluate" and record["preset"] == {}
    assert record["command"].startswith("vla-rl eval runs/tiny/opd-s1 --out runs/tiny/elsewhere-s1")
    assert record["result"]["evaluation"] == RESULT["evaluation"] and record["result"]["episodes"] == 0
    assert lab.run("elsewhere") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{evaluate: demos}", "evaluate must name a cell with preset, 'demos' is not one"),
        ("{evaluate: runs/other/policy}", "evaluate must name a cell; `vla-rl eval`"),
        ("{evaluate: opd, teacher: teacher}", "only a cell that trains, with preset, has init, teacher or data"),
        ("{evaluate: opd, preset: ../sft.yaml}", "exactly one of preset, collect and evaluate"),
    ],
)
def test_refuses_a_wrong_evaluation(tmp_path, line, message):
    with pytest.raises(GridError, match=message):
        load_grid(Lab(tmp_path, f"{GRID}  elsewhere: {line}\n").path)


def test_finished_runs_are_skipped(lab):
    lab.run()
    assert lab.run() == []
    lab.record("opd-s1").unlink()
    assert lab.run() == ["opd-s1"]
    assert lab.commands[0][-1] == "--resume"


def test_only_runs_the_named_cells_and_what_they_need(lab):
    assert lab.run("student") == ["demos-s0", "student-s0", "student-s1"]
    with pytest.raises(GridError, match="did you mean 'student'"):
        lab.run("studnt")


def test_finished_cells_without_their_files_run_again_only_where_needed(lab):
    """A fresh clone has the records but no run folders."""
    lab.run()
    lab.runs.rename(lab.root / "elsewhere")
    assert lab.run() == []
    lab.record("opd-s1").unlink()
    assert lab.run() == ["demos-s0", "teacher-s7", "student-s1", "opd-s1"]


def test_a_run_that_ends_differently_when_done_again_is_not_mixed_with_recorded_ones(lab):
    lab.run()
    shutil.rmtree(lab.runs)
    lab.record("opd-s1").unlink()
    lab.result = json.dumps(RESULT | {"evaluation": {"success": 0.6}})
    for _ in range(2):  # also when asked again
        with pytest.raises(
            GridError, match=r"teacher-s7 .* reached 0.6, its record says 0.5 .* delete the records of teacher-s7, opd-s0 in"
        ):
            lab.run()
    assert json.loads(lab.record("teacher-s7").read_text())["result"]["evaluation"]["success"] == 0.5
    for name in ("teacher-s7", "opd-s0", "student-s0", "student-s1"):
        lab.record(name).unlink()
    assert lab.run() == ["teacher-s7", "student-s0", "student-s1", "opd-s0", "opd-s1"]


def test_a_failing_run_stops_the_grid_and_is_resumed(lab):
    good = lab.execute

    def fail(command, log):
        good(command, log)
        if "--init" in command:
            raise GridError(f"a run failed, log: {log}")

    lab.execute = fail
    with pytest.raises(GridError, match=r"opd-s0\.log"):
        lab.run()
    assert not lab.record("opd-s0").exists() and lab.record("student-s1").exists()
    lab.execute = good
    assert lab.run() == ["opd-s0", "opd-s1"]
    assert ["--resume" in command for command in lab.commands] == [True, False]


def test_a_diverged_run_leaves_no_record(lab):
    lab.result = json.dumps(RESULT | {"wall_s": float("nan")})
    with pytest.raises(GridError, match="NaN"):
        lab.run("teacher")
    assert not lab.record("teacher-s7").exists()


def test_a_run_that_leaves_no_weights_is_a_failure(lab):
    lab.run("demos")
    with pytest.raises(GridError, match=r"teacher.* without writing .*policy"):
        run_grid(lab.path, ("teacher",), lab.runs, execute=lambda command, log: None)


def test_changed_settings_are_not_mistaken_for_finished_or_resumable(lab):
    lab.run()
    lab.path.write_text(GRID.replace("estimator: exact", "estimator: sampled"))
    with pytest.raises(GridError, match="another command") as error:
        lab.run()
    assert "exact" in str(error.value) and "sampled" in str(error.value)
    lab.record("opd-s0").unlink()
    lab.record("opd-s1").unlink()
    with pytest.raises(GridError, match=r"opd-s0 holds a run of another command"):
        lab.run()


def test_an_edited_preset_is_another_run(lab):
    lab.run()
    (lab.root / "configs" / "opd.yaml").write_text("seed: 0\nthreads: 1\n")
    with pytest.raises(GridError, match=r"opd-s0.json was made before its preset was edited; delete it"):
        lab.run()


def test_a_cell_evaluates_the_scripted_experts(tmp_path, capsys):
    path = tmp_path / "grids" / "experts.yaml"
    path.parent.mkdir()
    path.write_text("name: experts\nseeds: [0]\ncells:\n  mujoco: {evaluate: expert, set: {sim.backend: mujoco}}\n")
    run_grid(path, (), tmp_path / "runs", dry_run=True)
    assert "vla-rl eval expert --out runs/experts/mujoco-s0 --seed 0 --sim.backend mujoco" in capsys.readouterr().out


def test_dry_run_prints_commands_and_does_nothing(lab, capsys):
    assert lab.run(dry_run=True) == []
    assert not lab.runs.exists()
    assert capsys.readouterr().out.count("vla-rl train ") == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("init: student", "init: studnt", "neither a cell nor a path.*did you mean 'student'"),
        ("init: student", "init: opd", "circle: opd → opd"),
        ("init: student", "init: demos", "must name a cell with preset"),
        ("data: demos, seeds: [7]", "data: student, seeds: [7]", "must name a cell with collect"),
        ("init: student", "init: expert", "only teacher and evaluate can be 'expert'"),
        ("init: student", "innit: student", "unknown key 'cells.opd.innit'.*did you mean 'init'"),
        ("seeds: [0, 1]", "seed: [0, 1]", "unknown key 'seed'.*did you mean 'seeds'"),
        ("collect: ../demos.yaml", "collect: ../demos.yml", "no such preset"),
        ("{collect: ../demos.yaml,", "{collect: ../demos.yaml, preset: ../sft.yaml,", "exactly one of preset, collect and evaluate"),
        ("set: {data.episodes_per_task: 2}", "seeds: [3, 4]", "at seed 0 needs cell 'student' at that seed"),
        ("seeds: [7]", "seeds: seven", "cells.teacher.seeds"),
    ],
)
def test_wrong_grids_are_refused_in_one_sentence(tmp_path, old, new, message):
    lab = Lab(tmp_path, GRID.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load_grid(lab.path)


def test_longer_cycles_are_named(tmp_path):
    text = "name: c\nseeds: [0]\ncells:\n  a: {preset: ../sft.yaml, init: b}\n  b: {preset: ../sft.yaml, init: a}\n"
    with pytest.raises(GridError, match="a → b → a"):
        load_grid(Lab(tmp_path, text).path)


def test_subprocess_output_goes_to_the_log_and_failure_shows_its_end(tmp_path):
    log = tmp_path / "x.log"
    _execute([sys.executable, "-c", "print('fine')"], log)
    with pytest.raises(GridError, match=r"exit status 3(?s:.*)trouble ahead"):
        _execute([sys.executable, "-c", "print('trouble ahead'); raise SystemExit(3)"], log)
    assert "fine" in log.read_text()


CHILD = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved"), exit(0)))
print("ready", flush=True)
time.sleep(60)
"""


def test_sigterm_reaches_the_run_and_waits_for_it(tmp_path):
    parent = f"import pathlib, sys; from vla_rl.grid import _execute; _execute([sys.executable, '-c', {CHILD!r}], pathlib.Path('log'))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    log, deadline = tmp_path / "log", time.monotonic() + 60
    while not (log.exists() and "\nready" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert log.read_text().endswith("saved\n")
    assert b"KeyboardInterrupt" in errors
