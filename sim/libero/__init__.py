"""LIBERO's tasks, through LeRobot's environment, behind the `VecEnv` contract."""
