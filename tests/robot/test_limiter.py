"""The limiter's proof, tested: no input makes commands exceed a limit, and what is feasible passes unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot.limiter import Limits, Motion, brake, braking_path, limit, limits_of, reach, soften, stopping_point
from robot.profile import load_profile
from tests.repo.imports import ROOT


def _limits(A: float = 10.0, J: float = 200.0, V: float = 2.0, dt_max_s: float = 0.06) -> Limits:
    one = np.ones(1)
    return Limits(-3 * one, 3 * one, V * one, A * one, J * one, 1e-4, dt_max_s)


def _many(rng: np.random.Generator, N: int, dt_max_s: float) -> Limits:
    A = rng.uniform(1, 100, N)
    low = -rng.uniform(0, 3, N)
    return Limits(low, low + rng.uniform(0.3, 6, N), rng.uniform(0.1, 5, N), A, A * rng.uniform(5, 200, N), dt_max_s / 10, dt_max_s)


def _differences(positions: list[np.ndarray], intervals: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Velocity, acceleration and jerk of commands that start at rest, from positions alone."""
    h = np.array(intervals)[:, None]
    velocity = np.diff(np.array(positions), axis=0) / h
    acceleration = np.diff(velocity, axis=0, prepend=0) / h
    return velocity, acceleration, np.diff(acceleration, axis=0, prepend=0) / h


def _wishes(rng: np.random.Generator, limits: Limits, k: int, held: np.ndarray) -> np.ndarray:
    """What nobody should ask for: random, alternating, infinite, NaN, past the limits, small noise, far away for long."""
    N = len(held)
    wish = np.choose(
        rng.integers(0, 8, N),
        [held, held, held, np.full(N, 1e9 if k % 2 else -1e9), np.full(N, np.inf), np.full(N, np.nan), rng.normal(0, 0.01, N), limits.low],
    )
    long = np.choose(np.arange(N) % 4, [np.full(N, 1e300), limits.high, limits.low, wish])
    return long if k % 100 < 50 else wish


@pytest.mark.parametrize("dt_max_s", [0.002, 0.02, 0.1])
def test_no_input_exceeds_a_limit(dt_max_s: float):
    rng, N, steps = np.random.default_rng(0), 250, 200
    limits = _many(rng, N, dt_max_s)
    motion = Motion.rest(rng.uniform(limits.low, limits.high))
    positions, intervals, held = [motion.position], [], rng.uniform(limits.low - 1, limits.high + 1)
    for k in range(steps):
        held = np.where(rng.random(N) < 0.02, rng.uniform(limits.low - 1, limits.high + 1), held)
        h = rng.choice([limits.dt_min_s, rng.uniform(limits.dt_min_s, limits.dt_max_s), limits.dt_max_s])
        motion, _ = limit(limits, motion, h, _wishes(rng, limits, k, held), rng.choice([0, 1, -3, np.nan, np.inf], N))
        positions.append(motion.position)
        intervals.append(h)
    velocity, acceleration, jerk = _differences(positions, intervals)
    assert np.isfinite(positions).all()
    assert np.all(positions >= limits.low - 1e-7) and np.all(positions <= limits.high + 1e-7)
    # Dividing float64 positions by h, h² and h³ adds rounding of 1e-15/h³.
    for value, bound, slack in ((velocity, limits.velocity, 1e-8), (acceleration, limits.acceleration, 1e-6), (jerk, limits.jerk, 1e-4)):
        assert np.max(np.abs(value) / bound) <= 1 + slack
        assert np.max(np.abs(value) / bound) > 0.99, "the test never reaches the limit"


