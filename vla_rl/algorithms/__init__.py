"""Algorithms, one file each: `update(batch) -> metrics` on a policy they own the optimizer of."""
