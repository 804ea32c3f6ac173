"""Command messages, with numbers by hand, and followed by the simulated controller."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from robot.ros2.adapters import AdapterError, ForwardCommand, StreamedTrajectory, import_message
from sim.ros2.controllers import to_waypoints
from sim.ros2.trajectory import TrajectoryFollower

MS = 1_000_000
pytestmark = pytest.mark.ros


def trajectory(lead_s: float = 0.02) -> StreamedTrajectory:
    return StreamedTrajectory("/arm/joint_trajectory", ("a", "b"), lead_s, (2.0, 4.0))


def test_forward_command_keeps_the_order():
    message = ForwardCommand("/arm/commands", ("b", "a")).encode(np.array([0.25, -1.0]), np.zeros(2))
    assert message.data.tolist() == [0.25, -1.0]


def test_three_points_that_brake():
    """1 rad/s against 2 rad/s² takes 0.5 s and 0.25 rad; the other joint, at 0.4 rad/s, takes as long and 0.1 rad."""
    message = trajectory().encode(np.array([1.0, 2.0]), np.array([1.0, -0.4]))
    assert message.joint_names == ["a", "b"] and (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)
    times = [point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in message.points]
    assert times == pytest.approx([0.02, 0.27, 0.52])
    assert np.array([point.positions for point in message.points]) == pytest.approx(np.array([[1, 2], [1.1875, 1.925], [1.25, 1.9]]))
    assert np.array([point.velocities for point in message.points]) == pytest.approx(np.array([[1, -0.4], [0.5, -0.2], [0, 0]]))


def test_at_rest_there_are_still_three_points_in_time():
    message = trajectory().encode(np.array([1.0, 2.0]), np.zeros(2))
    times = [point.time_from_start.nanosec for point in message.points]
    assert times == [20 * MS, 30 * MS, 40 * MS]
    assert all(list(point.positions) == [1.0, 2.0] and not any(point.velocities) for point in message.points)


def test_a_stream_is_followed_one_lead_later_and_a_dead_sender_brakes():
    """A joint told to move at 0.5 rad/s for 1 s, every 10 ms: followed exactly, 20 ms late; then it stops after v²/2a."""
    adapter, follower = trajectory(), TrajectoryFollower(("a", "b"), np.zeros(2))
    for k in range(100):
        follower.accept(to_waypoints(adapter.encode(np.array([0.005 * k, 0.0]), np.array([0.5, 0.0]))), k * 10 * MS)
        if k >= 20:
            assert follower.sample(k * 10 * MS)[0] == pytest.approx(0.5 * (0.01 * k - 0.02), abs=1e-4)
    last_s, path = 0.99 + 0.02, [follower.sample((990 + t) * MS)[0] for t in range(0, 600, 5)]
    assert path[-1] == pytest.approx(0.5 * (last_s - 0.02) + 0.5**2 / (2 * 2.0))
    speed = np.diff(path) / 0.005
    assert np.diff(speed).min() / 0.005 >= -2.0 - 1e-6 and speed.min() > -1e-9


def test_vendor_types():
    assert import_message("trajectory_msgs.msg", "JointTrajectory").__name__ == "JointTrajectory"
    with pytest.raises(AdapterError, match=r"unitree_hg\.msg\.LowCmd is not installed .*build the ROS 2 package 'unitree_hg'"):
        import_message("unitree_hg.msg", "LowCmd")
    with pytest.raises(AdapterError, match=r"std_msgs\.msg has no type 'Boolean'; it has Bool, Byte"):
        import_message("std_msgs.msg", "Boolean")
