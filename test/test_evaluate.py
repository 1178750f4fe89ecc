"""Evaluation with a model whose error is known."""
import dataclasses
import io
import json

import numpy as np
import pytest
from fake_perception import FakePerception
from rich.console import Console
from scene_factory import TABLE_M, TOP_M, make_scene, scene_frame

from dkt_ros.config import AnchorConfig, NormalsConfig, PerceptionConfig
from dkt_ros.errors import UserError
from dkt_ros.tools.evaluate import run_evaluate, with_normals


def truth_of(frame):
    for index in range(8):
        item = scene_frame(index, seed=1_000_000)
        if np.array_equal(item.frame.rgb, frame.rgb):
            return item.depth
    raise AssertionError('a frame that no scene has')


def quiet():
    return Console(file=io.StringIO(), width=200)


def evaluate(tmp_path, depth_of=lambda frame: truth_of(frame) + np.float32(0.02), **kwargs):
    if not (tmp_path / 'scenes').exists():
        make_scene(tmp_path / 'scenes' / 'a', 7)
        make_scene(tmp_path / 'scenes' / 'b', 3)
    return run_evaluate(tmp_path / 'scenes', perception=FakePerception(depth_of),
                        console=quiet(), **kwargs)


def test_figures(tmp_path):
    result = evaluate(tmp_path, out=tmp_path / 'out')
    assert result['scenes'] == 2 and result['frames_in'] == result['frames_out'] == 10
    assert result['drops'] == 0
    glass = result['transparent']
    assert glass['dkt']['mae_m'] == pytest.approx(0.02, abs=1e-5)
    assert glass['dkt']['delta_105'] == 1
    assert glass['sensor']['mae_m'] == pytest.approx(TABLE_M - TOP_M, abs=1e-5)
    assert set(glass) == {'sensor', 'filled', 'dkt', 'fused'}
    assert result['intervals']['transparent']['dkt']['mae_m'] == pytest.approx([0.02, 0.02],
                                                                               abs=1e-5)


def test_several_folders_are_one_evaluation_and_each_alone(tmp_path):
    alone = evaluate(tmp_path)
    assert alone['sets'] == {}
    make_scene(tmp_path / 'far' / 'scenes' / 'a', 5)
    text, folders = io.StringIO(), [tmp_path / 'scenes', tmp_path / 'far' / 'scenes']

    def depth_of(frame):
        return truth_of(frame) + np.float32(0.02 if len(seen) <= 10 else 0.05)

    seen = []
    fake = FakePerception(lambda frame: (seen.append(frame), depth_of(frame))[1])
    both = run_evaluate(folders, perception=fake, out=tmp_path / 'out',
                        console=Console(file=text, width=200))
    assert both['scenes'] == 3 and len(both['per_scene']) == 3
    assert list(both['sets']) == ['scenes', 'scenes-2']  # two folders of one name
    near, far = (part['transparent']['dkt']['mae_m'] for part in both['sets'].values())
    assert (near, far) == (pytest.approx(0.02, abs=1e-5), pytest.approx(0.05, abs=1e-5))
    assert both['transparent']['dkt']['mae_m'] == pytest.approx((2 * near + far) / 3)
    for key in ('normals', 'temporal', 'intervals'):
        np.testing.assert_equal(both['sets']['scenes'][key], alone[key])
    assert 'each set alone' in text.getvalue() and 'scenes-2' in text.getvalue()
    lines = (tmp_path / 'out' / 'evaluation.md').read_text()
    assert '| scenes (2) | transparent | dkt | 20.0 (20.0 to 20.0) | 1.000' in lines
    assert '| scenes-2 | object | dkt |' in lines and '| scenes-2 | - | truth |' in lines


