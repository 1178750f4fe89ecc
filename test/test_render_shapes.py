"""The library of shapes: closed, turned outwards, of life size, with walls; and liquids."""
import math
from collections import Counter

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from dkt_ros.tools.render.worker import shapes
from dkt_ros.tools.render.worker.shapes import mesh, profile
from dkt_ros.tools.render.worker.shapes.vessel import ribs, vessel

SEEDS = range(2)
ASKED = {'tumbler', 'wine_glass', 'bottle', 'carafe', 'jar', 'bowl', 'plate', 'vase', 'mug',
         'beaker', 'test_tube', 'flask', 'spoon', 'ladle', 'lens', 'ornament'}


def rng(seed=0):
    return np.random.default_rng(seed)


def is_closed(shape):
    edges = Counter(edge for face in shape.faces for edge in zip(face, face[1:] + face[:1]))
    return set(edges.values()) == {1} and all((b, a) in edges for a, b in edges)


def triangles(shape):
    corners = [(face[0], b, c) for face in shape.faces for b, c in zip(face[1:], face[2:])]
    return shape.vertices[np.array(corners)]


def volume(shape):
    a, b, c = triangles(shape).transpose(1, 0, 2)
    return np.einsum('ij,ij->', a, np.cross(b, c)) / 6


def crossings(surface, start, direction):
    """Distances along a ray at which it meets triangles (N, 3, 3), sorted [m]."""
    a, b, c = surface.transpose(1, 0, 2)
    e1, e2 = b - a, c - a
    p = np.cross(direction, e2)
    det = np.einsum('ij,ij->i', e1, p)
    with np.errstate(all='ignore'):
        u = np.einsum('ij,ij->i', start - a, p) / det
        q = np.cross(start - a, e1)
        v = q @ direction / det
        t = np.einsum('ij,ij->i', e2, q) / det
        hit = (np.abs(det) > 1e-18) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-9)
    return np.sort(t[hit])


def wall_at(shape, surface, level, angle):
    """Thickness of the wall at right angles to it, at a share of the inner height [m]."""
    z = shape.cavity.bottom[2] + level * (shape.height - shape.cavity.bottom[2])
    out = np.array([math.cos(angle), math.sin(angle), 0.0])
    near = crossings(surface, np.array([0.0, 0.0, z]), out)
    above = crossings(surface, np.array([0.0, 0.0, z + 0.0005]), out)
    return (near[1] - near[0]) * math.cos(math.atan((above[0] - near[0]) / 0.0005))


def test_the_families_asked_for_are_there():
    assert ASKED <= set(shapes.LIBRARY) - set(shapes.DISTRACTORS)
    assert len(shapes.DISTRACTORS) >= 4
    assert not set(shapes.VESSELS) & set(shapes.DISTRACTORS)


@pytest.mark.parametrize('family', shapes.LIBRARY)
def test_a_family_is_closed_turned_outwards_and_of_life_size(family):
    made = [shapes.LIBRARY[family](rng(seed)) for seed in SEEDS]
    for shape in made:
        assert is_closed(shape)
        assert volume(shape) > 1e-7
        assert {v for face in shape.faces for v in face} == set(range(len(shape.vertices)))
        a, b, c = triangles(shape).transpose(1, 0, 2)
        assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 1e-13
        assert shape.vertices[:, 2].min() == pytest.approx(0.0, abs=1e-9)
        assert shape.vertices[:, 2].max() == pytest.approx(shape.height)
        assert np.hypot(*shape.vertices[:, :2].T).max() == pytest.approx(shape.radius)
        sides = np.ptp(shape.vertices, axis=0)
        assert 0.03 < sides.max() < 0.36
        assert sides.min() > 0.004
    assert len({round(shape.radius, 6) for shape in made}) == len(made)


