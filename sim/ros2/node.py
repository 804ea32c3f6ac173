"""The simulated robot's node: sensors, controllers, firmware and the robot, one tick at a time.

~/reset   Trigger   start the episode that the parameters `task` and `seed` name
~/clear   Trigger   clear an abort of the firmware; the robot holds where it is
~/episode String    JSON: how the running task stands, and what the robot refused
~/truth   JointState  what the encoders say, whatever fault is on
parameters fault.state, fault.camera, fault.command switch faults on and off
"""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sim.ros2.config import SimRobotConfig
from sim.ros2.controllers import Controllers
from sim.ros2.faults import CAMERA_FAULTS, COMMAND_FAULTS, STATE_FAULTS
from sim.ros2.plant import SERVO_NS, Plant
from sim.ros2.sensors import Sensors
from sim.ros2.vendor import Firmware
from sim.ros2.wiring import Wiring
from sim.vec_env import SimulationError

FAULTS = {"fault.state": STATE_FAULTS, "fault.camera": CAMERA_FAULTS, "fault.command": COMMAND_FAULTS}
EPISODE_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class SimRobot:
    """One simulated robot on the graph. Its owner spins the node and decides when time passes."""

    def __init__(self, node: Node, plant: Plant, wiring: Wiring, config: SimRobotConfig, now_ns: int) -> None:
        """Reset to the first episode and join the graph.

        Args:
            node: named and spun by the owner.
            plant: the robot.
            wiring: names and topics.
            config: settings.
            now_ns: the robot's time at the start, not 0.
        """
        self.node, self._config = node, config
        self.now_ns = now_ns
        self.resets = 0
        """How often `~/reset` was called."""
        self._next = (config.task or plant.first_task, config.seed)
        self._plant = plant
        plant.reset(*self._next)
        self._firmware = Firmware(config.imperfections, plant.home, plant.grippers)
        self._controllers = Controllers(node, wiring.controllers, lambda: self.now_ns, lambda: self._firmware.heard(self.now_ns))
        self._controllers.hold(self._plant.home)
        self._sensors = Sensors(node, wiring, config.time_code)
        self._episodes = node.create_publisher(String, "~/episode", EPISODE_QOS)
        self._declare(config)
        node.create_service(Trigger, "~/reset", self._reset)
        node.create_service(Trigger, "~/clear", self._clear)

    @property
    def all_heard(self) -> bool:
        """Whether every controller was sent something since `listen`."""
        return self._controllers.all_heard

    def listen(self) -> None:
        """Begin a new round of `all_heard`."""
        self._controllers.listen()

    def measure(self, images: bool) -> tuple[JointState | None, list[tuple[str, Image]]]:
        """Sensor messages of this moment."""
        return self._sensors.measure_state(self._plant, self.now_ns), self._sensors.measure_images(
            self._plant, self.now_ns
        ) if images else []

    def publish(self, messages: tuple[JointState | None, list[tuple[str, Image]]]) -> None:
        """Send sensor messages, and how the episode stands."""
        self._sensors.publish(*messages)
        self._episodes.publish(String(data=json.dumps(self._report())))

    def advance(self, servo_steps: int) -> None:
        """Let time pass. Raises `SimulationError` when the physics diverges."""
        for _ in range(servo_steps):
            target = self._firmware.judge(self._controllers.sample(self.now_ns), self.now_ns)
            if self._firmware.aborted and not self._controllers.closed:
                self._controllers.closed = f"aborted, {self._firmware.aborted}; call ~/clear"
                self.node.get_logger().error(self._controllers.closed)
            if self._firmware.stopped:
                self._controllers.hold(self._firmware.target)
            self._plant.step(target)
            self.now_ns += SERVO_NS

    def skip(self, servo_steps: int) -> None:
        """Let time pass in which nothing happens."""
        self.now_ns += servo_steps * SERVO_NS

    def close(self) -> None:
        """Free rendering memory."""
        self._plant.close()

    def _report(self) -> dict[str, object]:
        return (
            asdict(self._plant.episode)
            | asdict(self._controllers.reception)
            | {"resets": self.resets, "aborted": self._firmware.aborted, "watchdog": self._firmware.watchdog}
        )

    def _declare(self, config: SimRobotConfig) -> None:
        for name, value in {"task": self._next[0], "seed": self._next[1], **dict.fromkeys(FAULTS, "none")}.items():
            self.node.declare_parameter(name, value)
        self.node.add_on_set_parameters_callback(self._check)
        self.node.add_post_set_parameters_callback(self._apply)

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        allowed = {"task": self._plant.tasks, **FAULTS}
        for parameter in parameters:
            choices, value = allowed.get(parameter.name), parameter.get_parameter_value()
            if choices and value.string_value not in choices:
                reason = f"unknown {parameter.name} '{value.string_value}'; allowed: {', '.join(choices)}"
                return SetParametersResult(successful=False, reason=reason)
            if parameter.name == "seed" and value.integer_value < 0:
                return SetParametersResult(successful=False, reason=f"seed must be at least 0, got {value.integer_value}")
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            value = parameter.get_parameter_value()
            match parameter.name:
                case "task":
                    self._next = (value.string_value, self._next[1])
                case "seed":
                    self._next = (self._next[0], value.integer_value)
                case "fault.state":
                    self._sensors.state_fault = value.string_value
                case "fault.camera":
                    self._sensors.camera_fault = value.string_value
                case "fault.command":
                    self._controllers.fault = value.string_value
                    if value.string_value == "abort":
                        self._firmware.aborted = "it was asked for"

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        try:
            self._plant.reset(*self._next)
        except (SimulationError, ValueError) as error:
            response.success, response.message = False, str(error)
            return response
        self.resets += 1
        self._restart(self._plant.home)
        response.success, response.message = True, self._plant.episode.instruction
        return response

    def _clear(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        response.success, response.message = True, self._firmware.aborted or "nothing to clear"
        target, arms = self._plant.read().position, len(self._firmware.target) - self._plant.grippers
        target[arms:] = self._firmware.target[arms:]  # a gripper keeps what it is told
        self._restart(target)
        return response

    def _restart(self, target: np.ndarray) -> None:
        """Hold `target` `(C,)`, and take commands again."""
        self._firmware.restart(target)
        self._controllers.hold(target)
        self._controllers.closed = ""
