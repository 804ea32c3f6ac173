"""Commands a robot by a deployed policy: when to decide, from which samples, and where the joints are to go. No transport.

Observations and commands come in with stamps of one clock, as whole nanoseconds; a decision speaks of the time of its
observation, and whoever executes it chooses among its steps by time (`robot.scheduler`).

K chunk steps · J joints, units of the profile
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policies.deployed import DeployedPolicy, Prefix
from policies.interface import Entry
from robot.actions import JointActions
from robot.chunks import Chunk
from robot.delay import DelayEstimate
from robot.observation import NS_PER_S, CommanderError, at_or_before, between, image_entries, require_shown, state_entry
from robot.profile import RobotProfile

KEPT_S = 4.0
"""How far back samples and commands are remembered."""
FOLLOWING = 0.1
"""How far the commands may be from the last chunk for it to be what is continued, as a share of full speed for a control step."""
SKEW_STEPS = 1.0
"""How far apart the samples of one observation may be, in control steps."""


@dataclass(frozen=True)
class Decision:
    """A chunk in the robot's coordinates."""

    t0_ns: int
    """When its observation was taken, and when step 0 is to be commanded."""
    dt_s: float
    positions: np.ndarray
    """`(K, J)` float64."""
    continued: bool = False
    """The policy was told what the last chunk still has to say."""


