"""`python -m robot.ros2.commander BUNDLE PROFILE`: the process that runs a policy for the bridge of one robot.

    <bridge>/action_chunk, <bridge>/heartbeat      go out (see `robot.ros2.operators`)
    joint states and images of the profile, <bridge>/command_sent, <bridge>/status      come in
    ~/instruction   std_msgs/String, latched       what the policy is told from now on
    ~/decision      std_msgs/String                JSON, one per chunk: age of the observation, inference time, seed, continued or not

Callbacks run in the comms thread and keep samples; decisions are made in the main thread.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import rclpy
import tyro
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory

from policies.deployed import Backend, DeployedPolicy, open_bundle
from policies.interface import PolicyError, UserError
from robot.commander import Commander, Decision
from robot.observation import NS_PER_S
from robot.profile import RobotProfile, load_profile
from robot.ros2.chunks import to_message
from robot.ros2.comms import CommsThread, make_executor
from robot.ros2.feed import Feed
from robot.ros2.graph import join
from robot.ros2.operators import BEAT_QOS, CHUNK_QOS
from robot.ros2.reports import EVENT_QOS, STATUS_QOS
from robot.serve.client import RemotePolicy
from robot.serve.security import read_token

BEAT_HZ = 20.0
QUIET_S = 1.0
"""Without a decision before it is said why."""
IDLE_S = 0.002
"""Between looks for a new observation."""
NAME = "policy"


class CommanderNode:
    """A commander's samples and chunks on the graph."""

    def __init__(self, node: Node, commander: Commander, profile: RobotProfile, shadow: bool) -> None:
        """Subscribe and begin to beat.

        Args:
            node: `/<robot>/policy`, spun by the owner.
            commander: what decides.
            profile: the robot.
            shadow: decide whatever the bridge's state, and send nothing.
        """
        self.node, self._commander, self._shadow = node, commander, shadow
        self.state, self._armed = "", (-1, "")
        self._decided_s = time.monotonic()
        self._columns = list(profile.names)
        self._feed = Feed(node, profile, commander, commander.cameras, shadow)
        bridge = f"/{profile.name}/bridge"
        node.create_subscription(String, f"{bridge}/status", self._status, STATUS_QOS)
        node.create_subscription(String, "~/instruction", self._instruct, STATUS_QOS)
        self._chunks = node.create_publisher(JointTrajectory, f"{bridge}/action_chunk", CHUNK_QOS)
        self._decisions = node.create_publisher(String, "~/decision", EVENT_QOS)
        if not shadow:
            self._beats = node.create_publisher(Header, f"{bridge}/heartbeat", BEAT_QOS)
            node.create_timer(1 / BEAT_HZ, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def active(self) -> bool:
        """Whether decisions are asked for."""
        return self._shadow or (self.state == "active" and self._armed[1] == NAME)

    def decide(self) -> bool:
        """One look. Returns whether there was a decision."""
        began_s = time.monotonic()
        decision = self._commander.decide() if self.active else None
        if decision is None:
            if not self.active:
                self._decided_s = began_s
            elif began_s - self._decided_s > QUIET_S:
                self.node.get_logger().warning(f"no chunk: {self._commander.lacking()}", throttle_duration_sec=1.0)
            return False
        self._decided_s = began_s
        inference_s = time.monotonic() - began_s
        age_s = (self.node.get_clock().now().nanoseconds - decision.t0_ns) / NS_PER_S
        self._commander.delay.see(age_s)
        if not self._shadow:
            self._chunks.publish(to_message(decision.t0_ns, decision.dt_s, decision.positions, self._columns, NAME))
        self._report(decision, age_s, inference_s)
        return True

    def _report(self, decision: Decision, age_s: float, inference_s: float) -> None:
        _, longest_s = self._commander.policy.bundle.delay_s
        if age_s > longest_s + decision.dt_s:
            problem = f"a chunk is {age_s:.3f} s old when it leaves, training covered {longest_s:.3f} s"
            self.node.get_logger().warning(problem, throttle_duration_sec=10.0)
        values = {
            "t0_ns": decision.t0_ns,
            "age_s": round(age_s, 6),
            "inference_s": round(inference_s, 6),
            "seed": self._commander.decisions - 1,
            "continued": decision.continued,
            "instruction": self._commander.instruction,
        }
        text = json.dumps(values)
        self._decisions.publish(String(data=text))
        if self._shadow:
            self.node.get_logger().info(f"would command {text}", throttle_duration_sec=1.0)

    def _status(self, message: String) -> None:
        values: dict[str, Any] = json.loads(message.data)
        armed = values["armed"], values["commander"]
        if armed != self._armed and values["state"] == "active":
            self._armed = armed
            self._commander.begin()
        self.state = values["state"]

    def _instruct(self, message: String) -> None:
        self._commander.instruction = message.data

    def _beat(self) -> None:
        self._beats.publish(Header(frame_id=NAME))


def command(
    bundle: Annotated[str, tyro.conf.Positional],
    profile: Annotated[Path, tyro.conf.Positional],
    instruction: str = "",
    backend: Backend = "auto",
    device: str = "cpu",
    lockstep: bool = False,
    continued: bool = False,
    shadow: bool = False,
    token_file: Path | None = None,
    ca: Path | None = None,
) -> int:
    """Run a policy for the bridge of a robot, until SIGINT or SIGTERM. It commands only what the bridge lets pass.

    Args:
        bundle: folder of a bundle, or HOST:PORT of a policy server.
        profile: the robot's profile, such as configs/robots/arm7.yaml.
        instruction: what the policy is told; ~/instruction changes it.
        backend: what runs a bundle; auto takes onnxruntime where bundle and machine have it.
        device: of torch.
        lockstep: a simulator waits for every chunk.
        continued: tell the policy what the last chunk still has to say (real-time chunking).
        shadow: decide all the time and send nothing.
        token_file: shared secret of a policy server on the network.
        ca: certificate that the server's is signed with.
    """
    robot = load_profile(profile)
    policy = _open(bundle, backend, device, token_file, ca)
    commander = Commander(policy, robot, instruction, lockstep=lockstep, continued=continued)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    join()
    node = rclpy.create_node(NAME, namespace=robot.name, parameter_overrides=[Parameter("use_sim_time", value=lockstep)])
    graph = CommanderNode(node, commander, robot, shadow)
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        """A callback met a programming error: without heartbeats the bridge stops softly."""
        failures.append(error)
        stop.set()

    comms = CommsThread(node, make_executor(node.context), failed)
    comms.start()
    print(f"{NAME} of {robot.name} runs {bundle} ({policy.bundle.digest[:12]}…)", flush=True)
    try:
        _run(graph, stop)
    finally:
        comms.stop()
        node.destroy_node()
        rclpy.shutdown()
    if failures:
        raise failures[0]
    return 0


def _run(graph: CommanderNode, stop: threading.Event) -> None:
    """Decide until told to stop. What the policy refuses is said; without chunks the bridge brakes and holds by itself."""
    while not stop.is_set():
        try:
            decided = graph.decide()
        except (PolicyError, UserError) as error:
            graph.node.get_logger().error(f"no chunk: {error}", throttle_duration_sec=1.0)
            decided = False
        if not decided:
            stop.wait(IDLE_S)


def _open(bundle: str, backend: Backend, device: str, token_file: Path | None, ca: Path | None) -> DeployedPolicy:
    """A folder in this process, or a server."""
    if Path(bundle).is_dir():
        return open_bundle(Path(bundle), backend, device)
    host, _, port = bundle.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"'{bundle}' is neither a folder nor HOST:PORT of a policy server")
    return RemotePolicy(host, int(port), read_token(token_file) if token_file else None, ca)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 stopped when asked to, 2 bad input."""
    try:
        return tyro.cli(command, args=argv, prog="python -m robot.ros2.commander")
    except (UserError, PolicyError, ImportError) as error:
        print(f"commander: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
