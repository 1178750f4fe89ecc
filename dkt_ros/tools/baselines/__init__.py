"""Depth sources that DKT is compared with."""
