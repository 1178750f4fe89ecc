"""Transforms from TF, which is stood in for: its package comes with ROS 2, not as a wheel."""
import importlib.machinery
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from scipy.spatial.transform import Rotation  # noqa: E402

from dkt_ros.nodes import messages  # noqa: E402
from dkt_ros.nodes.transforms import TransformError, Transforms  # noqa: E402
from dkt_ros.pose_config import TransformConfig  # noqa: E402

STAMP_NS = 1_700_000_000 * 10**9
TURN = Rotation.from_euler('xyz', [0.1, 0.2, 0.3])


class TransformException(Exception):
    pass


class Buffer:
    """Knows one transform up to a newest stamp."""

    newest_ns = STAMP_NS

    def lookup_transform(self, target, source, time):
        if (target, source) != ('base', 'optical'):
            raise TransformException(f'"{source}" does not exist')
        if time.nanoseconds > self.newest_ns:
            raise TransformException('extrapolation into the future')
        when = time.nanoseconds or self.newest_ns
        x, y, z, w = TURN.as_quat()
        return SimpleNamespace(
            header=messages.make_header(when, target), transform=SimpleNamespace(
                rotation=SimpleNamespace(x=x, y=y, z=z, w=w),
                translation=SimpleNamespace(x=1.0, y=2.0, z=3.0)))


@pytest.fixture
def transforms(monkeypatch):
    tf2 = types.ModuleType('tf2_ros')
    tf2.__spec__ = importlib.machinery.ModuleSpec('tf2_ros', None)
    tf2.Buffer, tf2.TransformException = Buffer, TransformException
    ended = []
    tf2.TransformListener = lambda buffer, node: SimpleNamespace(
        unregister=lambda: ended.append(node))
    monkeypatch.setitem(sys.modules, 'tf2_ros', tf2)
    made = Transforms('the node', TransformConfig(slop_s=0.02))
    assert made.source == 'tf'
    yield made
    made.destroy()
    assert ended == ['the node']


def test_at_the_stamp_of_the_cloud(transforms):
    pose = transforms.lookup('base', 'optical', STAMP_NS - 10**9)
    np.testing.assert_allclose(pose[:3, :3], TURN.as_matrix())
    np.testing.assert_allclose(pose[:3, 3], [1, 2, 3])
    np.testing.assert_array_equal(transforms.lookup('optical', 'optical', 0), np.eye(4))
    np.testing.assert_array_equal(transforms.lookup('', 'optical', 0), np.eye(4))


def test_a_transform_may_be_late_by_the_slop_and_no_more(transforms):
    assert transforms.lookup('base', 'optical', STAMP_NS + 15_000_000)[0, 3] == 1
    with pytest.raises(TransformError, match='extrapolation into the future'):
        transforms.lookup('base', 'optical', STAMP_NS + 30_000_000)


def test_a_frame_that_does_not_exist(transforms):
    with pytest.raises(TransformError, match='no TF from lens to base.*"lens" does not exist'):
        transforms.lookup('base', 'lens', STAMP_NS)


def test_tf_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ValueError, match='tf2_ros is not installed'):
        Transforms(None, TransformConfig(source='tf'))
