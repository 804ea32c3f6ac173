"""When a commander decides, from which samples, and what deltas add up from."""

from __future__ import annotations

import numpy as np
import pytest

from policies.action_map import ActionTerm
from policies.bundle import Bundle, ObservationTerm
from policies.deployed import Prefix
from policies.interface import ActionSpec, Entry, Observation, PolicySpec
from robot.commander import Commander, CommanderError
from robot.profile import load_profile
from tests.repo.imports import ROOT

ARM7 = load_profile(ROOT / "configs" / "robots" / "arm7.yaml")
STEP_NS = 50_000_000
HOME = np.array([joint.home for joint in ARM7.joints])
FIRST, CLOSED = np.eye(len(HOME))[0], np.array([*HOME[:-1], 0.0])
JOINT, GRIPPER = "joint1", "gripper"
IMAGE = Entry(name="observation.images.front", kind="image", shape=(4, 4, 3), frame="front")
STATE = Entry(
    name="observation.state", kind="state", shape=(2,), names=("joint2 [rad]", "gripper_opening"), low=(-3.0, 0.0), high=(3.0, 1.0)
)


def bundle(*entries: Entry, control_hz: float = 20.0, executed: int = 2) -> Bundle:
    """A policy that turns joint 1 by deltas and places the gripper."""
    action = ActionSpec(names=("turn", "grip"), representation="delta", low=(-1.0, -1.0), high=(1.0, 1.0))
    return Bundle(
        spec=PolicySpec(embodiment="arm7", entries=entries, action=action, control_hz=control_hz, chunk=4, executed=executed),
        observations=tuple(
            ObservationTerm(name=entry.name, scale=(1.0,) * sum(entry.shape[:1]), offset=(0.0,) * sum(entry.shape[:1]))
            if entry.kind == "state"
            else ObservationTerm(name=entry.name)
            for entry in entries
        ),
        action_map=(
            ActionTerm(name="turn", space="joint", target=JOINT, kind="delta", unit="rad", scale=0.1),
            ActionTerm(name="grip", space="gripper", target=GRIPPER, kind="absolute", unit="1", scale=0.5, offset=0.5, low=0.0, high=1.0),
        ),
        noise_shape=None,
        delay_s=(0.0, 0.0),
        tolerance=1e-4,
        files={},
    )


class Recorder:
    """Asks for a turn of 0.1 rad per step with the gripper closed, and remembers what it saw."""

    def __init__(self, described: Bundle, takes_prefix: bool = False) -> None:
        self.bundle, self.takes_prefix = described, takes_prefix
        self.prefixes: list[Prefix | None] = []
        self.seen: list[Observation] = []
        self.seeds: list[int] = []

    def chunk(self, observation: Observation, prefix: Prefix | None = None, seed: int = 0) -> np.ndarray:
        self.bundle.spec.check(observation)
        self.seen.append(observation)
        self.seeds.append(seed)
        self.prefixes.append(prefix)
        return np.tile(np.array([1.0, -1.0], np.float32), (1, 4, 1))


def commander(*entries: Entry, lockstep: bool = False) -> tuple[Commander, Recorder]:
    policy = Recorder(bundle(*entries))
    return Commander(policy, ARM7, "go", lockstep=lockstep), policy


def test_deltas_add_up_from_where_the_arm_stands_and_then_from_the_command_a_step_ago() -> None:
    acting, _ = commander(STATE)
    assert acting.decide() is None and acting.lacking() == "nothing was heard of joint states"
    acting.felt(0, HOME)
    first = acting.decide()
    assert first is not None and first.t0_ns == 0 and first.dt_s == 0.05
    assert first.positions[:, 0] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=1e-6)
    assert (first.positions[:, 7] == 0).all() and (first.positions[:, 1:7] == HOME[1:7]).all()
    acting.felt(2 * STEP_NS, HOME)
    assert acting.decide() is None and "does not say what it commanded" in acting.lacking()
    for step in range(2):
        acting.commanded(step * STEP_NS, first.positions[step])
    second = acting.decide()
    assert second is not None and second.positions[0, 0] == pytest.approx(0.3, abs=1e-6)


def test_a_command_between_two_that_were_sent_lies_on_the_line() -> None:
    acting, _ = commander(STATE)
    acting.commanded(0, HOME)
    acting.commanded(2 * STEP_NS, HOME + 0.4)
    acting.felt(int(1.5 * STEP_NS), HOME)
    decision = acting.decide()
    assert decision is not None and decision.positions[0, 0] == pytest.approx(0.1 + 0.1, abs=1e-6)


def test_decides_where_executed_steps_end() -> None:
    acting, policy = commander(STATE)
    for step in range(9):
        acting.commanded(step * STEP_NS, HOME)
        acting.felt(step * STEP_NS, HOME)
        acting.decide()
        assert acting.decide() is None and acting.lacking() == "no newer observation comes in"
    assert policy.seeds == [0, 1, 2, 3, 4]
    acting.begin()
    assert acting.decide() is not None and policy.seeds[-1] == 0, "armed anew"


