r"""
`dkt bench ros`: what the ROS side costs a frame, with the model left out.

A second process plays the camera and is the reliable subscriber: it sends a frame, waits until
depth, camera_info and points of that frame have arrived, and sends the next. In this process a
real `DepthNode` decodes, pairs, packs and publishes; its model is a stub that gives back one
estimate made beforehand. `ros_ms` is the work in this process a frame: pairing, decoding, packing
and publishing; `cpu_ms` is the part of it that the processor worked, which a busy machine does not
change much. `round_trip_ms` is what the other process sees: serialisation and transport of the
inputs and the outputs included.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from dkt_ros.camera import PinholeCamera
from dkt_ros.config import DepthNodeConfig
from dkt_ros.errors import RunError, UserError
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.middleware import profile_environment
from dkt_ros.nodes import messages
from dkt_ros.nodes.depth_node import DepthNode
from dkt_ros.nodes.results import percentiles

GOALS_MS = {(640, 480): 10.0, (1280, 720): 25.0}
TOPICS = {'depth': Image, 'camera_info': CameraInfo, 'points': PointCloud2}
STAGES = ('pair', 'decode', 'publish')
CLOUDS = {'points': 'xyz rgb', 'points_with_normals': '+ normals'}
WARM_UP = 10
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
FRAME_TIMEOUT_S = 2.0


class FixedPerception:
    """Gives the same maps for each frame, at once."""

    def __init__(self, width: int, height: int) -> None:
        rng = np.random.default_rng(0)
        depth = rng.uniform(0.4, 1.2, (height, width)).astype(np.float32)
        depth[rng.random((height, width)) < 0.05] = np.nan
        normals = np.zeros((height, width, 3), np.float32)
        normals[..., 2] = -1.0
        self.wanted: frozenset[str] = frozenset()
        self._maps = {'disparity': 1 / depth, 'depth': depth, 'depth_fused': depth,
                      'normals': normals, 'mask': np.isnan(depth),
                      'confidence': np.ones_like(depth)}

    def advance(self, frame: Frame) -> list[DepthEstimate]:
        """Return the estimate of this frame."""
        return [DepthEstimate(frame, **self._maps)]

    def drain(self) -> list[DepthEstimate]:
        """Return nothing: nothing waits."""
        return []

    def denoise(self, pending: list[DepthEstimate]) -> list[DepthEstimate]:
        """Return them: there is no network."""
        return pending

    def decode(self, pending: list[DepthEstimate]) -> list[DepthEstimate]:
        """Return them: there is no decoder."""
        return pending

    def complete(self, estimates: list[DepthEstimate]) -> list[DepthEstimate]:
        """Return them: they have their maps."""
        return estimates

    def reset(self, reason: str) -> None:
        """Forget nothing: nothing is remembered."""


class FixedBackend:
    """Stands for the model; nothing to load, nothing to free."""

    def __init__(self, width: int, height: int) -> None:
        self._perception = FixedPerception(width, height)

    def load(self, config: DepthNodeConfig) -> None:
        """Load nothing."""

    def perception(self, config: DepthNodeConfig, normals: bool) -> FixedPerception:
        """Return the one chain."""
        return self._perception

    def release(self) -> None:
        """Free nothing."""


class Peer(Node):
    """The camera and the subscriber, in a process of their own."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__('peer', namespace='dkt')
        self._camera = PinholeCamera(width, height, width * 0.95, width * 0.95, width / 2,
                                     height / 2)
        rng = np.random.default_rng(1)
        self._rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        self._depth = rng.integers(400, 1200, (height, width), dtype=np.uint16)
        self._inputs = [self.create_publisher(kind, topic, 5) for kind, topic in (
            (CameraInfo, 'color/camera_info'), (Image, 'aligned_depth_to_color/image_raw'),
            (Image, 'color/image_raw'))]
        self._came: dict[str, int] = {}
        for topic, kind in TOPICS.items():
            self.create_subscription(
                kind, topic, lambda message, topic=topic: self._came.update(
                    {topic: messages.stamp_to_ns(message.header.stamp)}), RELIABLE)

    def matched(self) -> bool:
        """Return True once the node and this process know of each other."""
        return (all(publisher.get_subscription_count() for publisher in self._inputs)
                and all(self.count_publishers(topic) for topic in TOPICS))

    def round_trip(self) -> float | None:
        """Send a frame, wait for what comes of it; return the time [s], None if it got lost."""
        header = messages.make_header(time.time_ns(), 'optical')
        stamp = messages.stamp_to_ns(header.stamp)
        frame = (messages.info_from_camera(self._camera, header),
                 messages.array_to_image(self._depth, '16UC1', header),
                 messages.array_to_image(self._rgb, 'rgb8', header))
        start = time.perf_counter()
        for publisher, message in zip(self._inputs, frame, strict=True):
            publisher.publish(message)
        while any(self._came.get(topic) != stamp for topic in TOPICS):
            left = start + FRAME_TIMEOUT_S - time.perf_counter()
            if left <= 0:
                return None
            rclpy.spin_once(self, timeout_sec=left)
        return time.perf_counter() - start


