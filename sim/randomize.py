"""Sim-to-real randomisation: which terms vary and how far, and their draws from an episode's seed; the same in every backend.

Everything is off by default. Each term draws from its own random stream, so that turning one on moves neither the others
nor the initial states. What a backend then does with the numbers is its own, small affair.

J arm joints · M movable bodies · F fixtures · P parts that have a colour of their own: bodies, fixtures, mats
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sim.delays import MAX_DELAY_S, Histogram
from sim.vec_env import SimulationError

if TYPE_CHECKING:
    from sim.robots import Robot
    from sim.scene import Scene

Range = tuple[float, float]
SAME: Range = (1.0, 1.0)
NONE: Range = (0.0, 0.0)
STREAM = 3
"""Of an episode's seed; 0 to 2 are its initial state, its instruction and the noise of its demonstration."""


def within(low: float, high: float) -> AfterValidator:
    """A check that a range is in order and inside `low` to `high`."""

    def check(value: Range) -> Range:
        if not low <= value[0] <= value[1] <= high:
            raise ValueError(f"must be [low, high] with {low:g} <= low <= high <= {high:g}, got [{value[0]:g}, {value[1]:g}]")
        return value

    return AfterValidator(check)


Scale = Annotated[Range, within(0.1, 10.0)]
Delay = Annotated[Range, within(0.0, MAX_DELAY_S)]
Share = Annotated[Range, within(0.0, 0.9)]
Offset = Annotated[float, Field(ge=0, le=0.2)]


