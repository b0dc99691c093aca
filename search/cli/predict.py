"""What a configuration costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from search.cli.options import (
    AsJson,
    Attention,
    AudioSeconds,
    BatchSize,
    Classes,
    Device,
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
    split_names,
)
from search.cli.predictors import describe, encoder_names, make_predictor, on_a_device
from search.cli.printing import print_json
from search.cli.sizes import show_largest, show_space
from search.units import format_size, parse_size
from trainables.errors import UserError

if TYPE_CHECKING:
    from trainables.memory.predictor import MemoryPredictor
    from trainables.methods import MethodConfig


_SIZING = "How much fits"


def predict(
    method: Annotated[
        str | None, typer.Option(help="Method; `methods` lists them.", show_default="pmf")
    ] = None,
    settings: MethodSettings = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Instead of one configuration, the range of a space; with --limit which part of it fits.",
            rich_help_panel=_SIZING,
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory that there is, e.g. 8GiB.", rich_help_panel=_SIZING),
    ] = None,
    maximise: Annotated[
        str | None,
        typer.Option(
            "--max",
            metavar="NAME[,NAME]",
            help="The largest value within --limit: batch_size, text_length, or a setting of the method that "
            "is a whole number; several have the same value.",
            rich_help_panel=_SIZING,
        ),
    ] = None,
    members: Annotated[
        int, typer.Option(metavar="N", help="Members of the space to draw.", rich_help_panel=_SIZING)
    ] = 256,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Picture (png, svg, pdf) of the space: memory over its dearest parameter and batch size.",
            rich_help_panel=_SIZING,
        ),
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
    device: Device = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Predict training memory, without training and without a GPU.

    The peak of one optimisation step in bytes, found by running the real model on tensors without content.

    Of one configuration, of a space (--space), or the other way round: the largest setting that fits (--max).
    """
    _check_modes(space, method, settings, maximise, limit, plot)
    from trainables.methods import get_method

    load_plugins(plugin)
    method = method or "pmf"
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
    described = describe(predictor)
    most = None if limit is None else parse_size(limit)
    if space is not None:
        show_space(space, predictor, most, members, plot, as_json, described)
    elif maximise is not None and most is not None:
        show_largest(split_names(maximise), predictor, method, config, most, as_json, described)
    else:
        _show_configuration(predictor, method, config, device, as_json, described)


def _check_modes(
    space: str | None,
    method: str | None,
    settings: list[str] | None,
    maximise: str | None,
    limit: str | None,
    plot: Path | None,
) -> None:
    """Refuse options that say nothing together."""
    if space is not None and (method or settings or maximise):
        raise UserError("--space is about all its members; leave out --method, --set and --max")
    if plot is not None and space is None:
        raise UserError("--plot draws a space; add --space NAME")
    if maximise is not None and limit is None:
        raise UserError("--max needs to know how much memory there is; add --limit SIZE")
    if maximise is not None and not split_names(maximise):
        raise UserError("--max: write a setting's name, e.g. --max batch_size")
    if limit is not None and space is None and maximise is None:
        raise UserError("--limit is for --space NAME or --max NAME; add one of them")


def _show_configuration(
    predictor: MemoryPredictor,
    method: str,
    config: MethodConfig,
    device: str | None,
    as_json: bool,
    setting: Mapping[str, Any],
) -> None:
    report = predictor.predict(method, config)
    on_device = on_a_device(report.total, predictor.setting.attention, device)
    if as_json:
        print_json(
            {
                "method": method,
                "config": config.to_dict(),
                "trainable_parameters": report.trainable_parameters,
                "checkpoint": report.checkpoint,
                "memory": report.to_dict(),
                "device": on_device.document,
                "setting": setting,
            }
        )
        return
    table = Table(title=f"{method} on {encoder_names(predictor)}", title_justify="left")
    table.add_column("at the peak of one step")
    table.add_column("", justify="right")
    for part, size in report.to_dict().items():
        table.add_row(part, format_size(size), style="bold" if part == "total" else "")
    table.add_section()
    table.add_row("trained parameters", f"{report.trainable_parameters:,}")
    table.add_row("checkpoint", format_size(report.checkpoint))
    console = Console(highlight=False)
    console.print(table)
    console.print(on_device.sentence, soft_wrap=True)
