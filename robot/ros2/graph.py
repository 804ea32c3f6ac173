"""A process joins the ROS graph."""

from __future__ import annotations

import os
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions


def join(context: Context | None = None, domain_id: int | None = None) -> None:
    """`rclpy.init` without its signal handlers, and without the shared memory of Fast DDS unless the environment asks for it.

    That memory is guarded by locks: a process that hangs while it holds one stops all others on its host that send to it, for a second at
    a time. Where discovery is limited to this host (`ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST`), ROS uses it all the same.

    Args:
        context: the process's own if none.
        domain_id: `ROS_DOMAIN_ID` if none.
    """
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    rclpy.init(args=[], context=context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)


def shares_memory() -> bool:
    """Whether this process, which has joined, uses that memory all the same."""
    return "/dev/shm/fastrtps_" in Path("/proc/self/maps").read_text()
