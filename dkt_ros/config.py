"""
Options of the chain from camera to cloud, and of its nodes; defaults live here once.

ROS parameters, command-line flags and YAML files are made from these classes, and from those of
the tools in the `*_config` modules beside. Those of the renderer are given from here too.
"""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option
from dkt_ros.pose_config import ParallaxConfig, TransformConfig
from dkt_ros.render_config import (  # noqa: F401
    RENDER_PRESETS,
    AssetsConfig,
    ObjectsConfig,
    RenderConfig,
    SensorConfig,
    StereoConfig,
)

PRESETS = {
    # name: (window_latents, overlap_latents)
    'image': (1, 0),
    'low_latency': (2, 1),
    'balanced': (3, 1),
    'long': (6, 1),
}
OVERLAPS = ('recompute', 'cache', 'renoise', 'align')
OVERLAP_CHOICES = ('auto', *OVERLAPS)


@dataclass(frozen=True)
class StreamConfig(Config):
    """Windows, working size and pace of `DKTStream`."""

    preset: str = option('balanced', 'Window shape: latents a window and how many overlap.',
                         choices=tuple(PRESETS), read_only=True)
    num_inference_steps: int = option(0, 'Denoising steps; 0 takes what the model folder says.',
                                      minimum=0, maximum=50)
    height: int = option(0, 'Working height [px]; 0 takes what the model folder says.', minimum=0,
                         maximum=2160, read_only=True)
    width: int = option(0, 'Working width [px]; 0 takes what the model folder says.', minimum=0,
                        maximum=3840, read_only=True)
    window_latents: int = option(0, 'Latents of a window; 0 takes what the preset says.',
                                 minimum=0, maximum=64, read_only=True)
    overlap_latents: int = option(-1, 'Latents of a window that the one before has too; -1 takes '
                                  'what the preset says.', minimum=-1, maximum=63,
                                  read_only=True)
    overlap: str = option('auto', 'How a window knows the latents before it: `recompute` '
                          'runs them through the network again, `cache` keeps their keys and '
                          'values, which is faster and needs more memory; `auto` takes what the '
                          'model folder says, or `recompute`. For comparison: '
                          '`renoise` makes them noisy anew at each step, `align` fits windows '
                          'that know nothing of each other by scale and shift.',
                          choices=OVERLAP_CHOICES, read_only=True)
    seam_blend: float = option(0.5, 'Part of the estimate before, carried along the optical flow, '
                               'in the first frame of a window, and half of it in the second, so '
                               'that windows join without a jump; 0 leaves them as they are. Only '
                               'where windows overlap.', minimum=0.0, maximum=0.9, read_only=True)
    sensor_prompt: bool = option(True, 'Tell a model that takes it what the depth camera saw; '
                                 'without, or where it saw nothing, it works from colour alone.')
    decoder: str = option('', "File of a small decoder in TAEHV's layout that decodes instead of "
                          'the VAE; empty for none.', read_only=True)
    max_gap_s: float = option(1.0, 'A longer gap between two frames starts a new stream [s].',
                              minimum=0.01, maximum=60.0)
    seed: int = option(1, 'Seed of the noise.', minimum=0, maximum=2**31 - 1, read_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        window, overlap = self.window
        if overlap >= window:
            raise UserError(f'the window has {window} latents and the overlap {overlap}; set '
                            'stream.window_latents and stream.overlap_latents so that the '
                            'overlap is the smaller one')

    @property
    def window(self) -> tuple[int, int]:
        """Latents of a window, and how many of them overlap."""
        window, overlap = PRESETS[self.preset]
        return (self.window_latents or window,
                overlap if self.overlap_latents < 0 else self.overlap_latents)


@dataclass(frozen=True)
class AnchorConfig(Config):
    """Where metres come from, and when they are believed."""

    source: str = option(
        'sensor', 'Where the metric scale comes from: the depth of the camera, a support plane of '
        'known pose, given numbers, or nowhere.', choices=('sensor', 'plane', 'fixed', 'none'))
    scale: float = option(1.0, 'For source `fixed`: inverse depth [1/m] per unit of disparity.')
    shift: float = option(0.0, 'For source `fixed`: inverse depth [1/m] at disparity 0.')
    plane: tuple[float, ...] = option(
        (0.0, 0.0, 1.0, 0.0), 'For source `plane`: a b c d with a x + b y + c z = d [m] in the '
        'optical frame of the camera, (a, b, c) of unit length.')
    refine: str = option(
        'lowpass', '`lowpass` also corrects the slow errors of the model with the sensor pixels '
        'that are trusted; `none` uses scale and shift alone.', choices=('none', 'lowpass'))
    near_m: float = option(0.15, 'Nearer reference depth is not used [m].', minimum=0.0,
                           maximum=100.0)
    far_m: float = option(6.0, 'Farther reference depth is not used [m].', minimum=0.01,
                          maximum=1000.0)
    tolerance: float = option(
        0.08, 'A pixel supports the fit when its depths differ by less than this share.',
        minimum=0.005, maximum=0.5)
    min_pixels: int = option(300, 'Fewer usable pixels in a window make no fit.', minimum=10,
                             maximum=10**7)
    min_inlier_ratio: float = option(
        0.3, 'Smallest share of the usable pixels that must support a fit.', minimum=0.05,
        maximum=1.0)
    min_gain: float = option(
        0.25, 'How much better than one constant depth a fit must explain the reference, from 0 '
        '(not at all) to 1 (perfectly).', minimum=0.0, maximum=1.0)
    smoothing: float = option(
        0.5, 'Weight of a new window against the fit so far; 1 takes every window as it is.',
        minimum=0.01, maximum=1.0)
    consistency: float = option(
        0.1, 'A new fit whose depths differ by more than this share from the fit so far is a '
        'jump.', minimum=0.005, maximum=1.0)
    confirm_windows: int = option(
        2, 'How many windows in a row must see a jump before it is taken.', minimum=1, maximum=50)
    coast_windows: int = option(
        15, 'How many windows without a fit the last one is kept for.', minimum=0, maximum=10000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale > 0:
            raise UserError(f'AnchorConfig.scale is {self.scale}; it must be positive, since '
                            'nearer is larger in disparity')
        if self.near_m >= self.far_m:
            raise UserError(f'AnchorConfig.near_m is {self.near_m} and far_m is {self.far_m}; '
                             'near_m must be the smaller one')
        if len(self.plane) != 4 or not 0.99 < sum(v * v for v in self.plane[:3]) < 1.01:
            raise UserError(f'AnchorConfig.plane is {self.plane}; four numbers a, b, c, d with '
                             '(a, b, c) of length 1 are expected: divide all by that length')


@dataclass(frozen=True)
class FusionConfig(Config):
    """Which pixels of the sensor are believed."""

    min_disagreement: float = option(
        0.012, 'The sensor is never called wrong for a smaller difference, as a share of depth.',
        minimum=0.001, maximum=0.5)
    weak_sigmas: float = option(
        5.0, 'Beside holes or certainly wrong pixels, a sensor that measures this many residuals '
        'behind the model is wrong too.', minimum=0.5, maximum=20.0)
    strong_sigmas: float = option(
        6.0, 'A sensor that measures this many residuals behind the model is wrong.', minimum=1.0,
        maximum=40.0)
    min_holes: float = option(
        0.12, 'Least share of holes in a region where the sensor is called wrong and within '
        '`reach` of it; with a residual of 2 % or more, around each of its pixels too (which '
        'falls to none at 0.5 %). 0 lets the model overrule a sensor that has no holes.',
        minimum=0.0, maximum=1.0)
    min_relief: float = option(
        0.005, 'A smooth surface this much nearer than its surroundings, as a share of depth, is '
        'believed although the model sees something before it; 1 believes none.', minimum=0.001,
        maximum=1.0)
    smoothing: float = option(
        8.0, 'Radius within which the offset of the sensor from the model is averaged, where it '
        'is much the same: noise of the sensor goes, its steps stay [px of 640]; 0 takes the '
        'sensor as it is.', minimum=0.0, maximum=100.0)
    reach: float = option(
        0.03, 'How far holes and certainly wrong pixels cast doubt, as a share of the image '
        'width.', minimum=0.0, maximum=0.5)


@dataclass(frozen=True)
class NormalsConfig(Config):
    """Where normals come from."""

    source: str = option(
        'model', '`model` runs the normal task of the model, `depth` takes them from metric '
        'depth.', choices=('model', 'depth', 'none'), read_only=True)
    model: str = option('', 'For source `model`: the folder of another model that has this task; '
                        'empty for the one that gives depth.', read_only=True)


@dataclass(frozen=True)
class PerceptionConfig(Config):
    """The whole chain from frame to metric maps."""

    stream: StreamConfig = option(StreamConfig(), 'Windows, working size and pace.')
    anchor: AnchorConfig = option(AnchorConfig(), 'Where metres come from.')
    fusion: FusionConfig = option(FusionConfig(), 'Which pixels of the sensor are believed.')
    normals: NormalsConfig = option(NormalsConfig(), 'Where normals come from.')
    parallax: ParallaxConfig = option(ParallaxConfig(), 'What the motion of the camera tells.')


@dataclass(frozen=True)
class InputConfig(Config):
    """What `depth_node` subscribes to and how three topics become one frame."""

    image_transport: str = option(
        'raw', 'Transport of color/image_raw: `compressed` reads color/image_raw/compressed '
        '(jpeg or png).', choices=('raw', 'compressed'), read_only=True)
    depth_transport: str = option(
        'raw', 'Transport of the aligned depth: `compressedDepth` reads its 16UC1 png form.',
        choices=('raw', 'compressedDepth'), read_only=True)
    slop_s: float = option(0.05, 'Largest difference between the stamps of colour and depth that '
                           'still make a pair [s].', minimum=0.0, maximum=1.0)
    wait_s: float = option(0.15, 'How long a colour image waits for its depth and camera_info; '
                           'then it goes on without depth, or with the last camera_info [s].',
                           minimum=0.0, maximum=5.0)
    silent_after_s: float = option(3.0, 'An input with a publisher and no message for this long '
                                   'is reported [s].', minimum=0.5, maximum=60.0)


@dataclass(frozen=True)
class PointsConfig(Config):
    """The point cloud of `depth_node`."""

    source: str = option('fused', 'Depth of the points: `fused` takes the sensor where it agrees '
                         'with the model, `dkt` the model alone.', choices=('fused', 'dkt'))
    normals: bool = option(False, 'Add normal_x, normal_y, normal_z and curvature to each point.')
    stride: int = option(1, 'Take every n-th pixel of each row and column.', minimum=1,
                         maximum=16)


@dataclass(frozen=True)
class DepthColorConfig(Config):
    """The colours of depth/color: a fixed range, so that a colour always means one depth."""

    near_m: float = option(0.2, 'Depth at the warm end [m].', minimum=0.01, maximum=100.0)
    far_m: float = option(1.5, 'Depth at the cold end [m].', minimum=0.02, maximum=100.0)


EXECUTIONS = ('auto', 'eager', 'compile', 'onnxruntime', 'tensorrt')
PRECISIONS = ('auto', 'float32', 'bfloat16', 'float8', 'int8')
ATTENTIONS = ('auto', 'measure', 'math', 'flash', 'efficient', 'cudnn')


@dataclass(frozen=True)
class DepthNodeConfig(PerceptionConfig):
    """`depth_node`: the perception chain between ROS topics."""

    model: str = option('dkt-tiny', 'Model: the name of a bundled one or the path of a folder.',
                        read_only=True)
    device: str = option('auto', 'Where the model runs: `auto` takes CUDA where there is one; '
                         '`cpu`, `cuda` or `cuda:N`.', read_only=True)
    execution: str = option('auto', 'Who computes a step of the model; `auto` is `eager`, which '
                            'starts at once.', choices=EXECUTIONS, read_only=True)
    precision: str = option('auto', 'Arithmetic of the large products; `auto` takes bfloat16 '
                            'where the hardware has it, and on a CPU what the model says; never '
                            'float8.', choices=PRECISIONS,
                            read_only=True)
    attention: str = option('auto', "Torch's kernel for self-attention; `auto` leaves the choice "
                            'to torch, `measure` times all at start and takes the fastest.',
                            choices=ATTENTIONS, read_only=True)
    threads: int = option(0, 'Processor threads of each network; 0 takes half of all. Fewer leave '
                          'room for other processes.',
                          minimum=0, maximum=1024, read_only=True)
    autostart: bool = option(True, 'Configure and activate at start, without a lifecycle '
                             'manager.', read_only=True)
    max_age_s: float = option(0.0, 'Images older than this on arrival are dropped [s]; 0 takes '
                              'all.', minimum=0.0, maximum=3600.0)
    world_frame: str = option('', 'A frame that does not move, such as the base of the arm that '
                              "carries the camera: by the camera's poses in it, `parallax` "
                              'corrects the distance of things. Empty goes without.',
                              read_only=True)
    transform: TransformConfig = option(TransformConfig(), 'Where those poses come from.')
    input: InputConfig = option(InputConfig(), 'What is subscribed and how it is paired.')
    points: PointsConfig = option(PointsConfig(), 'The point cloud.')
    depth_color: DepthColorConfig = option(DepthColorConfig(), 'The colours of depth/color.')


@dataclass(frozen=True)
class ClipCameraConfig(Config):
    """`clip_camera_node`: a recorded clip in the place of a RealSense."""

    clip: str = option('', 'Clip to play: an mp4, image folder, MCAP, rosbag2 or scene folder; '
                       'empty plays the bundled one.', read_only=True)
    rate_hz: float = option(0.0, 'Frames a second; 0 takes the spacing of the clip.', minimum=0.0,
                            maximum=240.0, read_only=True)
    loop: bool = option(False, 'Start again at the end; else the node exits there.')
    max_frames: int = option(0, 'Stop after so many frames; 0 plays the whole clip.', minimum=0,
                             maximum=10**9, read_only=True)
    publish_clock: bool = option(False, 'Publish /clock at the pace of the clip, and stamp with '
                                 'the times of the clip instead of now.', read_only=True)
    wait_for_subscribers: int = option(
        1, 'How many subscribers the colour image must have before the clip starts; 0 starts at '
        'once.', minimum=0, maximum=100, read_only=True)
    frame_id: str = option('camera_color_optical_frame', 'Optical frame of all images.',
                           read_only=True)
    world_frame_id: str = option('world', 'Frame that camera_pose is given in.', read_only=True)


@dataclass(frozen=True)
class BenchConfig(Config):
    """What `dkt bench stream` runs."""

    clip: str = option('', 'Clip to play, forwards and backwards; empty takes the bundled one.')
    num_frames: int = option(120, 'Frames a preset; from 201 on the growth of memory is told.',
                             minimum=1, maximum=10**7)
    width: int = option(640, 'Width of the camera image [px].', minimum=16, maximum=7680)
    height: int = option(480, 'Height of the camera image [px].', minimum=16, maximum=4320)
    working_width: int = option(0, 'Working width [px]; 0 takes what the model folder says.',
                                minimum=0, maximum=3840)
    working_height: int = option(0, 'Working height [px]; 0 takes what the model folder says.',
                                 minimum=0, maximum=2160)
    normals: bool = option(True, "Run the model's normal task too.")
    device: str = option('cpu', 'Where the model runs: `cpu`, `cuda` or `cuda:N`.')
    threads: int = option(0, 'Torch threads of each network; 0 takes half of all.', minimum=0,
                          maximum=1024)
    seed: int = option(1, 'Seed of the noise.', minimum=0, maximum=2**31 - 1)
