"""Number formats of a training step, and whether a device computes in bfloat16 natively.

This module imports nothing slow, because the command line reads the names at every start.
"""

from __future__ import annotations

#: fp32; bf16: bfloat16 autocast; bf16-frozen: autocast, with frozen weight matrices stored in bfloat16.
PRECISIONS = ("fp32", "bf16", "bf16-frozen")
#: Stands for ``NATIVE`` where the devices compute in bfloat16 natively, else for fp32.
AUTO = "auto"
NATIVE = "bf16-frozen"
#: CUDA compute capability of the first NVIDIA GPUs that compute in bfloat16 (Ampere).
BF16_CAPABILITY = 8.0


def fastest(*, bf16: bool) -> str:
    """Return what ``auto`` stands for.

    Args:
        bf16: Whether the device computes in bfloat16 natively.
    """
    return NATIVE if bf16 else "fp32"


def cpu_computes_in_bf16() -> bool:
    """Return whether this machine's CPU has instructions for bfloat16: AVX512-BF16 or AMX."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def default_device() -> str:
    """Return ``cuda`` if there is a GPU, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_computes_in_bf16(device: str) -> bool:
    """Return whether a device of this machine computes in bfloat16 natively.

    Args:
        device: Type of the device: ``cpu`` or ``cuda``.
    """
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return cpu_computes_in_bf16()
