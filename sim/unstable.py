"""What MuJoCo counts when its physics cannot go on: a position, velocity or acceleration that is not finite, or huge."""

from __future__ import annotations

import mujoco

UNSTABLE = [int(kind) for kind in (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)]
"""Places in the data's warnings."""
