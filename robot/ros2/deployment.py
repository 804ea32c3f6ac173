"""A robot's profile on one side, whoever commands it on the other, the runtime's safety in between.

    ~/arm ~/disarm ~/reset_fault ~/home   std_srvs/Trigger; the answer says why not
    ~/teleop                              std_srvs/SetBool: true lets who teleoperates command, false the policy; also while it moves
    topics                                `robot.ros2.operators` come in, `robot.ros2.reports` go out

The comms thread runs callbacks, the control thread sends commands; one lock lies around the runtime. Entities are created once
and live as long as the process, because destroying them while the executor spins would break it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.time import Time
from std_srvs.srv import SetBool, Trigger

from robot.chunks import Blend, Border, Chunk, Rejected
from robot.profile import RobotProfile
from robot.ros2.checks import Situation, refusals
from robot.ros2.chunks import ChunkSample
from robot.ros2.control_thread import ControlThread, LockstepClock, StoppableClock, WallClock
from robot.ros2.joint_states import JointSample
from robot.ros2.operators import OperatorInputs
from robot.ros2.reports import Reports
from robot.ros2.robot_io import RosRobot
from robot.ros2.watched_images import WatchedImages
from robot.runtime import Operators, Runtime, Tick
from robot.safety import Intervention, Measurement
from robot.scheduler import timing_of
from robot.sources import JogSource, PolicySource, ReplaySource
from robot.states import LATCHED, State

GRAPH_S = 10.0
"""How long configuring waits for the robot to be on the graph."""
POLL_S = 0.05
GRAPH_HZ, STATUS_HZ, DIAGNOSTICS_HZ = 10.0, 5.0, 1.0
TO_STANDSTILL_S = 5.0
"""How long ending waits for a moving robot to stop softly."""
UNDER_WAY = 50
"""Chunks that may wait to be looked at."""
HOMING_SPEED = 0.25
"""Share of the velocity limits at which the robot goes home."""


@dataclass(frozen=True)
class BridgeSettings:
    """What an operator decides, besides the profile."""

    lockstep: bool = False
    """Time is the simulator's: one command per tick of /clock. It stands still in standby and while a chunk is being computed."""
    deadman_required: bool = True
    """Motion needs the dead-man switch."""
    speed: float | None = None
    """Share of the joint velocity limits, 0 to 1; the profile's `speed_cap` if `None`."""
    cameras: tuple[str, ...] = ()
    """Cameras of the profile that the policy depends on: while it commands they must be fresh and must not be frozen."""
    blend: Blend = "replace"
    """How a new chunk takes over from the last one."""
    teleop: bool = False
    """Who teleoperates commands from the start, instead of the policy."""


