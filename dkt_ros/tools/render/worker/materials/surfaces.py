"""
What tables, walls, floors, trays, bins and clutter are made of in life.

Patterns lie in object coordinates [m]; those with a direction lie in the plane that a surface is
seen in: x and y, or y and z on walls.
"""
from __future__ import annotations

import bpy
import numpy as np

from .print import printed

WOODS = ((0.42, 0.26, 0.13), (0.17, 0.085, 0.04), (0.58, 0.4, 0.22), (0.6, 0.46, 0.31),
         (0.33, 0.15, 0.07), (0.56, 0.52, 0.46), (0.05, 0.04, 0.032), (0.28, 0.19, 0.12))
PAINTS = ((0.8, 0.78, 0.73), (0.82, 0.82, 0.8), (0.72, 0.69, 0.62), (0.5, 0.5, 0.49),
          (0.4, 0.45, 0.37), (0.46, 0.54, 0.6), (0.64, 0.55, 0.43), (0.48, 0.25, 0.17),
          (0.05, 0.08, 0.15), (0.58, 0.42, 0.16), (0.07, 0.07, 0.075), (0.2, 0.27, 0.25))
CLOTHS = ((0.75, 0.73, 0.68), (0.6, 0.55, 0.45), (0.12, 0.16, 0.28), (0.45, 0.08, 0.07),
          (0.2, 0.3, 0.2), (0.3, 0.3, 0.31), (0.62, 0.45, 0.2), (0.05, 0.05, 0.06))
STONES = ((0.78, 0.76, 0.73), (0.6, 0.57, 0.52), (0.06, 0.06, 0.065), (0.3, 0.31, 0.31),
          (0.2, 0.25, 0.22))
PLASTICS = ((0.03, 0.03, 0.035), (0.4, 0.4, 0.4), (0.05, 0.11, 0.28), (0.4, 0.05, 0.04),
            (0.7, 0.69, 0.65), (0.05, 0.17, 0.11), (0.6, 0.38, 0.1), (0.2, 0.21, 0.22))
MADE_OF = {
    'table': ('planks', 'planks', 'veneer', 'veneer', 'laminate', 'laminate', 'cloth', 'gingham',
              'marble', 'granite', 'concrete', 'tiles'),
    'wall': ('paint', 'paint', 'paint', 'paint', 'tiles', 'bricks', 'concrete', 'striped',
             'planks'),
    'floor': ('planks', 'tiles', 'cloth', 'concrete', 'granite'),
    'tray': ('veneer', 'metal', 'plastic', 'laminate', 'veneer'),
    'bin': ('plastic', 'plastic', 'cardboard', 'metal', 'veneer'),
    'clutter': ('paint', 'plastic', 'cardboard', 'cloth', 'printed', 'printed', 'printed'),
    'paper': ('pages',), 'screen': ('glossy',), 'casing': ('casing', 'casing', 'metal')}


def surface(rng: np.random.Generator, name: str) -> bpy.types.Material:
    """Make the material of a piece of furniture, a wall or the floor; `name` begins with which."""
    kinds = MADE_OF[name.partition('_')[0]]
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    maker = _Maker(material.node_tree, rng, upright=name == 'wall')
    getattr(maker, kinds[rng.integers(len(kinds))])()
    return material


