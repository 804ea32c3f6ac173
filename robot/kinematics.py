"""Where links and capsules are, from joint positions: forward kinematics and distances. Base frame, metres. NumPy only.

P poses at once · L links, the root first · C capsules · R pairs
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot.geometry import Capsule, Link, root_links, tree_order


class Chain:
    """A kinematic tree for arrays of joint positions."""

    def __init__(self, links: Sequence[Link], joints: Sequence[str]) -> None:
        """`joints` names the J commanded coordinates in order; those that move no link have no effect."""
        ordered, order = tree_order(links), list(joints)
        self.links = (*root_links(links), *(link.name for link in ordered))
        """Names of the L links."""
        index = {name: i for i, name in enumerate(self.links)}
        self._parent = parent = np.array([index[link.parent] for link in ordered], int)
        self._turn = np.array([rotation_rpy(link.rpy_rad) for link in ordered]).reshape(-1, 3, 3)
        self._shift = np.array([link.xyz_m for link in ordered], float).reshape(-1, 3)
        self._joint = np.array([order.index(link.joint) if link.joint is not None else 0 for link in ordered], int)
        axis = np.array([link.axis for link in ordered], float).reshape(-1, 3)
        self._slide = axis * np.array([[link.kind == "prismatic"] for link in ordered]).reshape(-1, 1)
        self._cross = _cross(axis * np.array([[link.kind not in ("prismatic", "fixed")] for link in ordered]).reshape(-1, 1))
        self._cross_twice = self._cross @ self._cross
        depth = np.zeros(len(self.links), int)
        for i, above in enumerate(parent, start=1):
            depth[i] = depth[above] + 1
        rows = [np.flatnonzero(depth == level) for level in range(1, int(depth.max(initial=0)) + 1)]
        self._levels = [(at, parent[at - 1], at - 1) for at in rows]
        """For each distance from the root: the links there, their parents, and their rows in the arrays above."""

    def poses(self, position: np.ndarray) -> np.ndarray:
        """`(P, L, 4, 4)` homogeneous transforms from link to base of joint positions `(P, J)` [rad or m]."""
        amount = position[:, self._joint, None]
        angle = amount[..., None]
        local = np.zeros((len(position), len(self._joint), 4, 4))
        local[..., :3, :3] = self._turn @ (np.eye(3) + np.sin(angle) * self._cross + (1 - np.cos(angle)) * self._cross_twice)  # Rodrigues
        local[..., :3, 3] = self._shift + (self._turn @ (amount * self._slide)[..., None])[..., 0]
        local[..., 3, 3] = 1.0
        found = np.empty((len(position), len(self.links), 4, 4))
        found[:, 0] = np.eye(4)
        for at, parents, rows in self._levels:
            found[:, at] = found[:, parents] @ local[:, rows]
        return found

    def levers(self, link: int, radius_m: float, travel: np.ndarray) -> np.ndarray:
        """`(L - 1,)` how far [m] points within `radius_m` of a link's origin move at most per unit of the motion of each link but the root.

        `travel`: `(J,)` largest magnitudes of joint positions, which say how far off the links behind a prismatic joint may be.
        """
        found, distance = np.zeros(len(self._parent)), radius_m
        while link > 0:
            row = link - 1
            slides, turns = self._slide[row].any(), self._cross[row].any()
            found[row] = 1.0 if slides else distance if turns else 0.0
            distance += np.linalg.norm(self._shift[row]) + (travel[self._joint[row]] if slides else 0.0)
            link = int(self._parent[row])
        return found

    def by_joint(self, levers: np.ndarray, joints: int) -> np.ndarray:
        """`(N, J)` what links' levers `(N, L - 1)` are per unit of each joint; one joint may move several links."""
        return levers @ np.eye(joints)[self._joint]

    def index(self, link: str) -> int:
        """Of a link in `poses`. Raises `ValueError` that lists the links."""
        if link not in self.links:
            raise ValueError(f"no link {link}; the chain has {', '.join(self.links)}")
        return self.links.index(link)


