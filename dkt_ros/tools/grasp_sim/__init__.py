"""The simulated grasp benchmark: scenes, hand, protocol, report."""
