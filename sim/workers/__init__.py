"""Simulation in worker processes: what every CPU backend shares."""
