"""Figures for pictures that are written to files; the process and its windows are left alone."""

from __future__ import annotations

from typing import Any


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty figure with axes: ``matplotlib.figure.Figure`` and ``matplotlib.axes.Axes``.

    It is not pyplot's: pyplot would keep it until it is closed, and its backend is the whole process's.

    Args:
        width: In inches.
        height: In inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160)
    return figure, figure.subplots()
