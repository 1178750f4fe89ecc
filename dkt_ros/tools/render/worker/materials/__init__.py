"""
Cycles materials. Needs bpy.

For whoever builds scenes:

- `build(name, rng)` returns a new Blender material and its class (1 transparent, 2 translucent,
  3 reflective, 4 diffuse) for a name of `LIBRARY` or of `LIQUIDS`.
- The ranges behind the names are plain data in `material_table`, which needs no bpy.
- `surface(rng, name)` makes the furniture, walls and floor of the other presets.
- `OBJECT_MATERIALS`, `surrounding` and `texture` are those of the preset `tabletop-v1`.
- Patterns and bumps are laid out in object coordinates: they stay on a thing that moves.
"""
from material_table import LIBRARY, LIQUIDS

from .nodes import build
from .surfaces import surface
from .tabletop import OBJECT_MATERIALS, surrounding, texture

__all__ = ['LIBRARY', 'LIQUIDS', 'OBJECT_MATERIALS', 'build', 'surface', 'surrounding',
           'texture']
