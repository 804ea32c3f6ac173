"""Demonstrations survive the disk bit for bit, whoever wrote them; damaged or foreign folders are refused by name."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policies.interface import SpecError
from tests.vla_rl.data.conftest import CAMERA, ENV_SPEC, INSTRUCTIONS, LENGTHS, episode, policy_spec
from vla_rl.data.demos import load_demos
from vla_rl.data.writer import write_episodes

SPEC = policy_spec()
DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"

STOCK = """
import json, sys, numpy as np
from lerobot.datasets import LeRobotDataset
ours, out = sys.argv[1:]
ds = LeRobotDataset("local/ours", root=ours)
item = ds[7]  # episode 1, step 2
successes = LeRobotDataset("local/ours", root=ours, episode_filter=lambda row: row["vla_rl/task"] == "close")
state = {"dtype": "float32", "shape": (3,), "names": ["x", "y", "grip"]}
action = {"dtype": "float32", "shape": (2,), "names": {"motors": ["dx", "dy"]}}
for kind in ("image", "video"):
    camera = {"dtype": kind, "shape": (64, 96, 3), "names": ["height", "width", "channels"]}
    features = {"observation.images.corner2": camera, "observation.state": state, "action": action}
    stock = LeRobotDataset.create("local/" + kind, 80, features, root=f"{out}/{kind}", use_videos=kind == "video")
    for e, length in enumerate((5, 4)):
        for t in range(length):
            image = np.full((64, 96, 3), 40 + 100 * e + 20 * t, np.uint8)
            values = {"observation.state": np.float32([e, t, 0]), "action": np.float32([t, e])}
            stock.add_frame({"observation.images.corner2": image, **values, "task": f"do {e}"})
        stock.save_episode()
    stock.finalize()
