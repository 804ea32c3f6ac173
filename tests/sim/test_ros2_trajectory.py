"""The trajectory controller's semantics, with numbers by hand. No ROS."""

from __future__ import annotations

import numpy as np
import pytest

from sim.ros2.trajectory import CommandRefusedError, TrajectoryFollower, Waypoints

S = 1_000_000_000


def waypoints(times_s, positions, velocities=None, joints=("a", "b"), stamp_s: float = 0.0) -> Waypoints:
    offsets = tuple(round(t * S) for t in times_s)
    return Waypoints(tuple(joints), round(stamp_s * S), offsets, tuple(positions), tuple(velocities or [()] * len(positions)))


def follower(position=(0.0, 0.0), end_moving: bool = False) -> TrajectoryFollower:
    return TrajectoryFollower(("a", "b"), np.array(position), end_moving)


def at(arm: TrajectoryFollower, time_s: float) -> list[float]:
    return arm.sample(round(time_s * S)).tolist()


def test_holds_until_told():
    arm = follower((0.5, -1.0))
    assert at(arm, 0.0) == at(arm, 1e6) == [0.5, -1.0]


def test_straight_lines_without_velocities_and_hold_at_the_end():
    arm = follower()
    arm.accept(waypoints([1.0, 3.0], [(2.0, 0.0), (4.0, -2.0)]), now_ns=10 * S)
    assert at(arm, 10.25) == [0.5, 0.0]
    assert at(arm, 11.0) == [2.0, 0.0]
    assert at(arm, 12.5) == [3.5, -1.5]
    assert at(arm, 13.0) == at(arm, 99.0) == [4.0, -2.0]


def test_cubic_with_velocities():
    """From rest at 0 to rest at 1 in 2 s: 3 s² - 2 s³, hence 0.15625 at a quarter of the way and speed 0.75 in the middle."""
    arm = follower()
    arm.accept(waypoints([2.0], [(1.0, 0.0)], [(0.0, 0.0)]), now_ns=0)
    assert at(arm, 0.5) == [0.15625, 0.0]
    assert at(arm, 1.0) == [0.5, 0.0]
    position, velocity = arm._sample(S)
    assert (position[0], velocity[0]) == (0.5, 0.75)


def test_replacement_at_the_stamp_goes_on_with_position_and_velocity():
    """In the middle of 3 s² - 2 s³ the joint is at 0.5 with 0.75 rad/s; the new cubic starts there and ends at rest at 0."""
    arm = follower()
    arm.accept(waypoints([2.0], [(1.0, 0.0)], [(0.0, 0.0)]), now_ns=0)
    arm.accept(waypoints([1.0], [(0.0, 0.0)], [(0.0, 0.0)], stamp_s=1.0), now_ns=round(0.5 * S))
    assert at(arm, 0.75) == [pytest.approx(3 * 0.375**2 - 2 * 0.375**3), 0.0]
    assert at(arm, 1.0) == [0.5, 0.0]
    assert at(arm, 1.5) == [pytest.approx(0.5 * 0.5 + 0.125 * 0.75), 0.0]
    assert at(arm, 2.0) == [0.0, 0.0]
    before, after = arm._sample(S - 1), arm._sample(S)
    assert abs(before[1] - after[1]).max() < 1e-6


def test_several_pending_replacements_follow_one_another():
    arm = follower()
    arm.accept(waypoints([1.0], [(1.0, 0.0)], stamp_s=2.0), now_ns=1 * S)
    arm.accept(waypoints([1.0], [(5.0, 0.0)], stamp_s=4.0), now_ns=1 * S)
    assert [at(arm, t)[0] for t in (1.5, 2.5, 3.5, 4.5, 5.0)] == [0.0, 0.5, 1.0, 3.0, 5.0]
    arm.accept(waypoints([1.0], [(-1.0, 0.0)], stamp_s=3.0), now_ns=1 * S)
    assert [at(arm, t)[0] for t in (2.5, 3.5, 4.5)] == [0.5, 0.0, -1.0]


def test_points_in_the_past_are_dropped():
    arm = follower()
    arm.accept(waypoints([1.0, 2.0], [(7.0, 0.0), (1.0, 0.0)], stamp_s=10.0), now_ns=round(11.5 * S))
    assert at(arm, 11.75) == [0.5, 0.0]
    with pytest.raises(CommandRefusedError, match=r"ended 1\.000 s ago"):
        arm.accept(waypoints([1.0], [(1.0, 0.0)], stamp_s=10.0), now_ns=12 * S)


def test_joints_in_another_order():
    arm = follower()
    arm.accept(waypoints([1.0], [(1.0, 2.0)], joints=("b", "a")), now_ns=0)
    assert at(arm, 1.0) == [2.0, 1.0]


@pytest.mark.parametrize("joints", [(), ("a", "b")])
def test_an_empty_trajectory_stops(joints):
    arm = follower()
    arm.accept(waypoints([1.0], [(1.0, 1.0)]), now_ns=0)
    arm.accept(waypoints([], [], joints=joints), now_ns=S // 4)
    assert at(arm, 5.0) == [0.25, 0.25]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (waypoints([1.0], [(1.0, 1.0)], joints=("a", "c")), r"for joints \['a', 'c'\], this controller moves \['a', 'b'\]"),
        (waypoints([1.0], [(1.0,)], joints=("a",)), r"for joints \['a'\]"),
        (waypoints([1.0], [(1.0,)]), r"one position per joint \(2\), the points have \[1\]"),
        (waypoints([1.0, 2.0], [(1.0, 1.0)] * 2, [(0.0, 0.0), ()]), r"one velocity per joint \(2\), the points have \[2, 0\]"),
        (waypoints([1.0, 1.0], [(1.0, 1.0)] * 2), r"must increase from point to point, it is \[1.0, 1.0\]"),
        (waypoints([-0.1], [(1.0, 1.0)]), "must increase"),
        (waypoints([1.0], [(float("nan"), 1.0)]), "a position is not a finite number"),
        (waypoints([1.0], [(1.0, 1.0)], [(float("inf"), 0.0)]), "a velocity is not a finite number"),
        (waypoints([1.0], [(1.0, 1.0)], [(0.1, 0.0)]), "the last point must be at rest"),
    ],
)
def test_refusals_leave_the_present_motion_alone(message, says):
    arm = follower()
    arm.accept(waypoints([2.0], [(2.0, 2.0)]), now_ns=0)
    with pytest.raises(CommandRefusedError, match=says):
        arm.accept(message, now_ns=S // 2)
    assert at(arm, 1.0) == [1.0, 1.0]


def test_an_end_in_motion_where_it_is_allowed():
    arm = follower(end_moving=True)
    arm.accept(waypoints([1.0], [(1.0, 1.0)], [(1.0, 1.0)]), now_ns=0)
    assert at(arm, 1.0) == at(arm, 2.0) == [1.0, 1.0]
