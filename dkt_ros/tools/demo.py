"""
`dkt demo`: the bundled clip through the real graph, four processes over DDS, and a report.

    clip_camera_node --(color, camera_info, aligned depth)--> depth_node --> recorder
                                                                  |              ^
                                                                  +-- points --> grasp_node

The processes have a ROS_DOMAIN_ID of their own. What the recorder heard is compared with the truth
that comes with the clip.
"""
from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from dkt_ros.camera import PinholeCamera
from dkt_ros.data.bags import check_bag
from dkt_ros.data.clip import Clip
from dkt_ros.data.clips import open_clip
from dkt_ros.data.ply import write_ply
from dkt_ros.data.scenes import SceneFrame
from dkt_ros.errors import RunError, UserError
from dkt_ros.frame import DepthEstimate, Frame
from dkt_ros.middleware import profile_environment
from dkt_ros.provenance import provenance, write_json
from dkt_ros.resources import resolve_model, share_path
from dkt_ros.tools.grasp_report import grasp_figures, grasp_panels, read_grasps, write_hands
from dkt_ros.tools.montage import panels, write_montage
from dkt_ros.tools.processes import Children
from dkt_ros.tools.report import rich_table
from dkt_ros.tools.scoring import ClipScore, estimate_sources, sensor_sources

DEPTH_NODE, GRASP_NODE = 'dkt_ros.nodes.depth_node', 'dkt_ros.nodes.grasp_node'
NODES = ('depth_node', 'grasp_node')
CAMERA = '/camera/camera'
OUTPUTS = ('depth', 'camera_info', 'depth_fused', 'disparity', 'normals', 'normals/color',
           'depth/color', 'mask', 'points')
DEMO_RATE_HZ, WORKING_SIZE = 6.0, (320, 240)
"""What two slow cores follow while four processes share them, with the bundled model."""
THREADS = 1
"""Of the networks: beside them the maps are made, and three more processes run."""
OUTPUT_DEPTH = 20
"""Messages kept for the recorder: a window comes out at once, and all of it is to be recorded."""
INPUTS = ('color/image_raw', 'color/camera_info', 'aligned_depth_to_color/image_raw')
MIN_SHARE_OUT = 0.9
MAX_MCAP_MB = 150.0
START_S, WRITE_S = 90.0, 90.0
"""How long the graph may take to start, and the recorder to write."""
MONTAGE_ROWS = 4
PLAN_HZ = 0.25
"""How often grasps are planned while the clip plays: the model needs the processor, too. The
recorder asks for a plan of the last cloud."""


@dataclass(frozen=True)
class DemoFiles:
    """The files of a demo's output folder."""

    out: Path

    @property
    def mcap(self) -> Path:
        """The recording."""
        return self.out / 'demo.mcap'

    @property
    def results(self) -> Path:
        """Arrays of the run, deleted at its end."""
        return self.out / '.results'

    @property
    def logs(self) -> Path:
        """What the processes said."""
        return self.out / 'logs'


def run_demo(out: str | Path, frames: int | None = None, *, model: str | Path | None = None,
             clip: str | Path | None = None, rate_hz: float = DEMO_RATE_HZ,
             console: Console | None = None) -> dict:
    """
    Play a clip through the real graph and report.

    Parameters
    ----------
    out : str or Path
        Gets montage.png, points.ply, grasps.ply, demo.mcap, summary.json and logs/.
    frames : int, optional
        Stop after so many frames of the clip.
    model : str or Path, optional
        Another model than that of config/dkt.yaml.
    clip : str or Path, optional
        Another clip than the bundled one; one with truth gives the table.
    rate_hz : float
        Frames a second.
    console : rich.console.Console, optional
        Where progress and the table go.

    Returns
    -------
    dict
        What summary.json holds.

    Raises
    ------
    UserError
        If something needed is not installed.
    RunError
        If a process of the graph failed (the message ends with the tail of its log), or if what
        came out is not enough for a report.

    """
    console, files = console or Console(), DemoFiles(Path(out).resolve())
    if importlib.util.find_spec('rclpy') is None:
        raise UserError("rclpy is not installed, and the demo runs real ROS nodes: pip install "
                        "'dkt_ros[ros]', or source a ROS 2 installation")
    if importlib.util.find_spec('open3d') is None:
        raise UserError("open3d is not installed, and grasps are planned with it: pip install "
                        "'dkt_ros[grasp]'")
    folder = resolve_model(model or 'dkt-tiny')
    path = Path(clip) if clip else share_path('clips', 'demo')
    source = open_clip(path)
    files.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(files.results, ignore_errors=True)
    started = time.monotonic()
    try:
        run_graph(files, path, source, frames, rate_hz, model and folder, console)
        recording = json.loads((files.results / 'recording.json').read_text())
        summary = report(files, source, recording, console)
    finally:
        shutil.rmtree(files.results, ignore_errors=True)
    settings = {'clip': str(path), 'rate_hz': rate_hz, 'frames': frames}
    summary = {**provenance(folder, settings), **summary,
               'seconds': round(time.monotonic() - started, 1)}
    write_json(files.out / 'summary.json', summary)
    tell(console, summary, files)
    return summary


