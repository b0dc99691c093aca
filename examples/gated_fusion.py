"""A plugin with a fusion method: gated multimodal units on frozen encoders (Arevalo et al., 2017, Eq. 1-5).

Every encoder's pooled vector x_m becomes h_m = tanh(W_m x_m). The gates z = softmax(W_z [x_1; …; x_M]) are
the weights of the modalities in each unit, and 0 for a modality that is missing. The outputs are
W (sum_m z_m * h_m) + b.

    python search.py --plugin examples/gated_fusion.py --space gated_fusion
    python search.py predict --plugin examples/gated_fusion.py --method gated_fusion --set width=128
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainables.methods import (
    DefaultSpace,
    FusionMethod,
    FusionOutput,
    MethodConfig,
    MethodContext,
    option,
    register_method,
)
from trainables.parameters import Range
from trainables.towers import ModalityInput

WIDTHS = Range(16, 512, log=True)  # the accepted values, which a search tries


@dataclass(frozen=True)
class GatedFusionConfig(MethodConfig):
    width: int = option(64, "units of the fused vector", other=16, range=WIDTHS)


@register_method(
    "gated_fusion",
    description="gated multimodal units on frozen encoders",
    source="Arevalo et al., ICLR workshop 2017, Eq. 1-5",
    space=DefaultSpace(
        "gated multimodal units: their number",
        parameters={"width": WIDTHS},
        first_points=[{"width": 64, "learning_rate": 2e-3}],
    ),
)
class GatedFusion(FusionMethod):
    config_class = GatedFusionConfig
    uses_presence = True

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        together = sum(self.widths.values())
        self.units = nn.ModuleDict({m: nn.Linear(d, config.width) for m, d in self.widths.items()})
        self.gate = nn.Linear(together, len(self.widths) * config.width)
        self.head = nn.Linear(config.width, context.output_size)

    def untouched_layers(self) -> dict[str, int]:
        # No layer is touched, so the search may cache the outputs of encoders that are frozen.
        return {m: self.tower(m).depth for m in self.modalities}

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        vectors = {m: self.vector(batch, m) for m in self.modalities}
        units = torch.stack([torch.tanh(self.units[m](x)) for m, x in vectors.items()], dim=1)
        present = self.present(batch)
        gates = self.gate(torch.cat(list(vectors.values()), dim=-1)).view_as(units)
        # What is missing has no weight; it has the same as all others if everything is missing
        absent = ~torch.stack([present[m] for m in self.modalities], dim=1)
        gates = gates.masked_fill(absent[..., None], torch.finfo(gates.dtype).min).softmax(dim=1)
        return FusionOutput(self.head((gates * units).sum(dim=1)))
