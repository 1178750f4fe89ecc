"""The one vocabulary of material classes, shared by renderer, data sets and metrics."""
from enum import IntEnum


class Material(IntEnum):
    """
    Optical class of the surface that a pixel sees first.

    The values are the pixel values of a scene folder's `material` images.
    """

    BACKGROUND = 0
    TRANSPARENT = 1
    TRANSLUCENT = 2
    REFLECTIVE = 3
    DIFFUSE = 4

    @property
    def label(self) -> str:
        """Lower-case name, as used in tables and JSON keys."""
        return self.name.lower()