def test_files(tmp_path):
    evaluate(tmp_path, out=tmp_path / 'out')
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'evaluation.json', 'evaluation.md', 'evaluation.html', 'plots.png',
                     'best.png', 'worst.png'}
    record = json.loads((tmp_path / 'out' / 'evaluation.json').read_text())
    for key in ('version', 'machine', 'settings', 'seed', 'model_sha256', 'per_scene', 'object'):
        assert key in record
    text = (tmp_path / 'out' / 'evaluation.md').read_text()
    assert '| transparent | dkt | 20.0 |' in text and '## Normals' in text and 'OPW cm' in text
    assert 'Every scene' in (tmp_path / 'out' / 'evaluation.html').read_text()
    assert (tmp_path / 'out' / 'plots.png').stat().st_size > 10_000


def test_normals_and_time(tmp_path):
    result = evaluate(tmp_path)
    flat = result['normals']['transparent']
    assert flat['dkt']['median_deg'] == pytest.approx(0, abs=0.1) and flat['dkt']['coverage'] == 1
    assert result['normals_intervals']['all']['dkt']['within_11'] == [1.0, 1.0]
    assert set(result['temporal']) == {'truth', 'sensor', 'filled', 'dkt', 'fused'}
    # All that our depth has wrong is the same everywhere: it is as steady as the truth.
    ours, truth = result['temporal']['dkt'], result['temporal']['truth']
    assert ours['opw_cm'] == pytest.approx(truth['opw_cm'], abs=1e-3)
    assert truth['tae_percent'] < 2 and result['temporal']['sensor']['tae_percent'] >= 0
    assert ours['scale_std'] < 0.01 and np.isfinite(result['seam_ratio'])
    assert all(len(pair) == 2 for pair in result['temporal_intervals']['dkt'].values())


def test_every_figure_has_an_interval_and_one_scene_is_resampled_by_frames(tmp_path):
    result = evaluate(tmp_path, max_scenes=1)
    assert result['interval_unit'] == 'frames'
    for name, sources in result['intervals'].items():
        for source, row in sources.items():
            assert set(row) == set(result[name][source])
            low, high = row['mae_m']
            assert low <= result[name][source]['mae_m'] + 1e-9 and high >= low


def test_the_oracle_fits_outside_the_true_mask(tmp_path):
    def warped(frame):
        return (1 / (0.5 / truth_of(frame) + 0.3)).astype(np.float32)

    result = evaluate(tmp_path, warped, protocol='affine-sensor-oracle')
    assert result['all']['dkt']['mae_m'] < 1e-3 and 'fused' not in result['all']


def test_a_public_data_set_is_evaluated_in_place(tmp_path):
    import dataset_trees
    root = dataset_trees.transcg(tmp_path / 'tcg')
    fake = FakePerception(lambda frame: np.full(frame.rgb.shape[:2], TABLE_M, np.float32))
    result = run_evaluate(root, perception=fake, console=quiet(), repeat=2)
    assert set(result['per_scene']) == {'scene1_D435', 'scene1_L515'}
    assert result['transparent']['dkt']['mae_m'] == pytest.approx(TABLE_M - TOP_M, abs=2e-3)
    assert result['temporal'] == {} and 'unrelated views' in result['notes'][0]
    np.save(root / 'camera_intrinsics' / '1-camIntrinsics-D435.npy', dataset_trees.K.T)
    with pytest.raises(UserError, match='transposed'):
        run_evaluate(root, perception=fake, console=quiet())
    wrong = dataset_trees.clearpose(tmp_path / 'mm', divisor=1.0)
    with pytest.raises(UserError, match='millimetres read as metres'):
        run_evaluate(wrong, perception=fake, console=quiet())


def test_affine_gt_removes_scale_and_shift(tmp_path):
    def warped(frame):
        return (1 / (0.5 / truth_of(frame) + 0.3)).astype(np.float32)

    assert evaluate(tmp_path, warped)['all']['dkt']['mae_m'] > 0.1
    aligned = evaluate(tmp_path, warped, protocol='affine-gt')
    assert aligned['all']['dkt']['mae_m'] < 1e-4


