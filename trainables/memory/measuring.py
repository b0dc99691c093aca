"""Measured memory of real steps: from the allocator's counters on a GPU, from tracked tensors on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.memory.tracking import track_step
from trainables.methods import FusionMethod
from trainables.step.setting import TrainingSetting
from trainables.step.training import training_step
from trainables.tasks import Task
from trainables.towers import ModalityInput, Sequence
from trainables.units import GIB

#: Number of first steps that are not measured. The first step allocates the optimizer's state and, on a GPU,
#: the libraries' workspaces.
WARM_UP = 1


@dataclass(frozen=True)
class Measured:
    """The peak memory of optimization steps, in bytes.

    Attributes:
        allocated: Bytes held by tensors.
        reserved: Bytes that the allocator held on the GPU; None on a CPU.
        shorter: Whether all texts were shorter than the setting's length. Longer ones need more memory.
    """

    allocated: int
    reserved: int | None = None
    shorter: bool = False


class StepMeter:
    """Runs optimization steps and measures their memory.

    On a GPU every step after the warm-up is measured. On a CPU there is no counting allocator, so the tensors
    of one step after the warm-up are tracked, which makes that step a little slower. Another one is tracked
    if its texts are longer.

    Args:
        device: The device on which the steps run.
        batch_size: Number of samples in a full batch. Smaller batches are not tracked.
    """

    def __init__(self, device: torch.device, batch_size: int) -> None:
        self.device = device
        self.batch_size = batch_size
        self._steps = 0
        self._tracked: int | None = None
        self._length = 0.0

    def step(
        self,
        method: FusionMethod,
        inputs: Mapping[str, ModalityInput],
        labels: Tensor,
        task: Task,
        setting: TrainingSetting,
        optimizer: torch.optim.Optimizer,
    ) -> Tensor:
        """Run a step and return its mean loss; see ``training_step``."""
        on_gpu = self.device.type == "cuda"
        if on_gpu and not self._steps:
            torch.cuda.empty_cache()  # what earlier work has reserved is not this step's
        if on_gpu and self._steps == WARM_UP:
            torch.cuda.reset_peak_memory_stats(self.device)
        self._steps += 1
        warm = self._steps > WARM_UP and len(labels) == self.batch_size
        length = _text_length(inputs, setting)
        if not warm or length <= self._length:
            return training_step(method, inputs, labels, task, setting, optimizer)
        self._length = length
        if on_gpu:
            return training_step(method, inputs, labels, task, setting, optimizer)
        held, loss = track_step(method, inputs, labels, setting, optimizer, task)
        self._tracked = sum(held.values())
        return loss

    @property
    def measured(self) -> Measured | None:
        """The peak so far; None if no step was measured yet."""
        if self.device.type == "cuda" and self._steps > WARM_UP:
            return Measured(
                torch.cuda.max_memory_allocated(self.device),
                torch.cuda.max_memory_reserved(self.device),
                shorter=self._length < 1,
            )
        return None if self._tracked is None else Measured(self._tracked, shorter=self._length < 1)


def _text_length(inputs: Mapping[str, ModalityInput], setting: TrainingSetting) -> float:
    """Return the length of a batch's token ids as a share of the setting's; 1 if there are none."""
    raw = [given for given in inputs.values() if not isinstance(given, Sequence)]
    ids = [tensors["input_ids"] for tensors in raw if "input_ids" in tensors]
    return min((tokens.shape[1] / setting.text_length for tokens in ids), default=1.0)


def reset_peak(device: torch.device) -> None:
    """Reset the allocator's peak counters of a GPU; do nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def since_reset(device: torch.device) -> dict[str, float]:
    """Return ``measured_memory``, the peak GiB of tensors since ``reset_peak``; empty on a CPU."""
    return {"measured_memory": torch.cuda.max_memory_allocated(device) / GIB} if device.type == "cuda" else {}


def limit_memory(granted: int | None, context: int) -> None:
    """Limit this process's memory on its GPU, so that other processes on the same GPU keep theirs.

    The limit includes the CUDA context. The allocator does not control the context, so it gets the rest.

    Args:
        granted: The limit in bytes; None removes the limit.
        context: Bytes of the CUDA context.
    """
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        allowed = total if granted is None else max(granted - context, 0)
        torch.cuda.set_per_process_memory_fraction(min(allowed / total, 1.0))