class Deployment:
    """What the bridge node does, by composition: rclpy's node has private attributes of its own."""

    def __init__(self, node: Node, profile: RobotProfile, settings: BridgeSettings) -> None:
        """Join the graph; nothing is sent yet.

        Raises:
            AdapterError: the robot is not commanded over ROS 2, message types of its vendor are not installed, or it lacks a camera.
        """
        self._node, self._profile, self._settings = node, profile, settings
        self._lock = threading.Lock()
        self._runtime = Runtime(profile, settings.deadman_required)
        if settings.speed is not None:
            self._runtime.filter.slow(settings.speed)
        timing = timing_of(profile, settings.blend)
        if settings.lockstep:
            timing = replace(timing, ramp_s=0.0)  # no chunk is late where a simulator waits for it
        self._policy = PolicySource(timing, self._chunk_report)
        self._jog = JogSource(profile)
        self._commander: PolicySource | JogSource = self._jog if settings.teleop else self._policy
        """Who commands when the robot is armed."""
        self._homing: ReplaySource | None = None
        self._runtime.select(self._commander)
        self._chunks = self._armed = 0
        self._observed: dict[int, int] = {}
        """When the observations of chunks under way were taken, by chunk [ns]."""
        self._conflicts: tuple[str, ...] = ()
        self._robot = RosRobot(node, profile, settings.lockstep)
        self._images = WatchedImages(node, profile, settings.cameras)
        self._clock: StoppableClock = LockstepClock(self._robot) if settings.lockstep else WallClock()
        self._reports = Reports(node, profile.names)
        self._operators = OperatorInputs(
            node,
            profile,
            on_chunk=self._chunk,
            on_refusal=self._refused,
            on_heartbeat=lambda: self._policy.heartbeat(self._clock.now_s()),
            on_jog=lambda velocity: self._jog.jog(velocity, self._clock.now_s()),
        )
        self._thread: ControlThread | None = None
        self._ticked = self._sending = self._resting = self._closed = False
        services = {"arm": self._arm, "disarm": self._disarm, "reset_fault": self._reset_fault, "home": self._home}
        for name, callback in services.items():
            node.create_service(Trigger, f"~/{name}", callback)
        node.create_service(SetBool, "~/teleop", self._hand_over)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # timers go on where the simulator's clock stands
        for rate_hz, callback in ((GRAPH_HZ, self._look), (STATUS_HZ, self._status), (DIAGNOSTICS_HZ, self._diagnose)):
            node.create_timer(1 / rate_hz, callback, clock=steady)

    @property
    def ready(self) -> bool:
        """Whether the control loop runs, and knows every joint's state, and that they stand."""
        with self._lock:
            return self._ticked and self._runtime.standing()

    def problems(self) -> tuple[str, ...]:
        """What the graph lacks after some time to discover it."""
        until = time.monotonic() + GRAPH_S
        while (problems := self._robot.problems()) and time.monotonic() < until:
            time.sleep(POLL_S)
        return problems

    def stand(self) -> str:
        """Hold where the robot is. Returns why not, empty if it does."""
        if not self._ticked:
            return f"no joint state yet of {', '.join(self._robot.missing)}"
        with self._lock:
            self._resting = False
            return self._runtime.activate()

    def rest(self) -> None:
        """Stop softly, then send nothing; a latched state stays. Returns at once: the control thread goes on until then."""
        with self._lock:
            self._resting = True

    def halt(self) -> None:
        """Stop softly and end the control thread. Not to be called by callbacks, whose thread the stop needs. Twice is safe."""
        self.rest()
        thread, self._closed = self._thread, True
        if thread is None:
            return
        until = time.monotonic() + TO_STANDSTILL_S
        while self._sending and time.monotonic() < until:
            time.sleep(POLL_S)
        thread.stop()

    # control thread

    def _tick(self, now_s: float, dt_s: float) -> bool:
        """Decide and send. False if a simulator has to be asked again, as it waits for a command that was not sent."""
        sample, operators = self._robot.latest, self._operators.now()
        with self._lock:
            if self._chunk_is_awaited(now_s, operators):
                return False
            halted = self._settings.lockstep and self._runtime.state is State.STANDBY
            # What a simulator that stands still was told last is one period old.
            at_s = now_s - self._profile.period_s if halted else now_s
            measured = self._measurement(sample, at_s) if sample else None
            tick = self._runtime.tick(at_s, dt_s, measured, operators, len(self._conflicts), self._image_ages(at_s))
            self._come_home(now_s)
            if self._resting:
                self._runtime.deactivate()
        command = None if halted else tick.command
        if command is not None:
            self._robot.send(command.position, command.velocity, tick.damped)
            self._reports.command_sent(self._stamp(now_s), command.position, command.velocity)
        self._ticked, self._sending = True, command is not None
        self._report(tick)
        return self._sending or not self._settings.lockstep

    def _chunk_is_awaited(self, now_s: float, operators: Operators) -> bool:
        """Whether a simulator has to wait for the policy; people are heard all the same."""
        commands = self._homing is None and self._commander is self._policy and self._runtime.state is State.ACTIVE
        if not self._settings.lockstep or not commands:
            return False
        calm = not operators.estop_pressed and not operators.estop_lost
        held = operators.deadman_held or not self._settings.deadman_required
        return calm and held and not self._resting and not self._policy.ready(now_s)

    def _image_ages(self, now_s: float) -> dict[str, float]:
        """Of the images that commands come from: going home needs none, and who teleoperates looks for himself."""
        for camera, sample in list(self._images.newest.items()) if self._runtime.filter.seeded else ():
            self._runtime.filter.see_image(camera, sample.digest, sample.stamp_s)
        return {} if self._homing is not None or self._commander is self._jog else self._images.ages_s(now_s, self._settings.lockstep)

    def _stamp(self, now_s: float) -> Time:
        """Of a command that leaves now: the tick's in lockstep, otherwise the ROS clock's."""
        clock = self._node.get_clock()
        return Time(nanoseconds=round(1e9 * now_s), clock_type=clock.clock_type) if self._settings.lockstep else clock.now()

    def _report(self, tick: Tick) -> None:
        for event in tick.events:
            self._node.get_logger().info(event)
            self._reports.safety_event("state", event, {})
        if tick.events:
            self._status()
        if tick.verdict is not None:
            for found in (*tick.verdict.interventions, *tick.verdict.refused, *tick.verdict.faults):
                self._reports.safety_event(found.code, f"{found.code} of {found.where}", _values_of(found))

    def _come_home(self, now_s: float) -> None:
        """End homing where it has ended, or was ended."""
        if self._homing is None:
            return
        if self._runtime.state is State.ACTIVE and 0 < self._homing.end_s <= now_s:
            self._runtime.disarm()
        if self._runtime.state is not State.ACTIVE:
            self._homing = None
            self._runtime.select(self._commander)

    def _chunk_report(self, found: Border | Rejected) -> None:
        """What became of a chunk."""
        t0_ns = self._observed.pop(found.chunk, 0)
        if isinstance(found, Border):
            self._reports.chunk(t0_ns, found.age_s)
        if isinstance(found, Rejected):
            self._reports.safety_event("chunk", f"chunk {found.chunk} rejected: {found.code}, {found.detail}", {"code": found.code})
        elif found.delay_alarm:
            text = f"chunk {found.chunk} took {found.age_s:.3f} s, {found.expected_delay_s:.3f} s were expected"
            self._reports.safety_event("chunk_delay", text, {"age_s": found.age_s, "expected_s": found.expected_delay_s})

    def failed(self, error: BaseException) -> None:
        """A thread met a programming error, which is a fault.

        Without the control thread nothing is sent any more, and the robot's own watchdog has to hold it.
        """
        cause = f"{threading.current_thread().name} failed: {type(error).__name__}: {error}"
        with self._lock:
            self._runtime.fault(cause)
        self._node.get_logger().fatal(cause)

    def _measurement(self, sample: JointSample, now_s: float) -> Measurement:
        """For the tick of `now_s`; what came in while that tick overslept is as if it came in time."""
        received_ns = sample.stamps.header_ns if self._settings.lockstep else sample.stamps.monotonic_ns
        return Measurement(sample.position, sample.velocity, sample.stamps.header_ns / 1e9, min(received_ns / 1e9, now_s))

    # comms thread

    def _chunk(self, chunk: ChunkSample) -> None:
        """Put a chunk on the control clock. Its steps begin at the observation; ones that begin later are dated so."""
        now_s = self._clock.now_s()
        offset_s = 0.0 if self._settings.lockstep else now_s - self._node.get_clock().now().nanoseconds / 1e9
        self._chunks += 1
        if len(self._observed) > UNDER_WAY:  # the policy does not command: nobody looks at its chunks
            self._observed.clear()
        self._observed[self._chunks] = chunk.t0_ns
        self._policy.offer(Chunk(self._chunks, chunk.start_ns / 1e9 + offset_s, chunk.dt_s, chunk.positions), now_s)

    def _refused(self, kind: str, reason: str) -> None:
        self._reports.safety_event(kind, f"{kind} refused: {reason}", {"code": "refused"})

    def _arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        found = refusals(self._profile, self._situation(self._clock.now_s() - self._commander.heard_s(0.0)))
        with self._lock:
            response.message = self._runtime.arm(found)
            self._armed += not response.message
        response.success = not response.message
        return response

    def _home(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Go home from STANDBY, and back to it. The dead-man switch and the e-stop hold as for everything that moves."""
        del request
        sample, home = self._robot.latest, self._profile.home
        if sample is None:
            response.success, response.message = False, "no joint states have come in"
            return response
        velocity = HOMING_SPEED * np.array([joint.velocity for joint in self._profile.joints])
        way_s = max(float(np.max(np.abs(home - sample.position) / velocity)), 2 * self._profile.period_s)
        found = refusals(self._profile, self._situation(silence_s=0.0))
        with self._lock:
            if self._runtime.state is State.STANDBY:
                self._homing = ReplaySource(np.array([sample.position, home]), way_s, self._profile)
                self._runtime.select(self._homing)
            response.message = self._runtime.arm(found)
        response.success = not response.message
        return response

    def _hand_over(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Somebody else commands from now on, from what was commanded last."""
        with self._lock:
            if self._homing is not None:
                response.success, response.message = False, "the robot goes home; ask again when it is there"
                return response
            commander = self._jog if request.data else self._policy
            if commander is not self._commander:
                self._commander = commander
                self._runtime.select(commander)
        response.success, response.message = True, f"{self._commander.name} commands"
        self._status()
        return response

    def _disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        with self._lock:
            self._runtime.disarm()
            response.success, response.message = True, str(self._runtime.state)
        return response

    def _reset_fault(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        with self._lock:
            response.message = self._runtime.reset()
        response.success = not response.message
        return response

    def _situation(self, silence_s: float) -> Situation:
        self._look()
        state_hz = None if self._settings.lockstep else self._robot.state_hz
        return Situation(self._conflicts, self._robot.problems(), state_hz, silence_s)

    def _look(self) -> None:
        """Look who else commands, and begin to tick when every joint has been heard."""
        self._conflicts = self._robot.conflicts()
        if self._thread is None and not self._closed and self._robot.latest is not None:
            self._thread = ControlThread(self._clock, self._profile.period_s, self._tick, self.failed)
            self._thread.start()

    def _values(self) -> dict[str, str | int | float | bool]:
        broken, problem = self._robot.broken_messages
        with self._lock:
            runtime = self._runtime
            state, cause, missed, counts = runtime.state, runtime.cause, runtime.missed, dict(runtime.filter.counts)
        return {
            "state": str(state),
            "cause": cause,
            "commander": self._commander.name,
            "armed": self._armed,
            "missed_deadlines": missed,
            "state_hz": round(self._robot.state_hz, 1),
            "clock_offset_s": round(self._robot.clock_offset_s, 6),
            "broken_messages": broken,
            "last_broken": problem,
            "refused_chunks": self._operators.refused_chunks,
            "last_refused_chunk": self._operators.last_refusal,
            "conflicts": "; ".join(self._conflicts),
        } | {f"count.{code}": count for code, count in counts.items()}

    def _status(self) -> None:
        self._reports.status(self._values())

    def _diagnose(self) -> None:
        values = self._values()
        self._reports.diagnostics(values["state"] not in LATCHED, f"{values['state']} {values['cause']}".strip(), values)


def _values_of(found: Intervention) -> dict[str, str | float]:
    return {"where": found.where, "magnitude": found.magnitude}
