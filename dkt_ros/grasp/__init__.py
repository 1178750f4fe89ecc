"""Grasps planned from a cloud: numpy, scipy and Open3D; no ROS, no files but gripper YAML."""
