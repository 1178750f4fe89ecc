"""Point clouds written and read back."""
import numpy as np
import pytest

from dkt_ros.data.ply import read_ply, write_ply


def test_round_trip_leaves_out_nan(tmp_path):
    points = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    points[0, 1, 2] = np.nan
    colors = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert write_ply(tmp_path / 'a.ply', points, colors) == 7
    kept = np.r_[0, 2:8]
    read_points, read_colors = read_ply(tmp_path / 'a.ply')
    np.testing.assert_array_equal(read_points, points.reshape(-1, 3)[kept])
    np.testing.assert_array_equal(read_colors, colors.reshape(-1, 3)[kept])
    assert [p.name for p in tmp_path.iterdir()] == ['a.ply']


def test_without_colours(tmp_path):
    assert write_ply(tmp_path / 'a.ply', np.ones((5, 3))) == 5
    points, colors = read_ply(tmp_path / 'a.ply')
    assert points.shape == (5, 3) and colors is None


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match='2 colours for 3 points'):
        write_ply(tmp_path / 'a.ply', np.ones((3, 3)), np.ones((2, 3)))
    (tmp_path / 'b.ply').write_text('ply\nformat ascii 1.0\nend_header\n')
    with pytest.raises(ValueError, match='no binary'):
        read_ply(tmp_path / 'b.ply')
