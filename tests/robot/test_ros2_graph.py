"""No process of ours waits for the locks of another's shared memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from tests.ros import unique_domain

pytestmark = pytest.mark.ros

NODE = """
import rclpy
from robot.ros2.graph import join, shares_memory
{join}
node = rclpy.create_node("node")
print(shares_memory())
"""


@pytest.mark.parametrize(
    ("join", "asked", "shares"),
    [
        ("rclpy.init()", {}, True),
        ("join()", {}, False),
        ("join()", {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"}, True),
        ("join()", {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, True),
    ],
)
def test_only_who_asks_for_it_shares_memory(join: str, asked: dict[str, str], shares: bool) -> None:
    """Without discovery, as with the default range; limited to this host, ROS always shares."""
    environment = {name: value for name, value in os.environ.items() if name != "FASTDDS_BUILTIN_TRANSPORTS"}
    environment |= {"ROS_DOMAIN_ID": str(unique_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF", **asked}
    command = [sys.executable, "-c", NODE.format(join=join)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [str(shares)]
