"""The bridge node and its lifecycle.

configure    join the graph and see that the robot is there as its profile says
activate     hold where the robot is; arming is a service of `robot.ros2.deployment`
deactivate   stop softly, then send nothing
"""

from __future__ import annotations

from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from robot.profile import RobotProfile
from robot.ros2.adapters import AdapterError
from robot.ros2.deployment import BridgeSettings, Deployment


class Bridge(LifecycleNode):
    """`/<robot>/bridge`. Its entities are created once and live on, as destroying them while an executor spins breaks it."""

    def __init__(self, profile: RobotProfile, settings: BridgeSettings, context: Context | None = None) -> None:
        overrides = [Parameter("use_sim_time", value=settings.lockstep)]
        super().__init__("bridge", namespace=profile.name, context=context, parameter_overrides=overrides)
        self.profile, self.settings = profile, settings
        self.deployment: Deployment | None = None

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        del state
        try:
            self.deployment = self.deployment or Deployment(self, self.profile, self.settings)
        except AdapterError as error:
            return self._refused(str(error))
        problems = self.deployment.problems()
        return self._refused("; ".join(problems)) if problems else TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        del state
        assert self.deployment is not None  # configuring made it
        refusal = self.deployment.stand()
        return self._refused(refusal) if refusal else TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        del state
        assert self.deployment is not None
        self.deployment.rest()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        del state
        if self.deployment is not None:
            self.deployment.rest()
        return TransitionCallbackReturn.SUCCESS

    @property
    def waiting(self) -> bool:
        """Whether configuring can succeed later: all that was missing is a robot on the graph, which may be starting."""
        return self.deployment is not None

    @property
    def ready(self) -> bool:
        """Whether activating can succeed: every joint's state has come in, and they stand."""
        return self.deployment is not None and self.deployment.ready

    def halt(self) -> None:
        """Stop softly and end the control thread. Safe to call twice."""
        if self.deployment is not None:
            self.deployment.halt()

    def failed(self, error: BaseException) -> None:
        """A callback met a programming error. rclpy raises as well for a transition that the state lacks, which is nobody's fault."""
        if "Transition is not registered" in str(error):
            self.get_logger().error("a transition was asked for that this state does not have; it is not answered")
            return
        self.get_logger().fatal(f"a callback failed: {type(error).__name__}: {error}")
        if self.deployment is not None:
            self.deployment.failed(error)

    def _refused(self, reason: str) -> TransitionCallbackReturn:
        self.get_logger().error(reason)
        return TransitionCallbackReturn.FAILURE
