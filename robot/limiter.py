"""Limits position, velocity, acceleration and jerk of every joint's commands, whatever is asked for.

Commands are samples, so limits are those of their differences: with the interval h of a step,

    v⁺ = (p⁺ - p) / h        a⁺ = (v⁺ - v) / h        jerk = (a⁺ - a) / h

A step chooses a⁺; then v⁺ = v + h a⁺ and p⁺ = p + h v⁺. Limits: l ≤ p ≤ u, |v| ≤ V, |a| ≤ A, |jerk| ≤ J; h may be another one
in every step, as long as 0 < h ≤ H.

Why no later step is ever without a way out
-------------------------------------------
*Braking.* Let φ(v) = min(A, √(2Jv)): the strongest deceleration from which jerk J still leads to a = 0 before v = 0. For
v ≥ 0 `brake` takes a⁺ as near as jerk allows to the solution of a⁺ = -φ(v⁺); for v < 0 it is the mirror image.
Three kinds of step follow, T: a⁺ = a - Jh, still above the curve; L: a⁺ = -φ(v⁺), on it; R: a⁺ = a + Jh, below it, where v
will change its sign.

*Distance.* W(v, a) is how far above p the commands can still get when `brake` is taken from now on:

    v₀ = max(v, 0)    a₀ = max(a, -φ(v)) for v ≥ 0,    √(a² + 2Jv) for v < 0 < a and a² > -2Jv,    0 otherwise
    w  = v₀ + a₀² / 2J                                                      the velocity at which a₀ would be 0
    S(w) = w^(3/2) / √J  up to w = A²/J, then w² / 2A + wA / 2J             from (w, 0) to a stop in continuous time
    W  = v₀a₀/J + a₀³/3J² + S(w) + H max(a₀, 0)² / 2J

The first three terms are the distance of the continuous motion "jerk -J down to the curve, then along it".

*Claim:* a step of `brake` has h v⁺ + W(v⁺, a⁺) ≤ W(v, a), for every h ≤ H.
  T: the sum v⁺ = v + h(a - Jh) is at most the continuous velocity after h, and a⁺ is the same, so W only gains from it. While
     velocity falls or a⁺ ≤ 0, h v⁺ is at most the continuous distance. While it rises, h v⁺ exceeds it by at most h times the
     rise of velocity; the last term of W pays for that, as a₀² / 2J is the rise that is still to come.
  L: along the curve the distance is E(v) = ∫ s/φ(s) ds, and ∫ from v⁺ to v of s/φ(s) ds ≥ (v - v⁺) v⁺/φ(v⁺) = h v⁺, because
     s/φ(s) does not decrease. Coming from above the curve, continuous deceleration at velocity s is at most φ(s), so its
     distance from v to v⁺ is at least as long, and what remains from v⁺ is at least E(v⁺).
     The jerk is allowed: φ² - φ⁺² ≤ 2J (v - v⁺) = 2Jhφ⁺, hence φ - φ⁺ ≤ Jh · 2φ⁺/(φ + φ⁺) ≤ Jh.
  R: deceleration is at least φ, so E bounds it as in L until v = 0; for the opposite side this step is a T.
Likewise v + max(a, 0)² / 2J, the largest velocity still to come, does not grow, as (a - Jh)² + 2Jh(a - Jh) ≤ a².

*Hence* K = {|a| ≤ A, v + max(a,0)²/2J ≤ V, p + W(v, a) ≤ u, and the same mirrored} is not left by `brake`, and W ≥ 0 makes
p ≤ u. All conditions grow with a⁺, so the allowed a⁺ are an interval around braking's, found by bisection whose allowed end
is kept. Every step takes an a⁺ of it: the limits hold for every input and the next step has one again.

*Outside.* From p + W > u the bound is p + W itself, so the stopping point never moves further out, and W must not grow: whoever moves
inward does not turn back. From a velocity that is too high (a cap was lowered) the step brakes.

What is asked for is met exactly where its a⁺ is allowed and the steps after it can go on so, at rest or with the wanted velocity. Where
it is not, a⁺ is the one from which braking, seen from a frame that moves with the wanted velocity, ends at the wanted position:
as fast as the limits let, without overshoot.

J joints; arrays `(J,)` in the joints' units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from robot.profile import RobotProfile

BISECTIONS = 8
"""Halvings of the interval of accelerations: to Jh / 128."""
OVERSPEED = 1e-6
"""Share of the velocity limit above which a step brakes; what is less is rounding."""
SMOOTH = 0.5
"""How far half of a step's acceleration may lie from what the wanted velocity says, in changes of acceleration by a step of full jerk."""
_SIDES = np.array([[1.0], [-1.0]])


