"""From a wish to joint velocities: the tool moves along straight lines and keeps its orientation, by damped least squares.

    q̇ = Jᵀ (J Jᵀ + λ² I)⁻¹ [v; ω + k·e]        e the rotation vector from the orientation to the one that is kept

(damped least squares: Wampler 1986; Nakamura and Hanafusa 1986.) Where a joint would be too fast all are slowed alike, which keeps
the direction; one at its end is left where it is.

J joints, units of the profile · base frame, m and rad
"""

from __future__ import annotations

import numpy as np

from policies.interface import UserError
from robot.kinematics import Chain
from robot.profile import RobotProfile
from robot.teleop.wish import Wish

MOVE_M_S, TURN_RAD_S = 0.15, 0.6
"""Full speed of the tool."""
JOINT_SHARE = 0.2
"""Full speed of a single joint, as a share of the speed that the bridge allows."""
GRIPPER_S = 0.5
"""From closed to open at full speed."""
DAMPING = 0.05
"""λ."""
KEEPING = 2.0
"""k [1/s]."""
LEAD = 0.2
"""How far the kept orientation may run ahead of a tool that cannot follow [rad]; also bounds k·e."""
STEP = 1e-6
"""Of joints, for the Jacobian [rad or m]."""


class ToolMotion:
    """Moves one link of a robot's chain. Keeps, from wish to wish, which way it points."""

    def __init__(self, profile: RobotProfile, tool: str | None = None, speed: float = 1.0, rate_limit: np.ndarray | None = None) -> None:
        """Tie it to a robot.

        Args:
            profile: the robot.
            tool: the link that is moved; the last one of the chain if `None`.
            speed: share of full speed, above 0 and at most 1.
            rate_limit: `(J,)` largest joint speeds that the robot may come to [unit/s], such as those of a policy's actions.

        Raises:
            UserError: the chain has no such link, or speed is no such share.
        """
        if not 0 < speed <= 1:
            raise UserError(f"a speed is a share of full speed, above 0 and at most 1, got {speed}")
        names = [link.name for link in profile.chain]
        if tool is not None and tool not in names:
            raise UserError(
                f"{profile.name} has no link '{tool}'; its chain has {', '.join(names) or 'none, so only single joints can be moved'}"
            )
        self._profile, self._speed = profile, speed
        limit = profile.safety.speed_cap * np.array([joint.velocity for joint in profile.joints])  # the bridge's, which would bend lines
        self._limit = limit if rate_limit is None else np.minimum(limit, rate_limit)
        self._joint = JOINT_SHARE * limit
        self._soft = np.array([joint.soft for joint in profile.joints])
        self._chain = Chain(profile.chain, profile.names) if names else None
        self._link = self._chain.index(tool or names[-1]) if self._chain else 0
        self._grippers = {profile.names.index(gripper.joint): gripper for gripper in profile.grippers}
        self._kept: np.ndarray | None = None

    def velocity(self, wish: Wish, position: np.ndarray, dt_s: float) -> np.ndarray:
        """Joint velocities `(J,)` at commanded positions `(J,)`; the next wish comes `dt_s` later."""
        found = np.zeros(len(self._limit))
        if wish.joint is not None and wish.joint < len(found):
            found[wish.joint] = wish.joint_share * self._joint[wish.joint]
        if (any(wish.move) or wish.turn) and self._chain is not None:
            found += self._tool(wish, position, dt_s)
        else:
            self._kept = None  # whatever moves it otherwise: it is kept as it is then
        found *= self._speed
        found[(found > 0) & (position >= self._soft[:, 1]) | (found < 0) & (position <= self._soft[:, 0])] = 0.0
        found *= min(1.0, *(self._limit / np.maximum(np.abs(found), 1e-12)))
        for column, gripper in self._grippers.items():
            if wish.gripper:
                left = (np.array(sorted((gripper.closed, gripper.open))) - position[column]) / dt_s  # not past its ends
                speed = self._speed * np.clip(
                    wish.gripper * (gripper.open - gripper.closed) / GRIPPER_S, -self._limit[column], self._limit[column]
                )
                found[column] = np.clip(speed, *left)
        return found

    def _tool(self, wish: Wish, position: np.ndarray, dt_s: float) -> np.ndarray:
        """At full speed."""
        assert self._chain is not None
        steps = np.vstack([position, position + STEP * np.eye(len(position))])
        poses = self._chain.poses(steps)[:, self._link]
        rotation = poses[0, :3, :3]
        kept = rotation if self._kept is None else self._kept
        linear = (poses[1:, :3, 3] - poses[0, :3, 3]).T / STEP
        angular = np.array([rotation_vector(moved @ rotation.T) for moved in poses[1:, :3, :3]]).T / STEP
        error = rotation_vector(kept @ rotation.T)
        error *= min(1.0, LEAD / max(float(np.linalg.norm(error)), 1e-12))
        ahead = float(error[2]) * np.sign(wish.turn) >= 0.9 * LEAD
        turned = 0.0 if ahead else TURN_RAD_S * wish.turn * self._speed * dt_s
        c, s = np.cos(turned), np.sin(turned)
        self._kept = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ kept
        jacobian = np.vstack([linear, angular])
        move = np.array(wish.move, float) / max(1.0, float(np.linalg.norm(wish.move)))
        wanted = np.concatenate([MOVE_M_S * move, np.array([0.0, 0.0, TURN_RAD_S * wish.turn]) + KEEPING * error])
        return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING**2 * np.eye(6), wanted)


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """`(3,)` axis times angle [rad] of `(3, 3)`, for angles below π."""
    axis = 0.5 * np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine, cosine = np.linalg.norm(axis), (np.trace(rotation) - 1) / 2
    return axis if sine < 1e-9 else axis / sine * np.arctan2(sine, cosine)
