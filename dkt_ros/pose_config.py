"""Options of what knows, and of what uses, where the camera is."""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option, require_vector


@dataclass(frozen=True)
class ParallaxConfig(Config):
    """How far off things stand, from the camera's motion; only where its pose is known."""

    enabled: bool = option(True, 'Correct the depth of what the sensor does not see by how it '
                           'moves in the image.')
    min_baseline_m: float = option(
        0.012, 'Earlier views from nearer than this to the present one are of no use [m].',
        minimum=0.001, maximum=1.0)
    max_baseline_m: float = option(
        0.15, 'Earlier views from farther than this show things too differently [m].',
        minimum=0.001, maximum=2.0)
    max_age_s: float = option(5.0, 'Views older than this are forgotten: things may have been '
                              'moved since [s].', minimum=0.1, maximum=3600.0)
    max_views: int = option(4, 'Earlier views that are compared; time grows with them.',
                            minimum=1, maximum=16)
    stiffness: float = option(
        0.06, 'What a correction by 6 % of depth costs, as a share of the greatest difference '
        'between images: large values trust the model, small ones the motion.', minimum=0.0,
        maximum=10.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_baseline_m >= self.max_baseline_m:
            raise UserError(f'ParallaxConfig.min_baseline_m is {self.min_baseline_m:g}; it must '
                            f'be below max_baseline_m, {self.max_baseline_m:g}')


@dataclass(frozen=True)
class TransformConfig(Config):
    """How one frame is found in another, such as the camera in the frame of the robot."""

    source: str = option('auto', '`tf` asks TF; `camera_pose` takes the topic of that name; '
                         '`static` takes xyz and rpy; `auto` takes TF where tf2 is installed, '
                         'else camera_pose.', choices=('auto', 'tf', 'camera_pose', 'static'),
                         read_only=True)
    xyz: tuple[float, ...] = option((0.0, 0.0, 0.0), 'For source `static`: position of the '
                                    'camera in that frame [m].')
    rpy: tuple[float, ...] = option((0.0, 0.0, 0.0), 'For source `static`: its roll, pitch, yaw '
                                    'about fixed axes [rad].')
    slop_s: float = option(0.05, 'Largest difference between the stamp of a cloud or image and '
                           'that of the newest transform or of a camera_pose [s].', minimum=0.0,
                           maximum=5.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ('xyz', 'rpy'):
            require_vector(f'TransformConfig.{name}', getattr(self, name))
