"""`vla-rl calibrate` as a process: the test holds the board before the camera."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from robot.calibration import Board
from robot.profile import load_profile
from robot.ros2.calibrate import main
from robot.ros2.messages import to_image
from tests.repo.imports import ROOT
from tests.robot.chessboard import album
from tests.robot.test_calibration import LENS
from tests.ros import Graph, Process, unique_domain, write_profile

BOARD = Board(7, 5, 0.03)
ARM7 = ROOT / "configs" / "robots" / "arm7.yaml"


@pytest.mark.ros
def test_what_it_prints_belongs_in_the_profile(tmp_path: Path) -> None:
    pictures = album(LENS, BOARD, seed=1, count=27)
    graph = Graph(domain := unique_domain())
    command = ["-m", "robot.ros2.calibrate", str(ARM7), "--camera", "front", "--views", "12"]
    board = ["--columns", "7", "--rows", "5", "--square-m", "0.03"]
    process = Process(domain, [*command, *board], tmp_path / "calibrate.log")
    try:
        camera = graph.node.create_publisher(Image, "/arm7/front/image", qos_profile_sensor_data)
        others = itertools.cycle(pictures)

        def show() -> None:
            """The first picture until it is not taken any more, then all of them."""
            picture = next(others) if "it was seen there already" in process.output() else pictures[0]
            camera.publish(to_image(picture, "front", graph.node.get_clock().now().nanoseconds))

        graph.node.create_timer(0.1, show)
        graph.until(lambda: not process.alive(), "it is done")
        assert process.stop() == 0, process.output()
    finally:
        process.stop()
        graph.close()
    said, _, printed = process.output().partition("cameras:")
    assert "view 12 of 12" in said and "it was seen there already" in said and "corners lie 0." in said, said
    found = load_profile(write_profile(tmp_path, **yaml.safe_load("cameras:" + printed))).cameras["front"]
    assert found.size == LENS.size and found.fx_px == pytest.approx(LENS.fx_px, abs=3) and found.cy_px == pytest.approx(LENS.cy_px, abs=3)


def test_what_cannot_be_calibrated_is_said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([str(ARM7), "--camera", "wrist"]) == 2
    assert "has no camera 'wrist'; it has front, side" in capfd.readouterr().err
    assert main([str(ARM7), "--camera", "front", "--views", "5"]) == 2
    assert "at least 10 views, got 5" in capfd.readouterr().err
    monkeypatch.setattr("robot.ros2.calibrate.SILENT_S", 0.2)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(unique_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    assert main([str(ARM7), "--camera", "front"]) == 2
    assert "no image came for 0.2 s; look with `vla-rl doctor`" in capfd.readouterr().err
