"""SmolVLA through the same algorithms as our own policies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("num2words", reason="SmolVLA needs the extra 'lerobot-vla'")

from policies.config import FlowHeadConfig
from policies.folder import load_policy, make_policy, save_policy
from policies.interface import Policy, SpecError
from tests.policies.tiny_vlm import make_vlm, tiny_smolvla
from tests.vla_rl.counting import SPEC, CountingEnv
from tests.vla_rl.test_training import rollouts
from vla_rl.algorithms.opd import Opd
from vla_rl.algorithms.sft import Sft
from vla_rl.config import OpdConfig, SftConfig
from vla_rl.teachers import PolicyTeacher, require_same_family


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vlm(tmp_path_factory.mktemp("vlm"))


def smolvla(vlm: Path, seed: int, steps: int = 2) -> Policy:
    torch.manual_seed(seed)
    return make_policy(tiny_smolvla(vlm, steps), SPEC)


def test_sft_then_opd_then_resume_from_the_folder(vlm: Path, tmp_path: Path) -> None:
    student, teacher = smolvla(vlm, 0), smolvla(vlm, 1)
    obs = CountingEnv(8).reset(range(8), range(8), ["count"] * 8)
    chunk, mask = torch.full((8, 4, 1), 0.7), torch.ones(8, 4, dtype=torch.bool)
    sft = Sft(teacher, SftConfig(steps=40, warmup=2, lr=3e-3, shift_px=0))
    losses = [sft.update(obs, chunk, mask, step, torch.Generator().manual_seed(step))["loss"] for step in range(40)]
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])
    opd = Opd(student, OpdConfig(updates=6, lr=2e-3, passes=2), PolicyTeacher(teacher))
    kls = [opd.update(rollouts(student), torch.Generator().manual_seed(0))["reverse_kl"] for _ in range(6)]
    assert kls[-1] < 0.5 * kls[0]
    save_policy(student, tmp_path / "policy")
    again = load_policy(tmp_path / "policy")
    before, after = student.state_dict(), again.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_another_number_of_denoising_steps_is_refused(vlm: Path) -> None:
    with pytest.raises(SpecError, match=r"student and teacher disagree on head\.steps: 2 against 4"):
        require_same_family(smolvla(vlm, 0), smolvla(vlm, 0, steps=4))


def test_learned_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="no head for learned noise"):
        tiny_smolvla(Path("vlm")).model_validate({"head": FlowHeadConfig(noise="learned")})
