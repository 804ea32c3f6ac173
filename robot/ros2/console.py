"""`vla-rl console PROFILE`: an operator's keyboard in front of the bridge: e-stop, dead-man switch, arming, state.

A keyboard is no e-stop device: with a real robot keep the vendor's button in your hand. Terminals tell when a key is pressed but
not when it is released, so `g` holds the dead-man switch until any other key; a real one is a button on ~/deadman, from `joy`.
"""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import tyro
from rclpy.client import Client
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from policies.interface import UserError
from robot.profile import load_profile
from robot.ros2.comms import spinning
from robot.ros2.operators import BEAT_QOS, ESTOP_QOS
from robot.ros2.reports import STATUS_QOS

BEAT_HZ = 20.0
CALLS = {"a": "arm", "d": "disarm", "r": "reset_fault", "h": "home"}
HELP = "SPACE e-stop · e release it · g hold the dead-man switch (any other key lets go) · a arm · d disarm · h home · r reset · q quit"


class Console:
    """What the operator's keys do on the graph."""

    def __init__(self, node: Node, robot: str, say: Callable[[str], None], keys: str = HELP, beside: bool = False) -> None:
        """Join the graph.

        Args:
            node: spun by the owner.
            robot: its name.
            say: called with what there is to tell, in the comms thread too.
            keys: what is told where a key means nothing.
            beside: another operator is the e-stop source: this one only presses, and holds no dead-man switch before he first did.
        """
        self.pressed, self.held = False, False
        self._say, self._keys, self._beside, self._has_held = say, keys, beside, False
        bridge = f"/{robot}/bridge"
        self._estop = node.create_publisher(Bool, f"{bridge}/estop", ESTOP_QOS)
        self._deadman = node.create_publisher(Joy, f"{bridge}/deadman", BEAT_QOS)
        self._clients: dict[str, Client] = {name: node.create_client(Trigger, f"{bridge}/{name}") for name in CALLS.values()}
        node.create_subscription(String, f"{bridge}/status", self._status, STATUS_QOS)
        node.create_timer(1 / BEAT_HZ, self.beat)
        self._shown = ""

    def beat(self) -> None:
        """Say that the operator is there, and what is held."""
        self._has_held = self._has_held or self.held
        if self.pressed or not self._beside:
            self._estop.publish(Bool(data=self.pressed))
        if self._has_held or not self._beside:
            self._deadman.publish(Joy(buttons=[int(self.held)]))

    def key(self, key: str) -> bool:
        """One key. Returns False when it is time to quit."""
        self.held = key == "g" or (self.held and key in "ah")  # arming and homing go with a held switch
        if key == " ":
            self.pressed = True
        elif key == "e":
            self.pressed = False
        self.beat()
        if key == "q":
            return False
        if key in CALLS:
            self._call(CALLS[key])
        elif key in " eg":
            self._say(f"e-stop {'PRESSED' if self.pressed else 'released'}, dead-man switch {'held' if self.held else 'not held'}")
        else:
            self._say(self._keys)
        return True

    def _call(self, name: str) -> None:
        client = self._clients[name]
        if not client.service_is_ready():
            self._say(f"{name}: no bridge answers; is it running?")
            return
        client.call_async(Trigger.Request()).add_done_callback(lambda done: self._answered(name, done.result()))

    def _answered(self, name: str, answer: Trigger.Response) -> None:
        self._say(f"{name}: {'done' if answer.success else 'refused: ' + answer.message}")

    def _status(self, message: String) -> None:
        values: dict[str, Any] = json.loads(message.data)
        text = f"[{values['state']}] {values['cause']}".rstrip()
        if values["conflicts"]:
            text += f" · {values['conflicts']}"
        if text != self._shown:
            self._shown = text
            self._say(text)


@contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """Single keys of this terminal: call with a time to wait [s]; empty if none came. A terminal that is closed is as Ctrl-C."""
    if not sys.stdin.isatty():
        raise UserError("the console reads single keys and needs a terminal; scripts call the services of /<robot>/bridge")
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)

    def next_key(wait_s: float) -> str:
        if not select.select([terminal], [], [], wait_s)[0]:
            return ""
        try:
            found = os.read(terminal, 1)  # not of sys.stdin, whose buffer would keep keys that came together
        except OSError:  # the other end was closed
            found = b""
        if not found:
            raise KeyboardInterrupt
        return found.decode(errors="ignore")

    try:
        yield next_key
    finally:
        with suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def console(profile: Annotated[Path, tyro.conf.Positional]) -> int:
    """Keys for the operator of a bridge. Leaving it stops the robot: silence counts as e-stop.

    Args:
        profile: the robot's profile, such as configs/robots/arm7.yaml.
    """
    robot = load_profile(profile)
    broken = threading.Event()

    def failed(error: Exception) -> None:
        print(f"console: {type(error).__name__}: {error}", file=sys.stderr)
        broken.set()

    def build(node: Node) -> Console:
        return Console(node, robot.name, lambda text: print(text, flush=True))

    with keys() as next_key, spinning("console", build, failed, robot.name) as operator, suppress(KeyboardInterrupt):
        print(HELP, flush=True)
        while not broken.is_set() and ((key := next_key(0.1)) == "" or operator.key(key)):
            pass
    return 1 if broken.is_set() else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 left, 1 broken, 2 bad input."""
    try:
        return tyro.cli(console, args=argv, prog="vla-rl console")
    except UserError as error:
        print(f"console: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
