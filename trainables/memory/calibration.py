"""What is measured of a kind of GPU, and the bytes that a trial is given on a device.

A prediction for a GPU adds the bytes of a CUDA context to what the allocator reserves. They depend on the
GPU, its driver and PyTorch. ``calibrate`` measures them, and how far predictions are off on that GPU. Both
are kept for that kind of device and version of PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from trainables.cache import ADVICE, cache_dir, make_folder
from trainables.disk import move_synced, writing
from trainables.notices import tell
from trainables.units import GIB, MIB

#: Share by which a trial on a GPU is given more than its predicted memory.
GPU_MARGIN = 0.05
#: Bytes that it is given on top where the context was not measured: contexts take some 300 to 800 MiB.
CONTEXT_MARGIN = 300 * MIB
#: The same for the process of a trial on a CPU, and the bytes of a Python process beside its tensors.
CPU_MARGIN, CPU_PROCESS = 0.1, 1 * GIB


@dataclass(frozen=True)
class Calibration:
    """What was measured of a kind of GPU.

    Attributes:
        device: Name of the kind of GPU.
        torch: Version of PyTorch.
        compute_capability: CUDA compute capability.
        context: Bytes of a process's CUDA context.
        median: Median of the relative errors of predicted memory, without their signs.
        worst: The largest of them.
        points: Number of configurations that were measured.
    """

    device: str
    torch: str
    compute_capability: float
    context: int
    median: float
    worst: float
    points: int

    @classmethod
    def of(
        cls,
        device: str,
        compute_capability: float,
        context: int,
        predicted: Sequence[int],
        measured: Sequence[int],
    ) -> Calibration:
        """Return the calibration for this version of PyTorch.

        Args:
            device: Name of the kind of GPU.
            compute_capability: CUDA compute capability.
            context: Measured bytes of a process's CUDA context.
            predicted: Predicted memory of each configuration, in bytes.
            measured: Measured memory of each.
        """
        errors = [abs(p / m - 1) for p, m in zip(predicted, measured, strict=True)]
        return cls(
            device, torch.__version__, compute_capability, context, median(errors), max(errors), len(errors)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return asdict(self)


def needed_on_gpu(memory: int, calibration: Calibration | None) -> int:
    """Return the bytes that a trial on a GPU is given.

    The margin is ``GPU_MARGIN``, or the largest error that was measured on that kind of GPU if it is larger.
    Where nothing was measured, ``CONTEXT_MARGIN`` comes on top.

    Args:
        memory: Predicted memory on a GPU.
        calibration: What was measured of that kind of GPU; None if nothing was.
    """
    if calibration is None:
        return round((1 + GPU_MARGIN) * memory) + CONTEXT_MARGIN
    return round((1 + max(GPU_MARGIN, calibration.worst)) * memory)


def needed_on_cpu(memory: int) -> int:
    """Return the bytes of main memory that a trial's process is given.

    Args:
        memory: Predicted memory on a CPU, which counts the process's tensors.
    """
    return round((1 + CPU_MARGIN) * memory) + CPU_PROCESS


def local_gpu() -> str | None:
    """Return the name of this machine's kind of GPU, or None if it has none."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def local_capability() -> float | None:
    """Return the CUDA compute capability of this machine's GPU, or None if it has none."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(0)
    return float(f"{major}.{minor}")


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
    """Return all stored calibrations of this user; a file that cannot be read is left out, with a line."""
    path, advice = _path(), "and not used; run `calibrate` again"
    try:
        return [Calibration(**known) for known in json.loads(path.read_text())]
    except OSError:
        return []
    except TypeError:
        tell(f"{path} is of another version {advice}")
        return []
    except (ValueError, AttributeError) as error:
        tell(f"{path} is damaged ({error}) {advice}")
        return []


def find_calibration(device: str) -> Calibration | None:
    """Return the calibration for a kind of GPU and this version of PyTorch, or None.

    Args:
        device: Name of the kind of GPU, or a part of the name such as Ray's ``H100``.
    """
    found = [known for known in load_calibrations() if known.torch == torch.__version__]
    exact = [known for known in found if known.device == device]
    similar = [known for known in found if device and device.lower() in known.device.lower()]
    return next(iter(exact or similar), None)


def _kind(calibration: Calibration) -> tuple[str, str]:
    return calibration.device, calibration.torch


def _path() -> Path:
    return cache_dir() / "calibrations.json"
