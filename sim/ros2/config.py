"""Settings of a simulated robot process."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sim.ros2.vendor import Imperfections

ClockMode = Literal["real_time", "lockstep"]


class SimRobotConfig(BaseModel):
    """A simulated robot in the episode of one task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str | None = None
    """Task of the first episode; if unset lift at the table, and the humanoid's only one."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Initial state of the first episode."""
    clock: ClockMode = "real_time"
    """`real_time` runs by the wall clock; `lockstep` publishes /clock and waits for the command of every tick."""
    cameras: tuple[str, ...] | None = None
    """Camera presets that are published; `front` if unset, where the profile has it."""
    image_px: Annotated[int, Field(ge=32)] = 64
    """Height and width of images [pixel]."""
    camera_hz: Annotated[float, Field(gt=0)] = 20.0
    """Images per second and camera; in lockstep every tick has its images."""
    time_code: bool = True
    """Draw a frame counter and time code into images; switch it off for policies."""
    imperfections: Imperfections = Imperfections()
    """How far from ideal the robot is."""
