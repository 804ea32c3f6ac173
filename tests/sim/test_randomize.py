"""Draws of randomisation and what is refused; without a physics engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from sim.randomize import TERMS, Randomize, Randomizer, require_supported
from sim.robots import ARM7
from sim.tasks import TASKS
from sim.vec_env import SimulationError

BLOCKS, CABINET = TASKS["lift"].scene, TASKS["drawer"].scene
HZ = 20.0
WIDE: dict[str, Any] = {
    "physics": {"mass": (0.5, 2.0), "friction": (0.6, 1.4), "stiffness": (0.8, 1.2), "damping": (0.9, 1.1)},
    "timing": {"action_delay_s": (0.0, 0.08), "image_delay_s": (0.05, 0.2), "state_delay_s": (0.0, 0.1), "image_dropout": (0.1, 0.3)},
    "camera": {"position_m": 0.03, "lookat_m": 0.02, "fovy_deg": 2.0},
    "light": {"tilt_deg": 20.0, "intensity": (0.6, 1.4)},
    "colour": {"hue_deg": 8.0, "saturation": (0.8, 1.2), "value": (0.7, 1.2), "surface_hue_deg": 90.0, "surface_value": (0.6, 1.2)},
    "image": {"contrast": (0.8, 1.2), "brightness": (-20.0, 20.0), "blur_px": (0.0, 1.0), "noise": (2.0, 6.0)},
}


def randomizer(**groups: Any) -> Randomizer:
    return Randomizer(Randomize(**groups), HZ)


def histogram(path: Path, **change: Any) -> Path:
    path.write_text(json.dumps({"unit": "s", "edges": [0.0, 0.1, 0.3], "counts": [1, 3], "stream": "camera"} | change))
    return path


def test_everything_is_off_by_default_and_a_draw_then_changes_nothing() -> None:
    assert Randomize().active == frozenset()
    assert Randomize(**WIDE).active < TERMS and Randomize(**WIDE, enabled=False).active == frozenset()
    for config in (Randomize(), Randomize(**WIDE, enabled=False)):
        draws = Randomizer(config, HZ)
        v = draws.draw(7, CABINET, ARM7)
        assert v.mass == (1.0,) * 3 and v.stiffness == v.damping == (1.0,) * 8 and v.hue_deg == (0.0,) * 3
        assert (v.friction, v.fovy_deg, v.light_intensity, v.contrast, v.brightness, v.blur_px, v.noise) == (1, 0, 1, 1, 0, 0, 0)
        moment = draws.moment(v, 3)
        assert (moment.action_delay_s, moment.image_delay_s, moment.state_delay_s) == (0, 0, 0)
        assert not moment.image_lost and not moment.state_lost


def test_draws_depend_on_the_seed_alone_and_stay_in_range() -> None:
    draws = [randomizer(**WIDE).draw(seed, BLOCKS, ARM7) for seed in range(50)]
    assert draws == [randomizer(**WIDE).draw(seed, BLOCKS, ARM7) for seed in range(50)]
    assert len({v.mass for v in draws}) == 50
    mass = np.array([v.mass for v in draws])
    assert mass.shape == (50, 4) and 0.5 <= mass.min() < 0.55 and 1.9 < mass.max() <= 2.0
    assert np.abs([v.camera_position_m for v in draws]).max() <= 0.03
    assert min(v.camera_position_m[0] for v in draws) < -0.02 and max(v.camera_position_m[0] for v in draws) > 0.02
    assert np.abs([v.hue_deg for v in draws]).max() <= 8 and len(draws[0].hue_deg) == 6


def test_a_term_moves_no_other_and_a_larger_scene_no_draw() -> None:
    some = randomizer(physics={"mass": (0.5, 2.0)}).draw(3, BLOCKS, ARM7)
    all_on = randomizer(**WIDE)
    assert some.mass == all_on.draw(3, BLOCKS, ARM7).mass
    assert all_on.draw(3, CABINET, ARM7).mass == some.mass[:3]


def test_a_range_of_delays_is_one_per_episode_and_losses_are_one_per_step() -> None:
    draws = randomizer(**WIDE)
    v = draws.draw(5, BLOCKS, ARM7)
    moments = [draws.moment(v, step) for step in range(400)]
    assert len({(m.action_delay_s, m.image_delay_s, m.state_delay_s) for m in moments}) == 1
    assert 0.05 <= moments[0].image_delay_s <= 0.2
    assert 0.1 <= v.image_dropout <= 0.3 and abs(np.mean([m.image_lost for m in moments]) - v.image_dropout) < 0.08
    assert not any(m.state_lost for m in moments)
    other = draws.moment(draws.draw(6, BLOCKS, ARM7), 0)
    assert other.image_delay_s != moments[0].image_delay_s


def test_a_histogram_is_drawn_anew_in_every_step(tmp_path: Path) -> None:
    draws = randomizer(timing={"image_delay_file": histogram(tmp_path / "camera.json")})
    v = draws.draw(5, BLOCKS, ARM7)
    ages = np.array([draws.moment(v, step).image_delay_s for step in range(2000)])
    assert abs(np.mean(ages < 0.1) - 0.25) < 0.04, "one count of four lies below 0.1 s"
    assert 0 <= ages.min() < 0.01 and 0.29 < ages.max() <= 0.3
    assert ages[5] == draws.moment(v, 5).image_delay_s


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"physics": {"mass": (-1.0, 1.0)}}, r"physics.mass\n.*0.1 <= low <= high <= 10, got \[-1, 1\]"),
        ({"physics": {"friction": (0.0, 1.0)}}, r"physics.friction\n.*0.1 <= low.*got \[0, 1\]"),
        ({"physics": {"friction": (1.0, 30.0)}}, r"physics.friction\n.*high <= 3, got \[1, 30\]"),
        ({"physics": {"stiffness": (1.2, 0.8)}}, r"physics.stiffness\n.*got \[1.2, 0.8\]"),
        ({"physics": {"mass": (1.0, float("nan"))}}, r"physics.mass\n.*got \[1, nan\]"),
        ({"timing": {"image_delay_s": (0.0, 0.8)}}, r"timing.image_delay_s\n.*high <= 0.5, got \[0, 0.8\]"),
        ({"timing": {"image_dropout": (0.0, 1.0)}}, r"timing.image_dropout\n.*high <= 0.9"),
        ({"timing": {"action_delay_s": (0.0, 0.1), "action_delay_file": "a.json"}}, "action_delay_s and action_delay_file exclude"),
        ({"colour": {"hue_deg": 120.0}}, r"colour.hue_deg\n.*less than or equal to 8"),
        ({"camera": {"position_m": -0.1}}, r"camera.position_m\n.*greater than or equal to 0"),
        ({"physics": {"weight": (1.0, 1.0)}}, r"physics.weight\n.*[Ee]xtra"),
    ],
)
def test_nonsense_is_refused_at_load(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Randomize(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "ms"}, "camera.json is no latency histogram: unit: Input should be 's'"),
        ({"edges": [0.0, 0.1]}, "one more of edges than of counts, got 2 and 2"),
        ({"edges": [0.0, 0.2, 0.1]}, "edges must rise"),
        ({"counts": [0, 0]}, "counts must not be negative and not all 0"),
        ({"edges": [0.0, 0.1, 3.0]}, "latencies reach from 0 to 3 s, allowed are 0 to 0.5 s"),
        ({"counts": [1.5, 1]}, "counts.0"),
    ],
)
def test_wrong_histograms_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        randomizer(timing={"image_delay_file": histogram(tmp_path / "camera.json", **change)})


def test_an_empty_tail_beyond_the_memory_is_no_harm_and_a_missing_file_is_named(tmp_path: Path) -> None:
    histogram(tmp_path / "tail.json", edges=[0.0, 0.1, 3.0], counts=[4, 0])
    assert randomizer(timing={"action_delay_file": tmp_path / "tail.json"}).config.active == {"timing.action_delay_file"}
    with pytest.raises(SimulationError, match=r"cannot read the latency histogram .*gone.json: No such file"):
        randomizer(timing={"action_delay_file": tmp_path / "gone.json"})


def test_an_observation_delay_that_would_round_to_nothing_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"timing.state_delay_s goes up to 0.02 s, which rounds to no control step of 0.05 s"):
        randomizer(timing={"state_delay_s": (0.0, 0.02)})


def test_terms_that_a_backend_lacks_are_named() -> None:
    config = Randomize(physics={"mass": (0.5, 2.0), "friction": (0.5, 1.0)}, image={"noise": (0.0, 4.0)})  # type: ignore[arg-type]
    require_supported(config, "mujoco", TERMS)
    with pytest.raises(SimulationError, match=r"backend 'other' cannot randomise image.noise, physics.mass; it can: physics.friction"):
        require_supported(config, "other", {"physics.friction"})
    require_supported(config.model_copy(update={"enabled": False}), "other", ())
