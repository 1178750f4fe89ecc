"""Patterns of colour and bumps of the material library, in object coordinates [m]."""
from __future__ import annotations

import numpy as np

from .print import printed

PAPERS = ((0.82, 0.8, 0.76), (0.78, 0.73, 0.62), (0.7, 0.72, 0.73), (0.05, 0.05, 0.055))
INKS = ((0.42, 0.06, 0.05), (0.05, 0.12, 0.3), (0.07, 0.2, 0.1), (0.66, 0.48, 0.14),
        (0.04, 0.04, 0.045), (0.8, 0.79, 0.76), (0.5, 0.4, 0.26))
"""What labels and bands of packages are printed on and with."""


def _field(tree, kind: str, grain_m: float, rng: np.random.Generator, stretch=(1.0, 1.0, 1.0),
           **inputs):
    """Return a texture node whose pattern repeats about every `grain_m` metres."""
    coordinates = tree.nodes.new('ShaderNodeTexCoord')
    mapping = tree.nodes.new('ShaderNodeMapping')
    mapping.inputs['Scale'].default_value = [s / grain_m for s in stretch]
    mapping.inputs['Location'].default_value = rng.uniform(-9, 9, 3)
    node = tree.nodes.new(f'ShaderNodeTex{kind}')
    node.inputs['Scale'].default_value = 1.0
    for key, value in inputs.items():
        node.inputs[key].default_value = value
    tree.links.new(coordinates.outputs['Object'], mapping.inputs['Vector'])
    tree.links.new(mapping.outputs['Vector'], node.inputs['Vector'])
    return node


def _ramp(tree, value, colors: list, places: list):
    node = tree.nodes.new('ShaderNodeValToRGB')
    ramp = node.color_ramp
    while len(ramp.elements) < len(colors):
        ramp.elements.new(0.5)
    for element, color, place in zip(ramp.elements, colors, places):
        element.position, element.color = place, (*np.clip(color, 0.003, 0.95), 1.0)
    tree.links.new(value, node.inputs['Fac'])
    return node.outputs['Color']


def colored(tree, values: dict, rng: np.random.Generator):
    """Return the colour socket of the material's pattern, or None where it is uniform."""
    if values['texture'] not in PATTERNS:
        return None
    return PATTERNS[values['texture']](tree, values['color'], values['grain_m'], rng)


def _mottled(tree, color, grain_m, rng):
    node = _field(tree, 'Noise', grain_m, rng, Detail=4.0)
    return _ramp(tree, node.outputs['Fac'], [0.75 * color, 1.2 * color], [0.3, 0.7])


def _wood(tree, color, grain_m, rng):
    node = _field(tree, 'Wave', grain_m, rng, stretch=(0.35, 0.35, 0.05),
                  Distortion=rng.uniform(3, 7), Detail=3.0)
    node.inputs['Detail Scale'].default_value = 1.5
    return _ramp(tree, node.outputs['Fac'], [0.62 * color, 0.9 * color, 1.15 * color],
                 [0.1, 0.5, 0.9])


def _weave(tree, color, grain_m, rng):
    node = _field(tree, 'Checker', grain_m, rng)
    node.inputs['Color1'].default_value = (*np.clip(0.8 * color, 0.003, 0.95), 1.0)
    node.inputs['Color2'].default_value = (*np.clip(1.2 * color, 0.003, 0.95), 1.0)
    return node.outputs['Color']


def _print(tree, color, grain_m, rng):
    band = np.array(INKS[rng.integers(len(INKS))])
    label = np.array(PAPERS[rng.integers(len(PAPERS))]) * rng.uniform(0.85, 1.05)
    return printed(tree, [color, band, label], 'Z', rng)


def _speckle(tree, color, grain_m, rng):
    node = _field(tree, 'Noise', grain_m, rng, Detail=2.0)
    spots = color * rng.uniform(0.35, 0.8)
    return _ramp(tree, node.outputs['Fac'], [spots, color], [0.36, 0.44])


PATTERNS = {'mottled': _mottled, 'wood': _wood, 'weave': _weave, 'print': _print,
            'speckle': _speckle}


def bumps(tree, values: dict, rng: np.random.Generator):
    """Return the normal socket of a bumped surface, or None where it is smooth."""
    if values['bump_m'] <= 0:
        return None
    if values['texture'] == 'weave':
        height = _field(tree, 'Checker', values['grain_m'], rng).outputs['Fac']
    elif values['kind'] == 'opaque':
        height = _field(tree, 'Noise', values['grain_m'], rng, Detail=4.0).outputs['Fac']
    else:
        node = _field(tree, 'Voronoi', values['grain_m'], rng)
        node.feature = 'SMOOTH_F1'
        node.inputs['Smoothness'].default_value = 0.05 if values['texture'] == 'creased' else 0.4
        height = node.outputs['Distance']
    bump = tree.nodes.new('ShaderNodeBump')
    bump.inputs['Strength'].default_value = 1.0
    bump.inputs['Distance'].default_value = values['bump_m']
    tree.links.new(height, bump.inputs['Height'])
    return bump.outputs['Normal']
