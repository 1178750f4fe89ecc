"""Where frames come from, for nodes and tools alike. No ROS."""
