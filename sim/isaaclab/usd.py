# OpenUSD's stubs say that its functions return None.
# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOptionalMemberAccess=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOptionalIterable=false
"""USD files of what a scene is made of, written from the same definitions that MuJoCo's models are made of.

Masses and inertias are MuJoCo's own, so both backends simulate the same bodies. Shapes carry MuJoCo's contact parameters,
which the MuJoCo Warp solver reads.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics, UsdShade, Vt

from sim.scene import TABLE_CENTRE, TABLE_COLOUR, TABLE_SIZE, Body, Fixture, Rgb, Scene, Shape, add_shapes

SOLREF = (0.02, 1.0)
"""MuJoCo's default time constant [s] and damping ratio of contacts."""


def write_table(scene: Scene, path: Path) -> Path:
    """The table, which nothing moves, and the scene's mats, which are only seen."""
    stage, root = _new(path, "table")
    _add_shapes(stage, root.GetPath(), (Shape("box", TABLE_SIZE, TABLE_COLOUR, TABLE_CENTRE),), friction=1.0)
    _add_shapes(stage, root.GetPath().AppendChild("mats"), scene.mats, friction=None)
    return _save(stage, path)


def write_floor(path: Path, colour: Rgb) -> Path:
    """An endless plane at z = 0, drawn ten metres wide."""
    stage, root = _new(path, "floor")
    plane = UsdGeom.Plane.Define(stage, root.GetPath().AppendChild("plane"))
    plane.CreateAxisAttr("Z")
    plane.CreateWidthAttr(10.0)
    plane.CreateLengthAttr(10.0)
    plane.CreateDisplayColorAttr([Gf.Vec3f(*linear(colour))])
    _make_solid(plane.GetPrim(), _friction(stage, root.GetPath(), 1.0))
    return _save(stage, path)


def write_body(body: Body, path: Path) -> Path:
    """A free rigid body."""
    stage, root = _new(path, body.name)
    _make_rigid(root.GetPrim(), _compiled(body.name, body.shapes, body.mass))
    _add_shapes(stage, root.GetPath(), body.shapes, body.friction)
    return _save(stage, path)


def write_fixture(fixture: Fixture, path: Path) -> Path:
    """An articulation: a base fixed in the world, and one moving part on a joint named like the fixture."""
    stage, root = _new(path, fixture.name)
    base = UsdGeom.Xform.Define(stage, root.GetPath().AppendChild("base"))
    moving = UsdGeom.Xform.Define(stage, root.GetPath().AppendChild("moving"))
    UsdPhysics.ArticulationRootAPI.Apply(root.GetPrim())
    _make_rigid(base.GetPrim(), _compiled("base", fixture.base, 1.0))
    _make_rigid(moving.GetPrim(), _compiled("moving", fixture.moving, fixture.mass))
    _add_shapes(stage, base.GetPath(), fixture.base, friction=1.0)
    _add_shapes(stage, moving.GetPath(), fixture.moving, friction=1.0)
    weld = UsdPhysics.FixedJoint.Define(stage, root.GetPath().AppendChild("weld"))
    weld.CreateBody1Rel().SetTargets([base.GetPath()])
    _add_joint(stage, root.GetPath(), fixture, base.GetPath(), moving.GetPath())
    return _save(stage, path)


def linear(colour: Rgb) -> Rgb:
    """A colour as USD stores it, proportional to light; MuJoCo's are encoded for screens (sRGB)."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return r, g, b


def _add_joint(stage: Usd.Stage, root: Sdf.Path, fixture: Fixture, base: Sdf.Path, moving: Sdf.Path) -> None:
    """The joint turns or slides about its frame's x axis, which is rotated onto the fixture's axis."""
    schema = {"slide": UsdPhysics.PrismaticJoint, "hinge": UsdPhysics.RevoluteJoint}[fixture.joint]
    joint = schema.Define(stage, root.AppendChild(fixture.name))
    joint.CreateBody0Rel().SetTargets([base])
    joint.CreateBody1Rel().SetTargets([moving])
    joint.CreateAxisAttr("X")
    turn = Gf.Rotation(Gf.Vec3d(1, 0, 0), Gf.Vec3d(*fixture.axis)).GetQuat()
    for attribute in (joint.CreateLocalRot0Attr, joint.CreateLocalRot1Attr):
        attribute(Gf.Quatf(turn))
    for attribute in (joint.CreateLocalPos0Attr, joint.CreateLocalPos1Attr):
        attribute(Gf.Vec3f(0, 0, 0))
    per_unit = 1.0 if fixture.joint == "slide" else 180.0 / np.pi  # USD measures hinges in degrees
    joint.CreateLowerLimitAttr(fixture.range[0] * per_unit)
    joint.CreateUpperLimitAttr(fixture.range[1] * per_unit)
    prim = joint.GetPrim()
    _apply(prim, "NewtonJointAPI")
    _apply(prim, "MjcJointAPI")
    prim.CreateAttribute("mjc:stiffness", Sdf.ValueTypeNames.Double, custom=False, variability=Sdf.VariabilityUniform).Set(
        fixture.stiffness
    )
    prim.CreateAttribute("newton:damping", Sdf.ValueTypeNames.Float, custom=False).Set(fixture.damping / per_unit)
    prim.CreateAttribute("newton:friction", Sdf.ValueTypeNames.Float, custom=False).Set(fixture.resistance)


def _new(path: Path, name: str) -> tuple[Usd.Stage, UsdGeom.Xform]:
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, Sdf.Path.absoluteRootPath.AppendChild(name))
    stage.SetDefaultPrim(root.GetPrim())
    return stage, root


def _save(stage: Usd.Stage, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    stage.GetRootLayer().Export(str(path))
    return path


def _compiled(name: str, shapes: tuple[Shape, ...], mass: float) -> mujoco.MjModel:
    """MuJoCo's model of one body, for its mass and inertia."""
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint()
    add_shapes(body, shapes, mass=mass)
    return spec.compile()


