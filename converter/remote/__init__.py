"""Rounding on the nodes of a Ray cluster, with the bytes of a single process."""

from converter.remote.ray_rounding import rounding_on

__all__ = ["rounding_on"]
