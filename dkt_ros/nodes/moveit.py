"""MoveIt's own messages and the GraspPlanning action, where their packages are installed."""
from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

from dkt_ros.grasp.grasp import Gripper
from dkt_ros.nodes import grasp_messages, messages
from dkt_ros.nodes.grasp_planning import Answer
from dkt_ros.nodes.outputs import OUTPUT_QOS


class MoveItInterfaces:
    """
    The topic `grasp` and the action `plan_grasps`; nothing where the packages are missing.

    Parameters
    ----------
    node : LifecycleNode
        Owns both.
    answer : callable
        Plans.
    approach_m : float
        Length of the free approach [m].

    """

    def __init__(self, node: LifecycleNode, answer: Callable[[], Answer],
                 approach_m: float) -> None:
        self._node, self._plan, self._approach_m = node, answer, approach_m
        self._publisher = self._server = None
        self._gripper: Gripper | None = None
        moveit = grasp_messages.optional_messages('moveit_msgs')
        if moveit is None:
            return
        self._publisher = node.create_lifecycle_publisher(moveit.Grasp, 'grasp',
                                                          QoSProfile(**OUTPUT_QOS))
        if importlib.util.find_spec('grasping_msgs') is not None:
            from rclpy.action import ActionServer
            self._action = importlib.import_module('grasping_msgs.action').GraspPlanning
            self._server = ActionServer(node, self._action, 'plan_grasps', self.execute)

    def destroy(self) -> None:
        """Take both off the graph."""
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
        if self._server is not None:
            self._server.destroy()
        self._publisher = self._server = None

    def publish(self, answer: Answer, gripper: Gripper) -> None:
        """Publish the best grasp; keep the gripper for the action."""
        self._gripper = gripper
        if self._publisher is not None and answer.success \
                and self._publisher.get_subscription_count():
            self._publisher.publish(self.grasps(answer)[0])

    def grasps(self, answer: Answer) -> list[Any]:
        """Return all grasps as moveit_msgs/Grasp, best first."""
        header = messages.make_header(answer.stamp_ns, answer.frame_id)
        return [grasp_messages.to_moveit(grasp, self._gripper, header, number, self._approach_m)
                for number, grasp in enumerate(answer.plan.grasps)]

    def execute(self, goal: Any) -> Any:
        """Answer a goal; without a grasp it is aborted, and the log has the reason."""
        answer, result = self._plan(), self._action.Result()
        if not answer.success:
            self._node.get_logger().warning(f'plan_grasps: {answer.plan.reason}')
            goal.abort()
            return result
        result.grasps = self.grasps(answer)
        goal.publish_feedback(self._action.Feedback(grasps=result.grasps))
        goal.succeed()
        return result
