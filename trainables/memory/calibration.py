"""From the bytes of tensors to the bytes that a device has to have.

A prediction counts tensors. A process on a GPU also holds a CUDA context, the libraries' workspaces and what
the allocator keeps in reserve, and the GPU may run other kernels than those that were predicted with. All of
this is well described by a line, ``device = slope * predicted + intercept``, whose two numbers are fitted to
a handful of measured configurations and kept for that kind of device, version of PyTorch and attention
kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.cache import cache_dir
from trainables.units import GIB, MIB

#: What a CUDA context with PyTorch's kernels takes, about; the least that any process on a GPU takes.
CUDA_CONTEXT = 512 * MIB

#: Uncalibrated: what the allocator and the libraries add on a GPU, and a Python process on a CPU.
GPU_MARGIN, GPU_PROCESS = 1.2, 1 * GIB
CPU_MARGIN, CPU_PROCESS = 1.1, 1 * GIB

#: Calibrated: how far above the line a configuration may be, beyond what was seen in fitting it.
CALIBRATED_MARGIN = 0.03


@dataclass(frozen=True)
class Calibration:
    """A fitted line.

    Attributes:
        device: Name of the kind of device.
        torch: Version of PyTorch.
        attention: Attention kernel.
        slope: Bytes on the device for each predicted byte.
        intercept: Bytes on the device beside those.
        worst: Largest relative difference between line and measurement among the fitted configurations.
        points: Number of these.
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
        """Return the bytes that a prediction stands for on the device."""
        return round(self.slope * predicted + self.intercept)


def fit_line(
    predicted: Sequence[int], measured: Sequence[int], *, device: str, attention: str
) -> Calibration:
    """Fit a line to measured configurations, by least squares of the relative error.

    Args:
        predicted: Predicted bytes of each.
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
    """Keep a calibration, in place of an earlier one of the same kind; return the file."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    others = [known for known in load_calibrations() if _kind(known) != _kind(calibration)]
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([asdict(known) for known in (*others, calibration)], indent=1))
    os.replace(partial, path)
    return path


def load_calibrations() -> list[Calibration]:
    """Return all calibrations of this user."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [Calibration(**known) for known in json.loads(_path().read_text())]
    return []


def find_calibration(device: str, attention: str) -> Calibration | None:
    """Return the calibration of a kind of device and a kernel for this version of PyTorch, or None.

    Args:
        device: Name of the kind of device, or a part of it: ``H100``, as Ray calls it.
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