def run_graph(files: DemoFiles, path: Path, source: Clip, frames: int | None, rate_hz: float,
              model: Path | None, console: Console) -> None:
    """Start the processes, wait until the recorder has written, end them."""
    num_frames = min(frames or 10**9, source.num_frames or 10**9)
    play_s = num_frames / rate_hz if num_frames < 10**9 else 600.0
    timeout_s = START_S + play_s + 30.0
    with Children(files.logs, graph_environment()) as children:
        children.start('depth_node', DEPTH_NODE, *depth_node_arguments(model))
        children.start('grasp_node', GRASP_NODE, *grasp_node_arguments())
        children.start('recorder', 'dkt_ros.nodes.recorder', '--out', str(files.mcap),
                       '--results', str(files.results), '--camera', CAMERA, '--grasps',
                       '--timeout', str(timeout_s))
        children.start('clip_camera', 'dkt_ros.nodes.clip_camera_node', '--ros-args',
                       '-p', f'clip:={path}', '-p', f'rate_hz:={float(rate_hz)}',
                       '-p', 'wait_for_subscribers:=2', '-p', f'max_frames:={frames or 0}')
        with console.status('starting the graph') as status:
            watch(children, timeout_s + WRITE_S, status.update)
        code = children.exit_code('recorder')
        if code != 0:
            what = 'heard no depth' if code == 1 else f'left with exit code {code}'
            culprit = 'depth_node' if code == 1 else 'recorder'
            raise children.failure(culprit, 'published nothing' if code == 1 else what)


def graph_environment() -> dict[str, str]:
    """Return the environment of the processes: a domain of their own, room for images."""
    taken = os.environ.get('ROS_DOMAIN_ID')
    domain = next(number for number in (50 + os.getpid() % 49, 99) if str(number) != taken)
    return {**os.environ, **profile_environment(os.environ), 'ROS_DOMAIN_ID': str(domain),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'PYTHONUNBUFFERED': '1'}


def depth_node_arguments(model: Path | None) -> list[str]:
    """Return the arguments of the depth node: the package's YAML file and the camera's topics."""
    remaps = [text for topic in INPUTS for text in ('-r', f'{topic}:={CAMERA}/{topic}')]
    width, height = WORKING_SIZE
    chosen = ['-p', f'model:={model}'] if model else [
        '-p', f'stream.width:={width}', '-p', f'stream.height:={height}']
    kept = [text for topic in OUTPUTS for text in (
        '-p', f'qos_overrides./dkt/{topic}.publisher.depth:={OUTPUT_DEPTH}')]
    return ['--ros-args', '--params-file', str(share_path('config', 'dkt.yaml')), *chosen, *kept,
            '-p', f'threads:={THREADS}', *remaps]


def grasp_node_arguments() -> list[str]:
    """Return the arguments of the grasp node: the package's YAML file, the pose of the clip."""
    return ['--ros-args', '--params-file', str(share_path('config', 'grasp.yaml')),
            '-p', f'rate_hz:={PLAN_HZ}', '-p', 'target_frame:=world',
            '-p', 'transform.source:=camera_pose', '-r', f'camera_pose:={CAMERA}/camera_pose']


def watch(children: Children, timeout_s: float, say) -> None:
    """Wait for the recorder; a process that fails before it ends the demo at once."""
    until = time.monotonic() + timeout_s
    playing = False
    while children.exit_code('recorder') is None:
        if time.monotonic() > until:
            raise children.failure('recorder', f'did not end within {timeout_s:.0f} s')
        for name in (*NODES, 'clip_camera'):
            code = children.exit_code(name)
            if code is not None and (code != 0 or name in NODES):
                raise children.failure(name, f'left with exit code {code}')
        if not playing:
            for name in NODES:
                if '[ERROR]' in children.log(name) or '[FATAL]' in children.log(name):
                    raise children.failure(name, 'could not start')
            playing = 'playing' in children.log('clip_camera')
            say('playing the clip through the graph' if playing else 'starting the graph')
        elif children.exit_code('clip_camera') == 0:
            say('the clip is over; writing the recording')
        time.sleep(0.2)


