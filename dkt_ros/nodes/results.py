"""From spooled messages to arrays, figures and the MCAP file of a recording."""
from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from dkt_ros.nodes import messages
from dkt_ros.nodes.clouds import cloud_to_arrays
from dkt_ros.nodes.recording import (
    SMALL_BYTES,
    Entry,
    Spool,
    compressed_sizes,
    thinning,
    write_mcap,
)

RESULT_FIELDS = ('depth', 'depth_fused', 'disparity', 'mask', 'normals')


@dataclass(frozen=True)
class RecordingPlan:
    """
    Where a recording goes and what it may cost.

    Attributes
    ----------
    out : Path
        The MCAP file.
    results : Path
        Folder of the arrays.
    namespace, camera : str
        Of the depth node's and the camera's topics.
    cloud_every : int
        Each n-th cloud is recorded.
    max_mb : float
        Size of the MCAP file [MB].

    """

    out: Path
    results: Path
    namespace: str
    camera: str
    cloud_every: int
    max_mb: float

    def output(self, topic: str) -> str:
        """Return the full name of a topic of the depth node."""
        return f'/{self.namespace.strip("/")}/{topic}'

    def sensor(self, topic: str) -> str:
        """Return the full name of a topic of the camera."""
        return f'/{self.camera.strip("/")}/{topic}'

    def skipped(self) -> set[str]:
        """Return the topics that only the arrays need; pictures of them are recorded."""
        return {self.output('normals'), self.output('disparity')}


def write_recording(plan: RecordingPlan, spool: Spool, kinds: dict[str, str],
                    received: dict[str, int], announced: list[dict], ended: str) -> dict:
    """Write arrays, MCAP file and recording.json; return what recording.json holds."""
    ages = write_arrays(plan, spool)
    every, recorded = record(plan, spool, kinds, received)
    by_stamp = {item['stamp_ns']: item for item in announced}
    frames = [{'stamp_ns': stamp, 'index': by_stamp.get(stamp, {}).get('index'),
               'clip_stamp_ns': by_stamp.get(stamp, {}).get('clip_stamp_ns'),
               'age_ms': round(age, 1), 'file': array_path(plan.results, stamp).name}
              for stamp, age in sorted(ages.items())]
    summary = {
        'frames_sent': len(announced),
        'frames_out': len(ages),
        'frames_metric': received.get(plan.output('depth'), 0),
        'ended': ended,
        'age_ms': percentiles(ages.values()),
        'frames': frames,
        'camera': last_camera(plan, spool),
        'topics': {topic: {'type': kinds[topic], 'received': received[topic],
                           'recorded': recorded.get(topic, 0)} for topic in kinds},
        'diagnostics': last_diagnostics(spool),
        'mcap': {'path': str(plan.out), 'mb': round(plan.out.stat().st_size / 1e6, 2),
                 'every': every},
    }
    write_json(plan.results / 'recording.json', summary)
    return summary


