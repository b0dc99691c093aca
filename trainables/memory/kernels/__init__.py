"""What a GPU's operators save and take for a while, emulated on fake CPU tensors.

A prediction runs a step on fake CPU tensors, because fake CUDA tensors have no backward pass without a GPU.
Some operators take another path on a GPU than on a CPU, which saves other tensors for the backward pass.
Within ``cuda_kernels`` they take the GPU's path. Each rule names the place in PyTorch's source, version 2.13,
that it is from.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from trainables.memory.kernels.attention import scaled_dot_product_attention
from trainables.memory.kernels.autocast import autocast_kernels, vecdot
from trainables.memory.kernels.device import CudaDevice, active_device, emulated, replace_kernel
from trainables.memory.kernels.dropout import dropout
from trainables.memory.kernels.in_place import unobserved
from trainables.memory.kernels.linear import linear
from trainables.memory.kernels.temporaries import in_order, temporaries
from trainables.memory.kernels.workspaces import library_workspaces

__all__ = [
    "CudaDevice",
    "active_device",
    "cuda_kernels",
    "in_order",
    "library_workspaces",
    "temporaries",
    "unobserved",
]


_LOCK = threading.Lock()


@contextmanager
def cuda_kernels(device: CudaDevice) -> Iterator[None]:
    """Make this thread's operators on fake CPU tensors save what they would save on a GPU.

    Real tensors, and other threads, are not affected.

    Args:
        device: The GPU.
    """
    with _LOCK:
        _replace_kernels()
    with emulated(device):
        yield


@cache
def _replace_kernels() -> None:
    aten = torch.ops.aten
    for key in ("AutogradCPU", "CPU"):  # in inference mode no gradients are recorded, only the latter runs
        replace_kernel(aten.dropout.default, key, dropout)
        replace_kernel(aten.linear.default, key, linear)
        replace_kernel(aten.scaled_dot_product_attention.default, key, scaled_dot_product_attention)
    replace_kernel(aten.linalg_vecdot.default, "AutogradCPU", vecdot)
    for operator, kernel in autocast_kernels():
        replace_kernel(operator, "AutocastCPU", kernel)
