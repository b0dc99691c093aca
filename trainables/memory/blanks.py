"""Copies of models and batches whose tensors have shapes but no content; made while new tensors are fake."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from trainables.errors import UserError


def built_on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Return what a function builds with ``meta`` as the default device.

    Raises:
        UserError: If it is no function, or builds no module.
    """
    model: Any = None
    if callable(build):
        with torch.device("meta"):
            model = build()
    if not isinstance(model, nn.Module):
        given = type(model if callable(build) else build).__name__
        raise UserError(f"model: must be a torch.nn.Module or a function that builds one, not {given}")
    return model


def blank_model(model: nn.Module, frozen_matrices: torch.dtype | None = None) -> nn.Module:
    """Return a copy of a model with tensors of the present mode.

    Tensors that are one, or share a storage, do so in the copy.

    Args:
        model: A model on any device. It is only read.
        frozen_matrices: The type in which frozen matrices are stored; None keeps theirs.

    Raises:
        UserError: If the model cannot be copied.
    """
    memo: dict[int, Any] = {}
    storages: dict[int, Tensor] = {}
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise UserError(
            "model: has lazy layers, which get their shapes from data; run it on some once before"
        )
    for module in model.modules():
        for tensor in tree_leaves(vars(module)):
            if isinstance(tensor, Tensor) and id(tensor) not in memo:
                memo[id(tensor)] = _blank(tensor, storages, frozen_matrices)
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # classes refuse to be copied in ways of their own
        raise UserError(
            f"model: cannot be copied ({type(error).__name__}: {error}); give a function that builds it"
        ) from error


def _blank(tensor: Tensor, storages: dict[int, Tensor], frozen_matrices: torch.dtype | None) -> Tensor:
    """Return a tensor without content of the same shape, layout and class.

    Args:
        tensor: A model's tensor.
        storages: The storages so far, as bytes, by the address of the one that they stand for.
        frozen_matrices: See ``blank_model``.
    """
    dtype, trains = tensor.dtype, tensor.requires_grad
    frozen_matrix = isinstance(tensor, nn.Parameter) and not trains and tensor.ndim > 1
    if frozen_matrices and frozen_matrix and dtype.is_floating_point:
        blank = torch.empty_strided(tensor.shape, tensor.stride(), dtype=frozen_matrices)
    else:
        storage = tensor.untyped_storage()
        if storage._cdata not in storages:
            storages[storage._cdata] = torch.empty(storage.nbytes(), dtype=torch.uint8)
        whole = storages[storage._cdata].view(dtype)
        blank = whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    return nn.Parameter(blank, requires_grad=trains) if isinstance(tensor, nn.Parameter) else blank


def blank_batch(value: Any, known: dict[int, Tensor] | None = None) -> Any:
    """Return a batch with tensors of the present mode: dicts for mappings, lists for tuples and lists.

    Args:
        value: A tensor, or tensors in mappings, tuples and lists; other values stay as they are.
        known: The tensors so far, by the address of the one that they stand for.
    """
    known = {} if known is None else known
    if isinstance(value, Tensor):
        if id(value) not in known:
            reach = 1 + sum((n - 1) * step for n, step in zip(value.shape, value.stride(), strict=True))
            dense = reach == value.numel()  # and no part of a larger tensor, which a batch of its own is not
            blank = torch.empty(value.shape, dtype=value.dtype)
            known[id(value)] = blank.as_strided(value.shape, value.stride()) if dense else blank
        return known[id(value)]
    if isinstance(value, Mapping):
        return {name: blank_batch(entry, known) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [blank_batch(entry, known) for entry in value]
    return value
