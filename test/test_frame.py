"""Frames refuse what does not fit together; estimates are filled in without side effects."""
import numpy as np
import pytest

from dkt_ros.camera import PinholeCamera
from dkt_ros.frame import DepthEstimate, Frame

CAMERA = PinholeCamera(4, 3, 10.0, 10.0, 1.5, 1.0)
RGB = np.zeros((3, 4, 3), np.uint8)


def test_a_frame_of_matching_sizes_is_taken():
    frame = Frame(RGB, 7, CAMERA, np.ones((3, 4), np.float32))
    assert frame.stamp_ns == 7


@pytest.mark.parametrize('rgb', [RGB.astype(np.float32), RGB[:2], RGB[..., 0]])
def test_wrong_colour_is_refused(rgb):
    with pytest.raises(ValueError, match='uint8'):
        Frame(rgb, 0, CAMERA)


def test_depth_of_another_size_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match='align_depth'):
        Frame(RGB, 0, CAMERA, np.ones((6, 8), np.float32))


def test_filling_in_leaves_the_original_alone():
    estimate = DepthEstimate(Frame(RGB, 5, CAMERA), np.zeros((3, 4), np.float32), window_id=2)
    fuller = estimate.filled(depth=np.ones((3, 4), np.float32))
    assert estimate.depth is None
    assert fuller.depth is not None
    assert (fuller.stamp_ns, fuller.camera, fuller.window_id) == (5, CAMERA, 2)


def test_depth_in_millimetres_is_refused():
    with pytest.raises(ValueError, match='uint16; float32 metres'):
        Frame(RGB, 0, CAMERA, np.full((3, 4), 700, np.uint16))
