"""The process of a simulated robot: join the graph, let time pass, leave cleanly on SIGINT and SIGTERM."""

from __future__ import annotations

import signal
import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor

from robot.ros2.graph import join
from robot.ros2.realtime import HARDWARE, run_first
from sim import HUMANOID
from sim.robots import ROBOTS
from sim.ros2.config import SimRobotConfig
from sim.ros2.loops import run_lockstep, run_real_time
from sim.ros2.node import SimRobot
from sim.ros2.plant import SERVO_NS, Plant
from sim.ros2.wiring import Wiring
from sim.vec_env import SimulationError

START_NS = 1_000_000_000
"""Where /clock begins in lockstep: a stamp of 0 means "now" to controllers, and "no time yet" to nodes."""


def run(wiring: Wiring, config: SimRobotConfig) -> None:
    """Simulate until told to stop. To be called in the main thread.

    Raises:
        SimulationError: a rate does not fit the servo rate, or the physics diverged.
    """
    plant = make_plant(wiring, config)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    problem = run_first(HARDWARE) if config.clock == "real_time" else ""  # a real robot does not wait for this host's processor
    join()
    node = rclpy.create_node("sim_robot", namespace=wiring.name)
    if problem:
        node.get_logger().warning(problem)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    sim = SimRobot(node, plant, wiring, config, START_NS)
    try:
        if config.clock == "lockstep":
            run_lockstep(sim, executor, servo_steps_per(wiring.tick_hz), lambda: not stop.is_set())
        else:
            camera_every = max(1, round(wiring.state_hz / config.camera_hz))
            run_real_time(sim, executor, servo_steps_per(wiring.state_hz), camera_every, lambda: not stop.is_set())
    finally:
        executor.shutdown()
        sim.close()
        node.destroy_node()
        rclpy.shutdown()


def make_plant(wiring: Wiring, config: SimRobotConfig) -> Plant:
    """The robot that is wired. Raises `SimulationError` if it has not the cameras that are asked for."""
    if wiring.name == HUMANOID:
        from sim.ros2.humanoid import Humanoid

        if wiring.image_topics:
            raise SimulationError(f"the simulated humanoid has no camera, got {', '.join(wiring.image_topics)}; remove topics.images")
        return Humanoid(config.imperfections)
    from sim.ros2.arm import Arm, require_cameras

    require_cameras(tuple(wiring.image_topics))
    return Arm(ROBOTS[wiring.name], config.imperfections, config.image_px)


def servo_steps_per(rate_hz: float) -> int:
    """Servo steps in one period of a rate. Raises `SimulationError` unless they are a whole number."""
    steps = 1e9 / rate_hz / SERVO_NS
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-6:
        raise SimulationError(
            f"{rate_hz} Hz does not divide the servo rate of {1e9 / SERVO_NS:.0f} Hz; choose 200, 100, 50, 40, 25 or 20 Hz"
        )
    return round(steps)
