"""Actions become joint positions bit by bit as in the simulator, and an action map that does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest

from policies.action_map import ActionTerm
from policies.interface import ActionSpec
from robot.actions import ActionMapError, JointActions
from robot.profile import load_profile
from tests.repo.imports import ROOT

ARM7 = load_profile(ROOT / "configs" / "robots" / "arm7.yaml")
PANDA = load_profile(ROOT / "configs" / "robots" / "panda.yaml")


def _spec(A: int) -> ActionSpec:
    return ActionSpec(names=tuple(f"a{i}" for i in range(A)), representation="delta", low=(-1.0,) * A, high=(1.0,) * A)


def _term(i: int, **changes) -> ActionTerm:
    fields = {"name": f"a{i}", "space": "joint", "target": f"joint{i + 1}", "kind": "delta", "unit": "rad", "scale": 0.1}
    return ActionTerm.model_validate(fields | changes)


def test_bit_by_bit_as_in_the_simulator():
    torch = pytest.importorskip("torch")
    from sim.control import Command, action_spec, follow
    from sim.robots import ROBOTS
    from vla_rl.config import SimConfig
    from vla_rl.deployment import action_map

    spec = action_spec(ROBOTS["arm7"], "joint_delta")
    actions = JointActions(action_map(spec, SimConfig(backend="mujoco", control="joint_delta")), spec, ARM7)
    limits = torch.tensor([joint.position for joint in ARM7.joints[:7]])
    rng = np.random.default_rng(0)
    chunk = rng.uniform(-1, 1, (400, 8)).astype(np.float32)
    chunk[100:200] = np.sign(chunk[100:200])  # full speed, against the limits
    home = ARM7.home.astype(np.float32)
    zero = torch.zeros(1)
    command = Command(torch.tensor(home[None, :7]), torch.ones(1), torch.zeros(1, 3), zero)
    expected = []
    for action in torch.tensor(chunk):
        state = type("State", (), {"tcp_pos": torch.zeros(1, 3), "tcp_quat": torch.tensor([[0.0, 1.0, 0.0, 0.0]])})()
        command = follow("joint_delta", ROBOTS["arm7"], command, action[None], state, limits)
        expected.append(np.r_[command.joints[0].numpy(), command.opening[0].numpy()])
    found = actions.to_joints(chunk, home.astype(float))
    assert np.array_equal(found, np.array(expected, np.float32).astype(float))
    # In pieces, from what was commanded last, as chunks come.
    last, pieces = home.astype(float), []
    for part in np.split(chunk, 50):
        pieces.append(actions.to_joints(part, last))
        last = pieces[-1][-1]
    assert np.array_equal(np.concatenate(pieces), found)


def test_by_hand_absolute_delta_and_what_is_not_moved():
    actions = JointActions([_term(0), _term(1, kind="absolute", scale=0.5, offset=0.25, low=-0.2, high=0.6)], _spec(2), ARM7)
    last = ARM7.home
    positions = actions.to_joints(np.array([[1.0, 1.0], [-0.5, -1.0], [9.0, 0.0]], np.float32), last)
    assert positions[:, 0] == pytest.approx([0.1, 0.05, 0.15])  # actions end at 1
    assert positions[:, 1] == pytest.approx([0.6, -0.2, 0.25])  # 0.75 and -0.25 are clipped
    assert np.array_equal(positions[:, 2:], np.repeat(last[None, 2:], 3, 0))


def test_an_opening_becomes_the_grippers_own_unit():
    opening = _term(0, space="gripper", target="gripper", kind="absolute", unit="1", scale=0.5, offset=0.5, low=0.0, high=1.0)
    actions = JointActions([opening], _spec(1), PANDA)
    positions = actions.to_joints(np.array([[-1.0], [0.0], [1.0]], np.float32), PANDA.home)
    assert positions[:, 7] == pytest.approx([0.0, 0.02, 0.04])
    assert actions.to_actions(positions, PANDA.home)[:, 0] == pytest.approx([-1.0, 0.0, 1.0])


def test_there_and_back():
    actions = JointActions([_term(i) for i in range(7)], _spec(7), ARM7)
    chunk = np.random.default_rng(1).uniform(-1, 1, (16, 7)).astype(np.float32)
    back = actions.to_actions(actions.to_joints(chunk, ARM7.home), ARM7.home)
    assert back == pytest.approx(chunk, abs=1e-5)
    assert actions.to_actions(ARM7.home[None] + 0.5, ARM7.home)[0] == pytest.approx(np.ones(7))  # as far as one action goes


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([_term(0), _term(1, target="joint1")], "two terms of the action map command the same joint"),
        ([_term(1), _term(0)], "the policy's actions are ['a0', 'a1']"),
        ([_term(0), _term(1, target="joint9")], "action a1 commands joint joint9; arm7 has joint1, "),
        ([_term(0), _term(1, unit="m")], "action a1 is in m, joint joint2 of arm7 in rad"),
        ([_term(0), _term(1, space="tool", target="x")], "action a1 moves the tool (x)"),
        ([_term(0), _term(1, space="gripper", target="left")], "action a1 commands left; grippers are ['gripper']"),
        ([_term(0), _term(1, scale=0.0)], "action a1 has scale 0"),
    ],
)
def test_what_does_not_fit_is_named(terms: list[ActionTerm], message: str):
    with pytest.raises(ActionMapError) as error:
        JointActions(terms, _spec(2), ARM7)
    assert message in str(error.value)
