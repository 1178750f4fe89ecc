"""What `depth_node` says: log sentences, throttled, and the statuses of /diagnostics."""
from __future__ import annotations

import dataclasses
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

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
from dkt_ros.nodes.lifecycle import REPEAT_S, StateReport


class Report(StateReport):
    """Sentences and statuses of one node."""

    def unusable(self, sentence: str) -> None:
        """Say why a frame was not used, but not for every frame."""
        self._logger.error(sentence, throttle_duration_sec=REPEAT_S)

    def message(self, stamp: Any, inputs: Inputs | None, engine: Engine | None,
                stats: StreamStats) -> DiagnosticArray:
        """Build the diagnostics of this moment."""
        statuses = [self._node_status(inputs, engine, stats)]
        if inputs is not None:
            problems = inputs.problems()
            for sentence in problems:
                self._logger.warning(sentence, throttle_duration_sec=REPEAT_S)
            statuses.append(self._input_status(problems, inputs.counts()))
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
