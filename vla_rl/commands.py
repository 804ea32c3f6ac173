"""What each verb of `vla-rl` does: parse its arguments, call the library. Everything heavy is imported inside."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NoReturn

from pydantic import Field

from vla_rl.config import Config, EvalConfig, SimConfig, Strict
from vla_rl.presets import ConfigError, apply_flags, load_config, read_yaml, validate


class _Parser(argparse.ArgumentParser):
    """Arguments around a config; an error is one sentence like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def _parser(verb: str, description: str, **kinds: bool) -> _Parser:
    return _Parser(prog=f"vla-rl {verb}", description=description, allow_abbrev=False, add_help=not kinds.get("config", False))


def train(args: list[str]) -> None:
    """`vla-rl train PRESET --run-dir DIR [--resume] [--algorithm.lr 1e-4 ...]`."""
    parser = _parser("train", "One training run. All settings of the preset are flags.", config=True)
    parser.add_argument("preset", type=Path)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--resume", action="store_true")
    known, flags = parser.parse_known_args(args)
    config = load_config(Config, known.preset, flags, "vla-rl train PRESET [--run-dir DIR] [--resume]")
    from vla_rl.train import train

    folder = known.run_dir or Path("runs") / f"{known.preset.stem}-s{config.seed}"
    print(f"run folder {folder}, resolved config {folder / 'config.yaml'}")
    train(config, folder, known.resume)


def collect(args: list[str]) -> None:
    """`vla-rl collect PRESET --out DIR [--bank] [--episodes 80 ...]`."""
    from policies.folder import load_policy
    from vla_rl.data.collect import CollectConfig, collect
    from vla_rl.train import make_env

    parser = _parser("collect", "Demonstrations of scripted experts, or rollouts of a policy, as a LeRobotDataset.", config=True)
    parser.add_argument("preset", type=Path)
    parser.add_argument("--bank", action="store_true")
    known, flags = parser.parse_known_args(args)
    if known.bank:
        _collect_bank(known.preset, flags)
        return
    config = load_config(CollectConfig, known.preset, flags, "vla-rl collect PRESET [--bank]")
    env = make_env(config.sim)
    try:
        print(f"dataset {collect(config, env, load_policy(config.policy) if config.policy else None)}")
    finally:
        env.close()


def _collect_bank(preset: Path, flags: list[str]) -> None:
    """States for training episodes to start from, in place of a data set."""
    from vla_rl.data.bank import BankConfig, collect_bank
    from vla_rl.train import make_env

    config = load_config(BankConfig, preset, flags, "vla-rl collect PRESET --bank")
    env = make_env(config.sim)
    try:
        print(f"bank {collect_bank(config, env)}")
    finally:
        env.close()


class EvaluateConfig(Strict):
    """Evaluation of a policy folder or a run."""

    sim: SimConfig = SimConfig()
    """Simulator and tasks; camera, image size and action must be those of the policy."""
    evaluate: EvalConfig = EvalConfig()
    seed: int = Field(default=0, ge=0)
    """Seed of the drawn instructions when they are shuffled."""


