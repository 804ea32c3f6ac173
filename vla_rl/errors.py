"""Failures of a run that the command line tells in one sentence, importable without torch."""


class NonFiniteError(RuntimeError):
    """A loss or gradient is NaN or infinite; the weights were not touched."""


class Stopped(Exception):  # noqa: N818  not an error
    """Training was interrupted by Ctrl-C or SIGTERM and stopped between two updates."""
