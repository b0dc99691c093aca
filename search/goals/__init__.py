"""Objectives, constraints and dominance. This package imports nothing else from ``search`` but units."""
