"""What test simulators share whose environments step alone and run every task."""

from __future__ import annotations


class Independent:
    """Part of `VecEnv`."""

    tasks: tuple[str, ...] = ()
    horizon = 100
    test_states: int | None = None
    lockstep: tuple[tuple[int, ...], ...] = ()

    def hosts(self, env_id: int) -> tuple[str, ...]:
        return self.tasks
