"""The operator at his console, in the test's process: e-stop source, dead-man switch, arming."""

from __future__ import annotations

import json
import threading

from std_msgs.msg import String

from robot.ros2.console import Console
from robot.ros2.reports import STATUS_QOS
from tests.ros import Graph


class Attended:
    """A bridge that somebody looks after, also while the test waits: an e-stop source that falls silent stops the robot."""

    def __init__(self, graph: Graph, robot: str) -> None:
        self.said = list[str]()
        self.operator = Console(graph.node, robot, self.said.append)
        self._graph = graph
        self._statuses = graph.record(String, f"/{robot}/bridge/status", STATUS_QOS)
        self._left = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self._beats.start()

    def _beat(self) -> None:
        while not self._left.wait(0.05):
            self.operator.beat()

    @property
    def state(self) -> str:
        """Of the bridge."""
        return json.loads(self._statuses[-1].data)["state"] if self._statuses else ""

    def until(self, state: str) -> None:
        self._graph.until(lambda: self.state == state, f"the bridge is in {state}; {self.said}")

    def arm(self) -> None:
        self.operator.key("g")

        def armed() -> bool:
            self.operator.key("a")
            self._graph.spin(0.3)
            return self.state == "active"

        self._graph.until(armed, f"the bridge arms; {self.said}")

    def leave(self) -> None:
        """Before the graph is closed."""
        self._left.set()
        self._beats.join()
