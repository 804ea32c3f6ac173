"""The bridge node: a robot's profile on one side, whoever commands it on the other, safety in between.

    lifecycle   configure: join the graph and check it · activate: hold where the robot is · deactivate · clean up
    ~/arm ~/disarm ~/reset_fault   std_srvs/Trigger; the answer says why not
    topics      `robot.ros2.operators` come in, `robot.ros2.reports` go out

The comms thread runs callbacks, the control thread sends commands; one lock lies around `Control`. Entities are created once
and live as long as the process, because destroying them while the executor spins would break it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from robot.profile import RobotProfile
from robot.ros2.adapters import AdapterError
from robot.ros2.checks import Situation, refusals
from robot.ros2.chunk_source import ChunkSource
from robot.ros2.control import Control
from robot.ros2.control_thread import Beat, ControlThread
from robot.ros2.joint_states import JointSample
from robot.ros2.operators import OperatorInputs
from robot.ros2.reports import Reports
from robot.ros2.robot_io import RosRobot
from robot.safety import Measurement
from robot.states import LATCHED, State

GRAPH_S = 10.0
"""How long configuring waits for the robot to be on the graph."""
POLL_S = 0.05
GRAPH_HZ, STATUS_HZ, DIAGNOSTICS_HZ = 10.0, 5.0, 1.0
TO_STANDSTILL_S = 5.0
"""How long deactivating waits for a moving robot to stop softly."""


@dataclass(frozen=True)
class BridgeSettings:
    """What an operator decides, besides the profile."""

    lockstep: bool = False
    """Time is the simulator's: one command per tick of /clock."""
    deadman_required: bool = True
    """Motion needs the dead-man switch."""
    speed: float | None = None
    """Share of the joint velocity limits, 0 to 1; the profile's `speed_cap` if `None`."""


