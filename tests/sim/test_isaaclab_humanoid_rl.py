"""The whole-body environment, really simulated, each time in a process of its own: Isaac Lab's simulation is one per process."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from sim.humanoid.body import Body

pytestmark = [pytest.mark.skipif(find_spec("isaaclab") is None, reason="needs the extra 'isaac'"), pytest.mark.timeout(1800)]

PLAY = """
import json, numpy, torch
from sim.isaaclab.humanoid_rl import WholeBodyEnv, whole_body_cfg

cfg = whole_body_cfg(num_envs=4)
cfg.seed = 0
env = WholeBodyEnv(cfg)
first, _ = env.reset()
found = {"first": first["policy"].tolist(), "fallen": [], "tilt": [], "broken": []}
env._clones.stand([0, 1], numpy.zeros((2, 14)), env._arm_limits)
action = torch.zeros(4, 29)
action[2, :15] = 1.0
env._clones._arrays()["velocities"][3] = torch.nan
for step in range(100):
    obs, reward, terminated, truncated, _ = env.step(action)
    env._push[1] = 0.0  # from then on only its twin is pushed
    found["fallen"].append(terminated.tolist())
    found["broken"].append(truncated.tolist())
    found["tilt"].append(obs["policy"][:, :2].norm(dim=1).tolist())
    assert obs["policy"].isfinite().all() and reward.isfinite().all()
found["push_at"] = env._push_at.tolist()
print("FOUND" + json.dumps(found), flush=True)
"""


def test_it_stands_for_a_while_is_pushed_falls_and_starts_anew() -> None:
    done = subprocess.run([sys.executable, "-c", PLAY], capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0 and "FOUND" in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]
    found = json.loads(done.stdout.split("FOUND")[1].splitlines()[0])
    first, fallen, tilt = np.array(found["first"]), np.array(found["fallen"]), np.array(found["tilt"])
    np.testing.assert_allclose(first[:, :3], [[0, 0, -1]] * 4, atol=1e-6)
    for seen in first:  # hands and joints as MuJoCo has them
        body = Body()
        body.reset(0, seen[6 + 15 : 6 + 29])
        np.testing.assert_allclose(seen[93:99].reshape(2, 3), body.hands, atol=1e-4)
    assert (np.abs(first[:, 6 + 15 : 6 + 29]) < 0.1001).all() and first[:, 21:35].std() > 0.03
    pushed = found["push_at"][0]
    assert min(found["push_at"][:2]) > 0 and tilt[:30, 0].max() < 0.1
    np.testing.assert_allclose(tilt[:pushed, 0], tilt[:pushed, 1], atol=1e-5)
    assert np.abs(tilt[pushed : pushed + 20, 0] - tilt[pushed : pushed + 20, 1]).max() > 2e-3, "a push tilts the pelvis"
    assert fallen[:, 2].any() and not fallen[:20].any(), "legs driven to the end of their range do not stand"
    assert np.array(found["broken"])[0, 3] and "physics diverged in environments [3]" in done.stdout
