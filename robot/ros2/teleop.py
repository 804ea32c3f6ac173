"""An operator moves a robot through its bridge, by keys or a gamepad, and records what it does.

    <bridge>/jog                      goes out all the time: it is also the sign of life
    <bridge>/estop, <bridge>/deadman  go out, as from `vla-rl console`, whose keys hold here too
    joint states, cameras, <bridge>/command_sent, <bridge>/status   come in

A keyboard is no e-stop device, and a key that is let go is not heard of: with a real robot use a gamepad, whose dead-man switch is
held, and keep the vendor's e-stop in your hand.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import String
from std_srvs.srv import SetBool

from policies.bundle import Bundle
from policies.bundle_folder import read_bundle
from policies.interface import UserError
from robot.processes import Child, children, interruptible
from robot.profile import RobotProfile, load_profile
from robot.ros2 import console
from robot.ros2.comms import spinning
from robot.ros2.feed import Feed
from robot.ros2.operators import BEAT_QOS
from robot.ros2.reports import STATUS_QOS
from robot.teleop.recording import LONGEST_S, Recording, RecordingError, Take
from robot.teleop.spool import Spool
from robot.teleop.tool import ToolMotion
from robot.teleop.wish import HELP, STILL, Keyboard, Wish, pad_wish

JOG_HZ = 50.0
PAD_QUIET_S = 0.25
"""Silence of a gamepad that means: stand still, and the dead-man switch is let go."""
ASK_S = 1.0
"""Between requests to command, and how long leaving waits for an answer."""
DISCOVERY_S = 2.0
"""How long another bridge is looked for on the graph."""
RECORDING_HELP = "n record an episode · y it succeeded, keep it · x throw it away"
OPERATOR_HELP = "SPACE e-stop · e release it · g hold the dead-man switch · f let it go · a arm · d disarm · h home · r reset · q quit"


@dataclass(frozen=True)
class Session:
    """What is recorded, and where it goes."""

    bundle: Bundle
    """Whose features the demonstrations have."""
    recording: Recording
    spool: Spool
    out: Path
    """Where the data set is going to be."""
    instruction: str


def open_session(profile: Path, bundle: Path, out: Path, instruction: str) -> Session:
    """To record for a data set `out`, whose episodes lie beside it until then; those of an earlier session go into it too.

    Raises:
        UserError: the bundle does not fit the robot, or episodes that lie there already.
    """
    found = read_bundle(bundle)
    recording = Recording(found, load_profile(profile))
    spool = Spool(out.with_name(f"{out.name}.spool"), found.digest)
    if len(spool):
        print(f"{spool.folder} holds {len(spool)} episodes already; they go into the same data set")
    return Session(found, recording, spool, out, instruction)


class Teleop:
    """One operator on the graph. Keys come from the main thread, everything else happens in the comms thread."""

    def __init__(
        self,
        node: Node,
        profile: RobotProfile,
        motion: ToolMotion,
        session: Session | None,
        say: Callable[[str], None],
        joy: str | None = None,
        beside: bool = False,
    ) -> None:
        """Join the graph.

        Args:
            node: spun by the owner.
            profile: the robot.
            motion: how wishes become joint velocities.
            session: what to record; nothing if `None`.
            say: called with what there is to tell.
            joy: topic of a gamepad.
            beside: another operator armed the robot, and is its e-stop source.
        """
        self._node, self._motion, self._session, self._say = node, motion, session, say
        self._keyboard, self._pad_wish, self._pad_s = Keyboard(), STILL, -np.inf
        self._neutral = False
        """Whether the operator has asked for nothing since he commands: what is held down before does not count."""
        self._joints, self._namespace = list(profile.names), f"/{profile.name}"
        self._position: np.ndarray | None = None
        self.help = "\n".join([HELP, *([RECORDING_HELP] if session else []), OPERATOR_HELP])
        self._console = console.Console(node, profile.name, say, self.help, beside)
        self.state, self._commander = "", ""
        bridge = f"/{profile.name}/bridge"
        self._jogs = node.create_publisher(JointState, f"{bridge}/jog", BEAT_QOS)
        self._teleop = node.create_client(SetBool, f"{bridge}/teleop")
        self._asked_s, self._leaving = -np.inf, False
        self._keeping: list[threading.Thread] = []
        node.create_subscription(String, f"{bridge}/status", self._status, STATUS_QOS)
        self._feed = Feed(node, profile, self, session.recording.cameras if session else ())
        if joy is not None:
            node.create_subscription(Joy, joy, self._joy, BEAT_QOS)
        node.create_timer(1 / JOG_HZ, self._jog, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def key(self, key: str) -> bool:
        """One key. Returns False when it is time to quit."""
        if self._keyboard.press(key, time.monotonic()):
            return True
        if self._session is not None and key in "nyx":
            self._record(self._session, key)
            return True
        return self._console.key(key)

    def require_no_bridge(self) -> None:
        """Raise `UserError` if a bridge of this robot is on the graph already."""
        time.sleep(DISCOVERY_S)
        if ("bridge", self._namespace) in self._node.get_node_names_and_namespaces():
            raise UserError(f"a bridge of {self._namespace[1:]} runs already: take over from its policy with --join, or end it")

    def hand_back(self) -> None:
        """The policy commands again, as far as the bridge answers; this operator asks for nothing any more."""
        self._leaving = True
        asked = self._teleop.call_async(SetBool.Request(data=False))
        until_s = time.monotonic() + ASK_S
        while not asked.done() and time.monotonic() < until_s:
            time.sleep(0.01)

    def finish(self) -> None:
        """Wait until everything that was kept is on disk."""
        for thread in self._keeping:
            thread.join()

    def felt(self, stamp_ns: int, position: np.ndarray) -> None:
        """As `robot.ros2.feed.Sink`."""
        if self._position is None:
            self._position = position
        if self._session is not None:
            self._session.recording.felt(stamp_ns, position)

    def saw(self, camera: str, stamp_ns: int, image: np.ndarray) -> None:
        """As `robot.ros2.feed.Sink`."""
        if self._session is not None:
            self._session.recording.saw(camera, stamp_ns, image)

    def commanded(self, stamp_ns: int, position: np.ndarray) -> None:
        """As `robot.ros2.feed.Sink`."""
        self._position = position
        if self._session is not None:
            self._session.recording.commanded(stamp_ns, position)

    def _record(self, session: Session, key: str) -> None:
        recording = session.recording
        if key == "n":
            if recording.running:
                self._say("an episode is being recorded: y keeps it, x throws it away")
            elif self.state != "active":
                self._say(f"recording begins while the robot is active, it is in '{self.state}'")
            else:
                recording.begin()
                self._say(f"recording: {session.instruction}")
            return
        take = recording.end()
        if take is None:
            self._say("nothing is being recorded")
        elif key == "x":
            self._say("thrown away")
        else:  # in a thread of its own: e-stop and beats go on meanwhile
            self._keeping.append(threading.Thread(target=self._keep, args=(session, take), name="keep"))
            self._keeping[-1].start()

    def _keep(self, session: Session, take: Take) -> None:
        try:
            episode = session.recording.demonstration(take, session.instruction)
            session.spool.add(episode)
        except (RecordingError, OSError) as error:
            self._say(f"not kept: {error}")
            return
        clipped = f", {episode.clipped} of them faster than actions can say" if episode.clipped else ""
        self._say(f"kept, {len(episode.action)} frames{clipped}; {len(session.spool)} episodes")

    def _throw_away(self, why: str) -> None:
        """The episode that is being recorded, if one is."""
        if self._session is not None and self._session.recording.end() is not None:
            self._say(f"thrown away: {why}")

    def _jog(self) -> None:
        now_s = time.monotonic()
        if self._session is not None and self._session.recording.too_long:
            self._throw_away(f"an episode is longer than {LONGEST_S:g} s")
        wish, commands = self._wish(now_s), self.state == "active" and self._commander == "teleop"
        self._neutral = commands and (self._neutral or wish == STILL)
        velocity = np.zeros(len(self._joints))
        if self._position is not None:
            velocity = self._motion.velocity(wish if self._neutral else STILL, self._position, 1 / JOG_HZ)
        if not self._leaving:
            self._jogs.publish(JointState(name=self._joints, velocity=velocity.tolist()))
            self._ask(now_s)

    def _ask(self, now_s: float) -> None:
        """To command, until the bridge says that it is so."""
        if self._commander not in ("", "teleop") and now_s - self._asked_s > ASK_S and self._teleop.service_is_ready():
            self._asked_s = now_s
            self._teleop.call_async(SetBool.Request(data=True)).add_done_callback(self._answered)

    def _answered(self, answer: Future) -> None:
        found = answer.result()
        if found is not None and not found.success:
            self._say(f"not in command: {found.message}")

    def _wish(self, now_s: float) -> Wish:
        if now_s - self._pad_s > PAD_QUIET_S and self._pad_s > -np.inf:  # a gamepad that fell silent holds nothing
            self._console.held, self._pad_s, self._pad_wish = False, -np.inf, STILL
            self._say("the gamepad is silent")
        keyed = self._keyboard.wish(now_s)
        return self._pad_wish if keyed is STILL else keyed

    def _joy(self, message: Joy) -> None:
        try:
            self._pad_wish, self._console.held = pad_wish(message.axes, message.buttons)
        except ValueError as error:
            self._node.get_logger().error(str(error), throttle_duration_sec=1.0)
            return
        self._pad_s = time.monotonic()

    def _status(self, message: String) -> None:
        values = json.loads(message.data)
        self.state, self._commander = values["state"], values["commander"]
        if self.state != "active":
            self._throw_away(f"the robot is in '{self.state}' {values['cause']}".rstrip())


def teleop(profile: Path, tool: str | None, speed: float, joy: str | None, join: bool, logs: Path, session: Session | None) -> None:
    """Let the operator move the robot until he quits.

    Args:
        profile: the robot's.
        tool: link that is moved; the last of the chain if `None`.
        speed: share of full speed.
        joy: topic of a gamepad, as ROS's `joy` node publishes it.
        join: a bridge runs already, for a policy that another operator armed; when this one quits by `q` it commands again. When he
            ends otherwise it does not, and the robot stops.
        logs: folder for the log of the bridge, where it is started here.
        session: what to record; nothing if `None`.

    Raises:
        UserError: no terminal, a link that is not there, a bridge that runs already without `join`, or one that ended.
    """
    robot = load_profile(profile)
    motion = ToolMotion(robot, tool, speed, session.recording.speed_limit if session else None)
    failures: list[Exception] = []

    def build(node: Node) -> Teleop:
        return Teleop(node, robot, motion, session, lambda text: print(text, flush=True), joy, beside=join)

    with (
        console.keys() as next_key,
        interruptible(),
        spinning("teleop", build, failures.append, robot.name) as operator,
        _bridge(operator, profile, join, logs) as bridge,
    ):
        print(operator.help, flush=True)
        try:
            while (key := next_key(0.1)) == "" or operator.key(key):
                if failures:
                    raise failures[0]
                if bridge is not None and bridge.ended:
                    raise UserError(f"the bridge ended: {bridge.last_words}")
            if join:
                operator.hand_back()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        finally:
            operator.finish()


@contextmanager
def _bridge(operator: Teleop, profile: Path, join: bool, logs: Path) -> Iterator[Child | None]:
    """The bridge, which ends softly with this block while the operator is still heard; `None` where it runs already."""
    if join:
        yield None
        return
    operator.require_no_bridge()
    with children({"bridge": ["-m", "robot.ros2", str(profile), "--activate", "--teleop"]}, logs) as processes:
        processes["bridge"].start()
        yield processes["bridge"]