def evaluate(args: list[str]) -> None:
    """`vla-rl eval RUN_OR_POLICY|expert [--out DIR] [--preset FILE] [--executed N] [--evaluate.episodes 50 ...]`."""
    parser = _parser("eval", "Success of a policy, or of the scripted experts, on initial states it was not trained on.", config=True)
    parser.add_argument("policy", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--preset", type=Path)
    parser.add_argument("--executed", type=int, help="decide anew after so many steps, as a bundle that was exported so does")
    known, flags = parser.parse_known_args(args)
    tree = _run_settings(known.policy) | (read_yaml(known.preset) if known.preset else {})
    several, expert = len(tree.get("sim", {}).get("tasks", SimConfig().tasks)) > 1, known.policy == Path("expert")
    if expert and (known.out is None or known.executed):
        raise ConfigError("vla-rl eval expert needs --out DIR, and takes no --executed: experts decide at every step")
    tree["evaluate"] = ({} if expert else {"videos": 1, "shuffled": several}) | tree.get("evaluate", {})
    config = apply_flags(
        validate(EvaluateConfig, tree, str(known.preset or known.policy)), flags, "vla-rl eval RUN [--out DIR] [--preset FILE]"
    )
    from policies.folder import load_policy
    from vla_rl.train import evaluate_policy, make_env

    out = known.out or known.policy / f"eval-{config.evaluate.split}"
    policy = None if expert else load_policy(_policy_folder(known.policy), executed=known.executed)
    env = make_env(config.sim)
    try:
        evaluate_policy(policy, env, config.evaluate, config.sim.tasks, config.seed, out)
    finally:
        env.close()


def _run_settings(path: Path) -> dict[str, Any]:
    """The simulator's settings where `path` is a run, which knows its own."""
    if (path / "config.yaml").is_file() and (path / "policy").is_dir():
        return {"sim": read_yaml(path / "config.yaml").get("sim", {})}
    return {}


def _policy_folder(path: Path) -> Path:
    return path / "policy" if (path / "policy").is_dir() else path


class ExportConfig(Strict):
    """Where a policy comes from."""

    sim: SimConfig = SimConfig()
    """Simulator that the policy was trained in: its cameras, actions and limits go into the bundle."""


def export(args: list[str]) -> None:
    """`vla-rl export RUN_OR_POLICY --out BUNDLE [--onnx] [--executed N] [--preset FILE] [--sim.backend mujoco ...]`."""
    usage = "vla-rl export RUN --out BUNDLE [--onnx] [--executed N] [--preset FILE]"
    parser = _parser("export", "A run's policy as a bundle for a robot.", config=True)
    parser.add_argument("policy", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--preset", type=Path)
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--executed", type=int, help="decide anew after so many steps; what is left of a chunk covers a robot's latency")
    known, flags = parser.parse_known_args(args)
    settings = _run_settings(known.policy) | ({"sim": read_yaml(known.preset).get("sim", {})} if known.preset else {})
    config = apply_flags(validate(ExportConfig, settings, str(known.preset or known.policy)), flags, usage)
    if known.out is None:
        raise ConfigError(f"vla-rl export: --out says where the bundle goes; {usage}")
    if not settings and not flags:
        raise ConfigError(f"{known.policy} is no run folder: name the preset it was trained with, --preset FILE")
    from vla_rl.export import export

    bundle = export(_policy_folder(known.policy), config.sim, known.out, known.onnx, known.executed)
    print(f"bundle {known.out}, digest {bundle.digest[:16]}")
    if bundle.onnx:
        print(f"policy.onnx differs from torch by at most {bundle.onnx.max_difference:.2g} of half an action range on the sample")


def trials(args: list[str]) -> None:
    """`vla-rl trials BUNDLE --robot PROFILE --out DIR [--task lift --episodes 100 --against evaluation.json ...]`."""
    import tyro

    _require_ros("trials")
    from robot.ros2.trial import operating
    from vla_rl.trials import TrialsConfig, trials

    trials(tyro.cli(TrialsConfig, args=args, prog="vla-rl trials"), operating)


def serve(args: list[str]) -> None:
    """`vla-rl serve BUNDLE [--host 127.0.0.1] [--port 8760] [--token-file FILE --cert FILE --key FILE]`."""
    parser = _parser("serve", "A policy server. On a network address it needs a token and TLS; on 127.0.0.1 neither.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=8760, help="0 takes a free one (default: 8760)")
    parser.add_argument("--token-file", type=Path, help="shared secret, in a file that only you can read")
    parser.add_argument("--cert", type=Path, help="TLS certificate, PEM")
    parser.add_argument("--key", type=Path, help="its private key, in a file that only you can read")
    parser.add_argument("--backend", choices=["auto", "torch", "onnx"], default="auto", help="auto: onnx where the bundle has it")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    known = parser.parse_args(args)
    if (known.cert is None) != (known.key is None):
        raise ConfigError("vla-rl serve: --cert and --key belong together")
    from robot.serve.run import serve_bundle

    serve_bundle(known.bundle, known.host, known.port, known.token_file, known.cert, known.key, known.backend, known.device)


def grid(args: list[str]) -> None:
    """`vla-rl grid GRID [--only CELL ...] [--runs DIR] [--dry-run]`."""
    parser = _parser("grid", "An experiment cell by cell; finished cells are skipped.")
    parser.add_argument("grid", type=Path)
    parser.add_argument("--only", nargs="+", default=[], metavar="CELL", help="only these cells, and what they need")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go (default: runs)")
    parser.add_argument("--results", type=Path, help="where finished cells' JSON files go (default: results/ beside the grids)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that are left to do")
    known = parser.parse_args(args)
    from vla_rl.grid import run_grid

    run_grid(known.grid, tuple(known.only), known.runs, known.dry_run, known.results)


def compare(args: list[str]) -> None:
    """`vla-rl compare RUN_OR_CELL... --out DIR [--student CELL --teacher CELL] [--pair CELL CELL] [--reach CELL]`."""
    parser = _parser("compare", "Tables, curves and one HTML report over runs or finished cells.")
    parser.add_argument("paths", type=Path, nargs="+", help="run folders, cell JSON files, or folders of these")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: report)")
    parser.add_argument("--student", help="cell where the gap starts")
    parser.add_argument("--teacher", help="cell where the gap ends")
    parser.add_argument("--pair", nargs=2, metavar="CELL", help="two cells to set against each other at every budget")
    parser.add_argument("--reach", metavar="CELL", help="cell whose last validation success the others' episodes are counted to")
    known = parser.parse_args(args)
    from vla_rl.compare import compare

    compare(known.paths, known.out, known.student, known.teacher, tuple(known.pair) if known.pair else None, known.reach)


def demo(args: list[str]) -> None:
    """`vla-rl demo [--out runs/demo]`: resumable, under 15 minutes on two cores."""
    parser = _parser("demo", "Collect, train a teacher and a student, distil, evaluate, report. Run it again to resume.")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="everything goes here (default: runs/demo)")
    known = parser.parse_args(args)
    from vla_rl.demo import demo

    demo(known.out)


def bench(args: list[str]) -> None:
    """`vla-rl bench WHAT`: rollout [PRESET], simulators, latency POLICY..., on simulated robots blends BUNDLE, budget BUNDLE, faults."""
    others = {"simulators": _bench_simulators, "blends": _bench_blends, "faults": _bench_faults, "budget": _bench_budget}
    if args and args[0] in others:
        others[args[0]](args[1:])
        return
    parser = _parser("bench", "Throughput against what the parts allow; latency of policies side by side.", config=True)
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
    parser = _parser("bench simulators", "Control steps per second of MuJoCo and Isaac Lab behind our environments and by themselves.")
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
    parser = _parser("bench faults", "What a deployment on the simulated robot does when something fails. Never where a real robot is.")
    parser.add_argument("--robot", type=Path, required=True, help="profile of the simulated arm")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="faults whose group or name contains one of these")
    parser.add_argument("--repeats", type=int, default=5, help="of every fault (default: 5)")
    _add_logs(parser, "runs/faults")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    known = parser.parse_args(args)
    _require_ros("bench faults")
    from robot.ros2.faults.bench import bench_faults
    from robot.ros2.faults.catalogue import chosen
    from vla_rl.provenance import describe_environment

    if known.repeats < 1:
        raise ConfigError(f"vla-rl bench faults: repeats start at 1, got {known.repeats}")
    bench_faults(known.robot, chosen(known.only), known.repeats, known.logs, known.out, describe_environment())


