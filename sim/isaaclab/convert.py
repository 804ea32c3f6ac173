# OpenUSD's stubs say that its functions return None.
# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOptionalMemberAccess=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOptionalIterable=false
"""A robot's MJCF model as USD, converted on first use.

The converter wants another MuJoCo than this project does, so it lives in an environment of its own in the cache folder.
`python -m sim.isaaclab.convert ROBOT OUT.usda` converts by hand; the suite's own arm was converted that way.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics

from sim.cache import cache_folder, isolated
from sim.isaaclab.usd import linear
from sim.robots import ROBOTS, Robot
from sim.vec_env import SimulationError

CONVERTER = "mujoco-usd-converter==0.8.0"


def robot_usd(robot: Robot) -> Path:
    """The USD file of a robot: beside its MJCF file, or converted into the cache folder.

    Raises:
        SimulationError: the meshes are missing, or the converter cannot be installed or fails.
    """
    committed = robot.model.with_suffix(".usda")
    return committed if committed.is_file() else cached_usd(robot.name, robot.mjcf())


def cached_usd(name: str, mjcf: str) -> Path:
    """The USD file of an MJCF text, converted into the cache folder. Raises `SimulationError` as `robot_usd`."""
    content = hashlib.sha256((mjcf + CONVERTER).encode()).hexdigest()
    converted = cache_folder() / "usd" / f"{name}-{content[:16]}" / f"{name}.usda"
    if not converted.is_file():
        print(f"converting {name} to USD; the result is kept in {converted.parent}", file=sys.stderr)
        convert(name, mjcf, hashlib.sha256(mjcf.encode()).hexdigest(), converted)
    return converted


def convert(name: str, mjcf: str, digest: str, out: Path) -> None:
    """Convert an MJCF text; the USD file, which keeps the `digest` of its source, appears in one step."""
    with tempfile.TemporaryDirectory() as folder:
        model, usd = Path(folder) / f"{name}.xml", Path(folder) / "usd"
        model.write_text(mjcf)
        command = [str(_converter()), "--no-layer-structure", "--no-physics-scene", str(model), str(usd)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        written = [path for path in usd.glob("*") if path.suffix in (".usd", ".usdc", ".usda")]
        if done.returncode or len(written) != 1:
            raise SimulationError(f"converting {name} to USD failed: {(done.stderr or done.stdout).strip()[-500:]}")
        stage = Usd.Stage.Open(str(written[0]))
        draw_colliders(stage)
        linearise_colours(stage)
        layer = stage.Flatten()
        layer.documentation = ""
        layer.customLayerData = {"source": model.name, "sha256": digest, "converter": CONVERTER}
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(".part.usda")
        layer.Export(str(part))
        part.replace(out)


def draw_colliders(stage: Usd.Stage) -> None:
    """Give every collider that is also to be seen a twin that is only seen: Newton hides colliders beside visual shapes."""
    layer = stage.GetRootLayer()
    colliders = [prim for prim in stage.Traverse() if prim.HasAPI(UsdPhysics.CollisionAPI) and prim.IsA(UsdGeom.Gprim)]
    for prim in colliders:
        if UsdGeom.Imageable(prim).GetPurposeAttr().Get() != UsdGeom.Tokens.default_:
            continue
        twin = prim.GetPath().GetParentPath().AppendChild(f"{prim.GetName()}_seen")
        Sdf.CopySpec(layer, prim.GetPath(), layer, twin)
        seen = stage.GetPrimAtPath(twin)
        seen.SetMetadata("apiSchemas", Sdf.TokenListOp.CreateExplicit([]))
        for name in [p.GetName() for p in seen.GetAuthoredProperties()]:
            if name.startswith(("physics:", "mjc:", "newton:", "material:")):
                seen.RemoveProperty(name)
        UsdGeom.Imageable(prim).CreatePurposeAttr().Set(UsdGeom.Tokens.guide)


def linearise_colours(stage: Usd.Stage) -> None:
    """Write colours as USD means them; the converter copies MuJoCo's numbers."""
    for prim in stage.Traverse():
        if prim.IsA(UsdGeom.Gprim) and (colours := UsdGeom.Gprim(prim).GetDisplayColorAttr().Get()):
            UsdGeom.Gprim(prim).GetDisplayColorAttr().Set([Gf.Vec3f(*linear((c[0], c[1], c[2]))) for c in colours])


def _converter() -> Path:
    """The converter's command."""
    return isolated(CONVERTER, "converts robot models to USD") / "bin" / "mujoco_usd_converter"


if __name__ == "__main__":
    arm = ROBOTS[sys.argv[1]]
    convert(arm.name, arm.mjcf(), hashlib.sha256(arm.model.read_bytes()).hexdigest(), Path(sys.argv[2]))
