"""How time passes for a simulated robot: by the wall clock, or in lockstep with whoever commands it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.executors import Executor
from rosgraph_msgs.msg import Clock

from robot.ros2.messages import to_time
from robot.ros2.realtime import Relief
from sim.ros2.node import SimRobot

REPEAT_S = 0.2
"""In lockstep a tick without an answer is published again, unchanged, after so long."""
LATE_PERIODS = 10
"""A real-time loop that is further behind gives up catching up, and starts counting anew."""


def run_lockstep(robot: SimRobot, executor: Executor, servo_steps: int, running: Callable[[], bool]) -> None:
    """Publish tick k with its images and /clock, wait for its command, let exactly one tick pass.

    A reset puts its episode's start at the next tick, so that no stamp is used twice.

    Args:
        robot: at its first tick.
        executor: spins the robot's node.
        servo_steps: per tick.
        running: asked often; the loop ends when it says no.
    """
    clock = robot.node.create_publisher(Clock, "/clock", 10)
    while running():
        resets, messages = robot.resets, robot.measure(images=True)
        robot.listen()
        while running() and robot.resets == resets and not robot.all_heard:
            clock.publish(Clock(clock=to_time(robot.now_ns)))
            robot.publish(messages)
            repeat_at = time.monotonic() + REPEAT_S
            while robot.resets == resets and not robot.all_heard and (left := repeat_at - time.monotonic()) > 0:
                executor.spin_once(timeout_sec=left)
        if robot.resets != resets:
            robot.skip(servo_steps)
        elif robot.all_heard:
            robot.advance(servo_steps)


def run_real_time(robot: SimRobot, executor: Executor, servo_steps: int, camera_every: int, running: Callable[[], bool]) -> None:
    """One tick per period of the monotonic clock; what comes late is caught up with, up to a limit.

    Physics takes every tick. A tick that is left out, see `Relief`, publishes nothing; an image that it owes comes with the next one.

    Args:
        robot: its time is the wall clock's.
        executor: spins the robot's node.
        servo_steps: per tick.
        camera_every: ticks per image.
        running: asked every tick; the loop ends when it says no.
    """
    start = Anchor.now(robot)
    relief, late, until_image = Relief(), False, 0
    while running():
        if not relief.leaves_out(late):
            due = until_image <= 0
            robot.publish(robot.measure(images=due))
            until_image += camera_every * due
        until_image -= 1
        began_ns = robot.now_ns
        robot.advance(servo_steps)
        period_ns = robot.now_ns - began_ns
        executor.spin_once(timeout_sec=0)
        late = start.left_ns(robot) <= 0
        while (left_ns := start.left_ns(robot)) > 0:
            executor.spin_once(timeout_sec=left_ns / 1e9)
        if -left_ns > LATE_PERIODS * period_ns:
            robot.node.get_logger().warning(f"the simulation fell {-left_ns / 1e9:.3f} s behind the clock", throttle_duration_sec=5.0)
            start = Anchor.now(robot)


@dataclass(frozen=True)
class Anchor:
    """The same moment by two clocks."""

    monotonic_ns: int
    robot_ns: int

    @classmethod
    def now(cls, robot: SimRobot) -> Anchor:
        """Set the robot's clock by the wall clock."""
        robot.now_ns = time.time_ns()
        return cls(time.monotonic_ns(), robot.now_ns)

    def left_ns(self, robot: SimRobot) -> int:
        """Until the robot's time has come by the monotonic clock."""
        return self.monotonic_ns + robot.now_ns - self.robot_ns - time.monotonic_ns()
