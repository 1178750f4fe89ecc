"""
Every configuration dataclass; defaults live here once.

ROS parameters, command-line flags and YAML files are made from these classes.
"""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option

PRESETS = {
    # name: (window_latents, overlap_latents)
    'image': (1, 0),
    'low_latency': (2, 1),
    'balanced': (3, 1),
    'long': (6, 1),
}


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
    max_gap_s: float = option(1.0, 'A longer gap between two frames starts a new stream [s].',
                              minimum=0.01, maximum=60.0)
    seed: int = option(1, 'Seed of the noise.', minimum=0, maximum=2**31 - 1, read_only=True)


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
        2.5, 'Beside holes or certainly wrong pixels, a sensor that measures this many residuals '
        'behind the model is wrong too.', minimum=0.5, maximum=20.0)
    strong_sigmas: float = option(
        6.0, 'A sensor that measures this many residuals behind the model is wrong.', minimum=1.0,
        maximum=40.0)
    min_holes: float = option(
        0.12, 'Least share of holes in a region where the sensor is called wrong, if the residual '
        'is 2 % or more; it falls to none at 0.5 %: a poor model needs the witness of holes.',
        minimum=0.0, maximum=1.0)
    reach: float = option(
        0.03, 'How far holes and certainly wrong pixels cast doubt, as a share of the image '
        'width.', minimum=0.0, maximum=0.5)


@dataclass(frozen=True)
class NormalsConfig(Config):
    """Where normals come from."""

    source: str = option(
        'model', '`model` runs the normal task of the model, `depth` takes them from metric '
        'depth.', choices=('model', 'depth', 'none'), read_only=True)


@dataclass(frozen=True)
class PerceptionConfig(Config):
    """The whole chain from frame to metric maps."""

    stream: StreamConfig = option(StreamConfig(), 'Windows, working size and pace.')
    anchor: AnchorConfig = option(AnchorConfig(), 'Where metres come from.')
    fusion: FusionConfig = option(FusionConfig(), 'Which pixels of the sensor are believed.')
    normals: NormalsConfig = option(NormalsConfig(), 'Where normals come from.')


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


@dataclass(frozen=True)
class DepthNodeConfig(PerceptionConfig):
    """`depth_node`: the perception chain between ROS topics."""

    model: str = option('dkt-tiny', 'Model: the name of a bundled one or the path of a folder.',
                        read_only=True)
    device: str = option('auto', 'Where the model runs: `auto` takes CUDA where there is one; '
                         '`cpu`, `cuda` or `cuda:N`.', read_only=True)
    execution: str = option('auto', 'How the model runs; `auto` and `eager` exist in this '
                            'release.', choices=EXECUTIONS, read_only=True)
    autostart: bool = option(True, 'Configure and activate at start, without a lifecycle '
                             'manager.', read_only=True)
    max_age_s: float = option(0.0, 'Images older than this on arrival are dropped [s]; 0 takes '
                              'all.', minimum=0.0, maximum=3600.0)
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
    threads: int = option(0, 'Torch threads; 0 leaves the choice to torch.', minimum=0,
                          maximum=1024)
    seed: int = option(1, 'Seed of the noise.', minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True)
class StereoConfig(Config):
    """
    A rendered pair of infrared images and how it is matched.

    Sizes of windows and tolerances are given for images 640 px wide and follow the image.
    """

    model: str = option('D415', 'Whose field of view and baseline the pair has.',
                        choices=('D415', 'D435', 'D455'))
    width: int = option(424, 'Width of an infrared image [px].', minimum=64, maximum=1920)
    height: int = option(240, 'Height of an infrared image [px].', minimum=48, maximum=1080)
    samples: int = option(16, 'Cycles samples a pixel; never denoised.', minimum=1, maximum=4096)
    pattern_seed: int = option(0, 'Seed of the projected dots; a device keeps its pattern.',
                               minimum=0, maximum=2**31 - 1)
    projector_w: float = option(5.0, 'Power of the projector [W, Blender].', minimum=0.0,
                                maximum=1000.0)
    ambient: float = option(0.03, 'Share of the environment that is left in the infrared.',
                            minimum=0.0, maximum=10.0)
    haze: tuple[float, ...] = option(
        (0.02, 0.07), 'Range of the share of light that the soiled surface of a clear thing '
        'scatters.', minimum=0.0, maximum=1.0)
    read_noise: float = option(0.6, 'Standard deviation of the receiver [8-bit levels].',
                               minimum=0.0, maximum=50.0)
    block_px: float = option(11.0, 'Side of the matching window.', minimum=1.0, maximum=99.0)
    median_px: float = option(5.0, 'Side of the median filter.', minimum=1.0, maximum=15.0)
    left_right_px: float = option(0.71, 'Largest difference between both matches.', minimum=0.0,
                                  maximum=20.0)
    min_score: float = option(0.5, 'Least correlation of a match, from -1 to 1.', minimum=-1.0,
                              maximum=1.0)
    min_margin: float = option(0.03, 'How much better than any other place a match must be.',
                               minimum=0.0, maximum=1.0)
    min_texture: float = option(2.0, 'Least standard deviation in a window [8-bit levels].',
                                minimum=0.0, maximum=100.0)
    min_region_px: float = option(12.0, 'Side of the smallest patch of depth that is kept.',
                                  minimum=0.0, maximum=500.0)
    near_m: float = option(0.2, 'Nearest depth that is looked for [m].', minimum=0.01,
                           maximum=5.0)
    far_m: float = option(6.0, 'Farthest depth that is kept [m].', minimum=0.1, maximum=100.0)


