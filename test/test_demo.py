"""The demo's report on a made-up recording, and the whole of it where model and clip exist."""
import importlib.util
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from bag_factory import write_bag
from rich.console import Console
from scene_factory import CAMERA, make_scene, scene_frame

from dkt_ros.data.bags import check_bag
from dkt_ros.data.clips import open_clip
from dkt_ros.data.images import read_rgb
from dkt_ros.data.packed import pack_clip
from dkt_ros.data.ply import read_mesh, read_ply
from dkt_ros.errors import UserError
from dkt_ros.resources import share_path
from dkt_ros.tools import demo
from dkt_ros.tools.demo import DemoFiles, graph_environment, report, run_demo
from dkt_ros.tools.processes import ChildError

HERE = Path(__file__).resolve().parent
OUT = (0, 1, 2, 3, 5, 6)
FILES = {'montage.png', 'points.ply', 'demo.mcap', 'summary.json', 'logs'}


def make_recording(files, clip):
    files.results.mkdir(parents=True)
    frames = []
    for item in clip.items():
        if item.index not in OUT:
            continue
        stamp = 10**18 + item.frame.stamp_ns
        truth = scene_frame(item.index, seed=1_000_000).depth
        name = f'{stamp:019d}.npz'
        np.savez(files.results / name, disparity=1 / truth, depth=truth + np.float32(0.01),
                 depth_fused=truth, mask=truth < 0.65, rgb=item.frame.rgb,
                 normals=np.zeros((*truth.shape, 3), np.float16))
        frames.append({'stamp_ns': stamp, 'index': item.index, 'age_ms': 500.0, 'file': name,
                       'clip_stamp_ns': item.frame.stamp_ns})
    points = CAMERA.unproject(truth)
    points[0] = np.nan
    np.savez(files.results / 'points.npz', points=points, rgb=item.frame.rgb, stamp_ns=stamp)
    bag = write_bag(files.out / 'bag', [scene_frame(0)])
    next(bag.glob('*.mcap')).rename(files.mcap)
    camera = {key: getattr(CAMERA, key) for key in ('width', 'height', 'fx', 'fy', 'cx', 'cy')}
    return {'frames_sent': 7, 'frames_out': len(frames), 'frames': frames, 'diagnostics': {},
            'age_ms': {'p50': 500.0, 'p95': 500.0},
            'camera': {**camera, 'frame_id': 'camera_color_optical_frame'}}


@pytest.fixture
def packed(tmp_path):
    pack_clip(make_scene(tmp_path / 'scene', 7), tmp_path / 'clip', truth_every=2)
    return tmp_path / 'clip'


def test_report(tmp_path, packed):
    files, clip = DemoFiles(tmp_path / 'out'), open_clip(packed)
    summary = report(files, clip, make_recording(files, clip), Console(file=io.StringIO()))
    # truth exists for the frames 0 2 4 6, of which 4 never came out
    assert summary['frames_with_truth'] == 3
    assert (summary['frames_in'], summary['frames_out'], summary['drops']) == (7, 6, 1)
    assert summary['fps'] == pytest.approx(5.0)
    for row in (summary[name] for name in ('transparent', 'reflective', 'diffuse', 'background')):
        assert row['dkt']['mae_m'] == pytest.approx(0.01, abs=6e-4)
        assert row['fused']['mae_m'] == pytest.approx(0.0, abs=6e-4)
        assert set(row) == {'sensor', 'filled', 'dkt', 'fused'}
    assert summary['transparent']['sensor']['coverage'] == pytest.approx(0.5, abs=0.06)
    points, colors = read_ply(files.out / 'points.ply')
    assert summary['points'] == len(points) == len(colors) == 47 * 64
    assert read_rgb(files.out / 'montage.png').shape[0] > 3 * 200
    assert sum(summary['mcap']['topics'].values()) == 3


