"""ClearGrasp's layout: a tiny tree, and the real frames where they are."""
from pathlib import Path

import numpy as np
import pytest
from scene_factory import scene_frame

from dkt_ros.data.clips import open_clip
from dkt_ros.data.exr import write_exr
from dkt_ros.data.images import write_image
from dkt_ros.errors import UserError
from dkt_ros.material import Material

REAL = Path(__file__).parents[2] / 'shared' / 'data' / 'cleargrasp_d435'


def make_tree(folder, names=('000000001', '000000002')):
    folder.mkdir()
    item = scene_frame(0)
    for name in names:
        write_image(folder / f'{name}-transparent-rgb-img.jpg', item.frame.rgb, 95)
        for kind, depth in (('transparent', item.frame.sensor_depth), ('opaque', item.depth)):
            half = np.nan_to_num(depth).astype(np.float16)
            write_exr(folder / f'{name}-{kind}-depth-img.exr', dict.fromkeys('RGB', half))
        write_image(folder / f'{name}-mask.png',
                    np.where(item.material == Material.TRANSPARENT, 255, 0).astype(np.uint8))
    (folder / 'camera_intrinsics.yaml').write_text(
        'xres: 64\nyres: 48\nfx: 60\nfy: 60\ncx: 31.5\ncy: 23.5\n')
    return folder


def test_layout(tmp_path):
    clip = open_clip(make_tree(tmp_path / 'a'), repeat=2)
    items, truth = list(clip.items()), scene_frame(0)
    assert (clip.kind, clip.num_frames, len(items), clip.has_truth) == ('cleargrasp', 4, 4, True)
    np.testing.assert_allclose(items[0].depth, truth.depth, atol=1e-3)
    np.testing.assert_allclose(items[0].frame.sensor_depth, truth.frame.sensor_depth, atol=1e-3)
    np.testing.assert_array_equal(items[0].material == Material.TRANSPARENT,
                                  truth.material == Material.TRANSPARENT)
    assert items[2].frame.stamp_ns - items[1].frame.stamp_ns > 5 * 10**9


@pytest.mark.parametrize('damage, words', [
    (lambda p: (p / 'camera_intrinsics.yaml').unlink(), 'no camera_intrinsics.yaml'),
    (lambda p: (p / 'camera_intrinsics.yaml').write_text('fx: 3'), 'xres'),
    (lambda p: (p / '000000001-transparent-depth-img.exr').unlink(), 'does not exist'),
    (lambda p: write_image(p / '000000001-mask.png', np.zeros((4, 4), np.uint8)), 'mask of')])
def test_damage(tmp_path, damage, words):
    folder = make_tree(tmp_path / 'a')
    damage(folder)
    with pytest.raises(ValueError, match=words) as caught:
        list(open_clip(folder))
    assert '\n' not in str(caught.value) and issubclass(caught.type, (UserError, ValueError))


@pytest.mark.skipif(not REAL.is_dir(), reason=f'the real frames are not at {REAL}')
def test_real_frames_have_the_known_holes():
    items = list(open_clip(REAL, repeat=1).items())
    holes, bias = [], []
    for item in items:
        known = (item.material == Material.TRANSPARENT) & np.isfinite(item.depth)
        sensor = item.frame.sensor_depth[known]
        holes.append(np.isnan(sensor).mean())
        bias.append(np.nanmedian(sensor - item.depth[known]) * 1000)
    np.testing.assert_allclose(holes, [0.454, 0.746], atol=0.001)
    np.testing.assert_allclose(bias, [48.3, 16.6], atol=0.1)
