"""Renderer and simulator agree on where things are, and the chain plans on what is rendered."""
import dataclasses

import numpy as np
import pytest

from dkt_ros.errors import UserError
from dkt_ros.grasp_sim_config import GraspSimConfig, ViewConfig
from dkt_ros.tools.render.setup import find_interpreter

pytest.importorskip('mujoco')
pytest.importorskip('open3d')

from dkt_ros.data.scenes import open_scene  # noqa: E402
from dkt_ros.tools.grasp_sim.rendering import Shot, film, render_options, shot_folder  # noqa: E402
from dkt_ros.tools.grasp_sim.scenes import draw_scene  # noqa: E402
from dkt_ros.tools.grasp_sim.views import (  # noqa: E402
    RayCaster,
    camera_arc,
    scene_meshes,
    sim_camera,
)

CONFIG = GraspSimConfig(view=ViewConfig(width=128, height=96, num_frames=2, samples=1))


def test_the_infrared_pair_belongs_to_the_last_frame():
    options = render_options(ViewConfig())
    from dkt_ros.tools.render.assemble import stereo_frames
    assert stereo_frames(options) == [4]
    first = dataclasses.replace(options, sensor=dataclasses.replace(options.sensor, every=0))
    assert stereo_frames(first) == [0]


def test_a_shot_names_what_is_there_and_keeps_its_looks():
    scene = draw_scene('single', 'diffuse', 1_000_002, CONFIG)
    whole, empty = Shot(scene, scene.poses).spec(CONFIG.view), Shot(scene, (None,), 1)
    assert whole['things'][0]['family'] == scene.solids[0].family
    assert whole['things'][0]['look_seed'] == [1_000_002, 0]
    assert empty.spec(CONFIG.view)['things'] == [] and empty.name.endswith('_1')


@pytest.mark.slow
def test_renderer_and_ray_caster_see_the_same(tmp_path):
    try:
        find_interpreter('')
    except UserError as error:
        pytest.skip(str(error))
    scene = draw_scene('single', 'transparent', 1_000_000, CONFIG)
    shot, = film([Shot(scene, scene.poses)], tmp_path, CONFIG.view)
    rendered = open_scene(shot_folder(tmp_path, shot))[-1]
    pose = camera_arc(CONFIG.view, scene)[-1]
    np.testing.assert_allclose(rendered.T_world_camera, pose, atol=1e-6)
    seen = RayCaster(scene_meshes(scene)).view(sim_camera(CONFIG.view), pose)
    one, two = rendered.instance > 0, seen.instance > 0
    assert (one & two).sum() / (one | two).sum() > 0.95
    assert np.nanmedian(np.abs(rendered.depth - seen.depth)) < 5e-4
    assert rendered.sensor_disparity is not None
