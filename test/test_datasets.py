"""Every public layout: what is read is the truth it was written from; damage is told."""
import json
from pathlib import Path

import dataset_trees as trees
import numpy as np
import pytest
from scene_factory import TABLE_M, scene_frame
from test_cleargrasp import make_tree as cleargrasp_tree

from dkt_ros.data.clips import open_clip, open_clips
from dkt_ros.data.datasets.registry import DATASETS, as_clip, find_sequences
from dkt_ros.data.datasets.sanity import check_sequence, ensure_sane
from dkt_ros.data.images import write_image
from dkt_ros.errors import UserError
from dkt_ros.material import Material
from dkt_ros.tools.data_sets import run_check, run_list, run_show

MAKERS = {
    'clearpose': (trees.clearpose, True), 'dreds': (trees.dreds, False),
    'std': (lambda root: trees.dreds(root, real=True), True), 'hiss': (trees.hiss, False),
    'transcg': (trees.transcg, False), 'my-set': (trees.declared, True),
    'cleargrasp-synthetic': (trees.cleargrasp_synthetic, False),
    'cleargrasp': (lambda root: cleargrasp_tree(root).parent, False)}


@pytest.mark.parametrize('name', MAKERS)
def test_layout(tmp_path, name):
    make, is_video = MAKERS[name]
    sequence = find_sequences(make(tmp_path / 'data'))[0]
    assert (sequence.preset, sequence.is_video) == (name, is_video)
    item, truth = sequence[0], scene_frame(0)
    np.testing.assert_allclose(item.depth, truth.depth, atol=1e-3)
    if item.frame.sensor_depth is not None:
        np.testing.assert_allclose(item.frame.sensor_depth, truth.frame.sensor_depth, atol=1e-3)
    if sequence.has_mask:
        np.testing.assert_array_equal(item.material == Material.TRANSPARENT,
                                      truth.material == Material.TRANSPARENT)
    difference = item.frame.rgb.astype(int) - truth.frame.rgb
    assert np.abs(difference).mean() < (25 if name.startswith('cleargrasp') else 1)
    assert check_sequence(sequence) == []
    assert sequence.problems == [] and len(list(sequence)) == len(sequence)


def test_what_is_particular_to_each(tmp_path):
    assert find_sequences(trees.clearpose(tmp_path / 'cp'))[0].split == 'train'
    meta = find_sequences(trees.clearpose(tmp_path / 'downsample_100', per_frame=True))[0]
    assert not meta.is_video and len(list(meta)) == 3
    dreds = find_sequences(trees.dreds(tmp_path / 'dreds', long_lines=False))[0]
    kinds = {int(Material.TRANSPARENT), int(Material.REFLECTIVE), int(Material.DIFFUSE), 0}
    assert set(np.unique(dreds[0].material)) == kinds and dreds.split == 'train'
    assert dreds.camera.fx == pytest.approx(446.31 / 640 * 64)
    hiss = find_sequences(trees.hiss(tmp_path / 'hiss'))
    assert [s.frame_names for s in hiss] == [('0000', '0002')]
    assert 'no camera intrinsics' in hiss[0].notes[0] and hiss[0][0].material is None
    names = [s.name for s in find_sequences(trees.transcg(tmp_path / 'tcg'))]
    assert names == ['scene1_D435', 'scene1_L515']
    synthetic = find_sequences(trees.cleargrasp_synthetic(tmp_path / 'cgs'))[0]
    np.testing.assert_allclose(synthetic[0].normals[5, 5], [0, 0, -1], atol=1e-3)
    mine = find_sequences(trees.declared(tmp_path / 'mine'))
    assert [s.name for s in mine] == ['my-set_a', 'my-set_b'] and len(mine[1]) == 6
    assert 'not confirmed' in mine[0].notes[0]


def test_hiss_takes_the_camera_that_lies_above(tmp_path):
    root = trees.hiss(tmp_path / 'hiss')
    (root / 'HISS' / 'camera.json').write_text(json.dumps(
        {'width': 128, 'height': 96, 'fx': 100, 'fy': 100, 'cx': 63.5, 'cy': 47.5}))
    sequence = find_sequences(root)[0]
    assert sequence.notes == () and sequence.camera.fx == pytest.approx(50)


def test_broken_and_missing_frames_are_reported_and_left_out(tmp_path):
    root = trees.clearpose(tmp_path / 'cp', num_frames=4)
    folder = root / 'set1' / 'scene1'
    (folder / '000001-depth_true.png').write_bytes(b'no picture')
    (folder / '000002-label.png').unlink()
    sequence = find_sequences(root)[0]
    assert [item.index for item in sequence] == [0, 3]
    first, second = sequence.problems
    assert '000001' in first and 'its mask is missing (000002-label.png)' in second
    with pytest.raises(UserError, match='000001.*truncated'):
        sequence[1]
    result = run_check(root, every=1)
    assert len(result['problems']) == 2 and result['num_frames'] == 4


def test_wrong_units_are_told(tmp_path):
    sequence = find_sequences(trees.clearpose(tmp_path / 'mm', divisor=1.0))[0]
    assert 'millimetres read as metres' in check_sequence(sequence)[0]
    with pytest.raises(UserError, match='divide by 1000'):
        ensure_sane([sequence])
    sequence = find_sequences(trees.clearpose(tmp_path / 'm', divisor=1e6))[0]
    assert 'do not divide' in check_sequence(sequence)[0]


