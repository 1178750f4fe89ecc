import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from depth_bench import FAILURE, MS, SUCCESS, Bench, stamps_of  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import ReliabilityPolicy  # noqa: E402
from ros_graph import CAMERA, Graph, StubBackend, makers_of, wait_until  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402

from dkt_ros.nodes import messages  # noqa: E402
from dkt_ros.nodes.clouds import cloud_to_arrays  # noqa: E402
from dkt_ros.nodes.depth_node import DepthNode  # noqa: E402
from dkt_ros.nodes.outputs import TOPICS  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def bench():
    yield from makers_of(Bench)


def test_every_topic_at_the_stamp_and_frame_of_the_image(bench):
    bench = bench().start()
    received = {topic: bench.listen(topic) for topic in TOPICS}
    stamps = bench.send(3)
    for topic, got in received.items():
        wait_until(lambda got=got: len(got) >= 3, what=topic)
        assert stamps_of(got) == stamps
        assert {message.header.frame_id for message in got} == {'optical'}
    encodings = {topic: got[0].encoding for topic, got in received.items()
                 if TOPICS[topic] is Image}
    assert encodings == {
        'depth': '32FC1', 'depth_fused': '32FC1', 'disparity': '32FC1', 'confidence': '32FC1',
        'normals': '32FC3', 'normals/color': 'rgb8', 'depth/color': 'rgb8', 'mask': 'mono8'}
    depth = messages.image_to_array(received['depth'][0])
    assert np.isnan(depth[0, 0]) and depth[1, 1] == 0.5
    assert messages.camera_from_info(received['camera_info'][0]).fx == CAMERA.fx
    points = cloud_to_arrays(received['points'][0])['points']
    np.testing.assert_allclose(points, CAMERA.rays() * np.float32(0.8), rtol=1e-6)


@pytest.mark.parametrize('reliability', ['reliable', 'best_effort'])
def test_both_kinds_of_subscriber_get_it(bench, reliability):
    bench = bench().start()
    got = bench.listen('depth', reliability=ReliabilityPolicy[reliability.upper()])
    bench.send()
    wait_until(lambda: got)


def test_nothing_is_computed_that_nobody_subscribes_to(bench):
    bench = bench().start()
    bench.graph.listen(CameraInfo, '/dkt/camera_info')
    bench.send(3)
    assert bench.backend.frames == []
    bench.listen('depth')
    bench.send(1)
    wait_until(lambda: bench.backend.frames)
    assert [normals for _, normals in bench.backend.built] == [False]
    assert bench.node.engine.perception.wanted == {'depth'}
    normals = bench.listen('normals')
    bench.send(1)
    wait_until(lambda: normals)
    assert [normals for _, normals in bench.backend.built] == [False, True]


def test_frames_that_wait_survive_a_new_wish_for_normals(bench):
    bench = bench(window=3).start()
    depth = bench.listen('depth')
    stamps = bench.send(2)
    wait_until(lambda: len(bench.backend.frames) == 2)
    bench.listen('normals')
    stamps += bench.send(3)
    wait_until(lambda: len(depth) == 5)
    assert stamps_of(depth) == stamps


def test_without_metres_there_is_disparity_and_no_points(bench):
    bench = bench().start()
    bench.backend.unlocked = True
    disparity, depth, points = map(bench.listen, ('disparity', 'depth', 'points'))
    bench.send(2)
    wait_until(lambda: len(disparity) == 2)
    assert depth == [] and points == []


def test_the_frames_that_wait_for_a_window_come_out_when_the_camera_pauses(bench):
    bench = bench('stream.max_gap_s:=0.2', window=4).start()
    got = bench.listen('depth')
    stamps = bench.send(6)
    wait_until(lambda: len(got) == 6)
    assert stamps_of(got) == stamps


@pytest.mark.parametrize('given, sentence', [
    ('model:=/nowhere', "'/nowhere' is neither a folder nor a bundled model"),
    ('modle:=x', "did you mean 'model'"),
    ('stream.preset:=huge', "stream.preset is 'huge'"),
    ('execution:=tensorrt', 'set device to cuda, or execution to auto'),
    ('device:=tpu', "device is 'tpu'; allowed: auto, cpu")])
def test_configure_fails_with_a_sentence_and_the_node_lives(bench, given, sentence):
    from dkt_ros.nodes.backend import ModelBackend
    bench = bench(given, backend=ModelBackend())
    assert bench.node.trigger_configure() == FAILURE
    status = bench.status(': stream', lambda status: status.level == status.ERROR)
    assert 'configure failed' in status.message and sentence in status.message


