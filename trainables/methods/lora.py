"""LoRA: low-rank updates of the weight matrices of frozen encoders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainables.methods.base import MethodContext, register_method
from trainables.methods.config import option
from trainables.methods.inserting import TunedLayers, TunedLayersConfig
from trainables.methods.space import DefaultSpace, SpaceContext, tuned_layers
from trainables.parameters import Choices, Range
from trainables.towers import Tower

#: The matrices that each choice updates, by their names in ``Tower.MATRICES``.
TARGETS = {
    "query+value": ("query", "value", "query_key_value"),
    "attention": ("query", "key", "value", "query_key_value", "output"),
    "all": ("query", "key", "value", "query_key_value", "output", "up", "down"),
}

#: Choices of the option ``targets``, cheapest first.
CHOICES = Choices(tuple(TARGETS))

#: Values of the option ``alpha``: that of the paper (alpha = rank), that of the released layers, and those of
#: the released recipes for RoBERTa, and for DeBERTa and GPT-2.
ALPHAS = Choices((None, 1.0, 16.0, 32.0))

#: Name of the updates within a matrix, which is part of the parameters' names.
NAME = "lora"


@dataclass(frozen=True)
class LoRAConfig(TunedLayersConfig):
    """Configuration of ``lora``; the rank is the Wander paper's for UPMC-Food 101 (16 for other data)."""

    rank: int = option(64, "rank r of the updates", low=1, other=4)
    alpha: float | None = option(
        None, "updates are scaled by alpha / rank; none: alpha = rank, a scale of 1", low=0.01, other=1.0
    )
    targets: str = option(
        "query+value",
        "matrices that are updated: query+value, attention (its output too), all (feed-forward too)",
        choices=CHOICES,
        other="all",
    )


def _first_points(context: SpaceContext) -> list[dict[str, Any]]:
    """Return the Wander paper's ranks in all layers of each encoder, then a cheap point."""
    return [
        {"n_layers": layers, "rank": rank, "alpha": None, "targets": "query+value", "learning_rate": 3e-4}
        for layers, rank in ((context.most_layers, 64), (context.most_layers, 16), (1, 4))
    ]


@register_method(
    "lora",
    description="low-rank updates of the frozen encoders' weight matrices (HF peft)",
    source="Hu et al., ICLR 2022 (LoRA); Wander paper, Sec. 4.2",
    space=DefaultSpace(
        "LoRA: rank r, scale alpha, matrices, tuned top layers",
        {
            "n_layers": tuned_layers,
            "rank": Range(1, 64, log=True),
            "alpha": ALPHAS,
            "targets": CHOICES,
        },
        _first_points,
    ),
)
class LoRA(TunedLayers):
    """Low-rank adaptation (Hu et al., ICLR 2022, Sec. 4.1, Eq. 3) of every encoder, by HF peft.

    The chosen matrices compute h = W x + (alpha / r) B A x. A is drawn from a Kaiming-uniform distribution,
    and B is 0 at first. The model thus starts as ``linear``, and A gets its first gradient in the second
    step. Only A, B and the head train.

    The LoRA paper updates queries and values (Sec. 4.2 and 5). If an encoder has one matrix for query, key
    and value (GPT-2), the whole matrix is updated, keys included. The paper sets alpha = r (Sec. 4.1). The
    default of its released layers, alpha = 1, would divide the updates by r.
    """

    config_class = LoRAConfig
    elastic = ("n_layers", "rank")

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        for modality in self.towers:
            tower = self.tower(modality)
            for index in self.tuned_layers(modality):
                self._inject(tower, tower.layers[index])

    def _inject(self, tower: Tower, layer: nn.Module) -> None:
        # peft takes seconds to import
        from peft import LoraConfig, inject_adapter_in_model

        names = [name for name in TARGETS[self.config.targets] if name in tower.MATRICES]
        paths = [tower.MATRICES[name] for name in names]
        matrices = [layer.get_submodule(path) for path in paths]
        trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        config = LoraConfig(
            r=self.config.rank,
            lora_alpha=self.config.rank if self.config.alpha is None else self.config.alpha,
            # A regular expression must match whole paths; a list would also match the ends of paths
            target_modules="|".join(map(re.escape, paths)),
            fan_in_fan_out=not isinstance(matrices[0], nn.Linear),
        )
        # peft moves new parameters to the matrix's device, unless they are on the meta device. The move fails
        # for the fake tensors that memory is predicted with.
        with torch.device("meta"):
            inject_adapter_in_model(config, layer, adapter_name=NAME)
        for path, matrix in zip(paths, matrices, strict=True):
            updated: Any = layer.get_submodule(path)
            for part in (updated.lora_A[NAME], updated.lora_B[NAME]):
                weight = torch.empty_like(part.weight, device=matrix.get_parameter("weight").device)
                part.weight = nn.Parameter(weight)
            updated.reset_lora_parameters(NAME, init_lora_weights=True)
        for parameter in trained:  # peft has frozen them
            parameter.requires_grad_(True)