class _Maker:
    """Builds one node tree: each method without underscore is a kind of surface."""

    def __init__(self, tree, rng: np.random.Generator, upright: bool) -> None:
        self.tree, self.rng = tree, rng
        self.shader = tree.nodes['Principled BSDF']
        coordinates = tree.nodes.new('ShaderNodeTexCoord')
        self.place = coordinates.outputs['Object']
        if upright:
            parts = tree.nodes.new('ShaderNodeSeparateXYZ')
            turned = tree.nodes.new('ShaderNodeCombineXYZ')
            tree.links.new(self.place, parts.inputs[0])
            for axis, source in zip('XYZ', 'YZX'):
                tree.links.new(parts.outputs[source], turned.inputs[axis])
            self.place = turned.outputs['Vector']

    def planks(self) -> None:
        """Lay boards side by side."""
        wood = self._color(WOODS)
        boards = self._bricks(self.rng.uniform(0.7, 1.6), self.rng.uniform(0.07, 0.17), 0.0012,
                              0.85 * wood, 1.12 * wood, 0.25 * wood)
        self._grain(boards.outputs['Color'])
        self._finish(0.3, 0.65, boards.outputs['Fac'], -0.0006)

    def veneer(self) -> None:
        """Show one sheet of wood."""
        self._grain(self._constant(self._color(WOODS)))
        self._finish(0.3, 0.65)

    def laminate(self) -> None:
        """Coat a board with one colour."""
        self._varied(self._color(PAINTS + PLASTICS), 60.0, 0.04)
        self._finish(0.34, 0.6)

    def paint(self) -> None:
        """Paint a wall or board."""
        noise = self._varied(self._color(PAINTS), 3.0, 0.03)
        self._finish(0.5, 0.95, noise, 0.0003)

    def cloth(self) -> None:
        """Spread a cloth or carpet of one colour."""
        noise = self._varied(self._color(CLOTHS), 500.0, 0.35)
        self._finish(0.9, 1.0, noise, 0.0004)

    def gingham(self) -> None:
        """Spread a checked or striped cloth."""
        light, dark = self._color(CLOTHS[:2]), self._color(CLOTHS[2:])
        dark, width = 0.7 * dark + 0.3 * light, self.rng.uniform(0.004, 0.016)
        socket = self._stripes('X', width)
        if self.rng.random() < 0.7:
            both = self.tree.nodes.new('ShaderNodeMath')
            both.operation, both.inputs[1].default_value = 'MULTIPLY_ADD', 0.5
            half = self.tree.nodes.new('ShaderNodeMath')
            half.operation, half.inputs[1].default_value = 'MULTIPLY', 0.5
            self.tree.links.new(self._stripes('Y', width), half.inputs[0])
            self.tree.links.new(socket, both.inputs[0])
            self.tree.links.new(half.outputs[0], both.inputs[2])
            socket = both.outputs[0]
        self._ramp(socket, [0.0, 1.0], [light, dark])
        self._finish(0.9, 1.0)

    def marble(self) -> None:
        """Polish stone with veins."""
        base = self._color(STONES)
        vein = 0.35 * base if base.mean() > 0.4 else np.minimum(base + 0.35, 0.8)
        noise = self._noise(self.rng.uniform(2, 6), detail=7.0, distortion=1.5)
        self._ramp(noise, [0.35, 0.49, 0.505, 0.52, 0.7],
                   [base, 0.97 * base, 0.5 * (base + vein), 0.97 * base, 0.9 * base])
        self._finish(0.15, 0.4)

    def granite(self) -> None:
        """Polish stone with grains."""
        base = self._color(STONES)
        noise = self._noise(self.rng.uniform(150, 350), detail=3.0)
        self._ramp(noise, [0.38, 0.5, 0.62],
                   [0.45 * base, base, np.minimum(1.5 * base + 0.05, 0.8)])
        self._finish(0.24, 0.48)

    def concrete(self) -> None:
        """Cast or plaster in grey."""
        noise = self._noise(self.rng.uniform(3, 9), detail=8.0)
        grey = self._color(((0.38, 0.37, 0.35), (0.24, 0.24, 0.235), (0.52, 0.5, 0.46)))
        self._ramp(noise, [0.3, 0.7], [0.72 * grey, 1.15 * grey])
        self._finish(0.55, 0.95, noise, 0.0008)

    def tiles(self) -> None:
        """Lay square or long glazed tiles."""
        side = self.rng.uniform(0.07, 0.25)
        color = self._color(PAINTS)
        tiles = self._bricks(side * self.rng.choice([1.0, 1.0, 2.0, 3.0]), side, 0.003,
                             0.94 * color, 1.05 * color, self._color(STONES[:4]),
                             float(self.rng.choice([0.0, 0.5])))
        self.tree.links.new(tiles.outputs['Color'], self.shader.inputs['Base Color'])
        self._finish(0.2, 0.45, tiles.outputs['Fac'], -0.0008)

    def bricks(self) -> None:
        """Build a wall of bricks, bare or painted."""
        color = self._color(((0.36, 0.14, 0.09), (0.45, 0.25, 0.16), (0.75, 0.73, 0.7)))
        wall = self._bricks(0.22, 0.072, 0.011, 0.75 * color, 1.15 * color,
                            self._color(((0.5, 0.48, 0.45), (0.35, 0.33, 0.31))), 0.5)
        self._grain(wall.outputs['Color'], (25, 25, 25), 0.25)
        self._finish(0.8, 1.0, wall.outputs['Fac'], -0.006)

    def striped(self) -> None:
        """Hang striped wallpaper."""
        color = self._color(PAINTS)
        self._ramp(self._stripes('X', self.rng.uniform(0.03, 0.12)), [0.0, 1.0],
                   [color, np.clip(color * self.rng.uniform(0.75, 0.92), 0.01, 0.9)])
        self._finish(0.6, 0.9)

    def plastic(self) -> None:
        """Mould plastic."""
        self._varied(self._color(PLASTICS), 8.0, 0.02)
        self._finish(0.25, 0.6)

    def metal(self) -> None:
        """Bend sheet steel or aluminium."""
        self._varied(self._color(((0.56, 0.55, 0.53), (0.78, 0.78, 0.79))), 30.0, 0.06)
        self.shader.inputs['Metallic'].default_value = 1.0
        self._finish(0.25, 0.5)

    def cardboard(self) -> None:
        """Fold corrugated board."""
        self._varied(self._color(((0.46, 0.32, 0.19), (0.52, 0.38, 0.23))), 120.0, 0.15)
        self._finish(0.8, 1.0)

    def printed(self) -> None:
        """Print a band, a label and words on a book or carton."""
        colors = [self._color(table) for table in (PAINTS + PLASTICS, PLASTICS, PAINTS[:3])]
        self.tree.links.new(printed(self.tree, colors, 'Y', self.rng),
                            self.shader.inputs['Base Color'])
        self._finish(0.25, 0.6)

    def pages(self) -> None:
        """Stack sheets of paper."""
        noise = self._noise(1.0, stretch=(2.0, 2.0, 2500.0))
        paper = self._color(((0.8, 0.77, 0.7), (0.84, 0.83, 0.8), (0.7, 0.63, 0.5)))
        self._ramp(noise, [0.35, 0.65], [0.8 * paper, paper])
        self._finish(0.85, 1.0)

    def glossy(self) -> None:
        """Switch a screen off."""
        self._varied(self.rng.uniform(0.006, 0.02, 3), 1.0, 0.1)
        self._finish(0.04, 0.3)

    def casing(self) -> None:
        """Mould the dark case of a device."""
        self._varied(self._color(((0.015, 0.015, 0.017), (0.06, 0.06, 0.065))), 8.0, 0.02)
        self._finish(0.3, 0.6)

    def _color(self, palette: tuple) -> np.ndarray:
        color = np.array(palette[self.rng.integers(len(palette))])
        return np.clip(color * self.rng.uniform(0.8, 1.15) * self.rng.uniform(0.94, 1.06, 3),
                       0.01, 0.88)

    def _finish(self, low: float, high: float, height=None, depth_m: float = 0.0) -> None:
        self.shader.inputs['Roughness'].default_value = self.rng.uniform(low, high)
        if height is not None:
            bump = self.tree.nodes.new('ShaderNodeBump')
            bump.invert = depth_m < 0
            bump.inputs['Distance'].default_value = abs(depth_m)
            self.tree.links.new(height, bump.inputs['Height'])
            self.tree.links.new(bump.outputs['Normal'], self.shader.inputs['Normal'])

    def _moved(self, scale=(1.0, 1.0, 1.0), turn: float = 0.0):
        node = self.tree.nodes.new('ShaderNodeMapping')
        node.inputs['Scale'].default_value = scale
        node.inputs['Location'].default_value = self.rng.uniform(-5, 5, 3)
        node.inputs['Rotation'].default_value = (0, 0, turn)
        self.tree.links.new(self.place, node.inputs['Vector'])
        return node.outputs['Vector']

    def _noise(self, scale: float, detail: float = 2.0, distortion: float = 0.0,
               stretch=(1.0, 1.0, 1.0)):
        node = self.tree.nodes.new('ShaderNodeTexNoise')
        for key, value in (('Scale', scale), ('Detail', detail), ('Distortion', distortion)):
            node.inputs[key].default_value = value
        self.tree.links.new(self._moved(stretch), node.inputs['Vector'])
        return node.outputs['Fac']

    def _constant(self, color: np.ndarray):
        node = self.tree.nodes.new('ShaderNodeRGB')
        node.outputs[0].default_value = (*color, 1.0)
        return node.outputs[0]

    def _ramp(self, value, places: list, colors: list) -> None:
        node = self.tree.nodes.new('ShaderNodeValToRGB')
        ramp = node.color_ramp
        while len(ramp.elements) < len(places):
            ramp.elements.new(0.5)
        for element, place, color in zip(ramp.elements, places, colors):
            element.position, element.color = place, (*color, 1.0)
        self.tree.links.new(value, node.inputs['Fac'])
        self.tree.links.new(node.outputs['Color'], self.shader.inputs['Base Color'])

    def _varied(self, color: np.ndarray, scale: float, share: float):
        noise = self._noise(scale, detail=3.0)
        self._ramp(noise, [0.3, 0.7], [(1 - share) * color, (1 + share) * color])
        return noise

    def _grain(self, color, scale=(1.5, 40.0, 40.0), share: float = 0.3) -> None:
        """Darken a colour along fibres that run along x."""
        noise = self._noise(1.0, detail=6.0, distortion=0.6, stretch=scale)
        node = self.tree.nodes.new('ShaderNodeMixRGB')
        node.blend_type, node.inputs['Color2'].default_value = 'MULTIPLY', (0.4, 0.34, 0.3, 1.0)
        strength = self.tree.nodes.new('ShaderNodeMath')
        strength.operation, strength.use_clamp = 'MULTIPLY', True
        strength.inputs[1].default_value = 2.0 * share
        self.tree.links.new(noise, strength.inputs[0])
        self.tree.links.new(strength.outputs[0], node.inputs['Fac'])
        self.tree.links.new(color, node.inputs['Color1'])
        self.tree.links.new(node.outputs['Color'], self.shader.inputs['Base Color'])

    def _stripes(self, axis: str, width_m: float):
        node = self.tree.nodes.new('ShaderNodeTexWave')
        node.bands_direction, node.wave_profile = axis, 'SIN'
        # The node's sine has 20 radians a unit of its vector.
        node.inputs['Scale'].default_value = 2 * np.pi / (20.0 * 2 * width_m)
        self.tree.links.new(self.place, node.inputs['Vector'])
        sharp = self.tree.nodes.new('ShaderNodeMath')
        sharp.operation, sharp.inputs[1].default_value = 'GREATER_THAN', 0.5
        self.tree.links.new(node.outputs['Fac'], sharp.inputs[0])
        return sharp.outputs[0]

    def _bricks(self, width: float, height: float, mortar: float, one: np.ndarray,
                two: np.ndarray, between: np.ndarray, offset: float = 0.37):
        node = self.tree.nodes.new('ShaderNodeTexBrick')
        node.offset = offset
        for key, value in (('Scale', 1.0), ('Brick Width', width), ('Row Height', height),
                           ('Mortar Size', mortar), ('Mortar Smooth', 0.1), ('Bias', 0.0)):
            node.inputs[key].default_value = value
        for key, color in (('Color1', one), ('Color2', two), ('Mortar', between)):
            node.inputs[key].default_value = (*np.clip(color, 0.01, 0.9), 1.0)
        self.tree.links.new(self._moved(), node.inputs['Vector'])
        return node
