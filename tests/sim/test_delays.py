"""Bookkeeping of late commands and observations, by hand-computed numbers."""

from __future__ import annotations

import pytest

from sim.delays import Sent, in_force, shown_step


def test_a_command_without_delay_is_in_force_at_once() -> None:
    assert in_force([Sent(0, "a"), Sent(10, "b")], 10, 10) == ([(10, "b")], (Sent(10, "b"),))


def test_a_late_command_takes_over_inside_the_control_step() -> None:
    parts, line = in_force([Sent(0, "a"), Sent(13, "b")], 10, 10)
    assert parts == [(3, "a"), (7, "b")]
    assert line == (Sent(13, "b"),)


def test_a_delay_of_more_than_a_control_step_keeps_commands_on_their_way() -> None:
    line: tuple[Sent[str], ...] = (Sent(0, "start"),)
    ran = []
    for step, name in enumerate("abcd"):
        parts, line = in_force((*line, Sent(10 * step + 25, name)), 10 * step, 10)
        ran.append(parts)
    assert ran == [[(10, "start")], [(10, "start")], [(5, "start"), (5, "a")], [(5, "a"), (5, "b")]]
    assert line == (Sent(35, "b"), Sent(45, "c"), Sent(55, "d"))


def test_what_a_later_command_overtakes_is_never_followed() -> None:
    parts, line = in_force([Sent(0, "a"), Sent(18, "b"), Sent(12, "c")], 10, 10)
    assert parts == [(2, "a"), (8, "c")]
    assert line == (Sent(12, "c"),)


def test_a_command_that_arrives_at_the_end_belongs_to_the_next_step() -> None:
    parts, line = in_force([Sent(0, "a"), Sent(20, "b")], 10, 10)
    assert parts == [(10, "a")] and line == (Sent(20, "b"),)


@pytest.mark.parametrize(
    ("now", "before", "delay_s", "lost", "shown"),
    [
        (7, 6, 0.0, False, 7),
        (7, 4, 0.1, False, 5),  # 0.1 s are two steps of 0.05 s
        (1, 0, 0.1, False, 0),  # nothing before the start
        (7, 6, 0.2, False, 6),  # never back in time
        (7, 4, 0.0, True, 4),  # lost: as before
        (17, 4, 0.0, True, 7),  # but at most half a second old
    ],
)
def test_which_observation_is_shown(now: int, before: int, delay_s: float, lost: bool, shown: int) -> None:
    assert shown_step(now, before, delay_s, lost, 20.0) == shown
