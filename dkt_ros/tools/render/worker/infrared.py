"""
The infrared pair of an active-stereo camera: projector, two cameras, no denoising.

Runs after the colour frames of a scene and leaves the scene's settings changed.
"""
from __future__ import annotations

import math
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

TRANSPARENT, TRANSLUCENT = 1, 2
NEAREST_M = 0.25
"""Surfaces nearer than this may leave the rendered part of the infrared image."""


def render_pairs(spec: dict, poses: list[Matrix], camera, frames: Path) -> None:
    """
    Render the left and right image of the frames in spec['infrared']['frames'].

    Parameters
    ----------
    spec : dict
        Colour size, fx and fy, and `infrared`: frames, width, height, fx, baseline_m, offset_m,
        samples, projector_w, ambient and haze (ranges), pattern (a file), half_width (of the
        pattern, tangent).
    poses : list of Matrix
        The colour camera's poses, as Blender has them.

    """
    infrared = spec['infrared']
    _configure(spec, infrared)
    projector = _add_projector(infrared)
    rng = np.random.default_rng((spec['seed'], 29))
    _soil(infrared['haze'], rng)
    _dim(rng.uniform(*infrared['ambient']))
    camera.data.lens = infrared['fx'] / infrared['width'] * camera.data.sensor_width
    camera.data.shift_x = camera.data.shift_y = 0.0
    camera.animation_data_clear()
    scene = bpy.context.scene
    for index in infrared['frames']:
        for side, along in (('left', 0.0), ('right', infrared['baseline_m'])):
            left = poses[index] @ Matrix.Translation((infrared['offset_m'], 0, 0))
            camera.matrix_world = left @ Matrix.Translation((along, 0, 0))
            projector.matrix_world = left @ Matrix.Translation(
                (0.5 * infrared['baseline_m'], 0, 0))
            scene.cycles.seed = (spec['seed'] * 131 + 2 * index + (side == 'right') + 7) % 2**31
            scene.render.filepath = str(frames / f'{index:04d}_{side}.exr')
            bpy.ops.render.render(write_still=True)


def _configure(spec: dict, infrared: dict) -> None:
    scene = bpy.context.scene
    render, cycles, layer = scene.render, scene.cycles, scene.view_layers[0]
    render.resolution_x, render.resolution_y = infrared['width'], infrared['height']
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    render.use_motion_blur = False
    cycles.samples, cycles.use_denoising = infrared['samples'], False
    cycles.max_bounces, cycles.transmission_bounces = 8, 8
    cycles.diffuse_bounces, cycles.glossy_bounces = 1, 3
    layer.use_pass_z = layer.use_pass_normal = False
    layer.use_pass_object_index = layer.use_pass_material_index = False
    render.use_border, render.use_crop_to_border = True, False
    low, high = seen_part(spec, infrared)
    render.border_min_x, render.border_max_x = low[0], high[0]
    render.border_min_y, render.border_max_y = low[1], high[1]


def seen_part(spec: dict, infrared: dict) -> tuple[list[float], list[float]]:
    """
    Return the part of the infrared images that the colour image can use, as shares of them.

    An infrared camera sees twice as wide as the colour image that its depth is aligned to.
    """
    half = (0.5 * spec['width'] / spec['fx'], 0.5 * spec['height'] / spec['fy'])
    slack = 1.15
    reach_left = max(0.0, infrared['offset_m'] + infrared['baseline_m']) / NEAREST_M
    reach_right = max(0.0, -infrared['offset_m']) / NEAREST_M
    scale_x, scale_y = infrared['fx'] / infrared['width'], infrared['fx'] / infrared['height']
    low = [0.5 - scale_x * (slack * half[0] + reach_left), 0.5 - scale_y * slack * half[1]]
    high = [0.5 + scale_x * (slack * half[0] + reach_right), 0.5 + scale_y * slack * half[1]]
    return [max(0.0, v) for v in low], [min(1.0, v) for v in high]


def _add_projector(infrared: dict):
    """Add a spot lamp whose light is the pattern, looked up by direction."""
    lamp = bpy.data.lights.new('projector', 'SPOT')
    lamp.energy, lamp.shadow_soft_size = infrared['projector_w'], 0.0005
    lamp.spot_size, lamp.spot_blend = math.radians(150), 0.0
    lamp.use_nodes = True
    tree = lamp.node_tree
    emission = tree.nodes['Emission']
    image = tree.nodes.new('ShaderNodeTexImage')
    image.image = bpy.data.images.load(infrared['pattern'])
    image.image.colorspace_settings.name = 'Non-Color'
    image.extension = 'CLIP'
    place = tree.nodes.new('ShaderNodeCombineXYZ')
    direction = tree.nodes.new('ShaderNodeSeparateXYZ')
    coordinates = tree.nodes.new('ShaderNodeTexCoord')
    tree.links.new(coordinates.outputs['Normal'], direction.inputs['Vector'])
    size = np.array(image.image.size, float)
    halves = infrared['half_width'] * size / size[0]
    for axis, half in zip('XY', halves):
        tangent = tree.nodes.new('ShaderNodeMath')
        tangent.operation = 'DIVIDE'
        tree.links.new(direction.outputs[axis], tangent.inputs[0])
        tree.links.new(direction.outputs['Z'], tangent.inputs[1])
        spread = tree.nodes.new('ShaderNodeMath')
        spread.operation = 'MULTIPLY_ADD'
        spread.inputs[1].default_value, spread.inputs[2].default_value = 0.5 / half, 0.5
        tree.links.new(tangent.outputs[0], spread.inputs[0])
        tree.links.new(spread.outputs[0], place.inputs[axis])
    tree.links.new(place.outputs['Vector'], image.inputs['Vector'])
    tree.links.new(image.outputs['Color'], emission.inputs['Color'])
    item = bpy.data.objects.new('projector', lamp)
    bpy.context.collection.objects.link(item)
    return item


def _dim(radiance: float) -> None:
    """
    Leave an even light around; lamps and the environment's have no infrared.

    LEDs emit none and coated panes keep the sun's out. What an environment's bright spots would
    give is also found by chance, differently in either image, and hides the dots in noise.
    """
    world = bpy.context.scene.world
    background = world.node_tree.nodes['Background']
    for link in background.inputs['Color'].links:
        world.node_tree.links.remove(link)
    background.inputs['Color'].default_value = (1.0, 1.0, 1.0, 1.0)
    background.inputs['Strength'].default_value = radiance
    # Every sample of light goes to the projector: the dots stay free of noise.
    world.cycles.sampling_method = 'NONE'
    for item in bpy.data.objects:
        if item.type == 'LIGHT' and item.name != 'projector':
            item.hide_render = True


def _soil(haze: tuple[float, float], rng: np.random.Generator) -> None:
    """
    Let clear surfaces scatter a little light.

    Scratches, prints and dust show the dots on real glass; they rival those seen through it.
    """
    for material in bpy.data.materials:
        if material.pass_index not in (TRANSPARENT, TRANSLUCENT) or not material.use_nodes:
            continue
        tree = material.node_tree
        output = next(node for node in tree.nodes if node.type == 'OUTPUT_MATERIAL')
        link = output.inputs['Surface'].links[0]
        mix = tree.nodes.new('ShaderNodeMixShader')
        mix.inputs['Fac'].default_value = rng.uniform(*haze)
        tree.links.new(link.from_socket, mix.inputs[1])
        tree.links.new(tree.nodes.new('ShaderNodeBsdfDiffuse').outputs['BSDF'], mix.inputs[2])
        tree.links.new(mix.outputs['Shader'], output.inputs['Surface'])
