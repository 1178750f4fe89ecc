"""Rounds of the simulated benchmark: scenes, views, stored depth, statistics, report, resuming."""
import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from dkt_ros.errors import UserError
from dkt_ros.grasp_sim_config import GraspSimConfig, ProtocolConfig, ViewConfig

pytest.importorskip('mujoco')
pytest.importorskip('open3d')

from dkt_ros.resources import share_path  # noqa: E402
from dkt_ros.tools.grasp_sim import run as running  # noqa: E402
from dkt_ros.tools.grasp_sim.report import markdown  # noqa: E402
from dkt_ros.tools.grasp_sim.rounds import play_round  # noqa: E402
from dkt_ros.tools.grasp_sim.run import Cell, chosen, run_grasp_sim  # noqa: E402
from dkt_ros.tools.grasp_sim.scenes import SimScene, draw_scene  # noqa: E402
from dkt_ros.tools.grasp_sim.solids import make_solid  # noqa: E402
from dkt_ros.tools.grasp_sim.sources import Observation, RayObserver  # noqa: E402
from dkt_ros.tools.grasp_sim.statistics import (  # noqa: E402
    cell_figures,
    mcnemar,
    summary,
    wilson,
)
from dkt_ros.tools.grasp_sim.stored import (  # noqa: E402
    QUICK,
    StoredObserver,
    packed,
    quick_observer,
    store,
    unpacked,
)
from dkt_ros.tools.grasp_sim.views import RayCaster, camera_arc, scene_meshes, sim_camera  # noqa: E402, E501

CONFIG = GraspSimConfig(view=ViewConfig(width=160, height=120))


@pytest.fixture(scope='module')
def can():
    solid = make_solid('can', 'aluminium', 3, CONFIG.physics)
    return SimScene('single', 'reflective', 1_000_000, (solid,), (np.eye(4),))


def test_wilson_and_mcnemar_give_the_textbook_values():
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 10)[0] == 0.0 and wilson(0, 0) == (0.0, 1.0)
    assert all(low <= k / n <= high for n in range(1, 40) for k in (0, n)
               for low, high in [wilson(k, n)])
    first, second = [True] * 10 + [False] * 5, [True] * 4 + [False] * 10 + [True]
    result = mcnemar(first, second)
    assert (result['only_first'], result['only_second']) == (6, 1)
    assert result['p'] == pytest.approx(2 * (1 + 7) / 2 ** 7)
    assert mcnemar([True], [True])['p'] == 1.0
    with pytest.raises(ValueError, match='pairs'):
        mcnemar([True], [])


def record(seed, source, *outcomes, kind='pile', things=3):
    tries = [{'success': not cause, 'cause': cause, 'plan_ms': 10.0} for cause in outcomes]
    return {'kind': kind, 'label': 'transparent', 'seed': seed, 'source': source,
            'attempts': tries, 'cleared': sum(not cause for cause in outcomes),
            'num_things': things}


def test_figures_of_a_cell_count_attempts_rounds_and_things():
    figures = cell_figures([record(0, 'truth', '', '', 'slipped', ''),
                            record(1, 'truth', 'missed', 'no grasp')])
    assert (figures['success']['successes'], figures['success']['trials']) == (3, 6)
    assert (figures['first_grasp']['successes'], figures['first_grasp']['trials']) == (1, 2)
    assert (figures['cleared']['successes'], figures['cleared']['trials']) == (3, 6)
    assert figures['no_grasp']['successes'] == 1
    assert figures['causes'] == {'no grasp': 1, 'collision': 0, 'missed': 1, 'wrong thing': 0,
                                 'slipped': 1}


def test_sources_are_compared_on_the_scenes_that_both_have():
    rounds = [record(seed, 'sensor', 'missed', kind='single') for seed in range(8)]
    rounds += [record(seed, 'fused', '', kind='single') for seed in range(1, 9)]
    test, = summary(rounds)['tests']['single transparent']
    assert (test['first'], test['second'], test['scenes']) == ('sensor', 'fused', 7)
    assert (test['only_first'], test['only_second']) == (0, 7)
    assert test['p'] == pytest.approx(2 / 2 ** 7)


