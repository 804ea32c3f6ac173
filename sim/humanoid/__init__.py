"""A Unitree G1 that stands by itself and reaches with its arms, in MuJoCo; `sim.isaaclab` steps the same robot in Isaac Lab."""
