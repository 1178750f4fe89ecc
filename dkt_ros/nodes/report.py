"""What `depth_node` says: log sentences, throttled, and the statuses of /diagnostics."""
from __future__ import annotations

import dataclasses
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import LifecycleNode

from dkt_ros.nodes.diagnostics import (
    ERROR,
    OK,
    WARN,
    StreamStats,
    make_array,
    make_status,
    memory_mb,
)
from dkt_ros.nodes.engine import Engine
from dkt_ros.nodes.inputs import Inputs

REPEAT_S = 10.0


class Report:
    """
    Sentences and statuses of one node.

    Parameters
    ----------
    node : LifecycleNode
        Gives name and logger.

    """

    def __init__(self, node: LifecycleNode) -> None:
        self._name = node.get_fully_qualified_name().lstrip('/')
        self._logger = node.get_logger()
        self._failure = ''

    def reached(self, state: str) -> None:
        """Say which state was reached; an earlier failure is forgotten."""
        self._failure = ''
        self._logger.info(state)

    def configure_failed(self, error: Exception) -> None:
        """Say why configure failed."""
        self._fail('configure', error)

    def activate_failed(self, error: Exception) -> None:
        """Say why activate failed."""
        self._fail('activate', error)

    def _fail(self, transition: str, error: Exception) -> None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self._failure = f'{transition} failed: {lines[0]}'
        self._logger.error(self._failure)

    def unusable(self, sentence: str) -> None:
        """Say why a frame was not used, but not for every frame."""
        self._logger.error(sentence, throttle_duration_sec=REPEAT_S)

    def message(self, stamp: Any, inputs: Inputs | None, engine: Engine | None,
                stats: StreamStats) -> DiagnosticArray:
        """Build the diagnostics of this moment."""
        statuses = [self._node_status(inputs, engine, stats)]
        if inputs is not None:
            statuses.append(self._input_status(inputs))
        if engine is not None:
            statuses.append(self._anchor_status(engine))
        return make_array(stamp, statuses)

    def _node_status(self, inputs: Inputs | None, engine: Engine | None,
                     stats: StreamStats) -> DiagnosticStatus:
        values = stats.summary() | memory_mb()
        if engine is not None:
            values |= engine.describe()
        level, text = OK, 'active'
        if self._failure:
            level, text = ERROR, self._failure
        elif inputs is None:
            text = 'inactive' if engine is not None else 'unconfigured'
        elif error := stats.recent_error():
            level, text = ERROR, error
        return make_status(f'{self._name}: stream', level, text, values)

    def _input_status(self, inputs: Inputs) -> DiagnosticStatus:
        problems = inputs.problems()
        for sentence in problems:
            self._logger.warning(sentence, throttle_duration_sec=REPEAT_S)
        text = '; '.join(problems) or 'all inputs arrive'
        return make_status(f'{self._name}: inputs', WARN if problems else OK, text,
                           inputs.counts())

    def _anchor_status(self, engine: Engine) -> DiagnosticStatus:
        estimate = engine.last_estimate
        anchor = None if estimate is None else estimate.anchor
        name = f'{self._name}: anchor'
        if anchor is None:
            return make_status(name, OK, 'no estimate yet', {})
        values = {}
        for field in dataclasses.fields(anchor):
            value = getattr(anchor, field.name)
            values[field.name] = f'{value:.6g}' if isinstance(value, float) else str(value)
        locked = anchor.status == 'locked'
        reason = getattr(anchor, 'reason', '')
        text = f'{anchor.status}: {reason}' if reason else anchor.status
        return make_status(name, OK if locked else WARN, text, values)
