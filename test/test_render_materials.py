"""The table of materials: classes, physical ranges, draws, and the law of Beer and Lambert."""
import numpy as np
import pytest

from dkt_ros.material import Material
from dkt_ros.tools.render.worker import material_table as table

EVERY = {**table.LIBRARY, **table.LIQUIDS}


def test_there_are_thirty_in_four_classes_and_their_numbers_are_the_package_s():
    assert len(table.LIBRARY) >= 30
    found = {spec.material_class for spec in table.LIBRARY.values()}
    assert found == set(Material) - {Material.BACKGROUND}
    assert table.CLASSES == {kind.label: kind for kind in Material if kind}
    assert {'water', 'tea', 'juice', 'oil', 'red_wine'} <= set(table.LIQUIDS)
    assert not set(table.LIBRARY) & set(table.LIQUIDS)


@pytest.mark.parametrize('name', EVERY)
def test_the_ranges_are_physical(name):
    spec = EVERY[name]
    assert spec.kind in table.KINDS and spec.texture in table.TEXTURES
    for field in (*table.SCALARS, 'strength'):
        low, high = getattr(spec, field)
        assert 0.0 <= low <= high
    assert 1.3 <= spec.ior[0] and spec.ior[1] <= 1.9
    for field in ('roughness', 'coat_roughness', 'anisotropy', 'metallic', 'transmission'):
        assert getattr(spec, field)[1] <= 1.0
    assert all(0.0 <= c <= 1.0 for color in spec.colors for c in color)
    assert all(a >= 0.0 for sigma in spec.absorption for a in sigma)
    assert spec.bump_m[1] < 0.4 * spec.grain_m[1]


@pytest.mark.parametrize(('name', 'index'), [
    ('water', 1.333), ('ice', 1.31), ('borosilicate', 1.473), ('acrylic', 1.491), ('pet', 1.575),
    ('polycarbonate', 1.585), ('clear_glass', 1.52), ('oil', 1.47)])
def test_what_is_known_of_a_substance_lies_in_its_range(name, index):
    low, high = EVERY[name].ior
    assert low <= index <= high and high - low < 0.05


@pytest.mark.parametrize('name', EVERY)
def test_a_draw_lies_in_the_ranges_and_depends_on_the_seed_alone(name):
    spec = EVERY[name]
    for seed in range(5):
        drawn, again = (table.draw(name, np.random.default_rng(seed)) for _ in range(2))
        for field in table.SCALARS:
            low, high = getattr(spec, field)
            assert low <= drawn[field] <= high
            assert drawn[field] == again[field]
        assert (0 < drawn['color']).all() and (drawn['color'] < 1).all()
        np.testing.assert_array_equal(drawn['absorption'], again['absorption'])
    assert drawn['material_class'] == spec.material_class


def test_what_stands_behind_clear_things_is_seen_and_what_is_frosted_blurs():
    for name, spec in table.LIBRARY.items():
        if spec.material_class == Material.TRANSPARENT:
            assert spec.kind == 'dielectric' and spec.roughness[1] <= 0.1
            strongest = spec.strength[1] * np.array(spec.absorption)
            assert table.transmittance(strongest, 0.004).max(axis=1).min() > 0.4, name
        if spec.material_class == Material.TRANSLUCENT and spec.kind == 'dielectric':
            assert spec.roughness[1] > 0.2


def test_the_color_of_metals_comes_from_their_constants():
    shine = {name: table.normal_reflectance(table.LIBRARY[name].n, table.LIBRARY[name].k)
             for name in ('gold', 'copper', 'silver', 'aluminium', 'steel', 'chrome', 'mirror')}
    assert shine['gold'][0] > 0.9 > 0.5 > shine['gold'][2]
    assert shine['copper'][0] > shine['copper'][1] > shine['copper'][2]
    assert shine['silver'].min() > 0.88 and shine['aluminium'].min() > 0.88
    assert 0.45 < shine['steel'].min() and shine['steel'].max() < 0.7
    for rgb in shine.values():
        assert (0 < rgb).all() and (rgb < 1).all()


def test_absorption_grows_with_thickness_and_cycles_gets_the_same():
    sigma = np.array([40.0, 130.0, 380.0])
    np.testing.assert_allclose(table.transmittance(sigma, 0.01),
                               table.transmittance(sigma, 0.005) ** 2)
    color, density = table.volume_color(sigma)
    np.testing.assert_allclose(density * (1 - color), sigma)
    assert (0 <= color).all() and (color <= 1).all()
    np.testing.assert_array_equal(table.volume_color(np.zeros(3))[0], 1.0)
    assert table.volume_color(np.zeros(3))[1] == 0.0


def test_an_unknown_material_is_named():
    with pytest.raises(ValueError, match="'unobtainium'.*clear_glass.*water"):
        table.draw('unobtainium', np.random.default_rng(0))
