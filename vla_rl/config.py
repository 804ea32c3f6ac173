"""Every setting of a training run, as frozen pydantic models; presets in `configs/` hold differences only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.config import AnyPolicyConfig, Capability, PolicyConfig
from sim.randomize import Randomize
from sim.resets import DefaultResets, Resets

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
LossMean = Literal["factor", "rollout"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and documents its fields by their docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SimConfig(Strict):
    """Which simulator, tasks and observation."""

    backend: Literal["metaworld", "mujoco", "isaaclab", "libero"] = "metaworld"
    """Simulator: Meta-World's tasks, the tabletop suite in MuJoCo or in Isaac Lab, the humanoid in either, or LIBERO's tasks."""
    tasks: tuple[str, ...] = ("button-press-topdown", "window-open", "door-open", "drawer-open")
    """Task names of the backend, without version suffix."""
    num_envs: Positive = 32
    """Environments simulated at once."""
    workers: Positive = 2
    """Physics worker processes."""
    image_px: Positive = 64
    """Height and width of the camera image [pixel]."""
    camera: str | None = None
    """Camera preset of the backend; its first if unset."""
    horizon: Positive | None = None
    """Control steps after which an episode is truncated; if unset 160 in Meta-World, else each task's or suite's own."""
    paraphrases: Literal["train", "held_out"] = "train"
    """Instruction phrasings drawn at reset: those for training, or those never trained on; LIBERO has one for each task."""
    robot: str = "arm7"
    """Robot of the tabletop suite (arm7, panda, ur5e), or g1_arms: a humanoid with tasks of its own."""
    control: Literal["ee_delta", "joint_delta"] = "ee_delta"
    """Actions of the tabletop suite: steps of the tool, or of the joints; the humanoid takes joint_delta."""
    randomize: Randomize = Randomize()
    """What varies from episode to episode besides the initial state, in training and evaluation alike; tabletop suite."""
    resets: Resets = DefaultResets()
    """Where the episodes of on-policy training start; evaluation always starts from the tasks' own distribution."""
    device: str = "cpu"
    """Where Isaac Lab simulates and draws."""
    experts: tuple[Path, ...] = ()
    """Learned experts (`python -m sim.isaaclab.expert`) that act in place of the scripted ones of their tasks; tabletop suite."""


def require_own_starts(sim: SimConfig) -> None:
    """Raise `ValueError` if `resets` is set where no training episodes are started."""
    if not isinstance(sim.resets, DefaultResets):
        raise ValueError(f"only on-policy training starts elsewhere: sim.resets '{sim.resets.name}' has no use here, remove it")


class DataConfig(Strict):
    """Demonstrations, as a LeRobotDataset v3 folder."""

    path: Path | None = None
    """Dataset folder."""
    tasks: tuple[str, ...] | None = None
    """Task names to use, or instructions where the data set records no task names; `sim.tasks` if unset."""
    episodes_per_task: Positive | None = None
    """Use only the first so many episodes of each task; all if unset."""


class SftConfig(Strict):
    """Supervised fine-tuning on demonstration chunks, with the loss of the policy's head."""

    name: Literal["sft"] = "sft"
    """Algorithm."""
    steps: Positive = 4000
    """Gradient steps."""
    batch: Positive = 64
    """Observations per gradient step."""
    lr: Rate = 1e-3
    """Peak learning rate; cosine decay to zero after a linear warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 100
    """Warm-up steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay."""
    shift_px: Annotated[int, Field(ge=0)] = 4
    """Random image translation augmentation [pixel]; 0 turns it off."""
    state_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of observations whose state entries are hidden, set to the middle of their range. Along a demonstration the next
    actions mostly follow from the state, and a policy that copies them (arXiv 2010.14876) never learns to look."""
    grad_clip: Rate = 1.0
    """Gradient norm limit."""
    checkpoint_every: Positive = 500
    """Gradient steps between checkpoints."""
    log_every: Positive = 50
    """Gradient steps between rows of `metrics.jsonl`."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What the policy's head must supply."""
        return frozenset({"sft"})


