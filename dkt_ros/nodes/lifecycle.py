"""What the lifecycle nodes share: their transitions, what they say of them, and a process."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from dkt_ros.nodes.diagnostics import OK, WARN, make_status

NAMESPACE = 'dkt'
REPEAT_S = 10.0
"""How soon a sentence that holds on is said again."""
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class StateReport:
    """
    Sentences of one node about its states, and the status of its inputs.

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

    def failed(self, transition: str, error: Exception) -> None:
        """Say why a transition failed."""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self._failure = f'{transition} failed: {lines[0]}'
        self._logger.error(self._failure)

    def _input_status(self, problems: list[str], counts: dict[str, str]) -> DiagnosticStatus:
        return make_status(f'{self._name}: inputs', WARN if problems else OK,
                           '; '.join(problems) or 'all inputs arrive', counts)


class ManagedNode(LifecycleNode):
    """
    A node that starts itself if wanted, frees everything on each way out, and reports.

    A subclass makes `report`, calls `_begin` when it is made, and says what its states hold:
    `_configure` and `_release`, `_subscribe` and `_unsubscribe`, and `_diagnostics_at`. What
    frees must bear being called when nothing is held.

    Parameters
    ----------
    name : str
        Used unless the command line remaps it.
    namespace : str
        Used unless the command line remaps it.

    """

    report: StateReport

    def __init__(self, name: str, namespace: str = NAMESPACE, **kwargs) -> None:
        super().__init__(name, namespace=namespace, **kwargs)
        # Wall time: with use_sim_time timers must run before the first /clock, and while it rests.
        self._wall = Clock(clock_type=ClockType.STEADY_TIME)

    def _begin(self) -> None:
        """Report once a second from now on, and start as soon as the node spins, if wanted."""
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self.create_timer(1.0, self._diagnose, clock=self._wall)
        if self.get_parameter('autostart').value:
            self._start_timer = self.create_timer(0.0, self._autostart, clock=self._wall)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load what is needed and announce the topics."""
        try:
            self._configure()
        # Whatever a damaged file makes a library raise, the answer is FAILURE and a sentence.
        except Exception as error:  # noqa: BLE001
            self.report.failed('configure', error)
            self._release()
            return FAILURE
        self.report.reached('configured')
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to listen."""
        try:
            self._subscribe()
        # A topic that exists with another type, a QoS override that is none: RuntimeError.
        except Exception as error:  # noqa: BLE001
            self.report.failed('activate', error)
            self._unsubscribe()
            return FAILURE
        self.report.reached('active')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening at once; a computation under way ends unheard."""
        self._unsubscribe()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything and take the topics off the graph."""
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
        """Stop the threads before the publishers go."""
        self._release()
        super().destroy_node()

    def _configure(self) -> None:
        raise NotImplementedError

    def _subscribe(self) -> None:
        raise NotImplementedError

    def _unsubscribe(self) -> None:
        raise NotImplementedError

    def _release(self) -> None:
        raise NotImplementedError

    def _diagnostics_at(self, stamp: Any) -> DiagnosticArray:
        raise NotImplementedError

    def _autostart(self) -> None:
        self.destroy_timer(self._start_timer)
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _diagnose(self) -> None:
        self._diagnostics.publish(self._diagnostics_at(self.get_clock().now().to_msg()))


@contextlib.contextmanager
def unless_interrupted(context: rclpy.Context | None = None) -> Iterator[None]:
    """Leave the block in silence where rclpy fails in it since an interrupt ended the context."""
    try:
        yield
    except RuntimeError:
        if rclpy.ok(context=context):
            raise


def run(make: Callable[[], Node], args: list[str] | None = None) -> None:
    """Make a node and spin it until the process is interrupted."""
    rclpy.init(args=args)
    node = None
    with unless_interrupted():
        node = make()
    if node is None:
        return
    try:
        with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
            rclpy.spin(node)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
