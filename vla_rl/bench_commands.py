"""What `vla-rl bench` does: parse arguments, call the library. Everything heavy is imported inside."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from vla_rl.arguments import add_logs, make_parser, require_ros
from vla_rl.presets import ConfigError, load_config


def bench(args: list[str]) -> None:
    """`vla-rl bench WHAT`: rollout [PRESET], simulators, latency POLICY..., on simulated robots blends BUNDLE, budget BUNDLE, faults."""
    others = {"simulators": _bench_simulators, "blends": _bench_blends, "faults": _bench_faults, "budget": _bench_budget}
    if args and args[0] in others:
        others[args[0]](args[1:])
        return
    parser = make_parser("bench", "Throughput against what the parts allow; latency of policies side by side.", config=True)
    parser.add_argument("what", choices=["rollout", "latency", *others])
    parser.add_argument("paths", type=Path, nargs="*", help="rollout: a preset; latency: policy folders; blends: a bundle")
    known, flags = parser.parse_known_args(args)
    if known.what == "latency":
        from vla_rl.latency import LatencyConfig, bench_latency

        if not known.paths:
            raise ConfigError("vla-rl bench latency needs at least one policy folder")
        bench_latency(known.paths, load_config(LatencyConfig, None, flags, "vla-rl bench latency POLICY..."))
        return
    from sim.workers.process import software_gl

    os.environ.setdefault("MUJOCO_GL", software_gl())  # before MuJoCo is imported in this process
    from vla_rl.bench import BenchConfig, bench_rollout

    preset = known.paths[0] if known.paths else None
    bench_rollout(load_config(BenchConfig, preset, flags, "vla-rl bench rollout [PRESET]"))


def _bench_simulators(args: list[str]) -> None:
    parser = make_parser("bench simulators", "Control steps per second of MuJoCo and Isaac Lab behind our environments and by themselves.")
    parser.add_argument("--task", default="reach", help="tabletop task (default: reach)")
    parser.add_argument("--sim", nargs="+", choices=["mujoco", "isaaclab"], default=["mujoco", "isaaclab"])
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 16, 64, 256], help="environments (default: 1 16 64 256)")
    parser.add_argument("--repeats", type=int, default=5, help="in turn; medians are shown (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each repeat (default: 2)")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    known = parser.parse_args(args)
    if min(known.envs) < 1 or known.repeats < 1 or known.seconds <= 0:
        raise ConfigError("vla-rl bench simulators: environments and repeats start at 1, seconds lie above 0")
    from vla_rl.bench_simulators import BenchSettings, bench_simulators
    from vla_rl.provenance import describe_environment

    settings = BenchSettings(known.task, tuple(known.sim), tuple(known.envs), repeats=known.repeats, seconds=known.seconds)
    bench_simulators(settings, known.out, describe_environment())


def _bench_faults(args: list[str]) -> None:
    parser = make_parser("bench faults", "What a deployment on the simulated robot does when something fails. Never where a real robot is.")
    parser.add_argument("--robot", type=Path, required=True, help="profile of the simulated arm")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="faults whose group or name contains one of these")
    parser.add_argument("--repeats", type=int, default=5, help="of every fault (default: 5)")
    add_logs(parser, "runs/faults")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    known = parser.parse_args(args)
    require_ros("bench faults")
    from robot.ros2.faults.bench import bench_faults
    from robot.ros2.faults.catalogue import chosen
    from vla_rl.provenance import describe_environment

    if known.repeats < 1:
        raise ConfigError(f"vla-rl bench faults: repeats start at 1, got {known.repeats}")
    bench_faults(known.robot, chosen(known.only), known.repeats, known.logs, known.out, describe_environment())


def _bench_budget(args: list[str]) -> None:
    parser = make_parser("bench budget", "Where the time from camera to command goes, and command jitter, on the simulated robot.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--robot", type=Path, required=True, help="profile of the simulated robot")
    parser.add_argument("--task", default="reach", help="of the tabletop (default: reach), or of the humanoid")
    parser.add_argument("--rates", type=float, nargs="+", default=[50.0, 200.0, 500.0], help="of commands [Hz] (default: 50 200 500)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of motion at each rate (default: 30)")
    parser.add_argument("--retell", type=float, metavar="SECONDS", help="tell the policy what another test seed is about, every so often")
    add_logs(parser, "runs/budget")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    known = parser.parse_args(args)
    require_ros("bench budget")
    if min(known.seconds, *known.rates, 1.0 if known.retell is None else known.retell) <= 0:
        raise ConfigError("vla-rl bench budget: seconds, rates and --retell lie above 0")
    from robot.ros2.budget import Told, bench_budget
    from vla_rl.provenance import describe_environment
    from vla_rl.trials import instruction

    told = Told(known.retell, partial(instruction, known.task)) if known.retell is not None else None
    bench_budget(known.bundle, known.robot, known.task, known.rates, known.seconds, known.logs, known.out, describe_environment(), told)


def _bench_blends(args: list[str]) -> None:
    parser = make_parser("bench blends", "How chunks take over from each other, on the simulated arm in virtual time.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--robot", type=Path, required=True, help="profile of the simulated arm")
    parser.add_argument("--task", default="reach")
    parser.add_argument("--episodes", type=int, default=50, help="initial states, from the first test seed on (default: 50)")
    parser.add_argument("--delays", type=float, nargs="+", default=[0.0, 0.1, 0.3], help="mean seconds from observation to chunk")
    parser.add_argument("--jitter", type=float, default=0.3, help="share of the mean that a delay may be off (default: 0.3)")
    parser.add_argument("--patience", type=float, default=2.0, help="time for an episode, in horizons of the task (default: 2)")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    known = parser.parse_args(args)
    if known.episodes < 1 or known.patience <= 0 or min(known.delays) < 0 or not 0 <= known.jitter <= 1:
        raise ConfigError("vla-rl bench blends: episodes start at 1, patience above 0, delays at 0, and jitter is from 0 to 1")
    from sim.workers.process import software_gl

    os.environ.setdefault("MUJOCO_GL", software_gl())  # before MuJoCo is imported in this process
    from policies.deployed import LocalPolicy, open_bundle
    from policies.lerobot_rtc import load_lerobot_rtc
    from robot.blend_bench import Way, compare_blends
    from robot.profile import load_profile
    from sim.ros2.body import ArmBody
    from sim.ros2.wiring import wire
    from sim.vec_env import SEED_RANGES
    from vla_rl.provenance import describe_environment

    policy, profile = open_bundle(known.bundle, "torch"), load_profile(known.robot)
    ways = {"replace": Way(policy, "replace"), "crossfade": Way(policy, "crossfade"), "ensemble": Way(policy, "ensemble")}
    if policy.takes_prefix:
        lerobots = LocalPolicy(policy.bundle, load_lerobot_rtc(known.bundle / "policy"), True)
        ways |= {"real-time chunking": Way(policy, "rtc"), "LeRobot's": Way(lerobots, "rtc")}
    images = policy.bundle.spec.of_kind("image")
    body = ArmBody(wire(profile).name, images[0].shape[0] if images else 64)

    def opened(seed: int) -> tuple[ArmBody, str]:
        return body, body.reset(known.task, seed)

    opened(0)
    limit_s = known.patience * body.horizon / policy.bundle.spec.control_hz
    seeds = SEED_RANGES["test"][: known.episodes]
    try:
        about = {**describe_environment(), "bundle": policy.bundle.digest}
        compare_blends(ways, profile, opened, known.delays, known.jitter, seeds, limit_s, known.out, about)
    finally:
        body.close()
