"""From what a robot showed and was told to one demonstration, as a policy of a bundle would have seen and done it.

Frames are where images of the first camera lie nearest to whole control steps, so that frames and images belong together. At a
frame's time t the observation is what a deployed policy would get (`robot.observation`), and the action is what leads from the
command of t - Δt to that of t, as a deployed policy's first step does.

T frames · A actions · J joints
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policies.bundle import Bundle
from policies.interface import UserError
from robot.actions import JointActions
from robot.observation import NS_PER_S, Sample, between, image_entries, require_shown, state_entry
from robot.profile import RobotProfile

GAP = 1.6
"""Between two frames, in control steps, that is not a missing image yet."""
DROPPED = 0.05
"""Share of control steps that may lie between two images before the camera counts as too slow."""
LONGEST_S = 180.0
"""An episode that is longer is thrown away: its images lie in memory."""
CLIPPED = 1e-3
"""By how much a frame's action may miss what was commanded [unit]."""


class RecordingError(UserError):
    """What was recorded is no demonstration."""


@dataclass(frozen=True)
class Recorded:
    """One demonstration."""

    instruction: str
    obs: Mapping[str, np.ndarray]
    """Image and state entries `(T, ...)`."""
    action: np.ndarray
    """`(T, A)` float32."""
    clipped: int
    """Frames whose commands were faster than actions can say."""


@dataclass(frozen=True)
class Take:
    """The samples of an episode, in order of time."""

    felt: list[Sample]
    commanded: list[Sample]
    seen: dict[str, list[Sample]]