@pytest.mark.parametrize("dt_max_s", [0.002, 0.02, 0.1])
def test_no_input_exceeds_a_limit_whenever_it_comes_and_wherever_it_starts(dt_max_s: float):
    """Every fifth interval is too short, none at all, or too long, and every third joint starts outside of its limits: 150,000 inputs."""
    rng, N, steps = np.random.default_rng(5), 250, 200
    limits = _many(rng, N, dt_max_s)
    outside = np.where(rng.random(N) < 0.5, limits.low - rng.uniform(0.01, 1, N), limits.high + rng.uniform(0.01, 1, N))
    start = np.where(np.arange(N) % 3 == 0, outside, rng.uniform(limits.low, limits.high))
    motion, held = Motion.rest(start), rng.uniform(limits.low - 1, limits.high + 1)
    velocity = acceleration = np.zeros(N)
    beyond, worst = np.maximum(limits.low - start, start - limits.high).clip(0), np.zeros(3)
    for k in range(steps):
        held = np.where(rng.random(N) < 0.02, rng.uniform(limits.low - 1, limits.high + 1), held)
        h = rng.uniform(limits.dt_min_s, limits.dt_max_s)
        if rng.random() < 0.2:
            h = rng.choice([0.0, -h, 0.5 * limits.dt_min_s, 1.01 * limits.dt_max_s, 100 * limits.dt_max_s])
        before, (motion, report) = (
            motion,
            limit(limits, motion, h, _wishes(rng, limits, k, held), rng.choice([0, 1, -3, np.nan, np.inf], N)),
        )
        if not limits.dt_min_s <= h <= limits.dt_max_s:
            assert (report.code == "interval").all() and np.array_equal(motion.position, before.position)
            if h > limits.dt_max_s:
                assert not motion.velocity.any() and not motion.acceleration.any(), "it has come to rest meanwhile"
                velocity = acceleration = np.zeros(N)
            else:
                assert motion == before or np.array_equal(motion.velocity, before.velocity), "no time has passed"
            continue
        last = velocity, acceleration
        velocity = (motion.position - before.position) / h
        acceleration = (velocity - last[0]) / h
        jerk = (acceleration - last[1]) / h
        bounds = ((velocity, limits.velocity), (acceleration, limits.acceleration), (jerk, limits.jerk))
        worst = np.maximum(worst, [np.max(np.abs(value) / bound) for value, bound in bounds])
        now = np.maximum(limits.low - motion.position, motion.position - limits.high).clip(0)
        assert np.isfinite(motion.position).all() and np.all(now <= beyond + 1e-7), "further out than before"
        beyond = now
    assert np.all(worst <= 1 + np.array([1e-8, 1e-6, 1e-4])) and np.all(worst > 0.99)


def test_braking_never_needs_more_room_than_promised():
    rng, N, H = np.random.default_rng(1), 20_000, 0.05
    limits = _many(rng, N, H)
    velocity, acceleration = rng.uniform(-1, 1, (2, N)) * np.stack([limits.velocity, limits.acceleration])
    motion = Motion(np.zeros(N), velocity, acceleration)
    top, bottom = reach(limits, velocity, acceleration), reach(limits, -velocity, -acceleration)
    peak = np.maximum(velocity + np.maximum(acceleration, 0) ** 2 / (2 * limits.jerk), 0)
    for _ in range(60):
        h = rng.uniform(1e-4, H)
        chosen = brake(limits, motion, h)
        assert np.all(np.abs(chosen) <= limits.acceleration)
        assert np.all(np.abs(chosen - motion.acceleration) <= limits.jerk * h * (1 + 1e-12))
        velocity = motion.velocity + h * chosen
        motion = Motion(motion.position + h * velocity, velocity, chosen)
        up = motion.position + reach(limits, motion.velocity, motion.acceleration)
        down = -motion.position + reach(limits, -motion.velocity, -motion.acceleration)
        assert np.all(up <= top + 1e-12) and np.all(down <= bottom + 1e-12)
        assert np.all(motion.velocity <= peak + 1e-12)
        top, bottom = up, down


def test_first_steps_by_hand():
    limits, motion = _limits(), Motion.rest(np.zeros(1))
    # Jerk 200 for 0.01 s: a = 2, then 4; v = 0.02, then 0.06; p = 0.0002, then 0.0008.
    for acceleration, velocity, position in ((2, 0.02, 0.0002), (4, 0.06, 0.0008)):
        motion, report = limit(limits, motion, 0.01, np.array([1.0]), np.zeros(1))
        assert (motion.acceleration[0], motion.velocity[0], motion.position[0]) == pytest.approx((acceleration, velocity, position))
        assert report.code[0] == "velocity" and report.magnitude[0] == pytest.approx(1 - position)


def test_room_to_stop_by_hand():
    limits = _limits(A=10, J=200)
    # From 2 unit/s: v²/2A + vA/2J = 0.2 + 0.05. From 0.32, below A²/J = 0.5: v^1.5/√J = 0.0128. At the curve, v = 0.25 with
    # a = -10: ∫ s/√(2Js) = (2/3) 0.25^1.5 / √400 = 0.0041667.
    for velocity, acceleration, room in (
        (2.0, 0.0, 0.25),
        (0.32, 0.0, 0.0128),
        (0.25, -10.0, 0.0041667),
        (0.0, 0.0, 0.0),
        (-1.0, 2.0, 0.0),
    ):
        assert reach(limits, np.array([velocity]), np.array([acceleration]))[0] == pytest.approx(room, rel=1e-4)


