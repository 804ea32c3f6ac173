"""Every task of the suite, asked the same questions, and the geometry they share; without a physics engine where possible."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sim.control import DAMPING, Waypoint, follow, hold, inverse_kinematics, towards
from sim.mujoco.physics import Physics
from sim.robots import ARM7
from sim.scene import Fixture, Scene, Shape
from sim.state import SceneState, rotation_matrix, tool_yaw, wrap, yaw
from sim.tasks import TASKS, button, peg
from sim.tasks.blocks import HOVER, grasp_yaw, holding, target_pos
from sim.tasks.task import Start, Task, scatter

each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def state_of(physics: Physics) -> SceneState:
    return SceneState(**{name: torch.as_tensor(np.array(value), dtype=torch.float32)[None] for name, value in physics.state().items()})


def goal_of(task: Task, seed: int) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([value]) for name, value in task.draw(seed).goal.items()}


def started(task: Task, seed: int) -> Physics:
    physics = Physics(task.scene, ARM7)
    physics.reset(task.draw(seed))
    return physics


@each_task
def test_starts_are_unsolved_at_rest_and_drawn_from_the_seed_alone(task: Task) -> None:
    goals = set()
    for seed in range(30):
        start, again = task.draw(seed), task.draw(seed)
        np.testing.assert_array_equal(start.body_pos, again.body_pos)
        physics = started(task, seed)
        before = state_of(physics)
        assert not task.success(before, goal_of(task, seed)).any()
        assert torch.isfinite(task.reward(before, goal_of(task, seed))).all()
        for _ in range(10):
            physics.step()
        after = state_of(physics)
        assert (after.body_pos - before.body_pos).abs().max() < 2e-3, "bodies overlap or float at the start"
        assert (after.joint_pos - before.joint_pos).abs().max() < 2e-3
        assert (after.fixture - before.fixture).abs().sum() < 2e-3
        goals.add(tuple(start.goal.values()))
    assert len(goals) >= 2, "only one goal in 30 seeds: the instruction would not matter"


@each_task
def test_phrasings_name_the_goal_and_are_disjoint(task: Task) -> None:
    assert set(task.instructions).isdisjoint(task.held_out) and len(task.instructions) >= 3 and len(task.held_out) >= 2
    for seed in range(20):
        start = task.draw(seed)
        for paraphrases in ("train", "held_out"):
            text = task.instruction(start, seed, paraphrases)
            assert start.words and all(word in text for word in start.words.values()), text


@cache
def solved(name: str) -> tuple[SceneState, list[float]]:
    """The last state and the rewards of an episode under the expert."""
    task = TASKS[name]
    physics, goal = started(task, 1), goal_of(task, 1)
    limits, command, rewards = torch.as_tensor(physics.limits), hold(state_of(physics)), []
    for _ in range(task.horizon):
        state = state_of(physics)
        rewards.append(float(task.reward(state, goal)))
        if task.success(state, goal):
            break
        action = towards("ee_delta", ARM7, command, task.expert(state, goal), state, limits)
        command = follow("ee_delta", ARM7, command, action, state, limits)
        physics.command(command.joints[0].numpy(), float(command.opening))
        physics.step()
    return state_of(physics), rewards


@each_task
def test_success_is_worth_more_than_the_start(task: Task) -> None:
    """The dense reward rises from the start of an episode to its end under the expert."""
    state, rewards = solved(task.name)
    assert task.success(state, goal_of(task, 1)).all()
    assert rewards[-1] > rewards[0] + 0.3


@each_task
def test_what_solves_one_goal_solves_no_other(task: Task) -> None:
    """Only language tells the goals of a scene apart. "a left, b right" and "b right, a left" are one goal of `sort`."""
    goals = {tuple(goal.items()) for goal in (task.draw(seed).goal for seed in range(300))}
    state = solved(task.name)[0]
    reached = [goal for goal in goals if task.success(state, {name: torch.tensor([value]) for name, value in goal})]
    assert len(goals) >= 2 and len(reached) == (2 if task.name == "sort" else 1), reached
    assert tuple(task.draw(1).goal.items()) in reached


def test_rotations_agree_with_scipy() -> None:
    rotation = Rotation.random(50, random_state=0)
    quat = torch.as_tensor(np.roll(rotation.as_quat(), 1, axis=1))
    np.testing.assert_allclose(rotation_matrix(quat), rotation.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(yaw(quat), rotation.as_euler("ZYX")[:, 0], atol=1e-9)
    assert wrap(torch.tensor([3.0, -3.0, 0.1]), math.pi).tolist() == pytest.approx([3 - math.pi, math.pi - 3, 0.1])


def test_the_jacobian_is_the_derivative_of_the_tool() -> None:
    physics = started(TASKS["reach"], 0)
    state, eps = state_of(physics), 1e-4
    for joint in range(7):
        physics.reset(TASKS["reach"].draw(0))
        physics.data.qpos[joint] += eps
        physics._locate()
        moved = (state_of(physics).tcp_pos - state.tcp_pos) / eps
        assert torch.allclose(moved, state.jacobian[:, :3, joint], atol=5e-3)


def test_inverse_kinematics_is_damped_least_squares_with_limits() -> None:
    physics = started(TASKS["reach"], 0)
    state, limits = state_of(physics), torch.as_tensor(physics.limits)
    home = SceneState(**{**vars(state), "joint_pos": torch.tensor([ARM7.home])})  # nothing left to draw home
    goal = home.tcp_pos + torch.tensor([[0.004, -0.003, 0.002]])
    J = home.jacobian[0].double()
    turn = torch.zeros(3, dtype=torch.double)
    axis = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]) @ rotation_matrix(home.tcp_quat)[0].numpy().T).as_rotvec()
    turn += torch.as_tensor(axis)
    error = torch.cat([(goal - home.tcp_pos)[0].double(), turn])
    expected = J.T @ torch.linalg.solve(J @ J.T + DAMPING**2 * torch.eye(6), error)
    found = inverse_kinematics(ARM7, home, goal, torch.zeros(1), limits)[0] - home.joint_pos[0]
    assert torch.allclose(found.double(), expected, atol=1e-4)
    far = inverse_kinematics(ARM7, home, goal + 1.0, torch.zeros(1), limits)[0] - home.joint_pos[0]
    assert (far.abs() <= torch.tensor(ARM7.velocity) / 20 + 1e-6).all()


def test_a_waypoint_is_reached_from_both_kinds_of_actions() -> None:
    for kind in ("ee_delta", "joint_delta"):
        physics = started(TASKS["reach"], 0)
        limits, command = torch.as_tensor(physics.limits), hold(state_of(physics))
        target = Waypoint(torch.tensor([[0.45, 0.15, 0.2]]), torch.tensor([0.6]), torch.tensor([0.0]))
        for _ in range(60):
            state = state_of(physics)
            action = towards(kind, ARM7, command, target, state, limits)
            assert action.abs().max() <= 1
            command = follow(kind, ARM7, command, action, state, limits)
            physics.command(command.joints[0].numpy(), float(command.opening))
            physics.step()
        state = state_of(physics)
        assert (state.tcp_pos - target.tool).norm() < 5e-3, kind
        assert wrap(tool_yaw(state) - target.yaw, math.pi).abs() < 0.05 and state.opening < 0.05, kind
        assert rotation_matrix(state.tcp_quat)[0, 2, 2] < -0.999, "the tool does not point down"


def test_a_plan_in_joint_steps_starts_from_the_command_and_not_from_joints_that_lag_behind() -> None:
    physics = started(TASKS["reach"], 0)
    limits, lagging = torch.as_tensor(physics.limits), state_of(physics)
    command = hold(lagging)
    command = replace(command, joints=command.joints + torch.tensor([[0.03, -0.02, 0.03, 0.02, -0.03, 0.02, 0.03]]))
    physics.data.qpos[:7] = command.joints[0].numpy()
    physics._locate()
    there = state_of(physics)
    target = Waypoint(torch.tensor([[0.45, 0.15, 0.2]]), torch.tensor([0.6]), torch.tensor([1.0]))
    planned = [towards("joint_delta", ARM7, command, target, state, limits) for state in (lagging, there)]
    assert (planned[0] - planned[1]).abs().max() < 0.1  # the Jacobian turns on the way; from measured joints, the lag would be 0.3
    assert planned[1][0, :-1].abs().max() > 0.1


def test_scatter_keeps_points_apart_or_says_why_not() -> None:
    points = scatter(np.random.default_rng(0), 4, (0.0, 0.3), (0.0, 0.3), apart=0.1)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(4)
    assert points.shape == (4, 2) and distance.min() >= 0.1
    with pytest.raises(ValueError, match=r"9 points 0\.2 m apart do not fit"):
        scatter(np.random.default_rng(0), 9, (0.0, 0.2), (0.0, 0.2), apart=0.2)


def test_a_spring_swings_at_the_frequency_of_its_mass() -> None:
    """k = 25 N/m and m = 1 kg: x(t) = x(0) cos(5 t) without friction."""
    cart = (Shape("box", (0.02, 0.02, 0.02), (1.0, 0.0, 0.0), (0.0, 0.0, 0.3)),)
    rail = Fixture("cart", (), cart, "slide", (1.0, 0.0, 0.0), (-0.1, 0.1), damping=0.0, resistance=0.0, mass=1.0, stiffness=25.0)
    none = np.zeros((0, 3))
    physics = Physics(Scene("spring", (), (rail,)), ARM7)
    physics.reset(Start(np.zeros(7), none, none[:, 0], np.array([[0.5, 0.3, 0.0]]), np.array([0.05]), {}))
    for step in range(1, 25):
        physics.step()
        assert physics.state()["fixture"][0] == pytest.approx(0.05 * math.cos(5 * 0.05 * step), abs=2e-3)


def test_fixtures_have_no_spring_unless_they_say_so() -> None:
    assert started(TASKS["drawer"], 0).model.joint("drawer").stiffness == 0.0


def test_a_button_springs_back() -> None:
    physics = started(TASKS["button"], 0)
    physics.data.qpos[physics.model.joint("green_button").qposadr[0]] = button.TRAVEL
    for _ in range(10):
        physics.step()
    assert physics.state()["fixture"].max() < 0.0025


def test_pressing_every_button_is_no_success() -> None:
    task = TASKS["button"]
    state, goal = state_of(started(task, 0)), {"target": torch.tensor([2])}
    down = torch.zeros(1, 4)
    down[0, 2] = button.TRAVEL
    assert task.success(replace(state, fixture=down), goal).all()
    down[0, 1] = button.TRAVEL
    assert not task.success(replace(state, fixture=down), goal).any()


@pytest.mark.parametrize(
    "error", [(0.0, 0.0, 0.0), (0.013, 0.0, 0.0), (-0.03, 0.0, 0.0), (0.0, 0.017, 0.0), (0.0, -0.017, 0.0), (0.0, 0.0, 0.3)]
)
def test_a_grasp_that_closing_fingers_forgive_is_not_started_anew(error: tuple[float, float, float]) -> None:
    """The tool stands `error` off the block, in metres along the pads and between the fingers, and turned by radians."""
    task, seed = TASKS["lift"], 1
    physics, goal = started(task, seed), goal_of(task, seed)
    limits, command = torch.as_tensor(physics.limits), hold(state_of(physics))

    def go(waypoint: Waypoint) -> None:
        nonlocal command
        state = state_of(physics)
        command = follow("ee_delta", ARM7, command, towards("ee_delta", ARM7, command, waypoint, state, limits), state, limits)
        physics.command(command.joints[0].numpy(), float(command.opening))
        physics.step()

    block, turn = target_pos(state_of(physics), goal), grasp_yaw(state_of(physics), goal) + error[2]
    cos, sin = float(turn.cos()), float(turn.sin())
    there = block + torch.tensor([[cos * error[0] - sin * error[1], sin * error[0] + cos * error[1], 0.0]])
    for height in (HOVER, 0.0):
        for _ in range(40):
            go(Waypoint(there + torch.tensor([0.0, 0.0, height]), turn, torch.ones(1)))
    touched = (target_pos(state_of(physics), goal) - block).norm()
    assert touched < 1e-3, "the fingers came down on the block"
    for _ in range(40):
        state = state_of(physics)
        if holding(state, goal):
            break
        assert state.tcp_pos[0, 2] < block[0, 2] + 0.02, "went up for another try"
        go(task.expert(state, goal))
    for _ in range(40):
        go(task.expert(state_of(physics), goal))
    assert task.success(state_of(physics), goal)


def test_a_grasp_beside_the_block_is_started_anew() -> None:
    task, seed = TASKS["lift"], 1
    goal, state = goal_of(task, seed), state_of(started(task, seed))
    block = target_pos(state, goal)
    beside = replace(state, tcp_pos=block + torch.tensor([[0.03, 0.03, 0.0]]), opening=torch.tensor([0.41]))
    waypoint = task.expert(beside, goal)
    assert waypoint.opening == 1
    torch.testing.assert_close(waypoint.tool, torch.cat([block[:, :2], torch.full((1, 1), HOVER)], 1))


def test_a_peg_whose_shaft_is_in_the_hole_is_lowered_however_far_its_head_is_off() -> None:
    task, seed = TASKS["peg"], 1
    goal, state = goal_of(task, seed), state_of(started(task, seed))
    bodies = state.body_pos.clone()
    bodies[:, peg.PEG] = peg.hole_pos(state, goal) + torch.tensor([0.012, 0.012, 0.03])
    held = replace(state, body_pos=bodies, tcp_pos=bodies[:, peg.PEG], opening=torch.tensor([0.48]))
    assert task.expert(held, goal).tool[0, 2] < held.tcp_pos[0, 2]
    above = replace(held, body_pos=bodies + torch.tensor([0.0, 0.0, 0.02]), tcp_pos=bodies[:, peg.PEG] + torch.tensor([0.0, 0.0, 0.02]))
    above.body_pos[:, : peg.PEG] = bodies[:, : peg.PEG]
    assert task.expert(above, goal).tool[0, 2] > above.tcp_pos[0, 2], "not over the hole yet"