def report(files: DemoFiles, source: Clip, recording: dict, console: Console) -> dict:
    """Compare what came out with the truth; write the pictures and the cloud."""
    by_index = {frame['index']: frame for frame in recording['frames']}
    camera = PinholeCamera(**recording['camera'])
    score, shown = ClipScore(), _shown(source, set(by_index))
    grasps, grasped, last = read_grasps(files.results / 'grasps.npz'), {}, {}
    rows, titles = [], []
    for item in source.items():
        if item.index not in by_index:
            continue
        wanted = item.index in shown
        planned = grasps is not None and by_index[item.index]['stamp_ns'] == grasps.stamp_ns
        if item.depth is None and not wanted and not planned:
            continue
        estimate = read_estimate(files.results, by_index[item.index], camera, item)
        score.add(item, {**sensor_sources(estimate.frame),
                         **estimate_sources(estimate)})
        if wanted:
            rows.append(panels(estimate, item))
            titles.append(f'frame {item.index}, {by_index[item.index]["age_ms"]:.0f} ms after its '
                          'capture')
        if planned:
            last = grasp_panels(grasps, estimate)
            grasped = grasp_figures(grasps, item) | {'drawn': write_hands(
                files.out / 'grasps.ply', grasps)}
    if last:
        rows.append(last)
        titles.append(f'grasps at frame {grasped["frame_index"]}, {grasps.gripper.name}')
    write_montage(files.out / 'montage.png', rows, titles)
    mcap = check_bag(files.mcap)
    size_mb = files.mcap.stat().st_size / 1e6
    if size_mb > MAX_MCAP_MB:
        raise RunError(f'{files.mcap} has {size_mb:.0f} MB; at most {MAX_MCAP_MB:.0f} MB are '
                       'meant to be recorded')
    return {**_counts(recording), 'frames_with_truth': len(score), **score.table(),
            'points': write_cloud(files), 'grasps': grasped,
            'mcap': {'mb': round(size_mb, 1), 'topics': mcap},
            'diagnostics': recording['diagnostics']}


def _shown(source: Clip, came: set[int]) -> set[int]:
    known = sorted(item.index for item in source.items()
                   if item.index in came and (item.depth is not None or not source.has_truth))
    known = known or sorted(came)
    positions = np.linspace(0, len(known) - 1, min(MONTAGE_ROWS, len(known)))
    return {known[round(position)] for position in positions}


def _counts(recording: dict) -> dict:
    frames = recording['frames']
    arrivals = [frame['stamp_ns'] * 1e-9 + frame['age_ms'] * 1e-3 for frame in frames]
    span = max(arrivals) - min(arrivals) if len(arrivals) > 1 else 0.0
    return {'frames_in': recording['frames_sent'], 'frames_out': recording['frames_out'],
            'drops': recording['frames_sent'] - recording['frames_out'],
            'fps': (len(arrivals) - 1) / span if span else 0.0, 'age_ms': recording['age_ms'],
            'peak_rss_mb': resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}


def read_estimate(results: Path, record: dict, camera: PinholeCamera,
                  item: SceneFrame) -> DepthEstimate:
    """Return what came out for one frame; the input is the clip's where the wire had none."""
    with np.load(results / record['file']) as stored:
        arrays = dict(stored)
    sensor = arrays.get('sensor_depth', item.frame.sensor_depth)
    frame = Frame(arrays.get('rgb', item.frame.rgb), record['stamp_ns'], camera, sensor)
    normals = arrays.get('normals')
    return DepthEstimate(
        frame, arrays['disparity'], depth=arrays.get('depth'),
        depth_fused=arrays.get('depth_fused'), mask=arrays.get('mask'),
        normals=None if normals is None else normals.astype(np.float32))


def write_cloud(files: DemoFiles) -> int:
    """Write the last cloud of the run as points.ply; returns its number of points."""
    source = files.results / 'points.npz'
    if not source.is_file():
        raise RunError('no cloud came out, so there are no metres: see the anchor in '
                       f'{files.logs / "depth_node.log"}')
    with np.load(source) as cloud:
        return write_ply(files.out / 'points.ply', cloud['points'], cloud['rgb'])


def grasp_line(grasps: dict) -> str:
    """Return a sentence about the grasps."""
    if not grasps:
        return 'no grasp came: /diagnostics in demo.mcap says why'
    best = grasps['best']
    return (f'{grasps["num_grasps"]} grasps at frame {grasps["frame_index"]}; the best has score '
            f'{best["score"]:.2f} and takes {1e3 * best["width_m"]:.0f} mm')


def tell(console: Console, summary: dict, files: DemoFiles) -> None:
    """Show the table and the counts."""
    console.print(rich_table(summary, f'{summary["frames_with_truth"]} frames with truth',
                             ('mae_m', 'delta_105', 'coverage')))
    age, out, sent = summary['age_ms'], summary['frames_out'], summary['frames_in']
    console.print(f'{sent} frames in, {out} out, {summary["drops"]} dropped; age p50 '
                  f'{age["p50"]:.0f} ms, p95 {age["p95"]:.0f} ms; {summary["seconds"]:.0f} s in '
                  'all', highlight=False)
    console.print(grasp_line(summary['grasps']), highlight=False)
    if out < MIN_SHARE_OUT * sent:
        console.print(f'only {out / sent:.0%} of the frames came out: this machine is busy or '
                      'slower than two cores of a laptop', style='red', highlight=False)
    console.print(f'montage.png, points.ply, grasps.ply, demo.mcap ({summary["mcap"]["mb"]} MB, '
                  f're-read) and summary.json are in {files.out}', highlight=False)