@dataclass(frozen=True)
class Limits:
    """Limits of commands, and the intervals between commands for which they are kept."""

    low: np.ndarray
    high: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray
    dt_min_s: float
    dt_max_s: float
    """H."""

    def slowed(self, speed: float) -> Limits:
        """With velocity limits times `speed`. Raises `ValueError` unless 0 < speed ≤ 1."""
        if not 0 < speed <= 1:
            raise ValueError(f"speed must lie above 0 and up to 1, got {speed}")
        return replace(self, velocity=self.velocity * speed)


def limits_of(profile: RobotProfile) -> Limits:
    """The soft limits of a profile; intervals from a quarter of a period to as many periods as its watchdog lets pass."""
    low, high = np.array([joint.soft for joint in profile.joints]).T
    velocity, acceleration, jerk = np.array([(joint.velocity, joint.acceleration, joint.jerk) for joint in profile.joints]).T
    return Limits(
        low, high, velocity, acceleration, jerk, 0.25 * profile.period_s, (profile.safety.watchdog_misses + 0.5) * profile.period_s
    )


@dataclass(frozen=True)
class Motion:
    """What was commanded last."""

    position: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray

    @classmethod
    def rest(cls, position: np.ndarray) -> Motion:
        """At rest. Raises `ValueError` for a position that is not finite."""
        position = np.array(position, float)
        if not np.isfinite(position).all():
            raise ValueError(f"cannot start from a position that is not finite: {position}")
        return cls(position, np.zeros_like(position), np.zeros_like(position))


@dataclass(frozen=True)
class Limited:
    """What a step had to change."""

    code: np.ndarray
    """`(J,)` str: position, velocity, acceleration, jerk, not_finite, interval; empty where the wish was met."""
    magnitude: np.ndarray
    """`(J,)` distance of the command from what was asked for; infinite where that was not finite."""

    @property
    def any(self) -> bool:
        """Whether something was changed."""
        return bool((self.code != "").any())


def limit(limits: Limits, last: Motion, dt_s: float, desired: np.ndarray, velocity: np.ndarray) -> tuple[Motion, Limited]:
    """The next command, as near to what is desired as the limits let.

    Args:
        limits: of the commands.
        last: the last command, as returned by the last call or `Motion.rest`.
        dt_s: time since then. Outside of the limits' range the position is held and `interval` reported: too long, and
            the robot has come to rest where it was told to be; too short, and no time for a motion has passed.
        desired: `(J,)` positions; where one is not finite, the joint brakes.
        velocity: `(J,)` that the desired position moves with, 0 for one that is held; not finite counts as held.
    """
    if (held := _held(limits, last, dt_s)) is not None:
        return held, Limited(np.full(len(last.position), "interval", "U12"), np.abs(desired - last.position))
    finite = np.isfinite(desired)
    wanted = np.clip(
        np.where(finite, desired, last.position), np.minimum(limits.low, last.position), np.maximum(limits.high, last.position)
    )
    drift = np.clip(np.where(np.isfinite(velocity), velocity, 0.0), -limits.velocity, limits.velocity)

    exact = ((wanted - last.position) / dt_s - last.velocity) / dt_s
    room = _Room(limits, last, dt_s)
    met = finite & room.permits(exact) & _can_follow(limits, last, dt_s, exact, drift)
    chosen = exact
    if not met.all():
        near = _root(lambda a: _stop(limits, _advance(last, dt_s, a), drift) - wanted, *room.interval())
        chosen = np.where(met, exact, np.where(finite, near, brake(limits, last, dt_s)))
    moved = _advance(last, dt_s, chosen)
    moved = replace(moved, position=np.where(met, wanted, moved.position))
    return moved, _report(limits, last, dt_s, desired, moved)