class OnPolicyConfig(Strict):
    """What every on-policy algorithm shares: each update rolls out the policy and takes several gradient passes."""

    updates: Positive = 40
    """Updates."""
    episodes: Positive = 28
    """Environment episodes per update, spread evenly over the tasks."""
    group: Positive = 1
    """Episodes per initial state."""
    temperature: Rate = 1.0
    """Sampling temperature of rollouts; every policy is scored at the same one."""
    passes: Positive = 4
    """Gradient passes over each batch of decisions."""
    minibatch: Positive = 64
    """Decisions per gradient step."""
    lr: Rate = 3e-4
    """Peak learning rate; cosine decay to zero over the updates."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW weight decay."""
    grad_clip: Rate = 1.0
    """Gradient norm limit."""
    ratio_clip: Rate = 0.2
    """Clip ε of the importance ratio: 1 − ε … 1 + ε (PPO, arXiv 1707.06347)."""
    ratio: Literal["factor", "chunk", "chunk_mean"] = "factor"
    """Importance ratio per factor, per decision (all its factors together), or its geometric mean over the factors."""
    expert_std: Rate = 0.1
    """Standard deviation of the scripted expert where it is the teacher, in normalised action units."""
    checkpoint_every: Positive = 5
    """Updates between checkpoints."""
    validate_every: Annotated[int, Field(ge=0)] = 0
    """Evaluate on validation seeds every so many updates (0: never)."""
    validate_episodes: Positive = 10
    """Episodes per task of those evaluations."""

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.episodes % self.group:
            raise ValueError(f"episodes={self.episodes} must be a multiple of group={self.group}")
        return self


class OpdConfig(OnPolicyConfig):
    """On-policy distillation (VLA-OPD, arXiv 2603.26666): the teacher scores what the student does.

    The paper does not give learning rate, passes or clip; it uses batch 64, 8 episodes per initial state, and its base
    recipe temperature 1.6.
    """

    name: Literal["opd"] = "opd"
    """Algorithm."""
    signal: Literal["reverse_kl", "forward_kl", "cross_entropy", "distance", "constant_negative"] = "reverse_kl"
    """What is minimised: KL(student‖teacher), KL(teacher‖student), cross-entropy on the teacher's most likely value, the
    distance between the network outputs (the KL of denoising heads with every step weighted alike), or the control
    without a teacher: a constant negative advantage on every sampled factor."""
    estimator: Literal["exact", "sampled"] = "exact"
    """Closed-form KL, or the paper's single sample with detached log-ratio reward (eq. 6, 7; reverse KL only)."""
    baseline: Literal["none", "kl"] = "none"
    """Baseline of the sampled estimator: none (the paper), or the closed-form value −KL (vOPD, arXiv 2605.07865)."""
    credit: Literal["immediate", "to_go"] = "immediate"
    """Sampled rewards count for their own factor (the paper), or also for the earlier factors of the same chunk, which
    is the full gradient for denoising chains."""
    reward_scale: Rate = 1.0
    """λ of the reward log(π_T/π_ref) (G-OPD, arXiv 2602.12125): 1 is OPD, above 1 goes beyond the teacher (ExOPD: 1.25).
    The reference is the student that training starts from."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What the policy's head must supply."""
        by_signal: dict[str, Capability] = {"cross_entropy": "mode", "distance": "distance", "constant_negative": "log_prob"}
        needs: set[Capability] = {"log_prob", by_signal.get(self.signal, "kl")}
        return frozenset(needs - {"kl"} if self.estimator == "sampled" and self.baseline == "none" else needs)

    @model_validator(mode="after")
    def _estimator_fits(self) -> Self:
        if self.estimator == "sampled" and self.signal != "reverse_kl":
            raise ValueError(f"estimator 'sampled' estimates reverse_kl only, signal is '{self.signal}'; use estimator 'exact'")
        if self.estimator == "exact" and (self.baseline != "none" or self.credit != "immediate"):
            raise ValueError("baseline and credit belong to the sampled estimator; set estimator: sampled")
        if self.credit == "to_go" and self.ratio != "factor":
            raise ValueError(f"credit 'to_go' needs ratio 'factor': the joint ratio '{self.ratio}' credits every factor of a chunk already")
        if self.reward_scale != 1 and self.signal in ("distance", "constant_negative"):
            raise ValueError(f"reward_scale needs a signal made of distributions, not '{self.signal}'")
        return self


class GrpoConfig(OnPolicyConfig):
    """Group-relative policy optimisation on success (DeepSeekMath, arXiv 2402.03300; for VLAs SimpleVLA-RL, 2509.09674).

    With a teacher it is dGRPO (arXiv 2605.12227): the outcome and the teacher in one objective.
    """

    name: Literal["grpo"] = "grpo"
    """Algorithm."""
    group: Annotated[int, Field(ge=2)] = 8
    """Episodes per initial state, which are compared with each other."""
    episodes: Positive = 56
    """Environment episodes per update, spread evenly over the tasks."""
    ratio_clip_high: Rate = 0.28
    """Upper clip: 1 + ε_high (clip-higher of DAPO, arXiv 2503.14476, used by SimpleVLA-RL)."""
    loss_mean: LossMean = "rollout"
    """Average each episode's factors first, then episodes (DeepSeekMath), or all factors alike (DAPO, arXiv 2503.14476)."""
    divide_by_std: bool = True
    """Divide a group's advantages by their standard deviation."""
    reference_kl: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL to the policy that training starts from."""
    distill: Annotated[float, Field(ge=0)] = 0.0
    """β of the teacher's part (dGRPO); 0 needs no teacher."""
    distill_as: Literal["advantage", "loss"] = "loss"
    """β times the detached log-ratio added to the advantage, or β times the closed-form reverse KL added to the loss."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What the policy's head must supply."""
        exact = self.reference_kl > 0 or (self.distill > 0 and self.distill_as == "loss")
        return frozenset({"log_prob", "kl"} if exact else {"log_prob"})