print(json.dumps({
    "frames": len(ds), "episodes": ds.num_episodes, "features": sorted(ds.features), "fps": ds.fps, "task": item["task"],
    "state": item["observation.state"].tolist(), "action": item["action"].tolist(),
    "pixels": (item["observation.images.corner2"] * 255).round().int().tolist(), "close": len(successes),
    "q50": ds.meta.stats["action"]["q50"].tolist(), "mean": ds.meta.stats["action"]["mean"].tolist(),
    "seeds": list(ds.meta.episodes["vla_rl/seed"]), "noisy": list(ds.meta.episodes["vla_rl/noisy"]),
}))
"""


@pytest.fixture(scope="session")
def stock(written, tmp_path_factory):
    """What a separate process with stock LeRobot reads from our data set, and the folder of two that it wrote."""
    out = tmp_path_factory.mktemp("stock")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(out / "home")}
    command = [sys.executable, "-c", STOCK, str(written), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), out


def test_round_trip_is_exact(written):
    demos = load_demos(written, SPEC)
    wrote = [episode(i) for i in range(3)]
    assert len(demos) == 12
    assert demos.tasks == ("open", "close", "open")
    assert demos.episode.tolist() == [0] * 5 + [1] * 3 + [2] * 4
    assert list(demos.obs) == [CAMERA, "observation.state", "task"]
    for name in (CAMERA, "observation.state"):
        expected = np.concatenate([one.obs[name] for one in wrote])
        assert demos.obs[name].dtype == expected.dtype
        np.testing.assert_array_equal(demos.obs[name], expected)
    np.testing.assert_array_equal(demos.action, np.concatenate([one.action for one in wrote]))
    assert demos.obs["task"].tolist() == [text for text, n in zip(INSTRUCTIONS, LENGTHS, strict=True) for _ in range(n)]
    SPEC.check(demos.sample(np.arange(12), 4)[0])


def test_chunks_stop_at_the_end_of_the_episode(written):
    demos = load_demos(written, SPEC)
    obs, chunk, mask = demos.sample(np.array([0, 3, 4, 6]), 4)
    # Action is (episode, step)/100; episodes have 5, 3 and 4 frames, so row 6 is episode 1, step 1.
    assert (chunk * 100).round().astype(int)[..., 1].tolist() == [[0, 1, 2, 3], [3, 4, 4, 4], [4, 4, 4, 4], [1, 2, 2, 2]]
    assert (chunk * 100).round().astype(int)[..., 0].tolist() == [[0] * 4, [0] * 4, [0] * 4, [1] * 4]
    assert mask.tolist() == [[True] * 4, [True, True, False, False], [True, False, False, False], [True, True, False, False]]
    assert chunk.dtype == np.float32
    assert obs["task"].tolist() == ["open the drawer"] * 3 + ["close the drawer"]
    np.testing.assert_array_equal(obs[CAMERA][3], episode(1).obs[CAMERA][1])


def test_first_episodes_of_chosen_tasks(written):
    one_each = load_demos(written, SPEC, episodes_per_task=1)
    assert one_each.tasks == ("open", "close") and len(one_each) == 8
    both = load_demos(written, SPEC, tasks=("open",), episodes_per_task=2)
    assert both.tasks == ("open", "open") and both.episode.tolist() == [0] * 5 + [1] * 4
    assert both.obs["task"][-1] == "pull the drawer open"
    np.testing.assert_array_equal(both.obs[CAMERA][5:], episode(2).obs[CAMERA])


def test_stock_lerobot_reads_ours(stock):
    facts, _ = stock
    assert (facts["frames"], facts["episodes"], facts["fps"]) == (12, 3, 80)
    own = {CAMERA, "observation.state", "action"}
    assert set(facts["features"]) == own | {"timestamp", "frame_index", "episode_index", "index", "task_index"}
    assert facts["task"] == "close the drawer"
    assert facts["state"] == pytest.approx([0.1, 0.02, 0.0]) and facts["action"] == pytest.approx([0.01, 0.02])
    np.testing.assert_array_equal(np.array(facts["pixels"]).transpose(1, 2, 0), episode(1).obs[CAMERA][2])
    assert facts["close"] == 3 and facts["seeds"] == [10, 11, 12] and facts["noisy"] == [False, True, False]
    # Mean of action: episodes 0, 1, 2 with 5, 3, 4 frames -> (3 + 8)/12; steps 10 + 3 + 6 = 19 -> 19/12, in hundredths.
    assert facts["mean"] == pytest.approx([11 / 1200, 19 / 1200])


@pytest.mark.parametrize("kind", ["image", "video"])
def test_data_sets_made_by_stock_lerobot_are_read(stock, kind):
    entries = (ENV_SPEC.entries[0].model_copy(update={"shape": (64, 96, 3)}), *ENV_SPEC.entries[1:])
    spec = SPEC.model_copy(update={"entries": entries})
    demos = load_demos(stock[1] / kind, spec)
    assert demos.tasks == ("do 0", "do 1")
    assert demos.obs["task"].tolist() == ["do 0"] * 5 + ["do 1"] * 4
    assert demos.action.tolist() == [[t, e] for e, n in enumerate((5, 4)) for t in range(n)]
    brightness = demos.obs[CAMERA].astype(float).mean((1, 2, 3))
    expected = [40 + 100 * e + 20 * t for e, n in enumerate((5, 4)) for t in range(n)]
    np.testing.assert_allclose(brightness, expected, atol=0 if kind == "image" else 5)
    second = load_demos(stock[1] / kind, spec, tasks=("do 1",))
    np.testing.assert_array_equal(second.obs[CAMERA], demos.obs[CAMERA][5:])


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such dataset folder.*vla-rl collect"):
        load_demos(tmp_path / "absent", SPEC)


def test_folder_of_something_else(tmp_path):
    with pytest.raises(ValueError, match=r"not a LeRobotDataset: meta/info.json is missing"):
        load_demos(tmp_path, SPEC)


@pytest.mark.parametrize("file", [DATA, EPISODES, "meta/tasks.parquet", "meta/info.json"])
def test_missing_file(copy, file):
    (copy / file).unlink()
    with pytest.raises(ValueError, match=r"truncated|not a LeRobotDataset"):
        load_demos(copy, SPEC)


@pytest.mark.parametrize("file", [DATA, EPISODES, "meta/tasks.parquet", "meta/info.json"])
def test_cut_off_file(copy, file):
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated or corrupt"):
        load_demos(copy, SPEC)


def test_damaged_bytes_within_a_file(copy):
    content = bytearray((copy / DATA).read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    (copy / DATA).write_bytes(content)
    with pytest.raises(ValueError, match="corrupt"):
        load_demos(copy, SPEC)


def test_fewer_frames_than_declared(copy):
    table = pq.read_table(copy / DATA)
    pq.write_table(table.slice(0, 10), copy / DATA)
    with pytest.raises(ValueError, match="holds 10 of 12 frames"):
        load_demos(copy, SPEC)


def test_repeated_frame_hides_no_missing_one(copy):
    table = pq.read_table(copy / DATA)
    pq.write_table(pa.concat_tables([table.slice(0, 11), table.slice(0, 1)]), copy / DATA)
    with pytest.raises(ValueError, match="1 of 12 frames are missing"):
        load_demos(copy, SPEC)


@pytest.mark.parametrize(("key", "value", "found"), [("total_episodes", 4, "3 of 4 episodes"), ("total_frames", 20, "12 of 20 frames")])
def test_info_declares_more(copy, key, value, found):
    _edit_info(copy, lambda info: info.update({key: value}))
    with pytest.raises(ValueError, match=found):
        load_demos(copy, SPEC)


def test_older_format(copy):
    _edit_info(copy, lambda info: info.update(codebase_version="v2.1"))
    with pytest.raises(ValueError, match=r"format v2\.1, only v3"):
        load_demos(copy, SPEC)


@pytest.mark.parametrize("column", ["observation.state", "action"])
def test_not_a_number(copy, column):
    table = pq.read_table(copy / DATA)
    values = table.column(column).to_pylist()
    values[6][1] = float("nan")
    index = table.schema.get_field_index(column)
    pq.write_table(table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type)), copy / DATA)
    with pytest.raises(ValueError, match=f"nan.*'{column}' of episode 1"):
        load_demos(copy, SPEC)
    assert len(load_demos(copy, SPEC, tasks=("open",))) == 9


def test_other_camera(written):
    entries = (ENV_SPEC.entries[0].model_copy(update={"name": "observation.images.topview"}), *ENV_SPEC.entries[1:])
    with pytest.raises(SpecError, match=r"no feature 'observation.images.topview'.*observation.images.corner2"):
        load_demos(written, SPEC.model_copy(update={"entries": entries}))


def test_other_image_size(written):
    entries = (ENV_SPEC.entries[0].model_copy(update={"shape": (32, 24, 3)}), *ENV_SPEC.entries[1:])
    with pytest.raises(SpecError, match=r"has shape \(16, 24, 3\), the policy spec wants \(32, 24, 3\)"):
        load_demos(written, SPEC.model_copy(update={"entries": entries}))


def test_images_that_contradict_their_declaration(copy):
    _edit_info(copy, lambda info: info["features"][CAMERA].update(shape=[32, 24, 3]))
    entries = (ENV_SPEC.entries[0].model_copy(update={"shape": (32, 24, 3)}), *ENV_SPEC.entries[1:])
    with pytest.raises(SpecError, match=r"an image of feature .* has shape \(16, 24, 3\)"):
        load_demos(copy, SPEC.model_copy(update={"entries": entries}))


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"names": ("dx", "dz")}, r"'action'.*components \('dx', 'dy'\).*\('dx', 'dz'\)"),
        ({"names": ("dx", "dy", "dz"), "low": (-1.0,) * 3, "high": (1.0,) * 3}, r"'action'.*shape \(2,\).*\(3,\)"),
    ],
)
def test_other_actions(written, update, message):
    with pytest.raises(SpecError, match=message):
        load_demos(written, SPEC.model_copy(update={"action": ENV_SPEC.action.model_copy(update=update)}))


def test_other_state_components(written):
    entries = (ENV_SPEC.entries[0], ENV_SPEC.entries[1].model_copy(update={"names": ("x [m]", "z [m]", "grip")}), ENV_SPEC.entries[2])
    with pytest.raises(SpecError, match=r"'observation.state'.*components"):
        load_demos(written, SPEC.model_copy(update={"entries": entries}))


def test_other_control_rate(written):
    with pytest.raises(SpecError, match=r"recorded at 80 Hz, the policy spec wants 20\.0 Hz"):
        load_demos(written, SPEC.model_copy(update={"control_hz": 20.0}))


def test_unknown_task(written):
    with pytest.raises(ValueError, match="no episodes of task 'push'; it has"):
        load_demos(written, SPEC, tasks=("open", "push"))


def test_too_few_episodes(written):
    with pytest.raises(ValueError, match="has 1 episodes of task 'close', episodes_per_task asks for 2"):
        load_demos(written, SPEC, episodes_per_task=2)


def test_data_files_roll_over(tmp_path, monkeypatch):
    import lerobot.datasets.dataset_metadata as metadata

    monkeypatch.setattr(metadata.LeRobotDatasetMetadata, "data_files_size_in_mb", 0.005)
    out = write_episodes(tmp_path / "out", ENV_SPEC, (episode(i) for i in range(3)), {}, max_frames=12)
    assert len(list((out / "data").glob("*/*.parquet"))) > 1
    demos = load_demos(out, SPEC)
    np.testing.assert_array_equal(demos.action, np.concatenate([episode(i).action for i in range(3)]))


def _edit_info(folder, change):
    info = json.loads((folder / "meta/info.json").read_text())
    change(info)
    (folder / "meta/info.json").write_text(json.dumps(info))
