"""A thread with a short queue between arrival and compute; newest wins. No ROS."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol


class Admission(Protocol):
    """What the worker asks of a pacer (see `dkt_ros.pacer`)."""

    def admit(self, stamp_ns: int) -> bool:
        """Return whether the frame of this capture time is to be computed."""

    def observe(self, seconds_per_frame: float) -> None:
        """Take note of how long a frame takes."""


class Worker:
    """
    Runs a function for each item in a thread of its own.

    Parameters
    ----------
    process : callable
        Called with each item in the thread; what it raises goes to `failed`.
    failed : callable
        Called with the exception, in the thread.
    capacity : int
        Items that may wait. One more throws the oldest out.

    """

    def __init__(self, process: Callable[[Any], None], failed: Callable[[Exception], None],
                 capacity: int) -> None:
        self._process = process
        self._failed = failed
        self._items: deque[Any] = deque()
        self._capacity = capacity
        self._condition = threading.Condition()
        self._stopping = False
        self._busy = False
        self.replaced = 0
        self._thread = threading.Thread(target=self._run, name='dkt_worker', daemon=True)
        self._thread.start()

    def submit(self, item: Any) -> None:
        """Queue an item and return at once."""
        with self._condition:
            if self._stopping:
                return
            if len(self._items) >= self._capacity:
                self._items.popleft()
                self.replaced += 1
            self._items.append(item)
            self._condition.notify_all()

    def clear(self) -> int:
        """Throw away what waits; return how many items that were."""
        with self._condition:
            count = len(self._items)
            self._items.clear()
            self._condition.notify_all()
            return count

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._items)

    def idle(self) -> bool:
        """Return True if nothing waits and nothing runs."""
        with self._condition:
            return not self._items and not self._busy

    def join(self) -> None:
        """Wait until nothing waits and nothing runs, or the thread is told to end."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._stopping or not (self._items or self._busy))

    def stop(self, timeout_s: float) -> bool:
        """End the thread after its current item; return whether it ended in time."""
        with self._condition:
            self._stopping = True
            self._items.clear()
            self._condition.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _next(self) -> Any | None:
        with self._condition:
            self._busy = False
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._items or self._stopping)
            if self._stopping:
                return None
            self._busy = True
            return self._items.popleft()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._process(item)
            # A frame that fails must not end the thread: the node reports it and lives on.
            except Exception as error:  # noqa: BLE001
                self._failed(error)
            item = None
