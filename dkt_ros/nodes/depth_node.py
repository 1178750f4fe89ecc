r"""
`depth_node`: metric depth of glass from an RGB-D camera, as a lifecycle node.

    python -m dkt_ros.nodes.depth_node --ros-args --params-file config/dkt.yaml \
        -r color/image_raw:=/camera/camera/color/image_raw \
        -r color/camera_info:=/camera/camera/color/camera_info \
        -r aligned_depth_to_color/image_raw:=/camera/camera/aligned_depth_to_color/image_raw
"""
from __future__ import annotations

import contextlib

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from dkt_ros.config import DepthNodeConfig
from dkt_ros.frame import DepthEstimate
from dkt_ros.nodes.backend import Backend, ModelBackend
from dkt_ros.nodes.diagnostics import StreamStats
from dkt_ros.nodes.engine import Engine
from dkt_ros.nodes.inputs import Inputs
from dkt_ros.nodes.outputs import Outputs
from dkt_ros.nodes.pairing import Pair
from dkt_ros.nodes.parameters import NodeParameters
from dkt_ros.nodes.report import Report

NAMESPACE = 'dkt'
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class DepthNode(LifecycleNode):
    """
    RGB and the camera's own depth in; the model's metric depth, normals, mask and points out.

    Subscribed (best effort, keep last 5; relative names)
        color/image_raw, color/camera_info, aligned_depth_to_color/image_raw.
    Published (reliable, keep last 1; capture stamp and frame of the colour image)
        depth, camera_info, depth_fused, disparity, normals, normals/color, depth/color, mask,
        confidence, points; and /diagnostics once a second.
    ROS parameters
        The fields of `dkt_ros.config.DepthNodeConfig`, nested names with dots.

    Parameters
    ----------
    backend : Backend, optional
        What computes; the model of the parameters if not given.
    namespace : str
        Used unless the command line remaps it.

    """

    def __init__(self, backend: Backend | None = None, namespace: str = NAMESPACE,
                 **kwargs) -> None:
        super().__init__('depth_node', namespace=namespace, **kwargs)
        self._backend = backend or ModelBackend()
        self.engine: Engine | None = None
        self._outputs: Outputs | None = None
        self._inputs: Inputs | None = None
        self._wanted: frozenset[str] = frozenset()
        self.stats = StreamStats()
        self._options = NodeParameters(self, DepthNodeConfig(), self._is_configured,
                                          self._on_change)
        self._report = Report(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        # Wall time: with use_sim_time these must run before the first /clock, and while it rests.
        self._wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._diagnose, clock=self._wall)
        self.create_timer(0.1, self._tick, clock=self._wall)
        if self.get_parameter('autostart').value:
            self._start_timer = self.create_timer(0.0, self._autostart, clock=self._wall)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters, load the weights, announce the topics."""
        try:
            self.config = self._options.config()
            self.get_logger().info(f'loading model {self.config.model}')
            self._backend.load(self.config)
            self._outputs = Outputs(self, self.config)
            self.engine = Engine(self._backend, self.config, self._publish,
                                 self._outputs.fields, self.stats, self._report.unusable)
        # Whatever a damaged file makes a library raise, the answer is FAILURE and a sentence.
        except Exception as error:  # noqa: BLE001
            self._report.configure_failed(error)
            self._release()
            return FAILURE
        self._report.reached('configured')
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera."""
        self.engine.restart('activated')
        try:
            self._inputs = Inputs(self, self.config, self._on_pair, self._wall, self.stats)
        # A topic that exists with another type, a QoS override that is none: RuntimeError.
        except Exception as error:  # noqa: BLE001
            self._report.activate_failed(error)
            return FAILURE
        self._report.reached('active')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening at once; a computation under way ends unheard."""
        self._inputs.destroy()
        self._inputs = None
        self.engine.restart('deactivated')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and take the topics off the graph."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything from any state."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that configure can be tried again."""
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        """Stop the thread before the publishers go."""
        self._release()
        super().destroy_node()

    def _release(self) -> None:
        if self._inputs is not None:
            self._inputs.destroy()
        if self.engine is not None:
            self.engine.close(timeout_s=0.3)
        if self._outputs is not None:
            self._outputs.destroy()
        self._inputs = self.engine = self._outputs = None
        self._backend.release()

    def _autostart(self) -> None:
        self.destroy_timer(self._start_timer)
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _is_configured(self) -> bool:
        return self.engine is not None

    def _on_change(self, config: DepthNodeConfig) -> None:
        if self.engine is None:
            return
        self.config = config
        self._outputs.configure(config)
        self.engine.restart('parameters changed', config)
        if self._inputs is not None:
            self._inputs.configure(config)

    def _on_pair(self, pair: Pair) -> None:
        if not self._outputs.fields():
            self.stats.count('unwatched')
            return
        age_s = (self.get_clock().now().nanoseconds - pair.stamp_ns) * 1e-9
        if 0 < self.config.max_age_s < age_s:
            self.stats.count('too_old')
            return
        self.engine.offer(pair)

    def _publish(self, estimate: DepthEstimate) -> None:
        self._outputs.publish(estimate)
        now_ns = self.get_clock().now().nanoseconds
        self.stats.published((now_ns - estimate.stamp_ns) * 1e-9)

    def _tick(self) -> None:
        if self._inputs is not None:
            self.engine.tick()

    def _diagnose(self) -> None:
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(self._report.message(
            stamp, self._inputs, self.engine, self.stats))


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    rclpy.init(args=args)
    node = DepthNode()
    try:
        with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
            rclpy.spin(node)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
