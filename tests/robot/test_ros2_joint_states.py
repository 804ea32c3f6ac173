"""Joint state messages by hand: order, parts, missing velocities, broken ones, stamps. No ROS."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from robot.ros2.joint_states import JointStates
from robot.ros2.stamps import Aligner, Stamps

MS = 1_000_000


@dataclass
class Message:
    name: tuple[str, ...]
    position: tuple[float, ...]
    velocity: tuple[float, ...] = ()
    effort: tuple[float, ...] = ()


def at(time_ms: int, header_ms: int | None = None) -> Stamps:
    return Stamps((time_ms if header_ms is None else header_ms) * MS, time_ms * MS, (time_ms + 1000) * MS)


def test_profile_order():
    sample = JointStates("ab").receive(Message(("x", "b", "a"), (9, 2, 1), (90, 20, 10), (900, 200, 100)), at(5))
    assert (sample.position.tolist(), sample.velocity.tolist(), sample.effort.tolist()) == ([1, 2], [10, 20], [100, 200])
    assert sample.sequence == 0 and sample.capture_ns == 5 * MS


def test_parts_complete_each_other_and_the_oldest_counts():
    states = JointStates("ab")
    assert states.receive(Message(("a",), (1,)), at(5)) is None and states.missing == ("b",)
    sample = states.receive(Message(("b",), (2,)), at(30))
    assert sample.position.tolist() == [1, 2] and sample.stamps.monotonic_ns == 1005 * MS
    assert states.receive(Message(("x",), (2,)), at(40)) is None


def test_velocity_by_difference_where_none_is_reported():
    states = JointStates("a")
    assert states.receive(Message(("a",), (1.0,)), at(10)).velocity.tolist() == [0]
    assert states.receive(Message(("a",), (1.5,)), at(20)).velocity.tolist() == pytest.approx([50.0])
    assert states.receive(Message(("a",), (1.5,)), at(20)).velocity.tolist() == pytest.approx([50.0])  # no time has passed


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Message(("a", "b"), (1,)), "2 names but 1 positions"),
        (Message(("a", "b"), (1, float("nan"))), "the position of b is nan"),
        (Message(("a", "b"), (1, 2), (0, float("inf"))), "the velocity of b is inf"),
    ],
)
def test_broken_messages_are_counted_and_change_nothing(message: Message, problem: str):
    states = JointStates("ab")
    states.receive(Message(("a", "b"), (5, 6)), at(1))
    assert states.receive(message, at(2)) is None
    assert (states.broken, states.last_problem) == (1, problem)
    assert states.receive(Message(("a",), (7,)), at(3)).position.tolist() == [7, 6]


def test_header_stamps_are_trusted_while_they_are_plausible():
    aligner = Aligner()
    assert [aligner.capture_ns(at(t, t - 4)) for t in (100, 110, 120)] == [96 * MS, 106 * MS, 116 * MS]
    assert aligner.offset_s == pytest.approx(0.004)
    assert aligner.capture_ns(at(130, 0)) == 130 * MS  # a stamp of 0 is 130 ms old: a jump
    assert aligner.capture_ns(at(140, 136)) == 136 * MS
    assert aligner.capture_ns(at(150, 151)) == 150 * MS  # never in the future


def test_a_foreign_clock_is_not_trusted():
    aligner = Aligner()
    assert [aligner.capture_ns(at(t, t + 3_600_000)) for t in (100, 110)] == [100 * MS, 110 * MS]
