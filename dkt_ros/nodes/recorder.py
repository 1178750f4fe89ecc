r"""
`recorder`: what the graph said, as an MCAP file and as arrays.

    python -m dkt_ros.nodes.recorder --out demo.mcap --results DIR [--camera /camera/camera]
        [--namespace dkt] [--count N] [--timeout S] [--settle S] [--cloud-every N] [--max-mb MB]
        [--grasps] [--ros-args ...]

Start it before the camera, and let the camera wait for two subscribers
(`-p wait_for_subscribers:=2`): it subscribes to the camera only once the depth node's topics are
matched, so the clip starts when everything listens.

It ends when the camera has said that the clip is over and every frame sent has come out, or
nothing more came for `--settle` seconds; when the camera is gone; after `--count` depth images;
after `--timeout` seconds; or on SIGINT and SIGTERM. What came so far is written in each case. With
`--grasps` it asks the grasp node for a plan of the last cloud before it ends by itself.
Exit code: 0 if at least one depth estimate came, 1 if none did, 2 for bad arguments.

FILE.mcap   zstd; the camera's images, camera_info, pose, the depth node's maps, pictures, clouds
            (each `--cloud-every`-th frame) and /diagnostics. If all frames need more than
            `--max-mb`, only each n-th is kept of the large topics.
DIR/NNNNNNNNNNNNNNNNNNN.npz   one file a capture stamp [ns]; arrays as far as they came: `depth`
            (H, W) float32 [m], `depth_fused`, `disparity`, `mask` (H, W) bool, `normals`
            (H, W, 3) float16, `rgb` (H, W, 3) uint8, `sensor_depth` (H, W) float32 [m].
DIR/points.npz   the last cloud, with `--grasps` the last that has grasps: `points` (H, W, 3)
            float32 [m], `rgb` (H, W, 3) uint8, `stamp_ns`.
DIR/grasps.npz   with `--grasps`, if any came: `rows` (G, 9) float32, the grasp_candidates of that
            cloud, `frame_id`, `stamp_ns`, and `T_frame_camera` (4, 4) where a pose came.
DIR/recording.json
            frames_sent    frames that the camera announced on clip_frame
            frames_out     stamps for which a disparity came
            frames_metric  stamps for which a depth came
            ended          'clip ended', 'camera gone', 'count', 'timeout' or 'interrupted'
            age_ms         {p50, p95} between capture stamp and arrival here
            frames         [{stamp_ns, index, clip_stamp_ns, age_ms, file}], by stamp; `index` and
                           `clip_stamp_ns` as the clip has them
            camera         {width, height, fx, fy, cx, cy, frame_id}
            topics         {name: {type, received, recorded}}
            diagnostics    {status name: {level, message, values}}, the last of each
            mcap           {path, mb, every}   every: which frames of the large topics were kept
"""
from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray, PoseStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from dkt_ros.nodes.recording import Spool
from dkt_ros.nodes.results import RecordingPlan, write_recording

CAMERA_TOPICS = {
    'color/image_raw': Image, 'color/camera_info': CameraInfo,
    'aligned_depth_to_color/image_raw': Image, 'aligned_depth_to_color/camera_info': CameraInfo,
    'camera_pose': PoseStamped,
}
OUTPUT_TOPICS = {
    'depth': Image, 'camera_info': CameraInfo, 'depth_fused': Image, 'disparity': Image,
    'normals': Image, 'normals/color': Image, 'depth/color': Image, 'mask': Image,
    'points': PointCloud2,
}
GRASP_TOPICS = {'grasps': PoseArray, 'grasp_candidates': PointCloud2,
                'grasp_markers': MarkerArray}
RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
PLAN_TIMEOUT_S = 20.0
"""How long the grasp node may take to plan on a busy machine [s]."""
INDEX_QOS = QoSProfile(depth=10000, reliability=ReliabilityPolicy.RELIABLE,
                       durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Recorder(Node):
    """
    Spools every message of the chosen topics.

    Parameters
    ----------
    camera, namespace : str
        Where the camera's and the depth node's topics are.
    spool : Spool
        Takes the messages.
    grasps : bool
        True records the topics of the grasp node, too.

    """

    def __init__(self, camera: str, namespace: str, spool: Spool, grasps: bool = False) -> None:
        super().__init__('recorder', namespace=namespace)
        self._camera = '/' + camera.strip('/')
        self._spool = spool
        self._camera_known = False
        self.kinds: dict[str, str] = {}
        self.received: dict[str, int] = {}
        self.announced: list[dict] = []
        self.clip_ended = False
        self.camera_gone = False
        self.depth_stamps = 0
        self.last_output = time.monotonic()
        self._outputs = [self._record(f'/{namespace.strip("/")}/{topic}', kind)
                         for topic, kind in (OUTPUT_TOPICS | (
                             GRASP_TOPICS if grasps else {})).items()]
        self._disparity = f'/{namespace.strip("/")}/disparity'
        self._record('/diagnostics', DiagnosticArray)
        self._index = self.create_subscription(
            String, f'{self._camera}/clip_frame', self._on_index, INDEX_QOS)
        self._planner = self.create_client(Trigger, 'plan') if grasps else None
        self._camera_subscribed = False

    def poll(self) -> None:
        """Subscribe to the camera once the depth node is matched; notice when it goes."""
        if not self._camera_subscribed and all(
                subscription.get_publisher_count() for subscription in self._outputs):
            self._camera_subscribed = True
            for topic, kind in CAMERA_TOPICS.items():
                self._record(f'{self._camera}/{topic}', kind)
        present = self._index.get_publisher_count() > 0
        self.camera_gone = self._camera_known and not present
        self._camera_known |= present

    def request_plan(self) -> Future | None:
        """Ask for grasps of the last cloud; None where nobody plans."""
        if self._planner is None or not self._planner.service_is_ready():
            return None
        return self._planner.call_async(Trigger.Request())

    def _record(self, topic: str, kind: type):
        self.kinds[topic] = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
        self.received[topic] = 0

        def on_message(data: bytes) -> None:
            self._spool.add(topic, time.time_ns(), data)
            self.received[topic] += 1
            if topic == self._disparity:
                self.depth_stamps += 1
                self.last_output = time.monotonic()

        return self.create_subscription(kind, topic, on_message, RELIABLE, raw=True)

    def _on_index(self, message: String) -> None:
        values = json.loads(message.data)
        self.last_output = time.monotonic()
        if values.get('end'):
            self.clip_ended = True
        else:
            self.announced.append(values)


def run(node: Recorder, arguments: argparse.Namespace, stop: threading.Event) -> str:
    """Record until there is a reason to end; return the reason."""
    start = time.monotonic()
    while not stop.is_set() and rclpy.ok():
        try:
            rclpy.spin_once(node, timeout_sec=0.2)
        except ExternalShutdownException:
            break
        node.poll()
        now = time.monotonic()
        settled = now - node.last_output > arguments.settle
        complete = node.depth_stamps >= len(node.announced)
        if node.clip_ended and (complete or settled):
            finish(node, stop)
            return 'clip ended'
        if node.camera_gone and settled:
            return 'camera gone'
        if arguments.count and node.depth_stamps >= arguments.count:
            finish(node, stop)
            return 'count'
        if now - start > arguments.timeout:
            return 'timeout'
    return 'interrupted'


def finish(node: Recorder, stop: threading.Event) -> None:
    """Take what is still under way, then a plan of the last cloud and what follows it."""
    drain(node)
    answer = node.request_plan()
    if answer is None:
        return
    until = time.monotonic() + PLAN_TIMEOUT_S
    while not answer.done() and not stop.is_set() and time.monotonic() < until:
        rclpy.spin_once(node, timeout_sec=0.2)
    drain(node)


def drain(node: Recorder, seconds: float = 1.5) -> None:
    """Take the last messages: the last frame's other topics, one more diagnostics."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        rclpy.spin_once(node, timeout_sec=left)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='recorder', description='Record the graph.')
    parser.add_argument('--out', type=Path, required=True, help='MCAP file to write')
    parser.add_argument('--results', type=Path, required=True, help='folder for the arrays')
    parser.add_argument('--camera', default='/camera/camera', help='name of the camera node')
    parser.add_argument('--namespace', default='dkt', help='namespace of the depth node')
    parser.add_argument('--count', type=int, default=0, help='end after so many frames; 0: never')
    parser.add_argument('--timeout', type=float, default=600.0, help='end after this time [s]')
    parser.add_argument('--settle', type=float, default=8.0,
                        help='end when nothing came for this long after the clip [s]')
    parser.add_argument('--cloud-every', type=int, default=6, help='record each n-th cloud')
    parser.add_argument('--grasps', action='store_true', help='record the grasp node, too')
    parser.add_argument('--max-mb', type=float, default=140.0, help='size of the file [MB]')
    return parser.parse_args(arguments)


def main(args: list[str] | None = None) -> int:
    """Record, write, and return the exit code."""
    args = sys.argv if args is None else args
    arguments = parse(remove_ros_args(args)[1:])
    arguments.results.mkdir(parents=True, exist_ok=True)
    rclpy.init(args=args, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    spool = Spool(arguments.results / f'.spool-{os.getpid()}')
    node = Recorder(arguments.camera, arguments.namespace, spool, arguments.grasps)
    try:
        ended = run(node, arguments, stop)
        plan = RecordingPlan(arguments.out, arguments.results, node.get_namespace(),
                             arguments.camera, arguments.cloud_every, arguments.max_mb)
        summary = write_recording(plan, spool, node.kinds, node.received, node.announced, ended)
        node.get_logger().info(f'{ended}: {summary["frames_out"]} of {summary["frames_sent"]} '
                               f'frames came out; wrote {arguments.out}')
    finally:
        spool.close()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0 if summary['frames_out'] else 1


if __name__ == '__main__':
    sys.exit(main())
