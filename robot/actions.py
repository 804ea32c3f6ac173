"""From a policy's actions to positions of a robot's joints and back, as the bundle's action map says.

The arithmetic is `policies.action_map`'s: float32, in the order of the simulator that the policy was trained in.

K steps · A action dimensions · J joints
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.action_map import ActionTerm, map_actions
from policies.interface import ActionSpec, UserError
from robot.profile import Gripper, RobotProfile


class ActionMapError(UserError):
    """An action map does not fit the robot."""


class JointActions:
    """An action map, tied to the coordinates of a profile."""

    def __init__(self, terms: Sequence[ActionTerm], action: ActionSpec, profile: RobotProfile) -> None:
        """Raises `ActionMapError` that names the term which does not fit."""
        self._terms, self._action = tuple(terms), action
        if [term.name for term in terms] != list(action.names):
            raise ActionMapError(f"the action map has {[term.name for term in terms]}, the policy's actions are {list(action.names)}")
        self._columns = np.array([_column(term, profile) for term in terms])
        if len(set(self._columns)) < len(terms):
            raise ActionMapError(f"two terms of the action map command the same joint: {[term.target for term in terms]}")
        grippers = {gripper.joint: gripper for gripper in profile.grippers}
        ends = [_ends(term, grippers.get(profile.names[column])) for term, column in zip(terms, self._columns, strict=True)]
        self._zero, self._one = np.array(ends).T
        self._delta = np.array([term.kind == "delta" for term in terms])
        self._joints = len(profile.names)
        self._scale, self._offset = np.array([(term.scale, term.offset) for term in terms], np.float32).T

    def to_joints(self, chunk: np.ndarray, last: np.ndarray) -> np.ndarray:
        """`(K, J)` float64 positions of actions `(K, A)` float32; joints that the policy does not move stay.

        `last` `(J,)` is what was commanded last before the chunk: deltas add up from there.
        """
        positions = np.repeat(last[None].astype(float), len(chunk), 0)
        targets = map_actions(self._terms, self._action, chunk, self._targets(last))
        positions[:, self._columns] = self._zero + targets.astype(float) * (self._one - self._zero)
        return positions

    def to_actions(self, positions: np.ndarray, last: np.ndarray) -> np.ndarray:
        """`(K, A)` float32 actions that command positions `(K, J)` from `last` `(J,)` on, within the actions' range."""
        targets = np.array([self._targets(position) for position in (last, *positions)])
        move = np.where(self._delta, np.diff(targets, axis=0), targets[1:])
        low, high = np.array(self._action.low, np.float32), np.array(self._action.high, np.float32)
        return np.clip((move - self._offset) / self._scale, low, high)

    def fastest(self, dt_s: float) -> np.ndarray:
        """`(J,)` joint speeds that actions `dt_s` apart can say [unit/s].

        Infinite where they say where to, not how far; 0 for joints that no action moves.
        """
        speeds = np.zeros(self._joints)
        speeds[self._columns] = np.inf
        reach = np.minimum(np.abs(self._action.low), np.abs(self._action.high)) * np.abs(self._scale * (self._one - self._zero)) / dt_s
        speeds[self._columns[self._delta]] = reach[self._delta]
        return speeds

    def _targets(self, position: np.ndarray) -> np.ndarray:
        """`(A,)` float32 in the units of the terms."""
        return ((position[self._columns] - self._zero) / (self._one - self._zero)).astype(np.float32)


def _column(term: ActionTerm, profile: RobotProfile) -> int:
    """Which joint a term commands."""
    if term.space == "tool":
        raise ActionMapError(
            f"action {term.name} moves the tool ({term.target}); this robot is commanded in joints, so train in joint_delta"
        )
    if term.scale == 0:
        raise ActionMapError(f"action {term.name} has scale 0, so it commands nothing")
    if term.space == "gripper":
        fitting = [gripper.joint for gripper in profile.grippers if term.target in ("gripper", gripper.joint)]
        if len(fitting) != 1:
            raise ActionMapError(f"action {term.name} commands {term.target}; grippers are {[g.joint for g in profile.grippers]}")
        return profile.names.index(fitting[0])
    if term.target not in profile.names:
        raise ActionMapError(f"action {term.name} commands joint {term.target}; {profile.name} has {', '.join(profile.names)}")
    joint = profile.joints[profile.names.index(term.target)]
    if joint.unit != term.unit:
        raise ActionMapError(f"action {term.name} is in {term.unit}, joint {joint.name} of {profile.name} in {joint.unit}")
    return profile.names.index(term.target)


def _ends(term: ActionTerm, gripper: Gripper | None) -> tuple[float, float]:
    """What 0 and 1 of a term's target are in the joint's own unit: openings run from closed to open."""
    if term.space == "gripper" and gripper is not None and term.unit == "1":
        return gripper.closed, gripper.open
    return 0.0, 1.0