def test_what_stands_still_stays_bitwise():
    limits = _many(np.random.default_rng(2), 100, 0.02)
    motion = Motion.rest(np.random.default_rng(3).uniform(limits.low, limits.high))
    after, report = limit(limits, motion, 0.01, motion.position, np.zeros(100))
    assert not report.any
    assert np.array_equal(after.position, motion.position)
    assert not after.velocity.any() and not after.acceleration.any()


def test_feasible_motion_passes_bitwise():
    limits, motion, h = _limits(), Motion.rest(np.zeros(1)), 0.01
    for k in range(2000):
        t = h * k
        # 0.3 (1 - cos 2t)²: starts with position, velocity, acceleration and jerk 0; at most 0.8 unit/s, 5 unit/s², 20 unit/s³.
        wish, velocity = np.array([0.3 * (1 - np.cos(2 * t)) ** 2]), np.array([1.2 * (1 - np.cos(2 * t)) * np.sin(2 * t)])
        motion, report = limit(limits, motion, h, wish, velocity)
        assert motion.position[0] == wish[0] and not report.any


@pytest.mark.parametrize("h", [0.002, 0.01, 0.02])
@pytest.mark.parametrize("J", [200.0, 5000.0])
def test_a_far_position_is_reached_at_once_without_overshoot(h: float, J: float):
    limits, motion, path = _limits(J=J, dt_max_s=6 * h), Motion.rest(np.zeros(1)), []
    for _ in range(round(2 / h)):
        motion, _ = limit(limits, motion, h, np.array([1.0]), np.zeros(1))
        path.append(motion.position[0])
    assert max(path) <= 1 + 2e-3 * h / 0.002
    arrived = h * next(i for i in range(len(path)) if abs(path[i] - 1) < 1e-3)
    assert arrived <= 1 / 2 + 2 / 10 + 10 / J + 2 * h  # the fastest motion in continuous time: d/V + V/A + A/J
    assert path[-1] == 1.0


def test_a_moving_position_is_caught_up_with():
    limits, motion, h = _limits(), Motion.rest(np.zeros(1)), 0.01
    for k in range(150):
        wish = -2 + 1.2 * h * (k + 1)  # jumps away by 2, then moves at 1.2 of at most 2 unit/s
        motion, report = limit(limits, motion, h, np.array([wish]), np.array([1.2]))
    assert motion.position[0] == wish and not report.any


ROBOTS = sorted((ROOT / "configs" / "robots").glob("*.yaml"))


