"""The options of the grasp planner; defaults live here once, as in `dkt_ros.config`."""
from __future__ import annotations

from dataclasses import dataclass

from dkt_ros.errors import UserError
from dkt_ros.options import Config, option, require_vector
from dkt_ros.pose_config import TransformConfig


@dataclass(frozen=True)
class WorkspaceConfig(Config):
    """The box in which things are looked for."""

    frame_id: str = option('', 'Frame of the box; empty takes the frame of the cloud.')
    lower: tuple[float, ...] = option((-0.5, -0.5, 0.1), 'Smallest x, y, z of the box [m].')
    upper: tuple[float, ...] = option((0.5, 0.5, 1.5), 'Largest x, y, z of the box [m].')

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ('lower', 'upper'):
            require_vector(f'WorkspaceConfig.{name}', getattr(self, name))
        if not all(low < high for low, high in zip(self.lower, self.upper)):
            raise UserError(f'the workspace is empty: lower is {self.lower}, upper {self.upper}; '
                            'each number of lower must be the smaller one')


@dataclass(frozen=True)
class PlaneConfig(Config):
    """The support plane: what things stand on, and what the hand must not touch."""

    source: str = option('ransac', '`ransac` finds it in the cloud; `fixed` takes coefficients; '
                         '`none` plans without one.', choices=('ransac', 'fixed', 'none'))
    coefficients: tuple[float, ...] = option(
        (0.0, 0.0, 1.0, 0.0), 'For source `fixed`: a b c d with a x + b y + c z = d [m] in the '
        'frame of the workspace, (a, b, c) of unit length and away from the support.')
    tolerance_m: float = option(0.005, 'Points nearer to the plane than this belong to it [m].',
                                minimum=0.0005, maximum=0.05)
    max_tilt_deg: float = option(
        50.0, 'Largest angle between the plane and what is taken for horizontal: exact where the '
        'gravity is known by TF, else what a camera that looks down sees.', minimum=1.0,
        maximum=90.0)
    min_share: float = option(0.1, 'Least share of the points in the workspace that a support '
                              'plane has.', minimum=0.01, maximum=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.coefficients) != 4 or not 0.99 < sum(
                v * v for v in self.coefficients[:3]) < 1.01:
            raise UserError(f'PlaneConfig.coefficients is {self.coefficients}; four numbers a, b, '
                            'c, d with (a, b, c) of length 1 are expected')


@dataclass(frozen=True)
class ClusterConfig(Config):
    """What counts as a thing."""

    min_height_m: float = option(0.006, 'What rises less above the plane is part of it [m]; '
                                 'noise of the depth raises this.',
                                 minimum=0.001, maximum=0.2)
    gap_m: float = option(0.012, 'Points of one thing are nearer to each other than this [m].',
                          minimum=0.002, maximum=0.1)
    min_points: int = option(25, 'Fewer points (after voxels) are noise.', minimum=5,
                             maximum=100000)
    max_size_m: float = option(0.45, 'A larger cluster is no thing to grasp: a wall [m].',
                               minimum=0.02, maximum=5.0)
    split: bool = option(True, 'Part things that touch where their surfaces meet in a hollow.')
    max_objects: int = option(12, 'How many clusters are planned for, the nearest first.',
                              minimum=1, maximum=1000)


@dataclass(frozen=True)
class CandidateConfig(Config):
    """How many hypotheses are made, and of which kinds."""

    max_hypotheses: int = option(1000, 'Hand poses that are tried, over all things.', minimum=10,
                                 maximum=100000)
    complete: bool = option(True, 'Complete the unseen back of a thing by its symmetry, where '
                            'that contradicts nothing that was seen.')
    rims: bool = option(True, 'Grasp the walls of open vessels, one finger inside.')
    roll_deg: tuple[float, ...] = option(
        (0.0, -20.0, 20.0, -40.0, 40.0), 'Turns about the closing axis that are tried, from the '
        'most vertical approach [deg].', minimum=-90.0, maximum=90.0)
    max_tilt_deg: float = option(60.0, 'Largest angle between the approach and straight down '
                                 '[deg].', minimum=0.0, maximum=180.0)


@dataclass(frozen=True)
class CollisionConfig(Config):
    """What the hand keeps clear of."""

    clearance_m: float = option(0.003, 'Distance that fingers and palm keep from everything [m].',
                                minimum=0.0, maximum=0.05)
    plane_clearance_m: float = option(0.004, 'Distance that the hand keeps from the support [m].',
                                      minimum=0.0, maximum=0.1)
    approach_m: float = option(0.08, 'Straight way of the approach that must be free [m].',
                               minimum=0.0, maximum=0.5)
    open_margin_m: float = option(0.012, 'How much wider than the thing each side of the jaw '
                                  'opens where it can [m].', minimum=0.0, maximum=0.1)
    wide_margin_m: float = option(0.035, 'The same for a thing that stands alone: what the depth '
                                  'is off by then matters less [m].', minimum=0.0, maximum=0.2)
    min_margin_m: float = option(0.0025, 'Least room on each side; less is too wide to grasp '
                                 '[m].', minimum=0.0, maximum=0.05)


