"""Ten faults of the table on a real deployment: robot, bridge and commander are processes; and that it is alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from robot.ros2.faults.bench import suffer
from robot.ros2.faults.catalogue import chosen
from robot.ros2.faults.cell import Cell, faulty_cell
from tests.robot.relaxed import AGES, RATES, SAFETY
from tests.ros import unique_domain, write_profile

pytestmark = pytest.mark.ros

FAULTS = (
    "network: a second commander of the robot",
    "joint states: none come",
    "joint states: same values, new stamps",
    "joint states: other order",
    "camera: no images",
    "camera: same image, new stamps",
    "command: a jump of 1 rad",
    "policy: killed (SIGKILL)",
    "bridge: killed (SIGKILL)",
    "people: e-stop unplugged",
    "people: dead-man switch released",
)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    folder = tmp_path_factory.mktemp("faults")
    before = os.environ.get("ROS_DOMAIN_ID")
    os.environ["ROS_DOMAIN_ID"] = str(unique_domain())
    profile = write_profile(folder, rates=RATES, ages=AGES, safety=SAFETY)
    with faulty_cell(profile, folder) as cell:
        yield cell
    if before is None:
        del os.environ["ROS_DOMAIN_ID"]
    else:
        os.environ["ROS_DOMAIN_ID"] = before


@pytest.mark.parametrize("name", FAULTS)
def test_ends_as_the_table_says(name: str, cell: Cell) -> None:
    [fault] = chosen([name])
    found = suffer(cell, fault)
    assert found.right, found
    assert found.command_excess == 0 and found.margin_excess == 0
    assert found.past_commands < 0.05
    assert found.armed_again
