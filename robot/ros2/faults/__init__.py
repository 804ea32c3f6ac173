"""Faults injected into a deployment on a simulated robot, and what came of them."""
