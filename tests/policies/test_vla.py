"""The VLA policy: shapes, units, determinism, use of every input, and its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from policies.config import PolicyConfig, TokenHeadConfig
from policies.folder import FolderError, load_policy, save_policy
from policies.interface import SpecError
from policies.normalize import Affine, Normalizer
from policies.vla import VlaPolicy
from tests.policies.helpers import IMAGE, SPEC, STATE, TEXT, observations


@pytest.fixture
def policy() -> VlaPolicy:
    torch.manual_seed(0)
    return VlaPolicy(PolicyConfig(head=TokenHeadConfig(bins=11)), SPEC)


def test_normalisation_by_hand() -> None:
    affine = Affine("x", (-2.0, 0.0), (2.0, 1.0))
    assert affine(torch.tensor([1.0, 0.25])).tolist() == [0.5, -0.5]
    assert affine.inverse(torch.tensor([0.5, -0.5])).tolist() == [1.0, 0.25]


def test_missing_or_empty_statistics_are_refused() -> None:
    with pytest.raises(SpecError, match=r"no normalisation statistics for 'observation.velocity'; there are"):
        Normalizer(SPEC)["observation.velocity"]
    with pytest.raises(SpecError, match="range of 'x' is empty"):
        Affine("x", (0.0,), (0.0,))


def test_sampled_chunks_are_in_the_units_of_the_spec(policy: VlaPolicy) -> None:
    chunk, decision = policy.sample(policy.encode(observations(64)), generator=torch.Generator().manual_seed(0))
    assert chunk.shape == (64, 4, 2)
    assert decision.values["tokens"].shape == (64, 8)
    low, high = chunk.amin((0, 1)), chunk.amax((0, 1))
    assert low.tolist() == pytest.approx([-0.1, 0.0], abs=1e-6)
    assert high.tolist() == pytest.approx([0.1, 1.0], abs=1e-6)


def test_sampling_repeats_with_the_generator(policy: VlaPolicy) -> None:
    context = policy.encode(observations(4))
    first, _ = policy.sample(context, generator=torch.Generator().manual_seed(3))
    again, _ = policy.sample(context, generator=torch.Generator().manual_seed(3))
    other, _ = policy.sample(context, generator=torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("entry", [IMAGE, STATE, TEXT])
def test_every_input_matters(policy: VlaPolicy, entry: str) -> None:
    torch.nn.init.normal_(policy.vision[0].film.weight, std=0.1)  # starts at zero
    obs = observations(2)
    changed = obs | {entry: observations(2, seed=1)[entry] if entry != TEXT else np.array(["push", "pull"])}
    difference = (policy.encode(obs).features - policy.encode(changed).features).abs().max()
    assert difference > 1e-4


def test_rows_do_not_mix(policy: VlaPolicy) -> None:
    whole = policy.encode(observations(4)).features
    alone = policy.encode({name: value[2:3] for name, value in observations(4).items()}).features
    assert torch.allclose(whole[2:3], alone, atol=1e-5)


def test_sft_overfits_one_batch(policy: VlaPolicy) -> None:
    obs, generator = observations(8), torch.Generator().manual_seed(0)
    chunk = torch.rand(8, 4, 2, generator=generator) * torch.tensor([0.2, 1.0]) - torch.tensor([0.1, 0.0])
    mask, weight = torch.ones(8, 4, 2, dtype=torch.bool), torch.ones(8)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3)
    for _ in range(60):
        loss = policy.sft_loss(policy.encode(obs), chunk, mask, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    greedy, _ = policy.sample(policy.encode(obs), "greedy")
    assert (greedy - chunk).abs().mean(dim=(0, 1)).tolist() == pytest.approx([0, 0], abs=0.06)


def test_folder_round_trip_is_exact(policy: VlaPolicy, tmp_path: Path) -> None:
    save_policy(policy, tmp_path / "p")
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["config.yaml", "policy.safetensors", "spec.json"]
    obs = observations(3)
    assert torch.equal(load_policy(tmp_path / "p").encode(obs).features, policy.encode(obs).features)


def _edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "policy.safetensors")
    edit(weights)
    save_file(weights, folder / "policy.safetensors")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w: w.pop("queries"), r"missing \['queries'\]"),
        (lambda w: w.update(bonus=torch.zeros(1)), r"unexpected \['bonus'\]"),
        (lambda w: w.update(queries=torch.zeros(9, 128)), r"'queries' has shape \(9, 128\), expected \(4, 128\)"),
        (lambda w: w["queries"].fill_(torch.nan), "'queries' holds NaN"),
        (lambda w: w.pop("normalizer.affine.action.low"), "normalisation statistics .* are missing"),
        (lambda w: w["normalizer.affine.action.low"].fill_(-5), r"statistic 'normalizer.affine.action.low' is \[-5.0, -5.0\]"),
    ],
)
def test_damaged_weights_are_named(
    policy: VlaPolicy, tmp_path: Path, edit: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    save_policy(policy, tmp_path)
    _edit_weights(tmp_path, edit)
    with pytest.raises(FolderError, match=message):
        load_policy(tmp_path)


def test_missing_file_truncated_weights_and_unknown_config_key(policy: VlaPolicy, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"not a policy folder: spec\.json, config\.yaml missing"):
        load_policy(tmp_path)
    save_policy(policy, tmp_path)
    content = (tmp_path / "policy.safetensors").read_bytes()
    (tmp_path / "policy.safetensors").unlink()
    with pytest.raises(FolderError, match=r"not a policy folder: policy\.safetensors missing"):
        load_policy(tmp_path)
    (tmp_path / "policy.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(FolderError, match="cannot be read"):
        load_policy(tmp_path)
    (tmp_path / "policy.safetensors").write_bytes(content)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"bin": 11}))
    with pytest.raises(FolderError, match="bin"):
        load_policy(tmp_path)


@pytest.mark.parametrize(("vision", "language"), [("efficientnet-lite0", "minilm"), ("keypoints", "minilm-words")])
def test_pretrained_encoders_score_identically_every_time(
    vision: Literal["keypoints", "efficientnet-lite0"], language: Literal["minilm", "minilm-words"]
) -> None:
    torch.manual_seed(0)
    policy = VlaPolicy(PolicyConfig(vision=vision, language=language), SPEC)
    obs = observations(3)
    with torch.no_grad():
        first, again = policy.encode(obs).features, policy.encode(obs).features
        alone = policy.encode({name: value[1:2] for name, value in obs.items()}).features
    assert torch.equal(first, again)
    assert torch.allclose(first[1:2], alone, atol=1e-4)


def test_unsuitable_spec_is_refused() -> None:
    image, state, text = SPEC.entries
    with pytest.raises(SpecError, match="multiples of 16"):
        VlaPolicy(PolicyConfig(), SPEC.model_copy(update={"entries": (image.model_copy(update={"shape": (30, 30, 3)}), state, text)}))
    with pytest.raises(SpecError, match="at least one state"):
        VlaPolicy(PolicyConfig(), SPEC.model_copy(update={"entries": (image, text)}))


def test_a_policy_without_a_camera_decides_from_state_and_words() -> None:
    _, state, text = SPEC.entries
    spec = SPEC.model_copy(update={"entries": (state, text)})
    torch.manual_seed(0)
    policy = VlaPolicy(PolicyConfig(), spec)
    obs = {name: value for name, value in observations(2).items() if name in (state.name, text.name)}
    told = obs | {text.name: np.array(["something else"] * 2)}
    with torch.no_grad():
        features, others = policy.encode(obs).features, policy.encode(told).features
    assert features.shape == (2, spec.chunk, policy.width)
    assert not torch.allclose(features, others)
