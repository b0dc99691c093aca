"""The report of a step's memory, predicted or measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from trainables.memory.storage_log import KINDS, Holdings
from trainables.methods import FusionMethod
from trainables.methods.heads import head_features, query_features

#: Bytes by part of the model and kind.
Breakdown = dict[str, dict[str, int]]


@dataclass(frozen=True)
class MemoryReport:
    """The memory of one optimization step on its target, in bytes.

    Attributes:
        total: The peak of the bytes held by tensors, which is the sum of the five kinds below at that moment.
        weights: Parameters and buffers, frozen ones included.
        gradients: Gradients of trained parameters.
        optimizer: The optimizer's state.
        activations: The batch and the tensors that the forward pass keeps for the backward pass.
        temporary: All other tensors: intermediate results of the current operation.
        trainable_parameters: Number of trained scalars.
        checkpoint: Bytes of the trained weights, the only weights that a checkpoint holds.
        reserved: Bytes that a GPU's allocator holds for these tensors after a few steps; None if the report
            is for a CPU.
        context: Bytes of the CUDA context that a process takes beside them.
        inference: Bytes that a forward pass of as many samples takes without gradient: the peak of tensors,
            or what a GPU's allocator holds for them. None if it was not predicted.
        head_features: Number of features that a method's head maps to outputs; 0 if the head is not linear.
        query_features: Number of features that the projection of a query's vectors gets; 0 without a query.
    """

    total: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    temporary: int
    trainable_parameters: int
    checkpoint: int
    reserved: int | None = None
    context: int = 0
    inference: int | None = None
    head_features: int = 0
    query_features: int = 0

    @property
    def memory(self) -> int:
        """What must be free on the target: on a GPU ``reserved`` and ``context``, on a CPU ``total``."""
        return self.total if self.reserved is None else self.reserved + self.context

    @property
    def inference_memory(self) -> int | None:
        """What must be free on the target for ``inference``; None if it was not predicted."""
        return None if self.inference is None else self.inference + self.context

    @property
    def target(self) -> str:
        """Kind of device that the report is for: ``cuda`` or ``cpu``."""
        return "cpu" if self.reserved is None else "cuda"

    def with_gradients(self, size: int) -> MemoryReport:
        """Return the report of a step that holds further gradients of this size all the time."""
        reserved = None if self.reserved is None else self.reserved + size
        return replace(self, total=self.total + size, gradients=self.gradients + size, reserved=reserved)

    def sizes(self) -> dict[str, int]:
        """Return the parts of the memory with their sums, in bytes.

        The five kinds of tensors make up ``total``. On a GPU, with ``fragmentation``, which the allocator
        holds and no tensor uses at the peak, they make up ``reserved``, and with the ``context`` the
        ``memory``.
        """
        sizes = {kind: getattr(self, kind) for kind in KINDS}
        sizes["total"] = self.total
        if self.reserved is not None:
            sizes["fragmentation"] = self.reserved - self.total
            sizes |= {"reserved": self.reserved, "context": self.context}
        return {**sizes, "memory": self.memory}

    def to_dict(self) -> dict[str, Any]:
        """Return the target and ``sizes``."""
        return {"target": self.target, **self.sizes()}


def report_of(
    model: nn.Module, held: Holdings, reserved: int | None = None, context: int = 0
) -> MemoryReport:
    """Return the report of a model's step.

    Args:
        model: The model.
        held: Bytes held at the peak of the step.
        reserved: See ``MemoryReport``.
        context: See ``MemoryReport``.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    method = model if isinstance(model, FusionMethod) else None
    kinds = {kind: sum(size for (of, _), size in held.items() if of == kind) for kind in KINDS}
    return MemoryReport(
        total=sum(kinds.values()),
        trainable_parameters=sum(parameter.numel() for parameter in trained),
        checkpoint=sum(parameter.nbytes for parameter in trained),
        reserved=reserved,
        context=context,
        head_features=head_features(method) if method else 0,
        query_features=query_features(method) if method else 0,
        **kinds,
    )