@pytest.mark.parametrize('family', shapes.LIBRARY)
def test_a_shape_depends_on_its_seed_alone(family):
    one, two = (shapes.LIBRARY[family](rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.vertices, two.vertices)
    assert one.faces == two.faces


@pytest.mark.parametrize('family', shapes.VESSELS)
def test_a_vessel_has_a_wall_of_real_thickness(family):
    for seed in SEEDS:
        shape = shapes.VESSELS[family](rng(seed))
        assert shape.hollow
        surface = triangles(shape)
        walls = [wall_at(shape, surface, level, angle) for level in (0.3, 0.5, 0.7)
                 for angle in (1.0, 4.0)]
        assert 0.0005 < min(walls) and max(walls) < 0.009
        floor = crossings(surface, np.array([1e-4, 2e-4, shape.height]), -np.eye(3)[2])
        assert len(floor) % 2 == 0 and floor[1] - floor[0] > 0.0008


def test_relief_changes_the_outside_only():
    outer = profile.join([(0.0, 0.0)], profile.smooth([(0.03, 0.0), (0.03, 0.1)]))
    smooth = vessel(outer, 0.003, 0.004)
    ribbed = vessel(outer, 0.003, 0.004, relief=ribs(12, 0.001, 0.0, 0.1))
    np.testing.assert_array_equal(smooth.cavity.rings, ribbed.cavity.rings)
    assert ribbed.radius == pytest.approx(smooth.radius + 0.001, abs=1e-5)


def test_the_wall_of_a_cone_is_measured_across_it():
    outer = profile.join([(0.0, 0.0)], profile.smooth([(0.02, 0.0), (0.05, 0.06)]))
    inner = profile.inside(outer, 0.002, 0.004)
    steep = inner[(inner[:, 1] > 0.015) & (inner[:, 1] < 0.05)]
    along = np.array([0.03, 0.06]) / math.hypot(0.03, 0.06)
    across = np.abs((steep - (0.02, 0.0)) @ (along[1], -along[0]))
    np.testing.assert_allclose(across, 0.002, atol=2e-5)


def test_a_handle_is_a_hole_one_can_reach_through():
    shape = shapes.LIBRARY['mug'](rng(1))
    assert 'handle' in shape.parts
    edges = sum(len(face) for face in shape.faces) // 2
    assert len(shape.vertices) - edges + len(shape.faces) == 0  # Euler: one hole
    ahead = crossings(triangles(shape), np.array([0.0, 1e-4, 0.5 * shape.height]),
                      np.array([1.0, 0.0, 0.0]))
    assert len(ahead) == 4  # the wall's two faces, then the handle's
    assert ahead[2] - ahead[1] > 0.012


@pytest.mark.parametrize('family', shapes.VESSELS)
def test_a_liquid_reaches_into_the_wall_but_not_through_it(family):
    shape = shapes.VESSELS[family](rng(2))
    liquid = shapes.fill(shape, 0.5, rng(0))
    assert is_closed(liquid) and volume(liquid) > 1e-6
    middle = liquid.vertices[:, 2].min() + 0.5 * liquid.height
    surfaces = triangles(shape), triangles(liquid)
    for angle in (1.0, 3.5):
        out = np.array([math.cos(angle), math.sin(angle), 0.0])
        start = np.array([0.0, 0.0, middle])
        glass, drink = (crossings(surface, start, out) for surface in surfaces)
        assert len(drink) == 1
        assert 0.00005 < drink[0] - glass[0] < 0.0012
        assert drink[0] < glass[1] - 0.0002


def test_more_is_poured_to_a_higher_level():
    shape = shapes.LIBRARY['tumbler'](rng(0))
    half, full = (shapes.fill(shape, level, rng(0)) for level in (0.45, 0.9))
    assert volume(full) == pytest.approx(2 * volume(half), rel=0.25)
    inner = shape.height - shape.cavity.bottom[2]
    assert full.vertices[:, 2].max() == pytest.approx(
        shape.cavity.bottom[2] + 0.9 * inner, abs=0.002)


def test_what_cannot_be_filled_is_named():
    with pytest.raises(ValueError, match='no cavity'):
        shapes.fill(shapes.LIBRARY['spoon'](rng(0)), 0.5, rng(0))
    with pytest.raises(ValueError, match='1.2'):
        shapes.fill(shapes.LIBRARY['bowl'](rng(0)), 1.2, rng(0))


@pytest.mark.parametrize(('family', 'total'), [
    ('tumbler', 117.21083059370605), ('jar', 219.4597650991812), ('bottle', 308.13075125626875),
    ('bowl', 129.60602764616624), ('wine_glass', 348.71653265656903),
    ('sphere', 73.35435021726154), ('box', 0.8149157932514053)])
def test_tabletop_v1_draws_what_it_always_drew(family, total):
    shape = shapes.FAMILIES[family](rng(900))
    assert np.abs(shape.vertices).sum() == pytest.approx(total, rel=1e-9)


def test_a_tube_ends_in_a_point_where_it_has_no_second_hole():
    rings = mesh.revolve(np.array([[0.02, z] for z in np.linspace(0, 0.05, 11)]), 24)
    patch = mesh.Patch((4, 6), (-1, 1))
    body = mesh.loft(rings, np.zeros(3), np.array([0, 0, 0.05]), frozenset(patch.cells(24)))
    loop = patch.loop(24)
    path = np.linspace((0.02, 0, 0.025), (0.06, 0, 0.04), 9)
    grown = mesh.tube_rings(path, np.full(9, 0.002), np.full(9, 0.002), body[0][loop])
    shape = mesh.measured(*mesh.graft(*body, loop, grown))
    assert is_closed(shape)
    assert shape.radius == pytest.approx(0.06, abs=0.003)


def outside_pieces(shape, points):
    """Return how far points lie outside of the nearest hull of a piece; negative inside [m]."""
    hulls = [ConvexHull(shape.vertices[piece]).equations for piece in shape.pieces]
    return np.min([(points @ h[:, :3].T + h[:, 3]).max(axis=1) for h in hulls], axis=0)


@pytest.mark.parametrize('family', ['bowl', 'mug', 'wine_glass', 'plate', 'bottle', 'ladle',
                                    'spoon', 'ring', 'ornament'])
@pytest.mark.parametrize('seed', SEEDS)
def test_convex_pieces_cover_the_surface_and_leave_the_inside_free(family, seed):
    shape = shapes.LIBRARY[family](rng(seed))
    assert len(shape.pieces) < 80
    assert outside_pieces(shape, shape.vertices).max() < 0.0005
    if family in ('bowl', 'mug', 'wine_glass', 'plate'):
        rings = shape.cavity.rings
        free = np.concatenate([rings[-1], rings[2 * len(rings) // 3]]) * (0.9, 0.9, 1)
        assert outside_pieces(shape, free + (0, 0, 0.002)).min() > 0.001
    if family == 'ring':
        assert outside_pieces(shape, np.array([[0.0, 0.0, shape.height / 2]])) > 0.005
