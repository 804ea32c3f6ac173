"""A policy on a simulated robot in virtual time: the real commander, scheduler, runtime and filter, no transport, no waiting.

    camera, joints ─► Commander ─► chunk, kept back for a drawn delay ─► PolicySource ─► Runtime ─► joint targets

A policy that is thinking decides nothing else: the next decision waits until the chunk is out.

J joints, units of the profile
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from policies.deployed import DeployedPolicy
from robot.chunks import Blend, Border, Chunk, Rejected
from robot.commander import NS_PER_S, Commander
from robot.profile import RobotProfile
from robot.runtime import Operators, Runtime, Tick
from robot.safety import Measurement
from robot.scheduler import ROUNDING_S, timing_of
from robot.sources import PolicySource
from robot.states import State

BEFORE_S = 0.2
"""At rest before the policy may move the robot."""


class Body(Protocol):
    """A simulated robot in its first moment, at rest."""

    @property
    def step_s(self) -> float:
        """What `step` takes."""
        ...

    @property
    def over(self) -> bool:
        """Nothing of the task is left to do."""
        ...

    @property
    def home(self) -> np.ndarray:
        """`(J,)`."""
        ...

    def step(self, target: np.ndarray) -> None:
        """Servos towards `(J,)` for `step_s`."""
        ...

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity, each `(J,)`."""
        ...

    def image(self, camera: str) -> np.ndarray:
        """`(H, W, 3)` uint8, RGB."""
        ...


@dataclass
class Course:
    """What happened between chunks and commands."""

    borders: list[Border] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    continued: int = 0
    """Decisions for which the policy was told what the last chunk still has to say."""
    starved_s: float = 0.0
    """Time without a step to follow after the first chunk."""
    faults: list[str] = field(default_factory=list)
    """Sentences of the runtime about soft stops and faults."""
    positions: list[np.ndarray] = field(default_factory=list)
    """`(J,)` commands, a period apart."""


def rehearse(
    policy: DeployedPolicy,
    profile: RobotProfile,
    body: Body,
    instruction: str,
    delay_s: Callable[[], float],
    limit_s: float,
    blend: Blend = "replace",
) -> Course:
    """Play until the body's task is over, or for `limit_s`.

    Args:
        policy: what decides.
        profile: the robot; its command rate is the loop's.
        body: what moves.
        instruction: what the policy is told.
        delay_s: draws the time from an observation to the arrival of its chunk.
        limit_s: of virtual time after arming.
        blend: how a new chunk takes over.
    """
    course, period_s = Course(), profile.period_s
    source = PolicySource(timing_of(profile, blend), lambda found: _note(course, found))
    thinker = _Thinker(Commander(policy, profile, instruction, continued=blend == "rtc"), source, delay_s, course)
    runtime = Runtime(profile, deadman_required=False)
    runtime.select(source)
    runtime.filter.slow(1.0)
    target, steps = body.home, round(period_s / body.step_s)
    for count in range(round((BEFORE_S + limit_s) / period_s)):
        now_s = count * period_s
        for _ in range(steps if count else 0):
            body.step(target)
        position, velocity = body.joints()
        thinker.perceive(now_s, position, body, 1 / policy.bundle.spec.control_hz)
        if runtime.state is State.ACTIVE:
            thinker.think(now_s)
        source.heartbeat(now_s)
        tick = runtime.tick(now_s, period_s, Measurement(position, velocity, now_s, now_s), Operators())
        if tick.command is not None:
            target = tick.command.position
            thinker.commander.commanded(round(now_s * NS_PER_S), target)
        _observe(course, tick, source, now_s, period_s)
        stopped = runtime.state is State.STANDBY and bool(course.positions)
        if body.over or stopped:
            break
        if count == 1:
            _require(runtime.activate())
        elif now_s >= BEFORE_S and runtime.state is State.STANDBY:
            _require(runtime.arm())
            thinker.commander.begin()
    return course


class _Thinker:
    """A commander that looks at a body, and whose chunks arrive late."""

    def __init__(self, commander: Commander, source: PolicySource, delay_s: Callable[[], float], course: Course) -> None:
        self.commander, self._source, self._delay_s, self._course = commander, source, delay_s, course
        self._frames = 0
        self._arrival: tuple[float, Chunk] | None = None

    def perceive(self, now_s: float, position: np.ndarray, body: Body, frame_s: float) -> None:
        """Joints at every tick, images every `frame_s`."""
        stamp_ns = round(now_s * NS_PER_S)
        self.commander.felt(stamp_ns, position)
        if now_s >= self._frames * frame_s - ROUNDING_S:
            self._frames += 1
            for camera in self.commander.cameras:
                self.commander.saw(camera, stamp_ns, body.image(camera))

    def think(self, now_s: float) -> None:
        """Decide unless a chunk is on its way; hand over the one that is due."""
        if self._arrival is None and (decision := self.commander.decide()):
            self._course.continued += decision.continued
            took_s = self._delay_s()
            self.commander.delay.see(took_s)
            chunk = Chunk(decision.t0_ns, decision.t0_ns / NS_PER_S, decision.dt_s, decision.positions)
            self._arrival = (now_s + took_s, chunk)
        if self._arrival is not None and self._arrival[0] <= now_s + ROUNDING_S:
            self._source.offer(self._arrival[1], now_s)
            self._arrival = None


def _note(course: Course, found: Border | Rejected) -> None:
    if isinstance(found, Border):
        course.borders.append(found)
    else:
        course.rejected.append(found)


def _observe(course: Course, tick: Tick, source: PolicySource, now_s: float, period_s: float) -> None:
    course.faults += [event for event in tick.events if "→ soft_stop" in event or "→ fault" in event]
    if tick.state is not State.ACTIVE or tick.command is None:
        return
    course.positions.append(tick.command.position)
    if course.borders and now_s > source.scheduler.end_s + ROUNDING_S:
        course.starved_s += period_s


def _require(refusal: str) -> None:
    if refusal:
        raise RuntimeError(f"the simulated robot cannot be armed: {refusal}")
