"""Pictures of memory: of a space by a parameter and the batch size, and of a configuration by its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.pictures import new_figure
from search.units import GIB, MIB, format_size
from trainables.errors import UserError

if TYPE_CHECKING:
    from search.sizing.extent import Grid
    from trainables.memory.report import MemoryReport

#: Accepted suffixes of picture files.
SUFFIXES = (".png", ".svg", ".pdf")
_LIMIT = "#b23a48"

#: Colour of each kind of bytes.
KIND_COLOURS = {
    "weights": "#4c6a92",
    "gradients": "#b23a48",
    "optimizer": "#c98a2b",
    "activations": "#0b6e4f",
    "temporary": "#9aa5b1",
}
#: Colour of each part of the memory on a GPU.
PART_COLOURS = {**KIND_COLOURS, "fragmentation": "#d9cfc1", "context": "#6f6558"}


def check_picture(path: Path) -> None:
    """Check that a picture can be written.

    Raises:
        UserError: If its suffix is none of ``SUFFIXES``, or if its folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--plot {path}: must end in {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--plot {path}: there is no folder {path.parent}")


def plot_grid(
    grid: Grid, path: Path, title: str, depths: Mapping[str, int], limit: int | None = None
) -> None:
    """Draw a grid as a labelled heat map, with the limit as a contour along the cells' edges.

    Args:
        grid: The memory.
        path: Picture to write, see ``check_picture``.
        title: Title above the axes.
        depths: Layers of each encoder, to show L_f if the parameter is the number of fused layers.
        limit: Limit in bytes; cells above it are outside the contour.
    """
    import numpy as np
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LogNorm

    gib = np.asarray(grid.memory) / GIB
    rows, columns = gib.shape
    figure, axes = new_figure(1.9 + 0.66 * columns, 1.6 + 0.34 * rows)
    norm = LogNorm(gib.min(), max(gib.max(), gib.min() * 1.01))
    # Numbers grow from bottom to top; names are read from top to bottom.
    origin = "lower" if isinstance(grid.values[0], int | float) else "upper"
    axes.imshow(gib, origin=origin, aspect="auto", cmap="YlGnBu", norm=norm)
    for row in range(rows):
        for column in range(columns):
            value = gib[row, column]
            dark = norm(value) > 0.6
            text = f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
            axes.text(
                column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black"
            )
    if limit is not None:
        edges = _edges([[size <= limit for size in row] for row in grid.memory])
        axes.add_collection(LineCollection(edges, colors=_LIMIT, linewidths=2, capstyle="projecting"))
        axes.plot([], [], color=_LIMIT, linewidth=2, label=f"limit, {format_size(limit)}")
        corner = {"loc": "lower right", "bbox_to_anchor": (1, 1)}
        axes.legend(fontsize=8, frameon=False, borderaxespad=0.2, borderpad=0, **corner)
    axes.set_xticks(range(columns), [str(size) for size in grid.batch_sizes])
    axes.set_yticks(range(rows), [_label(grid.parameter, value, depths) for value in grid.values])
    axes.set_xlabel("batch size")
    fused = grid.parameter == "n_fusion_layers"
    axes.set_ylabel(f"fused layers ($L_f$ of {', '.join(depths)})" if fused else grid.parameter)
    axes.tick_params(length=0, labelsize=8)
    axes.set_title("GiB, other settings as in the first point", fontsize=8, loc="left")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path)


def _edges(fits: Sequence[Sequence[bool]]) -> list[list[tuple[float, float]]]:
    """Return the edges (two points each) between cells that fit and cells that do not."""
    edges = []
    for y, row in enumerate(fits):
        for x, inside in enumerate(row):
            if x and row[x - 1] != inside:
                edges.append([(x - 0.5, y - 0.5), (x - 0.5, y + 0.5)])
            if y and fits[y - 1][x] != inside:
                edges.append([(x - 0.5, y - 0.5), (x + 0.5, y - 0.5)])
    return edges


def _label(parameter: str, value: object, depths: Mapping[str, int]) -> str:
    if parameter == "n_fusion_layers" and isinstance(value, int):
        return f"{value}  ({', '.join(str(depth - value) for depth in depths.values())})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def plot_breakdown(
    parts: Mapping[str, Mapping[str, int]], report: MemoryReport, path: Path, title: str
) -> None:
    """Draw the memory of a configuration as stacked bars, one for each part of the model.

    On a GPU, fragmentation and context have bars of their own.

    Args:
        parts: Bytes of tensors by part and kind, see ``MemoryPredictor.explain``.
        report: The memory.
        path: Picture to write, see ``check_picture``.
        title: Title above the axes; the memory is added to it.
    """
    sizes = report.sizes()
    parts = {**parts, **{name: {name: sizes[name]} for name in ("fragmentation", "context") if name in sizes}}
    names = list(parts)
    figure, axes = new_figure(7.2, 1.3 + 0.19 * len(names))
    left = [0.0] * len(names)
    for kind, colour in PART_COLOURS.items():
        widths = [parts[name].get(kind, 0) / MIB for name in names]
        if any(widths):
            axes.barh(names, widths, left=left, color=colour, label=kind, height=0.8)
            left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("MiB for one step")
    axes.set_title(f"{title}: {format_size(report.memory)}", fontsize=10)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="x", alpha=0.25)
    axes.legend(fontsize=8, loc="best")
    figure.tight_layout()
    figure.savefig(path)
