"""Autocast as on a GPU, whose lists of operators differ from a CPU's.

Under autocast a GPU computes softmax, norms, sums, powers and more in float32, and so keeps float32 results
of them for the backward pass. A CPU computes these in the format of their input.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves, tree_map

_KEY = "AutocastCPU"
_BELOW = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

#: Operators that run in autocast's own format, if their name (without overload) begins with one of these.
#: Source: ``AT_FORALL_LOWER_PRECISION_FP`` in aten/src/ATen/autocast_mode.h.
_LOWER = (
    *("_convolution", "convolution", "cudnn_convolution", "_thnn_fused", "_scaled_dot_product"),
    *("addmv", "addr", "mv", "einsum", "chain_matmul", "linalg_multi_dot"),
    *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
)
#: Operators that run in the widest format of their arguments. Source: ``AT_FORALL_PROMOTE``.
_PROMOTED = (
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "grid_sampler", "index_put"),
    *("tensordot", "scatter_add"),
)
#: Operators to which the result's format is given by another overload.
#: Source: ``AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE``.
_WITH_DTYPE = {"norm.Scalar": "ScalarOpt_dtype", "norm.ScalarOpt_dim": "ScalarOpt_dim_dtype"}


def autocast_kernels() -> Iterator[tuple[OpOverload, Callable[..., Any] | None]]:
    """Yield the operators with which a GPU's autocast deals otherwise than a CPU's, and what it does.

    PyTorch's tables of kernels say which these are. None means that autocast leaves the operator alone.
    """
    on_gpu, on_cpu = _listed("AutocastCUDA"), _listed(_KEY)
    for name in sorted(on_gpu | on_cpu):
        operator = _overload(name)
        if name not in on_gpu:
            yield operator, None
        elif name not in on_cpu or _is_promoted(name) or _takes_dtype(operator):
            yield operator, _policy(name, operator)


def _policy(name: str, operator: OpOverload) -> Callable[..., Any]:
    """Return what autocast does with an operator's arguments. Source: ``CastPolicy`` in autocast_mode.h."""
    if name in _WITH_DTYPE:
        return partial(_append_dtype, getattr(operator.overloadpacket, _WITH_DTYPE[name]))
    if _takes_dtype(operator):
        return partial(_set_dtype, operator)
    if _is_promoted(name):
        return partial(_promote, operator)
    if name.startswith(_LOWER):
        return partial(_lower, operator)
    return partial(_to_float32, operator)


def _to_float32(operator: OpOverload, *args: Any, **kwargs: Any) -> Any:
    return _call_cast(torch.float32, operator, args, kwargs)


def _lower(operator: OpOverload, *args: Any, **kwargs: Any) -> Any:
    return _call_cast(torch.get_autocast_dtype("cpu"), operator, args, kwargs)


def _promote(operator: OpOverload, *args: Any, **kwargs: Any) -> Any:
    wide = any(_is_castable(leaf) and leaf.dtype is torch.float32 for leaf in tree_leaves((args, kwargs)))
    dtype = torch.float32 if wide else torch.get_autocast_dtype("cpu")
    return _call_cast(dtype, operator, args, kwargs)


def _set_dtype(operator: OpOverload, *args: Any, **kwargs: Any) -> Any:
    with torch._C._ExcludeDispatchKeyGuard(_BELOW):
        given = dict(zip((argument.name for argument in operator._schema.arguments), args, strict=False))
        given.update(kwargs)
        if _is_castable(args[0]) and given.get("dtype") is None:
            given["dtype"] = torch.float32
        return operator(**given)


def _append_dtype(operator: OpOverload, *args: Any, **kwargs: Any) -> Any:
    with torch._C._ExcludeDispatchKeyGuard(_BELOW):
        given = dict(zip((argument.name for argument in operator._schema.arguments), args, strict=False))
        dtype = torch.float32 if _is_castable(args[0]) else args[0].dtype
        return operator(**{**given, **kwargs, "dtype": dtype})


def _call_cast(dtype: torch.dtype, operator: OpOverload, args: Any, kwargs: Any) -> Any:
    args, kwargs = tree_map(lambda leaf: _cast(leaf, dtype) if _is_castable(leaf) else leaf, (args, kwargs))
    with torch._C._ExcludeDispatchKeyGuard(_BELOW):
        return operator(*args, **kwargs)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in another format. Autocast casts a weight once in its context, and keeps it.

    Source: ``cached_cast`` in aten/src/ATen/autocast_mode.cpp. Its cache can be reached only through an
    operator that casts its arguments, ``linalg_vecdot``, which here returns the first of them.
    """
    is_weight = tensor.requires_grad and tensor.is_leaf and not tensor._is_view()
    if is_weight and tensor.dtype is torch.float32 and dtype is torch.get_autocast_dtype("cpu"):
        _CASTING.active = True
        try:
            return torch.linalg.vecdot(tensor, tensor)
        finally:
            _CASTING.active = False
    with torch._C._ExcludeDispatchKeyGuard(_BELOW):
        return tensor.to(dtype)


class _Casting(threading.local):
    active = False


_CASTING = _Casting()


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Any:
    """Return the first argument during a cast; see ``_cast``."""
    return x if _CASTING.active else NotImplemented


def _is_castable(value: Any) -> bool:
    """Source: ``is_eligible`` in autocast_mode.h."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype is not torch.float64


def _is_promoted(name: str) -> bool:
    return name.split(".")[0] in _PROMOTED


def _takes_dtype(operator: OpOverload) -> bool:
    return any(argument.name == "dtype" for argument in operator._schema.arguments)


def _listed(key: str) -> set[str]:
    """Return the operators, with their overloads, for which autocast has a kernel."""
    names = torch._C._dispatch_get_registrations_for_dispatch_key(key)
    return {name.removeprefix("aten::") for name in names if name.startswith("aten::")}


def _overload(name: str) -> OpOverload:
    packet, _, overload = name.partition(".")
    operator: OpOverload = getattr(getattr(torch.ops.aten, packet), overload or "default")
    return operator
