"""The contract between simulators, policies and robots: observations, specs and the chunk policy.

Dimensions used in every docstring of this repository:

    B batch · N environments · K chunk steps · A action dimensions · F factors of a decision · V bins

This module imports numpy and pydantic only, so that a robot computer can load a spec without torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from policies.config import PolicyConfig, SmolVlaConfig
    from policies.factors import Decision, Factors

Observation = dict[str, Any]
"""Named entries, batched: image `(B, H, W, 3)` uint8, state `(B, S)` float32, text `(B,)` numpy strings.

Arrays are numpy, or torch on the environment's device. Which entries exist is declared by `PolicySpec`.
"""

Mode = Literal["stochastic", "greedy"]


class UserError(ValueError):
    """Something that a user, a file or a robot can cause; the command line prints it as one sentence."""


class PolicyError(RuntimeError):
    """A policy produced NaN or infinite values, which must not be executed."""


class SpecError(UserError):
    """An observation, a policy or a data set does not have the interface that is required."""


class Entry(BaseModel):
    """One named observation entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["image", "state", "text", "point_cloud", "touch"]
    shape: tuple[int, ...] = ()
    """Shape without the batch dimension: image (H, W, 3), state (S,), text ()."""
    names: tuple[str, ...] = ()
    """Component names of a state, with the unit in brackets where it has one: `hand_x [m]`."""
    low: tuple[float, ...] = ()
    """Lower end of each component's range; the range is what normalisation maps to [-1, 1]."""
    high: tuple[float, ...] = ()
    frame: str = ""
    """Camera name of an image; coordinate frame of a state."""

    @property
    def dtype(self) -> str:
        """Numpy dtype kind expected for the entry: uint8, float32 or str."""
        return {"image": "uint8", "text": "str"}.get(self.kind, "float32")

    @model_validator(mode="after")
    def _sizes_agree(self) -> Entry:
        sizes = {"names": len(self.names), "low": len(self.low), "high": len(self.high)}
        if self.kind == "state" and any(size != self.shape[0] for size in sizes.values()):
            raise ValueError(f"state entry '{self.name}' of shape {self.shape} needs names, low and high of that length, got {sizes}")
        return self


class ActionSpec(BaseModel):
    """One control step's action vector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...]
    representation: Literal["absolute", "delta", "end_effector_delta"]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def dim(self) -> int:
        """Number of real action dimensions A."""
        return len(self.names)


class PolicySpec(BaseModel):
    """What a policy sees and does. Travels with every checkpoint; a mismatch names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embodiment: str
    entries: tuple[Entry, ...]
    action: ActionSpec
    control_hz: float
    chunk: int
    """K: number of control steps that one decision of the policy covers."""
    executed: int
    """Number of steps of a chunk that are executed before the next decision; at most K."""

    @model_validator(mode="after")
    def _executed_within_chunk(self) -> PolicySpec:
        if not 1 <= self.executed <= self.chunk:
            raise ValueError(f"executed must lie in 1..chunk={self.chunk}, got {self.executed}")
        return self

    def of_kind(self, kind: str) -> tuple[Entry, ...]:
        """Entries of one kind, in spec order."""
        return tuple(entry for entry in self.entries if entry.kind == kind)

    def check(self, obs: Observation) -> None:
        """Raise `SpecError` unless `obs` holds exactly the declared entries with the declared shapes."""
        names = [entry.name for entry in self.entries]
        if sorted(obs) != sorted(names):
            missing, extra = sorted(set(names) - set(obs)), sorted(set(obs) - set(names))
            raise SpecError(f"observation entries differ from the spec: missing {missing}, not in the spec {extra}; the spec has {names}")
        for entry in self.entries:
            value = obs[entry.name]
            if tuple(value.shape[1:]) != entry.shape:
                raise SpecError(
                    f"entry '{entry.name}' has shape {tuple(value.shape)}, the spec wants (B, {', '.join(map(str, entry.shape))})"
                )
            kind = "str" if isinstance(value, np.ndarray) and value.dtype.kind in "UO" else str(value.dtype).removeprefix("torch.")
            if kind != entry.dtype:
                raise SpecError(f"entry '{entry.name}' has dtype {kind}, the spec wants {entry.dtype}")

    def require_same(self, other: PolicySpec, what: str) -> None:
        """Raise `SpecError` naming the first field in which `other` differs; `what` names the two sides."""
        orders = [[entry.name for entry in spec.entries] for spec in (self, other)]
        if sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1]:
            raise SpecError(f"{what} disagree on the order of entries: {orders[0]} against {orders[1]}")
        mine, theirs = flatten(self.model_dump(mode="json")), flatten(other.model_dump(mode="json"))
        for key in [*mine, *(key for key in theirs if key not in mine)]:
            if mine.get(key) != theirs.get(key):
                raise SpecError(f"{what} disagree on {key}: {mine.get(key, 'absent')} against {theirs.get(key, 'absent')}")

    def save(self, path: Path) -> None:
        """Write the spec as JSON."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> PolicySpec:
        """Read a spec written by `save`; unknown or missing fields raise."""
        return cls.model_validate_json(path.read_text())


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries and lists of dictionaries to `a.b.c: value`; named items use their name."""
    if isinstance(tree, list) and tree and isinstance(tree[0], dict):
        tree = {item.get("name", str(i)): item for i, item in enumerate(tree)}
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat


