import json
import signal
import subprocess

import numpy as np
import pytest

pytest.importorskip('rclpy')

from ros_graph import free_domain, node_command, process_environment, wait_until  # noqa: E402
from rosbags.highlevel import AnyReader  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402
from scene_factory import make_scene, scene_frame  # noqa: E402

from dkt_ros.nodes.recording import Spool, thinning  # noqa: E402

pytestmark = pytest.mark.ros
REMAPS = [part for topic in ('color/image_raw', 'color/camera_info',
                             'aligned_depth_to_color/image_raw')
          for part in ('-r', f'{topic}:=/camera/camera/{topic}')]


class Processes:
    """The three processes of a demo."""

    def __init__(self, folder, frames=6):
        make_scene(folder / 'scene', num_frames=frames)
        self.folder, self.running = folder, []
        self.environment = process_environment(free_domain())

    def start(self, module, *arguments):
        log = open(self.folder / f'{module.rpartition(".")[2]}.log', 'w')
        self.running.append(subprocess.Popen(
            node_command(module, *arguments), env=self.environment, stdout=log, stderr=log))
        return self.running[-1]

    def start_all(self, *recorder_arguments):
        recorder = self.start(
            'dkt_ros.nodes.recorder', '--out', str(self.folder / 'demo.mcap'), '--results',
            str(self.folder / 'results'), '--timeout', '60', *recorder_arguments)
        self.start('stub_depth_node', '--ros-args', *REMAPS, '-p', 'stream.max_gap_s:=0.5')
        self.start('dkt_ros.nodes.clip_camera_node', '--ros-args', '-p',
                   f'clip:={self.folder / "scene"}', '-p', 'rate_hz:=10.0', '-p',
                   'wait_for_subscribers:=2')
        return recorder

    def stop(self):
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self.running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def processes(tmp_path):
    made = Processes(tmp_path)
    yield made
    made.stop()


def test_a_clip_through_three_processes(processes):
    recorder = processes.start_all('--cloud-every', '2')
    assert recorder.wait(90) == 0, (processes.folder / 'recorder.log').read_text()
    results = processes.folder / 'results'
    summary = json.loads((results / 'recording.json').read_text())
    # 6 frames: a window of 4, and a tail of 2 that comes when the camera has ended.
    assert (summary['frames_sent'], summary['frames_out'], summary['ended']) == (
        6, 6, 'clip ended')
    assert [frame['index'] for frame in summary['frames']] == list(range(6))
    assert summary['age_ms']['p95'] >= summary['age_ms']['p50'] > 0
    assert summary['camera']['fx'] == 60.0
    assert 'dkt/depth_node: stream' in summary['diagnostics']
    arrays = np.load(results / summary['frames'][3]['file'])
    assert {'depth', 'depth_fused', 'disparity', 'mask', 'normals', 'rgb', 'sensor_depth'} == set(
        arrays)
    truth = scene_frame(3, seed=1_000_000).frame
    np.testing.assert_array_equal(arrays['rgb'], truth.rgb)
    np.testing.assert_allclose(arrays['sensor_depth'], truth.sensor_depth, atol=6e-4)
    assert arrays['depth'].dtype == np.float32 and arrays['mask'].dtype == bool
    assert np.load(results / 'points.npz')['points'].shape == (48, 64, 3)
    with AnyReader([processes.folder / 'demo.mcap'],
                   default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    assert counts['/dkt/depth'] == counts['/camera/camera/color/image_raw'] == 6
    assert counts['/dkt/points'] == 3
    assert '/dkt/normals' not in counts
    assert not list(results.glob('.*')), 'the spool is left'


def test_interrupted_it_writes_what_came(processes):
    recorder = processes.start('dkt_ros.nodes.recorder', '--out',
                               str(processes.folder / 'demo.mcap'), '--results',
                               str(processes.folder / 'results'))
    wait_until(lambda: list((processes.folder / 'results').glob('.spool*')), what='the spool')
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(30) == 1
    summary = json.loads((processes.folder / 'results/recording.json').read_text())
    assert (summary['ended'], summary['frames_out']) == ('interrupted', 0)


def test_thinning_keeps_the_file_small_enough():
    assert thinning({'a': 1_000_000, 'b': 500_000}, {'a': 60, 'b': 60}, 100.0) == 1
    assert thinning({'a': 1_000_000, 'b': 500_000}, {'a': 60, 'b': 60}, 40.0) == 3


@pytest.mark.parametrize('room', [None, 0, 30], ids=['memory', 'file', 'both'])
def test_the_spool_gives_back_what_it_got(tmp_path, room):
    spool = Spool(tmp_path / 'spool', room)
    data = bytes(4) + (7).to_bytes(4, 'little') + (5).to_bytes(4, 'little') + b'rest'
    spool.add('/a', 1, data)
    spool.add('/b', 2, b'x')
    spool.add('/a', 3, data * 2)
    first, last = spool.of('/a')
    assert first.stamp_ns == 7_000_000_005
    assert spool.data(last) == data * 2 and spool.data(first) == data
    spool.close()
    assert not (tmp_path / 'spool').exists()
