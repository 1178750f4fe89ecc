"""The preset `tabletop-v1` draws what it always drew: evaluation sets are made of it."""
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dkt_ros.config import RenderConfig
from dkt_ros.errors import UserError
from dkt_ros.tools.render import assemble, run
from dkt_ros.tools.render.setup import find_interpreter

GOLDEN = Path(__file__).parent / 'data' / 'tabletop_v1.json'
"""What the specs of `specs` drew when the preset was fixed; never to be written anew."""


def specs():
    plain = RenderConfig()
    views = replace(plain, path='views', num_frames=3)
    return [run.scene_spec(1_000_000, 0, plain), run.scene_spec(7, 1, plain),
            run.scene_spec(123, 0, views)]


def same(found, wanted):
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return found == (pytest.approx(wanted, rel=1e-6, abs=1e-5) if isinstance(wanted, float)
                     else wanted)


def test_tabletop_v1_draws_what_it_always_drew(tmp_path):
    try:
        interpreter = find_interpreter()
    except UserError:
        pytest.skip('no bpy; `dkt render --setup` installs it')
    job = tmp_path / 'specs.json'
    job.write_text(json.dumps(specs()))
    worker = Path(run.__file__).parent / 'worker'
    done = subprocess.run([str(interpreter), str(Path(__file__).with_name('tabletop_probe.py')),
                           str(worker), str(job)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for found, wanted in zip(json.loads(done.stdout), json.loads(GOLDEN.read_text()), strict=True):
        wrong = [key for key in wanted if not same(found[key], wanted[key])]
        assert wrong == [], [(found[key], wanted[key]) for key in wrong]


def test_its_metadata_names_the_options_it_always_named():
    kept = assemble.drawing_options(RenderConfig())
    assert sorted(kept) == [
        'K', 'arrangement', 'backdrop_m', 'camera', 'device', 'distance_m', 'elevation_rad',
        'exposure', 'first_material', 'focal_widths', 'fps', 'hdri_folder', 'height',
        'image_noise', 'lying', 'material_weights', 'max_objects', 'meshes', 'min_glass',
        'min_objects', 'motion_blur', 'num_frames', 'path', 'period_frames', 'place', 'preset',
        'samples', 'scale', 'sensor', 'settle_s', 'side_wall', 'spread_m', 'step_rad',
        'texture_folder', 'texture_share', 'width']
    assert kept['material_weights'] == {'glass': 0.42, 'clear_plastic': 0.18,
                                        'frosted_glass': 0.04, 'metal': 0.14, 'plain': 0.22}
    assert kept['first_material'] == 'glass'
