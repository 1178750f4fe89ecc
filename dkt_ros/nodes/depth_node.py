r"""
`depth_node`: metric depth of glass from an RGB-D camera, as a lifecycle node.

    python -m dkt_ros.nodes.depth_node --ros-args --params-file config/dkt.yaml \
        -r color/image_raw:=/camera/camera/color/image_raw \
        -r color/camera_info:=/camera/camera/color/camera_info \
        -r aligned_depth_to_color/image_raw:=/camera/camera/aligned_depth_to_color/image_raw
"""
from __future__ import annotations

from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray

from dkt_ros.config import DepthNodeConfig
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.nodes.backend import Backend, ModelBackend
from dkt_ros.nodes.diagnostics import StreamStats
from dkt_ros.nodes.engine import Engine
from dkt_ros.nodes.inputs import Inputs
from dkt_ros.nodes.lifecycle import NAMESPACE, ManagedNode, run
from dkt_ros.nodes.outputs import Outputs
from dkt_ros.nodes.pairing import Pair
from dkt_ros.nodes.parameters import NodeParameters
from dkt_ros.nodes.report import Report
from dkt_ros.nodes.transforms import TransformError, Transforms
from dkt_ros.perception import share_processor

TICK_S = 0.25
WARN_S = 5.0


class DepthNode(ManagedNode):
    """
    RGB and the camera's own depth in; the model's metric depth, normals, mask and points out.

    Subscribed (best effort, keep last 5; relative names)
        color/image_raw, color/camera_info, aligned_depth_to_color/image_raw; camera_pose or TF
        if `world_frame` is set.
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
        self._transforms: Transforms | None = None
        self._wanted: frozenset[str] = frozenset()
        self.stats = StreamStats()
        self._options = NodeParameters(self, DepthNodeConfig(), self._is_configured,
                                          self._on_change)
        self.report = Report(self)
        self.create_timer(TICK_S, self._tick, clock=self._wall)
        self._begin()

    def _configure(self) -> None:
        self.config = self._options.config()
        self.get_logger().info(f'loading model {self.config.model}')
        self._backend.load(self.config)
        self._outputs = Outputs(self, self.config)
        self.engine = Engine(self._backend, self.config, self._publish,
                             self._outputs.fields, self.stats, self.report.unusable,
                             self._pose_of if self.config.world_frame else None)

    def _subscribe(self) -> None:
        self.engine.restart('activated')
        if self.config.world_frame:
            self._transforms = Transforms(self, self.config.transform, 'world_frame')
        self._inputs = Inputs(self, self.config, self._on_pair, self._wall, self.stats)

    def _unsubscribe(self) -> None:
        if self._inputs is not None:
            self._inputs.destroy()
            self._inputs = None
        if self._transforms is not None:
            self._transforms.destroy()
            self._transforms = None
        if self.engine is not None:
            self.engine.restart('deactivated')

    def _release(self) -> None:
        self._unsubscribe()
        if self.engine is not None:
            self.engine.close(timeout_s=0.3)
        if self._outputs is not None:
            self._outputs.destroy()
        self.engine = self._outputs = None
        self._backend.release()

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
        if self._transforms is not None:
            self._transforms.configure(config.transform)

    def _pose_of(self, frame: Frame) -> np.ndarray | None:
        """Return where the camera was, or None; in the thread that makes the maps."""
        transforms = self._transforms
        if transforms is None:
            return None
        try:
            return transforms.lookup(self.config.world_frame, frame.camera.frame_id,
                                     frame.stamp_ns)
        except TransformError as error:
            self.stats.count('without_pose')
            self.get_logger().warning(f'no parallax: {error}', throttle_duration_sec=WARN_S)
            return None

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

    def _diagnostics_at(self, stamp: Any) -> DiagnosticArray:
        return self.report.message(stamp, self._inputs, self.engine, self.stats)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    share_processor()
    run(DepthNode, args)


if __name__ == '__main__':
    main()
