"""What the heads of all methods have in common: each maps vectors linearly to the outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.methods.base import FusionMethod
from trainables.methods.parts import MeanHead
from trainables.methods.queried import Queried


@contextmanager
def head_inputs(method: FusionMethod) -> Iterator[list[Tensor]]:
    """Collect what a method hands to its head while the context is open.

    Yields:
        A list that gets the vectors (B, F) of each batch, in float32 and in main memory. The vectors of a
        ``MeanHead`` are joined in the order of its modalities.
    """
    head = linear_head(method)
    found: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor | Mapping[str, Tensor]]) -> None:
        vectors = given[0]
        if isinstance(head, MeanHead):
            assert isinstance(vectors, Mapping)
            vectors = torch.cat([vectors[modality].float() for modality in head.heads], dim=-1)
        assert isinstance(vectors, Tensor)
        found.append(vectors.detach().float().cpu())

    hook = head.register_forward_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()


@contextmanager
def query_inputs(method: FusionMethod) -> Iterator[list[Tensor]]:
    """Collect the pooled vectors of a method's query while the context is open; none if it has no query.

    Yields:
        A list that gets the vectors (B, Q) of each batch, in float32 and in main memory.
    """
    found: list[Tensor] = []
    if not isinstance(method, Queried):
        yield found
        return

    def note(_: nn.Module, given: tuple[Tensor]) -> None:
        found.append(given[0].detach().float().cpu())

    hook = method.projection.register_forward_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def head_features(method: FusionMethod) -> int:
    """Return the number F of features that ``head_inputs`` collects; 0 if the head is not linear."""
    head = _headed(method).head
    layers = head.heads.values() if isinstance(head, MeanHead) else (head,)
    return sum(layer.in_features for layer in layers if isinstance(layer, nn.Linear))


def query_features(method: FusionMethod) -> int:
    """Return the number Q of features that ``query_inputs`` collects; 0 without a query."""
    return method.projection.in_features if isinstance(method, Queried) else 0


@torch.no_grad()
def set_head(method: FusionMethod, weight: Tensor, bias: Tensor) -> None:
    """Let a method's head compute ``inputs @ weight.T + bias``, with the inputs of ``head_inputs``.

    Args:
        method: The method.
        weight: Shape (D, F).
        bias: Shape (D,).
    """
    head = linear_head(method)
    if isinstance(head, nn.Linear):
        head.weight.copy_(weight)
        head.bias.copy_(bias)
        return
    layers = [layer for layer in head.heads.values() if isinstance(layer, nn.Linear)]
    parts = weight.split([layer.in_features for layer in layers], dim=1)
    for layer, part in zip(layers, parts, strict=True):
        layer.weight.copy_(part * len(layers))  # the outputs of the layers are averaged
        layer.bias.copy_(bias)


def linear_head(method: FusionMethod) -> nn.Linear | MeanHead:
    """Return a method's head; that of the documents if there is a query.

    Raises:
        UserError: If it is not linear, so that no linear model can be its start.
    """
    method = _headed(method)
    head = method.head
    if not isinstance(head, nn.Linear | MeanHead):
        raise UserError(
            f"--head-start probe: the head of {type(method).__name__} is a {type(head).__name__}, not an "
            "nn.Linear or MeanHead; use --head-start random"
        )
    return head


def _headed(method: FusionMethod) -> FusionMethod:
    """Return the method whose head is meant: that of the documents if there is a query."""
    return method.document if isinstance(method, Queried) else method