@dataclass(frozen=True)
class SensorConfig(Config):
    """
    Statistics of a simulated active-stereo depth camera on each class of surface.

    The defaults lie within what real D435 frames of clear things show: on glass 20 to 75 % holes
    and a median of +10 to +50 mm behind the surface; 1.5 to 3.2 mm MAE on the background.
    """

    kind: str = option('statistical', '`stereo` renders an infrared pair and matches it for one '
                       'frame a scene (see `every`), the others are drawn statistically.',
                       choices=('statistical', 'stereo'))
    every: int = option(0, 'For `stereo`: every n-th frame gets a pair; 0 the first one only.',
                        minimum=0, maximum=100000)
    noise_m_at_1m: float = option(
        0.0042, 'Standard deviation of depth at 1 m [m]; grows with z^2.', minimum=0.0,
        maximum=0.1)
    glass_holes: tuple[float, ...] = option(
        (0.25, 0.7), 'Range of the share of holes inside a transparent thing.', minimum=0.0,
        maximum=1.0)
    glass_bias_m: tuple[float, ...] = option(
        (0.012, 0.055), 'Range of the median distance behind the surface where it sees [m].',
        minimum=0.0, maximum=0.5)
    metal_holes: tuple[float, ...] = option(
        (0.02, 0.25), 'Range of the share of holes on a reflective thing.', minimum=0.0,
        maximum=1.0)
    metal_bias_m: float = option(0.008, 'Standard deviation of the bias on metal [m].',
                                 minimum=0.0, maximum=0.1)
    baseline_m: float = option(0.05, 'Distance between the two infrared cameras [m].',
                               minimum=0.001, maximum=1.0)
    min_range_m: float = option(0.2, 'Nearer surfaces are not measured [m].', minimum=0.0,
                                maximum=5.0)
    stereo: StereoConfig = option(StereoConfig(), 'The infrared pair and its matching.')


RENDER_PRESETS = {
    # What a preset changes in the defaults of RenderConfig.
    'tabletop-v1': {},
    'transphy3d': {
        'width': 640, 'height': 480, 'num_frames': 120, 'fps': 30.0, 'samples': 32, 'path': 'mix',
        'min_objects': 3, 'max_objects': 9, 'distance_m': (0.45, 1.0), 'step_rad': (0.005, 0.05),
        # Fitted to rendered pairs: 63 % holes on glass and +37 mm behind it over eight scenes.
        'sensor': {'kind': 'stereo', 'glass_holes': (0.35, 0.8), 'glass_bias_m': (0.012, 0.07),
                   'noise_m_at_1m': 0.0055}},
}


