"""`bundle.json`: what a robot must know to run a policy. A bundle is a folder (`policies.bundle_folder`). No torch."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from policies.action_map import ActionTerm
from policies.images import Pinhole
from policies.interface import PolicySpec, UserError

VERSION = 1
"""Of the format; a bundle of another one is refused."""


class BundleError(UserError):
    """A bundle is incomplete, changed, or contradicts itself; nothing of it may run."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CameraPose(_Part):
    """Where a camera was in training, in the robot's base frame."""

    position_m: tuple[float, float, float]
    quat_wxyz: tuple[float, float, float, float]
    """Rotation from the camera frame (x right, y down, z forward) to the base frame."""


class ObservationTerm(_Part):
    """What the spec does not say about one observation entry."""

    name: str
    """The entry, as in the spec."""
    scale: tuple[float, ...] = ()
    """Of a state: the policy normalises value · scale + offset, component by component."""
    offset: tuple[float, ...] = ()
    history: Annotated[int, Field(ge=1)] = 1
    """Observations that the policy sees at once, the newest last."""
    camera: Pinhole | None = None
    """Of an image: the camera that training images were made with."""
    pose: CameraPose | None = None


class JointLimit(_Part):
    """Range and speed of a joint in training."""

    joint: str
    unit: Literal["rad", "m"]
    low: float
    high: float
    velocity: float
    """Largest speed [unit/s]."""


class Onnx(_Part):
    """How `policy.onnx` compares with torch."""

    opset: int
    max_difference: float
    """Largest |action − torch's action| over the sample, in half action ranges."""


class Bundle(_Part):
    """The contents of `bundle.json`."""

    version: Literal[1] = VERSION
    spec: PolicySpec
    """Entries in order with units, ranges and frames; actions; control rate; chunk and executed length."""
    observations: tuple[ObservationTerm, ...]
    """One per entry, in the order of the spec."""
    action_map: tuple[ActionTerm, ...]
    """One per action dimension, in the order of the spec."""
    noise_shape: tuple[int, int] | None
    """Shape of the standard normal noise that a chunk starts from; `null` for a policy without."""
    delay_s: tuple[float, float]
    """Shortest and longest time from observation to action that training covered."""
    limits: tuple[JointLimit, ...] = ()
    """Of the joints that were moved, where they are known."""
    tolerance: Annotated[float, Field(gt=0)]
    """How far a chunk may be from the recorded one for the same observation, in half action ranges."""
    onnx: Onnx | None = None
    origin: dict[str, str] = {}
    """Where it comes from: run, commit, versions, hardware."""
    files: dict[str, str]
    """SHA-256 of every other file of the bundle, by path."""

    @property
    def digest(self) -> str:
        """SHA-256 that tells this bundle from every other one: of the description, and by its hashes of all files."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @model_validator(mode="after")
    def _terms_follow_the_spec(self) -> Self:
        for what, terms, wanted in (
            ("observations", self.observations, [entry.name for entry in self.spec.entries]),
            ("action_map", self.action_map, list(self.spec.action.names)),
        ):
            if [term.name for term in terms] != wanted:
                raise ValueError(f"{what} must have the names of the spec in its order, {wanted}, got {[term.name for term in terms]}")
        for term, entry in zip(self.observations, self.spec.entries, strict=True):
            sizes = (len(term.scale), len(term.offset))
            if entry.kind == "state" and sizes != (entry.shape[0],) * 2:
                raise ValueError(f"observation term '{term.name}' needs {entry.shape[0]} scales and offsets, got {sizes}")
            if entry.kind == "image" and term.camera is not None and term.camera.size != entry.shape[:2]:
                raise ValueError(f"observation term '{term.name}': camera is {term.camera.size}, the entry {entry.shape[:2]}")
        if not 0 <= self.delay_s[0] <= self.delay_s[1]:
            raise ValueError(f"delay_s must be 0 ≤ shortest ≤ longest, got {self.delay_s}")
        return self


def parse_bundle(text: str, source: str) -> Bundle:
    """Validate the text of a `bundle.json`; `source` says where it is from. Raises `BundleError`."""
    try:
        tree = json.loads(text)
        version = tree["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{source} is not a bundle's description: {type(error).__name__} {error}") from error
    if version != VERSION:
        raise BundleError(f"{source} has format version {version!r}, this code reads {VERSION}; export the policy again")
    try:
        return Bundle.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(f"{source}: {sentence(error)}") from error


def sentence(error: ValidationError) -> str:
    """What is wrong with a description, problem by problem."""
    return "; ".join(f"{'.'.join(map(str, problem['loc'])) or 'bundle'}: {problem['msg']}" for problem in error.errors())
