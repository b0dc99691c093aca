"""P-tuning v2: learned keys and values before those of the tokens in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.methods.base import FusionOutput, MethodContext, register_method
from trainables.methods.config import option
from trainables.methods.inserting import TunedLayers, TunedLayersConfig
from trainables.methods.parts import PROMPT_STD
from trainables.methods.space import DefaultSpace, tuned_layers
from trainables.parameters import Range
from trainables.towers import ALL, NONE, ModalityInput, Sequence, Tower


@dataclass(frozen=True)
class PTuningConfig(TunedLayersConfig):
    """Configuration of ``p_tuning``. Classification needs fewer than 20 prefix tokens (P-tuning v2, 3.2)."""

    length: int = option(20, "keys and values a layer", low=1, other=4)
    dropout: float = option(0.1, "dropout of the learned keys and values", low=0, high=1, other=0.5)


class DeepPrefixTokens(nn.Module):
    """Learned keys and values for a tower's top layers.

    Args:
        tower: The tower.
        layers: Indices of the layers that get learned keys and values.
        length: Number of keys, and of values, per layer.
        dropout: Probability of dropping an entry of a key or value.
    """

    def __init__(self, tower: Tower, layers: range, length: int, dropout: float) -> None:
        super().__init__()
        self.layers = layers
        self.pairs = nn.ParameterList(
            nn.Parameter(torch.randn(2, length, tower.layer_width(index)) * PROMPT_STD) for index in layers
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tower: Tower, sequence: Sequence) -> Tensor:
        """Run the tower's top layers and pool, shape (B, D).

        Args:
            tower: The tower.
            sequence: Tokens before the first layer with learned keys and values.
        """
        size = sequence.tokens.shape[0]
        for index, pair in zip(self.layers, self.pairs, strict=True):
            keys, values = self.dropout(pair[:, None].expand(-1, size, -1, -1))
            kept = tower.pooled_positions if index == tower.depth - 1 else ALL
            sequence = tower.layer(index, sequence, tokens=kept, prompts=NONE, prefix_tokens=(keys, values))
        return tower.pooled(sequence)


@register_method(
    "p_tuning",
    description="learned keys and values in front of those of every layer of frozen encoders",
    source="Liu et al., ACL 2022 (P-tuning v2); Wander paper, Sec. 4.2",
    space=DefaultSpace(
        "learned keys and values: length, tuned top layers",
        {"n_layers": tuned_layers, "length": Range(1, 64, log=True)},
        lambda context: [
            {"n_layers": layers, "length": 20, "learning_rate": 5e-3} for layers in (context.most_layers, 1)
        ],
    ),
)
class PTuning(TunedLayers):
    """P-tuning v2 (Liu et al., ACL 2022, Sec. 3.2) of every encoder.

    In layer i, tokens attend to the keys [K_i; W_k x + b_k] and values [V_i; W_v x + b_v]. K_i, V_i and the
    head train. K_i and V_i are drawn from N(0, 0.02) and learned directly. The paper also maps them through
    an MLP, which it finds useful for some tasks only and its released code turns off; this is not offered.

    Prefix tuning of HF peft is not used: it passes the prefix tokens as ``past_key_values``, which image and
    speech encoders do not accept.
    """

    config_class = PTuningConfig
    elastic = ("n_layers", "length")
    stacked = ("prefixes.*.pairs",)

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        self.prefixes = nn.ModuleDict(
            {
                m: DeepPrefixTokens(self.tower(m), self.tuned_layers(m), config.length, config.dropout)
                for m in self.towers
            }
        )

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        vectors = [self.prefixes[m](self.tower(m), sequence) for m, sequence in self.untouched(batch).items()]
        return FusionOutput(self.head(torch.cat(vectors, dim=-1)))
