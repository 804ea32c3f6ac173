"""What ROS tests share: a graph of their own, conditions instead of sleeps, processes that are stopped by id."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
import yaml
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sim.workers.process import software_gl

ROOT = Path(__file__).parents[1]
WAIT_S = 120.0
"""Machines that run tests are loaded; a condition that is never met fails after so long."""
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

# Test processes side by side have one parent, and half of the domains each.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
_domains = itertools.count(os.getppid() + 50 * int(_worker))


def unique_domain() -> int:
    """A domain that no other test of this machine uses at the moment, almost surely."""
    return 1 + next(_domains) % 100


def write_profile(folder: Path, **changes: Any) -> Path:
    """The profile of the simulated arm with some entries replaced; of a section that is a mapping, only those given."""
    profile = yaml.safe_load((ROOT / "configs" / "robots" / "arm7.yaml").read_text())
    for name, value in changes.items():
        profile[name] = profile.get(name, {}) | value if isinstance(value, dict) else value
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(profile))
    return path


class Graph:
    """A node of the test's own, in a context of its own."""

    def __init__(self, domain: int) -> None:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("test", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S, said: Sequence[str] = ()) -> None:
        """Spin until a condition holds; what was `said` by then is told where it does not."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "; ".join([f"waited {timeout_s} s in vain until {what}", *said])
            self.executor.spin_once(timeout_sec=0.05)

    def spin(self, duration_s: float) -> None:
        end = time.monotonic() + duration_s
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def record(self, message_type: type, topic: str, qos: QoSProfile | int = 50) -> list[Any]:
        """Messages of a topic, as they come in."""
        messages: list[Any] = []
        self.node.create_subscription(message_type, topic, messages.append, qos)
        return messages

    def call(self, kind: type, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"service {name} exists")
        future = client.call_async(request)
        self.until(future.done, f"service {name} answers")
        self.node.destroy_client(client)
        return future.result()

    def trigger(self, name: str) -> Trigger.Response:
        return self.call(Trigger, name, Trigger.Request())

    def set(self, node: str, **values: Any) -> list[Any]:
        """Set parameters; `fault_state="stop"` is `fault.state`."""
        parameters = [Parameter(name.replace("_", ".", 1), value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(SetParameters, f"{node}/set_parameters", SetParameters.Request(parameters=parameters)).results


class Process:
    """A program of ours on a graph."""

    def __init__(self, domain: int, arguments: Sequence[str], log: Path, *packages: Path) -> None:
        """`packages`: folders of Python packages besides ours."""
        environment = os.environ | {
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "MUJOCO_GL": software_gl(),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *packages))),
            "OMP_NUM_THREADS": "1",
        }
        self.log = log
        self._file = log.open("w")
        self.process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=self._file, stderr=subprocess.STDOUT)

    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ask for a clean end; the exit status."""
        if self.alive():
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self._file.close()

    def output(self) -> str:
        return self.log.read_text()


class Episodes:
    """What the simulated robot says about its task."""

    def __init__(self, graph: Graph, name: str = "/arm7/sim_robot/episode") -> None:
        self._messages = graph.record(String, name, LATCHED)

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def now(self) -> dict[str, Any]:
        return json.loads(self._messages[-1].data)
