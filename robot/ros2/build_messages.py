"""`python -m robot.ros2.build_messages FOLDER --out DIR`: message types of a robot's vendor, without a ROS installation.

The packages of ROS that pip installs bring its generators, headers and libraries; a C++ compiler makes of them a Python package that works
wherever DIR is on PYTHONPATH. For example, with https://github.com/unitreerobotics/unitree_ros2:

    python -m robot.ros2.build_messages unitree_ros2/cyclonedds_ws/src/unitree/unitree_hg --out messages
    PYTHONPATH=messages vla-rl deploy BUNDLE --robot configs/robots/g1.yaml

Of packages that use no other package's messages. On a full ROS installation use colcon instead.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import tyro

from policies.interface import UserError

COMPILERS = {".c": ("gcc", "-std=gnu11"), ".cpp": ("g++", "-std=c++17")}
SUPPORT = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")
"""How messages are serialised and looked into; rmw_fastrtps needs both."""


class BuildError(UserError):
    """No message types come of it."""


def build(package: Path, out: Path) -> Path:
    """Make a Python package of a folder of messages.

    Args:
        package: of the package's name, with messages in `msg/*.msg`.
        out: the Python package's parent folder; a package of this name that was built there before is replaced.

    Returns:
        The Python package.

    Raises:
        BuildError: there are no messages or no compiler, a message is wrong, or something else is where the package goes.
    """
    messages = sorted((package / "msg").glob("*.msg"))
    if not messages:
        raise BuildError(f"{package} has no msg/*.msg; give the folder of a ROS 2 package, such as unitree_hg")
    if missing := [command for command, _ in COMPILERS.values() if shutil.which(command) is None]:
        raise BuildError(f"no compiler: install {' and '.join(missing)}, on Debian and Ubuntu the packages of these names")
    made = out / package.name
    if made.exists() and not (made / "msg" / "__init__.py").exists():
        raise BuildError(f"{made} exists and is no package that was built before; choose another folder for `out`")
    with tempfile.TemporaryDirectory() as work:
        fresh = Path(work) / "made" / package.name
        (fresh / "msg").mkdir(parents=True)
        try:
            with redirect_stdout(io.StringIO()):
                generated = _generate(package.name, messages, Path(work))
            _compile(package.name, generated, fresh)
        except subprocess.CalledProcessError as error:
            raise BuildError(f"the compiler refused {package.name}: {error.stderr[-2000:]}") from error
        except Exception as error:
            raise BuildError(f"the messages of {package.name} cannot be generated: {type(error).__name__}: {error}") from error
        (fresh / "__init__.py").touch()
        for path in (generated[0] / "msg").glob("*.py"):
            shutil.copy(path, fresh / "msg")
        shutil.rmtree(made, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        shutil.move(fresh, made)
    return made


def _generate(name: str, messages: Sequence[Path], work: Path) -> tuple[Path, ...]:
    """Sources: of the messages themselves and of Python's access to them, and one folder for each of `SUPPORT`."""
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)  # where generators look for their templates
    from rosidl_adapter.msg import convert_msg_to_idl
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_generator_type_description.cli import HashTypeDescription
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    source = work / "source" / name
    (source / "msg").mkdir(parents=True)
    for path in messages:
        shutil.copy(path, source / "msg")
        convert_msg_to_idl(source, name, Path("msg") / path.name, source / "msg")
    task = (name, [f"{source}:msg/{path.stem}.idl" for path in messages], [str(source.parent)])
    folders = tuple(work / kind / name for kind in ("messages", *SUPPORT))
    for folder in folders:
        (folder / "msg").mkdir(parents=True)
    plain, fast, introspection = folders
    hashes = HashTypeDescription("type_description").generate_type_hashes(*task, plain)
    GenerateC("c").generate(*task, plain, hashes)
    GenerateFastRTPSCTypesupport("fastrtps_c").generate(*task, fast)
    GenerateIntrospectionCTypesupport("introspection_c").generate(*task, introspection)
    GenerateCTypesupport("c", typesupport_implementations=list(SUPPORT)).generate(*task, plain)
    GeneratePython("py", typesupport_implementations=["rosidl_typesupport_c"]).generate(*task, plain)
    return folders


def _compile(name: str, generated: Sequence[Path], made: Path) -> None:
    """Libraries beside the Python package, which find each other there."""
    import numpy as np

    plain, fast, introspection = generated
    prefix = Path(sys.prefix)
    headers = [*(folder.parent for folder in generated), Path(sysconfig.get_paths()["include"]), Path(np.get_include())]
    headers += [prefix / "include", *(folder for folder in (prefix / "include").iterdir() if folder.is_dir())]
    flags = ["-O1", "-fPIC", "-w", *(f"-I{folder}" for folder in headers)]

    def library(file: str, sources: Iterable[Path], needs: Sequence[str]) -> None:
        objects = []
        for path in sorted(sources):
            objects.append(f"{path}.o")
            _run([*COMPILERS[path.suffix], *flags, "-c", str(path), "-o", objects[-1]])
        where = [f"-Wl,-soname,{file}", "-Wl,-rpath,$ORIGIN", f"-L{made}", f"-L{prefix}/lib", "-Wl,--no-as-needed"]
        _run(["g++", "-shared", "-s", *objects, "-o", str(made / file), *where, *(f"-l{each}" for each in needs)])

    code = [path for path in plain.rglob("*") if path.suffix in COMPILERS]
    python = [path for path in code if path.name.startswith("_") or path.suffix == ".cpp"]
    own = f"{name}__rosidl_generator_c"
    library(f"lib{own}.so", [path for path in code if path not in python], ["rosidl_runtime_c", "rcutils"])
    for kind, folder, more in zip(SUPPORT, (fast, introspection), (["rosidl_typesupport_fastrtps_cpp", "fastcdr"], []), strict=True):
        library(f"lib{name}__{kind}.so", (path for path in folder.rglob("*") if path.suffix in COMPILERS), [own, kind, *more])
    needs = [own, *(f"{name}__{kind}" for kind in SUPPORT), "rosidl_typesupport_c", "rosidl_runtime_c", "rmw", "rcutils"]
    library(f"{name}_s__rosidl_typesupport_c.so", python, needs)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def build_messages(package: Annotated[Path, tyro.conf.Positional], out: Path) -> None:
    """Build the message types of a ROS 2 package of a robot's vendor.

    Args:
        package: folder with `msg/*.msg`, of the package's name.
        out: folder to put on PYTHONPATH.
    """
    print(f"{build(package.resolve(), out.resolve())}: put {out} on PYTHONPATH")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input."""
    try:
        tyro.cli(build_messages, args=argv, prog="python -m robot.ros2.build_messages")
    except UserError as error:
        print(f"build_messages: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
