"""Colours mean fixed values, and what is missing has a colour of its own."""
import numpy as np
import pytest

from dkt_ros import colorize

NAN = np.float32('nan')


def grey(pixel):
    return tuple(pixel) == colorize.INVALID_RGB


def test_one_depth_has_one_colour_whatever_else_is_in_the_picture():
    alone = colorize.depth_to_rgb(np.full((2, 2), 0.7, np.float32), 0.2, 1.5)
    among = colorize.depth_to_rgb(np.float32([[0.7, 0.2], [1.5, 9.0]]), 0.2, 1.5)
    np.testing.assert_array_equal(alone[0, 0], among[0, 0])


def test_near_is_warm_far_is_cold_and_beyond_the_range_is_its_end():
    colors = colorize.depth_to_rgb(np.float32([[0.1, 0.2, 1.5, 4.0]]), 0.2, 1.5)[0].astype(int)
    assert colors[1][0] > colors[1][2]
    assert colors[2][0] <= colors[2][2] + 10
    np.testing.assert_array_equal(colors[0], colors[1])
    np.testing.assert_array_equal(colors[2], colors[3])


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('value', [NAN, np.inf, -np.inf])
def test_invalid_pixels_are_grey_everywhere(value):
    values = np.float32([[value, 0.5]])
    assert grey(colorize.depth_to_rgb(values, 0.2, 1.5)[0, 0])
    assert grey(colorize.disparity_to_rgb(values, 0, 1)[0, 0])
    assert grey(colorize.error_to_rgb(values, np.float32([[1, 1]]), 0.1)[0, 0])
    assert grey(colorize.confidence_to_rgb(values)[0, 0])


@pytest.mark.parametrize('table', [colorize.DEPTH_TABLE, colorize.DISPARITY_TABLE,
                                   colorize.ERROR_TABLE])
def test_no_scale_contains_the_colour_of_invalid(table):
    assert table.shape == (256, 3)
    assert np.abs(table.astype(int) - colorize.INVALID_RGB).max(axis=1).min() > 8


def test_the_error_is_symmetric_and_dark_where_there_is_none():
    truth = np.full((1, 3), 1.0, np.float32)
    colors = colorize.error_to_rgb(np.float32([[1.0, 1.0625, 0.9375]]), truth, 0.1)[0]
    np.testing.assert_array_equal(colors[1], colors[2])
    assert colors[0].sum() < colors[1].sum()


@pytest.mark.filterwarnings('error')
def test_normals_are_red_right_green_up_blue_towards_the_camera():
    normals = np.float32([[[0, 0, -1], [1, 0, 0], [0, -1, 0], [NAN] * 3, [0, 0, 0]]])
    colors = colorize.normals_to_rgb(normals)[0]
    assert tuple(colors[0]) == (128, 128, 255)
    assert tuple(colors[1]) == (255, 128, 128)
    assert tuple(colors[2]) == (128, 255, 128)
    assert grey(colors[3]) and grey(colors[4])


def test_the_mask_is_white_on_black_or_a_tint():
    mask = np.array([[True, False]])
    np.testing.assert_array_equal(colorize.mask_to_rgb(mask), [[[255] * 3, [0] * 3]])
    rgb = np.full((1, 2, 3), 10, np.uint8)
    tinted = colorize.mask_to_rgb(mask, rgb)
    assert tuple(tinted[0, 1]) == (10, 10, 10)
    assert tuple(tinted[0, 0]) != (10, 10, 10)
    assert (rgb == 10).all()


def test_a_range_upside_down_is_refused():
    with pytest.raises(ValueError, match='1.5 to 0.2'):
        colorize.depth_to_rgb(np.ones((1, 1)), 1.5, 0.2)
