"""Unimodal baselines: a linear classifier on the pooled vector of one fine-tuned encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, register_method
from trainables.methods.config import MethodConfig
from trainables.methods.space import FINE_TUNING, DefaultSpace, SpaceContext
from trainables.towers import ModalityInput


@dataclass(frozen=True)
class FineTunedConfig(MethodConfig):
    """Configuration of ``image_only`` and ``text_only``, which have no options."""


class Unimodal(FusionMethod):
    """A linear classifier on the pooled vector of one modality. Other modalities are not used.

    Where there are several modalities of the kind, the first one is used.

    Attributes:
        modality: The modality whose vector is classified.

    Raises:
        UserError: If there is no modality of the kind.
    """

    #: The kind of the modality whose vector is classified.
    kind: ClassVar[str]

    n_modalities = (1, None)

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        (self.modality,) = self.towers
        self.head = nn.Linear(self.tower(self.modality).width, context.output_size)

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse modalities of other kinds only."""
        if encoders.first(cls.kind) is None:
            kinds = (f"{m} ({encoders.kinds.get(m, m)})" for m in encoders.depths)
            return f"needs a modality of the kind {cls.kind}; there are: {', '.join(kinds)}"
        return None

    @classmethod
    def used_modalities(cls, context: MethodContext, config: Any) -> tuple[str, ...]:
        """Return the one modality."""
        return tuple(m for m, tower in context.towers.items() if cls.kind == tower.KIND)[:1]


class FineTuned(Unimodal):
    """A fine-tuned encoder with outputs = W pool(x) + b (PMF paper, Sec. 4.2). Everything trains."""

    config_class = FineTunedConfig

    @classmethod
    def trained_encoders(cls, context: MethodContext, config: Any) -> frozenset[str]:
        """Return the one modality."""
        return frozenset(cls.used_modalities(context, config))

    def untouched_layers(self) -> dict[str, int]:
        """Return all layers."""
        return self.depths

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        return FusionOutput(self.head(self.vector(batch, self.modality)))


@register_method(
    "image_only",
    description="the image encoder fine-tuned, linear classifier on its pooled vector",
    source="Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace("image encoder alone, fine-tuned", {}, [{"learning_rate": 5e-5}], FINE_TUNING),
)
class ImageOnly(FineTuned):
    """Fine-tuned image encoder, "ViT" in Table 2 of the PMF paper."""

    kind = "image"


@register_method(
    "text_only",
    description="the text encoder fine-tuned, linear classifier on its pooled vector",
    source="Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace("text encoder alone, fine-tuned", {}, [{"learning_rate": 5e-5}], FINE_TUNING),
)
class TextOnly(FineTuned):
    """Fine-tuned text encoder, "BERT" in Table 2 of the PMF paper."""

    kind = "text"
