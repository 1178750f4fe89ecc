import threading

import pytest

pytest.importorskip('rclpy')

from dkt_ros.nodes.worker import Worker  # noqa: E402


class Gate:
    """Processes an item only when let through."""

    def __init__(self, capacity=3):
        self.done, self.errors = [], []
        self.entered, self.open = threading.Event(), threading.Event()
        self.worker = Worker(self.process, self.errors.append, capacity)

    def process(self, item):
        self.entered.set()
        assert self.open.wait(20)
        if item == 'bad':
            raise ValueError('bad item')
        self.done.append(item)

    def finish(self):
        self.open.set()
        while not self.worker.idle():
            threading.Event().wait(0.01)
        assert self.worker.stop(20)


def test_all_that_fits_is_done_in_order():
    gate = Gate()
    gate.worker.submit(0)
    assert gate.entered.wait(20)
    for item in (1, 2, 3):
        gate.worker.submit(item)
    gate.finish()
    assert gate.done == [0, 1, 2, 3]
    assert gate.worker.replaced == 0


def test_the_oldest_gives_way_to_the_newest():
    gate = Gate()
    gate.worker.submit(0)
    assert gate.entered.wait(20)
    for item in range(1, 8):
        gate.worker.submit(item)
    gate.finish()
    assert gate.done == [0, 5, 6, 7]
    assert gate.worker.replaced == 4


def test_an_error_does_not_end_the_thread():
    gate = Gate()
    gate.worker.submit('bad')
    gate.worker.submit('good')
    gate.finish()
    assert gate.done == ['good']
    assert [str(error) for error in gate.errors] == ['bad item']


def test_stop_and_clear_do_not_wait_for_what_runs():
    gate = Gate()
    gate.worker.submit(0)
    gate.worker.submit(1)
    assert gate.entered.wait(20)
    assert gate.worker.clear() == 1
    assert gate.worker.stop(0.01) is False
    gate.worker.submit(2)
    assert gate.worker.waiting == 0
    gate.open.set()
    assert gate.worker.stop(20)