def stop(limits: Limits, last: Motion, dt_s: float) -> Motion:
    """The next command of the way to a standstill."""
    return _held(limits, last, dt_s) or _advance(last, dt_s, brake(limits, last, dt_s))


def brake(limits: Limits, last: Motion, dt_s: float | np.ndarray) -> np.ndarray:
    """`(J,)` accelerations of the step that stops soonest (see above)."""
    h, J = dt_s, limits.jerk
    speed = np.abs(last.velocity)
    curve = 2 * J * speed / (J * h + np.sqrt((J * h) ** 2 + 2 * J * speed))  # α of α²/2J + hα = |v|
    target = -np.sign(last.velocity) * np.minimum(curve, limits.acceleration)
    return np.clip(target, last.acceleration - J * h, last.acceleration + J * h)


def soften(limits: Limits, last: Motion, dt_s: float, command: Motion, share: float) -> Motion:
    """A command of this step between braking (`share` 0) and `command` (1); the limits hold for all of them."""
    braking = brake(limits, last, dt_s)
    return _advance(last, dt_s, braking + share * (command.acceleration - braking))


def stopping_point(limits: Limits, motion: Motion) -> np.ndarray:
    """`(J,)` where joints stand after braking: a bound on the far side of where they do."""
    return meeting_point(limits, motion, np.zeros_like(motion.velocity))


def meeting_point(limits: Limits, motion: Motion, velocity: np.ndarray) -> np.ndarray:
    """`(J,)` from where on a point that moves with `velocity` `(J,)` is met by joints that only change their own to it."""
    return _stop(limits, motion, velocity)


def braking_path(limits: Limits, motion: Motion, samples: int) -> np.ndarray:
    """`(samples + 2, …, J)` positions from a motion `(…, J)` to its standstill: itself, on the way, and the stopping point."""
    A, J, speed = limits.acceleration, limits.jerk, np.abs(motion.velocity)
    duration = speed / A + 2 * np.minimum(A, np.sqrt(J * speed)) / J + np.abs(motion.acceleration) / J
    h = np.maximum(duration.max(-1, keepdims=True) / samples, limits.dt_min_s)
    path, on_the_way = [motion.position], motion
    for _ in range(samples):
        on_the_way = _advance(on_the_way, h, brake(limits, on_the_way, h))
        path.append(on_the_way.position)
    return np.array([*path, stopping_point(limits, motion)])


def reach(limits: Limits, velocity: np.ndarray, acceleration: np.ndarray) -> np.ndarray:
    """`(…, J)` W: how far above the position commands may still get."""
    A, J = limits.acceleration, limits.jerk
    up = np.maximum(velocity, 0.0)
    forward = np.maximum(acceleration, -np.minimum(A, np.sqrt(2 * J * up)))
    turning = np.sqrt(np.maximum(acceleration**2 + 2 * J * np.minimum(velocity, 0.0), 0.0))
    a = np.where(velocity >= 0, forward, np.where(acceleration > 0, turning, 0.0))
    w = np.maximum(up + a**2 / (2 * J), 0.0)
    stop = np.where(w <= A**2 / J, w * np.sqrt(w / J), w**2 / (2 * A) + w * A / (2 * J))
    distance = up * a / J + a**3 / (3 * J**2) + stop + limits.dt_max_s * np.maximum(a, 0.0) ** 2 / (2 * J)
    return np.maximum(distance, 0.0)


