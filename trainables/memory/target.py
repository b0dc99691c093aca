"""What a setting's target makes of a step: the kernels that run, and what its allocator reserves."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import nn

from trainables.memory.kernels import CudaDevice, cuda_kernels, library_workspaces
from trainables.memory.replay import reserved_by
from trainables.memory.report import MemoryReport, report_of
from trainables.memory.storage_log import Holdings, StorageLog
from trainables.step.setting import TrainingSetting


def kernels_of(setting: TrainingSetting) -> AbstractContextManager[None]:
    """Return the context manager in which operators on fake tensors do what the target's do."""
    return nullcontext() if setting.target == "cpu" else cuda_kernels(_device_of(setting))


def libraries_of(setting: TrainingSetting, *, backward: bool = True) -> list[int]:
    """Return ``library_workspaces`` of the target; on a CPU libraries keep nothing."""
    return [] if setting.target == "cpu" else library_workspaces(_device_of(setting), backward=backward)


def context_of(setting: TrainingSetting) -> int:
    """Return the bytes of the CUDA context; on a CPU there is none."""
    return 0 if setting.target == "cpu" else setting.context_bytes


def report_on_target(
    model: nn.Module, held: Holdings, log: StorageLog, setting: TrainingSetting, *, backward: bool = True
) -> MemoryReport:
    """Return the report of a step for a setting's target.

    Args:
        model: The model.
        held: Bytes held at the peak of the step.
        log: The step's log.
        setting: How the step was run.
        backward: Whether there was a backward pass.
    """
    if setting.target == "cpu":
        return report_of(model, held)
    reserved = reserved_by(
        log.allocations(),
        libraries_of(setting, backward=backward),
        expandable_segments=setting.expandable_segments,
    )
    return report_of(model, held, reserved, context_of(setting))


def _device_of(setting: TrainingSetting) -> CudaDevice:
    return CudaDevice(setting.compute_capability)
