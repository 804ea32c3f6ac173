"""A Unitree G1 that stands by itself and reaches with its arms, in MuJoCo."""
