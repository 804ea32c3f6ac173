"""LeRobot's SmolVLA as a chunk policy: its weights, its processors and its folder format; our denoising chain.

    observation ─► LeRobot's preprocessor ─► prefix (images, instruction, state) ─► key-value cache = context
    noise ─► chain of denoising steps through LeRobot's `denoise_step` ─► LeRobot's postprocessor ─► chunk (K, A)

The folder is one that stock LeRobot loads (`config.json`, `model.safetensors`, processor files), with our `spec.json` and
`config.yaml` beside it. Normalisation belongs to LeRobot's processor files; a feature without statistics is refused.

B batch · K chunk steps · A action dimensions, padded to SmolVLA's own maximum inside · P prefix length · W its width
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import hf_hub_download
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.common.vla_utils import make_att_2d_masks
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.processor import NormalizerProcessorStep
from lerobot.utils.constants import ACTION, OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS, OBS_STATE
from safetensors import safe_open
from torch import nn
from transformers.cache_utils import DynamicCache

from policies.config import SmolVlaConfig
from policies.factors import Decision
from policies.gaussian import GaussianFactors
from policies.heads import flow
from policies.heads.chain import Network, Output, chain_factors, greedy_chain, sample_chain
from policies.heads.draw import executed_mode, given, randn
from policies.heads.flow import FlowProcess
from policies.heads.guidance import guided_chain
from policies.heads.reduce import weighted_mean
from policies.interface import Mode, Observation, PolicySpec, SpecError


@dataclass(frozen=True)
class SmolVlaContext:
    """The prefix's keys and values per layer, which the action expert attends to at every denoising step."""

    keys: tuple[torch.Tensor, ...]
    """Per layer `(B, heads, P, D)`."""
    values: tuple[torch.Tensor, ...]
    mask: torch.Tensor
    """`(B, P)` bool, false for padding."""
    pooled: torch.Tensor
    """`(B, W)` mean of the prefix's last hidden states."""

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, index: torch.Tensor) -> SmolVlaContext:
        keys, values = (tuple(layer[index] for layer in layers) for layers in (self.keys, self.values))
        return SmolVlaContext(keys, values, self.mask[index], self.pooled[index])


