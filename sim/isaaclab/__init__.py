"""The tabletop suite in Isaac Lab: the same tasks, scenes and robots as every other backend, cloned N times."""
