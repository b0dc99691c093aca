"""The command ``explain``: the memory of a configuration by the parts of the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.cli.options import Given, Output, takes
from search.cli.predictors import (
    ClassSettings,
    MethodSettings,
    calibrated,
    describe,
    encoder_names,
    make_predictor,
)
from search.cli.printing import print_json
from search.cli.waiting import waiting
from search.config import EncoderSettings, Extensions, TargetSettings
from search.units import format_size
from trainables.options import Help, Settings
from trainables.step.setting import PrecisionSettings, TrainingSetting

if TYPE_CHECKING:
    from trainables.memory.report import MemoryReport

#: Length of the longest bar, in characters.
_BAR = 11

#: Headings that are wider than the values in their column, with a line break.
_HEADINGS = {
    "gradients": "gradi-\nents",
    "optimizer": "opti-\nmizer",
    "activations": "acti-\nvations",
    "temporary": "tempo-\nrary",
}

#: Least bytes of a size that is shown: smaller ones would be 0 MiB.
_SHOWN = 2**19


@dataclass(frozen=True, kw_only=True)
class PictureSettings(Settings):
    """Settings of the picture that is drawn in addition to the table."""

    plot: Annotated[
        Path | None,
        Help("Draw the same as stacked bars into this picture (png, svg or pdf).", metavar="FILE"),
    ] = None


@takes(
    Output,
    Extensions,
    MethodSettings,
    PictureSettings,
    EncoderSettings,
    ClassSettings,
    PrecisionSettings,
    TargetSettings,
    TrainingSetting,
)
def explain(given: Given) -> None:
    """Show how much memory each part of the model holds at the peak of one step, and what for.

    Layers below the first one that the gradient reaches hold only their weights. So a configuration that
    fuses few layers needs little memory.
    """
    from search.sizing.charts import check_picture, plot_breakdown

    plot, chosen = given.make(PictureSettings).plot, given.make(MethodSettings)
    if plot is not None:
        check_picture(plot)
    method = chosen.method
    with waiting("loading PyTorch and the encoders"):
        given.make(Extensions).load()
        config, predictor = chosen.config(), make_predictor(given, calibrated())
    with waiting(f"predicting {method}"):
        report, parts = predictor.predict(method, config), predictor.explain(method, config.to_dict())
    title = f"{method} on {encoder_names(predictor)}"
    if plot is not None:
        plot_breakdown(parts, report, plot, title)
    if given.make(Output).as_json:
        document = {"method": method, "config": config.to_dict(), "parts": parts, "memory": report.to_dict()}
        print_json({**document, "setting": describe(predictor)})
        return
    console = Console(highlight=False)
    console.print(_table(_grouped(parts), title))
    console.print(_sum_in_words(report), soft_wrap=True)
    if plot is not None:
        console.print(f"picture: {plot}", soft_wrap=True)


def _sum_in_words(report: MemoryReport) -> str:
    """Return in a line how tensors make up the memory."""
    if report.reserved is None:
        return f"memory on a CPU: {format_size(report.memory)}"
    return (
        f"memory on a GPU: {format_size(report.memory)}, which are {format_size(report.total)} of tensors, "
        f"{format_size(report.reserved - report.total)} that the allocator reserves beside them, and "
        f"{format_size(report.context)} of context"
    )


def _grouped(parts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Merge neighbouring layers of an encoder that hold the same bytes into one row."""
    rows: list[tuple[list[str], dict[str, int]]] = []
    for part, held in parts.items():
        stem, _, index = part.rpartition(" ")
        last = rows[-1][0][-1].rpartition(" ")[0] if rows else None
        if index.isdecimal() and stem == last and rows[-1][1] == held:
            rows[-1][0].append(part)
        else:
            rows.append(([part], held))
    grouped = {}
    for names, held in rows:
        name = names[0]
        if len(names) > 1:
            stem, _, first = name.rpartition(" ")
            name = f"{stem}s {first} to {names[-1].rpartition(' ')[2]}"
        grouped[name] = {kind: len(names) * size for kind, size in held.items()}
    return grouped


def _table(parts: dict[str, dict[str, int]], title: str) -> Table:
    from search.sizing.charts import KIND_COLOURS

    kinds = [kind for kind in KIND_COLOURS if any(held[kind] >= _SHOWN for held in parts.values())]
    table = Table(
        title=f"{title}, at the peak of one step", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    table.add_column("part", no_wrap=True)
    for kind in (*kinds, "all"):
        table.add_column(
            _HEADINGS.get(kind, kind), justify="right", style=KIND_COLOURS.get(kind, "bold"), no_wrap=True
        )
    table.add_column("", no_wrap=True)
    largest = max(sum(held.values()) for held in parts.values())
    for part, held in parts.items():
        sizes = [format_size(held[kind]) if held[kind] >= _SHOWN else "" for kind in kinds]
        bar = Text()
        for kind in kinds:
            bar.append("█" * round(_BAR * held[kind] / largest), style=KIND_COLOURS[kind])
        table.add_row(part, *sizes, format_size(sum(held.values())), bar)
    table.add_section()
    totals: dict[str, Any] = {kind: sum(held[kind] for held in parts.values()) for kind in kinds}
    table.add_row("all", *map(format_size, totals.values()), format_size(sum(totals.values())), style="bold")
    return table