def test_grasps_end_the_report(tmp_path, packed):
    files, clip = DemoFiles(tmp_path / 'out'), open_clip(packed)
    recording = make_recording(files, clip)
    plain = report(files, clip, recording, Console(file=io.StringIO()))
    assert plain['grasps'] == {} and 'no grasp came' in demo.grasp_line(plain['grasps'])
    height = read_rgb(files.out / 'montage.png').shape[0]
    frame = recording['frames'][2]
    truth = scene_frame(frame['index'], seed=1_000_000).depth
    # In the world, which the camera looks at from one metre along x.
    pose = np.eye(4)
    pose[0, 3] = 1.0
    z = float(np.nanmedian(truth[20:28, 28:36]))
    rows = np.array([[1.0, 0.0, z, 0, 0, 0, 1, 0.04, 0.9], [1.05, 0, z, 0, 0, 0, 1, 0.02, 0.5]])
    np.savez(files.results / 'grasps.npz', rows=rows.astype(np.float32), frame_id='world',
             stamp_ns=np.int64(frame['stamp_ns']), T_frame_camera=pose)
    grasps = report(files, clip, recording, Console(file=io.StringIO()))['grasps']
    assert (grasps['num_grasps'], grasps['drawn'], grasps['frame_index']) == (2, 2, 2)
    assert grasps['best']['position_camera'] == pytest.approx([0.0, 0.0, z], abs=1e-3)
    assert grasps['best']['to_true_surface_m'] < 0.02
    assert '2 grasps at frame 2; the best has score 0.90' in demo.grasp_line(grasps)
    vertices, triangles = read_mesh(files.out / 'grasps.ply')
    assert (len(vertices), len(triangles)) == (48, 72)
    assert read_rgb(files.out / 'montage.png').shape[0] > height + 200


def test_no_cloud_is_told(tmp_path, packed):
    files, clip = DemoFiles(tmp_path / 'out'), open_clip(packed)
    recording = make_recording(files, clip)
    (files.results / 'points.npz').unlink()
    with pytest.raises(RuntimeError, match='no cloud came out'):
        report(files, clip, recording, Console(file=io.StringIO()))


def test_a_domain_of_its_own(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(50 + os.getpid() % 49))
    environment = graph_environment()
    assert environment['ROS_DOMAIN_ID'] != os.environ['ROS_DOMAIN_ID']
    assert environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert environment['FASTDDS_DEFAULT_PROFILES_FILE'].endswith('fastdds.xml')
    monkeypatch.setenv('FASTDDS_DEFAULT_PROFILES_FILE', 'mine.xml')
    assert graph_environment()['FASTDDS_DEFAULT_PROFILES_FILE'] == 'mine.xml'


def test_without_ros(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='rclpy is not installed'):
        run_demo(tmp_path / 'out')


@pytest.fixture
def stub(monkeypatch, tmp_path):
    pytest.importorskip('rclpy')
    pytest.importorskip('open3d')
    monkeypatch.setattr(demo, 'DEPTH_NODE', 'stub_depth_node')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(map(str, (HERE.parent, HERE))))
    (tmp_path / 'model').mkdir()
    return tmp_path / 'model'


@pytest.mark.ros
def test_real_processes_around_a_stub(tmp_path, packed, stub):
    console = Console(file=io.StringIO(), width=120)
    summary = run_demo(tmp_path / 'out', model=stub, clip=packed, console=console)
    assert summary['frames_in'] == 7 and summary['frames_out'] >= 4
    assert summary['all']['dkt']['coverage'] > 0.5 and summary['age_ms']['p50'] > 0
    record = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert record['frames_out'] == summary['frames_out']
    assert {path.name for path in (tmp_path / 'out').iterdir()} == FILES
    assert 'frames in' in console.file.getvalue()


@pytest.mark.ros
def test_a_node_that_fails_is_told_with_its_words(tmp_path, packed, stub, monkeypatch):
    monkeypatch.setattr(demo, 'DEPTH_NODE', 'no_such_module')
    with pytest.raises(ChildError, match='depth_node left with exit code 1') as caught:
        run_demo(tmp_path / 'out', model=stub, clip=packed, console=Console(file=io.StringIO()))
    assert 'No module named' in str(caught.value)


def _missing():
    for module in ('rclpy', 'open3d'):
        if importlib.util.find_spec(module) is None:
            return f'{module} is not installed'
    for parts in (('models', 'dkt-tiny', 'model_index.json'), ('clips', 'demo', 'clip.json'),
                  ('config', 'dkt.yaml')):
        try:
            share_path(*parts)
        except UserError as error:
            return str(error)
    return ''


