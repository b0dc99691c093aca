"""Where the bytes of a configuration are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.cli.options import (
    AsJson,
    Attention,
    AudioSeconds,
    BatchSize,
    Classes,
    EncoderDropout,
    Encoders,
    FeatureLength,
    GradientAccumulation,
    GradientCheckpointing,
    ImageEncoder,
    ImageSize,
    MethodSettings,
    Optimizer,
    OptimizerKernel,
    Plugins,
    Precision,
    Prefix,
    SkipUnused,
    TextEncoder,
    TextLength,
    assignments,
    load_plugins,
)
from search.cli.predictors import describe, encoder_names, make_predictor
from search.cli.printing import print_json
from search.sizing.charts import KIND_COLOURS
from search.units import format_size

#: Characters of the longest bar.
_BAR = 11

#: Headings that would take more room than what stands below them.
_HEADINGS = {
    "gradients": "gradi-\nents",
    "optimizer": "opti-\nmizer",
    "activations": "acti-\nvations",
    "temporary": "tempo-\nrary",
}

#: Bytes from which on a size is not 0 MiB.
_SHOWN = 2**19


def explain(
    method: Annotated[str, typer.Option(help="Method; `methods` lists them.")] = "pmf",
    settings: MethodSettings = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture (png, svg, pdf): the same as stacked bars.")
    ] = None,
    text_encoder: TextEncoder = "minilm",
    image_encoder: ImageEncoder = "dinov2-small",
    encoder: Encoders = None,
    classes: Classes = 13,
    text_length: TextLength = 128,
    image_size: ImageSize = None,
    audio_seconds: AudioSeconds = 5.0,
    feature_length: FeatureLength = 50,
    batch_size: BatchSize = 32,
    gradient_accumulation: GradientAccumulation = 1,
    precision: Precision = "fp32",
    attention: Attention = "eager",
    encoder_dropout: EncoderDropout = True,
    gradient_checkpointing: GradientCheckpointing = False,
    prefix: Prefix = "computed",
    skip_unused: SkipUnused = False,
    optimizer: Optimizer = "adamw",
    optimizer_kernel: OptimizerKernel = "single",
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Show where the bytes of a configuration are at the peak of one step, by part of the model and kind.

    Layers below the first one that the gradient reaches hold weights only: few fused layers are cheap.
    """
    from search.sizing.charts import check_picture, plot_breakdown
    from trainables.methods import get_method

    if plot is not None:
        check_picture(plot)
    load_plugins(plugin)
    config = get_method(method).config_class.from_dict(
        assignments("--set", settings or [], "n_fusion_layers=2")
    )
    predictor = make_predictor(
        {"text": text_encoder, "image": image_encoder},
        encoder,
        classes,
        batch_size=batch_size,
        gradient_accumulation=gradient_accumulation,
        text_length=text_length,
        image_size=image_size,
        audio_seconds=audio_seconds,
        feature_length=feature_length,
        precision=precision,
        attention=attention,
        encoder_dropout=encoder_dropout,
        gradient_checkpointing=gradient_checkpointing,
        prefix=prefix,
        skip_unused=skip_unused,
        optimizer=optimizer,
        optimizer_kernel=optimizer_kernel,
    )
    parts = predictor.explain(method, config.to_dict())
    title = f"{method} on {encoder_names(predictor)}"
    if plot is not None:
        plot_breakdown(parts, plot, title)
    if as_json:
        document = {"method": method, "config": config.to_dict(), "parts": parts}
        print_json({**document, "setting": describe(predictor)})
        return
    console = Console(highlight=False)
    console.print(_table(_grouped(parts), title))
    if plot is not None:
        console.print(f"picture: {plot}", soft_wrap=True)


def _grouped(parts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Put neighbouring layers of an encoder that hold the same into one row."""
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
