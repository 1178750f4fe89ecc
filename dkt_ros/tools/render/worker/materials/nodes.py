"""Node trees of the material library, one builder a kind."""
from __future__ import annotations

import bpy
import numpy as np
from material_table import draw, volume_color

from .patterns import bumps, colored


def build(name: str, rng: np.random.Generator) -> tuple[bpy.types.Material, int]:
    """
    Make a material of the library.

    Parameters
    ----------
    name : str
        A key of `LIBRARY` or `LIQUIDS`.
    rng : numpy.random.Generator
        Draws the values out of the material's ranges.

    Returns
    -------
    material : bpy.types.Material
    material_class : int
        1 transparent, 2 translucent, 3 reflective, 4 diffuse.

    """
    values = draw(name, rng)
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    output = tree.nodes.new('ShaderNodeOutputMaterial')
    shader = BUILDERS[values['kind']](tree, values, rng)
    normal = bumps(tree, values, rng)
    if normal is not None:
        for node in tree.nodes:
            if 'BSDF' in node.outputs and 'Normal' in node.inputs:
                tree.links.new(normal, node.inputs['Normal'])
    tree.links.new(shader, output.inputs['Surface'])
    if values['kind'] == 'dielectric' and values['absorption'].max() > 0:
        _absorb(tree, output, values['absorption'])
    material.pass_index = values['material_class']
    return material, values['material_class']


def _node(tree, kind: str, **inputs):
    node = tree.nodes.new(f'ShaderNode{kind}')
    for key, value in inputs.items():
        node.inputs[key.replace('_', ' ')].default_value = value
    return node


def _absorb(tree, output, absorption: np.ndarray) -> None:
    color, density = volume_color(absorption)
    node = _node(tree, 'VolumeAbsorption', Color=(*color, 1.0), Density=density)
    tree.links.new(node.outputs['Volume'], output.inputs['Volume'])


def _dielectric(tree, values: dict, rng: np.random.Generator):
    """
    Make glass, whose shadow rays go straight on.

    Without that Cycles would need caustics to light what stands behind glass, at a hundred times
    the samples. What the shadow loses: reflection and scattering at the surface here, absorption
    in the volume.
    """
    glass = _node(tree, 'BsdfGlass', IOR=values['ior'], Roughness=values['roughness'],
                  Color=(1, 1, 1, 1))
    through = 1.0 - ((values['ior'] - 1) / (values['ior'] + 1)) ** 2 - 0.02
    through *= 1.0 - 0.5 * values['roughness']
    clear = _node(tree, 'BsdfTransparent', Color=(through, through, through, 1))
    path, mix = tree.nodes.new('ShaderNodeLightPath'), tree.nodes.new('ShaderNodeMixShader')
    tree.links.new(path.outputs['Is Shadow Ray'], mix.inputs['Fac'])
    tree.links.new(glass.outputs['BSDF'], mix.inputs[1])
    tree.links.new(clear.outputs['BSDF'], mix.inputs[2])
    return mix.outputs['Shader']


def _conductor(tree, values: dict, rng: np.random.Generator):
    node = tree.nodes.new('ShaderNodeBsdfMetallic')
    node.fresnel_type = 'PHYSICAL_CONDUCTOR'
    node.inputs['IOR'].default_value = values['n']
    node.inputs['Extinction'].default_value = values['k']
    node.inputs['Roughness'].default_value = values['roughness']
    node.inputs['Anisotropy'].default_value = values['anisotropy']
    if values['anisotropy'] > 0:
        tangent = tree.nodes.new('ShaderNodeTangent')
        tangent.direction_type, tangent.axis = 'RADIAL', 'Z'
        tree.links.new(tangent.outputs['Tangent'], node.inputs['Tangent'])
    return node.outputs['BSDF']


def _principled(tree, values: dict, rng: np.random.Generator, **inputs):
    node = _node(tree, 'BsdfPrincipled', Base_Color=(*values['color'], 1.0), IOR=values['ior'],
                 Roughness=values['roughness'], **inputs)
    color = colored(tree, values, rng)
    if color is not None:
        tree.links.new(color, node.inputs['Base Color'])
    return node


def _coated(tree, values: dict, rng: np.random.Generator):
    return _principled(tree, values, rng, Coat_Weight=1.0, Coat_IOR=values['ior'],
                       Coat_Roughness=values['coat_roughness'],
                       Metallic=values['metallic']).outputs['BSDF']


def _opaque(tree, values: dict, rng: np.random.Generator):
    return _principled(tree, values, rng).outputs['BSDF']


def _scattering(tree, values: dict, rng: np.random.Generator):
    return _principled(tree, values, rng, Subsurface_Weight=1.0, Subsurface_Radius=(1.0, 0.8, 0.6),
                       Subsurface_Scale=values['depth_m'],
                       Transmission_Weight=values['transmission']).outputs['BSDF']


BUILDERS = {'dielectric': _dielectric, 'conductor': _conductor, 'coated': _coated,
            'opaque': _opaque, 'scattering': _scattering}