def test_the_report_has_the_rates_the_causes_the_tests_and_the_paper():
    rounds = [record(seed, source, cause, kind='single', things=1) for seed in range(4)
              for source, cause in (('truth', ''), ('sensor', 'no grasp'))]
    text = markdown({**summary(rounds), 'settings': CONFIG.to_dict(), 'version': '1',
                     'depth': 'RayObserver'})
    assert '| truth | 1.00 [0.51, 1.00] (4/4) |' in text
    assert '| sensor | 4 | 0 | 0 | 0 | 0 |' in text
    assert '| truth, sensor | 4 | 4 | 0 | 0.125 |' in text
    assert '| paper, on a real arm | 0.80 | 0.59 | 0.81 | 0.73 |' in text


def test_the_camera_moves_5_cm_and_looks_at_the_things(can):
    poses = camera_arc(ViewConfig(), can)
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert len(poses) == 5 and steps.sum() == pytest.approx(0.05, abs=5e-4)
    for pose in poses:
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:3, :3]) > 0 and pose[2, 2] < 0 and pose[2, 1] < 0


def test_a_tall_bottle_is_whole_in_the_picture():
    bottle = next(solid for seed in range(40) if (solid := make_solid(
        'bottle', 'pet', seed, CONFIG.physics)).height > 0.28)
    for seed in range(6):
        scene = SimScene('single', 'transparent', seed, (bottle,), (np.eye(4),))
        view = RayCaster(scene_meshes(scene)).view(sim_camera(CONFIG.view),
                                                   camera_arc(CONFIG.view, scene)[-1])
        seen = view.instance > 0
        assert not (seen[:4].any() or seen[-4:].any() or seen[:, :4].any() or seen[:, -4:].any())


def test_ray_cast_depth_is_that_of_the_table_and_of_the_thing(can):
    camera, pose = sim_camera(CONFIG.view), camera_arc(CONFIG.view, can)[-1]
    view = RayCaster(scene_meshes(can)).view(camera, pose)
    points = camera.unproject(view.depth) @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(points[view.instance == 0][:, 2], 0.0, atol=1e-5)
    thing, solid = points[view.instance == 1], can.solids[0]
    assert thing[:, 2].max() == pytest.approx(solid.height, abs=0.004)
    assert np.hypot(*thing[:, :2].T).max() == pytest.approx(solid.radius, abs=0.002)


def test_a_scene_depends_on_its_seed_alone_and_is_at_rest():
    first, second = (draw_scene('single', 'diffuse', 1_000_001, CONFIG) for _ in range(2))
    assert first.solids[0].family == second.solids[0].family
    np.testing.assert_array_equal(first.poses[0], second.poses[0])
    points = first.solids[0].vertices @ first.poses[0][:3, :3].T + first.poses[0][:3, 3]
    assert abs(points[:, 2].min()) < 1e-3


def test_a_round_lifts_a_can_on_true_depth_and_has_no_grasp_without_depth(can):
    done = play_round(can, 'truth', RayObserver(CONFIG), CONFIG)
    assert done['cleared'] == 1 and done['attempts'][0]['success'], done
    json.dumps(done)

    class Blind(RayObserver):
        def observe(self, *args):
            seen = super().observe(*args)
            return Observation(seen.camera, seen.T_world_camera, np.full_like(seen.depth, np.nan))

    done = play_round(can, 'truth', Blind(CONFIG), CONFIG)
    assert done['attempts'][0]['cause'] == 'no grasp' and done['attempts'][0]['reason']


