"""Curves through the knots of a chunk that carry on from the motion that is under way: continuous to the second derivative.

A cubic spline through the knots, of which the first piece is replaced by the polynomial of degree five that also starts with
the acceleration under way. Both meet with equal position, velocity and acceleration. n pieces · J joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Point:
    """A curve at one time."""

    position: np.ndarray
    """`(J,)`."""
    velocity: np.ndarray
    acceleration: np.ndarray


@dataclass(frozen=True)
class Spline:
    """Pieces of degree five between growing times."""

    times_s: np.ndarray
    """`(n + 1,)`."""
    knots: np.ndarray
    """`(n + 1, J)` positions at the times, met exactly."""
    coefficients: np.ndarray
    """`(n, 6, J)` of powers of the time since the start of the piece."""

    @property
    def start_s(self) -> float:
        """Time of the first knot."""
        return float(self.times_s[0])

    @property
    def end_s(self) -> float:
        """Time of the last knot."""
        return float(self.times_s[-1])

    def at(self, time_s: float) -> Point:
        """The curve at a time, which is moved to the nearest end if it lies outside."""
        time_s = float(np.clip(time_s, self.start_s, self.end_s))
        knot = int(np.argmin(np.abs(self.times_s - time_s)))
        piece = int(np.clip(np.searchsorted(self.times_s, time_s, side="right") - 1, 0, len(self.coefficients) - 1))
        position, velocity, acceleration = _evaluate(self.coefficients[piece], time_s - self.times_s[piece])
        if abs(self.times_s[knot] - time_s) < 1e-9:
            position = self.knots[knot]
        return Point(position, velocity, acceleration)

    def peak_jerk(self, until_s: float) -> np.ndarray:
        """`(J,)` largest |third derivative| from the start to a time."""
        peaks = np.zeros(self.knots.shape[1])
        for start, end, c in zip(self.times_s[:-1], self.times_s[1:], self.coefficients, strict=True):
            if start < until_s:
                t = np.linspace(0.0, min(end, until_s) - start, 9)[:, None]
                peaks = np.maximum(peaks, np.abs(6 * c[3] + 24 * c[4] * t + 60 * c[5] * t**2).max(0))
        return peaks


def through(times_s: np.ndarray, knots: np.ndarray, start: Point, end_velocity: np.ndarray) -> Spline:
    """The curve that starts with a motion and goes through knots.

    Args:
        times_s: `(n + 1,)` growing; the first is the start's.
        knots: `(n + 1, J)`; the first is the start's position.
        start: motion at the first time.
        end_velocity: `(J,)` at the last time.
    """
    widths = np.diff(times_s)
    if len(widths) < 1 or np.any(widths <= 0):
        raise ValueError(f"a curve needs at least two growing times, got {times_s}")
    velocity = _knot_velocities(widths, knots, start.velocity, end_velocity)
    slope = np.diff(knots, axis=0) / widths[:, None]
    square = (3 * slope - 2 * velocity[:-1] - velocity[1:]) / widths[:, None]
    cube = (velocity[:-1] + velocity[1:] - 2 * slope) / widths[:, None] ** 2
    coefficients = np.zeros((len(widths), 6, knots.shape[1]))
    coefficients[:, 0], coefficients[:, 1], coefficients[:, 2], coefficients[:, 3] = knots[:-1], velocity[:-1], square, cube
    second = Point(knots[1], velocity[1], 2 * square[0] + 6 * cube[0] * widths[0])
    coefficients[0] = quintic(start, second, float(widths[0]))
    return Spline(times_s, knots, coefficients)


def quintic(start: Point, end: Point, width_s: float) -> np.ndarray:
    """`(6, J)` coefficients of the polynomial of degree five between two motions."""
    T = width_s
    gap = end.position - start.position - start.velocity * T - start.acceleration * T**2 / 2
    speed = (end.velocity - start.velocity - start.acceleration * T) * T
    push = (end.acceleration - start.acceleration) * T**2
    return np.array(
        [
            start.position,
            start.velocity,
            start.acceleration / 2,
            (10 * gap - 4 * speed + push / 2) / T**3,
            (-15 * gap + 7 * speed - push) / T**4,
            (6 * gap - 3 * speed + push / 2) / T**5,
        ]
    )


def _knot_velocities(widths: np.ndarray, knots: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """`(n + 1, J)` velocities of the cubic spline with given velocities at both ends: accelerations meet at inner knots."""
    n = len(widths)
    matrix, right = np.zeros((n + 1, n + 1)), np.zeros_like(knots)
    matrix[0, 0] = matrix[n, n] = 1.0
    right[0], right[n] = start, end
    slope = np.diff(knots, axis=0) / widths[:, None]
    for i in range(1, n):
        left, here = widths[i - 1], widths[i]
        matrix[i, i - 1 : i + 2] = here, 2 * (left + here), left
        right[i] = 3 * (here * slope[i - 1] + left * slope[i])
    return np.linalg.solve(matrix, right)


def _evaluate(c: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    position = c[0] + t * (c[1] + t * (c[2] + t * (c[3] + t * (c[4] + t * c[5]))))
    velocity = c[1] + t * (2 * c[2] + t * (3 * c[3] + t * (4 * c[4] + t * 5 * c[5])))
    acceleration = 2 * c[2] + t * (6 * c[3] + t * (12 * c[4] + t * 20 * c[5]))
    return position, velocity, acceleration