def test_deactivate_answers_while_a_frame_is_computed(bench):
    bench = bench().start()
    entered, let_go = threading.Event(), threading.Event()

    def compute(frame):
        entered.set()
        let_go.wait(20)

    bench.backend.on_push = compute
    got = bench.listen('depth')
    bench.send()
    assert entered.wait(20)
    assert bench.node.trigger_deactivate() == SUCCESS
    assert not let_go.is_set()
    assert bench.node.trigger_cleanup() == SUCCESS
    assert not bench.backend.loaded and bench.node.engine is None
    let_go.set()
    bench.backend.on_push = lambda frame: None
    bench.start()
    bench.listen('disparity')
    stamps = bench.send()
    wait_until(lambda: got)
    assert stamps_of(got) == stamps


def test_activated_again_it_starts_a_new_stream(bench):
    bench = bench().start()
    got = bench.listen('depth')
    assert bench.node.trigger_deactivate() == SUCCESS
    assert bench.node.trigger_activate() == SUCCESS
    bench.camera.wait()
    bench.send()
    wait_until(lambda: got)
    assert bench.backend.resets == ['activated']


@pytest.mark.parametrize('kind', ['out of memory', 'other'])
def test_a_frame_that_fails_does_not_end_the_node(bench, kind):
    torch = pytest.importorskip('torch')
    error = torch.OutOfMemoryError('CUDA out of memory') if kind == 'out of memory' else \
        RuntimeError('shape mismatch')
    bench = bench().start()
    got = bench.listen('depth')
    failures = [error]

    def compute(frame):
        if failures:
            raise failures.pop()

    bench.backend.on_push = compute
    bench.send(2)
    wait_until(lambda: len(got) == 1)
    status = bench.status(': stream', lambda status: status.level == status.ERROR)
    assert str(error) in status.message
    assert 'error' in bench.backend.resets


