"""Chunks on a virtual clock: late, jittering, out of order, twice, too old, contradicting each other, or not at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot.chunks import Blend, Border, Chunk, Phase, Rejected, ensemble
from robot.delay import DelayEstimate
from robot.limiter import Motion
from robot.profile import load_profile
from robot.scheduler import Scheduler, Timing, timing_of
from robot.splines import Point, quintic, through
from tests.repo.imports import ROOT

DT_S, TICK_S, H = 0.05, 0.01, 16
TIMING = Timing(joints=1, chunk_age_s=1.0, starvation_s=1.0, ramp_s=0.0, still=np.array([1e-3]), far=np.array([2.0]))


def _path(time_s: np.ndarray) -> np.ndarray:
    """What an ideal policy wants at a time: at most 0.6 unit/s."""
    return 0.3 * np.sin(2 * time_s)


def _chunk(id: int, t0_s: float, offset: float = 0.0) -> Chunk:
    times = t0_s + DT_S * np.arange(H)
    return Chunk(id, t0_s, DT_S, _path(times)[:, None] + offset)


class Play:
    """A policy that is asked every 0.2 s and answers later, and a robot that is commanded every 0.01 s, without any limits."""

    def __init__(self, timing: Timing = TIMING) -> None:
        self.scheduler = Scheduler(timing)
        self.motion, self.now_s, self.borders, self.rejected = Motion.rest(np.zeros(1)), 0.0, list[Border](), list[Rejected]()
        self.times, self.commands, self.phases = list[float](), list[float](), list[Phase]()
        self.scheduler.sent(-TICK_S, self.motion)

    def tick(self, arrived: list[Chunk]) -> None:
        """One command."""
        for chunk in arrived:
            found = self.scheduler.accept(chunk, self.now_s)
            (self.borders if isinstance(found, Border) else self.rejected).append(found)
        setpoint = self.scheduler.sample(self.now_s)
        wish = self.motion.position if setpoint.position is None else setpoint.position
        velocity = (wish - self.motion.position) / TICK_S
        self.motion = Motion(wish, velocity, (velocity - self.motion.velocity) / TICK_S)
        self.scheduler.sent(self.now_s, self.motion)
        self.times.append(self.now_s)
        self.commands.append(self.motion.position[0])
        self.phases.append(setpoint.phase)
        self.now_s = round(self.now_s + TICK_S, 6)

    def run(self, seconds: float, delay, offset=lambda i: 0.0, order=lambda chunks: chunks) -> None:
        """`delay(i)` of the i-th chunk, which is asked for every 0.2 s; `order` of what arrives within one tick."""
        waiting, asked = [], 0
        for k in range(round(seconds / TICK_S)):
            if k % 20 == 0:
                waiting.append((self.now_s + delay(asked), _chunk(asked, self.now_s, offset(asked))))
                asked += 1
            due = [chunk for at_s, chunk in waiting if at_s <= self.now_s + 1e-9]
            waiting = [(at_s, chunk) for at_s, chunk in waiting if at_s > self.now_s + 1e-9]
            self.tick(order(due))


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("jitter", [0.0, 0.5])
@pytest.mark.parametrize("blend", ["replace", "crossfade", "ensemble", "rtc"])
def test_commands_are_where_the_policy_wants_them_at_every_time(delay_s: float, jitter: float, blend: Blend):
    rng = np.random.default_rng(0)
    play = Play(replace(TIMING, blend=blend))
    play.run(4.0, lambda i: delay_s * (1 + jitter * rng.uniform(-1, 1)))
    times, commands = np.array(play.times), np.array(play.commands)
    settled = times > 1.6  # the first chunk was played from its first step on
    error = np.abs(commands - _path(times))[settled]
    assert error.max() <= 0.6 * DT_S / 2, "more than half a step early or late"
    assert error.max() <= 0.002
    acceleration = np.diff(commands[settled], 2) / TICK_S**2
    assert np.abs(acceleration).max() < 2.5  # the path's own is 1.2 unit/s²
    assert {phase for phase, time_s in zip(play.phases, times, strict=True) if time_s > 1.6} == {"play"}
    assert len(play.borders) >= 16 and {rejected.code for rejected in play.rejected} <= {"older"}
    if jitter == 0 and blend == "replace":
        late = [border.dropped for border in play.borders[3:]]
        assert set(late) <= {round(delay_s / DT_S), round(delay_s / DT_S) + 1}


def test_chunks_out_of_order_twice_and_from_the_past():
    play = Play()
    delays = {1: 0.35, 2: 0.1, 5: 1.3}
    play.run(3.0, lambda i: delays.get(i, 0.05), order=lambda due: [chunk for chunk in due for _ in range(2)])
    refused = [(rejected.chunk, rejected.code) for rejected in play.rejected]
    assert (1, "older") in refused, "chunk 2 came before chunk 1"
    assert (5, "older") in refused
    accepted = [border.chunk for border in play.borders]
    assert accepted == sorted(set(accepted)) and 1 not in accepted
    assert {(chunk, "duplicate") for chunk in accepted} <= set(refused)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"positions": np.zeros((H, 2))}, "shape"),
        ({"positions": np.zeros(H)}, "shape"),
        ({"positions": np.zeros((1, 1))}, "shape"),
        ({"dt_s": 0.0}, "shape"),
        ({"dt_s": np.nan}, "shape"),
        ({"positions": np.full((H, 1), np.nan)}, "not_finite"),
        ({"t0_s": np.nan}, "not_finite"),
        ({"t0_s": -1.5}, "expired"),
        ({"t0_s": 0.3}, "future"),
        ({"positions": np.linspace(2.1, 0.0, H)[:, None]}, "far"),
    ],
)
def test_bad_chunks_are_rejected_and_change_nothing(change, code):
    play = Play()
    found = play.scheduler.accept(replace(_chunk(99, 0.1), **change), 0.1)
    assert isinstance(found, Rejected) and found.code == code
    assert play.scheduler.sample(0.15).phase == "waiting"


def test_a_chunk_whose_steps_are_all_in_the_past_is_expired():
    play = Play()
    play.run(0.5, lambda i: 0.0)
    found = play.scheduler.accept(replace(_chunk(7, 0.45), dt_s=0.003), 0.5)  # its last step was for 0.495
    assert isinstance(found, Rejected) and found.code == "expired"


def test_nothing_is_accepted_before_something_was_sent():
    with pytest.raises(RuntimeError, match="nothing was sent yet"):
        Scheduler(TIMING).accept(_chunk(0, 0.0), 0.0)


def test_the_first_chunk_starts_at_its_first_step_after_a_ramp():
    play = Play(replace(TIMING, ramp_s=0.5))
    waiting = Chunk(0, 0.0, DT_S, np.linspace(1.0, 2.0, H)[:, None])  # observed at 0, arrives at 0.3
    while play.now_s < 1.2:
        play.tick([waiting] if play.now_s == 0.3 else [])
    at = dict(zip(np.round(play.times, 2), play.commands, strict=True))
    assert set(play.phases[:30]) == {"waiting"} and at[0.29] == 0.0
    assert at[0.8] == pytest.approx(1.0) and at[0.85] == pytest.approx(1 + 1 / 15)
    assert at[0.55] == pytest.approx(0.4, abs=0.1)
    assert np.abs(np.diff(play.commands, 2)).max() / TICK_S**2 < 30, "no jump"
    assert play.borders[0].dropped == 0


def test_underrun_extrapolates_one_step_then_brakes_holds_and_starves():
    play = Play()
    for k in range(250):
        play.tick([Chunk(0, 0.0, DT_S, np.linspace(0, 0.3, 7)[:, None])] if k == 0 else [])  # 1 unit/s, ends at 0.3 s
    first = {phase: play.times[play.phases.index(phase)] for phase in play.phases}
    assert first == {"play": 0.0, "extrapolate": 0.31, "decelerate": 0.36, "hold": 0.37, "starved": 1.31}
    at = dict(zip(np.round(play.times, 2), play.commands, strict=True))
    assert at[0.3] == pytest.approx(0.3) and at[0.35] == pytest.approx(0.35)


def test_after_a_hold_the_next_chunk_starts_anew_and_says_how_long_it_starved():
    play = Play()
    for k in range(80):
        late = Chunk(1, 0.6, DT_S, np.linspace(0.4, 0.5, 7)[:, None])
        play.tick([Chunk(0, 0.0, DT_S, np.linspace(0, 0.3, 7)[:, None])] if k == 0 else [late] if k == 70 else [])
    assert play.borders[1].starved_s == pytest.approx(0.4)
    assert play.borders[1].dropped == 0
    assert play.commands[70] == pytest.approx(0.4, abs=1e-6)


def test_border_reports_by_hand():
    play = Play()
    play.run(0.2, lambda i: 0.0)
    found = play.scheduler.accept(_chunk(50, 0.1, offset=0.25), 0.2)
    assert isinstance(found, Border)
    assert found.jump[0] == pytest.approx(0.25, abs=1e-3)
    assert found.velocity_jump[0] == pytest.approx(0.0, abs=0.05)
    assert found.age_s == pytest.approx(0.1)
    assert found.dropped == 3  # 0.10, 0.15 and 0.20, as the last command left at 0.19
    # From the command at 0.19 to the step at 0.25: 0.25 in 0.06 s. A rest-to-rest move has 60 Δq/T³, one that goes on less.
    assert 20 * 0.25 / 0.06**3 < found.peak_jerk[0] < 60 * 0.25 / 0.06**3


def test_delay_is_a_quantile_without_the_first_call():
    estimate = DelayEstimate(0.2)
    assert estimate.seconds == 0.2
    estimate.see(5.0)
    assert estimate.seconds == 0.2
    for delay_s in np.arange(1, 11) / 10:
        estimate.see(delay_s)
    assert estimate.seconds == pytest.approx(0.91)  # linear between the 9th (0.9) and the 10th (1.0) of ten
    for _ in range(50):
        estimate.see(0.1)
    assert estimate.seconds == pytest.approx(0.1)


def test_a_delay_far_from_the_estimate_is_an_alarm():
    play = Play()
    play.run(3.0, lambda i: 0.18 if i == 8 else 0.05)
    assert [border.chunk for border in play.borders if border.delay_alarm] == [8]
    assert play.borders[7].expected_delay_s == pytest.approx(0.05)


def test_contradicting_chunks_are_rough_when_replaced_and_smooth_when_blended():
    rough = {}
    for blend in ("replace", "crossfade", "ensemble"):
        play = Play(replace(TIMING, blend=blend))
        play.run(4.0, lambda i: 0.1, offset=lambda i: 0.02 * (-1) ** i)
        rough[blend] = np.abs(np.diff(play.commands[150:], 2)).max() / TICK_S**2
    assert rough["crossfade"] < 0.7 * rough["replace"]
    assert rough["ensemble"] < 0.7 * rough["replace"]


def test_ensemble_by_hand():
    chunks = [Chunk(i, i * 0.1, 0.1, np.full((4, 1), value)) for i, value in enumerate((1.0, 4.0))]
    weights = np.exp([0.0, -0.5])
    means = ensemble(chunks, np.array([0.05, 0.1, 0.3, 0.4]), decay=0.5)
    both = (weights[0] * 1 + weights[1] * 4) / weights.sum()
    assert means[:, 0] == pytest.approx([1.0, both, both, 4.0])


def test_quintic_by_hand():
    rest = Point(np.zeros(1), np.zeros(1), np.zeros(1))
    c = quintic(rest, replace(rest, position=np.ones(1)), 2.0)
    assert c[:, 0] == pytest.approx([0, 0, 0, 10 / 8, -15 / 16, 6 / 32])  # 10s³ - 15s⁴ + 6s⁵ with s = t / 2


def test_curves_are_continuous_to_the_second_derivative():
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.03, 0.1, 9))
    start = Point(*rng.normal(size=(3, 2)))
    knots = np.vstack([start.position, rng.normal(size=(8, 2))])
    curve = through(times, knots, start, np.array([1.0, -1.0]))
    first = curve.at(times[0])
    assert first.velocity == pytest.approx(start.velocity) and first.acceleration == pytest.approx(start.acceleration)
    assert curve.at(times[-1]).velocity == pytest.approx([1.0, -1.0])
    for time_s, knot in zip(times[1:-1], knots[1:-1], strict=True):
        assert np.array_equal(curve.at(time_s).position, knot), "steps are met bit by bit"
        left, right = curve.at(time_s - 1e-7), curve.at(time_s + 1e-7)
        assert left.velocity == pytest.approx(right.velocity, abs=1e-2)
        assert left.acceleration == pytest.approx(right.acceleration, rel=1e-3, abs=1e-1)


def test_a_cubic_is_reproduced():
    times = np.linspace(0.0, 0.5, 6)
    values = times**3 - times
    curve = through(times, values[:, None], Point(np.zeros(1), -np.ones(1), np.zeros(1)), np.array([3 * 0.25 - 1]))
    for time_s in np.linspace(0, 0.5, 41):
        point = curve.at(time_s)
        assert point.position[0] == pytest.approx(time_s**3 - time_s) and point.velocity[0] == pytest.approx(3 * time_s**2 - 1)
    assert curve.peak_jerk(0.5)[0] == pytest.approx(6)


def test_jerk_of_one_piece_by_hand():
    # From rest by 1 in 2 s with velocity 0 at the end. The cubic would end with acceleration -6 Δ/T² = -1.5; so
    # c₃ = (10 - 6/2) / 8 = 7/8 and the jerk at the start, its peak, is 6 c₃ = 5.25.
    curve = through(np.array([0.0, 2.0]), np.array([[0.0], [1.0]]), Point(np.zeros(1), np.zeros(1), np.zeros(1)), np.zeros(1))
    assert curve.at(2.0).acceleration[0] == pytest.approx(-1.5)
    assert curve.peak_jerk(2.0)[0] == pytest.approx(5.25)


def test_times_must_grow():
    rest = Point(np.zeros(1), np.zeros(1), np.zeros(1))
    for times in ([0.0], [0.0, 0.0], [0.0, 0.1, 0.05]):
        with pytest.raises(ValueError, match="growing times"):
            through(np.array(times), np.zeros((len(times), 1)), rest, np.zeros(1))


def test_timing_of_a_profile():
    timing = timing_of(load_profile(ROOT / "configs" / "robots" / "arm7.yaml"), "crossfade")
    assert (timing.joints, timing.chunk_age_s, timing.ramp_s, timing.blend) == (8, 1.0, 1.0, "crossfade")
    assert timing.still[0] == pytest.approx(2.175e-3) and timing.far[0] == 0.5