def _can_follow(limits: Limits, last: Motion, h: float, acceleration: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """Whether the steps after this one can go on with what is wanted: arriving with another velocity would overshoot.

    Either the next step can have the wanted velocity and the one after that no acceleration, or the step is one of a motion that goes on to
    accelerate: the velocity of a step is that in its middle, where the wanted one, at its end, is half a step's acceleration ahead.
    """
    turn = (drift - last.velocity) / h - acceleration
    reached = (np.abs(turn) <= limits.jerk * h) & (np.abs(turn - acceleration) <= limits.jerk * h)
    goes_on = (drift != 0) & (np.abs(turn - acceleration / 2) <= SMOOTH * limits.jerk * h)
    return (np.abs(turn) <= limits.acceleration) & (reached | goes_on)


def _held(limits: Limits, last: Motion, dt_s: float) -> Motion | None:
    """The command after an interval out of range; None for one within it."""
    if limits.dt_min_s <= dt_s <= limits.dt_max_s:
        return None
    return Motion.rest(last.position) if dt_s > limits.dt_max_s else last


class _Room:
    """The accelerations of a step that stay in K. Rows of its `(2, J)` arrays: as it is, and mirrored."""

    def __init__(self, limits: Limits, last: Motion, h: float) -> None:
        self._limits, self._last, self._h, J = limits, last, h, limits.jerk
        speed, push, self._start = _SIDES * last.velocity, _SIDES * last.acceleration, _SIDES * last.position
        self._braking = _SIDES * brake(limits, last, h)
        edge, self._reach = np.stack([limits.high, -limits.low]), reach(limits, speed, push)
        self._bound = np.maximum(edge, self._start + self._reach)
        self._outside = self._start > edge
        coming = speed + np.maximum(push, 0.0) ** 2 / (2 * J)
        spare = 2 * J * np.maximum(np.maximum(limits.velocity, coming) - speed, 0.0)
        top = spare / (J * h + np.sqrt((J * h) ** 2 + spare))  # a of v + ha + a²/2J = V
        top = np.maximum(np.minimum(np.minimum(top, limits.acceleration), push + J * h), self._braking)
        self._top = np.where(coming > limits.velocity * (1 + OVERSPEED), self._braking, top)

    def permits(self, acceleration: np.ndarray) -> np.ndarray:
        """`(J,)` whether an acceleration is one of them."""
        sides = _SIDES * acceleration
        return np.all((sides <= self._top) & (self._beyond(sides) <= 0), axis=0)

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """`(J,)` lowest and highest."""
        highest = _root(self._beyond, self._braking, self._top)
        return -highest[1], highest[0]

    def _beyond(self, acceleration: np.ndarray) -> np.ndarray:
        velocity = _SIDES * self._last.velocity + self._h * acceleration
        further = reach(self._limits, velocity, acceleration)
        beyond = self._start + self._h * velocity + further - self._bound
        return np.maximum(beyond, np.where(self._outside, further - self._reach, -np.inf))  # outside there is no turning back


def _root(function: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where a growing function is 0, from below: `low` if it is positive everywhere, `high` if nowhere."""
    fits = function(high) <= 0
    if fits.all():
        return high
    below, above = low, high
    for _ in range(BISECTIONS):
        middle = (below + above) / 2
        low_enough = function(middle) <= 0
        below, above = np.where(low_enough, middle, below), np.where(low_enough, above, middle)
    return np.where(fits, high, below)


def _advance(last: Motion, h: float | np.ndarray, acceleration: np.ndarray) -> Motion:
    velocity = last.velocity + h * acceleration
    return Motion(last.position + h * velocity, velocity, acceleration)


def _stop(limits: Limits, motion: Motion, drift: np.ndarray) -> np.ndarray:
    """Where braking to the velocity `drift` ends, in the frame that moves with it."""
    relative = motion.velocity - drift
    up, down = reach(limits, np.stack([relative, -relative]), np.stack([motion.acceleration, -motion.acceleration]))
    return motion.position + up - down


def _report(limits: Limits, last: Motion, h: float, desired: np.ndarray, moved: Motion) -> Limited:
    """Which limit the wish would have broken first: that of position, then velocity, acceleration, jerk, then room to stop."""
    wish = np.where(np.isfinite(desired), desired, last.position)
    with np.errstate(over="ignore", invalid="ignore"):
        velocity = (wish - last.position) / h
        acceleration = (velocity - last.velocity) / h
        jerk = (acceleration - last.acceleration) / h
    broken = [
        ("not_finite", ~np.isfinite(desired)),
        ("position", (wish < limits.low) | (wish > limits.high)),
        ("velocity", np.abs(velocity) > limits.velocity),
        ("acceleration", np.abs(acceleration) > limits.acceleration),
        ("jerk", np.abs(jerk) > limits.jerk),
    ]
    changed = moved.position != desired
    code = np.select([changed & mask for _, mask in broken], [name for name, _ in broken], default="")
    code = np.where(changed & (code == ""), "position", code).astype("U12")
    return Limited(code, np.where(np.isfinite(desired), np.abs(wish - moved.position), np.inf))
