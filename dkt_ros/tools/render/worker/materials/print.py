"""Print on books, cartons and cans: a band, a label and lines of words on it."""
from __future__ import annotations

import numpy as np

WORD_M, LINE_M, SPACE_M = 0.005, 0.0032, 0.0017


def printed(tree, colors: list[np.ndarray], up: str, rng: np.random.Generator):
    """
    Lay out a print over the whole thing, however large it is.

    Parameters
    ----------
    colors : list of (3,) float
        Of the ground, the band and the label.
    up : str
        Axis of the thing that the lines are stacked along: Y of what lies, Z of what stands.

    Returns
    -------
    bpy.types.NodeSocket
        The colour.

    """
    coordinates = tree.nodes.new('ShaderNodeTexCoord')
    within = tree.nodes.new('ShaderNodeSeparateXYZ')
    tree.links.new(coordinates.outputs['Generated'], within.inputs[0])
    across, along = within.outputs['X'], within.outputs[up]
    low = rng.uniform(0.05, 0.7)
    band = _between(tree, along, low, low + rng.uniform(0.08, 0.25))
    half_width, bottom = rng.uniform(0.2, 0.42), rng.uniform(0.15, 0.55)
    label = _math(tree, 'MULTIPLY', _between(tree, across, 0.5 - half_width, 0.5 + half_width),
                  _between(tree, along, bottom, bottom + rng.uniform(0.15, 0.35)))
    words = _math(tree, 'SUBTRACT', label, _gaps(tree, coordinates.outputs['Object'], up, rng))
    ground, stripe, field = colors
    ink = 0.12 * field if field.mean() > 0.25 else np.minimum(field + 0.6, 0.85)
    color = _mixed(tree, band, ground, stripe)
    return _mixed(tree, words, _mixed(tree, label, color, field), ink)


def _between(tree, value, low: float, high: float):
    """Return a socket that is 1 where `value` lies in a range, else 0."""
    return _math(tree, 'COMPARE', value, 0.5 * (low + high), 0.5 * (high - low))


def _math(tree, operation: str, *values):
    node = tree.nodes.new('ShaderNodeMath')
    node.operation, node.use_clamp = operation, True
    for socket, value in zip(node.inputs, values):
        _give(tree, value, socket)
    return node.outputs[0]


def _give(tree, value, socket) -> None:
    if isinstance(value, float):
        socket.default_value = value
    elif isinstance(value, np.ndarray):
        socket.default_value = (*np.clip(value, 0.003, 0.95), 1.0)
    else:
        tree.links.new(value, socket)


def _mixed(tree, share, first, second):
    node = tree.nodes.new('ShaderNodeMixRGB')
    for key, value in (('Fac', share), ('Color1', first), ('Color2', second)):
        _give(tree, value, node.inputs[key])
    return node.outputs['Color']


def _gaps(tree, place, up: str, rng: np.random.Generator):
    """Return a socket that is 1 between the words and lines, 0 on them."""
    parts, flat = (tree.nodes.new(f'ShaderNode{kind}XYZ') for kind in ('Separate', 'Combine'))
    tree.links.new(place, parts.inputs[0])
    # Both sides of a standing carton carry words: they run on around its corner.
    run = parts.outputs['X'] if up == 'Y' else _sum(tree, parts.outputs['X'], parts.outputs['Y'])
    tree.links.new(run, flat.inputs['X'])
    tree.links.new(parts.outputs[up], flat.inputs['Y'])
    node, size = tree.nodes.new('ShaderNodeTexBrick'), rng.uniform(0.7, 1.4)
    node.squash, node.squash_frequency, node.offset = 1.6, 3, 0.37
    for key, value in (('Scale', 1.0), ('Brick Width', size * WORD_M),
                       ('Row Height', size * LINE_M), ('Mortar Size', 0.5 * size * SPACE_M),
                       ('Mortar Smooth', 0.0)):
        node.inputs[key].default_value = value
    tree.links.new(flat.outputs[0], node.inputs['Vector'])
    return node.outputs['Fac']


def _sum(tree, one, two):
    node = tree.nodes.new('ShaderNodeMath')
    tree.links.new(one, node.inputs[0])
    tree.links.new(two, node.inputs[1])
    return node.outputs[0]
