"""Specs: what an observation must look like, and how differences are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from policies.interface import Entry, PolicySpec, SpecError
from tests.policies.helpers import IMAGE, SPEC, STATE, TEXT, observations


def test_round_trip(tmp_path: Path) -> None:
    SPEC.save(tmp_path / "spec.json")
    assert PolicySpec.load(tmp_path / "spec.json") == SPEC


def test_check_accepts_numpy_and_torch() -> None:
    obs = observations(3)
    SPEC.check(obs)
    SPEC.check(obs | {IMAGE: torch.as_tensor(obs[IMAGE]), STATE: torch.as_tensor(obs[STATE])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation.images.wrist": np.zeros((3, 32, 32, 3), np.uint8)}, r"not in the spec \['observation.images.wrist'\]"),
        ({IMAGE: np.zeros((3, 32, 48, 3), np.uint8)}, r"'observation.images.front' has shape \(3, 32, 48, 3\)"),
        ({IMAGE: np.zeros((3, 32, 32, 3), np.float32)}, "dtype float32, the spec wants uint8"),
        ({STATE: np.zeros((3, 2), np.float64)}, "dtype float64, the spec wants float32"),
        ({TEXT: np.zeros(3, np.int64)}, "dtype int64, the spec wants str"),
    ],
)
def test_check_names_the_entry(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        SPEC.check(observations(3) | change)


def test_check_names_a_missing_camera() -> None:
    obs = observations(3)
    del obs[IMAGE]
    with pytest.raises(SpecError, match=r"missing \['observation.images.front'\]"):
        SPEC.check(obs)


def test_require_same_names_the_field() -> None:
    with pytest.raises(SpecError, match="student and teacher disagree on chunk: 4 against 8"):
        SPEC.require_same(SPEC.model_copy(update={"chunk": 8}), "student and teacher")
    image, *others = SPEC.entries
    wrist = image.model_copy(update={"frame": "wrist"})
    with pytest.raises(SpecError, match=r"entries.observation.images.front.frame: front against wrist"):
        SPEC.require_same(SPEC.model_copy(update={"entries": (wrist, *others)}), "student and teacher")
    with pytest.raises(SpecError, match=r"entries.observation.state.*against absent"):
        SPEC.require_same(SPEC.model_copy(update={"entries": (image, others[1])}), "student and teacher")


def test_invalid_specs_are_refused() -> None:
    with pytest.raises(ValidationError, match="executed must lie in"):
        PolicySpec.model_validate(SPEC.model_dump() | {"executed": 5})
    with pytest.raises(ValidationError, match="needs names, low and high"):
        Entry(name="s", kind="state", shape=(2,), names=("x",), low=(0,), high=(1,))
    with pytest.raises(ValidationError, match="Extra inputs"):
        PolicySpec.model_validate(SPEC.model_dump() | {"hz": 5})