class _Terms(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PhysicsTerms(_Terms):
    """Scales of physical properties, one draw per episode."""

    mass: Scale = SAME
    """Mass and inertia of each movable body and of each fixture's moving part, drawn one by one."""
    friction: Annotated[Range, within(0.1, 3.0)] = SAME
    """Sliding friction of all surfaces together. Engines join two surfaces by their maximum, mean or product; with one scale
    for all, contacts scale alike whatever the rule, whereas a slippery block on a rough table would change nothing."""
    stiffness: Annotated[Range, within(0.2, 5.0)] = SAME
    """Stiffness of each arm joint's servo, and of the gripper's."""
    damping: Annotated[Range, within(0.2, 5.0)] = SAME
    """Damping of each arm joint's servo, and of the gripper's."""


class TimingTerms(_Terms):
    """Delays [s] and losses. A range is a robot's constant latency that is not known exactly: one draw per episode.

    A file is the latency of a stream as measured, with its jitter: one draw per control step, from the histogram
    {"unit": "s", "edges": [...], "counts": [...], "stream": "..."}.
    """

    action_delay_s: Delay = NONE
    """From command to servo, resolved to a physics step. Commands that a later one overtakes are dropped."""
    action_delay_file: Path | None = None
    """Histogram in place of the range."""
    image_delay_s: Delay = NONE
    """Age of the image at the moment of decision, rounded to control steps. What is shown never goes back in time."""
    image_delay_file: Path | None = None
    """Histogram in place of the range."""
    state_delay_s: Delay = NONE
    """Age of the robot's state at the moment of decision, as for images."""
    state_delay_file: Path | None = None
    """Histogram in place of the range."""
    image_dropout: Share = NONE
    """How likely the image of a control step is lost; the one shown before is then shown again."""
    state_dropout: Share = NONE
    """How likely the robot's state of a control step is lost."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        for stream in ("action", "image", "state"):
            if getattr(self, f"{stream}_delay_file") is not None and getattr(self, f"{stream}_delay_s") != NONE:
                raise ValueError(f"{stream}_delay_s and {stream}_delay_file exclude each other: keep one of them")
        return self

    def delay_range_s(self, stream: Literal["action", "image", "state"]) -> Range:
        """Shortest and longest delay of a stream [s]. Raises `SimulationError` for a histogram file that is missing or wrong."""
        path: Path | None = getattr(self, f"{stream}_delay_file")
        return Histogram.read(path).range_s if path is not None else getattr(self, f"{stream}_delay_s")


class CameraTerms(_Terms):
    """Largest offsets of the camera, either way, one draw per episode."""

    position_m: Offset = 0.0
    """Along each axis of the world."""
    lookat_m: Offset = 0.0
    """Of the point looked at, along each axis of the world."""
    fovy_deg: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Of the vertical field of view."""


class LightTerms(_Terms):
    """The light of the scene, one draw per episode."""

    tilt_deg: Annotated[float, Field(ge=0, le=45)] = 0.0
    """Largest turn of the light's direction about the world's x axis, and about y."""
    intensity: Annotated[Range, within(0.2, 3.0)] = SAME
    """Scale of all light."""


class ColourTerms(_Terms):
    """Colours, one draw per episode and part. Limits are such that a red block stays the one that is called red."""

    hue_deg: Annotated[float, Field(ge=0, le=8)] = 0.0
    """Largest turn of the hue of each body, fixture and mat; yellow and orange are 19 apart."""
    saturation: Annotated[Range, within(0.6, 1.4)] = SAME
    """Scale of the saturation of each body, fixture and mat."""
    value: Annotated[Range, within(0.6, 1.4)] = SAME
    """Scale of the brightness of each body, fixture and mat."""
    surface_hue_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest turn of the hue of table and floor, which are pale and never named."""
    surface_value: Annotated[Range, within(0.3, 1.4)] = SAME
    """Scale of the brightness of table and floor."""


class ImageTerms(_Terms):
    """What the camera makes of the picture, one draw per episode; applied after rendering."""

    contrast: Annotated[Range, within(0.5, 1.5)] = SAME
    """Scale about middle grey."""
    brightness: Annotated[Range, within(-60.0, 60.0)] = NONE
    """Offset [grey levels of 255]."""
    blur_px: Annotated[Range, within(0.0, 5.0)] = NONE
    """Standard deviation of a Gaussian blur [pixel]."""
    noise: Annotated[Range, within(0.0, 50.0)] = NONE
    """Standard deviation of the noise of each pixel, new in each image [grey levels of 255]."""


class Randomize(_Terms):
    """What varies from episode to episode, besides the initial state. Off by default."""

    enabled: bool = True
    """False turns everything off, to see a policy in the simulator as it is."""
    physics: PhysicsTerms = PhysicsTerms()
    timing: TimingTerms = TimingTerms()
    camera: CameraTerms = CameraTerms()
    light: LightTerms = LightTerms()
    colour: ColourTerms = ColourTerms()
    image: ImageTerms = ImageTerms()

    @property
    def active(self) -> frozenset[str]:
        """Names of the terms that vary, such as `physics.mass`."""
        return frozenset(name for name, value, neutral in _settings(self) if value != neutral) if self.enabled else frozenset()


def _settings(config: Randomize) -> Iterator[tuple[str, object, object]]:
    """Name, value and neutral value of every term."""
    for group in Randomize.model_fields:
        terms = getattr(config, group)
        if isinstance(terms, _Terms):
            for name, field in type(terms).model_fields.items():
                yield f"{group}.{name}", getattr(terms, name), field.default


TERMS = frozenset(name for name, _, _ in _settings(Randomize()))
"""Every term by name."""


def require_supported(config: Randomize, backend: str, supported: Collection[str]) -> None:
    """Raise `SimulationError` naming every term that is on and that the backend cannot vary."""
    missing = sorted(config.active.difference(supported))
    if missing:
        raise SimulationError(
            f"backend '{backend}' cannot randomise {', '.join(missing)}; it can: {', '.join(sorted(supported)) or 'nothing'};"
            f" remove what it cannot from sim.randomize, or choose another backend"
        )


@dataclass(frozen=True)
class Variation:
    """One episode's draws: plain numbers, drawn on the CPU from the seed alone."""

    seed: int
    mass: tuple[float, ...]
    """`(M + F,)` scale per body, then per moving part of a fixture."""
    friction: float
    stiffness: tuple[float, ...]
    """`(J + 1,)` scale per arm joint, then of the gripper."""
    damping: tuple[float, ...]
    """`(J + 1,)`."""
    camera_position_m: tuple[float, ...]
    """`(3,)` offset, world frame."""
    camera_lookat_m: tuple[float, ...]
    """`(3,)` offset, world frame."""
    fovy_deg: float
    """Offset."""
    light_tilt_deg: tuple[float, ...]
    """`(2,)` about x and y."""
    light_intensity: float
    hue_deg: tuple[float, ...]
    """`(P,)` turn per body, fixture and mat."""
    saturation: tuple[float, ...]
    """`(P,)` scale."""
    value: tuple[float, ...]
    """`(P,)` scale."""
    surface_hue_deg: tuple[float, ...]
    """`(2,)` turn of table and floor."""
    surface_value: tuple[float, ...]
    """`(2,)` scale of table and floor."""
    contrast: float
    brightness: float
    blur_px: float
    noise: float
    image_dropout: float
    """Probability."""
    state_dropout: float
    """Probability."""


@dataclass(frozen=True)
class Moment:
    """The draws of one control step."""

    action_delay_s: float
    """Of the command that is sent in this step."""
    image_delay_s: float
    """Age of the image shown after it."""
    state_delay_s: float
    image_lost: bool
    state_lost: bool


class Randomizer:
    """Draws from a configuration; reads its histograms once."""

    def __init__(self, config: Randomize, control_hz: float) -> None:
        """Read what the configuration names.

        Raises:
            SimulationError: a histogram file is missing or wrong, or an observation delay is too short to show.
        """
        self.config, timing = config, config.timing
        files = {name: getattr(timing, f"{name}_delay_file") for name in ("action", "image", "state")}
        self._histograms = {name: Histogram.read(path) for name, path in files.items() if path is not None and config.enabled}
        for name in ("image", "state"):
            longest = getattr(timing, f"{name}_delay_s")[1]
            if config.enabled and 0 < longest <= 0.5 / control_hz:
                raise SimulationError(
                    f"sim.randomize.timing.{name}_delay_s goes up to {longest:g} s, which rounds to no control step of"
                    f" {1 / control_hz:g} s; give more than {0.5 / control_hz:g} s or leave it out"
                )

    def draw(self, seed: int, scene: Scene, robot: Robot) -> Variation:
        """What is drawn once per episode."""
        c = self.config if self.config.enabled else Randomize()
        masses, servos = len(scene.bodies) + len(scene.fixtures), len(robot.joints) + 1
        parts = masses + len(scene.mats)

        def some(name: str, limits: Range, count: int) -> tuple[float, ...]:
            return tuple(_stream(seed, name).uniform(*limits, count).tolist())

        def one(name: str, limits: Range) -> float:
            return some(name, limits, 1)[0]

        def either(name: str, largest: float, count: int) -> tuple[float, ...]:
            return some(name, (-largest, largest), count)

        return Variation(
            seed=seed,
            mass=some("physics.mass", c.physics.mass, masses),
            friction=one("physics.friction", c.physics.friction),
            stiffness=some("physics.stiffness", c.physics.stiffness, servos),
            damping=some("physics.damping", c.physics.damping, servos),
            camera_position_m=either("camera.position_m", c.camera.position_m, 3),
            camera_lookat_m=either("camera.lookat_m", c.camera.lookat_m, 3),
            fovy_deg=either("camera.fovy_deg", c.camera.fovy_deg, 1)[0],
            light_tilt_deg=either("light.tilt_deg", c.light.tilt_deg, 2),
            light_intensity=one("light.intensity", c.light.intensity),
            hue_deg=either("colour.hue_deg", c.colour.hue_deg, parts),
            saturation=some("colour.saturation", c.colour.saturation, parts),
            value=some("colour.value", c.colour.value, parts),
            surface_hue_deg=either("colour.surface_hue_deg", c.colour.surface_hue_deg, 2),
            surface_value=some("colour.surface_value", c.colour.surface_value, 2),
            contrast=one("image.contrast", c.image.contrast),
            brightness=one("image.brightness", c.image.brightness),
            blur_px=one("image.blur_px", c.image.blur_px),
            noise=one("image.noise", c.image.noise),
            image_dropout=one("timing.image_dropout", c.timing.image_dropout),
            state_dropout=one("timing.state_dropout", c.timing.state_dropout),
        )

    def moment(self, variation: Variation, step: int) -> Moment:
        """What is drawn for control step `step`, counted from 0."""
        seed = variation.seed
        return Moment(
            action_delay_s=self._delay("action", seed, step),
            image_delay_s=self._delay("image", seed, step),
            state_delay_s=self._delay("state", seed, step),
            image_lost=_lost("timing.image_lost", seed, step, variation.image_dropout),
            state_lost=_lost("timing.state_lost", seed, step, variation.state_dropout),
        )

    def _delay(self, name: str, seed: int, step: int) -> float:
        if name in self._histograms:
            return self._histograms[name].draw(_stream(seed, f"timing.{name}_delay_file", step))
        limits: Range = getattr(self.config.timing, f"{name}_delay_s")
        if limits == NONE or not self.config.enabled:
            return 0.0
        return float(_stream(seed, f"timing.{name}_delay_s").uniform(*limits))


def noise_stream(seed: int, step: int) -> np.random.Generator:
    """Draws the pixel noise of the image that was taken after control step `step`."""
    return _stream(seed, "image.noise_pixels", step)


def _lost(name: str, seed: int, step: int, probability: float) -> bool:
    return probability > 0 and bool(_stream(seed, name, step).random() < probability)


def _stream(seed: int, name: str, *step: int) -> np.random.Generator:
    """The random stream of a term."""
    return np.random.default_rng([seed, STREAM, zlib.crc32(name.encode()), *step])
