"""Classification of errors: whether memory ran out, and how many bytes were missing."""

from __future__ import annotations

import errno
import re

import torch

from trainables.errors import chain

#: Texts, in lower case, by which out-of-memory errors without a type of their own are recognised. cuDNN's
#: CUDNN_STATUS_NOT_SUPPORTED and CUDNN_STATUS_INTERNAL_ERROR are left out: they often have other causes.
_TEXTS = (
    "out of memory",  # "CUDA out of memory", "CUDA error: out of memory"; HIP, XPU and MPS say the same
    "out_of_memory",  # CUDA_ERROR_OUT_OF_MEMORY of the driver
    "outofmemory",  # hipErrorOutOfMemory
    "cudaerrormemoryallocation",
    "status_alloc_failed",  # CUBLAS_, CUDNN_, CUSOLVER_, CUSPARSE_STATUS_ALLOC_FAILED
    "devmem allocation failed",  # Habana
    "can't allocate memory",  # torch's DefaultCPUAllocator
    "cannot allocate memory",  # the operating system's ENOMEM, also of mmap
    "not enough memory",
    "unable to allocate shared memory",
    "std::bad_alloc",
)

_TRIED = re.compile(r"tried to allocate ([\d.]+) ?(bytes|[KMGTP]i?B)", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, means that a device or the host ran out of memory."""
    return any(_says_so(link) for link in chain(error))


def tried_to_allocate(error: BaseException) -> int | None:
    """Return the bytes that torch could not allocate, or None if the error does not say."""
    for link in chain(error):
        found = _TRIED.search(str(link))
        if found:
            exponent = "bkmgtp".index(found[2][0].lower())
            return round(float(found[1]) * 1024**exponent)
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type if the text is empty."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def last_line(error: BaseException) -> str:
    """Return the last line of an error's text, which names the cause if the text contains a traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__


def _says_so(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    text = str(error).lower()
    return any(known in text for known in _TEXTS)
