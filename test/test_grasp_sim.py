"""The simulated benchmark proves itself: what must hold holds, what must fail fails."""
import dataclasses

import numpy as np
import pytest

from dkt_ros.grasp.grasp import Grasp, load_gripper
from dkt_ros.grasp_sim_config import PhysicsConfig, ProtocolConfig

pytest.importorskip('mujoco')

from dkt_ros.tools.grasp_sim.protocol import attempt, meant  # noqa: E402
from dkt_ros.tools.grasp_sim.solids import (  # noqa: E402
    Solid,
    fits,
    make_solid,
    sheet_mass,
    volume_mass,
)
from dkt_ros.tools.grasp_sim.world import World  # noqa: E402

PANDA = load_gripper('panda_hand')
PHYSICS, PROTOCOL = PhysicsConfig(), ProtocolConfig()
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (0, 2)], float)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def block(half=(0.02, 0.02, 0.02), density=500.0):
    vertices = CORNERS * half
    triangles = np.array([(a, *pair) for a, *rest in SIDES for pair in zip(rest, rest[1:])])
    return Solid('box', 'wood', 0, vertices, SIDES, (vertices,),
                 volume_mass(vertices, triangles, density), 0.03, 2 * half[2])


def from_above(x=0.0, y=0.0, z=0.02, opening=0.06):
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = x, y, z
    return Grasp(pose, 0.04, opening, 1.0)


def tried(solid, grasp, physics=PHYSICS, protocol=PROTOCOL):
    world = World([solid], [np.eye(4)], physics, PANDA)
    world.settle(0.5)
    return attempt(world, grasp, 0, protocol)


def test_a_right_grasp_holds_for_5_s_and_slips_less_than_a_millimetre():
    result = tried(block(), from_above(), protocol=dataclasses.replace(PROTOCOL, hold_s=5.0))
    assert result.success, result
    assert result.slip_m < 1e-3 and result.rise_m == pytest.approx(PROTOCOL.lift_m, abs=2e-3)


def test_a_grasp_beside_the_thing_misses():
    result = tried(block(), from_above(x=0.06))
    assert (result.success, result.cause) == (False, 'missed')


def test_without_friction_the_thing_slips():
    result = tried(block(), from_above(), dataclasses.replace(PHYSICS, pad_friction=0.0))
    assert (result.success, result.cause) == (False, 'slipped')


def test_one_seed_one_outcome():
    first, second = (tried(make_solid('mug', 'stoneware', 3, PHYSICS), from_above(0.04, 0, 0.06))
                     for _ in range(2))
    assert first == second


def test_what_is_wider_than_the_opening_collides():
    result = tried(block((0.02, 0.045, 0.02)), from_above(opening=PANDA.max_width))
    assert (result.success, result.cause) == (False, 'collision')


def test_a_thing_too_heavy_for_friction_is_not_lifted():
    # Two pads of 30 N and mu 0.6 carry 36 N.
    heavy = 36.0 / 9.81 / 0.04 ** 3
    assert tried(block(density=0.8 * heavy), from_above()).success
    assert not tried(block(density=1.2 * heavy), from_above()).success


def test_the_thing_meant_is_the_one_between_the_fingers():
    solids, poses = [block(), block()], [np.eye(4), np.eye(4)]
    poses[1][0, 3] = 0.08
    assert meant(from_above(x=0.08), solids, poses, PANDA) == 1
    assert meant(from_above(x=-0.2), solids, poses, PANDA) == 0


def test_mass_of_a_block_and_of_a_sheet():
    solid = block((0.01, 0.02, 0.03), 1000.0)
    mass = solid.mass
    assert mass.mass == pytest.approx(0.048)
    np.testing.assert_allclose(mass.centre, [0, 0, 0.03], atol=1e-12)
    sides = np.array([0.02, 0.04, 0.06]) ** 2
    np.testing.assert_allclose(np.diag(mass.inertia), 0.048 / 12 * (sides.sum() - sides))
    sheet = sheet_mass(solid.vertices, solid.triangles, 2.0)
    assert sheet.mass == pytest.approx(2.0 * 2 * (0.02 * 0.04 + 0.02 * 0.06 + 0.04 * 0.06))
    np.testing.assert_allclose(sheet.centre, [0, 0, 0.03], atol=1e-12)
    # A cube of sheet: I = 5/18 m a^2 about its centre.
    cube = block((0.05, 0.05, 0.05))
    inertia = sheet_mass(cube.vertices, cube.triangles, 1.0).inertia
    np.testing.assert_allclose(np.diag(inertia), 5 / 18 * 0.06 * 0.1 ** 2)


def test_a_hollow_glass_weighs_what_its_wall_does():
    glass = make_solid('tumbler', 'clear_glass', 1, PHYSICS)
    full = np.pi * glass.radius ** 2 * glass.height * 2500
    assert 0.03 < glass.mass.mass < 0.5 * full
    steel = make_solid('tumbler', 'steel', 1, PHYSICS)
    assert steel.mass.mass < 7850 / 2500 * glass.mass.mass  # 1 mm of sheet, not the glass's wall


def test_a_thing_fits_a_jaw_by_a_side_a_neck_or_a_rim():
    assert fits(block((0.03, 0.09, 0.05)), 0.08) and not fits(block((0.045, 0.09, 0.05)), 0.08)
    ball = make_solid('sphere', 'wood', 3, PHYSICS)
    assert fits(ball, 2 * ball.radius + 0.01) and not fits(ball, 2 * ball.radius - 0.002)
    bottle = make_solid('bottle', 'clear_glass', 3, PHYSICS)
    assert bottle.radius > 0.03 and not bottle.rim and fits(bottle, 0.05)
    bowl = make_solid('bowl', 'clear_glass', 3, PHYSICS)
    assert bowl.rim and bowl.radius > 0.04 and fits(bowl, 0.08)
