r"""
`grasp_node`: grasps of what stands on a table, from the cloud of `depth_node`; a lifecycle node.

    python -m dkt_ros.nodes.grasp_node --ros-args --params-file config/grasp.yaml
    ros2 service call /dkt/plan std_srvs/srv/Trigger
"""
from __future__ import annotations

import json
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from dkt_ros.grasp.config import GraspNodeConfig
from dkt_ros.nodes import grasp_messages, messages
from dkt_ros.nodes.failed_grasps import FailedGrasps
from dkt_ros.nodes.grasp_inputs import GraspInputs
from dkt_ros.nodes.grasp_planning import Answer, GraspPlanning
from dkt_ros.nodes.grasp_report import GraspReport
from dkt_ros.nodes.lifecycle import NAMESPACE, ManagedNode, run
from dkt_ros.nodes.moveit import MoveItInterfaces
from dkt_ros.nodes.outputs import OUTPUT_QOS
from dkt_ros.nodes.parameters import NodeParameters
from dkt_ros.nodes.transforms import Transforms
from dkt_ros.nodes.worker import Worker

TOPICS = {'grasps': PoseArray, 'grasp_candidates': PointCloud2, 'grasp_markers': MarkerArray}


class GraspNode(ManagedNode):
    """
    Plans 6-DoF grasps of unknown things for a parallel jaw.

    Subscribed (best effort; relative names)
        points, or depth and camera_info (parameter `input`); confidence; camera_pose where TF is
        not used. Reliable: failed_grasps (PoseArray), what not to propose again.
    Published (reliable, keep last 1; stamp of the cloud, in target_frame)
        grasps (PoseArray, best first), grasp_candidates (rows x y z qx qy qz qw width score),
        grasp_markers (the hand, coloured by score); /diagnostics once a second; `grasp`
        (moveit_msgs/Grasp, the best) where moveit_msgs is installed.
    Services and actions
        plan (std_srvs/Trigger, answered in every state; message = JSON); plan_grasps
        (grasping_msgs/GraspPlanning) where grasping_msgs is installed.
    ROS parameters
        The fields of `dkt_ros.grasp.config.GraspNodeConfig`, nested names with dots.

    """

    def __init__(self, namespace: str = NAMESPACE, **kwargs) -> None:
        super().__init__('grasp_node', namespace=namespace, **kwargs)
        self.planning: GraspPlanning | None = None
        self.inputs: GraspInputs | None = None
        self._transforms: Transforms | None = None
        self._failed: FailedGrasps | None = None
        self._worker: Worker | None = None
        self._timer = self._moveit = None
        self._planned = 0
        # Not _publishers: rclpy keeps its own list of that name.
        self._topics: dict[str, object] = {}
        self._options = NodeParameters(self, GraspNodeConfig(),
                                       lambda: self.planning is not None, self._on_change)
        self.report = GraspReport(self)
        self.create_service(Trigger, 'plan', self._on_plan)
        self._begin()

    def _configure(self) -> None:
        self.config = self._options.config()
        self.planning = GraspPlanning(self.config)
        self._topics = {
            topic: self.create_lifecycle_publisher(
                kind, topic, QoSProfile(**OUTPUT_QOS),
                qos_overriding_options=QoSOverridingOptions.with_default_policies())
            for topic, kind in TOPICS.items()}
        self._moveit = MoveItInterfaces(self, self.answer, self.config.collision.approach_m)

    def _subscribe(self) -> None:
        self._transforms = Transforms(self, self.config.transform)
        self._failed = FailedGrasps(self, self.config, self._transforms)
        self.inputs = GraspInputs(self, self.config)
        self._planned = 0
        self._worker = Worker(lambda _: self.answer(), self.report.broke, 1)
        self._set_rate()

    def _unsubscribe(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
        for part in (self.inputs, self._failed, self._transforms):
            if part is not None:
                part.destroy()
        if self._worker is not None:
            self._worker.stop(0.3)
        self.inputs = self._failed = self._transforms = self._timer = self._worker = None

    def _release(self) -> None:
        self._unsubscribe()
        for publisher in self._topics.values():
            self.destroy_publisher(publisher)
        if self._moveit is not None:
            self._moveit.destroy()
        self._topics, self._moveit, self.planning = {}, None, None

    def answer(self) -> Answer:
        """Plan on the newest cloud and publish; never raises."""
        inputs, transforms, planning = self.inputs, self._transforms, self.planning
        failed = self._failed
        if inputs is None or transforms is None or failed is None or planning is None:
            return self.report.unavailable(planning is not None)
        try:
            answer = planning.answer(inputs, transforms, failed,
                                     self.get_clock().now().nanoseconds)
            if self.inputs is inputs:
                self._publish(answer)
        # A service that raises leaves its client waiting for ever.
        except Exception as error:  # noqa: BLE001
            answer = self.report.broke(error)
        self.report.planned(answer)
        return answer

    def _on_plan(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answer = self.answer()
        gripper = '' if self.planning is None else self.planning.gripper.name
        response.success = answer.success
        response.message = json.dumps(answer.to_dict(gripper))
        return response

    def _publish(self, answer: Answer) -> None:
        if not answer.frame_id:
            return
        header = messages.make_header(answer.stamp_ns, answer.frame_id)
        grasps, gripper = answer.plan.grasps, self.planning.gripper
        made = {
            'grasps': lambda: grasp_messages.to_pose_array(grasps, header),
            'grasp_candidates': lambda: grasp_messages.to_candidates(grasps, header),
            'grasp_markers': lambda: grasp_messages.to_markers(
                grasps[:self.config.max_markers], gripper, header)}
        for topic, publisher in self._topics.items():
            if publisher.get_subscription_count():
                publisher.publish(made[topic]())
        self._moveit.publish(answer, gripper)

    def _on_tick(self) -> None:
        wanted = any(publisher.get_subscription_count() for publisher in self._topics.values())
        # Nothing new to see: the plan would be the same.
        received = self.inputs.received
        if wanted and received > self._planned and self._worker.idle():
            self._planned = received
            self._worker.submit('plan')

    def _on_change(self, config: GraspNodeConfig) -> None:
        if self.planning is None:
            return
        self.config = config
        self.planning.configure(config)
        if self.inputs is not None:
            self._transforms.configure(config.transform)
            self._failed.configure(config)
            self._set_rate()

    def _set_rate(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        if self.config.rate_hz > 0:
            self._timer = self.create_timer(1.0 / self.config.rate_hz, self._on_tick,
                                            clock=self._wall)

    def _diagnostics_at(self, stamp: Any) -> DiagnosticArray:
        return self.report.message(stamp, self.planning is not None, self.inputs)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run(GraspNode, args)


if __name__ == '__main__':
    main()
