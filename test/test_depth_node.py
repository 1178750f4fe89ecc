import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_graph import CAMERA, FakeCamera, Graph, StubBackend, wait_until  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, PointCloud2  # noqa: E402

from dkt_ros.frame import Frame  # noqa: E402
from dkt_ros.nodes import messages  # noqa: E402
from dkt_ros.nodes.clouds import cloud_to_arrays  # noqa: E402
from dkt_ros.nodes.depth_node import DepthNode  # noqa: E402
from dkt_ros.nodes.outputs import TOPICS  # noqa: E402

pytestmark = pytest.mark.ros
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
MS = 1_000_000
START_NS = 1_700_000_000 * 1000 * MS


class Bench:
    """A graph with a depth node around a stub, a camera and listeners."""

    def __init__(self, *parameters, backend=None, window=1):
        arguments = [part for value in ('autostart:=false', *parameters) for part in ('-p', value)]
        self.graph = Graph('--ros-args', *arguments)
        self.backend = backend or StubBackend(window)
        self.node = DepthNode(self.backend, context=self.graph.context)
        self.camera = FakeCamera(self.graph)
        self.diagnostics = self.graph.listen(DiagnosticArray, '/diagnostics')
        self.sent = 0
        self.graph.add(self.node)

    def start(self):
        assert self.node.trigger_configure() == SUCCESS
        assert self.node.trigger_activate() == SUCCESS
        self.camera.wait()
        return self

    def listen(self, topic, **kwargs):
        received = self.graph.listen(TOPICS[topic], f'/dkt/{topic}', **kwargs)
        wait_until(lambda: topic in self.node._outputs.wanted(), what=f'a match on {topic}')
        return received

    def send(self, number=1, **kwargs):
        """Send frames 100 ms apart, each when the one before was taken."""
        stamps = []
        for _ in range(number):
            stamps.append(START_NS + 100 * MS * self.sent)
            taken = self.node._inputs.pairer.counts['pairs']
            self.camera.send(stamps[-1], **kwargs)
            self.sent += 1
            wait_until(lambda taken=taken: self.node._inputs.pairer.counts['pairs'] > taken,
                       what='a pair')
        return stamps

    def status(self, name, accept=lambda status: True):
        """Return the newest accepted status of this name."""
        def find():
            for array in reversed(self.diagnostics):
                for status in array.status:
                    if status.name.endswith(name) and accept(status):
                        return status
            return None
        return wait_until(find, what=f'diagnostics of {name}')


@pytest.fixture
def bench():
    made = []

    def make(*args, **kwargs):
        made.append(Bench(*args, **kwargs))
        return made[-1]

    yield make
    for item in made:
        item.graph.close()


def stamps_of(received):
    return [messages.stamp_to_ns(message.header.stamp) for message in received]


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
    ('execution:=tensorrt', 'use auto or eager'),
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


def uncalibrated(stamp):
    header = messages.make_header(stamp, 'optical')
    return CameraInfo(header=header, width=CAMERA.width, height=CAMERA.height)


def test_an_uncalibrated_camera_is_told_and_the_node_lives(bench):
    bench = bench().start()
    got = bench.listen('depth')
    stamp = START_NS - 100 * MS
    bench.camera.info.publish(uncalibrated(stamp))
    header = messages.make_header(stamp, 'optical')
    rgb = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    bench.camera.color.publish(messages.array_to_image(rgb, 'rgb8', header))
    bench.status(': stream', lambda status: 'fx is 0' in status.message)
    stamps = bench.send()
    wait_until(lambda: got)
    assert stamps_of(got) == stamps


def test_depth_of_another_size_is_told_and_left_out(bench):
    bench = bench().start()
    got = bench.listen('disparity')
    bench.send(depth=np.full((10, 10), 0.5, np.float32))
    wait_until(lambda: got)
    assert bench.backend.frames[0].sensor_depth is None
    bench.status(': stream', lambda status: 'sensor depth is (10, 10)' in status.message)


