"""From the options of a command to what it predicts with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.cli.options import assignments
from search.units import format_size
from trainables.errors import UserError

if TYPE_CHECKING:
    from trainables.memory.predictor import MemoryPredictor


def make_predictor(
    names: Mapping[str, str],
    encoder: Sequence[str] | None,
    classes: int,
    *,
    image_size: int | None,
    **setting: Any,
) -> MemoryPredictor:
    """Return the predictor that a command's options describe.

    Args:
        names: Encoder of each modality.
        encoder: What was given as ``--encoder``, in place of these.
        classes: Number of classes.
        image_size: Pixels; None takes the image encoder's own.
        setting: The other fields of the setting.

    Raises:
        UserError: If they do not go together.
    """
    from trainables.memory.memo import PredictionMemo
    from trainables.memory.predictor import MemoryPredictor
    from trainables.step.setting import TrainingSetting
    from trainables.tasks import DEFAULT_TASK, get_task
    from trainables.towers import resolve_encoder

    if classes < 2:
        raise UserError(f"--classes {classes}: must be at least 2")
    if encoder:
        names = assignments("--encoder", encoder, "audio=arch:whisper-tiny")
    encoders = {modality: resolve_encoder(modality, name) for modality, name in names.items()}
    own_size = next((e.image_size for e in encoders.values() if e.image_size), 224)
    return MemoryPredictor(
        encoders,
        get_task(DEFAULT_TASK).of_size(classes),
        TrainingSetting(image_size=image_size or own_size, **setting),
        memo=PredictionMemo(),
    )


def describe(predictor: MemoryPredictor) -> dict[str, Any]:
    """Return what predictions are for, as documents have it."""
    return {
        **predictor.setting.to_dict(),
        **predictor.task.summary(),
        "encoders": {modality: source.name for modality, source in predictor.encoders.items()},
    }


def encoder_names(predictor: MemoryPredictor) -> str:
    """Return the names of the encoders, for headings."""
    return " + ".join(source.name for source in predictor.encoders.values())


@dataclass(frozen=True)
class OnDevice:
    """What a prediction means on a device.

    Attributes:
        document: For programs.
        sentence: For people.
    """

    document: dict[str, Any]
    sentence: str


def on_a_device(predicted: int, attention: str, device: str | None) -> OnDevice:
    """Return what a prediction means on a device, and whether that device was calibrated.

    Args:
        predicted: Bytes.
        attention: Attention kernel.
        device: Name of the kind of device or part of it; None is this machine's.

    Raises:
        UserError: If a device was named that was not calibrated.
    """
    from trainables.memory.calibration import find_calibration, load_calibrations, local_device, needed_on_gpu

    found = find_calibration(device or local_device(), attention)
    if found is None and device is not None:
        known = ", ".join(f"{c.device} ({c.attention})" for c in load_calibrations()) or "none"
        raise UserError(
            f"--device {device}: not calibrated for attention kernel '{attention}' and this version of "
            f"PyTorch; calibrated: {known}; run `python search.py calibrate` on the device"
        )
    if found is None:
        plan = needed_on_gpu(predicted, None)
        return OnDevice(
            {"calibrated": False, "name": None, "bytes": None, "planned": plan},
            f"uncalibrated: this counts tensors. On a GPU allow for {format_size(plan)}; "
            "`python search.py calibrate` on the GPU measures what it takes.",
        )
    size = found.device_bytes(predicted)
    return OnDevice(
        {"calibrated": True, "name": found.device, "bytes": size, "planned": needed_on_gpu(predicted, found)},
        f"calibrated on {found.device} with {found.points} configurations (worst error {found.worst:.1%}): "
        f"{format_size(size)} there.",
    )
