"""The memory that steps really take: on a GPU what its allocator says, on a CPU what its tensors are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.memory.calibration import CUDA_CONTEXT
from trainables.memory.tracking import track_step
from trainables.methods import FusionMethod
from trainables.step.setting import TrainingSetting
from trainables.step.training import training_step
from trainables.tasks import Task
from trainables.towers import ModalityInput
from trainables.units import GIB

#: Steps that do not count: the first makes the optimiser's state and, on a GPU, the libraries' workspaces.
WARM_UP = 1


@dataclass(frozen=True)
class Measured:
    """The peak of optimisation steps, in bytes.

    Attributes:
        allocated: Bytes held by tensors.
        reserved: Bytes that the allocator held from the device; None on a CPU.
    """

    allocated: int
    reserved: int | None = None


class StepMeter:
    """Takes optimisation steps and measures them.

    On a GPU every step after the warm-up counts. On a CPU, where no allocator keeps count, the tensors of one
    step after it are tracked, which makes that step a little slower.

    Args:
        device: Where the steps run.
        batch_size: Samples of a full batch; smaller ones are not tracked.
    """

    def __init__(self, device: torch.device, batch_size: int) -> None:
        self.device = device
        self.batch_size = batch_size
        self._steps = 0
        self._tracked: int | None = None

    def step(
        self,
        method: FusionMethod,
        inputs: Mapping[str, ModalityInput],
        labels: Tensor,
        task: Task,
        setting: TrainingSetting,
        optimizer: torch.optim.Optimizer,
    ) -> Tensor:
        """Take a step, see ``training_step``; return its mean loss."""
        on_gpu = self.device.type == "cuda"
        if on_gpu and self._steps == WARM_UP:
            torch.cuda.reset_peak_memory_stats(self.device)
        self._steps += 1
        warm = self._steps > WARM_UP and len(labels) == self.batch_size
        if on_gpu or not warm or self._tracked is not None:
            return training_step(method, inputs, labels, task, setting, optimizer)
        held, loss = track_step(method, inputs, labels, setting, optimizer, task)
        self._tracked = sum(held.values())
        return loss

    @property
    def measured(self) -> Measured | None:
        """The peak so far; None before a step was measured."""
        if self.device.type == "cuda" and self._steps > WARM_UP:
            return Measured(
                torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
            )
        return None if self._tracked is None else Measured(self._tracked)


def reset_peak(device: torch.device) -> None:
    """Forget what was held on a GPU at most so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def since_reset(device: torch.device) -> dict[str, float]:
    """Return ``measured_memory``, the GiB that tensors held at most since; nothing on a CPU."""
    return {"measured_memory": torch.cuda.max_memory_allocated(device) / GIB} if device.type == "cuda" else {}


def limit_memory(granted: int | None) -> None:
    """Keep this process to a share of its GPU, so that it cannot push out others on the same device.

    What the CUDA context takes counts towards the share, but is not the allocator's to limit.

    Args:
        granted: Bytes; None lifts the limit.
    """
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        allowed = total if granted is None else max(granted - CUDA_CONTEXT, 0)
        torch.cuda.set_per_process_memory_fraction(min(allowed / total, 1.0))
