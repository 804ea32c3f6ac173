"""What each verb of `vla-rl` does: parse its arguments, call the library. Everything heavy is imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from vla_rl.arguments import add_logs, make_parser, require_ros
from vla_rl.config import Config, EvalConfig, SimConfig, Strict
from vla_rl.presets import ConfigError, apply_flags, load_config, read_yaml, validate


def train(args: list[str]) -> None:
    """`vla-rl train PRESET --run-dir DIR [--resume] [--algorithm.lr 1e-4 ...]`."""
    parser = make_parser("train", "One training run. All settings of the preset are flags.", config=True)
    parser.add_argument("preset", type=Path, help="settings that differ from the defaults, such as configs/student.yaml")
    parser.add_argument("--run-dir", type=Path, help="folder of the run (default: runs/PRESET-sSEED)")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
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

    parser = make_parser("collect", "Demonstrations of scripted experts, or rollouts of a policy, as a LeRobotDataset.", config=True)
    parser.add_argument("preset", type=Path, help="settings that differ from the defaults, such as configs/demos.yaml")
    parser.add_argument("--bank", action="store_true", help="states for training episodes to start from, in place of a data set")
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
    parser = make_parser("eval", "Success of a policy, or of the scripted experts, on initial states it was not trained on.", config=True)
    parser.add_argument("policy", type=Path, help="a run or a policy folder, or the word expert")
    parser.add_argument("--out", type=Path, help="folder for numbers and videos (default: eval-SPLIT in the run)")
    parser.add_argument("--preset", type=Path, help="where simulator and tasks stand, if not those of the run")
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
    parser = make_parser("export", "A run's policy as a bundle for a robot.", config=True)
    parser.add_argument("policy", type=Path, help="a run or a policy folder")
    parser.add_argument("--out", type=Path, help="folder of the bundle")
    parser.add_argument("--preset", type=Path, help="where simulator and tasks stand, if not those of the run")
    parser.add_argument("--onnx", action="store_true", help="weights as ONNX, checked against torch, for robots without torch")
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

    require_ros("trials")
    from robot.ros2.trial import operating
    from vla_rl.trials import TrialsConfig, trials

    trials(tyro.cli(TrialsConfig, args=args, prog="vla-rl trials"), operating)


def serve(args: list[str]) -> None:
    """`vla-rl serve BUNDLE [--host 127.0.0.1] [--port 8760] [--token-file FILE --cert FILE --key FILE]`."""
    parser = make_parser("serve", "A policy server. On a network address it needs a token and TLS; on 127.0.0.1 neither.")
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
    parser = make_parser("grid", "An experiment cell by cell; finished cells are skipped.")
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
    parser = make_parser("compare", "Tables, curves and one HTML report over runs or finished cells.")
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
    """`vla-rl demo [--sim metaworld|mujoco|isaaclab]`: resumable, 12 to 21 minutes on two cores."""
    from vla_rl.demo import GRIDS, demo

    parser = make_parser("demo", "Collect, train a teacher and a student, distil, evaluate, report. Run it again to resume.")
    parser.add_argument("--sim", choices=tuple(GRIDS), default="metaworld", help="simulator (default: metaworld)")
    parser.add_argument("--out", type=Path, help="everything goes here (default: runs/ and the grid's name, such as runs/demo)")
    known = parser.parse_args(args)
    demo(known.sim, known.out)


def teleop(args: list[str]) -> None:
    """`vla-rl teleop PROFILE [--out DIR --like BUNDLE --instruction TEXT]`."""
    parser = make_parser("teleop", "Move a robot by keys or a gamepad, through bridge and safety filter, and record demonstrations.")
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
    add_logs(parser, "runs/teleop")
    known = parser.parse_args(args)
    require_ros("teleop")
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
