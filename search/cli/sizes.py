"""The answers of ``predict`` about a whole space, and about the largest value of a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from search.cli.printing import print_json
from search.units import GIB, MIB, format_size
from trainables.errors import UserError

if TYPE_CHECKING:
    from search.sizing.extent import Cost, Extent, Largest, Reach, Sized, Slice
    from spaces import Space, SpaceContext
    from trainables.memory.predictor import MemoryPredictor
    from trainables.methods import MethodConfig

#: Batch sizes of a picture; with gradient accumulation, they are rounded down to multiples of its parts.
_BATCH_SIZES = (4, 8, 16, 32, 64, 128, 256)


def show_space(
    name: str,
    predictor: MemoryPredictor,
    limit: int | None,
    members: int,
    picture: Path | None,
    as_json: bool,
    setting: Mapping[str, Any],
) -> None:
    """Print the share of a space that fits, or without a limit the memory of its members.

    Args:
        name: Name of the space.
        predictor: Predicts the memory of members.
        limit: Bytes that a member may take, or None.
        members: Number of members to draw.
        picture: File for a picture of memory by a parameter and the batch size, or None.
        as_json: Whether to print a JSON document instead of tables.
        setting: The description of the predictor for the document, see ``describe``.
    """
    from search.reporting.progress import error_console
    from search.sizing.charts import check_picture, plot_grid
    from search.sizing.extent import measure_extent, measure_grid, measure_reaches
    from spaces import SpaceContext, get_space

    if picture is not None:
        check_picture(picture)
    space, context = get_space(name), SpaceContext.of(predictor.encoders)
    with error_console().status(f"predicting space '{name}'") as status:
        counted = 0

        def cost_of(at: MemoryPredictor) -> Cost:
            def cost(config: Mapping[str, Any]) -> int:
                nonlocal counted
                counted += 1
                status.update(f"predicting space '{name}': {counted} configurations")
                return at.predict_configuration(config).memory

            return cost

        cost = cost_of(predictor)
        parts = list(space.parts()) if space.parts is not None else [space]
        draws = -(-members // len(parts))
        extents = {
            part.method or part.name: measure_extent(part, context, cost, limit, draws) for part in parts
        }
        reaches = [] if space.parts is not None else measure_reaches(space, context, cost, limit)
        if picture is not None:
            parameter = "method" if space.parts is not None else _dearest(space, reaches)
            accumulation = predictor.setting.gradient_accumulation
            sizes = sorted({max(size // accumulation, 1) * accumulation for size in _BATCH_SIZES})
            costs = {size: cost_of(predictor.changed(batch_size=size)) for size in sizes}
            grid = measure_grid(space, context, costs, parameter)
            title = f"Predicted training memory: {_title(name, predictor)}"
            plot_grid(grid, picture, title, context.depths, limit)
    if as_json:
        print_json(_space_document(space, extents, reaches, limit, setting))
        return
    console = Console(highlight=False)
    if space.parts is None:
        _print_space(console, space, context, predictor, extents[space.method or name], reaches, limit)
    else:
        _print_union(console, name, predictor, extents, limit)
    if picture is not None:
        console.print(f"picture: {picture}", soft_wrap=True)


def show_largest(
    names: Sequence[str],
    predictor: MemoryPredictor,
    method: str,
    config: MethodConfig,
    limit: int,
    as_json: bool,
    setting: Mapping[str, Any],
) -> None:
    """Print the largest value that some settings can have together, and why it is not larger.

    Args:
        names: Names of the settings.
        predictor: Predictor with the encoders and all other settings.
        method: Name of the method.
        config: Configuration of the method.
        limit: Bytes that are available.
        as_json: Whether to print a JSON document instead of text.
        setting: The description of the predictor for the document, see ``describe``.
    """
    from search.reporting.progress import error_console
    from search.sizing.extent import find_largest_setting

    with error_console().status(f"looking for the largest {', '.join(names)} in {format_size(limit)}"):
        found = find_largest_setting(names, predictor, method, config, limit)
    if as_json:
        document = {"method": method, "config": config.to_dict(), "max": list(names), "limit": limit}
        print_json({**document, **asdict(found), "setting": setting})
        return
    console = Console(highlight=False)
    named = " = ".join(names)
    console.print(f"{named} = [bold]{found.value:,}[/bold] takes {format_size(found.memory)}", soft_wrap=True)
    console.print(_why(found, limit), style="dim", soft_wrap=True, markup=False)


def _why(found: Largest, limit: int) -> str:
    if found.next_memory is not None:
        over = found.next_memory - limit
        excess = "less than 1 MiB" if over < MIB else format_size(over)
        return f"{found.next_value:,} takes {format_size(found.next_memory)}, {excess} too much"
    return f"nothing above: {found.reason}"


def _title(name: str, predictor: MemoryPredictor) -> str:
    encoders = " + ".join(encoder.name for encoder in predictor.encoders.values())
    return f"{name} on {encoders}"


def _dearest(space: Space, reaches: Sequence[Reach]) -> str:
    """Return the parameter that changes memory most at the first point."""
    moved = {reach.parameter: reach.first.moved for reach in reaches if reach.first}
    parameter = max(moved, key=lambda name: moved[name], default=None)
    if parameter is None or not moved[parameter]:
        raise UserError(
            f"--plot: no parameter of space '{space.name}' moves memory; there is nothing to draw"
        )
    return parameter


def _space_document(
    space: Space,
    extents: Mapping[str, Extent],
    reaches: Sequence[Reach],
    limit: int | None,
    setting: Mapping[str, Any],
) -> dict[str, Any]:
    document: dict[str, Any] = {"space": space.name, "limit": limit}
    if space.parts is None:
        (extent,) = extents.values()
        document |= _extent_document(extent)
        document["parameters"] = {
            reach.parameter: {
                "values": [reach.values[0], reach.values[-1]],
                "moves_memory": not reach.idle,
                "others_smallest": _slice_document(reach.smallest, limit),
                "others_first": _slice_document(reach.first, limit),
            }
            for reach in reaches
        }
    else:
        document["methods"] = {method: _extent_document(extent) for method, extent in extents.items()}
    return {**document, "setting": setting}


def _extent_document(extent: Extent) -> dict[str, Any]:
    document = {name: asdict(getattr(extent, name)) for name in ("smallest", "first", "largest")}
    if not extent.drawn:
        return document
    share = {"share": extent.share, "standard_error": extent.standard_error}
    return {**document, "drawn": extent.drawn, "fitting": extent.fitting, **share}


def _slice_document(part: Slice | None, limit: int | None) -> dict[str, Any] | None:
    if part is None:
        return None
    return {"memory": [part.low, part.high], **({} if limit is None else {"fits": part.fits})}


def _print_space(
    console: Console,
    space: Space,
    context: SpaceContext,
    predictor: MemoryPredictor,
    extent: Extent,
    reaches: Sequence[Reach],
    limit: int | None,
) -> None:
    moving = [reach for reach in reaches if not reach.idle]
    console.print(_heading(space.name, predictor, limit), soft_wrap=True)
    table = _table()
    table.add_column("member", no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    idle = [reach.parameter for reach in reaches if reach.idle]
    for label, sized in _named(extent).items():
        settings = ", ".join(f"{k}={v}" for k, v in sized.config.items() if k not in ("method", *idle))
        table.add_row(label, _shown(sized.memory, limit), settings or "-")
    console.print(table)
    if extent.drawn:
        console.print(
            f"[bold]{_share(extent)}[/bold] of the space fits "
            f"({extent.fitting} of {extent.drawn} members drawn evenly)",
            soft_wrap=True,
        )
    if moving:
        console.print(
            "\n[bold]One parameter at a time[/bold], the others at their smallest or at the first point",
            soft_wrap=True,
        )
        console.print(_reach_table(moving, context, limit))
    if idle:
        console.print(f"move no memory there: {', '.join(idle)}", style="dim", soft_wrap=True)


def _reach_table(reaches: Sequence[Reach], context: SpaceContext, limit: int | None) -> Table:
    table = _table()
    table.add_column("parameter", no_wrap=True)
    table.add_column("range", no_wrap=True)
    for group in ("smallest", "first point"):
        table.add_column(f"{group}\nGiB", justify="right", no_wrap=True)
        if limit is not None:
            table.add_column("\nfits up to", justify="right")
    for reach in reaches:
        cells = [reach.parameter, _range(reach)]
        for part in (reach.smallest, reach.first):
            cells.append("-" if part is None else f"{part.low / GIB:.2f}-{part.high / GIB:.2f}")
            if limit is not None:
                cells.append("-" if part is None else _fits(reach, part, context))
        table.add_row(*cells)
    fused = any(reach.parameter == "n_fusion_layers" for reach in reaches)
    if fused and limit is not None:
        table.caption = f"in brackets: L_f, the first fused layer, of {'/'.join(context.depths)}"
        table.caption_justify = "left"
    return table


def _fits(reach: Reach, part: Slice, context: SpaceContext) -> str:
    if not part.fits:
        return "none"
    shown = ", ".join(map(_value, part.fits))
    if reach.parameter == "n_fusion_layers":
        return f"{shown} ({'/'.join(str(depth - part.fits[0]) for depth in context.depths.values())})"
    return shown


def _print_union(
    console: Console, name: str, predictor: MemoryPredictor, extents: Mapping[str, Extent], limit: int | None
) -> None:
    console.print(_heading(name, predictor, limit), soft_wrap=True)
    table = _table()
    table.add_column("method", no_wrap=True)
    for heading in ("smallest", "first point", "largest"):
        table.add_column(heading, justify="right", no_wrap=True)
    if limit is not None:
        table.add_column("fits", justify="right", no_wrap=True)
    for method, extent in extents.items():
        cells = [_shown(sized.memory, limit) for sized in _named(extent).values()]
        table.add_row(method, *cells, *([] if limit is None else [_share(extent)]))
    console.print(table)
    if limit is not None:
        drawn = next(iter(extents.values())).drawn
        share = sum(extent.share for extent in extents.values()) / len(extents)
        console.print(f"{share:.0%} of the space fits (members drawn evenly of each method: {drawn})")


def _named(extent: Extent) -> dict[str, Sized]:
    return {"smallest": extent.smallest, "first point": extent.first, "largest": extent.largest}


def _range(reach: Reach) -> str:
    if not reach.ordered:
        return ", ".join(map(_value, reach.values))
    return f"{_value(reach.values[0])}-{_value(reach.values[-1])}"


def _heading(name: str, predictor: MemoryPredictor, limit: int | None) -> str:
    title = f"{_title(name, predictor)}, batch size {predictor.setting.batch_size}"
    return f"[bold]{title}[/bold]" + ("" if limit is None else f", limit {format_size(limit)}")


def _table() -> Table:
    return Table(header_style="bold", box=None, padding=(0, 2, 0, 0))


def _shown(memory: int, limit: int | None) -> str:
    """Return a size as text, in red if it does not fit."""
    size = format_size(memory)
    return size if limit is None or memory <= limit else f"[red]{size}[/red]"


def _share(extent: Extent) -> str:
    return f"{extent.share:.0%} ± {extent.standard_error:.1%}"


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
