"""Linear: a linear classifier on the concatenated pooled vectors of frozen encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, register_method
from trainables.methods.config import MethodConfig
from trainables.methods.space import DefaultSpace
from trainables.towers import ModalityInput


@dataclass(frozen=True)
class LinearConfig(MethodConfig):
    """Configuration of ``linear``, which has no options."""


@register_method(
    "linear",
    description="linear classifier on the concatenated pooled vectors of frozen encoders",
    source="Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace("linear classifier on frozen encoders", {}, [{"learning_rate": 3e-4}]),
)
class Linear(FusionMethod):
    """LateConcat with frozen encoders (PMF paper, Sec. 4.2, "Linear").

    outputs = W [pool(text); pool(image); …] + b. Only W and b train.
    """

    config_class: ClassVar[type[MethodConfig]] = LinearConfig
    n_modalities = (1, None)

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        self.head = nn.Linear(sum(self.widths.values()), context.output_size)

    def untouched_layers(self) -> dict[str, int]:
        """Return all layers of every tower."""
        return self.depths

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        return FusionOutput(self.head(torch.cat([self.vector(batch, m) for m in self.towers], dim=-1)))
