"""Metric depth, normals and grasps for transparent objects: DKT on a ROS 2 robot."""
__version__ = '0.1.0'
