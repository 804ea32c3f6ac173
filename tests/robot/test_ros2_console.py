"""The operator's keyboard in a real terminal: what it says to the bridge, and that leaving it falls silent."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from sensor_msgs.msg import Joy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from robot.ros2.operators import BEAT_QOS
from tests.ros import ROOT, Graph, unique_domain

pytestmark = pytest.mark.ros


def test_keys_are_estop_deadman_and_services() -> None:
    domain = unique_domain()
    graph = Graph(domain)
    pressed, held = graph.record(Bool, "/arm7/bridge/estop", 1), graph.record(Joy, "/arm7/bridge/deadman", BEAT_QOS)
    calls: list[str] = []

    def refuse(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        calls.append("arm")
        response.success, response.message = False, "the test says no"
        return response

    graph.node.create_service(Trigger, "/arm7/bridge/arm", refuse)
    keyboard, terminal = pty.openpty()
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, "-m", "vla_rl.cli", "console", "configs/robots/arm7.yaml"]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdin=terminal, stdout=subprocess.PIPE, text=True)
    try:
        graph.until(lambda: bool(pressed) and bool(held), "the operator is heard")
        assert not pressed[-1].data and held[-1].buttons[0] == 0, "nothing is held at first"
        os.write(keyboard, b"g")
        graph.until(lambda: held[-1].buttons[0] == 1, "the dead-man switch is held")

        def armed() -> bool:
            os.write(keyboard, b"a")  # again until discovery has shown the service
            graph.spin(0.2)
            return bool(calls)

        graph.until(armed, "arming is asked for")
        assert held[-1].buttons[0] == 1, "arming goes with a held switch"
        os.write(keyboard, b" ")
        graph.until(lambda: pressed[-1].data and held[-1].buttons[0] == 0, "e-stop, and any other key lets go")
        os.write(keyboard, b"e")
        graph.until(lambda: not pressed[-1].data, "the e-stop is released")
        os.write(keyboard, b"q")
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0 and "arm: refused: the test says no" in output
        graph.spin(0.3)
        pressed.clear()
        graph.spin(0.5)
        assert not pressed, "silence, which counts as e-stop"
    finally:
        process.kill()
        graph.close()
        os.close(keyboard)
        os.close(terminal)
