"""Threads, and what a frame saves beside Blender's own settings: in one place, to be left out."""
from __future__ import annotations

import bpy

IMPORTANCE_MAP_PX = 256
"""Of the environment. The automatic map takes 1.4 s to make and is no better here."""


def use_threads(count: int) -> None:
    """Render with so many threads; 0 takes one a processor core, where FIXED would take one."""
    render = bpy.context.scene.render
    render.threads_mode = 'FIXED' if count else 'AUTO'
    if count:
        render.threads = count


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
