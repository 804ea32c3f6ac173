"""Architecture settings of the project's own policies, and what each head supplies to objectives; without torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Positive = Annotated[int, Field(gt=0)]
Capability = Literal["sft", "log_prob", "kl", "mode", "entropy", "distance", "expert"]
"""What a head can supply: a supervised loss · the likelihood of what was drawn · a closed-form KL between two policies · the
most likely value of a factor · an entropy that training changes · a distance between network outputs · the factors that a
scripted expert's chunk implies."""

GAUSSIAN: frozenset[Capability] = frozenset({"sft", "log_prob", "kl", "mode", "distance", "expert"})
DETERMINISTIC: frozenset[Capability] = frozenset({"sft"})
TRAINED_ENTROPY: frozenset[Capability] = frozenset({"entropy"})


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TokenHeadConfig(_Settings):
    """Parallel action tokens: one categorical factor per action dimension and step (OpenVLA-OFT style)."""

    name: Literal["tokens"] = "tokens"
    bins: Annotated[int, Field(ge=3)] = 33
    """V: bins per action dimension, uniform over the action range."""

    @property
    def supplies(self) -> frozenset[Capability]:
        """What the head offers to objectives."""
        return frozenset({"sft", "log_prob", "kl", "mode", "entropy", "expert"})


class GaussianHeadConfig(_Settings):
    """One Gaussian over the chunk: its mean from the trunk, a learned standard deviation per action dimension."""

    name: Literal["gaussian"] = "gaussian"
    start_std: Annotated[float, Field(gt=0)] = 0.3
    """Initial standard deviation, in normalised action units."""
    min_std: Annotated[float, Field(gt=0)] = 0.05
    """Floor of the standard deviation."""

    @model_validator(mode="after")
    def _starts_above_the_floor(self) -> Self:
        if self.start_std <= self.min_std:
            raise ValueError(f"start_std must lie above min_std={self.min_std}, got {self.start_std}")
        return self

    @property
    def supplies(self) -> frozenset[Capability]:
        """What the head offers to objectives."""
        return GAUSSIAN | TRAINED_ENTROPY


class FlowHeadConfig(_Settings):
    """Flow matching: an ODE in evaluation; in training some denoising steps are stochastic, so that they have likelihoods."""

    name: Literal["flow"] = "flow"
    steps: Positive = 4
    """Denoising steps S from noise to chunk."""
    noise: Literal["flow_sde", "cps", "learned"] = "flow_sde"
    """How a stochastic step is made: marginal-preserving Flow-SDE (πRL, arXiv 2510.25889), coefficient-preserving
    sampling, or ODE steps with learned noise (ReinFlow, arXiv 2505.22094)."""
    noise_level: Annotated[float, Field(ge=0)] = 0.5
    """s of the noise schedule, or the initial standard deviation of learned noise; 0 makes the head deterministic."""
    stochastic: Literal["one", "all"] = "one"
    """Stochastic denoising steps per decision: one drawn at random (the others follow the ODE), or all."""
    min_std: Annotated[float, Field(gt=0)] = 0.02
    """Floor of a stochastic step's standard deviation; the last step of CPS would have none."""

    @model_validator(mode="after")
    def _schedule_in_range(self) -> Self:
        if self.noise == "cps" and self.noise_level > 1:
            raise ValueError(f"noise_level of cps must lie in 0..1 (it turns by π/2), got {self.noise_level}")
        if self.noise == "flow_sde" and self.steps < 2:
            raise ValueError("flow_sde needs at least 2 steps: its noise diverges when the only step starts at pure noise")
        return self

    @property
    def supplies(self) -> frozenset[Capability]:
        """What the head offers to objectives."""
        if self.noise_level == 0:
            return DETERMINISTIC
        return (GAUSSIAN | TRAINED_ENTROPY) - {"expert"} if self.noise == "learned" else GAUSSIAN


class DiffusionHeadConfig(_Settings):
    """Denoising diffusion that predicts the noise: DDIM without noise in evaluation, DDPM or DDIM with η in training."""

    name: Literal["diffusion"] = "diffusion"
    steps: Positive = 10
    """Denoising steps S from noise to chunk."""
    train_steps: Positive = 100
    """Length of the noise schedule that training draws from."""
    schedule: Literal["squaredcos_cap_v2", "linear", "scaled_linear"] = "squaredcos_cap_v2"
    """Noise schedule, by diffusers' name."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """Stochastic step in training."""
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """η of DDIM (arXiv 2010.02502 eq. 16); 0 makes the head deterministic. DDPM ignores it."""
    stochastic: Literal["one", "all"] = "one"
    """Stochastic denoising steps per decision: one drawn at random, or all."""
    min_std: Annotated[float, Field(gt=0)] = 0.02
    """Floor of a stochastic step's standard deviation; the last one would have none."""

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.train_steps % self.steps:
            raise ValueError(f"steps must divide train_steps={self.train_steps}, got {self.steps}")
        return self

    @property
    def supplies(self) -> frozenset[Capability]:
        """What the head offers to objectives."""
        return DETERMINISTIC if self.sampler == "ddim" and self.eta == 0 else GAUSSIAN


