"""`vla-rl view PROFILE`: a page in the browser that shows a robot, its cameras and its bridge, with a button that stops it.

The page only watches and stops: it is one more sender of e-stop, of whom one that says true is enough, and it holds no dead-man
switch. Its stop needs a network, a browser and this process; it is no safety function. Closing it stops nothing.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from policies.interface import UserError
from robot.cockpit.watch import Watch
from robot.profile import RobotProfile, load_profile
from robot.ros2.comms import spinning
from robot.ros2.feed import Feed
from robot.ros2.operators import ESTOP_QOS
from robot.ros2.reports import EVENT_QOS, STATUS_QOS

DRAW_S = 0.1
BEAT_HZ = 20.0


class ViewNode:
    """What the page hears, and what its buttons say."""

    def __init__(self, node: Node, profile: RobotProfile) -> None:
        """Join the graph."""
        self.watch, self._node, self._pressed = Watch(), node, False
        self.said = ""
        """What came of the last button."""
        bridge = f"/{profile.name}/bridge"
        Feed(node, profile, self.watch, tuple(profile.topics.images))
        for topic, qos, take in (
            (f"{bridge}/status", STATUS_QOS, self.watch.reported),
            (f"{bridge}/chunk", EVENT_QOS, self.watch.followed),
            (f"/{profile.name}/policy/decision", EVENT_QOS, self.watch.decided),
        ):
            node.create_subscription(String, topic, partial(self._read, take), qos)
        node.create_subscription(DiagnosticArray, f"{bridge}/safety_event", self._happened, EVENT_QOS)
        self._estop = node.create_publisher(Bool, f"{bridge}/estop", ESTOP_QOS)
        self._disarm = node.create_client(Trigger, f"{bridge}/disarm")
        node.create_timer(1 / BEAT_HZ, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """Press the e-stop, until it is released."""
        self._pressed, self.said = True, "stop is pressed"
        self._beat()

    def release(self) -> None:
        """Let go of it and say so once; others who press still count. The bridge stays stopped until it is reset (`vla-rl console`)."""
        self._pressed, self.said = False, "stop is released; reset and arm at the console"
        self._estop.publish(Bool(data=False))

    def disarm(self) -> None:
        """Ask for a soft stop."""
        if not self._disarm.service_is_ready():
            self.said = "disarm: no bridge answers; is it running?"
            return
        self._disarm.call_async(Trigger.Request()).add_done_callback(self._disarmed)

    def _disarmed(self, done: Future) -> None:
        answer = done.result()
        self.said = f"disarm: {answer.message if answer is not None else 'no answer'}"

    def _read(self, take: Callable[[Mapping[str, Any]], None], message: String) -> None:
        """What is no report of ours is logged: it must not take the stop button away."""
        try:
            take(json.loads(message.data))
        except (ValueError, KeyError, TypeError) as error:
            self._node.get_logger().warning(f"a report was not understood: {error!r}", throttle_duration_sec=1.0)

    def _beat(self) -> None:
        """Only a pressed button speaks: the page's silence stops nothing."""
        if self._pressed:
            self._estop.publish(Bool(data=True))

    def _happened(self, message: DiagnosticArray) -> None:
        for found in message.status:
            self.watch.happened(f"{found.name.rpartition(': ')[2]}: {found.message}")


def view(profile: Annotated[Path, tyro.conf.Positional], host: str = "127.0.0.1", port: int = 8080) -> int:
    """A page that shows a robot, its cameras, limits, state and latency, and stops it. Not a safety function.

    Args:
        profile: the robot's profile, such as configs/robots/arm7.yaml.
        host: address to serve on; anybody who reaches it can press the button.
        port: of the page.
    """
    try:
        from robot.cockpit.page import Buttons, Page, require_free
    except ImportError as error:
        raise UserError(f"the page needs the extra 'view' ({error}): pip install 'vla-rl[view]'") from error
    require_free(host, port)
    robot, stopped, failures = load_profile(profile), threading.Event(), list[Exception]()

    def failed(error: Exception) -> None:
        failures.append(error)
        stopped.set()

    with spinning("view", lambda node: ViewNode(node, robot), failed, robot.name) as operator:
        page = Page(robot, host, port, Buttons(operator.stop, operator.release, operator.disarm))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        print(f"{robot.name}: http://{host}:{page.server.get_port()}", flush=True)
        try:
            while not stopped.wait(DRAW_S):
                page.draw(operator.watch.moment(), operator.said)
        finally:
            page.close()
    if failures:
        raise failures[0]
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 stopped when asked to, 2 bad input."""
    try:
        return tyro.cli(view, args=argv, prog="vla-rl view")
    except (UserError, OSError) as error:
        print(f"view: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
