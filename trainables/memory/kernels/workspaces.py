"""What libraries allocate once and keep."""

from __future__ import annotations

import os
import re

from trainables.memory.kernels.device import CudaDevice
from trainables.units import MIB

_KIB = 1024


def library_workspaces(device: CudaDevice, *, backward: bool = True) -> list[int]:
    """Return the bytes of each workspace that libraries take from the allocator once and keep.

    cuBLAS and cuBLASLt share one workspace for each thread and stream, which is allocated with the thread's
    first matrix product. The backward pass runs in a thread of its own.

    Source: ``getNewWorkspace``, ``getCUDABlasLtWorkspace`` and ``parseChosenWorkspaceSize`` in
    aten/src/ATen/cuda/CublasHandlePool.cpp, ``Engine::start_device_threads`` in
    torch/csrc/autograd/engine.cpp.

    Args:
        device: The GPU.
        backward: Whether there is a backward pass.
    """
    return [_cublas_workspace(device)] * (2 if backward else 1)


def _cublas_workspace(device: CudaDevice) -> int:
    """Return the size of a workspace of cuBLAS, from ``CUBLAS_WORKSPACE_CONFIG`` where it is set."""
    pairs = re.findall(r":(\d+):(\d+)", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    if pairs:
        return sum(int(size) * _KIB * int(count) for size, count in pairs)
    if device.capability[0] in (9, 10, 12):
        return 32 * MIB
    return 2 * 4096 * _KIB + 8 * 16 * _KIB
