"""What counts as running out of memory."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch

from trainables.trial.outcome import first_line, is_out_of_memory, tried_to_allocate

GIB = 2**30
CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.69 GiB of which 1.06 "
    "GiB is free. Of the allocated memory 20.11 GiB is allocated by PyTorch, and 312.24 MiB is reserved by "
    "PyTorch but unallocated."
)
CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 4096 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(CUDA),
        torch.cuda.OutOfMemoryError(CUDA),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("HIP out of memory. Tried to allocate 256.00 MiB."),
        RuntimeError("HIP error: hipErrorOutOfMemory"),
        RuntimeError("XPU out of memory. Tried to allocate 4.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.0 GB, other allocations: 1.0 GB)."),
        RuntimeError(CPU),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes."),
        RuntimeError("unable to mmap 4096 bytes from file </x>: Cannot allocate memory (12)"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=str,
)
def test_out_of_memory(error) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x16 and 32x4)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("Expected more than 1 value per channel"),
    ],
    ids=str,
)
def test_other_errors(error) -> None:
    assert not is_out_of_memory(error)


def test_the_real_allocators_errors() -> None:
    with pytest.raises(RuntimeError) as tensor:
        torch.empty(2**50)
    assert is_out_of_memory(tensor.value)
    assert tried_to_allocate(tensor.value) == 4 * 2**50
    with pytest.raises(MemoryError) as array:
        np.empty(2**60, dtype=np.int8)
    assert is_out_of_memory(array.value)


def test_what_an_error_came_from_counts() -> None:
    try:
        try:
            raise torch.OutOfMemoryError(CUDA)
        except RuntimeError as cause:
            raise ValueError("the batch failed") from cause
    except ValueError as caught:
        error = caught
    assert is_out_of_memory(error)
    assert tried_to_allocate(error) == 2.5 * GIB
    error.__cause__.__cause__ = error  # type: ignore[union-attr]
    assert not is_out_of_memory(_without_memory(error)), "a circle of causes ends"


def _without_memory(error: BaseException) -> BaseException:
    other = KeyError("a")
    other.__cause__ = ValueError("b")
    other.__cause__.__cause__ = other
    return other


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("Tried to allocate 20.00 MiB (GPU 0; 1 GiB total)", 20 * 2**20),
        ("tried to allocate 1.5 GB on private pool", 1.5 * GIB),
        ("you tried to allocate 4096 bytes.", 4096),
        ("Tried to allocate 512.00 KiB", 2**19),
        ("CUDA error: out of memory", None),
    ],
)
def test_how_much_was_asked_for(text, size) -> None:
    assert tried_to_allocate(RuntimeError(text)) == size


def test_first_line() -> None:
    assert first_line(RuntimeError("one\ntwo")) == "one"
    assert first_line(MemoryError()) == "MemoryError"