def test_an_encoding_nobody_reads_is_told_and_the_node_lives(bench):
    bench = bench().start()
    got = bench.listen('depth')
    stamp = START_NS - 100 * MS
    header = messages.make_header(stamp, 'optical')
    bench.camera.info.publish(messages.info_from_camera(CAMERA, header))
    bayer = messages.array_to_image(np.zeros((48, 64), np.uint8), 'bayer_grbg8', header)
    bench.camera.color.publish(bayer)
    bench.status(': stream', lambda status: "'bayer_grbg8'" in status.message)
    bench.send()
    wait_until(lambda: got)


def test_no_depth_at_all_still_gives_disparity(bench):
    bench = bench().start()
    got = bench.listen('disparity')
    header = messages.make_header(START_NS, 'optical')
    bench.camera.info.publish(messages.info_from_camera(CAMERA, header))
    rgb = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    bench.camera.color.publish(messages.array_to_image(rgb, 'rgb8', header))
    wait_until(lambda: got)


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


def test_the_sensor_is_seen_by_the_model_in_metres(bench):
    bench = bench().start()
    got = bench.listen('disparity')
    depth = np.full((CAMERA.height, CAMERA.width), 1.234, np.float32)
    depth[5] = np.nan
    rgb = np.random.default_rng(0).integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)
    stamp = bench.send(depth=depth, rgb=rgb)[0]
    wait_until(lambda: got)
    frame = bench.backend.frames[0]
    assert isinstance(frame, Frame) and frame.stamp_ns == stamp
    np.testing.assert_array_equal(frame.rgb, rgb)
    np.testing.assert_allclose(frame.sensor_depth, depth, rtol=1e-6)
    assert frame.camera.frame_id == 'optical' and frame.camera.fx == CAMERA.fx


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


@pytest.mark.parametrize('cause', ['qos', 'type', 'silent'])
def test_a_silent_input_is_reported_with_cause_and_cure(bench, cause):
    topic = '/dkt/color/image_raw'
    given = ['input.silent_after_s:=0.5']
    if cause == 'qos':
        given.append(f'qos_overrides.{topic}.subscription.reliability:=reliable')
    bench = bench(*given)
    # One participant cannot hold two types of a topic: the wrong publisher needs its own.
    context = Context()
    rclpy.init(context=context, domain_id=bench.graph.domain)
    other = Node('other', context=context)
    if cause != 'silent':
        bench.graph.peer.destroy_publisher(bench.camera.color)
        other.create_publisher(
            Image if cause == 'qos' else PointCloud2, topic,
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    assert bench.node.trigger_configure() == SUCCESS
    assert bench.node.trigger_activate() == SUCCESS
    expected = {'qos': 'its QoS does not match', 'type': 'publishes sensor_msgs/msg/PointCloud2',
                'silent': 'FASTDDS_DEFAULT_PROFILES_FILE='}[cause]
    status = bench.status(': inputs', lambda status: expected in status.message)
    assert topic in status.message and status.level == status.WARN
    other.destroy_node()
    context.try_shutdown()


def test_stamps_that_never_pair_are_reported(bench):
    bench = bench('input.wait_s:=0.0').start()
    rgb = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    depth = np.zeros((CAMERA.height, CAMERA.width), np.uint16)
    for n in range(12):
        header = messages.make_header(START_NS + n * 100 * MS, 'optical')
        other = messages.make_header(START_NS + n * 100 * MS - 10**12, 'optical')
        bench.camera.info.publish(messages.info_from_camera(CAMERA, header))
        bench.camera.depth.publish(messages.array_to_image(depth, '16UC1', other))
        bench.camera.color.publish(messages.array_to_image(rgb, 'rgb8', header))
        wait_until(lambda n=n: bench.node._inputs.pairer.counts['pairs'] > n)
    status = bench.status(': inputs', lambda status: 'never pair' in status.message)
    assert 'input.slop_s allows 0.05 s' in status.message


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