def test_a_run_goes_on_where_it_stopped_and_refuses_other_settings(tmp_path, can, monkeypatch):
    console, cell = Console(quiet=True), [Cell('single', 'reflective', 2, ('truth', 'sensor'))]
    played = []

    def play(scene, source, observer, config):
        played.append((scene.seed, source))
        return {**record(scene.seed, source, '', kind='single', things=1), 'label': scene.label,
                'things': []}

    class Still(RayObserver):
        def scene(self, kind, label, seed):
            return dataclasses.replace(can, seed=seed)

    monkeypatch.setattr(running, 'play_round', play)
    run_grasp_sim(cell, Still(CONFIG), tmp_path, CONFIG, (1, 2), console)
    assert played == [(1_000_001, 'truth'), (1_000_001, 'sensor')]
    figures = run_grasp_sim(cell, Still(CONFIG), tmp_path, CONFIG, console=console)
    assert len(played) == 4 and len(set(played)) == 4
    assert figures['cells']['single reflective']['sensor']['rounds'] == 2
    assert (tmp_path / 'grasp_sim.md').is_file() and (tmp_path / 'grasp_sim.png').is_file()
    other = dataclasses.replace(CONFIG, protocol=ProtocolConfig(hold_s=2.0))
    with pytest.raises(UserError, match='protocol differ'):
        run_grasp_sim(cell, Still(other), tmp_path, other, console=console)


def test_unknown_choices_are_refused_with_the_allowed_ones():
    with pytest.raises(UserError, match='--sources has sonar; allowed: truth, sensor'):
        chosen(running.STANDARD, [], [], ['sonar'], None)
    with pytest.raises(UserError, match='try --full'):
        chosen(running.STANDARD, ['packed'], [], [], None)
    with pytest.raises(UserError, match='cannot be had here'):
        run_grasp_sim([Cell('single', 'diffuse', 1, ('dkt',))], RayObserver(CONFIG), '/nowhere',
                      CONFIG)


def test_stored_depth_comes_back_to_a_quarter_of_a_millimetre(tmp_path, can):
    depth = np.array([[0.5, 0.50026, np.nan, 1.9], [np.nan, 0.3, 0.3, 0.3]], np.float32)
    np.testing.assert_allclose(unpacked(packed(depth)), depth, atol=0.00026)

    class Every(RayObserver):
        sources = ('truth', 'sensor', 'filled', 'dkt', 'fused')

        def observe(self, scene, poses, step, source):
            seen = super().observe(scene, poses, step,
                                   source if source in super().sources else 'truth')
            return dataclasses.replace(seen, confidence=np.ones_like(seen.depth))

    path = tmp_path / 'stored.npz'
    store(path, [can], Every(CONFIG), CONFIG)
    stored = StoredObserver(CONFIG, path)
    scene = stored.scene('single', 'reflective', 1_000_000)
    np.testing.assert_allclose(scene.solids[0].vertices, can.solids[0].vertices)
    truth, fused = (stored.observe(scene, scene.poses, 0, source) for source in ('truth', 'fused'))
    np.testing.assert_allclose(fused.depth, truth.depth, atol=0.0003)
    assert fused.confidence.min() == 1.0
    with pytest.raises(UserError, match='no depth is stored of single diffuse 7'):
        stored.scene('single', 'diffuse', 7)
    with pytest.raises(UserError, match='another camera'):
        StoredObserver(GraspSimConfig(), path)


def test_the_stored_depth_of_the_package_plays_on_all_sources(tmp_path):
    path = share_path(*QUICK)
    assert path.stat().st_size < 1.5e6
    config = GraspSimConfig()
    observer = quick_observer(config)
    assert isinstance(observer, StoredObserver)
    for cell in running.QUICK:
        for number in range(cell.num_scenes):
            observer.scene(cell.kind, cell.label, config.seed + number)
    cell = chosen(running.QUICK, [], ['diffuse'], [], 1)
    figures = run_grasp_sim(cell, observer, tmp_path, config, console=Console(quiet=True))
    found = figures['cells']['single diffuse']
    assert set(found) == {'truth', 'sensor', 'filled', 'dkt', 'fused'}
    assert all(item['success']['trials'] == 1 for item in found.values())
    assert found['truth']['success']['rate'] == 1
