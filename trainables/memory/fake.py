"""Fake tensors with a faster way to find the shape of a result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

#: Description of an operation's result: ("value", None or a number), ("argument", i), ("view", i, size,
#: stride, offset, type) for a view of argument i's storage, ("new", size, stride, type), or ("several", tuple
#: or list, descriptions of the entries).
_Result = tuple[Any, ...]


_CPU = torch.device("cpu")

#: A GPU's kernels of attention.
_FUSED_ATTENTION = ("cudnn_attention", "efficient_attention", "flash_attention")

#: What ``FakeTensors.recall`` returns for a new operation.
UNKNOWN = object()

#: Frequent operations whose result has the same shape and layout on any device.
_QUICK = {
    getattr(getattr(torch.ops.aten, name), overload)
    for name, overload in (
        *((name, "default") for name in ("_softmax", "_softmax_backward_data", "_unsafe_view", "addmm")),
        *((name, "default") for name in ("bmm", "cat", "clone", "expand", "gelu", "gelu_backward", "mm")),
        *((name, "default") for name in ("native_batch_norm", "native_batch_norm_backward")),
        *((name, "default") for name in ("native_group_norm", "native_group_norm_backward")),
        *((name, "default") for name in ("native_layer_norm", "native_layer_norm_backward", "permute")),
        *((name, "default") for name in ("slice_backward", "t", "unsqueeze", "view")),
        *((name, "Tensor") for name in ("add", "mul", "slice")),
        *((name, "int") for name in ("select", "transpose")),
        ("sum", "dim_IntList"),
        *((f"_scaled_dot_product_{name}", "default") for name in _FUSED_ATTENTION),
        *((f"_scaled_dot_product_{name}_backward", "default") for name in _FUSED_ATTENTION),
    )
}


def _as_kernels_do(func: Any, args: tuple[Any, ...], out: Any) -> Any:
    """Return a result on the meta device in the layout and types that kernels give it.

    PyTorch's shape functions of some norms differ. A layer norm's gradient is contiguous on every device
    (aten/src/ATen/native/layer_norm.cpp, cuda/layer_norm_kernel.cu). Statistics of a group norm have the type
    of its weight, and its gradient that of its input (group_norm.cpp).
    """
    aten = torch.ops.aten
    if func is aten.native_layer_norm_backward.default and out[0] is not None:
        return (out[0].contiguous(), *out[1:])
    if func is aten.native_group_norm.default and args[1] is not None:
        return (out[0], *(statistic.to(args[1].dtype) for statistic in out[1:]))
    if func is aten.native_group_norm_backward.default and out[0] is not None:
        return (out[0].to(args[1].dtype), *out[1:])
    return out


class FakeTensors(TorchDispatchMode):
    """A mode that makes tensors without content and caches the result of every operation.

    ``FakeTensorMode`` knows the result of every operation and has a cache as well. Its look-up takes several
    times as long, because it supports dynamic shapes, sparse layouts and other devices. A training step runs
    thousands of operations of a few dozen kinds on dense CPU tensors of fixed shape. This mode handles those
    and passes all others on to ``FakeTensorMode``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Any, _Result] = {}
        self._blank: dict[str, Any] = {}

    @cached_property
    def _fake(self) -> FakeTensorMode:
        return FakeTensorMode()  # imports PyTorch's compiler, which a prediction from the memo does not need

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make all new tensors fake ones."""
        if not self._blank:
            # The attributes of a new fake tensor: copying them is faster than calling the constructor
            self._blank = dict(FakeTensor(self._fake, torch.empty(0, device="meta"), _CPU).__dict__)
        with self._fake, self:
            yield

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as in StorageLog

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        try:
            key, tensors = _described_call(func, args, kwargs)
            known = self._known.get(key)
        except TypeError:  # an unusual tensor, or an argument that cannot be hashed
            return func(*args, **kwargs)
        if known is not None:
            return self._make(known, tensors)
        out = self._infer(func, args, kwargs) if func in _QUICK and tensors else func(*args, **kwargs)
        if torch.Tag.inplace_view not in func.tags:
            result = _result_of(out, tensors)
            kind = None if result is None else result[0]
            # What has no tensors as arguments may read or change something else, if it makes no tensor
            pure = not func._schema.is_mutable and (tensors or kind == "new")
            if result is not None and (kind == "argument" or pure):
                self._known[key] = result
        return out

    def recall(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of an operation that was run with such arguments before, or ``UNKNOWN``.

        A mode that is entered after this one saves a dispatch if it calls this function first.
        """
        try:
            key, tensors = _described_call(func, args, kwargs)
            known = self._known.get(key)
        except TypeError:
            return UNKNOWN
        return UNKNOWN if known is None else self._make(known, tensors)

    def _infer(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call PyTorch's own shape function directly, without FakeTensorMode's additional work."""
        with in_kernel_invocation_manager(self._fake):
            out = func(*args, **kwargs)
            out = _as_kernels_do(func, args, out)
        if isinstance(out, tuple):
            return tuple(self._wrap(one) if isinstance(one, Tensor) else one for one in out)
        return self._wrap(out)

    def _make(self, result: tuple[Any, ...], tensors: list[FakeTensor]) -> Any:
        if result[0] == "value":
            return result[1]
        if result[0] == "argument":
            return tensors[result[1]]
        if result[0] == "several":
            return result[1](self._make(one, tensors) for one in result[2])
        with no_dispatch():
            if result[0] == "new":
                _, size, stride, dtype = result
                meta = torch.empty_strided(size, stride, dtype=dtype, device="meta")
            else:
                _, argument, size, stride, offset, dtype = result
                storage = tensors[argument].untyped_storage()
                meta = torch.empty(0, dtype=dtype, device="meta").set_(storage, offset, size, stride)
        return self._wrap(meta)

    def _wrap(self, meta: Tensor) -> FakeTensor:
        """Return a fake CPU tensor that wraps a tensor on the meta device."""
        tensor: FakeTensor = Tensor._make_subclass(
            FakeTensor, meta, False, dispatch_device=True, device_for_backend_keys=_CPU
        )
        tensor.__dict__.update(self._blank)
        return tensor


def _described_call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[FakeTensor]]:
    """Return a cache key for an operation, and the tensors among its arguments.

    Raises:
        TypeError: If a tensor is not plain; see ``_is_plain``.
    """
    tensors: list[FakeTensor] = []
    described = _described(args, tensors), _described(kwargs.items(), tensors) if kwargs else ()
    return (func, *described) if tensors else (func, *described, torch.get_default_dtype()), tensors


def _described(values: Any, tensors: list[FakeTensor]) -> Any:
    """Return a cache key for an operation's arguments, and append their tensors to the list."""
    described: list[Any] = []
    for value in values:
        if isinstance(value, FakeTensor) and _is_plain(value):
            described.append((value.shape, value.stride(), value.storage_offset(), value.dtype))
            tensors.append(value)
        elif isinstance(value, Tensor):
            # This includes tensors with known content, which FakeTensorMode keeps up to date.
            raise TypeError("not a plain fake tensor")
        elif isinstance(value, tuple | list):
            described.append((type(value), _described(value, tensors)))
        else:
            described.append((type(value), value))  # 1, 1.0 and True are equal
    return tuple(described)


def _is_plain(tensor: FakeTensor) -> bool:
    """Return whether a tensor is dense, on the CPU, and without known content."""
    return tensor.constant is None and tensor.fake_device == _CPU and tensor.layout is torch.strided


def _result_of(out: Any, tensors: list[FakeTensor]) -> _Result | None:
    """Return a description from which a result can be made again, or None if that is impossible."""
    if out is None or isinstance(out, int):
        return ("value", out)
    if isinstance(out, tuple | list):
        several = [_result_of(one, tensors) for one in out]
        fresh = [one.untyped_storage()._cdata for one in out if isinstance(one, Tensor)]
        if None in several or len(set(fresh)) < len(fresh):
            return None
        return ("several", type(out), several)
    if not isinstance(out, FakeTensor) or not _is_plain(out):
        return None
    size, stride, dtype = tuple(out.shape), out.stride(), out.dtype
    storage = out.untyped_storage()
    for number, tensor in enumerate(tensors):
        if out is tensor:
            return ("argument", number)
        if tensor.untyped_storage()._cdata == storage._cdata:
            return ("view", number, size, stride, out.storage_offset(), dtype)
    extent = 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if out.storage_offset() or storage.nbytes() != (extent if out.numel() else 0) * dtype.itemsize:
        return None
    return ("new", size, stride, dtype)