@pytest.mark.ros
def test_grasps_through_the_graph_hold_in_truth(tmp_path, stub, monkeypatch):
    # The truth in the place of the model: what is proved is the graph and the planner.
    monkeypatch.setattr(demo, 'DEPTH_NODE', 'oracle_depth_node')
    # Only the plan that the recorder asks for at the end.
    monkeypatch.setattr(demo, 'PLAN_HZ', 0.0)
    summary = run_demo(tmp_path / 'out', frames=14, model=stub,
                       console=Console(file=io.StringIO(), width=120))
    assert summary['all']['fused']['mae_m'] < 0.001
    assert summary['grasps']['best']['to_true_surface_m'] < 0.045
    assert summary['grasps']['frame_id'] == 'world'
    assert {path.name for path in (tmp_path / 'out').iterdir()} == FILES | {'grasps.ply'}
    check_grasps(tmp_path / 'out', summary)


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.skipif(bool(_missing()), reason=_missing() or 'all there')
def test_the_whole_graph(tmp_path):
    console = Console(file=io.StringIO(), width=120)
    summary = run_demo(tmp_path / 'out', frames=21, console=console)
    assert summary['frames_in'] == 21 and summary['frames_out'] >= 13
    assert summary['transparent']['dkt']['coverage'] > 0.5
    record = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert record['frames_out'] == summary['frames_out']
    assert {path.name for path in (tmp_path / 'out').iterdir()} == FILES | {'grasps.ply'}
    assert 'transparent' in console.file.getvalue()
    check_grasps(tmp_path / 'out', summary)


def check_grasps(out, summary):
    """Prove the grasps that came, in the target frame, against the truth of all views."""
    from rosbags.highlevel import AnyReader

    from dkt_ros.tools.grasp_report import configured_gripper
    counts = check_bag(out / 'demo.mcap')
    assert counts['/dkt/grasps'] and counts['/dkt/grasp_markers']
    surface = true_surface()
    gripper, proved = configured_gripper(), 0
    with AnyReader([out / 'demo.mcap']) as reader:
        wanted = [item for item in reader.connections if item.topic == '/dkt/grasp_candidates']
        for connection, _, data in reader.messages(wanted):
            message = reader.deserialize(data, connection.msgtype)
            assert message.header.frame_id == 'world'
            rows = np.frombuffer(message.data, np.float32).reshape(message.width, 9)
            proved += any(holds(row.astype(float), gripper, surface) for row in rows[:15])
    assert proved >= 1
    assert summary['grasps']['num_grasps'] >= 1


def true_surface():
    """Return the points of the things of the bundled clip, seen from all sides, in the world."""
    points = []
    for item in open_clip(share_path('clips', 'demo')).items():
        if item.index % 4 == 0:
            seen = item.frame.camera.unproject(item.depth).reshape(-1, 3)
            T = item.T_world_camera
            seen = seen[np.isfinite(seen).all(axis=1)] @ T[:3, :3].T + T[:3, 3]
            points.append(seen[(seen[:, 2] > 0.006) & (np.abs(seen[:, :2]) < 0.25).all(axis=1)])
    return np.concatenate(points)


def holds(row, gripper, surface):
    """Say whether a grasp is near the truth, full, free and from above."""
    from scipy.spatial.transform import Rotation
    rotation = Rotation.from_quat(row[3:7]).as_matrix()
    local = (surface - row[:3]) @ rotation
    opening = min(row[7] + 0.024, gripper.max_width)
    hits = sum(int(((local > low) & (local < high)).all(axis=1).sum())
               for low, high in gripper.boxes(opening))
    between = (np.abs(local[:, 0]) < gripper.finger_height / 2) \
        & (np.abs(local[:, 1]) < opening / 2) & (local[:, 2] > gripper.palm_z) \
        & (local[:, 2] < gripper.tip_length)
    return (np.linalg.norm(local, axis=1).min() < 0.02 and between.sum() >= 20 and hits == 0
            and -rotation[2, 2] >= np.cos(np.radians(60)) - 1e-6)
