"""What a prediction or a measurement of a step's memory says."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.memory.storage_log import KINDS, Holdings
from trainables.methods import FusionMethod

#: Bytes by part of the model and kind.
Breakdown = dict[str, dict[str, int]]


@dataclass(frozen=True)
class MemoryReport:
    """The peak of one optimisation step, in bytes, and what is held at that moment.

    Attributes:
        total: The peak.
        weights: Parameters and buffers, frozen ones included.
        gradients: Gradients of trained parameters.
        optimizer: The optimiser's state.
        activations: The batch, and what the forward pass keeps for the backward pass.
        temporary: The rest: intermediate results of the operation at work.
        trainable_parameters: Number of trained scalars.
        checkpoint: Bytes of the trained weights, which is what a checkpoint holds of the model.
    """

    total: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    temporary: int
    trainable_parameters: int
    checkpoint: int

    def to_dict(self) -> dict[str, int]:
        """Return total and parts of the peak, in bytes."""
        return {"total": self.total, **{kind: getattr(self, kind) for kind in KINDS}}


def report_of(method: FusionMethod, held: Holdings) -> MemoryReport:
    """Return the report of a step.

    Args:
        method: The method whose step it was.
        held: What is held at the peak.
    """
    kinds = {kind: sum(size for (of, _), size in held.items() if of == kind) for kind in KINDS}
    return MemoryReport(
        total=sum(kinds.values()),
        trainable_parameters=method.trainable_parameter_count(),
        checkpoint=sum(parameter.nbytes for parameter in method.trainable_parameters()),
        **kinds,
    )