@pytest.mark.parametrize("path", ROBOTS, ids=lambda path: path.stem)
def test_every_robot_settles_behind_a_position_that_moves_evenly(path: Path):
    profile = load_profile(path)
    limits, h = limits_of(profile).slowed(profile.safety.speed_cap), profile.period_s
    for share in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8):
        motion, velocity = Motion.rest(profile.home), share * limits.velocity
        side = np.where(limits.high - profile.home > profile.home - limits.low, 1.0, -1.0)  # where there is room
        speeds, room = [], np.maximum(limits.high - profile.home, profile.home - limits.low)
        steps = int(min(np.min(0.9 * room / velocity), 3.0) / h)
        for k in range(steps):
            motion, _ = limit(limits, motion, h, profile.home + side * velocity * h * (k + 1), side * velocity)
            speeds.append(side * motion.velocity)
        settled = np.array(speeds[steps // 2 :])
        if steps * h > 1.0:
            np.testing.assert_allclose(settled, np.broadcast_to(velocity, settled.shape), rtol=1e-3)


def test_at_a_limit_commands_stop_at_it():
    limits, motion = _limits(), Motion.rest(np.zeros(1))
    for _ in range(300):
        motion, report = limit(limits, motion, 0.01, np.array([9.0]), np.array([5.0]))
        assert report.code[0] == "position"
    assert motion.position[0] == pytest.approx(3.0, abs=1e-5) and motion.position[0] <= 3.0
    assert abs(motion.velocity[0]) < 1e-4


def test_a_start_outside_only_moves_inward():
    for start, wish in ((3.5, 9.0), (3.5, 1.0), (-3.5, -9.0), (-3.5, np.nan)):
        motion, path = Motion.rest(np.array([start])), [start]
        for _ in range(200):
            motion, _ = limit(_limits(), motion, 0.01, np.array([wish]), np.zeros(1))
            path.append(motion.position[0])
        outwards = np.diff(path) * np.sign(start)
        assert np.all(outwards[np.abs(path[:-1]) > 3.0] <= 0)
        assert path[-1] == (1.0 if wish == 1.0 else start)


def test_a_lowered_cap_brakes_within_the_other_limits():
    limits, motion = _limits(), Motion.rest(np.array([-3.0]))
    for _ in range(100):
        motion, _ = limit(limits, motion, 0.01, np.array([3.0]), np.zeros(1))
    assert motion.velocity[0] == pytest.approx(2.0)
    slow = limits.slowed(0.25)
    for _ in range(60):
        before = motion
        motion, _ = limit(slow, motion, 0.01, np.array([3.0]), np.zeros(1))
        assert motion.velocity[0] <= max(before.velocity[0], 0.5 + 1e-9)
        assert abs(motion.acceleration[0] - before.acceleration[0]) <= 2 + 1e-9
    assert motion.velocity[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("dt_s", [0.0, -0.01, 5e-5, 0.07, 1.0, np.nan, np.inf])
def test_an_interval_out_of_range_holds_and_is_reported(dt_s: float):
    moving = Motion(np.zeros(1), np.ones(1), np.zeros(1))
    after, report = limit(_limits(), moving, dt_s, np.ones(1), np.zeros(1))
    assert after.position[0] == 0.0
    assert report.code[0] == "interval"
    if dt_s > 0.06:
        assert after.velocity[0] == 0.0


@pytest.mark.parametrize("wish", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_brakes_its_joint_only(wish: float):
    wide = replace(
        _limits(), **{name: np.repeat(getattr(_limits(), name), 2) for name in ("low", "high", "velocity", "acceleration", "jerk")}
    )
    motion = Motion(np.zeros(2), np.ones(2), np.zeros(2))
    after, report = limit(wide, motion, 0.01, np.array([wish, 0.01]), np.array([wish, 1.0]))
    assert list(report.code) == ["not_finite", ""] and np.isinf(report.magnitude[0])
    assert after.velocity == pytest.approx([0.98, 1.0])  # braking: jerk 200 for 0.01 s is -2 unit/s²


def test_softened_commands_and_stopping_points_stay_allowed():
    limits, h = _limits(), 0.01
    motion = Motion(np.array([2.0]), np.array([1.5]), np.array([0.0]))
    command, _ = limit(limits, motion, h, np.array([9.0]), np.zeros(1))
    for share in (0.0, 0.3, 1.0):
        after = soften(limits, motion, h, command, share)
        assert abs(after.acceleration[0]) <= 2 + 1e-9
        assert stopping_point(limits, after)[0] <= 3.0
    assert soften(limits, motion, h, command, 1.0).position == pytest.approx(command.position)
    assert soften(limits, motion, h, command, 0.0).acceleration == pytest.approx(brake(limits, motion, h))


def test_the_braking_path_is_where_braking_leads():
    limits = _limits()
    moving = Motion(np.array([[0.0], [1.0]]), np.array([[2.0], [-1.0]]), np.zeros((2, 1)))
    path = braking_path(limits, moving, 4)
    assert path.shape == (6, 2, 1)
    assert np.array_equal(path[0], moving.position) and np.array_equal(path[-1], stopping_point(limits, moving))
    assert path[-1, :, 0] == pytest.approx([0.25, 1 - 0.1 / 2 - 0.05 / 2])  # v²/2A + vA/2J
    assert np.all(np.diff(path[:, 0, 0]) >= 0) and np.all(np.diff(path[:, 1, 0]) <= 0)
    motion = Motion(*(value[0] for value in (moving.position, moving.velocity, moving.acceleration)))
    for _ in range(500):
        chosen = brake(limits, motion, 0.001)
        velocity = motion.velocity + 0.001 * chosen
        motion = Motion(motion.position + 0.001 * velocity, velocity, chosen)
    assert motion.position[0] == pytest.approx(path[-1, 0, 0], abs=2e-3) and motion.position[0] <= path[-1, 0, 0]


def test_bad_starts_and_speeds_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        Motion.rest(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="speed must lie above 0"):
        _limits().slowed(0.0)


def test_limits_of_a_profile():
    profile = load_profile(ROOT / "configs" / "robots" / "panda.yaml")
    limits = limits_of(profile)
    assert limits.high[0] == pytest.approx(2.8973 - 0.05)
    assert (limits.velocity[0], limits.acceleration[1], limits.jerk[2]) == (2.175, 7.5, 5000.0)
    assert (limits.dt_min_s, limits.dt_max_s) == pytest.approx((0.0025, 0.055))
