"""A teleoperator for LeRobot's programs that needs no device."""
