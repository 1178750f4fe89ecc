"""What a frame saves beside Blender's own settings: in one place, so that it can be left out."""
from __future__ import annotations

import bpy

IMPORTANCE_MAP_PX = 256
"""Of the environment. The automatic map takes 1.4 s to make and is no better here."""


def be_thrifty(deep: int) -> None:
    """
    Trace what can be seen and keep what does not change; after the world is made.

    Parameters
    ----------
    deep : int
        Most bounces of a path, and through clear surfaces.

    """
    scene = bpy.context.scene
    scene.render.use_persistent_data = True
    cycles, world = scene.cycles, scene.world.cycles
    cycles.max_bounces, cycles.transmission_bounces = deep, deep
    cycles.diffuse_bounces, cycles.glossy_bounces = 2, 4
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    world.sampling_method, world.sample_map_resolution = 'MANUAL', IMPORTANCE_MAP_PX
