"""From where the profile's home is, the first joint goes to one side and back, again and again."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from lerobot.teleoperators import Teleoperator, TeleoperatorConfig

from robot.profile import load_profile

SWAY_RAD, PERIOD_S = 0.2, 4.0


@TeleoperatorConfig.register_subclass("scripted")
@dataclass(kw_only=True)
class ScriptedConfig(TeleoperatorConfig):
    profile: Path


class Scripted(Teleoperator):
    config_class = ScriptedConfig
    name = "scripted"
    is_calibrated = True
    is_connected = False

    def __init__(self, config: ScriptedConfig) -> None:
        super().__init__(config)
        profile = load_profile(config.profile)
        self._home = dict(zip([f"{name}.pos" for name in profile.names], profile.home.tolist(), strict=True))
        self._began_s = 0.0

    @property
    def action_features(self) -> dict:
        return dict.fromkeys(self._home, float)

    @property
    def feedback_features(self) -> dict:
        return {}

    def connect(self, calibrate: bool = True) -> None:
        self.is_connected = True

    def calibrate(self) -> None:
        pass

    def configure(self) -> None:
        pass

    def get_action(self) -> dict:
        self._began_s = self._began_s or time.monotonic()
        sway = SWAY_RAD * (1 - math.cos(2 * math.pi * (time.monotonic() - self._began_s) / PERIOD_S)) / 2
        return self._home | {"joint1.pos": self._home["joint1.pos"] + sway}

    def send_feedback(self, feedback: dict) -> None:
        pass

    def disconnect(self) -> None:
        self.is_connected = False
