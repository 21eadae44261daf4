"""Amaranth components of the accelerator. They know the geometry, never the pins of a board."""
