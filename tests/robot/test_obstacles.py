"""Poses that need no look: what is said of them is never more than what a look finds, and changes no command."""

from __future__ import annotations

import numpy as np
import pytest

from robot.geometry import Capsule, Link
from robot.kinematics import CapsuleModel, Chain
from robot.obstacles import Obstacles
from robot.profile import load_profile
from tests.robot.test_safety import ROOT, Bench

PROFILES = ["arm7", "so101", "ur5e", "bimanual", "g1_arms"]


def test_levers_by_hand() -> None:
    """A rail, a shoulder 0.3 m along it, a forearm 0.5 m from there, a tip 0.1 m long; a post stands on the ground."""
    links = [
        Link(name="rail", parent="base", kind="prismatic", joint="x", axis=(1.0, 0.0, 0.0)),
        Link(name="upper", parent="rail", xyz_m=(0.3, 0.0, 0.0), joint="a"),
        Link(name="lower", parent="upper", xyz_m=(0.3, 0.4, 0.0), joint="b"),
        Link(name="finger", parent="lower", xyz_m=(0.0, 0.0, 0.2), kind="prismatic", joint="g"),
        Link(name="tip", parent="finger", kind="fixed"),
    ]
    chain, travel = Chain(links, ["g", "b", "a", "x"]), np.array([0.05, 3.0, 3.0, 1.0])
    tip = chain.levers(chain.index("tip"), 0.1, travel)
    np.testing.assert_allclose(chain.by_joint(tip[None], 4), [[1.0, 0.35, 0.85, 1.0]])
    capsules = [
        Capsule(name="post", link="base", start_m=(0.0, 0.0, 0.0), end_m=(0.0, 0.0, 1.0), radius_m=0.1),
        Capsule(name="arm", link="upper", start_m=(0.0, 0.0, 0.0), end_m=(0.2, 0.0, 0.0), radius_m=0.1),
        Capsule(name="nail", link="tip", start_m=(0.0, 0.0, 0.0), end_m=(0.0, 0.0, 0.1), radius_m=0.01),
    ]
    pairs = CapsuleModel(chain, capsules, [("nail", "post"), ("arm", "nail"), ("post", "arm")]).levers(travel)
    np.testing.assert_allclose(
        chain.by_joint(pairs, 4),
        [[1.0, 0.35, 0.85, 1.0], [1.0, 0.35, 0.0, 0.0], [0.0, 0.0, 0.2, 1.0]],
        err_msg="what moves both leaves their distance as it is",
    )


@pytest.mark.parametrize("name", PROFILES)
def test_a_bound_is_never_more_than_what_is_there(name: str) -> None:
    profile = load_profile(ROOT / "configs" / "robots" / f"{name}.yaml")
    obstacles, rng, bounded = Obstacles(profile), np.random.default_rng(0), 0
    low, high = np.array([joint.position for joint in profile.joints]).T
    for _ in range(200):
        start = rng.uniform(low, high)
        obstacles.least(start[None], np.inf)
        for size in (1e-3, 1e-2, 0.1):
            path = start + size * rng.uniform(-1, 1, (4, len(low))) * rng.integers(0, 2, len(low))
            bound, exact = obstacles.least(path, -np.inf), obstacles.margins(path).min(0)
            assert (bound <= exact + 1e-9).all(), "a bound from below"
            bounded += int(np.allclose(bound, exact, atol=1e-2))
    assert bounded > 100, "bounds of small motions are near what is there"


def test_poses_are_looked_at_where_the_bound_is_not_enough() -> None:
    profile = load_profile(ROOT / "configs" / "robots" / "arm7.yaml")
    obstacles, home = Obstacles(profile), np.array(profile.home)[None]
    exact = obstacles.margins(home).min(0)
    np.testing.assert_array_equal(obstacles.least(home, 0.0), exact, err_msg="nothing was seen before")
    moved = home + 0.2
    assert obstacles.least(moved, -np.inf).min() < obstacles.margins(moved).min()
    np.testing.assert_array_equal(obstacles.least(moved, 10.0), obstacles.margins(moved).min(0))
    assert np.isnan(obstacles.least(home * np.nan, 0.0)).any(), "what is not a pose is not taken for a free one"


@pytest.mark.parametrize("name", ["arm7", "g1_arms"])
def test_the_same_commands_as_with_every_pose_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = load_profile(ROOT / "configs" / "robots" / f"{name}.yaml")
    low, high = np.array([joint.soft for joint in profile.joints]).T

    def commands() -> tuple[list[np.ndarray], int]:
        bench, rng = Bench(profile), np.random.default_rng(1)
        sent, target = [], np.array(profile.home)
        for k in range(400):
            if k % 50 == 0:
                target = rng.uniform(low, high)
            sent.append(bench.tick(bench.wish(bench.position + np.clip(target - bench.position, -0.02, 0.02))).command.position)
        return sent, bench.filter.counts["collision"] + bench.filter.counts["workspace"]

    looks, exact = list[int](), Obstacles.margins

    def counted(obstacles: Obstacles, position: np.ndarray) -> np.ndarray:
        looks.append(len(position))
        return exact(obstacles, position)

    monkeypatch.setattr(Obstacles, "margins", counted)
    quick, held_back = commands()
    few = len(looks)
    looks.clear()
    monkeypatch.setattr(Obstacles, "least", lambda obstacles, path, enough: obstacles.margins(path).min(0))
    slow, _ = commands()
    np.testing.assert_array_equal(quick, slow)
    assert held_back > 20, "some of them were held back"
    assert few < 0.8 * len(looks), f"and some poses needed no look: {few} of {len(looks)}"
