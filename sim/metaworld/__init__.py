"""Meta-World tasks behind the `VecEnv` contract."""

from sim.metaworld.env import MetaworldVecEnv

__all__ = ["MetaworldVecEnv"]
