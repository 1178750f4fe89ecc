"""Pictures: layout, labels, and that each panel shows its map."""
import cv2
import numpy as np
import pytest
from scene_factory import scene_frame

from dkt_ros.data.images import read_rgb
from dkt_ros.frame import DepthEstimate
from dkt_ros.tools.montage import (
    GAP,
    LABEL_HEIGHT,
    MATERIAL_COLORS,
    MontageVideo,
    depth_range,
    material_to_rgb,
    montage,
    panels,
    scene_panels,
    write_montage,
)


def estimate(item, metric=True):
    depth = item.depth + np.float32(0.05) if metric else None
    return DepthEstimate(item.frame, 1 / item.depth, normals=item.normals, depth=depth,
                         mask=item.material == 1)


def test_layout():
    red = np.full((48, 64, 3), (255, 0, 0), np.uint8)
    picture = montage([{'a': red, 'b': red}, {'c': red}], ['first', 'second'], tile_width=32)
    height = 2 * (LABEL_HEIGHT + LABEL_HEIGHT + 24 + GAP)
    assert picture.shape == (height, 2 * (32 + GAP), 3)
    np.testing.assert_array_equal(picture[2 * LABEL_HEIGHT + 10, 10], (255, 0, 0))
    assert (picture[:LABEL_HEIGHT] < 100).any()
    np.testing.assert_array_equal(picture[-GAP - 10, 50], (255, 255, 255))


def test_no_row():
    with pytest.raises(ValueError, match='at least one row'):
        montage([])


def test_panels_of_an_estimate():
    item = scene_frame(0)
    row = panels(estimate(item), item)
    assert [title.split()[0] for title in row] == ['RGB', 'sensor', 'our', 'true', 'normals',
                                                   'mask:', 'error']
    assert all(image.shape == (48, 64, 3) and image.dtype == np.uint8 for image in row.values())
    # a constant error has one colour everywhere
    assert len(np.unique(row['error of our depth, 0 to 10 cm'].reshape(-1, 3), axis=0)) == 1


def test_panels_without_metres_or_truth():
    item = scene_frame(0)
    assert list(panels(estimate(item, metric=False)))[2] == 'our disparity (no metres)'
    empty = DepthEstimate(item.frame, np.full((48, 64), np.nan, np.float32))
    assert 'RGB' in panels(empty)


def test_depth_range_ignores_nan():
    near, far = depth_range(np.array([[0.5, np.nan, 1.0]]), None)
    assert 0.4 < near < 0.5 and 1.0 < far < 1.1
    assert depth_range(None, np.full((2, 2), np.nan)) == (0.3, 1.2)


def test_materials_have_their_colours(tmp_path):
    item = scene_frame(0)
    colored = material_to_rgb(item.material)
    for kind, color in MATERIAL_COLORS.items():
        assert (colored[item.material == int(kind)] == color).all()
    write_montage(tmp_path / 'a.png', [scene_panels(item)])
    assert read_rgb(tmp_path / 'a.png').shape[1] == 5 * (320 + GAP)


def test_video(tmp_path):
    with MontageVideo(tmp_path / 'a.mp4', 6.0, tile_width=64) as video:
        for index in range(4):
            item = scene_frame(index)
            video.add(panels(estimate(item), item if index != 2 else None))
    capture = cv2.VideoCapture(str(tmp_path / 'a.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    capture.release()
    assert [p.name for p in tmp_path.iterdir()] == ['a.mp4']


def test_failed_video_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), MontageVideo(tmp_path / 'a.mp4', 6.0) as video:
        video.add(scene_panels(scene_frame(0)))
        raise RuntimeError('stopped')
    assert list(tmp_path.iterdir()) == []
