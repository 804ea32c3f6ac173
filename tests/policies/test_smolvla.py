"""LeRobot's SmolVLA behind our interface: the same numbers as LeRobot, and a folder that stock LeRobot loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("num2words", reason="SmolVLA needs the extra 'lerobot-vla'")

from policies.deployed import draw_noise, open_bundle
from policies.folder import FolderError, load_policy, make_policy, save_policy
from policies.interface import PolicyError, SpecError, UserError
from policies.pack import pack
from policies.smolvla import SmolVlaPolicy
from tests.policies.bundles import describe
from tests.policies.helpers import IMAGE, SPEC, STATE, TEXT, observations
from tests.policies.tiny_vlm import make_vlm, tiny_smolvla

MASK = torch.ones(5, 4, 2, dtype=torch.bool)


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vlm(tmp_path_factory.mktemp("vlm"))


@pytest.fixture(scope="module")
def policy(vlm: Path) -> SmolVlaPolicy:
    torch.manual_seed(0)
    policy = make_policy(tiny_smolvla(vlm), SPEC)
    assert isinstance(policy, SmolVlaPolicy)
    return policy


def lerobot_chunk(policy: SmolVlaPolicy, seed: int) -> torch.Tensor:
    """What LeRobot itself predicts from the noise that our generator draws."""
    obs, settings = observations(5), policy.lerobot.config
    noise = torch.randn((5, settings.chunk_size, settings.max_action_dim), generator=torch.Generator().manual_seed(seed))
    batch = {IMAGE: torch.as_tensor(obs[IMAGE]).permute(0, 3, 1, 2) / 255, STATE: torch.as_tensor(obs[STATE]), TEXT: list(obs[TEXT])}
    return policy.postprocessor(policy.lerobot.predict_action_chunk(policy.preprocessor(batch), noise=noise))


@pytest.mark.parametrize("steps", [4, 10])
def test_greedy_chunks_are_lerobots_own(vlm: Path, steps: int) -> None:
    torch.manual_seed(0)
    policy = make_policy(tiny_smolvla(vlm, steps), SPEC)
    assert isinstance(policy, SmolVlaPolicy)
    noise = torch.randn((5, *policy.noise_shape), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        context = policy.encode(observations(5))
        chunk, _ = policy.sample(context, "greedy", 1.0, torch.Generator().manual_seed(7))
        assert torch.equal(policy.greedy(context, noise), chunk)
    assert torch.equal(chunk, lerobot_chunk(policy, 7))


def test_a_chunk_continues_what_is_committed(policy: SmolVlaPolicy) -> None:
    noise = torch.randn((5, *policy.noise_shape), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        context = policy.encode(observations(5))
        own = policy.greedy(context, noise)
        wanted = own[:, :3] + 0.1
        chunk = policy.guided(context, noise, wanted, 2)
        again = policy.greedy(context, noise)
    assert policy.takes_prefix and chunk.shape == own.shape
    assert (chunk[:, :2] - wanted[:, :2]).abs().mean() < 0.5 * (own[:, :2] - wanted[:, :2]).abs().mean()
    assert torch.equal(again, own), "the context is as it was"


def test_stock_lerobot_loads_the_folder_and_acts_identically(policy: SmolVlaPolicy, tmp_path: Path) -> None:
    save_policy(policy, tmp_path / "policy")
    np.savez(tmp_path / "obs.npz", **observations(5))
    script = f"""
import numpy as np, torch
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.configs import PreTrainedConfig
config = PreTrainedConfig.from_pretrained("{tmp_path}/policy")
policy = get_policy_class(config.type).from_pretrained("{tmp_path}/policy", config=config, strict=True)
pre, post = make_pre_post_processors(config, pretrained_path="{tmp_path}/policy")
obs = np.load("{tmp_path}/obs.npz")
batch = {{"{IMAGE}": torch.as_tensor(obs["{IMAGE}"]).permute(0, 3, 1, 2) / 255, "{STATE}": torch.as_tensor(obs["{STATE}"]),
         "task": [str(text) for text in obs["{TEXT}"]]}}
