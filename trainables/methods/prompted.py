"""VPT and P-BERT: deep prompt tuning of one frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.methods.base import FusionOutput, MethodContext, register_method
from trainables.methods.config import MethodConfig, option
from trainables.methods.parts import DeepPrompts
from trainables.methods.space import PROMPT_LENGTHS, DefaultSpace, SpaceContext
from trainables.methods.unimodal import Unimodal
from trainables.towers import ModalityInput


@dataclass(frozen=True)
class PromptedConfig(MethodConfig):
    """Configuration of ``vpt`` and ``p_bert``; the default is from the PMF paper (Sec. 4.2)."""

    n_prompts: int = option(10, "prompts a layer", low=1, other=4)


class Prompted(Unimodal):
    """VPT-deep: every layer i of the frozen encoder has its own prompts P_i.

    x_{i+1} = L_i([x_i; P_i]), where the prompts' outputs are dropped (Jia et al., ECCV 2022).
    outputs = W pool(x) + b. Prompts and classifier train.

    Departures from VPT's released code, both from the PMF paper (Sec. 4.3): prompts are drawn from
    N(0, 0.02), not uniformly, and have no dropout. The prompts' place in the sequence makes no difference to
    an encoder without relative positions, because they are added after the position embedding.

    Raises:
        UserError: If the encoder has no layers.
    """

    config_class = PromptedConfig
    elastic = ("n_prompts",)

    def __init__(self, context: MethodContext, config: Any) -> None:
        super().__init__(context, config)
        self.prompts = DeepPrompts(self.tower(self.modality), config.n_prompts)

    @classmethod
    def refusal(cls, encoders: SpaceContext) -> str | None:
        """Refuse an encoder without layers, too."""
        if refusal := super().refusal(encoders):
            return refusal
        modality = encoders.first(cls.kind)
        if modality is None or encoders.depths[modality]:
            return None
        return f"prompts layers, and the {modality} encoder has none; choose another encoder"

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Score a batch; see ``FusionMethod.forward``."""
        tower = self.tower(self.modality)
        return FusionOutput(self.head(self.prompts(tower, self.untouched(batch)[self.modality])))


@register_method(
    "vpt",
    description="deep prompts in the frozen image encoder, linear classifier on its pooled vector",
    source="Jia et al., ECCV 2022 (VPT); Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace(
        "deep prompts in the image encoder alone: length",
        {"n_prompts": PROMPT_LENGTHS},
        [{"n_prompts": 10, "learning_rate": 2e-3}],
    ),
)
class VPT(Prompted):
    """Visual prompt tuning of the image encoder."""

    kind = "image"


@register_method(
    "p_bert",
    description="deep prompts in the frozen text encoder, linear classifier on its pooled vector",
    source="Li et al., CVPR 2023 (PMF), Sec. 4.2",
    space=DefaultSpace(
        "deep prompts in the text encoder alone: length",
        {"n_prompts": PROMPT_LENGTHS},
        [{"n_prompts": 10, "learning_rate": 2e-3}],
    ),
)
class PBert(Prompted):
    """Deep prompt tuning of the text encoder, "P-BERT" in the PMF paper."""

    kind = "text"
