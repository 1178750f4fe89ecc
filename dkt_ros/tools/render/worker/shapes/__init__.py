"""
The shapes of the renderer. Pure numpy, no bpy.

For whoever builds scenes:

- `LIBRARY` maps the name of a family to a function `rng -> Shape`; `VESSELS` can be filled,
  `DISTRACTORS` are the plain ones; those of `FREE` have any form, for training that is to
  generalise. `FAMILIES` is the older set of the preset `tabletop-v1`.
- A `Shape` stands on z = 0 with its axis along +z, in metres, and is closed.
- `fill(shape, level, rng)` returns what is in a vessel with `shape.cavity`, in the same frame:
  give it the same pose, a material of `materials.LIQUIDS`, and the class and instance that the
  scene wants the liquid to have. Fill only what stands upright; a test tube never does
  (`shape.can_stand`).
- Mark edges sharper than `shape.smooth_rad` (`mesh.set_sharp_from_angle`) after shading smooth.
- A bank of meshes offers the same kind of dictionary: see `bank.read_bank`.
"""
from __future__ import annotations

from . import free, labware, plain, tableware
from .liquid import fill
from .mesh import Cavity, Shape
from .tabletop import FAMILIES, lathe, tumbler

VESSELS = {
    'tumbler': tableware.tumbler, 'wine_glass': tableware.wine_glass, 'bottle': tableware.bottle,
    'carafe': tableware.carafe, 'jar': tableware.jar, 'bowl': tableware.bowl,
    'vase': tableware.vase, 'mug': tableware.mug, 'jug': tableware.jug, 'beaker': labware.beaker,
    'test_tube': labware.test_tube, 'flask': labware.flask}
OTHERS = {'plate': tableware.plate, 'spoon': labware.spoon, 'ladle': labware.ladle,
          'lens': labware.lens, 'ornament': labware.ornament}
DISTRACTORS = {'box': plain.box, 'sphere': plain.sphere, 'can': plain.can,
               'cylinder': plain.cylinder, 'cone': plain.cone, 'ring': plain.ring}
FREE = {'free_vessel': free.vessel_of_any_form, 'free_solid': free.solid_of_any_form}
GROUPS = {'vessels': VESSELS, 'others': OTHERS, 'distractors': DISTRACTORS, 'free': FREE}
LIBRARY = {**VESSELS, **OTHERS, **DISTRACTORS, **FREE}

__all__ = ['DISTRACTORS', 'FAMILIES', 'FREE', 'GROUPS', 'LIBRARY', 'OTHERS', 'VESSELS',
           'Cavity', 'Shape', 'fill', 'lathe', 'tumbler']
