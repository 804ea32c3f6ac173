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
from rclpy.node import Node
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

    def __init__(self, node: Node, profile: RobotProfile, say: Callable[[str], None]) -> None:
        """Join the graph. `say` is called with what comes of a button, in the comms thread too."""
        self.watch, self._say, self._pressed = Watch(), say, False
        bridge = f"/{profile.name}/bridge"
        Feed(node, profile, self.watch, tuple(profile.topics.images))
        for topic, qos, take in (
            (f"{bridge}/status", STATUS_QOS, self.watch.reported),
            (f"{bridge}/chunk", EVENT_QOS, self.watch.followed),
            (f"/{profile.name}/policy/decision", EVENT_QOS, self.watch.decided),
        ):
            node.create_subscription(String, topic, partial(_read, take), qos)
        node.create_subscription(DiagnosticArray, f"{bridge}/safety_event", self._happened, EVENT_QOS)
        self._estop = node.create_publisher(Bool, f"{bridge}/estop", ESTOP_QOS)
        self._disarm = node.create_client(Trigger, f"{bridge}/disarm")
        node.create_timer(1 / BEAT_HZ, self._beat)

    def stop(self) -> None:
        """Press the e-stop, until it is released."""
        self._pressed = True
        self._beat()
        self._say("**stop is pressed**")

    def release(self) -> None:
        """Let go of it; the bridge stays stopped until somebody resets it (`vla-rl console`)."""
        self._pressed = False
        self._say("stop is released; reset and arm at the console")

    def disarm(self) -> None:
        """Ask for a soft stop."""
        if not self._disarm.service_is_ready():
            self._say("disarm: no bridge answers; is it running?")
            return
        self._disarm.call_async(Trigger.Request()).add_done_callback(lambda done: self._say(f"disarm: {done.result().message}"))

    def _beat(self) -> None:
        """Only a pressed button speaks: the page's silence stops nothing."""
        if self._pressed:
            self._estop.publish(Bool(data=True))

    def _happened(self, message: DiagnosticArray) -> None:
        for found in message.status:
            self.watch.happened(f"{found.name.rpartition(': ')[2]}: {found.message}")


def _read(take: Callable[[Mapping[str, Any]], None], message: String) -> None:
    take(json.loads(message.data))


def view(profile: Annotated[Path, tyro.conf.Positional], host: str = "127.0.0.1", port: int = 8080) -> int:
    """A page that shows a robot, its cameras, limits, state and latency, and stops it. Not a safety function.

    Args:
        profile: the robot's profile, such as configs/robots/arm7.yaml.
        host: address to serve on; anybody who reaches it can press the button.
        port: of the page.
    """
    try:
        from robot.cockpit.page import Buttons, Page
    except ImportError as error:
        raise UserError(f"the page needs the extra 'view' ({error}): pip install 'vla-rl[view]'") from error
    robot, stopped, failures = load_profile(profile), threading.Event(), list[Exception]()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())

    def failed(error: Exception) -> None:
        failures.append(error)
        stopped.set()

    with spinning("view", lambda node: ViewNode(node, robot, lambda text: page.say(text)), failed, robot.name) as operator:
        page = Page(robot, host, port, Buttons(operator.stop, operator.release, operator.disarm))
        print(f"{robot.name}: http://{host}:{page.server.get_port()}", flush=True)
        try:
            while not stopped.wait(DRAW_S):
                page.draw(operator.watch.moment())
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
