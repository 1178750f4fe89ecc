"""How deep the hand goes, from single points; what one view hides, and what symmetry adds."""
import dataclasses

import numpy as np
import pytest

from dkt_ros.grasp import collision
from dkt_ros.grasp.candidates import PAIR, Hypotheses
from dkt_ros.grasp.collision import Obstacles, close_hand
from dkt_ros.grasp.completion import complete
from dkt_ros.grasp.config import CollisionConfig
from dkt_ros.grasp.grasp import Gripper
from dkt_ros.grasp.visibility import FREE, HIDDEN, SURFACE, UNSEEN, Visibility

HAND = Gripper(max_width=0.08, finger_width=0.01, finger_height=0.02, finger_depth=0.05,
               tip_length=0.01, palm_width=0.12, palm_height=0.06, palm_depth=0.05)
CONFIG = CollisionConfig(clearance_m=0.0, plane_clearance_m=0.0, open_margin_m=0.01,
                         wide_margin_m=0.01, min_margin_m=0.002)


def block(width=0.04, top=0.1):
    """Two faces at y = +-width/2, 30 mm down from the top."""
    z = np.linspace(top - 0.03, top, 11)
    points = [[x, side * width / 2, height] for x in (-0.004, 0.0, 0.004)
              for side in (-1, 1) for height in z]
    points = np.array(points)
    return points, np.sign(points[:, 1:2]) * [0, 1, 0]


def close(*others, width=0.04, expected=None, reach=0.02, top=0.1, support=True, config=CONFIG):
    """Come from above onto the middle of the block's top."""
    points, normals = block(width, top)
    all_points = np.concatenate([points, np.array(others).reshape(-1, 3)]).astype(np.float32)
    number, total = len(points), len(points) + len(others)
    around = Obstacles(
        all_points, np.concatenate([normals, np.zeros((len(others), 3))]).astype(np.float32),
        np.arange(total) < number, np.ones(total, np.float32), np.ones(total, np.float32),
        support)
    down = np.array([[[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]]])
    hypothesis = Hypotheses(np.array([[0.0, 0.0, top]]), down,
                            np.array([width if expected is None else expected]),
                            np.array([reach]), np.array([PAIR]))
    found = close_hand(hypothesis, around, HAND, config)
    return {name: value[0] for name, value in vars(found).items()}


def test_nothing_in_the_way():
    found = close()
    assert found['state'] == collision.GOOD
    assert found['sink'] == pytest.approx(0.02)
    assert found['width'] == pytest.approx(0.04, abs=1e-6)
    assert found['opening'] == pytest.approx(0.06, abs=1e-6)
    assert found['shift'] == pytest.approx(0.0, abs=1e-6)
    assert found['cosine'] == pytest.approx([1, 1])
    assert (found['count'] == 30).all() and found['neighbours'] == 0


def test_the_jaw_opens_wide_where_that_costs_nothing():
    config = dataclasses.replace(CONFIG, wide_margin_m=0.018)
    assert close(config=config)['opening'] == pytest.approx(0.076, abs=1e-6)
    # Crumbs do not count, unless the jaw would take them along or run into them.
    assert close([0.0, 0.06, 0.02], config=config)['opening'] == pytest.approx(0.076, abs=1e-6)
    assert close([0.0, 0.045, 0.09], config=config)['opening'] == pytest.approx(0.06, abs=1e-6)
    beside = np.full((40, 3), [0.0, 0.06, 0.03])
    assert close(*beside, config=config)['opening'] == pytest.approx(0.06, abs=1e-6)
    # Nothing hides behind what is low.
    low = np.full((40, 3), [0.0, 0.06, 0.015])
    assert close(*low, config=config)['opening'] == pytest.approx(0.076, abs=1e-6)


