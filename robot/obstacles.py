"""How far a robot's poses are from what its profile forbids: leaving the workspace, keep-out boxes, touching itself.

P poses · M margins

Poses near those that were looked at need no look: a joint that moves by x brings two points nearer by at most x times its lever, the
largest distance from its axis at which something can be that it moves.
"""

from __future__ import annotations

import numpy as np

from robot.kinematics import CapsuleModel, Chain
from robot.profile import RobotProfile


class Obstacles:
    """Margins of joint positions [m]: at least 0 where all is well."""

    def __init__(self, profile: RobotProfile) -> None:
        """Raises `ValueError` for a profile without a kinematic chain."""
        if not profile.chain:
            raise ValueError(f"profile {profile.name} has no kinematic chain, so poses cannot be checked")
        self._chain = Chain(profile.chain, profile.names)
        self._workspace, collision = profile.workspace, profile.collision
        self._links = [self._chain.index(link) for link in profile.workspace.links] if profile.workspace else []
        self._capsules = CapsuleModel(self._chain, collision.capsules, collision.pairs) if collision else None
        self._clearance_m = collision.clearance_m if collision else 0.0
        self.names = self._names(profile)
        """What each of the M margins is: its code, and what is too near, as `collision: palm, base`."""
        self._levers = self._margin_levers(profile)
        self._seen = np.zeros((1, len(profile.joints))), np.full((1, len(self.names)), -np.inf)
        """Poses that were looked at last, and their margins."""

    def least(self, path: np.ndarray, enough: float) -> np.ndarray:
        """`(M,)` smallest margins on a path `(P, J)`: exact, or bounds of them from below if all of those are at least `enough`."""
        seen, margins = self._seen
        bound = (margins - np.abs(path[:, None] - seen) @ self._levers.T).max(1).min(0)
        if np.all(bound >= enough):
            return bound
        margins = self.margins(path)
        self._seen = path, margins
        return margins.min(0)

    def margins(self, position: np.ndarray) -> np.ndarray:
        """`(P, M)` of joint positions `(P, J)`."""
        poses = self._chain.poses(position)
        parts = []
        if self._workspace:
            points = poses[..., :3, 3][:, self._links]
            box = self._workspace.box
            parts.append(np.minimum(points - box.low_m, box.high_m - points).min(2))
            parts += [np.maximum(keep.low_m - points, points - keep.high_m).max(2) for keep in self._workspace.keep_out]
        if self._capsules:
            parts.append(self._capsules.distances(poses) - self._clearance_m)
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(position), 0))

    def _margin_levers(self, profile: RobotProfile) -> np.ndarray:
        """`(M, J)` how much each margin changes at most per unit of each joint, which may start out of its range, by as much at most."""
        J = len(profile.joints)
        low, high = np.array([joint.position for joint in profile.joints]).T
        travel = np.maximum(np.abs(low), np.abs(high)) + high - low
        points = [self._chain.levers(link, 0.0, travel) for link in self._links]
        boxes = 1 + len(profile.workspace.keep_out) if profile.workspace else 0
        levers = [np.array(points * boxes).reshape(-1, len(self._chain.links) - 1)]
        if self._capsules:
            levers.append(self._capsules.levers(travel))
        return self._chain.by_joint(np.concatenate(levers), J)

    def _names(self, profile: RobotProfile) -> tuple[str, ...]:
        names = []
        if profile.workspace:
            names += [f"workspace: {link}" for link in profile.workspace.links]
            names += [f"keep_out: {link}, box {i}" for i in range(len(profile.workspace.keep_out)) for link in profile.workspace.links]
        if profile.collision:
            names += [f"collision: {a}, {b}" for a, b in profile.collision.pairs]
        return tuple(names)