def test_parameters_change_live_or_are_refused(bench):
    bench = bench().start()
    got = bench.listen('points')
    results = bench.node.set_parameters([Parameter('points.stride', value=2),
                                         Parameter('stream.preset', value='image')])
    assert [result.successful for result in results] == [True, False]
    assert 'stream.preset cannot change in a running node' in results[1].reason
    bench.send()
    wait_until(lambda: got)
    assert (got[0].height, got[0].width) == (CAMERA.height // 2, CAMERA.width // 2)
    assert bench.backend.built[-1][0].points.stride == 2


def test_diagnostics_tell_rate_age_and_memory(bench):
    bench = bench().start()
    got = bench.listen('depth')
    bench.send(3)
    wait_until(lambda: len(got) == 3)
    status = bench.status(': stream', lambda status: any(
        item.key == 'frames_out' and item.value == '3' for item in status.values))
    keys = {item.key for item in status.values}
    assert {'age_ms_p50', 'age_ms_p95', 'rate_hz', 'rss_mb', 'peak_rss_mb', 'preset', 'execution',
            'decode_ms_p50', 'compute_ms_p95', 'publish_ms_p50', 'window_latents'} <= keys
    assert status.name == 'dkt/depth_node: stream'


def test_the_namespace_and_the_inputs_can_be_remapped():
    graph = Graph('--ros-args', '-r', '__ns:=/left', '-r', 'color/image_raw:=/cam/rgb',
                  '-p', 'autostart:=true')
    try:
        node = graph.add(DepthNode(StubBackend(), context=graph.context))
        wait_until(lambda: node.get_publishers_info_by_topic('/left/depth'))
        wait_until(lambda: node.get_subscriptions_info_by_topic('/cam/rgb'), what='autostart')
    finally:
        graph.close()


def test_the_engine_thins_frames_when_it_is_too_slow():
    from dkt_ros.config import DepthNodeConfig
    from dkt_ros.nodes.diagnostics import StreamStats
    from dkt_ros.nodes.engine import Engine
    from dkt_ros.nodes.pairing import Pair
    backend, stats, published = StubBackend(), StreamStats(), []
    engine = Engine(backend, DepthNodeConfig(), published.append, frozenset, stats, print)
    engine._pacer = SimpleNamespace(
        admit=lambda stamp_ns: stamp_ns // MS % 200 == 0, observe=lambda seconds: None,
        reset=lambda: None, seconds_per_frame=0.2, stride=2.0)
    for n in range(6):
        header = messages.make_header(n * 100 * MS, 'optical')
        engine.offer(Pair(n * 100 * MS, messages.array_to_image(
            np.zeros((48, 64, 3), np.uint8), 'rgb8', header),
            messages.info_from_camera(CAMERA, header), None))
    wait_until(lambda: len(published) == 3)
    assert [estimate.stamp_ns // MS for estimate in published] == [0, 200, 400]
    assert stats.counts['drops'] == 3
    engine.close(5.0)


@pytest.fixture(scope='module')
def model_folder(tmp_path_factory):
    pytest.importorskip('diffusers')
    from toy_model import toy_pipeline
    folder = tmp_path_factory.mktemp('model') / 'toy'
    toy_pipeline().save_pretrained(str(folder), safe_serialization=True)
    return folder


def test_the_real_chain_around_networks_of_toy_size(bench, model_folder):
    from dkt_ros.nodes.backend import ModelBackend
    bench = bench(f'model:={model_folder}', 'device:=cpu', 'anchor.source:=fixed',
                  'anchor.scale:=1.5', 'anchor.shift:=0.5', 'stream.max_gap_s:=0.5',
                  backend=ModelBackend()).start()
    received = {topic: bench.listen(topic) for topic in ('disparity', 'depth', 'normals')}
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    stamps = bench.send(11, rgb=rgb)
    for topic, got in received.items():
        wait_until(lambda got=got: len(got) == 11, what=topic)
        assert stamps_of(got) == stamps
    disparity = messages.image_to_array(received['disparity'][5])
    depth = messages.image_to_array(received['depth'][5])
    assert disparity.shape == (48, 64) and np.isfinite(disparity).all()
    np.testing.assert_allclose(1 / depth, 1.5 * disparity + 0.5, rtol=1e-3)
    bench.status(': anchor', lambda status: 'locked' in status.message or status.values)
    bench.status(': stream', lambda status: any(
        item.key == 'model' and item.value == str(model_folder) for item in status.values))


@pytest.mark.parametrize('damage, sentence', [
    (lambda folder: next(folder.glob('vae/*.safetensors')).write_bytes(b'short'), 'truncated'),
    (lambda folder: (folder / 'model_index.json').unlink(), 'model_index.json')])
def test_a_damaged_model_fails_configure(bench, model_folder, tmp_path, damage, sentence):
    import shutil

    from dkt_ros.nodes.backend import ModelBackend
    folder = shutil.copytree(model_folder, tmp_path / 'damaged')
    damage(folder)
    bench = bench(f'model:={folder}', backend=ModelBackend())
    assert bench.node.trigger_configure() == FAILURE
    status = bench.status(': stream', lambda status: status.level == status.ERROR)
    assert sentence in status.message and str(folder) in status.message


def test_the_topic_table_against_live_publishers(bench):
    bench = bench().start()
    table = {'depth': 'Image', 'camera_info': 'CameraInfo', 'depth_fused': 'Image',
             'disparity': 'Image', 'normals': 'Image', 'normals/color': 'Image',
             'depth/color': 'Image', 'mask': 'Image', 'confidence': 'Image',
             'points': 'PointCloud2'}
    for topic, kind in table.items():
        info, = wait_until(lambda topic=topic: bench.graph.peer.get_publishers_info_by_topic(
            f'/dkt/{topic}'), what=topic)
        assert info.topic_type == f'sensor_msgs/msg/{kind}'
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert set(TOPICS) == set(table)
    for topic in ('color/image_raw', 'color/camera_info', 'aligned_depth_to_color/image_raw'):
        info, = bench.graph.peer.get_subscriptions_info_by_topic(f'/dkt/{topic}')
        assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_publishers_take_qos_overrides(bench):
    bench = bench('qos_overrides./dkt/depth.publisher.reliability:=best_effort').start()
    find = bench.graph.peer.get_publishers_info_by_topic
    info, = wait_until(lambda: find('/dkt/depth'))
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    other, = wait_until(lambda: find('/dkt/points'))
    assert other.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def toy_folder(path, task):
    from toy_model import randn, toy_transformer, toy_vae

    from dkt_ros.model.saving import save_model_folder
    return save_model_folder(path, toy_transformer(), toy_vae(), {task: randn(1, 2, 6)},
                             default_num_inference_steps=1, initial_noise='zeros',
                             default_height=32, default_width=48)


def test_a_model_without_normals_is_told_what_to_set(bench, tmp_path):
    pytest.importorskip('diffusers')
    from dkt_ros.nodes.backend import ModelBackend
    folder = toy_folder(tmp_path / 'model', 'depth')
    bench = bench(f'model:={folder}', 'device:=cpu', backend=ModelBackend())
    assert bench.node.trigger_configure() == FAILURE
    bench.status(': stream', lambda status: 'set normals.source to depth' in status.message)
    bench.node.set_parameters([Parameter('normals.source', value='depth')])
    assert bench.node.trigger_configure() == SUCCESS


def test_a_model_for_normals_may_stand_beside_it(bench, tmp_path):
    pytest.importorskip('diffusers')
    from dkt_ros.nodes.backend import ModelBackend
    depth, normal = (toy_folder(tmp_path / task, task) for task in ('depth', 'normal'))
    bench = bench(f'model:={depth}', f'normals.model:={depth}', 'device:=cpu',
                  'stream.overlap:=cache', backend=ModelBackend())
    assert bench.node.trigger_configure() == FAILURE
    bench.status(': stream', lambda status: 'which has no task for normals' in status.message)
    bench.node.set_parameters([Parameter('normals.model', value=str(normal)),
                               Parameter('stream.decoder', value=str(tmp_path / 'none.pth'))])
    assert bench.node.trigger_configure() == FAILURE
    bench.status(': stream', lambda status: 'none.pth does not exist' in status.message)
    bench.node.set_parameters([Parameter('stream.decoder', value='')])
    assert bench.node.trigger_configure() == SUCCESS
