"""Parts of a robot's shape: links of the kinematic tree, capsules on them, boxes in the base frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Vector = tuple[Number, Number, Number]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Link(_Part):
    """A link and how it hangs on its parent, as in URDF: the joint's frame in the parent's, then the motion about its axis."""

    name: str
    parent: str
    """Name of another link, or of a root."""
    xyz_m: Vector = (0.0, 0.0, 0.0)
    rpy_rad: Vector = (0.0, 0.0, 0.0)
    """Roll, pitch, yaw about the fixed axes x, y, z: R = Rz(yaw) · Ry(pitch) · Rx(roll)."""
    kind: Literal["revolute", "prismatic", "fixed"] = "revolute"
    joint: str | None = None
    """Commanded coordinate that moves it; none for a fixed link."""
    axis: Vector = (0.0, 0.0, 1.0)
    """Unit vector in the link's own frame."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.joint is None) != (self.kind == "fixed"):
            raise ValueError(f"link {self.name} is {self.kind}, so it {'has no' if self.kind == 'fixed' else 'needs a'} joint")
        if abs(sum(x * x for x in self.axis) - 1) > 1e-6:
            raise ValueError(f"axis of link {self.name} must have length 1, got {self.axis}")
        return self


class Capsule(_Part):
    """All points within `radius_m` of a segment, in the frame of its link."""

    name: str
    link: str
    start_m: Vector
    end_m: Vector
    radius_m: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class Box(_Part):
    """An axis-aligned box in the base frame."""

    low_m: Vector
    high_m: Vector

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(low >= high for low, high in zip(self.low_m, self.high_m, strict=True)):
            raise ValueError(f"low_m {self.low_m} must lie below high_m {self.high_m} on every axis")
        return self


def root_links(chain: Sequence[Link]) -> set[str]:
    """Parents that are no link themselves: where the tree stands."""
    return {link.parent for link in chain} - {link.name for link in chain}


def tree_order(chain: Sequence[Link]) -> list[Link]:
    """The links so that parents come first. Raises `ValueError` for a loop or more than one root."""
    roots = root_links(chain)
    if len(roots) != 1:
        raise ValueError(f"a chain has one root, which is a parent but no link; got {', '.join(sorted(roots)) or 'none: a loop'}")
    placed, waiting, ordered = set(roots), list(chain), []
    while waiting:
        ready = [link for link in waiting if link.parent in placed]
        if not ready:
            raise ValueError(f"links {', '.join(link.name for link in waiting)} hang on each other in a loop")
        ordered += ready
        placed |= {link.name for link in ready}
        waiting = [link for link in waiting if link.name not in placed]
    return ordered