def run_peer(width: int, height: int, num_frames: int) -> list[float]:
    """Play the other process; return the round trips [ms]."""
    rclpy.init()
    peer = Peer(width, height)
    end = time.monotonic() + 30.0
    while not peer.matched() and time.monotonic() < end:
        rclpy.spin_once(peer, timeout_sec=0.1)
    times = [peer.round_trip() for _ in range(WARM_UP + num_frames)]
    peer.destroy_node()
    rclpy.shutdown()
    return [seconds * 1e3 for seconds in times[WARM_UP:] if seconds is not None]


def measure(width: int, height: int, normals: bool, num_frames: int) -> dict:
    """Measure one image size, with or without normals in the cloud."""
    domain = 20 + os.getpid() % 70
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain)}
    context = Context()
    rclpy.init(context=context, args=[], domain_id=domain)
    node = DepthNode(FixedBackend(width, height), context=context, parameter_overrides=[
        Parameter('autostart', value=False), Parameter('points.normals', value=normals)])
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        node.trigger_configure()
        node.trigger_activate()
        command = [sys.executable, '-m', 'dkt_ros.nodes.bench', '--peer', str(width), str(height),
                   str(num_frames)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as peer:
            while peer.poll() is None:
                executor.spin_once(timeout_sec=0.2)
            output = peer.stdout.read()
        if peer.returncode:
            raise UserError(f'the subscribing process ended with {peer.returncode}; its message '
                            'is above')
        return figures(node, json.loads(output.splitlines()[-1]))
    finally:
        executor.remove_node(node)
        node.destroy_node()
        executor.shutdown()
        context.try_shutdown()


def figures(node: DepthNode, round_trips: Sequence[float]) -> dict:
    """Return the percentiles of the frames after the warm-up [ms]."""
    stages = {name: np.array(node.stats.spans(name)[WARM_UP:]) * 1e3 for name in STAGES}
    number = min(map(len, stages.values()))
    if not number:
        raise RunError('no frame came back within the time; the messages of depth_node above may '
                       'tell why, else try again with less other load')
    total = sum(values[-number:] for values in stages.values())
    cpu = np.array(node.stats.spans('cpu')[WARM_UP:]) * 1e3
    return {'frames': number, 'ros_ms': percentiles(total), 'cpu_ms': percentiles(cpu),
            'stages_ms': {name: percentiles(values) for name, values in stages.items()},
            'round_trip_ms': percentiles(round_trips)}


def run_bench_ros(sizes: Sequence[tuple[int, int]] = tuple(GOALS_MS), num_frames: int = 100,
                  console: Console | None = None) -> dict:
    """
    Measure the ROS side alone.

    Parameters
    ----------
    sizes : sequence of (width, height)
        Image sizes [px].
    num_frames : int
        Frames measured, of each size with and without normals; at most 250.
    console : Console, optional
        Gets the table.

    Returns
    -------
    dict
        By size, by `points` and `points_with_normals`: `ros_ms`, `cpu_ms`, `stages_ms`,
        `round_trip_ms`, each {p50, p95}; and the goal and whether it was met.

    """
    if not 10 <= num_frames <= 250:
        raise UserError(f'num_frames is {num_frames}; allowed: 10 to 250')
    os.environ.update(profile_environment(os.environ))
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    result: dict = {'settings': {'num_frames': num_frames, 'topics': list(TOPICS),
                                 'cpu_count': os.cpu_count(), 'load': os.getloadavg()[0]},
                    'sizes': {}}
    for width, height in sizes:
        entry: dict = {'goal_ms': GOALS_MS.get((width, height))}
        for name, normals in (('points', False), ('points_with_normals', True)):
            entry[name] = measure(width, height, normals, num_frames)
        if entry['goal_ms'] is not None:
            entry['met'] = entry['points']['ros_ms']['p50'] < entry['goal_ms']
        result['sizes'][f'{width}x{height}'] = entry
    if console is not None:
        console.print(table(result))
    return result


def table(result: dict) -> Table:
    """Return the figures as a table for the screen."""
    made = Table(title='ROS side of a frame: pair, decode, pack, publish (ms)',
                 box=SIMPLE_HEAD, collapse_padding=True)
    for heading in ('size', 'cloud', 'p50', 'p95', 'goal', 'pair', 'dec', 'pub', 'cpu', 'trip',
                    'p95'):
        made.add_column(heading, justify='left' if heading in ('size', 'cloud') else 'right',
                        no_wrap=True)
    for size, entry in result['sizes'].items():
        for name in CLOUDS:
            values = entry[name]
            goal = f'{entry["goal_ms"]:g}' if name == 'points' and entry['goal_ms'] else ''
            made.add_row(
                size, CLOUDS[name], *(f'{values["ros_ms"][p]:.1f}' for p in
                                                ('p50', 'p95')), goal,
                *(f'{values["stages_ms"][stage]["p50"]:.1f}' for stage in STAGES),
                f'{values["cpu_ms"]["p50"]:.1f}',
                *(f'{values["round_trip_ms"][p]:.1f}' for p in ('p50', 'p95')))
    return made


def main() -> None:
    """Run as the subscribing process, or as `python -m dkt_ros.nodes.bench`."""
    parser = argparse.ArgumentParser(prog='bench')
    parser.add_argument('--peer', type=int, nargs=3, metavar=('WIDTH', 'HEIGHT', 'FRAMES'))
    arguments = parser.parse_args()
    if arguments.peer:
        sys.stdout.write(json.dumps(run_peer(*arguments.peer)) + '\n')
    else:
        run_bench_ros(console=Console())


if __name__ == '__main__':
    main()