def prefixes(commands: list[np.ndarray], start_ns: int = 0) -> list[Prefix | None]:
    """What a policy is told while `commands` are sent, a step apart, with 60 ms from observation to chunk; then it is armed anew."""
    policy = Recorder(bundle(STATE), takes_prefix=True)
    acting = Commander(policy, ARM7, continued=True)
    for step, command in enumerate(commands):
        acting.felt(start_ns + step * STEP_NS, HOME)
        acting.decide()
        acting.commanded(start_ns + step * STEP_NS, command)
        acting.delay.see(0.06)
    acting.begin()
    acting.felt(start_ns + len(commands) * STEP_NS, HOME)
    acting.decide()
    assert policy.prefixes[0] is None and policy.prefixes[-1] is None, "there is no last chunk"
    return policy.prefixes[1:-1]


@pytest.mark.parametrize("start_ns", [0, 1_795_000_000_123_456_789])
def test_a_flow_policy_is_told_what_the_last_chunk_still_has_to_say(start_ns: int) -> None:
    told = prefixes([CLOSED + 0.1 * (step + 1) * FIRST for step in range(7)], start_ns)
    assert len(told) == 3
    for prefix in told:
        assert prefix is not None and prefix.committed == 2, "60 ms are two steps of 50 ms"
        np.testing.assert_allclose(prefix.actions, [[1, -1], [1, -1]], atol=1e-5)


def test_a_chunk_that_is_not_followed_is_not_continued() -> None:
    assert prefixes([HOME] * 5) == [None, None], "the robot still ramps"


@pytest.mark.parametrize(("takes_prefix", "lockstep", "reason"), [(False, False, "needs a flow head"), (True, True, "in lockstep")])
def test_what_cannot_be_continued_is_refused(takes_prefix: bool, lockstep: bool, reason: str) -> None:
    with pytest.raises(CommanderError, match=reason):
        Commander(Recorder(bundle(STATE), takes_prefix), ARM7, lockstep=lockstep, continued=True)


def test_measurements_are_of_the_time_of_the_image() -> None:
    acting, policy = commander(IMAGE, STATE)
    image, later = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 9, np.uint8)
    acting.felt(0, HOME)
    acting.felt(STEP_NS, HOME + 0.1)
    acting.saw("front", STEP_NS + 10, image)
    assert "further apart" in acting.lacking()
    assert acting.decide() is None, "joints may still be measured up to the image's time"
    acting.felt(2 * STEP_NS, HOME + 0.2)
    decision = acting.decide()
    assert decision is not None and decision.t0_ns == STEP_NS + 10
    np.testing.assert_array_equal(policy.seen[0]["observation.state"], np.array([[HOME[1] + 0.1, HOME[7] + 0.1]], np.float32))
    acting.saw("front", 3 * STEP_NS, later)
    acting.felt(3 * STEP_NS, HOME)
    acting.commanded(STEP_NS, HOME)
    acting.commanded(3 * STEP_NS, HOME)
    assert acting.decide() is not None
    assert (policy.seen[1]["observation.images.front"] == 9).all()


def test_an_image_of_another_size_is_refused() -> None:
    acting, _ = commander(IMAGE, STATE)
    acting.saw("front", 0, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(CommanderError, match=r"shows \(8, 4\) pixels .* trained on \(4, 4\)"):
        acting.saw("front", STEP_NS, np.zeros((8, 4, 3), np.uint8))


def test_a_whole_chunk_for_robots_and_its_executed_steps_in_lockstep() -> None:
    for lockstep, steps in ((False, 4), (True, 2)):
        acting, _ = commander(STATE, lockstep=lockstep)
        acting.felt(0, HOME)
        decision = acting.decide()
        assert decision is not None and len(decision.positions) == steps


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (bundle(IMAGE.model_copy(update={"frame": "wrist"})), "camera 'wrist'"),
        (bundle(STATE.model_copy(update={"names": ("elbow [rad]", "gripper_opening")})), "'observation.state' has elbow"),
        (bundle(STATE.model_copy(update={"names": ("joint2 [deg]", "gripper_opening")})), "sees joint2 in deg"),
        (bundle(STATE, control_hz=500.0), "500 Hz, arm7 takes commands at 100 Hz"),
        (bundle(STATE, control_hz=30.0), "no whole number of nanoseconds"),
    ],
)
def test_refuses_a_policy_that_does_not_fit(described: Bundle, message: str) -> None:
    with pytest.raises(CommanderError, match=message):
        Commander(Recorder(described), ARM7)


def test_lockstep_needs_two_executed_steps() -> None:
    with pytest.raises(CommanderError, match="executes 1"):
        Commander(Recorder(bundle(STATE, executed=1)), ARM7, lockstep=True)


def test_a_tracking_error_is_of_the_command_that_deltas_add_up_from() -> None:
    names = ("joint2 [rad]", "joint2_error [rad]")
    acting, policy = commander(STATE.model_copy(update={"names": names, "low": (-3.0, -0.2), "high": (3.0, 0.2)}))
    acting.felt(0, HOME)
    acting.decide()
    acting.commanded(0, HOME)
    acting.commanded(STEP_NS, HOME + 0.3)
    acting.felt(2 * STEP_NS, HOME + 0.1)
    acting.decide()
    first, second = (seen["observation.state"][0] for seen in policy.seen)
    assert first == pytest.approx([HOME[1], 0.0]), "nothing was commanded yet"
    assert second == pytest.approx([HOME[1] + 0.1, 0.2], abs=1e-6)
