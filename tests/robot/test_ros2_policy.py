"""A policy's bundle on the simulated arm, as processes in lockstep: the commands that leave are the environment's, bit by bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, String

import sim
from policies.config import GaussianHeadConfig, PolicyConfig
from policies.deployed import open_bundle
from policies.folder import save_policy
from tests.random_run import random_run
from tests.ros import LATCHED, Graph, Process, unique_domain, write_profile
from vla_rl.cli import main
from vla_rl.config import SimConfig

pytestmark = pytest.mark.ros
TASK, SEED = "reach", 11
SIM = SimConfig(backend="mujoco", tasks=(TASK,), num_envs=1, workers=1, image_px=64, control="joint_delta")
FORWARD = [
    {"kind": "forward_command", "topic": "/arm7/arm_controller/commands", "joints": [f"joint{i}" for i in range(1, 8)]},
    {"kind": "forward_command", "topic": "/arm7/gripper_controller/commands", "joints": ["gripper"]},
]
GENEROUS = {"heartbeat_timeout_s": 5.0, "deadman_timeout_s": 5.0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with random weights. It moves by what it sees, and slowly, so that no joint comes to its limit."""
    folder = tmp_path_factory.mktemp("run")
    config = PolicyConfig(chunk=6, executed=4, head=GaussianHeadConfig())
    policy = random_run(folder, SIM, config)
    with torch.no_grad():
        for parameter in policy.head.mean[-1].parameters():
            parameter *= 0.02
    save_policy(policy, folder / "policy")
    assert main(["export", str(folder), "--out", str(folder / "bundle")]) == 0
    return folder / "bundle"


def environment(bundle: Path, instruction: str, decisions: int) -> np.ndarray:
    """`(T, 8)` targets of the policy in this process."""
    torch.set_num_threads(1)  # as in the other processes, so that sums are rounded alike
    policy, targets = open_bundle(bundle), []
    with sim.make("mujoco", [TASK], 1, 1, image_px=64, control="joint_delta", horizon=4 * decisions) as env:
        obs = env.reset([0], [SEED], [TASK])
        for decision in range(decisions):
            chunk = policy.chunk(obs | {"task": np.array([instruction])}, seed=decision)
            for step in range(policy.bundle.spec.executed):
                obs = env.step_chunk(chunk[:, step : step + 1], [0]).obs
                command = env.snapshot([0])[0].command
                targets.append(command[:8].astype(float))
    return np.array(targets)


class Cell:
    """The simulated arm, its bridge, the policy, and an operator who holds the dead-man switch."""

    def __init__(self, folder: Path, bundle: Path, instruction: str) -> None:
        domain = unique_domain()
        profile = str(write_profile(folder, rates={"state_hz": 100.0, "command_hz": 20.0}, controllers=FORWARD, safety=GENEROUS))
        self.graph = Graph(domain)
        node = self.graph.node
        self.sent = self.graph.record(JointState, "/arm7/bridge/command_sent", 1000)
        self.events = self.graph.record(String, "/arm7/policy/decision", 1000)
        self._status = self.graph.record(String, "/arm7/bridge/status", LATCHED)
        self._estop = node.create_publisher(Bool, "/arm7/bridge/estop", 1)
        self._deadman = node.create_publisher(Joy, "/arm7/bridge/deadman", qos_profile_sensor_data)
        node.create_timer(0.05, self._beat)
        self._domain, self._folder, self.processes = domain, folder, list[Process]()
        states = self.graph.record(JointState, "/arm7/joint_states", qos_profile_sensor_data)
        self._start("sim-robot", profile, "--clock", "lockstep", "--no-time-code", "--task", TASK, "--seed", str(SEED))
        self.until(lambda: bool(states), "the robot is on the graph")
        self._start("deploy", str(bundle), "--robot", profile, "--lockstep", "--speed", "1.0", "--instruction", instruction)

    def _start(self, verb: str, *arguments: str) -> None:
        self.processes.append(Process(self._domain, ["-m", "vla_rl.cli", verb, *arguments], self._folder / f"{verb}.log"))

    def _beat(self) -> None:
        self._estop.publish(Bool(data=False))
        self._deadman.publish(Joy(buttons=[1]))

    @property
    def status(self) -> dict[str, object]:
        return json.loads(self._status[-1].data) if self._status else {"state": ""}

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def there() -> bool:
            assert all(process.alive() for process in self.processes), self.output()
            return condition()

        try:
            self.graph.until(there, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status}\n{self.output()}") from None

    def output(self) -> str:
        return "\n".join(process.output() for process in self.processes)

    def close(self) -> None:
        codes = [process.stop() for process in reversed(self.processes)]
        self.graph.close()
        assert codes == [0, 0], self.output()


@pytest.mark.parametrize("decisions", [12, pytest.param(250, marks=pytest.mark.slow)])
def test_a_policy_over_ros_commands_what_it_commands_in_the_environment(bundle: Path, decisions: int, tmp_path: Path) -> None:
    instruction = "move the gripper over the red block"
    targets = environment(bundle, instruction, decisions)
    cell = Cell(tmp_path, bundle, instruction)
    try:
        cell.until(lambda: cell.status["state"] == "standby", "the bridge is in standby")
        assert not cell.sent, "time stands still until the robot is armed"
        cell.until(lambda: cell.graph.node.count_publishers("/arm7/policy/decision") > 0, "the policy's reports can be heard")
        cell.until(lambda: cell.graph.trigger("/arm7/bridge/arm").success, "the bridge arms")
        cell.until(lambda: len(cell.sent) >= len(targets), "the policy has acted")
        sent = np.array([message.position for message in cell.sent[: len(targets)]])
        assert np.abs(targets[-1] - targets[0]).max() > 2e-3, "the policy moves the arm"
        limited = {name: value for name, value in cell.status.items() if name.startswith("count.")}
        differs = np.flatnonzero((sent != targets).any(1))
        assert not len(differs), f"from step {differs[0]} on: {sent[differs[0]] - targets[differs[0]]}, limited: {limited}"
        assert not limited, "nothing was limited"
        seeds = [json.loads(event.data)["seed"] for event in cell.events]
        assert len(seeds) > 1 and seeds == list(range(seeds[0], seeds[0] + len(seeds))), "every decision is told of"
    finally:
        cell.close()
