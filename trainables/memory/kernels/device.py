"""The GPU that a prediction is for, and the operators whose kernels it replaces."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves

#: Number of multiprocessors by compute capability, of the largest GPU that is sold, and of threads on each.
_MULTIPROCESSORS = {
    (7, 0): (80, 2048),
    (7, 5): (72, 1024),
    (8, 0): (108, 2048),
    (8, 6): (84, 1536),
    (8, 9): (142, 1536),
    (9, 0): (132, 2048),
    (10, 0): (148, 2048),
    (12, 0): (170, 1536),
}


@dataclass(frozen=True)
class CudaDevice:
    """What an operator's choice of kernel depends on.

    Args:
        compute_capability: CUDA compute capability, such as 8.0 of an A100 or 9.0 of an H100.
    """

    compute_capability: float = 8.0

    @property
    def capability(self) -> tuple[int, int]:
        """The compute capability as (major, minor)."""
        tenths = round(10 * self.compute_capability)
        return tenths // 10, tenths % 10

    @property
    def multiprocessors(self) -> int:
        """The number of multiprocessors; an A100's, if the compute capability is unknown."""
        return _MULTIPROCESSORS.get(self.capability, _MULTIPROCESSORS[8, 0])[0]

    @property
    def threads_a_multiprocessor(self) -> int:
        """The most threads that a multiprocessor runs at once; an A100's, if the capability is unknown."""
        return _MULTIPROCESSORS.get(self.capability, _MULTIPROCESSORS[8, 0])[1]


class _Active(threading.local):
    device: CudaDevice | None = None


_ACTIVE = _Active()

#: Only the library object keeps the kernels registered.
_LIBRARY = torch.library.Library("aten", "IMPL")

#: What an operator does with its arguments on a GPU.
Kernel = Callable[..., Any]


def active_device() -> CudaDevice | None:
    """Return the GPU whose operators this thread emulates, or None."""
    return _ACTIVE.device


@contextmanager
def emulated(device: CudaDevice) -> Iterator[None]:
    """Run the replaced operators of this thread as on a GPU, if their tensors are fake."""
    before, _ACTIVE.device = _ACTIVE.device, device
    try:
        yield
    finally:
        _ACTIVE.device = before


def replace_kernel(operator: OpOverload, key: str, kernel: Kernel | None) -> None:
    """Make an operator call another kernel for fake tensors while a GPU is emulated.

    The kernel is replaced for good, because PyTorch's tables must not change while other threads read them.
    All other calls go on to PyTorch's own kernel, which costs them some 2 microseconds.

    Args:
        operator: The operator.
        key: Dispatch key, such as ``AutogradCPU``: where kernels run before gradients are recorded.
        kernel: The kernel, which gets the operator's arguments. It may return ``NotImplemented`` to leave a
            call to PyTorch's own. None skips the key.
    """
    dispatch_key = torch._C.DispatchKey.__members__[key]

    def skip(keys: torch._C.DispatchKeySet, *args: Any, **kwargs: Any) -> Any:
        return operator.redispatch(keys.remove(dispatch_key), *args, **kwargs)

    listed = torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key)
    computed = listed or not key.startswith(
        "Autocast"
    )  # autocast leaves operators alone that it does not list
    original = torch.library.get_kernel(operator, key).call_boxed if computed else skip

    def chosen(keys: torch._C.DispatchKeySet, *args: Any, **kwargs: Any) -> Any:
        out = NotImplemented
        if _ACTIVE.device is not None and _is_fake(args):
            out = skip(keys, *args, **kwargs) if kernel is None else kernel(*args, **kwargs)
        return original(keys, *args, **kwargs) if out is NotImplemented else out

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*other operators may also be overridden")
        _LIBRARY.impl(operator.name().removeprefix("aten::"), chosen, key, with_keyset=True)


def _is_fake(args: tuple[Any, ...]) -> bool:
    if args and isinstance(args[0], Tensor):
        return isinstance(args[0], FakeTensor)
    return any(isinstance(leaf, FakeTensor) for leaf in tree_leaves(args))
