"""A robot for tests that obeys physics: a mass, a spring and a damper per joint, integrated; and a clock that moves it."""

from __future__ import annotations

import numpy as np

from robot.limiter import Motion
from robot.profile import RobotProfile
from robot.safety import Measurement

STEP_S = 0.001
STIFFNESS, DAMPING = 900.0, 54.0
"""Per unit of inertia: 30 rad/s, damping ratio 0.9."""
DAMPED = 10.0
"""Damping without stiffness, per unit of inertia."""


class Plant:
    """q̈ = k (command − q) − d q̇ + disturbance, by semi-implicit Euler steps of 1 ms. Encoders have noise."""

    def __init__(self, profile: RobotProfile, start: np.ndarray) -> None:
        self.position, self.velocity = start.copy(), np.zeros_like(start)
        self.disturbance = np.zeros_like(start)
        """[unit/s²], for example of gravity."""
        self.time_s, self.competitors = 0.0, 0
        self.silent = self.frozen = False
        self.sent: list[tuple[float, Motion]] = []
        self.path: list[np.ndarray] = []
        self._command = start.copy()  # the robot's own controller holds it
        self._damped = False
        self._random = np.random.default_rng(0)
        self._last = self._measure()
        self._period_s = 1 / profile.rates.state_hz

    def read(self) -> Measurement | None:
        return self._last

    def send(self, command: Motion, damped: bool) -> None:
        self._command, self._damped = command.position, damped
        self.sent.append((self.time_s, command))

    def others(self) -> int:
        return self.competitors

    def advance(self, until_s: float) -> None:
        """Physics up to a time; measurements at the robot's own rate."""
        while self.time_s < until_s - STEP_S / 2:
            spring = 0.0 if self._damped else STIFFNESS * (self._command - self.position)
            drag = DAMPED if self._damped else DAMPING
            self.velocity = self.velocity + STEP_S * (spring - drag * self.velocity + self.disturbance)
            self.position = self.position + STEP_S * self.velocity
            self.time_s += STEP_S
            self.path.append(self.position)
            if self.time_s - self._last.stamp_s >= self._period_s - STEP_S / 2 and not self.silent:
                self._last = self._measure()

    def _measure(self) -> Measurement:
        if self.frozen:
            return Measurement(self._last.position, self._last.velocity, self.time_s, self.time_s)
        noise = 1e-6 * self._random.standard_normal(len(self.position))
        return Measurement(self.position + noise, self.velocity.copy(), self.time_s, self.time_s)


class PlantClock:
    """Virtual time: sleeping moves the robot."""

    def __init__(self, plant: Plant) -> None:
        self._plant, self.oversleep_s = plant, 0.0

    def now_s(self) -> float:
        return self._plant.time_s

    def sleep_until(self, time_s: float) -> None:
        self._plant.advance(time_s + self.oversleep_s)
