"""Runs inside an interpreter with bpy; imports nothing else of this package."""