class Commander:
    """One policy on one robot. Samples may come from any thread, `decide` is called from one."""

    def __init__(
        self,
        policy: DeployedPolicy,
        profile: RobotProfile,
        instruction: str = "",
        lockstep: bool = False,
        continued: bool = False,
    ) -> None:
        """Tie a policy to a robot.

        Args:
            policy: what decides.
            profile: the robot.
            instruction: what it is told; it may change later.
            lockstep: a simulator waits for every chunk, so that a chunk ends where the next observation is due.
            continued: the policy is told what the last chunk still has to say, and continues it (real-time chunking).

        Raises:
            CommanderError: the robot lacks a camera or joint that the policy sees, it sees what no robot shows, or it is to
                continue chunks and cannot.
            ActionMapError: the robot cannot be commanded as the policy does.
        """
        spec = policy.bundle.spec
        self.policy, self.instruction = policy, instruction
        self._lockstep, self._continued = lockstep, continued
        if continued and (lockstep or not policy.takes_prefix):
            reason = "in lockstep there is nothing to continue" if lockstep else "this one does not: it needs a flow head, run by torch"
            raise CommanderError(f"real-time chunking continues the last chunk, and {reason}; choose another blend")
        self._actions = JointActions(policy.bundle.action_map, spec.action, profile)
        self._entries = {entry.name: entry for entry in spec.entries}
        self._states = {entry.name: state_entry(entry, profile) for entry in spec.entries if entry.kind == "state"}
        require_shown(policy.bundle, profile)
        self._images = image_entries(policy.bundle, profile)
        self.cameras = tuple(self._images)
        if lockstep and spec.executed < 2:
            raise CommanderError(f"in lockstep a chunk is what is executed of it, and needs 2 steps; this policy executes {spec.executed}")
        self._step_ns = round(NS_PER_S / spec.control_hz)
        self._lock = threading.Lock()
        self._felt: deque[tuple[int, np.ndarray]] = deque()
        self._seen: dict[str, deque[tuple[int, np.ndarray]]] = {camera: deque() for camera in self.cameras}
        self._commanded: deque[tuple[int, np.ndarray]] = deque()
        self._last: Decision | None = None
        self._velocity = np.array([joint.velocity for joint in profile.joints])
        self.delay = DelayEstimate()
        """From observation to chunk, as whoever sends the chunk tells it: what is committed meanwhile is what a flow policy continues."""
        self.decisions = 0
        """Made so far; also the seed of the noise that a chunk starts from."""

    def felt(self, stamp_ns: int, position: np.ndarray) -> None:
        """Measured positions `(J,)`."""
        self._keep(self._felt, stamp_ns, position)

    def saw(self, camera: str, stamp_ns: int, image: np.ndarray) -> None:
        """An image `(H, W, 3)` uint8, RGB. Raises `CommanderError` if it cannot be made into what the policy was trained on."""
        self._keep(self._seen[camera], stamp_ns, self._images[camera].value(image))

    def commanded(self, stamp_ns: int, position: np.ndarray) -> None:
        """Positions `(J,)` that were really sent."""
        self._keep(self._commanded, stamp_ns, position)

    def begin(self) -> None:
        """The robot was handed over: the next decision owes nothing to earlier ones, its noise neither."""
        self._last, self.decisions = None, 0

    def lacking(self) -> str:
        """What a decision waits for, as a sentence for the operator; empty if nothing was ever missing."""
        with self._lock:
            silent = [f"images of {camera}" for camera, seen in self._seen.items() if not seen]
            silent += [] if self._felt else ["joint states"]
            if silent:
                return f"nothing was heard of {', '.join(silent)}"
            t0_ns = self._newest()
            if t0_ns is None:
                return "cameras and joint states are further apart in time than a control step"
            if not self._due(t0_ns):
                return "no newer observation comes in"
            return "" if self._anchor(t0_ns) is not None else "the bridge does not say what it commanded a step before the observation"

    def decide(self) -> Decision | None:
        """The next chunk; `None` while nothing new has been seen since the steps that the last one is for.

        Raises:
            SpecError: the policy refuses the observation.
            PolicyError: no finite chunk, or none in time.
        """
        spec = self.policy.bundle.spec
        with self._lock:
            t0_ns = self._newest()
            if t0_ns is None or not self._due(t0_ns):
                return None
            position = at_or_before(self._felt, t0_ns)
            found = {camera: at_or_before(seen, t0_ns) for camera, seen in self._seen.items()}
            anchor = self._anchor(t0_ns)
        images = {camera: image for camera, image in found.items() if image is not None}
        if position is None or anchor is None or len(images) < len(found):
            return None
        observation = {name: self._value(entry, position, anchor, images)[None] for name, entry in self._entries.items()}
        prefix = self._prefix(t0_ns, anchor)
        chunk = self.policy.chunk(observation, prefix, self.decisions)[0]
        steps = spec.executed if self._lockstep else spec.chunk
        self._last = Decision(t0_ns, 1 / spec.control_hz, self._actions.to_joints(chunk[:steps], anchor), prefix is not None)
        self.decisions += 1
        return self._last

    def _prefix(self, t0_ns: int, anchor: np.ndarray) -> Prefix | None:
        """What the last chunk still has to say from an observation on, as actions; `None` if nothing."""
        if self._last is None or not self._continued:
            return None
        dt_s, since_s = self._last.dt_s, (t0_ns - self._last.t0_ns) / NS_PER_S
        last = Chunk(0, -since_s, dt_s, self._last.positions)  # times count from the observation
        if np.any(np.abs(anchor - last.at(np.array([-dt_s]))[0]) > FOLLOWING * dt_s * self._velocity):
            return None  # another chunk, a ramp or a stop is what the robot follows
        steps = int(last.times_s[-1] / dt_s + 1e-6) + 1
        if steps < 1:
            return None
        actions = self._actions.to_actions(last.at(dt_s * np.arange(steps)), anchor)
        return Prefix(actions, min(steps, math.ceil(self.delay.seconds / dt_s - 1e-6)))

    def _keep(self, samples: deque[tuple[int, np.ndarray]], stamp_ns: int, value: np.ndarray) -> None:
        with self._lock:
            if samples and stamp_ns < samples[-1][0] - KEPT_S * NS_PER_S:
                samples.clear()  # another clock
            if samples and stamp_ns == samples[-1][0]:
                samples.pop()  # a simulator that waits says it again
            if not samples or stamp_ns > samples[-1][0]:
                samples.append((stamp_ns, value))
            while samples[0][0] < stamp_ns - KEPT_S * NS_PER_S:
                samples.popleft()

    def _newest(self) -> int | None:
        """Time of the newest moment that every camera has seen, once joints were measured then or later.

        For a policy without cameras that of the newest measurement.
        """
        streams = list(self._seen.values()) or [self._felt]
        if not all((*streams, self._felt)):
            return None
        newest = [stream[-1][0] for stream in streams]
        t0_ns = min(newest)
        together = max(newest) - t0_ns <= SKEW_STEPS * self._step_ns
        return t0_ns if together and self._felt[-1][0] >= t0_ns else None

    def _due(self, t0_ns: int) -> bool:
        """Whether an observation lies where the last chunk's executed steps end, to half a step."""
        executed = self.policy.bundle.spec.executed
        return self._last is None or t0_ns >= self._last.t0_ns + round((executed - 0.5) * self._step_ns)

    def _anchor(self, t0_ns: int) -> np.ndarray | None:
        """What deltas add up from: the command one step before the observation, as when the policy was trained.

        Before anything was commanded, where the joints are; `None` if a command of that time is still to be heard of.
        """
        at_ns = t0_ns - self._step_ns
        sent = self._commanded
        if sent and sent[0][0] <= at_ns <= sent[-1][0]:
            return between(sent, at_ns)
        return at_or_before(self._felt, t0_ns) if self._last is None else None

    def _value(self, entry: Entry, position: np.ndarray, anchor: np.ndarray, images: Mapping[str, np.ndarray]) -> np.ndarray:
        """An entry of the observation."""
        if entry.kind == "text":
            return np.array(self.instruction)
        if entry.kind == "state":
            return self._states[entry.name].value(position, anchor)
        return images[entry.frame]
