"""Set-up of all tests: no hub, one thread per process (test machines share cores)."""

import os
import sys

import pytest

from sim.workers.process import software_gl

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MUJOCO_GL", software_gl())  # read by MuJoCo when it is imported, whichever test does that first
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is imported, here and in worker processes

ROBOTS = "robots"
GIVES_WAY = 10
"""Niceness: a tenth of the processor time of a robot's process, where both want it."""


@pytest.fixture(autouse=True)
def one_thread():
    """Undo a thread count that an earlier test set, without importing torch into tests that need none."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file share a process, and all that run robots share one and come first: two robots at a time are too many for a host."""
    robots = {item.path for item in items if item.get_closest_marker("ros")}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(ROBOTS if item.path in robots else str(item.path)))
    items.sort(key=lambda item: item.path not in robots)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Beside robots, whose loops have deadlines, other tests give way; a process that does so stays so."""
    group = item.get_closest_marker("xdist_group")
    assert group is not None, "each test has been given one"
    if group.args != (ROBOTS,) and os.getpriority(os.PRIO_PROCESS, 0) < GIVES_WAY:
        os.setpriority(os.PRIO_PROCESS, 0, GIVES_WAY)
