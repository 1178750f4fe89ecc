"""`dkt infer` around a model whose error is known, and once around real networks of toy size."""
import io
import json

import cv2
import numpy as np
import pytest
from fake_perception import FakePerception
from rich.console import Console
from scene_factory import make_scene, scene_frame
from test_cleargrasp import make_tree

from dkt_ros.data.exr import read_depth_exr, read_exr, read_normals_exr
from dkt_ros.data.images import read_rgb
from dkt_ros.errors import UserError
from dkt_ros.tools import infer
from dkt_ros.tools.infer import RowKeeper, run_infer
from dkt_ros.tools.perceive import RunStats, perceive


def flat(frame):
    return np.full(frame.rgb.shape[:2], 0.65, np.float32)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    perception = FakePerception(flat)
    monkeypatch.setattr(infer, 'load_perception', lambda *_: perception)
    (tmp_path / 'model').mkdir()
    (tmp_path / 'model' / 'model_index.json').write_text('{}')
    return perception


def run(tmp_path, source, **kwargs):
    console = Console(file=io.StringIO(), width=200)
    summary = run_infer(source, tmp_path / 'out', model=tmp_path / 'model', console=console,
                        **kwargs)
    return summary, console.file.getvalue()


def test_scene(tmp_path, fake):
    summary, text = run(tmp_path, make_scene(tmp_path / 'a', 7))
    out = tmp_path / 'out'
    for name in ('depth', 'depth_fused', 'disparity', 'normals'):
        assert len(list((out / name).glob('*.exr'))) == 7
    np.testing.assert_array_equal(read_depth_exr(out / 'depth' / '000006.exr'), np.float32(0.65))
    assert read_normals_exr(out / 'normals' / '000000.exr')[0, 0].tolist() == [0, 0, -1]
    assert summary['frames_in'] == summary['frames_out'] == 7 and summary['drops'] == 0
    assert summary['transparent']['dkt']['mae_m'] == pytest.approx(0.05, abs=1e-6)
    assert json.loads((out / 'summary.json').read_text())['transparent'] == summary['transparent']
    for key in ('version', 'machine', 'settings', 'seed', 'model_sha256', 'fps', 'age_ms',
                'peak_rss_mb'):
        assert key in summary
    assert read_rgb(out / 'montage.png').shape[0] > 100
    capture = cv2.VideoCapture(str(out / 'montage.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 7
    assert 'transparent' in text and '7 frames in, 7 out' in text


def test_cleargrasp_is_stills_in_streams_of_their_own(tmp_path, fake):
    summary, text = run(tmp_path, make_tree(tmp_path / 'a'), repeat=3)
    assert summary['frames_in'] == summary['frames_out'] == 6
    assert fake.resets == ['a gap in the clip']
    assert 'no benchmark' in text and not (tmp_path / 'out' / 'montage.mp4').exists()
    assert {'transparent', 'background', 'object', 'all'} <= set(summary)


def test_max_frames_and_no_truth(tmp_path, fake):
    folder = tmp_path / 'images'
    folder.mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / f'{index}.png'), scene_frame(index).frame.rgb)
    summary, text = run(tmp_path, folder, max_frames=4)
    assert summary['frames_out'] == 4 and 'all' not in summary and 'transparent' not in summary
    assert '69.4 degrees' in text


def test_unknown_mode(tmp_path, fake):
    with pytest.raises(UserError, match="'live'.*stream"):
        run(tmp_path, tmp_path, mode='live')


def test_dropped_frames_are_counted():
    class Dropping(FakePerception):
        def push(self, frame):
            return [] if frame.stamp_ns == scene_frame(1).frame.stamp_ns else super().push(frame)

    stats = RunStats()
    pairs = list(perceive(Dropping(flat), [scene_frame(i) for i in range(6)], 1.0, stats))
    assert (stats.frames_in, stats.frames_out, stats.drops) == (6, 5, 1)
    assert [item.index for item, _ in pairs] == [0, 2, 3, 4, 5]
    assert all(item.frame is estimate.frame for item, estimate in pairs)


def test_rows_are_few_and_spread():
    keeper = RowKeeper(max_rows=4)
    for index in range(40):
        keeper.add(scene_frame(index), {'RGB': scene_frame(index).frame.rgb})
    shown = [int(title.split()[1]) for title in keeper.titles]
    assert 2 <= len(shown) <= 4 and shown[0] == 0 and shown[-1] >= 20


@pytest.mark.parametrize('mode', ['stream', 'offline'])
def test_real_networks_of_toy_size(tmp_path, mode):
    from toy_model import toy_pipeline
    toy_pipeline().save_pretrained(tmp_path / 'model')
    summary, _ = run(tmp_path, make_scene(tmp_path / 'a', 7), mode=mode, device='cpu')
    assert summary['frames_in'] == summary['frames_out'] == 7 and summary['drops'] == 0
    files = sorted((tmp_path / 'out' / 'disparity').iterdir())
    disparity = [read_exr(file)['Z'] for file in files]
    assert len(disparity) == 7 and all(np.isfinite(d).all() for d in disparity)
    assert disparity[0].shape == (48, 64) and len(summary['model_sha256']) == 64
    normals = read_normals_exr(tmp_path / 'out' / 'normals' / '000003.exr')
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=5e-3)