class MeanFlowHeadConfig(_Settings):
    """MeanFlow: one network call from noise to chunk (arXiv 2505.13447, MP1 2507.10543); Gaussian exploration in training."""

    name: Literal["meanflow"] = "meanflow"
    exploration_std: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of the noise on the chunk in training, in normalised action units; 0 makes the head deterministic."""
    guidance: Annotated[float, Field(gt=0)] = 1.0
    """ω of the guided velocity ωv + (1 − ω)u(z, t, t) (MP1: 2.0)."""
    same_time: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of training pairs with r = t, which are plain flow matching (MP1: 0.5)."""

    @property
    def supplies(self) -> frozenset[Capability]:
        """What the head offers to objectives."""
        return GAUSSIAN if self.exploration_std > 0 else DETERMINISTIC


HeadConfig = TokenHeadConfig | GaussianHeadConfig | FlowHeadConfig | DiffusionHeadConfig | MeanFlowHeadConfig


class _ChunkSettings(_Settings):
    """How far a policy plans and how much of it is executed."""

    chunk: Positive = 8
    """K: control steps per decision."""
    executed: Positive = 8
    """Control steps executed before the next decision."""

    @model_validator(mode="after")
    def _executed_within_chunk(self) -> Self:
        if self.executed > self.chunk:
            raise ValueError(f"executed must be at most chunk={self.chunk}, got {self.executed}")
        return self


class PolicyConfig(_ChunkSettings):
    """Architecture of the project's own vision-language-action policy; travels in the policy folder as `config.yaml`."""

    name: Literal["vla"] = "vla"
    """Policy family."""
    size: Literal["tiny", "small", "base"] = "tiny"
    """Width and depth of encoders and trunk; `tiny` trains on two CPU cores."""
    vision: Literal["conv", "keypoints", "efficientnet-lite0"] = "conv"
    """Image encoder: trained from scratch (`keypoints` finds small things that the instruction names), or ImageNet weights from
    the `pretrained` extra."""
    language: Literal["bytes", "minilm", "minilm-words"] = "bytes"
    """Instruction encoder: trained from scratch on bytes, or frozen MiniLM from the `pretrained` extra: its sentence embedding,
    or its words' features, of which a learned attention chooses."""
    head: Annotated[HeadConfig, Field(discriminator="name")] = TokenHeadConfig()
    """How the chunk is decided, chosen by `name`."""


class SmolVlaConfig(_ChunkSettings):
    """LeRobot's SmolVLA (arXiv 2506.01844); travels in the policy folder as `config.yaml`, beside LeRobot's own files."""

    name: Literal["smolvla"] = "smolvla"
    """Policy family."""
    pretrained: str | None = None
    """Hub id or local folder of SmolVLA weights to start from, such as lerobot/smolvla_base; random weights if unset."""
    vlm: str = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
    """Hub id or local folder of the vision-language model: its configuration, tokenizer and processor."""
    vlm_weights: bool = False
    """Load the vision-language model's own weights; not needed with `pretrained`."""
    vlm_layers: Positive = 16
    """Layers of it that are used."""
    resize_px: Positive = 512
    """Images are padded and resized to this height and width [pixel]."""
    train_expert_only: bool = True
    """Train the action expert and the state projection; the vision-language model stays as it is."""
    head: FlowHeadConfig = FlowHeadConfig(steps=10)
    """Denoising in rollouts and scoring; the network is SmolVLA's own."""

    @model_validator(mode="after")
    def _noise_from_a_schedule(self) -> Self:
        if self.head.noise == "learned":
            raise ValueError("SmolVLA has no head for learned noise; choose flow_sde or cps")
        return self


def _family(value: Any) -> str:
    """The family of a policy config, which is `vla` where nothing is said."""
    return value.get("name", "vla") if isinstance(value, dict) else value.name


AnyPolicyConfig = Annotated[Annotated[PolicyConfig, Tag("vla")] | Annotated[SmolVlaConfig, Tag("smolvla")], Discriminator(_family)]
"""Config of any policy family, chosen by `name`."""
