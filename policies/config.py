"""Architecture settings of the project's own policies, without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]


class PolicyConfig(BaseModel):
    """Architecture of the vision-language-action policy; travels in the policy folder as `config.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    size: Literal["tiny", "small", "base"] = "tiny"
    """Width and depth of encoders and trunk; `tiny` trains on two CPU cores."""
    vision: Literal["conv", "efficientnet-lite0"] = "conv"
    """Image encoder: trained from scratch, or ImageNet weights from the `pretrained` extra."""
    language: Literal["bytes", "minilm"] = "bytes"
    """Instruction encoder: trained from scratch on bytes, or frozen MiniLM from the `pretrained` extra."""
    head: Literal["tokens"] = "tokens"
    """How the chunk is decided: parallel action tokens."""
    bins: Annotated[int, Field(ge=3)] = 33
    """V: bins per action dimension of the token head, uniform over the action range."""
    chunk: Positive = 8
    """K: control steps per decision."""
    executed: Positive = 8
    """Control steps executed before the next decision."""

    @model_validator(mode="after")
    def _executed_within_chunk(self) -> PolicyConfig:
        if self.executed > self.chunk:
            raise ValueError(f"executed must be at most chunk={self.chunk}, got {self.executed}")
        return self