def test_the_first_point_in_a_column_bounds_the_depth():
    # A finger lies from 30 to 40 mm aside; its tip is 10 mm beyond the TCP.
    assert close([0.0, 0.035, 0.09])['sink'] == pytest.approx(0.0, abs=1e-6)
    assert close([0.0, 0.035, 0.085])['sink'] == pytest.approx(0.005, abs=1e-6)
    # Beside the finger, a point is free, but not for the palm 40 mm behind the TCP.
    assert close([0.0, 0.05, 0.09])['sink'] == pytest.approx(0.02)
    assert close([0.02, 0.05, 0.13])['sink'] == pytest.approx(0.01, abs=1e-6)
    assert close([0.0, 0.09, 0.2])['sink'] == pytest.approx(0.02)


def test_the_approach_counts_and_what_is_behind_its_start_does_not():
    behind = HAND.palm_depth + CONFIG.approach_m - HAND.palm_z
    assert close([0.0, 0.0, 0.1 + behind - 0.01])['state'] == collision.BLOCKED
    assert close([0.0, 0.0, 0.1 + behind + 0.01])['state'] == collision.GOOD


def test_the_support_is_a_half_space():
    low = close(reach=0.045, top=0.05)
    assert low['sink'] == pytest.approx(0.04)  # tips at z = 0
    free = close(reach=0.045, top=0.05, support=False)
    assert free['sink'] == pytest.approx(0.04, abs=1e-6)  # the palm meets the top of the block
    tips = 0.05 - low['sink'] - HAND.tip_length
    assert tips == pytest.approx(0.0)


def test_too_wide_measured_or_told():
    assert close(width=0.079)['state'] == collision.TOO_WIDE
    assert close(width=0.079, expected=np.nan)['state'] == collision.TOO_WIDE
    assert close(width=0.074)['state'] == collision.GOOD


def test_other_things_between_the_fingers_are_not_taken_along():
    few = [[0.0, 0.001 * i, 0.09] for i in range(3)]
    many = [[0.0, 0.001 * i, 0.09] for i in range(8)]
    assert close(*few)['state'] == collision.GOOD
    assert close(*many)['state'] == collision.COLLIDES


def test_one_view_sees_free_hidden_and_surface():
    y, z = np.meshgrid(np.linspace(-0.2, 0.2, 81), np.linspace(-0.2, 0.2, 81))
    wall = np.stack([np.full(y.shape, 1.0), y, z], axis=-1).reshape(-1, 3)
    seen = Visibility(wall, np.zeros(3))
    points = np.array([[0.9, 0, 0], [1.0, 0.05, 0.05], [1.1, 0, 0], [1.0, 0.5, 0], [-1.0, 0, 0]])
    assert seen.classify(points, 0.01).tolist() == [FREE, SURFACE, HIDDEN, UNSEEN, UNSEEN]


def test_the_back_of_a_cylinder_is_the_image_of_its_front():
    rng = np.random.default_rng(0)
    angle, height = rng.uniform(0, 2 * np.pi, 4000), rng.uniform(0, 0.1, 4000)
    radial = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    side = radial * 0.03 + np.stack([0 * angle, 0 * angle, height], axis=1)
    disc = 0.03 * np.sqrt(rng.random((3000, 1))) * radial[:3000] + [0, 0, 0.1]
    camera = np.array([0.4, 0.0, 0.4])
    towards = (radial * (camera - side)).sum(axis=1) > 0
    points = np.concatenate([side[towards], disc])
    normals = np.concatenate([radial[towards], np.tile([0.0, 0, 1], (3000, 1))])
    table = rng.uniform([-0.3, -0.3, 0], [0.3, 0.3, 0], (40000, 3))
    hidden = (table[:, 0] < 0.02) & (table[:, 0] > -0.2) & (np.abs(table[:, 1]) < 0.045)
    seen = Visibility(np.concatenate([points, table[~hidden]]), camera)
    back = complete(points, normals, seen, 0.003, rng)
    assert np.linalg.norm(back.centre) < 0.006
    assert len(back.points) > 500 and (back.points[:, 0] < 0.012).all()
    radius = np.linalg.norm(back.points[:, :2], axis=1)
    assert np.abs(radius - 0.03).max() < 0.01
    outward = (back.normals[:, :2] * back.points[:, :2]).sum(axis=1) / radius
    assert np.median(outward) > 0.97
