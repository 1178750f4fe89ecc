"""Other methods beside ours, under every protocol, with predictions whose error is known."""
import numpy as np
import pytest
from fake_perception import FakePerception
from scene_factory import make_scene, scene_frame

from dkt_ros.config import AnchorConfig, PerceptionConfig
from dkt_ros.data.clips import open_clip
from dkt_ros.errors import UserError
from dkt_ros.tools.baselines.learned import Prediction
from dkt_ros.tools.clip_eval import Task, evaluate_clip
from dkt_ros.tools.perceive import RunStats

COUNT = 6


def truth():
    return np.stack([scene_frame(i, seed=1_000_000).depth for i in range(COUNT)])


def perfect(frame):
    return np.full(frame.rgb.shape[:2], 0.7, np.float32)


PREDICTIONS = {
    'disparity': lambda: Prediction('disparity', (0.2 / truth() - 0.1).astype(np.float32)),
    'depth': lambda: Prediction('depth', 3 * truth() - 1),
    'metric': lambda: Prediction('metric', truth() + np.float32(0.01))}


def run(tmp_path, protocol, kinds, config=None, **task):
    if not (tmp_path / 'a').exists():
        make_scene(tmp_path / 'a', COUNT)
    methods = {kind: (lambda frames, fps, kind=kind: PREDICTIONS[kind]()) for kind in kinds}
    return evaluate_clip(open_clip(tmp_path / 'a'), FakePerception(perfect), Task(
        protocol, ('filled',), methods, config or PerceptionConfig(), **task), RunStats())


@pytest.mark.parametrize('protocol', ['affine-gt', 'affine-sensor-oracle', 'affine-sensor'])
def test_shapes_are_right_after_the_fit(tmp_path, protocol):
    table = run(tmp_path, protocol, PREDICTIONS).score.table()
    for kind in ('disparity', 'depth'):
        assert table['all'][kind]['mae_m'] < 2e-3, kind
    assert table['all']['metric']['mae_m'] == pytest.approx(0.01, abs=1e-5)  # nothing is fitted


def test_metric_takes_metres_only(tmp_path):
    config = PerceptionConfig(anchor=AnchorConfig(source='fixed'))
    table = run(tmp_path, 'metric', ['metric'], config).score.table()
    assert table['all']['metric']['mae_m'] == pytest.approx(0.01, abs=1e-5)
    with pytest.raises(UserError, match='affine-invariant depth'):
        run(tmp_path, 'metric', ['depth'], config)


def test_normals_of_another_method(tmp_path):
    make_scene(tmp_path / 'a', COUNT)
    away = np.zeros((COUNT, 48, 64, 3), np.float32)
    away[..., 2] = -1
    methods = {'other': lambda frames, fps: Prediction('normals', away)}
    result = evaluate_clip(open_clip(tmp_path / 'a'), FakePerception(perfect),
                           Task('affine-sensor', (), methods, PerceptionConfig()), RunStats())
    assert result.normals.table()['all']['other']['mean_deg'] == pytest.approx(0, abs=0.01)
    assert 'other' not in result.score.table()['all']


def test_fewer_frames(tmp_path):
    assert len(run(tmp_path, 'affine-gt', [], max_frames=2).score) == 2