def _make_rigid(prim: Usd.Prim, model: mujoco.MjModel) -> None:
    UsdPhysics.RigidBodyAPI.Apply(prim)
    mass = UsdPhysics.MassAPI.Apply(prim)
    mass.CreateMassAttr(float(model.body_mass[1]))
    mass.CreateCenterOfMassAttr(Gf.Vec3f(*model.body_ipos[1].tolist()))
    mass.CreateDiagonalInertiaAttr(Gf.Vec3f(*model.body_inertia[1].tolist()))
    mass.CreatePrincipalAxesAttr(Gf.Quatf(*model.body_iquat[1].tolist()))


def _add_shapes(stage: Usd.Stage, parent: Sdf.Path, shapes: tuple[Shape, ...], friction: float | None) -> None:
    """Coloured primitives. Those with friction are solid: a collider that is not seen beside a shape that is only seen."""
    material = _friction(stage, parent, friction) if friction is not None and shapes else None
    for i, shape in enumerate(shapes):
        _primitive(stage, parent.AppendChild(f"shape{i}"), shape).CreateDisplayColorAttr([Gf.Vec3f(*linear(shape.colour))])
        if material:
            collider = _primitive(stage, parent.AppendChild(f"collider{i}"), shape)
            collider.CreatePurposeAttr(UsdGeom.Tokens.guide)
            _make_solid(collider.GetPrim(), material)


def _primitive(stage: Usd.Stage, at: Sdf.Path, shape: Shape) -> UsdGeom.Gprim:
    if shape.kind == "box":
        box = UsdGeom.Cube.Define(stage, at)
        box.CreateSizeAttr(2.0)
        _place(box, shape)
        box.AddScaleOp().Set(Gf.Vec3f(*shape.size))
        return box
    cylinder = UsdGeom.Cylinder.Define(stage, at)
    cylinder.CreateRadiusAttr(shape.size[0])
    cylinder.CreateHeightAttr(2 * shape.size[1])
    _place(cylinder, shape)
    return cylinder


def _place(geom: UsdGeom.Gprim, shape: Shape) -> None:
    geom.AddTranslateOp().Set(Gf.Vec3d(*shape.position))
    geom.AddRotateZOp().Set(float(np.degrees(shape.yaw)))


def _friction(stage: Usd.Stage, parent: Sdf.Path, friction: float) -> UsdShade.Material:
    material = UsdShade.Material.Define(stage, parent.AppendChild("friction"))
    physics = UsdPhysics.MaterialAPI.Apply(material.GetPrim())
    physics.CreateStaticFrictionAttr(friction)
    physics.CreateDynamicFrictionAttr(friction)
    return material


def _make_solid(prim: Usd.Prim, material: UsdShade.Material) -> None:
    UsdPhysics.CollisionAPI.Apply(prim)
    UsdPhysics.MassAPI.Apply(prim).CreateMassAttr(0.0)
    _apply(prim, "NewtonCollisionAPI")
    _apply(prim, "MjcCollisionAPI")
    prim.CreateAttribute("mjc:solref", Sdf.ValueTypeNames.DoubleArray, custom=False, variability=Sdf.VariabilityUniform).Set(
        Vt.DoubleArray(SOLREF)
    )
    prim.CreateAttribute("newton:contactGap", Sdf.ValueTypeNames.Float, custom=False).Set(0.0)
    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material, materialPurpose="physics")


def _apply(prim: Usd.Prim, schema: str) -> None:
    """Apply a schema of MuJoCo or Newton, whose Python classes are not installed."""
    prim.AddAppliedSchema(schema)
