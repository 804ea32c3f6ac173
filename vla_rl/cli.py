"""`vla-rl VERB ...`: one console script. Verbs import what they need when they are called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

VERBS = {
    "demo": "collect, train, distil, evaluate: the main job on a small scale",
    "collect": "PRESET --out DIR       demonstrations of scripted experts as a LeRobotDataset; --bank: states to start from",
    "train": "PRESET --run-dir DIR   one training run, evaluated at its end",
    "eval": "POLICY --out DIR       success with intervals, contact sheet, videos",
    "export": "RUN --out BUNDLE       a bundle that a robot can run and check",
    "serve": "BUNDLE                chunks of a bundle's policy for robots, over a socket",
    "deploy": "BUNDLE --robot PROFILE  a policy on a robot over ROS 2, behind the safety filter",
    "teleop": "PROFILE [--out DIR --like BUNDLE]  a robot moved by keys or a gamepad, recorded as demonstrations",
    "console": "PROFILE              an operator's keyboard: e-stop, dead-man switch, arming, state",
    "view": "PROFILE                 a page in the browser: cameras, joints, state, latency, a stop button",
    "sim-robot": "PROFILE            a simulated robot as a participant of ROS 2",
    "drive": "PROFILE --port PORT --id ID  a robot behind LeRobot's driver, such as the SO-101, as a participant of ROS 2",
    "calibrate": "PROFILE --camera NAME  intrinsics and lens of a robot's camera, from a chessboard",
    "doctor": "PROFILE               a robot on the graph: rates, ages, quality of service; --measure writes histograms",
    "trials": "BUNDLE --robot PROFILE --out DIR  success of a bundle on the simulated robot, episode after episode",
    "grid": "GRID                   an experiment, cell by cell",
    "compare": "RUN...  --out DIR      tables, curves and an HTML report over runs or cells",
    "bench": "rollout | simulators | latency | blends | budget | faults  speed; latency; chunks taking over; camera to command; faults",
}

PROGRAMS = {
    "deploy": "robot.deploy",
    "console": "robot.ros2.console",
    "view": "robot.ros2.view",
    "sim-robot": "sim.ros2.__main__",
    "drive": "robot.ros2.drive",
    "calibrate": "robot.ros2.calibrate",
    "doctor": "robot.ros2.doctor",
}
"""Verbs that are programs of their own, with their own exit status: each module's `main`."""

EXIT_USER = 2
EXIT_STOPPED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit status: 0 done, 2 bad input, 130 stopped."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must leave the cores to the simulator
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print("usage: vla-rl VERB ...   (vla-rl VERB --help tells more)\n")
        print("\n".join(f"  {verb:9} {text}" for verb, text in VERBS.items()))
        return 0
    if args[0] not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(args[0], VERBS, n=1)
        print(
            f"vla-rl: unknown verb '{args[0]}'; {f'did you mean {near[0]}?' if near else 'there are ' + ', '.join(VERBS)}", file=sys.stderr
        )
        return EXIT_USER
    return _guarded(_command(args[0]), args[1:])


def _command(verb: str) -> Callable[[list[str]], int | None]:
    if verb in PROGRAMS:
        return lambda args: importlib.import_module(PROGRAMS[verb]).main(args)
    from vla_rl import bench_commands, commands

    if verb == "bench":
        return bench_commands.bench
    return getattr(commands, {"eval": "evaluate"}.get(verb, verb))


def _guarded(command: Callable[[list[str]], int | None], args: list[str]) -> int:
    """Turn mistakes of the user and interrupts into one sentence; programming errors keep their traceback."""
    from policies.interface import PolicyError, UserError
    from sim.vec_env import SimulationError
    from vla_rl.errors import NonFiniteError, Stopped

    try:
        return command(args) or 0
    except (UserError, PolicyError, SimulationError, NonFiniteError, OSError, ImportError) as error:
        print(f"vla-rl: {error}", file=sys.stderr)
        return EXIT_USER
    except Stopped as stopped:
        print(f"vla-rl: {stopped}", file=sys.stderr)
        return EXIT_STOPPED
    except KeyboardInterrupt:
        print("vla-rl: interrupted", file=sys.stderr)
        return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