@dataclass(frozen=True)
class RenderConfig(Config):
    """What `dkt render` draws; the defaults are the preset `tabletop-v1`."""

    preset: str = option('tabletop-v1', 'Name that fixes the difficulty of a set; `transphy3d` '
                         'draws places, lets things fall and moves the camera freely.',
                         choices=tuple(RENDER_PRESETS))
    place: str = option('mix', 'Where things lie (not in tabletop-v1).',
                        choices=('mix', 'tabletop', 'tray', 'bin', 'desk'))
    arrangement: str = option('mix', 'How things come to lie there (not in tabletop-v1).',
                              choices=('mix', 'fall', 'upright', 'packed'))
    scale: tuple[float, ...] = option((0.85, 1.2), 'Range of the size of things, as a factor (not '
                                      'in tabletop-v1).', minimum=0.05, maximum=20.0)
    settle_s: float = option(5.0, 'Longest time that things may take to come to rest [s].',
                             minimum=0.1, maximum=60.0)
    first_material: str = option('glass', 'Material of the first thing of a scene; empty draws it '
                                 'like the others (not in tabletop-v1).')
    hdri_folder: str = option('', 'Folder of environments (.hdr, .exr); empty takes those of the '
                              'bpy wheel (not in tabletop-v1).')
    texture_folder: str = option('', 'Folder of photographs for tables and walls; empty takes '
                                 'procedural ones (not in tabletop-v1).')
    texture_share: float = option(0.7, 'Share of surfaces with a photograph, where there are any.',
                                  minimum=0.0, maximum=1.0)
    camera: str = option('', 'Intrinsics of a known camera; empty draws them from focal_widths.',
                         choices=('', 'D415', 'D435', 'D455', 'L515', 'AzureKinect'))
    K: tuple[float, ...] = option((), 'Given intrinsics fx fy cx cy [px] of the image rendered.',
                                  minimum=0.0)
    device: str = option('auto', 'What Cycles renders with; `auto` takes the first GPU, else the '
                         'processor.', choices=('auto', 'cpu', 'optix', 'cuda', 'hip', 'metal',
                                                'oneapi'))
    width: int = option(256, 'Image width [px].', minimum=32, maximum=3840)
    height: int = option(192, 'Image height [px].', minimum=32, maximum=2160)
    num_frames: int = option(5, 'Frames a scene.', minimum=1, maximum=10000)
    fps: float = option(6.0, 'Frame rate that the stamps follow [Hz].', minimum=0.1, maximum=240.0)
    samples: int = option(8, 'Cycles samples a pixel before denoising.', minimum=1, maximum=4096)
    path: str = option('orbit', 'Camera path: a steady orbit or unrelated views (tabletop-v1); '
                       'a circle, a hand, a wrist or any of these (other presets).',
                       choices=('orbit', 'views', 'circle', 'handheld', 'wrist', 'mix'))
    workers: int = option(0, 'Blender processes; 0 takes one a processor core.', minimum=0,
                          maximum=256)
    min_objects: int = option(3, 'Fewest things a scene.', minimum=1, maximum=30)
    max_objects: int = option(6, 'Most things a scene.', minimum=1, maximum=30)
    lying: float = option(0.15, 'Share of things that lie on their side.', minimum=0.0,
                          maximum=1.0)
    spread_m: float = option(0.17, 'Things stand within this radius [m].', minimum=0.02,
                             maximum=2.0)
    material_weights: dict = option(
        {'glass': 0.42, 'clear_plastic': 0.18, 'frosted_glass': 0.04, 'metal': 0.14,
         'plain': 0.22}, 'How often each material is drawn.')
    backdrop_m: tuple[float, ...] = option(
        (0.35, 0.8), 'Distance of the wall behind the things [m].', minimum=0.05, maximum=20.0)
    side_wall: float = option(0.4, 'Probability of a wall on each side.', minimum=0.0, maximum=1.0)
    distance_m: tuple[float, ...] = option(
        (0.42, 0.88), 'Distance of the camera from the things [m].', minimum=0.1, maximum=10.0)
    elevation_rad: tuple[float, ...] = option(
        (0.3, 1.1), 'Elevation of the camera above the table [rad].', minimum=0.0, maximum=1.5)
    step_rad: tuple[float, ...] = option(
        (0.01, 0.05), 'Azimuth from frame to frame on an orbit [rad].', minimum=0.0, maximum=1.0)
    period_frames: int = option(60, 'Period of the changes of radius and height [frames].',
                                minimum=1, maximum=100000)
    focal_widths: tuple[float, ...] = option(
        (0.9, 1.05), 'Focal length in image widths; a D435 at 640x480 has 0.96.', minimum=0.2,
        maximum=5.0)
    exposure: tuple[float, ...] = option(
        (0.16, 0.42), 'Range of the mean luminance that the auto exposure aims at.', minimum=0.01,
        maximum=0.9)
    min_glass: float = option(0.02, 'Least share of transparent pixels a scene.', minimum=0.0,
                              maximum=1.0)
    image_noise: float = option(0.0, 'Noise of the colour image at full level, as a share of it.',
                                minimum=0.0, maximum=0.5)
    motion_blur: float = option(0.0, 'Exposure time as a share of the time between two frames.',
                                minimum=0.0, maximum=1.0)
    meshes: bool = option(True, 'Write the mesh of each object into the scene folder.')
    interpreter: str = option('', 'Python with bpy; empty takes what `dkt render --setup` made.')
    cost_per_hour: float = option(0.05, 'Price of one processor core or GPU for an hour, for '
                                  '`--estimate`.', minimum=0.0)
    sensor: SensorConfig = option(SensorConfig(), 'The simulated depth camera.')

    def __post_init__(self) -> None:
        super().__post_init__()
        own = ('orbit', 'views') if self.preset == 'tabletop-v1' \
            else ('circle', 'handheld', 'wrist', 'mix')
        if self.path not in own:
            raise UserError(f'RenderConfig.path is {self.path!r}; allowed with preset '
                            f'{self.preset}: {", ".join(own)}')
        if len(self.K) not in (0, 4):
            raise UserError(f'RenderConfig.K is {self.K}; four numbers fx, fy, cx, cy are '
                            'expected')
        if self.K and self.camera:
            raise UserError(f'RenderConfig.K and camera {self.camera!r} are both given; leave one '
                            'of them out')

    @classmethod
    def from_dict(cls, values: dict, where: str = '') -> RenderConfig:
        """Build from a nested dictionary; what it leaves out comes from its preset."""
        if not isinstance(values, dict):
            return super().from_dict(values, where)
        preset = RENDER_PRESETS.get(str(values.get('preset', cls.preset)), {})
        merged = {**preset, **values}
        if isinstance(values.get('sensor'), dict):
            merged['sensor'] = {**preset.get('sensor', {}), **values['sensor']}
        return super().from_dict(merged, where)


