"""Figures for picture files, which change no state of the process and open no window."""

from __future__ import annotations

from typing import Any


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty figure with axes: ``matplotlib.figure.Figure`` and ``matplotlib.axes.Axes``.

    The figure is made without pyplot, which would keep it until it is closed, and whose backend belongs to
    the whole process.

    Args:
        width: Width in inches.
        height: Height in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160)
    return figure, figure.subplots()