def _bench_budget(args: list[str]) -> None:
    parser = _parser("bench budget", "Where the time from camera to command goes, and command jitter, on the simulated robot.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--robot", type=Path, required=True, help="profile of the simulated arm")
    parser.add_argument("--task", default="reach")
    parser.add_argument("--rates", type=float, nargs="+", default=[50.0, 200.0, 500.0], help="of commands [Hz] (default: 50 200 500)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of motion at each rate (default: 30)")
    _add_logs(parser, "runs/budget")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    known = parser.parse_args(args)
    _require_ros("bench budget")
    if known.seconds <= 0 or min(known.rates) <= 0:
        raise ConfigError("vla-rl bench budget: seconds and rates lie above 0")
    from robot.ros2.budget import bench_budget
    from vla_rl.provenance import describe_environment

    bench_budget(known.bundle, known.robot, known.task, known.rates, known.seconds, known.logs, known.out, describe_environment())


def teleop(args: list[str]) -> None:
    """`vla-rl teleop PROFILE [--out DIR --like BUNDLE --instruction TEXT]`."""
    parser = _parser("teleop", "Move a robot by keys or a gamepad, through bridge and safety filter, and record demonstrations.")
    parser.add_argument("profile", type=Path, help="the robot's profile, such as configs/robots/arm7.yaml")
    parser.add_argument(
        "--out", type=Path, help="data set to record, a LeRobotDataset v3 folder; what is recorded meanwhile lies in DIR.spool"
    )
    parser.add_argument("--like", type=Path, metavar="BUNDLE", help="bundle whose observations, actions and rate the data set has")
    parser.add_argument("--instruction", default="", help="what the demonstrations show")
    parser.add_argument("--task", default="", help="name under which training finds them (sim.tasks); the instruction by default")
    parser.add_argument("--tool", help="link that is moved (default: the last one of the profile's chain)")
    parser.add_argument("--speed", type=float, default=1.0, help="share of full speed, 0.15 m/s of the tool (default: 1)")
    parser.add_argument("--joy", metavar="TOPIC", help="gamepad, as ROS's joy node publishes it")
    parser.add_argument("--join", action="store_true", help="take over from a policy: the bridge of `vla-rl deploy` runs already")
    _add_logs(parser, "runs/teleop")
    known = parser.parse_args(args)
    _require_ros("teleop")
    if (known.out is None) != (known.like is None) or (known.out is not None and not known.instruction):
        raise ConfigError("vla-rl teleop: recording needs --out, --like BUNDLE and --instruction; without them nothing is recorded")
    if known.out is not None and known.out.exists():
        raise ConfigError(f"vla-rl teleop: {known.out} exists; choose another folder or delete it")
    from robot.ros2.teleop import open_session, teleop
    from vla_rl.data.recorded import write_recorded
    from vla_rl.provenance import describe_environment

    session = None if known.out is None else open_session(known.profile, known.like, known.out, known.instruction)
    teleop(known.profile, known.tool, known.speed, known.joy, known.join, known.logs, session)
    if session is not None and not len(session.spool):
        print("nothing was kept")
    elif session is not None:
        about = {"teleop": {"robot": str(known.profile), "bundle": session.bundle.digest}, **describe_environment()}
        write_recorded(session.out, session.bundle, known.task or known.instruction, session.spool, about)
        print(f"data set {session.out}, {len(session.spool)} episodes; {session.spool.folder} is no longer needed")


def _add_logs(parser: _Parser, folder: str) -> None:
    parser.add_argument("--logs", type=Path, default=Path(folder), help=f"folder for the logs of the processes (default: {folder})")


def _require_ros(verb: str) -> None:
    """Raise `ConfigError` without rclpy."""
    import importlib.util

    if importlib.util.find_spec("rclpy") is None:
        raise ConfigError(f"{verb} needs ROS 2: install the extra 'ros' (pip install 'vla-rl[ros]')")


def _bench_blends(args: list[str]) -> None:
    parser = _parser("bench blends", "How chunks take over from each other, on the simulated arm in virtual time.")
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
