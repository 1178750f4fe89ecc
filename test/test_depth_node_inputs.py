import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy  # noqa: E402
from depth_bench import MS, START_NS, SUCCESS, Bench, stamps_of  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_graph import CAMERA, makers_of, wait_until  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2  # noqa: E402

from dkt_ros.frame import Frame  # noqa: E402
from dkt_ros.nodes import messages  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def bench():
    yield from makers_of(Bench)


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
        # Nothing is waited for: a colour image that is taken before the first camera_info is lost.
        counts = bench.node._inputs.pairer.counts
        wait_until(lambda n=n, counts=counts: counts['pairs'] + counts['without_info'] > n,
                   what=f'pair {n}')
    status = bench.status(': inputs', lambda status: 'never pair' in status.message)
    assert 'input.slop_s allows 0.05 s' in status.message


def test_simulated_time_is_honoured(bench):
    bench = bench('use_sim_time:=true').start()
    clock = bench.graph.peer.create_publisher(Clock, '/clock', 10)
    got = bench.listen('depth')
    now_ns = START_NS + 250 * MS

    def ticked():
        clock.publish(Clock(clock=messages.ns_to_stamp(now_ns)))
        return bench.node.get_clock().now().nanoseconds == now_ns

    wait_until(ticked, what='simulated time')
    bench.send()
    wait_until(lambda: got)
    status = bench.status(': stream', lambda status: any(
        item.key == 'age_ms_p50' for item in status.values))
    assert {item.key: item.value for item in status.values}['age_ms_p50'] == '250.0'


def test_images_that_are_too_old_are_not_computed(bench):
    bench = bench('max_age_s:=2.0').start()
    bench.listen('depth')
    bench.send()
    assert bench.backend.frames == [] and bench.node.stats.counts['too_old'] == 1


@pytest.mark.parametrize('transport', ['jpeg', 'png'])
def test_compressed_inputs(bench, transport):
    import array

    import cv2
    bench = bench('input.image_transport:=compressed', 'input.depth_transport:=compressedDepth')
    create = bench.graph.peer.create_publisher
    color = create(CompressedImage, '/dkt/color/image_raw/compressed', 5)
    depth = create(CompressedImage, '/dkt/aligned_depth_to_color/image_raw/compressedDepth', 5)
    assert bench.node.trigger_configure() == SUCCESS
    assert bench.node.trigger_activate() == SUCCESS
    got = bench.listen('disparity')
    bench.graph.wait_for_match(color, depth, bench.camera.info)
    header = messages.make_header(START_NS, 'optical')
    pixels = np.full((48, 64, 3), (30, 60, 200), np.uint8)  # BGR
    suffix = {'jpeg': '.jpg', 'png': '.png'}[transport]
    bench.camera.info.publish(messages.info_from_camera(CAMERA, header))
    for publisher, image, kind in ((color, pixels, suffix),
                                   (depth, np.full((48, 64), 700, np.uint16), '.png')):
        data = array.array('B', cv2.imencode(kind, image)[1].tobytes())
        publisher.publish(CompressedImage(header=header, format=transport, data=data))
    wait_until(lambda: got)
    frame = bench.backend.frames[0]
    assert np.abs(frame.rgb[5, 5].astype(int) - (200, 60, 30)).max() < 8
    assert frame.sensor_depth[0, 0] == pytest.approx(0.7)
