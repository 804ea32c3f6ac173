import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from policies.interface import UserError
from vla_rl.compare import collection_costs, compare, paired_rows, reach_rows, table_rows, task_rows
from vla_rl.evaluate import Evaluation, TaskResult
from vla_rl.metrics import is_kept
from vla_rl.plots import _from_zero, plot_metrics, step_means
from vla_rl.results import load_results, summarise
from vla_rl.statistics import wilson
from vla_rl.tables import markdown_table

VOID = {"meta", "img", "br", "input", "link", "hr"}


class Page(HTMLParser):
    """Text and sources of a page whose tags must all be closed in order."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.sources: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def evaluation(wins: int, episodes: int = 20, shuffled: bool = False) -> Evaluation:
    def row(task: str, count: int) -> TaskResult:
        outcomes = "1" * count + "0" * (episodes - count)
        return TaskResult(task=task, first_seed=2_000_000, outcomes=outcomes, at_end=outcomes, steps=(40,) * episodes)

    wrong = (row("faucet-open", 0), row("door-open", 1)) if shuffled else ()
    return Evaluation(split="test", tasks=(row("faucet-open", wins), row("door-open", wins)), shuffled=wrong)


def make_run(folder: Path, wins: int, updates: int = 0, validated: dict[int, float] | None = None, **settings) -> Path:
    curve = [
        {"update": u, "episodes": 10 * u, "decisions": 80 * u, "wall_s": 30.0 * u, "rollout_success": 0.1 * u, "entropy": 1.0 / u}
        for u in range(1, updates + 1)
    ]
    for update, success in (validated or {}).items():
        curve[update - 1]["validation_success"] = success
    result = {
        "evaluation": evaluation(wins, **settings).model_dump(mode="json"),
        "episodes": 10 * updates, "teacher_queries": 80 * updates, "updates": updates, "wall_s": 30.0 * updates, "curve": curve,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text("sim: {camera: <corner>}\n")
    (folder / "environment.jsonl").write_text('{"command": "vla-rl train x.yaml", "commit": "0123456789abcdef", "dirty": true}')
    return folder


@pytest.fixture
def runs(tmp_path) -> Path:
    root = tmp_path / "runs"
    for seed, (start, ours) in enumerate(((4, 16), (6, 14), (5, 15))):
        make_run(root / f"student-s{seed}", start)
        make_run(root / f"opd-s{seed}", ours, updates=6, shuffled=True)
    make_run(root / "teacher-s0", 18)
    return root


def test_summary_by_hand(runs):
    student, opd, teacher = summarise(load_results([runs]), "student", "teacher")
    assert [s.cell for s in (student, opd, teacher)] == ["student", "opd", "teacher"]
    assert (opd.seeds, teacher.seeds) == ((0, 1, 2), (0,))
    assert (student.success.value, opd.success.value, teacher.success.value) == pytest.approx((0.25, 0.75, 0.9))
    assert opd.success.low < 0.70 < 0.75 < 0.80 < opd.success.high, "at least the spread of the seeds"
    assert opd.gap is not None and opd.gap.value == pytest.approx(0.5 / 0.65)
    assert student.gap is None and teacher.gap is None
    assert [opd.mean(b) for b in ("episodes", "teacher_queries", "updates", "minutes")] == [60, 480, 6, 3.0]


def test_interval_of_a_perfect_policy_keeps_wilsons_width(tmp_path):
    results = load_results([make_run(tmp_path / "all-s0", 20), make_run(tmp_path / "all-s1", 20)])
    assert summarise(results)[0].success == pytest.approx((1.0, wilson(80, 80)[0], 1.0))


def test_markdown_table_holds_the_numbers(runs):
    lines = markdown_table(table_rows(summarise(load_results([runs]), "student", "teacher"))).splitlines()
    assert lines[0].count("|") == 10
    cells = [cell.strip() for cell in lines[3].split("|")[1:-1]]
    assert cells[:2] == ["opd", "75 %"] and cells[3:8] == ["80 · 70 · 75", "60", "480", "6", "3.0"]
    assert cells[8].startswith("77 % (")


def test_compare_writes_page_table_and_plot(runs, tmp_path, capsys):
    film = runs / "opd-s0" / "evaluation" / "videos" / "door-open-2000000.mp4"
    film.parent.mkdir(parents=True)
    film.write_bytes(b"film")
    cv2.imwrite(str(runs / "opd-s0" / "evaluation" / "contact_sheet.png"), np.zeros((4, 4, 3), np.uint8))
    out = tmp_path / "out"
    compare([runs], out, "student", "teacher")
    assert "75 %" in capsys.readouterr().out
    page = Page((out / "report.html").read_text())
    for text in (
        "75 %",
        "80 · 70 · 75",
        "0123456789 + local changes",
        "camera: <corner>",
        "With the instruction of another task",
        "· 40 steps",
    ):
        assert text in page.text
    kinds = [source.partition(";")[0] for source in page.sources]
    assert kinds.count("data:image/svg+xml") == 2, "success and entropy"
    assert kinds.count("data:video/mp4") == kinds.count("data:image/png") == 1
    assert all(source.startswith("data:") for source in page.sources), "the page needs no other file"
    assert (out / "entropy.svg").read_text().startswith("<svg") and not (out / "reverse_kl.svg").exists()
    plot = cv2.imread(str(out / "curve.png"))
    assert plot is not None and plot.std() > 5
    assert (out / "table.md").read_text().startswith("| cell |")


def test_records_of_a_grid_are_read_like_runs(runs, tmp_path):
    records = tmp_path / "results"
    records.mkdir()
    for folder in sorted(runs.iterdir()):
        cell, seed = folder.name.split("-s")
        tree = {
            "kind": "train",
            "cell": cell,
            "seed": int(seed),
            "command": "vla-rl train",
            "result": json.loads((folder / "result.json").read_text()),
        }
        (records / f"{folder.name}.json").write_text(json.dumps(tree))
    (records / "demos-s0.json").write_text(json.dumps({"kind": "collect", "cell": "demos", "seed": 0, "minutes": 3.84, "result": {}}))
    assert table_rows(summarise(load_results([records]))) == table_rows(summarise(load_results([runs])))
    assert collection_costs([records]) == "Data was collected beforehand, which the table does not count: demos 3.8 min."
    assert collection_costs([runs]) == ""
    with pytest.raises(UserError, match="no evaluation"):
        load_results([records / "demos-s0.json"])


def test_report_escapes_names(tmp_path):
    compare([make_run(tmp_path / "<SFT>-s0", 5), make_run(tmp_path / "a & b-s0", 15, updates=3)], tmp_path / "page")
    page = Page((tmp_path / "page" / "report.html").read_text())
    assert "<SFT>" in page.text and "a & b" in page.text and "gap closed" not in page.text


def test_paired_table_by_hand(runs, tmp_path, capsys):
    for seed, (validated, wins) in enumerate(((0.2, 14), (0.3, 14), (0.1, 15))):
        make_run(runs / f"sampled-s{seed}", wins, updates=6, validated={2: validated, 6: 0.5})
        make_run(runs / f"exact-s{seed}", wins + 2, updates=6, validated={2: 0.4, 6: 0.5})
    cells = {summary.cell: summary for summary in summarise(load_results([runs]))}
    rows = paired_rows(cells["exact"], cells["sampled"])
    assert rows[1] == ["update 2, validation", "20", "40 %", "20 %", "+20", "+20 · +10 · +30"]
    assert rows[2][-2:] == ["+0", "+0 · +0 · +0"]
    assert rows[3][:4] == ["end, test", "60", "82 %", "72 %"] and rows[3][4].startswith("+10 (") and rows[3][5] == "+10 · +10 · +10"
    compare([runs], tmp_path / "out", pair=("exact", "sampled"))
    assert "+20 · +10 · +30" in capsys.readouterr().out and "+20 · +10 · +30" in (tmp_path / "out" / "table.md").read_text()
    assert "exact against sampled" in Page((tmp_path / "out" / "report.html").read_text()).text
    with pytest.raises(UserError, match="no cell 'exakt'"):
        compare([runs], tmp_path / "out", pair=("exakt", "sampled"))
    with pytest.raises(UserError, match=r"seeds \[0, 1, 2\] and \[0\]"):
        paired_rows(cells["exact"], cells["teacher"])


def test_paired_table_has_a_row_for_each_task(tmp_path):
    for name, wins in (("isaaclab", 10), ("mujoco", 14)):
        path = make_run(tmp_path / f"{name}-s0", wins) / "result.json"
        result = json.loads(path.read_text())
        result["evaluation"]["tasks"][1]["outcomes"] = "01" * 10  # door-open alike in both
        path.write_text(json.dumps(result))
    theirs, ours = summarise(load_results([tmp_path]))
    rows = paired_rows(ours, theirs)[-3:]
    assert [row[0] for row in rows] == ["end, test", "end, test, faucet-open", "end, test, door-open"]
    assert [row[2:4] for row in rows] == [["60 %", "50 %"], ["70 %", "50 %"], ["50 %", "50 %"]]
    assert [row[5] for row in rows] == ["+10", "+20", "+0"] and rows[2][4] == "+0 (+0 to +0)"


def test_budget_of_a_level_by_hand(runs, tmp_path, capsys):
    for seed, (early, late) in enumerate(((0.4, 0.6), (0.5, 0.8))):
        make_run(runs / f"fast-s{seed}", 14, updates=6, validated={2: early, 6: late})  # level 0.7
        make_run(runs / f"slow-s{seed}", 14, updates=9, validated={3: 0.1, 6: (0.75, 0.55)[seed], 9: 0.8})
        make_run(runs / f"never-s{seed}", 14, updates=9, validated={9: 0.6})
    cells = {summary.cell: summary for summary in summarise(load_results([runs]))}
    rows = {row[0]: row[1:] for row in reach_rows(list(cells.values()), cells["fast"])}
    assert rows["cell"][0] == "episodes to 70 % on validation"
    assert rows["fast"] == ["60", "> 60 · 60", "70 %"], "seed by seed the level may be missed by the reference itself"
    assert rows["slow"] == ["90", "60 · 90", "80 %"] and rows["never"] == ["> 90", "> 90 · > 90", "60 %"]
    assert set(rows) == {"cell", "fast", "slow", "never"}, "cells without validations are left out"
    compare([runs], tmp_path / "out", reach="fast")
    assert "60 · 90" in capsys.readouterr().out and "60 · 90" in Page((tmp_path / "out" / "report.html").read_text()).text
    with pytest.raises(UserError, match="'teacher' was never validated"):
        reach_rows(list(cells.values()), cells["teacher"])


def test_tasks_ahead_of_the_teacher(runs):
    make_run(runs / "better-s0", 19)
    rows = {row[0]: row[1:] for row in task_rows(summarise(load_results([runs])), "teacher")}
    assert rows["cell"] == ["faucet-open", "door-open", "ahead of the teacher"]
    assert rows["better"] == ["95 %", "95 %", "2 of 2"] and rows["opd"] == ["75 %", "75 %", "0 of 2"] and rows["teacher"][2] == "–"


def test_metrics_are_kept_and_drawn_also_per_denoising_step(runs, tmp_path):
    for seed in range(3):
        path = runs / f"opd-s{seed}" / "result.json"
        result = json.loads(path.read_text())
        for row in result["curve"]:
            row |= {"reverse_kl": 1.0, "reverse_kl_step0": 0.5, "reverse_kl_step2": 2.0, "ratio": 1.0}
        path.write_text(json.dumps(result))
    (opd,) = [summary for summary in summarise(load_results([runs])) if summary.cell == "opd"]
    assert step_means(opd, "reverse_kl") == {0: 0.5, 2: 2.0} and step_means(opd, "ratio") == {}
    assert set(plot_metrics(summarise(load_results([runs])))) == {"entropy", "reverse_kl", "reverse_kl_steps", "ratio"}
    compare([runs], tmp_path / "out")
    assert (tmp_path / "out" / "reverse_kl_steps.svg").read_text().startswith("<svg")
    kept = ("reverse_kl", "reverse_kl_step11", "rollout_kl", "zero_variance_groups")
    assert all(map(is_kept, kept)) and not any(map(is_kept, ("loss", "grad_norm", "lr_step1")))


@pytest.mark.parametrize(("values", "bottom"), [([1.0, 3.0], 0.0), ([-7.0, -2.0], -7.25)])
def test_axes_begin_at_zero_unless_something_is_negative(values, bottom):
    axes = Figure().subplots()
    axes.plot([0, 1], values)
    _from_zero(axes)
    assert axes.get_ylim()[0] == pytest.approx(bottom) and not axes.yaxis_inverted()


def test_nan_is_refused(runs):
    path = runs / "opd-s1" / "result.json"
    path.write_text(path.read_text().replace('"rollout_success": 0.2', '"rollout_success": NaN', 1))
    with pytest.raises(UserError, match=r"opd-s1.*NaN"):
        load_results([runs])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tree: tree.pop("evaluation"), "no evaluation"),
        (lambda tree: tree.pop("curve"), "lacks the key 'curve'"),
        (lambda tree: tree["evaluation"]["tasks"][0].update(outcomes="12"), "evaluation.tasks.0"),
    ],
)
def test_damaged_results_are_refused(runs, damage, message):
    path = runs / "opd-s0" / "result.json"
    tree = json.loads(path.read_text())
    damage(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=message):
        load_results([runs])


def test_truncated_missing_and_unfinished_runs_are_refused(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        load_results([tmp_path / "nothing"])
    (runs / "opd-s0" / "result.json").write_text('{"evaluation": {')
    with pytest.raises(UserError, match="truncated"):
        load_results([runs])
    (runs / "opd-s0" / "result.json").unlink()
    with pytest.raises(UserError, match="unfinished"):
        load_results([runs / "opd-s0"])
    with pytest.raises(UserError, match="given twice"):
        load_results([runs / "opd-s1", runs])


def test_comparisons_that_are_not_paired_are_refused(runs, tmp_path):
    with pytest.raises(UserError, match="training seeds differ"):
        summarise(load_results([runs / "opd-s0", runs / "student-s1", runs / "teacher-s0"]), "student", "teacher")
    with pytest.raises(UserError, match="same initial states"):
        summarise(load_results([runs, make_run(tmp_path / "short-s0", 3, episodes=10)]))
    with pytest.raises(UserError, match="no cell 'oracle'"):
        summarise(load_results([runs]), "student", "oracle")
    with pytest.raises(UserError, match="name both or neither"):
        summarise(load_results([runs]), "student")
