"""Thirteen faults of the table on a real deployment, each part a process; and that a robot which is there already is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from robot.ros2.faults.bench import make_ready, suffer
from robot.ros2.faults.catalogue import chosen
from robot.ros2.faults.cell import Cell, faulty_cell
from robot.ros2.sim_operator import OperatorError
from tests.robot.relaxed import AGES, RATES, SAFETY
from tests.ros import unique_domain, write_profile

pytestmark = pytest.mark.ros

FAULTS = (
    "network: chunks in wrong order",
    "network: a second commander of the robot",
    "joint states: none come",
    "joint states: same values, new stamps",
    "joint states: other order",
    "camera: no images",
    "camera: same image, new stamps",
    "command: a jump of 1 rad",
    "policy: killed (SIGKILL)",
    "bridge: killed (SIGKILL)",
    "teleop: falls silent",
    "people: e-stop unplugged",
    "people: dead-man switch released",
)
STOP_S = 4.0
"""The longest silence that the relaxed profile allows, 2 s, and as long for a soft stop on a loaded machine."""


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    folder = tmp_path_factory.mktemp("faults")
    profile = write_profile(folder, rates=RATES, ages=AGES, safety=SAFETY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(unique_domain()))
        with faulty_cell(profile, folder) as cell:
            yield cell


def test_a_robot_that_is_there_already_is_left_alone(cell: Cell) -> None:
    cell.recover()
    with pytest.raises(OperatorError, match="is on the graph already, and this is only for robots that it starts"):
        cell.operator.require_alone()


def test_what_does_not_come_back_is_started_anew(capsys: pytest.CaptureFixture[str]) -> None:
    stuck = Mock(spec=Cell)
    stuck.move.side_effect = [OperatorError("no images"), None]
    make_ready(stuck)
    assert [name for name, *_ in stuck.method_calls] == ["recover", "move", "end", "recover", "move"]
    assert "started anew: no images" in capsys.readouterr().out


@pytest.mark.parametrize("name", FAULTS)
def test_ends_as_the_table_says(name: str, cell: Cell) -> None:
    [fault] = chosen([name])
    found = suffer(cell, fault)
    assert found.right, found
    assert found.command_excess == 0 and found.margin_excess == 0
    assert found.past_commands < 0.05
    if found.ended == "active":
        assert found.commands_stop_s is None
    else:
        assert found.commands_stop_s is not None and found.commands_stop_s < STOP_S
        assert found.robot_rests_s is not None and found.robot_rests_s < STOP_S
    assert found.armed_again
