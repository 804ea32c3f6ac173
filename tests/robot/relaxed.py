"""Settings of a profile for tests of whole deployments: generous, as test machines are loaded."""

from __future__ import annotations

RATES = {"state_hz": 50.0, "command_hz": 50.0}
AGES = {"state_s": 1.0, "image_s": 1.0, "chunk_s": 5.0}
SAFETY = {
    "heartbeat_timeout_s": 2.0, "deadman_timeout_s": 2.0, "watchdog_misses": 50, "frozen_s": 0.5, "starvation_s": 1.0,
    "ramp_s": 0.5, "stop_mode": "hold", "speed_cap": 0.5, "estop_required": True,
}  # fmt: skip
