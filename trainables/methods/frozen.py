"""Frozen: an image encoder trained to produce input tokens for a frozen text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from trainables.methods.base import FusionOutput, MethodContext, register_method
from trainables.methods.conditional import SequentialPipeline
from trainables.methods.config import MethodConfig, option
from trainables.methods.space import FINE_TUNING, DefaultSpace, main_modality, modalities
from trainables.parameters import Range
from trainables.towers import ModalityInput


@dataclass(frozen=True)
class FrozenConfig(MethodConfig):
    """Configuration of ``frozen``; two tokens are the paper's value."""

    main: str | None = option(
        None,
        "modality whose encoder stays frozen, the other's trains; none: the first text, or else the "
        "first modality",
        other="image",
    )
    n_tokens: int = option(2, "tokens that the trained encoder's vector becomes", low=1, other=1)


@register_method(
    "frozen",
    description="a trained image encoder's vector as two tokens at the input of the frozen text encoder",
    source="Tsimpoukelli et al., NeurIPS 2021 (Frozen), Sec. 3",
    space=DefaultSpace(
        "frozen main encoder, the other trains and becomes a few tokens: direction, number of tokens",
        {"main": modalities, "n_tokens": Range(1, 8)},
        lambda context: [{"main": main_modality(context, "text"), "n_tokens": 2, "learning_rate": 5e-5}],
        FINE_TUNING,
    ),
)
class Frozen(SequentialPipeline):
    """Frozen (Tsimpoukelli et al., NeurIPS 2021, Sec. 3) for classification.

    The trained (image) encoder gives v = pool(E_y(y)). reshape(W v + b) are n = 2 tokens of the frozen (text)
    encoder's hidden size. They join the words at its input and pass through all of its layers.
    outputs = U pool(x) + c. E_y, W, b, U and c train. The gradient passes through the whole frozen encoder.

    Departures: the paper's language model generates an answer. Here the frozen encoder's pooled vector is
    classified, as in the comparison of the MoPE paper (Sec. 4.3). The tokens get no position embedding, as
    the place of tokens without positions makes no difference without causal attention. If the frozen encoder
    merges its tokens between stages (Swin), the added tokens are merged like prompts.
    """

    config_class = FrozenConfig
    preferred = "text"

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        tower = self.tower(self.main)
        self.width = tower.layer_width(0)
        self.projection = nn.Linear(self.tower(self.complementary).width, config.n_tokens * self.width)

    @classmethod
    def trained_encoders(cls, context: MethodContext, config: Any) -> frozenset[str]:
        """Return the complementary modality."""
        return frozenset({cls.direction(context, config)[1]})

    def untouched_layers(self) -> dict[str, int]:
        """Return all layers of the complementary encoder; the tokens enter the main one at its input."""
        return {self.main: 0, self.complementary: self.tower(self.complementary).depth}

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        tower = self.tower(self.main)
        vector = self.vector(batch, self.complementary)
        tokens = self.projection(vector).unflatten(1, (self.config.n_tokens, self.width))
        with self.gradient(self.main):
            sequence = tower.encode(batch[self.main], 0)
        return FusionOutput(self.head(tower.pooled(sequence.prompted(tokens))))
