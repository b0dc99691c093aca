"""Conversion of predicted tensor bytes into the bytes that a trial needs on a device.

A prediction counts tensors. A process on a GPU also holds a CUDA context, the libraries' workspaces and the
allocator's reserve, and the GPU may run kernels other than the predicted ones. A line describes all of this
well: ``device = slope * predicted + intercept``. Its two numbers are fitted to a few measured configurations
and stored for that kind of device, version of PyTorch and attention kernel.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.cache import ADVICE, cache_dir, make_folder
from trainables.disk import move_synced, writing
from trainables.notices import tell
from trainables.units import GIB, MIB

#: Approximate bytes of a CUDA context with PyTorch's kernels. Every process on a GPU needs at least these.
CUDA_CONTEXT = 512 * MIB

#: Without a calibration: factor for the allocator and bytes for the libraries on a GPU, or for a Python
#: process on a CPU.
GPU_MARGIN, GPU_PROCESS = 1.2, 1 * GIB
CPU_MARGIN, CPU_PROCESS = 1.1, 1 * GIB

#: With a calibration: relative margin above the line, in addition to the largest error seen in fitting.
CALIBRATED_MARGIN = 0.03


@dataclass(frozen=True)
class Calibration:
    """A line fitted to measured configurations.

    Attributes:
        device: Name of the kind of device.
        torch: Version of PyTorch.
        attention: Attention kernel.
        slope: Bytes on the device for each predicted byte.
        intercept: Bytes on the device that do not depend on the prediction.
        worst: Largest relative difference between line and measurement among the fitted configurations.
        points: Number of fitted configurations.
    """

    device: str
    torch: str
    attention: str
    slope: float
    intercept: float
    worst: float
    points: int

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return asdict(self)

    def device_bytes(self, predicted: int) -> int:
        """Return the estimated bytes on the device for a number of predicted bytes."""
        return round(self.slope * predicted + self.intercept)


def fit_line(
    predicted: Sequence[int], measured: Sequence[int], *, device: str, attention: str
) -> Calibration:
    """Fit a line to measured configurations, by least squares of the relative error.

    Args:
        predicted: Predicted bytes of each configuration.
        measured: Bytes on the device of each.
        device: Name of the kind of device.
        attention: Attention kernel.

    Raises:
        ValueError: If there are fewer than three, or all predictions are equal.
    """
    if len(set(predicted)) < 3:
        raise ValueError("at least three configurations of different memory are needed")
    x, y = np.array(predicted, dtype=float), np.array(measured, dtype=float)
    slope, intercept = np.polyfit(x, y, 1, w=1 / y)
    worst = float(np.max(np.abs(slope * x + intercept - y) / y))
    return Calibration(
        device, torch.__version__, attention, float(slope), float(intercept), worst, len(predicted)
    )


def needed_on_gpu(predicted: int, calibration: Calibration | None) -> int:
    """Return the bytes that a trial on a GPU needs, with a margin; never less than a CUDA context."""
    if calibration is None:
        return round(GPU_MARGIN * predicted) + GPU_PROCESS
    margin = 1 + calibration.worst + CALIBRATED_MARGIN
    return max(round(margin * calibration.device_bytes(predicted)), predicted + CUDA_CONTEXT)


def needed_on_cpu(predicted: int) -> int:
    """Return the bytes of main memory that a trial's process needs, with a margin."""
    return round(CPU_MARGIN * predicted) + CPU_PROCESS


def local_device() -> str:
    """Return the name of this machine's kind of device: its GPU, or else its processor."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"cpu ({platform.machine()})"


def save_calibration(calibration: Calibration) -> Path:
    """Store a calibration, replace an earlier one of the same kind, and return the file's path.

    Raises:
        UserError: If the cache folder cannot be written.
    """
    path = _path()
    make_folder(path.parent)
    others = [known for known in load_calibrations() if _kind(known) != _kind(calibration)]
    partial = path.with_suffix(".partial")
    with writing(path.parent, ADVICE):
        partial.write_text(json.dumps([asdict(known) for known in (*others, calibration)], indent=1))
        move_synced(partial, path)
    return path


def load_calibrations() -> list[Calibration]:
    """Return all stored calibrations of this user; a damaged file is left out, with a line that says so."""
    try:
        return [Calibration(**known) for known in json.loads(_path().read_text())]
    except OSError:
        return []
    except (ValueError, TypeError, AttributeError) as error:
        tell(f"{_path()} is damaged ({error}) and not used; run `calibrate` again")
        return []


def find_calibration(device: str, attention: str) -> Calibration | None:
    """Return the calibration for a kind of device, a kernel and this version of PyTorch, or None.

    Args:
        device: Name of the kind of device, or a part of the name such as Ray's ``H100``.
        attention: Attention kernel.
    """
    wanted = (torch.__version__, attention)
    found = [known for known in load_calibrations() if (known.torch, known.attention) == wanted]
    exact = [known for known in found if known.device == device]
    similar = [known for known in found if device and device.lower() in known.device.lower()]
    return next(iter(exact or similar), None)


def _kind(calibration: Calibration) -> tuple[str, str, str]:
    return calibration.device, calibration.torch, calibration.attention


def _path() -> Path:
    return cache_dir() / "calibrations.json"