def test_a_sensor_with_another_divisor_is_told(tmp_path):
    root = trees.transcg(tmp_path / 'tcg')
    for view in (root / 'scene1').glob('*/depth2.png'):
        trees.png_depth(view, scene_frame(0).frame.sensor_depth, 1000.0)
    findings = [check_sequence(s) for s in find_sequences(root)]
    assert findings[0] == [] and '0.25 times' in findings[1][0]


def test_transposed_and_foreign_intrinsics_are_told(tmp_path):
    with pytest.raises(UserError, match='transposed: cx = 31.5'):
        find_sequences(trees.clearpose(tmp_path / 'a', matrix=trees.K.T))
    with pytest.raises(UserError, match='fit a 64x48'):
        find_sequences(trees.clearpose(tmp_path / 'b', matrix=np.diag([0.9, 0.9, 1.0])))
    swapped = trees.K[[1, 0, 2]][:, [1, 0, 2]] * [[2.5, 1, 1], [1, 2.5, 1], [1, 1, 1]]
    swapped[0, 2], swapped[1, 2] = 9.0, 40.0
    with pytest.raises(UserError, match='principal point'):
        find_sequences(trees.clearpose(tmp_path / 'c', matrix=swapped))


def test_a_missing_empty_or_inverted_mask_is_told(tmp_path):
    root = trees.dreds(tmp_path / 'dreds', real=True)
    folder = root / 'STD-CatKnown' / 'test_0'
    for path in folder.glob('*_mask.png'):
        write_image(path, np.full((48, 64), 255, np.uint8))
    assert 'marks nothing' in check_sequence(find_sequences(root)[0])[0]
    for path in folder.glob('*_mask.png'):
        write_image(path, np.ones((48, 64), np.uint8))
    assert 'inverted' in check_sequence(find_sequences(root)[0])[0]
    for path in folder.glob('*_mask.png'):
        path.unlink()
    finding = check_sequence(find_sequences(root)[0])[0]
    assert 'its mask is missing (0001_mask.exr or 0001_mask.png)' in finding


def test_normals_in_other_axes_are_told(tmp_path):
    root = trees.declared(tmp_path / 'a', changes="  normals: {files: '{sequence}/n/{frame}.exr'}")
    from dkt_ros.data.exr import write_normals_exr
    for sequence in 'ab':
        (root / sequence / 'n').mkdir()
        for index in range(6):
            write_normals_exr(root / sequence / 'n' / f'f{index:03d}.exr',
                              -scene_frame(index).normals)
    assert '180 degrees off' in check_sequence(find_sequences(root)[0])[0]
    text = (root / 'dataset.yaml').read_text().replace(".exr'}", ".exr', axes: opengl}")
    (root / 'dataset.yaml').write_text(text)
    assert check_sequence(find_sequences(root)[0]) == []


@pytest.mark.parametrize('before, after, words', [
    ("'{sequence}/color/{frame}.png'", "''", 'no files for the layer rgb'),
    ('{frame}.png', 'x.png', 'frame} must'), ('licence: none', "licence: ''", 'licence empty'),
    ('color/', 'colour/', 'finds nothing'), ('width: 64', 'width: 0', 'principal|fit'),
    ('divisor', 'divider', "did you mean 'divisor'")])
def test_a_declaration_with_a_mistake(tmp_path, before, after, words):
    root = trees.declared(tmp_path / 'a')
    path = root / 'dataset.yaml'
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(UserError, match=words):
        find_sequences(root)


def test_the_file_for_transphy3d_names_no_layout(tmp_path):
    source = Path(__file__).parents[1] / 'config' / 'datasets' / 'transphy3d.yaml'
    (tmp_path / 'dataset.yaml').write_text(source.read_text())
    with pytest.raises(UserError, match='look at your copy of transphy3d'):
        find_sequences(tmp_path)


def test_clips_of_a_tree(tmp_path):
    root = trees.transcg(tmp_path / 'tcg')
    clips = open_clips(root, repeat=2)
    assert [clip.name for clip in clips] == ['scene1_D435', 'scene1_L515']
    items = list(clips[0].items())
    assert len(items) == clips[0].num_frames == 4 and clips[0].has_truth
    stamps = [item.frame.stamp_ns for item in items]
    assert stamps[1] - stamps[0] < 1e9 < stamps[2] - stamps[1]
    with pytest.raises(UserError, match='2 sequences of transcg'):
        open_clip(root / 'scene1')
    video = as_clip(find_sequences(trees.clearpose(tmp_path / 'cp'))[0])
    assert (video.num_frames, video.kind, video.notes) == (3, 'clearpose', ())
    assert open_clip(tmp_path / 'cp' / 'set1' / 'scene1').name == 'set1_scene1'


def test_nothing_known(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        find_sequences(tmp_path / 'nothing')
    with pytest.raises(UserError, match='dataset.yaml'):
        find_sequences(tmp_path)


def test_every_data_set_says_where_it_is_from_and_its_licence():
    assert {'clearpose', 'dreds', 'hiss', 'transcg', 'cleargrasp'} <= {d.name for d in DATASETS}
    assert all(len(row['source']) > 10 and row['licence'] for row in run_list()['data_sets'])


def test_pictures(tmp_path):
    root = trees.dreds(tmp_path / 'dreds')
    picture = run_show(root, tmp_path / 'out', 1, 2)['pictures'][0]
    assert Path(picture).stat().st_size > 5000
    assert np.nanmax(find_sequences(root)[0][0].depth) == pytest.approx(TABLE_M)
