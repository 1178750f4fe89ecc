"""The options of the simulated grasp benchmark; defaults live here once."""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option
from dkt_ros.render_config import require_range

KINDS = ('single', 'packed', 'pile')
CLASSES = ('transparent', 'reflective', 'diffuse')
WORLDS = ('tabletop-v1', 'transphy3d')
"""Presets of `dkt render` whose things and rooms can be had; dkt-tiny was trained on the first."""
SOURCES = ('truth', 'sensor', 'filled', 'dkt', 'fused')
"""Where the depth that a grasp is planned on comes from; the same names everywhere."""


@dataclass(frozen=True)
class PhysicsConfig(Config):
    """
    The simulated world and hand.

    Soft friction creeps: with an elliptic cone, this impratio and noslip iterations a light thing
    between two pads slides less than a millimetre in 5 s, which a test holds.
    """

    timestep_s: float = option(0.002, 'Step of the solver [s].', minimum=0.0002, maximum=0.005)
    impratio: float = option(100.0, 'Stiffness of friction relative to that of the normal '
                             'direction.', minimum=1.0, maximum=1000.0)
    noslip_iterations: int = option(10, 'Passes that take the creep out of friction.', minimum=0,
                                    maximum=100)
    pad_friction: float = option(0.6, 'Friction coefficient between the pads and a thing; rubber '
                                 'on glass has 0.5 to 0.7.', minimum=0.0, maximum=2.0)
    pad_patch_m: float = option(0.005, 'Radius of the patch a soft pad touches with: it resists '
                                'turning by 2/3 of friction times this [m].', minimum=0.0,
                                maximum=0.05)
    friction: float = option(0.45, 'Friction coefficient of things on each other and on the '
                             'table.', minimum=0.0, maximum=2.0)
    grip_force_n: float = option(30.0, 'Force of each finger [N].', minimum=0.1, maximum=200.0)
    hand_mass_kg: float = option(0.73, 'Mass of the hand, without effect on what it can carry '
                                 '[kg].', minimum=0.01, maximum=20.0)
    sheet_m: float = option(0.001, 'Thickness that metal is taken to have, whatever the mesh: '
                            'metal ware is made of sheet [m].', minimum=0.0001, maximum=0.02)


@dataclass(frozen=True)
class ProtocolConfig(Config):
    """What an attempt is, and what counts as success."""

    approach_m: float = option(0.08, 'Straight way from the pre-grasp to the grasp [m].',
                               minimum=0.0, maximum=0.5)
    approach_m_s: float = option(0.1, 'Speed of the approach [m/s].', minimum=0.01, maximum=1.0)
    collision_n: float = option(10.0, 'The approach stops at this force against the hand, as an '
                                'arm does, and the jaw closes there [N].', minimum=0.1,
                                maximum=1000.0)
    close_m_s: float = option(0.1, 'Speed at which the opening shrinks [m/s].', minimum=0.01,
                              maximum=1.0)
    squeeze_s: float = option(0.3, 'Time from the closed jaw to the lift [s].', minimum=0.0,
                              maximum=5.0)
    lift_m: float = option(0.15, 'Way that the hand is lifted; what swings in the jaw rises less '
                           '[m].', minimum=0.01, maximum=1.0)
    lift_m_s: float = option(0.1, 'Speed of the lift [m/s].', minimum=0.01, maximum=1.0)
    hold_s: float = option(1.0, 'Time that the thing must stay held after the lift [s].',
                           minimum=0.0, maximum=60.0)
    required_m: float = option(0.1, 'Way that the thing itself must have risen, and must keep '
                               '[m].', minimum=0.001, maximum=1.0)
    max_failures: int = option(2, 'In clutter, failures in a row that end a round.', minimum=1,
                               maximum=100)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.required_m > self.lift_m:
            raise UserError(f'ProtocolConfig.required_m is {self.required_m} and lift_m '
                            f'{self.lift_m}; nothing can rise higher than the hand')


@dataclass(frozen=True)
class ViewConfig(Config):
    """The camera, how far it moves, and how its pictures are rendered."""

    room: str = option('tabletop-v1', 'Table, walls and light around the things: those of this '
                       'preset of `dkt render`.', choices=WORLDS)
    width: int = option(384, 'Width of the image [px].', minimum=64, maximum=1920)
    height: int = option(288, 'Height of the image [px].', minimum=48, maximum=1080)
    focal_widths: float = option(0.96, 'Focal length in image widths; a D435 has 0.96.',
                                 minimum=0.3, maximum=5.0)
    distance_m: tuple[float, ...] = option((0.5, 0.6), 'Range of the distance to the things [m].',
                                           minimum=0.2, maximum=3.0)
    elevation_rad: tuple[float, ...] = option(
        (0.52, 0.79), 'Range of the elevation above the table [rad].', minimum=0.1, maximum=1.5)
    num_frames: int = option(5, 'Frames of the arc that a camera on the wrist moves along; the '
                             'grasp is planned on the last.', minimum=1, maximum=100)
    arc_m: float = option(0.05, 'Length of that arc [m].', minimum=0.0, maximum=1.0)
    samples: int = option(2, 'Cycles samples a pixel before denoising.', minimum=1, maximum=4096)
    pair_samples: int = option(8, 'Those of the infrared pair, which is not denoised.', minimum=1,
                               maximum=4096)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range('ViewConfig.distance_m', self.distance_m)
        require_range('ViewConfig.elevation_rad', self.elevation_rad)


@dataclass(frozen=True)
class GraspSimConfig(Config):
    """Everything `dkt grasp-sim` may be told."""

    gripper: str = option('panda_hand', 'Name of a gripper in config/grippers, or the path of a '
                          'YAML file.')
    model: str = option('dkt-tiny', 'Model behind the sources `dkt` and `fused`.')
    preset: str = option('balanced', 'Latents a window and overlap of that model.')
    working_width: int = option(0, 'Working width of that model [px]; 0 takes what its folder '
                                'says.', minimum=0, maximum=3840)
    working_height: int = option(0, 'Working height of that model [px]; 0 takes what its folder '
                                 'says.', minimum=0, maximum=2160)
    parallax: bool = option(True, 'That model is told the pose of the wrist in each frame.')
    things: str = option('tabletop-v1', 'Families and materials of the things: those of the '
                         'library that this preset of `dkt render` has too, or all.',
                         choices=WORLDS)
    num_clutter: int = option(5, 'Things in a packed scene or a pile.', minimum=2, maximum=20)
    lying: float = option(0.25, 'Share of the things that can lie which do, where they stand '
                          'otherwise.', minimum=0.0, maximum=1.0)
    seed: int = option(1_000_000, 'Seed of the first scene; from 1000000 up no model has seen '
                       'it in training.', minimum=0, maximum=2**31 - 1)
    physics: PhysicsConfig = option(PhysicsConfig(), 'World and hand.')
    protocol: ProtocolConfig = option(ProtocolConfig(), 'Attempt and success.')
    view: ViewConfig = option(ViewConfig(), 'The camera.')