class Bridge(LifecycleNode):
    """See the module."""

    def __init__(self, profile: RobotProfile, settings: BridgeSettings, context: Context | None = None) -> None:
        overrides = [Parameter("use_sim_time", value=settings.lockstep)]
        super().__init__("bridge", namespace=profile.name, context=context, parameter_overrides=overrides)
        self._profile, self._settings = profile, settings
        self._lock = threading.Lock()
        self._source = ChunkSource(profile.names, self._to_control_s)
        self._control = Control(profile, self._source, settings.deadman_required)
        if settings.speed is not None:
            self._control.slow(settings.speed)
        self._robot: RosRobot | None = None
        self._operators: OperatorInputs
        self._reports: Reports
        self._thread: ControlThread | None = None
        self._conflicts: tuple[str, ...] = ()
        self._now_s = 0.0
        self._missed = self._missed_in_a_row = 0

    @property
    def state(self) -> State:
        """Of the state machine; the lifecycle is coarser."""
        return self._control.state

    @property
    def heard(self) -> bool:
        """Whether every joint's state has come in."""
        return self._robot is not None and self._robot.latest is not None

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Join the graph; fails, with reasons in the log, where the robot is not there as its profile says."""
        del state
        try:
            if self._robot is None:
                self._join()
        except AdapterError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        assert self._robot is not None
        until = time.monotonic() + GRAPH_S
        while (problems := self._robot.problems()) and time.monotonic() < until:
            time.sleep(POLL_S)
        for problem in problems:
            self.get_logger().error(problem)
        return TransitionCallbackReturn.FAILURE if problems else TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold where the robot is. Fails without a fresh measurement."""
        del state
        assert self._robot is not None
        sample = self._robot.latest
        if sample is None:
            missing = ", ".join(self._robot.missing)
            self.get_logger().error(f"joint states name no {missing}" if missing else "no joint states have come in")
            return TransitionCallbackReturn.FAILURE
        with self._lock:
            self._control.activate(self._measurement(sample))
            if self._control.state is not State.STANDBY:
                self.get_logger().error(f"cannot activate in state {self._control.state}: {self._control.cause}; call ~/reset_fault")
                return TransitionCallbackReturn.FAILURE
        if self._thread is None:
            self._thread = ControlThread(
                self._tick, self._failed, self._profile.period_s, self._next_tick if self._settings.lockstep else None
            )
            self._thread.start()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop softly, then send nothing."""
        del state
        self.rest()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As `on_deactivate`, and end the control thread."""
        del state
        self.halt()
        return TransitionCallbackReturn.SUCCESS

    def rest(self) -> None:
        """Stop softly and go to INACTIVE; a latched state stays."""
        until = time.monotonic() + TO_STANDSTILL_S
        while self._thread is not None and time.monotonic() < until:
            with self._lock:
                self._control.deactivate()
                if self._control.state in (State.INACTIVE, State.UNCONFIGURED, *LATCHED):
                    return
            time.sleep(POLL_S)

    def halt(self) -> None:
        """Stop softly and end the control thread. Safe to call twice."""
        self.rest()
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def _join(self) -> None:
        self._robot = RosRobot(self, self._profile, self._settings.lockstep)
        self._operators = OperatorInputs(self, self._profile, self._source.put)
        self._reports = Reports(self, self._profile.names)
        for name, callback in (("arm", self._arm), ("disarm", self._disarm), ("reset_fault", self._reset_fault)):
            self.create_service(Trigger, f"~/{name}", callback)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # timers go on where the simulator's clock stands
        for rate_hz, callback in ((GRAPH_HZ, self._look), (STATUS_HZ, self._status), (DIAGNOSTICS_HZ, self._diagnose)):
            self.create_timer(1 / rate_hz, callback, clock=steady)

    # control thread

    def _tick(self, beat: Beat) -> None:
        assert self._robot is not None
        sample, operators = self._robot.latest, self._operators.now()
        measured = self._measurement(sample) if sample else None
        self._missed += beat.missed
        self._missed_in_a_row = self._missed_in_a_row + beat.missed if beat.missed else 0
        with self._lock:
            self._now_s = beat.now_s
            if self._missed_in_a_row >= self._profile.safety.watchdog_misses:
                self._control.fault(f"the control loop missed {self._missed_in_a_row} deadlines in a row")
            tick = self._control.tick(beat.now_s, beat.dt_s, measured, operators, self._conflicts)
        if tick.command is not None:
            self._robot.send(tick.command.position, tick.command.velocity)
            self._reports.command_sent(tick.command.position, tick.command.velocity)
        for event in tick.events:
            self.get_logger().info(event)
            self._reports.safety_event("state", event, {})
        for found in tick.interventions:
            self._reports.safety_event(found.code, f"{found.code} of {found.where}", {"where": found.where, "magnitude": found.magnitude})

    def _failed(self, error: BaseException) -> None:
        """The control loop is gone: nothing is sent any more, and the robot's own watchdog holds it."""
        with self._lock:
            self._control.fault(f"the control loop failed: {type(error).__name__}: {error}")
        self.get_logger().fatal(f"the control loop failed, nothing is sent any more: {type(error).__name__}: {error}")

    def _next_tick(self, after_s: float, timeout_s: float) -> float | None:
        assert self._robot is not None
        sample = self._robot.wait(round(1e9 * after_s), timeout_s)
        return sample.stamps.header_ns / 1e9 if sample else None

    def _measurement(self, sample: JointSample) -> Measurement:
        received_ns = sample.stamps.header_ns if self._settings.lockstep else sample.stamps.monotonic_ns
        return Measurement(sample.position, sample.velocity, sample.stamps.header_ns / 1e9, received_ns / 1e9)

    def _to_control_s(self, ros_ns: int) -> float:
        """ROS time on the control clock, which in lockstep is the simulator's as well."""
        if self._settings.lockstep:
            return ros_ns / 1e9
        return time.monotonic() + (ros_ns - self.get_clock().now().nanoseconds) / 1e9

    # comms thread

    def _arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        found = refusals(self._profile, self._situation())
        with self._lock:
            response.message = self._control.arm(found, self._now_s)
        response.success = not response.message
        return response

    def _disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        with self._lock:
            self._control.disarm()
            response.success, response.message = True, str(self._control.state)
        return response

    def _reset_fault(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        with self._lock:
            response.message = self._control.reset()
        response.success = not response.message
        return response

    def _situation(self) -> Situation:
        assert self._robot is not None
        self._look()
        sample = self._robot.latest
        age_s = float("inf") if sample is None else (time.monotonic_ns() - sample.stamps.monotonic_ns) / 1e9
        return Situation(
            operators=self._operators.now(),
            conflicts=self._conflicts,
            problems=self._robot.problems(),
            state_hz=self._robot.state_hz,
            state_age_s=0.0 if self._settings.lockstep and sample is not None else age_s,
            deadman_required=self._settings.deadman_required,
            lockstep=self._settings.lockstep,
        )

    def _look(self) -> None:
        assert self._robot is not None
        self._conflicts = self._robot.conflicts()

    def _values(self) -> dict[str, str | int | float | bool]:
        assert self._robot is not None
        broken, problem = self._robot.broken_messages
        with self._lock:
            state, cause, counts = self._control.state, self._control.cause, self._control.counts
        return {
            "state": str(state),
            "cause": cause,
            "missed_deadlines": self._missed,
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
