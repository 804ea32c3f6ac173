"""Learned experts: their files, what they compute, and that they act in place of the scripted one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import sim
from sim.learned import LearnedExpert
from sim.privileged import privileged_sizes
from sim.vec_env import SimulationError


def an_expert(task: str = "reach", robot: str = "arm7", control: str = "joint_delta", actions: int = 8) -> LearnedExpert:
    """Small random layers; the output does depend on the state."""
    size, draws = privileged_sizes("arm7")[task], torch.Generator().manual_seed(0)
    first, last = torch.randn(16, size, generator=draws), 0.1 * torch.randn(actions, 16, generator=draws)
    layers = ((first, torch.zeros(16)), (last, torch.full((actions,), 0.05)))
    return LearnedExpert(task, robot, control, torch.full((size,), 0.1), torch.full((size,), 2.0), layers)


def use(*paths: Path) -> None:
    """Start a worker with experts; what is wrong with them shows with its first answer."""
    with sim.make("mujoco", ["reach"], 1, control="joint_delta", image_px=16, experts=[str(path) for path in paths]) as env:
        env.reset([0], [5], ["reach"])


def test_what_it_computes_by_hand() -> None:
    layers = ((torch.tensor([[1.0, -1.0]]), torch.tensor([0.5])), (torch.tensor([[1.0], [4.0]]), torch.zeros(2)))
    expert = LearnedExpert("reach", "arm7", "joint_delta", torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]), layers)
    # (3 - 1) / 2 = 1, (2 - 2) / 4 = 0: 1 + 0.5 = 1.5; 4 · 1.5 is cut off. (1, 10): 0 - 2 + 0.5 = -1.5, elu e^-1.5 - 1 = -0.7769
    found = expert.act(torch.tensor([[3.0, 2.0], [1.0, 10.0]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 1.0], [-0.776870, -1.0]]))


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    expert = an_expert()
    expert.save(tmp_path / "reach.safetensors")
    again, state = LearnedExpert.load(tmp_path / "reach.safetensors"), torch.randn(5, len(expert.shift))
    assert (again.task, again.robot, again.control) == ("reach", "arm7", "joint_delta")
    assert torch.equal(again.act(state), expert.act(state))


def test_it_acts_in_place_of_the_scripted_one_of_its_task_alone(tmp_path: Path) -> None:
    expert, path = an_expert(), tmp_path / "reach.safetensors"
    expert.save(path)
    options = {"image_px": 16, "workers": 1, "control": "joint_delta"}
    with (
        sim.make("mujoco", ["reach", "lift"], 2, **options) as scripted,
        sim.make("mujoco", ["reach", "lift"], 2, experts=[str(path)], **options) as learned,
    ):
        for env in (scripted, learned):
            env.reset([0, 1], [5, 5], ["reach", "lift"])
        usual, own = scripted.expert_chunk([0, 1], 3), learned.expert_chunk([0, 1], 3)
        assert np.array_equal(own[1], usual[1]) and not np.allclose(own[0], usual[0], atol=0.05)
        state = torch.as_tensor(learned.privileged([0])[:, : len(expert.shift)])
        np.testing.assert_allclose(own[0, 0], expert.act(state)[0].numpy(), atol=1e-5)
        # each later step at the state that the one before led to
        learned.step_chunk(own[:1, :1], [0], render="none")
        state = torch.as_tensor(learned.privileged([0])[:, : len(expert.shift)])
        np.testing.assert_allclose(own[0, 1], expert.act(state)[0].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("expert", "says"),
    [
        (an_expert(control="ee_delta"), "is for robot arm7 and control ee_delta, not for arm7 and joint_delta"),
        (an_expert(robot="panda"), "is for robot panda"),
        (an_expert(actions=5), "gives 5 actions; task 'reach' has"),
        (
            an_expert().__class__("push", "arm7", "joint_delta", torch.zeros(3), torch.ones(3), ((torch.zeros(8, 3), torch.zeros(8)),)),
            "takes 3 numbers",
        ),
    ],
)
def test_an_expert_for_something_else_is_refused(tmp_path: Path, expert: LearnedExpert, says: str) -> None:
    expert.save(tmp_path / "expert.safetensors")
    with pytest.raises(SimulationError, match=says):
        use(tmp_path / "expert.safetensors")


def test_two_experts_for_a_task_and_files_that_are_none_are_refused(tmp_path: Path) -> None:
    an_expert().save(tmp_path / "a.safetensors")
    with pytest.raises(SimulationError, match="second expert for task 'reach'"):
        use(tmp_path / "a.safetensors", tmp_path / "a.safetensors")
    (tmp_path / "none.safetensors").write_bytes(b"nothing")
    for path in (tmp_path / "none.safetensors", tmp_path / "missing.safetensors"):
        with pytest.raises(SimulationError, match=re.escape(str(path)) + " is no learned expert"):
            use(path)
    with pytest.raises(SimulationError, match="learned experts are for tabletop tasks"):
        sim.make("metaworld", ["door-open"], 1, experts=[str(tmp_path / "a.safetensors")])
    with pytest.raises(ValueError, match="do not fit"):
        LearnedExpert("reach", "arm7", "joint_delta", torch.zeros(3), torch.ones(3), ((torch.zeros(2, 4), torch.zeros(2)),))
