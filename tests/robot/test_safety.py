"""The safety filter on the simulated arm's profile: what is refused, what is made less, what is a fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.freeze import FreezeWatch
from robot.leases import Lease
from robot.limiter import limits_of
from robot.obstacles import Obstacles
from robot.profile import RobotProfile, load_profile
from robot.safety import Intervention, Measurement, SafetyFilter, Verdict, Wish
from tests.repo.imports import ROOT

ARM7 = load_profile(ROOT / "configs" / "robots" / "arm7.yaml")
DT_S = ARM7.period_s


class Bench:
    """A filter, a clock and an ideal robot that is where it was told to be, until a test says otherwise."""

    def __init__(self, profile: RobotProfile = ARM7, start: np.ndarray | None = None) -> None:
        self.filter, self.profile, self.now_s, self.sequence = SafetyFilter(profile), profile, 10.0, 0
        self.filter.slow(1.0)
        self.position = profile.home if start is None else start
        self.filter.seed(self.measured())
        self.filter.lease.grant("policy", self.now_s)

    def measured(self, **changes) -> Measurement:
        """What the robot says now."""
        return replace(Measurement(self.position, np.zeros(len(self.position)), self.now_s, self.now_s), **changes)

    def wish(self, position: np.ndarray, **changes) -> Wish:
        """What the policy asks for now."""
        self.sequence += 1
        return replace(Wish(self.profile.names, position, np.zeros(len(position)), "policy", self.sequence), **changes)

    def tick(self, wish: Wish | None, measured: Measurement | None = None, dt_s: float = DT_S, **changes) -> Verdict:
        """One pass; the lease is kept alive, the robot follows."""
        self.now_s += DT_S
        self.filter.lease.heartbeat("policy", self.now_s)
        verdict = self.filter.check(self.now_s, dt_s, wish, measured or self.measured(), **changes)
        self.position = verdict.command.position
        return verdict


def _moved(joint: int, by: float) -> np.ndarray:
    position = ARM7.home.copy()
    position[joint] += by
    return position


def _codes(found: tuple[Intervention, ...]) -> list[str]:
    return [intervention.code for intervention in found]


def test_a_small_wish_passes_unchanged():
    bench = Bench()
    verdict = bench.tick(bench.wish(_moved(0, 0.001)))
    assert verdict == Verdict(verdict.command) and np.array_equal(verdict.command.position, _moved(0, 0.001))
    assert not bench.filter.counts


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"names": ("joint2", "joint1", *ARM7.names[2:])}, ("names", "joint2, joint1", 0.0)),
        ({"names": ARM7.names[:7]}, ("names", "policy", 1.0)),
        ({"position": np.zeros(7)}, ("shape", "policy", 7.0)),
        ({"velocity": np.zeros((1, 8))}, ("shape", "policy", 8.0)),
        ({"position": _moved(3, np.nan)}, ("not_finite", "joint4", np.inf)),
        ({"position": _moved(7, -np.inf)}, ("not_finite", "gripper", np.inf)),
        ({"source": "teleop"}, ("permission", "teleop", 1.0)),
        ({"sequence": -5}, ("sequence", "policy", 4.0)),
        ({"chunk_age_s": 1.5}, ("chunk_age", "policy", 1.5)),
    ],
)
def test_a_bad_wish_is_refused_and_the_robot_brakes(changes, expected):
    bench = Bench()
    for _ in range(30):
        bench.tick(bench.wish(_moved(0, 1.0)))
    before = bench.filter.last
    assert before.velocity[0] > 1.0
    verdict = bench.tick(replace(bench.wish(_moved(0, 1.0)), **changes))
    if expected[0] == "sequence":
        expected = ("sequence", "policy", 35.0)  # 30 are used up, -5 is asked for
    assert verdict.refused == (Intervention(*expected),) and not verdict.faults
    assert verdict.command.velocity[0] < before.velocity[0]
    assert bench.filter.counts[expected[0]] == 1


def test_a_sequence_number_is_used_once():
    bench = Bench()
    wish = bench.wish(ARM7.home)
    assert not bench.tick(wish).refused
    assert _codes(bench.tick(wish).refused) == ["sequence"]


def test_a_silent_source_loses_its_lease():
    bench = Bench()
    bench.now_s += 0.31
    verdict = bench.filter.check(bench.now_s, DT_S, bench.wish(ARM7.home), bench.measured())
    assert verdict.refused == (Intervention("lease", "policy", pytest.approx(0.31)),)


def test_lease_goes_to_one_source_and_others_cannot_renew_it():
    lease = Lease(0.3)
    assert lease.refusal("policy", 0, 0.0) == ("permission", 1.0)
    lease.grant("policy", 0.0)
    lease.heartbeat("teleop", 0.2)
    assert lease.refusal("policy", 0, 0.31) == ("lease", 0.31)
    lease.heartbeat("policy", 0.31)
    lease.heartbeat("policy", 0.1)  # late, and no step back
    assert lease.refusal("policy", 0, 0.61) is None
    lease.grant("teleop", 0.62)
    assert lease.refusal("policy", 1, 0.62) == ("permission", 1.0)
    assert lease.refusal("teleop", 0, 0.62) is None
    lease.forget()
    assert lease.holder is None and lease.refusal("teleop", 1, 0.62) == ("permission", 1.0)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"received_s": 9.9}, "state_age"),
        ({"received_s": 11.0}, "state_age"),
        ({"received_s": np.nan}, "state_age"),
        ({"position": np.zeros(3)}, "state_shape"),
        ({"velocity": _moved(0, np.nan)}, "state_not_finite"),
        ({"position": _moved(0, np.nan)}, "state_not_finite"),
        ({"velocity": _moved(0, 4.0) - ARM7.home}, "overspeed"),
        ({"position": _moved(0, 1.0)}, "not_following"),
    ],
)
def test_a_robot_out_of_control_is_a_fault(changes, code):
    bench = Bench()
    bench.now_s += DT_S
    verdict = bench.filter.check(bench.now_s, DT_S, bench.wish(ARM7.home), bench.measured(**changes))
    assert _codes(verdict.faults) == [code]
    assert np.array_equal(verdict.command.position, ARM7.home)


def _tick_standing(bench: Bench, wish: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> list[str]:
    """A tick of a robot that stands; its encoders live."""
    standing = bench.measured(position=position + 1e-9 * bench.sequence, velocity=velocity)
    stamp_s = bench.now_s + DT_S
    return _codes(bench.tick(bench.wish(wish), replace(standing, stamp_s=stamp_s, received_s=stamp_s)).faults)


@pytest.mark.parametrize(
    ("wish", "speed", "found"),
    [
        (_moved(0, 0.15), 0.0, True),  # 0.1 rad is allowed, a fifth of the leash, and 0.5 s
        (_moved(0, 0.15), 0.1, False),  # it moves
        (_moved(0, 0.08), 0.0, False),
        (_moved(7, -0.9), 0.0, False),  # a gripper that grasps
    ],
)
def test_a_joint_that_stands_far_from_its_command_is_a_fault(wish: np.ndarray, speed: float, found: bool):
    bench = Bench()
    home, velocity = ARM7.home.copy(), np.zeros(8)
    velocity[0] = speed
    faults = [_tick_standing(bench, wish, home, velocity) for _ in range(80)]
    assert faults[-1] == (["not_following"] if found else [])
    assert not any(faults[:50])


def test_a_joint_that_catches_up_is_given_time_anew():
    bench = Bench()
    wish = _moved(0, 0.15)
    for k in range(120):
        there = wish if k == 50 else ARM7.home
        assert not _tick_standing(bench, wish, there, np.zeros(8)) or k > 100


def test_another_publisher_is_a_fault():
    bench = Bench()
    assert bench.tick(bench.wish(ARM7.home), publishers=1).faults == (Intervention("conflict", "command topics", 1.0),)


@pytest.mark.parametrize("dt_s", [0.0, 0.001, 0.06, np.nan])
def test_a_late_tick_is_a_fault_and_holds(dt_s: float):
    bench = Bench()
    verdict = bench.tick(bench.wish(_moved(0, 0.1)), dt_s=dt_s)
    assert _codes(verdict.faults) == ["interval"]
    assert np.array_equal(verdict.command.position, ARM7.home)


def test_frozen_measurements_are_a_fault_only_when_the_robot_should_move():
    bench = Bench()
    still = bench.measured()
    for _ in range(100):  # at rest: bit-equal for a second
        verdict = bench.tick(bench.wish(ARM7.home), replace(still, stamp_s=bench.now_s + DT_S, received_s=bench.now_s + DT_S))
        assert not verdict.faults
    codes = []
    for _ in range(60):
        verdict = bench.tick(bench.wish(_moved(0, 0.2)), replace(still, stamp_s=bench.now_s + DT_S, received_s=bench.now_s + DT_S))
        codes += _codes(verdict.faults)
    assert set(codes) == {"state_frozen"}


def test_freeze_watch_by_hand():
    watch, picture = FreezeWatch(0.5, np.array([0.1])), np.zeros((4, 4, 3), np.uint8)
    for stamp_s, command, frozen in ((0.0, 0.0, False), (0.4, 0.2, False), (0.6, 0.2, True), (0.6, 0.9, True)):
        watch.see(picture, stamp_s, np.array([command]))
        assert watch.frozen is frozen
    assert watch.frozen_s == pytest.approx(0.6)
    watch.see(picture + 1, 0.7, np.array([0.9]))
    assert watch.frozen_s == 0.0 and not watch.frozen
    watch.see(picture + 2, 0.65, np.array([5.0]))  # from the past: no news
    watch.see(picture + 1, 2.0, np.array([0.95]))
    assert watch.frozen_s == pytest.approx(1.3) and not watch.frozen  # the robot did not move


@pytest.mark.parametrize(("age_s", "codes"), [(0.1, []), (0.16, ["image_age"]), (np.nan, ["image_age"])])
def test_old_images_are_refused(age_s: float, codes: list[str]):
    bench = Bench()
    assert _codes(bench.tick(bench.wish(ARM7.home), image_age_s={"front": age_s}).refused) == codes


def test_frozen_images_are_refused():
    bench, codes = Bench(), []
    for k in range(80):
        bench.filter.see_image("front", np.full((2, 2), 7, np.uint8), bench.now_s)
        codes.append(_codes(bench.tick(bench.wish(_moved(0, 0.005 * k)), image_age_s={"front": 0.0}).refused))
    assert codes[:50] == [[]] * 50 and codes[-1] == ["image_frozen"]


def test_limits_are_reported_by_joint():
    bench = Bench()
    verdict = bench.tick(bench.wish(_moved(1, 0.05)))
    assert _codes(verdict.interventions) == ["velocity"]  # 0.05 rad in 0.01 s is 5 rad/s
    assert verdict.interventions[0].where == "joint2"
    assert verdict.interventions[0].magnitude == pytest.approx(0.05 - 0.01)  # acceleration 100: 100 · 0.01²


def test_leash_keeps_commands_near_a_blocked_robot():
    bench = Bench()
    blocked, trembling = bench.position.copy(), np.r_[0.03, np.zeros(7)]  # it does not stand, or it would be a fault
    for k in range(200):
        noise, now_s = 1e-9 * k, bench.now_s + DT_S  # a sensor that lives
        verdict = bench.tick(
            bench.wish(_moved(0, 1.5)), bench.measured(position=blocked + noise, velocity=trembling, stamp_s=now_s, received_s=now_s)
        )
        assert not verdict.faults
        assert verdict.command.position[0] <= blocked[0] + 0.5 + 1e-6
    assert verdict.command.position[0] == pytest.approx(0.5)
    assert ("leash", "joint1") in {(found.code, found.where) for found in verdict.interventions}


def test_the_speed_cap_of_the_profile_is_the_default():
    bench = Bench()
    bench.filter = SafetyFilter(ARM7)
    bench.filter.seed(bench.measured())
    bench.filter.lease.grant("policy", bench.now_s)
    speeds = [bench.tick(bench.wish(_moved(0, 1.0))).command.velocity[0] for _ in range(50)]
    assert max(speeds) == pytest.approx(0.5 * 2.175)


def test_without_a_wish_the_robot_comes_to_rest_and_stays():
    bench = Bench()
    for _ in range(30):
        bench.tick(bench.wish(_moved(0, 1.0)))
    verdicts = [bench.tick(None) for _ in range(40)]
    assert verdicts[-1] == Verdict(verdicts[-1].command)
    assert np.abs(verdicts[-1].command.velocity).max() < 1e-9
    assert np.array_equal(verdicts[-1].command.position, bench.tick(None).command.position)


def test_the_tool_stays_above_the_table():
    bench, obstacles = Bench(), Obstacles(ARM7)
    down = _moved(1, 1.2)
    codes = set()
    for _ in range(150):
        verdict = bench.tick(bench.wish(down))
        codes |= {(found.code, found.where) for found in verdict.interventions}
        assert obstacles.margins(verdict.command.position[None]).min() >= -1e-6
    assert any(code == "workspace" for code, _ in codes)
    assert np.abs(verdict.command.velocity).max() < 1e-3
    back = [bench.tick(bench.wish(ARM7.home)) for _ in range(200)][-1]
    assert back.command.position == pytest.approx(ARM7.home), "a robot at the border must be able to leave it"


def test_no_stream_of_wishes_leaves_the_workspace_or_touches_itself():
    obstacles, limits = Obstacles(ARM7), limits_of(ARM7)
    rng, worst, seen = np.random.default_rng(5), np.inf, set()
    for _ in range(3):
        bench = Bench()
        before = bench.filter.last
        for k in range(100):
            if k % 25 == 0:
                target = rng.uniform(limits.low, limits.high)
            wish = bench.wish(target if rng.random() < 0.95 else rng.uniform(limits.low, limits.high))
            verdict = bench.tick(wish)
            assert not verdict.faults and not verdict.refused
            command = verdict.command
            assert np.all(np.abs(command.velocity) <= limits.velocity * (1 + 1e-9))
            assert np.all(np.abs(command.acceleration) <= limits.acceleration * (1 + 1e-9))
            assert np.all(np.abs(command.acceleration - before.acceleration) <= limits.jerk * DT_S * (1 + 1e-9))
            worst, before = min(worst, obstacles.margins(command.position[None]).min()), command
            seen |= {found.code for found in verdict.interventions}
    assert worst >= 0, "samples of the braking path are not enough"
    assert "workspace" in seen


@pytest.mark.parametrize(
    "wanted",
    [
        [0.64, -1.71, -2.25, -2.59, -0.85, 0.03, 2.49, 0.24],  # palm in the base
        [-2.61, -0.82, -2.51, -2.95, 0.31, 0.68, -2.47, 0.92],  # palm in the shoulder
        [-2.0, -0.45, -0.54, -2.89, -0.06, 0.7, 1.84, 0.89],  # fingers in the upper arm
    ],
)
def test_the_arm_stops_before_it_touches_itself(wanted: list[float]):
    obstacles = Obstacles(ARM7)
    assert obstacles.margins(np.array([wanted])).min() < -0.04
    bench, worst, seen = Bench(), np.inf, set()
    for _ in range(200):
        verdict = bench.tick(bench.wish(np.array(wanted)))
        worst = min(worst, obstacles.margins(bench.position[None]).min())
        seen |= {found.code for found in verdict.interventions}
    assert "collision" in seen and worst >= 0
    assert np.abs(verdict.command.velocity).max() < 0.01


def test_a_start_out_of_the_workspace_may_only_get_better():
    low = _moved(1, 1.0)
    obstacles = Obstacles(ARM7)
    start = obstacles.margins(low[None]).min()
    assert start < -0.05
    bench = Bench(start=low)
    for _ in range(100):
        bench.tick(bench.wish(_moved(1, 1.5)))
        assert obstacles.margins(bench.position[None]).min() >= start - 1e-6
    for _ in range(200):
        bench.tick(bench.wish(ARM7.home))
    assert bench.position == pytest.approx(ARM7.home)


def test_a_source_that_insists_is_a_fault():
    patient = ARM7.model_copy(update={"safety": ARM7.safety.model_copy(update={"intervention_limit_s": 0.5})})
    bench, codes = Bench(patient), []
    for k in range(120):
        now_s, crawling = bench.now_s + DT_S, _moved(0, 0.03 * k * DT_S)
        velocity = np.r_[0.03, np.zeros(7)]
        measured = bench.measured(position=crawling, velocity=velocity, stamp_s=now_s, received_s=now_s)
        verdict = bench.tick(bench.wish(_moved(0, 0.1 if k == 60 else 0.8)), measured)
        codes.append(_codes(verdict.faults))
    assert codes[:49] == [[]] * 49 and codes[51] == ["interventions"]
    assert codes[60:109] == [[]] * 49, "a break starts the count anew"
    assert codes[-1] == ["interventions"]


def test_there_is_no_command_before_a_seed():
    with pytest.raises(RuntimeError, match="call seed"):
        _ = SafetyFilter(ARM7).last
    with pytest.raises(ValueError, match="not finite"):
        SafetyFilter(ARM7).seed(Measurement(_moved(0, np.nan), np.zeros(8), 0.0, 0.0))
