"""Every robot profile loads and is consistent; what is wrong in one is refused with the name of the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from robot.kinematics import CapsuleModel, Chain
from robot.profile import ProfileError, RobotProfile, Wire, load_profile
from tests.repo.imports import ROOT

PROFILES = sorted((ROOT / "configs" / "robots").glob("*.yaml"))
ARM7 = ROOT / "configs" / "robots" / "arm7.yaml"


def test_all_are_there():
    assert [path.stem for path in PROFILES] == ["arm7", "bimanual", "g1", "g1_arms", "panda", "so101", "ur5e"]


@pytest.fixture(params=PROFILES, ids=lambda path: path.stem)
def profile(request: pytest.FixtureRequest) -> RobotProfile:
    return load_profile(request.param)


def test_all_are_described():
    readme = (ROOT / "configs" / "README.md").read_text()
    assert all(f"robots/{path.name}" in readme for path in PROFILES)


def test_name_is_the_files(request: pytest.FixtureRequest, profile: RobotProfile):
    assert profile.name == request.node.callspec.params["profile"].stem


def test_limits_go_together(profile: RobotProfile):
    for joint in profile.joints:
        stop = joint.velocity**2 / (2 * joint.acceleration)
        assert stop < joint.soft[1] - joint.soft[0], f"{joint.name} cannot stop from full speed within its range"
        assert joint.acceleration / joint.jerk < 1.0, f"{joint.name} takes more than a second to brake fully"
        assert joint.leash > joint.velocity / profile.rates.state_hz, f"the leash of {joint.name} is shorter than one measurement's motion"


def test_ages_and_rates_go_together(profile: RobotProfile):
    assert 2 / profile.rates.state_hz <= profile.ages.state_s <= 5 / min(profile.rates.state_hz, profile.rates.command_hz)
    assert profile.safety.deadman_timeout_s <= profile.safety.heartbeat_timeout_s
    assert profile.safety.frozen_s > profile.ages.state_s
    assert profile.safety.watchdog_misses * profile.period_s <= profile.safety.deadman_timeout_s


@pytest.mark.parametrize("name", ["arm7", "bimanual", "panda", "ur5e"])
def test_home_is_in_the_workspace_and_clear_of_itself(name: str):
    profile = load_profile(ROOT / "configs" / "robots" / f"{name}.yaml")
    assert profile.workspace is not None and profile.collision is not None
    chain = Chain(profile.chain, profile.names)
    poses = chain.poses(profile.home[None])
    for link in profile.workspace.links:
        point = poses[0, chain.index(link), :3, 3]
        assert np.all(point > profile.workspace.box.low_m) and np.all(point < profile.workspace.box.high_m), (link, point)
    gaps = CapsuleModel(chain, profile.collision.capsules, profile.collision.pairs).distances(poses)[0]
    close = {pair: gap for pair, gap in zip(profile.collision.pairs, gaps, strict=True) if gap < profile.collision.clearance_m}
    assert close == {}


def test_arm7_is_the_simulated_arm():
    mujoco = pytest.importorskip("mujoco")
    from sim.robots import ROBOTS

    profile, robot = load_profile(ARM7), ROBOTS["arm7"]
    assert profile.name == robot.name
    assert profile.names == (*robot.joints, "gripper")
    assert tuple(profile.home[:7]) == robot.home
    model = mujoco.MjSpec.from_file(str(robot.model)).compile()
    for joint, speed, effort in zip(profile.joints[:7], robot.velocity, robot.effort, strict=True):
        assert joint.position == tuple(model.joint(joint.name).range)
        assert joint.velocity >= speed
        assert joint.effort == effort


def test_wire_units_by_hand():
    so101 = load_profile(ROOT / "configs" / "robots" / "so101.yaml")
    assert [joint.wire and joint.wire.unit for joint in so101.joints] == ["deg"] * 5 + ["percent"]
    position = np.array([np.pi / 2, -np.pi / 6, 0.0, 1.0, -1.0, 0.25])
    assert so101.to_wire(position) == pytest.approx([90, -30, 0, 57.2958, -57.2958, 25])
    assert so101.from_wire(so101.to_wire(position)) == pytest.approx(position)
    arm7 = load_profile(ARM7)
    assert np.array_equal(arm7.to_wire(arm7.home), arm7.home)
    shifted = arm7.model_copy(update={"joints": (arm7.joints[0].model_copy(update={"wire": Wire(unit="deg", scale=-2.0, offset=10.0)}),)})
    assert shifted.to_wire(np.array([3.0])) == pytest.approx([4.0]) and shifted.from_wire(np.array([4.0])) == pytest.approx([3.0])


def _raw() -> dict[str, Any]:
    return yaml.safe_load(ARM7.read_text())


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            tree = tree[part]
        tree[last] = value

    return change


def _damped(tree: dict[str, Any]) -> None:
    for joint in tree["joints"]:
        joint |= {"kp": 10.0, "kd": 1.0, "damping_kd": 2.0}
    tree["safety"]["stop_mode"] = "damping"


def _low_level(tree: dict[str, Any]) -> None:
    tree["controllers"][0]["kind"] = "low_level"
    tree["vendor"] = {"module": "unitree_hg.msg", "state": "LowState", "command": "LowCmd"}


def test_low_level_commands_need_gains() -> None:
    g1 = load_profile(ROOT / "configs" / "robots" / "g1.yaml").model_dump()
    g1["safety"]["stop_mode"], g1["joints"][3]["kp"] = "hold", None
    with pytest.raises(ValueError, match="kp and kd are missing for left_knee_joint"):
        RobotProfile.model_validate(g1)


def test_the_so101_reaches_as_far_as_its_links_are_long():
    """At the middle of every joint the forearm lies level, 0.113 m above the shoulder; 0.3 rad of the shoulder lower the tool."""
    profile = load_profile(ROOT / "configs" / "robots" / "so101.yaml")
    chain = Chain(profile.chain, profile.names)
    level, lowered = chain.poses(np.array([profile.home, profile.home + 0.3 * np.eye(6)[1]]))[:, :, :3, 3]
    shoulder, elbow, wrist, tool = (level[chain.index(name)] for name in ("upper_arm", "lower_arm", "wrist", "tcp"))
    assert elbow[2] - shoulder[2] == pytest.approx(0.1126, abs=1e-3) and np.linalg.norm(wrist - elbow) == pytest.approx(0.135, abs=1e-3)
    assert np.linalg.norm((tool - shoulder)[:2]) == pytest.approx(0.323, abs=2e-3)
    assert lowered[chain.index("tcp")][2] < tool[2] - 0.08


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("speed", 1), "unknown key speed"),
        (_set("safety.watchdog", 1), "unknown key safety.watchdog"),
        (_set("joints.2.velocity", -1.0), "joints.2.velocity: "),
        (_set("joints.2.velocity", False), "joints.2.velocity: "),
        (_set("joints.2.velocity", "1e3"), "joints.2.velocity: "),
        (_set("joints.2.velocity", float("nan")), "joints.2.velocity: "),
        (_set("joints.2.position", [1.0, -1.0]), "leaves nothing between soft margins"),
        (_set("joints.2.home", 3.0), "home 3.0 lies outside"),
        (_set("joints.2.name", "joint1"), "joints has more than one of joint1"),
        (_set("chain.2.joint", "joint9"), "chain names joint joint9; joints are joint1, "),
        (_set("chain.2.axis", [0.0, 0.0, 2.0]), "axis of link link3 must have length 1"),
        (_set("chain.0.parent", "tcp"), "a loop"),
        (_set("chain.0.parent", "floor"), "workspace or collision names links base"),
        (_set("controllers.0.joints", ["joint1"]), "each of"),
        (_set("controllers.0.topic", "arm/commands"), "controllers.0.topic: "),
        (_set("controllers.0.kind", "low_level"), "needs `vendor`"),
        (_low_level, "a low_level controller commands every joint, there are 2 controllers"),
        (
            _set("driver", {"module": "lerobot.robots.so_follower", "type": "so101_follower"}),
            "commanded by controllers of kind forward_command",
        ),
        (_set("workspace.links", ["nose"]), "names links nose"),
        (_set("collision.pairs", [["palm", "nose"]]), "names capsules nose"),
        (_set("grippers.0.open", 2.0), "gripper gripper: 2.0 lies outside"),
        (_damped, "which commands of forward_command, joint_trajectory do not carry; choose hold"),
        (_set("safety.stop_mode", "damping"), "missing for joint1, "),
        (_set("joints.0.wire", {"unit": "deg", "scale": 0.0}), "scale must not be 0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str):
    tree = _raw()
    change(tree)
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ProfileError) as error:
        load_profile(path)
    assert message in str(error.value)


def test_a_key_given_twice_is_refused(tmp_path: Path):
    path = tmp_path / "twice.yaml"
    path.write_text(ARM7.read_text() + "rates: {state_hz: 1.0, command_hz: 1.0}\n")
    with pytest.raises(ProfileError, match="rates is given more than once"):
        load_profile(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ProfileError, match=r"no such file: .*none\.yaml"):
        load_profile(tmp_path / "none.yaml")