@dataclass(frozen=True)
class ScoreWeights(Config):
    """Exponents of the parts of the score; 0 leaves a part out."""

    contact: float = option(1.3, 'Area of both contacts and how they face each other.',
                            minimum=0.0, maximum=10.0)
    friction: float = option(2.0, 'Margin of the contact angles to the friction cone.',
                             minimum=0.0, maximum=10.0)
    clearance: float = option(0.7, 'Room beside fingers, palm and support.', minimum=0.0,
                              maximum=10.0)
    balance: float = option(0.9, 'Nearness to the middle of the thing.', minimum=0.0,
                            maximum=10.0)
    confidence: float = option(1.5, 'Confidence of the depth at the contacts, and room for what '
                               'it may be off by.', minimum=0.0, maximum=10.0)
    observed: float = option(0.9, 'Share of contacts and of hand space that were seen.',
                             minimum=0.0, maximum=10.0)
    vertical: float = option(0.3, 'Approach from above.', minimum=0.0, maximum=10.0)


@dataclass(frozen=True)
class GraspConfig(Config):
    """Everything the planner may be told."""

    voxel_m: float = option(0.003, 'Edge of the voxels that the cloud is thinned to [m].',
                            minimum=0.001, maximum=0.02)
    max_points: int = option(320000, 'A larger cloud is thinned evenly before the voxels.',
                             minimum=1000, maximum=10**7)
    friction: float = option(0.45, 'Friction coefficient between pad and thing; 0.4 to 0.6 for '
                             'rubber on glass.', minimum=0.05, maximum=2.0)
    min_score: float = option(0.05, 'Worse grasps are not returned.', minimum=0.0, maximum=1.0)
    max_grasps: int = option(40, 'How many grasps are returned at most.', minimum=1,
                             maximum=10000)
    nms_distance_m: float = option(0.02, 'Of grasps nearer than this, and alike in orientation, '
                                   'the best is kept [m].', minimum=0.0, maximum=1.0)
    nms_angle_deg: float = option(30.0, 'Grasps that differ less in orientation are alike.',
                                  minimum=0.0, maximum=180.0)
    seed: int = option(0, 'Seed of all that is drawn; one seed, one result.', minimum=0,
                       maximum=2**31 - 1)
    workspace: WorkspaceConfig = option(WorkspaceConfig(), 'Where things are looked for.')
    plane: PlaneConfig = option(PlaneConfig(), 'The support plane.')
    cluster: ClusterConfig = option(ClusterConfig(), 'What counts as a thing.')
    candidates: CandidateConfig = option(CandidateConfig(), 'Which hypotheses are made.')
    collision: CollisionConfig = option(CollisionConfig(), 'What the hand keeps clear of.')
    weights: ScoreWeights = option(ScoreWeights(), 'Exponents of the parts of the score.')


@dataclass(frozen=True)
class GraspNodeConfig(GraspConfig):
    """`grasp_node`: the planner between ROS topics."""

    gripper: str = option('panda_hand', 'Name of a gripper in config/grippers, or the path of a '
                          'YAML file.', read_only=True)
    input: str = option('points', 'What is planned on: the cloud `points`, or `depth` with its '
                        '`camera_info`.', choices=('points', 'depth'), read_only=True)
    use_confidence: bool = option(True, 'Take the topic `confidence` into account, where the '
                                  'cloud is organised and somebody publishes it.', read_only=True)
    target_frame: str = option('', 'Frame of the grasps, its z against gravity; empty leaves them '
                               'in the frame of the cloud.')
    rate_hz: float = option(0.0, 'Plan so often while somebody subscribes; 0 plans only when '
                            'asked by the service [Hz].', minimum=0.0, maximum=30.0)
    max_age_s: float = option(10.0, 'An older cloud is not planned on [s]; 0 takes any.',
                              minimum=0.0, maximum=3600.0)
    failed_for_s: float = option(60.0, 'How long grasps on the topic `failed_grasps`, and what is '
                                 'like them, are not proposed again [s].', minimum=0.0,
                                 maximum=86400.0)
    silent_after_s: float = option(5.0, 'An input without a message for this long is reported '
                                   '[s].', minimum=0.5, maximum=600.0)
    max_markers: int = option(15, 'How many grasps are drawn.', minimum=1, maximum=1000)
    autostart: bool = option(True, 'Configure and activate at start, without a lifecycle '
                             'manager.', read_only=True)
    transform: TransformConfig = option(TransformConfig(), 'How the cloud gets into the target '
                                        'frame.')


@dataclass(frozen=True)
class GraspBenchConfig(Config):
    """What `dkt bench grasp` runs."""

    clip: str = option('', 'Clip with depth; empty takes the bundled one.')
    num_points: int = option(20000, 'Points of each cloud, drawn evenly from a depth image.',
                             minimum=1000, maximum=10**6)
    num_plans: int = option(24, 'How many clouds are planned on.', minimum=1, maximum=10000)
    gripper: str = option('panda_hand', 'Name of a gripper, or the path of a YAML file.')
    threads: int = option(2, 'Processor threads.', minimum=1, maximum=1024)
    seed: int = option(0, 'Seed of the points and of the planner.', minimum=0,
                       maximum=2**31 - 1)
