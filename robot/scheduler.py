"""From chunks, which come late, to setpoints at the control rate. Steps are chosen by time, never by counting.

    sample   the curve through the steps, which carries on from the motion under way with its velocity and acceleration
    underrun at most one step of extrapolation → deceleration within the limits → hold → after a time a fault

The first chunk from a standstill is played from its first step on, after a ramp from where the robot stands; one that comes
during the ramp takes its place. Later ones are played at the times they were made for, without steps that are too late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robot.chunks import Blend, Border, Chunk, Phase, Refusal, Rejected, Setpoint, ensemble
from robot.delay import DelayEstimate
from robot.limiter import Motion
from robot.profile import RobotProfile
from robot.splines import Point, Spline, through

JOIN = 0.5
"""Shortest first piece of a curve, in steps; a nearer step is left out."""
STILL = 1e-3
"""Share of the velocity limits below which the commands count as at rest."""
ROUNDING_S = 1e-9
"""Of times."""


@dataclass(frozen=True)
class Timing:
    """Settings of a scheduler."""

    joints: int
    chunk_age_s: float
    """Chunks of older observations are not accepted."""
    starvation_s: float
    ramp_s: float
    still: np.ndarray
    """`(J,)` velocities below which the robot stands [unit/s]."""
    far: np.ndarray
    """`(J,)` distances beyond which the first step from a standstill is not accepted [unit]."""
    blend: Blend = "replace"
    crossfade_steps: int = 3
    ensemble_decay: float = 0.01


def timing_of(profile: RobotProfile, blend: Blend = "replace") -> Timing:
    """The settings of a profile."""
    still = STILL * np.array([joint.velocity for joint in profile.joints])
    safety = profile.safety
    leash = np.array([joint.leash for joint in profile.joints])
    return Timing(len(profile.joints), profile.ages.chunk_s, safety.starvation_s, safety.ramp_s, still, leash, blend)


class Scheduler:
    """Holds the curve that is being followed. Times are monotonic seconds of one clock."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.delay = DelayEstimate()
        """From observation to chunk."""
        self.forget()

    def forget(self) -> None:
        """Drop all chunks; `sent` must be called before the next one is accepted."""
        self._plan: Spline | None = None
        self._live: list[Chunk] = []
        self._sent: tuple[float, Motion] | None = None
        self._newest_t0_s, self._ids = -np.inf, set[int]()
        self._age_from_s, self._ramp_end_s = 0.0, -np.inf
        self._end_velocity = np.zeros(self._timing.joints)
        self._step_s = 0.0

    @property
    def end_s(self) -> float:
        """When the last step is due; minus infinity without a chunk."""
        return self._plan.end_s if self._plan is not None else -np.inf

    def sent(self, now_s: float, motion: Motion) -> None:
        """What really left for the robot at a time."""
        self._sent = (now_s, motion)

    def accept(self, chunk: Chunk, now_s: float) -> Border | Rejected:
        """Take over to a new chunk, from the last command on. Raises `RuntimeError` if nothing was sent yet."""
        standing, (start_s, start) = self._standing(), self._under_way()
        expected_s, age_s = self.delay.seconds, now_s - chunk.t0_s
        if code := self._refusal(chunk, now_s):
            return Rejected(chunk.id, code, _detail(code, chunk, age_s))
        self.delay.see(age_s)
        self._newest_t0_s = chunk.t0_s
        self._ids.add(chunk.id)
        starved_s = self._starved(now_s)
        if standing:
            self._ramp_end_s = now_s + self._timing.ramp_s
        played = replace(chunk, t0_s=self._ramp_end_s) if now_s <= self._ramp_end_s else chunk  # from its first step on
        times = played.times_s
        later = times >= start_s + (ROUNDING_S if standing else JOIN * chunk.dt_s)
        before = start if standing or self._plan is None else self._plan.at(now_s)
        knots = self._blended(played, times[later])
        self._end_velocity = (played.positions[-1] - played.positions[-2]) / chunk.dt_s
        self._plan = through(np.r_[start_s, times[later]], np.vstack([start.position, knots]), start, self._end_velocity)
        self._age_from_s, self._step_s = chunk.t0_s, chunk.dt_s
        wanted = played.at(np.array([now_s, now_s + chunk.dt_s]))
        return Border(
            chunk=chunk.id,
            at_s=now_s,
            dropped=int((~later).sum()),
            jump=wanted[0] - before.position,
            velocity_jump=(wanted[1] - wanted[0]) / chunk.dt_s - before.velocity,
            peak_jerk=self._plan.peak_jerk(self._plan.times_s[1]),
            starved_s=starved_s,
            age_s=age_s,
            expected_delay_s=expected_s,
            delay_alarm=len(self._ids) > 2 and abs(age_s - expected_s) > chunk.dt_s,
        )

    def sample(self, now_s: float) -> Setpoint:
        """What to ask for now."""
        rest = np.zeros(self._timing.joints)
        if self._plan is None:
            return Setpoint("waiting", None, rest)
        age_s, over_s = now_s - self._age_from_s, now_s - self._plan.end_s
        if over_s <= ROUNDING_S:
            point = self._plan.at(now_s)
            return Setpoint("play", point.position, point.velocity, age_s)
        if over_s <= self._step_s + ROUNDING_S:
            return Setpoint("extrapolate", self._plan.knots[-1] + over_s * self._end_velocity, self._end_velocity, age_s)
        if over_s > self._timing.starvation_s:
            return Setpoint("starved", None, rest, age_s)
        phase: Phase = "hold" if self._standing() else "decelerate"
        return Setpoint(phase, None, rest, age_s)

    @property
    def _last(self) -> tuple[float, Motion]:
        """When the last command left, and which. Raises `RuntimeError` if there is none."""
        if self._sent is None:
            raise RuntimeError("nothing was sent yet; report the command that holds the robot with sent() first")
        return self._sent

    def _refusal(self, chunk: Chunk, now_s: float) -> Refusal | None:
        if chunk.positions.ndim != 2 or chunk.positions.shape[1] != self._timing.joints or len(chunk.positions) < 2 or not chunk.dt_s > 0:
            return "shape"
        if not (np.isfinite(chunk.positions).all() and np.isfinite(chunk.t0_s)):
            return "not_finite"
        if chunk.id in self._ids:
            return "duplicate"
        if chunk.t0_s <= self._newest_t0_s:
            return "older"
        late = not self._standing() and chunk.times_s[-1] < max(now_s, self._last[0] + JOIN * chunk.dt_s)
        if now_s < chunk.t0_s - ROUNDING_S:
            return "future"
        if late or now_s - chunk.t0_s > self._timing.chunk_age_s:
            return "expired"
        if self._standing() and np.any(np.abs(chunk.positions[0] - self._last[1].position) > self._timing.far):
            return "far"
        return None

    def _under_way(self) -> tuple[float, Point]:
        """When and with which motion the last command left: the curve's where it was followed, otherwise the command's own."""
        time_s, motion = self._last
        if self._plan is not None and self._plan.start_s <= time_s <= self._plan.end_s:
            point = self._plan.at(time_s)
            if np.allclose(point.position, motion.position, rtol=0, atol=1e-9):
                return time_s, point
        return time_s, Point(motion.position, motion.velocity, motion.acceleration)

    def _blended(self, chunk: Chunk, times_s: np.ndarray) -> np.ndarray:
        """`(T, J)` positions at the steps that remain."""
        fresh = chunk.at(times_s)
        if self._timing.blend == "ensemble":
            self._live = [*(old for old in self._live if old.times_s[-1] >= times_s[0]), chunk]
            return ensemble(self._live, times_s, self._timing.ensemble_decay)
        if self._timing.blend == "crossfade" and self._plan is not None:
            N = self._timing.crossfade_steps
            for i, time_s in enumerate(times_s[:N]):
                if time_s <= self._plan.end_s:
                    share = (i + 1) / (N + 1)
                    fresh[i] = (1 - share) * self._plan.at(time_s).position + share * fresh[i]
        return fresh

    def _standing(self) -> bool:
        """Whether the robot is not moving and follows nothing."""
        time_s, motion = self._last
        following = self._plan is not None and time_s <= self._plan.end_s + self._step_s
        return not following and bool(np.all(np.abs(motion.velocity) <= self._timing.still))

    def _starved(self, now_s: float) -> float:
        return 0.0 if self._plan is None else max(0.0, now_s - self._plan.end_s)


def _detail(code: Refusal, chunk: Chunk, age_s: float) -> str:
    if code == "far":
        return "its first step is further from where the robot stands than the leash; move the robot there first"
    return f"observed {age_s:.3f} s ago, positions {chunk.positions.shape}, step {chunk.dt_s:.3f} s"