@dataclass(frozen=True)
class AssetsConfig(Config):
    """How `dkt assets` draws things and asks a model about them."""

    tile_px: int = option(160, 'Side of each small picture [px].', minimum=32, maximum=2048)
    samples: int = option(12, 'Cycles samples a pixel before denoising.', minimum=1, maximum=4096)
    threads: int = option(0, 'Threads of the renderer; 0 takes all.', minimum=0, maximum=1024)
    longest_m: tuple[float, ...] = option(
        (0.05, 0.25), 'Longest side of a thing of a bank [m]; one outside gets a size within, and '
        'sizes.json in the bank overrules it.', minimum=0.001, maximum=5.0)
    timeout_s: float = option(60.0, 'How long a model behind an endpoint may think [s].',
                              minimum=1.0, maximum=3600.0)
    model: str = option('Qwen/Qwen2.5-VL-7B-Instruct', 'Name of the model behind an endpoint.')
    interpreter: str = option('', 'Python with bpy; empty takes what `dkt render --setup` made.')

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.longest_m) != 2 or self.longest_m[0] > self.longest_m[1]:
            raise UserError(f'AssetsConfig.longest_m is {self.longest_m}; two lengths in metres '
                            'are expected, the smaller first')


@dataclass(frozen=True)
class VaeConfig(Config):
    """Shape of dkt-tiny's VAE (`AutoencoderKLWan`, Wan 2.2's patchified form)."""

    patch_size: int = option(4, 'Pixels folded into channels before the first convolution.',
                             choices=(1, 2, 4))
    base_dim: int = option(48, 'Channels of the finest encoder level.', minimum=8, maximum=512)
    decoder_base_dim: int = option(40, 'Channels of the finest decoder level.', minimum=8,
                                   maximum=512)
    dim_mult: tuple[int, ...] = option((1, 2, 2), 'Channel multiplier of each level.', minimum=1)
    num_res_blocks: int = option(1, 'Residual blocks a level.', minimum=1, maximum=8)
    z_dim: int = option(48, 'Latent channels.', minimum=4, maximum=128)


@dataclass(frozen=True)
class TransformerConfig(Config):
    """Shape of dkt-tiny's DiT (`WanTransformer3DModel`)."""

    patch_size: int = option(1, 'Latent pixels a token, along each side.', choices=(1, 2))
    num_heads: int = option(4, 'Attention heads.', minimum=1, maximum=64)
    head_dim: int = option(64, 'Channels a head.', minimum=12, maximum=256)
    ffn_dim: int = option(768, 'Width of the feed-forward layers.', minimum=16, maximum=32768)
    num_layers: int = option(6, 'Transformer blocks.', minimum=1, maximum=64)
    text_dim: int = option(32, 'Channels of a prompt row.', minimum=2, maximum=8192)
    freq_dim: int = option(128, 'Channels of the timestep embedding.', minimum=8, maximum=1024)