class Context(Protocol):
    """The encoded observation: whatever the backbone computed once, indexable along the batch."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: torch.Tensor) -> Self: ...


class ChunkPolicy[C: Context](Protocol):
    """A stochastic policy as a factorised distribution over chunks of K actions.

    The policy makes a few random decisions (factors) per observation; each factor has a closed-form
    distribution given the ones before it. Objectives work on factors and never on a policy's class.
    """

    @property
    def spec(self) -> PolicySpec:
        """What the policy sees and does."""
        ...

    def encode(self, obs: Observation) -> C:
        """Run the backbone once on B observations; the result serves sampling, scoring and critics."""
        ...

    def sample(
        self, context: C, mode: Mode = "stochastic", temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, Decision]:
        """Draw one chunk per context row: actions `(B, K, A)` float32 in the spec's units, and the decision made.

        `greedy` takes the most likely tokens, the mean, or the deterministic denoising chain.

        For a group of G samples per observation, repeat the context rows: `context[index.repeat_interleave(G)]`.
        """
        ...

    @property
    def noise_shape(self) -> tuple[int, int] | None:
        """Shape of the standard normal noise that a greedy chunk starts from, without the batch; `None` where there is none."""
        ...

    def greedy(self, context: C, noise: torch.Tensor | None) -> torch.Tensor:
        """The chunk `(B, K, A)` of `sample` in mode greedy as a function of its initial `noise` `(B, *noise_shape)`.

        This is what is deployed: nothing is drawn and nothing branches on values, so that it can be traced.
        """
        ...

    @property
    def takes_prefix(self) -> bool:
        """Whether `guided` works: flow policies."""
        ...

    def guided(self, context: C, noise: torch.Tensor, prefix: torch.Tensor, committed: int) -> torch.Tensor:
        """The greedy chunk, drawn to what the robot will do anyway (real-time chunking, `policies.heads.guidance`).

        Args:
            context: B rows.
            noise: `(B, *noise_shape)`.
            prefix: `(B, P, A)` steps of the last chunk from this observation on, in the spec's units, P ≤ K.
            committed: how many of them are surely executed.

        Raises:
            PolicyError: the policy is not of the flow kind.
        """
        ...

    def factors(self, context: C, decision: Decision, mask: torch.Tensor) -> Factors:
        """Distribution of every factor of `decision` at `context`; `mask` `(B, K, A)` bool marks executed, real elements."""
        ...

    def implied_factors(self, mean: torch.Tensor, std: float, decision: Decision, mask: torch.Tensor) -> Factors:
        """Factors that the chunk distribution N(mean, std²) implies for this head: how an expert's chunk becomes a teacher.

        Args:
            mean: `(B, K, A)` chunk in the spec's units.
            std: standard deviation in normalised action units (the range [low, high] is [-1, 1]).
            decision: the decision whose factors are asked for.
            mask: `(B, K, A)` bool.
        """
        ...

    def sft_loss(
        self, context: C, chunk: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Supervised loss of chunks `(B, K, A)` in the spec's units; `mask` `(B, K, A)`, `weight` `(B,)`. Scalar.

        `generator` draws noise and times, for heads that need them.
        """
        ...

    def pooled(self, context: C) -> torch.Tensor:
        """`(B, D)` summary of the context, for value heads and critics."""
        ...


class TrainablePolicy[C: Context](ChunkPolicy[C], Protocol):
    """What training needs of a policy besides acting and scoring: a torch module with a head and normalisation."""

    @property
    def config(self) -> PolicyConfig | SmolVlaConfig:
        """Its family and architecture; the head says what it supplies to objectives."""
        ...

    @property
    def width(self) -> int:
        """D of `pooled`."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    @property
    def trunk(self) -> torch.nn.Module:
        """The expensive part of `encode`, for compilation."""
        ...

    autocast: torch.dtype | None
    """Lower precision of the trunk, if any; heads and log-probabilities stay float32."""

    def statistics(self) -> dict[str, torch.Tensor]:
        """Normalisation statistics by name."""
        ...

    def normalised(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """A state entry `(B, S)` in the spec's units as the network sees it."""
        ...

    def save(self, folder: Path) -> None:
        """Write the weights into a policy folder; a crash leaves the old or the new ones."""
        ...

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """As of `torch.nn.Module`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As of `torch.nn.Module`."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """As of `torch.nn.Module`."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """As of `torch.nn.Module`."""
        ...


type Policy = TrainablePolicy[Any]
"""A policy of any family."""
