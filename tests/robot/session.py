"""A runtime on a robot that obeys physics, with an operator: what tests of the runtime and of sources share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robot.limiter import limits_of
from robot.loop import Beat, step
from robot.profile import RobotProfile, load_profile
from robot.runtime import Operators, Runtime, Tick
from robot.sources import ReplaySource, Source
from robot.states import State
from tests.repo.imports import ROOT
from tests.robot.plant import Plant, PlantClock

ARM7 = load_profile(ROOT / "configs" / "robots" / "arm7.yaml")
FREE = ARM7.model_copy(update={"workspace": None, "collision": None, "chain": (), "safety": ARM7.safety.model_copy(update={"ramp_s": 0.3})})
"""Without poses to check, which `test_safety` does: many ticks are cheap."""
SAG = np.array([0.0, 1.0, 0.0, -1.5, 0.0, 0.5, 0.0, 0.0])
"""Gravity that the servos do not make up for [unit/s²]: about 1 to 2 mrad of sag."""


class Session:
    """A runtime, a plant and an operator, driven by `robot.loop`."""

    def __init__(
        self, source: Source | None = None, profile: RobotProfile = FREE, start: np.ndarray | None = None, sag: np.ndarray = SAG
    ) -> None:
        self.plant = Plant(profile, profile.home if start is None else start)
        self.plant.disturbance = sag
        self.plant.advance(1.0)  # sags to rest
        self.clock, self.runtime = PlantClock(self.plant), Runtime(profile, deadman_required=True)
        self.operators, self.profile, self.ticks, self.events = Operators(), profile, list[Tick](), list[str]()
        if source is not None:
            self.runtime.select(source)

    def run(self, seconds: float, each: Callable[[float], None] = lambda now_s: None) -> None:
        """Goes on for a time and, unlike `robot.loop.run`, does not stop the robot at the end."""
        beat, end_s = Beat(self.clock, self.profile.period_s), self.plant.time_s + seconds
        while self.plant.time_s < end_s - 1e-9:
            each(self.plant.time_s)
            self.ticks.append(step(self.runtime, self.plant, beat, self.operators))
            self.events += self.ticks[-1].events

    def arm(self) -> None:
        """From nothing to ACTIVE."""
        self.run(0.05)
        assert self.runtime.activate() == ""
        self.run(0.1)
        assert self.runtime.arm() == ""
        self.run(0.01)
        assert self.runtime.state is State.ACTIVE

    def assert_limits(self, since: int = 0) -> None:
        """Velocity, acceleration and jerk of what was really sent, from positions alone."""
        limits, positions = limits_of(self.profile), np.array([motion.position for _, motion in self.plant.sent[since:]])
        velocity = np.diff(positions, axis=0) / self.profile.period_s
        acceleration = np.diff(velocity, axis=0) / self.profile.period_s
        jerk = np.diff(acceleration, axis=0) / self.profile.period_s
        for value, bound in ((velocity, limits.velocity), (acceleration, limits.acceleration), (jerk, limits.jerk)):
            assert np.all(np.abs(value) <= bound * (1 + 1e-6))


def moved(joint: int, by: float) -> np.ndarray:
    """Home, but for one joint."""
    position = ARM7.home.copy()
    position[joint] += by
    return position


def jogging(joint: int, speed: float) -> np.ndarray:
    """Velocities, 0 but for one joint."""
    velocity = np.zeros(8)
    velocity[joint] = speed
    return velocity


def replay() -> ReplaySource:
    """From 0.2 to 0.6 rad of the first joint in a second."""
    return ReplaySource(np.linspace(moved(0, 0.2), moved(0, 0.6), 21), 0.05, FREE)
