"""Worker processes: what they load, how they fail, and that they never outlive their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import metaworld
import numpy as np
import pytest

import sim
from sim.vec_env import SimulationError

ROOT = Path(sim.__file__).resolve().parents[1]


def start(**change):
    return sim.make(**{"backend": "metaworld", "tasks": ["drawer-open"], "num_envs": 2, "workers": 2, "image_px": 16} | change)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_the_library_is_not_shadowed():
    assert "site-packages" in metaworld.__file__ and Path(sim.__file__).is_relative_to(ROOT)
    code = "import sim.metaworld.env, metaworld, sys; print(metaworld.__file__); print('mujoco' in sys.modules, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert "site-packages" in out[0]


def test_the_parent_does_not_import_the_simulator():
    code = "import sys, sim; sim.make('metaworld', ['push'], 1).close(); print({'mujoco', 'metaworld', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_workers_do_not_load_torch_and_work_from_any_directory(tmp_path, monkeypatch):
    (tmp_path / "metaworld").mkdir()
    (tmp_path / "metaworld" / "__init__.py").write_text("raise RuntimeError('the wrong metaworld')")
    monkeypatch.chdir(tmp_path)
    with start(workers=1) as env:
        env.reset([0, 1], [0, 1], ["drawer-open"] * 2)
        maps = Path(f"/proc/{env._workers[0]._process.pid}/maps").read_text()
        assert "libmujoco" in maps and "libtorch" not in maps


def test_close_ends_the_workers_and_may_be_called_twice():
    env = start()
    pids = [worker._process.pid for worker in env._workers]
    env.close()
    env.close()
    assert not any(map(alive, pids))
    with pytest.raises(SimulationError, match="worker has stopped"):
        env.reset([0], [0], ["drawer-open"])


def test_death_of_a_worker_is_reported():
    with start() as env:
        env.reset([1], [1], ["drawer-open"])
        pending = env.submit_chunk(np.zeros((1, 100, 4)), [1])
        os.kill(env._workers[1]._process.pid, signal.SIGKILL)
        with pytest.raises(SimulationError, match=r"worker has stopped .exit code -9.; close this environment and make a new one"):
            pending.result()


def test_interrupts_are_left_to_the_parent():
    with start(workers=1) as env:
        env.reset([0, 1], [0, 1], ["drawer-open"] * 2)
        os.kill(env._workers[0]._process.pid, signal.SIGINT)
        assert env.step_chunk(np.zeros((2, 4, 4)), [0, 1]).executed.tolist() == [4, 4]


def test_workers_die_with_a_killed_parent(tmp_path):
    """No `if __name__` guard is needed in the script either."""
    script = tmp_path / "train.py"
    script.write_text(
        "import sim, time\n"
        "env = sim.make('metaworld', ['push'], 2, workers=2)\n"
        "print(*[w._process.pid for w in env._workers], flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    with parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(map(alive, pids))
        parent.kill()
    assert wait_until_gone(pids)


def test_missing_renderer_says_what_to_install(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with start(workers=1) as env, pytest.raises(SimulationError, match=r"MUJOCO_GL=nonsense .*apt-get install libosmesa6"):
        env.reset([0], [0], ["drawer-open"])