class SmolVlaPolicy(nn.Module):
    """A `ChunkPolicy` around `lerobot.policies.smolvla` (see `policies.interface`)."""

    def __init__(self, config: SmolVlaConfig, spec: PolicySpec, folder: Path | None = None) -> None:
        """Make a policy from `config`, or load the one in `folder`. Raises `SpecError` for what SmolVLA cannot do."""
        super().__init__()
        _require_supported(spec)
        self.config, self.spec = config, spec
        self.autocast: torch.dtype | None = None
        source = str(folder) if folder else config.pretrained
        settings = _lerobot_config(config, spec)
        if source:
            self.lerobot = SmolVLAPolicy.from_pretrained(source, config=settings, strict=folder is not None)
            _require_weights(self.lerobot, source)
        else:
            self.lerobot = SmolVLAPolicy(settings)
        self.preprocessor, self.postprocessor = make_pre_post_processors(
            settings, str(folder) if folder else None, dataset_stats=None if folder else _statistics(spec)
        )
        self.process = FlowProcess(config.head)
        self.eval()
        _require_statistics(self.statistics(), folder)

    @property
    def trunk(self) -> nn.Module:
        """The vision-language model with the action expert."""
        return self.lerobot.model.vlm_with_expert

    @property
    def width(self) -> int:
        """W: size of `pooled`."""
        return self.lerobot.model.vlm_with_expert.config.text_config.hidden_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lerobot.model.state_proj.weight.device

    def statistics(self) -> dict[str, torch.Tensor]:
        """Normalisation statistics by name, from LeRobot's preprocessor."""
        step = next(step for step in self.preprocessor.steps if isinstance(step, NormalizerProcessorStep))
        return step.state_dict()

    def normalised(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """State entry `name` `(B, S)` by LeRobot's processor."""
        return self._normalised(value, name)

    def encode(self, obs: Observation) -> SmolVlaContext:
        """Run the vision-language model on B observations. Raises `SpecError` for an observation off the spec."""
        self.spec.check(obs)
        model, batch = self.lerobot.model, self._batch(obs)
        vlm: Any = model.vlm_with_expert  # its annotations are narrower than what it takes
        images, image_masks = self.lerobot.prepare_images(batch)
        state = self.lerobot.prepare_state(batch)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            prefix, mask, attention = model.embed_prefix(
                images, image_masks, batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK], state=state
            )
            (hidden, _), cache = vlm.forward(
                attention_mask=make_att_2d_masks(mask, attention),
                position_ids=torch.cumsum(mask, dim=1) - 1,
                past_key_values=None,
                inputs_embeds=[prefix, None],
                use_cache=True,
            )
        keys, values = (tuple(getattr(layer, name) for layer in cache.layers) for name in ("keys", "values"))
        share = mask / mask.sum(1, keepdim=True)
        return SmolVlaContext(keys, values, mask, (hidden.float() * share[..., None]).sum(1))

    def pooled(self, context: SmolVlaContext) -> torch.Tensor:
        """`(B, W)` mean over the prefix."""
        return context.pooled

    def sample(
        self, context: SmolVlaContext, mode: Mode = "stochastic", temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, Decision]:
        """Draw one chunk `(B, K, A)` per context row, in the spec's units. Greedy is LeRobot's own sampler."""
        mode = executed_mode(mode, self.config.head)
        noise = randn((len(context), *self.noise_shape), generator, self.device)
        padded, decision = sample_chain(
            self.process, self._network(context), noise, mode, self.config.head.stochastic, temperature, generator
        )
        return self.postprocessor(padded[..., : self.spec.action.dim]), decision

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Shape of the initial noise of a greedy chunk: with SmolVLA's padded action dimension."""
        return self.lerobot.config.chunk_size, self.lerobot.config.max_action_dim

    def greedy(self, context: SmolVlaContext, noise: torch.Tensor | None) -> torch.Tensor:
        """The greedy chunk `(B, K, A)` in the spec's units, from `noise` `(B, *noise_shape)`."""
        return self.postprocessor(greedy_chain(self.process, self._network(context), given(noise))[..., : self.spec.action.dim])

    @property
    def takes_prefix(self) -> bool:
        """SmolVLA is a flow policy."""
        return True

    def guided(self, context: SmolVlaContext, noise: torch.Tensor, prefix: torch.Tensor, committed: int) -> torch.Tensor:
        """The greedy chunk `(B, K, A)` drawn to `prefix` `(B, P, A)`, in the spec's units."""
        wanted = self._pad(self._normalised(prefix))
        found = guided_chain(self.process, self._network(context), noise, wanted, committed)
        return self.postprocessor(found[..., : self.spec.action.dim])

    def factors(self, context: SmolVlaContext, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
        """Transition of each stochastic step; padded action dimensions do not count. `mask` `(B, K, A)` bool."""
        return chain_factors(self.process, self._network(context), decision, self._pad(mask))

    def implied_factors(self, mean: torch.Tensor, std: float, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
        """Transitions of the exact denoiser of chunks N(mean, std²); `mean` `(B, K, A)` in the spec's units."""
        centre, index = self._pad(self._normalised(mean)), decision.values["index"]
        step = iter(range(index.shape[1]))
        return chain_factors(
            self.process,
            lambda x, time: Output(self.process.implied(x, index[:, next(step)], centre, std)),
            decision,
            self._pad(mask),
        )

    def sft_loss(
        self,
        context: SmolVlaContext,
        chunk: torch.Tensor,
        mask: torch.Tensor,
        weight: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Squared error of the velocity at random times: SmolVLA's own loss over real action dimensions. Scalar."""
        clean = self._pad(self._normalised(chunk))
        noise = randn(clean.shape, generator, self.device)
        time = flow.training_time(len(clean), generator, self.device)
        x, target = flow.training_pair(clean, noise, time)
        return weighted_mean((self._network(context)(x, time).value - target) ** 2, self._pad(mask), weight)

    def save(self, folder: Path) -> None:
        """Write LeRobot's files: config, weights and processors. A crash leaves each file old or new."""
        with TemporaryDirectory(dir=folder, prefix=".part-") as part:
            for piece in (self.lerobot, self.preprocessor, self.postprocessor):
                piece.save_pretrained(part)
            for file in Path(part).iterdir():
                os.replace(file, folder / file.name)

    def _network(self, context: SmolVlaContext) -> Network:
        cache = DynamicCache()  # one for the whole chain: each step cuts it back to the prefix
        for layer, (keys, values) in enumerate(zip(context.keys, context.values, strict=True)):
            cache.update(keys, values, layer)

        def velocity(x: torch.Tensor, time: torch.Tensor) -> Output:
            with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                return Output(self.lerobot.model.denoise_step(context.mask, cache, x, time).float())

        return velocity

    def _batch(self, obs: Observation) -> dict[str, Any]:
        """LeRobot's model input: images `(B, 3, H, W)` in [0, 1], through its preprocessor."""
        batch: dict[str, Any] = {"task": [str(text) for text in np.asarray(obs[self.spec.of_kind("text")[0].name])]}
        for entry in self.spec.of_kind("image"):
            batch[entry.name] = torch.as_tensor(obs[entry.name]).permute(0, 3, 1, 2).float() / 255
        batch[OBS_STATE] = torch.as_tensor(obs[OBS_STATE])
        return {name: value.to(self.device) if torch.is_tensor(value) else value for name, value in self.preprocessor(batch).items()}

    def _normalised(self, value: torch.Tensor, feature: str = ACTION) -> torch.Tensor:
        statistics = self.statistics()
        mean, std = (statistics[f"{feature}.{name}"].to(value) for name in ("mean", "std"))
        return (value - mean) / std

    def _pad(self, value: torch.Tensor) -> torch.Tensor:
        """`(..., A)` → SmolVLA's padded action dimension."""
        return F.pad(value, (0, self.lerobot.config.max_action_dim - value.shape[-1]))


def _lerobot_config(config: SmolVlaConfig, spec: PolicySpec) -> SmolVLAConfig:
    images = {entry.name: PolicyFeature(FeatureType.VISUAL, (3, *entry.shape[:2])) for entry in spec.of_kind("image")}
    return SmolVLAConfig(
        input_features=images | {OBS_STATE: PolicyFeature(FeatureType.STATE, spec.of_kind("state")[0].shape)},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (spec.action.dim,))},
        chunk_size=spec.chunk,
        n_action_steps=spec.executed,
        num_steps=config.head.steps,
        vlm_model_name=config.vlm,
        load_vlm_weights=config.vlm_weights and config.pretrained is None,
        num_vlm_layers=config.vlm_layers,
        resize_imgs_with_padding=(config.resize_px, config.resize_px),
        train_expert_only=config.train_expert_only,
        device="cpu",
        push_to_hub=False,
    )


def _statistics(spec: PolicySpec) -> dict[str, dict[str, torch.Tensor]]:
    """Mean and standard deviation that map each range of the spec to [-1, 1], as our own heads do."""
    ranges = {OBS_STATE: (spec.of_kind("state")[0].low, spec.of_kind("state")[0].high), ACTION: (spec.action.low, spec.action.high)}
    ends = {key: (torch.tensor(low), torch.tensor(high)) for key, (low, high) in ranges.items()}
    return {key: {"mean": (high + low) / 2, "std": (high - low) / 2} for key, (low, high) in ends.items()}


def _require_weights(policy: SmolVLAPolicy, source: str) -> None:
    """LeRobot only logs weights that a pretrained checkpoint lacks, and leaves them random; here that is an error."""
    file = Path(source) / "model.safetensors"
    if not file.is_file():
        file = Path(hf_hub_download(source, "model.safetensors"))
    with safe_open(file, "pt") as stored:
        names = set(stored.keys())
    weights = policy.state_dict()
    found = {weights[name].data_ptr() for name in names & weights.keys()}  # of tied weights one is stored
    missing = [name for name, value in weights.items() if name not in names and value.data_ptr() not in found]
    if missing:
        raise SpecError(f"{source} lacks {len(missing)} of the policy's tensors, such as {missing[0]}; check vlm and vlm_layers")


def _require_statistics(statistics: dict[str, torch.Tensor], folder: Path | None) -> None:
    """LeRobot passes a feature without statistics on unchanged; here that is an error."""
    wanted = [f"{key}.{name}" for key in (OBS_STATE, ACTION) for name in ("mean", "std")]
    missing = [name for name in wanted if name not in statistics]
    if missing:
        raise SpecError(f"{folder or 'the new policy'}: LeRobot's processor files hold no normalisation statistics {', '.join(missing)}")


def _require_supported(spec: PolicySpec) -> None:
    states, texts = [entry.name for entry in spec.of_kind("state")], spec.of_kind("text")
    if states != [OBS_STATE] or len(texts) != 1 or not spec.of_kind("image"):
        kinds = {entry.name: entry.kind for entry in spec.entries}
        raise SpecError(f"SmolVLA needs one state named {OBS_STATE}, one text entry and at least one image; the spec has {kinds}")