class PpoConfig(OnPolicyConfig):
    """Proximal policy optimisation over decisions (arXiv 1707.06347), with a value head on the policy's context."""

    name: Literal["ppo"] = "ppo"
    """Algorithm."""
    episodes: Positive = 56
    """Environment episodes per update, spread evenly over the tasks."""
    reward: Literal["success", "dense"] = "success"
    """1 at the first success, or the task's own dense reward."""
    discount: Fraction = 0.998
    """γ per control step; a decision is discounted by γ^(executed steps)."""
    gae_lambda: Fraction = 0.95
    """λ of generalised advantage estimation over decisions (arXiv 1506.02438)."""
    value_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the squared value error."""
    value_lr: Rate = 1e-3
    """Learning rate of the value head."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the entropy bonus."""
    loss_mean: LossMean = "factor"
    """All factors alike, or each episode's factors averaged first."""
    whiten: bool = True
    """Shift and scale the advantages of a batch to mean 0 and variance 1."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What the policy's head must supply."""
        return frozenset({"log_prob", "entropy"} if self.entropy_weight else {"log_prob"})


class DaggerConfig(OnPolicyConfig):
    """DAgger (arXiv 1011.0686; per decision as arXiv 2605.12913): supervised on the teacher's chunks at visited states."""

    name: Literal["dagger"] = "dagger"
    """Algorithm."""
    mixture: Fraction = 0.0
    """β of the first update: how likely the teacher's chunk is executed in place of the student's, decision by decision."""
    mixture_decay: Fraction = 0.5
    """Factor on β from update to update."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What the policy's head must supply."""
        return frozenset({"sft"})


class EvalConfig(Strict):
    """Evaluation on initial states that training never sees."""

    episodes: Positive = 50
    """Episodes per task."""
    split: Literal["validation", "test"] = "test"
    """Seed range of the initial states."""
    skip: Annotated[int, Field(ge=0)] = 0
    """Leave out the first so many seeds of the split: raise it once a decision was taken after looking at them."""
    shuffled: bool = False
    """Also evaluate with instructions of other tasks in the set."""
    videos: Annotated[int, Field(ge=0)] = 0
    """Rollout videos per task."""


class ComputeConfig(Strict):
    """Where and how gradients are computed."""

    device: str = "cpu"
    """Torch device of policy, teacher and critic. One that is missing is an error, never replaced."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs forward passes under autocast; weights, log-probabilities and the optimizer stay fp32."""
    accumulate: Positive = 1
    """Parts that each gradient step's minibatch is cut into, to save memory."""
    compile: bool = False
    """Compile the policy's encoder for training (torch.compile); helps on GPUs and large policies."""


AlgorithmConfig = SftConfig | OpdConfig | GrpoConfig | PpoConfig | DaggerConfig


class Config(Strict):
    """One training run."""

    algorithm: Annotated[AlgorithmConfig, Field(discriminator="name")] = SftConfig()
    """The algorithm and its settings, chosen by `name`."""
    sim: SimConfig = SimConfig()
    policy: AnyPolicyConfig = PolicyConfig()
    """Family and architecture; unused when the policy is loaded with `init`."""
    data: DataConfig = DataConfig()
    init: Path | None = None
    """Policy folder to start from; a new policy if unset. On-policy algorithms need one."""
    teacher: str | None = None
    """Policy folder of the teacher, or `expert` for the task's scripted expert."""
    evaluate: EvalConfig = EvalConfig()
    """Evaluation at the end of the run."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of initialisation, data order and rollout seeds."""
    compute: ComputeConfig = ComputeConfig()
    threads: Positive = 2
    """CPU threads of torch; a resumed run repeats an uninterrupted one only at an equal count."""
    expect: dict[str, Any] = {}
    """What the preset should reach, as bounds: {success: ">= 0.85"}. Not used by training; tests hold committed results against it."""