noise = torch.randn((5, config.chunk_size, config.max_action_dim), generator=torch.Generator().manual_seed(7))
np.save("{tmp_path}/chunk.npy", post(policy.predict_action_chunk(pre(batch), noise=noise)).numpy())
"""
    subprocess.run([sys.executable, "-P", "-c", script], check=True, cwd=tmp_path, capture_output=True)
    loaded = load_policy(tmp_path / "policy")
    with torch.no_grad():
        chunk, _ = loaded.sample(loaded.encode(observations(5)), "greedy", 1.0, torch.Generator().manual_seed(7))
    assert torch.equal(chunk, torch.as_tensor(np.load(tmp_path / "chunk.npy")))


def test_sft_loss_is_lerobots_with_the_same_noise_and_time(policy: SmolVlaPolicy) -> None:
    from policies.heads.flow import training_time

    obs, settings = observations(5), policy.lerobot.config
    chunk = torch.rand(5, 4, 2) * 0.1
    ours = policy.sft_loss(policy.encode(obs), chunk, MASK, torch.ones(5), torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn((5, settings.chunk_size, settings.max_action_dim), generator=generator)
    time = training_time(5, generator, torch.device("cpu"))
    batch = {IMAGE: torch.as_tensor(obs[IMAGE]).permute(0, 3, 1, 2) / 255, STATE: torch.as_tensor(obs[STATE]), TEXT: list(obs[TEXT])}
    theirs, _ = policy.lerobot.forward(policy.preprocessor(batch | {"action": chunk}), noise=noise, time=time)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4)


def test_padded_dimensions_and_unexecuted_steps_do_not_count(policy: SmolVlaPolicy) -> None:
    with torch.no_grad():
        context = policy.encode(observations(5))
        _, decision = policy.sample(context, "stochastic", 1.0, torch.Generator().manual_seed(0))
        mask = MASK.clone()
        mask[:, 3:] = False
        factors = policy.factors(context, decision, mask)
        before = factors.log_prob()
        factors.value[..., 2:] += 1  # padded dimensions
        factors.value[:, :, 3:] += 1  # a step that was not executed
        assert torch.equal(factors.log_prob(), before)
        factors.value[:, :, 0, 0] += 1
        assert not torch.equal(factors.log_prob(), before)


def test_rows_of_a_context_are_those_of_the_batch(policy: SmolVlaPolicy) -> None:
    index = torch.tensor([3, 3, 0])
    with torch.no_grad():
        context = policy.encode(observations(5))
        _, decision = policy.sample(context, "stochastic", 1.0, torch.Generator().manual_seed(0))
        whole, part = (policy.factors(c, d, m) for c, d, m in ((context, decision, MASK), (context[index], decision[index], MASK[:3])))
    assert torch.allclose(whole.log_prob()[index], part.log_prob(), atol=1e-4)


def test_without_noise_it_acts_greedily_and_has_no_likelihood(vlm: Path) -> None:
    settings = tiny_smolvla(vlm)
    policy = make_policy(settings.model_copy(update={"head": settings.head.model_copy(update={"noise_level": 0.0})}), SPEC)
    context = policy.encode(observations(2))
    chunks = [policy.sample(context, mode, 1.0, torch.Generator().manual_seed(0)) for mode in ("stochastic", "greedy")]
    assert torch.equal(chunks[0][0], chunks[1][0]) and chunks[0][1].mode == "greedy"
    with pytest.raises(PolicyError, match="nothing to score"):
        policy.factors(context, chunks[0][1], torch.ones(2, SPEC.chunk, SPEC.action.dim, dtype=torch.bool))


def test_gradients_reach_the_expert_through_the_cached_prefix(policy: SmolVlaPolicy) -> None:
    context = policy.encode(observations(5))
    _, decision = policy.sample(context, "stochastic", 1.0, torch.Generator().manual_seed(0))
    policy.factors(policy.encode(observations(5)), decision, MASK).log_prob().sum().backward()
    touched = {
        name.split(".")[3] for name, p in policy.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0 and "vlm" in name
    }
    assert {"lm_expert", "vlm"} <= touched
    policy.zero_grad()


def test_missing_statistics_and_files_are_refused(policy: SmolVlaPolicy, tmp_path: Path) -> None:
    save_policy(policy, tmp_path / "policy")
    steps = json.loads((tmp_path / "policy" / "policy_preprocessor.json").read_text())["steps"]
    state = next(step["state_file"] for step in steps if "normalizer" in step["registry_name"])
    from safetensors.torch import load_file, save_file

    kept = {name: value for name, value in load_file(tmp_path / "policy" / state).items() if not name.startswith("action.")}
    save_file(kept, tmp_path / "policy" / state)
    with pytest.raises(SpecError, match=r"no normalisation statistics action\.mean, action\.std"):
        load_policy(tmp_path / "policy")
    (tmp_path / "policy" / "model.safetensors").unlink()
    with pytest.raises(FolderError, match=r"not a policy folder: model\.safetensors missing"):
        load_policy(tmp_path / "policy")


def test_specs_that_smolvla_cannot_see_are_refused(vlm: Path) -> None:
    with pytest.raises(SpecError, match=r"SmolVLA needs one state named observation\.state"):
        make_policy(tiny_smolvla(vlm), SPEC.model_copy(update={"entries": SPEC.entries[:1]}))


def test_a_bundle_acts_as_the_policy(policy: SmolVlaPolicy, tmp_path: Path) -> None:
    bundle = describe(policy)
    pack(policy, bundle, observations(2), tmp_path / "bundle")
    noise = draw_noise(bundle, 1, 3)
    obs = observations(1)
    with torch.no_grad():
        wanted = policy.greedy(policy.encode(obs), torch.as_tensor(noise)).numpy()
    assert np.array_equal(open_bundle(tmp_path / "bundle").chunk(obs, seed=3), wanted)
    with pytest.raises(UserError, match="family 'smolvla' has no ONNX form"):
        pack(policy, bundle, observations(2), tmp_path / "onnx", onnx=True)
    assert not (tmp_path / "onnx").exists()
