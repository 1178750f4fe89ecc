"""Upsampling: planes stay planes, edges stay edges, and nothing floats between surfaces."""
import cv2
import numpy as np
import pytest

from dkt_ros.upsample import Upsampler, _of_side

SMALL, FULL = (64, 48), (160, 120)


def picture(near_mask):
    """Return the disc in an image, textured on both sides."""
    rng = np.random.default_rng(0)
    grey = np.where(near_mask, 190, 70) + rng.normal(0, 8, near_mask.shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def disc(shift=0.0):
    y, x = np.mgrid[:FULL[1], :FULL[0]]
    return (x - 80 - shift) ** 2 + (y - 60) ** 2 < 35 ** 2


def blurred(full, sigma=1.0):
    """Make what a small network gives: the small map, blurred over its edges."""
    small = cv2.resize(full, SMALL, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), sigma)


@pytest.mark.parametrize('sigma', [0.5, 1.0])
def test_nothing_floats_between_two_surfaces(sigma):
    near = disc()
    depth = np.where(near, 0.5, 0.8).astype(np.float32)
    small = blurred(1 / depth, sigma)
    result = 1 / Upsampler(small, 0.06 * small, picture(near)).values()
    off = np.minimum(np.abs(result - 0.5), np.abs(result - 0.8))
    assert off.max() < 0.01
    # Plain interpolation leaves hundreds of such points.
    plain = 1 / cv2.resize(small, FULL, interpolation=cv2.INTER_LINEAR)
    assert (np.minimum(np.abs(plain - 0.5), np.abs(plain - 0.8)) > 0.02).sum() > 300


def test_the_image_says_where_the_edge_is():
    near = disc()
    inverse = np.where(disc(shift=2), 2.0, 1.25).astype(np.float32)
    small = blurred(inverse)
    guided = Upsampler(small, 0.1, picture(near)).values() > 1.6
    blind = Upsampler(small, 0.1, np.zeros((*near.shape, 3), np.uint8)).values() > 1.6
    assert (guided != near).sum() < 0.8 * (blind != near).sum()


def test_without_contrast_the_edge_stays_where_it_was():
    near = disc()
    small = blurred(np.where(near, 2.0, 1.25).astype(np.float32))
    result = Upsampler(small, 0.1, np.full((*near.shape, 3), 90, np.uint8)).values() > 1.6
    assert (result != near).mean() < 0.01


@pytest.mark.parametrize('slope', [0.002, 0.03])
def test_a_slope_is_not_taken_for_an_edge(slope):
    y = np.arange(FULL[1], dtype=np.float32)
    full = np.repeat((1 + slope * y)[:, None], FULL[0], axis=1)
    small = cv2.resize(full, SMALL, interpolation=cv2.INTER_AREA)
    upsampler = Upsampler(small, 0.06 * small, picture(disc()))
    assert not upsampler.edges[20:-20].any()
    np.testing.assert_allclose(upsampler.values()[20:-20], full[20:-20], rtol=2e-3)


def test_texture_is_not_printed_on_a_smooth_surface():
    rgb = np.random.default_rng(1).integers(0, 255, (FULL[1], FULL[0], 3), dtype=np.uint8)
    small = np.full((SMALL[1], SMALL[0]), 1.3, np.float32)
    np.testing.assert_array_equal(Upsampler(small, 0.05, rgb).values(), np.float32(1.3))


def test_normals_are_unit_and_not_mixed_at_edges():
    near = disc()
    left, right = np.float32([-0.6, 0, -0.8]), np.float32([0.6, 0, -0.8])
    full = np.where(near[..., None], left, right).astype(np.float32)
    inverse = blurred(np.where(near, 2.0, 1.25).astype(np.float32))
    normals = cv2.resize(full, SMALL, interpolation=cv2.INTER_AREA)
    upsampler = Upsampler(inverse, 0.1, picture(near))
    result = upsampler.normals(normals)
    np.testing.assert_allclose(np.linalg.norm(result, axis=-1), 1, atol=1e-5)
    is_left = upsampler.values() > 1.6
    nearness = np.where(is_left, result @ left, result @ right)
    assert np.quantile(nearness, 0.001) > 0.9
    plain = cv2.resize(normals, FULL)
    assert np.quantile(np.where(is_left, plain @ left, plain @ right), 0.005) < 0.75


@pytest.mark.filterwarnings('error')
def test_a_missing_normal_stays_missing():
    normals = np.zeros((SMALL[1], SMALL[0], 3), np.float32)
    normals[..., 2] = -1
    normals[20:30, 20:30] = np.nan
    small = np.ones((SMALL[1], SMALL[0]), np.float32)
    result = Upsampler(small, 0.1, picture(disc())).normals(normals)
    assert np.isnan(result[62, 62]).all()
    np.testing.assert_allclose(result[5, 5], [0, 0, -1])


def test_the_result_has_the_size_of_the_image():
    small = np.ones((24, 32), np.float32)
    upsampler = Upsampler(small, 0.1, np.zeros((91, 130, 3), np.uint8))
    assert upsampler.values().shape == upsampler.edges.shape == (91, 130)
    assert upsampler.values().dtype == np.float32


def test_a_normal_that_is_not_sure_is_the_sum_of_those_around():
    rng = np.random.default_rng(2)
    normals, sure = rng.normal(size=(20, 30, 3)).astype(np.float32), rng.random((20, 30)) < 0.3
    sure[:12, :14] = False
    found = _of_side(normals, sure)
    for row, column in ((15, 20), (15, 21), (9, 12), (2, 3)):
        around = np.s_[row - 4:row + 5, column - 4:column + 5]
        if (row, column) == (2, 3) or sure[row, column]:
            expected = normals[row, column]
        else:
            expected = normals[around][sure[around]].sum(axis=0)
        np.testing.assert_allclose(found[row, column], expected, atol=1e-4)
