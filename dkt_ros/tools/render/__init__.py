"""Rendered scenes of transparent things, with truth."""
