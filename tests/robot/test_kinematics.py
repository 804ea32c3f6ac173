"""Forward kinematics and distances against numbers computed by hand, data sheets and MuJoCo."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot.geometry import Capsule, Link
from robot.kinematics import CapsuleModel, Chain, rotation_rpy, segment_distance
from robot.profile import load_profile
from tests.repo.imports import ROOT

PROFILES = ROOT / "configs" / "robots"
PLANAR = (
    Link(name="upper", parent="base", joint="a", xyz_m=(0.0, 0.0, 0.5)),
    Link(name="lower", parent="upper", joint="b", xyz_m=(1.0, 0.0, 0.0)),
    Link(name="slide", parent="lower", joint="c", kind="prismatic", axis=(1.0, 0.0, 0.0)),
)
"""Two links of 1 m in a plane at height 0.5 m, then a slide along the second link."""


def _points(position: list[float]) -> dict[str, np.ndarray]:
    chain = Chain(PLANAR, ("a", "b", "c"))
    poses = chain.poses(np.array([position]))[0]
    return {name: poses[i, :3, 3] for i, name in enumerate(chain.links)}


def test_two_links_by_hand():
    assert _points([0.0, 0.0, 2.0])["slide"] == pytest.approx([3.0, 0.0, 0.5])
    # First joint 90° left: the elbow is at (0, 1); second 90° right: the slide runs along x again.
    assert _points([math.pi / 2, -math.pi / 2, 2.0])["lower"] == pytest.approx([0.0, 1.0, 0.5])
    assert _points([math.pi / 2, -math.pi / 2, 2.0])["slide"] == pytest.approx([2.0, 1.0, 0.5])
    assert _points([math.pi / 6, 0.0, 0.0])["lower"] == pytest.approx([math.sqrt(3) / 2, 0.5, 0.5])


def test_order_of_links_and_joints_does_not_matter():
    chain = Chain(tuple(reversed(PLANAR)), ("c", "unused", "b", "a"))
    pose = chain.poses(np.array([[2.0, 9.0, -math.pi / 2, math.pi / 2]]))[0, chain.index("slide")]
    assert pose[:3, 3] == pytest.approx([2.0, 1.0, 0.5])


def test_unknown_link_is_named():
    with pytest.raises(ValueError, match="no link nose; the chain has base, upper, lower, slide"):
        Chain(PLANAR, ("a", "b", "c")).index("nose")


def test_rpy_turns_about_fixed_axes():
    # Roll 90° takes y to z, then yaw 90° about the fixed z leaves it there; x goes to y.
    assert rotation_rpy((math.pi / 2, 0.0, math.pi / 2)) @ [0, 1, 0] == pytest.approx([0, 0, 1])
    assert rotation_rpy((math.pi / 2, 0.0, math.pi / 2)) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert rotation_rpy((0.0, math.pi / 2, 0.0)) @ [1, 0, 0] == pytest.approx([0, 0, -1])


def test_arm7_agrees_with_mujoco():
    mujoco = pytest.importorskip("mujoco")
    from sim.robots import ROBOTS

    model = mujoco.MjSpec.from_file(str(ROOT / "sim" / "assets" / "arm7.xml")).compile()
    profile = load_profile(PROFILES / "arm7.yaml")
    chain = Chain(profile.chain, profile.names)
    low, high = np.array([joint.position for joint in profile.joints]).T
    position = np.random.default_rng(0).uniform(low, high, (20, 8))
    poses = chain.poses(position)
    data = mujoco.MjData(model)
    for q, pose in zip(position, poses, strict=True):
        data.qpos[:7] = q[:7]
        mujoco.mj_kinematics(model, data)
        for link in ("link1", "link2", "link3", "link4", "link5", "link6", "link7", "hand"):
            body, found = data.body(link), pose[chain.index(link)]
            np.testing.assert_allclose(found[:3, 3], body.xpos, atol=1e-6)
            np.testing.assert_allclose(found[:3, :3], body.xmat.reshape(3, 3), atol=1e-6)
        tcp = data.body("hand").xpos + data.body("hand").xmat.reshape(3, 3) @ ROBOTS["arm7"].tcp
        np.testing.assert_allclose(pose[chain.index("tcp"), :3, 3], tcp, atol=1e-6)


def test_ur5e_stands_as_high_as_its_data_sheet_says():
    profile = load_profile(PROFILES / "ur5e.yaml")
    chain = Chain(profile.chain, profile.names)
    upright = chain.poses(np.array([[0.0, -math.pi / 2, 0.0, -math.pi / 2, 0.0, 0.0]]))[0, chain.index("tool0"), :3, 3]
    # d1 + |a2| + |a3| + d5 = 0.1625 + 0.425 + 0.3922 + 0.0997; sideways d4 + d6 = 0.1333 + 0.0996.
    assert upright == pytest.approx([0.0, -0.2329, 1.0794], abs=1e-9)
    stretched = chain.poses(np.zeros((1, 6)))[0, chain.index("tool0"), :3, 3]
    assert stretched == pytest.approx([-0.8172, -0.2329, 0.0628], abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (((0, 0, 0), (1, 0, 0)), ((0, 2, 0), (1, 2, 0)), 2.0),  # parallel
        (((0, 0, 0), (1, 0, 0)), ((3, 0, 0), (5, 0, 0)), 2.0),  # in line
        (((-1, 0, 0), (1, 0, 0)), ((0, -1, 3), (0, 1, 3)), 3.0),  # crossing, nearest in the middle of both
        (((0, 0, 0), (1, 0, 0)), ((4, -1, 4), (4, 1, 4)), 5.0),  # an end against the middle: 3-4-5
        (((0, 0, 0), (0, 0, 0)), ((3, 4, 0), (3, 4, 0)), 5.0),  # points
        (((-1, 0, 0), (1, 0, 0)), ((0, -1, 0), (0, 1, 0)), 0.0),  # they cut each other
        (((0, 0, 0), (2, 0, 0)), ((3, 1, 0), (5, 3, 0)), math.sqrt(2)),  # both ends
    ],
)
def test_segment_distance_by_hand(a, b, distance):
    ends = [np.array(point, float) for point in (*a, *b)]
    assert segment_distance(*ends) == pytest.approx(distance)
    assert segment_distance(ends[2], ends[3], ends[1], ends[0]) == pytest.approx(distance)


def test_segment_distance_is_the_minimum_over_a_fine_grid():
    a0, a1, b0, b1 = np.random.default_rng(1).uniform(-1, 1, (4, 200, 3))
    share = np.linspace(0, 1, 201)
    on_a = a0[:, None] + share[None, :, None] * (a1 - a0)[:, None]
    on_b = b0[:, None] + share[None, :, None] * (b1 - b0)[:, None]
    grid = np.linalg.norm(on_a[:, :, None] - on_b[:, None], axis=-1).min((1, 2))
    exact = segment_distance(a0, a1, b0, b1)
    assert np.all(exact <= grid + 1e-12)
    np.testing.assert_allclose(exact, grid, atol=0.02)


def test_capsules_that_touch_and_overlap():
    chain = Chain(PLANAR, ("a", "b", "c"))
    post = Capsule(name="post", link="base", start_m=(0.0, 0.0, 0.0), end_m=(0.0, 0.0, 1.0), radius_m=0.1)
    tip = Capsule(name="tip", link="slide", start_m=(0.0, 0.0, 0.0), end_m=(0.0, 0.0, 0.0), radius_m=0.2)
    model = CapsuleModel(chain, (post, tip), (("post", "tip"),))
    # Folded back by half a turn, the tip is 1 - c from the post's axis.
    gaps = model.distances(chain.poses(np.array([[0.0, math.pi, 0.5], [0.0, math.pi, 0.7], [0.0, math.pi, 1.0]])))
    assert gaps[:, 0] == pytest.approx([0.2, 0.0, -0.3])