def record(plan: RecordingPlan, spool: Spool, kinds: dict[str, str],
           received: dict[str, int]) -> tuple[int, dict[str, int]]:
    """Write the MCAP file; return which frames of the large topics it has, and the counts."""
    kinds = {topic: kind for topic, kind in kinds.items()
             if received[topic] and topic not in plan.skipped()}
    cloud = plan.output('points')
    sizes = {topic: size for topic, size in compressed_sizes(spool).items()
             if topic in kinds and size > SMALL_BYTES}
    counts = dict(received)
    counts[cloud] = -(-counts.get(cloud, 0) // plan.cloud_every)
    every = thinning(sizes, counts, plan.max_mb * 0.9)
    order = frame_order(spool, kinds)

    def keep(entry: Entry) -> bool:
        if entry.topic == cloud:
            return order[entry.stamp_ns] % (every * plan.cloud_every) == 0
        return entry.topic not in sizes or order[entry.stamp_ns] % every == 0

    return every, write_mcap(plan.out, spool, kinds, keep)


def frame_order(spool: Spool, kinds: dict[str, str]) -> dict[int, int]:
    """Return the number of each capture stamp of images and clouds, in the order of time."""
    pictures = [topic for topic, kind in kinds.items() if kind.startswith('sensor_msgs/')]
    stamps = {entry.stamp_ns for entry in spool.of(*pictures)}
    return {stamp: number for number, stamp in enumerate(sorted(stamps))}


def write_arrays(plan: RecordingPlan, spool: Spool) -> dict[int, float]:
    """Write one file of arrays a stamp; return the age [ms] of each stamp's estimate."""
    fields = {plan.output(field): field for field in RESULT_FIELDS}
    fields[plan.sensor('color/image_raw')] = 'rgb'
    fields[plan.sensor('aligned_depth_to_color/image_raw')] = 'sensor_depth'
    ages = {entry.stamp_ns: (entry.received_ns - entry.stamp_ns) * 1e-6
            for entry in spool.of(plan.output('disparity'))}
    frames: dict[int, dict[str, Entry]] = {stamp: {} for stamp in sorted(ages)}
    for entry in spool.of(*fields):
        if entry.stamp_ns in frames:
            frames[entry.stamp_ns][fields[entry.topic]] = entry
    for stamp, entries in frames.items():
        save_arrays(array_path(plan.results, stamp), {
            field: decode(field, spool.data(entry)) for field, entry in entries.items()})
    stamp = write_grasps(plan, spool)
    if clouds := spool.of(plan.output('points')):
        of_grasps = [entry for entry in clouds if entry.stamp_ns == stamp]
        write_cloud(plan.results / 'points.npz', spool, (of_grasps or clouds)[-1])
    return ages


def write_cloud(path: Path, spool: Spool, entry: Entry) -> None:
    """Write the points and colours of a cloud."""
    arrays = cloud_to_arrays(deserialize_message(spool.data(entry), PointCloud2))
    save_arrays(path, {'points': arrays['points'], 'rgb': arrays['rgb'],
                       'stamp_ns': np.int64(entry.stamp_ns)})


def write_grasps(plan: RecordingPlan, spool: Spool) -> int | None:
    """Write the last grasps that have a cloud; return its stamp, None without any."""
    clouds = {entry.stamp_ns for entry in spool.of(plan.output('points'))}
    for entry in reversed(spool.of(plan.output('grasp_candidates'))):
        message = deserialize_message(spool.data(entry), PointCloud2)
        if not message.width or entry.stamp_ns not in clouds:
            continue
        rows = np.frombuffer(memoryview(message.data), np.float32).reshape(message.width, -1)
        arrays = {'rows': rows, 'frame_id': message.header.frame_id,
                  'stamp_ns': np.int64(entry.stamp_ns)}
        for pose in spool.of(plan.sensor('camera_pose')):
            if pose.stamp_ns == entry.stamp_ns:
                arrays['T_frame_camera'] = messages.pose_to_matrix(
                    deserialize_message(spool.data(pose), PoseStamped).pose)
        save_arrays(plan.results / 'grasps.npz', arrays)
        return entry.stamp_ns
    return None


def decode(field: str, data: bytes) -> np.ndarray:
    """Read the array of a field from its serialised image."""
    image = deserialize_message(data, Image)
    if field == 'rgb':
        return messages.image_to_rgb(image)
    if field == 'sensor_depth':
        return messages.image_to_depth(image)
    values = messages.image_to_array(image)
    if field == 'mask':
        return values > 0
    return values.astype(np.float16) if field == 'normals' else values


def array_path(folder: Path, stamp_ns: int) -> Path:
    """Return the file of a capture stamp; names sort by time."""
    return folder / f'{stamp_ns:019d}.npz'


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays, replacing the file in one step."""
    part = path.with_name(f'.{path.name}.part')
    with part.open('wb') as file:
        np.savez(file, **arrays)
    os.replace(part, path)


def write_json(path: Path, values: dict) -> None:
    """Write JSON, replacing the file in one step."""
    part = path.with_name(f'.{path.name}.part')
    part.write_text(json.dumps(values, indent=1))
    os.replace(part, path)


def percentiles(values: Iterable[float]) -> dict[str, float | None]:
    """Return the median and the 95th percentile, None without values."""
    values = list(values)
    if not values:
        return {'p50': None, 'p95': None}
    p50, p95 = np.percentile(values, (50, 95))
    return {'p50': round(float(p50), 1), 'p95': round(float(p95), 1)}


def last_camera(plan: RecordingPlan, spool: Spool) -> dict | None:
    """Return the intrinsics of the maps, from the last camera_info that came with them."""
    infos = spool.of(plan.output('camera_info'))
    if not infos:
        return None
    last = spool.data(infos[-1])
    camera = messages.camera_from_info(deserialize_message(last, CameraInfo))
    return {name: getattr(camera, name)
            for name in ('width', 'height', 'fx', 'fy', 'cx', 'cy', 'frame_id')}


def last_diagnostics(spool: Spool) -> dict[str, dict]:
    """Return the last status of each name; counters of a stream that ended stay readable."""
    levels = Counter()
    statuses: dict[str, dict] = {}
    for entry in spool.of('/diagnostics'):
        for status in deserialize_message(spool.data(entry), DiagnosticArray).status:
            level = int.from_bytes(status.level, 'little')
            levels[status.name] = max(levels[status.name], level)
            statuses[status.name] = {
                'level': level, 'worst_level': levels[status.name], 'message': status.message,
                'values': {item.key: item.value for item in status.values}}
    return statuses
