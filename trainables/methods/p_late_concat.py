"""P-LateConcat: frozen encoders with deep prompts and a classifier on their concatenated pooled vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, register_method
from trainables.methods.config import MethodConfig, option
from trainables.methods.parts import DeepPrompts
from trainables.methods.space import PROMPT_LENGTHS, DefaultSpace
from trainables.towers import ModalityInput


@dataclass(frozen=True)
class PLateConcatConfig(MethodConfig):
    """Configuration of ``p_late_concat``; the default is the paper's value."""

    n_prompts: int = option(10, "prompts a layer and encoder", low=1, other=4)


@register_method(
    "p_late_concat",
    description="deep prompts in all frozen encoders, linear classifier on the concatenated pooled vectors",
    source="Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace(
        "deep prompts in every encoder: length",
        {"n_prompts": PROMPT_LENGTHS},
        [{"n_prompts": 10, "learning_rate": 2e-3}],
    ),
)
class PLateConcat(FusionMethod):
    """Prompt-based late concatenation (PMF paper, Sec. 4.2, "P-LateConcat").

    outputs = W [pool(text); pool(image); …] + b. Every layer i of every encoder has its own prompts, whose
    outputs are dropped: x_{i+1} = L_i([x_i; P_i]). Prompts and classifier train.
    """

    config_class = PLateConcatConfig
    n_modalities = (1, None)
    elastic = ("n_prompts",)

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        self.prompts = nn.ModuleDict({m: DeepPrompts(self.tower(m), config.n_prompts) for m in self.towers})
        self.head = nn.Linear(sum(self.widths.values()), context.output_size)

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        vectors = []
        for modality, sequence in self.untouched(batch).items():
            tower = self.tower(modality)
            vectors.append(self.prompts[modality](tower, sequence))
        return FusionOutput(self.head(torch.cat(vectors, dim=-1)))
