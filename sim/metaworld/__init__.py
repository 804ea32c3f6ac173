"""Meta-World tasks behind the `VecEnv` contract."""