class CapsuleModel:
    """Capsules on the links of a chain, and the pairs that are kept apart."""

    def __init__(self, chain: Chain, capsules: Sequence[Capsule], pairs: Sequence[tuple[str, str]]) -> None:
        names = [capsule.name for capsule in capsules]
        self._chain = chain
        self._link = np.array([chain.index(capsule.link) for capsule in capsules])
        self._ends = np.array([[capsule.start_m, capsule.end_m] for capsule in capsules], float)
        radius = np.array([capsule.radius_m for capsule in capsules])
        self.pairs = tuple(pairs)
        """Names, R of them."""
        self._pairs = np.array([[names.index(a), names.index(b)] for a, b in pairs], int).reshape(-1, 2)
        self._radii = radius[self._pairs].sum(1)

    def levers(self, travel: np.ndarray) -> np.ndarray:
        """`(R, L - 1)` how much a pair's distance changes at most, as in `Chain.levers`; what moves both of a pair moves them as one."""
        radius = np.linalg.norm(self._ends, axis=2).max(1)
        each = np.array([self._chain.levers(link, r, travel) for link, r in zip(self._link, radius, strict=True)])
        first, second = each[self._pairs[:, 0]], each[self._pairs[:, 1]]
        return np.where((first > 0) & (second > 0), 0.0, first + second)

    def distances(self, poses: np.ndarray) -> np.ndarray:
        """`(P, R)` gaps between the surfaces of each pair [m], negative where they overlap, for `poses` `(P, L, 4, 4)`."""
        frames = poses[:, self._link]
        ends = self._ends @ frames[..., :3, :3].mT + frames[:, :, None, :3, 3]
        first, second = ends[:, self._pairs[:, 0]], ends[:, self._pairs[:, 1]]
        return segment_distance(first[:, :, 0], first[:, :, 1], second[:, :, 0], second[:, :, 1]) - self._radii


def segment_distance(a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray) -> np.ndarray:
    """Shortest distance `(…)` between segments a0-a1 and b0-b1, each `(…, 3)`; a segment may be a point.

    The squared distance is convex in the two parameters s, t in [0, 1]. Its minimum is the free minimum of both where that
    lies inside, otherwise it lies on an edge, where one end point meets the other segment.
    """
    edges = point_distance(np.stack([a0, a1, b0, b1]), np.stack([b0, b0, a0, a0]), np.stack([b1, b1, a1, a1])).min(0)
    u, v, w = a1 - a0, b1 - b0, a0 - b0
    uu, uv, vv, uw, vw = _dot(u, u), _dot(u, v), _dot(v, v), _dot(u, w), _dot(v, w)
    determinant = uu * vv - uv * uv
    safe = np.where(determinant > 1e-12 * uu * vv, determinant, np.inf)  # parallel: an end point is as near as any other
    s, t = (uv * vw - vv * uw) / safe, (uu * vw - uv * uw) / safe
    inside = (determinant > 1e-12 * uu * vv) & (s > 0) & (s < 1) & (t > 0) & (t < 1)
    middle = w + s[..., None] * u - t[..., None] * v
    return np.minimum(edges, np.where(inside, np.sqrt(_dot(middle, middle)), np.inf))


def point_distance(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance `(…)` of points `(…, 3)` from segments."""
    along = end - start
    length = _dot(along, along)
    share = np.clip(_dot(point - start, along) / np.where(length > 0, length, 1.0), 0.0, 1.0)
    away = point - start - share[..., None] * along
    return np.sqrt(_dot(away, away))


def rotation_rpy(rpy: Sequence[float]) -> np.ndarray:
    """`(3, 3)` rotation Rz(yaw) · Ry(pitch) · Rx(roll)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def _cross(axis: np.ndarray) -> np.ndarray:
    """`(..., 3, 3)` matrices that take vectors to their cross products with `axis` `(..., 3)` from the left."""
    x, y, z = np.moveaxis(axis, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", a, b)
