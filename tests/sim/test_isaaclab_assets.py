"""USD files: the committed arm is that of its MJCF file, and generated ones hold what scenes say."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from sim.robots import ARM7
from sim.tasks import TASKS

pytestmark = pytest.mark.skipif(find_spec("pxr") is None, reason="needs the extra 'isaac'")


def test_the_committed_arm_was_converted_from_its_present_model() -> None:
    from pxr import Usd

    stage = Usd.Stage.Open(str(ARM7.model.with_suffix(".usda")))
    assert stage.GetRootLayer().customLayerData["sha256"] == hashlib.sha256(ARM7.model.read_bytes()).hexdigest(), (
        "arm7.xml was edited: run python -m sim.isaaclab.convert arm7 sim/assets/arm7.usda"
    )


def test_bodies_and_fixtures_keep_mass_friction_and_joint(tmp_path: Path) -> None:
    from pxr import Usd, UsdPhysics

    from sim.isaaclab.usd import linear, write_body, write_fixture

    block, drawer = TASKS["push"].scene.bodies[0], TASKS["drawer"].scene.fixtures[0]
    stage = Usd.Stage.Open(str(write_body(block, tmp_path / "block.usda")))
    prim = stage.GetDefaultPrim()
    mass = UsdPhysics.MassAPI(prim)
    assert mass.GetMassAttr().Get() == pytest.approx(block.mass)
    edge = 2 * block.shapes[0].size[0]
    assert list(mass.GetDiagonalInertiaAttr().Get()) == pytest.approx([block.mass * edge**2 / 6] * 3)
    assert prim.GetChild("collider0").GetAttribute("purpose").Get() == "guide"
    assert list(prim.GetChild("shape0").GetAttribute("primvars:displayColor").Get()[0]) == pytest.approx(linear(block.shapes[0].colour))
    stage = Usd.Stage.Open(str(write_fixture(drawer, tmp_path / "drawer.usda")))
    joint = UsdPhysics.PrismaticJoint(stage.GetDefaultPrim().GetChild(drawer.name))
    assert joint.GetLowerLimitAttr().Get() == drawer.range[0] and joint.GetUpperLimitAttr().Get() == pytest.approx(drawer.range[1])
    assert joint.GetPrim().GetAttribute("newton:damping").Get() == pytest.approx(drawer.damping)


def test_colours_become_linear_light() -> None:
    from sim.isaaclab.usd import linear

    assert linear((0.0, 0.5, 1.0)) == pytest.approx((0.0, 0.21404, 1.0), abs=1e-4)


def test_the_humanoid_keeps_its_joints_masses_and_shapes() -> None:
    from pxr import Usd, UsdPhysics

    from sim.humanoid.g1 import ARM_JOINTS, BODY_JOINTS
    from sim.humanoid.model import compiled, mjcf
    from sim.isaaclab.convert import cached_usd

    model, stage = compiled(), Usd.Stage.Open(str(cached_usd("g1", mjcf())))
    prims = {prim.GetName(): prim for prim in stage.Traverse()}
    for name in (*BODY_JOINTS, *ARM_JOINTS):
        joint, usd = model.joint(name), UsdPhysics.RevoluteJoint(prims[name])
        range_deg = (usd.GetLowerLimitAttr().Get(), usd.GetUpperLimitAttr().Get())
        assert np.radians(range_deg) == pytest.approx(joint.range, abs=1e-5), name
        assert prims[name].GetAttribute("newton:armature").Get() == pytest.approx(joint.armature[0]), name
        body = model.body(model.jnt_bodyid[joint.id])
        assert UsdPhysics.MassAPI(prims[body.name]).GetMassAttr().Get() == pytest.approx(body.mass[0]), body.name
    solid = {name for name, prim in prims.items() if prim.HasAPI(UsdPhysics.CollisionAPI)}
    assert solid == {model.geom(i).name for i in range(model.ngeom)} - {"floor"}
