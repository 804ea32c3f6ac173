"""Demonstrations: collecting, writing and loading LeRobotDataset v3 folders."""
