"""The renderer with Blender itself: rigid bodies, and a scene of preset transphy3d, whole."""
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dkt_ros.config import RenderConfig
from dkt_ros.data.scenes import open_scene
from dkt_ros.errors import UserError
from dkt_ros.tools.render import run
from dkt_ros.tools.render.setup import find_interpreter
from dkt_ros.tools.scenes import run_check

WORKER = Path(run.__file__).parent / 'worker'


@pytest.fixture(scope='module')
def interpreter():
    try:
        return find_interpreter()
    except UserError:
        pytest.skip('no bpy; `dkt render --setup` installs it')


def test_things_settle_and_what_is_wrong_is_found(interpreter):
    probe = Path(__file__).with_name('settle_probe.py')
    done = subprocess.run([str(interpreter), str(probe), str(WORKER)], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found['rested'] and not found['late'] and found['faults'] == {}
    assert np.abs(found['lowest'][:3]).max() < 0.001
    # One cube landed on another, the tilted one on a face, the glass never fell over.
    assert found['lowest'][3] == pytest.approx(0.05, abs=0.002)
    assert found['tilt'] > 0.999 and found['upright'] > 0.999
    assert found['wrong'] == {'1': 'inside another', '2': 'floats', '3': 'escaped',
                              '4': 'inside another', '5': 'inside another'}


@pytest.mark.slow
def test_a_scene_with_a_pair_is_whole_and_the_same_twice(interpreter, tmp_path):
    config = RenderConfig.from_dict({
        'preset': 'transphy3d', 'width': 96, 'height': 72, 'samples': 1, 'num_frames': 2,
        'workers': 1, 'max_objects': 4, 'place': 'tray', 'arrangement': 'fall', 'path': 'circle',
        'min_glass': 0.0, 'K': [90.0, 100.0, 45.0, 38.0], 'motion_blur': 0.3,
        'sensor': {'kind': 'stereo', 'stereo': {'width': 160, 'height': 90, 'samples': 2}}})
    for name in 'ab':
        assert run.run_render(tmp_path / name, 1, 1_000_003, config)['rendered'] == 1
    assert run_check(tmp_path / 'a')['problems'] == []
    one, two = (open_scene(tmp_path / name / run.scene_name(1_000_003)) for name in 'ab')
    assert (one.path / 'scene.json').read_text() == (two.path / 'scene.json').read_text()
    for first, second in zip(one, two):
        np.testing.assert_allclose(first.depth, second.depth, atol=1e-5)
    assert (one.camera.fx, one.camera.cy) == (90.0, 38.0)
    assert one[0].sensor_disparity.shape == (90, 160) and one[1].sensor_disparity is None
    assert len(one.objects) >= config.min_objects
    assert all(one.read_mesh(item['instance']) is not None for item in one.objects)
    assert replace(config, workers=2).workers == 2
