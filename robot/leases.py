"""Who may command: one source at a time, by name, while its heartbeat lives, with sequence numbers that only grow."""

from __future__ import annotations

import math


class Lease:
    """The permission to command. Times are monotonic seconds of the caller's clock."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.forget()

    @property
    def holder(self) -> str | None:
        """Name of the source that may command."""
        return self._holder

    def grant(self, source: str, now_s: float) -> None:
        """Give the lease to a source, and take it from any other; its sequence starts anew."""
        self._holder, self._last_heartbeat_s, self._sequence = source, now_s, -1

    def forget(self) -> None:
        """Nobody may command."""
        self._holder: str | None = None
        self._last_heartbeat_s = -math.inf
        self._sequence = -1

    def heartbeat(self, source: str, now_s: float) -> None:
        """A sign of life; of another source than the holder it means nothing."""
        if source == self._holder:
            self._last_heartbeat_s = max(self._last_heartbeat_s, now_s)

    def silence_s(self, now_s: float) -> float:
        """Time since the holder's last sign of life; infinite without a holder."""
        return now_s - self._last_heartbeat_s

    def refusal(self, source: str, sequence: int, now_s: float) -> tuple[str, float] | None:
        """Why a command is not accepted: code and magnitude. None if it is, and then its sequence number is used up."""
        if source != self._holder:
            return "permission", 1.0
        if (silence := self.silence_s(now_s)) > self._timeout_s:
            return "lease", silence
        if sequence <= self._sequence:
            return "sequence", float(self._sequence - sequence)
        self._sequence = sequence
        return None
