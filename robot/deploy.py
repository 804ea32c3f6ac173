"""`vla-rl deploy`: the bridge of a robot and the policy that commands it, as two processes that end together.

The policy may hang or die, or this process be killed; the bridge then stops the robot softly. If the bridge dies nothing is sent any more,
and the robot's own watchdog has to hold it. Neither is a safety function in the sense of ISO 10218.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from policies.interface import UserError
from robot.chunks import Blend
from robot.processes import end_with_parent

POLL_S = 0.2
END_S = 15.0
"""How long a process may take to stop softly and end."""


def deploy(
    bundle: Annotated[str, tyro.conf.Positional],
    robot: Path,
    instruction: str = "",
    speed: float | None = None,
    blend: Blend = "replace",
    deadman: bool = True,
    lockstep: bool = False,
    dry_run: bool = False,
    cameras: tuple[str, ...] | None = None,
    backend: str = "auto",
    device: str = "cpu",
    token_file: Path | None = None,
    ca: Path | None = None,
) -> int:
    """Hold a robot where it is and offer it a policy; arming is up to the operator (`vla-rl console`). Not a safety function.

    Args:
        bundle: folder of a bundle, or HOST:PORT of a policy server.
        robot: the robot's profile, such as configs/robots/arm7.yaml.
        instruction: what the policy is told.
        speed: share of the joint velocity limits, 0 to 1; the profile's speed_cap if not given.
        blend: how a new chunk takes over: replace, crossfade, ensemble, or rtc (the policy continues the last chunk; flow heads in torch).
        deadman: motion needs the dead-man switch.
        lockstep: a simulator waits for every command.
        dry_run: run the policy on what the robot shows, and send nothing: no bridge is started.
        cameras: that must be fresh while the policy commands; those that the bundle sees, or all of the profile behind a server.
        backend: what runs a bundle: auto, torch or onnx.
        device: of torch.
        token_file: shared secret of a policy server on the network.
        ca: certificate that the server's is signed with.
    """
    options = {"--instruction": instruction, "--backend": backend, "--device": device, "--token-file": token_file, "--ca": ca}
    given = [str(part) for name, value in options.items() if value for part in (name, value)]
    clock = ["--lockstep"] if lockstep else []
    continued = ["--continued"] if blend == "rtc" else []
    commands = [["robot.ros2.commander", bundle, str(robot), *given, *clock, *continued, *(["--shadow"] if dry_run else [])]]
    if not dry_run:
        limits = [*(["--speed", str(speed)] if speed is not None else []), *([] if deadman else ["--no-deadman"])]
        watched = _cameras(bundle, robot) if cameras is None else cameras
        watch = ["--cameras", *watched] if watched else []
        commands.append(["robot.ros2", str(robot), "--activate", "--blend", blend, *clock, *limits, *watch])
    return run_together(commands)


def _cameras(bundle: str, robot: Path) -> tuple[str, ...]:
    """What the policy sees, as far as it can be known before a server is asked."""
    from policies.bundle_folder import read_bundle
    from robot.profile import load_profile

    if Path(bundle).is_dir():
        return tuple(entry.frame for entry in read_bundle(Path(bundle)).spec.of_kind("image"))
    return tuple(load_profile(robot).topics.images)


def run_together(commands: Sequence[Sequence[str]]) -> int:
    """Run modules of this interpreter until SIGINT, SIGTERM, SIGHUP or the end of one; then end them, the first one first.

    Returns:
        Exit status: 0 if all ended cleanly when asked to (the signal's number if one was still starting), otherwise that of the
        one that ended by itself, at least 1.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    # Sessions of their own: Ctrl-C reaches this process alone, which keeps the order.
    processes = [
        subprocess.Popen([sys.executable, "-m", *command], start_new_session=True, preexec_fn=end_with_parent) for command in commands
    ]
    try:
        while not stop.wait(POLL_S) and all(process.poll() is None for process in processes):
            pass
        ended = [process.returncode for process in processes if process.poll() is not None]
    finally:
        codes = [_end(process) for process in processes]
    if stop.is_set():
        return max(map(abs, codes))
    return max(1, *map(abs, ended))


def _end(process: subprocess.Popen[bytes]) -> int:
    """Ask for a clean end, and insist where it does not come."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        print(f"process {process.pid} did not end within {END_S:g} s and was killed", file=sys.stderr)
        return process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 stopped when asked to, 1 or more if a process ended by itself, 2 bad input."""
    import importlib.util

    if importlib.util.find_spec("rclpy") is None:
        raise UserError("deploying needs ROS 2: install the extra 'ros' (pip install 'vla-rl[ros]')")
    return tyro.cli(deploy, args=argv, prog="vla-rl deploy")