class Recording:
    """Samples of one episode at a time. They may come from any thread."""

    def __init__(self, bundle: Bundle, profile: RobotProfile) -> None:
        """Tie the features of a bundle to a robot.

        Raises:
            CommanderError: the robot does not show what the bundle's policy sees.
            ActionMapError: the robot cannot be commanded as the policy does.
        """
        require_shown(bundle, profile)
        spec = bundle.spec
        self._spec, self._actions = spec, JointActions(bundle.action_map, spec.action, profile)
        self._states = {entry.name: state_entry(entry, profile) for entry in spec.of_kind("state")}
        self._images = image_entries(bundle, profile)
        self.cameras = tuple(self._images)
        """That have to be recorded."""
        self.speed_limit = self._actions.fastest(1 / spec.control_hz)
        """`(J,)` joint speeds up to which actions can say what is commanded [unit/s]; infinite where they say where, not how far."""
        self._step_ns = round(NS_PER_S / spec.control_hz)
        self._lock = threading.Lock()
        self._take: Take | None = None

    @property
    def running(self) -> bool:
        """Whether an episode is being recorded."""
        return self._take is not None

    @property
    def too_long(self) -> bool:
        """Whether an episode is being recorded for longer than `LONGEST_S`."""
        with self._lock:
            felt = self._take.felt if self._take is not None else []
            return len(felt) > 1 and felt[-1][0] - felt[0][0] > LONGEST_S * NS_PER_S

    def begin(self) -> None:
        """An episode begins; one that was being recorded is gone."""
        with self._lock:
            self._take = Take([], [], {camera: [] for camera in self.cameras})

    def felt(self, stamp_ns: int, position: np.ndarray) -> None:
        """Measured positions `(J,)`."""
        with self._lock:
            if self._take is not None:
                _keep(self._take.felt, stamp_ns, position)

    def commanded(self, stamp_ns: int, position: np.ndarray) -> None:
        """Positions `(J,)` that were really sent."""
        with self._lock:
            if self._take is not None:
                _keep(self._take.commanded, stamp_ns, position)

    def saw(self, camera: str, stamp_ns: int, image: np.ndarray) -> None:
        """An image `(H, W, 3)` uint8, RGB. Raises `CommanderError` if it cannot be made into what the bundle's policy was trained on."""
        prepared = self._images[camera].value(image)
        with self._lock:
            if self._take is not None:
                _keep(self._take.seen[camera], stamp_ns, prepared)

    def end(self) -> Take | None:
        """The episode is over, or not wanted: what was recorded, `None` if nothing was. Returns at once."""
        with self._lock:
            take, self._take = self._take, None
            return take

    def demonstration(self, take: Take, instruction: str) -> Recorded:
        """What an episode shows. Takes a while where it is long. Raises `RecordingError` that says what is missing."""
        felt, commanded = _Track(take.felt), _Track(take.commanded)
        seen = {camera: _Track(samples) for camera, samples in take.seen.items()}
        times = self._times(felt, commanded, seen)
        before, now = (np.array([commanded.at(t - shift) for t in times]) for shift in (self._step_ns, 0))
        obs = {}
        for entry in self._spec.entries:
            if entry.kind == "state":
                state = self._states[entry.name]
                obs[entry.name] = np.stack([state.value(felt.before(t), was) for t, was in zip(times, before, strict=True)])
            elif entry.kind == "image":
                obs[entry.name] = np.stack([seen[entry.frame].before(t) for t in times])
        action = np.concatenate([self._actions.to_actions(to[None], was) for to, was in zip(now, before, strict=True)])
        told = np.concatenate([self._actions.to_joints(a[None], was) for a, was in zip(action, before, strict=True)])
        return Recorded(instruction, obs, action, int(np.any(np.abs(told - now) > CLIPPED, axis=1).sum()))

    def _times(self, felt: _Track, commanded: _Track, seen: Mapping[str, _Track]) -> list[int]:
        """Of the frames [ns]. Raises `RecordingError` where something was not heard, not for a while, or too seldom."""
        tracks = {"joint states": felt, "commands": commanded} | {f"images of {camera}": track for camera, track in seen.items()}
        if silent := [name for name, track in tracks.items() if len(track.stamps) < 2]:
            raise RecordingError(f"nothing was heard of {', '.join(silent)}")
        begin_ns = max(*(track.stamps[0] for track in tracks.values()), commanded.stamps[0] + self._step_ns)
        end_ns = min(felt.stamps[-1], commanded.stamps[-1])
        if begin_ns > end_ns:
            spans = ", ".join(f"{name} {t.stamps[0] / NS_PER_S:.3f} to {t.stamps[-1] / NS_PER_S:.3f} s" for name, t in tracks.items())
            raise RecordingError(f"there is no time of which everything was heard; do the stamps come from one clock? {spans}")
        stamps = next(iter(seen.values()), felt).stamps
        stamps = stamps[(stamps >= begin_ns) & (stamps <= end_ns)]
        times = _a_step_apart(stamps, self._step_ns)
        if len(times) < 2:
            raise RecordingError("the episode is shorter than two control steps")
        steps = 1 + (times[-1] - times[0]) / self._step_ns
        if len(times) < (1 - DROPPED) * steps:
            raise RecordingError(f"{len(times)} frames were seen in {steps:.0f} control steps: the camera is slower than the policy")
        for name, track in tracks.items():
            inside = track.stamps[(track.stamps > times[0]) & (track.stamps < times[-1])]
            longest_ns = np.diff(np.r_[times[0], inside, times[-1]]).max()
            if longest_ns > GAP * self._step_ns:
                raise RecordingError(
                    f"{name} did not come for {longest_ns / NS_PER_S:.2f} s; a control step is {self._step_ns / NS_PER_S:g} s"
                )
        return times


def _keep(samples: list[Sample], stamp_ns: int, value: np.ndarray) -> None:
    """In order of time; what comes again with a stamp replaces what came before."""
    if samples and stamp_ns == samples[-1][0]:
        samples.pop()
    if not samples or stamp_ns > samples[-1][0]:
        samples.append((stamp_ns, value))


def _a_step_apart(stamps: np.ndarray, step_ns: int) -> list[int]:
    """Those of some times in order that lie nearest to whole numbers of steps after the first, each once."""
    if not len(stamps):
        return []
    grid = np.arange(stamps[0], stamps[-1] + 1, step_ns)
    after = np.searchsorted(stamps, grid)
    before = np.maximum(after - 1, 0)
    nearest = np.where(grid - stamps[before] < stamps[after] - grid, before, after)
    return stamps[np.unique(nearest)].tolist()


class _Track:
    """Samples of one thing, to be looked up by time."""

    def __init__(self, samples: list[Sample]) -> None:
        self._samples = samples
        self.stamps = np.array([stamp_ns for stamp_ns, _ in samples], np.int64)

    def before(self, time_ns: int) -> np.ndarray:
        """The newest that is no newer than a time."""
        return self._samples[int(np.searchsorted(self.stamps, time_ns, side="right")) - 1][1]

    def at(self, time_ns: int) -> np.ndarray:
        """On the straight line between the two around a time."""
        after = int(np.searchsorted(self.stamps, time_ns))
        return between(self._samples[max(after - 1, 0) : after + 1], time_ns)
