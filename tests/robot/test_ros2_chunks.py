"""Chunk messages by hand. No ROS."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from robot.ros2.chunks import ChunkError, to_chunk


def stamp(time_s: float) -> SimpleNamespace:
    return SimpleNamespace(sec=int(time_s), nanosec=round(1e9 * (time_s % 1)))


def message(times_s, positions, joints=("b", "a"), t0_s: float = 12.5) -> SimpleNamespace:
    points = [SimpleNamespace(time_from_start=stamp(t), positions=row) for t, row in zip(times_s, positions, strict=True)]
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp(t0_s), frame_id="policy"), joint_names=joints, points=points)


def test_order_and_times():
    chunk = to_chunk(message([0.25, 0.5, 0.75], [(1, 2), (3, 4), (5, 6)]), ("a", "b"))
    assert chunk.positions.tolist() == [[2, 1], [4, 3], [6, 5]]
    assert (chunk.t0_ns, chunk.start_ns, chunk.dt_s, chunk.commander) == (12_500_000_000, 12_750_000_000, 0.25, "policy")


@pytest.mark.parametrize(
    ("chunk", "says"),
    [
        (message([0, 1], [(1, 2)] * 2, ("a", "c")), r"for joints \['a', 'c'\], the robot commands \['a', 'b'\]"),
        (message([0], [(1, 2)]), "two steps or more, got 1"),
        (message([], []), "two steps or more, got 0"),
        (message([0, 0.05, 0.15], [(1, 2)] * 3), r"evenly spaced in time, got time_from_start \[0.0, 0.05, 0.15\]"),
        (message([0, 0], [(1, 2)] * 2), "evenly spaced"),
        (message([1, 0], [(1, 2)] * 2), "evenly spaced"),
        (message([0, 1], [(1, 2), (1,)]), r"needs 2 positions, got \[2, 1\]"),
        (message([0, 1], [(1, 2), (float("nan"), 1)]), "the position of b at step 1 is nan"),
        (message([0, 1], [(1, 2), (1, float("inf"))]), "the position of a at step 1 is inf"),
    ],
)
def test_refusals(chunk: SimpleNamespace, says: str):
    with pytest.raises(ChunkError, match=says):
        to_chunk(chunk, ("a", "b"))
