"""Cycles materials by class, in physical ranges, and procedural textures of the surroundings."""
from __future__ import annotations

import bpy
import numpy as np

TRANSPARENT, TRANSLUCENT, REFLECTIVE, DIFFUSE = 1, 2, 3, 4


def _new(name: str) -> tuple:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    return material, tree, tree.nodes.new('ShaderNodeOutputMaterial')


def _principled(tree, **values):
    node = tree.nodes.new('ShaderNodeBsdfPrincipled')
    for key, value in values.items():
        node.inputs[key.replace('_', ' ')].default_value = value
    return node


def dielectric(name: str, ior: float, roughness: float, tint: tuple) -> bpy.types.Material:
    """
    Make clear or frosted glass or plastic.

    Shadow rays pass straight through with the tint: Cycles would otherwise need caustics to light
    what stands behind glass, at a hundred times the samples.
    """
    material, tree, output = _new(name)
    glass = tree.nodes.new('ShaderNodeBsdfGlass')
    glass.inputs['IOR'].default_value = ior
    glass.inputs['Roughness'].default_value = roughness
    glass.inputs['Color'].default_value = (*tint, 1.0)
    clear = tree.nodes.new('ShaderNodeBsdfTransparent')
    clear.inputs['Color'].default_value = (*(0.93 * np.array(tint)), 1.0)
    path, mix = tree.nodes.new('ShaderNodeLightPath'), tree.nodes.new('ShaderNodeMixShader')
    tree.links.new(path.outputs['Is Shadow Ray'], mix.inputs['Fac'])
    tree.links.new(glass.outputs['BSDF'], mix.inputs[1])
    tree.links.new(clear.outputs['BSDF'], mix.inputs[2])
    tree.links.new(mix.outputs['Shader'], output.inputs['Surface'])
    return material


def glass(rng: np.random.Generator) -> tuple:
    """Make glass or crystal, seldom tinted."""
    tint = (1.0, 1.0, 1.0) if rng.random() < 0.75 else tuple(rng.uniform(0.72, 1.0, 3))
    return dielectric('glass', rng.uniform(1.46, 1.56), 0.0, tint), TRANSPARENT


def clear_plastic(rng: np.random.Generator) -> tuple:
    """Make PET, acrylic or polycarbonate, slightly rough."""
    tint = (1.0, 1.0, 1.0) if rng.random() < 0.7 else tuple(rng.uniform(0.75, 1.0, 3))
    return dielectric('clear_plastic', rng.uniform(1.46, 1.59), rng.uniform(0.0, 0.04), tint), \
        TRANSPARENT


def frosted(rng: np.random.Generator) -> tuple:
    """Make frosted glass."""
    return dielectric('frosted_glass', rng.uniform(1.46, 1.55), rng.uniform(0.2, 0.45),
                      tuple(rng.uniform(0.85, 1.0, 3))), TRANSLUCENT


def metal(rng: np.random.Generator) -> tuple:
    """Make steel, aluminium, copper or gold-like metal, polished to brushed."""
    colors = ((0.62, 0.60, 0.57), (0.91, 0.92, 0.92), (0.95, 0.64, 0.54), (0.94, 0.78, 0.40),
              (0.55, 0.56, 0.55))
    color = np.array(colors[rng.integers(len(colors))]) * rng.uniform(0.85, 1.0)
    material, tree, output = _new('metal')
    node = _principled(tree, Base_Color=(*color, 1.0), Metallic=1.0,
                       Roughness=rng.uniform(0.03, 0.35))
    tree.links.new(node.outputs['BSDF'], output.inputs['Surface'])
    return material, REFLECTIVE


def plain(rng: np.random.Generator) -> tuple:
    """Make opaque plastic, ceramic, cardboard or painted wood."""
    material, tree, output = _new('plain')
    node = _principled(tree, Base_Color=(*rng.uniform(0.04, 0.9, 3), 1.0),
                       Roughness=rng.uniform(0.25, 0.9))
    if rng.random() < 0.4:
        tree.links.new(texture(tree, rng, rng.uniform(15, 60)), node.inputs['Base Color'])
    tree.links.new(node.outputs['BSDF'], output.inputs['Surface'])
    return material, DIFFUSE


OBJECT_MATERIALS = {'glass': glass, 'clear_plastic': clear_plastic, 'frosted_glass': frosted,
                    'metal': metal, 'plain': plain}


def texture(tree, rng: np.random.Generator, scale: float):
    """Add a procedural colour texture in object coordinates [m] and return its colour socket."""
    coordinates = tree.nodes.new('ShaderNodeTexCoord')
    mapping = tree.nodes.new('ShaderNodeMapping')
    mapping.inputs['Scale'].default_value = [scale * s for s in rng.uniform(0.5, 2.0, 3)]
    mapping.inputs['Rotation'].default_value = rng.uniform(0, 6.28, 3)
    mapping.inputs['Location'].default_value = rng.uniform(-10, 10, 3)
    tree.links.new(coordinates.outputs['Object'], mapping.inputs['Vector'])
    kinds = ('ShaderNodeTexNoise', 'ShaderNodeTexVoronoi', 'ShaderNodeTexChecker',
             'ShaderNodeTexBrick', 'ShaderNodeTexWave', 'ShaderNodeTexMagic')
    kind = kinds[rng.choice(len(kinds), p=[0.34, 0.16, 0.1, 0.12, 0.18, 0.1])]
    node = tree.nodes.new(kind)
    tree.links.new(mapping.outputs['Vector'], node.inputs['Vector'])
    node.inputs['Scale'].default_value = 1.0
    if kind == 'ShaderNodeTexNoise':
        node.inputs['Detail'].default_value = rng.uniform(2, 10)
        node.inputs['Roughness'].default_value = rng.uniform(0.4, 0.75)
    if kind == 'ShaderNodeTexWave':
        node.inputs['Distortion'].default_value = rng.uniform(0, 8)
    value = node.outputs['Fac' if 'Fac' in node.outputs else 'Distance']
    ramp = tree.nodes.new('ShaderNodeValToRGB')
    base, spread = rng.uniform(0.05, 0.85, 3), rng.uniform(0.05, 0.6)
    positions = np.linspace(0.25, 0.75, int(rng.integers(2, 5)))
    while len(ramp.color_ramp.elements) < len(positions):
        ramp.color_ramp.elements.new(0.5)
    for element, position in zip(ramp.color_ramp.elements, positions):
        element.position = position
        color = np.clip(base + rng.uniform(-spread, spread) + rng.normal(0, 0.08, 3), 0.01, 0.95)
        element.color = (*color, 1.0)
    tree.links.new(value, ramp.inputs['Fac'])
    return ramp.outputs['Color']


def surrounding(rng: np.random.Generator, name: str) -> bpy.types.Material:
    """Make the material of a table or a wall: textured, mostly matt."""
    material, tree, output = _new(name)
    node = _principled(tree, Roughness=rng.uniform(0.35, 1.0))
    tree.links.new(texture(tree, rng, float(np.exp(rng.uniform(np.log(4), np.log(45))))),
                   node.inputs['Base Color'])
    tree.links.new(node.outputs['BSDF'], output.inputs['Surface'])
    return material
