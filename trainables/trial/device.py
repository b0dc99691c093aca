"""The device that a trial computes on."""

from __future__ import annotations

import torch

from trainables.errors import UserError
from trainables.trial.outcome import first_line, is_out_of_memory


def require_cuda(device: str = "cuda") -> None:
    """Check that PyTorch can compute on the GPU that this process was given.

    Without this check, a trial would train on the CPU without a word.

    Args:
        device: The GPU.

    Raises:
        UserError: If it cannot.
    """
    try:
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError) as error:  # AssertionError: PyTorch was built without CUDA
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"a GPU was asked for and given, but PyTorch cannot use it: {first_line(error)}; install what is "
            "missing, or start Ray there with --num-gpus=0"
        ) from error


def device_name(device: torch.device) -> str:
    """Return the name of a device, as ``cpu`` or ``cuda (NVIDIA A10G)``."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
