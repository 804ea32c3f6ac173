"""Failures of a run that the command line tells in one sentence, importable without torch."""

from __future__ import annotations

from policies.interface import UserError


class NonFiniteError(RuntimeError):
    """A loss or gradient is NaN or infinite; the weights were not touched."""


class NoSignalError(UserError):
    """A whole stretch of training had nothing to learn from, such as rewards that are all equal."""


class Stopped(Exception):  # noqa: N818  not an error
    """Training was interrupted by Ctrl-C or SIGTERM and stopped between two updates."""
