"""The command ``predict``: the memory of a configuration or of a space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from rich.console import Console

from search.cli.models import GO_WITH_MODEL, ModelSettings, show_model
from search.cli.options import Given, Output, options_of, takes
from search.cli.predictors import (
    ClassSettings,
    MethodSettings,
    calibrated,
    describe,
    encoder_names,
    make_predictor,
    memory_table,
    step_in_words,
)
from search.cli.printing import print_json
from search.cli.sizes import show_largest, show_space
from search.cli.waiting import waiting
from search.config import EncoderSettings, Extensions, TargetSettings
from search.config.markers import NAMES, SIZE
from search.target import in_words
from trainables.errors import UserError
from trainables.options import MOST, AtLeast, AtMost, Help, Settings
from trainables.step.setting import PrecisionSettings, TrainingSetting

if TYPE_CHECKING:
    from trainables.memory.calibration import Calibration
    from trainables.memory.predictor import MemoryPredictor
    from trainables.methods import MethodConfig


@dataclass(frozen=True, kw_only=True)
class SizingSettings(Settings):
    """Settings for questions about a whole space or about the largest value of a setting."""

    panel: ClassVar[str | None] = "How much fits"

    space: Annotated[
        str | None,
        Help(
            "Show the range of a whole space instead of one configuration. With --limit, show which part of "
            "it fits.",
            metavar="NAME",
        ),
    ] = None
    limit: Annotated[int | None, Help("Memory that is available, for example 8GiB."), SIZE, AtLeast(1)] = None
    maximise: Annotated[
        tuple[str, ...] | None,
        Help(
            "Find the largest value that fits into --limit, of batch_size, text_length or any setting of the "
            "method that is a whole number. Several settings get the same value.",
            flag="--max",
        ),
        NAMES,
    ] = None
    members: Annotated[
        int, Help("Number of members of the space that are drawn.", metavar="N"), AtLeast(1), AtMost(MOST)
    ] = 256
    plot: Annotated[
        Path | None,
        Help(
            "Draw the space into this picture (png, svg or pdf): memory over batch size and over the "
            "parameter that changes memory most.",
            metavar="FILE",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(Settings):
    """The kind of GPU that a prediction is for."""

    device: Annotated[
        str | None,
        Help(
            "Kind of GPU that was calibrated, whose compute capability and context are taken. Part of its "
            "name is enough.",
            metavar="NAME",
            default="this machine's",
        ),
    ] = None


@takes(
    Output,
    Extensions,
    MethodSettings,
    ModelSettings,
    DeviceSettings,
    SizingSettings,
    EncoderSettings,
    ClassSettings,
    PrecisionSettings,
    TargetSettings,
    TrainingSetting,
)
def predict(given: Given) -> None:
    """Predict training memory, without training and without a GPU.

    The prediction is what one optimization step needs on the target, found by running the real model on
    tensors without content. On a GPU that is what the allocator reserves for the tensors at the peak, and the
    CUDA context. The inference memory is what a forward pass of the same batch needs there without gradient.

    It is made for one configuration or for a whole space (--space). The other way round, --max finds the
    largest setting that fits into a limit. --model is about a single model without fusion.
    """
    sizing = given.make(SizingSettings)
    model, device = given.make(ModelSettings).model, given.make(DeviceSettings).device
    if device is not None and given.make(TrainingSetting).target == "cpu":
        raise UserError(f"--device {device} is a GPU; leave out --target cpu")
    if model is not None:
        foreign = [o.flag for o in options_of(predict) if o.name in given and o.name not in GO_WITH_MODEL]
        if foreign:
            raise UserError(f"--model is about a single model; leave out {', '.join(foreign)}")
        show_model(model, given, sizing.limit, device)
        return
    chosen, as_json = given.make(MethodSettings), given.make(Output).as_json
    _check_modes(sizing, one_configuration="method" in given or "settings" in given)
    with waiting("loading PyTorch and the encoders"):
        given.make(Extensions).load()
        calibration = calibrated(device)
        config, predictor = chosen.config(), make_predictor(given, calibration)
    described = describe(predictor)
    if sizing.space is not None:
        show_space(sizing.space, predictor, sizing.limit, sizing.members, sizing.plot, as_json, described)
    elif sizing.maximise is not None and sizing.limit is not None:
        show_largest(sizing.maximise, predictor, chosen.method, config, sizing.limit, as_json, described)
    else:
        step = step_in_words(predictor, given)
        _show_configuration(predictor, chosen.method, config, calibration, as_json, described, step)


def _check_modes(sizing: SizingSettings, *, one_configuration: bool) -> None:
    """Raise ``UserError`` if options do not go together, or if a needed one is missing."""
    if sizing.space is not None and (one_configuration or sizing.maximise is not None):
        raise UserError("--space is about all its members; leave out --method, --set and --max")
    if sizing.plot is not None and sizing.space is None:
        raise UserError("--plot draws a space; add --space NAME")
    if sizing.maximise is not None and sizing.limit is None:
        raise UserError("--max needs to know how much memory there is; add --limit SIZE")
    if sizing.maximise is not None and not sizing.maximise:
        raise UserError("--max: write a setting's name, e.g. --max batch_size")
    if sizing.limit is not None and sizing.space is None and sizing.maximise is None:
        raise UserError("--limit is for --space NAME, --max NAME or --model NAME; add one of them")


def _show_configuration(
    predictor: MemoryPredictor,
    method: str,
    config: MethodConfig,
    calibration: Calibration | None,
    as_json: bool,
    setting: Mapping[str, Any],
    step: str,
) -> None:
    with waiting(f"predicting {method}"):
        report = predictor.predict(method, config)
        report = replace(report, inference=predictor.predict_inference(method, config))
    calibration = calibration if report.target == "cuda" else None
    if as_json:
        print_json(
            {
                "method": method,
                "config": config.to_dict(),
                "trainable_parameters": report.trainable_parameters,
                "checkpoint": report.checkpoint,
                "memory": report.to_dict(),
                "inference_memory": report.inference_memory,
                "calibration": calibration and calibration.to_dict(),
                "setting": setting,
            }
        )
        return
    table = memory_table(f"{method} on {encoder_names(predictor)}", "for one step", report)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"for {step}", soft_wrap=True)
    console.print(in_words(predictor.setting), soft_wrap=True)
    if calibration is not None:
        console.print(
            f"calibrated on {calibration.device}: predictions of {calibration.points} configurations were "
            f"off by {calibration.median:.1%} in the median, {calibration.worst:.1%} at most",
            soft_wrap=True,
        )
