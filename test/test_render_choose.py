"""What the renderer draws: weights, what fits what, and the options that name them."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dkt_ros.config import ObjectsConfig, RenderConfig
from dkt_ros.errors import UserError
from dkt_ros.tools.grasp_sim.solids import materials_of
from dkt_ros.tools.render import run
from dkt_ros.tools.render.worker import choose
from dkt_ros.tools.render.worker.material_table import LIBRARY, LIQUIDS
from dkt_ros.tools.render.worker.shapes import FAMILIES as TABLETOP
from dkt_ros.tools.render.worker.shapes import FREE, GROUPS, VESSELS
from dkt_ros.tools.render.worker.shapes import LIBRARY as FAMILIES

PRESET = RenderConfig.from_dict({'preset': 'transphy3d'})


def test_every_family_has_materials_and_every_material_a_family():
    assert set(choose.FITTING) == set(FAMILIES)
    assert {name for names in choose.FITTING.values() for name in names} == set(LIBRARY)
    assert set(choose.COMMON) <= set(FAMILIES) | set(LIBRARY) | set(LIQUIDS)
    assert set(choose.POURED) <= {*VESSELS, *FREE}
    assert {name for names in choose.POURED.values() for name in names} <= set(LIQUIDS)


def test_unseen_things_are_none_that_training_may_have():
    options = RenderConfig.from_yaml(
        Path(__file__).parents[1] / 'config' / 'eval_unseen.yaml')
    run.require_known(options)
    assert set(options.objects.families) == set(FAMILIES) - {*TABLETOP, *FREE}
    trained = {name for family in TABLETOP for label in ('transparent', 'reflective', 'diffuse')
               for name in materials_of(family, label, 'tabletop-v1')}
    assert not set(options.material_weights) & (trained | {'frosted_glass'})
    # A class for the first thing, or a misfit, would bring back what training has.
    assert options.first_material == '' and options.objects.fitting == 1.0


def test_free_shapes_share_nothing_with_the_unseen():
    config = Path(__file__).parents[1] / 'config'
    free, unseen = (RenderConfig.from_yaml(config / f'{name}.yaml')
                    for name in ('free_shapes', 'eval_unseen'))
    run.require_known(free)
    assert set(free.objects.families) == set(FREE)
    assert not set(free.material_weights) & set(unseen.material_weights)
    assert free.objects.fitting == 0.0  # no room of wood, stone or cloth
    assert set(choose.liquid_weights('free_vessel', LIQUIDS)) == {'dye'}
    assert not any('dye' in choose.liquid_weights(family, LIQUIDS)
                   for family in unseen.objects.families)


def test_a_group_shares_its_weight_among_its_members():
    groups = {'left': ('a', 'b'), 'right': ('water', 'c')}
    assert choose.spread({'left': 1.0, 'b': 2.0}, groups) == {
        'a': 0.5, 'b': 2.5, 'water': 0.0, 'c': 0.0}
    # Water is common: four times as likely as its neighbour.
    assert choose.spread({'right': 5.0}, groups)['water'] == 4.0
    with pytest.raises(ValueError, match="'d' is unknown; allowed: left, right, a, b"):
        choose.spread({'d': 1.0}, groups)


def test_draws_follow_the_weights_and_the_mask():
    rng = np.random.default_rng(0)
    weights = {'a': 3.0, 'b': 1.0, 'c': 0.0}
    drawn = [choose.pick(weights, rng) for _ in range(400)]
    assert 0.65 < drawn.count('a') / 400 < 0.85 and 'c' not in drawn
    assert {choose.pick(weights, rng, ['b', 'c']) for _ in range(20)} == {'b'}
    # A mask that leaves nothing is no mask.
    assert choose.pick({'a': 1.0, 'c': 0.0}, rng, ['c']) == 'a'


def test_only_families_that_a_material_suits_are_drawn_for_it():
    families = choose.spread({'vessels': 1.0, 'distractors': 1.0}, GROUPS)
    assert choose.suited(families, {'cork': 1.0, 'steel': 0.0}) == {'sphere', 'cylinder'}


@pytest.mark.parametrize(('change', 'named'), [
    ({'material_weights': {'glass': 1.0}}, "material_weights: 'glass' is unknown"),
    ({'first_material': 'glas'}, "first_material: 'glas' is unknown"),
    ({'objects': ObjectsConfig(families={'cups': 1.0})}, "families: 'cups' is unknown")])
def test_a_weight_of_something_unknown_is_refused(change, named):
    run.require_known(PRESET)
    run.require_known(RenderConfig())
    with pytest.raises(UserError, match=named):
        run.require_known(replace(PRESET, **change))


@pytest.mark.parametrize('weights', [{'vessels': -1.0}, {'vessels': 0.0}, {}, {'vessels': 'all'}])
def test_weights_are_numbers_of_which_one_counts(weights):
    with pytest.raises(UserError, match='a weight >= 0 by name'):
        ObjectsConfig(families=weights)
