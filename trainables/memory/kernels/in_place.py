"""Where autograd computes in place, except while a prediction observes it.

Autograd adds a gradient to the one before it in place, and fills zeros in place, if nothing else holds them.
It does not do so while a dispatch mode observes operators, as in a prediction. A real step runs the operators
in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

_ATEN = torch.ops.aten

#: Sums of gradients. Source: ``accumulate`` in torch/csrc/autograd/input_buffer.cpp.
_SUM, _SUM_IN_PLACE = _ATEN.add.Tensor, _ATEN.add_.Tensor

#: What fills the zeros that a formula has just made. Source: ``index_backward``, ``cummaxmin_backward`` and
#: ``value_selecting_reduction_backward`` in torch/csrc/autograd/FunctionsManual.cpp, ``gather_backward`` and
#: ``index_select_backward`` in aten/src/ATen/native/TensorAdvancedIndexing.cpp.
_FILLS: dict[OpOverload, OpOverload] = {
    _ATEN.index_add.default: _ATEN.index_add_.default,
    _ATEN.index_put.default: _ATEN.index_put_.default,
    _ATEN.scatter.src: _ATEN.scatter_.src,
    _ATEN.scatter_add.default: _ATEN.scatter_add_.default,
}

#: References to a gradient that only autograd's buffer holds, as the outermost dispatch mode sees it: to the
#: tensor those of the buffer, of its Python object and of the call; to its storage those of the tensor and of
#: the storage's Python object.
_TENSOR_REFERENCES, _STORAGE_REFERENCES = 4, 2


def unobserved(operator: OpOverload, args: tuple[Any, ...]) -> OpOverload:
    """Return the operator that autograd would use if no dispatch mode observed it.

    Args:
        operator: An operator as it reaches the outermost dispatch mode.
        args: Its arguments.
    """
    if operator is _SUM:
        if _in_backward() and len(args) == 2 and _is_held_once(args[0]):
            return _SUM_IN_PLACE
    elif operator in _FILLS and _in_backward():
        return _FILLS[operator]
    return operator


def _in_backward() -> bool:
    return not torch.is_grad_enabled() and torch._C._current_autograd_node() is not None


def _is_held_once(tensor: Tensor) -> bool:
    """Source: ``can_accumulate_inplace`` in input_buffer.cpp."""
    address = tensor.untyped_storage()._cdata
    return (
        tensor._use_count() <= _TENSOR_REFERENCES  # type: ignore[attr-defined]
        and torch._C._storage_Use_Count(address) <= _STORAGE_REFERENCES
        and torch._prims_common.is_non_overlapping_and_dense_or_false(tensor)
    )
