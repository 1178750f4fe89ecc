"""
Weighted draws: what a thing is, what it is made of, what is poured into it. numpy only; no bpy.

`FITTING` says what the families are made of in life, so that most scenes look like photographs.
"""
from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

GLASS = ('clear_glass', 'crystal', 'borosilicate', 'green_glass', 'brown_glass', 'blue_glass',
         'rose_glass', 'smoked_glass', 'hammered_glass', 'frosted_glass', 'opal_glass')
CLEAR_PLASTIC = ('pet', 'acrylic', 'polycarbonate', 'frosted_plastic', 'polypropylene')
PLASTIC = ('matt_plastic', 'satin_plastic')
METAL = ('steel', 'brushed_steel', 'chrome', 'copper', 'brass', 'bronze', 'silver', 'gold',
         'aluminium', 'turned_aluminium', 'hammered_copper')
CERAMIC = ('glazed_ceramic', 'porcelain', 'stoneware', 'terracotta', 'enamel')
WOOD = ('wood', 'painted_wood', 'lacquer')
LABORATORY = ('borosilicate', 'clear_glass', 'polypropylene', 'polycarbonate')
SOLID = ('clear_resin', 'acrylic', 'crystal', 'alabaster', 'rubber', 'concrete')

FITTING = {
    'tumbler': (*GLASS, *CLEAR_PLASTIC, 'steel', 'brushed_steel', 'copper', 'porcelain',
                'stoneware', 'matt_plastic'),
    'wine_glass': (*GLASS, 'acrylic', 'polycarbonate', 'silver', 'brass'),
    'bottle': (*GLASS, 'pet', 'polycarbonate', 'frosted_plastic', 'polypropylene', 'steel',
               'brushed_steel', 'aluminium', 'matt_plastic', 'stoneware'),
    'carafe': (*GLASS, 'steel', 'copper', 'porcelain', 'stoneware', 'glazed_ceramic'),
    'jar': (*GLASS, *CLEAR_PLASTIC, *CERAMIC),
    'bowl': (*GLASS, *CLEAR_PLASTIC, *METAL, *CERAMIC, *WOOD, *PLASTIC),
    'plate': (*GLASS, *CERAMIC, *PLASTIC, 'steel', 'silver', 'wood'),
    'vase': (*GLASS, *CERAMIC, 'brass', 'bronze', 'copper', 'lacquer'),
    'mug': ('clear_glass', 'borosilicate', 'smoked_glass', 'opal_glass', *CERAMIC, *PLASTIC,
            'steel', 'brushed_steel', 'copper'),
    'jug': (*GLASS, *CLEAR_PLASTIC, *CERAMIC, 'steel', 'copper', 'brass', 'silver'),
    'beaker': (*LABORATORY, 'pet', 'steel'), 'test_tube': LABORATORY,
    'flask': (*LABORATORY, 'brown_glass'),
    'spoon': (*METAL, 'wood', 'matt_plastic', 'polycarbonate', 'porcelain'),
    'ladle': (*METAL, 'wood', 'satin_plastic', 'polycarbonate'),
    'lens': ('clear_glass', 'crystal', 'acrylic', 'clear_resin', 'polycarbonate'),
    'ornament': (*SOLID, *METAL, *WOOD, 'clear_glass', 'blue_glass', 'rose_glass', 'porcelain',
                 'mirror', 'frosted_glass'),
    'box': (*WOOD, *PLASTIC, 'printed_carton', 'cardboard', 'foil', 'gold_foil', 'fabric',
            'acrylic', 'concrete', 'ice'),
    'sphere': (*WOOD, *PLASTIC, *SOLID, 'clear_glass', 'blue_glass', 'mirror', 'chrome', 'cork',
               'car_paint', 'fabric', 'wax', 'ice', 'gold'),
    'can': ('aluminium', 'turned_aluminium', 'steel', 'car_paint', 'printed_carton', 'copper',
            'enamel'),
    'cylinder': (*WOOD, *PLASTIC, *SOLID, 'wax', 'brass', 'aluminium', 'cork', 'foil',
                 'cardboard'),
    'cone': (*WOOD, *PLASTIC, *SOLID, 'brass', 'terracotta', 'clear_glass', 'wax'),
    'ring': (*WOOD, *PLASTIC, 'rubber', 'brass', 'chrome', 'copper', 'acrylic', 'car_paint'),
    'free_vessel': (*GLASS, *CLEAR_PLASTIC, *METAL, *CERAMIC),
    'free_solid': (*SOLID, *METAL, 'clear_glass', 'borosilicate', 'polycarbonate')}
COMMON = {'clear_glass': 5.0, 'borosilicate': 2.0, 'pet': 2.0, 'steel': 2.0, 'porcelain': 1.5,
          'printed_carton': 2.0, 'ice': 0.3, 'mirror': 0.5, 'gold': 0.4, 'gold_foil': 0.4,
          'bottle': 1.5, 'tumbler': 1.8, 'wine_glass': 1.5, 'test_tube': 0.7, 'water': 4.0}
"""What is met more or less often than its neighbours in a group."""
POURED = {'wine_glass': ('red_wine', 'white_wine', 'water'), 'vase': ('water',),
          'mug': ('tea', 'milk', 'cola', 'water'), 'bowl': ('water', 'milk', 'oil'),
          'free_vessel': ('dye',)}
"""What some vessels hold; the others hold anything but dye."""


def spread(weights: Mapping[str, float], groups: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """
    Return the weight of each member: its own and its share of those of its groups.

    Parameters
    ----------
    weights : mapping
        From names of groups or of members to numbers >= 0.
    groups : mapping
        From each group to its members.

    Raises
    ------
    ValueError
        For a name that is neither, with the allowed ones.

    """
    members = {name: 0.0 for names in groups.values() for name in names}
    for key, weight in weights.items():
        if key not in groups and key not in members:
            raise ValueError(f'{key!r} is unknown; allowed: {", ".join([*groups, *members])}')
        shared = {name: COMMON.get(name, 1.0) for name in groups.get(key, (key,))}
        for name, share in shared.items():
            members[name] += weight * share / sum(shared.values())
    return members


def pick(weights: Mapping[str, float], rng: np.random.Generator,
         among: Collection[str] | None = None) -> str:
    """Draw a name; of those in `among` where that leaves any with a weight."""
    if among is not None:
        masked = {name: weight for name, weight in weights.items() if name in among}
        weights = masked if any(masked.values()) else weights
    total = sum(weights.values())
    return list(weights)[rng.choice(len(weights), p=[w / total for w in weights.values()])]


def suited(families: Mapping[str, float], materials: Mapping[str, float]) -> set[str]:
    """Return the families that are made of one of the materials in life."""
    wanted = {name for name, weight in materials.items() if weight > 0}
    return {name for name in families if wanted & set(FITTING.get(name, wanted))}


def liquid_weights(family: str, liquids: Collection[str]) -> dict[str, float]:
    """Return how often each liquid is poured into a family."""
    drinks = [name for name in liquids if name != 'dye']
    return {name: COMMON.get(name, 1.0) for name in POURED.get(family, drinks)}
