"""Objectives: pure functions on factors, without policies, environments or state."""
