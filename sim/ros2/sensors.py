"""What the robot publishes: joint states and images, with the faults that are switched on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState

from robot.ros2.messages import JOINT_STATES_QOS, to_image, to_time
from sim.ros2 import overlay
from sim.ros2.faults import JointMessage, disturb_image, disturb_stamp, disturb_state
from sim.ros2.plant import Plant
from sim.ros2.wiring import Wiring


@dataclass
class _Camera:
    name: str
    count: int = 0
    last: np.ndarray | None = None


@dataclass
class Sensors:
    """The robot's encoders and cameras on the graph."""

    node: Node
    wiring: Wiring
    time_code: bool
    state_fault: str = "none"
    camera_fault: str = "none"
    _state_count: int = 0
    _last_state: JointMessage | None = None
    _true: JointState | None = None
    _cameras: list[_Camera] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Create the publishers."""
        self._states = self.node.create_publisher(JointState, self.wiring.state_topic, JOINT_STATES_QOS)
        self._truth = self.node.create_publisher(JointState, "~/truth", JOINT_STATES_QOS)
        self._cameras = [_Camera(name) for name in self.wiring.image_topics]
        self._images = {
            name: self.node.create_publisher(Image, topic, qos_profile_sensor_data) for name, topic in self.wiring.image_topics.items()
        }

    def measure_state(self, plant: Plant, now_ns: int) -> JointState | None:
        """The message of this moment; `None` where a fault silences it."""
        reading = plant.read()
        true = JointMessage(self.wiring.joints, reading.position, reading.velocity, reading.effort)
        self._true = _message(true, now_ns)
        shown = disturb_state(self.state_fault, true, self._last_state, self._state_count)
        self._state_count += 1
        if shown is None:
            return None
        self._last_state = shown
        return _message(shown, disturb_stamp(self.state_fault, now_ns))

    def measure_images(self, plant: Plant, now_ns: int) -> list[tuple[str, Image]]:
        """Camera and message of every image of this moment."""
        messages = []
        for camera in self._cameras:
            image = plant.render(camera.name)
            if self.time_code:
                image = overlay.draw(image, camera.count, now_ns // 1_000_000)
            shown = disturb_image(self.camera_fault, image, camera.last, camera.count)
            camera.count += 1
            if shown is None:
                continue
            camera.last = shown
            messages.append((camera.name, to_image(shown, camera.name, now_ns)))
        return messages

    def publish(self, state: JointState | None, images: list[tuple[str, Image]]) -> None:
        """Send messages; images go first, so that whoever acts on a state has seen them."""
        for camera, image in images:
            self._images[camera].publish(image)
        if state is not None:
            self._states.publish(state)
        if self._true is not None:
            self._truth.publish(self._true)


def _message(state: JointMessage, now_ns: int) -> JointState:
    message = JointState(name=list(state.names), position=state.position, velocity=state.velocity, effort=state.effort)
    message.header.stamp = to_time(now_ns)
    return message
