"""The tabletop suite in MuJoCo, behind the `VecEnv` contract."""