def test_the_chain_gets_poses_only_if_told_so(tmp_path):
    def poses_of(**kwargs):
        poses = []
        evaluate(tmp_path, lambda frame: (poses.append(frame.T_world_camera), truth_of(frame))[1],
                 **kwargs)
        return poses
    known = poses_of(poses=True)
    assert len(known) == 10 and all(pose.shape == (4, 4) for pose in known)
    assert poses_of() == [None] * 10


def test_each_scene_starts_anew(tmp_path):
    make_scene(tmp_path / 'scenes' / 'a', 2)
    make_scene(tmp_path / 'scenes' / 'b', 2)
    fake = FakePerception(truth_of)
    run_evaluate(tmp_path / 'scenes', perception=fake, console=quiet())
    assert fake.resets == ['a new scene', 'a new scene']


def test_more_baselines_and_fewer_scenes(tmp_path):
    result = evaluate(tmp_path, baselines=['filled', 'inpaint'], max_scenes=1)
    assert result['scenes'] == 1
    assert list(result['all']) == ['sensor', 'filled', 'inpaint', 'dkt', 'fused']


@pytest.mark.parametrize('kwargs, words', [
    ({'protocol': 'best'}, "'best'.*affine-sensor"),
    ({'protocol': 'metric'}, 'plane or fixed'),
    ({'baselines': ['magic']}, "'magic'.*filled"),
    ({'baselines': ['depthcrafter']}, 'depthcrafter has no weights')])
def test_mistakes(tmp_path, kwargs, words):
    with pytest.raises(UserError, match=words):
        evaluate(tmp_path, **kwargs)


def test_metric_takes_the_anchor_as_configured(tmp_path):
    config = PerceptionConfig(anchor=AnchorConfig(source='fixed'))
    result = evaluate(tmp_path, protocol='metric', config=config)
    assert result['settings']['anchor']['source'] == 'fixed'
    with pytest.raises(UserError, match='affine-sensor'):
        evaluate(tmp_path, config=dataclasses.replace(config))


@pytest.mark.parametrize('name', ['clearpose', 'dreds', 'hiss', 'transcg', 'declared'])
def test_every_public_layout_can_be_evaluated(tmp_path, name):
    import dataset_trees
    root = getattr(dataset_trees, name)(tmp_path / name)
    fake = FakePerception(lambda frame: np.full(frame.rgb.shape[:2], TABLE_M, np.float32))
    result = run_evaluate(root, perception=fake, console=quiet(), repeat=1)
    if name != 'hiss':  # which has no mask
        assert result['transparent']['dkt']['mae_m'] == pytest.approx(TABLE_M - TOP_M, abs=2e-3)
    assert 0 < result['all']['dkt']['mae_m'] < TABLE_M - TOP_M


def test_a_model_without_a_task_for_normals_takes_them_from_depth(tmp_path):
    rows = tmp_path / 'prompt_rows'
    rows.mkdir()
    for tasks, source in ((['depth'], 'depth'), (['depth', 'normal'], 'model')):
        (rows / 'config.json').write_text(json.dumps({'tasks': tasks}))
        assert with_normals(tmp_path, PerceptionConfig()).normals.source == source
    off = PerceptionConfig(normals=NormalsConfig(source='none'))
    assert with_normals(tmp_path, off) is off


def test_frames_left_out_are_told(tmp_path):
    import dataset_trees
    root = dataset_trees.clearpose(tmp_path / 'cp', num_frames=4)
    (root / 'set1' / 'scene1' / '000002-label.png').unlink()
    fake = FakePerception(lambda frame: np.full(frame.rgb.shape[:2], TABLE_M, np.float32))
    result = run_evaluate(root, perception=fake, console=quiet())
    assert result['frames_out'] == 3
    assert any('000002-label.png' in note for note in result['notes'])


def test_nothing_to_evaluate(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        run_evaluate(tmp_path / 'nothing', perception=FakePerception(truth_of))
