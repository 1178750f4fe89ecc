"""The options of the renderer and of what it draws, as `dkt_ros.config` gives them."""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option


def require_range(name: str, values: tuple[float, ...], what: str = 'lengths in metres') -> None:
    """Raise UserError unless `values` are two, the smaller first."""
    if len(values) != 2 or values[0] > values[1]:
        raise UserError(f'{name} is {values}; two {what} are expected, the smaller first')


def require_weights(name: str, weights: dict) -> None:
    """Raise UserError unless `weights` maps names to numbers >= 0 that are not all 0."""
    right = all(isinstance(weight, (int, float)) and not isinstance(weight, bool) and weight >= 0
                for weight in weights.values())
    if not right or not any(weights.values()):
        raise UserError(f'{name} is {weights}; a weight >= 0 by name is expected, at least one '
                        'of them above 0')


@dataclass(frozen=True)
class StereoConfig(Config):
    """
    A rendered pair of infrared images and how it is matched.

    Sizes of windows and tolerances are given for images 640 px wide and follow the image.
    """

    model: str = option('D435', 'Whose field of view and baseline the pair has.',
                        choices=('D415', 'D435', 'D455'))
    width: int = option(640, 'Width of an infrared image [px].', minimum=64, maximum=1920)
    height: int = option(360, 'Height of an infrared image [px].', minimum=48, maximum=1080)
    samples: int = option(16, 'Cycles samples a pixel; never denoised.', minimum=1, maximum=4096)
    pattern_seed: int = option(0, 'Seed of the projected dots; a device keeps its pattern.',
                               minimum=0, maximum=2**31 - 1)
    projector_w: float = option(5.0, 'Power of the projector [W, Blender].', minimum=0.0,
                                maximum=1000.0)
    ambient: tuple[float, ...] = option(
        (0.028, 0.042), 'Range of the radiance of the surroundings in the infrared [W/(m2 sr), '
        'Blender].', minimum=0.0, maximum=10.0)
    haze: tuple[float, ...] = option(
        (0.02, 0.07), 'Range of the share of light that the soiled surface of a clear thing '
        'scatters.', minimum=0.0, maximum=1.0)
    read_noise: float = option(0.6, 'Standard deviation of the receiver [8-bit levels].',
                               minimum=0.0, maximum=50.0)
    block_px: float = option(9.0, 'Side of the matching window.', minimum=1.0, maximum=99.0)
    median_px: float = option(5.0, 'Side of the median filter.', minimum=1.0, maximum=15.0)
    left_right_px: float = option(0.71, 'Largest difference between both matches.', minimum=0.0,
                                  maximum=20.0)
    min_score: float = option(0.7, 'Least correlation of a match, from -1 to 1.', minimum=-1.0,
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

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range('StereoConfig.ambient', self.ambient, 'radiances')
        require_range('StereoConfig.haze', self.haze, 'shares')


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
    every: int = option(0, 'For `stereo`: every n-th frame gets a pair; 0 the first one only, '
                        '-1 the last one only.', minimum=-1, maximum=100000)
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


@dataclass(frozen=True)
class ObjectsConfig(Config):
    """
    What things are, what they are made of and what is in them (not in tabletop-v1).

    Weights name members of the library or whole groups, which share theirs among them: `dkt
    assets list` prints both.
    """

    families: dict = option({'vessels': 0.62, 'others': 0.14, 'distractors': 0.24},
                            'How often each family, or group of families, is drawn.')
    fitting: float = option(0.85, 'Share of things, and of rooms, made of what they are made of '
                            'in life; the others may be of anything, a wooden bottle too.',
                            minimum=0.0, maximum=1.0)
    filled: float = option(0.35, 'Share of the vessels standing upright that hold a liquid.',
                           minimum=0.0, maximum=1.0)
    bank: str = option('', 'Folder of meshes (.glb, .gltf, .obj, .ply, .blend) to draw things '
                       'from beside the library; what `dkt assets filter` said of them is kept '
                       'to.')
    bank_share: float = option(0.3, 'Share of things from the bank, where there is one.',
                               minimum=0.0, maximum=1.0)
    bank_longest_m: tuple[float, ...] = option(
        (0.05, 0.25), 'Longest side of a thing of the bank [m]; one outside gets a size within, '
        'and sizes.json in the bank overrules it.', minimum=0.001, maximum=5.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights('ObjectsConfig.families', self.families)
        require_range('ObjectsConfig.bank_longest_m', self.bank_longest_m)


RENDER_PRESETS = {
    # What a preset changes in the defaults of RenderConfig.
    'tabletop-v1': {},
    'transphy3d': {
        'width': 640, 'height': 480, 'num_frames': 120, 'fps': 30.0, 'samples': 32, 'path': 'mix',
        'min_objects': 3, 'max_objects': 9, 'distance_m': (0.4, 0.95), 'step_rad': (0.005, 0.05),
        'elevation_rad': (0.2, 1.05), 'exposure': (0.12, 0.34), 'highlights': 0.5,
        'first_material': 'transparent', 'material_weights': {
            'transparent': 0.52, 'translucent': 0.08, 'reflective': 0.2, 'diffuse': 0.2},
        # Fitted to nine rendered pairs, seeds 3000 to 3008: 57 % holes on glass, +13 mm behind it
        # and 33 mm of mean error, 3.3 mm on the background.
        'sensor': {'kind': 'stereo', 'glass_holes': (0.15, 0.8), 'glass_bias_m': (0.002, 0.05),
                   'noise_m_at_1m': 0.008}},
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
    first_material: str = option('glass', 'Material or class of materials of the first thing of a '
                                 'scene; empty draws it like the others (not in tabletop-v1).')
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
         'plain': 0.22}, 'How often each material is drawn; other presets than '
        'tabletop-v1 know those of `dkt assets list`, and their classes.')
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
    highlights: float = option(1.0, 'Level from which a camera compresses what is brighter; 1 '
                               'clips at white (not in tabletop-v1).', minimum=0.1, maximum=1.0)
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
    objects: ObjectsConfig = option(ObjectsConfig(), 'What things are and what is in them (not '
                                    'in tabletop-v1).')
    sensor: SensorConfig = option(SensorConfig(), 'The simulated depth camera.')

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights('RenderConfig.material_weights', self.material_weights)
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
        require_range('AssetsConfig.longest_m', self.longest_m)
