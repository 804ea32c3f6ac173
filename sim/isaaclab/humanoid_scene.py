"""Isaac Lab's configuration of the humanoid on its floor, made from the same definitions as MuJoCo's model."""

from __future__ import annotations

from isaaclab import sim as sim_utils
from isaaclab.actuators import ImplicitActuatorCfg
from isaaclab.assets import ArticulationCfg, AssetBaseCfg
from isaaclab.scene import InteractiveSceneCfg
from isaaclab_newton.sim.schemas import NewtonArticulationCfg

from sim.cache import cache_folder
from sim.humanoid.g1 import ARM_JOINTS, BODY_JOINTS, part
from sim.humanoid.model import HEIGHT, MOTORS, mjcf
from sim.isaaclab.convert import cached_usd
from sim.isaaclab.scene import SPACING_M
from sim.isaaclab.usd import write_floor
from sim.scene import FLOOR_COLOUR

JOINTS = (*BODY_JOINTS, *ARM_JOINTS)


def scene_cfg(num_envs: int) -> InteractiveSceneCfg:
    """The robot, an entity named `robot`, cloned `num_envs` times."""
    cfg = InteractiveSceneCfg(num_envs=num_envs, env_spacing=SPACING_M, replicate_physics=True)
    floor = write_floor(cache_folder() / "usd" / "humanoid" / "floor.usda", FLOOR_COLOUR)
    parts = {
        "floor": AssetBaseCfg(prim_path="/World/floor", spawn=sim_utils.UsdFileCfg(usd_path=str(floor))),
        "robot": ArticulationCfg(
            prim_path="{ENV_REGEX_NS}/robot",
            spawn=sim_utils.UsdFileCfg(
                usd_path=str(cached_usd("g1", mjcf())), articulation_props=[NewtonArticulationCfg(self_collision_enabled=True)]
            ),
            init_state=ArticulationCfg.InitialStateCfg(pos=(0.0, 0.0, HEIGHT)),
            actuators={
                "motors": ImplicitActuatorCfg(
                    joint_names_expr=list(JOINTS),
                    stiffness={name: MOTORS[part(name)].stiffness for name in JOINTS},
                    damping={name: MOTORS[part(name)].damping for name in JOINTS},
                    joint_effort_limit={name: MOTORS[part(name)].effort for name in JOINTS},
                )
            },
        ),
    }
    for name, entity in parts.items():
        setattr(cfg, name, entity)
    return cfg