@dataclass(frozen=True)
class StageConfig(Config):
    """One stage of training."""

    kind: str = option('flow', 'What is learnt: the VAE, flow matching on its latents, or one '
                       'step end to end through the VAE.', choices=('vae', 'flow', 'e2e'))
    steps: int = option(1000, 'Optimiser steps.', minimum=1, maximum=10_000_000)
    batch_size: int = option(8, 'Clips a step.', minimum=1, maximum=4096)
    num_frames: int = option(1, 'Frames a clip: 4 N + 1.', minimum=1, maximum=81)
    height: int = option(144, 'Image height [px].', minimum=16, maximum=2160)
    width: int = option(192, 'Image width [px].', minimum=16, maximum=3840)
    learning_rate: float = option(5e-4, 'Peak learning rate.', minimum=0.0, maximum=1.0)
    warmup_steps: int = option(100, 'Steps of linear warm-up.', minimum=0, maximum=100_000)
    decay: float = option(0.25, 'Last share of the steps over which the rate falls to zero.',
                          minimum=0.0, maximum=1.0)
    drift_share: float = option(0.0, 'Share of clips that are made of single views, through a '
                                'window that drifts over them.', minimum=0.0, maximum=1.0)
    crop: float = option(0.65, 'Smallest part of an image that a clip shows, as a share of its '
                         'width; 1 shows it whole, at its own focal length.', minimum=0.2,
                         maximum=1.0)
    object_weight: float = option(4.0, 'Weight of transparent pixels in the pixel losses; other '
                                  'things weigh half as much, the background 1.', minimum=1.0,
                                  maximum=100.0)
    weight_decay: float = option(0.01, 'Decay of the weights, as a multiple of the learning rate.',
                                 minimum=0.0, maximum=10.0)
    optimizer: str = option('adamw', 'AdamW for everything, or Muon for the matrices of the DiT.',
                            choices=('adamw', 'muon'))


@dataclass(frozen=True)
class TrainConfig(Config):
    """What `dkt train` does; written into the run, it rebuilds the run."""

    data: tuple[str, ...] = option((), 'Folders of scene folders.')
    run: str = option('', 'Folder of the run; empty makes runs/<name> in the cache.')
    name: str = option('dkt-tiny', 'Name of the model.')
    initial_model: str = option('', 'Model folder whose weights training starts from; its shape '
                                'must be that of `vae` and `transformer`. Empty starts afresh.')
    seed: int = option(0, 'Seed of weights, data and noise.', minimum=0, maximum=2**31 - 1)
    threads: int = option(0, 'Processor threads; 0 takes all.', minimum=0, maximum=1024)
    bf16: bool = option(True, 'Compute in bfloat16 where autocast allows it.')
    compile: bool = option(False, 'Compile the networks with torch.compile for stages of stills; '
                           'needs a C++ compiler.')
    held_out: int = option(12, 'Scenes kept for validation, the last in order of name.',
                           minimum=1, maximum=10000)
    depth_share: float = option(0.7, 'Share of clips that train depth; the rest train normals.',
                                minimum=0.0, maximum=1.0)
    ema_decay: float = option(0.998, 'Decay of the averaged weights.', minimum=0.0,
                              maximum=0.99999)
    kl_weight: float = option(1e-5, 'Weight of the KL term of the VAE.', minimum=0.0, maximum=1.0)
    schedule_shift: float = option(5.0, 'Shift of the flow-matching schedule.', minimum=0.1,
                                   maximum=100.0)
    checkpoint_every: int = option(200, 'Steps between checkpoints.', minimum=1, maximum=1_000_000)
    validate_every: int = option(400, 'Steps between validations.', minimum=1, maximum=1_000_000)
    validation_clips: int = option(24, 'Held-out stills a validation; clips are fewer.', minimum=6,
                                   maximum=10000)
    vae: VaeConfig = option(VaeConfig(), 'Shape of the VAE.')
    transformer: TransformerConfig = option(TransformerConfig(), 'Shape of the DiT.')
    stages: list = option([], 'Stages in order, each a mapping of StageConfig options.')
