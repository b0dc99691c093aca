"""Makes the memory predictor that a command's options describe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from rich.table import Table

from search.cli.options import Given
from search.config import EncoderSettings, TargetSettings
from search.config.markers import named_values
from search.units import format_size
from trainables.errors import UserError
from trainables.options import MOST, AtLeast, AtMost, Help, Settings
from trainables.step.precision import AUTO, default_device, device_computes_in_bf16, fastest
from trainables.step.setting import SAMPLES, PrecisionSettings, TrainingSetting

if TYPE_CHECKING:
    from trainables.memory.calibration import Calibration
    from trainables.memory.predictor import MemoryPredictor
    from trainables.memory.report import MemoryReport
    from trainables.methods import MethodConfig

#: Names of a memory's parts in tables, if they differ from those in documents.
_NAMES = {"total": "tensors", "reserved": "reserved by the allocator"}


@dataclass(frozen=True, kw_only=True)
class MethodSettings(Settings):
    """One configuration."""

    method: Annotated[str, Help("Fusion method. The command `methods` lists them.", metavar="NAME")] = "pmf"
    settings: Annotated[
        tuple[str, ...],
        Help("Setting of the method. The option may be repeated.", metavar="NAME=VALUE", flag="--set"),
    ] = ()

    def config(self) -> MethodConfig:
        """Return the method's configuration.

        Raises:
            UserError: If there is no such method or setting.
        """
        from trainables.methods import get_method

        values = named_values("--set", self.settings, "n_fusion_layers=2")
        return get_method(self.method).config_class.from_dict(values)


@dataclass(frozen=True, kw_only=True)
class ClassSettings(Settings):
    """The part of the task on which memory depends."""

    panel: ClassVar[str | None] = SAMPLES

    classes: Annotated[
        int, Help("Number of classes to tell apart.", metavar="N"), AtLeast(2), AtMost(MOST)
    ] = 13


def make_predictor(given: Given, calibration: Calibration | None = None) -> MemoryPredictor:
    """Return the predictor that a command's options describe.

    Args:
        given: The options.
        calibration: What was measured of the GPU that predictions are for; None if nothing was.

    Raises:
        UserError: If an encoder does not exist, or if the options do not go together.
    """
    from trainables.memory.memo import PredictionMemo
    from trainables.memory.predictor import MemoryPredictor
    from trainables.tasks import DEFAULT_TASK, get_task
    from trainables.towers import resolve_encoders

    chosen = given.make(EncoderSettings)
    encoders = resolve_encoders(chosen.names, chosen.poolings)
    own_size = next((e.image_size for e in encoders.values() if e.image_size), 224)
    return MemoryPredictor(
        encoders,
        get_task(DEFAULT_TASK).of_size(given.make(ClassSettings).classes),
        replace(training_setting(given, calibration), image_size=chosen.image_size or own_size),
        memo=PredictionMemo(),
    )


def training_setting(given: Given, calibration: Calibration | None = None) -> TrainingSetting:
    """Return the setting that a command's options describe; precision ``auto`` is this machine's.

    Args:
        given: The options.
        calibration: What was measured of the target; None takes this machine's GPU, if there is one.
    """
    from trainables.memory.calibration import local_capability

    precision = given.make(PrecisionSettings).precision
    if precision == AUTO:
        precision = fastest(bf16=device_computes_in_bf16(default_device()))
    setting = replace(given.make(TrainingSetting), precision=precision)
    capability = calibration.compute_capability if calibration else local_capability()
    if capability is not None:
        setting = replace(setting, compute_capability=capability)
    if calibration is not None:
        setting = replace(setting, context_bytes=calibration.context)
    return replace(setting, **given.make(TargetSettings).changes())


def calibrated(device: str | None = None) -> Calibration | None:
    """Return what was measured of a kind of GPU, or None.

    Args:
        device: Its name, or a part of it; None is this machine's GPU, of which nothing need be known.

    Raises:
        UserError: If the named device was not calibrated.
    """
    from trainables.memory.calibration import find_calibration, load_calibrations, local_gpu

    found = find_calibration(device or local_gpu() or "")
    if found is None and device is not None:
        known = ", ".join(each.device for each in load_calibrations()) or "none"
        raise UserError(
            f"--device {device}: not calibrated for this version of PyTorch; calibrated: {known}; run "
            "`python search.py calibrate` on the device, or give --context SIZE"
        )
    return found


def memory_table(title: str, heading: str, report: MemoryReport) -> Table:
    """Return the parts of a memory with their sums, as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column(heading)
    table.add_column("", justify="right")
    for part, size in report.sizes().items():
        if part == "total" and report.target == "cpu":
            continue  # it is the memory
        style = "bold" if part == "memory" else "dim" if part in _NAMES else ""
        table.add_row(_NAMES.get(part, part), format_size(size), style=style)
    table.add_section()
    if report.inference_memory is not None:
        table.add_row("inference memory", format_size(report.inference_memory))
    table.add_row("trained parameters", f"{report.trainable_parameters:,}")
    table.add_row("checkpoint", format_size(report.checkpoint))
    return table


def describe(predictor: MemoryPredictor) -> dict[str, Any]:
    """Return the setting, the task and the encoders of predictions, for JSON documents."""
    return {
        **predictor.setting.to_dict(),
        **predictor.task.summary(),
        "encoders": {modality: source.name for modality, source in predictor.encoders.items()},
        "pooling": {modality: source.pooling for modality, source in predictor.encoders.items()},
    }


def step_in_words(predictor: MemoryPredictor, given: Given) -> str:
    """Return the sizes and the precision of the predicted step, and whether this machine decided it."""
    setting = predictor.setting
    decided = ", as this machine computes" if given.make(PrecisionSettings).precision == AUTO else ""
    sizes = setting.sizes.words(predictor.kinds)
    return f"a step of {setting.batch_size} samples, {sizes}, in {setting.precision}{decided}"


def encoder_names(predictor: MemoryPredictor) -> str:
    """Return the names of the encoders, for headings."""
    return " + ".join(source.name for source in predictor.encoders.values())
