"""The filter between any source of commands and the robot.

Every command passes it, in this order:

    names, shape → finite → permission, lease, sequence → ages, freezing, conflict → position, velocity, acceleration, jerk →
    leash → workspace, keep-out, self-collision → report

What is refused makes the robot brake; what is too much is made less; what says that the robot is not under control is a fault.
Commands keep the profile's limits for any input (`robot.limiter`). Poses are checked ahead: the next command and the path on
which the robot would brake from it must stay free, at a few samples of that path and with a slack for what lies between them,
so that braking is a way out. Not a safety function in the sense of ISO 13849 or ISO 10218; the hardware's own chain is.

J joints, float64, units of the profile. Times are monotonic seconds of one clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robot.freeze import FreezeWatch
from robot.leases import Lease
from robot.limiter import Motion, braking_path, limit, limits_of, soften, stop
from robot.obstacles import Obstacles
from robot.profile import RobotProfile

SHARES = np.array([0.9, 0.75, 0.5, 0.25, 0.1, 0.0])
"""Tried in turn between the limited command (1) and braking (0) where poses ahead are not free."""
SAMPLES = 4
"""Poses between the next command and where braking from it ends."""
SLACK_M = 0.005
"""What poses ahead keep of their margins, for what lies between samples."""
ROUNDING_M = 1e-9
"""How much nearer than before a pose may come."""
STILL = 0.1
"""Share of the leash that the command moves before a measurement must have changed."""
LEASH_FAULT = 1.5
"""Multiples of the leash at which the robot does not follow."""
STALL, RESTING = 0.2, 0.01
"""A joint that moves slower than this share of its velocity limit must be nearer to the command than this share of the leash."""
HELD_BACK = frozenset({"leash", "workspace", "keep_out", "collision"})
"""Interventions that a source must not need for long."""
OVERSPEED = 1.5
"""Multiples of the velocity limit at which a measurement is out of control."""


@dataclass(frozen=True)
class Measurement:
    """What the robot says of its joints, in command order."""

    position: np.ndarray
    velocity: np.ndarray
    stamp_s: float
    """Of the robot's message, in the robot's clock."""
    received_s: float


@dataclass(frozen=True)
class Wish:
    """What a source asks for, to be sent now."""

    names: tuple[str, ...]
    position: np.ndarray
    velocity: np.ndarray
    """That the position moves with."""
    source: str
    sequence: int
    chunk_age_s: float = 0.0
    """Of the observation that it was computed from."""


@dataclass(frozen=True)
class Intervention:
    """Something that the filter did or found."""

    code: str
    where: str
    """Joint, stream, source or pair of capsules."""
    magnitude: float
    """In the unit of what is measured: how far, how old [s], how many."""


@dataclass(frozen=True)
class Verdict:
    """One pass of the filter."""

    command: Motion
    """To be sent; within the limits."""
    interventions: tuple[Intervention, ...] = ()
    """The command differs from the wish for these reasons."""
    refused: tuple[Intervention, ...] = ()
    """The wish was not considered, the robot brakes: its source has to stop."""
    faults: tuple[Intervention, ...] = ()
    """The robot or the runtime is not under control."""


class SafetyFilter:
    """Keeps the last command and what streams looked like; `check` is called once per tick."""

    def __init__(self, profile: RobotProfile, image_limit_s: Mapping[str, float] | None = None) -> None:
        """`image_limit_s`: largest age of each image stream [s], as the policy declares; the profile's where it does not."""
        self._profile = profile
        self._limits = limits_of(profile)
        self._full_velocity = self._limits.velocity
        self._leash = np.array([joint.leash for joint in profile.joints])
        self._obstacles = Obstacles(profile) if profile.chain else None
        self._arm = np.array([joint.name not in {gripper.joint for gripper in profile.grippers} for joint in profile.joints])
        self._follows_s = np.full(len(profile.joints), np.inf)
        """When each joint last moved or was where it was told to be; infinite before `seed`."""
        self._image_limit_s = dict.fromkeys(profile.topics.images, profile.ages.image_s) | dict(image_limit_s or {})
        self._watches: dict[str, FreezeWatch] = {}
        self._last: Motion | None = None
        self._checked: tuple[Motion, np.ndarray] | None = None
        """A command and its margins `(M,)`."""
        self._held_back_s = 0.0
        self.lease = Lease(profile.safety.heartbeat_timeout_s)
        self.counts: Counter[str] = Counter()
        """Interventions, refusals and faults by code since the start."""
        self.slow(profile.safety.speed_cap)

    @property
    def last(self) -> Motion:
        """The last command. Raises `RuntimeError` before `seed`."""
        if self._last is None:
            raise RuntimeError("the filter has no last command; call seed with a measurement first")
        return self._last

    @property
    def seeded(self) -> bool:
        """Whether there is a last command."""
        return self._last is not None

    def slow(self, speed: float) -> None:
        """Cap velocities to a share of the profile's limits, 0 to 1. A robot that is faster brakes within its other limits."""
        self._limits, self._checked = limits_of(self._profile).slowed(speed), None

    def seed(self, measured: Measurement) -> None:
        """Start anew from where the robot is, at rest. Raises `ValueError` for a measurement that is not finite."""
        self._last = Motion.rest(measured.position)
        self._follows_s = np.full(len(measured.position), np.inf)

    def see_image(self, stream: str, content: np.ndarray, stamp_s: float) -> None:
        """A camera image, for freeze detection."""
        self._watch(f"image {stream}").see(content, stamp_s, self.last.position)

    def check(
        self,
        now_s: float,
        dt_s: float,
        wish: Wish | None,
        measured: Measurement,
        image_age_s: Mapping[str, float] | None = None,
        publishers: int = 0,
    ) -> Verdict:
        """The command for now.

        Args:
            now_s: time.
            dt_s: interval since the last command.
            wish: what the source asks for; None to brake and hold.
            measured: newest measurement.
            image_age_s: age of each image stream that the wish depends on.
            publishers: others that publish on our command topics.
        """
        faults = [*self._robot_faults(now_s, measured), *self._conflict(publishers)]
        refused = self._refusals(now_s, wish, image_age_s or {}) if wish is not None else []
        command, interventions = self._move(dt_s, None if refused or faults else wish, measured)
        if not self._limits.dt_min_s <= dt_s <= self._limits.dt_max_s:
            faults.append(Intervention("interval", "control loop", dt_s))
        else:
            command, ahead = self._keep_free(dt_s, command)
            interventions += ahead
        faults += self._insistence(dt_s, interventions)
        self._last = command
        self.counts.update(found.code for found in (*interventions, *refused, *faults))
        return Verdict(command, tuple(interventions), tuple(refused), tuple(faults))

    def _refusals(self, now_s: float, wish: Wish, image_age_s: Mapping[str, float]) -> list[Intervention]:
        """Why a wish is not considered at all."""
        J = len(self._profile.names)
        if wish.names != self._profile.names:
            wrong = [name for name, own in zip(wish.names, self._profile.names, strict=False) if name != own]
            return [Intervention("names", ", ".join(wrong) or wish.source, float(abs(len(wish.names) - J)))]
        if wish.position.shape != (J,) or wish.velocity.shape != (J,):
            return [Intervention("shape", wish.source, float(wish.position.size))]
        if not np.isfinite(wish.position).all():
            return [Intervention("not_finite", self._profile.names[int(np.argmin(np.isfinite(wish.position)))], np.inf)]
        if refusal := self.lease.refusal(wish.source, wish.sequence, now_s):
            return [Intervention(refusal[0], wish.source, refusal[1])]
        found = []
        if not wish.chunk_age_s <= self._profile.ages.chunk_s:
            found.append(Intervention("chunk_age", wish.source, wish.chunk_age_s))
        for stream, age_s in image_age_s.items():
            if not age_s <= self._image_limit_s.get(stream, self._profile.ages.image_s):
                found.append(Intervention("image_age", stream, age_s))
            if (watch := self._watch(f"image {stream}")).frozen:
                found.append(Intervention("image_frozen", stream, watch.frozen_s))
        return found

    def _robot_faults(self, now_s: float, measured: Measurement) -> list[Intervention]:
        """What the measurement says against going on."""
        J = len(self._profile.names)
        if measured.position.shape != (J,) or measured.velocity.shape != (J,):
            return [Intervention("state_shape", "joint_states", float(measured.position.size))]
        broken = ~(np.isfinite(measured.position) & np.isfinite(measured.velocity))
        found = [Intervention("state_not_finite", self._profile.names[j], np.inf) for j in np.flatnonzero(broken)]
        age_s = now_s - measured.received_s
        if not -self._profile.period_s <= age_s <= self._profile.ages.state_s:  # it may arrive after the tick's own time
            found.append(Intervention("state_age", "joint_states", age_s))
        watch = self._watch("joint_states")
        watch.see(np.concatenate([measured.position, measured.velocity]), measured.stamp_s, self.last.position)
        if watch.frozen:
            found.append(Intervention("state_frozen", "joint_states", watch.frozen_s))
        speed = np.abs(measured.velocity)
        fast = speed > OVERSPEED * self._full_velocity
        found += [Intervention("overspeed", self._profile.names[j], float(speed[j])) for j in np.flatnonzero(fast)]
        gap = np.abs(self.last.position - measured.position)
        lost = (gap > LEASH_FAULT * self._leash) | self._stalled(now_s, gap, speed)
        return found + [self._about("not_following", j, float(gap[j])) for j in np.flatnonzero(lost)]

    def _stalled(self, now_s: float, gap: np.ndarray, speed: np.ndarray) -> np.ndarray:
        """`(J,)` joints that have stood for too long where they are not to be; what a gripper grasps may stop it."""
        stands = (gap > STALL * self._leash) & (speed < RESTING * self._full_velocity) & self._arm
        self._follows_s = np.where(stands, np.minimum(self._follows_s, now_s), now_s)
        return now_s - self._follows_s > self._profile.safety.frozen_s

    def _insistence(self, dt_s: float, interventions: list[Intervention]) -> list[Intervention]:
        """A source that wants what it cannot have for too long."""
        held_back = [found for found in interventions if found.code in HELD_BACK]
        self._held_back_s = self._held_back_s + dt_s if held_back else 0.0
        if self._held_back_s <= self._profile.safety.intervention_limit_s:
            return []
        return [Intervention("interventions", held_back[0].where, self._held_back_s)]

    def _watch(self, stream: str) -> FreezeWatch:
        if stream not in self._watches:
            self._watches[stream] = FreezeWatch(self._profile.safety.frozen_s, STILL * self._leash)
        return self._watches[stream]

    def _conflict(self, publishers: int) -> list[Intervention]:
        return [Intervention("conflict", "command topics", float(publishers))] if publishers > 0 else []

    def _move(self, dt_s: float, wish: Wish | None, measured: Measurement) -> tuple[Motion, list[Intervention]]:
        """The wish within the limits, and no further from the measurement than the leash; without a wish braking."""
        if wish is None:
            return stop(self._limits, self.last, dt_s), []
        target = np.clip(wish.position, measured.position - self._leash, measured.position + self._leash)
        pulled = target != wish.position
        command, limited = limit(self._limits, self.last, dt_s, target, np.where(pulled, 0.0, wish.velocity))
        found = [self._about("leash", j, float(wish.position[j] - target[j])) for j in np.flatnonzero(pulled)]
        found += [self._about(str(limited.code[j]), j, float(limited.magnitude[j])) for j in np.flatnonzero(limited.code != "")]
        return command, found

    def _keep_free(self, dt_s: float, command: Motion) -> tuple[Motion, list[Intervention]]:
        """The command, nearer to braking as far as poses ahead are not free. What is not free already may not get worse."""
        if self._obstacles is None:
            return command, []
        margins = self._obstacles.least(self._braking([command])[:, 0], SLACK_M)
        needed = np.minimum(self._margins_of_last(), SLACK_M) - ROUNDING_M
        if np.all(margins >= needed):
            self._checked = command, margins
            return command, []
        worst = int(np.argmin(margins - needed))
        softer = [soften(self._limits, self.last, dt_s, command, share) for share in SHARES]
        free = np.all(self._ahead(softer) >= needed, axis=1)
        code, where = self._obstacles.names[worst].split(": ", 1)
        chosen = softer[int(np.argmax(free))] if free.any() else softer[-1]
        return chosen, [Intervention(code, where, float(-margins[worst]))]

    def _margins_of_last(self) -> np.ndarray:
        """`(M,)` of the last command, or bounds that are enough: found when that was checked, as a rule."""
        checked = self._checked
        if checked is None or checked[0] is not self.last:
            checked = self._checked = self.last, self._ahead([self.last])[0]
        return checked[1]

    def _ahead(self, commands: list[Motion]) -> np.ndarray:
        """`(len(commands), M)` smallest margins on the way on which braking from each command leads."""
        assert self._obstacles is not None
        path = self._braking(commands)
        margins = self._obstacles.margins(path.reshape(-1, path.shape[-1]))
        return margins.reshape(*path.shape[:2], -1).min(0)

    def _braking(self, commands: list[Motion]) -> np.ndarray:
        """`(P, len(commands), J)` poses on those ways."""
        stacked = Motion(*(np.array([getattr(command, part) for command in commands]) for part in ("position", "velocity", "acceleration")))
        return braking_path(self._limits, stacked, SAMPLES)

    def _about(self, code: str, joint: int, magnitude: float) -> Intervention:
        return Intervention(code, self._profile.names[joint], abs(magnitude))
