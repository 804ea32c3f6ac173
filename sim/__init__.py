"""Vectorised simulation environments behind one contract (`sim.vec_env`)."""
