"""MBT: the modalities exchange information through a few bottleneck tokens in the top layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, register_method
from trainables.methods.config import MethodConfig, option
from trainables.methods.parts import (
    MeanHead,
    check_fused_layers,
    expand,
    fusion_refusal,
    gaussian_prompts,
    listed,
)
from trainables.methods.space import FINE_TUNING, DefaultSpace, SpaceContext
from trainables.parameters import Range
from trainables.towers import ALL, NONE, ModalityInput


@dataclass(frozen=True)
class MBTConfig(MethodConfig):
    """Configuration of ``mbt``; the defaults are the paper's B = 4 and, for 12 layers, L_f = 8."""

    n_fusion_layers: int | None = option(
        None,
        "top layers of every encoder that are fused; none: a third of the shallowest encoder's, 4 of 12",
        low=2,
        other=3,
    )
    n_bottlenecks: int = option(4, "bottleneck tokens", low=1, other=2)


def _first_points(context: SpaceContext) -> list[dict[str, Any]]:
    """Return the paper's point: fusion in the top third of the layers (L_f = 8 of 12), four tokens."""
    layers = max(2, round(context.depth / 3))
    return [{"n_fusion_layers": layers, "n_bottlenecks": 4, "learning_rate": 5e-5}]


@register_method(
    "mbt",
    description="bottleneck tokens carry information between the encoders' top layers, all fine-tuned",
    source="Nagrani et al., NeurIPS 2021 (MBT); Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace(
        "bottleneck tokens: fused layers, number of tokens",
        {
            "n_fusion_layers": lambda name, context: Range(2, context.depth),
            "n_bottlenecks": Range(1, 32, log=True),
        },
        _first_points,
        FINE_TUNING,
    ),
)
class MBT(FusionMethod):
    """Multimodal bottleneck transformer (Nagrani et al., NeurIPS 2021), as in the PMF paper, Sec. 4.2.

    Below L_f = depth - n_fusion_layers the encoders run separately. From L_f on, the layers of all modalities
    run on the same bottleneck tokens b, and their outputs for b are averaged: [x_m'; b_m'] = L_m([x_m; b]),
    b' = mean_m b_m'. The first b is learned and drawn from N(0, 0.02). The outputs of linear classifiers on
    the pooled vectors, in the paper the [CLS] tokens, are averaged. Everything trains. At least two layers
    must be fused, because nothing reads the bottleneck outputs of the last layer.

    Encoders of different depth fuse the same number of top layers. The paper's encoders have one hidden
    size. Here b has the smallest hidden size; layers of other sizes read and write b through learned linear
    maps, one pair per modality and size. Each modality has its own classifier, as in the PMF paper. The
    released MBT code shares one classifier, which needs equal sizes.

    Raises:
        UserError: If ``n_fusion_layers`` exceeds the shallowest encoder's depth, or an encoder is causal.
    """

    config_class = MBTConfig

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        towers = {m: self.tower(m) for m in self.towers}
        shallowest = min(tower.depth for tower in towers.values())
        self.n_fusion_layers = config.n_fusion_layers or max(2, round(shallowest / 3))
        check_fused_layers(self.n_fusion_layers, self.depths, fewest=2)
        fused = {
            m: [tower.layer_width(tower.depth - n) for n in range(self.n_fusion_layers, 0, -1)]
            for m, tower in towers.items()
        }
        width = min(min(widths) for widths in fused.values())
        self.bottlenecks = gaussian_prompts(config.n_bottlenecks, width)
        self.readers = nn.ModuleDict(
            {_key(m, w): nn.Linear(width, w) for m, ws in fused.items() for w in sorted({*ws} - {width})}
        )
        self.writers = nn.ModuleDict(
            {_key(m, w): nn.Linear(w, width) for m, ws in fused.items() for w in sorted({*ws[:-1]} - {width})}
        )
        self.head = MeanHead(self.widths, context.output_size)

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse causal encoders and those with fewer than two layers, too."""
        if refusal := super().refusal(encoders) or fusion_refusal(encoders):
            return refusal
        if encoders.depth < 2:
            return f"fuses at least 2 layers, and an encoder has fewer (layers: {listed(encoders.depths)})"
        return None

    @classmethod
    def trained_encoders(cls, context: MethodContext, config: Any) -> frozenset[str]:
        """Return all modalities."""
        return frozenset(context.towers)

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        towers = {m: self.tower(m) for m in self.towers}
        sequences = {m: t.encode(batch[m], t.depth - self.n_fusion_layers) for m, t in towers.items()}
        shared = expand(self.bottlenecks, next(iter(sequences.values())))
        for n in range(self.n_fusion_layers, 0, -1):
            written = []
            for modality, tower in towers.items():
                index = tower.depth - n
                key = _key(modality, tower.layer_width(index))
                after = tower.layer(
                    index,
                    sequences[modality].prompted(_through(self.readers, key, shared)),
                    tokens=ALL if n > 1 else tower.pooled_positions,
                    prompts=ALL if n > 1 else NONE,
                )
                if after.prompts is not None:
                    written.append(_through(self.writers, key, after.prompts))
                sequences[modality] = replace(after, prompts=None)
            if written:
                shared = torch.stack(written).mean(dim=0)
        return FusionOutput(self.head({m: towers[m].pooled(s) for m, s in sequences.items()}))


def _key(modality: str, width: int) -> str:
    """Return the name of the maps between the bottleneck tokens and a modality's layers of one width."""
    return f"{modality}_{width}"


def _through(maps: nn.ModuleDict, key: str, tokens: Tensor) -> Tensor:
    """Apply the map of that name, if there is one."""
    return maps[key](tokens) if key in maps else tokens
