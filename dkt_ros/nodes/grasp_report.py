"""What `grasp_node` says: log sentences, reasons, and the statuses of /diagnostics."""
from __future__ import annotations

import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import LifecycleNode

from dkt_ros.grasp.planner import GraspPlan
from dkt_ros.nodes.diagnostics import ERROR, OK, WARN, make_array, make_status, memory_mb
from dkt_ros.nodes.grasp_inputs import GraspInputs
from dkt_ros.nodes.grasp_planning import Answer
from dkt_ros.nodes.lifecycle import REPEAT_S, StateReport


class GraspReport(StateReport):
    """
    Sentences and statuses of one node.

    Parameters
    ----------
    node : LifecycleNode
        Gives name and logger.

    """

    def __init__(self, node: LifecycleNode) -> None:
        super().__init__(node)
        self._lock = threading.Lock()
        self._last: Answer | None = None
        self._counts = {'plans': 0, 'plans_without_grasp': 0}

    def unavailable(self, configured: bool) -> Answer:
        """Return the answer of a node that is not active."""
        state = 'inactive' if configured else 'not configured'
        cure = 'activate it' if configured else 'configure and activate it'
        reason = f'{self._failure}; {cure}' if self._failure else f'the node is {state}: {cure}'
        return Answer(GraspPlan(reason=reason))

    def broke(self, error: Exception) -> Answer:
        """Say that planning raised; return that as an answer."""
        reason = f'planning failed: {type(error).__name__}: {error}'
        self._logger.error(reason, throttle_duration_sec=REPEAT_S)
        return Answer(GraspPlan(reason=reason))

    def planned(self, answer: Answer) -> None:
        """Take note of an answer."""
        with self._lock:
            self._last = answer
            self._counts['plans'] += 1
            self._counts['plans_without_grasp'] += not answer.success
        if not answer.success:
            self._logger.warning(f'no grasp: {answer.plan.reason}',
                                 throttle_duration_sec=REPEAT_S)

    def message(self, stamp: Any, configured: bool,
                inputs: GraspInputs | None) -> DiagnosticArray:
        """Build the diagnostics of this moment."""
        statuses = [self._plan_status(configured, inputs is not None)]
        if inputs is not None:
            statuses.append(self._input_status(inputs.problems(), inputs.counts()))
        return make_array(stamp, statuses)

    def _plan_status(self, configured: bool, active: bool) -> DiagnosticStatus:
        with self._lock:
            answer, counts = self._last, dict(self._counts)
        values = {name: str(count) for name, count in counts.items()} | memory_mb()
        level, text = OK, 'active' if active else ('inactive' if configured else 'unconfigured')
        if answer is not None:
            plan = answer.plan
            values |= {f'count {stage}': str(count) for stage, count in plan.counts.items()}
            values |= {f'{stage}_ms': f'{ms:.1f}' for stage, ms in plan.stage_ms.items()}
            values |= {'total_ms': f'{1e3 * answer.seconds:.1f}',
                       'age_ms': f'{1e3 * answer.age_s:.1f}', 'frame_id': answer.frame_id,
                       'avoided': str(answer.avoided)}
            if active:
                level = OK if answer.success else WARN
                text = f'{len(plan.grasps)} grasps, best {plan.grasps[0].score:.2f}' \
                    if answer.success else f'no grasp: {plan.reason}'
        if self._failure:
            level, text = ERROR, self._failure
        return make_status(f'{self._name}: plan', level, text, values)
