"""A ROS graph of one test: a domain of its own, nodes, a spinning thread, polling."""
import fcntl
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
REPOSITORY = Path(__file__).resolve().parent.parent
# Fast DDS reads its profile once a process, before the first participant.
os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(REPOSITORY / 'config/fastdds.xml'))

import rclpy  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402

from dkt_ros.camera import PinholeCamera  # noqa: E402
from dkt_ros.frame import DepthEstimate  # noqa: E402
from dkt_ros.nodes import messages  # noqa: E402

CAMERA = PinholeCamera(64, 48, 60.0, 60.0, 31.5, 23.5)
TIMEOUT_S = 30.0
_locks = []


def free_domain() -> int:
    """Take a domain that no other test on this machine uses, for the life of this process."""
    for domain in range(2, 100):
        file = open(Path(tempfile.gettempdir()) / f'dkt_ros_domain_{domain}.lock', 'w')
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _locks.append(file)
        return domain
    raise RuntimeError('all ROS domains are in use')


def process_environment(domain: int, **more: str) -> dict[str, str]:
    """Return the environment of a node started as a process."""
    return {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'OMP_NUM_THREADS': '1',
            'PYTHONPATH': os.pathsep.join([str(REPOSITORY), str(REPOSITORY / 'test')]), **more}


def node_command(module: str, *arguments: str) -> list[str]:
    """Return the command that starts a node module as a process."""
    return [sys.executable, '-m', module, *arguments]


def wait_until(condition, timeout_s: float = TIMEOUT_S, what: str = 'the condition'):
    """Poll until the condition is true; return what it gave."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f'{what} did not come true in {timeout_s} s')


class Graph:
    """Nodes of one test, spun in a thread."""

    def __init__(self, *arguments: str) -> None:
        self.domain = free_domain()
        self.context = Context()
        rclpy.init(args=[*arguments], context=self.context, domain_id=self.domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []
        self.peer = Node('peer', context=self.context)
        self.add(self.peer)
        self._stopping = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stopping:
            self.executor.spin_once(timeout_sec=0.05)

    def add(self, node):
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def listen(self, kind, topic: str, reliability=ReliabilityPolicy.RELIABLE) -> list:
        """Subscribe; return the list that the messages go to."""
        received = []
        self.peer.create_subscription(kind, topic, received.append,
                                      QoSProfile(depth=50, reliability=reliability))
        return received

    def wait_for_match(self, *publishers) -> None:
        """Wait until publishers and this graph's subscriptions know of each other."""
        wait_until(lambda: all(publisher.get_subscription_count() for publisher in publishers),
                   what='matched publishers')
        # The two sides match one after the other: a best-effort message sent in between is lost.
        topics = {publisher.topic_name for publisher in publishers}
        listeners = [subscription for node in self.nodes for subscription in node.subscriptions
                     if subscription.topic_name in topics]
        wait_until(lambda: all(listener.get_publisher_count() for listener in listeners),
                   what='matched subscriptions')

    def close(self) -> None:
        self._stopping = True
        self._thread.join(10.0)
        for node in self.nodes:
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()
        self.context.try_shutdown()


def makers_of(kind):
    """Yield a function that makes benches of a kind, for a fixture; then close their graphs."""
    made = []

    def make(*args, **kwargs):
        made.append(kind(*args, **kwargs))
        return made[-1]

    yield make
    for graph in {item.graph for item in made}:
        graph.close()


class FakeCamera:
    """Publishes frames as a camera would, on the inputs of depth_node."""

    def __init__(self, graph: Graph, namespace: str = '/dkt', qos=10) -> None:
        self.graph = graph
        create = graph.peer.create_publisher
        self.color = create(Image, f'{namespace}/color/image_raw', qos)
        self.info = create(CameraInfo, f'{namespace}/color/camera_info', qos)
        self.depth = create(Image, f'{namespace}/aligned_depth_to_color/image_raw', qos)

    def wait(self) -> None:
        self.graph.wait_for_match(self.color, self.info, self.depth)

    def send(self, stamp_ns: int, rgb=None, depth=None, camera=CAMERA, frame_id='optical') -> None:
        """Publish one frame; depth is in metres."""
        header = messages.make_header(stamp_ns, frame_id)
        size = (camera.height, camera.width)
        rgb = np.full((*size, 3), 90, np.uint8) if rgb is None else rgb
        depth = np.full(size, 0.8, np.float32) if depth is None else depth
        self.info.publish(messages.info_from_camera(camera, header))
        self.depth.publish(messages.array_to_image(messages.depth_to_millimetres(depth), '16UC1',
                                                   header))
        self.color.publish(messages.array_to_image(rgb, 'rgb8', header))


class StubPerception:
    """Gives each `window` frames back with the sensor's depth and a fixed plane."""

    def __init__(self, backend, config, normals: bool) -> None:
        self.backend, self.config, self.normals = backend, config, normals
        self.waiting, self.wanted, self.pose_of = [], frozenset(), None

    def advance(self, frame) -> list[DepthEstimate]:
        self.backend.frames.append(frame)
        self.backend.on_push(frame)
        self.waiting.append(frame)
        return self.drain() if len(self.waiting) >= self.backend.window else []

    def drain(self) -> list[DepthEstimate]:
        finished = [self._estimate(frame) for frame in self.waiting]
        self.waiting = []
        return finished

    def denoise(self, pending):
        return pending

    def decode(self, pending):
        return pending

    def complete(self, estimates):
        for estimate in estimates:
            if self.pose_of is not None:
                self.backend.poses.append(self.pose_of(estimate.frame))
        return estimates

    def reset(self, reason: str) -> None:
        self.backend.resets.append(reason)
        self.waiting = []

    def _estimate(self, frame) -> DepthEstimate:
        size = (frame.camera.height, frame.camera.width)
        depth = np.full(size, 0.5, np.float32)
        depth[0, 0] = np.nan
        fused = depth if frame.sensor_depth is None else np.where(
            np.isnan(frame.sensor_depth), depth, frame.sensor_depth)
        normals = np.zeros((*size, 3), np.float32)
        normals[..., 2] = -1.0
        unlocked = self.backend.unlocked
        return DepthEstimate(
            frame, np.full(size, 2.0, np.float32), normals=normals if self.normals else None,
            depth=None if unlocked else depth, depth_fused=None if unlocked else fused,
            mask=np.isnan(depth), confidence=np.ones(size, np.float32))


class StubBackend:
    """Stands for the model."""

    def __init__(self, window: int = 1) -> None:
        self.window = window
        self.frames, self.resets, self.built, self.poses = [], [], [], []
        self.loaded = self.unlocked = False
        self.on_push = lambda frame: None

    def load(self, config) -> None:
        self.loaded = True

    def perception(self, config, normals: bool) -> StubPerception:
        self.built.append((config, normals))
        return StubPerception(self, config, normals)

    def release(self) -> None:
        self.loaded = False
